// Gradients against differences of the library's own forward and backward in f64: independent of
// every formula in support/oracle.h. And what accumulates, what a record keeps, what requires_grad
// switches off.
#include "support/differences.h"
#include "support/worst.h"

namespace {

using namespace numerics;

double largest(const Values &values) {
  double most = 0;
  for (double v : values) most = std::max(most, std::fabs(v));
  return most;
}

void check_gradient(const char *name, const Values &analytic, const Values &numeric) {
  REQUIRE(analytic.size() == numeric.size());
  double worst = 0;
  for (size_t i = 0; i < analytic.size(); ++i)
    worst = bn2d_test::worse(worst, std::fabs(analytic[i] - numeric[i]));
  INFO(name << ": largest deviation " << worst);
  CHECK(worst <= 1e-8 * std::max(1.0, largest(analytic)));
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (const Mode mode : {Mode::train, Mode::eval, Mode::no_track}) {
    for (const Activation &activation : {no_activation, relu, Activation{Activation::leaky, 0.1},
                                         Activation{Activation::leaky, -0.5}}) {
      for (const bool residual : {false, true}) {
        Case c;
        c.e = {2, 3, 2, 2};
        c.data = c.module = BN2D_F64;
        c.mode = mode;
        c.activation = activation;
        c.residual = residual;
        c.stateless = residual == (mode == Mode::train);
        c.affine = mode == Mode::no_track ? Affine::weight_only : Affine::full;
        cases.push_back(c);
      }
    }
  }
  return cases;
}

}  // namespace

// Catches: a wrong formula, in library and oracle alike.
TEST_CASE("gradients: backward is the derivative of forward", "[numerics][gradients]") {
  for (const Case &c : cases()) {
    Inputs in = inputs_between_kinks(c);
    const Outputs got = run(c, in);
    Case forward = c;
    forward.record = false;
    const auto loss = [&] { return dot(run(forward, in)["y"].values(), in.dy); };
    const auto numeric = [&](Values &values) {
      Values slopes;
      for (size_t i = 0; i < values.size(); ++i) slopes.push_back(slope_of(values, i, loss));
      return slopes;
    };
    INFO(describe(c));
    check_gradient("dx", got.at("dx").values(), numeric(in.x));
    if (c.residual) check_gradient("dz", got.at("dz").values(), numeric(in.z));
    if (c.has_weight()) check_gradient("dweight", got.at("dweight").values(), numeric(in.weight));
    if (c.has_bias()) check_gradient("dbias", got.at("dbias").values(), numeric(in.bias));
  }
}

// Catches, with dz in the loss: a ddz that is left out, or that does not go through the activation.
TEST_CASE("gradients: double backward is the derivative of backward", "[numerics][gradients]") {
  std::vector<Case> all = cases();
  for (const Case &c : cases()) {
    if (!c.residual) continue;
    all.push_back(c);
    all.back().loss_of_dz = true;
  }
  for (const Case &c : all) {
    Inputs in = inputs_between_kinks(c);
    const Outputs got = run(c, in);
    const auto loss = [&] {
      Outputs out = run(c, in);
      double sum = dot(out["dx"].values(), in.ddx) + dot(out["dweight"].values(), in.ddweight);
      if (c.has_bias()) sum += dot(out["dbias"].values(), in.ddbias);
      if (c.loss_of_dz) sum += dot(out["dz"].values(), in.ddz);
      return sum;
    };
    const auto numeric = [&](Values &values) {
      Values slopes;
      for (size_t i = 0; i < values.size(); ++i) slopes.push_back(slope_of(values, i, loss));
      return slopes;
    };
    INFO(describe(c));
    check_gradient("ddy", got.at("ddy").values(), numeric(in.dy));
    check_gradient("dx2", got.at("dx2").values(), numeric(in.x));
    check_gradient("dweight2", got.at("dweight2").values(), numeric(in.weight));
    if (c.loss_of_dz)
      check_gradient("dz2", got.at("dz2").values(), Values(in.z.size(), 0.0));  // no curves
  }
}

// Catches: overwriting for accumulating; a record that is used up; a gradient that is added with
// the wrong rounding.
TEST_CASE("gradients: they accumulate, and a record serves twice", "[numerics][gradients]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    const Extents e{3, 5, 6, 7};
    Random random(60);
    const Values a = channel_values(random, dtype, e), b = channel_values(random, dtype, e);
    const Values dya = normal_values(random, dtype, e.size()),
                 dyb = normal_values(random, dtype, e.size());
    Module module(e.c, [&] {
      ModuleOptions o;
      o.dtype = dtype;
      return o;
    }());
    Tensor xa(dtype, e, a), xb(dtype, e, b), y(dtype, e), da(dtype, e, dya), db(dtype, e, dyb),
        dx(dtype, e);
    Record first, second;
    NUMERICS_OK(bn2d_forward(module, xa.view(), y.view(), first.out()));
    NUMERICS_OK(bn2d_forward(module, xb.view(), y.view(), second.out()));

    NUMERICS_OK(bn2d_backward(module, first, da.view(), dx.view(), nullptr));
    const Values weight_a = module.get("weight.grad"), bias_a = module.get("bias.grad");
    const Bits dx_a = dx.bits();
    module.zero_grad();
    NUMERICS_OK(bn2d_backward(module, second, db.view(), dx.view(), nullptr));
    const Values weight_b = module.get("weight.grad"), bias_b = module.get("bias.grad");
    NUMERICS_OK(bn2d_backward(module, first, da.view(), dx.view(), nullptr));
    CHECK(first_difference(dx.bits(), dx_a) ==
          -1);  // the record of the first forward, used again after a second forward
    const Values weight_sum = module.get("weight.grad"), bias_sum = module.get("bias.grad");
    for (int64_t c = 0; c < e.c; ++c) {
      INFO(name_of(dtype, dtype) << " channel " << c);
      const auto near = [&](double sum, double p, double q) {
        const Real unit =
            oracle::ulp(format_of(dtype), std::max({std::fabs(p), std::fabs(q), std::fabs(sum)}));
        CHECK(std::fabs(sum - (p + q)) <= 2 * unit);  // p was rounded once, the sum once
      };
      near(weight_sum[c], weight_a[c], weight_b[c]);
      near(bias_sum[c], bias_a[c], bias_b[c]);
    }
    module.zero_grad();
    CHECK(module.get("weight.grad") == Values(e.c, 0.0));
    NUMERICS_OK(
        bn2d_backward(module, first, da.view(), nullptr, nullptr));  // dx not wanted: the same sums
    CHECK(module.get("weight.grad") == weight_a);
    CHECK(module.get("bias.grad") == bias_a);
    if (!is_half(dtype)) {
      NUMERICS_OK(bn2d_backward(module, first, da.view(), nullptr, nullptr));
      const Values twice = module.get("bias.grad");
      for (int64_t c = 0; c < e.c; ++c) {
        CHECK(std::fabs(twice[c] - 2 * bias_a[c]) <= oracle::ulp(format_of(dtype), 2 * bias_a[c]));
      }
    }
  }
}

// Catches: a gradient that is written although it is switched off; a switch that is read at
// forward, not at backward.
TEST_CASE("gradients: requires_grad off leaves the gradient untouched", "[numerics][gradients]") {
  const Extents e{3, 4, 6, 7};
  Random random(61);
  for (const Mode mode : {Mode::train, Mode::eval}) {
    const Values values = channel_values(random, BN2D_F32, e),
                 gradients = normal_values(random, BN2D_F32, e.size());
    Module module(e.c);
    if (mode == Mode::eval) module.eval();
    Tensor x(BN2D_F32, e, values), y(BN2D_F32, e), dy(BN2D_F32, e, gradients), dx(BN2D_F32, e),
        ddx(BN2D_F32, e, gradients);
    Record record;
    NUMERICS_OK(bn2d_forward(module, x.view(), y.view(), record.out()));
    NUMERICS_OK(bn2d_backward(module, record, dy.view(), dx.view(), nullptr));
    const Values weight = module.get("weight.grad"), bias = module.get("bias.grad");
    const Bits all = dx.bits();
    for (const char *const off : {"weight", "bias"}) {
      const std::string other = std::string(off) == "weight" ? "bias" : "weight";
      module.zero_grad();
      const Values marker = {7, 8, 9, 10};
      module.set((std::string(off) + ".grad").c_str(), marker);
      module.require_grad(off, false);
      NUMERICS_OK(bn2d_backward(module, record, dy.view(), dx.view(), nullptr));
      INFO(off << " off");
      CHECK(module.get((std::string(off) + ".grad").c_str()) == marker);
      CHECK(module.get((other + ".grad").c_str()) == (other == "weight" ? weight : bias));
      CHECK(first_difference(dx.bits(), all) == -1);
      module.zero_grad();
      module.set("weight.grad", marker);
      NUMERICS_OK(bn2d_double_backward(module, record, dy.view(), ddx.view(), nullptr, nullptr,
                                       nullptr, nullptr));
      CHECK((module.get("weight.grad") == marker) == (std::string(off) == "weight"));
      CHECK(module.get("bias.grad") == Values(e.c, 0.0));  // no second derivative by bias
      module.require_grad(off, true);
    }
  }
}

// Catches: a record that reads weight or running statistics at backward instead of keeping those of
// its forward.
TEST_CASE("gradients: a record keeps the weight and the statistics of its forward",
          "[numerics][gradients]") {
  const Extents e{3, 4, 6, 7};
  Random random(62);
  for (const Mode mode : {Mode::train, Mode::eval}) {
    const Values values = channel_values(random, BN2D_F32, e),
                 gradients = normal_values(random, BN2D_F32, e.size());
    Module module(e.c);
    module.set("weight", {1, 2, 3, 4});
    if (mode == Mode::eval) module.eval();
    Tensor x(BN2D_F32, e, values), y(BN2D_F32, e), dy(BN2D_F32, e, gradients), dx(BN2D_F32, e);
    Record record;
    NUMERICS_OK(bn2d_forward(module, x.view(), y.view(), record.out()));
    NUMERICS_OK(bn2d_backward(module, record, dy.view(), dx.view(), nullptr));
    const Bits before = dx.bits();
    const Values weight = module.get("weight.grad");
    module.zero_grad();
    module.set("weight", {9, 9, 9, 9});
    module.set("bias", {9, 9, 9, 9});
    module.set("running_mean", {9, 9, 9, 9});
    module.set("running_var", {9, 9, 9, 9});
    NUMERICS_OK(bn2d_module_train(module, mode == Mode::eval));
    NUMERICS_OK(bn2d_backward(module, record, dy.view(), dx.view(), nullptr));
    CHECK(first_difference(dx.bits(), before) == -1);
    CHECK(module.get("weight.grad") == weight);
  }
}

// Catches: a missing term where an argument is NULL (it means zero), an output that changes when
// another is not wanted.
TEST_CASE("gradients: what is NULL is zero or not wanted", "[numerics][gradients]") {
  for (const bool batch : {true, false}) {
    Case c;
    c.e = {3, 5, 6, 7};
    c.mode = batch ? Mode::train : Mode::eval;
    c.activation = relu;
    Inputs in = random_inputs(c, 63);
    expect(c, in);
    Module module(c.e.c);
    module.set("weight", in.weight);
    module.set("bias", in.bias);
    if (!batch) {
      module.set("running_mean", in.running_mean);
      module.set("running_var", in.running_var);
      module.eval();
    }
    Tensor x(BN2D_F32, c.e, in.x), y(BN2D_F32, c.e), dy(BN2D_F32, c.e, in.dy);
    Record record;
    NUMERICS_OK(
        bn2d_forward_act(module, x.view(), nullptr, BN2D_ACT_RELU, 0, y.view(), record.out()));
    for (int given = 0; given < 8; ++given) {
      Inputs part = in;
      if ((given & 1) == 0) part.ddx.assign(part.ddx.size(), 0.0);
      if ((given & 2) == 0) part.ddweight.assign(part.ddweight.size(), 0.0);
      if ((given & 4) == 0) part.ddbias.assign(part.ddbias.size(), 0.0);
      const Expected want = expect(c, part, true);
      Tensor ddx(BN2D_F32, c.e, part.ddx), ddy(BN2D_F32, c.e), dx2(BN2D_F32, c.e),
          alone(BN2D_F32, c.e);
      Array ddweight(BN2D_F32, part.ddweight), ddbias(BN2D_F32, part.ddbias);
      const auto call = [&](const bn2d_view *a, const bn2d_view *b) {
        return bn2d_double_backward(module, record, dy.view(),
                                    (given & 1) != 0 ? ddx.view() : nullptr,
                                    (given & 2) != 0 ? ddweight.data() : nullptr,
                                    (given & 4) != 0 ? ddbias.data() : nullptr, a, b);
      };
      module.zero_grad();
      NUMERICS_OK(call(ddy.view(), dx2.view()));
      const Outputs got = {{"ddy", {BN2D_F32, ddy.bits()}},
                           {"dx2", {BN2D_F32, dx2.bits()}},
                           {"dweight2", {BN2D_F32, module.bits("weight.grad")}}};
      INFO("given " << given << ", batch " << batch);
      check_case(c, want, got, "NULL: ");
      NUMERICS_OK(call(alone.view(), nullptr));
      CHECK(first_difference(alone.bits(), ddy.bits()) == -1);
      NUMERICS_OK(call(nullptr, alone.view()));
      CHECK(first_difference(alone.bits(), dx2.bits()) == -1);
    }
  }
}

// Catches: a mean that loses its low part on the way to backward or double backward. All data are
// integers, so what is added to them changes nothing but the mean, which no double holds.
TEST_CASE("gradients: of data far from zero as of those around it", "[numerics][gradients]") {
  const struct {
    int32_t dtype;
    double shift, tolerance;
  } kinds[] = {{BN2D_F32, 1 << 20, 1e-6}, {BN2D_F64, int64_t{1} << 40, 1e-14}};
  for (const auto &kind : kinds) {
    for (const Mode mode : {Mode::train, Mode::eval}) {
      Case c;
      c.e = {3, 4, 5, 7};
      c.data = c.module = kind.dtype;
      c.mode = mode;
      Inputs in = random_inputs(c, 64);
      Random random(65);
      for (double &v : in.x) v = std::floor(random.uniform(-4, 5));
      for (double &m : in.running_mean) m = std::floor(random.uniform(-4, 5));
      Inputs far = in;
      for (double &v : far.x) v += kind.shift;
      for (double &m : far.running_mean) m += kind.shift;
      const Outputs around = run(c, in), away = run(c, far);
      for (const char *name : {"y", "dx", "dweight", "ddy", "dx2", "dweight2"}) {
        const Values a = around.at(name).values(), b = away.at(name).values();
        double most = 0;
        for (size_t i = 0; i < a.size(); ++i) most = bn2d_test::worse(most, std::fabs(a[i] - b[i]));
        INFO(name << ", " << describe(c));
        CHECK(most <= kind.tolerance * largest(a));
      }
    }
  }
}
