// Batch norm in eval mode, y = scale*x + shift, as part of the layer before or after it.
#pragma once
#include <cstdint>
#include <vector>

#include "arrays/array.h"

namespace bn2d::fold {

enum class LayerKind : int32_t { conv = 1, transposed = 2, linear = 3 };
enum class Side { previous, next };  // of the batch norm, where the layer is

struct Layer {
  LayerKind kind = LayerKind::conv;
  Side side = Side::previous;
  int64_t groups = 1;
  bool padded = false;  // some outputs read fewer inputs than others
  // All have been checked. A bias without data does not exist.
  Array weight, bias, out_weight, out_bias;
};

struct Outcome {
  double change = 0;    // largest |W' - W| / |W|
  double rounding = 0;  // largest |rounded W' - W'| / |W'|
};

// Error overlap where both have memory in common.
void check_apart(const char *name, const Array &written, const char *other_name,
                 const Array &other);

// Error shape, dtype, overlap, overflow, and state where the layer cannot take the shift; nothing
// has been written then.
Outcome fold(const Layer &layer, const std::vector<double> &scale,
             const std::vector<double> &shift);

}  // namespace bn2d::fold
