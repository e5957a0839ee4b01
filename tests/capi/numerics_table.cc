// Everything with everything: a seeded sample of the product of all axes, forward, backward and
// double backward of each against the oracle. 12 axes; the sample is large enough that every pair
// of values of two axes occurs (asserted).
#include <set>

#include "support/numerics_case.h"

namespace {

using namespace numerics;

struct Axes {
  const std::vector<std::pair<int64_t, int64_t>> planes = {
      {1, 1}, {2, 2}, {7, 7}, {14, 14}, {5, 9}, {1, 64}, {64, 1}, {61, 67}, {1, 4101}};
  const std::vector<int64_t> batches = {1, 2, 5, 32}, channels = {1, 3, 8, 17, 64};
  const std::vector<Activation> activations = {
      no_activation, relu, Activation{Activation::leaky, 0.1}, Activation{Activation::leaky, -0.5}};
};

// The choice on every axis as a number, so that pairs can be counted.
struct Choice {
  std::vector<int> axes;
  int of(Random &random, int count) {
    axes.push_back(static_cast<int>(random.below(count)));
    return axes.back();
  }
};

bool sample(Random &random, Choice &choice, Case &c, int64_t largest) {
  static const Axes a;
  std::tie(c.data, c.module) = dtype_pairs[choice.of(random, std::size(dtype_pairs))];
  std::tie(c.e.h, c.e.w) = a.planes[choice.of(random, static_cast<int>(a.planes.size()))];
  c.e.n = a.batches[choice.of(random, 4)];
  c.e.c = a.channels[choice.of(random, 5)];
  c.mode = static_cast<Mode>(choice.of(random, 3));
  c.affine = static_cast<Affine>(choice.of(random, 3));
  c.activation = a.activations[choice.of(random, 4)];
  c.residual = choice.of(random, 2) != 0;
  c.in_place = static_cast<InPlace>(choice.of(random, 3));
  c.gradient_in_place = static_cast<GradientInPlace>(choice.of(random, 3));
  c.x = static_cast<Layout>(choice.of(random, std::size(all_layouts)));
  c.y = static_cast<Layout>(choice.of(random, std::size(all_layouts)));
  c.z = static_cast<Layout>(random.below(layouts_of_rank_4));
  c.dx = static_cast<Layout>(random.below(layouts_of_rank_4));
  c.dz = static_cast<Layout>(random.below(layouts_of_rank_4));
  c.stateless = random.coin();
  c.mask = random.coin();
  c.plain = random.coin();
  c.biased = random.below(4) == 0;
  c.placement = random.coin() ? random.bits() | 1 : 0;
  if (random.below(3) == 0) c.y = c.z = c.dx = c.dz = c.x;  // the common case: all alike
  return c.e.size() <= largest && (c.e.per_channel() > 1 || !c.batch());
}

}  // namespace

// Catches: a combination of options, layouts and shapes that takes a path of its own and is wrong
// there.
TEST_CASE("table: dtype x layouts x mode x affine x activation x residual x in-place x shape",
          "[numerics][table]") {
  Random random(20240229);
  int failures = 0, cases = 0;
  std::set<std::tuple<size_t, int, size_t, int>> pairs;
  while (cases < 3600) {
    Case c;
    Choice choice;
    // Most cases are small; one in 40 may have 400,000 elements.
    if (!sample(random, choice, c, cases % 40 == 0 ? 400000 : 8000)) continue;
    ++cases;
    for (size_t i = 0; i < choice.axes.size(); ++i) {
      for (size_t j = 0; j < i; ++j) pairs.insert({i, choice.axes[i], j, choice.axes[j]});
    }
    Inputs in = random_inputs(c, random.bits());
    const Expected want = expect(c, in);
    INFO("case " << cases << ": " << describe(c));
    if (!check_case(c, want, run(c, in)) && ++failures == 20) FAIL("20 cases have failed; enough");
  }
  // Pairs of two extents of the shape may exceed the size; all others must be there.
  std::string missing;
  const int counts[] = {6,
                        9,
                        4,
                        5,
                        3,
                        3,
                        4,
                        2,
                        3,
                        3,
                        static_cast<int>(std::size(all_layouts)),
                        static_cast<int>(std::size(all_layouts))};
  for (size_t i = 0; i < 12; ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (j >= 1 && i <= 3) continue;
      for (int a = 0; a < counts[i]; ++a) {
        for (int b = 0; b < counts[j]; ++b) {
          if (pairs.count({i, a, j, b}) == 0) {
            missing += " (" + std::to_string(i) + "=" + std::to_string(a) + ", " +
                       std::to_string(j) + "=" + std::to_string(b) + ")";
          }
        }
      }
    }
  }
  INFO("pairs of axis values without a case:" << missing);
  CHECK(missing == "");
}
