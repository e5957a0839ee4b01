// Double backward with a module.
#include "fuzz/call.h"

namespace bn2d_fuzz {

struct Machine::DoubleBackward : Machine::RecordCall {
  using RecordCall::RecordCall;
  void run();

 private:
  bool act = false;  // by the function that knows z
  bool known = false;
  Operand ddx, ddy, dx, ddz = not_given("ddz"), dz = not_given("dz"), ddweight, ddbias;
  DoubleBackwardResults results;

  std::vector<const Operand *> all() const {
    return {&dy, &ddx, &ddz, &ddy, &dx, &dz, &ddweight, &ddbias};
  }
  void draw_operands();
  void fill();
  void expect();
  std::string text() const;
  int32_t call() const;
  void judge();
};

void Machine::double_backward() {
  const int picked = pick_record();
  if (picked < 0) return forward();
  const RecordModel &record = records_[static_cast<size_t>(picked)];
  if (modules_[record.module]->alive()) DoubleBackward(*this, record).run();
}

void Machine::DoubleBackward::run() {
  with_module(r.module);
  // The bias has a gradient of its own only where the activation is curved.
  bias_wants = bias_wants && n.activation.curved();
  draw_operands();
  fill();
  expect();
  spoil_handles();
  what = text();
  machine.before(what);
  if (verdict.must.empty()) {
    dys = place.values(dy);
    results.ddx = place.values(ddx), results.ddz = place.values(ddz);
    results.ddweight = place.values(ddweight), results.ddbias = place.values(ddbias);
  }
  if (!machine.settle(what, call(), verdict)) return;
  machine.check_only(what, {&ddy, &dx, &dz}, static_cast<int>(index), gradients());
  if (known && !dys.empty()) judge();
  machine.repeat(what, {&ddy, &dx, &dz}, [&] { return call(); });
}

void Machine::DoubleBackward::draw_operands() {
  plain = in.one_in(3);
  nhwc = plain && in.coin();
  dy = tensor("dy", 3, false, false, nullptr);
  ddx = tensor("ddx", 4, false, true, &dy);
  ddy = tensor("ddy", 5, true, true, in.coin() ? &dy : &ddx);
  dx = tensor("dx", 6, true, true, &ddx);
  act = !plain && in.coin();
  if (act) {
    ddz = tensor("ddz", 1, false, true, &ddx);
    dz = tensor("dz", 7, true, true, &dx);
  }
  const int32_t dtype = m->options.dtype;
  ddweight = place.array("ddweight", 7, dtype, m->channels, false, in.coin(), &ddy);
  ddbias = place.array("ddbias", 1, dtype, m->channels, false, in.coin(), &dx);
}

void Machine::DoubleBackward::fill() {
  const bool hostile = in.one_in(4);
  place.fill(dy, shape, hostile);
  place.fill(ddx, shape, hostile && in.coin());
  place.fill(ddz, shape, hostile && in.coin());
  place.fill(ddweight, row(), hostile && in.coin());
  place.fill(ddbias, row(), hostile && in.coin());
}

void Machine::DoubleBackward::expect() {
  place.judge(all(), verdict);
  place.judge_arrays(all(), empty(), verdict);
  for (const Operand *output : {&ddy, &dx, &dz}) {
    place.judge_overlap(*output, dy, output == &ddy, verdict);
    place.judge_overlap(*output, ddx, false, verdict);
    place.judge_overlap(*output, ddz, false, verdict);
    judge_overlap_with_record(*output, true);
  }
  verdict.fails_if(r.in_place || n.count != 0, BN2D_ERROR_STATE);
  known = fresh_x() && fresh_y() && fresh_z() && !r.in_place;
}

std::string Machine::DoubleBackward::text() const {
  return std::string("double_backward") +
         (plain ? "_flat"
          : act ? "_act"
                : "") +
         text_of(shape, data, m->options.dtype) + text_of(all()) + m->text() +
         (n.batch ? " batch" : " frozen") + " act " + std::to_string(n.activation.kind);
}

int32_t Machine::DoubleBackward::call() const {
  if (plain)
    return bn2d_double_backward_flat(module_handle, record_handle, data, layout(), dy.data,
                                     ddx.data, ddweight.as<void>(), ddbias.as<void>(), ddy.data,
                                     dx.data);
  if (act)
    return bn2d_double_backward_act(module_handle, record_handle, dy.pointer(), ddx.pointer(),
                                    ddz.pointer(), ddweight.as<void>(), ddbias.as<void>(),
                                    ddy.pointer(), dx.pointer(), dz.pointer());
  return bn2d_double_backward(module_handle, record_handle, dy.pointer(), ddx.pointer(),
                              ddweight.as<void>(), ddbias.as<void>(), ddy.pointer(), dx.pointer());
}

void Machine::DoubleBackward::judge() {
  const Values got_ddy = place.values(ddy), got_dx = place.values(dx), got_dz = place.values(dz);
  results.ddy = given_values(ddy, got_ddy);
  results.dx = given_values(dx, got_dx), results.dz = given_values(dz, got_dz);
  take_gradients(results);
  const std::string problem = judge_double_backward(n, dys, results);
  if (!problem.empty()) machine.found(what, problem);
  reach(facet("double_backward", n));
  reach_blocks("double_backward", {&dy, &ddx, &ddy, &dx});
  reach("double_backward act " + std::to_string(n.activation.kind));
}

}  // namespace bn2d_fuzz
