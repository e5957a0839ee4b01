// Options, modules, tensors, names: the calls without mathematics.
#include <cmath>

#include "fuzz/machine.h"
#include "support/contract_dlpack.h"

namespace bn2d_fuzz {
namespace {

Verdict wrong(bool is_wrong, int32_t status = BN2D_ERROR_INVALID_ARGUMENT) {
  Verdict verdict;
  if (is_wrong) verdict.must.add(status);
  return verdict;
}

bool is_module_dtype(int32_t dtype) { return dtype >= BN2D_F32 && dtype <= BN2D_BF16; }

}  // namespace

// -------------------------------------------------------------------------------------------------
// options

void Machine::options() {
  if (options_.empty() || (options_.size() < 3 && in_.one_in(4))) {
    bn2d_options *made = nullptr;
    before();
    const bool null = in_.one_in(32);
    simple("options_create", bn2d_options_create(null ? nullptr : &made), wrong(null));
    if (!null) options_.push_back({});
    if (!null) options_.back().handle = made, options_.back().references = 1;
    return;
  }
  OptionsModel &o = options_[static_cast<size_t>(in_.below(static_cast<int64_t>(options_.size())))];
  Verdict verdict;
  bn2d_options *handle = spoil(o.handle, verdict);
  before();
  const auto flag = [&](const char *name, int32_t (*set)(bn2d_options *, int32_t), bool &model,
                        unsigned touched = 0) {
    const int32_t value =
        in_.one_in(16) ? in_.pick({-1, 2, INT32_MAX}) : static_cast<int32_t>(in_.below(2));
    if (value != 0 && value != 1) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    simple(name, set(handle, value), verdict);
    if (verdict.must.empty()) model = value == 1, o.touched |= touched;
  };
  switch (in_.below(10)) {
    case 0: {
      const double eps =
          in_.pick({1e-5, 0.0, 1e-3, 1.0, 1e-300, 5e-324, 1e30, -0.0, -1e-5, nan, infinity});
      if (!(std::isfinite(eps) && eps >= 0)) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
      simple("options_set_eps", bn2d_options_set_eps(handle, eps), verdict);
      if (verdict.must.empty()) o.eps = eps;
      break;
    }
    case 1: {
      const double momentum =
          in_.pick({0.1, 0.0, 1.0, 0.5, 1e-300, -0.0, 1.0000001, -0.1, nan, infinity});
      if (!(momentum >= 0 && momentum <= 1)) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
      simple("options_set_momentum", bn2d_options_set_momentum(handle, momentum), verdict);
      if (verdict.must.empty())
        o.momentum = momentum, o.has_momentum = true, o.touched |= OptionsModel::kMomentum;
      break;
    }
    case 2:
      simple("options_set_momentum_none", bn2d_options_set_momentum_none(handle), verdict);
      if (verdict.must.empty()) o.has_momentum = false, o.touched |= OptionsModel::kMomentum;
      break;
    case 3:
      flag("options_set_affine", bn2d_options_set_affine, o.affine, OptionsModel::kAffine);
      break;
    case 4:
      flag("options_set_bias", bn2d_options_set_bias, o.bias);
      break;
    case 5:
      flag("options_set_track_running_stats", bn2d_options_set_track_running_stats, o.track,
           OptionsModel::kTrack);
      break;
    case 6:
      if (in_.coin()) {
        flag("options_set_biased_running_var", bn2d_options_set_biased_running_var, o.biased,
             OptionsModel::kStatistics);
      } else {
        flag("options_set_protect_running_stats", bn2d_options_set_protect_running_stats, o.protect,
             OptionsModel::kStatistics);
      }
      break;
    case 7: {
      const int32_t dtype = in_.one_in(12) ? in_.pick<int32_t>({0, BN2D_I64, 6, -1, INT32_MIN})
                                           : static_cast<int32_t>(1 + in_.below(4));
      if (!is_module_dtype(dtype)) verdict.must.add(BN2D_ERROR_DTYPE);
      simple("options_set_dtype", bn2d_options_set_dtype(handle, dtype), verdict);
      if (verdict.must.empty()) o.dtype = dtype;
      break;
    }
    case 8: {
      const int32_t threads = in_.pick<int32_t>({0, 1, 2, 3, INT32_MAX, -1, INT32_MIN});
      if (threads < 0) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
      simple("options_set_num_threads", bn2d_options_set_num_threads(handle, threads), verdict);
      if (verdict.must.empty()) o.threads = threads;
      break;
    }
    default: {
      const int32_t type = in_.pick<int32_t>({BN2D_CPU, BN2D_CPU, BN2D_CUDA, BN2D_ROCM, 0, -1}),
                    id = in_.pick({0, 0, 1});
      if (type != BN2D_CPU || id != 0) verdict.must.add(BN2D_ERROR_DEVICE);
      simple("options_set_device", bn2d_options_set_device(handle, type, id), verdict);
      break;
    }
  }
}

// What is well known must be taken, and with the same effect as by the setter; on anything else the
// options stay what they are or become something that a module can be made from.
void Machine::options_by_name() {
  if (options_.empty()) return options();
  OptionsModel &o = options_[0];
  struct Known {
    const char *name, *value;
    int32_t status;
    void (*apply)(OptionsModel &);
  };
  static const Known known[] = {
      {"eps", "1e-3", BN2D_OK, [](OptionsModel &m) { m.eps = 1e-3; }},
      {"eps", "0", BN2D_OK, [](OptionsModel &m) { m.eps = 0; }},
      {"eps", "-1", BN2D_ERROR_INVALID_ARGUMENT, nullptr},
      {"eps", "nan", BN2D_ERROR_INVALID_ARGUMENT, nullptr},
      {"eps", "", BN2D_ERROR_INVALID_ARGUMENT, nullptr},
      {"momentum", "0.25", BN2D_OK,
       [](OptionsModel &m) {
         m.momentum = 0.25, m.has_momentum = true, m.touched |= OptionsModel::kMomentum;
       }},
      {"momentum", "None", BN2D_OK,
       [](OptionsModel &m) { m.has_momentum = false, m.touched |= OptionsModel::kMomentum; }},
      {"momentum", "2", BN2D_ERROR_INVALID_ARGUMENT, nullptr},
      {"affine", "False", BN2D_OK,
       [](OptionsModel &m) { m.affine = false, m.touched |= OptionsModel::kAffine; }},
      {"affine", "1", BN2D_OK,
       [](OptionsModel &m) { m.affine = true, m.touched |= OptionsModel::kAffine; }},
      {"bias", "0", BN2D_OK, [](OptionsModel &m) { m.bias = false; }},
      {"bias", "yes", BN2D_ERROR_INVALID_ARGUMENT, nullptr},
      {"track_running_stats", "True", BN2D_OK,
       [](OptionsModel &m) { m.track = true, m.touched |= OptionsModel::kTrack; }},
      {"track_running_stats", "0", BN2D_OK,
       [](OptionsModel &m) { m.track = false, m.touched |= OptionsModel::kTrack; }},
      {"biased_running_var", "1", BN2D_OK,
       [](OptionsModel &m) { m.biased = true, m.touched |= OptionsModel::kStatistics; }},
      {"protect_running_stats", "True", BN2D_OK,
       [](OptionsModel &m) { m.protect = true, m.touched |= OptionsModel::kStatistics; }},
      {"dtype", "float64", BN2D_OK, [](OptionsModel &m) { m.dtype = BN2D_F64; }},
      {"dtype", "bf16", BN2D_OK, [](OptionsModel &m) { m.dtype = BN2D_BF16; }},
      {"dtype", "int64", BN2D_ERROR_DTYPE, nullptr},
      {"dtype", "float", BN2D_ERROR_DTYPE, nullptr},
      {"device", "cpu", BN2D_OK, [](OptionsModel &) {}},
      {"device", "cuda", BN2D_ERROR_DEVICE, nullptr},
      {"num_threads", "2", BN2D_OK, [](OptionsModel &m) { m.threads = 2; }},
      {"num_threads", "-2", BN2D_ERROR_INVALID_ARGUMENT, nullptr},
      {"num_threads", "99999999999", BN2D_ERROR_INVALID_ARGUMENT, nullptr},
      {"Eps", "1", BN2D_ERROR_NOT_FOUND, nullptr},
      {"", "", BN2D_ERROR_NOT_FOUND, nullptr},
  };
  const Known &chosen = known[in_.below(static_cast<int64_t>(std::size(known)))];
  Verdict verdict;
  if (!in_.one_in(3)) {
    if (chosen.status != BN2D_OK) verdict.must.add(chosen.status);
    bn2d_options *handle = spoil(o.handle, verdict);
    const bool no_name = in_.one_in(64), no_value = in_.one_in(64);
    if (no_name || no_value) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    before();
    simple(std::string("options_set_by_name ") + chosen.name + "=" + chosen.value,
           bn2d_options_set_by_name(handle, no_name ? nullptr : chosen.name,
                                    no_value ? nullptr : chosen.value),
           verdict);
    if (verdict.must.empty()) chosen.apply(o);
    return;
  }
  std::string name = chosen.name, value;
  if (in_.one_in(4)) {
    name.clear();
    for (int64_t i = in_.below(80); i > 0; --i) name += static_cast<char>(in_.byte());
  }
  for (int64_t i = in_.below(24); i > 0; --i)
    value +=
        in_.one_in(4) ? static_cast<char>(in_.byte()) : "0123456789.e+-naifxTrue"[in_.below(23)];
  bn2d_options *garbage = nullptr;
  if (bn2d_options_create(&garbage) != BN2D_OK) return;
  for (const int32_t status :
       {BN2D_ERROR_INVALID_ARGUMENT, BN2D_ERROR_NOT_FOUND, BN2D_ERROR_DTYPE, BN2D_ERROR_DEVICE})
    verdict.may.add(status);
  before();
  const int32_t status = bn2d_options_set_by_name(garbage, name.c_str(), value.c_str());
  bn2d_module *made = nullptr;
  const bool settled = settle("options_set_by_name with garbage", status, verdict);
  if (settled && bn2d_module_create(1, garbage, &made) != BN2D_OK) {
    bn2d_options_release(garbage);
    found("options_set_by_name with garbage",
          "took " + name + "=" + value + ", of which no module can be made");
  }
  double eps = 1, momentum = 0;
  int32_t has = 0;
  if (made != nullptr) {
    bn2d_module_eps(made, &eps);
    bn2d_module_momentum(made, &has, &momentum);
  }
  bn2d_module_release(made);
  bn2d_options_release(garbage);
  if (!(eps >= 0 && std::isfinite(eps)) || (has != 0 && !(momentum >= 0 && momentum <= 1)))
    found("options_set_by_name with garbage", "took " + name + "=" + value);
}

// -------------------------------------------------------------------------------------------------
// modules

void Machine::create_module() {
  size_t alive = 0;
  for (const auto &module : modules_) alive += module->alive() ? 1 : 0;
  if (alive >= 4) return query_module();
  OptionsModel chosen;
  Verdict verdict;
  const bn2d_options *options = nullptr;
  bn2d_options *made = nullptr;
  if (!options_.empty() && in_.coin()) {
    chosen = options_[static_cast<size_t>(in_.below(static_cast<int64_t>(options_.size())))];
    options = chosen.handle;
    if (in_.one_in(64)) {  // a module is no options
      for (const auto &module : modules_) {
        if (!module->alive() || !verdict.must.empty()) continue;
        options = reinterpret_cast<const bn2d_options *>(module->handle);
        verdict.must.add(BN2D_ERROR_INVALID_HANDLE);
      }
    }
  } else if (!in_.one_in(8)) {  // options of its own in a few bytes
    if (bn2d_options_create(&made) != BN2D_OK) return;
    options = made;
    const uint8_t bits = in_.byte();
    chosen.affine = (bits & 3) != 3;
    chosen.bias = (bits & 12) != 12;
    chosen.track = (bits & 0x30) != 0x30;
    chosen.has_momentum = (bits & 0xC0) != 0xC0;
    chosen.dtype = in_.pick<int32_t>({BN2D_F32, BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16});
    chosen.eps = in_.pick({1e-5, 1e-3, 0.0, 1.0, 1e-12});
    chosen.momentum = in_.pick({0.1, 1.0, 0.5, 0.0});
    chosen.biased = in_.one_in(4);
    chosen.protect = in_.one_in(4);
    int32_t status = bn2d_options_set_affine(made, chosen.affine);
    status |= bn2d_options_set_bias(made, chosen.bias);
    status |= bn2d_options_set_track_running_stats(made, chosen.track);
    status |= chosen.has_momentum ? bn2d_options_set_momentum(made, chosen.momentum)
                                  : bn2d_options_set_momentum_none(made);
    status |= bn2d_options_set_dtype(made, chosen.dtype) | bn2d_options_set_eps(made, chosen.eps);
    status |= bn2d_options_set_biased_running_var(made, chosen.biased);
    status |= bn2d_options_set_protect_running_stats(made, chosen.protect);
    if (status != BN2D_OK) found("options", "a valid one was refused");
  }
  int64_t channels = in_.one_in(8) ? in_.pick<int64_t>({16, 17, 33, 40}) : 1 + in_.below(9);
  if (in_.one_in(100)) {
    channels = in_.pick<int64_t>({0, -1, INT64_MIN, INT64_MAX, int64_t{1} << 62});
    verdict.must.add(channels <= 0 ? BN2D_ERROR_INVALID_ARGUMENT : BN2D_ERROR_OVERFLOW);
  }
  bn2d_module *module = nullptr;
  before();
  const bool created = settle("module_create " + std::to_string(channels),
                              bn2d_module_create(channels, options, &module), verdict);
  bn2d_options_release(made);
  if (created == (module == nullptr))
    found("module_create", "the handle does not tell whether it succeeded");
  if (created) adopt(module, channels, chosen);
}

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

void Machine::query_module() {
  ModuleModel &m = *modules_[pick_module()];
  Verdict verdict;
  const bn2d_module *handle = spoil(m.handle, verdict);
  const bool null = in_.one_in(64);
  if (null) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  const int32_t untouched = 0x5a5a5a5a;
  int32_t small = untouched, other = untouched;
  int64_t wide = untouched;
  double number = untouched;
  before();
  const auto integer = [&](const char *name, int32_t (*ask)(const bn2d_module *, int32_t *),
                           int32_t right) {
    simple(name, ask(handle, null ? nullptr : &small), verdict);
    if (small != (verdict.must.empty() ? right : untouched))
      found(name, "gave " + std::to_string(small));
  };
  int32_t count = 0;
  for (const TensorModel &tensor : m.tensors) count += tensor.kind == BN2D_GRADIENT ? 0 : 1;
  switch (in_.below(12)) {
    case 0:
      return integer("module_is_training", bn2d_module_is_training, m.training ? 1 : 0);
    case 1:
      return integer("module_affine", bn2d_module_affine, m.options.affine ? 1 : 0);
    case 2:
      return integer("module_track_running_stats", bn2d_module_track_running_stats,
                     m.options.track ? 1 : 0);
    case 3:
      return integer("module_dtype", bn2d_module_dtype, m.options.dtype);
    case 4:
      return integer("module_get_num_threads", bn2d_module_get_num_threads, m.threads);
    case 5:
      return integer("module_tensor_count", bn2d_module_tensor_count, count);
    case 6:
      simple("module_num_features", bn2d_module_num_features(handle, null ? nullptr : &wide),
             verdict);
      if (wide != (verdict.must.empty() ? m.channels : untouched))
        found("module_num_features", "is wrong");
      return;
    case 7:
      simple("module_eps", bn2d_module_eps(handle, null ? nullptr : &number), verdict);
      if (number != (verdict.must.empty() ? m.options.eps : untouched))
        found("module_eps", "is wrong");
      return;
    case 8: {
      simple("module_momentum", bn2d_module_momentum(handle, null ? nullptr : &small, &number),
             verdict);
      const bool right = !verdict.must.empty()    ? small == untouched && number == untouched
                         : m.options.has_momentum ? small == 1 && number == m.options.momentum
                                                  : small == 0 && std::isnan(number);
      if (!right) found("module_momentum", "is wrong");
      return;
    }
    case 9:
      simple("module_device", bn2d_module_device(handle, null ? nullptr : &small, &other), verdict);
      if (verdict.must.empty() && (small != BN2D_CPU || other != 0))
        found("module_device", "is wrong");
      return;
    case 10: {  // by index
      const int32_t index = in_.one_in(16) ? in_.pick<int32_t>({-1, count, INT32_MAX, INT32_MIN})
                                           : static_cast<int32_t>(in_.below(std::max(count, 1)));
      if (index < 0 || index >= count) verdict.must.add(BN2D_ERROR_NOT_FOUND);
      bn2d_tensor *tensor = nullptr;
      const bool ok =
          settle("module_tensor_at", bn2d_module_tensor_at(handle, index, null ? nullptr : &tensor),
                 verdict);
      if (!ok)
        return tensor == nullptr ? void() : found("module_tensor_at", "failed and gave a handle");
      int32_t i = 0;
      for (TensorModel &one : m.tensors) {
        if (one.kind == BN2D_GRADIENT || i++ != index) continue;
        if (one.handle != tensor) found("module_tensor_at", "gave another handle than before");
        ++one.references;
      }
      return;
    }
    default: {
      char text[200];
      std::memset(text, 0x5a, sizeof text);
      const uint64_t capacity =
          in_.one_in(4) ? 0 : static_cast<uint64_t>(in_.below(static_cast<int64_t>(sizeof text)));
      uint64_t length = 0, needed = 0;
      bn2d_module_repr(m.handle, nullptr, 0, &needed);
      verdict.must = {};  // NULL is allowed for some of these
      bn2d_module *const asked = spoil(m.handle, verdict);
      if (capacity > 0 && capacity <= needed) verdict.must.add(BN2D_ERROR_BUFFER_TOO_SMALL);
      before();
      simple("module_repr", bn2d_module_repr(asked, text, capacity, &length), verdict);
      const bool wrote = verdict.must.empty() && capacity > 0;
      for (size_t i = wrote ? needed + 1 : 0; i < sizeof text; ++i)
        if (text[i] != 0x5a) found("module_repr", "wrote beyond its text");
      if (wrote && (text[needed] != 0 || std::strlen(text) != needed || length != needed))
        found("module_repr", "has another length than it says");
      return;
    }
  }
}

void Machine::change_module() {
  const size_t index = pick_module();
  ModuleModel &m = *modules_[index];
  Verdict verdict;
  bn2d_module *handle = spoil(m.handle, verdict);
  const auto expect = [&](const char *name, double value) {
    for (const double v : m.values(name))
      if (v != value) found("a reset", std::string(name) + " is " + std::to_string(v));
  };
  before();
  switch (in_.below(6)) {
    case 0: {
      const int32_t training =
          in_.one_in(16) ? in_.pick({-1, 2}) : static_cast<int32_t>(in_.below(2));
      if (training != 0 && training != 1) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
      if (settle("module_train " + std::to_string(training), bn2d_module_train(handle, training),
                 verdict))
        m.training = training == 1;
      break;
    }
    case 1:
      if (settle("module_eval", bn2d_module_eval(handle), verdict)) m.training = false;
      break;
    case 2: {
      const int32_t threads = in_.pick<int32_t>({0, 1, 2, INT32_MAX, -1});
      if (threads < 0) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
      if (settle("module_set_num_threads", bn2d_module_set_num_threads(handle, threads), verdict))
        m.threads = threads;
      break;
    }
    case 3:
    case 4: {
      const bool all = in_.coin();
      const int32_t status =
          all ? bn2d_module_reset_parameters(handle) : bn2d_module_reset_running_stats(handle);
      if (!settle(all ? "module_reset_parameters" : "module_reset_running_stats", status, verdict))
        return;
      std::vector<std::string> changed{"running_mean", "running_var", "num_batches_tracked"};
      if (all) changed.insert(changed.end(), {"weight", "bias"});
      check_only("a reset", {}, static_cast<int>(index), changed);
      expect("running_mean", 0);
      expect("running_var", 1);
      if (all) expect("weight", 1), expect("bias", 0);
      break;
    }
    default:
      if (!settle("module_zero_grad", bn2d_module_zero_grad(handle), verdict)) return;
      check_only("module_zero_grad", {}, static_cast<int>(index), {"weight.grad", "bias.grad"});
      expect("weight.grad", 0);
      expect("bias.grad", 0);
      break;
  }
}

// Retain and release, of what is alive and of what is dead.
void Machine::references() {
  Verdict verdict;
  switch (in_.below(4)) {
    case 0: {
      if (options_.empty()) return;
      OptionsModel &o = options_.back();
      bn2d_options *handle = spoil(o.handle, verdict);
      before();
      if (in_.coin() && o.references < 3) {
        simple("options_retain", bn2d_options_retain(handle), verdict);
        if (verdict.must.empty()) ++o.references;
        return;
      }
      say("options_release");
      reach("options_release");
      bn2d_options_release(handle);
      if (!verdict.must.empty() || --o.references > 0) return;
      dead_options_.push_back(o.handle);
      options_.pop_back();
      return;
    }
    case 1: {
      ModuleModel &m = *modules_[pick_module()];
      bn2d_module *handle = spoil(m.handle, verdict);
      before();
      if (in_.coin() && m.references < 3) {
        simple("module_retain", bn2d_module_retain(handle), verdict);
        if (verdict.must.empty()) ++m.references;
        return;
      }
      say("module_release");
      reach("module_release");
      bn2d_module_release(handle);
      if (!verdict.must.empty() || --m.references > 0) return;
      dead_modules_.push_back(m.handle);
      for (TensorModel &tensor : m.tensors) {
        if (tensor.references == 0) dead_tensors_.push_back(tensor.handle);
      }
      // A gradient lives as long as its parameter: what is held of either keeps both out of the
      // list above.
      for (TensorModel &tensor : m.tensors) {
        if (tensor.gradient < 0 || tensor.references == 0) continue;
        bn2d_tensor *gradient = m.tensors[static_cast<size_t>(tensor.gradient)].handle;
        dead_tensors_.erase(std::remove(dead_tensors_.begin(), dead_tensors_.end(), gradient),
                            dead_tensors_.end());
      }
      return;
    }
    case 2: {
      if (modules_.empty()) return;
      ModuleModel &m =
          *modules_[static_cast<size_t>(in_.below(static_cast<int64_t>(modules_.size())))];
      if (m.tensors.empty()) return;
      TensorModel &t =
          m.tensors[static_cast<size_t>(in_.below(static_cast<int64_t>(m.tensors.size())))];
      if (!m.alive() && t.references == 0) return;
      bn2d_tensor *handle = spoil(t.handle, verdict);
      before();
      if (in_.coin() && t.references < 3) {
        simple("tensor_retain", bn2d_tensor_retain(handle), verdict);
        if (verdict.must.empty()) ++t.references;
        return;
      }
      say("tensor_release");
      reach("tensor_release");
      bn2d_tensor_release(handle);  // where the program holds none, nothing happens
      if (!verdict.must.empty() || t.references == 0) return;
      if (--t.references > 0 || m.alive()) return;
      if (t.gradient >= 0 && m.tensors[static_cast<size_t>(t.gradient)].references == 0)
        dead_tensors_.push_back(m.tensors[static_cast<size_t>(t.gradient)].handle);
      if (t.kind != BN2D_GRADIENT) dead_tensors_.push_back(t.handle);
      return;
    }
    default: {
      const int picked = pick_record();
      if (picked < 0) return;
      RecordModel &r = records_[static_cast<size_t>(picked)];
      bn2d_record *handle = spoil(r.handle, verdict);
      before();
      if (in_.coin() && r.references < 3) {
        simple("record_retain", bn2d_record_retain(handle), verdict);
        if (verdict.must.empty()) ++r.references;
        return;
      }
      say("record_release");
      reach("record_release");
      bn2d_record_release(handle);
      if (verdict.must.empty()) --r.references;
      if (r.references > 0) return;
      dead_records_.push_back(r.handle);
      records_.erase(records_.begin() + picked);
      return;
    }
  }
}

// -------------------------------------------------------------------------------------------------
// tensors

void Machine::tensor() {
  ModuleModel &m = *modules_[pick_module()];
  Verdict verdict;
  if (in_.coin()) {
    const char *name =
        in_.pick({"weight", "bias", "running_mean", "running_var", "num_batches_tracked",
                  "weight.grad", "bias.grad", "", "Weight", "running_mean.grad"});
    TensorModel *model = m.find(name);
    if (model == nullptr) verdict.must.add(BN2D_ERROR_NOT_FOUND);
    bn2d_module *handle = spoil(m.handle, verdict);
    const bool no_name = in_.one_in(64);
    if (no_name) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    bn2d_tensor *found_tensor = nullptr;
    before();
    const bool ok = settle(
        std::string("module_tensor_by_name ") + name,
        bn2d_module_tensor_by_name(handle, no_name ? nullptr : name, &found_tensor), verdict);
    if (!ok)
      return found_tensor == nullptr ? void()
                                     : found("module_tensor_by_name", "failed and gave a handle");
    if (found_tensor != model->handle)
      found("module_tensor_by_name", "gave another handle than before");
    ++model->references;
    return;
  }
  if (m.tensors.empty()) return;
  TensorModel &t =
      m.tensors[static_cast<size_t>(in_.below(static_cast<int64_t>(m.tensors.size())))];
  bn2d_tensor *handle = spoil(t.handle, verdict);
  const int32_t untouched = 0x5a5a5a5a;
  int32_t small = untouched;
  const auto integer = [&](const char *name, int32_t (*ask)(const bn2d_tensor *, int32_t *),
                           int32_t right) {
    simple(name, ask(handle, &small), verdict);
    if (small != (verdict.must.empty() ? right : untouched))
      found(name, "of " + t.name + " is wrong");
  };
  before();
  switch (in_.below(9)) {
    case 0:
      return integer("tensor_kind", bn2d_tensor_kind, t.kind);
    case 1:
      return integer("tensor_dtype", bn2d_tensor_dtype, t.dtype);
    case 2:
      return integer("tensor_rank", bn2d_tensor_rank, t.scalar ? 0 : 1);
    case 3:
      return integer("tensor_requires_grad", bn2d_tensor_requires_grad, t.requires_grad ? 1 : 0);
    case 4: {
      const char *name = nullptr;
      simple("tensor_name", bn2d_tensor_name(handle, &name), verdict);
      if (verdict.must.empty() && name != t.name) found("tensor_name", std::string("is ") + name);
      return;
    }
    case 5: {
      const int32_t dimension = in_.pick<int32_t>({0, 0, 1, -1, INT32_MAX});
      if (t.scalar || dimension != 0) verdict.must.add(BN2D_ERROR_NOT_FOUND);
      int64_t extent = untouched;
      simple("tensor_dim", bn2d_tensor_dim(handle, dimension, &extent), verdict);
      if (extent != (verdict.must.empty() ? t.count : untouched)) found("tensor_dim", "is wrong");
      return;
    }
    case 6: {
      uint64_t bytes = 0;
      simple("tensor_nbytes", bn2d_tensor_nbytes(handle, &bytes), verdict);
      if (bytes != (verdict.must.empty() ? t.bytes : 0)) found("tensor_nbytes", "is wrong");
      void *data = nullptr;
      Verdict again = verdict;
      before();
      simple("tensor_data", bn2d_tensor_data(handle, &data), again);
      if (data != (verdict.must.empty() ? t.data : nullptr)) found("tensor_data", "is wrong");
      return;
    }
    case 7: {
      if (t.kind != BN2D_PARAMETER) verdict.must.add(BN2D_ERROR_STATE);
      bn2d_tensor *gradient = nullptr;
      const bool ok = settle("tensor_grad", bn2d_tensor_grad(handle, &gradient), verdict);
      if (!ok)
        return gradient == nullptr ? void() : found("tensor_grad", "failed and gave a handle");
      TensorModel &model = m.tensors[static_cast<size_t>(t.gradient)];
      if (gradient != model.handle) found("tensor_grad", "gave another handle than before");
      ++model.references;
      return;
    }
    default: {
      const int32_t value = in_.one_in(16) ? in_.pick({-1, 2}) : static_cast<int32_t>(in_.below(2));
      if (value != 0 && value != 1) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
      if (t.kind != BN2D_PARAMETER) verdict.must.add(BN2D_ERROR_STATE);
      if (settle("tensor_set_requires_grad", bn2d_tensor_set_requires_grad(handle, value), verdict))
        t.requires_grad = value == 1;
      return;
    }
  }
}

void Machine::copy_tensor() {
  const size_t index = pick_module();
  ModuleModel &m = *modules_[index];
  if (m.tensors.empty()) return;
  TensorModel &t =
      m.tensors[static_cast<size_t>(in_.below(static_cast<int64_t>(m.tensors.size())))];
  const bool from = in_.coin();
  Verdict verdict;
  int32_t dtype = in_.one_in(3) ? static_cast<int32_t>(1 + in_.below(5)) : t.dtype;
  if ((dtype == BN2D_I64) != (t.dtype == BN2D_I64)) verdict.must.add(BN2D_ERROR_DTYPE);
  Operand other = place_.array(from ? "source" : "target", static_cast<size_t>(in_.below(8)), dtype,
                               t.count, !from, true, nullptr);
  View view = t.scalar ? View::scalar(other.data, dtype) : View::vector(other.data, dtype, t.count);
  const bool flat = in_.one_in(3);  // without a view
  verdict.must.add(other.faults);
  // An expanded source and a counter of shape (1) are as good as any other.
  if (flat) {
    // A pointer and a length: nothing to spoil.
  } else if (t.scalar && in_.one_in(3)) {
    view = View::vector(other.data, dtype, 1);
  } else if (!t.scalar && t.count > 1 && in_.one_in(4)) {
    view.set_stride(0, 0);
    other.footprint.offsets.assign(other.footprint.offsets.size(), other.footprint.offsets[0]);
    if (!from) verdict.must.add(BN2D_ERROR_LAYOUT);
  } else if (!t.scalar && in_.one_in(24)) {
    view.set_extent(0, t.count + 1);
    verdict.must.add(BN2D_ERROR_SHAPE);
  } else if (in_.one_in(24)) {
    view->device_type = BN2D_CUDA;
    verdict.must.add(BN2D_ERROR_DEVICE);
  }
  if (from && dtype != BN2D_I64) place_.fill(other, {1, t.count, 1, 1}, in_.one_in(3));
  if (from && dtype == BN2D_I64 && other.whole()) {
    const int64_t count = in_.pick<int64_t>({0, 1, 1000, -1, INT64_MAX, INT64_MAX - 1, INT64_MIN});
    std::memcpy(other.data, &count, sizeof count);
  }
  bn2d_tensor *handle = spoil(t.handle, verdict);
  before();
  const std::string what =
      std::string(from ? "tensor_copy_from" : "tensor_copy_to") + (flat ? "_flat" : "");
  const int32_t status = flat   ? from
                                      ? bn2d_tensor_copy_from_flat(handle, dtype, other.data, t.count)
                                      : bn2d_tensor_copy_to_flat(handle, dtype, other.data, t.count)
                           : from ? bn2d_tensor_copy_from(handle, view)
                                : bn2d_tensor_copy_to(handle, view);
  if (!settle(what, status, verdict)) return;
  check_only(what, from ? std::vector<const Operand *>() : std::vector<const Operand *>{&other},
             static_cast<int>(index),
             from ? std::vector<std::string>{t.name} : std::vector<std::string>());
  if (dtype == BN2D_I64) {
    if (std::memcmp(t.data, other.data, 8) != 0) found(what, "the counter has not arrived");
    return;
  }
  const Values here = m.values(t.name), there = place_.values(other);
  for (size_t i = 0; i < here.size(); ++i) {
    const double want = numerics::rounded(from ? t.dtype : dtype, from ? there[i] : here[i]);
    const double got = from ? here[i] : there[i];
    if (got != want && !(std::isnan(got) && std::isnan(want)))
      found(what, "element " + std::to_string(i) + " is " + std::to_string(got) + ", not " +
                      std::to_string(want));
  }
}

void Machine::export_tensor() {
  ModuleModel &m = *modules_[pick_module()];
  if (m.tensors.empty()) return;
  const TensorModel &t =
      m.tensors[static_cast<size_t>(in_.below(static_cast<int64_t>(m.tensors.size())))];
  const auto check = [&](const bn2d_test::DLTensorMirror &tensor) {
    const bool right = tensor.data == t.data && tensor.ndim == (t.scalar ? 0 : 1) &&
                       tensor.device_type == BN2D_CPU &&
                       (t.scalar || (tensor.shape[0] == t.count && tensor.strides[0] == 1)) &&
                       tensor.byte_offset == 0;
    if (!right) found("tensor_to_dlpack", "says something else than the tensor");
  };
  if (in_.one_in(3)) {  // a consumer gives one back
    say("deleter");
    if (!exports_.empty()) exports_.back()->deleter(exports_.back()), exports_.pop_back();
    if (!legacy_exports_.empty())
      legacy_exports_.back()->deleter(legacy_exports_.back()), legacy_exports_.pop_back();
    return;
  }
  Verdict verdict;
  bn2d_tensor *handle = spoil(t.handle, verdict);
  before();
  if (in_.coin()) {
    DLManagedTensorVersioned *made = nullptr;
    simple("tensor_to_dlpack", bn2d_tensor_to_dlpack(handle, &made), verdict);
    if ((made != nullptr) != verdict.must.empty())
      found("tensor_to_dlpack", "no export, or one too many");
    if (made == nullptr) return;
    check(made->dl_tensor);
    exports_.push_back(made);
  } else {
    DLManagedTensor *made = nullptr;
    simple("tensor_to_dlpack_legacy", bn2d_tensor_to_dlpack_legacy(handle, &made), verdict);
    if ((made != nullptr) != verdict.must.empty())
      found("tensor_to_dlpack_legacy", "no export, or one too many");
    if (made == nullptr) return;
    check(made->dl_tensor);
    legacy_exports_.push_back(made);
  }
}

// The host writes through bn2d_tensor_data().
void Machine::set_values() {
  ModuleModel &m = *modules_[pick_module()];
  for (TensorModel &t : m.tensors) {
    if (t.dtype == BN2D_I64) {
      if (!in_.one_in(8)) continue;
      const int64_t count =
          in_.pick<int64_t>({7, 0, -1, INT64_MAX, INT64_MAX - 1, int64_t{1} << 53});
      std::memcpy(t.data, &count, sizeof count);
      continue;
    }
    if (in_.one_in(3)) continue;
    const bool hostile = in_.one_in(6);
    // By way of the memory, which knows all styles.
    const Operand there = place_.array("values", 7, t.dtype, t.count, false, true, nullptr);
    place_.fill(there, {1, t.count, 1, 1}, hostile);
    if (!there.whole()) continue;
    std::memcpy(t.data, there.data, t.bytes);
    if (t.name != "running_var" || hostile) continue;
    for (int64_t c = 0; c < t.count; ++c) {
      const size_t size = numerics::size_of(t.dtype);
      unsigned char *at = t.data + static_cast<size_t>(c) * size;
      const double value = std::fabs(numerics::decode(t.dtype, numerics::read_bits(t.dtype, at)));
      numerics::write_element(t.dtype, at, value);
    }
  }
  say("values of a module");
}

// -------------------------------------------------------------------------------------------------
// names, limits

void Machine::names() {
  Verdict verdict;
  before();
  switch (in_.below(4)) {
    case 0: {
      const int32_t count = bn2d_constant_count();
      const int32_t index = in_.one_in(4) ? in_.pick<int32_t>({-1, count, INT32_MAX, INT32_MIN})
                                          : static_cast<int32_t>(in_.below(count));
      if (index < 0 || index >= count) verdict.must.add(BN2D_ERROR_NOT_FOUND);
      const char *name = nullptr;
      int64_t value = 0, again = 1;
      simple("constant_at", bn2d_constant_at(index, &name, &value), verdict);
      if (!verdict.must.empty()) return;
      if (bn2d_constant_by_name(name, &again) != BN2D_OK || again != value)
        found("constant_by_name", std::string(name) + " has another value by name");
      reach("constant_by_name");
      return;
    }
    case 1: {
      std::string name;
      for (int64_t i = in_.below(300); i > 0; --i) name += static_cast<char>(in_.byte() | 1);
      int64_t value = 7;
      verdict.must.add(BN2D_ERROR_NOT_FOUND);
      simple("constant_by_name of garbage", bn2d_constant_by_name(name.c_str(), &value), verdict);
      if (value != 7) found("constant_by_name", "failed and gave a value");
      return;
    }
    case 2: {
      const char *name = in_.pick({"float32", "f64", "bfloat16", "i64", "float", "", "F32"});
      int32_t dtype = 7;
      const std::string text = name;
      if (text == "float" || text.empty() || text == "F32") verdict.must.add(BN2D_ERROR_NOT_FOUND);
      simple("dtype_from_name", bn2d_dtype_from_name(name, &dtype), verdict);
      if ((dtype == 7) != !verdict.must.empty()) found("dtype_from_name", "is wrong");
      return;
    }
    default: {
      const auto extent = [&] {
        return in_.one_in(8) ? in_.pick<int64_t>(
                                   {-1, INT64_MAX, INT64_MIN, int64_t{1} << 32, int64_t{1} << 61})
                             : in_.below(40);
      };
      const int64_t e[4] = {extent(), extent(), extent(), extent()};
      uint64_t bytes = 7;
      __int128 product = 8;
      bool negative = false, overflow = false;
      for (const int64_t one : e) {
        negative |= one < 0;
        if (one > 0) product = product > INT64_MAX ? product : product * one;
      }
      overflow = product > INT64_MAX;
      if (negative) verdict.must.add(BN2D_ERROR_SHAPE);
      if (overflow) verdict.must.add(BN2D_ERROR_OVERFLOW);
      simple("mask_nbytes", bn2d_mask_nbytes(e[0], e[1], e[2], e[3], &bytes), verdict);
      const uint64_t right =
          verdict.must.empty() ? static_cast<uint64_t>(e[0] * e[1] * ((e[2] * e[3] + 7) / 8)) : 7;
      if (bytes != right) found("mask_nbytes", "is " + std::to_string(bytes));
      return;
    }
  }
}

void Machine::settings() {
  before();
  if (in_.coin()) {
    const int32_t threads = in_.pick<int32_t>({0, 1, 2, 3, 8, INT32_MAX, -1, INT32_MIN});
    simple("set_num_threads " + std::to_string(threads), bn2d_set_num_threads(threads),
           wrong(threads < 0));
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
