// (N, C, 1, 1) and (1, C, 1, N), channels_last, are two descriptions of the same memory.
#include <array>
#include <cstring>

#include "support/numerics_case.h"

using namespace numerics;

namespace {

struct Results {
  std::vector<float> y, dx, dz;
  std::vector<double> mean, invstd;
  std::vector<float> dweight, dbias;
  std::vector<uint8_t> mask;
};

// A forward with a mask and a backward by it, or by y.
Results run(const std::array<int64_t, 4> &e, int32_t layout, const std::vector<float> &x,
            const std::vector<float> &dy, bool by_mask) {
  const auto channels = static_cast<size_t>(e[1]);
  Results r;
  r.y.resize(x.size());
  r.dx = r.dz = r.y;
  r.mean.resize(channels);
  r.invstd.resize(channels);
  r.dweight.resize(channels);
  r.dbias = r.dweight;
  uint64_t bytes = 0;
  NUMERICS_OK(bn2d_mask_nbytes(e[0], e[1], e[2], e[3], &bytes));
  r.mask.assign(bytes, 0xA5);
  std::vector<float> weight(channels), bias(channels);
  for (size_t c = 0; c < channels; ++c) {
    weight[c] = 1 + 0.1f * static_cast<float>(c % 7);
    bias[c] = 0.05f * static_cast<float>(c % 5);
  }
  NUMERICS_OK(bn2d_batch_norm_forward_flat(
      BN2D_F32, layout, e[0], e[1], e[2], e[3], x.data(), nullptr, r.y.data(), BN2D_F32, e[1],
      weight.data(), bias.data(), nullptr, nullptr, 1, 0, 1e-5, 0, BN2D_ACT_RELU, 0, r.mask.data(),
      r.mean.data(), r.invstd.data()));
  NUMERICS_OK(bn2d_batch_norm_backward_flat(
      BN2D_F32, layout, e[0], e[1], e[2], e[3], x.data(), dy.data(), by_mask ? nullptr : r.y.data(),
      by_mask ? r.mask.data() : nullptr, BN2D_F32, e[1], weight.data(), r.mean.data(),
      r.invstd.data(), 1, BN2D_ACT_RELU, 0, 0, r.dx.data(), r.dz.data(), r.dweight.data(),
      r.dbias.data()));
  return r;
}

}  // namespace

TEST_CASE("numerics: planes of one element have the bits of one plane of all samples",
          "[numerics][merged]") {
  // Catches: bits of a mask that belong to another sample or channel, a mask that one of its
  // readers takes for whole planes, samples that are summed in another order.
  for (const auto &[n, c] :
       {std::array<int64_t, 2>{1000, 1}, {2, 3}, {777, 3}, {1031, 20}, {65, 64}, {9, 33}}) {
    const auto size = static_cast<size_t>(n * c);
    Random random(static_cast<uint64_t>(n));
    std::vector<float> x(size), dy(size);
    for (float &v : x) v = static_cast<float>(random.normal());
    for (float &v : dy) v = static_cast<float>(random.normal());
    INFO(n << "x" << c);
    const Results samples = run({n, c, 1, 1}, BN2D_NCHW, x, dy, true);
    const Results by_y = run({n, c, 1, 1}, BN2D_NCHW, x, dy, false);
    const Results positions = run({1, c, 1, n}, BN2D_NHWC, x, dy, true);
    for (const Results *other : {&by_y, &positions}) {
      CHECK(samples.y == other->y);
      CHECK(samples.dx == other->dx);
      CHECK(samples.dz == other->dz);
      CHECK(samples.mean == other->mean);
      CHECK(samples.invstd == other->invstd);
      CHECK(samples.dweight == other->dweight);
      CHECK(samples.dbias == other->dbias);
    }
    std::vector<uint8_t> expected(size);  // a plane of one element is a byte
    for (size_t i = 0; i < size; ++i) expected[i] = samples.y[i] > 0;
    CHECK(samples.mask == expected);
  }
}

TEST_CASE("numerics: ghost batches of planes of one element are batches of their own",
          "[numerics][merged]") {
  // Catches samples of another ghost batch in the plane of one, forward and backward.
  constexpr int64_t kBatches = 3, kSamples = 5, kChannels = 4, kSize = kSamples * kChannels;
  Random random(5);
  std::vector<float> x(kBatches * kSize), dy(x.size()), y(x.size()), dx(x.size());
  for (float &v : x) v = static_cast<float>(random.normal());
  for (float &v : dy) v = static_cast<float>(random.normal());
  bn2d_options *options = nullptr;
  NUMERICS_OK(bn2d_options_create(&options));
  NUMERICS_OK(bn2d_options_set_ghost_batch_size(options, kSamples));
  bn2d_module *ghost = nullptr, *plain = nullptr;
  NUMERICS_OK(bn2d_module_create(kChannels, options, &ghost));
  NUMERICS_OK(bn2d_module_create(kChannels, nullptr, &plain));
  bn2d_options_release(options);
  const auto step = [&](bn2d_module *module, int64_t samples, int64_t first, std::vector<float> &to,
                        std::vector<float> &gradient) {
    bn2d_record *record = nullptr;
    NUMERICS_OK(
        bn2d_forward_f32(module, x.data() + first, samples, 1, 1, to.data() + first, &record));
    NUMERICS_OK(bn2d_backward_f32(module, record, dy.data() + first, gradient.data() + first));
    bn2d_record_release(record);
  };
  step(ghost, kBatches * kSamples, 0, y, dx);
  std::vector<float> own_y(x.size()), own_dx(x.size());
  for (int64_t batch = 0; batch < kBatches; ++batch)
    step(plain, kSamples, batch * kSize, own_y, own_dx);
  CHECK(y == own_y);
  CHECK(dx == own_dx);
  bn2d_module_release(ghost);
  bn2d_module_release(plain);
}
