// Per-channel arithmetic of forward and backward, vectors along the channels of a group. Included
// once per SIMD target.
#if defined(BN2D_KERNELS_CHANNEL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_CHANNEL_INL_H
#undef BN2D_KERNELS_CHANNEL_INL_H
#else
#define BN2D_KERNELS_CHANNEL_INL_H
#endif

#include <cfloat>
#include <limits>

#include "kernels/kernels.h"
#include "kernels/pair.inl.h"
#include "kernels/safe_range.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Calls body(tag, channel) for vectors of channels, and for single ones at the end.
template <class Body>
HWY_INLINE void ForChannels(int64_t channels, const Body &body) {
  const hn::CappedTag<double, 8> d;
  const hn::CappedTag<double, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) body(d, c);
  for (; c < channels; ++c) body(one, c);
}

// The bits of a mask as bytes of 0 and 1.
template <class D>
HWY_INLINE void StoreFlags(D d, hn::Mask<D> mask, uint8_t *flags) {
  uint8_t bits[8] = {};
  if (!hn::AllFalse(d, mask)) hn::StoreMaskBits(d, mask, bits);
  for (size_t i = 0; i < hn::Lanes(d); ++i) flags[i] = (bits[0] >> i) & 1;
}

// Numbers in pairs for double data; plain doubles for float and half data.
template <bool kPair, class D>
HWY_INLINE Pair<hn::Vec<D>> LoadNumber(D d, const double *hi, const double *lo) {
  return {hn::LoadU(d, hi), kPair ? hn::LoadU(d, lo) : hn::Zero(d)};
}

template <bool kPair>
struct MomentsOf {
  const BlockMoments &of;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    using V = hn::Vec<D>;
    const auto n = hn::Set(d, of.count), zero = hn::Zero(d);
    const Sums &sums = *of.sums;
    Moments &out = *of.moments;
    const Pair<V> sum = LoadNumber<kPair>(d, sums.hi + c, sums.lo + c);
    const Pair<V> squares = LoadNumber<kPair>(d, sums.hi + kMaxGroup + c, sums.lo + kMaxGroup + c);
    if constexpr (kPair) {
      const Pair<V> pivot = {hn::LoadU(d, static_cast<const double *>(of.pivot) + c), zero};
      const Pair<V> mean = Add(pivot, Divide(sum, n));
      const Pair<V> m2 = Add(squares, Negate(Divide(Square(sum), n)));
      hn::StoreU(mean.hi, d, out.mean_hi + c);
      hn::StoreU(mean.lo, d, out.mean_lo + c);
      const auto negative = hn::Lt(m2.hi, zero);  // by rounding only
      const auto overflow = hn::Eq(squares.hi, hn::Set(d, HUGE_VAL));
      hn::StoreU(hn::IfThenElse(overflow, squares.hi, hn::IfThenZeroElse(negative, m2.hi)), d,
                 out.m2_hi + c);
      hn::StoreU(hn::IfThenZeroElse(hn::Or(overflow, negative), m2.lo), d, out.m2_lo + c);
    } else {
      const hn::Rebind<float, D> df;
      const auto pivot = hn::PromoteTo(d, hn::LoadU(df, static_cast<const float *>(of.pivot) + c));
      const auto mean_of_t = hn::Div(sum.hi, n);
      const auto m2 = hn::NegMulAdd(sum.hi, mean_of_t, squares.hi);
      hn::StoreU(hn::Add(pivot, mean_of_t), d, out.mean_hi + c);
      hn::StoreU(zero, d, out.mean_lo + c);
      hn::StoreU(m2, d, out.m2_hi + c);
      hn::StoreU(zero, d, out.m2_lo + c);
      // Exact enough where the pivot is close to the mean, so that m2 has an eighth of the squares,
      // and where these are far from both ends of the range of float. NaN is not. A pivot 2.6
      // deviations away costs 1.4 * 2^-24 of one where samples repeat, and one of 5 costs 3.
      const auto close = hn::Ge(m2, hn::Mul(squares.hi, hn::Set(d, kLeastPart)));
      const auto in_range = hn::And(hn::Ge(squares.hi, hn::Mul(n, hn::Set(d, kLeastSquare))),
                                    hn::Lt(squares.hi, hn::Set(d, HUGE_VAL)));
      StoreFlags(d, hn::Not(hn::And(close, in_range)), of.inexact + c);
    }
  }

 private:
  static constexpr double kLeastPart = 1.0 / 8, kLeastSquare = 0x1p-96;
};

BN2D_SELDOM inline void MomentsOfBlock(const BlockMoments &of) {
  of.moments->count = of.count;
  of.moments->wide = of.wide;
  if (of.wide) {
    ForChannels(of.channels, MomentsOf<true>{of});
  } else {
    ForChannels(of.channels, MomentsOf<false>{of});
  }
}

template <bool kPair>
struct MergedMoments {
  double count, count_b, weight;
  Moments *a;
  const Moments *b;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    using V = hn::Vec<D>;
    const auto of_b = hn::Set(d, count_b / count), product = hn::Set(d, weight);
    if constexpr (!kPair) {
      const auto mean = hn::LoadU(d, a->mean_hi + c),
                 delta = hn::Sub(hn::LoadU(d, b->mean_hi + c), mean);
      const auto m2 = hn::Add(hn::LoadU(d, a->m2_hi + c), hn::LoadU(d, b->m2_hi + c));
      hn::StoreU(hn::MulAdd(delta, of_b, mean), d, a->mean_hi + c);
      hn::StoreU(hn::MulAdd(hn::Mul(delta, delta), product, m2), d, a->m2_hi + c);
    } else {
      const Pair<V> mean = LoadNumber<kPair>(d, a->mean_hi + c, a->mean_lo + c);
      const Pair<V> mean_b = LoadNumber<kPair>(d, b->mean_hi + c, b->mean_lo + c);
      const Pair<V> m2_a = LoadNumber<kPair>(d, a->m2_hi + c, a->m2_lo + c);
      const Pair<V> m2_b = LoadNumber<kPair>(d, b->m2_hi + c, b->m2_lo + c);
      const Pair<V> delta = Add(mean_b, Negate(mean));
      const Pair<V> merged =
          Add(mean, Divide(Multiply(delta, hn::Set(d, count_b)), hn::Set(d, count)));
      const Pair<V> m2 = Add(Add(m2_a, m2_b), Multiply(Square(delta), product));
      const auto infinity = hn::Set(d, HUGE_VAL);
      const auto overflow = hn::Or(hn::Or(hn::Eq(m2_a.hi, infinity), hn::Eq(m2_b.hi, infinity)),
                                   hn::Eq(hn::Mul(delta.hi, delta.hi), infinity));
      hn::StoreU(merged.hi, d, a->mean_hi + c);
      hn::StoreU(merged.lo, d, a->mean_lo + c);
      hn::StoreU(hn::IfThenElse(overflow, infinity, m2.hi), d, a->m2_hi + c);
      hn::StoreU(hn::IfThenZeroElse(overflow, m2.lo), d, a->m2_lo + c);
    }
  }
};

BN2D_SELDOM inline void MergeMoments(int64_t channels, Moments *a, const Moments *b) {
  const double count = a->count + b->count, weight = a->count * (b->count / count);
  if (a->wide) {
    ForChannels(channels, MergedMoments<true>{count, b->count, weight, a, b});
  } else {
    ForChannels(channels, MergedMoments<false>{count, b->count, weight, a, b});
  }
  a->count = count;
}

template <bool kPair>
struct Variances {
  const Moments *moments;
  double divisor;
  double *out;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    using V = hn::Vec<D>;
    if constexpr (!kPair) {
      hn::StoreU(hn::Div(hn::LoadU(d, moments->m2_hi + c), hn::Set(d, divisor)), d, out + c);
    } else {
      const Pair<V> m2 = LoadNumber<kPair>(d, moments->m2_hi + c, moments->m2_lo + c);
      const Pair<V> var = Divide(m2, hn::Set(d, divisor));
      // An infinite sum has no remainder.
      hn::StoreU(hn::IfThenElse(hn::Eq(m2.hi, hn::Set(d, HUGE_VAL)), m2.hi, var.hi), d, out + c);
    }
  }
};

BN2D_SELDOM inline void VarianceOfMoments(int64_t channels, const Moments *moments, double divisor,
                                          double *var) {
  if (moments->wide) {
    ForChannels(channels, Variances<true>{moments, divisor, var});
  } else {
    ForChannels(channels, Variances<false>{moments, divisor, var});
  }
}

// A coefficient that is NaN, without a payload: see BF16BitsFromFloat.
template <class D>
HWY_INLINE hn::Vec<D> Canonical(D d, hn::Vec<D> v) {
  return hn::IfThenElse(hn::IsNaN(v), hn::Set(d, std::numeric_limits<hn::TFromD<D>>::quiet_NaN()),
                        v);
}

// Numbers beyond the range of float become infinite; in its scalar vectors Highway makes them the
// largest float.
template <class D, class DF = hn::Rebind<float, D>>
HWY_INLINE hn::Vec<DF> ToFloat(DF df, hn::Vec<D> v) {
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(df, static_cast<float>(hn::GetLane(v)));
#else
  return hn::DemoteTo(df, v);
#endif
}

// A number in two parts of the arithmetic type. Beyond the range of float there is no low part.
template <class D>
HWY_INLINE void StoreSplit(D d, hn::Vec<D> hi, hn::Vec<D> lo, float *out_hi, float *out_lo) {
  const hn::Rebind<float, D> df;
  const auto head = Canonical(df, ToFloat<D>(df, hi));
  const auto back = hn::PromoteTo(d, head);
  const auto finite = hn::Eq(hn::Sub(back, back), hn::Zero(d));
  hn::StoreU(head, df, out_hi);
  hn::StoreU(ToFloat<D>(df, hn::IfThenElseZero(finite, hn::Add(hn::Sub(hi, back), lo))), df,
             out_lo);
}
template <class D>
HWY_INLINE void StoreSplit(D d, hn::Vec<D> hi, hn::Vec<D> lo, double *out_hi, double *out_lo) {
  hn::StoreU(hi, d, out_hi);
  hn::StoreU(lo, d, out_lo);
}
template <class D>
HWY_INLINE void StoreAs(D, hn::Vec<D> v, float *out) {
  const hn::Rebind<float, D> df;
  hn::StoreU(Canonical(df, ToFloat<D>(df, v)), df, out);
}
template <class D>
HWY_INLINE void StoreAs(D d, hn::Vec<D> v, double *out) {
  hn::StoreU(v, d, out);
}

template <class D>
HWY_INLINE hn::Vec<D> LoadAs(D d, const float *from) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, D>(), from));
}
template <class D>
HWY_INLINE hn::Vec<D> LoadAs(D d, const double *from) {
  return hn::LoadU(d, from);
}

template <class D>
HWY_INLINE hn::Vec<D> LoadOr(D d, const double *array, int64_t c, double other) {
  return array ? hn::LoadU(d, array + c) : hn::Set(d, other);
}

// A factor in the range of the arithmetic type, where `made_of` is finite: infinity times a
// difference of 0 would be NaN.
template <class A, class D>
HWY_INLINE hn::Vec<D> InRange(D d, hn::Vec<D> factor, hn::Vec<D> made_of) {
  const auto largest = hn::Set(d, static_cast<double>(std::numeric_limits<A>::max()));
  const auto too_large =
      hn::And(hn::Gt(hn::Abs(factor), largest), hn::Le(hn::Abs(made_of), hn::Set(d, DBL_MAX)));
  return hn::IfThenElse(too_large, hn::CopySign(largest, factor), factor);
}

template <class D>
HWY_INLINE hn::Mask<D> IsAtLeast(D d, hn::Vec<D> v, double bound) {
  return hn::Ge(hn::Abs(v), hn::Set(d, bound));
}
template <class D>
HWY_INLINE hn::Mask<D> IsOutside(D d, hn::Vec<D> v, double least, double most) {
  const auto magnitude = hn::Abs(v);
  return hn::Or(hn::Ge(magnitude, hn::Set(d, most)),
                hn::And(hn::Lt(magnitude, hn::Set(d, least)), hn::Ne(magnitude, hn::Zero(d))));
}
template <class A, class D>
HWY_INLINE hn::Mask<D> IsExtremeFactor(D d, hn::Vec<D> v) {
  return IsOutside(d, v, SafeRange<A>::kLeast, SafeRange<A>::kMost);
}

// The same of the product of a weight and 1/std, which is 0 also where it underflows.
template <class A, class D>
HWY_INLINE hn::Mask<D> IsExtremeScale(D d, hn::Vec<D> weight, hn::Vec<D> invstd, hn::Vec<D> scale) {
  const auto vanished = hn::And(hn::Eq(scale, hn::Zero(d)), hn::Ne(weight, hn::Zero(d)));
  return hn::Or(IsExtremeFactor<A>(d, scale), hn::And(vanished, hn::Ne(invstd, hn::Zero(d))));
}

// Marks the channels of a vector. Hardly ever are there any.
template <class D>
HWY_INLINE void MarkExtreme(D d, hn::Mask<D> mask, int64_t c, uint8_t *extreme) {
  if (extreme == nullptr || hn::AllFalse(d, mask)) return;
  uint8_t bits[8];
  hn::StoreMaskBits(d, mask, bits);
  for (size_t i = 0; i < hn::Lanes(d); ++i)
    if ((bits[0] >> i) & 1) extreme[c + static_cast<int64_t>(i)] = 1;
}

template <class A>
HWY_INLINE A *Coefficient(const ChannelCoefficients &coefficients, int k, int64_t c) {
  return static_cast<A *>(coefficients.data) + k * coefficients.stride + c;
}

template <class A>
struct StoredCenters {
  const double *mean, *mean_lo;
  const ChannelCoefficients &out;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    const auto center = LoadOr(d, mean, c, 0);
    MarkExtreme(d, IsAtLeast(d, center, SafeRange<A>::kCenter), c, out.extreme);
    StoreSplit(d, hn::Neg(center), hn::Neg(LoadOr(d, mean_lo, c, 0)),
               Coefficient<A>(out, coefficient::minus_mean_hi, c),
               Coefficient<A>(out, coefficient::minus_mean_lo, c));
  }
};
template <class A>
struct StoredFactors {
  const double *factors;
  int k;
  const ChannelCoefficients &out;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    const auto factor = hn::LoadU(d, factors + c);
    MarkExtreme(d, IsExtremeFactor<A>(d, factor), c, out.extreme);
    StoreAs(d, InRange<A>(d, factor, factor), Coefficient<A>(out, k, c));
  }
};

BN2D_KERNEL inline void StoreCenters(int64_t channels, const double *mean, const double *mean_lo,
                                     const ChannelCoefficients &out) {
  if (out.wide) {
    ForChannels(channels, StoredCenters<double>{mean, mean_lo, out});
  } else {
    ForChannels(channels, StoredCenters<float>{mean, mean_lo, out});
  }
}
BN2D_SELDOM inline void StoreFactors(int64_t channels, const double *factors, int k,
                                     const ChannelCoefficients &out) {
  if (out.wide) {
    ForChannels(channels, StoredFactors<double>{factors, k, out});
  } else {
    ForChannels(channels, StoredFactors<float>{factors, k, out});
  }
}

template <class A>
struct ForwardCoefficients {
  const ForwardChannels &of;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    const ChannelCoefficients &out = of.coefficients;
    const auto one = hn::Set(d, 1.0), zero = hn::Zero(d);
    const auto v = hn::Add(hn::LoadU(d, of.var + c), hn::Set(d, of.eps));
    const auto inverse = hn::IfThenZeroElse(hn::Eq(v, zero), hn::Div(one, hn::Sqrt(v)));
    hn::StoreU(inverse, d, of.invstd + c);
    const auto w = LoadOr(d, of.weight, c, 1), b = LoadOr(d, of.bias, c, 0);
    const auto scale = hn::Mul(w, inverse);
    // With eps = 0 and a deviation near the smallest float this leaves the range of float.
    StoreAs(d, InRange<A>(d, scale, w), Coefficient<A>(out, coefficient::scale, c));
    StoreAs(d, b, Coefficient<A>(out, coefficient::shift, c));
    auto extreme =
        hn::Or(IsExtremeScale<A>(d, w, inverse, scale), IsAtLeast(d, b, SafeRange<A>::kMost));
    if constexpr (sizeof(A) == sizeof(double)) {
      using R = SafeRange<double>;
      const auto sums_hold = hn::And(hn::Ge(v, hn::Set(d, R::kLeastVariance)),
                                     hn::Le(v, hn::Set(d, R::kMostVariance)));
      extreme = hn::Or(extreme, hn::Not(sums_hold));  // NaN, too
    }
    MarkExtreme(d, extreme, c, out.extreme);
  }
};

BN2D_SELDOM inline void CoefficientsOfForward(const ForwardChannels &of) {
  StoreCenters(of.channels, of.mean, of.mean_lo, of.coefficients);
  if (of.coefficients.wide) {
    ForChannels(of.channels, ForwardCoefficients<double>{of});
  } else {
    ForChannels(of.channels, ForwardCoefficients<float>{of});
  }
}

template <class A>
struct BackwardGradients {
  const BackwardChannels &of;
  template <class D>
  static HWY_INLINE hn::Vec<D> Total(D d, const Sums &sums, int64_t i) {
    return hn::Add(hn::LoadU(d, sums.hi + i), hn::LoadU(d, sums.lo + i));
  }
  // What is subtracted and added where the mean of scale*g over a set stands for scale*g_mean: as
  // much of it as a gradient of this channel can cancel, and the rest. True where sums of the set
  // are extreme, or NaN.
  template <class D, class V = hn::Vec<D>>
  HWY_NOINLINE hn::Mask<D> ShiftOfSet(D d, int64_t c, V scale) const {
    using namespace coefficient;
    const Pair<V> mean =
        Divide(LoadNumber<true>(d, of.of_set->hi + c, of.of_set->lo + c), hn::Set(d, of.count));
    const V gradient = hn::Div(mean.hi, scale);
    const auto is_safe = hn::Lt(hn::Abs(gradient), hn::Set(d, SafeRange<A>::kMost));  // NaN is not
    A *const minus_gmean = Coefficient<A>(of.coefficients, b_minus_gmean, c);
    StoreAs(d, hn::Neg(hn::IfThenElseZero(is_safe, gradient)), minus_gmean);
    const Pair<V> rest = Add(mean, TwoProduct(scale, LoadAs(d, minus_gmean)));
    StoreAs(d, hn::Neg(rest.hi), Coefficient<A>(of.coefficients, b_shift, c));
    return hn::Or(IsExtremeFactor<A>(d, mean.hi), hn::IsNaN(mean.hi));
  }
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    using namespace coefficient;
    using R = SafeRange<A>;
    const ChannelCoefficients &out = of.coefficients;
    const auto invstd = hn::LoadU(d, of.statistics.invstd + c);
    const auto w = LoadOr(d, of.statistics.weight, c, 1), exact_scale = hn::Mul(w, invstd);
    StoreAs(d, InRange<A>(d, exact_scale, w), Coefficient<A>(out, b_scale, c));
    auto extreme = IsExtremeScale<A>(d, w, invstd, exact_scale);
    if (of.sums != nullptr) {
      const auto scale = LoadAs(d, Coefficient<A>(out, b_scale, c));  // as the map has it
      const auto n = hn::Set(d, of.count);
      const auto g = Total(d, *of.sums, c),
                 g_xhat = hn::Mul(invstd, Total(d, *of.sums, kMaxGroup + c));
      const auto g_mean = hn::Div(g, n), slope = hn::Div(g_xhat, n);
      hn::StoreU(g, d, of.sum_g + c);
      hn::StoreU(g_xhat, d, of.sum_g_xhat + c);
      StoreAs(d, hn::Neg(g_mean), Coefficient<A>(out, b_minus_gmean, c));
      StoreAs(d,
              hn::Mul(scale,
                      hn::Neg(hn::Add(LoadAs(d, Coefficient<A>(out, b_minus_gmean, c)), g_mean))),
              Coefficient<A>(out, b_shift, c));
      const auto of_xhat = of.of_set
                               ? hn::Mul(invstd, hn::Div(Total(d, *of.of_set, kMaxGroup + c), n))
                               : hn::Mul(scale, slope);
      const auto of_x = hn::Mul(of_xhat, invstd);
      StoreAs(d, hn::Neg(of_x), Coefficient<A>(out, b_slope, c));
      extreme = hn::Or(extreme, IsExtremeScale<A>(d, of_xhat, invstd, of_x));
      // What dx is the sum of must not overflow before it cancels.
      const auto terms = hn::Max(hn::Abs(of_xhat), hn::Abs(hn::Mul(scale, g_mean)));
      extreme = hn::Or(extreme, IsAtLeast(d, terms, SafeRange<A>::kMost));
      if (of.of_set) extreme = hn::Or(extreme, hn::Or(ShiftOfSet(d, c, scale), hn::IsNaN(of_x)));
      if constexpr (sizeof(A) == sizeof(double)) {
        // The products that were summed are as large as gradients times 1/invstd. A sum: a NaN of
        // either stays one, which a maximum does not promise.
        const auto least = hn::Mul(hn::Max(invstd, hn::Set(d, 1.0)), hn::Set(d, R::kLeastGradient));
        const auto means = hn::Add(hn::Abs(g_mean), hn::Abs(slope));
        const auto sums_hold =
            hn::And(hn::Ge(hn::Abs(slope), least), hn::Lt(means, hn::Set(d, R::kMost)));
        extreme = hn::Or(extreme, IsOutside(d, invstd, R::kLeastInvstd, R::kMostInvstd));
        extreme = hn::Or(extreme, hn::Not(sums_hold));  // NaN, and gradients of 0, too
      } else {
        extreme = hn::Or(extreme, IsExtremeFactor<A>(d, invstd));
        extreme = hn::Or(extreme, IsExtremeFactor<A>(d, g_mean));
        extreme = hn::Or(extreme, IsExtremeFactor<A>(d, slope));
        // A product of floats may lack 2^-150, all of it or its last bits, and 1/std makes that
        // larger. Where the means are not far above it, and where they are NaN after an overflow,
        // the sums are taken again.
        const auto means = hn::Add(hn::Abs(g_mean), hn::Abs(slope));
        extreme = hn::Or(extreme, hn::Not(hn::Gt(means, hn::Mul(invstd, hn::Set(d, R::kLeast)))));
      }
    }
    MarkExtreme(d, extreme, c, out.extreme);
  }
};

BN2D_SELDOM inline void GradientsOfBackward(const BackwardChannels &of) {
  if (of.sums != nullptr)
    StoreCenters(of.channels, of.statistics.mean, of.statistics.mean_lo, of.coefficients);
  if (of.coefficients.wide) {
    ForChannels(of.channels, BackwardGradients<double>{of});
  } else {
    ForChannels(of.channels, BackwardGradients<float>{of});
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
