// Blockwise, where tensors have no layout in common: packed copies of pieces, masks, and extreme
// channels as doubles.
#include <algorithm>
#include <iterator>

#include "base/cache_line.h"
#include "ops/blockwise.h"
#include "ops/operations.h"
#include "ops/unbounded.h"
#include "tensor/overlap.h"

namespace bn2d {
namespace {

constexpr size_t kSide = 2, kOut2 = 5;
static_assert(kTensors[kSide] == &Tensors::side && kTensors[kOut2] == &Tensors::out2);

// Where a piece of a tensor is in memory: in place where its planes are contiguous, else packed.
kernels::Strided piece_strided(const View &view, const Blockwise::Piece &piece, std::byte *buffer) {
  if (!view.exists()) return {};
  if (!has_contiguous_planes(view)) return packed_strided(buffer, piece);
  kernels::Strided strided;
  strided.data = view.at(piece.n, piece.channel, 0, 0) + piece.position * dtype_size(view.dtype);
  strided.channel = view.stride.c;
  strided.sample = view.stride.n;
  strided.position = 1;
  return strided;
}

// Whether all its planes begin with a cache line: else the ends of each would be written in part.
bool begins_lines(const kernels::Strided &strided, int64_t element) {
  const auto is_whole = [](int64_t bytes) { return bytes % kLineBytes == 0; };
  return is_whole(static_cast<int64_t>(reinterpret_cast<uintptr_t>(strided.data))) &&
         is_whole(strided.channel * element) && is_whole(strided.sample * element);
}

// As piece_strided(), for a tensor that is read: its elements are packed first.
kernels::Strided read_piece(const View &view, const Blockwise::Piece &piece, bool is_far,
                            std::byte *buffer) {
  const kernels::Strided strided = piece_strided(view, piece, buffer);
  if (strided.data == buffer) gather(view, piece, strides_of(piece), buffer, {is_far, false});
  return strided;
}

// Elements of one channel as doubles, and back.
void load_doubles(const View &view, const Blockwise::Piece &piece, std::byte *unconverted,
                  double *to) {
  gather(view, piece, strides_of(piece), unconverted);
  load_elements(view.dtype, unconverted, 0, piece.samples * piece.length, to);
}
void store_doubles(const double *from, std::byte *unconverted, const View &view,
                   const Blockwise::Piece &piece) {
  store_elements(view.dtype, unconverted, 0, piece.samples * piece.length, from);
  scatter(unconverted, strides_of(piece), view, piece);
}

// What was packed, back to where it belongs.
void write_piece(const kernels::Strided &strided, const View &view, const Blockwise::Piece &piece,
                 const std::byte *buffer, bool streaming) {
  if (strided.data == buffer) scatter(buffer, strides_of(piece), view, piece, {false, streaming});
}

// Calls f(sample, channel, first element in the packed copy) for the parts of planes that a piece
// has.
template <class F>
void for_each_plane(const Blockwise::Piece &piece, F f) {
  for (int64_t c = 0; c < piece.channels; ++c)
    for (int64_t n = 0; n < piece.samples; ++n)
      f(piece.n + n, piece.channel + c, (c * piece.samples + n) * piece.length);
}

}  // namespace

// What is packed: by the maps, and by the sums where what they read has no layout in common either.
void Blockwise::set_packed() {
  has_image_rows_ =
      tensors_.side_mask == nullptr && tensors_.sign_mask == nullptr && !is_pointwise();
  for (size_t k = 0; k < std::size(kTensors); ++k) {
    const View &view = tensors_.*kTensors[k];
    if (!view.exists()) continue;
    is_packed_[k] = !has_contiguous_planes(view);
    transposes_ = transposes_ || (is_packed_[k] && view.stride.c == 1);
    has_image_rows_ = has_image_rows_ && view.stride.w == 1 && view.channel_block == 0;
  }
  if (tensors_.side_mask != nullptr) is_packed_[kSide] = true;
  if (tensors_.sign_mask != nullptr) is_packed_[kOut2] = true;
  // Rows of channels are read the better, the more channels at once: eval of (32,64,56,56) to
  // planes takes 0.5 of the time with 32 KB that it takes with 8.
  constexpr int32_t kLargest = 32 * 1024;
  static_assert(kBufferBytes / static_cast<int64_t>(std::size(kTensors)) >= kSmallestPieceBytes);
  const auto count = std::count(std::begin(is_packed_), std::end(is_packed_), true);
  const int64_t share = kBufferBytes / std::max<int64_t>(count, 1) / kLineBytes * kLineBytes;
  piece_bytes_ = static_cast<int32_t>(std::min<int64_t>(share, kLargest));
  if (!transposes_) max_group_ = 16;
  if (!is_pointwise()) sums_mode_ = mode_for(summed_tensors(), tensors_.side_mask != nullptr);
  if (sums_mode_ == Mode::packed) set_stage();
}

// The tensors that are packed share the buffer. The others have no area: their pointer is that of
// the next one, and is not used.
Blockwise::Packed Blockwise::packed_in(void *buffer) const {
  std::byte *areas[std::size(kTensors)], *next = static_cast<std::byte *>(buffer);
  for (size_t k = 0; k < std::size(kTensors); ++k) {
    areas[k] = next;
    if (is_packed_[k]) next += piece_bytes_;
  }
  return {{areas[0], areas[1], areas[kSide], areas[3]}, {areas[4], areas[kOut2]}, nullptr};
}
Blockwise::Packed Blockwise::doubles_in(void *buffer) {
  constexpr int64_t kBytes = kPiece * 8;
  static_assert(7 * kBytes <= kBufferBytes);
  const auto area = [&](int k) { return static_cast<std::byte *>(buffer) + k * kBytes; };
  return {{area(0), area(1), area(2), area(3)}, {area(4), area(5)}, area(6)};
}

// What a job reads of one piece: job_of() of packed copies.
template <class Job>
Job Blockwise::job_of_piece(const Piece &piece, bool reads_v, const Packed &packed) const {
  Job job;
  job.channels = piece.channels;
  job.samples = piece.samples;
  job.length = piece.length;
  const bool is_far = tensor_bytes() > kHeldBytes;
  const auto read = [&](const View &view, std::byte *buffer) {
    return read_piece(view, piece, is_far, buffer);
  };
  job.x = read(tensors_.x, packed.read[0]);
  job.g = read(tensors_.g, packed.read[1]);
  if (reads_v) job.v = read(tensors_.v, packed.read[3]);
  if (tensors_.side_mask != nullptr) {
    expand_signs(kernels_, piece, dtype_size(dtype_), packed.read[2]);
    job.side = packed_strided(packed.read[2], piece);
  } else if (tensors_.side.exists() && tensors_.x.exists() &&
             same_elements(tensors_.side, tensors_.x)) {
    job.side = job.x;  // packed once
  } else {
    job.side = read(tensors_.side, packed.read[2]);
  }
  job.slope = tensors_.slope;
  return job;
}

// The same of a piece of an extreme channel, as doubles.
kernels::MapJob Blockwise::job_of_extreme_piece(const Piece &piece, const Packed &packed) const {
  const auto read = [&](const View &view, std::byte *to) {
    if (!view.exists()) return kernels::Strided();
    load_doubles(view, piece, packed.unconverted, reinterpret_cast<double *>(to));
    return packed_strided(to, piece);
  };
  kernels::MapJob job;
  job.channels = 1;
  job.samples = piece.samples;
  job.length = piece.length;
  job.x = read(tensors_.x, packed.read[0]);
  job.g = read(tensors_.g, packed.read[1]);
  job.side = read(tensors_.side, packed.read[2]);
  job.v = read(tensors_.v, packed.read[3]);
  if (tensors_.side_mask != nullptr) {
    expand_signs(*kernels::active().f64, piece, sizeof(double), packed.read[2]);
    job.side = packed_strided(packed.read[2], piece);
  }
  job.slope = tensors_.slope;
  if (!is_pointwise()) {
    job.activation = tensors_.activation;
  } else if (tensors_.preactivation != nullptr) {
    activate_extreme(piece, packed, job);
  }
  return job;
}

// Calls f(piece) for the pieces of a block. Small planes come several samples at a time: whole runs
// of the sums. What is transposed comes a run at a time, of whole cache lines of channels: as many
// as fit a piece.
template <class F>
void Blockwise::for_each_piece(const Group &group, const Blocks::Block &block, const F &f) const {
  const bool across = transposes_ && group.channels > 1;
  const int64_t samples = kernels::planes_of_run(block.length);
  const int64_t length = std::min(block.length, across ? kernels::kRunElements : kPiece);
  const int64_t element = dtype_size(dtype_), line = across ? kLineBytes / element : 1;
  const int64_t at_once =
      std::max(piece_bytes_ / element / (samples * length) / line, int64_t{1}) * line;
  const Place place = place_of(group.channel);
  const int64_t first = place.sample + block.first_sample, end = first + block.samples;
  for (int64_t n = first; n < end; n += samples)
    for (int64_t done = 0; done < block.length; done += length)
      for (int64_t c = 0; c < group.channels; c += at_once) {
        const bool is_last = c + at_once >= group.channels;
        f(Piece{{n, std::min(samples, end - n), place.channel + c,
                 std::min(at_once, group.channels - c), block.position + done,
                 std::min(length, block.length - done)},
                c,
                n == first && done == 0,
                is_last ? -c : at_once,
                is_last ? length : 0});
      }
}

// Where the mask has the first position of a part of a plane.
int64_t Blockwise::mask_place(const Piece &piece, int64_t n, int64_t c) const {
  if (tensors_.has_byte_masks) {
    const int64_t channels = sets_.size.c;
    n += c / channels * sets_.samples;  // where the channels of all sets are one row
    return (n * size_.plane() + piece.position) * channels + c % channels;
  }
  return (n * sets_.size.c + c) * mask_plane_bytes(size_.plane()) + piece.position / 8;
}

// The elements +1 and -1 that the bits of a mask stand for.
void Blockwise::expand_signs(const kernels::TypeKernels &kernels, const Piece &piece,
                             int64_t element_bytes, std::byte *signs) const {
  for_each_plane(piece, [&](int64_t n, int64_t c, int64_t at) {
    const uint8_t *bits = tensors_.side_mask + mask_place(piece, n, c);
    uint8_t gathered[kPiece / 8] = {};
    if (tensors_.has_byte_masks) {
      for (int64_t i = 0; i < piece.length; ++i)
        gathered[i / 8] |= static_cast<uint8_t>((bits[i * sets_.size.c] & 1) << i % 8);
      bits = gathered;
    }
    kernels.expand_mask(bits, piece.length, signs + at * element_bytes);
  });
}

void Blockwise::packed_sums(kernels::SumsOf op, const Group &group, const Blocks::Block &block,
                            const Accumulators &accumulators, bool in_double,
                            const Packed &packed) const {
  for_each_piece(group, block, [&](const Piece &piece) {
    const int64_t c = piece.in_group;
    auto job =
        job_of_piece<kernels::SumsJob>(piece, op == kernels::SumsOf::double_backward, packed);
    job.in_double = in_double;
    job.first = piece.is_first;
    job.accumulators = accumulators.lanes +
                       c * kernels::sums_count(op) * kernels::accumulators_of(accumulators.wide);
    set_channels(accumulators, c, job);
    kernels_.run_sums(op, kernels::Layout::planes, job);
  });
}

void Blockwise::visit(int64_t channel, void *buffer, void *object,
                      void (*call)(void *, const kernels::MapJob &)) const {
  const Packed packed = doubles_in(buffer);
  for (int64_t block = 0; block < blocks_.count; ++block)
    for_each_piece({channel, 1}, blocks_.at(block),
                   [&](const Piece &piece) { call(object, job_of_extreme_piece(piece, packed)); });
}

// The bits of signs that were written as elements +1 and -1.
void Blockwise::pack_signs(const kernels::TypeKernels &kernels, const std::byte *signs,
                           int64_t element_bytes, const Piece &piece) const {
  for_each_plane(piece, [&](int64_t n, int64_t c, int64_t at) {
    uint8_t *const mask = tensors_.sign_mask + mask_place(piece, n, c);
    if (!tensors_.has_byte_masks)
      return kernels.pack_mask(signs + at * element_bytes, piece.length, mask);
    uint8_t bits[kPiece / 8];
    kernels.pack_mask(signs + at * element_bytes, piece.length, bits);
    for (int64_t i = 0; i < piece.length; ++i) mask[i * sets_.size.c] = bits[i / 8] >> i % 8 & 1;
  });
}

// What is read in place are short stretches of planes, far apart: the hardware does not see what
// comes next. So the next piece is fetched meanwhile: eval of 32x64x56x56 from planes to
// channels_last took 0.77 of the time with that. From memory it is mapped a few channels at a time,
// each of which fetches the next ones: tiles are often mapped from the last one to the first, and
// then nothing has fetched the first piece of a tile. Training of (32,64,56,56) from planes to
// channels_last takes 0.88 of the time so.
void Blockwise::map_piece(kernels::MapOf op, const Piece &piece, const Packed &packed,
                          const kernels::MapJob &whole) const {
  constexpr int64_t kLines = 2;
  const int64_t element = dtype_size(dtype_), at_once = tensor_bytes() > kHeldBytes
                                                            ? kLines * kLineBytes / element
                                                            : piece.channels;
  const kernels::Strided &read = whole.x.data ? whole.x : whole.g;
  const bool reads_copy = read.data == packed.read[0] || read.data == packed.read[1];
  const auto bytes_to = [&](int64_t channels) { return channels * read.channel * element; };
  kernels::MapJob job = whole;
  for (int64_t c = 0; c < piece.channels; c += job.channels) {
    job.channels = std::min(at_once, piece.channels - c);
    const bool is_last = c + job.channels == piece.channels;
    if (!reads_copy)
      job.prefetch = (is_last ? bytes_to(piece.next_channel - c) + piece.next_position * element
                              : bytes_to(job.channels)) |
                     1;
    kernels_.map_of(op, kernels::Layout::planes)(job);
    for (const auto tensor : kernels::MapJob::kTensors) {
      kernels::Strided &strided = job.*tensor;
      if (strided.data != nullptr)
        strided.data =
            static_cast<std::byte *>(strided.data) + job.channels * strided.channel * element;
    }
    job.coefficients = static_cast<const std::byte *>(job.coefficients) +
                       job.channels * dtype_size(arithmetic_dtype(dtype_));
  }
}

void Blockwise::packed_map(kernels::MapOf op, const Group &group, const Blocks::Block &block,
                           const MapCoefficients &coefficients, bool streaming,
                           const Packed &packed) const {
  for_each_piece(group, block, [&](const Piece &piece) {
    auto job = job_of_piece<kernels::MapJob>(piece, true, packed);
    set_activation(job);
    job.coefficients = coefficients.from(piece.in_group).regular;
    job.coefficient_stride = coefficients.stride;
    job.out = piece_strided(tensors_.out, piece, packed.written[0]);
    job.out2 = tensors_.sign_mask ? packed_strided(packed.written[1], piece)
                                  : piece_strided(tensors_.out2, piece, packed.written[1]);
    job.streaming = streaming && job.out.data != nullptr && job.out.data != packed.written[0] &&
                    begins_lines(job.out, dtype_size(dtype_));
    map_piece(op, piece, packed, job);
    write_piece(job.out, tensors_.out, piece, packed.written[0], streaming);
    if (tensors_.sign_mask == nullptr)
      return write_piece(job.out2, tensors_.out2, piece, packed.written[1], streaming);
    pack_signs(kernels_, packed.written[1], dtype_size(dtype_), piece);
  });
}

void Blockwise::map_extreme(kernels::MapOf op, int64_t channel, const Blocks::Block &block,
                            const MapCoefficients &coefficients, const Packed &packed) const {
  const kernels::TypeKernels &kernels = *kernels::active().f64;
  const bool has_out2 = tensors_.out2.exists() || tensors_.sign_mask != nullptr;
  for_each_piece({channel, 1}, block, [&](const Piece &piece) {
    auto job = job_of_extreme_piece(piece, packed);
    job.coefficients = coefficients.extreme;
    job.coefficient_stride = coefficients.stride;
    if (tensors_.out.exists()) job.out = packed_strided(packed.written[0], piece);
    if (has_out2) job.out2 = packed_strided(packed.written[1], piece);
    if (dtype_ == DType::f64) {
      unbounded::map(op, job, coefficients.exponents);
    } else {
      kernels.map_of(op, kernels::Layout::planes)(job);
    }
    if (is_pointwise() && op == kernels::MapOf::forward)
      activate_doubles(packed.written[0], nullptr, packed.written[0], unbounded::count(job));
    const auto write = [&](const std::byte *from, const View &to) {
      if (to.exists())
        store_doubles(reinterpret_cast<const double *>(from), packed.unconverted, to, piece);
    };
    write(packed.written[0], tensors_.out);
    if (tensors_.sign_mask != nullptr)
      return pack_signs(kernels, packed.written[1], sizeof(double), piece);
    write(packed.written[1], tensors_.out2);
  });
}

}  // namespace bn2d
