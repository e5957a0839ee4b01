// The pointwise activations (is_pointwise): forward, and a gradient through them. Included once per
// SIMD target.
#if defined(BN2D_KERNELS_ACTIVATIONS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_ACTIVATIONS_INL_H
#undef BN2D_KERNELS_ACTIVATIONS_INL_H
#else
#define BN2D_KERNELS_ACTIVATIONS_INL_H
#endif

#include "kernels/activations.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/lines.inl.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// Horner's rule. Coefficient 0 is the constant.
template <class D, size_t kCount>
HWY_INLINE Vec<D> Polynomial(D d, Vec<D> v, const TFromD<D> (&coefficients)[kCount]) {
  const TFromD<D> *from = coefficients;
#if HWY_TARGET == HWY_AVX2 && (HWY_COMPILER_GCC || HWY_COMPILER_CLANG)
  __asm__("" : "+r"(from));  // else each would be a whole vector in memory: 300 bytes in all
#endif
  auto sum = Set(d, from[kCount - 1]);
  if constexpr (kCount <= 12 && kSpecialise) {
#pragma GCC unroll 16
    for (size_t k = 2; k <= kCount; ++k) sum = MulAdd(sum, v, Set(d, from[kCount - k]));
  } else {
    for (size_t k = kCount - 1; k-- > 0;) sum = MulAdd(sum, v, Set(d, from[k]));
  }
  return sum;
}

// e^-(s + rest), where `rest` is what a rounding of s has lost. With k the nearest whole number to
// -s/ln 2 it is 2^k * e^-r, and the bits of k + 1.5*2^23 end with those of k, so no conversion is
// needed. Where k is one more, or one less, than that of a normal number, it becomes infinite, or
// 0.
template <class D>
HWY_INLINE Vec<D> ExpOfMinus(D d, Vec<D> s, Vec<D> rest) {
  using C = ActivationConstants<TFromD<D>>;
  const RebindToUnsigned<D> du;
  const auto whole = Set(d, C::kWhole);
  const auto shifted = NegMulAdd(s, Set(d, C::kLog2E), whole);
  const auto k = Sub(shifted, whole);
  const auto r = MulAdd(k, Set(d, C::kLn2Lo), Add(MulAdd(k, Set(d, C::kLn2Hi), s), rest));
  const auto power = Add(Set(du, C::kOneBits), ShiftLeft<C::kMantissaBits>(BitCast(du, shifted)));
  return Mul(Polynomial(d, r, C::kExp), BitCast(d, power));
}

// Clamp and hardswish, or their derivatives. The second derivative of hardswish is 1/3 between its
// bounds. Of clamp nobody asks for it.
template <bool kDerives, class D>
HWY_INLINE Vec<D> Piecewise(D d, const ActivationJob &job, bool is_clamp, Vec<D> v) {
  using A = TFromD<D>;
  const auto zero = Zero(d), one = Set(d, A{1});
  const auto low = is_clamp ? zero : Set(d, A{-3}),
             high = Set(d, is_clamp ? static_cast<A>(job.bound) : A{3});
  auto inner = kDerives ? one : v, upper = kDerives ? one : v;
  if (is_clamp) {
    upper = kDerives ? zero : high;
  } else if (!kDerives) {
    inner = Mul(v, Mul(Sub(v, low), Set(d, A{1} / 6)));
  } else if (job.is_second) {
    inner = MulAdd(v, zero, Set(d, A{1} / 3));  // a NaN stays one
    upper = zero;
  } else {
    inner = MulAdd(v, Set(d, A{1} / 3), Set(d, A{0.5}));
  }
  // NaN is neither low nor high.
  return IfThenZeroElse(Le(v, low), IfThenElse(Ge(v, high), upper, inner));
}

// Sigmoid, silu and gelu, or their first or second derivatives. With e = e^-v
//   sigmoid(v) = 1/(1 + e),  sigmoid' = e*sigmoid^2,         sigmoid'' = sigmoid'*r
//   silu(v) = v/(1 + e),     silu' = sigmoid + v*sigmoid',   silu'' = sigmoid'*(2 + v*r)
// where r = 1 - 2*sigmoid = (e - 1)*sigmoid. And with t = |v|, which keeps the digits of both
// tails,
//   gelu(v) = max(v, 0) - t*Q(t), Q(t) = P(normal > t) = e^(-t^2/2) * u*S(u), u = 1/(1 + t/4)
// S is a polynomial in u - 0.5; gelu'' = (2 - t^2)*density, density = e^(-t^2/2)/sqrt(2*pi).
template <class D>
HWY_INLINE Vec<D> Smooth(D d, const ActivationJob &job, Vec<D> v) {
  using A = TFromD<D>;
  using C = ActivationConstants<A>;
  const auto zero = Zero(d), one = Set(d, A{1});
  const bool is_gelu = job.activation == Activation::gelu,
             is_silu = job.activation == Activation::silu, derives = job.gradient != nullptr;
  const auto at_most = [&](Vec<D> x, A most) HWY_ATTR {  // a NaN stays one
    return IfThenElse(Gt(x, Set(d, most)), Set(d, most), x);
  };
  auto numerator = one, denominator = one, s = zero, rest = zero;
  auto is_low = MaskFromVec(zero);
  if (is_gelu) {
    numerator = at_most(Abs(v), C::kZeroOfGelu);  // t
    const auto half = Mul(numerator, Set(d, A{0.5}));
#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SCALAR
    // t^2/2 in two parts: the square of a multiple of 2^-4 (doubles: 2^-20) is exact.
    const auto grid = Set(d, C::kGrid), coarse = Sub(Add(numerator, grid), grid);
    s = Mul(Mul(coarse, coarse), Set(d, A{0.5}));
    rest = Mul(Sub(numerator, coarse), Add(half, Mul(coarse, Set(d, A{0.5}))));
    if constexpr (sizeof(A) == sizeof(float)) {
      // The rest is up to 0.4, more than the polynomial of ExpOfMinus takes: at -12.4 gelu would be
      // off by 280 ulp. So s gets what it can hold.
      const auto square = s;
      s = Add(square, rest);
      rest = Sub(rest, Sub(s, square));
    }
#else
    s = Mul(half, numerator);
    rest = MulSub(half, numerator, s);
#endif
    denominator = MulAdd(numerator, Set(d, A{0.25}), one);
  } else {
    // Below, e is infinite and the result -0 or 0; its derivative is made 0.
    const auto least = Set(d, derives ? C::kFinite : C::kInfinite);
    is_low = Lt(v, least);
    const auto above = IfThenElse(is_low, least, v);
    s = at_most(above, C::kZero);
    if (is_silu && !derives) numerator = above;
  }
  const auto e = ExpOfMinus(d, s, rest);
  if (is_gelu && job.is_second)
    return Mul(NegMulAdd(numerator, numerator, Set(d, A{2})), Mul(e, Set(d, C::kDensity)));
  if (is_gelu) {
    const auto t = numerator, u = Div(one, denominator);
    const auto q = Mul(e, Mul(u, Polynomial(d, Sub(u, Set(d, A{0.5})), C::kTail)));
    const auto is_negative = Lt(v, zero);
    if (!derives) return NegMulAdd(t, q, IfThenElse(is_negative, Set(d, A{-0.0}), v));
    // Q + v*density where v < 0, else 1 - Q + v*density.
    const auto slope = NegMulAdd(Mul(t, e), Set(d, C::kDensity), q);
    return IfThenElse(is_negative, slope, Sub(one, slope));
  }
  const auto u = Div(numerator, Add(one, e));
  if (!derives) return u;
  auto slope = Mul(Mul(e, u), u);
  if (job.is_second) {
    const auto r = Mul(Sub(e, one), u);
    slope = Mul(slope, is_silu ? MulAdd(s, r, Set(d, A{2})) : r);
  } else if (is_silu) {
    slope = MulAdd(s, slope, u);
  }
  return IfThenZeroElse(is_low, slope);
}

template <class A, bool kSmooth>
BN2D_KERNEL void Activate(const ActivationJob &given) {
  // A copy: else each store could change what the next vector asks of it (relu6 in eval took 1.6
  // times as long).
  const ActivationJob job = given;
  const ScalableTag<A> d;
  const A *const arguments = static_cast<const A *>(job.argument);
  const A *const gradients = static_cast<const A *>(job.gradient);
  A *const out = static_cast<A *>(job.out);
  const auto for_all = [&](const auto &activated) BN2D_INLINED {
    for (int64_t i = 0; i < job.count; i += MaxLanes(d)) {
      const auto v = activated(LoadU(d, arguments + i), i);
      if (HWY_UNLIKELY(job.streaming)) {
        hn::Stream(v, d, out + i);
      } else {
        StoreU(v, d, out + i);
      }
      for (const char *const next : job.ahead)
        if (next != nullptr) Prefetch(next + i * job.ahead_bytes);
    }
  };
  // As with relu: where nothing gets through, an infinite gradient does not either.
  const auto times_gradient = [&](Vec<decltype(d)> v, int64_t i) BN2D_INLINED {
    return IfThenZeroElse(Eq(v, Zero(d)), Mul(v, LoadU(d, gradients + i)));
  };
  const bool is_clamp = job.activation != Activation::hardswish;
  if constexpr (kSmooth) {
    for_all([&](Vec<decltype(d)> v, int64_t i) BN2D_INLINED {
      v = Smooth(d, job, v);
      return gradients ? times_gradient(v, i) : v;
    });
  } else if (gradients != nullptr) {
    for_all([&](Vec<decltype(d)> v, int64_t i)
                BN2D_INLINED { return times_gradient(Piecewise<true>(d, job, is_clamp, v), i); });
  } else if (is_clamp) {
    for_all([&](Vec<decltype(d)> v, int64_t)
                BN2D_INLINED { return Piecewise<false>(d, job, true, v); });
  } else {  // with a loop of its own: else eval of hardswish takes 1.1 times as long
    for_all([&](Vec<decltype(d)> v, int64_t)
                BN2D_INLINED { return Piecewise<false>(d, job, false, v); });
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
