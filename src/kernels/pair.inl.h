// Numbers of twice the precision of double, as pairs (hi, lo). Included once per SIMD target.
#if defined(BN2D_KERNELS_PAIR_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_PAIR_INL_H
#undef BN2D_KERNELS_PAIR_INL_H
#else
#define BN2D_KERNELS_PAIR_INL_H
#endif

#include <cmath>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// A double and what it lacks.
struct Pair {
  double hi, lo;
};
HWY_INLINE Pair TwoSum(double a, double b) {
  const double sum = a + b;
  const double part = sum - a;
  return {sum, (a - (sum - part)) + (b - part)};
}
HWY_INLINE Pair QuickTwoSum(double a, double b) {  // |a| >= |b|
  const double sum = a + b;
  return {sum, b - (sum - a)};
}
HWY_INLINE Pair TwoProduct(double a, double b) {
  const double product = a * b;
  return {product, std::fma(a, b, -product)};
}
HWY_INLINE Pair Add(Pair a, Pair b) {
  const Pair sum = TwoSum(a.hi, b.hi);
  return QuickTwoSum(sum.hi, sum.lo + (a.lo + b.lo));
}
HWY_INLINE Pair Multiply(Pair a, double b) {
  const Pair product = TwoProduct(a.hi, b);
  return QuickTwoSum(product.hi, product.lo + a.lo * b);
}
HWY_INLINE Pair Square(Pair a) {
  const Pair product = TwoProduct(a.hi, a.hi);
  return QuickTwoSum(product.hi, product.lo + 2 * a.hi * a.lo);
}
HWY_INLINE Pair Divide(Pair a, double b) {
  const double quotient = a.hi / b;
  const double rest = std::fma(-quotient, b, a.hi) + a.lo;
  return QuickTwoSum(quotient, rest / b);
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
