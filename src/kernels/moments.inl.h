// Mean and variance of channels from the sums of blocks, vectors along the channels. Included once
// per SIMD target.
#if defined(BN2D_KERNELS_MOMENTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_MOMENTS_INL_H
#undef BN2D_KERNELS_MOMENTS_INL_H
#else
#define BN2D_KERNELS_MOMENTS_INL_H
#endif

#include <cmath>
#include <cstring>

#include "kernels/channels.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/pair.inl.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// The bits of a mask as bytes of 0 and 1.
template <class D>
HWY_INLINE void StoreFlags(D d, Mask<D> mask, uint8_t *flags) {
  std::memset(flags, 0, MaxLanes(d));
  if (HWY_LIKELY(AllFalse(d, mask))) return;
  uint8_t bits[8];
  StoreMaskBits(d, mask, bits);
  for (size_t i = 0; i < Lanes(d); ++i) flags[i] = (bits[0] >> i) & 1;
}

template <bool kPair>
struct MomentsOf {
  const BlockMoments &of;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    using V = Vec<D>;
    const auto n = Set(d, of.count), zero = Zero(d);
    const Sums &sums = *of.sums;
    Moments &out = *of.moments;
    const Pair<V> sum = LoadNumber<kPair>(d, sums.hi + c, sums.lo + c);
    const Pair<V> squares = LoadNumber<kPair>(d, sums.hi + kMaxGroup + c, sums.lo + kMaxGroup + c);
    if constexpr (kPair) {
      const Pair<V> pivot = {LoadU(d, static_cast<const double *>(of.pivot) + c), zero};
      const Pair<V> mean = Add(pivot, Divide(sum, n));
      const Pair<V> m2 = Add(squares, Negate(Divide(Square(sum), n)));
      StoreU(mean.hi, d, out.mean_hi + c);
      StoreU(mean.lo, d, out.mean_lo + c);
      const auto negative = Lt(m2.hi, zero);  // by rounding only
      const auto overflow = Eq(squares.hi, Set(d, HUGE_VAL));
      StoreU(IfThenElse(overflow, squares.hi, IfThenZeroElse(negative, m2.hi)), d, out.m2_hi + c);
      StoreU(IfThenZeroElse(Or(overflow, negative), m2.lo), d, out.m2_lo + c);
    } else {
      const Rebind<float, D> df;
      const auto pivot = PromoteTo(d, LoadU(df, static_cast<const float *>(of.pivot) + c));
      const auto mean_of_t = Div(sum.hi, n);
      const auto m2 = NegMulAdd(sum.hi, mean_of_t, squares.hi);
      StoreU(Add(pivot, mean_of_t), d, out.mean_hi + c);
      StoreU(m2, d, out.m2_hi + c);
      // Exact enough where the pivot is close to the mean, so that m2 has an eighth of the squares,
      // and where these are far from both ends of the range of float. NaN is not. A pivot 2.6
      // deviations away costs 1.4 * 2^-24 of one where samples repeat, and one of 5 costs 3.
      const auto close = Ge(m2, Mul(squares.hi, Set(d, kLeastPart)));
      const auto in_range =
          And(Ge(squares.hi, Mul(n, Set(d, kLeastSquare))), Lt(squares.hi, Set(d, HUGE_VAL)));
      StoreFlags(d, Not(And(close, in_range)), of.inexact + c);
    }
  }

 private:
  static constexpr double kLeastPart = 1.0 / 8, kLeastSquare = 0x1p-96;
};

BN2D_SMALL_ON_OLD_CPUS inline void MomentsOfBlock(const BlockMoments &of) {
  of.moments->count = of.count;
  of.moments->wide = of.wide;
  if (of.wide) {
    ForEachVector(of.channels, MomentsOf<true>{of});
  } else {
    ForEachVector(of.channels, MomentsOf<false>{of});
  }
}

// a <- a and b together; an infinite sum has no low part.
template <bool kPair>
struct Added {
  double *hi, *lo;
  const double *from_hi, *from_lo;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    if constexpr (!kPair) return StoreU(Add(LoadU(d, hi + c), LoadU(d, from_hi + c)), d, hi + c);
    const auto sum = TwoSum(LoadU(d, hi + c), LoadU(d, from_hi + c));
    const auto low = from_lo ? Add(LoadU(d, lo + c), LoadU(d, from_lo + c)) : LoadU(d, lo + c);
    const auto is_finite = Eq(Sub(sum.hi, sum.hi), Zero(d));
    StoreU(sum.hi, d, hi + c);
    StoreU(IfThenElseZero(is_finite, Add(low, sum.lo)), d, lo + c);
  }
};

BN2D_SMALL_ON_OLD_CPUS inline void AddNumbers(int64_t channels, double *hi, double *lo,
                                              const double *from_hi, const double *from_lo) {
  if (lo != nullptr) {
    ForEachVector(channels, Added<true>{hi, lo, from_hi, from_lo});
  } else {
    ForEachVector(channels, Added<false>{hi, lo, from_hi, from_lo});
  }
}

template <bool kPair>
struct MergedMoments {
  double count, count_b, weight;
  Moments *a;
  const Moments *b;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    using V = Vec<D>;
    const auto of_b = Set(d, count_b / count), product = Set(d, weight);
    if constexpr (!kPair) {
      const auto mean = LoadU(d, a->mean_hi + c), delta = Sub(LoadU(d, b->mean_hi + c), mean);
      const auto m2 = Add(LoadU(d, a->m2_hi + c), LoadU(d, b->m2_hi + c));
      StoreU(MulAdd(delta, of_b, mean), d, a->mean_hi + c);
      StoreU(MulAdd(Mul(delta, delta), product, m2), d, a->m2_hi + c);
    } else {
      const Pair<V> mean = LoadNumber<kPair>(d, a->mean_hi + c, a->mean_lo + c);
      const Pair<V> mean_b = LoadNumber<kPair>(d, b->mean_hi + c, b->mean_lo + c);
      const Pair<V> m2_a = LoadNumber<kPair>(d, a->m2_hi + c, a->m2_lo + c);
      const Pair<V> m2_b = LoadNumber<kPair>(d, b->m2_hi + c, b->m2_lo + c);
      const Pair<V> delta = Add(mean_b, Negate(mean));
      const Pair<V> merged = Add(mean, Divide(Multiply(delta, Set(d, count_b)), Set(d, count)));
      const Pair<V> m2 = Add(Add(m2_a, m2_b), Multiply(Square(delta), product));
      const auto infinity = Set(d, HUGE_VAL);
      const auto overflow = Or(Or(Eq(m2_a.hi, infinity), Eq(m2_b.hi, infinity)),
                               Eq(Mul(delta.hi, delta.hi), infinity));
      StoreU(merged.hi, d, a->mean_hi + c);
      StoreU(merged.lo, d, a->mean_lo + c);
      StoreU(IfThenElse(overflow, infinity, m2.hi), d, a->m2_hi + c);
      StoreU(IfThenZeroElse(overflow, m2.lo), d, a->m2_lo + c);
    }
  }
};

BN2D_SMALL_ON_OLD_CPUS inline void MergeMoments(int64_t channels, Moments *a, const Moments *b) {
  const double count = a->count + b->count, weight = a->count * (b->count / count);
  if (a->wide) {
    ForEachVector(channels, MergedMoments<true>{count, b->count, weight, a, b});
  } else {
    ForEachVector(channels, MergedMoments<false>{count, b->count, weight, a, b});
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
    using V = Vec<D>;
    if constexpr (!kPair) {
      StoreU(Div(LoadU(d, moments->m2_hi + c), Set(d, divisor)), d, out + c);
    } else {
      const Pair<V> m2 = LoadNumber<kPair>(d, moments->m2_hi + c, moments->m2_lo + c);
      const Pair<V> var = Divide(m2, Set(d, divisor));
      // An infinite sum has no remainder.
      StoreU(IfThenElse(Eq(m2.hi, Set(d, HUGE_VAL)), m2.hi, var.hi), d, out + c);
    }
  }
};

BN2D_SMALL_ON_OLD_CPUS inline void VarianceOfMoments(int64_t channels, const Moments *moments,
                                                     double divisor, double *var) {
  if (moments->wide) {
    ForEachVector(channels, Variances<true>{moments, divisor, var});
  } else {
    ForEachVector(channels, Variances<false>{moments, divisor, var});
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
