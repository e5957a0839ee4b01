#include "ops/long_rows.h"

#include <algorithm>
#include <numeric>

#include "base/cache_line.h"
#include "parallel/plan.h"

namespace bn2d {
namespace {

using kernels::Layout;
using kernels::MapJob;
using kernels::Strided;

// Whether `holds` is true of each tensor that takes part.
template <class F>
bool all_strided(const MapJob &job, const F &holds) {
  for (const auto tensor : MapJob::kTensors)
    if ((job.*tensor).data != nullptr && !holds(job.*tensor)) return false;
  return true;
}

// `count` rows of `elements` elements, from element `first` of sample `n` on. next(tensor):
// elements from row to row.
template <class F>
MapJob rows_of(const MapJob &job, int64_t n, int64_t first, int64_t elements, int64_t count,
               int64_t element_bytes, const F &next) {
  MapJob rows = job;
  rows.channels = elements;
  rows.samples = 1;
  rows.length = count;
  for (const auto tensor : MapJob::kTensors) {
    Strided &s = rows.*tensor;
    if (s.data == nullptr) continue;
    s.data = static_cast<char *>(s.data) + (n * s.sample + first) * element_bytes;
    s.sample = s.position = next(job.*tensor);
    s.channel = 1;
  }
  return rows;
}

// Channels as planes that follow one another, or as rows of channels that do.
bool follow_one_another(Layout layout, const Strided &s, int64_t channels, int64_t length) {
  return layout == Layout::planes ? s.channel == length : s.position == channels;
}

// coefficients[k][channel] -> expanded[k][element], for rows of `positions` of each channel. Planes
// are written kWide elements at a time; what is too much is written once more, or is behind the
// end.
constexpr int64_t kWide = 16;
template <class A>
void expand(Layout layout, const MapJob &job, int64_t first, int64_t channels, int64_t positions,
            int64_t count, void *expanded) {
  A *out = static_cast<A *>(expanded);
  for (int64_t k = 0; k < count; ++k) {
    const A *from = static_cast<const A *>(job.coefficients) + k * job.coefficient_stride + first;
    if (layout == Layout::planes) {
      for (int64_t c = 0; c < channels; ++c, out += positions)
        for (int64_t i = 0; i < positions; i += kWide) std::fill_n(out + i, kWide, from[c]);
    } else {
      for (int64_t p = 0; p < positions; ++p, out += channels) std::copy_n(from, channels, out);
    }
  }
}

// Whether the samples of all tensors are so many elements apart, and the positions of a plane next
// to one another.
bool samples_follow(const MapJob &job, int64_t elements) {
  return all_strided(job,
                     [&](const Strided &s) { return s.position == 1 && s.sample == elements; });
}

// How many samples to join into one: short samples that follow one another, so many that they fill
// whole cache lines and are long enough. Where stores stream, a line that is written in parts costs
// a read, and both ends of each sample are written so. Training of (65536,2,7,7) takes 0.5 of the
// time, backward 0.6. 1: none.
int64_t samples_to_join(const MapJob &job, int64_t coefficients, DType dtype) {
  constexpr int64_t kLongSample = 3 * 1024;
  const int64_t elements = job.channels * job.length, bytes = elements * dtype_size(dtype);
  if (job.samples < 2 || bytes >= kLongSample || !samples_follow(job, elements) ||
      !all_strided(job, [&](const Strided &s) { return s.channel == job.length; }))
    return 1;
  const int64_t step = kLineBytes / std::gcd(kLineBytes, bytes),
                room = kJoinedBytes / (job.channels * coefficients * arithmetic_size(dtype)),
                samples = std::min(divide_up(kLongSample, step * bytes), room / step) * step;
  return samples < 2 || samples > job.samples ? 1 : samples;
}

// The job with so many samples as one, whose coefficients are `expanded`: as many times those of a
// sample.
MapJob joined_samples(const MapJob &job, int64_t samples, int64_t coefficients, DType dtype,
                      void *expanded) {
  if (dtype == DType::f64) {
    expand<double>(Layout::channels, job, 0, job.channels, samples, coefficients, expanded);
  } else {
    expand<float>(Layout::channels, job, 0, job.channels, samples, coefficients, expanded);
  }
  MapJob joined = job;
  joined.samples = job.samples / samples;
  joined.channels = samples * job.channels;
  joined.coefficients = expanded;
  joined.coefficient_stride = joined.channels;
  for (const auto tensor : MapJob::kTensors) (joined.*tensor).sample *= samples;
  return joined;
}

// The samples from `first` on.
MapJob last_samples(const MapJob &job, int64_t first, DType dtype) {
  MapJob last = job;
  last.samples = job.samples - first;
  for (const auto tensor : MapJob::kTensors) {
    Strided &s = last.*tensor;
    if (s.data != nullptr)
      s.data = static_cast<char *>(s.data) + first * s.sample * dtype_size(dtype);
  }
  return last;
}

class LongRowMap {
 public:
  LongRowMap(const kernels::TypeKernels &kernels, kernels::MapOf op, Layout layout,
             const MapJob &job, DType dtype, void *buffer)
      : map_(kernels.map_of(op, Layout::channels)),
        map_lanes_(kernels.map_lanes),
        map_step_(kernels.map_step),
        maps_block_(op != kernels::MapOf::double_backward && kernels.maps_block(job.channels)),
        layout_(layout),
        job_(job),
        wide_(dtype == DType::f64),
        bytes_(dtype_size(dtype)),
        coefficients_(kernels::coefficient_count(op, job.side.data != nullptr)),
        most_elements_(kRowBytes / (kernels::coefficient_count(op) * arithmetic_size(dtype)) -
                       kWide),
        expanded_(buffer) {}

  // False: nothing was done, for rows would not be worth it.
  bool run() { return layout_ == Layout::planes ? map_planes() : map_pixels(); }

 private:
  // A row: the planes of some channels of a sample. Worth its coefficients for some samples, or at
  // once for planes that would be mapped one by one: eval of bfloat16 (1,2048,4,4) takes 0.4 of the
  // time, of float32 (4,2048,3,3) 0.6.
  bool map_planes() {
    constexpr int64_t kFewestSamples = 8, kFewestElements = 8;
    const bool one_by_one = job_.length < map_step_;
    if (job_.length >= std::max(map_step_, kSmallPlane) || job_.channels < 2 ||
        (one_by_one ? job_.samples * job_.length < kFewestElements : job_.samples < kFewestSamples))
      return false;
    const int64_t at_once = std::min(job_.channels, most_elements_ / job_.length);
    if (at_once < 2) return false;
    for (int64_t c = 0; c < job_.channels; c += at_once) {
      const int64_t channels = std::min(at_once, job_.channels - c);
      set_coefficients(c, channels, job_.length);
      map(0, c * job_.length, channels * job_.length, job_.samples,
          [](const Strided &s) { return s.sample; });
    }
    return true;
  }

  // A row: one position, or as many as fill whole cache lines, or all those of a small sample.
  bool map_pixels() {
    const int64_t c = job_.channels, line = kLineBytes / bytes_, step = line / std::gcd(line, c);
    if (maps_block_ && map_blocks()) return true;
    const bool fills_line = c * step == line, has_lines = fills_line && map_lanes_ == line;
    // Rows that are a vector and a line each are taken several at a time
    // (kernels/map_of_channels.inl.h). Longer ones gain nothing and have more coefficients to
    // expand. Where stores stream, other rows are taken one at a time, so they should be long.
    const int64_t enough = has_lines ? line : !job_.streaming ? 64 : 256;
    if (step == 1 && (c >= enough || !job_.streaming)) return false;
    const int64_t fit = step * std::max(enough / (c * step), int64_t{1});
    // Of a short sample fewer, so that it has several rows: backward of halves (128,1024,7,7) in
    // blocks of 16 takes 0.4 of the time. (Blocks of floats come here only where stores stream and
    // lines are not whole, or where there are few rows: map_blocks.)
    const int64_t positions = std::min(fit, std::max(job_.length / 4 / step, int64_t{1}) * step);
    if (c * positions > most_elements_) return false;
    const bool one_stretch = is_one_stretch();
    const int64_t stretches = one_stretch ? 1 : job_.samples,
                  length = one_stretch ? job_.samples * job_.length : job_.length;
    // Samples that end in the middle of a line have heads and tails of single elements, so short
    // ones are a row as a whole. Of blocks of 8, 800 elements take 0.56 of the time in several rows
    // (AVX2 0.69); where stores stream, 1.2 (AVX2 1.6).
    const int64_t least_elements = job_.streaming ? 1024 : 512;
    const int64_t fewest = fills_line && step > 1 ? least_elements / c : 4 * positions;
    if (length < fewest && map_samples()) return true;
    if (length < 4 * positions) return false;
    set_coefficients(0, c, positions);
    for (int64_t n = 0; n < stretches; ++n) {
      const int64_t head = positions_to_line(n), rows = (length - head) / positions;
      const auto next = [&](const Strided &) { return c * positions; };
      const int64_t tail = head + rows * positions;
      if (head != 0) map(n, 0, c * head, 1, next);
      map(n, c * head, c * positions, rows, next);
      if (tail != length) map(n, c * tail, c * (length - tail), 1, next);
    }
    return true;
  }

  // Rows as they are, for the kernel that keeps coefficients in registers
  // (TypeKernels::maps_block). Samples that follow one another are one. Shorter ones gain nothing:
  // their coefficients would be loaded for few rows.
  bool map_blocks() {
    constexpr int64_t kFewestRows = 8;
    MapJob blocks = job_;
    if (is_one_stretch()) {
      blocks.length *= blocks.samples;
      blocks.samples = 1;
    }
    const bool may_stream = !blocks.streaming || kernels::has_whole_lines(blocks, bytes_);
    if (blocks.length < kFewestRows || !may_stream) return false;
    map_(blocks);
    return true;
  }

  // A row: all positions of a sample. 8 channels of 7x7 in blocks took 6 times as long without.
  bool map_samples() {
    constexpr int64_t kFewestSamples = 8;
    const int64_t elements = job_.channels * job_.length;
    if (job_.samples < kFewestSamples || elements > most_elements_) return false;
    set_coefficients(0, job_.channels, job_.length);
    map(0, 0, elements, job_.samples, [](const Strided &s) { return s.sample; });
    return true;
  }

  // Whether samples follow one another.
  bool is_one_stretch() const {
    return all_strided(job_,
                       [&](const Strided &s) { return s.sample == job_.channels * job_.length; });
  }

  // Positions up to where a row of the output begins with a cache line; 0 also where none does.
  int64_t positions_to_line(int64_t n) const {
    const auto address = reinterpret_cast<uintptr_t>(job_.out.data) +
                         static_cast<uintptr_t>(n * job_.out.sample * bytes_);
    for (int64_t p = 0; p < kLineBytes / bytes_; ++p)
      if ((address + static_cast<uintptr_t>(p * job_.channels * bytes_)) % kLineBytes == 0)
        return p;
    return 0;
  }

  void set_coefficients(int64_t first, int64_t channels, int64_t positions) {
    if (wide_) {
      expand<double>(layout_, job_, first, channels, positions, coefficients_, expanded_);
    } else {
      expand<float>(layout_, job_, first, channels, positions, coefficients_, expanded_);
    }
    stride_ = channels * positions;
  }

  template <class F>
  void map(int64_t n, int64_t first, int64_t elements, int64_t count, const F &next) const {
    MapJob rows = rows_of(job_, n, first, elements, count, bytes_, next);
    rows.coefficients = expanded_;
    rows.coefficient_stride = stride_;
    map_(rows);
  }

  void (*map_)(const MapJob &job);
  const int64_t map_lanes_, map_step_;
  const bool maps_block_;
  const Layout layout_;
  const MapJob &job_;
  const bool wide_;
  const int64_t bytes_, coefficients_, most_elements_;
  int64_t stride_ = 0;
  void *const expanded_;
};

bool is_long(Layout layout, const MapJob &job) {
  return all_strided(job, [&](const Strided &s) {
    return follow_one_another(layout, s, job.channels, job.length);
  });
}

}  // namespace

void map_rows(const kernels::TypeKernels &kernels, kernels::MapOf op, Layout layout,
              const MapJob &job, DType dtype, void *buffer) {
  const auto map = [&](const MapJob &part) {
    if (kernels.has_channels() && is_long(layout, part) &&
        LongRowMap(kernels, op, layout, part, dtype, buffer).run())
      return;
    kernels.map_of(op, layout)(part);
  };
  // The planes of each channel follow one another: one plane.
  if (job.samples > 1 && samples_follow(job, job.length)) {
    MapJob plane = job;
    plane.length *= job.samples;
    plane.samples = 1;
    return map(plane);
  }
  const int64_t coefficients = kernels::coefficient_count(op, job.side.data != nullptr),
                samples = samples_to_join(job, coefficients, dtype);
  if (samples == 1) return map(job);
  map(joined_samples(job, samples, coefficients, dtype, static_cast<char *>(buffer) + kRowBytes));
  if (job.samples % samples != 0) map(last_samples(job, job.samples / samples * samples, dtype));
}

}  // namespace bn2d
