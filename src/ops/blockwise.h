// Walks the elements of an operation's tensors block by block and feeds them to the kernels: straight from memory where
// the layout allows, else through a small packed copy. The one place that knows layouts.
#pragma once
#include <cstdint>

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

// Memory of one group at work, on the stack of its thread.
struct GroupScratch {
  alignas(64) double accumulators[kernels::kMaxAccumulators + Accumulators::kArrays * kernels::kMaxGroup];
  alignas(64) double coefficients[kernels::kMaxCoefficients * kernels::kMaxGroup];  // or floats
};

class Blockwise {
 public:
  // Elements of a packed copy; a multiple of 16, so that pieces keep the canonical lanes.
  static constexpr int64_t kPiece = 512, kPieceBytes = kPiece * 8;
  // A part of one plane, or some planes of one sample.
  struct Piece {
    int64_t n, channel, channels, position, length;
  };

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
  void accumulate(kernels::SumsOf op, const Group &group, int64_t block, const Accumulators &accumulators) const;
  // The sums of some channels of that group, counted from its first.
  void reduce(kernels::SumsOf op, const Group &part, const Accumulators &accumulators, kernels::Sums *sums) const;

  struct Coefficients {
    const void *data;  // of the group's first channel
    int64_t stride;
  };
  // The map over one block, or any other part, of a group. `next_group`: channels to the group whose elements are
  // fetched into L2 meanwhile; 0: there is none.
  void map(kernels::MapOf op, const Group &group, const Blocks::Block &block, const Coefficients &coefficients,
           bool streaming, int64_t next_group) const;

 private:
  enum class Mode { planes, channels, packed };
  kernels::Layout layout() const {
    return mode_ == Mode::channels ? kernels::Layout::channels : kernels::Layout::planes;
  }
  void packed_sums(kernels::SumsOf op, const Group &group, const Blocks::Block &block,
                   const Accumulators &accumulators) const;
  void packed_map(kernels::MapOf op, const Group &group, const Blocks::Block &block, const Coefficients &coefficients,
                  bool streaming) const;
  // What a job of the sums or of a map reads.
  template <class Job>
  Job job_of(const Group &group, const Blocks::Block &block) const;
  template <class Job>
  Job job_of_piece(const Piece &piece, std::byte (&buffer)[4][kPieceBytes]) const;
  template <class F>
  void for_each_piece(const Group &group, const Blocks::Block &block, const F &f) const;
  int64_t mask_offset(const Piece &piece, int64_t c) const;  // of channel c of the piece
  kernels::Stream stream(const View &view, const Group &group, const Blocks::Block &block) const;

  const Tensors &tensors_;
  Extents size_;
  DType dtype_;
  Blocks blocks_;
  Mode mode_;
  const kernels::TypeKernels &kernels_;
};

}  // namespace bn2d
