// Pointwise activations (relu6, clamp, hardswish, silu, gelu, sigmoid): against the oracle, against
// differences, bit by bit, and at the ends of the range.
#include "support/differences.h"
#include "support/many_threads.h"
#include "support/streaming.h"

namespace {

using namespace numerics;

constexpr double inf = std::numeric_limits<double>::infinity(),
                 not_a_number = std::numeric_limits<double>::quiet_NaN();

}  // namespace

// Catches: a wrong formula or constant, a tail that cancels, a box of the walk that is mapped with
// another's coefficients, half data rounded on the way, z left out of the argument, sums that miss
// a box, or that are reduced in another layout where only dx lies differently.
TEST_CASE("pointwise: every activation, dtype and layout is within its bound",
          "[numerics][pointwise]") {
  uint64_t seed = 1;
  const Extents shapes[] = {
      {4, 8, 30, 31}, {16, 33, 7, 7}, {64, 40, 1, 1}, {2, 3, 61, 67}, {3, 200, 3, 3}};
  for (const Activation &activation : pointwise) {
    for (const auto &[data, module] : dtype_pairs) {
      for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::permuted,
                                  Layout::samples_fastest, Layout::turned_planes}) {
        for (const bool residual : {false, true}) {
          Case c;
          c.e = shapes[seed % 5];
          c.data = data;
          c.module = module;
          c.mode = static_cast<Mode>(seed % 3);
          c.affine = static_cast<Affine>(seed / 3 % 3);
          c.activation = activation;
          c.residual = residual;
          c.stateless = seed % 5 < 2;
          c.x = c.y = c.z = c.dx = c.dz = layout;
          if (seed % 4 == 1) c.dx = c.dz = layout == Layout::nhwc ? Layout::nchw : Layout::nhwc;
          c.placement = seed % 4;
          Inputs in = random_inputs(c, ++seed);
          const Expected want = expect(c, in);
          INFO(describe(c));
          check_case(c, want, run(c, in), "pointwise: ");
        }
      }
    }
  }
}

namespace {

// Compares `gradient` with the differences of `loss` around each of `values`, which are its input.
void check_differences(const std::string &name, const std::function<double()> &loss, Values &values,
                       const Values &gradient) {
  INFO(name);
  for (size_t i = 0; i < values.size(); ++i) {
    const double slope = slope_of(values, i, loss);
    CHECK(std::fabs(slope - gradient[i]) <= 1e-8 * std::max(1.0, std::fabs(gradient[i])));
  }
}

}  // namespace

// Catches: a backward that is not the derivative of forward, in library and oracle alike.
TEST_CASE("pointwise: backward is the derivative of forward", "[numerics][pointwise]") {
  for (const Activation &activation : pointwise) {
    for (const Mode mode : {Mode::train, Mode::eval}) {
      Case c;
      c.e = {2, 3, 2, 2};
      c.data = c.module = BN2D_F64;
      c.mode = mode;
      c.activation = activation;
      c.residual = true;
      Inputs in = inputs_between_kinks(c);
      const Outputs got = run(c, in);
      Case forward = c;
      forward.record = false;
      const auto loss = [&] { return dot(run(forward, in).at("y").values(), in.dy); };
      INFO(describe(c));
      check_differences("dx", loss, in.x, got.at("dx").values());
      check_differences("dz", loss, in.z, got.at("dz").values());
      check_differences("dweight", loss, in.weight, got.at("dweight").values());
      check_differences("dbias", loss, in.bias, got.at("dbias").values());
    }
  }
}

// Catches: a double backward that is not the derivative of backward, in library and oracle alike: a
// second derivative of another sign or factor, a residual or a bias without a gradient.
TEST_CASE("pointwise: double backward is the derivative of backward", "[numerics][pointwise]") {
  for (const Activation &activation : pointwise) {
    for (const Mode mode : {Mode::train, Mode::eval}) {
      for (const bool stateless : {false, true}) {
        Case c;
        c.e = {2, 3, 2, 2};
        c.data = c.module = BN2D_F64;
        c.mode = mode;
        c.activation = activation;
        c.residual = true;
        c.stateless = stateless;
        Inputs in = inputs_between_kinks(c);
        const Outputs got = run(c, in);
        const auto loss = [&] {
          const Outputs first = run(c, in);
          const auto of = [&](const char *name, const Values &gradient) {
            return dot(first.at(name).values(), gradient);
          };
          return of("dx", in.ddx) + of("dz", in.ddz) + of("dweight", in.ddweight) +
                 of("dbias", in.ddbias);
        };
        INFO(describe(c));
        check_differences("ddy", loss, in.dy, got.at("ddy").values());
        check_differences("dx2", loss, in.x, got.at("dx2").values());
        check_differences("dz2", loss, in.z, got.at("dz2").values());
        check_differences("dweight2", loss, in.weight, got.at("dweight2").values());
        check_differences("dbias2", loss, in.bias, got.at("dbias2").values());
      }
    }
  }
}

// Catches: a walk whose boxes cut runs of the sums, or depend on layout, threads, streaming stores
// or the group.
TEST_CASE("pointwise: the bits depend on the numbers alone", "[numerics][pointwise][bitwise]") {
  ManyThreads many;
  uint64_t seed = 100;
  const Extents shapes[] = {{2, 3, 128, 129}, {16, 24, 2, 3},  {200, 24, 2, 3},  {33, 65, 1, 1},
                            {8, 40, 14, 14},  {3, 200, 5, 9},  {2, 5, 100, 100}, {40, 7, 7, 7},
                            {2, 2, 200, 1},   {1, 130, 40, 40}};
  for (const Extents &e : shapes) {
    for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
      Case c;
      c.e = e;
      c.data = c.module = dtype;
      c.mode = seed % 4 == 0 ? Mode::eval : Mode::train;
      c.activation = pointwise[seed % 6];
      c.residual = seed % 2 == 0;
      const Inputs in = random_inputs(c, ++seed);
      Outputs first;
      {
        const Threads threads(1);
        first = run(c, in);
      }
      for (const Layout layout : all_layouts) {
        Case other = c;
        other.x = other.y = other.z = other.dx = other.dz = layout;
        other.placement = seed + static_cast<uint64_t>(layout);
        for (const int32_t count : {1, 3, 7}) {
          const Streaming streaming(count == 3 ? 0 : bn2d_get_streaming_threshold());
          const Outputs got = many.with(count, [&] { return run(other, in); });
          INFO(describe(other) << ", " << count << " threads");
          CHECK(first_difference(first, got) == "");
        }
      }
    }
  }
}

namespace {

// All sizes, two to a step of 2^16 of a float's bits, and many where activations bend.
Values arguments_of_all_sizes(int32_t dtype) {
  Random random(61);
  Values all;
  for (uint64_t i = 0; i < 0x10000; ++i) {
    const uint64_t bits = dtype == BN2D_F32 ? i << 16 | random.below(0x10000)
                                            : i << 48 | random.below(uint64_t{1} << 48);
    const double v = decode(dtype, bits);
    if (std::isfinite(v)) all.push_back(v);
    all.push_back(rounded(dtype, random.uniform(-40, 40)));
  }
  return all;
}

}  // namespace

// Catches: an exponential, an error function or a quotient that loses digits somewhere.
TEST_CASE("pointwise: values within 6 ulp of their own, derivatives within 4 of 1",
          "[numerics][pointwise]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64}) {
    const Values x = arguments_of_all_sizes(dtype);
    const Extents e{1, 1, 1, static_cast<int64_t>(x.size())};
    const Format &format = format_of(dtype);
    const bool is_float = dtype == BN2D_F32;
    for (const Activation &activation : pointwise) {
      ModuleOptions options;
      options.dtype = dtype;
      options.eps = 0;
      options.affine = false;
      Module module(1, options);
      module.eval();
      const Values ones(x.size(), 1);
      const Tensor in(dtype, e, x), one(dtype, e, ones);
      Tensor y(dtype, e), dx(dtype, e), bent(dtype, e);
      Record record;
      NUMERICS_OK(bn2d_forward_act(module, in.view(), nullptr, activation.kind, activation.slope,
                                   y.view(), record.out()));
      NUMERICS_OK(bn2d_backward(module, record, one.view(), dx.view(), nullptr));
      NUMERICS_OK(bn2d_double_backward_act(module, record, one.view(), nullptr, one.view(), nullptr,
                                           nullptr, nullptr, nullptr, bent.view()));
      const Values values = y.get(), slopes = dx.get(), bends = bent.get();
      const bool is_gelu = activation.kind == Activation::gelu;
      const double fading = is_gelu ? (is_float ? -13 : -37) : is_float ? -88 : -709;
      const Real of_one = oracle::ulp(format, 1);
      Real worst = 0, worst_slope = 0, worst_bend = 0;
      double at = 0, at_slope = 0, at_bend = 0;
      const auto note = [](Real error, double v, Real &most, double &where) {
        if (!(error <= most)) most = error, where = v;
      };
      int faded = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        const Real want = activation.value(x[i]);
        const Real error = std::fabs(values[i] - want) / oracle::ulp(format, want);
        if (activation.curved() && x[i] < fading) {
          faded += std::fabs(values[i]) > 2 * std::fabs(want) + oracle::ulp(format, 0);
        } else {
          note(error, x[i], worst, at);
        }
        note(std::fabs(slopes[i] - activation.derivative(x[i])) / of_one, x[i], worst_slope,
             at_slope);
        note(std::fabs(bends[i] - activation.second_derivative(x[i])) / of_one, x[i], worst_bend,
             at_bend);
      }
      INFO(bn2d_dtype_name(dtype) << " activation " << activation.kind << " at " << at << ", "
                                  << at_slope << ", " << at_bend);
      CHECK(static_cast<double>(worst) <= (activation.curved() ? 6.0 : 0.0));
      CHECK(faded == 0);
      CHECK(static_cast<double>(worst_slope) <= 4);
      CHECK(static_cast<double>(worst_bend) <= 4);
    }
  }
}

// Catches: infinity times 0, a NaN that is taken for a small number, an exponential that overflows,
// a zero of the wrong sign from silu and gelu, an infinite gradient where nothing gets through.
TEST_CASE("pointwise: special arguments", "[numerics][pointwise][hostile]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    // As bn2d.h has it; half data are rounded, which alone is half an ulp.
    const double ulp = dtype == BN2D_F64   ? 0x1p-52
                       : dtype == BN2D_F32 ? 0x1p-23
                       : dtype == BN2D_F16 ? 0x1p-10
                                           : 0x1p-7;
    const double unit = is_half(dtype) ? 0.52 * ulp : 6 * ulp;          // of the value
    const double unit_of_slope = is_half(dtype) ? 0.6 * ulp : 4 * ulp;  // of 1
    const double most = dtype == BN2D_F16 ? 65504 : dtype == BN2D_F64 ? 1e300 : 1e38;
    for (const Activation &activation : pointwise) {
      ModuleOptions options;
      options.dtype = dtype;
      options.eps = 0;
      Module module(1, options);
      module.eval();
      const Values x = {inf, -inf, not_a_number, -0.0, 0.0, -100,  100,   -most, most, 3,
                        -3,  6,    1.5,          -800, 800, -13.5, -38.25};
      const Extents e{1, 1, 1, static_cast<int64_t>(x.size())};
      for (const double gradient : {1.0, inf}) {
        Tensor in(dtype, e, x), y(dtype, e), dy(dtype, e, Values(x.size(), gradient)), dx(dtype, e);
        Record record;
        NUMERICS_OK(bn2d_forward_act(module, in.view(), nullptr, activation.kind, activation.slope,
                                     y.view(), record.out()));
        NUMERICS_OK(bn2d_backward(module, record, dy.view(), dx.view(), nullptr));
        // With a ddz of 1, and nothing else in the loss, dz is act''*dy.
        const Tensor ddz(dtype, e, Values(x.size(), gradient));
        Tensor bent(dtype, e);
        NUMERICS_OK(bn2d_double_backward_act(module, record, dy.view(), nullptr, ddz.view(),
                                             nullptr, nullptr, nullptr, nullptr, bent.view()));
        for (size_t i = 0; i < x.size(); ++i) {
          INFO(name_of(dtype, dtype)
               << " activation " << activation.kind << " of " << x[i] << ", dy " << gradient);
          const double got = y.get()[i], slope = dx.get()[i];
          const Real want = activation.value(x[i]), derivative = activation.derivative(x[i]);
          const double least = dtype == BN2D_F16 ? 6e-8 : 1e-34;  // half the smallest f16
          if (std::isnan(x[i])) {
            CHECK(std::isnan(got));
            if (activation.curved()) CHECK(std::isnan(bent.get()[i]));
            continue;
          }
          CHECK((got == static_cast<double>(want) ||
                 std::fabs(got - static_cast<double>(want)) <=
                     unit * std::fabs(static_cast<double>(want)) + least));
          const Real second = activation.second_derivative(x[i]);
          const bool is_kink = activation.kind == Activation::hardswish && std::fabs(x[i]) == 3;
          if (gradient == 1) {
            CHECK(std::fabs(slope - static_cast<double>(derivative)) <= unit_of_slope);
            if (!is_kink)
              CHECK(std::fabs(bent.get()[i] - static_cast<double>(second)) <= 2 * unit_of_slope);
          } else {
            CHECK(!std::isnan(slope));
            CHECK(!std::isnan(bent.get()[i]));
            if (derivative == 0) CHECK(slope == 0);
          }
        }
        if (activation.kind >= Activation::silu && activation.kind != Activation::sigmoid) {
          CHECK(std::signbit(y.get()[1]));
        }
      }
    }
  }
}

// Catches: a stateless backward that makes another argument than a record: of a missing weight or
// bias, on running statistics.
TEST_CASE("pointwise: stateless backward has the bits of a module's",
          "[numerics][pointwise][bitwise]") {
  uint64_t seed = 300;
  for (const Activation &activation : pointwise) {
    for (const int32_t dtype : {BN2D_F32, BN2D_F16}) {
      for (const Mode mode : {Mode::train, Mode::no_track, Mode::eval}) {
        for (const Affine affine : {Affine::none, Affine::weight_only, Affine::full}) {
          Case c;
          c.e = {3, 20, 7, 9};
          c.data = c.module = dtype;
          c.mode = mode;
          c.affine = affine;
          c.activation = activation;
          c.residual = seed % 2 == 0;
          c.loss_of_dz = true;
          c.x = c.y = c.z = c.dx = c.dz = seed % 3 == 0 ? Layout::nhwc : Layout::nchw;
          const Inputs in = random_inputs(c, ++seed);
          const Outputs with_module = run(c, in);
          c.stateless = true;
          Outputs without = run(c, in);
          INFO(describe(c));
          for (const char *name : {"saved_mean", "saved_invstd"}) without.erase(name);
          if (!c.has_weight()) without.erase("dweight");
          if (!c.has_bias()) without.erase("dbias");
          CHECK(first_difference(with_module, without) == "");
        }
      }
    }
  }
}

// Catches: a NaN of a float32 parameter whose payload carries into the sign when its argument is
// kept in bfloat16: dx was -0.
TEST_CASE("pointwise: a bias of NaN makes gradients of NaN", "[numerics][pointwise][hostile]") {
  for (const Activation &activation : pointwise) {
    if (activation.kind < Activation::hardswish) continue;  // a gradient passes there
    for (const Mode mode : {Mode::train, Mode::eval})
      for (const double nan : {not_a_number, -std::nan("0xFFFFFFFFFFFFF")}) {
        Case c;
        c.e = {3, 8, 5, 7};
        c.data = BN2D_BF16;
        c.module = BN2D_F32;
        c.mode = mode;
        c.affine = Affine::full;
        c.activation = activation;
        c.stateless = true;
        Inputs in = random_inputs(c, 11);
        in.bias[3] = nan;
        const Outputs got = run(c, in);
        INFO(describe(c));
        int64_t wrong = 0;
        for (size_t i = 0; i < in.x.size(); ++i)
          wrong += std::isnan(got.at("dx").values()[i]) != (i / 35 % 8 == 3);
        CHECK(wrong == 0);
      }
  }
}

// Catches: a channel whose numbers leave the range of float computed in float; an argument made of
// other coefficients than forward's, of a 1/std beyond double, too (2^-1060).
TEST_CASE("pointwise: channels at the ends of the range", "[numerics][pointwise][hostile]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_BF16}) {
    for (const double power :
         {-50.0, 50.0, -120.0, 120.0, -400.0, 400.0, -900.0, 900.0, -1060.0, 1021.0}) {
      if (dtype != BN2D_F64 && std::fabs(power) > 200) continue;
      // The double backward multiplies by the square of 1/std.
      const bool is_square_there = std::fabs(power) < (dtype == BN2D_F64 ? 500 : 60);
      for (const Activation &activation : pointwise) {
        for (const bool residual : {false, true}) {
          Case c;
          c.e = {4, 3, 9, 10};
          c.data = c.module = dtype;
          c.activation = activation;
          c.residual = residual;
          c.stateless = residual == (power > 0);
          c.eps = 0;
          Inputs in = random_inputs(c, 9);
          for (size_t i = 0; i < in.x.size(); ++i)
            if (static_cast<int64_t>(i) / c.e.plane() % c.e.c == 1)
              in.x[i] = rounded(dtype, std::ldexp(in.x[i], static_cast<int>(power)));
          const Expected want = expect(c, in);
          INFO(describe(c) << " times 2^" << power);
          Outputs got = run(c, in);
          for (const char *name : {"ddy", "dx2", "dz2", "dweight2", "dbias2"})
            if (!is_square_there) got.erase(name);
          check_case(c, want, got, "pointwise, far: ");
        }
      }
    }
  }
}

// Catches: a record that forgets z or the bias, or takes those of a later forward; an output in
// place of what backward reads; stateless backward and double backward that compute something else
// without a word.
TEST_CASE("pointwise: what a record needs, and what is refused", "[numerics][pointwise][records]") {
  const Extents e{2, 3, 4, 5};
  Random random(3);
  Module module(e.c, ModuleOptions());
  Tensor x(BN2D_F32, e, normal_values(random, BN2D_F32, e.size())),
      z(BN2D_F32, e, normal_values(random, BN2D_F32, e.size()));
  Tensor y(BN2D_F32, e), dy(BN2D_F32, e, normal_values(random, BN2D_F32, e.size())),
      dx(BN2D_F32, e), dz(BN2D_F32, e);
  bn2d_record *none = nullptr;
  for (const bool eval : {false, true}) {
    NUMERICS_OK(bn2d_module_train(module, eval ? 0 : 1));
    CHECK(bn2d_forward_act(module, x.view(), z.view(), BN2D_ACT_SILU, 0, x.view(), &none) ==
          BN2D_ERROR_OVERLAP);
    CHECK(bn2d_forward_act(module, x.view(), z.view(), BN2D_ACT_SILU, 0, z.view(), &none) ==
          BN2D_ERROR_OVERLAP);
  }
  NUMERICS_OK(bn2d_module_train(module, 1));
  for (const double bound : {0.0, -1.0, not_a_number, inf, 1e39})
    CHECK(bn2d_forward_act(module, x.view(), nullptr, BN2D_ACT_CLAMP, bound, y.view(), nullptr) ==
          BN2D_ERROR_INVALID_ARGUMENT);
  CHECK(bn2d_forward_act(module, x.view(), nullptr, 9, 0, y.view(), nullptr) ==
        BN2D_ERROR_INVALID_ARGUMENT);

  Record record;
  NUMERICS_OK(
      bn2d_forward_act(module, x.view(), z.view(), BN2D_ACT_GELU, 0, y.view(), record.out()));
  NUMERICS_OK(bn2d_backward(module, record, dy.view(), dx.view(), dz.view()));
  const Bits before = dx.bits();
  module.set("bias", {5, 5, 5}), module.set("weight", {9, 9, 9});
  y.set(Values(static_cast<size_t>(e.size()), 0.0));  // y is not needed
  NUMERICS_OK(bn2d_backward(module, record, dy.view(), dx.view(), dz.view()));
  CHECK(first_difference(before, dx.bits()) == -1);

  std::vector<double> mean(3), invstd(3);
  std::vector<uint8_t> mask(64);
  CHECK(bn2d_batch_norm_forward(x.view(), nullptr, y.view(), BN2D_F32, nullptr, nullptr, nullptr,
                                nullptr, 1, 0.1, 1e-5, 0, BN2D_ACT_SILU, 0, mask.data(),
                                mean.data(), invstd.data()) == BN2D_ERROR_INVALID_ARGUMENT);
  CHECK(bn2d_batch_norm_backward(x.view(), dy.view(), y.view(), nullptr, BN2D_F32, nullptr,
                                 mean.data(), invstd.data(), 1, BN2D_ACT_SILU, 0, 0, dx.view(),
                                 nullptr, nullptr, nullptr) == BN2D_ERROR_INVALID_ARGUMENT);

  CHECK(bn2d_batch_norm_double_backward(x.view(), dy.view(), y.view(), nullptr, BN2D_F32, nullptr,
                                        mean.data(), invstd.data(), 1, BN2D_ACT_SILU, 0, x.view(),
                                        nullptr, nullptr, 0, nullptr, dx.view(),
                                        nullptr) == BN2D_ERROR_INVALID_ARGUMENT);

  // Of the functions that can: a mask, no x, z of another shape, and a bias within an output.
  const auto backward = [&](const bn2d_view *given_x, const bn2d_view *given_z, uint8_t *given_mask,
                            const void *bias) {
    return bn2d_batch_norm_backward_act(given_x, given_z, dy.view(), nullptr, given_mask, BN2D_F32,
                                        nullptr, bias, mean.data(), invstd.data(), 1, BN2D_ACT_SILU,
                                        0, 0, dx.view(), nullptr, nullptr, nullptr);
  };
  Tensor other(BN2D_F32, {2, 3, 4, 4});
  const Bits untouched = dx.bits();
  CHECK(backward(x.view(), z.view(), mask.data(), nullptr) == BN2D_ERROR_INVALID_ARGUMENT);
  CHECK(backward(nullptr, z.view(), nullptr, nullptr) == BN2D_ERROR_INVALID_ARGUMENT);
  CHECK(backward(x.view(), other.view(), nullptr, nullptr) == BN2D_ERROR_SHAPE);
  CHECK(backward(x.view(), z.view(), nullptr, dx.as<float>()) == BN2D_ERROR_OVERLAP);
  CHECK(first_difference(untouched, dx.bits()) == -1);
  CHECK(backward(x.view(), z.view(), nullptr, nullptr) == BN2D_OK);
}
