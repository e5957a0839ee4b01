// What bn2d.hpp does with the types of C++23, where the compiler has them: prints the names of
// those that it has.
#include <bn2d/bn2d.hpp>
#include <cstdio>
#include <vector>
#if defined(__cpp_lib_mdspan)
#include <mdspan>
#endif

namespace {

int faults = 0;
[[maybe_unused]] void expect(bool holds, const char *what) {
  if (holds) return;
  std::printf("not so: %s\n", what);
  ++faults;
}

#if defined(__cpp_lib_mdspan)
void mdspan() {
  // (1, 2, 1, 2), contiguous and channels last: element (c, w) is 10*c + 2*w.
  const std::vector<float> planes{0, 2, 10, 12}, channels{0, 10, 2, 12};
  std::vector<float> y(4), z(4);
  bn2d::Module bn(2, {.eps = 0});
  using Extents = std::extents<int, 1, 2, 1, 2>;
  bn.forward(std::mdspan<const float, std::dextents<int, 4>>(planes.data(), 1, 2, 1, 2),
             std::mdspan<float, Extents>(y.data()));
  expect(y == std::vector<float>{-1, 1, -1, 1}, "mdspan, layout_right");

  const std::layout_stride::mapping<Extents> last(Extents(), std::array<int, 4>{4, 1, 4, 2});
  bn.forward(std::mdspan<const float, Extents, std::layout_stride>(channels.data(), last),
             std::mdspan<float, Extents, std::layout_stride>(z.data(), last));
  expect(z == std::vector<float>{-1, -1, 1, 1}, "mdspan, layout_stride");

  using ReadOnly = std::mdspan<const float, Extents>;
  static_assert(std::is_constructible_v<bn2d::ConstView, ReadOnly>);
  static_assert(!std::is_constructible_v<bn2d::View, ReadOnly>);
  static_assert(
      !std::is_constructible_v<bn2d::ConstView, std::mdspan<float, std::extents<int, 2, 2>>>);
  std::puts("mdspan");
}
#endif

#if defined(__STDCPP_FLOAT16_T__) || defined(__STDCPP_BFLOAT16_T__)
template <class Half>
void half(const char *name) {
  const std::vector<Half> x{Half(0), Half(2)};
  std::vector<Half> y(2), weight{Half(2)}, bias{Half(1)};
  bn2d::Module(1, {.eps = 0}).forward({x, {1, 1, 1, 2}}, {y, {1, 1, 1, 2}});
  expect(y[0] == Half(-1) && y[1] == Half(1), name);
  bn2d::batch_norm_forward(
      {.x = {x, {1, 1, 1, 2}}, .y = {y, {1, 1, 1, 2}}, .weight = weight, .bias = bias, .eps = 0});
  expect(y[0] == Half(-1) && y[1] == Half(3), name);
  std::puts(name);
}
#endif

}  // namespace

int main() {
#if defined(__cpp_lib_mdspan)
  mdspan();
#endif
#if defined(__STDCPP_FLOAT16_T__)
  half<std::float16_t>("float16_t");
#endif
#if defined(__STDCPP_BFLOAT16_T__)
  half<std::bfloat16_t>("bfloat16_t");
#endif
  return faults;
}
