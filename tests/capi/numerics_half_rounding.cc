// How the kernels round to half precision: ties, subnormal results, the ends of the range. Eval
// with mean 0 and variance 1 gives x + bias, one sum of floats, and what is left is its rounding to
// f16 or bf16.
#include "support/numerics_case.h"

namespace {

using namespace numerics;

// Where a rounding goes wrong: around ties of ordinary, subnormal and the largest numbers. `last`:
// the last bit of 1.
struct Halves {
  int32_t dtype;
  double largest, smallest, last;
};
constexpr Halves kF16 = {BN2D_F16, 65504, 0x1p-24, 0x1p-10};
constexpr Halves kBf16 = {BN2D_BF16, 0x1.fep127, 0x1p-133, 0x1p-7};

// Numbers of the dtype, and floats to add: parts of their last bits, and a little more and less
// than a half.
Values numbers_of(const Halves &h, double step) {
  Values x;
  const double normal = h.smallest / h.last;  // the smallest normal number
  for (const double sign : {1.0, -1.0}) {
    for (const double v : {1.0, 1 + h.last, 1 + 2 * h.last, 2 - h.last, 3.0, normal,
                           normal + h.smallest, normal - h.smallest, h.smallest, 2 * h.smallest,
                           3 * h.smallest, h.largest, h.largest - step, h.largest / 2})
      x.push_back(sign * v);
    x.push_back(sign * 0.0);
  }
  return x;
}
Values biases_of(const Halves &h, double step) {
  Values bias = {0};
  for (const double unit : {h.last, h.smallest, step})
    for (const double part : {0.25, 0.5, 0.75, 1.0, 1.5})
      for (const double more : {0.0, 0x1p-8, -0x1p-8})
        for (const double sign : {1.0, -1.0}) {
          const double value = sign * unit * part * (1 + more);
          if (std::fabs(value) >= 0x1p-149) bias.push_back(static_cast<float>(value));
        }
  return bias;
}

}  // namespace

// Catches: ties that do not go to the even number, a second rounding, subnormal results that are
// flushed or cut, the largest number that becomes infinite too early or too late; in vectors, in
// what is left of a row, and in copies of strided planes.
TEST_CASE("half rounding: y is the number of the dtype nearest to the sum", "[numerics][half]") {
  for (const Halves &h : {kF16, kBf16}) {
    const double step =
        h.largest - oracle::round_to(format_of(h.dtype), h.largest * (1 - h.last * 0.75));
    const Values numbers = numbers_of(h, step), biases = biases_of(h, step);
    const Extents e{1, static_cast<int64_t>(biases.size()), 1,
                    static_cast<int64_t>(numbers.size())};
    Values x;
    for (size_t c = 0; c < biases.size(); ++c) x.insert(x.end(), numbers.begin(), numbers.end());
    for (const double v : numbers) REQUIRE(rounded(h.dtype, v) == v);
    ModuleOptions options;
    options.eps = 0;
    for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::permuted})
      for (const bool fused : {false, true}) {
        Module module(e.c, options);
        module.eval();
        module.set("bias", biases);
        Tensor in(h.dtype, e, x, layout), out(h.dtype, e, layout);
        if (fused) {  // a slope of 1 changes nothing
          NUMERICS_OK(bn2d_forward_act(module, in.view(), nullptr, BN2D_ACT_LEAKY_RELU, 1,
                                       out.view(), nullptr));
        } else {
          NUMERICS_OK(bn2d_forward(module, in.view(), out.view(), nullptr));
        }
        const Values y = out.get();
        int64_t wrong = 0;
        std::string first;
        for (size_t i = 0; i < y.size(); ++i) {
          const float sum =
              static_cast<float>(x[i]) + static_cast<float>(biases[i / numbers.size()]);
          const double want = rounded(h.dtype, static_cast<double>(sum));
          if (y[i] == want) continue;
          char text[120];
          std::snprintf(text, sizeof text, "%a + %a is %a, must be %a", x[i],
                        biases[i / numbers.size()], y[i], want);
          if (wrong++ == 0) first = text;
        }
        INFO(name_of(h.dtype, h.dtype)
             << " " << name_of(layout) << " fused " << fused << ": " << first);
        CHECK(wrong == 0);
      }
  }
}
