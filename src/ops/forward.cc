// y = act((x - mean) * invstd * weight + bias + z), with the statistics of the batch or the running
// ones.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "kernels/safe_range.h"
#include "ops/agreement.h"
#include "ops/calls.h"
#include "ops/channels_of_sets.h"
#include "ops/expanded_tensors.h"
#include "ops/extreme.h"
#include "ops/last_set.h"
#include "ops/merge.h"
#include "ops/operations.h"
#include "ops/reordered.h"
#include "ops/schedule.h"
#include "ops/sets_as_planes.h"

namespace bn2d {
namespace {

using kernels::kMaxGroup;
using kernels::Moments;

class Forward {
 public:
  using Partial = Moments;
  using Workspace = bn2d::Workspace<Moments>;
  static constexpr kernels::SumsOf kSumsOf = kernels::SumsOf::forward;
  static constexpr int kSums = kernels::sums_count(kSumsOf);
  static constexpr int kPoolings = 1;
  static constexpr bool kSpreads = false;
  static constexpr kernels::MapOf map = kernels::MapOf::forward;
  const bool has_sums, has_map;

  explicit Forward(const ForwardCall &call)
      : has_sums(call.batch_statistics && !call.given.exists()),
        has_map(call.y.exists()),
        call_(call),
        is_wide_(call.x.dtype == DType::f64),
        has_extreme_slope_(extreme::is_extreme_slope(call.fused.factor())),
        sets_(call.sets.of(call.x.size)),
        channels_(sets_.counted().c),
        count_(static_cast<double>(call.given.exists() ? call.given.count : sets_.values())),
        kept_mean_(sets_, has_sums && (call.running_mean.exists() || call.running_var.exists())),
        kept_var_(sets_, has_sums && call.running_var.exists()) {}

  // Nothing to set: pivots are read from x, block by block (Blockwise::read_pivots).
  static void set_centers(const Group &, const Accumulators &) {}
  void reduce(const Blockwise &blockwise, const Group &group, const Group &part, int64_t block,
              const Accumulators &accumulators, Moments *moments, const Workspace &own) const {
    blockwise.reduce(kSumsOf, part, accumulators, own.sums);
    const double count = static_cast<double>(blockwise.blocks().at(block).elements());
    channel_.moments({part.channels, count, is_wide_, accumulators.pivot_at(part.channel), own.sums,
                      moments, own.inexact});
    const size_t channels = static_cast<size_t>(part.channels);
    if (is_wide_ || std::memchr(own.inexact, 1, channels) == nullptr) return;
    // Sums of 0: all elements are equal, or their squares are nothing beside eps.
    for (int64_t i = 0; i < part.channels && call_.eps >= 0x1p-100; ++i)
      own.inexact[i] &= own.sums->hi[i] != 0 || own.sums->hi[kMaxGroup + i] != 0;
    const bool is_series = part.channels > group.channels;  // each is a block, not a channel
    for (int64_t i = 0; i < part.channels; ++i)
      if (own.inexact[i])
        sum_again(blockwise, group.channel + (is_series ? 0 : part.channel + i),
                  block + (is_series ? i : 0), moments, i, own);
  }

  static void start(const Group &, Moments *) {}
  void merge(const Group &g, Moments *into, const Moments &from) const {
    channel_.merge(g.channels, into, &from);
  }
  void add_channels(const Group &g, Moments *into, const Moments &from) const {
    merge(g, into, from);
  }

  int doubles() const { return is_wide_ ? 4 : 2; }
  static std::array<double *, 4> arrays(Moments &m) {
    return {m.mean_hi, m.m2_hi, m.mean_lo, m.m2_lo};
  }
  void set_count(int64_t elements, Moments *m) const {
    m->count = static_cast<double>(elements);
    m->wide = is_wide_;
  }
  static void copy_count(const Moments &from, Moments *to) {
    to->count = from.count;
    to->wide = from.wide;
  }
  static const Moments &weighed(int, const Group &, const Moments &total, const MapCoefficients &,
                                const Workspace &) {
    return total;
  }
  // Pairs of doubles, whatever the data are of.
  void load_given(const Group &g, Moments *m) const {
    for (int k = 0; k < MomentArrays::kArrays; ++k)
      std::copy_n(call_.given.values + k * sets_.count() + first_of(g), count_of(g),
                  MomentArrays::of(*m)[k]);
    m->count = count_;
    m->wide = true;
  }

  [[gnu::noinline]] void finish(const Blockwise &blockwise, const Group &g, Moments *moments,
                                const MapCoefficients &coefficients, const Workspace &own) const {
    if (moments && sets_.channels > 1) moments = own.of_sets;
    if (call_.moments) return save_moments(blockwise, g, moments, own);
    const bool is_of_x = moments != nullptr;
    if (call_.given.exists()) {
      moments = own.total;
      load_given(g, moments);
    }
    Numbers &numbers = *numbers_of<Numbers>(has_sums, sets_, g, own.numbers);
    Statistics &s = numbers.statistics;
    load(g, moments, &numbers);
    std::memset(coefficients.is_extreme, has_extreme_slope_, static_cast<size_t>(g.channels));
    channel_.coefficients({g.channels, s.mean, s.mean_lo, s.var, call_.eps, s.invstd,
                           s.weight_or_null(call_), s.bias_or_null(call_),
                           coefficients.of_regular()});
    if (call_.saved.side) save_side(g, coefficients);
    if (is_wide_ && (is_of_x || call_.extremes)) mark_tiny_means(g, s, coefficients);
    coefficients.for_each_extreme(g.channels, [&](int64_t i) {
      coefficients.is_extreme[i] = is_wide_
                                       ? set_unbounded(blockwise, g.channel + i, i, is_of_x,
                                                       &numbers, coefficients.from(i), own)
                                       : set_extreme(g.channel + i, i, &s, coefficients.from(i));
    });
    if (moments && sets_.batches() == 1) update_running(g, &numbers);
    if (moments && kept_mean_.exists()) kept_mean_.keep(g, s.mean);
    if (moments && kept_var_.exists())
      kept_var_.keep(g, call_.biased_running_var ? s.var : numbers.unbiased);
    save_statistics(g, s);
  }

  // Where there are several sets of samples: the running statistics, when all are done.
  [[gnu::noinline, gnu::cold]] void add_sets() const {
    const int64_t moves = call_.averages_sets ? 1 : sets_.batches();
    if (!kept_mean_.exists()) return;
    for (int64_t c = 0; c < sets_.size.c; ++c) {
      for (int64_t batch = 0; batch < moves; ++batch) {
        const double mean = call_.averages_sets ? kept_mean_.average(c) : kept_mean_.at(batch, c),
                     var = !kept_var_.exists()   ? 0
                           : call_.averages_sets ? kept_var_.average(c)
                                                 : kept_var_.at(batch, c);
        const double factor = call_.cumulative_from < 0
                                  ? call_.averaging_factor
                                  : 1 / static_cast<double>(call_.cumulative_from + batch + 1);
        double new_mean, new_var;
        move_running({c, 1}, &mean, &var, factor, &new_mean, &new_var);
      }
    }
  }

 private:
  struct Statistics {  // of a group
    double mean[kMaxGroup], mean_lo[kMaxGroup], var[kMaxGroup], invstd[kMaxGroup],
        weight[kMaxGroup], bias[kMaxGroup];
    const double *weight_or_null(const ForwardCall &call) const {
      return call.weight.exists() ? weight : nullptr;
    }
    const double *bias_or_null(const ForwardCall &call) const {
      return call.bias.exists() ? bias : nullptr;
    }
  };
  struct Averages {  // the running statistics after this batch
    double mean[kMaxGroup], var[kMaxGroup];
  };
  struct Numbers {
    Statistics statistics;
    Averages averages;
    double unbiased[kMaxGroup];  // variance
    // What was measured once more of the set that the last extreme channel belonged to.
    int64_t measured_set = -1;
    unbounded::Moments measured;
  };

  // In double: a block of a channel that float could not sum exactly enough. The pivot is the mean
  // that is known. Where that was infinite 0 does: the deviation is at least the largest float over
  // sqrt(M), so the squares lose 2^-53 * M of their sum to the square of the mean.
  void sum_again(const Blockwise &blockwise, int64_t channel, int64_t block, Moments *moments,
                 int64_t i, const Workspace &own) const {
    const Accumulators of_one(own.of_one, kSums, 1, false);
    const double mean = moments->mean_hi[i];
    *static_cast<float *>(of_one.pivot) = std::isfinite(mean) ? static_cast<float>(mean) : 0.0F;
    blockwise.accumulate_in_double(kSumsOf, {channel, 1}, block, of_one, own.buffer);
    blockwise.reduce(kSumsOf, {0, 1}, of_one, own.sums);
    uint8_t inexact;
    channel_.moments({1, moments->count, false, of_one.pivot, own.sums, own.extreme, &inexact});
    moments->mean_hi[i] = own.extreme->mean_hi[0];
    moments->m2_hi[i] = own.extreme->m2_hi[0];
  }

  // Sets are channels here: those of several would not be spread.
  [[gnu::noinline, gnu::cold]] void save_moments(const Blockwise &blockwise, const Group &g,
                                                 Moments *moments, const Workspace &own) const {
    if (!is_wide_) {
      fill(moments->mean_lo, g.channels, 0);
      fill(moments->m2_lo, g.channels, 0);
    }
    for (int k = 0; k < MomentArrays::kArrays; ++k)
      std::copy_n(MomentArrays::of(*moments)[k], g.channels,
                  call_.moments + k * channels_ + g.channel);
    for (int64_t c = g.channel; c < g.channel + g.channels && call_.extremes; ++c)
      if (!are_exact(call_.moments, channels_, c))
        call_.extremes[c] = extreme::moments(blockwise, c, own.buffer);
  }

  // The first of the sets of a group, and how many these are. A set may be a channel.
  int64_t first_of(const Group &g) const {
    return sets_.channels == 1 ? g.channel : g.channel / sets_.channels;
  }
  int64_t count_of(const Group &g) const {
    return sets_.channels == 1 ? g.channels : count_sets(sets_, g);
  }
  // What sets of several channels have is computed once, then spread over these.
  void load(const Group &g, const Moments *moments, Numbers *numbers) const {
    Statistics *const s = &numbers->statistics;
    if (moments) {
      const int64_t count = count_of(g);
      const auto to_channels = [&](double *of_sets) {
        if (sets_.channels > 1) spread(sets_, g, of_sets);
      };
      std::copy_n(moments->mean_hi, count, s->mean);
      channel_.variance(count, moments, count_, s->var);
      channel_.invstd(count, s->var, call_.eps, s->invstd);
      for (double *of_sets : {s->mean, s->var, s->invstd}) to_channels(of_sets);
      if (moments->wide) {
        std::copy_n(moments->mean_lo, count, s->mean_lo);
        to_channels(s->mean_lo);
      } else {
        fill(s->mean_lo, g.channels, 0);
      }
      if (call_.running_var.exists()) {
        channel_.variance(count, moments, count_ - 1, numbers->unbiased);
        to_channels(numbers->unbiased);
      }
    } else {
      call_.running_mean.load(g.channel, g.channels, s->mean);
      call_.running_var.load(g.channel, g.channels, s->var);
      std::fill_n(s->mean_lo, g.channels, 0.0);
      channel_.invstd(g.channels, s->var, call_.eps, s->invstd);
    }
    if (call_.weight.exists()) load_for(sets_, g, call_.weight, s->weight);
    if (call_.bias.exists()) load_for(sets_, g, call_.bias, s->bias);
  }

  // Of doubles, as MomentArrays: whether no square of set `i` left the range where it counts, and
  // its mean has a low part with all its bits.
  [[gnu::noinline, gnu::cold]] bool are_exact(const double *moments, int64_t sets,
                                              int64_t i) const {
    using R = kernels::SafeRange<double>;
    const double m2 = moments[2 * sets + i];
    return kernels::is_safe_factor<double>(moments[i]) && m2 < R::kMostVariance &&
           (call_.eps >= 0x1p-100 || m2 >= R::kLeastVariance * count_);
  }

  // Of x near the smallest doubles, 1/std of a larger eps makes what a mean lacks an error of y:
  // with eps 1e-5 and x near 1e-315 y was wrong by 140 ulp.
  static void mark_tiny_means(const Group &g, const Statistics &s,
                              const MapCoefficients &coefficients) {
    using R = kernels::SafeRange<double>;
    for (int64_t i = 0; i < g.channels; ++i)
      if (s.mean[i] != 0 && std::fabs(s.mean[i]) < R::kLeastMean && s.var[i] < R::kLeastVariance)
        coefficients.is_extreme[i] = 1;
  }

  // The coefficients of an extreme channel, number i of its group, as doubles, whose range has room
  // for those of float data.
  [[gnu::cold]] bool set_extreme(int64_t channel, int64_t i, Statistics *s,
                                 const MapCoefficients &coefficients) const {
    channel_.coefficients({1, s->mean + i, s->mean_lo + i, s->var + i, call_.eps, s->invstd + i,
                           call_.weight.exists() ? s->weight + i : nullptr,
                           call_.bias.exists() ? s->bias + i : nullptr,
                           coefficients.of_extreme(0)});
    if (!call_.saved.side) return true;
    double side[2];
    channel_.side(
        {1, coefficients.extreme, coefficients.stride, true, 0, &side[0], &side[1], nullptr});
    // x is compared as it is in memory: the largest float counts that is not above the threshold.
    for (int k = 0; k < 2; ++k)
      store_element(arithmetic_dtype(call_.x.dtype), saved_side(k, channel), 0,
                    extreme::round_down(side[k]));
    return true;
  }

  // The same of doubles, with the statistics of the batch once more. False: the channel is not
  // extreme after all.
  [[gnu::cold]] bool set_unbounded(const Blockwise &blockwise, int64_t channel, int64_t i,
                                   bool of_batch, Numbers *numbers,
                                   const MapCoefficients &coefficients,
                                   const Workspace &own) const {
    using namespace kernels::coefficient;
    Statistics &s = numbers->statistics;
    unbounded::Number mean = s.mean[i], mean_lo = s.mean_lo[i], var = s.var[i];
    const int64_t set = channel / sets_.channels;
    if (of_batch || (call_.extremes && !are_exact(call_.given.values, sets_.count(), set))) {
      if (numbers->measured_set != set)
        numbers->measured =
            call_.extremes ? call_.extremes[set] : extreme::moments(blockwise, channel, own.buffer);
      numbers->measured_set = set;
      const unbounded::Moments &moments = numbers->measured;
      if (!moments.mean.hi.is_finite()) return false;  // an element is infinite or NaN
      mean = moments.mean.hi;
      mean_lo = moments.mean.lo;
      var = moments.variance(count_);
      s.mean[i] = mean.to_double();
      s.mean_lo[i] = mean_lo.to_double();
      s.var[i] = var.to_double();
      numbers->unbiased[i] = moments.variance(count_ - 1).to_double();
    }
    const unbounded::Number invstd = (var + call_.eps).inverse_sqrt();
    s.invstd[i] = invstd.to_double();
    const unbounded::Forward forward = {-mean, -mean_lo,
                                        call_.weight.exists() ? invstd * s.weight[i] : invstd,
                                        call_.bias.exists() ? s.bias[i] : 0.0};
    extreme::set_coefficient(coefficients, minus_mean_hi, forward.minus_mean);
    extreme::set_coefficient(coefficients, minus_mean_lo, forward.minus_mean_lo);
    extreme::set_coefficient(coefficients, scale, forward.scale);
    extreme::set_coefficient(coefficients, shift, forward.shift);
    if (call_.saved.side) {
      const auto saved = [&](int k) { return reinterpret_cast<double *>(saved_side(k, channel)); };
      forward.find_side(saved(0), saved(1));
    }
    return true;
  }

  // Taken from the variance itself, never recovered from invstd.
  void update_running(const Group &g, Numbers *numbers) const {
    if (!call_.running_mean.exists() && !call_.running_var.exists()) return;
    const Statistics &s = numbers->statistics;
    Averages &averages = numbers->averages;
    move_running(g, s.mean, call_.biased_running_var ? s.var : numbers->unbiased,
                 call_.averaging_factor, averages.mean, averages.var);
  }

  // By one batch with this mean and variance of each channel. `new_mean`, `new_var`: room for the
  // averages.
  [[gnu::noinline]] void move_running(const Group &g, const double *mean, const double *var,
                                      double factor, double *new_mean, double *new_var) const {
    average(call_.running_mean, g, mean, factor, new_mean);
    average(call_.running_var, g, var, factor, new_var);
    if (call_.protect_running_stats) protect(g, new_mean, new_var);
    if (call_.running_mean.exists()) call_.running_mean.store(g.channel, g.channels, new_mean);
    if (call_.running_var.exists()) call_.running_var.store(g.channel, g.channels, new_var);
  }

  // The running average of an array after this batch.
  static void average(const ChannelArray &running, const Group &g, const double *value, double m,
                      double *average) {
    if (!running.exists()) return;
    // A factor of 0 or 1 drops a side altogether, also one that is infinite.
    if (m == 1) {
      std::copy_n(value, g.channels, average);
      return;
    }
    running.load(g.channel, g.channels, average);
    if (m == 0) return;
    for (int64_t i = 0; i < g.channels; ++i) average[i] = (1 - m) * average[i] + m * value[i];
  }

  // Channels for which one of the arrays would hold a number that is not finite keep what they had.
  // A variance that double holds may still overflow where it is stored: {1e20, -1e20} in float.
  [[gnu::cold]] void protect(const Group &g, double *mean, double *var) const {
    const auto holds = [](const ChannelArray &running, double value) {
      return !running.exists() || std::isfinite(rounded_to(running.dtype, value));
    };
    for (int64_t i = 0; i < g.channels; ++i) {
      if (holds(call_.running_mean, mean[i]) && holds(call_.running_var, var[i])) continue;
      if (call_.running_mean.exists()) mean[i] = call_.running_mean.get(g.channel + i);
      if (call_.running_var.exists()) var[i] = call_.running_var.get(g.channel + i);
    }
  }

  void save_statistics(const Group &g, const Statistics &s) const {
    const SavedStatistics &saved = call_.saved;
    save_of_sets(g, s.mean, saved.mean);
    save_of_sets(g, s.mean_lo, saved.mean_lo);
    save_of_sets(g, s.invstd, saved.invstd);
  }
  // What the channels of a set have in common is saved by its first one.
  void save_of_sets(const Group &g, const double *values, double *saved) const {
    if (saved == nullptr) return;
    if (sets_.channels == 1) {
      std::copy_n(values, g.channels, saved + g.channel);
      return;
    }
    const int64_t of_set = sets_.channels, end = g.channel + g.channels;
    for (int64_t set = (g.channel + of_set - 1) / of_set; set * of_set < end; ++set)
      saved[set] = values[set * of_set - g.channel];
  }

  // Where side_sign (k = 0) or side_threshold (k = 1) of a channel is saved.
  std::byte *saved_side(int k, int64_t channel) const {
    const int64_t bytes = arithmetic_size(call_.x.dtype);
    return static_cast<std::byte *>(call_.saved.side) + (k * channels_ + channel) * bytes;
  }

  void save_side(const Group &g, const MapCoefficients &coefficients) const {
    channel_.side({g.channels, coefficients.regular, coefficients.stride, is_wide_, 0,
                   saved_side(0, g.channel), saved_side(1, g.channel), nullptr});
  }

  const ForwardCall &call_;
  const bool is_wide_, has_extreme_slope_;
  const Sets sets_;
  const int64_t channels_;  // of all sets
  const double count_;
  const KeptOfSets kept_mean_, kept_var_;
  const kernels::ChannelKernels &channel_ = kernels::active().channel;
};

}  // namespace

// Backward uses weight and bias as they were.
void save_parameters(const ForwardCall &call) {
  const auto save = [&](const ChannelArray &array, double other, double *saved) {
    if (saved == nullptr) return;
    if (array.exists()) {
      array.load(0, call.x.size.c, saved);
    } else {
      std::fill_n(saved, call.x.size.c, other);
    }
  };
  save(call.weight, 1, call.saved.weight);
  save(call.bias, 0, call.saved.bias);
}

// Runs once a call, and so is compiled for size: 3 KB less with that of backward, and small calls
// take as long.
[[gnu::noinline, gnu::cold]] void run_forwards(const ForwardCall *calls, int count,
                                               const Driver &driver, const Ready *before) {
  const ForwardCall &call = *calls;
  Tensors tensors;
  tensors.x = call.x;
  tensors.v = call.z;
  tensors.out = call.y;
  tensors.sign_mask = call.mask;
  tensors.activation = call.fused.activation;
  tensors.slope = call.fused.factor();
  tensors.bound = call.fused.bound(call.x.dtype);
  const Sets sets = merge_samples(call.sets.of(call.x.size), &tensors);
  const ExpandedTensors expanded(tensors, sets.size);
  const Forward operation(call);
  const bool is_input = call.y.data == call.x.data || call.y.data == call.z.data;
  const Agreement agreement(operation.has_sums && !is_input, &tensors);
  const Blockwise blockwise(tensors, sets, call.x.dtype);
  const Reordered reordered(blockwise, tensors, call.x.dtype);
  const bool in_place =
      is_input || agreement.exists();  // the map reads lines before it writes them
  const Schedule<Forward> schedule(operation, blockwise, reordered.maps(), call, call.x.dtype, 1,
                                   !in_place);
  const Scratch scratch(schedule.scratch_bytes());
  const auto run = [&] {
    agreement.copy(schedule.pool(), call.thread_limit);
    schedule.run(scratch.data());
    operation.add_sets();
    save_parameters(call);
  };
  const Ready ready = Ready::of(run, before);
  if (count == 1) return driver.run(ready);
  run_forwards(calls + 1, count - 1, driver, &ready);
}

namespace {

[[gnu::cold]] void forward_in_two(const ForwardCall &call) {
  const Extents &size = call.x.size;
  const int64_t rest = call.sets.rest(size), whole = size.n - rest,
                batches = whole / call.sets.samples;
  ForwardCall parts[2] = {call, call};
  ForwardCall &first = parts[0], &last = parts[1];
  for (const auto view : {&ForwardCall::x, &ForwardCall::z, &ForwardCall::y}) {
    first.*view = samples_of(call.*view, 0, whole);
    last.*view = samples_of(call.*view, whole, rest);
  }
  last.sets.samples = 0;
  if (call.mask != nullptr) last.mask += whole * size.c * mask_plane_bytes(size.plane());
  last.saved = behind(call.saved, call.sets, size, batches, call.x.dtype);
  if (call.cumulative_from >= 0) {
    last.cumulative_from += batches;
    last.averaging_factor = 1 / static_cast<double>(last.cumulative_from + 1);
  }
  run_forwards(parts, 2);
}

// What there is to do for channels without an element. Not inlined: a call is a kilobyte of stack.
[[gnu::noinline, gnu::cold]] void forward_of_nothing(const ForwardCall &call) {
  if (!call.given.exists()) return;
  ForwardCall channels = call;
  channels.x = channels.z = channels.y = View();
  channels.x.dtype = call.x.dtype;
  channels.x.size = {1, call.x.size.c, 1, 1};
  run_forwards(&channels, 1);
}

}  // namespace

void forward(const ForwardCall &call) {
  if (call.x.size.numel() == 0) return forward_of_nothing(call);
  if (forward_by_sets(call)) return;
  if (call.sets.rest(call.x.size) == 0) return run_forwards(&call, 1);
  forward_in_two(call);
}

}  // namespace bn2d
