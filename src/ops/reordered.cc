#include "ops/reordered.h"

#include <initializer_list>
#include <new>
#include <type_traits>

namespace bn2d {
namespace {

struct Axis {
  int64_t Extents::*extent;
  int64_t Strides::*stride;
};

const View &written(const Tensors &tensors) {
  return tensors.out.exists() ? tensors.out : tensors.out2;
}

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
  const Strides stride = written(*tensors).stride;
  Axis axes[3];  // those that matter, the slowest first
  int count = 0;
  for (const Axis &axis : {Axis{&Extents::n, &Strides::n}, Axis{&Extents::h, &Strides::h},
                           Axis{&Extents::w, &Strides::w}}) {
    if (size.*axis.extent == 1) continue;
    int place = count++;
    for (; place > 0 && stride.*axes[place - 1].stride < stride.*axis.stride; --place)
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
    const Strides of_view = view.stride;
    view.size = {samples, size.c, 1, positions};
    view.stride.w = of_view.*position->stride;
    if (sample != nullptr) view.stride.n = of_view.*sample->stride;
    normalise_strides(view);
  }
  return true;
}

bool may_reorder(const Blockwise &as_is, const Tensors &tensors) {
  return as_is.needs_packing() && written(tensors).exists() && as_is.sets().batches() == 1 &&
         tensors.side_mask == nullptr && tensors.sign_mask == nullptr;
}

}  // namespace

Reordered::Reordered(const Blockwise &as_is, const Tensors &tensors, DType dtype)
    : maps_(&as_is), scratch_(may_reorder(as_is, tensors) ? sizeof(Own) : 0) {
  if (scratch_.data() == nullptr) return;
  Tensors reordered = tensors;
  if (!reorder(as_is.sets().size, &reordered)) return;
  reordered.lends_out = false;  // sums through packed copies leave nothing there
  const Extents &size = written(reordered).size;
  static_assert(std::is_trivially_destructible_v<Own>);
  const Own &own =
      *new (scratch_.data()) Own(reordered, {size, size.n, as_is.sets().channels}, dtype);
  if (!own.blockwise.needs_packing()) maps_ = &own.blockwise;
}

}  // namespace bn2d
