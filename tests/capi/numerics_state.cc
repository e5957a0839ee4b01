// Running statistics over many batches: momentum, the cumulative average, the options about them.
#include "support/numerics_case.h"

namespace {

using namespace numerics;

struct Batches {
  Extents e;
  std::vector<Values> x;
};

Batches batches_of(int32_t dtype, int count) {
  Batches batches{{4, 3, 6, 7}, {}};
  Random random(41);
  for (int k = 0; k < count; ++k) batches.x.push_back(channel_values(random, dtype, batches.e));
  return batches;
}

void train(Module &module, int32_t dtype, const Extents &e, const Values &values) {
  Tensor x(dtype, e, values), y(dtype, e);
  NUMERICS_OK(bn2d_forward(module, x.view(), y.view(), nullptr));
}

// One step of the oracle from what the module holds, so that roundings do not add up; 1 ulp of the
// larger term (3 in f64, where the products and the sum are rounded to the same format).
void check_step(Module &module, const Extents &e, const Values &x, const Values &mean,
                const Values &var, double m, bool biased, int32_t dtype, const std::string &group) {
  const auto s = oracle::batch_statistics(e, x, 1e-5);
  Reals want_mean, want_var, mean_scale, var_scale;
  for (int64_t c = 0; c < e.c; ++c) {
    const Real v = biased ? s.var[c] : oracle::unbiased(s.var[c], e.per_channel());
    want_mean.push_back(oracle::running(mean[c], s.mean[c], m));
    want_var.push_back(oracle::running(var[c], v, m));
    mean_scale.push_back(std::max<Real>(
        {std::fabs((1 - m) * mean[c]), std::fabs(m * s.mean[c]), std::fabs(want_mean.back())}));
    var_scale.push_back(std::max<Real>({(1 - m) * var[c], m * v, want_var.back()}));
  }
  const Real limit = dtype == BN2D_F64 ? 3 : 1;
  check_close(name_of(dtype, dtype), group + "running_mean", dtype,
              compare(dtype, e.c, 1, module.get("running_mean"), want_mean, mean_scale), limit);
  check_close(name_of(dtype, dtype), group + "running_var", dtype,
              compare(dtype, e.c, 1, module.get("running_var"), want_var, var_scale), limit);
}

}  // namespace

// Catches: 1 - m for m, a factor computed in float, a state rounded twice, a counter that is late
// by one for 1/k.
TEST_CASE("state: running statistics over ten batches, momentum and cumulative",
          "[numerics][state]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    const Batches batches = batches_of(dtype, 10);
    for (const bool biased : {false, true}) {
      for (const double momentum : {0.0, 0.1, 0.3, 1.0, -1.0}) {
        ModuleOptions options;
        options.dtype = dtype;
        options.biased = biased;
        options.cumulative = momentum < 0;
        options.momentum = std::max(momentum, 0.0);
        Module module(batches.e.c, options);
        for (size_t k = 0; k < batches.x.size(); ++k) {
          const Values mean = module.get("running_mean"), var = module.get("running_var");
          train(module, dtype, batches.e, batches.x[k]);
          const double m = options.cumulative ? 1 / static_cast<double>(k + 1) : momentum;
          INFO("momentum " << momentum << ", batch " << k);
          check_step(module, batches.e, batches.x[k], mean, var, m, biased, dtype, "10 batches: ");
          CHECK(module.batches() == static_cast<int64_t>(k + 1));
        }
        if (momentum == 0) {
          CHECK(module.get("running_mean") == Values(batches.e.c, 0.0));
          CHECK(module.get("running_var") == Values(batches.e.c, 1.0));
        }
      }
    }
  }
}

// Catches: a cumulative average that weighs the initial 0 and 1, or that forgets.
TEST_CASE("state: without momentum the running mean is the plain average, exactly",
          "[numerics][state]") {
  ModuleOptions options;
  options.cumulative = true;
  Module module(2, options);
  const Extents e{2, 2, 2, 2};
  // Means 2, 4, 9, 1 in channel 0; the averages 2, 3, 5, 4 are exact.
  const double means[] = {2, 4, 9, 1}, averages[] = {2, 3, 5, 4};
  for (int k = 0; k < 4; ++k) {
    Values x(16);
    for (size_t i = 0; i < 16; ++i) x[i] = means[k] + (i % 2 == 0 ? 0.5 : -0.5);
    train(module, BN2D_F32, e, x);
    INFO("batch " << k);
    CHECK(module.get("running_mean")[0] == averages[k]);
    CHECK(module.get("running_mean")[1] == averages[k]);
  }
  NUMERICS_OK(bn2d_module_reset_running_stats(module));
  train(module, BN2D_F32, e, Values(16, 7.0));
  CHECK(module.get("running_mean")[0] == 7);  // the first batch counts fully again
  CHECK(module.get("running_var")[0] == 0);
}

// Catches: a momentum of 0 that still computes 0 * inf or rounds; the counter must move.
TEST_CASE("state: momentum 0 leaves the bits alone, momentum 1 takes the batch",
          "[numerics][state]") {
  for (const double momentum : {0.0, 1.0}) {
    ModuleOptions options;
    options.momentum = momentum;
    Module module(3, options);
    const Values mean = {1e30, 0.1f, -7}, var = {3, 1e-30f, 0.7f};
    module.set("running_mean", mean);
    module.set("running_var", var);
    const Extents e{2, 3, 4, 4};
    Random random(42);
    Values x = channel_values(random, BN2D_F32, e);
    const Values kept = {rounded(BN2D_F32, mean[0]), mean[1], mean[2]};
    train(module, BN2D_F32, e, x);
    CHECK(module.batches() == 1);
    if (momentum == 0) {
      CHECK(module.get("running_mean") == kept);
      CHECK(module.get("running_var") == Values({3, 1e-30f, 0.7f}));
    } else {
      const auto s = oracle::batch_statistics(e, x, 1e-5);
      CHECK(compare(BN2D_F32, 3, 1, module.get("running_mean"), s.mean, s.mean).ulps <= 1);
    }
  }
}

// Catches: protection of all channels or of none; a poisoned channel that is updated in part;
// protection where all is well.
TEST_CASE("state: protect_running_stats keeps what a channel had, in that channel only",
          "[numerics][state]") {
  const Extents e{2, 5, 6, 6};
  const double infinity = std::numeric_limits<double>::infinity(),
               nan = std::numeric_limits<double>::quiet_NaN();
  for (const bool protect : {false, true}) {
    for (const bool stateless : {false, true}) {
      for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
        Random random(43);
        Values x = channel_values(random, BN2D_F32, e);
        x[e.plane() * 1 + 3] = nan;
        x[e.plane() * 3 + 8] = infinity;
        const Values mean = {0.5, 1.5, 2.5, 3.5, 4.5}, var = {1, 2, 3, 4, 5};
        Tensor tx(BN2D_F32, e, x, layout), ty(BN2D_F32, e, layout);
        Values new_mean, new_var;
        if (stateless) {
          Array m(BN2D_F32, mean), v(BN2D_F32, var);
          NUMERICS_OK(bn2d_batch_norm_forward(tx.view(), nullptr, ty.view(), BN2D_F32, nullptr,
                                              nullptr, m.data(), v.data(), 1, 0.5, 1e-5,
                                              protect ? BN2D_FLAG_PROTECT_RUNNING_STATS : 0,
                                              BN2D_ACT_NONE, 0, nullptr, nullptr, nullptr));
          new_mean = m.get();
          new_var = v.get();
        } else {
          ModuleOptions options;
          options.momentum = 0.5;
          options.protect = protect;
          Module module(e.c, options);
          module.set("running_mean", mean);
          module.set("running_var", var);
          NUMERICS_OK(bn2d_forward(module, tx.view(), ty.view(), nullptr));
          new_mean = module.get("running_mean");
          new_var = module.get("running_var");
          CHECK(module.batches() == 1);
        }
        const Values y = ty.get();
        for (int64_t c = 0; c < e.c; ++c) {
          INFO("channel " << c << ", protect " << protect << ", stateless " << stateless << ", "
                          << name_of(layout));
          if (c == 1 || c == 3) {
            CHECK((new_mean[c] == mean[c]) == protect);
            CHECK((new_var[c] == var[c]) == protect);
            CHECK(std::isnan(y[c * e.plane()]));
          } else {
            CHECK(new_mean[c] != mean[c]);
            CHECK(new_var[c] != var[c]);
            CHECK(std::isfinite(new_mean[c]));
            CHECK(std::isfinite(new_var[c]));
          }
        }
      }
    }
  }
}

// Catches: statistics of the batch in eval mode, running ones without running statistics, stale
// weights.
TEST_CASE("state: eval uses what training left, no_track always the batch", "[numerics][state]") {
  const Extents e{3, 4, 5, 6};
  Random random(44);
  const Values first = channel_values(random, BN2D_F32, e),
               second = channel_values(random, BN2D_F32, e);
  Module module(e.c);
  train(module, BN2D_F32, e, first);
  module.eval();
  const auto s =
      oracle::frozen_statistics(module.get("running_mean"), module.get("running_var"), 1e-5);
  Tensor x(BN2D_F32, e, second), y(BN2D_F32, e);
  NUMERICS_OK(bn2d_forward(module, x.view(), y.view(), nullptr));
  const auto want = oracle::forward(e, second, {}, {}, {}, s, no_activation);
  CHECK(compare(BN2D_F32, e.c, e.plane(), y.get(), want.y, want.scale).ulps <= 4);
  CHECK(module.batches() == 1);

  // A single value per channel is no obstacle in eval.
  const Extents one{1, 4, 1, 1};
  const Values single = {1, 2, 3, 4};
  Tensor small(BN2D_F32, one, single), result(BN2D_F32, one);
  NUMERICS_OK(bn2d_forward(module, small.view(), result.view(), nullptr));
  const auto expected = oracle::forward(one, single, {}, {}, {}, s, no_activation);
  CHECK(compare(BN2D_F32, 4, 1, result.get(), expected.y, expected.scale).ulps <= 4);
}

// Catches: blending that reads what it must not (0 * NaN), or that rounds the old value first.
TEST_CASE("state: blend of the stateless gradients", "[numerics][state]") {
  const Extents e{3, 4, 5, 6};
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    Case c;
    c.e = e;
    c.data = c.module = dtype;
    Inputs in = random_inputs(c, 45);
    const Expected want = expect(c, in);
    Tensor x(dtype, e, in.x), dy(dtype, e, in.dy), ddx(dtype, e, in.ddx);
    Array weight(dtype, in.weight);
    std::vector<double> mean, invstd;
    for (int64_t i = 0; i < e.c; ++i) {
      mean.push_back(static_cast<double>(want.statistics.mean[i]));
      invstd.push_back(static_cast<double>(want.statistics.invstd[i]));
    }
    for (const double blend : {0.0, 1.0, 0.5, -2.0}) {
      const Values old =
          blend == 0 ? Values(e.c, std::numeric_limits<double>::quiet_NaN()) : in.bias;
      Array dweight(dtype, old), dbias(dtype, old), dweight2(dtype, old);
      NUMERICS_OK(bn2d_batch_norm_backward(
          x.view(), dy.view(), nullptr, nullptr, dtype, weight.data(), mean.data(), invstd.data(),
          1, BN2D_ACT_NONE, 0, blend, nullptr, nullptr, dweight.data(), dbias.data()));
      NUMERICS_OK(bn2d_batch_norm_double_backward(x.view(), dy.view(), nullptr, nullptr, dtype,
                                                  weight.data(), mean.data(), invstd.data(), 1,
                                                  BN2D_ACT_NONE, 0, ddx.view(), nullptr, nullptr,
                                                  blend, nullptr, nullptr, dweight2.data()));
      const auto blended = [&](const Reals &fresh) {
        Reals values;
        for (int64_t i = 0; i < e.c; ++i)
          values.push_back(fresh[i] + (blend == 0 ? Real{0} : Real{blend} * old[i]));
        return values;
      };
      const auto wider = [&](const Reals &scale) {
        Reals values;
        for (int64_t i = 0; i < e.c; ++i)
          values.push_back(scale[i] + (blend == 0 ? 0 : std::fabs(blend * old[i])));
        return values;
      };
      INFO("blend " << blend);
      const std::string name = name_of(dtype, dtype);
      const auto &g = want.gradient;
      const Real bound = bound_of(dtype);
      check_close(name, "blend: dweight", dtype,
                  compare(dtype, e.c, 1, dweight.get(), blended(g.dweight), wider(g.dweight_scale)),
                  bound);
      check_close(name, "blend: dbias", dtype,
                  compare(dtype, e.c, 1, dbias.get(), blended(g.dbias), wider(g.dbias_scale)),
                  bound);
      const auto &d = want.double_gradient;
      check_close(
          name, "blend: dweight2", dtype,
          compare(dtype, e.c, 1, dweight2.get(), blended(d.dweight), wider(d.dweight_scale)),
          bound);
    }
  }
}
