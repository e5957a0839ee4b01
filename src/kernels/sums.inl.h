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
// Whether the vectors of a row that are summed one by one are unrolled. Seldom used: less code.
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
  Terms<kOf, D> s;
  if constexpr (kOf == SumsOf::forward) {
    s.term[0] = e.t;
    s.term[1] = Mul(e.t, e.t);
  } else if constexpr (kOf == SumsOf::backward) {
    s.term[0] = e.g;
    s.term[1] = Mul(e.g, e.t);
  } else {
    s.term[0] = e.v;
    s.term[1] = Mul(e.v, e.t);
    s.term[2] = e.g;
    s.term[3] = Mul(e.g, e.t);
    s.term[4] = Mul(e.v, e.g);
  }
  return s;
}
// Those of a and b together.
template <SumsOf kOf, class D, class V>
HWY_INLINE Terms<kOf, D> TermsOfTwo(D d, const Elements<V> &a, const Elements<V> &b) {
  Terms<kOf, D> s = TermsOf<kOf>(d, a);
  if constexpr (kOf == SumsOf::forward) {
    s.term[0] = Add(s.term[0], b.t);
    s.term[1] = MulAdd(b.t, b.t, s.term[1]);
  } else if constexpr (kOf == SumsOf::backward) {
    s.term[0] = Add(s.term[0], b.g);
    s.term[1] = MulAdd(b.g, b.t, s.term[1]);
  } else {
    s.term[0] = Add(s.term[0], b.v);
    s.term[1] = MulAdd(b.v, b.t, s.term[1]);
    s.term[2] = Add(s.term[2], b.g);
    s.term[3] = MulAdd(b.g, b.t, s.term[3]);
    s.term[4] = MulAdd(b.v, b.g, s.term[4]);
  }
  return s;
}
template <SumsOf kOf, class D>
HWY_INLINE Terms<kOf, D> AddTerms(const Terms<kOf, D> &a, const Terms<kOf, D> &b) {
  Terms<kOf, D> s;
  Repeat<sums_count(kOf), true>([&](int k) BN2D_INLINED { s.term[k] = Add(a.term[k], b.term[k]); });
  return s;
}

// The tree over the rows of a run: ((0 1) (2 3)) ((4 5) (6 7)). leaf(k) reads the elements of row
// k; those of a row that is not there are 0. Where the code is unrolled, pairs of such rows are
// left out.
template <SumsOf kOf, bool kUnrolled, class D, class Leaf>
HWY_INLINE Terms<kOf, D> TreeOfRows(D d, int rows, const Leaf &leaf) {
  constexpr int kPairs = kRowsOfRun / 2;
  Terms<kOf, D> pair[kPairs];
  const auto set_pair = [&](int k) BN2D_INLINED {
    pair[k] = TermsOfTwo<kOf>(d, leaf(2 * k), leaf(2 * k + 1));
  };
  if constexpr (kUnrolled) {
    set_pair(0);
    if (rows > 2) {
      set_pair(1);
      pair[0] = AddTerms(pair[0], pair[1]);
    }
    if (rows <= kPairs) return pair[0];
    set_pair(2);
    if (rows > 6) {
      set_pair(3);
      pair[2] = AddTerms(pair[2], pair[3]);
    }
    return AddTerms(pair[0], pair[2]);
  } else {
    Repeat<kPairs, false>(set_pair);
    return AddTerms(AddTerms(pair[0], pair[1]), AddTerms(pair[2], pair[3]));
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

// The end of a plane costs few instructions with masks. Without, it is a function of its own.
#if HWY_TARGET == HWY_AVX3
#define BN2D_TAIL HWY_INLINE
#else
#define BN2D_TAIL BN2D_KERNEL
#endif
template <class D, class R, class Last>
BN2D_TAIL auto ReadTail(const R &reader, const Cursor &from, const Offsets &offset, int64_t i,
                        const Last &last) {
  return reader.read(from, offset, i,
                     [&](const auto *p, Vec<D> pad) BN2D_INLINED { return last.load(p, pad); });
}
#undef BN2D_TAIL

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
  HWY_INLINE void load() {
    for_each_sum([&](const double *at, Sum &sum)
                     BN2D_INLINED { LoadSum(WholeVector<DoubleTag>(), at, kLanes, &sum); });
  }
  HWY_INLINE void store() {
    for_each_sum([&](double *at, const Sum &sum)
                     BN2D_INLINED { StoreSum(WholeVector<DoubleTag>(), sum, at, kLanes); });
  }

  // Floats: a run of whole rows, one after another, while another one is fetched.
  HWY_INLINE void add_whole(const Cursor &from, bool fetches, const Cursor &ahead) {
    add_trees([&](int64_t i) BN2D_INLINED {
      return TreeOfRows<kOf, kUnroll>(D(), kRowsOfRun, [&](int k) BN2D_INLINED {
        if (i == 0 && fetches) FetchRow<kOf, T, kAct>(ahead, k);
        return reader_.read(from, {}, k * kRowElements + i, WholeVector<D>());
      });
    });
  }

  HWY_INLINE void add_some(const Cursor &from, const Pattern &pattern) {
    if constexpr (kIn == In::runs) {
      add_trees([&](int64_t i) BN2D_INLINED {
        return TreeOfRows<kOf, kHasMasks>(D(), pattern.rows, [&](int k) BN2D_INLINED {
          if constexpr (kHasMasks) return read(from, pattern, k, 0);
          return is_there(pattern, k, i) ? read(from, pattern, k, i) : Elements<V>(Zero(D()));
        });
      });
    } else {
      for (int k = 0; k < pattern.rows; ++k) {
        if constexpr (kHasWholeRows) {
          if (HWY_LIKELY(pattern.present[k] == kWholeRow)) {
            Repeat<2, false>([&](int half) BN2D_INLINED {
              Repeat<kVectors, true>([&](int v) BN2D_INLINED {
                add_elements(reader_.read(from, pattern.offset[k], (half * kVectors + v) * kDoubles,
                                          WholeVector<D>()),
                             v);
              });
            });
          } else if constexpr (kHasMasks) {
            Repeat<2 * kVectors, false>([&](int j) BN2D_INLINED {
              if (is_there(pattern, k, j * kDoubles))
                add_elements(read(from, pattern, k, j * kDoubles), j % kVectors);
            });
          } else if (kOf == SumsOf::forward && pattern.present[k] < 1u << kDoubles) {
            add_elements(read(from, pattern, k, 0), 0);  // the end of 7x7 and 14x14 planes
          } else {
            store();
            AddEndOfPlane(reader_, last_, memory_, from, pattern, k);
            load();
          }
        } else {
          Repeat<2 * kVectors, kUnrollLanes<kOf>>([&](int j) BN2D_INLINED {
            if (is_there(pattern, k, j * kDoubles))
              add_elements(read(from, pattern, k, j * kDoubles), j % kVectors);
          });
        }
      }
    }
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
  // Whether rows that are whole have code of their own, in which no element is asked for and no
  // mask is read, and the sums stay in registers. With AVX2, (1,256,14,14) takes 0.68 of the time
  // in training and 0.53 in backward, with AVX-512 0.92 and 0.86. For doubles, which spend their
  // time on pairs, it would gain 9 % at most.
  static constexpr bool kHasWholeRows = (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3) &&
                                        kIn == In::doubles && kOf != SumsOf::double_backward;
  static constexpr unsigned kWholeRow = (1u << kRowElements) - 1;
  // The vector from element i on of row k: whether it has elements, and these.
  static HWY_INLINE unsigned present(const Pattern &pattern, int k, int64_t i) {
    return pattern.present[k] >> i & ((1u << kSize) - 1);
  }
  static HWY_INLINE bool is_there(const Pattern &pattern, int k, int64_t i) {
    return present(pattern, k, i) != 0;
  }
  // The vector from element i on of row k.
  HWY_INLINE Elements<V> read(const Cursor &from, const Pattern &pattern, int k, int64_t i) const {
    if constexpr (kHasMasks) {
      return read_masked(from, pattern, k, i);
    } else {
      return Read(reader_, last_, from, pattern, k, i);
    }
  }
  static HWY_INLINE Elements<V> Read(const ReaderOfElements &reader, const LastVector<T, D> &last,
                                     const Cursor &from, const Pattern &pattern, int k, int64_t i) {
    if constexpr (kSize > 1)
      if (present(pattern, k, i) != (1u << kSize) - 1)
        return ReadTail<D>(reader, from, pattern.offset[k], i, last);
    return reader.read(from, pattern.offset[k], i, WholeVector<D>());
  }
  // The same for a row that is not whole, with the sums in memory: less code.
  static HWY_NOINLINE void AddEndOfPlane(const ReaderOfElements &reader,
                                         const LastVector<T, D> &last, double *memory,
                                         const Cursor &from, const Pattern &pattern, int k) {
    for (int j = 0; j < 2 * kVectors && is_there(pattern, k, j * kDoubles); ++j) {
      double *const lanes = memory + j % kVectors * kDoubles;
      Sum sums[kTerms];
      for (int term = 0; term < kTerms; ++term)
        LoadSum(WholeVector<DoubleTag>(), lanes + term * kAccumulators, kLanes, &sums[term]);
      AddElements<kOf, kIn>(D(), Read(reader, last, from, pattern, k, j * kDoubles), reader.pivot(),
                            Zero(DoubleTag()), sums);
      for (int term = 0; term < kTerms; ++term)
        StoreSum(WholeVector<DoubleTag>(), sums[term], lanes + term * kAccumulators, kLanes);
    }
  }
  // A vector of row k, of which some elements, or all, may not be there. No branch depends on that.
  static constexpr bool kHasMasks = HWY_TARGET == HWY_AVX3 && kIn != In::pairs;
  HWY_INLINE Elements<V> read_masked(const Cursor &from, const Pattern &pattern, int k,
                                     int64_t i) const {
    const auto *const bits = reinterpret_cast<const uint8_t *>(&pattern.present[k]) + i / 8;
    Elements<V> e = reader_.read(from, pattern.offset[k], i, [&](const T *p, V) BN2D_INLINED {
      return FromFloats(D(), LoadMasked(Rebind<float, D>(), p, bits));
    });
    e.t = IfThenElseZero(LoadMaskBits(D(), bits), e.t);
    return e;
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
        const auto both = AddTerms(tree(j * kSize), tree(j * kSize + kLanes));
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
  const Vec<DoubleTag> center_lo_;
  Sum sums_[kVectors][kTerms];
};

// Whether nothing is fetched in planes of more than kRunsToFollow runs. A line takes so few
// instructions that the core and its prefetchers look far enough ahead by themselves. Backward of
// (32,64,112,112) takes 0.90 of the time, its sums 0.82 (one thread). With AVX2 they would take
// 1.07 and 1.04, those of bfloat16 1.0 and 1.12. Planes of 24x24, 5 runs, would take 1.04; of
// 28x28, 7 runs, they take 0.95.
template <SumsOf kOf, class T>
inline constexpr bool kHardwareFollows =
    HWY_TARGET == HWY_AVX3 &&std::is_same_v<T, float> &&kOf == SumsOf::backward;
inline constexpr int64_t kRunsToFollow = 6;

template <SumsOf kOf, class T, Act kAct, In kIn>
HWY_INLINE void AddPlanesOfChannel(const Planes &planes, int64_t channel, const Cursor &start,
                                   const LastVector<T, ElementTag<kIn>> &last) {
  const SumsJob &job = planes.job;
  const Runs &runs = planes.runs;
  const auto reader = ReaderOfPlane<kOf, T, kAct>(ElementTag<kIn>(), job, channel);
  LanesOfPlane<kOf, T, kAct, kIn> lanes(job, channel, planes.first, reader, last);
  const bool fetches = kIn == In::runs && job.fetches && runs.whole != 0 &&
                       !(kHardwareFollows<kOf, T> && runs.of_turn > kRunsToFollow),
             fetches_turn = kIn == In::runs && runs.fetches_turn;
  Ahead ahead;
  if (fetches) ahead.start(planes, channel, start);
  Cursor of_turn = start;
  for (int64_t turn = planes.begin; turn < planes.end;
       ++turn, of_turn = of_turn.plus(runs.next_turn)) {
    Cursor from = of_turn;
    const Pattern &rest = runs.rest(turn);
    if constexpr (kIn == In::runs) {
      if (fetches) ahead.next_turn(runs);
      for (int64_t run = 0; run < runs.whole; ++run, from = from.plus(runs.next_run))
        lanes.add_whole(from, fetches, fetches ? ahead.next_run(runs) : from);
      if (fetches) {
        const Cursor later = ahead.next_run(runs);
        for (int k = 0; k < rest.rows; ++k) FetchRow<kOf, T, kAct>(later, k);
      }
      if (fetches_turn && turn + 1 < runs.turns) {
        const Cursor later = from.plus(runs.next_turn);
        for (int k = 0; k < rest.rows; ++k) FetchElement<kOf, kAct>(later, rest.offset[k]);
      }
    } else {
      for (int64_t run = 0; run < runs.whole; ++run, from = from.plus(runs.next_run))
        lanes.add_some(from, runs.pattern_of_whole);
    }
    if (rest.rows != 0) lanes.add_some(from, rest);
  }
  lanes.store();
}

template <SumsOf kOf, class T, Act kAct, In kIn>
HWY_INLINE void AddPlanes(const Planes &planes) {
  const LastVector<T, ElementTag<kIn>> last(planes.job.length);
  Cursor start = planes.start;
  for (int64_t c = planes.channel; c < planes.end_channel;
       ++c, start = start.plus(planes.runs.next_channel))
    AddPlanesOfChannel<kOf, T, kAct, kIn>(planes, c, start, last);
}

// ---- channels: vectors run along channels of one lane

// Vectors of channels that are summed together. Of doubles two: with AVX-512 a line of floats (with
// AVX2 half of one), which is then read once: rows that are a power of two apart push one another
// out of L1 before its second half is asked for. Backward of (1,256,14,14) takes 0.7 of the time
// that it takes with one (AVX2: 0.6).
template <SumsOf kOf, In kIn>
inline constexpr int kTogether =
    kSpecialise &&kIn == In::doubles &&kOf != SumsOf::double_backward ? 2 : 1;

// Adds a part of one lane, for the channels from c on: those of `some`, which loads kVectors
// vectors, or the lanes of one that exist.
template <SumsOf kOf, class T, Act kAct, In kIn, int kVectors, class D, class Some>
HWY_INLINE void AddChannels(D d, const PartsOfRun &run, int number, const Cursor &of_lane, int lane,
                            int64_t c, const Some &some) {
  constexpr int kTerms = sums_count(kOf), kElements = elements_of_part(kOf == SumsOf::forward);
  const SumsJob &job = run.job;
  const Part &part = run.parts[number];
  const Element *const elements = run.elements + number * kElements;
  const auto reader = ReaderOfChannels<kOf, T, kAct>(d, job, c, some);
  const int64_t stride = job.accumulator_stride,
                term_step = accumulators_of(kIn == In::pairs) * stride;
  double *const memory = job.accumulators + lane * stride + c;
  const int64_t bytes = c * static_cast<int64_t>(sizeof(T));
  const Cursor from = of_lane.plus({bytes, bytes, bytes, bytes});
  const auto is_there = [&](int k) BN2D_INLINED { return HWY_LIKELY(lane < elements[k].lanes); };
  if constexpr (kIn == In::runs) {
    const auto element = [&](int k) BN2D_INLINED {
      return is_there(k) ? reader.read(from, elements[k].offset, 0, some)
                         : Elements<Vec<D>>(Zero(d));
    };
    if (run.fetches) {
      const Cursor ahead = from.plus(part.later);
      for (int k = 0; k < kElements; ++k) FetchElement<kOf, kAct>(ahead, elements[k].offset);
    }
    const auto two = [&](int k)
                         BN2D_INLINED { return TermsOfTwo<kOf>(d, element(k), element(k + 1)); };
    Terms<kOf, D> sum = AddTerms(two(0), two(2));
    if constexpr (kElements == 8) sum = AddTerms(sum, AddTerms(two(4), two(6)));
    // What is kept are whole vectors: there is room behind the last channel.
    const int64_t of_sum = run.kept_channels, of_half = kTerms * kKeptChannels;
    float *const kept = run.kept + (lane - run.lane) * kTerms * of_sum + (c - run.channel);
    const auto add_kept = [&](int half) BN2D_INLINED {
      Repeat<kTerms, true>([&](int k) BN2D_INLINED {
        sum.term[k] = Add(sum.term[k], LoadU(d, kept + half * of_half + k * of_sum));
      });
    };
    if (part.adds_own) add_kept(part.half);
    if (part.adds_other) add_kept(1 - part.half);
    if (!part.is_last) {
      Repeat<kTerms, true>([&](int k) BN2D_INLINED {
        StoreU(sum.term[k], d, kept + part.half * of_half + k * of_sum);
      });
      return;
    }
    Repeat<kTerms, true>([&](int k) BN2D_INLINED {
      ForEachOfDoubles(d, sum.term[k], [&](int j, auto doubles) BN2D_INLINED {
        double *const at = memory + k * term_step + j * kDoubles;
        const auto half = some.half(j);
        half.store(Add(half.load(at), doubles), at);
      });
    });
  } else {
    constexpr int kSize = static_cast<int>(MaxLanes(D()));
    SumOf<kIn, D> sums[kVectors][kTerms];
    const int64_t to_low = kLanes * stride;
    const auto for_each_sum = [&](const auto &f) BN2D_INLINED {
      Repeat<kVectors, true>([&](int j) BN2D_INLINED {
        Repeat<kTerms, kUnroll>(
            [&](int k) BN2D_INLINED { f(memory + k * term_step + j * kSize, &sums[j][k]); });
      });
    };
    for_each_sum([&](const double *at, auto *sum) BN2D_INLINED { LoadSum(some, at, to_low, sum); });
    const auto last = ReaderOfChannels<kOf, T, kAct>(d, job, c + (kVectors - 1) * kSize, some);
    const auto center_lo =
        kIn == In::pairs && kOf != SumsOf::forward ? some.load(job.center_lo + c) : Zero(d);
    for (int k = 0; k < kElements; ++k) {
      if (!is_there(k)) continue;
      const Offsets &offset = elements[k].offset;
      AddElements<kOf, kIn>(d, reader.read(from, offset, 0, some), reader.pivot(), center_lo,
                            sums[0]);
      if constexpr (kVectors == 2)
        AddElements<kOf, kIn>(d, last.read(from, offset, kSize, some), last.pivot(), center_lo,
                              sums[1]);
    }
    for_each_sum([&](double *at, auto *sum) BN2D_INLINED { StoreSum(some, *sum, at, to_low); });
  }
}

// Calls f(number of the part, cursor, lane) for the lanes of the parts of a run.
template <class F>
HWY_INLINE void ForEachLane(const PartsOfRun &run, const F &f) {
  for (int part = 0; part < run.count; ++part) {
    Cursor from = run.from;
    for (int lane = run.lane; lane < run.end_lane; ++lane, from = from.plus(run.next_lane))
      f(part, from, lane);
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
  ForEachLane(run, [&](int part, const Cursor &from, int lane) BN2D_INLINED {
    int64_t c = run.channel;
    for (; c < whole; c += kCount * kSize)
      AddChannels<kOf, T, kAct, kIn, kCount>(d, run, part, from, lane, c,
                                             WholeVector<decltype(d)>());
    if constexpr (HWY_TARGET == HWY_AVX3) {
      if constexpr (kHasCodeForEight<T, kIn>) {
        const CappedTag<TFromD<decltype(d)>, 8> eight;
        if (end - c == 8)
          return AddChannels<kOf, T, kAct, kIn, 1>(eight, run, part, from, lane, c,
                                                   WholeVector<decltype(eight)>());
      }
      for (; c < end; c += kSize) {
        const int64_t count = std::min(end - c, kSize);
        AddChannels<kOf, T, kAct, kIn, 1>(
            d, run, part, from, lane, c,
            SomeLanes<decltype(d)>{static_cast<uint16_t>((1u << count) - 1)});
      }
    } else if constexpr (kSize > 1) {
      const CappedTag<TFromD<decltype(d)>, 1> one;
      for (; c < end; ++c)
        AddChannels<kOf, T, kAct, kIn, 1>(one, run, part, from, lane, c,
                                          WholeVector<decltype(one)>());
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
    sum_over_planes(job, sizeof(T), kIn != In::runs, Adder<kOf, T, kAct, kIn>::ToPlanes);
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
