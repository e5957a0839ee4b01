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
  Strides stride;  // c: within a block
  // Where channels come in blocks, (N, C/block, H, W, block): those of one, and from block to
  // block. 0: all channels are a constant stride apart.
  int64_t channel_block = 0, channel_block_stride = 0;
  bool given = false;  // data may be NULL all the same where there are no elements

  bool exists() const { return given; }
  int64_t channels_of_block() const { return channel_block == 0 ? size.c : channel_block; }
  int64_t channel_blocks() const { return channel_block == 0 ? 1 : size.c / channel_block; }
  std::byte *at(int64_t n, int64_t c, int64_t h, int64_t w) const {
    const int64_t of_channel = channel_block == 0 ? c * stride.c
                                                  : c / channel_block * channel_block_stride +
                                                        c % channel_block * stride.c;
    return data + (n * stride.n + of_channel + h * stride.h + w * stride.w) * dtype_size(dtype);
  }
};

// The extents and strides of a view: N, C (of a channel block), H, W, channel blocks.
struct Axes {
  static constexpr int kCount = 5;
  int64_t extent[kCount], stride[kCount];
  explicit Axes(const View &v)
      : extent{v.size.n, v.channels_of_block(), v.size.h, v.size.w, v.channel_blocks()},
        stride{v.stride.n, v.stride.c, v.stride.h, v.stride.w, v.channel_block_stride} {}
};

// Checks that extents are not negative and that their product fits 64 bits, in bytes of the widest
// dtype. `what` names the tensor in the error.
void check_extents(const char *what, const Extents &size);

// Makes the channels of a view blocks of `block`, from the one to the next `block_stride` elements,
// where they are not a constant stride apart all the same.
void set_channel_blocks(View &view, int64_t block, int64_t block_stride);

// View of contiguous NCHW elements.
View contiguous_view(void *data, DType dtype, const Extents &size);
// Whether a tensor is like that: one stretch of memory in the order of NCHW.
bool is_contiguous(const View &view);

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

// Some samples of a checked view.
inline View samples_of(const View &view, int64_t first, int64_t count) {
  View some = view;
  if (!view.exists()) return some;
  some.size.n = count;
  if (view.size.numel() != 0) some.data += first * view.stride.n * dtype_size(view.dtype);
  return some;
}

// From the first byte of a checked view to behind its last one; 0 without elements.
inline int64_t span_bytes(const View &view) {
  if (view.size.numel() == 0) return 0;
  const Axes axes(view);
  int64_t elements = 1;
  for (int i = 0; i < Axes::kCount; ++i) elements += (axes.extent[i] - 1) * axes.stride[i];
  return elements * dtype_size(view.dtype);
}

// H and W as one index of constant stride: (h, w) -> (h*W + w) * stride.w.
bool plane_collapses(const View &view);
// Each plane of a channel is contiguous: NCHW, slices of it along N and C.
bool has_contiguous_planes(const View &view);
// Each (n, h, w) has its channels contiguous, or those of each block: NHWC, slices of it, nChw16c.
bool has_contiguous_channels(const View &view);

}  // namespace bn2d
