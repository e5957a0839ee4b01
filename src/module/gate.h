// Who may use a module at the same time: any number of readers, or one writer. Nobody waits: who comes at a bad time
// gets Error busy, because waiting inside somebody's thread pool is how programs hang.
#pragma once
#include <atomic>
#include <cstdint>

#include "base/error.h"

namespace bn2d {

class Gate {
 public:
  class Pass {
   public:
    Pass(Gate &gate, bool exclusive) : gate_(gate), exclusive_(exclusive) {
      int32_t users = gate.users_.load(std::memory_order_relaxed);
      do {
        if (users < 0) fail(Status::busy, "the module is in exclusive use by another call");
        if (exclusive && users > 0)
          fail(Status::busy, "the module is in shared use by %d calls, this one needs it alone", users);
      } while (!gate.users_.compare_exchange_weak(users, exclusive ? -1 : users + 1, std::memory_order_acquire,
                                                  std::memory_order_relaxed));
    }
    ~Pass() {
      if (exclusive_) {
        gate_.users_.store(0, std::memory_order_release);
      } else {
        gate_.users_.fetch_sub(1, std::memory_order_release);
      }
    }
    Pass(const Pass &) = delete;
    Pass &operator=(const Pass &) = delete;

   private:
    Gate &gate_;
    bool exclusive_;
  };

 private:
  std::atomic<int32_t> users_{0};  // -1: one writer
};

}  // namespace bn2d
