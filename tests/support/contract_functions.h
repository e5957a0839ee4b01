// Every function of the C ABI with a valid call, as a table: a test may replace any pointer
// argument of it.
//
// A line of the table names the pointer parameters in their order; "?" marks one that the header
// documents as optional (for this call). The table is checked against functions.inc and against the
// parameter lists in the header, so neither a function nor a pointer can be forgotten.
#pragma once
#include <bn2d/bn2d.h>

#include <cstdint>
#include <functional>
#include <sstream>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/contract_world.h"

namespace bn2d_test {

enum class Kind { none, view, options, module, tensor, record, statistics };
inline bool is_handle(Kind kind) { return kind != Kind::none && kind != Kind::view; }

struct PointerParameter {
  std::string name;
  bool optional = false;
  Kind kind = Kind::none;
};

inline constexpr size_t kNoPointer = static_cast<size_t>(-1);

struct FunctionEntry {
  std::string name;
  std::vector<PointerParameter> pointers;
  bool returns_status = false;  // else void, or the value itself
  // What is to take the place of a pointer argument.
  using Change = std::function<void *(size_t index, void *valid)>;
  // The call, with pointer arguments changed.
  std::function<int32_t(World &, const Change &)> call_changed;
  // The pointer arguments of the valid call.
  std::function<std::vector<void *>(World &)> arguments;

  // The call, with pointer argument `index` replaced; kNoPointer: the valid one.
  int32_t call_with(World &world, size_t index, void *replacement) const {
    world.spoiling = index < pointers.size();
    return call_changed(world,
                        [&](size_t i, void *valid) { return i == index ? replacement : valid; });
  }
};

template <class T>
constexpr Kind kind_of() {
  using Pointee = std::remove_cv_t<std::remove_pointer_t<T>>;
  return std::is_same_v<Pointee, bn2d_view>         ? Kind::view
         : std::is_same_v<Pointee, bn2d_options>    ? Kind::options
         : std::is_same_v<Pointee, bn2d_module>     ? Kind::module
         : std::is_same_v<Pointee, bn2d_tensor>     ? Kind::tensor
         : std::is_same_v<Pointee, bn2d_record>     ? Kind::record
         : std::is_same_v<Pointee, bn2d_statistics> ? Kind::statistics
                                                    : Kind::none;
}

template <class T>
void change_pointer(T &argument, size_t &ordinal, const FunctionEntry::Change &change) {
  if constexpr (std::is_pointer_v<T>) {
    if constexpr (std::is_function_v<std::remove_pointer_t<T>>) {
      argument = reinterpret_cast<T>(change(ordinal++, reinterpret_cast<void *>(argument)));
    } else {
      using Plain = std::remove_const_t<std::remove_pointer_t<T>>;
      argument = static_cast<T>(change(ordinal++, const_cast<Plain *>(argument)));
    }
  }
}

template <class Result, class... Args, class Make>
FunctionEntry function_entry(const char *name, Result (*function)(Args...), const char *pointers,
                             Make make) {
  FunctionEntry entry;
  entry.name = name;
  entry.returns_status = std::is_same_v<Result, int32_t>;
  std::istringstream words(pointers);
  for (std::string word; words >> word;) {
    PointerParameter parameter;
    parameter.optional = word.back() == '?';
    parameter.name = parameter.optional ? word.substr(0, word.size() - 1) : word;
    entry.pointers.push_back(parameter);
  }
  std::vector<Kind> kinds;
  const std::vector<std::pair<bool, Kind>> all = {{std::is_pointer_v<Args>, kind_of<Args>()}...};
  for (const auto &[is_pointer, kind] : all)
    if (is_pointer) kinds.push_back(kind);
  INFO("the table's line of " << name << ": \"" << pointers << "\"");
  REQUIRE(entry.pointers.size() == kinds.size());
  for (size_t i = 0; i < kinds.size(); ++i) entry.pointers[i].kind = kinds[i];
  entry.arguments = [make](World &world) {
    std::vector<void *> pointers;
    std::tuple<Args...> arguments = make(world);
    size_t ordinal = 0;
    const FunctionEntry::Change note = [&](size_t, void *valid) {
      pointers.push_back(valid);
      return valid;
    };
    std::apply([&](auto &...argument) { (change_pointer(argument, ordinal, note), ...); },
               arguments);
    return pointers;
  };
  entry.call_changed = [function, make](World &world, const FunctionEntry::Change &change) {
    std::tuple<Args...> arguments = make(world);
    size_t ordinal = 0;
    std::apply([&](auto &...argument) { (change_pointer(argument, ordinal, change), ...); },
               arguments);
    if constexpr (std::is_same_v<Result, int32_t>) {
      return std::apply(function, arguments);
    } else {
      (void)std::apply(function, arguments);
      return int32_t{BN2D_OK};
    }
  };
  return entry;
}

// The simplest pool of a host.
inline void run_in_order(void *, int32_t workers, bn2d_work work, void *context) {
  for (int32_t w = 0; w < workers; ++w) work(context, w);
}

// The arguments may use `w`, the World.
#define BN2D_ENTRY(name, pointers, ...)                        \
  function_entry(#name, &bn2d_##name, pointers, [](World &w) { \
    (void)w;                                                   \
    return std::make_tuple(__VA_ARGS__);                       \
  })

inline std::vector<FunctionEntry> all_functions() {
  std::vector<FunctionEntry> table = {
      BN2D_ENTRY(version, ""),
      BN2D_ENTRY(version_string, ""),
      BN2D_ENTRY(build_info, ""),
      BN2D_ENTRY(simd_target, ""),
      BN2D_ENTRY(last_error, ""),
      BN2D_ENTRY(status_name, "", 0),
      BN2D_ENTRY(dtype_name, "", 1),
      BN2D_ENTRY(dtype_size, "", 1),
      BN2D_ENTRY(dtype_from_name, "name out", "float32", &w.outs.i32),
      BN2D_ENTRY(constant_count, ""),
      BN2D_ENTRY(constant_at, "out_name out_value", 0, &w.outs.text, &w.outs.i64),
      BN2D_ENTRY(constant_by_name, "name out_value", "BN2D_F32", &w.outs.i64),
      BN2D_ENTRY(set_num_threads, "", 0),
      BN2D_ENTRY(get_num_threads, ""),
      BN2D_ENTRY(set_streaming_threshold, "", int64_t{-1}),
      BN2D_ENTRY(get_streaming_threshold, ""),

      BN2D_ENTRY(options_create, "out", &w.outs.options),
      BN2D_ENTRY(options_retain, "options", w.options.get()),
      BN2D_ENTRY(options_release, "options?", w.spare(w.options.get(), &bn2d_options_retain)),
      BN2D_ENTRY(options_set_eps, "options", w.options.get(), 1e-3),
      BN2D_ENTRY(options_set_momentum, "options", w.options.get(), 0.5),
      BN2D_ENTRY(options_set_momentum_none, "options", w.options.get()),
      BN2D_ENTRY(options_set_affine, "options", w.options.get(), 0),
      BN2D_ENTRY(options_set_bias, "options", w.options.get(), 0),
      BN2D_ENTRY(options_set_track_running_stats, "options", w.options.get(), 0),
      BN2D_ENTRY(options_set_device, "options", w.options.get(), int32_t{BN2D_CPU}, 0),
      BN2D_ENTRY(options_set_dtype, "options", w.options.get(), int32_t{BN2D_F64}),
      BN2D_ENTRY(options_set_biased_running_var, "options", w.options.get(), 1),
      BN2D_ENTRY(options_set_protect_running_stats, "options", w.options.get(), 1),
      BN2D_ENTRY(options_set_num_threads, "options", w.options.get(), 2),
      BN2D_ENTRY(options_set_by_name, "options name value", w.options.get(), "eps", "0.5"),

      BN2D_ENTRY(module_create, "options? out", int64_t{4}, w.options.get(), &w.outs.module),
      BN2D_ENTRY(module_retain, "module", w.module.get()),
      BN2D_ENTRY(module_release, "module?", w.spare(w.module.get(), &bn2d_module_retain)),
      BN2D_ENTRY(module_train, "module", w.module.get(), 0),
      BN2D_ENTRY(module_eval, "module", w.module.get()),
      BN2D_ENTRY(module_is_training, "module out", w.module.get(), &w.outs.i32),
      BN2D_ENTRY(module_num_features, "module out", w.module.get(), &w.outs.i64),
      BN2D_ENTRY(module_eps, "module out", w.module.get(), &w.outs.f64),
      BN2D_ENTRY(module_momentum, "module out_has out", w.module.get(), &w.outs.i32, &w.outs.f64),
      BN2D_ENTRY(module_affine, "module out", w.module.get(), &w.outs.i32),
      BN2D_ENTRY(module_track_running_stats, "module out", w.module.get(), &w.outs.i32),
      BN2D_ENTRY(module_dtype, "module out", w.module.get(), &w.outs.i32),
      BN2D_ENTRY(module_device, "module out_type out_id", w.module.get(), &w.outs.i32,
                 &w.outs.other_i32),
      BN2D_ENTRY(module_set_num_threads, "module", w.module.get(), 3),
      BN2D_ENTRY(module_get_num_threads, "module out", w.module.get(), &w.outs.i32),
      BN2D_ENTRY(module_repr, "module buffer length?", w.module.get(), w.outs.buffer,
                 sizeof w.outs.buffer, &w.outs.u64),
      BN2D_ENTRY(module_repr, "module buffer? length?", w.module.get(), w.outs.buffer, uint64_t{0},
                 &w.outs.u64),
      BN2D_ENTRY(module_reset_running_stats, "module", w.module.get()),
      BN2D_ENTRY(module_reset_parameters, "module", w.module.get()),
      BN2D_ENTRY(module_zero_grad, "module", w.module.get()),
      BN2D_ENTRY(module_tensor_count, "module out", w.module.get(), &w.outs.i32),
      BN2D_ENTRY(module_tensor_at, "module out", w.module.get(), 0, &w.outs.tensor),
      BN2D_ENTRY(module_tensor_by_name, "module name out", w.module.get(), "bias.grad",
                 &w.outs.tensor),

      BN2D_ENTRY(tensor_retain, "tensor", w.tensor.get()),
      BN2D_ENTRY(tensor_release, "tensor?", w.spare(w.tensor.get(), &bn2d_tensor_retain)),
      BN2D_ENTRY(tensor_name, "tensor out", w.tensor.get(), &w.outs.text),
      BN2D_ENTRY(tensor_kind, "tensor out", w.tensor.get(), &w.outs.i32),
      BN2D_ENTRY(tensor_dtype, "tensor out", w.tensor.get(), &w.outs.i32),
      BN2D_ENTRY(tensor_rank, "tensor out", w.tensor.get(), &w.outs.i32),
      BN2D_ENTRY(tensor_dim, "tensor out", w.tensor.get(), 0, &w.outs.i64),
      BN2D_ENTRY(tensor_nbytes, "tensor out", w.tensor.get(), &w.outs.u64),
      BN2D_ENTRY(tensor_data, "tensor out", w.tensor.get(), &w.outs.data),
      BN2D_ENTRY(tensor_grad, "tensor out", w.tensor.get(), &w.outs.tensor),
      BN2D_ENTRY(tensor_requires_grad, "tensor out", w.tensor.get(), &w.outs.i32),
      BN2D_ENTRY(tensor_set_requires_grad, "tensor", w.tensor.get(), 0),
      BN2D_ENTRY(tensor_copy_from, "tensor source", w.tensor.get(), w.view_copy.get()),
      BN2D_ENTRY(tensor_copy_to, "tensor target", w.tensor.get(), w.view_copy.get()),
      BN2D_ENTRY(tensor_to_dlpack, "tensor out", w.tensor.get(), &w.outs.dlpack),
      BN2D_ENTRY(tensor_to_dlpack_legacy, "tensor out", w.tensor.get(), &w.outs.legacy),

      BN2D_ENTRY(forward_f32, "module x y record?", w.module.get(), w.x.data(), World::kN,
                 World::kH, World::kW, w.y.data(), &w.outs.record),
      BN2D_ENTRY(forward_f64, "module x y record?", w.module64.get(), w.x64.data(), World::kN,
                 World::kH, World::kW, w.y64.data(), &w.outs.record),
      BN2D_ENTRY(forward, "module x y record?", w.module.get(), w.view_x.get(), w.view_y.get(),
                 &w.outs.record),
      BN2D_ENTRY(forward_act, "module x z? y record?", w.module.get(), w.view_x.get(),
                 w.view_z.get(), int32_t{BN2D_ACT_LEAKY_RELU}, 0.25, w.view_y.get(),
                 &w.outs.record),
      BN2D_ENTRY(backward_f32, "module record dy dx?", w.module.get(), w.record.get(), w.dy.data(),
                 w.dx.data()),
      BN2D_ENTRY(backward_f64, "module record dy dx?", w.module64.get(), w.record64.get(),
                 w.dy64.data(), w.dx64.data()),
      BN2D_ENTRY(backward, "module record dy dx? dz?", w.module.get(), w.record.get(),
                 w.view_dy.get(), w.view_dx.get(), w.view_dz.get()),
      BN2D_ENTRY(double_backward, "module record dy ddx? ddweight? ddbias? ddy? dx?",
                 w.module.get(), w.record.get(), w.view_dy.get(), w.view_ddx.get(),
                 w.ddweight.data(), w.ddbias.data(), w.view_ddy.get(), w.view_dx.get()),
      BN2D_ENTRY(record_retain, "record", w.record.get()),
      BN2D_ENTRY(record_release, "record?", w.spare(w.record.get(), &bn2d_record_retain)),

      // On batch statistics, then on running ones, which are required there.
      BN2D_ENTRY(batch_norm_forward,
                 "x z? y weight? bias? running_mean? running_var? mask? saved_mean? saved_invstd?",
                 w.view_x.get(), w.view_z.get(), w.view_y.get(), int32_t{BN2D_F32}, w.weight.data(),
                 w.bias.data(), w.running_mean.data(), w.running_var.data(), 1, 0.1, 1e-5, 0,
                 int32_t{BN2D_ACT_RELU}, 0.0, w.mask.data(), w.saved_mean.data(),
                 w.saved_invstd.data()),
      BN2D_ENTRY(batch_norm_forward,
                 "x z? y weight? bias? running_mean running_var mask? saved_mean? saved_invstd?",
                 w.view_x.get(), w.view_z.get(), w.view_y.get(), int32_t{BN2D_F32}, w.weight.data(),
                 w.bias.data(), w.running_mean.data(), w.running_var.data(), 0, 0.1, 1e-5, 0,
                 int32_t{BN2D_ACT_RELU}, 0.0, w.mask.data(), w.saved_mean.data(),
                 w.saved_invstd.data()),
      // With y, with a mask, and frozen without dweight, where neither x nor saved_mean is needed.
      BN2D_ENTRY(batch_norm_backward,
                 "x dy y mask? weight? saved_mean saved_invstd dx? dz? dweight? dbias?",
                 w.view_x.get(), w.view_dy.get(), w.view_z.get(), nullptr, int32_t{BN2D_F32},
                 w.weight.data(), w.saved_mean.data(), w.saved_invstd.data(), 1,
                 int32_t{BN2D_ACT_RELU}, 0.0, 0.0, w.view_dx.get(), w.view_dz.get(),
                 w.dweight.data(), w.dbias.data()),
      BN2D_ENTRY(batch_norm_backward,
                 "x dy y? mask weight? saved_mean saved_invstd dx? dz? dweight? dbias?",
                 w.view_x.get(), w.view_dy.get(), nullptr, w.mask.data(), int32_t{BN2D_F32},
                 w.weight.data(), w.saved_mean.data(), w.saved_invstd.data(), 1,
                 int32_t{BN2D_ACT_RELU}, 0.0, 1.0, w.view_dx.get(), w.view_dz.get(),
                 w.dweight.data(), w.dbias.data()),
      BN2D_ENTRY(batch_norm_backward,
                 "x dy y? mask? weight? saved_mean saved_invstd dx? dz? dweight? dbias?",
                 w.view_x.get(), w.view_dy.get(), nullptr, nullptr, int32_t{BN2D_F32},
                 w.weight.data(), w.saved_mean.data(), w.saved_invstd.data(), 0,
                 int32_t{BN2D_ACT_NONE}, 0.0, 1.0, w.view_dx.get(), w.view_dz.get(),
                 w.dweight.data(), w.dbias.data()),
      BN2D_ENTRY(batch_norm_backward,
                 "x? dy y? mask? weight? saved_mean? saved_invstd dx? dz? dweight? dbias?", nullptr,
                 w.view_dy.get(), nullptr, nullptr, int32_t{BN2D_F32}, w.weight.data(), nullptr,
                 w.saved_invstd.data(), 0, int32_t{BN2D_ACT_NONE}, 0.0, 1.0, w.view_dx.get(),
                 w.view_dz.get(), nullptr, w.dbias.data()),
      BN2D_ENTRY(
          batch_norm_double_backward,
          "x dy y mask? weight? saved_mean saved_invstd ddx? ddweight? ddbias? ddy? dx? dweight?",
          w.view_x.get(), w.view_dy.get(), w.view_z.get(), nullptr, int32_t{BN2D_F32},
          w.weight.data(), w.saved_mean.data(), w.saved_invstd.data(), 1, int32_t{BN2D_ACT_RELU},
          0.0, w.view_ddx.get(), w.ddweight.data(), w.ddbias.data(), 0.0, w.view_ddy.get(),
          w.view_dx.get(), w.dweight.data()),
      BN2D_ENTRY(
          batch_norm_double_backward,
          "x dy y? mask weight? saved_mean saved_invstd ddx? ddweight? ddbias? ddy? dx? dweight?",
          w.view_x.get(), w.view_dy.get(), nullptr, w.mask.data(), int32_t{BN2D_F32},
          w.weight.data(), w.saved_mean.data(), w.saved_invstd.data(), 1, int32_t{BN2D_ACT_RELU},
          0.0, w.view_ddx.get(), w.ddweight.data(), w.ddbias.data(), 0.0, w.view_ddy.get(),
          w.view_dx.get(), w.dweight.data()),
      BN2D_ENTRY(mask_nbytes, "out", int64_t{1}, int64_t{2}, int64_t{3}, int64_t{4}, &w.outs.u64),

      BN2D_ENTRY(forward_flat, "module x z? y record?", w.module.get(), int32_t{BN2D_F32},
                 int32_t{BN2D_NCHW}, w.x.data(), w.z.data(), World::kN, World::kH, World::kW,
                 int32_t{BN2D_ACT_RELU}, 0.0, w.y.data(), &w.outs.record),
      BN2D_ENTRY(backward_flat, "module record dy dx? dz?", w.module.get(), w.record.get(),
                 int32_t{BN2D_F32}, int32_t{BN2D_NCHW}, w.dy.data(), w.dx.data(), w.dz.data()),
      BN2D_ENTRY(double_backward_flat, "module record dy ddx? ddweight? ddbias? ddy? dx?",
                 w.module.get(), w.record.get(), int32_t{BN2D_F32}, int32_t{BN2D_NCHW}, w.dy.data(),
                 w.ddx.data(), w.ddweight.data(), w.ddbias.data(), w.ddy.data(), w.dx.data()),
      BN2D_ENTRY(batch_norm_forward_flat,
                 "x z? y weight? bias? running_mean? running_var? mask? saved_mean? saved_invstd?",
                 int32_t{BN2D_F32}, int32_t{BN2D_NCHW}, World::kN, World::kC, World::kH, World::kW,
                 w.x.data(), w.z.data(), w.y.data(), int32_t{BN2D_F32}, World::kC, w.weight.data(),
                 w.bias.data(), w.running_mean.data(), w.running_var.data(), 1, 0.1, 1e-5, 0,
                 int32_t{BN2D_ACT_RELU}, 0.0, w.mask.data(), w.saved_mean.data(),
                 w.saved_invstd.data()),
      BN2D_ENTRY(batch_norm_backward_flat,
                 "x dy y mask? weight? saved_mean saved_invstd dx? dz? dweight? dbias?",
                 int32_t{BN2D_F32}, int32_t{BN2D_NCHW}, World::kN, World::kC, World::kH, World::kW,
                 w.x.data(), w.dy.data(), w.z.data(), nullptr, int32_t{BN2D_F32}, World::kC,
                 w.weight.data(), w.saved_mean.data(), w.saved_invstd.data(), 1,
                 int32_t{BN2D_ACT_RELU}, 0.0, 0.0, w.dx.data(), w.dz.data(), w.dweight.data(),
                 w.dbias.data()),
      BN2D_ENTRY(batch_norm_backward_flat,
                 "x dy y? mask weight? saved_mean saved_invstd dx? dz? dweight? dbias?",
                 int32_t{BN2D_F32}, int32_t{BN2D_NCHW}, World::kN, World::kC, World::kH, World::kW,
                 w.x.data(), w.dy.data(), nullptr, w.mask.data(), int32_t{BN2D_F32}, World::kC,
                 w.weight.data(), w.saved_mean.data(), w.saved_invstd.data(), 1,
                 int32_t{BN2D_ACT_RELU}, 0.0, 1.0, w.dx.data(), w.dz.data(), w.dweight.data(),
                 w.dbias.data()),
      BN2D_ENTRY(batch_norm_backward_flat,
                 "x? dy y? mask? weight? saved_mean? saved_invstd dx? dz? dweight? dbias?",
                 int32_t{BN2D_F32}, int32_t{BN2D_NCHW}, World::kN, World::kC, World::kH, World::kW,
                 nullptr, w.dy.data(), nullptr, nullptr, int32_t{BN2D_F32}, World::kC,
                 w.weight.data(), nullptr, w.saved_invstd.data(), 0, int32_t{BN2D_ACT_NONE}, 0.0,
                 1.0, w.dx.data(), w.dz.data(), nullptr, w.dbias.data()),
      BN2D_ENTRY(tensor_copy_from_flat, "tensor data", w.tensor.get(), int32_t{BN2D_F32},
                 w.copy.data(), World::kC),
      BN2D_ENTRY(tensor_copy_to_flat, "tensor data", w.tensor.get(), int32_t{BN2D_F32},
                 w.copy.data(), World::kC),

      BN2D_ENTRY(set_thread_pool, "", int32_t{BN2D_POOL_DEFAULT}),
      BN2D_ENTRY(set_host_thread_pool, "run user?", &run_in_order, nullptr, 2),
      BN2D_ENTRY(get_thread_pool, ""),
      BN2D_ENTRY(module_set_thread_pool, "module", w.module.get(), int32_t{BN2D_POOL_TBB}),
      BN2D_ENTRY(module_set_host_thread_pool, "module run user?", w.module.get(), &run_in_order,
                 nullptr, 2),
      BN2D_ENTRY(module_get_thread_pool, "module out", w.module.get(), &w.outs.i32),

      BN2D_ENTRY(set_last_error, "text", 0, kMarker),
      BN2D_ENTRY(module_try_lock, "module", w.freed(w.module.get()), 0),
      BN2D_ENTRY(module_unlock, "module", w.locked(w.module.get()), 0),
      BN2D_ENTRY(module_scale_shift, "module scale? shift?", w.module.get(), int32_t{BN2D_F32},
                 w.copy.data(), w.dweight.data(), World::kC),

      BN2D_ENTRY(module_set_momentum, "module", w.module.get(), 0.5),
      BN2D_ENTRY(module_set_momentum_none, "module", w.module.get()),
      BN2D_ENTRY(module_set_frozen, "module", w.module.get(), 1),
      BN2D_ENTRY(module_is_frozen, "module out", w.module.get(), &w.outs.i32),
      BN2D_ENTRY(statistics_create, "out", int64_t{4}, &w.outs.statistics),
      BN2D_ENTRY(statistics_retain, "statistics", w.statistics.get()),
      BN2D_ENTRY(statistics_release, "statistics?",
                 w.spare(w.statistics.get(), &bn2d_statistics_retain)),
      BN2D_ENTRY(statistics_accumulate, "statistics x", w.statistics.get(), w.view_x.get()),
      BN2D_ENTRY(statistics_accumulate_flat, "statistics x", w.statistics.get(), int32_t{BN2D_F32},
                 int32_t{BN2D_NHWC}, w.x.data(), World::kN, World::kH, World::kW),
      BN2D_ENTRY(statistics_merge, "statistics other", w.statistics.get(),
                 w.other_statistics.get()),
      BN2D_ENTRY(statistics_reset, "statistics", w.statistics.get()),
      BN2D_ENTRY(statistics_count, "statistics out", w.statistics.get(), &w.outs.i64),
      BN2D_ENTRY(statistics_mean_var, "statistics mean? var?", w.statistics.get(),
                 w.saved_mean.data(), w.saved_invstd.data(), World::kC),
      BN2D_ENTRY(statistics_export_length, "statistics out", w.statistics.get(), &w.outs.i64),
      BN2D_ENTRY(statistics_export, "statistics values", w.statistics.get(),
                 w.exported_values.data(), 1 + 4 * World::kC),
      BN2D_ENTRY(statistics_merge_exported, "statistics values", w.statistics.get(),
                 w.exported_values.data(), 1 + 4 * World::kC),
      BN2D_ENTRY(forward_with_statistics, "module statistics? x z? y record?", w.module.get(),
                 w.statistics.get(), w.view_x.get(), w.view_z.get(), int32_t{BN2D_ACT_RELU}, 0.0,
                 w.view_y.get(), &w.outs.record),
      BN2D_ENTRY(forward_with_statistics_flat, "module statistics? x z? y record?", w.module.get(),
                 w.statistics.get(), int32_t{BN2D_F32}, int32_t{BN2D_NCHW}, w.x.data(), w.z.data(),
                 World::kN, World::kH, World::kW, int32_t{BN2D_ACT_RELU}, 0.0, w.y.data(),
                 &w.outs.record),
      BN2D_ENTRY(record_batch_statistics, "record out", w.record.get(), &w.outs.i32),
      BN2D_ENTRY(backward_sums, "module record dy sums", w.module.get(), w.record.get(),
                 w.view_dy.get(), w.sums.data(), 2 * World::kC),
      BN2D_ENTRY(backward_sums_flat, "module record dy sums", w.module.get(), w.record.get(),
                 int32_t{BN2D_F32}, int32_t{BN2D_NCHW}, w.dy.data(), w.sums.data(), 2 * World::kC),
      BN2D_ENTRY(backward_with_sums, "module record dy sums? dx? dz?", w.module.get(),
                 w.record.get(), w.view_dy.get(), w.sums.data(), 2 * World::kC, w.view_dx.get(),
                 w.view_dz.get()),
      BN2D_ENTRY(backward_with_sums_flat, "module record dy sums? dx? dz?", w.module.get(),
                 w.record.get(), int32_t{BN2D_F32}, int32_t{BN2D_NCHW}, w.dy.data(), w.sums.data(),
                 2 * World::kC, w.dx.data(), w.dz.data()),
      BN2D_ENTRY(module_set_running_stats, "module statistics", w.module.get(), w.statistics.get()),

      BN2D_ENTRY(options_set_ghost_batch_size, "options", w.options.get(), int64_t{2}),
      BN2D_ENTRY(group_norm_create, "options? out", int64_t{2}, int64_t{4}, w.bare_options.get(),
                 &w.outs.module),
      BN2D_ENTRY(instance_norm_create, "options? out", int64_t{4}, w.options.get(), &w.outs.module),
      BN2D_ENTRY(module_norm, "module out", w.module.get(), &w.outs.i32),
      BN2D_ENTRY(module_num_groups, "module out", w.module.get(), &w.outs.i64),
      BN2D_ENTRY(module_ghost_batch_size, "module out", w.module.get(), &w.outs.i64),
      // A group of each channel: N*C statistics. With y, with a mask, and without either.
      BN2D_ENTRY(group_norm_forward, "x z? y weight? bias? mask? saved_mean? saved_invstd?",
                 w.view_x.get(), w.view_z.get(), w.view_y.get(), World::kC, int32_t{BN2D_F32},
                 w.weight.data(), w.bias.data(), 1e-5, int32_t{BN2D_ACT_RELU}, 0.0, w.mask.data(),
                 w.set_mean.data(), w.set_invstd.data()),
      BN2D_ENTRY(group_norm_backward,
                 "x dy y mask? weight? saved_mean saved_invstd dx? dz? dweight? dbias?",
                 w.view_x.get(), w.view_dy.get(), w.view_z.get(), nullptr, World::kC,
                 int32_t{BN2D_F32}, w.weight.data(), w.set_mean.data(), w.set_invstd.data(),
                 int32_t{BN2D_ACT_RELU}, 0.0, 0.0, w.view_dx.get(), w.view_dz.get(),
                 w.dweight.data(), w.dbias.data()),
      BN2D_ENTRY(group_norm_backward,
                 "x dy y? mask weight? saved_mean saved_invstd dx? dz? dweight? dbias?",
                 w.view_x.get(), w.view_dy.get(), nullptr, w.mask.data(), World::kC,
                 int32_t{BN2D_F32}, w.weight.data(), w.set_mean.data(), w.set_invstd.data(),
                 int32_t{BN2D_ACT_RELU}, 0.0, 1.0, w.view_dx.get(), w.view_dz.get(),
                 w.dweight.data(), w.dbias.data()),
      BN2D_ENTRY(group_norm_backward,
                 "x? dy y? mask? weight? saved_mean? saved_invstd dx? dz? dweight? dbias?", nullptr,
                 w.view_dy.get(), nullptr, nullptr, World::kC, int32_t{BN2D_F32}, w.weight.data(),
                 w.set_mean.data(), w.set_invstd.data(), int32_t{BN2D_ACT_NONE}, 0.0, 1.0, nullptr,
                 w.view_dz.get(), nullptr, w.dbias.data()),
      BN2D_ENTRY(
          group_norm_double_backward,
          "x dy y mask? weight? saved_mean saved_invstd ddx? ddweight? ddbias? ddy? dx? dweight?",
          w.view_x.get(), w.view_dy.get(), w.view_z.get(), nullptr, World::kC, int32_t{BN2D_F32},
          w.weight.data(), w.set_mean.data(), w.set_invstd.data(), int32_t{BN2D_ACT_RELU}, 0.0,
          w.view_ddx.get(), w.ddweight.data(), w.ddbias.data(), 0.0, w.view_ddy.get(),
          w.view_dx.get(), w.dweight.data()),
      BN2D_ENTRY(
          group_norm_double_backward,
          "x dy y? mask weight? saved_mean saved_invstd ddx? ddweight? ddbias? ddy? dx? dweight?",
          w.view_x.get(), w.view_dy.get(), nullptr, w.mask.data(), World::kC, int32_t{BN2D_F32},
          w.weight.data(), w.set_mean.data(), w.set_invstd.data(), int32_t{BN2D_ACT_RELU}, 0.0,
          w.view_ddx.get(), w.ddweight.data(), w.ddbias.data(), 0.0, w.view_ddy.get(),
          w.view_dx.get(), w.dweight.data()),
      BN2D_ENTRY(group_norm_forward_flat, "x z? y weight? bias? mask? saved_mean? saved_invstd?",
                 int32_t{BN2D_F32}, int32_t{BN2D_NCHW}, World::kN, World::kC, World::kH, World::kW,
                 w.x.data(), w.z.data(), w.y.data(), World::kC, int32_t{BN2D_F32}, World::kC,
                 w.weight.data(), w.bias.data(), 1e-5, int32_t{BN2D_ACT_RELU}, 0.0, w.mask.data(),
                 w.set_mean.data(), w.set_invstd.data()),
      BN2D_ENTRY(group_norm_backward_flat,
                 "x dy y mask? weight? saved_mean saved_invstd dx? dz? dweight? dbias?",
                 int32_t{BN2D_F32}, int32_t{BN2D_NCHW}, World::kN, World::kC, World::kH, World::kW,
                 w.x.data(), w.dy.data(), w.z.data(), nullptr, World::kC, int32_t{BN2D_F32},
                 World::kC, w.weight.data(), w.set_mean.data(), w.set_invstd.data(),
                 int32_t{BN2D_ACT_RELU}, 0.0, 0.0, w.dx.data(), w.dz.data(), w.dweight.data(),
                 w.dbias.data()),
      BN2D_ENTRY(group_norm_backward_flat,
                 "x? dy y? mask? weight? saved_mean? saved_invstd dx? dz? dweight? dbias?",
                 int32_t{BN2D_F32}, int32_t{BN2D_NCHW}, World::kN, World::kC, World::kH, World::kW,
                 nullptr, w.dy.data(), nullptr, nullptr, World::kC, int32_t{BN2D_F32}, World::kC,
                 w.weight.data(), nullptr, w.set_invstd.data(), int32_t{BN2D_ACT_NONE}, 0.0, 1.0,
                 nullptr, w.dz.data(), nullptr, w.dbias.data()),
      // Through a pointwise activation, and another one.
      BN2D_ENTRY(batch_norm_backward_act,
                 "x z? dy y? mask? weight? bias? saved_mean saved_invstd dx? dz? dweight? dbias?",
                 w.view_x.get(), w.view_z.get(), w.view_dy.get(), nullptr, nullptr,
                 int32_t{BN2D_F32}, w.weight.data(), w.bias.data(), w.saved_mean.data(),
                 w.saved_invstd.data(), 1, int32_t{BN2D_ACT_SILU}, 0.0, 0.0, w.view_dx.get(),
                 w.view_dz.get(), w.dweight.data(), w.dbias.data()),
      BN2D_ENTRY(batch_norm_backward_act,
                 "x z? dy y mask? weight? bias? saved_mean saved_invstd dx? dz? dweight? dbias?",
                 w.view_x.get(), nullptr, w.view_dy.get(), w.view_z.get(), nullptr,
                 int32_t{BN2D_F32}, w.weight.data(), w.bias.data(), w.saved_mean.data(),
                 w.saved_invstd.data(), 1, int32_t{BN2D_ACT_RELU}, 0.0, 1.0, w.view_dx.get(),
                 w.view_dz.get(), w.dweight.data(), w.dbias.data()),
      BN2D_ENTRY(group_norm_backward_act,
                 "x z? dy y? mask? weight? bias? saved_mean saved_invstd dx? dz? dweight? dbias?",
                 w.view_x.get(), w.view_z.get(), w.view_dy.get(), nullptr, nullptr, World::kC,
                 int32_t{BN2D_F32}, w.weight.data(), w.bias.data(), w.set_mean.data(),
                 w.set_invstd.data(), int32_t{BN2D_ACT_GELU}, 0.0, 0.0, w.view_dx.get(),
                 w.view_dz.get(), w.dweight.data(), w.dbias.data()),
      BN2D_ENTRY(batch_norm_backward_act,
                 "x? z? dy y? mask? weight? bias? saved_mean? saved_invstd dx? dz? dweight? dbias?",
                 nullptr, nullptr, w.view_dy.get(), nullptr, nullptr, int32_t{BN2D_F32},
                 w.weight.data(), w.bias.data(), nullptr, w.saved_invstd.data(), 0,
                 int32_t{BN2D_ACT_NONE}, 0.0, 1.0, w.view_dx.get(), w.view_dz.get(), nullptr,
                 w.dbias.data()),
      BN2D_ENTRY(group_norm_backward_act,
                 "x? z? dy y? mask? weight? bias? saved_mean? saved_invstd dx? dz? dweight? dbias?",
                 nullptr, nullptr, w.view_dy.get(), nullptr, nullptr, World::kC, int32_t{BN2D_F32},
                 w.weight.data(), w.bias.data(), nullptr, w.set_invstd.data(),
                 int32_t{BN2D_ACT_NONE}, 0.0, 1.0, nullptr, w.view_dz.get(), nullptr,
                 w.dbias.data()),
      BN2D_ENTRY(double_backward_act, "module record dy ddx? ddz? ddweight? ddbias? ddy? dx? dz?",
                 w.module.get(), w.record.get(), w.view_dy.get(), w.view_ddx.get(), w.view_z.get(),
                 w.ddweight.data(), w.ddbias.data(), w.view_ddy.get(), w.view_dx.get(),
                 w.view_dz.get()),
      BN2D_ENTRY(batch_norm_double_backward_act,
                 "x z? dy y? mask? weight? bias? saved_mean saved_invstd ddx? ddz? ddweight? "
                 "ddbias? ddy? dx? dz? dweight? dbias?",
                 w.view_x.get(), w.view_z.get(), w.view_dy.get(), nullptr, nullptr,
                 int32_t{BN2D_F32}, w.weight.data(), w.bias.data(), w.saved_mean.data(),
                 w.saved_invstd.data(), 1, int32_t{BN2D_ACT_SILU}, 0.0, w.view_ddx.get(),
                 w.view_z.get(), w.ddweight.data(), w.ddbias.data(), 0.0, w.view_ddy.get(),
                 w.view_dx.get(), w.view_dz.get(), w.dweight.data(), w.dbias.data()),
      BN2D_ENTRY(batch_norm_double_backward_act,
                 "x z? dy y mask? weight? bias? saved_mean saved_invstd ddx? ddz? ddweight? "
                 "ddbias? ddy? dx? dz? dweight? dbias?",
                 w.view_x.get(), nullptr, w.view_dy.get(), w.view_z.get(), nullptr,
                 int32_t{BN2D_F32}, w.weight.data(), w.bias.data(), w.saved_mean.data(),
                 w.saved_invstd.data(), 1, int32_t{BN2D_ACT_RELU}, 0.0, w.view_ddx.get(), nullptr,
                 w.ddweight.data(), w.ddbias.data(), 1.0, w.view_ddy.get(), w.view_dx.get(),
                 w.view_dz.get(), w.dweight.data(), w.dbias.data()),
      BN2D_ENTRY(group_norm_double_backward_act,
                 "x z? dy y? mask? weight? bias? saved_mean saved_invstd ddx? ddz? ddweight? "
                 "ddbias? ddy? dx? dz? dweight? dbias?",
                 w.view_x.get(), w.view_z.get(), w.view_dy.get(), nullptr, nullptr, World::kC,
                 int32_t{BN2D_F32}, w.weight.data(), w.bias.data(), w.set_mean.data(),
                 w.set_invstd.data(), int32_t{BN2D_ACT_GELU}, 0.0, w.view_ddx.get(), w.view_z.get(),
                 w.ddweight.data(), w.ddbias.data(), 0.0, w.view_ddy.get(), w.view_dx.get(),
                 w.view_dz.get(), w.dweight.data(), w.dbias.data()),
  };
  return table;
}
#undef BN2D_ENTRY

// The names of functions.inc.
inline std::vector<std::string> listed_functions() {
  return {
#define BN2D_FUNCTION(since, name) #name,
#include "functions.inc"
#undef BN2D_FUNCTION
  };
}

}  // namespace bn2d_test
