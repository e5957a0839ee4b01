// The maps over one block, for every operation, element type and layout. Included once per SIMD target.
#if defined(BN2D_KERNELS_MAP_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_MAP_INL_H
#undef BN2D_KERNELS_MAP_INL_H
#else
#define BN2D_KERNELS_MAP_INL_H
#endif

#include <algorithm>
#include <cstring>

#include "kernels/elements.inl.h"
#include "kernels/kernels.h"
#include "kernels/sums.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Coefficients of a run of elements: the same for all of them (planes), or one for each (channels).
template <class A, int kCount, Layout kLayout>
struct Coefficients {
  A value[kLayout == Layout::planes ? kCount : 1] = {};
  const A *array;
  int64_t stride;
  HWY_INLINE Coefficients(const MapJob &job, int64_t channel)
      : array(static_cast<const A *>(job.coefficients) + channel), stride(job.coefficient_stride) {
    if constexpr (kLayout == Layout::planes) {
#pragma GCC unroll 16
      for (int k = 0; k < kCount; ++k) value[k] = array[k * stride];  // unrolled, so that they live in registers
    }
  }
  template <class D>
  HWY_INLINE hn::Vec<D> get(D d, int k, int64_t i) const {
    if constexpr (kLayout == Layout::planes) {
      return hn::Set(d, value[k]);
    } else {
      return hn::LoadU(d, array + k * stride + i);
    }
  }
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

// Each body computes the elements [i, i + lanes of d) of a run.

// kFused: with a residual, an activation, or both.
template <class T, Layout kLayout, bool kFused>
struct ForwardBody {
  using A = Arithmetic<T>;
  using C = Coefficients<A, 4, kLayout>;
  C coefficients;
  const T *x, *z;
  T *y, *sign;
  A slope;
  HWY_INLINE ForwardBody(const C &all, const MapJob &job, int64_t c, int64_t n, int64_t p)
      : coefficients(all),
        x(At<T>(job.x, c, n, p)),
        z(kFused && job.v.data ? At<T>(job.v, c, n, p) : nullptr),
        y(At<T>(job.out, c, n, p)),
        sign(kFused && job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.activation == Activation::none ? 1.0 : job.slope)) {}  // 1: no activation
  static constexpr int kReads = kFused ? 2 : 1;
  HWY_INLINE const T *reads(int k) const { return k == 0 || z == nullptr ? x : z; }
  HWY_INLINE T *&writes() { return y; }
  HWY_INLINE bool writes_twice() const { return sign != nullptr; }
  template <class D>
  HWY_INLINE void operator()(D d, int64_t i, bool streaming) const {
    const auto centered = Centered(d, LoadElements(d, x + i), coefficients, i);
    auto v =
        hn::MulAdd(centered, coefficients.get(d, coefficient::scale, i), coefficients.get(d, coefficient::shift, i));
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

template <class T, Layout kLayout, bool kSide>
struct BackwardBody {
  using A = Arithmetic<T>;
  using C = Coefficients<A, 7, kLayout>;
  C coefficients;
  const T *x, *g, *side;
  T *dx, *dz;
  A slope;
  HWY_INLINE BackwardBody(const C &all, const MapJob &job, int64_t c, int64_t n, int64_t p)
      : coefficients(all),
        x(At<T>(job.x, c, n, p)),
        g(At<T>(job.g, c, n, p)),
        side(kSide && job.side.data ? At<T>(job.side, c, n, p) : nullptr),
        dx(At<T>(job.out, c, n, p)),
        dz(job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.slope)) {}
  static constexpr int kReads = kSide ? 3 : 2;
  HWY_INLINE const T *reads(int k) const { return k == 0 ? x : k == 1 || !side ? g : side; }
  HWY_INLINE T *&writes() { return dx; }
  HWY_INLINE bool writes_twice() const { return dz != nullptr; }
  template <class D>
  HWY_INLINE void operator()(D d, int64_t i, bool streaming) const {
    auto vg = LoadElements(d, g + i);
    if (kSide && side) vg = ActivationGradient<D>(d, slope)(d, vg, LoadElements(d, side + i));
    const auto xhat =
        hn::Mul(Centered(d, LoadElements(d, x + i), coefficients, i), coefficients.get(d, coefficient::b_invstd, i));
    auto v = hn::Sub(hn::Sub(vg, coefficients.get(d, coefficient::b_gmean_hi, i)),
                     coefficients.get(d, coefficient::b_gmean_lo, i));
    v = hn::NegMulAdd(xhat, coefficients.get(d, coefficient::b_slope_x, i), v);
    v = hn::Mul(v, coefficients.get(d, coefficient::b_scale, i));
    if (dz) StoreElements(d, vg, dz + i, false);
    StoreElements(d, v, dx + i, streaming);
  }
};

template <class T, Layout kLayout, bool kSide>
struct ScaleBody {
  using A = Arithmetic<T>;
  using C = Coefficients<A, 7, kLayout>;
  C coefficients;
  const T *g, *side;
  T *dx, *dz;
  A slope;
  HWY_INLINE ScaleBody(const C &all, const MapJob &job, int64_t c, int64_t n, int64_t p)
      : coefficients(all),
        g(At<T>(job.g, c, n, p)),
        side(kSide && job.side.data ? At<T>(job.side, c, n, p) : nullptr),
        dx(job.out.data ? At<T>(job.out, c, n, p) : nullptr),
        dz(job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.slope)) {}
  static constexpr int kReads = kSide ? 2 : 1;
  HWY_INLINE const T *reads(int k) const { return k == 0 || !side ? g : side; }
  HWY_INLINE T *&writes() { return dx ? dx : dz; }
  HWY_INLINE bool writes_twice() const { return dx != nullptr && dz != nullptr; }
  template <class D>
  HWY_INLINE void operator()(D d, int64_t i, bool streaming) const {
    auto vg = LoadElements(d, g + i);
    if (kSide && side) vg = ActivationGradient<D>(d, slope)(d, vg, LoadElements(d, side + i));
    if (dz) StoreElements(d, vg, dz + i, streaming && !dx);
    if (dx) StoreElements(d, hn::Mul(vg, coefficients.get(d, coefficient::b_scale, i)), dx + i, streaming);
  }
};

template <class T, Layout kLayout>
struct DoubleBackwardBody {
  using A = Arithmetic<T>;
  using C = Coefficients<A, 11, kLayout>;
  C coefficients;
  const T *x, *g, *side, *v;
  T *ddy, *dx;
  A slope;
  HWY_INLINE DoubleBackwardBody(const C &all, const MapJob &job, int64_t c, int64_t n, int64_t p)
      : coefficients(all),
        x(At<T>(job.x, c, n, p)),
        g(At<T>(job.g, c, n, p)),
        side(job.side.data ? At<T>(job.side, c, n, p) : nullptr),
        v(At<T>(job.v, c, n, p)),
        ddy(job.out.data ? At<T>(job.out, c, n, p) : nullptr),
        dx(job.out2.data ? At<T>(job.out2, c, n, p) : nullptr),
        slope(static_cast<A>(job.slope)) {}
  static constexpr int kReads = 3;
  HWY_INLINE const T *reads(int k) const { return k == 0 ? x : k == 1 ? g : v; }
  HWY_INLINE T *&writes() { return ddy ? ddy : dx; }
  HWY_INLINE bool writes_twice() const { return ddy != nullptr && dx != nullptr; }
  template <class D>
  HWY_INLINE void operator()(D d, int64_t i, bool) const {
    using namespace coefficient;
    const ActivationGradient<D> through(d, slope);
    auto vg = LoadElements(d, g + i);
    auto vside = hn::Zero(d);
    if (side) {
      vside = LoadElements(d, side + i);
      vg = through(d, vg, vside);
    }
    const auto vv = LoadElements(d, v + i);
    const auto xhat = hn::Mul(Centered(d, LoadElements(d, x + i), coefficients, i), coefficients.get(d, d_invstd, i));
    if (ddy) {
      auto r = hn::MulAdd(vv, coefficients.get(d, d_c1, i), coefficients.get(d, d_c0, i));
      r = hn::MulAdd(xhat, coefficients.get(d, d_c2, i), r);
      if (side) r = through(d, r, vside);
      StoreElements(d, r, ddy + i, false);
    }
    if (dx) {
      auto r = hn::Mul(hn::Sub(vv, coefficients.get(d, d_vmean, i)), coefficients.get(d, d_d1, i));
      r = hn::MulAdd(hn::Sub(vg, coefficients.get(d, d_gmean, i)), coefficients.get(d, d_d2, i), r);
      r = hn::MulAdd(xhat, coefficients.get(d, d_d3, i), r);
      StoreElements(d, r, dx + i, false);
    }
  }
};

inline constexpr int64_t kLineBytes = 64;

// The bulk of a run, a cache line at a time.
template <class T, class Body>
HWY_INLINE void RunLines(const Body &body, int64_t i, int64_t end, bool streaming, int64_t prefetch) {
  const hn::ScalableTag<Arithmetic<T>> d;
  constexpr int64_t kWidth = static_cast<int64_t>(hn::MaxLanes(hn::ScalableTag<Arithmetic<T>>()));
  constexpr int64_t kBytes = kWidth * static_cast<int64_t>(sizeof(T));
  constexpr int64_t kPerLine = kLineBytes > kBytes ? kLineBytes / kBytes : 1;
  for (; i < end; i += kPerLine * kWidth) {
    for (int k = 0; k < Body::kReads; ++k) Prefetch(reinterpret_cast<const char *>(body.reads(k) + i) + prefetch);
    if constexpr (kPerLine <= 2) {
      body(d, i, streaming);
      if constexpr (kPerLine == 2) body(d, i + kWidth, streaming);
    } else {
#pragma GCC unroll 2
      for (int64_t j = 0; j < kPerLine; ++j) body(d, i + j * kWidth, streaming);
    }
  }
}

// Whether the target has streaming stores that are worth their code.
inline constexpr bool kStreams = HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3;

// The line in which a streamed run ends. It stays open until the next run has filled it, because a line that is written
// in parts costs a read. A vector that reaches over an end of what it is for writes here, too, and computes some
// elements twice.
template <class T>
class OpenLine {
 public:
  static constexpr int64_t kLength = kLineBytes / static_cast<int64_t>(sizeof(T));

  HWY_NOINLINE void begin(T *out) {
    first_ = filled_ = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) % kLineBytes / sizeof(T));
    target_ = out - first_;
  }
  HWY_INLINE void end() {
    if (filled_ != first_) copy_part();
  }
  int64_t missing() const { return filled_ == 0 ? 0 : kLength - filled_; }
  T *next() { return line() + filled_; }
  HWY_INLINE void close() {
    const hn::CappedTag<uint8_t, kLineBytes> d;
    if (first_ != 0) {
      filled_ = kLength;
      copy_part();
    } else {
      const auto *from = reinterpret_cast<const uint8_t *>(line());
      auto *to = reinterpret_cast<uint8_t *>(target_);
      for (size_t k = 0; k < kLineBytes; k += hn::MaxLanes(d)) hn::Stream(hn::Load(d, from + k), d, to + k);
    }
  }
  HWY_INLINE T *open(T *target, int64_t elements) {
    target_ = target;
    first_ = 0;
    filled_ = elements;
    return line();
  }

 private:
  T *line() { return memory_ + kLength; }
  HWY_NOINLINE void copy_part() {
    std::memcpy(target_ + first_, line() + first_, static_cast<size_t>(filled_ - first_) * sizeof(T));
  }

  alignas(kLineBytes) T memory_[4 * kLength];  // what a vector writes before the line, the line, what it writes after
  T *target_ = nullptr;                        // where the line belongs
  int64_t first_ = 0, filled_ = 0;             // elements of it: [first, filled) are ours
};

// `count` runs, the bodies of which are made by `body_of`; `step`: from the output of one to that of the next.
template <class T, class BodyOf>
HWY_INLINE void Runs(int64_t count, int64_t length, int64_t step, bool streaming, bool in_place, int64_t prefetch,
                     const BodyOf &body_of) {
  using Line = OpenLine<T>;
  const hn::ScalableTag<Arithmetic<T>> d;
  const hn::CappedTag<Arithmetic<T>, 1> one;
  constexpr int64_t kWidth = static_cast<int64_t>(hn::MaxLanes(hn::ScalableTag<Arithmetic<T>>()));
  streaming = kStreams && streaming && length >= Line::kLength;
  Line line;
  for (int64_t k = 0; k < count; ++k) {
    auto body = body_of(k);
    T *const out = body.writes();
    const bool once = in_place || body.writes_twice();  // an element must not be computed twice
    const bool joined = step == length && !once;
    int64_t i = 0;
    if constexpr (kStreams) {
      if (streaming) {
        if (k == 0 || !joined) line.begin(out);
        i = line.missing();
        if (i != 0) {
          body.writes() = line.next();
          for (int64_t j = 0; j < i; j += kWidth) body(d, j, false);
          line.close();
          body.writes() = out;
        }
      }
    }
    const int64_t bulk = i + (length - i) / Line::kLength * Line::kLength;
    streaming ? RunLines<T>(body, i, bulk, true, prefetch) : RunLines<T>(body, i, bulk, false, prefetch);
    if (bulk == length) {
      line.open(out + length, 0);
    } else if (kWidth == 1 || length < kWidth || once) {
      for (int64_t j = bulk; j < length; ++j) body(one, j, false);
      line.open(nullptr, 0);
    } else {
      if (streaming) body.writes() = line.open(out + bulk, length - bulk) - bulk;
      for (int64_t j = bulk; j < length; j += kWidth) body(d, std::min(j, length - kWidth), false);
    }
    if (streaming && (k + 1 == count || !joined)) line.end();
  }
}

template <class T, Layout kLayout, class Body>
HWY_NOINLINE void MapBlock(const MapJob &job) {
  const Stream &out = job.out.data != nullptr ? job.out : job.out2;
  using C = typename Body::C;
  bool in_place = false;
  for (const Stream *read : {&job.x, &job.g, &job.side, &job.v}) in_place = in_place || read->data == out.data;
  if constexpr (kLayout == Layout::planes) {
    for (int64_t n = 0; n < job.samples; ++n)
      Runs<T>(job.channels, job.length, out.channel, job.streaming, in_place, job.prefetch,
              [&](int64_t c) HWY_ATTR { return Body(C(job, c), job, c, n, 0); });
  } else {
    const C coefficients(job, 0);
    for (int64_t n = 0; n < job.samples; ++n)
      Runs<T>(job.length, job.channels, out.position, job.streaming, in_place, job.prefetch,
              [&](int64_t p) HWY_ATTR { return Body(coefficients, job, 0, n, p); });
  }
}

template <class T, Layout kLayout>
void MapForward(const MapJob &job) {
  if (job.v.data != nullptr || job.activation != Activation::none)
    return MapBlock<T, kLayout, ForwardBody<T, kLayout, true>>(job);
  return MapBlock<T, kLayout, ForwardBody<T, kLayout, false>>(job);
}

template <class T, Layout kLayout>
void MapBackward(const MapJob &job) {
  if (kOwnPlain<T> && job.side.data == nullptr)
    return MapBlock<T, kLayout, BackwardBody<T, kLayout, !kOwnPlain<T>>>(job);
  MapBlock<T, kLayout, BackwardBody<T, kLayout, true>>(job);
}

template <class T, Layout kLayout>
void MapScale(const MapJob &job) {
  if (kOwnPlain<T> && job.side.data == nullptr) return MapBlock<T, kLayout, ScaleBody<T, kLayout, !kOwnPlain<T>>>(job);
  MapBlock<T, kLayout, ScaleBody<T, kLayout, true>>(job);
}

template <class T, Layout kLayout>
void MapDoubleBackward(const MapJob &job) {
  MapBlock<T, kLayout, DoubleBackwardBody<T, kLayout>>(job);
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
