// Tensors that read one element again and again, with strides of 0: the gradient of a sum is an
// expanded scalar.
#pragma once
#include "base/scratch.h"
#include "ops/blockwise.h"

namespace bn2d {

// Lets the kernels read such tensors straight from memory, where otherwise the whole call would go
// through packed copies: a plane, or a row of channels, is written out once and takes the place of
// all that are like it. Only where that is little beside the call.
class ExpandedTensors {
 public:
  // Points `tensors` at the copies, which live as long as this.
  ExpandedTensors(Tensors &tensors, const Extents &size);

 private:
  static constexpr int64_t kAlignedElements = 64;  // whole cache lines of any type
  static size_t bytes(const Tensors &tensors, const Extents &size);
  Scratch scratch_;
};

}  // namespace bn2d
