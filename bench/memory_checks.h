// SPDX-License-Identifier: MIT
// What does not show in times: memory that grows, heap allocations per call, the cost of loading,
// the size of the library. Each is measured in a fresh process.
#ifndef BN2D_BENCH_MEMORY_CHECKS_H
#define BN2D_BENCH_MEMORY_CHECKS_H

#include <optional>
#include <string>

namespace bench {

struct MemoryChecks {
  // Absent where it could not be measured.
  std::optional<double> growth_kib;   ///< peak RSS, over a million small calls (--quick: 100,000)
  std::optional<double> scratch_kib;  ///< peak RSS, over the first large forward, backward and eval
  std::optional<double>
      small_allocations;  ///< heap allocations per small call of train, eval, backward
  std::optional<double> large_allocations;   ///< the same of large calls
  std::optional<double> record_allocations;  ///< of a small training forward with a record
  std::optional<double> load_ms;         ///< dlopen in a process that has none of the libraries yet
  std::optional<double> load_threads;    ///< threads started by that
  std::optional<double> stripped_bytes;  ///< libbn2d.so
};

/// Starts the processes and collects what they say. `folder`: where this program and its helpers
/// are.
MemoryChecks run_memory_checks(const std::string &folder, bool quick);

/// What the child process does: prints the numbers to stdout. `calls`: how many small calls.
int memory_child(long calls);
constexpr const char *kMemoryChildFlag = "--memory-child";

}  // namespace bench

#endif  // BN2D_BENCH_MEMORY_CHECKS_H
