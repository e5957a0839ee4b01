#include "module/tensor.h"

#include <cinttypes>
#include <cstdlib>

#include "base/error.h"

namespace bn2d {
namespace {

constexpr size_t kAlignment = 64;

void *allocate(const char *name, int64_t length, int64_t element_bytes) {
  const size_t bytes = static_cast<size_t>(length * element_bytes),
               rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void *data = std::aligned_alloc(kAlignment, rounded);
  if (data == nullptr)
    fail(Status::out_of_memory, "out of memory: %s takes %" PRId64 " times %" PRId64 " bytes", name,
         length, element_bytes);
  return data;
}

}  // namespace

void Tensor::Free::operator()(void *p) const { std::free(p); }

Tensor::Tensor(const char *name, const char *gradient_name, Kind kind, DType dtype, int64_t length,
               bool is_scalar, double initial)
    : requires_grad(kind == Kind::parameter),
      name_(name),
      kind_(kind),
      dtype_(dtype),
      length_(length),
      is_scalar_(is_scalar),
      storage_(allocate(name, length, dtype_size(dtype))) {
  fill(initial);
  if (kind == Kind::parameter)
    gradient_ = std::make_shared<Tensor>(gradient_name, nullptr, Kind::gradient, dtype, length,
                                         is_scalar, 0.0);
}

void Tensor::fill(double value) {
  if (dtype_ == DType::i64) {
    for (int64_t i = 0; i < length_; ++i) counter()[i] = static_cast<int64_t>(value);
  } else {
    for (int64_t i = 0; i < length_; ++i) array().set(i, value);
  }
}

}  // namespace bn2d
