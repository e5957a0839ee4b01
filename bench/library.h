// SPDX-License-Identifier: MIT
// A build of bn2d: the one that this program is linked to, or another one in a file. The benchmark
// calls both through the same table, so that two builds are timed in one process.
#ifndef BN2D_BENCH_LIBRARY_H
#define BN2D_BENCH_LIBRARY_H

#include <cstdint>
#include <string>

#include "bn2d/bn2d.h"

namespace bench {

struct Library {
#define X(name) decltype(&bn2d_##name) name;
#include "library.inc"
#undef X

  /// Throws with this build's message unless the status is BN2D_OK.
  void check(int32_t status) const;
};

/// The build that the program is linked to.
extern const Library kLinked;

/// The build in that file, 1.3 or later, which stays loaded until the process ends. Throws
/// std::invalid_argument where there is none, where it lacks a function, or where it is the build
/// that the program is linked to.
Library load_library(const std::string &path);

}  // namespace bench

#endif  // BN2D_BENCH_LIBRARY_H
