// Results against what they should be, in ulp of a scale for each group of them: a channel, or a
// plane of it.
#pragma once
#include <cstdio>
#include <string>
#include <vector>

#include "support/numerics_values.h"

namespace bn2d_fuzz {

inline oracle::Real smallest(int32_t dtype) {
  return oracle::ulp(numerics::arithmetic_of(dtype), 0);
}
inline oracle::Real largest(const oracle::Format &format) {
  return oracle::power_of_two(format.max_exponent);
}

class Comparison {
 public:
  // Element i belongs to group i / plane % groups.
  Comparison(const char *name, int32_t dtype, int64_t groups, int64_t plane,
             const std::vector<bool> &of_groups)
      : judged(of_groups), name_(name), dtype_(dtype), groups_(groups), plane_(plane) {}

  std::vector<bool> judged, edge;  // groups; elements that are left out

  // "" or what is wrong. `extra`: what is allowed on top of the bound, by group; may be empty.
  std::string run(const oracle::Values &got, const oracle::Reals &want, oracle::Reals scale,
                  const oracle::Reals &extra, oracle::Real bound) const {
    const oracle::Format &arithmetic = numerics::arithmetic_of(dtype_);
    std::vector<bool> ignore(got.size(), false), counts = judged;
    for (size_t g = 0; g < scale.size(); ++g) {
      if (!(scale[g] < largest(arithmetic))) counts[g] = false;
      scale[g] = std::max(
          scale[g], std::ldexp(extra.empty() ? oracle::Real{0} : extra[g], arithmetic.digits));
    }
    for (size_t i = 0; i < got.size(); ++i)
      ignore[i] = !counts[i / static_cast<size_t>(plane_) % static_cast<size_t>(groups_)] ||
                  (!edge.empty() && edge[i]);
    const numerics::Comparison worst =
        numerics::compare(dtype_, groups_, plane_, got, want, scale, ignore);
    if (worst.ulps <= bound) return "";
    char text[200];
    std::snprintf(text, sizeof text,
                  "%s[%lld] is %.17Lg, not %.17Lg: %.3Lg ulp of its scale, bound %.1Lf", name_,
                  static_cast<long long>(worst.at), worst.got, worst.want, worst.ulps, bound);
    return text;
  }

 private:
  const char *name_;
  int32_t dtype_;
  int64_t groups_, plane_;
};

// The first problem of what a backward wrote, or "". Each function compares one result with what it
// should be and its scale; that of channels also knows what was there before.
template <class Results, class Want, class Element, class Channel>
std::string judge_gradients(const Results &results, Want &want, const Element &element,
                            const Channel &channel) {
  std::string problem = element("dx", results.dx, want.dx, want.dx_scale);
  if (problem.empty()) problem = element("dz", results.dz, want.dz, want.dz_scale);
  if (problem.empty())
    problem =
        channel("dweight", results.dweight, want.dweight, want.dweight_scale, results.old_dweight);
  if (problem.empty())
    problem = channel("dbias", results.dbias, want.dbias, want.dbias_scale, results.old_dbias);
  return problem;
}

}  // namespace bn2d_fuzz
