// Forward, backward and double backward on views and plain pointers: the whole mathematics, without
// a module. The module and the stateless functions of the C ABI are thin users of these.
//
// Call check() first: it throws Error with nothing changed. After that, and after the allocation of
// its scratch, an operation cannot fail. An empty tensor is a success without elements.
#pragma once
#include <array>
#include <cstdint>

#include "kernels/kernels.h"
#include "parallel/pool.h"
#include "tensor/sets.h"
#include "tensor/view.h"

namespace bn2d {
namespace unbounded {
struct Moments;
}

using kernels::Activation;

// Bytes of a plane of a mask: one bit for each position, in whole bytes.
inline int64_t mask_plane_bytes(int64_t plane) { return plane / 8 + (plane % 8 != 0); }

// Per-channel arrays of one dtype: weight, bias, running statistics, gradients.
struct ChannelArray {
  DType dtype = DType::f32;
  void *data = nullptr;  // NULL: does not exist
  bool exists() const { return data != nullptr; }
  double get(int64_t c) const { return load_element(dtype, data, c); }
  void set(int64_t c, double value) const { store_element(dtype, data, c, value); }
  void load(int64_t c, int64_t count, double *to) const {
    load_elements(dtype, data, c, count, to);
  }
  void store(int64_t c, int64_t count, const double *from) const {
    store_elements(dtype, data, c, count, from);
  }
};

// Statistics and weight of a forward, as backward needs them: a double for each set of statistics,
// and C of the weight. NULL: not wanted (forward) or 0, 1 (backward). The mean has a low part,
// because a double cannot hold the mean of doubles far from 0 exactly enough.
struct SavedStatistics {
  double *mean = nullptr, *mean_lo = nullptr, *invstd = nullptr, *weight = nullptr;
  // The side of the activation as a function of x: side_sign and side_threshold of kernels.h, one
  // for each channel of the sets, in the arithmetic type of the data. A backward that has them
  // reads x, which dx and dweight need anyway, and neither y nor a mask.
  void *side = nullptr;
  // C doubles, for the argument of a pointwise activation. NULL: not wanted (forward).
  double *bias = nullptr;
  bool side_has_bound = false;  // whether side_bound follows in `side`
};

struct Fused {
  Activation activation = Activation::none;
  double slope = 0;
  // The kernels of maps and sums know one activation: a factor below 0, which is 0 for relu.
  double factor() const { return activation == Activation::leaky_relu ? slope : 0.0; }
  // As the arithmetic type of the data has it, also where a channel is computed in double.
  double bound(DType data) const {
    return activation == Activation::relu6 ? 6.0 : rounded_to(arithmetic_dtype(data), slope);
  }
  bool has_bound() const { return kernels::is_bounded(activation); }
  bool is_pointwise() const { return kernels::is_pointwise(activation); }
  bool has_sides() const { return activation != Activation::none && !is_pointwise(); }
  bool is_curved() const { return kernels::is_curved(activation); }
};

// Statistics of `count` values of each set as they are kept and sent: the mean, its low part, the
// sum of squared deviations, its low part. A double for each set, one array after the other.
struct MomentArrays {
  double *values = nullptr;
  int64_t count = 0;
  bool exists() const { return count != 0; }
  static constexpr int kArrays = 4;
  // The same arrays of a group of channels.
  static std::array<double *, kArrays> of(kernels::Moments &group) {
    return {group.mean_hi, group.mean_lo, group.m2_hi, group.m2_lo};
  }
};

struct ForwardCall {
  View x, z, y;  // z may not exist: no residual. y neither: only statistics
  Fused fused;
  ChannelArray weight, bias, running_mean, running_var;
  SetShape sets;  // of the statistics; where there are running ones, sets are of one channel
  int64_t least_values = 2;  // that a set must have
  bool batch_statistics = true;
  double averaging_factor = 0.1, eps = 1e-5;
  // Of several sets of samples: the running statistics move once, by the average of all sets. Else
  // once for each set, in order, with the factors 1/(cumulative_from + 1), 1/(cumulative_from + 2),
  // ... where that is 0 or more.
  bool averages_sets = false;
  int64_t cumulative_from = -1;
  // num_batches_tracked, which the module writes after the call; here only for the check of
  // overlap.
  const int64_t *counter = nullptr;
  bool biased_running_var = false, protect_running_stats = false;
  uint8_t *mask = nullptr;  // written: side of the activation
  SavedStatistics saved;    // written
  // A record will borrow x, and z where backward reads it: not to be overwritten.
  bool keeps_x = false;
  MomentArrays given;  // instead of the statistics of x; x, z and y may be empty all the same
  double *moments = nullptr;  // written (as MomentArrays): the statistics of x, and nothing else
  // Of doubles, one for each set, or NULL: written with `moments` and read with `given`, where
  // those are not exact.
  unbounded::Moments *extremes = nullptr;
  int32_t thread_limit = 0;
  const Pool *pool = nullptr;  // who runs the workers; NULL: the pool of the process
};
void check(const ForwardCall &call);
void forward(const ForwardCall &call);

// What backward and double backward have in common.
struct GradientCall {
  // x may not exist where nothing needs it. y: only to read the side of the activation.
  View x, dy, y;
  // Of forward; only for a pointwise activation, whose argument is made of x, z and saved.bias
  // again.
  View z;
  const uint8_t *mask = nullptr;
  Fused fused;
  SavedStatistics saved;
  // What saved.weight and saved.bias were made of, for the checks alone; may not exist.
  ChannelArray weight, bias;
  bool knows_bias = false;  // saved.bias is known, or will be after the checks
  SetShape sets;
  bool batch_statistics = true;
  double blend = 1;  // dweight <- blend*dweight + ...
  View dx, dz;       // each may not exist: not wanted
  ChannelArray dweight, dbias;
  int32_t thread_limit = 0;
  const Pool *pool = nullptr;  // who runs the workers; NULL: the pool of the process
  bool side_of_x() const { return fused.has_sides() && saved.side != nullptr; }
  // Whether the side of the activation is read off y.
  bool reads_y() const { return fused.has_sides() && !side_of_x() && mask == nullptr; }
};

struct BackwardCall : GradientCall {
  // dz = act''*dy: with nothing else wanted, of an activation that is curved.
  bool is_second = false;
  // The two steps of a backward whose batch is in several parts. Sums are those of g and of g*(x -
  // mean), C each.
  int64_t count = 0;                   // values that the statistics are of; 0: those of x
  double *sums = nullptr;              // written: the sums of this part
  const double *given_sums = nullptr;  // instead of the sums of this part
  bool sums_follow = false;            // only to check: the call is to be made in two steps
  bool needs_x() const {
    return dweight.exists() || sums != nullptr || sums_follow ||
           (batch_statistics && dx.exists()) || side_of_x() || fused.is_pointwise();
  }
  // Whether x is read, and the saved statistics are of it alone.
  bool has_statistics_of_x() const { return batch_statistics && count == 0 && needs_x(); }
  // Whether the side, which y or a mask has, may be found on x, which is read anyway.
  bool may_find_side() const {
    if (saved.bias == nullptr || side_of_x() || !needs_x()) return false;
    // Of halves y may be 0 where the argument is not. Of doubles the side on x has no bound.
    if (dy.dtype != DType::f32) return false;
    // With the bound on x, nothing is made again of x, and the activation is no longer pointwise.
    if (fused.has_bound()) return !z.exists();
    // A channel costs 25 ns; one tensor less to read is worth more from here on.
    constexpr int64_t kFewest = 256;
    return fused.has_sides() && dy.size.per_channel() >= kFewest;
  }
};
void check(const BackwardCall &call);
// Both backwards change the call: what they find out of saved statistics is in memory that is gone
// when they return. A copy would be a kilobyte of stack.
void backward(BackwardCall *call);

// dz and dbias are 0 unless the activation is curved.
struct DoubleBackwardCall : GradientCall {
  View ddx, ddz;                  // each may not exist: 0
  ChannelArray ddweight, ddbias;  // may not exist: 0
  View ddy;                       // written; may not exist
};
void check(const DoubleBackwardCall &call);
void double_backward(DoubleBackwardCall *call);

// Shape and dtype of the tensors of a call, seen from the leading one.
void check_same_shape(const char *what, const View &view, const char *leading_name,
                      const View &leading);
void check_same_dtype(const char *what, const View &view, const char *leading_name,
                      const View &leading);

}  // namespace bn2d
