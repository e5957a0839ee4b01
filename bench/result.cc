// SPDX-License-Identifier: MIT
#include "result.h"

#include <algorithm>

#include "limit.h"
#include "ours.h"
#include "two_passes.h"

namespace bench {
namespace {

bool starts_with(const std::string &text, const std::string &prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}
bool ends_with(const std::string &text, const std::string &suffix) {
  return text.size() >= suffix.size() &&
         text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

const Timing *fastest(const std::vector<const Timing *> &timings) {
  const auto best =
      std::min_element(timings.begin(), timings.end(),
                       [](const Timing *a, const Timing *b) { return a->median < b->median; });
  return best == timings.end() ? nullptr : *best;
}

}  // namespace

bool is_limit(const std::string &name) { return starts_with(name, kLimitPrefix); }

bool is_peer(const std::string &name) {
  return !starts_with(name, kOurs) && !is_limit(name) && name != kTwoPasses;
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
    if (t.ran && is_limit(t.name) && (!best || t.median < best->median)) best = &t;
  return best;
}

std::vector<const Timing *> RowResult::peers() const {
  std::vector<const Timing *> found;
  for (const Timing &t : timings)
    if (t.ran && is_peer(t.name)) found.push_back(&t);
  return found;
}

const Timing *RowResult::fastest_of(const std::string &family) const {
  const Timing *best = nullptr;
  for (const Timing *peer : peers())
    if (peer->family == family && (!best || peer->median < best->median)) best = peer;
  return best;
}

const Timing *RowResult::fastest_peer() const { return fastest(peers()); }

const Timing *RowResult::fastest_peer_of_layout() const {
  std::vector<const Timing *> same = peers();
  if (row.layouts.are(Layout::kNchw))
    same.erase(std::remove_if(same.begin(), same.end(),
                              [](const Timing *peer) {
                                return ends_with(peer->family, " channels_last") ||
                                       ends_with(peer->family, " blocked");
                              }),
               same.end());
  return fastest(same);
}

const Timing *RowResult::winner() const {
  const Timing *const peer = fastest_peer();
  return ours() && peer && over_ours(*peer) <= 1 ? peer : ours();
}

std::optional<double> RowResult::ratio() const {
  if (!ours() || !limit()) return std::nullopt;
  return median_ratio(*ours(), *limit());
}

}  // namespace bench
