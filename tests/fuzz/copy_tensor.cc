// A tensor of a module takes its values from memory, or gives them.
#include <cmath>

#include "fuzz/call.h"

namespace bn2d_fuzz {

struct Machine::CopyTensor : Machine::Call {
  CopyTensor(Machine &of, size_t module)
      : Call(of), index(module), m(*of.modules_[module]), t(in.one_of(m.tensors)) {}
  void run();

 private:
  const size_t index;  // of the module
  ModuleModel &m;
  TensorModel &t;
  bool from = false;  // memory
  Operand other;      // what is there
  View view;
  bn2d_tensor *handle = nullptr;

  void draw();
  void spoil_view();
  void fill();
  int32_t call() const;
  void judge() const;
};

void Machine::copy_tensor() {
  const size_t module = pick_module();
  if (!modules_[module]->tensors.empty()) CopyTensor(*this, module).run();
}

void Machine::CopyTensor::run() {
  draw();
  if (!plain) spoil_view();
  fill();
  handle = machine.spoil(t.handle, verdict);
  machine.before();
  what = std::string(from ? "tensor_copy_from" : "tensor_copy_to") + (plain ? "_flat" : "");
  if (!machine.settle(what, call(), verdict)) return;
  std::vector<const Operand *> written;
  std::vector<std::string> changed;
  if (from)
    changed.push_back(t.name);
  else
    written.push_back(&other);
  machine.check_only(what, written, static_cast<int>(index), changed);
  judge();
}

void Machine::CopyTensor::draw() {
  from = in.coin();
  data = in.one_in(3) ? static_cast<int32_t>(1 + in.below(5)) : t.dtype;
  verdict.fails_if((data == BN2D_I64) != (t.dtype == BN2D_I64), BN2D_ERROR_DTYPE);
  const auto room = static_cast<size_t>(in.below(8));
  other = place.array(from ? "source" : "target", room, data, t.count, !from, true, nullptr);
  view = t.scalar ? View::scalar(other.data, data) : View::vector(other.data, data, t.count);
  plain = in.one_in(3);
  verdict.must.add(other.faults);
}

// An expanded source and a counter of shape (1) are as good as any other.
void Machine::CopyTensor::spoil_view() {
  if (t.scalar && in.one_in(3)) {
    view = View::vector(other.data, data, 1);
  } else if (!t.scalar && t.count > 1 && in.one_in(4)) {
    view.set_stride(0, 0);
    other.footprint.offsets.assign(other.footprint.offsets.size(), other.footprint.offsets[0]);
    verdict.fails_if(!from, BN2D_ERROR_LAYOUT);
  } else if (!t.scalar && in.one_in(24)) {
    view.set_extent(0, t.count + 1);
    verdict.must.add(BN2D_ERROR_SHAPE);
  } else if (in.one_in(24)) {
    view->device_type = BN2D_CUDA;
    verdict.must.add(BN2D_ERROR_DEVICE);
  }
}

void Machine::CopyTensor::fill() {
  if (!from) return;
  if (data != BN2D_I64) return place.fill(other, {1, t.count, 1, 1}, in.one_in(3));
  if (!other.whole()) return;
  const int64_t count = in.pick<int64_t>({0, 1, 1000, -1, INT64_MAX, INT64_MAX - 1, INT64_MIN});
  std::memcpy(other.data, &count, sizeof count);
}

int32_t Machine::CopyTensor::call() const {
  if (from)
    return plain ? bn2d_tensor_copy_from_flat(handle, data, other.data, t.count)
                 : bn2d_tensor_copy_from(handle, view);
  return plain ? bn2d_tensor_copy_to_flat(handle, data, other.data, t.count)
               : bn2d_tensor_copy_to(handle, view);
}

void Machine::CopyTensor::judge() const {
  if (data == BN2D_I64) {
    if (std::memcmp(t.data, other.data, 8) != 0) machine.found(what, "the counter has not arrived");
    return;
  }
  const Values here = m.values(t.name), there = place.values(other);
  for (size_t i = 0; i < here.size(); ++i) {
    const double want = numerics::rounded(from ? t.dtype : data, from ? there[i] : here[i]);
    const double got = from ? here[i] : there[i];
    if (got != want && !(std::isnan(got) && std::isnan(want)))
      machine.found(what, "element " + std::to_string(i) + " is " + std::to_string(got) + ", not " +
                              std::to_string(want));
  }
}

}  // namespace bn2d_fuzz
