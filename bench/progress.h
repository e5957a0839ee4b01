// SPDX-License-Identifier: MIT
// How far the run is, on stderr: a bar on a terminal, else a plain line now and then.
#ifndef BN2D_BENCH_PROGRESS_H
#define BN2D_BENCH_PROGRESS_H

#include <chrono>
#include <cstddef>
#include <string>

namespace bench {

class Progress {
 public:
  explicit Progress(std::size_t total);
  ~Progress();
  /// Row number `done` (from 0) begins.
  void show(std::size_t done, const std::string &name);
  /// Takes the bar away, so that something can be printed.
  void hide();

 private:
  std::size_t total_;
  bool terminal_;
  std::size_t next_line_ = 0;  // without a terminal: when to say something again
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace bench

#endif  // BN2D_BENCH_PROGRESS_H
