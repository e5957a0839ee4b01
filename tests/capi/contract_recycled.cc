// Records come from a pool: what one has kept from the forward before must not reach the backward
// of the next.
#include <limits>

#include "support/numerics_case.h"

namespace {

using namespace numerics;

// A forward that leaves a record of its own kind: with a side read from x, with a borrowed y, with
// a mask, with nothing. A pooled record goes from each of these to each.
struct Kind {
  const char *name;
  bool training, residual;
  int32_t activation;
  double slope;
};
constexpr Kind kKinds[] = {
    {"no activation", true, false, BN2D_ACT_NONE, 0},
    {"side from x", true, false, BN2D_ACT_RELU, 0},
    {"side from x, negative slope", true, false, BN2D_ACT_LEAKY_RELU, -0.5},
    {"borrowed y, residual", true, true, BN2D_ACT_RELU, 0},
    {"borrowed y, frozen", false, false, BN2D_ACT_LEAKY_RELU, 0.25},
    {"mask, residual", true, true, BN2D_ACT_LEAKY_RELU, -0.5},
    {"mask, frozen", false, false, BN2D_ACT_LEAKY_RELU, -2},
    {"no activation, frozen", false, true, BN2D_ACT_NONE, 0},
};

struct Gradients {
  Bits dx, dz, dweight, dbias;
  bool operator==(const Gradients &o) const {
    return dx == o.dx && dz == o.dz && dweight == o.dweight && dbias == o.dbias;
  }
};

class Bench {
 public:
  explicit Bench(uint64_t seed)
      : random_(seed),
        x_(BN2D_F32, kShape, channel_values(random_, BN2D_F32, kShape, 0.5)),
        z_(BN2D_F32, kShape, normal_values(random_, BN2D_F32, kShape.size())),
        dy_(BN2D_F32, kShape, normal_values(random_, BN2D_F32, kShape.size(), 0.25)),
        y_(BN2D_F32, kShape),
        dx_(BN2D_F32, kShape),
        dz_(BN2D_F32, kShape) {}

  Gradients run(Module &module, const Kind &kind) {
    NUMERICS_OK(bn2d_module_train(module, kind.training));
    NUMERICS_OK(bn2d_module_zero_grad(module));
    Record record;  // back into the pool at the end
    NUMERICS_OK(bn2d_forward_act(module, x_.view(), kind.residual ? z_.view() : nullptr,
                                 kind.activation, kind.slope, y_.view(), record.out()));
    NUMERICS_OK(bn2d_backward(module, record, dy_.view(), dx_.view(),
                              kind.residual ? dz_.view() : nullptr));
    return {dx_.bits(), kind.residual ? dz_.bits() : Bits(), module.bits("weight.grad"),
            module.bits("bias.grad")};
  }

  static constexpr Extents kShape{3, 5, 4, 7};

 private:
  Random random_;
  Tensor x_, z_, dy_, y_, dx_, dz_;
};

}  // namespace

// Catches: a record from the pool whose side, mask or y of the forward before is not cleared:
// backward then damps the gradient where the other activation was negative.
TEST_CASE("recycled: a record knows nothing of the forward before", "[records][recycled]") {
  for (const Kind &second : kKinds) {
    Gradients fresh;
    {
      Module module(Bench::kShape.c);
      fresh = Bench(62).run(module, second);
    }
    for (const Kind &first : kKinds) {
      INFO(first.name << ", then " << second.name);
      Module module(Bench::kShape.c);
      Bench(61).run(module, first);
      // Frozen statistics are those that the module was made with, whatever the first forward has
      // averaged in.
      NUMERICS_OK(bn2d_module_reset_running_stats(module));
      CHECK(Bench(62).run(module, second) == fresh);
    }
  }
}

// Catches: statistics or a mask that stay as large as the largest tensor of the forwards before, or
// as small.
TEST_CASE("recycled: a record fits the shape of its own forward", "[records][recycled]") {
  Module module(3);
  const auto gradients = [&](const Extents &e, const Kind &kind) {
    Random random(63);
    Tensor x(BN2D_F32, e, channel_values(random, BN2D_F32, e, 0.5)), y(BN2D_F32, e),
        dx(BN2D_F32, e);
    Tensor dy(BN2D_F32, e, normal_values(random, BN2D_F32, e.size()));
    NUMERICS_OK(bn2d_module_train(module, kind.training));
    Record record;
    NUMERICS_OK(bn2d_forward_act(module, x.view(), nullptr, kind.activation, kind.slope, y.view(),
                                 record.out()));
    NUMERICS_OK(bn2d_backward(module, record, dy.view(), dx.view(), nullptr));
    return dx.bits();
  };
  for (const Kind &kind : kKinds) {
    if (kind.residual) continue;
    INFO(kind.name);
    NUMERICS_OK(bn2d_module_reset_running_stats(module));
    const Bits small = gradients({1, 3, 3, 5}, kind);
    const Bits large = gradients({4, 3, 19, 23}, kind);
    NUMERICS_OK(bn2d_module_reset_running_stats(module));
    CHECK(gradients({1, 3, 3, 5}, kind) == small);
    NUMERICS_OK(bn2d_module_reset_running_stats(module));
    gradients({1, 3, 3, 5}, kind);
    CHECK(gradients({4, 3, 19, 23}, kind) == large);
  }
}
