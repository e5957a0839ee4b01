// The side of the activation that a record tells from x: the one that its forward saw, for every
// element.
#include <limits>

#include "support/numerics_case.h"

using namespace numerics;

namespace {

constexpr int kKinds = 18;

// Channels that make it hard to say where the argument of the activation changes its sign.
void fill_channel(int kind, int32_t dtype, const Extents &e, int64_t c, Random &random, Values &x,
                  double *weight, double *bias) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double weights[kKinds] = {1.3,  -0.7,   1,   -1,  0, 0,    0, 1,  1,
                                  1e30, -1e-30, 1.5, nan, 1, -1.3, 1, -1, 1};
  const double biases[kKinds] = {0.4,  0.2,    0,    0, 0,   1,   -1,  0.1, nan,
                                 1e20, -1e-33, 0.25, 0, nan, nan, 0.1, 0.1, 0.1};
  *weight = weights[kind];
  *bias = biases[kind];
  const double root =
      kind == 8 ? 0 : 1.7;  // where the argument is 0, in channels without a bias yet
  const double ulp = static_cast<double>(oracle::ulp(format_of(dtype), root));
  const double huge = dtype == BN2D_F16 ? 1e4 : 1e18;
  double count = 0, sum = 0, squares = 0;
  oracle::for_channel(e, c, [&](int64_t i) {
    double v = random.normal();
    if (kind == 2 || kind == 3)
      v = static_cast<double>(i % 5) - 2;         // the mean is often one of the elements
    if (kind == 7) v = 1000 + std::floor(4 * v);  // far from 0, few distinct values
    if (kind == 8)
      v = random.below(4) == 0 ? 1e-4 * v
                               : 1 + v / 8;  // some so small that x - mean rounds them away
    if (kind == 11) v *= huge;
    if (kind >= 13)
      v = (root + static_cast<double>(random.below(9) - 4) * ulp) * (random.coin() ? 1 : -1);
    const bool is_first = count == 0;  // one element that makes the whole channel NaN
    if (kind == 15 && is_first) v = -std::numeric_limits<double>::infinity();
    if (kind == 16 && is_first) v = std::numeric_limits<double>::infinity();
    if (kind == 17 && is_first) v = nan;
    x[i] = std::isfinite(v) ? rounded(dtype, v) : v;
    count += 1, sum += x[i], squares += x[i] * x[i];
  });
  if (!std::isnan(*bias)) return;
  const double mean = sum / count, invstd = 1 / std::sqrt(squares / count - mean * mean + 1e-5);
  *bias = -(root - mean) * invstd * *weight;
}

// The sign of a NaN is the compiler's choice on old targets.
bool same(const Values &a, const Values &b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](double v, double w) {
    return std::isnan(v) ? std::isnan(w) : v == w && std::signbit(v) == std::signbit(w);
  });
}

struct Scene {
  Extents e;
  Layout layout;
};

}  // namespace

// Catches: a threshold that is one number off, on the wrong side of negative weights, of weights of
// 0, of elements that are at 0 exactly, or that one of the kernels compares wrongly; a backward
// that reads y all the same (it is NaN by then); sums and maps that disagree about a side.
TEST_CASE("side: a record tells it from x as forward saw it", "[numerics][side]") {
  const Scene scenes[] = {
      {{4, 39, 9, 7}, Layout::nchw},        {{4, 39, 9, 7}, Layout::nhwc},
      {{3, 26, 5, 9}, Layout::permuted},    {{3, 26, 6, 9}, Layout::padded_rows},
      {{70, 29, 2, 2}, Layout::nchw},       {{40, 13, 5, 7}, Layout::nhwc},
      {{2, 13, 70, 71}, Layout::nchw},      {{2, 13, 70, 71}, Layout::nhwc},
      {{12, 13, 3, 3}, Layout::nhwc_slice}, {{300, 26, 1, 1}, Layout::nchw}};
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
    for (const Activation &activation :
         {relu, Activation{Activation::leaky, 0.25}, Activation{Activation::leaky, -0.5}})
      for (const Scene &scene : scenes) {
        const Extents &e = scene.e;
        INFO("dtype " << dtype << " slope " << activation.slope << " shape " << e.n << "x" << e.c
                      << "x" << e.h << "x" << e.w << " " << name_of(scene.layout));
        Random random(static_cast<uint64_t>(e.size() + dtype));
        const int32_t state = dtype == BN2D_F64 ? BN2D_F64 : BN2D_F32;
        Values xs(static_cast<size_t>(e.size())), weight(static_cast<size_t>(e.c)),
            bias(weight.size());
        for (int64_t c = 0; c < e.c; ++c) {
          const auto at = static_cast<size_t>(c);
          fill_channel(static_cast<int>(c % kKinds), dtype, e, c, random, xs, &weight[at],
                       &bias[at]);
          weight[at] = rounded(state, weight[at]), bias[at] = rounded(state, bias[at]);
        }
        ModuleOptions options;
        options.dtype = state;
        Module module(e.c, options);
        module.set("weight", weight);
        module.set("bias", bias);
        const Values ones(xs.size(), 1), nans(xs.size(), std::numeric_limits<double>::quiet_NaN());
        Tensor x(dtype, e, xs, scene.layout), y(dtype, e, scene.layout),
            dy(dtype, e, ones, scene.layout);
        Tensor dx(dtype, e, scene.layout), dz(dtype, e, scene.layout);

        // What forward sees, as it writes it to a mask: before y is rounded.
        uint64_t mask_bytes = 0;
        NUMERICS_OK(bn2d_mask_nbytes(e.n, e.c, e.h, e.w, &mask_bytes));
        std::vector<uint8_t> mask(mask_bytes);
        Array weights(state, weight), biases(state, bias);
        NUMERICS_OK(bn2d_batch_norm_forward(
            x.view(), nullptr, y.view(), state, weights.data(), biases.data(), nullptr, nullptr, 1,
            0.1, 1e-5, 0, activation.kind, activation.slope, mask.data(), nullptr, nullptr));
        const size_t plane = static_cast<size_t>(e.plane()), plane_bytes = (plane + 7) / 8;

        Record record;
        NUMERICS_OK(bn2d_forward_act(module, x.view(), nullptr, activation.kind, activation.slope,
                                     y.view(), record.out()));
        y.set(nans);
        NUMERICS_OK(bn2d_backward(module, record, dy.view(), dx.view(), dz.view()));
        const Values got = dz.get();
        Values sum(weight.size());
        int64_t wrong = 0;
        for (size_t i = 0; i < got.size(); ++i) {
          const bool positive =
              (mask[i / plane * plane_bytes + i % plane / 8] >> (i % plane % 8) & 1) != 0;
          if (got[i] != (positive ? 1 : activation.slope)) {
            if (wrong++ == 0) UNSCOPED_INFO("element " << i << ": x " << xs[i] << " dz " << got[i]);
          }
          sum[i / plane % weight.size()] += got[i];
        }
        CHECK(wrong == 0);
        CHECK(module.get("bias.grad") == sum);

        // Without dx, dz is all that x is read for.
        module.zero_grad();
        dz.set(nans);
        NUMERICS_OK(bn2d_backward(module, record, dy.view(), nullptr, dz.view()));
        CHECK(dz.get() == got);
        CHECK(module.get("bias.grad") == sum);
      }
}

// Catches: a stateless backward that makes another argument of x than forward did; one that trusts
// x where float has too little range for a channel (kinds 9, 10, 11 and 15 to 17), where there was
// a residual, or of data that it does not hold of; one that reads y where x tells.
TEST_CASE("side: a stateless backward that knows bias tells it from x", "[numerics][side]") {
  const Extents e{5, 36, 9, 7};
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
    for (const Activation &activation :
         {relu, Activation{Activation::leaky, 0.25}, Activation{Activation::leaky, -0.5}})
      for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::permuted})
        for (const int kinds : {9, kKinds})
          for (const bool batch : {true, false})
            for (const bool residual : {false, true}) {
              INFO("dtype " << dtype << " slope " << activation.slope << " " << name_of(layout)
                            << " kinds " << kinds << " batch " << batch << " z " << residual);
              Random random(static_cast<uint64_t>(dtype + kinds));
              const int32_t state = dtype == BN2D_F64 ? BN2D_F64 : BN2D_F32;
              Values xs(static_cast<size_t>(e.size())), zs(xs.size()), gradients(xs.size()),
                  weight(static_cast<size_t>(e.c)), bias(weight.size());
              for (int64_t c = 0; c < e.c; ++c) {
                const auto at = static_cast<size_t>(c);
                fill_channel(static_cast<int>(c % kinds), dtype, e, c, random, xs, &weight[at],
                             &bias[at]);
              }
              if (kinds == kKinds) {  // scale and shift too small for normal floats
                weight.back() = 1e-44, bias.back() = -5e-45;
                oracle::for_channel(e, e.c - 1,
                                    [&](int64_t i) { xs[i] = rounded(dtype, random.normal()); });
              }
              for (double &g : gradients) g = random.normal();
              for (double &z : zs) z = random.normal();
              Tensor x(dtype, e, xs, layout), z(dtype, e, zs, layout), y(dtype, e, layout),
                  dy(dtype, e, gradients, layout), dx(dtype, e, layout), dx2(dtype, e, layout);
              Array weights(state, weight), biases(state, bias),
                  means(state, Values(weight.size(), 0.1)), vars(state, Values(weight.size(), 2)),
                  dweight(state, weight), dbias(state, weight), dweight2(state, weight),
                  dbias2(state, weight);
              uint64_t mask_bytes = 0;
              NUMERICS_OK(bn2d_mask_nbytes(e.n, e.c, e.h, e.w, &mask_bytes));
              std::vector<uint8_t> mask(mask_bytes);
              std::vector<double> mean(weight.size()), invstd(weight.size());
              const bn2d_view *const z_or_null = residual ? z.view() : nullptr;
              NUMERICS_OK(bn2d_batch_norm_forward(
                  x.view(), z_or_null, y.view(), state, weights.data(), biases.data(),
                  batch ? nullptr : means.data(), batch ? nullptr : vars.data(), batch, 0.1, 1e-5,
                  0, activation.kind, activation.slope, mask.data(), mean.data(), invstd.data()));
              NUMERICS_OK(bn2d_batch_norm_backward(
                  x.view(), dy.view(), nullptr, mask.data(), state, weights.data(), mean.data(),
                  invstd.data(), batch, activation.kind, activation.slope, 0, dx.view(), nullptr,
                  dweight.data(), dbias.data()));
              const auto again = [&](const bn2d_view *y_or_null, const uint8_t *mask_or_null) {
                NUMERICS_OK(bn2d_batch_norm_backward_act(
                    x.view(), z_or_null, dy.view(), y_or_null, mask_or_null, state, weights.data(),
                    biases.data(), mean.data(), invstd.data(), batch, activation.kind,
                    activation.slope, 0, dx2.view(), nullptr, dweight2.data(), dbias2.data()));
                CHECK(dx2.bits() == dx.bits());
                CHECK(dweight2.bits() == dweight.bits());
                CHECK(dbias2.bits() == dbias.bits());
              };
              again(nullptr, mask.data());
              if (dtype != BN2D_F32 || kinds == kKinds || residual || activation.slope < 0)
                continue;
              y.set(Values(xs.size(), std::numeric_limits<double>::quiet_NaN()));
              again(y.view(), nullptr);
            }
}

// Catches: a bound that is one number off, on the wrong side of negative weights, or of weights of
// 0; a kernel that does not ask for it; sums and maps that take another way than those that make
// the argument again, as they do where there is a residual (here of zeros).
TEST_CASE("side: of relu6 and clamp it has a bound", "[numerics][side]") {
  const Scene scenes[] = {{{4, 39, 9, 7}, Layout::nchw},       {{4, 39, 9, 7}, Layout::nhwc},
                          {{3, 26, 6, 9}, Layout::permuted},   {{70, 29, 2, 2}, Layout::nchw},
                          {{40, 13, 5, 7}, Layout::nhwc},      {{2, 13, 70, 71}, Layout::nchw},
                          {{2, 40, 30, 31}, Layout::nhwc},     {{12, 13, 3, 3}, Layout::nhwc_slice},
                          {{2, 13, 19, 31}, Layout::permuted}, {{300, 26, 1, 1}, Layout::nchw}};
  for (const int32_t dtype : {BN2D_F32, BN2D_BF16})
    for (const Activation &activation :
         {Activation{Activation::relu6, 0}, Activation{Activation::clamp, 0.7}})
      for (const Scene &scene : scenes)
        for (const int kinds : {9, kKinds})  // the first nine need no more range than float has
          for (const bool batch : {true, false}) {
            const Extents &e = scene.e;
            INFO("dtype " << dtype << " activation " << activation.kind << " shape " << e.n << "x"
                          << e.c << "x" << e.h << "x" << e.w << " " << name_of(scene.layout)
                          << " kinds " << kinds << " batch " << batch);
            Random random(static_cast<uint64_t>(e.size() + dtype));
            const int32_t state = BN2D_F32;
            const double bound = static_cast<float>(activation.bound());
            Values xs(static_cast<size_t>(e.size())), gradients(xs.size()),
                weight(static_cast<size_t>(e.c)), bias(weight.size());
            for (int64_t c = 0; c < e.c; ++c) {
              const auto at = static_cast<size_t>(c);
              fill_channel(static_cast<int>(c % kinds), dtype, e, c, random, xs, &weight[at],
                           &bias[at]);
              if (c % 2 == 1) bias[at] += bound;  // what changes its sign at 0 reaches the bound
              weight[at] = rounded(state, weight[at]), bias[at] = rounded(state, bias[at]);
            }
            for (double &g : gradients) g = rounded(dtype, random.normal());
            Tensor x(dtype, e, xs, scene.layout), z(dtype, e, Values(xs.size()), scene.layout),
                y(dtype, e, scene.layout), dy(dtype, e, gradients, scene.layout),
                dx(dtype, e, scene.layout), dx2(dtype, e, scene.layout), dz(dtype, e, scene.layout),
                dz2(dtype, e, scene.layout);
            Array weights(state, weight), biases(state, bias),
                means(state, Values(weight.size(), 0.1)), vars(state, Values(weight.size(), 2)),
                dweight(state, weight), dbias(state, weight), dweight2(state, weight),
                dbias2(state, weight);
            std::vector<double> mean(weight.size()), invstd(weight.size());
            NUMERICS_OK(bn2d_batch_norm_forward(
                x.view(), nullptr, y.view(), state, weights.data(), biases.data(),
                batch ? nullptr : means.data(), batch ? nullptr : vars.data(), batch, 0.1, 1e-5, 0,
                activation.kind, activation.slope, nullptr, mean.data(), invstd.data()));
            const auto backward = [&](const bn2d_view *residual, const bn2d_view *to_x,
                                      const bn2d_view *to_z, Array &to_weight, Array &to_bias) {
              NUMERICS_OK(bn2d_batch_norm_backward_act(
                  x.view(), residual, dy.view(), nullptr, nullptr, state, weights.data(),
                  biases.data(), mean.data(), invstd.data(), batch, activation.kind,
                  activation.slope, 0, to_x, to_z, to_weight.data(), to_bias.data()));
            };
            backward(nullptr, dx.view(), dz.view(), dweight, dbias);
            backward(z.view(), dx2.view(), dz2.view(), dweight2, dbias2);
            CHECK(same(dx.get(), dx2.get()));
            CHECK(same(dz.get(), dz2.get()));
            CHECK(same(dweight.get(), dweight2.get()));
            CHECK(same(dbias.get(), dbias2.get()));
            dx2.set(Values(xs.size(), 7));
            backward(nullptr, dx2.view(), nullptr, dweight2, dbias2);
            CHECK(same(dx.get(), dx2.get()));
            // Where float has too little range, or y is rounded, y does not tell.
            if (kinds == kKinds || dtype == BN2D_BF16) continue;

            const Values of_y = y.get(), got = dz.get();
            int64_t wrong = 0;
            for (size_t i = 0; i < got.size(); ++i) {
              const bool is_whole = std::isnan(of_y[i]) || (of_y[i] > 0 && of_y[i] < bound);
              if (got[i] == (is_whole ? gradients[i] : 0)) continue;
              if (wrong++ == 0)
                UNSCOPED_INFO("element " << i << ": x " << xs[i] << " y " << of_y[i]);
            }
            CHECK(wrong == 0);
          }
}

// Catches: an argument that is made again in float, where the mean, -2^-149/200, is 0: no element
// would have a gradient.
TEST_CASE("side: relu6 and clamp of deviations that float cannot hold", "[numerics][side]") {
  const Extents e{1, 1, 1, 200};
  Values xs(200, 0.0);
  xs[0] = -0x1p-149;
  for (const Activation &activation :
       {Activation{Activation::relu6, 0}, Activation{Activation::clamp, 0.7}})
    for (const double w : {1.0, 1e4, 1e30}) {
      INFO("activation " << activation.kind << " weight " << w);
      Tensor x(BN2D_F32, e, xs), y(BN2D_F32, e), dy(BN2D_F32, e, Values(200, 1.0)), dz(BN2D_F32, e);
      Array weight(BN2D_F32, {w}), bias(BN2D_F32, {0}), dweight(BN2D_F32, {0}),
          dbias(BN2D_F32, {0});
      double mean = 0, invstd = 0;
      NUMERICS_OK(bn2d_batch_norm_forward(
          x.view(), nullptr, y.view(), BN2D_F32, weight.data(), bias.data(), nullptr, nullptr, 1,
          0.1, 1e-5, 0, activation.kind, activation.slope, nullptr, &mean, &invstd));
      NUMERICS_OK(bn2d_batch_norm_backward_act(x.view(), nullptr, dy.view(), nullptr, nullptr,
                                               BN2D_F32, weight.data(), bias.data(), &mean, &invstd,
                                               1, activation.kind, activation.slope, 0, nullptr,
                                               dz.view(), dweight.data(), dbias.data()));
      CHECK(y.get()[0] == 0);
      CHECK(y.get()[1] > 0);
      CHECK(dz.get()[0] == 0);
      CHECK(dz.get()[1] == 1);
      CHECK(dbias.get() == Values{199});
    }
}
