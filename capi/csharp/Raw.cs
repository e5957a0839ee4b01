// SPDX-License-Identifier: MIT
using System;
using System.Runtime.InteropServices;

namespace Bn2d
{
    /// <summary>The C ABI as it is. Written by capi/api/bindings.py from bn2d-api.json: do not edit.</summary>
    internal static class Raw
    {
        internal const int BN2D_OK = 0;
        internal const int BN2D_ERROR_INVALID_ARGUMENT = -1;
        internal const int BN2D_ERROR_INVALID_HANDLE = -2;
        internal const int BN2D_ERROR_NOT_FOUND = -3;
        internal const int BN2D_ERROR_SHAPE = -4;
        internal const int BN2D_ERROR_DTYPE = -5;
        internal const int BN2D_ERROR_DEVICE = -6;
        internal const int BN2D_ERROR_LAYOUT = -7;
        internal const int BN2D_ERROR_OVERLAP = -8;
        internal const int BN2D_ERROR_OVERFLOW = -9;
        internal const int BN2D_ERROR_TOO_FEW_VALUES = -10;
        internal const int BN2D_ERROR_STATE = -11;
        internal const int BN2D_ERROR_BUSY = -12;
        internal const int BN2D_ERROR_BUFFER_TOO_SMALL = -13;
        internal const int BN2D_ERROR_OUT_OF_MEMORY = -14;
        internal const int BN2D_ERROR_INTERNAL = -15;
        internal const int BN2D_ERROR_IO = -16;
        internal const int BN2D_ERROR_FORMAT = -17;
        internal const int BN2D_F32 = 1;
        internal const int BN2D_F64 = 2;
        internal const int BN2D_F16 = 3;
        internal const int BN2D_BF16 = 4;
        internal const int BN2D_I64 = 5;
        internal const int BN2D_CPU = 1;
        internal const int BN2D_CUDA = 2;
        internal const int BN2D_ROCM = 10;
        internal const int BN2D_ACT_NONE = 0;
        internal const int BN2D_ACT_RELU = 1;
        internal const int BN2D_ACT_LEAKY_RELU = 2;
        internal const int BN2D_ACT_RELU6 = 3;
        internal const int BN2D_ACT_CLAMP = 4;
        internal const int BN2D_ACT_HARDSWISH = 5;
        internal const int BN2D_ACT_SILU = 6;
        internal const int BN2D_ACT_GELU = 7;
        internal const int BN2D_ACT_SIGMOID = 8;
        internal const int BN2D_NCHW = 1;
        internal const int BN2D_NHWC = 2;
        internal const int BN2D_PARAMETER = 1;
        internal const int BN2D_BUFFER = 2;
        internal const int BN2D_GRADIENT = 3;
        internal const int BN2D_POOL_DEFAULT = 0;
        internal const int BN2D_POOL_TBB = 1;
        internal const int BN2D_POOL_OPENMP = 2;
        internal const int BN2D_POOL_HOST = 3;
        internal const int BN2D_FLAG_BIASED_RUNNING_VAR = 1;
        internal const int BN2D_FLAG_PROTECT_RUNNING_STATS = 2;
        internal const int BN2D_NORM_BATCH = 1;
        internal const int BN2D_NORM_GROUP = 2;
        internal const int BN2D_NORM_INSTANCE = 3;

        private const string Library = "libbn2d.so.1";

        #pragma warning disable 649
        [StructLayout(LayoutKind.Sequential)]
        internal struct bn2d_view
        {
            internal IntPtr data;
            internal int device_type;
            internal int device_id;
            internal int ndim;
            internal byte dtype_code;
            internal byte dtype_bits;
            internal ushort dtype_lanes;
            internal IntPtr shape;
            internal IntPtr strides;
            internal ulong byte_offset;
        }
        #pragma warning restore 649

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern uint bn2d_version();

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern IntPtr bn2d_version_string();

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern IntPtr bn2d_build_info();

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern IntPtr bn2d_simd_target();

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern IntPtr bn2d_last_error();

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern IntPtr bn2d_status_name(int status);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern IntPtr bn2d_dtype_name(int dtype);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern ulong bn2d_dtype_size(int dtype);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_dtype_from_name(
            [MarshalAs(UnmanagedType.LPUTF8Str)] string name, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_constant_count();

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_constant_at(int index, out IntPtr out_name,
            out long out_value);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_constant_by_name(
            [MarshalAs(UnmanagedType.LPUTF8Str)] string name, out long out_value);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_set_num_threads(int threads);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_get_num_threads();

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_set_streaming_threshold(long bytes);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern long bn2d_get_streaming_threshold();

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_create(out IntPtr result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_retain(SafeHandle options);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern void bn2d_options_release(IntPtr options);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_set_eps(SafeHandle options, double eps);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_set_momentum(SafeHandle options, double momentum);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_set_momentum_none(SafeHandle options);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_set_affine(SafeHandle options, int affine);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_set_bias(SafeHandle options, int bias);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_set_track_running_stats(SafeHandle options,
            int track);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_set_device(SafeHandle options, int device_type,
            int device_id);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_set_dtype(SafeHandle options, int dtype);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_set_biased_running_var(SafeHandle options,
            int biased);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_set_protect_running_stats(SafeHandle options,
            int protect);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_set_num_threads(SafeHandle options, int threads);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_set_by_name(SafeHandle options,
            [MarshalAs(UnmanagedType.LPUTF8Str)] string name,
            [MarshalAs(UnmanagedType.LPUTF8Str)] string value);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_create(long num_features, SafeHandle options,
            out IntPtr result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_retain(SafeHandle module);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern void bn2d_module_release(IntPtr module);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_train(SafeHandle module, int training);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_eval(SafeHandle module);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_is_training(SafeHandle module, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_num_features(SafeHandle module, out long result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_eps(SafeHandle module, out double result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_momentum(SafeHandle module, out int out_has,
            out double result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_affine(SafeHandle module, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_track_running_stats(SafeHandle module,
            out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_dtype(SafeHandle module, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_device(SafeHandle module, out int out_type,
            out int out_id);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_set_num_threads(SafeHandle module, int threads);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_get_num_threads(SafeHandle module, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_repr(SafeHandle module, [Out] byte[] buffer,
            ulong capacity, [Out] ulong[] length);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_reset_running_stats(SafeHandle module);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_reset_parameters(SafeHandle module);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_zero_grad(SafeHandle module);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_tensor_count(SafeHandle module, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_tensor_at(SafeHandle module, int index,
            out IntPtr result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_tensor_by_name(SafeHandle module,
            [MarshalAs(UnmanagedType.LPUTF8Str)] string name, out IntPtr result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_retain(SafeHandle tensor);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern void bn2d_tensor_release(IntPtr tensor);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_name(SafeHandle tensor, out IntPtr result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_kind(SafeHandle tensor, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_dtype(SafeHandle tensor, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_rank(SafeHandle tensor, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_dim(SafeHandle tensor, int dimension,
            out long result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_nbytes(SafeHandle tensor, out ulong result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_data(SafeHandle tensor, out IntPtr result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_grad(SafeHandle tensor, out IntPtr result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_requires_grad(SafeHandle tensor, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_set_requires_grad(SafeHandle tensor,
            int requires_grad);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_copy_from(SafeHandle tensor, IntPtr source);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_copy_to(SafeHandle tensor, IntPtr target);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_to_dlpack(SafeHandle tensor, out IntPtr result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_to_dlpack_legacy(SafeHandle tensor,
            out IntPtr result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_forward_f32(SafeHandle module, IntPtr x, long n, long h,
            long w, IntPtr y, [Out] IntPtr[] record);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_forward_f64(SafeHandle module, IntPtr x, long n, long h,
            long w, IntPtr y, [Out] IntPtr[] record);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_forward(SafeHandle module, IntPtr x, IntPtr y,
            [Out] IntPtr[] record);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_forward_act(SafeHandle module, IntPtr x, IntPtr z,
            int activation, double slope, IntPtr y, [Out] IntPtr[] record);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_backward_f32(SafeHandle module, SafeHandle record,
            IntPtr dy, IntPtr dx);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_backward_f64(SafeHandle module, SafeHandle record,
            IntPtr dy, IntPtr dx);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_backward(SafeHandle module, SafeHandle record, IntPtr dy,
            IntPtr dx, IntPtr dz);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_double_backward(SafeHandle module, SafeHandle record,
            IntPtr dy, IntPtr ddx, IntPtr ddweight, IntPtr ddbias, IntPtr ddy, IntPtr dx);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_record_retain(SafeHandle record);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern void bn2d_record_release(IntPtr record);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_batch_norm_forward(IntPtr x, IntPtr z, IntPtr y, int dtype,
            IntPtr weight, IntPtr bias, IntPtr running_mean, IntPtr running_var, int batch_stats,
            double averaging_factor, double eps, int flags, int activation, double slope,
            IntPtr mask, IntPtr saved_mean, IntPtr saved_invstd);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_batch_norm_backward(IntPtr x, IntPtr dy, IntPtr y,
            IntPtr mask, int dtype, IntPtr weight, IntPtr saved_mean, IntPtr saved_invstd,
            int batch_stats, int activation, double slope, double blend, IntPtr dx, IntPtr dz,
            IntPtr dweight, IntPtr dbias);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_batch_norm_double_backward(IntPtr x, IntPtr dy, IntPtr y,
            IntPtr mask, int dtype, IntPtr weight, IntPtr saved_mean, IntPtr saved_invstd,
            int batch_stats, int activation, double slope, IntPtr ddx, IntPtr ddweight,
            IntPtr ddbias, double blend, IntPtr ddy, IntPtr dx, IntPtr dweight);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_mask_nbytes(long n, long c, long h, long w,
            out ulong result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_forward_flat(SafeHandle module, int dtype, int layout,
            IntPtr x, IntPtr z, long n, long h, long w, int activation, double slope, IntPtr y,
            [Out] IntPtr[] record);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_backward_flat(SafeHandle module, SafeHandle record,
            int dtype, int layout, IntPtr dy, IntPtr dx, IntPtr dz);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_double_backward_flat(SafeHandle module, SafeHandle record,
            int dtype, int layout, IntPtr dy, IntPtr ddx, IntPtr ddweight, IntPtr ddbias,
            IntPtr ddy, IntPtr dx);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_batch_norm_forward_flat(int data_dtype, int layout, long n,
            long c, long h, long w, IntPtr x, IntPtr z, IntPtr y, int param_dtype,
            long num_features, IntPtr weight, IntPtr bias, IntPtr running_mean, IntPtr running_var,
            int batch_stats, double averaging_factor, double eps, int flags, int activation,
            double slope, IntPtr mask, IntPtr saved_mean, IntPtr saved_invstd);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_batch_norm_backward_flat(int data_dtype, int layout, long n,
            long c, long h, long w, IntPtr x, IntPtr dy, IntPtr y, IntPtr mask, int param_dtype,
            long num_features, IntPtr weight, IntPtr saved_mean, IntPtr saved_invstd,
            int batch_stats, int activation, double slope, double blend, IntPtr dx, IntPtr dz,
            IntPtr dweight, IntPtr dbias);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_copy_from_flat(SafeHandle tensor, int dtype,
            IntPtr data, long length);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_tensor_copy_to_flat(SafeHandle tensor, int dtype,
            IntPtr data, long length);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_set_thread_pool(int kind);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_set_host_thread_pool(IntPtr run, IntPtr user, int threads);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_get_thread_pool();

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_set_thread_pool(SafeHandle module, int kind);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_set_host_thread_pool(SafeHandle module, IntPtr run,
            IntPtr user, int threads);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_get_thread_pool(SafeHandle module, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_set_last_error(int status,
            [MarshalAs(UnmanagedType.LPUTF8Str)] string text);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_try_lock(SafeHandle module, int exclusive);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_unlock(SafeHandle module, int exclusive);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_scale_shift(SafeHandle module, int dtype,
            IntPtr scale, IntPtr shift, long length);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_set_momentum(SafeHandle module, double momentum);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_set_momentum_none(SafeHandle module);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_set_frozen(SafeHandle module, int frozen);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_is_frozen(SafeHandle module, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_statistics_create(long num_features, out IntPtr result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_statistics_retain(SafeHandle statistics);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern void bn2d_statistics_release(IntPtr statistics);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_statistics_accumulate(SafeHandle statistics, IntPtr x);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_statistics_accumulate_flat(SafeHandle statistics, int dtype,
            int layout, IntPtr x, long n, long h, long w);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_statistics_merge(SafeHandle statistics, SafeHandle other);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_statistics_reset(SafeHandle statistics);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_statistics_count(SafeHandle statistics, out long result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_statistics_mean_var(SafeHandle statistics, IntPtr mean,
            IntPtr var, long length);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_statistics_export_length(SafeHandle statistics,
            out long result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_statistics_export(SafeHandle statistics, IntPtr values,
            long length);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_statistics_merge_exported(SafeHandle statistics,
            IntPtr values, long length);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_forward_with_statistics(SafeHandle module,
            SafeHandle statistics, IntPtr x, IntPtr z, int activation, double slope, IntPtr y,
            [Out] IntPtr[] record);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_forward_with_statistics_flat(SafeHandle module,
            SafeHandle statistics, int dtype, int layout, IntPtr x, IntPtr z, long n, long h,
            long w, int activation, double slope, IntPtr y, [Out] IntPtr[] record);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_record_batch_statistics(SafeHandle record, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_backward_sums(SafeHandle module, SafeHandle record,
            IntPtr dy, IntPtr sums, long length);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_backward_sums_flat(SafeHandle module, SafeHandle record,
            int dtype, int layout, IntPtr dy, IntPtr sums, long length);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_backward_with_sums(SafeHandle module, SafeHandle record,
            IntPtr dy, IntPtr sums, long length, IntPtr dx, IntPtr dz);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_backward_with_sums_flat(SafeHandle module,
            SafeHandle record, int dtype, int layout, IntPtr dy, IntPtr sums, long length,
            IntPtr dx, IntPtr dz);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_set_running_stats(SafeHandle module,
            SafeHandle statistics);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_options_set_ghost_batch_size(SafeHandle options,
            long samples);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_group_norm_create(long num_groups, long num_channels,
            SafeHandle options, out IntPtr result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_instance_norm_create(long num_features, SafeHandle options,
            out IntPtr result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_norm(SafeHandle module, out int result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_num_groups(SafeHandle module, out long result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_module_ghost_batch_size(SafeHandle module, out long result);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_group_norm_forward(IntPtr x, IntPtr z, IntPtr y,
            long num_groups, int dtype, IntPtr weight, IntPtr bias, double eps, int activation,
            double slope, IntPtr mask, IntPtr saved_mean, IntPtr saved_invstd);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_group_norm_backward(IntPtr x, IntPtr dy, IntPtr y,
            IntPtr mask, long num_groups, int dtype, IntPtr weight, IntPtr saved_mean,
            IntPtr saved_invstd, int activation, double slope, double blend, IntPtr dx, IntPtr dz,
            IntPtr dweight, IntPtr dbias);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_group_norm_double_backward(IntPtr x, IntPtr dy, IntPtr y,
            IntPtr mask, long num_groups, int dtype, IntPtr weight, IntPtr saved_mean,
            IntPtr saved_invstd, int activation, double slope, IntPtr ddx, IntPtr ddweight,
            IntPtr ddbias, double blend, IntPtr ddy, IntPtr dx, IntPtr dweight);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_group_norm_forward_flat(int data_dtype, int layout, long n,
            long c, long h, long w, IntPtr x, IntPtr z, IntPtr y, long num_groups, int param_dtype,
            long num_features, IntPtr weight, IntPtr bias, double eps, int activation, double slope,
            IntPtr mask, IntPtr saved_mean, IntPtr saved_invstd);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_group_norm_backward_flat(int data_dtype, int layout, long n,
            long c, long h, long w, IntPtr x, IntPtr dy, IntPtr y, IntPtr mask, long num_groups,
            int param_dtype, long num_features, IntPtr weight, IntPtr saved_mean,
            IntPtr saved_invstd, int activation, double slope, double blend, IntPtr dx, IntPtr dz,
            IntPtr dweight, IntPtr dbias);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_batch_norm_backward_act(IntPtr x, IntPtr z, IntPtr dy,
            IntPtr y, IntPtr mask, int dtype, IntPtr weight, IntPtr bias, IntPtr saved_mean,
            IntPtr saved_invstd, int batch_stats, int activation, double slope, double blend,
            IntPtr dx, IntPtr dz, IntPtr dweight, IntPtr dbias);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_group_norm_backward_act(IntPtr x, IntPtr z, IntPtr dy,
            IntPtr y, IntPtr mask, long num_groups, int dtype, IntPtr weight, IntPtr bias,
            IntPtr saved_mean, IntPtr saved_invstd, int activation, double slope, double blend,
            IntPtr dx, IntPtr dz, IntPtr dweight, IntPtr dbias);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_double_backward_act(SafeHandle module, SafeHandle record,
            IntPtr dy, IntPtr ddx, IntPtr ddz, IntPtr ddweight, IntPtr ddbias, IntPtr ddy,
            IntPtr dx, IntPtr dz);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_batch_norm_double_backward_act(IntPtr x, IntPtr z,
            IntPtr dy, IntPtr y, IntPtr mask, int dtype, IntPtr weight, IntPtr bias,
            IntPtr saved_mean, IntPtr saved_invstd, int batch_stats, int activation, double slope,
            IntPtr ddx, IntPtr ddz, IntPtr ddweight, IntPtr ddbias, double blend, IntPtr ddy,
            IntPtr dx, IntPtr dz, IntPtr dweight, IntPtr dbias);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int bn2d_group_norm_double_backward_act(IntPtr x, IntPtr z,
            IntPtr dy, IntPtr y, IntPtr mask, long num_groups, int dtype, IntPtr weight,
            IntPtr bias, IntPtr saved_mean, IntPtr saved_invstd, int activation, double slope,
            IntPtr ddx, IntPtr ddz, IntPtr ddweight, IntPtr ddbias, double blend, IntPtr ddy,
            IntPtr dx, IntPtr dz, IntPtr dweight, IntPtr dbias);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern IntPtr bn2d_get_api(uint api_version);
    }
}
