// Arithmetic for extreme channels of doubles (kernels/kernels.h), which no power of two brings into
// a range where all of it is safe: within one channel dy may be 1e300 at one element and 1e-300 at
// another, where x - mean is the other way round. So their numbers have unbounded exponents.
// Forward takes 210 ns for an element that way, backward 150 (ordinary ones: 0.9).
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/kernels.h"

namespace bn2d::unbounded {

// significand * 2^exponent. The significand is in [1, 2) or (-2, -1], or it is 0, infinite or NaN;
// then the exponent lies beyond those of all numbers.
struct Number {
  double significand;
  int exponent;

  Number() : significand(0), exponent(-kEnd) {}
  Number(double value, int exponent = 0);  // value * 2^exponent

  bool is_finite() const { return exponent < kEnd; }
  Number operator-() const {
    Number negative = *this;
    negative.significand = -significand;
    return negative;
  }
  double to_double() const { return std::ldexp(significand, exponent); }  // rounded once
  Number inverse_sqrt() const;                                            // 0 of 0

  static constexpr int kEnd = 1 << 20;
};
Number operator+(const Number &a, const Number &b);
inline Number operator-(const Number &a, const Number &b) { return a + -b; }
inline Number operator*(const Number &a, const Number &b) {
  return Number(a.significand * b.significand, a.exponent + b.exponent);
}
inline Number operator/(const Number &a, double b) { return Number(a.significand / b, a.exponent); }

// A sum with what its roundings lose, as doubles times one power of two, which follows the largest
// element. What is 2^-1000 of that drops out.
class Sum {
 public:
  void add(const Number &v);
  struct Mean {
    Number hi, lo;
  };
  Mean divided_by(double count) const;
  Number total() const { return divided_by(1).hi; }

 private:
  // Terms of up to 2^kReach times the scale are added as they are: 2^63 of them end far below
  // 2^1023.
  static constexpr int kReach = 400;
  double hi_ = 0, lo_ = 0;
  int exponent_ = -Number::kEnd;
};

// The elements of a job of one channel, as packed doubles, and whether the gradient of one is
// damped.
inline int64_t count(const kernels::MapJob &job) { return job.samples * job.length; }
inline const double *elements(const kernels::Strided &strided) {
  return static_cast<const double *>(strided.data);
}
struct Side {  // of a channel (kernels/kernels.h)
  double sign, threshold, bound;
};
inline bool is_damped(const kernels::MapJob &job, int64_t i, const Side &side) {
  if (job.side.data == nullptr) return false;
  const double v = elements(job.side)[i] * (std::signbit(side.sign) ? -1 : 1);
  return v <= side.threshold || v >= side.bound;
}

// Mean and sum of squared deviations.
struct Moments {
  Sum::Mean mean;
  Sum squares;
  Number variance(double divisor) const { return squares.divided_by(divisor).hi; }
};
// The sums of backward: g, and g*(x - mean).
struct Gradients {
  Sum g, products;
};

// The argument of the activation, of one channel, without z.
struct Forward {
  Number minus_mean, minus_mean_lo, scale, shift;
  Number argument(double x) const {
    return (Number(x) + minus_mean + minus_mean_lo) * scale + shift;
  }
  // As kernels::ChannelKernels::side.
  void find_side(double *sign, double *threshold) const;
};

void add_elements(const kernels::MapJob &job, Sum *sum);
void add_squares(const kernels::MapJob &job, Moments *moments);
void add_gradients(const kernels::MapJob &job, const Sum::Mean &mean, const Side &side,
                   Gradients *gradients);
// Coefficient k is job.coefficients[k*stride] * 2^exponents[k*stride]; those of the side have no
// exponent.
void map(kernels::MapOf op, const kernels::MapJob &job, const int32_t *exponents);

}  // namespace bn2d::unbounded
