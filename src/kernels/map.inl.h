// The maps over one block, for every operation, element type and layout. Included once per SIMD
// target.
#if defined(BN2D_KERNELS_MAP_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_MAP_INL_H
#undef BN2D_KERNELS_MAP_INL_H
#else
#define BN2D_KERNELS_MAP_INL_H
#endif

#include <algorithm>
#include <type_traits>

#include "kernels/elements.inl.h"
#include "kernels/highway.inl.h"
#include "kernels/kernels.h"
#include "kernels/lines.inl.h"
#include "kernels/preactivation.inl.h"
#include "kernels/specialise.inl.h"

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

template <class T>
HWY_INLINE T *At(const Stream &s, int64_t channel, int64_t sample, int64_t position) {
  return static_cast<T *>(s.data) + channel * s.channel + sample * s.sample + position * s.position;
}

// What a body computes for one vector of elements.
template <class V>
struct Results {
  V out, out2;
  HWY_INLINE Results() {}  // see Pair
};

// What the activation lets through: v, or v*slope where it is damped; a slope of 0 gives 0 also for
// an infinite v. (Sums use GradientThrough, which multiplies by the slope in two parts: its
// rounding would add up.)
template <class D>
struct Through {
  Vec<D> slope;
  Mask<D> has_slope;
  HWY_INLINE Through(D d, TFromD<D> s) : slope(Set(d, s)), has_slope(Ne(slope, Zero(d))) {}
  HWY_INLINE Vec<D> operator()(Vec<D> v, Mask<D> is_damped) const {
    return IfThenElse(is_damped, IfThenElseZero(has_slope, Mul(v, slope)), v);
  }
};

// v, but not above a bound; NaN stays. Of two numbers that cannot be compared the instruction takes
// the second one on x86, and NaN elsewhere.
template <class V>
HWY_INLINE V AtMost(V bound, V v) {
#if HWY_TARGET == HWY_SCALAR
  return IfThenElse(Gt(v, bound), bound, v);
#else
  return Min(bound, v);
#endif
}

// Half data spend their time on instructions: a bound would cost relu a tenth of eval in the
// caches.
template <class T>
inline constexpr bool kKnowsBound = sizeof(T) == sizeof(Arithmetic<T>);

// Each body computes a vector of the elements from i on, with the coefficients `c`; `load` reads it
// from a tensor. kAlwaysOut: `out` is never NULL. kHot: worth code of its own for streaming stores
// and for elements in parts. kPlainCoefficients: those before the side's. kManyCoefficients: more
// than four are used.

// kFused: with a residual, an activation, or both.
template <class T, bool kFused>
struct ForwardBody {
  using A = Arithmetic<T>;
  static constexpr bool kAlwaysOut = true, kHot = true;
  static constexpr int kCoefficients = 4, kPlainCoefficients = 4;
  static constexpr bool kManyCoefficients = false;
  static constexpr const T *side = nullptr;
  const T *x, *z;
  T *out, *out2;  // y and the sign
  A slope, bound;
  HWY_INLINE ForwardBody(const MapJob &job, int64_t c, int64_t n, int64_t p)
      : x(At<T>(job.x, c, n, p)),
        z(kFused && job.v.data ? At<T>(job.v, c, n, p) : nullptr),
        out(At<T>(job.out, c, n, p)),
        out2(kFused && job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.activation == Activation::none ? 1.0 : job.slope)),
        bound(static_cast<A>(job.bound)) {}  // slope 1: no activation
  static constexpr int kReads = kFused ? 2 : 1;
  HWY_INLINE const T *reads(int k) const { return k == 0 || z == nullptr ? x : z; }
  template <class D, class C, class Load>
  HWY_INLINE Results<Vec<D>> operator()(D d, int64_t i, const C &c, const Load &load) const {
    Results<Vec<D>> r;
    auto v = Argument(d, load(x + i), c, i);
    if constexpr (kFused) {
      if (z) v = Add(v, load(z + i));
      const auto one = Set(d, A{1});
      if (out2) r.out2 = IfThenElse(Le(v, Zero(d)), Neg(one), one);
      v = Through<D>(d, slope)(v, Le(v, Zero(d)));
      if constexpr (kKnowsBound<T>) v = AtMost(Set(d, bound), v);
    }
    r.out = v;
    return r;
  }
};

template <bool kHasBound, class D, class C>
HWY_INLINE Mask<D> Damped(D d, Vec<D> side, const C &c, int sign, int64_t i) {
  if constexpr (!kHasBound) return IsDamped<D>(side, c.get(d, sign, i), c.get(d, sign + 1, i));
  return IsDamped<D>(side, c.get(d, sign, i), c.get(d, sign + 1, i), c.get(d, sign + 2, i));
}

// kFused: with an activation, or the residual's gradient, or without dx.
template <class T, bool kFused>
struct BackwardBody {
  using A = Arithmetic<T>;
  static constexpr bool kAlwaysOut = true, kHot = true;
  static constexpr int kCoefficients = coefficient_count(MapOf::backward, kFused),
                       kPlainCoefficients = coefficient_count(MapOf::backward, false);
  static constexpr bool kManyCoefficients = true;
  const T *x, *g, *side;
  T *out, *out2;  // dx and dz
  A slope;
  HWY_INLINE BackwardBody(const MapJob &job, int64_t c, int64_t n, int64_t p)
      : x(At<T>(job.x, c, n, p)),
        g(At<T>(job.g, c, n, p)),
        side(kFused && job.side.data ? At<T>(job.side, c, n, p) : nullptr),
        out(At<T>(job.out, c, n, p)),
        out2(kFused && job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.slope)) {}
  static constexpr int kReads = kFused ? 3 : 2;
  HWY_INLINE const T *reads(int k) const { return k == 0 ? x : k == 1 || !side ? g : side; }
  template <class D, class C, class Load>
  HWY_INLINE Results<Vec<D>> operator()(D d, int64_t i, const C &c, const Load &load) const {
    Results<Vec<D>> r;
    auto vg = load(g + i);
    if (kFused && side)
      vg = Through<D>(d, slope)(
          vg, Damped<kKnowsBound<T>>(d, load(side + i), c, coefficient::b_side_sign, i));
    const auto centered = Add(vg, c.get(d, coefficient::b_minus_gmean, i));
    const auto v =
        MulAdd(centered, c.get(d, coefficient::b_scale, i), c.get(d, coefficient::b_shift, i));
    r.out = MulAdd(Centered(d, load(x + i), c, i), c.get(d, coefficient::b_slope, i), v);
    r.out2 = vg;
    return r;
  }
};

template <class T, bool kFused>
struct ScaleBody {
  using A = Arithmetic<T>;
  static constexpr bool kAlwaysOut = !kFused, kHot = true;
  static constexpr int kCoefficients = coefficient_count(MapOf::scale, kFused),
                       kPlainCoefficients = coefficient_count(MapOf::scale, false);
  static constexpr bool kManyCoefficients = false;
  const T *g, *side;
  T *out, *out2;  // dx and dz
  A slope;
  HWY_INLINE ScaleBody(const MapJob &job, int64_t c, int64_t n, int64_t p)
      : g(At<T>(job.g, c, n, p)),
        side(kFused && job.side.data ? At<T>(job.side, c, n, p) : nullptr),
        out(kAlwaysOut || job.out.data ? At<T>(job.out, c, n, p) : nullptr),
        out2(kFused && job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.slope)) {}
  static constexpr int kReads = kFused ? 2 : 1;
  HWY_INLINE const T *reads(int k) const { return k == 0 || !side ? g : side; }
  template <class D, class C, class Load>
  HWY_INLINE Results<Vec<D>> operator()(D d, int64_t i, const C &c, const Load &load) const {
    Results<Vec<D>> r;
    r.out2 = load(g + i);
    if (kFused && side)
      r.out2 = Through<D>(d, slope)(
          r.out2, Damped<kKnowsBound<T>>(d, load(side + i), c, coefficient::b_side_sign, i));
    r.out = Mul(r.out2, c.get(d, coefficient::b_scale, i));
    return r;
  }
};

template <class T>
struct DoubleBackwardBody {
  using A = Arithmetic<T>;
  static constexpr bool kAlwaysOut = false, kHot = false;
  static constexpr int kCoefficients = coefficient_count(MapOf::double_backward, true),
                       kPlainCoefficients = coefficient_count(MapOf::double_backward, false);
  static constexpr bool kManyCoefficients = true;
  const T *x, *g, *side, *v;
  T *out, *out2;  // ddy and dx
  A slope;
  HWY_INLINE DoubleBackwardBody(const MapJob &job, int64_t c, int64_t n, int64_t p)
      : x(At<T>(job.x, c, n, p)),
        g(At<T>(job.g, c, n, p)),
        side(job.side.data ? At<T>(job.side, c, n, p) : nullptr),
        v(At<T>(job.v, c, n, p)),
        out(job.out.data ? At<T>(job.out, c, n, p) : nullptr),
        out2(job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.slope)) {}
  static constexpr int kReads = 3;
  HWY_INLINE const T *reads(int k) const { return k == 0 ? x : k == 1 ? g : v; }
  template <class D, class C, class Load>
  HWY_INLINE Results<Vec<D>> operator()(D d, int64_t i, const C &c, const Load &load) const {
    using namespace coefficient;
    Results<Vec<D>> r;
    const Through<D> through(d, slope);
    auto vg = load(g + i);
    auto is_damped = MaskFromVec(Zero(d));
    if (side) {
      is_damped = Damped<false>(d, load(side + i), c, d_side_sign, i);
      vg = through(vg, is_damped);
    }
    const auto vv = load(v + i);
    const auto xhat = Mul(Centered(d, load(x + i), c, i), c.get(d, d_invstd, i));
    if (out) {
      r.out = MulAdd(vv, c.get(d, d_c1, i), c.get(d, d_c0, i));
      r.out = MulAdd(xhat, c.get(d, d_c2, i), r.out);
      if (side) r.out = through(r.out, is_damped);
    }
    if (out2) {
      r.out2 = Mul(Sub(vv, c.get(d, d_vmean, i)), c.get(d, d_d1, i));
      const auto centered = Add(vg, c.get(d, d_minus_gmean, i));
      r.out2 = Add(r.out2, MulAdd(centered, c.get(d, d_d2, i), c.get(d, d_d0, i)));
      r.out2 = MulAdd(xhat, c.get(d, d_d3, i), r.out2);
    }
    return r;
  }
};

// Whether a body maps the elements of two vectors at a time, in parts: where the coefficients do
// not mind their order.
template <class T, class Body, class C, class D>
inline constexpr bool kInParts = Body::kHot &&C::kAnyOrder &&kParts<T, D> == 2;

// The elements from i on: one vector of them, or two.
template <class T, class Body, class C, class D>
HWY_INLINE void MapVector(D d, const Body &body, int64_t i, const C &c, bool streaming) {
  if constexpr (kInParts<T, Body, C, D>) {
    const auto even = body(d, i, c.template part<0>(),
                           [&](const T *p) BN2D_INLINED { return LoadPart<0>(d, p); });
    const auto odd = body(d, i, c.template part<1>(),
                          [&](const T *p) BN2D_INLINED { return LoadPart<1>(d, p); });
    if (Body::kAlwaysOut || body.out) StoreParts(d, even.out, odd.out, body.out + i, streaming);
    if (body.out2)
      StoreParts(d, even.out2, odd.out2, body.out2 + i,
                 streaming && !Body::kAlwaysOut && !body.out);
  } else {
    const auto r = body(d, i, c, [&](const T *p) BN2D_INLINED { return LoadElements(d, p); });
    if (Body::kAlwaysOut || body.out) StoreElements(d, r.out, body.out + i, streaming);
    if (body.out2)
      StoreElements(d, r.out2, body.out2 + i, streaming && !Body::kAlwaysOut && !body.out);
  }
}
// Elements that MapVector maps at a time.
template <class T, class Body, class C, class D>
inline constexpr int64_t kStepOf = static_cast<int64_t>(MaxLanes(D())) *
                                   (kInParts<T, Body, C, D> ? 2 : 1);

// Elements [i, stop) of a row, a cache line at a time.
template <class T, class Body, class C>
HWY_INLINE void MapLines(const Body &body, int64_t i, int64_t stop, const C &c, bool streaming,
                         int64_t prefetch) {
  using D = ScalableTag<Arithmetic<T>>;
  const D d;
  constexpr int64_t kStep = kStepOf<T, Body, C, D>;
  constexpr int64_t kSteps = std::max(kLineOf<T> / kStep, int64_t{1});
  for (; i < stop; i += kSteps * kStep) {
    for (int k = 0; prefetch != 0 && k < Body::kReads; ++k)
      Prefetch(reinterpret_cast<const char *>(body.reads(k) + i) + prefetch);
    if constexpr (kSteps <= 2) {
      MapVector<T>(d, body, i, c, streaming);
      if constexpr (kSteps == 2) MapVector<T>(d, body, i + kStep, c, streaming);
    } else {
#pragma GCC unroll 2
      for (int64_t j = 0; j < kSteps; ++j) MapVector<T>(d, body, i + j * kStep, c, streaming);
    }
  }
}

// ---- planes

// Elements [i, stop) of a plane: with masks, or one by one.
template <class T, class Body, class C>
HWY_INLINE void MapRest(const Body &body, int64_t i, int64_t stop, const C &c) {
#if HWY_TARGET == HWY_AVX3
  const ScalableTag<Arithmetic<T>> d;
  constexpr int64_t kSize = static_cast<int64_t>(MaxLanes(d));
  for (; i < stop; i += kSize) {
    const int64_t count = std::min(stop - i, kSize);
    const auto bits = static_cast<uint16_t>((1u << count) - 1);
    const auto r = body(d, i, c, [&](const T *p) BN2D_INLINED {
      return LoadMasked(d, p, reinterpret_cast<const uint8_t *>(&bits));
    });
    const auto some = static_cast<size_t>(count);
    if (Body::kAlwaysOut || body.out) StoreFirst(d, r.out, body.out + i, some);
    if (body.out2) StoreFirst(d, r.out2, body.out2 + i, some);
  }
#else
  const CappedTag<Arithmetic<T>, 1> one;
  for (; i < stop; ++i) MapVector<T>(one, body, i, c, false);
#endif
}

// Elements [i, stop) of a row of planes, each plane on its own.
template <class T, class Body, class PlaneOf>
BN2D_KERNEL void MapElements(const Body &body, int64_t i, int64_t stop, int64_t length,
                             const PlaneOf &plane_of) {
  for (int64_t plane = i < length ? 0 : i / length; i < stop; ++plane) {
    const int64_t end = std::min(stop, (plane + 1) * length);
    MapRest<T>(body, i, end, plane_of(plane));
    i = end;
  }
}

// A row: memory without gaps, in `count` planes of `length` elements: plane_of(0), plane_of(1), ...
// A vector may reach from one plane into the next, so that small planes run at full width, and
// streaming stores fill whole cache lines: a line that is written in parts costs a read.
template <class T, class Body, class PlaneOf>
HWY_INLINE void MapRow(const Body &body, int64_t count, int64_t length, bool streaming,
                       int64_t prefetch, const PlaneOf &plane_of) {
  using D = ScalableTag<Arithmetic<T>>;
  using C = std::decay_t<decltype(plane_of(0))>;
  const D d;
  constexpr int64_t kStep = kStepOf<T, Body, C, D>;
  const int64_t total = count * length;
  int64_t i = 0;
  streaming = kStreams && Body::kHot && streaming;
  if (streaming) {
    i = std::min(total, BeforeLine(body.out ? body.out : body.out2));
    if (i != 0) MapElements<T>(body, 0, i, length, plane_of);
  }
  if (kStep > 1 && total - i >= kStep && (count == 1 || length >= kStep)) {
    int64_t plane = i < length ? 0 : i / length, end = (plane + 1) * length;
    C now = plane_of(plane);
    for (;;) {
      if constexpr (Body::kHot) {
        const int64_t stop = end - (end - i) % kLineOf<T>;
        if (streaming) {
          MapLines<T>(body, i, stop, now, true, prefetch);
        } else {
          MapLines<T>(body, i, stop, now, false, prefetch);
        }
        i = stop;
      }
      for (; i + kStep <= end; i += kStep) MapVector<T>(d, body, i, now, streaming);
      if (total - i < kStep) break;
      const C before = now;
      const int64_t left = end - i;
      now = plane_of(++plane);
      end += length;
      if (left != 0) {
        MapVector<T>(d, body, i, StraddlingCoefficients<D, C>(before, now, left), streaming);
        i += kStep;
      }
    }
  }
  if (i != total) MapElements<T>(body, i, total, length, plane_of);
}

template <class T, class Body>
HWY_INLINE void MapOverPlanes(const MapJob &job) {
  // Planes that follow one another in every tensor are one row.
  bool adjacent = true;
  for (const auto tensor : MapJob::kTensors)
    adjacent = adjacent && ((job.*tensor).data == nullptr || (job.*tensor).channel == job.length);
  const int64_t joined = adjacent ? job.channels : 1;
  for (int64_t n = 0; n < job.samples; ++n)
    for (int64_t c = 0; c < job.channels; c += joined)
      MapRow<T>(Body(job, c, n, 0), joined, job.length, job.streaming, job.prefetch,
                [&](int64_t plane) HWY_ATTR {
                  return PlaneCoefficients<Arithmetic<T>, Body::kCoefficients>(job, c + plane);
                });
}

// ---- channels

// Elements [i, stop) of kRows rows that are `step` elements apart, a vector at a time with its
// coefficients.
template <int kRows, class T, class Body, class C, class D>
HWY_INLINE int64_t MapColumns(D d, const Body &body, int64_t i, int64_t stop, int64_t row,
                              int64_t step, const C &c, bool streaming, int64_t prefetch) {
  constexpr int64_t kWidth = static_cast<int64_t>(MaxLanes(D()));
  for (int64_t line = i; i + kWidth <= stop; i += kWidth) {
    if (kWidth > 1 && prefetch != 0 && i == line) {
      line += kLineOf<T>;
#pragma GCC unroll 2
      for (int64_t r = 0; r < kRows; ++r)
        for (int k = 0; k < Body::kReads; ++k)
          Prefetch(reinterpret_cast<const char *>(body.reads(k) + row + r * step + i) + prefetch);
    }
    const ColumnCoefficients<D, Body> column(d, body, c, i);
#pragma GCC unroll 2
    for (int64_t r = 0; r < kRows; ++r)
      MapVector<T>(d, body, row + r * step + i, column, streaming);
  }
  return i;
}

template <class T, class Body>
HWY_INLINE void MapOverChannels(const MapJob &job) {
  using A = Arithmetic<T>;
  const ScalableTag<A> d;
  const CappedTag<A, 1> one;
  const RowCoefficients<A> c(job);
  // Short rows share what is loaded of the coefficients: eval of (64,16,32,32) takes 0.6 of the
  // time with 8 rows instead of 2, (64,64,8,8) 0.85. Long ones would be two runs of memory at a
  // time instead of one, and where stores stream, a core keeps few lines open that it has written
  // in part. Rows that are a vector and a line each are one run, written line by line.
  constexpr int64_t kRowsAtOnce = 8, kShortRowBytes = 512;
  const bool streaming = kStreams && Body::kHot && job.streaming;
  const int64_t step = job.out.position;
  bool same_step = true;
  for (const auto tensor : MapJob::kTensors)
    same_step = same_step && ((job.*tensor).data == nullptr || (job.*tensor).position == step);
  constexpr bool kMayShare = MaxLanes(d) > 1 && Body::kHot && kSpecialise;
  constexpr bool kVectorIsLine = static_cast<int64_t>(MaxLanes(d)) == kLineOf<T>;
  const bool may_share = kMayShare && same_step &&
                         (!streaming || (kVectorIsLine && step == kLineOf<T>)) &&
                         step * static_cast<int64_t>(sizeof(T)) <= kShortRowBytes;
  for (int64_t n = 0; n < job.samples; ++n) {
    const Body sample(job, 0, n, 0);
    const bool share =
        may_share && (!streaming || BeforeLine(sample.out ? sample.out : sample.out2) == 0);
    const int64_t at_once = share ? kRowsAtOnce : 1;
    const int64_t bytes_at_once =
        at_once * std::max(step, int64_t{1}) * static_cast<int64_t>(sizeof(T));
    const int64_t ahead = (job.prefetch + bytes_at_once - 1) / bytes_at_once * bytes_at_once;
    for (int64_t p = 0, rows; p < job.length; p += rows) {
      rows = job.length - p >= at_once ? at_once : 1;
      const Body body = same_step ? sample : Body(job, 0, n, p);
      const int64_t row = same_step ? p * step : 0;
      int64_t begin = 0, end;
      if (kMayShare && rows == kRowsAtOnce) {
        end = MapColumns<kRowsAtOnce, T>(d, body, 0, job.channels, row, step, c,
                                         kVectorIsLine && streaming, ahead);
      } else {
        if (streaming)
          begin = std::min(job.channels, BeforeLine((body.out ? body.out : body.out2) + row));
        // Bodies of many registers take up to a tenth longer where each store asks.
        if (Body::kCoefficients > 4 && !streaming) {
          end = MapColumns<1, T>(d, body, begin, job.channels, row, 0, c, false, job.prefetch);
        } else {
          end = MapColumns<1, T>(d, body, begin, job.channels, row, 0, c, streaming, job.prefetch);
        }
      }
      for (int64_t r = 0; r < rows && (begin != 0 || end != job.channels); ++r)
        for (const bool is_head : {true, false})
          MapColumns<1, T>(one, body, is_head ? 0 : end, is_head ? begin : job.channels,
                           row + r * step, 0, c, false, 0);
    }
  }
}

template <class T, Layout kLayout, class Body>
HWY_INLINE void MapOver(const MapJob &job) {
  if constexpr (kLayout == Layout::planes) {
    MapOverPlanes<T, Body>(job);
  } else {
    MapOverChannels<T, Body>(job);
  }
}
// Maps that are seldom run are written for size.
template <class T, Layout kLayout, class Body>
BN2D_KERNEL void MapHot(const MapJob &job) {
  MapOver<T, kLayout, Body>(job);
}
template <class T, Layout kLayout, class Body>
HWY_NOINLINE __attribute__((cold)) void MapSeldom(const MapJob &job) {
  MapOver<T, kLayout, Body>(job);
}
template <class T, Layout kLayout, class Body>
constexpr auto MapBlock() -> void (*)(const MapJob &) {
  if constexpr (Body::kHot) {
    return MapHot<T, kLayout, Body>;
  } else {
    return MapSeldom<T, kLayout, Body>;
  }
}

// A map of all jobs, or the choice between one for plain jobs and one for all.
template <class T, Layout kLayout>
void ChooseForward(const MapJob &job) {
  if (job.v.data == nullptr && job.activation == Activation::none)
    return MapBlock<T, kLayout, ForwardBody<T, false>>()(job);
  MapBlock<T, kLayout, ForwardBody<T, true>>()(job);
}
template <class T, Layout kLayout, template <class, bool> class Body>
void ChoosePlain(const MapJob &job) {
  if (job.side.data == nullptr && job.out2.data == nullptr && job.out.data != nullptr)
    return MapBlock<T, kLayout, Body<T, false>>()(job);
  MapBlock<T, kLayout, Body<T, true>>()(job);
}

template <MapOf kOf, class T, Layout kLayout>
constexpr auto Map() -> void (*)(const MapJob &) {
  constexpr bool kSpecialiseScale = kSpecialisePlain<T> && sizeof(T) > 2;  // half data hardly gain
  if constexpr (kLayout == Layout::channels && !kHasChannels) {
    return nullptr;
  } else if constexpr (kOf == MapOf::forward && kSpecialise) {
    return ChooseForward<T, kLayout>;
  } else if constexpr (kOf == MapOf::forward) {
    return MapBlock<T, kLayout, ForwardBody<T, true>>();
  } else if constexpr (kOf == MapOf::backward && kSpecialisePlain<T>) {
    return ChoosePlain<T, kLayout, BackwardBody>;
  } else if constexpr (kOf == MapOf::backward) {
    return MapBlock<T, kLayout, BackwardBody<T, true>>();
  } else if constexpr (kOf == MapOf::scale && kSpecialiseScale) {
    return ChoosePlain<T, kLayout, ScaleBody>;
  } else if constexpr (kOf == MapOf::scale) {
    return MapBlock<T, kLayout, ScaleBody<T, true>>();
  } else {
    return MapBlock<T, kLayout, DoubleBackwardBody<T>>();
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
