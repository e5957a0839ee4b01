// Short planes, or short rows of channels, that follow one another in memory, mapped as longer
// rows: every element of such a row has coefficients of its own. Then no vector and no cache line
// ends where a plane or a pixel does. The kernels are those for rows of channels; the results are
// the same bits.
#pragma once
#include "kernels/kernels.h"

namespace bn2d {

// Does the job, or returns false where its tensors are not like that, or where it would not be
// faster. `buffer`: memory of kLongRowsBytes, aligned to 64 bytes, for the coefficients of a row.
inline constexpr int64_t kLongRowsBytes = 24 * 1024;  // three quarters of an L1
bool map_long_rows(const kernels::TypeKernels &kernels, kernels::MapOf op, kernels::Layout layout,
                   const kernels::MapJob &job, DType dtype, void *buffer);

}  // namespace bn2d
