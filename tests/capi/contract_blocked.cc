// Views of rank 5, (N, C/b, H, W, b): what is refused, and that nothing changes then. Their
// numbers: Layout::blocked in the numerical tests.
#include "support/contract_scene.h"

using namespace bn2d_test;

namespace {

struct Blocked {
  int64_t shape[5] = {2, 3, 3, 5, 2}, strides[5] = {90, 30, 10, 2, 1};  // (2, 6, 3, 5)
  bn2d_view view;
  explicit Blocked(const bn2d_view *like) : view(*like) {
    view.ndim = 5;
    view.shape = shape;
    view.strides = strides;
  }
};

}  // namespace

TEST_CASE("blocked views: faults are told, and nothing changes", "[views]") {
  // Catches a fifth extent that is taken for 1, a product of blocks that wraps around, a stride
  // that is not looked at.
  Scene scene;
  const Snapshot before = scene.snapshot();
  struct Fault {
    const char *name;
    void (*spoil)(Blocked &);
    int32_t status;
    std::vector<std::string> words;
  };
  const Fault faults[] = {
      {"channels", [](Blocked &b) { b.shape[4] = 3; }, BN2D_ERROR_SHAPE, {"9", "6"}},
      {"no block", [](Blocked &b) { b.shape[4] = 0; }, BN2D_ERROR_SHAPE, {"0", "6"}},
      {"block -2", [](Blocked &b) { b.shape[4] = -2; }, BN2D_ERROR_SHAPE, {"3", "-2"}},
      {"-3 blocks of -2",
       [](Blocked &b) { b.shape[1] = -3, b.shape[4] = -2; },
       BN2D_ERROR_SHAPE,
       {"-3", "-2"}},
      {"blocks that wrap around",
       [](Blocked &b) { b.shape[1] = b.shape[4] = int64_t{1} << 33; },
       BN2D_ERROR_OVERFLOW,
       {"8589934592"}},
      {"a negative stride of blocks",
       [](Blocked &b) { b.strides[1] = -30; },
       BN2D_ERROR_LAYOUT,
       {"-30", "blocks"}},
      {"a negative stride in a block",
       [](Blocked &b) { b.strides[4] = -1; },
       BN2D_ERROR_LAYOUT,
       {"-1"}},
      {"a stride that leaves 64 bits",
       [](Blocked &b) { b.strides[1] = INT64_MAX / 2; },
       BN2D_ERROR_OVERFLOW,
       {"blocks"}},
  };
  for (const Fault &fault : faults)
    for (const bool of_x : {true, false}) {
      Blocked x(scene.views["x"]), y(scene.views["y"]);
      fault.spoil(of_x ? x : y);
      check_fails(fault.name, fault.status, before, fault.words,
                  [&] { return bn2d_forward(scene.module.get(), &x.view, &y.view, nullptr); });
    }
  Blocked x(scene.views["x"]), y(scene.views["y"]);
  y.strides[1] = 29;  // the next block begins in this one
  check_fails("blocks that overlap", BN2D_ERROR_LAYOUT, before, {"blocks"},
              [&] { return bn2d_forward(scene.module.get(), &x.view, &y.view, nullptr); });
  y.view.data = x.view.data;
  y.strides[1] = 30, y.strides[4] = 1, y.strides[0] = 91;
  check_fails("an output beside its input", BN2D_ERROR_OVERLAP, before, {},
              [&] { return bn2d_forward(scene.module.get(), &x.view, &y.view, nullptr); });
}

TEST_CASE("blocked views: in place, and one block is any view", "[views]") {
  Scene scene, other;
  Blocked x(scene.views["x"]);
  x.view.strides = nullptr;
  std::vector<float> expected(180);
  Blocked y(scene.views["y"]);
  y.view.strides = nullptr;
  y.view.data = expected.data();
  y.view.byte_offset = 0;
  REQUIRE(bn2d_forward(scene.module.get(), &x.view, &y.view, nullptr) == BN2D_OK);
  REQUIRE(bn2d_forward(other.module.get(), &x.view, &x.view, nullptr) == BN2D_OK);
  CHECK(std::equal(expected.begin(), expected.end(), scene.data("x")));

  Blocked one(other.views["z"]), channels_last(other.views["z"]);
  one.shape[1] = 1, one.shape[4] = 6;
  one.view.strides = nullptr;
  channels_last.view.ndim = 4;
  channels_last.shape[1] = 6;
  const int64_t strides[] = {90, 1, 30, 6};
  std::copy(strides, strides + 4, channels_last.strides);
  std::vector<float> first(180), second(180);
  for (auto *memory : {&first, &second}) {
    Blocked &in = memory == &first ? one : channels_last;
    Blocked out = in;
    out.view.shape = out.shape;
    out.view.strides = in.view.strides == nullptr ? nullptr : out.strides;
    out.view.data = memory->data();
    out.view.byte_offset = 0;
    bn2d_module_eval(other.module.get());
    REQUIRE(bn2d_forward(other.module.get(), &in.view, &out.view, nullptr) == BN2D_OK);
  }
  CHECK(first == second);
}
