// What batch, group and instance norm have in common: parameters, buffers, mode, running
// statistics.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "module/gate.h"
#include "module/options.h"
#include "module/record.h"
#include "module/statistics.h"
#include "module/tensor.h"

namespace bn2d {

// Where a forward has its statistics from.
struct StatisticsSource {
  bool outside = false;               // else from x, or the running ones
  const Statistics *given = nullptr;  // from outside; NULL: the call only checks
};

class BatchNormBase {
 public:
  virtual ~BatchNormBase();

  virtual Norm norm() const = 0;
  virtual int64_t num_groups() const { return 0; }  // 0: a norm without groups

  int64_t num_features() const { return num_features_; }
  // As constructed; what has a getter below may have changed since.
  const Options &options() const { return options_; }
  bool is_training() const { return training_.load(std::memory_order_relaxed); }
  bool is_frozen() const { return frozen_.load(std::memory_order_relaxed); }
  double momentum() const { return momentum_.load(std::memory_order_relaxed); }  // NaN: none
  int32_t num_threads() const { return num_threads_.load(std::memory_order_relaxed); }
  // NULL: that of the process.
  const Pool *pool() const { return pool_.load(std::memory_order_acquire); }
  // Parameters and buffers in their order; what does not exist is left out.
  const std::vector<std::shared_ptr<Tensor>> &tensors() const { return tensors_; }
  const std::shared_ptr<RecordPool> &records() const { return records_; }
  virtual std::string repr() const = 0;

  // Exclusive: throw Error busy while another call uses the module.
  void train(bool training);
  void set_momentum(double momentum);  // NaN: none
  void set_frozen(bool frozen);
  void set_num_threads(int32_t threads);
  void set_pool(const Pool *pool);
  void reset_running_stats();
  void reset_parameters();
  void zero_grad();
  void set_running_stats(const Statistics &statistics);
  // Keeps others out until unlock(), as Gate does.
  void try_lock(bool exclusive) { gate_.lock(exclusive); }
  void unlock(bool exclusive) { gate_.unlock(exclusive); }

  // The map of eval mode, y = scale*x + shift; NULL arrays are not wanted. Shared.
  void scale_shift(ChannelArray scale, ChannelArray shift) const;

  // Views that do not exist: no residual, no gradient wanted. `record`: NULL, or where the record
  // goes. `source`: of the statistics.
  void forward(const View &x, const View &z, const Fused &fused, const View &y,
               const StatisticsSource &source, std::unique_ptr<Record> *record);
  void backward(const Record &record, const View &dy, const View &dx, const View &dz);
  // The same in two steps: the sums of this part of the batch and the gradients of the parameters,
  // then dx and dz from the sums of all parts. 2*C doubles. Without sums the second step only
  // checks what both need.
  void backward_sums(const Record &record, const View &dy, double *sums);
  void backward_with_sums(const Record &record, const View &dy, const double *sums, const View &dx,
                          const View &dz);
  // `call`: with its tensors, ddweight and ddbias; all else is set here.
  void double_backward(const Record &record, DoubleBackwardCall *call);

 protected:
  // Options of this norm: Options::for_norm().
  BatchNormBase(int64_t num_features, const Options &options);
  // The sets of statistics of the batch, and the values that one needs at least.
  virtual SetShape sets() const = 0;
  virtual int64_t least_values() const { return 2; }
  // Of the norms with running statistics.
  std::string repr_of(const char *class_name) const;

 private:
  void check_input(const char *what, const View &view) const;
  void check_takes_statistics() const;
  // What a forward takes from the module.
  void set_module(ForwardCall *call) const;
  // How running statistics move, by the statistics of so many batches. The counter, which is theirs
  // to move on; NULL: nothing counts.
  int64_t *set_averaging(int64_t batches, ForwardCall *call) const;
  void set_given(const StatisticsSource &source, ForwardCall *call) const;
  // Training as far as statistics are concerned.
  bool moves_statistics() const { return is_training() && !is_frozen(); }
  // Error state where it cannot count so many more.
  int64_t *checked_counter(int64_t batches) const;
  // And where in it the call saves what backward needs.
  std::unique_ptr<Record> make_record(ForwardCall *call) const;
  void check_owner(const Record &record) const;
  void check_record(const Record &record, const View &dy) const;
  BackwardCall backward_call(const Record &record, const View &dy) const;
  static void run(BackwardCall &call, const Record &record);
  ChannelArray gradient_of(const std::shared_ptr<Tensor> &parameter) const;
  void reset_running_stats_unguarded();

  const int64_t num_features_;
  const Options options_;
  const uint64_t id_;
  std::atomic<bool> training_{true}, frozen_{false};
  std::atomic<double> momentum_;
  std::atomic<int32_t> num_threads_;
  std::atomic<const Pool *> pool_{nullptr};
  std::shared_ptr<Tensor> weight_, bias_, running_mean_, running_var_, num_batches_tracked_;
  std::vector<std::shared_ptr<Tensor>> tensors_;
  std::shared_ptr<RecordPool> records_ = std::make_shared<RecordPool>();
  mutable Gate gate_;
};

}  // namespace bn2d
