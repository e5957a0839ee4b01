// Views: what they are made of, and that they say the same to the library.
#include <array>
#include <numeric>

#include "cpp/twin.h"

using namespace bn2d_test;

namespace {

const bn2d::Shape kShape{2, 3, 2, 2};

// What std::mdspan offers; standard libraries of today's distributions lack it.
template <class T>
struct Mdspan {
  static constexpr size_t rank() { return 4; }
  static constexpr bool is_always_strided() { return true; }
  size_t extent(size_t i) const { return extents[i]; }
  size_t stride(size_t i) const { return strides[i]; }
  T *const &data_handle() const { return data; }
  T *data;
  std::array<size_t, 4> extents, strides;
};

struct Half {
  uint16_t bits;
};

// y = bn(x) of channels that hold 0 .. 23.
std::vector<float> expected() {
  std::vector<float> x(24), y(24);
  std::iota(x.begin(), x.end(), 0.0f);
  bn2d_module *bn = nullptr;
  REQUIRE(bn2d_module_create(3, nullptr, &bn) == BN2D_OK);
  REQUIRE(bn2d_forward_f32(bn, x.data(), 2, 2, 2, y.data(), nullptr) == BN2D_OK);
  bn2d_module_release(bn);
  return y;
}

}  // namespace

template <>
struct bn2d::dtype_of<Half> {
  static constexpr auto value = bn2d::DType::f16;
};

TEST_CASE("cpp views: sources", "[cpp]") {
  // Catches a source whose pointer, length or type is taken from elsewhere.
  std::vector<float> vector(24);
  std::iota(vector.begin(), vector.end(), 0.0f);
  std::array<float, 24> array{};
  float plain[24];
  for (size_t i = 0; i < 24; ++i) array[i] = plain[i] = vector[i];
  const std::vector<float> constant = vector;
  const float *const pointer = constant.data();
  for (const bn2d::ConstView &x :
       {bn2d::ConstView(vector, kShape), bn2d::ConstView(array, kShape),
        bn2d::ConstView(plain, kShape), bn2d::ConstView(constant, kShape),
        bn2d::ConstView(pointer, kShape), bn2d::ConstView(bn2d::Span<float>(vector), kShape),
        bn2d::ConstView(static_cast<const void *>(plain), bn2d::DType::f32, kShape),
        bn2d::ConstView(Mdspan<const float>{plain, {2, 3, 2, 2}, {12, 4, 2, 1}})}) {
    CHECK(x);
    CHECK(x.dtype() == bn2d::DType::f32);
    CHECK((x.count() == 24 || x.count() == ~uint64_t{0}));
    std::vector<float> y(24);
    bn2d::Module(3).forward(x, {y, kShape});
    CHECK(y == expected());
  }
  CHECK(bn2d::ConstView(plain, kShape).count() == 24);  // an array knows its length
  CHECK_FALSE(bn2d::ConstView());

  std::vector<Half> halves(24);
  CHECK(bn2d::View(halves, kShape).dtype() == bn2d::DType::f16);
  std::vector<uint16_t> bits(24);
  const bn2d::View brain(bits.data(), bn2d::DType::bf16, kShape);
  CHECK(brain.dtype() == bn2d::DType::bf16);
  CHECK(bn2d::View(static_cast<double *>(nullptr), {0, 3, 2, 2}).dtype() == bn2d::DType::f64);
}

TEST_CASE("cpp views: layouts", "[cpp]") {
  // Catches strides of another order: each view holds the same tensor.
  CHECK(bn2d::ConstView(static_cast<float *>(nullptr), kShape).strides() ==
        bn2d::Strides{12, 4, 2, 1});
  CHECK(bn2d::ConstView(static_cast<float *>(nullptr), kShape, bn2d::channels_last).strides() ==
        bn2d::Strides{12, 1, 6, 3});
  std::vector<float> last(24), wide(96, -1.0f), matrix(24);
  for (size_t n = 0; n < 2; ++n)
    for (size_t c = 0; c < 3; ++c)
      for (size_t h = 0; h < 2; ++h)
        for (size_t w = 0; w < 2; ++w) {
          const float value = static_cast<float>(n * 12 + c * 4 + h * 2 + w);
          last[n * 12 + h * 6 + w * 3 + c] = value;
          wide[n * 48 + c * 16 + h * 4 + w * 2] = value;
          matrix[w * 12 + h * 6 + c * 2 + n] = value;  // column-major
        }
  const bn2d::Strides strides{48, 16, 4, 2};
  for (const bn2d::ConstView &x :
       {bn2d::ConstView(last, kShape, bn2d::channels_last), bn2d::ConstView(wide, kShape, strides),
        bn2d::ConstView(Mdspan<float>{matrix.data(), {2, 3, 2, 2}, {1, 2, 6, 12}})}) {
    std::vector<float> y(24);
    bn2d::Module(3).forward(x, {y, kShape});
    CHECK(y == expected());
  }
  // Written with strides: what lies between is left alone.
  std::vector<float> x(24), y(96, -1.0f);
  std::iota(x.begin(), x.end(), 0.0f);
  bn2d::Module(3).forward({x, kShape}, {y, kShape, strides});
  size_t untouched = 0;
  for (const float value : y) untouched += value == -1.0f;
  CHECK(untouched == 72);
  CHECK(y[48 + 16 + 4 + 2] == expected()[12 + 4 + 2 + 1]);
  Mdspan<float> target{last.data(), {2, 3, 2, 2}, {12, 1, 6, 3}};
  bn2d::Module(3).forward({x, kShape}, target);
  CHECK(last[12 + 6 + 3 + 1] == expected()[12 + 4 + 2 + 1]);
}

TEST_CASE("cpp views: in place and empty", "[cpp]") {
  std::vector<float> x(24);
  std::iota(x.begin(), x.end(), 0.0f);
  bn2d::Module(3).forward({x, kShape}, {x, kShape});
  CHECK(x == expected());
  std::vector<float> empty;
  bn2d::Module bn(3);
  bn.forward({empty, {0, 3, 2, 2}}, {empty, {0, 3, 2, 2}});
  CHECK(bn.num_batches_tracked() == 1);
}

TEST_CASE("cpp views: spans", "[cpp]") {
  double numbers[3] = {1, 2, 3};
  const bn2d::Span<double> span = numbers;
  const bn2d::Span<const double> constant = span;
  CHECK(constant.data() == numbers);
  CHECK(constant.size() == 3);
  double sum = 0;
  for (const double number : constant) sum += number;
  CHECK(sum == 6);
  CHECK_FALSE(constant.empty());
  CHECK(bn2d::Span<int>().empty());
  span[1] = 5;
  CHECK(numbers[1] == 5);
}

TEST_CASE("cpp views: blocks of channels", "[cpp]") {
  // Catches blocks that are told as something else, and channels that fill no block.
  const bn2d::Shape shape{2, 32, 3, 5};
  std::vector<float> plain(2 * 32 * 15), y(plain.size());
  std::iota(plain.begin(), plain.end(), 0.0f);
  bn2d::Module bn(32);
  bn.forward({plain, shape}, {y, shape});
  for (const int64_t block : {8, 16}) {
    const auto place = [&](int64_t n, int64_t c, int64_t p) {
      return static_cast<size_t>(((n * 32 + c / block * block) * 15) + p * block + c % block);
    };
    std::vector<float> x(plain.size()), got(plain.size()), expected(plain.size());
    for (int64_t n = 0; n < 2; ++n)
      for (int64_t c = 0; c < 32; ++c)
        for (int64_t p = 0; p < 15; ++p) {
          const auto from = static_cast<size_t>((n * 32 + c) * 15 + p);
          x[place(n, c, p)] = plain[from];
          expected[place(n, c, p)] = y[from];
        }
    const bn2d::Layout layout = block == 8 ? bn2d::nchw8c : bn2d::nchw16c;
    bn.forward({x, shape, layout}, {got, shape, layout});
    CHECK(got == expected);
    const auto error = error_of([&] {
      bn2d::Module(20).forward({x, {2, 20, 3, 5}, layout}, {got, {2, 20, 3, 5}, layout});
    });
    CHECK(error.status() == bn2d::Status::shape);
    CHECK(std::string(error.what()) ==
          "x has 20 channels, no multiple of the blocks of " + std::to_string(block));
  }
}
