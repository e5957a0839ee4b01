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

using kernels::kMaxGroup;

class Backward : public SumsPartial<kernels::SumsOf::backward> {
 public:
  const kernels::MapOf map;
  const bool has_sums, has_map;

  explicit Backward(const BackwardCall &call)
      : SumsPartial(call),
        map(call.batch_statistics && call.dx.exists() ? kernels::MapOf::backward : kernels::MapOf::scale),
        has_sums(map == kernels::MapOf::backward || call.dweight.exists() || call.dbias.exists()),
        has_map(call.dx.exists() || call.dz.exists()),
        call_(call),
        count_(static_cast<double>(call.dy.size.per_channel())) {}

  void finish(const Group &g, const Partial *sums, void *coefficients, int64_t stride) const {
    const auto at = [&](const double *array) { return array ? array + g.channel : nullptr; };
    const SavedStatistics &saved = call_.saved;
    double sum_g[kMaxGroup], sum_g_xhat[kMaxGroup];
    channel_.gradients(g.channels, {at(saved.mean), at(saved.mean_lo), at(saved.invstd), at(saved.weight)}, sums,
                       count_, is_wide(), coefficients, stride, sum_g, sum_g_xhat);
    set_side_of_map(g, coefficients, stride, kernels::coefficient::b_side_sign);
    if (sums == nullptr) return;
    blend_into(call_.dbias, g, call_.blend, sum_g);
    blend_into(call_.dweight, g, call_.blend, sum_g_xhat);
  }

 private:
  const BackwardCall &call_;
  const double count_;
  const kernels::ChannelKernels &channel_ = kernels::active().channel;
};

}  // namespace

void backward(const BackwardCall &call) {
  if (call.dy.size.numel() == 0) {
    blend_nothing_into(call.dbias, call.dy.size.c, call.blend);
    blend_nothing_into(call.dweight, call.dy.size.c, call.blend);
    return;
  }
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
  const Blockwise blockwise(tensors, call.dy.size, call.dy.dtype);
  const bool in_place = call.dx.data == call.dy.data || call.dz.data == call.dy.data;
  const int reads = tensors.x.exists() && tensors.x.data != call.dy.data ? 2 : 1;
  const Schedule<Backward> schedule(operation, blockwise, call.dy.size, call.dy.dtype, reads, call.thread_limit,
                                    !in_place);
  const Scratch scratch(schedule.scratch_bytes());
  schedule.run(scratch.data());
}

}  // namespace bn2d
