// Parameters, buffers and gradients.
#include <cinttypes>
#include <cstring>

#include "convert.h"
#include "handle.h"
#include "tensor/overlap.h"

using namespace bn2d;
using namespace bn2d::capi;

namespace {

bn2d_tensor &checked_parameter(const bn2d_tensor *tensor) {
  const bn2d_tensor &t = checked(tensor, "tensor");
  if (t.gradient == nullptr)
    fail(Status::state, "%s is no parameter, only weight and bias have a gradient",
         t.value->name());
  return const_cast<bn2d_tensor &>(t);
}

View view_of_tensor(const Tensor &tensor) {
  return contiguous_view(tensor.data(), tensor.dtype(), {1, tensor.length(), 1, 1});
}

// Element by element: a tensor is a few kilobytes at most. `name` is that of the caller's memory.
void copy(const View &from, const View &to, const char *name) {
  if ((from.dtype == DType::i64) != (to.dtype == DType::i64))
    fail(Status::dtype, "cannot convert %s to %s, int64 goes only to int64", dtype_name(from.dtype),
         dtype_name(to.dtype));
  if (overlaps_itself(to))
    fail(Status::layout, "the elements of %s share memory with stride %" PRId64, name, to.stride.c);
  if (share_memory(from, to))
    fail(Status::overlap, "%s shares memory with the tensor: they are at %p and %p", name,
         static_cast<void *>(from.data), static_cast<void *>(to.data));
  for (int64_t c = 0; c < from.size.c; ++c) {
    const std::byte *source = from.at(0, c, 0, 0);
    std::byte *target = to.at(0, c, 0, 0);
    if (from.dtype == to.dtype) {
      std::memcpy(target, source, static_cast<size_t>(dtype_size(from.dtype)));
    } else {
      store_element(to.dtype, target, 0, load_element(from.dtype, source, 0));
    }
  }
}

void copy_from(const bn2d_tensor *tensor, const char *name, const bn2d_view *source) {
  const Tensor &t = *checked(tensor, "tensor").value;
  copy(vector_view_of(name, source, t.rank(), t.length()), view_of_tensor(t), name);
}
void copy_to(const bn2d_tensor *tensor, const char *name, const bn2d_view *target) {
  const Tensor &t = *checked(tensor, "tensor").value;
  copy(view_of_tensor(t), vector_view_of(name, target, t.rank(), t.length()), name);
}

// A tensor of rank 1, or the one element of a scalar.
struct FlatVector {
  int64_t length;
  bn2d_view view = {};
  FlatVector(const bn2d_tensor *tensor, int32_t dtype, const void *data, int64_t elements)
      : length(elements) {
    const Tensor &t = *checked(tensor, "tensor").value;
    required(data, "data");
    if (dtype_size(static_cast<DType>(dtype)) == 0)
      fail(Status::dtype, "dtype %" PRId32 " is unknown", dtype);
    if (elements != t.length())
      fail(Status::shape, "data has %" PRId64 " elements, the tensor has %" PRId64, elements,
           t.length());
    view.data = const_cast<void *>(data);
    set_type(static_cast<DType>(dtype), &view);
    view.ndim = t.rank();
    view.shape = &length;
  }
  FlatVector(const FlatVector &) = delete;
};

}  // namespace

int32_t bn2d_tensor_retain(bn2d_tensor *tensor) {
  return guarded([&] { retain(tensor, "tensor"); });
}
void bn2d_tensor_release(bn2d_tensor *tensor) { release(tensor); }

int32_t bn2d_tensor_name(const bn2d_tensor *tensor, const char **out) {
  return get(tensor, out, [](const Tensor &t) { return t.name(); });
}
int32_t bn2d_tensor_kind(const bn2d_tensor *tensor, int32_t *out) {
  return get(tensor, out, [](const Tensor &t) { return static_cast<int32_t>(t.kind()); });
}
int32_t bn2d_tensor_dtype(const bn2d_tensor *tensor, int32_t *out) {
  return get(tensor, out, [](const Tensor &t) { return static_cast<int32_t>(t.dtype()); });
}
int32_t bn2d_tensor_rank(const bn2d_tensor *tensor, int32_t *out) {
  return get(tensor, out, [](const Tensor &t) { return t.rank(); });
}
int32_t bn2d_tensor_dim(const bn2d_tensor *tensor, int32_t dimension, int64_t *out) {
  return get(tensor, out, [dimension](const Tensor &t) {
    if (dimension < 0 || dimension >= t.rank())
      fail(Status::not_found, "dimension %" PRId32 " does not exist, %s has rank %" PRId32,
           dimension, t.name(), t.rank());
    return t.length();
  });
}
int32_t bn2d_tensor_nbytes(const bn2d_tensor *tensor, uint64_t *out) {
  return get(tensor, out, [](const Tensor &t) { return static_cast<uint64_t>(t.nbytes()); });
}
int32_t bn2d_tensor_data(const bn2d_tensor *tensor, void **out) {
  return get(tensor, out, [](const Tensor &t) { return t.data(); });
}

int32_t bn2d_tensor_grad(const bn2d_tensor *tensor, bn2d_tensor **out) {
  return guarded([&] {
    required(out, "out");
    *out = retain(handle_of(checked_parameter(tensor).gradient), "gradient");
  });
}
int32_t bn2d_tensor_requires_grad(const bn2d_tensor *tensor, int32_t *out) {
  return get(tensor, out, [](const Tensor &t) {
    return t.requires_grad.load(std::memory_order_relaxed) ? 1 : 0;
  });
}
int32_t bn2d_tensor_set_requires_grad(bn2d_tensor *tensor, int32_t requires_grad) {
  return guarded([&] {
    const bool value = checked_flag("requires_grad", requires_grad);
    checked_parameter(tensor).value->requires_grad.store(value, std::memory_order_relaxed);
  });
}

int32_t bn2d_tensor_copy_from(bn2d_tensor *tensor, const bn2d_view *source) {
  return guarded([&] { copy_from(tensor, "source", source); });
}
int32_t bn2d_tensor_copy_to(const bn2d_tensor *tensor, const bn2d_view *target) {
  return guarded([&] { copy_to(tensor, "target", target); });
}
int32_t bn2d_tensor_copy_from_flat(bn2d_tensor *tensor, int32_t dtype, const void *data,
                                   int64_t length) {
  return guarded([&] {
    const FlatVector source(tensor, dtype, data, length);
    copy_from(tensor, "data", &source.view);
  });
}
int32_t bn2d_tensor_copy_to_flat(const bn2d_tensor *tensor, int32_t dtype, void *data,
                                 int64_t length) {
  return guarded([&] {
    const FlatVector target(tensor, dtype, data, length);
    copy_to(tensor, "data", &target.view);
  });
}
