// The partial results of operations whose sums are simply added: backward and double backward.
#pragma once
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/blockwise.h"
#include "ops/centers.h"
#include "ops/channels_of_sets.h"
#include "ops/extreme.h"
#include "ops/operations.h"
#include "ops/schedule.h"
#include "ops/unbounded.h"

namespace bn2d {

template <kernels::SumsOf kOf>
class AdditivePartial {
 public:
  using Partial = kernels::Sums;
  static constexpr kernels::SumsOf kSumsOf = kOf;
  static constexpr int kSums = kernels::sums_count(kOf);

  template <class Call>
  explicit AdditivePartial(const Call &call)
      : sets_(call.sets.of(call.dy.size)),
        has_extreme_slope_(extreme::is_extreme_slope(call.fused.factor())),
        saved_(call.saved),
        dtype_(call.dy.dtype),
        channels_(sets_.counted().c),
        has_activation_(call.fused.has_sides()) {}

  void set_centers(const Group &g, const Accumulators &accumulators) const {
    bn2d::set_centers(saved_, sets_, g, accumulators);
    if (!has_activation_) return;
    set_side(g, accumulators);
  }
  void reduce(const Blockwise &blockwise, const Group &, const Group &part, int64_t,
              const Accumulators &accumulators, Partial *sums, const Workspace<Partial> &) const {
    blockwise.reduce(kOf, part, accumulators, sums);
  }

  void start(const Group &g, Partial *total) const {
    for (int term = 0; !is_wide() && term < kSums; ++term)
      fill(total->lo + term * kernels::kMaxGroup, g.channels, 0);
  }
  // Within a block of floats one double is enough. Blocks are added in pairs: 2^60 + 1 - 2^60 is 1,
  // also where each of the three is in a block of its own.
  void merge(const Group &g, Partial *into, const Partial &block) const {
    add(g, into, block, true);
  }
  // Channels of a set of floats are added as plain doubles: dx is as exact as its largest term.
  void add_channels(const Group &g, Partial *into, const Partial &from) const {
    add(g, into, from, is_wide());
  }

  // Of floats the high ones.
  int doubles() const { return is_wide() ? 2 * kSums : kSums; }
  static std::array<double *, 2 * kSums> arrays(Partial &sums) {
    std::array<double *, 2 * kSums> all;
    for (int term = 0; term < kSums; ++term) {
      all[term] = sums.hi + term * kernels::kMaxGroup;
      all[kSums + term] = sums.lo + term * kernels::kMaxGroup;
    }
    return all;
  }
  void set_count(int64_t, Partial *) const {}
  static void copy_count(const Partial &, Partial *) {}

 protected:
  // The sums of one channel of float or half data into own.extreme, in double.
  [[gnu::cold]] void sum_in_double(const Blockwise &blockwise, int64_t channel,
                                   const Workspace<Partial> &own) const {
    const Group group = {channel, 1};
    const Accumulators of_one(own.of_one, kSums, 1, false);
    set_center(mean_of(channel), mean_lo_of(channel), 0, of_one);
    set_side(group, of_one);
    for (int64_t block = 0; block < blockwise.blocks().count; ++block) {
      Partial *const of_block = block == 0 ? own.extreme : own.part;
      blockwise.accumulate_in_double(kOf, group, block, of_one, own.buffer);
      reduce(blockwise, group, {0, 1}, block, of_one, of_block, own);
      if (block != 0) merge(group, own.extreme, *own.part);
    }
  }
  bool is_wide() const { return dtype_ == DType::f64; }
  static double total_of(const Partial &sums, int term, int64_t i) {
    return sums.hi[term * kernels::kMaxGroup + i] + sums.lo[term * kernels::kMaxGroup + i];
  }
  // A mean over a set, from the sums of its channels.
  double mean_over_set(const Partial &sums, int term, int64_t i) const {
    const double sum = is_wide() ? total_of(sums, term, i) : sums.hi[term * kernels::kMaxGroup + i];
    return sum / static_cast<double>(sets_.values());
  }
  double of_set(const double *array, int64_t channel, double otherwise) const {
    return array ? array[channel / sets_.channels] : otherwise;
  }
  double mean_of(int64_t channel) const { return of_set(saved_.mean, channel, 0); }
  double mean_lo_of(int64_t channel) const { return of_set(saved_.mean_lo, channel, 0); }
  double invstd_of(int64_t channel) const { return of_set(saved_.invstd, channel, 0); }
  double weight_of(int64_t channel) const {
    return saved_.weight ? saved_.weight[channel < sets_.size.c ? channel : channel % sets_.size.c]
                         : 1;
  }
  // Sums of a channel times a factor.
  static void weigh(const Partial &sums, int term, int64_t i, double factor, Partial *to,
                    int to_term) {
    const int64_t at = term * kernels::kMaxGroup + i, to_at = to_term * kernels::kMaxGroup + i;
    to->hi[to_at] = factor * sums.hi[at];
    const double low = std::fma(factor, sums.hi[at], -to->hi[to_at]) + factor * sums.lo[at];
    to->lo[to_at] = low - low == 0 ? low : 0;
  }
  // What maps end with: the side, from coefficient `sign` on.
  void set_side_of_map(const Group &g, const MapCoefficients &coefficients, int sign) const {
    if (!has_activation_) return;
    for (int k = 0; k < kSideNumbers; ++k)
      copy_side(k, g, coefficients.regular + (sign + k) * coefficients.stride * coefficients.size);
  }
  // The same for one extreme channel: `first` is where its coefficients are.
  void set_side_of_extreme(int64_t channel, double *first, int64_t stride, int sign) const {
    const unbounded::Side side = side_of(channel);
    first[sign * stride] = side.sign;
    first[(sign + 1) * stride] = side.threshold;
    if (kSideNumbers > 2) first[(sign + 2) * stride] = side.bound;
  }
  unbounded::Side side_of(int64_t channel) const {
    unbounded::Side side = {0, 0, kNoBound};
    if (saved_.side == nullptr || !has_activation_) return side;
    const auto saved = [&](int k) {
      return load_element(arithmetic_dtype(dtype_), saved_.side, k * channels_ + channel);
    };
    side.sign = saved(0);
    side.threshold = saved(1);
    if (saved_.side_has_bound) side.bound = saved(2);
    return side;
  }

  const Sets sets_;
  const bool has_extreme_slope_;

 private:
  void add(const Group &g, Partial *into, const Partial &from, bool in_pairs) const {
    for (int64_t i = 0; i < kSums * kernels::kMaxGroup; i += kernels::kMaxGroup)
      kernels::active().channel.add(g.channels, into->hi + i, in_pairs ? into->lo + i : nullptr,
                                    from.hi + i, is_wide() ? from.lo + i : nullptr);
  }

  static constexpr int kSideNumbers = kOf == kernels::SumsOf::backward ? 3 : 2;
  static constexpr double kNoBound = std::numeric_limits<double>::quiet_NaN();
  void set_side(const Group &g, const Accumulators &accumulators) const {
    copy_side(0, g, accumulators.side_sign);
    copy_side(1, g, accumulators.side_threshold);
    if (saved_.side_has_bound) copy_side(2, g, accumulators.side_bound);
  }
  // Side_sign (k = 0), side_threshold (1) or side_bound (2) of a group; where the side is not read
  // from x, the first two are 0.
  void copy_side(int64_t k, const Group &g, void *to) const {
    const int64_t bytes = arithmetic_size(dtype_);
    const auto count = static_cast<size_t>(g.channels * bytes);
    if (k == 2 && !saved_.side_has_bound) {
      if (is_wide()) {
        fill(static_cast<double *>(to), g.channels, kNoBound);
      } else {
        fill(static_cast<float *>(to), g.channels, static_cast<float>(kNoBound));
      }
    } else if (saved_.side == nullptr) {
      std::memset(to, 0, count);
    } else {
      std::memcpy(to,
                  static_cast<const std::byte *>(saved_.side) + (k * channels_ + g.channel) * bytes,
                  count);
    }
  }

  const SavedStatistics &saved_;
  const DType dtype_;
  const int64_t channels_;
  const bool has_activation_;
};

// Fills in where the side of the activation is read from: x, a mask or y.
template <class Call>
void set_side(const Call &call, Tensors &tensors) {
  tensors.activation = call.fused.activation;
  if (!call.fused.has_sides()) return;
  tensors.slope = call.fused.factor();
  if (call.side_of_x()) {
    tensors.side = call.x;
    tensors.side_has_bound = call.saved.side_has_bound;
  } else if (call.mask != nullptr) {
    tensors.side_mask = call.mask;
  } else {
    tensors.side = call.y;
  }
}

}  // namespace bn2d
