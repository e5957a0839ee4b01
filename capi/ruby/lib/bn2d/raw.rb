# frozen_string_literal: true

# SPDX-License-Identifier: MIT

require 'fiddle/import'

module Bn2d
  # The C ABI as it is. Written by capi/api/bindings.py from bn2d-api.json: do not edit.
  module Raw
    PTR = Fiddle::TYPE_VOIDP
    VOID = Fiddle::TYPE_VOID
    FLOAT = Fiddle::TYPE_FLOAT
    DOUBLE = Fiddle::TYPE_DOUBLE
    INT32 = Fiddle::TYPE_INT32_T
    UINT32 = -Fiddle::TYPE_INT32_T
    INT64 = Fiddle::TYPE_INT64_T
    UINT64 = -Fiddle::TYPE_INT64_T

    BN2D_OK = 0
    BN2D_ERROR_INVALID_ARGUMENT = -1
    BN2D_ERROR_INVALID_HANDLE = -2
    BN2D_ERROR_NOT_FOUND = -3
    BN2D_ERROR_SHAPE = -4
    BN2D_ERROR_DTYPE = -5
    BN2D_ERROR_DEVICE = -6
    BN2D_ERROR_LAYOUT = -7
    BN2D_ERROR_OVERLAP = -8
    BN2D_ERROR_OVERFLOW = -9
    BN2D_ERROR_TOO_FEW_VALUES = -10
    BN2D_ERROR_STATE = -11
    BN2D_ERROR_BUSY = -12
    BN2D_ERROR_BUFFER_TOO_SMALL = -13
    BN2D_ERROR_OUT_OF_MEMORY = -14
    BN2D_ERROR_INTERNAL = -15
    BN2D_ERROR_IO = -16
    BN2D_ERROR_FORMAT = -17
    BN2D_F32 = 1
    BN2D_F64 = 2
    BN2D_F16 = 3
    BN2D_BF16 = 4
    BN2D_I64 = 5
    BN2D_CPU = 1
    BN2D_CUDA = 2
    BN2D_ROCM = 10
    BN2D_ACT_NONE = 0
    BN2D_ACT_RELU = 1
    BN2D_ACT_LEAKY_RELU = 2
    BN2D_ACT_RELU6 = 3
    BN2D_ACT_CLAMP = 4
    BN2D_ACT_HARDSWISH = 5
    BN2D_ACT_SILU = 6
    BN2D_ACT_GELU = 7
    BN2D_ACT_SIGMOID = 8
    BN2D_NCHW = 1
    BN2D_NHWC = 2
    BN2D_PARAMETER = 1
    BN2D_BUFFER = 2
    BN2D_GRADIENT = 3
    BN2D_POOL_DEFAULT = 0
    BN2D_POOL_TBB = 1
    BN2D_POOL_OPENMP = 2
    BN2D_POOL_HOST = 3
    BN2D_FLAG_BIASED_RUNNING_VAR = 1
    BN2D_FLAG_PROTECT_RUNNING_STATS = 2
    BN2D_NORM_BATCH = 1
    BN2D_NORM_GROUP = 2
    BN2D_NORM_INSTANCE = 3

    View = Fiddle::Importer.struct(['void *data', 'int32_t device_type', 'int32_t device_id',
      'int32_t ndim', 'uint8_t dtype_code', 'uint8_t dtype_bits', 'uint16_t dtype_lanes',
      'void *shape', 'void *strides', 'uint64_t byte_offset'])

    # Name: [types of the parameters, type of the result]
    FUNCTIONS = {
      bn2d_version: [[], UINT32],
      bn2d_version_string: [[], PTR],
      bn2d_build_info: [[], PTR],
      bn2d_simd_target: [[], PTR],
      bn2d_last_error: [[], PTR],
      bn2d_status_name: [[INT32], PTR],
      bn2d_dtype_name: [[INT32], PTR],
      bn2d_dtype_size: [[INT32], UINT64],
      bn2d_dtype_from_name: [[PTR, PTR], INT32],
      bn2d_constant_count: [[], INT32],
      bn2d_constant_at: [[INT32, PTR, PTR], INT32],
      bn2d_constant_by_name: [[PTR, PTR], INT32],
      bn2d_set_num_threads: [[INT32], INT32],
      bn2d_get_num_threads: [[], INT32],
      bn2d_set_streaming_threshold: [[INT64], INT32],
      bn2d_get_streaming_threshold: [[], INT64],
      bn2d_options_create: [[PTR], INT32],
      bn2d_options_retain: [[PTR], INT32],
      bn2d_options_release: [[PTR], VOID],
      bn2d_options_set_eps: [[PTR, DOUBLE], INT32],
      bn2d_options_set_momentum: [[PTR, DOUBLE], INT32],
      bn2d_options_set_momentum_none: [[PTR], INT32],
      bn2d_options_set_affine: [[PTR, INT32], INT32],
      bn2d_options_set_bias: [[PTR, INT32], INT32],
      bn2d_options_set_track_running_stats: [[PTR, INT32], INT32],
      bn2d_options_set_device: [[PTR, INT32, INT32], INT32],
      bn2d_options_set_dtype: [[PTR, INT32], INT32],
      bn2d_options_set_biased_running_var: [[PTR, INT32], INT32],
      bn2d_options_set_protect_running_stats: [[PTR, INT32], INT32],
      bn2d_options_set_num_threads: [[PTR, INT32], INT32],
      bn2d_options_set_by_name: [[PTR, PTR, PTR], INT32],
      bn2d_module_create: [[INT64, PTR, PTR], INT32],
      bn2d_module_retain: [[PTR], INT32],
      bn2d_module_release: [[PTR], VOID],
      bn2d_module_train: [[PTR, INT32], INT32],
      bn2d_module_eval: [[PTR], INT32],
      bn2d_module_is_training: [[PTR, PTR], INT32],
      bn2d_module_num_features: [[PTR, PTR], INT32],
      bn2d_module_eps: [[PTR, PTR], INT32],
      bn2d_module_momentum: [[PTR, PTR, PTR], INT32],
      bn2d_module_affine: [[PTR, PTR], INT32],
      bn2d_module_track_running_stats: [[PTR, PTR], INT32],
      bn2d_module_dtype: [[PTR, PTR], INT32],
      bn2d_module_device: [[PTR, PTR, PTR], INT32],
      bn2d_module_set_num_threads: [[PTR, INT32], INT32],
      bn2d_module_get_num_threads: [[PTR, PTR], INT32],
      bn2d_module_repr: [[PTR, PTR, UINT64, PTR], INT32],
      bn2d_module_reset_running_stats: [[PTR], INT32],
      bn2d_module_reset_parameters: [[PTR], INT32],
      bn2d_module_zero_grad: [[PTR], INT32],
      bn2d_module_tensor_count: [[PTR, PTR], INT32],
      bn2d_module_tensor_at: [[PTR, INT32, PTR], INT32],
      bn2d_module_tensor_by_name: [[PTR, PTR, PTR], INT32],
      bn2d_tensor_retain: [[PTR], INT32],
      bn2d_tensor_release: [[PTR], VOID],
      bn2d_tensor_name: [[PTR, PTR], INT32],
      bn2d_tensor_kind: [[PTR, PTR], INT32],
      bn2d_tensor_dtype: [[PTR, PTR], INT32],
      bn2d_tensor_rank: [[PTR, PTR], INT32],
      bn2d_tensor_dim: [[PTR, INT32, PTR], INT32],
      bn2d_tensor_nbytes: [[PTR, PTR], INT32],
      bn2d_tensor_data: [[PTR, PTR], INT32],
      bn2d_tensor_grad: [[PTR, PTR], INT32],
      bn2d_tensor_requires_grad: [[PTR, PTR], INT32],
      bn2d_tensor_set_requires_grad: [[PTR, INT32], INT32],
      bn2d_tensor_copy_from: [[PTR, PTR], INT32],
      bn2d_tensor_copy_to: [[PTR, PTR], INT32],
      bn2d_tensor_to_dlpack: [[PTR, PTR], INT32],
      bn2d_tensor_to_dlpack_legacy: [[PTR, PTR], INT32],
      bn2d_forward_f32: [[PTR, PTR, INT64, INT64, INT64, PTR, PTR], INT32],
      bn2d_forward_f64: [[PTR, PTR, INT64, INT64, INT64, PTR, PTR], INT32],
      bn2d_forward: [[PTR, PTR, PTR, PTR], INT32],
      bn2d_forward_act: [[PTR, PTR, PTR, INT32, DOUBLE, PTR, PTR], INT32],
      bn2d_backward_f32: [[PTR, PTR, PTR, PTR], INT32],
      bn2d_backward_f64: [[PTR, PTR, PTR, PTR], INT32],
      bn2d_backward: [[PTR, PTR, PTR, PTR, PTR], INT32],
      bn2d_double_backward: [[PTR, PTR, PTR, PTR, PTR, PTR, PTR, PTR], INT32],
      bn2d_record_retain: [[PTR], INT32],
      bn2d_record_release: [[PTR], VOID],
      bn2d_batch_norm_forward: [[PTR, PTR, PTR, INT32, PTR, PTR, PTR, PTR, INT32, DOUBLE, DOUBLE,
        INT32, INT32, DOUBLE, PTR, PTR, PTR], INT32],
      bn2d_batch_norm_backward: [[PTR, PTR, PTR, PTR, INT32, PTR, PTR, PTR, INT32, INT32, DOUBLE,
        DOUBLE, PTR, PTR, PTR, PTR], INT32],
      bn2d_batch_norm_double_backward: [[PTR, PTR, PTR, PTR, INT32, PTR, PTR, PTR, INT32, INT32,
        DOUBLE, PTR, PTR, PTR, DOUBLE, PTR, PTR, PTR], INT32],
      bn2d_mask_nbytes: [[INT64, INT64, INT64, INT64, PTR], INT32],
      bn2d_forward_flat: [[PTR, INT32, INT32, PTR, PTR, INT64, INT64, INT64, INT32, DOUBLE, PTR,
        PTR], INT32],
      bn2d_backward_flat: [[PTR, PTR, INT32, INT32, PTR, PTR, PTR], INT32],
      bn2d_double_backward_flat: [[PTR, PTR, INT32, INT32, PTR, PTR, PTR, PTR, PTR, PTR], INT32],
      bn2d_batch_norm_forward_flat: [[INT32, INT32, INT64, INT64, INT64, INT64, PTR, PTR, PTR,
        INT32, INT64, PTR, PTR, PTR, PTR, INT32, DOUBLE, DOUBLE, INT32, INT32, DOUBLE, PTR, PTR,
        PTR], INT32],
      bn2d_batch_norm_backward_flat: [[INT32, INT32, INT64, INT64, INT64, INT64, PTR, PTR, PTR, PTR,
        INT32, INT64, PTR, PTR, PTR, INT32, INT32, DOUBLE, DOUBLE, PTR, PTR, PTR, PTR], INT32],
      bn2d_tensor_copy_from_flat: [[PTR, INT32, PTR, INT64], INT32],
      bn2d_tensor_copy_to_flat: [[PTR, INT32, PTR, INT64], INT32],
      bn2d_set_thread_pool: [[INT32], INT32],
      bn2d_set_host_thread_pool: [[PTR, PTR, INT32], INT32],
      bn2d_get_thread_pool: [[], INT32],
      bn2d_module_set_thread_pool: [[PTR, INT32], INT32],
      bn2d_module_set_host_thread_pool: [[PTR, PTR, PTR, INT32], INT32],
      bn2d_module_get_thread_pool: [[PTR, PTR], INT32],
      bn2d_set_last_error: [[INT32, PTR], INT32],
      bn2d_module_try_lock: [[PTR, INT32], INT32],
      bn2d_module_unlock: [[PTR, INT32], INT32],
      bn2d_module_scale_shift: [[PTR, INT32, PTR, PTR, INT64], INT32],
      bn2d_module_set_momentum: [[PTR, DOUBLE], INT32],
      bn2d_module_set_momentum_none: [[PTR], INT32],
      bn2d_module_set_frozen: [[PTR, INT32], INT32],
      bn2d_module_is_frozen: [[PTR, PTR], INT32],
      bn2d_statistics_create: [[INT64, PTR], INT32],
      bn2d_statistics_retain: [[PTR], INT32],
      bn2d_statistics_release: [[PTR], VOID],
      bn2d_statistics_accumulate: [[PTR, PTR], INT32],
      bn2d_statistics_accumulate_flat: [[PTR, INT32, INT32, PTR, INT64, INT64, INT64], INT32],
      bn2d_statistics_merge: [[PTR, PTR], INT32],
      bn2d_statistics_reset: [[PTR], INT32],
      bn2d_statistics_count: [[PTR, PTR], INT32],
      bn2d_statistics_mean_var: [[PTR, PTR, PTR, INT64], INT32],
      bn2d_statistics_export_length: [[PTR, PTR], INT32],
      bn2d_statistics_export: [[PTR, PTR, INT64], INT32],
      bn2d_statistics_merge_exported: [[PTR, PTR, INT64], INT32],
      bn2d_forward_with_statistics: [[PTR, PTR, PTR, PTR, INT32, DOUBLE, PTR, PTR], INT32],
      bn2d_forward_with_statistics_flat: [[PTR, PTR, INT32, INT32, PTR, PTR, INT64, INT64, INT64,
        INT32, DOUBLE, PTR, PTR], INT32],
      bn2d_record_batch_statistics: [[PTR, PTR], INT32],
      bn2d_backward_sums: [[PTR, PTR, PTR, PTR, INT64], INT32],
      bn2d_backward_sums_flat: [[PTR, PTR, INT32, INT32, PTR, PTR, INT64], INT32],
      bn2d_backward_with_sums: [[PTR, PTR, PTR, PTR, INT64, PTR, PTR], INT32],
      bn2d_backward_with_sums_flat: [[PTR, PTR, INT32, INT32, PTR, PTR, INT64, PTR, PTR], INT32],
      bn2d_module_set_running_stats: [[PTR, PTR], INT32],
      bn2d_options_set_ghost_batch_size: [[PTR, INT64], INT32],
      bn2d_group_norm_create: [[INT64, INT64, PTR, PTR], INT32],
      bn2d_instance_norm_create: [[INT64, PTR, PTR], INT32],
      bn2d_module_norm: [[PTR, PTR], INT32],
      bn2d_module_num_groups: [[PTR, PTR], INT32],
      bn2d_module_ghost_batch_size: [[PTR, PTR], INT32],
      bn2d_group_norm_forward: [[PTR, PTR, PTR, INT64, INT32, PTR, PTR, DOUBLE, INT32, DOUBLE, PTR,
        PTR, PTR], INT32],
      bn2d_group_norm_backward: [[PTR, PTR, PTR, PTR, INT64, INT32, PTR, PTR, PTR, INT32, DOUBLE,
        DOUBLE, PTR, PTR, PTR, PTR], INT32],
      bn2d_group_norm_double_backward: [[PTR, PTR, PTR, PTR, INT64, INT32, PTR, PTR, PTR, INT32,
        DOUBLE, PTR, PTR, PTR, DOUBLE, PTR, PTR, PTR], INT32],
      bn2d_group_norm_forward_flat: [[INT32, INT32, INT64, INT64, INT64, INT64, PTR, PTR, PTR,
        INT64, INT32, INT64, PTR, PTR, DOUBLE, INT32, DOUBLE, PTR, PTR, PTR], INT32],
      bn2d_group_norm_backward_flat: [[INT32, INT32, INT64, INT64, INT64, INT64, PTR, PTR, PTR, PTR,
        INT64, INT32, INT64, PTR, PTR, PTR, INT32, DOUBLE, DOUBLE, PTR, PTR, PTR, PTR], INT32],
      bn2d_batch_norm_backward_act: [[PTR, PTR, PTR, PTR, PTR, INT32, PTR, PTR, PTR, PTR, INT32,
        INT32, DOUBLE, DOUBLE, PTR, PTR, PTR, PTR], INT32],
      bn2d_group_norm_backward_act: [[PTR, PTR, PTR, PTR, PTR, INT64, INT32, PTR, PTR, PTR, PTR,
        INT32, DOUBLE, DOUBLE, PTR, PTR, PTR, PTR], INT32],
      bn2d_double_backward_act: [[PTR, PTR, PTR, PTR, PTR, PTR, PTR, PTR, PTR, PTR], INT32],
      bn2d_batch_norm_double_backward_act: [[PTR, PTR, PTR, PTR, PTR, INT32, PTR, PTR, PTR, PTR,
        INT32, INT32, DOUBLE, PTR, PTR, PTR, PTR, DOUBLE, PTR, PTR, PTR, PTR, PTR], INT32],
      bn2d_group_norm_double_backward_act: [[PTR, PTR, PTR, PTR, PTR, INT64, INT32, PTR, PTR, PTR,
        PTR, INT32, DOUBLE, PTR, PTR, PTR, PTR, DOUBLE, PTR, PTR, PTR, PTR, PTR], INT32],
      bn2d_get_api: [[UINT32], PTR]
    }.freeze
  end
end
