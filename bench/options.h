// SPDX-License-Identifier: MIT
// The command line.
#ifndef BN2D_BENCH_OPTIONS_H
#define BN2D_BENCH_OPTIONS_H

#include <string>

namespace bench {

struct Options {
  bool quick = false, smoke = false, list = false, no_peers = false, help = false;
  std::string filter;         ///< regular expression on row names; empty: all
  int threads = 0;            ///< 0: as many as the machine has
  double budget_seconds = 0;  ///< per row; 0: the default
  unsigned seed = 1;          ///< of the order in which variants are timed
  bool system_torch =
      false;  ///< the system's PyTorch in place of a newer one: a process holds one of them
  std::string other_build;      ///< a file of the library to time beside ours; empty: none
  std::string json_path;        ///< empty: results-<SIMD class>.json beside the program
  std::string svg_path;         ///< empty: none
  long memory_child_calls = 0;  ///< not 0: this is the child process of the memory checks
};

extern const char kUsage[];

/// Throws std::invalid_argument with a message for the user.
Options parse_options(int argc, char **argv);

}  // namespace bench

#endif  // BN2D_BENCH_OPTIONS_H
