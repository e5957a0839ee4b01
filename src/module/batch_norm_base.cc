#include "module/batch_norm_base.h"

#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <limits>

#include "ops/unbounded.h"

namespace bn2d {
namespace {

uint64_t next_id() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

// Two arrays that may be NULL, the first of them written.
void check_apart(const char *name, const ChannelArray &written, int64_t bytes,
                 const char *other_name, const ChannelArray &other, int64_t other_bytes) {
  if (!written.exists() || !other.exists()) return;
  const auto begin = reinterpret_cast<uintptr_t>(written.data),
             other_begin = reinterpret_cast<uintptr_t>(other.data);
  if (begin < other_begin + static_cast<uintptr_t>(other_bytes) &&
      other_begin < begin + static_cast<uintptr_t>(bytes))
    fail(Status::overlap, "%s at %p and %s at %p share memory", name, written.data, other_name,
         other.data);
}

void check_channels(const Statistics &statistics, int64_t num_features) {
  if (statistics.num_features() != num_features)
    fail(Status::shape,
         "the statistics are of %" PRId64 " channels, the module has num_features %" PRId64,
         statistics.num_features(), num_features);
}

void check_count(const Statistics &statistics, int64_t least) {
  if (statistics.count() < least)
    fail(Status::too_few_values,
         "values per channel: the statistics have %" PRId64 ", at least %" PRId64 " needed",
         statistics.count(), least);
}

// What has no sums between forward and backward has no two steps.
void check_steps(const Record &record) {
  if (!record.batch_statistics)
    fail(Status::state,
         "the record is of a forward on running statistics, whose backward has one step");
}

ChannelArray array_of(const std::shared_ptr<Tensor> &tensor) {
  return tensor ? tensor->array() : ChannelArray();
}

}  // namespace

BatchNormBase::BatchNormBase(int64_t num_features, const Options &options)
    : num_features_(num_features),
      options_(options),
      id_(next_id()),
      momentum_(options.momentum.value_or(std::nan(""))),
      num_threads_(options.num_threads) {
  if (num_features < 1)
    fail(Status::invalid_argument, "num_features is %" PRId64 ", must be 1 or more", num_features);
  check_extents("num_features", {1, num_features, 1, 1});
  auto add = [&](const char *name, const char *gradient, Tensor::Kind kind, DType dtype,
                 int64_t length, bool scalar, double initial) {
    tensors_.push_back(
        std::make_shared<Tensor>(name, gradient, kind, dtype, length, scalar, initial));
    return tensors_.back();
  };
  const DType dtype = options.dtype;
  if (options.affine) {
    weight_ = add("weight", "weight.grad", Tensor::Kind::parameter, dtype, num_features, false, 1);
    if (options.bias)
      bias_ = add("bias", "bias.grad", Tensor::Kind::parameter, dtype, num_features, false, 0);
  }
  if (options.track_running_stats) {
    running_mean_ =
        add("running_mean", nullptr, Tensor::Kind::buffer, dtype, num_features, false, 0);
    running_var_ = add("running_var", nullptr, Tensor::Kind::buffer, dtype, num_features, false, 1);
    num_batches_tracked_ =
        add("num_batches_tracked", nullptr, Tensor::Kind::buffer, DType::i64, 1, true, 0);
  }
}

BatchNormBase::~BatchNormBase() = default;

std::string BatchNormBase::repr_of(const char *class_name) const {
  const double now = momentum();
  char text[256], ghost[48] = "";  // sums of strings would be 4 KB of code
  if (options_.ghost_batch_size != 0)
    std::snprintf(ghost, sizeof ghost, ", ghost_batch_size=%" PRId64, options_.ghost_batch_size);
  std::snprintf(text, sizeof text,
                "%s(%" PRId64 ", eps=%s, momentum=%s, affine=%s, track_running_stats=%s%s%s)",
                class_name, num_features_, python_float(options_.eps).c_str(),
                std::isnan(now) ? "None" : python_float(now).c_str(), python_bool(options_.affine),
                python_bool(options_.track_running_stats), ghost,
                is_frozen() ? ", frozen=True" : "");
  return text;
}

void BatchNormBase::train(bool training) {
  const Gate::Pass pass(gate_, true);
  training_.store(training, std::memory_order_relaxed);
}

void BatchNormBase::set_momentum(double momentum) {
  if (norm() == Norm::group)
    fail(Status::state, "%.150s has no running statistics, so no momentum", repr().c_str());
  const Gate::Pass pass(gate_, true);
  momentum_.store(momentum, std::memory_order_relaxed);
}

void BatchNormBase::set_frozen(bool frozen) {
  const Gate::Pass pass(gate_, true);
  if (frozen && !running_mean_)
    fail(Status::state, "%.150s has no running statistics to be frozen", repr().c_str());
  frozen_.store(frozen, std::memory_order_relaxed);
}

void BatchNormBase::set_num_threads(int32_t threads) {
  const int32_t checked = checked_thread_limit(threads);
  const Gate::Pass pass(gate_, true);
  num_threads_.store(checked, std::memory_order_relaxed);
}

void BatchNormBase::set_pool(const Pool *pool) {
  const Gate::Pass pass(gate_, true);
  pool_.store(pool, std::memory_order_release);
}

void BatchNormBase::reset_running_stats() {
  const Gate::Pass pass(gate_, true);
  reset_running_stats_unguarded();
}

void BatchNormBase::reset_running_stats_unguarded() {
  if (!running_mean_) return;
  running_mean_->fill(0);
  running_var_->fill(1);
  num_batches_tracked_->fill(0);
}

void BatchNormBase::reset_parameters() {
  const Gate::Pass pass(gate_, true);
  reset_running_stats_unguarded();
  if (weight_) weight_->fill(1);
  if (bias_) bias_->fill(0);
}

void BatchNormBase::zero_grad() {
  const Gate::Pass pass(gate_, true);
  for (const auto &tensor : tensors_)
    if (tensor->gradient()) tensor->gradient()->fill(0);
}

// As a forward without elements, whose momentum is 1.
void BatchNormBase::set_running_stats(const Statistics &statistics) {
  const Gate::Pass pass(gate_, true);
  if (!running_mean_)
    fail(Status::state, "%.150s has no running statistics to set", repr().c_str());
  if (norm() == Norm::instance)
    fail(Status::state,
         "%.150s takes no running statistics from outside: its own are averages over samples",
         repr().c_str());
  check_channels(statistics, num_features_);
  check_count(statistics, options_.biased_running_var ? 1 : 2);
  ForwardCall call;
  call.x.size = {0, num_features_, 1, 1};
  set_module(&call);
  call.given = statistics.moments();
  call.averaging_factor = 1;
  bn2d::forward(call);
}

namespace {

double shift_of(double mean, double weight, double variance, double scale, double bias) {
  if (std::isfinite(scale)) return std::fma(-mean, scale, bias);  // one rounding for both
  // A scale beyond double may have a shift within, of a mean of 0 for one.
  using unbounded::Number;
  const Number product = Number(mean) * Number(weight) * Number(variance).inverse_sqrt();
  return (Number(bias) - product).to_double();
}

}  // namespace

void BatchNormBase::scale_shift(ChannelArray scale, ChannelArray shift) const {
  const Gate::Pass pass(gate_, false);
  if (!running_mean_)
    fail(Status::state, "%.150s has no running statistics: y depends on the elements of x",
         repr().c_str());
  const int64_t bytes = num_features_ * dtype_size(scale.dtype);
  const auto check_written = [&](const char *name, const ChannelArray &written) {
    check_array(name, written.data, bytes, dtype_size(written.dtype));
    for (const auto &tensor : tensors_)
      check_apart(name, written, bytes, tensor->name(), tensor->array(), tensor->nbytes());
  };
  check_written("scale", scale);
  check_written("shift", shift);
  check_apart("scale", scale, bytes, "shift", shift, bytes);
  for (int64_t c = 0; c < num_features_; ++c) {
    const double variance = running_var_->array().get(c) + options_.eps,
                 weight = weight_ ? weight_->array().get(c) : 1;
    const double factor = variance == 0 ? 0 : weight / std::sqrt(variance);
    if (scale.exists()) scale.set(c, factor);
    if (shift.exists())
      shift.set(c, shift_of(running_mean_->array().get(c), weight, variance, factor,
                            bias_ ? bias_->array().get(c) : 0));
  }
}

void BatchNormBase::check_input(const char *what, const View &view) const {
  if (view.size.c != num_features())
    fail(Status::shape, "%s has %" PRId64 " channels, the module has num_features %" PRId64, what,
         view.size.c, num_features());
  const DType dtype = view.dtype, own = options_.dtype;
  if (!may_mix(dtype, own))
    fail(Status::dtype,
         "%s is %s, the module is %s; they must agree, or float16/bfloat16 data meet a float32 "
         "module",
         what, dtype_name(dtype), dtype_name(own));
}

// Statistics from outside are of whole channels: only a batch norm without ghost batches has such
// sets.
void BatchNormBase::check_takes_statistics() const {
  if (norm() != Norm::batch || options_.ghost_batch_size != 0)
    fail(Status::state,
         "%.150s takes no statistics from outside, only a batch norm without ghost batches does",
         repr().c_str());
}

void BatchNormBase::forward(const View &x, const View &z, const Fused &fused, const View &y,
                            const StatisticsSource &source, std::unique_ptr<Record> *record) {
  check_input("x", x);
  if (source.outside) check_takes_statistics();
  const bool moves = moves_statistics();
  // Exclusive where statistics move, and for a batch norm that has none: so bn2d.h says since 1.0.
  const Gate::Pass pass(gate_, moves || (!running_mean_ && norm() == Norm::batch));
  if (moves != moves_statistics())
    fail(Status::busy, "the module's mode changed to %s during the call",
         moves ? "eval" : "training");

  ForwardCall call;
  call.x = x;
  call.z = z;
  call.y = y;
  call.fused = fused;
  call.batch_statistics = moves || !running_mean_;
  call.keeps_x = record != nullptr;
  set_module(&call);
  const int64_t batches = call.batch_statistics ? call.sets.count(x.size) / num_features_ : 1;
  int64_t *const counter = moves ? set_averaging(batches, &call) : nullptr;
  if (source.outside) set_given(source, &call);
  check(call);
  if (source.outside && !source.given) return;
  std::unique_ptr<Record> made = record ? make_record(&call) : nullptr;
  bn2d::forward(call);
  if (counter) *counter += batches;
  if (record) *record = std::move(made);
}

void BatchNormBase::set_module(ForwardCall *call) const {
  call->weight = array_of(weight_);
  call->bias = array_of(bias_);
  call->running_mean = array_of(running_mean_);
  call->running_var = array_of(running_var_);
  if (call->batch_statistics) call->sets = sets();
  call->least_values = least_values();
  call->eps = options_.eps;
  call->biased_running_var = options_.biased_running_var;
  call->protect_running_stats = options_.protect_running_stats;
  call->thread_limit = num_threads();
  call->pool = pool();
}

// As in PyTorch, an instance norm does not count, and without momentum its averages stay.
int64_t *BatchNormBase::set_averaging(int64_t batches, ForwardCall *call) const {
  const bool counts = num_batches_tracked_ && norm() != Norm::instance;
  int64_t *const counter = counts ? checked_counter(batches) : nullptr;
  call->counter = counter;
  call->averages_sets = norm() == Norm::instance;
  if (!std::isnan(momentum())) {
    call->averaging_factor = momentum();
  } else if (counter) {
    call->cumulative_from = *counter;
    call->averaging_factor = 1.0 / static_cast<double>(*counter + 1);
  } else {
    call->averaging_factor = 0;
  }
  return counter;
}

void BatchNormBase::set_given(const StatisticsSource &source, ForwardCall *call) const {
  if (!call->batch_statistics)
    fail(Status::state, "the module is %s, so its statistics are the running ones",
         is_frozen() ? "frozen" : "in eval mode");
  call->given.count = 2;  // any: check() asks only whether there are given statistics
  if (source.given == nullptr) return;
  check_channels(*source.given, num_features_);
  check_count(*source.given, 2);
  call->given = source.given->moments();
}

// The host may write the counter.
int64_t *BatchNormBase::checked_counter(int64_t batches) const {
  int64_t *const counter = num_batches_tracked_->counter();
  const int64_t most = std::numeric_limits<int64_t>::max() - batches;
  if (*counter < 0 || *counter > most)
    fail(Status::state,
         "num_batches_tracked is %" PRId64 ", must be from 0 to %" PRId64 " to count %" PRId64
         " more",
         *counter, most, batches);
  return counter;
}

std::unique_ptr<Record> BatchNormBase::make_record(ForwardCall *call) const {
  std::unique_ptr<Record> record = records_->take();
  record->module_id = id_;
  record->x = call->x;
  record->x_is_overwritten = call->y.data == call->x.data;
  record->fused = call->fused;
  record->batch_statistics = call->batch_statistics;
  record->count = call->given.count;
  record->sets = call->sets;
  const int64_t parameters = call->fused.is_pointwise() ? 2 : 1;
  record->statistics.resize(
      static_cast<size_t>(3 * record->set_count() + parameters * num_features_));
  record->y = View();
  record->z = call->fused.is_pointwise() ? call->z : View();
  record->mask.clear();
  record->side.clear();
  const bool has_activation = call->fused.has_sides();
  if (has_activation && call->batch_statistics && !call->z.exists()) {
    // Backward reads x anyway for dx and dweight, and then no third tensor. With frozen statistics
    // it does not, and x may be overwritten.
    record->side.resize(static_cast<size_t>(2 * call->sets.channels * record->set_count()));
  } else if (call->fused.activation == Activation::leaky_relu && call->fused.slope < 0 &&
             call->x.size.numel() != 0) {
    record->mask.resize(static_cast<size_t>(call->x.size.n * call->x.size.c *
                                            mask_plane_bytes(call->x.size.plane())));
    call->mask = record->mask.data();
  } else if (has_activation) {
    record->y = call->y;
  }
  call->saved = record->saved();
  return record;
}

void BatchNormBase::check_owner(const Record &record) const {
  if (record.module_id != id_)
    fail(Status::state, "the record is of module %" PRIu64 ", this is module %" PRIu64,
         record.module_id, id_);
}

void BatchNormBase::check_record(const Record &record, const View &dy) const {
  check_same_dtype("dy", dy, "the recorded x", record.x);
  check_same_shape("dy", dy, "the recorded x", record.x);
}

ChannelArray BatchNormBase::gradient_of(const std::shared_ptr<Tensor> &parameter) const {
  if (!parameter || !parameter->requires_grad.load(std::memory_order_relaxed)) return {};
  return parameter->gradient()->array();
}

namespace {

// What both backwards take from the record.
template <class Call>
void set_recorded(const Record &record, Call *call) {
  call->y = record.y;
  call->z = record.z;
  call->mask = record.mask.empty() ? nullptr : record.mask.data();
  call->fused = record.fused;
  call->saved = record.saved();
  call->sets = record.sets;
  call->batch_statistics = record.batch_statistics;
}

}  // namespace

BackwardCall BatchNormBase::backward_call(const Record &record, const View &dy) const {
  check_record(record, dy);
  BackwardCall call;
  set_recorded(record, &call);
  call.dy = dy;
  call.count = record.count;
  call.thread_limit = num_threads();
  call.pool = pool();
  return call;
}

void BatchNormBase::run(BackwardCall &call, const Record &record) {
  if (call.needs_x()) {
    if (record.x_is_overwritten && call.dy.size.numel() > 0)
      fail(Status::state,
           "the forward was in place, so x is gone, but weight.grad needs it: switch off weight's "
           "requires_grad");
    call.x = record.x;
  }
  check(call);
  if (!call.sums_follow) bn2d::backward(&call);
}

void BatchNormBase::backward(const Record &record, const View &dy, const View &dx, const View &dz) {
  check_owner(record);
  check_input("dy", dy);
  const Gate::Pass pass(gate_, true);
  BackwardCall call = backward_call(record, dy);
  call.dx = dx;
  call.dz = dz;
  call.dweight = gradient_of(weight_);
  call.dbias = gradient_of(bias_);
  run(call, record);
}

void BatchNormBase::backward_sums(const Record &record, const View &dy, double *sums) {
  check_owner(record);
  check_input("dy", dy);
  const Gate::Pass pass(gate_, true);
  BackwardCall call = backward_call(record, dy);
  check_takes_statistics();
  check_steps(record);
  call.sums = sums;
  call.dweight = gradient_of(weight_);
  call.dbias = gradient_of(bias_);
  run(call, record);
}

void BatchNormBase::backward_with_sums(const Record &record, const View &dy, const double *sums,
                                       const View &dx, const View &dz) {
  check_owner(record);
  check_input("dy", dy);
  const Gate::Pass pass(gate_, true);
  BackwardCall call = backward_call(record, dy);
  check_takes_statistics();
  check_steps(record);
  call.given_sums = sums;
  call.dx = dx;
  call.dz = dz;
  call.sums_follow = sums == nullptr;
  if (call.sums_follow) {
    call.dweight = gradient_of(weight_);
    call.dbias = gradient_of(bias_);
  }
  run(call, record);
}

void BatchNormBase::double_backward(const Record &record, DoubleBackwardCall *call) {
  const View &dy = call->dy;
  check_owner(record);
  check_input("dy", dy);
  const Gate::Pass pass(gate_, true);
  check_record(record, dy);
  if (record.count != 0)
    fail(Status::state,
         "the record's statistics are from outside, which double backward does not support");
  if (record.x_is_overwritten && dy.size.numel() > 0)
    fail(Status::state, "the forward was in place, so x is gone, but double backward needs it");
  set_recorded(record, call);
  call->x = record.x;
  call->ddweight.dtype = call->ddbias.dtype = options_.dtype;
  call->dweight = gradient_of(weight_);
  if (call->fused.is_curved()) call->dbias = gradient_of(bias_);
  call->thread_limit = num_threads();
  call->pool = pool();
  check(*call);
  bn2d::double_backward(call);
}

}  // namespace bn2d
