#include "ops/rounds.h"

#include <algorithm>

namespace bn2d {

bool has_planes_up_to(int64_t most, const View &x, const SetShape &sets) {
  return sets.channels > 1 && x.size.plane() <= most && x.size.numel() != 0;
}

InRounds::InRounds(const Extents &size, DType dtype, const SetShape &sets, const Pool *pool,
                   int32_t thread_limit, bool is_direct)
    : size_(size),
      dtype_(dtype),
      pool_(pool_or_default(pool)),
      thread_limit_(thread_limit),
      sets_per_sample_(sets.count(size_) / size_.n),
      elements_per_sample_(size_.c * size_.plane()),
      samples_per_share_(std::max(
          {kShare / elements_per_sample_, kFewestOfShare, divide_up(size_.n, kMostShares)})),
      shares_(divide_up(size_.n, samples_per_share_)),
      samples_per_round_(is_direct ? size_.n : samples_of_round()) {}

// As even as whole shares can be.
int64_t InRounds::samples_of_round() const {
  const int64_t share_bytes =
                    samples_per_share_ * elements_per_sample_ * static_cast<int64_t>(sizeof(float)),
                bytes = std::max(kFewestBytes, packed_samples(size_.n).workers(1) * kBytesOfThread),
                rounds = divide_up(shares_, divide_up(bytes, share_bytes));
  if (shares_ * share_bytes <= kOneRound) return size_.n;
  return std::min(divide_up(shares_, rounds) * samples_per_share_, size_.n);
}

View InRounds::as_sets(const View &packed, int64_t count) const {
  return contiguous_view(packed.data, packed.dtype,
                         {1, count * sets_per_sample_, 1, elements_per_sample_ / sets_per_sample_});
}

void InRounds::load(const View &tensor, const Round &round, const View &packed,
                    std::byte *halves) const {
  const PackedTensors some = packed_samples(round.count);
  some.load(samples_of(tensor, round.first, round.count), some.in(packed.data), halves);
}

void InRounds::store(const View &packed, const Round &round, const View &tensor,
                     std::byte *halves) const {
  const PackedTensors some = packed_samples(round.count);
  some.store(some.in(packed.data), samples_of(tensor, round.first, round.count), halves);
}

void InRounds::spread(double *of_channels) const {
  const int64_t plane = size_.plane();
  for (int64_t c = size_.c - 1; plane > 1 && c >= 0; --c)
    fill(of_channels + c * plane, plane, double{of_channels[c]});
}

}  // namespace bn2d
