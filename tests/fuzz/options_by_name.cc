// Options by name and value, as texts.
#include <cmath>

#include "fuzz/machine.h"

namespace bn2d_fuzz {
namespace {

struct Known {
  const char *name, *value;
  int32_t status;
  void (*apply)(OptionsModel &);
};
const Known kKnown[] = {
    {"eps", "1e-3", BN2D_OK, [](OptionsModel &m) { m.eps = 1e-3; }},
    {"eps", "0", BN2D_OK, [](OptionsModel &m) { m.eps = 0; }},
    {"eps", "-1", BN2D_ERROR_INVALID_ARGUMENT, nullptr},
    {"eps", "nan", BN2D_ERROR_INVALID_ARGUMENT, nullptr},
    {"momentum", "0.25", BN2D_OK,
     [](OptionsModel &m) {
       m.momentum = 0.25, m.has_momentum = true, m.touched |= OptionsModel::kMomentum;
     }},
    {"momentum", "None", BN2D_OK,
     [](OptionsModel &m) { m.has_momentum = false, m.touched |= OptionsModel::kMomentum; }},
    {"momentum", "none", BN2D_OK,
     [](OptionsModel &m) { m.has_momentum = false, m.touched |= OptionsModel::kMomentum; }},
    {"momentum", "2", BN2D_ERROR_INVALID_ARGUMENT, nullptr},
    {"affine", "False", BN2D_OK,
     [](OptionsModel &m) { m.affine = false, m.touched |= OptionsModel::kAffine; }},
    {"affine", "1", BN2D_OK,
     [](OptionsModel &m) { m.affine = true, m.touched |= OptionsModel::kAffine; }},
    {"bias", "false", BN2D_OK, [](OptionsModel &m) { m.bias = false; }},
    {"bias", "yes", BN2D_ERROR_INVALID_ARGUMENT, nullptr},
    {"track_running_stats", "True", BN2D_OK,
     [](OptionsModel &m) { m.track = true, m.touched |= OptionsModel::kTrack; }},
    {"track_running_stats", "0", BN2D_OK,
     [](OptionsModel &m) { m.track = false, m.touched |= OptionsModel::kTrack; }},
    {"biased_running_var", "1", BN2D_OK,
     [](OptionsModel &m) { m.biased = true, m.touched |= OptionsModel::kStatistics; }},
    {"protect_running_stats", "true", BN2D_OK,
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

}  // namespace

// What is well known must be taken, and with the same effect as by the setter; on anything else the
// options stay what they are or become something that a module can be made from.
void Machine::options_by_name() {
  if (options_.empty()) return options();
  OptionsModel &o = options_[0];
  const Known &chosen = in_.one_of(kKnown);
  if (in_.one_in(3)) return set_garbage(chosen.name);
  Verdict verdict;
  verdict.fails_if(chosen.status != BN2D_OK, chosen.status);
  bn2d_options *handle = spoil(o.handle, verdict);
  const bool no_name = in_.one_in(64), no_value = in_.one_in(64);
  verdict.fails_if(no_name || no_value);
  before();
  simple(std::string("options_set_by_name ") + chosen.name + "=" + chosen.value,
         bn2d_options_set_by_name(handle, no_name ? nullptr : chosen.name,
                                  no_value ? nullptr : chosen.value),
         verdict);
  if (verdict.must.empty()) chosen.apply(o);
}

void Machine::set_garbage(std::string name) {
  const std::string what = "options_set_by_name with garbage";
  if (in_.one_in(4)) {
    name.clear();
    for (int64_t i = in_.below(80); i > 0; --i) name += static_cast<char>(in_.byte());
  }
  std::string value;
  for (int64_t i = in_.below(24); i > 0; --i)
    value +=
        in_.one_in(4) ? static_cast<char>(in_.byte()) : "0123456789.e+-naifxTrue"[in_.below(23)];
  bn2d_options *garbage = nullptr;
  if (bn2d_options_create(&garbage) != BN2D_OK) return;
  Verdict verdict;
  for (const int32_t status :
       {BN2D_ERROR_INVALID_ARGUMENT, BN2D_ERROR_NOT_FOUND, BN2D_ERROR_DTYPE, BN2D_ERROR_DEVICE})
    verdict.may.add(status);
  before();
  const int32_t status = bn2d_options_set_by_name(garbage, name.c_str(), value.c_str());
  const bool taken = settle(what, status, verdict), good = !taken || makes_a_module(garbage);
  bn2d_options_release(garbage);
  if (!good) found(what, "took " + name + "=" + value + ", of which no good module can be made");
}

bool Machine::makes_a_module(const bn2d_options *options) {
  bn2d_module *made = nullptr;
  if (bn2d_module_create(1, options, &made) != BN2D_OK) return false;
  double eps = nan, momentum = nan;
  int32_t has = 1;
  bn2d_module_eps(made, &eps);
  bn2d_module_momentum(made, &has, &momentum);
  bn2d_module_release(made);
  return eps >= 0 && std::isfinite(eps) && (has == 0 || (momentum >= 0 && momentum <= 1));
}

}  // namespace bn2d_fuzz
