// Version, names, constants, error text, settings of the process.
#include <cstddef>
#include <cstring>

#include "bn2d/bn2d.h"
#include "build_info.h"
#include "guard.h"
#include "kernels/kernels.h"
#include "kernels/targets.h"
#include "module/options.h"
#include "module/tensor.h"
#include "ops/settings.h"

using namespace bn2d;
using namespace bn2d::capi;

// The core has its own enums; their numbers are those of the header.
template <class Core>
constexpr bool agree(Core ours, int header) {
  return static_cast<int>(ours) == header;
}
static_assert(agree(Status::ok, BN2D_OK));
static_assert(agree(Status::invalid_argument, BN2D_ERROR_INVALID_ARGUMENT));
static_assert(agree(Status::invalid_handle, BN2D_ERROR_INVALID_HANDLE));
static_assert(agree(Status::not_found, BN2D_ERROR_NOT_FOUND));
static_assert(agree(Status::shape, BN2D_ERROR_SHAPE));
static_assert(agree(Status::dtype, BN2D_ERROR_DTYPE));
static_assert(agree(Status::device, BN2D_ERROR_DEVICE));
static_assert(agree(Status::layout, BN2D_ERROR_LAYOUT));
static_assert(agree(Status::overlap, BN2D_ERROR_OVERLAP));
static_assert(agree(Status::overflow, BN2D_ERROR_OVERFLOW));
static_assert(agree(Status::too_few_values, BN2D_ERROR_TOO_FEW_VALUES));
static_assert(agree(Status::state, BN2D_ERROR_STATE));
static_assert(agree(Status::busy, BN2D_ERROR_BUSY));
static_assert(agree(Status::buffer_too_small, BN2D_ERROR_BUFFER_TOO_SMALL));
static_assert(agree(Status::out_of_memory, BN2D_ERROR_OUT_OF_MEMORY));
static_assert(agree(Status::internal, BN2D_ERROR_INTERNAL));
static_assert(agree(Status::io, BN2D_ERROR_IO));
static_assert(agree(Status::format, BN2D_ERROR_FORMAT));
static_assert(agree(DType::f32, BN2D_F32));
static_assert(agree(DType::f64, BN2D_F64));
static_assert(agree(DType::f16, BN2D_F16));
static_assert(agree(DType::bf16, BN2D_BF16));
static_assert(agree(DType::i64, BN2D_I64));
static_assert(agree(kernels::Activation::none, BN2D_ACT_NONE));
static_assert(agree(kernels::Activation::relu, BN2D_ACT_RELU));
static_assert(agree(kernels::Activation::leaky_relu, BN2D_ACT_LEAKY_RELU));
static_assert(agree(kernels::Activation::relu6, BN2D_ACT_RELU6));
static_assert(agree(kernels::Activation::clamp, BN2D_ACT_CLAMP));
static_assert(agree(kernels::Activation::hardswish, BN2D_ACT_HARDSWISH));
static_assert(agree(kernels::Activation::silu, BN2D_ACT_SILU));
static_assert(agree(kernels::Activation::gelu, BN2D_ACT_GELU));
static_assert(agree(kernels::Activation::sigmoid, BN2D_ACT_SIGMOID));
static_assert(kernels::kLastActivation == kernels::Activation::sigmoid);
static_assert(agree(Norm::batch, BN2D_NORM_BATCH));
static_assert(agree(Norm::group, BN2D_NORM_GROUP));
static_assert(agree(Norm::instance, BN2D_NORM_INSTANCE));
static_assert(agree(Tensor::Kind::parameter, BN2D_PARAMETER));
static_assert(agree(Tensor::Kind::buffer, BN2D_BUFFER));
static_assert(agree(Tensor::Kind::gradient, BN2D_GRADIENT));

namespace {

// All names one after another, and where each begins: pointers would be relocated, which is a KB.
struct Names {
#define BN2D_CONSTANT(name) char name##_[sizeof #name];
#include "constants.inc"
#undef BN2D_CONSTANT
};
constexpr Names kNames = {
#define BN2D_CONSTANT(name) #name,
#include "constants.inc"
#undef BN2D_CONSTANT
};
struct Constant {
  uint16_t offset;
  int32_t value;
  const char *name() const { return reinterpret_cast<const char *>(&kNames) + offset; }
};
constexpr Constant kConstants[] = {
#define BN2D_CONSTANT(name) {offsetof(Names, name##_), name},
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
    if (constant.value == status && (std::strcmp(constant.name(), "BN2D_OK") == 0 ||
                                     std::strncmp(constant.name(), "BN2D_ERROR_", 11) == 0))
      return constant.name();
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
    *out_name = kConstants[index].name();
    *out_value = kConstants[index].value;
  });
}

int32_t bn2d_constant_by_name(const char *name, int64_t *out_value) {
  return guarded([&] {
    required(name, "name");
    required(out_value, "out_value");
    for (const Constant &constant : kConstants)
      if (std::strcmp(constant.name(), name) == 0) {
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
