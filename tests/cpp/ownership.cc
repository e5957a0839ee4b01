// Who owns what: moves, the order of destruction, handles that pass between C and C++, and what
// does not compile.
#include <memory>
#include <utility>

#include "cpp/twin.h"

using namespace bn2d_test;

namespace {

const bn2d::Shape kShape{1, 2, 1, 2};

template <class T>
constexpr bool kMovesOnly =
    std::conjunction_v<std::is_nothrow_move_constructible<T>, std::is_nothrow_move_assignable<T>,
                       std::negation<std::is_copy_constructible<T>>,
                       std::negation<std::is_copy_assignable<T>>>;
static_assert(kMovesOnly<bn2d::Module> && kMovesOnly<bn2d::Tensor> &&
              kMovesOnly<bn2d::ConstTensor>);
static_assert(kMovesOnly<bn2d::Record>);
static_assert(std::is_trivially_copyable_v<bn2d::Library> &&
              std::is_trivially_copyable_v<bn2d::View>);
static_assert(std::is_aggregate_v<bn2d::Options> && std::is_aggregate_v<bn2d::BatchNormForward>);

// A temporary container would be gone before the view is used; a pointer cannot be told from one
// that stays.
using Floats = std::vector<float>;
using bn2d::ConstView;
using bn2d::Shape;
using bn2d::View;
static_assert(std::is_constructible_v<ConstView, Floats &, Shape>);
static_assert(std::is_constructible_v<ConstView, const Floats &, Shape>);
static_assert(std::is_constructible_v<ConstView, float *, Shape> &&
              std::is_constructible_v<View, float *, Shape>);
static_assert(!std::is_constructible_v<ConstView, Floats, Shape> &&
              !std::is_constructible_v<View, Floats, Shape>);
static_assert(!std::is_constructible_v<ConstView, const Floats, Shape>);
static_assert(std::is_constructible_v<ConstView, bn2d::Span<float>, Shape>);
static_assert(!std::is_constructible_v<bn2d::ConstChannels, Floats>);
static_assert(!std::is_constructible_v<bn2d::Span<const double>, std::vector<double>>);

// What is const is not written, and a type without a dtype is no tensor.
static_assert(!std::is_constructible_v<View, const Floats &, Shape>);
static_assert(!std::is_constructible_v<View, const float *, Shape>);
static_assert(!std::is_convertible_v<ConstView, View> && std::is_convertible_v<View, ConstView>);
static_assert(!std::is_constructible_v<bn2d::Channels, const Floats &>);
static_assert(!std::is_constructible_v<ConstView, int *, Shape>);
static_assert(!std::is_constructible_v<ConstView, uint16_t *, Shape>);
static_assert(!std::is_constructible_v<bn2d::ConstChannels, float *>);  // how many?
static_assert(!std::is_constructible_v<bn2d::Span<double>, const std::vector<double> &>);

// Of a const module nothing is written, and no span of a temporary one.
using ConstValues = decltype(std::declval<const bn2d::Module &>().weight());
static_assert(std::is_same_v<ConstValues, bn2d::Span<const float>>);
static_assert(
    std::is_same_v<decltype(std::declval<const bn2d::Module &>().tensor("")), bn2d::ConstTensor>);
template <class M, class = void>
constexpr bool kHasWeight = false;
template <class M>
constexpr bool kHasWeight<M, std::void_t<decltype(std::declval<M>().weight())>> = true;
static_assert(kHasWeight<bn2d::Module &> && !kHasWeight<bn2d::Module>);
template <class M, class = void>
constexpr bool kTrains = false;
template <class M>
constexpr bool kTrains<M, std::void_t<decltype(std::declval<M>().forward(View(), View()))>> = true;
static_assert(kTrains<bn2d::Module &> && !kTrains<const bn2d::Module &>);

}  // namespace

TEST_CASE("cpp ownership: moves", "[cpp]") {
  // Catches a handle that is released twice, or used after its move.
  bn2d::Module first(2);
  first.weight()[0] = 3;
  bn2d::Module second(std::move(first));
  CHECK(second.weight()[0] == 3.0f);
  bn2d::Module third(5);
  third = std::move(second);
  CHECK(third.num_features() == 2);
  bn2d::Module &same = third;
  third = std::move(same);
  CHECK(third.num_features() == 2);
  try {
    (void)first.num_features();  // NOLINT: the point
    FAIL("a module that was moved from answered");
  } catch (const bn2d::Error &error) {
    CHECK(error.status() == bn2d::Status::invalid_argument);
    CHECK(std::string(error.what()).find("module is NULL") != std::string::npos);
  }
  std::vector<bn2d::Module> layers;
  for (int i = 1; i < 20; ++i) layers.emplace_back(i);
  for (int i = 1; i < 20; ++i) CHECK(layers[static_cast<size_t>(i) - 1].num_features() == i);
}

TEST_CASE("cpp ownership: any order", "[cpp]") {
  // Catches an object that needs another one at its end: the sanitizers see what the counts would
  // not.
  std::vector<float> x{1, 2, 30, 50}, y(4), dx(4);
  auto bn = std::make_unique<bn2d::Module>(2);
  auto record = std::make_unique<bn2d::Record>(bn->record({x, kShape}, {y, kShape}));
  CHECK(record->x().data() == x.data());
  CHECK(record->y().data() == y.data());
  auto weight = std::make_unique<bn2d::Tensor>(bn->tensor("weight"));
  auto grad = std::make_unique<bn2d::Tensor>(weight->grad());
  bn->backward(*record, {y, kShape}, {dx, kShape});
  bn.reset();
  CHECK(weight->span<float>()[1] == 1.0f);
  CHECK(grad->size() == 2);
  weight.reset();
  record.reset();
  CHECK(std::string(grad->name()) == "weight.grad");
}

namespace {

// A table that counts references: what was handed out and not yet given back.
int outstanding = 0;
int32_t handed_out(int32_t status) {
  outstanding += status == BN2D_OK;
  return status;
}

bn2d_api counting_table() {
  bn2d_api api = bn2d::Library::linked().api();
  api.options_create = [](bn2d_options **out) { return handed_out(bn2d_options_create(out)); };
  api.module_create = [](int64_t features, const bn2d_options *options, bn2d_module **out) {
    return handed_out(bn2d_module_create(features, options, out));
  };
  api.module_tensor_by_name = [](const bn2d_module *module, const char *name, bn2d_tensor **out) {
    return handed_out(bn2d_module_tensor_by_name(module, name, out));
  };
  api.module_tensor_at = [](const bn2d_module *module, int32_t index, bn2d_tensor **out) {
    return handed_out(bn2d_module_tensor_at(module, index, out));
  };
  api.tensor_grad = [](const bn2d_tensor *tensor, bn2d_tensor **out) {
    return handed_out(bn2d_tensor_grad(tensor, out));
  };
  api.forward_act = [](bn2d_module *module, const bn2d_view *x, const bn2d_view *z,
                       int32_t activation, double slope, const bn2d_view *y, bn2d_record **record) {
    const int32_t status = bn2d_forward_act(module, x, z, activation, slope, y, record);
    return record != nullptr ? handed_out(status) : status;
  };
  api.options_release = [](bn2d_options *options) { --outstanding, bn2d_options_release(options); };
  api.module_release = [](bn2d_module *module) { --outstanding, bn2d_module_release(module); };
  api.tensor_release = [](bn2d_tensor *tensor) { --outstanding, bn2d_tensor_release(tensor); };
  api.record_release = [](bn2d_record *record) { --outstanding, bn2d_record_release(record); };
  return api;
}

}  // namespace

TEST_CASE("cpp ownership: each reference is given back once", "[cpp]") {
  // Catches a leak, which the library's own pools hide from a leak checker.
  const bn2d_api api = counting_table();
  const bn2d::Library library(api);
  std::vector<float> x{1, 2, 30, 50}, y(4);
  {
    bn2d::Module bn(library, 2);
    CHECK(outstanding == 1);  // the options are gone
    auto record = bn.record({x, kShape}, {y, kShape});
    record = bn.record({x, kShape}, {y, kShape});
    auto weight = bn.tensor("weight");
    auto other = std::move(weight);
    other = other.grad();
    CHECK(outstanding == 3);  // module, record, tensor: what an assignment replaced is gone
    CHECK(bn.weight().size() == 2);
    CHECK(bn.tensors().size() == 5);
    CHECK_THROWS_AS(bn.tensor("gamma"), bn2d::Error);
    CHECK_THROWS_AS(bn.weight<double>(), bn2d::Error);
    CHECK_THROWS_AS(bn.record({x, {1, 4, 1, 1}}, {y, {1, 4, 1, 1}}), bn2d::Error);
    bn2d::Options wrong;
    wrong.eps = -1;
    CHECK_THROWS_AS(bn2d::Module(library, 2, wrong), bn2d::Error);
    CHECK_THROWS_AS(bn2d::Module(library, -2), bn2d::Error);
    bn = bn2d::Module(library, 3);
  }
  CHECK(outstanding == 0);
}

TEST_CASE("cpp ownership: from C and to C", "[cpp]") {
  bn2d_module *raw = nullptr;
  REQUIRE(bn2d_module_create(3, nullptr, &raw) == BN2D_OK);
  auto bn = bn2d::Module::adopt(bn2d::Library::linked(), raw);
  CHECK(bn.get() == raw);
  CHECK(bn.num_features() == 3);
  raw = bn.release();
  CHECK(bn.get() == nullptr);
  int64_t features = 0;
  CHECK(bn2d_module_num_features(raw, &features) == BN2D_OK);
  CHECK(features == 3);
  bn2d_module_release(raw);
}
