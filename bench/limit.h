// SPDX-License-Identifier: MIT
// The yardstick: plain parallel loops that touch the bytes of an operation once.
#ifndef BN2D_BENCH_LIMIT_H
#define BN2D_BENCH_LIMIT_H

#include <vector>

#include "problem.h"
#include "variant.h"

namespace bench {

/// Names of the limit's variants all start with this.
constexpr const char *kLimitPrefix = "limit";

/// Reads and writes as many tensors as the problem must, with ordinary stores; with streaming
/// stores where the CPU has them and the output would not stay in the caches anyway; and, for small
/// problems, on the calling thread alone. The fastest of them is the limit. Writes to memory of its
/// own, so that results stay what the operation made them.
std::vector<Variant> limit_variants(const Problem &problem);

/// Reads `bytes` once on all threads, as the next layer would.
void read_once(const void *data, int64_t bytes);

/// Runs something short on every oneTBB worker of the current arena.
void wake_tbb(int threads);

}  // namespace bench

#endif  // BN2D_BENCH_LIMIT_H
