#include "tensor/dtype.h"

#include <cmath>

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

// Float nearest to `value` rounded to *odd*: an inexact result gets an odd last bit, so that a second rounding to a type
// that is at least two bits shorter gives what one rounding of `value` would have given (Boldo and Melquiond, 2008).
float round_to_odd(double value) {
  float nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || std::isnan(value) || std::isinf(nearest)) return nearest;
  uint32_t bits = bits_of(nearest);
  if (bits & 1) return nearest;
  const bool too_far = std::fabs(static_cast<double>(nearest)) > std::fabs(value);
  bits += too_far ? -1 : 1;
  return float_of(bits);
}

}  // namespace

const char *dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f32: return "float32";
    case DType::f64: return "float64";
    case DType::f16: return "float16";
    case DType::bf16: return "bfloat16";
    case DType::i64: return "int64";
  }
  return "unknown dtype";
}

int64_t dtype_size(DType dtype) {
  switch (dtype) {
    case DType::f32: return 4;
    case DType::f64: return 8;
    case DType::f16: return 2;
    case DType::bf16: return 2;
    case DType::i64: return 8;
  }
  return 0;
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
  if (magnitude > 0x7F800000u) return {static_cast<uint16_t>(sign | 0x7E00u)};   // NaN
  if (magnitude >= 0x477FF000u) return {static_cast<uint16_t>(sign | 0x7C00u)};  // 65520 and up round to infinity
  if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24, rounded by an addition in which that is the last bit
    const float shifted = float_of(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (bits_of(shifted) - 0x3F000000u))};
  }
  const uint32_t even = (magnitude >> 13) & 1;
  return {static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xFFFu + even) >> 13))};
}

bf16 to_bf16(double value) {
  const uint32_t bits = bits_of(round_to_odd(value));
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};  // NaN stays NaN
  return {static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1)) >> 16)};
}

double load_element(DType dtype, const void *array, int64_t index) {
  switch (dtype) {
    case DType::f32: return static_cast<const float *>(array)[index];
    case DType::f64: return static_cast<const double *>(array)[index];
    case DType::f16: return to_float(static_cast<const f16 *>(array)[index]);
    case DType::bf16: return to_float(static_cast<const bf16 *>(array)[index]);
    case DType::i64: break;
  }
  return 0;
}

void store_element(DType dtype, void *array, int64_t index, double value) {
  switch (dtype) {
    case DType::f32: static_cast<float *>(array)[index] = static_cast<float>(value); break;
    case DType::f64: static_cast<double *>(array)[index] = value; break;
    case DType::f16: static_cast<f16 *>(array)[index] = to_f16(value); break;
    case DType::bf16: static_cast<bf16 *>(array)[index] = to_bf16(value); break;
    case DType::i64: break;
  }
}

}  // namespace bn2d
