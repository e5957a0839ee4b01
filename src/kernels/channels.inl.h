// Vectors of numbers of channels. Included once per SIMD target.
#if defined(BN2D_KERNELS_CHANNELS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_CHANNELS_INL_H
#undef BN2D_KERNELS_CHANNELS_INL_H
#else
#define BN2D_KERNELS_CHANNELS_INL_H
#endif

#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/pair.inl.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// Calls body(tag, channel) for vectors of channels, and for single ones at the end. Old CPUs, whose
// vectors have two doubles, take all one by one, which saves 10 KB and costs up to 8 % of small
// calls.
template <class Body>
HWY_INLINE void ForChannels(int64_t channels, const Body &body) {
  int64_t c = 0;
  if constexpr (kSpecialise) {
    const CappedTag<double, 8> d;
    const int64_t lanes = static_cast<int64_t>(Lanes(d));
    for (; c + lanes <= channels; c += lanes) body(d, c);
  }
  for (const CappedTag<double, 1> one; c < channels; ++c) body(one, c);
}

// Numbers in pairs for double data; plain doubles for float and half data.
template <bool kPair, class D>
HWY_INLINE Pair<Vec<D>> LoadNumber(D d, const double *hi, const double *lo) {
  return {LoadU(d, hi), kPair ? LoadU(d, lo) : Zero(d)};
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
