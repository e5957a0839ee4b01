// Owners of the library's handles for the contract tests, and modules made from a plain struct of
// settings.
#pragma once
#include <bn2d/bn2d.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.h"

namespace bn2d_test {

struct HandleRelease {
  void operator()(bn2d_options *handle) const noexcept { bn2d_options_release(handle); }
  void operator()(bn2d_module *handle) const noexcept { bn2d_module_release(handle); }
  void operator()(bn2d_tensor *handle) const noexcept { bn2d_tensor_release(handle); }
  void operator()(bn2d_record *handle) const noexcept { bn2d_record_release(handle); }
  void operator()(bn2d_statistics *handle) const noexcept { bn2d_statistics_release(handle); }
};
using Options = std::unique_ptr<bn2d_options, HandleRelease>;
using Module = std::unique_ptr<bn2d_module, HandleRelease>;
using Tensor = std::unique_ptr<bn2d_tensor, HandleRelease>;
using Record = std::unique_ptr<bn2d_record, HandleRelease>;
using Statistics = std::unique_ptr<bn2d_statistics, HandleRelease>;

// Gives a handle back and tells its value, as a caller has it who keeps it by mistake.
template <class Handle>
Handle *given_back(std::unique_ptr<Handle, HandleRelease> owner) {
  Handle *const raw = owner.release();
  HandleRelease()(raw);
  return raw;
}

// What an options object can say, with the documented defaults.
struct Settings {
  double eps = 1e-5;
  bool has_momentum = true;
  double momentum = 0.1;
  bool affine = true;
  bool bias = true;
  bool track = true;
  bool biased = false;
  bool protect = false;
  int32_t dtype = BN2D_F32;
  int32_t threads = 0;
};

inline Options make_options(const Settings &settings = {}) {
  bn2d_options *raw = nullptr;
  REQUIRE(bn2d_options_create(&raw) == BN2D_OK);
  Options options(raw);
  REQUIRE(bn2d_options_set_eps(raw, settings.eps) == BN2D_OK);
  REQUIRE((settings.has_momentum ? bn2d_options_set_momentum(raw, settings.momentum)
                                 : bn2d_options_set_momentum_none(raw)) == BN2D_OK);
  REQUIRE(bn2d_options_set_affine(raw, settings.affine) == BN2D_OK);
  REQUIRE(bn2d_options_set_bias(raw, settings.bias) == BN2D_OK);
  REQUIRE(bn2d_options_set_track_running_stats(raw, settings.track) == BN2D_OK);
  REQUIRE(bn2d_options_set_biased_running_var(raw, settings.biased) == BN2D_OK);
  REQUIRE(bn2d_options_set_protect_running_stats(raw, settings.protect) == BN2D_OK);
  REQUIRE(bn2d_options_set_dtype(raw, settings.dtype) == BN2D_OK);
  REQUIRE(bn2d_options_set_num_threads(raw, settings.threads) == BN2D_OK);
  return options;
}

inline Module make_module(int64_t num_features, const bn2d_options *options = nullptr) {
  bn2d_module *raw = nullptr;
  REQUIRE(bn2d_module_create(num_features, options, &raw) == BN2D_OK);
  REQUIRE(raw != nullptr);
  return Module(raw);
}

inline Module make_module(int64_t num_features, const Settings &settings) {
  return make_module(num_features, make_options(settings).get());
}

inline Statistics make_statistics(int64_t num_features) {
  bn2d_statistics *raw = nullptr;
  REQUIRE(bn2d_statistics_create(num_features, &raw) == BN2D_OK);
  return Statistics(raw);
}

inline std::string repr_of(const Module &module) {
  uint64_t length = 0;
  REQUIRE(bn2d_module_repr(module.get(), nullptr, 0, &length) == BN2D_OK);
  std::vector<char> text(length + 1, 'x');
  REQUIRE(bn2d_module_repr(module.get(), text.data(), text.size(), &length) == BN2D_OK);
  REQUIRE(text[length] == '\0');
  REQUIRE(std::strlen(text.data()) == length);
  return text.data();
}

// What a statistics object holds, as it travels.
inline std::vector<double> exported(const bn2d_statistics *statistics) {
  int64_t length = 0;
  REQUIRE(bn2d_statistics_export_length(statistics, &length) == BN2D_OK);
  std::vector<double> values(static_cast<size_t>(length));
  REQUIRE(bn2d_statistics_export(statistics, values.data(), length) == BN2D_OK);
  return values;
}

inline Tensor tensor_of(const Module &module, const char *name) {
  INFO("tensor " << name);
  bn2d_tensor *raw = nullptr;
  REQUIRE(bn2d_module_tensor_by_name(module.get(), name, &raw) == BN2D_OK);
  REQUIRE(raw != nullptr);
  return Tensor(raw);
}

inline bool has_tensor(const Module &module, const char *name) {
  bn2d_tensor *raw = nullptr;
  const bool found = bn2d_module_tensor_by_name(module.get(), name, &raw) == BN2D_OK;
  bn2d_tensor_release(raw);
  return found;
}

template <class T>
T *data_of(const Tensor &tensor) {
  void *data = nullptr;
  REQUIRE(bn2d_tensor_data(tensor.get(), &data) == BN2D_OK);
  return static_cast<T *>(data);
}

// The elements of a tensor of the module; the pointer stays good as long as the module lives.
template <class T>
T *data_of(const Module &module, const char *name) {
  return data_of<T>(tensor_of(module, name));
}

inline int64_t batches_of(const Module &module) {
  return *data_of<int64_t>(module, "num_batches_tracked");
}

// Weight, bias and running statistics that are all different, so that a mix-up of two of them
// shows.
inline void give_character(const Module &module) {
  int64_t channels = 0;
  REQUIRE(bn2d_module_num_features(module.get(), &channels) == BN2D_OK);
  const auto fill = [&](const char *name, double first, double step) {
    if (!has_tensor(module, name)) return;
    const Tensor tensor = tensor_of(module, name);
    std::vector<double> values(static_cast<size_t>(channels));
    for (int64_t c = 0; c < channels; ++c)
      values[static_cast<size_t>(c)] = first + step * static_cast<double>(c % 8);
    bn2d_view view{};
    view.data = values.data();
    view.device_type = BN2D_CPU;
    view.ndim = 1;
    view.dtype_code = 2;
    view.dtype_bits = 64;
    view.dtype_lanes = 1;
    view.shape = &channels;
    REQUIRE(bn2d_tensor_copy_from(tensor.get(), &view) == BN2D_OK);
  };
  fill("weight", 0.75, 0.25);
  fill("bias", -0.5, 0.125);
  fill("running_mean", 0.25, -0.125);
  fill("running_var", 1.5, 0.5);
}

}  // namespace bn2d_test
