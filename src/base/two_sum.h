// The sum of two numbers with what rounding loses.
#pragma once

namespace bn2d {

// Knuth's two-sum (The Art of Computer Programming, volume 2, 4.2.2): a + b = sum + error, exactly.
struct TwoSum {
  double sum, error;
};
inline TwoSum two_sum(double a, double b) {
  const double sum = a + b, part = sum - a;
  return {sum, (a - (sum - part)) + (b - part)};
}

}  // namespace bn2d
