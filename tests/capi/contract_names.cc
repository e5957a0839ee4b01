// Version, messages, names, constants and the process-wide knobs.
#include <algorithm>
#include <thread>

#include "support/contract_failures.h"
#include "support/contract_handles.h"
#include "support/contract_world.h"
#include "support/streaming.h"

using namespace bn2d_test;

TEST_CASE("names: version and descriptions", "[names]") {
  // Catches a version that was raised in one place only, and descriptions of more than one line.
  CHECK(bn2d_version() ==
        BN2D_VERSION_MAJOR * 1000000u + BN2D_VERSION_MINOR * 1000u + BN2D_VERSION_PATCH);
  const std::string text = std::to_string(BN2D_VERSION_MAJOR) + "." +
                           std::to_string(BN2D_VERSION_MINOR) + "." +
                           std::to_string(BN2D_VERSION_PATCH);
  CHECK(bn2d_version_string() == text);
  CHECK(bn2d_version_string() == bn2d_version_string());  // static
  for (const char *line : {bn2d_build_info(), bn2d_simd_target()}) {
    REQUIRE(line != nullptr);
    CHECK(std::strlen(line) > 0);
    CHECK(std::string(line).find('\n') == std::string::npos);
  }
  // The targets that were built are told; the one in use is among them.
  CHECK(std::string(bn2d_build_info()).find(bn2d_simd_target()) != std::string::npos);
  CHECK(bn2d_simd_target() == bn2d_simd_target());
}

TEST_CASE("names: constants keep their names, values and places", "[names]") {
  // Catches a constant with another value, in another place, or that is gone: each is part of the
  // ABI, so this list only grows. Numbers, but for the version, because the header's names would
  // change with it.
  struct Constant {
    const char *name;
    int64_t value;
  };
  const std::vector<Constant> constants = {
      {"BN2D_OK", 0},
      {"BN2D_ERROR_INVALID_ARGUMENT", -1},
      {"BN2D_ERROR_INVALID_HANDLE", -2},
      {"BN2D_ERROR_NOT_FOUND", -3},
      {"BN2D_ERROR_SHAPE", -4},
      {"BN2D_ERROR_DTYPE", -5},
      {"BN2D_ERROR_DEVICE", -6},
      {"BN2D_ERROR_LAYOUT", -7},
      {"BN2D_ERROR_OVERLAP", -8},
      {"BN2D_ERROR_OVERFLOW", -9},
      {"BN2D_ERROR_TOO_FEW_VALUES", -10},
      {"BN2D_ERROR_STATE", -11},
      {"BN2D_ERROR_BUSY", -12},
      {"BN2D_ERROR_BUFFER_TOO_SMALL", -13},
      {"BN2D_ERROR_OUT_OF_MEMORY", -14},
      {"BN2D_ERROR_INTERNAL", -15},
      {"BN2D_F32", 1},
      {"BN2D_F64", 2},
      {"BN2D_F16", 3},
      {"BN2D_BF16", 4},
      {"BN2D_I64", 5},
      {"BN2D_CPU", 1},
      {"BN2D_CUDA", 2},
      {"BN2D_ROCM", 10},
      {"BN2D_ACT_NONE", 0},
      {"BN2D_ACT_RELU", 1},
      {"BN2D_ACT_LEAKY_RELU", 2},
      {"BN2D_PARAMETER", 1},
      {"BN2D_BUFFER", 2},
      {"BN2D_GRADIENT", 3},
      {"BN2D_FLAG_BIASED_RUNNING_VAR", 1},
      {"BN2D_FLAG_PROTECT_RUNNING_STATS", 2},
      {"BN2D_VERSION_MAJOR", BN2D_VERSION_MAJOR},
      {"BN2D_VERSION_MINOR", BN2D_VERSION_MINOR},
      {"BN2D_VERSION_PATCH", BN2D_VERSION_PATCH},
      {"BN2D_API_VERSION", BN2D_API_VERSION},
      {"BN2D_NCHW", 1},
      {"BN2D_NHWC", 2},
      {"BN2D_POOL_DEFAULT", 0},
      {"BN2D_POOL_TBB", 1},
      {"BN2D_POOL_OPENMP", 2},
      {"BN2D_POOL_HOST", 3},
      {"BN2D_ERROR_IO", -16},
      {"BN2D_ERROR_FORMAT", -17},
      {"BN2D_NORM_BATCH", 1},
      {"BN2D_NORM_GROUP", 2},
      {"BN2D_NORM_INSTANCE", 3},
      {"BN2D_ACT_RELU6", 3},
      {"BN2D_ACT_CLAMP", 4},
      {"BN2D_ACT_HARDSWISH", 5},
      {"BN2D_ACT_SILU", 6},
      {"BN2D_ACT_GELU", 7},
      {"BN2D_ACT_SIGMOID", 8},
  };
  const int32_t count = bn2d_constant_count();
  REQUIRE(count == static_cast<int32_t>(constants.size()));
  for (int32_t i = 0; i < count; ++i) {
    const Constant &constant = constants[static_cast<size_t>(i)];
    const char *name = nullptr;
    int64_t at = 0, by_name = 0;
    REQUIRE(bn2d_constant_at(i, &name, &at) == BN2D_OK);
    INFO(constant.name);
    CHECK(std::string(name) == constant.name);
    CHECK(at == constant.value);
    CHECK(bn2d_constant_by_name(constant.name, &by_name) == BN2D_OK);
    CHECK(by_name == constant.value);
  }
  const char *name = sentinel<const char *>();
  int64_t value = sentinel<int64_t>();
  Snapshot before;
  before.add("name", &name, sizeof name);
  before.add("value", &value, sizeof value);
  for (const int32_t index : {-1, count, INT32_MAX, INT32_MIN}) {
    check_fails("index " + std::to_string(index), BN2D_ERROR_NOT_FOUND, before,
                {std::to_string(index)}, [&] { return bn2d_constant_at(index, &name, &value); });
  }
  for (const char *unknown : {"", "BN2D_", "BN2D_F3", "BN2D_F32 ", "bn2d_f32", "F32"}) {
    check_fails(std::string("constant ") + unknown, BN2D_ERROR_NOT_FOUND, before, {},
                [&] { return bn2d_constant_by_name(unknown, &value); });
  }
}

TEST_CASE("names: statuses and dtypes", "[names]") {
  // Catches a status without a name, and look-ups that read beyond their table.
  for (int32_t status = BN2D_ERROR_FORMAT; status <= BN2D_OK; ++status) {
    int64_t value = 1;
    INFO(status);
    CHECK(bn2d_constant_by_name(bn2d_status_name(status), &value) == BN2D_OK);
    CHECK(value == status);
  }
  for (const int32_t status : {1, -18, INT32_MAX, INT32_MIN})
    CHECK(bn2d_status_name(status) == std::string("unknown status"));
  struct Dtype {
    int32_t dtype;
    const char *name, *alias;
    uint64_t bytes;
  };
  for (const Dtype &d :
       {Dtype{BN2D_F32, "float32", "f32", 4}, Dtype{BN2D_F64, "float64", "f64", 8},
        Dtype{BN2D_F16, "float16", "f16", 2}, Dtype{BN2D_BF16, "bfloat16", "bf16", 2},
        Dtype{BN2D_I64, "int64", "i64", 8}}) {
    INFO(d.name);
    CHECK(bn2d_dtype_name(d.dtype) == std::string(d.name));
    CHECK(bn2d_dtype_size(d.dtype) == d.bytes);
    for (const char *name : {d.name, d.alias}) {
      int32_t found = 0;
      CHECK(bn2d_dtype_from_name(name, &found) == BN2D_OK);
      CHECK(found == d.dtype);
    }
  }
  for (const int32_t dtype : {0, 6, -1, INT32_MAX, INT32_MIN}) {
    CHECK(bn2d_dtype_name(dtype) == std::string("unknown dtype"));
    CHECK(bn2d_dtype_size(dtype) == 0);
  }
  int32_t out = sentinel<int32_t>();
  Snapshot before;
  before.add("out", &out, sizeof out);
  for (const char *unknown : {"", "float", "float3", "float322", "Float32", "f8", "int32"}) {
    check_fails(std::string("dtype \"") + unknown + "\"", BN2D_ERROR_NOT_FOUND, before, {},
                [&] { return bn2d_dtype_from_name(unknown, &out); });
  }
}

TEST_CASE("names: a long or odd name gives a message that still is one line of at most 255 bytes",
          "[names]") {
  // Catches a buffer overrun, and text of the caller that breaks the message into two lines or cuts
  // a UTF-8 sequence.
  int64_t value = 0;
  const std::string long_name(10000, 'x');
  check_fails("10000 characters", BN2D_ERROR_NOT_FOUND,
              [&] { return bn2d_constant_by_name(long_name.c_str(), &value); });
  for (size_t length = 180; length < 260; ++length) {
    std::string accents(length % 3,
                        'e');  // so that a cut falls on each of a character's three bytes
    while (accents.size() < length) accents += "\xe2\x82\xac";
    check_fails("euros", BN2D_ERROR_NOT_FOUND,
                [&] { return bn2d_constant_by_name(accents.c_str(), &value); });
  }
  check_fails("two lines", BN2D_ERROR_NOT_FOUND,
              [&] { return bn2d_constant_by_name("a\nb\r\tc", &value); });
  check_fails("no UTF-8", BN2D_ERROR_NOT_FOUND,
              [&] { return bn2d_constant_by_name("a\xff\xc0z", &value); });
  check_fails("a format", BN2D_ERROR_NOT_FOUND,
              [&] { return bn2d_constant_by_name("%s%n%d", &value); });
}

TEST_CASE("names: the message belongs to its thread and stays until the next failure", "[names]") {
  // Catches a message in a global, one that a success clears, and one that moves.
  int64_t value = 0;
  REQUIRE(bn2d_constant_by_name("BN2D_NO_SUCH_1", &value) == BN2D_ERROR_NOT_FOUND);
  const char *const pointer = bn2d_last_error();
  const std::string first = pointer;
  CHECK(message_has(first, "BN2D_NO_SUCH_1"));

  std::string fresh = "not read";
  std::string other;
  const char *other_pointer = nullptr;
  std::thread thread([&] {
    fresh = bn2d_last_error();
    int64_t unused = 0;
    (void)bn2d_constant_by_name("BN2D_NO_SUCH_2", &unused);
    other_pointer = bn2d_last_error();
    other = other_pointer;
  });
  thread.join();
  CHECK(fresh == "");
  CHECK(message_has(other, "BN2D_NO_SUCH_2"));
  CHECK(other_pointer != pointer);

  CHECK(bn2d_constant_by_name("BN2D_F32", &value) == BN2D_OK);
  CHECK(make_module(3) != nullptr);
  CHECK(bn2d_last_error() == pointer);
  CHECK(pointer == first);
  REQUIRE(bn2d_constant_by_name("BN2D_NO_SUCH_3", &value) == BN2D_ERROR_NOT_FOUND);
  CHECK(bn2d_last_error() == pointer);
  CHECK(pointer != first);
}

TEST_CASE("names: a library on top sets the message of its thread", "[names]") {
  // Catches a message that is not kept, kept in two lines, or beyond the buffer.
  for (const int32_t status :
       {int32_t{BN2D_ERROR_IO}, int32_t{BN2D_ERROR_FORMAT}, 7, 0, INT32_MIN}) {
    CHECK(bn2d_set_last_error(status, "disk\nfull: \xe2\x82\xac") == status);
    CHECK(bn2d_last_error() == std::string("disk?full: \xe2\x82\xac"));
  }
  CHECK(bn2d_set_last_error(BN2D_ERROR_IO, std::string(1000, 'x').c_str()) == BN2D_ERROR_IO);
  CHECK(bn2d_last_error() == std::string(255, 'x'));
}

TEST_CASE("names: thread limit and streaming threshold of the process", "[names]") {
  // Catches a setter without its check, and one that does not take.
  REQUIRE(bn2d_get_num_threads() == 0);
  for (const int32_t threads : {1, 2, 1000000, INT32_MAX, 0}) {
    CHECK(bn2d_set_num_threads(threads) == BN2D_OK);
    CHECK(bn2d_get_num_threads() == threads);
  }
  for (const int32_t threads : {-1, INT32_MIN}) {
    check_fails("threads " + std::to_string(threads), BN2D_ERROR_INVALID_ARGUMENT, Snapshot(),
                {std::to_string(threads)}, [&] { return bn2d_set_num_threads(threads); });
    CHECK(bn2d_get_num_threads() == 0);
  }
  REQUIRE(bn2d_get_streaming_threshold() < 0);
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{1} << 40, INT64_MAX}) {
    CHECK(bn2d_set_streaming_threshold(bytes) == BN2D_OK);
    CHECK(bn2d_get_streaming_threshold() == bytes);
  }
  for (const int64_t bytes : {INT64_MIN, int64_t{-1}}) {
    CHECK(bn2d_set_streaming_threshold(bytes) == BN2D_OK);
    CHECK(bn2d_get_streaming_threshold() < 0);
  }
}

TEST_CASE("names: the streaming threshold changes no result", "[names]") {
  // Catches a streaming path that rounds differently, misses the tail, or writes beside it.
  const int64_t n = 3, c = 5, h = 37, w = 41;
  const auto count = static_cast<size_t>(n * c * h * w);
  std::vector<float> x(count + 8);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 2654435761u % 1000) * 0.01f;
  for (const size_t shift : {size_t{0}, size_t{1}, size_t{3}}) {
    std::vector<float> expected;
    for (const int64_t threshold : {int64_t{-1}, int64_t{0}, INT64_MAX}) {
      const Module module = make_module(c);
      give_character(module);
      const numerics::Streaming streaming(threshold);
      std::vector<float> y(count + 16, 99.0f);
      CHECK(bn2d_forward_f32(module.get(), x.data() + shift, n, h, w, y.data() + shift, nullptr) ==
            BN2D_OK);
      if (expected.empty()) expected = y;
      INFO("threshold " << threshold << " shift " << shift);
      CHECK(y == expected);
      CHECK(y[shift + count] == 99.0f);
    }
  }
}
