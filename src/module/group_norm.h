// GroupNorm: the channels of each sample in groups, each by its own statistics. Of one group it is
// a layer norm over (C, H, W).
#pragma once
#include "module/batch_norm_base.h"

namespace bn2d {

class GroupNorm final : public BatchNormBase {
 public:
  GroupNorm(int64_t num_groups, int64_t num_channels, const Options &options);

  Norm norm() const override { return Norm::group; }
  int64_t num_groups() const override { return num_groups_; }
  std::string repr() const override;

 protected:
  SetShape sets() const override { return {1, num_features() / num_groups_}; }
  int64_t least_values() const override { return 1; }  // y is then the bias

 private:
  const int64_t num_groups_;
};

}  // namespace bn2d
