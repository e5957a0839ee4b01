// The order in which an operation goes through its tensors, common to all operations:
//  - whole:  each unit is a group of channels; its sums, then its map, while it is in cache;
//  - split:  (1) sums of all (group, bundle of blocks), (2) the merge of each group's blocks, in
//            index order (not where a channel has one block: finishes_at_once()), (3) one map of
//            the whole tensor, tile by tile;
//  - map only: what needs no sums.
// The bits are the same: sums are always merged block by block in index order.
#pragma once
#include <algorithm>
#include <new>

#include "base/cache_line.h"
#include "ops/blockwise.h"
#include "ops/settings.h"
#include "parallel/parallel.h"

namespace bn2d {

// An operation provides
//   static constexpr kSumsOf, kSums             which sums of a block, and how many, per channel
//   void set_centers(group, Accumulators)       what they are around
//   using Partial;                              sums of one or several blocks of a group
//   void reduce(blockwise, group, part, block, Accumulators, Partial *, Workspace)
//                                               those of some channels of the group, counted from
//                                               its first; or, of a group of one channel, of blocks
//                                               from `block` on, one where each channel would be
//   void start(group, Partial *total)           clears what a saved block does not have
//   void merge(group, Partial *into, const Partial &from)
//                                               the sums of a block
//   void add_channels(group, Partial *into, const Partial &from)
//                                               those of other channels of their sets
//   int doubles()                               of a Partial, for each channel
//   static auto arrays(Partial &)               where they are: an array of kMaxGroup for each
//   void set_count(elements, Partial *)         of each channel
//   static void copy_count(const Partial &, Partial *)
//   static constexpr int kPoolings              how often sets of several channels are summed up
//   static constexpr bool kSpreads              whether finish() wants that for each channel
//   const Partial &weighed(pooling, group, total, MapCoefficients, Workspace)
//                                               what of each channel is summed up; may be in
//                                               own.part
//   void finish(blockwise, group, Partial *total, MapCoefficients, Workspace)
//                                               statistics, and the coefficients of the map.
//                                               total: NULL without sums
//   kernels::MapOf map; bool has_sums, has_map

// Memory of one worker, from the scratch of the call: a caller's stack may be small (a thread of
// musl has 128 KiB).
template <class Partial>
struct Workspace {
  double *accumulators;             // of a group
  double *of_one;                   // accumulators of one channel of floats or halves, in double
  void *coefficients;               // of a group that is summed and mapped as a whole
  Partial *total, *part, *extreme;  // extreme: sums of one channel once more; of add_to_sets()
  Partial *of_sets,
      *pooled[2];       // of sets of several channels: one each, and for each of their channels
  kernels::Sums *sums;  // of one block
  uint8_t *inexact;     // kMaxGroup bytes
  void *numbers;        // kNumbersBytes: the numbers of a group that finish() works with
  void *buffer;         // Blockwise::buffer_bytes()
};

inline constexpr int64_t kNumbersBytes = 10 * kernels::kMaxGroup * 8;
// The numbers of a group to finish. The parts of a set that is larger than a group follow one
// another on a worker, so that what one has found out of the set is there for the next ones.
template <class Numbers>
Numbers *numbers_of(bool has_sums, const Sets &sets, const Group &g, void *memory) {
  static_assert(sizeof(Numbers) <= kNumbersBytes);
  const bool is_next_part = has_sums && g.channel % sets.channels != 0;
  return is_next_part ? static_cast<Numbers *>(memory) : new (memory) Numbers;
}

// Merges of a channel and a block, or channels to finish, that are worth more than one thread. A
// merge takes 4 ns, so that these take 16 us.
inline constexpr int64_t kMergesWorthThreads = 4096;
// The same of channels of a forward without sums, which takes square roots: eval of (1,2048,7,7)
// takes 0.82 of the time on two threads. (A backward that only scales would take 1.07.)
inline constexpr int64_t kRootsWorthThreads = 1024;

template <class Operation>
class Schedule {
 public:
  using Partial = typename Operation::Partial;

  // maps: what maps go through, the same elements as of `blockwise` (ops/reordered.h).
  template <class Call>
  Schedule(const Operation &operation, const Blockwise &blockwise, const Blockwise &maps,
           const Call &call, DType dtype, int reads, bool may_stream)
      : operation_(operation),
        blockwise_(blockwise),
        maps_(maps),
        pool_(pool_or_default(call.pool)),
        size_(blockwise.sets().counted()),
        row_(blockwise.row()),
        finished_row_(row_ == size_.c ? row_ : blockwise.sets().size.c),
        together_(operation.has_sums ? blockwise.sets().channels : 1),
        arithmetic_bytes_(arithmetic_size(dtype)),
        coefficients_(kernels::coefficient_count(operation.map)) {
    Work work;
    work.size = size_;
    work.channel_row = row_ == size_.c ? 0 : row_;
    work.channel_block = blockwise.channel_block();
    work.at_once = blockwise.at_once();
    work.together = together_;
    work.element_bytes = dtype_size(dtype);
    work.reads = reads;
    work.passes = operation.has_sums && operation.has_map ? 2 : 1;
    work.order = blockwise.order();
    work.activation_bytes = blockwise.activation_bytes();
    work.map_step = blockwise.map_step();
    const Machine machine = machine_for_call(pool_, call.thread_limit, work);
    if (operation.has_sums)
      plan_ = make_plan(work, machine,
                        std::min(blockwise.max_group(), kernels::max_group(Operation::kSums)));
    workers_ = plan_.workers;
    if (!operation.has_sums || plan_.split) {
      map_workers_ = useful_workers(work, machine);
      work.size = maps.sets().counted();
      work.order = maps.order();
      work.maps_blocks = maps.maps_blocks(operation.map, may_stream && streams(work, machine));
      tiles_ = make_tiles(work, map_workers_);
      workers_ = std::max(workers_, map_workers_);
    }
    in_series_ = operation.has_sums && !plan_.split && plan_.group == 1 &&
                 blockwise.has_series(Operation::kSumsOf);
    streaming_ = may_stream && streams(work, machine);
    set_offsets();
  }

  const Pool &pool() const { return pool_; }
  // Bytes of scratch that run() needs.
  size_t scratch_bytes() const {
    return static_cast<size_t>(shared_bytes_ + workers_ * worker_bytes_);
  }

  [[gnu::noinline]] void run(void *memory) const noexcept {
    std::byte *const start = static_cast<std::byte *>(memory);
    if (!operation_.has_sums) return run_map_only(start);
    if (plan_.split) return run_split(start);
    run_whole(start);
  }

 private:
  // The groups of `size` channels, row by row.
  Group group_at(int64_t index, int64_t size, int64_t row) const {
    if (row == size_.c) return {index * size, std::min(size, row - index * size)};
    const int64_t of_row = divide_up(row, size), first = index % of_row * size;
    return {index / of_row * row + first, std::min(size, row - first)};
  }
  // Once a thread, not once a unit: a fence waits until all is written, and nothing else goes on
  // meanwhile.
  void (*fence() const)() { return streaming_ ? kernels::streaming_fence : nullptr; }
  bool wide() const { return arithmetic_bytes_ == 8; }
  // Channels, or blocks of a series, that there are accumulators for.
  int64_t accumulated() const { return in_series_ ? kMaxSeries : plan_.group; }
  Group group(int64_t index) const { return group_at(index, plan_.group, row_); }
  // Channels that finish together: as many sets as fit, or a set.
  int64_t finished_channels() const {
    return together_ > kernels::kMaxGroup ? together_ : kernels::kMaxGroup / together_ * together_;
  }
  int64_t groups_of_all() const {
    return size_.c / finished_row_ * divide_up(finished_row_, finished_channels());
  }
  Group finished_group(int64_t index) const {
    return group_at(index, finished_channels(), finished_row_);
  }

  // Scratch: what all workers share (of the whole tensor; a plan of whole groups has none), then a
  // workspace for each.
  void set_offsets() {
    const bool whole = operation_.has_sums && !plan_.split;
    const int64_t accumulators =
        operation_.has_sums ? Accumulators::doubles(Operation::kSums, accumulated(), wide()) : 0;
    partial_bytes_ = plan_.split && !finishes_at_once()
                         ? in_lines(size_.c * plan_.blocks * operation_.doubles() * 8)
                         : 0;
    shared_bytes_ = whole ? 0 : partial_bytes_ + in_lines(coefficient_bytes(size_.c));
    of_one_at_ = in_lines(accumulators * 8);
    coefficients_at_ = of_one_at_ + in_lines(Accumulators::doubles(Operation::kSums, 1, false) * 8);
    partials_at_ = coefficients_at_ + (whole ? in_lines(coefficient_bytes(plan_.group)) : 0);
    sums_at_ = partials_at_ + (together_ == 1 ? 3 : 6) * kPartialBytes;
    inexact_at_ = sums_at_ + in_lines(sizeof(kernels::Sums));
    numbers_at_ = inexact_at_ + kernels::kMaxGroup;
    buffer_at_ = numbers_at_ + in_lines(kNumbersBytes);
    worker_bytes_ = buffer_at_ + blockwise_.buffer_bytes();
  }
  int64_t coefficient_bytes(int64_t channels) const {
    return MapCoefficients::bytes(coefficients_, arithmetic_bytes_, channels);
  }
  MapCoefficients coefficients_in(void *memory, int64_t channels) const {
    return MapCoefficients(memory, coefficients_, arithmetic_bytes_, channels);
  }
  Workspace<Partial> workspace(std::byte *scratch, int worker) const {
    std::byte *const start = scratch + shared_bytes_ + worker * worker_bytes_;
    const auto partial = [&](int k) {
      return reinterpret_cast<Partial *>(start + partials_at_ + k * kPartialBytes);
    };
    return {reinterpret_cast<double *>(start),
            reinterpret_cast<double *>(start + of_one_at_),
            start + coefficients_at_,
            partial(0),
            partial(1),
            partial(2),
            partial(3),
            {partial(4), partial(5)},
            reinterpret_cast<kernels::Sums *>(start + sums_at_),
            reinterpret_cast<uint8_t *>(start + inexact_at_),
            start + numbers_at_,
            start + buffer_at_};
  }

  [[gnu::noinline]] void run_whole(std::byte *scratch) const {
    auto unit = [&](int64_t index, int worker) {
      const Group g = group(index);
      const int64_t next = g.channel + g.channels < size_.c ? g.channels : 0;
      const Workspace<Partial> own = workspace(scratch, worker);
      const Accumulators accumulators(own.accumulators, Operation::kSums, accumulated(), wide());
      operation_.set_centers(g, accumulators);
      // Forward has set nothing yet: its pivots and sums ignore what this copies.
      if (in_series_) accumulators.repeat(kMaxSeries);
      for (int64_t block = 0; block < plan_.blocks;) {
        const Blockwise::Staged staged = blockwise_.stage(g, {block, 1, 1}, own.buffer);
        const Blocks::Series series =
            in_series_ ? blockwise_.blocks().series(block) : Blocks::Series{};
        blockwise_.accumulate(Operation::kSumsOf, g, block, series, staged, accumulators,
                              own.buffer);
        Partial *const sums = block == 0 ? own.total : own.part;
        operation_.reduce(blockwise_, g, {0, g.channels * series.count()}, block, accumulators,
                          sums, own);
        merge(g, *sums, block, series.count(), own);
        block += series.count();
      }
      const MapCoefficients coefficients = coefficients_in(own.coefficients, plan_.group);
      finish_sets(g, coefficients, own);
      if (!operation_.has_map) return;
      const auto map = [&](const Blocks::Block &block) {
        maps_.map(operation_.map, g, block, coefficients, streaming_, next, own.buffer);
      };
      const Extents size = maps_.sets().counted();
      if (size.per_channel() <= kBlockElements) return map({0, size.n, 0, size.plane()});
      for (int64_t block = maps_.blocks().count - 1; block >= 0; --block)
        map(maps_.blocks().at(block));  // what was read last is still the hottest
    };
    for_each_unit(pool_, plan_.workers, plan_.groups, Order::forward, unit, fence());
  }

  // Merges `count` blocks, from `block` on, into own.total. `sums` has them: own.total where
  // `block` is 0, else own.part. If there are several, all are of one channel, and block i is where
  // channel i would be.
  [[gnu::noinline]] void merge(const Group &g, const Partial &sums, int64_t block, int64_t count,
                               const Workspace<Partial> &own) const {
    for (int64_t i = block == 0 ? 1 : 0; i < count; ++i) {
      if (i != 0) {
        move(sums, i, 1, own.part);
        operation_.set_count(blockwise_.blocks().at(block).elements(), own.part);
      }
      operation_.merge(g, own.total, *own.part);
    }
  }

  // Whole sets, whose sums are in own.total.
  [[gnu::noinline]] void finish_sets(const Group &g, const MapCoefficients &coefficients,
                                     const Workspace<Partial> &own) const {
    for (int pooling = 0; together_ > 1 && pooling < Operation::kPoolings; ++pooling) {
      add_to_sets(pooling, g, *own.total, coefficients, true, own);
      if constexpr (Operation::kSpreads) spread(g, own, own.pooled[pooling]);
    }
    operation_.finish(blockwise_, g, own.total, coefficients, own);
  }

  // Channels of one block are not merged with anything, so who has summed them finishes them:
  // training of (1,1024,14,14) with channels last takes 0.89 of the time on two threads.
  bool finishes_at_once() const {
    const bool has_whole_sets = together_ == 1 || (together_ <= kernels::kMaxGroup &&
                                                   plan_.group % finished_channels() == 0);
    return plan_.blocks == 1 && has_whole_sets;
  }

  [[gnu::noinline]] void run_split(std::byte *scratch) const {
    double *const partials = reinterpret_cast<double *>(scratch);  // [block][double][channel]
    const MapCoefficients coefficients = coefficients_in(scratch + partial_bytes_, size_.c);
    const int64_t at_once = std::min<int64_t>(finished_channels(), kernels::kMaxGroup);
    auto sum = [&](int64_t index, int worker) {
      const Group g = group(index % plan_.groups);
      const Blocks::Bundle bundle = blockwise_.blocks().bundle(index / plan_.groups, plan_.at_once);
      const Workspace<Partial> own = workspace(scratch, worker);
      const Accumulators accumulators(own.accumulators, Operation::kSums, plan_.group, wide());
      operation_.set_centers(g, accumulators);
      const Blockwise::Staged staged = blockwise_.stage(g, bundle, own.buffer);
      for (int64_t i = 0; i < bundle.count; ++i) {
        const int64_t block = bundle.block(i);
        blockwise_.accumulate(Operation::kSumsOf, g, block, {}, staged, accumulators, own.buffer);
        for (int64_t first = 0; first < g.channels; first += at_once) {
          const int64_t channels = std::min(at_once, g.channels - first);
          operation_.reduce(blockwise_, g, {first, channels}, block, accumulators, own.total, own);
          const Group reduced = {g.channel + first, channels};
          if (finishes_at_once()) {
            finish_sets(reduced, coefficients.from(reduced.channel), own);
          } else {
            save(reduced, *own.total, saved(partials, block, reduced));
          }
        }
      }
    };
    auto finish = [&](int64_t index, int worker) {
      const Group all = finished_group(index);
      const Workspace<Partial> own = workspace(scratch, worker);
      const auto parts = [&](auto f) {
        for (int64_t first = 0; first < all.channels; first += kernels::kMaxGroup) {
          const Group g = {all.channel + first,
                           std::min<int64_t>(kernels::kMaxGroup, all.channels - first)};
          merge_saved(g, partials, own);
          f(g);
        }
      };
      for (int pooling = 0; together_ > 1 && pooling < Operation::kPoolings; ++pooling) {
        parts([&](const Group &g) {
          add_to_sets(pooling, g, *own.total, coefficients.from(g.channel),
                      g.channel == all.channel, own);
        });
        if constexpr (Operation::kSpreads) spread(all, own, own.pooled[pooling]);
      }
      parts([&](const Group &g) {
        operation_.finish(blockwise_, g, own.total, coefficients.from(g.channel), own);
      });
    };
    for_each_unit(pool_, plan_.workers, plan_.units(), Order::forward, sum);
    const int workers = size_.c * plan_.blocks > kMergesWorthThreads ? plan_.workers : 1;
    if (!finishes_at_once()) for_each_unit(pool_, workers, groups_of_all(), Order::forward, finish);
    run_map(scratch, coefficients, Order::reverse);  // what was read last is still the hottest
  }

  // Where the sums of a block are saved.
  double *saved(double *partials, int64_t block, const Group &g) const {
    return partials + block * operation_.doubles() * size_.c + g.channel;
  }
  // Merges the saved sums of all blocks into own.total.
  [[gnu::noinline]] void merge_saved(const Group &g, double *partials,
                                     const Workspace<Partial> &own) const {
    operation_.start(g, own.total);
    for (int64_t block = 0; block < plan_.blocks; ++block) {
      Partial *const partial = block == 0 ? own.total : own.part;
      const double *const memory = saved(partials, block, g);
      for (int k = 0; k < operation_.doubles(); ++k)
        std::copy_n(memory + k * size_.c, g.channels, Operation::arrays(*partial)[k]);
      operation_.set_count(blockwise_.blocks().at(block).elements(), partial);
      if (block != 0) operation_.merge(g, own.total, *partial);
    }
  }
  void save(const Group &g, Partial &partial, double *memory) const {
    for (int k = 0; k < operation_.doubles(); ++k)
      std::copy_n(Operation::arrays(partial)[k], g.channels, memory + k * size_.c);
  }

  // Adds the channels of sets to what there is of each set in own.of_sets: those of several whole
  // sets, or some of one set that is larger than a group. The channels of a set are merged as a
  // tree, halves of it at a time: the first one with the first of the second half, and so on; an
  // odd one waits until the end. So merges are of many channels.
  [[gnu::noinline]] void add_to_sets(int pooling, const Group &g, const Partial &total,
                                     const MapCoefficients &coefficients, bool is_first,
                                     const Workspace<Partial> &own) const {
    const int64_t of_set = std::min(together_, g.channels), sets = g.channels / of_set;
    Partial *const tree = own.extreme, *const half = own.part;
    transpose(operation_.weighed(pooling, g, total, coefficients, own), of_set, sets, tree);
    bool has_rest = !is_first;
    operation_.set_count(blockwise_.sets().samples * size_.plane(), tree);
    for (int64_t left = of_set; left > 1; left /= 2) {
      const int64_t count = left / 2 * sets;
      Operation::copy_count(*tree, half);
      if (left % 2 != 0) {
        move(*tree, 2 * count, sets, half);
        if (has_rest) {
          operation_.add_channels({0, sets}, own.of_sets, *half);
        } else {
          move(*half, 0, sets, own.of_sets);
          Operation::copy_count(*half, own.of_sets);
        }
        has_rest = true;
      }
      move(*tree, count, count, half);
      operation_.add_channels({0, count}, tree, *half);
    }
    if (has_rest) return operation_.add_channels({0, sets}, own.of_sets, *tree);
    move(*tree, 0, sets, own.of_sets);
    Operation::copy_count(*tree, own.of_sets);
  }
  // From set after set to channel after channel: the same channel of all sets is together.
  void transpose(const Partial &from, int64_t of_set, int64_t sets, Partial *to) const {
    const auto sources = Operation::arrays(const_cast<Partial &>(from)),
               targets = Operation::arrays(*to);
    for (int k = 0; k < operation_.doubles(); ++k)
      for (int64_t set = 0; set < sets; ++set)
        for (int64_t c = 0; c < of_set; ++c)
          targets[k][c * sets + set] = sources[k][set * of_set + c];
  }
  [[gnu::noinline]] void move(const Partial &from, int64_t first, int64_t count,
                              Partial *to) const {
    const auto sources = Operation::arrays(const_cast<Partial &>(from)),
               targets = Operation::arrays(*to);
    for (int k = 0; k < operation_.doubles(); ++k)
      std::copy_n(sources[k] + first, count, targets[k]);
  }
  // What the sets have, for each of their channels.
  [[gnu::noinline]] void spread(const Group &g, const Workspace<Partial> &own, Partial *to) const {
    const auto sources = Operation::arrays(*own.of_sets), targets = Operation::arrays(*to);
    const int64_t channels = std::min<int64_t>(g.channels, kernels::kMaxGroup);
    for (int k = 0; k < operation_.doubles(); ++k)
      for (int64_t set = 0; set * together_ < channels; ++set)
        std::fill(targets[k] + set * together_,
                  targets[k] + std::min(channels, (set + 1) * together_), sources[k][set]);
    operation_.set_count(blockwise_.sets().values(), to);
  }

  [[gnu::noinline]] void run_map_only(std::byte *scratch) const {
    const MapCoefficients coefficients = coefficients_in(scratch, size_.c);
    auto finish = [&](int64_t index, int worker) {
      const Group g = finished_group(index);
      operation_.finish(blockwise_, g, nullptr, coefficients.from(g.channel),
                        workspace(scratch, worker));
    };
    const int64_t worth_threads =
        operation_.map == kernels::MapOf::forward ? kRootsWorthThreads : kMergesWorthThreads;
    const int workers = size_.c > worth_threads ? map_workers_ : 1;
    for_each_unit(pool_, workers, groups_of_all(), Order::forward, finish);
    run_map(scratch, coefficients, Order::forward);
  }

  [[gnu::noinline]] void run_map(std::byte *scratch, const MapCoefficients &coefficients,
                                 Order order) const {
    if (!operation_.has_map) return;
    auto unit = [&](int64_t index, int worker) {
      const Tiles::Tile tile = tiles_.at(index);
      maps_.map(operation_.map, tile.group, tile.block, coefficients.from(tile.group.channel),
                streaming_, 0, workspace(scratch, worker).buffer);
    };
    for_each_unit(pool_, map_workers_, tiles_.count, order, unit, fence());
  }

  static constexpr int64_t kPartialBytes = in_lines(sizeof(Partial));

  const Operation &operation_;
  const Blockwise &blockwise_, &maps_;
  const Pool &pool_;
  Extents size_;
  int64_t row_, finished_row_;  // channels that groups do not cross the ends of: for memory, sets
  int64_t together_;            // channels of a set
  int64_t arithmetic_bytes_;
  int coefficients_;  // of a channel
  Plan plan_;         // where there are sums
  Tiles tiles_;       // where a map goes through the tensor on its own
  int workers_ = 1, map_workers_ = 1;
  bool streaming_ = false, in_series_ = false;
  // Of scratch: see set_offsets().
  int64_t partial_bytes_ = 0, shared_bytes_ = 0, worker_bytes_ = 0;
  int64_t coefficients_at_ = 0, partials_at_ = 0, sums_at_ = 0, inexact_at_ = 0, of_one_at_ = 0,
          numbers_at_ = 0, buffer_at_ = 0;
};

}  // namespace bn2d
