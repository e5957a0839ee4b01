// SPDX-License-Identifier: MIT
// A build of bn2d: the one that this program is linked to, or another one in a file. The benchmark
// calls both through the same table, so that two builds are timed in one process.
#ifndef BN2D_BENCH_LIBRARY_H
#define BN2D_BENCH_LIBRARY_H

#include <cstdint>
#include <string>

#include "bn2d/bn2d.h"

namespace bench {

/// What the benchmark calls in both builds: bn2d_<name>.
#define BN2D_BENCH_FUNCTIONS(X)                                                                   \
  X(backward)                                                                                     \
  X(backward_f32)                                                                                 \
  X(backward_f64) X(batch_norm_backward) X(batch_norm_forward) X(forward) X(forward_act)          \
      X(forward_f32) X(forward_f64) X(forward_with_statistics) X(group_norm_create) X(last_error) \
          X(module_create) X(module_is_training) X(module_release) X(module_tensor_by_name)       \
              X(module_train) X(options_create) X(options_release) X(options_set_dtype)           \
                  X(record_release) X(set_streaming_threshold) X(statistics_accumulate)           \
                      X(statistics_create) X(statistics_release) X(tensor_release)                \
                          X(tensor_set_requires_grad) X(version_string)

struct Library {
#define X(name) decltype(&bn2d_##name) name;
  BN2D_BENCH_FUNCTIONS(X)
#undef X

  /// Throws with this build's message unless the status is BN2D_OK.
  void check(int32_t status) const;
};

/// The build that the program is linked to.
extern const Library kLinked;

/// The build in that file, which stays loaded until the process ends. Throws std::runtime_error
/// where there is none, or where it lacks a function.
Library load_library(const std::string &path);

}  // namespace bench

#endif  // BN2D_BENCH_LIBRARY_H
