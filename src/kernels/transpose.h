// Matrices of elements, rows and columns exchanged: what takes a tensor from one layout to another.
#pragma once
#include <cstdint>

namespace bn2d::kernels {

// to[c][r] = from[r][c]. Strides are of rows, in elements; the elements of a row follow one
// another.
struct Transposition {
  const void *from;
  int64_t from_stride, rows, columns;
  void *to;
  int64_t to_stride;
  // Whether `to` has the planes, a packed copy or a tensor; else `from` has them.
  bool packs = false;
  bool is_far = false;  // `from` is in memory, not in the caches
  // Whole cache lines go to memory past the caches. The caller fences.
  bool streaming = false;
};

}  // namespace bn2d::kernels
