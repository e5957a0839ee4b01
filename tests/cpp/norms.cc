// GroupNorm, InstanceNorm2d and ghost batches: those of C, bit by bit, and what is a Module about
// them.
#include "cpp/twin.h"

using namespace bn2d_test;

namespace {

const bn2d::Shape kShape{3, 4, 5, 6};
constexpr size_t kElements = 3 * 4 * 5 * 6;

// No GroupNorm of one number, no conversion of one norm into another, and a Module where one is
// wanted.
static_assert(!std::is_constructible_v<bn2d::GroupNorm, int64_t>);
static_assert(!std::is_constructible_v<bn2d::GroupNorm, int64_t, bn2d::Options>);
static_assert(!std::is_constructible_v<bn2d::InstanceNorm2d, int64_t, bn2d::Options>);
static_assert(!std::is_convertible_v<bn2d::Module, bn2d::GroupNorm>);
static_assert(std::is_convertible_v<bn2d::GroupNorm &, bn2d::Module &>);
static_assert(std::is_convertible_v<bn2d::GroupNorm, bn2d::Module>);
static_assert(std::is_nothrow_move_constructible_v<bn2d::GroupNorm> &&
              !std::is_copy_constructible_v<bn2d::GroupNorm>);
static_assert(std::is_aggregate_v<bn2d::GroupNormOptions> &&
              std::is_aggregate_v<bn2d::InstanceNormOptions>);
static_assert(sizeof(bn2d::GroupNorm) == sizeof(bn2d::Module));

bn2d_options *options_with(bn2d::DType dtype) {
  bn2d_options *options = nullptr;
  REQUIRE(bn2d_options_create(&options) == BN2D_OK);
  REQUIRE(bn2d_options_set_eps(options, 0.5) == BN2D_OK);
  REQUIRE(bn2d_options_set_dtype(options, static_cast<int32_t>(dtype)) == BN2D_OK);
  return options;
}

// A step of training of both, and an eval after it; as any code that takes a Module.
void check_same(bn2d::Module &bn, bn2d_module *twin) {
  const bn2d::DType dtype = bn.dtype();
  Memory x(dtype, kElements, 1), z(dtype, kElements, 2), dy(dtype, kElements, 3);
  Memory y(dtype, kElements), dx(y), dz(y), cy(y), cdx(y), cdz(y);
  const auto v = [&](Memory &memory) { return bn2d::View(memory.bytes.data(), dtype, kShape); };
  const auto raw = [&](Memory &memory) { return c_view(v(memory)); };
  const auto record = bn.record(v(x), v(y), bn2d::relu, v(z));
  bn2d_record *c_record = nullptr;
  REQUIRE(bn2d_forward_act(twin, raw(x), raw(z), BN2D_ACT_RELU, 0, raw(cy), &c_record) == BN2D_OK);
  CHECK(y == cy);
  bn.backward(record, v(dy), v(dx), v(dz));
  REQUIRE(bn2d_backward(twin, c_record, raw(dy), raw(cdx), raw(cdz)) == BN2D_OK);
  CHECK(dx == cdx);
  CHECK(dz == cdz);
  bn2d_record_release(c_record);
  check_same_state(bn.get(), twin);
  bn.eval();
  REQUIRE(bn2d_module_eval(twin) == BN2D_OK);
  bn.infer(v(x), v(y));
  REQUIRE(bn2d_forward(twin, raw(x), raw(cy), nullptr) == BN2D_OK);
  CHECK(y == cy);
  bn2d_module_release(twin);
}

}  // namespace

TEST_CASE("cpp norms: those of C", "[cpp]") {
  // Catches arguments that are swapped, an option that is lost, and another function of C.
  for (const bn2d::DType dtype : {bn2d::DType::f32, bn2d::DType::f64}) {
    bn2d_options *const options = options_with(dtype);
    bn2d_module *twin = nullptr;
    {
      bn2d::GroupNormOptions o;
      o.eps = 0.5;
      o.dtype = dtype;
      bn2d::GroupNorm gn(2, 4, o);
      REQUIRE(bn2d_group_norm_create(2, 4, options, &twin) == BN2D_OK);
      check_same(gn, twin);
    }
    {
      bn2d::Options o;
      o.eps = 0.5;
      o.dtype = dtype;
      o.ghost_batch_size = 2;
      bn2d::Module ghosts(4, o);
      bn2d_options *const with_ghosts = options_with(dtype);
      REQUIRE(bn2d_options_set_ghost_batch_size(with_ghosts, 2) == BN2D_OK);
      REQUIRE(bn2d_module_create(4, with_ghosts, &twin) == BN2D_OK);
      check_same(ghosts, twin);
      bn2d_options_release(with_ghosts);
      CHECK(ghosts.num_batches_tracked() == 2);
    }
    for (const bool track : {false, true}) {
      bn2d::InstanceNormOptions o;
      o.eps = 0.5;
      o.momentum = 0.25;
      o.affine = true;
      o.track_running_stats = track;
      o.biased_running_var = true;
      o.dtype = dtype;
      bn2d::InstanceNorm2d in(4, o);
      REQUIRE(bn2d_options_set_momentum(options, 0.25) == BN2D_OK);
      REQUIRE(bn2d_options_set_affine(options, 1) == BN2D_OK);
      REQUIRE(bn2d_options_set_track_running_stats(options, track) == BN2D_OK);
      REQUIRE(bn2d_options_set_biased_running_var(options, 1) == BN2D_OK);
      REQUIRE(bn2d_instance_norm_create(4, options, &twin) == BN2D_OK);
      check_same(in, twin);
    }
    bn2d_options_release(options);
  }
}

TEST_CASE("cpp norms: what they are, and their defaults", "[cpp]") {
  // Catches a getter of something else, and defaults of batch norm.
  const bn2d::GroupNorm gn(2, 4);
  CHECK(gn.repr() == "GroupNorm(2, 4, eps=1e-05, affine=True, bias=True)");
  CHECK(gn.norm() == bn2d::Norm::group);
  CHECK(gn.num_groups() == 2);
  CHECK(gn.num_features() == 4);
  CHECK(gn.ghost_batch_size() == 0);
  CHECK(gn.tensors().size() == 2);
  CHECK_FALSE(gn.track_running_stats());

  bn2d::GroupNormOptions weight_only;
  weight_only.bias = false;
  weight_only.num_threads = 3;
  const bn2d::GroupNorm without_bias(1, 4, weight_only);
  CHECK(without_bias.tensors().size() == 1);
  CHECK(without_bias.num_threads() == 3);

  const bn2d::InstanceNorm2d in(4);
  CHECK(in.repr() ==
        "InstanceNorm2d(4, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False)");
  CHECK(in.norm() == bn2d::Norm::instance);
  CHECK(in.num_groups() == 0);
  CHECK(in.tensors().empty());
  bn2d::InstanceNormOptions all;
  all.momentum = std::nullopt;
  all.affine = true;
  all.track_running_stats = true;
  const bn2d::InstanceNorm2d tracks(4, all);
  CHECK(tracks.repr() ==
        "InstanceNorm2d(4, eps=1e-05, momentum=None, affine=True, track_running_stats=True)");

  bn2d::Options ghost;
  ghost.ghost_batch_size = 32;
  const bn2d::Module bn(4, ghost), plain(4);
  CHECK(bn.norm() == bn2d::Norm::batch);
  CHECK(bn.ghost_batch_size() == 32);
  CHECK(plain.ghost_batch_size() == 0);
}

TEST_CASE("cpp norms: a Module of any norm", "[cpp]") {
  // Catches a norm that loses its kind on the way.
  std::vector<bn2d::Module> layers;
  layers.emplace_back(4);
  layers.push_back(bn2d::GroupNorm(2, 4));
  layers.push_back(bn2d::InstanceNorm2d(4));
  CHECK(layers[1].norm() == bn2d::Norm::group);
  CHECK(layers[2].norm() == bn2d::Norm::instance);
  std::vector<float> x(kElements, 2.0f), y(kElements);
  for (bn2d::Module &layer : layers) {
    layer.forward({x, kShape}, {y, kShape});
    CHECK(y == std::vector<float>(kElements));
  }
}

TEST_CASE("cpp norms: what they refuse", "[cpp]") {
  // Catches a status that is dropped.
  const auto uneven = error_of([] { bn2d::GroupNorm gn(3, 4); });
  CHECK(uneven.status() == bn2d::Status::invalid_argument);
  CHECK(std::string(uneven.what()) == "num_channels is 4, no multiple of num_groups 3");
  CHECK(error_of([] { bn2d::InstanceNorm2d in(0); }).status() == bn2d::Status::invalid_argument);
  bn2d::Options o;
  o.ghost_batch_size = -1;
  CHECK(error_of([&] { bn2d::Module bn(4, o); }).status() == bn2d::Status::invalid_argument);
  bn2d::GroupNormOptions negative;
  negative.eps = -1;
  CHECK(error_of([&] { bn2d::GroupNorm gn(2, 4, negative); }).status() ==
        bn2d::Status::invalid_argument);
  bn2d::InstanceNorm2d in(4);
  std::vector<float> x(12), y(12);
  CHECK(error_of([&] {
          in.forward({x, {3, 4, 1, 1}}, {y, {3, 4, 1, 1}});
        }).status() == bn2d::Status::too_few_values);
}

TEST_CASE("cpp norms: a library before 1.3", "[cpp]") {
  // Catches a slot that is called where the table ends before it.
  bn2d_api older = bn2d::Library::linked().api();
  older.size = offsetof(bn2d_api, module_set_momentum);
  older.group_norm_create = nullptr;
  older.instance_norm_create = nullptr;
  older.module_norm = nullptr;
  older.module_num_groups = older.module_ghost_batch_size = nullptr;
  older.options_set_ghost_batch_size = nullptr;
  const bn2d::Library library(older);
  CHECK(error_of([&] { bn2d::GroupNorm gn(library, 2, 4); }).status() == bn2d::Status::state);
  CHECK(error_of([&] { bn2d::InstanceNorm2d in(library, 4); }).status() == bn2d::Status::state);
  bn2d::Options o;
  o.ghost_batch_size = 2;
  CHECK(error_of([&] { bn2d::Module bn(library, 4, o); }).status() == bn2d::Status::state);
  const bn2d::Module bn(library, 4);
  CHECK(bn.norm() == bn2d::Norm::batch);
  CHECK(bn.num_groups() == 0);
  CHECK(bn.ghost_batch_size() == 0);
}
