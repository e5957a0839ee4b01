// Group norm of small planes: all planes of a set as one plane.
#pragma once
#include "ops/operations.h"

namespace bn2d {

// In packed NCHW a set is one stretch of memory: (N, C, H, W) in G groups is the memory of
// (1, N*G, 1, C/G*H*W), and a batch norm of that has the statistics of the group norm. A plane on
// its own costs 15 to 75 ns beside its elements, so this pays where planes are small, although
// what is read in other layouts is packed first. The layout never decides, for the order of
// summation depends on the answer.
//
// Tiny planes of floats and halves: weights, which change within such a plane, are dealt with in
// passes of their own, sample by sample (kernels/sample.h). On one thread with AVX-512, of the time
// that it takes plane by plane:
//                                    training  backward
//   (4096,256,1,1) in 32 groups          0.13      0.22
//   (4096,256,1,1) in one                0.02      0.03
//   (512,1024,2,2) in 32                 0.22      0.22
//   the same, channels_last              0.36      0.51
//   (1024,256,3,3) in 32                 0.29      0.49
//   the same, channels_last              0.89      1.23
//   (256,256,4,4) in 32                  0.44      0.84
//   the same, channels_last              1.04      1.27
// Calls with an activation do not go that way: a backward finds its side on x plane by plane. Nor
// do doubles: there the arithmetic of elements is in double, which is no wider.
//
// The others in forward: the moments of the sets, then the map of a forward whose moments are
// known. Moments have no room for the ends of the range of doubles: sets that need it are measured
// once more. Channels_last is turned set by set, by the thread that sums the set. Training in 32
// groups, one thread, NCHW and channels_last:
//   (32,512,7,7)   0.53  0.80
//   (1,2048,7,7)   0.54  1.03
//   (64,512,5,5)   0.53  0.78
//   (8,512,10,10)  0.59  1.25
// Planes of 14x14 would take 0.81 and 1.37. Doubles:
//   (32,512,1,1)   0.27
//   (32,512,2,2)   0.34  0.38
//   (8,512,4,4)    0.50  0.63
//   (32,512,7,7)   0.79  0.96
//   (8,512,10,10)  0.77  1.06
//
// False, and nothing was done: the call is another one.
bool forward_by_sets(const ForwardCall &call);
bool backward_by_sets(const BackwardCall &call);

}  // namespace bn2d
