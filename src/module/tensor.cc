#include "module/tensor.h"

#include <cstdlib>
#include <new>

namespace bn2d {
namespace {

constexpr size_t kAlignment = 64;

void *allocate(int64_t bytes) {
  const size_t rounded = (static_cast<size_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
  void *data = std::aligned_alloc(kAlignment, rounded);
  if (data == nullptr) throw std::bad_alloc();
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
      storage_(allocate(length * dtype_size(dtype))) {
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
