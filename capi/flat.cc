// The operations by scalars and pointers alone, for languages that cannot pass a bn2d_view. Each
// makes the views and calls the function that takes them.
#include <algorithm>
#include <cinttypes>

#include "convert.h"
#include "handle.h"

using namespace bn2d;
using namespace bn2d::capi;

namespace {

// The tensors of one call: all of one dtype, layout and shape.
class FlatTensors {
 public:
  [[gnu::noinline]] FlatTensors(int32_t dtype, int32_t layout, int64_t n, int64_t c, int64_t h,
                                int64_t w)
      : dtype_(checked_floating_dtype(dtype)), shape_{n, c, h, w} {
    if (layout != BN2D_NCHW && layout != BN2D_NHWC)
      fail(Status::invalid_argument, "layout is %" PRId32 ", known are NCHW (1) and NHWC (2)",
           layout);
    check_extents("the tensors", {n, c, h, w});
    channels_last_ = layout == BN2D_NHWC;
    const int64_t strides[4] = {h * w * c, 1, w * c, c};
    std::copy_n(strides, 4, strides_);
  }
  FlatTensors(int32_t dtype, int32_t layout, const Extents &size)
      : FlatTensors(dtype, layout, size.n, size.c, size.h, size.w) {}
  FlatTensors(const FlatTensors &) = delete;  // views point into it

  [[gnu::noinline]] bn2d_view view(const void *data) const {
    bn2d_view view = {};
    view.data = const_cast<void *>(data);
    set_type(dtype_, &view);
    view.ndim = 4;
    view.shape = shape_;
    view.strides = channels_last_ ? strides_ : nullptr;
    return view;
  }

 private:
  DType dtype_;
  bool channels_last_;
  int64_t shape_[4], strides_[4];
};

// Only for arguments that may be NULL. Required ones always get a view: an empty tensor may have no
// memory, and of others the callee names what is missing.
const bn2d_view *optional(const bn2d_view &view) { return view.data ? &view : nullptr; }

// Runs a body that returns the status of another function, whose message stands. Not noexcept: a
// thread may end in it (report_exception).
template <class Body>
int32_t forwarded(Body &&body) {
  int32_t status = 0;
  const int32_t own = guarded([&] { status = body(); });
  return own != 0 ? own : status;
}

void check_num_features(int64_t c, int64_t num_features) {
  if (c != num_features)
    fail(Status::shape, "x has %" PRId64 " channels, the arrays have num_features %" PRId64, c,
         num_features);
}

const Extents &size_of(const bn2d_record *record) {
  return checked(record, "record").value->x.size;
}

}  // namespace

int32_t bn2d_forward_flat(bn2d_module *module, int32_t dtype, int32_t layout, const void *x,
                          const void *z, int64_t n, int64_t h, int64_t w, int32_t activation,
                          double slope, void *y, bn2d_record **record) {
  return forwarded([&] {
    const FlatTensors tensors(dtype, layout, n, checked(module, "module").value->num_features(), h,
                              w);
    const bn2d_view of_x = tensors.view(x), of_z = tensors.view(z), of_y = tensors.view(y);
    return bn2d_forward_act(module, &of_x, optional(of_z), activation, slope, &of_y, record);
  });
}

int32_t bn2d_backward_flat(bn2d_module *module, const bn2d_record *record, int32_t dtype,
                           int32_t layout, const void *dy, void *dx, void *dz) {
  return forwarded([&] {
    const FlatTensors tensors(dtype, layout, size_of(record));
    const bn2d_view of_dy = tensors.view(dy), of_dx = tensors.view(dx), of_dz = tensors.view(dz);
    return bn2d_backward(module, record, &of_dy, optional(of_dx), optional(of_dz));
  });
}

int32_t bn2d_double_backward_flat(bn2d_module *module, const bn2d_record *record, int32_t dtype,
                                  int32_t layout, const void *dy, const void *ddx,
                                  const void *ddweight, const void *ddbias, void *ddy, void *dx) {
  return forwarded([&] {
    const FlatTensors tensors(dtype, layout, size_of(record));
    const bn2d_view of_dy = tensors.view(dy), of_ddx = tensors.view(ddx),
                    of_ddy = tensors.view(ddy), of_dx = tensors.view(dx);
    return bn2d_double_backward(module, record, &of_dy, optional(of_ddx), ddweight, ddbias,
                                optional(of_ddy), optional(of_dx));
  });
}

int32_t bn2d_batch_norm_forward_flat(int32_t data_dtype, int32_t layout, int64_t n, int64_t c,
                                     int64_t h, int64_t w, const void *x, const void *z, void *y,
                                     int32_t param_dtype, int64_t num_features, const void *weight,
                                     const void *bias, void *running_mean, void *running_var,
                                     int32_t batch_stats, double averaging_factor, double eps,
                                     int32_t flags, int32_t activation, double slope, uint8_t *mask,
                                     double *saved_mean, double *saved_invstd) {
  return forwarded([&] {
    const FlatTensors tensors(data_dtype, layout, n, c, h, w);
    check_num_features(c, num_features);
    const bn2d_view of_x = tensors.view(x), of_z = tensors.view(z), of_y = tensors.view(y);
    return bn2d_batch_norm_forward(&of_x, optional(of_z), &of_y, param_dtype, weight, bias,
                                   running_mean, running_var, batch_stats, averaging_factor, eps,
                                   flags, activation, slope, mask, saved_mean, saved_invstd);
  });
}

int32_t bn2d_batch_norm_backward_flat(int32_t data_dtype, int32_t layout, int64_t n, int64_t c,
                                      int64_t h, int64_t w, const void *x, const void *dy,
                                      const void *y, const uint8_t *mask, int32_t param_dtype,
                                      int64_t num_features, const void *weight,
                                      const double *saved_mean, const double *saved_invstd,
                                      int32_t batch_stats, int32_t activation, double slope,
                                      double blend, void *dx, void *dz, void *dweight,
                                      void *dbias) {
  return forwarded([&] {
    const FlatTensors tensors(data_dtype, layout, n, c, h, w);
    check_num_features(c, num_features);
    const bn2d_view of_x = tensors.view(x), of_dy = tensors.view(dy), of_y = tensors.view(y),
                    of_dx = tensors.view(dx), of_dz = tensors.view(dz);
    return bn2d_batch_norm_backward(optional(of_x), &of_dy, optional(of_y), mask, param_dtype,
                                    weight, saved_mean, saved_invstd, batch_stats, activation,
                                    slope, blend, optional(of_dx), optional(of_dz), dweight, dbias);
  });
}

int32_t bn2d_group_norm_forward_flat(int32_t data_dtype, int32_t layout, int64_t n, int64_t c,
                                     int64_t h, int64_t w, const void *x, const void *z, void *y,
                                     int64_t num_groups, int32_t param_dtype, int64_t num_features,
                                     const void *weight, const void *bias, double eps,
                                     int32_t activation, double slope, uint8_t *mask,
                                     double *saved_mean, double *saved_invstd) {
  return forwarded([&] {
    const FlatTensors tensors(data_dtype, layout, n, c, h, w);
    check_num_features(c, num_features);
    const bn2d_view of_x = tensors.view(x), of_z = tensors.view(z), of_y = tensors.view(y);
    return bn2d_group_norm_forward(&of_x, optional(of_z), &of_y, num_groups, param_dtype, weight,
                                   bias, eps, activation, slope, mask, saved_mean, saved_invstd);
  });
}

int32_t bn2d_group_norm_backward_flat(int32_t data_dtype, int32_t layout, int64_t n, int64_t c,
                                      int64_t h, int64_t w, const void *x, const void *dy,
                                      const void *y, const uint8_t *mask, int64_t num_groups,
                                      int32_t param_dtype, int64_t num_features, const void *weight,
                                      const double *saved_mean, const double *saved_invstd,
                                      int32_t activation, double slope, double blend, void *dx,
                                      void *dz, void *dweight, void *dbias) {
  return forwarded([&] {
    const FlatTensors tensors(data_dtype, layout, n, c, h, w);
    check_num_features(c, num_features);
    const bn2d_view of_x = tensors.view(x), of_dy = tensors.view(dy), of_y = tensors.view(y),
                    of_dx = tensors.view(dx), of_dz = tensors.view(dz);
    return bn2d_group_norm_backward(optional(of_x), &of_dy, optional(of_y), mask, num_groups,
                                    param_dtype, weight, saved_mean, saved_invstd, activation,
                                    slope, blend, optional(of_dx), optional(of_dz), dweight, dbias);
  });
}

int32_t bn2d_statistics_accumulate_flat(bn2d_statistics *statistics, int32_t dtype, int32_t layout,
                                        const void *x, int64_t n, int64_t h, int64_t w) {
  return forwarded([&] {
    const FlatTensors tensors(dtype, layout, n,
                              checked(statistics, "statistics").value->num_features(), h, w);
    const bn2d_view of_x = tensors.view(x);
    return bn2d_statistics_accumulate(statistics, &of_x);
  });
}

int32_t bn2d_forward_with_statistics_flat(bn2d_module *module, const bn2d_statistics *statistics,
                                          int32_t dtype, int32_t layout, const void *x,
                                          const void *z, int64_t n, int64_t h, int64_t w,
                                          int32_t activation, double slope, void *y,
                                          bn2d_record **record) {
  return forwarded([&] {
    const FlatTensors tensors(dtype, layout, n, checked(module, "module").value->num_features(), h,
                              w);
    const bn2d_view of_x = tensors.view(x), of_z = tensors.view(z), of_y = tensors.view(y);
    return bn2d_forward_with_statistics(module, statistics, &of_x, optional(of_z), activation,
                                        slope, &of_y, record);
  });
}

int32_t bn2d_backward_sums_flat(bn2d_module *module, const bn2d_record *record, int32_t dtype,
                                int32_t layout, const void *dy, double *sums, int64_t length) {
  return forwarded([&] {
    const FlatTensors tensors(dtype, layout, size_of(record));
    const bn2d_view of_dy = tensors.view(dy);
    return bn2d_backward_sums(module, record, &of_dy, sums, length);
  });
}

int32_t bn2d_backward_with_sums_flat(bn2d_module *module, const bn2d_record *record, int32_t dtype,
                                     int32_t layout, const void *dy, const double *sums,
                                     int64_t length, void *dx, void *dz) {
  return forwarded([&] {
    const FlatTensors tensors(dtype, layout, size_of(record));
    const bn2d_view of_dy = tensors.view(dy), of_dx = tensors.view(dx), of_dz = tensors.view(dz);
    return bn2d_backward_with_sums(module, record, &of_dy, sums, length, optional(of_dx),
                                   optional(of_dz));
  });
}
