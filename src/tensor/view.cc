#include "tensor/view.h"

#include <cinttypes>

#include "base/error.h"

namespace bn2d {
namespace {

constexpr int64_t kWidestElement = 8;

bool multiply(int64_t a, int64_t b, int64_t *out) { return !__builtin_mul_overflow(a, b, out); }

// For strides that do not matter, whatever comes out.
int64_t wrapping_product(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

}  // namespace

void check_extents(const char *what, const Extents &size) {
  // The usual case, at once: none is negative, and the bytes are less than 2^(4*14 + 3).
  if ((size.n | size.c | size.h | size.w) >> 14 == 0) return;
  const int64_t extents[4] = {size.n, size.c, size.h, size.w};
  static constexpr char kNames[] = "NCHW";
  for (int i = 0; i < 4; ++i)
    if (extents[i] < 0)
      fail(Status::shape, "%s: extent %c is %" PRId64 ", must be 0 or more", what, kNames[i],
           extents[i]);
  int64_t bytes = kWidestElement;
  for (int64_t extent : extents)
    if (extent != 0 && !multiply(bytes, extent, &bytes))
      fail(Status::overflow,
           "%s: shape (%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64
           ") has more bytes than 64 bits count",
           what, size.n, size.c, size.h, size.w);
}

View contiguous_view(void *data, DType dtype, const Extents &size) {
  View view;
  view.data = static_cast<std::byte *>(data);
  view.dtype = dtype;
  view.size = size;
  view.given = true;
  view.stride = {size.c * size.h * size.w, size.h * size.w, size.w, 1};
  normalise_strides(view);
  return view;
}

void set_channel_blocks(View &view, int64_t block, int64_t block_stride) {
  if (view.size.c <= block) return;  // one block, or none
  if (block == 1) {
    view.stride.c = block_stride;
  } else if (block_stride != wrapping_product(block, view.stride.c)) {
    view.channel_block = block;
    view.channel_block_stride = block_stride;
  }
}

void normalise_strides(View &view) {
  const Extents &size = view.size;
  Strides &stride = view.stride;
  const bool channels_innermost = size.c > 1 && stride.c == 1;
  if (size.w <= 1) stride.w = size.h > 1 ? stride.h : channels_innermost ? size.c : 1;
  if (size.h <= 1) stride.h = wrapping_product(stride.w, size.w);
  if (size.c <= 1) stride.c = size.plane() > 1 ? wrapping_product(stride.h, size.h) : 1;
  if (size.n <= 1)
    stride.n = wrapping_product(channels_innermost ? stride.h : stride.c,
                                channels_innermost ? size.h : size.c);
}

namespace {

// Index of the last element from the first one on. Checks strides, and that products fit 64 bits.
int64_t checked_last_index(const char *what, const Axes &axes) {
  const auto &[extents, strides] = axes;
  static constexpr const char *kNames[Axes::kCount] = {"N", "C", "H", "W", "blocks"};
  int64_t last = 0;
  for (int i = 0; i < Axes::kCount; ++i) {
    if (extents[i] > 1 && strides[i] < 0)
      fail(Status::layout, "%s: stride %s is %" PRId64 ", must be 0 or more", what, kNames[i],
           strides[i]);
    int64_t reach, elements;
    if (!multiply(extents[i] - 1, strides[i], &reach) ||
        __builtin_add_overflow(last, reach, &last) ||
        __builtin_add_overflow(last, int64_t{1}, &elements) ||
        !multiply(elements, kWidestElement, &reach))
      fail(Status::overflow, "%s: extent %" PRId64 " times stride %" PRId64 " (%s) leaves 64 bits",
           what, extents[i], strides[i], kNames[i]);
  }
  return last;
}

// As checked_last_index(), which would be 5 % of a small call. The usual view needs no checks: no
// number is negative, and the sum is below 5 * 2^(14 + 40).
int64_t last_index(const char *what, const Axes &axes) {
  int64_t extents = 0, strides = 0;
  for (int i = 0; i < Axes::kCount; ++i) extents |= axes.extent[i], strides |= axes.stride[i];
  if (extents >> 14 != 0 || strides >> 40 != 0) return checked_last_index(what, axes);
  int64_t last = 0;
  for (int i = 0; i < Axes::kCount; ++i) last += (axes.extent[i] - 1) * axes.stride[i];
  return last;
}

}  // namespace

void check_layout(const char *what, const View &view) {
  const Extents &size = view.size;
  if (size.numel() == 0) return;
  if (view.data == nullptr)
    fail(Status::invalid_argument, "%s: data is NULL, but the shape has %" PRId64 " elements", what,
         size.numel());
  const int64_t element = dtype_size(view.dtype);
  check_array(what, view.data, (last_index(what, Axes(view)) + 1) * element, element);
}

void check_array(const char *what, const void *data, int64_t bytes, int64_t element) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  uintptr_t end;
  if ((begin & static_cast<uintptr_t>(element - 1)) != 0)
    fail(Status::layout, "%s: data %p is not aligned to its elements of %" PRId64 " bytes", what,
         data, element);
  if (__builtin_add_overflow(begin, static_cast<uintptr_t>(bytes), &end))
    fail(Status::overflow, "%s: %" PRId64 " bytes from %p on leave the address space", what, bytes,
         data);
}

bool plane_collapses(const View &view) {
  return view.size.h <= 1 || view.stride.h == view.size.w * view.stride.w;
}

bool has_contiguous_planes(const View &view) {
  return view.size.plane() <= 1 || (view.stride.w == 1 && plane_collapses(view));
}

bool has_contiguous_channels(const View &view) {
  return (view.size.c <= 1 || view.stride.c == 1) && plane_collapses(view);
}

bool is_contiguous(const View &view) {
  const Extents &size = view.size;
  return has_contiguous_planes(view) && view.channel_block == 0 && view.stride.c == size.plane() &&
         (size.n == 1 || view.stride.n == size.c * size.plane());
}

}  // namespace bn2d
