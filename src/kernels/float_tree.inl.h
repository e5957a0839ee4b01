// The sums of a run in float: terms of elements, added in a tree. Included once per SIMD target.
// kernels.h explains rows and runs.
#if defined(BN2D_KERNELS_FLOAT_TREE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_FLOAT_TREE_INL_H
#undef BN2D_KERNELS_FLOAT_TREE_INL_H
#else
#define BN2D_KERNELS_FLOAT_TREE_INL_H
#endif

#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/lanes.inl.h"
#include "kernels/pair.inl.h"
#include "kernels/reader.inl.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

template <SumsOf kOf, class D>
struct Terms {
  Vec<D> term[sums_count(kOf)];
  HWY_INLINE Terms() {}  // see Pair
};

template <SumsOf kOf, class D>
HWY_INLINE Terms<kOf, D> NoTerms(D d) {
  Terms<kOf, D> none;
  Repeat<sums_count(kOf), true>([&](int k) BN2D_INLINED { none.term[k] = Zero(d); });
  return none;
}
template <SumsOf kOf, class D, class V>
HWY_INLINE Terms<kOf, D> TermsOf(D, const Elements<V> &e) {
  static_assert(kOf != SumsOf::double_backward);  // is summed one by one
  Terms<kOf, D> s;
  s.term[0] = kOf == SumsOf::forward ? e.t : e.g;
  s.term[1] = Mul(s.term[0], e.t);
  return s;
}
// Those of a and b together.
template <SumsOf kOf, class D, class V>
HWY_INLINE Terms<kOf, D> TermsOfTwo(D d, const Elements<V> &a, const Elements<V> &b) {
  Terms<kOf, D> s = TermsOf<kOf>(d, a);
  const auto &second = kOf == SumsOf::forward ? b.t : b.g;
  s.term[0] = Add(s.term[0], second);
  s.term[1] = MulAdd(second, b.t, s.term[1]);
  return s;
}
template <SumsOf kOf, class D>
HWY_INLINE Terms<kOf, D> AddTerms(const Terms<kOf, D> &a, const Terms<kOf, D> &b) {
  Terms<kOf, D> s;
  Repeat<sums_count(kOf), true>([&](int k) BN2D_INLINED { s.term[k] = Add(a.term[k], b.term[k]); });
  return s;
}

// The tree over the rows of a run: ((0 1) (2 3)) ((4 5) (6 7)). of_pair(k): the terms of rows 2k
// and 2k + 1; a second row that is not there counts as 0. Pairs that are not there are left out.
// kPairs: 4, no loop; 2 or 1, a loop that takes so many pairs at a time, which is less code.
template <SumsOf kOf, int kPairs, class D, class OfPair>
HWY_INLINE Terms<kOf, D> TreeOfRows(D d, int rows, const OfPair &of_pair) {
  if constexpr (kPairs == 4) {
    Terms<kOf, D> sum = of_pair(0);
    if (rows > 2) sum = AddTerms(sum, of_pair(1));
    if (rows <= 4) return sum;
    Terms<kOf, D> half = of_pair(2);
    if (rows > 6) half = AddTerms(half, of_pair(3));
    return AddTerms(sum, half);
  } else {
    // 0 + a is a, but for the sign of a 0: accumulators begin at +0, and +0 + -0 is +0.
    Terms<kOf, D> sum = NoTerms<kOf>(d);
#pragma GCC unroll 1
    for (int k = 0; 2 * k < rows; k += 2) {
      Terms<kOf, D> half = NoTerms<kOf>(d);
      if constexpr (kPairs == 2) {
        half = of_pair(k);
        if (2 * (k + 1) < rows) half = AddTerms(half, of_pair(k + 1));
      } else {
#pragma GCC unroll 1
        for (int i = k; i < k + 2 && 2 * i < rows; ++i) half = AddTerms(half, of_pair(i));
      }
      sum = AddTerms(sum, half);
    }
    return sum;
  }
}

// Calls f(number, doubles) for the vectors of doubles that a vector of floats makes.
template <class D, class F>
HWY_INLINE void ForEachOfDoubles(D, Vec<D> floats, const F &f) {
  if constexpr (MaxLanes(D()) <= static_cast<size_t>(kDoubles)) {
    f(0, PromoteTo(Rebind<double, D>(), floats));
  } else {
#if HWY_TARGET != HWY_SCALAR  // has no halves
    const Half<D> half;
    f(0, PromoteTo(DoubleTag(), hn::LowerHalf(half, floats)));
    f(1, PromoteTo(DoubleTag(), hn::UpperHalf(half, floats)));
#endif
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
