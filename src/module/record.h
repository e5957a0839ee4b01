// What a forward leaves for its backward, and the pool in which a module keeps records for reuse,
// so that training allocates nothing in steady state.
#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "ops/operations.h"

namespace bn2d {

struct Record {
  uint64_t module_id = 0;
  // Borrowed; y only where the side of the activation is read off it, z where the activation is
  // pointwise.
  View x, y, z;
  bool x_is_overwritten = false;  // the forward was in place
  Fused fused;
  bool batch_statistics = true;
  SetShape sets;
  int64_t count = 0;  // values of each channel that statistics from outside are of; 0: those of x
  // Mean, low part of mean, invstd of each set; weight, bias of each channel.
  std::vector<double> statistics;
  // Where x tells the side of the activation: room for SavedStatistics::side.
  std::vector<double> side;
  std::vector<uint8_t> mask;  // where neither x nor y can tell it

  // Sets of x. Without elements N may be anything, and nothing is kept.
  int64_t set_count() const { return x.size.numel() == 0 ? 0 : sets.count(x.size); }

  SavedStatistics saved() const {
    double *base = const_cast<double *>(statistics.data());
    const int64_t all = set_count();
    return {base,
            base + all,
            base + 2 * all,
            base + 3 * all,
            side.empty() ? nullptr : const_cast<double *>(side.data()),
            fused.is_pointwise() ? base + 3 * all + x.size.c : nullptr};
  }
};

// Without a lock, which a fork beside it would leave locked in the child.
class RecordPool {
 public:
  RecordPool() = default;
  ~RecordPool() {
    for (std::atomic<Record *> &place : idle_) delete place.load(std::memory_order_relaxed);
  }
  RecordPool(const RecordPool &) = delete;
  RecordPool &operator=(const RecordPool &) = delete;

  std::unique_ptr<Record> take() {
    for (std::atomic<Record *> &place : idle_) {
      if (place.load(std::memory_order_relaxed) == nullptr) continue;
      if (Record *const record = place.exchange(nullptr, std::memory_order_acquire))
        return std::unique_ptr<Record>(record);
    }
    return std::make_unique<Record>();
  }
  void give_back(std::unique_ptr<Record> record) noexcept {
    for (std::atomic<Record *> &place : idle_) {
      Record *empty = nullptr;
      if (place.compare_exchange_strong(empty, record.get(), std::memory_order_release,
                                        std::memory_order_relaxed)) {
        (void)record.release();
        return;
      }
    }
  }

 private:
  static constexpr size_t kKept = 4;
  std::atomic<Record *> idle_[kKept] = {};
};

}  // namespace bn2d
