// Views of rank 5 whose five dimensions lie in memory in any order, with gaps, beside each other
// and beside contiguous ones: the bits are those of NCHW.
#include <algorithm>
#include <array>
#include <memory>
#include <random>
#include <vector>

#include "support/contract_views.h"
#include "support/numerics_case.h"
#include "support/streaming.h"

using namespace numerics;

namespace {

class AnyTensor {
 public:
  // block 0: of rank 4, contiguous. in_order: channels of a block fastest, then W, H, blocks and N.
  AnyTensor(std::mt19937 &random, const Extents &e, int64_t block, bool in_order) : e_(e) {
    set_shape(block);
    std::array<int, 5> order = {4, 3, 2, 1, 0};  // the fastest first
    if (block != 0 && !in_order) std::shuffle(order.begin(), order.end(), random);
    int64_t next = 1;
    for (const int axis : order) {
      strides_[static_cast<size_t>(axis)] = next;
      next *= shape_[static_cast<size_t>(axis)];
      if (block != 0) next += static_cast<int64_t>(random() % 4);
    }
    set_memory(0, next);
  }
  // In order, `start` elements behind a line of memory, with gaps behind each position and block.
  AnyTensor(const Extents &e, int64_t block, int64_t start, int64_t gap_of_position, int64_t gap)
      : e_(e) {
    set_shape(block);
    const int64_t step = block_ + gap_of_position, of_block = e.h * e.w * step + gap,
                  of_sample = e.c / block_ * of_block;
    strides_ = {of_sample, of_block, e.w * step, step, 1};
    set_memory(start, e.n * of_sample);
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
    const std::vector<float> elements = memory_;
    for_each([&](float &element) { element = kGap; });
    const bool are =
        std::all_of(memory_.begin(), memory_.end(), [](float element) { return element == kGap; });
    std::copy(elements.begin(), elements.end(), memory_.begin());
    return are;
  }

 private:
  static constexpr float kGap = 1234.5f;
  void set_shape(int64_t block) {
    block_ = block == 0 ? 1 : block;
    shape_ = {e_.n, e_.c / block_, e_.h, e_.w, block_};
    view_.ndim = block == 0 ? 4 : 5;
  }
  void set_memory(int64_t start, int64_t count) {
    constexpr size_t kLine = 64;
    memory_.assign(static_cast<size_t>(start + count) + kLine / sizeof(float), kGap);
    void *line = memory_.data();
    size_t room = memory_.size() * sizeof(float);
    first_ = static_cast<float *>(std::align(kLine, sizeof(float), line, room)) + start;
    view_.device_type = BN2D_CPU;
    view_.dtype_code = 2;
    view_.dtype_bits = 32;
    view_.dtype_lanes = 1;
    view_.data = first_;
    view_.shape = shape_.data();
    view_.strides = strides_.data();
  }
  template <class F>
  void for_each(const F &f) {
    for (int64_t n = 0; n < e_.n; ++n)
      for (int64_t c = 0; c < e_.c; ++c)
        for (int64_t h = 0; h < e_.h; ++h)
          for (int64_t w = 0; w < e_.w; ++w)
            f(first_[n * strides_[0] + c / block_ * strides_[1] + h * strides_[2] +
                     w * strides_[3] + c % block_ * strides_[4]]);
  }

  Extents e_;
  int64_t block_;
  std::array<int64_t, 5> shape_, strides_{};
  std::vector<float> memory_;
  float *first_ = nullptr;  // in memory_
  bn2d_view view_{};
};

std::vector<float> random_floats(std::mt19937 &random, int64_t count) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(static_cast<float>(random() % 4096) / 512 - 4);
  return values;
}

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
    for (std::vector<float> &of_one : values) of_one = random_floats(random, e.size());
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

namespace {

// What a call of each kind writes, of tensors in blocks or (block 0) of rank 4.
struct Blocks {
  int64_t block, start, gap_of_position, gap;
};
std::vector<std::vector<float>> results_of(const Extents &e, const Blocks &in,
                                           const std::vector<float> (&values)[3], bool batch_stats,
                                           bool is_fused) {
  const auto tensor = [&] { return AnyTensor(e, in.block, in.start, in.gap_of_position, in.gap); };
  AnyTensor x = tensor(), z = tensor(), dy = tensor(), y = tensor(), dx = tensor(), dz = tensor(),
            scaled = tensor(), dz_alone = tensor();
  x.set(values[0]), z.set(values[1]), dy.set(values[2]);
  const size_t channels = static_cast<size_t>(e.c);
  std::vector<float> weight, bias, mean(channels, 0.25F), var(channels, 2), dweight(channels),
      dbias(channels);
  std::vector<double> saved_mean(channels), saved_invstd(channels, 0.75);
  for (size_t c = 0; c < channels; ++c) {
    weight.push_back(static_cast<float>(c % 7) * 0.25F + 0.5F);
    bias.push_back(static_cast<float>(c % 5) - 2);
  }
  const int32_t activation = is_fused ? BN2D_ACT_LEAKY_RELU : BN2D_ACT_NONE;
  const bn2d_view *const side = is_fused ? y.view() : nullptr;
  NUMERICS_OK(bn2d_batch_norm_forward(
      x.view(), is_fused ? z.view() : nullptr, y.view(), BN2D_F32, weight.data(), bias.data(),
      mean.data(), var.data(), batch_stats, 0.1, 1e-5, 0, activation, 0.25, nullptr,
      batch_stats ? saved_mean.data() : nullptr, batch_stats ? saved_invstd.data() : nullptr));
  NUMERICS_OK(bn2d_batch_norm_backward(
      x.view(), dy.view(), side, nullptr, BN2D_F32, weight.data(), saved_mean.data(),
      saved_invstd.data(), batch_stats, activation, 0.25, 0, dx.view(),
      is_fused ? dz.view() : nullptr, dweight.data(), dbias.data()));
  NUMERICS_OK(bn2d_batch_norm_backward(nullptr, dy.view(), side, nullptr, BN2D_F32, weight.data(),
                                       nullptr, saved_invstd.data(), false, activation, 0.25, 0,
                                       scaled.view(), nullptr, nullptr, nullptr));
  if (is_fused)
    NUMERICS_OK(bn2d_batch_norm_backward(nullptr, dy.view(), side, nullptr, BN2D_F32, weight.data(),
                                         nullptr, saved_invstd.data(), false, activation, 0.25, 0,
                                         nullptr, dz_alone.view(), nullptr, nullptr));
  for (AnyTensor *written : {&y, &dx, &dz, &scaled, &dz_alone}) CHECK(written->gaps_intact());
  return {y.get(), dx.get(), dz.get(), scaled.get(), dz_alone.get(), mean, var, dweight, dbias};
}

}  // namespace

// Catches: the coefficients of another block, a block or a sample that is left out, and streaming
// stores that begin in the middle of a vector, where blocks are mapped in the order of memory and
// summed with their channels in registers. Blocks of 7x7 and 5x5 end in the middle of a line.
TEST_CASE("numerics: blocks of 8 and 16 in the order of memory have the bits of NCHW",
          "[numerics][blocked]") {
  std::mt19937 random(4);
  for (const Extents e : {Extents{3, 48, 7, 7}, Extents{2, 32, 5, 5}, Extents{9, 16, 3, 3},
                          Extents{4, 80, 2, 3}, Extents{5, 32, 12, 12}, Extents{1, 64, 28, 25}}) {
    std::vector<float> values[3];
    for (std::vector<float> &of_one : values) of_one = random_floats(random, e.size());
    // A channel in the middle of a block that is mapped apart, with half of the range of float.
    for (int64_t i = 0; e.n == 3 && i < e.size(); ++i)
      if (i / e.plane() % e.c == 19) values[0][static_cast<size_t>(i)] *= 0x1p100F;
    for (const bool batch_stats : {true, false})
      for (const bool is_fused : {false, true}) {
        const auto wanted = results_of(e, {0, 0, 0, 0}, values, batch_stats, is_fused);
        for (const int64_t threshold : {-1, 0})
          for (const Blocks blocks :
               {Blocks{8, 0, 0, 0}, Blocks{8, 8, 0, 0}, Blocks{8, 3, 0, 0}, Blocks{8, 0, 0, 16},
                Blocks{8, 0, 0, 5}, Blocks{8, 0, 2, 0}, Blocks{16, 0, 0, 0}, Blocks{16, 8, 0, 16},
                Blocks{16, 1, 0, 0}, Blocks{16, 0, 16, 0}}) {
            const Streaming streaming(threshold);
            INFO(e.n << "x" << e.c << "x" << e.h << "x" << e.w << ", batch_stats " << batch_stats
                     << ", fused " << is_fused << ", streaming threshold " << threshold
                     << ", blocks of " << blocks.block << " from element " << blocks.start
                     << " on, gaps " << blocks.gap_of_position << " and " << blocks.gap);
            CHECK(results_of(e, blocks, values, batch_stats, is_fused) == wanted);
          }
      }
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
