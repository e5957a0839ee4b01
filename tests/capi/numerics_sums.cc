// Sums in float, where float is not enough: what these tests see is that such channels are found,
// and summed in double. All channels have 512 elements or more; fewer (in backward fewer than 128)
// are summed in double from the start.
#include <cmath>

#include "support/numerics_case.h"
#include "support/worst.h"

namespace {

using namespace numerics;

// value(k) for element k of each channel.
template <class F>
Values each_channel(const Extents &e, int32_t dtype, F value) {
  Values x(static_cast<size_t>(e.size()));
  for (int64_t c = 0; c < e.c; ++c) {
    int64_t k = 0;
    oracle::for_channel(e, c,
                        [&](int64_t i) { x[static_cast<size_t>(i)] = rounded(dtype, value(k++)); });
  }
  return x;
}

void check(const Case &c, Inputs in, const std::string &group = "sums: ") {
  for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::padded_rows}) {
    Case other = c;
    other.x = other.y = other.dx = layout;
    const Expected want = expect(other, in);
    INFO(describe(other));
    check_case(other, want, run(other, in), group);
  }
}

constexpr Extents kOneBlock{1, 3, 64, 20}, kSomeBlocks{3, 3, 120, 130};

// Which elements of a channel of one block the pivot is the median of.
int64_t pivot_place(const Extents &e, int64_t i) {
  const auto part = [&](int64_t extent) { return extent * (4 * i + 3) / 13; };
  return part(e.n) * e.plane() + part(e.plane());
}

}  // namespace

// Catches: float sums around an outlier, whose squares cancel. Two of the three elements that a
// pivot is taken from are the same outlier, so that it is their median.
TEST_CASE("sums: a pivot that is an outlier", "[numerics][sums]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_BF16}) {
    for (const double outlier : {1e3, -1e6, 1e18}) {
      Case c = stateless_case(kOneBlock, dtype);
      Inputs in = random_inputs(c, 91);
      Random random(92);
      const int64_t first = pivot_place(c.e, 0), second = pivot_place(c.e, 1);
      in.x = each_channel(c.e, dtype, [&](int64_t k) {
        return k == first || k == second ? outlier : random.normal();
      });
      INFO("outlier " << outlier);
      check(c, in, "outlier: ");
    }
  }
}

// Catches: squares that overflow or vanish in float, or have lost most of their bits, and are taken
// for sums.
TEST_CASE("sums: squares beyond both ends of the range of float", "[numerics][sums]") {
  for (const Extents &e : {kOneBlock, kSomeBlocks}) {
    for (const int power : {-75, -73, -70, -66, -60, -45, 58, 62, 64, 90}) {
      for (const double mean : {0.0, 3.0}) {
        Case c = stateless_case(e, BN2D_F32, 0);
        Inputs in = random_inputs(c, 93);
        Random random(94);
        in.x = each_channel(e, BN2D_F32,
                            [&](int64_t) { return std::ldexp(mean + random.normal(), power); });
        const Expected want = expect(c, in);
        Outputs got = run(c, in);
        for (const char *name : {"ddy", "dx2", "dweight2", "running_var"})
          got.erase(name);  // beyond the range of float
        INFO("2^" << power << ", mean " << mean << ", " << describe(c));
        check_case(c, want, got, "sums: ");
      }
    }
  }
}

// Catches: sums of 0 for those of equal elements. Here each element has its negative, the pivot is
// 0, and all squares vanish; only an eps of an ordinary size makes that the same.
TEST_CASE("sums: squares of tiny numbers beside a smaller eps", "[numerics][sums]") {
  for (const Extents &e : {kOneBlock, Extents{2, 2, 128, 128}}) {
    for (const bool half :
         {false, true}) {  // the second half of each channel, and so of its blocks, is 0
      for (const double eps : {0.0, 1e-200, 1e-60, 1e-48, 1e-30}) {
        Case c = stateless_case(e, BN2D_F32, eps);
        Inputs in = random_inputs(c, 95);
        const int64_t end = e.per_channel() / (half ? 2 : 1);
        in.x = each_channel(e, BN2D_F32, [&](int64_t k) {
          return k >= end ? 0 : k % 4 == 1 ? 0x1p-80 : k % 4 == 2 ? -0x1p-80 : 0;
        });
        const Expected want = expect(c, in);
        Outputs got = run(c, in);
        for (const char *name : {"ddy", "dx2", "dweight2"}) got.erase(name);
        INFO("eps " << eps << ", half " << half << ", " << describe(c));
        check_case(c, want, got, "sums: ");
      }
    }
  }
}

// Catches: the sums around 0, the pivot where float has overflowed, as the last word: 3e38 is so
// far from 0 that a double has no bit left for the squares of deviations.
TEST_CASE("sums: a mean near the largest float", "[numerics][sums]") {
  for (const Extents &e : {kOneBlock, kSomeBlocks}) {
    Case c = stateless_case(e, BN2D_F32, 0);
    c.record = false;
    Inputs in = random_inputs(c, 96);
    in.x = each_channel(e, BN2D_F32,
                        [&](int64_t k) { return 0x1.8p127 + (k % 3 == 0 ? 0x1p104 : -0x1p105); });
    const Expected want = expect(c, in);
    Outputs got = run(c, in);
    INFO(describe(c));
    got.erase("running_var");
    check_case(c, want, got, "sums: ");
  }
}

// Catches: gradients around the mean as a float, which here is half a deviation away from it.
TEST_CASE("sums: gradients around a mean that no float holds", "[numerics][sums]") {
  for (const Extents &e : {kOneBlock, kSomeBlocks}) {
    for (const double mean : {1.6e7, -1e7}) {
      Case c = stateless_case(e, BN2D_F32);
      Inputs in = random_inputs(c, 97);
      Random random(98);
      in.x = each_channel(e, BN2D_F32,
                          [&](int64_t) { return mean + 0.5 + std::floor(2 * random.normal()); });
      check(c, in);
    }
  }
}

// Catches: products of gradients and deviations that vanish in float, or have lost most of their
// bits, or overflow.
TEST_CASE("sums: products of gradients beyond both ends of the range of float",
          "[numerics][sums]") {
  for (const Extents &e : {kOneBlock, kSomeBlocks}) {
    for (const int of_x : {-90, -66, -30, 0, 30, 60}) {
      for (const int of_product : {-153, -145, -140, -132, -126, -110, 100, 124, 130}) {
        const int of_dy = of_product - of_x;
        if (of_dy < -110 || of_dy > 100) continue;
        Case c = stateless_case(e, BN2D_F32, 0);
        Inputs in = random_inputs(c, 99);
        Random random(100);
        in.x =
            each_channel(e, BN2D_F32, [&](int64_t) { return std::ldexp(random.normal(), of_x); });
        in.dy = each_channel(e, BN2D_F32,
                             [&](int64_t) { return std::ldexp(0.25 + random.normal(), of_dy); });
        // weight/std of about 1
        for (double &weight : in.weight) weight = std::ldexp(weight, of_x);
        in.bias.assign(in.bias.size(), 0.0);
        const Expected want = expect(c, in);
        Outputs got = run(c, in);
        for (const char *name : {"ddy", "dx2", "dweight2", "running_var"}) got.erase(name);
        INFO("x 2^" << of_x << ", dy 2^" << of_dy << ", " << describe(c));
        check_case(c, want, got, "sums: ");
      }
    }
  }
}

// Catches: a small pivot that each difference loses, always in the same direction. x is 1.5 or
// -1.5, but for three numbers: those that the pivot is taken from, a small one between two of the
// others, and its negative elsewhere.
TEST_CASE("sums: a small pivot does not move the mean", "[numerics][sums]") {
  const Case c = stateless_case(kOneBlock, BN2D_F32);
  Inputs in = random_inputs(c, 101);
  const int64_t first = pivot_place(c.e, 0), second = pivot_place(c.e, 1),
                third = pivot_place(c.e, 2);
  const double small = 0x1p-24 - 0x1p-34;
  in.x = each_channel(c.e, BN2D_F32, [&](int64_t k) {
    if (k == first || k == first + 1) return k == first ? small : -small;
    return k == second || (k != third && k % 2 == 0) ? 1.5 : -1.5;
  });
  const Expected want = expect(c, in);
  const Outputs got = run(c, in);
  const Values mean = got.at("saved_mean").values();
  for (size_t ch = 0; ch < mean.size(); ++ch)
    CHECK(std::fabs(mean[ch] - static_cast<double>(want.statistics.mean[ch])) < 0x1p-30);
}

// Catches: a slope that is rounded to float before it meets the gradients: half an ulp of each of
// them, always in the same direction. The roundings of the products average out.
TEST_CASE("sums: a slope that is no float", "[numerics][sums]") {
  const double slope = 0x1.4CCCCCp-1 + 0x1p-25 - 0x1p-40;  // almost half way between two floats
  Case c = stateless_case({1, 16, 256, 256}, BN2D_F32);
  c.activation = {Activation::leaky, slope};
  c.mode = Mode::eval;
  Inputs in = random_inputs(c, 102);
  Random random(103);
  in.x.assign(in.x.size(), -1.0);
  in.running_mean.assign(in.running_mean.size(), 0.0);
  in.weight.assign(in.weight.size(), 1.0);
  in.bias.assign(in.bias.size(), -1.0);
  in.dy = each_channel(c.e, BN2D_F32, [&](int64_t) { return random.uniform(1, 2); });
  const Expected want = expect(c, in);
  const Values got = run(c, in).at("dbias").values();
  for (size_t ch = 0; ch < got.size(); ++ch) {
    const Real exact = want.gradient.dbias[ch];
    INFO("channel " << ch << ": " << got[ch] << ", exactly " << static_cast<double>(exact));
    CHECK(std::fabs(got[ch] - exact) <= 0.55L * oracle::ulp(oracle::binary32, exact));
  }
}

// Catches: sums of doubles around 0, of whose squares nothing is left, not even in pairs of
// doubles.
TEST_CASE("sums: doubles a million billion deviations from 0", "[numerics][sums]") {
  for (const Extents &e : {Extents{2, 3, 4, 5}, kOneBlock, kSomeBlocks}) {
    Case c = stateless_case(e, BN2D_F64);
    c.record = false;
    Inputs in = random_inputs(c, 104);
    Random random(105);
    in.x = each_channel(e, BN2D_F64,
                        [&](int64_t) { return 0x1p52 + std::floor(4 * random.normal()); });
    check(c, in);
  }
}

// Catches: a pivot from the same position of several samples. Here the samples are equal and their
// corner is 2.5 deviations away from the mean, as corners of padded images are; what the sums lose
// is the same in each sample then.
TEST_CASE("sums: samples that are equal, with an outlier in a corner", "[numerics][sums]") {
  for (const int64_t samples : {8, 24}) {
    const Extents e{samples, 64, 16, 8};
    Case c = stateless_case(e, BN2D_F32);
    c.record = false;
    Inputs in = random_inputs(c, 106);
    Random random(107);
    in.x = normal_values(random, BN2D_F32, e.size());
    for (int64_t i = 0; i < e.c; ++i) in.x[static_cast<size_t>(i * e.plane())] = 2.5;
    const auto sample = static_cast<size_t>(e.c * e.plane());
    for (size_t i = sample; i < in.x.size(); ++i) in.x[i] = in.x[i - sample];
    const oracle::Statistics want = expect(c, in).statistics;
    const Values mean = run(c, in).at("saved_mean").values();
    Real worst = 0;  // in deviations
    for (size_t i = 0; i < mean.size(); ++i)
      worst = bn2d_test::worse(worst, std::fabs(mean[i] - want.mean[i]) / want.deviation[i]);
    INFO(samples << " samples, " << std::ldexp(static_cast<double>(worst), 24));
    CHECK(worst < 0x1p-24L);  // 1.4 of these from corners, 0.7 from other places
  }
}
