// Folding by views, and by scalars and pointers alone.
#include "fold/fold.h"

#include <cinttypes>

#include "above/arrays.h"
#include "above/call.h"
#include "base/cancel.h"
#include "bn2d/fold.h"
#include "guard.h"

using namespace bn2d;
using namespace bn2d::capi;
using fold::Layer;
using fold::LayerKind;
using fold::Side;

static_assert(static_cast<int>(LayerKind::conv) == BN2D_LAYER_CONV &&
              static_cast<int>(LayerKind::transposed) == BN2D_LAYER_TRANSPOSED &&
              static_cast<int>(LayerKind::linear) == BN2D_LAYER_LINEAR);

namespace {

Layer layer_of(int32_t kind, Side side, int64_t groups, int32_t padded) {
  if (kind < BN2D_LAYER_CONV || kind > BN2D_LAYER_LINEAR)
    fail(Status::invalid_argument,
         "layer is %" PRId32 ", known are conv (1), transposed (2) and linear (3)", kind);
  if (groups < 1)
    fail(Status::invalid_argument, "groups is %" PRId64 ", must be 1 or more", groups);
  if (padded != 0 && padded != 1)
    fail(Status::invalid_argument, "padded is %" PRId32 ", must be 0 or 1", padded);
  Layer layer;
  layer.kind = static_cast<LayerKind>(kind);
  layer.side = side;
  layer.groups = groups;
  layer.padded = padded == 1;
  return layer;
}

// What is written must not be the module's own.
void check_apart(const bn2d_module *module, const Layer &layer) {
  for_each_tensor(module, [&](TensorHandle &&, const char *name, const Array &own) {
    fold::check_apart("out_weight", layer.out_weight, name, own);
    fold::check_apart("out_bias", layer.out_bias, name, own);
  });
}

void run(const bn2d_module *module, const Layer &layer, double *out_change, double *out_rounding) {
  int64_t channels = 0;
  check(bn2d_module_num_features(module, &channels));
  std::vector<double> scale(static_cast<size_t>(channels)), shift(scale.size());
  check(bn2d_module_scale_shift(module, BN2D_F64, scale.data(), shift.data(), channels));
  check_apart(module, layer);
  const fold::Outcome outcome = fold::fold(layer, scale, shift);
  if (out_change != nullptr) *out_change = outcome.change;
  if (out_rounding != nullptr) *out_rounding = outcome.rounding;
}

int32_t fold_views(const bn2d_module *module, int32_t kind, Side side, int64_t groups,
                   int32_t padded, const bn2d_view *weight, const bn2d_view *bias,
                   const bn2d_view *out_weight, const bn2d_view *out_bias, double *out_change,
                   double *out_rounding) {
  const NotCancellable here;  // OpenBLAS may wait for its threads
  return guarded([&] {
    required(module, "module");
    Layer layer = layer_of(kind, side, groups, padded);
    layer.weight = array_of("weight", weight, false);
    if (bias != nullptr) layer.bias = array_of("bias", bias, false);
    layer.out_weight = array_of("out_weight", out_weight, true);
    layer.out_bias = array_of("out_bias", out_bias, true);
    run(module, layer, out_change, out_rounding);
  });
}

int32_t fold_flat(const bn2d_module *module, int32_t kind, Side side, int64_t groups,
                  int32_t padded, int32_t dtype, int64_t out, int64_t in, int64_t taps,
                  const void *weight, const void *bias, int32_t out_dtype, void *out_weight,
                  void *out_bias, double *out_change, double *out_rounding) {
  const NotCancellable here;
  return guarded([&] {
    required(module, "module");
    Layer layer = layer_of(kind, side, groups, padded);
    if (out < 0 || in < 0 || taps < 1)
      fail(Status::shape,
           "out is %" PRId64 ", in %" PRId64 ", taps %" PRId64 ", must be 0, 0 and 1 or more", out,
           in, taps);
    if (out % groups != 0 || in % groups != 0)
      fail(Status::shape,
           "out is %" PRId64 ", in %" PRId64 ", both must be multiples of %" PRId64 " groups", out,
           in, groups);
    if (layer.kind == LayerKind::linear && taps != 1)
      fail(Status::shape, "taps is %" PRId64 ", a linear layer has 1", taps);
    const bool is_transposed = layer.kind == LayerKind::transposed;
    const int64_t shape[] = {is_transposed ? in : out, (is_transposed ? out : in) / groups, taps};
    const int32_t rank = layer.kind == LayerKind::linear ? 2 : 3;
    layer.weight = array_of("weight", dtype, shape, rank, required(weight, "weight"), false);
    if (bias != nullptr) layer.bias = array_of("bias", dtype, &out, 1, bias, false);
    layer.out_weight =
        array_of("out_weight", out_dtype, shape, rank, required(out_weight, "out_weight"), true);
    layer.out_bias = array_of("out_bias", out_dtype, &out, 1, required(out_bias, "out_bias"), true);
    run(module, layer, out_change, out_rounding);
  });
}

}  // namespace

int32_t bn2d_fold_into_previous(const bn2d_module *module, int32_t layer, int64_t groups,
                                const bn2d_view *weight, const bn2d_view *bias,
                                const bn2d_view *out_weight, const bn2d_view *out_bias,
                                double *out_change, double *out_rounding) {
  return fold_views(module, layer, Side::previous, groups, 0, weight, bias, out_weight, out_bias,
                    out_change, out_rounding);
}
int32_t bn2d_fold_into_next(const bn2d_module *module, int32_t layer, int64_t groups,
                            int32_t padded, const bn2d_view *weight, const bn2d_view *bias,
                            const bn2d_view *out_weight, const bn2d_view *out_bias,
                            double *out_change, double *out_rounding) {
  return fold_views(module, layer, Side::next, groups, padded, weight, bias, out_weight, out_bias,
                    out_change, out_rounding);
}
int32_t bn2d_fold_into_previous_flat(const bn2d_module *module, int32_t layer, int64_t groups,
                                     int32_t dtype, int64_t out, int64_t in, int64_t taps,
                                     const void *weight, const void *bias, int32_t out_dtype,
                                     void *out_weight, void *out_bias, double *out_change,
                                     double *out_rounding) {
  return fold_flat(module, layer, Side::previous, groups, 0, dtype, out, in, taps, weight, bias,
                   out_dtype, out_weight, out_bias, out_change, out_rounding);
}
int32_t bn2d_fold_into_next_flat(const bn2d_module *module, int32_t layer, int64_t groups,
                                 int32_t padded, int32_t dtype, int64_t out, int64_t in,
                                 int64_t taps, const void *weight, const void *bias,
                                 int32_t out_dtype, void *out_weight, void *out_bias,
                                 double *out_change, double *out_rounding) {
  return fold_flat(module, layer, Side::next, groups, padded, dtype, out, in, taps, weight, bias,
                   out_dtype, out_weight, out_bias, out_change, out_rounding);
}
