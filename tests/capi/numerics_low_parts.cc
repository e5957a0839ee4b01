// What two numbers hold and one cannot: data on which the low part of a mean or of a sum is the
// whole result.
#include "support/numerics_case.h"

namespace {

using namespace numerics;

// x with mean 0 and deviation 1 in each channel of any shape whose planes have a multiple of 4
// elements: -1, -1, 1, 1.
Values square_wave(const Extents &e) {
  Values x(static_cast<size_t>(e.size()));
  for (size_t i = 0; i < x.size(); ++i) x[i] = i % 4 < 2 ? -1 : 1;
  return x;
}

struct Backward {
  Values dx, dweight, dbias;
};
Backward backward_of(int32_t dtype, const Extents &e, const Values &x, const Values &dy,
                     Layout layout) {
  ModuleOptions options;
  options.dtype = dtype;
  options.eps = 0;
  Module module(e.c, options);
  Tensor in(dtype, e, x, layout), out(dtype, e, layout), g(dtype, e, dy, layout),
      dx(dtype, e, layout);
  Record record;
  NUMERICS_OK(bn2d_forward(module, in.view(), out.view(), record.out()));
  NUMERICS_OK(bn2d_backward(module, record, g.view(), dx.view(), nullptr));
  return {dx.get(), module.get("weight.grad"), module.get("bias.grad")};
}

}  // namespace

// Catches: a mean of dy that is rounded to float before it is subtracted. dy is one of two
// neighbours, so that all of dy - mean is below what a float beside the mean can hold.
TEST_CASE("low parts: dx of a dy whose mean is no float", "[numerics][low]") {
  for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::padded_rows})
    for (const Extents &e :
         {Extents{2, 3, 4, 5}, Extents{4, 17, 4, 7}, Extents{1, 2, 2, 60}}) {  // summed in double
      INFO(name_of(layout) << " plane " << e.plane());
      const double low = 1, high = 1 + 0x1p-23;
      Values dy(static_cast<size_t>(e.size()));
      for (size_t i = 0; i < dy.size(); ++i)
        dy[i] = i % 2 == 0 ? low : high;  // half of each sign of x
      const Backward got = backward_of(BN2D_F32, e, square_wave(e), dy, layout);
      int64_t wrong = 0;
      for (size_t i = 0; i < dy.size(); ++i)
        wrong += got.dx[i] != (i % 2 == 0 ? -0x1p-24 : 0x1p-24);
      CHECK(wrong == 0);
    }
}

// Catches: sums of blocks that are added without what the sum could not take, or without what an
// earlier sum had left over. 2^60 + 1 - 2^60 is 1, also where each of the three is in a block of
// its own; for doubles in one block, too, and where the first two share the second one of three.
TEST_CASE("low parts: dbias and dweight of terms that cancel", "[numerics][low]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64})
    for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::permuted})
      for (const Extents &e :
           {Extents{3, 2, 128, 128}, Extents{6, 3, 96, 64}, Extents{3, 2, 4, 5}}) {
        const bool one_block = e.per_channel() <= 8192;
        if (one_block && dtype == BN2D_F32) continue;  // one double takes the sums of a block
        INFO(name_of(dtype, dtype) << " " << name_of(layout) << " plane " << e.plane());
        const int64_t sample = e.n / 3;  // the places: in the first, the second and the last third
        Values dy(static_cast<size_t>(e.size()), 0.0);
        const auto put = [&](int64_t n, int64_t c, int64_t at, double value) {
          dy[static_cast<size_t>((n * e.c + c) * e.plane() + at)] = value;
        };
        const int64_t first = dtype == BN2D_F64 && e.n == 6 ? sample : 0;
        put(first, 0, 2, 0x1p60);  // where x is 1
        put(sample, 0, 7, 1);
        put(2 * sample, 0, 10, -0x1p60);
        put(first, 1, 1, 0x1p60);  // where x is -1
        put(sample, 1, 4, 3);
        put(2 * sample, 1, 16, -0x1p60);
        const Backward got = backward_of(dtype, e, square_wave(e), dy, layout);
        CHECK(got.dbias[0] == 1);
        CHECK(got.dweight[0] == 1);
        CHECK(got.dbias[1] == 3);
        CHECK(got.dweight[1] == -3);
      }
}
