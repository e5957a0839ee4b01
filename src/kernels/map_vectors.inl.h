// Vectors of elements through the body of a map: one, or those of a stretch of cache lines.
// Included once per SIMD target.
#if defined(BN2D_KERNELS_MAP_VECTORS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_MAP_VECTORS_INL_H
#undef BN2D_KERNELS_MAP_VECTORS_INL_H
#else
#define BN2D_KERNELS_MAP_VECTORS_INL_H
#endif

#include <algorithm>

#include "kernels/elements.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/lines.inl.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// Whether a body maps the elements of two vectors at a time, in parts: where the coefficients do
// not mind their order.
template <class T, class Body, class C, class D>
inline constexpr bool kInParts = (Body::kHot && C::kAnyOrder) && (kParts<T, D> == 2);

// The elements from i on: one vector of them, or two.
template <class T, class Body, class C, class D>
HWY_INLINE void MapVector(D d, const Body &body, int64_t i, const C &c, bool streaming) {
  if constexpr (kInParts<T, Body, C, D>) {
    const auto even = body(d, i, c.template part<0>(),
                           [&](const T *p) BN2D_INLINED { return LoadPart<0>(d, p); });
    const auto odd = body(d, i, c.template part<1>(),
                          [&](const T *p) BN2D_INLINED { return LoadPart<1>(d, p); });
    if (Body::kAlwaysOut || body.out) StoreParts(d, even.out, odd.out, body.out + i, streaming);
    if (body.out2)
      StoreParts(d, even.out2, odd.out2, body.out2 + i,
                 streaming && !Body::kAlwaysOut && !body.out);
  } else {
    const auto r = body(d, i, c, [&](const T *p) BN2D_INLINED { return LoadElements(d, p); });
    if (Body::kAlwaysOut || body.out) StoreElements(d, r.out, body.out + i, streaming);
    if (body.out2)
      StoreElements(d, r.out2, body.out2 + i, streaming && !Body::kAlwaysOut && !body.out);
  }
}
// Elements that MapVector maps at a time.
template <class T, class Body, class C, class D>
inline constexpr int64_t kStepOf = static_cast<int64_t>(MaxLanes(D())) *
                                   (kInParts<T, Body, C, D> ? 2 : 1);

// What a body reads from element i on, `bytes` later (MapJob::prefetch). kStreaming: whether stores
// may stream.
template <bool kStreaming, class Body>
HWY_INLINE void PrefetchAhead(const Body &body, int64_t i, int64_t bytes) {
  const auto ahead = [&](int k) BN2D_INLINED {
    return reinterpret_cast<const char *>(body.reads(k) + i) + bytes;
  };
  if (kStreaming && bytes == MapJob::kIntoL1) {
    for (int k = 0; k < Body::kReads; ++k) PrefetchIntoL1(ahead(k));
  } else if (bytes != 0) {
    for (int k = 0; k < Body::kReads; ++k) Prefetch(ahead(k));
  }
}

// Elements [i, stop) of a row, a cache line at a time.
template <class T, bool kStreaming, class Body, class C>
HWY_INLINE void MapLines(const Body &body, int64_t i, int64_t stop, const C &c, bool streaming,
                         int64_t prefetch) {
  using D = ScalableTag<Arithmetic<T>>;
  const D d;
  constexpr int64_t kStep = kStepOf<T, Body, C, D>;
  constexpr int64_t kSteps = std::max(kLineOf<T> / kStep, int64_t{1});
  for (; i < stop; i += kSteps * kStep) {
    PrefetchAhead<kStreaming>(body, i, prefetch);
    if constexpr (kSteps <= 2) {
      MapVector<T>(d, body, i, c, streaming);
      if constexpr (kSteps == 2) MapVector<T>(d, body, i + kStep, c, streaming);
    } else {
#pragma GCC unroll 2
      for (int64_t j = 0; j < kSteps; ++j) MapVector<T>(d, body, i + j * kStep, c, streaming);
    }
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
