#include "ops/low_part_of_mean.h"

namespace bn2d {

LowPartOfMean::LowPartOfMean(const View &x, const SetShape &sets, const SavedStatistics &saved,
                             int32_t thread_limit, const Pool *pool, bool wanted)
    : scratch_(wanted ? static_cast<size_t>(2 * sets.of(x.size).count()) * sizeof(double) : 0) {
  if (!wanted) return;
  const int64_t count = sets.of(x.size).count();
  double *const mean = static_cast<double *>(scratch_.data());
  low_ = mean + count;
  ForwardCall statistics;  // without y: no map
  statistics.x = x;
  statistics.sets = sets;
  statistics.saved.mean = mean;
  statistics.saved.mean_lo = low_;
  statistics.thread_limit = thread_limit;
  statistics.pool = pool;
  forward(statistics);
  for (int64_t set = 0; set < count; ++set)
    if (mean[set] != saved.mean[set]) low_[set] = 0;
}

}  // namespace bn2d
