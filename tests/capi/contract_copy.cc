// bn2d_tensor_copy_from and bn2d_tensor_copy_to: conversions, strides, refusals.
#include <algorithm>
#include <cfloat>
#include <limits>

#include "support/contract_failures.h"
#include "support/contract_handles.h"
#include "support/contract_views.h"
#include "support/numerics_values.h"

using namespace bn2d_test;

namespace {

Module module_of(int64_t channels, int32_t dtype) {
  Settings settings;
  settings.dtype = dtype;
  return make_module(channels, settings);
}

// The tensor's elements after a copy from `values`, as they lie in memory.
template <class To, class From>
std::vector<To> convert(const std::vector<From> &values, int32_t from, int32_t to) {
  const auto count = static_cast<int64_t>(values.size());
  const Module module = module_of(count, to);
  const Tensor tensor = tensor_of(module, "running_mean");
  const View source = View::vector(const_cast<From *>(values.data()), from, count);
  REQUIRE(bn2d_tensor_copy_from(tensor.get(), source) == BN2D_OK);
  const To *data = data_of<To>(tensor);
  const std::vector<To> in(data, data + count);
  // The other direction gives the same: a tensor of `from`, copied to memory of `to`.
  const Module other = module_of(count, from);
  std::memcpy(data_of<From>(other, "bias"), values.data(), values.size() * sizeof(From));
  std::vector<To> out(values.size());
  REQUIRE(bn2d_tensor_copy_to(tensor_of(other, "bias").get(),
                              View::vector(out.data(), to, count)) == BN2D_OK);
  CHECK(std::memcmp(in.data(), out.data(), in.size() * sizeof(To)) == 0);
  return in;
}

// Of a half number: what a value rounds to, and what bits mean.
uint16_t half_bits(int32_t dtype, double value) {
  return numerics::encode_half(numerics::format_of(dtype), numerics::rounded(dtype, value));
}
double half_value(int32_t dtype, size_t bits) { return numerics::decode(dtype, bits); }
bool half_is_nan(int32_t dtype, uint16_t bits) { return std::isnan(half_value(dtype, bits)); }

}  // namespace

TEST_CASE("copy: every bit pattern of the half types", "[copy]") {
  // Catches a wrong subnormal, a flushed one, an infinity or a NaN that becomes a number, in either
  // direction.
  for (const int32_t dtype : {BN2D_F16, BN2D_BF16}) {
    INFO(bn2d_dtype_name(dtype));
    std::vector<uint16_t> all(65536);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
    const std::vector<float> floats = convert<float>(all, dtype, BN2D_F32);
    const std::vector<double> doubles = convert<double>(all, dtype, BN2D_F64);
    const std::vector<uint16_t> same = convert<uint16_t>(all, dtype, dtype);
    const std::vector<uint16_t> back = convert<uint16_t>(floats, BN2D_F32, dtype);
    const std::vector<uint16_t> back_from_doubles = convert<uint16_t>(doubles, BN2D_F64, dtype);
    int bad = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      const double expected = half_value(dtype, all[i]);
      if (std::isnan(expected)) {
        bad += !std::isnan(floats[i]) || !std::isnan(doubles[i]) || !half_is_nan(dtype, back[i]) ||
               !half_is_nan(dtype, back_from_doubles[i]) || !half_is_nan(dtype, same[i]);
      } else {
        bad += floats[i] != expected || std::signbit(floats[i]) != std::signbit(expected) ||
               doubles[i] != expected || back[i] != all[i] || back_from_doubles[i] != all[i] ||
               same[i] != all[i];
      }
    }
    CHECK(bad == 0);
  }
}

TEST_CASE("copy: rounding to nearest even into the half types", "[copy]") {
  // Catches truncation, ties away from zero, a double rounding by way of float32, an overflow that
  // wraps.
  for (const int32_t dtype : {BN2D_F16, BN2D_BF16}) {
    INFO(bn2d_dtype_name(dtype));
    std::vector<double> doubles;
    for (size_t i = 0; i < 0x7fff; ++i) {
      const double low = half_value(dtype, i);
      double high = half_value(dtype, i + 1);
      if (!std::isfinite(low)) break;
      // Overflow starts half way to the next power of two.
      if (!std::isfinite(high)) high = std::ldexp(1.0, numerics::format_of(dtype).max_exponent + 1);
      const double tie = low + (high - low) / 2;
      for (const double v : {tie, std::nextafter(tie, 0.0), std::nextafter(tie, high),
                             low + (high - low) / 4, low + (high - low) * 3 / 4}) {
        doubles.push_back(v);
        doubles.push_back(-v);
      }
    }
    for (const double v :
         {DBL_MAX, DBL_MIN, 5e-324, 65504.0, 65519.99, 65520.0, 3.4e38, double{FLT_MAX}, 1e39}) {
      doubles.push_back(v);
      doubles.push_back(-v);
    }
    const std::vector<uint16_t> from_doubles = convert<uint16_t>(doubles, BN2D_F64, dtype);
    std::vector<float> floats(doubles.begin(), doubles.end());
    for (size_t i = 0; i < doubles.size(); ++i) {
      if (std::fabs(doubles[i]) > double{FLT_MAX})
        floats[i] = std::copysign(FLT_MAX, static_cast<float>(doubles[i] > 0) - 0.5f);
    }
    const std::vector<uint16_t> from_floats = convert<uint16_t>(floats, BN2D_F32, dtype);
    int bad = 0;
    size_t first_bad = 0;
    for (size_t i = 0; i < doubles.size(); ++i) {
      const bool wrong = from_doubles[i] != half_bits(dtype, doubles[i]) ||
                         from_floats[i] != half_bits(dtype, double{floats[i]});
      if (wrong && bad++ == 0) first_bad = i;
    }
    INFO("first wrong value " << doubles[first_bad] << " -> " << std::hex << from_doubles[first_bad]
                              << ", from float " << from_floats[first_bad]);
    CHECK(bad == 0);
  }
}

TEST_CASE("copy: between the half types, and float64 to float32", "[copy]") {
  // Catches a conversion by way of a narrower type, and float64 to float32 that is not the
  // compiler's.
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<double> doubles = {0.0,
                                       -0.0,
                                       1.0,
                                       1.0 + std::ldexp(1, -24),
                                       1.0 + std::ldexp(3, -24),
                                       1.0 + std::ldexp(1, -24) + std::ldexp(1, -50),
                                       1e300,
                                       -1e300,
                                       1e-300,
                                       inf,
                                       -inf,
                                       FLT_MAX,
                                       double{FLT_MAX} * (1 + std::ldexp(1, -25)),
                                       FLT_MIN,
                                       FLT_MIN / 3,
                                       std::ldexp(1.0, -149),
                                       std::ldexp(1.0, -150),
                                       std::ldexp(1.5, -150)};
  const std::vector<float> floats = convert<float>(doubles, BN2D_F64, BN2D_F32);
  for (size_t i = 0; i < doubles.size(); ++i) {
    INFO(doubles[i]);
    CHECK(floats[i] == static_cast<float>(doubles[i]));
    CHECK(std::signbit(floats[i]) == std::signbit(doubles[i]));
  }
  CHECK(std::isnan(convert<float>(std::vector<double>{std::nan("")}, BN2D_F64, BN2D_F32)[0]));
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  for (const bool to_bfloat : {true, false}) {
    const int32_t from = to_bfloat ? BN2D_F16 : BN2D_BF16, to = to_bfloat ? BN2D_BF16 : BN2D_F16;
    const std::vector<uint16_t> out = convert<uint16_t>(all, from, to);
    int bad = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      const double value = half_value(from, all[i]);
      bad += std::isnan(value) ? !half_is_nan(to, out[i]) : out[i] != half_bits(to, value);
    }
    CHECK(bad == 0);
  }
}

TEST_CASE("copy: with strides", "[copy]") {
  // Catches a stride that is taken in bytes, ignored, or checked where there is one element only.
  for (const int64_t stride : {1, 2, 7}) {
    const Module module = make_module(33);
    const Tensor tensor = tensor_of(module, "weight");
    std::vector<double> memory(33 * 7 + 8, -5.0);
    for (int64_t i = 0; i < 33; ++i)
      memory[static_cast<size_t>(i * stride)] = static_cast<double>(i) + 0.5;
    const std::vector<double> before = memory;
    CHECK(bn2d_tensor_copy_from(tensor.get(), View::vector(memory.data(), BN2D_F64, 33, stride)) ==
          BN2D_OK);
    bool good = true;
    for (int64_t i = 0; i < 33; ++i)
      good = good && data_of<float>(tensor)[i] == static_cast<float>(i) + 0.5f;
    CHECK(good);
    for (int64_t i = 0; i < 33; ++i) memory[static_cast<size_t>(i * stride)] = 0;
    View target = View::vector(memory.data() - 1, BN2D_F64, 33, stride);
    target->byte_offset = sizeof(double);
    CHECK(bn2d_tensor_copy_to(tensor.get(), target) == BN2D_OK);
    CHECK(memory == before);
  }
  const Module one = make_module(1);
  float value = 4;
  for (const int64_t odd : {int64_t{0}, int64_t{-3}, INT64_MAX, INT64_MIN}) {
    const View view = View::vector(&value, BN2D_F32, 1, odd);
    CHECK(bn2d_tensor_copy_from(tensor_of(one, "weight").get(), view) == BN2D_OK);
    CHECK(bn2d_tensor_copy_to(tensor_of(one, "weight").get(), view) == BN2D_OK);
  }
  CHECK(data_of<float>(one, "weight")[0] == 4.0f);
  const Module three = make_module(3);
  View no_strides = View::vector(&value, BN2D_F32, 3);
  no_strides->strides = nullptr;
  float values[3] = {1, 2, 3};
  no_strides->data = values;
  CHECK(bn2d_tensor_copy_from(tensor_of(three, "bias").get(), no_strides) == BN2D_OK);
  CHECK(data_of<float>(three, "bias")[2] == 3.0f);
}

TEST_CASE("copy: the counter", "[copy]") {
  // Catches a counter that goes through a floating dtype (2^53 + 1 would not survive), and one that
  // converts.
  const Module module = make_module(3);
  const Tensor counter = tensor_of(module, "num_batches_tracked");
  int64_t value = (int64_t{1} << 53) + 1, out = 0;
  CHECK(bn2d_tensor_copy_from(counter.get(), View::scalar(&value, BN2D_I64)) == BN2D_OK);
  CHECK(*data_of<int64_t>(counter) == value);
  CHECK(bn2d_tensor_copy_to(counter.get(), View::scalar(&out, BN2D_I64)) == BN2D_OK);
  CHECK(out == value);
  View no_shape = View::scalar(&out, BN2D_I64);  // rank 0 needs no shape
  no_shape->shape = nullptr;
  no_shape->strides = nullptr;
  CHECK(bn2d_tensor_copy_from(counter.get(), no_shape) == BN2D_OK);
  float number = 7;
  Snapshot before;
  before.add("module", module.get());
  before.add("number", &number, sizeof number);
  check_fails("float32 into int64", BN2D_ERROR_DTYPE, before, {"float32", "int64"}, [&] {
    return bn2d_tensor_copy_from(counter.get(), View::scalar(&number, BN2D_F32));
  });
  check_fails("int64 into float32", BN2D_ERROR_DTYPE, before, {"float32", "int64"},
              [&] { return bn2d_tensor_copy_to(counter.get(), View::scalar(&number, BN2D_F32)); });
  std::vector<int64_t> integers(3, 5);
  check_fails("int64 into weight", BN2D_ERROR_DTYPE, before, {"float32", "int64"}, [&] {
    return bn2d_tensor_copy_from(tensor_of(module, "weight").get(),
                                 View::vector(integers.data(), BN2D_I64, 3));
  });
  check_fails("weight into int64", BN2D_ERROR_DTYPE, before, {"float32", "int64"}, [&] {
    return bn2d_tensor_copy_to(tensor_of(module, "weight").get(),
                               View::vector(integers.data(), BN2D_I64, 3));
  });
  for (const int64_t length : {0, 2, 3}) {
    check_fails("a vector into a scalar", BN2D_ERROR_SHAPE, before, {std::to_string(length), "1"},
                [&] {
                  return bn2d_tensor_copy_from(counter.get(),
                                               View::vector(integers.data(), BN2D_I64, length));
                });
  }
  // A vector of one element is how many hosts keep a scalar.
  CHECK(bn2d_tensor_copy_from(counter.get(), View::vector(integers.data(), BN2D_I64, 1)) ==
        BN2D_OK);
  CHECK(*data_of<int64_t>(counter) == 5);
  CHECK(bn2d_tensor_copy_to(counter.get(), View::vector(&out, BN2D_I64, 1)) == BN2D_OK);
  CHECK(out == 5);
}

TEST_CASE("copy: from one element, read again and again", "[copy]") {
  // Catches a source with a stride of 0 that is refused, or read beyond its one element.
  const Module module = make_module(7);
  double value = 2.5;
  const Tensor weight = tensor_of(module, "weight");
  CHECK(bn2d_tensor_copy_from(weight.get(), View::vector(&value, BN2D_F64, 7, 0)) == BN2D_OK);
  for (int i = 0; i < 7; ++i) CHECK(data_of<float>(weight)[i] == 2.5f);
}

TEST_CASE("copy: what is refused", "[copy]") {
  // Catches a copy that trusts the view: a wrong length, rank, dtype, device or stride would read
  // or write beside it.
  struct Fault {
    const char *name;
    std::function<void(View &)> spoil;
    int32_t status;
    std::vector<std::string> words;
  };
  const std::vector<Fault> table = {
      {"one element less", [](View &v) { v.set_extent(0, 6); }, BN2D_ERROR_SHAPE, {"6", "7"}},
      {"one element more", [](View &v) { v.set_extent(0, 8); }, BN2D_ERROR_SHAPE, {"8", "7"}},
      {"one element", [](View &v) { v.set_extent(0, 1); }, BN2D_ERROR_SHAPE, {"1", "7"}},
      {"no element", [](View &v) { v.set_extent(0, 0); }, BN2D_ERROR_SHAPE, {"0", "7"}},
      {"a negative extent", [](View &v) { v.set_extent(0, -7); }, BN2D_ERROR_SHAPE, {"-7"}},
      {"rank 0", [](View &v) { v->ndim = 0; }, BN2D_ERROR_SHAPE, {"0", "1"}},
      {"rank 2", [](View &v) { v->ndim = 2; }, BN2D_ERROR_SHAPE, {"2", "1"}},
      {"rank -1", [](View &v) { v->ndim = -1; }, BN2D_ERROR_SHAPE, {"-1", "1"}},
      {"int32", [](View &v) { v->dtype_code = 0; }, BN2D_ERROR_DTYPE, {}},
      {"code 99", [](View &v) { v->dtype_code = 99; }, BN2D_ERROR_DTYPE, {"99"}},
      {"float8", [](View &v) { v->dtype_bits = 8; }, BN2D_ERROR_DTYPE, {}},
      {"2 lanes", [](View &v) { v->dtype_lanes = 2; }, BN2D_ERROR_DTYPE, {"2"}},
      {"CUDA", [](View &v) { v->device_type = BN2D_CUDA; }, BN2D_ERROR_DEVICE, {}},
      {"device 0", [](View &v) { v->device_type = 0; }, BN2D_ERROR_DEVICE, {"0"}},
      {"stride -1", [](View &v) { v.set_stride(0, -1); }, BN2D_ERROR_LAYOUT, {"-1"}},
      {"stride INT64_MAX", [](View &v) { v.set_stride(0, INT64_MAX); }, BN2D_ERROR_OVERFLOW, {}},
      {"stride INT64_MAX / 7",
       [](View &v) { v.set_stride(0, INT64_MAX / 7); },
       BN2D_ERROR_OVERFLOW,
       {}},
      {"no data", [](View &v) { v->data = nullptr; }, BN2D_ERROR_INVALID_ARGUMENT, {"NULL"}},
      {"no shape", [](View &v) { v->shape = nullptr; }, BN2D_ERROR_INVALID_ARGUMENT, {"NULL"}},
      {"an offset around the address space",
       [](View &v) { v->byte_offset = UINT64_MAX - 63; },
       BN2D_ERROR_OVERFLOW,
       {"18446744073709551552"}},
  };
  const Module module = make_module(7);
  give_character(module);
  for (const char *name :
       {"weight", "bias", "running_mean", "running_var", "weight.grad", "bias.grad"}) {
    const Tensor tensor = tensor_of(module, name);
    std::vector<float> memory(64, 3.25f);
    Snapshot before;
    before.add("module", module.get());
    before.add("memory", memory);
    for (const Fault &fault : table) {
      View view = View::vector(memory.data() + 16, BN2D_F32, 7);
      fault.spoil(view);
      check_fails(std::string("copy_from with ") + fault.name, fault.status, before, fault.words,
                  [&] { return bn2d_tensor_copy_from(tensor.get(), view); });
      check_fails(std::string("copy_to with ") + fault.name, fault.status, before, fault.words,
                  [&] { return bn2d_tensor_copy_to(tensor.get(), view); });
    }
    View repeated = View::vector(memory.data() + 16, BN2D_F32, 7, 0);
    check_fails("a target with stride 0", BN2D_ERROR_LAYOUT, before, {"0"},
                [&] { return bn2d_tensor_copy_to(tensor.get(), repeated); });
    // Memory of the tensor itself, in another way than element by element.
    auto *data = data_of<float>(tensor);
    for (const int32_t dtype : {BN2D_F16, BN2D_BF16}) {
      const View inside = View::vector(data, dtype, 7);
      check_fails("half elements inside the tensor", BN2D_ERROR_OVERLAP, before, {},
                  [&] { return bn2d_tensor_copy_from(tensor.get(), inside); });
      check_fails("half elements inside the tensor", BN2D_ERROR_OVERLAP, before, {},
                  [&] { return bn2d_tensor_copy_to(tensor.get(), inside); });
    }
  }
}

TEST_CASE("copy: a copy into a training module is seen by the next forward", "[copy]") {
  // Catches a cached copy of the parameters.
  const Module module = make_module(1);
  const std::vector<float> x = {-1, 1};
  std::vector<float> y(2), z(2);
  REQUIRE(bn2d_forward_f32(module.get(), x.data(), 2, 1, 1, y.data(), nullptr) == BN2D_OK);
  double three = 3;
  REQUIRE(bn2d_tensor_copy_from(tensor_of(module, "bias").get(),
                                View::vector(&three, BN2D_F64, 1)) == BN2D_OK);
  REQUIRE(bn2d_forward_f32(module.get(), x.data(), 2, 1, 1, z.data(), nullptr) == BN2D_OK);
  CHECK(z[0] == Approx(y[0] + 3));
  CHECK(z[1] == Approx(y[1] + 3));
}
