// The sums of one block, for every operation, element type and layout. Included once per SIMD target.
#if defined(BN2D_KERNELS_SUMS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_SUMS_INL_H
#undef BN2D_KERNELS_SUMS_INL_H
#else
#define BN2D_KERNELS_SUMS_INL_H
#endif

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include "kernels/argument.inl.h"
#include "kernels/elements.inl.h"
#include "kernels/kernels.h"
#include "kernels/pair.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Doubles sum themselves in pairs (hi, lo); shorter types are summed in double.
template <class T>
inline constexpr bool kPaired = sizeof(Arithmetic<T>) == sizeof(double);

// Half data is not centered: its products are exact in double, a block's sum of squares of numbers that are close to
// one another, too, and where they are not, the mean is no larger than what deviates from it. So nothing cancels that a
// subtraction per element would have saved; one per block is enough.
template <class T>
inline constexpr bool kCentered = sizeof(T) > 2;

// Lanes of the canonical order, and the vectors that hold them.
template <class T>
inline constexpr int kLanes = kPaired<T> ? kAccumulators / 2 : kAccumulators;
using DoubleTag = hn::CappedTag<double, 8>;
inline constexpr int kDoubles = static_cast<int>(hn::MaxLanes(DoubleTag()));
template <class T>
inline constexpr int kVectors = kLanes<T> / kDoubles;
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
template <SumsOf kOf>
inline constexpr bool kUnroll = kDoubles >= 4 && kOf != SumsOf::double_backward;

// Whether kernels that know more of their job are worth code of their own: not on the targets of old CPUs.
inline constexpr bool kOwn = HWY_TARGET != HWY_SSE4 && HWY_TARGET != HWY_SCALAR;
// Those without an activation: a fifth faster for half data where few instructions convert it. For f64 it would be a
// twentieth.
template <class T>
inline constexpr bool kOwnPlain = kOwn && (sizeof(T) == 4 || (sizeof(T) == 2 && HWY_TARGET <= HWY_AVX2));

// a - b on the units that multiply, which the sums use less than those that add; a*1 is exact.
template <class D, class V>
HWY_INLINE V Difference(D d, V a, V b) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  return hn::MulSub(a, hn::Set(d, hn::TFromD<D>{1}), b);
#else
  (void)d;
  return hn::Sub(a, b);
#endif
}

// A running sum of vectors.
template <class D, bool kPair>
struct Sum {
  hn::Vec<D> hi, lo;

  HWY_INLINE Sum() {}  // see Pair
  HWY_INLINE void add(hn::Vec<D> v) {
    if constexpr (kPair) {
      lo = hn::Add(lo, add_high(v));
    } else {
      hi = hn::Add(hi, v);
    }
  }
  HWY_INLINE void add(Pair<hn::Vec<D>> v) { lo = hn::Add(lo, hn::Add(add_high(v.hi), v.lo)); }
  HWY_INLINE void add_product(hn::Vec<D> a, hn::Vec<D> b) {
    if constexpr (kPair) {
      add(TwoProduct(a, b));
    } else {
      hi = hn::MulAdd(a, b, hi);
    }
  }

 private:
  HWY_INLINE hn::Vec<D> add_high(hn::Vec<D> v) {  // Knuth's two-sum; returns what hi could not take
    const D d;
    const auto sum = hn::Add(hi, v);
    const auto part = Difference(d, sum, hi);
    const auto error = hn::Add(Difference(d, hi, Difference(d, sum, part)), Difference(d, v, part));
    hi = sum;
    return error;
  }
};

// What one vector of elements adds to the sums of its operation.
template <SumsOf kOf, bool kPair, bool kCenter, class D, class V>
HWY_INLINE void AddElements(D d, V x, V g, V v, V center_hi, V center_lo, Sum<D, kPair> *sums) {
  const V t = kCenter ? Difference(d, x, center_hi) : x;
  if constexpr (kOf == SumsOf::forward) {
    if constexpr (kPair) {  // what the difference lost; it is also missing from the square: (t+e)^2 = t^2 + 2te + ...
      const V part = Difference(d, t, x);
      const V error = Difference(d, Difference(d, x, hn::Sub(t, part)), hn::Add(center_hi, part));
      const auto square = TwoProduct(t, t);
      sums[0].add({t, error});
      sums[1].add({square.hi, hn::MulAdd(hn::Add(t, t), error, square.lo)});
    } else {
      sums[0].add(t);
      sums[1].add_product(t, t);
    }
  } else {
    const V tt = kPair ? hn::Sub(t, center_lo) : t;
    if constexpr (kOf == SumsOf::backward) {
      sums[0].add(g);
      sums[1].add_product(g, tt);
    } else {
      sums[0].add(v);
      sums[1].add_product(v, tt);
      sums[2].add(g);
      sums[3].add_product(g, tt);
      sums[4].add_product(v, g);
    }
  }
}

// As many elements as there are doubles, in the arithmetic type.
template <class A, class D64>
using Few = hn::Rebind<A, D64>;
// The same numbers in another type; from doubles only those that it holds.
template <class D, class V>
HWY_INLINE hn::Vec<D> Converted(D d, V v) {
  if constexpr (std::is_same_v<hn::TFromD<D>, hn::TFromV<V>>) {
    (void)d;
    return v;
  } else if constexpr (std::is_same_v<hn::TFromD<D>, double>) {
    return hn::PromoteTo(d, v);
  } else {
    return hn::DemoteTo(d, v);
  }
}

// What sums know of the activation when they are compiled: that there is none, that it is relu, that it has a slope,
// nothing.
enum class Act { none, relu, sloped, any };

// The gradient through the activation, g or g*slope (a product of doubles).
template <Act kAct, class A, class D64>
struct GradientThrough {
  using D = Few<A, D64>;
  hn::Vec<D64> slope;
  bool is_relu;
  HWY_INLINE GradientThrough(D64 d, double s)
      : slope(hn::Set(d, s)), is_relu(kAct == Act::relu || (kAct == Act::any && s == 0)) {}
  HWY_INLINE hn::Vec<D64> operator()(D64 d, hn::Vec<D> g, hn::Mask<D> is_damped) const {
    const auto whole = Converted(d, hn::IfThenZeroElse(is_damped, g));
    if (is_relu) return whole;
    return hn::MulAdd(Converted(d, hn::IfThenElseZero(is_damped, g)), slope, whole);  // one of them is 0
  }
};

template <Act kAct>
HWY_INLINE bool HasSide(const SumsJob &job) {
  return kAct == Act::relu || kAct == Act::sloped || (kAct == Act::any && job.side.data != nullptr);
}

// Accumulators: number k of a sum of a channel, k < lanes for a lane's sum and lanes + k for its low part.
//   planes    [channel][sum][k]        channels  [sum][k][channel of accumulator_stride]

HWY_INLINE void Prefetch(const void *p) { __builtin_prefetch(p, 0, 2); }  // into L2

// Where to fetch while the planes of a block are read: a fixed distance ahead in the order of reading, which jumps from
// plane to plane (whole planes, if they are smaller than that). A core alone keeps too few lines on their way while it
// computes, and the hardware does not see where a plane that is read continues.
template <class T>
class Ahead {
 public:
  HWY_INLINE Ahead(const SumsJob &job, bool in_order) : job_(job) {
    far_ = in_order && job.channels * job.samples * job.length > kDistance;
    if (!far_) return;  // not worth the arithmetic
    cut_ = std::max(job.length - kDistance, int64_t{0});
    const int64_t planes = (kDistance + job.length - 1) / job.length;
    channel_ = planes / job.samples;
    sample_ = planes % job.samples;
    plane_ = plane();
  }
  HWY_INLINE void enter(int64_t c, int64_t n) {
    if (!far_) return;
    after_ = plane_ - c * job_.x.channel - n * job_.x.sample - cut_;
    plane_ += job_.x.sample;
    if (++sample_ == job_.samples) {
      sample_ = 0;
      ++channel_;
      plane_ = plane();
    }
  }
  // Elements from position i to what is to be fetched.
  HWY_INLINE int64_t from(int64_t i) const { return i < cut_ ? kDistance : after_; }

 private:
  static constexpr int64_t kDistance = 4096 / static_cast<int64_t>(sizeof(T));
  HWY_INLINE int64_t plane() const {
    return (channel_ < job_.channels ? channel_ * job_.x.channel : job_.next) + sample_ * job_.x.sample;
  }
  const SumsJob &job_;
  bool far_;
  int64_t cut_ = 0, after_ = 0;
  int64_t channel_ = 0, sample_ = 0, plane_ = 0;  // what is fetched after the cut
};

// Lane numbers, twice.
struct Turn {
  int64_t lane[2 * kDoubles];
  constexpr Turn() : lane() {
    for (int i = 0; i < 2 * kDoubles; ++i) lane[i] = i % kDoubles;
  }
};
inline constexpr Turn kTurn;

// The elements at the end of a run that do not fill a vector.
template <class T>
class LastVector {
 public:
  HWY_INLINE explicit LastVector(int64_t length)
      : count_(length % kDoubles),
        is_short_(length < kDoubles),
        rotation_(hn::SetTableIndices(DoubleTag(), kTurn.lane + kDoubles - count_)),
        first_(hn::FirstN(DoubleTag(), static_cast<size_t>(count_))) {}
  // `pad` in the other lanes. Reads nothing past the end, but what is before it a second time.
  HWY_INLINE hn::Vec<DoubleTag> load(const T *p, hn::Vec<DoubleTag> pad) const {
    const DoubleTag d;
    if (is_short_) return LoadFewDoubles(d, p, count_, pad);
    return hn::IfThenElse(first_, hn::TableLookupLanes(LoadDoubles(d, p + count_ - kDoubles), rotation_), pad);
  }

 private:
  int64_t count_;
  bool is_short_;
  decltype(hn::SetTableIndices(DoubleTag(), static_cast<const int64_t *>(nullptr))) rotation_;
  hn::Mask<DoubleTag> first_;
};

// From where the sums of planes load the elements of one step: from where they are, or as floats from memory of the
// kernel's own. On AVX2 the sums of bf16 are a sixth faster that way: doubles are made of four floats in memory as fast
// as of four in a register, and the floats come eight at a time.
inline constexpr int64_t kStagedElements = 16;
template <class T>
inline constexpr bool kStages = HWY_TARGET == HWY_AVX2 &&std::is_same_v<T, bf16>;
template <class T>
struct Staged {
  HWY_INLINE const T *operator()(const T *p) { return p; }
};
#if HWY_TARGET == HWY_AVX2
template <>
struct Staged<bf16> {
  HWY_ALIGN float elements[kStagedElements];
  HWY_INLINE Staged() {}  // see Pair
  HWY_INLINE const float *operator()(const bf16 *p) {
    const hn::ScalableTag<float> d;
#pragma GCC unroll 2
    for (int64_t i = 0; i < kStagedElements; i += static_cast<int64_t>(hn::MaxLanes(d)))
      hn::Store(LoadElements(d, p + i), d, elements + i);
    const float *staged = elements;
    __asm__("" : "+r"(staged) : "m"(elements));  // or gcc takes the halves from the registers after all
    return staged;
  }
};
#endif

// A lambda that must be inlined: sums that it refers to would live in memory, and gcc drops the call of a function that
// only prefetches, because it has no effect.
#undef BN2D_INLINED
#define BN2D_INLINED HWY_ATTR __attribute__((always_inline))

// What the sums of forward are centered around: the first element of a block.
template <class T>
HWY_INLINE double Pivot(const T *first) {
  return kCentered<T> ? hn::GetLane(LoadDoubles(hn::CappedTag<double, 1>(), first)) : 0.0;
}

template <SumsOf kOf, class T, Act kAct>
HWY_NOINLINE void SumsOverPlanes(const SumsJob &job) {
  using A = Arithmetic<T>;
  constexpr bool kPair = kPaired<T>;
  constexpr int kTerms = sums_count(kOf), kCount = kVectors<T>;
  // What is staged of x is the side, too, where they are the same elements, not only the same address.
  const bool has_side = HasSide<kAct>(job);
  const bool has_own_side = has_side && (kStages<T> ? !(job.side == job.x) : job.side.data != job.x.data);
  constexpr int64_t kStep = kLanes<T>;
  const DoubleTag d;
  const Few<A, DoubleTag> da;
  const GradientThrough<kAct, A, DoubleTag> through(d, job.slope);
  // What takes no part is not read, but its pointer moves along: that of x, because NULL must not move.
  const auto *x0 = static_cast<const T *>(job.x.data);
  const auto *g0 = kOf == SumsOf::forward ? x0 : static_cast<const T *>(job.g.data);
  const auto *side0 = has_side ? static_cast<const T *>(job.side.data) : x0;
  const auto *v0 = kOf == SumsOf::double_backward ? static_cast<const T *>(job.v.data) : x0;

  // Small planes that follow one another: a few samples take turns, all channels in each turn. The hardware follows
  // that many runs of memory, which it does not when each plane is somewhere else.
  constexpr int64_t kSmallPlaneBytes = 512, kFewestSamples = 4, kElementsOfTurn = 224;
  const bool in_turns = job.length * static_cast<int64_t>(sizeof(T)) <= kSmallPlaneBytes && job.x.channel == job.length;
  const int64_t samples_of_turn = in_turns ? std::max(kElementsOfTurn / job.length, kFewestSamples) : job.samples;

  Ahead<T> ahead(job, !in_turns);
  Staged<T> staged_x, staged_g, staged_side;
  const int64_t rest = job.length % kStep, whole_vectors = rest / kDoubles;
  const LastVector<T> last(job.length);
  for (int64_t turn = 0; turn < job.samples; turn += samples_of_turn)
    for (int64_t c = 0; c < job.channels; ++c) {
      const bool first = job.first && turn == 0;
      if (kOf == SumsOf::forward && first) {
        job.center_hi[c] = Pivot(x0 + c * job.x.channel);
      }
      const auto center_hi = hn::Set(d, job.center_hi[c]);
      const auto center_lo = hn::Set(d, kOf == SumsOf::forward ? 0.0 : job.center_lo[c]);
      const auto sign = hn::Set(da, has_side ? static_cast<const A *>(job.side_sign)[c] : A{0});
      const auto threshold = hn::Set(da, has_side ? static_cast<const A *>(job.side_threshold)[c] : A{0});
      double *memory = job.accumulators + c * kTerms * kAccumulators;
      Sum<DoubleTag, kPair> sums[kCount][kTerms];
      Repeat<kCount * kTerms, kUnroll<kOf>>([&](int k) BN2D_INLINED {
        const int j = k / kTerms, term = k % kTerms;
        const double *at = memory + term * kAccumulators + j * kDoubles;
        sums[j][term].hi = first ? hn::Zero(d) : hn::LoadU(d, at);
        sums[j][term].lo = first || !kPair ? hn::Zero(d) : hn::LoadU(d, at + kStep);
      });

      auto add = [&](int j, const auto *x, const auto *g, const auto *side, const T *v, auto load,
                     auto load_few) BN2D_INLINED {
        const int64_t i = j * kDoubles;
        const auto zero = hn::Zero(d);
        const auto vx = load(x + i, center_hi);
        auto vg = zero, vv = zero;
        if constexpr (kOf != SumsOf::forward) {
          if (has_side) {
            vg = through(d, load_few(g + i), IsDamped<decltype(da)>(load_few(side + i), sign, threshold));
          } else {
            vg = load(g + i, zero);
          }
        }
        if constexpr (kOf == SumsOf::double_backward) vv = load(v + i, zero);
        AddElements<kOf, kPair, kCentered<T>>(d, vx, vg, vv, center_hi, center_lo, sums[j]);
      };
      auto whole = [&](const auto *p, auto) BN2D_INLINED { return LoadDoubles(d, p); };
      auto few = [&](const auto *p) BN2D_INLINED { return LoadElements(da, p); };
      auto fetch = [&](int64_t i, const T *x, const T *g, const T *side, const T *v) BN2D_INLINED {
        const int64_t next = i + ahead.from(i);
        Prefetch(x + next);
        if constexpr (kOf != SumsOf::forward) Prefetch(g + next);
        if (has_own_side) Prefetch(side + next);
        if constexpr (kOf == SumsOf::double_backward) Prefetch(v + next);
      };
      // The lanes past the end of a run add 0: there x is the center, g and v are 0.
      auto part = [&](const T *p, auto pad) BN2D_INLINED { return last.load(p, pad); };
      auto few_of_part = [&](const T *p) BN2D_INLINED { return Converted(da, last.load(p, hn::Zero(d))); };

      for (int64_t n = turn, end = std::min(turn + samples_of_turn, job.samples); n < end; ++n) {
        const T *x = x0 + c * job.x.channel + n * job.x.sample;
        const T *g = g0, *side = side0, *v = v0;
        if constexpr (kOf != SumsOf::forward) g += c * job.g.channel + n * job.g.sample;
        if (has_side) side += c * job.side.channel + n * job.side.sample;
        if constexpr (kOf == SumsOf::double_backward) v += c * job.v.channel + n * job.v.sample;
        ahead.enter(c, n);
        if constexpr (kOf != SumsOf::double_backward) {
          int64_t i = 0;
          for (; i + kStep <= job.length; i += kStep) {
            fetch(i, x, g, side, v);
            const auto *xs = staged_x(x + i), *gs = xs, *sides = xs;
            if constexpr (kOf != SumsOf::forward) gs = staged_g(g + i);
            if (!kStages<T> || has_own_side) sides = staged_side(side + i);
            Repeat<kCount, kUnroll<kOf>>([&](int j) BN2D_INLINED { add(j, xs, gs, sides, v + i, whole, few); });
          }
          if (rest == 0) continue;
          fetch(i, x, g, side, v);  // the end of a plane is a line, too; a small plane has few others
          Repeat<kCount, kUnroll<kOf>>([&](int j) BN2D_INLINED {
            if (j < whole_vectors) {
              add(j, x + i, g + i, side + i, v + i, whole, few);
            } else if (j == whole_vectors && rest % kDoubles != 0) {
              add(j, x + i, g + i, side + i, v + i, part, few_of_part);
            }
          });
        } else {  // less code
          for (int64_t k = 0, vectors = job.length / kDoubles; k <= vectors; ++k) {
            const int j = static_cast<int>(k % kCount);
            const int64_t i = (k - j) * kDoubles;
            if (j == 0 && i < job.length) fetch(i, x, g, side, v);
            if (k < vectors) {
              add(j, x + i, g + i, side + i, v + i, whole, few);
            } else if (rest % kDoubles != 0) {
              add(j, x + i, g + i, side + i, v + i, part, few_of_part);
            }
          }
        }
      }

      Repeat<kCount * kTerms, kUnroll<kOf>>([&](int k) BN2D_INLINED {
        const int j = k / kTerms, term = k % kTerms;
        double *at = memory + term * kAccumulators + j * kDoubles;
        hn::StoreU(sums[j][term].hi, d, at);
        if constexpr (kPair) hn::StoreU(sums[j][term].lo, d, at + kStep);
      });
    }
}

// What is summed at a time: some rows of a plane, or some planes. Its lanes take turns, and in each the tiles of
// channels: the rows of a lane are read side by side, and the accumulators of a turn stay in registers for all of them.
struct Visit {
  int64_t first_sample, last_sample, begin, end, lanes;
};
template <SumsOf kOf>
inline constexpr int64_t kRowsOfLane = kOf == SumsOf::forward ? 8 : 4;  // of several tensors: as many runs of memory

// One tile of kTile vectors of channels, one lane of a visit. `ahead`: elements to what is to be fetched.
template <SumsOf kOf, class T, Act kAct, int kTile, class D>
HWY_INLINE void SumLaneOfTile(D d, const SumsJob &job, int64_t c, const Visit &visit, int64_t lane, int64_t ahead) {
  constexpr bool kPair = kPaired<T>;
  constexpr int kTerms = sums_count(kOf);
  using A = Arithmetic<T>;
  const bool has_side = HasSide<kAct>(job), has_own_side = has_side && job.side.data != job.x.data;
  const int64_t width = static_cast<int64_t>(hn::Lanes(d));
  const Few<A, D> da;
  const GradientThrough<kAct, A, D> through(d, job.slope);
  const int64_t stride = job.accumulator_stride;
  double *memory = job.accumulators + lane * stride + c;
  Sum<D, kPair> sums[kTile][kTerms];
  Repeat<kTile * kTerms, kUnroll<kOf>>([&](int k) BN2D_INLINED {
    const int j = k / kTerms, term = k % kTerms;
    const double *at = memory + term * kAccumulators * stride + j * width;
    sums[j][term].hi = hn::LoadU(d, at);
    sums[j][term].lo = kPair ? hn::LoadU(d, at + kLanes<T> * stride) : hn::Zero(d);
  });
  for (int64_t n = visit.first_sample; n < visit.last_sample; ++n) {
    auto at = [&](const Stream &s, int64_t p)
                  BN2D_INLINED { return static_cast<const T *>(s.data) + n * s.sample + p * s.position + c; };
    for (int64_t p = visit.begin + lane; p < visit.end; p += visit.lanes) {
      const T *x = at(job.x, p), *g = x, *side = x, *v = x;
      if constexpr (kOf != SumsOf::forward) g = at(job.g, p);
      if (has_side) side = at(job.side, p);
      if constexpr (kOf == SumsOf::double_backward) v = at(job.v, p);
      if (kTile > 1 || (kOf == SumsOf::double_backward && hn::MaxLanes(d) > 1)) {
        Prefetch(x + ahead);
        if constexpr (kOf != SumsOf::forward) Prefetch(g + ahead);
        if (has_own_side) Prefetch(side + ahead);
        if constexpr (kOf == SumsOf::double_backward) Prefetch(v + ahead);
      }
      Repeat<kTile, kUnroll<kOf>>([&](int j) BN2D_INLINED {
        const int64_t i = j * width;
        auto vg = hn::Zero(d), vv = hn::Zero(d);
        const auto vx = LoadDoubles(d, x + i);
        if constexpr (kOf != SumsOf::forward) {
          if (has_side) {
            const auto sign = hn::LoadU(da, static_cast<const A *>(job.side_sign) + c + i);
            const auto threshold = hn::LoadU(da, static_cast<const A *>(job.side_threshold) + c + i);
            vg = through(d, LoadElements(da, g + i),
                         IsDamped<decltype(da)>(LoadElements(da, side + i), sign, threshold));
          } else {
            vg = LoadDoubles(d, g + i);
          }
        }
        if constexpr (kOf == SumsOf::double_backward) vv = LoadDoubles(d, v + i);
        const auto center_hi = hn::LoadU(d, job.center_hi + c + i);
        const auto center_lo = kOf == SumsOf::forward || !kPair ? hn::Zero(d) : hn::LoadU(d, job.center_lo + c + i);
        AddElements<kOf, kPair, kCentered<T>>(d, vx, vg, vv, center_hi, center_lo, sums[j]);
      });
    }
  }
  Repeat<kTile * kTerms, kUnroll<kOf>>([&](int k) BN2D_INLINED {
    const int j = k / kTerms, term = k % kTerms;
    double *at = memory + term * kAccumulators * stride + j * width;
    hn::StoreU(sums[j][term].hi, d, at);
    if constexpr (kPair) hn::StoreU(sums[j][term].lo, d, at + kLanes<T> * stride);
  });
}

// Where it is seldom called, or slow as it is: not at each call once more.
template <SumsOf kOf, class T, Act kAct, int kTile, class D>
HWY_NOINLINE void SumLaneOfTileApart(D d, const SumsJob &job, int64_t c, const Visit &visit, int64_t lane,
                                     int64_t ahead) {
  SumLaneOfTile<kOf, T, kAct, kTile>(d, job, c, visit, lane, ahead);
}

// Samples of one position, all of lane 0, as positions of one sample (whose stride nobody asks for then): the shortest
// way from row to row.
HWY_NOINLINE inline SumsJob AsPositions(const SumsJob &job) {
  SumsJob positions = job;
  if (job.length != 1) return positions;
  std::swap(positions.samples, positions.length);
  for (const auto tensor : SumsJob::kTensors) (positions.*tensor).position = (positions.*tensor).sample;
  return positions;
}

template <SumsOf kOf, class T, Act kAct>
HWY_NOINLINE void SumsOverChannels(const SumsJob &given) {
  const SumsJob job = AsPositions(given);  // a copy, too, of which the compiler knows that sums are not stored into it
  const int64_t all_lanes = given.length == 1 ? 1 : kLanes<T>;
  const DoubleTag d;
  const hn::CappedTag<double, 1> one;
  constexpr int64_t kTile = kOf == SumsOf::double_backward ? 1 : kDoubles >= 8 ? 2 : 4;
  if (job.first) {
    for (int64_t k = 0; k < sums_count(kOf) * kAccumulators; ++k)
      std::fill_n(job.accumulators + k * job.accumulator_stride, job.channels, 0.0);
    if (kOf == SumsOf::forward)
      for (int64_t c = 0; c < job.channels; ++c) job.center_hi[c] = Pivot(static_cast<const T *>(job.x.data) + c);
  }
  if (job.length == 0) return;
  const int64_t lanes = std::min(job.length, all_lanes), rows = kRowsOfLane<kOf> * lanes;
  const int64_t samples = std::max(rows / job.length, int64_t{1}), parts = (job.length + rows - 1) / rows;
  const int64_t part = ((job.length + parts - 1) / parts + all_lanes - 1) / all_lanes * all_lanes;
  // Rows to fetch ahead, so that as many bytes are on their way in any shape: those of lanes to come, of this visit or
  // of the next. The hardware does not see where a row of a group continues.
  constexpr int64_t kAheadBytes = 2048;
  const int64_t lanes_ahead =
      std::clamp(kAheadBytes / (job.channels * static_cast<int64_t>(sizeof(T))), int64_t{1}, lanes);
  for (int64_t n = 0; n < job.samples; n += samples)
    for (int64_t begin = 0; begin < job.length; begin += part) {
      const Visit visit = {n, std::min(n + samples, job.samples), begin, std::min(begin + part, job.length), all_lanes};
      const int64_t next =
          visit.end < job.length ? part * job.x.position : samples * job.x.sample - begin * job.x.position;
      for (int64_t lane = 0; lane < lanes && visit.begin + lane < visit.end; ++lane) {
        const int64_t ahead =
            lanes_ahead * job.x.position + (lane + lanes_ahead < lanes ? 0 : next - lanes * job.x.position);
        int64_t c = 0;
        if constexpr (kTile > 1)
          for (; c + kTile * kDoubles <= job.channels; c += kTile * kDoubles)
            SumLaneOfTile<kOf, T, kAct, kTile>(d, job, c, visit, lane, ahead);
        for (; kDoubles > 1 && c + kDoubles <= job.channels; c += kDoubles)
          SumLaneOfTileApart<kOf, T, kAct, 1>(d, job, c, visit, lane, ahead);
        for (; c < job.channels; ++c) SumLaneOfTileApart<kOf, T, kAct, 1>(one, job, c, visit, lane, ahead);
      }
    }
}

template <SumsOf kOf, class T, Act kAct, Layout kLayout>
void SumsOverLayout(const SumsJob &job) {
  kLayout == Layout::planes ? SumsOverPlanes<kOf, T, kAct>(job) : SumsOverChannels<kOf, T, kAct>(job);
}

template <SumsOf kOf, class T, Layout kLayout>
void SumsOverBlock(const SumsJob &job) {
  if constexpr (kOf == SumsOf::forward) return SumsOverLayout<kOf, T, Act::none, kLayout>(job);
  constexpr bool kIsOwn = kOf == SumsOf::backward && kOwn && !kPaired<T>, kIsOwnPlain = kIsOwn && kOwnPlain<T>;
  if constexpr (kIsOwnPlain)
    if (!HasSide<Act::any>(job)) return SumsOverLayout<kOf, T, Act::none, kLayout>(job);
  if constexpr (kIsOwn)
    if (HasSide<Act::any>(job) && job.slope == 0) return SumsOverLayout<kOf, T, Act::relu, kLayout>(job);
  if constexpr (kOf != SumsOf::forward) SumsOverLayout<kOf, T, kIsOwnPlain ? Act::sloped : Act::any, kLayout>(job);
}

// The fixed tree over the lanes: each level adds the upper half to the lower one.
template <bool kPair, class V>
HWY_INLINE Pair<V> AddLanes(Pair<V> a, Pair<V> b) {
  if constexpr (kPair) {
    const Pair<V> sum = TwoSum(a.hi, b.hi);
    return {sum.hi, hn::Add(sum.lo, hn::Add(a.lo, b.lo))};
  } else {
    return {hn::Add(a.hi, b.hi), a.lo};
  }
}
// The levels of whole vectors. Vector j is at [j*step].
template <bool kPair, int kCount, class D>
HWY_INLINE Pair<hn::Vec<D>> AddVectors(D d, const double *at, int64_t step) {
  Pair<hn::Vec<D>> lanes[kCount];
#pragma GCC unroll 16
  for (int j = 0; j < kCount; ++j)
    lanes[j] = {hn::LoadU(d, at + j * step), kPair ? hn::LoadU(d, at + (kCount + j) * step) : hn::Zero(d)};
#pragma GCC unroll 16
  for (int width = kCount / 2; width > 0; width /= 2)
#pragma GCC unroll 16
    for (int j = 0; j < width; ++j) lanes[j] = AddLanes<kPair>(lanes[j], lanes[j + width]);
  return lanes[0];
}
// The levels within a vector, down to one lane.
#if HWY_TARGET == HWY_SCALAR  // has no halves
template <bool kPair, class D>
HWY_INLINE Pair<hn::Vec<D>> AddAcross(D, Pair<hn::Vec<D>> v) {
  return v;
}
#else
template <bool kPair, class D>
HWY_INLINE auto AddAcross(D d, Pair<hn::Vec<D>> v) {
  if constexpr (hn::MaxLanes(D()) == 1) {
    (void)d;
    return v;
  } else {
    const hn::Half<D> half;
    using H = hn::Vec<hn::Half<D>>;
    return AddAcross<kPair>(half, AddLanes<kPair>(Pair<H>{hn::LowerHalf(half, v.hi), hn::LowerHalf(half, v.lo)},
                                                  Pair<H>{hn::UpperHalf(half, v.hi), hn::UpperHalf(half, v.lo)}));
  }
}
#endif
template <bool kPair, class D>
HWY_INLINE void StoreSum(D d, Pair<hn::Vec<D>> sum, double *hi, double *lo) {
  if constexpr (kPair) {
    // An overflow to infinity leaves NaN in the low part.
    const auto infinite = hn::Eq(hn::Abs(sum.hi), hn::Set(d, HUGE_VAL));
    const auto total = QuickTwoSum(sum.hi, sum.lo);
    hn::StoreU(hn::IfThenElse(infinite, sum.hi, total.hi), d, hi);
    hn::StoreU(hn::IfThenZeroElse(infinite, total.lo), d, lo);
  } else {
    hn::StoreU(sum.hi, d, hi);
    hn::StoreU(sum.lo, d, lo);
  }
}

// For all types of one arithmetic: kept once in the library.
template <bool kPair>
HWY_NOINLINE inline void ReduceLanes(int terms, Layout layout, int64_t channels, const double *accumulators,
                                     int64_t stride, Sums *sums) {
  const DoubleTag d;
  const hn::CappedTag<double, 1> one;
  constexpr int kCount = kPair ? kAccumulators / 2 : kAccumulators;
  for (int term = 0; term < terms; ++term) {
    double *hi = sums->hi + term * kMaxGroup, *lo = sums->lo + term * kMaxGroup;
    if (layout == Layout::planes) {
      for (int64_t c = 0; c < channels; ++c) {
        const double *at = accumulators + (c * terms + term) * kAccumulators;
        StoreSum<kPair>(one, AddAcross<kPair>(d, AddVectors<kPair, kCount / kDoubles>(d, at, kDoubles)), hi + c,
                        lo + c);
      }
    } else {
      const double *at = accumulators + term * kAccumulators * stride;
      int64_t c = 0;
      for (; c + kDoubles <= channels; c += kDoubles)
        StoreSum<kPair>(d, AddVectors<kPair, kCount>(d, at + c, stride), hi + c, lo + c);
      for (; c < channels; ++c) StoreSum<kPair>(one, AddVectors<kPair, kCount>(one, at + c, stride), hi + c, lo + c);
    }
  }
}

template <class T>
void Reduce(SumsOf op, Layout layout, int64_t channels, const double *accumulators, int64_t stride,
            const double *center, Sums *sums) {
  const int terms = sums_count(op);
  ReduceLanes<kPaired<T>>(terms, layout, channels, accumulators, stride, sums);
  if (kCentered<T> || op == SumsOf::forward) return;
  for (int term = 1; term < std::min(terms, 4); term += 2) {  // what was multiplied with x, not with t
    double *with_x = sums->hi + term * kMaxGroup, *without = with_x - kMaxGroup;
    for (int64_t c = 0; c < channels; ++c) with_x[c] -= center[c] * without[c];
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
