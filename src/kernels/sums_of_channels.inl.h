// The sums of a block of channels_last: vectors run along channels of one lane. Included once per
// SIMD target.
#if defined(BN2D_KERNELS_SUMS_OF_CHANNELS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_SUMS_OF_CHANNELS_INL_H
#undef BN2D_KERNELS_SUMS_OF_CHANNELS_INL_H
#else
#define BN2D_KERNELS_SUMS_OF_CHANNELS_INL_H
#endif

#include <algorithm>
#include <type_traits>

#include "kernels/float_tree.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/lanes.inl.h"
#include "kernels/reader.inl.h"
#include "kernels/running_sum.inl.h"
#include "kernels/runs.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// Vectors of channels that are summed together. Of doubles two: with AVX-512 a line of floats (with
// AVX2 half of one), which is then read once: rows that are a power of two apart push one another
// out of L1 before its second half is asked for. Backward of (1,256,14,14) takes 0.7 of the time
// that it takes with one (AVX2: 0.6).
template <SumsOf kOf, In kIn>
inline constexpr int kTogether = kSpecialise && (kIn == In::doubles) &&
                                         (kOf != SumsOf::double_backward)
                                     ? 2
                                     : 1;

// A part of one lane: where it is, and where its sums go. Channel 0 is that of the job.
template <SumsOf kOf, In kIn>
struct LaneOfPart {
  HWY_INLINE LaneOfPart(const PartsOfRun &run, int number, const Cursor &start, int its_lane)
      : job(run.job),
        part(run.parts[number]),
        elements(run.elements + number * kElements),
        from(start),
        lane(its_lane),
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
        const auto lanes = some.doubles(j);
        lanes.store(Add(lanes.load(at), doubles), at);
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

// Short rows of floats that follow one another, of 8 and 16 channels (nChw8c, nChw16c), have code
// of their own: what is known of a vector of channels stays in registers, from lane to lane. A run
// of them is at most 8 KB, so L1 holds it while its parts are read, or its lanes as a whole. On a
// CPU without AVX-512 (Zen 3) sums of backward of (8,256,14,14) in blocks of 8 take 0.6 of the
// time, of (32,512,7,7) 0.56; in double, of (8,128,7,7), 0.55. Not of double backward, which is
// seldom run.
template <SumsOf kOf, class T, Act kAct, In kIn>
inline constexpr bool kHasShortRows = (kIn != In::pairs) && (kOf != SumsOf::double_backward) &&
                                      (kAct != Act::sloped) && std::is_same_v<T, float>;

// All parts of the vector of channels that begins with channel c.
template <SumsOf kOf, class T, Act kAct, class D>
HWY_INLINE void AddVector(D d, const PartsOfRun &run, int64_t c) {
  constexpr int kTerms = sums_count(kOf), kElements = elements_of_part(kOf == SumsOf::forward);
  constexpr int kSize = MaxLanes(D()), kHalf = kLanes * kTerms * kSize;
  const SumsJob &job = run.job;
  const int64_t bytes = c * static_cast<int64_t>(sizeof(T)), stride = job.accumulator_stride;
  const WholeVector<D> whole;
  const auto reader = ReaderOfChannels<kOf, T, kAct>(d, job, c, whole);
  const Cursor start = run.from.plus({bytes, bytes, bytes, bytes});
  const Element *elements = run.elements;
  for (int part = 0; part < run.count; ++part, elements += kElements) {
    const Part of = run.parts[part];
    Cursor from = start, ahead = start.plus(of.later);
    float *own = run.kept + of.half * kHalf;
    const int64_t to_other = (1 - 2 * of.half) * kHalf;
    double *sums = job.accumulators + run.lane * stride + c;
    for (int lane = run.lane; lane < run.end_lane; ++lane) {
      const auto element = [&](int k) BN2D_INLINED {
        return HWY_LIKELY(lane < elements[k].lanes)
                   ? reader.read(from, elements[k].offset, 0, whole)
                   : Elements<Vec<D>>(Zero(d));
      };
      const auto two = [&](int k)
                           BN2D_INLINED { return TermsOfTwo<kOf>(d, element(k), element(k + 1)); };
      const auto add_kept = [&](Terms<kOf, D> &sum, const float *kept) BN2D_INLINED {
        Repeat<kTerms, true>([&](int k) BN2D_INLINED {
          sum.term[k] = Add(sum.term[k], LoadU(d, kept + k * kSize));
        });
      };
      if (run.fetches)
        Repeat<kElements, true>(
            [&](int k) BN2D_INLINED { FetchElement<kOf, kAct>(ahead, elements[k].offset); });
      Terms<kOf, D> sum = AddTerms(two(0), two(2));
      if constexpr (kElements == 8) sum = AddTerms(sum, AddTerms(two(4), two(6)));
      if (of.adds_own) add_kept(sum, own);
      if (of.adds_other) add_kept(sum, own + to_other);
      Repeat<kTerms, true>([&](int k) BN2D_INLINED {
        if (!of.is_last) return StoreU(sum.term[k], d, own + k * kSize);
        ForEachOfDoubles(d, sum.term[k], [&](int j, auto doubles) BN2D_INLINED {
          double *const at = sums + k * kLanes * stride + j * kDoubles;
          const auto lanes = whole.doubles(j);
          lanes.store(Add(lanes.load(at), doubles), at);
        });
      });
      from = from.plus(run.next_lane);
      ahead = ahead.plus(run.next_lane);
      own += kTerms * kSize;
      sums += stride;
    }
  }
}

// The same in double, of kVectors vectors: all elements of a lane, then those of the next one.
template <SumsOf kOf, class T, Act kAct, int kVectors, class D>
HWY_INLINE void AddVectorsInDouble(D d, const PartsOfRun &run, int64_t c) {
  constexpr int kTerms = sums_count(kOf), kSize = MaxLanes(D());
  const SumsJob &job = run.job;
  const int count = run.count * elements_of_part(kOf == SumsOf::forward);
  const int64_t bytes = c * static_cast<int64_t>(sizeof(T)), stride = job.accumulator_stride;
  const WholeVector<D> whole;
  const auto first = ReaderOfChannels<kOf, T, kAct>(d, job, c, whole),
             last = ReaderOfChannels<kOf, T, kAct>(d, job, c + (kVectors - 1) * kSize, whole);
  Cursor from = run.from.plus({bytes, bytes, bytes, bytes});
  double *memory = job.accumulators + run.lane * stride + c;
  for (int lane = run.lane; lane < run.end_lane; ++lane) {
    PlainSum<D> sums[kVectors][kTerms];
    const auto for_each_sum = [&](const auto &f) BN2D_INLINED {
      Repeat<kVectors * kTerms, true>([&](int i) BN2D_INLINED {
        const int j = i / kTerms, k = i % kTerms;
        f(memory + k * kLanes * stride + j * kSize, &sums[j][k]);
      });
    };
    for_each_sum([&](const double *at, auto *sum) BN2D_INLINED { LoadSum(whole, at, 0, sum); });
    for (int k = 0; k < count; ++k) {
      if (lane >= run.elements[k].lanes) continue;
      const Offsets &offset = run.elements[k].offset;
      AddElements<kOf, In::doubles>(d, first.read(from, offset, 0, whole), first.pivot(), Zero(d),
                                    sums[0]);
      if constexpr (kVectors == 2)
        AddElements<kOf, In::doubles>(d, last.read(from, offset, kSize, whole), last.pivot(),
                                      Zero(d), sums[1]);
    }
    for_each_sum([&](double *at, auto *sum) BN2D_INLINED { StoreSum(whole, *sum, at, 0); });
    from = from.plus(run.next_lane);
    memory += stride;
  }
}

// False: rows are not short.
template <SumsOf kOf, class T, Act kAct, In kIn>
HWY_INLINE bool AddShortRows(const PartsOfRun &run) {
  const ElementTag<kIn> d;
  constexpr int64_t kSize = static_cast<int64_t>(MaxLanes(d));
  const int64_t channels = run.job.channels, end = run.channel + channels;
  const bool follow = run.next_lane.x == channels * static_cast<int64_t>(sizeof(T));
  if (!follow || (channels != 8 && channels != 16)) return false;
  if constexpr (kIn == In::doubles) {
    if constexpr (kSize == 8)
      if (channels == 8) {
        AddVectorsInDouble<kOf, T, kAct, 1>(d, run, run.channel);
        return true;
      }
    for (int64_t c = run.channel; c < end; c += 2 * kSize)
      AddVectorsInDouble<kOf, T, kAct, 2>(d, run, c);
  } else if (kSize == 16 && channels == 8) {
    AddVector<kOf, T, kAct>(CappedTag<float, 8>(), run, run.channel);
  } else {
    for (int64_t c = run.channel; c < end; c += kSize) AddVector<kOf, T, kAct>(d, run, c);
  }
  return true;
}

// Whether eight channels that are left have code of their own, without masks: 24 channels, and
// blocks of 8 through slopes. Backward of (8,64,28,28) took 0.65 of the time.
template <class T, In kIn>
inline constexpr bool kHasCodeForEight = (kIn == In::runs) && std::is_same_v<T, float>;

// All parts, for all channels, the last ones of which may be too few for whole vectors.
template <SumsOf kOf, class T, Act kAct, In kIn>
HWY_INLINE void AddParts(const PartsOfRun &run) {
  const ElementTag<kIn> d;
  constexpr int64_t kSize = static_cast<int64_t>(MaxLanes(d));
  constexpr int kCount = kTogether<kOf, kIn>;
  if constexpr (kHasShortRows<kOf, T, kAct, kIn>)
    if (AddShortRows<kOf, T, kAct, kIn>(run)) return;
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

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
