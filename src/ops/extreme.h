// Numbers that operations need for extreme channels (kernels/kernels.h): exponents that bring their
// elements into a range where sums and maps in double are exact enough.
#pragma once
#include <algorithm>
#include <cmath>

#include "ops/blockwise.h"

namespace bn2d::extreme {

// Whether a positive number is finite, so that it has an exponent.
inline bool has_exponent(double value) { return value > 0 && std::isfinite(value); }

// Exponent k for x * 2^k, so that the standard deviation comes close to 1. The mean stays far from the
// end of the range, so that x - mean does not overflow.
inline int of_invstd(double invstd, double mean) {
  const int k = has_exponent(invstd) ? std::ilogb(invstd) : 0;
  return has_exponent(std::fabs(mean)) ? std::min(k, 950 - std::ilogb(mean)) : k;
}

// Exponent for sums: elements at most 2^14 from each other, whatever their variance will be. So the
// deviation of up to 2^26 elements is above 1, and weight/deviation does not overflow. eps * 2^2k has
// to stay finite, too.
inline int of_largest_difference(double half, double eps) {
  const int k = 14 - std::ilogb(half);
  return has_exponent(eps) ? std::min(k, (200 - std::ilogb(eps)) / 2) : k;
}

// How far a standard deviation is from 1, as an exponent. weight/std has to keep its bits where weight is
// close to an end of the range: from 1 on the deviation becomes 1 to 2, below that 1/2 to 1.
inline int of_unit_deviation(double variance, double weight) {
  if (!has_exponent(variance)) return 0;
  return (std::ilogb(variance) >> 1) + (std::fabs(weight) < 1 ? 1 : 0);
}

// The moments of a block of a channel, or of all its blocks, each element times 2^k. of_one, sums, part,
// buffer: memory to work with.
void moments_of_block(const Blockwise &blockwise, int64_t channel, int64_t block, int k, const Accumulators &of_one,
                      kernels::Sums *sums, kernels::Moments *moments, void *buffer);
void moments(const Blockwise &blockwise, int64_t channel, int k, const Accumulators &of_one, kernels::Sums *sums,
             kernels::Moments *part, void *buffer, kernels::Moments *total);

// 2^k as two factors that are numbers also where 2^k is none.
struct Factors {
  double factor[2];
  explicit Factors(int k) : factor{std::ldexp(1.0, k / 2), std::ldexp(1.0, k - k / 2)} {}
};

// The largest float that is not above the value.
inline float round_down(double value) {
  const float nearest = static_cast<float>(value);
  return static_cast<double>(nearest) > value ? std::nextafterf(nearest, -HUGE_VALF) : nearest;
}

}  // namespace bn2d::extreme
