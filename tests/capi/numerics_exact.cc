// Exact data, after benchdnn: every sum, statistic and result of these tensors is a number that the
// arithmetic holds, so that equality, not a tolerance, is asked for. A tolerance hides one lost or
// doubled element among thousands; equality does not.
//
// Channel c has the mean 0.25 * 2^(c mod 7). Its elements lie in pairs mean +- d, half of the pairs
// with d = 0.5, half with d = 0.5, 2.5 or 5.5 by c mod 3. The variance is 0.25, 3.25 or 15.25, with
// eps = 0.75 1/invstd is 1, 2 or 4.
#include "support/numerics_case.h"

namespace {

using namespace numerics;

constexpr double exact_eps = 0.75;

// Pairs in random places: a block of a channel is not balanced, only the channel is.
Values exact_x(Random &random, const Extents &e) {
  Values x(static_cast<size_t>(e.size()));
  for (int64_t c = 0; c < e.c; ++c) {
    const double mean = 0.25 * static_cast<double>(int64_t{1} << (c % 7));
    const double wide = c % 3 == 0 ? 0.5 : c % 3 == 1 ? 2.5 : 5.5;
    std::vector<int64_t> places;
    oracle::for_channel(e, c, [&](int64_t i) { places.push_back(i); });
    for (size_t i = places.size(); i > 1; --i)
      std::swap(places[i - 1], places[random.below(static_cast<int64_t>(i))]);
    for (size_t i = 0; i < places.size(); ++i) {
      const double d = i % 4 < 2 ? 0.5 : wide;
      x[places[i]] = mean + (i % 2 == 0 ? d : -d);
    }
  }
  return x;
}

Values pick_values(Random &random, int64_t count, const std::vector<double> &choice) {
  Values values;
  for (int64_t i = 0; i < count; ++i) values.push_back(random.pick(choice));
  return values;
}

Inputs exact_inputs(const Case &c, const std::vector<double> &gradients) {
  Random random(static_cast<uint64_t>(c.e.size()) + 1);
  Inputs in;
  in.x = exact_x(random, c.e);
  in.z = pick_values(random, c.e.size(), {-2, -1, -0.5, 0, 0.5, 1, 2});
  in.dy = pick_values(random, c.e.size(), gradients);
  in.ddx = pick_values(random, c.e.size(), gradients);
  for (int64_t i = 0; i < c.e.c; ++i) {
    in.weight.push_back((i % 2 == 0 ? 1 : -1) * std::ldexp(1.0, static_cast<int>(i % 3) - 1));
    in.bias.push_back(0.25 * static_cast<double>(i % 5 - 2));
    in.running_mean.push_back(static_cast<double>(i % 4));
    in.running_var.push_back(i % 3 == 0 ? 0.25 : i % 3 == 1 ? 3.25 : 15.25);
    in.ddweight.push_back(static_cast<double>(i % 3 - 1));
    in.ddbias.push_back(static_cast<double>(i % 2));
  }
  return in;
}

void check(const Case &c, const std::vector<double> &gradients) {
  Inputs in = exact_inputs(c, gradients);
  const Expected want = expect(c, in, false);
  check_exact(c, want, run(c, in));
}

}  // namespace

// Catches: an element lost, counted twice or taken from the neighbouring channel; a wrong M; biased
// for unbiased; the two weights of the running statistics exchanged; a half rounded twice or by
// truncation.
TEST_CASE("exact data: training forward and running statistics, every dtype and layout",
          "[numerics][exact]") {
  for (const Extents e :
       {Extents{4, 21, 4, 4}, Extents{2, 7, 8, 16}, Extents{1, 3, 64, 64}, Extents{4, 9, 7, 7},
        Extents{8, 3, 28, 28}, Extents{32, 8, 1, 2}, Extents{4, 17, 1, 1}, Extents{2, 64, 2, 1}}) {
    for (const auto &[data, module] : dtype_pairs) {
      // The mean of a block is a double only where the length of the block is a power of two.
      const bool power_of_two = (e.per_channel() & (e.per_channel() - 1)) == 0;
      if (data == BN2D_F64 && !power_of_two) continue;
      for (Layout layout : all_layouts) {
        for (const bool biased : {false, true}) {
          Case c;
          c.e = e;
          c.data = data;
          c.module = module;
          c.x = layout;
          c.y = layout;
          c.eps = exact_eps;
          c.momentum = 0.5;
          // M/(M-1) is no double: the last bit of an f64 variance may then depend on the order of
          // the two operations.
          c.biased = biased || data == BN2D_F64;
          c.record = false;
          c.stateless = biased;
          check(c, {0, 1});
        }
      }
    }
  }
}

// Catches: running statistics that are not the ones used; eval that writes a buffer; weight or bias
// of another channel.
TEST_CASE("exact data: eval forward and frozen backward", "[numerics][exact]") {
  for (const Extents e :
       {Extents{2, 21, 4, 4}, Extents{1, 64, 7, 7}, Extents{3, 5, 61, 67}, Extents{1, 1, 1, 1}}) {
    for (const auto &[data, module] : dtype_pairs) {
      for (Layout layout : all_layouts) {
        Case c;
        c.e = e;
        c.data = data;
        c.module = module;
        c.mode = Mode::eval;
        c.x = c.y = c.dx = layout;
        c.eps = exact_eps;
        c.stateless = layout == Layout::padded_rows || layout == Layout::nhwc;
        check(c, {-2, -1, -0.5, 0, 0.5, 1, 2});
      }
    }
  }
}

// Catches: a sum of backward that loses an element; a factor of M; the gradient of weight with the
// wrong sign; an activation that takes the wrong side at 0, where many elements lie here: the
// gradient at 0 is 0 (relu) or the slope (leaky).
TEST_CASE("exact data: backward with activation and residual, elements exactly at 0",
          "[numerics][exact]") {
  const Activation activations[] = {no_activation,
                                    relu,
                                    {Activation::leaky, 0.5},
                                    {Activation::leaky, -0.5},
                                    {Activation::leaky, 0}};
  for (const Extents e :
       {Extents{4, 7, 4, 4}, Extents{1, 3, 64, 64}, Extents{2, 21, 8, 16}, Extents{8, 64, 2, 1}}) {
    for (const auto &[data, module] : dtype_pairs) {
      for (const Activation &activation : activations) {
        for (const bool residual : {false, true}) {
          Case c;
          c.e = e;
          c.data = data;
          c.module = module;
          c.eps = exact_eps;
          c.momentum = 0.5;
          c.biased = true;
          c.activation = activation;
          c.residual = residual;
          c.x = c.dx = residual ? Layout::nhwc : Layout::nchw;
          c.y = c.z = c.dz = activation.kind == Activation::relu ? Layout::nhwc : Layout::nchw;
          c.stateless = e.n % 4 == 0;
          c.mask = e.n == 8;
          Inputs in = exact_inputs(c, {-2, -1, -0.5, 0, 0.5, 1, 2});
          Expected want = expect(c, in, false);
          want.double_gradient = {};
          Outputs got = run(c, in);
          got.erase("ddy"), got.erase("dx2"),
              got.erase("dweight2");  // not exact for so many elements: next test
          check_exact(c, want, got);
        }
      }
    }
  }
}

// Catches: any wrong term, sign or factor of the double backward.
TEST_CASE("exact data: double backward", "[numerics][exact]") {
  for (const Extents e : {Extents{2, 7, 2, 4}, Extents{1, 21, 4, 4}, Extents{16, 9, 1, 1}}) {
    for (const auto &[data, module] : dtype_pairs) {
      for (const Activation &activation :
           {no_activation, relu, Activation{Activation::leaky, -0.5}}) {
        for (const Mode mode : {Mode::train, Mode::eval, Mode::no_track}) {
          Case c;
          c.e = e;
          c.data = data;
          c.module = module;
          c.mode = mode;
          c.eps = exact_eps;
          c.momentum = 0.5;
          c.biased = true;
          c.activation = activation;
          c.residual = mode == Mode::train;
          c.x = mode == Mode::eval ? Layout::permuted : Layout::nchw;
          c.stateless = activation.kind == Activation::relu;
          check(c, {-1, 0, 1});
        }
      }
    }
  }
}
