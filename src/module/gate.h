// Who may use a module at the same time: any number of readers, or one writer. Nobody waits: who comes at a bad time
// gets Error busy, because waiting inside somebody's thread pool is how programs hang.
#pragma once
#include <atomic>
#include <cstdint>

#include "base/error.h"
#include "base/fork.h"

namespace bn2d {

// A child of fork() has none of the threads that were in a call, and nobody there would ever leave. So the users are
// counted together with the fork that they came after; those from before the last one do not count.
class Gate {
 public:
  class Pass {
   public:
    Pass(Gate &gate, bool exclusive) : gate_(gate), generation_(fork_generation()), exclusive_(exclusive) {
      uint64_t state = gate.state_.load(std::memory_order_relaxed);
      do {
        const uint32_t users = generation_of(state) == generation_ ? users_of(state) : 0;
        if (users == kWriter) fail(Status::busy, "the module is in exclusive use by another call");
        if (exclusive && users > 0)
          fail(Status::busy, "the module is in shared use by %u calls, this one needs it alone", users);
        state_ = state_of(generation_, exclusive ? kWriter : users + 1);
      } while (!gate.state_.compare_exchange_weak(state, state_, std::memory_order_acquire, std::memory_order_relaxed));
    }
    ~Pass() {
      uint64_t state = state_;
      do {
        if (generation_of(state) != generation_) return;  // a child that forked inside a call has begun to count anew
      } while (!gate_.state_.compare_exchange_weak(state, state_of(generation_, exclusive_ ? 0 : users_of(state) - 1),
                                                   std::memory_order_release, std::memory_order_relaxed));
    }
    Pass(const Pass &) = delete;
    Pass &operator=(const Pass &) = delete;

   private:
    Gate &gate_;
    uint64_t state_ = 0;  // as this pass left it: what it most likely finds again
    uint32_t generation_;
    bool exclusive_;
  };

 private:
  static constexpr uint32_t kWriter = UINT32_MAX;
  static constexpr uint32_t generation_of(uint64_t state) { return static_cast<uint32_t>(state >> 32); }
  static constexpr uint32_t users_of(uint64_t state) { return static_cast<uint32_t>(state); }
  static constexpr uint64_t state_of(uint32_t generation, uint32_t users) {
    return (uint64_t{generation} << 32) | users;
  }

  std::atomic<uint64_t> state_{0};
};

}  // namespace bn2d
