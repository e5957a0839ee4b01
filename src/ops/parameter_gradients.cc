#include "ops/parameter_gradients.h"

#include <algorithm>

namespace bn2d {

void blend_into(const ChannelArray &gradient, const Group &g, double blend, const double *value) {
  if (!gradient.exists()) return;
  if (blend == 0) return gradient.store(g.channel, g.channels, value);
  double blended[kernels::kMaxGroup];
  gradient.load(g.channel, g.channels, blended);
  for (int64_t i = 0; i < g.channels; ++i) blended[i] = blend * blended[i] + value[i];
  gradient.store(g.channel, g.channels, blended);
}

void blend_all_into(const ChannelArray &gradient, int64_t channels, double blend,
                    const double *values) {
  for (int64_t c = 0; c < channels; c += kernels::kMaxGroup)
    blend_into(gradient, {c, std::min<int64_t>(kernels::kMaxGroup, channels - c)}, blend,
               values + c);
}

void blend_kept_into(const ChannelArray &gradient, const KeptOfSets &kept, int64_t channels,
                     double blend) {
  if (!gradient.exists() || !kept.exists()) return;
  double sums[kernels::kMaxGroup];
  for (int64_t c = 0; c < channels; c += kernels::kMaxGroup) {
    const Group g = {c, std::min<int64_t>(kernels::kMaxGroup, channels - c)};
    kept.sum(g, sums);
    blend_into(gradient, g, blend, sums);
  }
}

void blend_nothing_into(const ChannelArray &gradient, int64_t channels, double blend) {
  if (!gradient.exists()) return;
  const double zeros[kernels::kMaxGroup] = {};
  for (int64_t c = 0; c < channels; c += kernels::kMaxGroup)
    blend_into(gradient, {c, std::min<int64_t>(kernels::kMaxGroup, channels - c)}, blend, zeros);
}

}  // namespace bn2d
