// As many threads as a test asks for, whatever the machine has: a limit of 7 alone would be 2 on
// two cores.
#pragma once
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include "support/numerics_fixture.h"

namespace numerics {

class ManyThreads {
 public:
  static constexpr int kMost = 7;

  // What f returns, with `count` threads for each call that it makes.
  template <class F>
  auto with(int32_t count, const F &f) {
    const Threads limit(count);
    return arena_.execute(f);
  }

 private:
  const tbb::global_control more_{tbb::global_control::max_allowed_parallelism, kMost + 1};
  tbb::task_arena arena_{kMost};
};

}  // namespace numerics
