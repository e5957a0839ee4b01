// Modules, made of options.
#include "fuzz/call.h"

namespace bn2d_fuzz {

struct Machine::Creation : Machine::Call {
  using Call::Call;
  OptionsModel chosen;
  const bn2d_options *options = nullptr;
  bn2d_options *made = nullptr;  // options of this call alone
  int64_t channels = 0;
  bn2d_module *module = nullptr;

  bool too_many() const;
  void take_options();
  void draw_channels();
  void draw_common();           // of what any norm may have
  bool finish(int32_t status);  // true where there is a module
};

bool Machine::Creation::too_many() const {
  size_t alive = 0;
  for (const auto &one : machine.modules_) alive += one->alive() ? 1 : 0;
  return alive >= 4;
}

void Machine::Creation::take_options() {
  chosen = in.one_of(machine.options_);
  options = chosen.handle;
}

void Machine::Creation::draw_common() {
  chosen.dtype = in.pick<int32_t>({BN2D_F32, BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16});
  chosen.eps = in.pick({1e-5, 1e-3, 0.0, 1.0, 1e-12});
}

void Machine::Creation::draw_channels() {
  channels = in.one_in(8) ? in.pick<int64_t>({16, 17, 33, 40}) : 1 + in.below(9);
}

bool Machine::Creation::finish(int32_t status) {
  bn2d_options_release(made);
  const bool created = machine.settle(what, status, verdict);
  if (created == (module == nullptr))
    machine.found(what, "the handle does not tell whether it succeeded");
  return created;
}

// -------------------------------------------------------------------------------------------------
// batch norm

struct Machine::CreateModule : Machine::Creation {
  using Creation::Creation;
  void run();

 private:
  void take_module();
  void make_options();
};

void Machine::create_module() { CreateModule(*this).run(); }

void Machine::CreateModule::run() {
  if (too_many()) return machine.query_module();
  if (!machine.options_.empty() && in.coin()) {
    take_options();
    if (in.one_in(64)) take_module();
  } else if (!in.one_in(8)) {
    make_options();
  }
  draw_channels();
  if (in.one_in(100)) {
    channels = in.pick<int64_t>({0, -1, INT64_MIN, INT64_MAX, int64_t{1} << 62});
    verdict.must.add(channels <= 0 ? BN2D_ERROR_INVALID_ARGUMENT : BN2D_ERROR_OVERFLOW);
  }
  what = "module_create " + std::to_string(channels);
  machine.before();
  const int32_t status = bn2d_module_create(channels, options, &module);
  if (finish(status)) machine.adopt(module, channels, chosen);
}

// A module is no options.
void Machine::CreateModule::take_module() {
  for (const auto &one : machine.modules_) {
    if (!one->alive() || !verdict.must.empty()) continue;
    options = reinterpret_cast<const bn2d_options *>(one->handle);
    verdict.must.add(BN2D_ERROR_INVALID_HANDLE);
  }
}

// In a few bytes.
void Machine::CreateModule::make_options() {
  const uint8_t bits = in.byte();
  chosen.affine = (bits & 3) != 3;
  chosen.bias = (bits & 12) != 12;
  chosen.track = (bits & 0x30) != 0x30;
  chosen.has_momentum = (bits & 0xC0) != 0xC0;
  draw_common();
  chosen.momentum = in.pick({0.1, 1.0, 0.5, 0.0});
  chosen.biased = in.one_in(4);
  chosen.protect = in.one_in(4);
  int32_t status = bn2d_options_create(&made);
  status |= bn2d_options_set_affine(made, chosen.affine);
  status |= bn2d_options_set_bias(made, chosen.bias);
  status |= bn2d_options_set_track_running_stats(made, chosen.track);
  status |= chosen.has_momentum ? bn2d_options_set_momentum(made, chosen.momentum)
                                : bn2d_options_set_momentum_none(made);
  status |= bn2d_options_set_dtype(made, chosen.dtype) | bn2d_options_set_eps(made, chosen.eps);
  status |= bn2d_options_set_biased_running_var(made, chosen.biased);
  status |= bn2d_options_set_protect_running_stats(made, chosen.protect);
  if (status != BN2D_OK) machine.found("options", "a valid one was refused");
  options = made;
}

// -------------------------------------------------------------------------------------------------
// group and instance norm, and batch norm of ghost batches

struct Machine::CreateNorm : Machine::Creation {
  using Creation::Creation;
  void run();

 private:
  int32_t norm = BN2D_NORM_GROUP;
  int64_t groups = 0;

  void make_options();
  int32_t set_momentum();
  int32_t set_track();
  int32_t set_statistics();
  void use_defaults();
  void draw_extents();
  const char *name() const;
  int32_t call();
};

void Machine::create_norm() { CreateNorm(*this).run(); }

void Machine::CreateNorm::run() {
  if (too_many()) return machine.forward();
  norm = in.pick<int32_t>({BN2D_NORM_GROUP, BN2D_NORM_INSTANCE, BN2D_NORM_BATCH});
  if (!machine.options_.empty() && in.one_in(3))
    take_options();
  else if (!in.one_in(6))
    make_options();
  use_defaults();
  draw_extents();
  what = std::string(name()) + " " + std::to_string(groups) + " " + std::to_string(channels);
  machine.before();
  if (!finish(call())) return;
  machine.adopt(module, channels, chosen, norm, groups);
  // Elsewhere than where everything starts.
  if (in.coin()) machine.set_values();
}

void Machine::CreateNorm::make_options() {
  int32_t status = bn2d_options_create(&made);
  if (in.coin()) {
    chosen.affine = !in.one_in(3), chosen.touched |= OptionsModel::kAffine;
    status |= bn2d_options_set_affine(made, chosen.affine);
  }
  chosen.bias = !in.one_in(4);
  draw_common();
  status |= bn2d_options_set_bias(made, chosen.bias);
  status |= bn2d_options_set_dtype(made, chosen.dtype) | bn2d_options_set_eps(made, chosen.eps);
  const bool refused = in.one_in(24);  // what this norm may not have
  const bool moves = norm != BN2D_NORM_GROUP || refused;
  if (moves && in.coin()) status |= set_momentum();
  if (moves && in.coin()) status |= set_track();
  if (moves && in.one_in(3)) status |= set_statistics();
  if (norm == BN2D_NORM_BATCH || refused) {
    chosen.ghost = 1 + in.below(5), chosen.touched |= OptionsModel::kGhost;
    status |= bn2d_options_set_ghost_batch_size(made, chosen.ghost);
  }
  if (status != BN2D_OK) machine.found("options", "a valid one was refused");
  options = made;
}

int32_t Machine::CreateNorm::set_momentum() {
  chosen.has_momentum = !in.one_in(4), chosen.touched |= OptionsModel::kMomentum;
  chosen.momentum = in.pick({0.1, 1.0, 0.5, 0.0});
  return chosen.has_momentum ? bn2d_options_set_momentum(made, chosen.momentum)
                             : bn2d_options_set_momentum_none(made);
}

int32_t Machine::CreateNorm::set_track() {
  chosen.track = !in.one_in(4), chosen.touched |= OptionsModel::kTrack;
  return bn2d_options_set_track_running_stats(made, chosen.track);
}

int32_t Machine::CreateNorm::set_statistics() {
  chosen.biased = in.coin(), chosen.protect = in.coin();
  chosen.touched |= OptionsModel::kStatistics;
  return bn2d_options_set_biased_running_var(made, chosen.biased) |
         bn2d_options_set_protect_running_stats(made, chosen.protect);
}

// Of what was not set, and what this norm refuses.
void Machine::CreateNorm::use_defaults() {
  constexpr unsigned of_running = OptionsModel::kMomentum | OptionsModel::kTrack |
                                  OptionsModel::kStatistics | OptionsModel::kGhost;
  const unsigned refused = norm == BN2D_NORM_GROUP      ? of_running
                           : norm == BN2D_NORM_INSTANCE ? OptionsModel::kGhost
                                                        : 0U;
  verdict.fails_if((chosen.touched & refused) != 0);
  if (norm != BN2D_NORM_BATCH && (chosen.touched & OptionsModel::kTrack) == 0) chosen.track = false;
  if (norm == BN2D_NORM_GROUP) chosen.has_momentum = false;
  if (norm == BN2D_NORM_INSTANCE && (chosen.touched & OptionsModel::kAffine) == 0)
    chosen.affine = false;
}

void Machine::CreateNorm::draw_extents() {
  groups = norm == BN2D_NORM_GROUP ? 1 + in.below(4) : 0;
  draw_channels();
  if (norm == BN2D_NORM_GROUP) channels = groups * std::min<int64_t>(channels, 40 / groups);
  if (in.one_in(60)) {
    channels = in.pick<int64_t>({0, -1, INT64_MIN, int64_t{1} << 62});
    verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    verdict.must.add(BN2D_ERROR_OVERFLOW);
  } else if (norm == BN2D_NORM_GROUP && in.one_in(40)) {
    groups = in.pick<int64_t>({0, -1, channels + 1, INT64_MAX, INT64_MIN});
    verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  }
}

const char *Machine::CreateNorm::name() const {
  return norm == BN2D_NORM_GROUP      ? "group_norm_create"
         : norm == BN2D_NORM_INSTANCE ? "instance_norm_create"
                                      : "module_create with ghost batches";
}

int32_t Machine::CreateNorm::call() {
  return norm == BN2D_NORM_GROUP      ? bn2d_group_norm_create(groups, channels, options, &module)
         : norm == BN2D_NORM_INSTANCE ? bn2d_instance_norm_create(channels, options, &module)
                                      : bn2d_module_create(channels, options, &module);
}

// -------------------------------------------------------------------------------------------------
// what a new module must be

void Machine::adopt(bn2d_module *handle, int64_t channels, const OptionsModel &options,
                    int32_t norm, int64_t groups) {
  auto module = std::make_unique<ModuleModel>();
  module->handle = handle;
  module->references = 1;
  module->options = options;
  module->channels = channels;
  module->threads = options.threads;
  module->norm = norm;
  module->groups = groups;
  const auto add = [&](const char *name, int32_t kind, int32_t dtype, bool scalar, double initial) {
    TensorModel tensor;
    tensor.name = name;
    tensor.kind = kind;
    tensor.dtype = dtype;
    tensor.scalar = scalar;
    tensor.count = scalar ? 1 : channels;
    tensor.requires_grad = kind == BN2D_PARAMETER;
    tensor.bytes = static_cast<size_t>(tensor.count) * static_cast<size_t>(bn2d_dtype_size(dtype));
    void *data = nullptr;
    if (bn2d_module_tensor_by_name(handle, name, &tensor.handle) != BN2D_OK ||
        bn2d_tensor_data(tensor.handle, &data) != BN2D_OK)
      throw Finding(std::string("a new module has no ") + name);
    bn2d_tensor_release(tensor.handle);  // the module keeps it
    tensor.data = static_cast<unsigned char *>(data);
    if (reinterpret_cast<uintptr_t>(data) % 64 != 0)
      throw Finding(std::string(name) + " is not aligned to 64 bytes");
    module->tensors.push_back(tensor);
    if (scalar) return;
    for (const double value : module->values(name))
      if (value != initial)
        throw Finding(std::string(name) + " does not start as " + std::to_string(initial));
  };
  const auto parameter = [&](const char *name, const char *gradient, double initial) {
    add(name, BN2D_PARAMETER, options.dtype, false, initial);
    add(gradient, BN2D_GRADIENT, options.dtype, false, 0);
    module->tensors[module->tensors.size() - 2].gradient =
        static_cast<int>(module->tensors.size()) - 1;
  };
  if (options.affine) parameter("weight", "weight.grad", 1);
  if (options.affine && options.bias) parameter("bias", "bias.grad", 0);
  if (options.track) {
    add("running_mean", BN2D_BUFFER, options.dtype, false, 0);
    add("running_var", BN2D_BUFFER, options.dtype, false, 1);
    add("num_batches_tracked", BN2D_BUFFER, BN2D_I64, true, 0);
  }
  modules_.push_back(std::move(module));
}

}  // namespace bn2d_fuzz
