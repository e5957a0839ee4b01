// A thread with little stack, painted, so that what a call has used of it can be read off.
#pragma once
#include <pthread.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#include "support/catch.h"

namespace bn2d_test {

class SmallStack {
 public:
  static constexpr size_t kBytes = size_t{64} << 10;

  SmallStack() {
    memory_ = static_cast<unsigned char *>(
        mmap(nullptr, kGuard + kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0));
    REQUIRE(static_cast<void *>(memory_) != MAP_FAILED);
    REQUIRE(mprotect(memory_ + kGuard, kBytes, PROT_READ | PROT_WRITE) == 0);
  }
  ~SmallStack() { munmap(memory_, kGuard + kBytes); }
  SmallStack(const SmallStack &) = delete;
  SmallStack &operator=(const SmallStack &) = delete;

  // Makes the call on such a thread, and returns how many bytes of stack lay below it.
  size_t run(const std::function<void()> &call) {
    call_ = &call;
    pthread_attr_t attributes;
    pthread_t thread;
    REQUIRE(pthread_attr_init(&attributes) == 0);
    REQUIRE(pthread_attr_setstack(&attributes, memory_ + kGuard, kBytes) == 0);
    REQUIRE(pthread_create(&thread, &attributes, &SmallStack::on_thread, this) == 0);
    REQUIRE(pthread_join(thread, nullptr) == 0);
    REQUIRE(pthread_attr_destroy(&attributes) == 0);
    return used_;
  }

 private:
  static constexpr size_t kGuard = 4096;
  static constexpr unsigned char kPaint = 0xA5;

  static void *on_thread(void *self) {
    static_cast<SmallStack *>(self)->paint_and_call();
    return nullptr;
  }
  __attribute__((noinline)) void paint_and_call() {
    auto *const here = static_cast<unsigned char *>(__builtin_frame_address(0));
    unsigned char *const low = memory_ + kGuard;
    std::memset(low, kPaint, static_cast<size_t>(here - kUnpainted - low));
    (*call_)();
    const unsigned char *deepest = low;
    while (deepest < here && *deepest == kPaint) ++deepest;
    used_ = static_cast<size_t>(here - deepest);
  }
  static constexpr std::ptrdiff_t kUnpainted = 512;  // of this function and of memset

  unsigned char *memory_ = nullptr;
  const std::function<void()> *call_ = nullptr;
  size_t used_ = 0;
};

}  // namespace bn2d_test
