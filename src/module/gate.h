// Who may use a module at the same time: any number of readers, or one writer. Nobody waits: who
// comes at a bad time gets Error busy, because waiting inside somebody's thread pool is how
// programs hang.
#pragma once
#include <atomic>
#include <cstdint>

#include "base/error.h"
#include "base/fork.h"

namespace bn2d {

// A child of fork() has none of the threads that were in a call, and nobody there would ever leave.
// So the users are counted together with the fork that they came after; those from before the last
// one do not count.
class Gate {
 public:
  // For the time of a call.
  class Pass {
   public:
    Pass(Gate &gate, bool exclusive)
        : gate_(gate), state_(gate.enter(exclusive)), exclusive_(exclusive) {}
    ~Pass() { gate_.leave(exclusive_, state_); }
    Pass(const Pass &) = delete;
    Pass &operator=(const Pass &) = delete;

   private:
    Gate &gate_;
    uint64_t state_;  // as this pass left it: what it most likely finds again
    bool exclusive_;
  };

  // From one call of the host to another. Counted beside the users, so that unlocking cannot end
  // somebody's Pass.
  void lock(bool exclusive) {
    enter(exclusive);
    const uint32_t generation = fork_generation();
    uint64_t now = locks_.load(std::memory_order_relaxed), then = 0;
    do {
      const uint32_t locks = generation_of(now) == generation ? users_of(now) : 0;
      then = state_of(generation, exclusive ? kWriter : locks + 1);
    } while (!locks_.compare_exchange_weak(now, then, std::memory_order_relaxed));
  }
  void unlock(bool exclusive) {
    const uint32_t generation = fork_generation();
    uint64_t now = locks_.load(std::memory_order_relaxed), then = 0;
    do {
      const uint32_t locks = generation_of(now) == generation ? users_of(now) : 0;
      if (locks == 0 || exclusive != (locks == kWriter))
        fail(Status::state, "the module has no %s lock to end", exclusive ? "exclusive" : "shared");
      then = state_of(generation, exclusive ? 0 : locks - 1);
    } while (!locks_.compare_exchange_weak(now, then, std::memory_order_relaxed));
    leave(exclusive, state_.load(std::memory_order_relaxed));
  }

 private:
  static constexpr uint32_t kWriter = UINT32_MAX;
  static constexpr uint32_t generation_of(uint64_t state) {
    return static_cast<uint32_t>(state >> 32);
  }
  static constexpr uint32_t users_of(uint64_t state) { return static_cast<uint32_t>(state); }
  static constexpr uint64_t state_of(uint32_t generation, uint32_t users) {
    return (uint64_t{generation} << 32) | users;
  }

  // The state that it leaves behind.
  uint64_t enter(bool exclusive) {
    const uint32_t generation = fork_generation();
    uint64_t state = state_.load(std::memory_order_relaxed), then = 0;
    do {
      const uint32_t users = generation_of(state) == generation ? users_of(state) : 0;
      if (users == kWriter)
        fail(Status::busy, "the module is in exclusive use by another call or a lock");
      if (exclusive && users > 0)
        fail(Status::busy,
             "the module is in shared use by %u (calls and locks), this call needs it alone",
             users);
      if (users + 1 == kWriter)
        fail(Status::overflow, "the module is in shared use by %u, more are not counted", users);
      then = state_of(generation, exclusive ? kWriter : users + 1);
    } while (!state_.compare_exchange_weak(state, then, std::memory_order_acquire,
                                           std::memory_order_relaxed));
    return then;
  }
  // `state`: any since the matching enter(), of the same generation.
  void leave(bool exclusive, uint64_t state) {
    const uint32_t generation = generation_of(state);
    do {
      if (generation_of(state) != generation)
        return;  // a child that forked inside a call has begun to count anew
    } while (!state_.compare_exchange_weak(
        state, state_of(generation, exclusive ? 0 : users_of(state) - 1), std::memory_order_release,
        std::memory_order_relaxed));
  }

  std::atomic<uint64_t> state_{0};
  std::atomic<uint64_t> locks_{0};  // of the users, those who came by lock()
};

}  // namespace bn2d
