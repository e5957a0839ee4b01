#include "parallel/plan.h"

#include <algorithm>
#include <numeric>

#include "base/cache_line.h"

namespace bn2d {
namespace {

// Busiest share over mean share at worst, of `units` units with at most `unit` of `total` elements
// each.
double imbalance(int64_t units, int workers, int64_t unit, int64_t total) {
  return static_cast<double>(divide_up(units, workers)) * static_cast<double>(unit) * workers /
         static_cast<double>(total);
}

constexpr double kWorstImbalance = 1.1;

// Of a channel of a sample.
int64_t plane_bytes(const Work &work) {
  return std::max(work.size.plane() * work.element_bytes, int64_t{1});
}

// A group of planes that ends in the middle of a cache line makes two groups write that line in
// parts. So groups are multiples of the channels that fill whole lines, where they are large
// enough.
int64_t whole_lines(const Work &work, int64_t channels, int64_t at_most) {
  const int64_t step = kLineBytes / std::gcd(kLineBytes, plane_bytes(work));
  const int64_t rounded = std::max(channels / step, int64_t{1}) * step;
  return rounded <= at_most ? rounded : channels;
}

}  // namespace

Blocks make_blocks(const Extents &size) {
  Blocks blocks;
  blocks.samples = size.n;
  blocks.plane = size.plane();
  const int64_t elements = size.per_channel();
  if (elements == 0) return blocks;
  const bool is_small = elements <= kBlockElements;
  if (is_small && (elements <= kOneBlockElements || size.n == 1)) {  // a small call divides nothing
    blocks.part = blocks.plane;
    blocks.count = 1;
    return blocks;
  }
  const int64_t target = is_small
                             ? divide_up(elements, 2)
                             : std::max(kBlockElements, divide_up(elements, kMaxBlocksPerChannel));
  if (blocks.plane >= target) {
    blocks.parts_per_plane = (blocks.plane + target / 2) / target;
    blocks.part = divide_up(divide_up(blocks.plane, blocks.parts_per_plane), kBlockAlignment) *
                  kBlockAlignment;
    blocks.parts_per_plane = divide_up(blocks.plane, blocks.part);
    blocks.count = blocks.samples * blocks.parts_per_plane;
  } else {
    blocks.part = blocks.plane;
    const int64_t fewest = divide_up(blocks.samples, (target + blocks.plane / 2) / blocks.plane);
    // As many samples in each block, where a few more blocks allow it. Among many blocks one sample
    // more or less does not matter.
    constexpr int64_t kMany = 64;
    blocks.count = fewest;
    for (int64_t count = fewest; fewest < kMany && count < 2 * fewest; ++count) {
      if (blocks.samples % count != 0) continue;
      blocks.count = count;
      break;
    }
  }
  return blocks;
}

// Of blocks of whole planes up to kMaxSeries. Of equal parts of planes as many whole planes as fit,
// each of them a band. Else equal parts of one plane; a last part that is smaller is alone.
Blocks::Series Blocks::series(int64_t first) const {
  if (parts_per_plane == 1) return {std::min(kMaxSeries, count - first), 1};
  const int64_t equal = equal_parts(), planes = kMaxSeries / parts_per_plane;
  if (equal == parts_per_plane && planes > 1)
    return {equal, std::min(planes, samples - first / parts_per_plane)};
  return {std::clamp(equal - first % parts_per_plane, int64_t{1}, kMaxSeries), 1};
}

Blocks::Block Blocks::at(int64_t index) const {
  if (count == 1) return {0, samples, 0, plane};
  if (parts_per_plane > 1) {
    const int64_t position = index % parts_per_plane * part;
    return {index / parts_per_plane, 1, position, std::min(part, plane - position)};
  }
  // Of even size.
  const int64_t first = samples * index / count, last = samples * (index + 1) / count;
  return {first, last - first, 0, plane};
}

Blocks::Bundle Blocks::bundle(int64_t index, int64_t at_once) const {
  const int64_t sample = index / parts_per_plane * at_once;
  return {sample * parts_per_plane + index % parts_per_plane, parts_per_plane,
          std::min(at_once, count / parts_per_plane - sample)};
}

int useful_workers(const Work &work, const Machine &machine) {
  const int64_t effort = work.effort();
  if (effort < least_effort(work, machine)) return 1;
  return static_cast<int>(std::clamp<int64_t>(effort / kEffortWorthAThread, 1, machine.threads));
}

namespace {

// Several channels, those of a set or of a block, as one channel of larger planes.
Work of_larger_planes(const Work &work, int64_t channels) {
  Work larger = work;
  larger.size.c /= channels;
  larger.size.h *= channels;
  larger.channel_row /= channels;
  larger.channel_block = 1;
  larger.merged *= channels;
  if (work.channel_block != 1) larger.order = MemoryOrder::planes;
  return larger;
}

// Of one channel, what is read.
int64_t channel_bytes(const Work &work) {
  return work.size.per_channel() * work.element_bytes * work.reads;
}

int64_t groups_of(const Work &work, int64_t group) {
  return work.rows() * divide_up(work.row_channels(), group);
}

// The channels of whole groups that balance: first as many groups of even size for each worker
// (training of (1,64,56,56) takes 0.9 of the time on two threads: 4 groups of 16 channels, not 13
// of 5), then smaller ones. 0: none balance. One pass from memory beats two, but not where the
// planes of a group are short stretches of memory between those of other threads, and there are
// samples to share out instead: training of (16384,8,8,8) took 1.8 times as long so, of
// (32768,8,3,3) 6 times.
int64_t balanced_group(const Work &work, const Plan &plan, int64_t most) {
  constexpr int64_t kLeastStretchBytes = 2 * 1024;
  const int64_t least = work.order == MemoryOrder::planes && plan.blocks >= plan.workers
                            ? divide_up(kLeastStretchBytes, plane_bytes(work))
                            : 1;
  const auto balances = [&](int64_t group) {
    const int64_t groups = groups_of(work, group);
    return group >= least && groups >= plan.workers &&
           imbalance(groups, plan.workers, group, work.size.c) <= kWorstImbalance;
  };
  constexpr int64_t kLeastOfWorker = 2;  // so that one that is late leaves some to others
  const int64_t row = work.row_channels();
  const int64_t of_worker = std::max(divide_up(divide_up(row, most), plan.workers), kLeastOfWorker);
  const int64_t even = divide_up(row, of_worker * plan.workers);
  if (work.rows() == 1 && balances(even)) return even;
  for (int64_t group = most; group >= 1; group /= 2)
    if (balances(group)) return group;
  return 0;
}

// Whether threads had better share out the samples of contiguous planes than the channels: a tensor
// that the caches hold is read again fast enough. Hosts deal out samples, too, so each thread then
// finds in its own caches what it has written, and long stretches of it. In a training step of
// PyTorch the batch norms of 32x32, 16x16 and 8x8 take 0.75 of the time, and down to 0.3 where the
// caches of two CPUs are far from each other; alone (64,16,32,32) takes 0.5 in training, 0.8
// backward.
bool shares_samples(const Work &work, const Machine &machine, const Plan &plan) {
  return work.order == MemoryOrder::planes && work.size.n > 1 && plan.workers > 1 &&
         plan.blocks >= plan.workers && work.output_bytes() <= kHeldBytes &&
         work.bytes() < machine.cached_bytes();
}

// Channels that together fill a fraction of L2: summed and normalised while they are there, the
// next ones on the way. But the planes of a sample should be a stretch of memory worth the jump to
// the next sample: of 256 samples of 2048x7x7, two channels fit, and with stretches of 16 training
// takes 0.55 of the time, backward 0.48 (two threads; 512x14x14: 0.61, 0.66). A tensor that stays
// in the caches as a whole is read again fast enough, and longer stretches pay.
int64_t group_for_caches(const Work &work, const Machine &machine, int64_t most) {
  constexpr int64_t kStretchBytes = 3 * 1024, kStretchBytesInCaches = 64 * 1024;
  const auto fit = [](int64_t bytes, int64_t each) {
    return std::max(bytes / std::max(each, int64_t{1}), int64_t{1});
  };
  int64_t fits = std::max(fit(machine.l2_bytes / 4, channel_bytes(work)),
                          divide_up(kStretchBytes, plane_bytes(work)));
  if (work.bytes() < machine.cached_bytes()) {
    const int64_t of_thread = machine.cached_bytes() / machine.threads;
    fits = std::max(fits, std::min(fit(of_thread / 4, channel_bytes(work)),
                                   fit(kStretchBytesInCaches, plane_bytes(work))));
  }
  return whole_lines(work, std::min(fits, most), std::min(2 * fits, most));
}

void set_group(const Work &work, int64_t group, Plan *plan) {
  plan->group = group;
  plan->groups = groups_of(work, group);
}

// Groups are halved until their bundles balance.
void split_groups(const Work &work, int64_t group, int64_t smallest, Plan *plan) {
  plan->split = true;
  set_group(work, group, plan);
  while (plan->group > smallest && imbalance(plan->units(), plan->workers, plan->group,
                                             work.size.c * plan->bundles) > kWorstImbalance)
    set_group(work, divide_up(plan->group, 2), plan);
  plan->workers = static_cast<int>(std::min<int64_t>(plan->workers, plan->units()));
}

// `may_be_whole`: units may be groups as a whole.
Plan plan_of_channels(const Work &work, const Machine &machine, int64_t max_group,
                      bool may_be_whole) {
  const int64_t row = work.row_channels(), most = std::min(max_group, row);
  const bool channels_last =
      work.order == MemoryOrder::channels || work.order == MemoryOrder::mixed;
  Plan plan;
  const Blocks blocks = make_blocks(work.size);
  plan.blocks = blocks.count;
  plan.at_once = work.at_once;
  plan.bundles = blocks.bundles(work.at_once);
  plan.workers = useful_workers(work, machine);
  const bool is_alone_in_l2 =
      plan.workers == 1 && channel_bytes(work) * work.size.c <= machine.l2_bytes;
  if (may_be_whole && is_alone_in_l2 && row <= max_group) {
    set_group(work, row, &plan);
    return plan;
  }

  // A row of channels is one sample, or a few, and is still in the caches when it is mapped: group
  // norm of 32x64x56x56 takes two thirds of the time of three phases. Narrow groups of long rows
  // would not: 3 of 32 sets of 2x1280x16x16, 480 bytes, take 1.45 times as long.
  constexpr int64_t kLeastRowBytes = 512, kRowInCaches = 8;  // of L2
  // Planes of one element, of one sample: any group is one stretch of memory.
  const bool is_one_stretch = work.size.n == 1 && work.size.plane() == work.merged;
  const bool has_short_rows =
      work.rows() > 1 && channel_bytes(work) * row <= kRowInCaches * machine.l2_bytes;
  if (channels_last && may_be_whole && (is_one_stretch || has_short_rows)) {
    const int64_t group = balanced_group(work, plan, most);
    if (group == row || group * work.together * work.element_bytes >= kLeastRowBytes) {
      set_group(work, group, &plan);
      return plan;
    }
  }
  if (channels_last) {
    // Groups are pieces of rows: going through memory in its order twice is faster than finding a
    // group in cache again.
    const bool is_wide = work.order == MemoryOrder::channels;
    const int64_t half_line = std::max<int64_t>(1, kLineBytes / 2 / work.element_bytes);
    split_groups(work, is_wide ? std::min(kWideGroup * max_group, row) : most, half_line, &plan);
  } else if (!may_be_whole || shares_samples(work, machine, plan)) {
    split_groups(work, most, 1, &plan);
  } else {
    const int64_t group = is_alone_in_l2 ? most : group_for_caches(work, machine, most);
    const int64_t whole = plan.workers == 1 ? group : balanced_group(work, plan, group);
    if (whole != 0) {
      set_group(work, whole, &plan);
    } else {
      split_groups(work, group, 1, &plan);
    }
  }
  return plan;
}

}  // namespace

Plan make_plan(const Work &work, const Machine &machine, int64_t max_group) {
  const int64_t whole =
      std::lcm(work.together, work.channel_block);  // channels that no group may cut
  if (work.order == MemoryOrder::samples) return plan_of_channels(work, machine, max_group, false);
  if (whole == 1) return plan_of_channels(work, machine, max_group, true);
  if (whole <= max_group && work.row_channels() % whole == 0) {
    Plan plan = plan_of_channels(of_larger_planes(work, whole), machine, max_group / whole, true);
    if (!plan.split) {
      plan.group *= whole;
      plan.blocks = make_blocks(work.size).count;
      return plan;
    }
  }
  return plan_of_channels(work, machine, max_group, false);
}

namespace {

// The length of the parts of a whole that are about `part` long and of even size; a multiple of
// `step` (or the whole).
int64_t even_part(int64_t whole, int64_t part, int64_t step) {
  const int64_t parts = divide_up(whole, std::max(part, step));
  return std::min(whole, divide_up(divide_up(whole, parts), step) * step);
}

Tiles counted(Tiles tiles, int64_t rows) {
  const Extents &size = tiles.size;
  tiles.count_of_row = divide_up(size.n, tiles.samples) * divide_up(size.c, tiles.channels) *
                       divide_up(size.plane(), tiles.positions);
  tiles.count = rows * tiles.count_of_row;
  return tiles;
}

// Enough tiles to balance, and each large enough to be worth taking.
constexpr int64_t kSmallestTile = 2048, kLargestTile = 16384, kTilesOfAWorker = 16;
int64_t elements_of_tile(const Work &work, int workers) {
  return std::clamp(work.size.numel() / (workers * kTilesOfAWorker), kSmallestTile, kLargestTile);
}

// channels_last.
void set_rows_of_channels(const Work &work, int64_t elements, Tiles *tiles) {
  // So many channels that their coefficients stay in L1. Eval of (1,2048,7,7) takes 0.73 of the
  // time that it takes by rows of all channels, (32,2048,7,7) 0.88; with half as many, large
  // tensors would take a quarter more.
  constexpr int64_t kCoefficientBytes = 4096;  // of each of the coefficients
  const int64_t most = kCoefficientBytes / std::max<int64_t>(work.element_bytes, 4);
  tiles->channels =
      even_part(tiles->size.c, std::min(elements, most), kLineBytes / work.element_bytes);
  tiles->positions = even_part(work.size.plane(), elements / tiles->channels, 1);
}

// Long stretches both of channels and of positions. Of positions whole lines, because what is
// written in part cannot stream. A line has 8 elements or more, so they are whole bytes of a mask,
// too.
void set_squares(const Work &work, int64_t elements, Tiles *tiles) {
  constexpr int64_t kFewestPositions = 128, kChannels = 64;
  tiles->positions =
      even_part(work.size.plane(), std::max(elements / tiles->size.c, kFewestPositions),
                kLineBytes / work.element_bytes);
  tiles->channels = even_part(tiles->size.c, elements / tiles->positions, kChannels);
}

// Planes, or anything else. Of strided planes a packed copy reads the same cache lines for several
// channels.
void set_planes(const Work &work, int64_t elements, Tiles *tiles) {
  constexpr int64_t kStridedPositions = 256;
  const int64_t plane = work.size.plane(), c = tiles->size.c;
  const bool contiguous = work.order == MemoryOrder::planes;
  // Whole cache lines; whole bytes of a mask.
  tiles->positions =
      even_part(plane, contiguous ? elements : kStridedPositions, contiguous ? 64 : 8);
  tiles->channels =
      contiguous && tiles->positions < plane ? 1 : even_part(c, elements / tiles->positions, 1);
  if (tiles->positions == plane)
    tiles->channels = whole_lines(work, tiles->channels, std::min(2 * tiles->channels, c));
  constexpr int64_t kSamplesOfSmallPlanes = 32;  // which the coefficients serve
  if (work.has_small_planes())
    tiles->channels =
        even_part(c, elements / plane / std::min(work.size.n, kSamplesOfSmallPlanes), 1);
}

// Of blocks of channels: those of planes that are larger by the channels of a block.
Tiles tiles_of_blocks(const Work &work, int workers) {
  Tiles tiles = make_tiles(of_larger_planes(work, work.channel_block), workers);
  tiles.size.c *= work.channel_block;
  tiles.size.h = work.size.h;
  tiles.channels *= work.channel_block;
  tiles.positions = divide_up(tiles.positions, work.channel_block);
  // Small planes of a block have many samples, which share its coefficients (ops/long_rows.h).
  constexpr int64_t kSmallPlaneOfBlock = 128, kFewestSamples = 8;
  const int64_t plane = work.size.plane(), elements = elements_of_tile(work, workers);
  if (!work.maps_blocks && plane < kSmallPlaneOfBlock && work.size.n >= kFewestSamples) {
    tiles.channels = work.channel_block;
    tiles.positions = plane;
    tiles.samples = even_part(work.size.n, elements / (work.channel_block * plane), 1);
  }
  return counted(tiles, work.rows());
}

}  // namespace

Tiles make_tiles(const Work &work, int workers) {
  if (work.channel_block != 1) return tiles_of_blocks(work, workers);
  Tiles tiles;
  tiles.size = work.size;
  tiles.size.c = work.row_channels();
  if (work.channel_row == 0 &&
      work.size.numel() <= kSmallestTile) {  // no division for a small call
    tiles.samples = work.size.n;
    tiles.channels = tiles.size.c;
    tiles.positions = work.size.plane();
    tiles.count = 1;
    return tiles;
  }
  const int64_t elements = elements_of_tile(work, workers);
  tiles.channels_first = work.order == MemoryOrder::planes;
  if (work.order == MemoryOrder::channels) {
    set_rows_of_channels(work, elements, &tiles);
  } else if (work.order == MemoryOrder::mixed) {
    set_squares(work, elements, &tiles);
  } else {
    set_planes(work, elements, &tiles);
  }
  tiles.samples = even_part(work.size.n, elements / (tiles.channels * tiles.positions), 1);
  return counted(tiles, work.rows());
}

Tiles::Tile Tiles::at(int64_t index) const {
  if (count == 1) return {{0, size.c}, {0, size.n, 0, size.plane()}};
  const int64_t row = index / count_of_row;
  index -= row * count_of_row;
  const int64_t across = divide_up(size.c, channels), along = divide_up(size.plane(), positions);
  const int64_t n = index / (across * along) * samples, within = index % (across * along);
  const int64_t c = (channels_first ? within / along : within % across) * channels;
  const int64_t p = (channels_first ? within % along : within / across) * positions;
  return {{row * size.c + c, std::min(channels, size.c - c)},
          {n, std::min(samples, size.n - n), p, std::min(positions, size.plane() - p)}};
}

}  // namespace bn2d
