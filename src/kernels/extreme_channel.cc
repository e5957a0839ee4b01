#include "kernels/extreme_channel.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/safe_range.h"

namespace bn2d::kernels {
namespace {

// A product that is 0 without a factor of 0 has underflowed.
template <class A>
bool is_extreme_product(double a, double b, double product) {
  return is_extreme_factor<A>(product) || (product == 0 && a != 0 && b != 0);
}

template <class A>
bool is_extreme(const ScaleNumbers &of) {
  return is_extreme_product<A>(of.weight, of.invstd, of.scale);
}

template <class A>
bool is_extreme(const ForwardNumbers &of) {
  const ScaleNumbers &scale = of;
  if (is_extreme<A>(scale) || std::fabs(of.bias) >= SafeRange<A>::kMost) return true;
  if (sizeof(A) == sizeof(double)) {
    using R = SafeRange<double>;
    const double v = of.var + of.eps;
    return !(v >= R::kLeastVariance && v <= R::kMostVariance);  // NaN, too
  }
  // Whatever eps is: a deviation this small needs more of the mean than the low part of a float
  // holds.
  return of.var > 0 && of.var < kLeastVarianceOfFloats;
}

template <class A>
bool is_extreme(const BackwardNumbers &of) {
  using R = SafeRange<A>;
  const ScaleNumbers &scale = of;
  if (is_extreme<A>(scale) || is_extreme_product<A>(of.of_xhat, of.invstd, of.of_x)) return true;
  // The sums of another channel of the set may have overflowed. (Of a set of one channel, a weight
  // of NaN is no reason: what it makes NaN stays so.)
  if (is_extreme_factor<A>(of.set_mean) || std::isnan(of.set_mean) ||
      (std::isnan(of.of_x) && !std::isnan(of.weight)))
    return true;
  // What dx is the sum of must not overflow before it cancels.
  if (std::fabs(of.of_xhat) >= R::kMost || std::fabs(of.scaled_mean) >= R::kMost) return true;
  const double means = std::fabs(of.g_mean) + std::fabs(of.g_xhat_mean);
  if constexpr (sizeof(A) == sizeof(double)) {
    // The products that were summed are as large as gradients times 1/invstd.
    const double least = std::max(of.invstd, 1.0) * R::kLeastGradient;
    const bool sums_hold = std::fabs(of.g_xhat_mean) >= least && means < R::kMost;
    // NaN, and gradients of 0, too.
    return is_outside(of.invstd, R::kLeastInvstd, R::kMostInvstd) || !sums_hold;
  } else {
    if (is_extreme_factor<A>(of.invstd) || is_extreme_factor<A>(of.g_mean) ||
        is_extreme_factor<A>(of.g_xhat_mean))
      return true;
    // A product of floats may lack 2^-150, all of it or its last bits, and 1/std makes that larger.
    // Where the means are not far above it, and where they are NaN after an overflow, the sums are
    // taken again. But not those of a dead channel, which is not rare: x is the mean everywhere,
    // and an ordinary eps is its variance.
    constexpr double kMostOfDeadChannel = 0x1p24;
    const double least = of.invstd * R::kLeast;
    const bool is_dead = of.g_xhat_mean == 0 && of.invstd <= kMostOfDeadChannel;
    return !(means > least && (is_dead || std::fabs(of.g_xhat_mean) > least));
  }
}

}  // namespace

template <class Numbers>
[[gnu::cold]] void mark_extreme(bool wide, int64_t channels, const double *numbers,
                                uint8_t *extreme) {
  for (int64_t c = 0; extreme != nullptr && c < channels; ++c) {
    constexpr int kCount = sizeof(Numbers) / sizeof(double);
    double array[kCount];
    for (int k = 0; k < kCount; ++k) array[k] = numbers[k * channels + c];
    Numbers of_channel;
    std::memcpy(&of_channel, array, sizeof(Numbers));
    if (wide ? is_extreme<double>(of_channel) : is_extreme<float>(of_channel)) extreme[c] = 1;
  }
}
template void mark_extreme<ScaleNumbers>(bool, int64_t, const double *, uint8_t *);
template void mark_extreme<ForwardNumbers>(bool, int64_t, const double *, uint8_t *);
template void mark_extreme<BackwardNumbers>(bool, int64_t, const double *, uint8_t *);

}  // namespace bn2d::kernels
