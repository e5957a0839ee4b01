/* SPDX-License-Identifier: MIT */
/* Batch normalisation over the ranks of MPI, against one process that has the whole batch. Run by
 * mpirun with any number of ranks; the first rank prints what is wrong, and the program fails where
 * anything is. */
#include <bn2d/mpi.h>
#include <math.h>
#include <string.h>

enum { kChannels = 5, kHeight = 4, kWidth = 3, kPlane = kHeight * kWidth, kMost = 40 };

static int g_rank, g_ranks, g_failures;

#define CHECK(condition)                                                                          \
  do {                                                                                            \
    if (!(condition) && g_failures++ < 20)                                                        \
      fprintf(stderr, "rank %d of %d, line %d: %s (%s)\n", g_rank, g_ranks, __LINE__, #condition, \
              bn2d_last_error());                                                                 \
  } while (0)

/* Tensors of one dtype, float or double. */
typedef struct tensor {
  int64_t shape[4];
  bn2d_view view;
  double data[kMost * kChannels * kPlane];
} tensor;

static void make(tensor *t, int is_double, int64_t samples) {
  const int64_t shape[4] = {samples, kChannels, kHeight, kWidth};
  memcpy(t->shape, shape, sizeof shape);
  memset(&t->view, 0, sizeof t->view);
  t->view.data = t->data;
  t->view.device_type = BN2D_CPU;
  t->view.ndim = 4;
  t->view.dtype_code = 2;
  t->view.dtype_bits = is_double ? 64 : 32;
  t->view.dtype_lanes = 1;
  t->view.shape = t->shape;
}
static double get(const tensor *t, int64_t i) {
  return t->view.dtype_bits == 64 ? t->data[i] : (double)((const float *)t->data)[i];
}
static void set(tensor *t, int64_t i, double value) {
  if (t->view.dtype_bits == 64) {
    t->data[i] = value;
  } else {
    ((float *)t->data)[i] = (float)value;
  }
}
/* Element i of the whole batch, from sample `first` on: the same on every rank. */
static void fill(tensor *t, int64_t first, int seed, double mean) {
  const int64_t sample = kChannels * kPlane;
  for (int64_t i = 0; i < t->shape[0] * sample; ++i) {
    const int64_t of_batch = first * sample + i;
    set(t, i,
        mean * (1 + of_batch / kPlane % kChannels) +
            sin((double)((of_batch * 37 + seed * 1001) % 10007)));
  }
}

static bn2d_module *make_module(int is_double) {
  bn2d_options *options = NULL;
  bn2d_module *module = NULL;
  CHECK(bn2d_options_create(&options) == BN2D_OK);
  CHECK(bn2d_options_set_dtype(options, is_double ? BN2D_F64 : BN2D_F32) == BN2D_OK);
  CHECK(bn2d_module_create(kChannels, options, &module) == BN2D_OK);
  bn2d_options_release(options);
  return module;
}
static const void *data_of(bn2d_module *module, const char *name) {
  bn2d_tensor *found = NULL;
  void *data = NULL;
  CHECK(bn2d_module_tensor_by_name(module, name, &found) == BN2D_OK);
  CHECK(bn2d_tensor_data(found, &data) == BN2D_OK);
  bn2d_tensor_release(found);
  return data;
}
static double at(const void *data, int is_double, int64_t i) {
  return is_double ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

/* Whether all ranks have these bytes. */
static int same_everywhere(const void *bytes, int count) {
  char mine[8 * kChannels], first[8 * kChannels];
  memcpy(mine, bytes, (size_t)count);
  memcpy(first, bytes, (size_t)count);
  MPI_Bcast(first, count, MPI_BYTE, 0, MPI_COMM_WORLD);
  return memcmp(mine, first, (size_t)count) == 0;
}

/* One step of training; counts: samples of each rank. */
static void compare(int is_double, int activation, const int64_t *counts, double mean) {
  static tensor x, z, dy, y, dx, dz, all_x, all_z, all_dy, all_y, all_dx, all_dz;
  const double ulp = is_double ? 0x1p-52 : 0x1p-23;
  const int width = is_double ? 8 : 4;
  int64_t first = 0, total = 0;
  for (int r = 0; r < g_ranks; ++r) {
    if (r < g_rank) first += counts[r];
    total += counts[r];
  }
  const int64_t own = counts[g_rank];
  tensor *const parts[] = {&x, &z, &dy, &y, &dx, &dz}, *const wholes[] = {&all_x, &all_z,  &all_dy,
                                                                          &all_y, &all_dx, &all_dz};
  for (int i = 0; i < 6; ++i) make(parts[i], is_double, own), make(wholes[i], is_double, total);
  for (int i = 0; i < 3; ++i) {
    fill(parts[i], first, i, i == 0 ? mean : 0);
    fill(wholes[i], 0, i, i == 0 ? mean : 0);
  }
  bn2d_module *const module = make_module(is_double), *const single = make_module(is_double);
  bn2d_record *record = NULL, *of_single = NULL;
  CHECK(bn2d_mpi_forward(MPI_COMM_WORLD, module, &x.view, &z.view, activation, 0, &y.view,
                         &record) == BN2D_OK);
  CHECK(bn2d_mpi_backward(MPI_COMM_WORLD, module, record, &dy.view, &dx.view, &dz.view) == BN2D_OK);
  CHECK(bn2d_forward_act(single, &all_x.view, &all_z.view, activation, 0, &all_y.view,
                         &of_single) == BN2D_OK);
  CHECK(bn2d_backward(single, of_single, &all_dy.view, &all_dx.view, &all_dz.view) == BN2D_OK);

  const int64_t offset = first * kChannels * kPlane;
  for (int64_t i = 0; i < own * kChannels * kPlane; ++i) {
    CHECK(fabs(get(&y, i) - get(&all_y, offset + i)) <= 16 * ulp);
    if (fabs(get(&all_y, offset + i)) < 64 * ulp)
      continue; /* the side of the activation is decided by roundings */
    CHECK(fabs(get(&dx, i) - get(&all_dx, offset + i)) <= 32 * ulp);
    CHECK(get(&dz, i) == get(&all_dz, offset + i));
  }
  for (int k = 0; k < 2; ++k) {
    const char *const name = k ? "running_var" : "running_mean";
    const void *const mine = data_of(module, name), *const want = data_of(single, name);
    CHECK(same_everywhere(mine, kChannels * width));
    for (int64_t c = 0; c < kChannels; ++c)
      CHECK(fabs(at(mine, is_double, c) - at(want, is_double, c)) <=
            4 * ulp * fabs(at(want, is_double, c)) + ulp);
    const char *const gradient = k ? "weight.grad" : "bias.grad";
    const void *const of_part = data_of(module, gradient), *const of_whole =
                                                               data_of(single, gradient);
    double sums[kChannels], of_all[kChannels];
    for (int64_t c = 0; c < kChannels; ++c) sums[c] = at(of_part, is_double, c);
    MPI_Allreduce(sums, of_all, kChannels, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    for (int64_t c = 0; c < kChannels; ++c)
      CHECK(fabs(of_all[c] - at(of_whole, is_double, c)) <= 4 * ulp * (double)(total * kPlane));
  }
  CHECK(*(const int64_t *)data_of(module, "num_batches_tracked") == 1);
  bn2d_record_release(record);
  bn2d_record_release(of_single);
  bn2d_module_release(module);
  bn2d_module_release(single);
}

/* One rank fails, in another way each time; all return an error, nothing has changed, and the next
 * call works. */
static void fail_together(void) {
  static tensor x, y, dy, dx, small;
  make(&x, 0, 2), make(&y, 0, 2), make(&dy, 0, 2), make(&dx, 0, 2), make(&small, 0, 1);
  fill(&x, 2 * g_rank, 1, 1), fill(&dy, 2 * g_rank, 2, 0);
  bn2d_module *const module = make_module(0);
  const int64_t *const counter = (const int64_t *)data_of(module, "num_batches_tracked");
  const float *const dweight = (const float *)data_of(module, "weight.grad");
  bn2d_record *record = NULL, *const untouched = (bn2d_record *)&x;
  for (int bad = 0; bad < g_ranks; ++bad) {
    const int is_bad = g_rank == bad;
    record = untouched;
    int32_t status = bn2d_mpi_forward(MPI_COMM_WORLD, is_bad ? NULL : module, &x.view, NULL, 0, 0,
                                      &y.view, &record);
    CHECK(status == BN2D_ERROR_INVALID_ARGUMENT && record == untouched);
    CHECK(strstr(bn2d_last_error(), is_bad ? "module is NULL" : "INVALID_ARGUMENT") != NULL);
    status = bn2d_mpi_forward(MPI_COMM_WORLD, module, is_bad ? &small.view : &x.view, NULL, 0, 0,
                              &y.view, &record);
    CHECK(status == BN2D_ERROR_SHAPE && record == untouched);
    char rank[32];
    snprintf(rank, sizeof rank, "rank %d", bad);
    CHECK(is_bad || strstr(bn2d_last_error(), rank) != NULL);
    CHECK(*counter == bad);

    CHECK(bn2d_mpi_forward(MPI_COMM_WORLD, module, &x.view, NULL, 0, 0, &y.view, &record) ==
          BN2D_OK);
    const float before = dweight[0];
    status = bn2d_mpi_backward(MPI_COMM_WORLD, module, record, is_bad ? &small.view : &dy.view,
                               &dx.view, NULL);
    CHECK(status == BN2D_ERROR_SHAPE);
    status =
        bn2d_mpi_backward(MPI_COMM_WORLD, module, is_bad ? NULL : record, &dy.view, &dx.view, NULL);
    CHECK(status == BN2D_ERROR_INVALID_ARGUMENT);
    CHECK(dweight[0] == before);
    CHECK(bn2d_mpi_backward(MPI_COMM_WORLD, module, record, &dy.view, &dx.view, NULL) == BN2D_OK);
    bn2d_record_release(record);
  }
  /* Other channels on one rank, where each call on its own would be right. */
  bn2d_module *other = NULL;
  CHECK(bn2d_module_create(kChannels + g_rank, NULL, &other) == BN2D_OK);
  int64_t shape[4] = {1, kChannels + g_rank, 2, 1};
  x.view.shape = y.view.shape = shape;
  if (g_ranks > 1)
    CHECK(bn2d_mpi_forward(MPI_COMM_WORLD, other, &x.view, NULL, 0, 0, &y.view, NULL) ==
          BN2D_ERROR_SHAPE);
  bn2d_module_release(other);
  bn2d_module_release(module);
}

/* One value in all is too few, two on two ranks are enough; none at all is, too; eval mode needs no
 * other rank, not even with a record that is none. */
static void few_values(void) {
  float one[kChannels] = {1, 2, 3, 4, 5}, y[kChannels];
  int64_t shape[4] = {g_rank == 0, kChannels, 1, 1};
  tensor t;
  make(&t, 0, 1);
  bn2d_view x = t.view, out = t.view;
  x.data = one;
  out.data = y;
  x.shape = out.shape = shape;
  bn2d_module *const module = make_module(0);
  CHECK(bn2d_mpi_forward(MPI_COMM_WORLD, module, &x, NULL, 0, 0, &out, NULL) ==
        BN2D_ERROR_TOO_FEW_VALUES);
  CHECK(*(const int64_t *)data_of(module, "num_batches_tracked") == 0);
  shape[0] = 1;
  if (g_ranks > 1)
    CHECK(bn2d_mpi_forward(MPI_COMM_WORLD, module, &x, NULL, 0, 0, &out, NULL) == BN2D_OK);
  bn2d_module_eval(module);
  if (g_rank == 0) {
    bn2d_record *record = NULL;
    CHECK(bn2d_mpi_forward(MPI_COMM_WORLD, module, &x, NULL, 0, 0, &out, &record) == BN2D_OK);
    CHECK(bn2d_mpi_backward(MPI_COMM_WORLD, module, record, &x, &out, NULL) == BN2D_OK);
    bn2d_record_release(record);
    CHECK(bn2d_mpi_backward(MPI_COMM_WORLD, module, record, &x, &out, NULL) ==
          BN2D_ERROR_INVALID_HANDLE);
    CHECK(strstr(bn2d_last_error(), "record") != NULL);
  }
  bn2d_module_release(module);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &g_rank);
  MPI_Comm_size(MPI_COMM_WORLD, &g_ranks);
  const int64_t even[] = {3, 3, 3, 3, 3, 3, 3, 3}, uneven[] = {1, 5, 2, 4, 1, 5, 2, 4},
                holes[] = {0, 4, 0, 1, 0, 4, 0, 1};
  for (int is_double = 0; is_double < 2; ++is_double)
    for (int activation = BN2D_ACT_NONE; activation <= BN2D_ACT_RELU; ++activation) {
      compare(is_double, activation, even, 1);
      compare(is_double, activation, uneven, 1);
      if (g_ranks > 1) compare(is_double, activation, holes, 0.5);
    }
  fail_together();
  few_values();
  int failures = 0;
  MPI_Allreduce(&g_failures, &failures, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  if (g_rank == 0) printf("%d ranks: %d failures\n", g_ranks, failures);
  MPI_Finalize();
  return failures != 0;
}
