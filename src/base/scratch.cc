#include "base/scratch.h"

#include <cstdlib>
#include <mutex>
#include <new>

namespace bn2d {
namespace {

constexpr int kKept = 8;  // blocks kept between calls, for as many calls at a time

struct Pool {
  std::mutex mutex;
  Scratch::Block blocks[kKept];
};

// Never destroyed: a thread may still be in a call while the process ends.
Pool &pool() {
  static Pool *const instance = new Pool;
  return *instance;
}

}  // namespace

Scratch::Scratch(size_t bytes) {
  if (bytes == 0) return;
  {
    Pool &p = pool();
    const std::lock_guard<std::mutex> lock(p.mutex);
    for (Block &kept : p.blocks)
      if (kept.bytes > block_.bytes && (block_.bytes < bytes)) std::swap(kept, block_);
  }
  if (block_.bytes >= bytes) return;
  std::free(block_.data);
  block_.bytes = (bytes + 4095) / 4096 * 4096;
  block_.data = std::aligned_alloc(64, block_.bytes);
  if (block_.data == nullptr) throw std::bad_alloc();
}

Scratch::~Scratch() {
  if (block_.data == nullptr) return;
  {
    Pool &p = pool();
    const std::lock_guard<std::mutex> lock(p.mutex);
    for (Block &kept : p.blocks)
      if (kept.data == nullptr) {
        std::swap(kept, block_);
        return;
      }
  }
  std::free(block_.data);
}

}  // namespace bn2d
