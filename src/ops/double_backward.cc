// Gradients of L = <v, dx> + <ddweight, dweight> + <ddbias, dbias>, the linear form that a gradient of gradients is
// made of. With w = weight, s = invstd, g = dy through the activation, P(u) = u - mean(u) - xhat*mean(u*xhat), a =
// mean(v*xhat), b = mean(g*xhat), A = <P(v), g> = sum(v*g) - M*mean(v)*mean(g) - M*a*b:
//   dx = w s P(g), so  dL/dg = w s P(v) + ddweight xhat + ddbias  and  dL/dw = s A.
//   With ds/dx_i = -s^2 xhat_i / M and dxhat_j/dx_i = s (delta_ij - 1/M - xhat_i xhat_j / M):
//   dL/dx = -w s^2 (xhat A/M + b P(v) + a P(g)) + ddweight s P(g).
// Frozen statistics: P(u) = u and s, xhat do not depend on the other x:
//   dL/dg = w s v + ddweight xhat + ddbias,  dL/dw = s sum(v*g),  dL/dx = ddweight s g.
#include "ops/operations.h"
#include "ops/schedule.h"
#include "ops/sums_partial.h"

namespace bn2d {
namespace {

using kernels::kMaxGroup;

class DoubleBackward : public SumsPartial<kernels::SumsOf::double_backward> {
 public:
  static constexpr kernels::MapOf map = kernels::MapOf::double_backward;
  static constexpr bool has_sums = true;
  const bool has_map;

  explicit DoubleBackward(const DoubleBackwardCall &call)
      : SumsPartial(call),
        has_map(call.ddy.exists() || call.dx.exists()),
        call_(call),
        count_(static_cast<double>(call.dy.size.per_channel())) {}

  void finish(const Group &group, const Partial *sums, void *coefficients, int64_t stride) const {
    using namespace kernels::coefficient;
    const SavedStatistics &saved = call_.saved;
    const auto total = [&](int term, int64_t i) {
      return sums->hi[term * kMaxGroup + i] + sums->lo[term * kMaxGroup + i];
    };
    double value[kernels::kMaxCoefficients][kMaxGroup], dweight[kMaxGroup];
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
      value[d_gmean][i] = gmean;
      const double d1 = -curvature * b, d2 = -curvature * a + ddweight * s;
      value[d_d1][i] = d1;
      value[d_d2][i] = d2;
      value[d_d3][i] = -curvature * products / count_ - d1 * a - d2 * b;
      dweight[i] = s * products;
    }
    channel_.centers(group.channels, saved.mean + group.channel,
                     saved.mean_lo ? saved.mean_lo + group.channel : nullptr, is_wide(), coefficients, stride);
    for (int k = d_invstd; k <= d_d3; ++k)
      channel_.factors(group.channels, value[k], is_wide(), coefficient(coefficients, k, stride));
    set_side_of_map(group, coefficients, stride, d_side_sign);
    blend_into(call_.dweight, group, call_.blend, dweight);
  }

 private:
  const DoubleBackwardCall &call_;
  const double count_;
  const kernels::ChannelKernels &channel_ = kernels::active().channel;
};

}  // namespace

void double_backward(const DoubleBackwardCall &call) {
  const Extents &size = call.dy.size;
  if (size.numel() == 0) {
    blend_nothing_into(call.dweight, size.c, call.blend);
    return;
  }
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
  const Blockwise blockwise(tensors, size, call.dy.dtype);
  const DoubleBackward operation(call);
  const Schedule<DoubleBackward> schedule(operation, blockwise, size, call.dy.dtype, 3, call.thread_limit, false);
  const Scratch scratch(schedule.scratch_bytes());
  schedule.run(scratch.data());
}

}  // namespace bn2d
