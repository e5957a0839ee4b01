// Forward with a module, of statistics of its own or from outside.
#include "fuzz/call.h"

namespace bn2d_fuzz {

struct Machine::Forward : Machine::Call {
  Forward(Machine &of, bool with_statistics)
      : Call(of), outside(with_statistics), index(of.pick_module()), m(*of.modules_[index]) {}
  void run();

 private:
  const bool outside;  // with given statistics
  const size_t index;  // of the module
  ModuleModel &m;
  bool typed = false;  // by a function of one dtype
  bool fused = false, recording = false;
  int32_t activation = BN2D_ACT_NONE;
  double slope = 0;
  oracle::Activation act{};
  const StatisticsModel *given = nullptr;
  bn2d_statistics *source = nullptr;
  Operand x, y, z = not_given("z");
  int64_t batches = 1;             // ghost batches of this one
  TensorModel *counter = nullptr;  // num_batches_tracked
  int64_t count = 0;               // what it says before the call
  bn2d_module *handle = nullptr;
  Numbers n;

  bool flat() const { return plain && !typed; }
  bool pointwise() const { return activation > BN2D_ACT_LEAKY_RELU; }
  bool moves() const { return m.moves() && m.options.track; }
  bool only_checks() const { return outside && source == nullptr; }

  void draw_form();
  void draw_statistics();
  void draw_tensors();
  void expect_values();
  void expect_counter();
  void fill_numbers();
  const char *name() const;
  std::string text() const;
  int32_t call(bn2d_record **record) const;
  int32_t call_with_statistics(bn2d_record **record) const;
  int32_t call_typed(bn2d_record **record) const;
  void check_written() const;
  void judge(const RecordModel &record);
  std::string judge_running() const;
  RecordModel record_of(bn2d_record *made) const;
  void keep(RecordModel &&record);
};

void Machine::forward(bool outside) { Forward(*this, outside).run(); }

void Machine::Forward::run() {
  draw_form();
  if (outside) draw_statistics();
  draw_tensors();
  expect_values();
  expect_counter();
  fill_numbers();
  handle = machine.spoil(m.handle, verdict);
  what = text();
  machine.before(what);
  if (verdict.must.empty()) n.x = place.values(x), n.z = place.values(z);
  bn2d_record *made = nullptr;
  if (!machine.settle(what, call(recording ? &made : nullptr), verdict)) {
    if (made != nullptr) machine.found(what, "failed, but gave a record");
    return;
  }
  if (only_checks()) {
    if (made != nullptr) machine.found(what, "only checks, but gave a record");
    return machine.check_only(what, {}, -1, {});
  }
  if (recording != (made != nullptr)) machine.found(what, "no record, or one too many");
  if (outside) {
    n.count = given->count;
    n.statistics = machine.exported_statistics(*given, n.eps);
  }
  RecordModel record = record_of(made);
  check_written();
  if (per_channel() > 0) judge(record);
  machine.repeat(what, {&y}, [&] {
    bn2d_record *again = nullptr;
    const int32_t status = call(recording ? &again : nullptr);
    bn2d_record_release(again);
    return status;
  });
  if (recording) keep(std::move(record));
}

// By views, by the functions of one dtype, or by scalars and pointers.
void Machine::Forward::draw_form() {
  int64_t channels = m.channels;
  if (in.one_in(100)) {
    channels = m.channels == 1 ? 2 : m.channels - 1;
    verdict.must.add(BN2D_ERROR_SHAPE);
  }
  shape = machine.choose_shape(channels);
  data = machine.choose_data_dtype(m.options.dtype, verdict);
  plain = shape[1] == m.channels && in.one_in(3);
  typed = plain && (data == BN2D_F32 || data == BN2D_F64) && in.coin() && !outside;
  nhwc = flat() && in.coin();
  fused = !typed && in.coin();
  recording = machine.records_.size() < 4 && !in.one_in(3);
  if (fused) act = machine.choose_activation(data, activation, slope, verdict);
}

void Machine::Forward::draw_statistics() {
  const size_t picked = machine.pick_statistics(m.channels);
  if (!in.one_in(8)) given = &machine.statistics_[picked];
  source = machine.spoil_statistics(given == nullptr ? nullptr : given->handle, false, verdict);
  verdict.fails_if(m.norm != BN2D_NORM_BATCH || m.options.ghost != 0 || !m.batch(),
                   BN2D_ERROR_STATE);
  if (given == nullptr) return;
  verdict.fails_if(given->channels != m.channels, BN2D_ERROR_SHAPE);
  verdict.fails_if(given->count < 2, BN2D_ERROR_TOO_FEW_VALUES);
}

void Machine::Forward::draw_tensors() {
  x = tensor("x", 0, false, false, nullptr);
  if (fused) z = tensor("z", 1, false, true, &x);
  y = tensor("y", 2, true, false, z.given && in.coin() ? &z : &x);
  const bool hostile = in.one_in(3);
  place.fill(x, shape, hostile);
  place.fill(z, shape, hostile && in.coin());
  place.judge({&x, &z, &y}, verdict);
  // A record reads what it borrows once more.
  place.judge_overlap(y, x, !(recording && (m.batch() || pointwise())), verdict);
  place.judge_overlap(y, z, !(recording && pointwise()), verdict);
}

// Each set of statistics has to be of two values at least; the last ghost batch is the smallest.
void Machine::Forward::expect_values() {
  const int64_t ghost = m.batch() ? m.samples() : 0;
  const bool all = ghost == 0 || ghost >= shape[0];
  const int64_t rest = all ? 0 : shape[0] % ghost;
  const int64_t samples = rest != 0 ? rest : all ? shape[0] : ghost;
  batches = all ? 1 : (shape[0] + ghost - 1) / ghost;
  verdict.fails_if(
      m.batch() && !outside && m.norm != BN2D_NORM_GROUP && samples * shape[2] * shape[3] == 1,
      BN2D_ERROR_TOO_FEW_VALUES);
}

void Machine::Forward::expect_counter() {
  if (m.norm != BN2D_NORM_INSTANCE) counter = m.find("num_batches_tracked");
  if (counter == nullptr) return;
  std::memcpy(&count, counter->data, sizeof count);
  verdict.fails_if(moves() && (count < 0 || count > INT64_MAX - batches), BN2D_ERROR_STATE);
}

void Machine::Forward::fill_numbers() {
  const int64_t ghost = m.batch() ? m.samples() : 0;
  n.e = extents_of(shape);
  n.data = data;
  n.parameters = m.options.dtype;
  n.batch = m.batch();
  n.norm = m.norm;
  n.groups = m.groups;
  n.ghost = ghost >= shape[0] || m.norm != BN2D_NORM_BATCH ? 0 : ghost;
  n.cumulative = !m.options.has_momentum;
  n.counted = count;
  n.eps = m.options.eps;
  n.activation = act;
  n.weight = m.values("weight"), n.bias = m.values("bias");
  n.running_mean = m.values("running_mean"), n.running_var = m.values("running_var");
}

const char *Machine::Forward::name() const {
  if (outside) return flat() ? "forward_with_statistics_flat" : "forward_with_statistics";
  if (typed) return data == BN2D_F32 ? "forward_f32" : "forward_f64";
  return flat() ? "forward_flat" : fused ? "forward_act" : "forward";
}

std::string Machine::Forward::text() const {
  return name() + text_of(shape, data, m.options.dtype) + m.text() +
         (m.training ? " training" : " eval") + (m.frozen ? " frozen" : "") +
         (only_checks() ? " only checking" : "") + text_of({&x, &z, &y}) + " act " +
         std::to_string(activation) + " slope " + text_of(slope) + (recording ? " recording" : "");
}

int32_t Machine::Forward::call(bn2d_record **record) const {
  if (outside) return call_with_statistics(record);
  if (typed) return call_typed(record);
  if (flat())
    return bn2d_forward_flat(handle, data, layout(), x.data, z.data, shape[0], shape[2], shape[3],
                             activation, slope, y.data, record);
  if (fused)
    return bn2d_forward_act(handle, x.pointer(), z.pointer(), activation, slope, y.pointer(),
                            record);
  return bn2d_forward(handle, x.pointer(), y.pointer(), record);
}

int32_t Machine::Forward::call_with_statistics(bn2d_record **record) const {
  if (flat())
    return bn2d_forward_with_statistics_flat(handle, source, data, layout(), x.data, z.data,
                                             shape[0], shape[2], shape[3], activation, slope,
                                             y.data, record);
  return bn2d_forward_with_statistics(handle, source, x.pointer(), z.pointer(), activation, slope,
                                      y.pointer(), record);
}

int32_t Machine::Forward::call_typed(bn2d_record **record) const {
  if (data == BN2D_F32)
    return bn2d_forward_f32(handle, static_cast<float *>(x.data), shape[0], shape[2], shape[3],
                            static_cast<float *>(y.data), record);
  return bn2d_forward_f64(handle, static_cast<double *>(x.data), shape[0], shape[2], shape[3],
                          static_cast<double *>(y.data), record);
}

RecordModel Machine::Forward::record_of(bn2d_record *made) const {
  RecordModel record;
  record.handle = made;
  record.references = recording ? 1 : 0;
  record.module = index;
  record.shape = shape;
  record.in_place = x.exactly(y);
  const bool has_sides = activation != BN2D_ACT_NONE && !pointwise();
  record.pointwise = pointwise();
  record.side_of_x = has_sides && m.batch() && !z.given;
  record.borrows_y =
      has_sides && !record.side_of_x && !(activation == BN2D_ACT_LEAKY_RELU && slope < 0);
  return record;
}

void Machine::Forward::check_written() const {
  std::vector<std::string> moved;
  if (moves() && (per_channel() > 0 || outside)) moved = {"running_mean", "running_var"};
  if (moves() && counter != nullptr) {
    moved.push_back("num_batches_tracked");
    int64_t now = 0;
    std::memcpy(&now, counter->data, sizeof now);
    if (now != count + batches) machine.found(what, "the counter is " + std::to_string(now));
  }
  machine.check_only(what, {&y}, static_cast<int>(index), moved);
}

void Machine::Forward::judge(const RecordModel &record) {
  n.compute();
  std::string problem = n.judge_y(place.values(y));
  if (problem.empty() && moves()) problem = judge_running();
  if (!problem.empty()) {
    bn2d_record_release(record.handle);
    machine.found(what, problem);
  }
  if (std::count(n.judged.begin(), n.judged.end(), true) == 0) return;
  reach(facet("forward", n));
  reach_blocks("forward", {&x, &z, &y});
  reach("forward act " + std::to_string(activation));
  if (moves()) reach(facet("running", n));
  if (m.frozen) reach("frozen");
}

std::string Machine::Forward::judge_running() const {
  const Values mean = m.values("running_mean"), var = m.values("running_var");
  const double factor = m.options.has_momentum ? m.options.momentum
                        : counter != nullptr   ? 1.0 / static_cast<double>(count + 1)
                                               : 0.0;
  return n.judge_running(&mean, &var, factor, m.options.biased, m.options.protect);
}

void Machine::Forward::keep(RecordModel &&record) {
  record.numbers = std::move(n);
  record.x = x, record.y = y, record.z = z;
  record.z.given = z.given && pointwise();
  record.x_bits = place.bits(x), record.y_bits = place.bits(y), record.z_bits = place.bits(z);
  machine.records_.push_back(std::move(record));
}

}  // namespace bn2d_fuzz
