// Rows and columns of a matrix exchanged. Included once per SIMD target.
#if defined(BN2D_KERNELS_TRANSPOSE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_TRANSPOSE_INL_H
#undef BN2D_KERNELS_TRANSPOSE_INL_H
#else
#define BN2D_KERNELS_TRANSPOSE_INL_H
#endif

#include <algorithm>

#include "kernels/highway.inl.h"
#include "kernels/lines.inl.h"
#include "kernels/specialise.inl.h"
#include "kernels/transpose.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// Vectors of 16 bytes, for wider ones exchange elements within such parts alone. 64 channels of
// 28x28, in the caches, from planes to channels_last: 15 us in eval, one by one 23.
template <class T>
using SquareTag = CappedTag<T, 16 / sizeof(T)>;

// A square of as many vectors as a vector has elements. Each round interleaves a vector with the
// one half of them away:
//   a0 a1 a2 a3    a0 c0 a1 c1    a0 b0 c0 d0
//   b0 b1 b2 b3    a2 c2 a3 c3    a1 b1 c1 d1
//   c0 c1 c2 c3    b0 d0 b1 d1    a2 b2 c2 d2
//   d0 d1 d2 d3    b2 d2 b3 d3    a3 b3 c3 d3
template <class T>
HWY_INLINE void TransposeSquare(const T *from, int64_t from_stride, T *to, int64_t to_stride) {
  const SquareTag<T> d;
  constexpr int kCount = static_cast<int>(MaxLanes(d));
  Vec<SquareTag<T>> v[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) v[i] = LoadU(d, from + i * from_stride);
#if HWY_TARGET != HWY_SCALAR
#pragma GCC unroll 3
  for (int round = 1; round < kCount; round *= 2) {
    Vec<SquareTag<T>> next[kCount];
#pragma GCC unroll 8
    for (int i = 0; i < kCount / 2; ++i) {
      next[2 * i] = hn::InterleaveLower(d, v[i], v[i + kCount / 2]);
      next[2 * i + 1] = hn::InterleaveUpper(d, v[i], v[i + kCount / 2]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) v[i] = next[i];
  }
#endif
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) StoreU(v[i], d, to + i * to_stride);
}

template <class T>
HWY_INLINE void StreamLine(const T *from, T *to) {
  const SquareTag<T> d;
#pragma GCC unroll 4
  for (int64_t i = 0; i < kLineOf<T>; i += static_cast<int64_t>(MaxLanes(d)))
    hn::Stream(LoadU(d, from + i), d, to + i);
}

template <class T>
HWY_INLINE void TransposeOneByOne(const T *from, int64_t from_stride, int64_t rows, int64_t columns,
                                  T *to, int64_t to_stride) {
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t r = 0; r < rows; ++r) to[c * to_stride + r] = from[r * from_stride + c];
}

template <class T>
inline constexpr int64_t kSquare = static_cast<int64_t>(MaxLanes(SquareTag<T>()));

// As many columns as a square has become lines, or parts of lines. A line that is streamed in
// parts, with parts of others between them, takes twice as long; so it is put together first.
template <class T>
HWY_INLINE void StreamLines(const T *from, int64_t from_stride, T *to, int64_t to_stride) {
  alignas(kLineBytes) T squares[kSquare<T> * kLineOf<T>];
  for (int64_t i = 0; i < kLineOf<T>; i += kSquare<T>)
    TransposeSquare(from + i * from_stride, from_stride, squares + i, kLineOf<T>);
  for (int64_t i = 0; i < kSquare<T>; ++i) StreamLine(squares + i * kLineOf<T>, to + i * to_stride);
}
template <class T>
HWY_INLINE void StoreLines(const T *from, int64_t from_stride, int64_t rows, T *to,
                           int64_t to_stride) {
  for (int64_t i = 0; i < rows; i += kSquare<T>)
    TransposeSquare(from + i * from_stride, from_stride, to + i, to_stride);
}

constexpr int64_t kAhead = 128;  // rows

// Fetches what is read from memory later, while `rows` rows from `lines` on are read. Rows without
// gaps between them: 8 KiB ahead. Else the rows kAhead rows later.
template <class T>
HWY_INLINE void FetchFar(const Transposition &job, const T *lines, int64_t rows) {
  constexpr int64_t kElementsAhead = 8192 / static_cast<int64_t>(sizeof(T));
  const int64_t step = job.from_stride;
  if (job.columns == step) {
    for (int64_t i = 0; i < rows * step; i += kLineOf<T>)
      __builtin_prefetch(lines + kElementsAhead + i);
  } else if (job.columns > kLineOf<T>) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t c = 0; c < job.columns; c += kLineOf<T>)
        __builtin_prefetch(lines + (kAhead + i) * step + c);
  }
}

// Each line of `to` is written as a whole, from lines that stay in L1 meanwhile. A piece of a
// tensor of rows of channels touches a few lines of each position, and no hardware sees which ones
// come next; so those of the next 128 positions are fetched: from memory all of them, else only
// the first one of each position, because fetches cost time in the caches. Where rows follow one
// another without gaps, as in a turned plane, the hardware sees them, and fetching costs a tenth;
// but from memory the hardware does not fetch far enough ahead: eval of (32,64,56,56) from rows of
// channels to planes takes 0.65 of the time with fetches. Lines that are written are not fetched:
// in the caches that costs a fifth, and beyond them it gains nothing.
//
// Where one line is all there is of a position, as with some samples, the next one may be some
// hundred KiB away. Few such lines fit the caches together. So each is read as a whole, and few are
// fetched ahead: training of (32,64,56,56) with N fastest takes 0.8 of the time so.
//
// Lines that are a multiple of 4 KiB apart share a set of L1, which holds 8 or 12. A line of floats
// needs 16 such rows at once, and they push one another out before they are used up. So in the
// caches only as many are read as a square has: training of a group norm of (1,2048,7,7) with
// channels_last takes 0.75 to 0.8 of the time, of a batch norm from channels_last to planes, too
// (AVX2, Zen 3). From memory it would take 1.08. Of doubles 8 fill a line, and fit.
//
// Planes from memory are read as many at a time as a line has elements, while as many of the next
// ones are fetched: copies of dy in planes for a channels_last x, backward of (32,256,28,28) takes
// 0.8 of the time so.
template <class T>
BN2D_KERNEL void TransposeColumns(const Transposition &job) {
  constexpr int64_t kLinesAhead = 8;  // rows
  const T *const from = static_cast<const T *>(job.from);
  T *const to = static_cast<T *>(job.to);
  const int64_t step = job.from_stride, to_step = job.to_stride;
  const int64_t whole_columns = kSpecialise ? job.columns / kSquare<T> * kSquare<T> : 0;
  const int64_t whole_rows = kSpecialise ? job.rows / kSquare<T> * kSquare<T> : 0;
  const bool fetches = job.packs && job.columns < step, fetches_far = job.packs && job.is_far,
             fetches_planes = !job.packs && job.is_far,
             is_line = job.packs && job.columns <= kLineOf<T>;
  const bool shares_set = job.packs && !job.is_far && !job.streaming && kLineOf<T> > 8 &&
                          step % (4096 / sizeof(T)) == 0;
  const int64_t at_once = is_line || shares_set ? kSquare<T> : kLineOf<T>,
                ahead = is_line ? kLinesAhead : kAhead,
                last_ahead = is_line ? job.rows - ahead : job.rows;
  for (int64_t r = 0; r < whole_rows; r += at_once) {
    const int64_t rows = std::min(at_once, whole_rows - r);
    const T *const lines = from + r * step;
    const bool streams = job.streaming && rows == kLineOf<T> && to_step % kLineOf<T> == 0 &&
                         reinterpret_cast<uintptr_t>(to + r) % kLineBytes == 0;
    if (fetches && r < last_ahead)
      for (int64_t i = 0; i < rows; ++i) __builtin_prefetch(lines + (i + ahead) * step);
    if (fetches_far) FetchFar<T>(job, lines, rows);
    for (int64_t c = 0; c < whole_columns; c += kSquare<T>) {
      T *const target = to + c * to_step + r;
      if (fetches_planes && c % kLineOf<T> == 0)
        for (int64_t i = 0; i < rows; ++i) __builtin_prefetch(lines + (i + rows) * step + c);
      if (streams) {
        StreamLines(lines + c, step, target, to_step);
        continue;
      }
      StoreLines(lines + c, step, rows, target, to_step);
    }
  }
  TransposeOneByOne(from + whole_rows * step, step, job.rows - whole_rows, whole_columns,
                    to + whole_rows, to_step);
  TransposeOneByOne(from + whole_columns, step, job.rows, job.columns - whole_columns,
                    to + whole_columns * to_step, to_step);
}

// What comes from a packed copy, in the caches, is written a line of positions at a time: eval of
// (32,256,28,28) from planes to rows of channels takes 0.78 of the time so.
template <class T>
BN2D_KERNEL void Transpose(const Transposition &job) {
  const int64_t at_once = job.packs || job.is_far ? job.columns : kLineOf<T>;
  Transposition part = job;
  for (int64_t column = 0; column < job.columns; column += at_once) {
    part.from = static_cast<const T *>(job.from) + column;
    part.to = static_cast<T *>(job.to) + column * job.to_stride;
    part.columns = std::min(at_once, job.columns - column);
    TransposeColumns<T>(part);
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
