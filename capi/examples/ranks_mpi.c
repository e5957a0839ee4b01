/* SPDX-License-Identifier: MIT */
#include <bn2d/mpi.h>
#include <string.h>

#include "ranks.h"

static int rank_of_this(void) {
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

/* An error of MPI ends all ranks, which is what MPI does by itself. */
bool ranks_start(int *count, char ***arguments) {
  MPI_Init(count, arguments);
  if (rank_of_this() > 0 && !freopen("/dev/null", "w", stdout)) ranks_abort(2);
  return true;
}

void ranks_end(void) { MPI_Finalize(); }

_Noreturn void ranks_abort(int status) {
  MPI_Abort(MPI_COMM_WORLD, status);
  exit(status);
}

part ranks_part(int images) {
  int ranks;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  const int rank = rank_of_this(), first = images * rank / ranks;
  return (part){first, images * (rank + 1) / ranks - first};
}

/* ------------------------------------------------------------------------------------------------
 * norms */

static bn2d_view view_of(int64_t (*shape)[4], int n, int channels, int side, float *data) {
  const int64_t extents[4] = {n, channels, side, side};
  memcpy(*shape, extents, sizeof extents);
  return (bn2d_view){.data = data,
                     .device_type = BN2D_CPU,
                     .ndim = 4,
                     .dtype_code = 2, /* float */
                     .dtype_bits = 32,
                     .dtype_lanes = 1,
                     .shape = *shape};
}

/* Group and instance norm look at one image at a time: other ranks do not matter to them. */
static bool is_batch_norm(const bn2d_module *norm) {
  int32_t kind;
  return bn2d_module_norm(norm, &kind) == BN2D_OK && kind == BN2D_NORM_BATCH;
}

int32_t ranks_norm_forward(bn2d_module *norm, int n, int channels, int side, float *x, float *y,
                           bn2d_record **record) {
  int64_t shape[4];
  const bn2d_view in = view_of(&shape, n, channels, side, x),
                  out = view_of(&shape, n, channels, side, y);
  if (!is_batch_norm(norm)) return bn2d_forward(norm, &in, &out, record);
  return bn2d_mpi_forward(MPI_COMM_WORLD, norm, &in, NULL, BN2D_ACT_NONE, 0, &out, record);
}

int32_t ranks_norm_backward(bn2d_module *norm, const bn2d_record *record, int n, int channels,
                            int side, float *dy) {
  int64_t shape[4];
  const bn2d_view gradient = view_of(&shape, n, channels, side, dy);
  if (!is_batch_norm(norm)) return bn2d_backward(norm, record, &gradient, &gradient, NULL);
  return bn2d_mpi_backward(MPI_COMM_WORLD, norm, record, &gradient, &gradient, NULL);
}

/* ------------------------------------------------------------------------------------------------
 * sums */

void ranks_sum(int size, float *values) {
  MPI_Allreduce(MPI_IN_PLACE, values, size, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

bool ranks_agree(int size, const void *bytes) {
  void *of_first = malloc((size_t)size);
  if (!of_first) ranks_abort(2);
  memcpy(of_first, bytes, (size_t)size);
  MPI_Bcast(of_first, size, MPI_BYTE, 0, MPI_COMM_WORLD);
  int same = memcmp(of_first, bytes, (size_t)size) == 0, all_same;
  free(of_first);
  MPI_Allreduce(&same, &all_same, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  return all_same;
}
