// SPDX-License-Identifier: MIT
#include "alloc_count.h"

#include <cstddef>

// Replacing malloc in the program replaces it for all libraries; glibc leaves its own reachable
// under other names. Sanitizers replace it themselves.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BN2D_BENCH_SANITIZED
#endif
#endif
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !defined(BN2D_BENCH_SANITIZED)

#include <atomic>
#include <cerrno>

namespace {
std::atomic<long> count{0};
void note() { count.fetch_add(1, std::memory_order_relaxed); }
}  // namespace

#define BN2D_BENCH_EXPORT __attribute__((visibility("default")))

extern "C" {
void *__libc_malloc(std::size_t);
void *__libc_calloc(std::size_t, std::size_t);
void *__libc_realloc(void *, std::size_t);
void *__libc_memalign(std::size_t, std::size_t);
void __libc_free(void *);

BN2D_BENCH_EXPORT void *malloc(std::size_t size) {
  note();
  return __libc_malloc(size);
}
BN2D_BENCH_EXPORT void *calloc(std::size_t members, std::size_t size) {
  note();
  return __libc_calloc(members, size);
}
BN2D_BENCH_EXPORT void *realloc(void *old, std::size_t size) {
  note();
  return __libc_realloc(old, size);
}
BN2D_BENCH_EXPORT void *memalign(std::size_t alignment, std::size_t size) {
  note();
  return __libc_memalign(alignment, size);
}
BN2D_BENCH_EXPORT void *aligned_alloc(std::size_t alignment, std::size_t size) {
  note();
  return __libc_memalign(alignment, size);
}
BN2D_BENCH_EXPORT int posix_memalign(void **out, std::size_t alignment, std::size_t size) {
  note();
  void *memory = __libc_memalign(alignment, size);
  if (!memory) return ENOMEM;
  *out = memory;
  return 0;
}
BN2D_BENCH_EXPORT void free(void *memory) { __libc_free(memory); }
}

namespace bench {
long allocation_count() { return count.load(std::memory_order_relaxed); }
}  // namespace bench

#else

namespace bench {
long allocation_count() { return -1; }
}  // namespace bench

#endif
