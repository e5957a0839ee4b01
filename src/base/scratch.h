// Working memory of one call, taken from a pool of the process: in steady state nothing is allocated.
#pragma once
#include <cstddef>

namespace bn2d {

class Scratch {
 public:
  explicit Scratch(size_t bytes);  // throws std::bad_alloc; 0 bytes touch nothing
  ~Scratch();
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;
  void *data() const { return block_.data; }  // aligned to 64 bytes, contents undefined

  struct Block {
    void *data = nullptr;
    size_t bytes = 0;
  };

 private:
  Block block_;
};

}  // namespace bn2d
