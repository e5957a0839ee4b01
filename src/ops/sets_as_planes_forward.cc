#include <algorithm>
#include <cstdint>

#include "base/cache_line.h"
#include "base/scratch.h"
#include "ops/calls.h"
#include "ops/copy_elements.h"
#include "ops/packed_tensors.h"
#include "ops/rounds.h"
#include "ops/sets_as_planes.h"
#include "ops/unbounded.h"

namespace bn2d {
namespace {

constexpr int64_t kMostPlaneByMoments = 100;  // elements
// Bytes. Tensors that the caches do not hold would be read twice.
constexpr int64_t kMostBytesByMoments = 16 << 20;

class ForwardBySets : public InRounds {
 public:
  explicit ForwardBySets(const ForwardCall &call)
      : InRounds(call.x.size, call.x.dtype, call.sets, call.pool, call.thread_limit,
                 is_direct(call)),
        call_(call),
        is_direct_(is_direct(call)),
        copies_z_(call.z.exists() && !packed_samples(size_.n).has(call.z)),
        writes_y_(packed_samples(size_.n).has(call.y)),
        sets_per_round_(samples_per_round_ * sets_per_sample_),
        half_bytes_(std::max({packed_samples(samples_per_round_).half_bytes(call.x),
                              packed_samples(samples_per_round_).half_bytes(call.y),
                              packed_samples(samples_per_round_).half_bytes(call.z)})),
        scratch_(static_cast<size_t>(((is_direct_ ? 0 : 1) + (copies_z_ ? 1 : 0)) *
                                         packed_samples(samples_per_round_).bytes() +
                                     half_bytes_ +
                                     8 * (3 * sets_per_round_ + 2 * elements_per_sample_))) {
    std::byte *memory = static_cast<std::byte *>(scratch_.data());
    const auto take = [&](bool is_there) {
      const View view = is_there ? packed_samples(samples_per_round_).in(memory) : View();
      if (is_there) memory += packed_samples(samples_per_round_).bytes();
      return view;
    };
    x_ = take(!is_direct_);
    z_ = take(copies_z_);
    halves_ = memory;
    double *const statistics = reinterpret_cast<double *>(memory + half_bytes_);
    saved_.mean = statistics;
    if (call.saved.mean_lo != nullptr) saved_.mean_lo = statistics + sets_per_round_;
    saved_.invstd = statistics + 2 * sets_per_round_;
    for (const auto array : kStatistics)
      if (is_one_round() && call.saved.*array != nullptr) saved_.*array = call.saved.*array;
    weight_ = statistics + 3 * sets_per_round_;
  }

  void run() const {
    load_for_elements(call_.weight, 1, weight_);
    load_for_elements(call_.bias, 0, weight_ + elements_per_sample_);
    ForwardCall calls[2];
    int count = 0;
    for (const int64_t samples : {samples_per_round_, samples_of_last_round()})
      if (samples != 0) calls[count++] = moments_of(samples);
    const auto drive = [&](const Ready &last) {
      const Ready &full_round = count == 2 ? *last.before : last;
      for_rounds([&](const Round &round) {
        if (!is_direct_) load(call_.x, round, x_, halves_);
        (round.count == samples_per_round_ ? full_round : last).run();
        map(round);
        save(round);
      });
      save_parameters(call_);
    };
    run_forwards(calls, count, Driver::of(drive));
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
        sample.sets = sets_per_sample_;
        sample.of_set = elements_per_sample_ / sets_per_sample_;
        sample.mean = saved_.mean + i * sets_per_sample_;
        sample.invstd = saved_.invstd + i * sets_per_sample_;
        sample.weight = weight_;
        sample.x = is_direct_ ? at(call_.x, n) : at(x_, i);
        sample.bias = weight_ + elements_per_sample_;
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
        std::copy_n(saved_.*array, round.count * sets_per_sample_,
                    call_.saved.*array + round.first * sets_per_sample_);
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
  const int64_t sets_per_round_, half_bytes_;
  const Scratch scratch_;
  View x_, z_;  // packed, of a round
  std::byte *halves_;
  SavedStatistics saved_;  // of a round
  double *weight_;         // of the elements of a sample, and their bias
};

// A channel for each set: what were its channels are rows of one plane. Where samples are sets,
// they are the channels of one sample, of which a group has many.
View with_planes_of_sets(const View &x, int64_t of_sample) {
  const int64_t channels = x.size.c / of_sample;
  View sets = x;
  sets.size = {x.size.n, of_sample, channels, x.size.plane()};
  sets.stride = {x.stride.n, channels * x.stride.c, x.stride.c, x.stride.w};
  if (of_sample == 1) {
    std::swap(sets.size.n, sets.size.c);
    std::swap(sets.stride.n, sets.stride.c);
  }
  normalise_strides(sets);
  return sets;
}

// Whether sets are summed where they are. A group has sets of one sample, and costs 0.66 us beside
// its elements: of samples of 2 or 3 KB channels_last takes 1.3 times as long so.
bool are_summed_in_place(const View &x, int64_t of_sample) {
  constexpr int64_t kLeastSampleBytes = 8192;
  if (is_contiguous(x)) return true;
  const int64_t sample_bytes = x.size.c * x.size.plane() * dtype_size(x.dtype);
  return x.channel_block == 0 && plane_collapses(x) && (x.stride.c == 1 || x.stride.w == 1) &&
         (of_sample == 1 || sample_bytes >= kLeastSampleBytes);
}

// The statistics of the sets alone, then the map of any forward whose statistics are known.
void forward_by_moments(const ForwardCall &call) {
  constexpr int kArrays = MomentArrays::kArrays;
  const View &x = call.x;
  const Extents &size = x.size;
  const int64_t sets = call.sets.count(size), of_sample = sets / size.n,
                values = size.numel() / sets,
                sample_bytes = size.c * size.plane() * dtype_size(x.dtype);
  const Pool &pool = pool_or_default(call.pool);
  // Other samples are copied some at a time: enough for many threads, and few enough to be in the
  // caches still when they are summed. With 1 MiB floats take 1.06 of the time on two threads, with
  // 4 MiB doubles 1.1 on one.
  constexpr int64_t kCopyBytes = int64_t{2} << 20;
  const bool copies = !are_summed_in_place(x, of_sample);
  const int64_t at_once =
      copies ? std::clamp(kCopyBytes / sample_bytes, int64_t{1}, size.n) : size.n;
  const int64_t copy_bytes = copies ? in_lines(at_once * sample_bytes) : 0;
  const bool is_wide = x.dtype == DType::f64;
  const int64_t doubles = kArrays * (sets + (copies ? at_once * of_sample : 0)),
                extremes_bytes = is_wide ? sets * int64_t{sizeof(unbounded::Moments)} : 0;
  const Scratch scratch(static_cast<size_t>(copy_bytes + 8 * doubles + extremes_bytes));
  auto *const copy = static_cast<std::byte *>(scratch.data());
  auto *const moments = reinterpret_cast<double *>(copy + copy_bytes);
  double *const of_some = copies ? moments + kArrays * sets : moments;
  auto *const extremes =
      is_wide ? reinterpret_cast<unbounded::Moments *>(moments + doubles) : nullptr;
  ForwardCall statistics;
  statistics.moments = of_some;
  statistics.sets = {1, 1};
  statistics.eps = call.eps;  // decides how exact small squares have to be
  statistics.thread_limit = call.thread_limit;
  statistics.pool = call.pool;
  for (int64_t n = 0; n < size.n; n += at_once) {
    const View some = samples_of(x, n, std::min(at_once, size.n - n));
    const View packed = contiguous_view(copy, x.dtype, some.size);
    if (copies) copy_elements(some, packed, pool, call.thread_limit);
    const int64_t count = some.size.n * of_sample;
    statistics.x = with_planes_of_sets(copies ? packed : some, of_sample);
    if (is_wide) statistics.extremes = extremes + n * of_sample;
    run_forwards(&statistics, 1);
    for (int k = 0; copies && k < kArrays; ++k)
      std::copy_n(of_some + k * count, count, moments + k * sets + n * of_sample);
  }
  ForwardCall map = call;
  map.given = {moments, values};
  map.extremes = extremes;
  run_forwards(&map, 1);
}

}  // namespace

bool forward_by_sets(const ForwardCall &call) {
  // Means of doubles are taken once more by a forward without y (ops/low_part_of_mean.h), which has
  // to find the same bits.
  if (!has_planes_up_to(kMostPlaneByMoments, call.x, call.sets) ||
      !(call.y.exists() || call.x.dtype == DType::f64))
    return false;
  if (has_planes_up_to(kMostPlaneByElements, call.x, call.sets) && call.x.dtype != DType::f64 &&
      call.fused.activation == Activation::none) {
    ForwardBySets(call).run();
    return true;
  }
  if (call.x.size.numel() * dtype_size(call.x.dtype) > kMostBytesByMoments) return false;
  forward_by_moments(call);
  return true;
}

}  // namespace bn2d
