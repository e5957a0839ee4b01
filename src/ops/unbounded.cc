#include "ops/unbounded.h"

#include <cstring>
#include <limits>

#include "base/two_sum.h"

namespace bn2d::unbounded {
namespace {

// 2^k for k <= 1023; 0 where that is no normal number.
double power_of_two(int k) {
  if (k < -1022) return 0;
  const uint64_t bits = static_cast<uint64_t>(k + 1023) << 52;
  double power;
  std::memcpy(&power, &bits, sizeof power);
  return power;
}

constexpr uint64_t kSignBit = uint64_t{1} << 63, kExponentBits = uint64_t{0x7FF} << 52;
uint64_t bits_of(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// What the activation lets through; see Through in kernels/map_bodies.inl.h.
Number through(const Number &v, bool damped, double slope) {
  if (!damped) return v;
  return slope == 0 ? Number() : v * Number(slope);
}

// The coefficients of a map, and what its job reads and writes, element by element.
class Elements {
 public:
  Elements(const kernels::MapJob &job, const int32_t *exponents)
      : job_(job), exponents_(exponents) {}

  double plain(int k) const {
    return static_cast<const double *>(job_.coefficients)[k * job_.coefficient_stride];
  }
  Number coefficient(int k) const {
    return Number(plain(k), exponents_[k * job_.coefficient_stride]);
  }
  Number gradient(int64_t i, int side_sign) const {
    const Side side = {plain(side_sign), plain(side_sign + 1), plain(side_sign + 2)};
    return through(elements(job_.g)[i], is_damped(job_, i, side), job_.slope);
  }
  void write(int64_t i, const Number &out) const { write(job_.out, i, out); }
  void write2(int64_t i, const Number &out) const { write(job_.out2, i, out); }

 private:
  static void write(const kernels::Strided &strided, int64_t i, const Number &out) {
    if (strided.data != nullptr) static_cast<double *>(strided.data)[i] = out.to_double();
  }
  const kernels::MapJob &job_;
  const int32_t *exponents_;
};

void map_forward(const kernels::MapJob &job, const Elements &e) {
  using namespace kernels::coefficient;
  const Forward forward = {e.coefficient(minus_mean_hi), e.coefficient(minus_mean_lo),
                           e.coefficient(scale), e.coefficient(shift)};
  for (int64_t i = 0; i < count(job); ++i) {
    Number v = forward.argument(elements(job.x)[i]);
    if (job.v.data != nullptr) v = v + Number(elements(job.v)[i]);
    const bool damped = v.significand <= 0;
    e.write2(i, damped ? -1 : 1);
    e.write(i, through(v, damped && job.activation != kernels::Activation::none, job.slope));
  }
}

// dx = scale*(g-gmean) + shift + (x-mean)*x_factor with a gmean of 0, or without what comes from
// statistics of the batch; dz = g.
void map_gradients(const kernels::MapJob &job, const Elements &e, bool centered) {
  using namespace kernels::coefficient;
  const auto of = [&](int k) { return centered ? e.coefficient(k) : Number(); };
  const Number mean = of(minus_mean_hi), mean_lo = of(minus_mean_lo), shift = of(b_shift),
               x_factor = of(b_x_factor), scale = e.coefficient(b_scale);
  for (int64_t i = 0; i < count(job); ++i) {
    const Number g = e.gradient(i, b_side_sign);
    Number v = g * scale;
    if (centered) v = v + shift + (Number(elements(job.x)[i]) + mean + mean_lo) * x_factor;
    e.write(i, v);
    e.write2(i, g);
  }
}

// Doubles in the order of whole numbers.
double of_rank(uint64_t rank) {
  const uint64_t bits = rank & kSignBit ? rank ^ kSignBit : ~rank;
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
constexpr uint64_t kHighest = kSignBit | kExponentBits, kLowest = ~kHighest;  // infinite

}  // namespace

// These stay functions of their own: inlined, they would be 20 KB.
__attribute__((noinline)) Number::Number(double value, int scale)
    : significand(value), exponent(scale) {
  uint64_t bits = bits_of(value);
  if ((bits & kExponentBits) == 0) {  // 0, or subnormal
    bits = bits_of(value * 0x1p54);
    exponent -= 54;
  }
  const int biased = static_cast<int>((bits & kExponentBits) >> 52);
  if (biased == 0 || biased == 0x7FF) {
    exponent = biased == 0 ? -kEnd : kEnd;
    return;
  }
  exponent += biased - 1023;
  bits = (bits & ~kExponentBits) | bits_of(1);
  std::memcpy(&significand, &bits, sizeof bits);
}

Number Number::inverse_sqrt() const {
  if (significand == 0) return Number();
  const int odd = exponent & 1;
  return Number(1 / std::sqrt(significand * (1 + odd)), -((exponent - odd) / 2));
}

__attribute__((noinline)) Number operator+(const Number &a, const Number &b) {
  const bool ordered = a.exponent >= b.exponent;
  const Number &large = ordered ? a : b, &small = ordered ? b : a;
  return Number(
      large.significand + small.significand * power_of_two(small.exponent - large.exponent),
      large.exponent);
}

__attribute__((noinline)) void Sum::add(const Number &v) {
  if (v.exponent > exponent_ + kReach) {
    const double smaller = power_of_two(exponent_ - v.exponent);
    hi_ *= smaller;
    lo_ *= smaller;
    exponent_ = v.exponent;
  }
  const double term = v.significand * power_of_two(v.exponent - exponent_);
  const TwoSum s = two_sum(hi_, term);
  lo_ += s.error;
  hi_ = s.sum;
}

Sum::Mean Sum::divided_by(double count) const {
  if (!std::isfinite(hi_)) return {hi_, 0};
  const double sum = hi_ + lo_, rest = lo_ - (sum - hi_);
  const double quotient = sum / count, remainder = std::fma(-quotient, count, sum) + rest;
  const double mean = quotient + remainder / count;
  return {Number(mean, exponent_), Number(remainder / count - (mean - quotient), exponent_)};
}

void Forward::find_side(double *sign, double *threshold) const {
  const bool falls = scale.significand < 0;
  const auto is_whole = [&](double x) { return !(argument(falls ? -x : x).significand <= 0); };
  uint64_t low = kLowest, high = kHighest;  // damped, or the lowest; whole, or the highest
  while (high - low > 1) {
    const uint64_t middle = low + (high - low) / 2;
    (is_whole(of_rank(middle)) ? high : low) = middle;
  }
  // Where no number is damped, not even an infinite one is, whose argument is NaN.
  *sign = falls ? -0.0 : 0.0;
  *threshold = is_whole(of_rank(low)) ? std::numeric_limits<double>::quiet_NaN() : of_rank(low);
}

void add_elements(const kernels::MapJob &job, Sum *sum) {
  for (int64_t i = 0; i < count(job); ++i) sum->add(elements(job.x)[i]);
}

void add_squares(const kernels::MapJob &job, Moments *moments) {
  const Sum::Mean mean = moments->mean;
  for (int64_t i = 0; i < count(job); ++i) {
    const Number x = elements(job.x)[i], t = x - mean.hi, part = t - x;
    const Number error = (x - (t - part)) - (mean.hi + part) - mean.lo;
    moments->squares.add(t * t);
    // What the rounding of the square lost, and what the error adds: 2*t*error + error^2. Far from
    // 0 it is not small beside t: the mean of 2^52 and 2^52 + 1 has a low part of a half.
    moments->squares.add(Number(
        std::fma(t.significand, t.significand, -(t.significand * t.significand)), 2 * t.exponent));
    moments->squares.add((t + t + error) * error);
  }
}

void add_gradients(const kernels::MapJob &job, const Sum::Mean &mean, const Side &side,
                   Gradients *gradients) {
  for (int64_t i = 0; i < count(job); ++i) {
    const Number g = through(elements(job.g)[i], is_damped(job, i, side), job.slope);
    gradients->g.add(g);
    gradients->products.add(g * (Number(elements(job.x)[i]) - mean.hi - mean.lo));
  }
}

void map(kernels::MapOf op, const kernels::MapJob &job, const int32_t *exponents) {
  const Elements e(job, exponents);
  if (op == kernels::MapOf::forward) return map_forward(job, e);
  map_gradients(job, e, op == kernels::MapOf::backward);
}

}  // namespace bn2d::unbounded
