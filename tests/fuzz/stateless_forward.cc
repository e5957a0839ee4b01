// Forward without a module, and what follows it.
#include <cmath>

#include "fuzz/stateless.h"

namespace bn2d_fuzz {

struct Machine::StatelessForward : Machine::Call {
  StatelessForward(Machine &of, Stateless &left, bool of_groups)
      : Call(of), s(left), n(left.numbers), in_groups(of_groups) {}
  bool run();  // true where there is something to go on with

 private:
  Stateless &s;
  Numbers &n;
  const bool in_groups;
  oracle::Activation act{};
  bool batch = true;
  // As the function is told, which may be wrong.
  int64_t groups = 0;
  int32_t batch_stats = 1, flags = 0, dtype = BN2D_F32;
  double factor = 0, eps = 0;
  Operand running_mean, running_var;

  std::vector<const Operand *> all() const {
    return {&s.x,          &s.z,         &s.y,          &s.weight,       &s.bias,
            &running_mean, &running_var, &s.saved_mean, &s.saved_invstd, &s.mask};
  }
  std::vector<const Operand *> written() const;
  void draw_form();
  void draw_groups();
  void draw_settings();
  void draw_wrong_setting();
  void draw_tensors();
  void draw_arrays();
  void draw_saved();
  void draw_mask();
  void fill();
  void make_positive(const Operand &operand);
  void expect();
  void fill_numbers();
  int32_t call() const;
  int32_t call_of_groups() const;
  void judge();
  std::string problem_of_results() const;
  std::string problem_of_running() const;
  void keep();
};

void Machine::stateless(bool in_groups) {
  Stateless s;
  if (!StatelessForward(*this, s, in_groups).run()) return;
  for (int64_t rounds = in_.below(3); rounds > 0; --rounds) {
    if (in_.coin() && !s.flat) {  // which has no function without views
      stateless_double_backward(s);
    } else {
      stateless_backward(s);
    }
  }
}

bool Machine::StatelessForward::run() {
  draw_form();
  draw_groups();
  draw_settings();
  draw_tensors();
  draw_arrays();
  draw_saved();
  draw_mask();
  fill();
  expect();
  fill_numbers();
  what = s.text(std::string("forward") + (s.flat ? "_flat" : ""), groups, all()) + " flags " +
         std::to_string(flags) + " eps " + text_of(eps);
  machine.before(what);
  if (verdict.must.empty()) {
    n.x = place.values(s.x), n.z = place.values(s.z);
    n.weight = place.values(s.weight), n.bias = place.values(s.bias);
    n.running_mean = place.values(running_mean), n.running_var = place.values(running_var);
  }
  if (!machine.settle(what, call(), verdict)) return false;
  machine.check_only(what, written(), -1, {});
  if (!empty()) judge();
  machine.repeat(what, written(), [&] { return call(); });
  keep();
  return true;
}

void Machine::StatelessForward::draw_form() {
  int64_t channels = in.one_in(8) ? in.pick<int64_t>({16, 17, 33, 40}) : 1 + in.below(9);
  if (in_groups) {
    s.groups = 1 + in.below(4);
    channels = s.groups * (1 + in.below(in.one_in(4) ? 9 : 4));
  }
  shape = machine.choose_shape(channels);
  if (in.one_in(64)) shape[1] = 0;
  s.parameters = in.pick<int32_t>({BN2D_F32, BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16});
  data = machine.choose_data_dtype(s.parameters, verdict);
  act = machine.choose_activation(data, s.activation, s.slope, verdict);
  batch = !in.one_in(3) || in_groups;
  s.shape = shape, s.data = data;
}

void Machine::StatelessForward::draw_groups() {
  groups = s.groups;
  if (!in_groups || !in.one_in(40)) return;
  groups = in.pick<int64_t>({0, -1, INT64_MIN, INT64_MAX, 41});
  verdict.fails_if(groups < 1);
  verdict.fails_if(groups >= 1 && shape[1] % groups != 0, BN2D_ERROR_SHAPE);
}

void Machine::StatelessForward::draw_settings() {
  batch_stats = batch ? 1 : 0;
  flags = static_cast<int32_t>(in.below(4));
  dtype = s.parameters;
  factor = in.pick({0.1, 0.0, 0.25, 1.0, 1e-300});
  eps = in.pick({1e-5, 1e-3, 0.0, 1.0, 5e-324, 1e30});
  if (in.one_in(40)) draw_wrong_setting();
}

// A group norm is not told three of them.
void Machine::StatelessForward::draw_wrong_setting() {
  switch (in.below(5)) {
    case 0:
      dtype = in.pick<int32_t>({0, BN2D_I64, 6, -1});
      return verdict.fails_if(true, BN2D_ERROR_DTYPE);
    case 1:
      batch_stats = in.pick({2, -1});
      return verdict.fails_if(!in_groups);
    case 2:
      factor = in.pick({-0.1, 1.5, nan, infinity});
      return verdict.fails_if(!in_groups);
    case 3:
      eps = in.pick({-1e-5, nan, infinity});
      return verdict.fails_if(true);
    default:
      flags = in.pick<int32_t>({4, -1, 8, INT32_MIN});
      return verdict.fails_if(!in_groups);
  }
}

void Machine::StatelessForward::draw_tensors() {
  plain = in_groups ? in.below_or_later(3, 171, 1) == 3 : in.one_in(3);
  nhwc = plain && in.coin();
  s.flat = plain, s.nhwc = nhwc;
  s.x = tensor("x", 0, false, false, nullptr);
  s.z = tensor("z", 1, false, true, &s.x);
  s.y = tensor("y", 2, true, false, in.coin() ? &s.x : &s.z);
}

void Machine::StatelessForward::draw_arrays() {
  const auto array = [&](const char *name, size_t room, bool written, bool given) {
    return place.array(name, room, s.parameters, shape[1], written, given, in.coin() ? &s.y : &s.x);
  };
  s.weight = array("weight", 3, false, !in.one_in(3));
  s.bias = array("bias", 4, false, !in.one_in(3));
  const bool optional = batch || in.one_in(32);
  running_mean = array("running_mean", 5, batch, !(optional && in.one_in(4)) && !in_groups);
  running_var = array("running_var", 6, batch, !(optional && in.one_in(4)) && !in_groups);
}

void Machine::StatelessForward::draw_saved() {
  const int64_t sets = in_groups && shape[1] > 0 ? shape[0] * s.groups : shape[1];
  const auto saved = [&](const char *name, size_t room) {
    const bool given = !in.one_in(6);
    return place.array(name, room, BN2D_F64, sets, true, given, in.coin() ? &s.y : &s.x);
  };
  s.saved_mean = saved("saved_mean", 7);
  s.saved_invstd = saved("saved_invstd", 3);
}

void Machine::StatelessForward::draw_mask() {
  uint64_t bytes = 0;
  (void)bn2d_mask_nbytes(shape[0], shape[1], shape[2], shape[3], &bytes);
  const bool masked = s.activation == BN2D_ACT_NONE ? in.one_in(80) : in.coin();
  s.mask = place.array("mask", 4, 0, static_cast<int64_t>(bytes), true, masked, &s.y);
  verdict.fails_if(masked && (s.activation == BN2D_ACT_NONE || s.pointwise()));
}

void Machine::StatelessForward::fill() {
  const bool hostile = in.one_in(3);
  place.fill(s.x, shape, hostile);
  place.fill(s.z, shape, hostile && in.coin());
  for (const Operand *one : {&s.weight, &s.bias, &running_mean, &running_var})
    place.fill(*one, row(), hostile && in.one_in(3));
  if (running_var.whole() && !(hostile && in.one_in(8))) make_positive(running_var);
}

void Machine::StatelessForward::make_positive(const Operand &operand) {
  for (const uint32_t offset : operand.footprint.offsets) {
    unsigned char *at = machine.memory_.at(offset);
    const double value =
        std::fabs(numerics::decode(s.parameters, numerics::read_bits(s.parameters, at)));
    numerics::write_element(s.parameters, at, value);
  }
}

void Machine::StatelessForward::expect() {
  verdict.fails_if(!batch && (!running_mean.given || !running_var.given));
  place.judge(all(), verdict);
  place.judge_arrays(all(), per_channel() == 0, verdict);
  place.judge_overlap(s.y, s.x, true, verdict);
  place.judge_overlap(s.y, s.z, true, verdict);
  verdict.fails_if(batch && per_channel() == 1 && shape[1] > 0 && !in_groups,
                   BN2D_ERROR_TOO_FEW_VALUES);
}

void Machine::StatelessForward::fill_numbers() {
  n.e = extents_of(shape);
  n.data = data;
  n.parameters = s.parameters;
  n.batch = batch;
  if (in_groups) n.norm = BN2D_NORM_GROUP, n.groups = s.groups;
  n.eps = eps;
  n.activation = act;
}

std::vector<const Operand *> Machine::StatelessForward::written() const {
  std::vector<const Operand *> outputs = {&s.y, &s.mask, &s.saved_mean, &s.saved_invstd};
  const bool moves = batch && per_channel() > 0 && !in_groups;
  if (moves) outputs.insert(outputs.end(), {&running_mean, &running_var});
  return outputs;
}

int32_t Machine::StatelessForward::call() const {
  if (in_groups) return call_of_groups();
  if (s.flat)
    return bn2d_batch_norm_forward_flat(
        data, layout(), shape[0], shape[1], shape[2], shape[3], s.x.data, s.z.data, s.y.data, dtype,
        shape[1], s.weight.as<void>(), s.bias.as<void>(), running_mean.as<void>(),
        running_var.as<void>(), batch_stats, factor, eps, flags, s.activation, s.slope,
        s.mask.as<uint8_t>(), s.saved_mean.as<double>(), s.saved_invstd.as<double>());
  return bn2d_batch_norm_forward(s.x.pointer(), s.z.pointer(), s.y.pointer(), dtype,
                                 s.weight.as<void>(), s.bias.as<void>(), running_mean.as<void>(),
                                 running_var.as<void>(), batch_stats, factor, eps, flags,
                                 s.activation, s.slope, s.mask.as<uint8_t>(),
                                 s.saved_mean.as<double>(), s.saved_invstd.as<double>());
}

int32_t Machine::StatelessForward::call_of_groups() const {
  if (s.flat)
    return bn2d_group_norm_forward_flat(
        data, layout(), shape[0], shape[1], shape[2], shape[3], s.x.data, s.z.data, s.y.data,
        groups, dtype, shape[1], s.weight.as<void>(), s.bias.as<void>(), eps, s.activation, s.slope,
        s.mask.as<uint8_t>(), s.saved_mean.as<double>(), s.saved_invstd.as<double>());
  return bn2d_group_norm_forward(s.x.pointer(), s.z.pointer(), s.y.pointer(), groups, dtype,
                                 s.weight.as<void>(), s.bias.as<void>(), eps, s.activation, s.slope,
                                 s.mask.as<uint8_t>(), s.saved_mean.as<double>(),
                                 s.saved_invstd.as<double>());
}

void Machine::StatelessForward::judge() {
  n.compute();
  std::string problem = problem_of_results();
  if (problem.empty() && batch && !in_groups) problem = problem_of_running();
  if (!problem.empty()) machine.found(what, problem);
  if (std::count(n.judged.begin(), n.judged.end(), true) == 0) return;
  reach(facet("stateless forward", n));
  reach_blocks("stateless forward", {&s.x, &s.z, &s.y});
  reach("stateless forward act " + std::to_string(s.activation));
}

std::string Machine::StatelessForward::problem_of_results() const {
  const std::string problem = n.judge_y(place.values(s.y));
  if (!problem.empty()) return problem;
  const Values mean = place.values(s.saved_mean), invstd = place.values(s.saved_invstd);
  return n.judge_saved(given_values(s.saved_mean, mean), given_values(s.saved_invstd, invstd));
}

std::string Machine::StatelessForward::problem_of_running() const {
  const Values mean = place.values(running_mean), var = place.values(running_var);
  return n.judge_running(given_values(running_mean, mean), given_values(running_var, var), factor,
                         (flags & BN2D_FLAG_BIASED_RUNNING_VAR) != 0,
                         (flags & BN2D_FLAG_PROTECT_RUNNING_STATS) != 0);
}

void Machine::StatelessForward::keep() {
  s.x_bits = place.bits(s.x), s.y_bits = place.bits(s.y), s.z_bits = place.bits(s.z);
  s.weight_bits = place.bits(s.weight), s.bias_bits = place.bits(s.bias);
  s.mean_bits = place.bits(s.saved_mean), s.invstd_bits = place.bits(s.saved_invstd);
  s.mask_bits = place.bits(s.mask);
}

}  // namespace bn2d_fuzz
