// Which channels are extreme (kernels.h), from the numbers that their maps are made of.
#pragma once
#include <cstdint>

namespace bn2d::kernels {

// Magnitudes within these are far from both ends of any range. Kernels ask this of whole vectors of
// channels, and mark_extreme() only where the answer is no. With the whole decision in vectors,
// backward of (1,2048,4,4) took 1.12 times as long.
inline constexpr double kLeastOrdinary = 0x1p-60, kMostOrdinary = 0x1p50;
// Of deviations near the smallest float a float cannot hold the rest of the mean.
inline constexpr double kLeastVarianceOfFloats = 0x1p-240;

// scale = weight*invstd.
struct ScaleNumbers {
  double weight, invstd, scale;
};
// y = (x - mean)*scale + bias
struct ForwardNumbers : ScaleNumbers {
  double bias, var, eps;
};
// dx = scale*(g - g_mean) - (x - mean)*of_x, where of_x is of_xhat*invstd, and of_xhat is
// scale*g_xhat_mean, or that of the set.
struct BackwardNumbers : ScaleNumbers {
  double g_mean, g_xhat_mean;
  double scaled_mean;  // scale*g_mean
  double of_xhat, of_x;
  double set_mean;  // of sets of several channels: the mean of scale*g; else 0
};

// Marks the extreme ones of some channels: number k of channel c is at [k*channels + c], in the
// order of Numbers. wide: for maps in double. extreme NULL: nobody asks.
template <class Numbers>
void mark_extreme(bool wide, int64_t channels, const double *numbers, uint8_t *extreme);

}  // namespace bn2d::kernels
