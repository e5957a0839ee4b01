// Vectors of numbers of twice the precision of double, as pairs (hi, lo). Included once per SIMD
// target.
#if defined(BN2D_KERNELS_PAIR_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_PAIR_INL_H
#undef BN2D_KERNELS_PAIR_INL_H
#else
#define BN2D_KERNELS_PAIR_INL_H
#endif

#include "kernels/highway.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

template <class V>
struct Pair {
  V hi, lo;
  // Written out: gcc makes the implicit ones for the machine that it was called for, not for the
  // SIMD target.
  HWY_INLINE Pair() {}
  HWY_INLINE Pair(V high, V low) : hi(high), lo(low) {}
};

// a - b on the units that multiply, which the sums of doubles use less than those that add; a*1 is
// exact.
template <class D, class V>
HWY_INLINE V Difference(D d, V a, V b) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  return MulSub(a, Set(d, TFromD<D>{1}), b);
#else
  (void)d;
  return Sub(a, b);
#endif
}

template <class V>
HWY_INLINE Pair<V> TwoSum(V a, V b) {  // Knuth
  const V sum = Add(a, b);
  const V part = Sub(sum, a);
  return {sum, Add(Sub(a, Sub(sum, part)), Sub(b, part))};
}
template <class V>
HWY_INLINE Pair<V> QuickTwoSum(V a, V b) {  // Dekker; |a| >= |b|
  const V sum = Add(a, b);
  return {sum, Sub(b, Sub(sum, a))};
}
#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SCALAR
// Without a fused multiply-add: the halves of the factors have exact products (Veltkamp, Dekker).
// Beyond 2^996 a half overflows; then there is no low part.
template <class V>
HWY_INLINE V HighHalf(V a) {
  const DFromV<V> d;
  const V scaled = Mul(a, Set(d, 134217729.0));  // 2^27 + 1
  return Sub(scaled, Sub(scaled, a));
}
template <class V>
HWY_INLINE Pair<V> TwoProduct(V a, V b) {
  const DFromV<V> d;
  const V product = Mul(a, b);
  const V a_hi = HighHalf(a), a_lo = Sub(a, a_hi), b_hi = HighHalf(b), b_lo = Sub(b, b_hi);
  V error = Sub(Mul(a_hi, b_hi), product);
  error = Add(Add(error, Mul(a_hi, b_lo)), Mul(a_lo, b_hi));
  error = Add(error, Mul(a_lo, b_lo));
  return {product, IfThenElse(Eq(error, error), error, Zero(d))};
}
#else
template <class V>
HWY_INLINE Pair<V> TwoProduct(V a, V b) {
  const V product = Mul(a, b);
  return {product, MulSub(a, b, product)};
}
#endif
template <class V>
HWY_INLINE Pair<V> Add(Pair<V> a, Pair<V> b) {
  const Pair<V> sum = TwoSum(a.hi, b.hi);
  return QuickTwoSum(sum.hi, Add(sum.lo, Add(a.lo, b.lo)));
}
template <class V>
HWY_INLINE Pair<V> Negate(Pair<V> a) {
  return {Neg(a.hi), Neg(a.lo)};
}
template <class V>
HWY_INLINE Pair<V> Multiply(Pair<V> a, V b) {
  const Pair<V> product = TwoProduct(a.hi, b);
  return QuickTwoSum(product.hi, MulAdd(a.lo, b, product.lo));
}
template <class V>
HWY_INLINE Pair<V> Square(Pair<V> a) {
  const Pair<V> product = TwoProduct(a.hi, a.hi);
  return QuickTwoSum(product.hi, MulAdd(Add(a.hi, a.hi), a.lo, product.lo));
}
template <class V>
HWY_INLINE Pair<V> Divide(Pair<V> a, V b) {
  const V quotient = Div(a.hi, b);
  const Pair<V> product = TwoProduct(quotient, b);
  const V rest = Add(Sub(Sub(a.hi, product.hi), product.lo), a.lo);
  return QuickTwoSum(quotient, Div(rest, b));
}

// Numbers in pairs for double data; plain doubles for float and half data.
template <bool kPair, class D>
HWY_INLINE Pair<Vec<D>> LoadNumber(D d, const double *hi, const double *lo) {
  return {LoadU(d, hi), kPair ? LoadU(d, lo) : Zero(d)};
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
