#include "ops/extreme.h"

namespace bn2d::extreme {

void moments_of_block(const Blockwise &blockwise, int64_t channel, int64_t block, int k, const Accumulators &of_one,
                      kernels::Sums *sums, kernels::Moments *moments, void *buffer) {
  blockwise.sum_extreme(kernels::SumsOf::forward, channel, block, {k, 0, 0, 0}, of_one, sums, buffer);
  const double count = static_cast<double>(blockwise.blocks().at(block).elements());
  kernels::active().channel.moments({1, count, true, of_one.pivot, sums, moments, nullptr});
}

void moments(const Blockwise &blockwise, int64_t channel, int k, const Accumulators &of_one, kernels::Sums *sums,
             kernels::Moments *part, void *buffer, kernels::Moments *total) {
  for (int64_t block = 0; block < blockwise.blocks().count; ++block) {
    moments_of_block(blockwise, channel, block, k, of_one, sums, block == 0 ? total : part, buffer);
    if (block != 0) kernels::active().channel.merge(1, total, part);
  }
}

}  // namespace bn2d::extreme
