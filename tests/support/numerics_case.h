// One configuration of everything that the library can be asked for, run through the C ABI, and
// what the oracle says.
#pragma once
#include <functional>
#include <memory>
#include <sstream>

#include "support/numerics_fixture.h"

namespace numerics {

enum class Mode {
  train,
  eval,
  no_track
};  // no_track: no buffers, eval mode; batch statistics all the same
enum class Affine { full, weight_only, none };
enum class InPlace { no, x, z };            // y is ...
enum class GradientInPlace { no, dx, dz };  // dy is ...; dx: in double backward ddy is dy

struct Case {
  Extents e{1, 1, 1, 1};
  int32_t data = BN2D_F32, module = BN2D_F32;
  Mode mode = Mode::train;
  Affine affine = Affine::full;
  Activation activation{};
  bool residual = false;
  InPlace in_place = InPlace::no;
  GradientInPlace gradient_in_place = GradientInPlace::no;
  bool stateless = false, mask = false;  // stateless: by the activation's mask, not by y
  bool plain = false;                    // the functions on plain pointers, where they can do it
  bool biased = false;
  bool loss_of_dz = false;  // the loss of double backward depends on dz, whatever the activation
  bool record = true;       // and backward and double backward, where it can be
  double eps = 1e-5, momentum = 0.1;
  // Layouts of x and ddx, of y and dy, of z and ddz, of dx and ddy, of dz and the second dx and dz.
  Layout x = Layout::nchw, y = Layout::nchw, z = Layout::nchw, dx = Layout::nchw, dz = Layout::nchw;
  uint64_t placement = 0;  // seed of the placements; 0: nothing unusual

  bool batch() const { return mode != Mode::eval; }
  bool has_weight() const { return affine != Affine::none; }
  bool has_bias() const { return affine == Affine::full; }
  // In place of x the backward has no x: no gradient of weight, and none at all on batch
  // statistics.
  bool x_lost() const { return in_place == InPlace::x; }
  // Of a pointwise activation backward reads x and z.
  bool backward() const {
    if (activation.pointwise()) return record && in_place == InPlace::no;
    return record && !(x_lost() && batch());
  }
  bool double_backward() const { return backward() && !x_lost(); }
  // By bn2d_double_backward_act() or its stateless twin, which have the residual's part, too.
  bool double_backward_act() const {
    return loss_of_dz || (activation.pointwise() && (stateless || residual));
  }
  bool weight_gradient() const { return (stateless || has_weight()) && !x_lost(); }
  bool bias_gradient() const { return stateless || has_bias(); }
  bool needs_mask() const {
    return activation.kind != Activation::none && !activation.pointwise() &&
           (mask || (activation.kind == Activation::leaky && activation.slope < 0));
  }
};

// Of one dtype; the running statistics become those of the batch.
inline Case module_case(const Extents &e, int32_t dtype, double eps = 1e-5) {
  Case c;
  c.e = e;
  c.data = c.module = dtype;
  c.eps = eps;
  c.momentum = 1;
  return c;
}
inline Case stateless_case(const Extents &e, int32_t dtype, double eps = 1e-5) {
  Case c = module_case(e, dtype, eps);
  c.stateless = true;
  return c;
}

inline std::string describe(const Case &c) {
  std::ostringstream text;
  const char *const modes[] = {"train", "eval", "no_track"}, *const affines[] = {
                                                                 "full", "weight_only", "none"};
  const char *const places[] = {"no", "x", "z"}, *const gradient_places[] = {"no", "dx", "dz"};
  text << name_of(c.data, c.module) << " " << c.e.n << "x" << c.e.c << "x" << c.e.h << "x" << c.e.w
       << " " << modes[static_cast<int>(c.mode)]
       << " affine=" << affines[static_cast<int>(c.affine)] << " act=" << c.activation.kind << "("
       << c.activation.slope << ")"
       << " residual=" << c.residual << " in_place=" << places[static_cast<int>(c.in_place)]
       << " dy_is=" << gradient_places[static_cast<int>(c.gradient_in_place)]
       << (c.stateless ? " stateless" : " module") << (c.mask ? " mask" : "")
       << (c.plain ? " plain" : "") << " x=" << name_of(c.x) << " y=" << name_of(c.y)
       << " z=" << name_of(c.z) << " dx=" << name_of(c.dx) << " dz=" << name_of(c.dz)
       << " placement=" << c.placement;
  return text.str();
}

inline Inputs random_inputs(const Case &c, uint64_t seed) {
  Random random(seed);
  Inputs in;
  in.x = channel_values(random, c.data, c.e);
  in.z = normal_values(random, c.data, c.e.size());
  in.dy = normal_values(random, c.data, c.e.size(), 0.25);
  in.ddx = normal_values(random, c.data, c.e.size(), -0.5);
  in.weight = normal_values(random, c.module, c.e.c, 1, 0.5);
  in.bias = normal_values(random, c.module, c.e.c, 0, 0.5);
  in.running_mean = normal_values(random, c.module, c.e.c, 0, 2);
  for (int64_t i = 0; i < c.e.c; ++i)
    in.running_var.push_back(rounded(c.module, random.uniform(0.25, 4)));
  in.ddweight = normal_values(random, c.module, c.e.c);
  in.ddbias = normal_values(random, c.module, c.e.c);
  in.ddz = normal_values(random, c.data, c.e.size(), 0.125);
  return in;
}

// -------------------------------------------------------------------------------------------------
// expected

struct Expected {
  oracle::Statistics statistics;
  oracle::Forward forward;
  Reals running_mean, running_var, running_mean_scale, running_var_scale;
  oracle::Gradient gradient;
  oracle::DoubleGradient double_gradient;
  std::vector<bool>
      edge;  // elements where rounding decides on which side of the activation they are
};

// Elements on the edge get dy = 0, so that their side changes no gradient but their own ddy.
inline void silence_edges(const Case &c, Inputs &in, Expected &out) {
  out.edge.clear();
  if (c.activation.kind == Activation::none) return;
  out.edge.resize(in.x.size());
  for (int64_t ch = 0; ch < c.e.c; ++ch) {
    const Real near = 16 * oracle::ulp(arithmetic_of(c.data), out.forward.scale[ch]);
    oracle::for_channel(c.e, ch, [&](int64_t i) {
      const Real v = out.forward.v[i];
      for (const Real kink : c.activation.kinks())
        if (std::fabs(v - kink) <= near || (kink == 0 && rounded(c.data, v / 16) == 0))
          out.edge[i] = true;
      if (out.edge[i]) in.dy[i] = 0;
    });
  }
}

inline Expected expect(const Case &c, Inputs &in, bool silence = true) {
  Expected out;
  const Values none, &weight = c.has_weight() ? in.weight : none,
                     &bias = c.has_bias() ? in.bias : none;
  const Values &z = c.residual ? in.z : none;
  out.statistics = c.batch() ? oracle::batch_statistics(c.e, in.x, c.eps)
                             : oracle::frozen_statistics(in.running_mean, in.running_var, c.eps);
  out.forward = oracle::forward(c.e, in.x, z, weight, bias, out.statistics, c.activation);
  if (silence) silence_edges(c, in, out);
  if (c.mode == Mode::train) {
    const auto note = [&](double old, Real value, Real magnitude, Reals &result, Reals &scale) {
      result.push_back(oracle::running(old, value, c.momentum));
      scale.push_back(std::max<Real>(
          {std::fabs((1 - c.momentum) * old), c.momentum * magnitude, std::fabs(result.back())}));
    };
    for (int64_t i = 0; i < c.e.c; ++i) {
      const Real var = c.biased ? out.statistics.var[i]
                                : oracle::unbiased(out.statistics.var[i], c.e.per_channel());
      note(in.running_mean[i], out.statistics.mean[i],
           oracle::promised_mean_scale(out.statistics, static_cast<size_t>(i), c.data == BN2D_F64),
           out.running_mean, out.running_mean_scale);
      note(in.running_var[i], var, var, out.running_var, out.running_var_scale);
    }
  }
  if (!c.backward()) return out;
  const Reals g = oracle::through(c.activation, out.forward.v, in.dy);
  out.gradient = oracle::backward(c.e, in.x, g, weight, out.statistics, c.batch());
  if (c.activation.pointwise())
    oracle::widen(c.e, out.forward, in.dy, in.x, weight, out.statistics, &out.gradient);
  if (!c.double_backward()) return out;
  const Values &ddweight = c.has_weight() ? in.ddweight : none,
               &ddbias = c.has_bias() ? in.ddbias : none;
  out.double_gradient =
      c.activation.pointwise() || c.double_backward_act()
          ? oracle::double_backward_through(
                c.e, in.x, in.dy, weight, out.statistics, c.batch(), c.activation, out.forward,
                in.ddx, c.double_backward_act() ? in.ddz : none, ddweight, ddbias)
          : oracle::double_backward(c.e, in.x, g, weight, out.statistics, c.batch(), c.activation,
                                    out.forward.v, in.ddx, ddweight, ddbias);
  return out;
}

// -------------------------------------------------------------------------------------------------
// run

struct Output {
  int32_t dtype = BN2D_F64;
  Bits bits;
  Values values() const {
    Values values;
    values.reserve(bits.size());
    for (uint64_t b : bits) values.push_back(decode(dtype, b));
    return values;
  }
};
// By name: y, running_mean, running_var, saved_mean, saved_invstd, dx, dz, dweight, dbias, ddy,
// dx2, dz2, dweight2, dbias2.
using Outputs = std::map<std::string, Output>;

// Makes each call of an operation, by name: on another thread, with traps on, ...
using Around = std::function<int32_t(const char *function, const std::function<int32_t()> &call)>;
inline int32_t call_plainly(const char *, const std::function<int32_t()> &call) { return call(); }

inline ModuleOptions options_of(const Case &c) {
  ModuleOptions options;
  options.dtype = c.module;
  options.eps = c.eps;
  options.momentum = c.momentum;
  options.affine = c.has_weight();
  options.bias = c.has_bias();
  options.track = c.mode != Mode::no_track;
  options.biased = c.biased;
  return options;
}

class Runner {
 public:
  Runner(const Case &c, const Inputs &in, const Around &around)
      : c_(c), in_(in), around_(around), random_(c.placement) {}

  Outputs run() {
    const auto x = tensor(c_.x, &in_.x);
    const auto z = c_.residual ? tensor(c_.z, &in_.z) : nullptr;
    const auto y = c_.in_place == InPlace::x        ? x
                   : c_.in_place == InPlace::z && z ? z
                                                    : tensor(c_.y, nullptr);
    const auto dy = tensor(c_.y, &in_.dy);
    const bool dx_is_dy = c_.gradient_in_place == GradientInPlace::dx;
    const auto dx = dx_is_dy ? dy : tensor(c_.dx, nullptr);
    const auto dz = !c_.residual                                  ? nullptr
                    : c_.gradient_in_place == GradientInPlace::dz ? dy
                                                                  : tensor(c_.dz, nullptr);
    const auto ddx = tensor(c_.x, &in_.ddx);
    const auto ddy = dx_is_dy ? dy : tensor(c_.dx, nullptr), dx2 = tensor(c_.dz, nullptr);
    if (c_.double_backward() && c_.double_backward_act()) {
      dz2_ = tensor(c_.dz, nullptr);
      if (!in_.ddz.empty()) ddz_ = tensor(c_.z, &in_.ddz);
    }
    const auto memory = [](const std::shared_ptr<Tensor> &t) {
      return t != nullptr ? t->memory() : std::vector<uint8_t>();
    };
    const auto x_before = memory(x), z_before = memory(z), ddx_before = memory(ddx),
               dy_before = memory(dy);
    if (c_.stateless) {
      without_module(x.get(), z.get(), y.get(), dy.get(), dx.get(), dz.get(), ddx.get(), ddy.get(),
                     dx2.get());
    } else {
      with_module(x.get(), z.get(), y.get(), dy.get(), dx.get(), dz.get(), ddx.get(), ddy.get(),
                  dx2.get());
    }
    for (const auto &t : {y, dx, dz, ddy, dx2, dz2_}) {
      if (t != nullptr && !t->gaps_intact()) FAIL_CHECK("memory beside a tensor has changed");
    }
    if (y != x && memory(x) != x_before) FAIL_CHECK("x has changed");
    if (y != z && memory(z) != z_before) FAIL_CHECK("z has changed");
    if (memory(ddx) != ddx_before) FAIL_CHECK("ddx has changed");
    if (dx != dy && dz != dy && memory(dy) != dy_before) FAIL_CHECK("dy has changed");
    return std::move(out_);
  }

 private:
  std::shared_ptr<Tensor> tensor(Layout layout, const Values *values) {
    Placement p;
    if (c_.placement != 0) p = {random_.below(5), random_.coin(), random_.coin(), random_.coin()};
    auto t = std::make_shared<Tensor>(c_.data, c_.e, layout, p);
    if (values != nullptr && !values->empty()) t->set(*values);  // empty: nobody looks at it
    return t;
  }
  static const bn2d_view *view(Tensor *t) { return t == nullptr ? nullptr : t->view(); }
  void keep(const char *name, Tensor *t) { out_[name] = {t->dtype(), t->bits()}; }
  bool plain() const {
    return c_.plain && c_.data == c_.module && !is_half(c_.data) && c_.x == Layout::nchw &&
           c_.y == Layout::nchw && c_.dx == Layout::nchw;
  }

  void with_module(Tensor *x, Tensor *z, Tensor *y, Tensor *dy, Tensor *dx, Tensor *dz, Tensor *ddx,
                   Tensor *ddy, Tensor *dx2) {
    const ModuleOptions options = options_of(c_);
    Module module(c_.e.c, options);
    if (c_.has_weight()) module.set("weight", in_.weight);
    if (c_.has_bias()) module.set("bias", in_.bias);
    if (options.track)
      module.set("running_mean", in_.running_mean), module.set("running_var", in_.running_var);
    if (c_.mode != Mode::train) module.eval();

    Record record;
    bn2d_record **out = c_.backward() ? record.out() : nullptr;
    const bool fused = c_.residual || c_.activation.kind != Activation::none;
    const auto &e = c_.e;
    if (fused || (c_.placement % 5) == 1) {
      NUMERICS_OK(around_("bn2d_forward_act", [&] {
        return bn2d_forward_act(module, x->view(), view(z), c_.activation.kind, c_.activation.slope,
                                y->view(), out);
      }));
    } else if (plain() && c_.data == BN2D_F32) {
      NUMERICS_OK(around_("bn2d_forward_f32", [&] {
        return bn2d_forward_f32(module, x->as<float>(), e.n, e.h, e.w, y->as<float>(), out);
      }));
    } else if (plain()) {
      NUMERICS_OK(around_("bn2d_forward_f64", [&] {
        return bn2d_forward_f64(module, x->as<double>(), e.n, e.h, e.w, y->as<double>(), out);
      }));
    } else {
      NUMERICS_OK(
          around_("bn2d_forward", [&] { return bn2d_forward(module, x->view(), y->view(), out); }));
    }
    keep("y", y);
    if (c_.mode == Mode::train) {
      out_["running_mean"] = {c_.module, module.bits("running_mean")};
      out_["running_var"] = {c_.module, module.bits("running_var")};
      if (module.batches() != 1)
        FAIL_CHECK("one forward has counted " << module.batches() << " times");
    } else if (options.track && (module.get("running_mean") != in_.running_mean ||
                                 module.get("running_var") != in_.running_var)) {
      FAIL_CHECK("eval has changed a running statistic");
    }
    if (!c_.backward()) return;

    if (c_.has_weight() && !c_.weight_gradient()) module.require_grad("weight", false);
    if (plain() && !fused && c_.data == BN2D_F32) {
      NUMERICS_OK(around_("bn2d_backward_f32", [&] {
        return bn2d_backward_f32(module, record, dy->as<float>(), dx->as<float>());
      }));
    } else if (plain() && !fused) {
      NUMERICS_OK(around_("bn2d_backward_f64", [&] {
        return bn2d_backward_f64(module, record, dy->as<double>(), dx->as<double>());
      }));
    } else {
      NUMERICS_OK(around_("bn2d_backward", [&] {
        return bn2d_backward(module, record, dy->view(), dx->view(), view(dz));
      }));
    }
    keep("dx", dx);
    if (dz != nullptr) keep("dz", dz);
    if (c_.weight_gradient()) out_["dweight"] = {c_.module, module.bits("weight.grad")};
    if (c_.bias_gradient()) out_["dbias"] = {c_.module, module.bits("bias.grad")};
    if (!c_.double_backward()) return;

    module.zero_grad();
    if (!in_.dy.empty()) dy->set(in_.dy);
    Array ddweight = c_.has_weight() ? Array(c_.module, in_.ddweight) : Array();
    Array ddbias = c_.has_bias() ? Array(c_.module, in_.ddbias) : Array();
    if (c_.double_backward_act()) {
      NUMERICS_OK(around_("bn2d_double_backward_act", [&] {
        return bn2d_double_backward_act(module, record, dy->view(), ddx->view(), view(ddz_.get()),
                                        ddweight.data(), ddbias.data(), ddy->view(), dx2->view(),
                                        dz2_->view());
      }));
      keep("dz2", dz2_.get());
    } else {
      NUMERICS_OK(around_("bn2d_double_backward", [&] {
        return bn2d_double_backward(module, record, dy->view(), ddx->view(), ddweight.data(),
                                    ddbias.data(), ddy->view(), dx2->view());
      }));
    }
    keep("ddy", ddy);
    keep("dx2", dx2);
    if (c_.has_weight()) out_["dweight2"] = {c_.module, module.bits("weight.grad")};
    if (c_.has_bias()) out_["dbias2"] = {c_.module, module.bits("bias.grad")};
  }

  void without_module(Tensor *x, Tensor *z, Tensor *y, Tensor *dy, Tensor *dx, Tensor *dz,
                      Tensor *ddx, Tensor *ddy, Tensor *dx2) {
    const auto array = [&](bool exists, const Values &values) {
      return exists ? Array(c_.module, values) : Array();
    };
    const auto channels = static_cast<size_t>(c_.e.c);
    const Values nans(channels, std::numeric_limits<double>::quiet_NaN());  // what must not be read
    Array weight = array(c_.has_weight(), in_.weight), bias = array(c_.has_bias(), in_.bias);
    Array running_mean = array(c_.mode != Mode::no_track, in_.running_mean);
    Array running_var = array(c_.mode != Mode::no_track, in_.running_var);
    Array saved_mean(BN2D_F64, nans), saved_invstd(BN2D_F64, nans);
    uint64_t mask_bytes = 0;
    NUMERICS_OK(bn2d_mask_nbytes(c_.e.n, c_.e.c, c_.e.h, c_.e.w, &mask_bytes));
    std::vector<uint8_t> mask(mask_bytes + 1, 0xEE);
    uint8_t *mask_or_null = c_.needs_mask() ? mask.data() : nullptr;
    const bool by_y =
        c_.activation.kind != Activation::none && !c_.activation.pointwise() && !c_.needs_mask();
    const auto doubles = [](Array &a) { return static_cast<double *>(a.data()); };

    NUMERICS_OK(around_("bn2d_batch_norm_forward", [&] {
      return bn2d_batch_norm_forward(
          x->view(), view(z), y->view(), c_.module, weight.data(), bias.data(), running_mean.data(),
          running_var.data(), c_.batch(), c_.momentum, c_.eps,
          c_.biased ? BN2D_FLAG_BIASED_RUNNING_VAR : 0, c_.activation.kind, c_.activation.slope,
          mask_or_null, doubles(saved_mean), doubles(saved_invstd));
    }));
    if (mask.back() != 0xEE) FAIL_CHECK("the byte after the mask has changed");
    keep("y", y);
    if (c_.mode == Mode::train) {
      out_["running_mean"] = {c_.module, running_mean.bits()};
      out_["running_var"] = {c_.module, running_var.bits()};
    }
    out_["saved_mean"] = {BN2D_F64, saved_mean.bits()};
    out_["saved_invstd"] = {BN2D_F64, saved_invstd.bits()};
    if (!c_.backward()) return;

    Array dweight(c_.module, nans), dbias(c_.module, nans), dweight2(c_.module, nans);
    const bn2d_view *x_or_null = c_.x_lost() ? nullptr : x->view();
    const bn2d_view *y_or_null = by_y ? y->view() : nullptr;
    const double *const mean_or_null = c_.x_lost() ? nullptr : doubles(saved_mean);
    void *const dweight_or_null = c_.weight_gradient() ? dweight.data() : nullptr;
    if (c_.activation.pointwise() || c_.placement % 2 == 1) {
      NUMERICS_OK(around_("bn2d_batch_norm_backward_act", [&] {
        return bn2d_batch_norm_backward_act(
            x_or_null, view(z), dy->view(), y_or_null, mask_or_null, c_.module, weight.data(),
            bias.data(), mean_or_null, doubles(saved_invstd), c_.batch(), c_.activation.kind,
            c_.activation.slope, 0, dx->view(), view(dz), dweight_or_null, dbias.data());
      }));
    } else {
      NUMERICS_OK(around_("bn2d_batch_norm_backward", [&] {
        return bn2d_batch_norm_backward(x_or_null, dy->view(), y_or_null, mask_or_null, c_.module,
                                        weight.data(), mean_or_null, doubles(saved_invstd),
                                        c_.batch(), c_.activation.kind, c_.activation.slope, 0,
                                        dx->view(), view(dz), dweight_or_null, dbias.data());
      }));
    }
    keep("dx", dx);
    if (dz != nullptr) keep("dz", dz);
    if (c_.weight_gradient()) out_["dweight"] = {c_.module, dweight.bits()};
    out_["dbias"] = {c_.module, dbias.bits()};
    if (!c_.double_backward()) return;

    if (!in_.dy.empty()) dy->set(in_.dy);
    // Only for what exists, as a module has it, so that both ways compute the same.
    Array ddweight = array(c_.has_weight(), in_.ddweight),
          ddbias = array(c_.has_bias(), in_.ddbias);
    if (c_.double_backward_act()) {
      Array dbias2(c_.module, nans);
      NUMERICS_OK(around_("bn2d_batch_norm_double_backward_act", [&] {
        return bn2d_batch_norm_double_backward_act(
            x->view(), view(z), dy->view(), y_or_null, mask_or_null, c_.module, weight.data(),
            bias.data(), doubles(saved_mean), doubles(saved_invstd), c_.batch(), c_.activation.kind,
            c_.activation.slope, ddx->view(), view(ddz_.get()), ddweight.data(), ddbias.data(), 0,
            ddy->view(), dx2->view(), dz2_->view(), dweight2.data(), dbias2.data());
      }));
      keep("dz2", dz2_.get());
      out_["dbias2"] = {c_.module, dbias2.bits()};
    } else {
      NUMERICS_OK(around_("bn2d_batch_norm_double_backward", [&] {
        return bn2d_batch_norm_double_backward(
            x->view(), dy->view(), y_or_null, mask_or_null, c_.module, weight.data(),
            doubles(saved_mean), doubles(saved_invstd), c_.batch(), c_.activation.kind,
            c_.activation.slope, ddx->view(), ddweight.data(), ddbias.data(), 0, ddy->view(),
            dx2->view(), dweight2.data());
      }));
    }
    keep("ddy", ddy);
    keep("dx2", dx2);
    out_["dweight2"] = {c_.module, dweight2.bits()};
  }

  const Case &c_;
  const Inputs &in_;
  const Around &around_;
  Random random_;
  std::shared_ptr<Tensor> ddz_, dz2_;  // of double_backward_act()
  Outputs out_;
};

inline Outputs run(const Case &c, const Inputs &in, const Around &around = call_plainly) {
  return Runner(c, in, around).run();
}

// -------------------------------------------------------------------------------------------------
// judge

// Saved statistics are doubles; what is promised of them is that they are right once they are
// rounded.
inline bool check_saved(const std::string &dtypes, const std::string &group, bool f64,
                        const oracle::Statistics &want, const Outputs &got, Real of_mean) {
  if (got.count("saved_mean") == 0) return true;
  const int32_t precision = f64 ? BN2D_F64 : BN2D_F32;
  const auto close = [&](const char *name, const Reals &values, const Reals &scale, Real limit) {
    Values narrow;
    for (double v : got.at(name).values()) narrow.push_back(rounded(precision, v));
    const auto sets = static_cast<int64_t>(values.size());
    return check_close(dtypes, group + name, precision,
                       compare(precision, sets, 1, narrow, values, scale), limit);
  };
  Reals scale;
  for (size_t i = 0; i < want.mean.size(); ++i)
    scale.push_back(oracle::promised_mean_scale(want, i, f64));
  const bool mean = close("saved_mean", want.mean, scale, of_mean);
  return close("saved_invstd", want.invstd, want.invstd, 2) && mean;
}

// Compares all outputs with the oracle, within the bounds. True where all is well. `group`
// separates rows of the table.
inline bool check_case(const Case &c, const Expected &want, const Outputs &got,
                       const std::string &group = "") {
  const std::string dtypes = name_of(c.data, c.module);
  const Real bound = bound_of(c.module);
  bool good = true;
  const auto element = [&](const char *name, const Reals &values, const Reals &scale,
                           const std::vector<bool> &ignore) {
    const auto found = got.find(name);
    if (found == got.end()) return;
    good &= check_close(
        dtypes, group + name, c.data,
        compare(c.data, c.e.c, c.e.plane(), found->second.values(), values, scale, ignore), bound);
  };
  const auto channel = [&](const char *name, int32_t dtype, const Reals &values, const Reals &scale,
                           Real limit) {
    const auto found = got.find(name);
    if (found == got.end()) return;
    good &= check_close(dtypes, group + name, dtype,
                        compare(dtype, c.e.c, 1, found->second.values(), values, scale), limit);
  };
  const std::vector<bool> nothing;
  element("y", want.forward.y, want.forward.scale, nothing);
  // 1 ulp. In f64 there is no wider arithmetic for the products and the sum around a mean or
  // variance that has 1 ulp.
  const bool f64 = c.module == BN2D_F64;
  const Real of_mean = group == "systematic: " && !f64
                           ? 2
                           : 1;  // roundings that all go the same way do not average out
  channel("running_mean", c.module, want.running_mean, want.running_mean_scale,
          f64 && c.momentum != 1 ? 3 : of_mean);
  channel("running_var", c.module, want.running_var, want.running_var_scale,
          f64 ? (c.momentum != 1 ? 3 : 1) : 4);
  good &= check_saved(dtypes, group, f64, want.statistics, got, of_mean);
  element("dx", want.gradient.dx, want.gradient.dx_scale, nothing);
  element("dz", want.gradient.dz, want.gradient.dz_scale, nothing);
  // Where one element is most of a sum, the roundings of its tree are not averaged out: three of
  // half an ulp each, and those of its difference and its product.
  const Real of_sums = f64 ? bound : group == "outlier: " ? 3 : 1;
  channel("dweight", c.module, want.gradient.dweight, want.gradient.dweight_scale, of_sums);
  channel("dbias", c.module, want.gradient.dbias, want.gradient.dbias_scale, of_sums);
  element("ddy", want.double_gradient.ddy, want.double_gradient.ddy_scale, want.edge);
  element("dx2", want.double_gradient.dx, want.double_gradient.dx_scale, nothing);
  channel("dweight2", c.module, want.double_gradient.dweight, want.double_gradient.dweight_scale,
          bound);
  if (want.double_gradient.dz.empty()) return good;
  element("dz2", want.double_gradient.dz, want.double_gradient.dz_scale, want.edge);
  channel("dbias2", c.module, want.double_gradient.dbias, want.double_gradient.dbias_scale, bound);
  return good;
}

// Compares all outputs with the oracle for equality (after one rounding).
inline bool check_exact(const Case &c, const Expected &want, const Outputs &got) {
  bool good = true;
  const auto equal = [&](const char *name, const Reals &values) {
    const auto found = got.find(name);
    if (found == got.end()) return;
    const Values have = found->second.values();
    const int64_t at = first_inexact(found->second.dtype, have, values);
    if (at < 0) return;
    good = false;
    char text[200];
    std::snprintf(text, sizeof text, "%s[%lld] is %.17g, exactly %.21Lg", name,
                  static_cast<long long>(at), have[at], values[at]);
    INFO(describe(c));
    FAIL_CHECK(text);
  };
  equal("y", want.forward.y);
  equal("running_mean", want.running_mean);
  equal("running_var", want.running_var);
  equal("saved_mean", want.statistics.mean);
  equal("saved_invstd", want.statistics.invstd);
  equal("dx", want.gradient.dx);
  equal("dz", want.gradient.dz);
  equal("dweight", want.gradient.dweight);
  equal("dbias", want.gradient.dbias);
  equal("ddy", want.double_gradient.ddy);
  equal("dx2", want.double_gradient.dx);
  equal("dweight2", want.double_gradient.dweight);
  if (!want.double_gradient.dz.empty()) {
    equal("dz2", want.double_gradient.dz);
    equal("dbias2", want.double_gradient.dbias);
  }
  return good;
}

// The name of the first output whose bits differ, "" where all are equal. What only one of them has
// does not count: a forward alone has no gradients, and only stateless calls have saved statistics.
// That they have nothing in common is a fault of the test.
inline std::string first_difference(const Outputs &a, const Outputs &b) {
  bool has_common = false;
  for (const auto &[name, output] : a) {
    const auto found = b.find(name);
    if (found == b.end()) continue;
    has_common = true;
    const int64_t at = first_difference(output.bits, found->second.bits);
    if (at >= 0) return name + "[" + std::to_string(at) + "]";
  }
  return has_common ? "" : "nothing in common";
}

}  // namespace numerics
