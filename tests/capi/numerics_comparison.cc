// What judges the numbers of the other tests: how far a result is from what it should be, where one
// of them is infinite.
#include "support/numerics_fixture.h"

namespace {

using namespace numerics;

Real ulps(int32_t dtype, double got, Real want, Real scale) {
  return compare(dtype, 1, 1, Values{got}, Reals{want}, Reals{scale}).ulps;
}
constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

// Catches: a judge that calls an infinite half wrong, whatever the terms were. Gradients of
// gradients of two f16 values 2e-4 apart with a weight of 4e5 are sums of 5e14 that cancel, and a
// float has those to within 3e7.
TEST_CASE("comparison: an infinity stands for the numbers that round to it", "[numerics][half]") {
  const Real unit = oracle::ulp(oracle::binary32, 5e14L);
  CHECK(ulps(BN2D_F16, kInfinity, 0, 5e14L) == 65520 / unit);
  CHECK(ulps(BN2D_F16, -kInfinity, 65504, 5e14L) == (65520 + 65504) / unit);
  CHECK(ulps(BN2D_F16, kInfinity, 0, 1) > 4);
  CHECK(ulps(BN2D_F16, kInfinity, 65519, 65519) > 4);
  CHECK(ulps(BN2D_F16, kInfinity, 65520, 65520) == 0);
  CHECK(ulps(BN2D_BF16, kInfinity, 0, 0x1p127L) > 4);
  CHECK(ulps(BN2D_F32, kInfinity, 0x1.fffffep127L, 0x1.fffffep127L) == 0.5L);
  CHECK(ulps(BN2D_F32, kInfinity, 0x1.fffff0p127L, 0x1.fffff0p127L) == 7.5L);
}

// Catches: a judge that takes any finite number for one beyond the range, or the infinity of the
// other sign.
TEST_CASE("comparison: what is beyond the range is infinite, with its sign", "[numerics][half]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    INFO(dtype);
    const Real beyond = oracle::power_of_two(format_of(dtype).max_exponent + 2);
    CHECK(ulps(dtype, kInfinity, beyond, beyond) == 0);
    CHECK(ulps(dtype, -kInfinity, beyond, beyond) > 8);
    CHECK(ulps(dtype, 1, beyond, beyond) > 8);
    CHECK(ulps(dtype, std::numeric_limits<double>::quiet_NaN(), beyond, beyond) == kInfinity);
  }
  CHECK(ulps(BN2D_F16, 65504, 65520, 65520) == 0);  // a tie of floats
  CHECK(ulps(BN2D_F32, 0x1.fffffep127, 0x1p128L, 0x1p128L) <= 1);
}

// Catches: an oracle whose mean lacks what differences from it lose. Of x a millionth of a
// deviation away from the mean xhat is then wrong by 50 ulp of a double.
TEST_CASE("comparison: the oracle knows a mean to twice the digits of its type", "[numerics]") {
  for (const double small : {0x1p-40, 0x1.8p-7, 0.3}) {
    INFO(small);
    const oracle::Statistics s = oracle::batch_statistics({1, 1, 1, 3}, {1, small, 0}, 0);
    const Real beyond =
        std::fma(Real{3}, s.mean[0], -(1 + static_cast<Real>(small)));  // 3*mean - the sum, exact
    CHECK(std::fabs(s.mean_rest[0] + beyond / 3) < 0x1p-100L);
  }
}
