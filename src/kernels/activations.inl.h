// Activations that are functions of their argument alone: forward, and a gradient through them. Included once per SIMD
// target.
#if defined(BN2D_KERNELS_ACTIVATIONS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_ACTIVATIONS_INL_H
#undef BN2D_KERNELS_ACTIVATIONS_INL_H
#else
#define BN2D_KERNELS_ACTIVATIONS_INL_H
#endif

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
    for (size_t k = kCount - 1; k-- > 0;) sum = hn::MulAdd(sum, v, hn::Set(d, coefficients[k]));
  } else {
    for (size_t k = kCount - 1; k-- > 0;) sum = hn::MulAdd(sum, v, hn::Set(d, coefficients[k]));
  }
  return sum;
}

// e^-(s + rest), for s + rest >= 0. With k the nearest whole number to (s + rest)/ln 2 it is 2^-k * e^r, and the bits
// of k + 1.5*2^23 end with those of k, so no conversion is needed. Where it is no normal number, it is 0.
template <class D>
HWY_INLINE hn::Vec<D> ExpOfMinus(D d, hn::Vec<D> s, hn::Vec<D> rest) {
  using A = hn::TFromD<D>;
  using C = ActivationConstants<A>;
  const hn::RebindToUnsigned<D> du;
  const auto whole = hn::Set(d, C::kWhole);
  const auto sum = hn::Add(s, rest);
  const auto shifted = hn::MulAdd(sum, hn::Set(d, C::kLog2E), whole);
  const auto k = hn::Sub(shifted, whole);
  auto r = hn::Sub(hn::MulSub(k, hn::Set(d, C::kLn2Hi), s), rest);
  r = hn::MulAdd(k, hn::Set(d, C::kLn2Lo), r);
  const auto power = hn::Sub(hn::Set(du, C::kOneBits), hn::ShiftLeft<C::kMantissaBits>(hn::BitCast(du, shifted)));
  const auto exp = hn::Mul(Polynomial(d, r, C::kExp), hn::BitCast(d, power));
  return hn::IfThenZeroElse(hn::Gt(sum, hn::Set(d, C::kMostExponent)), exp);
}

// Clamp and hardswish, or their derivatives.
template <class D>
HWY_INLINE hn::Vec<D> Piecewise(D d, const ActivationJob &job, hn::Vec<D> v) {
  using A = hn::TFromD<D>;
  const auto zero = hn::Zero(d), one = hn::Set(d, A{1});
  const bool is_clamp = job.activation != Activation::hardswish, derives = job.gradient != nullptr;
  const auto low = is_clamp ? zero : hn::Set(d, A{-3}), high = hn::Set(d, is_clamp ? static_cast<A>(job.bound) : A{3});
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

// Sigmoid, silu and gelu, or their derivatives. All begin with an exponential of a number below 0, which can neither
// overflow nor lose digits in a tail: with t = |v|
//   sigmoid(v) = 1/(1 + e^-t), or e^-t/(1 + e^-t) where v < 0;  silu(v) = v*sigmoid(v)
//   gelu(v) = max(v, 0) - t*Q(t), Q(t) = P(normal > t) = e^(-t^2/2) * u*S(u), u = 1/(1 + t/4)
// S is a polynomial in u - 0.5.
template <class D>
HWY_INLINE hn::Vec<D> Smooth(D d, const ActivationJob &job, hn::Vec<D> v) {
  using A = hn::TFromD<D>;
  using C = ActivationConstants<A>;
  const auto zero = hn::Zero(d), one = hn::Set(d, A{1});
  const bool is_gelu = job.activation == Activation::gelu, is_silu = job.activation == Activation::silu,
             derives = job.gradient != nullptr;
  const auto is_negative = hn::Lt(v, zero);
  // From where on the exponential is 0: infinity times 0 would be NaN.
  const auto most = hn::Set(d, is_gelu ? C::kMostOfGelu : C::kMostExponent * A{1.01});
  auto t = hn::Abs(v);
  t = hn::IfThenElse(hn::Gt(t, most), most, t);
  auto s = t, rest = zero;
  if (is_gelu) {
    // t^2/2 in two parts: the square of a multiple of 2^-4 (doubles: 2^-20) is exact.
    const auto grid = hn::Set(d, C::kGrid), half = hn::Set(d, A{0.5});
    const auto coarse = hn::Sub(hn::Add(t, grid), grid);
    s = hn::Mul(hn::Mul(coarse, coarse), half);
    rest = hn::Mul(hn::Mul(hn::Sub(t, coarse), hn::Add(t, coarse)), half);
  }
  const auto e = ExpOfMinus(d, s, rest);
  const auto u = hn::Div(one, is_gelu ? hn::MulAdd(t, hn::Set(d, A{0.25}), one) : hn::Add(one, e));
  if (is_gelu) {
    const auto q = hn::Mul(e, hn::Mul(u, Polynomial(d, hn::Sub(u, hn::Set(d, A{0.5})), C::kTail)));
    if (!derives) return hn::Sub(hn::IfThenElse(is_negative, hn::Set(d, A{-0.0}), v), hn::Mul(t, q));
    // Q + v*density where v < 0, else 1 - Q + v*density.
    const auto slope = hn::Sub(q, hn::Mul(hn::Mul(t, e), hn::Set(d, C::kDensity)));
    return hn::IfThenElse(is_negative, slope, hn::Sub(one, slope));
  }
  const auto eu = hn::Mul(e, u);
  const auto sigmoid = hn::IfThenElse(is_negative, eu, u);
  const auto signed_t = hn::CopySign(t, v);
  if (!derives) return is_silu ? hn::Mul(sigmoid, hn::IfThenElse(is_negative, signed_t, v)) : sigmoid;
  // sigmoid' = sigmoid*(1 - sigmoid), silu' = sigmoid + v*sigmoid'.
  const auto slope = hn::Mul(eu, u);
  return is_silu ? hn::MulAdd(signed_t, slope, sigmoid) : slope;
}

template <class A>
BN2D_KERNEL void Activate(const ActivationJob &job) {
  const hn::ScalableTag<A> d;
  const auto *const argument = static_cast<const A *>(job.argument);
  const auto *const gradient = static_cast<const A *>(job.gradient);
  auto *const out = static_cast<A *>(job.out);
  const bool is_smooth = job.activation >= Activation::silu;
  for (int64_t i = 0; i < job.count; i += static_cast<int64_t>(hn::Lanes(d))) {
    auto v = hn::LoadU(d, argument + i);
    v = is_smooth ? Smooth(d, job, v) : Piecewise(d, job, v);
    // As with relu: where nothing gets through, an infinite gradient does not either.
    if (gradient != nullptr) v = hn::IfThenZeroElse(hn::Eq(v, hn::Zero(d)), hn::Mul(v, hn::LoadU(d, gradient + i)));
    hn::StoreU(v, d, out + i);
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
