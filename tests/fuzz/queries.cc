// What a module, or a record, says of itself.
#include <cmath>

#include "fuzz/call.h"

namespace bn2d_fuzz {

struct Machine::ModuleQuery : Machine::Call {
  ModuleQuery(Machine &of, bool nulls)
      : Call(of),
        m(*of.modules_[of.pick_module()]),
        handle(of.spoil(m.handle, verdict)),
        null(nulls && in.one_in(64)) {
    verdict.fails_if(null);
  }
  void run();
  void run_norm();

 private:
  ModuleModel &m;
  const bn2d_module *const handle;
  const bool null;  // in place of where the answer goes

  int32_t tensors() const;
  template <class T>
  void ask(const char *name, int32_t (*function)(const bn2d_module *, T *), T right) const;
  void momentum() const;
  void device() const;
  void tensor_at();
  void repr();
};

void Machine::query_module() { ModuleQuery(*this, true).run(); }

void Machine::query_norm() {
  if (!records_.empty() && in_.one_in(4)) return query_record();
  ModuleQuery(*this, false).run_norm();
}

void Machine::query_record() {
  const RecordModel &r = records_[static_cast<size_t>(pick_record())];
  Verdict verdict;
  const bn2d_record *handle = spoil(r.handle, verdict);
  int32_t batch = 7;
  before();
  simple("record_batch_statistics", bn2d_record_batch_statistics(handle, &batch), verdict);
  if (batch != (verdict.must.empty() ? (r.numbers.batch ? 1 : 0) : 7))
    found("record_batch_statistics", "is " + std::to_string(batch));
}

void Machine::ModuleQuery::run() {
  machine.before();
  switch (in.below(12)) {
    case 0:
      return ask("module_is_training", bn2d_module_is_training, m.training ? 1 : 0);
    case 1:
      return ask("module_affine", bn2d_module_affine, m.options.affine ? 1 : 0);
    case 2:
      return ask("module_track_running_stats", bn2d_module_track_running_stats,
                 m.options.track ? 1 : 0);
    case 3:
      return ask("module_dtype", bn2d_module_dtype, m.options.dtype);
    case 4:
      return ask("module_get_num_threads", bn2d_module_get_num_threads, m.threads);
    case 5:
      return ask("module_tensor_count", bn2d_module_tensor_count, tensors());
    case 6:
      return ask("module_num_features", bn2d_module_num_features, m.channels);
    case 7:
      return ask("module_eps", bn2d_module_eps, m.options.eps);
    case 8:
      return momentum();
    case 9:
      return device();
    case 10:
      return tensor_at();
    default:
      return repr();
  }
}

void Machine::ModuleQuery::run_norm() {
  const int64_t which = in.below(4);
  machine.before();
  switch (which) {
    case 0:
      return ask("module_norm", bn2d_module_norm, m.norm);
    case 1:
      return ask("module_num_groups", bn2d_module_num_groups, m.groups);
    case 2:
      return ask("module_ghost_batch_size", bn2d_module_ghost_batch_size, m.options.ghost);
    default:
      return ask("module_is_frozen", bn2d_module_is_frozen, m.frozen ? 1 : 0);
  }
}

// Without the gradients.
int32_t Machine::ModuleQuery::tensors() const {
  int32_t count = 0;
  for (const TensorModel &tensor : m.tensors) count += tensor.kind == BN2D_GRADIENT ? 0 : 1;
  return count;
}

template <class T>
void Machine::ModuleQuery::ask(const char *name, int32_t (*function)(const bn2d_module *, T *),
                               T right) const {
  T value = kUntouched;
  machine.simple(name, function(handle, null ? nullptr : &value), verdict);
  if (value != (verdict.must.empty() ? right : T{kUntouched}))
    machine.found(name, "is " + std::to_string(value));
}

void Machine::ModuleQuery::momentum() const {
  int32_t has = kUntouched;
  double number = kUntouched;
  machine.simple("module_momentum", bn2d_module_momentum(handle, null ? nullptr : &has, &number),
                 verdict);
  const bool right = !verdict.must.empty()    ? has == kUntouched && number == kUntouched
                     : m.options.has_momentum ? has == 1 && number == m.options.momentum
                                              : has == 0 && std::isnan(number);
  if (!right) machine.found("module_momentum", "is wrong");
}

void Machine::ModuleQuery::device() const {
  int32_t type = kUntouched, id = kUntouched;
  machine.simple("module_device", bn2d_module_device(handle, null ? nullptr : &type, &id), verdict);
  if (verdict.must.empty() && (type != BN2D_CPU || id != 0))
    machine.found("module_device", "is wrong");
}

void Machine::ModuleQuery::tensor_at() {
  const int32_t count = tensors();
  const int32_t index = in.one_in(16) ? in.pick<int32_t>({-1, count, INT32_MAX, INT32_MIN})
                                      : static_cast<int32_t>(in.below(std::max(count, 1)));
  verdict.fails_if(index < 0 || index >= count, BN2D_ERROR_NOT_FOUND);
  bn2d_tensor *tensor = nullptr;
  const int32_t status = bn2d_module_tensor_at(handle, index, null ? nullptr : &tensor);
  if (!machine.settle("module_tensor_at", status, verdict)) {
    if (tensor != nullptr) machine.found("module_tensor_at", "failed and gave a handle");
    return;
  }
  int32_t i = 0;
  for (TensorModel &one : m.tensors) {
    if (one.kind == BN2D_GRADIENT || i++ != index) continue;
    if (one.handle != tensor) machine.found("module_tensor_at", "gave another handle than before");
    ++one.references;
  }
}

void Machine::ModuleQuery::repr() {
  char text[200];
  std::memset(text, 0x5a, sizeof text);
  const uint64_t capacity =
      in.one_in(4) ? 0 : static_cast<uint64_t>(in.below(static_cast<int64_t>(sizeof text)));
  uint64_t length = 0, needed = 0;
  bn2d_module_repr(m.handle, nullptr, 0, &needed);
  verdict.must = {};  // NULL is allowed for some of these
  const bn2d_module *const asked = machine.spoil(m.handle, verdict);
  verdict.fails_if(capacity > 0 && capacity <= needed, BN2D_ERROR_BUFFER_TOO_SMALL);
  machine.before();
  machine.simple("module_repr", bn2d_module_repr(asked, text, capacity, &length), verdict);
  const bool wrote = verdict.must.empty() && capacity > 0;
  for (size_t i = wrote ? needed + 1 : 0; i < sizeof text; ++i)
    if (text[i] != 0x5a) machine.found("module_repr", "wrote beyond its text");
  if (wrote && (text[needed] != 0 || std::strlen(text) != needed || length != needed))
    machine.found("module_repr", "has another length than it says");
}

}  // namespace bn2d_fuzz
