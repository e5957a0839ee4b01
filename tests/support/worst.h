// The largest of some errors.
#pragma once
#include <cmath>
#include <limits>

namespace bn2d_test {

// The worse of two errors. NaN is an error without bound: std::max(worst, NaN) would be `worst`.
template <class T>
T worse(T worst, T error) {
  if (std::isnan(error)) return std::numeric_limits<T>::infinity();
  return error > worst ? error : worst;
}

}  // namespace bn2d_test
