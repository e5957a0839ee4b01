// y = act((x - mean) * invstd * weight + bias + z), with the statistics of the batch or the running ones.
#include <cfloat>
#include <cmath>

#include "ops/operations.h"
#include "ops/schedule.h"

namespace bn2d {
namespace {

using kernels::kMaxGroup;
using kernels::Moments;

class Forward {
 public:
  using Partial = Moments;
  static constexpr int kDoubles = 4;
  static constexpr kernels::MapOf map = kernels::MapOf::forward;
  static constexpr bool has_map = true;
  const bool has_sums;

  explicit Forward(const ForwardCall &call)
      : has_sums(call.batch_statistics), call_(call), count_(static_cast<double>(call.x.size.per_channel())) {}

  void sum(const Blockwise &blockwise, const Group &g, int64_t block, GroupScratch &scratch, Moments *moments) const {
    kernels::Sums sums;
    blockwise.sums(kernels::SumsOf::forward, g, block, scratch, &sums);
    const double count = static_cast<double>(blockwise.blocks().at(block).elements());
    channel_.moments(g.channels, count, scratch.center_hi, &sums, moments);
  }

  void merge(const Group &g, Moments *into, const Moments &from) const { channel_.merge(g.channels, into, &from); }

  static void save(const Group &g, const Moments &m, double *memory, int64_t stride) {
    const double *arrays[kDoubles] = {m.mean_hi, m.mean_lo, m.m2_hi, m.m2_lo};
    for (int i = 0; i < kDoubles; ++i) std::copy_n(arrays[i], g.channels, memory + i * stride);
  }
  void restore(const Group &g, const double *memory, int64_t stride, int64_t block, const Blockwise &blockwise, Moments *m) const {
    double *arrays[kDoubles] = {m->mean_hi, m->mean_lo, m->m2_hi, m->m2_lo};
    for (int i = 0; i < kDoubles; ++i) std::copy_n(memory + i * stride, g.channels, arrays[i]);
    m->count = static_cast<double>(blockwise.blocks().at(block).elements());
  }

  void finish(const Group &g, const Moments *moments, void *coefficients, int64_t stride, bool first) const {
    double mean[kMaxGroup], mean_lo[kMaxGroup], var[kMaxGroup], invstd[kMaxGroup];
    for (int64_t i = 0; i < g.channels; ++i) {
      mean[i] = moments ? moments->mean_hi[i] : call_.running_mean.get(g.channel + i);
      mean_lo[i] = moments ? moments->mean_lo[i] : 0.0;
      var[i] = moments ? (moments->m2_hi[i] + moments->m2_lo[i]) / count_ : call_.running_var.get(g.channel + i);
    }
    channel_.invstd(g.channels, var, call_.eps, invstd);
    write_coefficients(g, mean, mean_lo, invstd, coefficients, stride);
    if (!first) return;
    if (moments) update_running(g, *moments, var);
    save_statistics(g, mean, mean_lo, invstd);
  }

 private:
  void write_coefficients(const Group &g, const double *mean, const double *mean_lo, const double *invstd, void *coefficients,
                          int64_t stride) const {
    using namespace kernels::coefficient;
    const CoefficientWriter out(call_.x.dtype, coefficients, stride);
    const double largest = call_.x.dtype == DType::f64 ? DBL_MAX : FLT_MAX;
    for (int64_t i = 0; i < g.channels; ++i) {
      const double weight = call_.weight.exists() ? call_.weight.get(g.channel + i) : 1.0;
      double factor = weight * invstd[i];
      // With eps = 0 and a deviation near the smallest float the factor leaves the range of float; infinity times a
      // difference of 0 would be NaN.
      if (std::fabs(factor) > largest && std::isfinite(weight)) factor = std::copysign(largest, factor);
      out.set_pair(mean_hi, kernels::coefficient::mean_lo, i, mean[i], mean_lo[i]);
      out.set(scale, i, factor);
      out.set(shift, i, call_.bias.exists() ? call_.bias.get(g.channel + i) : 0.0);
    }
  }

  // Taken from the variance itself, never recovered from invstd.
  void update_running(const Group &g, const Moments &moments, const double *var) const {
    const double m = call_.averaging_factor;
    for (int64_t i = 0; i < g.channels; ++i) {
      const int64_t c = g.channel + i;
      const double mean = moments.mean_hi[i];
      const double variance = call_.biased_running_var ? var[i] : (moments.m2_hi[i] + moments.m2_lo[i]) / (count_ - 1);
      if (call_.protect_running_stats && !(std::isfinite(mean) && std::isfinite(variance))) continue;
      if (call_.running_mean.exists()) call_.running_mean.set(c, average(call_.running_mean.get(c), mean, m));
      if (call_.running_var.exists()) call_.running_var.set(c, average(call_.running_var.get(c), variance, m));
    }
  }

  // A factor of 0 or 1 drops a side altogether, also one that is infinite.
  static double average(double old, double value, double m) { return m == 0 ? old : m == 1 ? value : (1 - m) * old + m * value; }

  void save_statistics(const Group &g, const double *mean, const double *mean_lo, const double *invstd) const {
    const SavedStatistics &saved = call_.saved;
    for (int64_t i = 0; i < g.channels; ++i) {
      const int64_t c = g.channel + i;
      if (saved.mean) saved.mean[c] = mean[i];
      if (saved.mean_lo) saved.mean_lo[c] = mean_lo[i];
      if (saved.invstd) saved.invstd[c] = invstd[i];
      if (saved.weight) saved.weight[c] = call_.weight.exists() ? call_.weight.get(c) : 1.0;
    }
  }

  const ForwardCall &call_;
  const double count_;
  const kernels::ChannelKernels &channel_ = kernels::active().channel;
};

}  // namespace

void forward(const ForwardCall &call) {
  if (call.x.size.numel() == 0) return;
  Tensors tensors;
  tensors.x = call.x;
  tensors.v = call.z;
  tensors.out = call.y;
  tensors.sign_mask = call.mask;
  tensors.activation = call.fused.activation;
  // The kernels know one activation: a factor below 0, which is 0 for relu.
  tensors.slope = call.fused.activation == Activation::leaky_relu ? call.fused.slope : 0.0;
  const Blockwise blockwise(tensors, call.x.size, call.x.dtype);
  const Forward operation(call);
  const bool in_place = call.y.data == call.x.data || call.y.data == call.z.data;  // its lines are in cache already
  const Schedule<Forward> schedule(operation, blockwise, call.x.size, call.x.dtype, 1, call.thread_limit, !in_place);
  const Scratch scratch(schedule.scratch_bytes());
  schedule.run(scratch.data());
}

}  // namespace bn2d
