// SPDX-License-Identifier: MIT
#include "summary.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <tuple>

#include "ours.h"
#include "targets.h"
#include "two_passes.h"

namespace bench {
namespace {

using Kind = std::tuple<Group, Op, Fuse, DType>;

struct Ratios {
  std::vector<double> ours, two_passes, ours_over_two;
  std::map<std::string, std::vector<double>> others;  // their time over ours
};

void add(const RowResult &result, Ratios *ratios) {
  ratios->ours.push_back(*result.ratio());
  if (const Timing *two = result.find(kTwoPasses)) {
    ratios->two_passes.push_back(median_ratio(*two, *result.limit()));
    ratios->ours_over_two.push_back(1 / result.over_ours(*two));
  }
  if (const Timing *other = result.find(kOursOther))
    ratios->others[other->name].push_back(result.over_ours(*other));
  for (const Timing *peer : result.peers())
    ratios->others[peer->name].push_back(result.over_ours(*peer));
}

std::string text_of(const Kind &kind, const Ratios &ratios) {
  const auto [group, op, fuse, dtype] = kind;
  const auto [least, worst] = std::minmax_element(ratios.ours.begin(), ratios.ours.end());
  char part[160];
  std::snprintf(part, sizeof part, "%s/%s/%s: %zu rows, R %.2f (%.2f to %.2f)", name_of(group),
                name_of(op, fuse).c_str(), name_of(dtype), ratios.ours.size(),
                geometric_mean(ratios.ours), *least, *worst);
  std::string text = part;
  if (!ratios.two_passes.empty()) {
    std::snprintf(part, sizeof part, ", two passes R %.2f (bn2d %.2f times as long)",
                  geometric_mean(ratios.two_passes), geometric_mean(ratios.ours_over_two));
    text += part;
  }
  for (const auto &[name, values] : ratios.others) {
    std::snprintf(part, sizeof part, ", %s %.2fx", name.c_str(), geometric_mean(values));
    text += part;
  }
  return text;
}

}  // namespace

std::vector<std::string> summarise(const std::vector<RowResult> &results) {
  std::map<Kind, Ratios> kinds;
  for (const RowResult &result : results)
    if (result.ratio())
      add(result, &kinds[{result.row.group, result.row.op, result.row.fuse, result.row.dtype}]);
  std::vector<std::string> lines;
  for (const auto &[kind, ratios] : kinds) lines.push_back(text_of(kind, ratios));
  return lines;
}

}  // namespace bench
