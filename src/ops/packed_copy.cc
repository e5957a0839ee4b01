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

// `rows` rows of `count` positions: channels, samples, or rows of planes. Where `stride` is not 1,
// element i of all rows follow one another in memory.
struct Part {
  std::byte *memory;
  std::byte *packed;
  int64_t stride;  // in memory, from position to position
  int64_t step;    // in memory, from row to row; used where stride is 1
  int64_t rows;
  int64_t count;
  int64_t row;  // in the copy, from row to row
  CopyHints hints;
};

// Positions [position, position + length) of a plane, as rows of constant stride: calls f(memory,
// offset, rows, count) for `rows` rows of `count` positions. joins_rows: several rows at once.
template <class F>
void for_each_run(const View &view, bool joins_rows, int64_t n, int64_t c, int64_t position,
                  int64_t length, const F &f) {
  if (plane_collapses(view))
    return f(view.at(n, c, 0, 0) + position * view.stride.w * dtype_size(view.dtype), int64_t{0},
             int64_t{1}, length);
  for (int64_t done = 0; done < length;) {
    const int64_t width = view.size.w, h = (position + done) / width, w = (position + done) % width;
    const int64_t rows = joins_rows && w == 0 ? std::max((length - done) / width, int64_t{1}) : 1,
                  count = std::min(width - w, length - done);
    f(view.at(n, c, h, w), done, rows, count);
    done += rows * count;
  }
}

// Copies the parts of a box, to or from `packed`: as many rows at once as there are, of channels,
// samples, or planes. Compiled once: for each size of elements and each direction, the library was
// 3 KB larger.
void copy_parts(const View &view, const Box &box, const PackedStrides &strides, std::byte *packed,
                CopyHints hints, void (*copy)(const Part &part)) {
  const bool across = view.stride.w != 1, channels = across && view.stride.c == 1,
             samples = across && !channels && view.stride.n == 1,
             joins_rows = !channels && !samples && (!across || view.stride.h == 1),
             joins_planes = joins_rows && across && box.length == view.size.plane() &&
                            view.channel_block == 0 && view.stride.c == view.size.h &&
                            strides.channel == box.length;
  const int64_t block = view.channels_of_block(), samples_at_once = samples ? box.samples : 1;
  for (int64_t c = 0, at_once; c < box.channels; c += at_once) {
    at_once = channels       ? std::min(box.channels - c, block - (box.channel + c) % block)
              : joins_planes ? box.channels
                             : 1;
    for (int64_t n = 0; n < box.samples; n += samples_at_once) {
      std::byte *const to =
          packed + (c * strides.channel + n * strides.sample) * dtype_size(view.dtype);
      for_each_run(view, joins_rows, box.n + n, box.channel + c, box.position, box.length,
                   [&](std::byte *memory, int64_t offset, int64_t rows, int64_t count) {
                     Part part = {memory,         to + offset * dtype_size(view.dtype),
                                  view.stride.w,  joins_rows ? view.stride.h : 1,
                                  rows * at_once, count,
                                  count,          hints};
                     if (channels) {
                       part.rows = at_once;
                       part.row = strides.channel;
                     } else if (samples) {
                       part.rows = samples_at_once;
                       part.row = strides.sample;
                     }
                     copy(part);
                   });
    }
  }
}

template <class T>
void gather_part(const Part &part) {
  const T *from = reinterpret_cast<const T *>(part.memory);
  T *to = reinterpret_cast<T *>(part.packed);
  if (part.stride == 1) {
    for (int64_t r = 0; r < part.rows; ++r)
      std::copy_n(from + r * part.step, part.count, to + r * part.row);
  } else if (part.rows > 1) {
    transpose<T>({from, part.stride, part.count, part.rows, to, part.row, true, part.hints.is_far,
                  part.hints.streaming});
  } else if (part.stride == 0) {
    repeat(from, part.count, to);
  } else {
    gather_run(from, part.stride, part.count, to);
  }
}

template <class T>
void scatter_part(const Part &part) {
  const T *from = reinterpret_cast<const T *>(part.packed);
  T *to = reinterpret_cast<T *>(part.memory);
  if (part.stride == 1) {
    for (int64_t r = 0; r < part.rows; ++r)
      std::copy_n(from + r * part.row, part.count, to + r * part.step);
  } else if (part.rows > 1) {
    transpose<T>({from, part.row, part.rows, part.count, to, part.stride, false, part.hints.is_far,
                  part.hints.streaming});
  } else {
    scatter_run(from, part.stride, part.count, to);
  }
}

}  // namespace

void gather(const View &view, const Box &box, const PackedStrides &packed, std::byte *to,
            CopyHints hints) {
  const int64_t bytes = dtype_size(view.dtype);
  copy_parts(view, box, packed, to, hints,
             bytes == 2   ? gather_part<uint16_t>
             : bytes == 4 ? gather_part<uint32_t>
                          : gather_part<uint64_t>);
}

void scatter(const std::byte *from, const PackedStrides &packed, const View &view, const Box &box,
             CopyHints hints) {
  const int64_t bytes = dtype_size(view.dtype);
  // scatter_part() only reads the copy.
  copy_parts(view, box, packed, const_cast<std::byte *>(from), hints,
             bytes == 2   ? scatter_part<uint16_t>
             : bytes == 4 ? scatter_part<uint32_t>
                          : scatter_part<uint64_t>);
}

}  // namespace bn2d
