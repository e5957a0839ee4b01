// SPDX-License-Identifier: MIT
// The speeds that bn2d promises, and whether a run kept them.
#ifndef BN2D_BENCH_TARGETS_H
#define BN2D_BENCH_TARGETS_H

#include <string>
#include <vector>

#include "memory_checks.h"
#include "result.h"

namespace bench {

enum class Verdict { kHolds, kMissed, kNotMeasured };

struct Target {
  std::string what;   ///< "training forward, ResNet-50 shapes, batch 32"
  std::string bound;  ///< "R geomean <= 1.40, worst <= 1.80"
  std::string
      measured;  ///< "geomean 1.03, worst 1.31 (resnet32/train/f32/nchw/32x64x112x112), 9 rows"
  Verdict verdict;
};

std::vector<Target> judge(const std::vector<RowResult> &results, const MemoryChecks &memory);

double geometric_mean(const std::vector<double> &values);

}  // namespace bench

#endif  // BN2D_BENCH_TARGETS_H
