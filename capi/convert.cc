#include "convert.h"

#include <cinttypes>
#include <cstring>

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
       "%s: DLPack dtype (code %d, bits %d, lanes %d) is unknown, known are float 16, 32, 64 and "
       "bfloat 16 with 1 lane",
       what, view.dtype_code, view.dtype_bits, view.dtype_lanes);
}

void check_rank(const char *what, const bn2d_view &view, int32_t rank) {
  check_device(what, view.device_type, view.device_id);
  if (view.ndim != rank)
    fail(Status::shape, "%s has rank %" PRId32 ", must be %" PRId32, what, view.ndim, rank);
  if (rank > 0 && view.shape == nullptr) fail(Status::invalid_argument, "%s: shape is NULL", what);
}

void set_data(const char *what, const bn2d_view &view, View &out) {
  if (view.data == nullptr && out.size.numel() > 0)
    fail(Status::invalid_argument, "%s: data is NULL, but the shape has %" PRId64 " elements", what,
         out.size.numel());
  uintptr_t address = reinterpret_cast<uintptr_t>(view.data);
  if (address != 0 && __builtin_add_overflow(address, view.byte_offset, &address))
    fail(Status::overflow, "%s: data %p plus byte_offset %" PRIu64 " leaves the address space",
         what, view.data, view.byte_offset);
  out.data = reinterpret_cast<std::byte *>(address);
}

}  // namespace

View view_of(const char *what, const bn2d_view *given) {
  const bn2d_view &view = *required(given, what);
  check_rank(what, view, 4);
  const Extents size = {view.shape[0], view.shape[1], view.shape[2], view.shape[3]};
  const DType dtype = dtype_of(what, view);
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
