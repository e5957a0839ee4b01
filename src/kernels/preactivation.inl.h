// y before the activation, and on which side of the activation it is: as forward computes both, and
// backward tells the side once more. Included once per SIMD target.
#if defined(BN2D_KERNELS_PREACTIVATION_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_PREACTIVATION_INL_H
#undef BN2D_KERNELS_PREACTIVATION_INL_H
#else
#define BN2D_KERNELS_PREACTIVATION_INL_H
#endif

#include <type_traits>

#include "kernels/highway.inl.h"
#include "kernels/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// x - mean, with the mean in two parts: nothing cancels when |mean| is much larger than the
// deviation. The coefficients are -mean, because an addition can take x straight from memory.
template <class D, class C>
HWY_INLINE Vec<D> Centered(D d, Vec<D> x, const C &coefficients, int64_t i) {
  return Add(Add(x, coefficients.get(d, coefficient::minus_mean_hi, i)),
             coefficients.get(d, coefficient::minus_mean_lo, i));
}

// What the activation is applied to, but for a residual.
template <class D, class C>
HWY_INLINE Vec<D> Preactivation(D d, Vec<D> x, const C &coefficients, int64_t i) {
  return MulAdd(Centered(d, x, coefficients, i), coefficients.get(d, coefficient::scale, i),
                coefficients.get(d, coefficient::shift, i));
}

// An element's gradient is *whole* or, on another side of the activation, *damped* by the slope: at
// elements of the side's tensor up to a threshold, and from a bound on, after a change of their
// sign where the channel's `sign` is -0. NaN is none of them.
template <class D>
HWY_INLINE Mask<D> IsDamped(Vec<D> side, Vec<D> sign, Vec<D> threshold) {
  return Le(Xor(side, sign), threshold);
}
// Whether sums ask for the bound. Code for it would be 26 KB for all types and operations. For
// backward of floats it is 8 KB, with the maps of doubles, which their extreme channels need.
template <class T>
inline constexpr bool kSideHasBound = std::is_same_v<T, float>;
template <class D>
HWY_INLINE Mask<D> IsDamped(Vec<D> side, Vec<D> sign, Vec<D> threshold, Vec<D> bound) {
  return Or(IsDamped<D>(side, sign, threshold), Ge(Xor(side, sign), bound));
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
