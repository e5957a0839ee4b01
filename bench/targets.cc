// SPDX-License-Identifier: MIT
#include "targets.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <optional>

#include "ours.h"

namespace bench {
namespace {

using Results = std::vector<RowResult>;
using Filter = std::function<bool(const Row &)>;
using Measure = std::function<std::optional<double>(const RowResult &)>;

std::string format(const char *pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}

/// The values of all rows that count for a target.
struct Values {
  std::vector<double> all;
  double worst = 0;
  std::string worst_name;
};

/// `higher_is_worse`: which end is the worst one.
Values collect(const Results &results, const Filter &counts, const Measure &measure,
               bool higher_is_worse = true) {
  Values values;
  for (const RowResult &result : results) {
    if (!counts(result.row)) continue;
    const std::optional<double> value = measure(result);
    if (!value) continue;
    const bool worse = higher_is_worse ? *value > values.worst : *value < values.worst;
    if (values.all.empty() || worse) {
      values.worst = *value;
      values.worst_name = result.row.name;
    }
    values.all.push_back(*value);
  }
  return values;
}

std::string rows_text(const Values &values) {
  return std::to_string(values.all.size()) + (values.all.size() == 1 ? " row" : " rows");
}

Target not_measured(const std::string &what, const std::string &bound) {
  return {what, bound, "not measured", Verdict::kNotMeasured};
}

Verdict verdict(bool holds) { return holds ? Verdict::kHolds : Verdict::kMissed; }

constexpr double kNoBound = INFINITY;

/// R, our time over the limit's: its geometric mean and its worst.
Target ratio_target(const Results &results, const std::string &what, double mean_bound,
                    double worst_bound, const Filter &counts) {
  std::string bound = format("R geomean <= %.2f", mean_bound);
  if (worst_bound < kNoBound) bound += format(", worst <= %.2f", worst_bound);
  const Values values = collect(results, counts, [](const RowResult &r) { return r.ratio(); });
  if (values.all.empty()) return not_measured(what, bound);
  const double mean = geometric_mean(values.all);
  const std::string measured = format("geomean %.2f", mean) + format(", worst %.2f", values.worst) +
                               " (" + values.worst_name + "), " + rows_text(values);
  return {what, bound, measured, verdict(mean <= mean_bound && values.worst <= worst_bound)};
}

Target worst_target(const Results &results, const std::string &what, const std::string &unit,
                    double worst_bound, const Filter &counts, const Measure &measure) {
  const std::string bound = format("<= %.3g", worst_bound) + unit;
  const Values values = collect(results, counts, measure);
  if (values.all.empty()) return not_measured(what, bound);
  const std::string measured = format("worst %.3g", values.worst) + unit + " (" +
                               values.worst_name + "), " + rows_text(values);
  return {what, bound, measured, verdict(values.worst <= worst_bound)};
}

/// The time of a family of peers over ours, its geometric mean; in each row that of its fastest
/// version.
Target speedup_target(const Results &results, const std::string &family, double bound_value,
                      const Filter &counts) {
  const std::string what = "against " + family + ", ResNet-50 shapes, batch 32";
  const std::string bound = format("geomean >= %.1fx", bound_value);
  const Values values = collect(
      results, counts,
      [&](const RowResult &r) -> std::optional<double> {
        const Timing *other = r.fastest_of(family);
        if (!other || !r.ours()) return std::nullopt;
        return r.over_ours(*other);
      },
      false);
  if (values.all.empty()) return not_measured(what, bound);
  const double mean = geometric_mean(values.all);
  const std::string measured = format("geomean %.2fx", mean) +
                               format(", least %.2fx", values.worst) + " (" + values.worst_name +
                               "), " + rows_text(values);
  return {what, bound, measured, verdict(mean >= bound_value)};
}

std::optional<double> fastest_peer_speedup(const RowResult &result) {
  const Timing *const peer = result.fastest_peer();
  if (!peer || !result.ours()) return std::nullopt;
  return result.over_ours(*peer);
}

Target ahead_target(const Results &results) {
  const std::string what = "ahead of the fastest peer, every row", bound = "every row > 1x";
  const Values values = collect(
      results, [](const Row &) { return true; }, fastest_peer_speedup, false);
  if (values.all.empty()) return not_measured(what, bound);
  const auto behind =
      std::count_if(values.all.begin(), values.all.end(), [](double v) { return v <= 1; });
  const std::string measured = format("least %.2fx", values.worst) + " (" + values.worst_name +
                               "), behind in " + std::to_string(behind) + " of " +
                               rows_text(values);
  return {what, bound, measured, verdict(behind == 0)};
}

std::optional<double> ours_over(const RowResult &result, const std::string &name) {
  const Timing *other = result.find(name);
  if (!other || !result.ours()) return std::nullopt;
  return median_ratio(*result.ours(), *other);
}

std::optional<double> ours_over_best_stores(const RowResult &result) {
  const Timing *streaming = result.find(kOursStreaming), *ordinary = result.find(kOursOrdinary);
  if (!result.ours() || !streaming || !ordinary) return std::nullopt;
  return std::max(median_ratio(*result.ours(), *streaming),
                  median_ratio(*result.ours(), *ordinary));
}

std::optional<double> ours_us(const RowResult &result) {
  if (!result.ours()) return std::nullopt;
  return result.ours()->median;
}

/// Batch 1 has targets of its own, where it has any.
Filter group_and_op(Group group, Op op) {
  return [=](const Row &row) { return row.group == group && row.op == op && row.shape.n > 1; };
}

Filter batch1(Op op) {
  return [=](const Row &row) { return row.group == Group::kResnet1 && row.op == op; };
}

Filter smallest(Op op) {
  return [=](const Row &row) {
    return row.group == Group::kSmall && row.op == op && row.shape.c == 16 && !row.record;
  };
}

Target number_target(const std::string &what, const std::string &bound,
                     const std::optional<double> &value, const char *pattern, double most) {
  if (!value) return not_measured(what, bound);
  return {what, bound, format(pattern, *value), verdict(*value <= most)};
}

void judge_ratios(const Results &r, std::vector<Target> *out) {
  const auto add = [&](const std::string &what, double mean, double worst, const Filter &counts) {
    out->push_back(ratio_target(r, what, mean, worst, counts));
  };
  const std::string shapes = ", ResNet-50 shapes, batch 32";
  add("training forward" + shapes, 1.40, 1.8, group_and_op(Group::kResnet32, Op::kTrain));
  add("backward" + shapes, 1.30, 1.8, group_and_op(Group::kResnet32, Op::kBackward));
  add("eval forward" + shapes, 0.95, 1.3, group_and_op(Group::kResnet32, Op::kEval));
  add("frozen backward, dx only" + shapes, 0.95, 1.3,
      group_and_op(Group::kResnet32, Op::kFrozenDx));
  add("training forward, batch 1", 1.6, 3, batch1(Op::kTrain));
  add("backward, batch 1", 1.5, 3, batch1(Op::kBackward));
  add("eval forward, batch 1", 1.2, 3, batch1(Op::kEval));
  add("fused relu, add+relu: training", 1.40, 1.8, group_and_op(Group::kFused, Op::kTrain));
  add("fused relu, add+relu: backward", 1.30, 1.8, group_and_op(Group::kFused, Op::kBackward));
  add("fused relu, add+relu: eval", 0.95, 1.3, group_and_op(Group::kFused, Op::kEval));
  add("f16, bf16: training", 1.35, kNoBound, group_and_op(Group::kHalf, Op::kTrain));
  add("f16, bf16: backward", 1.35, kNoBound, group_and_op(Group::kHalf, Op::kBackward));
  add("f16, bf16: eval", 1.05, kNoBound, group_and_op(Group::kHalf, Op::kEval));
  add("f64", 1.35, kNoBound, [](const Row &row) { return row.group == Group::kDouble; });
  add("NHWC training", 1.6, kNoBound, group_and_op(Group::kNhwc, Op::kTrain));
  add("NHWC backward", 1.6, kNoBound, group_and_op(Group::kNhwc, Op::kBackward));
  add("NHWC eval", 1.0, kNoBound, group_and_op(Group::kNhwc, Op::kEval));
  add("small planes: training", 2.0, kNoBound, group_and_op(Group::kSmallPlanes, Op::kTrain));
  add("small planes: backward", 2.0, kNoBound, group_and_op(Group::kSmallPlanes, Op::kBackward));
  add("small planes: eval", 1.4, kNoBound, group_and_op(Group::kSmallPlanes, Op::kEval));
}

/// Without an exponential they cost a few instructions, which the memory hides; at batch 1 there is
/// nothing that hides them.
bool clamping(const Row &row) {
  const bool cheap =
      row.fuse == Fuse::kRelu6 || row.fuse == Fuse::kClamp || row.fuse == Fuse::kHardswish;
  return row.group == Group::kActivations && cheap && row.shape.n == 32;
}

void judge_times(const Results &r, std::vector<Target> *out) {
  out->push_back(worst_target(
      r, "fewer channels than threads, against the same bytes in many channels", "x", 1.10,
      [](const Row &row) { return row.group == Group::kFewChannels; },
      [](const RowResult &result) { return ours_over(result, kOursTwin); }));
  out->push_back(worst_target(
      r, "any contiguous shape, against the best description of the same memory", "x", 1.3,
      [](const Row &row) { return has_best_description(row.group); },
      [](const RowResult &result) { return ours_over(result, kOursBest); }));
  out->push_back(worst_target(
      r, "tensors of one call in different layouts, against agreeing ones", "x", 3,
      [](const Row &row) { return row.group == Group::kMixed; },
      [](const RowResult &result) { return ours_over(result, kOursAgreeing); }));
  out->push_back(worst_target(
      r, "blocks of channels, against channels last", "x", 1.5,
      [](const Row &row) { return row.group == Group::kBlocked; },
      [](const RowResult &result) { return ours_over(result, kOursNhwc); }));
  out->push_back(
      worst_target(r, "relu6, clamp, hardswish, against relu, batch 32", "x", 1.10, clamping,
                   [](const RowResult &result) { return ours_over(result, kOursRelu); }));
  out->push_back(worst_target(
      r, "forward with given statistics, against eval mode, batch 32", "x", 1.10,
      [](const Row &row) { return row.group == Group::kGiven && row.shape.n == 32; },
      [](const RowResult &result) { return ours_over(result, kOursEval); }));
  out->push_back(worst_target(r, "(1,16,8,8) training", " us", 0.5, smallest(Op::kTrain), ours_us));
  out->push_back(worst_target(r, "(1,16,8,8) eval", " us", 0.2, smallest(Op::kEval), ours_us));
  out->push_back(worst_target(
      r, "forward + one read, against the better of streaming and ordinary stores", "x", 1.05,
      [](const Row &row) { return row.group == Group::kConsumer; }, ours_over_best_stores));
}

void judge_peers(const Results &r, std::vector<Target> *out) {
  const Filter resnet = [](const Row &row) {
    return row.group == Group::kResnet32 && row.op != Op::kFrozenDx;
  };
  out->push_back(ahead_target(r));
  out->push_back(speedup_target(r, "oneDNN plain", 4, resnet));
  out->push_back(speedup_target(r, "oneDNN blocked", 1.3, resnet));
  out->push_back(speedup_target(r, "PyTorch", 4, resnet));
}

void judge_memory(const MemoryChecks &m, std::vector<Target> *out) {
  out->push_back(number_target("(1,16,8,8) training, eval, backward: heap allocations per call",
                               "0", m.small_allocations, "%.3g", 0));
  out->push_back(number_target("(32,64,56,56): heap allocations per call", "0", m.large_allocations,
                               "%.3g", 0));
  out->push_back(number_target("(32,64,56,56), 24.5 MiB a tensor: scratch", "<= 1024 KiB",
                               m.scratch_kib, "%.0f KiB", 1024));
  out->push_back(number_target("peak memory over a million small calls", "grows <= 64 KiB",
                               m.growth_kib, "%.0f KiB", 64));
  const auto kib =
      m.stripped_bytes ? std::optional<double>(*m.stripped_bytes / 1024) : std::nullopt;
  out->push_back(number_target("library, stripped", "<= 1024 KiB", kib, "%.0f KiB", 1024));
  out->push_back(number_target("dlopen in a fresh process", "<= 5 ms", m.load_ms, "%.2f ms", 5));
  out->push_back(
      number_target("threads started by loading the library", "0", m.load_threads, "%.0f", 0));
}

}  // namespace

double geometric_mean(const std::vector<double> &values) {
  double sum = 0;
  for (const double v : values) sum += std::log(v);
  return std::exp(sum / static_cast<double>(values.size()));
}

std::vector<Target> judge(const std::vector<RowResult> &results, const MemoryChecks &memory) {
  std::vector<Target> targets;
  judge_ratios(results, &targets);
  judge_times(results, &targets);
  judge_peers(results, &targets);
  judge_memory(memory, &targets);
  return targets;
}

}  // namespace bench
