// From the types of bn2d.h to those of src/arrays.
#pragma once
#include "arrays/array.h"
#include "bn2d/bn2d.h"

namespace bn2d::capi {

// A tensor of any rank; checked, data included.
Array array_of(const char *what, const bn2d_view *view, bool is_written);
// A contiguous one.
Array array_of(const char *what, int32_t dtype, const int64_t *shape, int32_t rank,
               const void *data, bool is_written);
// A tensor of a module.
Array array_of(const bn2d_tensor *tensor);

}  // namespace bn2d::capi
