// The side of an activation as a threshold on x. Included once per SIMD target.
#if defined(BN2D_KERNELS_SIDE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_SIDE_INL_H
#undef BN2D_KERNELS_SIDE_INL_H
#else
#define BN2D_KERNELS_SIDE_INL_H
#endif

#include <limits>

#include "kernels/channel.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/preactivation.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// The question is where a fused backward finds the side of the activation of an element, without y
// and without a mask: for which x is the argument of the activation, as the forward map computes
// it, above 0?
//
// The answer is one number for each channel, the *threshold*: elements up to it are damped. One is
// enough:
//  - The argument is (x - mean)*scale + shift, each step rounded. Rounding keeps order: where
//    a <= b, rounded a <= rounded b. So it never falls with x where scale > 0, and never rises
//    where scale < 0.
//  - Where scale < 0, -x is compared instead: `sign` holds the -0 that flips it.
//  - Where scale = 0 the argument is the shift, for any x but one so far away that x - mean
//    overflows.
//  - A NaN is never damped.
//
// An example in float: mean 0.1, scale 3, shift -1. Without rounding the sides part at x =
// 0.4333333... With rounding the argument of 0.433333308 is -6.0e-8, so damped, and that of the
// next float, 0.433333337, is 3.0e-8. So the threshold is 0.433333308, and a comparison with it
// says what forward did, bit for bit.
//
// How it is found: floats have the order of their bits, after a change of the negative ones (Rank).
// The search begins where the sides would part without rounding, goes up and down in steps of 1, 2,
// 4, ... ranks until it has a damped and a whole number, and halves what is between. 5 ns a
// channel.
template <class A>
struct SideOfChannels {
  const A *coefficients;
  int64_t stride;
  A *sign, *threshold;

  template <class D>
  struct Coefficients {
    Vec<D> value[4];
    HWY_INLINE Coefficients() {}  // see Pair
    HWY_INLINE Vec<D> get(D, int k, int64_t) const { return value[k]; }
  };
  // Bits as unsigned numbers in the order of the numbers that they stand for, and back.
  template <class D, class DU = RebindToUnsigned<D>>
  static HWY_INLINE Vec<DU> Turned(D d, Vec<DU> bits, Vec<DU> negative) {
    const RebindToSigned<D> di;
    const auto all = BitCast(DU(), BroadcastSignBit(BitCast(di, negative)));
    return Xor(bits, Or(all, BitCast(DU(), Set(d, A{-0.0}))));
  }
  template <class D, class DU = RebindToUnsigned<D>>
  static HWY_INLINE Vec<DU> Rank(D d, Vec<D> v) {
    const auto bits = BitCast(DU(), v);
    return Turned(d, bits, bits);
  }
  template <class D, class DU = RebindToUnsigned<D>>
  static HWY_INLINE Vec<D> OfRank(D d, Vec<DU> rank) {
    return BitCast(d, Turned(d, rank, Not(rank)));
  }

  template <class DoubleD>
  HWY_INLINE void operator()(DoubleD, int64_t c) const {
    const Rebind<A, DoubleD> d;
    using D = decltype(d);
    const RebindToUnsigned<D> du;
    Coefficients<D> of;
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) of.value[k] = LoadU(d, coefficients + k * stride + c);
    const auto scale = of.value[coefficient::scale], zero = Zero(d);
    const auto minus = IfThenElseZero(Lt(scale, zero), Set(d, A{-0.0}));
    // Whether the argument is positive (or NaN, which is not damped either).
    const auto is_whole = [&](Vec<decltype(du)> rank) HWY_ATTR {
      const auto is_damped = Le(Argument(d, Xor(OfRank(d, rank), minus), of, 0), zero);
      return Not(RebindMask(du, is_damped));
    };
    const auto infinity = Set(d, std::numeric_limits<A>::infinity());
    const auto lowest = Rank(d, Neg(infinity)), highest = Rank(d, infinity);
    const auto shift_of_x =
        Add(Add(of.value[coefficient::minus_mean_hi], of.value[coefficient::minus_mean_lo]),
            Div(of.value[coefficient::shift], scale));
    const auto start = Rank(d, IfThenElse(IsNaN(shift_of_x), zero, Xor(Neg(shift_of_x), minus)));

    auto low = start, high = start;  // damped, or the lowest; whole, or the highest
    for (auto reach = TFromD<decltype(du)>{1}; reach != 0;
         reach = static_cast<decltype(reach)>(reach << 1)) {
      const auto step = Set(du, reach);
      low = Sub(Max(start, Add(lowest, step)), step);
      high = Add(Min(start, Sub(highest, step)), step);
      const auto low_is_whole = is_whole(low), high_is_damped = Not(is_whole(high));
      low = IfThenElse(low_is_whole, lowest, low);
      high = IfThenElse(high_is_damped, highest, high);
      if (AllFalse(du, Or(low_is_whole, high_is_damped))) break;
    }
    for (;;) {
      const auto half = ShiftRight<1>(Sub(high, low));
      if (AllFalse(du, Ne(half, Zero(du)))) break;
      const auto middle = Add(low, half);
      const auto whole = is_whole(middle);
      high = IfThenElse(whole, middle, high);
      low = IfThenElse(whole, low, middle);
    }
    StoreU(minus, d, sign + c);
    // Where no number is damped, not even an infinite one is, whose argument is NaN.
    const auto none = RebindMask(d, is_whole(low));
    StoreU(IfThenElse(none, Set(d, std::numeric_limits<A>::quiet_NaN()), OfRank(d, low)), d,
           threshold + c);
  }
};

BN2D_SELDOM inline void SideOfForward(int64_t channels, const void *coefficients, int64_t stride,
                                      bool wide, void *sign, void *threshold) {
  if (wide) {
    ForChannels(channels, SideOfChannels<double>{static_cast<const double *>(coefficients), stride,
                                                 static_cast<double *>(sign),
                                                 static_cast<double *>(threshold)});
  } else {
    ForChannels(channels,
                SideOfChannels<float>{static_cast<const float *>(coefficients), stride,
                                      static_cast<float *>(sign), static_cast<float *>(threshold)});
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
