// Mean and 1/std of the sets of a backward, as numbers of unbounded exponent.
#pragma once
#include <cmath>
#include <optional>

#include "base/scratch.h"
#include "ops/blockwise.h"
#include "ops/operations.h"
#include "ops/unbounded.h"

namespace bn2d {

// A saved 1/std that no normal double holds is 0, infinite or has lost bits: with eps 0,
// x = (1e-320, 2e-320) has one of 2e320. Then x tells more, and is measured again where 1/std is
// what came of it. The time is that of another pass over such a set.
class UnboundedStatistics {
 public:
  explicit UnboundedStatistics(const BackwardCall &call);

  unbounded::Sum::Mean mean(int64_t set) const {
    if (measured_) return measured_[set].mean;
    return {saved_.mean ? saved_.mean[set] : 0, saved_.mean_lo ? saved_.mean_lo[set] : 0};
  }
  unbounded::Number invstd(int64_t set) const {
    return measured_ ? measured_[set].invstd : saved_.invstd[set];
  }

 private:
  struct Measured {
    unbounded::Sum::Mean mean;
    unbounded::Number invstd;
  };
  static bool is_held(double invstd) { return invstd >= 0x1p-1022 && std::isfinite(invstd); }
  bool must_measure(const BackwardCall &call, const Sets &sets) const;
  void measure(const BackwardCall &call, const Sets &sets);

  const SavedStatistics &saved_;
  std::optional<Scratch> scratch_;
  Measured *measured_ = nullptr;  // one for each set; NULL: all are held
};

}  // namespace bn2d
