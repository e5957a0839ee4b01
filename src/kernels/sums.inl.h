// The sums of one block: which kernel takes it. Included once per SIMD target.
#if defined(BN2D_KERNELS_SUMS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_SUMS_INL_H
#undef BN2D_KERNELS_SUMS_INL_H
#else
#define BN2D_KERNELS_SUMS_INL_H
#endif

#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/runs.h"
#include "kernels/specialise.inl.h"
#include "kernels/sums_of_channels.inl.h"
#include "kernels/sums_of_planes.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// The adders as functions that sum_over_...() can call. Those of double backward, which are seldom
// run, are written for size.
template <SumsOf kOf, class T, Act kAct, In kIn>
struct Adder {
  static BN2D_KERNEL void ToPlanes(const Planes &planes) { AddPlanes<kOf, T, kAct, kIn>(planes); }
  static HWY_NOINLINE void ToChannels(const PartsOfRun &run) { AddParts<kOf, T, kAct, kIn>(run); }
};
template <class T, Act kAct, In kIn>
struct Adder<SumsOf::double_backward, T, kAct, kIn> {
  static constexpr SumsOf kOf = SumsOf::double_backward;
  static HWY_NOINLINE BN2D_SMALL void ToPlanes(const Planes &planes) {
    AddPlanes<kOf, T, kAct, kIn>(planes);
  }
  static HWY_NOINLINE BN2D_SMALL void ToChannels(const PartsOfRun &run) {
    AddParts<kOf, T, kAct, kIn>(run);
  }
};

template <SumsOf kOf, class T, Layout kLayout, Act kAct, In kIn>
void SumsOverLayout(const SumsJob &job) {
  if constexpr (kLayout == Layout::planes) {
    if constexpr (kHasChannels)
      if (sum_over_columns(job, sizeof(T), kIn, sums_count(kOf),
                           Adder<kOf, T, kAct, kIn>::ToChannels))
        return;
    sum_over_planes(job, sizeof(T), Adder<kOf, T, kAct, kIn>::ToPlanes);
  } else {
    sum_over_channels(job, sizeof(T), kIn, sums_count(kOf), Adder<kOf, T, kAct, kIn>::ToChannels);
  }
}

// Which kernels know their activation, and where float and half data are summed in float:
//              forward       backward                     double backward
//   runs       none          none, relu (f32), sloped     -
//   doubles    none          any                          any
//   pairs      none          any                          any
// The targets of old CPUs have no runs.
template <SumsOf kOf, class T, Layout kLayout>
void SumsOverBlock(const SumsJob &job) {
  constexpr Act kAny = kOf == SumsOf::forward ? Act::none : Act::any;
  constexpr In kOneByOne = sizeof(T) == sizeof(double) ? In::pairs : In::doubles;
  if constexpr (kOneByOne == In::doubles && kOf != SumsOf::double_backward && kSpecialise) {
    if (!job.in_double) {
      if (kOf == SumsOf::forward || job.side.data == nullptr)
        return SumsOverLayout<kOf, T, kLayout, Act::none, In::runs>(job);
      if constexpr (kOf == SumsOf::backward) {
        if constexpr (kKnowsRelu<T>)
          if (job.slope == 0 && job.side_bound == nullptr)
            return SumsOverLayout<kOf, T, kLayout, Act::relu, In::runs>(job);
        return SumsOverLayout<kOf, T, kLayout, Act::sloped, In::runs>(job);
      }
    }
  }
  SumsOverLayout<kOf, T, kLayout, kAny, kOneByOne>(job);
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
