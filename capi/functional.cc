// The operations without a module, for hosts that own their storage.
#include <algorithm>
#include <cinttypes>
#include <cmath>

#include "base/scratch.h"
#include "convert.h"
#include "module/options.h"
#include "ops/operations.h"

using namespace bn2d;
using namespace bn2d::capi;

namespace {

constexpr int32_t kFlags = BN2D_FLAG_BIASED_RUNNING_VAR | BN2D_FLAG_PROTECT_RUNNING_STATS;

ChannelArray array_of(DType dtype, const void *data) { return {dtype, const_cast<void *>(data)}; }

// The dtype of the per-channel arrays beside data of `data_dtype`.
DType parameter_dtype(int32_t dtype, const char *what, DType data_dtype) {
  const DType own = checked_floating_dtype(dtype);
  if (!may_mix(data_dtype, own))
    fail(Status::dtype,
         "%s is %s, the parameters are %s; they must agree, or float16/bfloat16 data meet float32 "
         "parameters",
         what, dtype_name(data_dtype), dtype_name(own));
  return own;
}

void check_mask_of_none(int32_t activation, const void *mask) {
  if (activation == BN2D_ACT_NONE && mask != nullptr)
    fail(Status::invalid_argument, "mask is given, but the activation is none");
}

// The part of a forward that all norms have in common.
ForwardCall forward_call(const bn2d_view *x, const bn2d_view *z, const bn2d_view *y, int32_t dtype,
                         const void *weight, const void *bias, double eps, int32_t activation,
                         double slope, uint8_t *mask, double *saved_mean, double *saved_invstd) {
  ForwardCall call;
  call.x = view_of("x", x);
  call.z = optional_view_of("z", z);
  call.y = view_of("y", y);
  const DType own = parameter_dtype(dtype, "x", call.x.dtype);
  check_mask_of_none(activation, mask);
  call.fused = {static_cast<Activation>(activation), slope};
  call.weight = array_of(own, weight);
  call.bias = array_of(own, bias);
  call.eps = checked_eps(eps);
  call.mask = mask;
  call.saved.mean = saved_mean;
  call.saved.invstd = saved_invstd;
  return call;
}

SetShape sets_of_groups(int64_t num_groups, const Extents &size) {
  if (num_groups < 1)
    fail(Status::invalid_argument, "num_groups is %" PRId64 ", must be 1 or more", num_groups);
  if (size.c % num_groups != 0)
    fail(Status::shape, "the tensor has %" PRId64 " channels, no multiple of num_groups %" PRId64,
         size.c, num_groups);
  return {1, std::max<int64_t>(size.c / num_groups, 1)};
}

double checked_blend(double blend) {
  if (!std::isfinite(blend)) fail(Status::invalid_argument, "blend is %g, must be finite", blend);
  return blend;
}

}  // namespace

int32_t bn2d_batch_norm_forward(const bn2d_view *x, const bn2d_view *z, const bn2d_view *y,
                                int32_t dtype, const void *weight, const void *bias,
                                void *running_mean, void *running_var, int32_t batch_stats,
                                double averaging_factor, double eps, int32_t flags,
                                int32_t activation, double slope, uint8_t *mask, double *saved_mean,
                                double *saved_invstd) {
  return guarded([&] {
    ForwardCall call = forward_call(x, z, y, dtype, weight, bias, eps, activation, slope, mask,
                                    saved_mean, saved_invstd);
    call.batch_statistics = checked_flag("batch_stats", batch_stats);
    if ((flags & ~kFlags) != 0)
      fail(Status::invalid_argument, "flags are %" PRId32 ", known bits are %" PRId32, flags,
           kFlags);
    if (!call.batch_statistics) {
      required(running_mean, "running_mean");
      required(running_var, "running_var");
    }
    call.running_mean = array_of(call.weight.dtype, running_mean);
    call.running_var = array_of(call.weight.dtype, running_var);
    call.averaging_factor = checked_momentum("averaging_factor", averaging_factor);
    call.biased_running_var = (flags & BN2D_FLAG_BIASED_RUNNING_VAR) != 0;
    call.protect_running_stats = (flags & BN2D_FLAG_PROTECT_RUNNING_STATS) != 0;
    check(call);
    forward(call);
  });
}

int32_t bn2d_group_norm_forward(const bn2d_view *x, const bn2d_view *z, const bn2d_view *y,
                                int64_t num_groups, int32_t dtype, const void *weight,
                                const void *bias, double eps, int32_t activation, double slope,
                                uint8_t *mask, double *saved_mean, double *saved_invstd) {
  return guarded([&] {
    ForwardCall call = forward_call(x, z, y, dtype, weight, bias, eps, activation, slope, mask,
                                    saved_mean, saved_invstd);
    call.sets = sets_of_groups(num_groups, call.x.size);
    call.least_values = 1;
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

// Weight or bias of a call as doubles. Made after its checks: before them nothing says that dy has
// as many channels as the array has elements. An empty call reads none.
class Doubles {
 public:
  // is_needed: where the array does not exist, `missing` stands for its elements.
  Doubles(const ChannelArray &array, const Extents &size, bool is_needed, double missing)
      : scratch_((array.exists() || is_needed) && size.numel() > 0
                     ? static_cast<size_t>(size.c) * sizeof(double)
                     : 0) {
    if (data() == nullptr) return;
    if (array.exists()) {
      array.load(0, size.c, data());
    } else {
      std::fill_n(data(), size.c, missing);
    }
  }
  double *data() const { return static_cast<double *>(scratch_.data()); }

 private:
  Scratch scratch_;
};

// What a backward is told of its forward, and how it blends.
struct OfForward {
  const bn2d_view *x, *dy, *y;
  const uint8_t *mask;
  const int64_t *num_groups;  // NULL: batch norm
  int32_t dtype;
  const void *weight;
  const double *saved_mean, *saved_invstd;
  int32_t batch_stats, activation;
  double slope, blend;
  // What the argument of the activation was made of: a backward through a pointwise one needs it.
  // Others find their side faster with it, where there was no residual.
  bool has_argument;
  const bn2d_view *z;
  const void *bias;
};

// Both backward calls. Returns the dtype of weight, bias and their gradients.
template <typename Call>
DType set_forward(const OfForward &of, Call *call) {
  call->x = optional_view_of("x", of.x);
  call->dy = view_of("dy", of.dy);
  call->y = optional_view_of("y", of.y);
  call->batch_statistics = checked_flag("batch_stats", of.batch_stats);
  check_mask_of_none(of.activation, of.mask);
  call->mask = of.mask;
  call->fused = {static_cast<Activation>(of.activation), of.slope};
  call->blend = checked_blend(of.blend);
  if (of.num_groups) call->sets = sets_of_groups(*of.num_groups, call->dy.size);
  return parameter_dtype(of.dtype, "dy", call->dy.dtype);
}

// When all other arguments are set. needs_x: x and its mean.
template <typename Call>
void check_and_run(const OfForward &of, DType own, bool needs_x, void (*run)(Call *), Call *call) {
  if (needs_x) {
    required(of.x, "x");
    required(of.saved_mean, "saved_mean");
  }
  call->weight = array_of(own, of.weight);
  call->saved = saved_statistics(of.saved_mean, of.saved_invstd);
  const Fused &fused = call->fused;
  call->knows_bias = of.has_argument && (fused.is_pointwise() || (fused.has_sides() && !of.z));
  if (call->knows_bias) {
    call->z = optional_view_of("z", of.z);
    call->bias = array_of(own, of.bias);
  }
  check(*call);
  const Doubles weights(call->weight, call->dy.size, call->knows_bias, 1),
      biases(call->bias, call->dy.size, call->knows_bias, 0);
  call->saved.weight = weights.data();
  call->saved.bias = biases.data();
  run(call);
}

struct Gradients {
  const bn2d_view *dx, *dz;
  void *dweight, *dbias;
};

int32_t run_backward(const OfForward &of, const Gradients &to) {
  return guarded([&] {
    BackwardCall call;
    const DType own = set_forward(of, &call);
    call.dx = optional_view_of("dx", to.dx);
    call.dz = optional_view_of("dz", to.dz);
    call.dweight = array_of(own, to.dweight);
    call.dbias = array_of(own, to.dbias);
    check_and_run(of, own, call.needs_x(), backward, &call);
  });
}

// What the loss of a double backward depends on.
struct OfLoss {
  const bn2d_view *ddx, *ddz;
  const void *ddweight, *ddbias;
};

int32_t run_double_backward(const OfForward &of, const OfLoss &loss, const bn2d_view *ddy,
                            const Gradients &to) {
  return guarded([&] {
    DoubleBackwardCall call;
    required(of.x, "x");
    const DType own = set_forward(of, &call);
    call.ddx = optional_view_of("ddx", loss.ddx);
    call.ddz = optional_view_of("ddz", loss.ddz);
    call.ddweight = array_of(own, loss.ddweight);
    call.ddbias = array_of(own, loss.ddbias);
    call.ddy = optional_view_of("ddy", ddy);
    call.dx = optional_view_of("dx", to.dx);
    call.dz = optional_view_of("dz", to.dz);
    call.dweight = array_of(own, to.dweight);
    call.dbias = array_of(own, to.dbias);
    check_and_run(of, own, true, double_backward, &call);
  });
}

}  // namespace

int32_t bn2d_batch_norm_backward(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y,
                                 const uint8_t *mask, int32_t dtype, const void *weight,
                                 const double *saved_mean, const double *saved_invstd,
                                 int32_t batch_stats, int32_t activation, double slope,
                                 double blend, const bn2d_view *dx, const bn2d_view *dz,
                                 void *dweight, void *dbias) {
  return run_backward({x, dy, y, mask, nullptr, dtype, weight, saved_mean, saved_invstd,
                       batch_stats, activation, slope, blend, false, nullptr, nullptr},
                      {dx, dz, dweight, dbias});
}

int32_t bn2d_group_norm_backward(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y,
                                 const uint8_t *mask, int64_t num_groups, int32_t dtype,
                                 const void *weight, const double *saved_mean,
                                 const double *saved_invstd, int32_t activation, double slope,
                                 double blend, const bn2d_view *dx, const bn2d_view *dz,
                                 void *dweight, void *dbias) {
  return run_backward({x, dy, y, mask, &num_groups, dtype, weight, saved_mean, saved_invstd, 1,
                       activation, slope, blend, false, nullptr, nullptr},
                      {dx, dz, dweight, dbias});
}

int32_t bn2d_batch_norm_backward_act(const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy,
                                     const bn2d_view *y, const uint8_t *mask, int32_t dtype,
                                     const void *weight, const void *bias, const double *saved_mean,
                                     const double *saved_invstd, int32_t batch_stats,
                                     int32_t activation, double slope, double blend,
                                     const bn2d_view *dx, const bn2d_view *dz, void *dweight,
                                     void *dbias) {
  return run_backward({x, dy, y, mask, nullptr, dtype, weight, saved_mean, saved_invstd,
                       batch_stats, activation, slope, blend, true, z, bias},
                      {dx, dz, dweight, dbias});
}

int32_t bn2d_group_norm_backward_act(const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy,
                                     const bn2d_view *y, const uint8_t *mask, int64_t num_groups,
                                     int32_t dtype, const void *weight, const void *bias,
                                     const double *saved_mean, const double *saved_invstd,
                                     int32_t activation, double slope, double blend,
                                     const bn2d_view *dx, const bn2d_view *dz, void *dweight,
                                     void *dbias) {
  return run_backward({x, dy, y, mask, &num_groups, dtype, weight, saved_mean, saved_invstd, 1,
                       activation, slope, blend, true, z, bias},
                      {dx, dz, dweight, dbias});
}

int32_t bn2d_batch_norm_double_backward(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y,
                                        const uint8_t *mask, int32_t dtype, const void *weight,
                                        const double *saved_mean, const double *saved_invstd,
                                        int32_t batch_stats, int32_t activation, double slope,
                                        const bn2d_view *ddx, const void *ddweight,
                                        const void *ddbias, double blend, const bn2d_view *ddy,
                                        const bn2d_view *dx, void *dweight) {
  return run_double_backward({x, dy, y, mask, nullptr, dtype, weight, saved_mean, saved_invstd,
                              batch_stats, activation, slope, blend, false, nullptr, nullptr},
                             {ddx, nullptr, ddweight, ddbias}, ddy,
                             {dx, nullptr, dweight, nullptr});
}

int32_t bn2d_group_norm_double_backward(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y,
                                        const uint8_t *mask, int64_t num_groups, int32_t dtype,
                                        const void *weight, const double *saved_mean,
                                        const double *saved_invstd, int32_t activation,
                                        double slope, const bn2d_view *ddx, const void *ddweight,
                                        const void *ddbias, double blend, const bn2d_view *ddy,
                                        const bn2d_view *dx, void *dweight) {
  return run_double_backward({x, dy, y, mask, &num_groups, dtype, weight, saved_mean, saved_invstd,
                              1, activation, slope, blend, false, nullptr, nullptr},
                             {ddx, nullptr, ddweight, ddbias}, ddy,
                             {dx, nullptr, dweight, nullptr});
}

int32_t bn2d_batch_norm_double_backward_act(
    const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y,
    const uint8_t *mask, int32_t dtype, const void *weight, const void *bias,
    const double *saved_mean, const double *saved_invstd, int32_t batch_stats, int32_t activation,
    double slope, const bn2d_view *ddx, const bn2d_view *ddz, const void *ddweight,
    const void *ddbias, double blend, const bn2d_view *ddy, const bn2d_view *dx,
    const bn2d_view *dz, void *dweight, void *dbias) {
  return run_double_backward({x, dy, y, mask, nullptr, dtype, weight, saved_mean, saved_invstd,
                              batch_stats, activation, slope, blend, true, z, bias},
                             {ddx, ddz, ddweight, ddbias}, ddy, {dx, dz, dweight, dbias});
}

int32_t bn2d_group_norm_double_backward_act(
    const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y,
    const uint8_t *mask, int64_t num_groups, int32_t dtype, const void *weight, const void *bias,
    const double *saved_mean, const double *saved_invstd, int32_t activation, double slope,
    const bn2d_view *ddx, const bn2d_view *ddz, const void *ddweight, const void *ddbias,
    double blend, const bn2d_view *ddy, const bn2d_view *dx, const bn2d_view *dz, void *dweight,
    void *dbias) {
  return run_double_backward({x, dy, y, mask, &num_groups, dtype, weight, saved_mean, saved_invstd,
                              1, activation, slope, blend, true, z, bias},
                             {ddx, ddz, ddweight, ddbias}, ddy, {dx, dz, dweight, dbias});
}

int32_t bn2d_mask_nbytes(int64_t n, int64_t c, int64_t h, int64_t w, uint64_t *out) {
  return guarded([&] {
    required(out, "out");
    const Extents size = {n, c, h, w};
    check_extents("mask", size);
    *out = static_cast<uint64_t>(n * c * mask_plane_bytes(size.plane()));
  });
}
