// Forwards and backwards that get all their memory before the first of them writes anything
// (ops/ready.h). None is empty, and all sets have as many samples (ops/last_set.h).
#pragma once
#include "ops/operations.h"
#include "ops/ready.h"

namespace bn2d {

// Each prepares its first call and then, within the same frame, the others: what the first one has
// lives until the driver has run. before: the one that was prepared last; nobody else gives it.
void run_forwards(const ForwardCall *calls, int count, const Driver &driver = {},
                  const Ready *before = nullptr);
void run_backwards(BackwardCall *calls, int count, const Driver &driver = {},
                   const Ready *before = nullptr);
// Of a forward, for its backward: weight and bias as they are.
void save_parameters(const ForwardCall &call);

}  // namespace bn2d
