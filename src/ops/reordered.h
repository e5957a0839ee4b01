// Samples and positions that lie in another order in memory than N, H, W.
#pragma once
#include "base/scratch.h"
#include "ops/blockwise.h"

namespace bn2d {

// A map treats each element on its own. So it may go through the samples and positions of a channel
// in the order of memory, as if they were samples and positions of another tensor. With N fastest,
// then C, each pixel is a sample whose planes are what were N samples:
//
//   extents (N, C, H, W), strides (1, N, N*C, N*C*H)
//   seen as (W*H, C, 1, N), strides (N*C, N, N, 1)
//
// Sums cannot: their order is that of N, H, W.
class Reordered {
 public:
  Reordered(const Blockwise &as_is, const Tensors &tensors, DType dtype);
  // What maps go through.
  const Blockwise &maps() const { return *maps_; }

 private:
  struct Own {
    Own(const Tensors &of_call, const Sets &sets, DType dtype)
        : tensors(of_call), blockwise(tensors, sets, dtype) {}
    Tensors tensors;
    Blockwise blockwise;
  };
  const Blockwise *maps_;
  Scratch scratch_;  // for an Own, which is seldom there: stacks may be small
};

}  // namespace bn2d
