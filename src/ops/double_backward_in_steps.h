// Double backward around an activation that the kernels of double backward do not know.
#pragma once
#include "ops/operations.h"

namespace bn2d {

// With a = weight*xhat + bias + z and y = act(a), a backward has two steps: g = act'(a)*dy, which
// is dz, too, and the norm's own backward of g. So for a loss that depends on its results,
//   u   = the gradient of g: what the norm's own double backward of g finds, plus ddz
//   ddy = act'(a)*u
//   h   = act''(a)*dy*u, the gradient of a; 0 unless the activation is curved
// and h goes on through the norm's own backward, as any gradient of a does: it is the gradient of
// z, and adds to those of x, weight and bias.
//
// Each step goes through whole tensors, which are packed floats or doubles: two to four of them are
// working memory, and one for each tensor of the call that is something else. Nothing is written
// before all steps are done, so a step that gets no memory changes nothing.
bool needs_steps(const DoubleBackwardCall &call);
void double_backward_in_steps(const DoubleBackwardCall &call);

}  // namespace bn2d
