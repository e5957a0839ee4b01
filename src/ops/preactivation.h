// What an activation was applied to (its argument) as a function of x, for a backward.
#pragma once
#include "base/scratch.h"
#include "ops/blockwise.h"
#include "ops/operations.h"
#include "ops/unbounded.h"
#include "ops/unbounded_statistics.h"

namespace bn2d {

class Preactivation {
 public:
  // Of the channels of all sets, whose forward left `saved` behind. `exact`: the same statistics.
  // Not inlined: its arrays would stay on the stack below the whole backward.
  [[gnu::noinline]] Preactivation(const Sets &sets, DType dtype, const SavedStatistics &saved,
                                  const UnboundedStatistics &exact);

  // Those of the forward map, from channel c on.
  MapCoefficients from(int64_t c) const { return coefficients_.from(c); }
  // Whether the arithmetic type has too little range for a channel (ops/extreme.h), or for another
  // one of its set.
  bool is_extreme(int64_t channel) const { return coefficients_.is_extreme[channel] != 0; }
  void mark_extreme(const Group &g, uint8_t *is_extreme) const {
    for (int64_t i = 0; i < g.channels; ++i)
      is_extreme[i] |= coefficients_.is_extreme[g.channel + i];
  }
  // The side of an activation on x (kernels/side.inl.h): signs of all channels, then thresholds,
  // then bounds, in the arithmetic type. False: the type has too little range for one of the
  // channels.
  bool find_side(const Fused &fused, std::byte *side) const;
  size_t side_bytes() const {
    return static_cast<size_t>(3 * coefficients_.size * sets_.counted().c);
  }
  // A coefficient of one channel, as a number of unbounded exponent.
  unbounded::Number coefficient(int k, int64_t channel) const;

 private:
  static constexpr int kCoefficients = kernels::coefficient_count(kernels::MapOf::forward);
  double at(const double *of_sets, int64_t channel) const {
    return of_sets[channel / sets_.channels];
  }
  const Sets sets_;
  const SavedStatistics &saved_;
  const UnboundedStatistics &exact_;
  const Scratch scratch_;
  const MapCoefficients coefficients_;
};

}  // namespace bn2d
