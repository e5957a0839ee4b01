// What the tensors of a module say of themselves, and their values as the host writes them.
#include <cmath>

#include "fuzz/call.h"
#include "support/contract_dlpack.h"

namespace bn2d_fuzz {

struct Machine::TensorQuery : Machine::Call {
  TensorQuery(Machine &of, ModuleModel &module)
      : Call(of), m(module), t(in.one_of(m.tensors)), handle(of.spoil(t.handle, verdict)) {}
  void run();

 private:
  ModuleModel &m;
  TensorModel &t;
  bn2d_tensor *const handle;

  void ask(const char *name, int32_t (*function)(const bn2d_tensor *, int32_t *), int32_t right);
  void name();
  void dimension();
  void data();
  void gradient();
  void set_requires_grad();
};

void Machine::tensor() {
  ModuleModel &m = *modules_[pick_module()];
  if (in_.coin()) return tensor_by_name(m);
  if (!m.tensors.empty()) TensorQuery(*this, m).run();
}

void Machine::tensor_by_name(ModuleModel &m) {
  const char *name =
      in_.pick({"weight", "bias", "running_mean", "running_var", "num_batches_tracked",
                "weight.grad", "bias.grad", "", "Weight", "running_mean.grad"});
  TensorModel *model = m.find(name);
  Verdict verdict;
  verdict.fails_if(model == nullptr, BN2D_ERROR_NOT_FOUND);
  bn2d_module *handle = spoil(m.handle, verdict);
  const bool no_name = in_.one_in(64);
  verdict.fails_if(no_name);
  bn2d_tensor *tensor = nullptr;
  before();
  const int32_t status = bn2d_module_tensor_by_name(handle, no_name ? nullptr : name, &tensor);
  if (!settle(std::string("module_tensor_by_name ") + name, status, verdict)) {
    if (tensor != nullptr) found("module_tensor_by_name", "failed and gave a handle");
    return;
  }
  if (tensor != model->handle) found("module_tensor_by_name", "gave another handle than before");
  ++model->references;
}

void Machine::TensorQuery::run() {
  machine.before();
  switch (in.below(9)) {
    case 0:
      return ask("tensor_kind", bn2d_tensor_kind, t.kind);
    case 1:
      return ask("tensor_dtype", bn2d_tensor_dtype, t.dtype);
    case 2:
      return ask("tensor_rank", bn2d_tensor_rank, t.scalar ? 0 : 1);
    case 3:
      return ask("tensor_requires_grad", bn2d_tensor_requires_grad, t.requires_grad ? 1 : 0);
    case 4:
      return name();
    case 5:
      return dimension();
    case 6:
      return data();
    case 7:
      return gradient();
    default:
      return set_requires_grad();
  }
}

void Machine::TensorQuery::ask(const char *name,
                               int32_t (*function)(const bn2d_tensor *, int32_t *), int32_t right) {
  int32_t value = kUntouched;
  machine.simple(name, function(handle, &value), verdict);
  if (value != (verdict.must.empty() ? right : kUntouched))
    machine.found(name, "of " + t.name + " is wrong");
}

void Machine::TensorQuery::name() {
  const char *name = nullptr;
  machine.simple("tensor_name", bn2d_tensor_name(handle, &name), verdict);
  if (verdict.must.empty() && name != t.name)
    machine.found("tensor_name", std::string("is ") + name);
}

void Machine::TensorQuery::dimension() {
  const int32_t dimension = in.pick<int32_t>({0, 0, 1, -1, INT32_MAX});
  verdict.fails_if(t.scalar || dimension != 0, BN2D_ERROR_NOT_FOUND);
  int64_t extent = kUntouched;
  machine.simple("tensor_dim", bn2d_tensor_dim(handle, dimension, &extent), verdict);
  if (extent != (verdict.must.empty() ? t.count : kUntouched))
    machine.found("tensor_dim", "is wrong");
}

void Machine::TensorQuery::data() {
  uint64_t bytes = 0;
  machine.simple("tensor_nbytes", bn2d_tensor_nbytes(handle, &bytes), verdict);
  if (bytes != (verdict.must.empty() ? t.bytes : 0)) machine.found("tensor_nbytes", "is wrong");
  void *data = nullptr;
  machine.before();
  machine.simple("tensor_data", bn2d_tensor_data(handle, &data), verdict);
  if (data != (verdict.must.empty() ? t.data : nullptr)) machine.found("tensor_data", "is wrong");
}

void Machine::TensorQuery::gradient() {
  verdict.fails_if(t.kind != BN2D_PARAMETER, BN2D_ERROR_STATE);
  bn2d_tensor *gradient = nullptr;
  if (!machine.settle("tensor_grad", bn2d_tensor_grad(handle, &gradient), verdict)) {
    if (gradient != nullptr) machine.found("tensor_grad", "failed and gave a handle");
    return;
  }
  TensorModel &model = m.tensors[static_cast<size_t>(t.gradient)];
  if (gradient != model.handle) machine.found("tensor_grad", "gave another handle than before");
  ++model.references;
}

void Machine::TensorQuery::set_requires_grad() {
  const int32_t value = in.one_in(16) ? in.pick({-1, 2}) : static_cast<int32_t>(in.below(2));
  verdict.fails_if(value != 0 && value != 1);
  verdict.fails_if(t.kind != BN2D_PARAMETER, BN2D_ERROR_STATE);
  const int32_t status = bn2d_tensor_set_requires_grad(handle, value);
  if (machine.settle("tensor_set_requires_grad", status, verdict)) t.requires_grad = value == 1;
}

void Machine::export_tensor() {
  ModuleModel &m = *modules_[pick_module()];
  if (m.tensors.empty()) return;
  const TensorModel &t = in_.one_of(m.tensors);
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

}  // namespace bn2d_fuzz
