// The order of summation, made visible: each element has its negative somewhere in its channel,
// over so many binades that what is left of a sum is nothing but its roundings.
#include "support/numerics_case.h"

namespace {

using namespace numerics;

// Pairs v and -v in random places of a channel, from 2^-binades to 2^binades.
Values cancelling(Random &random, int32_t dtype, const Extents &e, int binades) {
  Values values(static_cast<size_t>(e.size()));
  for (int64_t c = 0; c < e.c; ++c) {
    std::vector<size_t> places;
    oracle::for_channel(e, c, [&](int64_t i) { places.push_back(static_cast<size_t>(i)); });
    for (size_t i = places.size(); i > 1; --i)
      std::swap(places[i - 1], places[static_cast<size_t>(random.below(static_cast<int64_t>(i)))]);
    for (size_t i = 0; i + 1 < places.size(); i += 2) {
      const int power = static_cast<int>(random.below(2 * binades)) - binades;
      values[places[i]] = rounded(dtype, std::ldexp(random.normal(), power));
      values[places[i + 1]] = -values[places[i]];
    }
  }
  return values;
}

}  // namespace

// Catches: an element that is summed in another lane, a block that begins elsewhere, lanes that are
// added in another order, in one layout and not in another: few outputs show a sum's last bits,
// here they are all there is.
TEST_CASE("order: sums of rounding errors have the same bits in every layout",
          "[numerics][bitwise][order]") {
  struct Kind {
    int32_t dtype;
    int binades;  // beyond what an accumulator holds exactly
  };
  for (const Kind &kind : {Kind{BN2D_F32, 45}, Kind{BN2D_F64, 90}, Kind{BN2D_BF16, 45}}) {
    int64_t inexact = 0;
    for (const Extents &e :
         {Extents{3, 5, 10, 20}, Extents{2, 3, 57, 57}, Extents{9, 20, 7, 9}, Extents{16, 40, 3, 3},
          Extents{1, 70, 1, 300}, Extents{40, 6, 1, 1}, Extents{4, 2, 64, 65},
          Extents{3, 12, 5, 77}, Extents{2, 33, 37, 130}, Extents{64, 4, 2, 1}}) {
      Case c;
      c.e = e;
      c.data = kind.dtype;
      c.module = kind.dtype == BN2D_F64 ? BN2D_F64 : BN2D_F32;
      c.stateless = true;
      for (const bool of_gradients : {false, true}) {
        Random random(81);
        Inputs in = random_inputs(c, 82);
        if (of_gradients) {
          in.dy = cancelling(random, kind.dtype, e, kind.binades);
          in.ddx = cancelling(random, kind.dtype, e, kind.binades);
        } else {
          in.x = cancelling(random, kind.dtype, e, kind.binades / 3);
        }
        const Outputs want = run(c, in);
        for (const double v : want.at("dbias").values()) inexact += of_gradients && v != 0;
        for (const Layout layout : all_layouts) {
          Case other = c;
          other.x = other.y = other.dx = other.dz = layout;
          INFO(describe(other) << " gradients " << of_gradients);
          CHECK(first_difference(want, run(other, in)) == "");
        }
      }
    }
    CHECK(inexact > 100);  // where the sums are not exact the order shows
  }
}
