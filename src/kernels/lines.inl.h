// Cache lines: what is fetched ahead, and what streaming stores write. Included once per SIMD
// target.
#if defined(BN2D_KERNELS_LINES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_LINES_INL_H
#undef BN2D_KERNELS_LINES_INL_H
#else
#define BN2D_KERNELS_LINES_INL_H
#endif

#include "base/cache_line.h"
#include "kernels/highway.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// Whether the target has streaming stores that are worth their code in maps. (Pointwise activations
// and transposition have them on any.)
inline constexpr bool kStreams = HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3;

// Into L2. (What is transposed is read at once, so it is fetched into L1: transpose.inl.h.)
HWY_INLINE void Prefetch(const void *p) { __builtin_prefetch(p, 0, 2); }
// Of what is read soon.
HWY_INLINE void PrefetchIntoL1(const void *p) { __builtin_prefetch(p, 0, 3); }

// Elements of a line.
template <class T>
inline constexpr int64_t kLineOf = kLineBytes / static_cast<int64_t>(sizeof(T));

// Elements of a row that precede a whole line of the output.
template <class T>
HWY_INLINE int64_t BeforeLine(const T *output) {
  const auto address = reinterpret_cast<uintptr_t>(output);
  return static_cast<int64_t>((kLineBytes - address % kLineBytes) % kLineBytes / sizeof(T));
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
