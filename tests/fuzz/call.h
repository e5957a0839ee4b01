// A call of a program in steps: what is drawn for it, what the library should answer, the call
// itself, and the judgement of what it did. Each kind of call derives from one of these.
#pragma once
#include <string>
#include <vector>

#include "fuzz/repeat.h"

namespace bn2d_fuzz {

std::string text_of(const Extents &shape);
std::string text_of(const Extents &shape, int32_t data, int32_t parameters);
std::string text_of(double number);
std::string text_of(const std::vector<const Operand *> &operands);
// What a finding is about, for the count of what was reached.
std::string facet(const std::string &operation, const Numbers &numbers);

constexpr int32_t kUntouched = 0x5a5a5a5a;  // an out parameter before the call

inline oracle::Extents extents_of(const Extents &shape) {
  return {shape[0], shape[1], shape[2], shape[3]};
}
inline Operand not_given(const char *name) {
  Operand operand;
  operand.name = name, operand.given = false;
  return operand;
}

struct Machine::Call {
  explicit Call(Machine &of) : machine(of), in(of.in_), place(of.place_) {}

  Machine &machine;
  Input &in;
  Placer &place;
  Verdict verdict;
  std::string what;
  Extents shape{};
  int32_t data = BN2D_F32;
  bool plain = false, nhwc = false;  // tensors as plain pointers, contiguous; else as views

  int32_t layout() const { return nhwc ? BN2D_NHWC : BN2D_NCHW; }
  int64_t per_channel() const { return shape[0] * shape[2] * shape[3]; }
  bool empty() const { return bn2d_test::count_of(shape) == 0; }
  Extents row() const { return {1, shape[1], 1, 1}; }
  Operand tensor(const char *name, size_t room, bool written, bool optional, const Operand *like) {
    return plain ? place.plain(name, room, data, shape, nhwc, written, optional, like)
                 : place.tensor(name, room, data, shape, written, optional, like);
  }
};

// With the record of a forward.
struct Machine::RecordCall : Machine::Call {
  RecordCall(Machine &of, const RecordModel &record) : Call(of), r(record), n(record.numbers) {
    shape = r.shape, data = n.data;
  }

  const RecordModel &r;
  const Numbers &n;
  ModuleModel *m = nullptr;
  size_t index = 0;                               // of the module
  bool weight_wants = false, bias_wants = false;  // their gradients
  Values old_dweight, old_dbias, dweight, dbias;
  Operand dy;
  Values dys;  // empty where the call has to fail
  bn2d_module *module_handle = nullptr;
  const bn2d_record *record_handle = nullptr;

  void with_module(size_t module);
  void spoil_handles();  // after all else that is drawn
  // Whether what the record borrows is as the forward left it.
  bool fresh_x() const { return place.bits(r.x) == r.x_bits; }
  bool fresh_y() const { return !r.borrows_y || place.bits(r.y) == r.y_bits; }
  bool fresh_z() const { return !r.z.given || place.bits(r.z) == r.z_bits; }
  // That of an output with what the record borrows.
  void judge_overlap_with_record(const Operand &output, bool reads_x);
  std::vector<std::string> gradients() const;  // tensors that the call may write
  // What they are now, and were before the call.
  template <class Results>
  void take_gradients(Results &results) {
    dweight = m->values("weight.grad"), dbias = m->values("bias.grad");
    results.dweight = weight_wants ? &dweight : nullptr;
    results.dbias = bias_wants ? &dbias : nullptr;
    results.old_dweight = old_dweight, results.old_dbias = old_dbias;
  }
};

// The pointers of results to what the call has written.
inline const Values *given_values(const Operand &operand, const Values &values) {
  return operand.given ? &values : nullptr;
}

}  // namespace bn2d_fuzz
