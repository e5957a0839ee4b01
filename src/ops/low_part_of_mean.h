// The low part of a mean of doubles, for callers that kept only its high part.
#pragma once
#include <cstdint>

#include "base/scratch.h"
#include "ops/operations.h"

namespace bn2d {

// One double cannot hold the mean of doubles far from 0 exactly enough for a gradient: with
// x = (1e6, 1e6+1, 1e6+1) the rounding of the mean is an error of 6e-11 in each x - mean, and one
// of 4e-6 in dx, where large terms cancel. A record keeps the low part. The stateless functions
// hand out one double, so their backward takes the mean of x once more. The part is used where the
// high part is what the caller has kept. Any other mean is the caller's own, and is used as it is.
class LowPartOfMean {
 public:
  // Empty where there is nothing to mend: no doubles, no batch statistics, a low part that is
  // known.
  template <class Call>
  LowPartOfMean(const Call &call, bool needs_x)
      : LowPartOfMean(call.x, call.sets, call.saved, call.thread_limit, call.pool,
                      needs_x && call.batch_statistics && call.x.dtype == DType::f64 &&
                          call.saved.mean_lo == nullptr) {}
  double *low() const { return low_; }  // one for each set, or NULL

 private:
  LowPartOfMean(const View &x, const SetShape &sets, const SavedStatistics &saved,
                int32_t thread_limit, const Pool *pool, bool wanted);

  Scratch scratch_;
  double *low_ = nullptr;
};

}  // namespace bn2d
