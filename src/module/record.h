// What a forward leaves for its backward, and the pool in which a module keeps records for reuse, so that training
// allocates nothing in steady state.
#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "ops/operations.h"

namespace bn2d {

struct Record {
  uint64_t module_id = 0;
  DType dtype = DType::f32;
  View x, y;                      // borrowed; y only where the side of the activation is read off it
  bool x_is_overwritten = false;  // the forward was in place
  Fused fused;
  bool batch_statistics = true;
  std::vector<double> statistics;  // mean, low part of mean, invstd, weight: C each
  std::vector<double> side;        // where x tells the side of the activation: room for SavedStatistics::side
  std::vector<uint8_t> mask;       // where neither x nor y can

  SavedStatistics saved() const {
    double *base = const_cast<double *>(statistics.data());
    const int64_t c = x.size.c;
    return {base, base + c, base + 2 * c, base + 3 * c, side.empty() ? nullptr : const_cast<double *>(side.data())};
  }
};

class RecordPool {
 public:
  std::shared_ptr<Record> take() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!idle_.empty()) {
        std::shared_ptr<Record> record = std::move(idle_.back());
        idle_.pop_back();
        return record;
      }
    }
    return std::make_shared<Record>();
  }
  void give_back(std::shared_ptr<Record> record) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (idle_.size() < kKept) idle_.push_back(std::move(record));
  }
  RecordPool() { idle_.reserve(kKept); }

 private:
  static constexpr size_t kKept = 4;
  std::mutex mutex_;
  std::vector<std::shared_ptr<Record>> idle_;
};

}  // namespace bn2d
