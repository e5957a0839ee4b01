// SPDX-License-Identifier: MIT
//! The C ABI as it is. Written by capi/api/bindings.py from bn2d-api.json: do not edit.

#![allow(non_camel_case_types, dead_code, clippy::all)]

use std::os::raw::{c_char, c_void};

#[repr(C)]
pub struct bn2d_options {
    _opaque: [u8; 0],
}
#[repr(C)]
pub struct bn2d_module {
    _opaque: [u8; 0],
}
#[repr(C)]
pub struct bn2d_tensor {
    _opaque: [u8; 0],
}
#[repr(C)]
pub struct bn2d_record {
    _opaque: [u8; 0],
}
#[repr(C)]
pub struct bn2d_statistics {
    _opaque: [u8; 0],
}
#[repr(C)]
pub struct bn2d_view {
    pub data: *mut c_void,
    pub device_type: i32,
    pub device_id: i32,
    pub ndim: i32,
    pub dtype_code: u8,
    pub dtype_bits: u8,
    pub dtype_lanes: u16,
    pub shape: *const i64,
    pub strides: *const i64,
    pub byte_offset: u64,
}
pub type bn2d_work = Option<unsafe extern "C" fn(*mut c_void, i32)>;
pub type bn2d_run_workers = Option<unsafe extern "C" fn(*mut c_void, i32, bn2d_work, *mut c_void)>;

pub const BN2D_OK: i32 = 0;
pub const BN2D_ERROR_INVALID_ARGUMENT: i32 = -1;
pub const BN2D_ERROR_INVALID_HANDLE: i32 = -2;
pub const BN2D_ERROR_NOT_FOUND: i32 = -3;
pub const BN2D_ERROR_SHAPE: i32 = -4;
pub const BN2D_ERROR_DTYPE: i32 = -5;
pub const BN2D_ERROR_DEVICE: i32 = -6;
pub const BN2D_ERROR_LAYOUT: i32 = -7;
pub const BN2D_ERROR_OVERLAP: i32 = -8;
pub const BN2D_ERROR_OVERFLOW: i32 = -9;
pub const BN2D_ERROR_TOO_FEW_VALUES: i32 = -10;
pub const BN2D_ERROR_STATE: i32 = -11;
pub const BN2D_ERROR_BUSY: i32 = -12;
pub const BN2D_ERROR_BUFFER_TOO_SMALL: i32 = -13;
pub const BN2D_ERROR_OUT_OF_MEMORY: i32 = -14;
pub const BN2D_ERROR_INTERNAL: i32 = -15;
pub const BN2D_ERROR_IO: i32 = -16;
pub const BN2D_ERROR_FORMAT: i32 = -17;
pub const BN2D_F32: i32 = 1;
pub const BN2D_F64: i32 = 2;
pub const BN2D_F16: i32 = 3;
pub const BN2D_BF16: i32 = 4;
pub const BN2D_I64: i32 = 5;
pub const BN2D_CPU: i32 = 1;
pub const BN2D_CUDA: i32 = 2;
pub const BN2D_ROCM: i32 = 10;
pub const BN2D_ACT_NONE: i32 = 0;
pub const BN2D_ACT_RELU: i32 = 1;
pub const BN2D_ACT_LEAKY_RELU: i32 = 2;
pub const BN2D_ACT_RELU6: i32 = 3;
pub const BN2D_ACT_CLAMP: i32 = 4;
pub const BN2D_ACT_HARDSWISH: i32 = 5;
pub const BN2D_ACT_SILU: i32 = 6;
pub const BN2D_ACT_GELU: i32 = 7;
pub const BN2D_ACT_SIGMOID: i32 = 8;
pub const BN2D_NCHW: i32 = 1;
pub const BN2D_NHWC: i32 = 2;
pub const BN2D_PARAMETER: i32 = 1;
pub const BN2D_BUFFER: i32 = 2;
pub const BN2D_GRADIENT: i32 = 3;
pub const BN2D_POOL_DEFAULT: i32 = 0;
pub const BN2D_POOL_TBB: i32 = 1;
pub const BN2D_POOL_OPENMP: i32 = 2;
pub const BN2D_POOL_HOST: i32 = 3;
pub const BN2D_FLAG_BIASED_RUNNING_VAR: i32 = 1;
pub const BN2D_FLAG_PROTECT_RUNNING_STATS: i32 = 2;
pub const BN2D_NORM_BATCH: i32 = 1;
pub const BN2D_NORM_GROUP: i32 = 2;
pub const BN2D_NORM_INSTANCE: i32 = 3;

extern "C" {
    pub fn bn2d_version() -> u32;
    pub fn bn2d_version_string() -> *const c_char;
    pub fn bn2d_build_info() -> *const c_char;
    pub fn bn2d_simd_target() -> *const c_char;
    pub fn bn2d_last_error() -> *const c_char;
    pub fn bn2d_status_name(status: i32) -> *const c_char;
    pub fn bn2d_dtype_name(dtype: i32) -> *const c_char;
    pub fn bn2d_dtype_size(dtype: i32) -> u64;
    pub fn bn2d_dtype_from_name(name: *const c_char, out: *mut i32) -> i32;
    pub fn bn2d_constant_count() -> i32;
    pub fn bn2d_constant_at(index: i32, out_name: *mut *const c_char, out_value: *mut i64) -> i32;
    pub fn bn2d_constant_by_name(name: *const c_char, out_value: *mut i64) -> i32;
    pub fn bn2d_set_num_threads(threads: i32) -> i32;
    pub fn bn2d_get_num_threads() -> i32;
    pub fn bn2d_set_streaming_threshold(bytes: i64) -> i32;
    pub fn bn2d_get_streaming_threshold() -> i64;
    pub fn bn2d_options_create(out: *mut *mut bn2d_options) -> i32;
    pub fn bn2d_options_retain(options: *mut bn2d_options) -> i32;
    pub fn bn2d_options_release(options: *mut bn2d_options);
    pub fn bn2d_options_set_eps(options: *mut bn2d_options, eps: f64) -> i32;
    pub fn bn2d_options_set_momentum(options: *mut bn2d_options, momentum: f64) -> i32;
    pub fn bn2d_options_set_momentum_none(options: *mut bn2d_options) -> i32;
    pub fn bn2d_options_set_affine(options: *mut bn2d_options, affine: i32) -> i32;
    pub fn bn2d_options_set_bias(options: *mut bn2d_options, bias: i32) -> i32;
    pub fn bn2d_options_set_track_running_stats(options: *mut bn2d_options, track: i32) -> i32;
    pub fn bn2d_options_set_device(options: *mut bn2d_options, device_type: i32,
        device_id: i32) -> i32;
    pub fn bn2d_options_set_dtype(options: *mut bn2d_options, dtype: i32) -> i32;
    pub fn bn2d_options_set_biased_running_var(options: *mut bn2d_options, biased: i32) -> i32;
    pub fn bn2d_options_set_protect_running_stats(options: *mut bn2d_options, protect: i32) -> i32;
    pub fn bn2d_options_set_num_threads(options: *mut bn2d_options, threads: i32) -> i32;
    pub fn bn2d_options_set_by_name(options: *mut bn2d_options, name: *const c_char,
        value: *const c_char) -> i32;
    pub fn bn2d_module_create(num_features: i64, options: *const bn2d_options,
        out: *mut *mut bn2d_module) -> i32;
    pub fn bn2d_module_retain(module: *mut bn2d_module) -> i32;
    pub fn bn2d_module_release(module: *mut bn2d_module);
    pub fn bn2d_module_train(module: *mut bn2d_module, training: i32) -> i32;
    pub fn bn2d_module_eval(module: *mut bn2d_module) -> i32;
    pub fn bn2d_module_is_training(module: *const bn2d_module, out: *mut i32) -> i32;
    pub fn bn2d_module_num_features(module: *const bn2d_module, out: *mut i64) -> i32;
    pub fn bn2d_module_eps(module: *const bn2d_module, out: *mut f64) -> i32;
    pub fn bn2d_module_momentum(module: *const bn2d_module, out_has: *mut i32,
        out: *mut f64) -> i32;
    pub fn bn2d_module_affine(module: *const bn2d_module, out: *mut i32) -> i32;
    pub fn bn2d_module_track_running_stats(module: *const bn2d_module, out: *mut i32) -> i32;
    pub fn bn2d_module_dtype(module: *const bn2d_module, out: *mut i32) -> i32;
    pub fn bn2d_module_device(module: *const bn2d_module, out_type: *mut i32,
        out_id: *mut i32) -> i32;
    pub fn bn2d_module_set_num_threads(module: *mut bn2d_module, threads: i32) -> i32;
    pub fn bn2d_module_get_num_threads(module: *const bn2d_module, out: *mut i32) -> i32;
    pub fn bn2d_module_repr(module: *const bn2d_module, buffer: *mut c_char, capacity: u64,
        length: *mut u64) -> i32;
    pub fn bn2d_module_reset_running_stats(module: *mut bn2d_module) -> i32;
    pub fn bn2d_module_reset_parameters(module: *mut bn2d_module) -> i32;
    pub fn bn2d_module_zero_grad(module: *mut bn2d_module) -> i32;
    pub fn bn2d_module_tensor_count(module: *const bn2d_module, out: *mut i32) -> i32;
    pub fn bn2d_module_tensor_at(module: *const bn2d_module, index: i32,
        out: *mut *mut bn2d_tensor) -> i32;
    pub fn bn2d_module_tensor_by_name(module: *const bn2d_module, name: *const c_char,
        out: *mut *mut bn2d_tensor) -> i32;
    pub fn bn2d_tensor_retain(tensor: *mut bn2d_tensor) -> i32;
    pub fn bn2d_tensor_release(tensor: *mut bn2d_tensor);
    pub fn bn2d_tensor_name(tensor: *const bn2d_tensor, out: *mut *const c_char) -> i32;
    pub fn bn2d_tensor_kind(tensor: *const bn2d_tensor, out: *mut i32) -> i32;
    pub fn bn2d_tensor_dtype(tensor: *const bn2d_tensor, out: *mut i32) -> i32;
    pub fn bn2d_tensor_rank(tensor: *const bn2d_tensor, out: *mut i32) -> i32;
    pub fn bn2d_tensor_dim(tensor: *const bn2d_tensor, dimension: i32, out: *mut i64) -> i32;
    pub fn bn2d_tensor_nbytes(tensor: *const bn2d_tensor, out: *mut u64) -> i32;
    pub fn bn2d_tensor_data(tensor: *const bn2d_tensor, out: *mut *mut c_void) -> i32;
    pub fn bn2d_tensor_grad(tensor: *const bn2d_tensor, out: *mut *mut bn2d_tensor) -> i32;
    pub fn bn2d_tensor_requires_grad(tensor: *const bn2d_tensor, out: *mut i32) -> i32;
    pub fn bn2d_tensor_set_requires_grad(tensor: *mut bn2d_tensor, requires_grad: i32) -> i32;
    pub fn bn2d_tensor_copy_from(tensor: *mut bn2d_tensor, source: *const bn2d_view) -> i32;
    pub fn bn2d_tensor_copy_to(tensor: *const bn2d_tensor, target: *const bn2d_view) -> i32;
    pub fn bn2d_tensor_to_dlpack(tensor: *const bn2d_tensor, out: *mut *mut c_void) -> i32;
    pub fn bn2d_tensor_to_dlpack_legacy(tensor: *const bn2d_tensor, out: *mut *mut c_void) -> i32;
    pub fn bn2d_forward_f32(module: *mut bn2d_module, x: *const f32, n: i64, h: i64, w: i64,
        y: *mut f32, record: *mut *mut bn2d_record) -> i32;
    pub fn bn2d_forward_f64(module: *mut bn2d_module, x: *const f64, n: i64, h: i64, w: i64,
        y: *mut f64, record: *mut *mut bn2d_record) -> i32;
    pub fn bn2d_forward(module: *mut bn2d_module, x: *const bn2d_view, y: *const bn2d_view,
        record: *mut *mut bn2d_record) -> i32;
    pub fn bn2d_forward_act(module: *mut bn2d_module, x: *const bn2d_view, z: *const bn2d_view,
        activation: i32, slope: f64, y: *const bn2d_view, record: *mut *mut bn2d_record) -> i32;
    pub fn bn2d_backward_f32(module: *mut bn2d_module, record: *const bn2d_record, dy: *const f32,
        dx: *mut f32) -> i32;
    pub fn bn2d_backward_f64(module: *mut bn2d_module, record: *const bn2d_record, dy: *const f64,
        dx: *mut f64) -> i32;
    pub fn bn2d_backward(module: *mut bn2d_module, record: *const bn2d_record, dy: *const bn2d_view,
        dx: *const bn2d_view, dz: *const bn2d_view) -> i32;
    pub fn bn2d_double_backward(module: *mut bn2d_module, record: *const bn2d_record,
        dy: *const bn2d_view, ddx: *const bn2d_view, ddweight: *const c_void, ddbias: *const c_void,
        ddy: *const bn2d_view, dx: *const bn2d_view) -> i32;
    pub fn bn2d_record_retain(record: *mut bn2d_record) -> i32;
    pub fn bn2d_record_release(record: *mut bn2d_record);
    pub fn bn2d_batch_norm_forward(x: *const bn2d_view, z: *const bn2d_view, y: *const bn2d_view,
        dtype: i32, weight: *const c_void, bias: *const c_void, running_mean: *mut c_void,
        running_var: *mut c_void, batch_stats: i32, averaging_factor: f64, eps: f64, flags: i32,
        activation: i32, slope: f64, mask: *mut u8, saved_mean: *mut f64,
        saved_invstd: *mut f64) -> i32;
    pub fn bn2d_batch_norm_backward(x: *const bn2d_view, dy: *const bn2d_view, y: *const bn2d_view,
        mask: *const u8, dtype: i32, weight: *const c_void, saved_mean: *const f64,
        saved_invstd: *const f64, batch_stats: i32, activation: i32, slope: f64, blend: f64,
        dx: *const bn2d_view, dz: *const bn2d_view, dweight: *mut c_void,
        dbias: *mut c_void) -> i32;
    pub fn bn2d_batch_norm_double_backward(x: *const bn2d_view, dy: *const bn2d_view,
        y: *const bn2d_view, mask: *const u8, dtype: i32, weight: *const c_void,
        saved_mean: *const f64, saved_invstd: *const f64, batch_stats: i32, activation: i32,
        slope: f64, ddx: *const bn2d_view, ddweight: *const c_void, ddbias: *const c_void,
        blend: f64, ddy: *const bn2d_view, dx: *const bn2d_view, dweight: *mut c_void) -> i32;
    pub fn bn2d_mask_nbytes(n: i64, c: i64, h: i64, w: i64, out: *mut u64) -> i32;
    pub fn bn2d_forward_flat(module: *mut bn2d_module, dtype: i32, layout: i32, x: *const c_void,
        z: *const c_void, n: i64, h: i64, w: i64, activation: i32, slope: f64, y: *mut c_void,
        record: *mut *mut bn2d_record) -> i32;
    pub fn bn2d_backward_flat(module: *mut bn2d_module, record: *const bn2d_record, dtype: i32,
        layout: i32, dy: *const c_void, dx: *mut c_void, dz: *mut c_void) -> i32;
    pub fn bn2d_double_backward_flat(module: *mut bn2d_module, record: *const bn2d_record,
        dtype: i32, layout: i32, dy: *const c_void, ddx: *const c_void, ddweight: *const c_void,
        ddbias: *const c_void, ddy: *mut c_void, dx: *mut c_void) -> i32;
    pub fn bn2d_batch_norm_forward_flat(data_dtype: i32, layout: i32, n: i64, c: i64, h: i64,
        w: i64, x: *const c_void, z: *const c_void, y: *mut c_void, param_dtype: i32,
        num_features: i64, weight: *const c_void, bias: *const c_void, running_mean: *mut c_void,
        running_var: *mut c_void, batch_stats: i32, averaging_factor: f64, eps: f64, flags: i32,
        activation: i32, slope: f64, mask: *mut u8, saved_mean: *mut f64,
        saved_invstd: *mut f64) -> i32;
    pub fn bn2d_batch_norm_backward_flat(data_dtype: i32, layout: i32, n: i64, c: i64, h: i64,
        w: i64, x: *const c_void, dy: *const c_void, y: *const c_void, mask: *const u8,
        param_dtype: i32, num_features: i64, weight: *const c_void, saved_mean: *const f64,
        saved_invstd: *const f64, batch_stats: i32, activation: i32, slope: f64, blend: f64,
        dx: *mut c_void, dz: *mut c_void, dweight: *mut c_void, dbias: *mut c_void) -> i32;
    pub fn bn2d_tensor_copy_from_flat(tensor: *mut bn2d_tensor, dtype: i32, data: *const c_void,
        length: i64) -> i32;
    pub fn bn2d_tensor_copy_to_flat(tensor: *const bn2d_tensor, dtype: i32, data: *mut c_void,
        length: i64) -> i32;
    pub fn bn2d_set_thread_pool(kind: i32) -> i32;
    pub fn bn2d_set_host_thread_pool(run: bn2d_run_workers, user: *mut c_void, threads: i32) -> i32;
    pub fn bn2d_get_thread_pool() -> i32;
    pub fn bn2d_module_set_thread_pool(module: *mut bn2d_module, kind: i32) -> i32;
    pub fn bn2d_module_set_host_thread_pool(module: *mut bn2d_module, run: bn2d_run_workers,
        user: *mut c_void, threads: i32) -> i32;
    pub fn bn2d_module_get_thread_pool(module: *const bn2d_module, out: *mut i32) -> i32;
    pub fn bn2d_set_last_error(status: i32, text: *const c_char) -> i32;
    pub fn bn2d_module_try_lock(module: *mut bn2d_module, exclusive: i32) -> i32;
    pub fn bn2d_module_unlock(module: *mut bn2d_module, exclusive: i32) -> i32;
    pub fn bn2d_module_scale_shift(module: *const bn2d_module, dtype: i32, scale: *mut c_void,
        shift: *mut c_void, length: i64) -> i32;
    pub fn bn2d_module_set_momentum(module: *mut bn2d_module, momentum: f64) -> i32;
    pub fn bn2d_module_set_momentum_none(module: *mut bn2d_module) -> i32;
    pub fn bn2d_module_set_frozen(module: *mut bn2d_module, frozen: i32) -> i32;
    pub fn bn2d_module_is_frozen(module: *const bn2d_module, out: *mut i32) -> i32;
    pub fn bn2d_statistics_create(num_features: i64, out: *mut *mut bn2d_statistics) -> i32;
    pub fn bn2d_statistics_retain(statistics: *mut bn2d_statistics) -> i32;
    pub fn bn2d_statistics_release(statistics: *mut bn2d_statistics);
    pub fn bn2d_statistics_accumulate(statistics: *mut bn2d_statistics, x: *const bn2d_view) -> i32;
    pub fn bn2d_statistics_accumulate_flat(statistics: *mut bn2d_statistics, dtype: i32,
        layout: i32, x: *const c_void, n: i64, h: i64, w: i64) -> i32;
    pub fn bn2d_statistics_merge(statistics: *mut bn2d_statistics,
        other: *const bn2d_statistics) -> i32;
    pub fn bn2d_statistics_reset(statistics: *mut bn2d_statistics) -> i32;
    pub fn bn2d_statistics_count(statistics: *const bn2d_statistics, out: *mut i64) -> i32;
    pub fn bn2d_statistics_mean_var(statistics: *const bn2d_statistics, mean: *mut f64,
        var: *mut f64, length: i64) -> i32;
    pub fn bn2d_statistics_export_length(statistics: *const bn2d_statistics, out: *mut i64) -> i32;
    pub fn bn2d_statistics_export(statistics: *const bn2d_statistics, values: *mut f64,
        length: i64) -> i32;
    pub fn bn2d_statistics_merge_exported(statistics: *mut bn2d_statistics, values: *const f64,
        length: i64) -> i32;
    pub fn bn2d_forward_with_statistics(module: *mut bn2d_module,
        statistics: *const bn2d_statistics, x: *const bn2d_view, z: *const bn2d_view,
        activation: i32, slope: f64, y: *const bn2d_view, record: *mut *mut bn2d_record) -> i32;
    pub fn bn2d_forward_with_statistics_flat(module: *mut bn2d_module,
        statistics: *const bn2d_statistics, dtype: i32, layout: i32, x: *const c_void,
        z: *const c_void, n: i64, h: i64, w: i64, activation: i32, slope: f64, y: *mut c_void,
        record: *mut *mut bn2d_record) -> i32;
    pub fn bn2d_record_batch_statistics(record: *const bn2d_record, out: *mut i32) -> i32;
    pub fn bn2d_backward_sums(module: *mut bn2d_module, record: *const bn2d_record,
        dy: *const bn2d_view, sums: *mut f64, length: i64) -> i32;
    pub fn bn2d_backward_sums_flat(module: *mut bn2d_module, record: *const bn2d_record, dtype: i32,
        layout: i32, dy: *const c_void, sums: *mut f64, length: i64) -> i32;
    pub fn bn2d_backward_with_sums(module: *mut bn2d_module, record: *const bn2d_record,
        dy: *const bn2d_view, sums: *const f64, length: i64, dx: *const bn2d_view,
        dz: *const bn2d_view) -> i32;
    pub fn bn2d_backward_with_sums_flat(module: *mut bn2d_module, record: *const bn2d_record,
        dtype: i32, layout: i32, dy: *const c_void, sums: *const f64, length: i64, dx: *mut c_void,
        dz: *mut c_void) -> i32;
    pub fn bn2d_module_set_running_stats(module: *mut bn2d_module,
        statistics: *const bn2d_statistics) -> i32;
    pub fn bn2d_options_set_ghost_batch_size(options: *mut bn2d_options, samples: i64) -> i32;
    pub fn bn2d_group_norm_create(num_groups: i64, num_channels: i64, options: *const bn2d_options,
        out: *mut *mut bn2d_module) -> i32;
    pub fn bn2d_instance_norm_create(num_features: i64, options: *const bn2d_options,
        out: *mut *mut bn2d_module) -> i32;
    pub fn bn2d_module_norm(module: *const bn2d_module, out: *mut i32) -> i32;
    pub fn bn2d_module_num_groups(module: *const bn2d_module, out: *mut i64) -> i32;
    pub fn bn2d_module_ghost_batch_size(module: *const bn2d_module, out: *mut i64) -> i32;
    pub fn bn2d_group_norm_forward(x: *const bn2d_view, z: *const bn2d_view, y: *const bn2d_view,
        num_groups: i64, dtype: i32, weight: *const c_void, bias: *const c_void, eps: f64,
        activation: i32, slope: f64, mask: *mut u8, saved_mean: *mut f64,
        saved_invstd: *mut f64) -> i32;
    pub fn bn2d_group_norm_backward(x: *const bn2d_view, dy: *const bn2d_view, y: *const bn2d_view,
        mask: *const u8, num_groups: i64, dtype: i32, weight: *const c_void, saved_mean: *const f64,
        saved_invstd: *const f64, activation: i32, slope: f64, blend: f64, dx: *const bn2d_view,
        dz: *const bn2d_view, dweight: *mut c_void, dbias: *mut c_void) -> i32;
    pub fn bn2d_group_norm_double_backward(x: *const bn2d_view, dy: *const bn2d_view,
        y: *const bn2d_view, mask: *const u8, num_groups: i64, dtype: i32, weight: *const c_void,
        saved_mean: *const f64, saved_invstd: *const f64, activation: i32, slope: f64,
        ddx: *const bn2d_view, ddweight: *const c_void, ddbias: *const c_void, blend: f64,
        ddy: *const bn2d_view, dx: *const bn2d_view, dweight: *mut c_void) -> i32;
    pub fn bn2d_group_norm_forward_flat(data_dtype: i32, layout: i32, n: i64, c: i64, h: i64,
        w: i64, x: *const c_void, z: *const c_void, y: *mut c_void, num_groups: i64,
        param_dtype: i32, num_features: i64, weight: *const c_void, bias: *const c_void, eps: f64,
        activation: i32, slope: f64, mask: *mut u8, saved_mean: *mut f64,
        saved_invstd: *mut f64) -> i32;
    pub fn bn2d_group_norm_backward_flat(data_dtype: i32, layout: i32, n: i64, c: i64, h: i64,
        w: i64, x: *const c_void, dy: *const c_void, y: *const c_void, mask: *const u8,
        num_groups: i64, param_dtype: i32, num_features: i64, weight: *const c_void,
        saved_mean: *const f64, saved_invstd: *const f64, activation: i32, slope: f64, blend: f64,
        dx: *mut c_void, dz: *mut c_void, dweight: *mut c_void, dbias: *mut c_void) -> i32;
    pub fn bn2d_batch_norm_backward_act(x: *const bn2d_view, z: *const bn2d_view,
        dy: *const bn2d_view, y: *const bn2d_view, mask: *const u8, dtype: i32,
        weight: *const c_void, bias: *const c_void, saved_mean: *const f64,
        saved_invstd: *const f64, batch_stats: i32, activation: i32, slope: f64, blend: f64,
        dx: *const bn2d_view, dz: *const bn2d_view, dweight: *mut c_void,
        dbias: *mut c_void) -> i32;
    pub fn bn2d_group_norm_backward_act(x: *const bn2d_view, z: *const bn2d_view,
        dy: *const bn2d_view, y: *const bn2d_view, mask: *const u8, num_groups: i64, dtype: i32,
        weight: *const c_void, bias: *const c_void, saved_mean: *const f64,
        saved_invstd: *const f64, activation: i32, slope: f64, blend: f64, dx: *const bn2d_view,
        dz: *const bn2d_view, dweight: *mut c_void, dbias: *mut c_void) -> i32;
    pub fn bn2d_double_backward_act(module: *mut bn2d_module, record: *const bn2d_record,
        dy: *const bn2d_view, ddx: *const bn2d_view, ddz: *const bn2d_view, ddweight: *const c_void,
        ddbias: *const c_void, ddy: *const bn2d_view, dx: *const bn2d_view,
        dz: *const bn2d_view) -> i32;
    pub fn bn2d_batch_norm_double_backward_act(x: *const bn2d_view, z: *const bn2d_view,
        dy: *const bn2d_view, y: *const bn2d_view, mask: *const u8, dtype: i32,
        weight: *const c_void, bias: *const c_void, saved_mean: *const f64,
        saved_invstd: *const f64, batch_stats: i32, activation: i32, slope: f64,
        ddx: *const bn2d_view, ddz: *const bn2d_view, ddweight: *const c_void,
        ddbias: *const c_void, blend: f64, ddy: *const bn2d_view, dx: *const bn2d_view,
        dz: *const bn2d_view, dweight: *mut c_void, dbias: *mut c_void) -> i32;
    pub fn bn2d_group_norm_double_backward_act(x: *const bn2d_view, z: *const bn2d_view,
        dy: *const bn2d_view, y: *const bn2d_view, mask: *const u8, num_groups: i64, dtype: i32,
        weight: *const c_void, bias: *const c_void, saved_mean: *const f64,
        saved_invstd: *const f64, activation: i32, slope: f64, ddx: *const bn2d_view,
        ddz: *const bn2d_view, ddweight: *const c_void, ddbias: *const c_void, blend: f64,
        ddy: *const bn2d_view, dx: *const bn2d_view, dz: *const bn2d_view, dweight: *mut c_void,
        dbias: *mut c_void) -> i32;
    pub fn bn2d_get_api(api_version: u32) -> *const c_void;
}
