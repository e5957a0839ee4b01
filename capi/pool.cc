// Who runs the workers of calls: for the process, and for one module.
#include "parallel/pool.h"

#include "guard.h"
#include "handle.h"

using namespace bn2d;
using namespace bn2d::capi;

static_assert(static_cast<int>(PoolKind::process) == BN2D_POOL_DEFAULT &&
              static_cast<int>(PoolKind::tbb) == BN2D_POOL_TBB);
static_assert(static_cast<int>(PoolKind::openmp) == BN2D_POOL_OPENMP &&
              static_cast<int>(PoolKind::host) == BN2D_POOL_HOST);

int32_t bn2d_set_thread_pool(int32_t kind) {
  return guarded([&] { set_process_pool(pool_of(checked_pool_kind(kind))); });
}
int32_t bn2d_set_host_thread_pool(bn2d_run_workers run, void *user, int32_t threads) {
  return guarded([&] { set_process_pool(host_pool(required(run, "run"), user, threads)); });
}
int32_t bn2d_get_thread_pool(void) { return static_cast<int32_t>(process_pool().kind); }

int32_t bn2d_module_set_thread_pool(bn2d_module *module, int32_t kind) {
  return guarded([&] {
    BatchNormBase &m = *checked(module, "module").value;
    const PoolKind wanted = checked_pool_kind(kind);
    m.set_pool(wanted == PoolKind::process ? nullptr : pool_of(wanted));
  });
}
int32_t bn2d_module_set_host_thread_pool(bn2d_module *module, bn2d_run_workers run, void *user,
                                         int32_t threads) {
  return guarded([&] {
    BatchNormBase &m = *checked(module, "module").value;
    m.set_pool(host_pool(required(run, "run"), user, threads));
  });
}
int32_t bn2d_module_get_thread_pool(const bn2d_module *module, int32_t *out) {
  return guarded([&] {
    required(out, "out");
    const Pool *const pool = checked(module, "module").value->pool();
    *out = static_cast<int32_t>(pool ? pool->kind : PoolKind::process);
  });
}
