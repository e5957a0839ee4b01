#include "ops/merge.h"

namespace bn2d {

Sets merge_samples(const Sets &sets, Tensors *tensors) {
  if (sets.size.plane() != 1 || sets.samples == 1) return sets;
  const int64_t samples = sets.samples;
  const Extents size = {sets.size.n / samples, sets.size.c, samples, 1};
  for (const auto tensor : kTensors) {
    View &view = tensors->*tensor;
    if (!view.exists()) continue;
    view.size = size;
    view.stride.h = view.stride.n;
    view.stride.n *= samples;
    normalise_strides(view);
  }
  tensors->has_byte_masks = true;
  return {size, 1, sets.channels};
}

}  // namespace bn2d
