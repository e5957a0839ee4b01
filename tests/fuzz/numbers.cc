#include "fuzz/numbers.h"

#include <cmath>

#include "fuzz/comparison.h"
#include "fuzz/norms.h"

namespace bn2d_fuzz {
namespace {

using numerics::arithmetic_of;
using numerics::bound_of;
using numerics::format_of;

bool finite(const Values &values, size_t c) { return values.empty() || std::isfinite(values[c]); }

// Of float and half data. Elements that repeat, which expanded tensors have, lose the same again
// and again.
constexpr Real kBoundOfMean = 2;

// By element, and by channel.
Comparison elements(const char *name, const Numbers &n) {
  return {name, n.data, n.e.c, n.e.plane(), n.judged};
}
Comparison channels(const char *name, const Numbers &n, int32_t dtype) {
  return {name, dtype, n.e.c, 1, n.judged};
}

// A gradient that is added to what is there.
void blend_in(Reals &value, Reals &scale, const Values &old, double blend) {
  for (size_t c = 0; c < value.size(); ++c) {
    if (blend == 0) continue;
    const Real before = static_cast<Real>(old[c]) * blend;
    value[c] += before;
    scale[c] = std::max({scale[c], std::fabs(before), std::fabs(value[c])});
  }
}

}  // namespace

void Numbers::compute() {
  if (in_sets()) return compute_sets(*this);
  const auto channels = static_cast<size_t>(e.c);
  if (count == 0)
    statistics = batch ? oracle::batch_statistics(e, x, eps)
                       : oracle::frozen_statistics(running_mean, running_var, eps);
  forward = oracle::forward(e, x, z, weight, bias, statistics, activation);
  judged.assign(channels, true);
  edge.assign(x.size(), false);
  for (size_t c = 0; c < channels; ++c) {
    bool good = finite(weight, c) && finite(bias, c) && std::isfinite(statistics.invstd[c]);
    if (!batch) good &= std::isfinite(running_mean[c]);
    const Real near =
        16 * (oracle::ulp(arithmetic_of(data), forward.scale[c]) +
              smallest(data) * (1 + std::fabs(oracle::at_or(weight, c, 1)) * statistics.invstd[c]));
    const Real limit = 2 * largest(arithmetic_of(data));  // before the activation makes it smaller
    oracle::for_channel(e, static_cast<int64_t>(c), [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      good &= std::isfinite(x[at]) && finite(z, at) && std::fabs(forward.v[at]) < limit;
      for (const Real kink : activation.kinks())
        if (!(std::fabs(forward.v[at] - kink) > near) ||
            (kink == 0 && numerics::rounded(data, forward.v[at] / 16) == 0))
          edge[at] = true;
    });
    judged[c] = good;
  }
}

std::string Numbers::judge_y(const Values &y) const {
  if (in_sets()) return judge_y_of_sets(*this, y);
  const Comparison comparison = elements("y", *this);
  // The unit of the smallest numbers, and what it becomes where 1/std is large: no mean lies
  // between two of them. A slope that is so small is a multiple of it, too.
  Reals extra;
  for (size_t c = 0; c < judged.size(); ++c) {
    Real most = 0;
    if (activation.kind == oracle::Activation::leaky) {
      oracle::for_channel(e, static_cast<int64_t>(c), [&](int64_t i) {
        most = std::max(most, std::fabs(forward.v[static_cast<size_t>(i)]));
      });
    }
    extra.push_back(smallest(data) *
                    (1 + most + std::fabs(oracle::at_or(weight, c, 1)) * statistics.invstd[c]));
  }
  return comparison.run(y, forward.y, forward.scale, extra, bound_of(data));
}

Reals Numbers::promised_mean_scale() const {
  Reals scale;
  for (size_t c = 0; c < statistics.mean.size(); ++c)
    scale.push_back(oracle::promised_mean_scale(statistics, c, data == BN2D_F64));
  return scale;
}

std::string Numbers::judge_saved(const Values *mean, const Values *invstd) const {
  if (in_sets()) return judge_saved_of_sets(*this, mean, invstd);
  // Saved statistics are doubles; what is promised of them is that they are right once they are
  // rounded.
  const bool f64 = data == BN2D_F64;
  const int32_t precision = f64 ? BN2D_F64 : BN2D_F32;
  const auto narrow = [&](const Values &wide) {
    Values out;
    for (const double v : wide) out.push_back(numerics::rounded(precision, v));
    return out;
  };
  std::string problem;
  const Reals none;
  if (mean != nullptr) {
    problem = bn2d_fuzz::channels("saved_mean", *this, precision)
                  .run(narrow(*mean), statistics.mean, promised_mean_scale(),
                       Reals(judged.size(), smallest(data)), f64 ? 1 : kBoundOfMean);
  }
  if (invstd != nullptr && problem.empty()) {
    problem = bn2d_fuzz::channels("saved_invstd", *this, precision)
                  .run(narrow(*invstd), statistics.invstd, statistics.invstd, none, f64 ? 3 : 2);
  }
  return problem;
}

std::string Numbers::judge_running(const Values *mean, const Values *var, double factor,
                                   bool biased, bool protect) const {
  if (in_sets()) return judge_running_of_sets(*this, mean, var, factor, biased, protect);
  const auto channels = static_cast<size_t>(e.c);
  const int64_t m = count != 0 ? count : e.per_channel();
  Reals new_mean(channels), new_var(channels), mean_scale(channels), var_scale(channels);
  std::vector<bool> known(channels);
  for (size_t c = 0; c < channels; ++c) {
    const Real v = biased ? statistics.var[c] : oracle::unbiased(statistics.var[c], m);
    const auto note = [&](const Values &old, Real value, Real magnitude, Reals &out, Reals &scale) {
      if (old.empty()) return;
      out[c] = oracle::running(old[c], value, factor);
      scale[c] = std::max<Real>({std::fabs((1 - static_cast<Real>(factor)) * old[c]),
                                 factor * magnitude, std::fabs(out[c])});
    };
    note(running_mean, statistics.mean[c], promised_mean_scale()[c], new_mean, mean_scale);
    note(running_var, v, v, new_var, var_scale);
    // A variance that no double holds is infinite, however small its weight.
    known[c] = judged[c] && finite(running_mean, c) && finite(running_var, c) &&
               v < largest(oracle::binary64);
  }
  const bool f64 = parameters == BN2D_F64;
  const auto statistic = [&](const char *name, const Values *got, const Values &old,
                             const Reals &want, const Reals &scale, Real of_floats) -> std::string {
    if (got == nullptr) return "";
    Comparison comparison = bn2d_fuzz::channels(name, *this, parameters);
    comparison.judged = known;
    for (size_t c = 0; c < channels; ++c) {
      const bool same = (*got)[c] == old[c] || (std::isnan((*got)[c]) && std::isnan(old[c]));
      if (factor == 0 && !same) return std::string(name) + " moved with a factor of 0";
      if (!protect) continue;
      if (!std::isfinite((*got)[c]) && !same)
        return std::string(name) + " is protected, but is not finite";
      if (same) comparison.judged[c] = false;  // it may have been protected
    }
    // One rounding of it, and one of what is stored; the smallest unit stands for both.
    Reals extra(channels, oracle::ulp(format_of(parameters), 0));
    return comparison.run(*got, want, scale, extra, f64 ? (factor != 1 ? 3 : 1) : of_floats);
  };
  std::string problem =
      statistic("running_mean", mean, running_mean, new_mean, mean_scale, kBoundOfMean);
  if (problem.empty()) problem = statistic("running_var", var, running_var, new_var, var_scale, 4);
  return problem;
}

// -------------------------------------------------------------------------------------------------
// gradients

std::string judge_backward(const Numbers &n, const Values &dy, const BackwardResults &results) {
  if (n.in_sets()) return judge_backward_of_sets(n, dy, results);
  const Reals g = oracle::through(n.activation, n.forward.v, dy);
  oracle::Gradient want = oracle::backward(n.e, n.x, g, n.weight, n.statistics, n.batch,
                                           {n.count, results.g, results.g_deviation});
  if (n.activation.pointwise())
    oracle::widen(n.e, n.forward, dy, n.x, n.weight, n.statistics, &want);
  std::vector<bool> judged = n.judged;
  const auto channels = static_cast<size_t>(n.e.c);
  const Real slope = std::fabs(static_cast<Real>(n.activation.slope));
  if (n.activation.kind == oracle::Activation::leaky && slope > 0 &&
      slope < oracle::power_of_two(arithmetic_of(n.data).min_exponent))
    return "";  // it is a multiple of the smallest number
  Reals extra(channels), sum_extra(channels);
  for (size_t c = 0; c < channels; ++c) {
    Real most = 0;
    oracle::for_channel(n.e, static_cast<int64_t>(c), [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      if (!std::isfinite(dy[at])) judged[c] = false;
      if (n.edge[at] && dy[at] != 0) judged[c] = false;
      most = std::max(most, std::fabs(n.statistics.normalised(n.x[at], static_cast<int64_t>(c))));
    });
    if (!results.g.empty()) {
      const Real given = std::fabs(Real{results.g[c]}) +
                         std::fabs(Real{results.g_deviation[c]}) * (1 + n.statistics.invstd[c]);
      if (!(given < largest(arithmetic_of(n.data)) / 4)) judged[c] = false;
    }
    // Sums that leave the range of the arithmetic.
    if (!(want.dbias_scale[c] < largest(arithmetic_of(n.data)) / 4) ||
        !(want.dweight_scale[c] < largest(arithmetic_of(n.data)) / 4))
      judged[c] = false;
    // By how much xhat is off where the mean lies between two of the smallest numbers, and what
    // comes of it.
    const Real m = n.e.per_channel(), unit = smallest(n.data),
               off = unit * (1 + n.statistics.invstd[c]);
    const Real gain = std::fabs(oracle::at_or(n.weight, c, 1)) * n.statistics.invstd[c];
    extra[c] = unit * (1 + gain) * (1 + most) +
               gain * off * (want.dweight_scale[c] + most * want.dbias_scale[c]) / m;
    sum_extra[c] =
        off * ((1 + most) * m + want.dbias_scale[c]) + oracle::ulp(format_of(n.parameters), 0);
  }
  const Real bound = bound_of(n.data);
  const auto element = [&](const char *name, const Values *got, const Reals &value,
                           const Reals &scale) -> std::string {
    if (got == nullptr) return "";
    Comparison comparison = elements(name, n);
    comparison.judged = judged;
    return comparison.run(*got, value, scale, extra, bound);
  };
  const auto channel = [&](const char *name, const Values *got, Reals &value, Reals &scale,
                           const Values &old) -> std::string {
    if (got == nullptr) return "";
    blend_in(value, scale, old, results.blend);
    Comparison comparison = bn2d_fuzz::channels(name, n, n.parameters);
    comparison.judged = judged;
    for (size_t c = 0; c < channels; ++c) {
      if (results.blend != 0 && !finite(old, c)) comparison.judged[c] = false;
    }
    return comparison.run(*got, value, scale, sum_extra, bound + 1);
  };
  return judge_gradients(results, want, element, channel);
}

// What is promised of the second derivative is less: products of three of its terms stay within the
// range.
std::string judge_double_backward(const Numbers &n, const Values &dy,
                                  const DoubleBackwardResults &results) {
  if (n.in_sets()) return judge_double_backward_of_sets(n, dy, results);
  oracle::DoubleGradient want =
      n.activation.pointwise() || !results.ddz.empty() || results.dz != nullptr
          ? oracle::double_backward_through(n.e, n.x, dy, n.weight, n.statistics, n.batch,
                                            n.activation, n.forward, results.ddx, results.ddz,
                                            results.ddweight, results.ddbias)
          : oracle::double_backward(n.e, n.x, oracle::through(n.activation, n.forward.v, dy),
                                    n.weight, n.statistics, n.batch, n.activation, n.forward.v,
                                    results.ddx, results.ddweight, results.ddbias);
  const int reach = arithmetic_of(n.data).max_exponent / 5;
  const Real high = oracle::power_of_two(reach), low = oracle::power_of_two(-reach);
  const auto moderate = [&](Real v) {
    return std::fabs(v) < high && (v == 0 || std::fabs(v) > low);
  };
  std::vector<bool> judged = n.judged;
  const auto channels = static_cast<size_t>(n.e.c);
  for (size_t c = 0; c < channels; ++c) {
    Real most = 0;  // |x - mean|
    bool good = moderate(n.statistics.invstd[c]) && moderate(oracle::at_or(n.weight, c, 1)) &&
                moderate(oracle::at_or(results.ddweight, c, 0)) &&
                moderate(oracle::at_or(results.ddbias, c, 0)) && moderate(n.activation.slope);
    oracle::for_channel(n.e, static_cast<int64_t>(c), [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      good &= moderate(dy[at]) && moderate(oracle::at_or(results.ddx, i, 0)) &&
              moderate(oracle::at_or(results.ddz, i, 0)) &&
              std::fabs(n.statistics.normalised(n.x[at], static_cast<int64_t>(c))) < high;
      most = std::max(most, std::fabs(n.x[at] - n.statistics.mean[c]));
      if (n.edge[at] && dy[at] != 0) good = false;
    });
    judged[c] = judged[c] && good && moderate(most);
  }
  const Reals extra(channels, smallest(n.data) * high);
  const Real bound = bound_of(n.data);
  const auto element = [&](const char *name, const Values *got, const Reals &value,
                           const Reals &scale, bool edges) -> std::string {
    if (got == nullptr) return "";
    Comparison comparison = elements(name, n);
    comparison.judged = judged;
    if (edges) comparison.edge = n.edge;  // their own side counts
    return comparison.run(*got, value, scale, extra, bound);
  };
  std::string problem = element("ddy", results.ddy, want.ddy, want.ddy_scale, true);
  if (problem.empty()) problem = element("dx", results.dx, want.dx, want.dx_scale, false);
  if (problem.empty() && results.dz != nullptr)
    problem = element("dz", results.dz, want.dz, want.dz_scale, true);
  const auto channel = [&](const char *name, const Values *got, Reals &value, Reals &scale,
                           const Values &old) {
    if (got == nullptr || !problem.empty()) return;
    if (value.empty()) value.resize(channels), scale.resize(channels);
    blend_in(value, scale, old, results.blend);
    Comparison comparison = bn2d_fuzz::channels(name, n, n.parameters);
    comparison.judged = judged;
    for (size_t c = 0; c < channels; ++c) {
      if (results.blend != 0 && !finite(old, c)) comparison.judged[c] = false;
    }
    Reals sums(channels, smallest(n.data) * high + oracle::ulp(format_of(n.parameters), 0));
    problem = comparison.run(*got, value, scale, sums, bound + 1);
  };
  channel("dweight", results.dweight, want.dweight, want.dweight_scale, results.old_dweight);
  channel("dbias", results.dbias, want.dbias, want.dbias_scale, results.old_dbias);
  return problem;
}

std::string judge_sums(const Numbers &n, const Values &dy, const Values &sums) {
  const Reals g = oracle::through(n.activation, n.forward.v, dy);
  oracle::Statistics deviations = n.statistics;
  deviations.invstd.assign(deviations.invstd.size(), 1);
  const oracle::Gradient want = oracle::backward(n.e, n.x, g, {}, deviations, true);
  const Real slope = std::fabs(static_cast<Real>(n.activation.slope));
  if (n.activation.kind == oracle::Activation::leaky && slope > 0 &&
      slope < oracle::power_of_two(arithmetic_of(n.data).min_exponent))
    return "";
  const auto channels = static_cast<size_t>(n.e.c);
  const Real growth = n.activation.pointwise() ? 2 : 1;
  for (size_t c = 0; c < channels; ++c) {
    bool judged = n.judged[c];
    Real of_argument = 0, most = 0;
    oracle::for_channel(n.e, static_cast<int64_t>(c), [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      judged = judged && std::isfinite(dy[at]) && !(n.edge[at] && dy[at] != 0);
      of_argument += std::fabs(dy[at]) * (1 + n.forward.scale[c]);
      most = std::max(most, std::fabs(n.x[at] - n.statistics.mean[c]));
    });
    if (growth == 1) of_argument = 0;
    const Real range = largest(arithmetic_of(n.data)) / 4, m = n.e.per_channel(),
               unit = smallest(n.data);
    if (!judged || !(want.dbias_scale[c] < range) || !(want.dweight_scale[c] < range) ||
        !(of_argument < range) || !(of_argument * most < range))
      continue;
    const auto judge = [&](const char *name, double got, Real right, Real scale,
                           Real extra) -> std::string {
      const Real allowed =
          (bound_of(n.data) + 1) * oracle::ulp(arithmetic_of(n.data), scale) + extra;
      if (std::fabs(got - right) <= allowed) return "";
      char text[160];
      std::snprintf(text, sizeof text, "%s of channel %zu is %.17g, not %.17Lg within %.3Lg", name,
                    c, got, right, allowed);
      return text;
    };
    std::string problem = judge("sum of g", sums[c], want.dbias[c],
                                std::max(want.dbias_scale[c], of_argument), unit * m);
    if (problem.empty())
      problem = judge("sum of g*(x - mean)", sums[channels + c], want.dweight[c],
                      std::max(want.dweight_scale[c], of_argument * most),
                      unit * (want.dbias_scale[c] + (1 + most) * m));
    if (!problem.empty()) return problem;
  }
  return "";
}

}  // namespace bn2d_fuzz
