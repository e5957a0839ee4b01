// How much code the kernels are worth. Included once per SIMD target.
#if defined(BN2D_KERNELS_SPECIALISE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_SPECIALISE_INL_H
#undef BN2D_KERNELS_SPECIALISE_INL_H
#else
#define BN2D_KERNELS_SPECIALISE_INL_H
#endif

#include "kernels/highway.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// Whether kernels that know more of their job are worth code of their own: not on the targets of
// old CPUs.
inline constexpr bool kSpecialise = HWY_TARGET != HWY_SSE4 && HWY_TARGET != HWY_SCALAR;
// Whether vectors may run along channels. Old CPUs go without (Layout::channels has no kernels
// there): such tensors are packed plane by plane, which is slower, and saves 80 KB.
inline constexpr bool kHasChannels = kSpecialise;
// Whether a kernel without an activation has code of its own. Measured for half data where few
// instructions convert it: 20 % faster. For f64 it would be 5 %, so it has none.
template <class T>
inline constexpr bool kSpecialisePlain = kSpecialise &&
                                         (sizeof(T) == 4 ||
                                          (sizeof(T) == 2 && HWY_TARGET <= HWY_AVX2));

// Written for size: marked as seldom run, kernels take three quarters of the code. So are those
// that are seldom run, and all of old CPUs.
#undef BN2D_KERNEL
#undef BN2D_SMALL
#undef BN2D_SMALL_ON_OLD_CPUS
#define BN2D_SMALL __attribute__((cold))
#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SCALAR
#define BN2D_SMALL_ON_OLD_CPUS BN2D_SMALL
#else
#define BN2D_SMALL_ON_OLD_CPUS
#endif
#define BN2D_KERNEL HWY_NOINLINE BN2D_SMALL_ON_OLD_CPUS

// A lambda that must be inlined, so that what it refers to stays in registers.
#undef BN2D_INLINED
#define BN2D_INLINED HWY_ATTR __attribute__((always_inline))

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
