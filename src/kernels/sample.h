// One sample of packed floats, in sets of elements that follow one another, each with statistics of
// its own (ops/sets_as_planes.h). All is computed in double and rounded once.
#pragma once
#include <cstdint>

namespace bn2d::kernels {

struct SetsOfSample {
  int64_t sets, of_set;         // of_set: elements
  const double *mean, *invstd;  // of the sets; mean: or NULL, which is 0
  const double *weight;         // of each element
  const float *x;
};

// y = xhat*weight + bias + z. y may be x or z.
struct ForwardOfSample : SetsOfSample {
  const double *bias;  // of each element
  const float *z;      // or NULL
  float *y;
};

// xhat, and g = weight*dy. For each element: products += dy*xhat, sums += dy. An xhat that was
// rounded before would make dweight of few samples half an ulp less exact. xhat may be x, and g may
// be dy. The kernel tells whether all xhat and g are finite.
struct BackwardOfSample : SetsOfSample {
  const float *dy;
  float *xhat, *g;
  double *products, *sums;
};

}  // namespace bn2d::kernels
