// Group norm of small planes and many samples, which goes through them in rounds
// (ops/rounds.h).
#include <cmath>

#include "support/many_threads.h"
#include "support/norms_case.h"
#include "support/rounds.h"

namespace {

using namespace numerics;

constexpr int64_t kChannels = 512, kGroups = 32, kSamples = 700, kAtOnce = 63;
constexpr Extents kWhole = {kSamples, kChannels, 2,
                            2};  // 5.6 MB of floats, the last round is smaller

struct Results {
  std::vector<uint64_t> y, dx;
  std::vector<double> mean, invstd;
  std::vector<float> dweight, dbias;
};

struct Scene {
  int32_t dtype;
  Layout layout;
  Values x, dy;
  std::vector<float> weight, bias;
  double eps = 1e-5;
  bool in_place = false;

  Results run(int64_t first, int64_t count) const {
    const Extents e = {count, kChannels, 2, 2};
    const auto some = [&](const Values &all) {
      const auto sample = static_cast<std::ptrdiff_t>(kWhole.size() / kSamples);
      return Tensor(dtype, e,
                    Values(all.begin() + first * sample, all.begin() + (first + count) * sample),
                    layout);
    };
    Tensor in = some(x), gradient = some(dy), y(dtype, e, layout), dx(dtype, e, layout);
    Results out;
    out.mean.resize(static_cast<size_t>(count * kGroups));
    out.invstd = out.mean;
    out.dweight.resize(static_cast<size_t>(kChannels));
    out.dbias = out.dweight;
    Tensor own = some(x);
    Tensor &to = in_place ? own : y;
    REQUIRE(bn2d_group_norm_forward((in_place ? own : in).view(), nullptr, to.view(), kGroups,
                                    BN2D_F32, weight.data(), bias.data(), eps, BN2D_ACT_NONE, 0,
                                    nullptr, out.mean.data(), out.invstd.data()) == BN2D_OK);
    out.y = to.bits();
    Tensor &to_dx = in_place ? gradient : dx;
    REQUIRE(bn2d_group_norm_backward(in.view(), gradient.view(), nullptr, nullptr, kGroups,
                                     BN2D_F32, weight.data(), out.mean.data(), out.invstd.data(),
                                     BN2D_ACT_NONE, 0, 0, to_dx.view(), nullptr, out.dweight.data(),
                                     out.dbias.data()) == BN2D_OK);
    out.dx = to_dx.bits();
    return out;
  }
};

Scene scene_of(int32_t dtype, Layout layout, uint64_t seed) {
  NormCase c = case_of(kWhole, BN2D_NORM_GROUP, kGroups);
  c.data = dtype;
  const Inputs in = random_inputs(c, seed);
  Scene scene = {dtype, layout, in.x, in.dy, {}, {}};
  scene.weight.assign(in.weight.begin(), in.weight.end());
  scene.bias.assign(in.bias.begin(), in.bias.end());
  return scene;
}

// Samples have their statistics for themselves: calls of so few that they are one round are to give
// the same.
void check_parts(const Scene &scene, const Results &whole, bool has_sums) {
  std::vector<double> dweight(static_cast<size_t>(kChannels)), size = dweight;
  for (int64_t first = 0; first < kSamples; first += kAtOnce) {
    const Results part = scene.run(first, std::min(kAtOnce, kSamples - first));
    const auto is_part = [&](const auto &some, const auto &all) {
      const auto begin = all.begin() + first * static_cast<int64_t>(all.size()) / kSamples;
      return std::equal(some.begin(), some.end(), begin);
    };
    INFO("samples from " << first << " on");
    CHECK(is_part(part.y, whole.y));
    CHECK(is_part(part.dx, whole.dx));
    CHECK(is_part(part.mean, whole.mean));
    CHECK(is_part(part.invstd, whole.invstd));
    for (size_t c = 0; c < dweight.size(); ++c) {
      dweight[c] += static_cast<double>(part.dweight[c]);
      size[c] += std::fabs(static_cast<double>(part.dweight[c]));
    }
  }
  int wrong = 0;
  for (size_t c = 0; has_sums && c < dweight.size(); ++c)
    wrong += !(std::fabs(dweight[c] - static_cast<double>(whole.dweight[c])) <= 1e-6 * size[c]);
  CHECK(wrong == 0);
}

}  // namespace

// Catches: samples of a round that are taken from another, or written to another; a last round that
// is as large as the others; gradients of parameters without those of a round.
TEST_CASE("norms in rounds: samples are what they are alone", "[norms]") {
  ManyThreads many;
  uint64_t seed = 900;
  for (const int32_t dtype : {BN2D_F32, BN2D_BF16})
    for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
      Scene scene = scene_of(dtype, layout, ++seed);
      INFO(name_of(dtype, dtype) << " " << name_of(layout));
      const Results whole = scene.run(0, kSamples);
      check_parts(scene, whole, true);
      for (const int threads : {1, 3})
        for (const bool in_place : {false, true}) {
          scene.in_place = in_place;
          const Results other = many.with(threads, [&] { return scene.run(0, kSamples); });
          CHECK(other.y == whole.y);
          CHECK(other.dx == whole.dx);
          CHECK(other.mean == whole.mean);
          CHECK(other.dweight == whole.dweight);
        }
    }
}

// Catches: a sample that is computed plane by plane and ends in another place, or has the
// statistics of another.
TEST_CASE("norms in rounds: numbers beyond the range on the way", "[norms][range]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_BF16})
    for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
      Scene scene = scene_of(dtype, layout, 77);
      scene.eps = 0;
      INFO(name_of(dtype, dtype) << " " << name_of(layout));
      for (size_t c = 0; c < 16; ++c) scene.weight[c] = std::ldexp(scene.weight[c], -70);
      scene.weight[300] = 0x1p70F;
      const auto size = static_cast<size_t>(kWhole.size() / kSamples);
      for (const size_t sample : {size_t{0}, size_t{300}, size_t{699}})
        for (size_t i = sample * size; i < (sample + 1) * size; ++i) {
          scene.x[i] = rounded(dtype, std::ldexp(scene.x[i], 67));
          scene.dy[i] = rounded(dtype, std::ldexp(scene.dy[i], 67));
        }
      const Results whole = scene.run(0, kSamples);
      check_parts(scene, whole, false);
    }
}
