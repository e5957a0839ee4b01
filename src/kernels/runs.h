// Where the rows and runs of a block are in memory (kernels.h says what they are), for the sums of
// any element type. Offsets are in bytes.
#pragma once
#include <cstdint>

#include "kernels/kernels.h"

namespace bn2d::kernels {

// Bytes between two places, in each tensor.
struct Offsets {
  int64_t x = 0, g = 0, side = 0, v = 0;
};

// A place in each tensor. What takes no part is not read, but its pointer moves along: that of x,
// because NULL must not move.
struct Cursor {
  const char *x, *g, *side, *v;
  Cursor plus(const Offsets &o) const { return {x + o.x, g + o.g, side + o.side, v + o.v}; }
};

// The rows of a run.
struct Pattern {
  int rows = 0;
  uint16_t present[kRowsOfRun] = {};  // bit i: position i of the row is there
  unsigned ends = 0;                  // bit k: row k ends with its plane, after `tail` positions
  int64_t tail = kRowElements;
  Offsets offset[kRowsOfRun];
};

// The runs of a block. Each turn takes some planes: first `whole` runs of whole rows, then a run of
// what is left. Examples, of 10 samples:
//   plane 7x7    4 rows, the last one of 1 position; a turn takes 2 planes: 8 rows, no whole run
//   plane 14x14  13 rows; a turn takes 1 plane: a whole run, and 5 rows, the last one of 4
//                positions
struct Runs {
  // needs_whole: whether pattern_of_whole is used.
  Runs(const SumsJob &job, int64_t element_bytes, bool needs_whole);

  int64_t turns = 0, whole = 0;
  int64_t run_bytes = 0;
  int64_t of_turn = 0;               // runs
  int64_t skipped = 0, further = 0;  // what is fetched ahead: so many turns and runs later
  Cursor start;
  Offsets next_channel, next_turn, next_run;
  Offsets next_block;  // from the last channel of this block to the first one of the next
  Offsets next_lane;   // channels: from position to position
  Offsets second;      // channels: from the first to the second element of a lane in a row
  Pattern pattern_of_whole;
  const Pattern &rest(int64_t turn) const { return turn + 1 == turns ? last_rest_ : rest_; }

 private:
  Pattern rest_, last_rest_;  // the last turn may find fewer planes
};

// Some planes of each channel: the turns from `begin` to `end`.
struct Planes {
  const SumsJob &job;
  const Runs &runs;
  int64_t begin, end;
  bool first;    // accumulators start at 0
  Cursor start;  // of the first of these turns, of the first channel
};

inline constexpr int64_t kRunsAhead = 16;

// Where to fetch from while a run is read: the run that is read kRunsAhead runs later. Planes may
// be far from each other, so it is counted in runs. An example with planes of 2 runs and 5 runs
// ahead: run 0 of a plane fetches run 1 of the plane after the next one, and run 1 fetches run 0 of
// the third one after it.
//
// A core alone keeps too few lines on their way while it computes, and the hardware does not see
// where a plane that is read continues. Within a large plane it does, and half the distance is
// better there. Measured with float planes of 112x112 from memory, ns for 16 elements: half the
// distance 2.7, all of it 3.4. A jump to another plane at half the distance costs 200 ns.
class Ahead {
 public:
  // start: where the planes of the channel begin.
  void start(const Planes &planes, int64_t channel, const Cursor &start);
  // Called when a turn begins.
  void next_turn(const Runs &runs) {
    now_ = then_;
    then_ = ++turn_ == end_ ? after_ : then_.plus(runs.next_turn);
    run_ = runs.further;
  }
  // The places from which to fetch while the next run is read.
  Cursor next_run(const Runs &runs) {
    const int64_t run = run_++;
    const bool is_now = run < runs.of_turn;
    // Half as far in the same plane.
    const int64_t bytes =
        (is_now ? run - (runs.skipped == 0 ? kRunsAhead / 2 : 0) : run - runs.of_turn) *
        runs.run_bytes;
    return (is_now ? now_ : then_).plus({bytes, bytes, bytes, bytes});
  }

 private:
  Cursor now_ = {}, then_ = {}, after_ = {};  // after: where the next channel or block begins
  int64_t turn_ = 0, end_ = 0, run_ = 0;
};

// Calls add for the planes of a block whose vectors run along positions.
void sum_over_planes(const SumsJob &job, int64_t element_bytes, bool needs_whole,
                     void (*add)(const Planes &planes));

// One lane of a run, for all channels.
struct LaneOfRun {
  const SumsJob &job;
  Cursor first, second;  // of each row
  const Pattern &pattern;
  unsigned rows_of_first, rows_of_second;  // bit k: row k has that element
  double *accumulators;                    // of the lane, of the first channel
  Offsets later;                           // to what is fetched meanwhile
};

// Calls add_lane for the lanes of the runs of a block whose vectors run along channels.
void sum_over_channels(const SumsJob &job, int64_t element_bytes, bool wide, int terms,
                       void (*add_lane)(const LaneOfRun &lane));

// The same for tiny planes that follow one another: planes of 8 elements at most, where a vector of
// one plane would be mostly empty. Vectors run along the elements of several channels, each of
// which is a lane of its own. False: the tensors are not like that, or the samples too few.
bool sum_over_columns(const SumsJob &job, int64_t element_bytes, bool wide, int terms,
                      void (*add_lane)(const LaneOfRun &lane));

}  // namespace bn2d::kernels
