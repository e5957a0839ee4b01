// The functions without a module: those of C, bit by bit, and lengths that C cannot check.
#include <functional>

#include "cpp/twin.h"

using namespace bn2d_test;

namespace {

const bn2d::Shape kShape{2, 3, 3, 5};
constexpr size_t kElements = 2 * 3 * 3 * 5;
constexpr size_t kMask = 2 * 3 * 2;

// Everything that the three functions read and write.
template <class T>
struct Arrays {
  std::vector<T> x, z, y, dy, dx, dz, ddx, ddy, second;
  std::vector<float> weight{1.5f, -0.5f, 2.0f}, bias{0.25f, 1.0f, -1.0f}, mean{1, 2, 3},
      var{1, 2, 3};
  std::vector<float> dweight{1, 2, 3}, dbias{4, 5, 6}, ddweight{1, -1, 2}, ddbias{0.5f, 1, 3};
  std::vector<double> saved_mean = std::vector<double>(3), saved_invstd = std::vector<double>(3);
  std::vector<uint8_t> mask = std::vector<uint8_t>(kMask);

  Arrays() {
    for (std::vector<T> *v : {&x, &z, &y, &dy, &dx, &dz, &ddx, &ddy, &second}) v->resize(kElements);
    for (size_t i = 0; i < kElements; ++i) {
      x[i] = static_cast<T>(i * 37 % 101) * T(0.125) - 4;
      z[i] = static_cast<T>(i * 11 % 17) * T(0.25) - 2;
      dy[i] = static_cast<T>(i * 7 % 13) - 5;
      ddx[i] = static_cast<T>(i * 5 % 11) * T(0.5) - 2;
    }
  }
};

template <class A>
auto all_of(const A &a) {
  return std::tie(a.y, a.dx, a.dz, a.ddy, a.second, a.mean, a.var, a.dweight, a.dbias, a.saved_mean,
                  a.saved_invstd, a.mask);
}

bn2d::BatchNormForward forward_of(Arrays<float> &a) {
  bn2d::BatchNormForward f;
  f.x = {a.x, kShape};
  f.z = {a.z, kShape};
  f.y = {a.y, kShape};
  f.weight = a.weight;
  f.bias = a.bias;
  f.running_mean = a.mean;
  f.running_var = a.var;
  f.averaging_factor = 0.25;
  f.eps = 0.5;
  f.biased_running_var = true;
  f.activation = bn2d::leaky_relu(-0.5);
  f.mask = a.mask;
  f.saved_mean = a.saved_mean;
  f.saved_invstd = a.saved_invstd;
  return f;
}

}  // namespace

TEST_CASE("cpp stateless: those of C", "[cpp]") {
  // Catches two arguments that are swapped.
  Arrays<float> a, c;
  const auto raw = [](std::vector<float> &v) { return c_view(bn2d::View(v, kShape)); };
  bn2d::batch_norm_forward(forward_of(a));
  REQUIRE(bn2d_batch_norm_forward(
              raw(c.x), raw(c.z), raw(c.y), BN2D_F32, c.weight.data(), c.bias.data(), c.mean.data(),
              c.var.data(), 1, 0.25, 0.5, BN2D_FLAG_BIASED_RUNNING_VAR, BN2D_ACT_LEAKY_RELU, -0.5,
              c.mask.data(), c.saved_mean.data(), c.saved_invstd.data()) == BN2D_OK);
  CHECK(all_of(a) == all_of(c));
  CHECK(a.mean != std::vector<float>{1, 2, 3});

  bn2d::BatchNormBackward b;
  b.x = {a.x, kShape};
  b.dy = {a.dy, kShape};
  b.mask = a.mask;
  b.weight = a.weight;
  b.saved_mean = a.saved_mean;
  b.saved_invstd = a.saved_invstd;
  b.activation = bn2d::leaky_relu(-0.5);
  b.blend = 0.5;
  b.dx = {a.dx, kShape};
  b.dz = {a.dz, kShape};
  b.dweight = a.dweight;
  b.dbias = a.dbias;
  bn2d::batch_norm_backward(b);
  REQUIRE(bn2d_batch_norm_backward(raw(c.x), raw(c.dy), nullptr, c.mask.data(), BN2D_F32,
                                   c.weight.data(), c.saved_mean.data(), c.saved_invstd.data(), 1,
                                   BN2D_ACT_LEAKY_RELU, -0.5, 0.5, raw(c.dx), raw(c.dz),
                                   c.dweight.data(), c.dbias.data()) == BN2D_OK);
  CHECK(all_of(a) == all_of(c));

  bn2d::BatchNormDoubleBackward d;
  d.x = b.x;
  d.dy = b.dy;
  d.mask = b.mask;
  d.weight = b.weight;
  d.saved_mean = b.saved_mean;
  d.saved_invstd = b.saved_invstd;
  d.activation = b.activation;
  d.ddx = {a.ddx, kShape};
  d.ddweight = a.ddweight;
  d.ddbias = a.ddbias;
  d.blend = 2;
  d.ddy = {a.ddy, kShape};
  d.dx = {a.second, kShape};
  d.dweight = a.dweight;
  bn2d::batch_norm_double_backward(d);
  REQUIRE(bn2d_batch_norm_double_backward(raw(c.x), raw(c.dy), nullptr, c.mask.data(), BN2D_F32,
                                          c.weight.data(), c.saved_mean.data(),
                                          c.saved_invstd.data(), 1, BN2D_ACT_LEAKY_RELU, -0.5,
                                          raw(c.ddx), c.ddweight.data(), c.ddbias.data(), 2,
                                          raw(c.ddy), raw(c.second), c.dweight.data()) == BN2D_OK);
  CHECK(all_of(a) == all_of(c));
}

TEST_CASE("cpp stateless: running statistics and y for the side", "[cpp]") {
  Arrays<float> a, c;
  const auto raw = [](std::vector<float> &v) { return c_view(bn2d::View(v, kShape)); };
  auto f = forward_of(a);
  f.batch_stats = false;
  f.biased_running_var = false;
  f.protect_running_stats = true;
  f.activation = bn2d::relu;
  f.mask = {};
  bn2d::batch_norm_forward(f);
  REQUIRE(bn2d_batch_norm_forward(raw(c.x), raw(c.z), raw(c.y), BN2D_F32, c.weight.data(),
                                  c.bias.data(), c.mean.data(), c.var.data(), 0, 0.25, 0.5,
                                  BN2D_FLAG_PROTECT_RUNNING_STATS, BN2D_ACT_RELU, 0, nullptr,
                                  c.saved_mean.data(), c.saved_invstd.data()) == BN2D_OK);
  CHECK(all_of(a) == all_of(c));
  bn2d::BatchNormBackward b;  // without x and dweight nothing needs saved_mean
  b.dy = {a.dy, kShape};
  b.y = {a.y, kShape};
  b.saved_invstd = a.saved_invstd;
  b.batch_stats = false;
  b.activation = bn2d::relu;
  b.dx = {a.dx, kShape};
  bn2d::batch_norm_backward(b);
  REQUIRE(bn2d_batch_norm_backward(nullptr, raw(c.dy), raw(c.y), nullptr, BN2D_F32, nullptr,
                                   nullptr, c.saved_invstd.data(), 0, BN2D_ACT_RELU, 0, 0,
                                   raw(c.dx), nullptr, nullptr, nullptr) == BN2D_OK);
  CHECK(all_of(a) == all_of(c));
}

TEST_CASE("cpp stateless: the dtype of the values for channels", "[cpp]") {
  // Catches a dtype that is taken from the data where weights are given: half data with float
  // weights.
  std::vector<uint16_t> x(kElements, 0x3f80), y(kElements);
  Arrays<float> a;
  bn2d::BatchNormForward f;
  f.x = {x.data(), bn2d::DType::bf16, kShape};
  f.y = {y.data(), bn2d::DType::bf16, kShape};
  f.bias = a.bias;
  bn2d::batch_norm_forward(f);
  CHECK(y[0] == 0x3e80);  // a constant channel becomes its bias, 0.25
  f.bias = {};
  bn2d::batch_norm_forward(f);  // none: bf16 throughout
  CHECK(y[0] == 0);
}

TEST_CASE("cpp stateless: lengths", "[cpp]") {
  // Catches the 64 weights for 3 channels that C cannot see.
  Arrays<float> a;
  std::vector<float> many(64);
  std::vector<double> two(2), wide(3), none;
  std::vector<uint8_t> short_mask(kMask - 1);
  const auto message = [&](auto change) {
    auto f = forward_of(a);
    change(f);
    return std::string(error_of([&] { bn2d::batch_norm_forward(f); }).what());
  };
  const auto before = a.mean;
  CHECK(message([&](auto &f) { f.weight = many; }) == "weight has 64 elements, x has 3 channels");
  CHECK(message([&](auto &f) { f.running_var = many; }) ==
        "running_var has 64 elements, x has 3 channels");
  CHECK(message([&](auto &f) { f.bias = wide; }) == "bias is float64, must be float32");
  CHECK(message([&](auto &f) { f.saved_invstd = two; }) ==
        "saved_invstd has 2 elements, x has 3 channels");
  CHECK(message([&](auto &f) { f.saved_mean = none; }) ==
        "saved_mean has 0 elements, x has 3 channels");
  CHECK(message([&](auto &f) { f.mask = short_mask; }) ==
        "mask has 11 bytes, shape (2, 3, 3, 5) needs 12");
  CHECK(message([&](auto &f) {
          f.z = {many, kShape};
        }) == "z has 64 elements, shape (2, 3, 3, 5) needs 90");
  CHECK(a.mean == before);

  bn2d::BatchNormBackward b;
  b.x = b.dy = bn2d::ConstView(a.x, kShape);
  b.saved_mean = b.saved_invstd = a.saved_mean;
  b.dweight = many;
  CHECK(std::string(error_of([&] { bn2d::batch_norm_backward(b); }).what()) ==
        "dweight has 64 elements, dy has 3 channels");
  bn2d::BatchNormDoubleBackward d;
  d.x = d.dy = b.x;
  d.saved_mean = d.saved_invstd = a.saved_mean;
  d.ddbias = many;
  CHECK(std::string(error_of([&] { bn2d::batch_norm_double_backward(d); }).what()) ==
        "ddbias has 64 elements, dy has 3 channels");
}

TEST_CASE("cpp stateless: group norm is that of C", "[cpp]") {
  // Catches two arguments that are swapped, and a number of groups that is lost on the way.
  constexpr int64_t kGroups = 3;
  Arrays<float> a, c;
  for (Arrays<float> *arrays : {&a, &c})
    arrays->saved_mean = arrays->saved_invstd = std::vector<double>(2 * kGroups);
  const auto raw = [](std::vector<float> &v) { return c_view(bn2d::View(v, kShape)); };
  bn2d::GroupNormForward f;
  f.x = {a.x, kShape};
  f.z = {a.z, kShape};
  f.y = {a.y, kShape};
  f.num_groups = kGroups;
  f.weight = a.weight;
  f.bias = a.bias;
  f.eps = 0.5;
  f.activation = bn2d::leaky_relu(-0.5);
  f.mask = a.mask;
  f.saved_mean = a.saved_mean;
  f.saved_invstd = a.saved_invstd;
  bn2d::group_norm_forward(f);
  REQUIRE(bn2d_group_norm_forward(raw(c.x), raw(c.z), raw(c.y), kGroups, BN2D_F32, c.weight.data(),
                                  c.bias.data(), 0.5, BN2D_ACT_LEAKY_RELU, -0.5, c.mask.data(),
                                  c.saved_mean.data(), c.saved_invstd.data()) == BN2D_OK);
  CHECK(all_of(a) == all_of(c));
  CHECK(a.saved_mean[0] != a.saved_mean[kGroups]);

  bn2d::GroupNormBackward b;
  b.x = {a.x, kShape};
  b.dy = {a.dy, kShape};
  b.mask = a.mask;
  b.num_groups = kGroups;
  b.weight = a.weight;
  b.saved_mean = a.saved_mean;
  b.saved_invstd = a.saved_invstd;
  b.activation = bn2d::leaky_relu(-0.5);
  b.blend = 0.5;
  b.dx = {a.dx, kShape};
  b.dz = {a.dz, kShape};
  b.dweight = a.dweight;
  b.dbias = a.dbias;
  bn2d::group_norm_backward(b);
  REQUIRE(bn2d_group_norm_backward(raw(c.x), raw(c.dy), nullptr, c.mask.data(), kGroups, BN2D_F32,
                                   c.weight.data(), c.saved_mean.data(), c.saved_invstd.data(),
                                   BN2D_ACT_LEAKY_RELU, -0.5, 0.5, raw(c.dx), raw(c.dz),
                                   c.dweight.data(), c.dbias.data()) == BN2D_OK);
  CHECK(all_of(a) == all_of(c));

  bn2d::GroupNormDoubleBackward d;
  d.x = b.x;
  d.dy = b.dy;
  d.mask = b.mask;
  d.num_groups = kGroups;
  d.weight = b.weight;
  d.saved_mean = b.saved_mean;
  d.saved_invstd = b.saved_invstd;
  d.activation = b.activation;
  d.ddx = {a.ddx, kShape};
  d.ddweight = a.ddweight;
  d.ddbias = a.ddbias;
  d.blend = 2;
  d.ddy = {a.ddy, kShape};
  d.dx = {a.second, kShape};
  d.dweight = a.dweight;
  bn2d::group_norm_double_backward(d);
  REQUIRE(bn2d_group_norm_double_backward(raw(c.x), raw(c.dy), nullptr, c.mask.data(), kGroups,
                                          BN2D_F32, c.weight.data(), c.saved_mean.data(),
                                          c.saved_invstd.data(), BN2D_ACT_LEAKY_RELU, -0.5,
                                          raw(c.ddx), c.ddweight.data(), c.ddbias.data(), 2,
                                          raw(c.ddy), raw(c.second), c.dweight.data()) == BN2D_OK);
  CHECK(all_of(a) == all_of(c));
}

TEST_CASE("cpp stateless: backward through a pointwise activation", "[cpp]") {
  // Catches z or bias left out, and the functions that do not know such an activation.
  for (const bool in_groups : {false, true}) {
    Arrays<float> a, c;
    const auto raw = [](std::vector<float> &v) { return c_view(bn2d::View(v, kShape)); };
    constexpr int64_t kGroups = 1;
    const auto set = [&](auto &call) {
      call.x = {a.x, kShape};
      call.z = {a.z, kShape};
      call.weight = a.weight;
      call.bias = a.bias;
      call.activation = bn2d::gelu;
    };
    const bn2d::Span<double> mean(a.saved_mean.data(), in_groups ? 2 : 3),
        invstd(a.saved_invstd.data(), in_groups ? 2 : 3);
    const auto set_backward = [&](auto &call) {
      set(call);
      call.dy = {a.dy, kShape};
      call.saved_mean = mean;
      call.saved_invstd = invstd;
      call.dx = {a.dx, kShape};
      call.dz = {a.dz, kShape};
      call.dweight = a.dweight;
      call.dbias = a.dbias;
      call.blend = 0.5;
    };
    const auto set_forward = [&](auto &call) {
      set(call);
      call.y = {a.y, kShape};
      call.saved_mean = mean;
      call.saved_invstd = invstd;
    };
    const auto set_double_backward = [&](auto &call) {
      set_backward(call);
      call.ddx = {a.ddx, kShape};
      call.ddz = {a.z, kShape};
      call.ddweight = a.ddweight;
      call.ddbias = a.ddbias;
      call.ddy = {a.ddy, kShape};
      call.dx = {a.second, kShape};
    };
    if (in_groups) {
      bn2d::GroupNormForward f;
      set_forward(f);
      bn2d::group_norm_forward(f);
      bn2d::GroupNormBackward b;
      set_backward(b);
      bn2d::group_norm_backward(b);
      bn2d::GroupNormDoubleBackward d;
      set_double_backward(d);
      bn2d::group_norm_double_backward(d);
      REQUIRE(bn2d_group_norm_forward(raw(c.x), raw(c.z), raw(c.y), kGroups, BN2D_F32,
                                      c.weight.data(), c.bias.data(), 1e-5, BN2D_ACT_GELU, 0,
                                      nullptr, c.saved_mean.data(),
                                      c.saved_invstd.data()) == BN2D_OK);
      REQUIRE(bn2d_group_norm_backward_act(raw(c.x), raw(c.z), raw(c.dy), nullptr, nullptr, kGroups,
                                           BN2D_F32, c.weight.data(), c.bias.data(),
                                           c.saved_mean.data(), c.saved_invstd.data(),
                                           BN2D_ACT_GELU, 0, 0.5, raw(c.dx), raw(c.dz),
                                           c.dweight.data(), c.dbias.data()) == BN2D_OK);
      REQUIRE(bn2d_group_norm_double_backward_act(
                  raw(c.x), raw(c.z), raw(c.dy), nullptr, nullptr, kGroups, BN2D_F32,
                  c.weight.data(), c.bias.data(), c.saved_mean.data(), c.saved_invstd.data(),
                  BN2D_ACT_GELU, 0, raw(c.ddx), raw(c.z), c.ddweight.data(), c.ddbias.data(), 0.5,
                  raw(c.ddy), raw(c.second), raw(c.dz), c.dweight.data(),
                  c.dbias.data()) == BN2D_OK);
    } else {
      bn2d::BatchNormForward f;
      set_forward(f);
      bn2d::batch_norm_forward(f);
      bn2d::BatchNormBackward b;
      set_backward(b);
      bn2d::batch_norm_backward(b);
      bn2d::BatchNormDoubleBackward d;
      set_double_backward(d);
      bn2d::batch_norm_double_backward(d);
      REQUIRE(bn2d_batch_norm_forward(raw(c.x), raw(c.z), raw(c.y), BN2D_F32, c.weight.data(),
                                      c.bias.data(), nullptr, nullptr, 1, 0.1, 1e-5, 0,
                                      BN2D_ACT_GELU, 0, nullptr, c.saved_mean.data(),
                                      c.saved_invstd.data()) == BN2D_OK);
      REQUIRE(bn2d_batch_norm_backward_act(
                  raw(c.x), raw(c.z), raw(c.dy), nullptr, nullptr, BN2D_F32, c.weight.data(),
                  c.bias.data(), c.saved_mean.data(), c.saved_invstd.data(), 1, BN2D_ACT_GELU, 0,
                  0.5, raw(c.dx), raw(c.dz), c.dweight.data(), c.dbias.data()) == BN2D_OK);
      REQUIRE(bn2d_batch_norm_double_backward_act(
                  raw(c.x), raw(c.z), raw(c.dy), nullptr, nullptr, BN2D_F32, c.weight.data(),
                  c.bias.data(), c.saved_mean.data(), c.saved_invstd.data(), 1, BN2D_ACT_GELU, 0,
                  raw(c.ddx), raw(c.z), c.ddweight.data(), c.ddbias.data(), 0.5, raw(c.ddy),
                  raw(c.second), raw(c.dz), c.dweight.data(), c.dbias.data()) == BN2D_OK);
    }
    CHECK(all_of(a) == all_of(c));
    CHECK(a.dx[0] != 0);
  }
}

TEST_CASE("cpp stateless: lengths of group norm", "[cpp]") {
  // Catches statistics of channels where those of groups are needed, and an overflow on the way.
  Arrays<float> a;
  std::vector<float> many(64);
  bn2d::GroupNormForward f;
  f.x = {a.x, kShape};
  f.y = {a.y, kShape};
  f.saved_mean = a.saved_mean;
  const auto message = [&](int64_t groups) {
    f.num_groups = groups;
    return std::string(error_of([&] { bn2d::group_norm_forward(f); }).what());
  };
  CHECK(message(1) == "saved_mean has 3 elements, shape (2, 3, 3, 5) in num_groups 1 needs 2");
  CHECK(message(3) == "saved_mean has 3 elements, shape (2, 3, 3, 5) in num_groups 3 needs 6");
  CHECK(message(0) == "num_groups is 0, must be 1 or more");
  CHECK(message(INT64_MAX).find("no multiple of num_groups") != std::string::npos);
  f.saved_mean = {};
  f.weight = many;
  CHECK(message(3) == "weight has 64 elements, x has 3 channels");

  bn2d::GroupNormBackward b;
  b.x = b.dy = bn2d::ConstView(a.x, kShape);
  b.num_groups = 3;
  b.saved_invstd = a.saved_mean;
  CHECK(std::string(error_of([&] { bn2d::group_norm_backward(b); }).what()) ==
        "saved_invstd has 3 elements, shape (2, 3, 3, 5) in num_groups 3 needs 6");
  bn2d::GroupNormDoubleBackward d;
  d.x = d.dy = b.x;
  d.num_groups = 3;
  d.ddbias = many;
  CHECK(std::string(error_of([&] { bn2d::group_norm_double_backward(d); }).what()) ==
        "ddbias has 64 elements, dy has 3 channels");
}
