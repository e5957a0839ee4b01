// Statistics from outside: mean and sum of squared deviations of each channel, gathered from any
// number of tensors and of other such objects, whose values may be elsewhere.
#pragma once
#include <cstdint>
#include <vector>

#include "ops/operations.h"

namespace bn2d {

class Statistics {
 public:
  explicit Statistics(int64_t num_features);

  int64_t num_features() const { return num_features_; }
  int64_t count() const { return count_; }  // values of each channel
  MomentArrays moments() const { return {const_cast<double *>(values_.data()), count_}; }

  void reset() { count_ = 0; }
  void accumulate(const View &x);
  void merge(const Statistics &other);

  // What travels: the count, then the moments.
  int64_t exported_length() const { return 1 + MomentArrays::kArrays * num_features_; }
  void export_to(double *exported) const;
  void merge_exported(const double *exported);

  // C doubles each, either NULL: not wanted. The variance is the biased one.
  void mean_var(double *mean, double *var) const;

 private:
  int64_t count_with(int64_t more) const;  // throws Error overflow where it is too large
  void merge(const MomentArrays &other);

  const int64_t num_features_;
  int64_t count_ = 0;
  std::vector<double> values_;  // those of a count of 0 mean nothing
};

}  // namespace bn2d
