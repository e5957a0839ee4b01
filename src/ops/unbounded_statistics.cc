#include "ops/unbounded_statistics.h"

#include <algorithm>
#include <new>

#include "ops/extreme.h"
#include "ops/merge.h"
#include "ops/settings.h"
#include "parallel/parallel.h"

namespace bn2d {

UnboundedStatistics::UnboundedStatistics(const BackwardCall &call) : saved_(call.saved) {
  const Sets sets = call.sets.of(call.dy.size);
  if (must_measure(call, sets)) measure(call, sets);
}

// Floats have 1/std in double, which holds all of theirs.
bool UnboundedStatistics::must_measure(const BackwardCall &call, const Sets &sets) const {
  return call.dy.dtype == DType::f64 && call.has_statistics_of_x() &&
         !std::all_of(saved_.invstd, saved_.invstd + sets.count(), is_held);
}

[[gnu::cold]] void UnboundedStatistics::measure(const BackwardCall &call, const Sets &sets) {
  Tensors tensors;
  tensors.x = call.x;
  const Sets merged = merge_samples(sets, &tensors);
  const Blockwise blockwise(tensors, merged, call.x.dtype);
  const Pool &pool = pool_or_default(call.pool);
  Work work;
  work.size = merged.counted();
  work.element_bytes = sizeof(double);
  const int workers = useful_workers(work, machine_for_call(pool, call.thread_limit, work));
  const int64_t count = sets.count(), buffer_bytes = blockwise.buffer_bytes();
  // Buffers first: they want the alignment of the memory.
  scratch_.emplace(static_cast<size_t>(workers * buffer_bytes) +
                   static_cast<size_t>(count) * sizeof(Measured));
  std::byte *const buffers = static_cast<std::byte *>(scratch_->data());
  auto *const measured = reinterpret_cast<Measured *>(buffers + workers * buffer_bytes);
  auto unit = [&](int64_t set, int worker) {
    Measured &of_set = *new (measured + set) Measured{mean(set), invstd(set)};
    if (is_held(saved_.invstd[set])) return;
    const unbounded::Moments moments =
        extreme::moments(blockwise, set * sets.channels, buffers + worker * buffer_bytes);
    const unbounded::Number exact =
        moments.variance(static_cast<double>(merged.values())).inverse_sqrt();
    if (exact.to_double() == saved_.invstd[set]) of_set = {moments.mean, exact};
  };
  for_each_unit(pool, workers, count, Order::forward, unit);
  measured_ = measured;
}

}  // namespace bn2d
