// Blockwise, where what the sums read shares lines of memory with other samples or rows: packed
// copies of bundles of blocks.
#include <algorithm>

#include "base/cache_line.h"
#include "ops/blockwise.h"
#include "ops/packed_copy.h"

namespace bn2d {

// Where a line of memory has several samples of one position, or several rows of one column: as
// many blocks together as fill lines, and as many channels as stay in L2. Also where rows have gaps
// between them: sums of a whole block, not piece by piece, take 0.8 of the time in training.
void Blockwise::set_stage() {
  if (is_pointwise() || tensors_.side_mask != nullptr) return;
  bool has_samples = false;
  int64_t count = 0;
  for (int k = 0; k < summed_tensors(); ++k) {
    const View &view = tensors_.*kTensors[k];
    if (!view.exists() || has_contiguous_planes(view)) continue;
    const bool of_samples = view.stride.n == 1 && view.size.n > 1;
    if (view.channel_block != 0 || (of_samples && sets_.batches() != 1) ||
        !(of_samples || view.stride.h == 1 || view.stride.w == 1))
      return;
    has_samples = has_samples || of_samples;
    ++count;
  }
  has_lines_of_samples_ = has_samples;
  staged_tensors_ = count;
  constexpr int64_t kStageBytes = 128 * 1024;
  const int64_t rows = blocks_.count / blocks_.parts_per_plane,
                samples = (size_.n + rows - 1) / rows, of_line = kLineBytes / dtype_size(dtype_);
  if (has_lines_of_samples_) at_once_ = std::min((of_line + samples - 1) / samples, rows);
  const int64_t bytes = at_once_ * samples * blocks_.part * dtype_size(dtype_);
  max_group_ = std::clamp<int64_t>(kStageBytes / bytes, 1, kernels::kMaxGroup);
  stage_bytes_ = in_lines(max_group_ * bytes);
}

template <class F>
void Blockwise::for_each_staged(std::byte *memory, const F &f) const {
  for (int k = 0; k < summed_tensors(); ++k) {
    const View &view = tensors_.*kTensors[k];
    if (!view.exists() || has_contiguous_planes(view)) continue;
    f(kernels::SumsJob::kTensors[k], view, memory);
    memory += stage_bytes_;
  }
}

Blockwise::Staged Blockwise::stage(const Group &group, const Blocks::Bundle &bundle,
                                   void *buffer) const {
  if (stage_bytes_ == 0) return {};
  Blocks::Block all = blocks_.at(bundle.first);
  const Blocks::Block last = blocks_.at(bundle.block(bundle.count - 1));
  all.samples = last.first_sample + last.samples - all.first_sample;
  const Staged staged = {box_of(group, all), all.first_sample,
                         static_cast<std::byte *>(buffer) + kBufferBytes};
  for_each_staged(staged.memory,
                  [&](kernels::Strided kernels::SumsJob::*, const View &view, std::byte *memory) {
                    gather(view, staged.box, strides_of(staged.box), memory);
                  });
  return staged;
}

// Where a block that is staged lies.
void Blockwise::set_staged(const Staged &staged, const Blocks::Block &block,
                           kernels::SumsJob &job) const {
  const int64_t samples = block.first_sample - staged.first_sample,
                bytes = samples * staged.box.length * dtype_size(dtype_);
  for_each_staged(staged.memory,
                  [&](kernels::Strided kernels::SumsJob::*tensor, const View &, std::byte *memory) {
                    job.*tensor = packed_strided(memory + bytes, staged.box);
                  });
}

}  // namespace bn2d
