// The kernels of one element type on all SIMD targets: the whole of f32.cc, f64.cc, f16.cc and bf16.cc, which only name
// the type (BN2D_ELEMENT), the function that hands the kernels out (BN2D_GET) and themselves (BN2D_FILE). One file a
// type, so that they compile side by side.
#include "kernels/targets.h"
//
#include "kernels/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE BN2D_FILE
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "kernels/map.inl.h"
#include "kernels/mask.inl.h"
#include "kernels/sums.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

const TypeKernels *BN2D_GET() {
  using T = BN2D_ELEMENT;
  constexpr Layout p = Layout::planes, c = Layout::channels;
  static constexpr TypeKernels kKernels = {
      {{SumsOverBlock<SumsOf::forward, T, p>, SumsOverBlock<SumsOf::forward, T, c>},
       {SumsOverBlock<SumsOf::backward, T, p>, SumsOverBlock<SumsOf::backward, T, c>},
       {SumsOverBlock<SumsOf::double_backward, T, p>, SumsOverBlock<SumsOf::double_backward, T, c>}},
      Reduce<T>,
      {{MapForward<T, p>, MapForward<T, c>},
       {MapBackward<T, p>, MapBackward<T, c>},
       {MapScale<T, p>, MapScale<T, c>},
       {MapDoubleBackward<T, p>, MapDoubleBackward<T, c>}},
      ExpandMask<T>,
      PackMask<T>};
  return &kKernels;
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
