// Working memory of one call, taken from a pool of the process: in steady state nothing is
// allocated. The pool keeps at most 16 blocks of at most 16 MiB each, those that calls held at the
// same time; what is larger goes back to the system at the end of its call.
#pragma once
#include <cstddef>

namespace bn2d {

class Scratch {
 public:
  explicit Scratch(size_t bytes);  // 0 bytes touch nothing
  ~Scratch();
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;
  void *data() const { return data_; }  // aligned to 64 bytes, contents undefined

 private:
  void *data_ = nullptr;
  // Of the pool, where it looks first; the same at the end, so that the next call finds it.
  unsigned place_ = 0;
};

}  // namespace bn2d
