// See xhat.h. Included once per SIMD target.
#if defined(BN2D_KERNELS_XHAT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_XHAT_INL_H
#undef BN2D_KERNELS_XHAT_INL_H
#else
#define BN2D_KERNELS_XHAT_INL_H
#endif

#include "kernels/channel.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/xhat.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

struct XhatOfElements {
  const XhatOfSample of;
  double mean, mean_lo, invstd;
  bool *is_finite;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t i) const {
    const Rebind<float, D> df;
    const auto x = PromoteTo(d, LoadU(df, of.x + i)), dy = PromoteTo(d, LoadU(df, of.dy + i));
    const auto exact = Mul(Sub(Sub(x, Set(d, mean)), Set(d, mean_lo)), Set(d, invstd));
    const auto xhat = DemoteTo(df, exact), g = DemoteTo(df, Mul(LoadU(d, of.weight + i), dy));
    StoreU(xhat, df, of.xhat + i);
    StoreU(g, df, of.g + i);
    StoreU(MulAdd(dy, exact, LoadU(d, of.products + i)), d, of.products + i);
    StoreU(Add(dy, LoadU(d, of.sums + i)), d, of.sums + i);
    // The difference of what is infinite or NaN from itself is NaN.
    const auto difference = Add(Sub(xhat, xhat), Sub(g, g));
    *is_finite &= AllFalse(df, IsNaN(difference));
  }
};

BN2D_KERNEL inline bool FindXhat(const XhatOfSample &of) {
  XhatOfSample own = of;
  bool is_finite = true;
  for (int64_t s = 0; s < of.sets; ++s) {
    ForChannels(of.of_set,
                XhatOfElements{own, of.mean ? of.mean[s] : 0, of.mean_lo ? of.mean_lo[s] : 0,
                               of.invstd[s], &is_finite});
    for (const float **floats : {&own.x, &own.dy}) *floats += of.of_set;
    for (float **floats : {&own.xhat, &own.g}) *floats += of.of_set;
    for (double **doubles : {&own.products, &own.sums}) *doubles += of.of_set;
    own.weight += of.of_set;
  }
  return is_finite;
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
