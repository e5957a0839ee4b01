// Rules that a single line of the library keeps, where nothing else would notice that it is gone.
#include <algorithm>
#include <cstring>

#include "support/contract_dlpack.h"
#include "support/contract_scene.h"

using namespace bn2d_test;

// Catches: a backward that believes dy's shape where x is not read. Its mask, one bit for each
// recorded element, is then read past its end.
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
    REQUIRE(bn2d_forward_act(module.get(), View(x.data(), BN2D_F32, shape), nullptr, activation,
                             -0.5, View(y.data(), BN2D_F32, shape), &raw) == BN2D_OK);
    const Record record(raw);
    for (const Extents &other :
         {larger, Extents{1, 3, 4, 5}, Extents{2, 3, 5, 4}, Extents{0, 3, 4, 5}}) {
      const View gradient(dy.data(), BN2D_F32, other), result(dx.data(), BN2D_F32, other);
      Snapshot before;
      before.add("module", module.get());
      before.add("dx", dx);
      check_fails("dy of another shape", BN2D_ERROR_SHAPE, before, {"dy"}, [&] {
        return bn2d_backward(module.get(), record.get(), gradient, result, nullptr);
      });
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

// Catches: a double backward that overwrites the gradient of the weight, which backward has written
// before.
TEST_CASE("only check: double backward adds to the weight's gradient", "[records]") {
  Scene scene;
  bn2d_module *const module = scene.module.get();
  float *const gradient = data_of<float>(scene.module, "weight.grad");
  const auto double_backward = [&] {
    REQUIRE(bn2d_double_backward(module, scene.record.get(), scene.views["dy"], scene.views["ddx"],
                                 nullptr, nullptr, scene.views["ddy"], nullptr) == BN2D_OK);
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

// Catches: a parameter's end that forgets the handle of its gradient, which then lives for ever.
TEST_CASE("only check: a gradient's handle ends with its parameter", "[lifetime]") {
  Module module = make_module(3);
  Tensor weight = tensor_of(module, "weight");
  bn2d_tensor *const gradient = given_back(tensor_of(module, "weight.grad"));
  int32_t rank = 0;
  CHECK(bn2d_tensor_rank(gradient, &rank) == BN2D_OK);
  module.reset();
  CHECK(bn2d_tensor_rank(gradient, &rank) == BN2D_OK);
  weight.reset();
  CHECK(bn2d_tensor_rank(gradient, &rank) == BN2D_ERROR_INVALID_HANDLE);
}

// Catches: an export without strides, which DLPack has not allowed since 1.2.
TEST_CASE("only check: an exported vector says its stride", "[dlpack]") {
  const Module module = make_module(3);
  const Tensor weight = tensor_of(module, "weight");
  DLManagedTensor *legacy = nullptr;
  DLManagedTensorVersioned *versioned = nullptr;
  REQUIRE(bn2d_tensor_to_dlpack_legacy(weight.get(), &legacy) == BN2D_OK);
  REQUIRE(bn2d_tensor_to_dlpack(weight.get(), &versioned) == BN2D_OK);
  for (const DLTensorMirror *tensor : {&legacy->dl_tensor, &versioned->dl_tensor}) {
    REQUIRE(tensor->strides != nullptr);
    CHECK(tensor->strides[0] == 1);
  }
  legacy->deleter(legacy);
  versioned->deleter(versioned);
}

// Catches: bytes that decode to a character of ASCII, but are no UTF-8, in the text of an error.
TEST_CASE("only check: an error repeats no overlong or surrogate character", "[names]") {
  for (const char *name :
       {"\xE0\x80\xAF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x80\x80\xAF", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xC0\xAF", "\xC1\xBF", "\xF5\x80\x80\x80", "\x80", "\xE2\x82"}) {
    int64_t value = 0;
    REQUIRE(bn2d_constant_by_name(name, &value) == BN2D_ERROR_NOT_FOUND);
    CHECK(std::string(bn2d_last_error()) ==
          "no constant is named '" + std::string(std::strlen(name), '?') + "'");
  }
  for (const char *name : {"\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xF0\x90\x80\x80",
                           "\xF4\x8F\xBF\xBF", "\xC2\x80", "\xDF\xBF"}) {
    int64_t value = 0;
    REQUIRE(bn2d_constant_by_name(name, &value) == BN2D_ERROR_NOT_FOUND);
    CHECK(std::string(bn2d_last_error()) == "no constant is named '" + std::string(name) + "'");
  }
}

// Catches: a gradient of more channels than a group has, of which only the first group is scaled
// where there are no elements to sum.
TEST_CASE("only check: backward of no elements scales the gradients of all channels",
          "[stateless]") {
  constexpr int64_t kChannels = 300;
  const std::vector<double> statistics(kChannels, 1.0);
  for (const double blend : {0.5, 0.0}) {
    std::vector<float> dweight(kChannels, 4.0f), dbias(kChannels, 8.0f);
    const View empty(nullptr, BN2D_F32, {0, kChannels, 2, 2});
    REQUIRE(bn2d_batch_norm_backward(empty, empty, nullptr, nullptr, BN2D_F32, nullptr,
                                     statistics.data(), statistics.data(), 1, BN2D_ACT_NONE, 0,
                                     blend, empty, nullptr, dweight.data(),
                                     dbias.data()) == BN2D_OK);
    CHECK(dweight == std::vector<float>(kChannels, static_cast<float>(4 * blend)));
    CHECK(dbias == std::vector<float>(kChannels, static_cast<float>(8 * blend)));
    dweight.assign(kChannels, 4.0f);
    REQUIRE(bn2d_batch_norm_double_backward(empty, empty, nullptr, nullptr, BN2D_F32, nullptr,
                                            statistics.data(), statistics.data(), 1, BN2D_ACT_NONE,
                                            0, nullptr, nullptr, nullptr, blend, empty, nullptr,
                                            dweight.data()) == BN2D_OK);
    CHECK(dweight == std::vector<float>(kChannels, static_cast<float>(4 * blend)));
  }
}

// Catches: a relu that leaks, because the slope of leaky relu reached it.
TEST_CASE("only check: relu ignores the slope", "[records][stateless]") {
  const auto run = [](double slope) {
    Scene scene;
    bn2d_module *const module = scene.module.get();
    std::vector<float> all;
    const auto keep = [&](const char *name) {
      all.insert(all.end(), scene.memories[name].begin(), scene.memories[name].end());
    };
    REQUIRE(bn2d_module_zero_grad(module) == BN2D_OK);
    for (const bn2d_view *z : {static_cast<const bn2d_view *>(nullptr), scene.views["z"].get()}) {
      bn2d_record *raw = nullptr;
      REQUIRE(bn2d_forward_act(module, scene.views["x"], z, BN2D_ACT_RELU, slope, scene.views["y"],
                               &raw) == BN2D_OK);
      const Record record(raw);
      keep("y");
      REQUIRE(bn2d_backward(module, raw, scene.views["dy"], scene.views["dx"], scene.views["dz"]) ==
              BN2D_OK);
      keep("dx");
      keep("dz");
      REQUIRE(bn2d_double_backward(module, raw, scene.views["dy"], scene.views["ddx"], nullptr,
                                   nullptr, scene.views["ddy"], scene.views["dx"]) == BN2D_OK);
      keep("ddy");
      keep("dx");
    }
    REQUIRE(bn2d_batch_norm_backward(scene.views["x"], scene.views["dy"], scene.views["y"], nullptr,
                                     BN2D_F32, scene.weight.data(), scene.saved_mean.data(),
                                     scene.saved_invstd.data(), 1, BN2D_ACT_RELU, slope, 0,
                                     scene.views["dx"], scene.views["dz"], scene.dweight.data(),
                                     scene.dbias.data()) == BN2D_OK);
    keep("dx");
    keep("dz");
    all.insert(all.end(), scene.dweight.begin(), scene.dweight.end());
    all.insert(all.end(), scene.dbias.begin(), scene.dbias.end());
    const float *const dweight = data_of<float>(scene.module, "weight.grad");
    all.insert(all.end(), dweight, dweight + Scene::kC);
    return all;
  };
  const std::vector<float> want = run(0);
  CHECK(run(0.75) == want);
  CHECK(run(-3) == want);
}

// Catches: one release too many that takes the module's hold, so that the next caller's reference
// fills the gap and is gone when the module ends.
TEST_CASE("only check: a reference taken after one release too many outlives the module",
          "[lifetime]") {
  Module module = make_module(3);
  bn2d_tensor *const stale = given_back(tensor_of(module, "weight"));
  bn2d_tensor_release(stale);  // and once more
  Tensor weight = tensor_of(module, "weight");
  module.reset();
  int32_t rank = 0;
  REQUIRE(bn2d_tensor_rank(weight.get(), &rank) == BN2D_OK);
  CHECK(data_of<float>(weight)[2] == 1.0f);
  weight.reset();
  CHECK(bn2d_tensor_rank(stale, &rank) == BN2D_ERROR_INVALID_HANDLE);
}
