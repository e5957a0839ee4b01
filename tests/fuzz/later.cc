// What version 1.3 has added: other norms, statistics from outside, backward in two steps, changes
// of a living module.
#include <cmath>

#include "fuzz/comparison.h"
#include "fuzz/repeat.h"
#include "support/contract_message.h"

namespace bn2d_fuzz {
namespace {

constexpr int64_t kMostValues = int64_t{1} << 53;
constexpr size_t kMostKept = 4000;  // values of a channel that the model keeps

}  // namespace

void Machine::later(int64_t which) {
  switch (which) {
    case 0:
    case 1:
    case 2:
      return create_norm();
    case 3:
    case 4:
    case 5:
      return statistics();
    case 6:
    case 7:
      return forward(true);
    case 8:
    case 9:
      return backward_in_steps();
    case 10:
    case 11:
    case 12:
      return stateless(true);
    case 13:
      return change_living();
    case 14:
      return set_running_stats();
    case 15:
      return query_norm();
    case 16:
      return pools();
    case 17:
      return locks();
    case 18:
      return scale_shift();
    default:
      return last_error();
  }
}

// -------------------------------------------------------------------------------------------------
// modules

void Machine::create_norm() {
  size_t alive = 0;
  for (const auto &module : modules_) alive += module->alive() ? 1 : 0;
  if (alive >= 4) return forward();
  const int32_t norm = in_.pick<int32_t>({BN2D_NORM_GROUP, BN2D_NORM_INSTANCE, BN2D_NORM_BATCH});
  OptionsModel chosen;
  Verdict verdict;
  const bn2d_options *options = nullptr;
  bn2d_options *made = nullptr;
  if (!options_.empty() && in_.one_in(3)) {
    chosen = options_[static_cast<size_t>(in_.below(static_cast<int64_t>(options_.size())))];
    options = chosen.handle;
  } else if (!in_.one_in(6)) {
    if (bn2d_options_create(&made) != BN2D_OK) return;
    options = made;
    int32_t status = BN2D_OK;
    if (in_.coin()) {
      chosen.affine = !in_.one_in(3), chosen.touched |= OptionsModel::kAffine;
      status |= bn2d_options_set_affine(made, chosen.affine);
    }
    chosen.bias = !in_.one_in(4);
    chosen.dtype = in_.pick<int32_t>({BN2D_F32, BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16});
    chosen.eps = in_.pick({1e-5, 1e-3, 0.0, 1.0, 1e-12});
    status |= bn2d_options_set_bias(made, chosen.bias);
    status |= bn2d_options_set_dtype(made, chosen.dtype) | bn2d_options_set_eps(made, chosen.eps);
    const bool refused = in_.one_in(24);  // what this norm may not have
    if ((norm != BN2D_NORM_GROUP || refused) && in_.coin()) {
      chosen.has_momentum = !in_.one_in(4), chosen.touched |= OptionsModel::kMomentum;
      chosen.momentum = in_.pick({0.1, 1.0, 0.5, 0.0});
      status |= chosen.has_momentum ? bn2d_options_set_momentum(made, chosen.momentum)
                                    : bn2d_options_set_momentum_none(made);
    }
    if ((norm != BN2D_NORM_GROUP || refused) && in_.coin()) {
      chosen.track = !in_.one_in(4), chosen.touched |= OptionsModel::kTrack;
      status |= bn2d_options_set_track_running_stats(made, chosen.track);
    }
    if ((norm != BN2D_NORM_GROUP || refused) && in_.one_in(3)) {
      chosen.biased = in_.coin(), chosen.protect = in_.coin();
      chosen.touched |= OptionsModel::kStatistics;
      status |= bn2d_options_set_biased_running_var(made, chosen.biased);
      status |= bn2d_options_set_protect_running_stats(made, chosen.protect);
    }
    if (norm == BN2D_NORM_BATCH || refused) {
      chosen.ghost = 1 + in_.below(5), chosen.touched |= OptionsModel::kGhost;
      status |= bn2d_options_set_ghost_batch_size(made, chosen.ghost);
    }
    if (status != BN2D_OK) found("options", "a valid one was refused");
  }
  const unsigned no_group = OptionsModel::kMomentum | OptionsModel::kTrack |
                            OptionsModel::kStatistics | OptionsModel::kGhost,
                 refused = norm == BN2D_NORM_GROUP      ? no_group
                           : norm == BN2D_NORM_INSTANCE ? OptionsModel::kGhost
                                                        : 0U;
  if ((chosen.touched & refused) != 0) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  if (norm != BN2D_NORM_BATCH && (chosen.touched & OptionsModel::kTrack) == 0) chosen.track = false;
  if (norm == BN2D_NORM_GROUP) chosen.has_momentum = false;
  if (norm == BN2D_NORM_INSTANCE && (chosen.touched & OptionsModel::kAffine) == 0)
    chosen.affine = false;

  int64_t groups = norm == BN2D_NORM_GROUP ? 1 + in_.below(4) : 0;
  int64_t channels = in_.one_in(8) ? in_.pick<int64_t>({16, 17, 33, 40}) : 1 + in_.below(9);
  if (norm == BN2D_NORM_GROUP) channels = groups * std::min<int64_t>(channels, 40 / groups);
  if (in_.one_in(60)) {
    channels = in_.pick<int64_t>({0, -1, INT64_MIN, int64_t{1} << 62});
    verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    verdict.must.add(BN2D_ERROR_OVERFLOW);
  } else if (norm == BN2D_NORM_GROUP && in_.one_in(40)) {
    groups = in_.pick<int64_t>({0, -1, channels + 1, INT64_MAX, INT64_MIN});
    verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
  }
  bn2d_module *module = nullptr;
  const std::string what =
      std::string(norm == BN2D_NORM_GROUP      ? "group_norm_create "
                  : norm == BN2D_NORM_INSTANCE ? "instance_norm_create "
                                               : "module_create with ghost batches ") +
      std::to_string(groups) + " " + std::to_string(channels);
  before();
  const int32_t status =
      norm == BN2D_NORM_GROUP      ? bn2d_group_norm_create(groups, channels, options, &module)
      : norm == BN2D_NORM_INSTANCE ? bn2d_instance_norm_create(channels, options, &module)
                                   : bn2d_module_create(channels, options, &module);
  bn2d_options_release(made);
  const bool created = settle(what, status, verdict);
  if (created == (module == nullptr)) found(what, "the handle does not tell whether it succeeded");
  if (!created) return;
  adopt(module, channels, chosen, norm, groups);
  // Elsewhere than where everything starts.
  if (in_.coin()) set_values();
}

void Machine::query_norm() {
  if (!records_.empty() && in_.one_in(4)) {
    const RecordModel &r = records_[static_cast<size_t>(pick_record())];
    Verdict verdict;
    const bn2d_record *handle = spoil(r.handle, verdict);
    int32_t batch = 7;
    before();
    simple("record_batch_statistics", bn2d_record_batch_statistics(handle, &batch), verdict);
    if (batch != (verdict.must.empty() ? (r.numbers.batch ? 1 : 0) : 7))
      found("record_batch_statistics", "is " + std::to_string(batch));
    return;
  }
  const ModuleModel &m = *modules_[pick_module()];
  Verdict verdict;
  const bn2d_module *handle = spoil(m.handle, verdict);
  const auto ask = [&](const char *name, auto function, auto right) {
    auto value = decltype(right)(77);
    before();
    simple(name, function(handle, &value), verdict);
    if (value != (verdict.must.empty() ? right : decltype(right)(77)))
      found(name, "is " + std::to_string(value));
  };
  switch (in_.below(4)) {
    case 0:
      return ask("module_norm", bn2d_module_norm, m.norm);
    case 1:
      return ask("module_num_groups", bn2d_module_num_groups, m.groups);
    case 2:
      return ask("module_ghost_batch_size", bn2d_module_ghost_batch_size, m.options.ghost);
    default:
      return ask("module_is_frozen", bn2d_module_is_frozen, int32_t{m.frozen ? 1 : 0});
  }
}

// Momentum and frozen statistics of a living module; ghost batches of options.
void Machine::change_living() {
  Verdict verdict;
  const int64_t which = in_.below(5);
  if (which == 4) {
    if (options_.empty()) return options();
    OptionsModel &o =
        options_[static_cast<size_t>(in_.below(static_cast<int64_t>(options_.size())))];
    bn2d_options *handle = spoil(o.handle, verdict);
    const int64_t samples = in_.pick<int64_t>({0, 1, 2, 3, INT64_MAX, -1, INT64_MIN});
    if (samples < 0) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    before();
    const bool by_name = samples < 4 && in_.coin();
    const int32_t status =
        by_name ? bn2d_options_set_by_name(handle, "ghost_batch_size",
                                           std::to_string(std::max(samples, int64_t{-9})).c_str())
                : bn2d_options_set_ghost_batch_size(handle, samples);
    simple("options_set_ghost_batch_size", status, verdict);
    if (verdict.must.empty()) o.ghost = samples, o.touched |= OptionsModel::kGhost;
    return;
  }
  ModuleModel &m = *modules_[pick_module()];
  bn2d_module *handle = spoil(m.handle, verdict);
  if (which < 2 && m.norm == BN2D_NORM_GROUP) verdict.must.add(BN2D_ERROR_STATE);
  before();
  if (which == 0) {
    const double momentum =
        in_.pick({0.1, 0.0, 1.0, 0.5, 1e-300, -0.0, 1.0000001, -0.1, nan, infinity});
    if (!(momentum >= 0 && momentum <= 1)) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    if (settle("module_set_momentum", bn2d_module_set_momentum(handle, momentum), verdict))
      m.options.momentum = momentum, m.options.has_momentum = true;
  } else if (which == 1) {
    if (settle("module_set_momentum_none", bn2d_module_set_momentum_none(handle), verdict))
      m.options.has_momentum = false;
  } else {
    const int32_t frozen = in_.one_in(12) ? in_.pick({-1, 2, INT32_MAX}) : in_.coin() ? 1 : 0;
    if (frozen != 0 && frozen != 1) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    if (frozen == 1 && !m.options.track) verdict.must.add(BN2D_ERROR_STATE);
    if (settle("module_set_frozen", bn2d_module_set_frozen(handle, frozen), verdict))
      m.frozen = frozen == 1;
  }
}

// -------------------------------------------------------------------------------------------------
// statistics

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
  change_statistics(at);  // of no values nothing can be told
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
  if (in_.one_in(60)) {
    Verdict verdict;
    const int64_t wrong = in_.pick<int64_t>({0, -1, INT64_MIN, INT64_MAX, int64_t{1} << 61});
    verdict.must.add(wrong < 1 ? BN2D_ERROR_INVALID_ARGUMENT : BN2D_ERROR_OVERFLOW);
    bn2d_statistics *made = nullptr;
    before();
    simple("statistics_create " + std::to_string(wrong), bn2d_statistics_create(wrong, &made),
           verdict);
    return;
  }
  const size_t index = pick_statistics(channels);
  changing_ = -1;
  switch (in_.below(8)) {
    case 0:
    case 1:
    case 2:
      return change_statistics(index);
    case 3:
    case 4:
      return merge_statistics(index);
    case 5:
    case 6:
      return read_statistics(index);
    default: {
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
      return;
    }
  }
}

// Adds a tensor.
void Machine::change_statistics(size_t index) {
  StatisticsModel &s = statistics_[index];
  Verdict verdict;
  const int32_t dtype = static_cast<int32_t>(1 + in_.below(4));
  int64_t channels = s.channels;
  const bool flat = in_.one_in(3), nhwc = flat && in_.coin();
  if (!flat && in_.one_in(40)) channels += 1, verdict.must.add(BN2D_ERROR_SHAPE);
  const Extents shape = choose_shape(channels);
  const Operand x = flat ? place_.plain("x", 0, dtype, shape, nhwc, false, false, nullptr)
                         : place_.tensor("x", 0, dtype, shape, false, false, nullptr);
  // Another shape or dtype is none that is wrong: there is nothing to compare it with.
  if (x.faults.has(BN2D_ERROR_SHAPE) || x.faults.has(BN2D_ERROR_DTYPE)) return;
  place_.fill(x, shape, in_.one_in(4));
  place_.judge({&x}, verdict);
  const int64_t more = shape[0] * shape[2] * shape[3];
  if (more > kMostValues - s.count) verdict.must.add(BN2D_ERROR_OVERFLOW);
  bn2d_statistics *handle = spoil(s.handle, verdict);
  const std::string what =
      std::string(flat ? "statistics_accumulate_flat" : "statistics_accumulate") + " dtype " +
      std::to_string(dtype) + " (" + std::to_string(shape[0]) + "," + std::to_string(shape[1]) +
      "," + std::to_string(shape[2]) + "," + std::to_string(shape[3]) + ")" + x.text();
  const auto call = [&](bn2d_statistics *to) {
    return flat ? bn2d_statistics_accumulate_flat(to, dtype, nhwc ? BN2D_NHWC : BN2D_NCHW, x.data,
                                                  shape[0], shape[2], shape[3])
                : bn2d_statistics_accumulate(to, x.pointer());
  };
  before(what);
  const Values old = exported(s);
  bn2d_test::mark_message();
  if (!settle(what, call(handle), verdict)) return;
  changing_ = static_cast<int>(index);
  check_only(what, {}, -1, {});
  s.count += more;
  if (more > 0) {
    const Values values = place_.values(x);
    const oracle::Extents e{shape[0], shape[1], shape[2], shape[3]};
    const oracle::Statistics part = oracle::batch_statistics(e, values, 0);
    s.all_f64 = s.all_f64 && dtype == BN2D_F64;
    for (size_t c = 0; c < s.values.size(); ++c) {
      oracle::for_channel(e, static_cast<int64_t>(c), [&](int64_t i) {
        s.values[c].push_back(values[static_cast<size_t>(i)]);
      });
      const bool f64 = dtype == BN2D_F64;
      s.parts[c] = std::max(s.parts[c], 2 * oracle::ulp(f64 ? oracle::binary64 : oracle::binary32,
                                                        oracle::promised_mean_scale(part, c, f64)));
      if (s.values[c].size() > kMostKept) s.known = false;
    }
  }
  judge_statistics(what, s);
  reach_blocks("statistics", {&x});
  // Statistics of no values that take in what was exported are the same bits again: from there the
  // same call, with other threads.
  if (!in_.one_in(6)) return;
  StatisticsModel again;
  again.channels = s.channels;
  if (bn2d_statistics_create(s.channels, &again.handle) != BN2D_OK ||
      bn2d_statistics_merge_exported(again.handle, old.data(), static_cast<int64_t>(old.size())) !=
          BN2D_OK)
    found(what, bn2d_last_error());
  const int32_t threads = bn2d_get_num_threads();
  bn2d_set_num_threads(in_.pick({1, 2, 3, 8}));
  const int32_t status = call(again.handle);
  bn2d_set_num_threads(threads);
  const Values one = exported(s), other = exported(again);
  bn2d_statistics_release(again.handle);
  if (status != BN2D_OK) found(what, "once more fails");
  for (size_t i = 0; i < one.size(); ++i)
    if (std::memcmp(&one[i], &other[i], sizeof(double)) != 0 &&
        !(std::isnan(one[i]) && std::isnan(other[i])))
      found(what, "once more gives other bits at " + std::to_string(i) + " of the export");
}

void Machine::merge_statistics(size_t index) {
  StatisticsModel &s = statistics_[index];
  const size_t other_index =
      static_cast<size_t>(in_.below(static_cast<int64_t>(statistics_.size())));
  const StatisticsModel other = statistics_[other_index];  // which may be the same
  Verdict verdict;
  if (other.channels != s.channels) verdict.must.add(BN2D_ERROR_SHAPE);
  int64_t more = other.count;
  bool known = other.known;
  std::string what = "statistics_merge";
  int32_t status = BN2D_OK;
  bn2d_statistics *handle = spoil(s.handle, verdict);
  if (in_.coin()) {
    const bn2d_statistics *from = spoil_statistics(other.handle, true, verdict);
    if (more > kMostValues - s.count) verdict.must.add(BN2D_ERROR_OVERFLOW);
    before(what);
    status = bn2d_statistics_merge(handle, from);
  } else {
    what = "statistics_merge_exported";
    Values values = exported(other);
    if (in_.one_in(4)) {  // the arrays of somebody else
      const double count = in_.pick({0.0, 1.0, 9007199254740992.0, 9007199254740000.0, -1.0, 1.5,
                                     nan, infinity, 9007199254740994.0, -0.0});
      values[0] = count;
      if (!(count >= 0 && count <= 9007199254740992.0 && count == std::floor(count))) {
        verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
        more = 0;
      } else {
        more = static_cast<int64_t>(count);
      }
      known = false;
    }
    if (in_.one_in(6) && other.channels > 0) {
      const auto at = static_cast<size_t>(1 + in_.below(4 * other.channels));
      values[at] = in_.pick({nan, infinity, -infinity, -1.0, 1e308, -0.0, 5e-324});
      const auto channels = static_cast<size_t>(other.channels);
      for (size_t square = 1 + 2 * channels; square <= 3 * channels && more > 0; ++square)
        if (values[square] + values[square + channels] < 0)
          verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
      known = false;
    }
    const Operand array = place_.array("values", 2, BN2D_F64, static_cast<int64_t>(values.size()),
                                       false, true, nullptr);
    verdict.must.add(array.faults);
    for (size_t i = 0; array.whole() && i < values.size(); ++i)
      std::memcpy(memory_.at(array.footprint.offsets[i]), &values[i], sizeof(double));
    int64_t length = static_cast<int64_t>(values.size());
    if (in_.one_in(40)) {
      length += in_.pick<int64_t>({-1, 1, -length, INT64_MAX - 400});
      verdict.must.add(BN2D_ERROR_SHAPE);
    }
    if (more > kMostValues - s.count) verdict.must.add(BN2D_ERROR_OVERFLOW);
    before(what);
    status =
        bn2d_statistics_merge_exported(handle, static_cast<const double *>(array.data), length);
  }
  if (!settle(what, status, verdict)) return;
  changing_ = static_cast<int>(index);
  check_only(what, {}, -1, {});
  if (more == 0) return judge_statistics(what, s);
  s.count += more;
  s.known = s.known && known;
  s.all_f64 = s.all_f64 && other.all_f64;
  for (size_t c = 0; c < s.values.size() && s.known; ++c) {
    s.values[c].insert(s.values[c].end(), other.values[c].begin(), other.values[c].end());
    s.parts[c] = std::max(s.parts[c], other.parts[c]);
    if (s.values[c].size() > kMostKept) s.known = false;
  }
  judge_statistics(what, s);
}

void Machine::read_statistics(size_t index) {
  const StatisticsModel &s = statistics_[index];
  Verdict verdict;
  const bn2d_statistics *handle = spoil(s.handle, verdict);
  switch (in_.below(4)) {
    case 0: {
      int64_t count = -7;
      before();
      simple("statistics_count", bn2d_statistics_count(handle, &count), verdict);
      if (count != (verdict.must.empty() ? s.count : -7))
        found("statistics_count", "is " + std::to_string(count));
      return;
    }
    case 1: {
      int64_t length = -7;
      before();
      simple("statistics_export_length", bn2d_statistics_export_length(handle, &length), verdict);
      if (length != (verdict.must.empty() ? 1 + 4 * s.channels : -7))
        found("statistics_export_length", "is " + std::to_string(length));
      return;
    }
    case 2: {
      const Operand values =
          place_.array("values", 3, BN2D_F64, 1 + 4 * s.channels, true, true, nullptr);
      verdict.must.add(values.faults);
      int64_t length = 1 + 4 * s.channels;
      if (in_.one_in(24)) {
        length += in_.pick<int64_t>({-1, 1, -length, INT64_MAX - 400});
        verdict.must.add(BN2D_ERROR_SHAPE);
      }
      before("statistics_export");
      if (settle("statistics_export",
                 bn2d_statistics_export(handle, static_cast<double *>(values.data), length),
                 verdict))
        check_only("statistics_export", {&values}, -1, {});
      return;
    }
    default: {
      const Operand mean = place_.array("mean", 3, BN2D_F64, s.channels, true, !in_.one_in(4),
                                        nullptr),
                    var = place_.array("var", 4, BN2D_F64, s.channels, true, !in_.one_in(4), &mean);
      place_.judge({&mean, &var}, verdict);
      int64_t length = s.channels;
      if (in_.one_in(24)) {
        length += in_.pick<int64_t>({-1, 1, -length, INT64_MAX - 400});
        verdict.must.add(BN2D_ERROR_SHAPE);
      }
      if (s.count == 0) verdict.must.add(BN2D_ERROR_TOO_FEW_VALUES);
      before("statistics_mean_var");
      if (settle("statistics_mean_var",
                 bn2d_statistics_mean_var(handle, mean.as<double>(), var.as<double>(), length),
                 verdict))
        check_only("statistics_mean_var", {&mean, &var}, -1, {});
      return;
    }
  }
}

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

// -------------------------------------------------------------------------------------------------
// backward in two steps

void Machine::backward_in_steps() {
  const int picked = pick_record();
  if (picked < 0) return forward(true);
  const RecordModel &r = records_[static_cast<size_t>(picked)];
  if (!modules_[r.module]->alive()) return;
  ModuleModel &m = *modules_[r.module];
  const Numbers &n = r.numbers;
  const Extents &shape = r.shape;
  Verdict verdict;
  if (!n.batch || m.norm != BN2D_NORM_BATCH || m.options.ghost != 0)
    verdict.must.add(BN2D_ERROR_STATE);
  const bool flat = in_.one_in(3), nhwc = flat && in_.coin();
  const int32_t layout = nhwc ? BN2D_NHWC : BN2D_NCHW;
  const auto tensor = [&](const char *name, size_t room, bool written, bool optional,
                          const Operand *like) {
    return flat ? place_.plain(name, room, n.data, shape, nhwc, written, optional, like)
                : place_.tensor(name, room, n.data, shape, written, optional, like);
  };
  const Operand dy = tensor("dy", 3, false, false, nullptr);
  Operand sums = place_.array("sums", 6, BN2D_F64, 2 * m.channels, true, true, &dy);
  int64_t length = 2 * m.channels;
  const bool wrong_length = in_.one_in(40);
  if (wrong_length) length += in_.pick<int64_t>({-1, 1, -length, INT64_MAX - 400});
  if (wrong_length) verdict.must.add(BN2D_ERROR_SHAPE);
  place_.fill(dy, shape, in_.one_in(4));
  const bool empty = bn2d_test::count_of(shape) == 0;
  TensorModel *weight = m.find("weight"), *bias = m.find("bias");
  const bool weight_wants = weight != nullptr && weight->requires_grad,
             bias_wants = bias != nullptr && bias->requires_grad;
  const auto fresh = [&](const Operand &borrowed, const std::vector<uint64_t> &bits) {
    return place_.bits(borrowed) == bits;
  };
  const auto known = [&] {
    return fresh(r.x, r.x_bits) && (!r.borrows_y || fresh(r.y, r.y_bits)) &&
           (!r.z.given || fresh(r.z, r.z_bits));
  };
  const auto text = [&](const char *step) {
    return std::string(step) + (flat ? "_flat" : "") + " " +
           numerics::name_of(n.data, n.parameters) + m.text() + dy.text() + " act " +
           std::to_string(n.activation.kind) + (n.batch ? "" : " frozen") +
           (n.count != 0 ? " given" : "");
  };

  // The first step.
  if (!in_.one_in(6)) {
    Verdict first = verdict;
    if (in_.one_in(80)) sums.given = false, first.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    if (r.in_place) first.must.add(BN2D_ERROR_STATE);
    Operand x = r.x, y = r.y, z = r.z;
    x.written = y.written = z.written = false;
    std::vector<const Operand *> all = {&dy, &sums, &x};
    if (r.borrows_y) all.push_back(&y);
    if (z.given) all.push_back(&z);
    place_.judge({&dy, &sums}, first);
    place_.judge_arrays(all, empty, first);
    bn2d_module *handle = spoil(m.handle, first);
    const bn2d_record *record = spoil(r.handle, first);
    const Values old_dweight = m.values("weight.grad"), old_dbias = m.values("bias.grad");
    const bool is_known = known();
    const std::string what = text("backward_sums");
    const auto call = [&] {
      return flat ? bn2d_backward_sums_flat(handle, record, n.data, layout, dy.data,
                                            sums.as<double>(), length)
                  : bn2d_backward_sums(handle, record, dy.pointer(), sums.as<double>(), length);
    };
    before(what);
    Values dys;
    if (first.must.empty()) dys = place_.values(dy);
    if (!settle(what, call(), first)) return;
    std::vector<std::string> moved;
    if (weight_wants) moved.push_back("weight.grad");
    if (bias_wants) moved.push_back("bias.grad");
    check_only(what, {&sums}, static_cast<int>(r.module), moved);
    if (is_known && !dys.empty()) {
      const Values dweight = m.values("weight.grad"), dbias = m.values("bias.grad");
      BackwardResults results;
      results.dweight = weight_wants ? &dweight : nullptr;
      results.dbias = bias_wants ? &dbias : nullptr;
      results.old_dweight = old_dweight, results.old_dbias = old_dbias;
      std::string problem = judge_backward(n, dys, results);
      if (problem.empty()) problem = judge_sums(n, dys, place_.values(sums));
      if (!problem.empty()) found(what, problem);
      reach(n.count != 0 ? "sums given" : "sums batch");
      reach_blocks("sums", {&dy});
    }
    repeat(what, {&sums}, call);
    sums.given = true;
  } else {
    place_.fill(sums, {1, 2 * m.channels, 1, 1}, in_.one_in(4));
  }

  // The second, with the sums of other parts on top.
  sums.written = false;
  if (sums.whole() && in_.coin()) {
    numerics::Random random(in_.seed() + 1);
    for (const uint32_t offset : sums.footprint.offsets) {
      double sum = 0;
      std::memcpy(&sum, memory_.at(offset), sizeof sum);
      sum += random.normal();
      std::memcpy(memory_.at(offset), &sum, sizeof sum);
    }
  }
  const Operand dx = tensor("dx", 4, true, true, &dy), dz = tensor("dz", 5, true, true, &dy);
  const bool only_checks = in_.one_in(12);
  if (only_checks) sums.given = false, sums.faults = {};
  place_.judge({&dy, &dx, &dz, &sums}, verdict);
  place_.judge_arrays({&dy, &dx, &dz, &sums}, empty, verdict);
  const bool reads_x = dx.given || r.side_of_x || r.pointwise;
  for (const Operand *output : {&dx, &dz}) {
    place_.judge_overlap(*output, dy, true, verdict);
    if (reads_x) place_.judge_overlap(*output, r.x, false, verdict);
    if (r.borrows_y) place_.judge_overlap(*output, r.y, false, verdict);
    place_.judge_overlap(*output, r.z, false, verdict);
    // A check of both steps knows that the first one reads x for the weight.
    Verdict of_first;
    if (only_checks && weight_wants) place_.judge_overlap(*output, r.x, false, of_first);
    verdict.may.add(of_first.must);
  }
  bn2d_module *handle = spoil(m.handle, verdict);
  const bn2d_record *record = spoil(r.handle, verdict);
  const bool is_known = known() || (!reads_x && !r.borrows_y);
  const std::string what =
      text("backward_with_sums") + dx.text() + dz.text() + (only_checks ? " only checking" : "");
  const auto call = [&] {
    return flat ? bn2d_backward_with_sums_flat(handle, record, n.data, layout, dy.data,
                                               sums.as<double>(), length, dx.data, dz.data)
                : bn2d_backward_with_sums(handle, record, dy.pointer(), sums.as<double>(), length,
                                          dx.pointer(), dz.pointer());
  };
  before(what);
  Values dys;
  BackwardResults results;
  if (verdict.must.empty() && !only_checks) {
    dys = place_.values(dy);
    const Values all = place_.values(sums);
    const auto half = all.begin() + m.channels;
    results.g.assign(all.begin(), half), results.g_deviation.assign(half, all.end());
  }
  if (!settle(what, call(), verdict)) return;
  if (only_checks) return check_only(what, {}, -1, {});
  check_only(what, {&dx, &dz}, -1, {});
  if (is_known && !dys.empty()) {
    const Values got_dx = place_.values(dx), got_dz = place_.values(dz);
    results.dx = dx.given ? &got_dx : nullptr;
    results.dz = dz.given ? &got_dz : nullptr;
    const std::string problem = judge_backward(n, dys, results);
    if (!problem.empty()) found(what, problem);
    reach(n.count != 0 ? "with sums given" : "with sums batch");
    reach_blocks("with sums", {&dy, &dx, &dz});
  }
  repeat(what, {&dx, &dz}, call);
}

}  // namespace bn2d_fuzz
