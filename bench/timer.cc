// SPDX-License-Identifier: MIT
#include "timer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <optional>
#include <random>
#include <thread>

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double time_calls(const Variant &variant, int64_t calls) {
  const auto start = Clock::now();
  variant.run(calls);
  return seconds_since(start);
}

/// A sample should be long enough for the clock, for one fork and join, and for a CPU that slept
/// before it not to matter.
constexpr double kSampleSeconds = 1e-3;
/// A shorter call is made once before it is timed: whoever takes several calls in a sample would
/// find in the caches what the one before evicted, and a slower one would not. Data of a longer
/// call do not stay there anyway.
constexpr double kWarmSeconds = 2e-3;
/// Longer than idle workers spin (see peers.cc, which shortens the spinning of OpenMP).
constexpr auto kFallAsleep = std::chrono::microseconds(1500);

struct Contender {
  const Variant *variant = nullptr;
  int64_t calls = 1;   // per sample
  int64_t period = 1;  // takes part in every period-th round
  bool warm = false;   // one call more, before the sample
  std::vector<double> samples;
};

/// Seconds of a call, after as many calls as it takes to fill about a sample.
double calibrate(const Variant &variant) {
  double seconds = time_calls(variant, 1);
  for (int64_t calls = 1; calls <= (int64_t{1} << 24); calls *= 2) {
    const double total = time_calls(variant, calls);
    seconds = total / static_cast<double>(calls);
    if (total > kSampleSeconds / 2) break;
  }
  return seconds;
}

std::vector<Contender> prepare(const std::vector<Variant> &variants) {
  std::vector<Contender> contenders;
  std::vector<double> call_seconds;
  for (const Variant &variant : variants) {
    if (!variant.run) continue;
    const double seconds = calibrate(variant);
    Contender contender;
    contender.variant = &variant;
    contender.calls = std::max<int64_t>(1, std::llround(kSampleSeconds / seconds));
    contender.warm = seconds < kWarmSeconds;
    contenders.push_back(contender);
    call_seconds.push_back(seconds);
  }
  const double fastest =
      call_seconds.empty() ? 1 : *std::min_element(call_seconds.begin(), call_seconds.end());
  for (std::size_t i = 0; i < contenders.size(); ++i) {
    const double sample =
        std::max(kSampleSeconds, call_seconds[i]) / std::max(kSampleSeconds, fastest);
    contenders[i].period = std::clamp<int64_t>(std::llround(sample / 4), 1, 4);
  }
  return contenders;
}

/// Takes the samples, one round after another.
class Rounds {
 public:
  Rounds(std::vector<Contender> *all, const TimerOptions &options)
      : all_(*all), random_(options.seed), wake_(options.wake) {}

  /// One sample of everybody whose turn it is. Shuffled: nobody always follows the same one.
  void take(int64_t round) {
    std::vector<Contender *> turn;
    for (Contender &c : all_)
      if (round % c.period == 0) turn.push_back(&c);
    std::shuffle(turn.begin(), turn.end(), random_);
    for (Contender *c : turn) {
      pass_to(c->variant->runtime);
      if (c->warm) c->variant->run(1);
      c->samples.push_back(1e6 * time_calls(*c->variant, c->calls) / static_cast<double>(c->calls));
    }
  }

 private:
  void pass_to(Runtime runtime) {
    if (running_ == runtime) return;
    running_ = runtime;
    std::this_thread::sleep_for(kFallAsleep);
    wake_(runtime);
  }

  std::vector<Contender> &all_;
  std::mt19937 random_;
  const std::function<void(Runtime)> &wake_;
  std::optional<Runtime> running_;
};

double quantile(const std::vector<double> &sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

Timing summarise(Contender contender) {
  Timing timing;
  timing.in_rounds = contender.samples;
  std::sort(contender.samples.begin(), contender.samples.end());
  timing.name = contender.variant->name;
  timing.family = contender.variant->family;
  timing.note = contender.variant->note;
  timing.ran = true;
  timing.median = quantile(contender.samples, 0.5);
  timing.quartile1 = quantile(contender.samples, 0.25);
  timing.quartile3 = quantile(contender.samples, 0.75);
  timing.fastest = contender.samples.front();
  timing.samples = static_cast<int64_t>(contender.samples.size());
  timing.calls = contender.calls;
  return timing;
}

}  // namespace

double median_ratio(const Timing &a, const Timing &b) {
  if (a.in_rounds.size() != b.in_rounds.size()) return a.median / b.median;
  std::vector<double> ratios(a.in_rounds.size());
  std::transform(a.in_rounds.begin(), a.in_rounds.end(), b.in_rounds.begin(), ratios.begin(),
                 std::divides<>());
  std::sort(ratios.begin(), ratios.end());
  return quantile(ratios, 0.5);
}

std::vector<Timing> time_alternately(const std::vector<Variant> &variants,
                                     const TimerOptions &options) {
  const auto start = Clock::now();
  std::vector<Contender> contenders = prepare(variants);
  Rounds rounds(&contenders, options);
  for (int64_t round = 0; round < options.max_samples; ++round) {
    if (round >= options.min_samples && seconds_since(start) > options.budget_seconds) break;
    rounds.take(round);
  }
  std::vector<Timing> timings;
  for (Contender &contender : contenders) timings.push_back(summarise(std::move(contender)));
  for (const Variant &variant : variants) {
    if (variant.run) continue;
    Timing timing;
    timing.name = variant.name;
    timing.note = variant.note;
    timings.push_back(timing);
  }
  return timings;
}

}  // namespace bench
