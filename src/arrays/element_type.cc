#include "arrays/element_type.h"

namespace bn2d {
namespace {

constexpr int kInt = 0, kUint = 1, kFloat = 2, kBfloat = 4, kComplex = 5, kBool = 6, kNone = -1;

constexpr ElementType kTypes[] = {
    {"F64", 64, kFloat, DType::f64}, {"F32", 32, kFloat, DType::f32},
    {"F16", 16, kFloat, DType::f16}, {"BF16", 16, kBfloat, DType::bf16},
    {"I64", 64, kInt, DType::i64},   {"I32", 32, kInt, {}},
    {"I16", 16, kInt, {}},           {"I8", 8, kInt, {}},
    {"U64", 64, kUint, {}},          {"U32", 32, kUint, {}},
    {"U16", 16, kUint, {}},          {"U8", 8, kUint, {}},
    {"BOOL", 8, kBool, {}},          {"C64", 64, kComplex, {}},
    {"F8_E4M3", 8, kNone, {}},       {"F8_E5M2", 8, kNone, {}},
    {"F8_E8M0", 8, kNone, {}},       {"F6_E2M3", 6, kNone, {}},
    {"F6_E3M2", 6, kNone, {}},       {"F4", 4, kNone, {}},
};

}  // namespace

const ElementType *element_type(std::string_view name) {
  for (const ElementType &type : kTypes)
    if (type.name == name) return &type;
  return nullptr;
}

const ElementType *element_type(DType dtype) {
  for (const ElementType &type : kTypes)
    if (type.dtype == dtype) return &type;
  return nullptr;
}

const ElementType *element_type(int dlpack_code, int bits) {
  for (const ElementType &type : kTypes)
    if (type.dlpack_code == dlpack_code && type.bits == bits) return &type;
  return nullptr;
}

}  // namespace bn2d
