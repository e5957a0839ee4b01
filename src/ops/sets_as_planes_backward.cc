#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>

#include "base/cache_line.h"
#include "base/scratch.h"
#include "ops/calls.h"
#include "ops/packed_tensors.h"
#include "ops/parameter_gradients.h"
#include "ops/rounds.h"
#include "ops/sets_as_planes.h"

namespace bn2d {
namespace {

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
class BackwardBySets : public InRounds {
 public:
  // least: see least_weight().
  BackwardBySets(const BackwardCall &call, double least)
      : InRounds(call.dy.size, call.dy.dtype, call.sets, call.pool, call.thread_limit, false),
        call_(call),
        has_x_(packed_samples(size_.n).has(call.x)),
        has_dy_(packed_samples(size_.n).has(call.dy)),
        writes_dx_(is_one_round() && packed_samples(size_.n).has(call.dx)),
        sets_per_round_(samples_per_round_ * sets_per_sample_),
        half_bytes_(std::max({packed_samples(samples_per_round_).half_bytes(call.x),
                              packed_samples(samples_per_round_).half_bytes(call.dy),
                              packed_samples(samples_per_round_).half_bytes(call.dx)})),
        scratch_(static_cast<size_t>(2 * packed_samples(samples_per_round_).bytes() + half_bytes_ +
                                     3 * packed_samples(1).bytes() + kCallBytes + 8 * doubles() +
                                     samples_per_round_)) {
    std::byte *memory = static_cast<std::byte *>(scratch_.data());
    const auto take = [&](int64_t bytes) {
      std::byte *const start = memory;
      memory += bytes;
      return start;
    };
    xhat_ = packed_samples(samples_per_round_).in(take(packed_samples(samples_per_round_).bytes()));
    g_ = packed_samples(samples_per_round_).in(take(packed_samples(samples_per_round_).bytes()));
    halves_ = take(half_bytes_);
    sample_ = take(3 * packed_samples(1).bytes());
    calls_ = reinterpret_cast<BackwardCall *>(take(kCallBytes));
    zeros_ = reinterpret_cast<double *>(memory);
    ones_ = zeros_ + sets_per_round_;
    scale_ = ones_ + sets_per_round_;
    of_one_ = scale_ + sets_per_round_;
    weight_ = of_one_ + 3 * sets_per_sample_;
    sums_ = weight_ + elements_per_sample_;
    has_overflow_ = reinterpret_cast<uint8_t *>(zeros_ + doubles());
    std::memset(zeros_, 0, static_cast<size_t>(8 * doubles()));
    std::fill_n(ones_, sets_per_round_, 1.0);
    // Weights of 2^24 or more, so that no gradient loses bits, not even the smallest float, 2^-149.
    factor_ = std::ldexp(0x1p24, -std::ilogb(least));
    const double *const weight = call.saved.weight;
    for (int64_t c = 0; c < size_.c; ++c) weight_[c] = weight ? weight[c] * factor_ : factor_;
    spread(weight_);
  }

  // Nothing but scratch is written until all calls have had their memory.
  void run() const {
    if (is_one_round()) prepare({0, size_.n});
    // With several rounds nobody knows before all have their memory. `calls_`: a round, the last
    // round where it is smaller, a sample plane by plane where one may need it.
    const bool may_overflow = !is_one_round() || std::memchr(has_overflow_, 1, size_.n) != nullptr;
    int count = 0;
    for (const int64_t samples : {samples_per_round_, samples_of_last_round()})
      if (samples != 0) new (calls_ + count++) BackwardCall(gradients_of(samples));
    const int rounds = count;
    if (may_overflow) new (calls_ + count++) BackwardCall(by_planes());
    const auto drive = [&](const Ready &last) {
      const Ready &by_planes = last, &last_round = may_overflow ? *last.before : last,
                  &full_round = rounds == 2 ? *last_round.before : last_round;
      for_rounds([&](const Round &round) {
        if (!is_one_round()) prepare(round);
        for_overflowed(round, [&](int64_t n) { redo_by_planes(round, n, by_planes); });
        (round.count == samples_per_round_ ? full_round : last_round).run();
        store_dx(round);
      });
      blend_sums();
    };
    run_backwards(calls_, count, Driver::of(drive));
  }

 private:
  static constexpr int64_t kCallBytes = in_lines(3 * sizeof(BackwardCall));

  int64_t doubles() const {
    return 3 * sets_per_round_ + 3 * sets_per_sample_ + elements_per_sample_ * (1 + 2 * shares_);
  }
  [[gnu::noinline]] BackwardCall gradients_of(int64_t samples) const {
    BackwardCall call = call_;
    call.sets = SetShape();
    call.x = as_sets(xhat_, samples);
    call.dy = as_sets(g_, samples);
    call.dx = as_sets(writes_dx_ ? call_.dx : g_, samples);
    call.saved = {zeros_, zeros_, ones_, scale_};
    call.dweight = call.dbias = ChannelArray();
    return call;
  }
  template <class F>
  void for_overflowed(const Round &round, const F &f) const {
    for (int64_t i = 0; i < round.count; ++i)
      if (has_overflow_[i]) f(round.first + i);
  }

  [[gnu::noinline]] void prepare(const Round &round) const {
    if (!has_x_) load(call_.x, round, xhat_, halves_);
    if (!has_dy_) load(call_.dy, round, g_, halves_);
    const double *const invstd = call_.saved.invstd + round.first * sets_per_sample_;
    for (int64_t s = 0; s < round.count * sets_per_sample_; ++s) scale_[s] = invstd[s] / factor_;
    std::memset(has_overflow_, 0, static_cast<size_t>(round.count));
    normalise(round);
  }
  void normalise(const Round &round) const {
    // Sets whose sums stay in L1.
    constexpr int64_t kElements = 512;
    const int64_t at_once =
        std::max(kElements * sets_per_sample_ / elements_per_sample_, int64_t{1});
    for_shares(round, 2, [&](int64_t share, int64_t first, int64_t last) {
      double *const sums = sums_ + share * 2 * elements_per_sample_;
      for (int64_t set = 0; set < sets_per_sample_; set += at_once) {
        const int64_t sets = std::min(at_once, sets_per_sample_ - set);
        for (int64_t n = first; n < last; ++n) {
          if (!is_one_round() && n + 1 < last) fetch(round, n + 1, set, sets);
          if (!normalise(round, n, set, sets, sums)) has_overflow_[n - round.first] = 1;
        }
      }
      for (int64_t n = first; n < last; ++n)
        if (has_overflow_[n - round.first])
          has_overflow_[n - round.first] = has_overflowed_set(round, n);
    });
  }
  // Some sets of a sample. The hardware does not see that they come next.
  void fetch(const Round &round, int64_t n, int64_t set, int64_t sets) const {
    const int64_t of_set = elements_per_sample_ / sets_per_sample_;
    const float *const x = x_of(round, n) + set * of_set, *const dy =
                                                              dy_of(round, n) + set * of_set;
    for (int64_t i = 0; i < sets * of_set; i += kLineBytes / static_cast<int64_t>(sizeof(float))) {
      __builtin_prefetch(x + i);
      __builtin_prefetch(dy + i);
    }
  }
  float *x_of(const Round &round, int64_t n) const {
    return has_x_ ? at(call_.x, n) : at(xhat_, n - round.first);
  }
  float *dy_of(const Round &round, int64_t n) const {
    return has_dy_ ? at(call_.dy, n) : at(g_, n - round.first);
  }
  // False: some xhat, or g, is infinite or NaN.
  bool normalise(const Round &round, int64_t n, int64_t set, int64_t sets, double *sums) const {
    const SavedStatistics &saved = call_.saved;
    const int64_t of_set = elements_per_sample_ / sets_per_sample_, s = n * sets_per_sample_ + set,
                  i = set * of_set;
    kernels::BackwardOfSample sample;
    sample.sets = sets;
    sample.of_set = of_set;
    sample.mean = saved.mean ? saved.mean + s : nullptr;
    sample.invstd = saved.invstd + s;
    sample.weight = weight_ + i;
    sample.x = x_of(round, n) + i;
    sample.dy = dy_of(round, n) + i;
    sample.xhat = at(xhat_, n - round.first) + i;
    sample.g = at(g_, n - round.first) + i;
    sample.products = sums + i;
    sample.sums = sums + elements_per_sample_ + i;
    return kernels::active().backward_sample(sample);
  }

  // Whether a sample has a set whose xhat or g is not finite, although all is that they were
  // computed from. Then dx may be finite, too.
  [[gnu::cold]] bool has_overflowed_set(const Round &round, int64_t n) const {
    const int64_t channels = size_.c / sets_per_sample_;
    const auto are_finite = [&](const View &view, int64_t sample, int64_t set) {
      bool all = true;
      for (int64_t c = set * channels; c < (set + 1) * channels; ++c)
        for (int64_t p = 0; p < size_.plane(); ++p)
          all = all && std::isfinite(load_element(view.dtype,
                                                  view.at(sample, c, p / size_.w, p % size_.w), 0));
      return all;
    };
    const SavedStatistics &saved = call_.saved;
    for (int64_t set = 0; set < sets_per_sample_; ++set) {
      const int64_t s = n * sets_per_sample_ + set, i = n - round.first;
      const bool is_from_finite =
          std::isfinite(saved.invstd[s]) && std::isfinite(saved.mean ? saved.mean[s] : 0) &&
          are_finite(call_.x, n, set) && are_finite(call_.dy, n, set) && has_finite_weights(set);
      if (is_from_finite && !(are_finite(xhat_, i, set) && are_finite(g_, i, set))) return true;
    }
    return false;
  }
  bool has_finite_weights(int64_t set) const {
    const int64_t of_set = elements_per_sample_ / sets_per_sample_;
    return std::all_of(weight_ + set * of_set, weight_ + (set + 1) * of_set,
                       [](double weight) { return std::isfinite(weight); });
  }

  // Such a sample is done plane by plane: it has its statistics for itself, so that is what a call
  // of its own would give. All of it is copied, because that call has its memory already.
  [[gnu::noinline]] BackwardCall by_planes() const {
    BackwardCall own = call_;
    own.x = of_sample(0);
    own.dy = of_sample(1);
    own.dx = of_sample(2);
    double *memory = of_one_;
    for (const auto array : kStatistics) {
      if (own.saved.*array != nullptr) own.saved.*array = memory;
      memory += sets_per_sample_;
    }
    own.dweight = own.dbias = ChannelArray();
    return own;
  }
  [[gnu::cold]] void redo_by_planes(const Round &round, int64_t n, const Ready &by_planes) const {
    packed_samples(1).copy(samples_of(call_.x, n, 1), of_sample(0));
    packed_samples(1).copy(samples_of(call_.dy, n, 1), of_sample(1));
    double *memory = of_one_;
    for (const auto array : kStatistics) {
      if (call_.saved.*array != nullptr)
        std::copy_n(call_.saved.*array + n * sets_per_sample_, sets_per_sample_, memory);
      memory += sets_per_sample_;
    }
    by_planes.run();
    packed_samples(1).copy(of_sample(2), dx_of_overflowed(round, n));
  }
  // Of one sample, as the tensors have it: 0 is x, 1 dy, 2 dx.
  View of_sample(int k) const { return sample_in(sample_ + k * packed_samples(1).bytes()); }
  // Where dx of such a sample is until all of its round is read: in the place of its xhat. What the
  // round makes of that is overwritten in the end.
  View dx_of_overflowed(const Round &round, int64_t n) const {
    return sample_in(samples_of(xhat_, n - round.first, 1).data);
  }
  View sample_in(std::byte *memory) const {
    return contiguous_view(memory, dtype_, {1, size_.c, size_.h, size_.w});
  }

  [[gnu::noinline]] void store_dx(const Round &round) const {
    if (!writes_dx_) store(g_, round, call_.dx, halves_);
    for_overflowed(round, [&](int64_t n) {
      packed_samples(1).copy(dx_of_overflowed(round, n), samples_of(call_.dx, n, 1));
    });
  }

  [[gnu::noinline]] void blend_sums() const {
    for (int64_t share = 1; share < shares_; ++share)
      for (int64_t i = 0; i < 2 * elements_per_sample_; ++i)
        sums_[i] += sums_[2 * elements_per_sample_ * share + i];
    // Of each channel, to the front.
    const int64_t channels = size_.c, plane = size_.plane();
    for (int64_t c = 0; c < 2 * channels; ++c) {
      double sum = 0;
      for (int64_t i = c * plane; i < (c + 1) * plane; ++i) sum += sums_[i];
      sums_[c] = sum;
    }
    blend_all_into(call_.dweight, channels, call_.blend, sums_);
    blend_all_into(call_.dbias, channels, call_.blend, sums_ + channels);
  }

  const BackwardCall &call_;
  const bool has_x_, has_dy_, writes_dx_;
  const int64_t sets_per_round_, half_bytes_;
  const Scratch scratch_;
  View xhat_, g_;  // of a round
  std::byte *halves_;
  std::byte *sample_;  // x, dy and dx of one
  BackwardCall *calls_;
  double *zeros_, *ones_, *scale_;  // of the sets of a round
  double *of_one_;                  // statistics of a sample
  double factor_;
  double *weight_;         // of the elements of a sample
  double *sums_;           // of these, too: of dy*xhat and of dy, of each share
  uint8_t *has_overflow_;  // of the samples of a round
};

}  // namespace

bool backward_by_sets(const BackwardCall &call) {
  if (!has_planes_up_to(kMostPlaneByElements, call.dy, call.sets) || call.dy.dtype == DType::f64 ||
      !call.dx.exists() || call.dz.exists() || call.fused.activation != Activation::none)
    return false;
  const double least = least_weight(call.saved.weight, call.dy.size.c);
  if (std::isnan(least)) return false;
  BackwardBySets(call, least).run();
  return true;
}

}  // namespace bn2d
