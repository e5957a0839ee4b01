#include "ops/extreme.h"

namespace bn2d::extreme {

unbounded::Moments moments(const Blockwise &blockwise, int64_t channel, void *buffer) {
  int64_t count = 0;
  unbounded::Sum sum;
  blockwise.visit(channel, buffer, [&](const kernels::MapJob &job) {
    unbounded::add_elements(job, &sum);
    count += unbounded::count(job);
  });
  unbounded::Moments moments = {sum.divided_by(static_cast<double>(count)), {}};
  blockwise.visit(channel, buffer, [&](const kernels::MapJob &job) { unbounded::add_squares(job, &moments); });
  return moments;
}

}  // namespace bn2d::extreme
