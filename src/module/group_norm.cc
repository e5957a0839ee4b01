#include "module/group_norm.h"

#include <cinttypes>
#include <cstdio>

namespace bn2d {
namespace {

// Before there is anything: the number of groups divides the channels.
int64_t checked_channels(int64_t num_groups, int64_t num_channels) {
  if (num_groups < 1)
    fail(Status::invalid_argument, "num_groups is %" PRId64 ", must be 1 or more", num_groups);
  if (num_channels < 1)
    fail(Status::invalid_argument, "num_channels is %" PRId64 ", must be 1 or more", num_channels);
  if (num_channels % num_groups != 0)
    fail(Status::invalid_argument,
         "num_channels is %" PRId64 ", no multiple of num_groups %" PRId64, num_channels,
         num_groups);
  return num_channels;
}

}  // namespace

GroupNorm::GroupNorm(int64_t num_groups, int64_t num_channels, const Options &options)
    : BatchNormBase(checked_channels(num_groups, num_channels), options.for_norm(Norm::group)),
      num_groups_(num_groups) {}

std::string GroupNorm::repr() const {
  char text[160];
  std::snprintf(text, sizeof text,
                "GroupNorm(%" PRId64 ", %" PRId64 ", eps=%s, affine=%s, bias=%s)", num_groups_,
                num_features(), python_float(options().eps).c_str(), python_bool(options().affine),
                python_bool(options().affine && options().bias));
  return text;
}

}  // namespace bn2d
