// SPDX-License-Identifier: MIT
#include "result.h"

#include "limit.h"
#include "ours.h"
#include "two_passes.h"

namespace bench {
namespace {

bool starts_with(const std::string &text, const std::string &prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

}  // namespace

bool is_peer(const std::string &name) {
  return !starts_with(name, kOurs) && !starts_with(name, kLimitPrefix) && name != kTwoPasses;
}

const Timing *RowResult::find(const std::string &name) const {
  for (const Timing &t : timings)
    if (t.ran && t.name == name) return &t;
  return nullptr;
}

const Timing *RowResult::ours() const { return find(kOurs); }

const Timing *RowResult::limit() const {
  const Timing *best = nullptr;
  for (const Timing &t : timings)
    if (t.ran && starts_with(t.name, kLimitPrefix) && (!best || t.median < best->median)) best = &t;
  return best;
}

std::vector<const Timing *> RowResult::peers() const {
  std::vector<const Timing *> found;
  for (const Timing &t : timings)
    if (t.ran && is_peer(t.name)) found.push_back(&t);
  return found;
}

std::optional<double> RowResult::ratio() const {
  if (!ours() || !limit()) return std::nullopt;
  return ours()->median / limit()->median;
}

}  // namespace bench
