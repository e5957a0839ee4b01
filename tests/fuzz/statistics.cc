// Statistics of the program: which one a call takes, what it says, how it becomes those of a
// module.
#include <cmath>
#include <cstdio>

#include "fuzz/machine.h"

namespace bn2d_fuzz {

Values Machine::exported(const StatisticsModel &model) const {
  Values values(static_cast<size_t>(1 + 4 * model.channels));
  if (bn2d_statistics_export(model.handle, values.data(), static_cast<int64_t>(values.size())) !=
      BN2D_OK)
    found("statistics_export", bn2d_last_error());
  return values;
}

// What the library holds, as two numbers each.
oracle::Statistics Machine::exported_statistics(const StatisticsModel &model, double eps) const {
  const Values all = exported(model);
  oracle::Statistics s;
  const auto channels = static_cast<size_t>(model.channels);
  for (size_t c = 0; c < channels; ++c) {
    const Real mean = all[1 + c], rest = all[1 + channels + c];
    const Real var = (static_cast<Real>(all[1 + 2 * channels + c]) + all[1 + 3 * channels + c]) /
                     static_cast<Real>(model.count);
    s.mean.push_back(mean), s.mean_rest.push_back(rest), s.var.push_back(var);
    s.mean_scale.push_back(std::fabs(mean)), s.deviation.push_back(std::sqrt(var));
    // Variances that no double holds are beyond them.
    s.invstd.push_back(std::isfinite(mean) && std::isfinite(var) ? oracle::inverse_std(var, eps)
                                                                 : Real{nan});
  }
  return s;
}

size_t Machine::pick_statistics(int64_t channels) {
  for (size_t i = 0; i < statistics_.size() && !in_.one_in(24); ++i)
    if (statistics_[i].references > 0 && statistics_[i].channels == channels) return i;
  StatisticsModel model;
  model.channels = channels;
  if (bn2d_statistics_create(channels, &model.handle) != BN2D_OK)
    throw Finding("statistics_create failed");
  reach("statistics_create");
  model.references = 1;
  model.values.resize(static_cast<size_t>(channels));
  model.parts.resize(static_cast<size_t>(channels));
  size_t at = statistics_.size();
  if (at >= 4) {  // in place of one
    at = static_cast<size_t>(in_.below(4));
    StatisticsModel &old = statistics_[at];
    for (; old.references > 0; --old.references) bn2d_statistics_release(old.handle);
    dead_statistics_.push_back(old.handle);
    statistics_[at] = model;
  } else {
    statistics_.push_back(model);
  }
  changing_ = static_cast<int>(at);
  accumulate(at);  // of no values nothing can be told
  return at;
}

bn2d_statistics *Machine::spoil_statistics(bn2d_statistics *handle, bool null_too,
                                           Verdict &verdict) {
  Verdict of_handle;
  bn2d_statistics *other = spoil(handle, of_handle);
  if (other == nullptr && !null_too) return handle;
  verdict.must.add(of_handle.must);
  return other;
}

// Mean and variance against the values that went in.
void Machine::judge_statistics(const std::string &what, const StatisticsModel &model) {
  const auto channels = static_cast<size_t>(model.channels);
  const Values all = exported(model);
  if (all[0] != static_cast<double>(model.count))
    found(what, "the count is " + std::to_string(all[0]) + ", not " + std::to_string(model.count));
  if (model.count == 0 || !model.known) return;
  Values mean(channels), var(channels);
  if (bn2d_statistics_mean_var(model.handle, mean.data(), var.data(), model.channels) != BN2D_OK)
    found(what, std::string("mean and variance fail: ") + bn2d_last_error());
  const oracle::Format &format = model.all_f64 ? oracle::binary64 : oracle::binary32;
  bool judged = false;
  for (size_t c = 0; c < channels; ++c) {
    bool good = true;
    for (const double v : model.values[c]) good &= std::isfinite(v);
    const oracle::Extents e{1, 1, 1, static_cast<int64_t>(model.values[c].size())};
    const oracle::Statistics want = oracle::batch_statistics(e, model.values[c], 0);
    const Real deviation = want.deviation[0];
    // Squares that leave the range of double are beyond them.
    if (!good || !(want.var[0] < 1e300L) ||
        !(deviation == 0 || want.var[0] * static_cast<Real>(model.count) > 1e-280L))
      continue;
    judged = true;
    const Real right = want.mean[0] + want.mean_rest[0];
    const Real of_mean =
        2 * oracle::ulp(format, oracle::promised_mean_scale(want, 0, model.all_f64)) +
        model.parts[c] + oracle::ulp(format, 0);
    if (!(std::fabs(mean[c] - right) <= of_mean))
      found(what, "mean of channel " + std::to_string(c) + " is " + std::to_string(mean[c]) +
                      ", not " + std::to_string(static_cast<double>(right)));
    const Real of_var = 4 * oracle::ulp(format, want.var[0]) + 2 * deviation * model.parts[c] +
                        model.parts[c] * model.parts[c] + oracle::ulp(oracle::binary64, 0);
    if (!(std::fabs(var[c] - want.var[0]) <= of_var)) {
      char text[200];
      std::snprintf(text, sizeof text, "variance of channel %zu is %.17g, not %.17Lg within %.3Lg",
                    c, var[c], want.var[0], of_var);
      found(what, text);
    }
  }
  if (judged) reach("statistics judged");
}

void Machine::statistics() {
  const ModuleModel &m = *modules_[pick_module()];
  const int64_t channels = in_.one_in(6) ? 1 + in_.below(40) : m.channels;
  if (in_.one_in(60)) return create_wrong_statistics();
  const size_t index = pick_statistics(channels);
  changing_ = -1;
  switch (in_.below(8)) {
    case 0:
    case 1:
    case 2:
      return accumulate(index);
    case 3:
    case 4:
      return merge(index);
    case 5:
    case 6:
      return read_statistics(index);
    default:
      return reset_statistics(index);
  }
}

void Machine::create_wrong_statistics() {
  Verdict verdict;
  const int64_t wrong = in_.pick<int64_t>({0, -1, INT64_MIN, INT64_MAX, int64_t{1} << 61});
  verdict.must.add(wrong < 1 ? BN2D_ERROR_INVALID_ARGUMENT : BN2D_ERROR_OVERFLOW);
  bn2d_statistics *made = nullptr;
  before();
  simple("statistics_create " + std::to_string(wrong), bn2d_statistics_create(wrong, &made),
         verdict);
}

// Or holds them once more, for a moment.
void Machine::reset_statistics(size_t index) {
  StatisticsModel &s = statistics_[index];
  Verdict verdict;
  bn2d_statistics *handle = spoil(s.handle, verdict);
  before();
  if (in_.coin()) {
    changing_ = static_cast<int>(index);
    if (!settle("statistics_reset", bn2d_statistics_reset(handle), verdict)) return;
    check_only("statistics_reset", {}, -1, {});
    s.count = 0, s.known = true, s.all_f64 = true;
    s.values.assign(s.values.size(), {});
    s.parts.assign(s.parts.size(), 0);
    return judge_statistics("statistics_reset", s);
  }
  simple("statistics_retain", bn2d_statistics_retain(handle), verdict);
  if (verdict.must.empty()) bn2d_statistics_release(handle);
}

// -------------------------------------------------------------------------------------------------
// reading

void Machine::read_statistics(size_t index) {
  const StatisticsModel &s = statistics_[index];
  Verdict verdict;
  const bn2d_statistics *handle = spoil(s.handle, verdict);
  const auto integer = [&](const char *name, auto function, int64_t right) {
    int64_t value = -7;
    before();
    simple(name, function(handle, &value), verdict);
    if (value != (verdict.must.empty() ? right : -7)) found(name, "is " + std::to_string(value));
  };
  switch (in_.below(4)) {
    case 0:
      return integer("statistics_count", bn2d_statistics_count, s.count);
    case 1:
      return integer("statistics_export_length", bn2d_statistics_export_length, 1 + 4 * s.channels);
    case 2:
      return export_statistics(s, handle, verdict);
    default:
      return read_mean_var(s, handle, verdict);
  }
}

void Machine::export_statistics(const StatisticsModel &s, const bn2d_statistics *handle,
                                Verdict &verdict) {
  const int64_t right = 1 + 4 * s.channels;
  const Operand values = place_.array("values", 3, BN2D_F64, right, true, true, nullptr);
  verdict.must.add(values.faults);
  const int64_t length = choose_length(right, verdict, 24);
  before("statistics_export");
  if (settle("statistics_export", bn2d_statistics_export(handle, values.as<double>(), length),
             verdict))
    check_only("statistics_export", {&values}, -1, {});
}

void Machine::read_mean_var(const StatisticsModel &s, const bn2d_statistics *handle,
                            Verdict &verdict) {
  const Operand mean = place_.array("mean", 3, BN2D_F64, s.channels, true, !in_.one_in(4), nullptr);
  const Operand var = place_.array("var", 4, BN2D_F64, s.channels, true, !in_.one_in(4), &mean);
  place_.judge({&mean, &var}, verdict);
  const int64_t length = choose_length(s.channels, verdict, 24);
  if (s.count == 0) verdict.must.add(BN2D_ERROR_TOO_FEW_VALUES);
  before("statistics_mean_var");
  if (settle("statistics_mean_var",
             bn2d_statistics_mean_var(handle, mean.as<double>(), var.as<double>(), length),
             verdict))
    check_only("statistics_mean_var", {&mean, &var}, -1, {});
}

// -------------------------------------------------------------------------------------------------
// those of a module

void Machine::set_running_stats() {
  const size_t module = pick_module();
  ModuleModel &m = *modules_[module];
  const StatisticsModel &s = statistics_[pick_statistics(m.channels)];
  changing_ = -1;
  Verdict verdict;
  if (!m.options.track || m.norm != BN2D_NORM_BATCH) verdict.must.add(BN2D_ERROR_STATE);
  if (s.channels != m.channels) verdict.must.add(BN2D_ERROR_SHAPE);
  if (s.count < (m.options.biased ? 1 : 2)) verdict.must.add(BN2D_ERROR_TOO_FEW_VALUES);
  bn2d_module *handle = spoil(m.handle, verdict);
  bn2d_statistics *source = spoil_statistics(s.handle, true, verdict);
  Numbers n;
  n.running_mean = m.values("running_mean"), n.running_var = m.values("running_var");
  const std::string what = "module_set_running_stats";
  before(what);
  if (!settle(what, bn2d_module_set_running_stats(handle, source), verdict)) return;
  check_only(what, {}, static_cast<int>(module), {"running_mean", "running_var"});
  n.e = {0, m.channels, 1, 1};
  n.data = n.parameters = m.options.dtype;
  n.count = s.count;
  n.statistics = exported_statistics(s, 0);
  for (size_t c = 0; c < n.statistics.mean.size(); ++c)
    n.judged.push_back(std::isfinite(n.statistics.mean[c]) && std::isfinite(n.statistics.var[c]));
  const Values mean = m.values("running_mean"), var = m.values("running_var");
  const std::string problem = n.judge_running(&mean, &var, 1, m.options.biased, m.options.protect);
  if (!problem.empty()) found(what, problem);
}

}  // namespace bn2d_fuzz
