// Vectors of numbers of twice the precision of double, as pairs (hi, lo). Included once per SIMD
// target.
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
  // Written out: gcc makes the implicit ones for the machine that it was called for, not for the
  // SIMD target.
  HWY_INLINE Pair() {}
  HWY_INLINE Pair(V high, V low) : hi(high), lo(low) {}
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
#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SCALAR
// Without a fused multiply-add: the halves of the factors have exact products (Veltkamp, Dekker).
// Beyond 2^996 a half overflows; then there is no low part.
template <class V>
HWY_INLINE V HighHalf(V a) {
  const hn::DFromV<V> d;
  const V scaled = hn::Mul(a, hn::Set(d, 134217729.0));  // 2^27 + 1
  return hn::Sub(scaled, hn::Sub(scaled, a));
}
template <class V>
HWY_INLINE Pair<V> TwoProduct(V a, V b) {
  const hn::DFromV<V> d;
  const V product = hn::Mul(a, b);
  const V a_hi = HighHalf(a), a_lo = hn::Sub(a, a_hi), b_hi = HighHalf(b), b_lo = hn::Sub(b, b_hi);
  V error = hn::Sub(hn::Mul(a_hi, b_hi), product);
  error = hn::Add(hn::Add(error, hn::Mul(a_hi, b_lo)), hn::Mul(a_lo, b_hi));
  error = hn::Add(error, hn::Mul(a_lo, b_lo));
  return {product, hn::IfThenElse(hn::Eq(error, error), error, hn::Zero(d))};
}
#else
template <class V>
HWY_INLINE Pair<V> TwoProduct(V a, V b) {
  const V product = hn::Mul(a, b);
  return {product, hn::MulSub(a, b, product)};
}
#endif
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
  const Pair<V> product = TwoProduct(quotient, b);
  const V rest = hn::Add(hn::Sub(hn::Sub(a.hi, product.hi), product.lo), a.lo);
  return QuickTwoSum(quotient, hn::Div(rest, b));
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
