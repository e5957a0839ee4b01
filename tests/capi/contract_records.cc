// Records: what they keep, what they borrow, what they refuse.
#include <algorithm>
#include <limits>
#include <thread>

#include "support/contract_scene.h"

using namespace bn2d_test;

namespace {

struct Gradients {
  std::vector<float> dx, dz, dweight, dbias;
  bool operator==(const Gradients &other) const {
    return dx == other.dx && dz == other.dz && dweight == other.dweight && dbias == other.dbias;
  }
};

// A backward from zero gradients.
Gradients gradients_of(Scene &scene) {
  REQUIRE(bn2d_module_zero_grad(scene.module.get()) == BN2D_OK);
  REQUIRE(bn2d_backward(scene.module.get(), scene.record.get(), scene.views["dy"],
                        scene.views["dx"], scene.views["dz"]) == BN2D_OK);
  const float *dweight = data_of<float>(scene.module, "weight.grad"),
              *dbias = data_of<float>(scene.module, "bias.grad");
  return {scene.memories["dx"], scene.memories["dz"], {dweight, dweight + 6}, {dbias, dbias + 6}};
}

void record_again(Scene &scene, int32_t activation, double slope) {
  bn2d_record *raw = nullptr;
  REQUIRE(bn2d_forward_act(scene.module.get(), scene.views["x"], scene.views["z"], activation,
                           slope, scene.views["y"], &raw) == BN2D_OK);
  scene.record.reset(raw);
}

}  // namespace

TEST_CASE("records: used twice gives twice the gradient", "[records]") {
  // Catches a record that backward uses up, and a gradient that is overwritten instead of
  // accumulated.
  Scene scene;
  const Gradients once = gradients_of(scene);
  REQUIRE(bn2d_backward(scene.module.get(), scene.record.get(), scene.views["dy"],
                        scene.views["dx"], scene.views["dz"]) == BN2D_OK);
  CHECK(scene.memories["dx"] == once.dx);
  CHECK(scene.memories["dz"] == once.dz);
  for (size_t c = 0; c < 6; ++c) {
    CHECK(data_of<float>(scene.module, "weight.grad")[c] == 2 * once.dweight[c]);
    CHECK(data_of<float>(scene.module, "bias.grad")[c] == 2 * once.dbias[c]);
  }
  CHECK(gradients_of(scene) == once);  // and the same bits again from zero
}

TEST_CASE("records: statistics and weight are those of its forward", "[records]") {
  // Catches a backward that reads weight, running statistics, mode or eps from the module of today.
  for (const bool eval : {false, true}) {
    for (const int32_t activation : {BN2D_ACT_NONE, BN2D_ACT_RELU, BN2D_ACT_LEAKY_RELU}) {
      INFO("eval " << eval << " activation " << activation);
      Scene scene;
      REQUIRE(bn2d_module_train(scene.module.get(), !eval) == BN2D_OK);
      record_again(scene, activation, 0.25);
      const Gradients expected = gradients_of(scene);
      for (const char *name : {"weight", "bias", "running_mean", "running_var"}) {
        std::fill_n(data_of<float>(scene.module, name), 6, 19.0f);
      }
      CHECK(gradients_of(scene) == expected);
      REQUIRE(bn2d_module_reset_parameters(scene.module.get()) == BN2D_OK);
      CHECK(gradients_of(scene) == expected);
      REQUIRE(bn2d_module_train(scene.module.get(), eval) == BN2D_OK);  // the other mode
      CHECK(gradients_of(scene) == expected);
      const View other_x(scene.data("ddx"), BN2D_F32, {4, 6, 2, 2}),
          other_y(scene.data("ddy"), BN2D_F32, {4, 6, 2, 2});
      bn2d_record *raw = nullptr;
      REQUIRE(bn2d_forward(scene.module.get(), other_x, other_y, &raw) ==
              BN2D_OK);  // another forward
      CHECK(gradients_of(scene) == expected);
      bn2d_record_release(raw);
      REQUIRE(bn2d_module_set_num_threads(scene.module.get(), 1) == BN2D_OK);
      CHECK(gradients_of(scene) == expected);
    }
  }
}

TEST_CASE("records: a negative slope needs no y", "[records]") {
  // Catches a side that is read off y where y cannot tell; the mask lives in the record, so y may
  // go.
  for (const bool eval : {false, true}) {
    Scene scene;
    REQUIRE(bn2d_module_train(scene.module.get(), !eval) == BN2D_OK);
    record_again(scene, BN2D_ACT_LEAKY_RELU, -0.5);
    const Gradients expected = gradients_of(scene);
    std::fill(scene.memories["y"].begin(), scene.memories["y"].end(), 5.0f);
    CHECK(gradients_of(scene) == expected);
  }
}

TEST_CASE("records: without an activation y is not borrowed", "[records]") {
  // Catches a record that looks at y for no reason: the caller may reuse that memory.
  Scene scene;
  record_again(scene, BN2D_ACT_NONE, 0);
  const Gradients expected = gradients_of(scene);
  for (const char *free_to_change : {"y", "z"}) {
    std::fill(scene.memories[free_to_change].begin(), scene.memories[free_to_change].end(), 5.0f);
  }
  CHECK(gradients_of(scene) == expected);
  CHECK(expected.dz == gradients_of(scene).dz);
  CHECK(std::equal(scene.data("dy"), scene.data("dy") + 180,
                   scene.data("dz")));  // no activation: dz is dy
}

TEST_CASE("records: of another module", "[records]") {
  // Catches a record that is used with the wrong weights, also where the other module lies where
  // the first one was.
  Scene scene;
  const Snapshot before = scene.snapshot();
  const auto refuse = [&](const Module &other, const char *what) {
    check_fails(what, BN2D_ERROR_STATE, before, {}, [&] {
      return bn2d_backward(other.get(), scene.record.get(), scene.views["dy"], scene.views["dx"],
                           scene.views["dz"]);
    });
    check_fails(what, BN2D_ERROR_STATE, before, {}, [&] {
      return bn2d_backward_f32(other.get(), scene.record.get(), scene.data("dy"), scene.data("dx"));
    });
    check_fails(what, BN2D_ERROR_STATE, before, {}, [&] {
      return bn2d_double_backward(other.get(), scene.record.get(), scene.views["dy"],
                                  scene.views["ddx"], nullptr, nullptr, scene.views["ddy"],
                                  scene.views["dx"]);
    });
  };
  const Module other = make_module(6);
  refuse(other, "another module of the same shape");
  refuse(make_module(6), "and one more");
  refuse(make_module(5), "of other channels: dy is not what does not fit");

  Module first = make_module(6);
  std::vector<float> x(12), y(12);
  for (size_t i = 0; i < 12; ++i) x[i] = static_cast<float>(i * i);
  bn2d_record *raw = nullptr;
  REQUIRE(bn2d_forward_f32(first.get(), x.data(), 2, 1, 1, y.data(), &raw) == BN2D_OK);
  const Record orphan(raw);
  first.reset();
  std::vector<Module> later;
  for (int i = 0; i < 64; ++i)
    later.push_back(make_module(6));  // one of them may get the memory of the first
  int accepted = 0;
  for (const Module &module : later) {
    if (bn2d_backward_f32(module.get(), raw, x.data(), y.data()) != BN2D_ERROR_STATE) ++accepted;
  }
  CHECK(accepted == 0);
}

TEST_CASE("records: outlive their module", "[records]") {
  // Catches a record that points into its module.
  bn2d_record *raw = nullptr;
  std::vector<float> x = {1, 2, 3, 5}, y(4);
  {
    const Module module = make_module(2);
    REQUIRE(bn2d_forward_f32(module.get(), x.data(), 2, 1, 1, y.data(), &raw) == BN2D_OK);
  }
  Record record(raw);
  CHECK(bn2d_record_retain(raw) == BN2D_OK);
  bn2d_record_release(raw);
  std::thread([&] { record.reset(); }).join();  // and are released on another thread
  CHECK(bn2d_record_retain(raw) == BN2D_ERROR_INVALID_HANDLE);
}

TEST_CASE("records: used and released on other threads", "[records][threads]") {
  // Catches state of a record that belongs to the thread of its forward.
  Scene scene, plain;
  const Gradients expected = gradients_of(plain);
  int32_t status = BN2D_ERROR_INTERNAL;
  std::thread([&] {
    status = bn2d_backward(scene.module.get(), scene.record.get(), scene.views["dy"],
                           scene.views["dx"], scene.views["dz"]);
    scene.record.reset();
  }).join();
  CHECK(status == BN2D_OK);
  CHECK(scene.memories["dx"] == expected.dx);
  CHECK(scene.memories["dz"] == expected.dz);
}

TEST_CASE("records: frozen in place of x", "[records]") {
  // Catches a weight gradient from an x that is overwritten, and a refusal where only dx or the
  // bias is wanted.
  const Module module = make_module(3);
  give_character(module);
  REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
  std::vector<float> x(12), dy(12), dx(12), y(12), expected(12);
  for (size_t i = 0; i < 12; ++i) {
    x[i] = static_cast<float>(i) - 5;
    dy[i] = static_cast<float>(i % 5) - 1.5f;
  }
  for (const int32_t activation : {BN2D_ACT_NONE, BN2D_ACT_RELU}) {
    INFO("activation " << activation);
    const Extents shape{2, 3, 2, 1};
    const Tensor weight = tensor_of(module, "weight");
    REQUIRE(bn2d_tensor_set_requires_grad(weight.get(), 1) == BN2D_OK);
    REQUIRE(bn2d_module_zero_grad(module.get()) == BN2D_OK);
    const View view_x(x.data(), BN2D_F32, shape), view_dy(dy.data(), BN2D_F32, shape),
        view_y(y.data(), BN2D_F32, shape);
    const View view_expected(expected.data(), BN2D_F32, shape), view_dx(dx.data(), BN2D_F32, shape);
    bn2d_record *raw = nullptr;
    REQUIRE(bn2d_forward_act(module.get(), view_x, nullptr, activation, 0, view_y, &raw) ==
            BN2D_OK);
    const Record apart(raw);
    REQUIRE(bn2d_backward(module.get(), raw, view_dy, view_expected, nullptr) == BN2D_OK);
    const float dbias = data_of<float>(module, "bias.grad")[1];

    std::vector<float> memory = x;
    const View in_place(memory.data(), BN2D_F32, shape);
    REQUIRE(bn2d_forward_act(module.get(), in_place, nullptr, activation, 0, in_place, &raw) ==
            BN2D_OK);
    const Record record(raw);
    CHECK(memory == y);
    Snapshot before;
    before.add("module", module.get());
    before.add("dx", dx);
    before.add("memory", memory);
    check_fails("the weight's gradient needs x", BN2D_ERROR_STATE, before, {},
                [&] { return bn2d_backward(module.get(), raw, view_dy, view_dx, nullptr); });
    check_fails("the weight's gradient needs x", BN2D_ERROR_STATE, before, {},
                [&] { return bn2d_backward_f32(module.get(), raw, dy.data(), dx.data()); });
    REQUIRE(bn2d_tensor_set_requires_grad(weight.get(), 0) == BN2D_OK);
    REQUIRE(bn2d_module_zero_grad(module.get()) == BN2D_OK);
    CHECK(bn2d_backward(module.get(), raw, view_dy, view_dx, nullptr) == BN2D_OK);
    CHECK(dx == expected);
    CHECK(data_of<float>(module, "bias.grad")[1] == dbias);
    CHECK(data_of<float>(module, "weight.grad")[1] == 0.0f);
  }
}

TEST_CASE("records: any output of backward may be left out", "[records]") {
  // Catches an output that is written or needed although it is not wanted, and results that depend
  // on what else is wanted.
  for (const bool eval : {false, true}) {
    Scene scene;
    REQUIRE(bn2d_module_train(scene.module.get(), !eval) == BN2D_OK);
    record_again(scene, BN2D_ACT_LEAKY_RELU, 0.25);
    const Gradients all = gradients_of(scene);
    for (int wanted = 0; wanted < 16; ++wanted) {
      INFO("eval " << eval << " wanted " << wanted);
      const bool dx = (wanted & 1) != 0, dz = (wanted & 2) != 0;
      REQUIRE(bn2d_module_zero_grad(scene.module.get()) == BN2D_OK);
      REQUIRE(bn2d_tensor_set_requires_grad(tensor_of(scene.module, "weight").get(),
                                            (wanted & 4) != 0) == BN2D_OK);
      REQUIRE(bn2d_tensor_set_requires_grad(tensor_of(scene.module, "bias").get(),
                                            (wanted & 8) != 0) == BN2D_OK);
      std::fill(scene.memories["dx"].begin(), scene.memories["dx"].end(), -3.0f);
      std::fill(scene.memories["dz"].begin(), scene.memories["dz"].end(), -3.0f);
      const bn2d_view *view_dx = dx ? scene.views["dx"].get() : nullptr;
      const bn2d_view *view_dz = dz ? scene.views["dz"].get() : nullptr;
      REQUIRE(bn2d_backward(scene.module.get(), scene.record.get(), scene.views["dy"], view_dx,
                            view_dz) == BN2D_OK);
      const auto part = [](const std::vector<float> &v) {
        return std::vector<float>(v.begin() + Scene::kMargin, v.begin() + Scene::kMargin + 180);
      };
      const std::vector<float> untouched(180, -3.0f), zero(6, 0.0f);
      CHECK(part(scene.memories["dx"]) == (dx ? part(all.dx) : untouched));
      CHECK(part(scene.memories["dz"]) == (dz ? part(all.dz) : untouched));
      const float *dweight = data_of<float>(scene.module, "weight.grad");
      const float *dbias = data_of<float>(scene.module, "bias.grad");
      CHECK(std::vector<float>(dweight, dweight + 6) == ((wanted & 4) != 0 ? all.dweight : zero));
      CHECK(std::vector<float>(dbias, dbias + 6) == ((wanted & 8) != 0 ? all.dbias : zero));
    }
  }
}

TEST_CASE("records: gradients take over any layout", "[records]") {
  // Catches a contiguous backward that assumes that x was contiguous, too: of a record only the
  // extents count.
  Scene scene, plain;
  const View nhwc_y(scene.data("y"), BN2D_F32, Scene::kShape, nhwc_strides(Scene::kShape));
  View nhwc_x(scene.data("x"), BN2D_F32, Scene::kShape, nhwc_strides(Scene::kShape));
  for (int64_t n = 0; n < 2; ++n) {
    for (int64_t c = 0; c < 6; ++c) {
      for (int64_t p = 0; p < 15; ++p) {
        scene.data("x")[n * 90 + p * 6 + c] = plain.data("x")[n * 90 + c * 15 + p];
      }
    }
  }
  bn2d_record *raw = nullptr;
  REQUIRE(bn2d_forward(scene.module.get(), nhwc_x, nhwc_y, &raw) == BN2D_OK);
  scene.record.reset(raw);
  REQUIRE(bn2d_forward(plain.module.get(), plain.views["x"], plain.views["y"], &raw) == BN2D_OK);
  plain.record.reset(raw);
  for (Scene *one : {&scene, &plain}) {
    REQUIRE(bn2d_backward_f32(one->module.get(), one->record.get(), one->data("dy"),
                              one->data("dx")) == BN2D_OK);
  }
  CHECK(std::equal(scene.data("dx"), scene.data("dx") + 180, plain.data("dx")));
}

TEST_CASE("records: a failing backward accumulates nothing", "[records]") {
  // Catches gradients that are added before the outputs are checked (the accumulators hold
  // something here).
  Scene scene;
  (void)gradients_of(scene);
  const Snapshot before = scene.snapshot();
  scene.views["dz"].set_extent(3, 4);
  check_fails("dz of another width", BN2D_ERROR_SHAPE, before, {"4", "5"}, [&] {
    return bn2d_backward(scene.module.get(), scene.record.get(), scene.views["dy"],
                         scene.views["dx"], scene.views["dz"]);
  });
}
