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

// Checks that extents are not negative and that their product fits 64 bits, in bytes of the widest
// dtype. `what` names the tensor in the error.
void check_extents(const char *what, const Extents &size);

// View of contiguous NCHW elements.
View contiguous_view(void *data, DType dtype, const Extents &size);

// Gives the strides of extents 0 and 1, which never matter, the values they have in the densest
// layout, so that later questions about the layout need no special case.
void normalise_strides(View &view);

// Checks strides (0 or more, products within 64 bits), data (not NULL where there are elements,
// aligned to them), and that the address space does not end inside. A stride of 0 reads one element
// many times; for what is written, see overlaps_itself().
void check_layout(const char *what, const View &view);

// Checks that an array of `bytes` bytes is aligned to its elements and that the address space does
// not end inside.
void check_array(const char *what, const void *data, int64_t bytes, int64_t element);

// From the first byte of a checked view to behind its last one; 0 without elements.
inline int64_t span_bytes(const View &view) {
  const Extents &size = view.size;
  if (size.numel() == 0) return 0;
  const Strides &stride = view.stride;
  const int64_t last = (size.n - 1) * stride.n + (size.c - 1) * stride.c + (size.h - 1) * stride.h +
                       (size.w - 1) * stride.w;
  return (last + 1) * dtype_size(view.dtype);
}

// H and W as one index of constant stride: (h, w) -> (h*W + w) * stride.w.
bool plane_collapses(const View &view);
// Each plane of a channel is contiguous: NCHW, slices of it along N and C.
bool has_contiguous_planes(const View &view);
// Each (n, h, w) has its channels contiguous: NHWC, slices of it.
bool has_contiguous_channels(const View &view);

}  // namespace bn2d
