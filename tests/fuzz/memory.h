// The memory that all tensors of a program lie in: banks between pages that nobody may touch. What
// no tensor covers holds 0xFF bytes, which are NaN in every dtype: a result that has read one
// shows.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

namespace bn2d_fuzz {

// The bytes of a tensor or an array: where each element starts, in the order of (n, c, h, w), and
// how long it is.
struct Footprint {
  std::vector<uint32_t> offsets;
  size_t element = 1;
};

class Memory {
 public:
  static constexpr size_t kBanks = 8;

  explicit Memory(size_t bank_bytes)
      : bank_(bank_bytes), page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    const size_t bytes = kBanks * (bank_ + page_) + page_;
    void *mapped = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<unsigned char *>(mapped);
    for (size_t i = 0; i < kBanks; ++i) mprotect(at(bank_begin(i)), bank_, PROT_READ | PROT_WRITE);
    stamps_.resize(bytes);
  }
  Memory(const Memory &) = delete;
  Memory &operator=(const Memory &) = delete;

  size_t bank_bytes() const { return bank_; }
  size_t bank_begin(size_t bank) const { return page_ + bank * (bank_ + page_); }
  unsigned char *at(size_t offset) const { return base_ + offset; }

  void clear() {
    for (size_t i = 0; i < kBanks; ++i) std::memset(at(bank_begin(i)), 0xFF, bank_);
  }

  using Image = std::vector<unsigned char>;
  void save(Image &image) const {
    image.resize(kBanks * bank_);
    for (size_t i = 0; i < kBanks; ++i) std::memcpy(&image[i * bank_], at(bank_begin(i)), bank_);
  }
  void restore(const Image &image) const {
    for (size_t i = 0; i < kBanks; ++i) std::memcpy(at(bank_begin(i)), &image[i * bank_], bank_);
  }
  // The first byte that differs from the image and is none of the outputs'; -1 where there is none.
  int64_t stray(const Image &image, const std::vector<const Footprint *> &outputs) {
    bool marked = false;
    for (size_t i = 0; i < kBanks; ++i) {
      const unsigned char *before = &image[i * bank_], *after = at(bank_begin(i));
      if (std::memcmp(before, after, bank_) == 0) continue;
      if (!marked) mark(outputs);
      marked = true;
      for (size_t k = 0; k < bank_; ++k) {
        if (before[k] != after[k] && stamps_[bank_begin(i) + k] != epoch_)
          return static_cast<int64_t>(i * bank_ + k);
      }
    }
    return -1;
  }

  bool share(const Footprint &a, const Footprint &b) {
    if (a.offsets.empty() || b.offsets.empty()) return false;
    mark({&a});
    for (const uint32_t offset : b.offsets) {
      for (size_t i = 0; i < b.element; ++i) {
        if (stamps_[offset + i] == epoch_) return true;
      }
    }
    return false;
  }
  bool shares_with_itself(const Footprint &a) {
    mark({});
    for (const uint32_t offset : a.offsets) {
      for (size_t i = 0; i < a.element; ++i) {
        if (std::exchange(stamps_[offset + i], epoch_) == epoch_) return true;
      }
    }
    return false;
  }

 private:
  void mark(const std::vector<const Footprint *> &all) {
    ++epoch_;
    for (const Footprint *footprint : all) {
      for (const uint32_t offset : footprint->offsets) {
        std::fill_n(stamps_.begin() + offset, footprint->element, epoch_);
      }
    }
  }

  size_t bank_, page_;
  unsigned char *base_ = nullptr;
  std::vector<uint32_t> stamps_;  // by byte: the last epoch that marked it
  uint32_t epoch_ = 0;
};

}  // namespace bn2d_fuzz
