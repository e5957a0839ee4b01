// The map over a block of planes: vectors run along the positions. Included once per SIMD target.
#if defined(BN2D_KERNELS_MAP_OF_PLANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_MAP_OF_PLANES_INL_H
#undef BN2D_KERNELS_MAP_OF_PLANES_INL_H
#else
#define BN2D_KERNELS_MAP_OF_PLANES_INL_H
#endif

#include <algorithm>
#include <type_traits>

#include "kernels/elements.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/lines.inl.h"
#include "kernels/map_coefficients.inl.h"
#include "kernels/map_vectors.inl.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// Elements [i, stop) of a plane: with masks, or one by one.
template <class T, class Body, class C>
HWY_INLINE void MapRest(const Body &body, int64_t i, int64_t stop, const C &c) {
#if HWY_TARGET == HWY_AVX3
  const ScalableTag<Arithmetic<T>> d;
  constexpr int64_t kSize = static_cast<int64_t>(MaxLanes(d));
  for (; i < stop; i += kSize) {
    const int64_t count = std::min(stop - i, kSize);
    const auto bits = static_cast<uint16_t>((1u << count) - 1);
    const auto r = body(d, i, c, [&](const T *p) BN2D_INLINED {
      return LoadMasked(d, p, reinterpret_cast<const uint8_t *>(&bits));
    });
    const auto some = static_cast<size_t>(count);
    if (Body::kAlwaysOut || body.out) StoreFirst(d, r.out, body.out + i, some);
    if (body.out2) StoreFirst(d, r.out2, body.out2 + i, some);
  }
#else
  const CappedTag<Arithmetic<T>, 1> one;
  for (; i < stop; ++i) MapVector<T>(one, body, i, c, false);
#endif
}

// Elements [i, stop) of a row of planes, each plane on its own.
template <class T, class Body, class PlaneOf>
BN2D_KERNEL void MapElements(const Body &body, int64_t i, int64_t stop, int64_t length,
                             const PlaneOf &plane_of) {
  for (int64_t plane = i < length ? 0 : i / length; i < stop; ++plane) {
    const int64_t end = std::min(stop, (plane + 1) * length);
    MapRest<T>(body, i, end, plane_of(plane));
    i = end;
  }
}

// A row: memory without gaps, in `count` planes of `length` elements: plane_of(0), plane_of(1), ...
// A vector may reach from one plane into the next, and streaming stores fill whole cache lines: a
// line that is written in parts costs a read. Planes shorter than a vector go one by one
// (ops/long_rows.h makes long rows of them).
template <class T, class Body, class PlaneOf>
HWY_INLINE void MapAdjacentPlanes(const Body &body, int64_t count, int64_t length, bool streaming,
                                  int64_t prefetch, const PlaneOf &plane_of) {
  using D = ScalableTag<Arithmetic<T>>;
  using C = std::decay_t<decltype(plane_of(0))>;
  const D d;
  constexpr int64_t kStep = kStepOf<T, Body, C, D>;
  const int64_t total = count * length;
  int64_t i = 0;
  streaming = kStreams && Body::kHot && streaming;
  if (streaming) {
    i = std::min(total, BeforeLine(body.out ? body.out : body.out2));
    if (i != 0) MapElements<T>(body, 0, i, length, plane_of);
  }
  if (kStep > 1 && total - i >= kStep && (count == 1 || length >= kStep)) {
    int64_t plane = i < length ? 0 : i / length, end = (plane + 1) * length;
    C now = plane_of(plane);
    for (;;) {
      if constexpr (Body::kHot) {
        const int64_t stop = end - (end - i) % kLineOf<T>;
        if (streaming) {
          MapLines<T, true>(body, i, stop, now, true, prefetch);
        } else {
          MapLines<T, false>(body, i, stop, now, false, prefetch);
        }
        i = stop;
      }
      for (; i + kStep <= end; i += kStep) MapVector<T>(d, body, i, now, streaming);
      if (total - i < kStep) break;
      const C before = now;
      const int64_t left = end - i;
      now = plane_of(++plane);
      end += length;
      if (left != 0) {
        MapVector<T>(d, body, i, StraddlingCoefficients<D, C>(before, now, left), streaming);
        i += kStep;
      }
    }
  }
  if (i != total) MapElements<T>(body, i, total, length, plane_of);
}

template <class T, class Body>
HWY_INLINE void MapOverPlanes(const MapJob &job) {
  // Planes that follow one another in every tensor are one row.
  bool adjacent = true;
  for (const auto tensor : MapJob::kTensors)
    adjacent = adjacent && ((job.*tensor).data == nullptr || (job.*tensor).channel == job.length);
  const int64_t joined = adjacent ? job.channels : 1;
  for (int64_t n = 0; n < job.samples; ++n)
    for (int64_t c = 0; c < job.channels; c += joined)
      MapAdjacentPlanes<T>(Body(job, c, n, 0), joined, job.length, job.streaming, job.prefetch,
                           [&](int64_t plane) HWY_ATTR {
                             return PlaneCoefficients<Arithmetic<T>, Body::kCoefficients>(
                                 job, c + plane);
                           });
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
