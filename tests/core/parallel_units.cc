// Units of work on threads: each is done once, whoever comes first.
#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include <atomic>
#include <vector>

#include "parallel/parallel.h"
#include "support/catch.h"

using namespace bn2d;

namespace {

// How often a unit was done, and whether one was out of range.
struct Done {
  explicit Done(int64_t units) : times(static_cast<size_t>(units)) {}
  std::vector<std::atomic<int>> times;
  std::atomic<int> outside{0};
  bool once_each() const {
    for (const std::atomic<int> &count : times)
      if (count.load() != 1) return false;
    return outside.load() == 0;
  }
};

bool does_each_once(int workers, int64_t units, Order order) {
  Done done(units);
  auto unit = [&](int64_t k, int worker) {
    if (k < 0 || k >= units || worker < 0 || worker >= workers) {
      ++done.outside;
    } else {
      ++done.times[static_cast<size_t>(k)];
    }
  };
  for_each_unit(workers, units, order, unit);
  return done.once_each();
}

}  // namespace

TEST_CASE("each unit is done once, in both orders: a range that is off by one would be caught", "[parallel]") {
  const tbb::global_control more(tbb::global_control::max_allowed_parallelism, 8);
  tbb::task_arena arena(8);
  arena.execute([] {
    for (const Order order : {Order::forward, Order::reverse})
      for (const int workers : {1, 2, 3, 8, 16, 17, 64, 512, 600})
        for (const int64_t units : {0, 1, 2, 7, 16, 17, 100, 1000}) {
          INFO("workers " << workers << " units " << units << " reverse " << (order == Order::reverse));
          CHECK(does_each_once(workers, units, order));
        }
  });
}
