// The map of eval mode, y = scale*x + shift: against long double, and what it refuses.
#include <cmath>

#include "support/contract_failures.h"
#include "support/contract_handles.h"
#include "support/numerics_values.h"
#include "support/worst.h"

using namespace bn2d_test;

namespace {

using numerics::Random;
using numerics::Real;

// Writes values of the module's dtype, and returns what it then holds.
std::vector<double> fill(const Module &module, const char *name, int32_t dtype, int64_t count,
                         const std::function<double()> &value) {
  if (!has_tensor(module, name)) return {};
  auto *bytes = data_of<unsigned char>(module, name);
  std::vector<double> held;
  for (int64_t i = 0; i < count; ++i) {
    held.push_back(numerics::rounded(dtype, value()));
    numerics::write_element(dtype, bytes + i * static_cast<int64_t>(numerics::size_of(dtype)),
                            held.back());
  }
  return held;
}

// The larger of the unit of the output and one of double around `scale`, in which the promise is
// made.
Real error_in_ulp(int32_t dtype, double got, Real want, Real scale) {
  if (dtype == BN2D_F64) return std::fabs(got - want) / oracle::ulp(oracle::binary64, scale);
  const double nearest = numerics::rounded(dtype, want);
  if (got == nearest) return 0;
  // Not the nearest one: only where `want` lies halfway within the error of double.
  return std::fabs(got - want) / oracle::ulp(numerics::format_of(dtype), want) - 0.5L;
}

}  // namespace

TEST_CASE("scale and shift: of every dtype, against long double", "[scale_shift]") {
  // Catches a wrong formula, a shift from a rounded product, rounding twice, an option that is
  // forgotten.
  Random random(1601);
  Real worst64 = 0, worst = 0;
  for (const int32_t own : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
    for (const int32_t wanted : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
      for (const int kind : {0, 1, 2}) {
        const int64_t channels = 97;
        Settings settings;
        settings.dtype = own;
        settings.affine = kind != 2;
        settings.bias = kind == 0;
        settings.eps = kind == 1 ? 0.25 : 1e-5;
        const Module module = make_module(channels, settings);
        const auto weight =
            fill(module, "weight", own, channels, [&] { return random.uniform(-2, 2); });
        const auto bias =
            fill(module, "bias", own, channels, [&] { return random.uniform(-3, 3); });
        const auto mean =
            fill(module, "running_mean", own, channels, [&] { return random.uniform(-100, 100); });
        const auto var =
            fill(module, "running_var", own, channels, [&] { return random.uniform(0, 4); });
        std::vector<double> space(2 * static_cast<size_t>(channels) + 2, 7.0);
        auto *scale = reinterpret_cast<unsigned char *>(space.data());
        auto *shift = reinterpret_cast<unsigned char *>(space.data() + channels + 1);
        REQUIRE(bn2d_module_scale_shift(module.get(), wanted, scale, shift, channels) == BN2D_OK);
        for (int64_t c = 0; c < channels; ++c) {
          const auto i = static_cast<size_t>(c);
          const Real w = weight.empty() ? 1 : weight[i], b = bias.empty() ? 0 : bias[i];
          const Real want_scale =
              w / std::sqrt(static_cast<Real>(var[i]) + static_cast<Real>(settings.eps));
          const Real want_shift = b - mean[i] * want_scale;
          const size_t size = numerics::size_of(wanted);
          const double got_scale =
              numerics::decode(wanted, numerics::read_bits(wanted, scale + i * size));
          const double got_shift =
              numerics::decode(wanted, numerics::read_bits(wanted, shift + i * size));
          const Real magnitude = std::fabs(b) + std::fabs(mean[i] * want_scale);
          Real &most = wanted == BN2D_F64 ? worst64 : worst;
          most = worse(most, error_in_ulp(wanted, got_scale, want_scale, want_scale));
          most = worse(most, error_in_ulp(wanted, got_shift, want_shift, magnitude));
        }
        CHECK(space[static_cast<size_t>(channels)] == 7.0);
        CHECK(space.back() == 7.0);
        // Each alone gives the same.
        std::vector<double> alone(static_cast<size_t>(channels));
        const auto bytes = static_cast<size_t>(channels) * numerics::size_of(wanted);
        REQUIRE(bn2d_module_scale_shift(module.get(), wanted, alone.data(), nullptr, channels) ==
                BN2D_OK);
        CHECK(std::memcmp(alone.data(), scale, bytes) == 0);
        REQUIRE(bn2d_module_scale_shift(module.get(), wanted, nullptr, alone.data(), channels) ==
                BN2D_OK);
        CHECK(std::memcmp(alone.data(), shift, bytes) == 0);
      }
  WARN("scale and shift, largest error: float64 "
       << static_cast<double>(worst64)
       << " ulp; others beyond half an ulp: " << static_cast<double>(worst));
  CHECK(worst64 <= 2);
  CHECK(worst <= 1e-6L);
}

TEST_CASE("scale and shift: a variance of 0 with eps 0, in training mode, too", "[scale_shift]") {
  // Catches an infinite scale where eval mode says y = bias, and a mode that is asked for.
  Settings settings;
  settings.eps = 0;
  const Module module = make_module(2, settings);
  data_of<float>(module, "running_var")[0] = 0;
  data_of<float>(module, "running_mean")[0] = 3;
  data_of<float>(module, "bias")[0] = 0.5f;
  float scale[2], shift[2];
  REQUIRE(bn2d_module_scale_shift(module.get(), BN2D_F32, scale, shift, 2) == BN2D_OK);
  CHECK(scale[0] == 0);
  CHECK(shift[0] == 0.5f);
  CHECK(scale[1] == 1);
  CHECK(shift[1] == 0);
}

TEST_CASE("scale and shift: a scale beyond double", "[scale_shift]") {
  // Catches infinity times a mean of 0, and a shift that is infinite although its value is not.
  Settings settings;
  settings.eps = 0;
  settings.dtype = BN2D_F64;
  const Module module = make_module(3, settings);
  for (int c = 0; c < 3; ++c) {
    data_of<double>(module, "running_var")[c] = 0x1p-1040;
    data_of<double>(module, "weight")[c] = 0x1p1000;
    data_of<double>(module, "bias")[c] = 0.5;
    data_of<double>(module, "running_mean")[c] = c == 0 ? 0 : c == 1 ? 0x1p-1000 : -1;
  }
  double scale[3], shift[3];
  REQUIRE(bn2d_module_scale_shift(module.get(), BN2D_F64, scale, shift, 3) == BN2D_OK);
  for (const double one : scale) CHECK(one == std::numeric_limits<double>::infinity());
  CHECK(shift[0] == 0.5);
  CHECK(shift[1] == 0.5 - 0x1p520);
  CHECK(shift[2] == std::numeric_limits<double>::infinity());
}

TEST_CASE("scale and shift: what is refused leaves everything alone", "[scale_shift]") {
  // Catches a check that is missing, and one that comes after the first write.
  Settings settings;
  settings.track = false;
  const Module without = make_module(3, settings), module = make_module(3);
  give_character(module);
  float arrays[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  float *scale = arrays, *shift = arrays + 4;
  Snapshot before;
  before.add("arrays", arrays, sizeof arrays);
  before.add("module", module.get());
  const auto fails = [&](const char *what, int32_t status, const std::vector<std::string> &words,
                         const Module &m, int32_t dtype, void *to_scale, void *to_shift,
                         int64_t length) {
    check_fails(what, status, before, words, [&] {
      return bn2d_module_scale_shift(m.get(), dtype, to_scale, to_shift, length);
    });
  };
  fails("no running statistics", BN2D_ERROR_STATE, {"BatchNorm2d"}, without, BN2D_F32, scale, shift,
        3);
  fails("length", BN2D_ERROR_SHAPE, {"4", "3"}, module, BN2D_F32, scale, shift, 4);
  for (const int32_t dtype : {0, int32_t{BN2D_I64}, 6, -1})
    fails("dtype", BN2D_ERROR_DTYPE, {}, module, dtype, scale, shift, 3);
  fails("not aligned", BN2D_ERROR_LAYOUT, {"shift"}, module, BN2D_F32, scale,
        reinterpret_cast<char *>(shift) + 2, 3);
  fails("each other", BN2D_ERROR_OVERLAP, {"scale", "shift"}, module, BN2D_F32, scale, scale + 2,
        3);
  float *const bias = data_of<float>(module, "bias");
  fails("a tensor", BN2D_ERROR_OVERLAP, {"shift", "bias"}, module, BN2D_F32, scale, bias, 3);
  const auto end = reinterpret_cast<void *>(UINTPTR_MAX - 7);
  fails("the end of memory", BN2D_ERROR_OVERFLOW, {}, module, BN2D_F32, end, shift, 3);
  REQUIRE(bn2d_module_try_lock(module.get(), 1) == BN2D_OK);
  fails("locked", BN2D_ERROR_BUSY, {}, module, BN2D_F32, scale, shift, 3);
  REQUIRE(bn2d_module_unlock(module.get(), 1) == BN2D_OK);
  CHECK(bn2d_module_scale_shift(module.get(), BN2D_F32, scale, shift, 3) == BN2D_OK);
}
