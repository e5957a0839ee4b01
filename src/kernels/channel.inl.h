// Per-channel arithmetic, plain loops that the compiler vectorises over the channels. Included once per SIMD target.
#if defined(BN2D_KERNELS_CHANNEL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BN2D_KERNELS_CHANNEL_INL_H
#undef BN2D_KERNELS_CHANNEL_INL_H
#else
#define BN2D_KERNELS_CHANNEL_INL_H
#endif

#include <cmath>

#include "kernels/kernels.h"
#include "kernels/pair.inl.h"

HWY_BEFORE_NAMESPACE();
namespace bn2d::kernels::HWY_NAMESPACE {

inline void MomentsOfBlock(int64_t channels, double count, const double *pivot, const Sums *sums, Moments *moments) {
  moments->count = count;
  for (int64_t c = 0; c < channels; ++c) {
    const Pair sum = {sums->hi[c], sums->lo[c]};
    const Pair squares = {sums->hi[kMaxGroup + c], sums->lo[kMaxGroup + c]};
    const Pair offset = Divide(sum, count);
    const Pair mean = Add({pivot[c], 0.0}, offset);
    const Pair excess = Divide(Square(sum), count);
    const Pair m2 = Add(squares, {-excess.hi, -excess.lo});
    moments->mean_hi[c] = mean.hi;
    moments->mean_lo[c] = mean.lo;
    const bool overflow = std::isinf(squares.hi);
    const bool negative = m2.hi < 0;  // by rounding only
    moments->m2_hi[c] = overflow ? squares.hi : negative ? 0.0 : m2.hi;
    moments->m2_lo[c] = overflow || negative ? 0.0 : m2.lo;
  }
}

inline void MergeMoments(int64_t channels, Moments *a, const Moments *b) {
  const double count = a->count + b->count;
  const double weight = a->count * (b->count / count);
  for (int64_t c = 0; c < channels; ++c) {
    const Pair mean = {a->mean_hi[c], a->mean_lo[c]};
    const Pair delta = Add({b->mean_hi[c], b->mean_lo[c]}, {-mean.hi, -mean.lo});
    const Pair merged = Add(mean, Divide(Multiply(delta, b->count), count));
    const Pair m2 = Add(Add({a->m2_hi[c], a->m2_lo[c]}, {b->m2_hi[c], b->m2_lo[c]}), Multiply(Square(delta), weight));
    a->mean_hi[c] = merged.hi;
    a->mean_lo[c] = merged.lo;
    const bool overflow = std::isinf(a->m2_hi[c]) || std::isinf(b->m2_hi[c]) || std::isinf(delta.hi * delta.hi);
    a->m2_hi[c] = overflow ? HUGE_VAL : m2.hi;
    a->m2_lo[c] = overflow ? 0.0 : m2.lo;
  }
  a->count = count;
}

inline void InverseStd(int64_t channels, const double *var, double eps, double *invstd) {
  for (int64_t c = 0; c < channels; ++c) {
    const double v = var[c] + eps;
    const double root = 1.0 / std::sqrt(v);
    invstd[c] = v == 0 ? 0.0 : root;
  }
}

}  // namespace bn2d::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
