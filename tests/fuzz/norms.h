// The same as numbers.h where a batch has several sets of statistics: group and instance norm, and
// ghost batches. Judged plane by plane, because each may belong to another set.
#pragma once
#include <string>

#include "fuzz/numbers.h"

namespace bn2d_fuzz {

void compute_sets(Numbers &numbers);
std::string judge_y_of_sets(const Numbers &numbers, const Values &y);
std::string judge_saved_of_sets(const Numbers &numbers, const Values *mean, const Values *invstd);
std::string judge_running_of_sets(const Numbers &numbers, const Values *mean, const Values *var,
                                  double factor, bool biased, bool protect);
std::string judge_backward_of_sets(const Numbers &numbers, const Values &dy,
                                   const BackwardResults &results);
std::string judge_double_backward_of_sets(const Numbers &numbers, const Values &dy,
                                          const DoubleBackwardResults &results);

}  // namespace bn2d_fuzz
