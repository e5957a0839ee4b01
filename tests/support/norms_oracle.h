// What the oracle says of group, instance and ghost batch norm. It takes each set of statistics as
// a batch norm of one channel, in long double, with h = weight*g for the gradients:
//   dx = s P(h), and gradients of gradients are those of <v, s P(h)> + <ddweight*g, xhat> +
//   <ddbias, g>.
#pragma once
#include "support/numerics_values.h"

namespace numerics {

// A norm and what it is of.
struct NormSetting {
  Extents e{1, 1, 1, 1};
  int32_t norm = BN2D_NORM_GROUP;
  int64_t groups = 1, ghost = 0;
  int32_t data = BN2D_F32, module = BN2D_F32;
  Activation activation{};
  bool residual = false, affine = true, track = true, stateless = false, cumulative = false,
       biased = false;
  int64_t counted = 0;  // num_batches_tracked before
  double eps = 1e-5, momentum = 0.1;

  int64_t samples() const { return norm == BN2D_NORM_BATCH ? (ghost == 0 ? e.n : ghost) : 1; }
  int64_t channels() const { return norm == BN2D_NORM_GROUP ? e.c / groups : 1; }
  bool tracks() const { return track && norm != BN2D_NORM_GROUP; }
  // By bn2d_double_backward_act() or its stateless twin, which have the residual's part, too.
  bool loss_of_dz = false;
  bool double_backward_act() const { return loss_of_dz || activation.pointwise(); }
};

// By element, with one scale for each plane; by channel. Of gradients what their inputs are there
// for.
struct ExpectedNorm {
  Reals y, dx, dz, ddy, dx2, dz2, y_scale, dx_scale, dz_scale, ddy_scale, dx2_scale, dz2_scale;
  Reals dweight, dbias, dweight2, dbias2, dweight_scale, dbias_scale, dweight2_scale, dbias2_scale;
  Values running_mean, running_var;
  Reals v;                  // before the activation
  oracle::Statistics sets;  // in order
  std::vector<bool> edge;
};

// Works out what is expected, set after set.
class NormOracle {
 public:
  NormOracle(const NormSetting &setting, Inputs &in, bool silence)
      : setting_(setting),
        in_(in),
        silence_(silence),
        channels_(static_cast<size_t>(setting.e.c)),
        has_backward_(!in.dy.empty()),
        has_double_backward_(has_backward_ && !in.ddx.empty()),
        dweight_(channels_),
        dbias_(channels_),
        dweight2_(channels_),
        dbias2_(channels_) {
    const auto size = static_cast<size_t>(setting_.e.size()),
               rows = static_cast<size_t>(setting_.e.n * setting_.e.c);
    for (Reals *r : {&out_.v, &out_.y, &out_.dx, &out_.dz, &out_.ddy, &out_.dx2, &out_.dz2})
      r->resize(size);
    for (Reals *r : {&out_.y_scale, &out_.dx_scale, &out_.dz_scale, &out_.ddy_scale,
                     &out_.dx2_scale, &out_.dz2_scale})
      r->resize(rows);
    for (Reals *r : {&out_.dweight, &out_.dbias, &out_.dweight2, &out_.dbias2, &out_.dweight_scale,
                     &out_.dbias_scale, &out_.dweight2_scale, &out_.dbias2_scale})
      r->resize(channels_);
    out_.edge.resize(size);
  }

  ExpectedNorm run() {
    for (int64_t n = 0; n < setting_.e.n; n += setting_.samples())
      for (int64_t ch = 0; ch < setting_.e.c; ch += setting_.channels()) {
        Set set = set_of(n, ch);
        forward(set);
        find_edges(set);
        if (has_backward_) backward(set);
        if (has_double_backward_) double_backward(set);
      }
    for (size_t ch = 0; ch < channels_; ++ch) {
      out_.dweight[ch] = dweight_[ch].value();
      out_.dbias[ch] = dbias_[ch].value();
      out_.dweight2[ch] = dweight2_[ch].value();
      out_.dbias2[ch] = dbias2_[ch].value();
    }
    if (setting_.tracks()) move_running();
    return out_;
  }

 private:
  // Its elements as one channel, in order.
  struct Set {
    std::vector<size_t> at;
    Extents flat;
    Values x;
    oracle::Statistics statistics;
    Reals xhat, v, g, h, u;
    Reals most_of_g;  // |g|, with what the ulp of its argument does to it
    Reals widened;    // the same of h
  };

  Set set_of(int64_t first_sample, int64_t first_channel) const {
    Set set;
    for (int64_t n = first_sample; n < std::min(setting_.e.n, first_sample + setting_.samples());
         ++n)
      for (int64_t ch = first_channel; ch < first_channel + setting_.channels(); ++ch)
        for (int64_t i = 0; i < setting_.e.plane(); ++i)
          set.at.push_back(static_cast<size_t>((n * setting_.e.c + ch) * setting_.e.plane() + i));
    for (const size_t i : set.at) set.x.push_back(in_.x[i]);
    set.flat = {1, 1, 1, static_cast<int64_t>(set.at.size())};
    for (Reals *r : {&set.xhat, &set.v, &set.g, &set.h, &set.u, &set.most_of_g, &set.widened})
      r->resize(set.at.size());
    return set;
  }
  size_t row(const Set &set, size_t k) const {
    return set.at[k] / static_cast<size_t>(setting_.e.plane());
  }
  size_t channel(const Set &set, size_t k) const { return row(set, k) % channels_; }

  static Real of_channel(bool exists, const Values &values, size_t ch, double otherwise) {
    return exists ? oracle::at_or(values, static_cast<int64_t>(ch), otherwise) : otherwise;
  }
  Real weight(size_t ch) const { return of_channel(setting_.affine, in_.weight, ch, 1); }
  Real bias(size_t ch) const { return of_channel(setting_.affine, in_.bias, ch, 0); }
  Real ddweight(size_t ch) const {
    return of_channel(setting_.affine || setting_.stateless, in_.ddweight, ch, 0);
  }
  Real ddbias(size_t ch) const {
    return of_channel(setting_.affine || setting_.stateless, in_.ddbias, ch, 0);
  }
  static void grow(Reals &scale, size_t i, Real v) { scale[i] = std::max(scale[i], std::fabs(v)); }

  void forward(Set &set) {
    const oracle::Statistics &s = set.statistics =
        oracle::batch_statistics(set.flat, set.x, setting_.eps);
    const auto append = [](Reals &to, const Reals &from) { to.push_back(from[0]); };
    append(out_.sets.mean, s.mean), append(out_.sets.mean_rest, s.mean_rest);
    append(out_.sets.mean_scale, s.mean_scale), append(out_.sets.deviation, s.deviation);
    append(out_.sets.var, s.var), append(out_.sets.invstd, s.invstd);
    for (size_t k = 0; k < set.at.size(); ++k) {
      const size_t i = set.at[k], r = row(set, k), ch = channel(set, k);
      const Real w = weight(ch), b = bias(ch), z = setting_.residual ? in_.z[i] : 0;
      const Real xhat = set.xhat[k] = s.normalised(set.x[k], 0);
      const Real v = out_.v[i] = set.v[k] = w * xhat + b + z;
      out_.y[i] = setting_.activation.value(v);
      const Real growth = std::max<Real>(std::fabs(setting_.activation.derivative(v)), 1);
      for (const Real term : {growth * b, out_.y[i]}) grow(out_.y_scale, r, term);
      if (setting_.activation.pointwise()) grow(out_.y_scale, r, growth * v);
      if (setting_.residual)
        for (const Real term : {growth * (w * xhat + b), growth * z}) grow(out_.y_scale, r, term);
    }
  }

  // On the edge of an activation, rounding decides: no gradient there, and ddy is not compared.
  void find_edges(const Set &set) {
    for (size_t k = 0; k < set.at.size(); ++k) {
      const size_t i = set.at[k];
      const Real v = set.v[k],
                 near = 16 * oracle::ulp(arithmetic_of(setting_.data), out_.y_scale[row(set, k)]);
      for (const Real kink : setting_.activation.kinks())
        if (std::fabs(v - kink) <= near || (kink == 0 && rounded(setting_.data, v / 16) == 0))
          out_.edge[i] = true;
      if (has_backward_ && silence_ && out_.edge[i]) in_.dy[i] = 0;
    }
  }

  void backward(Set &set) {
    const bool pointwise = setting_.activation.pointwise();
    for (size_t k = 0; k < set.at.size(); ++k) {
      const size_t i = set.at[k], r = row(set, k), ch = channel(set, k);
      const Real g = set.g[k] = setting_.activation.derivative(set.v[k]) * in_.dy[i];
      set.h[k] = weight(ch) * g;
      set.u[k] = ddweight(ch) * g;
      const Real most_of_g = set.most_of_g[k] =
          pointwise ? (1 + out_.y_scale[r]) * std::fabs(Real{in_.dy[i]}) : std::fabs(g);
      set.widened[k] = std::fabs(weight(ch)) * most_of_g;
      out_.dz[i] = g;
      grow(out_.dz_scale, r, most_of_g);
      dweight_[ch].add(g * set.xhat[k]);
      dbias_[ch].add(g);
      // The mean of a set is within 2^-24 of its standard deviation, and a channel may be a small
      // part of the set.
      out_.dweight_scale[ch] +=
          most_of_g * std::max<Real>(std::fabs(set.xhat[k]), setting_.channels() > 1 ? 1 : 0);
      out_.dbias_scale[ch] += most_of_g;
    }
    const oracle::Gradient dx = through_statistics(set, set.h),
                           of_widened = pointwise ? through_statistics(set, set.widened) : dx;
    for (size_t k = 0; k < set.at.size(); ++k) {
      out_.dx[set.at[k]] = dx.dx[k];
      grow(out_.dx_scale, row(set, k), of_widened.dx_scale[0]);
    }
  }
  static oracle::Gradient through_statistics(const Set &set, const Reals &h) {
    return oracle::backward(set.flat, set.x, h, {}, set.statistics, true);
  }
  static oracle::DoubleGradient again_through_statistics(const Set &set, const Reals &h,
                                                         const Values &ddx,
                                                         const Values &ddweight) {
    return oracle::double_backward(set.flat, set.x, h, {}, set.statistics, true, Activation(),
                                   set.v, ddx, ddweight, {});
  }

  void double_backward(const Set &set) {
    const bool pointwise = setting_.activation.pointwise();
    const size_t count = set.at.size();
    Values ddx;
    for (const size_t i : set.at) ddx.push_back(in_.ddx[i]);
    const Values no_ddx(count, 0);
    const oracle::DoubleGradient of_dx = again_through_statistics(set, set.h, ddx, {}),
                                 of_weight = again_through_statistics(set, set.u, no_ddx, {1.0});
    // With widened gradients, as in backward: what the ulp of an argument does.
    Reals widened_u(count), second(count), most_second(count);
    for (size_t k = 0; k < count; ++k) {
      const size_t ch = channel(set, k);
      widened_u[k] = set.most_of_g[k] * std::fabs(ddweight(ch));
    }
    const oracle::DoubleGradient most_of_dx =
                                     pointwise ? again_through_statistics(set, set.widened, ddx, {})
                                               : of_dx,
                                 most_of_weight = pointwise ? again_through_statistics(
                                                                  set, widened_u, no_ddx, {1.0})
                                                            : of_weight;
    for (size_t k = 0; k < count; ++k) {
      const size_t i = set.at[k], r = row(set, k), ch = channel(set, k);
      const Real side = setting_.activation.derivative(set.v[k]), w = weight(ch),
                 xhat = set.xhat[k],
                 ddz = setting_.double_backward_act()
                           ? oracle::at_or(in_.ddz, static_cast<int64_t>(i), 0)
                           : 0;
      const Real of_g = w * of_dx.ddy[k] + ddweight(ch) * xhat + ddbias(ch) + ddz;
      const Real most_of_g = std::fabs(w) * of_dx.ddy_scale[0] + std::fabs(ddweight(ch) * xhat) +
                             std::fabs(ddbias(ch)) + std::fabs(ddz);
      const Real growth = pointwise ? 1 + out_.y_scale[r] : std::fabs(side);
      out_.ddy[i] = side * of_g;
      grow(out_.ddy_scale, r, growth * most_of_g);
      out_.dx2[i] = of_dx.dx[k] + of_weight.dx[k];
      grow(out_.dx2_scale, r, most_of_dx.dx_scale[0] + most_of_weight.dx_scale[0]);
      dweight2_[ch].add(set.g[k] * of_dx.ddy[k]);
      out_.dweight2_scale[ch] += set.most_of_g[k] * of_dx.ddy_scale[0];
      // What is bent by the activation: h of oracle::double_backward_through().
      const Real bent = setting_.activation.second_derivative(set.v[k]) * in_.dy[i] * of_g;
      const Real most_bent =
          setting_.activation.curved() ? growth * std::fabs(Real{in_.dy[i]}) * most_of_g : 0;
      out_.dz2[i] = bent;
      grow(out_.dz2_scale, r, most_bent);
      second[k] = w * bent;
      most_second[k] = std::fabs(w) * most_bent;
      dweight2_[ch].add(bent * xhat);
      out_.dweight2_scale[ch] += most_bent * std::max<Real>(std::fabs(xhat), 1);
      dbias2_[ch].add(bent);
      out_.dbias2_scale[ch] += most_bent;
    }
    const oracle::Gradient of_second = through_statistics(set, second),
                           most_of_second = through_statistics(set, most_second);
    for (size_t k = 0; k < count; ++k) {
      out_.dx2[set.at[k]] += of_second.dx[k];
      if (k == 0 || row(set, k) != row(set, k - 1))
        out_.dx2_scale[row(set, k)] += most_of_second.dx_scale[0];
    }
  }

  // Ghost batches move the statistics one after another, the samples of instance norm by their
  // mean.
  void move_running() {
    out_.running_mean = in_.running_mean;
    out_.running_var = in_.running_var;
    const auto batches = out_.sets.mean.size() / channels_;
    for (size_t ch = 0; ch < channels_; ++ch) {
      const auto move = [&](Real mean, Real var, double momentum) {
        out_.running_mean[ch] =
            rounded(setting_.module, oracle::running(out_.running_mean[ch], mean, momentum));
        out_.running_var[ch] =
            rounded(setting_.module, oracle::running(out_.running_var[ch], var, momentum));
      };
      Real mean = 0, var = 0;
      for (size_t b = 0; b < batches; ++b) {
        const int64_t samples = std::min(
            setting_.samples(), setting_.e.n - static_cast<int64_t>(b) * setting_.samples());
        const size_t set = b * channels_ + ch;
        const Real of_set =
            setting_.biased ? out_.sets.var[set]
                            : oracle::unbiased(out_.sets.var[set], samples * setting_.e.plane());
        mean += out_.sets.mean[set] / static_cast<Real>(batches);
        var += of_set / static_cast<Real>(batches);
        if (setting_.norm == BN2D_NORM_BATCH)
          move(out_.sets.mean[set], of_set,
               setting_.cumulative
                   ? 1.0 / (static_cast<double>(setting_.counted) + static_cast<double>(b + 1))
                   : setting_.momentum);
      }
      if (setting_.norm == BN2D_NORM_INSTANCE && !setting_.cumulative)
        move(mean, var, setting_.momentum);
    }
  }

  const NormSetting &setting_;
  Inputs &in_;
  const bool silence_;
  const size_t channels_;
  const bool has_backward_, has_double_backward_;
  ExpectedNorm out_;
  std::vector<oracle::Sum> dweight_, dbias_, dweight2_, dbias2_;
};

// `silence`: elements on the edge of an activation, where rounding decides, get dy = 0.
inline ExpectedNorm expect(const NormSetting &setting, Inputs &in, bool silence = true) {
  return NormOracle(setting, in, silence).run();
}

}  // namespace numerics
