// How the work of one call is cut: pure functions of shape, element size and number of threads.
//
// The words for "some elements", here and everywhere:
//
//   tensor (N, C, H, W)                  channels ->
//   +--------+--------+--------+
//   |        |        |        |  group  some channels, all their elements
//   | group  | group  | group  |  block  a part of a group: whole planes, or a part of one plane
//   |--------|        |        |  unit   what a thread takes to sum: a group, or a few blocks
//   | block  |        |        |  tile   what a thread takes to map alone, long stretches of memory
//   |--------|        |        |  piece  a packed copy of some planes (ops/blockwise.h)
//   | block  |        |        |  run    up to 128 elements of a channel (kernels/kernels.h), in
//   +--------+--------+--------+         rows of 16, of which each of 8 lanes has two
//
// A series is some blocks of one channel that kernels sum in one call (Blocks::Series), a band some
// channels of a call (kernels::SumsJob, MapJob), a turn the planes that such a call sums before its
// next step along the samples (kernels::Runs). A channel block is another thing than a block: the
// 16 channels of nChw16c that lie side by side in memory.
//
// Blocks follow from the shape alone, so that the result does not depend on threads. Units are
// groups as a whole where that balances: a channel is then summed and normalised while it is in
// cache. Else they are bundles of blocks, mostly of one. So they are, too, where the channels are
// what is contiguous, or where the caches hold the whole tensor and threads had better share out
// its samples.
#pragma once
#include <algorithm>
#include <cstdint>

#include "base/int128.h"
#include "tensor/view.h"

namespace bn2d {

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The blocks of a channel: either several whole planes, or a part of one plane.
struct Blocks {
  int64_t samples = 0, plane = 0;  // the channel
  int64_t parts_per_plane = 1;     // 1: blocks are whole planes
  // Elements of a part, a multiple of kBlockAlignment unless it is the whole plane.
  int64_t part = 0;
  int64_t count = 0;

  struct Block {
    int64_t first_sample, samples, position, length;
    int64_t elements() const { return samples * length; }
  };
  Block at(int64_t index) const;

  // Blocks of the same positions, of samples one after another.
  struct Bundle {
    int64_t first, step, count;
    int64_t block(int64_t i) const { return first + i * step; }
  };
  // The bundles of up to `at_once` blocks that all blocks make.
  int64_t bundles(int64_t at_once) const {
    return divide_up(count / parts_per_plane, at_once) * parts_per_plane;
  }
  Bundle bundle(int64_t index, int64_t at_once) const;

  // Blocks of one channel, one after another, that are summed as if each were a channel, in one
  // call of the kernels. What begins and ends with each call costs about 100 ns in the caches, and
  // 200 more from memory, where nothing is on its way meanwhile: a sixth of the time of a block of
  // 6272 elements. All blocks are of one size. Bands are those of SumsJob. Examples:
  //   8 samples of 56x56, blocks of 2 samples      4 blocks, one band
  //   3 samples of 112x112, blocks of half a plane 3 bands of 2 blocks
  //   a plane of 320x320, whose last part is less  16 blocks, then one
  struct Series {
    int64_t in_band = 1, bands = 1;
    int64_t count() const { return in_band * bands; }
  };
  // Whether any series has more than one block.
  bool has_series() const {
    if (parts_per_plane > 1) return equal_parts() > 1;
    return count > 1 && samples % count == 0;
  }
  int64_t equal_parts() const { return parts_per_plane - (plane % part == 0 ? 0 : 1); }
  Series series(int64_t first) const;
};
// Each of so many bears 20 ns at most of what a call costs. Their accumulators take 2 KiB of L1.
inline constexpr int64_t kMaxSeries = 16;

// A group of channels [channel, channel + channels).
struct Group {
  int64_t channel, channels;
};

inline constexpr int64_t kBlockElements = 6144;  // large enough to make the cost of a merge small
// Channels of more elements than this, in several samples, have at least two blocks. With
// channels_last, two threads then sum half of the samples each, as most hosts deal them out, and
// find in their own caches what they have just written. Forward of (32,512,7,7) after a convolution
// of PyTorch takes 0.7 of the time that it took with half of the channels each. Contiguous small
// planes pay 1 to 4 % for it.
inline constexpr int64_t kOneBlockElements = 1024;
inline constexpr int64_t kBlockAlignment = 128;        // a run of the sums (kernels/kernels.h)
inline constexpr int64_t kMaxBlocksPerChannel = 4096;  // bounds the memory for partial sums

Blocks make_blocks(const Extents &size);

// The effort (bytes gone through in cache, see Work) that keeps a thread busy for as long as it
// takes to wake up one more. Inside a step of PyTorch, whose OpenMP threads spin for a while after
// each region, two threads are faster than one from twice this on.
inline constexpr int64_t kEffortWorthAThread = 192 * 1024;
// Of a call that wakes up threads of oneTBB, or of a pool of the host, which sleep sooner: a first
// one costs more than the next ones. (Where calls follow one another closely, they are awake:
// ops/settings.cc.) Measured on 2 CPUs with one and two threads, calls one after another:
// (8,64,8,8) backward, 590 KB, takes 12 us and 20; (32,64,8,8) training, 1.1 MB, 27 and 27;
// (64,64,8,8), 2.1 MB, 54 and 42.
inline constexpr int64_t kEffortWorthWaking = 1 << 20;

// Tensors of more bytes are not in the caches, for what is fetched and copied. (What streams asks
// Machine::cached_bytes().)
inline constexpr int64_t kHeldBytes = 8 << 20;

struct Machine {
  int threads = 1;
  int64_t l2_bytes = 1 << 20;                 // of one core
  int64_t least_effort = kEffortWorthWaking;  // of more than one thread

  // What the caches hold: the tensors of a call that together are smaller stay there for whoever
  // reads the output. The size of L3 is not to be trusted (a virtual machine reports one that it
  // shares with strangers), so it is taken as 16 times the L2 of the threads at work, and not
  // more than 8 MiB each: where L2 is large, L3 has less for each core. Measured with a reader:
  // bench rows "consumer".
  int64_t cached_bytes() const { return threads * std::min(16 * l2_bytes, int64_t{8} << 20); }
  // The same of a call that goes through its tensors once. A few threads have more of an L3 for
  // themselves: eval of (16,64,56,56), 25 MB, on two threads takes 0.78 of the time with ordinary
  // stores, 0.54 with a reader. Training of it takes 1.27 and 0.93.
  int64_t cached_bytes_of_one_pass() const {
    return std::max(cached_bytes(), std::min(2 * cached_bytes(), int64_t{32} << 20));
  }
};

// Where a split plan sums rows of channels (channels_last), groups may have so many times the
// channels of others: long stretches of memory matter more there than accumulators that stay in L1
// (measured: up to 25 % of the time).
inline constexpr int64_t kWideGroup = 8;

struct Plan {
  int workers = 1;     // tasks that share the units
  bool split = false;  // units are (group, bundle of blocks), in three phases; else groups, in one
  int64_t group = 1;   // channels per group (the last one of a row may have fewer)
  int64_t groups = 0;
  int64_t blocks = 0;
  int64_t at_once = 1;  // blocks of a bundle
  int64_t bundles = 0;  // of the blocks of a group
  int64_t units() const { return split ? groups * bundles : groups; }
};

enum class MemoryOrder {
  planes,    // W fastest, then H, then C: NCHW
  channels,  // C fastest: NHWC
  mixed,     // C fastest in some tensors, W in others
  samples,   // N fastest: what is summed is packed first, some samples together
  other,
};

// Planes of fewer elements are mapped as rows of planes of several samples (ops/long_rows.h), and
// so are those that a map would take one by one.
inline constexpr int64_t kSmallPlane = 16;

struct Work {
  Extents size;
  int64_t element_bytes = 4;
  // Tensors that are read: x, or x and dy. A residual and the y that tells the side of an
  // activation do not count.
  int reads = 1;
  int passes = 1;  // 2: by the sums and by the map
  MemoryOrder order = MemoryOrder::planes;
  // Channels that are one after another in memory, a constant stride apart. No group reaches from
  // one such row into the next. 0: all channels are one row.
  int64_t channel_row = 0;
  int64_t together = 1;          // channels of a set (tensor/sets.h)
  int64_t channel_block = 1;     // where channels come in blocks: nChw16c has 16
  bool maps_blocks = false;      // in the order of memory (Blockwise::map_bands)
  int64_t merged = 1;            // channels that are seen as one here (of_larger_planes)
  int64_t activation_bytes = 0;  // what the activation adds to the effort, for each element
  int64_t at_once = 1;    // blocks that are summed one after another, as they share lines of memory
  int64_t map_step = 16;  // elements of a plane that a map takes at a time
  bool has_small_planes() const { return size.plane() < std::max(map_step, kSmallPlane); }

  int64_t row_channels() const { return channel_row == 0 ? size.c : channel_row; }
  int64_t rows() const { return channel_row == 0 ? 1 : size.c / channel_row; }
  int64_t output_bytes() const { return size.numel() * element_bytes; }
  int64_t bytes() const { return (reads + 1) * output_bytes(); }

  // What the call costs a thread that has everything in cache, in bytes: each element, with those
  // that it is computed in, once for each tensor read and each pass. A channel costs as much as 64
  // elements (measured with planes of 49 and 196). What is transposed costs up to three times
  // as much: eval of (1,256,14,14) from planes to rows of channels 11 us, to planes 3.7.
  int64_t effort() const {
    constexpr int64_t kElementsOfChannel = 64, kComputedBytes = 4, kTransposed = 3;
    const bool as_it_is = order == MemoryOrder::planes || order == MemoryOrder::channels;
    return (size.numel() + kElementsOfChannel * size.c * merged) *
               std::max(element_bytes, kComputedBytes) * reads * passes *
               (as_it_is ? 1 : kTransposed) +
           size.numel() * activation_bytes;
  }
};

// Units for an operation with sums, of groups of at most `max_group` channels, or kWideGroup times
// as many where a split plan sums rows of channels. Where units are whole groups, these have whole
// sets.
Plan make_plan(const Work &work, const Machine &machine, int64_t max_group);

// The effort from which on the work is worth more than one thread. Half as much where one L2 does
// not hold the tensors, for two threads have two: eval of (1,64,56,56), 1.6 MB, takes 0.57 of the
// time that it takes one thread.
inline int64_t least_effort(const Work &work, const Machine &machine) {
  return work.bytes() > machine.l2_bytes ? machine.least_effort / 2 : machine.least_effort;
}

// How many threads are worth waking up for the work.
int useful_workers(const Work &work, const Machine &machine);

// Boxes of samples, channels and positions that tile a tensor in the order of its memory.
struct Tiles {
  Extents size;                                      // of one row of channels
  bool channels_first = true;                        // channels change slower than positions
  int64_t samples = 1, channels = 1, positions = 1;  // of a tile; at the ends there may be fewer
  int64_t count_of_row = 0, count = 0;

  struct Tile {
    Group group;
    Blocks::Block block;
  };
  Tile at(int64_t index) const;
};

Tiles make_tiles(const Work &work, int workers);

// The share of worker `w` when `units` are dealt to `workers` in contiguous ranges.
inline int64_t share_begin(int64_t units, int workers, int64_t w) {
  return static_cast<int64_t>(static_cast<Int128>(units) * w / workers);
}

}  // namespace bn2d
