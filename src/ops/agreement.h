// One tensor that is read in another layout than all the others of a call.
#pragma once
#include "ops/blockwise.h"
#include "parallel/pool.h"

namespace bn2d {

// Such a tensor would send the whole call through packed copies, twice where there are sums.
// Instead its elements are copied into the output once, in the layout of the others, and are read
// from there: the call is then one in place. The gradient dy of a channels_last x is often
// contiguous: by packed copies backward of (32,64,56,56) and (1,256,14,14) takes 1.5 times as long
// (`bn2d_bench --filter '^mixed/'` has the rows). Where all that is read are planes there is
// nothing to copy.
class Agreement {
 public:
  // Decides, and points `tensors` at the output. is_allowed: it shares no memory with an input, and
  // nothing else is put there before the map.
  Agreement(bool is_allowed, Tensors *tensors);
  bool exists() const { return from_.exists(); }
  // Before anything is read.
  void copy(const Pool &pool, int32_t thread_limit) const;

 private:
  View from_;
  const View &to_;
};

}  // namespace bn2d
