#include "kernels/halves_as_floats.h"

#include <algorithm>
#include <iterator>

#include "base/cache_line.h"

namespace bn2d::kernels {
namespace {

// Whether an operation reads a tensor, where there is one. A job may name others, of any strides.
bool reads(SumsOf op, Strided SumsJob::*tensor) {
  if (tensor == &SumsJob::x) return true;
  return tensor == &SumsJob::v ? op == SumsOf::double_backward : op != SumsOf::forward;
}
bool reads(MapOf op, Strided MapJob::*tensor) {
  if (tensor == &MapJob::out || tensor == &MapJob::out2) return false;
  if (tensor == &MapJob::x) return op != MapOf::scale;
  if (tensor == &MapJob::v) return op == MapOf::forward || op == MapOf::double_backward;
  return op != MapOf::forward;
}
bool writes(SumsOf, Strided SumsJob::*) { return false; }
bool writes(MapOf, Strided MapJob::*tensor) {
  return tensor == &MapJob::out || tensor == &MapJob::out2;
}

// Some elements of a block: of small planes those of several channels and samples, of a large one a
// part.
struct Stretch {
  int64_t channel, channels, sample, samples, position, length;
};

// A job of halves, stretch by stretch. Their floats are on the stack, all tensors in 4 KB: with 128
// elements at a time, backward of bfloat16 (8,64,56,56) took 1.4 times as long.
template <class Op, class Job>
class Halves {
 public:
  Halves(Op op, const Job &job, decltype(TypeKernels::load_array) load)
      : op_(op), job_(job), load_(load) {
    for (const auto tensor : Job::kTensors)
      if ((job.*tensor).data != nullptr && (reads(op, tensor) || writes(op, tensor)))
        tensors_[count_++] = tensor;
  }

  // Calls f(stretch, its job) when the floats are there; those of a channel come in the order of
  // its sums. Element i of a plane is added to lane i % kLanes, so parts of a plane are whole
  // lanes.
  template <class F>
  void for_each_stretch(const F &f) {
    const int64_t most = most_elements(), length = std::min(job_.length, most),
                  channels = std::clamp<int64_t>(most / length, 1, job_.channels),
                  samples = std::max<int64_t>(most / (length * channels), 1);
    for (int64_t c = 0; c < job_.channels; c += channels)
      for (int64_t n = 0; n < job_.samples; n += samples)
        for (int64_t p = 0; p < job_.length; p += length) {
          const Stretch stretch = {c, std::min(channels, job_.channels - c),
                                   n, std::min(samples, job_.samples - n),
                                   p, std::min(length, job_.length - p)};
          for (int k = 0; k < count_; ++k)
            if (reads(op_, tensors_[k])) for_each_run(k, stretch, load_);
          f(stretch, job_of(stretch));
        }
  }
  // The results of a stretch: store(floats, count, halves).
  template <class F>
  void store(const Stretch &stretch, const F &store) {
    for (int k = 0; k < count_; ++k)
      if (writes(op_, tensors_[k]))
        for_each_run(k, stretch, [&](void *halves, int64_t count, const float *floats) {
          store(floats, count, halves, false);
        });
  }

 private:
  static constexpr int64_t kFloats = 1024, kBytes = 2;

  int64_t most_elements() const { return kFloats / count_ / kLanes * kLanes; }
  float *floats_of(int k) { return floats_ + k * most_elements(); }

  // Calls f(halves, count, floats) for what follows one another in tensor k.
  template <class F>
  void for_each_run(int k, const Stretch &of, const F &f) {
    const Strided &halves = job_.*tensors_[k];
    float *floats = floats_of(k);
    const bool planes_follow = of.length == job_.length && halves.channel == of.length;
    const int64_t count = planes_follow ? of.channels * of.length : of.length;
    for (int64_t n = of.sample; n < of.sample + of.samples; ++n)
      for (int64_t c = of.channel; c < of.channel + (planes_follow ? 1 : of.channels); ++c) {
        const int64_t element = n * halves.sample + c * halves.channel + of.position;
        f(static_cast<char *>(halves.data) + element * kBytes, count, floats);
        floats += count;
      }
  }

  Job job_of(const Stretch &of) {
    Job job = job_;
    job.channels = of.channels;
    job.samples = of.samples;
    job.length = of.length;
    for (int k = 0; k < count_; ++k) {
      Strided &tensor = job.*tensors_[k];
      tensor.data = floats_of(k);
      tensor.channel = of.length;
      tensor.sample = of.channels * of.length;
    }
    return job;
  }

  const Op op_;
  const Job &job_;
  const decltype(TypeKernels::load_array) load_;
  Strided Job::*tensors_[std::size(Job::kTensors)];
  int count_ = 0;
  alignas(kLineBytes) float floats_[kFloats];
};

const float *at(const void *array, int64_t channel) {
  return array != nullptr ? static_cast<const float *>(array) + channel : nullptr;
}

}  // namespace

void sum_halves_as_floats(SumsOf op, const SumsJob &job, const TypeKernels &floats,
                          decltype(TypeKernels::load_array) load) {
  SumsJob band = job;
  for (int64_t b = 0; b < job.bands; ++b) {
    Halves<SumsOf, SumsJob>(op, band, load).for_each_stretch([&](const Stretch &of, SumsJob part) {
      const int64_t channel = b * job.channels + of.channel;
      part.bands = 1;
      part.fetches = false;
      part.buffer = nullptr;
      part.first = job.first && of.sample == 0 && of.position == 0;
      part.accumulators += channel * sums_count(op) * accumulators_of(false);
      part.pivot = at(job.pivot, channel);
      part.side_sign = at(job.side_sign, channel);
      part.side_threshold = at(job.side_threshold, channel);
      part.side_bound = at(job.side_bound, channel);
      floats.run_sums(op, Layout::planes, part);
    });
    for (const auto tensor : SumsJob::kTensors)
      if (Strided &s = band.*tensor; s.data != nullptr)
        s.data = static_cast<uint16_t *>(s.data) + s.band;
  }
}

void map_halves_as_floats(MapOf op, const MapJob &job, const TypeKernels &floats,
                          decltype(TypeKernels::load_array) load,
                          decltype(TypeKernels::store_array) store) {
  Halves<MapOf, MapJob> halves(op, job, load);
  halves.for_each_stretch([&](const Stretch &of, MapJob part) {
    part.coefficients = at(job.coefficients, of.channel);
    part.streaming = false;
    part.prefetch = 0;
    floats.map_of(op, Layout::planes)(part);
    halves.store(of, store);
  });
}

}  // namespace bn2d::kernels
