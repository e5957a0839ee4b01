// binary16 and bfloat16 by definition, slowly: what a value rounds to (nearest, ties to even) and
// what bits mean.
#pragma once
#include <bn2d/bn2d.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace bn2d_test {

struct HalfFormat {
  int significand_bits;  // stored
  int exponent_bits;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
};
inline constexpr HalfFormat kBinary16{10, 5}, kBfloat16{7, 8};

inline HalfFormat half_format(int32_t dtype) { return dtype == BN2D_F16 ? kBinary16 : kBfloat16; }

inline double half_value(const HalfFormat &format, uint16_t bits) {
  const int significand = bits & ((1 << format.significand_bits) - 1);
  const int exponent = (bits >> format.significand_bits) & ((1 << format.exponent_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << format.exponent_bits) - 1) {
    return significand != 0 ? std::numeric_limits<double>::quiet_NaN()
                            : sign * std::numeric_limits<double>::infinity();
  }
  const int hidden = exponent == 0 ? 0 : 1 << format.significand_bits;
  const int scale = (exponent == 0 ? 1 : exponent) - format.bias() - format.significand_bits;
  return sign * std::ldexp(hidden + significand, scale);
}

inline uint16_t half_bits(const HalfFormat &format, double value) {
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const int all_ones = ((1 << format.exponent_bits) - 1) << format.significand_bits;
  if (std::isnan(value))
    return static_cast<uint16_t>(sign | all_ones | (1 << (format.significand_bits - 1)));
  const double magnitude = std::fabs(value);
  if (std::isinf(magnitude)) return static_cast<uint16_t>(sign | all_ones);
  const int smallest = 1 - format.bias();
  const int exponent = magnitude == 0 ? smallest : std::max(std::ilogb(magnitude), smallest);
  // In units of the last place; std::nearbyint rounds ties to even. An exact tie survives the
  // scaling, a power of two.
  const double units = std::nearbyint(std::ldexp(magnitude, format.significand_bits - exponent));
  const double hidden = std::ldexp(1.0, format.significand_bits);
  int bits = 0;
  if (units < hidden) {
    bits = static_cast<int>(units);  // subnormal
  } else {
    // 2*hidden (rounded up to the next power of two) carries into the exponent by itself.
    bits =
        ((exponent - smallest + 1) << format.significand_bits) + static_cast<int>(units - hidden);
  }
  return static_cast<uint16_t>(sign | std::min(bits, all_ones));
}

inline bool half_is_nan(const HalfFormat &format, uint16_t bits) {
  return std::isnan(half_value(format, bits));
}

}  // namespace bn2d_test
