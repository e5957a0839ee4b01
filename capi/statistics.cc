// Statistics from outside: the object that gathers them.
#include <cinttypes>

#include "convert.h"
#include "handle.h"

using namespace bn2d;
using namespace bn2d::capi;

namespace {

// An array of the caller, of as many doubles as there must be.
template <class T>
T *checked_array(const char *what, T *array, int64_t length, int64_t expected) {
  if (length != expected)
    fail(Status::shape, "length is %" PRId64 ", %s needs %" PRId64, length, what, expected);
  check_array(what, required(array, what), expected * int64_t{sizeof(double)}, sizeof(double));
  return array;
}

Statistics &checked_statistics(const bn2d_statistics *statistics, const char *name = "statistics") {
  return *checked(statistics, name).value;
}

}  // namespace

int32_t bn2d_statistics_create(int64_t num_features, bn2d_statistics **out) {
  return guarded([&] {
    required(out, "out");
    NewHandle<bn2d_statistics> handle;
    handle->value = std::make_unique<Statistics>(num_features);
    *out = handle.publish();
  });
}
int32_t bn2d_statistics_retain(bn2d_statistics *statistics) {
  return guarded([&] { retain(statistics, "statistics"); });
}
void bn2d_statistics_release(bn2d_statistics *statistics) { release(statistics); }

int32_t bn2d_statistics_reset(bn2d_statistics *statistics) {
  return guarded([&] { checked_statistics(statistics).reset(); });
}
int32_t bn2d_statistics_accumulate(bn2d_statistics *statistics, const bn2d_view *x) {
  return guarded([&] { checked_statistics(statistics).accumulate(view_of("x", x)); });
}
int32_t bn2d_statistics_merge(bn2d_statistics *statistics, const bn2d_statistics *other) {
  return guarded([&] { checked_statistics(statistics).merge(checked_statistics(other, "other")); });
}
int32_t bn2d_statistics_count(const bn2d_statistics *statistics, int64_t *out) {
  return guarded([&] {
    required(out, "out");
    *out = checked_statistics(statistics).count();
  });
}
int32_t bn2d_statistics_mean_var(const bn2d_statistics *statistics, double *mean, double *var,
                                 int64_t length) {
  return guarded([&] {
    const Statistics &s = checked_statistics(statistics);
    if (length != s.num_features())
      fail(Status::shape, "length is %" PRId64 ", the statistics are of %" PRId64 " channels",
           length, s.num_features());
    s.mean_var(mean, var);
  });
}

int32_t bn2d_statistics_export_length(const bn2d_statistics *statistics, int64_t *out) {
  return guarded([&] {
    required(out, "out");
    *out = checked_statistics(statistics).exported_length();
  });
}
int32_t bn2d_statistics_export(const bn2d_statistics *statistics, double *values, int64_t length) {
  return guarded([&] {
    const Statistics &s = checked_statistics(statistics);
    s.export_to(checked_array("values", values, length, s.exported_length()));
  });
}
int32_t bn2d_statistics_merge_exported(bn2d_statistics *statistics, const double *values,
                                       int64_t length) {
  return guarded([&] {
    Statistics &s = checked_statistics(statistics);
    s.merge_exported(checked_array("values", values, length, s.exported_length()));
  });
}

int32_t bn2d_module_set_running_stats(bn2d_module *module, const bn2d_statistics *statistics) {
  return guarded(
      [&] { checked(module, "module").value->set_running_stats(checked_statistics(statistics)); });
}
