// SPDX-License-Identifier: MIT
#include "limit.h"

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bench {
namespace {

constexpr int64_t kLine = 64;
constexpr int64_t kInlineBytes = 512 * 1024;  // above this one thread is never the fastest
constexpr int kMaxReads = 3;
constexpr int kMaxWrites = 2;

struct Streams {
  std::array<const char *, kMaxReads> in{};
  std::array<char *, kMaxWrites> out{};
};

/// Handles bytes [begin, end) of every stream; both are multiples of a cache line.
using Kernel = void (*)(const Streams &, int64_t begin, int64_t end);

#if defined(__x86_64__)

// The sources are combined with xor: it costs nothing, and no input is slower than another.
template <int kReads, int kWrites, bool kStream>
__attribute__((target("avx2"))) void kernel_avx2(const Streams &s, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i += kLine) {
    for (int64_t j = i; j < i + kLine; j += 32) {
      __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(s.in[0] + j));
      for (int r = 1; r < kReads; ++r)
        v = _mm256_xor_si256(v, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(s.in[r] + j)));
      for (int w = 0; w < kWrites; ++w) {
        auto *to = reinterpret_cast<__m256i *>(s.out[w] + j);
        kStream ? _mm256_stream_si256(to, v) : _mm256_store_si256(to, v);
      }
    }
  }
  if (kStream) _mm_sfence();
}

template <int kReads, int kWrites, bool kStream>
void kernel_base(const Streams &s, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i += kLine) {
    for (int64_t j = i; j < i + kLine; j += 16) {
      __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i *>(s.in[0] + j));
      for (int r = 1; r < kReads; ++r)
        v = _mm_xor_si128(v, _mm_loadu_si128(reinterpret_cast<const __m128i *>(s.in[r] + j)));
      for (int w = 0; w < kWrites; ++w) {
        auto *to = reinterpret_cast<__m128i *>(s.out[w] + j);
        kStream ? _mm_stream_si128(to, v) : _mm_store_si128(to, v);
      }
    }
  }
  if (kStream) _mm_sfence();
}

constexpr bool kCanStream = true;

template <int kReads, int kWrites, bool kStream>
Kernel pick_width() {
  return __builtin_cpu_supports("avx2") ? kernel_avx2<kReads, kWrites, kStream> : kernel_base<kReads, kWrites, kStream>;
}

#else

// The compiler vectorises this; there is no portable streaming store.
template <int kReads, int kWrites, bool kStream>
void kernel_base(const Streams &s, int64_t begin, int64_t end) {
  for (int64_t i = begin / 8; i < end / 8; ++i) {
    uint64_t v = reinterpret_cast<const uint64_t *>(s.in[0])[i];
    for (int r = 1; r < kReads; ++r) v ^= reinterpret_cast<const uint64_t *>(s.in[r])[i];
    for (int w = 0; w < kWrites; ++w) reinterpret_cast<uint64_t *>(s.out[w])[i] = v;
  }
}

constexpr bool kCanStream = false;

template <int kReads, int kWrites, bool kStream>
Kernel pick_width() {
  return kernel_base<kReads, kWrites, kStream>;
}

#endif

template <bool kStream>
Kernel pick_kernel(Traffic t) {
  if (t.writes == 2) return t.reads == 3 ? pick_width<3, 2, kStream>() : pick_width<2, 2, kStream>();
  if (t.reads == 3) return pick_width<3, 1, kStream>();
  if (t.reads == 2) return pick_width<2, 1, kStream>();
  return pick_width<1, 1, kStream>();
}

struct Free {
  void operator()(char *p) const { std::free(p); }
};
using Block = std::unique_ptr<char, Free>;

Block allocate(int64_t bytes) {
  auto *memory = static_cast<char *>(std::aligned_alloc(4096, static_cast<std::size_t>(bytes + 4095) / 4096 * 4096));
  if (!memory) throw std::bad_alloc();
  std::fill_n(memory, bytes, '\1');
  return Block(memory);
}

/// Sources are the problem's own inputs where it has enough of them, sinks are memory of the limit's own.
struct Loop {
  Streams streams;
  std::vector<Block> own;
  int64_t bytes = 0;

  explicit Loop(const Problem &p) : bytes((p.bytes() + kLine - 1) / kLine * kLine) {
    const Traffic traffic = traffic_of(p.op, p.fuse);
    const void *inputs[] = {p.t.x, is_backward(p.op) ? p.t.dy : p.t.z, p.t.y};
    for (int r = 0; r < traffic.reads; ++r) streams.in[r] = static_cast<const char *>(inputs[r]);
    for (int w = 0; w < traffic.writes; ++w) {
      own.push_back(allocate(bytes));
      streams.out[w] = own.back().get();
    }
  }
};

Variant parallel_variant(const char *name, std::shared_ptr<Loop> loop, Kernel kernel) {
  Variant variant;
  variant.name = name;
  variant.run = repeat([loop, kernel] {
    tbb::parallel_for(
        tbb::blocked_range<int64_t>(0, loop->bytes / kLine),
        [&](const tbb::blocked_range<int64_t> &r) { kernel(loop->streams, r.begin() * kLine, r.end() * kLine); },
        tbb::static_partitioner());
  });
  return variant;
}

Variant inline_variant(const char *name, std::shared_ptr<Loop> loop, Kernel kernel) {
  Variant variant;
  variant.name = name;
  variant.run = repeat([loop, kernel] { kernel(loop->streams, 0, loop->bytes); });
  return variant;
}

}  // namespace

std::vector<Variant> limit_variants(const Problem &problem) {
  const auto loop = std::make_shared<Loop>(problem);
  const Traffic traffic = traffic_of(problem.op, problem.fuse);
  const Kernel plain = pick_kernel<false>(traffic);
  std::vector<Variant> variants{parallel_variant("limit, ordinary stores", loop, plain)};
  if (kCanStream) variants.push_back(parallel_variant("limit, streaming stores", loop, pick_kernel<true>(traffic)));
  if (loop->bytes <= kInlineBytes) variants.push_back(inline_variant("limit, one thread", loop, plain));
  return variants;
}

void read_once(const void *data, int64_t bytes) {
  static std::atomic<uint64_t> sink{0};
  const auto *words = static_cast<const uint64_t *>(data);
  tbb::parallel_for(
      tbb::blocked_range<int64_t>(0, bytes / 64),
      [&](const tbb::blocked_range<int64_t> &r) {
        uint64_t lane[8] = {};
        for (int64_t i = r.begin(); i < r.end(); ++i)
          for (int k = 0; k < 8; ++k) lane[k] ^= words[i * 8 + k];
        uint64_t all = 0;
        for (uint64_t v : lane) all ^= v;
        sink.fetch_xor(all, std::memory_order_relaxed);
      },
      tbb::static_partitioner());
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
