#include "ops/extreme.h"

namespace bn2d::extreme {

unbounded::Moments moments(const Blockwise &blockwise, int64_t channel, void *buffer) {
  unbounded::Sum sum;
  blockwise.visit_set(channel, buffer,
                      [&](const kernels::MapJob &job) { unbounded::add_elements(job, &sum); });
  unbounded::Moments moments = {sum.divided_by(static_cast<double>(blockwise.sets().values())), {}};
  blockwise.visit_set(channel, buffer,
                      [&](const kernels::MapJob &job) { unbounded::add_squares(job, &moments); });
  return moments;
}

}  // namespace bn2d::extreme
