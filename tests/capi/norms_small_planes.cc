// Group norm of small planes, which goes by sets as planes (ops/sets_as_planes.h).
#include "support/many_threads.h"
#include "support/norms_case.h"
#include "support/rounds.h"

namespace {

using namespace numerics;

constexpr Extents kShapes[] = {{5, 24, 1, 1},  {70, 16, 1, 1},  {4, 12, 3, 3},   {3, 30, 2, 4},
                               {130, 6, 1, 2}, {2, 300, 7, 1},  {1, 3072, 1, 1}, {6, 10, 5, 2},
                               {3, 24, 4, 4},  {40, 600, 3, 1},  // which several threads share
                               {3, 24, 7, 7},  {2, 12, 10, 10}, {2, 12, 1, 101}, {17, 8, 4, 5}};

std::vector<int64_t> groups_of(int64_t channels) {
  std::vector<int64_t> groups = {1, channels / 2};
  if (channels % 3 == 0) groups.push_back(channels / 3);
  return groups;
}

}  // namespace

// Catches: tensors that are copied, or not, and have other bits; those that are written in place of
// each other; a plane that is one element too large for it in one of the layouts.
TEST_CASE("norms of small planes: any layout, any number of threads", "[norms]") {
  ManyThreads many;
  uint64_t seed = 300;
  for (const Extents &e : kShapes)
    for (const int64_t groups : groups_of(e.c))
      for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
        if (e.size() > 20000 && (groups != 1 || dtype == BN2D_F64)) continue;
        NormCase c = case_of(e, BN2D_NORM_GROUP, groups);
        c.data = c.module = dtype;
        c.stateless = seed % 3 == 0;
        c.residual = seed % 4 == 0;
        c.affine = seed % 5 != 0;
        if (seed % 7 == 0) c.activation = {Activation::leaky, 0.125};
        Inputs in = random_inputs(c, ++seed);
        INFO(describe(c));
        const ExpectedNorm want = expect(c, in);
        const Outputs packed = run(c, in);
        check_case(c, want, packed, "small planes: ");
        for (const Layout layout : all_layouts)
          for (int mixed = 0; mixed < 4; ++mixed) {
            c.x = mixed == 1 ? Layout::nchw : layout;
            c.y = mixed == 2 ? Layout::nchw : layout;
            c.dx = mixed == 3 ? Layout::nhwc : layout;
            same_bits(packed, many.with(1 + mixed, [&] { return run(c, in); }), describe(c));
          }
      }
}

// Catches: samples that are copied some at a time, so that their sets are sums, and get the
// statistics of others; doubles near the end of their range among them.
TEST_CASE("norms of small planes: copies of some samples at a time", "[norms]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_BF16}) {
    NormCase c = case_of({dtype == BN2D_BF16 ? 163 : 83, 600, 5, 5}, BN2D_NORM_GROUP, 25);
    c.data = dtype;
    Inputs in = random_inputs(c, 19);
    if (dtype == BN2D_F64) in.x[70 * 600 * 25] = 1e200;
    const int32_t parameters = dtype == BN2D_F64 ? BN2D_F64 : BN2D_F32;
    const Tensor x(dtype, c.e, in.x, Layout::nchw);
    std::vector<double> mean(static_cast<size_t>(c.e.n * c.groups)), mean_of_copies(mean.size());
    const auto forward = [&](const Tensor &from, Layout layout, std::vector<double> &saved) {
      Tensor y(dtype, c.e, layout);
      REQUIRE(bn2d_group_norm_forward(from.view(), nullptr, y.view(), c.groups, parameters, nullptr,
                                      nullptr, 1e-5, BN2D_ACT_NONE, 0, nullptr, saved.data(),
                                      nullptr) == BN2D_OK);
      return y.bits();
    };
    const auto bits = forward(x, Layout::nchw, mean);
    const Tensor channels_last(dtype, c.e, in.x, Layout::nhwc);
    CHECK(first_difference(bits, forward(channels_last, Layout::nhwc, mean_of_copies)) == -1);
    CHECK(mean == mean_of_copies);
    const int64_t of_set = c.e.size() / static_cast<int64_t>(mean.size());
    for (size_t set = 0; set < mean.size(); ++set) {
      double sum = 0;
      for (int64_t i = 0; i < of_set; ++i)
        sum += in.x[set * static_cast<size_t>(of_set) + static_cast<size_t>(i)];
      const double right = sum / static_cast<double>(of_set);
      CHECK(std::fabs(mean[set] - right) <= 1e-6 * std::max(1.0, std::fabs(right)));
    }
  }
}

// Catches: xhat that is written where z still has to be read, and dy that is overwritten before it
// is read for the last time.
TEST_CASE("norms of small planes: in place", "[norms]") {
  for (const Extents &e : kShapes) {
    const int64_t groups = e.c / 2, size = e.size();
    NormCase c = case_of(e, BN2D_NORM_GROUP, groups);
    const Inputs in = random_inputs(c, 17);
    const auto floats = [](const Values &values) {
      return std::vector<float>(values.begin(), values.end());
    };
    const std::vector<float> x = floats(in.x), z = floats(in.z), dy = floats(in.dy),
                             weight = floats(in.weight), bias = floats(in.bias);
    std::vector<double> mean(static_cast<size_t>(e.n * groups)), invstd(mean.size());
    const auto forward = [&](const float *from, const float *residual, float *to) {
      REQUIRE(bn2d_group_norm_forward_flat(BN2D_F32, BN2D_NCHW, e.n, e.c, e.h, e.w, from, residual,
                                           to, groups, BN2D_F32, e.c, weight.data(), bias.data(),
                                           1e-5, BN2D_ACT_NONE, 0, nullptr, mean.data(),
                                           invstd.data()) == BN2D_OK);
    };
    std::vector<float> apart(static_cast<size_t>(size)), y = x;
    forward(x.data(), nullptr, apart.data());
    forward(y.data(), nullptr, y.data());
    CHECK(y == apart);
    forward(x.data(), z.data(), apart.data());
    y = z;
    forward(x.data(), y.data(), y.data());
    CHECK(y == apart);
    // x is packed first, and not where z is.
    const Tensor channels_last(BN2D_F32, e, in.x, Layout::nhwc);
    Tensor in_place(BN2D_F32, e, in.z, Layout::nchw);
    REQUIRE(bn2d_group_norm_forward(channels_last.view(), in_place.view(), in_place.view(), groups,
                                    BN2D_F32, weight.data(), bias.data(), 1e-5, BN2D_ACT_NONE, 0,
                                    nullptr, mean.data(), invstd.data()) == BN2D_OK);
    const Values written = Output{BN2D_F32, in_place.bits()}.values();
    CHECK(std::vector<float>(written.begin(), written.end()) == apart);

    const auto backward = [&](const float *gradient, float *dx, std::vector<float> &dweight) {
      std::vector<float> dbias = dweight;
      REQUIRE(bn2d_group_norm_backward_flat(
                  BN2D_F32, BN2D_NCHW, e.n, e.c, e.h, e.w, x.data(), gradient, nullptr, nullptr,
                  groups, BN2D_F32, e.c, weight.data(), mean.data(), invstd.data(), BN2D_ACT_NONE,
                  0, 0.5, dx, nullptr, dweight.data(), dbias.data()) == BN2D_OK);
    };
    std::vector<float> dweight(static_cast<size_t>(e.c), 3), dweight_apart = dweight, dx = dy;
    backward(dy.data(), apart.data(), dweight_apart);
    backward(dx.data(), dx.data(), dweight);
    CHECK(dx == apart);
    CHECK(dweight == dweight_apart);
  }
}

// Catches: a residual of half data in another layout than x and y, which has no room to be packed.
TEST_CASE("norms of small planes: a residual in another layout", "[norms]") {
  for (const Extents &e : kShapes)
    for (const int32_t dtype : {BN2D_F32, BN2D_BF16}) {
      const NormCase c = case_of(e, BN2D_NORM_GROUP, e.c / 2);
      Inputs in = random_inputs(c, 18);
      const Tensor x(dtype, e, in.x, Layout::nchw), z(dtype, e, in.z, Layout::nchw);
      const auto forward = [&](const Tensor &residual) {
        Tensor y(dtype, e, Layout::nchw);
        REQUIRE(bn2d_group_norm_forward(x.view(), residual.view(), y.view(), c.groups, BN2D_F32,
                                        nullptr, nullptr, 1e-5, BN2D_ACT_NONE, 0, nullptr, nullptr,
                                        nullptr) == BN2D_OK);
        return y.bits();
      };
      const auto bits = forward(z);
      for (const Layout layout : all_layouts) {
        INFO(name_of(layout));
        CHECK(first_difference(bits, forward(Tensor(dtype, e, in.z, layout))) == -1);
      }
    }
}

// Catches: squares that no float holds, in sets that are summed as a whole, with an eps that does
// not hide them: y was 0.
TEST_CASE("norms of small planes: squares below the range, with eps 0", "[norms][range]") {
  struct Sizes {
    int32_t dtype;
    double values[3];
  };
  for (const Sizes &sizes :
       {Sizes{BN2D_F32, {1e-20, 1e-25, 1e-38}}, Sizes{BN2D_F64, {1e-160, 1e-200, 1e-300}}})
    for (const Extents &e : {Extents{2, 64, 5, 5}, Extents{2, 1024, 1, 2}, Extents{2, 64, 11, 11}})
      for (const double size : sizes.values) {
        const auto of_sample = static_cast<size_t>(e.size() / e.n);
        Values x(2 * of_sample, 0.0);
        for (size_t sample = 0; sample < 2; ++sample) {
          x[sample * of_sample] = size;
          x[sample * of_sample + 1] = -size;
        }
        const Tensor from(sizes.dtype, e, x, Layout::nchw);
        Tensor y(sizes.dtype, e, Layout::nchw);
        REQUIRE(bn2d_group_norm_forward(from.view(), nullptr, y.view(), 1, sizes.dtype, nullptr,
                                        nullptr, 0, BN2D_ACT_RELU, 0, nullptr, nullptr,
                                        nullptr) == BN2D_OK);
        const double want = std::sqrt(static_cast<double>(of_sample) / 2);
        CHECK(std::fabs(y.get()[of_sample] / want - 1) < 1e-6);
      }
}

// Catches: the rest of a mean that its type cannot hold, of a set whose scale is ordinary, because
// eps is far above its variance.
TEST_CASE("norms of small planes: means near the smallest numbers", "[norms][range]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64})
    for (const int power : {-132, -140, -960, -1024, -1050, -1060})
      for (const double eps : {1e-30, 1e-5}) {
        if (dtype == BN2D_F32 && power < -140) continue;
        NormCase c = case_of({3, 6, 5, 5}, BN2D_NORM_GROUP, 2);
        c.data = c.module = dtype;
        c.eps = eps;
        Inputs in = random_inputs(c, 77);
        for (size_t i = 0; i < in.x.size(); ++i)
          if (i / 75 != 2) in.x[i] = rounded(dtype, std::ldexp(in.x[i] + 2, power));
        in.bias = Values(6, 0.0);
        const ExpectedNorm want = expect(c, in);
        Outputs got = run(c, in);
        for (const char *name : {"ddy", "dx2", "dz2", "dweight2", "dbias2", "dweight", "dbias"})
          got.erase(name);
        check_case(c, want, got, "small means: ");
      }
}

// Catches: a NaN or an infinite gradient that reaches another set, or changes the way in which the
// rest of its sample is computed.
TEST_CASE("norms of small planes: what is not finite stays in its set", "[norms]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_BF16})
    for (const bool is_gradient : {false, true})
      for (const double value :
           {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        NormCase c = case_of({3, 8, 2, 3}, BN2D_NORM_GROUP, 4);
        c.data = c.module = dtype;
        Inputs in = random_inputs(c, 6);
        const Outputs clean = run(c, in);
        (is_gradient ? in.dy : in.x)[(1 * 8 + 3) * 6 + 2] = value;  // sample 1, group 1
        const Outputs got = run(c, in);
        for (const char *name : {"y", "dx"})
          for (size_t i = 0; i < in.x.size(); ++i) {
            const bool is_of_set = i / 48 == 1 && i / 6 % 8 / 2 == 1;
            if (!is_of_set || (is_gradient && name == std::string("y"))) {
              CHECK(got.at(name).bits[i] == clean.at(name).bits[i]);
            } else {
              CHECK_FALSE(std::isfinite(got.at(name).values()[i]));
            }
          }
      }
}

// Catches: a weight of NaN that changes the sets of other channels, and a NaN whose payload carries
// into the sign when it is rounded to bfloat16: y was -0.
TEST_CASE("norms of small planes: a weight of NaN stays in its set", "[norms]") {
  const double all_ones = -std::nan("0xFFFFFFFFFFFFF");
  for (const int32_t dtype : {BN2D_F32, BN2D_F16, BN2D_BF16}) {
    NormCase c = case_of({3, 8, 2, 3}, BN2D_NORM_GROUP, 4);
    c.data = dtype;
    c.module = BN2D_F32;
    Inputs in = random_inputs(c, 7);
    in.weight[5] *= 1e-3;
    const Outputs clean = run(c, in);
    for (const double value : {std::numeric_limits<double>::quiet_NaN(), all_ones, -all_ones,
                               std::numeric_limits<double>::infinity()}) {
      in.weight[3] = value;  // group 1
      const Outputs got = run(c, in);
      for (size_t i = 0; i < in.x.size(); ++i) {
        const bool is_of_set = i / 6 % 8 / 2 == 1;
        if (is_of_set) {
          CHECK_FALSE(std::isfinite(got.at("dx").values()[i]));
        } else {
          CHECK(got.at("dx").bits[i] == clean.at("dx").bits[i]);
        }
        if (i / 6 % 8 == 3) {
          CHECK_FALSE(std::isfinite(got.at("y").values()[i]));
        } else {
          CHECK(got.at("y").bits[i] == clean.at("y").bits[i]);
        }
      }
    }
  }
}

// Catches: two terms that cancel rounded apart where a set is near the ends of the range: dx was up
// to 1e286.
TEST_CASE("norms of small planes: one value alone has no gradient", "[norms][range]") {
  int64_t wrong = 0;
  for (const double eps : {1e-5, 1e-300})
    for (const double size : {1e-200, 1.0, 1e200, 1e299})
      for (uint64_t seed = 0; seed < 50; ++seed) {
        NormCase c = case_of({3, 2, 1, 1}, BN2D_NORM_GROUP, 2);
        c.data = c.module = BN2D_F64;
        c.eps = eps;
        Inputs in = random_inputs(c, seed + 1);
        for (double &dy : in.dy) dy *= size;
        const Outputs got = run(c, in);
        for (const double dx : got.at("dx").values()) wrong += dx != 0;
        if (seed != 0) continue;
        in.weight[1] = std::numeric_limits<double>::quiet_NaN();
        const Outputs with_nan = run(c, in);
        for (size_t i = 0; i < in.x.size(); ++i)
          CHECK(std::isnan(with_nan.at("dx").values()[i]) == (i % 2 == 1));
      }
  CHECK(wrong == 0);
}

// Catches: the mean of doubles taken once more by a stateless backward in another order than by its
// forward. Where it lies between two doubles the two differed, and dx missed half an ulp of it.
TEST_CASE("norms of small planes: a stateless backward finds the mean of its forward", "[norms]") {
  int64_t wrong = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    NormCase c = case_of({2, 4, 1, 3 + static_cast<int64_t>(seed % 5)}, BN2D_NORM_GROUP,
                         1 + static_cast<int64_t>(seed % 2));
    c.data = c.module = BN2D_F64;
    c.eps = 0;
    c.x = seed % 3 == 0 ? Layout::nhwc : Layout::nchw;
    Inputs in = random_inputs(c, seed + 1);
    Random random(seed);
    for (double &x : in.x) x = 1 + std::ldexp(static_cast<double>(random.below(4)), -52);
    const Outputs with_module = run(c, in);
    c.stateless = true;
    const Outputs without = run(c, in);
    for (size_t i = 0; i < in.x.size(); ++i)
      wrong += with_module.at("dx").bits[i] != without.at("dx").bits[i];
  }
  CHECK(wrong == 0);
}

// Catches: products of a weight and a gradient, or values of xhat, beyond the range of the type on
// the way to results that are within it; and a sample whose bits depend on what another one has.
TEST_CASE("norms of small planes: numbers beyond the range on the way", "[norms][range]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_BF16})
    for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::blocked}) {
      constexpr int64_t n = 4, channels = 8;
      NormCase c = case_of({n, channels, 2, 2}, BN2D_NORM_GROUP, 2);
      c.data = c.module = dtype;
      c.stateless = true;
      c.x = c.y = c.dx = layout;
      Inputs in = random_inputs(c, 9);
      const int reach = dtype == BN2D_F64 ? 600 : 70;
      // The weights make products beyond both ends: in sample 1 of group 1, in sample 2 of group 0.
      // invstd brings dx back into the range.
      c.eps = 0;
      for (size_t i = 0; i < channels / 2; ++i)
        in.weight[i] = rounded(dtype, std::ldexp(in.weight[i], -reach));
      in.weight[5] = std::ldexp(1.0, reach);
      const size_t size = in.x.size() / n;
      const int smallest = dtype == BN2D_F64 ? -1060 : -138;  // gradients of few bits, in sample 3
      for (size_t i = size; i < in.x.size(); ++i) {
        const int power = i < 2 * size ? reach - 3 : -reach;
        in.x[i] = rounded(dtype, std::ldexp(in.x[i], i < 3 * size ? power : power - 30));
        in.dy[i] = rounded(dtype, std::ldexp(in.dy[i], i < 3 * size ? power : smallest));
      }
      INFO(describe(c));
      const ExpectedNorm want = expect(c, in);
      Outputs got = run(c, in);
      for (const char *name : {"ddy", "dx2", "dweight2"}) got.erase(name);
      check_case(c, want, got, "small planes, beyond: ");
      for (int64_t sample = 0; sample < n; ++sample) {
        NormCase one = c;
        one.e.n = 1;
        Inputs alone = in;
        const auto first = static_cast<std::ptrdiff_t>(size) * sample,
                   last = first + static_cast<std::ptrdiff_t>(size);
        for (Values *values : {&alone.x, &alone.dy})
          *values = Values(values->begin() + first, values->begin() + last);
        const Outputs part = run(one, alone);
        for (const char *name : {"y", "dx"})
          CHECK(std::equal(part.at(name).bits.begin(), part.at(name).bits.end(),
                           got.at(name).bits.begin() + first));
      }
    }
}

// Catches: xhat that is rounded before it is multiplied with the gradient.
TEST_CASE("norms of small planes: a single product is rounded once", "[norms]") {
  constexpr int64_t channels = 4096;
  Random random(11);
  std::vector<float> x(channels), dy(channels), dx(channels), dweight(channels);
  for (std::vector<float> *values : {&x, &dy})
    for (float &value : *values) value = static_cast<float>(random.normal());
  const double mean = 0.125, invstd = 1.75;
  REQUIRE(bn2d_group_norm_backward_flat(BN2D_F32, BN2D_NCHW, 1, channels, 1, 1, x.data(), dy.data(),
                                        nullptr, nullptr, 1, BN2D_F32, channels, nullptr, &mean,
                                        &invstd, BN2D_ACT_NONE, 0, 0, dx.data(), nullptr,
                                        dweight.data(), nullptr) == BN2D_OK);
  for (size_t c = 0; c < channels; ++c)
    CHECK(dweight[c] == static_cast<float>(dy[c] * ((x[c] - mean) * invstd)));
}
