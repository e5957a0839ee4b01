// Numbers that break naive code: large means, constant channels, outliers, the ends of the range,
// NaN.
#include <cstring>

#include "support/numerics_case.h"

namespace {

using namespace numerics;

const double infinity = std::numeric_limits<double>::infinity();
const double not_a_number = std::numeric_limits<double>::quiet_NaN();

void check(const Case &c, Inputs &in, const std::string &group) {
  const Expected want = expect(c, in);
  INFO(describe(c));
  check_case(c, want, run(c, in), group);
}

bool all_finite(const Output &output) {
  for (double v : output.values()) {
    if (!std::isfinite(v)) return false;
  }
  return true;
}

}  // namespace

// Catches: a mean that is off by a rounding, so that a constant channel gets a variance; 0 * inf
// with eps = 0; statistics merged block by block whose rounding leaves a residue.
TEST_CASE("hostile: a constant channel has variance 0 and y is bias, exactly",
          "[numerics][hostile]") {
  const std::vector<Extents> shapes = {{2, 3, 7, 7},     {32, 2, 14, 14}, {1, 2, 61, 67},
                                       {3, 1, 300, 301}, {50, 9, 1, 1},   {1, 1, 1, 3}};
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    for (const double value : {1.1, -1.0 / 3, 1e6 + 0.1, 1e30, -1e-30, 65504.0, 1e-40, 0.0}) {
      const double held = rounded(dtype, value);
      if (!std::isfinite(held)) continue;
      for (const Extents &e : shapes) {
        for (const double eps : {0.0, 1e-5}) {
          for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
            if (e.size() > 100000 && (dtype != BN2D_F32 || value != 1.1)) continue;
            Case c = stateless_case(e, dtype, eps);
            c.x = c.y = c.dx = layout;
            Inputs in = random_inputs(c, 21);
            in.x.assign(in.x.size(), held);
            Outputs got = run(c, in);
            INFO(describe(c) << " value " << held << " eps " << eps);
            bool y_is_bias = true;
            const Values y = got["y"].values();
            for (int64_t ch = 0; ch < e.c; ++ch) {
              oracle::for_channel(e, ch, [&](int64_t i) { y_is_bias &= y[i] == in.bias[ch]; });
            }
            CHECK(y_is_bias);
            CHECK(got["running_mean"].values() == Values(e.c, held));
            CHECK(got["running_var"].values() == Values(e.c, 0.0));
            if (eps == 0) {
              CHECK(got["saved_invstd"].values() == Values(e.c, 0.0));
              CHECK(got["dx"].values() == Values(in.x.size(), 0.0));
            }
            CHECK(got["dweight"].values() == Values(e.c, 0.0));
            for (const char *name : {"dx", "dbias", "ddy", "dx2", "dweight2"}) {
              INFO(name);
              CHECK(all_finite(got[name]));
            }
          }
        }
      }
    }
  }
}

// Catches: eps = 0 with frozen statistics, running_var 0: 1/sqrt(0) is infinite and 0 * inf is NaN.
TEST_CASE("hostile: frozen variance 0 with eps 0 gives bias", "[numerics][hostile]") {
  Case c = stateless_case({2, 3, 4, 5}, BN2D_F32, 0);
  c.mode = Mode::eval;
  Inputs in = random_inputs(c, 22);
  in.running_var = {0, 1, 0};
  const Expected want = expect(c, in);
  const Outputs got = run(c, in);
  check_case(c, want, got, "frozen var 0: ");
  for (const auto &[name, output] : got) {
    INFO(name);
    CHECK(all_finite(output));
  }
}

// Catches: systematic rounding: every partial sum of 1.1f + 1.1f + ... is rounded the same way,
// errors add up instead of cancelling. Also in backward, where dy is all alike.
TEST_CASE("hostile: equal values and pairs, systematic rounding", "[numerics][hostile]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_BF16}) {
    for (const Extents e :
         {Extents{2, 2, 61, 67}, Extents{32, 3, 14, 14}, Extents{4, 2, 128, 128}}) {
      for (const int pattern : {0, 1, 2, 3}) {
        Case c = stateless_case(e, dtype);
        Inputs in = random_inputs(c, 23);
        const double v = rounded(dtype, 1.1);
        const int64_t m = e.per_channel();
        for (int64_t ch = 0; ch < e.c; ++ch) {
          int64_t k = 0;
          oracle::for_channel(e, ch, [&](int64_t i) {
            // pairs; halves; a ramp; sorted values around a mean
            if (pattern == 0) in.x[i] = k % 2 == 0 ? v : -v;
            if (pattern == 1) in.x[i] = 2 * k < m ? v : -v;
            if (pattern == 2) in.x[i] = rounded(dtype, 0.1 * static_cast<double>(k));
            if (pattern == 3)
              in.x[i] = rounded(dtype, 100 + static_cast<double>(k) / static_cast<double>(m));
            in.dy[i] = v;
            in.ddx[i] = -v;
            ++k;
          });
        }
        INFO("pattern " << pattern);
        check(c, in, "systematic: ");
      }
    }
  }
}

// Catches: statistics relative to the first element (or the first of a block), which fail when just
// that one is far away.
TEST_CASE("hostile: an outlier first, last or in the middle", "[numerics][hostile]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64}) {
    for (const Extents e : {Extents{2, 3, 61, 67}, Extents{16, 5, 14, 14}}) {
      for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
        for (const int64_t place : {int64_t{0}, e.per_channel() - 1, e.per_channel() / 2}) {
          for (const double outlier : {1e6, -1e9}) {
            Case c = stateless_case(e, dtype);
            c.x = c.y = layout;
            Inputs in = random_inputs(c, 24);
            Random random(25);
            in.x = normal_values(random, dtype, e.size(), 0.5, 0.01);
            for (int64_t ch = 0; ch < e.c; ++ch) {
              int64_t k = 0;
              oracle::for_channel(e, ch, [&](int64_t i) {
                in.x[i] = k++ == place ? rounded(dtype, outlier) : in.x[i];
              });
            }
            INFO("place " << place << ", outlier " << outlier);
            check(c, in, "outlier: ");
          }
        }
      }
    }
  }
}

// Catches: squares that overflow or vanish in f32, coefficients of backward like invstd^3 that do,
// a running_var that is inf although f32 can hold it.
TEST_CASE("hostile: values from 1e-30 to 1e30", "[numerics][hostile]") {
  const Extents e{4, 3, 15, 17};
  for (const int32_t dtype : {BN2D_F32, BN2D_BF16, BN2D_F64}) {
    for (const double size : {1e30, 1e18, 1e10, 1e-10, 1e-18, 1e-30}) {
      for (const double offset : {0.0, 3.0}) {
        for (const double eps : {0.0, 1e-5}) {
          Case c = stateless_case(e, dtype, eps);
          c.stateless = offset != 0;
          Inputs in = random_inputs(c, 26);
          Random random(27);
          in.x = normal_values(random, dtype, e.size(), offset * size, size);
          INFO("size " << size << ", offset " << offset << ", eps " << eps);
          const Expected want = expect(c, in);
          Outputs got = run(c, in);
          INFO(describe(c));
          // dx and ddx of 1e-30 and 1e30 leave the range of f32 twice over: what is promised is the
          // first derivative.
          if (size < 1e-20 && eps == 0) got.erase("dx2"), got.erase("dweight2");
          check_case(c, want, got, "range: ");
          for (double v : got["y"].values()) {
            if (!std::isfinite(v)) FAIL_CHECK("y is not finite");
          }
          if (dtype == BN2D_F32) {
            const bool infinite = std::isinf(got["running_var"].values()[0]);
            CHECK(infinite == (size > 1e19));
          }
        }
      }
    }
  }
}

// Catches: f16 statistics in f16 arithmetic (a sum leaves 65504 at once), running_var of f16
// saturated or NaN.
TEST_CASE("hostile: the ends of f16", "[numerics][hostile]") {
  for (const int32_t module : {BN2D_F16, BN2D_F32}) {
    for (const double size : {20000.0, 200.0, 1e-4, 1e-6, 6e-8}) {
      Case c = stateless_case({3, 4, 20, 21}, BN2D_F16, 1e-5);
      c.module = module;
      Inputs in = random_inputs(c, 28);
      Random random(29);
      in.x = normal_values(random, BN2D_F16, c.e.size(), 0, size);
      INFO("size " << size);
      check(c, in, "ends of f16: ");
    }
  }
}

// Catches: sums of half data, which are not taken around a pivot, that cancel where the mean is
// large or the numbers are of very different size; what is left of a gradient after one subtraction
// per block.
TEST_CASE("hostile: half data far from 0, and of all sizes at once", "[numerics][hostile]") {
  struct Kind {
    int32_t dtype;
    double large, next;  // neighbours
    int binades;
  };
  for (const Kind &kind : {Kind{BN2D_F16, 60000, 60032, 28}, Kind{BN2D_BF16, 59904, 60160, 60}}) {
    for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
      for (const char *const what : {"two neighbours", "one that differs", "all sizes"}) {
        Case c = stateless_case({8, 3, 33, 35}, kind.dtype);
        c.module = BN2D_F32;
        c.x = c.y = c.dx = layout;
        Inputs in = random_inputs(c, 36);
        Random random(37);
        const Values noise = normal_values(random, kind.dtype, c.e.size());
        for (size_t i = 0; i < in.x.size(); ++i) {
          const int power =
              static_cast<int>(i * 7919 % static_cast<size_t>(kind.binades)) - kind.binades / 2;
          const bool differs = what[0] == 't' ? noise[i] > 0 : i % 5000 == 4321;
          in.x[i] = what[0] == 'a' ? std::copysign(std::ldexp(1.0, power), noise[i])
                    : differs      ? kind.next
                                   : kind.large;
        }
        INFO(what);
        check(c, in, "half: ");
      }
    }
  }
}

// Catches: flush-to-zero, reciprocal approximations that fail for subnormal numbers; a mean whose
// rest is lost, because it lies between two of them; 0 * inf where 1/std leaves the range.
TEST_CASE("hostile: subnormal numbers", "[numerics][hostile]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_BF16, BN2D_F64}) {
    const double size = dtype == BN2D_F64 ? 1e-310 : 1e-40;
    Case c = stateless_case({2, 3, 9, 11}, dtype);
    Inputs in = random_inputs(c, 30);
    Random random(31);
    in.x = normal_values(random, dtype, c.e.size(), 0, size);
    in.bias.assign(in.bias.size(), 0.0);
    in.dy = normal_values(random, dtype, c.e.size(), 0, size);
    const Expected want = expect(c, in);
    Outputs got = run(c, in);
    INFO(describe(c));
    const Real rounding = dtype == BN2D_BF16 ? 0.5 : 0;  // of an element, when it is stored
    const auto within = [&](const char *name, const Reals &values, const Reals &scale) {
      const Values have = got[name].values();
      bool good = true;
      for (int64_t ch = 0; ch < c.e.c; ++ch) {
        const Real limit = bound_of(dtype) * oracle::ulp(arithmetic_of(dtype), scale[ch]) +
                           rounding * oracle::ulp(format_of(dtype), scale[ch]);
        oracle::for_channel(c.e, ch,
                            [&](int64_t i) { good &= std::fabs(have[i] - values[i]) <= limit; });
      }
      INFO(name);
      CHECK(good);
    };
    within("y", want.forward.y, want.forward.scale);
    within("dx", want.gradient.dx, want.gradient.dx_scale);
    c.eps = 0;
    for (double v : run(c, in)["y"].values()) {
      if (std::isnan(v)) {
        FAIL_CHECK("NaN from finite numbers and eps 0, " << describe(c));
        break;
      }
    }
  }
}

// Catches: 1/std or weight/std that leaves the range of the arithmetic (f64: of double) and makes
// NaN of a difference of 0: of an x that is the mean, of equal gradients.
TEST_CASE("hostile: 1/std beyond the range, with eps 0", "[numerics][hostile]") {
  const struct {
    int32_t dtype;
    double x, weight;
    std::vector<const char *> names;  // not ddy where weight/std is larger than any double
  } kinds[] = {{BN2D_F32, 1e-42, 1e-10, {"y", "dx", "ddy"}},
               {BN2D_F32, 1e-42, 1, {"y", "dx", "ddy"}},
               {BN2D_F64, 1e-150, 1e200, {"y", "dx"}}};
  for (const auto &kind : kinds) {
    Case c = stateless_case({3, 2, 4, 5}, kind.dtype);
    c.eps = 0;
    Inputs in = random_inputs(c, 32);
    for (int64_t ch = 0; ch < c.e.c; ++ch) {
      int k = 0;
      oracle::for_channel(c.e, ch, [&](int64_t i) { in.x[i] = (k++ % 3 - 1) * kind.x; });
    }
    in.weight.assign(in.weight.size(), kind.weight);
    in.dy.assign(in.dy.size(), 1.0);
    const Outputs got = run(c, in);
    for (const char *name : kind.names) {
      INFO(name << ", " << describe(c) << ", weight " << kind.weight);
      const Values values = got.at(name).values();
      CHECK(std::none_of(values.begin(), values.end(), [](double v) { return std::isnan(v); }));
    }
  }
}

// Catches: sums in one f32 accumulator, too few levels of a pairwise sum, a count kept in a float
// (2^24).
TEST_CASE("hostile: 2^22 values of a channel, a constant and noise", "[numerics][hostile]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64}) {
    Case c = stateless_case({1, 1, 2048, 2048}, dtype);
    c.in_place = InPlace::x;  // and no backward: that is the time of this test
    Inputs in;
    Random random(32);
    in.x = normal_values(random, dtype, c.e.size(), 1000, 1);
    in.weight = in.bias = in.running_mean = in.running_var = {1};
    check(c, in, "2^22: ");
  }
  Case c = stateless_case({1, 1, 1024, 2048}, BN2D_F32);
  Inputs in = random_inputs(c, 33);
  check(c, in, "2^21: ");
}

// Catches: a lane of NHWC or the end of a vector that carries NaN to a neighbour; work that two
// channels share.
TEST_CASE("hostile: NaN and infinity stay in their channel", "[numerics][hostile]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::permuted}) {
      for (const Extents e : {Extents{3, 17, 7, 7}, Extents{2, 3, 61, 67}, Extents{20, 9, 1, 1}}) {
        for (const double poison : {not_a_number, infinity, -infinity}) {
          Case c = stateless_case(e, dtype);
          c.stateless = poison > 0;
          c.x = c.y = c.z = c.dx = c.dz = layout;
          c.activation = relu;
          c.residual = true;
          Inputs in = random_inputs(c, 34);
          const Outputs clean = run(c, in);
          const int64_t channel = e.c / 2;
          int64_t k = 0;
          oracle::for_channel(e, channel, [&](int64_t i) {
            in.x[i] = k++ == e.per_channel() / 3 ? poison : in.x[i];
          });
          const Outputs poisoned = run(c, in);
          INFO(describe(c) << " poison " << poison);
          for (const auto &[name, output] : clean) {
            const Bits &have = poisoned.at(name).bits;
            const int64_t plane = have.size() == static_cast<size_t>(e.c) ? 1 : e.plane();
            int64_t wrong = 0;
            for (size_t i = 0; i < have.size(); ++i) {
              if (static_cast<int64_t>(i) / plane % e.c != channel && have[i] != output.bits[i])
                ++wrong;
            }
            INFO(name << ": values of other channels that have changed");
            CHECK(wrong == 0);
          }
          const Values mean = poisoned.at("running_mean").values();
          CHECK_FALSE(std::isfinite(mean[channel]));
        }
      }
    }
  }
}

// Catches: a conversion to half precision that rounds a NaN: memory poisoned with 0xFF bytes became
// 0 in bf16.
TEST_CASE("hostile: every NaN of a float32 weight is a NaN in half precision",
          "[numerics][hostile]") {
  const Extents e{1, 2, 5, 13};  // whole vectors and their ends
  for (const int32_t dtype : {BN2D_BF16, BN2D_F16})
    for (const uint32_t bits : {0xFFFFFFFFu, 0x7FFFFFFFu, 0x7F800001u, 0xFFC00000u}) {
      INFO(bn2d_dtype_name(dtype) << ", weight " << std::hex << bits);
      bn2d_module *module = nullptr;
      REQUIRE(bn2d_module_create(2, nullptr, &module) == BN2D_OK);
      REQUIRE(bn2d_module_eval(module) == BN2D_OK);
      bn2d_tensor *weight = nullptr;
      REQUIRE(bn2d_module_tensor_by_name(module, "weight", &weight) == BN2D_OK);
      void *data = nullptr;
      REQUIRE(bn2d_tensor_data(weight, &data) == BN2D_OK);
      std::memcpy(data, &bits, sizeof bits);
      bn2d_tensor_release(weight);

      Tensor x(dtype, e, Values(static_cast<size_t>(e.size()), 1)), y(dtype, e);
      REQUIRE(bn2d_forward(module, x.view(), y.view(), nullptr) == BN2D_OK);
      const Values got = y.get();
      for (size_t i = 0; i < got.size(); ++i) CHECK(std::isnan(got[i]) == (i < 65));
      bn2d_module_release(module);
    }
}

// Catches: a channel with NaN or infinity in dy that spoils the gradients of others; an infinite
// mean of g that has become the largest float.
TEST_CASE("hostile: NaN and infinity in dy stay in their channel", "[numerics][hostile]") {
  for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
    for (const auto &[mode, bad] :
         {std::pair(Mode::train, not_a_number), std::pair(Mode::eval, not_a_number),
          std::pair(Mode::train, std::numeric_limits<double>::infinity())}) {
      Case c = stateless_case({3, 19, 9, 11}, BN2D_F32);
      c.mode = mode;
      c.x = c.y = c.dx = layout;
      Inputs in = random_inputs(c, 35);
      const Outputs clean = run(c, in);
      const int64_t channel = 7;
      const auto at = static_cast<size_t>(channel * c.e.plane() + 5);
      in.dy[at] = bad;
      const Outputs poisoned = run(c, in);
      for (const char *name : {"dx", "dweight", "dbias", "ddy", "dx2", "dweight2"}) {
        const Bits &have = poisoned.at(name).bits, &want = clean.at(name).bits;
        const int64_t plane = have.size() == static_cast<size_t>(c.e.c) ? 1 : c.e.plane();
        int64_t wrong = 0;
        for (size_t i = 0; i < have.size(); ++i) {
          if (static_cast<int64_t>(i) / plane % c.e.c != channel && have[i] != want[i]) ++wrong;
        }
        INFO(describe(c) << " " << name);
        CHECK(wrong == 0);
      }
      const double dbias = poisoned.at("dbias").values()[static_cast<size_t>(channel)];
      CHECK((std::isnan(bad) ? std::isnan(dbias) : dbias == bad));
      CHECK(std::isnan(poisoned.at("dx").values()[at]));  // infinity less an infinite mean
    }
  }
}

// Catches: a weight of 0 or an infinite running variance that makes 0 * inf; a bias lost where
// weight is 0.
TEST_CASE("hostile: weight 0 gives bias and no gradient", "[numerics][hostile]") {
  for (const Mode mode : {Mode::train, Mode::eval}) {
    Case c = stateless_case({4, 3, 10, 11}, BN2D_F32);
    c.mode = mode;
    Inputs in = random_inputs(c, 36);
    in.weight = {0, -1, 1e20};
    const Expected want = expect(c, in);
    const Outputs got = run(c, in);
    INFO(describe(c));
    check_case(c, want, got, "weight 0: ");
    bool is_bias = true, no_gradient = true;
    const Values y = got.at("y").values(), dx = got.at("dx").values();
    oracle::for_channel(
        c.e, 0, [&](int64_t i) { is_bias &= y[i] == in.bias[0], no_gradient &= dx[i] == 0; });
    CHECK(is_bias);
    CHECK(no_gradient);
  }
}
