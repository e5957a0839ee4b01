// Double backward without a module.
#include "fuzz/stateless.h"

namespace bn2d_fuzz {

struct Machine::StatelessDoubleBackward : Machine::StatelessCall {
  using StatelessCall::StatelessCall;
  void run();

 private:
  bool act = false;  // by the function that knows z
  bool is_known = false;
  Operand ddx, ddy, ddz = not_given("ddz"), ddweight, ddbias;
  DoubleBackwardResults results;

  std::vector<const Operand *> all() const;
  std::vector<const Operand *> outputs() const { return {&ddy, &dx, &dz, &dweight, &dbias}; }
  void draw_operands();
  void draw_inputs();
  void fill();
  void expect();
  void read_operands();
  int32_t call() const;
  int32_t call_act() const;
  void judge();
};

void Machine::stateless_double_backward(const Stateless &s) {
  StatelessDoubleBackward(*this, s).run();
}

void Machine::StatelessDoubleBackward::run() {
  draw_operands();
  draw_blend();
  draw_inputs();
  fill();
  expect();
  is_known = known(true);
  what = text(act ? "double_backward_act" : "double_backward", all());
  machine.before(what);
  if (verdict.must.empty()) read_operands();
  if (!machine.settle(what, call(), verdict)) return;
  machine.check_only(what, outputs(), -1, {});
  if (is_known && !dys.empty()) judge();
  machine.repeat(what, outputs(), [&] { return call(); });
}

void Machine::StatelessDoubleBackward::draw_operands() {
  dy = tensor("dy", 5, false, false, nullptr);
  ddx = tensor("ddx", 6, false, true, &dy);
  ddy = tensor("ddy", 7, true, true, in.coin() ? &dy : &ddx);
  dx = tensor("dx", 1, true, true, &ddx);
  ddweight = array("ddweight", 0, false);
  ddbias = array("ddbias", 2, false);
  dweight = array("dweight", 3, true);
  act = in.one_in(4) ? !pointwise : pointwise;
  of_argument = pointwise && act;
  dz = not_given("dz"), dbias = not_given("dbias");
  if (!act) return;
  ddz = tensor("ddz", 4, false, true, &ddx);
  dz = tensor("dz", 2, true, true, &dx);
  dbias = array("dbias", 4, true);
}

void Machine::StatelessDoubleBackward::draw_inputs() {
  x.given = !in.one_in(40);
  y.given = active && !pointwise && !mask.given && !in.one_in(40);
}

void Machine::StatelessDoubleBackward::fill() {
  const bool hostile = in.one_in(4);
  place.fill(dy, shape, hostile);
  place.fill(ddx, shape, hostile && in.coin());
  place.fill(ddz, shape, hostile && in.coin());
  for (const Operand *one : {&ddweight, &ddbias, &dweight, &dbias})
    place.fill(*one, row(), hostile && in.coin());
}

std::vector<const Operand *> Machine::StatelessDoubleBackward::all() const {
  std::vector<const Operand *> operands = {&x,      &dy,      &y,   &mask,     &weight, &mean,
                                           &invstd, &ddx,     &ddz, &ddweight, &ddbias, &ddy,
                                           &dx,     &dweight, &dz,  &dbias};
  if (of_argument) operands.insert(operands.end(), {&s.z, &s.bias});
  return operands;
}

void Machine::StatelessDoubleBackward::expect() {
  verdict.fails_if(!x.given || !mean.given || !invstd.given);
  expect_side();
  verdict.fails_if(pointwise && !act);
  place.judge(all(), verdict);
  place.judge_arrays(all(), empty(), verdict);
  for (const Operand *output : {&ddy, &dx, &dz}) {
    place.judge_overlap(*output, dy, output == &ddy, verdict);
    place.judge_overlap(*output, ddx, false, verdict);
    place.judge_overlap(*output, ddz, false, verdict);
    place.judge_overlap(*output, x, false, verdict);
    if (active && !pointwise && !mask.given) place.judge_overlap(*output, y, false, verdict);
    if (of_argument) place.judge_overlap(*output, s.z, false, verdict);
  }
}

void Machine::StatelessDoubleBackward::read_operands() {
  dys = place.values(dy);
  results.ddx = place.values(ddx), results.ddz = place.values(ddz);
  results.ddweight = place.values(ddweight), results.ddbias = place.values(ddbias);
  results.old_dweight = place.values(dweight), results.old_dbias = place.values(dbias);
  results.blend = blend;
}

int32_t Machine::StatelessDoubleBackward::call() const {
  if (act) return call_act();
  if (s.groups != 0)
    return bn2d_group_norm_double_backward(
        x.pointer(), dy.pointer(), y.pointer(), mask.as<uint8_t>(), s.groups, s.parameters,
        weight.as<void>(), mean.as<double>(), invstd.as<double>(), s.activation, s.slope,
        ddx.pointer(), ddweight.as<void>(), ddbias.as<void>(), blend, ddy.pointer(), dx.pointer(),
        dweight.as<void>());
  return bn2d_batch_norm_double_backward(x.pointer(), dy.pointer(), y.pointer(), mask.as<uint8_t>(),
                                         s.parameters, weight.as<void>(), mean.as<double>(),
                                         invstd.as<double>(), batch_stats(), s.activation, s.slope,
                                         ddx.pointer(), ddweight.as<void>(), ddbias.as<void>(),
                                         blend, ddy.pointer(), dx.pointer(), dweight.as<void>());
}

int32_t Machine::StatelessDoubleBackward::call_act() const {
  const bn2d_view *const z = of_argument ? s.z.pointer() : nullptr;
  const void *const bias = of_argument ? s.bias.as<void>() : nullptr;
  if (s.groups != 0)
    return bn2d_group_norm_double_backward_act(
        x.pointer(), z, dy.pointer(), y.pointer(), mask.as<uint8_t>(), s.groups, s.parameters,
        weight.as<void>(), bias, mean.as<double>(), invstd.as<double>(), s.activation, s.slope,
        ddx.pointer(), ddz.pointer(), ddweight.as<void>(), ddbias.as<void>(), blend, ddy.pointer(),
        dx.pointer(), dz.pointer(), dweight.as<void>(), dbias.as<void>());
  return bn2d_batch_norm_double_backward_act(
      x.pointer(), z, dy.pointer(), y.pointer(), mask.as<uint8_t>(), s.parameters,
      weight.as<void>(), bias, mean.as<double>(), invstd.as<double>(), batch_stats(), s.activation,
      s.slope, ddx.pointer(), ddz.pointer(), ddweight.as<void>(), ddbias.as<void>(), blend,
      ddy.pointer(), dx.pointer(), dz.pointer(), dweight.as<void>(), dbias.as<void>());
}

void Machine::StatelessDoubleBackward::judge() {
  const Values got_ddy = place.values(ddy), got_dx = place.values(dx), got_dz = place.values(dz);
  const Values got_dweight = place.values(dweight), got_dbias = place.values(dbias);
  results.ddy = given_values(ddy, got_ddy);
  results.dx = given_values(dx, got_dx), results.dz = given_values(dz, got_dz);
  results.dweight = given_values(dweight, got_dweight);
  results.dbias = given_values(dbias, got_dbias);
  const std::string problem = judge_double_backward(n, dys, results);
  if (!problem.empty()) machine.found(what, problem);
  reach(facet("stateless double_backward", n));
  reach_blocks("stateless double_backward", {&x, &dy, &y, &ddx, &ddy, &dx});
  reach("stateless double_backward act " + std::to_string(s.activation));
}

}  // namespace bn2d_fuzz
