#include "module/options.h"

#include <charconv>
#include <cinttypes>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>

#include "base/error.h"

namespace bn2d {
namespace {

constexpr int32_t kCpu = 1;  // DLPack's kDLCPU

const char *device_name(int32_t type) {
  switch (type) {
    case 1:
      return "cpu";
    case 2:
      return "cuda";
    case 3:
      return "cuda_host";
    case 4:
      return "opencl";
    case 7:
      return "vulkan";
    case 8:
      return "metal";
    case 10:
      return "rocm";
    case 13:
      return "cuda_managed";
    case 14:
      return "oneapi";
    default:
      return "unknown";
  }
}

// Numbers as C writes them, whatever the locale; up to `most` in magnitude.
template <class T>
T parse(const char *name, const char *text, T most, const char *kind) {
  T value = 0;
  const char *end = text + std::strlen(text);
  const auto result = std::from_chars(text, end, value);
  const bool is_number = result.ptr == end && result.ec != std::errc::invalid_argument;
  if (!is_number)
    fail(Status::invalid_argument, "%s: %s is not a %s", name, Quoted(text).text, kind);
  if (result.ec != std::errc() || value > most || value < -most)
    fail(Status::invalid_argument, "%s: %s is out of range", name, Quoted(text).text);
  return value;
}

double parse_double(const char *name, const char *text) {
  return parse(name, text, std::numeric_limits<double>::infinity(), "number");
}
int64_t parse_int(const char *name, const char *text, int64_t most) {
  return parse(name, text, most, "whole number");
}

bool parse_flag(const char *name, const char *text) {
  const std::string_view value = text;
  if (value == "True" || value == "true" || value == "1") return true;
  if (value == "False" || value == "false" || value == "0") return false;
  fail(Status::invalid_argument, "%s: %s is neither True nor False", name, Quoted(text).text);
}

}  // namespace

void Options::set_eps(double value) { eps = checked_eps(value); }

void Options::set_momentum(double value) {
  momentum = checked_momentum("momentum", value);
  given_ |= kMomentum;
}
void Options::set_momentum_none() {
  momentum.reset();
  given_ |= kMomentum;
}

void Options::set_affine(int32_t value) {
  affine = checked_flag("affine", value);
  given_ |= kAffine;
}
void Options::set_bias(int32_t value) { bias = checked_flag("bias", value); }
void Options::set_track_running_stats(int32_t value) {
  track_running_stats = checked_flag("track_running_stats", value);
  given_ |= kTrack;
}
void Options::set_biased_running_var(int32_t value) {
  biased_running_var = checked_flag("biased_running_var", value);
  given_ |= kBiased;
}
void Options::set_protect_running_stats(int32_t value) {
  protect_running_stats = checked_flag("protect_running_stats", value);
  given_ |= kProtect;
}
void Options::set_ghost_batch_size(int64_t value) {
  if (value < 0)
    fail(Status::invalid_argument, "ghost_batch_size is %" PRId64 ", must be 0 or more", value);
  ghost_batch_size = value;
  given_ |= kGhost;
}

Options Options::for_norm(Norm norm) const {
  static constexpr struct {
    Given given;
    const char *name;
  } kNames[] = {{kMomentum, "momentum"},
                {kTrack, "track_running_stats"},
                {kBiased, "biased_running_var"},
                {kProtect, "protect_running_stats"},
                {kGhost, "ghost_batch_size"}};
  const unsigned refused = norm == Norm::group ? kMomentum | kTrack | kBiased | kProtect | kGhost
                           : norm == Norm::instance ? kGhost
                                                    : 0U;
  for (const auto &option : kNames)
    if (given_ & refused & option.given)
      fail(Status::invalid_argument, "option %s is set, but %s has none", option.name,
           norm == Norm::group ? "GroupNorm" : "InstanceNorm2d");
  Options options = *this;
  if (norm != Norm::batch && !(given_ & kTrack)) options.track_running_stats = false;
  if (norm == Norm::group) options.momentum.reset();
  if (norm == Norm::instance && !(given_ & kAffine)) options.affine = false;
  return options;
}

void Options::set_device(int32_t type, int32_t id) { check_device("options", type, id); }
void Options::set_dtype(int32_t value) { dtype = checked_floating_dtype(value); }
void Options::set_num_threads(int32_t value) { num_threads = checked_thread_limit(value); }

void Options::set_by_name(const char *name, const char *value) {
  const std::string_view key = name;
  if (key == "eps") return set_eps(parse_double(name, value));
  if (key == "momentum") {
    const bool none = std::string_view(value) == "None" || std::string_view(value) == "none";
    return none ? set_momentum_none() : set_momentum(parse_double(name, value));
  }
  if (key == "dtype") {
    const DType named = dtype_from_name(value, Status::dtype);
    return set_dtype(static_cast<int32_t>(named));
  }
  if (key == "device") {
    if (std::string_view(value) != "cpu")
      fail(Status::device, "device %s is unsupported, only cpu is", Quoted(value).text);
    return;
  }
  if (key == "num_threads")
    return set_num_threads(
        static_cast<int32_t>(parse_int(name, value, std::numeric_limits<int32_t>::max())));
  if (key == "ghost_batch_size")
    return set_ghost_batch_size(parse_int(name, value, std::numeric_limits<int64_t>::max()));
  const auto set = key == "affine"                  ? &Options::set_affine
                   : key == "bias"                  ? &Options::set_bias
                   : key == "track_running_stats"   ? &Options::set_track_running_stats
                   : key == "biased_running_var"    ? &Options::set_biased_running_var
                   : key == "protect_running_stats" ? &Options::set_protect_running_stats
                                                    : nullptr;
  if (set == nullptr) fail(Status::not_found, "no option is named %s", Quoted(name).text);
  (this->*set)(parse_flag(name, value));
}

bool checked_flag(const char *name, int32_t value) {
  if (value != 0 && value != 1)
    fail(Status::invalid_argument, "%s is %" PRId32 ", must be 0 or 1", name, value);
  return value != 0;
}

double checked_eps(double value) {
  if (!(std::isfinite(value) && value >= 0))
    fail(Status::invalid_argument, "eps is %g, must be finite and 0 or more", value);
  return value;
}

double checked_momentum(const char *name, double value) {
  if (!(value >= 0 && value <= 1))
    fail(Status::invalid_argument, "%s is %s, must be from 0 to 1", name,
         python_float(value).c_str());
  return value;
}

int32_t checked_thread_limit(int32_t value) {
  if (value < 0)
    fail(Status::invalid_argument, "num_threads is %" PRId32 ", must be 0 or more", value);
  return value;
}

DType dtype_from_name(const char *name, Status unknown) {
  struct Alias {
    char name[5];
    DType dtype;
  };
  static constexpr Alias kAliases[] = {{"f32", DType::f32},
                                       {"f64", DType::f64},
                                       {"f16", DType::f16},
                                       {"bf16", DType::bf16},
                                       {"i64", DType::i64}};
  for (const Alias &alias : kAliases)
    if (std::strcmp(name, dtype_name(alias.dtype)) == 0 || std::strcmp(name, alias.name) == 0)
      return alias.dtype;
  fail(unknown, "no dtype is named %s", Quoted(name).text);
}

DType checked_floating_dtype(int32_t value) {
  const DType dtype = static_cast<DType>(value);
  if (!is_floating(dtype))
    fail(Status::dtype, "dtype %" PRId32 " (%s) is none of float32, float64, float16, bfloat16",
         value, dtype_name(dtype));
  return dtype;
}

void check_device(const char *what, int32_t type, int32_t id) {
  if (type != kCpu)
    fail(Status::device, "%s: device %s (%" PRId32 ") is unsupported, only cpu (1) is", what,
         device_name(type), type);
  if (id != 0)
    fail(Status::device, "%s: device cpu:%" PRId32 " does not exist, only cpu:0 does", what, id);
}

std::string python_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  // std::to_chars alone takes whichever form is shorter; Python's choice depends on the magnitude,
  // and a whole number keeps a ".0".
  const double magnitude = std::fabs(value);
  const bool fixed = value == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  char text[40];
  const auto form = fixed ? std::chars_format::fixed : std::chars_format::scientific;
  std::string digits(text, std::to_chars(text, text + sizeof text, value, form).ptr);
  return fixed && digits.find('.') == std::string::npos ? digits + ".0" : digits;
}

}  // namespace bn2d
