// SPDX-License-Identifier: MIT
// What was measured of a row.
#ifndef BN2D_BENCH_RESULT_H
#define BN2D_BENCH_RESULT_H

#include <optional>
#include <string>
#include <vector>

#include "rows.h"
#include "timer.h"

namespace bench {

struct RowResult {
  Row row;
  std::vector<Timing> timings;
  std::string error;  ///< not empty: the row could not be timed

  /// The variant of that name, null where there is none or it did not run.
  const Timing *find(const std::string &name) const;
  const Timing *ours() const;
  /// The fastest of the limit's variants.
  const Timing *limit() const;
  /// Peers that ran, in the order in which they were offered.
  std::vector<const Timing *> peers() const;
  /// The fastest peer of that family ("oneDNN plain", of any version), null where none ran.
  const Timing *fastest_of(const std::string &family) const;
  const Timing *fastest_peer() const;
  /// The fastest of the peers that run on the row's layout. In rows of NCHW oneDNN also runs in
  /// channels last and in its own blocks.
  const Timing *fastest_peer_of_layout() const;
  /// The fastest of ours and the peers, null where ours did not run.
  const Timing *winner() const;
  /// ours / limit, where both are there.
  std::optional<double> ratio() const;
  /// How many times as long as ours that one takes.
  double over_ours(const Timing &other) const { return median_ratio(other, *ours()); }
};

/// The name is that of a loop that touches the same bytes once.
bool is_limit(const std::string &name);
/// The name is neither ours nor that of a loop without arithmetic.
bool is_peer(const std::string &name);

}  // namespace bench

#endif  // BN2D_BENCH_RESULT_H
