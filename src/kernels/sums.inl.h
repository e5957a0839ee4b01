// The sums of one block, for every operation, element type and layout. Included once per SIMD
// target. kernels.h explains lanes, rows and runs.
#if defined(BN2D_KERNELS_SUMS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_SUMS_INL_H
#undef BN2D_KERNELS_SUMS_INL_H
#else
#define BN2D_KERNELS_SUMS_INL_H
#endif

#include <type_traits>

#include "kernels/elements.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/pair.inl.h"
#include "kernels/preactivation.inl.h"
#include "kernels/runs.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

using DoubleTag = CappedTag<double, kLanes>;
inline constexpr int kDoubles = static_cast<int>(MaxLanes(DoubleTag()));
// Vectors of elements are at most a row of floats, or the lanes of a row of doubles.
template <In kIn>
using ElementTag = std::conditional_t<kIn == In::runs, CappedTag<float, kRowElements>, DoubleTag>;

// f(0), ..., f(kCount - 1). Unrolled where that keeps what f works on in registers.
template <int kCount, bool kUnroll, class F>
HWY_INLINE void Repeat(const F &f) {
  if constexpr (kUnroll) {
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) f(i);
  } else {
#pragma GCC unroll 1
    for (int i = 0; i < kCount; ++i) f(i);
  }
}
inline constexpr bool kUnroll = kDoubles >= 4;
// Whether loops over the vectors of the 8 lanes are unrolled. Not in double backward, which runs
// seldom and is kept small.
template <SumsOf kOf>
inline constexpr bool kUnrollLanes = kUnroll &&kOf != SumsOf::double_backward;

// ---- elements

// A vector of elements of each tensor that takes part: t = x - pivot, and g is dy through the
// activation.
template <class V>
struct Elements {
  V x, t, g, v;
  HWY_INLINE Elements() {}  // see Pair
  HWY_INLINE explicit Elements(V zero) : x(zero), t(zero), g(zero), v(zero) {}
};

// What sums know of the activation when they are compiled. `any` is decided at run time; `sloped`
// takes those with a bound.
enum class Act { none, relu, sloped, any };
// Half data spend their time on conversions. There `sloped` has a branch for relu: a kernel of its
// own would be 2 to 3 % faster (bf16, one thread, in the caches), and all of them 29 KB.
template <class T>
inline constexpr bool kKnowsRelu = sizeof(T) == sizeof(float);

template <Act kAct>
HWY_INLINE bool HasSide(const SumsJob &job) {
  return kAct == Act::relu || kAct == Act::sloped || (kAct == Act::any && job.side.data != nullptr);
}

// The gradient through the activation: g, or g*slope where it is damped.
template <Act kAct, class D>
class GradientThrough {
 public:
  using A = TFromD<D>;
  HWY_INLINE GradientThrough(D d, double slope)
      : slope_(Set(d, static_cast<A>(slope))),
        rest_(Set(d, static_cast<A>(slope - static_cast<double>(static_cast<A>(slope))))),
        is_relu_(kAct == Act::relu || (kAct != Act::none && slope == 0)) {}
  HWY_INLINE Vec<D> operator()(Vec<D> g, Mask<D> is_damped) const {
    if (is_relu_) return IfThenZeroElse(is_damped, g);
    auto damped = Mul(g, slope_);
    // A slope such as 0.01 is not a float. Its rounding would be in each term of a sum, always in
    // the same direction.
    if constexpr (sizeof(A) == sizeof(float)) damped = MulAdd(g, slope_, Mul(g, rest_));
    return IfThenElse(is_damped, damped, g);
  }

 private:
  Vec<D> slope_, rest_;
  bool is_relu_;
};

// Loads and stores whole vectors, which need no padding.
template <class D>
struct WholeVector {
  template <class T>
  HWY_INLINE Vec<D> operator()(const T *p, Vec<D>) const {
    return load(p);
  }
  template <class T>
  HWY_INLINE Vec<D> load(const T *p) const {
    return LoadElements(D(), p);
  }
  HWY_INLINE void store(Vec<D> v, double *p) const { StoreU(v, D(), p); }
  HWY_INLINE auto half(int) const { return WholeVector<CappedTag<double, MaxLanes(D())>>(); }
};
// The same for the lanes whose bits are set. The others are 0, and neither read nor written.
template <class D>
struct SomeLanes {
  uint16_t bits;

  template <class T>
  HWY_INLINE Vec<D> operator()(const T *p, Vec<D>) const {
    return load(p);
  }
  template <class T>
  HWY_INLINE Vec<D> load(const T *p) const {
    if constexpr (std::is_same_v<T, double>) {
      return MaskedLoad(mask(), D(), p);
    } else {
      return FromFloats(D(), LoadMasked(Rebind<float, D>(), p, bytes()));
    }
  }
  HWY_INLINE void store(Vec<D> v, double *p) const { hn::BlendedStore(v, mask(), D(), p); }
  // Those of vector j of the doubles that a vector of floats makes.
  HWY_INLINE SomeLanes<DoubleTag> half(int j) const {
    return {static_cast<uint16_t>(bits >> (j * kDoubles))};
  }

 private:
  HWY_INLINE const uint8_t *bytes() const { return reinterpret_cast<const uint8_t *>(&bits); }
  HWY_INLINE Mask<D> mask() const { return LoadMaskBits(D(), bytes()); }
};

// Reads vectors of elements of one channel, or of as many channels as D has lanes.
template <SumsOf kOf, class T, Act kAct, class D>
class Reader {
 public:
  using V = Vec<D>;

  // all(array): the numbers of the channels from their array.
  template <class F>
  HWY_INLINE Reader(D d, const SumsJob &job, const F &all)
      : through_(d, job.slope), has_side_(HasSide<kAct>(job)), pivot_(all(job.pivot)) {
    sign_ = threshold_ = Zero(d);
    bound_ = NaN(d);
    if (has_side_) {
      sign_ = all(job.side_sign);
      threshold_ = all(job.side_threshold);
    }
    if (kHasBound && job.side_bound != nullptr) bound_ = all(job.side_bound);
  }

  HWY_INLINE V pivot() const { return pivot_; }

  // The elements `offset` and i elements after the cursor. load(pointer, padding) -> vector.
  template <class Load>
  HWY_INLINE Elements<V> read(const Cursor &from, const Offsets &offset, int64_t i,
                              const Load &load) const {
    const D d;
    const auto at = [&](const char *p, int64_t bytes)
                        HWY_ATTR { return reinterpret_cast<const T *>(p + bytes) + i; };
    Elements<V> e;
    e.x = load(at(from.x, offset.x), pivot_);
    e.t = Sub(e.x, pivot_);
    e.g = e.v = Zero(d);
    if constexpr (kOf != SumsOf::forward) {
      e.g = load(at(from.g, offset.g), Zero(d));
      if (has_side_) {
        const V side = load(at(from.side, offset.side), Zero(d));
        e.g = through_(e.g, kHasBound ? IsDamped<D>(side, sign_, threshold_, bound_)
                                      : IsDamped<D>(side, sign_, threshold_));
      }
    }
    if constexpr (kOf == SumsOf::double_backward) e.v = load(at(from.v, offset.v), Zero(d));
    return e;
  }

 private:
  static constexpr bool kHasBound =
      kSideHasBound<T> && kOf == SumsOf::backward && kAct != Act::relu && kAct != Act::none;
  GradientThrough<kAct, D> through_;
  bool has_side_;
  V pivot_, sign_, threshold_, bound_;
};

template <SumsOf kOf, class T, Act kAct, class D>
HWY_INLINE auto ReaderOfPlane(D d, const SumsJob &job, int64_t c) {
  return Reader<kOf, T, kAct, D>(d, job, [&](const void *array) HWY_ATTR {
    return Set(d, static_cast<TFromD<D>>(static_cast<const Arithmetic<T> *>(array)[c]));
  });
}
template <SumsOf kOf, class T, Act kAct, class D, class Lanes>
HWY_INLINE auto ReaderOfChannels(D d, const SumsJob &job, int64_t c, const Lanes &lanes) {
  return Reader<kOf, T, kAct, D>(d, job, [&](const void *array) HWY_ATTR {
    return lanes.load(static_cast<const Arithmetic<T> *>(array) + c);
  });
}

// ---- float: the tree of a run

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

// ---- one by one, in double

// a - b on the units that multiply, which the sums of doubles use less than those that add; a*1 is
// exact.
template <class D, class V>
HWY_INLINE V Difference(D d, V a, V b) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  return MulSub(a, Set(d, TFromD<D>{1}), b);
#else
  (void)d;
  return Sub(a, b);
#endif
}

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

// ---- planes: vectors run along the positions of one channel

// Fetches line k of a run whose rows follow one another.
template <SumsOf kOf, class T, Act kAct>
HWY_INLINE void FetchRow(const Cursor &ahead, int k) {
  const int64_t bytes = k * kRowElements * static_cast<int64_t>(sizeof(T));
  if (bytes % 64 != 0) return;
  Prefetch(ahead.x + bytes);
  if constexpr (kOf != SumsOf::forward) Prefetch(ahead.g + bytes);
  if constexpr (kAct == Act::relu || kAct == Act::sloped) Prefetch(ahead.side + bytes);
}

// Fetches a line of each tensor.
template <SumsOf kOf, Act kAct>
HWY_INLINE void FetchElement(const Cursor &ahead, const Offsets &offset) {
  Prefetch(ahead.x + offset.x);
  if constexpr (kOf != SumsOf::forward) Prefetch(ahead.g + offset.g);
  if constexpr (kAct == Act::relu || kAct == Act::sloped) Prefetch(ahead.side + offset.side);
}

// Whether planes that are summed one by one are fetched ahead: those of doubles, whose sums wait
// for one another so long that a core sees few lines ahead (AddPlanesOneByOne has the numbers).
template <SumsOf kOf, In kIn>
inline constexpr bool kFetchesPlanes = kIn == In::pairs &&kUnrollLanes<kOf>;

// The lanes of one channel, in registers.
template <SumsOf kOf, class T, Act kAct, In kIn>
class LanesOfPlane {
 public:
  using D = ElementTag<kIn>;
  using ReaderOfElements = Reader<kOf, T, kAct, D>;

  HWY_INLINE LanesOfPlane(const SumsJob &job, int64_t c, bool first, const ReaderOfElements &reader,
                          const LastVector<T, D> &last)
      : reader_(reader),
        last_(last),
        memory_(job.accumulators + c * kTerms * kAccumulators),
        tail_((job.length - 1) % kRowElements + 1),
        center_lo_(
            Set(DoubleTag(), kIn == In::pairs && kOf != SumsOf::forward ? job.center_lo[c] : 0.0)) {
    for_each_sum([&](double *at, Sum &sum) BN2D_INLINED {
      if (first) {
        sum = Sum(Zero(DoubleTag()));
      } else {
        LoadSum(WholeVector<DoubleTag>(), at, kLanes, &sum);
      }
    });
  }
  HWY_INLINE void store() {
    for_each_sum([&](double *at, const Sum &sum)
                     BN2D_INLINED { StoreSum(WholeVector<DoubleTag>(), sum, at, kLanes); });
  }

  // Floats: a run of whole rows, one after another, while another one is fetched.
  HWY_INLINE void add_whole(const Cursor &from, bool fetches, const Cursor &ahead) {
    add_trees([&](int64_t i) BN2D_INLINED {
      constexpr int kPairs = kUnroll ? 4 : 1;
      return TreeOfRows<kOf, kPairs>(D(), kRowsOfRun, [&](int k) BN2D_INLINED {
        const auto row = [&](int r) BN2D_INLINED {
          if (i == 0 && fetches) FetchRow<kOf, T, kAct>(ahead, r);
          return read_whole(from, r * kRowElements + i);
        };
        return TermsOfTwo<kOf>(D(), row(2 * k), row(2 * k + 1));
      });
    });
  }

  // Floats: a run of two planes of 4 rows, or of the first one alone.
  HWY_INLINE void add_two_planes(const Cursor &first, const Cursor &second, bool has_second) {
    const int rows = has_second ? kRowsOfRun : kRowsOfRun / 2;
    add_trees([&](int64_t i) BN2D_INLINED {
      return TreeOfRows<kOf, 4>(D(), rows, [&](int k) BN2D_INLINED {
        const Cursor &plane = k < 2 ? first : second;
        const auto row = [&](int r)
                             BN2D_INLINED { return read_whole(plane, r * kRowElements + i); };
        if (k % 2 == 0) return TermsOfTwo<kOf>(D(), row(0), row(1));
        return TermsOfTwo<kOf>(D(), row(2), read_last_row(plane, 3, i));
      });
    });
  }
  // Floats: a run of `rows` rows with which a plane ends.
  HWY_INLINE void add_end(const Cursor &from, int rows) {
    add_trees([&](int64_t i) BN2D_INLINED {
      const auto row = [&](int r) BN2D_INLINED { return read_whole(from, r * kRowElements + i); };
      const auto end = read_last_row(from, rows - 1, i);
      const Terms<kOf, D> last = rows % 2 == 0 ? TermsOfTwo<kOf>(D(), row(rows - 2), end)
                                               : TermsOfTwo<kOf>(D(), end, Elements<V>(Zero(D())));
      return TreeOfRows<kOf, 4>(D(), rows, [&](int k) BN2D_INLINED {
        return rows <= 2 * k + 2 ? last : TermsOfTwo<kOf>(D(), row(2 * k), row(2 * k + 1));
      });
    });
  }

  // Floats: the rows of a pattern.
  HWY_INLINE void add_pattern(const Cursor &from, const Pattern &pattern) {
    // With AVX2 one pair at a time takes up to a fifth longer than two (32,64,7,7), which are 25 KB
    // more in all kernels. Floats without a slope have them.
    constexpr bool kHasTwo = sizeof(T) == sizeof(float) && kAct != Act::sloped;
    constexpr int kPairs = kHasTwo ? 2 : 1;
    add_trees([&](int64_t i) BN2D_INLINED {
      return TreeOfRows<kOf, kPairs>(D(), pattern.rows, [&](int k) BN2D_INLINED {
        return TermsOfTwo<kOf>(D(), read_row(from, pattern, 2 * k, i),
                               read_row(from, pattern, 2 * k + 1, i));
      });
    });
  }

  // One by one: a plane. Of doubles two lines at a time, while those at the same places of `later`
  // are fetched. A core fetches ahead by the stride of each load, so it looks twice as far: a line
  // at a time, backward of float64 (32,64,56,56) took 1.2 times as long.
  HWY_INLINE void add_plane(const Cursor &from, int64_t length, bool fetches, const Cursor &later) {
    constexpr int kAtOnce = kIn == In::pairs ? 2 * kVectors : kVectors;
    int64_t i = 0;
    for (; i + kAtOnce * kDoubles <= length; i += kAtOnce * kDoubles) {
      if (kFetchesPlanes<kOf, kIn> && fetches)
        for (int64_t line = 0; line < kAtOnce * kDoubles; line += kLanes) {
          const int64_t bytes = (i + line) * static_cast<int64_t>(sizeof(T));
          FetchElement<kOf, kAct>(later, {bytes, bytes, bytes, bytes});
        }
      Repeat<kAtOnce, kUnrollLanes<kOf>>([&](int j) BN2D_INLINED {
        add_elements(read_whole(from, i + j * kDoubles), j % kVectors);
      });
    }
#pragma GCC unroll 1
    for (; i < length; i += kLanes)
      Repeat<kVectors, kUnrollLanes<kOf>>([&](int v) BN2D_INLINED {
        const int64_t at = i + v * kDoubles;
        if (at + kDoubles <= length) {
          add_elements(read_whole(from, at), v);
        } else if (at < length) {
          add_elements(read_last(from, {}, at), v);
        }
      });
  }

 private:
  using V = Vec<D>;
  using Sum = SumOf<kIn, DoubleTag>;
  static constexpr int kTerms = sums_count(kOf), kVectors = kLanes / kDoubles;
  static constexpr int kAccumulators = accumulators_of(kIn == In::pairs);
  static constexpr int64_t kSize = static_cast<int64_t>(MaxLanes(D()));

  template <class F>
  HWY_INLINE void for_each_sum(const F &f) {
    Repeat<kVectors * kTerms, kIn == In::runs || kUnrollLanes<kOf>>([&](int k) BN2D_INLINED {
      const int j = k / kTerms, term = k % kTerms;
      f(memory_ + term * kAccumulators + j * kDoubles, sums_[j][term]);
    });
  }
  // The vector at element i of a plane.
  HWY_INLINE Elements<V> read_whole(const Cursor &from, int64_t i) const {
    return reader_.read(from, {}, i, WholeVector<D>());
  }
  // The last one of a plane, of which some elements are not there. In their lanes x is the pivot,
  // which AddElements asks for, and x - pivot would be NaN where that is infinite.
  HWY_INLINE Elements<V> read_last(const Cursor &from, const Offsets &offset, int64_t i) const {
    Elements<V> e = reader_.read(
        from, offset, i, [&](const T *p, V pad) BN2D_INLINED { return last_.load(p, pad); });
    e.t = last_.only(e.t);
    return e;
  }
  // Floats: the vector from element i on of the last row of a plane, which is `row`.
  HWY_INLINE Elements<V> read_last_row(const Cursor &from, int row, int64_t i) const {
    const int64_t at = row * kRowElements + i;
    if (kSize < kRowElements && tail_ <= i) return Elements<V>(Zero(D()));
    return tail_ - i >= kSize ? read_whole(from, at) : read_last(from, {}, at);
  }
  // The same of row k of a pattern.
  HWY_INLINE Elements<V> read_row(const Cursor &from, const Pattern &pattern, int k,
                                  int64_t i) const {
    constexpr unsigned kAll = (1u << kSize) - 1;
    const unsigned present = pattern.present[k] >> i & kAll;
    if (HWY_LIKELY(present == kAll))
      return reader_.read(from, pattern.offset[k], i, WholeVector<D>());
    return present != 0 ? read_last(from, pattern.offset[k], i) : Elements<V>(Zero(D()));
  }
  HWY_INLINE void add_elements(const Elements<V> &e, int v) {
    AddElements<kOf, kIn>(D(), e, reader_.pivot(), center_lo_, sums_[v]);
  }
  // Floats: tree(i) is the tree of the elements from i on of each row.
  template <class Tree>
  HWY_INLINE void add_trees(const Tree &tree) {
    if constexpr (kSize == kRowElements) {
#if HWY_TARGET != HWY_SCALAR
      const auto both = tree(0);
      const Half<D> half;
      Repeat<kTerms, true>([&](int k) BN2D_INLINED {
        add_floats(half, Add(hn::LowerHalf(half, both.term[k]), hn::UpperHalf(half, both.term[k])),
                   0, k);
      });
#endif
    } else {
      Repeat<kLanes / kSize, kUnroll>([&](int j) BN2D_INLINED {
        Terms<kOf, D> both = NoTerms<kOf>(D());
#pragma GCC unroll 1
        for (int64_t i = j * kSize; i < kRowElements; i += kLanes) both = AddTerms(both, tree(i));
        Repeat<kTerms, true>([&](int k)
                                 BN2D_INLINED { add_floats(D(), both.term[k], j * kSize, k); });
      });
    }
  }
  template <class DF>
  HWY_INLINE void add_floats(DF df, Vec<DF> floats, int64_t lane, int term) {
    ForEachOfDoubles(df, floats, [&](int j, Vec<DoubleTag> doubles) BN2D_INLINED {
      sums_[lane / kDoubles + j][term].add(doubles);
    });
  }

  const ReaderOfElements &reader_;
  const LastVector<T, D> &last_;
  double *const memory_;
  const int64_t tail_;  // elements of the last row of a plane
  const Vec<DoubleTag> center_lo_;
  Sum sums_[kVectors][kTerms];
};

// Whether runs are not fetched ahead. (Small planes still are: Runs::fetches_turn.) A line takes so
// few instructions that the core and its prefetchers look far enough ahead by themselves. Backward
// of (32,64,112,112) takes 0.90 of the time, its sums 0.82 (one thread), sums of (32,256,20,20)
// 0.93. With AVX2 backward would take 1.07, sums of bfloat16 1.12.
template <SumsOf kOf, class T>
inline constexpr bool kHardwareFollows =
    HWY_TARGET == HWY_AVX3 &&std::is_same_v<T, float> &&kOf == SumsOf::backward;

// Calls f(lanes, channel, where its planes begin) for the channels of a band.
template <SumsOf kOf, class T, Act kAct, In kIn, class F>
HWY_INLINE void ForEachChannel(const Planes &planes, const F &f) {
  const LastVector<T, ElementTag<kIn>> last(planes.job.length);
  Cursor start = planes.start;
  for (int64_t c = planes.channel; c < planes.end_channel;
       ++c, start = start.plus(planes.runs.next_channel)) {
    const auto reader = ReaderOfPlane<kOf, T, kAct>(ElementTag<kIn>(), planes.job, c);
    LanesOfPlane<kOf, T, kAct, kIn> lanes(planes.job, c, planes.first, reader, last);
    f(&lanes, c, start);
    lanes.store();
  }
}

// One by one, plane after plane. Doubles from memory are fetched ahead: a plane of up to 4 KiB
// while the one before it is read, larger ones 2 KiB ahead. Sums of backward of (32,512,28,28) take
// 0.5 to 0.6 of the time, training 0.66 to 0.77; of (128,256,14,14) 0.73 to 0.8 and 0.9. Planes of
// 512 bytes and less follow one another (sum_over_planes): (256,512,7,7) would take 1.1.
template <SumsOf kOf, class T, Act kAct, In kIn>
HWY_INLINE void AddPlanesOneByOne(const Planes &planes) {
  const SumsJob &job = planes.job;
  const int64_t at_once = planes_of_run(job.length),  // of a turn
      samples = std::min(planes.end * at_once, job.samples) - planes.begin * at_once;
  constexpr int64_t kSmall = 4096, kAhead = 2048, kInOrder = 512;
  const int64_t bytes = job.length * static_cast<int64_t>(sizeof(T));
  const bool fetches = job.fetches && bytes > kInOrder;
  ForEachChannel<kOf, T, kAct, kIn>(planes, [&](auto *lanes, int64_t c, Cursor from) BN2D_INLINED {
    const Cursor after = c + 1 < planes.end_channel ? from.plus(planes.runs.next_channel) : from;
    for (int64_t n = 0; n < samples; ++n) {
      const Cursor next = from.plus(planes.runs.next_sample);
      const Cursor later = bytes > kSmall     ? from.plus({kAhead, kAhead, kAhead, kAhead})
                           : n + 1 == samples ? after
                                              : next;
      lanes->add_plane(from, job.length, fetches, later);
      from = next;
    }
  });
}

// Planes of 4 rows (kRuns is 0), and of one whole run and some rows (kRuns is 1), have code of
// their own, which knows where their rows are. A CPU has some hundreds of instructions in flight:
// the fewer a line takes, the more lines are on their way. This code takes half as many as a loop
// over a pattern, and fetches nothing. Of (32,2048,7,7), sums of backward take 0.75 of the time,
// training 0.81; of bfloat16 0.61 and 0.71; of (32,256,14,14) 0.9 and 0.95, of bfloat16 0.82 and
// 0.78. With AVX2, of (32,2048,7,7) 0.81 and 0.88, with relu 0.77; of (32,256,14,14) 0.83 to 0.9.
// For slopes it would be 16 KB more code.
template <class T, Act kAct>
inline constexpr bool kKnowsRows = kAct != Act::sloped &&
                                   (HWY_TARGET == HWY_AVX3 ||
                                    (HWY_TARGET == HWY_AVX2 && std::is_same_v<T, float>));
template <SumsOf kOf, class T, Act kAct, int kRuns>
HWY_INLINE void AddPlanesOfKnownRows(const Planes &planes) {
  const Runs &runs = planes.runs;
  const Offsets next_sample = runs.next_sample, next_turn = runs.next_turn,
                next_run = runs.next_run;
  ForEachChannel<kOf, T, kAct, In::runs>(
      planes, [&](auto *lanes, int64_t, Cursor from) BN2D_INLINED {
        for (int64_t turn = planes.begin; turn < planes.end; ++turn, from = from.plus(next_turn)) {
          const int rows = runs.rest(turn).rows;
          if constexpr (kRuns == 0) {
            lanes->add_two_planes(from, from.plus(next_sample), rows == kRowsOfRun);
          } else {
            lanes->add_whole(from, false, from);
            lanes->add_end(from.plus(next_run), rows);
          }
        }
      });
}

// All other planes.
template <SumsOf kOf, class T, Act kAct>
HWY_INLINE void AddRuns(const Planes &planes) {
  const Runs &runs = planes.runs;
  const bool fetches = !kHardwareFollows<kOf, T> && planes.job.fetches && runs.whole != 0;
  ForEachChannel<kOf, T, kAct, In::runs>(
      planes, [&](auto *lanes, int64_t channel, Cursor of_turn) BN2D_INLINED {
        Ahead ahead;
        if (fetches) ahead.start(planes, channel, of_turn);
        for (int64_t turn = planes.begin; turn < planes.end;
             ++turn, of_turn = of_turn.plus(runs.next_turn)) {
          Cursor from = of_turn;
          const Pattern &rest = runs.rest(turn);
          if (fetches) ahead.next_turn(runs);
          for (int64_t run = 0; run < runs.whole; ++run, from = from.plus(runs.next_run))
            lanes->add_whole(from, fetches, fetches ? ahead.next_run(runs) : from);
          if (fetches) {
            const Cursor later = ahead.next_run(runs);
            for (int k = 0; k < rest.rows; ++k) FetchRow<kOf, T, kAct>(later, k);
          }
          if (runs.fetches_turn && turn + 1 < runs.turns) {
            const Cursor later = from.plus(runs.next_turn);
            for (int k = 0; k < rest.rows; ++k) FetchElement<kOf, kAct>(later, rest.offset[k]);
          }
          if (rest.rows != 0) lanes->add_pattern(from, rest);
        }
      });
}

template <SumsOf kOf, class T, Act kAct, In kIn>
HWY_INLINE void AddPlanes(const Planes &planes) {
  if constexpr (kIn != In::runs) {
    AddPlanesOneByOne<kOf, T, kAct, kIn>(planes);
  } else {
    if constexpr (kKnowsRows<T, kAct>) {
      // Halves of two tensors from memory have to be fetched ahead: sums of backward of bfloat16
      // (256,1024,7,7) would take 1.9 times as long. With AVX2 floats have to be, too,
      // where planes have more than one run: (32,1024,14,14) would take 1.15 times as long.
      constexpr bool kFetchesHalves = sizeof(T) < sizeof(float) && kOf == SumsOf::backward;
      const int64_t length = planes.job.length;
      if (!kFetchesHalves || !planes.job.fetches) {
        if (length > 3 * kRowElements && length <= 4 * kRowElements)
          return AddPlanesOfKnownRows<kOf, T, kAct, 0>(planes);
        if (length > kRunElements && length < 2 * kRunElements &&
            (HWY_TARGET == HWY_AVX3 || !planes.job.fetches))
          return AddPlanesOfKnownRows<kOf, T, kAct, 1>(planes);
      }
    }
    AddRuns<kOf, T, kAct>(planes);
  }
}

// ---- channels: vectors run along channels of one lane

// Vectors of channels that are summed together. Of doubles two: with AVX-512 a line of floats (with
// AVX2 half of one), which is then read once: rows that are a power of two apart push one another
// out of L1 before its second half is asked for. Backward of (1,256,14,14) takes 0.7 of the time
// that it takes with one (AVX2: 0.6).
template <SumsOf kOf, In kIn>
inline constexpr int kTogether =
    kSpecialise &&kIn == In::doubles &&kOf != SumsOf::double_backward ? 2 : 1;

// A part of one lane: where it is, and where its sums go. Channel 0 is that of the job.
template <SumsOf kOf, In kIn>
struct LaneOfPart {
  HWY_INLINE LaneOfPart(const PartsOfRun &run, int number, const Cursor &from, int lane)
      : job(run.job),
        part(run.parts[number]),
        elements(run.elements + number * kElements),
        from(from),
        lane(lane),
        fetches(run.fetches),
        kept_step(run.kept_channels),
        term_step(accumulators_of(kIn == In::pairs) * run.job.accumulator_stride),
        sums(run.job.accumulators + lane * run.job.accumulator_stride) {
    constexpr int64_t kHalf = kTerms * kKeptChannels;
    float *const kept = run.kept + (lane - run.lane) * kTerms * kept_step - run.channel;
    own = kept + part.half * kHalf;
    other = kept + (1 - part.half) * kHalf;
  }

  static constexpr int kTerms = sums_count(kOf),
                       kElements = elements_of_part(kOf == SumsOf::forward);
  const SumsJob &job;
  const Part &part;
  const Element *const elements;
  const Cursor from;
  const int lane;
  const bool fetches;
  const int64_t kept_step, term_step;  // from sum to sum
  float *own, *other;                  // what is kept of this half, and of the other one
  double *const sums;
};

// Adds a part of one lane, for the channels from c on: those of `some`, which loads kVectors
// vectors, or the lanes of one that exist.
template <SumsOf kOf, class T, Act kAct, In kIn, int kVectors, class D, class Some>
HWY_INLINE void AddChannels(D d, const LaneOfPart<kOf, kIn> &of, int64_t c, const Some &some) {
  constexpr int kTerms = LaneOfPart<kOf, kIn>::kTerms, kElements = LaneOfPart<kOf, kIn>::kElements;
  const SumsJob &job = of.job;
  const auto reader = ReaderOfChannels<kOf, T, kAct>(d, job, c, some);
  double *const memory = of.sums + c;
  const int64_t bytes = c * static_cast<int64_t>(sizeof(T));
  const Cursor from = of.from.plus({bytes, bytes, bytes, bytes});
  const auto is_there = [&](int k)
                            BN2D_INLINED { return HWY_LIKELY(of.lane < of.elements[k].lanes); };
  if constexpr (kIn == In::runs) {
    const auto element = [&](int k) BN2D_INLINED {
      return is_there(k) ? reader.read(from, of.elements[k].offset, 0, some)
                         : Elements<Vec<D>>(Zero(d));
    };
    if (of.fetches) {
      const Cursor ahead = from.plus(of.part.later);
      Repeat<kElements, true>(
          [&](int k) BN2D_INLINED { FetchElement<kOf, kAct>(ahead, of.elements[k].offset); });
    }
    const auto two = [&](int k)
                         BN2D_INLINED { return TermsOfTwo<kOf>(d, element(k), element(k + 1)); };
    Terms<kOf, D> sum = AddTerms(two(0), two(2));
    if constexpr (kElements == 8) sum = AddTerms(sum, AddTerms(two(4), two(6)));
    // What is kept are whole vectors: there is room behind the last channel.
    const auto add_kept = [&](const float *kept) BN2D_INLINED {
      Repeat<kTerms, true>([&](int k) BN2D_INLINED {
        sum.term[k] = Add(sum.term[k], LoadU(d, kept + k * of.kept_step + c));
      });
    };
    if (of.part.adds_own) add_kept(of.own);
    if (of.part.adds_other) add_kept(of.other);
    if (!of.part.is_last) {
      Repeat<kTerms, true>(
          [&](int k) BN2D_INLINED { StoreU(sum.term[k], d, of.own + k * of.kept_step + c); });
      return;
    }
    Repeat<kTerms, true>([&](int k) BN2D_INLINED {
      ForEachOfDoubles(d, sum.term[k], [&](int j, auto doubles) BN2D_INLINED {
        double *const at = memory + k * of.term_step + j * kDoubles;
        const auto half = some.half(j);
        half.store(Add(half.load(at), doubles), at);
      });
    });
  } else {
    constexpr int kSize = static_cast<int>(MaxLanes(D()));
    SumOf<kIn, D> sums[kVectors][kTerms];
    const int64_t to_low = kLanes * job.accumulator_stride;
    const auto for_each_sum = [&](const auto &f) BN2D_INLINED {
      Repeat<kVectors, true>([&](int j) BN2D_INLINED {
        Repeat<kTerms, kUnroll>(
            [&](int k) BN2D_INLINED { f(memory + k * of.term_step + j * kSize, &sums[j][k]); });
      });
    };
    for_each_sum([&](const double *at, auto *sum) BN2D_INLINED { LoadSum(some, at, to_low, sum); });
    const auto last = ReaderOfChannels<kOf, T, kAct>(d, job, c + (kVectors - 1) * kSize, some);
    const auto center_lo =
        kIn == In::pairs && kOf != SumsOf::forward ? some.load(job.center_lo + c) : Zero(d);
    for (int k = 0; k < kElements; ++k) {
      if (!is_there(k)) continue;
      const Offsets &offset = of.elements[k].offset;
      AddElements<kOf, kIn>(d, reader.read(from, offset, 0, some), reader.pivot(), center_lo,
                            sums[0]);
      if constexpr (kVectors == 2)
        AddElements<kOf, kIn>(d, last.read(from, offset, kSize, some), last.pivot(), center_lo,
                              sums[1]);
    }
    for_each_sum([&](double *at, auto *sum) BN2D_INLINED { StoreSum(some, *sum, at, to_low); });
  }
}

// Calls f(lane of a part) for the lanes of the parts of a run.
template <SumsOf kOf, In kIn, class F>
HWY_INLINE void ForEachLane(const PartsOfRun &run, const F &f) {
  for (int part = 0; part < run.count; ++part) {
    Cursor from = run.from;
    for (int lane = run.lane; lane < run.end_lane; ++lane, from = from.plus(run.next_lane))
      f(LaneOfPart<kOf, kIn>(run, part, from, lane));
  }
}

// Whether eight channels that are left have code of their own, without masks: blocks of 8, or 24
// channels.
// Backward of (8,64,28,28) takes 0.65 of the time, of (32,512,7,7) 0.73.
template <class T, In kIn>
inline constexpr bool kHasCodeForEight = kIn == In::runs &&std::is_same_v<T, float>;

// All parts, for all channels, the last ones of which may be too few for whole vectors.
template <SumsOf kOf, class T, Act kAct, In kIn>
HWY_INLINE void AddParts(const PartsOfRun &run) {
  const ElementTag<kIn> d;
  constexpr int64_t kSize = static_cast<int64_t>(MaxLanes(d));
  constexpr int kCount = kTogether<kOf, kIn>;
  const int64_t end = run.channel + run.channels, whole = end - run.channels % (kCount * kSize);
  ForEachLane<kOf, kIn>(run, [&](const LaneOfPart<kOf, kIn> &of) BN2D_INLINED {
    int64_t c = run.channel;
    for (; c < whole; c += kCount * kSize)
      AddChannels<kOf, T, kAct, kIn, kCount>(d, of, c, WholeVector<decltype(d)>());
    if constexpr (HWY_TARGET == HWY_AVX3) {
      if constexpr (kHasCodeForEight<T, kIn>) {
        const CappedTag<TFromD<decltype(d)>, 8> eight;
        if (end - c == 8)
          return AddChannels<kOf, T, kAct, kIn, 1>(eight, of, c, WholeVector<decltype(eight)>());
      }
      for (; c < end; c += kSize) {
        const int64_t count = std::min(end - c, kSize);
        AddChannels<kOf, T, kAct, kIn, 1>(
            d, of, c, SomeLanes<decltype(d)>{static_cast<uint16_t>((1u << count) - 1)});
      }
    } else if constexpr (kSize > 1) {
      const CappedTag<TFromD<decltype(d)>, 1> one;
      for (; c < end; ++c)
        AddChannels<kOf, T, kAct, kIn, 1>(one, of, c, WholeVector<decltype(one)>());
    }
  });
}

// As functions. Sums that are seldom run are written for size.
template <SumsOf kOf, class T, Act kAct, In kIn>
struct Adder {
  static BN2D_KERNEL void ToPlanes(const Planes &planes) { AddPlanes<kOf, T, kAct, kIn>(planes); }
  static HWY_NOINLINE void ToChannels(const PartsOfRun &run) { AddParts<kOf, T, kAct, kIn>(run); }
};
template <class T, Act kAct, In kIn>
struct Adder<SumsOf::double_backward, T, kAct, kIn> {
  static constexpr SumsOf kOf = SumsOf::double_backward;
  static HWY_NOINLINE __attribute__((cold)) void ToPlanes(const Planes &planes) {
    AddPlanes<kOf, T, kAct, kIn>(planes);
  }
  static HWY_NOINLINE __attribute__((cold)) void ToChannels(const PartsOfRun &run) {
    AddParts<kOf, T, kAct, kIn>(run);
  }
};

template <SumsOf kOf, class T, Layout kLayout, Act kAct, In kIn>
void SumsOverLayout(const SumsJob &job) {
  if constexpr (kLayout == Layout::planes) {
    if constexpr (kHasChannels)
      if (sum_over_columns(job, sizeof(T), kIn, sums_count(kOf),
                           Adder<kOf, T, kAct, kIn>::ToChannels))
        return;
    sum_over_planes(job, sizeof(T), Adder<kOf, T, kAct, kIn>::ToPlanes);
  } else {
    sum_over_channels(job, sizeof(T), kIn, sums_count(kOf), Adder<kOf, T, kAct, kIn>::ToChannels);
  }
}

// Which kernels know their activation, and where float and half data are summed in float:
//              forward       backward                     double backward
//   runs       none          none, relu (f32), sloped     -
//   doubles    none          any                          any
//   pairs      none          any                          any
// The targets of old CPUs have no runs.
template <SumsOf kOf, class T, Layout kLayout>
void SumsOverBlock(const SumsJob &job) {
  constexpr Act kAny = kOf == SumsOf::forward ? Act::none : Act::any;
  constexpr In kOneByOne = sizeof(T) == sizeof(double) ? In::pairs : In::doubles;
  if constexpr (kOneByOne == In::doubles && kOf != SumsOf::double_backward && kSpecialise) {
    if (!job.in_double) {
      if (kOf == SumsOf::forward || job.side.data == nullptr)
        return SumsOverLayout<kOf, T, kLayout, Act::none, In::runs>(job);
      if constexpr (kOf == SumsOf::backward) {
        if constexpr (kKnowsRelu<T>)
          if (job.slope == 0 && job.side_bound == nullptr)
            return SumsOverLayout<kOf, T, kLayout, Act::relu, In::runs>(job);
        return SumsOverLayout<kOf, T, kLayout, Act::sloped, In::runs>(job);
      }
    }
  }
  SumsOverLayout<kOf, T, kLayout, kAny, kOneByOne>(job);
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
