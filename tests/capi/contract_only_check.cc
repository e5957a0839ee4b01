// Rules that a single line of the library keeps, where nothing else would notice that it is gone.
#include <algorithm>
#include <cstring>

#include "support/contract_scene.h"

using namespace bn2d_test;

// Catches: a backward that believes dy's shape where x is not read. Its mask, one bit for each recorded element, is
// then read past its end.
TEST_CASE("only check: dy has the recorded shape, also where x is not needed", "[records][views]") {
  const Extents shape{2, 3, 4, 5}, larger{64, 3, 40, 50};
  std::vector<float> x(120), y(120), dy(384000, 1.0f), dx(384000, 7.0f);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7) - 3.0f;
  const Module module = make_module(3);
  REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
  REQUIRE(bn2d_tensor_set_requires_grad(tensor_of(module, "weight").get(), 0) == BN2D_OK);
  for (const int32_t activation : {BN2D_ACT_NONE, BN2D_ACT_LEAKY_RELU}) {
    INFO("activation " << activation);
    bn2d_record *raw = nullptr;
    REQUIRE(bn2d_forward_act(module.get(), View(x.data(), BN2D_F32, shape), nullptr, activation, -0.5,
                             View(y.data(), BN2D_F32, shape), &raw) == BN2D_OK);
    const Record record(raw);
    for (const Extents &other : {larger, Extents{1, 3, 4, 5}, Extents{2, 3, 5, 4}, Extents{0, 3, 4, 5}}) {
      const View gradient(dy.data(), BN2D_F32, other), result(dx.data(), BN2D_F32, other);
      Snapshot before;
      before.add("module", module.get());
      before.add("dx", dx);
      check_fails("dy of another shape", BN2D_ERROR_SHAPE, before, {"dy"},
                  [&] { return bn2d_backward(module.get(), record.get(), gradient, result, nullptr); });
    }
  }
}

// Catches: a value that is refused, but has been taken before it was read to its end.
TEST_CASE("only check: a flag that is refused stays as it was", "[options]") {
  for (const char *before : {"True", "False"}) {
    for (const char *value : {"", "yes", "2", "Truee", "None"}) {
      INFO("\"" << value << "\" after " << before);
      const Options options = make_options();
      for (const char *name : {"affine", "bias", "track_running_stats"}) {
        REQUIRE(bn2d_options_set_by_name(options.get(), name, before) == BN2D_OK);
        CHECK(bn2d_options_set_by_name(options.get(), name, value) == BN2D_ERROR_INVALID_ARGUMENT);
      }
      const bool on = std::strcmp(before, "True") == 0;
      const Module module = make_module(2, options.get());
      CHECK(has_tensor(module, "weight") == on);
      CHECK(has_tensor(module, "bias") == on);
      CHECK(has_tensor(module, "running_mean") == on);
      // bias alone, where there is a weight for it to be beside
      REQUIRE(bn2d_options_set_by_name(options.get(), "affine", "True") == BN2D_OK);
      CHECK(has_tensor(make_module(2, options.get()), "bias") == on);
    }
  }
}

// Catches: a double backward that overwrites the gradient of the weight, which backward has written before.
TEST_CASE("only check: double backward adds to the weight's gradient", "[records]") {
  Scene scene;
  bn2d_module *const module = scene.module.get();
  float *const gradient = data_of<float>(scene.module, "weight.grad");
  const auto double_backward = [&] {
    REQUIRE(bn2d_double_backward(module, scene.record.get(), scene.views["dy"], scene.views["ddx"], nullptr, nullptr,
                                 scene.views["ddy"], nullptr) == BN2D_OK);
  };
  REQUIRE(bn2d_module_zero_grad(module) == BN2D_OK);
  double_backward();
  const std::vector<float> once(gradient, gradient + 6);
  CHECK(std::count(once.begin(), once.end(), 0.0f) == 0);
  double_backward();
  for (size_t c = 0; c < once.size(); ++c) CHECK(gradient[c] == 2 * once[c]);
  std::fill_n(gradient, once.size(), 1024.0f);
  double_backward();
  for (size_t c = 0; c < once.size(); ++c) CHECK(gradient[c] == Approx(1024.0f + once[c]));
}
