// What forward and backward of sets as planes (ops/sets_as_planes.h) have in common: the calls that
// go this way, and their rounds.
#pragma once
#include <algorithm>
#include <cstdint>

#include "ops/channels_of_sets.h"
#include "ops/packed_tensors.h"
#include "tensor/view.h"

namespace bn2d {

inline constexpr int64_t kMostPlaneByElements = 16;  // elements of a plane
bool has_planes_up_to(int64_t most, const View &x, const SetShape &sets);

// A call whose sets are stretches of memory. It goes through its samples in rounds, so that what
// one step leaves for the next is still in the caches: backward of (512,1024,2,2) in 32 groups
// takes 0.72 of the time on one thread, 0.67 on two, channels_last 0.75 and 0.68; of (4096,768,1,1)
// in one group 0.68 and 0.64.
class InRounds {
 public:
  // size, dtype: of the tensors of the call. is_direct: it reads and writes them as they are, with
  // nothing between its steps.
  InRounds(const Extents &size, DType dtype, const SetShape &sets, const Pool *pool,
           int32_t thread_limit, bool is_direct);

 protected:
  // Samples that a thread takes. The shape alone decides, for sums are merged share by share.
  static constexpr int64_t kShare = 1 << 14, kFewestOfShare = 16, kMostShares = 64;
  // Bytes of a tensor in a round: of each thread, and at least. What is not larger than kOneRound
  // is in the caches anyway.
  static constexpr int64_t kBytesOfThread = 512 << 10, kFewestBytes = 1 << 20, kOneRound = 4 << 20;

  struct Round {
    int64_t first, count;  // samples
  };
  static constexpr double *SavedStatistics::*kStatistics[] = {
      &SavedStatistics::mean, &SavedStatistics::mean_lo, &SavedStatistics::invstd};

  bool is_one_round() const { return samples_per_round_ == size_.n; }
  // Samples of the last round, where these are fewer. 0: it is like the others.
  int64_t samples_of_last_round() const { return size_.n % samples_per_round_; }
  template <class F>
  void for_rounds(const F &f) const {
    for (int64_t n = 0; n < size_.n; n += samples_per_round_)
      f(Round{n, std::min(samples_per_round_, size_.n - n)});
  }

  // Some samples.
  PackedTensors packed_samples(int64_t count) const {
    return PackedTensors({count, size_.c, size_.h, size_.w}, dtype_, pool_, thread_limit_);
  }
  // The same in packed memory, as one sample that has a channel for each set.
  View as_sets(const View &packed, int64_t count) const;
  float *at(const View &packed, int64_t n) const {
    return reinterpret_cast<float *>(packed.data) + n * elements_per_sample_;
  }
  // The samples of a round, to and from packed memory.
  void load(const View &tensor, const Round &round, const View &packed, std::byte *halves) const;
  void store(const View &packed, const Round &round, const View &tensor, std::byte *halves) const;

  // From channels to the elements of a sample: from the last one on, so that nothing is overwritten
  // that is still to be read.
  void spread(double *of_channels) const;

  // Calls f(share, its first sample, behind its last one) for those of a round.
  template <class F>
  void for_shares(const Round &round, int reads, const F &f) const {
    const int64_t before = round.first / samples_per_share_, end = round.first + round.count;
    auto unit = [&](int64_t index) {
      const int64_t share = before + index;
      f(share, share * samples_per_share_, std::min((share + 1) * samples_per_share_, end));
    };
    for_each_unit(pool_, packed_samples(round.count).workers(reads),
                  divide_up(round.count, samples_per_share_), Order::forward, unit);
  }

  const Extents size_;
  const DType dtype_;
  const Pool &pool_;
  const int32_t thread_limit_;
  const int64_t sets_per_sample_, elements_per_sample_;
  const int64_t samples_per_share_, shares_;
  const int64_t samples_per_round_;

 private:
  int64_t samples_of_round() const;
};

}  // namespace bn2d
