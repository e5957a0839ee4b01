// Random data against the oracle: the bounds that the library promises.
//
// Those of y and dx are in ulp of the largest magnitude that they are the sum of (README.md,
// "Numbers"); check_case() has them all.
#include "support/numerics_case.h"

namespace {

using namespace numerics;

void check(const Case &c, uint64_t seed) {
  Inputs in = random_inputs(c, seed);
  const Expected want = expect(c, in);
  INFO(describe(c));
  check_case(c, want, run(c, in));
}

}  // namespace

// Catches: statistics or sums in too narrow an arithmetic, a double rounding, scale and shift
// folded so that they cancel.
TEST_CASE("random data: every operation and dtype is within its bound", "[numerics][random]") {
  for (const Extents e : {Extents{8, 16, 14, 14}, Extents{32, 3, 28, 28}, Extents{1, 3, 112, 112},
                          Extents{5, 64, 7, 7}, Extents{64, 9, 1, 1}}) {
    for (const auto &[data, module] : dtype_pairs) {
      for (const Mode mode : {Mode::train, Mode::eval}) {
        for (const double momentum : {1.0, 0.1}) {
          Case c;
          c.e = e;
          c.data = data;
          c.module = module;
          c.mode = mode;
          c.momentum = momentum;
          c.stateless = momentum == 1;
          c.biased = momentum == 1;
          check(c, static_cast<uint64_t>(e.size()));
        }
      }
    }
  }
}

// Catches: the same in the fused forms; dx and dz through the activation.
TEST_CASE("random data: fused forms are within their bounds", "[numerics][random]") {
  for (const Extents e : {Extents{4, 8, 30, 31}, Extents{16, 33, 7, 7}}) {
    for (const auto &[data, module] : dtype_pairs) {
      for (const Activation &activation :
           {relu, Activation{Activation::leaky, 0.1}, Activation{Activation::leaky, -0.5}}) {
        for (const bool residual : {false, true}) {
          Case c;
          c.e = e;
          c.data = data;
          c.module = module;
          c.activation = activation;
          c.residual = residual;
          check(c, static_cast<uint64_t>(e.size()) + residual);
        }
      }
    }
  }
}

// Catches: E[x^2] - mean^2 in any disguise, a mean kept in f32, x * scale + shift with a large
// shift.
TEST_CASE("random data: a mean far away from zero", "[numerics][random][hostile]") {
  const Extents e{4, 2, 91, 90};
  const struct {
    double mean, std;
  } spreads[] = {{1e3, 0.1},  {1e4, 1},     {-1e6, 1}, {1e6, 0.25},
                 {3e4, 1e-2}, {1e-3, 1e-3}, {1e6, 1e6}};
  for (const int32_t dtype : {BN2D_F32, BN2D_F64}) {
    for (const auto &spread : spreads) {
      for (const Mode mode : {Mode::train, Mode::eval}) {
        Case c;
        c.e = e;
        c.data = c.module = dtype;
        c.mode = mode;
        c.momentum = 1;
        c.stateless = true;
        Inputs in = random_inputs(c, 77);
        Random random(static_cast<uint64_t>(std::fabs(spread.mean)));
        in.x = normal_values(random, dtype, e.size(), spread.mean, spread.std);
        for (double &m : in.running_mean)
          m = rounded(dtype, spread.mean + spread.std * random.normal());
        for (double &v : in.running_var)
          v = rounded(dtype, spread.std * spread.std * random.uniform(0.5, 2));
        const Expected want = expect(c, in);
        INFO("mean " << spread.mean << ", std " << spread.std << ", " << describe(c));
        check_case(c, want, run(c, in), "far mean: ");
      }
    }
  }
}
