// The map over a block of channels_last: vectors run along the channels. Included once per SIMD
// target.
#if defined(BN2D_KERNELS_MAP_OF_CHANNELS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_MAP_OF_CHANNELS_INL_H
#undef BN2D_KERNELS_MAP_OF_CHANNELS_INL_H
#else
#define BN2D_KERNELS_MAP_OF_CHANNELS_INL_H
#endif

#include <algorithm>
#include <type_traits>

#include "kernels/elements.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/lines.inl.h"
#include "kernels/map_coefficients.inl.h"
#include "kernels/map_vectors.inl.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// Elements [i, stop) of kRows rows that are `step` elements apart, a vector at a time with its
// coefficients.
template <int kRows, class T, class Body, class C, class D>
HWY_INLINE int64_t MapColumns(D d, const Body &body, int64_t i, int64_t stop, int64_t row,
                              int64_t step, const C &c, bool streaming, int64_t prefetch) {
  constexpr int64_t kWidth = static_cast<int64_t>(MaxLanes(D()));
  for (int64_t line = i; i + kWidth <= stop; i += kWidth) {
    if (kWidth > 1 && prefetch != 0 && (kWidth >= kLineOf<T> || i == line)) {
      line += kLineOf<T>;
#pragma GCC unroll 2
      for (int64_t r = 0; r < kRows; ++r)
        for (int k = 0; k < Body::kReads; ++k)
          Prefetch(reinterpret_cast<const char *>(body.reads(k) + row + r * step + i) + prefetch);
    }
    const ColumnCoefficients<D, Body> column(d, body, c, i);
#pragma GCC unroll 2
    for (int64_t r = 0; r < kRows; ++r)
      MapVector<T>(d, body, row + r * step + i, column, streaming);
  }
  return i;
}

// Elements from row to row of what is written.
template <class Body>
HWY_INLINE int64_t StepOf(const MapJob &job) {
  return (Body::kAlwaysOut ? job.out : job.written()).position;
}
// Whether all tensors go on by as much.
inline bool HasSameSteps(const MapJob &job, int64_t step) {
  bool same = true;
  for (const auto tensor : MapJob::kTensors)
    same = same && ((job.*tensor).data == nullptr || (job.*tensor).position == step);
  return same;
}

// Rows in pairs, which share what is loaded of the coefficients: the loads of 4 or 6 of them take
// longer than those of the elements. Of the time row by row, from the caches:
//                            eval        training    backward
//   AVX2 (Zen 3)
//     (1,512,28,28)          0.6         0.8         0.8
//     (1,2048,7,7)           0.77        0.9         0.9
//   AVX-512 (Zen 4; of long rows the coefficients come from L2)
//     (1024,512,1,1)         0.69        0.82        0.9
//     (32,512,3,3)           0.66        0.93        1.0
//     channels_last, batch 1 0.87        0.94        0.96
// Eight rows would take 1.5 where they are 4 KiB apart, and so share a set of L1. (Pairs take 1.1
// in one such case: backward of (256,256,2,2) on two threads with AVX-512; 1.4 in slow minutes.)
// Not of doubles, which gain nothing. Backward of halves and through an activation would be 3 KB;
// so would halves with AVX-512, by their size with AVX2. A function of its own: inlined, it took
// registers from the loop over short rows, and eval of (1,128,28,28) took 1.2 times as long.
template <class T, class Body>
inline constexpr bool kMapsPairs =
    std::is_same_v<T, float>
        ? (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3) && Body::kCoefficients <= 6
        : HWY_TARGET == HWY_AVX2 && sizeof(T) < sizeof(float) && Body::kCoefficients == 4;
template <class T, class Body>
HWY_NOINLINE void MapPairsOfRows(const MapJob &job) {
  const ScalableTag<Arithmetic<T>> d;
  const RowCoefficients<Arithmetic<T>> c(job);
  const int64_t step = StepOf<Body>(job);
  for (int64_t n = 0; n < job.samples; ++n) {
    const Body body(job, 0, n, 0);
    int64_t p = 0;
    for (; p + 2 <= job.length; p += 2)
      MapColumns<2, T>(d, body, 0, job.channels, p * step, step, c, false, 0);
    if (p < job.length) MapColumns<1, T>(d, body, 0, job.channels, p * step, 0, c, false, 0);
  }
}

// Rows of 8 and 16 channels that follow one another: blocks (nChw8c, nChw16c). Their coefficients
// stay in registers. On a CPU without AVX-512 (Zen 3) eval of (8,256,14,14) in blocks of 8 takes
// 0.53 of the time, of (1,2048,7,7) 0.38, and where stores stream, of (32,256,28,28), 0.75.
template <class T>
inline constexpr int32_t kMostOfBlock = (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3) &&
                                                sizeof(T) == sizeof(float)
                                            ? 16
                                            : 0;
#if HWY_TARGET == HWY_AVX3
// The coefficients of a row of 16 channels, or those of a row of 8, twice.
template <class D, class Body>
struct RowsOfBlock {
  static constexpr bool kAnyOrder = false;
  Vec<D> value[Body::kCoefficients];

  using Column = ColumnCoefficients<Half<D>, Body>;
  HWY_INLINE RowsOfBlock(D d, const Column &first, const Column &second) {
#pragma GCC unroll 16
    for (int k = 0; k < Body::kCoefficients; ++k)
      value[k] = hn::Combine(d, second.value[k], first.value[k]);
  }
  HWY_INLINE Vec<D> get(D, int k, int64_t) const { return value[k]; }
};

// A vector is a row of 16 channels, or two rows of 8. Blocks of 8 may begin and end in the middle
// of a line: there a row is on its own.
template <class T, class Body>
HWY_NOINLINE void MapBlocks(const MapJob &job) {
  using D = ScalableTag<Arithmetic<T>>;
  const D d;
  const Half<D> half;
  constexpr int64_t kHalf = static_cast<int64_t>(MaxLanes(half));
  const RowCoefficients<Arithmetic<T>> c(job);
  const int64_t row = job.channels, end = job.length * row;
  MapJob bands = job;
  for (const auto tensor : MapJob::kTensors) (bands.*tensor).channel = (job.*tensor).band;
  for (int64_t n = 0; n < job.samples; ++n)
    for (int64_t band = 0; band < job.bands; ++band) {
      const Body body(bands, band, n, 0);
      const ColumnCoefficients<Half<D>, Body> first(half, body, c, band * row),
          second(half, body, c, (band + 1) * row - kHalf);
      const RowsOfBlock<D, Body> both(d, first, second);
      const int64_t before = BeforeLine(body.out ? body.out : body.out2),
                    begin = row == kHalf && before >= kHalf ? kHalf : 0,
                    stop = end - (end - begin) % kLineOf<T>;
      // First the half line at the start, then whole lines, then the half line at the end. One
      // loop, so that MapVector is inlined once.
#pragma GCC unroll 1
      for (const bool is_start : {true, false}) {
        if (!is_start) MapLines<T, true>(body, begin, stop, both, job.streaming, job.prefetch);
        if (is_start ? begin != 0 : stop != end)
          MapVector<T>(half, body, is_start ? 0 : stop, first, job.streaming);
      }
    }
}
template <class T, class Body>
HWY_INLINE void MapBlocksOfChannels(const MapJob &job) {
  MapBlocks<T, Body>(job);
}
#else
template <class T, class Body, int kVectors>
HWY_NOINLINE void MapBlocks(const MapJob &job) {
  const ScalableTag<Arithmetic<T>> d;
  constexpr int64_t kWidth = static_cast<int64_t>(MaxLanes(d)), kRow = kVectors * kWidth;
  const RowCoefficients<Arithmetic<T>> c(job);
  const int64_t end = job.length * kRow, lines = end / kLineOf<T> * kLineOf<T>;
  MapJob bands = job;
  for (const auto tensor : MapJob::kTensors) (bands.*tensor).channel = (job.*tensor).band;
  for (int64_t n = 0; n < job.samples; ++n)
    for (int64_t band = 0; band < job.bands; ++band) {
      const Body body(bands, band, n, 0);
      using Column = ColumnCoefficients<decltype(d), Body>;
      const Column first(d, body, c, band * kRow);
      if constexpr (kVectors == 1) {
        MapLines<T, true>(body, 0, lines, first, job.streaming, job.prefetch);
        // The next band may begin in the middle of this line.
        if (lines != end) MapVector<T>(d, body, lines, first, job.streaming);
      } else {
        static_assert(kRow == kLineOf<T>);
        const Column second(d, body, c, band * kRow + kWidth);
        if (!job.streaming && job.prefetch == 0) {
          for (int64_t i = 0; i < end; i += kRow) {
            MapVector<T>(d, body, i, first, false);
            MapVector<T>(d, body, i + kWidth, second, false);
          }
        } else {
          for (int64_t i = 0; i < end; i += kRow) {
            PrefetchAhead<true>(body, i, job.prefetch);
            MapVector<T>(d, body, i, first, job.streaming);
            MapVector<T>(d, body, i + kWidth, second, job.streaming);
          }
        }
      }
    }
}
template <class T, class Body>
HWY_INLINE void MapBlocksOfChannels(const MapJob &job) {
  constexpr int64_t kWidth = static_cast<int64_t>(MaxLanes(ScalableTag<Arithmetic<T>>()));
  if constexpr (kWidth < kMostOfBlock<T>)
    if (job.channels != kWidth) return MapBlocks<T, Body, 2>(job);
  MapBlocks<T, Body, 1>(job);
}
#endif

template <class T, class Body>
HWY_INLINE void MapOverChannels(const MapJob &job) {
  using A = Arithmetic<T>;
  const ScalableTag<A> d;
  const CappedTag<A, 1> one;
  const RowCoefficients<A> c(job);
  // Short rows share what is loaded of the coefficients: eval of (64,16,32,32) takes 0.6 of the
  // time with 8 rows instead of 2, (64,64,8,8) 0.85. Long ones would be two runs of memory at a
  // time instead of one, and where stores stream, a core keeps few lines open that it has written
  // in part. Rows that are a vector and a line each are one run, written line by line.
  constexpr int64_t kRowsAtOnce = 8, kShortRowBytes = 512;
  const bool streaming = kStreams && Body::kHot && job.streaming;
  const int64_t step = StepOf<Body>(job);
  const bool same_step = HasSameSteps(job, step);
  constexpr bool kMayShare = MaxLanes(d) > 1 && Body::kHot && kSpecialise;
  constexpr bool kVectorIsLine = static_cast<int64_t>(MaxLanes(d)) == kLineOf<T>;
  const bool is_short = step * static_cast<int64_t>(sizeof(T)) <= kShortRowBytes;
  if constexpr (kMapsPairs<T, Body>) {
    const bool is_whole = job.channels % static_cast<int64_t>(MaxLanes(d)) == 0;
    if (!is_short && is_whole && same_step && !streaming && job.prefetch == 0)
      return MapPairsOfRows<T, Body>(job);
  }
  if constexpr (kMostOfBlock<T> != 0 && Body::kHot) {
    const bool are_blocks = job.channels % kLanes == 0 && job.channels <= kMostOfBlock<T> &&
                            step == job.channels && same_step &&
                            (!streaming || has_whole_lines(job, sizeof(T)));
    if (job.bands > 1 || are_blocks) return MapBlocksOfChannels<T, Body>(job);
  }
  const bool may_share =
      kMayShare && same_step && is_short && (!streaming || (kVectorIsLine && step == kLineOf<T>));
  for (int64_t n = 0; n < job.samples; ++n) {
    const Body sample(job, 0, n, 0);
    const bool share =
        may_share && (!streaming || BeforeLine(sample.out ? sample.out : sample.out2) == 0);
    const int64_t at_once = share ? kRowsAtOnce : 1;
    const int64_t bytes_at_once =
        at_once * std::max(step, int64_t{1}) * static_cast<int64_t>(sizeof(T));
    const int64_t ahead = (job.prefetch + bytes_at_once - 1) / bytes_at_once * bytes_at_once;
    for (int64_t p = 0, rows; p < job.length; p += rows) {
      rows = job.length - p >= at_once ? at_once : 1;
      const Body body = same_step ? sample : Body(job, 0, n, p);
      const int64_t row = same_step ? p * step : 0;
      int64_t begin = 0, end;
      if (kMayShare && rows == kRowsAtOnce) {
        end = MapColumns<kRowsAtOnce, T>(d, body, 0, job.channels, row, step, c,
                                         kVectorIsLine && streaming, ahead);
      } else {
        if (streaming)
          begin = std::min(job.channels, BeforeLine((body.out ? body.out : body.out2) + row));
        // All bodies but forward have a loop that does not ask, for each store, whether it streams.
        // Those of many registers take up to a tenth longer where it asks; scale, of bfloat16 with
        // AVX2, 1.35 times as long.
        if (Body::kCoefficients > 4 && !streaming) {
          end = MapColumns<1, T>(d, body, begin, job.channels, row, 0, c, false, job.prefetch);
        } else {
          end = MapColumns<1, T>(d, body, begin, job.channels, row, 0, c, streaming, job.prefetch);
        }
      }
      for (int64_t r = 0; r < rows && (begin != 0 || end != job.channels); ++r)
        for (const bool is_head : {true, false})  // one loop, so that MapColumns is inlined once
          MapColumns<1, T>(one, body, is_head ? 0 : end, is_head ? begin : job.channels,
                           row + r * step, 0, c, false, 0);
    }
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
