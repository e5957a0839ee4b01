#include "ops/reordered.h"

#include <initializer_list>

namespace bn2d {
namespace {

struct Axis {
  int64_t Extents::*extent;
  int64_t Strides::*stride;
};

// Whether one step along `outer` is one behind the last of `inner`, in all tensors.
bool join(const Tensors &tensors, const Axis &outer, const Axis &inner) {
  bool all = true;
  for (const auto tensor : kTensors) {
    const View &view = tensors.*tensor;
    all = all && (!view.exists() ||
                  view.stride.*outer.stride == view.size.*inner.extent * view.stride.*inner.stride);
  }
  return all;
}

// The tensors with what changes fastest in memory as their only row of positions, and the rest as
// their samples. False: they are not like that.
bool reorder(const Extents &size, Tensors *tensors) {
  const View &written = tensors->out.exists() ? tensors->out : tensors->out2;
  Axis axes[3];  // those that matter, the slowest first
  int count = 0;
  for (const Axis &axis : {Axis{&Extents::n, &Strides::n}, Axis{&Extents::h, &Strides::h},
                           Axis{&Extents::w, &Strides::w}}) {
    if (size.*axis.extent == 1) continue;
    int place = count++;
    for (; place > 0 && written.stride.*axes[place - 1].stride < written.stride.*axis.stride;
         --place)
      axes[place] = axes[place - 1];
    axes[place] = axis;
  }
  int64_t samples = 1, positions = 1;
  const Axis *sample = nullptr, *position = nullptr;  // the innermost of each
  for (const Axis *axis = axes + count; axis-- != axes;) {
    const int64_t extent = size.*axis->extent;
    if (sample == nullptr && (position == nullptr || join(*tensors, *axis, axis[1]))) {
      if (position == nullptr) position = axis;
      positions *= extent;
    } else if (sample == nullptr || join(*tensors, *axis, axis[1])) {
      if (sample == nullptr) sample = axis;
      samples *= extent;
    } else {
      return false;
    }
  }
  if (position == nullptr) return false;
  for (const auto tensor : kTensors) {
    View &view = tensors->*tensor;
    if (!view.exists()) continue;
    const Strides stride = view.stride;
    view.size = {samples, size.c, 1, positions};
    view.stride.w = stride.*position->stride;
    if (sample != nullptr) view.stride.n = stride.*sample->stride;
    normalise_strides(view);
  }
  return true;
}

}  // namespace

Reordered::Reordered(const Blockwise &as_is, const Tensors &tensors, DType dtype) : as_is_(as_is) {
  const Sets &sets = as_is.sets();
  if (as_is.order() != MemoryOrder::neither || sets.batches() != 1 ||
      tensors.side_mask != nullptr || tensors.sign_mask != nullptr)
    return;
  Tensors reordered = tensors;
  if (!reorder(sets.size, &reordered)) return;
  reordered.lends_out = false;
  const View &view = reordered.out.exists() ? reordered.out : reordered.out2;
  own_.emplace(reordered, Sets{view.size, view.size.n, sets.channels}, dtype);
  if (own_->blockwise.order() == MemoryOrder::neither) own_.reset();
}

}  // namespace bn2d
