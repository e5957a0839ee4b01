// Failures: the library's status and message, and those that only this header can see.
#include "cpp/twin.h"

using namespace bn2d_test;

TEST_CASE("cpp errors: status and message are the library's", "[cpp]") {
  bn2d::Module bn(4);
  std::vector<float> x(2 * 3 * 4 * 4), y(x.size(), 7.0f);
  const bn2d::Shape shape{2, 3, 4, 4};
  const auto error = error_of([&] { bn.forward({x, shape}, {y, shape}); });
  CHECK(error.status() == bn2d::Status::shape);
  CHECK(std::string(error.what()) == "x has 3 channels, the module has num_features 4");
  CHECK(y == std::vector<float>(x.size(), 7.0f));
  CHECK(bn.num_batches_tracked() == 0);

  CHECK(error_of([] { bn2d::Module none(0); }).status() == bn2d::Status::invalid_argument);
  CHECK(error_of([&] { bn.tensor("gamma"); }).status() == bn2d::Status::not_found);
  CHECK(error_of([&] { bn.set_num_threads(-1); }).status() == bn2d::Status::invalid_argument);
  CHECK(error_of([&] { bn.tensor("running_mean").grad(); }).status() == bn2d::Status::state);
  CHECK(error_of([&] { bn2d::Library::linked().dtype_from_name("float8"); }).status() ==
        bn2d::Status::not_found);
  const std::runtime_error &base = error;  // a host need not know our type
  CHECK(std::string(base.what()).find("num_features 4") != std::string::npos);
}

TEST_CASE("cpp errors: of several wrong options the first is told", "[cpp]") {
  // Catches a status of one call with the message of another.
  bn2d::Options options;
  options.eps = -1;
  options.momentum = 2;
  options.dtype = static_cast<bn2d::DType>(99);
  const auto error = error_of([&] { bn2d::Module bn(4, options); });
  CHECK(error.status() == bn2d::Status::invalid_argument);
  CHECK(std::string(error.what()).find("eps") != std::string::npos);
  options.eps = 1;
  options.momentum = 0.5;
  CHECK(error_of([&] { bn2d::Module bn(4, options); }).status() == bn2d::Status::dtype);
}

TEST_CASE("cpp errors: a container that is too short", "[cpp]") {
  // Catches a read or write behind a container's end.
  bn2d::Module bn(4);
  std::vector<float> whole(96), part(95);
  const bn2d::Shape shape{2, 4, 3, 4};
  const std::string expected = " has 95 elements, shape (2, 4, 3, 4) needs 96";
  const auto message = [&](const std::function<void()> &call) {
    const auto error = error_of(call);
    CHECK(error.status() == bn2d::Status::shape);
    return std::string(error.what());
  };
  CHECK(message([&] { bn.forward({part, shape}, {whole, shape}); }) == "x" + expected);
  CHECK(message([&] { bn.forward({whole, shape}, {part, shape}); }) == "y" + expected);
  CHECK(message([&] {
          bn.forward({whole, shape}, {whole, shape}, bn2d::none, {part, shape});
        }) == "z" + expected);
  std::vector<float> y(96);
  const auto record = bn.record({whole, shape}, {y, shape});
  CHECK(message([&] { bn.backward(record, {part, shape}, {y, shape}); }) == "dy" + expected);
  CHECK(message([&] { bn.backward(record, {whole, shape}, {part, shape}); }) == "dx" + expected);
  CHECK(message([&] {
          bn.backward(record, {whole, shape}, {}, {part, shape});
        }) == "dz" + expected);
  CHECK(tensor_bytes(bn.get(), "bias.grad") == std::string(16, '\0'));

  // With strides it counts up to the last element; nonsense does not wrap around.
  const bn2d::Shape small{1, 4, 2, 2};
  CHECK(message([&] {
          bn.forward({part, small, {96, 32, 4, 2}}, {whole, small});
        }) == "x has 95 elements, shape (1, 4, 2, 2) needs 103");
  bn.forward({part, small, {96, 24, 16, 6}}, {whole, small});  // 72 + 16 + 6 and the first: all 95
  CHECK(error_of([&] {  // more than 64 bits count: the library's text has no number that is none
          bn.forward({part, {1, 4, INT64_MAX, INT64_MAX}}, {whole, small});
        })
            .status() == bn2d::Status::overflow);
  CHECK(error_of([&] {
          bn.forward({part.data(), {1, 4, INT64_MAX, 2}}, {whole, small});
        }).status() == bn2d::Status::overflow);
  for (const bn2d::Shape &huge :
       {bn2d::Shape{int64_t{1} << 62, 4, 1, 1}, bn2d::Shape{INT64_MAX, 4, INT64_MAX, 2}})
    CHECK(error_of([&] {
            bn.forward({part, huge}, {whole, small});
          }).status() == bn2d::Status::overflow);
  CHECK(error_of([&] {
          bn.forward({part, {1, 4, -1, 2}}, {whole, small});
        }).status() == bn2d::Status::shape);
}

TEST_CASE("cpp errors: a counter has one element", "[cpp]") {
  // Catches 8 bytes written to a container of no elements: a view of rank 0 has no length.
  bn2d::Module bn(3);
  auto counter = bn.tensor("num_batches_tracked");
  int64_t values[3] = {5, 6, 7};
  for (const int64_t length : {0, 2, 3}) {
    const std::string lengths = " has " + std::to_string(length) + " elements, the tensor has 1";
    const auto written = error_of([&] { counter.copy_to({values, length}); });
    CHECK(written.status() == bn2d::Status::shape);
    CHECK(written.what() == "target" + lengths);
    const auto read = error_of([&] { counter.copy_from({values, length}); });
    CHECK(read.status() == bn2d::Status::shape);
    CHECK(read.what() == "source" + lengths);
  }
  std::vector<int64_t> reserved;
  reserved.reserve(4);
  CHECK(error_of([&] { counter.copy_to(reserved); }).status() == bn2d::Status::shape);
  CHECK(values[0] == 5);
  CHECK(bn.num_batches_tracked() == 0);
  counter.copy_from({values, 1});
  CHECK(bn.num_batches_tracked() == 5);
  counter.copy_to({values + 2, 1});
  CHECK(values[2] == 5);
}

TEST_CASE("cpp errors: infer in training mode", "[cpp]") {
  // Catches an infer() that trains.
  bn2d::Module bn(1);
  float x[2] = {0, 2}, y[2] = {9, 9};
  const bn2d::Shape shape{1, 1, 1, 2};
  const auto error = error_of([&] { std::as_const(bn).infer({x, shape}, {y, shape}); });
  CHECK(error.status() == bn2d::Status::state);
  CHECK(std::string(error.what()) == "the module is in training mode, infer needs eval mode");
  CHECK(y[0] == 9.0f);
  CHECK(bn.num_batches_tracked() == 0);
}

TEST_CASE("cpp errors: elements of another type", "[cpp]") {
  bn2d::Module bn(4);
  const auto error = error_of([&] { bn.weight<double>(); });
  CHECK(error.status() == bn2d::Status::dtype);
  CHECK(std::string(error.what()) == "weight is float32, asked for as float64");
  bn2d::Options plain;
  plain.affine = false;
  bn2d::Module none(4, plain);
  CHECK(error_of([&] { none.weight(); }).status() == bn2d::Status::not_found);
  const std::vector<float> three(3);
  CHECK(error_of([&] { bn.tensor("weight").copy_from(three); }).status() == bn2d::Status::shape);
}

TEST_CASE("cpp errors: double backward takes one value for each channel", "[cpp]") {
  bn2d::Module bn(2);
  std::vector<float> x{1, 2, 3, 5}, y(4), dy(4, 1.0f), ddweight(3), ddbias(2);
  std::vector<double> wide(2);
  const bn2d::Shape shape{1, 2, 1, 2};
  const auto record = bn.record({x, shape}, {y, shape});
  bn2d::DoubleBackward a;
  a.ddweight = ddweight;
  const auto error = error_of([&] { bn.double_backward(record, {dy, shape}, a); });
  CHECK(error.status() == bn2d::Status::shape);
  CHECK(std::string(error.what()) == "ddweight has 3 elements, the module has 2 channels");
  a.ddweight = {};
  a.ddbias = wide;
  const auto other = error_of([&] { bn.double_backward(record, {dy, shape}, a); });
  CHECK(other.status() == bn2d::Status::dtype);
  CHECK(std::string(other.what()) == "ddbias is float64, must be float32");
}
