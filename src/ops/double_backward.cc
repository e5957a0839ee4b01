// Gradients of L = <v, dx> + <ddweight, dweight> + <ddbias, dbias>, the linear form that a gradient
// of gradients is made of. With w = weight, s = invstd, g = dy through the activation, h = w g,
// mean() over a set of M elements, P(u) = u - mean(u) - xhat*mean(u*xhat), a = mean(v*xhat), b =
// mean(h*xhat), A = <P(v), h> = sum(v*h) - M*mean(v)*mean(h) - M*a*b:
//   dx = s P(h), so  dL/dg = w s P(v) + ddweight xhat + ddbias,
//                    dL/dw = s (sum(v*g) - mean(v)*sum(g) - a*sum(g*xhat)), sums over the channel.
//   With ds/dx_i = -s^2 xhat_i / M and dxhat_j/dx_i = s (delta_ij - 1/M - xhat_i xhat_j / M):
//   dL/dx = -s^2 (xhat A/M + b P(v) + a P(h)) + s P(ddweight g).
// The last and the last but one are P(u) with u = d2 g, d2 = s ddweight - s^2 a w.
// Frozen statistics: P(u) = u and s, xhat do not depend on the other x:
//   dL/dg = w s v + ddweight xhat + ddbias,  dL/dw = s sum(v*g),  dL/dx = ddweight s g.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/safe_range.h"
#include "ops/additive_partial.h"
#include "ops/double_backward_in_steps.h"
#include "ops/expanded_tensors.h"
#include "ops/last_set.h"
#include "ops/low_part_of_mean.h"
#include "ops/merge.h"
#include "ops/operations.h"
#include "ops/parameter_gradients.h"
#include "ops/reordered.h"
#include "ops/schedule.h"

namespace bn2d {
namespace {

using kernels::kMaxGroup;

class DoubleBackward : public AdditivePartial<kernels::SumsOf::double_backward> {
 public:
  static constexpr kernels::MapOf map = kernels::MapOf::double_backward;
  static constexpr bool has_sums = true;
  static constexpr int kPoolings = 2;
  static constexpr bool kSpreads = true;
  const bool has_map;

  explicit DoubleBackward(const DoubleBackwardCall &call)
      : AdditivePartial(call),
        has_map(call.ddy.exists() || call.dx.exists()),
        call_(call),
        count_(static_cast<double>(sets_.values())),
        kept_dweight_(sets_, call.dweight.exists()) {}

  // First the sums of v, v*t, h, h*t and v*h, then those of d2*g and d2*g*t, which need the first
  // ones.
  [[gnu::noinline]] const Partial &weighed(int pooling, const Group &g, const Partial &total,
                                           const MapCoefficients &,
                                           const Workspace<Partial> &own) const {
    for (int64_t i = 0; i < g.channels; ++i) {
      const int64_t channel = g.channel + i;
      const double w = weight_of(channel);
      const double factors[2][kSums] = {{1, 1, w, w, w}, {0, 0, 0, 0, 0}};
      for (int term = 0; term < kSums; ++term)
        weigh(total, term, i, factors[pooling][term], own.part, term);
      if (pooling == 0) continue;
      const double d2 =
          held(gradient_factor(channel, mean_over_set(*own.pooled[0], 1, i)), is_wide());
      weigh(total, 2, i, d2, own.part, 0);
      weigh(total, 3, i, d2, own.part, 1);
    }
    return *own.part;
  }

  void finish(const Blockwise &, const Group &group, const Partial *sums,
              const MapCoefficients &coefficients, const Workspace<Partial> &own) const {
    // Doubles are not computed apart here.
    std::memset(coefficients.is_extreme, has_extreme_slope_ && !is_wide(),
                static_cast<size_t>(group.channels));
    for (int64_t i = 0; i < group.channels; i += kAtOnce)
      finish({group.channel + i, std::min(kAtOnce, group.channels - i)}, i, *sums, own,
             coefficients.from(i));
  }

  // As that of backward.
  void add_sets() const {
    blend_kept_into(call_.dweight, kept_dweight_, sets_.size.c, call_.blend);
  }

 private:
  static constexpr int64_t kAtOnce = 8;  // channels: their numbers are on the stack
  using Numbers = double[kernels::kMaxCoefficients][kAtOnce];

  static double held(double factor, bool wide) {
    return wide ? factor : rounded_to(DType::f32, factor);
  }
  double ddweight_of(int64_t channel) const {
    return call_.ddweight.exists() ? call_.ddweight.get(channel % sets_.size.c) : 0.0;
  }
  // d2 of a channel; vt: the mean of v*t.
  double gradient_factor(int64_t channel, double vt) const {
    const double s = invstd_of(channel), ordinary = ddweight_of(channel) * s;
    return call_.batch_statistics ? ordinary - weight_of(channel) * s * s * (s * vt) : ordinary;
  }

  // Some channels, of which the first is number `first` in the sums.
  void finish(const Group &group, int64_t first, const Partial &sums, const Workspace<Partial> &own,
              const MapCoefficients &coefficients) const {
    using namespace kernels::coefficient;
    const bool batch = call_.batch_statistics, has_wide_sets = sets_.channels > 1;
    Numbers value;
    double dweight[kAtOnce];
    for (int64_t i = 0; i < group.channels; ++i) {
      const int64_t channel = group.channel + i;
      const double w = weight_of(channel), s = invstd_of(channel), ddweight = ddweight_of(channel);
      const double ddbias = call_.ddbias.exists() ? call_.ddbias.get(channel % sets_.size.c) : 0.0;
      const auto total = [&](int term) { return total_of(sums, term, first + i); };
      // Means over the set.
      const auto mean = [&](int term, double factor) {
        if (!batch) return 0.0;
        return has_wide_sets ? mean_over_set(*own.pooled[0], term, first + i)
                             : factor * (total(term) / count_);
      };
      const double vmean = mean(0, 1), a = s * mean(1, 1), hmean = mean(2, w), b = s * mean(3, w);
      const double products = batch ? mean(4, w) - (vmean * hmean + a * b) : 0.0;  // A/M
      const double d1 = batch ? -s * s * b : 0.0, d2 = gradient_factor(channel, mean(1, 1));
      const double d2_xhat = !batch          ? 0.0
                             : has_wide_sets ? s * mean_over_set(*own.pooled[1], 1, first + i)
                                             : d2 * (s * total(3) / count_);
      value[d_invstd][i] = s;
      value[d_c0][i] = ddbias;
      value[d_c1][i] = w * s;
      value[d_c2][i] = ddweight - w * s * a;
      value[d_vmean][i] = vmean;
      value[d_d1][i] = d1;
      value[d_d2][i] = d2;
      value[d_d3][i] = batch ? -s * s * products - d1 * a - d2_xhat : 0.0;
      // Until store(): the mean of g, or of sets of several channels that of d2*g.
      value[d_minus_gmean][i] = !batch          ? 0.0
                                : has_wide_sets ? mean_over_set(*own.pooled[1], 0, first + i)
                                                : total(2) / count_;
      dweight[i] = s * (batch ? total(4) - vmean * total(2) - a * (s * total(3)) : total(4));
    }
    kernels::ChannelCoefficients out = coefficients.of_regular();
    if (is_wide()) out.extreme = nullptr;
    store(group, value, out);
    set_side_of_map(group, coefficients, d_side_sign);
    coefficients.for_each_extreme(group.channels, [&](int64_t i) {
      set_extreme(group.channel + i, i, value, coefficients.from(i));
    });
    if (kept_dweight_.exists()) kept_dweight_.keep(group, dweight);
    if (sets_.batches() == 1) blend_into(call_.dweight, group, call_.blend, dweight);
  }

  void store(const Group &group, const Numbers &value,
             const kernels::ChannelCoefficients &out) const {
    using namespace kernels::coefficient;
    double shift[kAtOnce], low[kAtOnce];
    for (int64_t i = 0; i < group.channels; ++i) {
      shift[i] = mean_of(group.channel + i);
      low[i] = mean_lo_of(group.channel + i);
    }
    channel_.centers(group.channels, shift, low, out);
    for (int k = d_invstd; k <= d_d3; ++k) channel_.factors(group.channels, value[k], k, out);
    double gmean[kAtOnce], rest[kAtOnce], rest_of_ddy[kAtOnce];
    for (int64_t i = 0; i < group.channels; ++i) {
      // With factors and means as the map has them: what is equal cancels exactly.
      const double vmean = value[d_vmean][i], rest_of_v = held(vmean, out.wide) - vmean;
      rest_of_ddy[i] = value[d_c0][i] + held(value[d_c1][i], out.wide) * rest_of_v;
      const double d2 = held(value[d_d2][i], out.wide), mean = value[d_minus_gmean][i];
      if (sets_.channels == 1) {
        gmean[i] = -mean;
        rest[i] = d2 * (held(mean, out.wide) - mean);
      } else {  // the mean of d2*g
        const double gradient = mean / d2;
        gmean[i] =
            std::fabs(gradient) < kernels::SafeRange<float>::kMost ? -held(gradient, out.wide) : 0;
        rest[i] = -std::fma(gmean[i], d2, mean);
      }
      rest[i] += held(value[d_d1][i], out.wide) * rest_of_v;
    }
    // Small gradients make a channel extreme, the rest of a mean does not.
    channel_.factors(group.channels, gmean, d_minus_gmean, out);
    kernels::ChannelCoefficients unmarked = out;
    unmarked.extreme = nullptr;
    channel_.factors(group.channels, rest, d_d0, unmarked);
    channel_.factors(group.channels, rest_of_ddy, d_c0, unmarked);
  }

  // The same numbers as doubles, whose range has room for those of float data.
  void set_extreme(int64_t channel, int64_t i, const Numbers &value,
                   const MapCoefficients &coefficients) const {
    using namespace kernels::coefficient;
    Numbers own;
    for (int k = d_invstd; k <= d_minus_gmean; ++k) own[k][0] = value[k][i];
    store({channel, 1}, own, coefficients.of_extreme(0));
    set_side_of_extreme(channel, coefficients.extreme, coefficients.stride, d_side_sign);
  }

  const DoubleBackwardCall &call_;
  const double count_;
  const KeptOfSets kept_dweight_;
  const kernels::ChannelKernels &channel_ = kernels::active().channel;
};

void run_double_backwards(DoubleBackwardCall *calls, int count, const Driver &driver,
                          const Ready *before);

[[gnu::noinline]] void run_double_backwards_of(DoubleBackwardCall *calls, int count,
                                               const Driver &driver, const Ready *before) {
  DoubleBackwardCall &call = *calls;
  const Extents &size = call.dy.size;
  static const double zero = 0;  // what a missing ddx is read from, with strides of 0
  Tensors tensors;
  tensors.x = call.x;
  tensors.g = call.dy;
  tensors.v = call.ddx;
  if (!call.ddx.exists()) {
    tensors.v.data = reinterpret_cast<std::byte *>(const_cast<double *>(&zero));
    tensors.v.dtype = call.dy.dtype;
    tensors.v.size = size;
    tensors.v.given = true;
  }
  tensors.out = call.ddy;
  tensors.out2 = call.dx;
  set_side(call, tensors);
  const Sets sets = merge_samples(call.sets.of(size), &tensors);
  const ExpandedTensors expanded(tensors, sets.size);
  const Blockwise blockwise(tensors, sets, call.dy.dtype);
  const Reordered reordered(blockwise, tensors, call.dy.dtype);
  const DoubleBackward operation(call);
  const Schedule<DoubleBackward> schedule(operation, blockwise, reordered.maps(), call,
                                          call.dy.dtype, 3, false);
  const Scratch scratch(schedule.scratch_bytes());
  const auto run = [&] {
    schedule.run(scratch.data());
    operation.add_sets();
  };
  const Ready ready = Ready::of(run, before);
  if (count == 1) return driver.run(ready);
  run_double_backwards(calls + 1, count - 1, driver, &ready);
}

// As run_backwards().
[[gnu::noinline]] void run_double_backwards(DoubleBackwardCall *calls, int count,
                                            const Driver &driver, const Ready *before) {
  const LowPartOfMean mean(*calls, true);
  if (mean.low()) calls->saved.mean_lo = mean.low();
  run_double_backwards_of(calls, count, driver, before);
}

}  // namespace

void double_backward(DoubleBackwardCall *whole) {
  using C = DoubleBackwardCall;
  const DoubleBackwardCall &call = *whole;
  if (call.dy.size.numel() == 0) {
    blend_nothing_into(call.dweight, call.dy.size.c, call.blend);
  } else if (needs_steps(call)) {
    return double_backward_in_steps(call);
  } else if (call.sets.rest(call.dy.size) == 0) {
    run_double_backwards(whole, 1, Driver(), nullptr);
  } else {
    run_in_two<C>(call, {&C::x, &C::dy, &C::y, &C::ddx, &C::ddy, &C::dx}, {&C::dweight},
                  run_double_backwards);
  }
  blend_nothing_into(call.dbias, call.dy.size.c, call.blend);
}

}  // namespace bn2d
