// Group norm of small planes: all planes of a set as one plane.
#pragma once
#include "ops/operations.h"

namespace bn2d {

// In packed NCHW a set is a run of memory: (N, C, H, W) in G groups is the memory of
// (1, N*G, 1, C/G*H*W), and a batch norm of that has the statistics of the group norm. Weights,
// which change within such a plane, are dealt with in passes of their own, sample by sample
// (kernels/sample.h). A plane on its own costs 15 to 75 ns beside its elements, so this pays where
// planes are small, although tensors in other layouts are packed first. The shape alone decides,
// for the order of summation follows from it.
//
// On one thread with AVX-512, of the time that it takes plane by plane:
//                                    training  backward
//   (4096,256,1,1) in 32 groups          0.08      0.12
//   (4096,256,1,1) in one                0.01      0.02
//   (512,1024,2,2) in 32                 0.20      0.28
//   (1024,256,3,3) in 32                 0.40      0.53
//   the same, channels_last              0.82      0.98
//   (256,256,4,4) in 32                  0.40      0.59
//   the same, channels_last              0.93      0.96
// Larger planes would pay for the copies of channels_last.
//
// Not so with an activation, whose side a backward finds on x plane by plane, and not with doubles,
// which have no wider arithmetic.
//
// False, and nothing was done: the call is another one.
bool forward_by_sets(const ForwardCall &call);
bool backward_by_sets(const BackwardCall &call);

}  // namespace bn2d
