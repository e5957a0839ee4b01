/* SPDX-License-Identifier: MIT */
/**
 * The layers around batch norm: convolution, bias, ReLU, pooling, linear, loss. Nothing here knows
 * bn2d.
 *
 * Activations are contiguous (n, channels, side, side) arrays of float, weights are row-major
 * matrices. A backward function adds to the gradients of parameters, as bn2d does, and overwrites
 * the gradients of activations.
 */
#ifndef BN2D_EXAMPLES_LAYERS_H
#define BN2D_EXAMPLES_LAYERS_H

/** A 3x3 convolution with padding 1 of side x side images. Its weight is an (out, in * 9) matrix.
 */
typedef struct conv_shape {
  int in, out, side;
} conv_shape;

/** Floats of the patches of one image: a matrix of in * 9 rows, a column for each pixel. */
int conv_patches_size(conv_shape shape);
/** y = weight * patches of x + bias, image by image; keeps the patches of all n images for
 * backward. bias NULL: none.
 */
void conv_forward(conv_shape shape, int n, const float *weight, const float *bias, const float *x,
                  float *patches, float *y);
/** Overwrites the patches. dx may be NULL: not wanted. */
void conv_backward(conv_shape shape, int n, const float *weight, float *patches, const float *dy,
                   float *dweight, float *dx);

/** y = x + bias, one bias for each channel of `pixels` pixels. */
void bias_forward(int n, int channels, int pixels, const float *bias, const float *x, float *y);
void bias_backward(int n, int channels, int pixels, const float *dy, float *dbias);

/** y = max(y, 0), in place. */
void relu_forward(int size, float *y);
/** dy = 0 where y, the output of forward, is 0; in place. */
void relu_backward(int size, const float *y, float *dy);

/** The average of each 2x2 window of `planes` planes of side x side pixels. */
void pool_forward(int planes, int side, const float *x, float *y);
void pool_backward(int planes, int side, const float *dy, float *dx);

/** y (n, out) = x (n, in) * transposed weight (out, in) + bias. */
void linear_forward(int n, int in, int out, const float *weight, const float *bias, const float *x,
                    float *y);
void linear_backward(int n, int in, int out, const float *weight, const float *x, const float *dy,
                     float *dweight, float *dbias, float *dx);

/** Softmax cross-entropy, summed over n images. Replaces the logits by the gradient of its mean
 * over a batch that these images are all or a part of. */
double cross_entropy(int n, int batch, int classes, const int *labels, float *logits);

#endif
