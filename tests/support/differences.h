// Gradients by differences: independent of every formula in oracle.h.
#pragma once
#include <algorithm>
#include <cmath>

#include "support/numerics_case.h"

namespace numerics {

// Fourth-order central difference of f at values[i].
template <class F>
double slope_of(Values &values, size_t i, const F &f) {
  constexpr double step = 1e-3;
  const double at = values[i];
  const auto around = [&](double distance) {
    values[i] = at + distance;
    const double result = f();
    values[i] = at;
    return result;
  };
  return (8 * (around(step) - around(-step)) - (around(2 * step) - around(-2 * step))) /
         (12 * step);
}

inline double dot(const Values &a, const Values &b) {
  Real sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<Real>(a[i]) * b[i];
  return static_cast<double>(sum);
}

// Inputs whose arguments are further from the kinks of the activation than a step can move them.
inline Inputs inputs_between_kinks(const Case &c) {
  for (uint64_t seed = 50;; ++seed) {
    Inputs in = random_inputs(c, seed);
    Real closest = 1;
    for (const Real v : expect(c, in).forward.v)
      for (const Real kink : c.activation.kinks()) closest = std::min(closest, std::fabs(v - kink));
    if (closest > 0.02L) return in;
  }
}

}  // namespace numerics
