// Walks the elements of an operation's tensors block by block and feeds them to the kernels: straight from memory where
// the layout allows, else through a small packed copy. The one place that knows layouts.
#pragma once
#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"
#include "parallel/plan.h"
#include "tensor/view.h"

namespace bn2d {

// The tensors of one call. A view without data takes no part.
struct Tensors {
  View x, g, side, v;                  // read
  const uint8_t *side_mask = nullptr;  // instead of side: one bit per element, each plane in whole bytes; 1: positive
  View out, out2;                      // written
  uint8_t *sign_mask = nullptr;        // written (forward): 1 where the activation's argument is positive
  kernels::Activation activation = kernels::Activation::none;
  double slope = 0;
};

int64_t mask_plane_bytes(int64_t plane);

// Where tensors are contiguous both as planes and as channels (planes of one element), vectors along the channels are
// the fuller ones.
inline bool prefers_channels(const Extents &size) { return size.plane() < 8 && size.c > size.plane(); }

// The sums of a group while its elements are added, and what they are around.
struct Accumulators {
  static constexpr int64_t kArrays = 4;
  double *lanes;
  double *center_hi, *center_lo;     // per channel
  void *side_sign, *side_threshold;  // per channel, in the arithmetic type
  int64_t stride;                    // channels that there is room for

  static constexpr int64_t doubles(int sums, int64_t channels) {
    return (sums * int64_t{kernels::kAccumulators} + kArrays) * channels;
  }
  Accumulators(double *memory, int sums, int64_t channels)
      : lanes(memory),
        center_hi(memory + sums * int64_t{kernels::kAccumulators} * channels),
        center_lo(center_hi + channels),
        side_sign(center_lo + channels),
        side_threshold(center_lo + 2 * channels),
        stride(channels) {}
};

// The powers of two between an extreme channel (kernels/kernels.h) in memory and in arithmetic: an
// element x enters as x * 2^x, and a result leaves as result * 2^out. All are 0 for float data,
// whose whole range is safe in double. An example for double data: x = {1e200, -1e200} has squares
// that overflow. It is summed and mapped as x * 2^-650.
struct Scaling {
  int x = 0, g = 0, out = 0, out2 = 0;
};

// The coefficients of a map for some channels: coefficient k of channel c at [k*stride + c].
struct MapCoefficients {
  std::byte *regular;   // in the arithmetic type
  int64_t stride;       // channels that there is room for
  int64_t size;         // bytes of the arithmetic type
  double *extreme;      // those of extreme channels
  Scaling *scaling;     // of extreme channels
  uint8_t *is_extreme;  // 0 or 1 for each channel

  static constexpr int64_t bytes(int count, int64_t size, int64_t channels) {
    const int64_t scaling = static_cast<int64_t>(sizeof(Scaling));
    return regular_bytes(count, size, channels) + (count * 8 + scaling + 1) * channels;
  }
  MapCoefficients(void *memory, int count, int64_t element_size, int64_t channels)
      : regular(static_cast<std::byte *>(memory)),
        stride(channels),
        size(element_size),
        extreme(reinterpret_cast<double *>(regular + regular_bytes(count, size, channels))),
        scaling(reinterpret_cast<Scaling *>(extreme + count * channels)),
        is_extreme(reinterpret_cast<uint8_t *>(scaling + channels)) {}

  // Those from channel c on.
  MapCoefficients from(int64_t c) const {
    MapCoefficients some = *this;
    some.regular += c * size;
    some.extreme += c;
    some.scaling += c;
    some.is_extreme += c;
    return some;
  }
  // Channels from `first` on, up to `channels`, that come before the next extreme one.
  int64_t regular_channels(int64_t first, int64_t channels) const {
    const void *found = std::memchr(is_extreme + first, 1, static_cast<size_t>(channels - first));
    return found ? static_cast<const uint8_t *>(found) - is_extreme - first : channels - first;
  }
  kernels::ChannelCoefficients of_regular() const { return {regular, stride, size == 8, is_extreme}; }
  kernels::ChannelCoefficients of_extreme(int64_t c) const { return {extreme + c, stride, true, nullptr}; }

 private:
  static constexpr int64_t regular_bytes(int count, int64_t size, int64_t channels) {
    return (count * size * channels + 7) / 8 * 8;
  }
};

class Blockwise {
 public:
  // Elements of a packed copy; a multiple of 16, so that pieces keep the canonical lanes.
  static constexpr int64_t kPiece = 512, kPieceBytes = kPiece * 8;
  // A part of one plane, or some planes of one sample.
  struct Piece {
    int64_t n, channel, channels, position, length;
  };
  // Memory that a worker lends to each of the functions below: packed copies, or long rows.
  static constexpr int64_t kBufferBytes = 48 * 1024;

  Blockwise(const Tensors &tensors, const Extents &size, DType dtype);

  const Blocks &blocks() const { return blocks_; }
  MemoryOrder order() const {
    return mode_ == Mode::planes     ? MemoryOrder::planes
           : mode_ == Mode::channels ? MemoryOrder::channels
                                     : MemoryOrder::neither;
  }
  // Most channels of a group: a packed copy reads the same cache lines for several channels.
  int64_t max_group() const { return mode_ == Mode::packed ? 16 : kernels::kMaxGroup; }

  // Adds the elements of one block for a group.
  void accumulate(kernels::SumsOf op, const Group &group, int64_t block, const Accumulators &accumulators,
                  void *buffer) const;
  // The sums of some channels of that group, counted from its first.
  void reduce(kernels::SumsOf op, const Group &part, const Accumulators &accumulators, kernels::Sums *sums) const;

  // The map over one block, or any other part, of a group. `next_group`: channels to the group whose elements are
  // fetched into L2 meanwhile; 0: there is none.
  void map(kernels::MapOf op, const Group &group, const Blocks::Block &block, const MapCoefficients &coefficients,
           bool streaming, int64_t next_group, void *buffer) const;

  // The same for one extreme channel: the sums of a block in double, and its largest elements.
  void sum_extreme(kernels::SumsOf op, int64_t channel, int64_t block, const Scaling &scaling,
                   const Accumulators &accumulators, kernels::Sums *sums, void *buffer) const;
  double half_of_largest_difference(int64_t channel) const;  // of x from its first element
  double largest_gradient(int64_t channel) const;

 private:
  enum class Mode { planes, channels, packed };
  // What is packed: elements as they are, or doubles, scaled.
  struct Packed {
    alignas(64) std::byte read[4][kPieceBytes];
    alignas(64) std::byte written[2][kPieceBytes];
    alignas(64) std::byte unconverted[kPieceBytes];
  };
  kernels::Layout layout() const {
    return mode_ == Mode::channels ? kernels::Layout::channels : kernels::Layout::planes;
  }
  void map_regular(kernels::MapOf op, const Group &group, const Blocks::Block &block,
                   const MapCoefficients &coefficients, bool streaming, int64_t next_group, void *buffer) const;
  void map_extreme(kernels::MapOf op, int64_t channel, const Blocks::Block &block, const MapCoefficients &coefficients,
                   Packed &packed) const;
  void packed_sums(kernels::SumsOf op, const Group &group, const Blocks::Block &block, const Accumulators &accumulators,
                   Packed &packed) const;
  void packed_map(kernels::MapOf op, const Group &group, const Blocks::Block &block,
                  const MapCoefficients &coefficients, bool streaming, Packed &packed) const;
  // What a job of the sums or of a map reads.
  template <class Job>
  Job job_of(const Group &group, const Blocks::Block &block) const;
  template <class Job>
  Job job_of_piece(const Piece &piece, Packed &packed) const;
  template <class Job>
  Job job_of_extreme_piece(const Piece &piece, const Scaling &scaling, Packed &packed) const;
  template <class F>
  void for_each_piece(const Group &group, const Blocks::Block &block, const F &f) const;
  int64_t mask_offset(const Piece &piece, int64_t c) const;  // of channel c of the piece
  void pack_signs(const kernels::TypeKernels &kernels, const std::byte *signs, int64_t element_bytes,
                  const Piece &piece) const;
  template <class F>
  double largest_of(const View &view, int64_t channel, F f) const;
  kernels::Stream stream(const View &view, const Group &group, const Blocks::Block &block) const;

  const Tensors &tensors_;
  Extents size_;
  DType dtype_;
  Blocks blocks_;
  Mode mode_;
  const kernels::TypeKernels &kernels_;
};

}  // namespace bn2d
