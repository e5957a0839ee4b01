// Vectors of numbers of twice the precision of double, as pairs (hi, lo). Included once per SIMD target.
#if defined(BN2D_KERNELS_PAIR_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_PAIR_INL_H
#undef BN2D_KERNELS_PAIR_INL_H
#else
#define BN2D_KERNELS_PAIR_INL_H
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class V>
struct Pair {
  V hi, lo;
};

template <class V>
HWY_INLINE Pair<V> TwoSum(V a, V b) {  // Knuth
  const V sum = hn::Add(a, b);
  const V part = hn::Sub(sum, a);
  return {sum, hn::Add(hn::Sub(a, hn::Sub(sum, part)), hn::Sub(b, part))};
}
template <class V>
HWY_INLINE Pair<V> QuickTwoSum(V a, V b) {  // Dekker; |a| >= |b|
  const V sum = hn::Add(a, b);
  return {sum, hn::Sub(b, hn::Sub(sum, a))};
}
// Exact where the target has a fused multiply-add; else the low part is 0, and half an ulp is lost.
template <class V>
HWY_INLINE Pair<V> TwoProduct(V a, V b) {
  const V product = hn::Mul(a, b);
  return {product, hn::MulSub(a, b, product)};
}
template <class V>
HWY_INLINE Pair<V> Add(Pair<V> a, Pair<V> b) {
  const Pair<V> sum = TwoSum(a.hi, b.hi);
  return QuickTwoSum(sum.hi, hn::Add(sum.lo, hn::Add(a.lo, b.lo)));
}
template <class V>
HWY_INLINE Pair<V> Negate(Pair<V> a) {
  return {hn::Neg(a.hi), hn::Neg(a.lo)};
}
template <class V>
HWY_INLINE Pair<V> Multiply(Pair<V> a, V b) {
  const Pair<V> product = TwoProduct(a.hi, b);
  return QuickTwoSum(product.hi, hn::MulAdd(a.lo, b, product.lo));
}
template <class V>
HWY_INLINE Pair<V> Square(Pair<V> a) {
  const Pair<V> product = TwoProduct(a.hi, a.hi);
  return QuickTwoSum(product.hi, hn::MulAdd(hn::Add(a.hi, a.hi), a.lo, product.lo));
}
template <class V>
HWY_INLINE Pair<V> Divide(Pair<V> a, V b) {
  const V quotient = hn::Div(a.hi, b);
  const V rest = hn::Add(hn::NegMulAdd(quotient, b, a.hi), a.lo);
  return QuickTwoSum(quotient, hn::Div(rest, b));
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
