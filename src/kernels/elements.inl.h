// Loading and storing elements of any dtype as vectors of the arithmetic type. Included once per
// SIMD target.
#if defined(BN2D_KERNELS_ELEMENTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_ELEMENTS_INL_H
#undef BN2D_KERNELS_ELEMENTS_INL_H
#else
#define BN2D_KERNELS_ELEMENTS_INL_H
#endif

#include <cstring>
#include <type_traits>

#include "hwy/highway.h"
#include "tensor/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The arithmetic type of an element type.
template <class T>
struct ArithmeticOf {
  using type = float;
};
template <>
struct ArithmeticOf<double> {
  using type = double;
};
template <class T>
using Arithmetic = typename ArithmeticOf<T>::type;

// Whether the target converts f16 in hardware. Where it does not, a conversion is long and stays a
// function of its own: such CPUs are old, and the library must not grow for them.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
#define BN2D_HAS_F16 1
#define BN2D_CONVERSION HWY_INLINE
#else
#define BN2D_HAS_F16 0
#define BN2D_CONVERSION HWY_NOINLINE
#endif

// f16 bits -> float, by arithmetic on the bits (the exponent is rebased by a multiplication, which
// also makes subnormals right; infinities and NaN get the exponent they need). Used where the
// target has no instruction for it.
template <class DF>
BN2D_CONVERSION hn::Vec<DF> FloatFromF16Bits(DF df, hn::Vec<hn::RebindToUnsigned<DF>> bits) {
  const hn::RebindToUnsigned<DF> du;
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(du, 0x8000u)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(du, 0x7FFFu)));
  const auto scaled = hn::Mul(hn::BitCast(df, magnitude), hn::Set(df, 0x1p112f));
  const auto is_special = hn::Ge(scaled, hn::Set(df, 65536.0f));
  const auto special = hn::BitCast(df, hn::Or(magnitude, hn::Set(du, 0x7F800000u)));
  return hn::BitCast(df,
                     hn::Or(hn::BitCast(du, hn::IfThenElse(is_special, special, scaled)), sign));
}

// float -> f16 bits, rounded to nearest even: normal results by an addition to the bits, subnormal
// ones by an addition in which the last bit of the sum is 2^-24.
template <class DF>
BN2D_CONVERSION hn::Vec<hn::RebindToUnsigned<DF>> F16BitsFromFloat(DF df, hn::Vec<DF> v) {
  const hn::RebindToUnsigned<DF> du;
  const auto bits = hn::BitCast(du, v);
  const auto sign = hn::ShiftRight<16>(hn::And(bits, hn::Set(du, 0x80000000u)));
  const auto magnitude = hn::And(bits, hn::Set(du, 0x7FFFFFFFu));
  const auto fmagnitude = hn::BitCast(df, magnitude);
  const auto even = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 1u));
  const auto rounded = hn::Add(hn::Add(magnitude, hn::Set(du, 0xFFFu)), even);
  const auto normal = hn::ShiftRight<13>(hn::Sub(rounded, hn::Set(du, 0x38000000u)));
  const auto subnormal =
      hn::Sub(hn::BitCast(du, hn::Add(fmagnitude, hn::Set(df, 0.5f))), hn::Set(du, 0x3F000000u));
  auto half = hn::IfThenElse(hn::RebindMask(du, hn::Lt(fmagnitude, hn::Set(df, 0x1p-14f))),
                             subnormal, normal);
  half = hn::IfThenElse(hn::RebindMask(du, hn::Ge(fmagnitude, hn::Set(df, 65520.0f))),
                        hn::Set(du, 0x7C00u), half);
  half = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), hn::Set(du, 0x7E00u), half);
  return hn::Or(half, sign);
}

// float -> bf16 bits in the upper halves, rounded to nearest even (Highway 1.0.3 truncates). The
// lower halves are anything.
template <class DF>
BN2D_CONVERSION hn::Vec<hn::RebindToUnsigned<DF>> BF16BitsFromFloat(DF df, hn::Vec<DF> v) {
  const hn::RebindToUnsigned<DF> du;
  (void)df;
  const auto bits = hn::BitCast(du, v);
  const auto even = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  // A NaN stays one: the low bits are 0 in those that arithmetic makes, that were read from bf16,
  // and that coefficients hold (see Canonical), so that nothing carries.
  return hn::Add(hn::Add(bits, hn::Set(du, 0x7FFFu)), even);
}

// Low halves of 32-bit lanes as 16-bit lanes. The values fit, so a saturating conversion does not
// change them.
template <class DF>
HWY_INLINE hn::Vec<hn::Rebind<uint16_t, DF>> Narrow(DF, hn::Vec<hn::RebindToUnsigned<DF>> bits) {
  const hn::RebindToSigned<DF> di;
  return hn::DemoteTo(hn::Rebind<uint16_t, DF>(), hn::BitCast(di, bits));
}

// ---- load: `lanes of df` elements as vectors of the arithmetic type

// Floats as they are, or as doubles where D holds doubles.
template <class D>
HWY_INLINE hn::Vec<D> FromFloats([[maybe_unused]] D d, hn::Vec<hn::Rebind<float, D>> floats) {
  if constexpr (sizeof(hn::TFromD<D>) == sizeof(float)) {
    return floats;
  } else {
    return hn::PromoteTo(d, floats);
  }
}

template <class D>
HWY_INLINE hn::Vec<D> LoadElements(D d, const double *p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> LoadElements(D d, const float *p) {
  return FromFloats(d, hn::LoadU(hn::Rebind<float, D>(), p));
}
// The floats that the bits of halves stand for; T tells f16 from bf16.
template <class T, class DF>
HWY_INLINE hn::Vec<DF> FloatFromBits(DF df, hn::Vec<hn::Rebind<uint16_t, DF>> bits) {
  const hn::RebindToUnsigned<DF> du;
  if constexpr (std::is_same_v<T, bf16>) {
    return hn::BitCast(df, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
  } else {
#if BN2D_HAS_F16
    return hn::PromoteTo(df, hn::BitCast(hn::Rebind<hwy::float16_t, DF>(), bits));
#else
    return FloatFromF16Bits(df, hn::PromoteTo(du, bits));
#endif
  }
}
template <class D>
HWY_INLINE hn::Vec<D> LoadElements(D d, const f16 *p) {
  const hn::Rebind<uint16_t, D> dh;
  return FromFloats(d, FloatFromBits<f16>(hn::Rebind<float, D>(),
                                          hn::LoadU(dh, reinterpret_cast<const uint16_t *>(p))));
}
template <class D>
HWY_INLINE hn::Vec<D> LoadElements(D d, const bf16 *p) {
  const hn::Rebind<uint16_t, D> dh;
  return FromFloats(d, FloatFromBits<bf16>(hn::Rebind<float, D>(),
                                           hn::LoadU(dh, reinterpret_cast<const uint16_t *>(p))));
}

// The elements whose bits are set, and 0. Reads no others.
template <class DF>
HWY_INLINE hn::Vec<DF> LoadMasked(DF df, const float *p, const uint8_t *bits) {
  return hn::MaskedLoad(hn::LoadMaskBits(df, bits), df, p);
}
template <class DF, class T>
HWY_INLINE hn::Vec<DF> LoadMasked(DF df, const T *p, const uint8_t *bits) {
  const hn::Rebind<uint16_t, DF> dh;
  return FloatFromBits<T>(
      df, hn::MaskedLoad(hn::LoadMaskBits(dh, bits), dh, reinterpret_cast<const uint16_t *>(p)));
}

// 0 1 2 3 0 1 2 3: from place n on, the numbers of 4 lanes turned by n.
template <class Index, int64_t kSize>
struct Turned {
  Index lane[2 * kSize];
  constexpr Turned() : lane() {
    for (int64_t i = 0; i < 2 * kSize; ++i) lane[i] = static_cast<Index>(i % kSize);
  }
};
template <class Index, int64_t kSize>
inline constexpr Turned<Index, kSize> kTurned;

// The elements at the end of a plane that do not fill a vector.
//
// With masks (AVX-512, floats of AVX2) they are loaded as they are. Without, the vector that ends
// with the plane is loaded, which reads some elements once more, and turned: of the plane
//   a b c d e   with vectors of 4, of which the last has 1 element:
//   load b c d e, turn to e b c d, and put the padding where b c d are.
template <class T, class D>
class LastVector {
 public:
  // Planes of `length` elements.
  HWY_INLINE explicit LastVector(int64_t length)
      : count_(length % kSize),
        is_short_(length < kSize),
        first_(hn::FirstN(D(), static_cast<size_t>(count_))) {}
  // `pad` in the other lanes. Reads nothing past the end.
  HWY_INLINE hn::Vec<D> load(const T *p, hn::Vec<D> pad) const {
    return hn::IfThenElse(first_, load_some(p), pad);
  }

 private:
  using A = hn::TFromD<D>;
  static constexpr int64_t kSize = static_cast<int64_t>(hn::MaxLanes(D()));

  static constexpr bool kHalf = sizeof(T) < sizeof(float);
  static constexpr bool kMasks = HWY_TARGET == HWY_AVX3 || (HWY_TARGET == HWY_AVX2 && !kHalf);

  HWY_INLINE hn::Vec<D> load_some(const T *p) const {
    const D d;
    if constexpr (kMasks && kHalf) {
      const hn::Rebind<uint16_t, D> dh;
      const auto bits = hn::MaskedLoad(hn::FirstN(dh, static_cast<size_t>(count_)), dh,
                                       reinterpret_cast<const uint16_t *>(p));
      return FromFloats(d, FloatFromBits<T>(hn::Rebind<float, D>(), bits));
    } else if constexpr (kMasks && sizeof(T) < sizeof(A)) {
      const hn::Rebind<float, D> df;
      return FromFloats(d, hn::MaskedLoad(hn::FirstN(df, static_cast<size_t>(count_)), df, p));
    } else if constexpr (kMasks) {
      return hn::MaskedLoad(first_, d, p);
    } else {
      if (is_short_) return load_one_by_one(p);
      const auto turn =
          hn::SetTableIndices(d, kTurned<hwy::MakeSigned<A>, kSize>.lane + kSize - count_);
      return hn::TableLookupLanes(LoadElements(d, p + count_ - kSize), turn);
    }
  }
  HWY_NOINLINE hn::Vec<D> load_one_by_one(const T *p) const {
    const hn::CappedTag<A, 1> one;
    HWY_ALIGN A some[static_cast<size_t>(kSize)] = {};
    for (int64_t i = 0; i < count_; ++i) hn::StoreU(LoadElements(one, p + i), one, some + i);
    return hn::Load(D(), some);
  }

  int64_t count_;
  bool is_short_;
  hn::Mask<D> first_;
};

// The elements of two vectors, in whatever order is cheap: those of bf16 at even places and those
// at odd places, which takes an instruction each instead of one to spread them and one to shift
// them.
template <class T, class D>
inline constexpr int kParts = 1;
template <class DF>
inline constexpr int kParts<bf16, DF> = hn::MaxLanes(DF()) > 1 ? 2 : 1;

template <int kPart, class DF>
HWY_INLINE hn::Vec<DF> LoadPart(DF df, const bf16 *p) {
  const hn::RebindToUnsigned<DF> du;
  const auto both = hn::LoadU(du, reinterpret_cast<const uint32_t *>(p));
  return hn::BitCast(
      df, kPart == 0 ? hn::ShiftLeft<16>(both) : hn::And(both, hn::Set(du, 0xFFFF0000u)));
}

// ---- store

template <class V, class DH, class H>
HWY_INLINE void StoreLanes(V v, DH d, H *p, bool streaming) {
  if (streaming) {
    hn::Stream(v, d, p);
  } else {
    hn::StoreU(v, d, p);
  }
}
template <class DF>
HWY_INLINE void StoreElements(DF df, hn::Vec<DF> v, float *p, bool streaming) {
  StoreLanes(v, df, p, streaming);
}
template <class DF>
HWY_INLINE void StoreElements(DF df, hn::Vec<DF> v, double *p, bool streaming) {
  StoreLanes(v, df, p, streaming);
}
template <class DF>
HWY_INLINE void StoreElements([[maybe_unused]] DF df, hn::Vec<DF> v, f16 *p, bool streaming) {
#if BN2D_HAS_F16
  const hn::Rebind<hwy::float16_t, DF> dh;
  StoreLanes(hn::DemoteTo(dh, v), dh, reinterpret_cast<hwy::float16_t *>(p), streaming);
#else
  StoreLanes(Narrow(df, F16BitsFromFloat(df, v)), hn::Rebind<uint16_t, DF>(),
             reinterpret_cast<uint16_t *>(p), streaming);
#endif
}
template <class DF>
HWY_INLINE void StoreElements(DF df, hn::Vec<DF> v, bf16 *p, bool streaming) {
  StoreLanes(Narrow(df, hn::ShiftRight<16>(BF16BitsFromFloat(df, v))), hn::Rebind<uint16_t, DF>(),
             reinterpret_cast<uint16_t *>(p), streaming);
}

// What LoadPart loaded, together.
template <class DF>
HWY_INLINE void StoreParts(DF df, hn::Vec<DF> even, hn::Vec<DF> odd, bf16 *p, bool streaming) {
  const hn::Repartition<uint16_t, DF> dh;
  const auto low = hn::BitCast(dh, hn::ShiftRight<16>(BF16BitsFromFloat(df, even)));
  StoreLanes(hn::OddEven(hn::BitCast(dh, BF16BitsFromFloat(df, odd)), low), dh,
             reinterpret_cast<uint16_t *>(p), streaming);
}

#undef BN2D_HAS_F16
#undef BN2D_CONVERSION

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
