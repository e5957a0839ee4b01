// The kernels of one element type on all SIMD targets: the whole of f32.cc, f64.cc, f16.cc and bf16.cc, which only name
// the type (BN2D_ELEMENT), the table of the kernels (BN2D_TABLE) and themselves (BN2D_FILE). One file a
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
#include "kernels/reduce.inl.h"
#include "kernels/sums.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

extern const TypeKernels BN2D_TABLE;
constexpr TypeKernels BN2D_TABLE = {
    Pivots<BN2D_ELEMENT>,
    {{SumsOverBlock<SumsOf::forward, BN2D_ELEMENT, Layout::planes>,
      SumsOverBlock<SumsOf::forward, BN2D_ELEMENT, Layout::channels>},
     {SumsOverBlock<SumsOf::backward, BN2D_ELEMENT, Layout::planes>,
      SumsOverBlock<SumsOf::backward, BN2D_ELEMENT, Layout::channels>},
     {SumsOverBlock<SumsOf::double_backward, BN2D_ELEMENT, Layout::planes>,
      SumsOverBlock<SumsOf::double_backward, BN2D_ELEMENT, Layout::channels>}},
    Reduce<sizeof(BN2D_ELEMENT) == sizeof(double)>,
    {{MapForward<BN2D_ELEMENT, Layout::planes>, MapForward<BN2D_ELEMENT, Layout::channels>},
     {MapBackward<BN2D_ELEMENT, Layout::planes>, MapBackward<BN2D_ELEMENT, Layout::channels>},
     {MapScale<BN2D_ELEMENT, Layout::planes>, MapScale<BN2D_ELEMENT, Layout::channels>},
     {MapDoubleBackward<BN2D_ELEMENT, Layout::planes>, MapDoubleBackward<BN2D_ELEMENT, Layout::channels>}},
    ExpandMask<BN2D_ELEMENT>,
    PackMask<BN2D_ELEMENT>};

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
