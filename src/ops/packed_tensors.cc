#include "ops/packed_tensors.h"

#include <cstring>

#include "base/cache_line.h"
#include "kernels/kernels.h"
#include "ops/copy_elements.h"

namespace bn2d {

int64_t PackedTensors::bytes_of(DType dtype) const {
  return in_lines(size_.numel() * dtype_size(dtype));
}

void PackedTensors::load(const View &tensor, const View &packed, std::byte *halves) const {
  if (!is_half()) return copy(tensor, packed);
  const View as_it_is = is_contiguous(tensor) ? tensor : contiguous_view(halves, dtype_, size_);
  if (!is_contiguous(tensor)) copy(tensor, as_it_is);
  convert(as_it_is, packed, true);
}

void PackedTensors::store(const View &packed, const View &tensor, std::byte *halves) const {
  if (!is_half()) return copy(packed, tensor);
  const View as_it_is = is_contiguous(tensor) ? tensor : contiguous_view(halves, dtype_, size_);
  convert(as_it_is, packed, false);
  if (!is_contiguous(tensor)) copy(as_it_is, tensor);
}

void PackedTensors::copy(const View &from, const View &to) const {
  if (!is_contiguous(from) || !is_contiguous(to))
    return copy_elements(from, to, pool_, thread_limit_);
  const int64_t bytes = dtype_size(from.dtype);
  for_runs(1, [&](int64_t first, int64_t count) {
    std::memcpy(to.data + first * bytes, from.data + first * bytes,
                static_cast<size_t>(count * bytes));
  });
}

int PackedTensors::workers(int reads) const {
  Work work;
  work.size = size_;
  work.reads = reads;
  return useful_workers(work, machine_for_call(pool_, thread_limit_, work));
}

void PackedTensors::convert(const View &halves, const View &floats, bool loads) const {
  const kernels::TypeKernels &kernels = kernels::active().of(dtype_);
  for_runs(1, [&](int64_t first, int64_t count) {
    std::byte *const half = halves.data + 2 * first, *const wide = floats.data + 4 * first;
    if (loads) {
      kernels.load_array(half, count, wide);
    } else {
      kernels.store_array(wide, count, half, false);
    }
  });
}

}  // namespace bn2d
