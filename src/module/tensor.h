// A named tensor of a module: parameter, buffer or gradient. Owns its storage, which never moves.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>

#include "ops/operations.h"
#include "tensor/view.h"

namespace bn2d {

class Tensor {
 public:
  enum class Kind : int32_t { parameter = 1, buffer = 2, gradient = 3 };

  // `length` elements, all `initial`; a scalar where is_scalar. A parameter gets its gradient.
  Tensor(const char *name, const char *gradient_name, Kind kind, DType dtype, int64_t length,
         bool is_scalar, double initial);

  const char *name() const { return name_; }
  Kind kind() const { return kind_; }
  DType dtype() const { return dtype_; }
  int32_t rank() const { return is_scalar_ ? 0 : 1; }
  int64_t length() const { return length_; }
  int64_t nbytes() const { return length_ * dtype_size(dtype_); }
  void *data() const { return storage_.get(); }
  ChannelArray array() const { return {dtype_, data()}; }
  int64_t *counter() const { return static_cast<int64_t *>(data()); }  // of an int64 scalar
  void fill(double value);

  const std::shared_ptr<Tensor> &gradient() const { return gradient_; }  // of a parameter
  std::atomic<bool> requires_grad;

 private:
  struct Free {
    void operator()(void *p) const;
  };
  const char *name_;
  Kind kind_;
  DType dtype_;
  int64_t length_;
  bool is_scalar_;
  std::unique_ptr<void, Free> storage_;
  std::shared_ptr<Tensor> gradient_;
};

}  // namespace bn2d
