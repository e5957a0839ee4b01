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

namespace {

// Calls f(group) for all channels.
template <class F>
void for_each_group(int64_t channels, const F &f) {
  for (int64_t c = 0; c < channels; c += kernels::kMaxGroup)
    f(Group{c, std::min<int64_t>(kernels::kMaxGroup, channels - c)});
}

}  // namespace

[[gnu::cold]] void blend_all_into(const ChannelArray &gradient, int64_t channels, double blend,
                                  const double *values) {
  for_each_group(channels,
                 [&](const Group &g) { blend_into(gradient, g, blend, values + g.channel); });
}

[[gnu::cold]] void blend_kept_into(const ChannelArray &gradient, const KeptOfSets &kept,
                                   int64_t channels, double blend) {
  if (!gradient.exists() || !kept.exists()) return;
  double sums[kernels::kMaxGroup];
  for_each_group(channels, [&](const Group &g) {
    kept.sum(g, sums);
    blend_into(gradient, g, blend, sums);
  });
}

[[gnu::cold]] void blend_nothing_into(const ChannelArray &gradient, int64_t channels,
                                      double blend) {
  if (!gradient.exists()) return;
  const double zeros[kernels::kMaxGroup] = {};
  for_each_group(channels, [&](const Group &g) { blend_into(gradient, g, blend, zeros); });
}

}  // namespace bn2d
