// Tensors with strides of 0, as an expanded tensor has: read like a dense copy of theirs, never
// written.
#include <cmath>
#include <cstring>

#include "support/contract_failures.h"
#include "support/contract_handles.h"
#include "support/contract_views.h"
#include "support/numerics_values.h"

using namespace bn2d_test;

namespace {

// Memory of one dtype, element by element.
struct Elements {
  int32_t dtype;
  size_t size;
  std::vector<unsigned char> bytes;
  Elements(int32_t d, size_t count) : dtype(d), size(bn2d_dtype_size(d)), bytes(count * size) {}
  void set(size_t i, double value) {
    numerics::write_element(dtype, bytes.data() + i * size, numerics::rounded(dtype, value));
  }
};

// A tensor of which `expanded` dimensions have one element that is read again and again, and the
// same written out.
struct Twins {
  Elements memory, written_out;
  View expanded, dense;
  Twins(int32_t dtype, const Extents &shape, unsigned expand, bool nhwc, unsigned seed)
      : memory(dtype, static_cast<size_t>(count_of(shape))), written_out(memory) {
    Extents small = shape;
    for (size_t i = 0; i < 4; ++i)
      if ((expand >> i & 1u) != 0) small[i] = 1;
    Extents strides = nhwc ? nhwc_strides(small) : nchw_strides(small);
    for (size_t i = 0; i < 4; ++i)
      if ((expand >> i & 1u) != 0) strides[i] = 0;
    for (size_t i = 0; i < static_cast<size_t>(count_of(small)); ++i)
      memory.set(i, static_cast<double>(((i + seed) * 37 + i / 7) % 29) * 0.5 - 6.25);
    const Extents to = nhwc ? nhwc_strides(shape) : nchw_strides(shape);
    for (int64_t n = 0; n < shape[0]; ++n)
      for (int64_t c = 0; c < shape[1]; ++c)
        for (int64_t h = 0; h < shape[2]; ++h)
          for (int64_t w = 0; w < shape[3]; ++w) {
            const auto at = [&](const Extents &s) {
              return static_cast<size_t>(n * s[0] + c * s[1] + h * s[2] + w * s[3]);
            };
            std::memcpy(written_out.bytes.data() + at(to) * memory.size,
                        memory.bytes.data() + at(strides) * memory.size, memory.size);
          }
    expanded = View(memory.bytes.data(), dtype, shape, strides);
    dense = View(written_out.bytes.data(), dtype, shape, to);
  }
};

// The bytes of everything that one call of each operation computes.
std::vector<unsigned char> results(int32_t dtype, const Extents &shape, bool nhwc, bool batch,
                                   const View &x, const View &z, const View &side, const View &dy,
                                   const View &ddx) {
  const auto count = static_cast<size_t>(count_of(shape)), channels = static_cast<size_t>(shape[1]);
  const Extents strides = nhwc ? nhwc_strides(shape) : nchw_strides(shape);
  std::vector<Elements> out(6, Elements(dtype, count));
  std::vector<Elements> arrays(7, Elements(dtype, channels));
  for (size_t c = 0; c < channels; ++c) {
    for (size_t a = 0; a < 4; ++a) arrays[a].set(c, 0.25 * static_cast<double>(a + c % 5) + 0.5);
  }
  const auto at = [&](size_t i) { return View(out[i].bytes.data(), dtype, shape, strides); };
  const auto array = [&](size_t i) { return arrays[i].bytes.data(); };
  std::vector<double> mean(channels), invstd(channels);
  uint64_t mask_bytes = 0;
  REQUIRE(bn2d_mask_nbytes(shape[0], shape[1], shape[2], shape[3], &mask_bytes) == BN2D_OK);
  std::vector<unsigned char> mask(mask_bytes);
  int failed = 0;
  // Plain, fused with a mask.
  failed += bn2d_batch_norm_forward(x, nullptr, at(0), dtype, array(0), array(1), array(2),
                                    array(3), batch, 0.5, 1e-3, 0, BN2D_ACT_NONE, 0, nullptr,
                                    mean.data(), invstd.data()) != BN2D_OK;
  failed += bn2d_batch_norm_forward(x, z, at(1), dtype, array(0), array(1), array(2), array(3),
                                    batch, 0.5, 1e-3, 0, BN2D_ACT_LEAKY_RELU, 0.25, mask.data(),
                                    nullptr, nullptr) != BN2D_OK;
  // Plain, with y, with a mask.
  failed += bn2d_batch_norm_backward(x, dy, nullptr, nullptr, dtype, array(0), mean.data(),
                                     invstd.data(), batch, BN2D_ACT_NONE, 0, 0, at(2), nullptr,
                                     array(4), array(5)) != BN2D_OK;
  std::vector<unsigned char> all = out[2].bytes;
  failed += bn2d_batch_norm_backward(x, dy, side, nullptr, dtype, array(0), mean.data(),
                                     invstd.data(), batch, BN2D_ACT_LEAKY_RELU, 0.25, 1, at(2),
                                     at(3), array(4), array(5)) != BN2D_OK;
  for (const size_t i : {size_t{2}, size_t{3}})
    all.insert(all.end(), out[i].bytes.begin(), out[i].bytes.end());
  failed += bn2d_batch_norm_backward(x, dy, nullptr, mask.data(), dtype, array(0), mean.data(),
                                     invstd.data(), batch, BN2D_ACT_RELU, 0, 1, at(2), at(3),
                                     array(4), array(5)) != BN2D_OK;
  failed += bn2d_batch_norm_double_backward(x, dy, side, nullptr, dtype, array(0), mean.data(),
                                            invstd.data(), batch, BN2D_ACT_RELU, 0, ddx, array(0),
                                            array(1), 0, at(4), at(5), array(6)) != BN2D_OK;
  CHECK(failed == 0);
  for (const std::vector<Elements> *some : {&out, &arrays})
    for (const Elements &elements : *some)
      all.insert(all.end(), elements.bytes.begin(), elements.bytes.end());
  all.insert(all.end(), mask.begin(), mask.end());
  return all;
}

}  // namespace

TEST_CASE("expanded: the same bits as from a dense copy", "[expanded]") {
  // Catches a layout that is taken for contiguous although it repeats, in any operation, dtype and
  // fused form, and a refusal.
  for (const Extents &shape :
       {Extents{3, 5, 4, 6}, Extents{2, 33, 3, 3}, Extents{9, 4, 2, 1}, Extents{4, 3, 1, 1},
        Extents{2, 2, 70, 71}, Extents{2, 16, 24, 24}}) {
    const bool large = count_of(shape) > 2000;
    for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
      for (const bool nhwc : {false, true}) {
        for (const bool batch : {true, false}) {
          for (unsigned expand = 1; expand < 16; ++expand) {
            if (large && (expand % 3 == 2 || !batch)) continue;  // time
            const Twins x(dtype, shape, 0, nhwc, 1), z(dtype, shape, 0, nhwc, 2),
                y(dtype, shape, 0, nhwc, 3), dy(dtype, shape, 0, nhwc, 4),
                ddx(dtype, shape, 0, nhwc, 5);
            const Twins tx(dtype, shape, expand, nhwc, 1), tz(dtype, shape, expand, nhwc, 2),
                ty(dtype, shape, expand, nhwc, 3), tdy(dtype, shape, expand, nhwc, 4),
                tddx(dtype, shape, expand, nhwc, 5);
            INFO(bn2d_dtype_name(dtype)
                 << " shape " << shape[0] << " " << shape[1] << " " << shape[2] << " " << shape[3]
                 << (nhwc ? " NHWC" : " NCHW") << (batch ? " batch" : " frozen") << " expanded "
                 << expand);
            // The gradient alone, what else is read, and all.
            const auto both = [&](bool gradient, bool rest) {
              const auto run = [&](bool expanded) {
                const auto pick = [&](const Twins &own, const Twins &twins, bool is_expanded) {
                  return !is_expanded ? own.dense : expanded ? twins.expanded : twins.dense;
                };
                return results(dtype, shape, nhwc, batch, pick(x, tx, rest), pick(z, tz, rest),
                               pick(y, ty, rest), pick(dy, tdy, gradient),
                               pick(ddx, tddx, gradient));
              };
              return run(true) == run(false);
            };
            CHECK(both(true, false));
            CHECK(both(false, true));
            CHECK(both(true, true));
          }
        }
      }
    }
  }
}

TEST_CASE("expanded: y at the memory of x, but repeating it", "[expanded]") {
  // Catches a kernel that takes the side of the activation for x because both begin at the same
  // address.
  const Extents shape{4, 3, 16, 16};
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    for (const bool nhwc : {false, true}) {
      Twins x(dtype, shape, 0, nhwc, 1);
      const Twins dy(dtype, shape, 0, nhwc, 2);
      const Extents strides = nhwc ? nhwc_strides(shape) : nchw_strides(shape);
      Extents repeating = strides;
      repeating[0] = 0;
      const View side(x.written_out.bytes.data(), dtype, shape, repeating);
      Elements copy(dtype, static_cast<size_t>(count_of(shape)));
      const size_t sample = size_t{3} * 16 * 16 * copy.size;
      for (size_t n = 0; n < 4; ++n)
        std::memcpy(copy.bytes.data() + n * sample, x.written_out.bytes.data(), sample);
      const View dense(copy.bytes.data(), dtype, shape, strides);
      INFO(bn2d_dtype_name(dtype) << (nhwc ? " NHWC" : " NCHW"));
      CHECK(results(dtype, shape, nhwc, true, x.dense, x.dense, side, dy.dense, dy.dense) ==
            results(dtype, shape, nhwc, true, x.dense, x.dense, dense, dy.dense, dy.dense));
    }
  }
}

TEST_CASE("expanded: blocks of channels", "[expanded]") {
  // Catches channels that are taken for one because those of a block are, or for several because
  // the blocks are.
  const Extents shape{9, 8, 3, 5};
  const int64_t blocked[] = {9, 2, 3, 5, 4};
  const Twins values(BN2D_F32, shape, 0, false, 1);
  for (const bool nhwc : {false, true})
    for (unsigned expand = 1; expand < 32; ++expand) {
      INFO((nhwc ? "NHWC" : "NCHW") << " expanded " << expand);
      int64_t strides[] = {120, 60, 20, 4, 1};
      for (size_t i = 0; i < 5; ++i)
        if ((expand >> i & 1) != 0) strides[i] = 0;
      const auto *from = reinterpret_cast<const float *>(values.written_out.bytes.data());
      const Extents to = nhwc ? nhwc_strides(shape) : nchw_strides(shape);
      std::vector<float> copy(1080), y(1080), want(1080), dense_x(1080);
      for (int64_t i = 0; i < 1080; ++i) {
        const int64_t n = i / 120, c = i / 15 % 8, h = i / 5 % 3, w = i % 5;
        const auto at = static_cast<size_t>(n * to[0] + c * to[1] + h * to[2] + w * to[3]);
        copy[at] = from[n * strides[0] + c / 4 * strides[1] + h * strides[2] + w * strides[3] +
                        c % 4 * strides[4]];
        dense_x[at] = from[i];
      }
      const View expanded(const_cast<float *>(from), BN2D_F32, 5, blocked, strides),
          dense(copy.data(), BN2D_F32, shape, to), of_x(dense_x.data(), BN2D_F32, shape, to);
      const auto forward = [&](const View &z, std::vector<float> &out) {
        REQUIRE(bn2d_batch_norm_forward(of_x, z, View(out.data(), BN2D_F32, shape, to), BN2D_F32,
                                        nullptr, nullptr, nullptr, nullptr, 1, 0, 1e-5, 0,
                                        BN2D_ACT_NONE, 0, nullptr, nullptr, nullptr) == BN2D_OK);
      };
      forward(expanded, y), forward(dense, want);
      CHECK(y == want);
    }
}

TEST_CASE("expanded: with a module, recorded", "[expanded]") {
  // Catches a record that keeps the strides of x in another form.
  const Extents shape{4, 3, 5, 7};
  for (unsigned expand = 1; expand < 15; ++expand) {
    const Twins x(BN2D_F32, shape, expand, false, 1), dy(BN2D_F32, shape, 15, false, 2);
    std::vector<std::vector<float>> seen;
    for (const bool expanded : {true, false}) {
      const Module module = make_module(3);
      give_character(module);
      std::vector<float> y(420), dx(420);
      const View out(y.data(), BN2D_F32, shape), back(dx.data(), BN2D_F32, shape);
      bn2d_record *raw = nullptr;
      REQUIRE(bn2d_forward_act(module.get(), expanded ? x.expanded : x.dense, nullptr,
                               BN2D_ACT_RELU, 0, out, &raw) == BN2D_OK);
      const Record record(raw);
      REQUIRE(bn2d_backward(module.get(), raw, expanded ? dy.expanded : dy.dense, back, nullptr) ==
              BN2D_OK);
      const float *gradient = data_of<float>(module, "weight.grad");
      dx.insert(dx.end(), gradient, gradient + 3);
      dx.insert(dx.end(), y.begin(), y.end());
      seen.push_back(dx);
    }
    INFO("expanded " << expand);
    CHECK(std::memcmp(seen[0].data(), seen[1].data(), seen[0].size() * sizeof(float)) == 0);
  }
}

TEST_CASE("expanded: outputs are refused", "[expanded]") {
  // Catches an output whose elements are one, and an expanded input that shares memory with an
  // output.
  const Extents shape{2, 3, 2, 2};
  std::vector<float> memory(128, 1.5f);
  const View x(memory.data(), BN2D_F32, shape), dy(memory.data() + 32, BN2D_F32, shape);
  double saved[3] = {1, 1, 1};
  Snapshot before;
  before.add("memory", memory);
  for (size_t i = 0; i < 4; ++i) {
    View out(memory.data() + 64, BN2D_F32, shape);
    out.set_stride(i, 0);
    check_fails("y", BN2D_ERROR_LAYOUT, before, {"0"}, [&] {
      return bn2d_batch_norm_forward(x, nullptr, out, BN2D_F32, nullptr, nullptr, nullptr, nullptr,
                                     1, 0, 1e-5, 0, BN2D_ACT_NONE, 0, nullptr, nullptr, nullptr);
    });
    for (const bool as_dx : {true, false}) {
      check_fails(as_dx ? "dx" : "dz", BN2D_ERROR_LAYOUT, before, {"0"}, [&] {
        return bn2d_batch_norm_backward(x, dy, nullptr, nullptr, BN2D_F32, nullptr, saved, saved, 1,
                                        BN2D_ACT_NONE, 0, 0, as_dx ? out.get() : nullptr,
                                        as_dx ? nullptr : out.get(), nullptr, nullptr);
      });
    }
  }
  for (const int64_t at : {0, 11, 23, 24}) {  // one element, in and behind the output
    const View one(memory.data() + 64 + at, BN2D_F32, shape, {0, 0, 0, 0}),
        out(memory.data() + 64, BN2D_F32, shape);
    const auto call = [&] {
      return bn2d_batch_norm_forward(one, nullptr, out, BN2D_F32, nullptr, nullptr, nullptr,
                                     nullptr, 1, 0, 1e-5, 0, BN2D_ACT_NONE, 0, nullptr, nullptr,
                                     nullptr);
    };
    if (at == 24) {
      CHECK(call() == BN2D_OK);
    } else {
      check_fails("one element inside y", BN2D_ERROR_OVERLAP, before, {"x", "y"}, call);
    }
  }
}
