// BatchNorm2d: batch normalisation over (N, C, H, W), also of ghost batches.
#pragma once
#include "module/batch_norm_base.h"

namespace bn2d {

class BatchNorm2d final : public BatchNormBase {
 public:
  BatchNorm2d(int64_t num_features, const Options &options)
      : BatchNormBase(num_features, options.for_norm(Norm::batch)) {}

  Norm norm() const override { return Norm::batch; }
  std::string repr() const override { return repr_of("BatchNorm2d"); }

 protected:
  // In eval mode without running statistics the whole batch is one set.
  SetShape sets() const override { return {is_training() ? options().ghost_batch_size : 0, 1}; }
};

}  // namespace bn2d
