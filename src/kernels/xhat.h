// xhat of a sample, and what the gradients of parameters are made of.
#pragma once
#include <cstdint>

namespace bn2d::kernels {

// One sample of packed floats, in sets of elements that follow one another. For each element:
//   xhat = (x - mean)*invstd,  g = weight*dy,  products += dy*xhat,  sums += dy
// In double, and then xhat is rounded once: with one that was rounded before, dweight of few
// samples would be half an ulp further off. xhat may be x, and g may be dy.
struct XhatOfSample {
  int64_t sets, of_set;                   // of_set: elements
  const double *mean, *mean_lo, *invstd;  // of the sets; mean, mean_lo: or NULL
  const double *weight;                   // of each element
  const float *x, *dy;
  float *xhat, *g;
  double *products, *sums;
};

}  // namespace bn2d::kernels
