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

// (The sums of offsets from row to row were compiled wrongly by gcc 12: v got what belongs to g.)
Pattern pattern_of(int64_t planes, int64_t rows, int64_t tail, const Offsets &plane, const Offsets &row) {
  Pattern pattern;
  pattern.tail = tail == 0 ? int64_t{kRowElements} : tail;
  for (int64_t p = 0; p < planes; ++p) {
    for (int64_t r = 0; r < rows; ++r) pattern.offset[pattern.rows++] = combined(plane, p, row, r);
    if (tail != 0) pattern.tails |= 1u << (pattern.rows - 1);
  }
  return pattern;
}

const char *bytes_of(const Stream &stream) { return static_cast<const char *>(stream.data); }

}  // namespace

Runs::Runs(const SumsJob &job, int64_t element_bytes)
    : start{bytes_of(job.x), bytes_of(or_x(job.g, job)), bytes_of(or_x(job.side, job)), bytes_of(or_x(job.v, job))} {
  const int64_t rows = (job.length + kRowElements - 1) / kRowElements, tail = job.length % kRowElements;
  if (rows == 0) return;
  const auto of = [&](int64_t Stream::*stride, int64_t count) { return offsets_of(job, element_bytes, stride, count); };
  const Offsets sample = of(&Stream::sample, 1), row = of(&Stream::position, kRowElements);
  const int64_t planes = planes_of_run(job.length);
  turns = (job.samples + planes - 1) / planes;
  next_channel = of(&Stream::channel, 1);
  next_turn = of(&Stream::sample, planes);
  next_run = of(&Stream::position, kRunElements);
  next_lane = of(&Stream::position, 1);
  second = of(&Stream::position, kLanes);
  if (rows >= kRowsOfRun) {
    whole = job.length / kRunElements;
    pattern_of_whole = pattern_of(1, kRowsOfRun, 0, sample, row);
    last_rest_ = pattern_of(1, rows - whole * kRowsOfRun, tail, sample, row);
    if (turns > 1) rest_ = last_rest_;
  } else {
    if (turns > 1) rest_ = pattern_of(planes, rows, tail, sample, row);
    last_rest_ = pattern_of(job.samples - (turns - 1) * planes, rows, tail, sample, row);
  }
}

namespace {

void add_run(const SumsJob &job, const Runs &runs, const Cursor &from, const Pattern &pattern,
             void (*add_lane)(const LaneOfRun &lane)) {
  const unsigned rows = (1u << pattern.rows) - 1;
  const int64_t lanes = pattern.tails == rows ? std::min<int64_t>(pattern.tail, kLanes) : kLanes;
  Cursor of_lane = from;
  for (int64_t lane = 0; lane < lanes; ++lane, of_lane = of_lane.plus(runs.next_lane)) {
    const auto present = [&](int64_t position) { return rows & ~(position < pattern.tail ? 0 : pattern.tails); };
    add_lane({job, of_lane, of_lane.plus(runs.second), pattern, present(lane), present(lane + kLanes),
              job.accumulators + lane * job.accumulator_stride});
  }
}

}  // namespace

void sum_over_channels(const SumsJob &job, int64_t element_bytes, bool wide, int terms,
                       void (*add_lane)(const LaneOfRun &lane)) {
  if (job.first)
    for (int k = 0; k < terms * accumulators_of(wide); ++k)
      std::fill_n(job.accumulators + k * job.accumulator_stride, job.channels, 0.0);
  const Runs runs(job, element_bytes);
  Cursor of_turn = runs.start;
  for (int64_t turn = 0; turn < runs.turns; ++turn, of_turn = of_turn.plus(runs.next_turn)) {
    Cursor from = of_turn;
    for (int64_t run = 0; run < runs.whole; ++run, from = from.plus(runs.next_run))
      add_run(job, runs, from, runs.pattern_of_whole, add_lane);
    if (runs.rest(turn).rows != 0) add_run(job, runs, from, runs.rest(turn), add_lane);
  }
}

}  // namespace bn2d::kernels
