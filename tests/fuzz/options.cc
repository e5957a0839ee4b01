// Options, by their setters.
#include <cmath>

#include "fuzz/call.h"

namespace bn2d_fuzz {

struct Machine::SetOption : Machine::Call {
  explicit SetOption(Machine &of)
      : Call(of), o(in.one_of(of.options_)), handle(of.spoil(o.handle, verdict)) {}
  void run();
  void ghost_batch_size();

 private:
  OptionsModel &o;
  bn2d_options *const handle;

  template <class Value, class Model>
  void set(const char *name, int32_t (*function)(bn2d_options *, Value), Value value, Model &model,
           unsigned touched = 0);
  void flag(const char *name, int32_t (*function)(bn2d_options *, int32_t), bool &model,
            unsigned touched = 0);
  void eps();
  void momentum();
  void momentum_none();
  void statistics();
  void dtype();
  void num_threads();
  void device();
};

void Machine::options() {
  if (options_.empty() || (options_.size() < 3 && in_.one_in(4))) return create_options();
  SetOption(*this).run();
}

void Machine::create_options() {
  bn2d_options *made = nullptr;
  before();
  Verdict verdict;
  const bool null = in_.one_in(32);
  verdict.fails_if(null);
  simple("options_create", bn2d_options_create(null ? nullptr : &made), verdict);
  if (null) return;
  options_.push_back({});
  options_.back().handle = made, options_.back().references = 1;
}

void Machine::set_ghost_batch_size() {
  if (options_.empty()) return options();
  SetOption(*this).ghost_batch_size();
}

void Machine::SetOption::run() {
  machine.before();
  switch (in.below(10)) {
    case 0:
      return eps();
    case 1:
      return momentum();
    case 2:
      return momentum_none();
    case 3:
      return flag("options_set_affine", bn2d_options_set_affine, o.affine, OptionsModel::kAffine);
    case 4:
      return flag("options_set_bias", bn2d_options_set_bias, o.bias);
    case 5:
      return flag("options_set_track_running_stats", bn2d_options_set_track_running_stats, o.track,
                  OptionsModel::kTrack);
    case 6:
      return statistics();
    case 7:
      return dtype();
    case 8:
      return num_threads();
    default:
      return device();
  }
}

template <class Value, class Model>
void Machine::SetOption::set(const char *name, int32_t (*function)(bn2d_options *, Value),
                             Value value, Model &model, unsigned touched) {
  machine.simple(name, function(handle, value), verdict);
  if (verdict.must.empty()) model = static_cast<Model>(value), o.touched |= touched;
}

void Machine::SetOption::flag(const char *name, int32_t (*function)(bn2d_options *, int32_t),
                              bool &model, unsigned touched) {
  const int32_t value =
      in.one_in(16) ? in.pick({-1, 2, INT32_MAX}) : static_cast<int32_t>(in.below(2));
  verdict.fails_if(value != 0 && value != 1);
  set(name, function, value, model, touched);
}

void Machine::SetOption::eps() {
  const double eps =
      in.pick({1e-5, 0.0, 1e-3, 1.0, 1e-300, 5e-324, 1e30, -0.0, -1e-5, nan, infinity});
  verdict.fails_if(!(std::isfinite(eps) && eps >= 0));
  set("options_set_eps", bn2d_options_set_eps, eps, o.eps);
}

void Machine::SetOption::momentum() {
  const double momentum = machine.choose_momentum(verdict);
  set("options_set_momentum", bn2d_options_set_momentum, momentum, o.momentum,
      OptionsModel::kMomentum);
  if (verdict.must.empty()) o.has_momentum = true;
}

void Machine::SetOption::momentum_none() {
  machine.simple("options_set_momentum_none", bn2d_options_set_momentum_none(handle), verdict);
  if (verdict.must.empty()) o.has_momentum = false, o.touched |= OptionsModel::kMomentum;
}

void Machine::SetOption::statistics() {
  if (in.coin())
    flag("options_set_biased_running_var", bn2d_options_set_biased_running_var, o.biased,
         OptionsModel::kStatistics);
  else
    flag("options_set_protect_running_stats", bn2d_options_set_protect_running_stats, o.protect,
         OptionsModel::kStatistics);
}

void Machine::SetOption::dtype() {
  const int32_t dtype = in.one_in(12) ? in.pick<int32_t>({0, BN2D_I64, 6, -1, INT32_MIN})
                                      : static_cast<int32_t>(1 + in.below(4));
  verdict.fails_if(dtype < BN2D_F32 || dtype > BN2D_BF16, BN2D_ERROR_DTYPE);
  set("options_set_dtype", bn2d_options_set_dtype, dtype, o.dtype);
}

void Machine::SetOption::num_threads() {
  const int32_t threads = in.pick<int32_t>({0, 1, 2, 3, INT32_MAX, -1, INT32_MIN});
  verdict.fails_if(threads < 0);
  set("options_set_num_threads", bn2d_options_set_num_threads, threads, o.threads);
}

void Machine::SetOption::device() {
  const int32_t type = in.pick<int32_t>({BN2D_CPU, BN2D_CPU, BN2D_CUDA, BN2D_ROCM, 0, -1});
  const int32_t id = in.pick({0, 0, 1});
  verdict.fails_if(type != BN2D_CPU || id != 0, BN2D_ERROR_DEVICE);
  machine.simple("options_set_device", bn2d_options_set_device(handle, type, id), verdict);
}

void Machine::SetOption::ghost_batch_size() {
  const int64_t samples = in.pick<int64_t>({0, 1, 2, 3, INT64_MAX, -1, INT64_MIN});
  verdict.fails_if(samples < 0);
  machine.before();
  const bool by_name = samples < 4 && in.coin();
  const int32_t status =
      by_name ? bn2d_options_set_by_name(handle, "ghost_batch_size",
                                         std::to_string(std::max(samples, int64_t{-9})).c_str())
              : bn2d_options_set_ghost_batch_size(handle, samples);
  machine.simple("options_set_ghost_batch_size", status, verdict);
  if (verdict.must.empty()) o.ghost = samples, o.touched |= OptionsModel::kGhost;
}

}  // namespace bn2d_fuzz
