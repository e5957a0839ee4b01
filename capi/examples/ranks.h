/* SPDX-License-Identifier: MIT */
/**
 * The processes, "ranks" in the words of MPI, that train one network together: each has a part of
 * every batch, all have the same weights. ranks_one.c is for one process and needs no MPI,
 * ranks_mpi.c is for those of mpirun.
 */
#ifndef BN2D_EXAMPLES_RANKS_H
#define BN2D_EXAMPLES_RANKS_H

#include <bn2d/bn2d.h>
#include <stdbool.h>

/** Before anything else. Only the first rank prints. Returns whether there may be several. */
bool ranks_start(int *count, char ***arguments);
void ranks_end(void);
/** Ends all of them. */
_Noreturn void ranks_abort(int status);

/** The images of a batch that a rank has: `count` of them from `first` on, perhaps none. */
typedef struct part {
  int first, count;
} part;
part ranks_part(int images);

/** Forward of a norm; where all ranks train a batch norm, by the statistics of all their parts.
 * Tensors are contiguous (n, channels, side, side). Returns a status of bn2d. */
int32_t ranks_norm_forward(bn2d_module *norm, int n, int channels, int side, float *x, float *y,
                           bn2d_record **record);
/** Backward of it, in place. Gradients of parameters are those of the rank's own part. */
int32_t ranks_norm_backward(bn2d_module *norm, const bn2d_record *record, int n, int channels,
                            int side, float *dy);

/** Each value becomes the sum of those of all ranks. */
void ranks_sum(int size, float *values);
/** Whether all ranks have the same bytes. */
bool ranks_agree(int size, const void *bytes);

#endif
