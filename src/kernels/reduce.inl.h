// The sums of a block, from those of its lanes. Included once per SIMD target.
#if defined(BN2D_KERNELS_REDUCE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_REDUCE_INL_H
#undef BN2D_KERNELS_REDUCE_INL_H
#else
#define BN2D_KERNELS_REDUCE_INL_H
#endif

#include <algorithm>
#include <cmath>

#include "kernels/channels.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/lanes.inl.h"
#include "kernels/pair.inl.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// A number, or one with a low part.
template <bool kPair, class V>
HWY_INLINE Pair<V> AddLanes(Pair<V> a, Pair<V> b) {
  if constexpr (kPair) {
    const Pair<V> sum = TwoSum(a.hi, b.hi);
    return {sum.hi, Add(sum.lo, Add(a.lo, b.lo))};
  } else {
    return {Add(a.hi, b.hi), a.lo};
  }
}

// Neighbours together: [a0+a1, a2+a3, ..., b0+b1, ...].
template <bool kPair, class D>
HWY_INLINE Pair<Vec<D>> AddNeighbours(D d, Pair<Vec<D>> a, Pair<Vec<D>> b) {
#if HWY_TARGET == HWY_SCALAR
  (void)d;
  return AddLanes<kPair>(a, b);
#else
  using V = Vec<D>;
  if constexpr (!kPair)
    return {Add(hn::ConcatEven(d, b.hi, a.hi), hn::ConcatOdd(d, b.hi, a.hi)), a.lo};
  return AddLanes<kPair>(Pair<V>{hn::ConcatEven(d, b.hi, a.hi), hn::ConcatEven(d, b.lo, a.lo)},
                         Pair<V>{hn::ConcatOdd(d, b.hi, a.hi), hn::ConcatOdd(d, b.lo, a.lo)});
#endif
}

// The tree over 8 vectors: neighbours first. add(a, b) -> both.
template <class V, class F>
HWY_INLINE V TreeOfEight(V *v, const F &add) {
#pragma GCC unroll 3
  for (int count = kLanes / 2; count > 0; count /= 2)
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) v[i] = add(v[2 * i], v[2 * i + 1]);
  return v[0];
}

template <bool kPair, class D>
HWY_INLINE void StoreReduced(D d, Pair<Vec<D>> sum, double *hi, double *lo) {
  if constexpr (kPair) {
    // An overflow to infinity leaves NaN in the low part.
    const auto infinite = Eq(Abs(sum.hi), Set(d, HUGE_VAL));
    const auto total = QuickTwoSum(sum.hi, sum.lo);
    StoreU(IfThenElse(infinite, sum.hi, total.hi), d, hi);
    StoreU(IfThenZeroElse(infinite, total.lo), d, lo);
  } else {
    StoreU(sum.hi, d, hi);
    StoreU(sum.lo, d, lo);
  }
}

// Planes: the lanes of a channel follow one another. As many channels at a time as a vector has
// lanes, whose 8 vectors become one: with vectors of 2 the 4 vectors of each of 2 channels.
template <bool kPair>
HWY_INLINE void ReducePlanes(int terms, int term, int64_t channels, const double *accumulators,
                             double *hi, double *lo) {
  const DoubleTag d;
  using P = Pair<Vec<DoubleTag>>;
  constexpr int kVectors = kLanes / kDoubles;
  const int64_t step = terms * accumulators_of(kPair);
  for (int64_t c = 0; c < channels; c += kDoubles) {
    P v[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes; ++i) {
      // Past the last channel its sums are taken again, for lanes that nobody reads.
      const double *const of = accumulators + std::min(c + i / kVectors, channels - 1) * step +
                               term * accumulators_of(kPair) + i % kVectors * kDoubles;
      v[i] = P(LoadU(d, of), kPair ? LoadU(d, of + kLanes) : Zero(d));
    }
    const P sum =
        TreeOfEight(v, [&](P a, P b) BN2D_INLINED { return AddNeighbours<kPair>(d, a, b); });
    StoreReduced<kPair>(d, sum, hi + c, lo + c);
  }
}

// Channels: a lane of all channels, then the next lane.
template <bool kPair, class D>
HWY_INLINE void ReduceLanesOfChannels(D d, const double *lanes, int64_t stride, double *hi,
                                      double *lo) {
  using P = Pair<Vec<D>>;
  P v[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; ++i)
    v[i] =
        P(LoadU(d, lanes + i * stride), kPair ? LoadU(d, lanes + (kLanes + i) * stride) : Zero(d));
  StoreReduced<kPair>(
      d, TreeOfEight(v, [&](P a, P b) BN2D_INLINED { return AddLanes<kPair>(a, b); }), hi, lo);
}

// From sums around the pivot, a float, to sums around the mean:
// g*(x-mean) = g*(x-pivot) - g*(mean-pivot).
struct Recentred {
  const double *center_lo, *sum_g;
  double *sum_gt;  // written
  template <class D>
  HWY_INLINE void operator()(D d, int64_t c) const {
    const auto rest = LoadU(d, center_lo + c);
    // An infinite sum times 0 would be NaN.
    const auto sum = IfThenZeroElse(Eq(rest, Zero(d)), LoadU(d, sum_g + c));
    StoreU(Sub(LoadU(d, sum_gt + c), Mul(rest, sum)), d, sum_gt + c);
  }
};

// Results have room for kMaxGroup channels, a multiple of any vector.
template <bool kPair>
BN2D_KERNEL inline void Reduce(int terms, Layout layout, int64_t channels,
                               const double *accumulators, int64_t stride, const double *center_lo,
                               Sums *sums) {
  const DoubleTag d;
  const CappedTag<double, 1> one;
  for (int term = 0; term < terms; ++term) {
    double *hi = sums->hi + term * kMaxGroup, *lo = sums->lo + term * kMaxGroup;
    if (!kHasChannels || layout == Layout::planes) {
      ReducePlanes<kPair>(terms, term, channels, accumulators, hi, lo);
      continue;
    }
    const double *at = accumulators + term * accumulators_of(kPair) * stride;
    int64_t c = 0;
    for (; c + kDoubles <= channels; c += kDoubles)
      ReduceLanesOfChannels<kPair>(d, at + c, stride, hi + c, lo + c);
    for (; c < channels; ++c) ReduceLanesOfChannels<kPair>(one, at + c, stride, hi + c, lo + c);
  }
  if (kPair || center_lo == nullptr) return;
  // Sums 1 and 3 are of products with t (SumsOf). The sum of what is multiplied is the one before.
  for (int term = 1; term < std::min(terms, 4); term += 2) {
    double *const sum_gt = sums->hi + term * kMaxGroup;
    ForEachVector(channels, Recentred{center_lo, sum_gt - kMaxGroup, sum_gt});
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
