// SPDX-License-Identifier: MIT
// What the numbers were measured on.
#ifndef BN2D_BENCH_MACHINE_H
#define BN2D_BENCH_MACHINE_H

#include <string>
#include <vector>

namespace bench {

struct Machine {
  std::string cpu, system, date;
  int cpus = 0;
  std::vector<std::string> caches;  ///< "L2 512K"
  double load = 0;                  ///< load average at the start: other people's work
};

Machine this_machine();

/// Folder of this program.
std::string program_folder();
/// "avx512", "avx2", or the name of another SIMD target: what a CPU has decides the ratios, so
/// results of different classes are kept apart.
std::string simd_class();

}  // namespace bench

#endif  // BN2D_BENCH_MACHINE_H
