// What statistics from outside refuse, and the setters of a living module.
#include <limits>

#include "support/contract_world.h"

using namespace bn2d_test;

namespace {

constexpr int64_t kSums = 2 * World::kC;        // of backward
constexpr int64_t kLength = 1 + 4 * World::kC;  // exported
const std::string kChannels = std::to_string(World::kC);

}  // namespace

TEST_CASE("statistics: what the object refuses", "[statistics]") {
  // Catches a missing check, and a call that fails after it has added something.
  World w;
  const Snapshot before = w.snapshot();
  bn2d_statistics *const s = w.statistics.get();
  for (const int64_t features : {int64_t{0}, int64_t{-1}})
    check_fails("no channels", BN2D_ERROR_INVALID_ARGUMENT, before,
                {std::to_string(features), "num_features"},
                [&] { return bn2d_statistics_create(features, &w.outs.statistics); });
  check_fails("more channels than bytes", BN2D_ERROR_OVERFLOW, before, {}, [&] {
    return bn2d_statistics_create(std::numeric_limits<int64_t>::max() / 16, &w.outs.statistics);
  });

  const Extents other_shape{2, 4, 2, 2};
  std::vector<float> of_four(16);
  const View four(of_four.data(), BN2D_F32, other_shape);
  check_fails("x of other channels", BN2D_ERROR_SHAPE, before, {"4", kChannels},
              [&] { return bn2d_statistics_accumulate(s, four); });
  View spoilt = w.view_x;
  set_dtype(*const_cast<bn2d_view *>(spoilt.get()), BN2D_I64);
  check_fails("x of integers", BN2D_ERROR_DTYPE, before, {"int64"},
              [&] { return bn2d_statistics_accumulate(s, spoilt); });
  spoilt = w.view_x;
  spoilt.set_stride(3, -1);
  check_fails("a negative stride", BN2D_ERROR_LAYOUT, before, {},
              [&] { return bn2d_statistics_accumulate(s, spoilt); });
  spoilt = w.view_x;
  spoilt->byte_offset = 1;
  check_fails("x not aligned", BN2D_ERROR_LAYOUT, before, {},
              [&] { return bn2d_statistics_accumulate(s, spoilt); });
  check_fails("an unknown layout", BN2D_ERROR_INVALID_ARGUMENT, before, {"3"}, [&] {
    return bn2d_statistics_accumulate_flat(s, BN2D_F32, 3, w.x.data(), World::kN, World::kH,
                                           World::kW);
  });

  const Statistics of_four_channels = make_statistics(4);
  check_fails("merging other channels", BN2D_ERROR_SHAPE, before, {"4", kChannels},
              [&] { return bn2d_statistics_merge(s, of_four_channels.get()); });
  for (const int64_t length : {kLength - 1, kLength + 1, int64_t{0}, int64_t{-1}}) {
    const std::string said = std::to_string(length);
    check_fails("export", BN2D_ERROR_SHAPE, before, {said, std::to_string(kLength)},
                [&] { return bn2d_statistics_export(s, w.exported_values.data(), length); });
    check_fails("merge exported", BN2D_ERROR_SHAPE, before, {said, std::to_string(kLength)}, [&] {
      return bn2d_statistics_merge_exported(s, w.exported_values.data(), length);
    });
    check_fails("mean and variance", BN2D_ERROR_SHAPE, before, {said}, [&] {
      return bn2d_statistics_mean_var(s, w.saved_mean.data(), w.saved_invstd.data(), length);
    });
  }
  auto *const askew =
      reinterpret_cast<double *>(reinterpret_cast<char *>(w.exported_values.data()) + 4);
  check_fails("export askew", BN2D_ERROR_LAYOUT, before, {},
              [&] { return bn2d_statistics_export(s, askew, kLength); });
  check_fails("merge askew", BN2D_ERROR_LAYOUT, before, {},
              [&] { return bn2d_statistics_merge_exported(s, askew, kLength); });
  check_fails("mean askew", BN2D_ERROR_LAYOUT, before, {},
              [&] { return bn2d_statistics_mean_var(s, askew, nullptr, World::kC); });
  check_fails("mean and variance in one array", BN2D_ERROR_OVERLAP, before, {}, [&] {
    return bn2d_statistics_mean_var(s, w.saved_mean.data(), w.saved_mean.data(), World::kC);
  });
  const Statistics none = make_statistics(World::kC);
  check_fails("mean of no values", BN2D_ERROR_TOO_FEW_VALUES, before, {}, [&] {
    return bn2d_statistics_mean_var(none.get(), w.saved_mean.data(), nullptr, World::kC);
  });

  const auto with = [&](size_t at, double value) {
    std::vector<double> values = exported(w.other_statistics.get());
    values[at] = value;
    return values;
  };
  for (const double count : {-1.0, 0.5, 0x1p53 + 2, HUGE_VAL, -HUGE_VAL, std::nan("")})
    check_fails("a count of " + std::to_string(count), BN2D_ERROR_INVALID_ARGUMENT, before, {},
                [&] { return bn2d_statistics_merge_exported(s, with(0, count).data(), kLength); });
  check_fails("a negative square", BN2D_ERROR_INVALID_ARGUMENT, before, {"1"}, [&] {
    return bn2d_statistics_merge_exported(s, with(1 + 2 * World::kC + 1, -1).data(), kLength);
  });
  check_fails(
      "a square whose low part makes it negative", BN2D_ERROR_INVALID_ARGUMENT, before, {}, [&] {
        return bn2d_statistics_merge_exported(s, with(1 + 3 * World::kC + 1, -1e9).data(), kLength);
      });
  check_fails("more values than a double counts", BN2D_ERROR_OVERFLOW, before, {},
              [&] { return bn2d_statistics_merge_exported(s, with(0, 0x1p53).data(), kLength); });
  // The same on every way that values come. The last one that fits is taken.
  const Statistics full = make_statistics(World::kC);
  REQUIRE(bn2d_statistics_merge_exported(full.get(), with(0, 0x1p53 - 1).data(), kLength) ==
          BN2D_OK);
  const View of_one(w.x.data(), BN2D_F32, {1, World::kC, 1, 1});
  CHECK(bn2d_statistics_accumulate(full.get(), of_one) == BN2D_OK);
  Snapshot with_full = w.snapshot();
  with_full.add("full", full.get());
  check_fails("one value more", BN2D_ERROR_OVERFLOW, with_full, {},
              [&] { return bn2d_statistics_accumulate(full.get(), of_one); });
  check_fails("one value more, flat", BN2D_ERROR_OVERFLOW, with_full, {}, [&] {
    return bn2d_statistics_accumulate_flat(full.get(), BN2D_F32, BN2D_NCHW, w.x.data(), 1, 1, 1);
  });
  check_fails("values of others, more", BN2D_ERROR_OVERFLOW, with_full, {},
              [&] { return bn2d_statistics_merge(full.get(), s); });
  check_fails("more into few", BN2D_ERROR_OVERFLOW, with_full, {},
              [&] { return bn2d_statistics_merge(s, full.get()); });
}

TEST_CASE("statistics: what forward and backward refuse", "[statistics]") {
  // Catches statistics that are used where they do not belong, a count that is found after
  // something has moved, and checks that a call which only checks leaves out.
  World w;
  const Statistics none = make_statistics(World::kC), other = make_statistics(4),
                   one = make_statistics(World::kC);
  const View of_one(w.x.data(), BN2D_F32, {1, World::kC, 1, 1});
  REQUIRE(bn2d_statistics_accumulate(one.get(), of_one) == BN2D_OK);
  const auto forward = [&](const Statistics &statistics, const View &y) {
    return bn2d_forward_with_statistics(w.module.get(), statistics.get(), w.view_x, nullptr,
                                        BN2D_ACT_NONE, 0, y, &w.outs.record);
  };
  Snapshot before = w.snapshot();
  check_fails("other channels", BN2D_ERROR_SHAPE, before, {"4", kChannels},
              [&] { return forward(other, w.view_y); });
  check_fails("no values", BN2D_ERROR_TOO_FEW_VALUES, before, {"0", "2"},
              [&] { return forward(none, w.view_y); });
  check_fails("one value", BN2D_ERROR_TOO_FEW_VALUES, before, {"1", "2"},
              [&] { return forward(one, w.view_y); });
  const Statistics unknown;  // only checks
  CHECK(forward(unknown, w.view_y) == BN2D_OK);
  CHECK(before.difference() == "");
  check_fails("y of another shape", BN2D_ERROR_SHAPE, before, {}, [&] {
    return forward(unknown, View(w.y.data(), BN2D_F32, {1, World::kC, 2, 3}));
  });
  check_fails("in place", BN2D_ERROR_OVERLAP, before, {},
              [&] { return forward(unknown, w.view_x); });
  auto *const counter = data_of<int64_t>(w.module, "num_batches_tracked");
  *counter = -1;
  before = w.snapshot();
  check_fails("a counter below 0", BN2D_ERROR_STATE, before, {"-1"},
              [&] { return forward(unknown, w.view_y); });
  *counter = 1;

  const auto sums = [&](const bn2d_record *record, int64_t length, double *to) {
    return bn2d_backward_sums(w.module.get(), record, w.view_dy, to, length);
  };
  const auto with_sums = [&](const bn2d_record *record, int64_t length, const double *from) {
    return bn2d_backward_with_sums(w.module.get(), record, w.view_dy, from, length, w.view_dx,
                                   nullptr);
  };
  before = w.snapshot();
  for (const int64_t length : {2 * World::kC - 1, World::kC, int64_t{0}}) {
    check_fails("sums of another length", BN2D_ERROR_SHAPE, before,
                {std::to_string(length), std::to_string(kSums)},
                [&] { return sums(w.record.get(), length, w.sums.data()); });
    check_fails("given sums of another length", BN2D_ERROR_SHAPE, before,
                {std::to_string(length), std::to_string(kSums)},
                [&] { return with_sums(w.record.get(), length, w.sums.data()); });
  }
  auto *const in_dy = reinterpret_cast<double *>(w.dy.data());
  check_fails("sums in dy", BN2D_ERROR_OVERLAP, before, {},
              [&] { return sums(w.record.get(), kSums, in_dy); });
  auto *const in_dx = reinterpret_cast<double *>(w.dx.data());
  check_fails("dx over the sums", BN2D_ERROR_OVERLAP, before, {},
              [&] { return with_sums(w.record.get(), kSums, in_dx); });
  CHECK(with_sums(w.record.get(), kSums, nullptr) == BN2D_OK);
  CHECK(before.difference() == "");
  const Extents of_channels{1, World::kC, 1, 1};
  std::vector<float> small(World::kC);
  const View x_small(small.data(), BN2D_F32, of_channels),
      y_small(w.y.data(), BN2D_F32, of_channels);
  const View in_dweight(data_of<float>(w.module, "weight.grad"), BN2D_F32, of_channels);
  bn2d_record *of_small = nullptr;
  REQUIRE(bn2d_forward_with_statistics(w.module.get(), w.statistics.get(), x_small, nullptr,
                                       BN2D_ACT_NONE, 0, y_small, &of_small) == BN2D_OK);
  const Record small_record(of_small);
  before = w.snapshot();
  check_fails("dy that the first step would write to", BN2D_ERROR_OVERLAP, before, {}, [&] {
    return bn2d_backward_with_sums(w.module.get(), of_small, in_dweight, nullptr, kSums, nullptr,
                                   nullptr);
  });
  // x where the first step adds dbias. It reads x whatever gradients are wanted.
  const View in_dbias(data_of<float>(w.module, "bias.grad"), BN2D_F32, of_channels);
  bn2d_tensor *weight = nullptr;
  REQUIRE(bn2d_module_tensor_by_name(w.module.get(), "weight", &weight) == BN2D_OK);
  const Tensor held(weight);
  REQUIRE(bn2d_tensor_set_requires_grad(weight, 0) == BN2D_OK);
  bn2d_record *of_dbias = nullptr;
  REQUIRE(bn2d_forward_with_statistics(w.module.get(), w.statistics.get(), in_dbias, nullptr,
                                       BN2D_ACT_NONE, 0, y_small, &of_dbias) == BN2D_OK);
  const Record dbias_record(of_dbias);
  before = w.snapshot();
  check_fails("x that the first step would write to", BN2D_ERROR_OVERLAP, before, {}, [&] {
    return bn2d_backward_with_sums(w.module.get(), of_dbias, y_small, nullptr, kSums, nullptr,
                                   nullptr);
  });
  REQUIRE(bn2d_tensor_set_requires_grad(weight, 1) == BN2D_OK);
  before = w.snapshot();
  auto *const askew = reinterpret_cast<double *>(reinterpret_cast<char *>(w.sums.data()) + 4);
  check_fails("sums askew", BN2D_ERROR_LAYOUT, before, {},
              [&] { return sums(w.record.get(), kSums, askew); });
  check_fails("given sums askew", BN2D_ERROR_LAYOUT, before, {},
              [&] { return with_sums(w.record.get(), kSums, askew); });

  // A record whose statistics are from outside has no double backward.
  REQUIRE(forward(w.statistics, w.view_y) == BN2D_OK);
  const Record given(w.outs.record);
  w.outs.record = sentinel<bn2d_record *>();
  before = w.snapshot();
  check_fails("double backward", BN2D_ERROR_STATE, before, {}, [&] {
    return bn2d_double_backward(w.module.get(), given.get(), w.view_dy, w.view_ddx, nullptr,
                                nullptr, w.view_ddy, nullptr);
  });

  // On running statistics, in eval mode and frozen, there is nothing to be given and nothing to be
  // summed.
  for (const bool frozen : {false, true}) {
    REQUIRE(bn2d_module_train(w.module.get(), frozen) == BN2D_OK);
    REQUIRE(bn2d_module_set_frozen(w.module.get(), frozen) == BN2D_OK);
    bn2d_record *raw = nullptr;
    REQUIRE(bn2d_forward(w.module.get(), w.view_x, w.view_y, &raw) == BN2D_OK);
    const Record running(raw);
    int32_t batch = -1;
    REQUIRE(bn2d_record_batch_statistics(raw, &batch) == BN2D_OK);
    CHECK(batch == 0);
    before = w.snapshot();
    check_fails("forward", BN2D_ERROR_STATE, before, {frozen ? "frozen" : "eval"},
                [&] { return forward(w.statistics, w.view_y); });
    check_fails("only a check", BN2D_ERROR_STATE, before, {},
                [&] { return forward(unknown, w.view_y); });
    check_fails("the first step", BN2D_ERROR_STATE, before, {},
                [&] { return sums(raw, kSums, w.sums.data()); });
    check_fails("the second step", BN2D_ERROR_STATE, before, {},
                [&] { return with_sums(raw, kSums, w.sums.data()); });
  }
}

TEST_CASE("statistics: other norms take none", "[statistics]") {
  // Catches sums of each set that are written where there is room for those of the channels.
  World w;
  std::vector<Module> modules;
  bn2d_module *raw = nullptr;
  REQUIRE(bn2d_group_norm_create(3, World::kC, nullptr, &raw) == BN2D_OK);
  modules.emplace_back(raw);
  const Options options = make_options();
  REQUIRE(bn2d_options_set_track_running_stats(options.get(), 1) == BN2D_OK);
  REQUIRE(bn2d_instance_norm_create(World::kC, options.get(), &raw) == BN2D_OK);
  modules.emplace_back(raw);
  REQUIRE(bn2d_options_set_ghost_batch_size(options.get(), 1) == BN2D_OK);
  modules.push_back(make_module(World::kC, options.get()));
  for (const Module &module : modules) {
    bn2d_record *record_of_it = nullptr;
    REQUIRE(bn2d_forward(module.get(), w.view_x, w.view_y, &record_of_it) == BN2D_OK);
    const Record record(record_of_it);
    Snapshot before = w.snapshot();
    before.add("the module called", module.get());
    check_fails("forward", BN2D_ERROR_STATE, before,
                {"Norm2d|GroupNorm|InstanceNorm2d|BatchNorm2d"}, [&] {
                  return bn2d_forward_with_statistics(module.get(), w.statistics.get(), w.view_x,
                                                      nullptr, BN2D_ACT_NONE, 0, w.view_y, nullptr);
                });
    check_fails("the first step", BN2D_ERROR_STATE, before, {}, [&] {
      return bn2d_backward_sums(module.get(), record.get(), w.view_dy, w.sums.data(), kSums);
    });
    check_fails("the second step", BN2D_ERROR_STATE, before, {}, [&] {
      return bn2d_backward_with_sums(module.get(), record.get(), w.view_dy, w.sums.data(), kSums,
                                     w.view_dx, nullptr);
    });
  }
  for (const size_t other : {size_t{0}, size_t{1}}) {
    Snapshot before = w.snapshot();
    before.add("the module called", modules[other].get());
    check_fails("running statistics", BN2D_ERROR_STATE, before, {"GroupNorm|InstanceNorm2d"}, [&] {
      return bn2d_module_set_running_stats(modules[other].get(), w.statistics.get());
    });
  }
  CHECK(bn2d_module_set_running_stats(modules[2].get(), w.statistics.get()) == BN2D_OK);
}

TEST_CASE("statistics: which running statistics can be set", "[statistics]") {
  // Catches a variance of 0/0, and a module without buffers that is written to.
  World w;
  Settings settings;
  settings.track = false;
  const Module untracked = make_module(World::kC, settings);
  const Statistics none = make_statistics(World::kC), other = make_statistics(4),
                   one = make_statistics(World::kC);
  const View of_one(w.x.data(), BN2D_F32, {1, World::kC, 1, 1});
  REQUIRE(bn2d_statistics_accumulate(one.get(), of_one) == BN2D_OK);
  Snapshot before = w.snapshot();
  before.add("untracked", untracked.get());
  const auto set = [&](const Module &module, const Statistics &statistics) {
    return bn2d_module_set_running_stats(module.get(), statistics.get());
  };
  check_fails("no buffers", BN2D_ERROR_STATE, before, {"BatchNorm2d"},
              [&] { return set(untracked, w.statistics); });
  check_fails("other channels", BN2D_ERROR_SHAPE, before, {"4", kChannels},
              [&] { return set(w.module, other); });
  check_fails("no values", BN2D_ERROR_TOO_FEW_VALUES, before, {"0", "2"},
              [&] { return set(w.module, none); });
  check_fails("one value", BN2D_ERROR_TOO_FEW_VALUES, before, {"1", "2"},
              [&] { return set(w.module, one); });
  REQUIRE(bn2d_module_try_lock(w.module.get(), 0) == BN2D_OK);
  check_fails("busy", BN2D_ERROR_BUSY, before, {}, [&] { return set(w.module, w.statistics); });
  REQUIRE(bn2d_module_unlock(w.module.get(), 0) == BN2D_OK);

  settings.track = true;
  settings.biased = true;
  const Module biased = make_module(World::kC, settings);
  before.add("biased", biased.get());
  check_fails("no values, biased", BN2D_ERROR_TOO_FEW_VALUES, before, {"0", "1"},
              [&] { return set(biased, none); });
  CHECK(set(biased, one) == BN2D_OK);
  for (int c = 0; c < World::kC; ++c) {
    CHECK(data_of<float>(biased, "running_mean")[c] == w.x[static_cast<size_t>(c)]);
    CHECK(data_of<float>(biased, "running_var")[c] == 0);
  }
}

TEST_CASE("living module: momentum", "[statistics][modes]") {
  // Catches a setter that only the getter hears of, a momentum that is not checked, and a repr of
  // before.
  World w;
  bn2d_module *const module = w.module.get();
  const auto repr = [&] {
    char text[200];
    REQUIRE(bn2d_module_repr(module, text, sizeof text, nullptr) == BN2D_OK);
    return std::string(text);
  };
  Snapshot before = w.snapshot();
  for (const double wrong : {-0.1, 1.1, std::nan(""), HUGE_VAL})
    check_fails("momentum " + std::to_string(wrong), BN2D_ERROR_INVALID_ARGUMENT, before,
                {"momentum"}, [&] { return bn2d_module_set_momentum(module, wrong); });
  REQUIRE(bn2d_module_try_lock(module, 0) == BN2D_OK);
  check_fails("busy", BN2D_ERROR_BUSY, before, {},
              [&] { return bn2d_module_set_momentum(module, 0.5); });
  check_fails("busy", BN2D_ERROR_BUSY, before, {},
              [&] { return bn2d_module_set_momentum_none(module); });
  REQUIRE(bn2d_module_unlock(module, 0) == BN2D_OK);

  REQUIRE(bn2d_module_set_momentum(module, 1) == BN2D_OK);
  CHECK(repr() == "BatchNorm2d(" + kChannels +
                      ", eps=1e-05, momentum=1.0, affine=True, track_running_stats=True)");
  REQUIRE(bn2d_forward(module, w.view_x, w.view_y, nullptr) == BN2D_OK);
  double mean[World::kC], var[World::kC];
  REQUIRE(bn2d_statistics_mean_var(w.statistics.get(), mean, var, World::kC) == BN2D_OK);
  for (int c = 0; c < World::kC; ++c)
    CHECK(data_of<float>(w.module, "running_mean")[c] == static_cast<float>(mean[c]));

  REQUIRE(bn2d_module_set_momentum_none(module) == BN2D_OK);
  CHECK(repr() == "BatchNorm2d(" + kChannels +
                      ", eps=1e-05, momentum=None, affine=True, track_running_stats=True)");
  int32_t has = -1;
  double momentum = 0;
  REQUIRE(bn2d_module_momentum(module, &has, &momentum) == BN2D_OK);
  CHECK(has == 0);
  CHECK(std::isnan(momentum));
  const float old = data_of<float>(w.module, "running_mean")[1];
  REQUIRE(batches_of(w.module) == 2);  // so the next one is a third
  REQUIRE(bn2d_forward(module, w.view_z, w.view_y, nullptr) == BN2D_OK);
  REQUIRE(bn2d_statistics_mean_var(w.other_statistics.get(), mean, var, World::kC) == BN2D_OK);
  CHECK(data_of<float>(w.module, "running_mean")[1] == Approx((2 * old + mean[1]) / 3));
}

TEST_CASE("living module: frozen", "[statistics][modes]") {
  // Catches a frozen module that still updates or counts, one that train() thaws, and another
  // backward than that of eval mode.
  World w;
  bn2d_module *const module = w.module.get();
  Settings settings;
  settings.track = false;
  const Module untracked = make_module(World::kC, settings);
  Snapshot before = w.snapshot();
  before.add("untracked", untracked.get());
  check_fails("no buffers", BN2D_ERROR_STATE, before, {"BatchNorm2d"},
              [&] { return bn2d_module_set_frozen(untracked.get(), 1); });
  CHECK(bn2d_module_set_frozen(untracked.get(), 0) == BN2D_OK);
  check_fails("2", BN2D_ERROR_INVALID_ARGUMENT, before, {"2", "frozen"},
              [&] { return bn2d_module_set_frozen(module, 2); });
  REQUIRE(bn2d_module_try_lock(module, 0) == BN2D_OK);
  check_fails("busy", BN2D_ERROR_BUSY, before, {},
              [&] { return bn2d_module_set_frozen(module, 1); });
  REQUIRE(bn2d_module_unlock(module, 0) == BN2D_OK);

  struct Results {
    std::vector<float> y, dx, dweight;
    bool operator==(const Results &o) const {
      return y == o.y && dx == o.dx && dweight == o.dweight;
    }
  };
  const auto run = [&] {
    REQUIRE(bn2d_module_zero_grad(module) == BN2D_OK);
    bn2d_record *raw = nullptr;
    REQUIRE(bn2d_forward(module, w.view_x, w.view_y, &raw) == BN2D_OK);
    const Record record(raw);
    REQUIRE(bn2d_backward(module, raw, w.view_dy, w.view_dx, nullptr) == BN2D_OK);
    const float *const dweight = data_of<float>(w.module, "weight.grad");
    return Results{w.y, w.dx, std::vector<float>(dweight, dweight + World::kC)};
  };
  const auto is_frozen = [&] {
    int32_t frozen = -1;
    REQUIRE(bn2d_module_is_frozen(module, &frozen) == BN2D_OK);
    return frozen;
  };
  CHECK(is_frozen() == 0);
  REQUIRE(bn2d_module_eval(module) == BN2D_OK);
  const Results in_eval = run();
  REQUIRE(bn2d_module_set_frozen(module, 1) == BN2D_OK);
  CHECK(is_frozen() == 1);
  REQUIRE(bn2d_module_train(module, 1) == BN2D_OK);
  CHECK(is_frozen() == 1);
  int32_t training = 0;
  REQUIRE(bn2d_module_is_training(module, &training) == BN2D_OK);
  CHECK(training == 1);

  const int64_t batches = batches_of(w.module);
  const float mean = data_of<float>(w.module, "running_mean")[0],
              var = data_of<float>(w.module, "running_var")[0];
  CHECK(run() == in_eval);
  CHECK(batches_of(w.module) == batches);
  CHECK(data_of<float>(w.module, "running_mean")[0] == mean);
  CHECK(data_of<float>(w.module, "running_var")[0] == var);
  // As in eval mode its forwards are shared.
  REQUIRE(bn2d_module_try_lock(module, 0) == BN2D_OK);
  CHECK(bn2d_forward(module, w.view_x, w.view_y, nullptr) == BN2D_OK);
  REQUIRE(bn2d_module_unlock(module, 0) == BN2D_OK);

  REQUIRE(bn2d_module_set_frozen(module, 0) == BN2D_OK);
  CHECK_FALSE(run() == in_eval);
  CHECK(batches_of(w.module) == batches + 1);
}
