// What batch normalisation is, in long double, straight from the formulas, without any trick of the
// library: logical (n, c, h, w) arrays, two passes, compensated sums. Beside each result stands its
// scale: the largest magnitude that goes into it, so that |error| / ulp(scale) is the error in
// units that the conditioning of the sum cannot excuse.
//
//   y        max over the channel of |y| and |bias|, with a residual of |z| and |bn(x)|, too;
//            of |slope| times these where a slope makes larger what was rounded before it;
//            after a pointwise activation of |v|, too, times the slope of the activation where that
//            is above 1
//   dbias    sum |g|                     where g = dy * act'(v)
//   dweight  sum |g * xhat|
//   dz       |g| (per channel: the largest)
//            after a pointwise activation g has the error of its own argument: of dz |dy|*(1 +
//            scale of y), of the others likewise; act'' is below 1
//   dx       max_i |w*s| (|g_i| + sum|g|/M + |xhat_i| * sum|g*xhat|/M);  frozen: max_i |w*s*g_i|
//   double backward: the same rule, every sum of products replaced by the sum of their magnitudes
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <vector>

namespace oracle {

using Real = long double;

// -------------------------------------------------------------------------------------------------
// number formats

struct Format {
  int digits;        // bits of the significand, the hidden one included
  int min_exponent;  // of the smallest normal number
  int max_exponent;  // of the largest number
};
constexpr Format binary16{11, -14, 15};
constexpr Format bfloat16{8, -126, 127};
constexpr Format binary32{24, -126, 127};
constexpr Format binary64{53, -1022, 1023};

// 2^exponent, from a table: this is what the comparison of millions of elements spends its time on.
inline Real power_of_two(int exponent) {
  constexpr int reach = 1200;
  static const std::vector<Real> table = [] {
    std::vector<Real> powers;
    for (int k = -reach; k <= reach; ++k) powers.push_back(std::ldexp(Real{1}, k));
    return powers;
  }();
  return std::abs(exponent) <= reach ? table[static_cast<size_t>(exponent + reach)]
                                     : std::ldexp(Real{1}, exponent);
}

// Distance of two neighbours of the format around v.
inline Real ulp(const Format &format, Real v) {
  const int exponent = v == 0 ? format.min_exponent : std::max(std::ilogb(v), format.min_exponent);
  return power_of_two(exponent - format.digits + 1);
}

// Round to nearest, ties to even, once; subnormal numbers and overflow to infinity included.
inline Real round_to(const Format &format, Real v) {
  if (v == 0 || !std::isfinite(v)) return v;
  const Real unit = ulp(format, v);
  const Real rounded = std::rint(v / unit) * unit;
  const Real limit = power_of_two(format.max_exponent + 1);
  return std::fabs(rounded) >= limit ? std::copysign(std::numeric_limits<Real>::infinity(), v)
                                     : rounded;
}

// -------------------------------------------------------------------------------------------------
// sums

// Neumaier's sum: the error of every addition is kept. Knuth's form of that error, without a
// branch.
class Sum {
 public:
  void add(Real v) {
    const Real next = sum_ + v, part = next - sum_;
    lost_ += (sum_ - (next - part)) + (v - part);
    sum_ = next;
  }
  Real value() const { return sum_ + lost_; }

 private:
  Real sum_ = 0, lost_ = 0;
};

// -------------------------------------------------------------------------------------------------
// extents

struct Extents {
  int64_t n, c, h, w;
  int64_t plane() const { return h * w; }
  int64_t per_channel() const { return n * h * w; }
  int64_t size() const { return n * c * h * w; }
};

using Values = std::vector<double>;  // inputs: a double holds every element type exactly
using Reals = std::vector<Real>;     // results

// Calls body(i) for the logical index of every element of a channel.
template <class Body>
void for_channel(const Extents &e, int64_t channel, Body body) {
  for (int64_t n = 0; n < e.n; ++n) {
    const int64_t start = (n * e.c + channel) * e.plane();
    for (int64_t i = start; i < start + e.plane(); ++i) body(i);
  }
}

inline double at_or(const Values &values, int64_t i, double otherwise) {
  return values.empty() ? otherwise : values[static_cast<size_t>(i)];
}

// -------------------------------------------------------------------------------------------------
// statistics

struct Statistics {
  Reals mean, mean_rest, var, invstd;  // the mean is mean + mean_rest
  Reals mean_scale;                    // |mean|, but 2^-30 of the mean magnitude where all cancels
  Reals deviation;                     // standard deviation; 0 where the statistics are given

  Real normalised(double x, int64_t c) const { return ((x - mean[c]) - mean_rest[c]) * invstd[c]; }
};

inline Real inverse_std(Real var, double eps) {
  const Real v = var + static_cast<Real>(eps);
  return v == 0 ? Real{0} : 1 / std::sqrt(v);
}

inline Statistics batch_statistics(const Extents &e, const Values &x, double eps) {
  Statistics s;
  for (int64_t c = 0; c < e.c; ++c) {
    Sum sum, rest, squares;
    Real magnitude = 0;
    for_channel(e, c, [&](int64_t i) {
      sum.add(x[i]);
      magnitude += std::fabs(x[i]);
    });
    // The mean as two numbers: 64 bits are too few where it is a million standard deviations away
    // from 0, or an x a millionth of one away from it. What the differences lose counts, too.
    const Real mean = sum.value() / e.per_channel();
    for_channel(e, c, [&](int64_t i) {
      const Real d = x[i] - mean, part = d - x[i];
      rest.add(d), rest.add((x[i] - (d - part)) - (mean + part));
    });
    const Real mean_rest = rest.value() / e.per_channel();
    for_channel(e, c, [&](int64_t i) {
      const Real d = (x[i] - mean) - mean_rest;
      squares.add(d * d);
    });
    const Real var = squares.value() / e.per_channel();
    s.mean.push_back(mean);
    s.mean_rest.push_back(mean_rest);
    s.mean_scale.push_back(std::max(std::fabs(mean), std::ldexp(magnitude / e.per_channel(), -30)));
    s.var.push_back(var);
    s.deviation.push_back(std::sqrt(var));
    s.invstd.push_back(inverse_std(var, eps));
  }
  return s;
}

// Of what magnitude one ulp of a mean is promised: of float and half data, which are summed in
// float, it is within an ulp of its value or 2^-24 standard deviations, and the ulp of a float is
// more than 2^-24 of it.
inline Real promised_mean_scale(const Statistics &s, size_t c, bool f64) {
  return f64 ? s.mean_scale[c] : std::max(s.mean_scale[c], s.deviation[c] / 2);
}

inline Statistics frozen_statistics(const Values &running_mean, const Values &running_var,
                                    double eps) {
  Statistics s;
  for (size_t c = 0; c < running_mean.size(); ++c) {
    s.mean.push_back(running_mean[c]);
    s.mean_rest.push_back(0);
    s.mean_scale.push_back(std::fabs(running_mean[c]));
    s.var.push_back(running_var[c]);
    s.deviation.push_back(0);
    s.invstd.push_back(inverse_std(running_var[c], eps));
  }
  return s;
}

// A running statistic before it is rounded; m is the weight of the new value.
inline Real running(double old, Real value, double m) {
  return m == 0 ? old : (1 - static_cast<Real>(m)) * old + m * value;
}

inline Real unbiased(Real var, int64_t m) { return var * m / (m - 1); }

// -------------------------------------------------------------------------------------------------
// forward

struct Activation {
  enum Kind {
    none = 0,
    relu = 1,
    leaky = 2,
    relu6 = 3,
    clamp = 4,
    hardswish = 5,
    silu = 6,
    gelu = 7,
    sigmoid = 8
  } kind = none;
  double slope = 0;

  bool pointwise() const { return kind > leaky; }
  bool curved() const { return kind > clamp; }
  Real bound() const { return kind == relu6 ? Real{6} : Real{slope}; }
  // Where the derivative jumps.
  std::vector<Real> kinks() const {
    if (kind == relu || kind == leaky) return {0};
    if (kind == relu6 || kind == clamp) return {0, bound()};
    if (kind == hardswish) return {-3, 3};
    return {};
  }
  Real value(Real v) const {
    if (std::isnan(v)) return v;
    switch (kind) {
      case none:
        return v;
      case relu:
        return v > 0 ? v : 0;
      case leaky:
        return v > 0 ? v : slope * v;
      case relu6:
      case clamp:
        return std::min(std::max(v, Real{0}), bound());
      case hardswish:
        return v <= -3 ? 0 : v >= 3 ? v : v * (v + 3) / 6;
      case silu:
        return v == -infinity ? 0 : v / (1 + std::exp(-v));
      case gelu:
        return v == -infinity ? 0 : v * normal(v);
      case sigmoid:
        return 1 / (1 + std::exp(-v));
    }
    std::abort();
  }
  Real derivative(Real v) const {
    const Real decay = std::exp(-std::fabs(v)),
               slope_of_sigmoid = decay / ((1 + decay) * (1 + decay));
    switch (kind) {
      case none:
        return 1;
      case relu:
        return v > 0 ? 1 : 0;
      case leaky:
        return v > 0 ? 1 : slope;
      case relu6:
      case clamp:
        return v > 0 && v < bound() ? 1 : 0;
      case hardswish:
        return v <= -3 ? 0 : v >= 3 ? 1 : v / 3 + Real{1} / 2;
      case silu:
        return std::isinf(v) ? (v > 0 ? 1 : 0) : 1 / (1 + std::exp(-v)) + v * slope_of_sigmoid;
      case gelu:
        return std::isinf(v)
                   ? (v > 0 ? 1 : 0)
                   : normal(v) + v * std::exp(-v * v / 2) / std::sqrt(2 * std::acos(Real{-1}));
      case sigmoid:
        return slope_of_sigmoid;
    }
    std::abort();
  }
  Real second_derivative(Real v) const {
    const Real pi = std::acos(Real{-1}), sigmoid_of_v = 1 / (1 + std::exp(-v));
    switch (kind) {
      case none:
      case relu:
      case leaky:
      case relu6:
      case clamp:
        return 0;
      case hardswish:
        return v > -3 && v < 3 ? Real{1} / 3 : 0;
      case silu:
        return std::isinf(v) ? 0
                             : sigmoid_of_v * (1 - sigmoid_of_v) * (2 + v * (1 - 2 * sigmoid_of_v));
      case gelu:
        return std::isinf(v) ? 0 : std::exp(-v * v / 2) / std::sqrt(2 * pi) * (2 - v * v);
      case sigmoid:
        return sigmoid_of_v * (1 - sigmoid_of_v) * (1 - 2 * sigmoid_of_v);
    }
    std::abort();
  }

 private:
  static constexpr Real infinity = std::numeric_limits<Real>::infinity();
  // Probability of a normal number below v.
  static Real normal(Real v) { return std::erfc(-v / std::sqrt(Real{2})) / 2; }
};

struct Forward {
  Reals v, y;   // before and after the activation
  Reals scale;  // per channel
};

inline Forward forward(const Extents &e, const Values &x, const Values &z, const Values &weight,
                       const Values &bias, const Statistics &s, const Activation &activation) {
  Forward f{Reals(x.size()), Reals(x.size()), Reals(e.c)};
  for (int64_t c = 0; c < e.c; ++c) {
    const Real w = at_or(weight, c, 1), b = at_or(bias, c, 0);
    Real scale = std::fabs(b);
    for_channel(e, c, [&](int64_t i) {
      const Real bn = w * s.normalised(x[i], c) + b;
      f.v[i] = bn + at_or(z, i, 0);
      f.y[i] = activation.value(f.v[i]);
      const Real growth = std::max(std::fabs(activation.derivative(f.v[i])), Real{1});
      scale = std::max({scale, std::fabs(f.y[i]), growth * std::fabs(b)});
      if (activation.pointwise()) scale = std::max(scale, growth * std::fabs(f.v[i]));
      if (!z.empty())
        scale =
            std::max(scale, growth * std::max(std::fabs(bn), std::fabs(static_cast<Real>(z[i]))));
    });
    f.scale[c] = scale;
  }
  return f;
}

// -------------------------------------------------------------------------------------------------
// backward

// What backward and double backward have in common. g is dy through the activation.
struct Gradient {
  Reals dx, dz, dweight, dbias;
  Reals dx_scale, dz_scale, dweight_scale, dbias_scale;  // per channel
};

// dy through the activation: v from forward().
inline Reals through(const Activation &activation, const Reals &v, const Values &dy) {
  Reals g(dy.size());
  for (size_t i = 0; i < dy.size(); ++i) g[i] = activation.derivative(v[i]) * dy[i];
  return g;
}

// Where x is a part of the batch: what is known of the whole.
struct Whole {
  int64_t count = 0;      // values of each channel; 0: those of x
  Values g, g_deviation;  // sums of g and of g*(x - mean); empty: those of this part
};

inline Gradient backward(const Extents &e, const Values &x, const Reals &g, const Values &weight,
                         const Statistics &s, bool batch, const Whole &whole = {}) {
  Gradient r{Reals(g.size()), g,          Reals(e.c), Reals(e.c),
             Reals(e.c),      Reals(e.c), Reals(e.c), Reals(e.c)};
  const Real m = whole.count != 0 ? whole.count : e.per_channel();
  for (int64_t c = 0; c < e.c; ++c) {
    const Real invstd = s.invstd[c], w = at_or(weight, c, 1);
    Sum sum, dot;
    Real aG = 0, aD = 0;  // magnitudes need no compensation
    for_channel(e, c, [&](int64_t i) {
      const Real xhat = s.normalised(x[i], c);
      sum.add(g[i]);
      dot.add(g[i] * xhat);
      aG += std::fabs(g[i]);
      aD += std::fabs(g[i]) * std::fabs(xhat);
    });
    Real G = sum.value(), D = dot.value();
    r.dbias[c] = G;
    r.dweight[c] = D;
    r.dbias_scale[c] = aG;
    r.dweight_scale[c] = aD;
    if (!whole.g.empty()) {
      G = whole.g[c], D = whole.g_deviation[c] * invstd;
      aG = std::fabs(G), aD = std::fabs(D);
    }
    Real scale = 0, dz_scale = 0;
    for_channel(e, c, [&](int64_t i) {
      const Real xhat = s.normalised(x[i], c);
      dz_scale = std::max(dz_scale, std::fabs(g[i]));
      if (batch) {
        r.dx[i] = w * invstd * (g[i] - G / m - xhat * (D / m));
        scale = std::max(
            scale, std::fabs(w * invstd) * (std::fabs(g[i]) + aG / m + std::fabs(xhat) * (aD / m)));
      } else {
        r.dx[i] = w * invstd * g[i];
        scale = std::max(scale, std::fabs(r.dx[i]));
      }
    });
    r.dx_scale[c] = scale;
    r.dz_scale[c] = dz_scale;
  }
  return r;
}

// Through a pointwise activation, whose derivative changes with its argument by less than that
// changes: what the ulp of an argument does to g is in each term of the sums.
inline void widen(const Extents &e, const Forward &forward, const Values &dy, const Values &x,
                  const Values &weight, const Statistics &s, Gradient *r) {
  const Real m = e.per_channel();
  for (int64_t c = 0; c < e.c; ++c) {
    const Real growth = 1 + forward.scale[c], scale = std::fabs(at_or(weight, c, 1) * s.invstd[c]);
    Real aG = 0, aD = 0, most = 0, most_xhat = 0;
    for_channel(e, c, [&](int64_t i) {
      const Real g = growth * std::fabs(static_cast<Real>(dy[i])),
                 xhat = std::fabs(s.normalised(x[i], c));
      aG += g, aD += g * xhat, most = std::max(most, g), most_xhat = std::max(most_xhat, xhat);
    });
    r->dz_scale[c] = std::max(r->dz_scale[c], most);
    r->dbias_scale[c] = std::max(r->dbias_scale[c], aG);
    r->dweight_scale[c] = std::max(r->dweight_scale[c], aD);
    r->dx_scale[c] = std::max(r->dx_scale[c], scale * (most + aG / m + most_xhat * aD / m));
  }
}

// ------------------------------------------------------------------------------------------------
// double backward

// For a loss with the gradients a = ddx, b = ddweight, e = ddbias. With x^ = (x-mean)s, <u> =
// sum(u)/M, q = <g x^>, r = <a x^>, the loss is
//     L = w s M (<a g> - <a><g> - q r) + b sum(g x^) + e sum(g)
// and its derivatives, with dx^_j/dx_i = s(delta_ij - 1/M - x^_i x^_j/M) and ds/dx_i = -s^2 x^_i/M,
// are
//     by g:  w s (a - <a> - x^ r) + b x^ + e          by dy: act' times that
//     by w:  s M (<a g> - <a><g> - q r)
//     by x:  -w s^2 (x^ (<a g> - <a><g> - q r) + r (g - <g> - x^ q) + q (a - <a> - x^ r)) + b s (g
//     - <g> - x^ q)
// Frozen statistics: L = w s sum(a g) + b sum(g x^) + e sum(g).
struct DoubleGradient {
  Reals ddy, dx, dweight;
  Reals ddy_scale, dx_scale, dweight_scale;  // per channel
  Reals dz, dbias, dz_scale, dbias_scale;    // only of double_backward_through()
};

inline DoubleGradient double_backward(const Extents &e, const Values &x, const Reals &g,
                                      const Values &weight, const Statistics &s, bool batch,
                                      const Activation &activation, const Reals &v,
                                      const Values &ddx, const Values &ddweight,
                                      const Values &ddbias) {
  DoubleGradient r{Reals(g.size()),
                   Reals(g.size()),
                   Reals(e.c),
                   Reals(e.c),
                   Reals(e.c),
                   Reals(e.c),
                   {},
                   {},
                   {},
                   {}};
  const Real m = e.per_channel();
  for (int64_t c = 0; c < e.c; ++c) {
    const Real invstd = s.invstd[c], w = at_or(weight, c, 1);
    const Real b = at_or(ddweight, c, 0), d = at_or(ddbias, c, 0);
    Sum sum_a, sum_g, sum_q, sum_r, sum_ag;
    Real aA = 0, aG = 0, aQ = 0, aR = 0, aAG = 0;
    for_channel(e, c, [&](int64_t i) {
      const Real xhat = s.normalised(x[i], c), a = at_or(ddx, i, 0);
      sum_a.add(a), sum_g.add(g[i]), sum_q.add(g[i] * xhat), sum_r.add(a * xhat),
          sum_ag.add(a * g[i]);
      const Real ag = std::fabs(g[i]), aa = std::fabs(a), ax = std::fabs(xhat);
      aA += aa, aG += ag, aQ += ag * ax, aR += aa * ax, aAG += aa * ag;
    });
    const Real A = sum_a.value() / m, G = sum_g.value() / m, Q = sum_q.value() / m,
               R = sum_r.value() / m;
    aA /= m, aG /= m, aQ /= m, aR /= m;
    const Real P = sum_ag.value() / m - A * G - Q * R, aP = aAG / m + aA * aG + aQ * aR;
    const Real ws = w * invstd;
    r.dweight[c] = batch ? invstd * m * P : invstd * sum_ag.value();
    r.dweight_scale[c] = std::fabs(invstd) * (batch ? m * aP : aAG);
    Real ddy_scale = 0, dx_scale = 0;
    for_channel(e, c, [&](int64_t i) {
      const Real xhat = s.normalised(x[i], c), a = at_or(ddx, i, 0),
                 side = activation.derivative(v[i]);
      const Real ag = std::fabs(g[i]), aa = std::fabs(a), ax = std::fabs(xhat);
      if (batch) {
        const Real centred_a = a - A - xhat * R, centred_g = g[i] - G - xhat * Q;
        const Real abs_centred_a = aa + aA + ax * aR, abs_centred_g = ag + aG + ax * aQ;
        r.ddy[i] = side * (ws * centred_a + b * xhat + d);
        r.dx[i] =
            -ws * invstd * (xhat * P + R * centred_g + Q * centred_a) + b * invstd * centred_g;
        ddy_scale = std::max(ddy_scale, std::fabs(side) * (std::fabs(ws) * abs_centred_a +
                                                           std::fabs(b) * ax + std::fabs(d)));
        dx_scale = std::max(
            dx_scale, std::fabs(ws * invstd) * (ax * aP + aR * abs_centred_g + aQ * abs_centred_a) +
                          std::fabs(b * invstd) * abs_centred_g);
      } else {
        r.ddy[i] = side * (ws * a + b * xhat + d);
        r.dx[i] = b * invstd * g[i];
        ddy_scale = std::max(
            ddy_scale, std::fabs(side) * (std::fabs(ws) * aa + std::fabs(b) * ax + std::fabs(d)));
        dx_scale = std::max(dx_scale, std::fabs(r.dx[i]));
      }
    });
    r.ddy_scale[c] = ddy_scale;
    r.dx_scale[c] = dx_scale;
  }
  return r;
}

// The same where act'' is not 0, and where the loss depends on dz, too: f = ddz. With u = dL/dg of
// the plain one, plus f, and h = act'' dy u,
//     by dy: act' u,   by z: h,   by x, w and the bias: the plain one, plus backward of h
inline DoubleGradient double_backward_through(const Extents &e, const Values &x, const Values &dy,
                                              const Values &weight, const Statistics &s, bool batch,
                                              const Activation &activation, const Forward &forward,
                                              const Values &ddx, const Values &ddz,
                                              const Values &ddweight, const Values &ddbias) {
  const Activation plain;
  const Reals g = through(activation, forward.v, dy);
  Reals most_g(g.size()), h(g.size()), most_h(g.size());
  const auto growth = [&](int64_t c) {  // of the ulp of an argument, see widen()
    return activation.pointwise() ? 1 + forward.scale[c] : Real{1};
  };
  for (int64_t c = 0; c < e.c; ++c)
    for_channel(e, c, [&](int64_t i) { most_g[i] = growth(c) * std::fabs(Real{dy[i]}); });
  DoubleGradient r = double_backward(e, x, g, weight, s, batch, plain, forward.v, ddx, ddweight,
                                     ddbias),
                 most = double_backward(e, x, most_g, weight, s, batch, plain, forward.v, ddx,
                                        ddweight, ddbias);
  for (int64_t c = 0; c < e.c; ++c) {
    Real of_u = r.ddy_scale[c];
    for_channel(e, c, [&](int64_t i) {
      of_u = std::max(of_u, r.ddy_scale[c] + std::fabs(Real{at_or(ddz, i, 0)}));
    });
    for_channel(e, c, [&](int64_t i) {
      const Real u = r.ddy[i] + at_or(ddz, i, 0);
      h[i] = activation.second_derivative(forward.v[i]) * dy[i] * u;
      most_h[i] = activation.curved() ? most_g[i] * of_u : 0;
      r.ddy[i] = activation.derivative(forward.v[i]) * u;
    });
    r.ddy_scale[c] = growth(c) * of_u;
  }
  const Gradient of_h = backward(e, x, h, weight, s, batch),
                 of_most_h = backward(e, x, most_h, weight, s, batch);
  for (size_t i = 0; i < h.size(); ++i) r.dx[i] += of_h.dx[i];
  for (size_t c = 0; c < static_cast<size_t>(e.c); ++c) {
    r.dweight[c] += of_h.dweight[c];
    r.dx_scale[c] = most.dx_scale[c] + of_most_h.dx_scale[c];
    r.dweight_scale[c] = most.dweight_scale[c] + of_most_h.dweight_scale[c];
  }
  r.dz = h;
  r.dbias = of_h.dbias;
  r.dz_scale = of_most_h.dz_scale;
  r.dbias_scale = of_most_h.dbias_scale;
  return r;
}

}  // namespace oracle
