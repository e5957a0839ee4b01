// Element types of safetensors files: all that the format knows, so that a file is listed and
// copied whole whatever else is in it. Those that bn2d computes with have a DType, too.
#pragma once
#include <optional>
#include <string_view>

#include "tensor/dtype.h"

namespace bn2d {

struct ElementType {
  const char *name;  // as in the file: "F32"
  int bits;
  int dlpack_code;  // -1: DLPack has none
  std::optional<DType> dtype;

  bool is_floating() const { return dtype && bn2d::is_floating(*dtype); }
};

// NULL where the format has no such type.
const ElementType *element_type(std::string_view name);
const ElementType *element_type(DType dtype);
const ElementType *element_type(int dlpack_code, int bits);

}  // namespace bn2d
