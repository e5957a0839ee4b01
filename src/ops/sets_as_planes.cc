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

bool has_small_planes(const View &x, const SetShape &sets) {
  return sets.channels > 1 && x.size.plane() <= kMostOfPlane && x.size.numel() != 0;
}

bool is_packed(const View &view) {
  const Extents &size = view.size;
  return has_contiguous_planes(view) && view.block == 0 && view.stride.c == size.plane() &&
         (size.n == 1 || view.stride.n == size.c * size.plane());
}
// Half data are copied as floats.
bool is_half(const View &view) { return view.dtype != arithmetic_dtype(view.dtype); }
bool is_copied(const View &view) { return !is_packed(view) || is_half(view); }

View packed_view(std::byte *memory, DType dtype, const View &like) {
  return contiguous_view(memory, dtype, like.size);
}
// Of a packed tensor, in whole lines.
int64_t packed_bytes(DType dtype, const View &like) {
  return divide_up(like.size.numel() * dtype_size(dtype), kLineBytes) * kLineBytes;
}

// A packed tensor as one sample that has a channel for each set.
View as_sets(const View &packed, int64_t sets) {
  return contiguous_view(packed.data, packed.dtype, {1, sets, 1, packed.size.numel() / sets});
}

// To and from packed tensors of the arithmetic type.
class Copies {
 public:
  // memory: bytes() for half data.
  template <class Call>
  Copies(const Call &call, std::byte *memory)
      : pool_(pool_of(call)), thread_limit_(call.thread_limit), memory_(memory) {}
  static int64_t bytes(const View &like) {
    return is_half(like) ? packed_bytes(like.dtype, like) : 0;
  }
  template <class Call>
  static const Pool &pool_of(const Call &call) {
    return call.pool ? *call.pool : process_pool();
  }

  void load(const View &from, const View &to) const { copy(from, to, true); }
  void store(const View &from, const View &to) const { copy(to, from, false); }
  void store_as_is(const View &from, const View &to) const {
    copy_elements(from, to, pool_, thread_limit_);
  }

 private:
  void copy(const View &tensor, const View &numbers, bool loads) const {
    if (!is_half(tensor))
      return loads ? store_as_is(tensor, numbers) : store_as_is(numbers, tensor);
    const bool is_apart = !is_packed(tensor);
    const View packed = is_apart ? packed_view(memory_, tensor.dtype, tensor) : tensor;
    if (is_apart && loads) store_as_is(tensor, packed);
    convert(packed, numbers, loads);
    if (is_apart && !loads) store_as_is(packed, tensor);
  }
  void convert(const View &halves, const View &floats, bool loads) const {
    const kernels::TypeKernels &kernels = kernels::active().of(halves.dtype);
    const int64_t elements = halves.size.numel();
    constexpr int64_t kRun = 1 << 14;
    Work work;
    work.size = halves.size;
    auto unit = [&](int64_t run) {
      const int64_t first = run * kRun, count = std::min(kRun, elements - first);
      std::byte *const half = halves.data + 2 * first, *const number = floats.data + 4 * first;
      loads ? kernels.load_row(half, count, number) : kernels.store_row(number, count, half, false);
    };
    for_each_unit(pool_, useful_workers(work, machine_for_call(pool_, thread_limit_, work)),
                  divide_up(elements, kRun), Order::forward, unit);
  }

  const Pool &pool_;
  const int32_t thread_limit_;
  std::byte *const memory_;
};

}  // namespace

bool forward_by_sets(const ForwardCall &call) {
  if (!has_small_planes(call.x, call.sets) || !call.batch_statistics || !call.y.exists() ||
      call.fused.activation != Activation::none || call.given.exist() || call.moments != nullptr)
    return false;
  const Extents &size = call.x.size;
  const DType dtype = arithmetic_dtype(call.x.dtype);
  const int64_t sets = call.sets.count(size), identity = MomentArrays::kArrays * size.c;
  const bool is_in_y = !is_copied(call.y) && !(call.z.exists() && call.z.data == call.y.data),
             copies_x = is_copied(call.x), copies_z = call.z.exists() && is_half(call.z);
  const int64_t tensor_bytes = packed_bytes(dtype, call.x),
                tensors = static_cast<int64_t>(!is_in_y) + static_cast<int64_t>(copies_z);
  const Scratch scratch(static_cast<size_t>(tensors * tensor_bytes + Copies::bytes(call.x) +
                                            8 * identity + 2 * int64_t{sizeof(ForwardCall)}));
  std::byte *const memory = static_cast<std::byte *>(scratch.data()), *const of_copies =
                                                                          memory +
                                                                          tensors * tensor_bytes;
  double *const nothing = reinterpret_cast<double *>(of_copies + Copies::bytes(call.x));
  const View packed = is_in_y ? call.y : packed_view(memory, dtype, call.x),
             z = copies_z ? packed_view(memory + tensor_bytes, dtype, call.z) : call.z;

  static_assert(std::is_trivially_destructible_v<ForwardCall> && alignof(ForwardCall) == 8);
  ForwardCall *const parts = reinterpret_cast<ForwardCall *>(nothing + identity);
  ForwardCall &of_sets = *new (parts) ForwardCall(call);
  of_sets.x = as_sets(copies_x ? packed : call.x, sets);
  of_sets.y = as_sets(packed, sets);
  of_sets.z = View();
  of_sets.sets = SetShape();
  of_sets.weight = of_sets.bias = ChannelArray();
  of_sets.saved.weight = of_sets.saved.bias = nullptr;

  ForwardCall &of_channels = *new (parts + 1) ForwardCall(call);
  of_channels.x = of_channels.y = packed;
  of_channels.z = z;
  of_channels.sets = SetShape();
  std::fill_n(nothing, identity, 0.0);
  std::fill_n(nothing + 2 * size.c, size.c, 1.0);  // variances
  of_channels.given = {nothing, 1};
  of_channels.eps = 0;
  of_channels.saved = SavedStatistics();
  of_channels.saved.weight = call.saved.weight;
  of_channels.saved.bias = call.saved.bias;

  const Copies copies(call, of_copies);
  const auto load = [&] {
    if (copies_x) copies.load(call.x, packed);
    if (copies_z) copies.load(call.z, z);
  };
  forward_parts(parts, 2, Ready::of(load));
  if (!is_in_y) copies.store(packed, call.y);
  return true;
}

namespace {

// The magnitude of the smallest weight that is not 0, or 1. NaN where a quotient of weights may be
// beyond double.
double least_weight(const double *weight, int64_t channels) {
  constexpr double kLeast = 0x1p-400, kMost = 0x1p400;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t c = 0; weight != nullptr && c < channels; ++c) {
    const double size = std::fabs(weight[c]);
    if (size == 0) continue;
    if (!(size >= kLeast && size <= kMost)) return std::numeric_limits<double>::quiet_NaN();
    least = std::min(least, size);
  }
  return std::isinf(least) ? 1 : least;
}

// Gradients of float and half data. With g = weight*dy:
//   dweight = sum dy*xhat,  dbias = sum dy,  dx = invstd * (g - mean(g) - xhat*mean(g*xhat))
class BackwardBySets {
 public:
  // least: see least_weight().
  BackwardBySets(const BackwardCall &call, double least)
      : call_(call),
        size_(call.dy.size),
        sets_(call.sets.count(size_)),
        of_sample_(sets_ / size_.n),
        of_all_(size_.c * size_.plane()),
        of_share_(std::max({kShare / of_all_, kFewestOfShare, divide_up(size_.n, kMostShares)})),
        shares_(divide_up(size_.n, of_share_)),
        exponent_(std::ilogb(least)),
        scratch_(static_cast<size_t>(2 * tensor_bytes() + Copies::bytes(call.dy) + 8 * doubles() +
                                     size_.n)),
        copies_(call, static_cast<std::byte *>(scratch_.data()) + 2 * tensor_bytes()) {
    std::byte *const memory = static_cast<std::byte *>(scratch_.data());
    xhat_ = contiguous_view(memory, DType::f32, size_);
    g_ = contiguous_view(memory + tensor_bytes(), DType::f32, size_);
    zeros_ = reinterpret_cast<double *>(memory + 2 * tensor_bytes() + Copies::bytes(call.dy));
    ones_ = zeros_ + sets_;
    scale_ = ones_ + sets_;
    weight_ = scale_ + sets_;
    sums_ = weight_ + of_all_;
    is_beyond_ = reinterpret_cast<uint8_t *>(zeros_ + doubles());
    std::memset(zeros_, 0, static_cast<size_t>(8 * doubles() + size_.n));
    std::fill_n(ones_, sets_, 1.0);
    const SavedStatistics &saved = call.saved;
    // Weights of 1 or more, so that no small gradient loses bits.
    for (int64_t s = 0; s < sets_; ++s) scale_[s] = std::ldexp(saved.invstd[s], exponent_);
    for (int64_t i = 0; i < of_all_; ++i)
      weight_[i] = std::ldexp(saved.weight ? saved.weight[i / size_.plane()] : 1, -exponent_);
  }

  // Nothing but scratch is written until all have had their memory but the last call, which gets it
  // before it writes.
  void run() const {
    if (is_copied(call_.x)) copies_.load(call_.x, xhat_);
    if (is_copied(call_.dy)) copies_.load(call_.dy, g_);
    normalise_all();
    for_samples_beyond([&](int64_t n) { find_by_planes(n); });
    const bool is_in_dx = !is_copied(call_.dx);
    BackwardCall of_sets = call_;
    of_sets.sets = SetShape();
    of_sets.x = as_sets(xhat_, sets_);
    of_sets.dy = as_sets(g_, sets_);
    of_sets.dx = as_sets(is_in_dx ? call_.dx : g_, sets_);
    of_sets.saved = {zeros_, zeros_, ones_, scale_};
    of_sets.dweight = of_sets.dbias = ChannelArray();
    backward(of_sets);
    if (!is_in_dx) copies_.store(g_, call_.dx);
    for_samples_beyond(
        [&](int64_t n) { copies_.store_as_is(dx_beyond(n), samples_of(call_.dx, n, 1)); });
    blend_sums();
  }

 private:
  // Samples that a thread takes: a few pages of memory, and so many that there are not too many
  // sums to keep. The shape alone decides, for sums are merged share by share.
  static constexpr int64_t kShare = 1 << 14, kFewestOfShare = 16, kMostShares = 64, kColumns = 512;

  int64_t tensor_bytes() const { return packed_bytes(DType::f32, call_.dy); }
  int64_t doubles() const { return 3 * sets_ + of_all_ * (1 + 2 * shares_); }
  template <class F>
  void for_samples_beyond(const F &f) const {
    for (int64_t n = 0; n < size_.n; ++n)
      if (is_beyond_[n]) f(n);
  }

  void normalise_all() const {
    Work work;
    work.size = size_;
    work.reads = 2;
    const Machine machine = machine_for_call(Copies::pool_of(call_), call_.thread_limit, work);
    // Sets whose sums stay in L1.
    const int64_t at_once = std::max(kColumns * of_sample_ / of_all_, int64_t{1});
    auto unit = [&](int64_t share) {
      const int64_t first = share * of_share_, last = std::min(first + of_share_, size_.n);
      double *const sums = sums_ + share * 2 * of_all_;
      for (int64_t set = 0; set < of_sample_; set += at_once)
        for (int64_t n = first; n < last; ++n)
          if (!find_xhat(n, set, std::min(at_once, of_sample_ - set), sums)) is_beyond_[n] = 1;
      for (int64_t n = first; n < last; ++n)
        if (is_beyond_[n]) is_beyond_[n] = has_set_beyond(n);
    };
    for_each_unit(Copies::pool_of(call_), useful_workers(work, machine), shares_, Order::forward,
                  unit);
  }
  // False: some of it, or of g, is infinite or NaN.
  bool find_xhat(int64_t n, int64_t set, int64_t sets, double *sums) const {
    const SavedStatistics &saved = call_.saved;
    const int64_t of_set = of_all_ / of_sample_, s = n * of_sample_ + set, i = set * of_set;
    const View &x = is_copied(call_.x) ? xhat_ : call_.x, &dy = is_copied(call_.dy) ? g_ : call_.dy;
    return kernels::active().xhat({sets, of_set, saved.mean ? saved.mean + s : nullptr,
                                   saved.mean_lo ? saved.mean_lo + s : nullptr, saved.invstd + s,
                                   weight_ + i, of(x, n) + i, of(dy, n) + i, of(xhat_, n) + i,
                                   of(g_, n) + i, sums + i, sums + of_all_ + i});
  }
  float *of(const View &packed, int64_t n) const {
    return reinterpret_cast<float *>(packed.data) + n * of_all_;
  }

  // Whether a sample has a set whose xhat or g is not finite, although all is that they were
  // computed from. Then dx may be finite, too.
  [[gnu::cold]] bool has_set_beyond(int64_t n) const {
    const int64_t channels = size_.c / of_sample_;
    const auto are_finite = [&](const View &view, int64_t set) {
      bool all = true;
      for (int64_t c = set * channels; c < (set + 1) * channels; ++c)
        for (int64_t p = 0; p < size_.plane(); ++p)
          all = all &&
                std::isfinite(load_element(view.dtype, view.at(n, c, p / size_.w, p % size_.w), 0));
      return all;
    };
    for (int64_t set = 0; set < of_sample_; ++set) {
      const int64_t s = n * of_sample_ + set;
      const bool is_from_finite =
          std::isfinite(call_.saved.invstd[s]) &&
          (call_.saved.mean == nullptr || std::isfinite(call_.saved.mean[s])) &&
          are_finite(call_.x, set) && are_finite(call_.dy, set);
      if (is_from_finite && !(are_finite(xhat_, set) && are_finite(g_, set))) return true;
    }
    return false;
  }
  // Where dx of such a sample is until all is read.
  View dx_beyond(int64_t n) const {
    return contiguous_view(samples_of(xhat_, n, 1).data, call_.dx.dtype,
                           {1, size_.c, size_.h, size_.w});
  }
  // dx of a sample plane by plane, in the place of its xhat. It has its statistics for itself, so
  // that is what a call of its own would give.
  [[gnu::cold]] void find_by_planes(int64_t n) const {
    BackwardCall own = call_;
    own.x = samples_of(call_.x, n, 1);
    own.dy = samples_of(call_.dy, n, 1);
    own.dx = dx_beyond(n);
    own.saved = behind(call_.saved, call_.sets, size_, n, DType::f32);
    own.dweight = own.dbias = ChannelArray();
    backward_by_planes(own);
  }

  void blend_sums() const {
    for (int64_t share = 1; share < shares_; ++share)
      for (int64_t i = 0; i < 2 * of_all_; ++i) sums_[i] += sums_[2 * of_all_ * share + i];
    // Of each channel, to the front.
    const int64_t channels = size_.c, plane = size_.plane();
    for (int64_t c = 0; c < 2 * channels; ++c) {
      double sum = 0;
      for (int64_t i = c * plane; i < (c + 1) * plane; ++i) sum += sums_[i];
      sums_[c] = sum;
    }
    for (int64_t c = 0; c < channels; c += kernels::kMaxGroup) {
      const Group group = {c, std::min<int64_t>(kernels::kMaxGroup, channels - c)};
      blend_into(call_.dweight, group, call_.blend, sums_ + c);
      blend_into(call_.dbias, group, call_.blend, sums_ + channels + c);
    }
  }

  const BackwardCall &call_;
  const Extents size_;
  const int64_t sets_, of_sample_, of_all_;  // sets; those, and the elements, of a sample
  const int64_t of_share_, shares_;          // of_share: samples
  const int exponent_;
  const Scratch scratch_;
  const Copies copies_;
  View xhat_, g_;
  double *zeros_, *ones_, *scale_;  // of sets
  double *weight_;                  // of the elements of a sample
  double *sums_;                    // of these, too: of dy*xhat and of dy, of each share
  uint8_t *is_beyond_;              // of samples
};

}  // namespace

bool backward_by_sets(const BackwardCall &call) {
  if (!has_small_planes(call.dy, call.sets) || call.dy.dtype == DType::f64 ||
      !call.batch_statistics || !call.dx.exists() || call.dz.exists() ||
      call.fused.activation != Activation::none || call.sums != nullptr ||
      call.given_sums != nullptr)
    return false;
  const double least = least_weight(call.saved.weight, call.dy.size.c);
  if (std::isnan(least)) return false;
  BackwardBySets(call, least).run();
  return true;
}

}  // namespace bn2d
