// The choice between the SIMD targets at run time, and the per-channel arithmetic. Our own table, not Highway's: that
// one is shared by every user of libhwy in the process.
#include "kernels/targets.h"
//
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "kernels/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/channel.inl.h"

#if HWY_ONCE
namespace bn2d::kernels {

// Handed out by f32.cc, f64.cc, f16.cc and bf16.cc.
#define BN2D_DECLARE(TARGET)       \
  namespace N_##TARGET {           \
    const TypeKernels *Get_f32();  \
    const TypeKernels *Get_f64();  \
    const TypeKernels *Get_f16();  \
    const TypeKernels *Get_bf16(); \
  }
BN2D_FOR_EACH_TARGET(BN2D_DECLARE)

namespace {

#define BN2D_ONE(TARGET) +1
constexpr int kCount = 0 BN2D_FOR_EACH_TARGET(BN2D_ONE);

#define BN2D_DESCRIBE(TARGET)                                                             \
  {HWY_##TARGET,                                                                          \
   {#TARGET,                                                                              \
    N_##TARGET::Get_f32(),                                                                \
    N_##TARGET::Get_f64(),                                                                \
    N_##TARGET::Get_f16(),                                                                \
    N_##TARGET::Get_bf16(),                                                               \
    {N_##TARGET::MomentsOfBlock, N_##TARGET::MergeMoments, N_##TARGET::VarianceOfMoments, \
     N_##TARGET::CoefficientsOfForward}}},

// The kernels of the targets that this CPU has, best first. The last target is the fallback that every CPU has.
struct Supported {
  struct Entry {
    int64_t bit;
    Kernels kernels;
  };
  Entry entries[kCount] = {BN2D_FOR_EACH_TARGET(BN2D_DESCRIBE)};
  const Kernels *list[kCount] = {};
  int count = 0;
  Supported() {
    const int64_t cpu = hwy::SupportedTargets();
    for (const Entry &entry : entries)
      if ((cpu & entry.bit) != 0 || &entry == &entries[kCount - 1]) list[count++] = &entry.kernels;
  }
};

std::atomic<const Kernels *> g_active{nullptr};

const Kernels *Choose() {
  const Kernels *const *list;
  const int count = available(&list);
  if (const char *wanted = std::getenv("BN2D_SIMD"))
    for (int i = 0; i < count; ++i)
      if (std::strcmp(list[i]->name, wanted) == 0) return list[i];
  return list[0];
}

}  // namespace

int available(const Kernels *const **list) {
  static const Supported supported;
  *list = supported.list;
  return supported.count;
}

const Kernels &active() {
  const Kernels *kernels = g_active.load(std::memory_order_acquire);
  if (kernels == nullptr) {
    kernels = Choose();
    g_active.store(kernels, std::memory_order_release);
  }
  return *kernels;
}

void set_active_for_test(const Kernels *kernels) { g_active.store(kernels, std::memory_order_release); }

const char *compiled_targets() {
#define BN2D_NAME(TARGET) " " #TARGET
  return &(BN2D_FOR_EACH_TARGET(BN2D_NAME))[1];
}

void streaming_fence() { hwy::FlushStream(); }

}  // namespace bn2d::kernels
#endif  // HWY_ONCE
