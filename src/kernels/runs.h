// Where the rows and runs of a block are in memory (kernels.h says what they are), for the sums of
// any element type. Offsets are in bytes.
#pragma once
#include <cstdint>

#include "kernels/kernels.h"

namespace bn2d::kernels {

// How elements are summed:
//  - runs: floats and halves in float within a run, then in double;
//  - doubles: floats and halves in double, one by one. For channels of few elements, where the
//    roundings of float do not average out, and where float has too few digits or too little range;
//  - pairs: doubles, one by one, in pairs (hi, lo).
enum class In { runs, doubles, pairs };

// Bytes between two places, in each tensor.
struct Offsets {
  int64_t x = 0, g = 0, side = 0, v = 0;
};

// A place in each tensor. A tensor that takes no part is not read; its pointer is that of x,
// because NULL must not be moved.
struct Cursor {
  const char *x, *g, *side, *v;
  Cursor plus(const Offsets &o) const { return {x + o.x, g + o.g, side + o.side, v + o.v}; }
};

// The rows of a run.
struct Pattern {
  int rows = 0;
  uint16_t present[kRowsOfRun] = {};  // bit i: position i of the row is there
  unsigned ends = 0;  // bit k: row k is the last one of its plane, and has only `tail` positions
  int64_t tail = kRowElements;
  Offsets offset[kRowsOfRun];
};

// The runs of a block. A *turn* is what is summed before the next step along the samples, some
// planes: first runs of 8 whole rows, then a run of what is left. Examples, of 10 samples:
//   plane 7x7    4 rows, the last one of 1 position; a turn takes 2 planes: 8 rows, no whole run;
//                5 turns
//   plane 14x14  13 rows; a turn takes 1 plane: a whole run, and 5 rows, the last one of 4
//                positions; 10 turns
struct Runs {
  // needs_whole: whether pattern_of_whole is used: by rows of channels.
  Runs(const SumsJob &job, int64_t element_bytes, bool needs_whole);

  int64_t turns = 0;
  int64_t whole_runs = 0;    // of a turn
  int64_t runs_of_turn = 0;  // with the one of what is left
  int64_t run_bytes = 0;
  // What is fetched while a run is read (Ahead): so many turns and runs later, and so many runs
  // less within a large plane.
  int64_t turns_ahead = 0, runs_ahead = 0, runs_nearer = 0;
  // The next turn of small planes is fetched ahead. They are short pieces of memory, far from those
  // of the next samples. Without, training of (1024,256,6,6) takes 1.2 of the time, backward of
  // bfloat16 (1024,256,7,7) 1.45. (Floats of 4 rows, as 7x7, need no fetches:
  // AddPlanesOfKnownRows.) Of planes of 16 elements and less it would cost more than it gains.
  bool fetches_turn = false;
  Cursor start;
  Offsets next_channel, next_sample, next_turn, next_run;
  Offsets next_band;
  // Only where something is fetched ahead: from the last channel of a band to the first one of the
  // next band, and of the block that is summed next.
  Offsets to_next_band, to_next_block;
  Offsets next_lane;    // channels: from position to position
  Offsets second_half;  // channels: from the first to the second element of a lane in a row
  Pattern pattern_of_whole;
  // Of the run that is not whole. No rows: there is none.
  const Pattern &rest(int64_t turn) const { return turn + 1 == turns ? last_rest_ : rest_; }

 private:
  Pattern rest_, last_rest_;  // the last turn may find fewer planes
};

// Some planes of each channel: the turns from `begin` to `end`.
struct Planes {
  const SumsJob &job;
  const Runs &runs;
  int64_t begin, end;
  bool first;                    // accumulators start at 0
  Cursor start;                  // of the first of these turns, of the first channel
  int64_t channel, end_channel;  // a band
};

inline constexpr int64_t kRunsAhead = 16, kBytesAhead = 4096;

// Where to fetch from while a run is read: the run that is read kRunsAhead runs later, within a
// large plane kBytesAhead later. (kHardwareFollows tells for which kernels no run is.) Planes may
// be far from each other, so it is counted in runs. An example with planes of 2 runs and 5 runs
// ahead: run 0 of a plane fetches run 1 of the plane after the next one, and run 1 fetches run 0 of
// the third one after it.
//
// A core alone keeps too few lines on their way while it computes, and the hardware does not see
// where a plane that is read continues. Within a large plane it does, and 4 KiB are far enough
// there: 8 runs of floats, 16 of halves. Measured with float planes of 112x112 from memory, ns for
// 16 elements: 8 runs 2.7, 16 runs 3.4; sums of bfloat16 of (32,64,56,56) take 0.83 of the time
// with 16. A jump to another plane at half the distance costs 200 ns.
class Ahead {
 public:
  // start: where the planes of the channel begin.
  void start(const Planes &planes, int64_t channel, const Cursor &start);
  // Called when a turn begins.
  void next_turn(const Runs &runs) {
    now_ = then_;
    then_ = ++turn_ == end_ ? after_ : then_.plus(runs.next_turn);
    run_ = runs.runs_ahead;
  }
  // The places from which to fetch while the next run is read.
  Cursor next_run(const Runs &runs) {
    const int64_t run = run_++;
    const bool is_now = run < runs.runs_of_turn;
    const int64_t bytes =
        (is_now ? run - runs.runs_nearer : run - runs.runs_of_turn) * runs.run_bytes;
    return (is_now ? now_ : then_).plus({bytes, bytes, bytes, bytes});
  }

 private:
  Cursor now_ = {}, then_ = {}, after_ = {};  // after: where the next channel or block begins
  int64_t turn_ = 0, end_ = 0, run_ = 0;
};

// Planes of so many bytes or less, one after another in memory, are summed in its order: all
// channels of a few samples, then of the next ones.
inline constexpr int64_t kSmallPlaneBytes = 512;

// Calls add for the planes of a block whose vectors run along positions.
void sum_over_planes(const SumsJob &job, int64_t element_bytes, void (*add)(const Planes &planes));

// A run whose vectors run along channels is summed in parts, each of a few elements of every lane.
// Positions are mostly a power of two of bytes apart there, so that few sets of L1 hold all of a
// channel. A part reads at most 8 lines of x and dy, and L1 has 8 ways or more. So the lines beside
// them, which the hardware fetches, are still there when they are asked for: sums of all 16
// elements of a lane at once took 1.4 times as long in backward of (1,512,14,14). The positions of
// a run, and their parts in backward, which reads two tensors:
//
//              floats: 4 rows, one half at a time    doubles: in the order of memory
//   row 0      0 0 0 0 0 0 0 0 1 1 1 1 1 1 1 1       0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
//   row 1      0 0 0 0 0 0 0 0 1 1 1 1 1 1 1 1       0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
//   row 2      0 0 0 0 0 0 0 0 1 1 1 1 1 1 1 1       1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1
//   ...
//   row 7      2 2 2 2 2 2 2 2 3 3 3 3 3 3 3 3       3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3
//
// Short rows that follow one another are summed lane by lane in double, all elements of one first.
// Forward reads one tensor, so a part has all rows of a half, or 4 rows of doubles.
constexpr int elements_of_part(bool has_one_tensor) { return has_one_tensor ? 8 : 4; }
struct Element {
  int lanes = 0;  // lanes 0 to lanes - 1 have it
  Offsets offset;
};
struct Part {
  // Floats: the sums of parts are kept by half, until the last part adds them all up.
  int half = 0;
  // What an earlier part of this half has left; and, for the last part, the other half.
  bool adds_own = false, adds_other = false;
  bool is_last = false;
  Offsets later;  // from an element to what is fetched meanwhile; only for floats
};

// What is kept at once, so that it stays in L1: the sums of 8 lanes of up to 128 channels, of 4
// lanes of 256, 2 of 512, 1 of 1024. So a long row of memory is read as a whole, or 1024 channels
// at a time.
inline constexpr int64_t kKeptChannels = 1024;

// The parts of some lanes of a run, for some channels.
struct PartsOfRun {
  const SumsJob &job;
  Offsets next_lane;
  float *kept;                            // [half][lane][sum][channel]
  int lanes_at_once = 1;                  // whose sums are kept
  int64_t kept_channels = kKeptChannels;  // of each of these lanes
  int64_t channel = 0, channels = 0;
  int lane = 0, end_lane = 0;
  Cursor from = {};      // of the first of these lanes, where channel 0 would be (RunAdder)
  int count = 0;         // of the parts
  bool fetches = false;  // what is `later`
  Part parts[4] = {};
  Element elements[2 * kRowsOfRun] = {};  // of one part after another
};

// Calls add for the parts of the runs of a block whose vectors run along channels.
void sum_over_channels(const SumsJob &job, int64_t element_bytes, In in, int terms,
                       void (*add)(const PartsOfRun &run));

// The same for tiny planes that follow one another: planes of 8 elements at most, where a vector of
// one plane would be mostly empty. Vectors run along the elements of several channels, each of
// which is a lane of its own. False, and nothing is done: planes do not follow one another, samples
// or channels are too few, or there is no buffer.
bool sum_over_columns(const SumsJob &job, int64_t element_bytes, In in, int terms,
                      void (*add)(const PartsOfRun &run));

}  // namespace bn2d::kernels
