// A strided view of (N, C, H, W) elements in somebody's memory.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace bn2d {

struct Extents {
  int64_t n = 0, c = 0, h = 0, w = 0;
  int64_t plane() const { return h * w; }            // elements of one channel of one sample
  int64_t per_channel() const { return n * h * w; }  // M of the formulas
  int64_t numel() const { return n * c * h * w; }
  bool operator==(const Extents &o) const { return n == o.n && c == o.c && h == o.h && w == o.w; }
};

struct Strides {  // in elements
  int64_t n = 0, c = 0, h = 0, w = 0;
};

struct View {
  std::byte *data = nullptr;
  DType dtype = DType::f32;
  Extents size;
  Strides stride;
  bool given = false;  // data may be NULL all the same where there are no elements

  bool exists() const { return given; }
  std::byte *at(int64_t n, int64_t c, int64_t h, int64_t w) const {
    return data + (n * stride.n + c * stride.c + h * stride.h + w * stride.w) * dtype_size(dtype);
  }
};

// Checks that extents are not negative and that their product fits 64 bits, in bytes of the widest dtype. `what` names
// the tensor in the error.
void check_extents(const char *what, const Extents &size);

// View of contiguous NCHW elements.
View contiguous_view(void *data, DType dtype, const Extents &size);

// Gives the strides of extents 0 and 1, which never matter, the values they have in the densest layout, so that later
// questions about the layout need no special case.
void normalise_strides(View &view);

// Checks strides (positive, products within 64 bits), data (not NULL where there are elements) and alignment.
void check_layout(const char *what, const View &view);

// H and W as one index of constant stride: (h, w) -> (h*W + w) * stride.w.
bool plane_collapses(const View &view);
// Each plane of a channel is contiguous: NCHW, slices of it along N and C.
bool has_contiguous_planes(const View &view);
// Each (n, h, w) has its channels contiguous: NHWC, slices of it.
bool has_contiguous_channels(const View &view);

}  // namespace bn2d
