// SPDX-License-Identifier: MIT
// Counts heap allocations of this process.
#ifndef BN2D_BENCH_ALLOC_COUNT_H
#define BN2D_BENCH_ALLOC_COUNT_H

namespace bench {

/// Calls of malloc and its kin so far, on any thread, from any library; -1 where they cannot be
/// counted here.
long allocation_count();

}  // namespace bench

#endif  // BN2D_BENCH_ALLOC_COUNT_H
