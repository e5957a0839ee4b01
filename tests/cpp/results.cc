// The header without exceptions. Compiled with -fno-exceptions and linked into a program whose
// other files have them.
#include "cpp/results.h"

#include <bn2d/bn2d.hpp>
#include <cstring>
#include <type_traits>
#include <vector>

static_assert(std::is_same_v<decltype(bn2d::Module::create(1)), bn2d::Result<bn2d::Module>>);
static_assert(
    !std::is_constructible_v<bn2d::Module, int>);  // a constructor could not tell its failure
static_assert(
    std::is_same_v<decltype(bn2d::GroupNorm::create(1, 1)), bn2d::Result<bn2d::GroupNorm>>);
static_assert(!std::is_constructible_v<bn2d::GroupNorm, int, int> &&
              !std::is_constructible_v<bn2d::InstanceNorm2d, int>);

#define EXPECT(condition) \
  if (!(condition)) return __LINE__

int bn2d_test::line_without_exceptions() {
  auto made = bn2d::Module::create(2);
  EXPECT(made);
  EXPECT(made.status() == bn2d::Status::ok && std::strlen(made.message()) == 0);
  bn2d::Module bn = *std::move(made);
  std::vector<float> x{0, 2, 10, 30}, y(4), dx(4, 7.0f), c_y(4);
  const bn2d::Shape shape{1, 2, 1, 2};
  auto record = bn.record({x, shape}, {y, shape}, bn2d::relu);
  EXPECT(record);
  EXPECT(bn.backward(*record, {x, shape}, {dx, shape}));
  EXPECT(dx[0] != 7.0f);
  EXPECT(bn.eval());
  EXPECT(!bn.is_training());
  EXPECT(bn.infer({x, shape}, {y, shape}));
  EXPECT(bn2d_forward_f32(bn.get(), x.data(), 1, 1, 2, c_y.data(), nullptr) == BN2D_OK);
  EXPECT(y == c_y);
  EXPECT((*bn.weight_grad()).size() == 2 && bn.bias_grad()->data() != nullptr);
  EXPECT(*bn.num_batches_tracked() == 1);
  EXPECT(bn.tensors() && bn.tensors()->size() == 5);
  auto statistics = bn2d::Statistics::create(2);
  EXPECT(statistics && statistics->accumulate({x, shape}) && statistics->count() == 2);
  EXPECT(bn2d::Statistics::create(0).status() == bn2d::Status::invalid_argument);
  EXPECT(bn.set_running_stats(*statistics) && statistics->mean_var()->mean[1] == 20);
  EXPECT(bn.set_momentum(2.0).status() == bn2d::Status::invalid_argument);
  auto gn = bn2d::GroupNorm::create(2, 2);
  EXPECT(gn && gn->num_groups() == 2 && gn->forward({x, shape}, {y, shape}));
  EXPECT(bn2d::GroupNorm::create(2, 3).status() == bn2d::Status::invalid_argument);
  auto in = bn2d::InstanceNorm2d::create(2);
  EXPECT(in && in->norm() == bn2d::Norm::instance && in->tensors()->empty());
  EXPECT(bn2d::InstanceNorm2d::create(0).status() == bn2d::Status::invalid_argument);
  EXPECT(bn.repr() ==
         "BatchNorm2d(2, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)");

  const auto shape_error = bn.forward({x, {1, 4, 1, 1}}, {y, {1, 4, 1, 1}});
  EXPECT(!shape_error && shape_error.status() == bn2d::Status::shape);
  EXPECT(std::strcmp(shape_error.message(), "x has 4 channels, the module has num_features 2") ==
         0);
  const auto too_short = bn.forward({x, {2, 2, 1, 2}}, {y, shape});
  EXPECT(std::strcmp(too_short.message(), "x has 4 elements, shape (2, 2, 1, 2) needs 8") == 0);
  EXPECT(bn.tensor("gamma").status() == bn2d::Status::not_found);
  EXPECT(bn.weight<double>().status() == bn2d::Status::dtype);
  EXPECT(bn2d::Module::create(0).status() == bn2d::Status::invalid_argument);
  EXPECT(bn2d::Library::open("no such library").status() == bn2d::Status::not_found);
  bn2d::BatchNormForward f;
  f.x = {x, shape};
  f.y = {y, shape};
  f.weight = x;
  const auto stateless = bn2d::batch_norm_forward(f);
  EXPECT(std::strcmp(stateless.message(), "weight has 4 elements, x has 2 channels") == 0);
  bn2d::Module other = std::move(bn);
  EXPECT(bn.num_features() == 0 &&
         other.num_features() == 2);  // NOLINT: moved from, and no exception to say so
  EXPECT(bn.eval().status() == bn2d::Status::invalid_argument);
  return 0;
}
