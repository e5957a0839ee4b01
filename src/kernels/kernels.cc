// The choice between the SIMD targets at run time, and the kernels that all element types share.
// Our own table, not Highway's: that one is shared by every user of libhwy in the process.
#include "kernels/targets.h"
//
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "kernels/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/activations.inl.h"
#include "kernels/coefficients.inl.h"
#include "kernels/moments.inl.h"
#include "kernels/sample.inl.h"
#include "kernels/side.inl.h"
#include "kernels/transpose.inl.h"

#if HWY_ONCE
#if HWY_ARCH_X86
#include <cpuid.h>
#endif
namespace bn2d::kernels {

// Defined in f32.cc, f64.cc, f16.cc and bf16.cc.
#define BN2D_DECLARE(TARGET)               \
  namespace N_##TARGET {                   \
    extern const TypeKernels kernels_f32;  \
    extern const TypeKernels kernels_f64;  \
    extern const TypeKernels kernels_f16;  \
    extern const TypeKernels kernels_bf16; \
  }
BN2D_FOR_EACH_TARGET(BN2D_DECLARE)

namespace {

#define BN2D_ONE(TARGET) +1
constexpr int kCount = 0 BN2D_FOR_EACH_TARGET(BN2D_ONE);

#define BN2D_DESCRIBE(TARGET)                                                                      \
  {HWY_##TARGET,                                                                                   \
   {#TARGET,                                                                                       \
    &N_##TARGET::kernels_f32,                                                                      \
    &N_##TARGET::kernels_f64,                                                                      \
    &N_##TARGET::kernels_f16,                                                                      \
    &N_##TARGET::kernels_bf16,                                                                     \
    {N_##TARGET::MomentsOfBlock, N_##TARGET::MergeMoments, N_##TARGET::AddNumbers,                 \
     N_##TARGET::VarianceOfMoments, N_##TARGET::InverseDeviations,                                 \
     N_##TARGET::CoefficientsOfForward, N_##TARGET::GradientsOfBackward, N_##TARGET::StoreCenters, \
     N_##TARGET::StoreFactors, N_##TARGET::FindSide},                                              \
    {{N_##TARGET::Activate<float, false>, N_##TARGET::Activate<float, true>},                      \
     {N_##TARGET::Activate<double, false>, N_##TARGET::Activate<double, true>}},                   \
    {N_##TARGET::Transpose<uint16_t>, N_##TARGET::Transpose<uint32_t>,                             \
     N_##TARGET::Transpose<uint64_t>},                                                             \
    N_##TARGET::ForwardSample,                                                                     \
    N_##TARGET::BackwardSample}},

// The targets that this CPU has, as Highway's bits. Our own question: Highway's is in libhwy, and
// loading that alone takes most of the time that loading this library may take (it looks at the
// timer, too). The compiler's (__builtin_cpu_supports) is 4.5 KB of names of processors.
int64_t SupportedTargets() {
#if HWY_ARCH_X86
  unsigned eax, ebx = 0, ecx = 0, edx;
  const auto has = [](unsigned features, unsigned bits) { return (features & bits) == bits; };
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) ecx = 0;
  const unsigned of_leaf_1 = ecx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) ebx = 0;
  const unsigned of_leaf_7 = ebx;
  // The registers that the system keeps for a thread that it interrupts (XCR0).
  constexpr unsigned kYmm = 0x06, kZmm = 0xE6;
  unsigned kept = 0, high;
  if (has(of_leaf_1, bit_OSXSAVE)) __asm__("xgetbv" : "=a"(kept), "=d"(high) : "c"(0));
  // What Highway compiles for each target.
  const bool sse4 = has(of_leaf_1, bit_SSE4_2 | bit_SSSE3 | bit_PCLMUL | bit_AES);
  const bool avx2 = sse4 && has(kept, kYmm) && has(of_leaf_1, bit_AVX | bit_FMA | bit_F16C) &&
                    has(of_leaf_7, bit_AVX2 | bit_BMI | bit_BMI2);
  const bool avx3 =
      avx2 && has(kept, kZmm) &&
      has(of_leaf_7, bit_AVX512F | bit_AVX512CD | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL);
  return HWY_STATIC_TARGET | (sse4 ? HWY_SSE4 : 0) | (avx2 ? HWY_AVX2 : 0) | (avx3 ? HWY_AVX3 : 0);
#else
  return HWY_STATIC_TARGET;  // what every CPU of the architecture that we are compiled for has
#endif
}

// All targets, best first. The last one is the fallback that every CPU has. Constant: nothing has
// to be initialised at run time, which would take a lock.
struct Entry {
  int64_t bit;
  Kernels kernels;
};
constexpr Entry kEntries[kCount] = {BN2D_FOR_EACH_TARGET(BN2D_DESCRIBE)};

std::atomic<const Kernels *> g_active{nullptr};

const Kernels *Choose() {
  const int64_t cpu = SupportedTargets();
  const char *const wanted = std::getenv("BN2D_SIMD");
  const Kernels *best = nullptr;
  for (const Entry &entry : kEntries) {
    if ((cpu & entry.bit) == 0 && &entry != &kEntries[kCount - 1]) continue;
    if (best == nullptr) best = &entry.kernels;
    if (wanted != nullptr && std::strcmp(entry.kernels.name, wanted) == 0) return &entry.kernels;
  }
  return best;
}

}  // namespace

const Kernels &active() {
  const Kernels *kernels = g_active.load(std::memory_order_acquire);
  if (kernels == nullptr) {
    kernels = Choose();
    g_active.store(kernels, std::memory_order_release);
  }
  return *kernels;
}

void set_active_for_test(const Kernels *kernels) {
  g_active.store(kernels, std::memory_order_release);
}

void streaming_fence() { hwy::FlushStream(); }

}  // namespace bn2d::kernels
#endif  // HWY_ONCE
