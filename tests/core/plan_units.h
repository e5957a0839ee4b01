// What the units of a plan hold.
#pragma once
#include <algorithm>
#include <cstdint>

#include "parallel/plan.h"

namespace bn2d {

// Elements of a unit.
inline int64_t unit_elements(const Plan &plan, const Work &work, int64_t unit) {
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

}  // namespace bn2d
