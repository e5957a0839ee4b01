// Gradients of L = <v, dx> + <ddweight, dweight> + <ddbias, dbias>, the linear form that a gradient of gradients is
// made of. With w = weight, s = invstd, g = dy through the activation, P(u) = u - mean(u) - xhat*mean(u*xhat), a =
// mean(v*xhat), b = mean(g*xhat), A = <P(v), g> = sum(v*g) - M*mean(v)*mean(g) - M*a*b:
//   dx = w s P(g), so  dL/dg = w s P(v) + ddweight xhat + ddbias  and  dL/dw = s A.
//   With ds/dx_i = -s^2 xhat_i / M and dxhat_j/dx_i = s (delta_ij - 1/M - xhat_i xhat_j / M):
//   dL/dx = -w s^2 (xhat A/M + b P(v) + a P(g)) + ddweight s P(g).
// Frozen statistics: P(u) = u and s, xhat do not depend on the other x:
//   dL/dg = w s v + ddweight xhat + ddbias,  dL/dw = s sum(v*g),  dL/dx = ddweight s g.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/additive_partial.h"
#include "ops/exact_mean.h"
#include "ops/operations.h"
#include "ops/repeats.h"
#include "ops/schedule.h"

namespace bn2d {
namespace {

using kernels::kMaxGroup;

class DoubleBackward : public AdditivePartial<kernels::SumsOf::double_backward> {
 public:
  static constexpr kernels::MapOf map = kernels::MapOf::double_backward;
  static constexpr bool has_sums = true;
  const bool has_map;

  explicit DoubleBackward(const DoubleBackwardCall &call)
      : AdditivePartial(call),
        has_map(call.ddy.exists() || call.dx.exists()),
        call_(call),
        count_(static_cast<double>(call.dy.size.per_channel())) {}

  void finish(const Blockwise &, const Group &group, const Partial *sums, const MapCoefficients &coefficients,
              const Workspace<Partial> &) const {
    // Doubles are not computed apart here.
    std::memset(coefficients.is_extreme, has_extreme_slope_ && !is_wide(), static_cast<size_t>(group.channels));
    for (int64_t i = 0; i < group.channels; i += kAtOnce)
      finish({group.channel + i, std::min(kAtOnce, group.channels - i)}, i, *sums, coefficients.from(i));
  }

 private:
  static constexpr int64_t kAtOnce = 16;  // channels: their numbers are on the stack
  using Numbers = double[kernels::kMaxCoefficients][kAtOnce];

  // Some channels, of which the first is number `first` in the sums.
  void finish(const Group &group, int64_t first, const Partial &sums, const MapCoefficients &coefficients) const {
    using namespace kernels::coefficient;
    const SavedStatistics &saved = call_.saved;
    const auto total = [&](int term, int64_t i) {
      return sums.hi[term * kMaxGroup + first + i] + sums.lo[term * kMaxGroup + first + i];
    };
    Numbers value;
    double dweight[kAtOnce];
    for (int64_t i = 0; i < group.channels; ++i) {
      const int64_t channel = group.channel + i;
      const double w = saved.weight ? saved.weight[channel] : 1.0, s = saved.invstd[channel];
      const double ddweight = call_.ddweight.exists() ? call_.ddweight.get(channel) : 0.0;
      const double ddbias = call_.ddbias.exists() ? call_.ddbias.get(channel) : 0.0;
      const double vg = total(4, i);
      const bool batch = call_.batch_statistics;
      const double vmean = batch ? total(0, i) / count_ : 0.0, a = batch ? s * total(1, i) / count_ : 0.0;
      const double gmean = batch ? total(2, i) / count_ : 0.0, b = batch ? s * total(3, i) / count_ : 0.0;
      const double products = batch ? vg - count_ * (vmean * gmean + a * b) : vg;
      const double curvature = batch ? w * s * s : 0.0;  // of invstd and xhat as functions of x
      value[d_invstd][i] = s;
      value[d_c0][i] = ddbias - w * s * vmean;
      value[d_c1][i] = w * s;
      value[d_c2][i] = ddweight - w * s * a;
      value[d_vmean][i] = vmean;
      const double d1 = -curvature * b, d2 = -curvature * a + ddweight * s;
      value[d_d1][i] = d1;
      value[d_d2][i] = d2;
      value[d_d0_hi][i] = gmean;  // until store()
      value[d_d3][i] = -curvature * products / count_ - d1 * a - d2 * b;
      dweight[i] = s * products;
    }
    kernels::ChannelCoefficients out = coefficients.of_regular();
    if (is_wide()) out.extreme = nullptr;
    store(group, value, out);
    set_side_of_map(group, coefficients, d_side_sign);
    for (int64_t i = 0; (i += coefficients.regular_channels(i, group.channels)) < group.channels; ++i)
      set_extreme(group.channel + i, i, value, coefficients.from(i));
    blend_into(call_.dweight, group, call_.blend, dweight);
  }

  void store(const Group &group, const Numbers &value, const kernels::ChannelCoefficients &out) const {
    using namespace kernels::coefficient;
    const double *const mean_lo = call_.saved.mean_lo;
    channel_.centers(group.channels, call_.saved.mean + group.channel, mean_lo ? mean_lo + group.channel : nullptr,
                     minus_mean_hi, out);
    // The mean gradient only for its range: small gradients make a channel extreme.
    for (int k = d_invstd; k <= d_d0_hi; ++k) channel_.factors(group.channels, value[k], k, out);
    double shift[kAtOnce], low[kAtOnce];
    for (int64_t i = 0; i < group.channels; ++i) {
      // With d2 as the map has it: what it adds to equal gradients cancels them.
      const double d2 = out.wide ? value[d_d2][i] : rounded_to(DType::f32, value[d_d2][i]), gmean = value[d_d0_hi][i];
      shift[i] = d2 * gmean;
      low[i] = std::isfinite(shift[i]) ? std::fma(d2, gmean, -shift[i]) : 0;
    }
    channel_.centers(group.channels, shift, low, d_d0_hi, out);
  }

  // The same numbers as doubles, whose range has room for those of float data.
  void set_extreme(int64_t channel, int64_t i, const Numbers &value, const MapCoefficients &coefficients) const {
    using namespace kernels::coefficient;
    Numbers own;
    for (int k = d_invstd; k <= d_d0_hi; ++k) own[k][0] = value[k][i];
    store({channel, 1}, own, coefficients.of_extreme(0));
    set_side_of_extreme(channel, coefficients.extreme, coefficients.stride, d_side_sign);
  }

  const DoubleBackwardCall &call_;
  const double count_;
  const kernels::ChannelKernels &channel_ = kernels::active().channel;
};

}  // namespace

void double_backward(const DoubleBackwardCall &given) {
  DoubleBackwardCall call = given;
  const Extents &size = call.dy.size;
  if (size.numel() == 0) {
    blend_nothing_into(call.dweight, size.c, call.blend);
    return;
  }
  const ExactMean mean(call, true);
  if (mean.low()) call.saved.mean_lo = mean.low();
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
  const Repeats repeats(tensors, size);
  const Blockwise blockwise(tensors, size, call.dy.dtype);
  const DoubleBackward operation(call);
  const Schedule<DoubleBackward> schedule(operation, blockwise, call, size, call.dy.dtype, 3, false);
  const Scratch scratch(schedule.scratch_bytes());
  schedule.run(scratch.data());
}

}  // namespace bn2d
