// Backward with a module.
#include "fuzz/call.h"

namespace bn2d_fuzz {

struct Machine::Backward : Machine::RecordCall {
  using RecordCall::RecordCall;
  void run();

 private:
  bool typed = false;  // by a function of one dtype
  bool reads_x = false, known = false;
  Operand dx, dz = not_given("dz");

  bool flat() const { return plain && !typed; }
  void draw_module();
  bool draw_form();
  void draw_tensors();
  void expect();
  std::string text() const;
  int32_t call() const;
  void judge();
};

void Machine::backward() {
  const int picked = pick_record();
  if (picked < 0) return forward();
  Backward(*this, records_[static_cast<size_t>(picked)]).run();
}

void Machine::Backward::run() {
  draw_module();
  if (!draw_form()) return;
  draw_tensors();
  expect();
  spoil_handles();
  what = text();
  machine.before(what);
  if (verdict.must.empty()) dys = place.values(dy);
  if (!machine.settle(what, call(), verdict)) return;
  machine.check_only(what, {&dx, &dz}, static_cast<int>(index), gradients());
  if (known && !dys.empty()) judge();
  machine.repeat(what, {&dx, &dz}, [&] { return call(); });
}

// Sometimes another module, of another shape or dtype, too.
void Machine::Backward::draw_module() {
  size_t module = r.module;
  if (in.one_in(32)) module = machine.pick_module();
  if (!machine.modules_[module]->alive()) module = machine.pick_module();
  with_module(module);
  if (module == r.module) return;
  for (const int32_t status : {BN2D_ERROR_STATE, BN2D_ERROR_SHAPE, BN2D_ERROR_DTYPE})
    verdict.must.add(status);
}

// False where the tensors would not fit.
bool Machine::Backward::draw_form() {
  plain = in.one_in(3);
  typed = plain && (data == BN2D_F32 || data == BN2D_F64) && in.coin();
  nhwc = flat() && in.coin();
  if (plain || !in.one_in(60)) return true;
  shape[3] += 1;
  verdict.must.add(BN2D_ERROR_SHAPE);
  return bn2d_test::count_of(shape) * 8 <= static_cast<int64_t>(machine.memory_.bank_bytes());
}

void Machine::Backward::draw_tensors() {
  dy = tensor("dy", 3, false, false, nullptr);
  dx = tensor("dx", 4, true, true, &dy);
  if (!typed) dz = tensor("dz", 5, true, true, &dy);
  place.fill(dy, shape, in.one_in(4));
}

void Machine::Backward::expect() {
  place.judge({&dy, &dx, &dz}, verdict);
  reads_x = weight_wants || (n.batch && dx.given) || r.side_of_x || r.pointwise;
  for (const Operand *output : {&dx, &dz}) {
    place.judge_overlap(*output, dy, true, verdict);
    judge_overlap_with_record(*output, reads_x);
  }
  verdict.fails_if(r.in_place && weight_wants, BN2D_ERROR_STATE);
  known = (!reads_x || r.in_place || fresh_x()) && fresh_y() && fresh_z();
}

std::string Machine::Backward::text() const {
  const std::string form = flat() ? "_flat" : !typed ? "" : data == BN2D_F32 ? "_f32" : "_f64";
  return "backward" + form + text_of(shape, data, m->options.dtype) + text_of({&dy, &dx, &dz}) +
         (weight_wants ? " dweight" : "") + (bias_wants ? " dbias" : "") + m->text() +
         (n.batch ? " batch" : " frozen") + (n.count != 0 ? " given" : "") + " act " +
         std::to_string(n.activation.kind);
}

int32_t Machine::Backward::call() const {
  if (flat())
    return bn2d_backward_flat(module_handle, record_handle, data, layout(), dy.data, dx.data,
                              dz.data);
  if (typed && data == BN2D_F32)
    return bn2d_backward_f32(module_handle, record_handle, static_cast<float *>(dy.data),
                             static_cast<float *>(dx.data));
  if (typed)
    return bn2d_backward_f64(module_handle, record_handle, static_cast<double *>(dy.data),
                             static_cast<double *>(dx.data));
  return bn2d_backward(module_handle, record_handle, dy.pointer(), dx.pointer(), dz.pointer());
}

void Machine::Backward::judge() {
  const Values got_dx = place.values(dx), got_dz = place.values(dz);
  BackwardResults results;
  results.dx = given_values(dx, got_dx), results.dz = given_values(dz, got_dz);
  take_gradients(results);
  const std::string problem = judge_backward(n, dys, results);
  if (!problem.empty()) machine.found(what, problem);
  reach(facet("backward", n));
  reach_blocks("backward", {&dy, &dx, &dz});
  reach("backward act " + std::to_string(n.activation.kind));
}

}  // namespace bn2d_fuzz
