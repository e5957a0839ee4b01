/* SPDX-License-Identifier: MIT */
/**
 * @file fold.h
 * @brief Folding: batch norm in eval mode becomes part of the layer before or after it. Library
 * libbn2d_fold.
 *
 * In eval mode batch norm is y = scale*x + shift for each channel (bn2d_module_scale_shift()), and
 * a convolution or linear layer next to it can do that with other weights and another bias, so that
 * inference needs no batch norm:
 *
 *     before   W' = W * scale of its output channel,   b' = b * scale + shift
 *     after    W' = W * scale of its input channel,    b' = b + sum of W * shift
 *
 * The sum is over all that an output reads. A convolution of 3x3 with 32 inputs and 64 outputs:
 *
 *     double change, rounding;
 *     bn2d_fold_into_previous_flat(bn, BN2D_LAYER_CONV, 1, BN2D_F32, 64, 32, 9, W, b,
 *                                  BN2D_F32, W, b, &change, &rounding);
 *
 * A library of its own, because OpenBLAS does the products with the shift, and starts its threads
 * when it is loaded: link with bn2d::fold (CMake) or bn2d_fold (pkg-config), or load
 * libbn2d_fold.so.1. The rules of bn2d.h hold.
 *
 * **Which layer it is.** The weight is laid out as in PyTorch, whatever its strides:
 *  - BN2D_LAYER_CONV (out, in/groups, taps...): convolutions of any number of dimensions.
 *  - BN2D_LAYER_TRANSPOSED (in, out/groups, taps...): transposed convolutions.
 *  - BN2D_LAYER_LINEAR (out, in): linear layers. Where an image is flattened, in (of the layer
 *    after) or out (of the layer before) is a multiple of the channels, and those of one channel
 *    stand together.
 *
 * **What cannot be folded.** A module without running statistics: its scale depends on what it is
 * given. Into the layer after it: where an output near the border reads padding instead of the
 * shift, so that a layer with padding is refused unless every shift is 0; and a transposed
 * convolution with more than one tap, whose outputs do not all read all of them. Nor can a norm be
 * folded past an activation; only the caller can know of one. Dilation and stride do not matter.
 *
 * **Numbers.** All is computed in double and rounded once. A weight is within half an ulp of its
 * dtype of the exact one (float64: within 3 ulp). A bias, a sum of n products, is within half an
 * ulp of its dtype plus (n + 4) * 2^-52 times the sum of the magnitudes of what it is the sum of;
 * for a shift those are |bias| and |running_mean * scale|. So the folded layer differs from the two
 * layers by what rounding the weights does, which is reported, and by the order of its sums.
 */
#ifndef BN2D_FOLD_H
#define BN2D_FOLD_H

#include <bn2d/bn2d.h>

/** Version of the table, for bn2d_fold_get_api(). */
#define BN2D_FOLD_API_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

/** Kinds of layers that a batch norm is folded into. */
enum bn2d_layer {
  BN2D_LAYER_CONV = 1,       /**< Weight (out, in/groups, taps...). */
  BN2D_LAYER_TRANSPOSED = 2, /**< Weight (in, out/groups, taps...). */
  BN2D_LAYER_LINEAR = 3      /**< Weight (out, in). */
};

/* --------------------------------------------------------------------------------- folding */

/**
 * Folds a module into the layer before it, whose outputs are the module's channels.
 * @param[in] module A module.
 * @param layer One of bn2d_layer.
 * @param groups Groups of a convolution, 1 or more; 1 for a linear layer.
 * @param[in] weight The layer's weight, rank 2 to 8, float64, float32, float16 or bfloat16.
 * @param[in] bias The layer's bias, one element for each output; NULL: it has none.
 * @param[out] out_weight The new weight: of the same shape, any of these dtypes; may be exactly
 * weight.
 * @param[out] out_bias The new bias, one element for each output, of any of these dtypes; needed
 * also where the layer had none; may be exactly bias.
 * @param[out] out_change The largest |W' - W| / |W|, before rounding; NULL: not wanted.
 * @param[out] out_rounding The largest |rounded W' - exact W'| / |exact W'|: what storing the new
 * weights in their dtype costs. At most 2^-8 for bfloat16 and 2^-11 for float16, unless weights are
 * too small for the dtype: 1 where one is lost. NULL: not wanted.
 * @return BN2D_OK; BN2D_ERROR_STATE (no running statistics), BN2D_ERROR_SHAPE, BN2D_ERROR_DTYPE,
 * BN2D_ERROR_DEVICE, BN2D_ERROR_LAYOUT, BN2D_ERROR_OVERLAP, BN2D_ERROR_OVERFLOW (a finite weight or
 * bias becomes infinite in its dtype), BN2D_ERROR_INVALID_ARGUMENT (layer, groups),
 * BN2D_ERROR_BUSY. Nothing is written then. Threads: shared. Since 1.2.
 */
BN2D_API int32_t bn2d_fold_into_previous(const bn2d_module *module, int32_t layer, int64_t groups,
                                         const bn2d_view *weight, const bn2d_view *bias,
                                         const bn2d_view *out_weight, const bn2d_view *out_bias,
                                         double *out_change, double *out_rounding);
/**
 * Folds a module into the layer after it, whose inputs are the module's channels. As
 * bn2d_fold_into_previous().
 * @param[in] module A module.
 * @param layer One of bn2d_layer.
 * @param groups Groups of a convolution, 1 or more; 1 for a linear layer.
 * @param padded 1: some outputs read fewer inputs than others: the layer pads its input with zeros
 * or, transposed, has a stride above 1 or an output padding. 0: none of it.
 * @param[in] weight The layer's weight.
 * @param[in] bias The layer's bias, one element for each output; NULL: it has none.
 * @param[out] out_weight The new weight; may be exactly weight.
 * @param[out] out_bias The new bias, one element for each output; may be exactly bias.
 * @param[out] out_change,out_rounding As in bn2d_fold_into_previous(); NULL: not wanted.
 * @return as bn2d_fold_into_previous(); BN2D_ERROR_STATE, too, where the layer cannot take the
 * shift. Threads: shared. Since 1.2.
 */
BN2D_API int32_t bn2d_fold_into_next(const bn2d_module *module, int32_t layer, int64_t groups,
                                     int32_t padded, const bn2d_view *weight, const bn2d_view *bias,
                                     const bn2d_view *out_weight, const bn2d_view *out_bias,
                                     double *out_change, double *out_rounding);
/**
 * As bn2d_fold_into_previous(), of contiguous arrays.
 * @param[in] module A module.
 * @param layer One of bn2d_layer.
 * @param groups As there.
 * @param dtype One of bn2d_dtype: of weight and bias.
 * @param out Outputs of the layer.
 * @param in Inputs of the layer, all groups together.
 * @param taps Elements of a kernel, 9 for 3x3; 1 for a linear layer.
 * @param[in] weight The layer's weight: out * in / groups * taps elements.
 * @param[in] bias `out` elements; NULL: it has none.
 * @param out_dtype One of bn2d_dtype: of out_weight and out_bias.
 * @param[out] out_weight As many elements as weight; may be weight where the dtypes are the same.
 * @param[out] out_bias `out` elements; may be bias where the dtypes are the same.
 * @param[out] out_change,out_rounding As there; NULL: not wanted.
 * @return as bn2d_fold_into_previous(). Threads: shared. Since 1.2.
 */
BN2D_API int32_t bn2d_fold_into_previous_flat(const bn2d_module *module, int32_t layer,
                                              int64_t groups, int32_t dtype, int64_t out,
                                              int64_t in, int64_t taps, const void *weight,
                                              const void *bias, int32_t out_dtype, void *out_weight,
                                              void *out_bias, double *out_change,
                                              double *out_rounding);
/**
 * As bn2d_fold_into_next(), of contiguous arrays. As bn2d_fold_into_previous_flat().
 * @param[in] module A module.
 * @param groups Groups of a convolution, 1 or more; 1 for a linear layer.
 * @param out Outputs of the layer.
 * @param in Inputs of the layer, all groups together.
 * @param taps Elements of a kernel, 9 for 3x3; 1 for a linear layer.
 * @param layer One of bn2d_layer.
 * @param padded As in bn2d_fold_into_next().
 * @param dtype,out_dtype One of bn2d_dtype.
 * @param[in] weight The layer's weight.
 * @param[in] bias `out` elements; NULL: it has none.
 * @param[out] out_weight As many elements as weight; may be weight where the dtypes are the same.
 * @param[out] out_bias `out` elements; may be bias where the dtypes are the same.
 * @param[out] out_change,out_rounding NULL: not wanted.
 * @return as bn2d_fold_into_next(). Threads: shared. Since 1.2.
 */
BN2D_API int32_t bn2d_fold_into_next_flat(const bn2d_module *module, int32_t layer, int64_t groups,
                                          int32_t padded, int32_t dtype, int64_t out, int64_t in,
                                          int64_t taps, const void *weight, const void *bias,
                                          int32_t out_dtype, void *out_weight, void *out_bias,
                                          double *out_change, double *out_rounding);

/* ---------------------------------------------------------------------------------- plugin */

/** All functions above as a table, for hosts that dlopen the library. As bn2d_api: slots are only
 * ever appended. */
typedef struct bn2d_fold_api {
  uint64_t size;        /**< sizeof(bn2d_fold_api) of the library. */
  uint32_t api_version; /**< BN2D_FOLD_API_VERSION of the library. */
  uint32_t reserved;    /**< 0 */
  int32_t (*fold_into_previous)(const bn2d_module *module, int32_t layer, int64_t groups,
                                const bn2d_view *weight, const bn2d_view *bias,
                                const bn2d_view *out_weight, const bn2d_view *out_bias,
                                double *out_change, double *out_rounding);
  int32_t (*fold_into_next)(const bn2d_module *module, int32_t layer, int64_t groups,
                            int32_t padded, const bn2d_view *weight, const bn2d_view *bias,
                            const bn2d_view *out_weight, const bn2d_view *out_bias,
                            double *out_change, double *out_rounding);
  int32_t (*fold_into_previous_flat)(const bn2d_module *module, int32_t layer, int64_t groups,
                                     int32_t dtype, int64_t out, int64_t in, int64_t taps,
                                     const void *weight, const void *bias, int32_t out_dtype,
                                     void *out_weight, void *out_bias, double *out_change,
                                     double *out_rounding);
  int32_t (*fold_into_next_flat)(const bn2d_module *module, int32_t layer, int64_t groups,
                                 int32_t padded, int32_t dtype, int64_t out, int64_t in,
                                 int64_t taps, const void *weight, const void *bias,
                                 int32_t out_dtype, void *out_weight, void *out_bias,
                                 double *out_change, double *out_rounding);
  /* End of version 1. */
} bn2d_fold_api;

/**
 * The table, static and valid for ever (the library stays loaded after dlclose).
 * @param api_version BN2D_FOLD_API_VERSION that the host was compiled with.
 * @return The table, or NULL where the library is older than asked for, or api_version is 0.
 * Threads: free. Since 1.2.
 */
BN2D_API const bn2d_fold_api *bn2d_fold_get_api(uint32_t api_version);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* BN2D_FOLD_H */
