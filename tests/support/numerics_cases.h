// A fixed list of configurations of batch norm: each pair of dtypes, layout and kind of shape, with
// modes, activations of two sides and the rest in turn. Small, so that it can be run many times.
#pragma once
#include <limits>

#include "support/numerics_case.h"

namespace numerics {

// One of `count` choices, another one at each `step` of the turns. With a prime that no loop has in
// common, all meet all; the first choices come up a little more often.
inline int pick(int turn, int step, int prime, int count) { return turn / step % prime % count; }

inline std::vector<Case> every_case() {
  // One element per plane, small planes, whole pictures, few and many channels; planes that are
  // split.
  const Extents shapes[] = {{1, 1, 1, 2},  {9, 5, 1, 1},    {64, 33, 1, 1}, {4, 3, 2, 2},
                            {5, 19, 3, 3}, {2, 16, 7, 7},   {3, 2, 1, 61},  {1, 5, 17, 13},
                            {2, 40, 5, 9}, {2, 64, 14, 14}, {1, 2, 96, 101}};
  std::vector<Activation> activations = {
      no_activation, relu, {Activation::leaky, 0.25}, {Activation::leaky, -0.5}};
  activations.insert(activations.end(), std::begin(pointwise), std::end(pointwise));
  std::vector<Case> cases;
  int turn = 0;
  for (const auto &[data, module] : dtype_pairs) {
    for (const Extents &e : shapes) {
      for (const Layout layout : all_layouts) {
        for (const bool stateless : {false, true}) {
          Case c;
          c.e = e;
          c.data = data;
          c.module = module;
          c.stateless = stateless;
          c.x = c.y = c.z = c.dx = c.dz = layout;
          c.mode = static_cast<Mode>(turn % 3);
          c.affine = static_cast<Affine>(pick(turn, 3, 5, 3));
          c.activation = activations[static_cast<size_t>(
              pick(turn, 2, 11, static_cast<int>(activations.size())))];
          c.residual = pick(turn, 5, 13, 2) == 0;
          c.mask = pick(turn, 1, 17, 2) == 0 && !c.activation.pointwise();
          c.plain = pick(turn, 1, 19, 2) == 0;
          c.biased = turn % 5 == 0;
          c.eps = turn % 7 == 0 ? 0 : 1e-5;
          c.placement = static_cast<uint64_t>(turn % 4);
          if (turn % 23 == 0) c.y = c.dx = Layout::nhwc;  // from one layout to another
          cases.push_back(c);
          ++turn;
        }
      }
    }
  }
  return cases;
}

// Finite numbers that reach the ends of the range.
enum class Extreme { ends, subnormal, all_sizes, constant, count };

inline Inputs extreme_inputs(const Case &c, Extreme kind, uint64_t seed) {
  Inputs in = random_inputs(c, seed);
  Random random(seed + 1);
  const auto one = [&](int32_t dtype, int64_t i) {
    const Format &format = format_of(dtype);
    const double top = std::ldexp(2 - std::ldexp(1.0, 1 - format.digits), format.max_exponent);
    const int reach = format.max_exponent - format.min_exponent;
    switch (kind) {
      case Extreme::ends:
        return i % 3 == 0 ? -top : top;
      case Extreme::subnormal:
        return std::ldexp(static_cast<double>(random.below(9) - 4),
                          format.min_exponent - format.digits + 1);
      case Extreme::all_sizes:
        return rounded(dtype,
                       std::ldexp(random.uniform(-1, 1),
                                  format.min_exponent + static_cast<int>(random.below(reach))));
      default:
        return rounded(dtype, 1.1);
    }
  };
  const auto fill = [&](Values &values, int32_t dtype) {
    for (size_t i = 0; i < values.size(); ++i) values[i] = one(dtype, static_cast<int64_t>(i));
  };
  fill(in.x, c.data), fill(in.z, c.data), fill(in.dy, c.data), fill(in.ddx, c.data);
  fill(in.weight, c.module), fill(in.bias, c.module), fill(in.running_mean, c.module);
  fill(in.ddweight, c.module), fill(in.ddbias, c.module);
  fill(in.running_var, c.module);
  for (double &v : in.running_var) v = std::fabs(v);
  return in;
}

}  // namespace numerics
