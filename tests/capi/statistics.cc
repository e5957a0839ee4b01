// Statistics from outside, against plain calls (bits) and the oracle (bounds).
#include "support/many_threads.h"
#include "support/numerics_cases.h"
#include "support/numerics_parts.h"

namespace {

using namespace numerics;

// The cases that have batch statistics, a record and a module.
std::vector<Case> cases_of_parts() {
  std::vector<Case> cases;
  for (Case c : every_case()) {
    if (c.stateless || !c.batch()) continue;
    c.plain = false;
    c.placement = 0;
    cases.push_back(c);
  }
  REQUIRE(cases.size() > 100);
  return cases;
}

// A batch in this many parts, uneven, and some of them empty.
std::vector<int64_t> uneven(int64_t samples, int64_t parts) {
  std::vector<int64_t> counts(static_cast<size_t>(parts));
  for (int64_t p = 0; samples > 0; ++p) {
    const int64_t count = p == parts - 1 ? samples : std::min(samples, 1 + p * 2 % 5);
    counts[static_cast<size_t>((p * 2 + 1) % parts)] += count;
    samples -= count;
    if (p == parts - 1) break;
  }
  return counts;
}

// Part [n, n + count.n) x ... of a tensor, as a view of its own.
struct Tile {
  int64_t shape[5], strides[5];
  bn2d_view view;
  Tile(const bn2d_view &whole, const Extents &first, const Extents &count)
      : shape{count.n, count.c, count.h, count.w}, view(whole) {
    const int64_t *const from = whole.strides;
    std::copy(from, from + whole.ndim, strides);
    if (whole.ndim == 5) {  // all blocks of channels
      shape[1] = whole.shape[1];
      shape[4] = whole.shape[4];
    }
    const int64_t offset =
        first.n * from[0] + first.c * from[1] + first.h * from[2] + first.w * from[3];
    view.byte_offset += static_cast<uint64_t>(offset) * (whole.dtype_bits / 8);
    view.shape = shape;
    view.strides = strides;
  }
  Tile(const Tile &) = delete;
};

// Accumulates x in tiles of at most these extents.
void accumulate_tiles(bn2d_statistics *statistics, const Tensor &x, const Extents &tile) {
  const Extents &e = x.extents();
  for (int64_t n = 0; n < e.n; n += tile.n)
    for (int64_t h = 0; h < e.h; h += tile.h)
      for (int64_t w = 0; w < e.w; w += tile.w) {
        const Tile t(
            *x.view(), {n, 0, h, w},
            {std::min(tile.n, e.n - n), e.c, std::min(tile.h, e.h - h), std::min(tile.w, e.w - w)});
        NUMERICS_OK(bn2d_statistics_accumulate(statistics, &t.view));
      }
}

struct MeanVar {
  Values mean, var;
};
MeanVar mean_var_of(bn2d_statistics *statistics, int64_t channels) {
  MeanVar m{Values(static_cast<size_t>(channels)), Values(static_cast<size_t>(channels))};
  NUMERICS_OK(bn2d_statistics_mean_var(statistics, m.mean.data(), m.var.data(), channels));
  return m;
}

// Errors of mean and variance in units of what is promised.
void check_mean_var(const MeanVar &got, const Extents &e, const Values &x, bool f64) {
  const oracle::Statistics want = oracle::batch_statistics(e, x, 0);
  const int32_t precision = f64 ? BN2D_F64 : BN2D_F32;
  for (int64_t i = 0; i < e.c; ++i) {
    const auto c = static_cast<size_t>(i);
    INFO("channel " << c);
    const Real mean = want.mean[c] + want.mean_rest[c];
    CHECK(std::fabs(rounded(precision, got.mean[c]) - mean) <=
          oracle::ulp(format_of(precision), oracle::promised_mean_scale(want, c, f64)));
    CHECK(std::fabs(got.var[c] - want.var[c]) <=
          (f64 ? 1 : 4) * oracle::ulp(format_of(precision), want.var[c]));
  }
}

}  // namespace

// Catches: a sum that runs with another plan or other kernels, a merge that is not exact for the
// first part, statistics that lose their low parts on the way, another gradient in the second step
// than in one.
TEST_CASE("statistics: one part gives the bits of a plain call", "[numerics][statistics]") {
  for (const Case &c : cases_of_parts()) {
    INFO(describe(c));
    const Inputs in = random_inputs(c, 31);
    CHECK(first_difference(run(c, in), run_parts(c, in, {c.e.n})) == "");
  }
}

// Catches: a wrong merge, the local count instead of the total one (unbiased variance, means of
// gradients), sums that are not those of the whole batch, empty parts that are forgotten.
TEST_CASE("statistics: a batch in parts is within the bounds of the whole one",
          "[numerics][statistics]") {
  for (Case c : cases_of_parts()) {
    if (c.e.per_channel() < 2) continue;
    Inputs in = random_inputs(c, 32);
    const Expected want = expect(c, in);
    for (const int64_t parts : {2, 3, 7}) {
      INFO(describe(c) << " in " << parts << " parts");
      Outputs got = run_parts(c, in, uneven(c.e.n, parts));
      if (is_half(c.module))
        got.erase("dweight"), got.erase("dbias");  // each part's share is rounded
      CHECK(check_case(c, want, got, "parts: "));
    }
  }
}

// Catches: an order that depends on threads or layout, and errors that grow with the number of
// tiles.
TEST_CASE("statistics: tiles of any cut, by any thread count and layout",
          "[numerics][statistics]") {
  const Extents small{3, 37, 29, 31}, large{4, 37, 90, 95};
  struct Cut {
    Extents e, tile;
  };
  const Cut cuts[] = {{small, {3, 37, 29, 31}},
                      {small, {1, 37, 29, 31}},
                      {small, {1, 37, 8, 31}},
                      {small, {3, 37, 1, 31}},
                      {small, {1, 37, 7, 5}},
                      {small, {2, 37, 29, 1}},
                      // Each tile is worth several threads.
                      {large, {1, 37, 90, 95}},
                      {large, {4, 37, 30, 60}}};
  ManyThreads many;
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    for (const Cut &one : cuts) {
      const Extents &e = one.e, &cut = one.tile;
      Random random(33);
      const Values values = channel_values(random, dtype, e);
      Values first;
      for (const Layout layout : all_layouts)
        for (const int32_t threads : {1, 3}) {
          INFO(bn2d_dtype_name(dtype)
               << " " << name_of(layout) << " tiles " << cut.n << "x" << cut.h << "x" << cut.w);
          Tensor x(dtype, e, values, layout);
          Statistics statistics(e.c);
          many.with(threads, [&] { accumulate_tiles(statistics, x, cut); });
          CHECK(statistics.count() == e.per_channel());
          const Values now = statistics.exported();
          if (first.empty()) {
            check_mean_var(mean_var_of(statistics, e.c), e, values, dtype == BN2D_F64);
            first = now;
          }
          CHECK(now == first);
        }
    }
  }
}

// Catches: low parts that are dropped, or taken from where there are none, once data of two dtypes
// meet.
TEST_CASE("statistics: dtypes may be mixed, f64 keeps its precision", "[numerics][statistics]") {
  const Extents part{2, 3, 5, 7}, both{4, 3, 5, 7};
  Random random(34);
  for (const int32_t other : {BN2D_F32, BN2D_F16, BN2D_BF16, BN2D_F64})
    for (const bool doubles_first : {false, true}) {
      Values wide = channel_values(random, BN2D_F64, part),
             narrow = channel_values(random, other, part);
      for (double &v : wide) v += 1e6;  // a mean that one double does not hold
      Tensor a(BN2D_F64, part, wide), b(other, part, narrow);
      Statistics statistics(3);
      for (const bool first : {true, false})
        NUMERICS_OK(
            bn2d_statistics_accumulate(statistics, (first == doubles_first ? a : b).view()));
      Values all = wide;
      all.insert(all.end(), narrow.begin(), narrow.end());
      check_mean_var(mean_var_of(statistics, 3), both, all, other == BN2D_F64);
      CHECK(statistics.count() == both.per_channel());
    }
}

// Catches: a merge in another order than the calls, a copy into an empty object that changes bits,
// a layout that is not the documented one, an object that is not empty after reset.
TEST_CASE("statistics: merge, export and reset", "[numerics][statistics]") {
  const int64_t channels = 150;  // more than a group
  const Extents e{2, channels, 3, 5};
  Random random(35);
  Values values[3];
  Statistics single(channels), merged(channels), travelled(channels), one(channels),
      empty(channels);
  for (Values &v : values) {
    v = channel_values(random, BN2D_F64, e, 1e6);
    Tensor x(BN2D_F64, e, v);
    NUMERICS_OK(bn2d_statistics_reset(one));
    CHECK(one.count() == 0);
    CHECK(one.exported() == Values(1 + 4 * channels));
    NUMERICS_OK(bn2d_statistics_accumulate(one, x.view()));
    NUMERICS_OK(bn2d_statistics_accumulate(single, x.view()));
    NUMERICS_OK(bn2d_statistics_merge(merged, one));
    NUMERICS_OK(bn2d_statistics_merge(merged, empty));
    travelled.merge(one.exported());
    travelled.merge(empty.exported());
  }
  const Values want = single.exported();
  CHECK(merged.exported() == want);
  CHECK(travelled.exported() == want);
  CHECK(empty.count() == 0);

  // The layout of bn2d.h.
  const MeanVar m = mean_var_of(single, channels);
  CHECK(want[0] == 3 * 30);
  bool any_low = false;
  for (int64_t i = 0; i < channels; ++i) {
    const auto c = static_cast<size_t>(i), stride = static_cast<size_t>(channels);
    CHECK(want[1 + c] == m.mean[c]);
    CHECK((want[1 + 2 * stride + c] + want[1 + 3 * stride + c]) / 90 ==
          Approx(m.var[c]).epsilon(1e-15));
    any_low = any_low || (want[1 + stride + c] != 0 && std::fabs(want[1 + stride + c]) < 1e-9);
  }
  CHECK(any_low);

  // Twice the same values: mean and variance stay.
  NUMERICS_OK(bn2d_statistics_merge(single, single));
  CHECK(single.count() == 180);
  const MeanVar twice = mean_var_of(single, channels);
  CHECK(twice.mean == m.mean);
  for (size_t c = 0; c < m.var.size(); ++c) CHECK(twice.var[c] == Approx(m.var[c]).epsilon(1e-15));
}

// Catches: a running average that a rank without samples misses, sums it does not write, a record
// that backward cannot use, a hang of its indices.
TEST_CASE("statistics: a part without elements takes part", "[numerics][statistics]") {
  for (const Extents &e : {Extents{0, 4, 3, 3}, Extents{2, 4, 0, 3}, Extents{2, 4, 3, 0}}) {
    Case c;
    c.e = {3, 4, 3, 3};
    c.activation = relu;
    const Inputs in = random_inputs(c, 36);
    Part full(c, in, 0, 3);
    full.forward(full.statistics);

    Module module(4);
    module.set("running_mean", in.running_mean), module.set("running_var", in.running_var);
    Tensor x(BN2D_F32, e), y(BN2D_F32, e), dy(BN2D_F32, e), dx(BN2D_F32, e);
    NUMERICS_OK(bn2d_statistics_accumulate(full.statistics, x.view()));  // nothing
    CHECK(full.statistics.count() == 27);
    Record record;
    NUMERICS_OK(bn2d_forward_with_statistics(module, full.statistics, x.view(), nullptr, relu.kind,
                                             0, y.view(), record.out()));
    CHECK(module.bits("running_mean") == full.module.bits("running_mean"));
    CHECK(module.bits("running_var") == full.module.bits("running_var"));
    CHECK(module.batches() == 1);
    Values sums(8, 5.0);
    NUMERICS_OK(bn2d_backward_sums(module, record, dy.view(), sums.data(), 8));
    CHECK(sums == Values(8));
    NUMERICS_OK(bn2d_backward_with_sums(module, record, dy.view(), Values(8, 1.0).data(), 8,
                                        dx.view(), nullptr));
    CHECK(module.get("weight.grad") == Values(4));
  }
}

// Catches: the biased variance where the unbiased one belongs, a momentum or counter that moves,
// the pool taken for an average of variances.
TEST_CASE("statistics: the running statistics of a data set", "[numerics][statistics]") {
  const Extents e{5, 6, 4, 4};
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16})
    for (const bool biased : {false, true}) {
      Random random(37);
      const Values values = channel_values(random, dtype, e);
      Tensor x(dtype, e, values);
      Statistics statistics(e.c);
      accumulate_tiles(statistics, x, {1, 6, 4, 4});
      ModuleOptions options;
      options.dtype = dtype;
      options.biased = biased;
      Module module(e.c, options);
      NUMERICS_OK(bn2d_module_set_running_stats(module, statistics));
      const MeanVar m = mean_var_of(statistics, e.c);
      Values mean, var;
      for (size_t c = 0; c < m.mean.size(); ++c) {
        mean.push_back(rounded(dtype, m.mean[c]));
        var.push_back(rounded(dtype, biased ? m.var[c] : m.var[c] * 80 / 79));
      }
      CHECK(module.get("running_mean") == mean);
      const Values got = module.get("running_var");
      for (size_t c = 0; c < var.size(); ++c)
        CHECK(got[c] == Approx(var[c]).epsilon(dtype == BN2D_F64 ? 1e-15 : 1e-6));
      CHECK(module.batches() == 0);
      int32_t has = 0;
      double momentum = 0;
      NUMERICS_OK(bn2d_module_momentum(module, &has, &momentum));
      CHECK(has == 1);
      CHECK(momentum == 0.1);
    }
}

// Catches: a variance that the module's dtype cannot hold and that becomes its largest number, or
// is kept out where nobody has asked for that; a protected channel that keeps one of the two, or
// the old values of its neighbour.
TEST_CASE("statistics: a running variance beyond the module's dtype", "[numerics][statistics]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F16, BN2D_BF16})
    for (const bool protect : {false, true}) {
      INFO(bn2d_dtype_name(dtype) << ", protected " << protect);
      const double large = rounded(BN2D_F32, 1e30);
      Tensor x(BN2D_F32, {2, 2, 1, 1}, {large, 1, -large, 4});
      Statistics statistics(2);
      NUMERICS_OK(bn2d_statistics_accumulate(statistics, x.view()));
      ModuleOptions options;
      options.dtype = dtype;
      options.protect = protect;
      Module module(2, options);
      module.set("running_mean", {rounded(dtype, 0.3), rounded(dtype, -0.7)});
      module.set("running_var", {rounded(dtype, 1.7), rounded(dtype, 0.9)});
      const Bits mean = module.bits("running_mean"), var = module.bits("running_var");
      NUMERICS_OK(bn2d_module_set_running_stats(module, statistics));
      if (protect) {
        CHECK(module.bits("running_mean")[0] == mean[0]);
        CHECK(module.bits("running_var")[0] == var[0]);
      } else {
        CHECK(module.get("running_mean")[0] == 0);
        CHECK(module.get("running_var")[0] == HUGE_VAL);
      }
      CHECK(module.get("running_mean")[1] == 2.5);
      CHECK(module.get("running_var")[1] == 4.5);
    }
}

// Catches: sums or coefficients that leave the range of float where the parts meet, and a channel
// that is ordinary on one process and extreme on another: dead there, or with huge gradients.
TEST_CASE("statistics: channels at the ends of the range, in parts", "[numerics][statistics]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_BF16})
    for (const double size : {1.0, 1e30, 1e-30})
      for (const double gradient : {1.0, 1e-25, 1e20}) {
        Case c;
        c.e = {4, 6, 5, 5};
        c.data = c.module = dtype;
        c.eps = 0;
        c.activation = relu;
        Inputs in = random_inputs(c, 38);
        in.bias.assign(in.bias.size(), 0);
        for (double &v : in.x) v = rounded(dtype, v * size);
        for (double &v : in.dy) v = rounded(dtype, v * gradient);
        for (int64_t i = 0; i < 2 * c.e.c * 25;
             ++i)  // the first two samples: some channels have no gradient there
          if (i / 25 % 3 == 0) in.dy[static_cast<size_t>(i)] = 0;
        for (int64_t n = 0; n < 4; ++n)  // and one has none anywhere
          for (int64_t i = 0; i < 25; ++i) in.dy[static_cast<size_t>((n * c.e.c + 4) * 25 + i)] = 0;
        const Expected want = expect(c, in);
        INFO(bn2d_dtype_name(dtype) << " x " << size << " dy " << gradient);
        Outputs got = run_parts(c, in, {2, 0, 2});
        for (const char *name : {"dweight", "dbias", "running_mean", "running_var"})
          got.erase(name);
        CHECK(check_case(c, want, got, "parts: "));
      }
}

// Catches: backward of a record with statistics from outside that takes the local count, and the
// two steps of a plain record.
TEST_CASE("statistics: one step and two of the same record", "[numerics][statistics]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64}) {
    Case c;
    c.e = {3, 20, 6, 7};
    c.data = c.module = dtype;
    c.residual = true;
    c.activation = {Activation::leaky, -0.5};
    const Inputs in = random_inputs(c, 39);
    Part tiles(c, in, 0, 3), plain(c, in, 0, 3);
    NUMERICS_OK(bn2d_statistics_reset(tiles.statistics));
    accumulate_tiles(tiles.statistics, tiles.x, {1, 20, 2, 7});
    tiles.forward(tiles.statistics);
    NUMERICS_OK(bn2d_forward_act(plain.module, plain.x.view(), plain.z.view(), c.activation.kind,
                                 c.activation.slope, plain.y.view(), plain.record.out()));
    for (Part *part : {&tiles, &plain}) {
      int32_t batch = 0;
      NUMERICS_OK(bn2d_record_batch_statistics(part->record, &batch));
      CHECK(batch == 1);
      NUMERICS_OK(bn2d_backward(part->module, part->record, part->dy.view(), part->dx.view(),
                                part->dz.view()));
      const Bits dx = part->dx.bits(), dz = part->dz.bits(),
                 dweight = part->module.bits("weight.grad");
      part->module.zero_grad();
      part->backward_sums();
      CHECK(part->module.bits("weight.grad") == dweight);
      part->backward(part->sums);
      CHECK(part->dx.bits() == dx);
      CHECK(part->dz.bits() == dz);
      CHECK(part->module.bits("weight.grad") == dweight);
    }
  }
}

// Catches: statistics of infinite and NaN data that cannot travel, or become finite on the way.
TEST_CASE("statistics: data that are not finite", "[numerics][statistics]") {
  const Extents e{2, 3, 2, 2};
  for (const int32_t dtype : {BN2D_F32, BN2D_F64}) {
    Random random(40);
    Values values = channel_values(random, dtype, e);
    values[1] = HUGE_VAL;      // channel 0
    values[4] = std::nan("");  // channel 1
    Tensor x(dtype, e, values), y(dtype, e);
    Statistics sent(3), total(3);
    NUMERICS_OK(bn2d_statistics_accumulate(sent, x.view()));
    total.merge(sent.exported());
    total.merge(sent.exported());
    const MeanVar m = mean_var_of(total, 3);
    CHECK_FALSE(std::isfinite(m.mean[0]));
    CHECK(std::isnan(m.mean[1]));
    CHECK(std::isfinite(m.mean[2]));
    CHECK_FALSE(std::isfinite(m.var[0]));
    ModuleOptions options;
    options.dtype = dtype;
    options.protect = true;
    Module module(3, options);
    NUMERICS_OK(bn2d_forward_with_statistics(module, total, x.view(), nullptr, BN2D_ACT_NONE, 0,
                                             y.view(), nullptr));
    CHECK(module.get("running_mean")[0] == 0);  // protected
    CHECK(module.get("running_mean")[1] == 0);
    CHECK(module.get("running_mean")[2] != 0);
    CHECK(std::isfinite(y.get()[8]));
  }
}

// Catches: a second step that asks x, which is not there when dx is not wanted, about sums that are
// extreme.
TEST_CASE("statistics: dz alone, whatever the sums are", "[numerics][statistics]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
    for (const double sum : {0.0, 1.0, 1e-310, -1e-200, 1e200, 1.7e308, HUGE_VAL})
      for (const Activation &activation : {no_activation, relu, Activation{Activation::silu, 0}}) {
        Case c;
        c.e = {3, 5, 2, 7};
        c.data = c.module = dtype;
        c.residual = true;
        c.activation = activation;
        const Inputs in = random_inputs(c, 41);
        Part part(c, in, 0, 3);
        part.forward(part.statistics);
        NUMERICS_OK(
            bn2d_backward(part.module, part.record, part.dy.view(), nullptr, part.dz.view()));
        const Bits dz = part.dz.bits();
        const Values sums(static_cast<size_t>(2 * c.e.c), sum);
        NUMERICS_OK(bn2d_backward_with_sums(part.module, part.record, part.dy.view(), sums.data(),
                                            2 * c.e.c, nullptr, part.dz.view()));
        INFO("dtype " << dtype << ", sums of " << sum << ", activation " << activation.kind);
        CHECK(first_difference(dz, part.dz.bits()) == -1);
      }
}

// Catches: infinity times 0 where 1/std is 0 and a deviation is near the end of double, in both
// ways to a backward.
TEST_CASE("statistics: constants near the end of double, with eps 0", "[numerics][statistics]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_BF16}) {
    Case c;
    c.eps = 0;
    c.e = {3, 2, 2, 5};
    c.data = dtype;
    c.module = dtype == BN2D_F64 ? BN2D_F64 : BN2D_F32;
    const Inputs in = random_inputs(c, 43);
    Part part(c, in, 0, 3);
    const Values doubles(in.x.size(), std::numeric_limits<double>::max());
    Tensor elsewhere(BN2D_F64, c.e, doubles);
    NUMERICS_OK(bn2d_statistics_reset(part.statistics));
    NUMERICS_OK(bn2d_statistics_accumulate(part.statistics, elsewhere.view()));
    part.forward(part.statistics);
    Values sums(4);
    NUMERICS_OK(bn2d_backward_sums(part.module, part.record, part.dy.view(), sums.data(), 4));
    NUMERICS_OK(bn2d_backward_with_sums(part.module, part.record, part.dy.view(), sums.data(), 4,
                                        part.dx.view(), nullptr));
    NUMERICS_OK(bn2d_backward(part.module, part.record, part.dy.view(), part.dx.view(), nullptr));
    INFO(bn2d_dtype_name(dtype));
    for (int64_t ch = 0; ch < c.e.c; ++ch) {
      const double bias = part.module.get("bias")[static_cast<size_t>(ch)];
      oracle::for_channel(c.e, ch, [&](int64_t i) {
        CHECK(part.y.get()[static_cast<size_t>(i)] == rounded(dtype, bias));
        CHECK(part.dx.get()[static_cast<size_t>(i)] == 0);
      });
      CHECK(part.module.get("weight.grad")[static_cast<size_t>(ch)] == 0);
    }
  }
}

// Catches: halves of a factor that overflow in the product of two doubles (SSE4 and SCALAR, which
// have no fused multiply-add): the merged mean would be NaN.
TEST_CASE("statistics: means beyond 2^996 are merged", "[numerics][statistics]") {
  constexpr int64_t kChannels = 3;
  const auto constant = [](double value) {
    Values exported(1 + 4 * kChannels, 0.0);
    exported[0] = 3;
    std::fill_n(exported.begin() + 1, kChannels, value);
    return exported;
  };
  Statistics statistics(kChannels);
  statistics.merge(constant(0x1p1001));
  statistics.merge(constant(0x3p1001));
  const Values merged = statistics.exported();
  CHECK(merged[0] == 6);
  for (size_t c = 0; c < kChannels; ++c) {
    CHECK(merged[1 + c] == 0x1p1002);
    CHECK(merged[1 + kChannels + c] == 0);  // the low part
    CHECK(std::isinf(merged[1 + 2 * kChannels + c]));
  }
}

// Catches: float data that is taken around a mean which no float holds, so that all is NaN.
TEST_CASE("statistics: a mean beyond the range of float", "[numerics][statistics]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_BF16})
    for (const double far : {1e39, -1e40, 1e100}) {
      Case c;
      c.e = {3, 4, 2, 5};
      c.data = dtype;
      c.module = BN2D_F32;
      Inputs in = random_inputs(c, 42);
      in.weight.assign(4, 1e20f);
      in.bias.assign(4, 0);
      Part part(c, in, 0, 3);
      // Of doubles, whose standard deviation is a tenth of the mean.
      Values doubles = in.x;
      for (double &v : doubles) v = far * (1 + 0.1 * v);
      Tensor elsewhere(BN2D_F64, c.e, doubles);
      NUMERICS_OK(bn2d_statistics_reset(part.statistics));
      NUMERICS_OK(bn2d_statistics_accumulate(part.statistics, elsewhere.view()));
      const oracle::Statistics s = oracle::batch_statistics(c.e, doubles, c.eps);
      part.forward(part.statistics);
      NUMERICS_OK(bn2d_backward(part.module, part.record, part.dy.view(), part.dx.view(), nullptr));
      const oracle::Forward forward =
          oracle::forward(c.e, in.x, {}, in.weight, in.bias, s, no_activation);
      const oracle::Gradient want =
          oracle::backward(c.e, in.x, oracle::through(no_activation, forward.v, in.dy), in.weight,
                           s, true, {part.statistics.count(), {}, {}});
      INFO(bn2d_dtype_name(dtype) << ", mean near " << far);
      const auto check = [&](const char *name, int32_t of, int64_t plane, const Values &got,
                             const Reals &right, const Reals &scale) {
        INFO(name);
        CHECK(compare(of, c.e.c, plane, got, right, scale).ulps <= bound_of(of) + 1);
      };
      check("y", dtype, c.e.plane(), part.y.get(), forward.y, forward.scale);
      check("dx", dtype, c.e.plane(), part.dx.get(), want.dx, want.dx_scale);
      check("dweight", BN2D_F32, 1, part.module.get("weight.grad"), want.dweight,
            want.dweight_scale);
      check("dbias", BN2D_F32, 1, part.module.get("bias.grad"), want.dbias, want.dbias_scale);
    }
}
