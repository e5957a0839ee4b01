// The map over one block: which kernel takes it. Included once per SIMD target.
#if defined(BN2D_KERNELS_MAP_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_MAP_INL_H
#undef BN2D_KERNELS_MAP_INL_H
#else
#define BN2D_KERNELS_MAP_INL_H
#endif

#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/map_bodies.inl.h"
#include "kernels/map_of_channels.inl.h"
#include "kernels/map_of_planes.inl.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

template <class T, Layout kLayout, class Body>
HWY_INLINE void MapOver(const MapJob &job) {
  if constexpr (kLayout == Layout::planes) {
    MapOverPlanes<T, Body>(job);
  } else {
    MapOverChannels<T, Body>(job);
  }
}
// Maps that are seldom run are written for size.
template <class T, Layout kLayout, class Body>
BN2D_KERNEL void MapHot(const MapJob &job) {
  MapOver<T, kLayout, Body>(job);
}
template <class T, Layout kLayout, class Body>
HWY_NOINLINE BN2D_SMALL void MapSeldom(const MapJob &job) {
  MapOver<T, kLayout, Body>(job);
}
template <class T, Layout kLayout, class Body>
constexpr auto MapBlock() -> void (*)(const MapJob &) {
  if constexpr (Body::kHot) {
    return MapHot<T, kLayout, Body>;
  } else {
    return MapSeldom<T, kLayout, Body>;
  }
}

// A map of all jobs, or the choice between one for plain jobs and one for all.
template <class T, Layout kLayout>
void ChooseForward(const MapJob &job) {
  if (job.v.data == nullptr && job.activation == Activation::none)
    return MapBlock<T, kLayout, ForwardBody<T, false>>()(job);
  MapBlock<T, kLayout, ForwardBody<T, true>>()(job);
}
template <class T, Layout kLayout, template <class, bool> class Body>
void ChoosePlain(const MapJob &job) {
  if (job.side.data == nullptr && job.out2.data == nullptr && job.out.data != nullptr)
    return MapBlock<T, kLayout, Body<T, false>>()(job);
  MapBlock<T, kLayout, Body<T, true>>()(job);
}

template <MapOf kOf, class T, Layout kLayout>
constexpr auto Map() -> void (*)(const MapJob &) {
  constexpr bool kSpecialiseScale = kSpecialisePlain<T> && sizeof(T) > 2;  // half data hardly gain
  if constexpr (kLayout == Layout::channels && !kHasChannels) {
    return nullptr;
  } else if constexpr (kOf == MapOf::forward && kSpecialise) {
    return ChooseForward<T, kLayout>;
  } else if constexpr (kOf == MapOf::forward) {
    return MapBlock<T, kLayout, ForwardBody<T, true>>();
  } else if constexpr (kOf == MapOf::backward && kSpecialisePlain<T>) {
    return ChoosePlain<T, kLayout, BackwardBody>;
  } else if constexpr (kOf == MapOf::backward) {
    return MapBlock<T, kLayout, BackwardBody<T, true>>();
  } else if constexpr (kOf == MapOf::scale && kSpecialiseScale) {
    return ChoosePlain<T, kLayout, ScaleBody>;
  } else if constexpr (kOf == MapOf::scale) {
    return MapBlock<T, kLayout, ScaleBody<T, true>>();
  } else {
    return MapBlock<T, kLayout, DoubleBackwardBody<T>>();
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
