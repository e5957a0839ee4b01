// The coefficients of forward and backward, and the gradients of weight and bias, from statistics
// and sums. Vectors along the channels. Included once per SIMD target.
#if defined(BN2D_KERNELS_COEFFICIENTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_COEFFICIENTS_INL_H
#undef BN2D_KERNELS_COEFFICIENTS_INL_H
#else
#define BN2D_KERNELS_COEFFICIENTS_INL_H
#endif

#include <cfloat>
#include <limits>

#include "kernels/channels.inl.h"
#include "kernels/elements.inl.h"
#include "kernels/extreme_channel.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/pair.inl.h"
#include "kernels/safe_range.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// A number in two parts of the arithmetic type. Beyond the range of float there is no low part.
template <class D>
HWY_INLINE void StoreSplit(D d, Vec<D> hi, Vec<D> lo, float *out_hi, float *out_lo) {
  const Rebind<float, D> df;
  const auto head = WithoutPayload(df, ToFloat<D>(df, hi));
  const auto back = PromoteTo(d, head);
  const auto finite = Eq(Sub(back, back), Zero(d));
  StoreU(head, df, out_hi);
  StoreU(ToFloat<D>(df, IfThenElseZero(finite, Add(Sub(hi, back), lo))), df, out_lo);
}
template <class D>
HWY_INLINE void StoreSplit(D d, Vec<D> hi, Vec<D> lo, double *out_hi, double *out_lo) {
  StoreU(hi, d, out_hi);
  StoreU(lo, d, out_lo);
}
// Returns what it has stored: to load it again would wait for the store.
template <class D>
HWY_INLINE Vec<D> StoreAs(D d, Vec<D> v, float *out) {
  const Rebind<float, D> df;
  const auto rounded = ToFloat<D>(df, v);
  StoreU(WithoutPayload(df, rounded), df, out);
  return PromoteTo(d, rounded);
}
template <class D>
HWY_INLINE Vec<D> StoreAs(D d, Vec<D> v, double *out) {
  StoreU(v, d, out);
  return v;
}

template <class D>
HWY_INLINE Vec<D> LoadOr(D d, const double *array, int64_t c, double other) {
  return array ? LoadU(d, array + c) : Set(d, other);
}

// A factor in the range of the arithmetic type, where `made_of` is finite: infinity times a
// difference of 0 would be NaN.
template <class A, class D>
HWY_INLINE Vec<D> InRange(D d, Vec<D> factor, Vec<D> made_of) {
  const auto largest = Set(d, static_cast<double>(std::numeric_limits<A>::max()));
  const auto too_large = And(Gt(Abs(factor), largest), Le(Abs(made_of), Set(d, DBL_MAX)));
  return IfThenElse(too_large, CopySign(largest, factor), factor);
}

// is_extreme_factor() of each.
template <class A, class D>
HWY_INLINE Mask<D> IsExtremeFactor(D d, Vec<D> v) {
  using R = SafeRange<A>;
  const auto magnitude = Abs(v);
  return Or(Ge(magnitude, Set(d, R::kMost)),
            And(Lt(magnitude, Set(d, R::kLeast)), Ne(magnitude, Zero(d))));
}

// Marks the channels of a vector. Hardly ever are there any.
template <class D>
HWY_INLINE void MarkExtreme(D d, Mask<D> mask, int64_t c, uint8_t *extreme) {
  if (extreme == nullptr || AllFalse(d, mask)) return;
  uint8_t bits[8];
  StoreMaskBits(d, mask, bits);
  for (size_t i = 0; i < Lanes(d); ++i)
    if ((bits[0] >> i) & 1) extreme[c + static_cast<int64_t>(i)] = 1;
}

// Whether vectors of channels are asked first whether all is ordinary. Not where a vector is one
// channel: these are few, or the CPU is old.
template <class D>
inline constexpr bool kAsksVectors = kSpecialise && (MaxLanes(D()) > 1);
// Whether magnitudes are ordinary: the least of them, and their sum, in which a NaN of one stays
// one. (A maximum does not promise that.)
template <class D>
HWY_INLINE bool AreOrdinary(D d, Vec<D> least, Vec<D> sum) {
  return hn::AllTrue(d, And(Ge(least, Set(d, kLeastOrdinary)), Lt(sum, Set(d, kMostOrdinary))));
}
// A magnitude, or 1 where a factor of it is 0. Weights of 0 are not rare, and nothing extreme; but
// they are asked for only where something is not ordinary.
template <class D>
HWY_INLINE Vec<D> OneForZeroFactor(D d, Vec<D> magnitude, Vec<D> factor) {
  return IfThenElse(Eq(factor, Zero(d)), Set(d, 1.0), magnitude);
}

// Marks the extreme ones among the channels of a vector: see mark_extreme().
template <class Numbers, class D, class... V>
HWY_NOINLINE BN2D_SMALL void MarkOneByOne(D d, const ChannelCoefficients &out, int64_t c,
                                          V... numbers) {
  static_assert(sizeof(Numbers) == sizeof...(V) * sizeof(double));
  double in_memory[sizeof...(V)][MaxLanes(D())];
  int k = 0;
  (StoreU(numbers, d, in_memory[k++]), ...);
  mark_extreme<Numbers>(out.wide, MaxLanes(d), in_memory[0],
                        out.extreme ? out.extreme + c : nullptr);
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
    MarkExtreme(d, Ge(Abs(center), Set(d, SafeRange<A>::kCenter)), c, out.extreme);
    StoreSplit(d, Neg(center), Neg(LoadOr(d, mean_lo, c, 0)),
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
    const auto factor = LoadU(d, factors + c);
    MarkExtreme(d, IsExtremeFactor<A>(d, factor), c, out.extreme);
    StoreAs(d, InRange<A>(d, factor, factor), Coefficient<A>(out, k, c));
  }
};

BN2D_KERNEL inline void StoreCenters(int64_t channels, const double *mean, const double *mean_lo,
                                     const ChannelCoefficients &out) {
  if (out.wide) {
    ForEachVector(channels, StoredCenters<double>{mean, mean_lo, out});
  } else {
    ForEachVector(channels, StoredCenters<float>{mean, mean_lo, out});
  }
}
// Of double backward: for size.
BN2D_SMALL inline void StoreFactors(int64_t channels, const double *factors, int k,
                                    const ChannelCoefficients &out) {
  if (out.wide) {
    ForEachVector(channels, StoredFactors<double>{factors, k, out});
  } else {
    ForEachVector(channels, StoredFactors<float>{factors, k, out});
  }
}

struct InvertedDeviations {
  const double *var;
  double eps;
  double *invstd;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    const auto v = Add(LoadU(d, var + c), Set(d, eps));
    StoreU(IfThenZeroElse(Eq(v, Zero(d)), Div(Set(d, 1.0), Sqrt(v))), d, invstd + c);
  }
};
BN2D_SMALL_ON_OLD_CPUS inline void InverseDeviations(int64_t channels, const double *var,
                                                     double eps, double *invstd) {
  ForEachVector(channels, InvertedDeviations{var, eps, invstd});
}

template <class A>
struct ForwardCoefficients {
  const ForwardChannels &of;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    const ChannelCoefficients &out = of.coefficients;
    const auto inverse = LoadU(d, of.invstd + c);
    const auto w = LoadOr(d, of.weight, c, 1), b = LoadOr(d, of.bias, c, 0);
    const auto scale = Mul(w, inverse);
    // With eps = 0 and a deviation near the smallest float this leaves the range of float.
    StoreAs(d, InRange<A>(d, scale, w), Coefficient<A>(out, coefficient::scale, c));
    StoreAs(d, b, Coefficient<A>(out, coefficient::shift, c));
    const auto var = LoadU(d, of.var + c), v = Add(var, Set(d, of.eps));
    if constexpr (kAsksVectors<D>) {
      const auto size = Abs(scale), sum = Add(size, Add(v, Abs(b)));
      if (AreOrdinary(d, Min(size, var), sum)) return;
      const auto variance = sizeof(A) == sizeof(double) ? v : OneForZeroFactor(d, var, var);
      if (AreOrdinary(d, Min(OneForZeroFactor(d, size, w), variance), sum)) return;
    }
    MarkOneByOne<ForwardNumbers>(d, out, c, w, inverse, scale, b, var, Set(d, of.eps));
  }
};

BN2D_SMALL_ON_OLD_CPUS inline void CoefficientsOfForward(const ForwardChannels &of) {
  StoreCenters(of.channels, of.mean, of.mean_lo, of.coefficients);
  if (of.coefficients.wide) {
    ForEachVector(of.channels, ForwardCoefficients<double>{of});
  } else {
    ForEachVector(of.channels, ForwardCoefficients<float>{of});
  }
}

// The sums of a channel times a factor. NaN, which makes all channels of the set extreme, where
// their mean is below `least`, or too large. A channel whose sums are 0 adds nothing.
template <class D, class V = Vec<D>>
HWY_NOINLINE void StoreWeighed(D d, const BackwardChannels &of, int64_t c, V factor, V least) {
  const auto zero = Zero(d), nan = Set(d, std::numeric_limits<double>::quiet_NaN());
  const auto g = Abs(LoadU(d, of.sums->hi + c)),
             products = Abs(LoadU(d, of.sums->hi + kMaxGroup + c));
  const auto sum = MulAdd(products, LoadU(d, of.statistics.invstd + c), g);
  const auto is_within =
      And(Ge(sum, Mul(least, Set(d, of.count))), Lt(sum, Set(d, SafeRange<double>::kMost)));
  const auto is_safe = Or(Eq(Max(g, products), zero), is_within);
  for (int64_t i = c; i < 2 * kMaxGroup; i += kMaxGroup) {
    const Pair<V> product = TwoProduct(factor, LoadU(d, of.sums->hi + i));
    const auto low = MulAdd(factor, LoadU(d, of.sums->lo + i), product.lo);
    StoreU(IfThenElse(is_safe, product.hi, nan), d, of.weighed->hi + i);
    StoreU(IfThenElseZero(Eq(Sub(low, low), zero), low), d, of.weighed->lo + i);
  }
}

template <class A>
struct BackwardGradients {
  using R = SafeRange<A>;
  static constexpr bool kPair = sizeof(A) == sizeof(double);
  const BackwardChannels &of;

  template <class D>
  static HWY_INLINE Vec<D> Total(D d, const Sums &sums, int64_t i) {
    return Add(LoadU(d, sums.hi + i), LoadU(d, sums.lo + i));
  }
  template <class D>
  HWY_INLINE Vec<D> ProductsOfSet(D d, int64_t c) const {
    return kPair ? Total(d, *of.of_set, kMaxGroup + c) : LoadU(d, of.of_set->hi + kMaxGroup + c);
  }
  // What is subtracted and added where the mean of scale*g over a set stands for scale*g_mean: as
  // much of it as a gradient of this channel can cancel, and the rest. Returns that mean.
  template <class D, class V = Vec<D>>
  HWY_NOINLINE V StoreShiftOfSet(D d, int64_t c, V scale) const {
    using namespace coefficient;
    const auto n = Set(d, of.count);
    const Pair<V> sum = LoadNumber<kPair>(d, of.of_set->hi + c, of.of_set->lo + c);
    const Pair<V> mean = kPair ? Divide(sum, n) : Pair<V>{Div(sum.hi, n), sum.lo};
    const V gradient = Div(mean.hi, scale);
    const auto is_safe = Lt(Abs(gradient), Set(d, SafeRange<A>::kMost));  // NaN is not
    const V held = StoreAs(d, Neg(IfThenElseZero(is_safe, gradient)),
                           Coefficient<A>(of.coefficients, b_minus_gmean, c));
    // In double the product of two floats is exact, so there is one rounding, and no low part.
    const V rest = kPair ? Add(mean, TwoProduct(scale, held)).hi : MulAdd(scale, held, mean.hi);
    StoreAs(d, Neg(rest), Coefficient<A>(of.coefficients, b_shift, c));
    return mean.hi;
  }
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    using namespace coefficient;
    using V = Vec<D>;
    const ChannelCoefficients &out = of.coefficients;
    const V invstd = LoadU(d, of.statistics.invstd + c), w = LoadOr(d, of.statistics.weight, c, 1),
            exact_scale = Mul(w, invstd);
    const V scale =  // as the map has it
        StoreAs(d, InRange<A>(d, exact_scale, w), Coefficient<A>(out, b_scale, c));
    if (of.weighed != nullptr) {
      const V least = kPair
                          ? Mul(Max(invstd, Set(d, 1.0)), Set(d, SafeRange<double>::kLeastGradient))
                          : Mul(invstd, Set(d, R::kLeast));
      return StoreWeighed(d, of, c, scale, least);
    }
    if (of.sums == nullptr) {
      const V size = Abs(exact_scale);
      if (kAsksVectors<D> && AreOrdinary(d, OneForZeroFactor(d, size, w), size)) return;
      return MarkOneByOne<ScaleNumbers>(d, out, c, w, invstd, exact_scale);
    }
    const V n = Set(d, of.count);
    const V g = Total(d, *of.sums, c), g_xhat = Mul(invstd, Total(d, *of.sums, kMaxGroup + c));
    const V g_mean = Div(g, n), g_xhat_mean = Div(g_xhat, n), scaled_mean = Mul(scale, g_mean);
    StoreU(g, d, of.sum_g + c);
    StoreU(g_xhat, d, of.sum_g_xhat + c);
    const V held = StoreAs(d, Neg(g_mean), Coefficient<A>(out, b_minus_gmean, c));
    StoreAs(d, Mul(scale, Neg(Add(held, g_mean))), Coefficient<A>(out, b_shift, c));
    const V of_xhat =
        of.of_set ? Mul(invstd, Div(ProductsOfSet(d, c), n)) : Mul(scale, g_xhat_mean);
    const V of_x = Mul(of_xhat, invstd);
    StoreAs(d, Neg(of_x), Coefficient<A>(out, b_x_factor, c));
    const V set_mean = of.of_set ? StoreShiftOfSet(d, c, scale) : Zero(d);
    if constexpr (kAsksVectors<D>) {
      const V size = Abs(exact_scale), of_both = Abs(of_x),
              mean = Abs(of.of_set ? set_mean : scaled_mean),
              least = Min(Abs(invstd), Min(Abs(g_mean), Abs(g_xhat_mean)));
      const V sum = Add(Add(Add(size, Abs(invstd)), Add(Abs(g_mean), Abs(g_xhat_mean))),
                        Add(Add(of_both, mean), Add(Abs(of_xhat), Abs(scaled_mean))));
      if (AreOrdinary(d, Min(least, Min(size, Min(of_both, mean))), sum)) return;
      const V products = Min(OneForZeroFactor(d, size, w), OneForZeroFactor(d, of_both, of_xhat));
      if (AreOrdinary(d, Min(least, Min(products, OneForZeroFactor(d, mean, mean))), sum)) return;
    }
    MarkOneByOne<BackwardNumbers>(d, out, c, w, invstd, exact_scale, g_mean, g_xhat_mean,
                                  scaled_mean, of_xhat, of_x, set_mean);
  }
};

BN2D_SMALL_ON_OLD_CPUS inline void GradientsOfBackward(const BackwardChannels &of) {
  if (of.sums != nullptr && of.weighed == nullptr)
    StoreCenters(of.channels, of.statistics.mean, of.statistics.mean_lo, of.coefficients);
  if (of.coefficients.wide) {
    ForEachVector(of.channels, BackwardGradients<double>{of});
  } else {
    ForEachVector(of.channels, BackwardGradients<float>{of});
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
