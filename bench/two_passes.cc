// SPDX-License-Identifier: MIT
#include "two_passes.h"

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "traffic.h"

namespace bench {
namespace {

constexpr int64_t kSmallest =
    1 << 20;  // bytes of a tensor below which the caches hide the second pass

/// Calls f(begin, end) on all threads for the bytes of the tensor.
template <class F>
void for_all_bytes(const Loop &loop, const F &f) {
  tbb::parallel_for(
      tbb::blocked_range<int64_t>(0, loop.bytes / kLine),
      [&](const tbb::blocked_range<int64_t> &r) { f(r.begin() * kLine, r.end() * kLine); },
      tbb::static_partitioner());
}

std::function<void(int64_t)> whole_tensor(const std::shared_ptr<Loop> &loop, bool streaming) {
  return repeat([loop, streaming, move = mover(loop->traffic, streaming)] {
    for_all_bytes(*loop, [&](int64_t begin, int64_t end) {
      read_only(loop->streams, loop->traffic.reads, begin, end);
    });
    for_all_bytes(*loop, [&](int64_t begin, int64_t end) {
      move(loop->streams, begin, end);
      if (streaming) fence();
    });
  });
}

std::function<void(int64_t)> channel_groups(const Problem &problem,
                                            const std::shared_ptr<Loop> &loop, bool streaming) {
  const Shape shape = problem.shape;
  const int64_t plane = shape.h * shape.w * static_cast<int64_t>(element_size(problem.dtype));
  const int64_t channel = shape.n * plane * loop->traffic.reads;
  const int64_t group = std::clamp(l2_bytes() / 4 / channel, int64_t{1}, shape.c);
  return repeat([=, move = mover(loop->traffic, streaming)] {
    const auto for_samples = [&](int64_t first, const auto &f) {
      const int64_t last = std::min(first + group, shape.c);
      const auto line = [&](int64_t n, int64_t c) {
        return (n * shape.c + c) * plane / kLine * kLine;
      };
      for (int64_t n = 0; n < shape.n; ++n) f(line(n, first), line(n, last));
    };
    tbb::parallel_for(
        tbb::blocked_range<int64_t>(0, (shape.c + group - 1) / group),
        [&](const tbb::blocked_range<int64_t> &r) {
          for (int64_t g = r.begin(); g < r.end(); ++g) {
            for_samples(g * group, [&](int64_t begin, int64_t end) {
              read_only(loop->streams, loop->traffic.reads, begin, end);
            });
            for_samples(g * group,
                        [&](int64_t begin, int64_t end) { move(loop->streams, begin, end); });
          }
          if (streaming) fence();
        },
        tbb::static_partitioner());
  });
}

}  // namespace

std::vector<Variant> two_passes_variants(const Problem &problem) {
  const bool has_sums = problem.op == Op::kTrain || problem.op == Op::kBackward;
  if (!has_sums || problem.bytes() < kSmallest) return {};
  const auto loop = std::make_shared<Loop>(problem);
  const bool streaming = can_stream() && !stays_in_caches(problem);
  Variant variant;
  variant.name = kTwoPasses;
  const bool by_channel =
      problem.layouts.are(Layout::kNchw) && problem.shape.c >= 4 * problem.threads;
  variant.run =
      by_channel ? channel_groups(problem, loop, streaming) : whole_tensor(loop, streaming);
  return {variant};
}

}  // namespace bench
