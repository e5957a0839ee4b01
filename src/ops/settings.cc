#include "ops/settings.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#include "base/cancel.h"
#include "parallel/parallel.h"

namespace bn2d {
namespace {

std::atomic<int32_t> g_thread_limit{0};
std::atomic<int64_t> g_streaming_threshold{-1};

// Asked at first use. No static local: the lock around its initialisation might be another thread's
// in a fork.
int64_t l2_bytes() {
  static std::atomic<int64_t> known{0};
  int64_t bytes = known.load(std::memory_order_relaxed);
  if (bytes > 0) return bytes;
#ifdef _SC_LEVEL2_CACHE_SIZE
  const NotCancellable whole;  // it may read files
  bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
  if (bytes <= 0) bytes = 1 << 20;
  known.store(bytes, std::memory_order_relaxed);
  return bytes;
}

// Whether this thread makes its calls one after another: then the workers, which in oneTBB look for
// work for some 60 us before they fall asleep, are still awake. Training of (1,512,7,7) takes
// 11.8 us on one thread, on two 8.5; and 20 where something else takes 80 us between two calls.
bool calls_in_a_row() {
  constexpr std::chrono::microseconds kStillAwake{50};
  constexpr int kCallsOfARow = 4;  // the first one wakes a worker up
  thread_local std::chrono::steady_clock::time_point last{};
  thread_local int calls = 0;
  const auto now = std::chrono::steady_clock::now();
  calls = now - last < kStillAwake ? std::min(calls + 1, kCallsOfARow) : 1;
  last = now;
  return calls == kCallsOfARow;
}

}  // namespace

void set_thread_limit(int32_t threads) { g_thread_limit.store(threads, std::memory_order_relaxed); }
int32_t thread_limit() { return g_thread_limit.load(std::memory_order_relaxed); }
void set_streaming_threshold(int64_t bytes) {
  g_streaming_threshold.store(bytes < 0 ? -1 : bytes, std::memory_order_relaxed);
}
int64_t streaming_threshold() { return g_streaming_threshold.load(std::memory_order_relaxed); }

Machine machine_for_call(const Pool &pool, int32_t module_limit, const Work &work) {
  Machine machine;
  machine.l2_bytes = l2_bytes();
  int limit = thread_limit();
  if (module_limit > 0 && (limit == 0 || module_limit < limit)) limit = module_limit;
  // A small call does not even ask how many threads there are.
  const int64_t effort = work.effort();
  machine.least_effort = 2 * kEffortWorthAThread;
  if (limit != 1 && effort >= least_effort(work, machine)) {
    // Sums over rows of channels have two or three phases, each with a wait for the slowest thread.
    const bool has_phases = work.passes == 2 && work.order != MemoryOrder::planes;
    if (pool.kind != PoolKind::openmp && (!calls_in_a_row() || has_phases))
      machine.least_effort = kEffortWorthWaking;
    if (effort >= least_effort(work, machine)) machine.threads = available_threads(pool);
  }
  if (limit > 0) machine.threads = std::min(machine.threads, limit);
  return machine;
}

bool streams(const Work &work, const Machine &machine) {
  const int64_t set = streaming_threshold();
  if (set >= 0) return work.output_bytes() >= set;
  // Not by rows of channels, or blocks of them, which ordinary stores fetch in pieces: eval of
  // (32,2048,7,7) with channels last took up to 1.4 times as long, as nChw8c 1.3.
  const bool once = work.passes == 1 && work.order == MemoryOrder::planes;
  return work.bytes() >= (once ? machine.cached_bytes_of_one_pass() : machine.cached_bytes());
}

}  // namespace bn2d
