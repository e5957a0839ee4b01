// What a message tells: the name that the caller knows, and the number that was wrong.
#include <string>

#include "support/contract_handles.h"
#include "support/contract_views.h"

using namespace bn2d_test;

namespace {

std::string message(int32_t expected, int32_t status) {
  CHECK(status == expected);
  return bn2d_last_error();
}

}  // namespace

TEST_CASE("messages: a number just beyond its range has enough digits", "[messages]") {
  // Catches "momentum is 1, must be from 0 to 1".
  const Options options = make_options();
  CHECK(message(BN2D_ERROR_INVALID_ARGUMENT, bn2d_options_set_momentum(options.get(), 1.0000001)) ==
        "momentum is 1.0000001, must be from 0 to 1");
  const Module module = make_module(1);
  const float x[2] = {0, 1};
  float y[2];
  CHECK(message(BN2D_ERROR_INVALID_ARGUMENT,
                bn2d_forward_flat(module.get(), BN2D_F32, BN2D_NCHW, x, nullptr, 1, 1, 2,
                                  BN2D_ACT_LEAKY_RELU, 3.4028235e38, y, nullptr))
            .find("slope of leaky relu is 3.4028235e+38, must be from -3.40282347e+38 to "
                  "3.40282347e+38 for float32 data") == 0);
}

TEST_CASE("messages: a number that is none, and one out of range", "[messages]") {
  // Catches "'1e400' is not a number", and a count of more than 32 bits that is none.
  const Options options = make_options();
  const auto told = [&](const char *name, const char *value) {
    return message(BN2D_ERROR_INVALID_ARGUMENT,
                   bn2d_options_set_by_name(options.get(), name, value));
  };
  CHECK(told("eps", "1e400") == "eps: '1e400' is out of range");
  CHECK(told("eps", "1e400x") == "eps: '1e400x' is not a number");
  CHECK(told("eps", "one") == "eps: 'one' is not a number");
  CHECK(told("eps", "") == "eps: '' is not a number");
  CHECK(told("num_threads", "2147483648") == "num_threads: '2147483648' is out of range");
  CHECK(told("num_threads", "-9000000000") == "num_threads: '-9000000000' is out of range");
  CHECK(told("num_threads", "1.5") == "num_threads: '1.5' is not a whole number");
  CHECK(told("ghost_batch_size", "9223372036854775808") ==
        "ghost_batch_size: '9223372036854775808' is out of range");
  CHECK(bn2d_options_set_by_name(options.get(), "ghost_batch_size", "5000000000") == BN2D_OK);
}

TEST_CASE("messages: a long name is cut where one sees it", "[messages]") {
  // Catches a name of 5000 characters that looks like one of 60.
  const std::string name(5000, 'n'), shown = "'" + std::string(58, 'n') + "...'";
  const Options options = make_options();
  const Module module = make_module(1);
  bn2d_tensor *tensor = nullptr;
  int64_t value = 0;
  int32_t dtype = 0;
  CHECK(message(BN2D_ERROR_NOT_FOUND, bn2d_options_set_by_name(options.get(), name.c_str(), "1")) ==
        "no option is named " + shown);
  CHECK(message(BN2D_ERROR_NOT_FOUND, bn2d_constant_by_name(name.c_str(), &value)) ==
        "no constant is named " + shown);
  CHECK(message(BN2D_ERROR_NOT_FOUND, bn2d_dtype_from_name(name.c_str(), &dtype)) ==
        "no dtype is named " + shown);
  CHECK(
      message(BN2D_ERROR_NOT_FOUND, bn2d_module_tensor_by_name(module.get(), name.c_str(), &tensor))
          .find("no tensor is named " + shown + " in BatchNorm2d(1, ") == 0);
  const std::string whole(58, 'n');
  CHECK(message(BN2D_ERROR_NOT_FOUND, bn2d_constant_by_name(whole.c_str(), &value)) ==
        "no constant is named '" + whole + "'");
}

TEST_CASE("messages: of two views that do not fit the first is told", "[messages]") {
  // Catches "y has rank 3" for an x of rank 3 and a y like it: C++ leaves the order open.
  const Module module = make_module(2);
  float data[8] = {};
  const int64_t shape[3] = {2, 2, 2};
  const View view(data, BN2D_F32, 3, shape, nullptr);
  const std::string rank = " has rank 3, must be 4, or 5 with blocks of channels";
  CHECK(message(BN2D_ERROR_SHAPE, bn2d_forward(module.get(), view, view, nullptr)) == "x" + rank);
  CHECK(message(BN2D_ERROR_SHAPE, bn2d_forward_act(module.get(), view, view, BN2D_ACT_NONE, 0, view,
                                                   nullptr)) == "x" + rank);
  bn2d_record *record = nullptr;
  float y[8];
  REQUIRE(bn2d_forward_f32(module.get(), data, 2, 1, 2, y, &record) == BN2D_OK);
  CHECK(message(BN2D_ERROR_SHAPE, bn2d_backward(module.get(), record, view, view, view)) ==
        "dy" + rank);
  CHECK(message(BN2D_ERROR_SHAPE, bn2d_double_backward(module.get(), record, view, view, nullptr,
                                                       nullptr, view, view)) == "dy" + rank);
  bn2d_record_release(record);
  CHECK(message(BN2D_ERROR_SHAPE, bn2d_forward_f32(module.get(), data, -1, 1, 1, y, nullptr))
            .find("x: ") == 0);
}

TEST_CASE("messages: mean and var of statistics have their own names", "[messages]") {
  // Catches "running_var and running_mean share memory".
  bn2d_statistics *statistics = nullptr;
  REQUIRE(bn2d_statistics_create(2, &statistics) == BN2D_OK);
  const float x[4] = {1, 2, 3, 5};
  REQUIRE(bn2d_statistics_accumulate_flat(statistics, BN2D_F32, BN2D_NCHW, x, 1, 1, 2) == BN2D_OK);
  double memory[4] = {7, 7, 7, 7};
  const auto told = [&](double *mean, double *var) {
    return message(BN2D_ERROR_OVERLAP, bn2d_statistics_mean_var(statistics, mean, var, 2));
  };
  for (double *var : {memory, memory + 1}) CHECK(told(memory, var).find("mean at ") == 0);
  CHECK(told(memory + 1, memory).find("mean at ") == 0);
  const auto odd = reinterpret_cast<double *>(reinterpret_cast<char *>(memory) + 4);
  CHECK(message(BN2D_ERROR_LAYOUT, bn2d_statistics_mean_var(statistics, memory, odd, 2))
            .find("var: data ") == 0);
  CHECK(message(BN2D_ERROR_LAYOUT, bn2d_statistics_mean_var(statistics, odd, nullptr, 2))
            .find("mean: data ") == 0);
  for (const double value : memory) CHECK(value == 7);
  REQUIRE(bn2d_statistics_mean_var(statistics, memory, memory + 2, 2) == BN2D_OK);
  CHECK(memory[1] == 4);
  CHECK(memory[3] == 1);
  bn2d_statistics_release(statistics);
}

TEST_CASE("messages: arrays for a tensor are called data", "[messages]") {
  // Catches "target: data ... is not aligned" for the parameter data.
  const Module module = make_module(2);
  const Tensor weight = tensor_of(module, "weight");
  alignas(8) char memory[24] = {};
  CHECK(message(BN2D_ERROR_LAYOUT, bn2d_tensor_copy_to_flat(weight.get(), BN2D_F32, memory + 1, 2))
            .find("data: data ") == 0);
  CHECK(
      message(BN2D_ERROR_LAYOUT, bn2d_tensor_copy_from_flat(weight.get(), BN2D_F32, memory + 1, 2))
          .find("data: data ") == 0);
  void *own = nullptr;
  REQUIRE(bn2d_tensor_data(weight.get(), &own) == BN2D_OK);
  CHECK(message(BN2D_ERROR_OVERLAP, bn2d_tensor_copy_to_flat(weight.get(), BN2D_F32, own, 2))
            .find("data shares memory with the tensor") == 0);
}

TEST_CASE("messages: a lock is told as a lock", "[messages]") {
  // Catches "in shared use by 1 calls" where no call runs.
  const Module module = make_module(2);
  REQUIRE(bn2d_module_try_lock(module.get(), 0) == BN2D_OK);
  CHECK(message(BN2D_ERROR_BUSY, bn2d_module_eval(module.get())) ==
        "the module is in shared use by 1 (calls and locks), this call needs it alone");
  REQUIRE(bn2d_module_unlock(module.get(), 0) == BN2D_OK);
  REQUIRE(bn2d_module_try_lock(module.get(), 1) == BN2D_OK);
  CHECK(message(BN2D_ERROR_BUSY, bn2d_module_eval(module.get())) ==
        "the module is in exclusive use by another call or a lock");
  REQUIRE(bn2d_module_unlock(module.get(), 1) == BN2D_OK);
}

TEST_CASE("messages: data of whole numbers", "[messages]") {
  // Catches "x is int64, the module is float32; they must agree", as if an int64 module existed.
  const Module module = make_module(2);
  int64_t data[8] = {};
  const int64_t shape[4] = {1, 2, 2, 2};
  const View view(data, BN2D_I64, 4, shape, nullptr);
  const std::string told = "x: dtype is int64, must be float32, float64, float16 or bfloat16";
  CHECK(message(BN2D_ERROR_DTYPE, bn2d_forward(module.get(), view, view, nullptr)) == told);
  CHECK(message(BN2D_ERROR_DTYPE,
                bn2d_batch_norm_forward(view, nullptr, view, BN2D_F32, nullptr, nullptr, nullptr,
                                        nullptr, 1, 0.1, 1e-5, 0, BN2D_ACT_NONE, 0, nullptr,
                                        nullptr, nullptr)) == told);
}
