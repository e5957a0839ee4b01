// Maps whose rows are as long as memory allows, so that few vectors and cache lines end where a
// plane, a pixel or a sample does:
//  - samples that follow one another are joined into one sample of more channels;
//  - short planes, or short rows of channels, that follow one another become rows in which every
//    element has coefficients of its own;
//  - blocks of channels for which a kernel keeps coefficients in registers stay as they are.
// The kernels are those for planes and for rows of channels; the results are the same bits.
#pragma once
#include "kernels/kernels.h"

namespace bn2d {

// Memory for coefficients: of a row, and of joined samples.
inline constexpr int64_t kRowBytes = 24 * 1024;  // three quarters of an L1
inline constexpr int64_t kJoinedBytes = 8 * 1024;
inline constexpr int64_t kLongRowsBytes = kRowBytes + kJoinedBytes;

// Does the job. `buffer`: kLongRowsBytes, aligned to 64 bytes.
void map_rows(const kernels::TypeKernels &kernels, kernels::MapOf op, kernels::Layout layout,
              const kernels::MapJob &job, DType dtype, void *buffer);

}  // namespace bn2d
