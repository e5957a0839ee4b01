// The sums of a block of planes: vectors run along the positions of one channel. Included once per
// SIMD target.
#if defined(BN2D_KERNELS_SUMS_OF_PLANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_SUMS_OF_PLANES_INL_H
#undef BN2D_KERNELS_SUMS_OF_PLANES_INL_H
#else
#define BN2D_KERNELS_SUMS_OF_PLANES_INL_H
#endif

#include <algorithm>
#include <type_traits>

#include "kernels/elements.inl.h"
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

// Whether loops over the vectors of the 8 lanes are unrolled (kUnroll, lanes.inl.h). Not in double
// backward, which runs seldom and is kept small.
template <SumsOf kOf>
inline constexpr bool kUnrollLanes = kUnroll && (kOf != SumsOf::double_backward);

// Fetches the line that begins with row k of a run, if one does: two rows of halves are one line.
template <SumsOf kOf, class T, Act kAct>
HWY_INLINE void FetchRow(const Cursor &ahead, int k) {
  const int64_t bytes = k * kRowElements * static_cast<int64_t>(sizeof(T));
  if (bytes % kLineBytes == 0) FetchElement<kOf, kAct>(ahead, {bytes, bytes, bytes, bytes});
}

// Whether planes that are summed one by one are fetched ahead: those of doubles, whose sums wait
// for one another so long that a core sees few lines ahead (AddPlanesOneByOne has the numbers).
template <SumsOf kOf, In kIn>
inline constexpr bool kFetchesPlanes = (kIn == In::pairs) && kUnrollLanes<kOf>;

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
inline constexpr bool kHardwareFollows = (HWY_TARGET == HWY_AVX3) && std::is_same_v<T, float> &&
                                         (kOf == SumsOf::backward);

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
  constexpr int64_t kSmall = 4096, kAhead = 2048;
  const int64_t bytes = job.length * static_cast<int64_t>(sizeof(T));
  const bool fetches = job.fetches && bytes > kSmallPlaneBytes;
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
  const bool fetches = !kHardwareFollows<kOf, T> && planes.job.fetches && runs.whole_runs != 0;
  ForEachChannel<kOf, T, kAct, In::runs>(
      planes, [&](auto *lanes, int64_t channel, Cursor of_turn) BN2D_INLINED {
        Ahead ahead;
        if (fetches) ahead.start(planes, channel, of_turn);
        for (int64_t turn = planes.begin; turn < planes.end;
             ++turn, of_turn = of_turn.plus(runs.next_turn)) {
          Cursor from = of_turn;
          const Pattern &rest = runs.rest(turn);
          if (fetches) ahead.next_turn(runs);
          for (int64_t run = 0; run < runs.whole_runs; ++run, from = from.plus(runs.next_run))
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

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
