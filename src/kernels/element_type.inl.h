// The kernels of one element type on all SIMD targets: the whole of f32.cc, f64.cc, f16.cc and
// bf16.cc, which only name the type (BN2D_ELEMENT), the table of the kernels (BN2D_TABLE) and
// themselves (BN2D_FILE). One file a type, so that they compile side by side.
#include "kernels/targets.h"
//
#include "kernels/halves_as_floats.h"
#include "kernels/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE BN2D_FILE
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "kernels/arrays.inl.h"
#include "kernels/map.inl.h"
#include "kernels/mask.inl.h"
#include "kernels/pivots.inl.h"
#include "kernels/reduce.inl.h"
#include "kernels/sums.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

extern const TypeKernels kernels_f32;

// Half data on old CPUs pass as floats: kernels of their own would be 40 KB.
template <class T>
inline constexpr bool kPassesAsFloats = sizeof(T) == 2 && !kSpecialise;
template <SumsOf kOf, class T>
void SumsAsFloats(const SumsJob &job) {
  sum_halves_as_floats(kOf, job, kernels_f32, LoadArray<T>);
}
template <MapOf kOf, class T>
void MapAsFloats(const MapJob &job) {
  map_halves_as_floats(kOf, job, kernels_f32, LoadArray<T>, StoreArray<T>);
}

template <SumsOf kOf, Layout kLayout>
constexpr auto Sums() -> void (*)(const SumsJob &) {
  if constexpr (kLayout == Layout::channels && !kHasChannels) {
    return nullptr;
  } else if constexpr (kPassesAsFloats<BN2D_ELEMENT>) {
    return SumsAsFloats<kOf, BN2D_ELEMENT>;
  } else {
    return SumsOverBlock<kOf, BN2D_ELEMENT, kLayout>;
  }
}
template <MapOf kOf, Layout kLayout>
constexpr auto Maps() -> void (*)(const MapJob &) {
  if constexpr (kLayout == Layout::planes && kPassesAsFloats<BN2D_ELEMENT>) {
    return MapAsFloats<kOf, BN2D_ELEMENT>;
  } else {
    return Map<kOf, BN2D_ELEMENT, kLayout>();
  }
}
template <MapOf kOf, Layout kLayout>
constexpr auto kMap = Maps<kOf, kLayout>();

extern const TypeKernels BN2D_TABLE;
constexpr TypeKernels BN2D_TABLE = {
    Pivots<BN2D_ELEMENT>,
    {{Sums<SumsOf::forward, Layout::planes>(), Sums<SumsOf::forward, Layout::channels>()},
     {Sums<SumsOf::backward, Layout::planes>(), Sums<SumsOf::backward, Layout::channels>()},
     {Sums<SumsOf::double_backward, Layout::planes>(),
      Sums<SumsOf::double_backward, Layout::channels>()}},
    Reduce<sizeof(BN2D_ELEMENT) == sizeof(double)>,
    {{kMap<MapOf::forward, Layout::planes>, kMap<MapOf::forward, Layout::channels>},
     {kMap<MapOf::backward, Layout::planes>, kMap<MapOf::backward, Layout::channels>},
     {kMap<MapOf::scale, Layout::planes>, kMap<MapOf::scale, Layout::channels>},
     {kMap<MapOf::double_backward, Layout::planes>,
      kMap<MapOf::double_backward, Layout::channels>}},
    static_cast<int32_t>(MaxLanes(ScalableTag<Arithmetic<BN2D_ELEMENT>>())),
    kMostOfBlock<BN2D_ELEMENT>,
    kParts<BN2D_ELEMENT, ScalableTag<Arithmetic<BN2D_ELEMENT>>> *static_cast<int32_t>(
        MaxLanes(ScalableTag<Arithmetic<BN2D_ELEMENT>>())),
    ExpandMask<BN2D_ELEMENT>,
    PackMask<BN2D_ELEMENT>,
    LoadArray<BN2D_ELEMENT>,
    StoreArray<BN2D_ELEMENT>};

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
