// Gradients of y = act(weight * xhat + bias + z), xhat = (x - mean) * invstd, with g = dy through
// the activation:
//   dz = g,  dbias = sum g,  dweight = sum g*xhat
//   batch statistics   dx = weight*invstd * (g - mean(g) - xhat*mean(g*xhat))
//                         = scale*(g - mean(g)) + (x - mean)*x_factor
//   frozen statistics  dx = weight*invstd * g
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "base/scratch.h"
#include "kernels/safe_range.h"
#include "ops/additive_partial.h"
#include "ops/agreement.h"
#include "ops/calls.h"
#include "ops/channels_of_sets.h"
#include "ops/expanded_tensors.h"
#include "ops/extreme.h"
#include "ops/last_set.h"
#include "ops/low_part_of_mean.h"
#include "ops/merge.h"
#include "ops/operations.h"
#include "ops/parameter_gradients.h"
#include "ops/preactivation.h"
#include "ops/reordered.h"
#include "ops/schedule.h"
#include "ops/sets_as_planes.h"
#include "ops/unbounded_statistics.h"

namespace bn2d {
namespace {

using kernels::kMaxGroup;

class Backward : public AdditivePartial<kernels::SumsOf::backward> {
 public:
  using Workspace = bn2d::Workspace<Partial>;
  static constexpr int kPoolings = 1;
  static constexpr bool kSpreads = true;
  const kernels::MapOf map;
  const bool has_sums, has_map;

  // `preactivation`: of a pointwise activation, else NULL.
  Backward(const BackwardCall &call, const UnboundedStatistics &exact,
           const Preactivation *preactivation)
      : AdditivePartial(call),
        map(call.batch_statistics && call.dx.exists() ? kernels::MapOf::backward
                                                      : kernels::MapOf::scale),
        has_sums(call.given_sums == nullptr &&
                 (map == kernels::MapOf::backward || call.sums != nullptr ||
                  call.dweight.exists() || call.dbias.exists())),
        has_map(call.dx.exists() || call.dz.exists()),
        call_(call),
        exact_(exact),
        preactivation_(preactivation),
        count_(static_cast<double>(call.count ? call.count : sets_.values())),
        kept_dweight_(sets_, call.dweight.exists()),
        kept_dbias_(sets_, call.dbias.exists()) {}

  // The sums of scale*g and of scale*g*(x - mean), with the scale that the map has.
  [[gnu::noinline]] const Partial &weighed(int, const Group &g, const Partial &total,
                                           const MapCoefficients &coefficients,
                                           const Workspace &own) const {
    Numbers &numbers = *new (own.numbers) Numbers;
    channel_.gradients({g.channels, statistics_of(g, false, &numbers), &total, nullptr, count_,
                        coefficients.of_regular(), nullptr, nullptr, own.part});
    return *own.part;
  }

  [[gnu::noinline]] void finish(const Blockwise &blockwise, const Group &g, const Partial *sums,
                                const MapCoefficients &coefficients, const Workspace &own) const {
    Numbers &numbers = *numbers_of<Numbers>(has_sums, sets_, g, own.numbers);
    // Without dx nothing asks for sums that came from outside, and there is no x.
    if (call_.given_sums && map == kernels::MapOf::backward) sums = given(g, own.total);
    std::memset(coefficients.is_extreme, has_extreme_slope_, static_cast<size_t>(g.channels));
    if (preactivation_) preactivation_->mark_extreme(g, coefficients.is_extreme);
    for (int64_t i = 0; is_wide() && i < g.channels; ++i)
      if (has_tiny_mean(g.channel + i)) coefficients.is_extreme[i] = 1;
    channel_.gradients({g.channels, statistics_of(g, true, &numbers), sums,
                        sums && has_wide_sets() ? own.pooled[0] : nullptr, count_,
                        coefficients.of_regular(), numbers.sum_g, numbers.sum_g_xhat});
    for (int64_t i = 0; call_.sums && i < g.channels; ++i) save_products(g.channel + i, *sums, i);
    set_side_of_map(g, coefficients, kernels::coefficient::b_side_sign);
    coefficients.for_each_extreme(g.channels, [&](int64_t i) {
      coefficients.is_extreme[i] = set_extreme(blockwise, g.channel + i, i, sums != nullptr,
                                               coefficients.from(i), own, &numbers);
    });
    if (sums == nullptr) return;
    if (kept_dbias_.exists()) kept_dbias_.keep(g, numbers.sum_g);
    if (kept_dweight_.exists()) kept_dweight_.keep(g, numbers.sum_g_xhat);
    if (sets_.batches() > 1) return;
    if (call_.sums) std::copy_n(numbers.sum_g, g.channels, call_.sums + g.channel);
    blend_into(call_.dbias, g, call_.blend, numbers.sum_g);
    blend_into(call_.dweight, g, call_.blend, numbers.sum_g_xhat);
  }

  // Where there are several sets of samples: the gradients of the parameters, when all are done.
  [[gnu::noinline]] void add_sets() const {
    blend_kept_into(call_.dbias, kept_dbias_, sets_.size.c, call_.blend);
    blend_kept_into(call_.dweight, kept_dweight_, sets_.size.c, call_.blend);
  }

 private:
  struct Numbers {  // of a group
    double mean[kMaxGroup], mean_lo[kMaxGroup], invstd[kMaxGroup], weight[kMaxGroup];
    double sum_g[kMaxGroup], sum_g_xhat[kMaxGroup];
    // Mean, and sums of weighed(), of the set that the last extreme channel belonged to.
    int64_t extreme_set = -1;
    unbounded::Sum::Mean extreme_mean;
    unbounded::Number extreme_g, extreme_products;
  };

  bool has_wide_sets() const { return sets_.channels > 1; }
  [[gnu::noinline]] kernels::ChannelStatistics statistics_of(const Group &g, bool wants_means,
                                                             Numbers *numbers) const {
    const SavedStatistics &saved = call_.saved;
    const auto at = [&](const double *array) { return array ? array + g.channel : nullptr; };
    kernels::ChannelStatistics statistics = {at(saved.mean), at(saved.mean_lo), at(saved.invstd),
                                             at(saved.weight)};
    if (sets_.batches() > 1 && saved.weight) {
      for_channels_of_module(sets_, g, [&](int64_t first, int64_t channels, int64_t offset) {
        std::copy_n(saved.weight + first, channels, numbers->weight + offset);
      });
      statistics.weight = numbers->weight;
    }
    if (!has_wide_sets()) return statistics;
    const auto for_channels = [&](const double *of_sets, double *to) -> const double * {
      if (of_sets == nullptr) return nullptr;
      std::copy_n(of_sets + g.channel / sets_.channels, count_sets(sets_, g), to);
      spread(sets_, g, to);
      return to;
    };
    return {wants_means ? for_channels(saved.mean, numbers->mean) : nullptr,
            wants_means ? for_channels(saved.mean_lo, numbers->mean_lo) : nullptr,
            for_channels(saved.invstd, numbers->invstd), statistics.weight};
  }

  // The sums that came from outside.
  const Partial *given(const Group &g, Partial *sums) const {
    for (int term = 0; term < kSums; ++term) {
      std::copy_n(call_.given_sums + term * call_.dy.size.c + g.channel, g.channels,
                  sums->hi + term * kMaxGroup);
      std::fill_n(sums->lo + term * kMaxGroup, g.channels, 0.0);
    }
    return sums;
  }
  // The sum of g*(x - mean) of a channel, number i of its group.
  void save_products(int64_t channel, const Partial &sums, int64_t i) const {
    call_.sums[call_.dy.size.c + channel] = total_of(sums, 1, i);
  }

  // The coefficients of an extreme channel, number i of its group, and its sums once more. False:
  // the channel is not extreme after all.
  [[gnu::cold]] bool set_extreme(const Blockwise &blockwise, int64_t channel, int64_t i,
                                 bool is_summed, const MapCoefficients &coefficients,
                                 const Workspace &own, Numbers *numbers) const {
    double *const sum_g = numbers->sum_g + i, *const sum_g_xhat = numbers->sum_g_xhat + i;
    const bool is_of_preactivation =
        preactivation_ != nullptr && preactivation_->is_extreme(channel);
    if (is_summed && !is_of_preactivation &&
        is_ordinary_map(channel, i, *sum_g, *sum_g_xhat, own) &&
        (call_.given_sums && !is_wide() ? has_safe_factors(channel)
                                        : is_ordinary(blockwise, channel, own)))
      return false;
    if (is_wide()) {
      set_unbounded(blockwise, channel, is_summed, coefficients, own, numbers, sum_g, sum_g_xhat);
    } else {
      set_doubles(blockwise, channel, is_summed, coefficients, own, numbers, sum_g, sum_g_xhat);
    }
    set_side_of_extreme(channel, coefficients.extreme, coefficients.stride,
                        kernels::coefficient::b_side_sign);
    return true;
  }

  // As doubles, whose range has room for those of float data.
  void set_doubles(const Blockwise &blockwise, int64_t channel, bool is_summed,
                   const MapCoefficients &coefficients, const Workspace &own, Numbers *numbers,
                   double *sum_g, double *sum_g_xhat) const {
    if (is_summed && has_wide_sets()) sum_set_in_double(blockwise, channel, own, numbers);
    if (call_.given_sums) {
      given({channel, 1}, own.extreme);
    } else if (is_summed) {
      sum_extreme(blockwise, channel, own);
      if (call_.sums) save_products(channel, *own.extreme, 0);
    }
    const double mean = mean_of(channel), mean_lo = mean_lo_of(channel),
                 invstd = invstd_of(channel), weight = weight_of(channel);
    // Statistics of doubles from outside may have a variance beyond double. All xhat are 0 then,
    // whatever the products are.
    if (is_summed && invstd == 0) own.extreme->hi[kMaxGroup] = own.extreme->lo[kMaxGroup] = 0;
    channel_.gradients({1,
                        {&mean, &mean_lo, &invstd, &weight},
                        is_summed ? own.extreme : nullptr,
                        is_summed && has_wide_sets() ? own.of_sets : nullptr,
                        count_,
                        coefficients.of_extreme(0),
                        sum_g,
                        sum_g_xhat});
  }

  // The sums of a channel of float or half data into own.extreme. A pointwise activation has its
  // argument as double there, too.
  void sum_extreme(const Blockwise &blockwise, int64_t channel, const Workspace &own) const {
    if (preactivation_ == nullptr) return sum_in_double(blockwise, channel, own);
    const unbounded::Sum::Mean mean = {mean_of(channel), mean_lo_of(channel)};
    unbounded::Gradients sums;
    blockwise.visit(channel, own.buffer, [&](const kernels::MapJob &job) {
      unbounded::add_gradients(job, mean, {}, &sums);
    });
    own.extreme->hi[0] = sums.g.total().to_double();
    own.extreme->hi[kMaxGroup] = sums.products.total().to_double();
    own.extreme->lo[0] = own.extreme->lo[kMaxGroup] = 0;
  }

  // The sums of weighed() over the set of a channel into own.of_sets, in double.
  void sum_set_in_double(const Blockwise &blockwise, int64_t channel, const Workspace &own,
                         Numbers *numbers) const {
    const int64_t set = channel / sets_.channels, first = set * sets_.channels;
    if (numbers->extreme_set == set) return;
    numbers->extreme_set = set;
    for (int64_t c = first; c < first + sets_.channels; ++c) {
      sum_extreme(blockwise, c, own);
      Partial *const weighed = c == first ? own.of_sets : own.part;
      for (int term = 0; term < kSums; ++term)
        weigh(*own.extreme, term, 0, weight_of(c) * invstd_of(c), weighed, term);
      if (c != first) merge({0, 1}, own.of_sets, *own.part);
    }
  }

  // Of double data, as numbers of unbounded exponent.
  void set_unbounded(const Blockwise &blockwise, int64_t channel, bool is_summed,
                     const MapCoefficients &coefficients, const Workspace &own, Numbers *numbers,
                     double *sum_g, double *sum_g_xhat) const {
    using namespace kernels::coefficient;
    const int64_t set = channel / sets_.channels, first = set * sets_.channels;
    const unbounded::Sum::Mean &mean = numbers->extreme_mean;
    const unbounded::Number invstd = exact_.invstd(set);
    const auto sums_of = [&](int64_t c) {
      unbounded::Gradients sums;
      if (call_.given_sums) {
        sums.g.add(call_.given_sums[c]);
        sums.products.add(call_.given_sums[call_.dy.size.c + c]);
        return sums;
      }
      const unbounded::Side side = side_of(c);
      blockwise.visit(c, own.buffer, [&](const kernels::MapJob &job) {
        unbounded::add_gradients(job, mean, side, &sums);
      });
      return sums;
    };
    const auto weight = [&](int64_t c) { return unbounded::Number(weight_of(c)); };
    if (numbers->extreme_set != set) {
      numbers->extreme_set = set;
      numbers->extreme_mean = mean_of_set(blockwise, channel, own);
      unbounded::Sum g, products;
      for (int64_t c = first; is_summed && has_wide_sets() && c < first + sets_.channels; ++c) {
        const unbounded::Gradients sums = sums_of(c);
        g.add(sums.g.total() * weight(c));
        products.add(sums.products.total() * weight(c));
      }
      numbers->extreme_g = g.total();
      numbers->extreme_products = products.total();
    }
    if (is_summed) {
      const unbounded::Gradients sums = sums_of(channel);
      unbounded::Number g = sums.g.total(), products = sums.products.total();
      if (call_.sums) call_.sums[call_.dy.size.c + channel] = products.to_double();
      *sum_g = g.to_double();
      *sum_g_xhat = (products * invstd).to_double();
      g = has_wide_sets() ? numbers->extreme_g : g * weight(channel);
      products = has_wide_sets() ? numbers->extreme_products : products * weight(channel);
      extreme::set_coefficient(coefficients, minus_mean_hi, -mean.hi);
      extreme::set_coefficient(coefficients, minus_mean_lo, -mean.lo);
      extreme::set_coefficient(coefficients, b_shift, -(g * invstd / count_));
      extreme::set_coefficient(coefficients, b_x_factor,
                               -(products * invstd * invstd * invstd / count_));
    }
    // One value alone is its own mean: dx is 0, however its two terms are rounded. NaN stays.
    const bool is_alone = is_summed && call_.batch_statistics && count_ == 1;
    if (is_alone) extreme::set_coefficient(coefficients, b_shift, 0);
    extreme::set_coefficient(
        coefficients, b_scale,
        is_alone ? unbounded::Number(0 * weight_of(channel)) : invstd * weight(channel));
  }

  // Whether the mean of x is near the smallest doubles, which do not hold all of it.
  [[gnu::noinline]] bool has_tiny_mean(int64_t channel) const {
    const double mean = std::fabs(mean_of(channel));
    return mean != 0 && mean < kernels::SafeRange<double>::kLeastMean &&
           call_.has_statistics_of_x();
  }

  // A tiny mean is taken from x again. Not where the caller's is another one.
  unbounded::Sum::Mean mean_of_set(const Blockwise &blockwise, int64_t channel,
                                   const Workspace &own) const {
    const unbounded::Sum::Mean saved = exact_.mean(channel / sets_.channels);
    if (!has_tiny_mean(channel)) return saved;
    unbounded::Sum sum;
    blockwise.visit_set(channel, own.buffer,
                        [&](const kernels::MapJob &job) { unbounded::add_elements(job, &sum); });
    const unbounded::Sum::Mean exact = sum.divided_by(static_cast<double>(sets_.values()));
    return exact.hi.to_double() == mean_of(channel) ? exact : saved;
  }

  // Whether a channel is not extreme after all: only its sums were, because gradients are 0, or, of
  // doubles, not finite, or because their products cancel.
  bool is_ordinary(const Blockwise &blockwise, int64_t channel, const Workspace &own) const {
    using R = kernels::SafeRange<double>;
    const double invstd = invstd_of(channel), mean = mean_of(channel), weight = weight_of(channel);
    const auto is_within = [](double v, double least, double most) {
      return std::fabs(v) >= least && std::fabs(v) < most;
    };
    if (is_wide()) {
      if (std::isnan(weight) || std::isnan(invstd)) return true;
      if (!is_within(invstd, R::kLeastInvstd, R::kMostInvstd) || std::fabs(mean) >= R::kCenter)
        return false;
    } else if (!has_safe_factors(channel)) {
      return false;
    }
    double gradient = 0, product = 0;  // the largest
    bool is_zero = true, is_finite = true, has_products = false;
    const unbounded::Side side = side_of(channel);
    blockwise.visit(channel, own.buffer, [&](const kernels::MapJob &job) {
      for (int64_t i = 0; i < unbounded::count(job); ++i) {
        const double factor = unbounded::is_damped(job, i, side) ? job.slope : 1;
        const double dy = unbounded::elements(job.g)[i], g = dy * factor,
                     t = unbounded::elements(job.x)[i] - mean;
        is_zero = is_zero && (dy == 0 || factor == 0);
        is_finite = is_finite && std::isfinite(dy) && std::isfinite(t);
        has_products = has_products || (g != 0 && t != 0);
        gradient = std::max(gradient, std::fabs(g));
        product = std::max(product, std::fabs(g * t));
      }
    });
    if (!is_wide()) return is_zero;
    if (is_zero || !is_finite) return true;
    if (has_tiny_mean(channel)) return false;  // all differences from it are rounded
    if (has_extreme_slope_ || !(weight == 0 || is_within(weight * invstd, R::kLeast, R::kMost)))
      return false;
    // x_factor is at most `scaled` times 1/std, which may be kLeastInvstd: a smaller `scaled` could
    // take it below kLeast. (2^10 to spare.) And after the division by the number of elements,
    // gradients must be far above the smallest numbers of double.
    constexpr double kLeastScaled = R::kLeast / R::kLeastInvstd * 0x1p10, kLeastSum = 0x1p-600;
    const double scaled = weight * invstd * gradient;
    if (weight != 0 &&
        (!is_within(scaled, kLeastScaled, R::kMost) || std::fabs(scaled * invstd) >= R::kMost))
      return false;
    return is_within(gradient, kLeastSum, R::kMost) &&
           (!has_products || is_within(product, kLeastSum, R::kMost));
  }

  bool has_safe_factors(int64_t channel) const {
    const double invstd = invstd_of(channel), weight = weight_of(channel);
    return kernels::is_safe_factor<float>(invstd) &&
           kernels::is_safe_factor<float>(weight * invstd) &&
           std::fabs(mean_of(channel)) < kernels::SafeRange<float>::kCenter;
  }

  // Whether shift and x_factor of the map are safe where they do not follow from the sums of the
  // channel alone: those of a set of several channels, and those that came from outside.
  [[gnu::cold]] bool is_ordinary_map(int64_t channel, int64_t i, double sum_g, double sum_g_xhat,
                                     const Workspace &own) const {
    const double invstd = invstd_of(channel), scale = weight_of(channel) * invstd;
    if (!has_wide_sets() && !call_.given_sums) return true;
    const double of_g = has_wide_sets() ? own.pooled[0]->hi[i] : scale * sum_g,
                 of_xhat = has_wide_sets() ? own.pooled[0]->hi[kMaxGroup + i] * invstd
                                           : scale * sum_g_xhat;
    const auto is_safe = [&](double v) {
      return is_wide() ? kernels::is_safe_factor<double>(v) : kernels::is_safe_factor<float>(v);
    };
    const double of_x = of_xhat / count_ * invstd;
    return is_safe(of_g / count_) && is_safe(of_xhat / count_) && is_safe(of_x) &&
           (of_x != 0 || of_xhat == 0);
  }

  const BackwardCall &call_;
  const UnboundedStatistics &exact_;
  const Preactivation *const preactivation_;
  const double count_;
  const KeptOfSets kept_dweight_, kept_dbias_;
  const kernels::ChannelKernels &channel_ = kernels::active().channel;
};

// What a backward needs of its activation: the preactivation of a pointwise one; of another one its
// side on x, where the call may read it from there.
class ActivationOfCall {
 public:
  ActivationOfCall(const UnboundedStatistics &exact, BackwardCall *call)
      : preactivation_(make(exact, *call)),
        side_(call->may_find_side() ? preactivation_->side_bytes() : 0) {
    auto *const side = static_cast<std::byte *>(side_.data());
    if (side == nullptr || !preactivation_->find_side(call->fused, side)) return;
    call->saved.side = side;
    call->saved.side_has_bound = call->fused.has_bound();
    if (call->fused.has_bound()) call->fused = {Activation::relu};  // the bound is in the side
  }
  const Preactivation *preactivation() const { return &*preactivation_; }

 private:
  static std::optional<Preactivation> make(const UnboundedStatistics &exact,
                                           const BackwardCall &call) {
    if (!call.fused.is_pointwise() && !call.may_find_side()) return std::nullopt;
    return std::optional<Preactivation>(std::in_place, call.sets.of(call.x.size), call.x.dtype,
                                        call.saved, exact);
  }
  const std::optional<Preactivation> preactivation_;
  const Scratch side_;
};

// As run_backwards(), where the saved means have their low parts.
[[gnu::noinline, gnu::cold]] void run_backwards_of(BackwardCall *calls, int count,
                                                   const Driver &driver, const Ready *before) {
  BackwardCall &call = *calls;
  Tensors tensors;
  tensors.g = call.dy;
  // Sums over g alone still run through the kernel that also reads x; where there is no x, the
  // unused sum takes g for it.
  tensors.x = call.needs_x() ? call.x : View();
  tensors.out = call.dx;
  tensors.out2 = call.dz;
  const UnboundedStatistics exact(call);
  const ActivationOfCall activation(exact, &call);
  set_side(call, tensors);
  if (call.fused.is_pointwise()) {
    tensors.v = call.z;
    tensors.bound = call.fused.bound(call.dy.dtype);
    tensors.preactivation = activation.preactivation();
    tensors.is_second = call.is_second;
  }
  const Backward operation(call, exact, tensors.preactivation);
  if (operation.has_sums && !tensors.x.exists()) tensors.x = call.dy;
  if (!operation.has_sums && !operation.has_map) return;  // so it is in each of the calls
  const Sets sets = merge_samples(call.sets.of(call.dy.size), &tensors);
  const ExpandedTensors expanded(tensors, sets.size);
  const bool is_dy = call.dx.data == call.dy.data || call.dz.data == call.dy.data;
  const bool is_pointwise = call.fused.is_pointwise();
  tensors.lends_out = is_pointwise && operation.has_sums && call.dx.exists() && !is_dy;
  const Agreement agreement(operation.has_sums && !is_pointwise && !is_dy, &tensors);
  const Blockwise blockwise(tensors, sets, call.dy.dtype);
  const Reordered reordered(blockwise, tensors, call.dy.dtype);
  const bool in_place = is_dy || tensors.lends_out || agreement.exists();
  const int reads = tensors.x.exists() && tensors.x.data != call.dy.data ? 2 : 1;
  const Schedule<Backward> schedule(operation, blockwise, reordered.maps(), call, call.dy.dtype,
                                    reads, !in_place);
  const Scratch scratch(schedule.scratch_bytes());
  const auto run = [&] {
    agreement.copy(schedule.pool(), call.thread_limit);
    schedule.run(scratch.data());
    operation.add_sets();
  };
  const Ready ready = Ready::of(run, before);
  if (count == 1) return driver.run(ready);
  run_backwards(calls + 1, count - 1, driver, &ready);
}

}  // namespace

// Of each call the saved statistics may get low parts. They are those of a forward, which is done
// before the backward takes its stack. Compiled for size, as run_forwards().
[[gnu::noinline, gnu::cold]] void run_backwards(BackwardCall *calls, int count,
                                                const Driver &driver, const Ready *before) {
  const LowPartOfMean mean(*calls, calls->needs_x());
  if (mean.low()) calls->saved.mean_lo = mean.low();
  run_backwards_of(calls, count, driver, before);
}

void backward(BackwardCall *whole) {
  using C = BackwardCall;
  const BackwardCall &call = *whole;
  if (call.dy.size.numel() == 0) {
    if (call.sums) std::fill_n(call.sums, 2 * call.dy.size.c, 0.0);
    blend_nothing_into(call.dbias, call.dy.size.c, call.blend);
    blend_nothing_into(call.dweight, call.dy.size.c, call.blend);
  } else if (backward_by_sets(call)) {
    return;
  } else if (call.sets.rest(call.dy.size) == 0) {
    run_backwards(whole, 1, Driver(), nullptr);
  } else {
    run_in_two<C>(call, {&C::x, &C::dy, &C::y, &C::z, &C::dx, &C::dz}, {&C::dweight, &C::dbias},
                  run_backwards);
  }
}

}  // namespace bn2d
