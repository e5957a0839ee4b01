// The parts of forward and backward that other operations run (ops/sets_as_planes.h).
#pragma once
#include "ops/operations.h"
#include "ops/ready.h"

namespace bn2d {

// Not empty, and all sets have as many samples (ops/last_set.h).
void forward_parts(const ForwardCall *calls, int count, const Driver &driver = {},
                   const Ready *before = nullptr);
void backward_parts(BackwardCall *calls, int count, const Driver &driver, const Ready *before);
// Of a forward, for its backward: weight and bias as they are.
void save_parameters(const ForwardCall &call);

}  // namespace bn2d
