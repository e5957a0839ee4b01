// Group, instance and ghost batch norm: one configuration run through the C ABI, and compared with
// the oracle.
#pragma once
#include "support/norms_oracle.h"
#include "support/numerics_case.h"

namespace numerics {

struct NormCase : NormSetting {
  Layout x = Layout::nchw, y = Layout::nchw, dx = Layout::nchw;
};

inline std::string describe(const NormCase &c) {
  std::ostringstream text;
  text << name_of(c.data, c.module) << " " << c.e.n << "x" << c.e.c << "x" << c.e.h << "x" << c.e.w
       << " norm " << c.norm << " groups " << c.groups << " ghost " << c.ghost
       << " act=" << c.activation.kind << "(" << c.activation.slope << ") residual=" << c.residual
       << " affine=" << c.affine << " track=" << c.track << (c.stateless ? " stateless" : "")
       << (c.cumulative ? " cumulative" : "") << " x=" << name_of(c.x) << " y=" << name_of(c.y)
       << " dx=" << name_of(c.dx) << " eps=" << c.eps;
  return text.str();
}

inline Inputs random_inputs(const NormCase &c, uint64_t seed) {
  Case batch;
  batch.e = c.e;
  batch.data = c.data;
  batch.module = c.module;
  return random_inputs(batch, seed);
}

// A module of the case, with the parameters and buffers of the inputs.
class NormModule {
 public:
  NormModule(const NormCase &c, const Inputs &in) : dtype_(c.module) {
    bn2d_options *options = nullptr;
    NUMERICS_OK(bn2d_options_create(&options));
    int32_t status = bn2d_options_set_eps(options, c.eps);
    const auto also = [&](int32_t next) { status = status != BN2D_OK ? status : next; };
    also(bn2d_options_set_affine(options, c.affine));
    also(bn2d_options_set_dtype(options, c.module));
    if (c.norm != BN2D_NORM_GROUP) {
      also(c.cumulative ? bn2d_options_set_momentum_none(options)
                        : bn2d_options_set_momentum(options, c.momentum));
      also(bn2d_options_set_track_running_stats(options, c.track));
    }
    if (c.norm == BN2D_NORM_BATCH) also(bn2d_options_set_ghost_batch_size(options, c.ghost));
    also(c.norm == BN2D_NORM_GROUP      ? bn2d_group_norm_create(c.groups, c.e.c, options, &module_)
         : c.norm == BN2D_NORM_INSTANCE ? bn2d_instance_norm_create(c.e.c, options, &module_)
                                        : bn2d_module_create(c.e.c, options, &module_));
    bn2d_options_release(options);
    NUMERICS_OK(status);
    if (c.affine) set("weight", in.weight), set("bias", in.bias);
    if (c.tracks()) set("running_mean", in.running_mean), set("running_var", in.running_var);
  }
  ~NormModule() { bn2d_module_release(module_); }
  NormModule(const NormModule &) = delete;
  NormModule &operator=(const NormModule &) = delete;
  operator bn2d_module *() const { return module_; }

  Output output(const char *name, int64_t channels) const {
    Output out{dtype_, {}};
    const uint8_t *at = data(name);
    for (int64_t i = 0; i < channels; ++i)
      out.bits.push_back(read_bits(dtype_, at + i * size_of(dtype_)));
    return out;
  }
  int64_t counter() const {
    int64_t count = 0;
    std::memcpy(&count, data("num_batches_tracked"), 8);
    return count;
  }

 private:
  uint8_t *data(const char *name) const {
    bn2d_tensor *tensor = nullptr;
    void *at = nullptr;
    NUMERICS_OK(bn2d_module_tensor_by_name(module_, name, &tensor));
    const int32_t status = bn2d_tensor_data(tensor, &at);
    bn2d_tensor_release(tensor);
    NUMERICS_OK(status);
    return static_cast<uint8_t *>(at);
  }
  void set(const char *name, const Values &values) {
    uint8_t *at = data(name);
    for (size_t i = 0; i < values.size(); ++i)
      write_element(dtype_, at + i * size_of(dtype_), values[i]);
  }

  int32_t dtype_;
  bn2d_module *module_ = nullptr;
};

// All calls of a case, through a module or stateless.
class NormRun {
 public:
  NormRun(const NormCase &c, const Inputs &in, const Around &around)
      : case_(c),
        in_(in),
        around_(around),
        x_(c.data, c.e, in.x, c.x),
        z_(c.data, c.e, in.z, c.x),
        y_(c.data, c.e, c.y),
        dy_(c.data, c.e, in.dy, c.y),
        dx_(c.data, c.e, c.dx),
        dz_(c.data, c.e, c.dx),
        ddx_(c.data, c.e, in.ddx, c.x),
        ddy_(c.data, c.e, c.y),
        dx2_(c.data, c.e, c.dx),
        ddz_(c.data, c.e, in.ddz, c.x),
        dz2_(c.data, c.e, c.dx),
        ddweight_(c.module, in.ddweight),
        ddbias_(c.module, in.ddbias) {}

  Outputs run() {
    if (case_.stateless) {
      stateless();
    } else {
      by_module();
    }
    keep("y", y_), keep("dx", dx_);
    if (has_double_backward_) keep("ddy", ddy_), keep("dx2", dx2_);
    if (has_double_backward_ && acts_) keep("dz2", dz2_);
    if (case_.residual) keep("dz", dz_);
    for (Tensor *t : {&y_, &dx_, &dz_, &ddy_, &dx2_, &dz2_})
      if (!t->gaps_intact()) FAIL_CHECK("memory beside a tensor has changed");
    return out_;
  }

 private:
  void by_module() {
    NormModule module(case_, in_);
    Record record;
    NUMERICS_OK(around_("bn2d_forward_act", [&] {
      return bn2d_forward_act(module, x_.view(), z_or_null(), act_, slope_, y_.view(),
                              record.out());
    }));
    if (case_.tracks())
      for (const char *name : {"running_mean", "running_var"})
        out_[name] = module.output(name, case_.e.c);
    NUMERICS_OK(around_("bn2d_backward", [&] {
      return bn2d_backward(module, record, dy_.view(), dx_.view(), dz_or_null());
    }));
    if (case_.affine) {
      out_["dweight"] = module.output("weight.grad", case_.e.c);
      out_["dbias"] = module.output("bias.grad", case_.e.c);
    }
    if (!has_double_backward_) return;
    NUMERICS_OK(bn2d_module_zero_grad(module));
    void *const ddw = case_.affine ? ddweight_.data() : nullptr;
    void *const ddb = case_.affine ? ddbias_.data() : nullptr;
    NUMERICS_OK(around_(acts_ ? "bn2d_double_backward_act" : "bn2d_double_backward", [&] {
      return acts_ ? bn2d_double_backward_act(module, record, dy_.view(), ddx_.view(), ddz_.view(),
                                              ddw, ddb, ddy_.view(), dx2_.view(), dz2_.view())
                   : bn2d_double_backward(module, record, dy_.view(), ddx_.view(), ddw, ddb,
                                          ddy_.view(), dx2_.view());
    }));
    if (case_.affine) {
      out_["dweight2"] = module.output("weight.grad", case_.e.c);
      out_["dbias2"] = module.output("bias.grad", case_.e.c);
    }
  }

  // Of group norm alone.
  void stateless() {
    Array weight(case_.module, in_.weight), bias(case_.module, in_.bias),
        dweight(case_.module, in_.weight), dbias(case_.module, in_.bias),
        dweight2(case_.module, in_.weight), dbias2(case_.module, in_.weight);
    void *const w = case_.affine ? weight.data() : nullptr;
    void *const b = case_.affine ? bias.data() : nullptr;
    std::vector<double> mean(static_cast<size_t>(case_.e.n * case_.groups)), invstd(mean.size());
    uint64_t mask_bytes = 0;
    NUMERICS_OK(bn2d_mask_nbytes(case_.e.n, case_.e.c, case_.e.h, case_.e.w, &mask_bytes));
    std::vector<uint8_t> mask(mask_bytes);
    const bool has_sides = act_ != Activation::none && !case_.activation.pointwise();
    uint8_t *const mask_or_null = has_sides ? mask.data() : nullptr;
    NUMERICS_OK(around_("bn2d_group_norm_forward", [&] {
      return bn2d_group_norm_forward(x_.view(), z_or_null(), y_.view(), case_.groups, case_.module,
                                     w, b, case_.eps, act_, slope_, mask_or_null, mean.data(),
                                     invstd.data());
    }));
    NUMERICS_OK(around_("bn2d_group_norm_backward", [&] {
      return has_sides ? bn2d_group_norm_backward(x_.view(), dy_.view(), nullptr, mask_or_null,
                                                  case_.groups, case_.module, w, mean.data(),
                                                  invstd.data(), act_, slope_, 0, dx_.view(),
                                                  dz_or_null(), dweight.data(), dbias.data())
                       : bn2d_group_norm_backward_act(
                             x_.view(), z_or_null(), dy_.view(), nullptr, nullptr, case_.groups,
                             case_.module, w, b, mean.data(), invstd.data(), act_, slope_, 0,
                             dx_.view(), dz_or_null(), dweight.data(), dbias.data());
    }));
    if (has_double_backward_ && !acts_)
      NUMERICS_OK(around_("bn2d_group_norm_double_backward", [&] {
        return bn2d_group_norm_double_backward(
            x_.view(), dy_.view(), nullptr, mask_or_null, case_.groups, case_.module, w,
            mean.data(), invstd.data(), act_, slope_, ddx_.view(), ddweight_.data(), ddbias_.data(),
            0, ddy_.view(), dx2_.view(), dweight2.data());
      }));
    if (has_double_backward_ && acts_)
      NUMERICS_OK(around_("bn2d_group_norm_double_backward_act", [&] {
        return bn2d_group_norm_double_backward_act(
            x_.view(), z_or_null(), dy_.view(), nullptr, mask_or_null, case_.groups, case_.module,
            w, b, mean.data(), invstd.data(), act_, slope_, ddx_.view(), ddz_.view(),
            ddweight_.data(), ddbias_.data(), 0, ddy_.view(), dx2_.view(), dz2_.view(),
            dweight2.data(), dbias2.data());
      }));
    out_["dweight"] = {case_.module, dweight.bits()};
    out_["dbias"] = {case_.module, dbias.bits()};
    if (has_double_backward_) out_["dweight2"] = {case_.module, dweight2.bits()};
    if (has_double_backward_ && acts_) out_["dbias2"] = {case_.module, dbias2.bits()};
    keep("saved_mean", mean), keep("saved_invstd", invstd);
  }

  const bn2d_view *z_or_null() const { return case_.residual ? z_.view() : nullptr; }
  const bn2d_view *dz_or_null() const { return case_.residual ? dz_.view() : nullptr; }
  void keep(const char *name, Tensor &tensor) { out_[name] = {tensor.dtype(), tensor.bits()}; }
  void keep(const char *name, const std::vector<double> &saved) {
    out_[name].dtype = BN2D_F64;
    for (const double value : saved) out_[name].bits.push_back(read_bits(BN2D_F64, &value));
  }

  const NormCase &case_;
  const Inputs &in_;
  const Around &around_;
  const int32_t act_ = case_.activation.kind;
  const double slope_ = case_.activation.slope;
  const bool has_double_backward_ = !in_.ddx.empty(), acts_ = case_.double_backward_act();
  Tensor x_, z_, y_, dy_, dx_, dz_, ddx_, ddy_, dx2_, ddz_, dz2_;
  Array ddweight_, ddbias_;
  Outputs out_;
};

// y, dx, dz, ddy, dx2, dz2, dweight, dbias, dweight2, dbias2, running_mean, running_var as far as
// the case has them. `around` gets each of the calls.
inline Outputs run(const NormCase &c, const Inputs &in, const Around &around = call_plainly) {
  return NormRun(c, in, around).run();
}

inline bool check_case(const NormCase &c, const ExpectedNorm &want, const Outputs &got,
                       const std::string &group) {
  INFO(describe(c));
  const std::string dtypes = name_of(c.data, c.module);
  const bool f64 = c.module == BN2D_F64;
  bool good = true;
  const auto element = [&](const char *name, const Reals &values, const Reals &scale,
                           const std::vector<bool> &ignore) {
    if (got.count(name) == 0) return;
    good &= check_close(
        dtypes, group + name, c.data,
        compare(c.data, c.e.n * c.e.c, c.e.plane(), got.at(name).values(), values, scale, ignore),
        bound_of(c.module));
  };
  const auto channel = [&](const char *name, const Reals &values, const Reals &scale, Real limit) {
    if (got.count(name) == 0) return;
    good &= check_close(dtypes, group + name, c.module,
                        compare(c.module, c.e.c, 1, got.at(name).values(), values, scale), limit);
  };
  element("y", want.y, want.y_scale, {});
  element("dx", want.dx, want.dx_scale, {});
  element("dz", want.dz, want.dz_scale, {});
  element("ddy", want.ddy, want.ddy_scale, want.edge);
  element("dx2", want.dx2, want.dx2_scale, {});
  channel("dweight", want.dweight, want.dweight_scale, f64 ? 8 : 1);
  channel("dbias", want.dbias, want.dbias_scale, f64 ? 8 : 1);
  channel("dweight2", want.dweight2, want.dweight2_scale, bound_of(c.module));
  element("dz2", want.dz2, want.dz2_scale, want.edge);
  channel("dbias2", want.dbias2, want.dbias2_scale, bound_of(c.module));
  good &= check_saved(dtypes, group, f64, want.sets, got, 1);
  // The running statistics of a set at a time are rounded at each step, so a few roundings add up.
  for (const bool is_mean : {true, false}) {
    const char *const name = is_mean ? "running_mean" : "running_var";
    if (got.count(name) == 0) continue;
    const Values &values = is_mean ? want.running_mean : want.running_var;
    const Real steps = static_cast<Real>((c.e.n + c.samples() - 1) / c.samples());
    for (size_t i = 0; i < values.size(); ++i) {
      // A mean is as exact as the numbers around it allow.
      const Real size = is_mean
                            ? std::max<Real>(std::fabs(values[i]), std::sqrt(want.running_var[i]))
                            : std::fabs(values[i]);
      INFO(name << " of channel " << i << ": " << got.at(name).values()[i] << ", right "
                << values[i]);
      CHECK(std::fabs(got.at(name).values()[i] - values[i]) <=
            (2 + steps) * oracle::ulp(format_of(c.module), size));
    }
  }
  return good;
}

inline void same_bits(const Outputs &a, const Outputs &b, const std::string &what) {
  INFO(what);
  CHECK(first_difference(a, b) == "");
}

inline NormCase case_of(const Extents &e, int32_t norm, int64_t groups = 1) {
  NormCase c;
  c.e = e;
  c.norm = norm;
  c.groups = groups;
  return c;
}

}  // namespace numerics
