// Whole tensors as packed NCHW in the arithmetic type: for operations in several steps, which need
// memory for what is between them anyway.
#pragma once
#include <algorithm>

#include "ops/settings.h"
#include "parallel/parallel.h"
#include "tensor/view.h"

namespace bn2d {

class PackedTensors {
 public:
  // Of tensors of `dtype`. thread_limit: as in the calls.
  PackedTensors(const Extents &size, DType dtype, const Pool &pool, int32_t thread_limit)
      : size_(size), dtype_(dtype), pool_(pool), thread_limit_(thread_limit) {}

  // Whether a tensor is like that as it is.
  bool has(const View &view) const { return is_contiguous(view) && !is_half(); }
  // Bytes of a packed one, in whole cache lines.
  int64_t bytes() const { return bytes_of(arithmetic_dtype(dtype_)); }
  // Bytes that load() and store() need beside, for this tensor.
  int64_t half_bytes(const View &tensor) const {
    return tensor.exists() && is_half() && !is_contiguous(tensor) ? bytes_of(dtype_) : 0;
  }
  View in(std::byte *memory) const {
    return contiguous_view(memory, arithmetic_dtype(dtype_), size_);
  }

  // To and from a packed one. `halves`: memory of half_bytes().
  void load(const View &tensor, const View &packed, std::byte *halves) const;
  void store(const View &packed, const View &tensor, std::byte *halves) const;
  void copy(const View &from, const View &to) const;

  // Calls f(first element, count) for stretches of all elements, on several threads. reads: tensors
  // that f reads.
  template <class F>
  void for_runs(int reads, const F &f) const {
    constexpr int64_t kRun = 1 << 14;
    auto unit = [&](int64_t run) { f(run * kRun, std::min(kRun, size_.numel() - run * kRun)); };
    for_each_unit(pool_, workers(reads), divide_up(size_.numel(), kRun), Order::forward, unit);
  }
  int workers(int reads) const;

 private:
  bool is_half() const { return dtype_size(dtype_) == 2; }
  int64_t bytes_of(DType dtype) const;
  void convert(const View &halves, const View &floats, bool loads) const;

  const Extents size_;
  const DType dtype_;
  const Pool &pool_;
  const int32_t thread_limit_;
};

}  // namespace bn2d
