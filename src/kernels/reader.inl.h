// What sums read: vectors of elements of the tensors that take part, and dy through the activation.
// Included once per SIMD target.
#if defined(BN2D_KERNELS_READER_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_READER_INL_H
#undef BN2D_KERNELS_READER_INL_H
#else
#define BN2D_KERNELS_READER_INL_H
#endif

#include <type_traits>

#include "kernels/elements.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/lanes.inl.h"
#include "kernels/lines.inl.h"
#include "kernels/pair.inl.h"
#include "kernels/preactivation.inl.h"
#include "kernels/runs.h"
#include "kernels/specialise.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

// Vectors of elements are at most a row of floats, or the lanes of a row of doubles.
template <In kIn>
using ElementTag = std::conditional_t<kIn == In::runs, CappedTag<float, kRowElements>, DoubleTag>;

// A vector of elements of each tensor that takes part: t = x - pivot, and g is dy through the
// activation.
template <class V>
struct Elements {
  V x, t, g, v;
  HWY_INLINE Elements() {}  // see Pair
  HWY_INLINE explicit Elements(V zero) : x(zero), t(zero), g(zero), v(zero) {}
};

// What sums know of the activation when they are compiled. `any` is decided at run time; `sloped`
// takes those with a bound.
enum class Act { none, relu, sloped, any };
// Half data spend their time on conversions. There `sloped` has a branch for relu: a kernel of its
// own would be 2 to 3 % faster (bf16, one thread, in the caches), and all of them 29 KB.
template <class T>
inline constexpr bool kKnowsRelu = sizeof(T) == sizeof(float);

template <Act kAct>
HWY_INLINE bool HasSide(const SumsJob &job) {
  return kAct == Act::relu || kAct == Act::sloped || (kAct == Act::any && job.side.data != nullptr);
}

// The gradient through the activation: g, or g*slope where it is damped. (Maps use Through, which
// multiplies by the rounded slope.)
template <Act kAct, class D>
class GradientThrough {
 public:
  using A = TFromD<D>;
  HWY_INLINE GradientThrough(D d, double slope)
      : slope_(Set(d, static_cast<A>(slope))),
        rest_(Set(d, static_cast<A>(slope - static_cast<double>(static_cast<A>(slope))))),
        is_relu_(kAct == Act::relu || (kAct != Act::none && slope == 0)) {}
  HWY_INLINE Vec<D> operator()(Vec<D> g, Mask<D> is_damped) const {
    if (is_relu_) return IfThenZeroElse(is_damped, g);
    auto damped = Mul(g, slope_);
    // A slope such as 0.01 is not a float. Its rounding would be in each term of a sum, always in
    // the same direction.
    if constexpr (sizeof(A) == sizeof(float)) damped = MulAdd(g, slope_, Mul(g, rest_));
    return IfThenElse(is_damped, damped, g);
  }

 private:
  Vec<D> slope_, rest_;
  bool is_relu_;
};

// Loads and stores whole vectors, which need no padding.
template <class D>
struct WholeVector {
  template <class T>
  HWY_INLINE Vec<D> operator()(const T *p, Vec<D>) const {
    return load(p);
  }
  template <class T>
  HWY_INLINE Vec<D> load(const T *p) const {
    return LoadElements(D(), p);
  }
  HWY_INLINE void store(Vec<D> v, double *p) const { StoreU(v, D(), p); }
  HWY_INLINE auto doubles(int) const { return WholeVector<CappedTag<double, MaxLanes(D())>>(); }
};
// The same for the lanes whose bits are set. The others are 0, and neither read nor written.
template <class D>
struct SomeLanes {
  uint16_t bits;

  template <class T>
  HWY_INLINE Vec<D> operator()(const T *p, Vec<D>) const {
    return load(p);
  }
  template <class T>
  HWY_INLINE Vec<D> load(const T *p) const {
    if constexpr (std::is_same_v<T, double>) {
      return MaskedLoad(mask(), D(), p);
    } else {
      return FromFloats(D(), LoadMasked(Rebind<float, D>(), p, bytes()));
    }
  }
  HWY_INLINE void store(Vec<D> v, double *p) const { hn::BlendedStore(v, mask(), D(), p); }
  // Those of vector j of the doubles that a vector of floats makes.
  HWY_INLINE SomeLanes<DoubleTag> doubles(int j) const {
    return {static_cast<uint16_t>(bits >> (j * kDoubles))};
  }

 private:
  HWY_INLINE const uint8_t *bytes() const { return reinterpret_cast<const uint8_t *>(&bits); }
  HWY_INLINE Mask<D> mask() const { return LoadMaskBits(D(), bytes()); }
};

// Reads vectors of elements of one channel, or of as many channels as D has lanes.
template <SumsOf kOf, class T, Act kAct, class D>
class Reader {
 public:
  using V = Vec<D>;

  // all(array): the numbers of the channels from their array.
  template <class F>
  HWY_INLINE Reader(D d, const SumsJob &job, const F &all)
      : through_(d, job.slope), has_side_(HasSide<kAct>(job)), pivot_(all(job.pivot)) {
    sign_ = threshold_ = Zero(d);
    bound_ = NaN(d);
    if (has_side_) {
      sign_ = all(job.side_sign);
      threshold_ = all(job.side_threshold);
    }
    if (kHasBound && job.side_bound != nullptr) bound_ = all(job.side_bound);
  }

  HWY_INLINE V pivot() const { return pivot_; }

  // The elements `offset` and i elements after the cursor. load(pointer, padding) -> vector.
  template <class Load>
  HWY_INLINE Elements<V> read(const Cursor &from, const Offsets &offset, int64_t i,
                              const Load &load) const {
    const D d;
    const auto at = [&](const char *p, int64_t bytes)
                        HWY_ATTR { return reinterpret_cast<const T *>(p + bytes) + i; };
    Elements<V> e;
    e.x = load(at(from.x, offset.x), pivot_);
    e.t = sizeof(TFromD<D>) == sizeof(double) ? Difference(d, e.x, pivot_) : Sub(e.x, pivot_);
    e.g = e.v = Zero(d);
    if constexpr (kOf != SumsOf::forward) {
      e.g = load(at(from.g, offset.g), Zero(d));
      if (has_side_) {
        const V side = load(at(from.side, offset.side), Zero(d));
        e.g = through_(e.g, kHasBound ? IsDamped<D>(side, sign_, threshold_, bound_)
                                      : IsDamped<D>(side, sign_, threshold_));
      }
    }
    if constexpr (kOf == SumsOf::double_backward) e.v = load(at(from.v, offset.v), Zero(d));
    return e;
  }

 private:
  static constexpr bool kHasBound =
      kSideHasBound<T> && kOf == SumsOf::backward && kAct != Act::relu && kAct != Act::none;
  GradientThrough<kAct, D> through_;
  bool has_side_;
  V pivot_, sign_, threshold_, bound_;
};

template <SumsOf kOf, class T, Act kAct, class D>
HWY_INLINE auto ReaderOfPlane(D d, const SumsJob &job, int64_t c) {
  return Reader<kOf, T, kAct, D>(d, job, [&](const void *array) HWY_ATTR {
    return Set(d, static_cast<TFromD<D>>(static_cast<const Arithmetic<T> *>(array)[c]));
  });
}
template <SumsOf kOf, class T, Act kAct, class D, class Lanes>
HWY_INLINE auto ReaderOfChannels(D d, const SumsJob &job, int64_t c, const Lanes &lanes) {
  return Reader<kOf, T, kAct, D>(d, job, [&](const void *array) HWY_ATTR {
    return lanes.load(static_cast<const Arithmetic<T> *>(array) + c);
  });
}

// Fetches a line of x and g, and of the side where there surely is one (not with Act::any).
template <SumsOf kOf, Act kAct>
HWY_INLINE void FetchElement(const Cursor &ahead, const Offsets &offset) {
  Prefetch(ahead.x + offset.x);
  if constexpr (kOf != SumsOf::forward) Prefetch(ahead.g + offset.g);
  if constexpr (kAct == Act::relu || kAct == Act::sloped) Prefetch(ahead.side + offset.side);
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
