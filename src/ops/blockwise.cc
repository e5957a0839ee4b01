#include "ops/blockwise.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "ops/long_rows.h"

namespace bn2d {
namespace {

constexpr uintptr_t kLine = 64;

template <class T>
void gather_run(const std::byte *from, int64_t stride, int64_t count, void *to) {
  const T *source = reinterpret_cast<const T *>(from);
  T *target = static_cast<T *>(to);
  for (int64_t i = 0; i < count; ++i) target[i] = source[i * stride];
}

template <class T>
void scatter_run(const void *from, int64_t stride, int64_t count, std::byte *to) {
  const T *source = static_cast<const T *>(from);
  T *target = reinterpret_cast<T *>(to);
  for (int64_t i = 0; i < count; ++i) target[i * stride] = source[i];
}

// Calls f(memory, offset, count) for each run of constant stride in positions [position, position + length) of a plane.
template <class F>
void for_each_run(const View &view, int64_t n, int64_t c, int64_t position, int64_t length, F f) {
  if (plane_collapses(view))
    return f(view.at(n, c, 0, 0) + position * view.stride.w * dtype_size(view.dtype), int64_t{0}, length);
  for (int64_t done = 0; done < length;) {
    const int64_t h = (position + done) / view.size.w, w = (position + done) % view.size.w;
    const int64_t count = std::min(view.size.w - w, length - done);
    f(view.at(n, c, h, w), done, count);
    done += count;
  }
}

void gather(const View &view, int64_t n, int64_t c, int64_t position, int64_t length, std::byte *to) {
  const int64_t bytes = dtype_size(view.dtype);
  for_each_run(view, n, c, position, length, [&](const std::byte *from, int64_t offset, int64_t count) {
    std::byte *target = to + offset * bytes;
    if (view.stride.w == 1) {
      std::memcpy(target, from, static_cast<size_t>(count * bytes));
    } else if (bytes == 4) {
      gather_run<uint32_t>(from, view.stride.w, count, target);
    } else if (bytes == 2) {
      gather_run<uint16_t>(from, view.stride.w, count, target);
    } else {
      gather_run<uint64_t>(from, view.stride.w, count, target);
    }
  });
}

void scatter(const std::byte *from, const View &view, int64_t n, int64_t c, int64_t position, int64_t length) {
  const int64_t bytes = dtype_size(view.dtype);
  for_each_run(view, n, c, position, length, [&](std::byte *to, int64_t offset, int64_t count) {
    const std::byte *source = from + offset * bytes;
    if (view.stride.w == 1) {
      std::memcpy(to, source, static_cast<size_t>(count * bytes));
    } else if (bytes == 4) {
      scatter_run<uint32_t>(source, view.stride.w, count, to);
    } else if (bytes == 2) {
      scatter_run<uint16_t>(source, view.stride.w, count, to);
    } else {
      scatter_run<uint64_t>(source, view.stride.w, count, to);
    }
  });
}

// One piece of one plane of a tensor that is read: in place where it is contiguous, else packed.
const void *read_piece(const View &view, int64_t n, int64_t c, int64_t position, int64_t length, std::byte *buffer) {
  if (!view.exists()) return nullptr;
  if (has_contiguous_planes(view)) return view.at(n, c, 0, 0) + position * dtype_size(view.dtype);
  gather(view, n, c, position, length, buffer);
  return buffer;
}

// Where one piece of one plane of a tensor is written: in place where that is contiguous, else to the buffer.
void *write_piece(const View &view, int64_t n, int64_t c, int64_t position, std::byte *buffer) {
  if (!view.exists()) return nullptr;
  if (has_contiguous_planes(view)) return view.at(n, c, 0, 0) + position * dtype_size(view.dtype);
  return buffer;
}

kernels::Stream piece_stream(const void *data) {
  kernels::Stream stream;
  stream.data = const_cast<void *>(data);
  stream.position = 1;
  return stream;
}

}  // namespace

int64_t mask_plane_bytes(int64_t plane) { return plane / 8 + (plane % 8 != 0); }

Blockwise::Blockwise(const Tensors &tensors, const Extents &size, DType dtype)
    : tensors_(tensors), size_(size), dtype_(dtype), blocks_(make_blocks(size)), kernels_(kernels::active().of(dtype)) {
  bool planes = tensors.side_mask == nullptr && tensors.sign_mask == nullptr, channels = planes;
  for (const View *view : {&tensors.x, &tensors.g, &tensors.side, &tensors.v, &tensors.out, &tensors.out2}) {
    if (!view->exists()) continue;
    planes = planes && has_contiguous_planes(*view);
    channels = channels && has_contiguous_channels(*view);
  }
  // Where both fit (planes of one element), vectors along the channels are the fuller ones.
  const bool prefer_channels = size.plane() < 8 && size.c > size.plane();
  mode_ = channels && (prefer_channels || !planes) ? Mode::channels : planes ? Mode::planes : Mode::packed;
}

kernels::Stream Blockwise::stream(const View &view, const Group &group, const Blocks::Block &block) const {
  kernels::Stream stream;
  if (!view.exists()) return stream;
  stream.data = view.at(block.first_sample, group.channel, 0, 0) + block.position * view.stride.w * dtype_size(dtype_);
  stream.channel = view.stride.c;
  stream.sample = view.stride.n;
  stream.position = view.stride.w;
  return stream;
}

template <class Job>
Job Blockwise::job_of(const Group &group, const Blocks::Block &block) const {
  Job job;
  job.channels = group.channels;
  job.samples = block.samples;
  job.length = block.length;
  job.x = stream(tensors_.x, group, block);
  job.g = stream(tensors_.g, group, block);
  job.side = stream(tensors_.side, group, block);
  job.v = stream(tensors_.v, group, block);
  job.slope = tensors_.slope;
  return job;
}

// The same of one piece of one plane.
template <class Job>
Job Blockwise::job_of_piece(int64_t n, int64_t c, int64_t position, int64_t length,
                            std::byte (&buffer)[4][kPieceBytes]) const {
  Job job;
  job.channels = job.samples = 1;
  job.length = length;
  job.x = piece_stream(read_piece(tensors_.x, n, c, position, length, buffer[0]));
  job.g = piece_stream(read_piece(tensors_.g, n, c, position, length, buffer[1]));
  job.v = piece_stream(read_piece(tensors_.v, n, c, position, length, buffer[3]));
  if (tensors_.side_mask != nullptr) {
    kernels_.expand_mask(tensors_.side_mask + mask_offset(n, c, position), length, buffer[2]);
    job.side = piece_stream(buffer[2]);
  } else if (tensors_.side.data == tensors_.x.data) {
    job.side = job.x;
  } else {
    job.side = piece_stream(read_piece(tensors_.side, n, c, position, length, buffer[2]));
  }
  job.slope = tensors_.slope;
  return job;
}

int64_t Blockwise::mask_offset(int64_t n, int64_t c, int64_t position) const {
  return (n * size_.c + c) * mask_plane_bytes(size_.plane()) + position / 8;
}

void Blockwise::accumulate(kernels::SumsOf op, const Group &group, int64_t index,
                           const Accumulators &accumulators) const {
  const Blocks::Block block = blocks_.at(index);
  if (mode_ == Mode::packed) return packed_sums(op, group, block, accumulators);
  auto job = job_of<kernels::SumsJob>(group, block);
  if (index + 1 < blocks_.count) {
    const Blocks::Block next = blocks_.at(index + 1);
    job.next = (next.first_sample - block.first_sample) * tensors_.x.stride.n + next.position - block.position;
  }
  job.accumulators = accumulators.lanes;
  job.accumulator_stride = accumulators.stride;
  job.center_hi = accumulators.center_hi;
  job.center_lo = accumulators.center_lo;
  job.side_sign = accumulators.side_sign;
  job.side_threshold = accumulators.side_threshold;
  if (sum_long_rows(kernels_, op, layout(), job, dtype_)) return;
  kernels_.sums[static_cast<int>(op)][static_cast<int>(layout())](job);
}

void Blockwise::reduce(kernels::SumsOf op, const Group &part, const Accumulators &accumulators,
                       kernels::Sums *sums) const {
  const int64_t first = layout() == kernels::Layout::channels
                            ? part.channel
                            : part.channel * kernels::sums_count(op) * kernels::kAccumulators;
  kernels_.reduce(op, layout(), part.channels, accumulators.lanes + first, accumulators.stride,
                  accumulators.center_hi + part.channel, sums);
}

void Blockwise::packed_sums(kernels::SumsOf op, const Group &group, const Blocks::Block &block,
                            const Accumulators &accumulators) const {
  alignas(64) std::byte buffer[4][kPieceBytes];
  for (int64_t n = block.first_sample; n < block.first_sample + block.samples; ++n)
    for (int64_t done = 0; done < block.length; done += kPiece)
      for (int64_t c = 0; c < group.channels; ++c) {
        auto job = job_of_piece<kernels::SumsJob>(n, group.channel + c, block.position + done,
                                                  std::min(kPiece, block.length - done), buffer);
        job.first = n == block.first_sample && done == 0;
        job.accumulators = accumulators.lanes + c * kernels::sums_count(op) * kernels::kAccumulators;
        job.center_hi = accumulators.center_hi + c;
        job.center_lo = accumulators.center_lo + c;
        job.side_sign = static_cast<const std::byte *>(accumulators.side_sign) + c * arithmetic_size(dtype_);
        job.side_threshold = static_cast<const std::byte *>(accumulators.side_threshold) + c * arithmetic_size(dtype_);
        kernels_.sums[static_cast<int>(op)][static_cast<int>(kernels::Layout::planes)](job);
      }
}

void Blockwise::map(kernels::MapOf op, const Group &group, const Blocks::Block &block, const Coefficients &coefficients,
                    bool streaming, int64_t next_group) const {
  if (mode_ == Mode::packed) return packed_map(op, group, block, coefficients, streaming);
  auto job = job_of<kernels::MapJob>(group, block);
  job.out = stream(tensors_.out, group, block);
  job.out2 = stream(tensors_.out2, group, block);
  job.coefficients = coefficients.data;
  job.coefficient_stride = coefficients.stride;
  job.activation = tensors_.activation;
  job.streaming = streaming;
  // Where there is no next group, a little ahead in the same run of memory: the arithmetic of one vector leaves a core
  // fewer lines on their way than a copy has (measured: a tenth of the time of eval; two tensors fill up sooner).
  job.prefetch = op == kernels::MapOf::backward ? 1024 : 2048;
  if (mode_ == Mode::planes && next_group != 0)
    job.prefetch = next_group * (tensors_.x.exists() ? tensors_.x : tensors_.g).stride.c * dtype_size(dtype_);
  if (map_long_rows(kernels_, op, layout(), job, dtype_)) return;
  kernels_.map[static_cast<int>(op)][static_cast<int>(layout())](job);
}

void Blockwise::packed_map(kernels::MapOf op, const Group &group, const Blocks::Block &block,
                           const Coefficients &coefficients, bool streaming) const {
  alignas(64) std::byte buffer[4][kPieceBytes], written[2][kPieceBytes];
  const int64_t coefficient_bytes = arithmetic_size(dtype_);
  for (int64_t n = block.first_sample; n < block.first_sample + block.samples; ++n)
    for (int64_t done = 0; done < block.length; done += kPiece)
      for (int64_t c = 0; c < group.channels; ++c) {
        const int64_t channel = group.channel + c, position = block.position + done;
        auto job = job_of_piece<kernels::MapJob>(n, channel, position, std::min(kPiece, block.length - done), buffer);
        job.activation = tensors_.activation;
        job.coefficients = static_cast<const std::byte *>(coefficients.data) + c * coefficient_bytes;
        job.coefficient_stride = coefficients.stride;
        void *const out = write_piece(tensors_.out, n, channel, position, written[0]);
        void *const out2 =
            tensors_.sign_mask != nullptr ? written[1] : write_piece(tensors_.out2, n, channel, position, written[1]);
        job.out = piece_stream(out);
        job.out2 = piece_stream(out2);
        job.streaming =
            streaming && out != nullptr && out != written[0] && reinterpret_cast<uintptr_t>(out) % kLine == 0;
        kernels_.map[static_cast<int>(op)][static_cast<int>(kernels::Layout::planes)](job);
        if (out == written[0]) scatter(written[0], tensors_.out, n, channel, position, job.length);
        if (out2 == written[1] && tensors_.out2.exists())
          scatter(written[1], tensors_.out2, n, channel, position, job.length);
        if (tensors_.sign_mask != nullptr)
          kernels_.pack_mask(written[1], job.length, tensors_.sign_mask + mask_offset(n, channel, position));
      }
}

}  // namespace bn2d
