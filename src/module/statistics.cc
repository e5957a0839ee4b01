#include "module/statistics.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>

#include "base/error.h"
#include "base/scratch.h"

namespace bn2d {
namespace {

using kernels::kMaxGroup;
using kernels::Moments;

// Counts travel as doubles, which hold whole numbers up to here.
constexpr int64_t kMostValues = int64_t{1} << 53;

// Calls f(array in the group's moments, the same in memory) for each of the arrays.
template <class F>
void for_arrays(Moments *group, double *memory, int64_t stride, F f) {
  for (double *const array : MomentArrays::of(*group)) {
    f(array, memory);
    memory += stride;
  }
}

// Pairs of doubles, whatever the data were: their kinds may be mixed.
void load(const MomentArrays &from, int64_t channel, int64_t channels, int64_t stride,
          Moments *to) {
  to->count = static_cast<double>(from.count);
  to->wide = true;
  for_arrays(to, from.values + channel, stride, [&](double *in_group, const double *in_memory) {
    std::copy_n(in_memory, channels, in_group);
  });
}

}  // namespace

Statistics::Statistics(int64_t num_features) : num_features_(num_features) {
  if (num_features < 1)
    fail(Status::invalid_argument, "num_features is %" PRId64 ", must be 1 or more", num_features);
  check_extents("num_features", {MomentArrays::kArrays, num_features, 1, 1});
  try {
    values_.resize(static_cast<size_t>(MomentArrays::kArrays * num_features));
  } catch (const std::exception &) {  // of the allocator, or too long for a vector
    fail(Status::out_of_memory, "out of memory: the statistics take %" PRId64 " times %zu bytes",
         num_features, MomentArrays::kArrays * sizeof(double));
  }
}

int64_t Statistics::count_with(int64_t more) const {
  if (more > kMostValues - count_)
    fail(Status::overflow, "%" PRId64 " values and %" PRId64 " more are above 2^53", count_, more);
  return count_ + more;
}

void Statistics::accumulate(const View &x) {
  if (x.size.c != num_features_)
    fail(Status::shape, "x has %" PRId64 " channels, the statistics are of %" PRId64, x.size.c,
         num_features_);
  const Scratch scratch(values_.size() * sizeof(double));
  ForwardCall call;
  call.x = x;
  call.eps = 0;  // that of a module comes later
  call.moments = static_cast<double *>(scratch.data());
  check(call);
  if (x.size.numel() == 0) return;
  count_with(x.size.per_channel());
  forward(call);
  merge(MomentArrays{call.moments, x.size.per_channel()});
}

void Statistics::merge(const Statistics &other) {
  if (other.num_features_ != num_features_)
    fail(Status::shape, "other is of %" PRId64 " channels, the statistics are of %" PRId64,
         other.num_features_, num_features_);
  merge(other.moments());
}

void Statistics::merge(const MomentArrays &other) {
  if (other.count == 0) return;
  const int64_t count = count_with(other.count);
  if (count_ == 0) {
    std::copy_n(other.values, values_.size(), values_.data());
  } else {
    const Scratch scratch(2 * sizeof(Moments));
    Moments *const into = static_cast<Moments *>(scratch.data()), *const from = into + 1;
    for (int64_t c = 0; c < num_features_; c += kMaxGroup) {
      const int64_t channels = std::min<int64_t>(kMaxGroup, num_features_ - c);
      load(moments(), c, channels, num_features_, into);
      load(other, c, channels, num_features_, from);
      kernels::active().channel.merge(channels, into, from);
      for_arrays(into, values_.data() + c, num_features_,
                 [&](const double *in_group, double *in_memory) {
                   std::copy_n(in_group, channels, in_memory);
                 });
    }
  }
  count_ = count;
}

void Statistics::export_to(double *exported) const {
  *exported = static_cast<double>(count_);
  if (count_ == 0) {
    std::fill_n(exported + 1, values_.size(), 0.0);
  } else {
    std::copy(values_.begin(), values_.end(), exported + 1);
  }
}

// Means and squares may be infinite or NaN, as the data were.
void Statistics::merge_exported(const double *exported) {
  const double count = *exported;
  if (!(count >= 0 && count <= static_cast<double>(kMostValues) && count == std::floor(count)))
    fail(Status::invalid_argument, "the count is %.17g, must be a whole number from 0 to 2^53",
         count);
  const double *const squares = exported + 1 + 2 * num_features_;
  for (int64_t c = 0; c < num_features_ && count > 0; ++c) {
    const double square = squares[c] + squares[num_features_ + c];
    if (square < 0)
      fail(Status::invalid_argument,
           "the sum of squared deviations of channel %" PRId64 " is %g, below 0", c, square);
  }
  merge(MomentArrays{const_cast<double *>(exported) + 1, static_cast<int64_t>(count)});
}

void Statistics::mean_var(double *mean, double *var) const {
  if (count_ == 0)
    fail(Status::too_few_values,
         "the statistics are of no values, mean and variance need 1 or more");
  const int64_t bytes = num_features_ * static_cast<int64_t>(sizeof(double));
  check_array("mean", mean, bytes, sizeof(double));
  check_array("var", var, bytes, sizeof(double));
  if (mean != nullptr && var != nullptr && mean < var + num_features_ && var < mean + num_features_)
    fail(Status::overlap, "mean at %p and var at %p share memory", static_cast<void *>(mean),
         static_cast<void *>(var));
  ForwardCall call;  // a running average that forgets all else
  call.x.size = {0, num_features_, 1, 1};
  call.running_mean = {DType::f64, mean};
  call.running_var = {DType::f64, var};
  call.given = moments();
  call.averaging_factor = 1;
  call.biased_running_var = true;
  forward(call);
}

}  // namespace bn2d
