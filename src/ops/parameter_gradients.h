// What backward leaves in the gradients of weight and bias.
#pragma once
#include "ops/channels_of_sets.h"

namespace bn2d {

// gradient <- blend*gradient + value for the channels of a group; with a blend of 0 the old value
// is not read.
void blend_into(const ChannelArray &gradient, const Group &g, double blend, const double *value);
// The same of all channels.
void blend_all_into(const ChannelArray &gradient, int64_t channels, double blend,
                    const double *values);
// The same of sums over several sets, channel by channel; nothing where none were kept.
void blend_kept_into(const ChannelArray &gradient, const KeptOfSets &kept, int64_t channels,
                     double blend);
// What sums over no elements do to a gradient of `channels` channels.
void blend_nothing_into(const ChannelArray &gradient, int64_t channels, double blend);

}  // namespace bn2d
