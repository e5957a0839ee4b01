-- SPDX-License-Identifier: MIT
-- bn2d.cdef as a Lua string. Written by capi/api/bindings.py from bn2d-api.json: do not edit.
return [[
enum { BN2D_VERSION_MAJOR = 1, BN2D_VERSION_MINOR = 3, BN2D_VERSION_PATCH = 0, BN2D_API_VERSION = 4 };
enum bn2d_status {
  BN2D_OK = 0,
  BN2D_ERROR_INVALID_ARGUMENT = -1,
  BN2D_ERROR_INVALID_HANDLE = -2,
  BN2D_ERROR_NOT_FOUND = -3,
  BN2D_ERROR_SHAPE = -4,
  BN2D_ERROR_DTYPE = -5,
  BN2D_ERROR_DEVICE = -6,
  BN2D_ERROR_LAYOUT = -7,
  BN2D_ERROR_OVERLAP = -8,
  BN2D_ERROR_OVERFLOW = -9,
  BN2D_ERROR_TOO_FEW_VALUES = -10,
  BN2D_ERROR_STATE = -11,
  BN2D_ERROR_BUSY = -12,
  BN2D_ERROR_BUFFER_TOO_SMALL = -13,
  BN2D_ERROR_OUT_OF_MEMORY = -14,
  BN2D_ERROR_INTERNAL = -15,
  BN2D_ERROR_IO = -16,
  BN2D_ERROR_FORMAT = -17
};
enum bn2d_dtype {
  BN2D_F32 = 1,
  BN2D_F64 = 2,
  BN2D_F16 = 3,
  BN2D_BF16 = 4,
  BN2D_I64 = 5
};
enum bn2d_device {
  BN2D_CPU = 1,
  BN2D_CUDA = 2,
  BN2D_ROCM = 10
};
enum bn2d_activation {
  BN2D_ACT_NONE = 0,
  BN2D_ACT_RELU = 1,
  BN2D_ACT_LEAKY_RELU = 2,
  BN2D_ACT_RELU6 = 3,
  BN2D_ACT_CLAMP = 4,
  BN2D_ACT_HARDSWISH = 5,
  BN2D_ACT_SILU = 6,
  BN2D_ACT_GELU = 7,
  BN2D_ACT_SIGMOID = 8
};
enum bn2d_layout {
  BN2D_NCHW = 1,
  BN2D_NHWC = 2
};
enum bn2d_tensor_kind {
  BN2D_PARAMETER = 1,
  BN2D_BUFFER = 2,
  BN2D_GRADIENT = 3
};
enum bn2d_thread_pool {
  BN2D_POOL_DEFAULT = 0,
  BN2D_POOL_TBB = 1,
  BN2D_POOL_OPENMP = 2,
  BN2D_POOL_HOST = 3
};
enum bn2d_flag {
  BN2D_FLAG_BIASED_RUNNING_VAR = 1,
  BN2D_FLAG_PROTECT_RUNNING_STATS = 2
};
enum bn2d_norm {
  BN2D_NORM_BATCH = 1,
  BN2D_NORM_GROUP = 2,
  BN2D_NORM_INSTANCE = 3
};
typedef struct bn2d_options bn2d_options;
typedef struct bn2d_module bn2d_module;
typedef struct bn2d_tensor bn2d_tensor;
typedef struct bn2d_record bn2d_record;
typedef struct bn2d_statistics bn2d_statistics;
struct DLManagedTensor;
struct DLManagedTensorVersioned;
typedef void (*bn2d_work)(void *context, int32_t worker);
typedef void (*bn2d_run_workers)(void *user, int32_t workers, bn2d_work work, void *context);
typedef struct bn2d_view {
  void *data;
  int32_t device_type;
  int32_t device_id;
  int32_t ndim;
  uint8_t dtype_code;
  uint8_t dtype_bits;
  uint16_t dtype_lanes;
  const int64_t *shape;
  const int64_t *strides;
  uint64_t byte_offset;
} bn2d_view;
typedef struct bn2d_api {
  uint64_t size;
  uint32_t api_version;
  uint32_t reserved;
  uint32_t (*version)(void);
  const char *(*version_string)(void);
  const char *(*build_info)(void);
  const char *(*simd_target)(void);
  const char *(*last_error)(void);
  const char *(*status_name)(int32_t status);
  const char *(*dtype_name)(int32_t dtype);
  uint64_t (*dtype_size)(int32_t dtype);
  int32_t (*dtype_from_name)(const char *name, int32_t *out);
  int32_t (*constant_count)(void);
  int32_t (*constant_at)(int32_t index, const char **out_name, int64_t *out_value);
  int32_t (*constant_by_name)(const char *name, int64_t *out_value);
  int32_t (*set_num_threads)(int32_t threads);
  int32_t (*get_num_threads)(void);
  int32_t (*set_streaming_threshold)(int64_t bytes);
  int64_t (*get_streaming_threshold)(void);
  int32_t (*options_create)(bn2d_options **out);
  int32_t (*options_retain)(bn2d_options *options);
  void (*options_release)(bn2d_options *options);
  int32_t (*options_set_eps)(bn2d_options *options, double eps);
  int32_t (*options_set_momentum)(bn2d_options *options, double momentum);
  int32_t (*options_set_momentum_none)(bn2d_options *options);
  int32_t (*options_set_affine)(bn2d_options *options, int32_t affine);
  int32_t (*options_set_bias)(bn2d_options *options, int32_t bias);
  int32_t (*options_set_track_running_stats)(bn2d_options *options, int32_t track);
  int32_t (*options_set_device)(bn2d_options *options, int32_t device_type, int32_t device_id);
  int32_t (*options_set_dtype)(bn2d_options *options, int32_t dtype);
  int32_t (*options_set_biased_running_var)(bn2d_options *options, int32_t biased);
  int32_t (*options_set_protect_running_stats)(bn2d_options *options, int32_t protect);
  int32_t (*options_set_num_threads)(bn2d_options *options, int32_t threads);
  int32_t (*options_set_by_name)(bn2d_options *options, const char *name, const char *value);
  int32_t (*module_create)(int64_t num_features, const bn2d_options *options, bn2d_module **out);
  int32_t (*module_retain)(bn2d_module *module);
  void (*module_release)(bn2d_module *module);
  int32_t (*module_train)(bn2d_module *module, int32_t training);
  int32_t (*module_eval)(bn2d_module *module);
  int32_t (*module_is_training)(const bn2d_module *module, int32_t *out);
  int32_t (*module_num_features)(const bn2d_module *module, int64_t *out);
  int32_t (*module_eps)(const bn2d_module *module, double *out);
  int32_t (*module_momentum)(const bn2d_module *module, int32_t *out_has, double *out);
  int32_t (*module_affine)(const bn2d_module *module, int32_t *out);
  int32_t (*module_track_running_stats)(const bn2d_module *module, int32_t *out);
  int32_t (*module_dtype)(const bn2d_module *module, int32_t *out);
  int32_t (*module_device)(const bn2d_module *module, int32_t *out_type, int32_t *out_id);
  int32_t (*module_set_num_threads)(bn2d_module *module, int32_t threads);
  int32_t (*module_get_num_threads)(const bn2d_module *module, int32_t *out);
  int32_t (*module_repr)(const bn2d_module *module, char *buffer, uint64_t capacity, uint64_t *length);
  int32_t (*module_reset_running_stats)(bn2d_module *module);
  int32_t (*module_reset_parameters)(bn2d_module *module);
  int32_t (*module_zero_grad)(bn2d_module *module);
  int32_t (*module_tensor_count)(const bn2d_module *module, int32_t *out);
  int32_t (*module_tensor_at)(const bn2d_module *module, int32_t index, bn2d_tensor **out);
  int32_t (*module_tensor_by_name)(const bn2d_module *module, const char *name, bn2d_tensor **out);
  int32_t (*tensor_retain)(bn2d_tensor *tensor);
  void (*tensor_release)(bn2d_tensor *tensor);
  int32_t (*tensor_name)(const bn2d_tensor *tensor, const char **out);
  int32_t (*tensor_kind)(const bn2d_tensor *tensor, int32_t *out);
  int32_t (*tensor_dtype)(const bn2d_tensor *tensor, int32_t *out);
  int32_t (*tensor_rank)(const bn2d_tensor *tensor, int32_t *out);
  int32_t (*tensor_dim)(const bn2d_tensor *tensor, int32_t dimension, int64_t *out);
  int32_t (*tensor_nbytes)(const bn2d_tensor *tensor, uint64_t *out);
  int32_t (*tensor_data)(const bn2d_tensor *tensor, void **out);
  int32_t (*tensor_grad)(const bn2d_tensor *tensor, bn2d_tensor **out);
  int32_t (*tensor_requires_grad)(const bn2d_tensor *tensor, int32_t *out);
  int32_t (*tensor_set_requires_grad)(bn2d_tensor *tensor, int32_t requires_grad);
  int32_t (*tensor_copy_from)(bn2d_tensor *tensor, const bn2d_view *source);
  int32_t (*tensor_copy_to)(const bn2d_tensor *tensor, const bn2d_view *target);
  int32_t (*tensor_to_dlpack)(const bn2d_tensor *tensor, struct DLManagedTensorVersioned **out);
  int32_t (*tensor_to_dlpack_legacy)(const bn2d_tensor *tensor, struct DLManagedTensor **out);
  int32_t (*forward_f32)(bn2d_module *module, const float *x, int64_t n, int64_t h, int64_t w, float *y, bn2d_record **record);
  int32_t (*forward_f64)(bn2d_module *module, const double *x, int64_t n, int64_t h, int64_t w, double *y, bn2d_record **record);
  int32_t (*forward)(bn2d_module *module, const bn2d_view *x, const bn2d_view *y, bn2d_record **record);
  int32_t (*forward_act)(bn2d_module *module, const bn2d_view *x, const bn2d_view *z, int32_t activation, double slope, const bn2d_view *y, bn2d_record **record);
  int32_t (*backward_f32)(bn2d_module *module, const bn2d_record *record, const float *dy, float *dx);
  int32_t (*backward_f64)(bn2d_module *module, const bn2d_record *record, const double *dy, double *dx);
  int32_t (*backward)(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy, const bn2d_view *dx, const bn2d_view *dz);
  int32_t (*double_backward)(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy, const bn2d_view *ddx, const void *ddweight, const void *ddbias, const bn2d_view *ddy, const bn2d_view *dx);
  int32_t (*record_retain)(bn2d_record *record);
  void (*record_release)(bn2d_record *record);
  int32_t (*batch_norm_forward)(const bn2d_view *x, const bn2d_view *z, const bn2d_view *y, int32_t dtype, const void *weight, const void *bias, void *running_mean, void *running_var, int32_t batch_stats, double averaging_factor, double eps, int32_t flags, int32_t activation, double slope, uint8_t *mask, double *saved_mean, double *saved_invstd);
  int32_t (*batch_norm_backward)(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int32_t dtype, const void *weight, const double *saved_mean, const double *saved_invstd, int32_t batch_stats, int32_t activation, double slope, double blend, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias);
  int32_t (*batch_norm_double_backward)(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int32_t dtype, const void *weight, const double *saved_mean, const double *saved_invstd, int32_t batch_stats, int32_t activation, double slope, const bn2d_view *ddx, const void *ddweight, const void *ddbias, double blend, const bn2d_view *ddy, const bn2d_view *dx, void *dweight);
  int32_t (*mask_nbytes)(int64_t n, int64_t c, int64_t h, int64_t w, uint64_t *out);
  int32_t (*forward_flat)(bn2d_module *module, int32_t dtype, int32_t layout, const void *x, const void *z, int64_t n, int64_t h, int64_t w, int32_t activation, double slope, void *y, bn2d_record **record);
  int32_t (*backward_flat)(bn2d_module *module, const bn2d_record *record, int32_t dtype, int32_t layout, const void *dy, void *dx, void *dz);
  int32_t (*double_backward_flat)(bn2d_module *module, const bn2d_record *record, int32_t dtype, int32_t layout, const void *dy, const void *ddx, const void *ddweight, const void *ddbias, void *ddy, void *dx);
  int32_t (*batch_norm_forward_flat)(int32_t data_dtype, int32_t layout, int64_t n, int64_t c, int64_t h, int64_t w, const void *x, const void *z, void *y, int32_t param_dtype, int64_t num_features, const void *weight, const void *bias, void *running_mean, void *running_var, int32_t batch_stats, double averaging_factor, double eps, int32_t flags, int32_t activation, double slope, uint8_t *mask, double *saved_mean, double *saved_invstd);
  int32_t (*batch_norm_backward_flat)(int32_t data_dtype, int32_t layout, int64_t n, int64_t c, int64_t h, int64_t w, const void *x, const void *dy, const void *y, const uint8_t *mask, int32_t param_dtype, int64_t num_features, const void *weight, const double *saved_mean, const double *saved_invstd, int32_t batch_stats, int32_t activation, double slope, double blend, void *dx, void *dz, void *dweight, void *dbias);
  int32_t (*tensor_copy_from_flat)(bn2d_tensor *tensor, int32_t dtype, const void *data, int64_t length);
  int32_t (*tensor_copy_to_flat)(const bn2d_tensor *tensor, int32_t dtype, void *data, int64_t length);
  int32_t (*set_thread_pool)(int32_t kind);
  int32_t (*set_host_thread_pool)(bn2d_run_workers run, void *user, int32_t threads);
  int32_t (*get_thread_pool)(void);
  int32_t (*module_set_thread_pool)(bn2d_module *module, int32_t kind);
  int32_t (*module_set_host_thread_pool)(bn2d_module *module, bn2d_run_workers run, void *user, int32_t threads);
  int32_t (*module_get_thread_pool)(const bn2d_module *module, int32_t *out);
  int32_t (*set_last_error)(int32_t status, const char *text);
  int32_t (*module_try_lock)(bn2d_module *module, int32_t exclusive);
  int32_t (*module_unlock)(bn2d_module *module, int32_t exclusive);
  int32_t (*module_scale_shift)(const bn2d_module *module, int32_t dtype, void *scale, void *shift, int64_t length);
  int32_t (*module_set_momentum)(bn2d_module *module, double momentum);
  int32_t (*module_set_momentum_none)(bn2d_module *module);
  int32_t (*module_set_frozen)(bn2d_module *module, int32_t frozen);
  int32_t (*module_is_frozen)(const bn2d_module *module, int32_t *out);
  int32_t (*statistics_create)(int64_t num_features, bn2d_statistics **out);
  int32_t (*statistics_retain)(bn2d_statistics *statistics);
  void (*statistics_release)(bn2d_statistics *statistics);
  int32_t (*statistics_accumulate)(bn2d_statistics *statistics, const bn2d_view *x);
  int32_t (*statistics_accumulate_flat)(bn2d_statistics *statistics, int32_t dtype, int32_t layout, const void *x, int64_t n, int64_t h, int64_t w);
  int32_t (*statistics_merge)(bn2d_statistics *statistics, const bn2d_statistics *other);
  int32_t (*statistics_reset)(bn2d_statistics *statistics);
  int32_t (*statistics_count)(const bn2d_statistics *statistics, int64_t *out);
  int32_t (*statistics_mean_var)(const bn2d_statistics *statistics, double *mean, double *var, int64_t length);
  int32_t (*statistics_export_length)(const bn2d_statistics *statistics, int64_t *out);
  int32_t (*statistics_export)(const bn2d_statistics *statistics, double *values, int64_t length);
  int32_t (*statistics_merge_exported)(bn2d_statistics *statistics, const double *values, int64_t length);
  int32_t (*forward_with_statistics)(bn2d_module *module, const bn2d_statistics *statistics, const bn2d_view *x, const bn2d_view *z, int32_t activation, double slope, const bn2d_view *y, bn2d_record **record);
  int32_t (*forward_with_statistics_flat)(bn2d_module *module, const bn2d_statistics *statistics, int32_t dtype, int32_t layout, const void *x, const void *z, int64_t n, int64_t h, int64_t w, int32_t activation, double slope, void *y, bn2d_record **record);
  int32_t (*record_batch_statistics)(const bn2d_record *record, int32_t *out);
  int32_t (*backward_sums)(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy, double *sums, int64_t length);
  int32_t (*backward_sums_flat)(bn2d_module *module, const bn2d_record *record, int32_t dtype, int32_t layout, const void *dy, double *sums, int64_t length);
  int32_t (*backward_with_sums)(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy, const double *sums, int64_t length, const bn2d_view *dx, const bn2d_view *dz);
  int32_t (*backward_with_sums_flat)(bn2d_module *module, const bn2d_record *record, int32_t dtype, int32_t layout, const void *dy, const double *sums, int64_t length, void *dx, void *dz);
  int32_t (*module_set_running_stats)(bn2d_module *module, const bn2d_statistics *statistics);
  int32_t (*options_set_ghost_batch_size)(bn2d_options *options, int64_t samples);
  int32_t (*group_norm_create)(int64_t num_groups, int64_t num_channels, const bn2d_options *options, bn2d_module **out);
  int32_t (*instance_norm_create)(int64_t num_features, const bn2d_options *options, bn2d_module **out);
  int32_t (*module_norm)(const bn2d_module *module, int32_t *out);
  int32_t (*module_num_groups)(const bn2d_module *module, int64_t *out);
  int32_t (*module_ghost_batch_size)(const bn2d_module *module, int64_t *out);
  int32_t (*group_norm_forward)(const bn2d_view *x, const bn2d_view *z, const bn2d_view *y, int64_t num_groups, int32_t dtype, const void *weight, const void *bias, double eps, int32_t activation, double slope, uint8_t *mask, double *saved_mean, double *saved_invstd);
  int32_t (*group_norm_backward)(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int64_t num_groups, int32_t dtype, const void *weight, const double *saved_mean, const double *saved_invstd, int32_t activation, double slope, double blend, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias);
  int32_t (*group_norm_double_backward)(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int64_t num_groups, int32_t dtype, const void *weight, const double *saved_mean, const double *saved_invstd, int32_t activation, double slope, const bn2d_view *ddx, const void *ddweight, const void *ddbias, double blend, const bn2d_view *ddy, const bn2d_view *dx, void *dweight);
  int32_t (*group_norm_forward_flat)(int32_t data_dtype, int32_t layout, int64_t n, int64_t c, int64_t h, int64_t w, const void *x, const void *z, void *y, int64_t num_groups, int32_t param_dtype, int64_t num_features, const void *weight, const void *bias, double eps, int32_t activation, double slope, uint8_t *mask, double *saved_mean, double *saved_invstd);
  int32_t (*group_norm_backward_flat)(int32_t data_dtype, int32_t layout, int64_t n, int64_t c, int64_t h, int64_t w, const void *x, const void *dy, const void *y, const uint8_t *mask, int64_t num_groups, int32_t param_dtype, int64_t num_features, const void *weight, const double *saved_mean, const double *saved_invstd, int32_t activation, double slope, double blend, void *dx, void *dz, void *dweight, void *dbias);
  int32_t (*batch_norm_backward_act)(const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int32_t dtype, const void *weight, const void *bias, const double *saved_mean, const double *saved_invstd, int32_t batch_stats, int32_t activation, double slope, double blend, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias);
  int32_t (*group_norm_backward_act)(const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int64_t num_groups, int32_t dtype, const void *weight, const void *bias, const double *saved_mean, const double *saved_invstd, int32_t activation, double slope, double blend, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias);
  int32_t (*double_backward_act)(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy, const bn2d_view *ddx, const bn2d_view *ddz, const void *ddweight, const void *ddbias, const bn2d_view *ddy, const bn2d_view *dx, const bn2d_view *dz);
  int32_t (*batch_norm_double_backward_act)(const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int32_t dtype, const void *weight, const void *bias, const double *saved_mean, const double *saved_invstd, int32_t batch_stats, int32_t activation, double slope, const bn2d_view *ddx, const bn2d_view *ddz, const void *ddweight, const void *ddbias, double blend, const bn2d_view *ddy, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias);
  int32_t (*group_norm_double_backward_act)(const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int64_t num_groups, int32_t dtype, const void *weight, const void *bias, const double *saved_mean, const double *saved_invstd, int32_t activation, double slope, const bn2d_view *ddx, const bn2d_view *ddz, const void *ddweight, const void *ddbias, double blend, const bn2d_view *ddy, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias);
} bn2d_api;
uint32_t bn2d_version(void);
const char *bn2d_version_string(void);
const char *bn2d_build_info(void);
const char *bn2d_simd_target(void);
const char *bn2d_last_error(void);
const char *bn2d_status_name(int32_t status);
const char *bn2d_dtype_name(int32_t dtype);
uint64_t bn2d_dtype_size(int32_t dtype);
int32_t bn2d_dtype_from_name(const char *name, int32_t *out);
int32_t bn2d_constant_count(void);
int32_t bn2d_constant_at(int32_t index, const char **out_name, int64_t *out_value);
int32_t bn2d_constant_by_name(const char *name, int64_t *out_value);
int32_t bn2d_set_num_threads(int32_t threads);
int32_t bn2d_get_num_threads(void);
int32_t bn2d_set_streaming_threshold(int64_t bytes);
int64_t bn2d_get_streaming_threshold(void);
int32_t bn2d_options_create(bn2d_options **out);
int32_t bn2d_options_retain(bn2d_options *options);
void bn2d_options_release(bn2d_options *options);
int32_t bn2d_options_set_eps(bn2d_options *options, double eps);
int32_t bn2d_options_set_momentum(bn2d_options *options, double momentum);
int32_t bn2d_options_set_momentum_none(bn2d_options *options);
int32_t bn2d_options_set_affine(bn2d_options *options, int32_t affine);
int32_t bn2d_options_set_bias(bn2d_options *options, int32_t bias);
int32_t bn2d_options_set_track_running_stats(bn2d_options *options, int32_t track);
int32_t bn2d_options_set_device(bn2d_options *options, int32_t device_type, int32_t device_id);
int32_t bn2d_options_set_dtype(bn2d_options *options, int32_t dtype);
int32_t bn2d_options_set_biased_running_var(bn2d_options *options, int32_t biased);
int32_t bn2d_options_set_protect_running_stats(bn2d_options *options, int32_t protect);
int32_t bn2d_options_set_num_threads(bn2d_options *options, int32_t threads);
int32_t bn2d_options_set_by_name(bn2d_options *options, const char *name, const char *value);
int32_t bn2d_module_create(int64_t num_features, const bn2d_options *options, bn2d_module **out);
int32_t bn2d_module_retain(bn2d_module *module);
void bn2d_module_release(bn2d_module *module);
int32_t bn2d_module_train(bn2d_module *module, int32_t training);
int32_t bn2d_module_eval(bn2d_module *module);
int32_t bn2d_module_is_training(const bn2d_module *module, int32_t *out);
int32_t bn2d_module_num_features(const bn2d_module *module, int64_t *out);
int32_t bn2d_module_eps(const bn2d_module *module, double *out);
int32_t bn2d_module_momentum(const bn2d_module *module, int32_t *out_has, double *out);
int32_t bn2d_module_affine(const bn2d_module *module, int32_t *out);
int32_t bn2d_module_track_running_stats(const bn2d_module *module, int32_t *out);
int32_t bn2d_module_dtype(const bn2d_module *module, int32_t *out);
int32_t bn2d_module_device(const bn2d_module *module, int32_t *out_type, int32_t *out_id);
int32_t bn2d_module_set_num_threads(bn2d_module *module, int32_t threads);
int32_t bn2d_module_get_num_threads(const bn2d_module *module, int32_t *out);
int32_t bn2d_module_repr(const bn2d_module *module, char *buffer, uint64_t capacity, uint64_t *length);
int32_t bn2d_module_reset_running_stats(bn2d_module *module);
int32_t bn2d_module_reset_parameters(bn2d_module *module);
int32_t bn2d_module_zero_grad(bn2d_module *module);
int32_t bn2d_module_tensor_count(const bn2d_module *module, int32_t *out);
int32_t bn2d_module_tensor_at(const bn2d_module *module, int32_t index, bn2d_tensor **out);
int32_t bn2d_module_tensor_by_name(const bn2d_module *module, const char *name, bn2d_tensor **out);
int32_t bn2d_tensor_retain(bn2d_tensor *tensor);
void bn2d_tensor_release(bn2d_tensor *tensor);
int32_t bn2d_tensor_name(const bn2d_tensor *tensor, const char **out);
int32_t bn2d_tensor_kind(const bn2d_tensor *tensor, int32_t *out);
int32_t bn2d_tensor_dtype(const bn2d_tensor *tensor, int32_t *out);
int32_t bn2d_tensor_rank(const bn2d_tensor *tensor, int32_t *out);
int32_t bn2d_tensor_dim(const bn2d_tensor *tensor, int32_t dimension, int64_t *out);
int32_t bn2d_tensor_nbytes(const bn2d_tensor *tensor, uint64_t *out);
int32_t bn2d_tensor_data(const bn2d_tensor *tensor, void **out);
int32_t bn2d_tensor_grad(const bn2d_tensor *tensor, bn2d_tensor **out);
int32_t bn2d_tensor_requires_grad(const bn2d_tensor *tensor, int32_t *out);
int32_t bn2d_tensor_set_requires_grad(bn2d_tensor *tensor, int32_t requires_grad);
int32_t bn2d_tensor_copy_from(bn2d_tensor *tensor, const bn2d_view *source);
int32_t bn2d_tensor_copy_to(const bn2d_tensor *tensor, const bn2d_view *target);
int32_t bn2d_tensor_to_dlpack(const bn2d_tensor *tensor, struct DLManagedTensorVersioned **out);
int32_t bn2d_tensor_to_dlpack_legacy(const bn2d_tensor *tensor, struct DLManagedTensor **out);
int32_t bn2d_forward_f32(bn2d_module *module, const float *x, int64_t n, int64_t h, int64_t w, float *y, bn2d_record **record);
int32_t bn2d_forward_f64(bn2d_module *module, const double *x, int64_t n, int64_t h, int64_t w, double *y, bn2d_record **record);
int32_t bn2d_forward(bn2d_module *module, const bn2d_view *x, const bn2d_view *y, bn2d_record **record);
int32_t bn2d_forward_act(bn2d_module *module, const bn2d_view *x, const bn2d_view *z, int32_t activation, double slope, const bn2d_view *y, bn2d_record **record);
int32_t bn2d_backward_f32(bn2d_module *module, const bn2d_record *record, const float *dy, float *dx);
int32_t bn2d_backward_f64(bn2d_module *module, const bn2d_record *record, const double *dy, double *dx);
int32_t bn2d_backward(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy, const bn2d_view *dx, const bn2d_view *dz);
int32_t bn2d_double_backward(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy, const bn2d_view *ddx, const void *ddweight, const void *ddbias, const bn2d_view *ddy, const bn2d_view *dx);
int32_t bn2d_record_retain(bn2d_record *record);
void bn2d_record_release(bn2d_record *record);
int32_t bn2d_batch_norm_forward(const bn2d_view *x, const bn2d_view *z, const bn2d_view *y, int32_t dtype, const void *weight, const void *bias, void *running_mean, void *running_var, int32_t batch_stats, double averaging_factor, double eps, int32_t flags, int32_t activation, double slope, uint8_t *mask, double *saved_mean, double *saved_invstd);
int32_t bn2d_batch_norm_backward(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int32_t dtype, const void *weight, const double *saved_mean, const double *saved_invstd, int32_t batch_stats, int32_t activation, double slope, double blend, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias);
int32_t bn2d_batch_norm_double_backward(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int32_t dtype, const void *weight, const double *saved_mean, const double *saved_invstd, int32_t batch_stats, int32_t activation, double slope, const bn2d_view *ddx, const void *ddweight, const void *ddbias, double blend, const bn2d_view *ddy, const bn2d_view *dx, void *dweight);
int32_t bn2d_mask_nbytes(int64_t n, int64_t c, int64_t h, int64_t w, uint64_t *out);
int32_t bn2d_forward_flat(bn2d_module *module, int32_t dtype, int32_t layout, const void *x, const void *z, int64_t n, int64_t h, int64_t w, int32_t activation, double slope, void *y, bn2d_record **record);
int32_t bn2d_backward_flat(bn2d_module *module, const bn2d_record *record, int32_t dtype, int32_t layout, const void *dy, void *dx, void *dz);
int32_t bn2d_double_backward_flat(bn2d_module *module, const bn2d_record *record, int32_t dtype, int32_t layout, const void *dy, const void *ddx, const void *ddweight, const void *ddbias, void *ddy, void *dx);
int32_t bn2d_batch_norm_forward_flat(int32_t data_dtype, int32_t layout, int64_t n, int64_t c, int64_t h, int64_t w, const void *x, const void *z, void *y, int32_t param_dtype, int64_t num_features, const void *weight, const void *bias, void *running_mean, void *running_var, int32_t batch_stats, double averaging_factor, double eps, int32_t flags, int32_t activation, double slope, uint8_t *mask, double *saved_mean, double *saved_invstd);
int32_t bn2d_batch_norm_backward_flat(int32_t data_dtype, int32_t layout, int64_t n, int64_t c, int64_t h, int64_t w, const void *x, const void *dy, const void *y, const uint8_t *mask, int32_t param_dtype, int64_t num_features, const void *weight, const double *saved_mean, const double *saved_invstd, int32_t batch_stats, int32_t activation, double slope, double blend, void *dx, void *dz, void *dweight, void *dbias);
int32_t bn2d_tensor_copy_from_flat(bn2d_tensor *tensor, int32_t dtype, const void *data, int64_t length);
int32_t bn2d_tensor_copy_to_flat(const bn2d_tensor *tensor, int32_t dtype, void *data, int64_t length);
int32_t bn2d_set_thread_pool(int32_t kind);
int32_t bn2d_set_host_thread_pool(bn2d_run_workers run, void *user, int32_t threads);
int32_t bn2d_get_thread_pool(void);
int32_t bn2d_module_set_thread_pool(bn2d_module *module, int32_t kind);
int32_t bn2d_module_set_host_thread_pool(bn2d_module *module, bn2d_run_workers run, void *user, int32_t threads);
int32_t bn2d_module_get_thread_pool(const bn2d_module *module, int32_t *out);
int32_t bn2d_set_last_error(int32_t status, const char *text);
int32_t bn2d_module_try_lock(bn2d_module *module, int32_t exclusive);
int32_t bn2d_module_unlock(bn2d_module *module, int32_t exclusive);
int32_t bn2d_module_scale_shift(const bn2d_module *module, int32_t dtype, void *scale, void *shift, int64_t length);
int32_t bn2d_module_set_momentum(bn2d_module *module, double momentum);
int32_t bn2d_module_set_momentum_none(bn2d_module *module);
int32_t bn2d_module_set_frozen(bn2d_module *module, int32_t frozen);
int32_t bn2d_module_is_frozen(const bn2d_module *module, int32_t *out);
int32_t bn2d_statistics_create(int64_t num_features, bn2d_statistics **out);
int32_t bn2d_statistics_retain(bn2d_statistics *statistics);
void bn2d_statistics_release(bn2d_statistics *statistics);
int32_t bn2d_statistics_accumulate(bn2d_statistics *statistics, const bn2d_view *x);
int32_t bn2d_statistics_accumulate_flat(bn2d_statistics *statistics, int32_t dtype, int32_t layout, const void *x, int64_t n, int64_t h, int64_t w);
int32_t bn2d_statistics_merge(bn2d_statistics *statistics, const bn2d_statistics *other);
int32_t bn2d_statistics_reset(bn2d_statistics *statistics);
int32_t bn2d_statistics_count(const bn2d_statistics *statistics, int64_t *out);
int32_t bn2d_statistics_mean_var(const bn2d_statistics *statistics, double *mean, double *var, int64_t length);
int32_t bn2d_statistics_export_length(const bn2d_statistics *statistics, int64_t *out);
int32_t bn2d_statistics_export(const bn2d_statistics *statistics, double *values, int64_t length);
int32_t bn2d_statistics_merge_exported(bn2d_statistics *statistics, const double *values, int64_t length);
int32_t bn2d_forward_with_statistics(bn2d_module *module, const bn2d_statistics *statistics, const bn2d_view *x, const bn2d_view *z, int32_t activation, double slope, const bn2d_view *y, bn2d_record **record);
int32_t bn2d_forward_with_statistics_flat(bn2d_module *module, const bn2d_statistics *statistics, int32_t dtype, int32_t layout, const void *x, const void *z, int64_t n, int64_t h, int64_t w, int32_t activation, double slope, void *y, bn2d_record **record);
int32_t bn2d_record_batch_statistics(const bn2d_record *record, int32_t *out);
int32_t bn2d_backward_sums(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy, double *sums, int64_t length);
int32_t bn2d_backward_sums_flat(bn2d_module *module, const bn2d_record *record, int32_t dtype, int32_t layout, const void *dy, double *sums, int64_t length);
int32_t bn2d_backward_with_sums(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy, const double *sums, int64_t length, const bn2d_view *dx, const bn2d_view *dz);
int32_t bn2d_backward_with_sums_flat(bn2d_module *module, const bn2d_record *record, int32_t dtype, int32_t layout, const void *dy, const double *sums, int64_t length, void *dx, void *dz);
int32_t bn2d_module_set_running_stats(bn2d_module *module, const bn2d_statistics *statistics);
int32_t bn2d_options_set_ghost_batch_size(bn2d_options *options, int64_t samples);
int32_t bn2d_group_norm_create(int64_t num_groups, int64_t num_channels, const bn2d_options *options, bn2d_module **out);
int32_t bn2d_instance_norm_create(int64_t num_features, const bn2d_options *options, bn2d_module **out);
int32_t bn2d_module_norm(const bn2d_module *module, int32_t *out);
int32_t bn2d_module_num_groups(const bn2d_module *module, int64_t *out);
int32_t bn2d_module_ghost_batch_size(const bn2d_module *module, int64_t *out);
int32_t bn2d_group_norm_forward(const bn2d_view *x, const bn2d_view *z, const bn2d_view *y, int64_t num_groups, int32_t dtype, const void *weight, const void *bias, double eps, int32_t activation, double slope, uint8_t *mask, double *saved_mean, double *saved_invstd);
int32_t bn2d_group_norm_backward(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int64_t num_groups, int32_t dtype, const void *weight, const double *saved_mean, const double *saved_invstd, int32_t activation, double slope, double blend, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias);
int32_t bn2d_group_norm_double_backward(const bn2d_view *x, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int64_t num_groups, int32_t dtype, const void *weight, const double *saved_mean, const double *saved_invstd, int32_t activation, double slope, const bn2d_view *ddx, const void *ddweight, const void *ddbias, double blend, const bn2d_view *ddy, const bn2d_view *dx, void *dweight);
int32_t bn2d_group_norm_forward_flat(int32_t data_dtype, int32_t layout, int64_t n, int64_t c, int64_t h, int64_t w, const void *x, const void *z, void *y, int64_t num_groups, int32_t param_dtype, int64_t num_features, const void *weight, const void *bias, double eps, int32_t activation, double slope, uint8_t *mask, double *saved_mean, double *saved_invstd);
int32_t bn2d_group_norm_backward_flat(int32_t data_dtype, int32_t layout, int64_t n, int64_t c, int64_t h, int64_t w, const void *x, const void *dy, const void *y, const uint8_t *mask, int64_t num_groups, int32_t param_dtype, int64_t num_features, const void *weight, const double *saved_mean, const double *saved_invstd, int32_t activation, double slope, double blend, void *dx, void *dz, void *dweight, void *dbias);
int32_t bn2d_batch_norm_backward_act(const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int32_t dtype, const void *weight, const void *bias, const double *saved_mean, const double *saved_invstd, int32_t batch_stats, int32_t activation, double slope, double blend, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias);
int32_t bn2d_group_norm_backward_act(const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int64_t num_groups, int32_t dtype, const void *weight, const void *bias, const double *saved_mean, const double *saved_invstd, int32_t activation, double slope, double blend, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias);
int32_t bn2d_double_backward_act(bn2d_module *module, const bn2d_record *record, const bn2d_view *dy, const bn2d_view *ddx, const bn2d_view *ddz, const void *ddweight, const void *ddbias, const bn2d_view *ddy, const bn2d_view *dx, const bn2d_view *dz);
int32_t bn2d_batch_norm_double_backward_act(const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int32_t dtype, const void *weight, const void *bias, const double *saved_mean, const double *saved_invstd, int32_t batch_stats, int32_t activation, double slope, const bn2d_view *ddx, const bn2d_view *ddz, const void *ddweight, const void *ddbias, double blend, const bn2d_view *ddy, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias);
int32_t bn2d_group_norm_double_backward_act(const bn2d_view *x, const bn2d_view *z, const bn2d_view *dy, const bn2d_view *y, const uint8_t *mask, int64_t num_groups, int32_t dtype, const void *weight, const void *bias, const double *saved_mean, const double *saved_invstd, int32_t activation, double slope, const bn2d_view *ddx, const bn2d_view *ddz, const void *ddweight, const void *ddbias, double blend, const bn2d_view *ddy, const bn2d_view *dx, const bn2d_view *dz, void *dweight, void *dbias);
const bn2d_api *bn2d_get_api(uint32_t api_version);
]]
