#include "ops/settings.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>

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
  if (pool.kind == PoolKind::openmp) machine.least_effort = 2 * kEffortWorthAThread;
  int limit = thread_limit();
  if (module_limit > 0 && (limit == 0 || module_limit < limit)) limit = module_limit;
  // A small call does not even ask how many threads there are.
  if (limit != 1 && work.effort() >= least_effort(work, machine))
    machine.threads = available_threads(pool);
  if (limit > 0) machine.threads = std::min(machine.threads, limit);
  return machine;
}

bool streams(const Work &work, const Machine &machine) {
  const int64_t set = streaming_threshold();
  return set >= 0 ? work.output_bytes() >= set : work.bytes() >= machine.cached_bytes();
}

}  // namespace bn2d
