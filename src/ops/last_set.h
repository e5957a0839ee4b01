// A last set that has fewer samples than the others (ghost batches). It is a call of its own.
#pragma once
#include <new>

#include "base/cache_line.h"
#include "base/scratch.h"
#include "ops/operations.h"
#include "ops/parameter_gradients.h"
#include "ops/ready.h"

namespace bn2d {

// Statistics and side behind those of the first samples, which have `batches` sets of samples.
inline SavedStatistics behind(const SavedStatistics &saved, const SetShape &sets,
                              const Extents &size, int64_t batches, DType dtype) {
  SavedStatistics rest = saved;
  const int64_t before = batches * (size.c / sets.channels);
  for (double **array : {&rest.mean, &rest.mean_lo, &rest.invstd})
    if (*array != nullptr) *array += before;
  if (rest.side != nullptr)
    rest.side = static_cast<std::byte *>(rest.side) + 2 * batches * size.c * arithmetic_size(dtype);
  return rest;
}

// A backward, whose tensors are `views`, with a last set of fewer samples. The gradients of the
// parameters come together in double.
template <class Call, size_t kViews, size_t kGradients>
[[gnu::cold]] void run_in_two(const Call &call, View Call::*const (&views)[kViews],
                              ChannelArray Call::*const (&gradients)[kGradients],
                              void (*run)(Call *calls, int count, const Driver &driver,
                                          const Ready *before)) {
  const Extents &size = call.dy.size;
  const int64_t rest = call.sets.rest(size), whole = size.n - rest,
                batches = whole / call.sets.samples;
  // Two calls, which would be two kilobytes of stack, and the gradients.
  constexpr auto kCallBytes = static_cast<size_t>(in_lines(2 * sizeof(Call)));
  const Scratch scratch(kCallBytes + 2 * kGradients * static_cast<size_t>(size.c) * sizeof(double));
  Call *const parts = static_cast<Call *>(scratch.data());
  for (int k = 0; k < 2; ++k) new (parts + k) Call(call);
  double *memory =
      reinterpret_cast<double *>(static_cast<std::byte *>(scratch.data()) + kCallBytes);
  for (int k = 0; k < 2; ++k) {
    for (const auto view : views)
      parts[k].*view = samples_of(call.*view, k == 0 ? 0 : whole, k == 0 ? whole : rest);
    for (const auto gradient : gradients) {
      if ((call.*gradient).exists()) parts[k].*gradient = {DType::f64, memory};
      memory += size.c;
    }
    parts[k].blend = 0;
  }
  parts[1].sets.samples = 0;
  if (call.mask != nullptr) parts[1].mask += whole * size.c * mask_plane_bytes(size.plane());
  parts[1].saved = behind(call.saved, call.sets, size, batches, call.dy.dtype);
  run(parts, 2, Driver(), nullptr);
  for (const auto gradient : gradients) {
    if (!(call.*gradient).exists()) continue;
    double *const of_first = static_cast<double *>((parts[0].*gradient).data);
    const double *const of_last = static_cast<const double *>((parts[1].*gradient).data);
    for (int64_t c = 0; c < size.c; ++c) of_first[c] += of_last[c];
    blend_all_into(call.*gradient, size.c, call.blend, of_first);
  }
}

}  // namespace bn2d
