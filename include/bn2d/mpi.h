/* SPDX-License-Identifier: MIT */
/**
 * @file mpi.h
 * @brief Batch normalisation over the batches of all processes of an MPI communicator, as PyTorch's
 * SyncBatchNorm does: C99 and C++, header-only, on top of bn2d.h. Link with libbn2d and MPI:
 * `mpicc program.c $(pkg-config --cflags --libs bn2d)`. MPI_Init() comes before the first call.
 *
 *     #include <bn2d/mpi.h>
 *
 *     bn2d_mpi_forward(MPI_COMM_WORLD, bn, &x, NULL, BN2D_ACT_RELU, 0, &y, &record);
 *     bn2d_mpi_backward(MPI_COMM_WORLD, bn, record, &dy, &dx, NULL);
 *
 * Both are collective: each rank calls them with its part of the batch, which may be of another
 * size on each of them, or empty. Statistics are merged and sums are added in the order of the
 * ranks, so running statistics have the same bits on every rank (of CPUs that run the same SIMD
 * target, see bn2d_simd_target()), and results are as accurate as those of one process with the
 * whole batch. Gradients of weight and bias are those of a rank's own part: add them up with those
 * of the other layers.
 *
 * **Without statistics of the batch** (on running statistics: in eval mode, or frozen) nothing is
 * sent: any rank may call on its own. A module without running statistics needs the batch in eval
 * mode, too. All ranks have to be in the same mode. The batch statistics of group and instance
 * norms and of ghost batches are not shared, so these are refused (BN2D_ERROR_STATE): call
 * bn2d_forward() for them.
 *
 * **Errors.** Arguments are checked on all ranks before anything changes. Where one rank fails, all
 * do: it with its own status, the others with that of the lowest rank that failed. No rank waits
 * for one that has returned, unless a handle is invalid and does not tell what the others
 * do: a rank without a valid record goes by the present mode of its module, one without a valid
 * module acts as in training. Where memory runs out after the checks, while results are written, or
 * another thread has the module by then (BN2D_ERROR_BUSY), only that rank fails; gradients of
 * parameters may then have been accumulated on others. BN2D_ERROR_IO is an error of MPI, in a
 * communicator whose error handler returns.
 *
 * **What it costs.** A call reduces 24 bytes, so that all ranks agree to go on, then gathers 8*(2 +
 * 4*C) bytes of each rank in forward and 8*(1 + 2*C) in backward. MPI calls are made on the calling
 * thread alone: where that is the main thread, MPI_THREAD_FUNNELED is enough.
 */
#ifndef BN2D_MPI_H
#define BN2D_MPI_H

#include <bn2d/bn2d.h>
#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------- exchange */

static inline int32_t bn2d_mpi_error_(int error) {
  char name[MPI_MAX_ERROR_STRING] = "", text[MPI_MAX_ERROR_STRING + 60];
  int length = 0;
  if (error == MPI_SUCCESS) return BN2D_OK;
  MPI_Error_string(error, name, &length);
  snprintf(text, sizeof text, "MPI failed with error %d: %s", error, name);
  return bn2d_set_last_error(BN2D_ERROR_IO, text);
}

/** What a rank needs to exchange `length` doubles. */
typedef struct bn2d_mpi_exchange_ {
  MPI_Comm comm;  /**< The ranks. */
  int rank;       /**< This one. */
  int ranks;      /**< How many there are. */
  int64_t length; /**< Doubles of one rank, the status in front not included. */
  double *all;    /**< Those of all ranks: 1 + length each. */
} bn2d_mpi_exchange_;

/** The doubles of a rank. */
static inline double *bn2d_mpi_of_(const bn2d_mpi_exchange_ *exchange, int rank) {
  return exchange->all + (size_t)rank * (size_t)(1 + exchange->length) + 1;
}

/** Memory for `length` doubles of each rank, where the status is BN2D_OK. */
static inline int32_t bn2d_mpi_begin_(MPI_Comm comm, int64_t length, int32_t status,
                                      bn2d_mpi_exchange_ *exchange) {
  int error;
  exchange->comm = comm;
  exchange->length = length;
  exchange->all = NULL;
  exchange->ranks = 0;
  error = MPI_Comm_rank(comm, &exchange->rank);
  if (error == MPI_SUCCESS) error = MPI_Comm_size(comm, &exchange->ranks);
  if (error != MPI_SUCCESS) return bn2d_mpi_error_(error);
  if (status != BN2D_OK) return status;
  if (length >= INT_MAX)
    return bn2d_set_last_error(BN2D_ERROR_OVERFLOW, "too many channels for one message of MPI");
  exchange->all = (double *)malloc((size_t)exchange->ranks * (size_t)(1 + length) * sizeof(double));
  return exchange->all ? BN2D_OK : bn2d_set_last_error(BN2D_ERROR_OUT_OF_MEMORY, "out of memory");
}

/** The status that a rank returns, where `rank` is the first that has failed. */
static inline int32_t bn2d_mpi_fail_(int32_t own, int rank, int32_t status) {
  char text[120];
  if (own != BN2D_OK) return own;
  snprintf(text, sizeof text, "rank %d failed with %s", rank, bn2d_status_name(status));
  return bn2d_set_last_error(status, text);
}

/** A failure as one number, of which MPI's minimum is that of the first rank. */
static inline int64_t bn2d_mpi_pack_(int rank, int32_t status) {
  return rank * INT64_C(1000) - status; /* statuses are from -999 to 0 */
}
/** The rank and the status of such a number. */
static inline int bn2d_mpi_packed_rank_(int64_t packed) { return (int)(packed / 1000); }
static inline int32_t bn2d_mpi_packed_status_(int64_t packed) { return -(int32_t)(packed % 1000); }

/** Tells each rank whether all of them can go on, with as many doubles. Needs no memory. */
static inline int32_t bn2d_mpi_agree_(const bn2d_mpi_exchange_ *exchange, int32_t status) {
  enum { failure, length, minus_length, numbers };
  const int64_t none = INT64_MAX;
  /* Of minus_length the least is the largest length. A rank that has failed has no length. */
  int64_t own[numbers] = {none, exchange->length, -exchange->length}, least[numbers] = {none, 0, 0};
  char text[120];
  int error;
  if (exchange->ranks == 0) return status; /* MPI itself has failed */
  if (status != BN2D_OK) {
    own[failure] = bn2d_mpi_pack_(exchange->rank, status);
    own[length] = own[minus_length] = none;
  }
  error = MPI_Allreduce(own, least, numbers, MPI_INT64_T, MPI_MIN, exchange->comm);
  if (error != MPI_SUCCESS) return bn2d_mpi_error_(error);
  if (least[failure] != none)
    return bn2d_mpi_fail_(status, bn2d_mpi_packed_rank_(least[failure]),
                          bn2d_mpi_packed_status_(least[failure]));
  if (least[length] == -least[minus_length]) return BN2D_OK;
  snprintf(text, sizeof text, "ranks send from %lld to %lld doubles: they have other channels",
           (long long)least[length], -(long long)least[minus_length]);
  return bn2d_set_last_error(BN2D_ERROR_SHAPE, text);
}

/** Sends the doubles of this rank, with its status, and receives those of all. */
static inline int32_t bn2d_mpi_gather_(const bn2d_mpi_exchange_ *exchange, int32_t status) {
  const int count = (int)(1 + exchange->length);
  int error;
  bn2d_mpi_of_(exchange, exchange->rank)[-1] = status;
  error = MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, exchange->all, count, MPI_DOUBLE,
                        exchange->comm);
  if (error != MPI_SUCCESS) return bn2d_mpi_error_(error);
  for (int r = 0; r < exchange->ranks; ++r) {
    const int32_t of_rank = (int32_t)bn2d_mpi_of_(exchange, r)[-1];
    if (of_rank != BN2D_OK) return bn2d_mpi_fail_(status, r, of_rank);
  }
  return BN2D_OK;
}

/** Whether a forward of the module is by the statistics of its batch. */
static inline int32_t bn2d_mpi_is_batch_(const bn2d_module *module, int32_t *out) {
  int32_t training = 0, frozen = 0, tracks = 0;
  int32_t status = bn2d_module_is_training(module, &training);
  if (status == BN2D_OK) status = bn2d_module_is_frozen(module, &frozen);
  if (status == BN2D_OK) status = bn2d_module_track_running_stats(module, &tracks);
  *out = !tracks || (training && !frozen);
  return status;
}

/* ------------------------------------------------------------------------------------ functions */

/**
 * As bn2d_forward_act(), by the statistics of the batches of all ranks.
 * @param comm All its ranks call.
 * @param module A copy of the same module on each rank.
 * @param x,z,activation,slope,y,record As in bn2d_forward_act(). x may be empty.
 * @return as bn2d_forward_act(), and BN2D_ERROR_IO; BN2D_ERROR_TOO_FEW_VALUES where all ranks
 *   together have fewer than 2 values of a channel. Threads: as bn2d_forward_act(). Since 1.3.
 */
static inline int32_t bn2d_mpi_forward(MPI_Comm comm, bn2d_module *module, const bn2d_view *x,
                                       const bn2d_view *z, int32_t activation, double slope,
                                       const bn2d_view *y, bn2d_record **record) {
  bn2d_mpi_exchange_ exchange;
  bn2d_statistics *own = NULL, *total = NULL;
  int64_t channels = 0;
  int32_t is_batch = 1, agreed;
  int32_t status = bn2d_mpi_is_batch_(module, &is_batch);
  if (status == BN2D_OK && !is_batch)
    return bn2d_forward_act(module, x, z, activation, slope, y, record);
  if (status == BN2D_OK) status = bn2d_module_num_features(module, &channels);
  if (status == BN2D_OK) status = bn2d_statistics_create(channels, &own);
  if (status == BN2D_OK) status = bn2d_statistics_create(channels, &total);
  if (status == BN2D_OK) /* only checks */
    status = bn2d_forward_with_statistics(module, NULL, x, z, activation, slope, y, record);
  if (status == BN2D_OK) status = bn2d_statistics_accumulate(own, x);
  status = bn2d_mpi_begin_(comm, 1 + 4 * channels, status, &exchange);
  if (status == BN2D_OK)
    status = bn2d_statistics_export(own, bn2d_mpi_of_(&exchange, exchange.rank), exchange.length);
  agreed = bn2d_mpi_agree_(&exchange, status);
  if (agreed == BN2D_OK) agreed = bn2d_mpi_gather_(&exchange, status);
  for (int r = 0; agreed == BN2D_OK && r < exchange.ranks; ++r)
    agreed = bn2d_statistics_merge_exported(total, bn2d_mpi_of_(&exchange, r), exchange.length);
  if (agreed == BN2D_OK)
    agreed = bn2d_forward_with_statistics(module, total, x, z, activation, slope, y, record);
  free(exchange.all);
  bn2d_statistics_release(own);
  bn2d_statistics_release(total);
  return agreed;
}

/**
 * As bn2d_backward(), of a record of bn2d_mpi_forward() and the gradients of all ranks.
 * @param comm All its ranks call, as in forward.
 * @param module,record,dy,dx,dz As in bn2d_backward(). dy may be empty.
 * @return as bn2d_backward(), and BN2D_ERROR_IO. (A double backward of the record is
 *   BN2D_ERROR_STATE.) Threads: exclusive. Since 1.3.
 */
static inline int32_t bn2d_mpi_backward(MPI_Comm comm, bn2d_module *module,
                                        const bn2d_record *record, const bn2d_view *dy,
                                        const bn2d_view *dx, const bn2d_view *dz) {
  bn2d_mpi_exchange_ exchange;
  int64_t channels = 0;
  int32_t is_batch = 1, agreed;
  int32_t status = bn2d_record_batch_statistics(record, &is_batch);
  if (status == BN2D_OK && !is_batch) return bn2d_backward(module, record, dy, dx, dz);
  if (status != BN2D_OK) { /* the module tells whether the others wait */
    const int32_t of_module = bn2d_mpi_is_batch_(module, &is_batch);
    if (of_module == BN2D_OK && !is_batch) return status;
    if (of_module != BN2D_OK) status = of_module; /* of which the text is, now */
  }
  if (status == BN2D_OK) status = bn2d_module_num_features(module, &channels);
  if (status == BN2D_OK) /* only checks */
    status = bn2d_backward_with_sums(module, record, dy, NULL, 2 * channels, dx, dz);
  status = bn2d_mpi_begin_(comm, 2 * channels, status, &exchange);
  agreed = bn2d_mpi_agree_(&exchange, status);
  if (agreed == BN2D_OK) {
    double *const own = bn2d_mpi_of_(&exchange, exchange.rank);
    status = bn2d_backward_sums(module, record, dy, own, exchange.length);
    agreed = bn2d_mpi_gather_(&exchange, status);
  }
  if (agreed == BN2D_OK) {
    double *const sums = bn2d_mpi_of_(&exchange, 0);
    for (int r = 1; r < exchange.ranks; ++r) {
      const double *const part = bn2d_mpi_of_(&exchange, r);
      for (int64_t i = 0; i < exchange.length; ++i) sums[i] += part[i];
    }
    agreed = bn2d_backward_with_sums(module, record, dy, sums, exchange.length, dx, dz);
  }
  free(exchange.all);
  return agreed;
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* BN2D_MPI_H */
