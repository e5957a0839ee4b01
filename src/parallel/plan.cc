#include "parallel/plan.h"

#include <algorithm>

namespace bn2d {
namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Busiest share over mean share at worst, of `units` units with at most `unit` of `total` elements each.
double imbalance(int64_t units, int workers, int64_t unit, int64_t total) {
  return static_cast<double>(divide_up(units, workers)) * static_cast<double>(unit) * workers /
         static_cast<double>(total);
}

constexpr double kWorstImbalance = 1.1;

}  // namespace

Blocks make_blocks(const Extents &size) {
  Blocks blocks;
  blocks.samples = size.n;
  blocks.plane = size.plane();
  const int64_t elements = size.per_channel();
  if (elements == 0) return blocks;
  const int64_t target = std::max(kBlockElements, divide_up(elements, kMaxBlocksPerChannel));
  if (blocks.plane >= target) {
    blocks.parts_per_plane = blocks.plane / target;
    blocks.part = divide_up(divide_up(blocks.plane, blocks.parts_per_plane), 8) * 8;
    blocks.parts_per_plane = divide_up(blocks.plane, blocks.part);
    blocks.count = blocks.samples * blocks.parts_per_plane;
  } else {
    blocks.part = blocks.plane;
    blocks.count = divide_up(blocks.samples, std::max<int64_t>(1, target / blocks.plane));
  }
  return blocks;
}

Blocks::Block Blocks::at(int64_t index) const {
  if (parts_per_plane > 1) {
    const int64_t position = index % parts_per_plane * part;
    return {index / parts_per_plane, 1, position, std::min(part, plane - position)};
  }
  const int64_t first = samples * index / count, last = samples * (index + 1) / count;  // of even size
  return {first, last - first, 0, plane};
}

Plan make_plan(const Work &work, const Machine &machine, int64_t max_group) {
  const int64_t channels = work.size.c;
  const int64_t channel_bytes = work.size.per_channel() * work.element_bytes * work.reads;
  const int64_t bytes = channel_bytes * channels;
  Plan plan;
  plan.blocks = make_blocks(work.size).count;
  plan.workers = static_cast<int>(std::clamp<int64_t>(bytes / kBytesWorthAThread, 1, machine.threads));

  // Channels that together fill a fraction of L2: summed and normalised while they are there, the next ones on the way.
  const int64_t fits = std::max<int64_t>(1, machine.l2_bytes / 4 / std::max<int64_t>(1, channel_bytes));
  plan.group = std::min({fits, max_group, channels});
  if (work.channels_last) plan.group = std::min(max_group, channels);  // long rows matter more
  if (plan.workers == 1) {
    if (channel_bytes * channels <= machine.l2_bytes) plan.group = std::min(max_group, channels);
    plan.groups = divide_up(channels, plan.group);
    plan.split = work.channels_last && channel_bytes * plan.group > machine.l2_bytes;
    return plan;
  }

  // Whole groups where they balance. Try smaller groups before a split: one pass from memory beats two.
  const bool whole_fits = !work.channels_last || channel_bytes * plan.group <= machine.l2_bytes;
  if (work.needs_sums && whole_fits) {
    for (int64_t group = plan.group; group >= 1; group = group > 1 ? group / 2 : 0) {
      const int64_t groups = divide_up(channels, group);
      if (groups >= plan.workers && imbalance(groups, plan.workers, group, channels) <= kWorstImbalance) {
        plan.group = group;
        plan.groups = groups;
        return plan;
      }
      if (work.channels_last && group * work.element_bytes <= 64) break;  // rows shorter than a cache line cost more
    }
  }
  plan.split = true;
  plan.groups = divide_up(channels, plan.group);
  const int64_t smallest = work.channels_last ? std::max<int64_t>(1, 32 / work.element_bytes) : 1;  // half a cache line
  while (plan.group > smallest &&
         imbalance(plan.groups * plan.blocks, plan.workers, plan.group, channels * plan.blocks) > kWorstImbalance) {
    plan.group = divide_up(plan.group, 2);
    plan.groups = divide_up(channels, plan.group);
  }
  plan.workers = static_cast<int>(std::min<int64_t>(plan.workers, plan.units()));
  return plan;
}

int64_t unit_elements(const Plan &plan, const Work &work, int64_t unit) {
  const int64_t group = plan.split ? unit % plan.groups : unit;
  const int64_t channels = std::min(plan.group, work.size.c - group * plan.group);
  if (!plan.split) return channels * work.size.per_channel();
  return channels * make_blocks(work.size).at(unit / plan.groups).elements();
}

}  // namespace bn2d
