// Gradients of y = act(weight * xhat + bias + z), xhat = (x - mean) * invstd, with g = dy through the activation:
//   dz = g,  dbias = sum g,  dweight = sum g*xhat
//   batch statistics   dx = weight*invstd * (g - mean(g) - xhat*mean(g*xhat))
//   frozen statistics  dx = weight*invstd * g
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "kernels/safe_range.h"
#include "ops/additive_partial.h"
#include "ops/exact_mean.h"
#include "ops/extreme.h"
#include "ops/operations.h"
#include "ops/repeats.h"
#include "ops/schedule.h"

namespace bn2d {
namespace {

using kernels::kMaxGroup;

class Backward : public AdditivePartial<kernels::SumsOf::backward> {
 public:
  using Workspace = bn2d::Workspace<Partial>;
  const kernels::MapOf map;
  const bool has_sums, has_map;

  explicit Backward(const BackwardCall &call)
      : AdditivePartial(call),
        map(call.batch_statistics && call.dx.exists() ? kernels::MapOf::backward : kernels::MapOf::scale),
        has_sums(call.given_sums == nullptr && (map == kernels::MapOf::backward || call.sums != nullptr ||
                                                call.dweight.exists() || call.dbias.exists())),
        has_map(call.dx.exists() || call.dz.exists()),
        call_(call),
        count_(static_cast<double>(call.count ? call.count : call.dy.size.per_channel())) {}

  void finish(const Blockwise &blockwise, const Group &g, const Partial *sums, const MapCoefficients &coefficients,
              const Workspace &own) const {
    const auto at = [&](const double *array) { return array ? array + g.channel : nullptr; };
    const SavedStatistics &saved = call_.saved;
    double sum_g[kMaxGroup], sum_g_xhat[kMaxGroup];
    if (call_.given_sums) sums = given(g, own.total);
    std::memset(coefficients.is_extreme, has_extreme_slope_, static_cast<size_t>(g.channels));
    channel_.gradients({g.channels,
                        {at(saved.mean), at(saved.mean_lo), at(saved.invstd), at(saved.weight)},
                        sums,
                        count_,
                        coefficients.of_regular(),
                        sum_g,
                        sum_g_xhat});
    for (int64_t i = 0; call_.sums && i < g.channels; ++i) save_products(g.channel + i, *sums, i);
    set_side_of_map(g, coefficients, kernels::coefficient::b_side_sign);
    for (int64_t i = 0; (i += coefficients.regular_channels(i, g.channels)) < g.channels; ++i)
      coefficients.is_extreme[i] =
          set_extreme(blockwise, g.channel + i, sums != nullptr, coefficients.from(i), own, &sum_g[i], &sum_g_xhat[i]);
    if (sums == nullptr) return;
    if (call_.sums) std::copy_n(sum_g, g.channels, call_.sums + g.channel);
    blend_into(call_.dbias, g, call_.blend, sum_g);
    blend_into(call_.dweight, g, call_.blend, sum_g_xhat);
  }

 private:
  double of(const double *array, int64_t channel, double other) const { return array ? array[channel] : other; }

  // The sums that came from outside.
  const Partial *given(const Group &g, Partial *sums) const {
    for (int term = 0; term < kSums; ++term) {
      std::copy_n(call_.given_sums + term * call_.dy.size.c + g.channel, g.channels, sums->hi + term * kMaxGroup);
      std::fill_n(sums->lo + term * kMaxGroup, g.channels, 0.0);
    }
    return sums;
  }
  // The sum of g*(x - mean) of a channel, number i of its group.
  void save_products(int64_t channel, const Partial &sums, int64_t i) const {
    call_.sums[call_.dy.size.c + channel] = sums.hi[kMaxGroup + i] + sums.lo[kMaxGroup + i];
  }

  // The coefficients of an extreme channel, and its sums once more. False: the channel is not extreme after all.
  [[gnu::cold]] bool set_extreme(const Blockwise &blockwise, int64_t channel, bool has_sums,
                                 const MapCoefficients &coefficients, const Workspace &own, double *sum_g,
                                 double *sum_g_xhat) const {
    if (call_.given_sums ? is_ordinary_for(*sum_g / count_, *sum_g_xhat / count_, channel) &&
                               (!is_wide() || is_ordinary(blockwise, channel, own))
                         : has_sums && is_ordinary(blockwise, channel, own))
      return false;
    is_wide() ? set_unbounded(blockwise, channel, has_sums, coefficients, own, sum_g, sum_g_xhat)
              : set_doubles(blockwise, channel, has_sums, coefficients, own, sum_g, sum_g_xhat);
    set_side_of_extreme(channel, coefficients.extreme, coefficients.stride, kernels::coefficient::b_side_sign);
    return true;
  }

  // As doubles, whose range has room for those of float data.
  void set_doubles(const Blockwise &blockwise, int64_t channel, bool has_sums, const MapCoefficients &coefficients,
                   const Workspace &own, double *sum_g, double *sum_g_xhat) const {
    if (call_.given_sums) {
      given({channel, 1}, own.extreme);
    } else if (has_sums) {
      sum_in_double(blockwise, channel, own);
      if (call_.sums) save_products(channel, *own.extreme, 0);
    }
    const auto at = [&](const double *array) { return array ? array + channel : nullptr; };
    const SavedStatistics &saved = call_.saved;
    channel_.gradients({1,
                        {at(saved.mean), at(saved.mean_lo), at(saved.invstd), at(saved.weight)},
                        has_sums ? own.extreme : nullptr,
                        count_,
                        coefficients.of_extreme(0),
                        sum_g,
                        sum_g_xhat});
  }

  // Of double data, as numbers without ends.
  void set_unbounded(const Blockwise &blockwise, int64_t channel, bool has_sums, const MapCoefficients &coefficients,
                     const Workspace &own, double *sum_g, double *sum_g_xhat) const {
    using namespace kernels::coefficient;
    unbounded::Sum::Mean mean = {of(call_.saved.mean, channel, 0), of(call_.saved.mean_lo, channel, 0)};
    unbounded::Number invstd = call_.saved.invstd[channel];
    if (has_sums) {
      measure(blockwise, channel, own, &mean, &invstd);
      unbounded::Gradients sums;
      const double sign = side_of(0, channel), threshold = side_of(1, channel);
      if (call_.given_sums) {
        sums.g.add(call_.given_sums[channel]);
        sums.products.add(call_.given_sums[call_.dy.size.c + channel]);
      } else {
        blockwise.visit(channel, own.buffer, [&](const kernels::MapJob &job) {
          unbounded::add_gradients(job, mean, sign, threshold, &sums);
        });
      }
      const unbounded::Number g = sums.g.total(), products = sums.products.total(), g_xhat = products * invstd;
      if (call_.sums) call_.sums[call_.dy.size.c + channel] = products.to_double();
      *sum_g = g.to_double();
      *sum_g_xhat = g_xhat.to_double();
      extreme::set_coefficient(coefficients, minus_mean_hi, -mean.hi);
      extreme::set_coefficient(coefficients, minus_mean_lo, -mean.lo);
      extreme::set_coefficient(coefficients, b_invstd, invstd);
      extreme::set_coefficient(coefficients, b_gmean_hi, g / count_);
      extreme::set_coefficient(coefficients, b_slope_x, g_xhat / count_);
    }
    extreme::set_coefficient(coefficients, b_scale, invstd * of(call_.saved.weight, channel, 1));
  }

  // Whether a channel is not extreme after all: only its sums were, because gradients are 0, or, of doubles, not
  // finite, or because their products cancel.
  bool is_ordinary(const Blockwise &blockwise, int64_t channel, const Workspace &own) const {
    using R = kernels::SafeRange<double>;
    const double invstd = call_.saved.invstd[channel], mean = of(call_.saved.mean, channel, 0);
    const double weight = of(call_.saved.weight, channel, 1);
    const auto is_within = [](double v, double least, double most) {
      return std::fabs(v) >= least && std::fabs(v) < most;
    };
    if (is_wide()) {
      if (std::isnan(weight) || std::isnan(invstd)) return true;
      if (!is_within(invstd, R::kLeastInvstd, R::kMostInvstd) || std::fabs(mean) >= R::kCenter) return false;
    } else if (!has_safe_factors(channel)) {
      return false;
    }
    double gradient = 0, product = 0;  // the largest
    bool is_zero = true, is_finite = true, has_products = false;
    const double sign = side_of(0, channel), threshold = side_of(1, channel);
    blockwise.visit(channel, own.buffer, [&](const kernels::MapJob &job) {
      for (int64_t i = 0; i < unbounded::count(job); ++i) {
        const double factor = unbounded::is_damped(job, i, sign, threshold) ? job.slope : 1;
        const double dy = unbounded::elements(job.g)[i], g = dy * factor, t = unbounded::elements(job.x)[i] - mean;
        is_zero = is_zero && (dy == 0 || factor == 0);
        is_finite = is_finite && std::isfinite(dy) && std::isfinite(t);
        has_products = has_products || (g != 0 && t != 0);
        gradient = std::max(gradient, std::fabs(g));
        product = std::max(product, std::fabs(g * t));
      }
    });
    if (!is_wide() || is_zero || !is_finite) return is_wide() || is_zero;
    if (has_extreme_slope_ || !(weight == 0 || is_within(weight * invstd, R::kLeast, R::kMost))) return false;
    return is_within(gradient, 0x1p-600, R::kMost) && (!has_products || is_within(product, 0x1p-600, R::kMost));
  }

  bool has_safe_factors(int64_t channel) const {
    const double invstd = call_.saved.invstd[channel], weight = of(call_.saved.weight, channel, 1);
    return kernels::is_safe_factor(invstd) && kernels::is_safe_factor(weight * invstd) &&
           std::fabs(of(call_.saved.mean, channel, 0)) < kernels::SafeRange<float>::kCenter;
  }

  // Whether the map can work with means of sums that came from outside.
  bool is_ordinary_for(double g_mean, double slope, int64_t channel) const {
    using R = kernels::SafeRange<double>;
    if (!is_wide())
      return kernels::is_safe_factor(g_mean) && kernels::is_safe_factor(slope) && has_safe_factors(channel);
    const auto is_safe = [](double v) { return v == 0 || (std::fabs(v) >= R::kLeast && std::fabs(v) < R::kMost); };
    return is_safe(g_mean) && is_safe(slope);
  }

  // A saved 1/std that no normal double holds: the deviation is near an end of the range. Then x tells more, where it
  // is what was saved.
  void measure(const Blockwise &blockwise, int64_t channel, const Workspace &own, unbounded::Sum::Mean *mean,
               unbounded::Number *invstd) const {
    const double saved = call_.saved.invstd[channel];
    if (!call_.batch_statistics || call_.count != 0 || !call_.needs_x() || (saved >= 0x1p-1022 && std::isfinite(saved)))
      return;
    const unbounded::Moments moments = extreme::moments(blockwise, channel, own.buffer);
    const unbounded::Number measured = moments.variance(count_).inverse_sqrt();
    if (measured.to_double() != saved) return;
    *mean = moments.mean;
    *invstd = measured;
  }

  const BackwardCall &call_;
  const double count_;
  const kernels::ChannelKernels &channel_ = kernels::active().channel;
};

}  // namespace

void backward(const BackwardCall &given) {
  BackwardCall call = given;
  if (call.dy.size.numel() == 0) {
    if (call.sums) std::fill_n(call.sums, 2 * call.dy.size.c, 0.0);
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
