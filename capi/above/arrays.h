// From the types of bn2d.h to those of src/arrays.
#pragma once
#include <utility>

#include "above/call.h"
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

// Calls f(TensorHandle, name, array) for the parameters and buffers of a module, in their order.
template <class F>
void for_each_tensor(const bn2d_module *module, const F &f) {
  int32_t count = 0;
  check(bn2d_module_tensor_count(module, &count));
  for (int32_t i = 0; i < count; ++i) {
    TensorHandle tensor(module, i);
    const char *name = nullptr;
    check(bn2d_tensor_name(tensor.get(), &name));
    const Array array = array_of(tensor.get());
    f(std::move(tensor), name, array);
  }
}

}  // namespace bn2d::capi
