#include "kernels/runs.h"

#include <algorithm>

namespace bn2d::kernels {
namespace {

const Stream &or_x(const Stream &given, const SumsJob &job) { return given.data ? given : job.x; }

Offsets offsets_of(const SumsJob &job, int64_t element_bytes, int64_t Stream::*stride, int64_t count) {
  const int64_t bytes = count * element_bytes;
  return {job.x.*stride * bytes, or_x(job.g, job).*stride * bytes, or_x(job.side, job).*stride * bytes,
          or_x(job.v, job).*stride * bytes};
}

// a*i + b*j
Offsets combined(const Offsets &a, int64_t i, const Offsets &b, int64_t j) {
  return {a.x * i + b.x * j, a.g * i + b.g * j, a.side * i + b.side * j, a.v * i + b.v * j};
}

Offsets times(const Offsets &a, int64_t i) { return combined(a, i, a, 0); }

// (The sums of offsets from row to row were compiled wrongly by gcc 12: v got what belongs to g.)
void set_pattern(int64_t planes, int64_t rows, int64_t tail, const Offsets &plane, const Offsets &row, Pattern *to) {
  Pattern &pattern = *to;
  constexpr unsigned kAll = (1u << kRowElements) - 1;
  for (int64_t p = 0; p < planes; ++p)
    for (int64_t r = 0; r < rows; ++r, ++pattern.rows) {
      pattern.present[pattern.rows] = static_cast<uint16_t>(r + 1 == rows && tail != 0 ? (1u << tail) - 1 : kAll);
      pattern.offset[pattern.rows] = combined(plane, p, row, r);
    }
}

const char *bytes_of(const Stream &stream) { return static_cast<const char *>(stream.data); }

}  // namespace

Runs::Runs(const SumsJob &job, int64_t element_bytes, bool needs_whole)
    : start{bytes_of(job.x), bytes_of(or_x(job.g, job)), bytes_of(or_x(job.side, job)), bytes_of(or_x(job.v, job))} {
  const int64_t rows = (job.length + kRowElements - 1) / kRowElements, tail = job.length % kRowElements;
  if (rows == 0) return;
  const auto of = [&](int64_t Stream::*stride, int64_t count) { return offsets_of(job, element_bytes, stride, count); };
  const Offsets sample = of(&Stream::sample, 1), row = of(&Stream::position, kRowElements);
  const int64_t planes = planes_of_run(job.length);
  turns = (job.samples + planes - 1) / planes;
  run_bytes = kRunElements * element_bytes;
  of_turn = job.length / kRunElements + (job.length % kRunElements != 0 ? 1 : 0);
  skipped = kRunsAhead / of_turn;
  further = kRunsAhead % of_turn;
  next_channel = of(&Stream::channel, 1);
  next_turn = of(&Stream::sample, planes);
  next_run = of(&Stream::position, kRunElements);
  next_lane = of(&Stream::position, 1);
  next_block =
      combined(combined(of(&Stream::sample, job.next_samples), 1, of(&Stream::position, job.next_positions), 1), 1,
               next_channel, 1 - job.channels);
  second = of(&Stream::position, kLanes);
  if (rows >= kRowsOfRun) {
    whole = job.length / kRunElements;
    if (needs_whole) set_pattern(1, kRowsOfRun, 0, sample, row, &pattern_of_whole);
    set_pattern(1, rows - whole * kRowsOfRun, tail, sample, row, &last_rest_);
    if (turns > 1) rest_ = last_rest_;
  } else {
    if (turns > 1) set_pattern(planes, rows, tail, sample, row, &rest_);
    set_pattern(job.samples - (turns - 1) * planes, rows, tail, sample, row, &last_rest_);
  }
}

void Ahead::start(const PlanesOfChannel &planes) {
  const Runs &runs = planes.runs;
  turn_ = planes.begin + runs.skipped;
  end_ = planes.end;
  const bool is_last = planes.channel + 1 == planes.job.channels;
  after_ = planes.start.plus(is_last ? runs.next_block : runs.next_channel);
  then_ = turn_ < end_ ? planes.start.plus(times(runs.next_turn, runs.skipped))
                       : after_.plus(times(runs.next_turn, std::min(turn_ - end_, runs.turns - 1)));
}

void sum_over_planes(const SumsJob &job, int64_t element_bytes, bool needs_whole,
                     void (*add)(const PlanesOfChannel &planes)) {
  const Runs runs(job, element_bytes, needs_whole);
  if (runs.turns == 0) return;
  // Small planes that follow one another: all channels of a few samples, then of the next ones. The
  // hardware follows that many runs of memory. Sample after sample of one channel would jump, often by
  // a power of two, so that few sets of the caches hold all (64 channels of 4x4: three times as long).
  constexpr int64_t kSmallPlaneBytes = 512, kTurns = 2;
  const bool in_order = job.length * element_bytes <= kSmallPlaneBytes && job.x.channel == job.length;
  const int64_t at_once = in_order ? kTurns : runs.turns;
  Cursor of_turns = runs.start;
  for (int64_t begin = 0; begin < runs.turns; begin += at_once) {
    Cursor start = of_turns;
    for (int64_t c = 0; c < job.channels; ++c, start = start.plus(runs.next_channel))
      add({job, runs, c, begin, std::min(begin + at_once, runs.turns), job.first && begin == 0, start});
    of_turns = of_turns.plus(times(runs.next_turn, at_once));
  }
}

namespace {

void add_run(const SumsJob &job, const Runs &runs, const Cursor &from, const Pattern &pattern,
             void (*add_lane)(const LaneOfRun &lane)) {
  unsigned positions = 0;  // that any row has
  for (const unsigned present : pattern.present) positions |= present;
  Cursor of_lane = from;
  for (int64_t lane = 0; lane < kLanes && (positions >> lane & 1u) != 0;
       ++lane, of_lane = of_lane.plus(runs.next_lane)) {
    const auto rows_with = [&](int64_t position) {
      unsigned rows = 0;
      for (int k = 0; k < pattern.rows; ++k) rows |= (pattern.present[k] >> position & 1u) << k;
      return rows;
    };
    add_lane({job, of_lane, of_lane.plus(runs.second), pattern, rows_with(lane), rows_with(lane + kLanes),
              job.accumulators + lane * job.accumulator_stride});
  }
}

}  // namespace

void sum_over_channels(const SumsJob &job, int64_t element_bytes, bool wide, int terms,
                       void (*add_lane)(const LaneOfRun &lane)) {
  if (job.first)
    for (int k = 0; k < terms * accumulators_of(wide); ++k)
      std::fill_n(job.accumulators + k * job.accumulator_stride, job.channels, 0.0);
  const Runs runs(job, element_bytes, true);
  Cursor of_turn = runs.start;
  for (int64_t turn = 0; turn < runs.turns; ++turn, of_turn = of_turn.plus(runs.next_turn)) {
    Cursor from = of_turn;
    for (int64_t run = 0; run < runs.whole; ++run, from = from.plus(runs.next_run))
      add_run(job, runs, from, runs.pattern_of_whole, add_lane);
    if (runs.rest(turn).rows != 0) add_run(job, runs, from, runs.rest(turn), add_lane);
  }
}

}  // namespace bn2d::kernels
