// SPDX-License-Identifier: MIT
// Times several variants of one thing alternately in one process, so that whatever disturbs the
// machine disturbs all.
#ifndef BN2D_BENCH_TIMER_H
#define BN2D_BENCH_TIMER_H

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "variant.h"

namespace bench {

/// Times of one call in microseconds.
struct Timing {
  std::string name, family;
  std::string note;  ///< implementation, or why it did not run
  bool ran = false;
  double median = 0, quartile1 = 0, quartile3 = 0, fastest = 0;
  int64_t samples = 0;
  int64_t calls = 0;              ///< per sample
  std::vector<double> in_rounds;  ///< the samples, in the order of the rounds
};

/// The median over the rounds of a's time over b's: closer than the ratio of their medians where a
/// machine has fast and slow minutes. That of the medians where one of them was left out of some
/// rounds.
double median_ratio(const Timing &a, const Timing &b);

struct TimerOptions {
  double budget_seconds = 1.5;
  int64_t max_samples = 61;
  int64_t min_samples = 5;
  unsigned seed = 1;  ///< of the order
  /// Called where the turn goes to a variant of another runtime.
  std::function<void(Runtime)> wake = [](Runtime) {};
};

/// Times every variant that can run. A round takes one sample of each, in an order that is shuffled
/// for each round: what ran before leaves its caches behind (the same loop took 184 or 298 us after
/// one that streams and one that does not). A variant that is much slower than the fastest is left
/// out of some rounds, so that the rest gets more samples. Between variants of different runtimes
/// there is a pause in which idle workers fall asleep.
std::vector<Timing> time_alternately(const std::vector<Variant> &variants,
                                     const TimerOptions &options);

}  // namespace bench

#endif  // BN2D_BENCH_TIMER_H
