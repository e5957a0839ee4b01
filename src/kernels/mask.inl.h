// The side of an activation as bits, 1 for positive, and as elements +1 and -1, which the other
// kernels take for the activation's argument. Included once per SIMD target.
#if defined(BN2D_KERNELS_MASK_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_MASK_INL_H
#undef BN2D_KERNELS_MASK_INL_H
#else
#define BN2D_KERNELS_MASK_INL_H
#endif

#include "kernels/elements.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// Calls f(tag, first element, its bit in the byte) for vectors of at most a byte of bits, then for
// single elements.
template <class T, class F>
HWY_INLINE void ForBits(int64_t count, const F &f) {
  const CappedTag<Arithmetic<T>, 8> d;
  const CappedTag<Arithmetic<T>, 1> one;
  const int64_t lanes = static_cast<int64_t>(Lanes(d));
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int64_t bit = 0; bit < 8; bit += lanes) f(d, i + bit, static_cast<int>(bit));
  for (; i < count; ++i) f(one, i, static_cast<int>(i % 8));
}

template <class T>
BN2D_SMALL_ON_OLD_CPUS void ExpandMask(const uint8_t *bits, int64_t count, void *elements) {
  auto *out = static_cast<T *>(elements);
  ForBits<T>(count, [&](auto d, int64_t i, int bit) HWY_ATTR {
    uint8_t byte[8] = {
        static_cast<uint8_t>(bits[i / 8] >> bit)};  // 8: what a mask is loaded from at least
    const auto plus = Set(d, TFromD<decltype(d)>{1});
    StoreElements(d, IfThenElse(LoadMaskBits(d, byte), plus, Neg(plus)), out + i, false);
  });
}

template <class T>
BN2D_SMALL_ON_OLD_CPUS void PackMask(const void *elements, int64_t count, uint8_t *bits) {
  const auto *in = static_cast<const T *>(elements);
  ForBits<T>(count, [&](auto d, int64_t i, int bit) HWY_ATTR {
    uint8_t byte[8];
    StoreMaskBits(d, Gt(LoadElements(d, in + i), Zero(d)), byte);
    bits[i / 8] = static_cast<uint8_t>((bit == 0 ? 0 : bits[i / 8]) | (byte[0] << bit));
  });
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
