// Group norm of small planes: all planes of a set as one plane.
#pragma once
#include "ops/operations.h"

namespace bn2d {

// In packed NCHW a set is a run of memory, so (N, C, H, W) in G groups is the memory of
// (1, N*G, 1, C/G*H*W), whose batch norm gives xhat of the group norm. Weight and bias follow in a
// second pass. A plane on its own costs 20 to 40 ns beside its elements, so this pays where planes
// are small, although tensors in other layouts are packed first. The shape alone decides, for the
// order of summation follows from it. (4096,256,1,1) in 32 groups: training XX of the time that it
// takes plane by plane, backward XX; (1024,256,3,3) XX and XX, channels_last XX and XX.
//
// False, and nothing was done: the call is another one.
bool forward_by_sets(const ForwardCall &call);
bool backward_by_sets(const BackwardCall &call);

}  // namespace bn2d
