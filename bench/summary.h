// SPDX-License-Identifier: MIT
// The rows of one kind (what is compared, operation, dtype) in one line each.
#ifndef BN2D_BENCH_SUMMARY_H
#define BN2D_BENCH_SUMMARY_H

#include <string>
#include <vector>

#include "result.h"

namespace bench {

/// Geometric means: R and its range, R of the two passes and how long we take against them, the
/// others against us.
std::vector<std::string> summarise(const std::vector<RowResult> &results);

}  // namespace bench

#endif  // BN2D_BENCH_SUMMARY_H
