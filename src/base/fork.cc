#include "base/fork.h"

#include <pthread.h>

#include <atomic>

namespace bn2d {
namespace {

std::atomic<bool> g_watching{false};
std::atomic<uint32_t> g_generation{0};

// Threads that come here at the same time each register; then a fork counts for more than one,
// which does no harm. Where there is no memory for the handler, the next call tries again.
void watch() noexcept {
  if (pthread_atfork(nullptr, nullptr,
                     [] { g_generation.fetch_add(1, std::memory_order_relaxed); }) == 0)
    g_watching.store(true, std::memory_order_release);
}

}  // namespace

uint32_t fork_generation() noexcept {
  if (!g_watching.load(std::memory_order_acquire)) watch();
  return g_generation.load(std::memory_order_relaxed);
}

}  // namespace bn2d
