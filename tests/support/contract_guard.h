// Memory between two pages that nobody may touch, so that one byte too many ends the program, also
// where the code under test is not instrumented.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

namespace bn2d_test {

class Guarded {
 public:
  // At the end: the last byte lies right before a forbidden page; else the first one right behind
  // one.
  Guarded(size_t bytes, bool at_end) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t inside = (bytes + page - 1) / page * page + (bytes == 0 ? page : 0);
    total_ = inside + 2 * page;
    memory_ =
        static_cast<char *>(mmap(nullptr, total_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(memory_ + page, inside, PROT_READ | PROT_WRITE);
    data_ = memory_ + page + (at_end ? inside - bytes : 0);
  }
  ~Guarded() { munmap(memory_, total_); }
  Guarded(const Guarded &) = delete;
  Guarded &operator=(const Guarded &) = delete;

  template <class T>
  T *as() const {
    return reinterpret_cast<T *>(data_);
  }
  void *data() const { return data_; }

 private:
  char *memory_ = nullptr, *data_ = nullptr;
  size_t total_ = 0;
};

}  // namespace bn2d_test
