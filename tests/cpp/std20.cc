// What later standards add, compiled as the newest that the compiler knows; beside the files in
// C++17, so that one program has both.
#include "cpp/twin.h"

#if defined(__cpp_lib_span) && defined(__cpp_designated_initializers)
#include <span>
#if defined(__cpp_lib_mdspan)
#include <mdspan>
#endif

using namespace bn2d_test;

static_assert(std::is_constructible_v<bn2d::ConstView, std::span<const float>,
                                      bn2d::Shape>);  // a temporary span
static_assert(!std::is_constructible_v<bn2d::View, std::span<const float>, bn2d::Shape>);
static_assert(!std::is_constructible_v<bn2d::ConstView, std::vector<float>, bn2d::Shape>);
static_assert(std::is_constructible_v<bn2d::ConstChannels, std::span<float>>);

TEST_CASE("cpp std20: options and arguments by their names", "[cpp]") {
  bn2d::Module bn(2, {.eps = 0.5, .momentum = std::nullopt, .dtype = bn2d::DType::f64});
  CHECK(bn.eps() == 0.5);
  CHECK(bn.momentum() == std::nullopt);
  CHECK(bn.dtype() == bn2d::DType::f64);
  CHECK(bn2d::Module(2, {.ghost_batch_size = 8}).ghost_batch_size() == 8);
  CHECK(bn2d::GroupNorm(2, 4, {.eps = 0.5, .affine = false}).eps() == 0.5);
  CHECK(
      bn2d::InstanceNorm2d(4, {.affine = true, .track_running_stats = true}).track_running_stats());

  std::vector<float> x{0, 2, 10, 30}, y(4), weight{1, 2};
  const bn2d::Shape shape{1, 2, 1, 2};
  bn2d::batch_norm_forward(
      {.x = {x, shape}, .y = {y, shape}, .weight = weight, .eps = 0, .activation = bn2d::relu});
  CHECK(y == std::vector<float>{0, 1, 0, 2});
}

TEST_CASE("cpp std20: std::span", "[cpp]") {
  std::vector<float> x{0, 2, 10, 30}, y(4);
  const bn2d::Shape shape{1, 2, 1, 2};
  bn2d::Module bn(2, {.eps = 0});
  const std::span<const float> in(x);
  bn.forward({in, shape}, {std::span(y), shape});
  CHECK(y == std::vector<float>{-1, 1, -1, 1});
  CHECK_THROWS_AS(bn.forward({in.first(3), shape}, {y, shape}), bn2d::Error);
  std::span<float> weight = bn.weight();
  weight[1] = 3;
  CHECK(bn.weight()[1] == 3.0f);
  const std::span<const float> mean = std::as_const(bn).running_mean();
  CHECK(mean[0] == Approx(0.1f));
  const bn2d::Span<const float> back = weight;
  CHECK(back.data() == weight.data());
}

#if defined(__cpp_lib_mdspan)
TEST_CASE("cpp std20: std::mdspan", "[cpp]") {
  std::vector<float> x{0, 2, 10, 30}, y(4);
  bn2d::Module bn(2, {.eps = 0});
  bn.forward(std::mdspan<const float, std::dextents<int, 4>>(x.data(), 1, 2, 1, 2),
             std::mdspan<float, std::extents<int, 1, 2, 1, 2>>(y.data()));
  CHECK(y == std::vector<float>{-1, 1, -1, 1});
}
#endif

#if defined(__STDCPP_BFLOAT16_T__)
TEST_CASE("cpp std20: std::bfloat16_t", "[cpp]") {
  std::vector<std::bfloat16_t> x{0.0bf16, 2.0bf16}, y(2);
  bn2d::Module(1, {.eps = 0}).forward({x, {1, 1, 1, 2}}, {y, {1, 1, 1, 2}});
  CHECK(y[0] == -1.0bf16);
}
#endif

#endif
