// Version, names, constants, error text, settings of the process.
#include <cstring>

#include "bn2d/bn2d.h"
#include "build_info.h"
#include "guard.h"
#include "kernels/kernels.h"
#include "kernels/targets.h"
#include "module/options.h"
#include "ops/settings.h"

using namespace bn2d;
using namespace bn2d::capi;

// The core has its own enums; their numbers are those of the header.
static_assert(static_cast<int>(Status::internal) == BN2D_ERROR_INTERNAL &&
              static_cast<int>(Status::busy) == BN2D_ERROR_BUSY);
static_assert(static_cast<int>(Status::io) == BN2D_ERROR_IO &&
              static_cast<int>(Status::format) == BN2D_ERROR_FORMAT);
static_assert(static_cast<int>(Status::shape) == BN2D_ERROR_SHAPE &&
              static_cast<int>(Status::overlap) == BN2D_ERROR_OVERLAP);
static_assert(static_cast<int>(DType::f32) == BN2D_F32 && static_cast<int>(DType::f64) == BN2D_F64);
static_assert(static_cast<int>(DType::f16) == BN2D_F16 &&
              static_cast<int>(DType::bf16) == BN2D_BF16);
static_assert(static_cast<int>(DType::i64) == BN2D_I64);
static_assert(static_cast<int>(kernels::Activation::leaky_relu) == BN2D_ACT_LEAKY_RELU &&
              static_cast<int>(kernels::Activation::clamp) == BN2D_ACT_CLAMP &&
              static_cast<int>(kernels::kLastActivation) == BN2D_ACT_SIGMOID);

namespace {

struct Constant {
  const char *name;
  int64_t value;
};
constexpr Constant kConstants[] = {
#define BN2D_CONSTANT(name) {#name, name},
#include "constants.inc"
#undef BN2D_CONSTANT
};
constexpr int32_t kConstantCount = sizeof kConstants / sizeof kConstants[0];

constexpr uint32_t kVersion =
    BN2D_VERSION_MAJOR * 1000000 + BN2D_VERSION_MINOR * 1000 + BN2D_VERSION_PATCH;

}  // namespace

uint32_t bn2d_version(void) { return kVersion; }
const char *bn2d_version_string(void) { return BN2D_BUILD_VERSION; }
const char *bn2d_build_info(void) {
#define BN2D_NAME(TARGET) " " #TARGET
  return BN2D_BUILD_INFO ", SIMD targets" BN2D_FOR_EACH_TARGET(BN2D_NAME);
#undef BN2D_NAME
}
const char *bn2d_simd_target(void) { return kernels::active().name; }
const char *bn2d_last_error(void) { return last_error(); }
int32_t bn2d_set_last_error(int32_t status, const char *text) {
  if (text == nullptr) return report(Status::invalid_argument, "text is NULL");
  return report(static_cast<Status>(status), text);
}

const char *bn2d_status_name(int32_t status) {
  for (const Constant &constant : kConstants)
    if (constant.value == status && (std::strcmp(constant.name, "BN2D_OK") == 0 ||
                                     std::strncmp(constant.name, "BN2D_ERROR_", 11) == 0))
      return constant.name;
  return "unknown status";
}

const char *bn2d_dtype_name(int32_t dtype) { return dtype_name(static_cast<DType>(dtype)); }
uint64_t bn2d_dtype_size(int32_t dtype) {
  return static_cast<uint64_t>(dtype_size(static_cast<DType>(dtype)));
}

int32_t bn2d_dtype_from_name(const char *name, int32_t *out) {
  return guarded([&] {
    required(out, "out");
    *out = static_cast<int32_t>(dtype_from_name(required(name, "name"), Status::not_found));
  });
}

int32_t bn2d_constant_count(void) { return kConstantCount; }

int32_t bn2d_constant_at(int32_t index, const char **out_name, int64_t *out_value) {
  return guarded([&] {
    required(out_name, "out_name");
    required(out_value, "out_value");
    if (index < 0 || index >= kConstantCount)
      fail(Status::not_found, "constant %d does not exist, there are %d", index, kConstantCount);
    *out_name = kConstants[index].name;
    *out_value = kConstants[index].value;
  });
}

int32_t bn2d_constant_by_name(const char *name, int64_t *out_value) {
  return guarded([&] {
    required(name, "name");
    required(out_value, "out_value");
    for (const Constant &constant : kConstants)
      if (std::strcmp(constant.name, name) == 0) {
        *out_value = constant.value;
        return;
      }
    fail(Status::not_found, "no constant is named %s", Quoted(name).text);
  });
}

int32_t bn2d_set_num_threads(int32_t threads) {
  return guarded([&] { set_thread_limit(checked_thread_limit(threads)); });
}
int32_t bn2d_get_num_threads(void) { return thread_limit(); }

int32_t bn2d_set_streaming_threshold(int64_t bytes) {
  set_streaming_threshold(bytes);
  return BN2D_OK;
}
int64_t bn2d_get_streaming_threshold(void) { return streaming_threshold(); }
