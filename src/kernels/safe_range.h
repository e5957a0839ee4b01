// Which numbers the arithmetic of maps and sums is exact enough for.
#pragma once
#include <cmath>

namespace bn2d::kernels {

// Numbers up to which the arithmetic of maps keeps its precision. Differences of x and a mean below
// kCenter do not overflow. Factors from kLeast to kMost (or 0) keep all their bits, and
// their products with what they meet do, too.
template <class A>
struct SafeRange {
  static constexpr double kCenter = 0x1p100, kLeast = 0x1p-120, kMost = 0x1p100;
};
template <>
struct SafeRange<double> {
  static constexpr double kCenter = 0x1p960, kLeast = 0x1p-960, kMost = 0x1p960;
  // Squares of deviations, and products of a deviation with a gradient, are exact pairs of doubles.
  static constexpr double kLeastVariance = 0x1p-900, kMostVariance = 0x1p960;
  static constexpr double kLeastInvstd = 0x1p-450, kMostInvstd = 0x1p450;
  static constexpr double kLeastGradient = 0x1p-800;
  // A mean has a low part with all its bits.
  static constexpr double kLeastMean = 0x1p-960;
};

inline bool is_outside(double v, double least, double most) {
  const double magnitude = std::fabs(v);
  return magnitude >= most || (magnitude < least && magnitude != 0);
}
// NaN is neither extreme nor safe.
template <class A>
bool is_extreme_factor(double v) {
  return is_outside(v, SafeRange<A>::kLeast, SafeRange<A>::kMost);
}
template <class A>
bool is_safe_factor(double v) {
  using R = SafeRange<A>;
  return v == 0 || (std::fabs(v) >= R::kLeast && std::fabs(v) < R::kMost);
}

}  // namespace bn2d::kernels
