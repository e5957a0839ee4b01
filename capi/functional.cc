// The operations without a module, for hosts that own their storage.
#include <cinttypes>
#include <cmath>

#include "base/scratch.h"
#include "convert.h"
#include "ops/blockwise.h"
#include "ops/operations.h"

using namespace bn2d;
using namespace bn2d::capi;

namespace {

constexpr int32_t kFlags = BN2D_FLAG_BIASED_RUNNING_VAR | BN2D_FLAG_PROTECT_RUNNING_STATS;

ChannelArray array_of(DType dtype, const void *data) { return {dtype, const_cast<void *>(data)}; }

// The dtype of the per-channel arrays beside data of `data_dtype`.
DType parameter_dtype(int32_t dtype, const char *what, DType data_dtype) {
  const DType own = checked_floating_dtype(dtype);
  const bool mixed = own == DType::f32 && (data_dtype == DType::f16 || data_dtype == DType::bf16);
  if (own != data_dtype && !mixed)
    fail(Status::dtype, "%s is %s, the parameters are %s; they must agree, or half data meet float32 parameters", what,
         dtype_name(data_dtype), dtype_name(own));
  return own;
}

void check_side_arguments(int32_t activation, const void *mask) {
  if (activation == BN2D_ACT_NONE && mask != nullptr)
    fail(Status::invalid_argument, "mask is given, but the activation is none (0)");
}

double checked_blend(double blend) {
  if (!std::isfinite(blend)) fail(Status::invalid_argument, "blend is %g, must be finite", blend);
  return blend;
}

}  // namespace

int32_t bn2d_batch_norm_forward(const bn2d_view *x, const bn2d_view *z, const bn2d_view *y, int32_t dtype,
                                const void *weight, const void *bias, void *running_mean, void *running_var,
                                int32_t batch_stats, double averaging_factor, double eps, int32_t flags,
                                int32_t activation, double slope, uint8_t *mask, double *saved_mean,
                                double *saved_invstd) {
  return guarded([&] {
    ForwardCall call;
    call.x = view_of("x", x);
    call.z = optional_view_of("z", z);
    call.y = view_of("y", y);
    const DType own = parameter_dtype(dtype, "x", call.x.dtype);
    call.batch_statistics = checked_flag("batch_stats", batch_stats);
    Options checks;  // eps and averaging factor have the ranges of eps and momentum
    checks.set_eps(eps);
    if (!(averaging_factor >= 0 && averaging_factor <= 1))
      fail(Status::invalid_argument, "averaging_factor is %g, must be from 0 to 1", averaging_factor);
    if ((flags & ~kFlags) != 0)
      fail(Status::invalid_argument, "flags are %" PRId32 ", known bits are %" PRId32, flags, kFlags);
    check_side_arguments(activation, mask);
    if (!call.batch_statistics) {
      required(running_mean, "running_mean");
      required(running_var, "running_var");
    }
    call.fused = {static_cast<Activation>(activation), slope};
    call.weight = array_of(own, weight);
    call.bias = array_of(own, bias);
    call.running_mean = array_of(own, running_mean);
    call.running_var = array_of(own, running_var);
    call.averaging_factor = averaging_factor;
    call.eps = eps;
    call.biased_running_var = (flags & BN2D_FLAG_BIASED_RUNNING_VAR) != 0;
    call.protect_running_stats = (flags & BN2D_FLAG_PROTECT_RUNNING_STATS) != 0;
    call.mask = mask;
    call.saved.mean = saved_mean;
    call.saved.invstd = saved_invstd;
    check(call);
    forward(call);
  });
}

namespace {

SavedStatistics saved_statistics(const double *mean, const double *invstd) {
  SavedStatistics saved;
  saved.mean = const_cast<double *>(mean);
  saved.invstd = const_cast<double *>(required(invstd, "saved_invstd"));
  return saved;
}

// The weight of a call as doubles. Made after its checks: before them nothing says that dy has as many channels as the
// weight has elements. An empty call reads none.
class Weights {
 public:
  Weights(const ChannelArray &weight, const Extents &size)
      : scratch_(weight.exists() && size.numel() > 0 ? static_cast<size_t>(size.c) * sizeof(double) : 0) {
    if (data() != nullptr) weight.load(0, size.c, data());
  }
  double *data() const { return static_cast<double *>(scratch_.data()); }

 private:
  Scratch scratch_;
};

}  // namespace

int32_t bn2d_batch_norm_backward(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask,
                                 int32_t dtype, const void *weight, const double *saved_mean,
                                 const double *saved_invstd, int32_t batch_stats, int32_t activation, double slope,
                                 double blend, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias) {
  return guarded([&] {
    BackwardCall call;
    call.x = optional_view_of("x", x);
    call.dy = view_of("dy", dy);
    call.y = optional_view_of("y", y);
    const DType own = parameter_dtype(dtype, "dy", call.dy.dtype);
    call.batch_statistics = checked_flag("batch_stats", batch_stats);
    check_side_arguments(activation, mask);
    call.mask = mask;
    call.fused = {static_cast<Activation>(activation), slope};
    call.blend = checked_blend(blend);
    call.dx = optional_view_of("dx", dx);
    call.dz = optional_view_of("dz", dz);
    call.dweight = array_of(own, dweight);
    call.dbias = array_of(own, dbias);
    if (call.needs_x()) {
      required(x, "x");
      required(saved_mean, "saved_mean");
    }
    call.weight = array_of(own, weight);
    call.saved = saved_statistics(saved_mean, saved_invstd);
    check(call);
    const Weights weights(call.weight, call.dy.size);
    call.saved.weight = weights.data();
    backward(call);
  });
}

int32_t bn2d_batch_norm_double_backward(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y,
                                        const uint8_t *mask, int32_t dtype, const void *weight,
                                        const double *saved_mean, const double *saved_invstd, int32_t batch_stats,
                                        int32_t activation, double slope, const bn2d_view *ddx, const void *ddweight,
                                        const void *ddbias, double blend, const bn2d_view *ddy, const bn2d_view *dx,
                                        void *dweight) {
  return guarded([&] {
    DoubleBackwardCall call;
    call.x = view_of("x", x);
    call.dy = view_of("dy", dy);
    call.y = optional_view_of("y", y);
    const DType own = parameter_dtype(dtype, "dy", call.dy.dtype);
    call.batch_statistics = checked_flag("batch_stats", batch_stats);
    check_side_arguments(activation, mask);
    required(saved_mean, "saved_mean");
    call.mask = mask;
    call.fused = {static_cast<Activation>(activation), slope};
    call.blend = checked_blend(blend);
    call.ddx = optional_view_of("ddx", ddx);
    call.ddweight = array_of(own, ddweight);
    call.ddbias = array_of(own, ddbias);
    call.ddy = optional_view_of("ddy", ddy);
    call.dx = optional_view_of("dx", dx);
    call.dweight = array_of(own, dweight);
    call.weight = array_of(own, weight);
    call.saved = saved_statistics(saved_mean, saved_invstd);
    check(call);
    const Weights weights(call.weight, call.dy.size);
    call.saved.weight = weights.data();
    double_backward(call);
  });
}

int32_t bn2d_mask_nbytes(int64_t n, int64_t c, int64_t h, int64_t w, uint64_t *out) {
  return guarded([&] {
    required(out, "out");
    const Extents size = {n, c, h, w};
    check_extents("mask", size);
    *out = static_cast<uint64_t>(n * c * mask_plane_bytes(size.plane()));
  });
}
