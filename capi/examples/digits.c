/* SPDX-License-Identifier: MIT */
/**
 * Handwritten digits, with and without batch norm.
 *
 *     digits                          what follows
 *     digits --norm group --batch 2   trains one network: batch, group or instance norm or none,
 *                                     batches of any size
 *     mpirun -n 4 digits_mpi          trains one network on four processes, each with a part of
 *                                     every batch: the same program, with ranks_mpi.c
 *
 * Trains the same small convolutional network twice, from the same weights, on the same batches,
 * with the same schedule: once with batch norm after each convolution, once with a plain bias in
 * its place.
 *
 *     1x8x8 -> conv 3x3 -> batch norm | bias -> ReLU -> average 2x2 -> 16x4x4
 *           -> conv 3x3 -> batch norm | bias -> ReLU -> average 2x2 -> 32x2x2 -> linear -> 10
 * classes
 *
 * After each epoch it is tested on digits that it was not trained on. Averaging is the pooling that
 * trains best with batch norm; with max pooling the two end closer together, at about 95.5 and 94.6
 * %.
 *
 * Then the network with batch norm is saved (safetensors), and a new process loads it, folds the
 * batch norms into the convolutions, and classifies the same digits with and without them.
 *
 * The last lines of the output state whether batch norm, the file and folding did what they are
 * for. The exit status is 0 if so, 1 if not, 2 after an error.
 *
 * bn2d is used by norm_parameter(), by the functions of a stage, by those of "a saved network" and
 * in ranks_*.c; all other layers are in layers.c.
 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime, isatty, fork */

#include <bn2d/bn2d.h>
#include <bn2d/fold.h>
#include <bn2d/state.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "layers.h"
#include "ranks.h"

#ifndef DIGITS_CSV
#define DIGITS_CSV "data/digits.csv"
#endif

enum {
  SIDE = 8,
  PIXELS = SIDE * SIDE,
  CLASSES = 10,
  TRAIN_IMAGES = 1437,
  TEST_IMAGES = 360,
  BATCH = 32, /* images; the learning rate is for it */
  GROUPS = 4, /* of a group norm */
  STAGES = 2,
  FEATURES = 32 * 2 * 2, /* of an image after the last stage */
  MAX_EPOCHS = 1000
};

static const double PI = 3.14159265358979323846;
static const double LEARNING_RATE = 0.05, MOMENTUM = 0.9, WEIGHT_DECAY = 0.002;
static const double FINAL_GOAL = 0.95; /* the test accuracy expected at the end with batch norm */
static const double EARLY_GOAL =
    0.90; /* the test accuracy expected in fewer epochs with batch norm than without */

/* ------------------------------------------------------------------------------------------
 * errors, memory, clock */

_Noreturn static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("digits: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  ranks_abort(2);
}

/** Around every call of bn2d. */
#define CHECK(call)                                                                                \
  do {                                                                                             \
    const int32_t status = (call);                                                                 \
    if (status != BN2D_OK) fail("%s: %s: %s", #call, bn2d_status_name(status), bn2d_last_error()); \
  } while (0)

static void *allocate(int count, size_t size) {
  void *memory = calloc((size_t)count, size);
  if (!memory) fail("out of memory: %d elements of %zu bytes", count, size);
  return memory;
}

static float *allocate_floats(int count) { return allocate(count, sizeof(float)); }

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* -------------------------------------------------------------------------------------------------
 * random numbers */

/** SplitMix64. Not rand(), whose numbers differ from one C library to another. */
static uint64_t random_bits(uint64_t *state) {
  uint64_t bits = *state += 0x9e3779b97f4a7c15u;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
  return bits ^ (bits >> 31);
}

/** Uniform in (0, 1), without either end. */
static double random_uniform(uint64_t *state) {
  return ((double)(random_bits(state) >> 12) + 0.5) * 0x1p-52;
}

/** Standard normal, by the method of Box and Muller. */
static double random_normal(uint64_t *state) {
  const double radius = sqrt(-2.0 * log(random_uniform(state)));
  return radius * cos(2.0 * PI * random_uniform(state));
}

static void shuffle(int count, int *order, uint64_t *state) {
  for (int i = count - 1; i > 0; --i) {
    const int j = (int)(random_uniform(state) * (i + 1)), swapped = order[i];
    order[i] = order[j];
    order[j] = swapped;
  }
}

/* -------------------------------------------------------------------------------------------------
 * data */

typedef struct dataset {
  float *images; /* (TRAIN_IMAGES + TEST_IMAGES, 1, SIDE, SIDE), from 0 to 1 */
  int *labels;
} dataset;

static dataset dataset_read(const char *path) {
  const int rows = TRAIN_IMAGES + TEST_IMAGES;
  dataset data = {allocate_floats(rows * PIXELS), allocate(rows, sizeof(int))};
  FILE *file = fopen(path, "r");
  if (!file) fail("%s: %s", path, strerror(errno));
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column <= PIXELS; ++column) {
      const int largest = column < PIXELS ? 16 : CLASSES - 1;
      int value;
      if (fscanf(file, column == 0 ? "%3d" : ",%3d", &value) != 1 || value < 0 || value > largest)
        fail("%s: row %d, column %d is not a number from 0 to %d", path, row + 1, column + 1,
             largest);
      if (column < PIXELS)
        data.images[row * PIXELS + column] = (float)value / 16.0f;
      else
        data.labels[row] = value;
    }
  }
  fclose(file);
  return data;
}

/* -------------------------------------------------------------------------------------------------
 * parameters */

/** What training changes. The value and gradient of a norm are its own; the two handles keep them
 * alive. */
typedef struct parameter {
  int size;
  double decay;
  float *value, *gradient, *velocity;
  bn2d_tensor *value_handle, *gradient_handle; /* NULL: the arrays are ours */
} parameter;

static parameter new_bias(int size) {
  return (parameter){.size = size,
                     .value = allocate_floats(size),
                     .gradient = allocate_floats(size),
                     .velocity = allocate_floats(size)};
}

/** He initialisation: gain 2 makes up for a ReLU that follows, 1 is for none. Only such weights
 * decay. */
static parameter new_weight(int rows, int columns, double gain, uint64_t *random) {
  parameter p = new_bias(rows * columns);
  p.decay = WEIGHT_DECAY;
  for (int i = 0; i < p.size; ++i)
    p.value[i] = (float)(sqrt(gain / columns) * random_normal(random));
  return p;
}

/** The "weight" or "bias" of a norm, in place: what is written through these pointers, the module
 * uses. */
static parameter norm_parameter(const bn2d_module *norm, const char *name, int channels) {
  parameter p = {.size = channels, .velocity = allocate_floats(channels)};
  void *value, *gradient;
  CHECK(bn2d_module_tensor_by_name(norm, name, &p.value_handle));
  CHECK(bn2d_tensor_grad(p.value_handle, &p.gradient_handle));
  CHECK(bn2d_tensor_data(p.value_handle, &value));
  CHECK(bn2d_tensor_data(p.gradient_handle, &gradient));
  p.value = value;
  p.gradient = gradient;
  return p;
}

/** Stochastic gradient descent with momentum, by the gradients of all ranks. Leaves the gradient at
 * 0, for backward to add to. */
static void parameter_step(parameter *p, double rate) {
  ranks_sum(p->size, p->gradient);
  for (int i = 0; i < p->size; ++i) {
    p->velocity[i] = (float)(MOMENTUM * p->velocity[i] + p->gradient[i] + p->decay * p->value[i]);
    p->value[i] -= (float)rate * p->velocity[i];
    p->gradient[i] = 0.0f;
  }
}

static void parameter_release(parameter *p) {
  free(p->velocity);
  if (p->value_handle) {
    bn2d_tensor_release(p->value_handle);
    bn2d_tensor_release(p->gradient_handle);
  } else {
    free(p->value);
    free(p->gradient);
  }
}

/* -------------------------------------------------------------------------------------------------
 * stages */

typedef enum norm_kind { NORM_NONE, NORM_BATCH, NORM_GROUP, NORM_INSTANCE } norm_kind;
static const char *const NORM_NAMES[] = {"none", "batch", "group", "instance"};

/** A norm with weight and bias, as its default or on request; NULL for none. */
static bn2d_module *norm_create(norm_kind kind, int channels) {
  bn2d_module *norm = NULL;
  bn2d_options *options;
  CHECK(bn2d_options_create(&options));
  CHECK(bn2d_options_set_affine(options, 1));
  if (kind == NORM_BATCH) CHECK(bn2d_module_create(channels, options, &norm));
  if (kind == NORM_GROUP) CHECK(bn2d_group_norm_create(GROUPS, channels, options, &norm));
  if (kind == NORM_INSTANCE) CHECK(bn2d_instance_norm_create(channels, options, &norm));
  bn2d_options_release(options);
  return norm;
}

/** Convolution, norm or bias, ReLU, pooling; and what their forward leaves for their backward. */
typedef struct stage {
  conv_shape conv;
  parameter weight;  /* of the convolution */
  bn2d_module *norm; /* NULL in the network without, and when it is folded */
  bool is_folded;    /* into weight and bias */
  parameter scale,
      bias; /* "weight" and "bias" of the norm; without it, none and the bias of the convolution */
  bn2d_record *record; /* between a forward and its backward */
  float *patches;
  float *z, *y, *pooled; /* outputs of the convolution, of the ReLU and of the pooling */
  float *dy, *dpooled;   /* gradients */
  double norm_seconds;   /* time in the norm while training */
} stage;

static stage stage_create(conv_shape conv, norm_kind kind, int batch, uint64_t *random) {
  const int outputs = batch * conv.out * conv.side * conv.side;
  stage s = {.conv = conv, .weight = new_weight(conv.out, conv.in * 9, 2.0, random)};
  s.norm = norm_create(kind, conv.out);
  if (s.norm) {
    s.scale = norm_parameter(s.norm, "weight", conv.out);
    s.bias = norm_parameter(s.norm, "bias", conv.out);
  } else {
    s.bias = new_bias(conv.out);
  }
  s.patches = allocate_floats(batch * conv_patches_size(conv));
  s.z = allocate_floats(outputs);
  s.y = allocate_floats(outputs);
  s.dy = allocate_floats(outputs);
  s.pooled = allocate_floats(outputs / 4);
  s.dpooled = allocate_floats(outputs / 4);
  return s;
}

static void stage_forward(stage *s, int n, const float *x, bool training) {
  const int side = s->conv.side, channels = s->conv.out;
  if (s->is_folded)
    conv_forward(s->conv, n, s->weight.value, s->bias.value, x, s->patches, s->y);
  else
    conv_forward(s->conv, n, s->weight.value, NULL, x, s->patches, s->z);
  if (s->norm) {
    const double start = seconds();
    CHECK(ranks_norm_forward(s->norm, n, channels, side, s->z, s->y, training ? &s->record : NULL));
    if (training) s->norm_seconds += seconds() - start;
  } else if (!s->is_folded) {
    bias_forward(n, channels, side * side, s->bias.value, s->z, s->y);
  }
  relu_forward(n * channels * side * side, s->y);
  pool_forward(n * channels, side, s->y, s->pooled);
}

/** From the gradient in s->dpooled. dx may be NULL: not wanted. */
static void stage_backward(stage *s, int n, float *dx) {
  const int side = s->conv.side, channels = s->conv.out;
  float *dz = s->dy; /* a norm works in place; a bias passes the gradient on as it is */
  pool_backward(n * channels, side, s->dpooled, s->dy);
  relu_backward(n * channels * side * side, s->y, s->dy);
  if (s->norm) {
    const double start = seconds();
    CHECK(ranks_norm_backward(s->norm, s->record, n, channels, side, s->dy));
    bn2d_record_release(s->record);
    s->record = NULL;
    s->norm_seconds += seconds() - start;
  } else {
    bias_backward(n, channels, side * side, s->dy, s->bias.gradient);
  }
  conv_backward(s->conv, n, s->weight.value, s->patches, dz, s->weight.gradient, dx);
}

static void stage_release(stage *s) {
  float *const arrays[] = {s->patches, s->z, s->y, s->dy, s->pooled, s->dpooled};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; ++i) free(arrays[i]);
  parameter_release(&s->weight);
  parameter_release(&s->scale);
  parameter_release(&s->bias);
  bn2d_module_release(s->norm);
}

/* -------------------------------------------------------------------------------------------------
 * network */

typedef struct network {
  int batch; /* the most images at a time */
  stage stages[STAGES];
  parameter weight, bias; /* of the linear layer */
  float *logits;          /* after a backward, their gradient */
} network;

static network network_create(norm_kind kind, int batch, uint64_t *random) {
  network net = {.batch = batch};
  net.stages[0] = stage_create((conv_shape){1, 16, SIDE}, kind, batch, random);
  net.stages[1] = stage_create((conv_shape){16, 32, SIDE / 2}, kind, batch, random);
  net.weight = new_weight(CLASSES, FEATURES, 1.0, random);
  net.bias = new_bias(CLASSES);
  net.logits = allocate_floats(batch * CLASSES);
  return net;
}

static void network_forward(network *net, int n, const float *images, bool training) {
  const float *x = images;
  for (stage *s = net->stages; s < net->stages + STAGES; ++s) {
    stage_forward(s, n, x, training);
    x = s->pooled;
  }
  linear_forward(n, FEATURES, CLASSES, net->weight.value, net->bias.value, x, net->logits);
}

/** One step of training on n images, this rank's part of a batch. Returns the sum of their losses.
 */
static double network_train(network *net, int n, int batch, const float *images, const int *labels,
                            double rate) {
  stage *const first = net->stages, *const last = first + STAGES - 1;
  network_forward(net, n, images, true);
  const double loss = cross_entropy(n, batch, CLASSES, labels, net->logits);
  linear_backward(n, FEATURES, CLASSES, net->weight.value, last->pooled, net->logits,
                  net->weight.gradient, net->bias.gradient, last->dpooled);
  for (stage *s = last; s > first; --s) stage_backward(s, n, s[-1].dpooled);
  stage_backward(first, n, NULL);
  for (stage *s = first; s <= last; ++s) {
    parameter_step(&s->weight, rate);
    parameter_step(&s->scale, rate);
    parameter_step(&s->bias, rate);
  }
  parameter_step(&net->weight, rate);
  parameter_step(&net->bias, rate);
  return loss;
}

/** Whether all ranks have the same bits of a tensor of a norm. */
static bool norm_agrees(const bn2d_module *norm, const char *name, int channels) {
  bn2d_tensor *tensor;
  void *data;
  CHECK(bn2d_module_tensor_by_name(norm, name, &tensor));
  CHECK(bn2d_tensor_data(tensor, &data));
  const bool agrees = ranks_agree(channels * (int)sizeof(float), data);
  bn2d_tensor_release(tensor);
  return agrees;
}

static bool parameter_agrees(const parameter *p) {
  return ranks_agree(p->size * (int)sizeof(float), p->value);
}

/** Whether all ranks have the same bits of each parameter and of the running statistics. */
static bool network_agrees(const network *net) {
  bool agrees = parameter_agrees(&net->weight) & parameter_agrees(&net->bias);
  for (const stage *s = net->stages; s < net->stages + STAGES; ++s) {
    int32_t tracks = 0;
    agrees &= parameter_agrees(&s->weight) & parameter_agrees(&s->bias);
    if (!s->norm) continue;
    agrees &= parameter_agrees(&s->scale);
    CHECK(bn2d_module_track_running_stats(s->norm, &tracks));
    if (!tracks) continue;
    agrees &= norm_agrees(s->norm, "running_mean", s->conv.out);
    agrees &= norm_agrees(s->norm, "running_var", s->conv.out);
  }
  return agrees;
}

static void network_set_training(network *net, bool training) {
  for (stage *s = net->stages; s < net->stages + STAGES; ++s)
    if (s->norm) CHECK(bn2d_module_train(s->norm, training));
}

/** Classifies the test images, in eval mode. */
static void network_predict(network *net, const dataset *data, int64_t *predictions) {
  network_set_training(net, false);
  for (int first = TRAIN_IMAGES; first < TRAIN_IMAGES + TEST_IMAGES; first += net->batch) {
    const int left = TRAIN_IMAGES + TEST_IMAGES - first, n = left < net->batch ? left : net->batch;
    network_forward(net, n, data->images + first * PIXELS, false);
    for (int i = 0; i < n; ++i) {
      const float *logits = net->logits + i * CLASSES;
      int best = 0;
      for (int c = 1; c < CLASSES; ++c) best = logits[c] > logits[best] ? c : best;
      predictions[first - TRAIN_IMAGES + i] = best;
    }
  }
  network_set_training(net, true);
}

/** The share of the test images that is classified correctly. */
static double accuracy_of(const dataset *data, const int64_t *predictions) {
  int correct = 0;
  for (int i = 0; i < TEST_IMAGES; ++i) correct += predictions[i] == data->labels[TRAIN_IMAGES + i];
  return (double)correct / TEST_IMAGES;
}

static void network_release(network *net) {
  for (int k = 0; k < STAGES; ++k) stage_release(&net->stages[k]);
  parameter_release(&net->weight);
  parameter_release(&net->bias);
  free(net->logits);
}

/* ------------------------------------------------------------------------------------------------
 * a saved network */

/** "conv1.weight" and the like, as PyTorch would name them; k counts from 0. */
static const char *name_of(char (*buffer)[32], const char *layer, int k, const char *what) {
  snprintf(*buffer, sizeof *buffer, "%s%d.%s", layer, k + 1, what);
  return *buffer;
}

/** All of the network, and what it predicts for the test images. */
static void network_save(const network *net, const char *path, const int64_t *predictions) {
  const int64_t classes = CLASSES, images = TEST_IMAGES, linear[] = {CLASSES, FEATURES};
  char name[32];
  bn2d_state *state;
  CHECK(bn2d_state_create(&state));
  for (int k = 0; k < STAGES; ++k) {
    const stage *s = &net->stages[k];
    const int64_t shape[] = {s->conv.out, s->conv.in, 3, 3};
    CHECK(bn2d_state_set_flat(state, name_of(&name, "conv", k, "weight"), BN2D_F32, shape, 4,
                              s->weight.value));
    CHECK(bn2d_state_set_module(state, name_of(&name, "bn", k, ""), s->norm));
  }
  CHECK(bn2d_state_set_flat(state, "fc.weight", BN2D_F32, linear, 2, net->weight.value));
  CHECK(bn2d_state_set_flat(state, "fc.bias", BN2D_F32, &classes, 1, net->bias.value));
  CHECK(bn2d_state_set_flat(state, "predictions", BN2D_I64, &images, 1, predictions));
  CHECK(bn2d_state_save(state, path));
  bn2d_state_release(state);
}

/** The same back into a network with batch norm: all of it or nothing. */
static network network_load(const char *path, int64_t *predictions) {
  const int64_t classes = CLASSES, images = TEST_IMAGES, linear[] = {CLASSES, FEATURES};
  char name[32];
  uint64_t seed = 0; /* of weights that are replaced */
  network net = network_create(NORM_BATCH, BATCH, &seed);
  bn2d_state *state;
  bn2d_loader *loader;
  CHECK(bn2d_state_open(path, &state));
  CHECK(bn2d_loader_create(state, &loader));
  for (int k = 0; k < STAGES; ++k) {
    const stage *s = &net.stages[k];
    const int64_t shape[] = {s->conv.out, s->conv.in, 3, 3};
    CHECK(bn2d_loader_add_flat(loader, name_of(&name, "conv", k, "weight"), BN2D_F32, shape, 4,
                               s->weight.value));
    CHECK(bn2d_loader_add_module(loader, name_of(&name, "bn", k, ""), s->norm));
  }
  CHECK(bn2d_loader_add_flat(loader, "fc.weight", BN2D_F32, linear, 2, net.weight.value));
  CHECK(bn2d_loader_add_flat(loader, "fc.bias", BN2D_F32, &classes, 1, net.bias.value));
  CHECK(bn2d_loader_add_flat(loader, "predictions", BN2D_I64, &images, 1, predictions));
  CHECK(bn2d_loader_load(loader, 1));
  bn2d_loader_release(loader);
  bn2d_state_release(state);
  return net;
}

/** Batch norm becomes a part of the convolution before it. Returns the largest relative change of a
 * weight. */
static double network_fold(network *net) {
  double largest = 0.0;
  for (stage *s = net->stages; s < net->stages + STAGES; ++s) {
    const conv_shape conv = s->conv;
    parameter bias = new_bias(conv.out);
    double change;
    CHECK(bn2d_fold_into_previous_flat(s->norm, BN2D_LAYER_CONV, 1, BN2D_F32, conv.out, conv.in, 9,
                                       s->weight.value, NULL, BN2D_F32, s->weight.value, bias.value,
                                       &change, NULL));
    if (change > largest) largest = change;
    parameter_release(&s->scale);
    parameter_release(&s->bias);
    bn2d_module_release(s->norm);
    s->scale = (parameter){.size = 0};
    s->bias = bias;
    s->norm = NULL;
    s->is_folded = true;
  }
  return largest;
}

static int count_equal(const int64_t *a, const int64_t *b) {
  int equal = 0;
  for (int i = 0; i < TEST_IMAGES; ++i) equal += a[i] == b[i];
  return equal;
}

/** What the new process does: loads the network twice, folds one of them, and compares. The status
 * to end with. */
static int check_saved(const dataset *data, const char *path) {
  int64_t trained[TEST_IMAGES], loaded[TEST_IMAGES], folded[TEST_IMAGES];
  network nets[] = {network_load(path, trained), network_load(path, trained)};
  const double change = network_fold(&nets[1]);
  double best[] = {INFINITY, INFINITY};
  for (int round = 0; round < 50; ++round)
    for (int k = 0; k < 2; ++k) {
      const double start = seconds();
      network_predict(&nets[k], data, k == 0 ? loaded : folded);
      const double taken = seconds() - start;
      if (taken < best[k]) best[k] = taken;
    }
  const bool same = count_equal(trained, loaded) == TEST_IMAGES,
             same_folded = count_equal(loaded, folded) == TEST_IMAGES;
  printf(
      "in a new process: test accuracy %.1f %%, %.0f images per second; folded %.1f %%, %.0f, %.1f "
      "%% of the time "
      "saved\n",
      100.0 * accuracy_of(data, loaded), TEST_IMAGES / best[0], 100.0 * accuracy_of(data, folded),
      TEST_IMAGES / best[1], 100.0 * (1.0 - best[1] / best[0]));
  printf("largest relative change of a weight by folding: %.2f\n\n", change);
  printf("%-8s  the network from the file predicts what the trained one did\n",
         same ? "held" : "NOT HELD");
  printf("%-8s  and predicts the same when batch norm is folded\n",
         same_folded ? "held" : "NOT HELD");
  for (int k = 0; k < 2; ++k) network_release(&nets[k]);
  return same && same_folded ? 0 : 1;
}

/** This program once more, to check the network in `path`. */
static bool check_in_new_process(const char *program, const char *data, const char *path) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    execl(program, program, "--data", data, "--check", path, (char *)NULL);
    fail("%s: %s", program, strerror(errno));
  }
  int status;
  if (child < 0 || waitpid(child, &status, 0) != child) fail("no new process: %s", strerror(errno));
  if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) fail("the new process failed");
  return WEXITSTATUS(status) == 0;
}

/* -------------------------------------------------------------------------------------------------
 * training */

/** What was measured. */
typedef struct history {
  int epochs;
  double accuracy[MAX_EPOCHS];
  double seconds, norm_seconds; /* training only, without tests */
  bool agrees;                  /* all ranks have the same network in the end */
} history;

/** On a terminal the line of an epoch grows while it is trained; elsewhere it is written once, at
 * the end of the epoch.
 */
static void draw_progress(const char *title, bool grows, int epoch, int epochs, int batches_done,
                          int batches) {
  static const char bar[] = "==============================";
  const int width = (int)sizeof bar - 1, done = width * batches_done / batches;
  if (grows)
    printf("\r%-18s  epoch %2d of %d  [%-*.*s]", title, epoch, epochs, width, done, bar);
  else if (batches_done == batches)
    printf("%-18s  epoch %2d of %d", title, epoch, epochs);
  fflush(stdout);
}

/** How to train. */
typedef struct plan {
  norm_kind norm;
  int batch, epochs; /* images of a step; the last one of an epoch may have fewer */
  uint64_t seed;
  bool line_grows; /* of an epoch, see draw_progress() */
} plan;

/** Trains a network, and saves it where there is a path. The learning rate is in proportion to the
 * batch. */
static history train(const dataset *data, plan p, const char *title, const char *path) {
  const int epochs = p.epochs, batches = (TRAIN_IMAGES + p.batch - 1) / p.batch;
  const double peak = LEARNING_RATE * p.batch / BATCH;
  uint64_t seed = p.seed;
  history result = {.epochs = epochs};
  network net = network_create(p.norm, p.batch,
                               &seed); /* uses up as many random numbers with a norm as without */
  int64_t predictions[TEST_IMAGES];
  float *images = allocate_floats(p.batch * PIXELS);
  int *labels = allocate(p.batch, sizeof(int)), order[TRAIN_IMAGES];
  for (int i = 0; i < TRAIN_IMAGES; ++i) order[i] = i;

  for (int epoch = 0; epoch < epochs; ++epoch) {
    float loss = 0.0f;
    shuffle(TRAIN_IMAGES, order, &seed);
    for (int batch = 0; batch < batches; ++batch) {
      const double start = seconds();
      const int first = batch * p.batch, n = batch < batches - 1 ? p.batch : TRAIN_IMAGES - first;
      const part own = ranks_part(n);
      for (int i = 0; i < own.count; ++i) {
        const int image = order[first + own.first + i];
        memcpy(images + i * PIXELS, data->images + image * PIXELS, PIXELS * sizeof(float));
        labels[i] = data->labels[image];
      }
      const double progress = (epoch + (double)batch / batches) / epochs;
      loss += (float)network_train(&net, own.count, n, images, labels,
                                   peak * 0.5 * (1.0 + cos(PI * progress)));
      result.seconds += seconds() - start;
      draw_progress(title, p.line_grows, epoch + 1, epochs, batch + 1, batches);
    }
    ranks_sum(1, &loss);
    network_predict(&net, data, predictions);
    result.accuracy[epoch] = accuracy_of(data, predictions);
    printf("  loss %.4f  test %5.1f %%\n", loss / TRAIN_IMAGES, 100.0 * result.accuracy[epoch]);
  }
  for (int k = 0; k < STAGES; ++k) result.norm_seconds += net.stages[k].norm_seconds;
  result.agrees = network_agrees(&net);
  if (path) network_save(&net, path, predictions);
  free(images);
  free(labels);
  network_release(&net);
  return result;
}

/* -------------------------------------------------------------------------------------------------
 * report */

static void print_table(const history *with, const history *without) {
  printf("\n%-32s  with batch norm  without\n", "");
  for (int i = 0; i < with->epochs; ++i)
    printf("test accuracy after epoch %-6d  %13.1f %%  %5.1f %%\n", i + 1,
           100.0 * with->accuracy[i], 100.0 * without->accuracy[i]);
  const double images = (double)TRAIN_IMAGES * with->epochs;
  printf("%-32s  %15.0f  %7.0f\n", "images per second, training", images / with->seconds,
         images / without->seconds);
  printf("%-32s  %13.1f %%        -\n\n", "time in batch norm, training",
         100.0 * with->norm_seconds / with->seconds);
}

/** The first epoch that reached the accuracy, from 1; one more than the last where none did. */
static int first_epoch(const history *h, double accuracy) {
  int epoch = 1;
  while (epoch <= h->epochs && h->accuracy[epoch - 1] < accuracy) ++epoch;
  return epoch;
}

/** States what was expected of batch norm, and whether it held. */
static bool print_verdict(const history *with, const history *without) {
  const bool accurate = with->accuracy[with->epochs - 1] >= FINAL_GOAL;
  const bool early = first_epoch(with, EARLY_GOAL) < first_epoch(without, EARLY_GOAL);
  printf("%-8s  %.0f %% or more at the end with batch norm\n", accurate ? "held" : "NOT HELD",
         100.0 * FINAL_GOAL);
  printf("%-8s  %.0f %% in fewer epochs with batch norm than without\n",
         early ? "held" : "NOT HELD", 100.0 * EARLY_GOAL);
  return accurate && early;
}

/* -------------------------------------------------------------------------------------------------
 * command line */

typedef struct options {
  const char *data, *save; /* save NULL: to a file that is deleted at the end */
  const char *check;       /* a saved network: only check that one */
  int norm;                /* a norm_kind; -1: with batch norm and without */
  int epochs, seed, batch;
} options;

static int to_number(const char *name, const char *text, int smallest, int largest) {
  char *end;
  errno = 0;
  const long number = strtol(text, &end, 10);
  if (end == text || *end != '\0' || errno != 0 || number < smallest || number > largest)
    fail("%s %s: not a number from %d to %d", name, text, smallest, largest);
  return (int)number;
}

static int to_norm(const char *text) {
  for (int kind = NORM_NONE; kind <= NORM_INSTANCE; ++kind)
    if (strcmp(text, NORM_NAMES[kind]) == 0) return kind;
  fail("--norm %s: must be batch, group, instance or none", text);
}

// An empty file of ours in $TMPDIR, else in /tmp; `path` receives its name.
static void temporary_create(char *path, size_t length) {
  const char name[] = "/digits-XXXXXX";  // mkstemp() sets the X
  const char *folder = getenv("TMPDIR");
  if (!folder || !*folder) folder = "/tmp";
  if (strlen(folder) + sizeof name > length)
    fail("TMPDIR has %zu characters, at most %zu fit", strlen(folder), length - sizeof name);
  snprintf(path, length, "%s%s", folder, name);
  const int file = mkstemp(path);
  if (file < 0) fail("%s: %s", path, strerror(errno));
  close(file);
}

static options options_read(int count, char **arguments) {
  options o = {.data = DIGITS_CSV, .norm = -1, .epochs = 15, .seed = 1, .batch = BATCH};
  for (int i = 1; i < count; i += 2) {
    const char *name = arguments[i], *value = i + 1 < count ? arguments[i + 1] : NULL;
    if (strcmp(name, "--help") == 0) {
      printf(
          "usage: digits [--data PATH] [--epochs N] [--seed N] [--batch N] [--save PATH | --norm "
          "NORM | --check PATH]\n"
          "NORM: batch, group, instance or none: trains this network alone\n"
          "defaults: --data %s --epochs %d --seed %d --batch %d\n",
          o.data, o.epochs, o.seed, o.batch);
      ranks_end();
      exit(0);
    }
    if (!value) fail("%s: unknown, or without a value; see --help", name);
    if (strcmp(name, "--data") == 0)
      o.data = value;
    else if (strcmp(name, "--save") == 0)
      o.save = value;
    else if (strcmp(name, "--check") == 0)
      o.check = value;
    else if (strcmp(name, "--norm") == 0)
      o.norm = to_norm(value);
    else if (strcmp(name, "--batch") == 0)
      o.batch = to_number(name, value, 1, TRAIN_IMAGES);
    else if (strcmp(name, "--epochs") == 0)
      o.epochs = to_number(name, value, 1, MAX_EPOCHS);
    else if (strcmp(name, "--seed") == 0)
      o.seed = to_number(name, value, 0, INT32_MAX);
    else
      fail("%s: unknown; see --help", name);
  }
  return o;
}

/** Trains one network, on all ranks. The status to end with. */
static int train_one(const dataset *data, plan p, bool has_ranks) {
  const history h = train(data, p, NORM_NAMES[p.norm], NULL);
  printf("norm %s, batch %d, seed %d: test accuracy %.1f %%\n", NORM_NAMES[p.norm], p.batch,
         (int)p.seed, 100.0 * h.accuracy[h.epochs - 1]);
  if (has_ranks)
    printf("%-8s  all ranks end with the same bits of weights and running statistics\n",
           h.agrees ? "held" : "NOT HELD");
  return h.agrees ? 0 : 1;
}

/** Trains with batch norm and without, and checks the saved network. The status to end with. */
static int compare(const dataset *data, plan p, const options *o, const char *program) {
  char temporary[4096];
  if (!o->save) temporary_create(temporary, sizeof temporary);
  const char *path = o->save ? o->save : temporary;
  const history with = train(data, p, "with batch norm", path);
  p.norm = NORM_NONE;
  const history without = train(data, p, "without batch norm", NULL);
  print_table(&with, &without);
  const bool saved = check_in_new_process(program, o->data, path);
  if (!o->save) unlink(temporary);
  return print_verdict(&with, &without) && saved ? 0 : 1;
}

int main(int count, char **arguments) {
  const bool has_ranks = ranks_start(&count, &arguments);
  const options o = options_read(count, arguments);
  if (has_ranks && (o.save || o.check)) fail("--save and --check are not for several processes");
  dataset data = dataset_read(o.data);
  plan p = {.norm = NORM_BATCH, .batch = o.batch, .epochs = o.epochs, .seed = (uint64_t)o.seed};
  int status;
  p.line_grows = !has_ranks && isatty(STDOUT_FILENO); /* mpirun shows its ranks a terminal */
  if (o.norm >= 0) p.norm = (norm_kind)o.norm;
  if (o.check)
    status = check_saved(&data, o.check);
  else if (o.norm >= 0 || has_ranks)
    status = train_one(&data, p, has_ranks);
  else
    status = compare(&data, p, &o, arguments[0]);
  free(data.images);
  free(data.labels);
  ranks_end();
  return status;
}
