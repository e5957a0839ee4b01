// A module's state: initial values, modes, resets, gradients, getters.
#include <algorithm>
#include <limits>
#include <string>

#include "support/contract_failures.h"
#include "support/contract_handles.h"
#include "support/contract_views.h"

using namespace bn2d_test;

namespace {

std::vector<double> values_of(const Module &module, const char *name) {
  const Tensor tensor = tensor_of(module, name);
  int64_t channels = 0;
  REQUIRE(bn2d_module_num_features(module.get(), &channels) == BN2D_OK);
  std::vector<double> values(static_cast<size_t>(channels), 12345.0);
  const View view = View::vector(values.data(), BN2D_F64, channels);
  REQUIRE(bn2d_tensor_copy_to(tensor.get(), view) == BN2D_OK);
  return values;
}

bool training(const Module &module) {
  int32_t flag = -1;
  REQUIRE(bn2d_module_is_training(module.get(), &flag) == BN2D_OK);
  REQUIRE((flag == 0 || flag == 1));
  return flag == 1;
}

int32_t requires_grad(const Tensor &tensor) {
  int32_t flag = -1;
  REQUIRE(bn2d_tensor_requires_grad(tensor.get(), &flag) == BN2D_OK);
  return flag;
}

// x of (2, c, 2, 2) and a training step over it with both passes.
struct Step {
  explicit Step(int64_t channels)
      : c(channels), x(static_cast<size_t>(8 * c)), y(x.size()), dx(x.size()) {
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * i % 13);
  }
  Record forward(const Module &module) {
    bn2d_record *raw = nullptr;
    REQUIRE(bn2d_forward_f32(module.get(), x.data(), 2, 2, 2, y.data(), &raw) == BN2D_OK);
    return Record(raw);
  }
  void backward(const Module &module, const Record &record) {
    REQUIRE(bn2d_backward_f32(module.get(), record.get(), x.data(), dx.data()) == BN2D_OK);
  }
  int64_t c;
  std::vector<float> x, y, dx;
};

}  // namespace

TEST_CASE("module: initial state of every dtype", "[module]") {
  // Catches a wrong default, a buffer of another dtype, a counter that follows the module's dtype.
  const int64_t channels = 5;
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    INFO(bn2d_dtype_name(dtype));
    Settings settings;
    settings.dtype = dtype;
    const Module module = make_module(channels, settings);
    CHECK(training(module));
    int64_t features = 0;
    CHECK(bn2d_module_num_features(module.get(), &features) == BN2D_OK);
    CHECK(features == channels);
    int32_t answer = 0;
    CHECK(bn2d_module_dtype(module.get(), &answer) == BN2D_OK);
    CHECK(answer == dtype);
    struct Expected {
      const char *name;
      int32_t kind;
      double value;
    };
    for (const Expected &expected :
         {Expected{"weight", BN2D_PARAMETER, 1}, Expected{"bias", BN2D_PARAMETER, 0},
          Expected{"running_mean", BN2D_BUFFER, 0}, Expected{"running_var", BN2D_BUFFER, 1},
          Expected{"weight.grad", BN2D_GRADIENT, 0}, Expected{"bias.grad", BN2D_GRADIENT, 0}}) {
      INFO(expected.name);
      const Tensor tensor = tensor_of(module, expected.name);
      CHECK(values_of(module, expected.name) == std::vector<double>(channels, expected.value));
      int32_t number = -1;
      int64_t extent = -1;
      uint64_t bytes = 0;
      const char *name = nullptr;
      CHECK(bn2d_tensor_name(tensor.get(), &name) == BN2D_OK);
      CHECK(name == std::string(expected.name));
      CHECK(bn2d_tensor_kind(tensor.get(), &number) == BN2D_OK);
      CHECK(number == expected.kind);
      CHECK(bn2d_tensor_dtype(tensor.get(), &number) == BN2D_OK);
      CHECK(number == dtype);
      CHECK(bn2d_tensor_rank(tensor.get(), &number) == BN2D_OK);
      CHECK(number == 1);
      CHECK(bn2d_tensor_dim(tensor.get(), 0, &extent) == BN2D_OK);
      CHECK(extent == channels);
      CHECK(bn2d_tensor_nbytes(tensor.get(), &bytes) == BN2D_OK);
      CHECK(bytes == static_cast<uint64_t>(channels) * bn2d_dtype_size(dtype));
      CHECK(requires_grad(tensor) == (expected.kind == BN2D_PARAMETER ? 1 : 0));
      for (const int32_t beyond : {1, -1, INT32_MAX, INT32_MIN}) {
        check_fails("dimension", BN2D_ERROR_NOT_FOUND, Snapshot(), {std::to_string(beyond)},
                    [&] { return bn2d_tensor_dim(tensor.get(), beyond, &extent); });
        CHECK(extent == channels);
      }
    }
    const Tensor counter = tensor_of(module, "num_batches_tracked");
    int32_t number = -1;
    int64_t extent = -1;
    uint64_t bytes = 0;
    CHECK(*data_of<int64_t>(counter) == 0);
    CHECK(bn2d_tensor_kind(counter.get(), &number) == BN2D_OK);
    CHECK(number == BN2D_BUFFER);
    CHECK(bn2d_tensor_dtype(counter.get(), &number) == BN2D_OK);
    CHECK(number == BN2D_I64);
    CHECK(bn2d_tensor_rank(counter.get(), &number) == BN2D_OK);
    CHECK(number == 0);
    CHECK(bn2d_tensor_nbytes(counter.get(), &bytes) == BN2D_OK);
    CHECK(bytes == 8);
    CHECK(requires_grad(counter) == 0);
    check_fails("a dimension of a scalar", BN2D_ERROR_NOT_FOUND,
                [&] { return bn2d_tensor_dim(counter.get(), 0, &extent); });
  }
}

TEST_CASE("module: number of features", "[module]") {
  // Catches a module of nothing, and a product that wraps to a small allocation.
  bn2d_module *out = nullptr;
  for (const int64_t bad : {int64_t{0}, int64_t{-1}, INT64_MIN}) {
    check_fails("num_features " + std::to_string(bad), BN2D_ERROR_INVALID_ARGUMENT, Snapshot(),
                {std::to_string(bad)}, [&] { return bn2d_module_create(bad, nullptr, &out); });
    CHECK(out == nullptr);
  }
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    Settings settings;
    settings.dtype = dtype;
    const Options options = make_options(settings);
    check_fails("INT64_MAX features", BN2D_ERROR_OVERFLOW,
                [&] { return bn2d_module_create(INT64_MAX, options.get(), &out); });
    CHECK(out == nullptr);
  }
  for (const int64_t good : {1, 2, 3, 63, 1024, 100003}) CHECK(make_module(good) != nullptr);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("module: no memory", "[module]") {
  // Catches an exception of the allocator that crosses the boundary. (The sanitisers end the
  // program instead.)
  bn2d_module *out = nullptr;
  check_fails("2^58 features", BN2D_ERROR_OUT_OF_MEMORY,
              [&] { return bn2d_module_create(int64_t{1} << 58, nullptr, &out); });
  CHECK(out == nullptr);
  CHECK(std::string(bn2d_last_error()) ==
        "out of memory: weight takes 288230376151711744 times 4 bytes");
}
#endif

TEST_CASE("module: train and eval", "[module]") {
  // Catches a mode that does not switch, and one that accepts any number as true.
  const Module module = make_module(3);
  CHECK(bn2d_module_eval(module.get()) == BN2D_OK);
  CHECK_FALSE(training(module));
  CHECK(bn2d_module_train(module.get(), 1) == BN2D_OK);
  CHECK(training(module));
  CHECK(bn2d_module_train(module.get(), 0) == BN2D_OK);
  CHECK_FALSE(training(module));
  Snapshot before;
  before.add("module", module.get());
  for (const int32_t odd : {2, -1, INT32_MAX, INT32_MIN}) {
    check_fails("train", BN2D_ERROR_INVALID_ARGUMENT, before, {std::to_string(odd)},
                [&] { return bn2d_module_train(module.get(), odd); });
  }
}

TEST_CASE("module: the counter and the statistics move in training only", "[module]") {
  // Catches a count per record, per backward or in eval; statistics that move in eval or not
  // without a record.
  Step step(3);
  const Module module = make_module(3);
  REQUIRE(bn2d_forward_f32(module.get(), step.x.data(), 2, 2, 2, step.y.data(), nullptr) ==
          BN2D_OK);
  CHECK(batches_of(module) == 1);
  const std::vector<double> unrecorded = values_of(module, "running_mean");
  CHECK(unrecorded != std::vector<double>(3, 0.0));
  {
    const Module other = make_module(3);
    const Record record = step.forward(other);
    CHECK(values_of(other, "running_mean") == unrecorded);  // recorded or not
    CHECK(batches_of(other) == 1);
    step.backward(other, record);
    step.backward(other, record);
    CHECK(batches_of(other) == 1);
    CHECK(values_of(other, "running_mean") == unrecorded);
  }
  REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
  const std::vector<double> mean = values_of(module, "running_mean"),
                            var = values_of(module, "running_var");
  const Record record = step.forward(module);
  step.backward(module, record);
  CHECK(batches_of(module) == 1);
  CHECK(values_of(module, "running_mean") == mean);
  CHECK(values_of(module, "running_var") == var);
}

TEST_CASE("module: momentum 0 freezes, 1 takes the last batch, none averages", "[module]") {
  // Catches a momentum on the wrong side of the blend, and an average that counts before or after
  // the wrong moment.
  const std::vector<float> first = {0, 2},
                           second = {4, 12};  // means 1, 8; unbiased variances 2, 32
  std::vector<float> y(2);
  const auto run = [&](const Settings &settings) {
    const Module module = make_module(1, settings);
    REQUIRE(bn2d_forward_f32(module.get(), first.data(), 2, 1, 1, y.data(), nullptr) == BN2D_OK);
    REQUIRE(bn2d_forward_f32(module.get(), second.data(), 2, 1, 1, y.data(), nullptr) == BN2D_OK);
    CHECK(batches_of(module) == 2);
    return std::vector<double>{values_of(module, "running_mean")[0],
                               values_of(module, "running_var")[0]};
  };
  Settings settings;
  settings.momentum = 0;
  CHECK(run(settings) == std::vector<double>{0, 1});
  settings.momentum = 1;
  CHECK(run(settings) == std::vector<double>{8, 32});
  settings.momentum = 0.5;
  CHECK(run(settings) == std::vector<double>{4.25, 16.75});
  settings.has_momentum = false;
  CHECK(run(settings) == std::vector<double>{4.5, 17});
}

TEST_CASE("module: without running statistics eval uses the batch, too", "[module]") {
  // Catches an eval that normalises with 0 and 1 because the buffers are missing.
  Step step(3);
  Settings settings;
  settings.track = false;
  const Module module = make_module(3, settings);
  step.forward(module);
  const std::vector<float> trained = step.y;
  REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
  std::fill(step.y.begin(), step.y.end(), 0.0f);
  const Record record = step.forward(module);
  CHECK(step.y == trained);
  step.backward(module, record);
  CHECK(bn2d_module_reset_running_stats(module.get()) == BN2D_OK);  // nothing to do
}

TEST_CASE("module: eval uses the running statistics", "[module]") {
  // Catches an eval on batch statistics.
  Settings settings;
  settings.eps = 0;
  const Module module = make_module(2, settings);
  REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
  float *mean = data_of<float>(module, "running_mean"),
        *var = data_of<float>(module, "running_var");
  mean[0] = 1;
  mean[1] = -2;
  var[0] = 4;
  var[1] = 0.25f;
  data_of<float>(module, "weight")[1] = 3;
  data_of<float>(module, "bias")[1] = 1;
  const std::vector<float> x = {5, -1.5f};
  std::vector<float> y(2);
  REQUIRE(bn2d_forward_f32(module.get(), x.data(), 1, 1, 1, y.data(), nullptr) ==
          BN2D_OK);  // 1 value is enough here
  CHECK(y == std::vector<float>{2, 4});
}

TEST_CASE("module: resets", "[module]") {
  // Catches a reset that forgets a tensor, touches a gradient, or changes the mode.
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    INFO(bn2d_dtype_name(dtype));
    Settings settings;
    settings.dtype = dtype;
    const Module module = make_module(3, settings);
    give_character(module);
    *data_of<int64_t>(module, "num_batches_tracked") = 7;
    const std::vector<double> fives(3, 5.0);
    const View source = View::vector(const_cast<double *>(fives.data()), BN2D_F64, 3);
    REQUIRE(bn2d_tensor_copy_from(tensor_of(module, "weight.grad").get(), source) == BN2D_OK);
    REQUIRE(bn2d_tensor_copy_from(tensor_of(module, "bias.grad").get(), source) == BN2D_OK);
    REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
    const std::vector<double> weight = values_of(module, "weight"),
                              bias = values_of(module, "bias");

    CHECK(bn2d_module_reset_running_stats(module.get()) == BN2D_OK);
    CHECK(values_of(module, "running_mean") == std::vector<double>(3, 0.0));
    CHECK(values_of(module, "running_var") == std::vector<double>(3, 1.0));
    CHECK(batches_of(module) == 0);
    CHECK(values_of(module, "weight") == weight);
    CHECK(values_of(module, "bias") == bias);

    give_character(module);
    *data_of<int64_t>(module, "num_batches_tracked") = 7;
    CHECK(bn2d_module_reset_parameters(module.get()) == BN2D_OK);
    CHECK(values_of(module, "running_mean") == std::vector<double>(3, 0.0));
    CHECK(values_of(module, "running_var") == std::vector<double>(3, 1.0));
    CHECK(batches_of(module) == 0);
    CHECK(values_of(module, "weight") == std::vector<double>(3, 1.0));
    CHECK(values_of(module, "bias") == std::vector<double>(3, 0.0));
    CHECK(values_of(module, "weight.grad") == fives);
    CHECK(values_of(module, "bias.grad") == fives);
    CHECK_FALSE(training(module));

    CHECK(bn2d_module_zero_grad(module.get()) == BN2D_OK);
    CHECK(values_of(module, "weight.grad") == std::vector<double>(3, 0.0));
    CHECK(values_of(module, "bias.grad") == std::vector<double>(3, 0.0));
  }
}

TEST_CASE("module: zero_grad really sets 0, also over what is not finite", "[module]") {
  // Catches a zero_grad that multiplies.
  const Module module = make_module(2);
  float *gradient = data_of<float>(module, "weight.grad");
  gradient[0] = std::numeric_limits<float>::quiet_NaN();
  gradient[1] = -std::numeric_limits<float>::infinity();
  REQUIRE(bn2d_module_zero_grad(module.get()) == BN2D_OK);
  CHECK(gradient[0] == 0.0f);
  CHECK(gradient[1] == 0.0f);
}

TEST_CASE("module: resets and zero_grad of a module without parameters or buffers", "[module]") {
  // Catches a NULL tensor inside.
  Settings settings;
  settings.affine = settings.track = false;
  const Module module = make_module(2, settings);
  CHECK(bn2d_module_reset_parameters(module.get()) == BN2D_OK);
  CHECK(bn2d_module_reset_running_stats(module.get()) == BN2D_OK);
  CHECK(bn2d_module_zero_grad(module.get()) == BN2D_OK);
  int32_t count = -1;
  CHECK(bn2d_module_tensor_count(module.get(), &count) == BN2D_OK);
  CHECK(count == 0);
  Step step(2);
  step.backward(module, step.forward(module));
}

TEST_CASE("module: requires_grad", "[module]") {
  // Catches a switch that counts at forward instead of at backward, switches both parameters, or
  // exists on a buffer.
  Step step(3);
  const Module module = make_module(3);
  const Tensor weight = tensor_of(module, "weight"), bias = tensor_of(module, "bias");
  const auto zero = std::vector<double>(3, 0.0);
  const Record record = step.forward(module);  // both are on here
  CHECK(bn2d_tensor_set_requires_grad(weight.get(), 0) == BN2D_OK);
  CHECK(requires_grad(weight) == 0);
  CHECK(requires_grad(bias) == 1);
  step.backward(module, record);
  CHECK(values_of(module, "weight.grad") == zero);
  CHECK(values_of(module, "bias.grad") != zero);
  const std::vector<float> dx = step.dx;
  REQUIRE(bn2d_module_zero_grad(module.get()) == BN2D_OK);
  CHECK(bn2d_tensor_set_requires_grad(weight.get(), 1) == BN2D_OK);
  CHECK(bn2d_tensor_set_requires_grad(bias.get(), 0) == BN2D_OK);
  step.backward(module, record);
  CHECK(values_of(module, "weight.grad") != zero);
  CHECK(values_of(module, "bias.grad") == zero);
  CHECK(step.dx == dx);  // the gradient of x does not depend on it

  Snapshot before;
  before.add("module", module.get());
  for (const int32_t odd : {2, -1, INT32_MAX}) {
    check_fails("requires_grad", BN2D_ERROR_INVALID_ARGUMENT, before, {std::to_string(odd)},
                [&] { return bn2d_tensor_set_requires_grad(weight.get(), odd); });
  }
  for (const char *name :
       {"running_mean", "running_var", "num_batches_tracked", "weight.grad", "bias.grad"}) {
    const Tensor tensor = tensor_of(module, name);
    INFO(name);
    CHECK(requires_grad(tensor) == 0);
    for (const int32_t flag : {0, 1}) {
      check_fails("requires_grad of no parameter", BN2D_ERROR_STATE, before, {name},
                  [&] { return bn2d_tensor_set_requires_grad(tensor.get(), flag); });
    }
    bn2d_tensor *gradient = nullptr;
    check_fails("gradient of no parameter", BN2D_ERROR_STATE, before, {name},
                [&] { return bn2d_tensor_grad(tensor.get(), &gradient); });
    CHECK(gradient == nullptr);
  }
}

TEST_CASE("module: thread limit", "[module]") {
  // Catches a limit that is not stored, or accepted below 0.
  Settings settings;
  settings.threads = 4;
  const Module module = make_module(2, settings);
  int32_t threads = -1;
  CHECK(bn2d_module_get_num_threads(module.get(), &threads) == BN2D_OK);
  CHECK(threads == 4);
  for (const int32_t limit : {1, 2, INT32_MAX, 0}) {
    CHECK(bn2d_module_set_num_threads(module.get(), limit) == BN2D_OK);
    CHECK(bn2d_module_get_num_threads(module.get(), &threads) == BN2D_OK);
    CHECK(threads == limit);
  }
  Snapshot before;
  before.add("module", module.get());
  for (const int32_t limit : {-1, INT32_MIN}) {
    check_fails("threads", BN2D_ERROR_INVALID_ARGUMENT, before, {std::to_string(limit)},
                [&] { return bn2d_module_set_num_threads(module.get(), limit); });
  }
}

TEST_CASE("module: eps = 0 and a constant channel", "[module]") {
  // Catches 0 * inf: y must be the bias, in training and in eval, and no gradient a NaN.
  Settings settings;
  settings.eps = 0;
  const Module module = make_module(1, settings);
  data_of<float>(module, "bias")[0] = 0.75f;
  const std::vector<float> x(4, 3.0f), dy = {1, 2, 3, 4};
  std::vector<float> y(4), dx(4);
  bn2d_record *raw = nullptr;
  REQUIRE(bn2d_forward_f32(module.get(), x.data(), 4, 1, 1, y.data(), &raw) == BN2D_OK);
  const Record record(raw);
  CHECK(y == std::vector<float>(4, 0.75f));
  REQUIRE(bn2d_backward_f32(module.get(), raw, dy.data(), dx.data()) == BN2D_OK);
  CHECK(dx == std::vector<float>(4, 0.0f));
  CHECK(data_of<float>(module, "weight.grad")[0] == 0.0f);
  CHECK(data_of<float>(module, "bias.grad")[0] == 10.0f);
  REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
  data_of<float>(module, "running_var")[0] = 0;
  REQUIRE(bn2d_forward_f32(module.get(), x.data(), 4, 1, 1, y.data(), nullptr) == BN2D_OK);
  CHECK(y == std::vector<float>(4, 0.75f));
}

TEST_CASE("module: a counter that the host has set beyond its range", "[module]") {
  // Catches an average over -1 + 1 = 0 batches, whose factor is infinite, and a counter that
  // overflows. Where nothing counts, nobody asks.
  const std::vector<float> x = {1, 2, 3, 4};
  std::vector<float> y(4);
  for (const bool has_momentum : {true, false}) {
    Settings settings;
    settings.has_momentum = has_momentum;
    const Module module = make_module(1, settings);
    int64_t &counter = *data_of<int64_t>(module, "num_batches_tracked");
    for (const int64_t value : {int64_t{-1}, int64_t{-2}, INT64_MIN, INT64_MAX}) {
      INFO("momentum " << has_momentum);
      counter = value;
      bn2d_record *raw = nullptr;
      Snapshot before;
      before.add("module", module.get());
      before.add("y", y);
      before.add("record", &raw, sizeof raw);
      for (const int64_t n : {1, 0}) {  // an empty batch counts, too
        check_fails("a training step", BN2D_ERROR_STATE, before,
                    {std::to_string(value), "9223372036854775806"}, [&] {
                      return bn2d_forward_f32(module.get(), x.data(), n, 2, 2, y.data(), &raw);
                    });
      }
      REQUIRE(bn2d_module_eval(module.get()) == BN2D_OK);
      CHECK(bn2d_forward_f32(module.get(), x.data(), 1, 2, 2, y.data(), nullptr) == BN2D_OK);
      CHECK(counter == value);
      REQUIRE(bn2d_module_train(module.get(), 1) == BN2D_OK);
    }
    counter = INT64_MAX - 1;
    CHECK(bn2d_forward_f32(module.get(), x.data(), 1, 2, 2, y.data(), nullptr) == BN2D_OK);
    CHECK(counter == INT64_MAX);
    REQUIRE(bn2d_module_reset_running_stats(module.get()) == BN2D_OK);
    CHECK(bn2d_forward_f32(module.get(), x.data(), 1, 2, 2, y.data(), nullptr) == BN2D_OK);
    CHECK(counter == 1);
  }
}
