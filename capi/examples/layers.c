/* SPDX-License-Identifier: MIT */
#include "layers.h"

#include <cblas.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

/* c (m, n) = op(a) (m, k) * op(b) (k, n) + beta * c; all are row-major and dense. */
static void gemm(CBLAS_TRANSPOSE op_a, CBLAS_TRANSPOSE op_b, int m, int n, int k, const float *a,
                 const float *b, float beta, float *c) {
  const int columns_a = op_a == CblasNoTrans ? k : m, columns_b = op_b == CblasNoTrans ? n : k;
  cblas_sgemm(CblasRowMajor, op_a, op_b, m, n, k, 1.0f, a, columns_a, b, columns_b, beta, c, n);
}

/* -------------------------------------------------------------------------------------------------
 * convolution */

int conv_patches_size(conv_shape shape) { return shape.in * 9 * shape.side * shape.side; }

/* im2col. Row (channel, ky, kx) has, for each pixel, what lies under element (ky, kx) of a kernel
 * centred there; 0 outside. */
static void unfold(conv_shape shape, const float *x, float *patches) {
  const int side = shape.side;
  for (int row = 0; row < shape.in * 9; ++row) {
    const float *plane = x + row / 9 * side * side;
    const int top = row / 3 % 3 - 1, left = row % 3 - 1;
    for (int i = top; i < top + side; ++i)
      for (int j = left; j < left + side; ++j)
        *patches++ = i >= 0 && i < side && j >= 0 && j < side ? plane[i * side + j] : 0.0f;
  }
}

/* col2im, the transpose of unfold: each element of the patches is added to where it was read. */
static void fold(conv_shape shape, const float *patches, float *x) {
  const int side = shape.side;
  memset(x, 0, sizeof(float) * (size_t)(shape.in * side * side));
  for (int row = 0; row < shape.in * 9; ++row) {
    float *plane = x + row / 9 * side * side;
    const int top = row / 3 % 3 - 1, left = row % 3 - 1;
    for (int i = top; i < top + side; ++i)
      for (int j = left; j < left + side; ++j, ++patches)
        if (i >= 0 && i < side && j >= 0 && j < side) plane[i * side + j] += *patches;
  }
}

void conv_forward(conv_shape shape, int n, const float *weight, const float *bias, const float *x,
                  float *patches, float *y) {
  const int pixels = shape.side * shape.side;
  for (int image = 0; image < n; ++image) {
    unfold(shape, x, patches);
    for (int c = 0; bias && c < shape.out; ++c)
      for (int i = 0; i < pixels; ++i) y[c * pixels + i] = bias[c];
    gemm(CblasNoTrans, CblasNoTrans, shape.out, pixels, shape.in * 9, weight, patches,
         bias ? 1.0f : 0.0f, y);
    x += shape.in * pixels;
    y += shape.out * pixels;
    patches += conv_patches_size(shape);
  }
}

void conv_backward(conv_shape shape, int n, const float *weight, float *patches, const float *dy,
                   float *dweight, float *dx) {
  const int pixels = shape.side * shape.side;
  for (int image = 0; image < n; ++image) {
    gemm(CblasNoTrans, CblasTrans, shape.out, shape.in * 9, pixels, dy, patches, 1.0f, dweight);
    if (dx) {
      gemm(CblasTrans, CblasNoTrans, shape.in * 9, pixels, shape.out, weight, dy, 0.0f, patches);
      fold(shape, patches, dx);
      dx += shape.in * pixels;
    }
    dy += shape.out * pixels;
    patches += conv_patches_size(shape);
  }
}

/* ---------------------------------------------------------------------------------------------
 * bias, ReLU, pooling */

void bias_forward(int n, int channels, int pixels, const float *bias, const float *x, float *y) {
  for (int plane = 0; plane < n * channels; ++plane, x += pixels, y += pixels) {
    const float offset = bias[plane % channels];
    for (int i = 0; i < pixels; ++i) y[i] = x[i] + offset;
  }
}

void bias_backward(int n, int channels, int pixels, const float *dy, float *dbias) {
  for (int plane = 0; plane < n * channels; ++plane, dy += pixels) {
    float sum = 0.0f;
    for (int i = 0; i < pixels; ++i) sum += dy[i];
    dbias[plane % channels] += sum;
  }
}

void relu_forward(int size, float *y) {
  for (int i = 0; i < size; ++i) y[i] = y[i] > 0.0f ? y[i] : 0.0f;
}

void relu_backward(int size, const float *y, float *dy) {
  for (int i = 0; i < size; ++i) dy[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}

void pool_forward(int planes, int side, const float *x, float *y) {
  for (int row = 0; row < planes * side; row += 2) {
    const float *upper = x + row * side, *lower = upper + side;
    for (int j = 0; j < side; j += 2)
      *y++ = 0.25f * (upper[j] + upper[j + 1] + lower[j] + lower[j + 1]);
  }
}

void pool_backward(int planes, int side, const float *dy, float *dx) {
  for (int row = 0; row < planes * side; row += 2) {
    float *upper = dx + row * side, *lower = upper + side;
    for (int j = 0; j < side; j += 2)
      upper[j] = upper[j + 1] = lower[j] = lower[j + 1] = 0.25f * *dy++;
  }
}

/* ------------------------------------------------------------------------------------------------
 * linear and loss */

void linear_forward(int n, int in, int out, const float *weight, const float *bias, const float *x,
                    float *y) {
  for (int i = 0; i < n * out; ++i) y[i] = bias[i % out];
  gemm(CblasNoTrans, CblasTrans, n, out, in, x, weight, 1.0f, y);
}

void linear_backward(int n, int in, int out, const float *weight, const float *x, const float *dy,
                     float *dweight, float *dbias, float *dx) {
  for (int i = 0; i < n * out; ++i) dbias[i % out] += dy[i];
  gemm(CblasTrans, CblasNoTrans, out, in, n, dy, x, 1.0f, dweight);
  gemm(CblasNoTrans, CblasNoTrans, n, in, out, dy, weight, 0.0f, dx);
}

double cross_entropy(int n, int batch, int classes, const int *labels, float *logits) {
  double loss = 0.0;
  for (int i = 0; i < n; ++i, logits += classes) {
    float largest = logits[0],
          sum = 0.0f; /* exp() of the difference to the largest cannot overflow */
    for (int c = 1; c < classes; ++c) largest = fmaxf(largest, logits[c]);
    for (int c = 0; c < classes; ++c) sum += expf(logits[c] - largest);
    const float log_sum = largest + logf(sum);
    loss += log_sum - logits[labels[i]];
    for (int c = 0; c < classes; ++c)
      logits[c] = (expf(logits[c] - log_sum) - (float)(c == labels[i])) / (float)batch;
  }
  return loss;
}
