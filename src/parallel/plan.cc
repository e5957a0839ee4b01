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
  larger.row /= channels;
  larger.block = 1;
  larger.merged *= channels;
  if (work.block != 1) larger.order = MemoryOrder::planes;
  return larger;
}

int64_t groups_of(const Work &work, int64_t group) {
  return work.rows() * divide_up(work.row_channels(), group);
}

// Whether whole groups balance: first as many of even size for each worker (training of
// (1,64,56,56) takes 0.9 of the time on two threads: 4 groups of 16 channels, not 13 of 5), then
// smaller ones. One pass from memory beats two, but not where the planes of a group are short runs
// of memory between those of other threads, and there are samples to share out instead: training of
// (16384,8,8,8) took 1.8 times as long so, of (32768,8,3,3) 6 times.
bool find_whole_groups(const Work &work, Plan &plan) {
  constexpr int64_t kLeastRunBytes = 2 * 1024;
  const int64_t least = work.order == MemoryOrder::planes && plan.blocks >= plan.workers
                            ? divide_up(kLeastRunBytes, plane_bytes(work))
                            : 1;
  const auto balances = [&](int64_t group) {
    const int64_t groups = groups_of(work, group);
    if (group < least || groups < plan.workers ||
        imbalance(groups, plan.workers, group, work.size.c) > kWorstImbalance)
      return false;
    plan.group = group;
    plan.groups = groups;
    return true;
  };
  constexpr int64_t kLeastOfWorker = 2;  // so that one that is late leaves some to others
  const int64_t row = work.row_channels();
  const int64_t of_worker =
      std::max(divide_up(divide_up(row, plan.group), plan.workers), kLeastOfWorker);
  if (work.rows() == 1 && balances(divide_up(row, of_worker * plan.workers))) return true;
  for (int64_t group = plan.group; group >= 1; group = group > 1 ? group / 2 : 0)
    if (balances(group)) return true;
  return false;
}

// Whether threads had better share out the samples of contiguous planes than the channels: a tensor
// that the caches hold is read again fast enough. Hosts deal out samples, too, so each thread then
// finds in its own caches what it has written, and long runs of it. In a training step of PyTorch
// the batch norms of 32x32, 16x16 and 8x8 take 0.75 of the time, and down to 0.3 where the caches
// of two CPUs are far from each other; alone (64,16,32,32) takes 0.5 in training, 0.8 backward.
bool shares_samples(const Work &work, const Machine &machine, const Plan &plan) {
  return work.order == MemoryOrder::planes && work.size.n > 1 && plan.workers > 1 &&
         plan.blocks >= plan.workers && work.output_bytes() <= kHeldBytes &&
         work.bytes() < machine.cached_bytes();
}

// `may_be_whole`: units may be groups as a whole.
Plan plan_of_channels(const Work &work, const Machine &machine, int64_t max_group,
                      bool may_be_whole) {
  const int64_t channels = work.size.c, row = work.row_channels();
  const int64_t channel_bytes = work.size.per_channel() * work.element_bytes * work.reads;
  const bool channels_last =
      work.order == MemoryOrder::channels || work.order == MemoryOrder::mixed;
  Plan plan;
  const Blocks blocks = make_blocks(work.size);
  plan.blocks = blocks.count;
  plan.at_once = work.at_once;
  plan.bundles = blocks.bundles(work.at_once);
  plan.workers = useful_workers(work, machine);
  if (may_be_whole && plan.workers == 1 && channel_bytes * channels <= machine.l2_bytes &&
      row <= max_group) {
    plan.group = row;
    plan.groups = work.rows();
    return plan;
  }

  // A row of channels is one sample, or a few, and is still in the caches when it is mapped: group
  // norm of 32x64x56x56 takes two thirds of the time of three phases. Narrow groups of long rows
  // would not: 3 of 32 sets of 2x1280x16x16, 480 bytes, take 1.45 times as long.
  constexpr int64_t kLeastRowBytes = 512, kRowInCaches = 8;  // of L2
  plan.group = std::min(max_group, row);
  // Planes of one element, of one sample: any group is a run of memory.
  const bool is_one_run = work.size.n == 1 && work.size.plane() == work.merged;
  const bool has_short_rows =
      work.rows() > 1 && channel_bytes * row <= kRowInCaches * machine.l2_bytes;
  if (channels_last && may_be_whole && (is_one_run || has_short_rows) &&
      find_whole_groups(work, plan) &&
      (plan.group == row || plan.group * work.together * work.element_bytes >= kLeastRowBytes))
    return plan;
  if (channels_last || !may_be_whole || shares_samples(work, machine, plan)) {
    // Groups are pieces of rows: going through memory in its order twice is faster than finding a
    // group in cache again.
    plan.split = true;
    const bool is_wide = work.order == MemoryOrder::channels;
    plan.group = std::min(is_wide ? kWideGroup * max_group : max_group, row);
  } else {
    // Channels that together fill a fraction of L2: summed and normalised while they are there, the
    // next ones on the way. But the planes of a sample should be a run of memory worth the jump to
    // the next sample: of 256 samples of 2048x7x7, two channels fit, and with runs of 16 training
    // takes 0.55 of the time, backward 0.48 (two threads; 512x14x14: 0.61, 0.66). A tensor that
    // stays in the caches as a whole is read again fast enough, and longer runs pay.
    constexpr int64_t kRunBytes = 3 * 1024, kRunBytesInCaches = 64 * 1024;
    const auto fit = [](int64_t bytes, int64_t each) {
      return std::max(bytes / std::max(each, int64_t{1}), int64_t{1});
    };
    int64_t fits =
        std::max(fit(machine.l2_bytes / 4, channel_bytes), divide_up(kRunBytes, plane_bytes(work)));
    if (work.bytes() < machine.cached_bytes())
      fits =
          std::max(fits, std::min(fit(machine.cached_bytes() / machine.threads / 4, channel_bytes),
                                  fit(kRunBytesInCaches, plane_bytes(work))));
    plan.group = std::min({fits, max_group, row});
    plan.group = whole_lines(work, plan.group, std::min({2 * fits, max_group, row}));
    if (plan.workers == 1) {
      if (channel_bytes * channels <= machine.l2_bytes) plan.group = std::min(max_group, row);
      plan.groups = groups_of(work, plan.group);
      return plan;
    }
    if (find_whole_groups(work, plan)) return plan;
    plan.split = true;
  }
  plan.groups = groups_of(work, plan.group);
  // Half a cache line.
  const int64_t smallest =
      channels_last ? std::max<int64_t>(1, kLineBytes / 2 / work.element_bytes) : 1;
  while (plan.group > smallest && imbalance(plan.groups * plan.bundles, plan.workers, plan.group,
                                            channels * plan.bundles) > kWorstImbalance) {
    plan.group = divide_up(plan.group, 2);
    plan.groups = groups_of(work, plan.group);
  }
  plan.workers = static_cast<int>(std::min<int64_t>(plan.workers, plan.units()));
  return plan;
}

}  // namespace

Plan make_plan(const Work &work, const Machine &machine, int64_t max_group) {
  const int64_t whole = std::lcm(work.together, work.block);  // channels that no group may cut
  if (work.order == MemoryOrder::samples) return plan_of_channels(work, machine, max_group, false);
  if (whole == 1) return plan_of_channels(work, machine, max_group, true);
  if (whole <= max_group && work.row_channels() % whole == 0) {
    Plan plan = plan_of_channels(of_larger_planes(work, whole), machine, max_group / whole, true);
    plan.group *= whole;
    plan.blocks = make_blocks(work.size).count;
    if (!plan.split) return plan;
  }
  return plan_of_channels(work, machine, max_group, false);
}

int64_t unit_elements(const Plan &plan, const Work &work, int64_t unit) {
  const int64_t of_row = divide_up(work.row_channels(), plan.group);
  const int64_t group = (plan.split ? unit % plan.groups : unit) % of_row;
  const int64_t channels = std::min(plan.group, work.row_channels() - group * plan.group);
  if (!plan.split) return channels * work.size.per_channel();
  const Blocks blocks = make_blocks(work.size);
  const Blocks::Bundle bundle = blocks.bundle(unit / plan.groups, plan.at_once);
  int64_t elements = 0;
  for (int64_t i = 0; i < bundle.count; ++i) elements += blocks.at(bundle.block(i)).elements();
  return channels * elements;
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

}  // namespace

Tiles make_tiles(const Work &work, int workers) {
  if (work.block != 1) {
    Tiles tiles = make_tiles(of_larger_planes(work, work.block), workers);
    tiles.size.c *= work.block;
    tiles.size.h = work.size.h;
    tiles.channels *= work.block;
    tiles.positions = divide_up(tiles.positions, work.block);
    // Small planes of a block have many samples, which share its coefficients (ops/long_rows.h).
    constexpr int64_t kSmallPlaneOfBlock = 128, kFewestSamples = 8;
    const int64_t plane = work.size.plane(), elements = elements_of_tile(work, workers);
    if (plane < kSmallPlaneOfBlock && work.size.n >= kFewestSamples) {
      tiles.channels = work.block;
      tiles.positions = plane;
      tiles.samples = even_part(work.size.n, elements / (work.block * plane), 1);
    }
    return counted(tiles, work.rows());
  }
  const int64_t plane = work.size.plane(), c = work.row_channels();
  Tiles tiles;
  tiles.size = work.size;
  tiles.size.c = c;
  if (work.row == 0 && work.size.numel() <= kSmallestTile) {  // no division for a small call
    tiles.samples = work.size.n;
    tiles.channels = c;
    tiles.positions = plane;
    tiles.count = 1;
    return tiles;
  }
  const int64_t elements = elements_of_tile(work, workers);
  tiles.channels_first = work.order == MemoryOrder::planes;
  if (work.order == MemoryOrder::channels) {
    // So many channels that their coefficients stay in L1. Eval of (1,2048,7,7) takes 0.73 of the
    // time that it takes by rows of all channels, (32,2048,7,7) 0.88; with half as many, large
    // tensors would take a quarter more.
    constexpr int64_t kCoefficientBytes = 4096;  // of each of the coefficients
    const int64_t most = kCoefficientBytes / std::max<int64_t>(work.element_bytes, 4);
    tiles.channels = even_part(c, std::min(elements, most), kLineBytes / work.element_bytes);
    tiles.positions = even_part(plane, elements / tiles.channels, 1);
  } else if (work.order == MemoryOrder::mixed) {
    // Long runs both of channels and of positions. Of positions whole lines, because what is
    // written in part cannot stream. A line has 8 elements or more, so they are whole bytes of a
    // mask, too.
    constexpr int64_t kFewestPositions = 128, kChannels = 64;
    tiles.positions =
        even_part(plane, std::max(elements / c, kFewestPositions), kLineBytes / work.element_bytes);
    tiles.channels = even_part(c, elements / tiles.positions, kChannels);
  } else {
    // Strided planes: a packed copy reads the same cache lines for several channels.
    constexpr int64_t kStridedPositions = 256;
    const bool contiguous = work.order == MemoryOrder::planes;
    // Whole cache lines; whole bytes of a mask.
    tiles.positions =
        even_part(plane, contiguous ? elements : kStridedPositions, contiguous ? 64 : 8);
    tiles.channels =
        contiguous && tiles.positions < plane ? 1 : even_part(c, elements / tiles.positions, 1);
    // Their coefficients serve several samples.
    constexpr int64_t kSamplesOfSmallPlanes = 32;
    if (tiles.positions == plane)
      tiles.channels = whole_lines(work, tiles.channels, std::min(2 * tiles.channels, c));
    if (work.has_small_planes())
      tiles.channels =
          even_part(c, elements / plane / std::min(work.size.n, kSamplesOfSmallPlanes), 1);
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
