#include "parallel/pool.h"

#include <atomic>
#include <cinttypes>

#include "base/error.h"
#include "base/fork.h"
#include "parallel/parallel.h"

namespace bn2d {
namespace {

constexpr Pool kTbb = {PoolKind::tbb, nullptr, nullptr, 0};
constexpr Pool kOpenMp = {PoolKind::openmp, nullptr, nullptr, 0};

std::atomic<const Pool *> g_process{&kTbb};

// The pools of hosts: a list that only grows. A host that sets the same pool again finds it here.
struct HostPool {
  Pool pool;
  HostPool *next;
};
std::atomic<HostPool *> g_host_pools{nullptr};

bool same(const Pool &a, const Pool &b) {
  return a.run == b.run && a.user == b.user && a.threads == b.threads && a.set_since == b.set_since;
}

}  // namespace

PoolKind checked_pool_kind(int32_t kind) {
  if (kind < static_cast<int32_t>(PoolKind::process) ||
      kind > static_cast<int32_t>(PoolKind::openmp))
    fail(Status::invalid_argument,
         "thread pool is %" PRId32
         ", known are default (0), oneTBB (1) and OpenMP (2); a host's has a function",
         kind);
  return static_cast<PoolKind>(kind);
}

const Pool *pool_of(PoolKind kind) {
  if (kind == PoolKind::openmp && !find_openmp())
    fail(Status::not_found,
         "no OpenMP runtime (libgomp, libomp or libiomp5) is loaded in this process");
  // The host computes with it: a fork before our first call leaves its threads behind, too.
  if (kind == PoolKind::openmp) note_pool_in_use();
  return kind == PoolKind::openmp ? &kOpenMp : &kTbb;
}

const Pool *host_pool(RunWorkers run, void *user, int32_t threads) {
  if (threads < 1)
    fail(Status::invalid_argument, "threads is %" PRId32 ", must be 1 or more", threads);
  const Pool wanted = {PoolKind::host, run, user, threads, uint64_t{fork_generation()} + 1};
  for (HostPool *known = g_host_pools.load(std::memory_order_acquire); known != nullptr;
       known = known->next)
    if (same(known->pool, wanted)) return &known->pool;
  auto *const added = new HostPool{wanted, g_host_pools.load(std::memory_order_relaxed)};
  while (!g_host_pools.compare_exchange_weak(added->next, added, std::memory_order_release,
                                             std::memory_order_relaxed)) {
  }
  return &added->pool;
}

void set_process_pool(const Pool *pool) { g_process.store(pool, std::memory_order_release); }
const Pool &process_pool() { return *g_process.load(std::memory_order_acquire); }

}  // namespace bn2d
