// The contract of group, instance and ghost batch norm: what is refused, defaults, modes, counters,
// empty batches.
#include <cmath>
#include <limits>

#include "support/contract_world.h"

using namespace bn2d_test;

namespace {

Options bare_options() {
  bn2d_options *raw = nullptr;
  REQUIRE(bn2d_options_create(&raw) == BN2D_OK);
  return Options(raw);
}

Module group_norm(int64_t groups, int64_t channels, const bn2d_options *options = nullptr) {
  bn2d_module *raw = nullptr;
  REQUIRE(bn2d_group_norm_create(groups, channels, options, &raw) == BN2D_OK);
  return Module(raw);
}

Module instance_norm(int64_t channels, const bn2d_options *options = nullptr) {
  bn2d_module *raw = nullptr;
  REQUIRE(bn2d_instance_norm_create(channels, options, &raw) == BN2D_OK);
  return Module(raw);
}

Module tracking_instance_norm(int64_t channels, bool with_momentum = true) {
  const Options options = bare_options();
  REQUIRE(bn2d_options_set_track_running_stats(options.get(), 1) == BN2D_OK);
  if (!with_momentum) REQUIRE(bn2d_options_set_momentum_none(options.get()) == BN2D_OK);
  return instance_norm(channels, options.get());
}

Module ghost_norm(int64_t channels, int64_t samples) {
  const Options options = bare_options();
  REQUIRE(bn2d_options_set_ghost_batch_size(options.get(), samples) == BN2D_OK);
  return make_module(channels, options.get());
}

int32_t norm_of(const Module &module) {
  int32_t norm = -1;
  REQUIRE(bn2d_module_norm(module.get(), &norm) == BN2D_OK);
  return norm;
}

int64_t number_of(const Module &module, int32_t (*getter)(const bn2d_module *, int64_t *)) {
  int64_t number = -1;
  REQUIRE(getter(module.get(), &number) == BN2D_OK);
  return number;
}

std::vector<float> floats(const Module &module, const char *name, int64_t channels) {
  const float *const data = data_of<float>(module, name);
  return {data, data + channels};
}

constexpr size_t kCount = 3 * 4 * 2 * 3;
// Data of which no two channels or samples have the same.
std::vector<float> numbers(size_t count, unsigned seed = 1) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i)
    values[i] = static_cast<float>((i * 37 + seed * 11) % 29) * 0.25f - 2.0f;
  return values;
}

}  // namespace

TEST_CASE("norms contract: kinds, defaults and texts", "[norms]") {
  // Catches defaults of another norm, a kind that is not told, and a text that differs from
  // PyTorch's in a blank.
  const Module group = group_norm(2, 4), layer = group_norm(1, 64), instance = instance_norm(4);
  const Module ghost = ghost_norm(4, 32), batch = make_module(4);
  CHECK(norm_of(group) == BN2D_NORM_GROUP);
  CHECK(norm_of(instance) == BN2D_NORM_INSTANCE);
  CHECK(norm_of(ghost) == BN2D_NORM_BATCH);
  CHECK(norm_of(batch) == BN2D_NORM_BATCH);
  CHECK(number_of(group, &bn2d_module_num_groups) == 2);
  CHECK(number_of(group, &bn2d_module_num_features) == 4);
  CHECK(number_of(instance, &bn2d_module_num_groups) == 0);
  CHECK(number_of(batch, &bn2d_module_num_groups) == 0);
  CHECK(number_of(ghost, &bn2d_module_ghost_batch_size) == 32);
  for (const Module *other : {&group, &instance, &batch})
    CHECK(number_of(*other, &bn2d_module_ghost_batch_size) == 0);

  CHECK(repr_of(group) == "GroupNorm(2, 4, eps=1e-05, affine=True, bias=True)");
  CHECK(repr_of(layer) == "GroupNorm(1, 64, eps=1e-05, affine=True, bias=True)");
  CHECK(repr_of(instance) ==
        "InstanceNorm2d(4, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False)");
  CHECK(repr_of(batch) ==
        "BatchNorm2d(4, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)");
  CHECK(repr_of(ghost) ==
        "BatchNorm2d(4, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True, "
        "ghost_batch_size=32)");
  CHECK(repr_of(tracking_instance_norm(7, false)) ==
        "InstanceNorm2d(7, eps=1e-05, momentum=None, affine=False, track_running_stats=True)");
  const Options options = bare_options();
  REQUIRE(bn2d_options_set_eps(options.get(), 0.5) == BN2D_OK);
  REQUIRE(bn2d_options_set_affine(options.get(), 0) == BN2D_OK);
  CHECK(repr_of(group_norm(4, 4, options.get())) ==
        "GroupNorm(4, 4, eps=0.5, affine=False, bias=False)");
  REQUIRE(bn2d_options_set_affine(options.get(), 1) == BN2D_OK);
  CHECK(repr_of(instance_norm(4, options.get())) ==
        "InstanceNorm2d(4, eps=0.5, momentum=0.1, affine=True, track_running_stats=False)");
  REQUIRE(bn2d_options_set_bias(options.get(), 0) == BN2D_OK);
  CHECK(repr_of(group_norm(4, 4, options.get())) ==
        "GroupNorm(4, 4, eps=0.5, affine=True, bias=False)");
  REQUIRE(bn2d_module_set_frozen(ghost.get(), 1) == BN2D_OK);
  CHECK(repr_of(ghost) ==
        "BatchNorm2d(4, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True, "
        "ghost_batch_size=32, frozen=True)");
  REQUIRE(bn2d_module_set_frozen(ghost.get(), 0) == BN2D_OK);
  CHECK(repr_of(ghost).find("frozen") == std::string::npos);

  struct {
    const Module &module;
    bool affine, tracks;
  } const all[] = {{group, true, false}, {instance, false, false}, {ghost, true, true}};
  for (const auto &[module, affine, tracks] : all) {
    INFO(repr_of(module));
    for (const char *name : {"weight", "bias", "weight.grad", "bias.grad"})
      CHECK(has_tensor(module, name) == affine);
    for (const char *name : {"running_mean", "running_var", "num_batches_tracked"})
      CHECK(has_tensor(module, name) == tracks);
    int32_t flag = -1;
    REQUIRE(bn2d_module_track_running_stats(module.get(), &flag) == BN2D_OK);
    CHECK(flag == tracks);
    REQUIRE(bn2d_module_affine(module.get(), &flag) == BN2D_OK);
    CHECK(flag == affine);
  }
  CHECK(floats(group, "weight", 4) == std::vector<float>(4, 1.0f));
  CHECK(floats(group, "bias", 4) == std::vector<float>(4, 0.0f));
  const Options weight_only = bare_options();
  REQUIRE(bn2d_options_set_bias(weight_only.get(), 0) == BN2D_OK);
  CHECK(has_tensor(group_norm(2, 4, weight_only.get()), "weight"));
  CHECK_FALSE(has_tensor(group_norm(2, 4, weight_only.get()), "bias"));
}

TEST_CASE("norms contract: numbers of groups and channels", "[norms]") {
  // Catches a division by 0, groups of different sizes, and a message with one number of two.
  bn2d_module *out = sentinel<bn2d_module *>();
  Snapshot before;
  before.add("out", &out, sizeof out);
  constexpr int64_t kLeast = std::numeric_limits<int64_t>::min(),
                    kMost = std::numeric_limits<int64_t>::max();
  const auto create = [&](int64_t groups, int64_t channels) {
    return bn2d_group_norm_create(groups, channels, nullptr, &out);
  };
  check_fails("3 of 4", BN2D_ERROR_INVALID_ARGUMENT, before,
              {"num_channels", "4", "num_groups", "3"}, [&] { return create(3, 4); });
  check_fails("8 of 4", BN2D_ERROR_INVALID_ARGUMENT, before, {"4", "8"},
              [&] { return create(8, 4); });
  check_fails("most of 4", BN2D_ERROR_INVALID_ARGUMENT, before, {"4", std::to_string(kMost)},
              [&] { return create(kMost, 4); });
  for (const int64_t wrong : {int64_t{0}, int64_t{-1}, kLeast}) {
    check_fails("groups", BN2D_ERROR_INVALID_ARGUMENT, before,
                {"num_groups", std::to_string(wrong)}, [&] { return create(wrong, 4); });
    check_fails("channels", BN2D_ERROR_INVALID_ARGUMENT, before,
                {"num_channels", std::to_string(wrong)}, [&] { return create(1, wrong); });
    check_fails("features", BN2D_ERROR_INVALID_ARGUMENT, before,
                {"num_features", std::to_string(wrong)},
                [&] { return bn2d_instance_norm_create(wrong, nullptr, &out); });
  }
  check_fails("too many", BN2D_ERROR_OVERFLOW, before, {}, [&] { return create(1, kMost); });

  // Stateless: num_groups against the channels of x.
  World w;
  const auto forward = [&](int64_t groups) {
    return bn2d_group_norm_forward(w.view_x, nullptr, w.view_y, groups, BN2D_F32, nullptr, nullptr,
                                   1e-5, BN2D_ACT_NONE, 0, nullptr, w.set_mean.data(),
                                   w.set_invstd.data());
  };
  const auto backward = [&](int64_t groups) {
    return bn2d_group_norm_backward(w.view_x, w.view_dy, nullptr, nullptr, groups, BN2D_F32,
                                    nullptr, w.set_mean.data(), w.set_invstd.data(), BN2D_ACT_NONE,
                                    0, 0, w.view_dx, nullptr, nullptr, nullptr);
  };
  const auto twice = [&](int64_t groups) {
    return bn2d_group_norm_double_backward(w.view_x, w.view_dy, nullptr, nullptr, groups, BN2D_F32,
                                           nullptr, w.set_mean.data(), w.set_invstd.data(),
                                           BN2D_ACT_NONE, 0, w.view_ddx, nullptr, nullptr, 0,
                                           w.view_ddy, w.view_dx, nullptr);
  };
  for (const auto &call :
       {std::function<int32_t(int64_t)>(forward), std::function<int32_t(int64_t)>(backward),
        std::function<int32_t(int64_t)>(twice)}) {
    const Snapshot all = w.snapshot();
    for (const int64_t wrong : {int64_t{0}, int64_t{-3}, kLeast})
      check_fails("groups", BN2D_ERROR_INVALID_ARGUMENT, all, {"num_groups", std::to_string(wrong)},
                  [&] { return call(wrong); });
    for (const int64_t wrong : {World::kC - 1, 2 * World::kC, kMost})
      check_fails("no divisor", BN2D_ERROR_SHAPE, all,
                  {std::to_string(World::kC), std::to_string(wrong)}, [&] { return call(wrong); });
    CHECK(call(1) == BN2D_OK);
    CHECK(call(3) == BN2D_OK);
  }
}

TEST_CASE("norms contract: options that make no sense are refused by name", "[norms]") {
  // Catches an option that is silently left out, also where its value is the default.
  struct Option {
    const char *name, *value;
    bool of_group, of_instance;  // whether the norm has it
  };
  for (const Option &o :
       {Option{"eps", "0.5", true, true}, Option{"affine", "True", true, true},
        Option{"bias", "False", true, true}, Option{"dtype", "float64", true, true},
        Option{"device", "cpu", true, true}, Option{"num_threads", "2", true, true},
        Option{"momentum", "0.1", false, true}, Option{"momentum", "None", false, true},
        Option{"track_running_stats", "True", false, true},
        Option{"track_running_stats", "False", false, true},
        Option{"biased_running_var", "True", false, true},
        Option{"protect_running_stats", "True", false, true},
        Option{"ghost_batch_size", "32", false, false}}) {
    INFO(o.name << " = " << o.value);
    const Options options = bare_options();
    REQUIRE(bn2d_options_set_by_name(options.get(), o.name, o.value) == BN2D_OK);
    bn2d_module *out = sentinel<bn2d_module *>();
    Snapshot before;
    before.add("out", &out, sizeof out);
    for (const bool group : {true, false}) {
      const auto create = [&] {
        return group ? bn2d_group_norm_create(2, 4, options.get(), &out)
                     : bn2d_instance_norm_create(4, options.get(), &out);
      };
      if (group ? o.of_group : o.of_instance) {
        CHECK(create() == BN2D_OK);
        bn2d_module_release(out);
        out = sentinel<bn2d_module *>();
      } else {
        check_fails(o.name, BN2D_ERROR_INVALID_ARGUMENT, before,
                    {o.name, group ? "GroupNorm" : "InstanceNorm2d"}, create);
      }
    }
    CHECK(make_module(4, options.get()) != nullptr);  // a batch norm has them all
  }
  const Options options = bare_options();
  for (const int64_t wrong : {int64_t{-1}, std::numeric_limits<int64_t>::min()})
    check_fails("ghosts", BN2D_ERROR_INVALID_ARGUMENT, Snapshot(),
                {"ghost_batch_size", std::to_string(wrong)},
                [&] { return bn2d_options_set_ghost_batch_size(options.get(), wrong); });
  for (const char *wrong : {"-1", "", "2.5", "two", "3 "})
    check_fails("ghosts by name", BN2D_ERROR_INVALID_ARGUMENT, Snapshot(), {"ghost_batch_size"},
                [&] { return bn2d_options_set_by_name(options.get(), "ghost_batch_size", wrong); });
  CHECK(number_of(make_module(4, options.get()), &bn2d_module_ghost_batch_size) == 0);
  CHECK(bn2d_options_set_ghost_batch_size(options.get(), 7) == BN2D_OK);
  CHECK(number_of(make_module(4, options.get()), &bn2d_module_ghost_batch_size) == 7);
}

TEST_CASE("norms contract: a group norm has neither running statistics nor modes", "[norms]") {
  // Catches an eval mode of its own, and functions that answer for buffers that are not there.
  const Module module = group_norm(2, 4);
  give_character(module);
  const std::vector<float> x = numbers(kCount);
  std::vector<float> y(kCount), y_eval(kCount);
  REQUIRE(bn2d_forward_f32(module.get(), x.data(), 3, 2, 3, y.data(), nullptr) == BN2D_OK);
  REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
  REQUIRE(bn2d_forward_f32(module.get(), x.data(), 3, 2, 3, y_eval.data(), nullptr) == BN2D_OK);
  CHECK(y == y_eval);
  Snapshot before;
  before.add("module", module.get());
  std::vector<float> scale(4), shift(4);
  check_fails("scale_shift", BN2D_ERROR_STATE, before, {"GroupNorm|running"}, [&] {
    return bn2d_module_scale_shift(module.get(), BN2D_F32, scale.data(), shift.data(), 4);
  });
  check_fails("frozen", BN2D_ERROR_STATE, before, {},
              [&] { return bn2d_module_set_frozen(module.get(), 1); });
  check_fails("channels", BN2D_ERROR_SHAPE, before, {"3", "4"}, [&] {
    const std::vector<float> three(18);
    return bn2d_forward(module.get(),
                        View(const_cast<float *>(three.data()), BN2D_F32, {1, 3, 2, 3}),
                        View(y.data(), BN2D_F32, {1, 3, 2, 3}), nullptr);
  });
  CHECK(bn2d_module_reset_running_stats(module.get()) == BN2D_OK);
  CHECK(bn2d_module_reset_parameters(module.get()) == BN2D_OK);
  CHECK(floats(module, "weight", 4) == std::vector<float>(4, 1.0f));
}

TEST_CASE("norms contract: an average over samples whose sum is beyond double", "[norms]") {
  // Catches a sum that overflows before it is divided: the average was infinite.
  const Options options = bare_options();
  REQUIRE(bn2d_options_set_track_running_stats(options.get(), 1) == BN2D_OK);
  REQUIRE(bn2d_options_set_dtype(options.get(), BN2D_F64) == BN2D_OK);
  REQUIRE(bn2d_options_set_momentum(options.get(), 1) == BN2D_OK);
  const Module module = instance_norm(1, options.get());
  for (const double large : {1.5e308, -1.5e308}) {
    const std::vector<double> x(8, large);
    std::vector<double> y(8);
    REQUIRE(bn2d_forward_f64(module.get(), x.data(), 2, 2, 2, y.data(), nullptr) == BN2D_OK);
    CHECK(*data_of<double>(module, "running_mean") == large);
    CHECK(*data_of<double>(module, "running_var") == 0);
    CHECK(y == std::vector<double>(8, 0.0));
  }
}

TEST_CASE("norms contract: running statistics of an instance norm", "[norms]") {
  // Catches the variance of the pool in place of the average, a counter that counts, and buffers
  // that move without momentum. In PyTorch: F.instance_norm with use_input_stats, whose averages
  // are over the samples.
  const std::vector<float> x = numbers(kCount);
  std::vector<float> y(kCount);
  double mean[4] = {}, var[4] = {};
  for (size_t n = 0; n < 3; ++n)
    for (size_t c = 0; c < 4; ++c) {
      double m = 0, v = 0;
      for (size_t i = 0; i < 6; ++i) m += x[(n * 4 + c) * 6 + i] / 6.0;
      for (size_t i = 0; i < 6; ++i)
        v += (x[(n * 4 + c) * 6 + i] - m) * (x[(n * 4 + c) * 6 + i] - m) / 5.0;
      mean[c] += m / 3;
      var[c] += v / 3;
    }
  const Module module = tracking_instance_norm(4);
  REQUIRE(bn2d_forward_f32(module.get(), x.data(), 3, 2, 3, y.data(), nullptr) == BN2D_OK);
  for (int c = 0; c < 4; ++c) {
    CHECK(data_of<float>(module, "running_mean")[c] == Approx(0.1 * mean[c]));
    CHECK(data_of<float>(module, "running_var")[c] == Approx(0.9 + 0.1 * var[c]));
  }
  CHECK(batches_of(module) == 0);

  const Module still = tracking_instance_norm(4, false);
  REQUIRE(bn2d_forward_f32(still.get(), x.data(), 3, 2, 3, y.data(), nullptr) == BN2D_OK);
  CHECK(floats(still, "running_mean", 4) == std::vector<float>(4, 0.0f));
  CHECK(floats(still, "running_var", 4) == std::vector<float>(4, 1.0f));
  CHECK(batches_of(still) == 0);

  // Eval with tracking is batch norm's, and shared; forward in eval mode without tracking uses the
  // instance's.
  const Module batch = make_module(4);
  for (const char *name : {"running_mean", "running_var"})
    std::memcpy(data_of<float>(batch, name), data_of<float>(module, name), 4 * sizeof(float));
  std::vector<float> y_batch(kCount);
  REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
  REQUIRE(bn2d_module_eval(batch.get()) == BN2D_OK);
  REQUIRE(bn2d_module_try_lock(module.get(), 0) == BN2D_OK);
  REQUIRE(bn2d_forward_f32(module.get(), x.data(), 3, 2, 3, y.data(), nullptr) == BN2D_OK);
  REQUIRE(bn2d_module_unlock(module.get(), 0) == BN2D_OK);
  REQUIRE(bn2d_forward_f32(batch.get(), x.data(), 3, 2, 3, y_batch.data(), nullptr) == BN2D_OK);
  CHECK(y == y_batch);
  const Module plain = instance_norm(4);
  std::vector<float> y_training(kCount);
  REQUIRE(bn2d_forward_f32(plain.get(), x.data(), 3, 2, 3, y_training.data(), nullptr) == BN2D_OK);
  REQUIRE(bn2d_module_eval(plain.get()) == BN2D_OK);
  REQUIRE(bn2d_forward_f32(plain.get(), x.data(), 3, 2, 3, y.data(), nullptr) == BN2D_OK);
  CHECK(y == y_training);
  CHECK(y != y_batch);
}

TEST_CASE("norms contract: too few values", "[norms]") {
  // Catches a variance of one value, a rest of ghost batches that is found after the others have
  // moved, and a group norm that refuses what is well defined.
  std::vector<float> x = numbers(20), y(20, 77.0f);
  bn2d_record *record = sentinel<bn2d_record *>();
  const auto view = [&](std::vector<float> &data, const Extents &shape) {
    return View(data.data(), BN2D_F32, shape);
  };
  const auto refused = [&](const Module &module, const Extents &shape,
                           const std::vector<std::string> &words) {
    Snapshot before;
    before.add("module", module.get());
    before.add("y", y);
    before.add("record", &record, sizeof record);
    check_fails(repr_of(module), BN2D_ERROR_TOO_FEW_VALUES, before, words, [&] {
      return bn2d_forward(module.get(), view(x, shape), view(y, shape), &record);
    });
  };
  const Module instance = instance_norm(4), tracking = tracking_instance_norm(4);
  refused(instance, {5, 4, 1, 1}, {"1"});
  refused(tracking, {5, 4, 1, 1}, {"1"});
  REQUIRE(bn2d_module_eval(instance.get()) == BN2D_OK);
  REQUIRE(bn2d_module_eval(tracking.get()) == BN2D_OK);
  refused(instance, {5, 4, 1, 1}, {"1"});
  CHECK(bn2d_forward(tracking.get(), view(x, {5, 4, 1, 1}), view(y, {5, 4, 1, 1}), nullptr) ==
        BN2D_OK);

  y.assign(20, 77.0f);
  const Module ghost = ghost_norm(4, 2), of_one = ghost_norm(4, 1);
  refused(ghost, {5, 4, 1, 1}, {"1"});  // 2 + 2 + 1
  refused(of_one, {5, 4, 1, 1}, {"1"});
  CHECK(bn2d_forward(ghost.get(), view(x, {4, 4, 1, 1}), view(y, {4, 4, 1, 1}), nullptr) ==
        BN2D_OK);
  CHECK(batches_of(ghost) == 2);
  CHECK(bn2d_forward(ghost.get(), view(x, {3, 2, 1, 2}), view(y, {3, 2, 1, 2}), nullptr) ==
        BN2D_ERROR_SHAPE);
  const Module two = ghost_norm(2, 2);
  CHECK(bn2d_forward(two.get(), view(x, {3, 2, 1, 2}), view(y, {3, 2, 1, 2}), nullptr) ==
        BN2D_OK);  // a rest of 2
  CHECK(batches_of(two) == 2);

  const Module group = group_norm(4, 4);
  give_character(group);
  REQUIRE(bn2d_forward(group.get(), view(x, {5, 4, 1, 1}), view(y, {5, 4, 1, 1}), nullptr) ==
          BN2D_OK);
  for (size_t i = 0; i < 20; ++i) CHECK(y[i] == data_of<float>(group, "bias")[i % 4]);
}

TEST_CASE("norms contract: an empty batch", "[norms]") {
  // Catches an average of no samples, and a set of no values that is refused or read. PyTorch's
  // instance norm makes the buffers NaN.
  for (const Extents &shape : {Extents{0, 4, 2, 3}, Extents{2, 4, 0, 3}}) {
    std::vector<Module> modules;
    modules.push_back(group_norm(2, 4));
    modules.push_back(instance_norm(4));
    modules.push_back(tracking_instance_norm(4));
    modules.push_back(ghost_norm(4, 2));
    for (const Module &module : modules) {
      INFO(repr_of(module) << " of " << shape[0] << " samples");
      give_character(module);
      const bool tracks = has_tensor(module, "running_mean");
      const std::vector<float> mean =
          tracks ? floats(module, "running_mean", 4) : std::vector<float>();
      const std::vector<float> var =
          tracks ? floats(module, "running_var", 4) : std::vector<float>();
      float none = 0;
      const View x(&none, BN2D_F32, shape);
      float other = 0;
      const View y(&other, BN2D_F32, shape);
      bn2d_record *raw = nullptr;
      REQUIRE(bn2d_forward(module.get(), x, y, &raw) == BN2D_OK);
      const Record record(raw);
      CHECK(bn2d_backward(module.get(), raw, x, y, nullptr) == BN2D_OK);
      CHECK(bn2d_double_backward(module.get(), raw, x, x, nullptr, nullptr, y, nullptr) == BN2D_OK);
      if (tracks) {
        CHECK(floats(module, "running_mean", 4) == mean);
        CHECK(floats(module, "running_var", 4) == var);
      }
      if (has_tensor(module, "weight.grad"))
        CHECK(floats(module, "weight.grad", 4) == std::vector<float>(4, 0.0f));
    }
  }
}

TEST_CASE("norms contract: an empty batch has no statistics", "[norms]") {
  // Catches arrays that are taken for longer than N*num_groups: here all of them begin at one
  // address.
  float none = 0;
  alignas(double) float dbias[4] = {1, 2, 3, 4};
  double saved = 7;
  const View x(&none, BN2D_F32, {0, 4, 2, 3});
  for (const int64_t groups : {int64_t{1}, int64_t{2}, int64_t{4}}) {
    CHECK(bn2d_group_norm_forward(x, nullptr, x, groups, BN2D_F32, nullptr, nullptr, 1e-5,
                                  BN2D_ACT_NONE, 0, nullptr, &saved, &saved) == BN2D_OK);
    CHECK(saved == 7);
    auto *const in_dbias = reinterpret_cast<double *>(dbias);
    CHECK(bn2d_group_norm_backward(x, x, nullptr, nullptr, groups, BN2D_F32, nullptr, in_dbias,
                                   in_dbias, BN2D_ACT_NONE, 0, 1, x, nullptr, nullptr,
                                   dbias) == BN2D_OK);
    CHECK(dbias[3] == 4);
  }
}

TEST_CASE("norms contract: one value of double on running statistics", "[norms]") {
  // Catches a channel near the ends of the range whose value is taken for its own mean, though the
  // statistics are not the batch's: dx was 0.
  Settings settings;
  settings.dtype = BN2D_F64;
  const Module module = make_module(2, settings);
  bn2d_module_eval(module.get());
  const double cases[][2] = {{1e-250, 1}, {1e300, 1}, {1, 1e-250}, {1, 1e295}};
  for (const auto &[value, gradient] : cases) {
    const double x[2] = {1, value}, dy[2] = {1, gradient};
    double y[2], dx[2] = {7, 7};
    bn2d_record *raw = nullptr;
    REQUIRE(bn2d_forward_f64(module.get(), x, 1, 1, 1, y, &raw) == BN2D_OK);
    const Record record(raw);
    REQUIRE(bn2d_backward_f64(module.get(), record.get(), dy, dx) == BN2D_OK);
    for (int c = 0; c < 2; ++c) CHECK(std::fabs(dx[c] / dy[c] * std::sqrt(1 + 1e-5) - 1) < 1e-14);
  }
}

TEST_CASE("norms contract: records of tensors without elements", "[norms]") {
  // Catches memory for the sets of N samples that have no elements: there is none for 2^57 of them.
  float none[4] = {}, other[4] = {};
  for (const int32_t norm :
       std::initializer_list<int32_t>{BN2D_NORM_BATCH, BN2D_NORM_GROUP, BN2D_NORM_INSTANCE, -1}) {
    INFO("norm " << norm);  // -1: ghost batches
    bn2d_module *raw = nullptr;
    if (norm == BN2D_NORM_GROUP) REQUIRE(bn2d_group_norm_create(2, 4, nullptr, &raw) == BN2D_OK);
    if (norm == BN2D_NORM_INSTANCE) REQUIRE(bn2d_instance_norm_create(4, nullptr, &raw) == BN2D_OK);
    if (norm == BN2D_NORM_BATCH) REQUIRE(bn2d_module_create(4, nullptr, &raw) == BN2D_OK);
    const Module module = raw != nullptr ? Module(raw) : ghost_norm(4, 2);
    for (const bn2d_activation activation : {BN2D_ACT_NONE, BN2D_ACT_RELU, BN2D_ACT_SIGMOID}) {
      const Extents e{int64_t{1} << 57, 4, 0, 1};
      const View x(none, BN2D_F32, e), y(other, BN2D_F32, e);
      bn2d_record *record = nullptr;
      CHECK(bn2d_forward_act(module.get(), x, nullptr, activation, 0, y, &record) == BN2D_OK);
      const int32_t status = bn2d_backward(module.get(), record, y, y, nullptr);
      INFO("activation " << activation << ": " << bn2d_last_error());
      CHECK(status == BN2D_OK);
      bn2d_record_release(record);
    }
  }
}

TEST_CASE("norms contract: ghost batches and a counter at its end", "[norms]") {
  // Catches a counter that runs over in the middle of a call.
  const Module module = ghost_norm(4, 1);
  auto *const counter = data_of<int64_t>(module, "num_batches_tracked");
  *counter = std::numeric_limits<int64_t>::max() - 2;
  std::vector<float> x = numbers(kCount), y(kCount, 77.0f);
  Snapshot before;
  before.add("module", module.get());
  before.add("y", y);
  check_fails("three of two", BN2D_ERROR_STATE, before, {std::to_string(*counter)},
              [&] { return bn2d_forward_f32(module.get(), x.data(), 3, 2, 3, y.data(), nullptr); });
  *counter -= 1;
  CHECK(bn2d_forward_f32(module.get(), x.data(), 3, 2, 3, y.data(), nullptr) == BN2D_OK);
  CHECK(*counter == std::numeric_limits<int64_t>::max());
}

TEST_CASE("norms contract: a record keeps the norm of its forward", "[norms]") {
  // Catches a record that another norm takes, and sums of sets that go to the wrong channel of
  // weight.grad.
  const Module group = group_norm(2, 4), instance = instance_norm(4);
  std::vector<float> x = numbers(kCount), y(kCount), dy = numbers(kCount, 5), dx(kCount, 77.0f);
  bn2d_record *raw = nullptr;
  REQUIRE(bn2d_forward_f32(group.get(), x.data(), 3, 2, 3, y.data(), &raw) == BN2D_OK);
  const Record record(raw);
  Snapshot before;
  before.add("dx", dx);
  before.add("instance", instance.get());
  CHECK(bn2d_backward_f32(instance.get(), raw, dy.data(), dx.data()) == BN2D_ERROR_STATE);
  CHECK(before.difference() == "");
  REQUIRE(bn2d_backward_f32(group.get(), raw, dy.data(), dx.data()) == BN2D_OK);
  double dbias[4] = {};
  for (size_t i = 0; i < kCount; ++i) dbias[i / 6 % 4] += dy[i];
  for (int c = 0; c < 4; ++c) CHECK(data_of<float>(group, "bias.grad")[c] == Approx(dbias[c]));
  int32_t batch = -1;
  CHECK(bn2d_record_batch_statistics(raw, &batch) == BN2D_OK);
  CHECK(batch == 1);
}

TEST_CASE("norms contract: a group norm has no momentum, and cannot be frozen", "[norms]") {
  // Catches settings that are accepted where nothing will ever follow them.
  const Module group = group_norm(2, 4);
  int32_t has = -1;
  double momentum = 0;
  REQUIRE(bn2d_module_momentum(group.get(), &has, &momentum) == BN2D_OK);
  CHECK(has == 0);
  Snapshot before;
  before.add("group", group.get());
  check_fails("momentum", BN2D_ERROR_STATE, before, {"GroupNorm(2, 4"},
              [&] { return bn2d_module_set_momentum(group.get(), 0.5); });
  check_fails("no momentum", BN2D_ERROR_STATE, before, {"GroupNorm(2, 4"},
              [&] { return bn2d_module_set_momentum_none(group.get()); });
  check_fails("frozen", BN2D_ERROR_STATE, before, {"GroupNorm(2, 4"},
              [&] { return bn2d_module_set_frozen(group.get(), 1); });
}

TEST_CASE("norms contract: running statistics of samples are not those of a pool", "[norms]") {
  // Catches an instance norm that is told of ghost batches, which may be set from outside.
  const Module instance = tracking_instance_norm(4), ghost = ghost_norm(4, 2);
  const Statistics statistics = make_statistics(4);
  bn2d_statistics *const raw = statistics.get();
  const std::vector<float> x = numbers(kCount);
  REQUIRE(bn2d_statistics_accumulate_flat(raw, BN2D_F32, BN2D_NCHW, x.data(), 3, 2, 3) == BN2D_OK);
  Snapshot before;
  before.add("instance", instance.get());
  check_fails("instance", BN2D_ERROR_STATE, before, {"InstanceNorm2d(4", "samples"},
              [&] { return bn2d_module_set_running_stats(instance.get(), raw); });
  CHECK(std::string(bn2d_last_error()).find("ghost") == std::string::npos);
  CHECK(bn2d_module_set_running_stats(ghost.get(), raw) == BN2D_OK);
}

TEST_CASE("norms contract: an empty batch is one empty set of ghost batches", "[norms]") {
  // Catches a counter that moves otherwise than that of batch norm, and statistics of nothing.
  const Module modules[] = {ghost_norm(4, 2), make_module(4)};
  for (const Module &module : modules) {
    REQUIRE(bn2d_forward_f32(module.get(), nullptr, 0, 2, 3, nullptr, nullptr) == BN2D_OK);
    CHECK(*data_of<int64_t>(module, "num_batches_tracked") == 1);
    CHECK(floats(module, "running_mean", 4) == std::vector<float>(4, 0.0f));
    CHECK(floats(module, "running_var", 4) == std::vector<float>(4, 1.0f));
  }
}

TEST_CASE("norms contract: ghost batches are for training", "[norms]") {
  // Catches sets of samples in eval mode where there are no running statistics.
  const Options options = bare_options();
  REQUIRE(bn2d_options_set_ghost_batch_size(options.get(), 2) == BN2D_OK);
  REQUIRE(bn2d_options_set_track_running_stats(options.get(), 0) == BN2D_OK);
  const Module module = make_module(1, options.get());
  REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
  const float x[4] = {1, 2, 3, 4};
  float y[4];
  REQUIRE(bn2d_forward_f32(module.get(), x, 4, 1, 1, y, nullptr) == BN2D_OK);
  CHECK(y[0] == Approx(-1.3416f).epsilon(1e-3));
  CHECK(y[1] == Approx(-0.4472f).epsilon(1e-3));
}
