// Layers in long double, straight from their definition, over images of one dimension; and modules
// with values.
#pragma once
#include <bn2d/fold.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "support/contract_failures.h"
#include "support/contract_handles.h"
#include "support/numerics_values.h"

namespace bn2d_test {

using numerics::Random;
using numerics::Real;

struct LayerShape {
  int32_t kind = BN2D_LAYER_CONV;
  int64_t out = 1, in = 1, taps = 1, groups = 1;
  int64_t weights() const { return out * in / groups * taps; }
};

// Index of the weight between an output, an input (of all groups; they are of one group) and a tap.
inline int64_t weight_index(const LayerShape &l, int64_t o, int64_t i, int64_t k) {
  const int64_t outs = l.out / l.groups, ins = l.in / l.groups;
  if (l.kind == BN2D_LAYER_TRANSPOSED) return (i * outs + o % outs) * l.taps + k;
  return (o * ins + i % ins) * l.taps + k;
}

// (in, length) to (out, length'): a convolution with stride and dilation, or its transpose.
inline std::vector<Real> run_layer(const LayerShape &l, const std::vector<Real> &weight,
                                   const std::vector<Real> &bias, const std::vector<Real> &x,
                                   int64_t length, int64_t stride, int64_t dilation) {
  const bool transposed = l.kind == BN2D_LAYER_TRANSPOSED;
  const int64_t reach = (l.taps - 1) * dilation;
  const int64_t result =
      transposed ? (length - 1) * stride + reach + 1 : (length - reach - 1) / stride + 1;
  std::vector<Real> y(static_cast<size_t>(l.out * result), 0);
  for (int64_t o = 0; o < l.out; ++o) {
    for (int64_t t = 0; t < result; ++t)
      y[static_cast<size_t>(o * result + t)] = bias[static_cast<size_t>(o)];
    for (int64_t i = 0; i < l.in; ++i) {
      if (o / (l.out / l.groups) != i / (l.in / l.groups)) continue;
      for (int64_t k = 0; k < l.taps; ++k) {
        const Real w = weight[static_cast<size_t>(weight_index(l, o, i, k))];
        for (int64_t s = 0; s < (transposed ? length : result); ++s) {
          const int64_t at_y = transposed ? s * stride + k * dilation : s;
          const int64_t at_x = transposed ? s : s * stride + k * dilation;
          y[static_cast<size_t>(o * result + at_y)] +=
              w * x[static_cast<size_t>(i * length + at_x)];
        }
      }
    }
  }
  return y;
}

// The map of eval mode, in long double.
struct Map {
  std::vector<Real> scale, shift, size;  // size: magnitudes of what a shift is the sum of
};

inline Module random_module(int64_t channels, int32_t dtype, Random &random, Map *map,
                            double largest_shift = 2) {
  Settings settings;
  settings.dtype = dtype;
  Module module = make_module(channels, settings);
  const auto fill = [&](const char *name, double low, double high) {
    std::vector<Real> held;
    auto *bytes = data_of<unsigned char>(module, name);
    for (int64_t c = 0; c < channels; ++c) {
      held.push_back(numerics::rounded(dtype, random.uniform(low, high)));
      numerics::write_element(dtype, bytes + c * static_cast<int64_t>(numerics::size_of(dtype)),
                              static_cast<double>(held.back()));
    }
    return held;
  };
  const auto weight = fill("weight", -2, 2), bias = fill("bias", -largest_shift, largest_shift);
  const auto mean = fill("running_mean", -largest_shift, largest_shift),
             var = fill("running_var", 0.01, 4);
  for (size_t c = 0; c < weight.size(); ++c) {
    map->scale.push_back(weight[c] / std::sqrt(var[c] + static_cast<Real>(1e-5)));
    map->shift.push_back(bias[c] - mean[c] * map->scale[c]);
    map->size.push_back(std::fabs(bias[c]) + std::fabs(mean[c] * map->scale[c]));
  }
  return module;
}

// Random numbers of a dtype: what is held, and the bytes.
struct Numbers {
  int32_t dtype = BN2D_F32;
  std::vector<Real> held;
  std::vector<unsigned char> bytes;

  Numbers(int32_t d, int64_t count) : dtype(d), held(static_cast<size_t>(count), 0) { encode(); }
  Numbers(int32_t d, int64_t count, Random &random, double spread) : dtype(d) {
    for (int64_t i = 0; i < count; ++i)
      held.push_back(numerics::rounded(d, spread * random.normal()));
    encode();
  }
  void encode() {
    const size_t size = numerics::size_of(dtype);
    bytes.assign(held.size() * size + 8, 0xee);
    for (size_t i = 0; i < held.size(); ++i)
      numerics::write_element(dtype, bytes.data() + i * size, static_cast<double>(held[i]));
  }
  void decode() {
    const size_t size = numerics::size_of(dtype);
    for (size_t i = 0; i < held.size(); ++i)
      held[i] = numerics::decode(dtype, numerics::read_bits(dtype, bytes.data() + i * size));
  }
  void *data() { return bytes.data(); }
  bool is_whole() const {  // nothing was written behind the end
    for (size_t i = bytes.size() - 8; i < bytes.size(); ++i)
      if (bytes[i] != 0xee) return false;
    return true;
  }
};

}  // namespace bn2d_test
