/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "ranks.h"

bool ranks_start(int *count, char ***arguments) {
  (void)count;
  (void)arguments;
  return false;
}

void ranks_end(void) {}

_Noreturn void ranks_abort(int status) { exit(status); }

part ranks_part(int images) { return (part){0, images}; }

int32_t ranks_norm_forward(bn2d_module *norm, int n, int channels, int side, float *x, float *y,
                           bn2d_record **record) {
  (void)channels;
  return bn2d_forward_f32(norm, x, n, side, side, y, record);
}

int32_t ranks_norm_backward(bn2d_module *norm, const bn2d_record *record, int n, int channels,
                            int side, float *dy) {
  (void)n;
  (void)channels;
  (void)side;
  return bn2d_backward_f32(norm, record, dy, dy);
}

void ranks_sum(int size, float *values) {
  (void)size;
  (void)values;
}

bool ranks_agree(int size, const void *bytes) {
  (void)size;
  (void)bytes;
  return true;
}
