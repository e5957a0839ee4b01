// bn2d::Statistics, the two steps of backward and the setters of a living module, against the
// functions of C.
#include "cpp/twin.h"

using namespace bn2d_test;

namespace {

const bn2d::Shape kShape{3, 4, 5, 6};
constexpr size_t kElements = 3 * 4 * 5 * 6;

}  // namespace

TEST_CASE("cpp: statistics from outside are those of C", "[cpp]") {
  // Catches arguments that are swapped, a residual or activation that is lost, sums of another
  // length.
  for (const bn2d::DType dtype : {bn2d::DType::f32, bn2d::DType::f64}) {
    bn2d::Options options;
    options.dtype = dtype;
    bn2d::Module bn(4, options), twin(4, options);
    Memory x(dtype, kElements, 1), z(dtype, kElements, 2), dy(dtype, kElements, 3);
    Memory y(dtype, kElements), dx(y), dz(y), cy(y), cdx(y), cdz(y);
    const auto v = [&](Memory &memory) { return bn2d::View(memory.bytes.data(), dtype, kShape); };
    const auto raw = [&](Memory &memory) { return c_view(v(memory)); };

    bn2d::Statistics part(4), total(4);
    part.accumulate(v(x));
    total.merge(part);
    const std::vector<double> sent = part.exported();
    total.merge_exported(sent);
    CHECK(total.num_features() == 4);
    CHECK(total.count() == 180);
    bn2d_statistics *c_total = nullptr;
    REQUIRE(bn2d_statistics_create(4, &c_total) == BN2D_OK);
    for (int i = 0; i < 2; ++i) REQUIRE(bn2d_statistics_accumulate(c_total, raw(x)) == BN2D_OK);
    std::vector<double> exported(17), mean(4), var(4);
    REQUIRE(bn2d_statistics_export(c_total, exported.data(), 17) == BN2D_OK);
    CHECK(total.exported() == exported);
    REQUIRE(bn2d_statistics_mean_var(c_total, mean.data(), var.data(), 4) == BN2D_OK);
    const bn2d::MeanVariance m = total.mean_var();
    CHECK(m.mean == mean);
    CHECK(m.var == var);

    const auto record = bn.record(total, v(x), v(y), bn2d::relu, v(z));
    bn2d_record *c_record = nullptr;
    REQUIRE(bn2d_forward_with_statistics(twin.get(), c_total, raw(x), raw(z), BN2D_ACT_RELU, 0,
                                         raw(cy), &c_record) == BN2D_OK);
    CHECK(y == cy);
    const std::vector<double> sums = bn.backward_sums(record, v(dy));
    std::vector<double> c_sums(8);
    REQUIRE(bn2d_backward_sums(twin.get(), c_record, raw(dy), c_sums.data(), 8) == BN2D_OK);
    CHECK(sums == c_sums);
    bn.backward_with_sums(record, v(dy), sums, v(dx), v(dz));
    REQUIRE(bn2d_backward_with_sums(twin.get(), c_record, raw(dy), c_sums.data(), 8, raw(cdx),
                                    raw(cdz)) == BN2D_OK);
    CHECK(dx == cdx);
    CHECK(dz == cdz);
    check_same_state(bn.get(), twin.get());
    bn.forward(total, v(x), v(y));
    REQUIRE(bn2d_forward_with_statistics(twin.get(), c_total, raw(x), nullptr, BN2D_ACT_NONE, 0,
                                         raw(cy), nullptr) == BN2D_OK);
    CHECK(y == cy);
    bn.set_running_stats(total);
    REQUIRE(bn2d_module_set_running_stats(twin.get(), c_total) == BN2D_OK);
    check_same_state(bn.get(), twin.get());
    bn2d_record_release(c_record);
    bn2d_statistics_release(c_total);

    // Temporaries.
    bn.backward_with_sums(record, v(dy), bn.backward_sums(record, v(dy)), v(dx), v(dz));
    bn2d::Statistics twice(4);
    twice.merge_exported(part.exported());
    CHECK(twice.count() == part.count());
    try {  // where C would only check
      bn.backward_with_sums(record, v(dy), bn2d::Span<const double>(nullptr, 8), v(dx), v(dz));
      FAIL_CHECK("sums of NULL are taken");
    } catch (const bn2d::Error &error) {
      CHECK(error.status() == bn2d::Status::invalid_argument);
    }

    total.reset();
    CHECK(total.count() == 0);
    CHECK_THROWS_AS(total.mean_var(), bn2d::Error);
    bn2d::Statistics moved = std::move(part);
    CHECK(moved.count() == 90);
  }
}

TEST_CASE("cpp: what statistics from outside refuse", "[cpp]") {
  // Catches a status that is dropped, and a view that reaches beyond its container.
  bn2d::Module bn(4);
  bn2d::Statistics statistics(4);
  std::vector<float> x(12), y(12);
  const std::vector<double> too_short(16);
  const auto status_of = [](auto &&call) {
    try {
      call();
    } catch (const bn2d::Error &error) {
      return error.status();
    }
    return bn2d::Status::ok;
  };
  CHECK(status_of([] { bn2d::Statistics none(0); }) == bn2d::Status::invalid_argument);
  CHECK(status_of([&] { statistics.accumulate({x, {1, 4, 2, 2}}); }) == bn2d::Status::shape);
  CHECK(status_of([&] { statistics.merge(bn2d::Statistics(5)); }) == bn2d::Status::shape);
  CHECK(status_of([&] { statistics.merge_exported(too_short); }) == bn2d::Status::shape);
  CHECK(status_of([&] {
          bn.forward(statistics, {x, {1, 4, 1, 3}}, {y, {1, 4, 1, 3}});
        }) == bn2d::Status::too_few_values);
  CHECK(status_of([&] { bn.set_running_stats(statistics); }) == bn2d::Status::too_few_values);
  CHECK(status_of([&] { bn.set_momentum(2.0); }) == bn2d::Status::invalid_argument);
  CHECK(statistics.count() == 0);
}

TEST_CASE("cpp: momentum and frozen of a living module", "[cpp]") {
  // Catches setters that call each other's function.
  bn2d::Module bn(4);
  bn.set_momentum(0.5);
  CHECK(bn.momentum() == 0.5);
  bn.set_momentum(std::nullopt);
  CHECK(bn.momentum() == std::nullopt);
  CHECK_FALSE(bn.is_frozen());
  bn.set_frozen();
  CHECK(bn.is_frozen());
  CHECK(bn.is_training());
  bn.set_frozen(false);
  CHECK_FALSE(bn.is_frozen());
}
