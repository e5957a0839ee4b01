// Retain and release, of what is alive and of what is dead.
#include <algorithm>

#include "fuzz/machine.h"

namespace bn2d_fuzz {

void Machine::references() {
  switch (in_.below(4)) {
    case 0:
      return references_of_options();
    case 1:
      return references_of_module();
    case 2:
      return references_of_tensor();
    default:
      return references_of_record();
  }
}

// True where the handle itself was released.
template <class Model, class H>
bool Machine::retain_or_release(const std::string &kind, Model &model, int32_t (*retain)(H *),
                                void (*release)(H *)) {
  Verdict verdict;
  H *const handle = spoil(model.handle, verdict);
  before();
  if (in_.coin() && model.references < 3) {
    simple(kind + "_retain", retain(handle), verdict);
    if (verdict.must.empty()) ++model.references;
    return false;
  }
  say(kind + "_release");
  reach(kind + "_release");
  release(handle);
  return verdict.must.empty();
}

void Machine::references_of_options() {
  if (options_.empty()) return;
  OptionsModel &o = options_.back();
  if (!retain_or_release("options", o, bn2d_options_retain, bn2d_options_release) ||
      --o.references > 0)
    return;
  dead_options_.push_back(o.handle);
  options_.pop_back();
}

void Machine::references_of_module() {
  ModuleModel &m = *modules_[pick_module()];
  if (!retain_or_release("module", m, bn2d_module_retain, bn2d_module_release) ||
      --m.references > 0)
    return;
  dead_modules_.push_back(m.handle);
  for (TensorModel &tensor : m.tensors) {
    if (tensor.references == 0) dead_tensors_.push_back(tensor.handle);
  }
  // A gradient lives as long as its parameter: what is held of either keeps both out of the list
  // above.
  for (TensorModel &tensor : m.tensors) {
    if (tensor.gradient < 0 || tensor.references == 0) continue;
    bn2d_tensor *gradient = m.tensors[static_cast<size_t>(tensor.gradient)].handle;
    dead_tensors_.erase(std::remove(dead_tensors_.begin(), dead_tensors_.end(), gradient),
                        dead_tensors_.end());
  }
}

void Machine::references_of_tensor() {
  if (modules_.empty()) return;
  ModuleModel &m = *in_.one_of(modules_);
  if (m.tensors.empty()) return;
  TensorModel &t = in_.one_of(m.tensors);
  if (!m.alive() && t.references == 0) return;
  // Where the program holds none, a release does nothing.
  if (!retain_or_release("tensor", t, bn2d_tensor_retain, bn2d_tensor_release) || t.references == 0)
    return;
  if (--t.references > 0 || m.alive()) return;
  if (t.gradient >= 0 && m.tensors[static_cast<size_t>(t.gradient)].references == 0)
    dead_tensors_.push_back(m.tensors[static_cast<size_t>(t.gradient)].handle);
  if (t.kind != BN2D_GRADIENT) dead_tensors_.push_back(t.handle);
}

void Machine::references_of_record() {
  const int picked = pick_record();
  if (picked < 0) return;
  RecordModel &r = records_[static_cast<size_t>(picked)];
  if (!retain_or_release("record", r, bn2d_record_retain, bn2d_record_release) ||
      --r.references > 0)
    return;
  dead_records_.push_back(r.handle);
  records_.erase(records_.begin() + picked);
}

}  // namespace bn2d_fuzz
