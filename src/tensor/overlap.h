// Which memory two views share. Exact: interleaved slices of one tensor do not overlap.
#pragma once
#include "tensor/view.h"

namespace bn2d {

// The same elements in the same places: exact in-place.
bool same_elements(const View &a, const View &b);
// Some byte belongs to both.
bool share_memory(const View &a, const View &b);
// Some byte of the view lies in [begin, end).
bool share_memory(const View &view, uintptr_t begin, uintptr_t end);
// Two different indices lead to the same byte.
bool overlaps_itself(const View &view);

}  // namespace bn2d
