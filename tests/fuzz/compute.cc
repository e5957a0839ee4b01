// Forward, backward and double backward, with a module and without one.
#include <cmath>
#include <cstdio>
#include <limits>

#include "fuzz/repeat.h"

namespace bn2d_fuzz {
namespace {

const double nan = std::numeric_limits<double>::quiet_NaN(),
             infinity = std::numeric_limits<double>::infinity();

oracle::Extents extents_of(const Extents &shape) {
  return {shape[0], shape[1], shape[2], shape[3]};
}

// What a finding is about, for the count of what was reached.
std::string facet(const std::string &operation, const Numbers &n) {
  const char *const norm = n.norm == BN2D_NORM_GROUP      ? "group"
                           : n.norm == BN2D_NORM_INSTANCE ? "instance"
                           : n.ghost != 0                 ? "ghost"
                           : n.count != 0                 ? "given"
                                                          : "batch";
  return operation + " " + (n.batch ? norm : "frozen");
}

bool mixes(int32_t data, int32_t parameters) {
  return data == parameters || (parameters == BN2D_F32 && (data == BN2D_F16 || data == BN2D_BF16));
}

std::string text_of(const Extents &shape, int32_t data, int32_t parameters) {
  std::string text = " " + numerics::name_of(data, parameters) + " (";
  for (size_t i = 0; i < 4; ++i) text += (i > 0 ? "," : "") + std::to_string(shape[i]);
  return text + ")";
}

std::string text_of(double number) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", number);
  return text;
}

std::string text_of(const std::vector<const Operand *> &operands) {
  std::string text;
  for (const Operand *operand : operands) text += operand->text();
  return text;
}

}  // namespace

Extents Machine::choose_shape(int64_t channels) {
  Extents shape{1, channels, 1, 1};
  switch (large_ ? 8 : in_.below(8)) {
    case 6:
      shape[3] = 1 + in_.below(80);
      break;
    case 7:
      shape[0] = 1 + in_.below(40);
      break;
    case 8:
      shape[0] = 1 + in_.below(in_.coin() ? 3 : 64);
      shape[2] = 1 + in_.below(128);
      shape[3] = 1 + in_.below(256);
      break;
    default:
      shape[0] = 1 + in_.below(4);
      shape[2] = 1 + in_.below(5);
      shape[3] = 1 + in_.below(9);
      break;
  }
  if (in_.one_in(32)) shape[in_.pick<size_t>({0, 2, 3})] = 0;
  if (in_.one_in(48)) shape = {1, channels, 1, 1};
  while (bn2d_test::count_of(shape) * 8 > static_cast<int64_t>(memory_.bank_bytes())) {
    int64_t &longest = std::max(std::max(shape[0], shape[2]), shape[3]) == shape[0] ? shape[0]
                       : shape[2] > shape[3]                                        ? shape[2]
                                                                                    : shape[3];
    longest = longest / 2;
  }
  return shape;
}

int32_t Machine::choose_data_dtype(int32_t parameters, Verdict &verdict) {
  int32_t data = parameters;
  if (parameters == BN2D_F32 && in_.one_in(3)) data = in_.pick<int32_t>({BN2D_F16, BN2D_BF16});
  if (in_.one_in(60)) data = static_cast<int32_t>(1 + in_.below(4));
  if (!mixes(data, parameters)) verdict.must.add(BN2D_ERROR_DTYPE);
  return data;
}

oracle::Activation Machine::choose_activation(int32_t data, int32_t &number, double &slope,
                                              Verdict &verdict) {
  number = static_cast<int32_t>(in_.below_or_later(3, 171, 6));
  slope = in_.pick({0.25, 0.01, -0.5, 0.0, 1.5, 1.0, -0.0, 1e-40});
  if (number == BN2D_ACT_CLAMP) slope = slope > 0 ? slope : 6;
  if (in_.one_in(40)) slope = in_.pick({nan, infinity, -infinity, 1e39, -1e300});
  if (in_.one_in(80)) number = in_.pick<int32_t>({9, -1, 99, INT32_MAX, INT32_MIN});
  if (number < 0 || number > BN2D_ACT_SIGMOID) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  if (number == BN2D_ACT_LEAKY_RELU) {
    if (!std::isfinite(slope)) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    // Infinite in the arithmetic of the data.
    if (std::isfinite(slope) && std::fabs(slope) > std::numeric_limits<float>::max())
      (data == BN2D_F64 ? verdict.may : verdict.must).add(BN2D_ERROR_INVALID_ARGUMENT);
  }
  const double most =
      data == BN2D_F64 ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
  if (number == BN2D_ACT_CLAMP && !(slope > 0 && slope <= most))
    verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  if (!verdict.must.empty()) return {};
  return {static_cast<oracle::Activation::Kind>(number), slope};
}

int Machine::pick_record() {
  if (records_.empty()) return -1;
  return static_cast<int>(in_.below(static_cast<int64_t>(records_.size())));
}

void Machine::release_record(RecordModel &record) {
  for (; record.references > 0; --record.references) bn2d_record_release(record.handle);
}

// -------------------------------------------------------------------------------------------------
// with a module

void Machine::forward(bool outside) {
  const size_t index = pick_module();
  ModuleModel &m = *modules_[index];
  Verdict verdict;
  int64_t channels = m.channels;
  if (in_.one_in(100)) {
    channels = m.channels == 1 ? 2 : m.channels - 1;
    verdict.must.add(BN2D_ERROR_SHAPE);
  }
  const Extents shape = choose_shape(channels);
  const int32_t data = choose_data_dtype(m.options.dtype, verdict);
  // By views, by the functions of one dtype, or by scalars and pointers.
  const bool plain = shape[1] == m.channels && in_.one_in(3);
  const bool typed = plain && (data == BN2D_F32 || data == BN2D_F64) && in_.coin() && !outside,
             flat = plain && !typed;
  const bool nhwc = flat && in_.coin();
  const bool fused = !typed && in_.coin(), recording = records_.size() < 4 && !in_.one_in(3);
  const bool batch = m.batch();
  const int64_t per_channel = shape[0] * shape[2] * shape[3];
  int32_t activation = BN2D_ACT_NONE;
  double slope = 0;
  oracle::Activation act{};
  if (fused) act = choose_activation(data, activation, slope, verdict);
  const bool pointwise = activation > BN2D_ACT_LEAKY_RELU;
  const StatisticsModel *given = nullptr;
  bn2d_statistics *source = nullptr;
  if (outside) {
    const size_t picked = pick_statistics(m.channels);
    if (!in_.one_in(8)) given = &statistics_[picked];
    source = spoil_statistics(given == nullptr ? nullptr : given->handle, false, verdict);
    if (m.norm != BN2D_NORM_BATCH || m.options.ghost != 0 || !batch)
      verdict.must.add(BN2D_ERROR_STATE);
    if (given != nullptr && given->channels != m.channels) verdict.must.add(BN2D_ERROR_SHAPE);
    if (given != nullptr && given->count < 2) verdict.must.add(BN2D_ERROR_TOO_FEW_VALUES);
  }

  const auto tensor = [&](const char *name, size_t room, bool written, bool optional,
                          const Operand *like) {
    return plain ? place_.plain(name, room, data, shape, nhwc, written, optional, like)
                 : place_.tensor(name, room, data, shape, written, optional, like);
  };
  Operand z;
  z.name = "z", z.given = false;
  const Operand x = tensor("x", 0, false, false, nullptr);
  if (fused) z = tensor("z", 1, false, true, &x);
  const Operand y = tensor("y", 2, true, false, z.given && in_.coin() ? &z : &x);
  const bool hostile = in_.one_in(3);
  place_.fill(x, shape, hostile);
  place_.fill(z, shape, hostile && in_.coin());
  place_.judge({&x, &z, &y}, verdict);
  place_.judge_overlap(y, x, !(recording && (batch || pointwise)), verdict);
  place_.judge_overlap(y, z, !(recording && pointwise), verdict);
  const int64_t samples = batch ? m.samples() : 0;
  const bool all = samples == 0 || samples >= shape[0];
  const int64_t rest = all ? 0 : shape[0] % samples, values = (rest != 0 ? rest
                                                               : all     ? shape[0]
                                                                         : samples) *
                                                              shape[2] * shape[3];
  if (batch && !outside && m.norm != BN2D_NORM_GROUP && values == 1)
    verdict.must.add(BN2D_ERROR_TOO_FEW_VALUES);
  const int64_t batches = all ? 1 : (shape[0] + samples - 1) / samples;
  int64_t count = 0;
  TensorModel *counter = m.norm == BN2D_NORM_INSTANCE ? nullptr : m.find("num_batches_tracked");
  const bool moves = m.moves() && m.options.track;
  if (counter != nullptr) std::memcpy(&count, counter->data, sizeof count);
  if (moves && counter != nullptr && (count < 0 || count > INT64_MAX - batches))
    verdict.must.add(BN2D_ERROR_STATE);

  Numbers n;
  n.e = extents_of(shape);
  n.data = data;
  n.parameters = m.options.dtype;
  n.batch = batch;
  n.norm = m.norm;
  n.groups = m.groups;
  n.ghost = samples >= shape[0] || m.norm != BN2D_NORM_BATCH ? 0 : samples;
  n.cumulative = !m.options.has_momentum;
  n.counted = count;
  n.eps = m.options.eps;
  n.activation = act;
  n.weight = m.values("weight"), n.bias = m.values("bias");
  n.running_mean = m.values("running_mean"), n.running_var = m.values("running_var");

  bn2d_module *handle = spoil(m.handle, verdict);
  const std::string what =
      std::string(outside ? flat ? "forward_with_statistics_flat" : "forward_with_statistics"
                  : flat  ? "forward_flat"
                  : typed ? data == BN2D_F32 ? "forward_f32" : "forward_f64"
                  : fused ? "forward_act"
                          : "forward") +
      text_of(shape, data, m.options.dtype) + m.text() + (m.training ? " training" : " eval") +
      (m.frozen ? " frozen" : "") + (outside && source == nullptr ? " only checking" : "") +
      text_of({&x, &z, &y}) + " act " + std::to_string(activation) + " slope " + text_of(slope) +
      (recording ? " recording" : "");
  bn2d_record *made = nullptr;
  const auto call = [&](bn2d_record **record) {
    if (outside && flat)
      return bn2d_forward_with_statistics_flat(handle, source, data, nhwc ? BN2D_NHWC : BN2D_NCHW,
                                               x.data, z.data, shape[0], shape[2], shape[3],
                                               activation, slope, y.data, record);
    if (outside)
      return bn2d_forward_with_statistics(handle, source, x.pointer(), z.pointer(), activation,
                                          slope, y.pointer(), record);
    if (flat)
      return bn2d_forward_flat(handle, data, nhwc ? BN2D_NHWC : BN2D_NCHW, x.data, z.data, shape[0],
                               shape[2], shape[3], activation, slope, y.data, record);
    if (typed && data == BN2D_F32)
      return bn2d_forward_f32(handle, static_cast<float *>(x.data), shape[0], shape[2], shape[3],
                              static_cast<float *>(y.data), record);
    if (typed)
      return bn2d_forward_f64(handle, static_cast<double *>(x.data), shape[0], shape[2], shape[3],
                              static_cast<double *>(y.data), record);
    if (fused)
      return bn2d_forward_act(handle, x.pointer(), z.pointer(), activation, slope, y.pointer(),
                              record);
    return bn2d_forward(handle, x.pointer(), y.pointer(), record);
  };
  before(what);
  if (verdict.must.empty()) n.x = place_.values(x), n.z = place_.values(z);
  if (!settle(what, call(recording ? &made : nullptr), verdict)) {
    if (made != nullptr) found(what, "failed, but gave a record");
    return;
  }
  if (outside && source == nullptr) {  // the call only checks
    if (made != nullptr) found(what, "only checks, but gave a record");
    return check_only(what, {}, -1, {});
  }
  if (recording != (made != nullptr)) found(what, "no record, or one too many");
  if (outside) {
    n.count = given->count;
    n.statistics = exported_statistics(*given, n.eps);
  }
  RecordModel record;
  record.handle = made;
  record.references = recording ? 1 : 0;
  record.module = index;
  record.shape = shape;
  record.in_place = x.exactly(y);
  const bool has_sides = activation != BN2D_ACT_NONE && !pointwise;
  record.pointwise = pointwise;
  record.side_of_x = has_sides && batch && !z.given;
  record.borrows_y =
      has_sides && !record.side_of_x && !(activation == BN2D_ACT_LEAKY_RELU && slope < 0);

  std::vector<std::string> moved;
  if (moves && (per_channel > 0 || outside)) moved = {"running_mean", "running_var"};
  if (moves && counter != nullptr) {
    moved.push_back("num_batches_tracked");
    int64_t now = 0;
    std::memcpy(&now, counter->data, sizeof now);
    if (now != count + batches) found(what, "the counter is " + std::to_string(now));
  }
  check_only(what, {&y}, static_cast<int>(index), moved);
  if (per_channel > 0) {
    n.compute();
    std::string problem = n.judge_y(place_.values(y));
    if (problem.empty() && moves) {
      const Values mean = m.values("running_mean"), var = m.values("running_var");
      const double factor = m.options.has_momentum ? m.options.momentum
                            : counter != nullptr   ? 1.0 / static_cast<double>(count + 1)
                                                   : 0.0;
      problem = n.judge_running(&mean, &var, factor, m.options.biased, m.options.protect);
    }
    if (!problem.empty()) {
      release_record(record);
      found(what, problem);
    }
    if (std::count(n.judged.begin(), n.judged.end(), true) > 0) {
      reach(facet("forward", n));
      reach_blocks("forward", {&x, &z, &y});
      reach("forward act " + std::to_string(activation));
      if (moves) reach(facet("running", n));
      if (m.frozen) reach("frozen");
    }
  }
  bn2d_record *again = nullptr;
  repeat(what, {&y}, [&] {
    const int32_t status = call(recording ? &again : nullptr);
    bn2d_record_release(again);
    return status;
  });
  if (!recording) return;
  record.numbers = std::move(n);
  record.x = x, record.y = y, record.z = z;
  record.z.given = z.given && pointwise;
  record.x_bits = place_.bits(x), record.y_bits = place_.bits(y), record.z_bits = place_.bits(z);
  records_.push_back(std::move(record));
}

void Machine::backward() {
  const int picked = pick_record();
  if (picked < 0) return forward();
  const RecordModel &r = records_[static_cast<size_t>(picked)];
  Verdict verdict;
  size_t index = r.module;
  if (in_.one_in(32)) index = pick_module();
  if (!modules_[index]->alive()) index = pick_module();
  ModuleModel &m = *modules_[index];
  if (index != r.module) {  // another module, of another shape or dtype, too
    verdict.must.add(BN2D_ERROR_STATE);
    verdict.must.add(BN2D_ERROR_SHAPE);
    verdict.must.add(BN2D_ERROR_DTYPE);
  }
  const Numbers &n = r.numbers;
  Extents shape = r.shape;
  int32_t data = n.data;
  const bool plain = in_.one_in(3),
             typed = plain && (data == BN2D_F32 || data == BN2D_F64) && in_.coin();
  const bool flat = plain && !typed, nhwc = flat && in_.coin();
  if (!plain && in_.one_in(60)) {
    shape[3] += 1;
    verdict.must.add(BN2D_ERROR_SHAPE);
    if (bn2d_test::count_of(shape) * 8 > static_cast<int64_t>(memory_.bank_bytes())) return;
  }
  TensorModel *weight = m.find("weight"), *bias = m.find("bias");
  const bool weight_wants = weight != nullptr && weight->requires_grad;
  const bool bias_wants = bias != nullptr && bias->requires_grad;

  const auto tensor = [&](const char *name, size_t room, bool written, bool optional,
                          const Operand *like) {
    return plain ? place_.plain(name, room, data, shape, nhwc, written, optional, like)
                 : place_.tensor(name, room, data, shape, written, optional, like);
  };
  const Operand dy = tensor("dy", 3, false, false, nullptr);
  const Operand dx = tensor("dx", 4, true, true, &dy);
  Operand dz;
  dz.name = "dz", dz.given = false;
  if (!typed) dz = tensor("dz", 5, true, true, &dy);
  const auto fresh = [&](const Operand &borrowed, const std::vector<uint64_t> &bits) {
    return place_.bits(borrowed) == bits;
  };
  const bool hostile = in_.one_in(4);
  place_.fill(dy, shape, hostile);
  place_.judge({&dy, &dx, &dz}, verdict);
  const bool reads_x = weight_wants || (n.batch && dx.given) || r.side_of_x || r.pointwise;
  for (const Operand *output : std::initializer_list<const Operand *>{&dx, &dz}) {
    place_.judge_overlap(*output, dy, true, verdict);
    if (reads_x) place_.judge_overlap(*output, r.x, false, verdict);
    if (r.borrows_y) place_.judge_overlap(*output, r.y, false, verdict);
    place_.judge_overlap(*output, r.z, false, verdict);
  }
  if (r.in_place && weight_wants) verdict.must.add(BN2D_ERROR_STATE);
  const bool known = (!reads_x || r.in_place || fresh(r.x, r.x_bits)) &&
                     (!r.borrows_y || fresh(r.y, r.y_bits)) && (!r.z.given || fresh(r.z, r.z_bits));

  bn2d_module *handle = spoil(m.handle, verdict);
  const bn2d_record *record = spoil(r.handle, verdict);
  const Values old_dweight = m.values("weight.grad"), old_dbias = m.values("bias.grad");
  const std::string what = std::string(flat    ? "backward_flat"
                                       : typed ? data == BN2D_F32 ? "backward_f32" : "backward_f64"
                                               : "backward") +
                           text_of(shape, data, m.options.dtype) + text_of({&dy, &dx, &dz}) +
                           (weight_wants ? " dweight" : "") + (bias_wants ? " dbias" : "") +
                           m.text() + (n.batch ? " batch" : " frozen") +
                           (n.count != 0 ? " given" : "") + " act " +
                           std::to_string(n.activation.kind);
  const auto call = [&] {
    if (flat)
      return bn2d_backward_flat(handle, record, data, nhwc ? BN2D_NHWC : BN2D_NCHW, dy.data,
                                dx.data, dz.data);
    if (typed && data == BN2D_F32)
      return bn2d_backward_f32(handle, record, static_cast<float *>(dy.data),
                               static_cast<float *>(dx.data));
    if (typed)
      return bn2d_backward_f64(handle, record, static_cast<double *>(dy.data),
                               static_cast<double *>(dx.data));
    return bn2d_backward(handle, record, dy.pointer(), dx.pointer(), dz.pointer());
  };
  before(what);
  Values dys;
  if (verdict.must.empty()) dys = place_.values(dy);
  if (!settle(what, call(), verdict)) return;
  std::vector<std::string> moved;
  if (weight_wants) moved.push_back("weight.grad");
  if (bias_wants) moved.push_back("bias.grad");
  check_only(what, {&dx, &dz}, static_cast<int>(index), moved);
  if (known && !dys.empty()) {
    const Values got_dx = place_.values(dx), got_dz = place_.values(dz);
    const Values dweight = m.values("weight.grad"), dbias = m.values("bias.grad");
    BackwardResults results;
    results.dx = dx.given ? &got_dx : nullptr;
    results.dz = dz.given ? &got_dz : nullptr;
    results.dweight = weight_wants ? &dweight : nullptr;
    results.dbias = bias_wants ? &dbias : nullptr;
    results.old_dweight = old_dweight, results.old_dbias = old_dbias;
    const std::string problem = judge_backward(n, dys, results);
    if (!problem.empty()) found(what, problem);
    reach(facet("backward", n));
    reach_blocks("backward", {&dy, &dx, &dz});
    reach("backward act " + std::to_string(n.activation.kind));
  }
  repeat(what, {&dx, &dz}, call);
}

void Machine::double_backward() {
  const int picked = pick_record();
  if (picked < 0) return forward();
  const RecordModel &r = records_[static_cast<size_t>(picked)];
  if (!modules_[r.module]->alive()) return;
  ModuleModel &m = *modules_[r.module];
  const Numbers &n = r.numbers;
  const Extents &shape = r.shape;
  Verdict verdict;
  const bool flat = in_.one_in(3), nhwc = flat && in_.coin();
  const auto tensor = [&](const char *name, size_t room, bool written, bool optional,
                          const Operand *like) {
    return flat ? place_.plain(name, room, n.data, shape, nhwc, written, optional, like)
                : place_.tensor(name, room, n.data, shape, written, optional, like);
  };
  const Operand dy = tensor("dy", 3, false, false, nullptr);
  const Operand ddx = tensor("ddx", 4, false, true, &dy);
  const Operand ddy = tensor("ddy", 5, true, true, in_.coin() ? &dy : &ddx);
  const Operand dx = tensor("dx", 6, true, true, &ddx);
  const bool act = !flat && in_.coin();
  Operand ddz, dz;
  ddz.name = "ddz", dz.name = "dz", ddz.given = dz.given = false;
  if (act) {
    ddz = tensor("ddz", 1, false, true, &ddx);
    dz = tensor("dz", 7, true, true, &dx);
  }
  const Operand ddweight =
      place_.array("ddweight", 7, m.options.dtype, m.channels, false, in_.coin(), &ddy);
  const Operand ddbias =
      place_.array("ddbias", 1, m.options.dtype, m.channels, false, in_.coin(), &dx);
  const bool hostile = in_.one_in(4);
  place_.fill(dy, shape, hostile);
  place_.fill(ddx, shape, hostile && in_.coin());
  place_.fill(ddz, shape, hostile && in_.coin());
  place_.fill(ddweight, {1, m.channels, 1, 1}, hostile && in_.coin());
  place_.fill(ddbias, {1, m.channels, 1, 1}, hostile && in_.coin());
  const std::vector<const Operand *> all = {&dy, &ddx, &ddz, &ddy, &dx, &dz, &ddweight, &ddbias};
  place_.judge(all, verdict);
  place_.judge_arrays(all, bn2d_test::count_of(shape) == 0, verdict);
  for (const Operand *output : std::initializer_list<const Operand *>{&ddy, &dx, &dz}) {
    place_.judge_overlap(*output, dy, output == &ddy, verdict);
    place_.judge_overlap(*output, ddx, false, verdict);
    place_.judge_overlap(*output, ddz, false, verdict);
    place_.judge_overlap(*output, r.x, false, verdict);
    place_.judge_overlap(*output, r.z, false, verdict);
    if (r.borrows_y) place_.judge_overlap(*output, r.y, false, verdict);
  }
  if (r.in_place || n.count != 0) verdict.must.add(BN2D_ERROR_STATE);
  const bool known = place_.bits(r.x) == r.x_bits &&
                     (!r.borrows_y || place_.bits(r.y) == r.y_bits) &&
                     (!r.z.given || place_.bits(r.z) == r.z_bits) && !r.in_place;
  TensorModel *weight = m.find("weight"), *bias = m.find("bias");
  const bool weight_wants = weight != nullptr && weight->requires_grad,
             bias_wants = bias != nullptr && bias->requires_grad && n.activation.curved();
  const Values old_dweight = m.values("weight.grad"), old_dbias = m.values("bias.grad");
  bn2d_module *handle = spoil(m.handle, verdict);
  const bn2d_record *record = spoil(r.handle, verdict);
  const std::string what = std::string("double_backward") +
                           (flat  ? "_flat"
                            : act ? "_act"
                                  : "") +
                           text_of(shape, n.data, m.options.dtype) + text_of(all) + m.text() +
                           (n.batch ? " batch" : " frozen") + " act " +
                           std::to_string(n.activation.kind);
  const auto call = [&] {
    if (flat)
      return bn2d_double_backward_flat(handle, record, n.data, nhwc ? BN2D_NHWC : BN2D_NCHW,
                                       dy.data, ddx.data, ddweight.as<void>(), ddbias.as<void>(),
                                       ddy.data, dx.data);
    if (act)
      return bn2d_double_backward_act(handle, record, dy.pointer(), ddx.pointer(), ddz.pointer(),
                                      ddweight.as<void>(), ddbias.as<void>(), ddy.pointer(),
                                      dx.pointer(), dz.pointer());
    return bn2d_double_backward(handle, record, dy.pointer(), ddx.pointer(), ddweight.as<void>(),
                                ddbias.as<void>(), ddy.pointer(), dx.pointer());
  };
  before(what);
  DoubleBackwardResults results;
  Values dys;
  if (verdict.must.empty()) {
    dys = place_.values(dy);
    results.ddx = place_.values(ddx), results.ddz = place_.values(ddz);
    results.ddweight = place_.values(ddweight), results.ddbias = place_.values(ddbias);
  }
  if (!settle(what, call(), verdict)) return;
  std::vector<std::string> moved;
  if (weight_wants) moved.push_back("weight.grad");
  if (bias_wants) moved.push_back("bias.grad");
  check_only(what, {&ddy, &dx, &dz}, static_cast<int>(r.module), moved);
  if (known && !dys.empty()) {
    const Values got_ddy = place_.values(ddy), got_dx = place_.values(dx),
                 got_dz = place_.values(dz), dweight = m.values("weight.grad"),
                 dbias = m.values("bias.grad");
    results.ddy = ddy.given ? &got_ddy : nullptr;
    results.dx = dx.given ? &got_dx : nullptr;
    results.dz = dz.given ? &got_dz : nullptr;
    results.dweight = weight_wants ? &dweight : nullptr;
    results.dbias = bias_wants ? &dbias : nullptr;
    results.old_dweight = old_dweight, results.old_dbias = old_dbias;
    const std::string problem = judge_double_backward(n, dys, results);
    if (!problem.empty()) found(what, problem);
    reach(facet("double_backward", n));
    reach_blocks("double_backward", {&dy, &ddx, &ddy, &dx});
    reach("double_backward act " + std::to_string(n.activation.kind));
  }
  repeat(what, {&ddy, &dx, &dz}, call);
}

// -------------------------------------------------------------------------------------------------
// without a module

struct Machine::Stateless {
  Extents shape{};
  int32_t data = BN2D_F32, parameters = BN2D_F32;
  int64_t groups = 0;  // of a group norm; 0: batch norm
  bool flat = false;   // without views, contiguous in `layout`
  int32_t layout = BN2D_NCHW;
  int32_t activation = BN2D_ACT_NONE;
  double slope = 0;
  Operand x, z, y, weight, bias, mask, saved_mean, saved_invstd;
  Numbers numbers;
  std::vector<uint64_t> x_bits, y_bits, weight_bits, mean_bits, invstd_bits, mask_bits, z_bits,
      bias_bits;
};

void Machine::stateless(bool in_groups) {
  Verdict verdict;
  Stateless s;
  int64_t channels = in_.one_in(8) ? in_.pick<int64_t>({16, 17, 33, 40}) : 1 + in_.below(9);
  if (in_groups) {
    s.groups = 1 + in_.below(4);
    channels = s.groups * (1 + in_.below(in_.one_in(4) ? 9 : 4));
  }
  s.shape = choose_shape(channels);
  if (in_.one_in(64)) s.shape[1] = 0;
  const Extents row{1, s.shape[1], 1, 1};
  s.parameters = in_.pick<int32_t>({BN2D_F32, BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16});
  s.data = choose_data_dtype(s.parameters, verdict);
  oracle::Activation act = choose_activation(s.data, s.activation, s.slope, verdict);
  const int64_t per_channel = s.shape[0] * s.shape[2] * s.shape[3];
  const bool batch = !in_.one_in(3) || in_groups;
  int64_t groups = s.groups;
  if (in_groups && in_.one_in(40)) {
    groups = in_.pick<int64_t>({0, -1, INT64_MIN, INT64_MAX, 41});
    if (groups < 1) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    if (groups >= 1 && s.shape[1] % groups != 0) verdict.must.add(BN2D_ERROR_SHAPE);
  }
  int32_t batch_stats = batch ? 1 : 0, flags = static_cast<int32_t>(in_.below(4)),
          dtype = s.parameters;
  double factor = in_.pick({0.1, 0.0, 0.25, 1.0, 1e-300}),
         eps = in_.pick({1e-5, 1e-3, 0.0, 1.0, 5e-324, 1e30});
  if (in_.one_in(40)) {
    switch (in_.below(5)) {
      case 0:
        dtype = in_.pick<int32_t>({0, BN2D_I64, 6, -1});
        verdict.must.add(BN2D_ERROR_DTYPE);
        break;
      case 1:
        batch_stats = in_.pick({2, -1});
        if (!in_groups) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
        break;
      case 2:
        factor = in_.pick({-0.1, 1.5, nan, infinity});
        if (!in_groups) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
        break;
      case 3:
        eps = in_.pick({-1e-5, nan, infinity});
        verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
        break;
      default:
        flags = in_.pick<int32_t>({4, -1, 8, INT32_MIN});
        if (!in_groups) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
        break;
    }
  }
  s.flat = in_groups ? in_.below_or_later(3, 171, 1) == 3 : in_.one_in(3);
  s.layout = s.flat && in_.coin() ? BN2D_NHWC : BN2D_NCHW;
  const auto tensor = [&](const char *name, size_t room, bool written, bool optional,
                          const Operand *like) {
    return s.flat ? place_.plain(name, room, s.data, s.shape, s.layout == BN2D_NHWC, written,
                                 optional, like)
                  : place_.tensor(name, room, s.data, s.shape, written, optional, like);
  };
  s.x = tensor("x", 0, false, false, nullptr);
  s.z = tensor("z", 1, false, true, &s.x);
  s.y = tensor("y", 2, true, false, in_.coin() ? &s.x : &s.z);
  const bool moves = batch && per_channel > 0 && !in_groups;
  const auto array = [&](const char *name, size_t room, int32_t of, bool written, bool given) {
    return place_.array(name, room, of, s.shape[1], written, given, in_.coin() ? &s.y : &s.x);
  };
  s.weight = array("weight", 3, s.parameters, false, !in_.one_in(3));
  s.bias = array("bias", 4, s.parameters, false, !in_.one_in(3));
  const bool optional = batch || in_.one_in(32);
  const Operand running_mean =
      array("running_mean", 5, s.parameters, batch, !(optional && in_.one_in(4)) && !in_groups);
  const Operand running_var =
      array("running_var", 6, s.parameters, batch, !(optional && in_.one_in(4)) && !in_groups);
  const auto saved = [&](const char *name, size_t room) {
    const int64_t sets = in_groups && s.shape[1] > 0 ? s.shape[0] * s.groups : s.shape[1];
    const bool given = !in_.one_in(6);
    return place_.array(name, room, BN2D_F64, sets, true, given, in_.coin() ? &s.y : &s.x);
  };
  s.saved_mean = saved("saved_mean", 7);
  s.saved_invstd = saved("saved_invstd", 3);
  uint64_t mask_bytes = 0;
  (void)bn2d_mask_nbytes(s.shape[0], s.shape[1], s.shape[2], s.shape[3], &mask_bytes);
  const bool masked = s.activation == BN2D_ACT_NONE ? in_.one_in(80) : in_.coin();
  s.mask = place_.array("mask", 4, 0, static_cast<int64_t>(mask_bytes), true, masked, &s.y);
  if (masked && (s.activation == BN2D_ACT_NONE || s.activation > BN2D_ACT_LEAKY_RELU))
    verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  if (!batch && (!running_mean.given || !running_var.given))
    verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);

  const bool hostile = in_.one_in(3);
  place_.fill(s.x, s.shape, hostile);
  place_.fill(s.z, s.shape, hostile && in_.coin());
  for (const Operand *one :
       std::initializer_list<const Operand *>{&s.weight, &s.bias, &running_mean, &running_var})
    place_.fill(*one, row, hostile && in_.one_in(3));
  if (running_var.whole() && !(hostile && in_.one_in(8))) {  // positive
    for (const uint32_t offset : running_var.footprint.offsets) {
      unsigned char *at = memory_.at(offset);
      const double value =
          std::fabs(numerics::decode(s.parameters, numerics::read_bits(s.parameters, at)));
      numerics::write_element(s.parameters, at, value);
    }
  }
  const std::vector<const Operand *> all = {
      &s.x,          &s.z,         &s.y,          &s.weight,       &s.bias,
      &running_mean, &running_var, &s.saved_mean, &s.saved_invstd, &s.mask};
  place_.judge(all, verdict);
  place_.judge_arrays(all, per_channel == 0, verdict);
  place_.judge_overlap(s.y, s.x, true, verdict);
  place_.judge_overlap(s.y, s.z, true, verdict);
  if (batch && per_channel == 1 && s.shape[1] > 0 && !in_groups)
    verdict.must.add(BN2D_ERROR_TOO_FEW_VALUES);

  Numbers &n = s.numbers;
  n.e = extents_of(s.shape);
  n.data = s.data;
  n.parameters = s.parameters;
  n.batch = batch;
  if (in_groups) n.norm = BN2D_NORM_GROUP, n.groups = s.groups;
  n.eps = eps;
  n.activation = act;
  const std::string what = std::string(in_groups ? "group_norm_forward" : "batch_norm_forward") +
                           (s.flat ? "_flat" : "") + text_of(s.shape, s.data, s.parameters) +
                           (in_groups ? " groups " + std::to_string(groups) : "") +
                           (batch ? " batch" : " frozen") + text_of(all) + " act " +
                           std::to_string(s.activation) + " slope " + text_of(s.slope) + " flags " +
                           std::to_string(flags) + " eps " + text_of(eps);
  before(what);
  if (verdict.must.empty()) {
    n.x = place_.values(s.x), n.z = place_.values(s.z);
    n.weight = place_.values(s.weight), n.bias = place_.values(s.bias);
    n.running_mean = place_.values(running_mean), n.running_var = place_.values(running_var);
  }
  const auto call = [&] {
    const Extents &e = s.shape;
    if (in_groups && s.flat)
      return bn2d_group_norm_forward_flat(
          s.data, s.layout, e[0], e[1], e[2], e[3], s.x.data, s.z.data, s.y.data, groups, dtype,
          e[1], s.weight.as<void>(), s.bias.as<void>(), eps, s.activation, s.slope,
          s.mask.as<uint8_t>(), s.saved_mean.as<double>(), s.saved_invstd.as<double>());
    if (in_groups)
      return bn2d_group_norm_forward(s.x.pointer(), s.z.pointer(), s.y.pointer(), groups, dtype,
                                     s.weight.as<void>(), s.bias.as<void>(), eps, s.activation,
                                     s.slope, s.mask.as<uint8_t>(), s.saved_mean.as<double>(),
                                     s.saved_invstd.as<double>());
    if (s.flat)
      return bn2d_batch_norm_forward_flat(
          s.data, s.layout, e[0], e[1], e[2], e[3], s.x.data, s.z.data, s.y.data, dtype, e[1],
          s.weight.as<void>(), s.bias.as<void>(), running_mean.as<void>(), running_var.as<void>(),
          batch_stats, factor, eps, flags, s.activation, s.slope, s.mask.as<uint8_t>(),
          s.saved_mean.as<double>(), s.saved_invstd.as<double>());
    return bn2d_batch_norm_forward(s.x.pointer(), s.z.pointer(), s.y.pointer(), dtype,
                                   s.weight.as<void>(), s.bias.as<void>(), running_mean.as<void>(),
                                   running_var.as<void>(), batch_stats, factor, eps, flags,
                                   s.activation, s.slope, s.mask.as<uint8_t>(),
                                   s.saved_mean.as<double>(), s.saved_invstd.as<double>());
  };
  if (!settle(what, call(), verdict)) return;
  std::vector<const Operand *> written = {&s.y, &s.mask, &s.saved_mean, &s.saved_invstd};
  if (moves) written.insert(written.end(), {&running_mean, &running_var});
  check_only(what, written, -1, {});
  if (per_channel > 0 && s.shape[1] > 0) {
    n.compute();
    const Values mean = place_.values(s.saved_mean), invstd = place_.values(s.saved_invstd);
    std::string problem = n.judge_y(place_.values(s.y));
    if (problem.empty())
      problem = n.judge_saved(s.saved_mean.given ? &mean : nullptr,
                              s.saved_invstd.given ? &invstd : nullptr);
    if (problem.empty() && batch && !in_groups) {
      const Values new_mean = place_.values(running_mean), new_var = place_.values(running_var);
      problem = n.judge_running(running_mean.given ? &new_mean : nullptr,
                                running_var.given ? &new_var : nullptr, factor,
                                (flags & BN2D_FLAG_BIASED_RUNNING_VAR) != 0,
                                (flags & BN2D_FLAG_PROTECT_RUNNING_STATS) != 0);
    }
    if (!problem.empty()) found(what, problem);
    if (std::count(n.judged.begin(), n.judged.end(), true) > 0) {
      reach(facet("stateless forward", n));
      reach_blocks("stateless forward", {&s.x, &s.z, &s.y});
      reach("stateless forward act " + std::to_string(s.activation));
    }
  }
  repeat(what, written, call);
  s.x_bits = place_.bits(s.x), s.y_bits = place_.bits(s.y), s.weight_bits = place_.bits(s.weight);
  s.mean_bits = place_.bits(s.saved_mean), s.invstd_bits = place_.bits(s.saved_invstd);
  s.mask_bits = place_.bits(s.mask), s.z_bits = place_.bits(s.z);
  s.bias_bits = place_.bits(s.bias);
  for (int64_t rounds = in_.below(3); rounds > 0; --rounds) {
    if (in_.coin() && !s.flat) {  // which has no function without views
      stateless_double_backward(s);
    } else {
      stateless_backward(s);
    }
  }
}

void Machine::stateless_backward(Stateless &s) {
  Verdict verdict;
  const Numbers &n = s.numbers;
  const bool empty = bn2d_test::count_of(s.shape) == 0;
  const auto tensor = [&](const char *name, size_t room, bool written, bool optional,
                          const Operand *like) {
    return s.flat ? place_.plain(name, room, s.data, s.shape, s.layout == BN2D_NHWC, written,
                                 optional, like)
                  : place_.tensor(name, room, s.data, s.shape, written, optional, like);
  };
  const Operand dy = tensor("dy", 5, false, false, nullptr);
  const Operand dx = tensor("dx", 6, true, true, &dy);
  const Operand dz = tensor("dz", 7, true, true, &dy);
  if (!dy.faults.empty() && !dx.given && !dz.given)
    return;  // nothing tells that its shape is not the one meant
  const auto array = [&](const char *name, size_t room) {
    return place_.array(name, room, s.parameters, s.shape[1], true, in_.coin(),
                        in_.coin() ? &dx : &s.weight);
  };
  const Operand dweight = array("dweight", 1), dbias = array("dbias", 0);
  const double blend = in_.one_in(32) ? in_.pick({nan, infinity}) : in_.pick({0.0, 1.0, 0.5, -1.0});
  if (!std::isfinite(blend)) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  const bool active = s.activation != BN2D_ACT_NONE, pointwise = s.activation > BN2D_ACT_LEAKY_RELU,
             reads_x = dweight.given || (n.batch && dx.given) || pointwise;
  const bool of_argument = pointwise && !s.flat && !in_.one_in(4);
  if (pointwise && !of_argument) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  Operand x = s.x, y = s.y, mask = s.mask, mean = s.saved_mean;
  x.given = reads_x || in_.coin();
  x.written = y.written = mask.written = mean.written = false;
  Operand invstd = s.saved_invstd, weight = s.weight;
  invstd.written = weight.written = false;
  if (in_.one_in(40) || (s.flat && x.data == nullptr)) x.given = false;
  if (reads_x && (!x.given || !mean.given)) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  if (!invstd.given) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  y.given = active && !mask.given && !in_.one_in(40) && !(s.flat && y.data == nullptr);
  if (of_argument) y.given = false;
  if (active && !of_argument && !mask.given && !empty &&
      (!y.given || (s.activation == BN2D_ACT_LEAKY_RELU && s.slope < 0)))
    verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  const bool hostile = in_.one_in(4);
  place_.fill(dy, s.shape, hostile);
  const Extents row{1, s.shape[1], 1, 1};
  place_.fill(dweight, row, hostile && in_.coin());
  place_.fill(dbias, row, hostile && in_.coin());
  std::vector<const Operand *> all = {&x,      &dy, &y,  &mask,    &weight, &mean,
                                      &invstd, &dx, &dz, &dweight, &dbias};
  if (of_argument) all.insert(all.end(), {&s.z, &s.bias});
  place_.judge(all, verdict);
  std::vector<const Operand *> used = all;
  if (!reads_x) used.erase(used.begin());  // nobody minds what happens to x
  place_.judge_arrays(used, empty, verdict);
  for (const Operand *output : std::initializer_list<const Operand *>{&dx, &dz}) {
    place_.judge_overlap(*output, dy, true, verdict);
    if (reads_x) place_.judge_overlap(*output, x, false, verdict);
    if (active && !mask.given && !of_argument) place_.judge_overlap(*output, y, false, verdict);
    if (of_argument) place_.judge_overlap(*output, s.z, false, verdict);
  }
  const bool known =
      (!reads_x || (place_.bits(s.x) == s.x_bits && place_.bits(mean) == s.mean_bits)) &&
      (!y.given || place_.bits(y) == s.y_bits) && place_.bits(weight) == s.weight_bits &&
      place_.bits(invstd) == s.invstd_bits && place_.bits(mask) == s.mask_bits &&
      !(reads_x && s.x.exactly(s.y)) &&
      (!of_argument ||
       (place_.bits(s.z) == s.z_bits && place_.bits(s.bias) == s.bias_bits && !s.z.exactly(s.y)));
  const std::string what =
      std::string(s.groups != 0 ? "group_norm_backward" : "batch_norm_backward") +
      (s.flat        ? "_flat"
       : of_argument ? "_act"
                     : "") +
      text_of(s.shape, s.data, s.parameters) +
      (s.groups != 0 ? " groups " + std::to_string(s.groups) : "") +
      (n.batch ? " batch" : " frozen") + text_of(all) + " act " + std::to_string(s.activation) +
      " slope " + text_of(s.slope) + " blend " + text_of(blend);
  before(what);
  Values dys;
  BackwardResults results;
  if (verdict.must.empty()) {
    dys = place_.values(dy);
    results.old_dweight = place_.values(dweight), results.old_dbias = place_.values(dbias);
  }
  results.blend = blend;
  const auto call = [&] {
    const Extents &e = s.shape;
    if (s.groups != 0 && of_argument)
      return bn2d_group_norm_backward_act(
          x.pointer(), s.z.pointer(), dy.pointer(), nullptr, mask.as<uint8_t>(), s.groups,
          s.parameters, weight.as<void>(), s.bias.as<void>(), mean.as<double>(),
          invstd.as<double>(), s.activation, s.slope, blend, dx.pointer(), dz.pointer(),
          dweight.as<void>(), dbias.as<void>());
    if (of_argument)
      return bn2d_batch_norm_backward_act(
          x.pointer(), s.z.pointer(), dy.pointer(), nullptr, mask.as<uint8_t>(), s.parameters,
          weight.as<void>(), s.bias.as<void>(), mean.as<double>(), invstd.as<double>(),
          n.batch ? 1 : 0, s.activation, s.slope, blend, dx.pointer(), dz.pointer(),
          dweight.as<void>(), dbias.as<void>());
    if (s.groups != 0 && s.flat)
      return bn2d_group_norm_backward_flat(
          s.data, s.layout, e[0], e[1], e[2], e[3], x.as<void>(), dy.data, y.as<void>(),
          mask.as<uint8_t>(), s.groups, s.parameters, e[1], weight.as<void>(), mean.as<double>(),
          invstd.as<double>(), s.activation, s.slope, blend, dx.as<void>(), dz.as<void>(),
          dweight.as<void>(), dbias.as<void>());
    if (s.groups != 0)
      return bn2d_group_norm_backward(
          x.pointer(), dy.pointer(), y.pointer(), mask.as<uint8_t>(), s.groups, s.parameters,
          weight.as<void>(), mean.as<double>(), invstd.as<double>(), s.activation, s.slope, blend,
          dx.pointer(), dz.pointer(), dweight.as<void>(), dbias.as<void>());
    if (s.flat)
      return bn2d_batch_norm_backward_flat(
          s.data, s.layout, e[0], e[1], e[2], e[3], x.as<void>(), dy.data, y.as<void>(),
          mask.as<uint8_t>(), s.parameters, e[1], weight.as<void>(), mean.as<double>(),
          invstd.as<double>(), n.batch ? 1 : 0, s.activation, s.slope, blend, dx.as<void>(),
          dz.as<void>(), dweight.as<void>(), dbias.as<void>());
    return bn2d_batch_norm_backward(
        x.pointer(), dy.pointer(), y.pointer(), mask.as<uint8_t>(), s.parameters, weight.as<void>(),
        mean.as<double>(), invstd.as<double>(), n.batch ? 1 : 0, s.activation, s.slope, blend,
        dx.pointer(), dz.pointer(), dweight.as<void>(), dbias.as<void>());
  };
  if (!settle(what, call(), verdict)) return;
  check_only(what, {&dx, &dz, &dweight, &dbias}, -1, {});
  if (known && !dys.empty()) {
    const Values got_dx = place_.values(dx), got_dz = place_.values(dz);
    const Values got_dweight = place_.values(dweight), got_dbias = place_.values(dbias);
    results.dx = dx.given ? &got_dx : nullptr;
    results.dz = dz.given ? &got_dz : nullptr;
    results.dweight = dweight.given ? &got_dweight : nullptr;
    results.dbias = dbias.given ? &got_dbias : nullptr;
    const std::string problem = judge_backward(n, dys, results);
    if (!problem.empty()) found(what, problem);
    reach(facet("stateless backward", n));
    if (of_argument) reach("stateless backward act " + std::to_string(s.activation));
    reach_blocks("stateless backward", {&x, &dy, &y, &dx, &dz});
  }
  repeat(what, {&dx, &dz, &dweight, &dbias}, call);
}

void Machine::stateless_double_backward(Stateless &s) {
  Verdict verdict;
  const Numbers &n = s.numbers;
  const bool empty = bn2d_test::count_of(s.shape) == 0;
  const Extents row{1, s.shape[1], 1, 1};
  const Operand dy = place_.tensor("dy", 5, s.data, s.shape, false, false, nullptr);
  const Operand ddx = place_.tensor("ddx", 6, s.data, s.shape, false, true, &dy);
  const Operand ddy = place_.tensor("ddy", 7, s.data, s.shape, true, true, in_.coin() ? &dy : &ddx);
  const Operand dx = place_.tensor("dx", 1, s.data, s.shape, true, true, &ddx);
  const auto array = [&](const char *name, size_t room, bool written) {
    return place_.array(name, room, s.parameters, s.shape[1], written, in_.coin(),
                        in_.coin() ? &dx : &s.weight);
  };
  const Operand ddweight = array("ddweight", 0, false), ddbias = array("ddbias", 2, false);
  const Operand dweight = array("dweight", 3, true);
  const bool pointwise = s.activation > BN2D_ACT_LEAKY_RELU,
             act = in_.one_in(4) ? !pointwise : pointwise;
  Operand ddz, dz, dbias;
  ddz.name = "ddz", dz.name = "dz", dbias.name = "dbias";
  ddz.given = dz.given = dbias.given = false;
  if (act) {
    ddz = place_.tensor("ddz", 4, s.data, s.shape, false, true, &ddx);
    dz = place_.tensor("dz", 2, s.data, s.shape, true, true, &dx);
    dbias = array("dbias", 4, true);
  }
  const double blend = in_.one_in(32) ? in_.pick({nan, infinity}) : in_.pick({0.0, 1.0, 0.5, -1.0});
  if (!std::isfinite(blend)) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  const bool active = s.activation != BN2D_ACT_NONE;
  Operand x = s.x, y = s.y, mask = s.mask, mean = s.saved_mean, invstd = s.saved_invstd,
          weight = s.weight;
  x.written = y.written = mask.written = mean.written = invstd.written = weight.written = false;
  x.given = !in_.one_in(40);
  if (!x.given || !mean.given || !invstd.given) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  y.given = active && !pointwise && !mask.given && !in_.one_in(40);
  if (active && !pointwise && !mask.given && !empty &&
      (!y.given || (s.activation == BN2D_ACT_LEAKY_RELU && s.slope < 0)))
    verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  if (pointwise && !act) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  const bool hostile = in_.one_in(4), of_argument = pointwise && act;
  place_.fill(dy, s.shape, hostile);
  place_.fill(ddx, s.shape, hostile && in_.coin());
  place_.fill(ddz, s.shape, hostile && in_.coin());
  for (const Operand *one :
       std::initializer_list<const Operand *>{&ddweight, &ddbias, &dweight, &dbias})
    place_.fill(*one, row, hostile && in_.coin());
  std::vector<const Operand *> all = {&x,      &dy,      &y,   &mask,     &weight, &mean,
                                      &invstd, &ddx,     &ddz, &ddweight, &ddbias, &ddy,
                                      &dx,     &dweight, &dz,  &dbias};
  if (of_argument) all.insert(all.end(), {&s.z, &s.bias});
  place_.judge(all, verdict);
  place_.judge_arrays(all, empty, verdict);
  for (const Operand *output : std::initializer_list<const Operand *>{&ddy, &dx, &dz}) {
    place_.judge_overlap(*output, dy, output == &ddy, verdict);
    place_.judge_overlap(*output, ddx, false, verdict);
    place_.judge_overlap(*output, ddz, false, verdict);
    place_.judge_overlap(*output, x, false, verdict);
    if (active && !pointwise && !mask.given) place_.judge_overlap(*output, y, false, verdict);
    if (of_argument) place_.judge_overlap(*output, s.z, false, verdict);
  }
  const bool known = place_.bits(s.x) == s.x_bits && place_.bits(mean) == s.mean_bits &&
                     (!y.given || place_.bits(y) == s.y_bits) &&
                     place_.bits(weight) == s.weight_bits && place_.bits(invstd) == s.invstd_bits &&
                     place_.bits(mask) == s.mask_bits && !s.x.exactly(s.y) &&
                     (!of_argument || (place_.bits(s.z) == s.z_bits &&
                                       place_.bits(s.bias) == s.bias_bits && !s.z.exactly(s.y)));
  const std::string what =
      std::string(s.groups != 0 ? "group_norm_double_backward" : "batch_norm_double_backward") +
      (act ? "_act" : "") + text_of(s.shape, s.data, s.parameters) +
      (s.groups != 0 ? " groups " + std::to_string(s.groups) : "") +
      (n.batch ? " batch" : " frozen") + text_of(all) + " act " + std::to_string(s.activation) +
      " slope " + text_of(s.slope) + " blend " + text_of(blend);
  before(what);
  Values dys;
  DoubleBackwardResults results;
  if (verdict.must.empty()) {
    dys = place_.values(dy);
    results.ddx = place_.values(ddx), results.ddweight = place_.values(ddweight);
    results.ddbias = place_.values(ddbias), results.old_dweight = place_.values(dweight);
    results.ddz = place_.values(ddz), results.old_dbias = place_.values(dbias);
  }
  results.blend = blend;
  const bn2d_view *const z = of_argument ? s.z.pointer() : nullptr;
  const void *const bias = of_argument ? s.bias.as<void>() : nullptr;
  const auto call = [&] {
    if (act && s.groups != 0)
      return bn2d_group_norm_double_backward_act(
          x.pointer(), z, dy.pointer(), y.pointer(), mask.as<uint8_t>(), s.groups, s.parameters,
          weight.as<void>(), bias, mean.as<double>(), invstd.as<double>(), s.activation, s.slope,
          ddx.pointer(), ddz.pointer(), ddweight.as<void>(), ddbias.as<void>(), blend,
          ddy.pointer(), dx.pointer(), dz.pointer(), dweight.as<void>(), dbias.as<void>());
    if (act)
      return bn2d_batch_norm_double_backward_act(
          x.pointer(), z, dy.pointer(), y.pointer(), mask.as<uint8_t>(), s.parameters,
          weight.as<void>(), bias, mean.as<double>(), invstd.as<double>(), n.batch ? 1 : 0,
          s.activation, s.slope, ddx.pointer(), ddz.pointer(), ddweight.as<void>(),
          ddbias.as<void>(), blend, ddy.pointer(), dx.pointer(), dz.pointer(), dweight.as<void>(),
          dbias.as<void>());
    if (s.groups != 0)
      return bn2d_group_norm_double_backward(
          x.pointer(), dy.pointer(), y.pointer(), mask.as<uint8_t>(), s.groups, s.parameters,
          weight.as<void>(), mean.as<double>(), invstd.as<double>(), s.activation, s.slope,
          ddx.pointer(), ddweight.as<void>(), ddbias.as<void>(), blend, ddy.pointer(), dx.pointer(),
          dweight.as<void>());
    return bn2d_batch_norm_double_backward(
        x.pointer(), dy.pointer(), y.pointer(), mask.as<uint8_t>(), s.parameters, weight.as<void>(),
        mean.as<double>(), invstd.as<double>(), n.batch ? 1 : 0, s.activation, s.slope,
        ddx.pointer(), ddweight.as<void>(), ddbias.as<void>(), blend, ddy.pointer(), dx.pointer(),
        dweight.as<void>());
  };
  if (!settle(what, call(), verdict)) return;
  check_only(what, {&ddy, &dx, &dz, &dweight, &dbias}, -1, {});
  if (known && !dys.empty()) {
    const Values got_ddy = place_.values(ddy), got_dx = place_.values(dx),
                 got_dz = place_.values(dz), got_dweight = place_.values(dweight),
                 got_dbias = place_.values(dbias);
    results.ddy = ddy.given ? &got_ddy : nullptr;
    results.dx = dx.given ? &got_dx : nullptr;
    results.dz = dz.given ? &got_dz : nullptr;
    results.dweight = dweight.given ? &got_dweight : nullptr;
    results.dbias = dbias.given ? &got_dbias : nullptr;
    const std::string problem = judge_double_backward(n, dys, results);
    if (!problem.empty()) found(what, problem);
    reach(facet("stateless double_backward", n));
    reach_blocks("stateless double_backward", {&x, &dy, &y, &ddx, &ddy, &dx});
    reach("stateless double_backward act " + std::to_string(s.activation));
  }
  repeat(what, {&ddy, &dx, &dz, &dweight, &dbias}, call);
}

}  // namespace bn2d_fuzz
