// The module: life, mode, what it was made with, its tensors.
#include <cinttypes>
#include <cmath>
#include <cstring>
#include <memory>

#include "convert.h"
#include "handle.h"
#include "module/batch_norm_2d.h"
#include "module/group_norm.h"
#include "module/instance_norm_2d.h"

using namespace bn2d;
using namespace bn2d::capi;

namespace {

// A handle for a tensor, and for its gradient, held by the module until it ends.
bn2d_tensor *make_tensor_handle(const std::shared_ptr<Tensor> &tensor) {
  NewHandle<bn2d_tensor> handle;
  handle->value = tensor;
  if (tensor->gradient()) handle->gradient = make_tensor_handle(tensor->gradient());
  return handle.publish_owned();
}

template <class Norm>
std::unique_ptr<BatchNormBase> make_of_channels(int64_t, int64_t num_features,
                                                const Options &options) {
  return std::make_unique<Norm>(num_features, options);
}
std::unique_ptr<BatchNormBase> make_of_groups(int64_t num_groups, int64_t num_channels,
                                              const Options &options) {
  return std::make_unique<GroupNorm>(num_groups, num_channels, options);
}
using Make = decltype(&make_of_groups);

// The module that `make` gives, in a handle.
int32_t create(Make make, int64_t num_groups, int64_t num_features, const bn2d_options *options,
               bn2d_module **out) {
  return guarded([&] {
    required(out, "out");
    const Options chosen = options ? checked(options, "options").value : Options();
    NewHandle<bn2d_module> handle;
    handle->value = make(num_groups, num_features, chosen);
    int i = 0;
    for (const auto &tensor : handle->value->tensors())
      handle->tensors[i++] = make_tensor_handle(tensor);
    *out = handle.publish();
  });
}

}  // namespace

int32_t bn2d_module_create(int64_t num_features, const bn2d_options *options, bn2d_module **out) {
  return create(make_of_channels<BatchNorm2d>, 0, num_features, options, out);
}
int32_t bn2d_group_norm_create(int64_t num_groups, int64_t num_channels,
                               const bn2d_options *options, bn2d_module **out) {
  return create(make_of_groups, num_groups, num_channels, options, out);
}
int32_t bn2d_instance_norm_create(int64_t num_features, const bn2d_options *options,
                                  bn2d_module **out) {
  return create(make_of_channels<InstanceNorm2d>, 0, num_features, options, out);
}

int32_t bn2d_module_retain(bn2d_module *module) {
  return guarded([&] { retain(module, "module"); });
}
void bn2d_module_release(bn2d_module *module) { release(module); }

int32_t bn2d_module_train(bn2d_module *module, int32_t training) {
  return guarded(
      [&] { checked(module, "module").value->train(checked_flag("training", training)); });
}
int32_t bn2d_module_eval(bn2d_module *module) {
  return guarded([&] { checked(module, "module").value->train(false); });
}
int32_t bn2d_module_is_training(const bn2d_module *module, int32_t *out) {
  return get(module, out, [](const BatchNormBase &m) { return m.is_training() ? 1 : 0; });
}
int32_t bn2d_module_num_features(const bn2d_module *module, int64_t *out) {
  return get(module, out, [](const BatchNormBase &m) { return m.num_features(); });
}
int32_t bn2d_module_norm(const bn2d_module *module, int32_t *out) {
  return get(module, out, [](const BatchNormBase &m) { return static_cast<int32_t>(m.norm()); });
}
int32_t bn2d_module_num_groups(const bn2d_module *module, int64_t *out) {
  return get(module, out, [](const BatchNormBase &m) { return m.num_groups(); });
}
int32_t bn2d_module_ghost_batch_size(const bn2d_module *module, int64_t *out) {
  return get(module, out, [](const BatchNormBase &m) { return m.options().ghost_batch_size; });
}
int32_t bn2d_module_eps(const bn2d_module *module, double *out) {
  return get(module, out, [](const BatchNormBase &m) { return m.options().eps; });
}
int32_t bn2d_module_momentum(const bn2d_module *module, int32_t *out_has, double *out) {
  return guarded([&] {
    required(out_has, "out_has");
    required(out, "out");
    const double momentum = checked(module, "module").value->momentum();
    *out_has = std::isnan(momentum) ? 0 : 1;
    *out = momentum;
  });
}
int32_t bn2d_module_affine(const bn2d_module *module, int32_t *out) {
  return get(module, out, [](const BatchNormBase &m) { return m.options().affine ? 1 : 0; });
}
int32_t bn2d_module_track_running_stats(const bn2d_module *module, int32_t *out) {
  return get(module, out,
             [](const BatchNormBase &m) { return m.options().track_running_stats ? 1 : 0; });
}
int32_t bn2d_module_dtype(const bn2d_module *module, int32_t *out) {
  return get(module, out,
             [](const BatchNormBase &m) { return static_cast<int32_t>(m.options().dtype); });
}
int32_t bn2d_module_device(const bn2d_module *module, int32_t *out_type, int32_t *out_id) {
  return guarded([&] {
    required(out_type, "out_type");
    required(out_id, "out_id");
    checked(module, "module");
    *out_type = BN2D_CPU;
    *out_id = 0;
  });
}
int32_t bn2d_module_set_num_threads(bn2d_module *module, int32_t threads) {
  return guarded([&] { checked(module, "module").value->set_num_threads(threads); });
}
int32_t bn2d_module_get_num_threads(const bn2d_module *module, int32_t *out) {
  return get(module, out, [](const BatchNormBase &m) { return m.num_threads(); });
}
int32_t bn2d_module_set_momentum(bn2d_module *module, double momentum) {
  return guarded([&] {
    checked(module, "module").value->set_momentum(checked_momentum("momentum", momentum));
  });
}
int32_t bn2d_module_set_momentum_none(bn2d_module *module) {
  return guarded([&] { checked(module, "module").value->set_momentum(std::nan("")); });
}
int32_t bn2d_module_set_frozen(bn2d_module *module, int32_t frozen) {
  return guarded(
      [&] { checked(module, "module").value->set_frozen(checked_flag("frozen", frozen)); });
}
int32_t bn2d_module_is_frozen(const bn2d_module *module, int32_t *out) {
  return get(module, out, [](const BatchNormBase &m) { return m.is_frozen() ? 1 : 0; });
}
int32_t bn2d_module_repr(const bn2d_module *module, char *buffer, uint64_t capacity,
                         uint64_t *length) {
  return guarded(
      [&] { copy_text(checked(module, "module").value->repr(), buffer, capacity, length); });
}

int32_t bn2d_module_reset_running_stats(bn2d_module *module) {
  return guarded([&] { checked(module, "module").value->reset_running_stats(); });
}
int32_t bn2d_module_reset_parameters(bn2d_module *module) {
  return guarded([&] { checked(module, "module").value->reset_parameters(); });
}
int32_t bn2d_module_zero_grad(bn2d_module *module) {
  return guarded([&] { checked(module, "module").value->zero_grad(); });
}

int32_t bn2d_module_try_lock(bn2d_module *module, int32_t exclusive) {
  return guarded(
      [&] { checked(module, "module").value->try_lock(checked_flag("exclusive", exclusive)); });
}
int32_t bn2d_module_unlock(bn2d_module *module, int32_t exclusive) {
  return guarded(
      [&] { checked(module, "module").value->unlock(checked_flag("exclusive", exclusive)); });
}
int32_t bn2d_module_scale_shift(const bn2d_module *module, int32_t dtype, void *scale, void *shift,
                                int64_t length) {
  return guarded([&] {
    const BatchNormBase &m = *checked(module, "module").value;
    if (length != m.num_features())
      fail(Status::shape, "length is %" PRId64 ", the module has %" PRId64 " channels", length,
           m.num_features());
    const DType type = checked_floating_dtype(dtype);
    m.scale_shift({type, scale}, {type, shift});
  });
}

int32_t bn2d_module_tensor_count(const bn2d_module *module, int32_t *out) {
  return get(module, out,
             [](const BatchNormBase &m) { return static_cast<int32_t>(m.tensors().size()); });
}

int32_t bn2d_module_tensor_at(const bn2d_module *module, int32_t index, bn2d_tensor **out) {
  return guarded([&] {
    required(out, "out");
    const bn2d_module &m = checked(module, "module");
    const int32_t count = static_cast<int32_t>(m.value->tensors().size());
    if (index < 0 || index >= count)
      fail(Status::not_found, "tensor %" PRId32 " does not exist, the module has %" PRId32, index,
           count);
    *out = retain(handle_of(m.tensors[index]), "tensor");
  });
}

int32_t bn2d_module_tensor_by_name(const bn2d_module *module, const char *name, bn2d_tensor **out) {
  return guarded([&] {
    required(name, "name");
    required(out, "out");
    const bn2d_module &m = checked(module, "module");
    for (bn2d_tensor *tensor : m.tensors) {
      if (tensor == nullptr) continue;
      for (bn2d_tensor *candidate : {tensor, tensor->gradient})
        if (candidate != nullptr && std::strcmp(candidate->value->name(), name) == 0) {
          *out = retain(handle_of(candidate), "tensor");
          return;
        }
    }
    fail(Status::not_found, "no tensor is named %s in %.120s", Quoted(name).text,
         m.value->repr().c_str());
  });
}
