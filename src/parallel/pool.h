// Who runs the workers of a call: oneTBB, the OpenMP runtime that the process has already, or a
// function of the host.
//
// A process with two pools pays for it: the workers of one spin for a while after each parallel
// region, and those of the other wake up onto the same cores. So a host that computes with OpenMP
// (PyTorch does) gives its runtime to us, too.
#pragma once
#include <cstdint>

namespace bn2d {

enum class PoolKind : int32_t { process = 0, tbb = 1, openmp = 2, host = 3 };

using WorkerFunction = void (*)(void *context, int32_t worker);
// Calls work(context, w) for the w in [0, workers), and returns when all calls have. It may leave
// some out.
using RunWorkers = void (*)(void *user, int32_t workers, WorkerFunction work, void *context);

struct Pool {
  PoolKind kind = PoolKind::tbb;
  RunWorkers run = nullptr;  // of a host's pool
  void *user = nullptr;
  int32_t threads = 0;     // of a host's pool: the most that run at once
  uint64_t set_since = 0;  // of a host's pool: the fork after which it was set, plus one
};

// The pool of a kind; `process` gives the default, oneTBB. (A module without a pool of its own has
// NULL, and so that of the process.) Throws not_found where there is no OpenMP runtime. A pool is
// valid for ever: another thread may be in a call that uses it.
const Pool *pool_of(PoolKind kind);
const Pool *host_pool(RunWorkers run, void *user, int32_t threads);
PoolKind checked_pool_kind(int32_t kind);

void set_process_pool(const Pool *pool);
const Pool &process_pool();
inline const Pool &pool_or_default(const Pool *pool) { return pool ? *pool : process_pool(); }

// The OpenMP runtime: whether there is one, how many threads a region from here would have (1
// inside another region), and a region of `workers` threads.
bool find_openmp();
int openmp_threads();
void run_openmp(int32_t workers, WorkerFunction work, void *context);

}  // namespace bn2d
