// SPDX-License-Identifier: MIT
#include "traffic.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bench {
namespace {

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
}

template <int kReads, int kWrites, bool kStream>
Mover pick_width() {
  return __builtin_cpu_supports("avx2") ? kernel_avx2<kReads, kWrites, kStream>
                                        : kernel_base<kReads, kWrites, kStream>;
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

template <int kReads, int kWrites, bool kStream>
Mover pick_width() {
  return kernel_base<kReads, kWrites, kStream>;
}

#endif

template <bool kStream>
Mover pick_kernel(Traffic t) {
  if (t.writes == 2)
    return t.reads == 3 ? pick_width<3, 2, kStream>() : pick_width<2, 2, kStream>();
  if (t.reads == 3) return pick_width<3, 1, kStream>();
  if (t.reads == 2) return pick_width<2, 1, kStream>();
  return pick_width<1, 1, kStream>();
}

char *allocate(int64_t bytes) {
  auto *memory = static_cast<char *>(
      std::aligned_alloc(4096, static_cast<std::size_t>(bytes + 4095) / 4096 * 4096));
  if (!memory) throw std::bad_alloc();
  std::fill_n(memory, bytes, '\1');
  return memory;
}

}  // namespace

Loop::Loop(const Problem &p)
    : traffic(traffic_of(p.op, p.fuse)), bytes((p.bytes() + kLine - 1) / kLine * kLine) {
  const void *inputs[] = {p.t.x, is_backward(p.op) ? p.t.dy : p.t.z, p.t.y};
  for (int r = 0; r < traffic.reads; ++r) streams.in[r] = static_cast<const char *>(inputs[r]);
  for (int w = 0; w < traffic.writes; ++w) {
    own_.push_back(allocate(bytes));
    streams.out[w] = own_.back();
  }
}

Loop::~Loop() {
  for (char *memory : own_) std::free(memory);
}

int64_t l2_bytes() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  const int64_t bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (bytes > 0) return bytes;
#endif
  return 1 << 20;
}

bool stays_in_caches(const Problem &p) {
  // As the library does (src/parallel/plan.h): a residual and the y of an activation do not count,
  const Traffic traffic = traffic_of(p.op, Fuse::kNone);
  int64_t held = p.threads * std::min(16 * l2_bytes(), int64_t{8} << 20);
  // and a call that goes through its tensors once finds more.
  const bool once = p.op == Op::kEval || p.op == Op::kFrozenDx || p.op == Op::kGiven;
  if (once && p.layouts.x == Layout::kNchw)
    held = std::max(held, std::min(2 * held, int64_t{32} << 20));
  return (traffic.reads + traffic.writes) * p.bytes() < held;
}

Mover mover(Traffic traffic, bool streaming) {
  return streaming ? pick_kernel<true>(traffic) : pick_kernel<false>(traffic);
}

#if defined(__x86_64__)
bool can_stream() { return true; }
void fence() { _mm_sfence(); }
#else
bool can_stream() { return false; }
void fence() {}
#endif

void read_only(const Streams &streams, int reads, int64_t begin, int64_t end) {
  static std::atomic<uint64_t> sink{0};
  uint64_t all = 0;
  for (int r = 0; r < reads; ++r) {
    const auto *words = reinterpret_cast<const uint64_t *>(streams.in[r]);
    uint64_t lane[8] = {};
    for (int64_t i = begin / 8; i < end / 8; i += 8)
      for (int k = 0; k < 8; ++k) lane[k] ^= words[i + k];
    for (const uint64_t v : lane) all ^= v;
  }
  if (all == 0x9E3779B97F4A7C15u)
    sink.fetch_add(1, std::memory_order_relaxed);  // so that nothing is left out
}

}  // namespace bench
