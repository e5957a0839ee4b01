#include "tensor/dtype.h"

#include <cmath>
#include <cstring>
#include <type_traits>

namespace bn2d {
namespace {

uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Float nearest to `value` rounded to *odd*: an inexact result gets an odd last bit, so that a
// second rounding to a type that is at least two bits shorter gives what one rounding of `value`
// would have given (Boldo and Melquiond, 2008).
float round_to_odd(double value) {
  float nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || std::isnan(value) || std::isinf(nearest))
    return nearest;
  uint32_t bits = bits_of(nearest);
  if (bits & 1) return nearest;
  const bool too_far = std::fabs(static_cast<double>(nearest)) > std::fabs(value);
  bits += too_far ? -1 : 1;
  return float_of(bits);
}

}  // namespace

const char *dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::f64:
      return "float64";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    case DType::i64:
      return "int64";
  }
  return "unknown dtype";
}

bool is_floating(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f64 || dtype == DType::f16 || dtype == DType::bf16;
}

float to_float(f16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t exponent = (value.bits >> 10) & 0x1F;
  const uint32_t mantissa = value.bits & 0x3FF;
  if (exponent == 0x1F) return float_of(sign | 0x7F800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return float_of(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

float to_float(bf16 value) { return float_of(static_cast<uint32_t>(value.bits) << 16); }

f16 to_f16(double value) {
  const float v = round_to_odd(value);
  const uint32_t bits = bits_of(v);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return {static_cast<uint16_t>(sign | 0x7E00u)};  // NaN
  if (magnitude >= 0x477FF000u)
    return {static_cast<uint16_t>(sign | 0x7C00u)};  // 65520 and up round to infinity
  if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24, rounded by an addition in
                                  // which that is the last bit
    const float shifted = float_of(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (bits_of(shifted) - 0x3F000000u))};
  }
  const uint32_t even = (magnitude >> 13) & 1;
  return {static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xFFFu + even) >> 13))};
}

bf16 to_bf16(double value) {
  const uint32_t bits = bits_of(round_to_odd(value));
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
    return {static_cast<uint16_t>((bits >> 16) | 0x40u)};  // NaN stays NaN
  return {static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1)) >> 16)};
}

namespace {

double to_double(double value) { return value; }
double to_double(float value) { return value; }
double to_double(f16 value) { return to_float(value); }
double to_double(bf16 value) { return to_float(value); }

template <class T>
T rounded(double value);
template <>
double rounded<double>(double value) {
  return value;
}
template <>
float rounded<float>(double value) {
  return static_cast<float>(value);
}
template <>
f16 rounded<f16>(double value) {
  return to_f16(value);
}
template <>
bf16 rounded<bf16>(double value) {
  return to_bf16(value);
}

// Calls f with a null pointer of the element type.
template <class F>
void with_type(DType dtype, F f) {
  switch (dtype) {
    case DType::f32:
      return f(static_cast<float *>(nullptr));
    case DType::f64:
      return f(static_cast<double *>(nullptr));
    case DType::f16:
      return f(static_cast<f16 *>(nullptr));
    case DType::bf16:
      return f(static_cast<bf16 *>(nullptr));
    case DType::i64:
      return;
  }
}

}  // namespace

void load_elements(DType dtype, const void *array, int64_t index, int64_t count, double *to) {
  with_type(dtype, [&](auto *type) {
    const auto *from = static_cast<decltype(type)>(const_cast<void *>(array)) + index;
    for (int64_t i = 0; i < count; ++i) to[i] = to_double(from[i]);
  });
}

void store_elements(DType dtype, void *array, int64_t index, int64_t count, const double *from) {
  with_type(dtype, [&](auto *type) {
    auto *to = static_cast<decltype(type)>(array) + index;
    for (int64_t i = 0; i < count; ++i)
      to[i] = rounded<std::remove_pointer_t<decltype(type)>>(from[i]);
  });
}

double load_element(DType dtype, const void *array, int64_t index) {
  double value = 0;
  load_elements(dtype, array, index, 1, &value);
  return value;
}

void store_element(DType dtype, void *array, int64_t index, double value) {
  store_elements(dtype, array, index, 1, &value);
}

double rounded_to(DType dtype, double value) {
  double element = 0;
  store_element(dtype, &element, 0, value);
  return load_element(dtype, &element, 0);
}

}  // namespace bn2d
