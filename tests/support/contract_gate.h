// Memory that holds up whoever reads or writes it until the test says so. With x, y or dy in such
// memory a test can look at a module while a call is under way, without a race and without
// sleeping.
#pragma once
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace bn2d_test {

class Gate {
 public:
  // The memory; the gate is the pages of bytes [first, first + length) in it, by default all. One
  // gate at a time.
  explicit Gate(size_t bytes, size_t first = 0, size_t length = 0) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    bytes_ = (bytes + page - 1) / page * page;
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    begin_ = reinterpret_cast<uintptr_t>(memory_) + first / page * page;
    end_ = length == 0 ? reinterpret_cast<uintptr_t>(memory_) + bytes_
                       : begin_ + (length + page - 1) / page * page;
    struct sigaction action {};
    action.sa_sigaction = &Gate::on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, &previous_);
  }
  ~Gate() {
    open();
    sigaction(SIGSEGV, &previous_, nullptr);
    begin_ = end_ = 0;
    munmap(memory_, bytes_);
  }
  Gate(const Gate &) = delete;
  Gate &operator=(const Gate &) = delete;

  void *data() const { return memory_; }

  // From now on, who touches the memory waits.
  void close() {
    arrived_ = touched_ = false;
    open_ = false;
    protect(PROT_NONE);
  }
  // Who stood at the gate first since it was closed.
  pthread_t first_visitor() const { return visitor_; }
  // True when somebody stands at the gate, false when nobody came in ten seconds.
  bool wait_until_touched() const {
    for (int i = 0; i < 10000; ++i) {
      if (touched_) return true;
      pause_a_bit();
    }
    return false;
  }
  void open() {
    protect(PROT_READ | PROT_WRITE);
    open_ = true;
  }

 private:
  static void protect(int access) {
    mprotect(reinterpret_cast<void *>(begin_.load()), end_ - begin_, access);
  }
  static void pause_a_bit() {
    const timespec millisecond{0, 1000000};
    nanosleep(&millisecond, nullptr);
  }
  static void on_fault(int, siginfo_t *info, void *) {
    const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
    if (address < begin_ || address >= end_) {
      sigaction(SIGSEGV, &previous_,
                nullptr);  // a real fault: it happens again, with the handler of before
      return;
    }
    if (!arrived_.exchange(true)) {
      visitor_ = pthread_self();
      touched_ = true;
    }
    while (!open_) pause_a_bit();
  }

  void *memory_ = nullptr;
  size_t bytes_ = 0;
  static inline std::atomic<uintptr_t> begin_{0}, end_{0};
  static inline std::atomic<bool> arrived_{false}, touched_{false}, open_{true};
  static inline pthread_t visitor_{};
  static inline struct sigaction previous_ {};
};

}  // namespace bn2d_test
