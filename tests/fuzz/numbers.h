// What the numbers of a call must be: the oracle of the numerical tests, on whatever the program
// has put into memory.
//
// Channels with a NaN or an infinity in what they read are not judged, nor those whose terms leave
// the range of the arithmetic although the result may not. Where the smallest numbers are the unit,
// that unit is allowed on top.
#pragma once
#include <limits>
#include <string>
#include <vector>

#include "support/norms_oracle.h"

namespace bn2d_fuzz {

using numerics::Bits;
using oracle::Real;
using oracle::Reals;
using oracle::Values;

constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                 infinity = std::numeric_limits<double>::infinity();

// A forward and what is known of it since.
struct Numbers {
  oracle::Extents e{0, 0, 0, 0};
  int32_t data = BN2D_F32, parameters = BN2D_F32;
  bool batch = true;
  double eps = 1e-5;
  oracle::Activation activation{};
  Values x, z, weight, bias, running_mean, running_var;  // empty: not there
  int32_t norm = BN2D_NORM_BATCH;
  int64_t groups = 1, ghost = 0;
  bool cumulative = false;
  int64_t counted = 0;            // num_batches_tracked before
  int64_t count = 0;              // values that statistics from outside are of; 0: those of x
  oracle::Statistics statistics;  // from outside: set before compute()
  oracle::Forward forward;
  numerics::ExpectedNorm sets;  // in place of these two, where
  std::vector<bool> judged;     // channels; in sets: planes
  std::vector<bool> judged_sets;
  std::vector<bool> edge;  // elements on whose side of the activation rounding decides

  // Where the batch has several sets of statistics.
  bool in_sets() const { return batch && (norm != BN2D_NORM_BATCH || ghost != 0); }

  void compute();  // statistics, forward, ... from the values above

  // Each is "" or what is wrong.
  std::string judge_y(const Values &y) const;
  numerics::Reals promised_mean_scale() const;
  std::string judge_saved(const Values *mean, const Values *invstd) const;
  std::string judge_running(const Values *mean, const Values *var, double factor, bool biased,
                            bool protect) const;
};

struct BackwardResults {
  const Values *dx = nullptr, *dz = nullptr, *dweight = nullptr,
               *dbias = nullptr;  // NULL: not asked for
  Values old_dweight, old_dbias;
  double blend = 1;
  Values g, g_deviation;  // sums over the whole batch; empty: x is all of it
};
std::string judge_backward(const Numbers &numbers, const Values &dy,
                           const BackwardResults &results);

struct DoubleBackwardResults {
  Values ddx, ddz, ddweight, ddbias;  // empty: zero
  const Values *ddy = nullptr, *dx = nullptr, *dz = nullptr, *dweight = nullptr, *dbias = nullptr;
  Values old_dweight, old_dbias;
  double blend = 1;
};
std::string judge_double_backward(const Numbers &numbers, const Values &dy,
                                  const DoubleBackwardResults &results);

// The sums of the first step of backward: C of g, C of g*(x - mean).
std::string judge_sums(const Numbers &numbers, const Values &dy, const Values &sums);

}  // namespace bn2d_fuzz
