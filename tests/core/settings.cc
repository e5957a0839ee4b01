// How many threads a call may use, and whether it stores past the caches.
#include "ops/settings.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "parallel/parallel.h"
#include "support/catch.h"

namespace {

using namespace bn2d;

struct Limit {
  explicit Limit(int32_t threads) { set_thread_limit(threads); }
  ~Limit() { set_thread_limit(0); }
};

Work work_of(const Extents &size) {
  Work work;
  work.size = size;
  work.reads = 2;
  work.passes = 2;
  return work;
}

int threads_of(int32_t process, int32_t module, const Work &work) {
  const Limit limit(process);
  Pool pool;  // of a host that has eight threads, whatever the machine has
  pool.kind = PoolKind::host;
  pool.run = [](void *, int32_t, WorkerFunction, void *) {};
  pool.threads = 8;
  return machine_for_call(pool, module, work).threads;
}

int threads_of(const Work &work) {
  const Pool pool;
  return machine_for_call(pool, 2, work).threads;
}

}  // namespace

TEST_CASE(
    "work that is not worth waking up a thread is shared where calls come one after another: one "
    "that waits for a worker, or never asks for one, would be caught",
    "[settings]") {
  Work work = work_of({1, 512, 7, 7});
  REQUIRE(work.effort() < kEffortWorthWaking);
  REQUIRE(work.effort() >= 2 * kEffortWorthAThread);
  const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
  pause();
  for (int i = 0; i < 3; ++i) {
    pause();
    CHECK(threads_of(work) == 1);
  }
  // A thread that is interrupted may begin again.
  int most = 1;
  for (int i = 0; i < 1000; ++i) most = std::max(most, threads_of(work));
  CHECK(most == std::min(2, available_threads(Pool())));
  pause();
  CHECK(threads_of(work) == 1);
  // Sums that have two or three phases wait too often for that.
  Work rows = work;
  rows.order = MemoryOrder::channels;
  for (int i = 0; i < 100; ++i) CHECK(threads_of(rows) == 1);
  work.size = {1, 16, 8, 8};
  for (int i = 0; i < 100; ++i) CHECK(threads_of(work) == 1);
}

TEST_CASE(
    "the stricter of two thread limits holds: the laxer one, or one that is forgotten, would be "
    "caught",
    "[settings]") {
  const Work large = work_of({32, 64, 56, 56});
  CHECK(threads_of(0, 0, large) == 8);
  CHECK(threads_of(5, 0, large) == 5);
  CHECK(threads_of(0, 5, large) == 5);
  CHECK(threads_of(3, 6, large) == 3);
  CHECK(threads_of(6, 3, large) == 3);
  CHECK(threads_of(1, 6, large) == 1);
  CHECK(threads_of(6, 1, large) == 1);
  CHECK(threads_of(100, 200, large) == 8);
  CHECK(threads_of(0, 0, work_of({1, 3, 4, 4})) == 1);  // not worth a question
}

TEST_CASE("an output streams from the threshold on: one that is off by a byte would be caught",
          "[settings]") {
  const Work work = work_of({2, 3, 5, 7});
  Machine machine;
  const int64_t before = streaming_threshold();
  set_streaming_threshold(work.output_bytes());
  CHECK(streams(work, machine));
  set_streaming_threshold(work.output_bytes() + 1);
  CHECK_FALSE(streams(work, machine));
  set_streaming_threshold(0);
  CHECK(streams(work, machine));
  set_streaming_threshold(-5);  // by the size of the caches
  CHECK(streaming_threshold() == -1);
  machine.l2_bytes = work.bytes() / 16;
  CHECK(streams(work, machine));
  machine.l2_bytes = work.bytes() / 16 + 1;
  CHECK_FALSE(streams(work, machine));
  // One pass: twice as much, but not more than 32 MiB, if not that much anyway.
  Work once = work_of({1, 1, 1 << 10, 1 << 11});
  once.passes = 1;
  once.reads = 1;
  REQUIRE(once.bytes() == 16 << 20);
  for (const auto &[threads, from] : {std::pair{1, 16}, {2, 32}, {3, 32}, {4, 32}, {5, 40}}) {
    machine = {threads, 1 << 20};
    once.size.n = from / 16;
    once.size.w = (from << 20) / 8 / once.size.n / once.size.h;
    CHECK(streams(once, machine));
    --once.size.w;
    CHECK_FALSE(streams(once, machine));
  }
  set_streaming_threshold(before);
}
