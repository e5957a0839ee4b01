// Which elements of a tensor have their statistics in common.
#pragma once
#include <cstdint>

#include "tensor/view.h"

namespace bn2d {

// A set is a box of samples and channels, with all their positions.
//
//   norm             samples   channels
//   batch            N         1
//   ghost batch      V         1          every V samples on their own
//   instance         1         1
//   group, G groups  1         C/G
//
// Plan and kernels know channels alone. So channels of samples that are in different sets count as
// different channels: channel c of the s-th `samples` samples is number s*C + c. With samples = 1,
// a tensor (2, 3, H, W) has six of them:
//
//   sample    0  0  0  1  1  1
//   channel   0  1  2  0  1  2
//   number    0  1  2  3  4  5
//
// The channels of a set follow one another. What a module has of each channel (weight,
// running_mean) is number c, statistics are number s*C/channels + c/channels.
struct Sets {
  Extents size;          // of the tensors
  int64_t samples = 0;   // of a set; divides size.n
  int64_t channels = 1;  // of a set; divides size.c

  int64_t batches() const { return samples == size.n ? 1 : size.n / samples; }
  int64_t count() const { return batches() * size.c / channels; }
  int64_t values() const { return samples * channels * size.plane(); }  // of a set
  // The tensor as plan and kernels see it.
  Extents counted() const { return {samples, batches() * size.c, size.h, size.w}; }
};

// The sets of a call before its tensors are known.
struct SetShape {
  int64_t samples = 0;  // 0: all
  int64_t channels = 1;
  bool is_all(const Extents &size) const { return samples == 0 || samples >= size.n; }
  // Samples of a last set that has fewer than the others; 0: there is none.
  int64_t rest(const Extents &size) const { return is_all(size) ? 0 : size.n % samples; }
  // Without such a rest.
  Sets of(const Extents &size) const { return {size, is_all(size) ? size.n : samples, channels}; }
  // Of all, with the rest.
  int64_t count(const Extents &size) const {
    const int64_t batches = is_all(size) ? 1 : size.n / samples + (rest(size) != 0);
    return batches * (size.c / channels);
  }
};

}  // namespace bn2d
