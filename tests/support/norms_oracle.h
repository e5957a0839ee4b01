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

// `silence`: elements on the edge of an activation, where rounding decides, get dy = 0.
inline ExpectedNorm expect(const NormSetting &c, Inputs &in, bool silence = true) {
  const Extents &e = c.e;
  const auto size = static_cast<size_t>(e.size()), rows = static_cast<size_t>(e.n * e.c),
             channels = static_cast<size_t>(e.c);
  ExpectedNorm out;
  for (Reals *r : {&out.v, &out.y, &out.dx, &out.dz, &out.ddy, &out.dx2, &out.dz2}) r->resize(size);
  for (Reals *r :
       {&out.y_scale, &out.dx_scale, &out.dz_scale, &out.ddy_scale, &out.dx2_scale, &out.dz2_scale})
    r->resize(rows);
  for (Reals *r : {&out.dweight, &out.dbias, &out.dweight2, &out.dbias2, &out.dweight_scale,
                   &out.dbias_scale, &out.dweight2_scale, &out.dbias2_scale})
    r->resize(channels);
  out.edge.resize(size);
  std::vector<oracle::Sum> dweight(channels), dbias(channels), dweight2(channels), dbias2(channels);
  const auto of_channel = [](bool exists, const Values &values, size_t ch, double otherwise) {
    return exists ? oracle::at_or(values, static_cast<int64_t>(ch), otherwise) : otherwise;
  };
  const auto weight = [&](size_t ch) { return of_channel(c.affine, in.weight, ch, 1); };
  const auto bias = [&](size_t ch) { return of_channel(c.affine, in.bias, ch, 0); };
  const Values none;
  const bool backward = !in.dy.empty(), double_backward = backward && !in.ddx.empty();
  for (int64_t n0 = 0; n0 < e.n; n0 += c.samples()) {
    for (int64_t c0 = 0; c0 < e.c; c0 += c.channels()) {
      std::vector<size_t> at;
      for (int64_t n = n0; n < std::min(e.n, n0 + c.samples()); ++n)
        for (int64_t ch = c0; ch < c0 + c.channels(); ++ch)
          for (int64_t i = 0; i < e.plane(); ++i)
            at.push_back(static_cast<size_t>((n * e.c + ch) * e.plane() + i));
      const auto row = [&](size_t k) { return at[k] / static_cast<size_t>(e.plane()); };
      const auto channel = [&](size_t k) { return row(k) % channels; };
      const auto grow = [](Reals &scale, size_t i, Real v) {
        scale[i] = std::max(scale[i], std::fabs(v));
      };
      const Extents flat{1, 1, 1, static_cast<int64_t>(at.size())};
      Values x, ddx;
      for (const size_t i : at) x.push_back(in.x[i]);
      const oracle::Statistics s = oracle::batch_statistics(flat, x, c.eps);
      const auto append = [](Reals &to, const Reals &from) { to.push_back(from[0]); };
      append(out.sets.mean, s.mean), append(out.sets.mean_rest, s.mean_rest);
      append(out.sets.mean_scale, s.mean_scale), append(out.sets.deviation, s.deviation);
      append(out.sets.var, s.var), append(out.sets.invstd, s.invstd);
      Reals v(at.size()), xhat(at.size()), g(at.size()), h(at.size()), u(at.size());
      for (size_t k = 0; k < at.size(); ++k) {
        const Real w = weight(channel(k)), b = bias(channel(k)), z = c.residual ? in.z[at[k]] : 0;
        xhat[k] = s.normalised(x[k], 0);
        out.v[at[k]] = v[k] = w * xhat[k] + b + z;
        out.y[at[k]] = c.activation.value(v[k]);
        const Real growth = std::max<Real>(std::fabs(c.activation.derivative(v[k])), 1);
        for (const Real term : {growth * b, out.y[at[k]]}) grow(out.y_scale, row(k), term);
        if (c.activation.pointwise()) grow(out.y_scale, row(k), growth * v[k]);
        if (c.residual)
          for (const Real term : {growth * (w * xhat[k] + b), growth * z})
            grow(out.y_scale, row(k), term);
      }
      Reals widened(at.size());  // |h|, with what the ulp of its argument does to it
      for (size_t k = 0; k < at.size(); ++k) {
        // On the edge of an activation, rounding decides: no gradient there, and ddy is not
        // compared.
        const Real near = 16 * oracle::ulp(arithmetic_of(c.data), out.y_scale[row(k)]);
        for (const Real kink : c.activation.kinks())
          if (std::fabs(v[k] - kink) <= near || (kink == 0 && rounded(c.data, v[k] / 16) == 0))
            out.edge[at[k]] = true;
        if (!backward) continue;
        if (out.edge[at[k]] && silence) in.dy[at[k]] = 0;
        const size_t ch = channel(k);
        g[k] = c.activation.derivative(v[k]) * in.dy[at[k]];
        h[k] = weight(ch) * g[k];
        u[k] = of_channel(c.affine || c.stateless, in.ddweight, ch, 0) * g[k];
        const Real most_of_g = c.activation.pointwise()
                                   ? (1 + out.y_scale[row(k)]) * std::fabs(Real{in.dy[at[k]]})
                                   : std::fabs(g[k]);
        widened[k] = std::fabs(weight(ch)) * most_of_g;
        out.dz[at[k]] = g[k];
        grow(out.dz_scale, row(k), most_of_g);
        dweight[ch].add(g[k] * xhat[k]);
        dbias[ch].add(g[k]);
        // The mean of a set is within 2^-24 of its standard deviation, and a channel may be a small
        // part of the set.
        out.dweight_scale[ch] +=
            most_of_g * std::max<Real>(std::fabs(xhat[k]), c.channels() > 1 ? 1 : 0);
        out.dbias_scale[ch] += most_of_g;
      }
      if (!backward) continue;
      const oracle::Gradient dx = oracle::backward(flat, x, h, none, s, true),
                             of_widened = c.activation.pointwise()
                                              ? oracle::backward(flat, x, widened, none, s, true)
                                              : dx;
      for (size_t k = 0; k < at.size(); ++k) {
        out.dx[at[k]] = dx.dx[k];
        grow(out.dx_scale, row(k), of_widened.dx_scale[0]);
      }
      if (!double_backward) continue;
      for (const size_t i : at) ddx.push_back(in.ddx[i]);
      const Activation plain;
      const oracle::DoubleGradient of_dx =
          oracle::double_backward(flat, x, h, none, s, true, plain, v, ddx, none, none);
      const oracle::DoubleGradient of_weight = oracle::double_backward(
          flat, x, u, none, s, true, plain, v, Values(at.size(), 0), {1.0}, none);
      // With widened gradients, as in backward: what the ulp of an argument does.
      Reals widened_u(at.size()), second(at.size()), most_second(at.size());
      for (size_t k = 0; k < at.size(); ++k)
        widened_u[k] = widened[k] *
                       std::fabs(of_channel(c.affine || c.stateless, in.ddweight, channel(k), 0)) /
                       std::max(std::fabs(static_cast<Real>(weight(channel(k)))), Real{1e-30L});
      const bool is_pointwise = c.activation.pointwise();
      const oracle::DoubleGradient most_of_dx =
          is_pointwise
              ? oracle::double_backward(flat, x, widened, none, s, true, plain, v, ddx, none, none)
              : of_dx;
      const oracle::DoubleGradient most_of_weight =
          is_pointwise ? oracle::double_backward(flat, x, widened_u, none, s, true, plain, v,
                                                 Values(at.size(), 0), {1.0}, none)
                       : of_weight;
      for (size_t k = 0; k < at.size(); ++k) {
        const size_t i = at[k], ch = channel(k);
        const Real side = c.activation.derivative(v[k]), w = weight(ch),
                   ddweight = of_channel(c.affine || c.stateless, in.ddweight, ch, 0),
                   ddbias = of_channel(c.affine || c.stateless, in.ddbias, ch, 0),
                   ddz = oracle::at_or(c.double_backward_act() ? in.ddz : none,
                                       static_cast<int64_t>(i), 0);
        const Real of_g = w * of_dx.ddy[k] + ddweight * xhat[k] + ddbias + ddz;
        const Real most_of_g = std::fabs(w) * of_dx.ddy_scale[0] + std::fabs(ddweight * xhat[k]) +
                               std::fabs(ddbias) + std::fabs(ddz);
        const Real growth = is_pointwise ? 1 + out.y_scale[row(k)] : std::fabs(side);
        out.ddy[i] = side * of_g;
        grow(out.ddy_scale, row(k), growth * most_of_g);
        out.dx2[i] = of_dx.dx[k] + of_weight.dx[k];
        grow(out.dx2_scale, row(k), most_of_dx.dx_scale[0] + most_of_weight.dx_scale[0]);
        dweight2[ch].add(g[k] * of_dx.ddy[k]);
        out.dweight2_scale[ch] +=
            widened[k] / std::max(std::fabs(w), Real{1e-30L}) * of_dx.ddy_scale[0];
        // What is bent by the activation: h of oracle::double_backward_through().
        const Real bent = c.activation.second_derivative(v[k]) * in.dy[i] * of_g;
        const Real most_bent =
            c.activation.curved() ? growth * std::fabs(Real{in.dy[i]}) * most_of_g : 0;
        out.dz2[i] = bent;
        grow(out.dz2_scale, row(k), most_bent);
        second[k] = w * bent;
        most_second[k] = std::fabs(w) * most_bent;
        dweight2[ch].add(bent * xhat[k]);
        out.dweight2_scale[ch] += most_bent * std::max<Real>(std::fabs(xhat[k]), 1);
        dbias2[ch].add(bent);
        out.dbias2_scale[ch] += most_bent;
      }
      const oracle::Gradient of_second = oracle::backward(flat, x, second, none, s, true),
                             most_of_second = oracle::backward(flat, x, most_second, none, s, true);
      for (size_t k = 0; k < at.size(); ++k) {
        out.dx2[at[k]] += of_second.dx[k];
        if (k == 0 || row(k) != row(k - 1)) out.dx2_scale[row(k)] += most_of_second.dx_scale[0];
      }
    }
  }
  for (size_t ch = 0; ch < channels; ++ch) {
    out.dweight[ch] = dweight[ch].value();
    out.dbias[ch] = dbias[ch].value();
    out.dweight2[ch] = dweight2[ch].value();
    out.dbias2[ch] = dbias2[ch].value();
  }
  if (!c.tracks()) return out;
  out.running_mean = in.running_mean;
  out.running_var = in.running_var;
  const auto batches = out.sets.mean.size() / channels;
  for (size_t ch = 0; ch < channels; ++ch) {
    const auto move = [&](Real mean, Real var, double momentum) {
      out.running_mean[ch] =
          rounded(c.module, oracle::running(out.running_mean[ch], mean, momentum));
      out.running_var[ch] = rounded(c.module, oracle::running(out.running_var[ch], var, momentum));
    };
    Real mean = 0, var = 0;
    for (size_t b = 0; b < batches; ++b) {
      const int64_t samples = std::min(c.samples(), e.n - static_cast<int64_t>(b) * c.samples());
      const size_t set = b * channels + ch;
      const Real of_set =
          c.biased ? out.sets.var[set] : oracle::unbiased(out.sets.var[set], samples * e.plane());
      mean += out.sets.mean[set] / static_cast<Real>(batches);
      var += of_set / static_cast<Real>(batches);
      if (c.norm == BN2D_NORM_BATCH)
        move(out.sets.mean[set], of_set,
             c.cumulative ? 1.0 / (static_cast<double>(c.counted) + static_cast<double>(b + 1))
                          : c.momentum);
    }
    if (c.norm == BN2D_NORM_INSTANCE && !c.cumulative) move(mean, var, c.momentum);
  }
  return out;
}

}  // namespace numerics
