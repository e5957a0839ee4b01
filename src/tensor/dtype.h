// Element types: names, sizes, and the conversion of single elements. Whole arrays are converted in
// src/kernels.
#pragma once
#include <cstdint>

namespace bn2d {

// Numbers as in bn2d.h.
enum class DType : int32_t { f32 = 1, f64 = 2, f16 = 3, bf16 = 4, i64 = 5 };

const char *dtype_name(DType dtype);         // "float32"; "unknown dtype"
constexpr int64_t dtype_size(DType dtype) {  // bytes; 0 for an unknown one
  switch (dtype) {
    case DType::f32:
      return 4;
    case DType::f64:
      return 8;
    case DType::f16:
      return 2;
    case DType::bf16:
      return 2;
    case DType::i64:
      return 8;
  }
  return 0;
}
bool is_floating(DType dtype);  // f32, f64, f16, bf16
// What it is computed in.
constexpr DType arithmetic_dtype(DType dtype) {
  return dtype == DType::f64 ? DType::f64 : DType::f32;
}
constexpr int64_t arithmetic_size(DType dtype) { return dtype_size(arithmetic_dtype(dtype)); }

// Storage of a half: the bits. Arithmetic happens in float.
struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

float to_float(f16 value);
float to_float(bf16 value);
// Round to nearest even from *double*: rounding to float first could round twice.
f16 to_f16(double value);
bf16 to_bf16(double value);

// Element `index` of an array of floating dtype, and back (rounded once, to nearest even).
double load_element(DType dtype, const void *array, int64_t index);
void store_element(DType dtype, void *array, int64_t index, double value);
// The same for `count` elements from `index` on.
void load_elements(DType dtype, const void *array, int64_t index, int64_t count, double *to);
void store_elements(DType dtype, void *array, int64_t index, int64_t count, const double *from);
// The value as an element of the dtype holds it.
double rounded_to(DType dtype, double value);

// Whether data of one dtype go with parameters of another: the same, or halves with floats.
inline bool may_mix(DType data, DType parameters) {
  return data == parameters || (parameters == DType::f32 && dtype_size(data) == 2);
}

}  // namespace bn2d
