// Vectors of doubles, mostly of numbers of channels. Included once per SIMD target.
#if defined(BN2D_KERNELS_CHANNELS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_CHANNELS_INL_H
#undef BN2D_KERNELS_CHANNELS_INL_H
#else
#define BN2D_KERNELS_CHANNELS_INL_H
#endif

#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// Calls body(tag, first) for vectors of `count` numbers, and for single ones at the end. Old CPUs,
// whose vectors have two doubles, take all one by one, which saves 10 KB and costs up to 8 % of
// small calls.
template <class Body>
HWY_INLINE void ForEachVector(int64_t count, const Body &body) {
  int64_t i = 0;
  if constexpr (kSpecialise) {
    const CappedTag<double, 8> d;
    const int64_t lanes = static_cast<int64_t>(Lanes(d));
    for (; i + lanes <= count; i += lanes) body(d, i);
  }
  for (const CappedTag<double, 1> one; i < count; ++i) body(one, i);
}

// Numbers beyond the range of float become infinite; in its scalar vectors Highway makes them the
// largest float.
template <class D, class DF = Rebind<float, D>>
HWY_INLINE Vec<DF> ToFloat(DF df, Vec<D> v) {
#if HWY_TARGET == HWY_SCALAR
  return Set(df, static_cast<float>(GetLane(v)));
#else
  return DemoteTo(df, v);
#endif
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
