#include "ops/sets_as_planes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>

#include "base/cache_line.h"
#include "base/scratch.h"
#include "ops/agreement.h"
#include "ops/last_set.h"
#include "ops/parameter_gradients.h"
#include "ops/ready.h"
#include "ops/settings.h"
#include "parallel/parallel.h"

namespace bn2d {
namespace {

constexpr int64_t kMostOfPlane = 9;  // elements

// Numbers that double has room for the squares and quotients of.
constexpr double kLeastOrdinary = 0x1p-400, kMostOrdinary = 0x1p400;
bool is_ordinary(double v) { return v >= kLeastOrdinary && v <= kMostOrdinary; }

// Half data would be rounded twice.
bool has_small_planes(const View &x, const SetShape &sets) {
  return sets.channels > 1 && x.size.plane() <= kMostOfPlane && x.size.numel() != 0 &&
         dtype_size(x.dtype) == arithmetic_size(x.dtype);
}

bool is_packed(const View &view) {
  const Extents &size = view.size;
  return has_contiguous_planes(view) && view.block == 0 && view.stride.c == size.plane() &&
         (size.n == 1 || view.stride.n == size.c * size.plane());
}

// A packed tensor as one sample that has a channel for each set.
View as_sets(const View &packed, int64_t sets) {
  return contiguous_view(packed.data, packed.dtype, {1, sets, 1, packed.size.numel() / sets});
}

// Of a packed tensor, in whole lines.
int64_t packed_bytes(const View &like) {
  return divide_up(like.size.numel() * dtype_size(like.dtype), kLineBytes) * kLineBytes;
}

template <class Call>
const Pool &pool_of(const Call &call) {
  return call.pool ? *call.pool : process_pool();
}

}  // namespace

bool forward_by_sets(const ForwardCall &call) {
  if (!has_small_planes(call.x, call.sets) || !call.batch_statistics || !call.y.exists() ||
      call.fused.activation != Activation::none || call.given.exist() || call.moments != nullptr)
    return false;
  const Extents &size = call.x.size;
  const int64_t sets = call.sets.count(size), identity = MomentArrays::kArrays * size.c;
  const bool is_in_y = is_packed(call.y) && !(call.z.exists() && call.z.data == call.y.data),
             is_copied = !is_packed(call.x);
  const int64_t tensor_bytes = is_in_y ? 0 : packed_bytes(call.x);
  const Scratch scratch(
      static_cast<size_t>(tensor_bytes + 8 * identity + 2 * int64_t{sizeof(ForwardCall)}));
  std::byte *const memory = static_cast<std::byte *>(scratch.data());
  double *const nothing = reinterpret_cast<double *>(memory + tensor_bytes);
  const View packed = is_in_y ? call.y : contiguous_view(memory, call.x.dtype, size);

  static_assert(std::is_trivially_destructible_v<ForwardCall> && alignof(ForwardCall) == 8);
  ForwardCall *const parts = reinterpret_cast<ForwardCall *>(nothing + identity);
  ForwardCall &of_sets = *new (parts) ForwardCall(call);
  of_sets.x = as_sets(is_copied ? packed : call.x, sets);
  of_sets.y = as_sets(packed, sets);
  of_sets.z = View();
  of_sets.sets = SetShape();
  of_sets.weight = of_sets.bias = ChannelArray();
  of_sets.saved.weight = of_sets.saved.bias = nullptr;

  ForwardCall &of_channels = *new (parts + 1) ForwardCall(call);
  of_channels.x = of_channels.y = packed;
  of_channels.sets = SetShape();
  std::fill_n(nothing, identity, 0.0);
  std::fill_n(nothing + 2 * size.c, size.c, 1.0);  // variances
  of_channels.given = {nothing, 1};
  of_channels.eps = 0;
  of_channels.saved = SavedStatistics();
  of_channels.saved.weight = call.saved.weight;
  of_channels.saved.bias = call.saved.bias;

  const auto pack = [&] {
    if (is_copied) copy_elements(call.x, packed, pool_of(call), call.thread_limit);
  };
  forward_parts(parts, 2, Ready::of(pack));
  if (!is_in_y) copy_elements(packed, call.y, pool_of(call), call.thread_limit);
  return true;
}

namespace {

// The magnitude of the smallest weight that is not 0, or 1. NaN where one of them, or its square,
// may be beyond double.
double least_weight(const double *weight, int64_t channels) {
  double least = std::numeric_limits<double>::infinity();
  for (int64_t c = 0; weight != nullptr && c < channels; ++c) {
    const double size = std::fabs(weight[c]);
    if (size == 0) continue;
    if (!is_ordinary(size)) return std::numeric_limits<double>::quiet_NaN();
    least = std::min(least, size);
  }
  return std::isinf(least) ? 1 : least;
}

// Whether some of these elements are infinite or NaN: the exponent is all ones then, and one more
// carries into the sign. Eight bytes at a time; the last ones may be seen twice.
bool has_not_finite(const std::byte *elements, int64_t bytes, DType dtype) {
  const bool is_double = dtype == DType::f64;
  const uint64_t exponents = is_double ? 0x7ff0'0000'0000'0000 : 0x7f80'0000'7f80'0000,
                 one = is_double ? 0x0010'0000'0000'0000 : 0x0080'0000'0080'0000,
                 signs = is_double ? 0x8000'0000'0000'0000 : 0x8000'0000'8000'0000;
  uint64_t carried = 0;
  const auto add = [&](int64_t at) {
    uint64_t word;
    std::memcpy(&word, elements + at, 8);
    carried |= (word & exponents) + one;
  };
  for (int64_t i = 0; i + 8 <= bytes; i += 8) add(i);
  add(bytes - 8);
  return (carried & signs) != 0;
}

// Marks the samples of a packed tensor that have an element that is infinite or NaN.
void mark_not_finite(const View &packed, const BackwardCall &call, uint8_t *is_marked) {
  Work work;
  work.size = packed.size;
  work.element_bytes = dtype_size(packed.dtype);
  const Pool &pool = pool_of(call);
  constexpr int64_t kBytes = 1 << 16;
  const int64_t bytes = packed.stride.n * work.element_bytes,
                samples = std::max(kBytes / bytes, int64_t{1});
  auto unit = [&](int64_t index) {
    const int64_t end = std::min((index + 1) * samples, packed.size.n);
    for (int64_t n = index * samples; n < end; ++n)
      if (has_not_finite(packed.data + n * bytes, bytes, packed.dtype)) is_marked[n] = 1;
  };
  for_each_unit(pool, useful_workers(work, machine_for_call(pool, call.thread_limit, work)),
                divide_up(packed.size.n, samples), Order::forward, unit);
}

// Samples whose gradients are found plane by plane. Each has its statistics for itself, and so its
// result is that of a call of its own.
struct Sample {
  const BackwardCall &call;
  int64_t n;
  View of(const View &view) const { return samples_of(view, n, 1); }
  void gradients(const View &dx, double *dweight) const {
    BackwardCall own = call;
    own.x = of(call.x);
    own.dy = of(call.dy);
    own.dx = of(dx);
    own.saved = behind(call.saved, call.sets, call.dy.size, n, call.dy.dtype);
    own.dbias = ChannelArray();
    own.dweight = dweight == nullptr ? ChannelArray() : ChannelArray{DType::f64, dweight};
    own.blend = 1;
    backward_by_planes(own);
  }
};

}  // namespace

// With g = weight*dy:
//   dweight = sum dy*xhat,  dbias = sum dy,  dx = invstd * (g - mean(g) - xhat*mean(g*xhat))
// Nothing but scratch is written until all calls have had their memory but for the last one, which
// gets it before it writes. In a sample whose xhat or g is beyond the range of the type, dx may be
// within it all the same; planes find it one by one.
bool backward_by_sets(const BackwardCall &call) {
  if (!has_small_planes(call.dy, call.sets) || !call.batch_statistics || !call.dx.exists() ||
      call.dz.exists() || call.fused.activation != Activation::none || call.sums != nullptr ||
      call.given_sums != nullptr)
    return false;
  const SavedStatistics &saved = call.saved;
  const int64_t samples = call.dy.size.n, channels = call.dy.size.c,
                sets = call.sets.count(call.dy.size);
  const double least = least_weight(saved.weight, channels);
  if (std::isnan(least)) return false;

  constexpr int64_t kArrays = 4;  // of sets, of channels
  const int64_t tensor_bytes = packed_bytes(call.dy), doubles = kArrays * (sets + channels);
  const Scratch scratch(static_cast<size_t>(2 * tensor_bytes + 8 * doubles + 2 * samples));
  std::byte *const memory = static_cast<std::byte *>(scratch.data());
  const View xhat = contiguous_view(memory, call.dy.dtype, call.dy.size),
             g = contiguous_view(memory + tensor_bytes, call.dy.dtype, call.dy.size);
  double *const mean = reinterpret_cast<double *>(memory + 2 * tensor_bytes),
               *const mean_lo = mean + sets, *const variance = mean_lo + sets,
               *const zeros = variance + sets, *const ones = zeros + sets,
               *const weight = ones + channels, *const dweight = weight + channels,
               *const dbias = dweight + channels;
  uint8_t *const has_xhat_beyond = reinterpret_cast<uint8_t *>(mean + doubles),
                *const has_g_beyond = has_xhat_beyond + samples;
  std::memset(mean, 0, static_cast<size_t>(8 * doubles + 2 * samples));
  std::fill_n(ones, channels, 1.0);

  const auto copy = [&](const View &from, const View &to) {
    copy_elements(from, to, pool_of(call), call.thread_limit);
  };
  const bool copies_x = !is_packed(call.x);
  if (copies_x) copy(call.x, xhat);
  ForwardCall normalise;
  normalise.x = as_sets(copies_x ? xhat : call.x, sets);
  normalise.y = as_sets(xhat, sets);
  for (int64_t s = 0; s < sets; ++s) {
    const double invstd = saved.invstd[s];
    if (saved.mean) mean[s] = saved.mean[s];
    if (saved.mean_lo) mean_lo[s] = saved.mean_lo[s];
    variance[s] = 1 / (invstd * invstd);
    if (!is_ordinary(invstd) || !(std::fabs(mean[s]) <= kMostOrdinary))
      has_xhat_beyond[s / (sets / samples)] = 1;
  }
  normalise.given = {mean, 1};
  normalise.eps = 0;
  normalise.thread_limit = call.thread_limit;
  normalise.pool = call.pool;
  forward(normalise);
  mark_not_finite(xhat, call, has_xhat_beyond);
  const int64_t sample_bytes = xhat.stride.n * dtype_size(xhat.dtype);
  for (int64_t n = 0; n < samples; ++n)
    if (has_xhat_beyond[n])
      std::memset(xhat.data + n * sample_bytes, 0, static_cast<size_t>(sample_bytes));

  BackwardCall part = call;
  part.sets = SetShape();
  part.blend = 0;
  part.batch_statistics = false;
  part.x = xhat;
  const bool copies_dy = !is_packed(call.dy);
  if (copies_dy) copy(call.dy, g);
  part.dy = copies_dy ? g : call.dy;
  part.dx = g;
  // Weights of 1 or more, so that no small gradient loses bits.
  const int exponent = std::ilogb(least);
  for (int64_t c = 0; c < channels; ++c)
    weight[c] = std::ldexp(saved.weight ? saved.weight[c] : 1, -exponent);
  part.saved = {nullptr, nullptr, ones, weight};
  if (call.dweight.exists()) part.dweight = {DType::f64, dweight};
  if (call.dbias.exists()) part.dbias = {DType::f64, dbias};
  backward(part);
  mark_not_finite(g, call, has_g_beyond);
  for (int64_t n = 0; n < samples; ++n)
    if (has_xhat_beyond[n] || has_g_beyond[n])
      Sample{call, n}.gradients(xhat, call.dweight.exists() && has_xhat_beyond[n] ? dweight : nullptr);

  part.batch_statistics = true;
  part.x = normalise.y;
  part.dy = as_sets(g, sets);
  const bool is_in_dx = is_packed(call.dx);
  part.dx = as_sets(is_in_dx ? call.dx : g, sets);
  double *const invstd = variance, *const scale = mean;
  for (int64_t s = 0; s < sets; ++s) {
    invstd[s] = 1;
    scale[s] = std::ldexp(saved.invstd[s], exponent);
  }
  part.saved = {zeros, zeros, invstd, scale};
  part.dweight = part.dbias = ChannelArray();
  backward(part);
  if (!is_in_dx) copy(g, call.dx);
  for (int64_t n = 0; n < samples; ++n)
    if (has_xhat_beyond[n] || has_g_beyond[n])
      copy(samples_of(xhat, n, 1), samples_of(call.dx, n, 1));
  for (int64_t c = 0; c < channels; c += kernels::kMaxGroup) {
    const Group group = {c, std::min<int64_t>(kernels::kMaxGroup, channels - c)};
    blend_into(call.dweight, group, call.blend, dweight + c);
    blend_into(call.dbias, group, call.blend, dbias + c);
  }
  return true;
}

}  // namespace bn2d
