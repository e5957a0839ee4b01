// The pivots of channels: numbers near their means, around which they are summed. Included once per
// SIMD target.
#if defined(BN2D_KERNELS_PIVOTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_PIVOTS_INL_H
#undef BN2D_KERNELS_PIVOTS_INL_H
#else
#define BN2D_KERNELS_PIVOTS_INL_H
#endif

#include <algorithm>
#include <limits>

#include "kernels/elements.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// The median of three elements, so that an outlier among them is not taken.
//
// For floats it is rounded to a unit: a quarter of the largest power of two in their spread. Then
// x - pivot is exact for most elements. An example: 0.1, 0.7 and -0.2 have a spread of 0.9, so the
// unit is 0.5/4, and the median 0.1 becomes 0.125; a median of 0.05 would become 0. (Adding 1.5 *
// 2^23 units and subtracting them again rounds to a multiple of the unit.)
template <class D, class V = Vec<D>>
HWY_INLINE V PivotsOf(D d, V a, V b, V c) {
  const auto rises = Lt(a, b);
  const V low = IfThenElse(rises, a, b), high = IfThenElse(rises, b, a);
  const auto is_lowest = Lt(c, low), is_below_high = Lt(c, high);
  const V median = IfThenElse(is_lowest, low, IfThenElse(is_below_high, c, high));
  if constexpr (sizeof(TFromD<D>) == sizeof(double)) {
    (void)d;
    return median;
  } else {
    const RebindToUnsigned<D> du;
    const V spread = Sub(IfThenElse(is_below_high, high, c), IfThenElse(is_lowest, c, low));
    // The largest power of two that is not above the spread; 0 for subnormal ones.
    const V power = BitCast(d, And(BitCast(du, spread), Set(du, 0x7F800000u)));
    const V units = Mul(power, Set(d, 0x1.8p21f));
    const V rounded = Sub(Add(median, units), units);
    const auto is_finite = Le(Abs(rounded), Set(d, std::numeric_limits<float>::max()));
    return IfThenElse(is_finite, rounded, median);
  }
}

template <class T>
BN2D_SMALL_ON_OLD_CPUS void Pivots(const void *const elements[3], int64_t stride, int64_t channels,
                                   void *pivots) {
  using A = Arithmetic<T>;
  const CappedTag<A, 8> d;
  const CappedTag<A, 1> one;
  constexpr int64_t kSize = static_cast<int64_t>(MaxLanes(d)), kSome = 32;
  HWY_ALIGN A some[4][kSome] = {};
  A *out = static_cast<A *>(pivots);
  // Some channels at a time: a vector that is loaded just after its elements were stored one by one
  // would wait for all of them.
  for (int64_t c = 0; c < channels; c += kSome, out += kSome) {
    const int64_t count = std::min(kSome, channels - c);
    for (int i = 0; i < 3; ++i) {
      const T *from = static_cast<const T *>(elements[i]) + c * stride;
      for (int64_t k = 0; k < count; ++k, from += stride)
        StoreU(LoadElements(one, from), one, some[i] + k);
    }
    for (int64_t k = 0; k < count; k += kSize)
      StoreU(PivotsOf(d, LoadU(d, some[0] + k), LoadU(d, some[1] + k), LoadU(d, some[2] + k)), d,
             some[3] + k);
    std::copy_n(some[3], count, out);
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
