// InstanceNorm2d: each channel of each sample by its own statistics.
#pragma once
#include "module/batch_norm_base.h"

namespace bn2d {

class InstanceNorm2d final : public BatchNormBase {
 public:
  InstanceNorm2d(int64_t num_features, const Options &options)
      : BatchNormBase(num_features, options.for_norm(Norm::instance)) {}

  Norm norm() const override { return Norm::instance; }
  std::string repr() const override { return repr_of("InstanceNorm2d"); }

 protected:
  SetShape sets() const override { return {1, 1}; }
};

}  // namespace bn2d
