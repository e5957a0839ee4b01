#include "ops/extreme.h"

namespace bn2d::extreme {

void moments(const Blockwise &blockwise, int64_t channel, int k, double *memory, kernels::Sums *sums,
             kernels::Moments *part, void *buffer, kernels::Moments *total) {
  constexpr kernels::SumsOf kOf = kernels::SumsOf::forward;
  const kernels::ChannelKernels &kernels = kernels::active().channel;
  const Accumulators accumulators(memory, kernels::sums_count(kOf), 1);
  for (int64_t block = 0; block < blockwise.blocks().count; ++block) {
    blockwise.sum_extreme(kOf, channel, block, {k, 0, 0, 0}, accumulators, sums, buffer);
    const double count = static_cast<double>(blockwise.blocks().at(block).elements());
    kernels.moments(1, count, accumulators.center_hi, sums, block == 0 ? total : part);
    if (block != 0) kernels.merge(1, total, part);
  }
}

}  // namespace bn2d::extreme
