// Backward in two steps: the sums of a part, and the gradients by the sums of all parts.
#include "fuzz/call.h"

namespace bn2d_fuzz {

// What both steps have in common.
struct Machine::SumsCall : Machine::RecordCall {
  using RecordCall::RecordCall;
  Operand sums;
  int64_t length = 0;  // of the sums, as the functions are told

  void draw();
  std::string text(const std::string &step) const;
  bool fresh() const { return fresh_x() && fresh_y() && fresh_z(); }
  const char *facet_of_sums() const { return n.count != 0 ? "sums given" : "sums batch"; }
};

struct Machine::BackwardSums : Machine::SumsCall {
  explicit BackwardSums(const SumsCall &common) : SumsCall(common) {}
  bool run();  // true where there are sums

 private:
  bool known = false;

  void expect();
  int32_t call() const;
  void judge();
};

struct Machine::BackwardWithSums : Machine::SumsCall {
  explicit BackwardWithSums(const SumsCall &common) : SumsCall(common) {}
  void run();

 private:
  Operand dx, dz;
  bool only_checks = false, reads_x = false, known = false;
  BackwardResults results;

  void add_other_parts();
  void draw_outputs();
  void expect();
  void read_operands();
  int32_t call() const;
  void judge();
};

void Machine::backward_in_steps() {
  const int picked = pick_record();
  if (picked < 0) return forward(true);
  const RecordModel &record = records_[static_cast<size_t>(picked)];
  if (!modules_[record.module]->alive()) return;
  SumsCall common(*this, record);
  common.draw();
  if (in_.one_in(6))
    place_.fill(common.sums, {1, 2 * common.shape[1], 1, 1}, in_.one_in(4));
  else if (!BackwardSums(common).run())
    return;
  BackwardWithSums(common).run();
}

void Machine::SumsCall::draw() {
  with_module(r.module);
  verdict.fails_if(!n.batch || m->norm != BN2D_NORM_BATCH || m->options.ghost != 0,
                   BN2D_ERROR_STATE);
  plain = in.one_in(3);
  nhwc = plain && in.coin();
  dy = tensor("dy", 3, false, false, nullptr);
  sums = place.array("sums", 6, BN2D_F64, 2 * m->channels, true, true, &dy);
  length = machine.choose_length(2 * m->channels, verdict, 40);
  place.fill(dy, shape, in.one_in(4));
}

std::string Machine::SumsCall::text(const std::string &step) const {
  return step + (plain ? "_flat" : "") + " " + numerics::name_of(data, n.parameters) + m->text() +
         dy.text() + " act " + std::to_string(n.activation.kind) + (n.batch ? "" : " frozen") +
         (n.count != 0 ? " given" : "");
}

// -------------------------------------------------------------------------------------------------
// the first step

bool Machine::BackwardSums::run() {
  if (in.one_in(80)) sums.given = false;
  expect();
  spoil_handles();
  known = fresh();
  what = text("backward_sums");
  machine.before(what);
  if (verdict.must.empty()) dys = place.values(dy);
  if (!machine.settle(what, call(), verdict)) return false;
  machine.check_only(what, {&sums}, static_cast<int>(index), gradients());
  if (known && !dys.empty()) judge();
  machine.repeat(what, {&sums}, [&] { return call(); });
  return true;
}

void Machine::BackwardSums::expect() {
  verdict.fails_if(!sums.given);
  verdict.fails_if(r.in_place, BN2D_ERROR_STATE);
  Operand x = r.x, y = r.y, z = r.z;
  x.written = y.written = z.written = false;
  std::vector<const Operand *> all = {&dy, &sums, &x};
  if (r.borrows_y) all.push_back(&y);
  if (z.given) all.push_back(&z);
  place.judge({&dy, &sums}, verdict);
  place.judge_arrays(all, empty(), verdict);
}

int32_t Machine::BackwardSums::call() const {
  return plain ? bn2d_backward_sums_flat(module_handle, record_handle, data, layout(), dy.data,
                                         sums.as<double>(), length)
               : bn2d_backward_sums(module_handle, record_handle, dy.pointer(), sums.as<double>(),
                                    length);
}

void Machine::BackwardSums::judge() {
  BackwardResults results;
  take_gradients(results);
  std::string problem = judge_backward(n, dys, results);
  if (problem.empty()) problem = judge_sums(n, dys, place.values(sums));
  if (!problem.empty()) machine.found(what, problem);
  reach(facet_of_sums());
  reach_blocks("sums", {&dy});
}

// -------------------------------------------------------------------------------------------------
// the second step

void Machine::BackwardWithSums::run() {
  sums.written = false;
  if (sums.whole() && in.coin()) add_other_parts();
  draw_outputs();
  expect();
  spoil_handles();
  known = fresh() || (!reads_x && !r.borrows_y);
  what = text("backward_with_sums") + dx.text() + dz.text() + (only_checks ? " only checking" : "");
  machine.before(what);
  if (verdict.must.empty() && !only_checks) read_operands();
  if (!machine.settle(what, call(), verdict)) return;
  if (only_checks) return machine.check_only(what, {}, -1, {});
  machine.check_only(what, {&dx, &dz}, -1, {});
  if (known && !dys.empty()) judge();
  machine.repeat(what, {&dx, &dz}, [&] { return call(); });
}

void Machine::BackwardWithSums::add_other_parts() {
  numerics::Random random(in.seed() + 1);
  for (const uint32_t offset : sums.footprint.offsets) {
    double sum = 0;
    std::memcpy(&sum, machine.memory_.at(offset), sizeof sum);
    sum += random.normal();
    std::memcpy(machine.memory_.at(offset), &sum, sizeof sum);
  }
}

void Machine::BackwardWithSums::draw_outputs() {
  dx = tensor("dx", 4, true, true, &dy);
  dz = tensor("dz", 5, true, true, &dy);
  only_checks = in.one_in(12);
  if (only_checks) sums.given = false, sums.faults = {};
}

void Machine::BackwardWithSums::expect() {
  place.judge({&dy, &dx, &dz, &sums}, verdict);
  place.judge_arrays({&dy, &dx, &dz, &sums}, empty(), verdict);
  reads_x = dx.given || r.side_of_x || r.pointwise;
  for (const Operand *output : {&dx, &dz}) {
    place.judge_overlap(*output, dy, true, verdict);
    judge_overlap_with_record(*output, reads_x);
    // A check of both steps knows that the first one reads x for the weight.
    Verdict of_first;
    if (only_checks && weight_wants) place.judge_overlap(*output, r.x, false, of_first);
    verdict.may.add(of_first.must);
  }
}

void Machine::BackwardWithSums::read_operands() {
  dys = place.values(dy);
  const Values all = place.values(sums);
  const auto half = all.begin() + m->channels;
  results.g.assign(all.begin(), half), results.g_deviation.assign(half, all.end());
}

int32_t Machine::BackwardWithSums::call() const {
  return plain ? bn2d_backward_with_sums_flat(module_handle, record_handle, data, layout(), dy.data,
                                              sums.as<double>(), length, dx.data, dz.data)
               : bn2d_backward_with_sums(module_handle, record_handle, dy.pointer(),
                                         sums.as<double>(), length, dx.pointer(), dz.pointer());
}

void Machine::BackwardWithSums::judge() {
  const Values got_dx = place.values(dx), got_dz = place.values(dz);
  results.dx = given_values(dx, got_dx), results.dz = given_values(dz, got_dz);
  const std::string problem = judge_backward(n, dys, results);
  if (!problem.empty()) machine.found(what, problem);
  reach(std::string("with ") + facet_of_sums());
  reach_blocks("with sums", {&dy, &dx, &dz});
}

}  // namespace bn2d_fuzz
