#include "ops/blockwise.h"

#include <iterator>
#include <numeric>

#include "base/cache_line.h"
#include "ops/long_rows.h"

namespace bn2d {

void Accumulators::repeat(int64_t count) const {
  for (void *array : {pivot, side_sign, side_threshold, side_bound})
    for (int64_t i = 1; i < count; ++i) std::memcpy(at(array, i), array, wide ? 8 : 4);
  std::fill_n(center_lo, count, *center_lo);
}

static_assert(kLongRowsBytes <= Blockwise::kBufferBytes);

// Blocks begin where runs do, so that sums do not depend on how a plane is cut.
static_assert(kBlockAlignment == kernels::kRunElements);

Blockwise::Blockwise(const Tensors &tensors, const Sets &sets, DType dtype)
    : tensors_(tensors),
      sets_(sets),
      size_(sets.counted()),
      row_(size_.c),
      dtype_(dtype),
      blocks_(make_blocks(size_)),
      kernels_(kernels::active().of(dtype)) {
  mode_ = mode_for(static_cast<int>(std::size(kTensors)),
                   tensors.side_mask != nullptr || tensors.sign_mask != nullptr);
  sums_mode_ = mode_;
  if (mode_ == Mode::packed) set_packed();
  const bool is_batch = sets.batches() == 1;
  bool is_one_row = is_batch || sets.samples == 1;
  int64_t block = 0;
  for (const auto tensor : kTensors) {
    const View &view = tensors.*tensor;
    if (view.channel_block != 0 && view.exists()) block = std::gcd(block, view.channel_block);
    if (is_batch || !view.exists()) continue;
    is_one_row =
        is_one_row && view.channel_block == 0 && view.stride.n == sets.size.c * view.stride.c;
  }
  if (!is_one_row) row_ = sets.size.c;
  // Blocks of 2 and of 3 channels in one call have no common part of more than one.
  if (block != 0) (mode_ == Mode::channels && block != 1 ? channel_block_ : row_) = block;
}

// How the first `count` of the tensors are gone through together.
Blockwise::Mode Blockwise::mode_for(int count, bool has_mask) const {
  bool planes = !has_mask;
  bool channels = planes && kernels_.has_channels();
  for (int k = 0; k < count; ++k) {
    const View &view = tensors_.*kTensors[k];
    if (!view.exists()) continue;
    planes = planes && has_contiguous_planes(view);
    channels = channels && has_contiguous_channels(view) &&
               (view.stride.c == 1 || size_.c == 1 || sets_.size.c > 1);
  }
  if (channels && (prefers_channels(size_) || !planes)) return Mode::channels;
  return planes ? Mode::planes : Mode::packed;
}

void Blockwise::set_strided(const View &view, const Group &group, const Blocks::Block &block,
                            kernels::Strided &strided) const {
  if (!view.exists()) return;
  const Place place = place_of(group.channel);
  strided.data = view.at(place.sample + block.first_sample, place.channel, 0, 0) +
                 block.position * view.stride.w * dtype_size(dtype_);
  strided.channel = view.stride.c;
  strided.sample = view.stride.n;
  strided.position = view.stride.w;
}

template <class Job>
Job Blockwise::job_of(const Group &group, const Blocks::Block &block) const {
  Job job;
  job.channels = group.channels;
  job.samples = block.samples;
  job.length = block.length;
  set_strided(tensors_.x, group, block, job.x);
  set_strided(tensors_.g, group, block, job.g);
  set_strided(tensors_.side, group, block, job.side);
  set_strided(tensors_.v, group, block, job.v);
  job.slope = tensors_.slope;
  return job;
}

Blockwise::Bands Blockwise::bands_of(const View &view, const Group &group,
                                     const Blocks::Series &series) const {
  const Strides &stride = view.stride;
  if (series.count() > 1)
    return {series.in_band, series.bands,
            blocks_.parts_per_plane > 1 ? blocks_.part : blocks_.samples / blocks_.count * stride.n,
            stride.n};
  if (!has_bands(group, series)) return {group.channels, 1, stride.c, 0};
  return {channel_block_, group.channels / channel_block_, stride.c,
          view.channel_block == 0 ? channel_block_ * stride.c : view.channel_block_stride};
}

// Whether all blocks of a group are a constant stride apart in what the sums read. (Blocks of 16
// and of 8 in one call are not.) pointwise_sums() takes one block at a time.
bool Blockwise::has_bands_of_blocks(kernels::SumsOf op, const Group &group) const {
  return !has_pointwise_sums(op) && are_whole_blocks(group, kReadTensors);
}
bool Blockwise::are_whole_blocks(const Group &group, int tensors) const {
  bool are = channel_block_ != 1 && group.channel % channel_block_ == 0 &&
             group.channels % channel_block_ == 0;
  for (int k = 0; k < tensors; ++k) {
    const int64_t block = (tensors_.*kTensors[k]).channel_block;
    are = are && (block == 0 || block == channel_block_);
  }
  return are;
}

// From three places: at 3, 7 and 11 thirteenths of the samples, and of the positions. Not at the
// ends, where images have borders. Not at quarters: where extents are powers of two, these are the
// first positions of an image or of its rows, borders again.
void Blockwise::read_pivots(const Group &group, int64_t index, const Blocks::Series &series,
                            const Accumulators &accumulators) const {
  const View &x = tensors_.x;
  const Place place = place_of(group.channel);
  const Blocks::Block block = blocks_.at(index);
  const void *elements[3];
  for (int64_t i = 0; i < 3; ++i) {
    const auto part = [&](int64_t extent) { return extent * (4 * i + 3) / 13; };
    const int64_t position = block.position + part(block.length);
    elements[i] = x.at(place.sample + block.first_sample + part(block.samples), place.channel,
                       position / size_.w, position % size_.w);
  }
  const Bands bands = bands_of(x, group, series);
  for (int64_t band = 0; band < bands.count; ++band) {
    kernels_.pivots(elements, bands.channel_stride, bands.channels,
                    accumulators.pivot_at(band * bands.channels));
    for (const void *&element : elements)
      element = static_cast<const std::byte *>(element) + bands.stride * dtype_size(dtype_);
  }
}

void Blockwise::accumulate(kernels::SumsOf op, const Group &group, int64_t index,
                           const Blocks::Series &series, const Staged &staged,
                           const Accumulators &accumulators, void *buffer) const {
  // Gradients of parameters are sums over a channel of all sets.
  const bool is_forward = op == kernels::SumsOf::forward;
  const bool in_double =
      is_forward ? sets_.values() < kFewElements : sets_.size.per_channel() < kFewOfGradient;
  for_each_part(group, has_bands_of_blocks(op, group) ? 1 : channel_block_, [&](const Group &part) {
    const Accumulators own = accumulators.from(part.channel - group.channel);
    if (is_forward) read_pivots(part, index, series, own);
    add(op, part, index, series, staged, own, in_double, buffer);
  });
}

void Blockwise::accumulate_in_double(kernels::SumsOf op, const Group &group, int64_t index,
                                     const Accumulators &accumulators, void *buffer) const {
  add(op, group, index, {}, {}, accumulators, true, buffer);
}

// What the sums know of each channel, from channel c on.
void Blockwise::set_channels(const Accumulators &accumulators, int64_t c,
                             kernels::SumsJob &job) const {
  job.pivot = accumulators.pivot_at(c);
  job.center_lo = accumulators.center_lo + c;
  job.side_sign = accumulators.side_sign_at(c);
  job.side_threshold = accumulators.side_threshold_at(c);
  job.side_bound = tensors_.side_has_bound ? accumulators.side_bound_at(c) : nullptr;
}

bool Blockwise::has_series(kernels::SumsOf op) const {
  return sums_mode_ == Mode::planes && blocks_.has_series() && !has_pointwise_sums(op);
}

void Blockwise::add(kernels::SumsOf op, const Group &group, int64_t index,
                    const Blocks::Series &series, const Staged &staged,
                    const Accumulators &accumulators, bool in_double, void *buffer) const {
  const Blocks::Block block = blocks_.at(index);
  if (has_pointwise_sums(op)) return pointwise_sums(group, block, accumulators, in_double, buffer);
  if (sums_mode_ == Mode::packed && !staged.exists())
    return packed_sums(op, group, block, accumulators, in_double, packed_in(buffer));
  auto job = job_of<kernels::SumsJob>(group, block);
  if (staged.exists()) set_staged(staged, block, job);
  job.in_double = in_double;
  job.fetches = !staged.exists() && fetches();
  const int64_t next_index = index + series.count();
  if (job.fetches && next_index < blocks_.count) {
    const Blocks::Block next = blocks_.at(next_index);
    job.next_samples = next.first_sample - block.first_sample;
    job.next_positions = next.position - block.position;
  }
  for (int k = 0; k < kReadTensors && has_bands(group, series); ++k) {
    const Bands bands = bands_of(tensors_.*kTensors[k], group, series);
    kernels::Strided &strided = job.*kernels::SumsJob::kTensors[k];
    job.channels = bands.channels;
    job.bands = bands.count;
    strided.channel = bands.channel_stride;
    strided.band = bands.stride;
  }
  job.accumulators = accumulators.lanes;
  job.accumulator_stride = accumulators.stride;
  set_channels(accumulators, 0, job);
  job.buffer = buffer;
  kernels_.run_sums(op, layout_of(sums_mode_), job);
}

void Blockwise::reduce(kernels::SumsOf op, const Group &part, const Accumulators &accumulators,
                       kernels::Sums *sums) const {
  const int terms = kernels::sums_count(op);
  const kernels::Layout layout = layout_of(sums_mode_);
  const int64_t first = layout == kernels::Layout::channels
                            ? part.channel
                            : part.channel * terms * kernels::accumulators_of(accumulators.wide);
  const bool is_around_pivot = op != kernels::SumsOf::forward && !accumulators.wide;
  kernels_.reduce(terms, layout, part.channels, accumulators.lanes + first, accumulators.stride,
                  is_around_pivot ? accumulators.center_lo + part.channel : nullptr, sums);
}

void Blockwise::map(kernels::MapOf op, const Group &group, const Blocks::Block &block,
                    const MapCoefficients &coefficients, bool streaming, int64_t next_group,
                    void *buffer) const {
  for (int64_t c = 0; c < group.channels;) {
    const int64_t regular = coefficients.regular_channels(c, group.channels);
    const Group range = {group.channel + c, regular};
    if (regular != 0 && !map_bands(op, range, block, coefficients.from(c), streaming))
      for_each_part(range, channel_block_, [&](const Group &part) {
        map_regular(op, part, block, coefficients.from(part.channel - group.channel), streaming,
                    next_group, buffer);
      });
    c += regular;
    if (c == group.channels) break;
    map_extreme(op, group.channel + c, block, coefficients.from(c), doubles_in(buffer));
    ++c;
  }
}

void Blockwise::set_activation(kernels::MapJob &job) const {
  job.activation = tensors_.activation;
  if (!has_bound()) return;
  job.activation = kernels::Activation::relu;
  job.slope = 0;
  job.bound = tensors_.bound;
}

// What maps in the order of memory fetch ahead, in bytes, because a core that computes keeps fewer
// lines on their way than one that copies. One thread, channels_last (32,1024,14,14): eval takes
// 0.86 of the time that it takes with 2 KiB, backward 0.88 of that with 1 KiB.
//
// Forward, and backward with frozen statistics, want nothing else in L1, and fetch into it where
// they stream. Zen 4, one thread, of the time with fetches into L2: eval of (32,1024,14,14) in NCHW
// 0.8, of (32,64,112,112) 0.9, of blocks (32,32,28,28,16) 0.75. Another backward reads x and dy
// that the sums have left in the caches in part: of blocks (32,128,7,7,16) it takes 1.15 that way.
// And what is fetched for the next group has to wait in L2: with L1, backward of (32,256,56,56)
// takes 1.2.
int64_t Blockwise::map_prefetch(kernels::MapOf op, bool streaming) const {
  if (tensor_bytes() <= kHeldBytes) return 0;
  const bool reads_x_and_dy = op != kernels::MapOf::forward && tensors_.x.exists();
  return streaming && !reads_x_and_dy ? kernels::MapJob::kIntoL1 : kernels::MapJob::kIntoL1 - 1;
}

constexpr int64_t kFewestRowsOfBand = 4;

bool Blockwise::maps_blocks(kernels::MapOf op, bool streaming) const {
  bool maps = channel_block_ != 1 && kernels_.maps_block(channel_block_) &&
              mode_ == Mode::channels && !is_pointwise() && op != kernels::MapOf::double_backward &&
              size_.plane() >= kFewestRowsOfBand;
  for (const auto tensor : kTensors) {
    const View &view = tensors_.*tensor;
    maps = maps && (!view.exists() || view.stride.w == channel_block_);
  }
  if (!maps || !streaming) return maps;
  const View &written = tensors_.out.exists() ? tensors_.out : tensors_.out2;
  return reinterpret_cast<uintptr_t>(written.data) % kLineBytes == 0 &&
         written.stride.n * dtype_size(dtype_) % kLineBytes == 0;
}

// Blocks of channels in the order of memory: all those of a sample, then those of the next one,
// with a kernel that keeps the coefficients of a block in registers. False, and nothing is done:
// blocks are not like that. On a CPU without AVX-512 (Zen 3) eval of (1,2048,7,7) in blocks of 8
// takes 0.7 of the time that it takes block by block; where stores stream, of (32,2048,7,7), whose
// blocks end in the middle of a line, 0.45.
bool Blockwise::map_bands(kernels::MapOf op, const Group &group, const Blocks::Block &block,
                          const MapCoefficients &coefficients, bool streaming) const {
  if (!maps_blocks(op, streaming) || block.length < kFewestRowsOfBand ||
      !are_whole_blocks(group, static_cast<int>(std::size(kTensors))))
    return false;
  auto job = job_of_map(group, block, coefficients);
  set_activation(job);
  job.channels = channel_block_;
  job.bands = group.channels / channel_block_;
  job.streaming = streaming;
  job.prefetch = map_prefetch(op, streaming);
  for (size_t k = 0; k < std::size(kTensors); ++k) {
    const View &view = tensors_.*kTensors[k];
    (job.*kernels::MapJob::kTensors[k]).band = bands_of(view, group, {}).stride;
  }
  if (streaming && !kernels::has_whole_lines(job, dtype_size(dtype_))) return false;
  kernels_.map_of(op, kernels::Layout::channels)(job);
  return true;
}

kernels::MapJob Blockwise::job_of_map(const Group &group, const Blocks::Block &block,
                                      const MapCoefficients &coefficients) const {
  auto job = job_of<kernels::MapJob>(group, block);
  set_strided(tensors_.out, group, block, job.out);
  set_strided(tensors_.out2, group, block, job.out2);
  job.coefficients = coefficients.regular;
  job.coefficient_stride = coefficients.stride;
  return job;
}

void Blockwise::map_regular(kernels::MapOf op, const Group &group, const Blocks::Block &block,
                            const MapCoefficients &coefficients, bool streaming, int64_t next_group,
                            void *buffer) const {
  const bool is_forward = op == kernels::MapOf::forward;
  const bool has_gradients = !is_forward && keeps_gradients();
  if (is_pointwise() && !has_gradients && !(is_forward && has_bound()))
    return pointwise_map(op, group, block, coefficients, streaming, buffer);
  if (mode_ == Mode::packed && !has_image_rows_)
    return packed_map(op, group, block, coefficients, streaming, packed_in(buffer));
  auto job = job_of_map(group, block, coefficients);
  if (has_gradients) {
    job.g = job.out;
    job.v = {};
  } else {
    set_activation(job);
  }
  if ((mode_ == Mode::planes || has_image_rows_) && next_group != 0) {
    const View &read = tensors_.x.exists() ? tensors_.x : tensors_.g;
    if (tensor_bytes() > kHeldBytes / 2)
      job.prefetch = (next_group * read.stride.c * dtype_size(dtype_)) | 1;
  } else if (!has_image_rows_) {
    job.prefetch = map_prefetch(op, streaming);
  }
  if (has_image_rows_) return map_by_image_rows(op, group, block, coefficients, job, buffer);
  job.streaming = streaming;
  map_rows(kernels_, op, layout(), job, dtype_, buffer);
}

// Planes whose rows have gaps between them, as those of a picture within a border: the rows of a
// plane are samples of one channel. Eval of (8,64,56,56) with a border takes a quarter of the time
// that copies of the planes take. The next group is fetched meanwhile, as with other planes, which
// is worth more here: backward of (32,64,56,56) takes 0.66 of the time, training 0.73.
void Blockwise::map_by_image_rows(kernels::MapOf op, const Group &group, const Blocks::Block &block,
                                  const MapCoefficients &coefficients, kernels::MapJob job,
                                  void *buffer) const {
  const Place place = place_of(group.channel);
  const int64_t width = size_.w, end = block.position + block.length;
  job.channels = 1;
  for (int64_t n = 0; n < block.samples; ++n)
    for (int64_t c = 0; c < group.channels; ++c) {
      job.coefficients = coefficients.from(c).regular;
      for (int64_t p = block.position; p < end; p += job.samples * job.length) {
        const bool is_whole = p % width == 0 && end - p >= width;
        job.samples = is_whole ? (end - p) / width : 1;
        job.length = is_whole ? width : std::min(width - p % width, end - p);
        for (size_t k = 0; k < std::size(kTensors); ++k) {
          const View &view = tensors_.*kTensors[k];
          kernels::Strided &rows = job.*kernels::MapJob::kTensors[k];
          if (rows.data == nullptr) continue;
          rows.data = view.at(place.sample + block.first_sample + n, place.channel + c, p / width,
                              p % width);
          rows.sample = view.stride.h;
        }
        map_rows(kernels_, op, kernels::Layout::planes, job, dtype_, buffer);
      }
    }
}

}  // namespace bn2d
