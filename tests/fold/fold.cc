// Folding: against long double, weight by weight, and as layers; what is refused.
#include <atomic>
#include <thread>

#include "layers.h"
#include "support/contract_views.h"
#include "support/rounds.h"
#include "support/worst.h"

using namespace bn2d_test;

namespace {

constexpr int32_t kDtypes[] = {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16};
constexpr Real kUnit = 0x1p-53L;

int32_t fold(const Module &module, const LayerShape &l, bool previous, int32_t padded,
             Numbers &weight, Numbers *bias, Numbers &out_weight, Numbers &out_bias,
             double *change = nullptr, double *rounding = nullptr) {
  void *const b = bias == nullptr ? nullptr : bias->data();
  const int32_t status =
      previous ? bn2d_fold_into_previous_flat(module.get(), l.kind, l.groups, weight.dtype, l.out,
                                              l.in, l.taps, weight.data(), b, out_weight.dtype,
                                              out_weight.data(), out_bias.data(), change, rounding)
               : bn2d_fold_into_next_flat(module.get(), l.kind, l.groups, padded, weight.dtype,
                                          l.out, l.in, l.taps, weight.data(), b, out_weight.dtype,
                                          out_weight.data(), out_bias.data(), change, rounding);
  out_weight.decode();
  out_bias.decode();
  return status;
}

// Error beyond the nearest number of the dtype, in ulp; float64: the error itself.
Real error_in_ulp(int32_t dtype, Real got, Real want) {
  const auto &format = numerics::format_of(dtype);
  const Real unit = oracle::ulp(format, want), error = std::fabs(got - want) / unit;
  return dtype == BN2D_F64 ? error : std::max<Real>(0, error - 0.5L);
}

struct Case {
  LayerShape layer;
  bool previous;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const bool previous : {true, false})
    for (const int32_t kind : {BN2D_LAYER_CONV, BN2D_LAYER_TRANSPOSED, BN2D_LAYER_LINEAR})
      for (const int64_t groups : {1, 2, 6})
        for (const int64_t taps : {1, 3, 9}) {
          if (kind == BN2D_LAYER_LINEAR && (groups > 1 || taps > 1)) continue;
          if (kind == BN2D_LAYER_TRANSPOSED && !previous && taps > 1) continue;
          all.push_back({{kind, 12, 18, taps, groups}, previous});
          all.push_back({{kind, 6, 6, taps, groups}, previous});  // depthwise with 6 groups
        }
  // Larger than a block of rows.
  all.push_back({{BN2D_LAYER_CONV, 96, 512, 9, 2}, true});
  all.push_back({{BN2D_LAYER_CONV, 96, 512, 9, 2}, false});
  all.push_back({{BN2D_LAYER_TRANSPOSED, 96, 3000, 1, 2}, false});
  all.push_back({{BN2D_LAYER_LINEAR, 10, 200000, 1, 1}, false});
  return all;
}

int64_t channels_of(const Case &c) { return c.previous ? c.layer.out : c.layer.in; }

}  // namespace

TEST_CASE("fold: every weight and bias, of every pair of dtypes, against long double", "[fold]") {
  // Catches the scale of another channel, a weight that is rounded twice, a bias that is forgotten
  // or summed in float.
  Random random(16);
  Real worst = 0, worst64 = 0, worst_bias = 0;
  for (const Case &c : cases())
    for (const int32_t dtype : kDtypes)
      for (const int32_t out_dtype : kDtypes)
        for (const bool has_bias : {true, false}) {
          const LayerShape &l = c.layer;
          if (l.weights() > 10000 && (dtype != out_dtype || has_bias)) continue;
          Map map;
          const Module module = random_module(channels_of(c), out_dtype, random, &map);
          Numbers weight(dtype, l.weights(), random, 0.1), bias(dtype, l.out, random, 1);
          Numbers new_weight(out_dtype, l.weights()), new_bias(out_dtype, l.out);
          double change = -1, rounding = -1;
          REQUIRE(fold(module, l, c.previous, 0, weight, has_bias ? &bias : nullptr, new_weight,
                       new_bias, &change, &rounding) == BN2D_OK);
          CHECK(new_weight.is_whole());
          CHECK(new_bias.is_whole());
          Real want_change = 0, want_rounding = 0;
          for (int64_t o = 0; o < l.out; ++o) {
            const auto at_o = static_cast<size_t>(o);
            const Real old = has_bias ? bias.held[at_o] : 0;
            oracle::Sum sum;
            Real magnitude = std::fabs(old);
            int64_t products = 0;
            sum.add(old);
            for (int64_t i = 0; i < l.in; ++i) {
              if (o / (l.out / l.groups) != i / (l.in / l.groups)) continue;
              const auto channel = static_cast<size_t>(c.previous ? o : i);
              for (int64_t k = 0; k < l.taps; ++k, ++products) {
                const auto at = static_cast<size_t>(weight_index(l, o, i, k));
                const Real w = weight.held[at], want = w * map.scale[channel];
                Real &most = out_dtype == BN2D_F64 ? worst64 : worst;
                most = worse(most, error_in_ulp(out_dtype, new_weight.held[at], want));
                if (w != 0) want_change = std::max(want_change, std::fabs(map.scale[channel] - 1));
                if (want != 0)
                  want_rounding =
                      worse(want_rounding, std::fabs(new_weight.held[at] - want) / std::fabs(want));
                if (!c.previous) {
                  sum.add(w * map.shift[channel]);
                  magnitude += std::fabs(w) * map.size[channel];
                }
              }
            }
            Real want = sum.value();
            if (c.previous) {
              want = old * map.scale[at_o] + map.shift[at_o];
              magnitude = std::fabs(old * map.scale[at_o]) + map.size[at_o];
              products = 1;
            }
            const Real half =
                out_dtype == BN2D_F64 ? 0 : oracle::ulp(numerics::format_of(out_dtype), want) / 2;
            const Real beyond = worse<Real>(0, std::fabs(new_bias.held[at_o] - want) - half);
            worst_bias = worse(worst_bias,
                               beyond / (2 * kUnit * magnitude * static_cast<Real>(products + 4)));
          }
          CHECK(std::fabs(change - static_cast<double>(want_change)) <=
                1e-12 * static_cast<double>(want_change + 1));
          CHECK(std::fabs(rounding - static_cast<double>(want_rounding)) <=
                1e-14 + 1e-9 * rounding);
        }
  WARN("weights, largest error: float64 "
       << static_cast<double>(worst64)
       << " ulp; others beyond half an ulp: " << static_cast<double>(worst)
       << "; bias, of its bound: " << static_cast<double>(worst_bias));
  CHECK(worst64 <= 3);
  CHECK(worst <= 1e-6L);
  CHECK(worst_bias <= 1);
}

TEST_CASE("fold: the folded layer does what layer and batch norm do", "[fold]") {
  // Catches a formula that is right for the test above alone: strides, dilation, groups,
  // transposed.
  Random random(17);
  Real worst = 0;
  for (const Case &c : cases()) {
    const LayerShape &l = c.layer;
    if (l.weights() > 10000) continue;
    for (const int64_t stride : {1, 2})
      for (const int64_t dilation : {1, 2}) {
        if (l.kind == BN2D_LAYER_TRANSPOSED && !c.previous && stride > 1) continue;
        Map map;
        const Module module = random_module(channels_of(c), BN2D_F64, random, &map);
        Numbers weight(BN2D_F64, l.weights(), random, 1), bias(BN2D_F64, l.out, random, 1);
        Numbers new_weight(BN2D_F64, l.weights()), new_bias(BN2D_F64, l.out);
        REQUIRE(fold(module, l, c.previous, 0, weight, &bias, new_weight, new_bias) == BN2D_OK);
        const int64_t length = l.kind == BN2D_LAYER_LINEAR ? 1 : 21;
        const Numbers x(BN2D_F64, l.in * length, random, 1);
        std::vector<Real> normed = x.held;
        const auto norm = [&](std::vector<Real> &values, int64_t channels) {
          const int64_t plane = static_cast<int64_t>(values.size()) / channels;
          for (int64_t i = 0; i < static_cast<int64_t>(values.size()); ++i)
            values[static_cast<size_t>(i)] =
                values[static_cast<size_t>(i)] * map.scale[static_cast<size_t>(i / plane)] +
                map.shift[static_cast<size_t>(i / plane)];
        };
        if (!c.previous) norm(normed, l.in);
        std::vector<Real> want =
            run_layer(l, weight.held, bias.held, normed, length, stride, dilation);
        if (c.previous) norm(want, l.out);
        const std::vector<Real> got =
            run_layer(l, new_weight.held, new_bias.held, x.held, length, stride, dilation);
        REQUIRE(got.size() == want.size());
        for (size_t i = 0; i < got.size(); ++i) worst = worse(worst, std::fabs(got[i] - want[i]));
      }
  }
  WARN("folded and not, float64: largest difference " << static_cast<double>(worst));
  CHECK(worst < 1e-12L);
}

TEST_CASE("fold: linear layers around a flattened image", "[fold]") {
  // Catches channels that are taken one element apart.
  Random random(18);
  Map map;
  const Module module = random_module(3, BN2D_F64, random, &map);
  const LayerShape after{BN2D_LAYER_LINEAR, 2, 12, 1, 1}, before{BN2D_LAYER_LINEAR, 12, 2, 1, 1};
  Numbers weight(BN2D_F64, 24, random, 1), bias(BN2D_F64, 12, random, 1), out(BN2D_F64, 24),
      out_bias(BN2D_F64, 12);
  REQUIRE(fold(module, after, false, 0, weight, &bias, out, out_bias) == BN2D_OK);
  for (size_t o = 0; o < 2; ++o) {
    Real sum = bias.held[o];
    for (size_t i = 0; i < 12; ++i) {
      CHECK(std::fabs(out.held[o * 12 + i] - weight.held[o * 12 + i] * map.scale[i / 4]) < 1e-14L);
      sum += weight.held[o * 12 + i] * map.shift[i / 4];
    }
    CHECK(std::fabs(out_bias.held[o] - sum) < 1e-13L);
  }
  REQUIRE(fold(module, before, true, 0, weight, &bias, out, out_bias) == BN2D_OK);
  for (size_t o = 0; o < 12; ++o) {
    for (size_t i = 0; i < 2; ++i)
      CHECK(std::fabs(out.held[o * 2 + i] - weight.held[o * 2 + i] * map.scale[o / 4]) < 1e-14L);
    CHECK(std::fabs(out_bias.held[o] - (bias.held[o] * map.scale[o / 4] + map.shift[o / 4])) <
          1e-14L);
  }
}

TEST_CASE("fold: in place, and through strides, the same bits", "[fold]") {
  // Catches a weight that is read after it was written, and strides that are taken for contiguous.
  Random random(19);
  for (const bool previous : {true, false}) {
    Map map;
    const LayerShape l{BN2D_LAYER_CONV, 8, 6, 9, 1};
    const Module module = random_module(previous ? l.out : l.in, BN2D_F32, random, &map);
    Numbers weight(BN2D_F32, l.weights(), random, 1), bias(BN2D_F32, l.out, random, 1);
    Numbers out(BN2D_F32, l.weights()), out_bias(BN2D_F32, l.out);
    REQUIRE(fold(module, l, previous, 0, weight, &bias, out, out_bias) == BN2D_OK);
    // channels_last: (out, kh, kw, in) in memory.
    const int64_t shape[] = {8, 6, 3, 3}, strides[] = {54, 1, 18, 6}, one[] = {8};
    std::vector<float> last(static_cast<size_t>(l.weights())), plain(last.size());
    std::memcpy(plain.data(), weight.data(), plain.size() * 4);
    const auto place = [&](size_t i) { return i / 54 * 54 + i % 9 * 6 + i / 9 % 6; };
    for (size_t i = 0; i < plain.size(); ++i) last[place(i)] = plain[i];
    Numbers strided_bias = bias;
    const View w(last.data(), BN2D_F32, 4, shape, strides),
        b(strided_bias.data(), BN2D_F32, 1, one, nullptr);
    REQUIRE((previous
                 ? bn2d_fold_into_previous(module.get(), l.kind, 1, w, b, w, b, nullptr, nullptr)
                 : bn2d_fold_into_next(module.get(), l.kind, 1, 0, w, b, w, b, nullptr, nullptr)) ==
            BN2D_OK);
    std::memcpy(plain.data(), out.data(), plain.size() * 4);
    bool same = true;
    for (size_t i = 0; i < plain.size(); ++i) same = same && last[place(i)] == plain[i];
    CHECK(same);
    CHECK(strided_bias.bytes == out_bias.bytes);
    // In place.
    REQUIRE(fold(module, l, previous, 0, weight, &bias, weight, bias) == BN2D_OK);
    CHECK(weight.bytes == out.bytes);
    CHECK(bias.bytes == out_bias.bytes);
  }
}

TEST_CASE("fold: on several threads at once, the same bits", "[fold][threads]") {
  // Catches two threads in an OpenBLAS without threads, whose buffers then have no locks: of 4,000
  // calls of the first layer up to 5 had a wrong bias.
  Random random(20);
  for (const LayerShape &l : {LayerShape{BN2D_LAYER_CONV, 28, 512, 9, 1},
                              LayerShape{BN2D_LAYER_TRANSPOSED, 3000, 40, 1, 1}}) {
    Map map;
    const Module module = random_module(l.in, BN2D_F64, random, &map);
    const Numbers weight(BN2D_F64, l.weights(), random, 1);
    const auto bias_of = [&](Numbers in) {
      Numbers out(BN2D_F64, l.weights()), bias(BN2D_F64, l.out);
      return fold(module, l, false, 0, in, nullptr, out, bias) == BN2D_OK
                 ? bias.bytes
                 : std::vector<unsigned char>();
    };
    const std::vector<unsigned char> expected = bias_of(weight);
    REQUIRE_FALSE(expected.empty());
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < rounds(1000); ++i) wrong += bias_of(weight) != expected;
      });
    for (std::thread &thread : threads) thread.join();
    CHECK(wrong == 0);
  }
}

TEST_CASE("fold: padding is refused, unless no channel has a shift", "[fold]") {
  // Catches a border that silently changes.
  Random random(20);
  Map map;
  const Module module = random_module(6, BN2D_F32, random, &map);
  Numbers weight(BN2D_F32, 6 * 6 * 9, random, 1), out(BN2D_F32, 6 * 6 * 9), out_bias(BN2D_F32, 6);
  const LayerShape conv{BN2D_LAYER_CONV, 6, 6, 9, 1}, transposed{BN2D_LAYER_TRANSPOSED, 6, 6, 9, 1};
  Snapshot before;
  before.add("module", module.get());
  before.add("out", out.bytes);
  before.add("out_bias", out_bias.bytes);
  check_fails("padding", BN2D_ERROR_STATE, before, {"padding"},
              [&] { return fold(module, conv, false, 1, weight, nullptr, out, out_bias); });
  check_fails("transposed", BN2D_ERROR_STATE, before, {"9"},
              [&] { return fold(module, transposed, false, 0, weight, nullptr, out, out_bias); });
  // A layer before it may pad, and be transposed.
  CHECK(fold(module, transposed, true, 0, weight, nullptr, out, out_bias) == BN2D_OK);
  for (size_t c = 0; c < 6; ++c) {
    data_of<float>(module, "bias")[c] = 0;
    data_of<float>(module, "running_mean")[c] = 0;
  }
  CHECK(fold(module, conv, false, 1, weight, nullptr, out, out_bias) == BN2D_OK);
  for (const Real b : out_bias.held) CHECK(b == 0);
  CHECK(fold(module, transposed, false, 1, weight, nullptr, out, out_bias) == BN2D_OK);
}

TEST_CASE("fold: what folding costs is told, and refused where it is everything", "[fold]") {
  // Catches a report of the wrong thing, and an infinite weight that nobody is told of.
  Settings settings;
  settings.eps = 0;
  const Module module = make_module(2, settings);
  data_of<float>(module, "running_var")[0] = 1;
  data_of<float>(module, "running_var")[1] = 1e-12f;  // a dead channel: scale 1e6
  Numbers weight(BN2D_F16, 4), out(BN2D_F16, 4), out_bias(BN2D_F16, 2), wide(BN2D_F32, 4),
      wide_bias(BN2D_F32, 2);
  weight.held = {1, 2, 0.5, 0};
  weight.encode();
  const LayerShape l{BN2D_LAYER_LINEAR, 2, 2, 1, 1};
  Snapshot before;
  before.add("out", out.bytes);
  before.add("out_bias", out_bias.bytes);
  check_fails("too large", BN2D_ERROR_OVERFLOW, before, {"float16", "weight"},
              [&] { return fold(module, l, true, 0, weight, nullptr, out, out_bias); });
  double change = 0, rounding = 0;
  REQUIRE(fold(module, l, true, 0, weight, nullptr, wide, wide_bias, &change, &rounding) ==
          BN2D_OK);
  CHECK(std::fabs(change - 1e6) < 1);
  CHECK(rounding < 0x1p-24);
  data_of<float>(module, "running_var")[1] =
      1e14f;  // a weight of 5e-8 is half of float16's smallest
  REQUIRE(fold(module, l, true, 0, weight, nullptr, out, out_bias, &change, &rounding) == BN2D_OK);
  CHECK(std::fabs(change - 1) < 1e-6);
  CHECK(rounding > 0.1);
  data_of<float>(module, "running_var")[1] = 1e20f;
  REQUIRE(fold(module, l, true, 0, weight, nullptr, out, out_bias, &change, &rounding) == BN2D_OK);
  CHECK(rounding == 1);
  data_of<float>(module, "bias")[0] = 1e30f;
  check_fails("too large", BN2D_ERROR_OVERFLOW, {}, {"float16", "bias"},
              [&] { return fold(module, l, true, 0, weight, nullptr, out, out_bias); });
  // What was infinite before is nobody's fault.
  data_of<float>(module, "bias")[0] = 0;
  weight.held = {INFINITY, 2, 0.5, 0};
  weight.encode();
  CHECK(fold(module, l, true, 0, weight, nullptr, out, out_bias) == BN2D_OK);
  CHECK(std::isinf(out.held[0]));
}

TEST_CASE("fold: what is refused leaves everything alone", "[fold]") {
  // Catches a check that is missing, or comes after the first write.
  Random random(21);
  Map map;
  const Module module = random_module(4, BN2D_F32, random, &map);
  Settings settings;
  settings.track = false;
  const Module without = make_module(4, settings);
  std::vector<float> memory(64, 1.5f);
  float *const w = memory.data(), *const b = w + 16, *const ow = w + 24, *const ob = w + 48;
  double change = 7, rounding = 7;
  Snapshot before;
  before.add("memory", memory);
  before.add("module", module.get());
  before.add("change", &change, sizeof change);
  const auto previous = [&](const char *what, int32_t status, const Module &m, int32_t layer,
                            int64_t groups, int32_t dtype, int64_t out, int64_t in, int64_t taps,
                            const void *weight, const void *bias, int32_t out_dtype,
                            void *out_weight, void *out_bias) {
    check_fails(what, status, before, {}, [&] {
      return bn2d_fold_into_previous_flat(m.get(), layer, groups, dtype, out, in, taps, weight,
                                          bias, out_dtype, out_weight, out_bias, &change,
                                          &rounding);
    });
  };
  const int32_t f = BN2D_F32, conv = BN2D_LAYER_CONV;
  previous("no statistics", BN2D_ERROR_STATE, without, conv, 1, f, 4, 4, 1, w, b, f, ow, ob);
  for (const int32_t layer : {0, 4, -1})
    previous("layer", BN2D_ERROR_INVALID_ARGUMENT, module, layer, 1, f, 4, 4, 1, w, b, f, ow, ob);
  for (const int64_t groups : {int64_t{0}, int64_t{-1}, INT64_MIN})
    previous("groups", BN2D_ERROR_INVALID_ARGUMENT, module, conv, groups, f, 4, 4, 1, w, b, f, ow,
             ob);
  for (const int64_t groups : {int64_t{3}, int64_t{8}, INT64_MAX})
    previous("groups", BN2D_ERROR_SHAPE, module, conv, groups, f, 4, 4, 1, w, b, f, ow, ob);
  previous("outputs", BN2D_ERROR_SHAPE, module, conv, 1, f, 8, 2, 1, w, b, f, ow, ob);
  previous("outputs", BN2D_ERROR_SHAPE, module, BN2D_LAYER_LINEAR, 1, f, 6, 2, 1, w, b, f, ow, ob);
  previous("groups", BN2D_ERROR_SHAPE, module, BN2D_LAYER_LINEAR, 2, f, 4, 4, 1, w, b, f, ow, ob);
  previous("taps", BN2D_ERROR_SHAPE, module, BN2D_LAYER_LINEAR, 1, f, 4, 1, 4, w, b, f, ow, ob);
  previous("negative", BN2D_ERROR_SHAPE, module, conv, 1, f, -4, 4, 1, w, b, f, ow, ob);
  previous("taps", BN2D_ERROR_SHAPE, module, conv, 1, f, 4, 4, 0, w, b, f, ow, ob);
  previous("product", BN2D_ERROR_OVERFLOW, module, conv, 1, f, 4, INT64_MAX, 1, w, b, f, ow, ob);
  previous("dtype", BN2D_ERROR_DTYPE, module, conv, 1, BN2D_I64, 4, 2, 1, w, b, f, ow, ob);
  previous("dtype", BN2D_ERROR_DTYPE, module, conv, 1, f, 4, 4, 1, w, b, 0, ow, ob);
  previous("dtype", BN2D_ERROR_DTYPE, module, conv, 1, 17, 4, 4, 1, w, b, f, ow, ob);
  previous("aligned", BN2D_ERROR_LAYOUT, module, conv, 1, f, 4, 4, 1,
           reinterpret_cast<char *>(w) + 1, b, f, ow, ob);
  previous("overlap", BN2D_ERROR_OVERLAP, module, conv, 1, f, 4, 4, 1, w, b, f, w + 1, ob);
  previous("overlap", BN2D_ERROR_OVERLAP, module, conv, 1, f, 4, 4, 1, w, b, f, ow, b + 1);
  previous("overlap", BN2D_ERROR_OVERLAP, module, conv, 1, f, 4, 4, 1, w, b, f, ow, ow + 2);
  previous("overlap", BN2D_ERROR_OVERLAP, module, conv, 1, f, 4, 1, 1, w, b, f, ow, ow);
  previous("another dtype", BN2D_ERROR_OVERLAP, module, conv, 1, f, 4, 4, 1, w, b, BN2D_F16, w, ob);
  previous("the module's", BN2D_ERROR_OVERLAP, module, conv, 1, f, 4, 4, 1, w, b, f, ow,
           data_of<float>(module, "running_mean"));
  REQUIRE(bn2d_module_try_lock(module.get(), 1) == BN2D_OK);
  previous("busy", BN2D_ERROR_BUSY, module, conv, 1, f, 4, 4, 1, w, b, f, ow, ob);
  REQUIRE(bn2d_module_unlock(module.get(), 1) == BN2D_OK);
  previous("NULL", BN2D_ERROR_INVALID_ARGUMENT, Module(), conv, 1, f, 4, 4, 1, w, b, f, ow, ob);
  previous("NULL", BN2D_ERROR_INVALID_ARGUMENT, module, conv, 1, f, 4, 4, 1, nullptr, b, f, ow, ob);
  previous("NULL", BN2D_ERROR_INVALID_ARGUMENT, module, conv, 1, f, 4, 4, 1, w, b, f, nullptr, ob);
  previous("NULL", BN2D_ERROR_INVALID_ARGUMENT, module, conv, 1, f, 4, 4, 1, w, b, f, ow, nullptr);
  for (const int32_t padded : {-1, 2})
    check_fails("padded", BN2D_ERROR_INVALID_ARGUMENT, before, {}, [&] {
      return bn2d_fold_into_next_flat(module.get(), conv, 1, padded, f, 4, 4, 1, w, b, f, ow, ob,
                                      &change, &rounding);
    });
  const int64_t extents[] = {4, 4};
  const View view(w, f, 2, extents, nullptr), to(ow, f, 2, extents, nullptr),
      to_bias = View::vector(ob, f, 4);
  const auto by_views = [&](const bn2d_view *a, const bn2d_view *c, const bn2d_view *d,
                            const bn2d_view *e) {
    return bn2d_fold_into_previous(module.get(), conv, 1, a, c, d, e, &change, &rounding);
  };
  check_fails("NULL", BN2D_ERROR_INVALID_ARGUMENT, before, {},
              [&] { return by_views(nullptr, nullptr, to, to_bias); });
  check_fails("NULL", BN2D_ERROR_INVALID_ARGUMENT, before, {},
              [&] { return by_views(view, nullptr, nullptr, to_bias); });
  check_fails("NULL", BN2D_ERROR_INVALID_ARGUMENT, before, {},
              [&] { return by_views(view, nullptr, to, nullptr); });
  check_fails("rank", BN2D_ERROR_SHAPE, before, {},
              [&] { return by_views(view, to, to, to_bias); });
  check_fails("handle", BN2D_ERROR_INVALID_HANDLE, before, {}, [&] {
    const auto weight = tensor_of(module, "weight");
    auto *const wrong = reinterpret_cast<bn2d_module *>(weight.get());
    return bn2d_fold_into_previous(wrong, conv, 1, view, nullptr, to, to_bias, nullptr, nullptr);
  });
  CHECK(by_views(view, nullptr, to, to_bias) == BN2D_OK);
}

TEST_CASE("fold: weights without elements, whatever their other extents", "[fold]") {
  // Catches a product of extents that wraps: taps of 2^80 were 0, and such a layer was folded.
  Random random(22);
  Map map;
  const Module module = random_module(3, BN2D_F32, random, &map);
  float bias[3] = {};
  double change = 7, rounding = 7;
  Snapshot before;
  before.add("module", module.get());
  before.add("bias", bias, sizeof bias);
  before.add("change", &change, sizeof change);
  before.add("rounding", &rounding, sizeof rounding);
  const auto fold_views = [&](const View &weight, int64_t outputs, bool previous) {
    const View to = View::vector(bias, BN2D_F32, outputs);
    return previous ? bn2d_fold_into_previous(module.get(), BN2D_LAYER_CONV, 1, weight, nullptr,
                                              weight, to, &change, &rounding)
                    : bn2d_fold_into_next(module.get(), BN2D_LAYER_CONV, 1, 0, weight, nullptr,
                                          weight, to, &change, &rounding);
  };
  const int64_t big = int64_t{1} << 40;
  const std::vector<std::vector<int64_t>> too_large = {
      {0, 3, big, big},             // no rows: the taps
      {0, big, big},                // a row
      {0, 3, int64_t{1} << 62, 2},  // the taps, beyond 63 bits by one
      {3, 0, big, big},             // no columns
      {0, 3, big, big, 0},          // nothing at all, said too late
      {big, big, 0}};               // the rows
  for (const std::vector<int64_t> &shape : too_large)
    for (const bool previous : {true, false}) {
      const View weight(nullptr, BN2D_F32, shape.size(), shape.data(), nullptr);
      std::string what = previous ? "previous" : "next";
      for (const int64_t extent : shape) what += " " + std::to_string(extent);
      check_fails(what, BN2D_ERROR_OVERFLOW, before, {},
                  [&] { return fold_views(weight, shape[0] == 3 ? 3 : 0, previous); });
    }
  const int64_t long_row[] = {0, 3, int64_t{1} << 61};  // beyond what OpenBLAS counts
  check_fails("a long row", BN2D_ERROR_OVERFLOW, before, {"6917529027641081856"},
              [&] { return fold_views(View(nullptr, BN2D_F32, 3, long_row, nullptr), 0, false); });
  // What 64 bits count is folded: a bias is all that there is to a layer without inputs, and
  // nothing to one without outputs.
  const int64_t no_outputs[] = {0, 3, 1 << 10, 1 << 10}, no_inputs[] = {3, 0, int64_t{1} << 62};
  CHECK(fold_views(View(nullptr, BN2D_F32, 4, no_outputs, nullptr), 0, false) == BN2D_OK);
  CHECK(change == 0);
  CHECK(rounding == 0);
  CHECK(fold_views(View(nullptr, BN2D_F32, 3, no_inputs, nullptr), 3, true) == BN2D_OK);
  for (size_t c = 0; c < 3; ++c) CHECK(std::fabs(bias[c] - map.shift[c]) <= 1e-6L * map.size[c]);
}

TEST_CASE("fold: the table", "[fold]") {
  // Catches a slot that leads elsewhere.
  const bn2d_fold_api *api = bn2d_fold_get_api(BN2D_FOLD_API_VERSION);
  REQUIRE(api != nullptr);
  CHECK(api->size == sizeof(bn2d_fold_api));
  CHECK(bn2d_fold_get_api(0) == nullptr);
  CHECK(bn2d_fold_get_api(BN2D_FOLD_API_VERSION + 1) == nullptr);
  const Module module = make_module(1);
  float w = 2, b = 3;
  CHECK(api->fold_into_next_flat(module.get(), BN2D_LAYER_LINEAR, 1, 0, BN2D_F32, 1, 1, 1, &w, &b,
                                 BN2D_F32, &w, &b, nullptr, nullptr) == BN2D_OK);
  CHECK(std::fabs(w - 2 / std::sqrt(1 + 1e-5f)) < 1e-6);
}
