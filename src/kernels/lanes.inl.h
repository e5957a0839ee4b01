// The 8 lanes of a sum, in vectors of doubles. Included once per SIMD target. kernels.h explains
// lanes.
#if defined(BN2D_KERNELS_LANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_LANES_INL_H
#undef BN2D_KERNELS_LANES_INL_H
#else
#define BN2D_KERNELS_LANES_INL_H
#endif

#include "kernels/highway.inl.h"
#include "kernels/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

using DoubleTag = CappedTag<double, kLanes>;
inline constexpr int kDoubles = static_cast<int>(MaxLanes(DoubleTag()));

// f(0), ..., f(kCount - 1). Unrolled where that keeps what f works on in registers.
template <int kCount, bool kUnrolled, class F>
HWY_INLINE void Repeat(const F &f) {
  if constexpr (kUnrolled) {
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) f(i);
  } else {
#pragma GCC unroll 1
    for (int i = 0; i < kCount; ++i) f(i);
  }
}
// Whether loops over the vectors of the 8 lanes are unrolled: where there are one or two of them.
inline constexpr bool kUnroll = kDoubles >= 4;

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
