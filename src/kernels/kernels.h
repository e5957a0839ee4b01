// The SIMD kernels: what they compute on one block of a group of channels, and the run-time choice of the SIMD target.
//
// Two kinds of kernels exist, and each exists once (sums.inl.h, map.inl.h) for all dtypes, layouts and targets, beside
// the conversion of masks (mask.inl.h):
//  - *sums* read a block and add products of its elements to per-channel accumulators;
//  - *maps* read a block and write a linear combination of its elements with per-channel coefficients.
//
// The order of summation is *canonical*: the element at position hw of a plane belongs to lane hw mod L of its channel,
// with L = 16 (8 for double data), each lane adds in the order (n, hw), and the lanes are added in a fixed tree. Both
// layouts and all vector widths keep to it, so a tensor has the same sums contiguous, strided and channels_last. L is
// large enough that the additions of one lane, each of which waits for the one before, do not set the pace.
//
// Accumulators have twice the precision of the arithmetic: double for float (and half) data, and for double data pairs
// of doubles (hi, lo) with error-free transformations (Dekker 1971, Knuth TAOCP 2, 4.2.2).
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

namespace bn2d::kernels {

// Doubles in the accumulators of one sum of one channel: a double for each of 16 lanes, or a pair for each of 8.
inline constexpr int kAccumulators = 16;
inline constexpr int kMaxGroup = 128;  // channels of a group
inline constexpr int kMaxSums = 5;     // sums of one kernel

// Where a kernel finds the elements of a tensor: strides in elements. A NULL pointer: the tensor takes no part.
struct Stream {
  void *data = nullptr;
  int64_t channel = 0, sample = 0, position = 0;
  bool operator==(const Stream &o) const {
    return data == o.data && channel == o.channel && sample == o.sample && position == o.position;
  }
};

enum class Layout {
  planes,    // position stride 1: vectors run along a plane, one channel at a time
  channels,  // channel stride 1: vectors run along the channels
};
inline constexpr int kLayouts = 2;

// The side of an activation: an element of `side` is changed in sign where side_sign of its channel is -0 (and not
// where it is 0), and the gradient is damped where the result is at most side_threshold. With 0 and 0 the side is y, or
// what stands for it; with others it is x, whose argument of the activation rises or falls in a whole channel.

// Sums, by operation. t = x - mean; g = dy through the activation.
enum class SumsOf {
  forward,   // (x-p), (x-p)^2 with p the first element of the block: a pivot, so that a large mean does not cancel;
             // half: 0
  backward,  // g, g*t
  double_backward,  // v, v*t, g, g*t, v*g
};
inline constexpr int kSumsOps = 3;
inline constexpr int sums_count(SumsOf op) { return op == SumsOf::double_backward ? 5 : 2; }

struct SumsJob {
  int64_t channels = 0, samples = 0, length = 0;  // a block: `length` positions of each of `samples` samples
  Stream x, g, side, v;                           // side: tells which side of the activation an element is on
  double slope = 0;                               // factor of the gradient where it is damped
  int64_t next = 0;                               // elements from this block to the one that follows; 0: none
  bool first = true;                              // first piece of a block: sets accumulators to 0 and reads the pivot
  double *accumulators = nullptr;                 // kAccumulators for each sum of each channel
  int64_t accumulator_stride = kMaxGroup;         // channels that these have room for
  double *center_hi = nullptr,
         *center_lo = nullptr;  // per channel: pivot (written by forward) or mean (read by the others)
  const void *side_sign = nullptr,
             *side_threshold = nullptr;  // per channel, in the arithmetic type; where there is a side

  static constexpr Stream SumsJob::*kTensors[] = {&SumsJob::x, &SumsJob::g, &SumsJob::side, &SumsJob::v};
};

// Result of a block, or of several merged ones: sums[term*kMaxGroup + channel].
struct Sums {
  double hi[kMaxSums * kMaxGroup], lo[kMaxSums * kMaxGroup];
};

// Mean and sum of squared deviations of `count` elements of each channel of a group, as pairs of doubles.
struct Moments {
  double count;
  double mean_hi[kMaxGroup], mean_lo[kMaxGroup], m2_hi[kMaxGroup], m2_lo[kMaxGroup];
};

// Maps, by operation, with their coefficients: arrays over the group's channels in the arithmetic type (float, or
// double for double data).
enum class MapOf {
  forward,          // y = act((x-mean)*scale + shift + z); sign of the argument to `out2` where asked for
  backward,         // dx = scale*(g - gmean - xhat*slope_x), xhat = (x-mean)*invstd; dz = g to `out2`
  scale,            // dx = scale*g (frozen statistics: x is not read); dz = g to `out2`
  double_backward,  // ddy = act'(c0 + c1*v + c2*xhat); dx = d1*(v-vmean) + d2*(g-gmean) + d3*xhat to `out2`
};
inline constexpr int kMapOps = 4;
namespace coefficient {
// All begin with -mean in two parts, of twice the arithmetic precision together.
enum Forward { minus_mean_hi, minus_mean_lo, scale, shift };
// Those of the side come last. Without an activation nobody writes them, but kernels may load them, unused.
enum Backward { b_invstd = 2, b_scale, b_gmean_hi, b_gmean_lo, b_slope_x, b_side_sign, b_side_threshold };
enum Double { d_invstd = 2, d_c0, d_c1, d_c2, d_vmean, d_gmean, d_d1, d_d2, d_d3, d_side_sign, d_side_threshold };
}  // namespace coefficient
inline constexpr int kMaxCoefficients = 13;
inline constexpr int coefficient_count(MapOf op, bool has_side = true) {
  return op == MapOf::forward ? 4 : (op == MapOf::double_backward ? 11 : 7) + (has_side ? 2 : 0);
}

enum class Activation : int32_t { none = 0, relu = 1, leaky_relu = 2 };

struct MapJob {
  int64_t channels = 0, samples = 0, length = 0;
  Stream x, g, side, v;  // forward: v is the residual z
  Stream out, out2;
  const void *coefficients = nullptr;  // coefficient k of channel c at [k*coefficient_stride + c]
  int64_t coefficient_stride = kMaxGroup;
  Activation activation = Activation::none;
  double slope = 0;
  bool streaming = false;  // write past the caches; needs streaming_fence() before another thread reads
  int64_t prefetch = 0;    // bytes ahead of what is read to fetch into L2 meanwhile

  static constexpr Stream MapJob::*kTensors[] = {&MapJob::x, &MapJob::g,   &MapJob::side,
                                                 &MapJob::v, &MapJob::out, &MapJob::out2};
};

// The kernels of one SIMD target for one element type.
struct TypeKernels {
  void (*sums[kSumsOps][kLayouts])(const SumsJob &job);
  // Adds the lanes of each channel: accumulators -> sums. stride, center: accumulator_stride and center_hi of the job.
  void (*reduce)(SumsOf op, Layout layout, int64_t channels, const double *accumulators, int64_t stride,
                 const double *center, Sums *sums);
  void (*map[kMapOps][kLayouts])(const MapJob &job);
  // The side of an activation: `count` bits, 1 for positive, from and to elements +1 and -1. The rest of a last byte is
  // not read, and written as 0.
  void (*expand_mask)(const uint8_t *bits, int64_t count, void *elements);
  void (*pack_mask)(const void *elements, int64_t count, uint8_t *bits);
};

// What backward knows of the channels of a group from forward. NULL: 0 (means) or 1 (weight).
struct ChannelStatistics {
  const double *mean, *mean_lo, *invstd, *weight;
};

// Where per-channel arithmetic puts the coefficients of a map: coefficient k of channel c at
// [k*stride + c], floats, or doubles where `wide` is set.
//
// A channel is *extreme* where these numbers, or the sums behind them, come near the ends of the
// range of their type: x - mean may then overflow, or a factor lose its last bits. Such a channel
// gets a 1 in `extreme` (of channels that were 0 before; NULL: nobody asks) and is computed once
// more, apart from the others (ops/extreme.h).
struct ChannelCoefficients {
  void *data;
  int64_t stride;
  bool wide;
  uint8_t *extreme;
};

struct ForwardChannels {
  int64_t channels;
  const double *mean, *mean_lo, *var;
  double eps;
  const double *weight, *bias;  // NULL: 1 and 0
  bool batch_statistics;        // var is of these elements: what is out of range may be so by summing
  ChannelCoefficients coefficients;
  double *invstd;  // written
};

struct BackwardChannels {
  int64_t channels;
  ChannelStatistics statistics;
  const Sums *sums;  // NULL: there are none, and only the factor of dx is written
  double count;
  ChannelCoefficients coefficients;
  double *sum_g, *sum_g_xhat;  // written
};

// Per-channel arithmetic, vectorised over the channels of a group, in double.
struct ChannelKernels {
  // One block's sums around the pivot -> its moments.
  void (*moments)(int64_t channels, double count, const double *pivot, const Sums *sums, Moments *moments);
  // Chan, Golub and LeVeque (1979), equation 2.1: a <- a and b together.
  void (*merge)(int64_t channels, Moments *a, const Moments *b);
  // Variance of moments: m2/divisor, rounded once.
  void (*variance)(int64_t channels, const Moments *moments, double divisor, double *var);
  // invstd = 1/sqrt(var+eps), 0 where var+eps is 0; and the coefficients of the forward map.
  void (*coefficients)(const ForwardChannels &channels);
  // The sums of backward over all elements, the second one with xhat, and the coefficients of its
  // map.
  void (*gradients)(const BackwardChannels &channels);
  // What double backward needs of that one by one: -mean in two parts, where all coefficients
  // begin, and numbers as factors of the arithmetic type, which stay finite.
  void (*centers)(int64_t channels, const double *mean, const double *mean_lo, const ChannelCoefficients &coefficients);
  void (*factors)(int64_t channels, const double *numbers, int k, const ChannelCoefficients &coefficients);
  // The side of the activation as a function of x, exactly as the forward map sees it, from the
  // coefficients of forward. x_scale: two factors that the map scales x with before anything else.
  void (*side)(int64_t channels, const void *coefficients, int64_t stride, bool wide, const double *x_scale, void *sign,
               void *threshold);
};

struct Kernels {
  const char *name;  // of the SIMD target
  const TypeKernels *f32, *f64, *f16, *bf16;
  ChannelKernels channel;
  const TypeKernels &of(DType dtype) const {
    return *(dtype == DType::f64 ? f64 : dtype == DType::f16 ? f16 : dtype == DType::bf16 ? bf16 : f32);
  }
};

// Doubles that the accumulators of `sums` take for a group of `channels`.
inline constexpr int64_t kMaxAccumulators = int64_t{320} * kAccumulators;
// Channels of a group for an operation of so many sums: what they leave room for on a thread's stack.
inline constexpr int64_t max_group(int sums) {
  return sums * int64_t{kMaxGroup} * kAccumulators <= kMaxAccumulators ? kMaxGroup : kMaxGroup / 2;
}
static_assert(kMaxSums * max_group(kMaxSums) * kAccumulators <= kMaxAccumulators);

// The kernels in use: the best target that the CPU has, or the one named by BN2D_SIMD. Chosen at the first call.
const Kernels &active();
// Tests run everything on each target.
void set_active_for_test(const Kernels *kernels);

// Makes streaming stores of this thread visible in order.
void streaming_fence();

}  // namespace bn2d::kernels
