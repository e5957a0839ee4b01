#include "ops/sets_as_planes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>

#include "base/cache_line.h"
#include "base/scratch.h"
#include "ops/channels_of_sets.h"
#include "ops/copy_elements.h"
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

// A call whose sets are stretches of memory. It goes through its samples in rounds, so that what
// one step leaves for the next is still in the caches: backward of (512,1024,2,2) in 32 groups
// takes 0.72 of the time on one thread, 0.67 on two, channels_last 0.75 and 0.68; of (4096,768,1,1)
// in one group 0.68 and 0.64.
class Runs {
 public:
  // is_direct: reads and writes its tensors as they are, with nothing between its steps.
  template <class Call>
  Runs(const Call &call, const View &like, bool is_direct)
      : size_(like.size),
        dtype_(like.dtype),
        pool_(pool_or_default(call.pool)),
        thread_limit_(call.thread_limit),
        of_sample_(call.sets.count(size_) / size_.n),
        elements_(size_.c * size_.plane()),
        of_share_(std::max({kShare / elements_, kFewestOfShare, divide_up(size_.n, kMostShares)})),
        shares_(divide_up(size_.n, of_share_)),
        of_round_(is_direct ? size_.n : samples_of_round()) {}

 protected:
  // Samples that a thread takes. The shape alone decides, for sums are merged share by share.
  static constexpr int64_t kShare = 1 << 14, kFewestOfShare = 16, kMostShares = 64;
  // Bytes of a tensor in a round: of each thread, and at least. What is not larger than kOneRound
  // is in the caches anyway.
  static constexpr int64_t kBytesOfThread = 512 << 10, kFewestBytes = 1 << 20, kOneRound = 4 << 20;

  struct Round {
    int64_t first, count;  // samples
  };
  static constexpr double *SavedStatistics::*kStatistics[] = {
      &SavedStatistics::mean, &SavedStatistics::mean_lo, &SavedStatistics::invstd};

  // As even as whole shares can be.
  int64_t samples_of_round() const {
    const int64_t share_bytes = of_share_ * elements_ * static_cast<int64_t>(sizeof(float)),
                  bytes = std::max(kFewestBytes, of(size_.n).workers(1) * kBytesOfThread),
                  rounds = divide_up(shares_, divide_up(bytes, share_bytes));
    if (shares_ * share_bytes <= kOneRound) return size_.n;
    return std::min(divide_up(shares_, rounds) * of_share_, size_.n);
  }
  bool is_one_round() const { return of_round_ == size_.n; }
  // Samples of the last round, where these are fewer. 0: it is like the others.
  int64_t of_last_round() const { return size_.n % of_round_; }
  template <class F>
  void for_rounds(const F &f) const {
    for (int64_t n = 0; n < size_.n; n += of_round_) f(Round{n, std::min(of_round_, size_.n - n)});
  }

  // Some samples.
  PackedTensors of(int64_t count) const {
    return PackedTensors({count, size_.c, size_.h, size_.w}, dtype_, pool_, thread_limit_);
  }
  // The same in packed memory, as one sample that has a channel for each set.
  View as_sets(const View &packed, int64_t count) const {
    return contiguous_view(packed.data, packed.dtype,
                           {1, count * of_sample_, 1, elements_ / of_sample_});
  }
  float *at(const View &packed, int64_t n) const {
    return reinterpret_cast<float *>(packed.data) + n * elements_;
  }
  // The samples of a round, to and from packed memory.
  [[gnu::noinline]] void load(const View &tensor, const Round &round, const View &packed,
                              std::byte *halves) const {
    const PackedTensors some = of(round.count);
    some.load(samples_of(tensor, round.first, round.count), some.in(packed.data), halves);
  }
  [[gnu::noinline]] void store(const View &packed, const Round &round, const View &tensor,
                               std::byte *halves) const {
    const PackedTensors some = of(round.count);
    some.store(some.in(packed.data), samples_of(tensor, round.first, round.count), halves);
  }

  // From channels to the elements of a sample: from the last one on, so that nothing is overwritten
  // that is still to be read.
  void spread(double *of_channels) const {
    const int64_t plane = size_.plane();
    for (int64_t c = size_.c - 1; plane > 1 && c >= 0; --c)
      fill(of_channels + c * plane, plane, double{of_channels[c]});
  }

  // Calls f(share, its first sample, behind its last one) for those of a round.
  template <class F>
  void for_shares(const Round &round, int reads, const F &f) const {
    const int64_t before = round.first / of_share_, end = round.first + round.count;
    auto unit = [&](int64_t index) {
      const int64_t share = before + index;
      f(share, share * of_share_, std::min((share + 1) * of_share_, end));
    };
    for_each_unit(pool_, of(round.count).workers(reads), divide_up(round.count, of_share_),
                  Order::forward, unit);
  }

  const Extents size_;
  const DType dtype_;
  const Pool &pool_;
  const int32_t thread_limit_;
  const int64_t of_sample_, elements_;  // of_sample: sets; elements: of a sample
  const int64_t of_share_, shares_;     // of_share: samples
  const int64_t of_round_;              // samples
};

class ForwardBySets : public Runs {
 public:
  explicit ForwardBySets(const ForwardCall &call)
      : Runs(call, call.x, is_direct(call)),
        call_(call),
        is_direct_(is_direct(call)),
        copies_z_(call.z.exists() && !of(size_.n).has(call.z)),
        writes_y_(of(size_.n).has(call.y)),
        sets_of_round_(of_round_ * of_sample_),
        half_bytes_(std::max({of(of_round_).half_bytes(call.x), of(of_round_).half_bytes(call.y),
                              of(of_round_).half_bytes(call.z)})),
        scratch_(static_cast<size_t>(((is_direct_ ? 0 : 1) + (copies_z_ ? 1 : 0)) *
                                         of(of_round_).bytes() +
                                     half_bytes_ + 8 * (3 * sets_of_round_ + 2 * elements_))) {
    std::byte *memory = static_cast<std::byte *>(scratch_.data());
    const auto take = [&](bool is_there) {
      const View view = is_there ? of(of_round_).in(memory) : View();
      if (is_there) memory += of(of_round_).bytes();
      return view;
    };
    x_ = take(!is_direct_);
    z_ = take(copies_z_);
    halves_ = memory;
    double *const statistics = reinterpret_cast<double *>(memory + half_bytes_);
    saved_.mean = statistics;
    if (call.saved.mean_lo != nullptr) saved_.mean_lo = statistics + sets_of_round_;
    saved_.invstd = statistics + 2 * sets_of_round_;
    for (const auto array : kStatistics)
      if (is_one_round() && call.saved.*array != nullptr) saved_.*array = call.saved.*array;
    weight_ = statistics + 3 * sets_of_round_;
  }

  void run() const {
    load_for_elements(call_.weight, 1, weight_);
    load_for_elements(call_.bias, 0, weight_ + elements_);
    ForwardCall calls[2];
    int count = 0;
    for (const int64_t samples : {of_round_, of_last_round()})
      if (samples != 0) calls[count++] = moments_of(samples);
    const auto drive = [&](const Ready &last) {
      const Ready &full_round = count == 2 ? *last.before : last;
      for_rounds([&](const Round &round) {
        if (!is_direct_) load(call_.x, round, x_, halves_);
        (round.count == of_round_ ? full_round : last).run();
        map(round);
        save(round);
      });
      save_parameters(call_);
    };
    forward_parts(calls, count, Driver::of(drive));
  }

 private:
  static bool is_direct(const ForwardCall &call) {
    return call.x.dtype == DType::f32 && is_contiguous(call.x) && is_contiguous(call.y);
  }
  // The statistics of the sets of some samples.
  ForwardCall moments_of(int64_t samples) const {
    ForwardCall call = call_;
    call.x = as_sets(is_direct_ ? call_.x : x_, samples);
    call.y = call.z = View();
    call.sets = SetShape();
    call.weight = call.bias = ChannelArray();
    call.saved = saved_;
    return call;
  }
  void map(const Round &round) const {
    if (copies_z_) load(call_.z, round, z_, halves_);
    for_shares(round, 1, [&](int64_t, int64_t first, int64_t last) {
      for (int64_t n = first; n < last; ++n) {
        const int64_t i = n - round.first;
        kernels::ForwardOfSample sample;
        sample.sets = of_sample_;
        sample.of_set = elements_ / of_sample_;
        sample.mean = saved_.mean + i * of_sample_;
        sample.invstd = saved_.invstd + i * of_sample_;
        sample.weight = weight_;
        sample.x = is_direct_ ? at(call_.x, n) : at(x_, i);
        sample.bias = weight_ + elements_;
        sample.z = copies_z_ ? at(z_, i) : call_.z.exists() ? at(call_.z, n) : nullptr;
        sample.y = writes_y_ ? at(call_.y, n) : at(x_, i);
        kernels::active().forward_sample(sample);
      }
    });
    if (!writes_y_) store(x_, round, call_.y, halves_);
  }
  void save(const Round &round) const {
    for (const auto array : kStatistics)
      if (call_.saved.*array != nullptr && call_.saved.*array != saved_.*array)
        std::copy_n(saved_.*array, round.count * of_sample_,
                    call_.saved.*array + round.first * of_sample_);
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
  const bool is_direct_, copies_z_, writes_y_;
  const int64_t sets_of_round_, half_bytes_;
  const Scratch scratch_;
  View x_, z_;  // packed, of a round
  std::byte *halves_;
  SavedStatistics saved_;  // of a round
  double *weight_;         // of the elements of a sample, and their bias
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
      : Runs(call, call.dy, false),
        call_(call),
        has_x_(of(size_.n).has(call.x)),
        has_dy_(of(size_.n).has(call.dy)),
        writes_dx_(is_one_round() && of(size_.n).has(call.dx)),
        sets_of_round_(of_round_ * of_sample_),
        half_bytes_(std::max({of(of_round_).half_bytes(call.x), of(of_round_).half_bytes(call.dy),
                              of(of_round_).half_bytes(call.dx)})),
        scratch_(static_cast<size_t>(2 * of(of_round_).bytes() + half_bytes_ + 3 * of(1).bytes() +
                                     kCallBytes + 8 * doubles() + of_round_)) {
    std::byte *memory = static_cast<std::byte *>(scratch_.data());
    const auto take = [&](int64_t bytes) {
      std::byte *const start = memory;
      memory += bytes;
      return start;
    };
    xhat_ = of(of_round_).in(take(of(of_round_).bytes()));
    g_ = of(of_round_).in(take(of(of_round_).bytes()));
    halves_ = take(half_bytes_);
    sample_ = take(3 * of(1).bytes());
    calls_ = reinterpret_cast<BackwardCall *>(take(kCallBytes));
    zeros_ = reinterpret_cast<double *>(memory);
    ones_ = zeros_ + sets_of_round_;
    scale_ = ones_ + sets_of_round_;
    of_one_ = scale_ + sets_of_round_;
    weight_ = of_one_ + 3 * of_sample_;
    sums_ = weight_ + elements_;
    is_beyond_ = reinterpret_cast<uint8_t *>(zeros_ + doubles());
    std::memset(zeros_, 0, static_cast<size_t>(8 * doubles()));
    std::fill_n(ones_, sets_of_round_, 1.0);
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
    const bool may_be_beyond = !is_one_round() || std::memchr(is_beyond_, 1, size_.n) != nullptr;
    int count = 0;
    for (const int64_t samples : {of_round_, of_last_round()})
      if (samples != 0) new (calls_ + count++) BackwardCall(gradients_of(samples));
    const int rounds = count;
    if (may_be_beyond) new (calls_ + count++) BackwardCall(by_planes());
    const auto drive = [&](const Ready &last) {
      const Ready &by_planes = last, &last_round = may_be_beyond ? *last.before : last,
                  &full_round = rounds == 2 ? *last_round.before : last_round;
      for_rounds([&](const Round &round) {
        if (!is_one_round()) prepare(round);
        for_samples_beyond(round, [&](int64_t n) { find_by_planes(round, n, by_planes); });
        (round.count == of_round_ ? full_round : last_round).run();
        store_dx(round);
      });
      blend_sums();
    };
    backward_parts(calls_, count, Driver::of(drive), nullptr);
  }

 private:
  static constexpr int64_t kCallBytes = in_lines(3 * sizeof(BackwardCall));

  int64_t doubles() const {
    return 3 * sets_of_round_ + 3 * of_sample_ + elements_ * (1 + 2 * shares_);
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
  void for_samples_beyond(const Round &round, const F &f) const {
    for (int64_t i = 0; i < round.count; ++i)
      if (is_beyond_[i]) f(round.first + i);
  }

  [[gnu::noinline]] void prepare(const Round &round) const {
    if (!has_x_) load(call_.x, round, xhat_, halves_);
    if (!has_dy_) load(call_.dy, round, g_, halves_);
    const double *const invstd = call_.saved.invstd + round.first * of_sample_;
    for (int64_t s = 0; s < round.count * of_sample_; ++s) scale_[s] = invstd[s] / factor_;
    std::memset(is_beyond_, 0, static_cast<size_t>(round.count));
    normalise(round);
  }
  void normalise(const Round &round) const {
    // Sets whose sums stay in L1.
    constexpr int64_t kElements = 512;
    const int64_t at_once = std::max(kElements * of_sample_ / elements_, int64_t{1});
    for_shares(round, 2, [&](int64_t share, int64_t first, int64_t last) {
      double *const sums = sums_ + share * 2 * elements_;
      for (int64_t set = 0; set < of_sample_; set += at_once) {
        const int64_t sets = std::min(at_once, of_sample_ - set);
        for (int64_t n = first; n < last; ++n) {
          if (!is_one_round() && n + 1 < last) fetch(round, n + 1, set, sets);
          if (!normalise(round, n, set, sets, sums)) is_beyond_[n - round.first] = 1;
        }
      }
      for (int64_t n = first; n < last; ++n)
        if (is_beyond_[n - round.first]) is_beyond_[n - round.first] = has_set_beyond(round, n);
    });
  }
  // Some sets of a sample. The hardware does not see that they come next.
  void fetch(const Round &round, int64_t n, int64_t set, int64_t sets) const {
    const int64_t of_set = elements_ / of_sample_;
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
    const int64_t of_set = elements_ / of_sample_, s = n * of_sample_ + set, i = set * of_set;
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
    sample.sums = sums + elements_ + i;
    return kernels::active().backward_sample(sample);
  }

  // Whether a sample has a set whose xhat or g is not finite, although all is that they were
  // computed from. Then dx may be finite, too.
  [[gnu::cold]] bool has_set_beyond(const Round &round, int64_t n) const {
    const int64_t channels = size_.c / of_sample_;
    const auto are_finite = [&](const View &view, int64_t sample, int64_t set) {
      bool all = true;
      for (int64_t c = set * channels; c < (set + 1) * channels; ++c)
        for (int64_t p = 0; p < size_.plane(); ++p)
          all = all && std::isfinite(load_element(view.dtype,
                                                  view.at(sample, c, p / size_.w, p % size_.w), 0));
      return all;
    };
    const SavedStatistics &saved = call_.saved;
    for (int64_t set = 0; set < of_sample_; ++set) {
      const int64_t s = n * of_sample_ + set, i = n - round.first;
      const bool is_from_finite =
          std::isfinite(saved.invstd[s]) && std::isfinite(saved.mean ? saved.mean[s] : 0) &&
          are_finite(call_.x, n, set) && are_finite(call_.dy, n, set) && has_finite_weights(set);
      if (is_from_finite && !(are_finite(xhat_, i, set) && are_finite(g_, i, set))) return true;
    }
    return false;
  }
  bool has_finite_weights(int64_t set) const {
    const int64_t of_set = elements_ / of_sample_;
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
      memory += of_sample_;
    }
    own.dweight = own.dbias = ChannelArray();
    return own;
  }
  [[gnu::cold]] void find_by_planes(const Round &round, int64_t n, const Ready &by_planes) const {
    of(1).copy(samples_of(call_.x, n, 1), of_sample(0));
    of(1).copy(samples_of(call_.dy, n, 1), of_sample(1));
    double *memory = of_one_;
    for (const auto array : kStatistics) {
      if (call_.saved.*array != nullptr)
        std::copy_n(call_.saved.*array + n * of_sample_, of_sample_, memory);
      memory += of_sample_;
    }
    by_planes.run();
    of(1).copy(of_sample(2), dx_beyond(round, n));
  }
  // Of one sample, as the tensors have it: 0 is x, 1 dy, 2 dx.
  View of_sample(int k) const { return sample_in(sample_ + k * of(1).bytes()); }
  // Where dx of such a sample is until all of its round is read: in the place of its xhat. What the
  // round makes of that is overwritten in the end.
  View dx_beyond(const Round &round, int64_t n) const {
    return sample_in(samples_of(xhat_, n - round.first, 1).data);
  }
  View sample_in(std::byte *memory) const {
    return contiguous_view(memory, dtype_, {1, size_.c, size_.h, size_.w});
  }

  [[gnu::noinline]] void store_dx(const Round &round) const {
    if (!writes_dx_) store(g_, round, call_.dx, halves_);
    for_samples_beyond(
        round, [&](int64_t n) { of(1).copy(dx_beyond(round, n), samples_of(call_.dx, n, 1)); });
  }

  [[gnu::noinline]] void blend_sums() const {
    for (int64_t share = 1; share < shares_; ++share)
      for (int64_t i = 0; i < 2 * elements_; ++i) sums_[i] += sums_[2 * elements_ * share + i];
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
  const int64_t sets_of_round_, half_bytes_;
  const Scratch scratch_;
  View xhat_, g_;  // of a round
  std::byte *halves_;
  std::byte *sample_;  // x, dy and dx of one
  BackwardCall *calls_;
  double *zeros_, *ones_, *scale_;  // of the sets of a round
  double *of_one_;                  // statistics of a sample
  double factor_;
  double *weight_;      // of the elements of a sample
  double *sums_;        // of these, too: of dy*xhat and of dy, of each share
  uint8_t *is_beyond_;  // of the samples of a round
};

// The statistics of the sets alone, then the map of any forward whose statistics are known.
void forward_by_moments(const ForwardCall &call) {
  constexpr int kArrays = MomentArrays::kArrays;
  const View &x = call.x;
  const Extents &size = x.size;
  const int64_t sets = call.sets.count(size), of_sample = sets / size.n,
                values = size.numel() / sets,
                sample_bytes = size.c * size.plane() * dtype_size(x.dtype);
  const Pool &pool = pool_or_default(call.pool);
  // Samples are copied some at a time: enough for many threads, and few enough to be in the caches
  // still when they are summed. On two threads 1 MiB and 4 take as long.
  constexpr int64_t kCopyBytes = int64_t{4} << 20;
  const bool copies = !is_contiguous(x);
  const int64_t at_once =
      copies ? std::clamp(kCopyBytes / sample_bytes, int64_t{1}, size.n) : size.n;
  const int64_t copy_bytes = copies ? in_lines(at_once * sample_bytes) : 0;
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
    forward_parts(&statistics, 1);
    for (int k = 0; k < kArrays; ++k)
      std::copy_n(of_some + k * count, count, moments + k * sets + n * of_sample);
  }
  ForwardCall map = call;
  map.given = {moments, values};
  forward_parts(&map, 1);
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
