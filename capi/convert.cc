#include "convert.h"

#include <cinttypes>
#include <cstring>

#include "address.h"
#include "module/options.h"

namespace bn2d::capi {
namespace {

// DLPack's type codes.
constexpr int kInt = 0, kFloat = 2, kBfloat = 4;

DType dtype_of(const char *what, const bn2d_view &view) {
  if (view.dtype_lanes == 1) {
    if (view.dtype_code == kFloat && view.dtype_bits == 32) return DType::f32;
    if (view.dtype_code == kFloat && view.dtype_bits == 64) return DType::f64;
    if (view.dtype_code == kFloat && view.dtype_bits == 16) return DType::f16;
    if (view.dtype_code == kBfloat && view.dtype_bits == 16) return DType::bf16;
    if (view.dtype_code == kInt && view.dtype_bits == 64) return DType::i64;
  }
  fail(Status::dtype,
       "%s: DLPack dtype (code %d, bits %d, lanes %d) is unknown, known are float 16, 32, 64, "
       "bfloat 16 and int 64 with 1 lane",
       what, view.dtype_code, view.dtype_bits, view.dtype_lanes);
}

// Of x, dy and all that is like them.
DType data_dtype_of(const char *what, const bn2d_view &view) {
  const DType dtype = dtype_of(what, view);
  if (!is_floating(dtype))
    fail(Status::dtype, "%s: dtype is %s, must be float32, float64, float16 or bfloat16", what,
         dtype_name(dtype));
  return dtype;
}

void check_rank(const char *what, const bn2d_view &view, int32_t rank, const char *more = "") {
  check_device(what, view.device_type, view.device_id);
  if (view.ndim != rank)
    fail(Status::shape, "%s has rank %" PRId32 ", must be %" PRId32 "%s", what, view.ndim, rank,
         more);
  if (rank > 0 && view.shape == nullptr) fail(Status::invalid_argument, "%s: shape is NULL", what);
}

void set_data(const char *what, const bn2d_view &view, View &out) {
  if (view.data == nullptr && out.size.numel() > 0)
    fail(Status::invalid_argument, "%s: data is NULL, but the shape has %" PRId64 " elements", what,
         out.size.numel());
  out.data = address_of(what, view);
}

// (N, C/block, H, W, block)
View blocked_view_of(const char *what, const bn2d_view &view) {
  check_rank(what, view, 5);
  const int64_t *const shape = view.shape, block = shape[4];
  const DType dtype = data_dtype_of(what, view);
  Extents size = {shape[0], 0, shape[2], shape[3]};
  for (const int64_t extent : {shape[1], block})
    if (extent < 0)
      fail(Status::shape, "%s: extent C is %" PRId64 " blocks of %" PRId64 ", must be 0 or more",
           what, shape[1], block);
  if (__builtin_mul_overflow(shape[1], block, &size.c))
    fail(Status::overflow, "%s: %" PRId64 " blocks of %" PRId64 " channels leave 64 bits", what,
         shape[1], block);
  check_extents(what, size);
  View out = contiguous_view(nullptr, dtype, size);
  if (size.numel() != 0) {
    const int64_t row = block * size.w, plane = row * size.h;
    const int64_t contiguous[5] = {shape[1] * plane, plane, row, block, 1};
    const int64_t *const strides = view.strides != nullptr ? view.strides : contiguous;
    out.stride = {strides[0], strides[4], strides[2], strides[3]};
    set_channel_blocks(out, block, strides[1]);
    normalise_strides(out);
  }
  set_data(what, view, out);
  return out;
}

}  // namespace

View view_of(const char *what, const bn2d_view *given) {
  const bn2d_view &view = *required(given, what);
  if (view.ndim == 5) return blocked_view_of(what, view);
  check_rank(what, view, 4, ", or 5 with blocks of channels");
  const Extents size = {view.shape[0], view.shape[1], view.shape[2], view.shape[3]};
  const DType dtype = data_dtype_of(what, view);
  check_extents(what, size);
  View out = contiguous_view(nullptr, dtype, size);
  if (view.strides != nullptr) {
    out.stride = {view.strides[0], view.strides[1], view.strides[2], view.strides[3]};
    normalise_strides(out);
  }
  set_data(what, view, out);
  return out;
}

View optional_view_of(const char *what, const bn2d_view *view) {
  return view == nullptr ? View() : view_of(what, view);
}

View vector_view_of(const char *what, const bn2d_view *given, int32_t rank, int64_t length) {
  const bn2d_view &view = *required(given, what);
  const bool is_one_of_rank_1 = rank == 0 && view.ndim == 1;  // how many hosts keep a scalar
  if (is_one_of_rank_1) rank = 1;
  check_rank(what, view, rank);
  const int64_t extent = rank == 0 ? 1 : view.shape[0];
  const DType dtype = dtype_of(what, view);
  if (extent != length)
    fail(Status::shape, "%s has %" PRId64 " elements, the tensor has %" PRId64, what, extent,
         length);
  View out = contiguous_view(nullptr, dtype, {1, extent, 1, 1});
  if (rank > 0 && view.strides != nullptr) {
    out.stride.c = view.strides[0];
    normalise_strides(out);
  }
  set_data(what, view, out);
  check_layout(what, out);
  return out;
}

View contiguous_of(const char *what, const void *data, DType dtype, int64_t n, int64_t c, int64_t h,
                   int64_t w) {
  const Extents size = {n, c, h, w};
  check_extents(what, size);
  return contiguous_view(const_cast<void *>(data), dtype, size);
}

void set_type(DType dtype, bn2d_view *view) {
  view->device_type = BN2D_CPU;
  view->dtype_code = dtype == DType::i64 ? kInt : dtype == DType::bf16 ? kBfloat : kFloat;
  view->dtype_bits = static_cast<uint8_t>(8 * dtype_size(dtype));
  view->dtype_lanes = 1;
}

void copy_text(const std::string &text, char *buffer, uint64_t capacity, uint64_t *length) {
  if (capacity > 0) {
    required(buffer, "buffer");
    if (text.size() + 1 > capacity)
      fail(Status::buffer_too_small, "the text needs %zu bytes, the buffer has %" PRIu64,
           text.size() + 1, capacity);
    std::memcpy(buffer, text.c_str(), text.size() + 1);
  }
  if (length != nullptr) *length = text.size();
}

}  // namespace bn2d::capi
