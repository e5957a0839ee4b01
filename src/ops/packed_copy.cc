#include "ops/packed_copy.h"

#include <algorithm>

#include "kernels/kernels.h"

namespace bn2d {
namespace {

template <class T>
void transpose(const kernels::Transposition &job) {
  kernels::active().transpose[sizeof(T) / 4](job);
}

// `count` elements, apart in memory, one after another.
template <class T>
void gather_run(const T *from, int64_t stride, int64_t count, T *to) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i * stride];
}
template <class T>
void scatter_run(const T *from, int64_t stride, int64_t count, T *to) {
  for (int64_t i = 0; i < count; ++i) to[i * stride] = from[i];
}

// Of an expanded tensor: one element, again and again.
template <class T>
void repeat(const T *from, int64_t count, T *to) {
  std::fill_n(to, count, *from);
}

// Calls f(memory, offset, count) for each run of constant stride in positions [position, position +
// length) of a plane.
template <class F>
void for_each_run(const View &view, int64_t n, int64_t c, int64_t position, int64_t length, F f) {
  if (plane_collapses(view))
    return f(view.at(n, c, 0, 0) + position * view.stride.w * dtype_size(view.dtype), int64_t{0},
             length);
  for (int64_t done = 0; done < length;) {
    const int64_t h = (position + done) / view.size.w, w = (position + done) % view.size.w;
    const int64_t count = std::min(view.size.w - w, length - done);
    f(view.at(n, c, h, w), done, count);
    done += count;
  }
}

// Calls f(memory, first element in the copy, channels, count) for runs: of some channels at once
// where these are contiguous, else of one.
template <class F>
void for_each_part(const View &view, const Box &box, const PackedStrides &packed, F f) {
  const bool across = view.stride.c == 1 && view.stride.w != 1;
  const int64_t block = view.channels_of_block();
  for (int64_t c = 0, at_once; c < box.channels; c += at_once) {
    at_once = across ? std::min(box.channels - c, block - (box.channel + c) % block) : 1;
    for (int64_t n = 0; n < box.samples; ++n)
      for_each_run(view, box.n + n, box.channel + c, box.position, box.length,
                   [&](std::byte *memory, int64_t offset, int64_t count) {
                     f(memory, c * packed.channel + n * packed.sample + offset, at_once, count);
                   });
  }
}

template <class T>
void gather_elements(const View &view, const Box &box, const PackedStrides &packed, T *to) {
  const int64_t stride = view.stride.w;
  for_each_part(
      view, box, packed, [&](const std::byte *memory, int64_t at, int64_t channels, int64_t count) {
        const T *from = reinterpret_cast<const T *>(memory);
        if (channels > 1) {
          transpose<T>({from, stride, count, channels, to + at, packed.channel, true, false});
        } else if (stride == 1) {
          std::copy_n(from, count, to + at);
        } else if (stride == 0) {
          repeat(from, count, to + at);
        } else {
          gather_run(from, stride, count, to + at);
        }
      });
}

template <class T>
void scatter_elements(const T *from, const PackedStrides &packed, const View &view, const Box &box,
                      bool streaming) {
  const int64_t stride = view.stride.w;
  for_each_part(
      view, box, packed, [&](std::byte *memory, int64_t at, int64_t channels, int64_t count) {
        T *to = reinterpret_cast<T *>(memory);
        if (channels > 1) {
          transpose<T>({from + at, packed.channel, channels, count, to, stride, false, streaming});
        } else if (stride == 1) {
          std::copy_n(from + at, count, to);
        } else {
          scatter_run(from + at, stride, count, to);
        }
      });
}

}  // namespace

void gather(const View &view, const Box &box, const PackedStrides &packed, std::byte *to) {
  switch (dtype_size(view.dtype)) {
    case 2:
      return gather_elements(view, box, packed, reinterpret_cast<uint16_t *>(to));
    case 4:
      return gather_elements(view, box, packed, reinterpret_cast<uint32_t *>(to));
    default:
      return gather_elements(view, box, packed, reinterpret_cast<uint64_t *>(to));
  }
}

void scatter(const std::byte *from, const PackedStrides &packed, const View &view, const Box &box,
             bool streaming) {
  switch (dtype_size(view.dtype)) {
    case 2:
      return scatter_elements(reinterpret_cast<const uint16_t *>(from), packed, view, box,
                              streaming);
    case 4:
      return scatter_elements(reinterpret_cast<const uint32_t *>(from), packed, view, box,
                              streaming);
    default:
      return scatter_elements(reinterpret_cast<const uint64_t *>(from), packed, view, box,
                              streaming);
  }
}

}  // namespace bn2d
