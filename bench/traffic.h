// SPDX-License-Identifier: MIT
// Loops that only move bytes: what the limit and the two passes are made of.
#ifndef BN2D_BENCH_TRAFFIC_H
#define BN2D_BENCH_TRAFFIC_H

#include <array>
#include <cstdint>
#include <vector>

#include "problem.h"

namespace bench {

constexpr int64_t kLine = 64;

struct Streams {
  static constexpr int kMaxReads = 3, kMaxWrites = 2;
  std::array<const char *, kMaxReads> in{};
  std::array<char *, kMaxWrites> out{};
};

/// The memory of one loop. Sources are the problem's own inputs, sinks are memory of the loop's
/// own, so that results stay what the operation made them.
class Loop {
 public:
  explicit Loop(const Problem &problem);
  ~Loop();
  Loop(const Loop &) = delete;
  Loop &operator=(const Loop &) = delete;

  Traffic traffic;
  Streams streams;
  int64_t bytes;  ///< of each stream, whole lines

 private:
  std::vector<char *> own_;
};

/// Whether the tensors of a call stay in the caches for whoever reads the output: a few times the
/// L2 of the threads at work, and not more than a few MiB each (the size of L3 is not to be
/// trusted, virtual machines share theirs with strangers). There a loop that streams leaves nothing
/// behind, and is no fair yardstick.
bool stays_in_caches(const Problem &problem);
int64_t l2_bytes();  ///< of one core

/// Combines bytes [begin, end) of all sources into all sinks; both are multiples of a line.
using Mover = void (*)(const Streams &, int64_t begin, int64_t end);
Mover mover(Traffic traffic, bool streaming);  // traffic has 1 or 2 writes
/// Whether the CPU has streaming stores.
bool can_stream();
/// To be called by each thread after its last streaming store.
void fence();

/// Reads bytes [begin, end) of the first `reads` sources.
void read_only(const Streams &streams, int reads, int64_t begin, int64_t end);

}  // namespace bench

#endif  // BN2D_BENCH_TRAFFIC_H
