// Group norm of small planes: all planes of a set as one plane.
#pragma once
#include "ops/operations.h"

namespace bn2d {

// In packed NCHW a set is one stretch of memory: (N, C, H, W) in G groups is the memory of
// (1, N*G, 1, C/G*H*W), and a batch norm of that has the statistics of the group norm. A plane on
// its own costs 15 to 75 ns beside its elements, so this pays where planes are small, although
// what is read in other layouts is packed first. The layout never decides, for the order of
// summation depends on the answer. Doubles go plane by plane: the arithmetic of elements is in
// double, which is no wider, and moments have no room for the ends of their range.
//
// Tiny planes: weights, which change within such a plane, are dealt with in passes of their own,
// sample by sample (kernels/sample.h). On one thread with AVX-512, of the time that it takes plane
// by plane:
//                                    training  backward
//   (4096,256,1,1) in 32 groups          0.08      0.12
//   (4096,256,1,1) in one                0.01      0.02
//   (512,1024,2,2) in 32                 0.20      0.28
//   (1024,256,3,3) in 32                 0.40      0.53
//   the same, channels_last              0.82      0.98
//   (256,256,4,4) in 32                  0.40      0.59
//   the same, channels_last              0.93      0.96
// Calls with an activation do not go that way: a backward finds its side on x plane by plane.
//
// Larger ones, and activations, in forward: the moments of the sets, then the map of a forward
// whose moments are known. Training in 32 groups, one thread, NCHW and channels_last:
//   (32,512,7,7)   0.48  0.82
//   (1,2048,7,7)   0.43  0.94
//   (64,512,5,5)   0.54  0.79
//   (8,512,10,10)  0.58  1.05
// Planes of 14x14 would take 0.65 and 1.7, for the copies of channels_last.
//
// False, and nothing was done: the call is another one.
bool forward_by_sets(const ForwardCall &call);
bool backward_by_sets(const BackwardCall &call);

}  // namespace bn2d
