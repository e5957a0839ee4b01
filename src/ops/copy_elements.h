// A whole tensor into another layout.
#pragma once
#include "parallel/pool.h"
#include "tensor/view.h"

namespace bn2d {

// Copies all elements, on several threads. One of both tensors must have contiguous planes.
void copy_elements(const View &from, const View &to, const Pool &pool, int32_t thread_limit);

}  // namespace bn2d
