// The functions by scalars and pointers alone: the same bits as by views, and their own errors.
#include <algorithm>
#include <functional>

#include "support/numerics_parts.h"

namespace {

using namespace numerics;

struct FlatCase {
  int32_t data, module, layout;
};

std::vector<FlatCase> flat_cases() {
  std::vector<FlatCase> cases;
  for (const int32_t layout : {BN2D_NCHW, BN2D_NHWC}) {
    for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
      cases.push_back({dtype, dtype, layout});
    cases.push_back({BN2D_BF16, BN2D_F32, layout});
  }
  return cases;
}

Layout layout_of(const FlatCase &c) { return c.layout == BN2D_NHWC ? Layout::nhwc : Layout::nchw; }

}  // namespace

// Catches: extents or strides in another order than the layout has, a dtype that is lost on the
// way, arguments that are passed on in another place.
TEST_CASE("flat: a module's functions have the bits of those with views", "[flat]") {
  const Extents e{2, 5, 3, 4};
  for (const FlatCase &c : flat_cases()) {
    INFO("data " << c.data << ", module " << c.module << ", layout " << c.layout);
    Case of_case;
    of_case.e = e;
    of_case.data = c.data;
    of_case.module = c.module;
    const Inputs in = random_inputs(of_case, 81);
    const Layout layout = layout_of(c);
    Tensor x(c.data, e, in.x, layout), z(c.data, e, in.z, layout), dy(c.data, e, in.dy, layout),
        ddx(c.data, e, in.ddx, layout);
    Tensor y[2] = {{c.data, e, layout}, {c.data, e, layout}},
           dx[2] = {{c.data, e, layout}, {c.data, e, layout}},
           dz[2] = {{c.data, e, layout}, {c.data, e, layout}},
           ddy[2] = {{c.data, e, layout}, {c.data, e, layout}},
           dx2[2] = {{c.data, e, layout}, {c.data, e, layout}};  // of double backward
    Array ddweight(c.module, in.ddweight), ddbias(c.module, in.ddbias);
    Bits grad[2];
    for (const int flat : {0, 1}) {
      ModuleOptions options;
      options.dtype = c.module;
      Module module(e.c, options);
      module.set("weight", in.weight);
      module.set("bias", in.bias);
      Record record;
      if (flat == 1) {
        NUMERICS_OK(bn2d_forward_flat(module, c.data, c.layout, x.data(), z.data(), e.n, e.h, e.w,
                                      BN2D_ACT_LEAKY_RELU, 0.25, y[1].data(), record.out()));
        NUMERICS_OK(bn2d_backward_flat(module, record, c.data, c.layout, dy.data(), dx[1].data(),
                                       dz[1].data()));
        NUMERICS_OK(bn2d_double_backward_flat(module, record, c.data, c.layout, dy.data(),
                                              ddx.data(), ddweight.data(), ddbias.data(),
                                              ddy[1].data(), dx2[1].data()));
      } else {
        NUMERICS_OK(bn2d_forward_act(module, x.view(), z.view(), BN2D_ACT_LEAKY_RELU, 0.25,
                                     y[0].view(), record.out()));
        NUMERICS_OK(bn2d_backward(module, record, dy.view(), dx[0].view(), dz[0].view()));
        NUMERICS_OK(bn2d_double_backward(module, record, dy.view(), ddx.view(), ddweight.data(),
                                         ddbias.data(), ddy[0].view(), dx2[0].view()));
      }
      grad[flat] = module.bits("weight.grad");
    }
    CHECK(y[0].bits() == y[1].bits());
    CHECK(dx[0].bits() == dx[1].bits());
    CHECK(dz[0].bits() == dz[1].bits());
    CHECK(ddy[0].bits() == ddy[1].bits());
    CHECK(dx2[0].bits() == dx2[1].bits());
    CHECK(grad[0] == grad[1]);
  }
}

// Catches: the same for statistics from outside and for a backward in two steps.
TEST_CASE("flat: statistics and two steps have the bits of those with views", "[flat]") {
  const Extents e{2, 5, 3, 4};
  const int64_t length = 2 * e.c;  // of the sums
  for (const FlatCase &c : flat_cases()) {
    INFO("data " << c.data << ", module " << c.module << ", layout " << c.layout);
    Case of_case;
    of_case.e = e;
    of_case.data = c.data;
    of_case.module = c.module;
    const Inputs in = random_inputs(of_case, 84);
    const Layout layout = layout_of(c);
    Tensor x(c.data, e, in.x, layout), z(c.data, e, in.z, layout), dy(c.data, e, in.dy, layout);
    std::vector<Bits> bits[2];
    Values exported[2], sums[2];
    for (const int flat : {0, 1}) {
      Tensor y(c.data, e, layout), dx(c.data, e, layout), dz(c.data, e, layout);
      ModuleOptions options;
      options.dtype = c.module;
      Module module(e.c, options);
      module.set("weight", in.weight);
      module.set("bias", in.bias);
      Statistics statistics(e.c);
      Record record;
      double *const s = (sums[flat] = Values(static_cast<size_t>(length), 7)).data();
      if (flat == 1) {
        NUMERICS_OK(
            bn2d_statistics_accumulate_flat(statistics, c.data, c.layout, x.data(), e.n, e.h, e.w));
        NUMERICS_OK(bn2d_forward_with_statistics_flat(
            module, statistics, c.data, c.layout, x.data(), z.data(), e.n, e.h, e.w,
            BN2D_ACT_LEAKY_RELU, 0.25, y.data(), record.out()));
        NUMERICS_OK(
            bn2d_backward_sums_flat(module, record, c.data, c.layout, dy.data(), s, length));
        NUMERICS_OK(bn2d_backward_with_sums_flat(module, record, c.data, c.layout, dy.data(), s,
                                                 length, dx.data(), dz.data()));
      } else {
        NUMERICS_OK(bn2d_statistics_accumulate(statistics, x.view()));
        NUMERICS_OK(bn2d_forward_with_statistics(module, statistics, x.view(), z.view(),
                                                 BN2D_ACT_LEAKY_RELU, 0.25, y.view(),
                                                 record.out()));
        NUMERICS_OK(bn2d_backward_sums(module, record, dy.view(), s, length));
        NUMERICS_OK(
            bn2d_backward_with_sums(module, record, dy.view(), s, length, dx.view(), dz.view()));
      }
      exported[flat] = statistics.exported();
      bits[flat] = {y.bits(), dx.bits(), dz.bits()};
      for (const char *name : {"weight.grad", "bias.grad", "running_mean", "running_var"})
        bits[flat].push_back(module.bits(name));
    }
    CHECK(exported[0] == exported[1]);
    CHECK(sums[0] == sums[1]);
    CHECK(bits[0] == bits[1]);
  }
}

// Catches: the same for the functions without a module, and arrays of another length than there are
// channels.
TEST_CASE("flat: the stateless functions have the bits of those with views", "[flat]") {
  const Extents e{2, 5, 3, 4};
  for (const FlatCase &c : flat_cases()) {
    INFO("data " << c.data << ", module " << c.module << ", layout " << c.layout);
    Case of_case;
    of_case.e = e;
    of_case.data = c.data;
    of_case.module = c.module;
    const Inputs in = random_inputs(of_case, 82);
    const Layout layout = layout_of(c);
    Tensor x(c.data, e, in.x, layout), z(c.data, e, in.z, layout), dy(c.data, e, in.dy, layout);
    Array weight(c.module, in.weight), bias(c.module, in.bias);
    Bits y_bits[2], dx_bits[2], dz_bits[2], dweight_bits[2], mean_bits[2];
    const auto doubles = [](Array &a) { return static_cast<double *>(a.data()); };
    for (const int flat : {0, 1}) {
      Tensor y(c.data, e, layout), dx(c.data, e, layout), dz(c.data, e, layout);
      Array running_mean(c.module, in.running_mean), running_var(c.module, in.running_var);
      Array mean(BN2D_F64, in.ddbias), invstd(BN2D_F64, in.ddbias);
      Array dweight(c.module, in.weight), dbias(c.module, in.bias);
      std::vector<uint8_t> mask(100);
      if (flat == 1) {
        NUMERICS_OK(bn2d_batch_norm_forward_flat(
            c.data, c.layout, e.n, e.c, e.h, e.w, x.data(), z.data(), y.data(), c.module, e.c,
            weight.data(), bias.data(), running_mean.data(), running_var.data(), 1, 0.5, 1e-3,
            BN2D_FLAG_BIASED_RUNNING_VAR, BN2D_ACT_LEAKY_RELU, 0.5, mask.data(), doubles(mean),
            doubles(invstd)));
        NUMERICS_OK(bn2d_batch_norm_backward_flat(
            c.data, c.layout, e.n, e.c, e.h, e.w, x.data(), dy.data(), nullptr, mask.data(),
            c.module, e.c, weight.data(), doubles(mean), doubles(invstd), 1, BN2D_ACT_LEAKY_RELU,
            0.5, 0.25, dx.data(), dz.data(), dweight.data(), dbias.data()));
      } else {
        NUMERICS_OK(bn2d_batch_norm_forward(
            x.view(), z.view(), y.view(), c.module, weight.data(), bias.data(), running_mean.data(),
            running_var.data(), 1, 0.5, 1e-3, BN2D_FLAG_BIASED_RUNNING_VAR, BN2D_ACT_LEAKY_RELU,
            0.5, mask.data(), doubles(mean), doubles(invstd)));
        NUMERICS_OK(bn2d_batch_norm_backward(x.view(), dy.view(), nullptr, mask.data(), c.module,
                                             weight.data(), doubles(mean), doubles(invstd), 1,
                                             BN2D_ACT_LEAKY_RELU, 0.5, 0.25, dx.view(), dz.view(),
                                             dweight.data(), dbias.data()));
      }
      y_bits[flat] = y.bits();
      dx_bits[flat] = dx.bits();
      dz_bits[flat] = dz.bits();
      dweight_bits[flat] = dweight.bits();
      mean_bits[flat] = running_mean.bits();
    }
    CHECK(y_bits[0] == y_bits[1]);
    CHECK(dx_bits[0] == dx_bits[1]);
    CHECK(dz_bits[0] == dz_bits[1]);
    CHECK(dweight_bits[0] == dweight_bits[1]);
    CHECK(mean_bits[0] == mean_bits[1]);
  }
}

// Catches: num_groups or another number that is passed on in another place, statistics of groups
// that are taken for those of channels.
TEST_CASE("flat: the functions of group norm have the bits of those with views", "[flat]") {
  const Extents e{3, 6, 3, 4};
  constexpr int64_t kGroups = 2;
  for (const FlatCase &c : flat_cases()) {
    INFO("data " << c.data << ", module " << c.module << ", layout " << c.layout);
    Case of_case;
    of_case.e = e;
    of_case.data = c.data;
    of_case.module = c.module;
    const Inputs in = random_inputs(of_case, 83);
    const Layout layout = layout_of(c);
    Tensor x(c.data, e, in.x, layout), z(c.data, e, in.z, layout), dy(c.data, e, in.dy, layout);
    Array weight(c.module, in.weight), bias(c.module, in.bias);
    std::vector<Bits> bits[2];
    std::vector<double> mean[2], invstd[2];
    for (const int flat : {0, 1}) {
      Tensor y(c.data, e, layout), dx(c.data, e, layout), dz(c.data, e, layout);
      Array dweight(c.module, in.weight), dbias(c.module, in.bias);
      std::vector<uint8_t> mask(100);
      std::vector<double> &m = mean[flat], &s = invstd[flat];
      m.assign(static_cast<size_t>(e.n * kGroups), 7);
      s = m;
      if (flat == 1) {
        NUMERICS_OK(bn2d_group_norm_forward_flat(
            c.data, c.layout, e.n, e.c, e.h, e.w, x.data(), z.data(), y.data(), kGroups, c.module,
            e.c, weight.data(), bias.data(), 1e-3, BN2D_ACT_LEAKY_RELU, 0.5, mask.data(), m.data(),
            s.data()));
        NUMERICS_OK(bn2d_group_norm_backward_flat(
            c.data, c.layout, e.n, e.c, e.h, e.w, x.data(), dy.data(), nullptr, mask.data(),
            kGroups, c.module, e.c, weight.data(), m.data(), s.data(), BN2D_ACT_LEAKY_RELU, 0.5,
            0.25, dx.data(), dz.data(), dweight.data(), dbias.data()));
      } else {
        NUMERICS_OK(bn2d_group_norm_forward(x.view(), z.view(), y.view(), kGroups, c.module,
                                            weight.data(), bias.data(), 1e-3, BN2D_ACT_LEAKY_RELU,
                                            0.5, mask.data(), m.data(), s.data()));
        NUMERICS_OK(bn2d_group_norm_backward(x.view(), dy.view(), nullptr, mask.data(), kGroups,
                                             c.module, weight.data(), m.data(), s.data(),
                                             BN2D_ACT_LEAKY_RELU, 0.5, 0.25, dx.view(), dz.view(),
                                             dweight.data(), dbias.data()));
      }
      bits[flat] = {y.bits(), dx.bits(), dz.bits(), dweight.bits(), dbias.bits()};
    }
    CHECK(bits[0] == bits[1]);
    CHECK(mean[0] == mean[1]);
    CHECK(invstd[0] == invstd[1]);
    CHECK(std::count(mean[1].begin(), mean[1].end(), 7.0) == 0);
  }
}

// Catches: 64 weights for 3 channels, which a function with pointers alone cannot see.
TEST_CASE("flat: errors name the fact and both values", "[flat]") {
  float x[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, y[12] = {}, weight[64] = {};
  const auto forward = [&](int32_t dtype, int32_t layout, int64_t features) {
    return bn2d_batch_norm_forward_flat(dtype, layout, 2, 3, 1, 2, x, nullptr, y, BN2D_F32,
                                        features, weight, nullptr, nullptr, nullptr, 1, 0, 1e-5, 0,
                                        BN2D_ACT_NONE, 0, nullptr, nullptr, nullptr);
  };
  CHECK(forward(BN2D_F32, BN2D_NCHW, 3) == BN2D_OK);
  CHECK(forward(BN2D_F32, BN2D_NCHW, 64) == BN2D_ERROR_SHAPE);
  CHECK(std::string(bn2d_last_error()) == "x has 3 channels, the arrays have num_features 64");
  CHECK(forward(BN2D_F32, 3, 3) == BN2D_ERROR_INVALID_ARGUMENT);
  CHECK(std::string(bn2d_last_error()) == "layout is 3, known are NCHW (1) and NHWC (2)");
  CHECK(forward(99, BN2D_NCHW, 3) == BN2D_ERROR_DTYPE);
  const auto group_forward = [&](int64_t groups, int64_t features) {
    return bn2d_group_norm_forward_flat(BN2D_F32, BN2D_NCHW, 2, 3, 1, 2, x, nullptr, y, groups,
                                        BN2D_F32, features, weight, nullptr, 1e-5, BN2D_ACT_NONE, 0,
                                        nullptr, nullptr, nullptr);
  };
  const auto group_backward = [&](int64_t groups, int64_t features) {
    double saved[6] = {1, 1, 1, 1, 1, 1};
    return bn2d_group_norm_backward_flat(BN2D_F32, BN2D_NCHW, 2, 3, 1, 2, x, x, nullptr, nullptr,
                                         groups, BN2D_F32, features, weight, saved, saved,
                                         BN2D_ACT_NONE, 0, 0, y, nullptr, nullptr, nullptr);
  };
  for (const auto &call : {std::function<int32_t(int64_t, int64_t)>(group_forward),
                           std::function<int32_t(int64_t, int64_t)>(group_backward)}) {
    CHECK(call(3, 3) == BN2D_OK);
    CHECK(call(3, 64) == BN2D_ERROR_SHAPE);
    CHECK(std::string(bn2d_last_error()) == "x has 3 channels, the arrays have num_features 64");
    CHECK(call(2, 3) == BN2D_ERROR_SHAPE);
    CHECK(call(0, 3) == BN2D_ERROR_INVALID_ARGUMENT);
  }
  CHECK(forward(BN2D_I64, BN2D_NCHW, 3) == BN2D_ERROR_DTYPE);
}

// Catches: a length that is not compared, a scalar that is refused.
TEST_CASE("flat: tensors are copied from and to arrays", "[flat]") {
  Module module(3, ModuleOptions());
  bn2d_tensor *weight = nullptr, *counter = nullptr;
  REQUIRE(bn2d_module_tensor_by_name(module, "weight", &weight) == BN2D_OK);
  REQUIRE(bn2d_module_tensor_by_name(module, "num_batches_tracked", &counter) == BN2D_OK);
  const float from[3] = {1, 2, 3};
  float to[3] = {};
  int64_t count = 41;
  CHECK(bn2d_tensor_copy_from_flat(weight, BN2D_F32, from, 3) == BN2D_OK);
  CHECK(bn2d_tensor_copy_to_flat(weight, BN2D_F32, to, 3) == BN2D_OK);
  CHECK(std::equal(from, from + 3, to));
  CHECK(bn2d_tensor_copy_from_flat(counter, BN2D_I64, &count, 1) == BN2D_OK);
  count = 0;
  CHECK(bn2d_tensor_copy_to_flat(counter, BN2D_I64, &count, 1) == BN2D_OK);
  CHECK(count == 41);
  CHECK(bn2d_tensor_copy_from_flat(weight, BN2D_F32, from, 2) == BN2D_ERROR_SHAPE);
  CHECK(std::string(bn2d_last_error()) == "data has 2 elements, the tensor has 3");
  CHECK(bn2d_tensor_copy_from_flat(weight, 77, from, 3) == BN2D_ERROR_DTYPE);
  bn2d_tensor_release(weight);
  bn2d_tensor_release(counter);
}
