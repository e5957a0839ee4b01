#include "ops/sets_as_planes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/cache_line.h"
#include "base/scratch.h"
#include "ops/agreement.h"
#include "ops/channels_of_sets.h"
#include "ops/last_set.h"
#include "ops/packed_tensors.h"
#include "ops/parameter_gradients.h"
#include "ops/parts.h"

namespace bn2d {
namespace {

constexpr int64_t kMostPlaneByElements = 16, kMostPlaneByMoments = 100;  // elements of a plane
// Bytes. Tensors that the caches do not hold would be read twice.
constexpr int64_t kMostBytesByMoments = 16 << 20;

// Of float and half data.
bool has_planes_up_to(int64_t most, const View &x, const SetShape &sets) {
  return x.dtype != DType::f64 && sets.channels > 1 && x.size.plane() <= most &&
         x.size.numel() != 0;
}

// A call whose sets are runs of memory.
class Runs {
 public:
  template <class Call>
  Runs(const Call &call, const View &like)
      : size_(like.size),
        sets_(call.sets.count(size_)),
        of_sample_(sets_ / size_.n),
        elements_(size_.c * size_.plane()),
        of_share_(std::max({kShare / elements_, kFewestOfShare, divide_up(size_.n, kMostShares)})),
        shares_(divide_up(size_.n, of_share_)),
        tensors_(size_, like.dtype, call.pool ? *call.pool : process_pool(), call.thread_limit) {}

 protected:
  // Samples that a thread takes. The shape alone decides, for sums are merged share by share.
  static constexpr int64_t kShare = 1 << 14, kFewestOfShare = 16, kMostShares = 64;

  // As one sample that has a channel for each set.
  View as_sets(const View &packed) const {
    return contiguous_view(packed.data, packed.dtype, {1, sets_, 1, size_.numel() / sets_});
  }
  float *of(const View &packed, int64_t n) const {
    return reinterpret_cast<float *>(packed.data) + n * elements_;
  }

  // From channels to the elements of a sample: from the last one on, so that nothing is overwritten
  // that is still to be read.
  void spread(double *of_channels) const {
    const int64_t plane = size_.plane();
    for (int64_t c = size_.c - 1; plane > 1 && c >= 0; --c)
      fill(of_channels + c * plane, plane, double{of_channels[c]});
  }

  // Calls f(share, its first sample, behind its last one).
  template <class F>
  void for_shares(int reads, const F &f) const {
    auto unit = [&](int64_t share) {
      f(share, share * of_share_, std::min((share + 1) * of_share_, size_.n));
    };
    for_each_unit(tensors_.pool(), tensors_.workers(reads), shares_, Order::forward, unit);
  }

  const Extents size_;
  const int64_t sets_, of_sample_, elements_;  // of_sample: sets; elements: of a sample
  const int64_t of_share_, shares_;            // of_share: samples
  const PackedTensors tensors_;
};

class ForwardBySets : public Runs {
 public:
  explicit ForwardBySets(const ForwardCall &call)
      : Runs(call, call.x),
        call_(call),
        copies_z_(call.z.exists() && !tensors_.has(call.z)),
        is_in_y_(tensors_.has(call.y) && (tensors_.has(call.x) || call.z.data != call.y.data)),
        half_bytes_(std::max({tensors_.half_bytes(call.x), tensors_.half_bytes(call.y),
                              tensors_.half_bytes(call.z)})),
        scratch_(static_cast<size_t>(((is_in_y_ ? 0 : 1) + (copies_z_ ? 1 : 0)) * tensors_.bytes() +
                                     half_bytes_ + 8 * (2 * sets_ + 2 * elements_))) {
    std::byte *memory = static_cast<std::byte *>(scratch_.data());
    const auto take = [&](int64_t bytes) {
      std::byte *const start = memory;
      memory += bytes;
      return start;
    };
    y_ = is_in_y_ ? call.y : tensors_.in(take(tensors_.bytes()));
    if (copies_z_) z_ = tensors_.in(take(tensors_.bytes()));
    halves_ = take(half_bytes_);
    statistics_ = reinterpret_cast<double *>(memory);
    weight_ = statistics_ + 2 * sets_;
  }

  void run() const {
    ForwardCall of_sets = call_;
    of_sets.x = as_sets(tensors_.has(call_.x) ? call_.x : y_);
    of_sets.y = of_sets.z = View();
    of_sets.sets = SetShape();
    of_sets.weight = of_sets.bias = ChannelArray();
    if (call_.saved.mean == nullptr) of_sets.saved.mean = statistics_;
    if (call_.saved.invstd == nullptr) of_sets.saved.invstd = statistics_ + sets_;
    of_sets.saved.weight = of_sets.saved.bias = nullptr;
    const auto load_x = [&] {
      if (!tensors_.has(call_.x)) tensors_.load(call_.x, y_, halves_);
    };
    forward_parts(&of_sets, 1, Ready::of(load_x));
    map(of_sets.x, of_sets.saved);
    save_parameters(call_);
  }

 private:
  void map(const View &x, const SavedStatistics &saved) const {
    if (copies_z_) tensors_.load(call_.z, z_, halves_);
    const View &z = copies_z_ ? z_ : call_.z;
    double *const bias = weight_ + elements_;
    load_for_elements(call_.weight, 1, weight_);
    load_for_elements(call_.bias, 0, bias);
    for_shares(1, [&](int64_t, int64_t first, int64_t last) {
      for (int64_t n = first; n < last; ++n) {
        kernels::ForwardOfSample sample;
        sample.sets = of_sample_;
        sample.of_set = elements_ / of_sample_;
        sample.mean = saved.mean + n * of_sample_;
        sample.invstd = saved.invstd + n * of_sample_;
        sample.weight = weight_;
        sample.x = of(x, n);
        sample.bias = bias;
        sample.z = z.exists() ? of(z, n) : nullptr;
        sample.y = of(y_, n);
        kernels::active().forward_sample(sample);
      }
    });
    if (!is_in_y_) tensors_.store(y_, call_.y, halves_);
  }
  // What an array has for the channel of each element of a sample.
  void load_for_elements(const ChannelArray &array, double otherwise, double *to) const {
    if (array.exists()) {
      array.load(0, size_.c, to);
    } else {
      std::fill_n(to, size_.c, otherwise);
    }
    spread(to);
  }

  const ForwardCall &call_;
  const bool copies_z_, is_in_y_;
  const int64_t half_bytes_;
  const Scratch scratch_;
  View y_, z_;  // packed
  std::byte *halves_;
  double *statistics_;  // of sets: mean and invstd, where nobody else wants them
  double *weight_;      // of the elements of a sample, and their bias
};

// The magnitude of the smallest weight that is neither 0 nor infinite nor NaN; 1 where there is
// none. NaN where a quotient of weights may be beyond double.
double least_weight(const double *weight, int64_t channels) {
  constexpr double kLeast = 0x1p-400, kMost = 0x1p400;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t c = 0; weight != nullptr && c < channels; ++c) {
    const double size = std::fabs(weight[c]);
    if (size == 0 || !std::isfinite(size)) continue;
    if (!(size >= kLeast && size <= kMost)) return std::numeric_limits<double>::quiet_NaN();
    least = std::min(least, size);
  }
  return std::isinf(least) ? 1 : least;
}

// With g = weight*dy:
//   dweight = sum dy*xhat,  dbias = sum dy,  dx = invstd * (g - mean(g) - xhat*mean(g*xhat))
class BackwardBySets : public Runs {
 public:
  // least: see least_weight().
  BackwardBySets(const BackwardCall &call, double least)
      : Runs(call, call.dy),
        call_(call),
        half_bytes_(std::max({tensors_.half_bytes(call.x), tensors_.half_bytes(call.dy),
                              tensors_.half_bytes(call.dx)})),
        scratch_(
            static_cast<size_t>(2 * tensors_.bytes() + half_bytes_ + 8 * doubles() + size_.n)) {
    std::byte *const memory = static_cast<std::byte *>(scratch_.data());
    xhat_ = tensors_.in(memory);
    g_ = tensors_.in(memory + tensors_.bytes());
    halves_ = memory + 2 * tensors_.bytes();
    zeros_ = reinterpret_cast<double *>(halves_ + half_bytes_);
    ones_ = zeros_ + sets_;
    scale_ = ones_ + sets_;
    weight_ = scale_ + sets_;
    sums_ = weight_ + elements_;
    is_beyond_ = reinterpret_cast<uint8_t *>(zeros_ + doubles());
    std::memset(zeros_, 0, static_cast<size_t>(8 * doubles() + size_.n));
    std::fill_n(ones_, sets_, 1.0);
    const SavedStatistics &saved = call.saved;
    // Weights of 2^24 or more, so that no gradient loses bits, not even the smallest float, 2^-149.
    const double factor = std::ldexp(0x1p24, -std::ilogb(least));
    for (int64_t c = 0; c < size_.c; ++c)
      weight_[c] = saved.weight ? saved.weight[c] * factor : factor;
    spread(weight_);
    for (int64_t s = 0; s < sets_; ++s) scale_[s] = saved.invstd[s] / factor;
  }

  // Nothing but scratch is written until all have had their memory but the last call, which gets it
  // before it writes.
  void run() const {
    if (!tensors_.has(call_.x)) tensors_.load(call_.x, xhat_, halves_);
    if (!tensors_.has(call_.dy)) tensors_.load(call_.dy, g_, halves_);
    normalise();
    for_samples_beyond([&](int64_t n) { find_by_planes(n); });
    const bool is_in_dx = tensors_.has(call_.dx);
    BackwardCall of_sets = call_;
    of_sets.sets = SetShape();
    of_sets.x = as_sets(xhat_);
    of_sets.dy = as_sets(g_);
    of_sets.dx = as_sets(is_in_dx ? call_.dx : g_);
    of_sets.saved = {zeros_, zeros_, ones_, scale_};
    of_sets.dweight = of_sets.dbias = ChannelArray();
    backward(of_sets);
    if (!is_in_dx) tensors_.store(g_, call_.dx, halves_);
    for_samples_beyond([&](int64_t n) { tensors_.copy(dx_beyond(n), samples_of(call_.dx, n, 1)); });
    blend_sums();
  }

 private:
  int64_t doubles() const { return 3 * sets_ + elements_ * (1 + 2 * shares_); }
  template <class F>
  void for_samples_beyond(const F &f) const {
    for (int64_t n = 0; n < size_.n; ++n)
      if (is_beyond_[n]) f(n);
  }

  void normalise() const {
    // Sets whose sums stay in L1.
    constexpr int64_t kElements = 512;
    const int64_t at_once = std::max(kElements * of_sample_ / elements_, int64_t{1});
    for_shares(2, [&](int64_t share, int64_t first, int64_t last) {
      double *const sums = sums_ + share * 2 * elements_;
      for (int64_t set = 0; set < of_sample_; set += at_once)
        for (int64_t n = first; n < last; ++n)
          if (!normalise(n, set, std::min(at_once, of_sample_ - set), sums)) is_beyond_[n] = 1;
      for (int64_t n = first; n < last; ++n)
        if (is_beyond_[n]) is_beyond_[n] = has_set_beyond(n);
    });
  }
  // False: some xhat, or g, is infinite or NaN.
  bool normalise(int64_t n, int64_t set, int64_t sets, double *sums) const {
    const SavedStatistics &saved = call_.saved;
    const int64_t of_set = elements_ / of_sample_, s = n * of_sample_ + set, i = set * of_set;
    kernels::BackwardOfSample sample;
    sample.sets = sets;
    sample.of_set = of_set;
    sample.mean = saved.mean ? saved.mean + s : nullptr;
    sample.invstd = saved.invstd + s;
    sample.weight = weight_ + i;
    sample.x = of(tensors_.has(call_.x) ? call_.x : xhat_, n) + i;
    sample.dy = of(tensors_.has(call_.dy) ? call_.dy : g_, n) + i;
    sample.xhat = of(xhat_, n) + i;
    sample.g = of(g_, n) + i;
    sample.products = sums + i;
    sample.sums = sums + elements_ + i;
    return kernels::active().backward_sample(sample);
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
    const SavedStatistics &saved = call_.saved;
    for (int64_t set = 0; set < of_sample_; ++set) {
      const int64_t s = n * of_sample_ + set;
      const bool is_from_finite =
          std::isfinite(saved.invstd[s]) && std::isfinite(saved.mean ? saved.mean[s] : 0) &&
          are_finite(call_.x, set) && are_finite(call_.dy, set) && has_finite_weights(set);
      if (is_from_finite && !(are_finite(xhat_, set) && are_finite(g_, set))) return true;
    }
    return false;
  }
  bool has_finite_weights(int64_t set) const {
    const int64_t of_set = elements_ / of_sample_;
    return std::all_of(weight_ + set * of_set, weight_ + (set + 1) * of_set,
                       [](double weight) { return std::isfinite(weight); });
  }
  // Where dx of such a sample is until all is read: in the place of its xhat.
  View dx_beyond(int64_t n) const {
    return contiguous_view(samples_of(xhat_, n, 1).data, call_.dx.dtype,
                           {1, size_.c, size_.h, size_.w});
  }
  // Plane by plane. A sample has its statistics for itself, so that is what a call of its own would
  // give.
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
      for (int64_t i = 0; i < 2 * elements_; ++i) sums_[i] += sums_[2 * elements_ * share + i];
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
  const int64_t half_bytes_;
  const Scratch scratch_;
  View xhat_, g_;
  std::byte *halves_;
  double *zeros_, *ones_, *scale_;  // of sets
  double *weight_;                  // of the elements of a sample
  double *sums_;                    // of these, too: of dy*xhat and of dy, of each share
  uint8_t *is_beyond_;              // of samples
};

// The statistics of the sets alone, then the map of any forward whose statistics are known.
void forward_by_moments(const ForwardCall &call) {
  constexpr int kArrays = MomentArrays::kArrays;
  const View &x = call.x;
  const Extents &size = x.size;
  const int64_t sets = call.sets.count(size), of_sample = sets / size.n,
                values = size.numel() / sets,
                sample_bytes = size.c * size.plane() * dtype_size(x.dtype);
  const Pool &pool = call.pool ? *call.pool : process_pool();
  // Samples are copied some at a time: enough for many threads, and few enough to be in the caches
  // still when they are summed. On two threads 1 MiB and 4 take as long.
  constexpr int64_t kCopyBytes = int64_t{4} << 20;
  const bool copies = !is_packed(x);
  const int64_t at_once =
      copies ? std::clamp(kCopyBytes / sample_bytes, int64_t{1}, size.n) : size.n;
  const int64_t copy_bytes =
      copies ? divide_up(at_once * sample_bytes, kLineBytes) * kLineBytes : 0;
  const Scratch scratch(
      static_cast<size_t>(copy_bytes + 8 * kArrays * (sets + at_once * of_sample)));
  auto *const copy = static_cast<std::byte *>(scratch.data());
  auto *const moments = reinterpret_cast<double *>(copy + copy_bytes);
  double *const of_some = moments + kArrays * sets;
  ForwardCall statistics;
  statistics.moments = of_some;
  statistics.eps = call.eps;  // decides how exact small squares have to be
  statistics.thread_limit = call.thread_limit;
  statistics.pool = call.pool;
  for (int64_t n = 0; n < size.n; n += at_once) {
    const View some = samples_of(x, n, std::min(at_once, size.n - n));
    const View packed = contiguous_view(copies ? copy : some.data, x.dtype, some.size);
    if (copies) copy_elements(some, packed, pool, call.thread_limit);
    const int64_t count = some.size.n * of_sample;
    statistics.x = contiguous_view(packed.data, x.dtype, {1, count, 1, values});
    forward_parts(&statistics, 1, Ready());
    for (int k = 0; k < kArrays; ++k)
      std::copy_n(of_some + k * count, count, moments + k * sets + n * of_sample);
  }
  ForwardCall map = call;
  map.given = {moments, values};
  forward_parts(&map, 1, Ready());
}

}  // namespace

bool forward_by_sets(const ForwardCall &call) {
  if (!has_planes_up_to(kMostPlaneByMoments, call.x, call.sets) || !call.batch_statistics ||
      !call.y.exists() || call.given.exist() || call.moments != nullptr)
    return false;
  if (has_planes_up_to(kMostPlaneByElements, call.x, call.sets) &&
      call.fused.activation == Activation::none) {
    ForwardBySets(call).run();
    return true;
  }
  if (call.x.size.numel() * dtype_size(call.x.dtype) > kMostBytesByMoments) return false;
  forward_by_moments(call);
  return true;
}

bool backward_by_sets(const BackwardCall &call) {
  if (!has_planes_up_to(kMostPlaneByElements, call.dy, call.sets) || !call.batch_statistics ||
      !call.dx.exists() || call.dz.exists() || call.fused.activation != Activation::none ||
      call.sums != nullptr || call.given_sums != nullptr)
    return false;
  const double least = least_weight(call.saved.weight, call.dy.size.c);
  if (std::isnan(least)) return false;
  BackwardBySets(call, least).run();
  return true;
}

}  // namespace bn2d
