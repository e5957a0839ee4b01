// Infinite numbers whose exact result is not NaN: damped by an activation, summed, or kept out by a
// momentum of 0.
#include <tuple>

#include "support/numerics_case.h"

namespace {

using namespace numerics;

constexpr double infinity = std::numeric_limits<double>::infinity();

// What frozen statistics of mean 0 and variance 1 with eps 0 do: y = act(x).
Module &identity(Module &module) {
  module.eval();
  return module;
}
ModuleOptions plain(int32_t dtype) {
  ModuleOptions options;
  options.dtype = dtype;
  options.eps = 0;
  return options;
}

// Positions in the middle of vectors and at the end of a plane: 9 x 11 elements.
const Extents kShape{2, 3, 9, 11};
const std::vector<size_t> kPlaces = {0, 17, 98, 99 + 64, 6 * 99 - 1};

}  // namespace

// Catches: relu as a product with a slope of 0, which makes NaN of -inf, and of an infinite dy that
// it damps: in y, dx, dz, and in the sums of all others.
TEST_CASE("infinite: relu gives 0 for -inf, and no gradient where dy is infinite",
          "[numerics][infinite]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
    for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::permuted})
      for (const bool training : {false, true}) {
        INFO(name_of(dtype, dtype) << " " << name_of(layout) << " training " << training);
        Random random(71);
        Values x = normal_values(random, dtype, kShape.size()),
               dy = normal_values(random, dtype, kShape.size());
        Values clean = dy;
        for (const size_t i : kPlaces) {
          x[i] = training ? -8 : -infinity;  // far on the damped side
          dy[i] = i % 2 == 0 ? infinity : -infinity;
          clean[i] = 1;
        }
        const auto run = [&](const Values &gradient) {
          Module module(kShape.c, plain(dtype));
          if (!training) identity(module);
          Tensor in(dtype, kShape, x, layout), out(dtype, kShape, layout),
              g(dtype, kShape, gradient, layout);
          Tensor dx(dtype, kShape, layout), dz(dtype, kShape, layout);
          Record record;
          NUMERICS_OK(bn2d_forward_act(module, in.view(), nullptr, BN2D_ACT_RELU, 0, out.view(),
                                       record.out()));
          if (!training) module.require_grad("weight", false);  // 0 * -inf is NaN by right
          NUMERICS_OK(bn2d_backward(module, record, g.view(), dx.view(), dz.view()));
          for (const size_t i : kPlaces) {
            CHECK(out.get()[i] == 0);
            CHECK(dz.get()[i] == 0);
          }
          Values sums = module.get("weight.grad");
          const Values dbias = module.get("bias.grad");
          sums.insert(sums.end(), dbias.begin(), dbias.end());
          return std::make_tuple(dx.bits(), dz.bits(), sums);
        };
        const auto [dx, dz, sums] = run(dy);
        const auto [clean_dx, clean_dz, clean_sums] = run(clean);
        CHECK(dx == clean_dx);
        CHECK(dz == clean_dz);
        // Float sums that meet an infinite number are taken again in double.
        const double ulp = is_half(dtype) ? 0x1p-8 : dtype == BN2D_F32 ? 0x1p-24 : 0;
        const double bound = ulp * static_cast<double>(kShape.per_channel());  // terms of about 1
        for (size_t i = 0; i < sums.size(); ++i) CHECK(std::fabs(sums[i] - clean_sums[i]) <= bound);
      }
}

// Catches: the same in double backward, whose kernels are others.
TEST_CASE("infinite: double backward through relu ignores an infinite dy that it damps",
          "[numerics][infinite]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_BF16})
    for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
      INFO(name_of(dtype, dtype) << " " << name_of(layout));
      Random random(72);
      Values x = normal_values(random, dtype, kShape.size()),
             dy = normal_values(random, dtype, kShape.size());
      const Values ddx = normal_values(random, dtype, kShape.size());
      Values clean = dy;
      for (const size_t i : kPlaces) x[i] = -8, dy[i] = infinity, clean[i] = 1;
      const auto run = [&](const Values &gradient) {
        Module module(kShape.c, plain(dtype));
        Tensor in(dtype, kShape, x, layout), out(dtype, kShape, layout),
            g(dtype, kShape, gradient, layout);
        Tensor v(dtype, kShape, ddx, layout), ddy(dtype, kShape, layout), dx(dtype, kShape, layout);
        Record record;
        NUMERICS_OK(bn2d_forward_act(module, in.view(), nullptr, BN2D_ACT_RELU, 0, out.view(),
                                     record.out()));
        NUMERICS_OK(bn2d_double_backward(module, record, g.view(), v.view(), nullptr, nullptr,
                                         ddy.view(), dx.view()));
        for (const size_t i : kPlaces) CHECK(ddy.get()[i] == 0);
        Bits all = dx.bits();
        for (const Bits &bits : {ddy.bits(), module.bits("weight.grad")})
          all.insert(all.end(), bits.begin(), bits.end());
        return all;
      };
      CHECK(run(dy) == run(clean));
    }
}

// Catches: a NaN on its way through an activation that damps the gradient there. Forward lets it
// through, so the gradient does too.
TEST_CASE("infinite: where the argument of the activation is NaN the gradient is whole",
          "[numerics][infinite]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16})
    for (const bool training : {false, true}) {
      INFO(name_of(dtype, dtype) << " training " << training);
      Random random(73);
      Values x = normal_values(random, dtype, kShape.size());
      const Values dy(x.size(), 3);
      for (const size_t i : kPlaces) x[i] = std::numeric_limits<double>::quiet_NaN();
      Module module(kShape.c, plain(dtype));
      if (!training) identity(module);
      Tensor in(dtype, kShape, x), out(dtype, kShape), g(dtype, kShape, dy), dz(dtype, kShape);
      Record record;
      NUMERICS_OK(
          bn2d_forward_act(module, in.view(), nullptr, BN2D_ACT_RELU, 0, out.view(), record.out()));
      NUMERICS_OK(bn2d_backward(module, record, g.view(), nullptr, dz.view()));
      const Values y = out.get(), through = dz.get();
      for (const size_t i : kPlaces) {
        CHECK(std::isnan(y[i]));
        CHECK(through[i] == 3);
      }
      // The channels that have no NaN: the sum is that of whole elements.
      const Values dbias = module.get("bias.grad");
      for (int64_t c = 0; c < kShape.c; ++c) {
        double want = 0;
        oracle::for_channel(kShape, c, [&](int64_t i) { want += through[static_cast<size_t>(i)]; });
        CHECK(dbias[static_cast<size_t>(c)] == want);
      }
    }
}

// Catches: an infinite sum whose low part, NaN, is added to it: in the lanes of a block, and where
// blocks merge.
TEST_CASE("infinite: dbias is infinite where the sum of dy is", "[numerics][infinite]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
    for (const Layout layout : {Layout::nchw, Layout::nhwc})
      for (const Extents &e : {Extents{2, 3, 9, 11}, Extents{3, 3, 64, 64}})  // one block, three
        for (const double sign : {1.0, -1.0}) {
          const double largest = static_cast<double>(std::numeric_limits<double>::max());
          INFO(name_of(dtype, dtype)
               << " " << name_of(layout) << " plane " << e.plane() << " sign " << sign);
          Random random(74);
          Values dy = normal_values(random, dtype, e.size());
          dy[5] = sign * infinity;  // channel 0
          if (dtype == BN2D_F64) {  // channel 1: overflows on the way
            for (int64_t n = 0; n < e.n; ++n)
              for (int64_t i = 0; i < 2; ++i)
                dy[static_cast<size_t>((n * e.c + 1) * e.plane() + i * 16)] = sign * largest;
          }
          Tensor x(dtype, e, normal_values(random, dtype, e.size()), layout), y(dtype, e, layout);
          Tensor g(dtype, e, dy, layout), dx(dtype, e, layout);
          Module module(e.c, plain(dtype));
          Record record;
          NUMERICS_OK(bn2d_forward(module, x.view(), y.view(), record.out()));
          NUMERICS_OK(bn2d_backward(module, record, g.view(), dx.view(), nullptr));
          const Values dbias = module.get("bias.grad");
          CHECK(dbias[0] == sign * infinity);
          if (dtype == BN2D_F64) CHECK(dbias[1] == sign * infinity);
          CHECK(std::isfinite(dbias[2]));
        }
}

// Catches: 0 times infinity in the average. A factor of 0 keeps the running statistics whatever the
// batch is, and a factor of 1 takes the batch whatever they were.
TEST_CASE(
    "infinite: momentum 0 keeps out an infinite batch, momentum 1 forgets an infinite average",
    "[numerics][infinite][state]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_BF16})
    for (const double bad : {infinity, -infinity, std::numeric_limits<double>::quiet_NaN()}) {
      INFO(name_of(dtype, dtype) << " " << bad);
      Random random(75);
      const Values good = normal_values(random, dtype, kShape.size());
      Values x = good;
      x[17] = bad;  // channel 0
      ModuleOptions options;
      options.dtype = dtype;
      options.momentum = 0;
      Module frozen(kShape.c, options);
      frozen.set("running_mean", {0.5, -2, 7});
      frozen.set("running_var", {3, 0.25, 1});
      Tensor in(dtype, kShape, x), out(dtype, kShape);
      NUMERICS_OK(bn2d_forward(frozen, in.view(), out.view(), nullptr));
      CHECK(frozen.get("running_mean") == Values({0.5, -2, 7}));
      CHECK(frozen.get("running_var") == Values({3, 0.25, 1}));
      CHECK(frozen.batches() == 1);

      options.momentum = 1;
      Module fresh(kShape.c, options), healed(kShape.c, options);
      healed.set("running_mean", {bad, bad, bad});
      healed.set("running_var", {bad, bad, bad});
      in.set(good);
      NUMERICS_OK(bn2d_forward(fresh, in.view(), out.view(), nullptr));
      NUMERICS_OK(bn2d_forward(healed, in.view(), out.view(), nullptr));
      CHECK(healed.bits("running_mean") == fresh.bits("running_mean"));
      CHECK(healed.bits("running_var") == fresh.bits("running_var"));
    }
}

// Catches: the halves of a factor near the largest double overflow where there is no fused
// multiply-add, and the error of the product, NaN, gets into a sum that is finite.
TEST_CASE("infinite: products of the largest doubles with small ones are finite",
          "[numerics][infinite]") {
  const Extents e{2, 2, 3, 7};
  Values x(static_cast<size_t>(e.size()), 0.0), dy(x.size(), 0.0);
  x[4] = 0x1p1020;  // channel 0
  dy[4] = 0x1p-1000;
  x[30] = -0x1p1023;  // channel 1
  dy[30] = 3;
  dy[31] = 5;
  Module module(e.c, plain(BN2D_F64));
  identity(module);
  Tensor in(BN2D_F64, e, x), out(BN2D_F64, e), g(BN2D_F64, e, dy);
  Record record;
  NUMERICS_OK(bn2d_forward(module, in.view(), out.view(), record.out()));
  NUMERICS_OK(bn2d_backward(module, record, g.view(), nullptr, nullptr));
  CHECK(module.get("weight.grad") == Values({0x1p20, -infinity}));
  CHECK(module.get("bias.grad") == Values({0x1p-1000, 8}));
}

// Catches: protection that looks at one of the two running statistics alone. A channel keeps both
// or moves both.
TEST_CASE(
    "infinite: a protected channel whose running mean cannot be finite keeps its variance, too",
    "[numerics][infinite][state]") {
  ModuleOptions options;
  options.protect = true;
  for (const bool mean : {false, true}) {
    INFO((mean ? "running_mean" : "running_var"));
    Module module(kShape.c, options);
    module.set(mean ? "running_mean" : "running_var", {1, infinity, 2});
    Random random(76);
    Tensor x(BN2D_F32, kShape, normal_values(random, BN2D_F32, kShape.size())), y(BN2D_F32, kShape);
    const Bits mean_before = module.bits("running_mean"), var_before = module.bits("running_var");
    NUMERICS_OK(bn2d_forward(module, x.view(), y.view(), nullptr));
    const Bits mean_after = module.bits("running_mean"), var_after = module.bits("running_var");
    for (size_t c = 0; c < 3; ++c) {
      CHECK((mean_after[c] == mean_before[c]) == (c == 1));
      CHECK((var_after[c] == var_before[c]) == (c == 1));
    }
  }
}

// Catches: 0 times an infinite sum, where the mean is a float and nothing is left to move the sum
// by.
TEST_CASE("infinite: dweight is infinite where a gradient is", "[numerics][infinite]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
    for (const int64_t count : {3, 1000})
      for (const double sign : {1.0, -1.0}) {
        INFO(name_of(dtype, dtype) << " " << count << " elements, sign " << sign);
        const Extents e{1, 1, 1, count};
        Values dy(static_cast<size_t>(count), 1);
        dy[1] = sign * infinity;
        Module module(1, plain(dtype));
        identity(module);
        Tensor x(dtype, e, Values(static_cast<size_t>(count), 2)), y(dtype, e), g(dtype, e, dy),
            dx(dtype, e);
        Record record;
        NUMERICS_OK(bn2d_forward(module, x.view(), y.view(), record.out()));
        NUMERICS_OK(bn2d_backward(module, record, g.view(), dx.view(), nullptr));
        CHECK(module.get("bias.grad")[0] == sign * infinity);
        CHECK(module.get("weight.grad")[0] == sign * infinity);
      }
}

// Catches: lanes past the end of a plane that count as x - mean of an infinite mean: 0 * NaN in the
// gradient of weight, and only where planes do not fill whole vectors.
TEST_CASE("infinite: frozen means, planes of any length", "[numerics][infinite]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
    for (int64_t length = 1; length <= 70; ++length)
      for (const int64_t samples : {1, 5, 40}) {
        const Extents e{samples, 2, 1, length};
        const Tensor x(dtype, e, Values(e.size(), 2)), dy(dtype, e, Values(e.size(), 1));
        const double mean[2] = {infinity, -infinity}, invstd[2] = {1, 1};
        double dweight[2] = {}, dbias[2] = {};
        float dweight32[2] = {}, dbias32[2] = {};
        const bool wide = dtype == BN2D_F64;
        NUMERICS_OK(bn2d_batch_norm_backward(x.view(), dy.view(), nullptr, nullptr,
                                             wide ? BN2D_F64 : BN2D_F32, nullptr, mean, invstd, 0,
                                             BN2D_ACT_NONE, 0, 0, nullptr, nullptr,
                                             wide ? static_cast<void *>(dweight) : dweight32,
                                             wide ? static_cast<void *>(dbias) : dbias32));
        INFO(name_of(dtype, dtype) << ", " << samples << " samples of " << length);
        CHECK((wide ? dweight[0] : double{dweight32[0]}) == -infinity);
        CHECK((wide ? dweight[1] : double{dweight32[1]}) == infinity);
        CHECK((wide ? dbias[0] : double{dbias32[0]}) == static_cast<double>(samples * length));
      }
}
