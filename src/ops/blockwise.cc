#include "ops/blockwise.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "ops/long_rows.h"
#include "tensor/overlap.h"

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

// Where a piece of a tensor is in memory: in place where its planes are contiguous, else packed, plane after plane.
kernels::Stream piece_stream(const View &view, const Blockwise::Piece &piece, std::byte *buffer) {
  kernels::Stream stream;
  if (!view.exists()) return stream;
  const bool in_place = has_contiguous_planes(view);
  stream.data = in_place ? view.at(piece.n, piece.channel, 0, 0) + piece.position * dtype_size(view.dtype) : buffer;
  stream.channel = in_place ? view.stride.c : piece.length;
  stream.position = 1;
  return stream;
}

// The same for a tensor that is read: what is packed is there.
kernels::Stream read_piece(const View &view, const Blockwise::Piece &piece, std::byte *buffer) {
  const kernels::Stream stream = piece_stream(view, piece, buffer);
  for (int64_t c = 0; stream.data == buffer && c < piece.channels; ++c)
    gather(view, piece.n, piece.channel + c, piece.position, piece.length,
           buffer + c * piece.length * dtype_size(view.dtype));
  return stream;
}

// What was packed, back to where it belongs.
void write_piece(const kernels::Stream &stream, const View &view, const Blockwise::Piece &piece,
                 const std::byte *buffer) {
  for (int64_t c = 0; stream.data == buffer && c < piece.channels; ++c)
    scatter(buffer + c * piece.length * dtype_size(view.dtype), view, piece.n, piece.channel + c, piece.position,
            piece.length);
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

// The same of one piece.
template <class Job>
Job Blockwise::job_of_piece(const Piece &piece, std::byte (&buffer)[4][kPieceBytes]) const {
  Job job;
  job.channels = piece.channels;
  job.samples = 1;
  job.length = piece.length;
  job.x = read_piece(tensors_.x, piece, buffer[0]);
  job.g = read_piece(tensors_.g, piece, buffer[1]);
  job.v = read_piece(tensors_.v, piece, buffer[3]);
  if (tensors_.side_mask != nullptr) {
    const int64_t bytes = piece.length * dtype_size(dtype_);
    for (int64_t c = 0; c < piece.channels; ++c)
      kernels_.expand_mask(tensors_.side_mask + mask_offset(piece, c), piece.length, buffer[2] + c * bytes);
    job.side.data = buffer[2];
    job.side.channel = piece.length;
    job.side.position = 1;
  } else if (tensors_.side.exists() && tensors_.x.exists() && same_elements(tensors_.side, tensors_.x)) {
    job.side = job.x;  // packed once
  } else {
    job.side = read_piece(tensors_.side, piece, buffer[2]);
  }
  job.slope = tensors_.slope;
  return job;
}

// Calls f(piece) for the pieces of a block: of each sample, in the order of the canonical lanes.
template <class F>
void Blockwise::for_each_piece(const Group &group, const Blocks::Block &block, const F &f) const {
  const int64_t at_once = std::max(kPiece / block.length, int64_t{1});
  for (int64_t n = block.first_sample; n < block.first_sample + block.samples; ++n)
    for (int64_t done = 0; done < block.length; done += kPiece)
      for (int64_t c = 0; c < group.channels; c += at_once)
        f(Piece{n, group.channel + c, std::min(at_once, group.channels - c), block.position + done,
                std::min(kPiece, block.length - done)});
}

int64_t Blockwise::mask_offset(const Piece &piece, int64_t c) const {
  return (piece.n * size_.c + piece.channel + c) * mask_plane_bytes(size_.plane()) + piece.position / 8;
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
  for_each_piece(group, block, [&](const Piece &piece) {
    const int64_t c = piece.channel - group.channel;
    auto job = job_of_piece<kernels::SumsJob>(piece, buffer);
    job.first = piece.n == block.first_sample && piece.position == block.position;
    job.accumulators = accumulators.lanes + c * kernels::sums_count(op) * kernels::kAccumulators;
    job.center_hi = accumulators.center_hi + c;
    job.center_lo = accumulators.center_lo + c;
    job.side_sign = static_cast<const std::byte *>(accumulators.side_sign) + c * arithmetic_size(dtype_);
    job.side_threshold = static_cast<const std::byte *>(accumulators.side_threshold) + c * arithmetic_size(dtype_);
    kernels_.sums[static_cast<int>(op)][static_cast<int>(kernels::Layout::planes)](job);
  });
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
  for_each_piece(group, block, [&](const Piece &piece) {
    auto job = job_of_piece<kernels::MapJob>(piece, buffer);
    job.activation = tensors_.activation;
    job.coefficients =
        static_cast<const std::byte *>(coefficients.data) + (piece.channel - group.channel) * arithmetic_size(dtype_);
    job.coefficient_stride = coefficients.stride;
    job.out = piece_stream(tensors_.out, piece, written[0]);
    job.out2 = piece_stream(tensors_.out2, piece, written[1]);
    if (tensors_.sign_mask != nullptr) {
      job.out2.data = written[1];
      job.out2.channel = piece.length;
      job.out2.position = 1;
    }
    job.streaming = streaming && job.out.data != nullptr && job.out.data != written[0] &&
                    reinterpret_cast<uintptr_t>(job.out.data) % kLine == 0;
    kernels_.map[static_cast<int>(op)][static_cast<int>(kernels::Layout::planes)](job);
    write_piece(job.out, tensors_.out, piece, written[0]);
    if (tensors_.sign_mask == nullptr) return write_piece(job.out2, tensors_.out2, piece, written[1]);
    const int64_t bytes = piece.length * dtype_size(dtype_);
    for (int64_t c = 0; c < piece.channels; ++c)
      kernels_.pack_mask(written[1] + c * bytes, piece.length, tensors_.sign_mask + mask_offset(piece, c));
  });
}

}  // namespace bn2d
