// Gradients of y = act(weight * xhat + bias + z), xhat = (x - mean) * invstd, with g = dy through the activation:
//   dz = g,  dbias = sum g,  dweight = sum g*xhat
//   batch statistics   dx = weight*invstd * (g - mean(g) - xhat*mean(g*xhat))
//   frozen statistics  dx = weight*invstd * g
#include "base/error.h"
#include "ops/operations.h"
#include "ops/schedule.h"
#include "ops/sums_partial.h"

namespace bn2d {
namespace {

class Backward : public SumsPartial<kernels::SumsOf::backward> {
 public:
  const kernels::MapOf map;
  const bool has_sums, has_map;

  explicit Backward(const BackwardCall &call)
      : SumsPartial(call.saved),
        map(call.batch_statistics && call.dx.exists() ? kernels::MapOf::backward : kernels::MapOf::scale),
        has_sums(map == kernels::MapOf::backward || call.dweight.exists() || call.dbias.exists()),
        has_map(call.dx.exists() || call.dz.exists()),
        call_(call),
        count_(static_cast<double>(call.dy.size.per_channel())) {}

  void finish(const Group &g, const Partial *sums, void *coefficients, int64_t stride, bool first) const {
    using namespace kernels::coefficient;
    const DType dtype = call_.dy.dtype;
    const CoefficientWriter out(dtype, coefficients, stride);
    for (int64_t i = 0; i < g.channels; ++i) {
      const int64_t c = g.channel + i;
      const double s = invstd(c);
      out.set(b_scale, i, clamp_factor(weight(c) * s, dtype));
      if (sums == nullptr) continue;
      const double sum_g = total(sums, 0, i), sum_g_xhat = s * total(sums, 1, i);
      if (map == kernels::MapOf::backward) {
        const double mean_g = sum_g / count_;
        out.set_center(i, call_.saved.mean[c], call_.saved.mean_lo ? call_.saved.mean_lo[c] : 0.0);
        out.set_pair(b_gmean_hi, b_gmean_lo, i, mean_g, 0.0);
        out.set(b_invstd, i, clamp_factor(s, dtype));
        out.set(b_slope_x, i, sum_g_xhat / count_);
      }
      if (first) {
        blend_into(call_.dbias, c, call_.blend, sum_g);
        blend_into(call_.dweight, c, call_.blend, sum_g_xhat);
      }
    }
  }

 private:
  const BackwardCall &call_;
  const double count_;
};

// What sums over no elements do to the parameters' gradients.
void backward_of_nothing(const BackwardCall &call) {
  for (int64_t c = 0; c < call.dy.size.c; ++c) {
    blend_into(call.dbias, c, call.blend, 0.0);
    blend_into(call.dweight, c, call.blend, 0.0);
  }
}

}  // namespace

void backward(const BackwardCall &call) {
  if (call.dy.size.numel() == 0) return backward_of_nothing(call);
  Tensors tensors;
  tensors.g = call.dy;
  // Sums over g alone still run through the kernel that also reads x; where there is no x, the unused sum takes g for it.
  tensors.x = call.needs_x() ? call.x : View();
  tensors.out = call.dx;
  tensors.out2 = call.dz;
  set_side(call.fused, call.y, call.mask, tensors);
  const Backward operation(call);
  if (operation.has_sums && !tensors.x.exists()) tensors.x = call.dy;
  if (!operation.has_sums && !operation.has_map) return;
  const Blockwise blockwise(tensors, call.dy.size, call.dy.dtype);
  const bool in_place = call.dx.data == call.dy.data || call.dz.data == call.dy.data;
  const Schedule<Backward> schedule(operation, blockwise, call.dy.size, call.dy.dtype, 2, call.thread_limit, !in_place);
  const Scratch scratch(schedule.scratch_bytes());
  schedule.run(scratch.data());
}

}  // namespace bn2d
