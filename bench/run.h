// SPDX-License-Identifier: MIT
// Runs one row: memory, contestants, a check that all compute the same, the timing.
#ifndef BN2D_BENCH_RUN_H
#define BN2D_BENCH_RUN_H

#include <vector>

#include "library.h"
#include "peers.h"
#include "result.h"

namespace bench {

struct RunOptions {
  int threads = 1;
  double budget_seconds = 1.5;
  unsigned seed = 1;                     ///< of the order in which variants are timed
  bool once = false;                     ///< one sample only (--smoke)
  const Library *other_build = nullptr;  ///< timed beside ours; null: none
};

/// Never throws: what goes wrong is in RowResult::error.
RowResult run_row(const Row &row, const std::vector<LoadedPeer> &peers, const RunOptions &options);

}  // namespace bench

#endif  // BN2D_BENCH_RUN_H
