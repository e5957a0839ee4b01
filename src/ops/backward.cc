// Gradients of y = act(weight * xhat + bias + z), xhat = (x - mean) * invstd, with g = dy through the activation:
//   dz = g,  dbias = sum g,  dweight = sum g*xhat
//   batch statistics   dx = weight*invstd * (g - mean(g) - xhat*mean(g*xhat))
//   frozen statistics  dx = weight*invstd * g
#include <cmath>
#include <cstring>
#include <new>

#include "base/error.h"
#include "kernels/safe_range.h"
#include "ops/exact_mean.h"
#include "ops/extreme.h"
#include "ops/operations.h"
#include "ops/repeats.h"
#include "ops/schedule.h"
#include "ops/sums_partial.h"

namespace bn2d {
namespace {

using kernels::kMaxGroup;

class Backward : public SumsPartial<kernels::SumsOf::backward> {
 public:
  using Workspace = bn2d::Workspace<Partial>;
  const kernels::MapOf map;
  const bool has_sums, has_map;

  explicit Backward(const BackwardCall &call)
      : SumsPartial(call),
        map(call.batch_statistics && call.dx.exists() ? kernels::MapOf::backward : kernels::MapOf::scale),
        has_sums(map == kernels::MapOf::backward || call.dweight.exists() || call.dbias.exists()),
        has_map(call.dx.exists() || call.dz.exists()),
        call_(call),
        count_(static_cast<double>(call.dy.size.per_channel())) {}

  void finish(const Blockwise &blockwise, const Group &g, const Partial *sums, const MapCoefficients &coefficients,
              const Workspace &own) const {
    const auto at = [&](const double *array) { return array ? array + g.channel : nullptr; };
    const SavedStatistics &saved = call_.saved;
    double sum_g[kMaxGroup], sum_g_xhat[kMaxGroup];
    std::memset(coefficients.is_extreme, 0, static_cast<size_t>(g.channels));
    channel_.gradients({g.channels,
                        {at(saved.mean), at(saved.mean_lo), at(saved.invstd), at(saved.weight)},
                        sums,
                        count_,
                        coefficients.of_regular(),
                        sum_g,
                        sum_g_xhat});
    set_side_of_map(g, coefficients, kernels::coefficient::b_side_sign);
    for (int64_t i = 0; (i += coefficients.regular_channels(i, g.channels)) < g.channels; ++i)
      coefficients.is_extreme[i] =
          set_extreme(blockwise, g.channel + i, sums, coefficients.from(i), own, &sum_g[i], &sum_g_xhat[i]);
    if (sums == nullptr) return;
    blend_into(call_.dbias, g, call_.blend, sum_g);
    blend_into(call_.dweight, g, call_.blend, sum_g_xhat);
  }

 private:
  struct Channel {  // what backward knows of one
    double mean, mean_lo, invstd, weight;
  };

  // The coefficients of an extreme channel, and its sums where these could
  // overflow or vanish. False: the channel is not extreme after all.
  bool set_extreme(const Blockwise &blockwise, int64_t channel, const Partial *sums,
                   const MapCoefficients &coefficients, const Workspace &own, double *sum_g, double *sum_g_xhat) const {
    const auto of = [&](const double *array, double other) { return array ? array[channel] : other; };
    Channel c = {of(call_.saved.mean, 0), of(call_.saved.mean_lo, 0), call_.saved.invstd[channel],
                 of(call_.saved.weight, 1)};
    Scaling scaling;
    if (is_wide() && !scale(blockwise, channel, own, &c, &scaling)) return false;
    const bool no_gradient = !is_wide() && sums != nullptr && blockwise.largest_gradient(channel) == 0;
    if (no_gradient && is_ordinary(c)) return false;  // what looked extreme are its sums of 0, which are right
    if (sums != nullptr) sum_extreme(blockwise, channel, c.mean, c.mean_lo, scaling, own);
    double g = 0, g_xhat = 0;
    channel_.gradients({1,
                        {&c.mean, &c.mean_lo, &c.invstd, &c.weight},
                        sums ? own.extreme : nullptr,
                        count_,
                        coefficients.of_extreme(0),
                        &g,
                        &g_xhat});
    *sum_g = std::ldexp(g, -scaling.g);
    *sum_g_xhat = std::ldexp(g_xhat, -scaling.g);
    *coefficients.scaling = scaling;
    set_side_of_extreme(channel, coefficients.extreme, coefficients.stride, kernels::coefficient::b_side_sign);
    return true;
  }

  static bool is_ordinary(const Channel &c) {
    return kernels::is_safe_factor(c.invstd) && kernels::is_safe_factor(c.weight * c.invstd) &&
           std::fabs(c.mean) < kernels::SafeRange<float>::kCenter;
  }

  // Brings 1/std, the gradients and the weight of a channel of doubles close to 1. False: they are no
  // finite numbers, or there is nothing to scale.
  bool scale(const Blockwise &blockwise, int64_t channel, const Workspace &own, Channel *c, Scaling *scaling) const {
    const double largest = blockwise.largest_gradient(channel);
    const bool is_ordinary = c->invstd >= 0x1p-450 && c->invstd <= 0x1p450;  // no gradient is what made it extreme
    if (!std::isfinite(largest) || (largest == 0 && is_ordinary)) return false;
    if (std::isinf(c->invstd) ? !measure(blockwise, channel, own, c, scaling) : !scale_statistics(c, scaling))
      return false;
    const double slope = call_.fused.activation == Activation::leaky_relu ? std::fabs(call_.fused.slope) : 0;
    if (largest != 0) scaling->g = -std::ilogb(largest) - std::ilogb(std::max(slope, 1.0));
    const int weight = extreme::has_exponent(std::fabs(c->weight)) ? std::ilogb(c->weight) : 0;
    scaling->out = scaling->x - scaling->g + weight;
    scaling->out2 = -scaling->g;
    c->weight = std::ldexp(c->weight, -weight);
    return true;
  }

  static bool scale_statistics(Channel *c, Scaling *scaling) {
    if (std::isnan(c->invstd)) return false;
    scaling->x = extreme::of_invstd(c->invstd, c->mean);
    c->mean = std::ldexp(c->mean, scaling->x);
    c->mean_lo = std::ldexp(c->mean_lo, scaling->x);
    c->invstd = std::ldexp(c->invstd, -scaling->x);
    return true;
  }

  // A saved 1/std that is infinite: eps was 0, and the deviation a subnormal number. Then x tells more.
  bool measure(const Blockwise &blockwise, int64_t channel, const Workspace &own, Channel *c, Scaling *scaling) const {
    struct Measured {
      kernels::Moments total, part;
    };
    static_assert(sizeof(Measured) <= kNumbersBytes);
    if (!call_.batch_statistics || !call_.needs_x()) return false;
    const double half = blockwise.half_of_largest_difference(channel);
    if (!extreme::has_exponent(half)) return false;
    Measured &measured = *new (own.numbers) Measured;
    scaling->x = extreme::of_largest_difference(half, 0);
    extreme::moments(blockwise, channel, scaling->x, {own.of_one, kSums, 1, true}, own.sums, &measured.part, own.buffer,
                     &measured.total);
    double variance;
    channel_.variance(1, &measured.total, count_, &variance);
    c->mean = measured.total.mean_hi[0];
    c->mean_lo = measured.total.mean_lo[0];
    c->invstd = 1 / std::sqrt(variance);
    return true;
  }

  const BackwardCall &call_;
  const double count_;
  const kernels::ChannelKernels &channel_ = kernels::active().channel;
};

}  // namespace

void backward(const BackwardCall &given) {
  BackwardCall call = given;
  if (call.dy.size.numel() == 0) {
    blend_nothing_into(call.dbias, call.dy.size.c, call.blend);
    blend_nothing_into(call.dweight, call.dy.size.c, call.blend);
    return;
  }
  const ExactMean mean(call, call.needs_x());
  if (mean.low()) call.saved.mean_lo = mean.low();
  Tensors tensors;
  tensors.g = call.dy;
  // Sums over g alone still run through the kernel that also reads x; where there is no x, the unused sum takes g for
  // it.
  tensors.x = call.needs_x() ? call.x : View();
  tensors.out = call.dx;
  tensors.out2 = call.dz;
  set_side(call, tensors);
  const Backward operation(call);
  if (operation.has_sums && !tensors.x.exists()) tensors.x = call.dy;
  if (!operation.has_sums && !operation.has_map) return;
  const Repeats repeats(tensors, call.dy.size);
  const Blockwise blockwise(tensors, call.dy.size, call.dy.dtype);
  const bool in_place = call.dx.data == call.dy.data || call.dz.data == call.dy.data;
  const int reads = tensors.x.exists() && tensors.x.data != call.dy.data ? 2 : 1;
  const Schedule<Backward> schedule(operation, blockwise, call, call.dy.size, call.dy.dtype, reads, !in_place);
  const Scratch scratch(schedule.scratch_bytes());
  schedule.run(scratch.data());
}

}  // namespace bn2d
