// Conversion of single half elements: all 65,536 values, and rounding to nearest even from double
// in one step.
#include "tensor/dtype.h"

#include <cmath>
#include <random>

#include "support/catch.h"

using namespace bn2d;

namespace {

template <class Half, Half (*kRound)(double)>
void check_all_values() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Half half{static_cast<uint16_t>(bits)};
    const float value = to_float(half);
    if (std::isnan(value)) {
      CHECK(std::isnan(to_float(kRound(value))));
    } else {
      CHECK(kRound(value).bits == half.bits);
    }
  }
}

// The neighbours of a double are found by stepping through the bits, and the nearest of them by
// exact subtraction.
template <class Half, Half (*kRound)(double)>
void check_nearest_even(double value, uint16_t largest) {
  const uint16_t got = kRound(value).bits;
  const uint16_t magnitude = static_cast<uint16_t>(got & 0x7FFF);
  if (magnitude > largest) {  // infinity: from half a step beyond the largest on
    const double last = to_float(Half{largest}),
                 step = last - to_float(Half{static_cast<uint16_t>(largest - 1)});
    INFO(value);
    CHECK(magnitude == largest + 1);
    CHECK(std::fabs(value) >= last + step / 2);
    return;
  }
  const double error = std::fabs(to_float(Half{got}) - value);
  const uint16_t sign = static_cast<uint16_t>(got & 0x8000);
  for (int step : {-1, 1}) {
    const int other = magnitude + step;
    if (other < 0 || other > largest) continue;
    const double other_error =
        std::fabs(to_float(Half{static_cast<uint16_t>(sign | other)}) - value);
    INFO(value);
    CHECK((error < other_error || (error == other_error && magnitude % 2 == 0)));
  }
}

}  // namespace

TEST_CASE("every f16 and bf16 value survives the way to double and back", "[dtype]") {
  check_all_values<f16, to_f16>();
  check_all_values<bf16, to_bf16>();
}

TEST_CASE(
    "doubles round to the nearest half, ties to even, also where a float in between would round "
    "twice",
    "[dtype]") {
  std::mt19937_64 random(5);
  std::uniform_real_distribution<double> exponent(-26, 16);
  for (int i = 0; i < 20000; ++i) {
    const double value = std::exp2(exponent(random)) * (i % 2 ? 1 : -1);
    check_nearest_even<f16, to_f16>(value, 0x7BFF);
    check_nearest_even<bf16, to_bf16>(value, 0x7F7F);
  }
  // A tie of f16, and the same a little above: float rounds the little away, and the result would
  // be the even neighbour.
  CHECK(to_f16(1.0 + 0x1p-11).bits == 0x3C00);
  CHECK(to_f16(1.0 + 0x1p-11 + 0x1p-40).bits == 0x3C01);
  CHECK(to_bf16(1.0 + 0x1p-8).bits == 0x3F80);
  CHECK(to_bf16(1.0 + 0x1p-8 + 0x1p-40).bits == 0x3F81);
  CHECK(to_f16(65519.9).bits == 0x7BFF);
  CHECK(to_f16(65520.0).bits == 0x7C00);
  CHECK(to_f16(0x1p-25).bits == 0x0000);
  CHECK(to_f16(0x1.8p-25).bits == 0x0001);
}
