#include "ops/exact_mean.h"

namespace bn2d {

ExactMean::ExactMean(const View &x, const SavedStatistics &saved, int32_t thread_limit, const Pool *pool, bool wanted)
    : scratch_(wanted ? static_cast<size_t>(2 * x.size.c) * sizeof(double) : 0) {
  if (!wanted) return;
  double *const mean = static_cast<double *>(scratch_.data());
  low_ = mean + x.size.c;
  ForwardCall statistics;  // without y: no map
  statistics.x = x;
  statistics.saved.mean = mean;
  statistics.saved.mean_lo = low_;
  statistics.thread_limit = thread_limit;
  statistics.pool = pool;
  forward(statistics);
  for (int64_t c = 0; c < x.size.c; ++c)
    if (mean[c] != saved.mean[c]) low_[c] = 0;
}

}  // namespace bn2d
