// Activations that are functions of their argument alone: forward, and a gradient through them.
// Included once per SIMD target.
#if defined(BN2D_KERNELS_ACTIVATIONS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_ACTIVATIONS_INL_H
#undef BN2D_KERNELS_ACTIVATIONS_INL_H
#else
#define BN2D_KERNELS_ACTIVATIONS_INL_H
#endif

#include <cstring>

#include "hwy/highway.h"
#include "kernels/activations.h"
#include "kernels/kernels.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Horner's rule. Coefficient 0 is the constant.
template <class D, size_t kCount>
HWY_INLINE hn::Vec<D> Polynomial(D d, hn::Vec<D> v, const hn::TFromD<D> (&coefficients)[kCount]) {
  auto sum = hn::Set(d, coefficients[kCount - 1]);
  if constexpr (kCount <= 12 && kSpecialise) {
#pragma GCC unroll 16
    for (size_t k = 2; k <= kCount; ++k)
      sum = hn::MulAdd(sum, v, hn::Set(d, coefficients[kCount - k]));
  } else {
    for (size_t k = kCount - 1; k-- > 0;) sum = hn::MulAdd(sum, v, hn::Set(d, coefficients[k]));
  }
  return sum;
}

// e^-(s + rest), where `rest` is what a rounding of s has lost. With k the nearest whole number to
// -s/ln 2 it is 2^k * e^-r, and the bits of k + 1.5*2^23 end with those of k, so no conversion is
// needed. Where k is one more, or one less, than that of a normal number, it becomes infinite, or
// 0.
template <class D>
HWY_INLINE hn::Vec<D> ExpOfMinus(D d, hn::Vec<D> s, hn::Vec<D> rest) {
  using C = ActivationConstants<hn::TFromD<D>>;
  const hn::RebindToUnsigned<D> du;
  const auto whole = hn::Set(d, C::kWhole);
  const auto shifted = hn::NegMulAdd(s, hn::Set(d, C::kLog2E), whole);
  const auto k = hn::Sub(shifted, whole);
  const auto r =
      hn::MulAdd(k, hn::Set(d, C::kLn2Lo), hn::Add(hn::MulAdd(k, hn::Set(d, C::kLn2Hi), s), rest));
  const auto power =
      hn::Add(hn::Set(du, C::kOneBits), hn::ShiftLeft<C::kMantissaBits>(hn::BitCast(du, shifted)));
  return hn::Mul(Polynomial(d, r, C::kExp), hn::BitCast(d, power));
}

// Clamp and hardswish, or their derivatives.
template <class D>
HWY_INLINE hn::Vec<D> Piecewise(D d, const ActivationJob &job, hn::Vec<D> v) {
  using A = hn::TFromD<D>;
  const auto zero = hn::Zero(d), one = hn::Set(d, A{1});
  const bool is_clamp = job.activation != Activation::hardswish, derives = job.gradient != nullptr;
  const auto low = is_clamp ? zero : hn::Set(d, A{-3}),
             high = hn::Set(d, is_clamp ? static_cast<A>(job.bound) : A{3});
  auto inner = derives ? one : v, upper = derives ? one : v;
  if (is_clamp) {
    upper = derives ? zero : high;
  } else if (derives) {
    inner = hn::MulAdd(v, hn::Set(d, A{1} / 3), hn::Set(d, A{0.5}));
  } else {
    inner = hn::Mul(v, hn::Mul(hn::Sub(v, low), hn::Set(d, A{1} / 6)));
  }
  // NaN is neither low nor high.
  return hn::IfThenZeroElse(hn::Le(v, low), hn::IfThenElse(hn::Ge(v, high), upper, inner));
}

// Sigmoid, silu and gelu, or their derivatives. With e = e^-v
//   sigmoid(v) = 1/(1 + e),  sigmoid' = e*sigmoid^2
//   silu(v) = v/(1 + e),     silu' = sigmoid + v*sigmoid'
// and with t = |v|, which keeps the digits of both tails,
//   gelu(v) = max(v, 0) - t*Q(t), Q(t) = P(normal > t) = e^(-t^2/2) * u*S(u), u = 1/(1 + t/4)
// S is a polynomial in u - 0.5.
template <class D>
HWY_INLINE hn::Vec<D> Smooth(D d, const ActivationJob &job, hn::Vec<D> v) {
  using A = hn::TFromD<D>;
  using C = ActivationConstants<A>;
  const auto zero = hn::Zero(d), one = hn::Set(d, A{1});
  const bool is_gelu = job.activation == Activation::gelu,
             is_silu = job.activation == Activation::silu, derives = job.gradient != nullptr;
  const auto at_most = [&](hn::Vec<D> x, A most) HWY_ATTR {  // a NaN stays one
    return hn::IfThenElse(hn::Gt(x, hn::Set(d, most)), hn::Set(d, most), x);
  };
  auto numerator = one, denominator = one, s = zero, rest = zero;
  auto is_low = hn::MaskFromVec(zero);
  if (is_gelu) {
    numerator = at_most(hn::Abs(v), C::kZeroOfGelu);  // t
    const auto half = hn::Mul(numerator, hn::Set(d, A{0.5}));
#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SCALAR
    // t^2/2 in two parts: the square of a multiple of 2^-4 (doubles: 2^-20) is exact.
    const auto grid = hn::Set(d, C::kGrid), coarse = hn::Sub(hn::Add(numerator, grid), grid);
    s = hn::Mul(hn::Mul(coarse, coarse), hn::Set(d, A{0.5}));
    rest = hn::Mul(hn::Sub(numerator, coarse), hn::Add(half, hn::Mul(coarse, hn::Set(d, A{0.5}))));
#else
    s = hn::Mul(half, numerator);
    rest = hn::MulSub(half, numerator, s);
#endif
    denominator = hn::MulAdd(numerator, hn::Set(d, A{0.25}), one);
  } else {
    // Below, e is infinite and the result -0 or 0; its derivative is made 0.
    const auto least = hn::Set(d, derives ? C::kFinite : C::kInfinite);
    is_low = hn::Lt(v, least);
    const auto above = hn::IfThenElse(is_low, least, v);
    s = at_most(above, C::kZero);
    if (is_silu && !derives) numerator = above;
  }
  const auto e = ExpOfMinus(d, s, rest);
  if (is_gelu) {
    const auto t = numerator, u = hn::Div(one, denominator);
    const auto q = hn::Mul(e, hn::Mul(u, Polynomial(d, hn::Sub(u, hn::Set(d, A{0.5})), C::kTail)));
    const auto is_negative = hn::Lt(v, zero);
    if (!derives) return hn::NegMulAdd(t, q, hn::IfThenElse(is_negative, hn::Set(d, A{-0.0}), v));
    // Q + v*density where v < 0, else 1 - Q + v*density.
    const auto slope = hn::NegMulAdd(hn::Mul(t, e), hn::Set(d, C::kDensity), q);
    return hn::IfThenElse(is_negative, slope, hn::Sub(one, slope));
  }
  const auto u = hn::Div(numerator, hn::Add(one, e));
  if (!derives) return u;
  const auto slope = hn::Mul(hn::Mul(e, u), u);
  return hn::IfThenZeroElse(is_low, is_silu ? hn::MulAdd(s, slope, u) : slope);
}

template <class A, bool kSmooth>
HWY_INLINE void ActivateAll(const ActivationJob &job) {
  const bool derives = job.gradient != nullptr;
  const hn::ScalableTag<A> d;
  constexpr int64_t kSize = hn::MaxLanes(d);
  HWY_ALIGN A rest[3][kSize] = {};  // the last elements, where they do not fill a vector
  for (int64_t i = 0; i < job.count; i += kSize) {
    const A *argument = static_cast<const A *>(job.argument) + i;
    const A *gradient = derives ? static_cast<const A *>(job.gradient) + i : nullptr;
    A *out = static_cast<A *>(job.out) + i;
    const bool is_whole = job.count - i >= kSize;
    const size_t bytes = static_cast<size_t>(job.count - i) * sizeof(A);
    if (!is_whole) {
      std::memcpy(rest[0], argument, bytes);
      if (derives) std::memcpy(rest[1], gradient, bytes);
      argument = rest[0], gradient = rest[1], out = rest[2];
    }
    auto v = hn::LoadU(d, argument);
    v = kSmooth ? Smooth(d, job, v) : Piecewise(d, job, v);
    // As with relu: where nothing gets through, an infinite gradient does not either.
    if (derives) v = hn::IfThenZeroElse(hn::Eq(v, hn::Zero(d)), hn::Mul(v, hn::LoadU(d, gradient)));
    if (is_whole && job.streaming) {
      hn::Stream(v, d, out);
    } else {
      hn::StoreU(v, d, out);
    }
    if (!is_whole) std::memcpy(static_cast<A *>(job.out) + i, out, bytes);
    for (const char *const next : job.ahead)
      if (next != nullptr) Prefetch(next + i * job.ahead_bytes);
  }
}

template <class A>
BN2D_KERNEL void Activate(const ActivationJob &job) {
  job.activation >= Activation::silu ? ActivateAll<A, true>(job) : ActivateAll<A, false>(job);
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
