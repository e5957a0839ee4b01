// The formulas of the maps: what each operation makes of a vector of elements. Included once per
// SIMD target.
#if defined(BN2D_KERNELS_MAP_BODIES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_MAP_BODIES_INL_H
#undef BN2D_KERNELS_MAP_BODIES_INL_H
#else
#define BN2D_KERNELS_MAP_BODIES_INL_H
#endif

#include "kernels/elements.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/preactivation.inl.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

template <class T>
HWY_INLINE T *At(const Strided &s, int64_t channel, int64_t sample, int64_t position) {
  return static_cast<T *>(s.data) + channel * s.channel + sample * s.sample + position * s.position;
}

// What a body computes for one vector of elements.
template <class V>
struct Results {
  V out, out2;
  HWY_INLINE Results() {}  // see Pair
};

// What the activation lets through: v, or v*slope where it is damped; a slope of 0 gives 0 also for
// an infinite v. (Sums use GradientThrough, which multiplies by the slope in two parts: its
// rounding would add up.)
template <class D>
struct Through {
  Vec<D> slope;
  Mask<D> has_slope;
  HWY_INLINE Through(D d, TFromD<D> s) : slope(Set(d, s)), has_slope(Ne(slope, Zero(d))) {}
  HWY_INLINE Vec<D> operator()(Vec<D> v, Mask<D> is_damped) const {
    return IfThenElse(is_damped, IfThenElseZero(has_slope, Mul(v, slope)), v);
  }
};

// v, but not above a bound; NaN stays. Of two numbers that cannot be compared the instruction takes
// the second one on x86, and NaN elsewhere.
template <class V>
HWY_INLINE V AtMost(V bound, V v) {
#if HWY_TARGET == HWY_SCALAR
  return IfThenElse(Gt(v, bound), bound, v);
#else
  return Min(bound, v);
#endif
}

// Half data spend their time on instructions: a bound would cost relu a tenth of eval in the
// caches.
template <class T>
inline constexpr bool kKnowsBound = sizeof(T) == sizeof(Arithmetic<T>);

// Each body computes a vector of the elements from i on, with the coefficients `c`; `load` reads it
// from a tensor. kAlwaysOut: `out` is never NULL. kHot: worth code of its own for streaming stores
// and for elements in parts. kPlainCoefficients: those before the side's. kManyCoefficients: more
// than four are used.

// kFused: with a residual, an activation, or both.
template <class T, bool kFused>
struct ForwardBody {
  using A = Arithmetic<T>;
  static constexpr bool kAlwaysOut = true, kHot = true;
  static constexpr int kCoefficients = 4, kPlainCoefficients = 4;
  static constexpr bool kManyCoefficients = false;
  static constexpr const T *side = nullptr;
  const T *x, *z;
  T *out, *out2;  // y and the sign
  A slope, bound;
  HWY_INLINE ForwardBody(const MapJob &job, int64_t c, int64_t n, int64_t p)
      : x(At<T>(job.x, c, n, p)),
        z(kFused && job.v.data ? At<T>(job.v, c, n, p) : nullptr),
        out(At<T>(job.out, c, n, p)),
        out2(kFused && job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.activation == Activation::none ? 1.0 : job.slope)),
        bound(static_cast<A>(job.bound)) {}  // slope 1: no activation
  static constexpr int kReads = kFused ? 2 : 1;
  HWY_INLINE const T *reads(int k) const { return k == 0 || z == nullptr ? x : z; }
  template <class D, class C, class Load>
  HWY_INLINE Results<Vec<D>> operator()(D d, int64_t i, const C &c, const Load &load) const {
    Results<Vec<D>> r;
    auto v = Preactivation(d, load(x + i), c, i);
    if constexpr (kFused) {
      if (z) v = Add(v, load(z + i));
      const auto one = Set(d, A{1});
      if (out2) r.out2 = IfThenElse(Le(v, Zero(d)), Neg(one), one);
      v = Through<D>(d, slope)(v, Le(v, Zero(d)));
      if constexpr (kKnowsBound<T>) v = AtMost(Set(d, bound), v);
    }
    r.out = v;
    return r;
  }
};

template <bool kHasBound, class D, class C>
HWY_INLINE Mask<D> Damped(D d, Vec<D> side, const C &c, int sign, int64_t i) {
  if constexpr (!kHasBound) return IsDamped<D>(side, c.get(d, sign, i), c.get(d, sign + 1, i));
  return IsDamped<D>(side, c.get(d, sign, i), c.get(d, sign + 1, i), c.get(d, sign + 2, i));
}

// kFused: with an activation, or the residual's gradient.
template <class T, bool kFused>
struct BackwardBody {
  using A = Arithmetic<T>;
  static constexpr bool kAlwaysOut = true, kHot = true;
  static constexpr int kCoefficients = coefficient_count(MapOf::backward, kFused),
                       kPlainCoefficients = coefficient_count(MapOf::backward, false);
  static constexpr bool kManyCoefficients = true;
  const T *x, *g, *side;
  T *out, *out2;  // dx and dz
  A slope;
  HWY_INLINE BackwardBody(const MapJob &job, int64_t c, int64_t n, int64_t p)
      : x(At<T>(job.x, c, n, p)),
        g(At<T>(job.g, c, n, p)),
        side(kFused && job.side.data ? At<T>(job.side, c, n, p) : nullptr),
        out(At<T>(job.out, c, n, p)),
        out2(kFused && job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.slope)) {}
  static constexpr int kReads = kFused ? 3 : 2;
  HWY_INLINE const T *reads(int k) const { return k == 0 ? x : k == 1 || !side ? g : side; }
  template <class D, class C, class Load>
  HWY_INLINE Results<Vec<D>> operator()(D d, int64_t i, const C &c, const Load &load) const {
    Results<Vec<D>> r;
    auto vg = load(g + i);
    if (kFused && side)
      vg = Through<D>(d, slope)(
          vg, Damped<kKnowsBound<T>>(d, load(side + i), c, coefficient::b_side_sign, i));
    const auto centered = Add(vg, c.get(d, coefficient::b_minus_gmean, i));
    const auto v =
        MulAdd(centered, c.get(d, coefficient::b_scale, i), c.get(d, coefficient::b_shift, i));
    r.out = MulAdd(Centered(d, load(x + i), c, i), c.get(d, coefficient::b_x_factor, i), v);
    r.out2 = vg;
    return r;
  }
};

// kFused: with an activation, or the residual's gradient, or without dx.
template <class T, bool kFused>
struct ScaleBody {
  using A = Arithmetic<T>;
  static constexpr bool kAlwaysOut = !kFused, kHot = true;
  static constexpr int kCoefficients = coefficient_count(MapOf::scale, kFused),
                       kPlainCoefficients = coefficient_count(MapOf::scale, false);
  static constexpr bool kManyCoefficients = false;
  const T *g, *side;
  T *out, *out2;  // dx and dz
  A slope;
  HWY_INLINE ScaleBody(const MapJob &job, int64_t c, int64_t n, int64_t p)
      : g(At<T>(job.g, c, n, p)),
        side(kFused && job.side.data ? At<T>(job.side, c, n, p) : nullptr),
        out(kAlwaysOut || job.out.data ? At<T>(job.out, c, n, p) : nullptr),
        out2(kFused && job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.slope)) {}
  static constexpr int kReads = kFused ? 2 : 1;
  HWY_INLINE const T *reads(int k) const { return k == 0 || !side ? g : side; }
  template <class D, class C, class Load>
  HWY_INLINE Results<Vec<D>> operator()(D d, int64_t i, const C &c, const Load &load) const {
    Results<Vec<D>> r;
    r.out2 = load(g + i);
    if (kFused && side)
      r.out2 = Through<D>(d, slope)(
          r.out2, Damped<kKnowsBound<T>>(d, load(side + i), c, coefficient::b_side_sign, i));
    r.out = Mul(r.out2, c.get(d, coefficient::b_scale, i));
    return r;
  }
};

template <class T>
struct DoubleBackwardBody {
  using A = Arithmetic<T>;
  static constexpr bool kAlwaysOut = false, kHot = false;
  static constexpr int kCoefficients = coefficient_count(MapOf::double_backward, true),
                       kPlainCoefficients = coefficient_count(MapOf::double_backward, false);
  static constexpr bool kManyCoefficients = true;
  const T *x, *g, *side, *v;
  T *out, *out2;  // ddy and dx
  A slope;
  HWY_INLINE DoubleBackwardBody(const MapJob &job, int64_t c, int64_t n, int64_t p)
      : x(At<T>(job.x, c, n, p)),
        g(At<T>(job.g, c, n, p)),
        side(job.side.data ? At<T>(job.side, c, n, p) : nullptr),
        v(At<T>(job.v, c, n, p)),
        out(job.out.data ? At<T>(job.out, c, n, p) : nullptr),
        out2(job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.slope)) {}
  static constexpr int kReads = 3;
  HWY_INLINE const T *reads(int k) const { return k == 0 ? x : k == 1 ? g : v; }
  template <class D, class C, class Load>
  HWY_INLINE Results<Vec<D>> operator()(D d, int64_t i, const C &c, const Load &load) const {
    using namespace coefficient;
    Results<Vec<D>> r;
    const Through<D> through(d, slope);
    auto vg = load(g + i);
    auto is_damped = MaskFromVec(Zero(d));
    if (side) {
      is_damped = Damped<false>(d, load(side + i), c, d_side_sign, i);
      vg = through(vg, is_damped);
    }
    const auto vv = Sub(load(v + i), c.get(d, d_vmean, i));
    const auto xhat = Mul(Centered(d, load(x + i), c, i), c.get(d, d_invstd, i));
    if (out) {
      r.out = MulAdd(vv, c.get(d, d_c1, i), c.get(d, d_c0, i));
      r.out = MulAdd(xhat, c.get(d, d_c2, i), r.out);
      if (side) r.out = through(r.out, is_damped);
    }
    if (out2) {
      r.out2 = Mul(vv, c.get(d, d_d1, i));
      const auto centered = Add(vg, c.get(d, d_minus_gmean, i));
      r.out2 = Add(r.out2, MulAdd(centered, c.get(d, d_d2, i), c.get(d, d_d0, i)));
      r.out2 = MulAdd(xhat, c.get(d, d_d3, i), r.out2);
    }
    return r;
  }
};

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
