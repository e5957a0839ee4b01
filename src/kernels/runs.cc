#include "kernels/runs.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace bn2d::kernels {
namespace {

const Strided &or_x(const Strided &given, const SumsJob &job) { return given.data ? given : job.x; }

// From one element to the next one along a stride.
Offsets offsets_of(const SumsJob &job, int64_t element_bytes, int64_t Strided::*stride) {
  return {job.x.*stride * element_bytes, or_x(job.g, job).*stride * element_bytes,
          or_x(job.side, job).*stride * element_bytes, or_x(job.v, job).*stride * element_bytes};
}

// a*i + b*j
Offsets combined(const Offsets &a, int64_t i, const Offsets &b, int64_t j) {
  return {a.x * i + b.x * j, a.g * i + b.g * j, a.side * i + b.side * j, a.v * i + b.v * j};
}

Offsets times(const Offsets &a, int64_t i) { return combined(a, i, a, 0); }

// Each offset is computed on its own: gcc 12 compiled the sums from row to row wrongly (v got what
// belongs to g).
void set_pattern(int64_t planes, int64_t rows, int64_t tail, const Offsets &plane,
                 const Offsets &row, Pattern *to) {
  Pattern &pattern = *to;
  constexpr uint16_t kAll = 0xFFFF;
  if (tail != 0) pattern.tail = tail;
  for (int64_t p = 0; p < planes; ++p) {
    for (int64_t r = 0; r < rows; ++r, ++pattern.rows) {
      pattern.present[pattern.rows] = kAll;
      pattern.offset[pattern.rows] = combined(plane, p, row, r);
    }
    if (tail == 0) continue;
    pattern.present[pattern.rows - 1] = static_cast<uint16_t>((1u << tail) - 1);
    pattern.ends |= 1u << (pattern.rows - 1);
  }
}

const char *bytes_of(const Strided &stream) { return static_cast<const char *>(stream.data); }

}  // namespace

Runs::Runs(const SumsJob &job, int64_t bytes, bool needs_whole)
    : start{bytes_of(job.x), bytes_of(or_x(job.g, job)), bytes_of(or_x(job.side, job)),
            bytes_of(or_x(job.v, job))} {
  const int64_t rows = (job.length + kRowElements - 1) / kRowElements,
                tail = job.length % kRowElements;
  if (rows == 0) return;
  const Offsets channel = offsets_of(job, bytes, &Strided::channel),
                sample = offsets_of(job, bytes, &Strided::sample),
                position = offsets_of(job, bytes, &Strided::position),
                row = times(position, kRowElements);
  const int64_t planes = planes_of_run(job.length);
  turns = (job.samples + planes - 1) / planes;
  run_bytes = kRunElements * bytes;
  runs_of_turn = job.length / kRunElements + (job.length % kRunElements != 0 ? 1 : 0);
  next_band = offsets_of(job, bytes, &Strided::band);
  if (job.fetches) {
    fetches_turn = rows < kRowsOfRun && planes <= 4;
    turns_ahead = kRunsAhead / runs_of_turn;
    runs_ahead = kRunsAhead % runs_of_turn;
    if (turns_ahead == 0) runs_nearer = kRunsAhead - kBytesAhead / run_bytes;
    // Ahead knows where the next channel begins, and not the one after it. Of one sample it would
    // fetch memory beyond the next channel: training of (32,256,28,28) in 32 groups takes 0.92 to
    // 0.96 of the time.
    if (turns_ahead >= turns) {
      turns_ahead = turns;
      runs_ahead = 0;
    }
    const Offsets to_first = times(channel, 1 - job.channels);
    to_next_band = combined(to_first, 1, next_band, 1);
    to_next_block = combined(combined(to_first, 1, next_band, 1 - job.bands), 1,
                             combined(sample, job.next_samples, position, job.next_positions), 1);
  }
  next_channel = channel;
  next_sample = sample;
  next_turn = times(sample, planes);
  next_run = times(position, kRunElements);
  next_lane = position;
  second_half = times(position, kLanes);
  if (rows >= kRowsOfRun) {
    whole_runs = job.length / kRunElements;
    if (needs_whole) set_pattern(1, kRowsOfRun, 0, sample, row, &pattern_of_whole);
    set_pattern(1, rows - whole_runs * kRowsOfRun, tail, sample, row, &last_rest_);
    if (turns > 1) rest_ = last_rest_;
  } else {
    if (turns > 1) set_pattern(planes, rows, tail, sample, row, &rest_);
    set_pattern(job.samples - (turns - 1) * planes, rows, tail, sample, row, &last_rest_);
  }
}

void Ahead::start(const Planes &planes, int64_t channel, const Cursor &start) {
  const Runs &runs = planes.runs;
  turn_ = planes.begin + runs.turns_ahead;
  end_ = planes.end;
  const bool is_last_of_band = channel + 1 == planes.end_channel,
             is_last_band = planes.end_channel == planes.job.channels * planes.job.bands;
  after_ = start.plus(!is_last_of_band ? runs.next_channel
                      : is_last_band   ? runs.to_next_block
                                       : runs.to_next_band);
  then_ = turn_ < end_ ? start.plus(times(runs.next_turn, runs.turns_ahead))
                       : after_.plus(times(runs.next_turn, turn_ - end_));
}

void sum_over_planes(const SumsJob &job, int64_t element_bytes, void (*add)(const Planes &planes)) {
  const Runs runs(job, element_bytes, false);
  if (runs.turns == 0) return;
  // Small planes that follow one another: all channels of a few samples, then of the next ones. The
  // hardware follows that many runs of memory. Sample after sample of one channel would jump, often
  // by a power of two, so that few sets of the caches hold all (64 channels of 4x4: three times as
  // long). Of few channels more samples at a time (one channel of 7x7: training 0.85 of the time).
  //
  // Two turns share what is loaded of a channel (training of (512,64,7,7): one takes 1.2 times as
  // long). But not of two tensors, which are twice as many runs: backward of (32,2048,7,7) takes
  // 0.85 of the time with one turn, of (4096,64,3,3) 0.77. Nor where more samples than L1 has ways
  // are a multiple of 4 KiB apart: training of (128,1024,3,3) takes 0.74.
  constexpr int64_t kFewChannels = 32, kWays = 8, kSetStride = 4096;
  const bool in_order =
      job.length * element_bytes <= kSmallPlaneBytes && job.x.channel == job.length;
  const bool share_set =
      2 * planes_of_run(job.length) > kWays && job.x.sample * element_bytes % kSetStride == 0;
  const int64_t turns = job.g.data != nullptr || share_set ? 1 : 2;
  const int64_t at_once =
      in_order ? turns * std::max(kFewChannels / job.channels, int64_t{1}) : runs.turns;
  Cursor of_band = runs.start;
  for (int64_t band = 0; band < job.bands; ++band, of_band = of_band.plus(runs.next_band)) {
    Cursor of_turns = of_band;
    for (int64_t begin = 0; begin < runs.turns; begin += at_once) {
      add({job, runs, begin, std::min(begin + at_once, runs.turns), job.first && begin == 0,
           of_turns, band * job.channels, (band + 1) * job.channels});
      of_turns = of_turns.plus(times(runs.next_turn, at_once));
    }
  }
}

namespace {

// Sums runs whose vectors run along channels, part by part.
class RunAdder {
 public:
  // lanes: 8, or 1 where each column is a channel of its own. next: from a run to the one that
  // follows.
  RunAdder(const SumsJob &job, const Runs &runs, const Offsets &next, In in, int lanes, float *kept,
           void (*add_run)(const PartsOfRun &run))
      : runs_(runs),
        next_run_(next),
        in_(in),
        all_lanes_(lanes),
        elements_of_part_(elements_of_part(job.g.data == nullptr)),
        add_(add_run),
        run_{job, runs.next_lane, kept} {
    run_.lanes_at_once = lanes;
    while (run_.lanes_at_once > 1 && kKeptChannels / run_.lanes_at_once < job.channels)
      run_.lanes_at_once /= 2;
    run_.kept_channels = kKeptChannels / run_.lanes_at_once;
  }

  // From now on runs are of the band whose first channel is `first`. `from` of a run is where
  // channel 0 of the job would be if all channels were spaced as in this band.
  void start_band(int64_t first) { first_ = first; }

  // is_last: of the band. Nothing is fetched then: what is behind the last band may be nobody's
  // memory, and looking for that takes long. (The next band is not fetched either. Planes of whole
  // runs have no such run: their last one fetches on.)
  void add(const Cursor &from, const Pattern &pattern, bool is_last = false) {
    run_.fetches = run_.job.fetches && !is_last;
    if (&pattern != pattern_) set_pattern(pattern);
    const int64_t channels = run_.job.channels, at_once = run_.kept_channels;
    for (int64_t c = 0; c < channels; c += at_once) {
      run_.channel = first_ + c;
      run_.channels = std::min(at_once, channels - c);
      run_.from = from;
      for (run_.lane = 0; run_.lane < existing_lanes_; run_.lane += run_.lanes_at_once) {
        run_.end_lane = std::min(run_.lane + run_.lanes_at_once, existing_lanes_);
        if (run_.fetches) set_later();
        add_(run_);
        run_.from = run_.from.plus(times(runs_.next_lane, run_.lanes_at_once));
      }
    }
  }

 private:
  // The pattern is mostly that of the run before.
  void set_pattern(const Pattern &pattern) {
    pattern_ = &pattern;
    std::fill(std::begin(run_.parts), std::end(run_.parts), Part());
    std::fill(std::begin(run_.elements), std::end(run_.elements), Element());
    run_.count = in_ == In::runs ? set_halves(pattern) : set_elements(pattern);
    existing_lanes_ = 0;
    for (const Element &element : run_.elements)
      existing_lanes_ = std::max(existing_lanes_, std::min(element.lanes, all_lanes_));
  }
  Element *elements_of(int part) { return run_.elements + part * elements_of_part_; }

  // An element of half a row. False: the pattern does not have it.
  bool set(Element *element, const Pattern &pattern, int row, int half) const {
    const int64_t length = pattern.ends >> row & 1u ? pattern.tail : kRowElements;
    if (length <= half * kLanes) return false;
    element->lanes = static_cast<int>(std::min<int64_t>(length - half * kLanes, kLanes));
    element->offset = combined(pattern.offset[row], 1, runs_.second_half, half);
    return true;
  }

  // Floats: some rows of one half, then of the other. How many parts there are.
  int set_halves(const Pattern &pattern) {
    int parts = 0;
    bool is_kept[2] = {};
    for (int row = 0; row < pattern.rows; row += elements_of_part_)
      for (int half = 0; half < 2; ++half) {
        bool exists = false;
        for (int k = 0; k < elements_of_part_ && row + k < pattern.rows; ++k)
          exists |= set(&elements_of(parts)[k], pattern, row + k, half);
        if (!exists) continue;
        Part &part = run_.parts[parts++];
        part.half = half;
        part.adds_own = is_kept[half];
        is_kept[half] = true;
      }
    Part &last = run_.parts[parts - 1];
    last.is_last = true;
    last.adds_other = is_kept[1 - last.half];
    return parts;
  }

  // Doubles: in the order of memory.
  int set_elements(const Pattern &pattern) {
    int count = 0;
    for (int i = 0; i < 2 * pattern.rows; ++i)
      if (set(&run_.elements[count], pattern, i / 2, i % 2)) ++count;
    return (count + elements_of_part_ - 1) / elements_of_part_;
  }

  // What is fetched while a part of floats is read: the same part of the next lanes or channels,
  // or, after the last ones, of the next run. In forward, whose parts are the halves, the first
  // half fetches the second one, and that the first half of what is next.
  void set_later() {
    const Offsets next = to_next_lanes();
    constexpr int64_t kFarEnough = 1024;  // bytes; what is nearer comes too late
    const bool fetches_halves =
        run_.job.g.data == nullptr && run_.count == 2 && runs_.second_half.x >= kFarEnough;
    for (int i = 0; i < run_.count; ++i)
      run_.parts[i].later = !fetches_halves ? next
                            : i == 0        ? runs_.second_half
                                            : combined(next, 1, runs_.second_half, -1);
  }
  Offsets to_next_lanes() const {
    if (run_.end_lane < existing_lanes_) return times(runs_.next_lane, run_.lanes_at_once);
    const Offsets to_first_lane = times(runs_.next_lane, -run_.lane);
    const int64_t channel = run_.channel - first_;
    if (channel + run_.channels < run_.job.channels)
      return combined(to_first_lane, 1, runs_.next_channel, run_.channels);
    return combined(combined(next_run_, 1, to_first_lane, 1), 1, runs_.next_channel, -channel);
  }

  const Runs &runs_;
  const Offsets next_run_;
  const In in_;
  const int all_lanes_;
  const int elements_of_part_;  // of a part
  void (*const add_)(const PartsOfRun &run);
  const Pattern *pattern_ = nullptr;
  int existing_lanes_ = 0;
  int64_t first_ = 0;  // channel of the job with which the band begins
  PartsOfRun run_;
};

constexpr int64_t kColumns = 128;

// What belongs to the channels of a job, for each column. Memory for accumulators of 5 sums.
struct ColumnArrays {
  double pivot[kColumns], center_lo[kColumns];
  double sign[kColumns], threshold[kColumns], bound[kColumns];
  double accumulators[kMaxSums * accumulators_of(true) / kLanes * kColumns];
};
// What is in the buffer of a job.
struct Buffer {
  ColumnArrays columns;
  float kept[2 * 2 * kKeptChannels];
};
static_assert(sizeof(Buffer) <= kSumsBufferBytes);

// Which channel a column belongs to. A table, because dividing for each number took 0.16 of the
// time of sums of (256,256,2,2).
struct ChannelsOfColumns {
  static_assert(kColumns <= 256);
  uint8_t channel[kColumns];
  int64_t count = 0;
  void add(int64_t of_channel) { channel[count++] = static_cast<uint8_t>(of_channel); }
};

// The arrays of a job for `count` columns. first: the channel that the table calls 0.
template <class A>
void spread(const void *array, int64_t first, const ChannelsOfColumns &table, int64_t count,
            void *to) {
  for (int64_t i = 0; array != nullptr && i < count; ++i)
    static_cast<A *>(to)[i] = static_cast<const A *>(array)[first + table.channel[i]];
}
SumsJob job_of_columns(const SumsJob &job, bool wide, int64_t first, const ChannelsOfColumns &table,
                       int64_t count) {
  ColumnArrays &arrays = *static_cast<ColumnArrays *>(job.buffer);
  SumsJob columns = job;
  columns.channels = count;
  for (const auto &[from, to] : {std::pair{&SumsJob::pivot, arrays.pivot},
                                 {&SumsJob::side_sign, arrays.sign},
                                 {&SumsJob::side_threshold, arrays.threshold},
                                 {&SumsJob::side_bound, arrays.bound}}) {
    if (wide) {
      spread<double>(job.*from, first, table, count, to);
    } else {
      spread<float>(job.*from, first, table, count, to);
    }
    columns.*from = job.*from != nullptr ? to : nullptr;
  }
  spread<double>(job.center_lo, first, table, count, arrays.center_lo);
  columns.center_lo = arrays.center_lo;
  return columns;
}

// Rows of few channels that follow one another: the lanes of a row are one long row, in which each
// lane of each channel is a column. Its accumulators follow one another, too.
bool lanes_are_one_row(const SumsJob &job) {
  constexpr int64_t kMostChannels = kRowElements - 1;  // more fill vectors by themselves
  bool are_one_row = job.buffer != nullptr && job.channels <= kMostChannels &&
                     job.accumulator_stride == job.channels;
  for (const auto tensor : SumsJob::kTensors)
    are_one_row =
        are_one_row && ((job.*tensor).data == nullptr || (job.*tensor).position == job.channels);
  return are_one_row;
}

}  // namespace

void sum_over_channels(const SumsJob &job, int64_t element_bytes, In in, int terms,
                       void (*add)(const PartsOfRun &run)) {
  const bool wide = in == In::pairs;
  if (job.first)
    for (int k = 0; k < terms * accumulators_of(wide); ++k)
      std::fill_n(job.accumulators + k * job.accumulator_stride, job.bands * job.channels, 0.0);
  const Runs runs(job, element_bytes, true);
  const bool are_one_row = runs.whole_runs != 0 && job.bands == 1 && lanes_are_one_row(job);
  SumsJob columns = job;
  if (are_one_row) {
    ChannelsOfColumns table;
    for (int lane = 0; lane < kLanes; ++lane)
      for (int64_t c = 0; c < job.channels; ++c) table.add(c);
    columns = job_of_columns(job, wide, 0, table, table.count);
  }
  float *const kept = static_cast<Buffer *>(job.buffer)->kept;
  const Offsets to_next_turn = combined(runs.next_turn, 1, runs.next_run, -runs.whole_runs);
  RunAdder whole(columns, runs, runs.next_run, in, are_one_row ? 1 : kLanes, kept, add),
      rest(job, runs, to_next_turn, in, kLanes, kept, add);
  // Less the channels of a band, because kernels count channels from the first one of the job.
  const Offsets step = combined(runs.next_band, 1, runs.next_channel, -job.channels);
  Cursor of_band = runs.start;
  for (int64_t band = 0; band < job.bands; ++band, of_band = of_band.plus(step)) {
    whole.start_band(band * job.channels);
    rest.start_band(band * job.channels);
    Cursor of_turn = of_band;
    for (int64_t turn = 0; turn < runs.turns; ++turn, of_turn = of_turn.plus(runs.next_turn)) {
      Cursor from = of_turn;
      for (int64_t run = 0; run < runs.whole_runs; ++run, from = from.plus(runs.next_run))
        whole.add(from, runs.pattern_of_whole);
      if (runs.rest(turn).rows != 0) rest.add(from, runs.rest(turn), turn + 1 == runs.turns);
    }
  }
}

bool sum_over_columns(const SumsJob &job, int64_t element_bytes, In in, int terms,
                      void (*add)(const PartsOfRun &run)) {
  // Not first: a later piece of a packed block, which adds to what is there.
  if (job.buffer == nullptr || !job.first || job.bands != 1) return false;
  if (job.length > kLanes || job.channels < 2 || job.samples < kRowsOfRun) return false;
  for (const auto tensor : SumsJob::kTensors)
    if ((job.*tensor).data != nullptr && (job.*tensor).channel != job.length) return false;
  const bool wide = in == In::pairs;
  const Runs runs(job, element_bytes, false);
  Buffer &buffer = *static_cast<Buffer *>(job.buffer);
  ColumnArrays &arrays = buffer.columns;
  const int64_t at_once = kColumns / job.length, step = accumulators_of(wide) / kLanes * kColumns;
  ChannelsOfColumns table;
  for (int64_t c = 0; c < std::min(at_once, job.channels); ++c)
    for (int64_t i = 0; i < job.length; ++i) table.add(c);
  Cursor start = runs.start;
  for (int64_t c = 0; c < job.channels;
       c += at_once, start = start.plus(times(runs.next_channel, at_once))) {
    const int64_t channels = std::min(at_once, job.channels - c);
    SumsJob columns = job_of_columns(job, wide, c, table, channels * job.length);
    columns.accumulators = arrays.accumulators;
    // The low parts of pairs come after all columns.
    columns.accumulator_stride = kColumns / kLanes;
    std::fill_n(arrays.accumulators, terms * step, 0.0);
    RunAdder rest(columns, runs, runs.next_turn, in, 1, buffer.kept, add);
    Cursor of_turn = start;
    for (int64_t turn = 0; turn < runs.turns; ++turn, of_turn = of_turn.plus(runs.next_turn))
      rest.add(of_turn, runs.rest(turn), turn + 1 == runs.turns);
    double *to = job.accumulators + c * terms * accumulators_of(wide);
    for (int64_t i = 0; i < channels; ++i)
      for (int term = 0; term < terms; ++term)
        for (int64_t half = 0; half < accumulators_of(wide); half += kLanes, to += kLanes) {
          const double *const from =
              arrays.accumulators + term * step + half / kLanes * kColumns + i * job.length;
          for (int64_t k = 0; k < kLanes; ++k) to[k] = k < job.length ? from[k] : 0.0;
        }
  }
  return true;
}

}  // namespace bn2d::kernels
