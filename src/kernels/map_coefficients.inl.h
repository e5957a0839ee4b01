// The coefficients of a map, as its vectors of elements need them. Included once per SIMD target.
#if defined(BN2D_KERNELS_MAP_COEFFICIENTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_MAP_COEFFICIENTS_INL_H
#undef BN2D_KERNELS_MAP_COEFFICIENTS_INL_H
#else
#define BN2D_KERNELS_MAP_COEFFICIENTS_INL_H
#endif

#include <type_traits>

#include "kernels/highway.inl.h"
#include "kernels/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// The coefficients of the elements of one channel. Whole vectors, so that they live in registers.
template <class A, int kCount>
struct PlaneCoefficients {
  static constexpr bool kAnyOrder = true;
  using DA = ScalableTag<A>;
  Vec<DA> value[kCount];
  HWY_INLINE PlaneCoefficients(const MapJob &job, int64_t channel) {
    const A *array = static_cast<const A *>(job.coefficients) + channel;
#pragma GCC unroll 16
    for (int k = 0; k < kCount; ++k) value[k] = Set(DA(), array[k * job.coefficient_stride]);
  }
  template <class D>
  HWY_INLINE Vec<D> get(D d, int k, int64_t) const {
    if constexpr (std::is_same_v<D, DA>) {
      return value[k];
    } else {
      return Set(d, GetLane(value[k]));
    }
  }
  template <int kPart>
  HWY_INLINE const PlaneCoefficients &part() const {
    return *this;
  }
};

// The coefficients of elements of which the first `left` belong to one channel and the others to
// the next.
template <class D, class C>
struct StraddlingCoefficients {
  static constexpr bool kAnyOrder = true;
  const C &before, &after;
  int64_t left;
  Mask<D> first;
  HWY_INLINE StraddlingCoefficients(const C &b, const C &a, int64_t of_first)
      : before(b), after(a), left(of_first), first(FirstN(D(), static_cast<size_t>(of_first))) {}
  HWY_INLINE Vec<D> get(D d, int k, int64_t i) const {
    return IfThenElse(first, before.get(d, k, i), after.get(d, k, i));
  }
  template <int kPart>
  HWY_INLINE StraddlingCoefficients part() const {
    return StraddlingCoefficients(before, after, (left + 1 - kPart) / 2);
  }
};

// The coefficients of a row of channels.
template <class A>
struct RowCoefficients {
  const A *array;
  int64_t stride;
  HWY_INLINE explicit RowCoefficients(const MapJob &job)
      : array(static_cast<const A *>(job.coefficients)), stride(job.coefficient_stride) {}
};

// Those of one vector of the row, in registers, for the same channels of any row.
//
// The side's are loaded only where there is a side. Else nobody has written them, and pages that
// nobody has written are all the same page of zeros: its lines push one another out of L1. With
// them, backward of double (32,512,28,28) with running statistics took 1.7 times as long.
template <class D, class Body>
struct ColumnCoefficients {
  static constexpr bool kAnyOrder = false;
  static constexpr int kCount = Body::kCoefficients;
  Vec<D> value[kCount];
  template <class C>
  HWY_INLINE ColumnCoefficients(D d, const Body &body, const C &row, int64_t i) {
    using A = TFromD<D>;
    const char *at = reinterpret_cast<const char *>(row.array + i);
    int64_t step = row.stride * static_cast<int64_t>(sizeof(A));
    // Where many are used, the compiler must not know where `at` and `step` come from. It would
    // keep a pointer for each coefficient, more than there are registers (and 12 KB of code).
    // Three at a time: an instruction can address at, at + step and at + 2*step.
    if constexpr (Body::kManyCoefficients) __asm__("" : "+r"(at), "+r"(step));
#pragma GCC unroll 16
    for (int k = 0; k < kCount; ++k) {
      if (k != 0 && k % 3 == 0) at += 3 * step;
      const bool is_there = k < Body::kPlainCoefficients || body.side;
      value[k] = is_there ? LoadU(d, reinterpret_cast<const A *>(at + k % 3 * step)) : Zero(d);
    }
  }
  HWY_INLINE Vec<D> get(D, int k, int64_t) const { return value[k]; }
};

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
