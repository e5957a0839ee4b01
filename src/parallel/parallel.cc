#include "parallel/parallel.h"

#include <sys/mman.h>
#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/cache_line.h"
#include "base/cancel.h"
#include "base/floating_point.h"
#include "base/fork.h"
#include "parallel/plan.h"

namespace bn2d {
namespace {

constexpr int kMaxWorkers = 512;  // whose shares take 64 KiB

// What is left of one worker's range. Its own cache line: the owner takes from it in every step.
struct alignas(kLineBytes) Share {
  std::atomic<int64_t> taken{0};
  std::atomic<bool> has_worker{false};
  int64_t begin = 0, end = 0;
};

class Sharing {
 public:
  Sharing(Share *shares, int workers, int64_t units, Order order, UnitFunction f, void (*after)())
      : shares_(shares), workers_(workers), order_(order), f_(f), after_(after) {
    for (int w = 0; w < workers; ++w) {
      shares[w].begin = share_begin(units, workers, w);
      shares[w].end = share_begin(units, workers, w + 1);
    }
  }
  // The part of one worker: its own range first, then what others have not got to. A pool that asks
  // twice for a worker, or for one that does not exist, is sent back: its memory has one thread.
  void work(int worker) {
    at_work_.fetch_add(1, std::memory_order_relaxed);
    const bool exists = worker >= 0 && worker < workers_;
    if (exists && !shares_[worker].has_worker.exchange(true, std::memory_order_acquire))
      take_units(worker);
    at_work_.fetch_sub(1, std::memory_order_release);
  }
  // What the pool has left out.
  void finish() {
    for (int w = 0; w < workers_; ++w) work(w);
    // Nobody is at work any more, unless a host's function has returned or thrown too early.
    while (at_work_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
  }

 private:
  void take_units(int worker) const {
    const QuietArithmetic quiet(mode_);
    for (int i = 0; i < workers_; ++i) {
      Share &share = shares_[(worker + i) % workers_];
      const int64_t size = share.end - share.begin;
      while (share.taken.load(std::memory_order_relaxed) < size) {
        const int64_t k = share.taken.fetch_add(1, std::memory_order_relaxed);
        if (k >= size) break;
        f_(order_ == Order::forward ? share.begin + k : share.end - 1 - k, worker);
      }
    }
    if (after_) after_();
  }

  Share *shares_;
  int workers_;
  Order order_;
  UnitFunction f_;
  void (*after_)();
  std::atomic<int> at_work_{0};
  const FloatingPointMode mode_;  // of the caller: OpenMP's and a host's workers have their own
};

void run_alone(int64_t units, Order order, UnitFunction f, void (*after)()) {
  for (int64_t k = 0; k < units; ++k) f(order == Order::forward ? k : units - 1 - k, 0);
  if (after) after();
}

void run_tbb(int workers, WorkerFunction work, void *context) {
  // Captured here, so that the workers follow the caller's floating-point mode and not that of
  // whoever made the arena.
  tbb::task_group_context settings(
      tbb::task_group_context::isolated,
      tbb::task_group_context::default_traits | tbb::task_group_context::fp_settings);
  // Isolated: while it waits, this thread must not pick up a task of the host that calls us again.
  tbb::this_task_arena::isolate([&] {
    tbb::parallel_for(
        tbb::blocked_range<int>(0, workers, 1),
        [&](const tbb::blocked_range<int> &range) {
          for (int w = range.begin(); w != range.end(); ++w) work(context, w);
        },
        tbb::simple_partitioner(), settings);
  });
}

// Whether oneTBB may be asked. Its first start must not fail: where it throws half way, for lack of
// memory, 2021.8 leaves its own lock taken, and whoever asks next spins for ever. So one thread
// starts it, without others beside it, and it is asked for nothing more once it has thrown.
enum class Engine : int { untouched, starting, ready, failed };
std::atomic<Engine> g_engine{Engine::untouched};

// Whether there is memory for the start of oneTBB. 2021.11 and 2022.1 never return without it: the
// exception waits for a lock that the start holds. It needs 1.5 MB of address space.
bool has_room_for_start() noexcept {
  constexpr size_t kBytes = 4 << 20;
  void *const room =
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return room != MAP_FAILED && munmap(room, kBytes) == 0;
}

// Whatever oneTBB does only once, it does in here.
Engine start_engine() noexcept {
  try {
    run_tbb(
        2, [](void *, int32_t) {}, nullptr);
    return Engine::ready;
  } catch (...) {
    return Engine::failed;
  }
}

// Whether oneTBB runs. The first call starts it; where there is no memory for that, a later one.
bool start_engine_once() noexcept {
  Engine engine = g_engine.load(std::memory_order_acquire);
  if (engine != Engine::untouched) return engine == Engine::ready;
  if (!has_room_for_start()) return false;
  // Who comes while another thread starts it computes alone; the bits are the same.
  if (!g_engine.compare_exchange_strong(engine, Engine::starting)) return false;
  engine = start_engine();
  g_engine.store(engine, std::memory_order_release);
  return engine == Engine::ready;
}

bool is_tbb(const Pool &pool) {
  return pool.kind != PoolKind::openmp && pool.kind != PoolKind::host;
}

// The pool has thrown: oneTBB for lack of memory or threads, or a host's function.
void note_failure(const Pool &pool) noexcept {
  if (is_tbb(pool)) g_engine.store(Engine::failed, std::memory_order_relaxed);
}

// The fork after which this process first asked a pool for anything, plus one; 0: it has not. The
// workers and locks of a pool that was asked before a fork are of no use after it. A host that has
// set one since then knows what it does.
std::atomic<uint64_t> g_asked_since{0};

// A child may work on the pools that nobody has asked before the fork.
bool may_ask(const Pool &pool) noexcept {
  const uint64_t now = uint64_t{fork_generation()} + 1;
  return (note_pool_in_use() == now || pool.set_since == now) &&
         (!is_tbb(pool) || start_engine_once());
}

void run_workers(const Pool &pool, int workers, WorkerFunction work, void *context) {
  switch (pool.kind) {
    case PoolKind::openmp:
      return run_openmp(workers, work, context);
    case PoolKind::host:
      return pool.run(pool.user, workers, work, context);
    default:
      return run_tbb(workers, work, context);
  }
}

int threads_of(const Pool &pool) {
  switch (pool.kind) {
    case PoolKind::openmp:
      return openmp_threads();
    case PoolKind::host:
      return pool.threads;
    default:
      return tbb::this_task_arena::max_concurrency();
  }
}

}  // namespace

[[gnu::noinline]] uint64_t note_pool_in_use() noexcept {
  uint64_t since = g_asked_since.load(std::memory_order_relaxed);
  if (since != 0) return since;  // mostly: nothing is written
  const uint64_t now = uint64_t{fork_generation()} + 1;
  return g_asked_since.compare_exchange_strong(since, now, std::memory_order_relaxed) ? now : since;
}

int available_threads(const Pool &pool) noexcept {
  const NotCancellable whole;
  if (!may_ask(pool)) return 1;
  try {
    return std::clamp(threads_of(pool), 1, kMaxWorkers);
  } catch (...) {  // no memory for what oneTBB keeps for this thread
    note_failure(pool);
    return 1;
  }
}

void for_each_unit(const Pool &pool, int workers, int64_t units, Order order, UnitFunction f,
                   void (*after)()) noexcept {
  workers = static_cast<int>(std::min<int64_t>({workers, units, kMaxWorkers}));
  if (workers <= 1) return run_alone(units, order, f, after);
  const NotCancellable whole;
  if (!may_ask(pool)) return run_alone(units, order, f, after);
  Share few[16];
  std::unique_ptr<Share[]> many;
  if (workers > 16) {
    many.reset(new (std::nothrow) Share[workers]);
    if (!many) return run_alone(units, order, f, after);
  }
  Sharing sharing(many ? many.get() : few, workers, units, order, f, after);
  try {
    run_workers(
        pool, workers, [](void *context, int32_t w) { static_cast<Sharing *>(context)->work(w); },
        &sharing);
  } catch (...) {
    note_failure(pool);  // what is left is done below
  }
  sharing.finish();
}

}  // namespace bn2d
