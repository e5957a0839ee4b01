// The side of an activation as a threshold, and a bound, on x. Included once per SIMD target.
#if defined(BN2D_KERNELS_SIDE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_SIDE_INL_H
#undef BN2D_KERNELS_SIDE_INL_H
#else
#define BN2D_KERNELS_SIDE_INL_H
#endif

#include <limits>

#include "kernels/channels.inl.h"
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
//
// relu6 and clamp also damp where the argument is at their bound or above it. Negated, this is the
// question above: is -argument at most -bound? So the same search runs once more, on -x.
template <class A>
struct SideOfChannels {
  const kernels::SideOfForward &side;

  template <class D>
  struct Coefficients {
    Vec<D> value[4];
    HWY_INLINE Coefficients() {}  // see Pair
    HWY_INLINE Vec<D> get(D, int k, int64_t) const { return value[k]; }
  };
  // Bits as unsigned numbers in the order of the numbers that they stand for, and back.
  template <class D, class DU = RebindToUnsigned<D>>
  static HWY_INLINE Vec<DU> Flipped(D d, Vec<DU> bits, Vec<DU> negative) {
    const RebindToSigned<D> di;
    const auto all = BitCast(DU(), BroadcastSignBit(BitCast(di, negative)));
    return Xor(bits, Or(all, BitCast(DU(), Set(d, A{-0.0}))));
  }
  template <class D, class DU = RebindToUnsigned<D>>
  static HWY_INLINE Vec<DU> Rank(D d, Vec<D> v) {
    const auto bits = BitCast(DU(), v);
    return Flipped(d, bits, bits);
  }
  template <class D, class DU = RebindToUnsigned<D>>
  static HWY_INLINE Vec<D> OfRank(D d, Vec<DU> rank) {
    return BitCast(d, Flipped(d, rank, Not(rank)));
  }

  template <class DoubleD>
  HWY_INLINE void operator()(DoubleD, int64_t c) const {
    using D = Rebind<A, DoubleD>;
    const D d;
    Coefficients<D> of;
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k)
      of.value[k] = LoadU(d, static_cast<const A *>(side.coefficients) + k * side.stride + c);
    const auto sign = IfThenElseZero(Lt(of.value[coefficient::scale], Zero(d)), Set(d, A{-0.0}));
    StoreU(sign, d, static_cast<A *>(side.sign) + c);
    StoreU(LastDamped(d, of, sign, Zero(d), Zero(d)), d, static_cast<A *>(side.threshold) + c);
    if constexpr (kSideHasBound<A>) {
      if (side.side_bound == nullptr) return;
      const auto flip = Set(d, A{-0.0}), bound = Set(d, static_cast<A>(side.bound));
      StoreU(Neg(LastDamped(d, of, Xor(sign, flip), flip, bound)), d,
             static_cast<A *>(side.side_bound) + c);
    }
  }

 private:
  // The largest v that is damped; NaN where there is none. `minus` holds the sign with which v is
  // x. Damped is where argument <= level, or, with a `flip` of -0, where -argument <= -level.
  template <class D>
  static HWY_NOINLINE Vec<D> LastDamped(D d, const Coefficients<D> &of, Vec<D> minus, Vec<D> flip,
                                        Vec<D> level) {
    const RebindToUnsigned<D> du;
    const auto scale = of.value[coefficient::scale], zero = Zero(d), least = Xor(level, flip);
    // Whether the argument is above (or NaN, which is not damped either).
    const auto is_whole = [&](Vec<decltype(du)> rank) HWY_ATTR {
      const auto argument = Preactivation(d, Xor(OfRank(d, rank), minus), of, 0);
      return Not(RebindMask(du, Le(Xor(argument, flip), least)));
    };
    const auto infinity = Set(d, std::numeric_limits<A>::infinity());
    const auto lowest = Rank(d, Neg(infinity)), highest = Rank(d, infinity);
    const auto shift_of_x =
        Add(Add(of.value[coefficient::minus_mean_hi], of.value[coefficient::minus_mean_lo]),
            Div(Sub(of.value[coefficient::shift], level), scale));
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
    // Where no number is damped, not even an infinite one is, whose argument is NaN.
    const auto none = RebindMask(d, is_whole(low));
    return IfThenElse(none, NaN(d), OfRank(d, low));
  }
};

BN2D_SMALL_ON_OLD_CPUS inline void FindSide(const SideOfForward &of) {
  if (of.wide) {
    ForEachVector(of.channels, SideOfChannels<double>{of});
  } else {
    ForEachVector(of.channels, SideOfChannels<float>{of});
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
