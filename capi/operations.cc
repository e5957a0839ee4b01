// Forward, backward and double backward of a module, and their records.
#include <cinttypes>

#include "convert.h"
#include "handle.h"

using namespace bn2d;
using namespace bn2d::capi;

// Where there are several views, each is looked at in the order of the parameters before they are
// passed on: of two that do not fit, the message is of the first one, whatever the compiler.

namespace {

// The forward itself cannot fail once it has begun, so a record's handle is made before and filled
// in after.
void run_forward(bn2d_module &module, const View &x, const View &z, const Fused &fused,
                 const View &y, bn2d_record **out, const StatisticsSource &source = {}) {
  BatchNormBase &m = *module.value;
  if (out == nullptr) return m.forward(x, z, fused, y, source, nullptr);
  NewHandle<bn2d_record> handle;
  m.forward(x, z, fused, y, source, &handle->value);
  // No record: `source` has no statistics, so the call was a check
  // (bn2d_forward_with_statistics(NULL)).
  if (handle->value == nullptr) return;
  handle->pool = m.records();
  *out = handle.publish();
}

template <class T>
int32_t forward_contiguous(bn2d_module *module, DType dtype, const T *x, int64_t n, int64_t h,
                           int64_t w, T *y, bn2d_record **record) {
  return guarded([&] {
    bn2d_module &m = checked(module, "module");
    const int64_t c = m.value->num_features();
    const View of_x = contiguous_of("x", x, dtype, n, c, h, w);
    View of_y = of_x;
    of_y.data = reinterpret_cast<std::byte *>(y);
    run_forward(m, of_x, View(), Fused(), of_y, record);
  });
}

template <class T>
int32_t backward_contiguous(bn2d_module *module, DType dtype, const bn2d_record *record,
                            const T *dy, T *dx) {
  return guarded([&] {
    bn2d_module &m = checked(module, "module");
    const Record &r = *checked(record, "record").value;
    const Extents &size = r.x.size;
    const View gradient = contiguous_of("dy", dy, dtype, size.n, size.c, size.h, size.w);
    m.value->backward(r, gradient,
                      dx ? contiguous_of("dx", dx, dtype, size.n, size.c, size.h, size.w) : View(),
                      View());
  });
}

// `length`: of the sums that the caller has.
void check_sums(const bn2d_module &module, int64_t length) {
  const int64_t expected = 2 * module.value->num_features();
  if (length != expected)
    fail(Status::shape, "length is %" PRId64 ", the sums of the module's channels are %" PRId64,
         length, expected);
}

}  // namespace

int32_t bn2d_forward_f32(bn2d_module *module, const float *x, int64_t n, int64_t h, int64_t w,
                         float *y, bn2d_record **record) {
  return forward_contiguous(module, DType::f32, x, n, h, w, y, record);
}
int32_t bn2d_forward_f64(bn2d_module *module, const double *x, int64_t n, int64_t h, int64_t w,
                         double *y, bn2d_record **record) {
  return forward_contiguous(module, DType::f64, x, n, h, w, y, record);
}

int32_t bn2d_forward(bn2d_module *module, const bn2d_view *x, const bn2d_view *y,
                     bn2d_record **record) {
  return guarded([&] {
    bn2d_module &m = checked(module, "module");
    const View of_x = view_of("x", x), of_y = view_of("y", y);
    run_forward(m, of_x, View(), Fused(), of_y, record);
  });
}

int32_t bn2d_forward_act(bn2d_module *module, const bn2d_view *x, const bn2d_view *z,
                         int32_t activation, double slope, const bn2d_view *y,
                         bn2d_record **record) {
  return guarded([&] {
    bn2d_module &m = checked(module, "module");
    const View of_x = view_of("x", x), of_z = optional_view_of("z", z), of_y = view_of("y", y);
    run_forward(m, of_x, of_z, {static_cast<Activation>(activation), slope}, of_y, record);
  });
}

int32_t bn2d_backward_f32(bn2d_module *module, const bn2d_record *record, const float *dy,
                          float *dx) {
  return backward_contiguous(module, DType::f32, record, dy, dx);
}
int32_t bn2d_backward_f64(bn2d_module *module, const bn2d_record *record, const double *dy,
                          double *dx) {
  return backward_contiguous(module, DType::f64, record, dy, dx);
}

int32_t bn2d_backward(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy,
                      const bn2d_view *dx, const bn2d_view *dz) {
  return guarded([&] {
    bn2d_module &m = checked(module, "module");
    const Record &r = *checked(record, "record").value;
    const View of_dy = view_of("dy", dy), of_dx = optional_view_of("dx", dx),
               of_dz = optional_view_of("dz", dz);
    m.value->backward(r, of_dy, of_dx, of_dz);
  });
}

int32_t bn2d_double_backward(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy,
                             const bn2d_view *ddx, const void *ddweight, const void *ddbias,
                             const bn2d_view *ddy, const bn2d_view *dx) {
  return bn2d_double_backward_act(module, record, dy, ddx, nullptr, ddweight, ddbias, ddy, dx,
                                  nullptr);
}

int32_t bn2d_double_backward_act(bn2d_module *module, const bn2d_record *record,
                                 const bn2d_view *dy, const bn2d_view *ddx, const bn2d_view *ddz,
                                 const void *ddweight, const void *ddbias, const bn2d_view *ddy,
                                 const bn2d_view *dx, const bn2d_view *dz) {
  return guarded([&] {
    bn2d_module &m = checked(module, "module");
    const Record &r = *checked(record, "record").value;
    DoubleBackwardCall call;
    call.dy = view_of("dy", dy);
    call.ddx = optional_view_of("ddx", ddx);
    call.ddz = optional_view_of("ddz", ddz);
    call.ddweight.data = const_cast<void *>(ddweight);
    call.ddbias.data = const_cast<void *>(ddbias);
    call.ddy = optional_view_of("ddy", ddy);
    call.dx = optional_view_of("dx", dx);
    call.dz = optional_view_of("dz", dz);
    m.value->double_backward(r, &call);
  });
}

int32_t bn2d_forward_with_statistics(bn2d_module *module, const bn2d_statistics *statistics,
                                     const bn2d_view *x, const bn2d_view *z, int32_t activation,
                                     double slope, const bn2d_view *y, bn2d_record **record) {
  return guarded([&] {
    bn2d_module &m = checked(module, "module");
    const StatisticsSource source = {
        true, statistics ? checked(statistics, "statistics").value.get() : nullptr};
    const View of_x = view_of("x", x), of_z = optional_view_of("z", z), of_y = view_of("y", y);
    run_forward(m, of_x, of_z, {static_cast<Activation>(activation), slope}, of_y, record, source);
  });
}

int32_t bn2d_backward_sums(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy,
                           double *sums, int64_t length) {
  return guarded([&] {
    bn2d_module &m = checked(module, "module");
    const Record &r = *checked(record, "record").value;
    check_sums(m, length);
    m.value->backward_sums(r, view_of("dy", dy), required(sums, "sums"));
  });
}

int32_t bn2d_backward_with_sums(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy,
                                const double *sums, int64_t length, const bn2d_view *dx,
                                const bn2d_view *dz) {
  return guarded([&] {
    bn2d_module &m = checked(module, "module");
    const Record &r = *checked(record, "record").value;
    check_sums(m, length);
    const View of_dy = view_of("dy", dy), of_dx = optional_view_of("dx", dx),
               of_dz = optional_view_of("dz", dz);
    m.value->backward_with_sums(r, of_dy, sums, of_dx, of_dz);
  });
}

int32_t bn2d_record_batch_statistics(const bn2d_record *record, int32_t *out) {
  return guarded([&] {
    required(out, "out");
    *out = checked(record, "record").value->batch_statistics ? 1 : 0;
  });
}
int32_t bn2d_record_retain(bn2d_record *record) {
  return guarded([&] { retain(record, "record"); });
}
void bn2d_record_release(bn2d_record *record) { release(record); }
