#include "handle.h"

using namespace bn2d;
using namespace bn2d::capi;

int32_t bn2d_options_create(bn2d_options **out) {
  return guarded([&] {
    required(out, "out");
    NewHandle<bn2d_options> handle;
    *out = handle.publish();
  });
}

int32_t bn2d_options_retain(bn2d_options *options) {
  return guarded([&] { retain(options, "options"); });
}
void bn2d_options_release(bn2d_options *options) { release(options); }

int32_t bn2d_options_set_eps(bn2d_options *options, double eps) {
  return guarded([&] { checked(options, "options").value.set_eps(eps); });
}
int32_t bn2d_options_set_momentum(bn2d_options *options, double momentum) {
  return guarded([&] { checked(options, "options").value.set_momentum(momentum); });
}
int32_t bn2d_options_set_momentum_none(bn2d_options *options) {
  return guarded([&] { checked(options, "options").value.set_momentum_none(); });
}
int32_t bn2d_options_set_affine(bn2d_options *options, int32_t affine) {
  return guarded([&] { checked(options, "options").value.set_affine(affine); });
}
int32_t bn2d_options_set_bias(bn2d_options *options, int32_t bias) {
  return guarded([&] { checked(options, "options").value.set_bias(bias); });
}
int32_t bn2d_options_set_track_running_stats(bn2d_options *options, int32_t track) {
  return guarded([&] { checked(options, "options").value.set_track_running_stats(track); });
}
int32_t bn2d_options_set_device(bn2d_options *options, int32_t device_type, int32_t device_id) {
  return guarded([&] { checked(options, "options").value.set_device(device_type, device_id); });
}
int32_t bn2d_options_set_dtype(bn2d_options *options, int32_t dtype) {
  return guarded([&] { checked(options, "options").value.set_dtype(dtype); });
}
int32_t bn2d_options_set_biased_running_var(bn2d_options *options, int32_t biased) {
  return guarded([&] { checked(options, "options").value.set_biased_running_var(biased); });
}
int32_t bn2d_options_set_protect_running_stats(bn2d_options *options, int32_t protect) {
  return guarded([&] { checked(options, "options").value.set_protect_running_stats(protect); });
}
int32_t bn2d_options_set_num_threads(bn2d_options *options, int32_t threads) {
  return guarded([&] { checked(options, "options").value.set_num_threads(threads); });
}
int32_t bn2d_options_set_by_name(bn2d_options *options, const char *name, const char *value) {
  return guarded([&] {
    checked(options, "options").value.set_by_name(required(name, "name"), required(value, "value"));
  });
}
int32_t bn2d_options_set_ghost_batch_size(bn2d_options *options, int64_t samples) {
  return guarded([&] { checked(options, "options").value.set_ghost_batch_size(samples); });
}
