// Options: every setter, by number and by name; what a module makes of them; its text.
#include <algorithm>
#include <cfloat>
#include <limits>

#include "support/contract_failures.h"
#include "support/contract_handles.h"
#include "support/contract_locale.h"
#include "support/numerics_values.h"

using namespace bn2d_test;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// What no function tells, from a step: channel 0 has the biased variance 1, channel 1 none that is
// finite.
std::string statistics_rules(const Module &module, int32_t dtype) {
  if (!has_tensor(module, "running_var")) return "";
  REQUIRE(bn2d_module_set_momentum(module.get(), 1.0) == BN2D_OK);
  double x[4], y[4];  // room for any dtype
  auto *const bytes = reinterpret_cast<unsigned char *>(x);
  const double values[] = {0, 2, 1, kInf};
  for (size_t i = 0; i < 4; ++i)
    numerics::write_element(dtype, bytes + i * numerics::size_of(dtype), values[i]);
  REQUIRE(bn2d_forward_flat(module.get(), dtype, BN2D_NCHW, x, nullptr, 1, 1, 2, BN2D_ACT_NONE, 0,
                            y, nullptr) == BN2D_OK);
  double var[2];
  REQUIRE(bn2d_tensor_copy_to_flat(tensor_of(module, "running_var").get(), BN2D_F64, var, 2) ==
          BN2D_OK);
  return std::string(var[0] == 1 ? " biased" : "") + (var[1] == 1 ? " protected" : "");
}

// All that a module tells about its options, to see that a refused value has changed nothing.
std::string described(bn2d_options *options) {
  const Module module = make_module(2, options);
  int32_t threads = -1, dtype = -1;
  REQUIRE(bn2d_module_get_num_threads(module.get(), &threads) == BN2D_OK);
  REQUIRE(bn2d_module_dtype(module.get(), &dtype) == BN2D_OK);
  const std::string told = repr_of(module) + " " + std::to_string(has_tensor(module, "bias")) +
                           " " + std::to_string(threads) + " " + std::to_string(dtype);
  return told + statistics_rules(module, dtype);  // which changes the module
}

double eps_of(const Module &module) {
  double eps = -1;
  REQUIRE(bn2d_module_eps(module.get(), &eps) == BN2D_OK);
  return eps;
}

double momentum_of(const Module &module) {
  int32_t has = -1;
  double momentum = -1;
  REQUIRE(bn2d_module_momentum(module.get(), &has, &momentum) == BN2D_OK);
  REQUIRE((has == 0 || has == 1));
  REQUIRE((has == 0) == std::isnan(momentum));
  return momentum;
}

std::vector<std::string> listing(const Module &module) {
  int32_t count = -1;
  REQUIRE(bn2d_module_tensor_count(module.get(), &count) == BN2D_OK);
  std::vector<std::string> names;
  for (int32_t i = 0; i < count; ++i) {
    bn2d_tensor *raw = nullptr;
    REQUIRE(bn2d_module_tensor_at(module.get(), i, &raw) == BN2D_OK);
    const Tensor tensor(raw);
    const char *name = nullptr;
    REQUIRE(bn2d_tensor_name(raw, &name) == BN2D_OK);
    names.emplace_back(name);
  }
  bn2d_tensor *raw = nullptr;
  for (const int32_t beyond : {-1, count, INT32_MAX, INT32_MIN}) {
    check_fails("tensor_at " + std::to_string(beyond), BN2D_ERROR_NOT_FOUND, Snapshot(),
                {std::to_string(beyond)},
                [&] { return bn2d_module_tensor_at(module.get(), beyond, &raw); });
    CHECK(raw == nullptr);
  }
  return names;
}

}  // namespace

TEST_CASE("options: defaults", "[options]") {
  // Catches a default that differs between NULL options, fresh options and the documentation.
  const Options options = make_options();
  bn2d_options *untouched = nullptr;
  REQUIRE(bn2d_options_create(&untouched) == BN2D_OK);
  const Options fresh(untouched);
  const Module module = make_module(2);
  CHECK(described(options.get()) == described(nullptr));
  CHECK(described(fresh.get()) == described(nullptr));
  CHECK(described(nullptr) ==
        "BatchNorm2d(2, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True) 1 0 " +
            std::to_string(BN2D_F32));
  CHECK(eps_of(module) == 1e-5);
  CHECK(momentum_of(module) == 0.1);
  int32_t type = -1, id = -1;
  CHECK(bn2d_module_device(module.get(), &type, &id) == BN2D_OK);
  CHECK(type == BN2D_CPU);
  CHECK(id == 0);
}

TEST_CASE("options: numbers, valid and not", "[options]") {
  // Catches a bound that is off by one or a NaN that slips through a comparison; a refused value
  // leaves the old one.
  const Options options = make_options();
  bn2d_options *raw = options.get();
  for (const double eps : {0.0, 5e-324, 1e-5, 1.0, 1e300, DBL_MAX}) {
    CHECK(bn2d_options_set_eps(raw, eps) == BN2D_OK);
    CHECK(eps_of(make_module(1, raw)) == eps);
  }
  for (const double momentum : {0.0, 5e-324, 0.1, 0.5, 1.0}) {
    CHECK(bn2d_options_set_momentum(raw, momentum) == BN2D_OK);
    CHECK(momentum_of(make_module(1, raw)) == momentum);
  }
  CHECK(bn2d_options_set_momentum_none(raw) == BN2D_OK);
  CHECK(std::isnan(momentum_of(make_module(1, raw))));
  CHECK(bn2d_options_set_momentum(raw, 0.25) == BN2D_OK);  // and back to a number
  CHECK(momentum_of(make_module(1, raw)) == 0.25);
  CHECK(bn2d_options_set_eps(raw, 0.5) == BN2D_OK);
  CHECK(bn2d_options_set_num_threads(raw, 3) == BN2D_OK);

  const std::string before = described(raw);
  for (const double eps : {-5e-324, -1e-5, kInf, -kInf, kNaN}) {
    check_fails("eps", BN2D_ERROR_INVALID_ARGUMENT, [&] { return bn2d_options_set_eps(raw, eps); });
  }
  for (const double momentum : {-5e-324, -0.1, std::nextafter(1.0, 2.0), 2.0, kInf, -kInf, kNaN}) {
    check_fails("momentum", BN2D_ERROR_INVALID_ARGUMENT,
                [&] { return bn2d_options_set_momentum(raw, momentum); });
  }
  check_fails("eps -2", BN2D_ERROR_INVALID_ARGUMENT, Snapshot(), {"-2|-2.0"},
              [&] { return bn2d_options_set_eps(raw, -2.0); });
  check_fails("momentum 17", BN2D_ERROR_INVALID_ARGUMENT, Snapshot(), {"17|17.0"},
              [&] { return bn2d_options_set_momentum(raw, 17.0); });
  for (const int32_t threads : {-1, INT32_MIN}) {
    check_fails("threads", BN2D_ERROR_INVALID_ARGUMENT, Snapshot(), {std::to_string(threads)},
                [&] { return bn2d_options_set_num_threads(raw, threads); });
  }
  for (const int32_t odd : {2, -1, INT32_MAX, INT32_MIN}) {
    const std::vector<std::string> words = {std::to_string(odd)};
    check_fails("affine", BN2D_ERROR_INVALID_ARGUMENT, Snapshot(), words,
                [&] { return bn2d_options_set_affine(raw, odd); });
    check_fails("bias", BN2D_ERROR_INVALID_ARGUMENT, Snapshot(), words,
                [&] { return bn2d_options_set_bias(raw, odd); });
    check_fails("track", BN2D_ERROR_INVALID_ARGUMENT, Snapshot(), words,
                [&] { return bn2d_options_set_track_running_stats(raw, odd); });
    check_fails("biased", BN2D_ERROR_INVALID_ARGUMENT, Snapshot(), words,
                [&] { return bn2d_options_set_biased_running_var(raw, odd); });
    check_fails("protect", BN2D_ERROR_INVALID_ARGUMENT, Snapshot(), words,
                [&] { return bn2d_options_set_protect_running_stats(raw, odd); });
  }
  for (const int32_t dtype : {0, -1, static_cast<int32_t>(BN2D_I64), 6, INT32_MAX, INT32_MIN}) {
    check_fails("dtype " + std::to_string(dtype), BN2D_ERROR_DTYPE, Snapshot(),
                {std::to_string(dtype) + "|" + bn2d_dtype_name(dtype)},
                [&] { return bn2d_options_set_dtype(raw, dtype); });
  }
  CHECK(bn2d_options_set_device(raw, BN2D_CPU, 0) == BN2D_OK);
  struct Device {
    int32_t type, id;
  };
  for (const Device &d : {Device{BN2D_CUDA, 0}, Device{BN2D_ROCM, 0}, Device{0, 0}, Device{-1, 0},
                          Device{BN2D_CPU, 1}, Device{BN2D_CPU, -1}, Device{77, 5}}) {
    check_fails("device " + std::to_string(d.type) + ":" + std::to_string(d.id), BN2D_ERROR_DEVICE,
                [&] { return bn2d_options_set_device(raw, d.type, d.id); });
  }
  CHECK(described(raw) == before);
}

TEST_CASE("options: by name and text", "[options]") {
  // Catches a name that sets another option, a value that is read only in part, and a refused value
  // that took.
  struct Line {
    const char *name, *value;
    int32_t status;
  };
  const std::vector<Line> lines = {
      {"eps", "1e-3", BN2D_OK},
      {"eps", "0", BN2D_OK},
      {"eps", "0.001", BN2D_OK},
      {"eps", "", BN2D_ERROR_INVALID_ARGUMENT},
      {"eps", "None", BN2D_ERROR_INVALID_ARGUMENT},
      {"eps", "1e-3x", BN2D_ERROR_INVALID_ARGUMENT},
      {"eps", "1e-3 1", BN2D_ERROR_INVALID_ARGUMENT},
      {"eps", "0,5", BN2D_ERROR_INVALID_ARGUMENT},
      {"eps", "nan", BN2D_ERROR_INVALID_ARGUMENT},
      {"eps", "inf", BN2D_ERROR_INVALID_ARGUMENT},
      {"eps", "1e999", BN2D_ERROR_INVALID_ARGUMENT},
      {"eps", "-1e-5", BN2D_ERROR_INVALID_ARGUMENT},
      {"eps", "abc", BN2D_ERROR_INVALID_ARGUMENT},
      {"momentum", "0.5", BN2D_OK},
      {"momentum", "1", BN2D_OK},
      {"momentum", "0", BN2D_OK},
      {"momentum", "None", BN2D_OK},
      {"momentum", "none", BN2D_OK},
      {"momentum", "NONE", BN2D_ERROR_INVALID_ARGUMENT},
      {"momentum", "1.5", BN2D_ERROR_INVALID_ARGUMENT},
      {"momentum", "-0.5", BN2D_ERROR_INVALID_ARGUMENT},
      {"momentum", "nan", BN2D_ERROR_INVALID_ARGUMENT},
      {"momentum", "Nonesuch", BN2D_ERROR_INVALID_ARGUMENT},
      {"momentum", "", BN2D_ERROR_INVALID_ARGUMENT},
      {"device", "cpu", BN2D_OK},
      {"device", "cuda", BN2D_ERROR_DEVICE},
      {"device", "", BN2D_ERROR_DEVICE},
      {"device", "cpux", BN2D_ERROR_DEVICE},
      {"dtype", "float64", BN2D_OK},
      {"dtype", "bf16", BN2D_OK},
      {"dtype", "f16", BN2D_OK},
      {"dtype", "float32", BN2D_OK},
      {"dtype", "int64", BN2D_ERROR_DTYPE},
      {"dtype", "float", BN2D_ERROR_DTYPE},
      {"dtype", "", BN2D_ERROR_DTYPE},
      {"num_threads", "4", BN2D_OK},
      {"num_threads", "0", BN2D_OK},
      {"num_threads", "2147483647", BN2D_OK},
      {"num_threads", "2147483648", BN2D_ERROR_INVALID_ARGUMENT},
      {"num_threads", "99999999999999999999999", BN2D_ERROR_INVALID_ARGUMENT},
      {"num_threads", "-1", BN2D_ERROR_INVALID_ARGUMENT},
      {"num_threads", "4.5", BN2D_ERROR_INVALID_ARGUMENT},
      {"num_threads", "4x", BN2D_ERROR_INVALID_ARGUMENT},
      {"num_threads", "", BN2D_ERROR_INVALID_ARGUMENT},
      {"ghost_batch_size", "32", BN2D_OK},
      {"ghost_batch_size", "0", BN2D_OK},
      {"ghost_batch_size", "-1", BN2D_ERROR_INVALID_ARGUMENT},
      {"ghost_batch_size", "3x", BN2D_ERROR_INVALID_ARGUMENT},
      {"", "1", BN2D_ERROR_NOT_FOUND},
      {"epsilon", "1", BN2D_ERROR_NOT_FOUND},
      {"ep", "1", BN2D_ERROR_NOT_FOUND},
      {"Eps", "1", BN2D_ERROR_NOT_FOUND},
      {"num_features", "1", BN2D_ERROR_NOT_FOUND},
  };
  for (const Line &line : lines) {
    const std::string what = std::string(line.name) + " = \"" + line.value + "\"";
    INFO(what);
    const Options options = make_options();
    const std::string before = described(options.get());
    const auto set = [&] { return bn2d_options_set_by_name(options.get(), line.name, line.value); };
    if (line.status == BN2D_OK) {
      CHECK(set() == BN2D_OK);
    } else {
      check_fails(what, line.status, set);
      CHECK(described(options.get()) == before);
    }
  }
  struct Flag {
    const char *name;
    int32_t (*set)(bn2d_options *, int32_t);
  };
  for (const Flag &flag :
       {Flag{"affine", bn2d_options_set_affine}, Flag{"bias", bn2d_options_set_bias},
        Flag{"track_running_stats", bn2d_options_set_track_running_stats},
        Flag{"biased_running_var", bn2d_options_set_biased_running_var},
        Flag{"protect_running_stats", bn2d_options_set_protect_running_stats}}) {
    const Options options = make_options();
    std::string told[2];
    for (const int32_t value : {0, 1}) {
      REQUIRE(flag.set(options.get(), value) == BN2D_OK);
      told[value] = described(options.get());
    }
    INFO(flag.name);
    CHECK(told[0] != told[1]);
    for (const char *value : {"False", "True", "false", "true", "0", "1"}) {
      INFO(value);
      CHECK(bn2d_options_set_by_name(options.get(), flag.name, value) == BN2D_OK);
      const bool on = *value == 'T' || *value == 't' || *value == '1';
      CHECK(described(options.get()) == told[on]);
      for (const char *odd : {"", "yes", "2", "-1", "Truee", "01", "0.0", "None", "TRUE"}) {
        check_fails(odd, BN2D_ERROR_INVALID_ARGUMENT,
                    [&] { return bn2d_options_set_by_name(options.get(), flag.name, odd); });
      }
      CHECK(described(options.get()) == told[on]);
    }
  }
}

TEST_CASE("options: a name sets the option that its setter sets", "[options]") {
  // Catches two names that are swapped.
  const auto by_name = [](const std::vector<std::pair<const char *, const char *>> &pairs) {
    const Options options = make_options();
    for (const auto &[name, value] : pairs) {
      CHECK(bn2d_options_set_by_name(options.get(), name, value) == BN2D_OK);
    }
    return described(options.get());
  };
  const auto by_settings = [](const Settings &settings) {
    return described(make_options(settings).get());
  };
  Settings s;
  s.eps = 0.25;
  s.momentum = 0.75;
  CHECK(by_name({{"eps", "0.25"}, {"momentum", "0.75"}}) == by_settings(s));
  s = Settings();
  s.has_momentum = false;
  CHECK(by_name({{"momentum", "None"}}) == by_settings(s));
  s = Settings();
  s.affine = false;
  CHECK(by_name({{"affine", "False"}}) == by_settings(s));
  s = Settings();
  s.bias = false;
  CHECK(by_name({{"bias", "0"}}) == by_settings(s));
  s = Settings();
  s.track = false;
  CHECK(by_name({{"track_running_stats", "False"}}) == by_settings(s));
  s = Settings();
  s.dtype = BN2D_BF16;
  s.threads = 5;
  CHECK(by_name({{"dtype", "bfloat16"}, {"num_threads", "5"}}) == by_settings(s));
  const Options ghost = make_options();
  REQUIRE(bn2d_options_set_ghost_batch_size(ghost.get(), 3) == BN2D_OK);
  CHECK(by_name({{"ghost_batch_size", "3"}}) == described(ghost.get()));
}

TEST_CASE("options: biased_running_var and protect_running_stats do what they say", "[options]") {
  // Catches a flag that is stored but never used, or that its name does not reach.
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {
      0, 2, 1, inf};  // channel 0: mean 1, biased variance 1, unbiased 2; channel 1: not finite
  std::vector<float> y(4);
  for (const bool biased : {false, true}) {
    for (const bool protect : {false, true}) {
      for (const bool named : {false, true}) {
        Settings settings;
        settings.momentum = 1;
        settings.biased = !named && biased;
        settings.protect = !named && protect;
        const Options options = make_options(settings);
        if (named) {
          REQUIRE(bn2d_options_set_by_name(options.get(), "biased_running_var",
                                           biased ? "True" : "False") == BN2D_OK);
          REQUIRE(bn2d_options_set_by_name(options.get(), "protect_running_stats",
                                           protect ? "1" : "0") == BN2D_OK);
        }
        const Module module = make_module(2, options.get());
        REQUIRE(bn2d_forward_f32(module.get(), x.data(), 1, 1, 2, y.data(), nullptr) == BN2D_OK);
        INFO("biased " << biased << " protect " << protect << " named " << named);
        CHECK(data_of<float>(module, "running_mean")[0] == 1.0f);
        CHECK(data_of<float>(module, "running_var")[0] == (biased ? 1.0f : 2.0f));
        if (protect) {
          CHECK(data_of<float>(module, "running_mean")[1] == 0.0f);
          CHECK(data_of<float>(module, "running_var")[1] == 1.0f);
        } else {
          CHECK_FALSE(std::isfinite(data_of<float>(module, "running_mean")[1]));
          CHECK_FALSE(std::isfinite(data_of<float>(module, "running_var")[1]));
        }
        CHECK(batches_of(module) == 1);
      }
    }
  }
}

TEST_CASE("options: copied at creation", "[options]") {
  // Catches a module that keeps looking at the options object.
  Options options = make_options();
  const Module module = make_module(2, options.get());
  const std::string before = repr_of(module);
  REQUIRE(bn2d_options_set_eps(options.get(), 0.5) == BN2D_OK);
  REQUIRE(bn2d_options_set_momentum_none(options.get()) == BN2D_OK);
  REQUIRE(bn2d_options_set_affine(options.get(), 0) == BN2D_OK);
  REQUIRE(bn2d_options_set_track_running_stats(options.get(), 0) == BN2D_OK);
  CHECK(repr_of(module) == before);
  options.reset();
  CHECK(repr_of(module) == before);
  CHECK(eps_of(module) == 1e-5);
  const std::vector<float> x = {1, 2, 3, 4};
  std::vector<float> y(4);
  CHECK(bn2d_forward_f32(module.get(), x.data(), 2, 1, 1, y.data(), nullptr) == BN2D_OK);
  CHECK(batches_of(module) == 1);
}

TEST_CASE("options: what is switched off does not exist", "[options]") {
  // Catches a wrong order, a tensor that stays, and a gradient without its parameter.
  for (const bool affine : {true, false}) {
    for (const bool bias : {true, false}) {
      for (const bool track : {true, false}) {
        INFO("affine " << affine << " bias " << bias << " track " << track);
        Settings settings;
        settings.affine = affine;
        settings.bias = bias;
        settings.track = track;
        const Module module = make_module(3, settings);
        std::vector<std::string> expected;
        if (affine) expected.emplace_back("weight");
        if (affine && bias) expected.emplace_back("bias");
        if (track)
          expected.insert(expected.end(), {"running_mean", "running_var", "num_batches_tracked"});
        CHECK(listing(module) == expected);
        for (const char *name :
             {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}) {
          const bool exists = std::find(expected.begin(), expected.end(), name) != expected.end();
          const bool parameter = std::string(name) == "weight" || std::string(name) == "bias";
          for (const std::string &look : {std::string(name), std::string(name) + ".grad"}) {
            const bool there = exists && (look == name || parameter);
            INFO(look);
            bn2d_tensor *raw = nullptr;
            if (there) {
              CHECK(has_tensor(module, look.c_str()));
            } else {
              check_fails(look, BN2D_ERROR_NOT_FOUND, Snapshot(), {look}, [&] {
                return bn2d_module_tensor_by_name(module.get(), look.c_str(), &raw);
              });
              CHECK(raw == nullptr);
            }
          }
        }
        int32_t flag = -1;
        CHECK(bn2d_module_affine(module.get(), &flag) == BN2D_OK);
        CHECK(flag == affine);
        CHECK(bn2d_module_track_running_stats(module.get(), &flag) == BN2D_OK);
        CHECK(flag == track);
      }
    }
  }
  const Module module = make_module(3);
  for (const char *name :
       {"", "Weight", "weight ", "weigh", "weights", "grad", "weight.grad.grad", ".grad"}) {
    bn2d_tensor *raw = nullptr;
    check_fails(name, BN2D_ERROR_NOT_FOUND,
                [&] { return bn2d_module_tensor_by_name(module.get(), name, &raw); });
    CHECK(raw == nullptr);
  }
}

TEST_CASE("repr: as Python prints it", "[repr]") {
  // Catches printf's idea of a short number (1e-5, 0.10000000000000001, 1), and fields beyond the
  // five.
  struct Line {
    int64_t features;
    Settings settings;
    const char *text;
  };
  const auto settings = [](double eps, double momentum, bool affine = true, bool track = true) {
    Settings s;
    s.eps = eps;
    s.has_momentum = !std::isnan(momentum);
    s.momentum = momentum;
    s.affine = affine;
    s.track = track;
    return s;
  };
  std::vector<Line> lines = {
      {64, settings(1e-5, 0.1),
       "BatchNorm2d(64, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"},
      {1, settings(1e-3, 0.01),
       "BatchNorm2d(1, eps=0.001, momentum=0.01, affine=True, track_running_stats=True)"},
      {2, settings(1e-4, 0.5),
       "BatchNorm2d(2, eps=0.0001, momentum=0.5, affine=True, track_running_stats=True)"},
      {3, settings(0.0, 0.0),
       "BatchNorm2d(3, eps=0.0, momentum=0.0, affine=True, track_running_stats=True)"},
      {3, settings(1.0, 1.0),
       "BatchNorm2d(3, eps=1.0, momentum=1.0, affine=True, track_running_stats=True)"},
      {3, settings(1e-5, kNaN),
       "BatchNorm2d(3, eps=1e-05, momentum=None, affine=True, track_running_stats=True)"},
      {3, settings(1e-5, 0.1, false),
       "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=False, track_running_stats=True)"},
      {3, settings(1e-5, 0.1, true, false),
       "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, track_running_stats=False)"},
      {100000, settings(1e-5, kNaN, false, false),
       "BatchNorm2d(100000, eps=1e-05, momentum=None, affine=False, track_running_stats=False)"},
      {3, settings(5e-324, 0.30000000000000004),
       "BatchNorm2d(3, eps=5e-324, momentum=0.30000000000000004, affine=True, "
       "track_running_stats=True)"},
      {3, settings(DBL_MAX, 1.0 / 3),
       "BatchNorm2d(3, eps=1.7976931348623157e+308, momentum=0.3333333333333333, affine=True, "
       "track_running_stats=True)"},
      {3, settings(1e16, 1e-16),
       "BatchNorm2d(3, eps=1e+16, momentum=1e-16, affine=True, track_running_stats=True)"},
      {3, settings(1e15, 0.00012345),
       "BatchNorm2d(3, eps=1000000000000000.0, momentum=0.00012345, affine=True, "
       "track_running_stats=True)"},
      {3, settings(123456789.125, 1.5e-5),
       "BatchNorm2d(3, eps=123456789.125, momentum=1.5e-05, affine=True, "
       "track_running_stats=True)"},
      {3, settings(1e22, 1e-100),
       "BatchNorm2d(3, eps=1e+22, momentum=1e-100, affine=True, track_running_stats=True)"},
  };
  Line quiet = lines[0];  // what has no field leaves the text alone
  quiet.settings.bias = false;
  quiet.settings.biased = true;
  quiet.settings.protect = true;
  quiet.settings.threads = 7;
  quiet.settings.dtype = BN2D_F16;
  lines.push_back(quiet);
  for (const Line &line : lines)
    CHECK(repr_of(make_module(line.features, line.settings)) == line.text);
}

TEST_CASE("repr: buffers", "[repr]") {
  // Catches a text without its NUL, an overrun by one, and a length that is written by a call that
  // fails.
  const Module module = make_module(64);
  const std::string text = repr_of(module);
  for (size_t capacity = 1; capacity < text.size() + 8; ++capacity) {
    INFO("capacity " << capacity);
    std::string buffer(text.size() + 16, '#');
    uint64_t length = 12345;
    Snapshot before;
    before.add("buffer", buffer.data(), buffer.size());
    before.add("length", &length, sizeof length);
    if (capacity <= text.size()) {
      check_fails("too small", BN2D_ERROR_BUFFER_TOO_SMALL, before, {std::to_string(capacity)},
                  [&] { return bn2d_module_repr(module.get(), buffer.data(), capacity, &length); });
      check_fails("too small, no length", BN2D_ERROR_BUFFER_TOO_SMALL, before, {},
                  [&] { return bn2d_module_repr(module.get(), buffer.data(), capacity, nullptr); });
    } else {
      CHECK(bn2d_module_repr(module.get(), buffer.data(), capacity, &length) == BN2D_OK);
      CHECK(length == text.size());
      CHECK(buffer.substr(0, text.size() + 1) == text + '\0');
      CHECK(buffer.substr(text.size() + 1) == std::string(buffer.size() - text.size() - 1, '#'));
      CHECK(bn2d_module_repr(module.get(), buffer.data(), capacity, nullptr) == BN2D_OK);
    }
  }
  std::string buffer(4, '#');
  uint64_t length = 0;
  CHECK(bn2d_module_repr(module.get(), buffer.data(), 0, &length) == BN2D_OK);
  CHECK(length == text.size());
  CHECK(buffer == "####");
  CHECK(bn2d_module_repr(module.get(), nullptr, 0, nullptr) == BN2D_OK);
  check_fails("a capacity without a buffer", BN2D_ERROR_INVALID_ARGUMENT,
              [&] { return bn2d_module_repr(module.get(), nullptr, 100, &length); });
}

TEST_CASE("options: numbers do not depend on the host's locale", "[options][locale]") {
  // Catches strtod, printf or a stream with the global locale: "0.5" read as 0, "0,5" accepted,
  // 100.000 printed.
  int32_t good = -1, bad = 0;
  double eps = -1;
  bool comma = false;
  std::string text;
  {
    const Options options = make_options();
    const CommaLocale locale;
    comma = CommaLocale::has_comma();
    good = bn2d_options_set_by_name(options.get(), "eps", "0.125");
    bad = bn2d_options_set_by_name(options.get(), "momentum", "0,5");
    const Module module = make_module(100000, options.get());
    eps = eps_of(module);
    text = repr_of(module);
  }
#ifdef __GLIBC__
  REQUIRE(comma);
#endif
  CHECK(good == BN2D_OK);
  CHECK(bad == BN2D_ERROR_INVALID_ARGUMENT);
  CHECK(eps == 0.125);
  CHECK(text ==
        "BatchNorm2d(100000, eps=0.125, momentum=0.1, affine=True, track_running_stats=True)");
}
