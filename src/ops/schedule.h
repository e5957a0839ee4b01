// The order in which an operation goes through its tensors, common to all operations:
//  - whole:  each unit is a group of channels; its sums, then its map, while it is in cache;
//  - split:  (1) sums of all (block, group), (2) the merge of each group's blocks, in index order, (3) one map of the
//            whole tensor, tile by tile;
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
//   static constexpr kSumsOf, kSums             which sums of a block, and how many, per channel
//   void set_centers(group, Accumulators)       what they are around
//   using Partial;                              sums of one or several blocks of a group
//   void reduce(blockwise, part, block, Accumulators, Partial *)
//                                               those of some channels of the group, counted from its first
//   void merge(group, Partial *into, const Partial &from)
//   void finish(group, const Partial *, void *coefficients, stride)
//                                               its statistics and the coefficients of its map
//   static constexpr int kDoubles               doubles of a Partial per channel
//   static void save(group, const Partial &, double *memory, stride), restore(...)
//                                               compact form of a Partial
//   kernels::MapOf map; bool has_sums, has_map
template <class Operation>
class Schedule {
 public:
  Schedule(const Operation &operation, const Blockwise &blockwise, const Extents &size, DType dtype, int reads,
           int32_t thread_limit, bool may_stream)
      : operation_(operation), blockwise_(blockwise), size_(size), coefficient_bytes_(arithmetic_size(dtype)) {
    Work work;
    work.size = size;
    work.element_bytes = dtype_size(dtype);
    work.reads = reads;
    work.passes = operation.has_sums && operation.has_map ? 2 : 1;
    work.order = blockwise.order();
    const Machine machine = machine_for_call(thread_limit, work);
    if (operation.has_sums)
      plan_ = make_plan(work, machine, std::min(blockwise.max_group(), kernels::max_group(Operation::kSums)));
    if (!operation.has_sums || plan_.split) {
      map_workers_ = useful_workers(work, machine);
      tiles_ = make_tiles(work, map_workers_);
    }
    streaming_ = may_stream && streams(work, machine);
  }

  // Bytes of scratch that run() needs.
  size_t scratch_bytes() const {
    const int64_t coefficients = kernels::kMaxCoefficients;
    if (!operation_.has_sums)  // those of one group fit the stack
      return size_.c <= kernels::kMaxGroup ? 0 : static_cast<size_t>(size_.c * coefficients) * sizeof(double);
    if (!plan_.split) return 0;
    return static_cast<size_t>(size_.c * (plan_.blocks * Operation::kDoubles + coefficients) + doubles_of_wide()) *
           sizeof(double);
  }

  void run(void *memory) const noexcept {
    if (!operation_.has_sums) return run_map_only(memory);
    plan_.split ? run_split(static_cast<double *>(memory)) : run_whole();
  }

 private:
  static Group group_at(int64_t index, int64_t size, int64_t channels) {
    return {index * size, std::min(size, channels - index * size)};
  }
  // Once a thread, not once a unit: a fence waits until all is written, and nothing else goes on meanwhile.
  void (*fence() const)() { return streaming_ ? kernels::streaming_fence : nullptr; }
  Group group(int64_t index) const { return group_at(index, plan_.group, size_.c); }
  int64_t groups_of_all() const { return (size_.c + kernels::kMaxGroup - 1) / kernels::kMaxGroup; }
  // The accumulators of a wide group are too large for a stack: each worker has its own in the call's scratch.
  bool is_wide() const { return plan_.group > kernels::max_group(Operation::kSums); }
  int64_t doubles_of_worker() const { return (Accumulators::doubles(Operation::kSums, plan_.group) + 7) / 8 * 8; }
  int64_t doubles_of_wide() const { return is_wide() ? plan_.workers * doubles_of_worker() : 0; }

  void run_whole() const {
    auto unit = [this](int64_t index) {
      const Group g = group(index);
      const int64_t next = g.channel + g.channels < size_.c ? g.channels : 0;
      GroupScratch scratch;
      const Accumulators accumulators(scratch.accumulators, Operation::kSums, kernels::max_group(Operation::kSums));
      operation_.set_centers(g, accumulators);
      typename Operation::Partial total, part;
      for (int64_t block = 0; block < plan_.blocks; ++block) {
        blockwise_.accumulate(Operation::kSumsOf, g, block, accumulators);
        operation_.reduce(blockwise_, {0, g.channels}, block, accumulators, block == 0 ? &total : &part);
        if (block != 0) operation_.merge(g, &total, part);
      }
      operation_.finish(g, &total, scratch.coefficients, kernels::kMaxGroup);
      if (!operation_.has_map) return;
      for (int64_t block = plan_.blocks - 1; block >= 0; --block)  // what was read last is still the hottest
        blockwise_.map(operation_.map, g, blockwise_.blocks().at(block), {scratch.coefficients, kernels::kMaxGroup},
                       streaming_, next);
    };
    for_each_unit(plan_.workers, plan_.groups, Order::forward, unit, fence());
  }

  void run_split(double *memory) const {
    double *const wide = memory;                          // accumulators of each worker
    double *const partials = memory + doubles_of_wide();  // [block][double][channel]
    std::byte *const coefficients =
        reinterpret_cast<std::byte *>(partials + size_.c * plan_.blocks * Operation::kDoubles);
    const auto at = [&](int64_t block, const Group &g) {
      return partials + block * Operation::kDoubles * size_.c + g.channel;
    };
    const auto sum_into = [&](const Group &g, int64_t block, const Accumulators &accumulators) {
      operation_.set_centers(g, accumulators);
      blockwise_.accumulate(Operation::kSumsOf, g, block, accumulators);
      typename Operation::Partial part;
      for (int64_t first = 0; first < g.channels; first += kernels::kMaxGroup) {
        const int64_t channels = std::min<int64_t>(kernels::kMaxGroup, g.channels - first);
        operation_.reduce(blockwise_, {first, channels}, block, accumulators, &part);
        const Group reduced = {g.channel + first, channels};
        Operation::save(reduced, part, at(block, reduced), size_.c);
      }
    };
    auto sum = [&](int64_t index, int worker) {
      const Group g = group(index % plan_.groups);
      const int64_t block = index / plan_.groups;
      if (is_wide())
        return sum_into(g, block, Accumulators(wide + worker * doubles_of_worker(), Operation::kSums, plan_.group));
      GroupScratch scratch;
      sum_into(g, block, Accumulators(scratch.accumulators, Operation::kSums, kernels::max_group(Operation::kSums)));
    };
    auto finish = [&](int64_t index) {
      const Group g = group_at(index, kernels::kMaxGroup, size_.c);
      typename Operation::Partial total, part;
      operation_.restore(g, at(0, g), size_.c, 0, blockwise_, &total);
      for (int64_t block = 1; block < plan_.blocks; ++block) {
        operation_.restore(g, at(block, g), size_.c, block, blockwise_, &part);
        operation_.merge(g, &total, part);
      }
      operation_.finish(g, &total, coefficients + g.channel * coefficient_bytes_, size_.c);
    };
    for_each_unit(plan_.workers, plan_.units(), Order::forward, sum);
    // Merging is short; it is shared out only where there is much of it.
    for_each_unit(size_.c * plan_.blocks > 4096 ? plan_.workers : 1, groups_of_all(), Order::forward, finish);
    run_map(coefficients, Order::reverse);  // what was read last is still the hottest
  }

  void run_map_only(void *memory) const {
    alignas(64) double few[kernels::kMaxCoefficients * kernels::kMaxGroup];
    std::byte *coefficients = static_cast<std::byte *>(memory ? memory : few);
    auto finish = [&](int64_t index) {
      const Group g = group_at(index, kernels::kMaxGroup, size_.c);
      operation_.finish(g, nullptr, coefficients + g.channel * coefficient_bytes_, size_.c);
    };
    for_each_unit(size_.c > 4096 ? map_workers_ : 1, groups_of_all(), Order::forward, finish);
    run_map(coefficients, Order::forward);
  }

  void run_map(const std::byte *coefficients, Order order) const {
    if (!operation_.has_map) return;
    auto unit = [&](int64_t index) {
      const Tiles::Tile tile = tiles_.at(index);
      blockwise_.map(operation_.map, tile.group, tile.block,
                     {coefficients + tile.group.channel * coefficient_bytes_, size_.c}, streaming_, 0);
    };
    for_each_unit(map_workers_, tiles_.count, order, unit, fence());
  }

  const Operation &operation_;
  const Blockwise &blockwise_;
  Extents size_;
  int64_t coefficient_bytes_;
  Plan plan_;    // where there are sums
  Tiles tiles_;  // where a map goes through the tensor on its own
  int map_workers_ = 1;
  bool streaming_ = false;
};

}  // namespace bn2d
