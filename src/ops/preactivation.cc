#include "ops/preactivation.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/safe_range.h"

namespace bn2d {

Preactivation::Preactivation(const Sets &sets, DType dtype, const SavedStatistics &saved,
                             const UnboundedStatistics &exact)
    : sets_(sets),
      saved_(saved),
      exact_(exact),
      scratch_(static_cast<size_t>(
          MapCoefficients::bytes(kCoefficients, arithmetic_size(dtype), sets.counted().c))),
      coefficients_(scratch_.data(), kCoefficients, arithmetic_size(dtype), sets.counted().c) {
  using namespace kernels::coefficient;
  const kernels::ChannelKernels &channel = kernels::active().channel;
  const bool is_wide = coefficients_.size == 8;
  const double most =
      is_wide ? kernels::SafeRange<double>::kMost : kernels::SafeRange<float>::kMost;
  // A float cannot hold the rest of a mean near its smallest numbers, where a deviation may be as
  // small. (Forward asks the variance: kLeastVarianceOfFloats. Its deviations are below 2^-120, so
  // the numbers are below 2^-96, or all equal.)
  const double least_mean = is_wide ? 0 : 0x1p-80;
  const int64_t channels = sets.counted().c;
  uint8_t *const is_extreme = coefficients_.is_extreme;
  constexpr int64_t kAtOnce = 64;
  double mean[kAtOnce], mean_lo[kAtOnce], factor[kAtOnce], bias[kAtOnce];
  for (int64_t c = 0; c < channels; c += kAtOnce) {
    const int64_t count = std::min(kAtOnce, channels - c);
    const MapCoefficients some = from(c);
    for (int64_t i = 0; i < count; ++i) {
      mean[i] = at(saved.mean, c + i);
      mean_lo[i] = saved.mean_lo ? at(saved.mean_lo, c + i) : 0;
      factor[i] = at(saved.invstd, c + i) * saved.weight[(c + i) % sets.size.c];
      bias[i] = saved.bias[(c + i) % sets.size.c];
      const double size = std::fabs(mean[i]);
      some.is_extreme[i] = std::fabs(bias[i]) >= most || (size != 0 && size < least_mean);
    }
    channel.centers(count, mean, mean_lo, some.of_regular());
    channel.factors(count, factor, scale, some.of_regular());
    store_elements(arithmetic_dtype(dtype), some.regular + shift * some.stride * some.size, 0,
                   count, bias);
  }
  for (int64_t c = 0; sets.channels > 1 && c < channels; c += sets.channels)
    if (std::memchr(is_extreme + c, 1, static_cast<size_t>(sets.channels)) != nullptr)
      std::memset(is_extreme + c, 1, static_cast<size_t>(sets.channels));
}

bool Preactivation::find_side(const Fused &fused, std::byte *side) const {
  const int64_t channels = sets_.counted().c, bytes = channels * coefficients_.size;
  if (coefficients_.regular_channels(0, channels) != channels) return false;
  const bool is_wide = coefficients_.size == 8;
  kernels::active().channel.side({channels, coefficients_.regular, coefficients_.stride, is_wide,
                                  fused.bound(is_wide ? DType::f64 : DType::f32), side,
                                  side + bytes, fused.has_bound() ? side + 2 * bytes : nullptr});
  return true;
}

unbounded::Number Preactivation::coefficient(int k, int64_t channel) const {
  using namespace kernels::coefficient;
  const int64_t set = channel / sets_.channels, of_module = channel % sets_.size.c;
  if (k == minus_mean_hi) return -exact_.mean(set).hi;
  if (k == minus_mean_lo) return -exact_.mean(set).lo;
  if (k == shift) return saved_.bias[of_module];
  return exact_.invstd(set) * unbounded::Number(saved_.weight[of_module]);
}

}  // namespace bn2d
