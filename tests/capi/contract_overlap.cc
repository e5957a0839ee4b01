// In place, overlapping, interleaved: which tensors of one call may share memory.
#include <algorithm>

#include "support/contract_scene.h"

using namespace bn2d_test;

namespace {

std::vector<float> ramp(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i)
    values[i] = static_cast<float>((i * 37 + i / 7) % 29) * 0.5f - 3;
  return values;
}

float *address(float *base, const Extents &strides, const Extents &index) {
  return base + index[0] * strides[0] + index[1] * strides[1] + index[2] * strides[2] +
         index[3] * strides[3];
}

// Contiguous NCHW values of a strided tensor, and back.
std::vector<float> gather(float *base, const Extents &shape, const Extents &strides) {
  std::vector<float> values;
  for (int64_t n = 0; n < shape[0]; ++n) {
    for (int64_t c = 0; c < shape[1]; ++c) {
      for (int64_t h = 0; h < shape[2]; ++h) {
        for (int64_t w = 0; w < shape[3]; ++w)
          values.push_back(*address(base, strides, {n, c, h, w}));
      }
    }
  }
  return values;
}

// y of a fresh module over contiguous memory of its own: what every other arrangement must give,
// bit for bit.
struct Expected {
  std::vector<float> y, dx;
};
Expected expected_of(const std::vector<float> &x, const Extents &shape) {
  const Module module = make_module(shape[1]);
  give_character(module);
  Expected out{std::vector<float>(x.size()), std::vector<float>(x.size())};
  bn2d_record *raw = nullptr;
  REQUIRE(bn2d_forward_f32(module.get(), x.data(), shape[0], shape[2], shape[3], out.y.data(),
                           &raw) == BN2D_OK);
  const Record record(raw);
  REQUIRE(bn2d_backward_f32(module.get(), raw, x.data(), out.dx.data()) == BN2D_OK);
  return out;
}

// Through leaky relu, because what relu has let through it lets through again: a gradient that went
// through it twice would not show.
void record_leaky(Scene &scene) {
  bn2d_record *raw = nullptr;
  REQUIRE(bn2d_forward_act(scene.module.get(), scene.views["x"], scene.views["z"],
                           BN2D_ACT_LEAKY_RELU, 0.25, scene.views["y"], &raw) == BN2D_OK);
  scene.record.reset(raw);
}

}  // namespace

TEST_CASE("overlap: exactly in place", "[overlap]") {
  // Catches an in-place call that is refused, or that reads what it has already written.
  const Extents shape{2, 6, 3, 5};
  const std::vector<float> x = ramp(180);
  const Expected expected = expected_of(x, shape);
  const auto fresh = [&] {
    Module module = make_module(6);
    give_character(module);
    return module;
  };
  {
    INFO("forward_f32, backward_f32");
    const Module module = fresh();
    std::vector<float> memory = x;
    CHECK(bn2d_forward_f32(module.get(), memory.data(), 2, 3, 5, memory.data(), nullptr) ==
          BN2D_OK);
    CHECK(memory == expected.y);
    bn2d_record *raw = nullptr;
    std::vector<float> y(180);
    REQUIRE(bn2d_forward_f32(module.get(), x.data(), 2, 3, 5, y.data(), &raw) == BN2D_OK);
    const Record record(raw);
    std::vector<float> gradient = x;
    CHECK(bn2d_backward_f32(module.get(), raw, gradient.data(), gradient.data()) == BN2D_OK);
    CHECK(gradient == expected.dx);
  }
  {
    INFO(
        "no strides and explicit contiguous strides, data and data + byte_offset, are the same "
        "memory");
    const Module module = fresh();
    std::vector<float> memory = x;
    const View in(memory.data(), BN2D_F32, shape);
    View out(memory.data() - 4, BN2D_F32, shape, nchw_strides(shape));
    out->byte_offset = 16;
    CHECK(bn2d_forward(module.get(), in, out, nullptr) == BN2D_OK);
    CHECK(memory == expected.y);
  }
  {
    INFO("strided");
    const Module module = fresh();
    const Extents strides{400, 50, 12, 2};
    std::vector<float> memory(1000, 5.0f);
    for (size_t i = 0, n = 0; n < 2; ++n) {
      for (size_t c = 0; c < 6; ++c) {
        for (size_t h = 0; h < 3; ++h) {
          for (size_t w = 0; w < 5; ++w) memory[400 * n + 50 * c + 12 * h + 2 * w] = x[i++];
        }
      }
    }
    const View view(memory.data(), BN2D_F32, shape, strides);
    CHECK(bn2d_forward(module.get(), view, view, nullptr) == BN2D_OK);
    CHECK(gather(memory.data(), shape, strides) == expected.y);
    CHECK(std::count(memory.begin(), memory.end(), 5.0f) >=
          1000 - 180);  // nothing between the elements
  }
  {
    INFO("dz or dx exactly dy");
    for (const bool in_dx : {true, false}) {
      Scene scene, plain;
      for (Scene *one : {&scene, &plain}) {
        record_leaky(*one);
        if (one == &scene) one->views[in_dx ? "dx" : "dz"] = one->views["dy"];
        REQUIRE(bn2d_backward(one->module.get(), one->record.get(), one->views["dy"],
                              one->views["dx"], one->views["dz"]) == BN2D_OK);
      }
      CHECK(std::equal(plain.data("dx"), plain.data("dx") + 180, scene.data(in_dx ? "dy" : "dx")));
      CHECK(std::equal(plain.data("dz"), plain.data("dz") + 180, scene.data(in_dx ? "dz" : "dy")));
    }
  }
  {
    INFO("dz or dx of the second step exactly dy");
    for (const bool in_dx : {true, false}) {
      Scene scene, plain;
      for (Scene *one : {&scene, &plain}) {
        record_leaky(*one);
        bn2d_module *const module = one->module.get();
        double sums[2 * Scene::kC] = {};
        REQUIRE(bn2d_backward_sums(module, one->record.get(), one->views["dy"], sums,
                                   int64_t{2} * Scene::kC) == BN2D_OK);
        if (one == &scene) one->views[in_dx ? "dx" : "dz"] = one->views["dy"];
        REQUIRE(bn2d_backward_with_sums(module, one->record.get(), one->views["dy"], sums,
                                        int64_t{2} * Scene::kC, one->views["dx"],
                                        one->views["dz"]) == BN2D_OK);
      }
      CHECK(std::equal(plain.data("dx"), plain.data("dx") + 180, scene.data(in_dx ? "dy" : "dx")));
      CHECK(std::equal(plain.data("dz"), plain.data("dz") + 180, scene.data(in_dx ? "dz" : "dy")));
    }
  }
  {
    INFO("ddy exactly dy");
    Scene scene, plain;
    for (Scene *one : {&scene, &plain}) {
      if (one == &scene) one->views["ddy"] = one->views["dy"];
      REQUIRE(bn2d_double_backward(one->module.get(), one->record.get(), one->views["dy"],
                                   one->views["ddx"], one->ddweight.data(), one->ddbias.data(),
                                   one->views["ddy"], one->views["dx"]) == BN2D_OK);
    }
    CHECK(std::equal(plain.data("ddy"), plain.data("ddy") + 180, scene.data("dy")));
    CHECK(std::equal(plain.data("dx"), plain.data("dx") + 180, scene.data("dx")));
  }
}

TEST_CASE("overlap: y may be exactly z, also with a record", "[overlap]") {
  // Catches a residual that is overwritten before it is read, and a needless refusal: backward does
  // not need z.
  for (const int32_t activation : {BN2D_ACT_NONE, BN2D_ACT_RELU, BN2D_ACT_LEAKY_RELU}) {
    Scene scene, plain;
    for (Scene *one : {&scene, &plain}) {
      if (one == &scene) one->views["y"] = one->views["z"];
      bn2d_record *raw = nullptr;
      REQUIRE(bn2d_forward_act(one->module.get(), one->views["x"], one->views["z"], activation, 0.5,
                               one->views["y"], &raw) == BN2D_OK);
      one->record.reset(raw);
      REQUIRE(bn2d_backward(one->module.get(), raw, one->views["dy"], one->views["dx"],
                            one->views["dz"]) == BN2D_OK);
    }
    INFO("activation " << activation);
    CHECK(std::equal(plain.data("y"), plain.data("y") + 180, scene.data("z")));
    CHECK(plain.memories["dx"] == scene.memories["dx"]);
    CHECK(plain.memories["dz"] == scene.memories["dz"]);
  }
}

TEST_CASE("overlap: recording batch statistics in place of x is refused", "[overlap][records]") {
  // Catches a record whose x is gone. In place of z, or without a record, or on running statistics
  // it is fine.
  Scene scene;
  scene.views["y"] = scene.views["x"];
  const Snapshot before = scene.snapshot();
  const std::vector<float> x = ramp(180);
  check_fails("forward", BN2D_ERROR_OVERLAP, before, {}, [&] {
    return bn2d_forward(scene.module.get(), scene.views["x"], scene.views["y"], &scene.out_record);
  });
  check_fails("forward_act", BN2D_ERROR_OVERLAP, before, {}, [&] {
    return bn2d_forward_act(scene.module.get(), scene.views["x"], scene.views["z"], BN2D_ACT_RELU,
                            0, scene.views["y"], &scene.out_record);
  });
  check_fails("forward_f32", BN2D_ERROR_OVERLAP, before, {}, [&] {
    return bn2d_forward_f32(scene.module.get(), scene.data("x"), 2, 3, 5, scene.data("x"),
                            &scene.out_record);
  });
  Settings settings;
  settings.track = false;
  const Module untracked = make_module(6, settings);
  REQUIRE(bn2d_module_eval(untracked.get()) == BN2D_OK);
  Snapshot with_untracked = scene.snapshot();
  with_untracked.add("untracked", untracked.get());
  check_fails("eval without running statistics", BN2D_ERROR_OVERLAP, with_untracked, {}, [&] {
    return bn2d_forward(untracked.get(), scene.views["x"], scene.views["y"], &scene.out_record);
  });
  REQUIRE(bn2d_module_eval(scene.module.get()) == BN2D_OK);
  bn2d_record *raw = nullptr;
  CHECK(bn2d_forward(scene.module.get(), scene.views["x"], scene.views["y"], &raw) == BN2D_OK);
  bn2d_record_release(raw);
}

TEST_CASE("overlap: x and y share memory otherwise", "[overlap]") {
  // Catches an overlap check by start address only, or by "same start" for "in place".
  const Extents shape{2, 6, 3, 5};
  struct Case {
    const char *name;
    int64_t shift;
    Extents strides;
  };
  const std::vector<Case> cases = {
      {"one element further", 1, nchw_strides(shape)},
      {"one element before", -1, nchw_strides(shape)},
      {"one row further", 5, nchw_strides(shape)},
      {"the last element only", 179, nchw_strides(shape)},
      {"the first element only", -179, nchw_strides(shape)},
      {"the same start, NHWC over NCHW", 0, nhwc_strides(shape)},
      {"the same start, larger rows", 0, {180, 30, 10, 1}},
      {"the same start, H and W exchanged", 0, {90, 15, 1, 3}},
      {"every other element", 1, {180, 30, 10, 2}},
  };
  for (const Case &one : cases) {
    Scene scene;
    scene.views["y"] = View(scene.data("x") + one.shift, BN2D_F32, shape, one.strides);
    const Snapshot before = scene.snapshot();
    check_fails(std::string("forward, y: ") + one.name, BN2D_ERROR_OVERLAP, before, {}, [&] {
      return bn2d_forward(scene.module.get(), scene.views["x"], scene.views["y"], nullptr);
    });
    check_fails(std::string("forward_act, y: ") + one.name, BN2D_ERROR_OVERLAP, before, {}, [&] {
      return bn2d_forward_act(scene.module.get(), scene.views["x"], nullptr, BN2D_ACT_RELU, 0,
                              scene.views["y"], nullptr);
    });
    check_fails(
        std::string("batch_norm_forward, y: ") + one.name, BN2D_ERROR_OVERLAP, before, {}, [&] {
          return bn2d_batch_norm_forward(scene.views["x"], nullptr, scene.views["y"], BN2D_F32,
                                         nullptr, nullptr, nullptr, nullptr, 1, 0.1, 1e-5, 0,
                                         BN2D_ACT_NONE, 0, nullptr, nullptr, nullptr);
        });
    // z in the place of x.
    scene.views["z"] = View(scene.data("x"), BN2D_F32, shape);
    scene.views["x"] = View(scene.data("ddx"), BN2D_F32, shape);
    check_fails(std::string("forward_act, y against z: ") + one.name, BN2D_ERROR_OVERLAP, before,
                {}, [&] {
                  return bn2d_forward_act(scene.module.get(), scene.views["x"], scene.views["z"],
                                          BN2D_ACT_RELU, 0, scene.views["y"], nullptr);
                });
    // And dx, dz, ddy against dy.
    scene.views["dy"] = View(scene.data("x"), BN2D_F32, shape);
    for (const char *output : {"dx", "dz"}) {
      const View good = scene.views[output];
      scene.views[output] = scene.views["y"];
      check_fails(std::string("backward, ") + output + " against dy: " + one.name,
                  BN2D_ERROR_OVERLAP, before, {}, [&] {
                    return bn2d_backward(scene.module.get(), scene.record.get(), scene.views["dy"],
                                         scene.views["dx"], scene.views["dz"]);
                  });
      scene.views[output] = good;
    }
    for (const char *output : {"ddy", "dx"}) {
      const View good = scene.views[output];
      scene.views[output] = scene.views["y"];
      check_fails(std::string("double_backward, ") + output + " against dy: " + one.name,
                  BN2D_ERROR_OVERLAP, before, {}, [&] {
                    return bn2d_double_backward(scene.module.get(), scene.record.get(),
                                                scene.views["dy"], nullptr, scene.ddweight.data(),
                                                nullptr, scene.views["ddy"], scene.views["dx"]);
                  });
      scene.views[output] = good;
    }
  }
}

TEST_CASE("overlap: y is not the module's counter", "[overlap]") {
  // Catches a counter that is written into y after the forward. In eval mode nothing counts.
  const Module module = make_module(1);
  void *counter = nullptr;
  REQUIRE(bn2d_tensor_data(tensor_of(module, "num_batches_tracked").get(), &counter) == BN2D_OK);
  const float x[2] = {1, 3};
  CHECK(bn2d_forward_f32(module.get(), x, 1, 1, 2, static_cast<float *>(counter), nullptr) ==
        BN2D_ERROR_OVERLAP);
  CHECK(std::string(bn2d_last_error()).find("num_batches_tracked at ") == 0);
  CHECK(*static_cast<int64_t *>(counter) == 0);
  REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
  CHECK(bn2d_forward_f32(module.get(), x, 1, 1, 2, static_cast<float *>(counter), nullptr) ==
        BN2D_OK);
}

TEST_CASE("overlap: contiguous pointers", "[overlap]") {
  // Catches the plain calls, which have no views to check.
  const Module module = make_module(3);
  std::vector<float> memory = ramp(64);
  bn2d_record *raw = nullptr;
  std::vector<float> y(24);
  REQUIRE(bn2d_forward_f32(module.get(), memory.data(), 2, 2, 2, y.data(), &raw) == BN2D_OK);
  const Record record(raw);
  Snapshot before;
  before.add("memory", memory);
  before.add("module", module.get());
  for (const int shift : {1, 4, 23}) {
    check_fails("forward_f32", BN2D_ERROR_OVERLAP, before, {}, [&] {
      return bn2d_forward_f32(module.get(), memory.data(), 2, 2, 2, memory.data() + shift, nullptr);
    });
    check_fails("forward_f32", BN2D_ERROR_OVERLAP, before, {}, [&] {
      return bn2d_forward_f32(module.get(), memory.data() + shift, 2, 2, 2, memory.data(), nullptr);
    });
    check_fails("backward_f32", BN2D_ERROR_OVERLAP, before, {},
                [&] { return bn2d_backward_f32(module.get(), raw, y.data(), y.data() + shift); });
  }
  CHECK(bn2d_forward_f32(module.get(), memory.data(), 2, 2, 2, memory.data() + 24, nullptr) ==
        BN2D_OK);  // neighbours
  CHECK(bn2d_forward_f32(module.get(), memory.data() + 24, 2, 2, 2, memory.data(), nullptr) ==
        BN2D_OK);
}

TEST_CASE("overlap: outputs of one backward share nothing, and leave the record's x alone",
          "[overlap]") {
  // Catches two outputs in the same place, of which one would be lost, and a gradient over a
  // borrowed tensor.
  Scene scene;
  const Snapshot before = scene.snapshot();
  const auto backward = [&](const View &dy, const View &dx, const View &dz) {
    return bn2d_backward(scene.module.get(), scene.record.get(), dy, dx, dz);
  };
  const View dy = scene.views["dy"], dx = scene.views["dx"], dz = scene.views["dz"];
  View shifted = dx;
  shifted->byte_offset = 4;
  check_fails("dz exactly dx", BN2D_ERROR_OVERLAP, before, {},
              [&] { return backward(dy, dx, dx); });
  check_fails("dx and dz both dy", BN2D_ERROR_OVERLAP, before, {},
              [&] { return backward(dy, dy, dy); });
  check_fails("dz over dx", BN2D_ERROR_OVERLAP, before, {},
              [&] { return backward(dy, dx, shifted); });
  check_fails("dx is x", BN2D_ERROR_OVERLAP, before, {},
              [&] { return backward(dy, scene.views["x"], dz); });
  check_fails("dz is x", BN2D_ERROR_OVERLAP, before, {},
              [&] { return backward(dy, dx, scene.views["x"]); });
  check_fails("dx is y", BN2D_ERROR_OVERLAP, before, {},
              [&] { return backward(dy, scene.views["y"], dz); });
  check_fails("dz is y", BN2D_ERROR_OVERLAP, before, {},
              [&] { return backward(dy, dx, scene.views["y"]); });
  check_fails("ddy and dx the same", BN2D_ERROR_OVERLAP, before, {}, [&] {
    return bn2d_double_backward(scene.module.get(), scene.record.get(), dy, scene.views["ddx"],
                                nullptr, nullptr, dx, dx);
  });
  for (const char *output : {"ddy", "dx"}) {
    const View good = scene.views[output];
    scene.views[output] = scene.views["ddx"];
    check_fails(std::string(output) + " is ddx", BN2D_ERROR_OVERLAP, before, {}, [&] {
      return bn2d_double_backward(scene.module.get(), scene.record.get(), dy, scene.views["ddx"],
                                  nullptr, nullptr, scene.views["ddy"], scene.views["dx"]);
    });
    scene.views[output] = good;
  }
  check_fails("dx is x, in double_backward", BN2D_ERROR_OVERLAP, before, {}, [&] {
    return bn2d_double_backward(scene.module.get(), scene.record.get(), dy, scene.views["ddx"],
                                nullptr, nullptr, scene.views["ddy"], scene.views["x"]);
  });
  CHECK(backward(dy, dx, dz) == BN2D_OK);
}

TEST_CASE("overlap: interleaved slices that share no element are fine", "[overlap]") {
  // Catches an overlap check by address range: halves of the channels, samples, rows and columns of
  // one allocation.
  const Extents big{4, 8, 6, 10};
  for (const bool nhwc : {false, true}) {
    const Extents strides = nhwc ? nhwc_strides(big) : nchw_strides(big);
    for (size_t dimension = 0; dimension < 4; ++dimension) {
      for (const bool alternate :
           {false, true}) {  // [::2] and [1::2], or the first and the second half
        INFO("nhwc " << nhwc << " dimension " << dimension << " alternate " << alternate);
        std::vector<float> memory = ramp(static_cast<size_t>(count_of(big)));
        Extents shape = big, slice = strides;
        shape[dimension] /= 2;
        if (alternate) slice[dimension] *= 2;
        const int64_t shift =
            alternate ? strides[dimension] : strides[dimension] * shape[dimension];
        const std::vector<float> x = gather(memory.data(), shape, slice);
        const Expected expected = expected_of(x, shape);
        const Module module = make_module(shape[1]);
        give_character(module);
        const View first(memory.data(), BN2D_F32, shape, slice);
        const View second(memory.data() + shift, BN2D_F32, shape, slice);
        bn2d_record *raw = nullptr;
        CHECK(bn2d_forward(module.get(), first, second, &raw) == BN2D_OK);
        const Record record(raw);
        CHECK(gather(memory.data(), shape, slice) == x);
        const std::vector<float> y = gather(memory.data() + shift, shape, slice);
        CHECK(y == expected.y);
        if (raw == nullptr) continue;
        CHECK(bn2d_backward(module.get(), raw, first, second, nullptr) == BN2D_OK);
        CHECK(gather(memory.data(), shape, slice) == x);
        CHECK(bn2d_forward(module.get(), second, first, nullptr) == BN2D_OK);
      }
    }
  }
}

TEST_CASE("overlap: elements of the slices' neighbours stay as they are", "[overlap]") {
  // Catches a kernel that writes whole vectors over the end of a short row.
  for (int64_t width = 1; width <= 40; ++width) {
    const Extents shape{2, 3, 3, width}, strides{9 * 64, 3 * 64, 64, 1};
    std::vector<float> memory(18 * 64, 7.0f), x = ramp(18 * 64);
    const Module module = make_module(3);
    const View in(x.data(), BN2D_F32, shape, strides), out(memory.data(), BN2D_F32, shape, strides);
    bn2d_record *raw = nullptr;
    REQUIRE(bn2d_forward(module.get(), in, out, &raw) == BN2D_OK);
    const Record record(raw);
    const auto untouched = [&] {
      bool same = true;
      for (size_t i = 0; i < memory.size(); ++i) {
        same = same && (static_cast<int64_t>(i % 64) < width || memory[i] == 7.0f);
      }
      return same;
    };
    INFO("width " << width);
    CHECK(untouched());
    REQUIRE(bn2d_backward(module.get(), raw, in, out, nullptr) == BN2D_OK);
    CHECK(untouched());
  }
}
