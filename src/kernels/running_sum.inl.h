// Sums of elements one by one, in double: plain ones, and pairs for double data. Included once per
// SIMD target.
#if defined(BN2D_KERNELS_RUNNING_SUM_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_RUNNING_SUM_INL_H
#undef BN2D_KERNELS_RUNNING_SUM_INL_H
#else
#define BN2D_KERNELS_RUNNING_SUM_INL_H
#endif

#include <type_traits>

#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/pair.inl.h"
#include "kernels/reader.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// A running sum of vectors.
template <class D>
struct PairSum {
  Vec<D> hi, lo;

  HWY_INLINE PairSum() {}  // see Pair
  HWY_INLINE explicit PairSum(Vec<D> zero) : hi(zero), lo(zero) {}
  HWY_INLINE void add(Vec<D> v) { lo = Add(lo, add_high(v)); }
  HWY_INLINE void add(Pair<Vec<D>> v) { lo = Add(lo, Add(add_high(v.hi), v.lo)); }
  HWY_INLINE void add_product(Vec<D> a, Vec<D> b) { add(TwoProduct(a, b)); }

 private:
  HWY_INLINE Vec<D> add_high(Vec<D> v) {  // Knuth's two-sum; returns what hi could not take
    const D d;
    const auto sum = Add(hi, v);
    const auto part = Difference(d, sum, hi);
    const auto error = Add(Difference(d, hi, Difference(d, sum, part)), Difference(d, v, part));
    hi = sum;
    return error;
  }
};

// A vector of doubles to which others are added. The products of floats are exact.
template <class D>
struct PlainSum {
  Vec<D> hi;
  HWY_INLINE PlainSum() {}  // see Pair
  HWY_INLINE explicit PlainSum(Vec<D> zero) : hi(zero) {}
  HWY_INLINE void add(Vec<D> v) { hi = Add(hi, v); }
  HWY_INLINE void add_product(Vec<D> a, Vec<D> b) { hi = MulAdd(a, b, hi); }
};
template <In kIn, class D>
using SumOf = std::conditional_t<kIn == In::pairs, PairSum<D>, PlainSum<D>>;

// `lanes` of a sum, from memory and back.
template <class Lanes, class D>
HWY_INLINE void LoadSum(const Lanes &lanes, const double *at, int64_t, PlainSum<D> *sum) {
  sum->hi = lanes.load(at);
}
template <class Lanes, class D>
HWY_INLINE void LoadSum(const Lanes &lanes, const double *at, int64_t to_low, PairSum<D> *sum) {
  sum->hi = lanes.load(at);
  sum->lo = lanes.load(at + to_low);
}
template <class Lanes, class D>
HWY_INLINE void StoreSum(const Lanes &lanes, const PlainSum<D> &sum, double *at, int64_t) {
  lanes.store(sum.hi, at);
}
template <class Lanes, class D>
HWY_INLINE void StoreSum(const Lanes &lanes, const PairSum<D> &sum, double *at, int64_t to_low) {
  lanes.store(sum.hi, at);
  lanes.store(sum.lo, at + to_low);
}

// What a vector of elements adds to the sums of its operation.
template <SumsOf kOf, In kIn, class D, class V>
HWY_INLINE void AddElements(D d, const Elements<V> &e, V pivot, V center_lo, SumOf<kIn, D> *sums) {
  if constexpr (kOf == SumsOf::forward && kIn == In::pairs) {
    // What the difference lost. It is also missing from the square: (t+e)^2 = t^2 + 2te + ...
    const V part = Difference(d, e.t, e.x);
    const V error = Difference(d, Difference(d, e.x, Sub(e.t, part)), Add(pivot, part));
    const auto square = TwoProduct(e.t, e.t);
    sums[0].add({e.t, error});
    sums[1].add({square.hi, MulAdd(Add(e.t, e.t), error, square.lo)});
  } else if constexpr (kOf == SumsOf::forward) {
    (void)d;
    sums[0].add(e.t);
    sums[1].add_product(e.t, e.t);
  } else {
    const V t = kIn == In::pairs ? Sub(e.t, center_lo) : e.t;
    if constexpr (kOf == SumsOf::backward) {
      sums[0].add(e.g);
      sums[1].add_product(e.g, t);
    } else {
      sums[0].add(e.v);
      sums[1].add_product(e.v, t);
      sums[2].add(e.g);
      sums[3].add_product(e.g, t);
      sums[4].add_product(e.v, e.g);
    }
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
