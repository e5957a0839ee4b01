// The sums of one block, for every operation, element type and layout. Included once per SIMD target.
#if defined(BN2D_KERNELS_SUMS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_SUMS_INL_H
#undef BN2D_KERNELS_SUMS_INL_H
#else
#define BN2D_KERNELS_SUMS_INL_H
#endif

#include <algorithm>
#include <cmath>

#include "kernels/elements.inl.h"
#include "kernels/kernels.h"
#include "kernels/pair.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Vectors of doubles, at most as long as the canonical eight lanes.
using DoubleTag = hn::CappedTag<double, kLanes>;
inline constexpr int kDoubles = static_cast<int>(hn::MaxLanes(DoubleTag()));
inline constexpr int kVectors = kLanes / kDoubles;

// Doubles sum themselves in pairs (hi, lo); shorter types are summed in double.
template <class T>
inline constexpr bool kPaired = sizeof(Arithmetic<T>) == sizeof(double);

// A running sum of vectors.
template <class D, bool kPair>
struct Sum {
  hn::Vec<D> hi, lo;

  HWY_INLINE void add(hn::Vec<D> v) {
    if constexpr (kPair) {  // Knuth's two-sum
      const auto sum = hn::Add(hi, v);
      const auto part = hn::Sub(sum, hi);
      lo = hn::Add(lo, hn::Add(hn::Sub(hi, hn::Sub(sum, part)), hn::Sub(v, part)));
      hi = sum;
    } else {
      hi = hn::Add(hi, v);
    }
  }
  HWY_INLINE void add_product(hn::Vec<D> a, hn::Vec<D> b) {
    if constexpr (kPair) {
      const auto product = TwoProduct(a, b);
      add(product.hi);
      lo = hn::Add(lo, product.lo);
    } else {
      hi = hn::MulAdd(a, b, hi);
    }
  }
  HWY_INLINE void add_low(hn::Vec<D> v) {  // what is known to be small
    if constexpr (kPair) lo = hn::Add(lo, v);
  }
};

// What one vector of elements adds to the sums of its operation.
template <SumsOf kOf, bool kPair, class D, class V>
HWY_INLINE void AddElements(D d, V x, V g, V v, V center_hi, V center_lo, Sum<D, kPair> *sums) {
  (void)d;
  const V t = hn::Sub(x, center_hi);
  if constexpr (kOf == SumsOf::forward) {
    sums[0].add(t);
    sums[1].add_product(t, t);
    if constexpr (kPair) {  // what the difference lost; it is also missing from the square: (t+e)^2 = t^2 + 2te + ...
      const V part = hn::Sub(t, x);
      const V error = hn::Sub(hn::Sub(x, hn::Sub(t, part)), hn::Add(center_hi, part));
      sums[0].add_low(error);
      sums[1].add_low(hn::Mul(hn::Add(t, t), error));
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

template <class D>
struct ActivationGradient {  // g where side > 0 (or NaN), else g*slope; a slope of 0 gives 0 also for an infinite g
  hn::Vec<D> slope;
  hn::Mask<D> has_slope;
  HWY_INLINE ActivationGradient(D d, hn::TFromD<D> s) : slope(hn::Set(d, s)), has_slope(hn::Ne(slope, hn::Zero(d))) {}
  HWY_INLINE hn::Vec<D> operator()(D d, hn::Vec<D> g, hn::Vec<D> side) const {
    const auto damped = hn::IfThenElseZero(has_slope, hn::Mul(g, slope));
    return hn::IfThenElse(hn::Le(side, hn::Zero(d)), damped, g);
  }
};

// Accumulators: a sum of one lane of one channel is accumulators[index], and [index + step] its low part.
inline constexpr int64_t kPlaneTerm = 2 * kLanes;                         // planes: [channel][term][hi, lo][lane]
inline constexpr int64_t kChannelTerm = 2 * kLanes * int64_t{kMaxGroup};  // channels: [term][hi, lo][lane][channel]

template <SumsOf kOf, class T, bool kSide>
HWY_NOINLINE void SumsOverPlanes(const SumsJob &job) {
  constexpr bool kPair = kPaired<T>;
  constexpr int kTerms = sums_count(kOf);
  const DoubleTag d;
  const ActivationGradient<DoubleTag> through(d, job.slope);
  const auto *x0 = static_cast<const T *>(job.x.data), *g0 = static_cast<const T *>(job.g.data);
  const auto *side0 = static_cast<const T *>(job.side.data), *v0 = static_cast<const T *>(job.v.data);

  for (int64_t c = 0; c < job.channels; ++c) {
    if (kOf == SumsOf::forward && job.first) {
      job.center_hi[c] = hn::GetLane(LoadDoubles(hn::CappedTag<double, 1>(), x0 + c * job.x.channel));
    }
    const auto center_hi = hn::Set(d, job.center_hi[c]);
    const auto center_lo = hn::Set(d, kOf == SumsOf::forward ? 0.0 : job.center_lo[c]);
    double *memory = job.accumulators + c * kTerms * kPlaneTerm;
    Sum<DoubleTag, kPair> sums[kVectors][kTerms];
    for (int j = 0; j < kVectors; ++j)
      for (int term = 0; term < kTerms; ++term) {
        const double *at = memory + term * kPlaneTerm + j * kDoubles;
        sums[j][term].hi = job.first ? hn::Zero(d) : hn::LoadU(d, at);
        sums[j][term].lo = job.first || !kPair ? hn::Zero(d) : hn::LoadU(d, at + kLanes);
      }

    // The lanes past the end of a run add 0: there x is the center, g and v are 0.
    auto step = [&](const T *x, const T *g, const T *side, const T *v, auto load) HWY_ATTR {
      for (int j = 0; j < kVectors; ++j) {
        const int64_t i = j * kDoubles;
        const auto zero = hn::Zero(d);
        const auto vx = load(x + i, i, center_hi);
        auto vg = zero, vv = zero;
        if constexpr (kOf != SumsOf::forward) {
          vg = load(g + i, i, zero);
          if constexpr (kSide) vg = through(d, vg, load(side + i, i, zero));
        }
        if constexpr (kOf == SumsOf::double_backward) vv = load(v + i, i, zero);
        AddElements<kOf, kPair>(d, vx, vg, vv, center_hi, center_lo, sums[j]);
      }
    };
    auto whole = [&](const T *p, int64_t, auto) HWY_ATTR { return LoadDoubles(d, p); };
    const int64_t rest = job.length % kLanes;
    auto part = [&](const T *p, int64_t i, auto pad) HWY_ATTR { return LoadFirstDoubles(d, p, rest - i, pad); };

    for (int64_t n = 0; n < job.samples; ++n) {
      const T *x = x0 + c * job.x.channel + n * job.x.sample;
      const T *g = g0, *side = side0, *v = v0;
      if constexpr (kOf != SumsOf::forward) g += c * job.g.channel + n * job.g.sample;
      if constexpr (kSide) side += c * job.side.channel + n * job.side.sample;
      if constexpr (kOf == SumsOf::double_backward) v += c * job.v.channel + n * job.v.sample;
      int64_t i = 0;
      for (; i + kLanes <= job.length; i += kLanes) step(x + i, g + i, side + i, v + i, whole);
      if (rest != 0) step(x + i, g + i, side + i, v + i, part);
    }

    for (int j = 0; j < kVectors; ++j)
      for (int term = 0; term < kTerms; ++term) {
        double *at = memory + term * kPlaneTerm + j * kDoubles;
        hn::StoreU(sums[j][term].hi, d, at);
        if constexpr (kPair) hn::StoreU(sums[j][term].lo, d, at + kLanes);
      }
  }
}

// Rows that are summed per visit of a tile of channels: their part of the tile stays in L1 while the lanes take turns.
inline constexpr int64_t kRowsPerVisit = 64;

// One tile of kTile vectors of channels, one visit.
template <SumsOf kOf, class T, bool kSide, int kTile, class D>
HWY_INLINE void SumRowsOfTile(D d, const SumsJob &job, int64_t c, int64_t n, int64_t begin, int64_t end) {
  constexpr bool kPair = kPaired<T>;
  constexpr int kTerms = sums_count(kOf);
  const int64_t width = static_cast<int64_t>(hn::Lanes(d));
  const ActivationGradient<D> through(d, job.slope);
  for (int64_t lane = 0; lane < kLanes && begin + lane < end; ++lane) {
    double *memory = job.accumulators + lane * kMaxGroup + c;
    Sum<D, kPair> sums[kTile][kTerms];
    for (int j = 0; j < kTile; ++j)
      for (int term = 0; term < kTerms; ++term) {
        const double *at = memory + term * kChannelTerm + j * width;
        sums[j][term].hi = hn::LoadU(d, at);
        sums[j][term].lo = kPair ? hn::LoadU(d, at + kLanes * kMaxGroup) : hn::Zero(d);
      }
    for (int64_t p = begin + lane; p < end; p += kLanes) {
      auto row = [&](const Stream &s)
                     HWY_ATTR { return static_cast<const T *>(s.data) + n * s.sample + p * s.position + c; };
      for (int j = 0; j < kTile; ++j) {
        const int64_t i = j * width;
        auto vg = hn::Zero(d), vv = hn::Zero(d);
        const auto vx = LoadDoubles(d, row(job.x) + i);
        if constexpr (kOf != SumsOf::forward) {
          vg = LoadDoubles(d, row(job.g) + i);
          if constexpr (kSide) vg = through(d, vg, LoadDoubles(d, row(job.side) + i));
        }
        if constexpr (kOf == SumsOf::double_backward) vv = LoadDoubles(d, row(job.v) + i);
        const auto center_hi = hn::LoadU(d, job.center_hi + c + i);
        const auto center_lo = kOf == SumsOf::forward || !kPair ? hn::Zero(d) : hn::LoadU(d, job.center_lo + c + i);
        AddElements<kOf, kPair>(d, vx, vg, vv, center_hi, center_lo, sums[j]);
      }
    }
    for (int j = 0; j < kTile; ++j)
      for (int term = 0; term < kTerms; ++term) {
        double *at = memory + term * kChannelTerm + j * width;
        hn::StoreU(sums[j][term].hi, d, at);
        if constexpr (kPair) hn::StoreU(sums[j][term].lo, d, at + kLanes * kMaxGroup);
      }
  }
}

template <SumsOf kOf, class T, bool kSide>
HWY_NOINLINE void SumsOverChannels(const SumsJob &job) {
  const DoubleTag d;
  const hn::CappedTag<double, 1> one;
  constexpr int64_t kTile = kDoubles >= 8 ? 2 : kDoubles >= 4 ? 4 : 4;
  if (job.first) {
    for (int term = 0; term < sums_count(kOf); ++term)
      for (int64_t k = 0; k < 2 * kLanes; ++k)
        std::fill_n(job.accumulators + term * kChannelTerm + k * kMaxGroup, job.channels, 0.0);
    if (kOf == SumsOf::forward)
      for (int64_t c = 0; c < job.channels; ++c)
        job.center_hi[c] = hn::GetLane(LoadDoubles(one, static_cast<const T *>(job.x.data) + c));
  }
  for (int64_t n = 0; n < job.samples; ++n)
    for (int64_t begin = 0; begin < job.length; begin += kRowsPerVisit) {
      const int64_t end = std::min(begin + kRowsPerVisit, job.length);
      int64_t c = 0;
      for (; c + kTile * kDoubles <= job.channels; c += kTile * kDoubles)
        SumRowsOfTile<kOf, T, kSide, kTile>(d, job, c, n, begin, end);
      for (; c + kDoubles <= job.channels; c += kDoubles) SumRowsOfTile<kOf, T, kSide, 1>(d, job, c, n, begin, end);
      for (; c < job.channels; ++c) SumRowsOfTile<kOf, T, kSide, 1>(one, job, c, n, begin, end);
    }
}

template <SumsOf kOf, class T, Layout kLayout>
void SumsOverBlock(const SumsJob &job) {
  const bool side = job.side.data != nullptr && kOf != SumsOf::forward;
  if constexpr (kLayout == Layout::planes) {
    side ? SumsOverPlanes<kOf, T, true>(job) : SumsOverPlanes<kOf, T, false>(job);
  } else {
    side ? SumsOverChannels<kOf, T, true>(job) : SumsOverChannels<kOf, T, false>(job);
  }
}

struct LaneSum {
  double hi, lo;
};

// The fixed tree over the lanes: (0+4)+(2+6) + (1+5)+(3+7).
template <bool kPair>
HWY_INLINE LaneSum AddLanes(const double *hi, const double *lo, int64_t step) {
  if constexpr (kPair) {
    LaneSum lanes[kLanes];
    for (int k = 0; k < kLanes; ++k) lanes[k] = {hi[k * step], lo[k * step]};
    for (int width = kLanes / 2; width > 0; width /= 2)
      for (int k = 0; k < width; ++k) {
        const double a = lanes[k].hi, b = lanes[k + width].hi, sum = a + b, part = sum - a;
        lanes[k] = {sum, ((a - (sum - part)) + (b - part)) + (lanes[k].lo + lanes[k + width].lo)};
      }
    // An overflow to infinity leaves NaN in the low part.
    if (std::isinf(lanes[0].hi)) return {lanes[0].hi, 0.0};
    const double sum = lanes[0].hi + lanes[0].lo;
    return {sum, lanes[0].lo - (sum - lanes[0].hi)};
  } else {
    const double sum04 = hi[0] + hi[4 * step], sum26 = hi[2 * step] + hi[6 * step];
    const double sum15 = hi[step] + hi[5 * step], sum37 = hi[3 * step] + hi[7 * step];
    return {(sum04 + sum26) + (sum15 + sum37), 0.0};
  }
}

template <class T>
void Reduce(SumsOf op, Layout layout, int64_t channels, const double *accumulators, Sums *sums) {
  const int terms = sums_count(op);
  const bool planes = layout == Layout::planes;
  const int64_t step = planes ? 1 : kMaxGroup;
  for (int term = 0; term < terms; ++term)
    for (int64_t c = 0; c < channels; ++c) {
      const double *at = accumulators + (planes ? (c * terms + term) * kPlaneTerm : term * kChannelTerm + c);
      const LaneSum sum = AddLanes<kPaired<T>>(at, at + kLanes * step, step);
      sums->hi[term * kMaxGroup + c] = sum.hi;
      sums->lo[term * kMaxGroup + c] = sum.lo;
    }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
