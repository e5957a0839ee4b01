// The maps over one block, for every operation, element type and layout. Included once per SIMD target.
#if defined(BN2D_KERNELS_MAP_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_MAP_INL_H
#undef BN2D_KERNELS_MAP_INL_H
#else
#define BN2D_KERNELS_MAP_INL_H
#endif

#include <algorithm>
#include <type_traits>

#include "kernels/elements.inl.h"
#include "kernels/kernels.h"
#include "kernels/sums.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The coefficients of the elements of one channel. Whole vectors, so that they live in registers.
template <class A, int kCount>
struct OfPlane {
  using DA = hn::ScalableTag<A>;
  hn::Vec<DA> value[kCount];
  HWY_INLINE OfPlane(const MapJob &job, int64_t channel) {
    const A *array = static_cast<const A *>(job.coefficients) + channel;
#pragma GCC unroll 16
    for (int k = 0; k < kCount; ++k) value[k] = hn::Set(DA(), array[k * job.coefficient_stride]);
  }
  template <class D>
  HWY_INLINE hn::Vec<D> get(D d, int k, int64_t) const {
    if constexpr (std::is_same_v<D, DA>) {
      return value[k];
    } else {
      return hn::Set(d, hn::GetLane(value[k]));
    }
  }
};

// The coefficients of a vector whose first elements belong to one channel and the others to the next.
template <class D, class C>
struct OfBoth {
  const C &before, &after;
  hn::Mask<D> first;
  HWY_INLINE hn::Vec<D> get(D d, int k, int64_t i) const {
    return hn::IfThenElse(first, before.get(d, k, i), after.get(d, k, i));
  }
};

// The coefficients of a row of channels.
template <class A, int kCount>
struct OfChannels {
  const A *array;
  int64_t stride;
  HWY_INLINE explicit OfChannels(const MapJob &job)
      : array(static_cast<const A *>(job.coefficients)), stride(job.coefficient_stride) {}
  template <class D>
  HWY_INLINE hn::Vec<D> get(D d, int k, int64_t i) const {
    return hn::LoadU(d, array + k * stride + i);
  }
};

// Those of one vector of the row, in registers, for the same channels of any row.
template <class D, class C, int kCount>
struct OfColumn {
  hn::Vec<D> value[kCount];
  HWY_INLINE OfColumn(D d, const C &row, int64_t i) {
#pragma GCC unroll 16
    for (int k = 0; k < kCount; ++k) value[k] = row.get(d, k, i);
  }
  HWY_INLINE hn::Vec<D> get(D, int k, int64_t) const { return value[k]; }
};

template <class T>
HWY_INLINE T *At(const Stream &s, int64_t channel, int64_t sample, int64_t position) {
  return static_cast<T *>(s.data) + channel * s.channel + sample * s.sample + position * s.position;
}

// x - mean, with the mean in two parts: nothing cancels when |mean| is much larger than the deviation. The coefficients
// are -mean, because an addition can take x straight from memory.
template <class D, class C>
HWY_INLINE hn::Vec<D> Centered(D d, hn::Vec<D> x, const C &coefficients, int64_t i) {
  return hn::Add(hn::Add(x, coefficients.get(d, 0, i)), coefficients.get(d, 1, i));
}

// Each body computes the elements [i, i + lanes of d) of a row, with the coefficients `c`.

// kFused: with a residual, an activation, or both.
template <class T, bool kFused>
struct ForwardBody {
  using A = Arithmetic<T>;
  static constexpr int kCoefficients = 4;
  const T *x, *z;
  T *y, *sign;
  A slope;
  HWY_INLINE ForwardBody(const MapJob &job, int64_t c, int64_t n, int64_t p)
      : x(At<T>(job.x, c, n, p)),
        z(kFused && job.v.data ? At<T>(job.v, c, n, p) : nullptr),
        y(At<T>(job.out, c, n, p)),
        sign(kFused && job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.activation == Activation::none ? 1.0 : job.slope)) {}  // 1: no activation
  static constexpr int kReads = kFused ? 2 : 1;
  HWY_INLINE const T *reads(int k) const { return k == 0 || z == nullptr ? x : z; }
  HWY_INLINE const T *writes() const { return y; }
  template <class D, class C>
  HWY_INLINE void operator()(D d, int64_t i, const C &c, bool streaming) const {
    const auto centered = Centered(d, LoadElements(d, x + i), c, i);
    auto v = hn::MulAdd(centered, c.get(d, coefficient::scale, i), c.get(d, coefficient::shift, i));
    if constexpr (kFused) {
      if (z) v = hn::Add(v, LoadElements(d, z + i));
      if (sign) {
        const auto one = hn::Set(d, A{1});
        StoreElements(d, hn::IfThenElse(hn::Le(v, hn::Zero(d)), hn::Neg(one), one), sign + i, false);
      }
      v = ActivationGradient<D>(d, slope)(d, v, v);  // v*slope where v <= 0: the same selection
    }
    StoreElements(d, v, y + i, streaming);
  }
};

template <class T, bool kSide>
struct BackwardBody {
  using A = Arithmetic<T>;
  static constexpr int kCoefficients = 7;
  const T *x, *g, *side;
  T *dx, *dz;
  A slope;
  HWY_INLINE BackwardBody(const MapJob &job, int64_t c, int64_t n, int64_t p)
      : x(At<T>(job.x, c, n, p)),
        g(At<T>(job.g, c, n, p)),
        side(kSide && job.side.data ? At<T>(job.side, c, n, p) : nullptr),
        dx(At<T>(job.out, c, n, p)),
        dz(job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.slope)) {}
  static constexpr int kReads = kSide ? 3 : 2;
  HWY_INLINE const T *reads(int k) const { return k == 0 ? x : k == 1 || !side ? g : side; }
  HWY_INLINE const T *writes() const { return dx; }
  template <class D, class C>
  HWY_INLINE void operator()(D d, int64_t i, const C &c, bool streaming) const {
    auto vg = LoadElements(d, g + i);
    if (kSide && side) vg = ActivationGradient<D>(d, slope)(d, vg, LoadElements(d, side + i));
    const auto xhat = hn::Mul(Centered(d, LoadElements(d, x + i), c, i), c.get(d, coefficient::b_invstd, i));
    auto v = hn::Sub(hn::Sub(vg, c.get(d, coefficient::b_gmean_hi, i)), c.get(d, coefficient::b_gmean_lo, i));
    v = hn::NegMulAdd(xhat, c.get(d, coefficient::b_slope_x, i), v);
    v = hn::Mul(v, c.get(d, coefficient::b_scale, i));
    if (dz) StoreElements(d, vg, dz + i, false);
    StoreElements(d, v, dx + i, streaming);
  }
};

template <class T, bool kSide>
struct ScaleBody {
  using A = Arithmetic<T>;
  static constexpr int kCoefficients = 7;
  const T *g, *side;
  T *dx, *dz;
  A slope;
  HWY_INLINE ScaleBody(const MapJob &job, int64_t c, int64_t n, int64_t p)
      : g(At<T>(job.g, c, n, p)),
        side(kSide && job.side.data ? At<T>(job.side, c, n, p) : nullptr),
        dx(job.out.data ? At<T>(job.out, c, n, p) : nullptr),
        dz(job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.slope)) {}
  static constexpr int kReads = kSide ? 2 : 1;
  HWY_INLINE const T *reads(int k) const { return k == 0 || !side ? g : side; }
  HWY_INLINE const T *writes() const { return dx ? dx : dz; }
  template <class D, class C>
  HWY_INLINE void operator()(D d, int64_t i, const C &c, bool streaming) const {
    auto vg = LoadElements(d, g + i);
    if (kSide && side) vg = ActivationGradient<D>(d, slope)(d, vg, LoadElements(d, side + i));
    if (dz) StoreElements(d, vg, dz + i, streaming && !dx);
    if (dx) StoreElements(d, hn::Mul(vg, c.get(d, coefficient::b_scale, i)), dx + i, streaming);
  }
};

template <class T>
struct DoubleBackwardBody {
  using A = Arithmetic<T>;
  static constexpr int kCoefficients = 11;
  const T *x, *g, *side, *v;
  T *ddy, *dx;
  A slope;
  HWY_INLINE DoubleBackwardBody(const MapJob &job, int64_t c, int64_t n, int64_t p)
      : x(At<T>(job.x, c, n, p)),
        g(At<T>(job.g, c, n, p)),
        side(job.side.data ? At<T>(job.side, c, n, p) : nullptr),
        v(At<T>(job.v, c, n, p)),
        ddy(job.out.data ? At<T>(job.out, c, n, p) : nullptr),
        dx(job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.slope)) {}
  static constexpr int kReads = 3;
  HWY_INLINE const T *reads(int k) const { return k == 0 ? x : k == 1 ? g : v; }
  HWY_INLINE const T *writes() const { return ddy ? ddy : dx; }
  template <class D, class C>
  HWY_INLINE void operator()(D d, int64_t i, const C &c, bool) const {
    using namespace coefficient;
    const ActivationGradient<D> through(d, slope);
    auto vg = LoadElements(d, g + i);
    auto vside = hn::Zero(d);
    if (side) {
      vside = LoadElements(d, side + i);
      vg = through(d, vg, vside);
    }
    const auto vv = LoadElements(d, v + i);
    const auto xhat = hn::Mul(Centered(d, LoadElements(d, x + i), c, i), c.get(d, d_invstd, i));
    if (ddy) {
      auto r = hn::MulAdd(vv, c.get(d, d_c1, i), c.get(d, d_c0, i));
      r = hn::MulAdd(xhat, c.get(d, d_c2, i), r);
      if (side) r = through(d, r, vside);
      StoreElements(d, r, ddy + i, false);
    }
    if (dx) {
      auto r = hn::Mul(hn::Sub(vv, c.get(d, d_vmean, i)), c.get(d, d_d1, i));
      r = hn::MulAdd(hn::Sub(vg, c.get(d, d_gmean, i)), c.get(d, d_d2, i), r);
      r = hn::MulAdd(xhat, c.get(d, d_d3, i), r);
      StoreElements(d, r, dx + i, false);
    }
  }
};

// Whether the target has streaming stores that are worth their code.
inline constexpr bool kStreams = HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3;

inline constexpr int64_t kLineBytes = 64;

// Elements [i, stop) of a row, a cache line at a time.
template <class T, class Body, class C>
HWY_INLINE void MapLines(const Body &body, int64_t i, int64_t stop, const C &c, bool streaming, int64_t prefetch) {
  const hn::ScalableTag<Arithmetic<T>> d;
  constexpr int64_t kWidth = static_cast<int64_t>(hn::MaxLanes(hn::ScalableTag<Arithmetic<T>>()));
  constexpr int64_t kVectors = std::max(kLineBytes / static_cast<int64_t>(sizeof(T)) / kWidth, int64_t{1});
  for (; i < stop; i += kVectors * kWidth) {
    for (int k = 0; k < Body::kReads; ++k) Prefetch(reinterpret_cast<const char *>(body.reads(k) + i) + prefetch);
    if constexpr (kVectors <= 2) {
      body(d, i, c, streaming);
      if constexpr (kVectors == 2) body(d, i + kWidth, c, streaming);
    } else {
#pragma GCC unroll 2
      for (int64_t j = 0; j < kVectors; ++j) body(d, i + j * kWidth, c, streaming);
    }
  }
}

// Elements of a row that precede a whole line of the output.
template <class T>
HWY_INLINE int64_t BeforeLine(const T *output) {
  const auto address = reinterpret_cast<uintptr_t>(output);
  return static_cast<int64_t>((kLineBytes - address % kLineBytes) % kLineBytes / sizeof(T));
}

// ---- planes

// Elements [i, stop) of a row of planes, one by one.
template <class T, class Body, class PlaneOf>
HWY_NOINLINE void MapElements(const Body &body, int64_t i, int64_t stop, int64_t length, const PlaneOf &plane_of) {
  const hn::CappedTag<Arithmetic<T>, 1> one;
  for (int64_t plane = i < length ? 0 : i / length; i < stop; ++plane) {
    const auto c = plane_of(plane);
    for (const int64_t end = std::min(stop, (plane + 1) * length); i < end; ++i) body(one, i, c, false);
  }
}

// A row: memory without gaps, in `count` planes of `length` elements: plane_of(0), plane_of(1), ... A vector may reach
// from one plane into the next, so that small planes run at full width, and streaming stores fill whole cache lines: a
// line that is written in parts costs a read.
template <class T, class Body, class PlaneOf>
HWY_INLINE void MapRow(const Body &body, int64_t count, int64_t length, bool streaming, int64_t prefetch,
                       const PlaneOf &plane_of) {
  using D = hn::ScalableTag<Arithmetic<T>>;
  using C = std::decay_t<decltype(plane_of(0))>;
  const D d;
  constexpr int64_t kLineLength = kLineBytes / static_cast<int64_t>(sizeof(T));
  constexpr int64_t kWidth = static_cast<int64_t>(hn::MaxLanes(D()));
  const int64_t total = count * length;
  int64_t i = 0;
  streaming = kStreams && streaming;
  if (streaming) {
    i = std::min(total, BeforeLine(body.writes()));
    if (i != 0) MapElements<T>(body, 0, i, length, plane_of);
  }
  if (kWidth > 1 && total - i >= kWidth && (count == 1 || length >= kWidth)) {
    int64_t plane = i < length ? 0 : i / length, end = (plane + 1) * length;
    C now = plane_of(plane);
    for (;;) {
      const int64_t stop = end - (end - i) % kLineLength;
      streaming ? MapLines<T>(body, i, stop, now, true, prefetch) : MapLines<T>(body, i, stop, now, false, prefetch);
      i = stop;
      for (; i + kWidth <= end; i += kWidth) body(d, i, now, streaming);
      if (total - i < kWidth) break;
      const C before = now;
      const int64_t left = end - i;
      now = plane_of(++plane);
      end += length;
      if (left != 0) {
        body(d, i, OfBoth<D, C>{before, now, hn::FirstN(d, static_cast<size_t>(left))}, streaming);
        i += kWidth;
      }
    }
  }
  if (i != total) MapElements<T>(body, i, total, length, plane_of);
}

template <class T, class Body>
HWY_NOINLINE void MapOverPlanes(const MapJob &job) {
  // Planes that follow one another in every tensor are one row.
  bool adjacent = true;
  for (const Stream *s : {&job.x, &job.g, &job.side, &job.v, &job.out, &job.out2})
    adjacent = adjacent && (s->data == nullptr || s->channel == job.length);
  const int64_t joined = adjacent ? job.channels : 1;
  for (int64_t n = 0; n < job.samples; ++n)
    for (int64_t c = 0; c < job.channels; c += joined)
      MapRow<T>(Body(job, c, n, 0), joined, job.length, job.streaming, job.prefetch,
                [&](int64_t plane) HWY_ATTR { return OfPlane<Arithmetic<T>, Body::kCoefficients>(job, c + plane); });
}

// ---- channels

// Elements [i, stop) of kRows rows that are `step` elements apart, a vector at a time with its coefficients.
template <int kRows, class T, class Body, class C, class D>
HWY_INLINE int64_t MapColumns(D d, const Body &body, int64_t i, int64_t stop, int64_t row, int64_t step, const C &c,
                              bool streaming, int64_t prefetch) {
  constexpr int64_t kLineLength = kLineBytes / static_cast<int64_t>(sizeof(T));
  constexpr int64_t kWidth = static_cast<int64_t>(hn::MaxLanes(D()));
  for (int64_t line = i; i + kWidth <= stop; i += kWidth) {
    if (kWidth > 1 && i == line) {
      line += kLineLength;
#pragma GCC unroll 2
      for (int64_t r = 0; r < kRows; ++r)
        for (int k = 0; k < Body::kReads; ++k)
          Prefetch(reinterpret_cast<const char *>(body.reads(k) + row + r * step + i) + prefetch);
    }
    const OfColumn<D, C, Body::kCoefficients> column(d, c, i);
#pragma GCC unroll 2
    for (int64_t r = 0; r < kRows; ++r) body(d, row + r * step + i, column, streaming);
  }
  return i;
}

template <class T, class Body>
HWY_NOINLINE void MapOverChannels(const MapJob &job) {
  using A = Arithmetic<T>;
  const hn::ScalableTag<A> d;
  const hn::CappedTag<A, 1> one;
  const OfChannels<A, Body::kCoefficients> c(job);
  // Short rows share what is loaded of the coefficients. Long ones would be two runs of memory at a time instead of
  // one, and where stores stream, a core keeps few lines open that it has written in part.
  constexpr int64_t kRowsAtOnce = 2, kShortRowBytes = 512;
  const bool streaming = kStreams && job.streaming;
  const int64_t step = job.out.position;
  bool same_step = true;
  for (const Stream *s : {&job.x, &job.g, &job.side, &job.v, &job.out, &job.out2})
    same_step = same_step && (s->data == nullptr || s->position == step);
  const bool share =
      hn::MaxLanes(d) > 1 && same_step && !streaming && step * static_cast<int64_t>(sizeof(T)) <= kShortRowBytes;
  const int64_t at_once = share ? kRowsAtOnce : 1;
  const int64_t bytes_at_once = at_once * std::max(step, int64_t{1}) * static_cast<int64_t>(sizeof(T));
  const int64_t ahead = (job.prefetch + bytes_at_once - 1) / bytes_at_once * bytes_at_once;
  for (int64_t n = 0; n < job.samples; ++n) {
    const Body sample(job, 0, n, 0);
    for (int64_t p = 0, rows; p < job.length; p += rows) {
      rows = job.length - p >= at_once ? at_once : 1;
      const Body body = same_step ? sample : Body(job, 0, n, p);
      const int64_t row = same_step ? p * step : 0;
      int64_t begin = 0, end;
      if (streaming) {
        begin = std::min(job.channels, BeforeLine(body.writes() + row));
        end = MapColumns<1, T>(d, body, begin, job.channels, row, 0, c, true, job.prefetch);
      } else if (rows == kRowsAtOnce) {
        end = MapColumns<kRowsAtOnce, T>(d, body, 0, job.channels, row, step, c, false, ahead);
      } else {
        end = MapColumns<1, T>(d, body, 0, job.channels, row, 0, c, false, job.prefetch);
      }
      for (int64_t r = 0; r < rows && (begin != 0 || end != job.channels); ++r) {
        MapColumns<1, T>(one, body, 0, begin, row + r * step, 0, c, false, 0);
        MapColumns<1, T>(one, body, end, job.channels, row + r * step, 0, c, false, 0);
      }
    }
  }
}

template <class T, Layout kLayout, class Body>
void MapBlock(const MapJob &job) {
  kLayout == Layout::planes ? MapOverPlanes<T, Body>(job) : MapOverChannels<T, Body>(job);
}

template <class T, Layout kLayout>
void MapForward(const MapJob &job) {
  if (job.v.data != nullptr || job.activation != Activation::none)
    return MapBlock<T, kLayout, ForwardBody<T, true>>(job);
  return MapBlock<T, kLayout, ForwardBody<T, false>>(job);
}

template <class T, Layout kLayout>
void MapBackward(const MapJob &job) {
  if (kOwnPlain<T> && job.side.data == nullptr) return MapBlock<T, kLayout, BackwardBody<T, !kOwnPlain<T>>>(job);
  MapBlock<T, kLayout, BackwardBody<T, true>>(job);
}

template <class T, Layout kLayout>
void MapScale(const MapJob &job) {
  if (kOwnPlain<T> && job.side.data == nullptr) return MapBlock<T, kLayout, ScaleBody<T, !kOwnPlain<T>>>(job);
  MapBlock<T, kLayout, ScaleBody<T, true>>(job);
}

template <class T, Layout kLayout>
void MapDoubleBackward(const MapJob &job) {
  MapBlock<T, kLayout, DoubleBackwardBody<T>>(job);
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
