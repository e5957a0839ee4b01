// The SIMD kernels: what they compute on one block of a group of channels, and the run-time choice
// of the SIMD target.
//
// Two kinds of kernels do most of the work. Each has one source for planes and one for
// channels_last (sums_of_planes.inl.h, sums_of_channels.inl.h, map_of_...), for all dtypes and
// targets:
//  - *sums* read a block and add products of its elements to accumulators of each channel;
//  - *maps* read a block and write a linear combination of its elements, with coefficients of each
//    channel.
// Activations, transposition and the kernels of one sample (sample.h) have sources of their own.
//
// The order of summation is *canonical*: it follows from the shape alone. So a tensor has the same
// sums contiguous, strided and channels_last, and on any number of threads. With AVX2 and AVX-512
// it has the same sums, too. A plane is cut into rows of 16 positions, and rows into runs:
//
//   position   0 1 2 3 4 5 6 7 | 8 9 10 11 12 13 14 15     row 0
//             16 ...           | 24 ...                    row 1
//   lane       0 1 2 3 4 5 6 7 | 0 1  2  3  4  5  6  7
//
//  - A *lane* takes every eighth position of a plane, so two elements of each row.
//  - A *run* is up to 8 rows: as many whole planes as fit, or a part of one plane.
//  - Float and half data are summed in float within a run, as a tree: over the first elements of
//    the rows, over the second ones, and both together. The 16 elements of a lane lose at most a
//    few roundings of 2^-24 that way. The sum of a run goes to the lane's accumulator, a double.
//    What float cannot sum (SumsJob::in_double) goes to its lane one by one, and so does all of it
//    on old CPUs (SSE4, scalar): other last bits, not less exact ones.
//  - Doubles go to their lane one by one, into pairs of doubles (hi, lo) with error-free
//    transformations (Dekker 1971; Knuth, TAOCP 2, 4.2.2).
//  - At the end of a block its 8 lanes are added as a tree, neighbours first.
#pragma once
#include <cmath>
#include <cstdint>

#include "base/cache_line.h"
#include "kernels/sample.h"
#include "kernels/transpose.h"
#include "tensor/dtype.h"

namespace bn2d::kernels {

inline constexpr int kLanes = 8, kRowElements = 16, kRowsOfRun = 8;
inline constexpr int64_t kRunElements = kRowElements * kRowsOfRun;
// Planes that a run takes.
inline constexpr int64_t planes_of_run(int64_t length) {
  const int64_t rows = (length + kRowElements - 1) / kRowElements;
  return rows >= kRowsOfRun ? 1 : kRowsOfRun / rows;
}
// Doubles that accumulate one sum of one channel: one for each lane, or a pair for double data.
inline constexpr int accumulators_of(bool wide) { return wide ? 2 * kLanes : kLanes; }
inline constexpr int kMaxGroup = 128;  // channels of Sums; wider groups come in parts
inline constexpr int kMaxSums = 5;     // sums of one kernel

// Where a kernel finds the elements of a tensor: strides in elements. A NULL pointer: the tensor
// takes no part.
struct Strided {
  void *data = nullptr;
  int64_t channel = 0, sample = 0, position = 0;
  int64_t band = 0;  // from band to band
};

enum class Layout {
  planes,    // position stride 1: vectors run along a plane, one channel at a time
  channels,  // channel stride 1: vectors run along the channels
};
inline constexpr int kLayouts = 2;

// The side of an activation: which elements let the gradient through whole, and which damp it. It
// is read from the tensor `side`, with three numbers for each channel: an element is damped where
// ±side <= side_threshold or ±side >= side_bound, and side_sign holds the sign, as 0 or -0.
//  - side is y, or elements +1 and -1 of a mask: sign and threshold are 0.
//  - side is x: they say for which x the activation's argument is not positive (side.inl.h).
//  - Only relu6 and clamp have a bound, on x of floats. Else it is NaN, which no element reaches.

// Sums, by operation. t = x - pivot; g = dy through the activation. The pivot keeps a large mean
// from cancelling: forward's is close to the elements of the block (TypeKernels::pivots), that of
// the others is the mean, rounded to the arithmetic type.
enum class SumsOf {
  forward,          // t, t^2
  backward,         // g, g*t
  double_backward,  // v, v*t, g, g*t, v*g
};
inline constexpr int kSumsOps = 3;
inline constexpr int sums_count(SumsOf op) { return op == SumsOf::double_backward ? 5 : 2; }

struct SumsJob {
  // Bands of so many channels each. A constant stride leads from channel to channel of a band, and
  // another one from band to band. Mostly there is one band. There are more where channels come in
  // blocks (nChw8c: bands of 8), and where the blocks of one channel are summed as if they were
  // channels (Blocks::Series).
  int64_t channels = 0, bands = 1;
  int64_t samples = 0, length = 0;  // a block: `length` positions of each of `samples` samples
  Strided x, g, side, v;            // side: tells which side of the activation an element is on
  double slope = 0;                 // factor of the gradient where it is damped
  // From this block to what is summed next. 0: nothing is, and the start of this one is fetched.
  int64_t next_samples = 0, next_positions = 0;
  bool fetches = false;            // what is read is fetched ahead: the caches do not hold it
  bool in_double = false;          // float and half data: not in float
  bool first = true;               // first piece of a block: accumulators start at 0
  double *accumulators = nullptr;  // planes: [channel][sum][k], channels: [sum][k][channel]
  int64_t accumulator_stride = kMaxGroup;  // channels that these have room for
  // Per channel, in the arithmetic type. What a mean of doubles has beyond its pivot is in
  // center_lo.
  const void *pivot = nullptr;
  const double *center_lo = nullptr;
  const void *side_sign = nullptr, *side_threshold = nullptr;  // where there is a side
  const void *side_bound = nullptr;                            // NULL: the activation has none
  void *buffer = nullptr;  // kSumsBufferBytes. NULL: a packed piece, whose vectors run along planes

  static constexpr Strided SumsJob::*kTensors[] = {&SumsJob::x, &SumsJob::g, &SumsJob::side,
                                                   &SumsJob::v};
};
inline constexpr int64_t kSumsBufferBytes = 32 * 1024;

// Result of a block, or of several merged ones: sums[term*kMaxGroup + channel].
struct Sums {
  double hi[kMaxSums * kMaxGroup], lo[kMaxSums * kMaxGroup];
};

// Mean and sum of squared deviations of `count` elements of each channel of a group.
struct Moments {
  double count;
  bool wide;  // of doubles: in pairs. Else there are no low parts.
  double mean_hi[kMaxGroup], mean_lo[kMaxGroup], m2_hi[kMaxGroup], m2_lo[kMaxGroup];
};

// Maps, by operation, with their coefficients: arrays over the group's channels in the arithmetic
// type (float, or double for double data).
enum class MapOf {
  forward,   // y = act((x-mean)*scale + shift + z); sign of the argument to `out2` where asked for
  backward,  // dx = scale*(g-gmean) + shift + (x-mean)*x_factor; dz = g to `out2`
  scale,     // dx = scale*g (frozen statistics: x is not read); dz = g to `out2`
  double_backward,  // ddy = act'(c0 + c1*(v-vmean) + c2*xhat); dx = d0 + d1*(v-vmean) +
                    // d2*(g-gmean) + d3*xhat to `out2`
};
inline constexpr int kMapOps = 4;
namespace coefficient {
// All begin with -mean in two parts, of twice the arithmetic precision together.
enum Forward { minus_mean_hi, minus_mean_lo, scale, shift };
// Those of the side come last. Without an activation nobody writes them, but kernels of planes may
// load them, unused. A mean gradient is subtracted before anything is multiplied, so that equal
// gradients cancel exactly. `shift` is what is left: the low part of that mean, or, where a set has
// several channels, what no gradient of this one cancels.
enum Backward {
  b_scale = 2,
  b_minus_gmean,
  b_shift,
  b_x_factor,
  b_side_sign,
  b_side_threshold,
  b_side_bound
};
enum Double {
  d_invstd = 2,
  d_c0,
  d_c1,
  d_c2,
  d_vmean,
  d_d1,
  d_d2,
  d_d3,
  d_minus_gmean,
  d_d0,
  d_side_sign,
  d_side_threshold
};
}  // namespace coefficient
inline constexpr int kMaxCoefficients = 14;
inline constexpr int coefficient_count(MapOf op, bool has_side = true) {
  return op == MapOf::forward           ? 4
         : op == MapOf::double_backward ? 12 + (has_side ? 2 : 0)
                                        : 6 + (has_side ? 3 : 0);
}

enum class Activation : int32_t {
  none = 0,
  relu = 1,
  leaky_relu = 2,
  relu6 = 3,
  clamp = 4,
  hardswish = 5,
  silu = 6,
  gelu = 7,
  sigmoid = 8,
};
inline constexpr Activation kLastActivation = Activation::sigmoid;
// *Pointwise* activations have kernels of their own, between maps and sums that know of no
// activation (ops/pointwise.cc). The others have two sides, which maps and sums know.
inline constexpr bool is_pointwise(Activation activation) {
  return activation > Activation::leaky_relu;
}
// Pointwise, but for two cases, in which they are relu with a bound:
//  - forward of float and double data: the map has a bound on y;
//  - backward of float data without a residual: the side has a bound on x.
inline constexpr bool is_bounded(Activation activation) {
  return activation == Activation::relu6 || activation == Activation::clamp;
}
// Pointwise activations have two kernels: one for those that are smooth, one for those that are
// polynomials in pieces.
inline constexpr bool is_smooth(Activation activation) { return activation >= Activation::silu; }
// Whether act'' differs from 0 anywhere.
inline constexpr bool is_curved(Activation activation) {
  return is_pointwise(activation) && !is_bounded(activation);
}

// out = act(argument), or act'(argument)*gradient where that is given, or act''(argument)*gradient.
// Arrays of the arithmetic type, which may be the same one, and have whole vectors of elements: a
// multiple of kActivationBytes.
inline constexpr int64_t kActivationBytes = 64;
struct ActivationJob {
  Activation activation = Activation::none;
  bool is_second = false;  // act''
  double bound = 0;        // of clamp and relu6
  const void *argument = nullptr, *gradient = nullptr;
  void *out = nullptr;
  int64_t count = 0;
  bool streaming = false;  // past the caches; `out` is then aligned to 64 bytes
  // Memory that is read next, fetched meanwhile: `ahead_bytes` for each element.
  const char *ahead[2] = {};
  int64_t ahead_bytes = 0;
};

struct MapJob {
  int64_t channels = 0, samples = 0, length = 0;
  // Bands of so many channels each, as in SumsJob. More than one: only of blocks
  // (TypeKernels::maps_block).
  int64_t bands = 1;
  Strided x, g, side, v;               // forward: v is the residual z
  Strided out, out2;                   // not both need be there
  const void *coefficients = nullptr;  // coefficient k of channel c at [k*coefficient_stride + c]
  int64_t coefficient_stride = kMaxGroup;
  Activation activation = Activation::none;
  double slope = 0;
  double bound = HUGE_VAL;  // forward: of y
  // Write past the caches; needs streaming_fence() before another thread reads.
  bool streaming = false;
  // Bytes ahead of what is read to fetch into L2 meanwhile. If it is kIntoL1, into L1 where stores
  // stream line by line. Distances between groups are made odd, so that none of them is kIntoL1.
  int64_t prefetch = 0;
  static constexpr int64_t kIntoL1 = 8192;

  const Strided &written() const { return out.data != nullptr ? out : out2; }
  static constexpr Strided MapJob::*kTensors[] = {&MapJob::x, &MapJob::g,   &MapJob::side,
                                                  &MapJob::v, &MapJob::out, &MapJob::out2};
};

// Whether what a map writes is whole cache lines, for rows of channels that follow one another:
// those of a sample, or those of each band. Where stores stream, a line that is written in parts
// costs a read.
inline bool has_whole_lines(const MapJob &job, int64_t element_bytes) {
  const Strided &out = job.written();
  const int64_t in_band = job.channels * job.length;
  const bool follow = job.bands == 1 || out.band == in_band;
  const auto are_whole = [&](int64_t elements) {
    return elements * element_bytes % kLineBytes == 0;
  };
  return reinterpret_cast<uintptr_t>(out.data) % kLineBytes == 0 &&
         (job.samples == 1 || are_whole(out.sample)) &&
         (follow ? are_whole(job.bands * in_band) : are_whole(out.band) && are_whole(in_band));
}

// The kernels of one SIMD target for one element type.
struct TypeKernels {
  // Pivots for the sums of forward, in the arithmetic type, from three elements of each channel of
  // a block. stride: elements from channel to channel.
  void (*pivots)(const void *const elements[3], int64_t stride, int64_t channels, void *pivots);
  // Targets of old CPUs have no kernels for Layout::channels: NULL. So it is with maps.
  void (*sums[kSumsOps][kLayouts])(const SumsJob &job);
  // Adds the lanes of each channel: accumulators -> sums. stride: accumulator_stride of the job.
  // center_lo, of float and half data: what the mean of a channel has beyond its pivot; then sums
  // of products with x - pivot become those with x - mean. NULL: there are none.
  void (*reduce)(int terms, Layout layout, int64_t channels, const double *accumulators,
                 int64_t stride, const double *center_lo, Sums *sums);
  void (*map[kMapOps][kLayouts])(const MapJob &job);
  int32_t map_lanes;  // elements of a vector of maps over rows of channels
  // Blocks of a multiple of 8 channels, up to so many, whose rows follow one another, are mapped
  // with their coefficients in registers, unless stores stream and lines are not whole
  // (has_whole_lines). 0: none are. Not in double backward.
  int32_t most_of_block;
  int32_t map_step;  // elements that a map over planes takes at a time
  // The side of an activation: `count` bits, 1 for positive, from and to elements +1 and -1. The
  // rest of a last byte is not read, and written as 0.
  void (*expand_mask)(const uint8_t *bits, int64_t count, void *elements);
  void (*pack_mask)(const void *elements, int64_t count, uint8_t *bits);
  // `count` elements to and from an array of the arithmetic type.
  void (*load_array)(const void *elements, int64_t count, void *arithmetic);
  void (*store_array)(const void *arithmetic, int64_t count, void *elements, bool streaming);

  void run_sums(SumsOf op, Layout layout, const SumsJob &job) const {
    sums[static_cast<int>(op)][static_cast<int>(layout)](job);
  }
  auto map_of(MapOf op, Layout layout) const {
    return map[static_cast<int>(op)][static_cast<int>(layout)];
  }
  bool maps_block(int64_t channels_of_it) const {
    return channels_of_it <= most_of_block && channels_of_it % kLanes == 0;
  }
  bool has_channels() const { return map_of(MapOf::forward, Layout::channels) != nullptr; }
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

struct BlockMoments {
  int64_t channels;
  double count;
  bool wide;
  const void *pivot;  // doubles where `wide` is set, else floats
  const Sums *sums;
  Moments *moments;  // written
  // Not wide: 1 for channels that float could not sum, where its range or its digits were too few.
  uint8_t *inexact;  // written
};

struct ForwardChannels {
  int64_t channels;
  const double *mean, *mean_lo, *var;
  double eps;
  const double *invstd;
  const double *weight, *bias;  // NULL: 1 and 0
  ChannelCoefficients coefficients;
};

struct BackwardChannels {
  int64_t channels;
  ChannelStatistics statistics;
  const Sums *sums;  // NULL: there are none, and only the factor of dx is written
  // Of sets of several channels: the sums of scale*g and scale*g*(x-mean) over the set of each
  // channel. NULL: a set is one channel, or only `weighed` is asked for.
  const Sums *of_set;
  double count;  // elements of a set
  ChannelCoefficients coefficients;
  double *sum_g, *sum_g_xhat;  // written
  // Not NULL: the sums, times the scale that the map has, and nothing else is written. NaN where
  // they are not exact enough for those of a set.
  Sums *weighed = nullptr;
};

// The side of an activation as a function of x, exactly as the forward map sees it.
struct SideOfForward {
  int64_t channels;
  const void *coefficients;  // of forward, in the arithmetic type
  int64_t stride;
  bool wide;
  double bound;  // of the activation
  // Written, in the arithmetic type.
  void *sign, *threshold;
  void *side_bound;  // NULL: the activation has no bound
};

// Per-channel arithmetic, vectorised over the channels of a group, in double.
struct ChannelKernels {
  // The sums of one block around its pivots -> its moments.
  void (*moments)(const BlockMoments &block);
  // Chan, Golub and LeVeque (1979), equation 2.1: a <- a and b together.
  void (*merge)(int64_t channels, Moments *a, const Moments *b);
  // Sums: those of b are added to those of a, in pairs where a_lo is not NULL. b_lo NULL: 0.
  void (*add)(int64_t channels, double *a_hi, double *a_lo, const double *b_hi, const double *b_lo);
  // Variance of moments: m2/divisor, rounded once.
  void (*variance)(int64_t channels, const Moments *moments, double divisor, double *var);
  // invstd = 1/sqrt(var+eps), 0 where var+eps is 0.
  void (*invstd)(int64_t channels, const double *var, double eps, double *invstd);
  // The coefficients of the forward map.
  void (*coefficients)(const ForwardChannels &channels);
  // The sums of backward over all elements, the second one with xhat, and the coefficients of its
  // map.
  void (*gradients)(const BackwardChannels &channels);
  // What double backward needs of that one by one: -mean in two parts, where all coefficients
  // begin, and numbers as factors of the arithmetic type, which stay finite.
  void (*centers)(int64_t channels, const double *mean, const double *mean_lo,
                  const ChannelCoefficients &coefficients);
  void (*factors)(int64_t channels, const double *numbers, int k,
                  const ChannelCoefficients &coefficients);
  void (*side)(const SideOfForward &of);
};

struct Kernels {
  const char *name;  // of the SIMD target
  const TypeKernels *f32, *f64, *f16, *bf16;
  ChannelKernels channel;
  // Floats, doubles; piecewise and smooth activations.
  void (*activate[2][2])(const ActivationJob &job);
  void (*transpose[3])(const Transposition &job);  // elements of 2, 4 and 8 bytes
  void (*forward_sample)(const ForwardOfSample &of);
  bool (*backward_sample)(const BackwardOfSample &of);
  const TypeKernels &of(DType dtype) const {
    return *(dtype == DType::f64    ? f64
             : dtype == DType::f16  ? f16
             : dtype == DType::bf16 ? bf16
                                    : f32);
  }
};

// Channels of a group for an operation of so many sums: its accumulators are to stay in L1.
inline constexpr int64_t max_group(int sums) { return sums <= 2 ? kMaxGroup : kMaxGroup / 2; }

// The kernels in use: the best target that the CPU has, or the one named by BN2D_SIMD. Chosen at
// the first call.
const Kernels &active();
// Tests run everything on each target.
void set_active_for_test(const Kernels *kernels);

// Makes streaming stores of this thread visible in order.
void streaming_fence();

}  // namespace bn2d::kernels
