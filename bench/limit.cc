// SPDX-License-Identifier: MIT
#include "limit.h"

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>

#include <chrono>
#include <memory>

#include "traffic.h"

namespace bench {
namespace {

constexpr int64_t kInlineBytes = 512 * 1024;  // above this one thread is never the fastest

Variant parallel_variant(const char *name, const std::shared_ptr<Loop> &loop, bool streaming) {
  Variant variant;
  variant.name = name;
  variant.run = repeat([loop, streaming, move = mover(loop->traffic, streaming)] {
    tbb::parallel_for(
        tbb::blocked_range<int64_t>(0, loop->bytes / kLine),
        [&](const tbb::blocked_range<int64_t> &r) {
          move(loop->streams, r.begin() * kLine, r.end() * kLine);
          if (streaming) fence();
        },
        tbb::static_partitioner());
  });
  return variant;
}

void read_on_all_threads(const Streams &streams, int reads, int64_t bytes) {
  tbb::parallel_for(
      tbb::blocked_range<int64_t>(0, bytes / kLine),
      [&](const tbb::blocked_range<int64_t> &r) {
        read_only(streams, reads, r.begin() * kLine, r.end() * kLine);
      },
      tbb::static_partitioner());
}

Variant reading_variant(const char *name, const std::shared_ptr<Loop> &loop) {
  Variant variant;
  variant.name = name;
  variant.run =
      repeat([loop] { read_on_all_threads(loop->streams, loop->traffic.reads, loop->bytes); });
  return variant;
}

Variant inline_variant(const char *name, const std::shared_ptr<Loop> &loop) {
  Variant variant;
  variant.name = name;
  variant.run =
      repeat([loop, move = mover(loop->traffic, false)] { move(loop->streams, 0, loop->bytes); });
  return variant;
}

}  // namespace

std::vector<Variant> limit_variants(const Problem &problem) {
  const auto loop = std::make_shared<Loop>(problem);
  if (loop->traffic.writes == 0) return {reading_variant("limit, no stores", loop)};
  std::vector<Variant> variants{parallel_variant("limit, ordinary stores", loop, false)};
  if (can_stream() && !stays_in_caches(problem))
    variants.push_back(parallel_variant("limit, streaming stores", loop, true));
  if (loop->bytes <= kInlineBytes) variants.push_back(inline_variant("limit, one thread", loop));
  return variants;
}

void read_once(const void *data, int64_t bytes) {
  Streams streams;
  streams.in[0] = static_cast<const char *>(data);
  read_on_all_threads(streams, 1, bytes);
}

void wake_tbb(int threads) {
  tbb::parallel_for(
      0, threads,
      [](int) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(30);
        while (std::chrono::steady_clock::now() < end) {
        }
      },
      tbb::static_partitioner());
}

}  // namespace bench
