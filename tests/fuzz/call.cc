#include "fuzz/call.h"

#include <cstdio>

namespace bn2d_fuzz {

std::string text_of(const Extents &shape) {
  std::string text = " (";
  for (size_t i = 0; i < 4; ++i) text += (i > 0 ? "," : "") + std::to_string(shape[i]);
  return text + ")";
}

std::string text_of(const Extents &shape, int32_t data, int32_t parameters) {
  return " " + numerics::name_of(data, parameters) + text_of(shape);
}

std::string text_of(double number) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", number);
  return text;
}

std::string text_of(const std::vector<const Operand *> &operands) {
  std::string text;
  for (const Operand *operand : operands) text += operand->text();
  return text;
}

std::string facet(const std::string &operation, const Numbers &numbers) {
  const char *const norm = numbers.norm == BN2D_NORM_GROUP      ? "group"
                           : numbers.norm == BN2D_NORM_INSTANCE ? "instance"
                           : numbers.ghost != 0                 ? "ghost"
                           : numbers.count != 0                 ? "given"
                                                                : "batch";
  return operation + " " + (numbers.batch ? norm : "frozen");
}

void Machine::RecordCall::with_module(size_t module) {
  index = module;
  m = machine.modules_[index].get();
  const TensorModel *const weight = m->find("weight"), *const bias = m->find("bias");
  weight_wants = weight != nullptr && weight->requires_grad;
  bias_wants = bias != nullptr && bias->requires_grad;
}

void Machine::RecordCall::spoil_handles() {
  module_handle = machine.spoil(m->handle, verdict);
  record_handle = machine.spoil(r.handle, verdict);
  old_dweight = m->values("weight.grad"), old_dbias = m->values("bias.grad");
}

void Machine::RecordCall::judge_overlap_with_record(const Operand &output, bool reads_x) {
  if (reads_x) place.judge_overlap(output, r.x, false, verdict);
  if (r.borrows_y) place.judge_overlap(output, r.y, false, verdict);
  place.judge_overlap(output, r.z, false, verdict);
}

std::vector<std::string> Machine::RecordCall::gradients() const {
  std::vector<std::string> names;
  if (weight_wants) names.push_back("weight.grad");
  if (bias_wants) names.push_back("bias.grad");
  return names;
}

}  // namespace bn2d_fuzz
