// Where the rows and runs of a block are in memory (kernels.h says what they are), for the sums of any
// element type. Offsets are in bytes.
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
  unsigned tails = 0;  // bit k: row k ends with its plane, after `tail` positions
  int64_t tail = kRowElements;
  Offsets offset[kRowsOfRun];
};

// The runs of a block. Each turn takes some planes: first `whole` runs of whole rows, then a run of
// what is left. Examples, of 10 samples:
//   plane 7x7    4 rows, the last one of 1 position; a turn takes 2 planes: 8 rows, no whole run
//   plane 14x14  13 rows; a turn takes 1 plane: a whole run, and 5 rows, the last one of 4 positions
struct Runs {
  Runs(const SumsJob &job, int64_t element_bytes);

  int64_t turns = 0, whole = 0;
  Cursor start;
  Offsets next_channel, next_turn, next_run;
  Offsets next_lane;  // channels: from position to position
  Offsets second;     // channels: from the first to the second element of a lane in a row
  Pattern pattern_of_whole;
  const Pattern &rest(int64_t turn) const { return turn + 1 == turns ? last_rest_ : rest_; }

 private:
  Pattern rest_, last_rest_;  // the last turn may find fewer planes
};

// One lane of a run, for all channels.
struct LaneOfRun {
  const SumsJob &job;
  Cursor first, second;  // of each row
  const Pattern &pattern;
  unsigned rows_of_first, rows_of_second;  // bit k: row k has that element
  double *accumulators;                    // of the lane, of the first channel
  bool is_whole() const { return (rows_of_first & rows_of_second) == (1u << kRowsOfRun) - 1; }
};

// Calls add_lane for the lanes of the runs of a block whose vectors run along channels.
void sum_over_channels(const SumsJob &job, int64_t element_bytes, bool wide, int terms,
                       void (*add_lane)(const LaneOfRun &lane));

}  // namespace bn2d::kernels
