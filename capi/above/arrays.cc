#include "above/arrays.h"

#include <cinttypes>

#include "above/call.h"
#include "address.h"
#include "arrays/array.h"
#include "guard.h"

namespace bn2d::capi {
namespace {

void check_rank(const char *what, int32_t rank, const int64_t *shape) {
  if (rank < 0 || rank > kMostRank)
    fail(Status::shape, "%s has rank %" PRId32 ", must be from 0 to %" PRId32, what, rank,
         kMostRank);
  if (rank > 0 && shape == nullptr) fail(Status::invalid_argument, "%s: shape is NULL", what);
}

}  // namespace

Array array_of(const char *what, const bn2d_view *given, bool is_written) {
  const bn2d_view &view = *required(given, what);
  if (view.device_type != BN2D_CPU || view.device_id != 0)
    fail(Status::device,
         "%s: device (%" PRId32 ", %" PRId32 ") is unsupported, only the CPU's memory works", what,
         view.device_type, view.device_id);
  check_rank(what, view.ndim, view.shape);
  Array array;
  array.type = view.dtype_lanes == 1 ? element_type(view.dtype_code, view.dtype_bits) : nullptr;
  if (array.type == nullptr)
    fail(Status::dtype, "%s: safetensors has no DLPack dtype (code %d, bits %d, lanes %d)", what,
         view.dtype_code, view.dtype_bits, view.dtype_lanes);
  array.shape.assign(view.shape, view.shape + view.ndim);
  array.stride = view.strides == nullptr
                     ? contiguous_strides(array.shape)
                     : std::vector<int64_t>(view.strides, view.strides + view.ndim);
  array.data = address_of(what, view);
  checked_nbytes(what, array, is_written);
  return array;
}

Array array_of(const char *what, int32_t dtype, const int64_t *shape, int32_t rank,
               const void *data, bool is_written) {
  check_rank(what, rank, shape);
  Array array;
  array.type = dtype_size(static_cast<DType>(dtype)) == 0 ? nullptr
                                                          : element_type(static_cast<DType>(dtype));
  if (array.type == nullptr) fail(Status::dtype, "%s: dtype %" PRId32 " is unknown", what, dtype);
  array.shape.assign(shape, shape + rank);
  array.stride = contiguous_strides(array.shape);
  array.data = static_cast<std::byte *>(const_cast<void *>(data));
  checked_nbytes(what, array, is_written);
  return array;
}

Array array_of(const bn2d_tensor *tensor) {
  int32_t dtype = 0, rank = 0;
  int64_t length = 1;
  void *data = nullptr;
  check(bn2d_tensor_dtype(tensor, &dtype));
  check(bn2d_tensor_rank(tensor, &rank));
  if (rank > 0) check(bn2d_tensor_dim(tensor, 0, &length));
  check(bn2d_tensor_data(tensor, &data));
  return array_of("tensor", dtype, &length, rank, data, true);
}

}  // namespace bn2d::capi
