#include "fuzz/norms.h"

#include <cmath>

#include "fuzz/comparison.h"

namespace bn2d_fuzz {
namespace {

using numerics::arithmetic_of;
using numerics::bound_of;
using numerics::format_of;

numerics::NormSetting setting_of(const Numbers &n) {
  numerics::NormSetting s;
  s.e = n.e;
  s.norm = n.norm;
  s.groups = n.groups, s.ghost = n.ghost;
  s.data = n.data, s.module = n.parameters;
  s.activation = n.activation;
  s.residual = !n.z.empty();
  s.track = !n.running_mean.empty() && !n.running_var.empty();
  s.stateless = true;  // ddweight counts without a weight, too
  s.cumulative = n.cumulative;
  s.counted = n.counted;
  s.eps = n.eps;
  return s;
}

numerics::Inputs inputs_of(const Numbers &n) {
  numerics::Inputs in;
  in.x = n.x, in.z = n.z, in.weight = n.weight, in.bias = n.bias;
  in.running_mean = n.running_mean, in.running_var = n.running_var;
  return in;
}

bool finite(const Values &values, size_t i) { return values.empty() || std::isfinite(values[i]); }

// Calls body(set, its planes): plane n*C + c.
template <class Body>
void for_sets(const Numbers &n, Body body) {
  const numerics::NormSetting s = setting_of(n);
  size_t set = 0;
  for (int64_t n0 = 0; n0 < n.e.n; n0 += s.samples()) {
    for (int64_t c0 = 0; c0 < n.e.c; c0 += s.channels(), ++set) {
      std::vector<size_t> planes;
      for (int64_t i = n0; i < std::min(n.e.n, n0 + s.samples()); ++i)
        for (int64_t c = c0; c < c0 + s.channels(); ++c)
          planes.push_back(static_cast<size_t>(i * n.e.c + c));
      body(set, planes);
    }
  }
}

template <class Body>
void for_plane(const Numbers &n, size_t plane, Body body) {
  const auto size = static_cast<size_t>(n.e.plane());
  for (size_t i = plane * size; i < (plane + 1) * size; ++i) body(i);
}

size_t channel_of(const Numbers &n, size_t plane) { return plane % static_cast<size_t>(n.e.c); }

Comparison elements(const char *name, const Numbers &n, const std::vector<bool> &judged) {
  return {name, n.data, n.e.n * n.e.c, n.e.plane(), judged};
}
Comparison channels(const char *name, const Numbers &n, const std::vector<bool> &judged) {
  return {name, n.parameters, n.e.c, 1, judged};
}

// A gradient that is added to what is there.
void blend_in(Reals &value, Reals &scale, const Values &old, double blend,
              std::vector<bool> &judged) {
  for (size_t c = 0; c < value.size() && blend != 0; ++c) {
    const Real before = static_cast<Real>(old[c]) * blend;
    if (!std::isfinite(old[c])) judged[c] = false;
    value[c] += before;
    scale[c] = std::max({scale[c], std::fabs(before), std::fabs(value[c])});
  }
}

// Of y by planes, and what is allowed on top. The mean is that of the set, within a part of its
// deviation, and all of a plane may lie there.
void scales_of_y(const Numbers &n, Reals *scale, Reals *extra) {
  *scale = n.sets.y_scale;
  extra->resize(scale->size());
  const bool leaky = n.activation.kind == oracle::Activation::leaky;
  const Real growth = leaky ? std::max<Real>(1, std::fabs(Real{n.activation.slope})) : 1;
  for_sets(n, [&](size_t set, const std::vector<size_t> &planes) {
    for (const size_t plane : planes) {
      const Real weight =
          std::fabs(oracle::at_or(n.weight, static_cast<int64_t>(channel_of(n, plane)), 1));
      const Real invstd = n.sets.sets.invstd[set];
      Real most = 0;
      if (leaky)
        for_plane(n, plane, [&](size_t i) { most = std::max(most, std::fabs(n.sets.v[i])); });
      (*scale)[plane] =
          std::max((*scale)[plane], growth * weight * n.sets.sets.deviation[set] * invstd);
      (*extra)[plane] = smallest(n.data) * (1 + most + weight * invstd);
    }
  });
}

}  // namespace

void compute_sets(Numbers &n) {
  numerics::Inputs in = inputs_of(n);
  n.sets = numerics::expect(setting_of(n), in, false);
  n.edge = n.sets.edge;
  n.judged.assign(static_cast<size_t>(n.e.n * n.e.c), true);
  n.judged_sets.assign(n.sets.sets.mean.size(), true);
  const Real limit = 2 * largest(arithmetic_of(n.data));
  for_sets(n, [&](size_t set, const std::vector<size_t> &planes) {
    bool good = std::isfinite(n.sets.sets.invstd[set]);
    for (const size_t plane : planes)
      for_plane(n, plane, [&](size_t i) { good &= std::isfinite(n.x[i]); });
    n.judged_sets[set] = good;
    for (const size_t plane : planes) {
      const size_t c = channel_of(n, plane);
      bool of_plane = good && finite(n.weight, c) && finite(n.bias, c);
      for_plane(n, plane,
                [&](size_t i) { of_plane &= finite(n.z, i) && std::fabs(n.sets.v[i]) < limit; });
      n.judged[plane] = of_plane;
    }
  });
  Reals scale, extra;
  scales_of_y(n, &scale, &extra);
  for (size_t plane = 0; plane < scale.size(); ++plane) {
    const Real near = 16 * (oracle::ulp(arithmetic_of(n.data), scale[plane]) + extra[plane]);
    for_plane(n, plane, [&](size_t i) {
      for (const Real kink : n.activation.kinks())
        if (!(std::fabs(n.sets.v[i] - kink) > near)) n.edge[i] = true;
    });
  }
}

std::string judge_y_of_sets(const Numbers &n, const Values &y) {
  Reals scale, extra;
  scales_of_y(n, &scale, &extra);
  return elements("y", n, n.judged).run(y, n.sets.y, scale, extra, bound_of(n.data));
}

std::string judge_saved_of_sets(const Numbers &n, const Values *mean, const Values *invstd) {
  const bool f64 = n.data == BN2D_F64;
  const int32_t precision = f64 ? BN2D_F64 : BN2D_F32;
  const oracle::Statistics &s = n.sets.sets;
  const auto judge = [&](const char *name, const Values *got, const Reals &want, const Reals &scale,
                         const Reals &extra, Real bound) -> std::string {
    if (got == nullptr) return "";
    Values narrow;
    for (const double v : *got) narrow.push_back(numerics::rounded(precision, v));
    return Comparison(name, precision, static_cast<int64_t>(want.size()), 1, n.judged_sets)
        .run(narrow, want, scale, extra, bound);
  };
  Reals scale;
  for (size_t i = 0; i < s.mean.size(); ++i)
    scale.push_back(oracle::promised_mean_scale(s, i, f64));
  const std::string problem =
      judge("saved_mean", mean, s.mean, scale, Reals(scale.size(), smallest(n.data)), f64 ? 1 : 2);
  return problem.empty() ? judge("saved_invstd", invstd, s.invstd, s.invstd, {}, f64 ? 3 : 2)
                         : problem;
}

std::string judge_running_of_sets(const Numbers &n, const Values *mean, const Values *var,
                                  double factor, bool biased, bool protect) {
  if (mean == nullptr || var == nullptr) return "";
  numerics::NormSetting setting = setting_of(n);
  setting.momentum = factor;
  setting.biased = biased;
  numerics::Inputs in = inputs_of(n);
  const numerics::ExpectedNorm want = numerics::expect(setting, in, false);
  const auto channels_of = static_cast<size_t>(n.e.c);
  const bool f64 = n.parameters == BN2D_F64;
  const bool stays = n.norm == BN2D_NORM_INSTANCE && (n.cumulative || factor == 0);
  const Real top = largest(format_of(n.parameters)) / 4;
  std::vector<bool> judged(channels_of, true);
  Reals mean_scale(channels_of), var_scale(channels_of), new_mean, new_var;
  for (size_t c = 0; c < channels_of; ++c) {
    mean_scale[c] = std::fabs(n.running_mean[c]), var_scale[c] = std::fabs(n.running_var[c]);
    new_mean.push_back(want.running_mean[c]), new_var.push_back(want.running_var[c]);
    judged[c] = std::isfinite(n.running_mean[c]) && std::isfinite(n.running_var[c]);
  }
  for_sets(n, [&](size_t set, const std::vector<size_t> &planes) {
    const size_t c = channel_of(n, planes[0]);
    const auto m = static_cast<int64_t>(planes.size()) * n.e.plane();
    judged[c] = judged[c] && n.judged_sets[set];
    mean_scale[c] =
        std::max(mean_scale[c], oracle::promised_mean_scale(want.sets, set, n.data == BN2D_F64));
    var_scale[c] = std::max(var_scale[c],
                            biased ? want.sets.var[set] : oracle::unbiased(want.sets.var[set], m));
  });
  const Real steps = static_cast<Real>(want.sets.mean.size()) / static_cast<Real>(n.e.c);
  const auto judge = [&](const char *name, const Values &got, const Values &old, const Reals &right,
                         const Reals &scale, Real bound) -> std::string {
    std::vector<bool> counts = judged;
    for (size_t c = 0; c < channels_of; ++c) {
      const bool same = got[c] == old[c] || (std::isnan(got[c]) && std::isnan(old[c]));
      if (stays && !same) return std::string(name) + " moved, and should stay";
      if (protect && !std::isfinite(got[c]) && !same)
        return std::string(name) + " is protected, but is not finite";
      // What leaves the range of the dtype on the way; what may have been protected.
      if (!(mean_scale[c] < top && var_scale[c] < top) || (protect && same)) counts[c] = false;
    }
    // Each step rounds what is stored: to half an ulp of it, which of halves is more than one of
    // the arithmetic's.
    Reals extra(channels_of);
    for (size_t c = 0; c < channels_of; ++c)
      extra[c] = (1 + steps) * oracle::ulp(format_of(n.parameters), scale[c]);
    return channels(name, n, counts).run(got, right, scale, extra, bound);
  };
  const std::string problem =
      judge("running_mean", *mean, n.running_mean, new_mean, mean_scale, (f64 ? 3 : 2) + steps);
  return problem.empty() ? judge("running_var", *var, n.running_var, new_var, var_scale, 4 + steps)
                         : problem;
}

std::string judge_backward_of_sets(const Numbers &n, const Values &dy,
                                   const BackwardResults &results) {
  const Real slope = std::fabs(static_cast<Real>(n.activation.slope));
  if (n.activation.kind == oracle::Activation::leaky && slope > 0 &&
      slope < oracle::power_of_two(arithmetic_of(n.data).min_exponent))
    return "";  // it is a multiple of the smallest number
  numerics::Inputs in = inputs_of(n);
  in.dy = dy;
  numerics::ExpectedNorm want = numerics::expect(setting_of(n), in, false);
  const auto channels_of = static_cast<size_t>(n.e.c);
  std::vector<bool> judged = n.judged, judged_channels(channels_of, true);
  Reals extra(judged.size()), sum_extra(channels_of, oracle::ulp(format_of(n.parameters), 0));
  const Real unit = smallest(n.data), range = largest(arithmetic_of(n.data)) / 4;
  for_sets(n, [&](size_t set, const std::vector<size_t> &planes) {
    const Real invstd = n.sets.sets.invstd[set];
    Real most = 0, weight = 0, sum = 0, dot = 0;
    bool good = true;
    for (const size_t plane : planes) {
      good &= n.judged[plane];
      weight = std::max(
          weight,
          std::fabs(Real{oracle::at_or(n.weight, static_cast<int64_t>(channel_of(n, plane)), 1)}));
      for_plane(n, plane, [&](size_t i) {
        good &= std::isfinite(dy[i]) && !(n.edge[i] && dy[i] != 0);
        const Real xhat = std::fabs(n.sets.sets.normalised(n.x[i], static_cast<int64_t>(set)));
        most = std::max(most, xhat);
        sum += std::fabs(want.dz[i]), dot += std::fabs(want.dz[i]) * xhat;
      });
    }
    good &= sum < range && dot < range && weight * sum < range && weight * dot < range;
    const Real m = static_cast<Real>(planes.size()) * n.e.plane(), off = unit * (1 + invstd),
               gain = (1 + weight) * invstd;
    for (const size_t plane : planes) {
      const size_t c = channel_of(n, plane);
      judged[plane] = judged[plane] && good;
      judged_channels[c] = judged_channels[c] && good;
      extra[plane] = unit * (1 + gain) * (1 + most) + gain * off * (dot + most * sum) / m;
      sum_extra[c] += off * ((1 + most) * n.e.plane() + sum);
    }
  });
  const Real bound = bound_of(n.data);
  const auto element = [&](const char *name, const Values *got, const Reals &value,
                           const Reals &scale) -> std::string {
    return got == nullptr ? "" : elements(name, n, judged).run(*got, value, scale, extra, bound);
  };
  const auto channel = [&](const char *name, const Values *got, Reals &value, Reals &scale,
                           const Values &old) -> std::string {
    if (got == nullptr) return "";
    std::vector<bool> counts = judged_channels;
    blend_in(value, scale, old, results.blend, counts);
    return channels(name, n, counts).run(*got, value, scale, sum_extra, bound + 1);
  };
  return judge_gradients(results, want, element, channel);
}

// As judge_double_backward(): what is promised of the second derivative is less.
std::string judge_double_backward_of_sets(const Numbers &n, const Values &dy,
                                          const DoubleBackwardResults &results) {
  numerics::Inputs in = inputs_of(n);
  in.dy = dy;
  in.ddx = results.ddx.empty() ? Values(dy.size(), 0.0) : results.ddx;
  in.ddweight = results.ddweight, in.ddbias = results.ddbias, in.ddz = results.ddz;
  numerics::NormSetting setting = setting_of(n);
  setting.loss_of_dz = true;
  numerics::ExpectedNorm want = numerics::expect(setting, in, false);
  const int reach = arithmetic_of(n.data).max_exponent / 5;
  const Real high = oracle::power_of_two(reach), low = oracle::power_of_two(-reach);
  const auto moderate = [&](Real v) {
    return std::fabs(v) < high && (v == 0 || std::fabs(v) > low);
  };
  const auto channels_of = static_cast<size_t>(n.e.c);
  std::vector<bool> judged = n.judged, judged_channels(channels_of, true);
  for_sets(n, [&](size_t set, const std::vector<size_t> &planes) {
    bool good = moderate(n.sets.sets.invstd[set]) && moderate(n.activation.slope);
    Real most = 0;
    for (const size_t plane : planes) {
      const auto c = static_cast<int64_t>(channel_of(n, plane));
      good &= n.judged[plane] && moderate(oracle::at_or(n.weight, c, 1)) &&
              moderate(oracle::at_or(results.ddweight, c, 0)) &&
              moderate(oracle::at_or(results.ddbias, c, 0));
      for_plane(n, plane, [&](size_t i) {
        good &= moderate(dy[i]) && moderate(in.ddx[i]) && !(n.edge[i] && dy[i] != 0) &&
                moderate(oracle::at_or(in.ddz, static_cast<int64_t>(i), 0)) &&
                std::fabs(n.sets.sets.normalised(n.x[i], static_cast<int64_t>(set))) < high;
        most = std::max(most, std::fabs(n.x[i] - n.sets.sets.mean[set]));
      });
    }
    good &= moderate(most);
    for (const size_t plane : planes) {
      judged[plane] = good;
      judged_channels[channel_of(n, plane)] = judged_channels[channel_of(n, plane)] && good;
    }
  });
  const Reals extra(judged.size(), smallest(n.data) * high);
  const Real bound = bound_of(n.data);
  std::string problem;
  if (results.ddy != nullptr) {
    // As of y: where x is the mean of its set, what is left of it counts.
    for_sets(n, [&](size_t set, const std::vector<size_t> &planes) {
      const Real slope = std::max<Real>(1, std::fabs(Real{n.activation.slope}));
      for (const size_t plane : planes) {
        const Real ddweight = std::fabs(
            Real{oracle::at_or(results.ddweight, static_cast<int64_t>(channel_of(n, plane)), 0)});
        want.ddy_scale[plane] =
            std::max(want.ddy_scale[plane],
                     slope * ddweight * n.sets.sets.deviation[set] * n.sets.sets.invstd[set]);
      }
    });
    Comparison comparison = elements("ddy", n, judged);
    comparison.edge = n.edge;  // their own side counts
    problem = comparison.run(*results.ddy, want.ddy, want.ddy_scale, extra, bound);
  }
  if (problem.empty() && results.dx != nullptr)
    problem = elements("dx", n, judged).run(*results.dx, want.dx2, want.dx2_scale, extra, bound);
  if (problem.empty() && results.dz != nullptr) {
    Comparison comparison = elements("dz", n, judged);
    comparison.edge = n.edge;
    problem = comparison.run(*results.dz, want.dz2, want.dz2_scale, extra, bound);
  }
  const auto channel = [&](const char *name, const Values *got, Reals &value, Reals &scale,
                           const Values &old) {
    if (got == nullptr || !problem.empty()) return;
    std::vector<bool> judged_too = judged_channels;
    blend_in(value, scale, old, results.blend, judged_too);
    const Reals sums(channels_of,
                     smallest(n.data) * high + oracle::ulp(format_of(n.parameters), 0));
    problem = channels(name, n, judged_too).run(*got, value, scale, sums, bound + 1);
  };
  channel("dweight", results.dweight, want.dweight2, want.dweight2_scale, results.old_dweight);
  channel("dbias", results.dbias, want.dbias2, want.dbias2_scale, results.old_dbias);
  return problem;
}

}  // namespace bn2d_fuzz
