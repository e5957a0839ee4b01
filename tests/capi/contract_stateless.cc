// The functions without a module: their scalar arguments, which pointers are needed when, and that
// they agree with a module.
#include <algorithm>
#include <limits>

#include "support/contract_guard.h"
#include "support/contract_scene.h"

using namespace bn2d_test;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// The arguments of the three calls that are not tensors, with valid defaults.
struct Arguments {
  int32_t dtype = BN2D_F32, batch_stats = 1, flags = 0, activation = BN2D_ACT_NONE;
  double averaging_factor = 0.1, eps = 1e-5, slope = 0, blend = 0;
  bool mask = false, y = false, x = true, saved_mean = true, dweight = true, running = true;
};

int32_t forward(Scene &s, const Arguments &a) {
  return bn2d_batch_norm_forward(
      s.views["x"], nullptr, s.views["y"], a.dtype, s.weight.data(), s.bias.data(),
      a.running ? s.running_mean.data() : nullptr, a.running ? s.running_var.data() : nullptr,
      a.batch_stats, a.averaging_factor, a.eps, a.flags, a.activation, a.slope,
      a.mask ? s.mask.data() : nullptr, s.saved_mean.data(), s.saved_invstd.data());
}

int32_t backward(Scene &s, const Arguments &a) {
  const bn2d_view *x = a.x ? s.views["x"].get() : nullptr, *y = a.y ? s.views["y"].get() : nullptr;
  return bn2d_batch_norm_backward(x, s.views["dy"], y, a.mask ? s.mask.data() : nullptr, a.dtype,
                                  s.weight.data(), a.saved_mean ? s.saved_mean.data() : nullptr,
                                  s.saved_invstd.data(), a.batch_stats, a.activation, a.slope,
                                  a.blend, s.views["dx"], s.views["dz"],
                                  a.dweight ? s.dweight.data() : nullptr, s.dbias.data());
}

int32_t double_backward(Scene &s, const Arguments &a) {
  const bn2d_view *x = a.x ? s.views["x"].get() : nullptr, *y = a.y ? s.views["y"].get() : nullptr;
  return bn2d_batch_norm_double_backward(
      x, s.views["dy"], y, a.mask ? s.mask.data() : nullptr, a.dtype, s.weight.data(),
      a.saved_mean ? s.saved_mean.data() : nullptr, s.saved_invstd.data(), a.batch_stats,
      a.activation, a.slope, s.views["ddx"], s.ddweight.data(), s.ddbias.data(), a.blend,
      s.views["ddy"], s.views["dx"], a.dweight ? s.dweight.data() : nullptr);
}

Arguments with(const std::function<void(Arguments &)> &change) {
  Arguments arguments;
  change(arguments);
  return arguments;
}

}  // namespace

TEST_CASE("stateless: scalar arguments out of their range", "[stateless]") {
  // Catches an argument that is not checked, and one that is checked after something was written.
  Scene scene;
  for (auto *call : {&forward, &backward, &double_backward})
    REQUIRE(call(scene, Arguments()) == BN2D_OK);
  const Snapshot before = scene.snapshot();
  const auto refuse = [&](const std::string &what, int32_t status,
                          int32_t (*call)(Scene &, const Arguments &),
                          const std::function<void(Arguments &)> &change) {
    check_fails(what, status, before, {}, [&] { return call(scene, with(change)); });
  };
  for (auto *call : {&forward, &backward, &double_backward}) {
    const std::string name = call == &forward    ? "forward"
                             : call == &backward ? "backward"
                                                 : "double_backward";
    for (const int32_t odd : {0, 6, -1, static_cast<int32_t>(BN2D_I64), INT32_MAX, INT32_MIN}) {
      refuse(name + ": dtype " + std::to_string(odd), BN2D_ERROR_DTYPE, call,
             [&](Arguments &a) { a.dtype = odd; });
    }
    for (const int32_t other : {BN2D_F64, BN2D_F16, BN2D_BF16}) {
      refuse(name + ": parameters of another dtype", BN2D_ERROR_DTYPE, call,
             [&](Arguments &a) { a.dtype = other; });
    }
    for (const int32_t odd : {2, -1, INT32_MAX, INT32_MIN}) {
      refuse(name + ": batch_stats", BN2D_ERROR_INVALID_ARGUMENT, call,
             [&](Arguments &a) { a.batch_stats = odd; });
    }
    for (const int32_t odd : {9, -1, INT32_MAX, INT32_MIN}) {
      refuse(name + ": activation", BN2D_ERROR_INVALID_ARGUMENT, call, [&](Arguments &a) {
        a.activation = odd;
        a.y = true;
      });
    }
    for (const double odd : {kInf, -kInf, kNaN}) {
      refuse(name + ": slope", BN2D_ERROR_INVALID_ARGUMENT, call, [&](Arguments &a) {
        a.activation = BN2D_ACT_LEAKY_RELU;
        a.slope = odd;
        a.y = true;
      });
      if (call != &forward) {
        refuse(name + ": blend", BN2D_ERROR_INVALID_ARGUMENT, call,
               [&](Arguments &a) { a.blend = odd; });
      }
    }
  }
  for (const double odd : {-5e-324, -0.1, std::nextafter(1.0, 2.0), kInf, -kInf, kNaN}) {
    refuse("averaging_factor", BN2D_ERROR_INVALID_ARGUMENT, forward,
           [&](Arguments &a) { a.averaging_factor = odd; });
  }
  for (const double odd : {-5e-324, -1.0, kInf, -kInf, kNaN}) {
    refuse("eps", BN2D_ERROR_INVALID_ARGUMENT, forward, [&](Arguments &a) { a.eps = odd; });
  }
  for (const int32_t odd : {4, 8, -1, INT32_MIN}) {
    refuse("flags", BN2D_ERROR_INVALID_ARGUMENT, forward, [&](Arguments &a) { a.flags = odd; });
  }
  refuse("a mask without an activation", BN2D_ERROR_INVALID_ARGUMENT, forward,
         [](Arguments &a) { a.mask = true; });
  refuse("no running statistics to use", BN2D_ERROR_INVALID_ARGUMENT, forward, [](Arguments &a) {
    a.batch_stats = 0;
    a.running = false;
  });
  for (auto *call : {&backward, &double_backward}) {
    refuse("an activation with neither y nor mask", BN2D_ERROR_INVALID_ARGUMENT, call,
           [](Arguments &a) { a.activation = BN2D_ACT_RELU; });
    refuse("batch statistics without x", BN2D_ERROR_INVALID_ARGUMENT, call,
           [](Arguments &a) { a.x = false; });
    refuse("no saved mean, with x", BN2D_ERROR_INVALID_ARGUMENT, call,
           [](Arguments &a) { a.saved_mean = false; });
  }
  for (auto *call : {&backward, &double_backward}) {
    refuse("a negative slope without a mask: y cannot tell", BN2D_ERROR_INVALID_ARGUMENT, call,
           [](Arguments &a) {
             a.activation = BN2D_ACT_LEAKY_RELU;
             a.slope = -0.5;
             a.y = true;
           });
  }
  refuse("dweight without x", BN2D_ERROR_INVALID_ARGUMENT, backward, [](Arguments &a) {
    a.batch_stats = 0;
    a.x = false;
  });
}

TEST_CASE("stateless: what is allowed is accepted", "[stateless]") {
  // Catches a check that is too strict.
  Scene scene;
  for (const double factor : {0.0, 0.5, 1.0}) {
    CHECK(forward(scene, with([&](Arguments &a) { a.averaging_factor = factor; })) == BN2D_OK);
  }
  for (const double eps : {0.0, 5e-324, 1e300}) {
    CHECK(forward(scene, with([&](Arguments &a) { a.eps = eps; })) == BN2D_OK);
  }
  for (int32_t flags = 0; flags < 4; ++flags) {
    CHECK(forward(scene, with([&](Arguments &a) { a.flags = flags; })) == BN2D_OK);
  }
  for (const double slope : {kInf, kNaN}) {  // ignored without leaky relu
    CHECK(forward(scene, with([&](Arguments &a) {
                    a.slope = slope;
                    a.activation = BN2D_ACT_RELU;
                    a.mask = true;
                  })) == BN2D_OK);
    CHECK(backward(scene, with([&](Arguments &a) { a.slope = slope; })) == BN2D_OK);
  }
  for (const double blend : {-2.0, 0.5, 1e300}) {
    CHECK(backward(scene, with([&](Arguments &a) { a.blend = blend; })) == BN2D_OK);
    CHECK(double_backward(scene, with([&](Arguments &a) { a.blend = blend; })) == BN2D_OK);
  }
  CHECK(backward(scene, with([](Arguments &a) {
                   a.batch_stats = 0;
                   a.x = a.dweight = a.saved_mean = false;
                 })) == BN2D_OK);
  CHECK(bn2d_batch_norm_forward(scene.views["x"], nullptr, scene.views["y"], BN2D_F32, nullptr,
                                nullptr, nullptr, nullptr, 1, 0.1, 1e-5, 0, BN2D_ACT_NONE, 0,
                                nullptr, nullptr, nullptr) == BN2D_OK);
}

TEST_CASE("stateless: blend", "[stateless]") {
  // Catches a blend of 0 that reads the old value (0 * NaN), and one that scales the wrong term.
  Scene scene;
  REQUIRE(backward(scene, Arguments()) == BN2D_OK);
  const std::vector<float> dweight = scene.dweight, dbias = scene.dbias;
  scene.dweight.assign(6, std::numeric_limits<float>::quiet_NaN());
  scene.dbias.assign(6, std::numeric_limits<float>::infinity());
  REQUIRE(backward(scene, Arguments()) == BN2D_OK);
  CHECK(scene.dweight == dweight);
  CHECK(scene.dbias == dbias);
  REQUIRE(backward(scene, with([](Arguments &a) { a.blend = 1; })) == BN2D_OK);
  for (size_t c = 0; c < 6; ++c) {
    CHECK(scene.dweight[c] == 2 * dweight[c]);
    CHECK(scene.dbias[c] == 2 * dbias[c]);
  }
  scene.dweight = dweight;
  scene.dbias = dbias;
  REQUIRE(backward(scene, with([](Arguments &a) { a.blend = -1; })) == BN2D_OK);
  CHECK(scene.dweight == std::vector<float>(6, 0.0f));
  CHECK(scene.dbias == std::vector<float>(6, 0.0f));
}

TEST_CASE("stateless: the same bits as a module", "[stateless]") {
  // Catches two implementations that drift apart, and statistics that are saved before or after the
  // wrong step.
  for (const bool eval : {false, true}) {
    for (const int32_t activation : {BN2D_ACT_NONE, BN2D_ACT_RELU, BN2D_ACT_LEAKY_RELU}) {
      for (const double slope : {0.25, -0.25}) {
        INFO("eval " << eval << " activation " << activation << " slope " << slope);
        Scene module, stateless;
        REQUIRE(bn2d_module_train(module.module.get(), !eval) == BN2D_OK);
        const auto copy = [&](std::vector<float> &to, const char *name) {
          const float *from = data_of<float>(module.module, name);
          to.assign(from, from + 6);
        };
        copy(stateless.weight, "weight");
        copy(stateless.bias, "bias");
        copy(stateless.running_mean, "running_mean");
        copy(stateless.running_var, "running_var");
        bn2d_record *raw = nullptr;
        REQUIRE(bn2d_forward_act(module.module.get(), module.views["x"], module.views["z"],
                                 activation, slope, module.views["y"], &raw) == BN2D_OK);
        module.record.reset(raw);
        uint8_t *mask = activation == BN2D_ACT_NONE ? nullptr : stateless.mask.data();
        REQUIRE(bn2d_batch_norm_forward(
                    stateless.views["x"], stateless.views["z"], stateless.views["y"], BN2D_F32,
                    stateless.weight.data(), stateless.bias.data(), stateless.running_mean.data(),
                    stateless.running_var.data(), !eval, 0.1, 1e-5, 0, activation, slope, mask,
                    stateless.saved_mean.data(), stateless.saved_invstd.data()) == BN2D_OK);
        CHECK(stateless.memories["y"] == module.memories["y"]);
        std::vector<float> now(6);
        copy(now, "running_mean");
        CHECK(stateless.running_mean == now);
        copy(now, "running_var");
        CHECK(stateless.running_var == now);

        REQUIRE(bn2d_module_zero_grad(module.module.get()) == BN2D_OK);
        REQUIRE(bn2d_backward(module.module.get(), module.record.get(), module.views["dy"],
                              module.views["dx"], module.views["dz"]) == BN2D_OK);
        for (const bool use_mask : {true, false}) {
          if (!use_mask && slope < 0 && activation == BN2D_ACT_LEAKY_RELU)
            continue;  // y cannot tell
          INFO("mask " << use_mask);
          const bn2d_view *y =
              activation != BN2D_ACT_NONE && !use_mask ? stateless.views["y"].get() : nullptr;
          REQUIRE(bn2d_batch_norm_backward(
                      stateless.views["x"], stateless.views["dy"], y, use_mask ? mask : nullptr,
                      BN2D_F32, stateless.weight.data(), stateless.saved_mean.data(),
                      stateless.saved_invstd.data(), !eval, activation, slope, 0,
                      stateless.views["dx"], stateless.views["dz"], stateless.dweight.data(),
                      stateless.dbias.data()) == BN2D_OK);
          CHECK(stateless.memories["dx"] == module.memories["dx"]);
          CHECK(stateless.memories["dz"] == module.memories["dz"]);
          copy(now, "weight.grad");
          CHECK(stateless.dweight == now);
          copy(now, "bias.grad");
          CHECK(stateless.dbias == now);
        }

        REQUIRE(bn2d_module_zero_grad(module.module.get()) == BN2D_OK);
        REQUIRE(bn2d_double_backward(module.module.get(), module.record.get(), module.views["dy"],
                                     module.views["ddx"], module.ddweight.data(),
                                     module.ddbias.data(), module.views["ddy"],
                                     module.views["dx"]) == BN2D_OK);
        REQUIRE(bn2d_batch_norm_double_backward(
                    stateless.views["x"], stateless.views["dy"], nullptr, mask, BN2D_F32,
                    stateless.weight.data(), stateless.saved_mean.data(),
                    stateless.saved_invstd.data(), !eval, activation, slope, stateless.views["ddx"],
                    stateless.ddweight.data(), stateless.ddbias.data(), 0, stateless.views["ddy"],
                    stateless.views["dx"], stateless.dweight.data()) == BN2D_OK);
        CHECK(stateless.memories["ddy"] == module.memories["ddy"]);
        CHECK(stateless.memories["dx"] == module.memories["dx"]);
        copy(now, "weight.grad");
        CHECK(stateless.dweight == now);
      }
    }
  }
}

TEST_CASE("stateless: bytes of a mask", "[stateless]") {
  // Catches a rounding over the whole tensor instead of each plane, and a product that wraps.
  struct Case {
    Extents shape;
    uint64_t bytes;
  };
  for (const Case &one :
       {Case{{1, 1, 1, 1}, 1}, Case{{1, 1, 1, 8}, 1}, Case{{1, 1, 3, 3}, 2}, Case{{2, 3, 1, 9}, 12},
        Case{{2, 6, 3, 5}, 24}, Case{{0, 3, 4, 4}, 0}, Case{{3, 0, 4, 4}, 0}, Case{{3, 3, 0, 4}, 0},
        Case{{3, 3, 4, 0}, 0}, Case{{1 << 20, 1 << 10, 1 << 10, 1 << 10}, uint64_t{1} << 47}}) {
    uint64_t bytes = 12345;
    CHECK(bn2d_mask_nbytes(one.shape[0], one.shape[1], one.shape[2], one.shape[3], &bytes) ==
          BN2D_OK);
    CHECK(bytes == one.bytes);
  }
  uint64_t bytes = 12345;
  Snapshot before;
  before.add("bytes", &bytes, sizeof bytes);
  for (size_t i = 0; i < 4; ++i) {
    Extents shape{2, 3, 4, 5};
    shape[i] = -7;
    check_fails("a negative extent", BN2D_ERROR_SHAPE, before, {"-7"},
                [&] { return bn2d_mask_nbytes(shape[0], shape[1], shape[2], shape[3], &bytes); });
  }
  const int64_t big = int64_t{1} << 40;
  check_fails("overflow", BN2D_ERROR_OVERFLOW, before, {},
              [&] { return bn2d_mask_nbytes(big, big, 1, 1, &bytes); });
  check_fails("overflow", BN2D_ERROR_OVERFLOW, before, {},
              [&] { return bn2d_mask_nbytes(1, 1, big, big, &bytes); });
  check_fails("overflow", BN2D_ERROR_OVERFLOW, before, {},
              [&] { return bn2d_mask_nbytes(INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, &bytes); });
}

TEST_CASE("stateless: the mask's bits", "[stateless]") {
  // Catches a mask that is written beyond its bytes, planes that are not rounded up to whole bytes,
  // and bits in another order.
  const Extents shape{2, 2, 1, 9};  // 9 elements per plane: two bytes
  std::vector<float> x(36), y(36);
  for (size_t i = 0; i < 36; ++i) x[i] = static_cast<float>((i * 5) % 9) - 4;
  uint64_t bytes = 0;
  REQUIRE(bn2d_mask_nbytes(2, 2, 1, 9, &bytes) == BN2D_OK);
  REQUIRE(bytes == 8);
  std::vector<uint8_t> mask(bytes + 8, 0xa5);
  REQUIRE(bn2d_batch_norm_forward(View(x.data(), BN2D_F32, shape), nullptr,
                                  View(y.data(), BN2D_F32, shape), BN2D_F32, nullptr, nullptr,
                                  nullptr, nullptr, 1, 0.1, 1e-5, 0, BN2D_ACT_RELU, 0, mask.data(),
                                  nullptr, nullptr) == BN2D_OK);
  CHECK(std::vector<uint8_t>(mask.begin() + 8, mask.end()) == std::vector<uint8_t>(8, 0xa5));
  for (size_t plane = 0; plane < 4; ++plane) {
    for (size_t p = 0; p < 16; ++p) {
      INFO("plane " << plane << " position " << p);
      const bool is_set = (mask[2 * plane + p / 8] >> p % 8 & 1) != 0;
      CHECK(is_set == (p < 9 && y[9 * plane + p] > 0));
    }
  }
}

TEST_CASE("stateless: each running statistic may be NULL on its own", "[stateless]") {
  // Catches an update of the one that depends on the other.
  Scene scene, both;
  REQUIRE(forward(both, Arguments()) == BN2D_OK);
  for (const bool mean : {true, false}) {
    Scene one;
    REQUIRE(bn2d_batch_norm_forward(one.views["x"], nullptr, one.views["y"], BN2D_F32,
                                    one.weight.data(), one.bias.data(),
                                    mean ? one.running_mean.data() : nullptr,
                                    mean ? nullptr : one.running_var.data(), 1, 0.1, 1e-5, 0,
                                    BN2D_ACT_NONE, 0, nullptr, nullptr, nullptr) == BN2D_OK);
    CHECK(one.memories["y"] == both.memories["y"]);
    CHECK((mean ? one.running_mean : one.running_var) ==
          (mean ? both.running_mean : both.running_var));
    CHECK((mean ? one.running_var : one.running_mean) ==
          (mean ? scene.running_var : scene.running_mean));
  }
}

TEST_CASE("stateless: a slope that float cannot hold", "[stateless]") {
  // Catches a slope that is finite as a double and infinite where it is used: 0 * inf is NaN. Float
  // and half data are computed in float; double data may have it.
  Scene scene;
  REQUIRE(forward(scene, Arguments()) == BN2D_OK);
  const Snapshot before = scene.snapshot();
  for (auto *call : {&forward, &backward, &double_backward}) {
    for (const double slope : {1e39, -1e39, 3.5e38, std::numeric_limits<double>::max()}) {
      check_fails("a slope of " + std::to_string(slope), BN2D_ERROR_INVALID_ARGUMENT, before,
                  {"3.40282347e+38", "float32"}, [&] {
                    return call(scene, with([&](Arguments &a) {
                                  a.activation = BN2D_ACT_LEAKY_RELU;
                                  a.slope = slope;
                                  a.mask = true;
                                }));
                  });
    }
  }
  for (auto *call : {&forward, &backward, &double_backward}) {
    for (const double slope :
         {double{std::numeric_limits<float>::max()}, -double{std::numeric_limits<float>::max()}}) {
      CHECK(call(scene, with([&](Arguments &a) {
                   a.activation = BN2D_ACT_LEAKY_RELU;
                   a.slope = slope;
                   a.mask = true;
                 })) == BN2D_OK);
    }
  }
  Scene other;
  const Snapshot now = other.snapshot();
  check_fails("of a module", BN2D_ERROR_INVALID_ARGUMENT, now, {"1e+39"}, [&] {
    return bn2d_forward_act(other.module.get(), other.views["x"], nullptr, BN2D_ACT_LEAKY_RELU,
                            1e39, other.views["y"], nullptr);
  });
  uint16_t halves[16] = {}, out[16] = {};
  const View half_x(halves, BN2D_BF16, {1, 2, 2, 4}), half_y(out, BN2D_BF16, {1, 2, 2, 4});
  check_fails("of half data", BN2D_ERROR_INVALID_ARGUMENT, Snapshot(), {"1e+39", "bfloat16"}, [&] {
    return bn2d_batch_norm_forward(half_x, nullptr, half_y, BN2D_F32, nullptr, nullptr, nullptr,
                                   nullptr, 1, 0, 1e-5, 0, BN2D_ACT_LEAKY_RELU, 1e39, nullptr,
                                   nullptr, nullptr);
  });
  const double x[2] = {-1, 1}, mean = 0, var = 1;
  double y[2];
  const View wide_x(const_cast<double *>(x), BN2D_F64, {1, 1, 1, 2}),
      wide_y(y, BN2D_F64, {1, 1, 1, 2});
  REQUIRE(bn2d_batch_norm_forward(wide_x, nullptr, wide_y, BN2D_F64, nullptr, nullptr,
                                  const_cast<double *>(&mean), const_cast<double *>(&var), 0, 0, 0,
                                  0, BN2D_ACT_LEAKY_RELU, 1e39, nullptr, nullptr,
                                  nullptr) == BN2D_OK);
  CHECK(y[0] == -1e39);
  CHECK(y[1] == 1);

  // Catches a bound of clamp that is above 0 as a double and 0 where it is used: y would be 0.
  const auto clamp = [&](double bound) {
    return bn2d_forward_act(other.module.get(), other.views["x"], nullptr, BN2D_ACT_CLAMP, bound,
                            other.views["y"], nullptr);
  };
  const double smallest = std::numeric_limits<float>::denorm_min();
  for (const double bound : {1e-300, smallest / 2, 0.0, -1.0})
    check_fails("a bound of " + std::to_string(bound), BN2D_ERROR_INVALID_ARGUMENT, now,
                {"clamp", "1.40129846e-45", "float32"}, [&] { return clamp(bound); });
  check_fails("a bound of half data", BN2D_ERROR_INVALID_ARGUMENT, Snapshot(),
              {"1e-300", "bfloat16"}, [&] {
                return bn2d_batch_norm_forward(half_x, nullptr, half_y, BN2D_F32, nullptr, nullptr,
                                               nullptr, nullptr, 1, 0, 1e-5, 0, BN2D_ACT_CLAMP,
                                               1e-300, nullptr, nullptr, nullptr);
              });
  CHECK(clamp(smallest) == BN2D_OK);
  REQUIRE(bn2d_batch_norm_forward(wide_x, nullptr, wide_y, BN2D_F64, nullptr, nullptr,
                                  const_cast<double *>(&mean), const_cast<double *>(&var), 0, 0, 0,
                                  0, BN2D_ACT_CLAMP, 1e-300, nullptr, nullptr, nullptr) == BN2D_OK);
  CHECK(y[0] == 0);
  CHECK(y[1] == 1e-300);
}

TEST_CASE("stateless: an activation is told by its name", "[stateless]") {
  // Catches a number that a reader has to look up, and the name of the activation beside it.
  Scene scene;
  const Snapshot before = scene.snapshot();
  const std::pair<int32_t, const char *> names[] = {
      {BN2D_ACT_RELU6, "relu6"}, {BN2D_ACT_CLAMP, "clamp"}, {BN2D_ACT_HARDSWISH, "hardswish"},
      {BN2D_ACT_SILU, "silu"},   {BN2D_ACT_GELU, "gelu"},   {BN2D_ACT_SIGMOID, "sigmoid"}};
  for (const auto &[activation, name] : names) {
    const auto pointwise = [&, number = activation](bool mask) {
      return with([&](Arguments &a) {
        a.activation = number;
        a.slope = 1;
        a.mask = mask;
      });
    };
    check_fails("backward", BN2D_ERROR_INVALID_ARGUMENT, before, {name, "z and bias"},
                [&] { return backward(scene, pointwise(false)); });
    check_fails("double backward", BN2D_ERROR_INVALID_ARGUMENT, before,
                {name, "bn2d_batch_norm_double_backward_act"},
                [&] { return double_backward(scene, pointwise(false)); });
    check_fails("mask", BN2D_ERROR_INVALID_ARGUMENT, before, {name, "mask"},
                [&] { return forward(scene, pointwise(true)); });
  }
  check_fails("none of them", BN2D_ERROR_INVALID_ARGUMENT, before, {"9", "none", "sigmoid"},
              [&] { return forward(scene, with([](Arguments &a) { a.activation = 9; })); });
}

TEST_CASE("stateless: nothing is read before the tensors agree", "[stateless][bounds]") {
  // Catches a weight that is read for as many channels as dy has before dy has been compared with
  // x: it lies at the end of a page, and one element more ends the program.
  const Guarded weight(4 * sizeof(float), true), saved_mean(4 * sizeof(double), true),
      saved_invstd(4 * sizeof(double), true);
  for (int c = 0; c < 4; ++c) {
    weight.as<float>()[c] = 1;
    saved_mean.as<double>()[c] = 0;
    saved_invstd.as<double>()[c] = 1;
  }
  std::vector<float> x(16, 1.0f), many(4096 * 4, 1.0f), dx(4096 * 4, 2.0f);
  const View small(x.data(), BN2D_F32, {1, 4, 2, 2}), large(many.data(), BN2D_F32, {1, 4096, 2, 2}),
      out(dx.data(), BN2D_F32, {1, 4096, 2, 2});
  Snapshot before;
  before.add("dx", dx);
  check_fails("backward", BN2D_ERROR_SHAPE, before, {"4", "4096"}, [&] {
    return bn2d_batch_norm_backward(small, large, nullptr, nullptr, BN2D_F32, weight.data(),
                                    saved_mean.as<double>(), saved_invstd.as<double>(), 1,
                                    BN2D_ACT_NONE, 0, 0, out, nullptr, nullptr, nullptr);
  });
  check_fails("double backward", BN2D_ERROR_SHAPE, before, {"4", "4096"}, [&] {
    return bn2d_batch_norm_double_backward(small, large, nullptr, nullptr, BN2D_F32, weight.data(),
                                           saved_mean.as<double>(), saved_invstd.as<double>(), 1,
                                           BN2D_ACT_NONE, 0, nullptr, nullptr, nullptr, 0, out,
                                           nullptr, nullptr);
  });
}

TEST_CASE("stateless: empty tensors of any number of channels", "[stateless]") {
  // Catches memory that is asked for, and loops that run, by the number of channels of a tensor
  // without elements, and a weight that is read for it.
  double saved[2] = {};
  const Guarded weight(4, true);
  for (const int64_t c : {int64_t{1} << 20, int64_t{1} << 40, int64_t{1} << 59}) {
    INFO("C " << c);
    for (const Extents &shape : {Extents{0, c, 1, 1}, Extents{1, c, 0, 1}, Extents{1, c, 1, 0}}) {
      const View t(nullptr, BN2D_F32, shape);
      CHECK(bn2d_batch_norm_forward(t, t, t, BN2D_F32, nullptr, nullptr, nullptr, nullptr, 1, 0.1,
                                    1e-5, 0, BN2D_ACT_RELU, 0, nullptr, nullptr,
                                    nullptr) == BN2D_OK);
      CHECK(bn2d_batch_norm_backward(t, t, nullptr, nullptr, BN2D_F32, weight.data(), saved,
                                     saved + 1, 1, BN2D_ACT_RELU, 0, 0.5, t, t, nullptr,
                                     nullptr) == BN2D_OK);
      CHECK(bn2d_batch_norm_double_backward(t, t, nullptr, nullptr, BN2D_F32, weight.data(), saved,
                                            saved + 1, 1, BN2D_ACT_RELU, 0, t, nullptr, nullptr,
                                            0.5, t, t, nullptr) == BN2D_OK);
      const View other(nullptr, BN2D_F32, {0, c + 1, 1, 1});
      check_fails("another number of channels", BN2D_ERROR_SHAPE, [&] {
        return bn2d_batch_norm_backward(other, t, nullptr, nullptr, BN2D_F32, weight.data(), saved,
                                        saved + 1, 1, BN2D_ACT_NONE, 0, 0, t, t, nullptr, nullptr);
      });
    }
  }
}
