// SPDX-License-Identifier: MIT
// What training and backward cost without their arithmetic: no output can be written before all of
// its channel has been read, so the input is read once for the sums and a second time for the
// output.
#ifndef BN2D_BENCH_TWO_PASSES_H
#define BN2D_BENCH_TWO_PASSES_H

#include <vector>

#include "problem.h"
#include "variant.h"

namespace bench {

constexpr const char *kTwoPasses = "two passes";

/// A plain loop without arithmetic in the order that the sums dictate. NCHW: group by group of the
/// channels that fill a quarter of L2, all of the group read, then read again and written. NHWC and
/// few channels: the whole tensor read, then read again and written. Ordinary stores where the
/// tensors stay in the caches, else streaming ones.
std::vector<Variant> two_passes_variants(const Problem &problem);

}  // namespace bench

#endif  // BN2D_BENCH_TWO_PASSES_H
