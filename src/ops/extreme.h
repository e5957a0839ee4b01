// What operations need for extreme channels (kernels/kernels.h): of float data, whose whole range
// is safe in double, nothing but doubles; of double data, numbers of unbounded exponent
// (ops/unbounded.h).
#pragma once
#include <cmath>

#include "ops/blockwise.h"
#include "ops/unbounded.h"

namespace bn2d::extreme {

// Whether products with the slope of an activation may leave the range of ordinary channels: then
// all are extreme. A slope above 4 makes the unit of the smallest numbers large, a small one may
// not be held by a float.
inline bool is_extreme_slope(double slope) {
  const double magnitude = std::fabs(slope);
  return magnitude != 0 && !(magnitude >= 0x1p-100 && magnitude <= 4);
}

// The moments of the set of a channel of doubles.
unbounded::Moments moments(const Blockwise &blockwise, int64_t channel, void *buffer);

// A coefficient of the map of an extreme channel of doubles.
inline void set_coefficient(const MapCoefficients &coefficients, int k,
                            const unbounded::Number &value) {
  coefficients.extreme[k * coefficients.stride] = value.significand;
  coefficients.exponents[k * coefficients.stride] = value.exponent;
}

// The largest float that is not above the value.
inline float round_down(double value) {
  const float nearest = static_cast<float>(value);
  return static_cast<double>(nearest) > value ? std::nextafterf(nearest, -HUGE_VALF) : nearest;
}

}  // namespace bn2d::extreme
