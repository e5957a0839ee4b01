#include "ops/packed_copy.h"

#include <algorithm>

#include "kernels/kernels.h"

namespace bn2d {
namespace {

template <class T>
void transpose(const kernels::Transposition &job) {
  kernels::active().transpose[sizeof(T) / 4](job);  // of 2, 4, 8 bytes: 0, 1, 2
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

// Positions [position, position + length) of a plane, as rows of constant stride: calls f(memory,
// offset, rows, count) for `rows` rows of `count` positions. is_turned: the first elements of rows
// follow one another, and come together.
template <class F>
void for_each_run(const View &view, bool is_turned, int64_t n, int64_t c, int64_t position,
                  int64_t length, const F &f) {
  if (plane_collapses(view))
    return f(view.at(n, c, 0, 0) + position * view.stride.w * dtype_size(view.dtype), int64_t{0},
             int64_t{1}, length);
  for (int64_t done = 0; done < length;) {
    const int64_t width = view.size.w, h = (position + done) / width, w = (position + done) % width;
    const int64_t rows = is_turned && w == 0 ? std::max((length - done) / width, int64_t{1}) : 1,
                  count = std::min(width - w, length - done);
    f(view.at(n, c, h, w), done, rows, count);
    done += rows * count;
  }
}

// Calls f(memory, first element in the copy, rows, their stride in the copy, count) for rows of
// positions, as many at once as follow one another in memory: those of channels, samples, or rows
// of a plane.
template <class F>
void for_each_part(const View &view, const Box &box, const PackedStrides &packed, const F &f) {
  const bool across = view.stride.w != 1, channels = across && view.stride.c == 1,
             samples = across && !channels && view.stride.n == 1,
             is_turned = across && !channels && !samples && view.stride.h == 1;
  const int64_t block = view.channels_of_block(), samples_at_once = samples ? box.samples : 1;
  for (int64_t c = 0, at_once; c < box.channels; c += at_once) {
    at_once = channels ? std::min(box.channels - c, block - (box.channel + c) % block) : 1;
    for (int64_t n = 0; n < box.samples; n += samples_at_once)
      for_each_run(view, is_turned, box.n + n, box.channel + c, box.position, box.length,
                   [&](std::byte *memory, int64_t offset, int64_t rows, int64_t count) {
                     const int64_t at = c * packed.channel + n * packed.sample + offset;
                     if (channels) return f(memory, at, at_once, packed.channel, count);
                     if (samples) return f(memory, at, samples_at_once, packed.sample, count);
                     f(memory, at, rows, count, count);
                   });
  }
}

template <class T>
void gather_elements(const View &view, const Box &box, const PackedStrides &packed, CopyHints hints,
                     T *to) {
  const int64_t stride = view.stride.w;
  for_each_part(view, box, packed,
                [&](const std::byte *memory, int64_t at, int64_t rows, int64_t row, int64_t count) {
                  const T *from = reinterpret_cast<const T *>(memory);
                  if (rows > 1) {
                    transpose<T>({from, stride, count, rows, to + at, row, true, hints.is_far,
                                  hints.streaming});
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
                      CopyHints hints) {
  const int64_t stride = view.stride.w;
  for_each_part(view, box, packed,
                [&](std::byte *memory, int64_t at, int64_t rows, int64_t row, int64_t count) {
                  T *to = reinterpret_cast<T *>(memory);
                  if (rows > 1) {
                    transpose<T>({from + at, row, rows, count, to, stride, false, hints.is_far,
                                  hints.streaming});
                  } else if (stride == 1) {
                    std::copy_n(from + at, count, to);
                  } else {
                    scatter_run(from + at, stride, count, to);
                  }
                });
}

}  // namespace

void gather(const View &view, const Box &box, const PackedStrides &packed, std::byte *to,
            CopyHints hints) {
  switch (dtype_size(view.dtype)) {
    case 2:
      return gather_elements(view, box, packed, hints, reinterpret_cast<uint16_t *>(to));
    case 4:
      return gather_elements(view, box, packed, hints, reinterpret_cast<uint32_t *>(to));
    default:
      return gather_elements(view, box, packed, hints, reinterpret_cast<uint64_t *>(to));
  }
}

void scatter(const std::byte *from, const PackedStrides &packed, const View &view, const Box &box,
             CopyHints hints) {
  switch (dtype_size(view.dtype)) {
    case 2:
      return scatter_elements(reinterpret_cast<const uint16_t *>(from), packed, view, box, hints);
    case 4:
      return scatter_elements(reinterpret_cast<const uint32_t *>(from), packed, view, box, hints);
    default:
      return scatter_elements(reinterpret_cast<const uint64_t *>(from), packed, view, box, hints);
  }
}

}  // namespace bn2d
