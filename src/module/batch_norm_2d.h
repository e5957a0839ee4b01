// BatchNorm2d: batch normalisation over (N, C, H, W).
#pragma once
#include "module/batch_norm_base.h"

namespace bn2d {

class BatchNorm2d final : public BatchNormBase {
 public:
  using BatchNormBase::BatchNormBase;

  // Views that do not exist: no residual, no gradient wanted.
  void forward(const View &x, const View &z, const Fused &fused, const View &y, const Statistics *given,
               std::unique_ptr<Record> *record) {
    check_input("x", x);
    BatchNormBase::forward(x, z, fused, y, given, record);
  }
  void backward(const Record &record, const View &dy, const View &dx, const View &dz) {
    check_input("dy", dy);
    BatchNormBase::backward(record, dy, dx, dz);
  }
  void backward_sums(const Record &record, const View &dy, double *sums) {
    check_input("dy", dy);
    BatchNormBase::backward_sums(record, dy, sums);
  }
  void backward_with_sums(const Record &record, const View &dy, const double *sums, const View &dx, const View &dz) {
    check_input("dy", dy);
    BatchNormBase::backward_with_sums(record, dy, sums, dx, dz);
  }
  void double_backward(const Record &record, const View &dy, const View &ddx, const void *ddweight, const void *ddbias,
                       const View &ddy, const View &dx) {
    check_input("dy", dy);
    BatchNormBase::double_backward(record, dy, ddx, ddweight, ddbias, ddy, dx);
  }

 protected:
  const char *class_name() const override { return "BatchNorm2d"; }

 private:
  void check_input(const char *what, const View &view) const;
};

}  // namespace bn2d
