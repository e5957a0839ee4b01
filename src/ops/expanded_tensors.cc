#include "ops/expanded_tensors.h"

#include <cstring>

namespace bn2d {
namespace {

enum class Aim { nothing, planes, channels };

bool is_expanded(const View &view) {
  const Extents &size = view.size;
  const Strides &stride = view.stride;
  return view.exists() && ((size.n > 1 && stride.n == 0) || (size.c > 1 && stride.c == 0) ||
                           (size.h > 1 && stride.h == 0) || (size.w > 1 && stride.w == 0));
}

bool is_in_layout(const View &view, Aim aim) {
  return aim == Aim::planes ? has_contiguous_planes(view) : has_contiguous_channels(view);
}

// The layout that the tensors which are not expanded have in common.
Aim aim_of(const Tensors &tensors, const Extents &size) {
  bool any = false;
  for (int k = 0; k < kReadTensors; ++k) any = any || is_expanded(tensors.*kTensors[k]);
  if (!any || tensors.side_mask != nullptr || tensors.sign_mask != nullptr) return Aim::nothing;
  const auto all_in = [&](Aim aim) {
    bool all = is_in_layout(tensors.out, aim) && is_in_layout(tensors.out2, aim);
    for (int k = 0; k < kReadTensors; ++k) {
      const View &view = tensors.*kTensors[k];
      all = all && (is_expanded(view) || is_in_layout(view, aim));
    }
    return all;
  };
  const bool planes = all_in(Aim::planes);
  if (all_in(Aim::channels) && (!planes || prefers_channels(size))) return Aim::channels;
  return planes ? Aim::planes : Aim::nothing;
}

// One of each sample, channel or position that is repeated, but a plane, or a row of channels, in
// full.
View written_out(const View &view, Aim aim) {
  View out = view;
  out.channel_block = 0;
  Extents &size = out.size;
  if (view.stride.n == 0) size.n = 1;
  const auto unless_one = [](int64_t extent, int64_t stride) {
    return extent == 1 ? int64_t{0} : stride;
  };
  if (aim == Aim::planes) {
    if (view.stride.c == 0 && view.channel_block == 0) size.c = 1;  // within a block alone, else
    out.stride = {unless_one(size.n, size.c * size.plane()), unless_one(size.c, size.plane()),
                  size.w, 1};
  } else {
    if (view.stride.h == 0 && view.stride.w == 0) size.h = size.w = 1;
    const int64_t position = unless_one(size.plane(), size.c);
    out.stride = {unless_one(size.n, size.c * size.plane()), 1, size.w * position, position};
  }
  return out;
}

void write_out(const View &from, const View &to) {
  const int64_t element = dtype_size(from.dtype), step = from.stride.w * element,
                to_step = to.stride.w * element;
  for (int64_t n = 0; n < to.size.n; ++n)
    for (int64_t c = 0; c < to.size.c; ++c)
      for (int64_t h = 0; h < to.size.h; ++h) {
        const std::byte *source = from.at(n, c, h, 0);
        std::byte *target = to.at(n, c, h, 0);
        for (int64_t w = 0; w < to.size.w; ++w, source += step, target += to_step)
          for (int64_t half = 0; half < element; half += 2)
            std::memcpy(target + half, source + half, 2);
      }
}

}  // namespace

size_t ExpandedTensors::bytes(const Tensors &tensors, const Extents &size) {
  const Aim aim = aim_of(tensors, size);
  if (aim == Aim::nothing) return 0;
  int64_t elements = 0;
  for (int k = 0; k < kReadTensors; ++k) {
    const View &view = tensors.*kTensors[k];
    if (!is_in_layout(view, aim))
      elements += written_out(view, aim).size.numel() + kAlignedElements;
  }
  return elements <= size.numel() / 8 ? static_cast<size_t>(elements) * sizeof(double) : 0;
}

ExpandedTensors::ExpandedTensors(Tensors &tensors, const Extents &size)
    : scratch_(bytes(tensors, size)) {
  auto *memory = static_cast<std::byte *>(scratch_.data());
  if (memory == nullptr) return;
  const Aim aim = aim_of(tensors, size);
  for (int k = 0; k < kReadTensors; ++k) {
    View &view = tensors.*kTensors[k];
    if (is_in_layout(view, aim)) continue;
    View copy = written_out(view, aim);
    copy.data = memory;
    const int64_t element = dtype_size(view.dtype);
    write_out(view, copy);
    memory +=
        (copy.size.numel() + kAlignedElements) / kAlignedElements * kAlignedElements * element;
    copy.size = view.size;
    view = copy;
  }
}

}  // namespace bn2d
