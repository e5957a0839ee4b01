// See sample.h. Included once per SIMD target.
#if defined(BN2D_KERNELS_SAMPLE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_SAMPLE_INL_H
#undef BN2D_KERNELS_SAMPLE_INL_H
#else
#define BN2D_KERNELS_SAMPLE_INL_H
#endif

#include "kernels/channels.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/sample.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

template <class D>
HWY_INLINE Vec<D> LoadFloats(D d, const float *from) {
  return PromoteTo(d, LoadU(Rebind<float, D>(), from));
}

struct Normalisation {
  double mean, invstd;
  template <class D>
  HWY_INLINE Vec<D> Xhat(D d, const float *x) const {
    return Mul(Sub(LoadFloats(d, x), Set(d, mean)), Set(d, invstd));
  }
};

struct ForwardElements : Normalisation {
  const ForwardOfSample &of;
  int64_t first;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t element) const {
    const Rebind<float, D> df;
    const int64_t i = first + element;
    auto y = MulAdd(Xhat(d, of.x + i), LoadU(d, of.weight + i), LoadU(d, of.bias + i));
    if (of.z != nullptr) y = Add(y, LoadFloats(d, of.z + i));
    StoreU(ToFloat<D>(df, y), df, of.y + i);
  }
};

struct BackwardElements : Normalisation {
  const BackwardOfSample &of;
  int64_t first;
  bool *is_finite;
  template <class D>
  HWY_INLINE void operator()(D d, int64_t element) const {
    const Rebind<float, D> df;
    const int64_t i = first + element;
    const auto exact = Xhat(d, of.x + i), dy = LoadFloats(d, of.dy + i);
    const auto xhat = ToFloat<D>(df, exact), g = ToFloat<D>(df, Mul(LoadU(d, of.weight + i), dy));
    StoreU(xhat, df, of.xhat + i);
    StoreU(g, df, of.g + i);
    StoreU(MulAdd(dy, exact, LoadU(d, of.products + i)), d, of.products + i);
    StoreU(Add(dy, LoadU(d, of.sums + i)), d, of.sums + i);
    // What is infinite or NaN less itself is NaN.
    *is_finite &= AllFalse(df, IsNaN(Add(Sub(xhat, xhat), Sub(g, g))));
  }
};

HWY_INLINE Normalisation OfSet(const SetsOfSample &of, int64_t set) {
  return {of.mean ? of.mean[set] : 0, of.invstd[set]};
}
BN2D_KERNEL inline void ForwardSample(const ForwardOfSample &of) {
  const ForwardOfSample own = of;
  for (int64_t set = 0; set < own.sets; ++set)
    ForEachVector(own.of_set, ForwardElements{OfSet(own, set), own, set * own.of_set});
}
BN2D_KERNEL inline bool BackwardSample(const BackwardOfSample &of) {
  const BackwardOfSample own = of;
  bool is_finite = true;
  for (int64_t set = 0; set < own.sets; ++set)
    ForEachVector(own.of_set, BackwardElements{OfSet(own, set), own, set * own.of_set, &is_finite});
  return is_finite;
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
