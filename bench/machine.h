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

}  // namespace bench

#endif  // BN2D_BENCH_MACHINE_H
