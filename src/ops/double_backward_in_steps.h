// Double backward around an activation that the kernels of double backward do not know.
#pragma once
#include "ops/operations.h"

namespace bn2d {

// With a = weight*xhat + bias + z and y = act(a), a backward is g = act'(a)*dy, and the norm's own
// backward of g. So, with u for dL/dg, which the norm's own double backward of g finds:
//   dL/dy' = act'(a)*(u + ddz)        y': dy
//   h      = act''(a)*dy*(u + ddz)    0 unless the activation is curved
//   dL/dz  = h
// and the norm's own backward of h adds to dL/dx and dL/dweight, and finds dL/dbias.
//
// Each step goes through whole tensors, which are packed floats or doubles: two to four of them are
// working memory, and one for each tensor of the call that is something else. Nothing is written
// before all steps are done, so a step that gets no memory changes nothing.
bool needs_steps(const DoubleBackwardCall &call);
void double_backward_in_steps(const DoubleBackwardCall &call);

}  // namespace bn2d
