// Short planes, or short rows of channels, that follow one another in memory, walked as longer rows: every element of
// such a row has coefficients of its own in a map, and a lane of its own in the sums. Then no vector and no cache line
// ends where a plane or a pixel does. The kernels are those for rows of channels; the results are the same bits.
#pragma once
#include "kernels/kernels.h"

namespace bn2d {

// Do the job, or return false where its tensors are not like that, or where it would not be faster.
bool map_long_rows(const kernels::TypeKernels &kernels, kernels::MapOf op, kernels::Layout layout,
                   const kernels::MapJob &job, DType dtype);
bool sum_long_rows(const kernels::TypeKernels &kernels, kernels::SumsOf op, kernels::Layout layout,
                   const kernels::SumsJob &job, DType dtype);

}  // namespace bn2d
