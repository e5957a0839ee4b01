// The numbers behind the numerical tests, free of any test framework: element types and their bits,
// random numbers that are the same everywhere, and the comparison with the oracle in ulp.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "bn2d/bn2d.h"
#include "support/oracle.h"

namespace numerics {

using oracle::Activation;
using oracle::Extents;
using oracle::Format;
using oracle::Real;
using oracle::Reals;
using oracle::Values;
using Bits = std::vector<uint64_t>;

constexpr Activation no_activation{};
constexpr Activation relu{Activation::relu, 0};
// Those that take their side from x: they have no mask.
constexpr Activation pointwise[] = {{Activation::relu6, 0},     {Activation::clamp, 1.5},
                                    {Activation::hardswish, 0}, {Activation::silu, 0},
                                    {Activation::gelu, 0},      {Activation::sigmoid, 0}};

// -------------------------------------------------------------------------------------------------
// dtypes

inline const Format &format_of(int32_t dtype) {
  switch (dtype) {
    case BN2D_F32:
      return oracle::binary32;
    case BN2D_F16:
      return oracle::binary16;
    case BN2D_BF16:
      return oracle::bfloat16;
    default:
      return oracle::binary64;
  }
}
inline bool is_half(int32_t dtype) { return dtype == BN2D_F16 || dtype == BN2D_BF16; }
// The format that the arithmetic has at least.
inline const Format &arithmetic_of(int32_t dtype) {
  return dtype == BN2D_F64 ? oracle::binary64 : oracle::binary32;
}
inline size_t size_of(int32_t dtype) { return dtype == BN2D_F64 ? 8 : dtype == BN2D_F32 ? 4 : 2; }

// The bits of a half number for a value that it holds exactly.
inline uint16_t encode_half(const Format &format, double v) {
  const int mantissa = format.digits - 1;
  const uint16_t sign = std::signbit(v) ? 0x8000 : 0;
  const uint16_t infinity = static_cast<uint16_t>((2 * format.max_exponent + 1) << mantissa);
  if (std::isnan(v)) return static_cast<uint16_t>(sign | infinity | (1u << (mantissa - 1)));
  if (std::isinf(v)) return static_cast<uint16_t>(sign | infinity);
  if (v == 0) return sign;
  const int exponent = std::ilogb(v) < format.min_exponent ? format.min_exponent : std::ilogb(v);
  const auto significand = static_cast<uint32_t>(
      std::fabs(v) * static_cast<double>(oracle::power_of_two(mantissa - exponent)));
  const auto field = static_cast<uint32_t>(exponent - format.min_exponent) << mantissa;
  return static_cast<uint16_t>(
      sign | (field + significand));  // a normal significand's hidden bit adds 1 to the field
}

inline double decode_half(const Format &format, uint16_t bits) {
  const int mantissa = format.digits - 1;
  const int field = (bits & 0x7fff) >> mantissa, fraction = bits & ((1 << mantissa) - 1);
  double v = 0;
  if (field == 2 * format.max_exponent + 1) {
    v = fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                      : std::numeric_limits<double>::infinity();
  } else {
    const int hidden = field == 0 ? 0 : 1 << mantissa;
    v = std::ldexp(fraction + hidden,
                   (field == 0 ? 1 : field) - 1 + format.min_exponent - mantissa);
  }
  return (bits & 0x8000) != 0 ? -v : v;
}

inline double rounded(int32_t dtype, Real v) {
  if (dtype == BN2D_F32) return static_cast<float>(v);
  if (dtype == BN2D_F64) return static_cast<double>(v);
  return static_cast<double>(oracle::round_to(format_of(dtype), v));
}

inline void write_element(int32_t dtype, void *at, double v) {
  if (dtype == BN2D_F64) {
    std::memcpy(at, &v, 8);
  } else if (dtype == BN2D_F32) {
    const auto narrow = static_cast<float>(v);
    std::memcpy(at, &narrow, 4);
  } else {
    const uint16_t bits = encode_half(format_of(dtype), v);
    std::memcpy(at, &bits, 2);
  }
}

inline uint64_t read_bits(int32_t dtype, const void *at) {
  uint64_t wide = 0;
  uint32_t single = 0;
  uint16_t half = 0;
  switch (size_of(dtype)) {
    case 8:
      std::memcpy(&wide, at, 8);
      return wide;
    case 4:
      std::memcpy(&single, at, 4);
      return single;
    default:
      std::memcpy(&half, at, 2);
      return half;
  }
}

inline double decode(int32_t dtype, uint64_t bits) {
  if (dtype == BN2D_F64) {
    double v = 0;
    std::memcpy(&v, &bits, 8);
    return v;
  }
  if (dtype == BN2D_F32) {
    const auto single = static_cast<uint32_t>(bits);
    float v = 0;
    std::memcpy(&v, &single, 4);
    return v;
  }
  static const auto table = [](const Format &format) {
    std::vector<double> values(65536);
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = decode_half(format, static_cast<uint16_t>(i));
    return values;
  };
  static const std::vector<double> f16 = table(oracle::binary16), bf16 = table(oracle::bfloat16);
  return (dtype == BN2D_F16 ? f16 : bf16)[bits & 0xffff];
}

// Of data, and of the modules that take them.
inline constexpr std::pair<int32_t, int32_t> dtype_pairs[] = {
    {BN2D_F32, BN2D_F32},   {BN2D_F64, BN2D_F64}, {BN2D_F16, BN2D_F16},
    {BN2D_BF16, BN2D_BF16}, {BN2D_F16, BN2D_F32}, {BN2D_BF16, BN2D_F32}};

// "f32", "bf16/f32"
inline std::string name_of(int32_t data, int32_t module) {
  const auto short_name = [](int32_t d) {
    return d == BN2D_F32 ? "f32" : d == BN2D_F64 ? "f64" : d == BN2D_F16 ? "f16" : "bf16";
  };
  return data == module ? short_name(data)
                        : std::string(short_name(data)) + "/" + short_name(module);
}

// -------------------------------------------------------------------------------------------------
// random

// The same numbers on every machine (std::normal_distribution is not).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits() {  // splitmix64
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }  // [0, 1)
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  int64_t below(int64_t n) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }
  bool coin() { return (bits() & 1) != 0; }
  double normal() {  // Irwin-Hall of 4, scaled to variance 1: no library function, so the same bits
                     // everywhere
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += uniform();
    return (sum - 2) * 1.7320508075688772;
  }
  template <class T>
  const T &pick(const std::vector<T> &values) {
    return values[static_cast<size_t>(below(static_cast<int64_t>(values.size())))];
  }

 private:
  uint64_t state_;
};

inline Values normal_values(Random &random, int32_t dtype, int64_t count, double mean = 0,
                            double std = 1) {
  Values values(static_cast<size_t>(count));
  for (double &v : values) v = rounded(dtype, mean + std * random.normal());
  return values;
}

// Every channel with a mean and a spread of its own.
inline Values channel_values(Random &random, int32_t dtype, const Extents &e, double mean = 3,
                             double std = 2) {
  Values values(static_cast<size_t>(e.size()));
  for (int64_t c = 0; c < e.c; ++c) {
    const double m = random.uniform(-mean, mean), s = std * random.uniform(0.1, 1);
    oracle::for_channel(e, c,
                        [&](int64_t i) { values[i] = rounded(dtype, m + s * random.normal()); });
  }
  return values;
}

// What goes into a forward, a backward and a double backward.
struct Inputs {
  Values x, z, dy, ddx, ddz;                                         // by element
  Values weight, bias, running_mean, running_var, ddweight, ddbias;  // by channel
};

// -------------------------------------------------------------------------------------------------
// comparison

// The bound in ulp of the arithmetic: 4 for f32 and for halves (before they are rounded), 8 for
// f64.
inline Real bound_of(int32_t dtype) { return dtype == BN2D_F64 ? 8 : 4; }

struct Comparison {
  Real ulps = 0;  // largest error in ulp of the arithmetic at the channel's scale; halves: beyond
                  // half an ulp of their own
  int64_t at = -1, elements = 0, misrounded = 0;
  Real got = 0, want = 0;
};

// Channel of element i: (i / plane) % c. For arrays of one value per channel: plane 1.
// `ignore`: elements to leave out (those on the edge of an activation), may be empty.
inline Comparison compare(int32_t dtype, int64_t channels, int64_t plane, const Values &got,
                          const Reals &want, const Reals &scale,
                          const std::vector<bool> &ignore = {}) {
  Comparison worst;
  const Format &own = format_of(dtype), &arithmetic = arithmetic_of(dtype);
  const Real infinity = std::numeric_limits<Real>::infinity();
  // The least that rounds to it.
  const Real overflow = std::ldexp(1 - std::ldexp(Real{1}, -own.digits - 1), own.max_exponent + 1);
  if (got.size() != want.size()) {
    worst.ulps = infinity;
    return worst;
  }
  Reals unit;
  for (Real s : scale) unit.push_back(1 / oracle::ulp(arithmetic, s));
  for (size_t i = 0; i < got.size(); ++i) {
    if (!ignore.empty() && ignore[i]) continue;
    const auto c = static_cast<size_t>((static_cast<int64_t>(i) / plane) % channels);
    const Real nearest = rounded(dtype, want[i]);
    Real error = 0;
    ++worst.elements;
    if (got[i] != nearest) {
      // Halfway cases are rare only where the terms are not far larger than the result. What a long
      // double of 113 bits tells from halfway and a double does not (0.9 of one half and 0.1 of
      // another are often that) is none.
      const Real beyond = (std::fabs(got[i] - want[i]) - oracle::ulp(own, want[i]) / 2) * unit[c];
      const bool halfway_in_double = beyond > 0 && beyond < 1e-8L;
      if (8 * bound_of(dtype) < unit[c] * oracle::ulp(own, want[i]) && !halfway_in_double)
        ++worst.misrounded;
      if (std::isnan(nearest) || std::isnan(got[i])) {
        error = infinity;
      } else if (std::isinf(got[i])) {
        // It stands for all that rounds to it. Where terms cancel that are far above the range of a
        // half, what is left of their roundings may be above it, too.
        error = std::fabs(std::copysign(overflow, got[i]) - want[i]) * unit[c];
      } else {
        error = std::fabs(got[i] - want[i]);
        if (is_half(dtype)) error = std::max(Real{0}, error - oracle::ulp(own, want[i]) / 2);
        error *= unit[c];
      }
    } else if (!is_half(dtype) && std::isfinite(nearest)) {
      error = std::fabs(got[i] - want[i]) * unit[c];
    }
    if (!(error <= worst.ulps)) {  // a NaN, too
      worst.ulps = std::isnan(error) ? infinity : error;
      worst.at = static_cast<int64_t>(i);
      worst.got = got[i];
      worst.want = want[i];
    }
  }
  return worst;
}

// Index of the first difference, -1 where there is none.
inline int64_t first_difference(const Bits &a, const Bits &b) {
  if (a.size() != b.size()) return 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) return static_cast<int64_t>(i);
  }
  return -1;
}

// Both zeros are equal here, NaN is equal to nothing. Returns the index of the first wrong value,
// -1 where all are right.
inline int64_t first_inexact(int32_t dtype, const Values &got, const Reals &want) {
  if (got.size() != want.size()) return 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!(got[i] == rounded(dtype, want[i]))) return static_cast<int64_t>(i);
  }
  return -1;
}

}  // namespace numerics
