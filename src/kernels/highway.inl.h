// The names of Highway that the kernels use as their own: types of vectors and what is done with
// them. What not every target has, and what would mean two things here, stays hn::. Included once
// per SIMD target.
#if defined(BN2D_KERNELS_HIGHWAY_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_HIGHWAY_INL_H
#undef BN2D_KERNELS_HIGHWAY_INL_H
#else
#define BN2D_KERNELS_HIGHWAY_INL_H
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using hn::Abs;
using hn::Add;
using hn::AllFalse;
using hn::And;
using hn::BitCast;
using hn::BroadcastSignBit;
using hn::CappedTag;
using hn::CopySign;
using hn::DemoteTo;
using hn::DFromV;
using hn::Div;
using hn::Eq;
using hn::FirstN;
using hn::Ge;
using hn::GetLane;
using hn::Gt;
using hn::Half;
using hn::IfThenElse;
using hn::IfThenElseZero;
using hn::IfThenZeroElse;
using hn::IsNaN;
using hn::Lanes;
using hn::Le;
using hn::LoadMaskBits;
using hn::LoadU;
using hn::Lt;
using hn::Mask;
using hn::MaskedLoad;
using hn::MaskFromVec;
using hn::Max;
using hn::MaxLanes;
using hn::Min;
using hn::Mul;
using hn::MulAdd;
using hn::MulSub;
using hn::NaN;
using hn::Ne;
using hn::Neg;
using hn::NegMulAdd;
using hn::Not;
using hn::Or;
using hn::PromoteTo;
using hn::Rebind;
using hn::RebindMask;
using hn::RebindToSigned;
using hn::RebindToUnsigned;
using hn::Repartition;
using hn::ScalableTag;
using hn::Set;
using hn::ShiftLeft;
using hn::ShiftRight;
using hn::Sqrt;
using hn::StoreMaskBits;
using hn::StoreU;
using hn::Sub;
using hn::TFromD;
using hn::Vec;
using hn::Xor;
using hn::Zero;

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
