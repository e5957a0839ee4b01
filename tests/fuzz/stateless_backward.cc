// Backward without a module.
#include "fuzz/stateless.h"

namespace bn2d_fuzz {

struct Machine::StatelessBackward : Machine::StatelessCall {
  using StatelessCall::StatelessCall;
  void run();

 private:
  bool reads_x = false, is_known = false;
  BackwardResults results;

  std::vector<const Operand *> all() const;
  bool draw_outputs();
  void draw_inputs();
  void fill();
  void expect();
  std::string operation() const;
  int32_t call() const;
  int32_t call_act() const;
  int32_t call_flat() const;
  void judge();
};

void Machine::stateless_backward(const Stateless &s) { StatelessBackward(*this, s).run(); }

void Machine::StatelessBackward::run() {
  if (!draw_outputs()) return;
  draw_inputs();
  fill();
  expect();
  is_known = known(reads_x);
  what = text(operation(), all());
  machine.before(what);
  results.blend = blend;
  if (verdict.must.empty()) {
    dys = place.values(dy);
    results.old_dweight = place.values(dweight), results.old_dbias = place.values(dbias);
  }
  if (!machine.settle(what, call(), verdict)) return;
  machine.check_only(what, {&dx, &dz, &dweight, &dbias}, -1, {});
  if (is_known && !dys.empty()) judge();
  machine.repeat(what, {&dx, &dz, &dweight, &dbias}, [&] { return call(); });
}

// False where nothing tells that the shape of dy is not the one meant.
bool Machine::StatelessBackward::draw_outputs() {
  dy = tensor("dy", 5, false, false, nullptr);
  dx = tensor("dx", 6, true, true, &dy);
  dz = tensor("dz", 7, true, true, &dy);
  if (!dy.faults.empty() && !dx.given && !dz.given) return false;
  dweight = array("dweight", 1, true);
  dbias = array("dbias", 0, true);
  draw_blend();
  return true;
}

void Machine::StatelessBackward::draw_inputs() {
  reads_x = dweight.given || (n.batch && dx.given) || pointwise;
  of_argument = pointwise && !plain && !in.one_in(4);
  x.given = reads_x || in.coin();
  if (in.one_in(40) || (plain && x.data == nullptr)) x.given = false;
  y.given = active && !mask.given && !in.one_in(40) && !(plain && y.data == nullptr);
  if (of_argument) y.given = false;
}

void Machine::StatelessBackward::fill() {
  const bool hostile = in.one_in(4);
  place.fill(dy, shape, hostile);
  place.fill(dweight, row(), hostile && in.coin());
  place.fill(dbias, row(), hostile && in.coin());
}

std::vector<const Operand *> Machine::StatelessBackward::all() const {
  std::vector<const Operand *> operands = {&x,      &dy, &y,  &mask,    &weight, &mean,
                                           &invstd, &dx, &dz, &dweight, &dbias};
  if (of_argument) operands.insert(operands.end(), {&s.z, &s.bias});
  return operands;
}

void Machine::StatelessBackward::expect() {
  verdict.fails_if(pointwise && !of_argument);
  verdict.fails_if(reads_x && (!x.given || !mean.given));
  verdict.fails_if(!invstd.given);
  expect_side();
  place.judge(all(), verdict);
  std::vector<const Operand *> used = all();
  if (!reads_x) used.erase(used.begin());  // nobody minds what happens to x
  place.judge_arrays(used, empty(), verdict);
  for (const Operand *output : {&dx, &dz}) {
    place.judge_overlap(*output, dy, true, verdict);
    if (reads_x) place.judge_overlap(*output, x, false, verdict);
    if (active && !mask.given && !of_argument) place.judge_overlap(*output, y, false, verdict);
    if (of_argument) place.judge_overlap(*output, s.z, false, verdict);
  }
}

std::string Machine::StatelessBackward::operation() const {
  return plain ? "backward_flat" : of_argument ? "backward_act" : "backward";
}

int32_t Machine::StatelessBackward::call() const {
  if (of_argument) return call_act();
  if (plain) return call_flat();
  if (s.groups != 0)
    return bn2d_group_norm_backward(x.pointer(), dy.pointer(), y.pointer(), mask.as<uint8_t>(),
                                    s.groups, s.parameters, weight.as<void>(), mean.as<double>(),
                                    invstd.as<double>(), s.activation, s.slope, blend, dx.pointer(),
                                    dz.pointer(), dweight.as<void>(), dbias.as<void>());
  return bn2d_batch_norm_backward(x.pointer(), dy.pointer(), y.pointer(), mask.as<uint8_t>(),
                                  s.parameters, weight.as<void>(), mean.as<double>(),
                                  invstd.as<double>(), batch_stats(), s.activation, s.slope, blend,
                                  dx.pointer(), dz.pointer(), dweight.as<void>(), dbias.as<void>());
}

int32_t Machine::StatelessBackward::call_act() const {
  if (s.groups != 0)
    return bn2d_group_norm_backward_act(
        x.pointer(), s.z.pointer(), dy.pointer(), nullptr, mask.as<uint8_t>(), s.groups,
        s.parameters, weight.as<void>(), s.bias.as<void>(), mean.as<double>(), invstd.as<double>(),
        s.activation, s.slope, blend, dx.pointer(), dz.pointer(), dweight.as<void>(),
        dbias.as<void>());
  return bn2d_batch_norm_backward_act(x.pointer(), s.z.pointer(), dy.pointer(), nullptr,
                                      mask.as<uint8_t>(), s.parameters, weight.as<void>(),
                                      s.bias.as<void>(), mean.as<double>(), invstd.as<double>(),
                                      batch_stats(), s.activation, s.slope, blend, dx.pointer(),
                                      dz.pointer(), dweight.as<void>(), dbias.as<void>());
}

int32_t Machine::StatelessBackward::call_flat() const {
  if (s.groups != 0)
    return bn2d_group_norm_backward_flat(
        data, layout(), shape[0], shape[1], shape[2], shape[3], x.as<void>(), dy.data, y.as<void>(),
        mask.as<uint8_t>(), s.groups, s.parameters, shape[1], weight.as<void>(), mean.as<double>(),
        invstd.as<double>(), s.activation, s.slope, blend, dx.as<void>(), dz.as<void>(),
        dweight.as<void>(), dbias.as<void>());
  return bn2d_batch_norm_backward_flat(
      data, layout(), shape[0], shape[1], shape[2], shape[3], x.as<void>(), dy.data, y.as<void>(),
      mask.as<uint8_t>(), s.parameters, shape[1], weight.as<void>(), mean.as<double>(),
      invstd.as<double>(), batch_stats(), s.activation, s.slope, blend, dx.as<void>(),
      dz.as<void>(), dweight.as<void>(), dbias.as<void>());
}

void Machine::StatelessBackward::judge() {
  const Values got_dx = place.values(dx), got_dz = place.values(dz);
  const Values got_dweight = place.values(dweight), got_dbias = place.values(dbias);
  results.dx = given_values(dx, got_dx), results.dz = given_values(dz, got_dz);
  results.dweight = given_values(dweight, got_dweight);
  results.dbias = given_values(dbias, got_dbias);
  const std::string problem = judge_backward(n, dys, results);
  if (!problem.empty()) machine.found(what, problem);
  reach(facet("stateless backward", n));
  reach("stateless backward act " + std::to_string(s.activation));
  reach_blocks("stateless backward", {&x, &dy, &y, &dx, &dz});
}

}  // namespace bn2d_fuzz
