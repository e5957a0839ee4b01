// Units of work on threads: each is done once, whoever comes first.
#include <atomic>
#include <thread>
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

bool does_each_once(const Pool &pool, int workers, int64_t units, Order order) {
  Done done(units);
  auto unit = [&](int64_t k, int worker) {
    if (k < 0 || k >= units || worker < 0 || worker >= workers) {
      ++done.outside;
    } else {
      ++done.times[static_cast<size_t>(k)];
    }
  };
  for_each_unit(pool, workers, units, order, unit);
  return done.once_each();
}

// Hosts that run all workers at once, one after the other, from the last to the first, or only some
// of them.
void at_once(void *, int32_t workers, WorkerFunction work, void *context) {
  std::vector<std::thread> threads;
  for (int32_t w = 1; w < workers; ++w) threads.emplace_back([=] { work(context, w); });
  work(context, 0);
  for (std::thread &thread : threads) thread.join();
}
void backwards(void *, int32_t workers, WorkerFunction work, void *context) {
  for (int32_t w = workers - 1; w >= 0; --w) work(context, w);
}
void only_the_last(void *, int32_t workers, WorkerFunction work, void *context) {
  work(context, workers - 1);
}
void none(void *, int32_t, WorkerFunction, void *) {}

}  // namespace

TEST_CASE("each unit is done once, in both orders: a range that is off by one would be caught",
          "[parallel]") {
  Pool tbb;
  CHECK(does_each_once(tbb, 4, 1000, Order::forward));
  CHECK(does_each_once(tbb, 4, 1000, Order::reverse));
  for (const RunWorkers run : {at_once, backwards, only_the_last, none}) {
    Pool pool;
    pool.kind = PoolKind::host;
    pool.run = run;
    pool.threads = 8;
    for (const Order order : {Order::forward, Order::reverse})
      for (const int workers : {1, 2, 3, 8, 16, 17, 64})
        for (const int64_t units : {0, 1, 2, 7, 16, 17, 100, 1000}) {
          if (run == at_once && workers > 8) continue;
          INFO("workers " << workers << " units " << units << " reverse "
                          << (order == Order::reverse));
          CHECK(does_each_once(pool, workers, units, order));
        }
  }
}
