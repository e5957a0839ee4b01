// The ends of the range: y and dx are accurate wherever their exact value is finite, also where x -
// mean, a square, a sum, 1/std or weight/std is beyond the range of the type.
#include <cstring>

#include "support/numerics_case.h"

namespace {

using namespace numerics;

// Random numbers of one channel, times a power of two.
void scale_channel(const Extents &e, int32_t dtype, int64_t channel, int exponent, Values &values) {
  oracle::for_channel(e, channel, [&](int64_t i) {
    const double largest = dtype == BN2D_F64    ? std::numeric_limits<double>::max()
                           : dtype == BN2D_F16  ? 65504.0
                           : dtype == BN2D_BF16 ? 0x1.FEp127
                                                : 0x1.FFFFFEp127;
    const double value = rounded(dtype, std::ldexp(values[i], exponent));
    values[i] = std::isfinite(value) ? value : std::copysign(largest, value);
  });
}

int exponent_in(Random &random, int least, int most) {
  return least + static_cast<int>(random.below(static_cast<uint64_t>(most - least + 1)));
}

struct Ends {
  int least, most;
};
Ends ends_of(int32_t dtype) { return dtype == BN2D_F64 ? Ends{-1060, 1022} : Ends{-140, 126}; }

void check_range(Case c, Inputs in, const std::string &group) {
  const Expected want = expect(c, in);
  Outputs got = run(c, in);
  // Gradients of gradients of doubles are promised in the inner range alone.
  if (c.data == BN2D_F64)
    for (const char *name : {"ddy", "dx2", "dweight2"}) got.erase(name);
  INFO(describe(c));
  check_case(c, want, got, group);
}

Values forward_once(int32_t dtype, const Extents &e, const Values &values, double eps,
                    double weight = 1, Values *dx = nullptr, const Values &gradient = {}) {
  ModuleOptions options;
  options.dtype = dtype;
  options.eps = eps;
  Module module(e.c, options);
  module.set("weight", Values(static_cast<size_t>(e.c), weight));
  Tensor x(dtype, e, values), y(dtype, e);
  Record record;
  NUMERICS_OK(bn2d_forward(module, x.view(), y.view(), record.out()));
  if (dx != nullptr) {
    Tensor dy(dtype, e, gradient), out(dtype, e);
    NUMERICS_OK(bn2d_backward(module, record, dy.view(), out.view(), nullptr));
    *dx = out.get();
  }
  return y.get();
}

}  // namespace

// Catches: x - mean that overflows (it is -4.5e38 here), in forward and backward.
TEST_CASE("range: x - mean beyond the range of float", "[numerics][range]") {
  const Values x = {3.38e38, 3.38e38, -3.38e38};
  for (const int32_t dtype : {BN2D_F32, BN2D_BF16}) {
    Values held, dx;
    for (const double v : x) held.push_back(rounded(dtype, v));
    const Values y = forward_once(dtype, {1, 1, 1, 3}, held, 1e-5, 1, &dx, {1, 0, 0});
    const double ulp = dtype == BN2D_F32 ? 0x1p-23 : 0x1p-8;
    CHECK(std::fabs(y[0] - 0.70710678118654752) <= 4 * ulp);
    CHECK(std::fabs(y[2] + 1.4142135623730951) <= 4 * ulp);
    for (const double v : dx) CHECK(std::fabs(v) < 1e-37);
  }
  const double huge = 1.6e308;
  const Values y = forward_once(BN2D_F64, {1, 1, 1, 3}, {huge, huge, -huge}, 1e-5);
  CHECK(std::fabs(y[2] + 1.4142135623730951) <= 0x1p-49);
}

// Catches: 1/std, or weight/std, that is infinite in the arithmetic type, and is then clamped.
TEST_CASE("range: scales beyond the range of the type", "[numerics][range]") {
  CHECK(forward_once(BN2D_F32, {1, 1, 1, 2}, {rounded(BN2D_F32, 1e-40), rounded(BN2D_F32, -1e-40)},
                     0) == Values{1, -1});
  CHECK(forward_once(BN2D_F64, {1, 1, 1, 2}, {1e-200, -1e-200}, 0) == Values{1, -1});
  CHECK(forward_once(BN2D_F64, {1, 1, 1, 2}, {1e-310, -1e-310}, 0) == Values{1, -1});
  CHECK(forward_once(BN2D_F64, {1, 1, 1, 2}, {1e160, -1e160}, 0) == Values{1, -1});
  const double weight = rounded(BN2D_F32, 3e36), x = rounded(BN2D_F32, 1e-9);
  const Values y = forward_once(BN2D_F32, {1, 1, 1, 2}, {x, -x}, 1e-5, weight);
  const double want = weight * x / std::sqrt(x * x + 1e-5);
  CHECK(std::fabs(y[0] / want - 1) <= 4 * 0x1p-24);
}

// Catches: a rest of the mean that its type cannot hold, in a channel whose scale is ordinary,
// because eps is far above its variance: y was wrong by 20 to 6000 ulp; of doubles y by 220,
// dweight by 1200. And products that vanish in float, where the gradients alone do not: dweight of
// 800 elements was wrong by 2500 ulp.
TEST_CASE("range: deviations near the smallest numbers and a larger eps", "[numerics][range]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_BF16, BN2D_F64})
    for (const int power : {-100, -118, -124, -132, -140, -960, -1000, -1024, -1036, -1050, -1060})
      for (const double eps : {1e-50, 1e-30, 1e-5}) {
        if (dtype != BN2D_F64 && power < -140) continue;
        for (const Extents &e : {Extents{2, 3, 4, 9}, Extents{2, 3, 20, 20}}) {
          Case c = module_case(e, dtype, eps);
          Inputs in = random_inputs(c, 77);
          for (int64_t channel = 0; channel < 3; ++channel) {
            scale_channel(c.e, dtype, channel, power, in.x);
            if (power < -140)
              scale_channel(c.e, dtype, channel, static_cast<int>(300 * channel), in.dy);
          }
          in.bias = Values(3, 0.0);
          check_range(c, in, "smallest deviations: ");
        }
      }
}

// Catches: a dweight of 0, because the only elements that have a gradient are as large as the mean
// after its rounding; the exact mean is not.
TEST_CASE("range: gradients of elements that equal a rounded mean", "[numerics][range]") {
  for (const double eps : {1e-50, 1e-5}) {
    Case c = module_case({1, 1, 2, 4}, BN2D_F64, eps);
    Inputs in = random_inputs(c, 78);
    in.x = {2e8, 2e8, 2e8 + 1e6, 2e8 - 1e6, 2e8 + 7, 2e8 - 7, 2e8 + 3, 2e8 - 2};
    for (double &x : in.x) x = std::ldexp(x, -1074);
    in.dy = {1, 2, 0, 0, 0, 0, 0, 0};
    check_range(c, in, "rounded mean: ");
  }
}

// Catches: the same in eval, where the statistics are anybody's.
TEST_CASE("range: running statistics at the ends of the range", "[numerics][range]") {
  Case c = module_case({1, 3, 1, 2}, BN2D_F32, 1e-5);
  c.mode = Mode::eval;
  Inputs in = random_inputs(c, 71);
  const auto held = [](double v) { return rounded(BN2D_F32, v); };
  in.x = {held(-2e38), held(2e38), held(1e-38), held(-1e-39), 1, held(3e38)};
  in.running_mean = {held(2e38), 0, held(-1e38)};
  in.running_var = {held(3e38), 0, held(1e38)};
  in.weight = {1, held(1e-3), held(1e-30)};
  check_range(c, in, "ends of eval: ");
}

// Catches: any step of forward and backward that leaves the range between finite inputs and a
// finite result. Channels of very different ranges are beside each other: one that is computed
// apart must leave its neighbours alone.
TEST_CASE("range: any power of two in front of x, weight and dy", "[numerics][range]") {
  Random random(72);
  const std::vector<Extents> shapes = {
      {2, 5, 3, 3}, {1, 3, 1, 4}, {3, 9, 1, 1}, {4, 17, 2, 2}, {2, 3, 40, 70}};
  for (int round = 0; round < 600; ++round) {
    const int32_t dtype = std::vector<int32_t>{BN2D_F32, BN2D_F64, BN2D_BF16}[round % 3];
    const Extents e = shapes[random.below(shapes.size())];
    Case c = module_case(e, dtype, random.coin() ? 0 : 1e-5);
    c.mode = random.below(4) == 0 ? Mode::eval : Mode::train;
    c.stateless = random.coin();
    c.x = random.coin() ? Layout::nchw : Layout::nhwc;
    c.y = c.dx = random.below(3) == 0 ? Layout::nhwc : c.x;
    if (random.below(3) == 0) c.activation = {Activation::relu, 0};
    if (random.below(4) == 0) c.activation = {Activation::leaky, 0.25};
    c.mask = random.coin();
    Inputs in = random_inputs(c, 1000 + static_cast<uint64_t>(round));
    const Ends ends = ends_of(dtype);
    for (int64_t ch = 0; ch < e.c; ++ch) {
      if (random.below(3) == 0) continue;  // an ordinary neighbour
      const int of_x = exponent_in(random, ends.least, ends.most);
      scale_channel(e, dtype, ch, of_x, in.x);
      // In eval, statistics that suit the data.
      in.running_mean[ch] =
          rounded(dtype, std::ldexp(in.running_mean[ch], std::min(of_x, ends.most - 8)));
      in.running_var[ch] = rounded(
          dtype, std::ldexp(in.running_var[ch], std::clamp(2 * of_x, ends.least, ends.most - 4)));
      if (random.coin()) {
        const int of_weight = exponent_in(random, ends.least, ends.most - 2);
        in.weight[ch] = rounded(dtype, std::ldexp(in.weight[ch], of_weight));
      }
      if (random.coin())
        scale_channel(e, dtype, ch, exponent_in(random, ends.least, ends.most), in.dy);
    }
    check_range(c, in, "any power of two: ");
  }
}

// Catches: an extreme channel in another place of the plan: groups, split sums, tiles, threads.
TEST_CASE("range: extreme channels have the same bits on any number of threads",
          "[numerics][range][bitwise]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64}) {
    for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
      for (const Extents e : {Extents{8, 130, 10, 10}, Extents{4, 3, 90, 90}}) {
        Case c = module_case(e, dtype, 0);
        c.x = c.y = c.dx = layout;
        c.activation = {Activation::relu, 0};
        Inputs in = random_inputs(c, 73);
        for (int64_t ch = 1; ch < e.c; ch += 7) {
          scale_channel(e, dtype, ch, dtype == BN2D_F64 ? 700 : 126, in.x);
          scale_channel(e, dtype, ch, dtype == BN2D_F64 ? -900 : -130, in.dy);
        }
        Outputs first;
        for (const int32_t threads : {1, 2, 3, 0}) {
          bn2d_set_num_threads(threads);
          const Outputs got = run(c, in);
          if (threads == 1) first = got;
          INFO(describe(c) << ", threads " << threads);
          CHECK(first_difference(first, got) == "");
        }
        bn2d_set_num_threads(0);
        check_range(c, in, "extreme channels: ");
      }
    }
  }
}

// Catches: one power of two for a whole channel of doubles, in x, in dy or in y, where its elements
// are at both ends of the range: then y overflows between a huge x and a tiny weight, or a tiny dy
// is lost before a huge x - mean meets it.
TEST_CASE("range: doubles at both ends of the range in one channel", "[numerics][range]") {
  Random random(75);
  const auto magnitude = [&](int most) {  // of any size up to 2^most
    const int exponent =
        exponent_in(random, -1070, std::max(most - 1, -1070));  // first, with every compiler
    return std::ldexp(random.uniform(-2, 2), exponent);
  };
  for (int round = 0; round < 400; ++round) {
    const double eps = random.coin() ? 0 : 1e-5;
    Case c = module_case({2, 4, 1, 1 + static_cast<int64_t>(random.below(20))}, BN2D_F64, eps);
    c.mode = random.coin() ? Mode::eval : Mode::train;
    c.stateless = random.coin();
    c.x = random.coin() ? Layout::nchw : Layout::nhwc;
    c.residual = random.coin();
    int of_slope = 0;
    if (random.below(3) == 0) c.activation = {Activation::relu, 0};
    if (random.below(3) == 0) {
      of_slope =
          random.coin()
              ? 1
              : exponent_in(random, -600, 300);  // 1: an ordinary one that rounds no subnormal dy
      c.activation = {Activation::leaky, std::ldexp(1.0, of_slope)};
    }
    c.mask = random.coin();
    Inputs in = random_inputs(c, 2000 + static_cast<uint64_t>(round));
    const int growth = std::max(of_slope, 0) + 8;
    for (int64_t ch = 0; ch < c.e.c; ++ch) {
      int of_x = 0, of_invstd = 0, of_weight = 0, of_dy = 0;
      do {
        of_x = exponent_in(random, -500, 1023);
        of_invstd = c.mode == Mode::train ? std::min(-of_x, 8) : exponent_in(random, -500, 500);
        of_weight = exponent_in(random, -1070, 1000);
        of_dy = exponent_in(random, -1000, 1000);
      } while (of_weight + of_invstd + of_x + growth > 1000 || of_dy + growth > 1000 ||
               of_dy + of_weight + of_invstd + growth > 1000 ||
               of_dy + of_invstd + of_x + growth > 1000);
      oracle::for_channel(c.e, ch, [&](int64_t i) {
        in.x[i] = magnitude(of_x);
        in.z[i] = magnitude(1000 - growth);
        in.dy[i] = magnitude(of_dy);
      });
      in.x[ch * c.e.plane()] = std::ldexp(random.uniform(0.5, 1), of_x);
      in.weight[ch] = std::ldexp(random.uniform(1, 2), of_weight);
      in.bias[ch] = magnitude(1000 - growth);
      in.running_mean[ch] = magnitude(of_x);
      if (c.mode == Mode::eval)
        in.running_var[ch] = std::ldexp(random.uniform(1, 2), -2 * of_invstd);
    }
    const Expected want = expect(c, in);
    Outputs got = run(c, in);
    for (const char *name : {"ddy", "dx2", "dweight2"})
      got.erase(name);  // promised in the inner range alone
    INFO(describe(c) << ", slope 2^" << of_slope << ", round " << round);
    check_case(c, want, got, "both ends: ");
    // What nothing is done to is not rounded, either.
    if (c.residual && c.activation.kind == Activation::none) CHECK(got.at("dz").values() == in.dy);
  }
}

// Catches: a slope that is 0 or infinite as a float, and one that overflows before the weight makes
// it small again.
TEST_CASE("range: slopes at the ends of the range", "[numerics][range]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_BF16, BN2D_F64}) {
    for (const double slope : {1e-45, 1e-40, 1e-38, 3e20, -3e37, 1e-320, 1e-300, 1e250}) {
      if (dtype != BN2D_F64 && std::fabs(slope) > 1e38) continue;
      for (const bool large : {false, true}) {
        Case c = module_case({2, 3, 2, 5}, dtype, 1e-5);
        c.activation = {Activation::leaky, slope};
        c.mask = true;
        Inputs in = random_inputs(c, 76);
        // What the slope makes of 1 is as far beyond the range as it can be, or in the middle of
        // it.
        const int of_one = large ? -std::clamp(std::ilogb(slope), dtype == BN2D_F64 ? -1000 : -120,
                                               dtype == BN2D_F64 ? 1000 : 120)
                                 : 0;
        for (double &v : in.weight) v = rounded(dtype, std::ldexp(v, of_one));
        // Damped all of them, so that none is much larger.
        for (size_t ch = 0; ch < in.bias.size(); ++ch) in.bias[ch] = -8 * std::fabs(in.weight[ch]);
        if (dtype == BN2D_BF16 && slope == 1e-45) continue;  // its module's state is bf16
        check_range(c, in, "slopes: ");
      }
    }
  }
}

// Catches, by line: a mean that vanishes where a large eps has to stay finite beside x; 1/std of a
// variance that is moved together with x; var + eps that overflows; a variance that comes from a
// sum of squares beyond the range.
TEST_CASE("range: statistics of doubles at the ends of the range", "[numerics][range]") {
  const auto statistics = [](Mode mode, double eps, const Values &x, double mean, double var) {
    Case c = module_case({1, 1, 1, static_cast<int64_t>(x.size())}, BN2D_F64, eps);
    c.mode = mode;
    c.stateless = true;
    c.affine = Affine::none;
    Inputs in = random_inputs(c, 77);
    in.x = x;
    in.running_mean = {mean};
    in.running_var = {var};
    const Expected want = expect(c, in);
    Outputs got = run(c, in);
    for (const char *name : {"ddy", "dx2", "dweight2"}) got.erase(name);
    INFO("eps " << eps << ", x " << x[0] << ", running_mean " << mean << ", running_var " << var);
    check_case(c, want, got, "statistics: ");
    return got;
  };
  CHECK(statistics(Mode::train, 1e300, {1e-307, 3e-307}, 0, 1).at("saved_mean").values()[0] ==
        2e-307);
  CHECK(statistics(Mode::eval, 0, {1.75e308, 1.75e308}, 1.75e308, 1e-323)
            .at("saved_invstd")
            .values()[0] > 3e161);
  CHECK(statistics(Mode::eval, 1e308, {1e308, -1e308}, 0, 1.5e308).at("saved_invstd").values()[0] >
        6e-155);
  CHECK(statistics(Mode::train, 0, {1e154, 1e154, -1e154, -1e154}, 0, 1)
            .at("running_var")
            .values()[0] < 1.4e308);
  // 1/std is subnormal here: what is saved has lost bits.
  statistics(Mode::train, 0, {1.7e308, -1.7e308, 1.3e308, 1e307}, 0, 1);
}

// Catches: a variance, or dweight, around the mean as one double, of channels that are computed
// apart: here for their weight, which says nothing about x. And the side of an activation whose
// argument falls where x rises.
TEST_CASE("range: extreme doubles far from 0", "[numerics][range]") {
  const auto check = [](double low, double high, double unbiased, double weight) {
    INFO("x " << low << ", " << high << ", weight " << weight);
    ModuleOptions options;
    options.dtype = BN2D_F64;
    options.eps = 0;
    options.momentum = 1;
    Module module(1, options);
    module.set("weight", {weight});
    const Extents e{1, 1, 1, 2};
    Tensor x(BN2D_F64, e, {low, high}), y(BN2D_F64, e), dy(BN2D_F64, e, {3, 5}), dz(BN2D_F64, e);
    Record record;
    NUMERICS_OK(
        bn2d_forward_act(module, x.view(), nullptr, BN2D_ACT_RELU, 0, y.view(), record.out()));
    NUMERICS_OK(bn2d_backward(module, record, dy.view(), nullptr, dz.view()));
    CHECK(module.get("running_var")[0] == unbiased);
    const size_t whole = weight > 0 ? 1 : 0;  // the element that relu lets through
    CHECK(std::fabs(y.get()[whole] - std::fabs(weight)) <= std::fabs(weight) * 0x1p-51);
    CHECK(y.get()[1 - whole] == 0);
    CHECK(dz.get() == (weight > 0 ? Values{0, 5} : Values{3, 0}));
    const double dweight = weight > 0 ? 5 : -3;
    CHECK(std::fabs(module.get("weight.grad")[0] - dweight) <= 0x1p-48);
  };
  for (const double weight : {0x1p-970, -0x1p-970}) {
    check(0x1p52, 0x1p52 + 1, 0.5, weight);
    check(-0x1p52, 1 - 0x1p52, 0.5, weight);
    check(-0x1.c732ca1774484p+19, -0x1.c732c9fe7fe39p+19, 4.6397382323266426e-06,
          weight);  // 6e8 deviations: 8 ulp
  }
}

// Catches: an overflow in the one sum that nobody but dweight needs.
TEST_CASE("range: dweight without dx, of a weight of 0", "[numerics][range]") {
  ModuleOptions options;
  options.dtype = BN2D_F64;
  options.eps = 0;
  Module module(1, options);
  module.set("weight", {0});
  module.set("running_var", {0x1p-1060});
  module.eval();
  Tensor x(BN2D_F64, {2, 1, 1, 1}, {0x1p1000, -0x1p1001}), y(BN2D_F64, {2, 1, 1, 1});
  Tensor dy(BN2D_F64, {2, 1, 1, 1}, {0x1p-1060, 0x1p-1070});
  Record record;
  NUMERICS_OK(bn2d_forward(module, x.view(), y.view(), record.out()));
  NUMERICS_OK(bn2d_backward(module, record, dy.view(), nullptr, nullptr));
  CHECK(module.get("weight.grad")[0] == 0x1p470 - 0x1p461);
}

// Catches: the stateless backward of doubles far from 0, which knows the mean as one double only.
TEST_CASE("range: gradients around a mean that one double cannot hold", "[numerics][range]") {
  Case c = module_case({1, 1, 1, 3}, BN2D_F64, 1e-5);
  c.affine = Affine::none;
  c.stateless = true;
  Inputs in = random_inputs(c, 74);
  in.x = {1e6, 1e6 + 1, 1e6 + 1};
  in.dy = {1, 0, 0};
  in.ddx = {0, 1, 0};
  const Expected want = expect(c, in);
  const Outputs got = run(c, in);
  CHECK(got.at("dweight").values()[0] == -1.4141817436418198);
  CHECK(std::fabs(got.at("dx").values()[0] - 6.363531487471237e-05) < 1e-13);
  check_case(c, want, got, "far mean: ");
  // And the same as the module, which keeps the low part.
  Case with_module = c;
  with_module.stateless = false;
  Outputs module = run(with_module, in);
  module.erase("running_mean"), module.erase("running_var");
  CHECK(first_difference(module, got) == "");
}

// Catches: protection that asks whether a double is finite, and not the number that is stored.
TEST_CASE("range: protected running statistics stay finite where they are stored",
          "[numerics][range]") {
  struct Stored {
    int32_t module, data;
    double value;
  };
  for (const Stored &s : {Stored{BN2D_F32, BN2D_F32, 1e20},
                          {BN2D_F16, BN2D_F16, 1000},
                          {BN2D_F64, BN2D_F64, 1e200}}) {
    for (const bool protect : {true, false}) {
      bn2d_options *options = nullptr;
      bn2d_module *module = nullptr;
      REQUIRE(bn2d_options_create(&options) == BN2D_OK);
      REQUIRE(bn2d_options_set_dtype(options, s.module) == BN2D_OK);
      REQUIRE(bn2d_options_set_protect_running_stats(options, protect) == BN2D_OK);
      REQUIRE(bn2d_module_create(1, options, &module) == BN2D_OK);
      const double value = rounded(s.data, s.value);
      Tensor x(s.data, {1, 1, 1, 2}, {value, -value}), y(s.data, {1, 1, 1, 2});
      REQUIRE(bn2d_forward(module, x.view(), y.view(), nullptr) == BN2D_OK);
      bn2d_tensor *var = nullptr;
      void *data = nullptr;
      REQUIRE(bn2d_module_tensor_by_name(module, "running_var", &var) == BN2D_OK);
      REQUIRE(bn2d_tensor_data(var, &data) == BN2D_OK);
      uint64_t bits = 0;
      std::memcpy(&bits, data, s.module == BN2D_F64 ? 8 : s.module == BN2D_F32 ? 4 : 2);
      if (protect) CHECK(decode(s.module, bits) == 1.0);
      if (!protect) CHECK(std::isinf(decode(s.module, bits)));
      CHECK(y.get() == Values{1, -1});
      bn2d_tensor_release(var);
      bn2d_module_release(module);
      bn2d_options_release(options);
    }
  }
}
