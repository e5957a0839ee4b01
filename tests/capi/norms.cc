// Group, instance and ghost batch norm against the oracle, and against each other bit by bit.
#include "support/many_threads.h"
#include "support/norms_case.h"
#include "support/rounds.h"

namespace {

using namespace numerics;

// All kinds, with sizes on both sides of vectors, lanes, groups of 128 channels, and blocks.
NormCase random_case(Random &random) {
  static const std::vector<Extents> shapes = {
      {2, 4, 3, 3},  {3, 6, 1, 1},   {1, 8, 5, 7},    {5, 12, 2, 2},
      {2, 32, 9, 9}, {4, 3, 17, 16}, {2, 160, 4, 4},  {1, 300, 3, 5},
      {9, 2, 8, 8},  {2, 6, 40, 41}, {3, 264, 1, 2},  {2, 2, 90, 95},
      {6, 64, 7, 7}, {40, 16, 2, 3}, {1, 1, 20, 400}, {2, 512, 6, 6}};
  static const std::vector<std::pair<int32_t, int32_t>> dtypes = {
      {BN2D_F32, BN2D_F32}, {BN2D_F64, BN2D_F64},   {BN2D_F16, BN2D_F32}, {BN2D_BF16, BN2D_F32},
      {BN2D_F16, BN2D_F16}, {BN2D_BF16, BN2D_BF16}, {BN2D_F32, BN2D_F32}};
  NormCase c;
  c.e = shapes[random.below(shapes.size())];
  std::tie(c.data, c.module) = dtypes[random.below(dtypes.size())];
  c.norm = std::vector<int32_t>{BN2D_NORM_GROUP, BN2D_NORM_GROUP, BN2D_NORM_INSTANCE,
                                BN2D_NORM_BATCH}[random.below(4)];
  std::vector<int64_t> divisors;
  for (int64_t g = 1; g <= c.e.c; ++g)
    if (c.e.c % g == 0) divisors.push_back(g);
  c.groups = divisors[random.below(divisors.size())];
  if (c.norm == BN2D_NORM_INSTANCE && c.e.plane() == 1) c.norm = BN2D_NORM_GROUP;
  if (c.norm == BN2D_NORM_BATCH) {
    c.ghost = 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(c.e.n)));
    const int64_t rest = c.e.n % c.ghost == 0 ? c.ghost : c.e.n % c.ghost;
    if (rest * c.e.plane() == 1) c.norm = BN2D_NORM_GROUP;
  }
  if (random.below(3) == 0) c.activation = {Activation::relu, 0};
  if (random.below(5) == 0) c.activation = {Activation::leaky, random.coin() ? 0.25 : -0.5};
  if (random.below(4) == 0) c.activation = pointwise[random.below(std::size(pointwise))];
  c.residual = random.below(3) == 0;
  c.affine = random.below(4) != 0;
  c.track = random.coin();
  c.cumulative = random.below(4) == 0;
  c.stateless = c.norm == BN2D_NORM_GROUP && random.below(3) == 0;
  const auto layout = [&] { return all_layouts[random.below(std::size(all_layouts))]; };
  c.x = layout();
  c.y = random.coin() ? c.x : layout();
  c.dx = random.coin() ? c.x : layout();
  return c;
}

}  // namespace

// Catches: any wrong formula, index of a set, a weight of another channel, a layout that is walked
// wrongly.
TEST_CASE("norms: forward, backward and double backward against the oracle", "[norms]") {
  Random random(901);
  for (int round = 0; round < rounds(700); ++round) {
    const NormCase c = random_case(random);
    INFO(describe(c));
    Inputs in = random_inputs(c, 7000 + static_cast<uint64_t>(round));
    const ExpectedNorm want = expect(c, in);
    check_case(c, want, run(c, in), "norms: ");
  }
}

// Catches: samples of one channel that are taken for a row of channels one after another, so that
// what lies between the elements is read and written.
TEST_CASE("norms: one channel in every layout", "[norms]") {
  uint64_t seed = 40;
  for (const Extents e : {Extents{3, 1, 4, 6}, Extents{7, 1, 1, 9}, Extents{5, 1, 3, 1},
                          Extents{2, 1, 40, 41}, Extents{70, 1, 2, 2}})
    for (const int32_t norm : {BN2D_NORM_GROUP, BN2D_NORM_INSTANCE, BN2D_NORM_BATCH})
      for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_BF16})
        for (const Layout layout : all_layouts) {
          NormCase c = case_of(e, norm);
          c.ghost = norm == BN2D_NORM_BATCH ? 1 + static_cast<int64_t>(seed % 2) : 0;
          c.data = c.module = dtype;
          c.stateless = norm == BN2D_NORM_GROUP && seed % 2 == 0;
          c.residual = seed % 3 == 0;
          if (seed % 5 == 0) c.activation = relu;
          c.x = c.dx = layout;
          c.y = seed % 4 == 0 ? Layout::nchw : layout;
          INFO(describe(c));
          Inputs in = random_inputs(c, ++seed);
          const ExpectedNorm want = expect(c, in);
          check_case(c, want, run(c, in), "one channel: ");
        }
}

// Catches: the bit of a mask at the place of another set. The samples of a set become positions of
// one plane there, and of one channel the sets are a row of channels.
TEST_CASE("norms: masks of planes of one element", "[norms]") {
  uint64_t seed = 60;
  for (const Extents e : {Extents{40, 1, 1, 1}, Extents{24, 3, 1, 1}, Extents{16, 70, 1, 1}})
    for (const int64_t ghost : {2, 4, 8})
      for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16})
        for (const Layout layout : {Layout::nchw, Layout::channel_slice, Layout::permuted}) {
          NormCase c = case_of(e, BN2D_NORM_BATCH);
          c.ghost = ghost;
          c.data = c.module = dtype;
          c.residual = seed % 2 == 0;
          c.activation = {Activation::leaky, -0.5};  // whose record keeps a mask
          c.x = c.y = c.dx = layout;
          INFO(describe(c));
          Inputs in = random_inputs(c, ++seed);
          const ExpectedNorm want = expect(c, in);
          check_case(c, want, run(c, in), "masks: ");
        }
}

// Catches: an order of summation that depends on threads, on the layout, or on how samples lie in
// memory.
TEST_CASE("norms: the same bits on any number of threads and in any layout", "[norms]") {
  ManyThreads many;
  Random random(902);
  for (int round = 0; round < 60; ++round) {
    NormCase c = random_case(random);
    // Some are worth several threads.
    while (round % 6 == 0 && c.e.size() < 200000) c.e.n *= 2;
    c.x = c.y = c.dx = Layout::nchw;
    INFO(describe(c));
    Inputs in = random_inputs(c, 8000 + static_cast<uint64_t>(round));
    expect(c, in);  // silences the edges of activations
    Outputs one;
    {
      const Threads threads(1);
      one = run(c, in);
    }
    for (const int32_t count : {2, 3, 7})
      same_bits(one, many.with(count, [&] { return run(c, in); }),
                "threads " + std::to_string(count));
    for (const Layout layout : all_layouts) {
      c.x = c.y = c.dx = layout;
      same_bits(one, run(c, in), name_of(layout));
    }
  }
}

// Catches: sums of one channel that are not exact, because its gradients are tiny, in the sums of
// its set, where a large weight makes them count. More than 512 elements: summed in float.
TEST_CASE("norms: a channel of tiny gradients and a large weight", "[norms]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_BF16}) {
    NormCase c = case_of({2, 4, 24, 25}, BN2D_NORM_GROUP, 2);
    c.data = c.module = dtype;
    c.affine = true;
    Inputs in = random_inputs(c, 77);
    const int tiny = dtype == BN2D_F64 ? -1060 : -138, large = dtype == BN2D_F64 ? 900 : 90;
    for (int64_t i = 0; i < c.e.size(); ++i) {
      const bool is_first = i / c.e.plane() % c.e.c == 0;
      double &dy = in.dy[static_cast<size_t>(i)];
      dy = rounded(dtype, std::ldexp(dy, is_first ? tiny : tiny + large));
    }
    in.weight[0] = rounded(dtype, std::ldexp(in.weight[0], large));
    const ExpectedNorm want = expect(c, in);
    Outputs got = run(c, in);
    for (const char *name : {"ddy", "dx2", "dweight2"}) got.erase(name);
    check_case(c, want, got, "tiny gradients: ");
  }
}

// Catches: a channel whose own numbers are ordinary, of a set in which the products of two others
// pass beyond double and cancel: its dx would be NaN.
TEST_CASE("norms: products of other channels that cancel beyond double", "[norms][range]") {
  constexpr int64_t c = 3;
  const double large = 0x1p520, nearly_one = 1 - 0x1p-20;
  const std::vector<double> x = {1, -1, 1, -1, 2, -2}, weight = {large, large, 1},
                            dy = {large, -large, -large, large, 1, nearly_one};
  const double mean = 0, invstd = 1;
  std::vector<double> dx(x.size()), dweight(c), dbias(c);
  REQUIRE(bn2d_group_norm_backward_flat(BN2D_F64, BN2D_NCHW, 1, c, 1, 2, x.data(), dy.data(),
                                        nullptr, nullptr, 1, BN2D_F64, c, weight.data(), &mean,
                                        &invstd, BN2D_ACT_NONE, 0, 0, dx.data(), nullptr,
                                        dweight.data(), dbias.data()) == BN2D_OK);
  // g - mean(g) - xhat*mean(g*xhat), where the second mean is close to 0.
  CHECK(dx[4] == Approx(1 - (1 + nearly_one) / 6));
  CHECK(dx[5] == Approx(nearly_one - (1 + nearly_one) / 6));
  CHECK(dweight == std::vector<double>{2 * large, -2 * large, 2 - 2 * nearly_one});
}

// Catches: gradients of parameters that are summed in float because a set has 512 elements or more.
// A channel has 98 here, and 2^24 + 1 - 2^24 is 1 in double alone.
TEST_CASE("norms: gradients of small channels in large sets", "[norms]") {
  constexpr int64_t n = 2, c = 32, plane = 49, groups = 2;
  std::vector<float> x(n * c * plane, 1), dy(x.size()), dweight(c), dbias(c);
  const std::vector<double> mean(n * groups), invstd(n * groups, 1.0);
  for (int64_t i = 0; i < c; ++i) {
    dy[i * plane] = 0x1p24f;
    dy[i * plane + 16] = 1;  // the same lane, one row later
    dy[(c + i) * plane] = -0x1p24f;
  }
  REQUIRE(bn2d_group_norm_backward_flat(BN2D_F32, BN2D_NCHW, n, c, 7, 7, x.data(), dy.data(),
                                        nullptr, nullptr, groups, BN2D_F32, c, nullptr, mean.data(),
                                        invstd.data(), BN2D_ACT_NONE, 0, 0, nullptr, nullptr,
                                        dweight.data(), dbias.data()) == BN2D_OK);
  CHECK(dbias == std::vector<float>(c, 1));
  CHECK(dweight == std::vector<float>(c, 1));
}

// Catches: the low parts of sums over the samples that are lost, as in 2^60 + 1 - 2^60; and sums
// that pass beyond double on their way, which gave an infinite dbias and a dweight of NaN.
TEST_CASE("norms: gradients of parameters whose samples cancel", "[norms][range]") {
  constexpr int64_t n = 3, c = 5, plane = 4;
  struct Samples {
    double dy[n], sum;
  };
  for (const Samples &samples :
       {Samples{{0x1p58, 0.25, -0x1p58}, 0.25}, Samples{{0x1p1022, 0x1p1022, -0x1p1022}, 0x1p1022},
        Samples{{-0x1p1022, -0x1p1022, 0}, -0x1p1023}}) {
    std::vector<double> x(n * c * plane), dy(x.size()), dweight(c), dbias(c), mean(n * c),
        invstd(n * c, 1.0);
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = i % plane < 2 ? 1 : -1;
      dy[i] = samples.dy[i / (c * plane)] * (i % plane < 2 ? 1 : 0.5);
    }
    REQUIRE(bn2d_group_norm_backward_flat(BN2D_F64, BN2D_NCHW, n, c, 2, 2, x.data(), dy.data(),
                                          nullptr, nullptr, c, BN2D_F64, c, nullptr, mean.data(),
                                          invstd.data(), BN2D_ACT_NONE, 0, 0, nullptr, nullptr,
                                          dweight.data(), dbias.data()) == BN2D_OK);
    CHECK(dbias == std::vector<double>(c, 3 * samples.sum));  // the last one is not finite
    CHECK(dweight == std::vector<double>(c, samples.sum));
  }
}

// Large tensors are cut into blocks, groups and three phases. Catches: a set that is put together
// wrongly there.
TEST_CASE("norms: large sets in several blocks", "[norms]") {
  Random random(903);
  for (const Extents e : {Extents{2, 8, 130, 131}, Extents{1, 320, 30, 31}, Extents{2, 260, 28, 28},
                          Extents{3, 2, 200, 90}})
    for (const int64_t groups : {int64_t{1}, int64_t{2}, e.c / 2, e.c})
      for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
        if (kIsSanitized && (groups == 2) != (layout == Layout::nhwc)) continue;
        NormCase c = case_of(e, BN2D_NORM_GROUP, groups);
        c.x = c.y = c.dx = layout;
        c.data = c.module = random.below(4) == 0 ? BN2D_F64 : BN2D_F32;
        INFO(describe(c));
        Inputs in = random_inputs(c, random.below(1000));
        const ExpectedNorm want = expect(c, in);
        check_case(c, want, run(c, in), "large sets: ");
      }
}

// Catches: two ways to the same mathematics that differ.
TEST_CASE("norms: one idea, the same bits", "[norms]") {
  Random random(904);
  for (int round = 0; round < 40; ++round) {
    NormCase c = random_case(random);
    c.stateless = false;
    c.track = false;
    if (c.e.plane() == 1) continue;
    Inputs in = random_inputs(c, 9000 + static_cast<uint64_t>(round));
    c.norm = BN2D_NORM_INSTANCE;
    expect(c, in);
    const Outputs instance = run(c, in);
    NormCase group = c;
    group.norm = BN2D_NORM_GROUP;
    group.groups = c.e.c;
    same_bits(instance, run(group, in), "a group of each channel: " + describe(c));
    NormCase ghost = c;
    ghost.norm = BN2D_NORM_BATCH;
    ghost.ghost = 1;
    same_bits(instance, run(ghost, in), "ghost batches of one sample: " + describe(c));
    group.groups = group.e.c % 2 == 0 ? group.e.c / 2 : 1;
    Inputs again = random_inputs(group, 9100 + static_cast<uint64_t>(round));
    expect(group, again);
    const Outputs with_module = run(group, again);
    group.stateless = true;
    if (group.affine && group.data != BN2D_F64)
      same_bits(with_module, run(group, again), "stateless: " + describe(group));
  }
}

// Catches: running statistics or a counter that ghost batches move in another way than a loop over
// them.
TEST_CASE("norms: ghost batches are a loop over parts of the batch", "[norms]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64})
    for (const bool cumulative : {false, true})
      for (const int64_t size : {int64_t{2}, int64_t{3}, int64_t{4}, int64_t{7}, int64_t{20}}) {
        NormCase c = case_of({7, 5, 4, 3}, BN2D_NORM_BATCH);
        c.ghost = size;
        c.data = c.module = dtype;
        c.cumulative = cumulative;
        INFO(describe(c));
        Inputs in = random_inputs(c, 11);
        Tensor x(dtype, c.e, in.x), y(dtype, c.e);
        NormModule ghosts(c, in);
        NUMERICS_OK(bn2d_forward(ghosts, x.view(), y.view(), nullptr));

        c.ghost = 0;
        NormModule plain(c, in);
        Bits bits;
        int64_t parts = 0;
        for (int64_t n = 0; n < c.e.n; n += size, ++parts) {
          const Extents part{std::min(size, c.e.n - n), c.e.c, c.e.h, c.e.w};
          const auto begin = in.x.begin() + static_cast<long>(n * c.e.c * c.e.plane());
          Tensor x_part(dtype, part, Values(begin, begin + static_cast<long>(part.size()))),
              y_part(dtype, part);
          NUMERICS_OK(bn2d_forward(plain, x_part.view(), y_part.view(), nullptr));
          const Bits of_part = y_part.bits();
          bits.insert(bits.end(), of_part.begin(), of_part.end());
        }
        CHECK(first_difference(y.bits(), bits) == -1);
        CHECK(ghosts.counter() == parts);
        CHECK(plain.counter() == parts);
        for (const char *name : {"running_mean", "running_var"})
          CHECK(first_difference(ghosts.output(name, c.e.c).bits, plain.output(name, c.e.c).bits) ==
                -1);
        // Eval mode is that of a batch norm.
        Tensor y_plain(dtype, c.e);
        NUMERICS_OK(bn2d_module_eval(ghosts));
        NUMERICS_OK(bn2d_module_eval(plain));
        NUMERICS_OK(bn2d_forward(ghosts, x.view(), y.view(), nullptr));
        NUMERICS_OK(bn2d_forward(plain, x.view(), y_plain.view(), nullptr));
        CHECK(first_difference(y.bits(), y_plain.bits()) == -1);
      }
}

// PyTorch's GroupNorm(3, 3) of (2, 3, 1, 1) returns noise of 1e-6. Catches: a variance of one value
// that is not 0; in double backward a gradient of dx times 1/std that cancels only but for
// rounding.
TEST_CASE("norms: one value alone gives the bias, and no gradient", "[norms]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
    for (const double eps : {1e-5, 0.0}) {
      NormCase c = case_of({2, 3, 1, 1}, BN2D_NORM_GROUP, 3);
      c.data = c.module = dtype;
      c.eps = eps;
      INFO(describe(c));
      Inputs in = random_inputs(c, 5);
      const Outputs got = run(c, in);
      const Values y = got.at("y").values(), dx = got.at("dx").values(),
                   dweight = got.at("dweight").values(), ddy = got.at("ddy").values(),
                   dx2 = got.at("dx2").values();
      for (size_t i = 0; i < y.size(); ++i) {
        CHECK(y[i] == in.bias[i % 3]);
        CHECK(dx[i] == 0);
        CHECK(ddy[i] == in.ddbias[i % 3]);
        CHECK(dx2[i] == 0);
      }
      for (const double value : dweight) CHECK(value == 0);
    }
}

// Catches: sums and coefficients that leave the range of their type for the channels of one set
// alone.
TEST_CASE("norms: any power of two in front of a sample, weights and gradients", "[norms][range]") {
  Random random(905);
  for (int round = 0; round < 240; ++round) {
    NormCase c = random_case(random);
    if (c.e.size() > 6000) continue;
    c.data = c.module = random.coin() ? BN2D_F32 : BN2D_F64;
    c.norm = BN2D_NORM_GROUP;
    c.stateless = false;
    c.affine = true;
    c.residual = false;
    if (c.activation.kind == Activation::leaky) c.activation = {};
    if (random.coin()) c.eps = 0;
    const int reach = c.data == BN2D_F64 ? 900 : 110;
    const auto power = [&] {
      return std::ldexp(1.0,
                        static_cast<int>(random.below(static_cast<uint64_t>(2 * reach))) - reach);
    };
    Inputs in = random_inputs(c, 12000 + static_cast<uint64_t>(round));
    const auto scale = [&](Values &values, size_t first, size_t count, double factor) {
      for (size_t i = first; i < first + count; ++i)
        values[i] = rounded(c.data, values[i] * factor);
    };
    const auto sample = static_cast<size_t>(c.e.c * c.e.plane());
    for (size_t n = 0; n < static_cast<size_t>(c.e.n); ++n) {
      if (random.below(3) == 0) continue;
      scale(in.x, n * sample, sample, power());
      if (random.coin()) scale(in.dy, n * sample, sample, power());
    }
    for (size_t ch = 0; ch < static_cast<size_t>(c.e.c); ++ch)
      if (random.below(4) == 0) scale(in.weight, ch, 1, power());
    const ExpectedNorm want = expect(c, in);
    Outputs got = run(c, in);
    for (const char *name : {"ddy", "dx2", "dz2", "dweight2", "dbias2", "dweight", "dbias"})
      got.erase(name);
    check_case(c, want, got, "range: ");
  }
}

// Catches: a NaN that reaches another sample, or another group.
TEST_CASE("norms: what is not finite stays in its set", "[norms]") {
  for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
    NormCase c = case_of({3, 8, 5, 5}, BN2D_NORM_GROUP, 4);
    c.x = c.y = c.dx = layout;
    Inputs in = random_inputs(c, 6);
    const Outputs clean = run(c, in);
    in.x[static_cast<size_t>((1 * 8 + 3) * 25 + 7)] =
        std::numeric_limits<double>::quiet_NaN();  // sample 1, group 1
    const Outputs got = run(c, in);
    for (const char *name : {"y", "dx"})
      for (size_t i = 0; i < in.x.size(); ++i) {
        const bool of_set = i / 200 == 1 && i / 25 % 8 / 2 == 1;
        if (of_set) {
          CHECK(std::isnan(got.at(name).values()[i]));
        } else {
          CHECK(got.at(name).bits[i] == clean.at(name).bits[i]);
        }
      }
  }
}

// Catches: statistics of an extreme set that serve the next one, or another part of the channels;
// and such a set measured once for each of its channels, which takes minutes here. Sets of several
// groups of channels, as the kernels see them.
TEST_CASE("norms: extreme samples of many channels", "[norms][range]") {
  for (const Layout layout : {Layout::nchw, Layout::nhwc})
    for (const Extents e : {Extents{4, 300, 2, 2}, Extents{3, 2600, 5, 1}}) {
      NormCase c = case_of(e, BN2D_NORM_GROUP, 1);
      c.data = c.module = BN2D_F64;
      c.x = c.y = c.dx = layout;
      Inputs in = random_inputs(c, 7);
      const auto sample = static_cast<size_t>(e.c * e.plane());
      in.x[sample + 5] = 1e301;
      in.dy[sample + 9] = -1e300;
      in.x[2 * sample + 6] = -1e200;
      if (e.n == 3) {
        const ExpectedNorm want = expect(c, in);
        Outputs got = run(c, in);
        for (const char *name : {"ddy", "dx2", "dz2", "dweight2", "dbias2", "dweight", "dbias"})
          got.erase(name);
        check_case(c, want, got, "many channels: ");
        continue;
      }
      in.x[3 * sample + 7] = std::numeric_limits<double>::quiet_NaN();
      const Outputs all = run(c, in);
      for (size_t n = 0; n < 4; ++n) {
        NormCase one = c;
        one.e.n = 1;
        Inputs alone = in;
        for (Values *values : {&alone.x, &alone.dy}) {
          values->erase(values->begin() + static_cast<std::ptrdiff_t>((n + 1) * sample),
                        values->end());
          values->erase(values->begin(), values->begin() + static_cast<std::ptrdiff_t>(n * sample));
        }
        const Outputs got = run(one, alone);
        for (const char *name : {"y", "dx"})
          CHECK(std::equal(got.at(name).bits.begin(), got.at(name).bits.end(),
                           all.at(name).bits.begin() + static_cast<std::ptrdiff_t>(n * sample)));
      }
    }
}
