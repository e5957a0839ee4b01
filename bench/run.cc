// SPDX-License-Identifier: MIT
#include "run.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>

#include "limit.h"
#include "ours.h"
#include "two_passes.h"

namespace bench {
namespace {

Problem problem_of(const Row &row, const Shape &shape, const Layouts &layouts, int threads) {
  return {row.op, row.fuse, row.dtype, layouts, shape, threads, {}, row.groups};
}

/// What the variant computes, at a few thousand places.
std::vector<double> result_of(const Variant &variant, const Problem &p) {
  spoil_sample(p.output(), p.dtype, p.output_size());
  variant.run(1);
  if (variant.fetch) variant.fetch();
  return sample(p.output(), p.dtype, p.output_size());
}

double largest_difference(const std::vector<double> &a, const std::vector<double> &b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(a[i] - b[i]) / std::max(1.0, std::fabs(b[i]));
    if (std::isnan(difference)) return difference;
    largest = std::max(largest, difference);
  }
  return largest;
}

/// A difference that rounding cannot explain: the peer was asked for something else.
constexpr double kSomethingElse = 0.1;

std::string difference_text(double difference) {
  char text[80];
  std::snprintf(text, sizeof text, "its result differs by %.2g", difference);
  return text;
}

/// Empty, or why the peer cannot be compared with; one that is merely inexact only gets a remark.
std::string fault_of(Variant *peer, const std::vector<double> &expected, const Problem &p) {
  double difference = 0;
  try {
    difference = largest_difference(result_of(*peer, p), expected);
  } catch (const std::exception &e) {
    return e.what();
  }
  if (difference <= tolerance_of(p.dtype)) return "";
  const std::string remark = difference_text(difference);
  if (!(difference <= kSomethingElse)) return remark;
  peer->note += (peer->note.empty() ? "" : "; ") + remark;
  return "";
}

/// A peer that fails or computes something else is not compared with.
void check_results(std::vector<Variant> *peers, const Variant &ours, const Problem &p) {
  if (p.shape.size() == 0) return;
  const std::vector<double> expected = result_of(ours, p);
  for (Variant &peer : *peers) {
    if (!peer.run) continue;
    const std::string fault = fault_of(&peer, expected, p);
    if (!fault.empty()) peer = missing(peer.name, fault);
  }
}

std::vector<Variant> peer_variants(const Problem &problem, const std::vector<LoadedPeer> &peers) {
  std::vector<Variant> all;
  for (const LoadedPeer &loaded : peers) {
    if (!loaded.peer) {
      all.push_back(missing(loaded.name, loaded.note));
      continue;
    }
    for (Variant &variant : loaded.peer->variants(problem)) all.push_back(std::move(variant));
  }
  return all;
}

Variant call_variant(const Row &row) {
  return row.name == "call/getter" ? ours_getter(kOurs) : ours_empty_forward(kOurs);
}

Variant our_variant(const Row &row, const Problem &problem, const char *name,
                    const Library &library) {
  if (row.record) return ours_recording(problem, name, library);
  return row.op == Op::kGradients ? ours_gradients(problem, name, library)
                                  : ours(problem, name, library);
}

bool are_same_bits(const std::vector<double> &a, const std::vector<double> &b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

/// The same call of another build; it may lack what the row is about. Its note says whether the
/// bits of its result are ours, where a call has one.
Variant other_variant(const Row &row, const Problem &problem, const Variant &ours,
                      const Library &library) {
  try {
    Variant other = our_variant(row, problem, kOursOther, library);
    if (row.record || problem.shape.size() == 0) return other;
    const std::vector<double> theirs = result_of(other, problem), own = result_of(ours, problem);
    other.note = are_same_bits(theirs, own) ? kSameResults
                                            : difference_text(largest_difference(theirs, own));
    return other;
  } catch (const std::exception &e) {
    return missing(kOursOther, e.what());
  }
}

void append(std::vector<Variant> *to, std::vector<Variant> more) {
  std::move(more.begin(), more.end(), std::back_inserter(*to));
}

const char *twin_name(Group group) {
  if (group == Group::kFewChannels) return kOursTwin;
  if (group == Group::kMixed) return kOursAgreeing;
  if (group == Group::kBlocked) return kOursNhwc;
  if (group == Group::kBorder) return kOursDense;
  return has_best_description(group) ? kOursBest : nullptr;
}

Problem changed(Problem problem, Op op, Fuse fuse) {
  problem.op = op;
  problem.fuse = fuse;
  return problem;
}

/// The contestants of a row. `twin` is the problem of the twin, with memory, for the rows that have
/// one.
std::vector<Variant> contestants(const Row &row, const Problem &problem, const Problem &twin,
                                 const std::vector<LoadedPeer> &peers, const Library *other_build) {
  if (row.group == Group::kCall) return {call_variant(row)};
  if (row.group == Group::kConsumer) return ours_with_consumer(problem);
  std::vector<Variant> all{our_variant(row, problem, kOurs, kLinked)};
  if (other_build) all.push_back(other_variant(row, problem, all.front(), *other_build));
  if (row.group == Group::kExtreme) {
    all.push_back(ours(twin, kOursInRange));
    return all;
  }
  if (row.group == Group::kGiven) {
    append(&all, limit_variants(problem));
    all.push_back(ours(changed(problem, Op::kEval, row.fuse), kOursEval));
    return all;
  }
  std::vector<Variant> others = peer_variants(problem, peers);
  check_results(&others, all.front(), problem);
  append(&all, limit_variants(problem));
  if (problem.groups == 0) append(&all, two_passes_variants(problem));
  if (const char *const name = twin_name(row.group)) all.push_back(ours(twin, name));
  if (row.group == Group::kActivations)
    all.push_back(ours(changed(problem, row.op, Fuse::kRelu), kOursRelu));
  append(&all, std::move(others));
  return all;
}

/// A target holds if two of our variants differ by no more than a few percent: their medians have
/// to be that exact.
constexpr int64_t kConsumerSamples = 401;

TimerOptions timer_options(const Row &row, const std::vector<LoadedPeer> &peers,
                           const RunOptions &options) {
  TimerOptions timer;
  timer.budget_seconds = options.budget_seconds;
  if (row.group == Group::kConsumer) timer.max_samples = kConsumerSamples;
  if (options.once) timer.max_samples = 1;
  timer.seed = options.seed;
  timer.wake = [threads = options.threads, &peers](Runtime runtime) {
    if (runtime == Runtime::kTbb) return wake_tbb(threads);
    for (const LoadedPeer &loaded : peers)
      if (loaded.peer) loaded.peer->wake();
  };
  return timer;
}

}  // namespace

RowResult run_row(const Row &row, const std::vector<LoadedPeer> &peers, const RunOptions &options) {
  RowResult result{row, {}, ""};
  try {
    Memory memory;
    Problem problem = problem_of(row, row.shape, row.layouts, options.threads);
    Problem twin = problem_of(row, row.twin, row.twin_layout, options.threads);
    problem.extreme = row.group == Group::kExtreme;
    if (row.group != Group::kCall)
      memory.provide(&problem, row.group == Group::kMisaligned ? 16 : 0);
    if (row.group == Group::kFewChannels || row.group == Group::kExtreme) memory.provide(&twin, 0);
    if (twin_shares_memory(row.group)) twin.t = problem.t;
    const std::vector<Variant> variants =
        contestants(row, problem, twin, peers, options.other_build);
    result.timings = time_alternately(variants, timer_options(row, peers, options));
  } catch (const std::exception &e) {
    result.error = e.what();
  }
  return result;
}

}  // namespace bench
