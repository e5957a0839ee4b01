// Elements to and from arrays of the arithmetic type. Included once per SIMD target.
#if defined(BN2D_KERNELS_ARRAYS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_ARRAYS_INL_H
#undef BN2D_KERNELS_ARRAYS_INL_H
#else
#define BN2D_KERNELS_ARRAYS_INL_H
#endif

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "kernels/elements.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/lines.inl.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

template <class T>
BN2D_KERNEL void LoadArray(const void *elements, int64_t count, void *arithmetic) {
  if constexpr (std::is_same_v<T, Arithmetic<T>>) {
    std::memcpy(arithmetic, elements, static_cast<size_t>(count) * sizeof(T));
  } else {
    const ScalableTag<float> d;
    const CappedTag<float, 1> one;
    const auto *const from = static_cast<const T *>(elements);
    auto *const to = static_cast<float *>(arithmetic);
    int64_t i = 0;
    for (constexpr int64_t kSize = MaxLanes(d); i + kSize <= count; i += kSize)
      StoreU(LoadElements(d, from + i), d, to + i);
    for (; i < count; ++i) StoreU(LoadElements(one, from + i), one, to + i);
  }
}

// What is stored for v. A NaN may come from a float32 parameter or a saved statistic here, and have
// any payload: see BF16BitsFromFloat.
template <class T, class D>
HWY_INLINE Vec<D> ToStore(D d, Vec<D> v) {
  if constexpr (std::is_same_v<T, bf16>) return WithoutPayload(d, v);
  return v;
}

template <class T>
BN2D_KERNEL void StoreArray(const void *arithmetic, int64_t count, void *elements, bool streaming) {
  using A = Arithmetic<T>;
  const ScalableTag<A> d;
  const CappedTag<A, 1> one;
  const auto *const from = static_cast<const A *>(arithmetic);
  auto *const to = static_cast<T *>(elements);
  streaming = kStreams && streaming;
  int64_t i = 0;
  const auto store_ones = [&](int64_t end) HWY_ATTR {
    for (; i < end; ++i) StoreElements(one, ToStore<T>(one, LoadU(one, from + i)), to + i, false);
  };
  if (streaming) store_ones(std::min(count, BeforeLine(to)));
  for (constexpr int64_t kSize = MaxLanes(d); i + kSize <= count; i += kSize)
    StoreElements(d, ToStore<T>(d, LoadU(d, from + i)), to + i, streaming);
  store_ones(count);
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
