// Loading and storing elements of any dtype as vectors of the arithmetic type. Included once per
// SIMD target.
#if defined(BN2D_KERNELS_ELEMENTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_ELEMENTS_INL_H
#undef BN2D_KERNELS_ELEMENTS_INL_H
#else
#define BN2D_KERNELS_ELEMENTS_INL_H
#endif

#include <limits>
#include <type_traits>

#include "kernels/highway.inl.h"
#include "tensor/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

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
// function of its own: on x86 such CPUs are old, and the library must not grow for them.
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
BN2D_CONVERSION Vec<DF> FloatFromF16Bits(DF df, Vec<RebindToUnsigned<DF>> bits) {
  const RebindToUnsigned<DF> du;
  const auto sign = ShiftLeft<16>(And(bits, Set(du, 0x8000u)));
  const auto magnitude = ShiftLeft<13>(And(bits, Set(du, 0x7FFFu)));
  const auto scaled = Mul(BitCast(df, magnitude), Set(df, 0x1p112f));
  const auto is_special = Ge(scaled, Set(df, 65536.0f));
  const auto special = BitCast(df, Or(magnitude, Set(du, 0x7F800000u)));
  return BitCast(df, Or(BitCast(du, IfThenElse(is_special, special, scaled)), sign));
}

// float -> f16 bits, rounded to nearest even: normal results by an addition to the bits, subnormal
// ones by an addition in which the last bit of the sum is 2^-24.
template <class DF>
BN2D_CONVERSION Vec<RebindToUnsigned<DF>> F16BitsFromFloat(DF df, Vec<DF> v) {
  const RebindToUnsigned<DF> du;
  const auto bits = BitCast(du, v);
  const auto sign = ShiftRight<16>(And(bits, Set(du, 0x80000000u)));
  const auto magnitude = And(bits, Set(du, 0x7FFFFFFFu));
  const auto fmagnitude = BitCast(df, magnitude);
  const auto even = And(ShiftRight<13>(magnitude), Set(du, 1u));
  const auto rounded = Add(Add(magnitude, Set(du, 0xFFFu)), even);
  const auto normal = ShiftRight<13>(Sub(rounded, Set(du, 0x38000000u)));
  const auto subnormal = Sub(BitCast(du, Add(fmagnitude, Set(df, 0.5f))), Set(du, 0x3F000000u));
  auto half = IfThenElse(RebindMask(du, Lt(fmagnitude, Set(df, 0x1p-14f))), subnormal, normal);
  half = IfThenElse(RebindMask(du, Ge(fmagnitude, Set(df, 65520.0f))), Set(du, 0x7C00u), half);
  half = IfThenElse(RebindMask(du, IsNaN(v)), Set(du, 0x7E00u), half);
  return Or(half, sign);
}

// NaN loses its payload.
template <class D>
HWY_INLINE Vec<D> WithoutPayload(D d, Vec<D> v) {
  return IfThenElse(IsNaN(v), Set(d, std::numeric_limits<TFromD<D>>::quiet_NaN()), v);
}

// float -> bf16 bits in the upper halves, rounded to nearest even (Highway 1.0.3 truncates). The
// lower halves are anything.
template <class DF>
BN2D_CONVERSION Vec<RebindToUnsigned<DF>> BF16BitsFromFloat(DF df, Vec<DF> v) {
  const RebindToUnsigned<DF> du;
  (void)df;
  const auto bits = BitCast(du, v);
  // A NaN stays one: the low bits are 0 in those that arithmetic makes, that were read from bf16,
  // and that coefficients and arrays hold (WithoutPayload), so that nothing carries. Of 0x7FFFFFFF
  // the rounding would make -0.
  const auto rounded = Add(bits, Set(du, 0x7FFFu));
#if HWY_TARGET == HWY_AVX3
  // The other sum replaces it under a mask, without a shift: eval of bfloat16 in the caches takes
  // 0.9 of the time.
  return IfThenElse(hn::TestBit(bits, Set(du, 0x10000u)), Add(bits, Set(du, 0x8000u)), rounded);
#else
  return Add(rounded, And(ShiftRight<16>(bits), Set(du, 1u)));
#endif
}

// Low halves of 32-bit lanes as 16-bit lanes. The values fit, so a saturating conversion does not
// change them.
template <class DF>
HWY_INLINE Vec<Rebind<uint16_t, DF>> Narrow(DF, Vec<RebindToUnsigned<DF>> bits) {
  const RebindToSigned<DF> di;
  return DemoteTo(Rebind<uint16_t, DF>(), BitCast(di, bits));
}

// ---- load: as many elements as D has lanes, as a vector of the arithmetic type

// Floats as they are, or as doubles where D holds doubles.
template <class D>
HWY_INLINE Vec<D> FromFloats([[maybe_unused]] D d, Vec<Rebind<float, D>> floats) {
  if constexpr (sizeof(TFromD<D>) == sizeof(float)) {
    return floats;
  } else {
    return PromoteTo(d, floats);
  }
}

template <class D>
HWY_INLINE Vec<D> LoadElements(D d, const double *p) {
  return LoadU(d, p);
}
template <class D>
HWY_INLINE Vec<D> LoadElements(D d, const float *p) {
  return FromFloats(d, LoadU(Rebind<float, D>(), p));
}
// The floats that the bits of halves stand for; T tells f16 from bf16.
template <class T, class DF>
HWY_INLINE Vec<DF> FloatFromBits(DF df, Vec<Rebind<uint16_t, DF>> bits) {
  const RebindToUnsigned<DF> du;
  if constexpr (std::is_same_v<T, bf16>) {
    return BitCast(df, ShiftLeft<16>(PromoteTo(du, bits)));
  } else {
#if BN2D_HAS_F16
    return PromoteTo(df, BitCast(Rebind<hwy::float16_t, DF>(), bits));
#else
    return FloatFromF16Bits(df, PromoteTo(du, bits));
#endif
  }
}
template <class D>
HWY_INLINE Vec<D> LoadElements(D d, const f16 *p) {
  const Rebind<uint16_t, D> dh;
  return FromFloats(
      d, FloatFromBits<f16>(Rebind<float, D>(), LoadU(dh, reinterpret_cast<const uint16_t *>(p))));
}
template <class D>
HWY_INLINE Vec<D> LoadElements(D d, const bf16 *p) {
  const Rebind<uint16_t, D> dh;
  return FromFloats(
      d, FloatFromBits<bf16>(Rebind<float, D>(), LoadU(dh, reinterpret_cast<const uint16_t *>(p))));
}

// The elements whose bits are set, and 0. Reads no others.
template <class D, class T>
HWY_INLINE Vec<D> LoadMasked(D d, const T *p, const uint8_t *bits) {
  if constexpr (sizeof(T) >= sizeof(float)) {
    return MaskedLoad(LoadMaskBits(d, bits), d, p);
  } else {
    const Rebind<uint16_t, D> dh;
    return FloatFromBits<T>(
        d, MaskedLoad(LoadMaskBits(dh, bits), dh, reinterpret_cast<const uint16_t *>(p)));
  }
}

// 0 1 2 3 0 1 2 3: from place n on, the numbers of 4 lanes rotated by n.
template <class Index, int64_t kSize>
struct Rotated {
  Index lane[2 * kSize];
  constexpr Rotated() : lane() {
    for (int64_t i = 0; i < 2 * kSize; ++i) lane[i] = static_cast<Index>(i % kSize);
  }
};
template <class Index, int64_t kSize>
inline constexpr Rotated<Index, kSize> kRotated;

// The elements at the end of a plane that do not fill a vector.
//
// With masks (AVX-512; with AVX2 floats and doubles) they are loaded as they are. Without, the
// vector that ends with the plane is loaded, which reads some elements once more, and rotated: of
// the plane
//   a b c d e   with vectors of 4, of which the last has 1 element:
//   load b c d e, rotate to e b c d, and put the padding where b c d are.
template <class T, class D>
class LastVector {
 public:
  // Planes of `length` elements.
  HWY_INLINE explicit LastVector(int64_t length)
      : count_(length % kSize),
        is_short_(length < kSize),
        first_(FirstN(D(), static_cast<size_t>(count_))) {}
  // `pad` in the other lanes. Reads nothing past the end.
  HWY_INLINE Vec<D> load(const T *p, Vec<D> pad) const {
    return IfThenElse(first_, load_some(p), pad);
  }
  // 0 in the other lanes.
  HWY_INLINE Vec<D> only(Vec<D> v) const { return IfThenElseZero(first_, v); }

 private:
  using A = TFromD<D>;
  static constexpr int64_t kSize = static_cast<int64_t>(MaxLanes(D()));

  static constexpr bool kHalf = sizeof(T) < sizeof(float);
  static constexpr bool kMasks = HWY_TARGET == HWY_AVX3 || (HWY_TARGET == HWY_AVX2 && !kHalf);

  HWY_INLINE Vec<D> load_some(const T *p) const {
    const D d;
    if constexpr (kMasks && kHalf) {
      const Rebind<uint16_t, D> dh;
      const auto bits = MaskedLoad(FirstN(dh, static_cast<size_t>(count_)), dh,
                                   reinterpret_cast<const uint16_t *>(p));
      return FromFloats(d, FloatFromBits<T>(Rebind<float, D>(), bits));
    } else if constexpr (kMasks && sizeof(T) < sizeof(A)) {
      const Rebind<float, D> df;
      return FromFloats(d, MaskedLoad(FirstN(df, static_cast<size_t>(count_)), df, p));
    } else if constexpr (kMasks) {
      return MaskedLoad(first_, d, p);
    } else {
      if (is_short_) return load_one_by_one(p);
      const auto rotation =
          hn::SetTableIndices(d, kRotated<hwy::MakeSigned<A>, kSize>.lane + kSize - count_);
      return hn::TableLookupLanes(LoadElements(d, p + count_ - kSize), rotation);
    }
  }
  HWY_NOINLINE Vec<D> load_one_by_one(const T *p) const {
    const CappedTag<A, 1> one;
    HWY_ALIGN A some[static_cast<size_t>(kSize)] = {};
    for (int64_t i = 0; i < count_; ++i) StoreU(LoadElements(one, p + i), one, some + i);
    return hn::Load(D(), some);
  }

  int64_t count_;
  bool is_short_;
  Mask<D> first_;
};

// The elements of two vectors, in whatever order is cheap: those of bf16 at even places and those
// at odd places, which takes an instruction each instead of one to spread them and one to shift
// them.
template <class T, class D>
inline constexpr int kParts = 1;
template <class DF>
inline constexpr int kParts<bf16, DF> = MaxLanes(DF()) > 1 ? 2 : 1;

template <int kPart, class DF>
HWY_INLINE Vec<DF> LoadPart(DF df, const bf16 *p) {
  const RebindToUnsigned<DF> du;
  const auto both = LoadU(du, reinterpret_cast<const uint32_t *>(p));
  return BitCast(df, kPart == 0 ? ShiftLeft<16>(both) : And(both, Set(du, 0xFFFF0000u)));
}

// ---- store

template <class V, class DH, class H>
HWY_INLINE void StoreLanes(V v, DH d, H *p, bool streaming) {
  if (streaming) {
    hn::Stream(v, d, p);
  } else {
    StoreU(v, d, p);
  }
}
template <class DF>
HWY_INLINE void StoreElements(DF df, Vec<DF> v, float *p, bool streaming) {
  StoreLanes(v, df, p, streaming);
}
template <class DF>
HWY_INLINE void StoreElements(DF df, Vec<DF> v, double *p, bool streaming) {
  StoreLanes(v, df, p, streaming);
}
template <class DF>
HWY_INLINE void StoreElements([[maybe_unused]] DF df, Vec<DF> v, f16 *p, bool streaming) {
#if BN2D_HAS_F16
  const Rebind<hwy::float16_t, DF> dh;
  StoreLanes(DemoteTo(dh, v), dh, reinterpret_cast<hwy::float16_t *>(p), streaming);
#else
  StoreLanes(Narrow(df, F16BitsFromFloat(df, v)), Rebind<uint16_t, DF>(),
             reinterpret_cast<uint16_t *>(p), streaming);
#endif
}
template <class DF>
HWY_INLINE void StoreElements(DF df, Vec<DF> v, bf16 *p, bool streaming) {
  StoreLanes(Narrow(df, ShiftRight<16>(BF16BitsFromFloat(df, v))), Rebind<uint16_t, DF>(),
             reinterpret_cast<uint16_t *>(p), streaming);
}

#if HWY_TARGET == HWY_AVX3
// The first `count` elements alone are written.
template <class D, class T>
HWY_INLINE void StoreFirst(D d, Vec<D> v, T *p, size_t count) {
  hn::BlendedStore(v, FirstN(d, count), d, p);
}
template <class DF>
HWY_INLINE void StoreFirst(DF, Vec<DF> v, f16 *p, size_t count) {
  const Rebind<uint16_t, DF> dh;
  StoreFirst(dh, BitCast(dh, DemoteTo(Rebind<hwy::float16_t, DF>(), v)),
             reinterpret_cast<uint16_t *>(p), count);
}
template <class DF>
HWY_INLINE void StoreFirst(DF df, Vec<DF> v, bf16 *p, size_t count) {
  StoreFirst(Rebind<uint16_t, DF>(), Narrow(df, ShiftRight<16>(BF16BitsFromFloat(df, v))),
             reinterpret_cast<uint16_t *>(p), count);
}
#endif

// What LoadPart loaded, together.
template <class DF>
HWY_INLINE void StoreParts(DF df, Vec<DF> even, Vec<DF> odd, bf16 *p, bool streaming) {
  const Repartition<uint16_t, DF> dh;
  const auto low = BitCast(dh, ShiftRight<16>(BF16BitsFromFloat(df, even)));
  StoreLanes(hn::OddEven(BitCast(dh, BF16BitsFromFloat(df, odd)), low), dh,
             reinterpret_cast<uint16_t *>(p), streaming);
}

#undef BN2D_HAS_F16
#undef BN2D_CONVERSION

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
