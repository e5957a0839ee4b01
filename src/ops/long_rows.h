// Short planes, or short rows of channels, that follow one another in memory, walked as longer rows: every element of
// such a row has coefficients of its own in a map, and a lane of its own in the sums. Then no vector and no cache line
// ends where a plane or a pixel does. The kernels are those for rows of channels; the results are the same bits.
#pragma once
#include "kernels/kernels.h"

namespace bn2d {

// Do the job, or return false where its tensors are not like that, or where it would not be faster. `buffer`: memory
// of kLongRowsBytes, aligned to 64 bytes, for what belongs to the elements of a row.
inline constexpr int64_t kLongRowsBytes = kernels::kMaxAccumulators * 8 + 4 * kernels::kMaxGroup * 8;
bool map_long_rows(const kernels::TypeKernels &kernels, kernels::MapOf op, kernels::Layout layout,
                   const kernels::MapJob &job, DType dtype, void *buffer);
bool sum_long_rows(const kernels::TypeKernels &kernels, kernels::SumsOf op, kernels::Layout layout,
                   const kernels::SumsJob &job, DType dtype, void *buffer);

}  // namespace bn2d
