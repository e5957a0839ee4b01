// The order in which an operation goes through its tensors, common to all operations:
//  - whole:  each unit is a group of channels; its sums, then its map, while it is in cache;
//  - split:  (1) sums of all (block, group), (2) the merge of each group's blocks, in index order, (3) the maps;
//  - map only: what needs no sums.
// The bits are the same: sums are always merged block by block in index order.
#pragma once
#include <algorithm>

#include "base/scratch.h"
#include "ops/blockwise.h"
#include "ops/settings.h"
#include "parallel/parallel.h"

namespace bn2d {

// An operation provides
//   using Partial;                                   sums of one or several blocks of a group
//   void sum(blockwise, group, block, GroupScratch &, Partial *)
//   void merge(group, Partial *into, const Partial &from)
//   void finish(group, const Partial *, void *coefficients, stride, first)   the coefficients of the group's map, and
//   where
//                                                    `first` is set, its statistics
//   static constexpr int kDoubles                    doubles of a Partial per channel
//   static void save(group, const Partial &, double *memory, stride), restore(...)   compact form of a Partial
//   kernels::MapOf map; bool has_sums, has_map
template <class Operation>
class Schedule {
 public:
  Schedule(const Operation &operation, const Blockwise &blockwise, const Extents &size, DType dtype, int reads,
           int32_t thread_limit, bool may_stream)
      : operation_(operation), blockwise_(blockwise), size_(size), coefficient_bytes_(dtype == DType::f64 ? 8 : 4) {
    Work work;
    work.size = size;
    work.element_bytes = dtype_size(dtype);
    work.reads = reads;
    const Machine machine = machine_for_call(thread_limit, size.numel() * work.element_bytes * reads);
    work.channels_last = blockwise.channels_last();
    work.needs_sums = operation.has_sums;
    plan_ = make_plan(work, machine, blockwise.max_group());
    streaming_ = may_stream && size.numel() * work.element_bytes >= effective_streaming_threshold(machine);
  }

  // Bytes of scratch that run() needs.
  size_t scratch_bytes() const {
    if (!plan_.split || !operation_.has_sums) return 0;
    return static_cast<size_t>(size_.c) * (plan_.blocks * Operation::kDoubles + kernels::kMaxCoefficients) *
           sizeof(double);
  }

  void run(void *memory) const noexcept {
    if (!operation_.has_sums) return run_map_only();
    plan_.split ? run_split(static_cast<double *>(memory)) : run_whole();
  }

 private:
  Group group(int64_t index) const {
    const int64_t channel = index * plan_.group;
    return {channel, std::min(plan_.group, size_.c - channel)};
  }

  void map(const Group &g, int64_t block, const void *coefficients, int64_t stride, int64_t next_group) const {
    if (operation_.has_map) blockwise_.map(operation_.map, g, block, {coefficients, stride}, streaming_, next_group);
  }

  void run_whole() const {
    auto unit = [this](int64_t index) {
      const Group g = group(index);
      GroupScratch scratch;
      typename Operation::Partial total, part;
      operation_.sum(blockwise_, g, 0, scratch, &total);
      for (int64_t block = 1; block < plan_.blocks; ++block) {
        operation_.sum(blockwise_, g, block, scratch, &part);
        operation_.merge(g, &total, part);
      }
      operation_.finish(g, &total, scratch.coefficients, kernels::kMaxGroup, true);
      const bool last = g.channel + g.channels == size_.c;
      for (int64_t block = plan_.blocks - 1; block >= 0; --block)  // what was read last is still the hottest
        map(g, block, scratch.coefficients, kernels::kMaxGroup, last ? 0 : g.channels);
      if (streaming_) kernels::streaming_fence();
    };
    for_each_unit(plan_.workers, plan_.groups, Order::forward, unit);
  }

  void run_split(double *memory) const {
    double *partials = memory;  // [block][double][channel]
    std::byte *coefficients = reinterpret_cast<std::byte *>(memory + size_.c * plan_.blocks * Operation::kDoubles);
    auto at = [&](int64_t block, const Group &g) {
      return partials + block * Operation::kDoubles * size_.c + g.channel;
    };
    auto sum = [&](int64_t index) {
      const Group g = group(index % plan_.groups);
      const int64_t block = index / plan_.groups;
      GroupScratch scratch;
      typename Operation::Partial part;
      operation_.sum(blockwise_, g, block, scratch, &part);
      Operation::save(g, part, at(block, g), size_.c);
    };
    auto finish = [&](int64_t index) {
      const Group g = group(index);
      typename Operation::Partial total, part;
      operation_.restore(g, at(0, g), size_.c, 0, blockwise_, &total);
      for (int64_t block = 1; block < plan_.blocks; ++block) {
        operation_.restore(g, at(block, g), size_.c, block, blockwise_, &part);
        operation_.merge(g, &total, part);
      }
      operation_.finish(g, &total, coefficients + g.channel * coefficient_bytes_, size_.c, true);
    };
    auto map_unit = [&](int64_t index) {
      const Group g = group(index % plan_.groups);
      map(g, index / plan_.groups, coefficients + g.channel * coefficient_bytes_, size_.c, 0);
      if (streaming_) kernels::streaming_fence();
    };
    for_each_unit(plan_.workers, plan_.units(), Order::forward, sum);
    // Merging is short; it is shared out only where there is much of it.
    for_each_unit(size_.c * plan_.blocks > 4096 ? plan_.workers : 1, plan_.groups, Order::forward, finish);
    if (operation_.has_map) for_each_unit(plan_.workers, plan_.units(), Order::reverse, map_unit);
  }

  void run_map_only() const {
    auto unit = [&](int64_t index) {
      const Group g = group(index % plan_.groups);
      const int64_t block = index / plan_.groups;
      alignas(64) double coefficients[kernels::kMaxCoefficients * kernels::kMaxGroup];
      operation_.finish(g, nullptr, coefficients, kernels::kMaxGroup, block == 0);
      map(g, block, coefficients, kernels::kMaxGroup, 0);
      if (streaming_) kernels::streaming_fence();
    };
    for_each_unit(plan_.workers, plan_.groups * plan_.blocks, Order::forward, unit);
  }

  const Operation &operation_;
  const Blockwise &blockwise_;
  Extents size_;
  int64_t coefficient_bytes_;
  Plan plan_;
  bool streaming_ = false;
};

// Writes the coefficients of a group's channels in the arithmetic type of the data.
class CoefficientWriter {
 public:
  CoefficientWriter(DType dtype, int64_t channels, void *data, int64_t stride)
      : is_double_(dtype == DType::f64), channels_(channels), data_(data), stride_(stride) {}

  void set(int k, const double *values) const {
    if (is_double_) {
      std::copy_n(values, channels_, static_cast<double *>(data_) + k * stride_);
    } else {
      float *out = static_cast<float *>(data_) + k * stride_;
      for (int64_t i = 0; i < channels_; ++i) out[i] = static_cast<float>(values[i]);
    }
  }
  // Numbers in two parts, of twice the arithmetic precision together. lo: NULL for 0.
  void set_pair(int k_hi, int k_lo, const double *hi, const double *lo) const {
    double rest[kernels::kMaxGroup];
    for (int64_t i = 0; i < channels_; ++i) {
      const double head = is_double_ ? hi[i] : static_cast<double>(static_cast<float>(hi[i]));
      // Beyond the range of float there is no low part (and infinity minus infinity is none).
      rest[i] = head - head == 0 ? (hi[i] - head) + (lo ? lo[i] : 0.0) : 0.0;
    }
    set(k_hi, hi);
    set(k_lo, rest);
  }
  // -mean in the two parts that all maps begin with. mean_lo: NULL for 0.
  void set_center(const double *mean, const double *mean_lo) const {
    double hi[kernels::kMaxGroup], lo[kernels::kMaxGroup];
    for (int64_t i = 0; i < channels_; ++i) {
      hi[i] = -mean[i];
      lo[i] = mean_lo ? -mean_lo[i] : 0.0;
    }
    set_pair(0, 1, hi, lo);
  }

 private:
  bool is_double_;
  int64_t channels_;
  void *data_;
  int64_t stride_;
};

}  // namespace bn2d
