#include "ops/sums_partial.h"

#include <cfloat>
#include <cmath>

namespace bn2d {

double clamp_factor(double factor, DType dtype) {
  const double largest = dtype == DType::f64 ? DBL_MAX : FLT_MAX;
  return std::fabs(factor) > largest && std::isfinite(factor) ? std::copysign(largest, factor) : factor;
}

void blend_into(const ChannelArray &gradient, int64_t c, double blend, double value) {
  if (gradient.exists()) gradient.set(c, blend == 0 ? value : blend * gradient.get(c) + value);
}

void set_side(const Fused &fused, const View &y, const uint8_t *mask, Tensors &tensors) {
  tensors.activation = fused.activation;
  if (fused.activation == Activation::none) return;
  tensors.slope = fused.activation == Activation::leaky_relu ? fused.slope : 0.0;
  if (mask != nullptr) {
    tensors.side_mask = mask;
  } else {
    tensors.side = y;
  }
}

}  // namespace bn2d
