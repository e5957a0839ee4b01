// y = act((x - mean) * invstd * weight + bias + z), with the statistics of the batch or the running ones.
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
  static constexpr kernels::SumsOf kSumsOf = kernels::SumsOf::forward;
  static constexpr int kSums = kernels::sums_count(kSumsOf);
  static constexpr int kDoubles = 4;
  static constexpr kernels::MapOf map = kernels::MapOf::forward;
  static constexpr bool has_map = true;
  const bool has_sums;

  explicit Forward(const ForwardCall &call)
      : has_sums(call.batch_statistics), call_(call), count_(static_cast<double>(call.x.size.per_channel())) {}

  static void set_centers(const Group &, const Accumulators &) {}  // read by the kernel: the first element of a block
  void reduce(const Blockwise &blockwise, const Group &part, int64_t block, const Accumulators &accumulators,
              Moments *moments) const {
    kernels::Sums sums;
    blockwise.reduce(kSumsOf, part, accumulators, &sums);
    const double count = static_cast<double>(blockwise.blocks().at(block).elements());
    channel_.moments(part.channels, count, accumulators.center_hi + part.channel, &sums, moments);
  }

  void merge(const Group &g, Moments *into, const Moments &from) const { channel_.merge(g.channels, into, &from); }

  static void save(const Group &g, const Moments &m, double *memory, int64_t stride) {
    const double *arrays[kDoubles] = {m.mean_hi, m.mean_lo, m.m2_hi, m.m2_lo};
    for (int i = 0; i < kDoubles; ++i) std::copy_n(arrays[i], g.channels, memory + i * stride);
  }
  void restore(const Group &g, const double *memory, int64_t stride, int64_t block, const Blockwise &blockwise,
               Moments *m) const {
    double *arrays[kDoubles] = {m->mean_hi, m->mean_lo, m->m2_hi, m->m2_lo};
    for (int i = 0; i < kDoubles; ++i) std::copy_n(memory + i * stride, g.channels, arrays[i]);
    m->count = static_cast<double>(blockwise.blocks().at(block).elements());
  }

  void finish(const Group &g, const Moments *moments, void *coefficients, int64_t stride) const {
    double mean[kMaxGroup], mean_lo[kMaxGroup], var[kMaxGroup], invstd[kMaxGroup], weight[kMaxGroup], bias[kMaxGroup];
    if (moments) {
      channel_.variance(g.channels, moments, count_, var);
    } else {
      call_.running_mean.load(g.channel, g.channels, mean);
      call_.running_var.load(g.channel, g.channels, var);
      std::fill_n(mean_lo, g.channels, 0.0);
    }
    if (call_.weight.exists()) call_.weight.load(g.channel, g.channels, weight);
    if (call_.bias.exists()) call_.bias.load(g.channel, g.channels, bias);
    const double *const mean_hi = moments ? moments->mean_hi : mean, *const mean_low =
                                                                         moments ? moments->mean_lo : mean_lo;
    channel_.coefficients(g.channels, mean_hi, mean_low, var, call_.eps, call_.weight.exists() ? weight : nullptr,
                          call_.bias.exists() ? bias : nullptr, call_.x.dtype == DType::f64, coefficients, stride,
                          invstd);
    if (moments) update_running(g, *moments, var);
    save_statistics(g, mean_hi, mean_low, invstd, call_.weight.exists() ? weight : nullptr);
    if (call_.saved.side) save_side(g, coefficients, stride);
  }

 private:
  // Taken from the variance itself, never recovered from invstd.
  void update_running(const Group &g, const Moments &moments, const double *var) const {
    if (!call_.running_mean.exists() && !call_.running_var.exists()) return;
    double unbiased[kMaxGroup];
    channel_.variance(g.channels, &moments, count_ - 1, unbiased);
    const double *const variance = call_.biased_running_var ? var : unbiased;
    bool keep[kMaxGroup] = {};
    if (call_.protect_running_stats)
      for (int64_t i = 0; i < g.channels; ++i)
        keep[i] = !(std::isfinite(moments.mean_hi[i]) && std::isfinite(variance[i]));
    average_into(call_.running_mean, g, moments.mean_hi, keep);
    average_into(call_.running_var, g, variance, keep);
  }

  void average_into(const ChannelArray &running, const Group &g, const double *value, const bool *keep) const {
    if (!running.exists()) return;
    double average[kMaxGroup];
    running.load(g.channel, g.channels, average);
    const double m = call_.averaging_factor;
    for (int64_t i = 0; i < g.channels; ++i) {
      // A factor of 0 or 1 drops a side altogether, also one that is infinite.
      const double moved = m == 1 ? value[i] : (1 - m) * average[i] + m * value[i];
      average[i] = m == 0 || keep[i] ? average[i] : moved;
    }
    running.store(g.channel, g.channels, average);
  }

  void save_statistics(const Group &g, const double *mean, const double *mean_lo, const double *invstd,
                       const double *weight) const {
    const SavedStatistics &saved = call_.saved;
    if (saved.mean) std::copy_n(mean, g.channels, saved.mean + g.channel);
    if (saved.mean_lo) std::copy_n(mean_lo, g.channels, saved.mean_lo + g.channel);
    if (saved.invstd) std::copy_n(invstd, g.channels, saved.invstd + g.channel);
    if (saved.weight && weight) std::copy_n(weight, g.channels, saved.weight + g.channel);
    if (saved.weight && !weight) std::fill_n(saved.weight + g.channel, g.channels, 1.0);
  }

  void save_side(const Group &g, const void *coefficients, int64_t stride) const {
    const int64_t bytes = arithmetic_size(call_.x.dtype);
    std::byte *const sign = static_cast<std::byte *>(call_.saved.side) + g.channel * bytes;
    channel_.side(g.channels, coefficients, stride, call_.x.dtype == DType::f64, sign, sign + call_.x.size.c * bytes);
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
