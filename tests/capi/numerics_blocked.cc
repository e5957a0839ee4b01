// Views of rank 5 whose five dimensions lie in memory in any order, with gaps, beside each other
// and beside contiguous ones: the bits are those of NCHW.
#include <algorithm>
#include <array>
#include <random>

#include "support/contract_views.h"
#include "support/numerics_case.h"

using namespace numerics;

namespace {

class AnyTensor {
 public:
  // block 0: of rank 4, contiguous. in_order: channels of a block fastest, then W, H, blocks and N.
  AnyTensor(std::mt19937 &random, const Extents &e, int64_t block, bool in_order) : e_(e) {
    const bool has_gaps = block != 0;
    block_ = block == 0 ? 1 : block;
    shape_ = {e.n, e.c / block_, e.h, e.w, block_};
    std::array<int, 5> order = {4, 3, 2, 1, 0};  // the fastest first
    if (has_gaps && !in_order) std::shuffle(order.begin(), order.end(), random);
    int64_t next = 1;
    for (const int axis : order) {
      strides_[static_cast<size_t>(axis)] = next;
      next *= shape_[static_cast<size_t>(axis)];
      if (has_gaps) next += static_cast<int64_t>(random() % 4);
    }
    memory_.assign(static_cast<size_t>(next), kGap);
    view_.device_type = BN2D_CPU;
    view_.ndim = has_gaps ? 5 : 4;
    view_.dtype_code = 2;
    view_.dtype_bits = 32;
    view_.dtype_lanes = 1;
    view_.data = memory_.data();
    view_.shape = shape_.data();
    view_.strides = strides_.data();
  }
  AnyTensor(const AnyTensor &) = delete;

  const bn2d_view *view() const { return &view_; }
  void set(const std::vector<float> &values) {
    size_t i = 0;
    for_each([&](float &element) { element = values[i++]; });
  }
  std::vector<float> get() {
    std::vector<float> values;
    for_each([&](float &element) { values.push_back(element); });
    return values;
  }
  bool gaps_intact() {
    std::vector<float> rest = memory_;
    rest.swap(memory_);
    for_each([&](float &element) { element = kGap; });
    rest.swap(memory_);
    return std::all_of(rest.begin(), rest.end(), [](float element) { return element == kGap; });
  }

 private:
  static constexpr float kGap = 1234.5f;
  template <class F>
  void for_each(const F &f) {
    for (int64_t n = 0; n < e_.n; ++n)
      for (int64_t c = 0; c < e_.c; ++c)
        for (int64_t h = 0; h < e_.h; ++h)
          for (int64_t w = 0; w < e_.w; ++w)
            f(memory_[static_cast<size_t>(n * strides_[0] + c / block_ * strides_[1] +
                                          h * strides_[2] + w * strides_[3] +
                                          c % block_ * strides_[4])]);
  }

  Extents e_;
  int64_t block_;
  std::array<int64_t, 5> shape_, strides_{};
  std::vector<float> memory_;
  bn2d_view view_{};
};

}  // namespace

TEST_CASE("numerics: blocks of channels in any order of memory have the bits of NCHW",
          "[numerics][blocked]") {
  // Catches: channels that are taken for a constant stride apart beyond the end of their block,
  // wherever a tensor is copied, packed or read in place.
  std::mt19937 random(3);
  const auto up_to = [&](unsigned most) { return static_cast<int64_t>(random() % most) + 1; };
  for (int round = 0; round < 400; ++round) {
    const int64_t c = up_to(4) * 2 * up_to(3);
    const bool is_tiny = round % 4 == 0;  // planes of one element: contiguous in any order
    const Extents e{up_to(4), c, is_tiny ? 1 : up_to(3), is_tiny ? 1 : up_to(5)};
    if (e.per_channel() == 1) continue;
    const bool in_order = round % 3 == 0;  // so that channels are read in place
    const auto any_block = [&] {           // also such that have no common divisor: 2 and 3 of 6
      int64_t block = up_to(static_cast<unsigned>(c));
      while (c % block != 0) block = up_to(static_cast<unsigned>(c));
      return in_order || random() % 4 != 0 ? block : 0;
    };
    std::vector<float> values[3];
    for (std::vector<float> &of_one : values)
      for (int64_t i = 0; i < e.size(); ++i)
        of_one.push_back(static_cast<float>(random() % 4096) / 512 - 4);
    // Beyond the range of float: such a channel is mapped apart, within a block.
    for (int64_t i = 0; round % 2 == 0 && i < e.size(); ++i)
      if (i / e.plane() % c == 1) values[0][static_cast<size_t>(i)] *= 0x1p100F;
    std::vector<float> results[2][3];
    INFO("round " << round << ": " << e.n << "x" << e.c << "x" << e.h << "x" << e.w);
    for (const bool is_blocked : {false, true}) {
      const auto block = [&] { return is_blocked ? any_block() : 0; };
      AnyTensor x(random, e, block(), in_order), z(random, e, block(), in_order),
          y(random, e, block(), in_order), dy(random, e, block(), in_order),
          dx(random, e, block(), in_order), dz(random, e, block(), in_order);
      x.set(values[0]), z.set(values[1]), dy.set(values[2]);
      Module module(e.c);
      Record record;
      NUMERICS_OK(bn2d_forward_act(module, x.view(), z.view(), BN2D_ACT_LEAKY_RELU, 0.25, y.view(),
                                   record.out()));
      NUMERICS_OK(bn2d_backward(module, record, dy.view(), dx.view(), dz.view()));
      size_t k = 0;
      for (AnyTensor *result : {&y, &dx, &dz}) {
        results[is_blocked][k++] = result->get();
        CHECK(result->gaps_intact());
      }
    }
    for (size_t k = 0; k < 3; ++k) CHECK(results[true][k] == results[false][k]);
  }
}

// Catches: samples whose blocks are expanded (all of them one) taken for one row of channels,
// because they are as far apart as if the blocks followed one another.
TEST_CASE("numerics: expanded blocks of a group norm", "[numerics][blocked]") {
  constexpr int64_t kSamples = 11, kChannels = 4, kGroups = 2;
  std::vector<float> x(kSamples * kChannels), same(x.size()), y(x.size()), wanted(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * i % 17);
  for (size_t i = 0; i < x.size(); ++i) same[i] = x[i - i % kChannels + i % 2];
  const int64_t shape[] = {kSamples, 2, 1, 1, 2}, expanded[] = {kChannels, 0, 2, 2, 1},
                plain_shape[] = {kSamples, kChannels, 1, 1}, plain[] = {kChannels, 1, 1, 1};
  const bn2d_test::View of_blocks(x.data(), BN2D_F32, 5, shape, expanded),
      of_same(same.data(), BN2D_F32, 4, plain_shape, plain),
      to_y(y.data(), BN2D_F32, 4, plain_shape, plain),
      to_wanted(wanted.data(), BN2D_F32, 4, plain_shape, plain);
  for (const bool blocks : {true, false})
    NUMERICS_OK(bn2d_group_norm_forward(
        blocks ? of_blocks : of_same, nullptr, blocks ? to_y : to_wanted, kGroups, BN2D_F32,
        nullptr, nullptr, 1e-5, BN2D_ACT_NONE, 0, nullptr, nullptr, nullptr));
  CHECK(y == wanted);
}
