// What the sums of backward and double backward are around: the mean of each channel.
#pragma once
#include "ops/blockwise.h"
#include "ops/operations.h"

namespace bn2d {

// Of channel i of a group: a pivot of the arithmetic type, and the rest of the mean.
void set_center(double mean, double low, int64_t i, const Accumulators &accumulators);
// Of all channels of a group.
void set_centers(const SavedStatistics &saved, const Sets &sets, const Group &g,
                 const Accumulators &accumulators);

}  // namespace bn2d
