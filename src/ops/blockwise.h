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

// Memory of one group at work, on the stack of its thread.
struct GroupScratch {
  alignas(64) double accumulators[kernels::kMaxAccumulators];
  double center_hi[kernels::kMaxGroup], center_lo[kernels::kMaxGroup];
  alignas(64) double coefficients[kernels::kMaxCoefficients * kernels::kMaxGroup];  // or floats
};

class Blockwise {
 public:
  Blockwise(const Tensors &tensors, const Extents &size, DType dtype);

  const Blocks &blocks() const { return blocks_; }
  MemoryOrder order() const {
    return mode_ == Mode::planes     ? MemoryOrder::planes
           : mode_ == Mode::channels ? MemoryOrder::channels
                                     : MemoryOrder::neither;
  }
  // Most channels of a group: a packed copy reads the same cache lines for several channels.
  int64_t max_group() const { return mode_ == Mode::packed ? 16 : kernels::kMaxGroup; }

  // The sums of one block for a group.
  void sums(kernels::SumsOf op, const Group &group, int64_t block, GroupScratch &scratch, kernels::Sums *sums) const;

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
  void packed_sums(kernels::SumsOf op, const Group &group, const Blocks::Block &block, GroupScratch &scratch) const;
  void packed_map(kernels::MapOf op, const Group &group, const Blocks::Block &block, const Coefficients &coefficients,
                  bool streaming) const;
  kernels::Stream stream(const View &view, const Group &group, const Blocks::Block &block) const;

  const Tensors &tensors_;
  Extents size_;
  DType dtype_;
  Blocks blocks_;
  Mode mode_;
  const kernels::TypeKernels &kernels_;
};

}  // namespace bn2d
