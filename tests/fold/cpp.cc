// fold.hpp, and scale and shift in bn2d.hpp.
#include <bn2d/fold.hpp>
#include <cmath>
#include <vector>

#include "support/catch.h"

TEST_CASE("fold.hpp: into both sides, and scale and shift", "[fold]") {
  // Catches arguments in another order, and a bias that has to have a type where there is none.
  bn2d::Module bn(2);
  bn.running_mean()[0] = 1;
  bn.running_var()[1] = 4;
  bn.bias()[1] = 3;
  std::vector<double> scale(2), shift(2), wide(3);
  bn.scale_shift(scale, shift);
  CHECK(std::fabs(scale[1] - 1 / std::sqrt(4 + 1e-5)) < 1e-15);
  CHECK(shift[1] == 3);
  CHECK(std::fabs(shift[0] + scale[0]) < 1e-15);
  CHECK_THROWS_AS(bn.scale_shift(wide, shift), bn2d::Error);
  std::vector<double> alone(2);
  bn.scale_shift(alone);
  CHECK(alone == scale);

  std::vector<float> weight = {1, 2, 3, 4};
  std::vector<double> out(4), bias(2);
  const bn2d::Layer linear{bn2d::LayerKind::linear, 2, 2};
  const bn2d::Folded cost =
      bn2d::fold_into_previous(bn, linear, weight.data(), nullptr, out.data(), bias.data());
  CHECK(std::fabs(out[2] - 3 * scale[1]) < 1e-15);
  CHECK(bias[1] == 3);
  CHECK(std::fabs(cost.change - (1 - scale[1])) < 1e-12);
  CHECK(cost.rounding < 1e-15);
  bn2d::fold_into_next(bn, linear, false, weight.data(), nullptr, out.data(), bias.data());
  CHECK(std::fabs(out[2] - 3 * scale[0]) < 1e-15);
  CHECK(std::fabs(bias[1] - (3 * shift[0] + 4 * shift[1])) < 1e-14);
  CHECK_THROWS_AS(
      bn2d::fold_into_next(bn, linear, true, weight.data(), nullptr, out.data(), bias.data()),
      bn2d::Error);
}
