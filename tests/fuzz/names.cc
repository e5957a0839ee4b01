// Names, sizes and settings of the process.
#include "fuzz/machine.h"

namespace bn2d_fuzz {

void Machine::names() {
  before();
  switch (in_.below(4)) {
    case 0:
      return constant_at();
    case 1:
      return constant_by_garbage();
    case 2:
      return dtype_from_name();
    default:
      return mask_nbytes();
  }
}

void Machine::constant_at() {
  Verdict verdict;
  const int32_t count = bn2d_constant_count();
  const int32_t index = in_.one_in(4) ? in_.pick<int32_t>({-1, count, INT32_MAX, INT32_MIN})
                                      : static_cast<int32_t>(in_.below(count));
  verdict.fails_if(index < 0 || index >= count, BN2D_ERROR_NOT_FOUND);
  const char *name = nullptr;
  int64_t value = 0, again = 1;
  simple("constant_at", bn2d_constant_at(index, &name, &value), verdict);
  if (!verdict.must.empty()) return;
  if (bn2d_constant_by_name(name, &again) != BN2D_OK || again != value)
    found("constant_by_name", std::string(name) + " has another value by name");
  reach("constant_by_name");
}

void Machine::constant_by_garbage() {
  std::string name;
  for (int64_t i = in_.below(300); i > 0; --i) name += static_cast<char>(in_.byte() | 1);
  Verdict verdict;
  verdict.must.add(BN2D_ERROR_NOT_FOUND);
  int64_t value = 7;
  simple("constant_by_name of garbage", bn2d_constant_by_name(name.c_str(), &value), verdict);
  if (value != 7) found("constant_by_name", "failed and gave a value");
}

void Machine::dtype_from_name() {
  const char *name = in_.pick({"float32", "f64", "bfloat16", "i64", "float", "", "F32"});
  const std::string text = name;
  Verdict verdict;
  verdict.fails_if(text == "float" || text.empty() || text == "F32", BN2D_ERROR_NOT_FOUND);
  int32_t dtype = 7;
  simple("dtype_from_name", bn2d_dtype_from_name(name, &dtype), verdict);
  if ((dtype == 7) != !verdict.must.empty()) found("dtype_from_name", "is wrong");
}

void Machine::mask_nbytes() {
  const auto extent = [&] {
    return in_.one_in(8)
               ? in_.pick<int64_t>({-1, INT64_MAX, INT64_MIN, int64_t{1} << 32, int64_t{1} << 61})
               : in_.below(40);
  };
  const int64_t e[4] = {extent(), extent(), extent(), extent()};
  __int128 product = 8;
  bool negative = false;
  for (const int64_t one : e) {
    negative |= one < 0;
    if (one > 0) product = product > INT64_MAX ? product : product * one;
  }
  Verdict verdict;
  verdict.fails_if(negative, BN2D_ERROR_SHAPE);
  verdict.fails_if(product > INT64_MAX, BN2D_ERROR_OVERFLOW);
  uint64_t bytes = 7;
  simple("mask_nbytes", bn2d_mask_nbytes(e[0], e[1], e[2], e[3], &bytes), verdict);
  const uint64_t right =
      verdict.must.empty() ? static_cast<uint64_t>(e[0] * e[1] * ((e[2] * e[3] + 7) / 8)) : 7;
  if (bytes != right) found("mask_nbytes", "is " + std::to_string(bytes));
}

void Machine::settings() {
  before();
  if (in_.coin()) {
    const int32_t threads = in_.pick<int32_t>({0, 1, 2, 3, 8, INT32_MAX, -1, INT32_MIN});
    Verdict verdict;
    verdict.fails_if(threads < 0);
    simple("set_num_threads " + std::to_string(threads), bn2d_set_num_threads(threads), verdict);
    if (threads >= 0 && bn2d_get_num_threads() != threads) found("get_num_threads", "is wrong");
    reach("get_num_threads");
  } else {
    const int64_t bytes = in_.pick<int64_t>({-1, 0, 1, 100000, INT64_MAX, INT64_MIN});
    simple("set_streaming_threshold " + std::to_string(bytes), bn2d_set_streaming_threshold(bytes),
           {});
    const int64_t now = bn2d_get_streaming_threshold();
    if (bytes >= 0 ? now != bytes : now >= 0) found("get_streaming_threshold", "is wrong");
    reach("get_streaming_threshold");
  }
}

}  // namespace bn2d_fuzz
