// SPDX-License-Identifier: MIT
package org.bn2d;

import com.sun.jna.Callback;
import com.sun.jna.Library;
import com.sun.jna.Native;
import com.sun.jna.NativeLibrary;
import com.sun.jna.Pointer;
import com.sun.jna.Structure;
import com.sun.jna.ptr.DoubleByReference;
import com.sun.jna.ptr.IntByReference;
import com.sun.jna.ptr.LongByReference;
import com.sun.jna.ptr.PointerByReference;
import java.util.Map;

/** The C ABI as it is. Written by capi/api/bindings.py from bn2d-api.json: do not edit. */
final class Raw {
  static final int BN2D_OK = 0;
  static final int BN2D_ERROR_INVALID_ARGUMENT = -1;
  static final int BN2D_ERROR_INVALID_HANDLE = -2;
  static final int BN2D_ERROR_NOT_FOUND = -3;
  static final int BN2D_ERROR_SHAPE = -4;
  static final int BN2D_ERROR_DTYPE = -5;
  static final int BN2D_ERROR_DEVICE = -6;
  static final int BN2D_ERROR_LAYOUT = -7;
  static final int BN2D_ERROR_OVERLAP = -8;
  static final int BN2D_ERROR_OVERFLOW = -9;
  static final int BN2D_ERROR_TOO_FEW_VALUES = -10;
  static final int BN2D_ERROR_STATE = -11;
  static final int BN2D_ERROR_BUSY = -12;
  static final int BN2D_ERROR_BUFFER_TOO_SMALL = -13;
  static final int BN2D_ERROR_OUT_OF_MEMORY = -14;
  static final int BN2D_ERROR_INTERNAL = -15;
  static final int BN2D_ERROR_IO = -16;
  static final int BN2D_ERROR_FORMAT = -17;
  static final int BN2D_F32 = 1;
  static final int BN2D_F64 = 2;
  static final int BN2D_F16 = 3;
  static final int BN2D_BF16 = 4;
  static final int BN2D_I64 = 5;
  static final int BN2D_CPU = 1;
  static final int BN2D_CUDA = 2;
  static final int BN2D_ROCM = 10;
  static final int BN2D_ACT_NONE = 0;
  static final int BN2D_ACT_RELU = 1;
  static final int BN2D_ACT_LEAKY_RELU = 2;
  static final int BN2D_ACT_RELU6 = 3;
  static final int BN2D_ACT_CLAMP = 4;
  static final int BN2D_ACT_HARDSWISH = 5;
  static final int BN2D_ACT_SILU = 6;
  static final int BN2D_ACT_GELU = 7;
  static final int BN2D_ACT_SIGMOID = 8;
  static final int BN2D_NCHW = 1;
  static final int BN2D_NHWC = 2;
  static final int BN2D_PARAMETER = 1;
  static final int BN2D_BUFFER = 2;
  static final int BN2D_GRADIENT = 3;
  static final int BN2D_POOL_DEFAULT = 0;
  static final int BN2D_POOL_TBB = 1;
  static final int BN2D_POOL_OPENMP = 2;
  static final int BN2D_POOL_HOST = 3;
  static final int BN2D_FLAG_BIASED_RUNNING_VAR = 1;
  static final int BN2D_FLAG_PROTECT_RUNNING_STATS = 2;
  static final int BN2D_NORM_BATCH = 1;
  static final int BN2D_NORM_GROUP = 2;
  static final int BN2D_NORM_INSTANCE = 3;

  static {
    Map<String, ?> options = Map.of(Library.OPTION_STRING_ENCODING, "UTF-8");
    Native.register(Raw.class, NativeLibrary.getInstance("libbn2d.so.1", options));
  }

  private Raw() {}

  @Structure.FieldOrder({"data", "device_type", "device_id", "ndim", "dtype_code", "dtype_bits",
      "dtype_lanes", "shape", "strides", "byte_offset"})
  public static final class bn2d_view extends Structure {
    public Pointer data;
    public int device_type;
    public int device_id;
    public int ndim;
    public byte dtype_code;
    public byte dtype_bits;
    public short dtype_lanes;
    public Pointer shape;
    public Pointer strides;
    public long byte_offset;
  }

  static native int bn2d_version();
  static native String bn2d_version_string();
  static native String bn2d_build_info();
  static native String bn2d_simd_target();
  static native String bn2d_last_error();
  static native String bn2d_status_name(int status);
  static native String bn2d_dtype_name(int dtype);
  static native long bn2d_dtype_size(int dtype);
  static native int bn2d_dtype_from_name(String name, IntByReference out);
  static native int bn2d_constant_count();
  static native int bn2d_constant_at(int index, PointerByReference out_name,
      LongByReference out_value);
  static native int bn2d_constant_by_name(String name, LongByReference out_value);
  static native int bn2d_set_num_threads(int threads);
  static native int bn2d_get_num_threads();
  static native int bn2d_set_streaming_threshold(long bytes);
  static native long bn2d_get_streaming_threshold();
  static native int bn2d_options_create(PointerByReference out);
  static native int bn2d_options_retain(Pointer options);
  static native void bn2d_options_release(Pointer options);
  static native int bn2d_options_set_eps(Pointer options, double eps);
  static native int bn2d_options_set_momentum(Pointer options, double momentum);
  static native int bn2d_options_set_momentum_none(Pointer options);
  static native int bn2d_options_set_affine(Pointer options, int affine);
  static native int bn2d_options_set_bias(Pointer options, int bias);
  static native int bn2d_options_set_track_running_stats(Pointer options, int track);
  static native int bn2d_options_set_device(Pointer options, int device_type, int device_id);
  static native int bn2d_options_set_dtype(Pointer options, int dtype);
  static native int bn2d_options_set_biased_running_var(Pointer options, int biased);
  static native int bn2d_options_set_protect_running_stats(Pointer options, int protect);
  static native int bn2d_options_set_num_threads(Pointer options, int threads);
  static native int bn2d_options_set_by_name(Pointer options, String name, String value);
  static native int bn2d_module_create(long num_features, Pointer options, PointerByReference out);
  static native int bn2d_module_retain(Pointer module);
  static native void bn2d_module_release(Pointer module);
  static native int bn2d_module_train(Pointer module, int training);
  static native int bn2d_module_eval(Pointer module);
  static native int bn2d_module_is_training(Pointer module, IntByReference out);
  static native int bn2d_module_num_features(Pointer module, LongByReference out);
  static native int bn2d_module_eps(Pointer module, DoubleByReference out);
  static native int bn2d_module_momentum(Pointer module, IntByReference out_has,
      DoubleByReference out);
  static native int bn2d_module_affine(Pointer module, IntByReference out);
  static native int bn2d_module_track_running_stats(Pointer module, IntByReference out);
  static native int bn2d_module_dtype(Pointer module, IntByReference out);
  static native int bn2d_module_device(Pointer module, IntByReference out_type,
      IntByReference out_id);
  static native int bn2d_module_set_num_threads(Pointer module, int threads);
  static native int bn2d_module_get_num_threads(Pointer module, IntByReference out);
  static native int bn2d_module_repr(Pointer module, byte[] buffer, long capacity,
      LongByReference length);
  static native int bn2d_module_reset_running_stats(Pointer module);
  static native int bn2d_module_reset_parameters(Pointer module);
  static native int bn2d_module_zero_grad(Pointer module);
  static native int bn2d_module_tensor_count(Pointer module, IntByReference out);
  static native int bn2d_module_tensor_at(Pointer module, int index, PointerByReference out);
  static native int bn2d_module_tensor_by_name(Pointer module, String name, PointerByReference out);
  static native int bn2d_tensor_retain(Pointer tensor);
  static native void bn2d_tensor_release(Pointer tensor);
  static native int bn2d_tensor_name(Pointer tensor, PointerByReference out);
  static native int bn2d_tensor_kind(Pointer tensor, IntByReference out);
  static native int bn2d_tensor_dtype(Pointer tensor, IntByReference out);
  static native int bn2d_tensor_rank(Pointer tensor, IntByReference out);
  static native int bn2d_tensor_dim(Pointer tensor, int dimension, LongByReference out);
  static native int bn2d_tensor_nbytes(Pointer tensor, LongByReference out);
  static native int bn2d_tensor_data(Pointer tensor, PointerByReference out);
  static native int bn2d_tensor_grad(Pointer tensor, PointerByReference out);
  static native int bn2d_tensor_requires_grad(Pointer tensor, IntByReference out);
  static native int bn2d_tensor_set_requires_grad(Pointer tensor, int requires_grad);
  static native int bn2d_tensor_copy_from(Pointer tensor, Pointer source);
  static native int bn2d_tensor_copy_to(Pointer tensor, Pointer target);
  static native int bn2d_tensor_to_dlpack(Pointer tensor, PointerByReference out);
  static native int bn2d_tensor_to_dlpack_legacy(Pointer tensor, PointerByReference out);
  static native int bn2d_forward_f32(Pointer module, Pointer x, long n, long h, long w, Pointer y,
      PointerByReference record);
  static native int bn2d_forward_f64(Pointer module, Pointer x, long n, long h, long w, Pointer y,
      PointerByReference record);
  static native int bn2d_forward(Pointer module, Pointer x, Pointer y, PointerByReference record);
  static native int bn2d_forward_act(Pointer module, Pointer x, Pointer z, int activation,
      double slope, Pointer y, PointerByReference record);
  static native int bn2d_backward_f32(Pointer module, Pointer record, Pointer dy, Pointer dx);
  static native int bn2d_backward_f64(Pointer module, Pointer record, Pointer dy, Pointer dx);
  static native int bn2d_backward(Pointer module, Pointer record, Pointer dy, Pointer dx,
      Pointer dz);
  static native int bn2d_double_backward(Pointer module, Pointer record, Pointer dy, Pointer ddx,
      Pointer ddweight, Pointer ddbias, Pointer ddy, Pointer dx);
  static native int bn2d_record_retain(Pointer record);
  static native void bn2d_record_release(Pointer record);
  static native int bn2d_batch_norm_forward(Pointer x, Pointer z, Pointer y, int dtype,
      Pointer weight, Pointer bias, Pointer running_mean, Pointer running_var, int batch_stats,
      double averaging_factor, double eps, int flags, int activation, double slope, Pointer mask,
      Pointer saved_mean, Pointer saved_invstd);
  static native int bn2d_batch_norm_backward(Pointer x, Pointer dy, Pointer y, Pointer mask,
      int dtype, Pointer weight, Pointer saved_mean, Pointer saved_invstd, int batch_stats,
      int activation, double slope, double blend, Pointer dx, Pointer dz, Pointer dweight,
      Pointer dbias);
  static native int bn2d_batch_norm_double_backward(Pointer x, Pointer dy, Pointer y, Pointer mask,
      int dtype, Pointer weight, Pointer saved_mean, Pointer saved_invstd, int batch_stats,
      int activation, double slope, Pointer ddx, Pointer ddweight, Pointer ddbias, double blend,
      Pointer ddy, Pointer dx, Pointer dweight);
  static native int bn2d_mask_nbytes(long n, long c, long h, long w, LongByReference out);
  static native int bn2d_forward_flat(Pointer module, int dtype, int layout, Pointer x, Pointer z,
      long n, long h, long w, int activation, double slope, Pointer y, PointerByReference record);
  static native int bn2d_backward_flat(Pointer module, Pointer record, int dtype, int layout,
      Pointer dy, Pointer dx, Pointer dz);
  static native int bn2d_double_backward_flat(Pointer module, Pointer record, int dtype, int layout,
      Pointer dy, Pointer ddx, Pointer ddweight, Pointer ddbias, Pointer ddy, Pointer dx);
  static native int bn2d_batch_norm_forward_flat(int data_dtype, int layout, long n, long c, long h,
      long w, Pointer x, Pointer z, Pointer y, int param_dtype, long num_features, Pointer weight,
      Pointer bias, Pointer running_mean, Pointer running_var, int batch_stats,
      double averaging_factor, double eps, int flags, int activation, double slope, Pointer mask,
      Pointer saved_mean, Pointer saved_invstd);
  static native int bn2d_batch_norm_backward_flat(int data_dtype, int layout, long n, long c,
      long h, long w, Pointer x, Pointer dy, Pointer y, Pointer mask, int param_dtype,
      long num_features, Pointer weight, Pointer saved_mean, Pointer saved_invstd, int batch_stats,
      int activation, double slope, double blend, Pointer dx, Pointer dz, Pointer dweight,
      Pointer dbias);
  static native int bn2d_tensor_copy_from_flat(Pointer tensor, int dtype, Pointer data,
      long length);
  static native int bn2d_tensor_copy_to_flat(Pointer tensor, int dtype, Pointer data, long length);
  static native int bn2d_set_thread_pool(int kind);
  static native int bn2d_set_host_thread_pool(Callback run, Pointer user, int threads);
  static native int bn2d_get_thread_pool();
  static native int bn2d_module_set_thread_pool(Pointer module, int kind);
  static native int bn2d_module_set_host_thread_pool(Pointer module, Callback run, Pointer user,
      int threads);
  static native int bn2d_module_get_thread_pool(Pointer module, IntByReference out);
  static native int bn2d_set_last_error(int status, String text);
  static native int bn2d_module_try_lock(Pointer module, int exclusive);
  static native int bn2d_module_unlock(Pointer module, int exclusive);
  static native int bn2d_module_scale_shift(Pointer module, int dtype, Pointer scale, Pointer shift,
      long length);
  static native int bn2d_module_set_momentum(Pointer module, double momentum);
  static native int bn2d_module_set_momentum_none(Pointer module);
  static native int bn2d_module_set_frozen(Pointer module, int frozen);
  static native int bn2d_module_is_frozen(Pointer module, IntByReference out);
  static native int bn2d_statistics_create(long num_features, PointerByReference out);
  static native int bn2d_statistics_retain(Pointer statistics);
  static native void bn2d_statistics_release(Pointer statistics);
  static native int bn2d_statistics_accumulate(Pointer statistics, Pointer x);
  static native int bn2d_statistics_accumulate_flat(Pointer statistics, int dtype, int layout,
      Pointer x, long n, long h, long w);
  static native int bn2d_statistics_merge(Pointer statistics, Pointer other);
  static native int bn2d_statistics_reset(Pointer statistics);
  static native int bn2d_statistics_count(Pointer statistics, LongByReference out);
  static native int bn2d_statistics_mean_var(Pointer statistics, Pointer mean, Pointer var,
      long length);
  static native int bn2d_statistics_export_length(Pointer statistics, LongByReference out);
  static native int bn2d_statistics_export(Pointer statistics, Pointer values, long length);
  static native int bn2d_statistics_merge_exported(Pointer statistics, Pointer values, long length);
  static native int bn2d_forward_with_statistics(Pointer module, Pointer statistics, Pointer x,
      Pointer z, int activation, double slope, Pointer y, PointerByReference record);
  static native int bn2d_forward_with_statistics_flat(Pointer module, Pointer statistics, int dtype,
      int layout, Pointer x, Pointer z, long n, long h, long w, int activation, double slope,
      Pointer y, PointerByReference record);
  static native int bn2d_record_batch_statistics(Pointer record, IntByReference out);
  static native int bn2d_backward_sums(Pointer module, Pointer record, Pointer dy, Pointer sums,
      long length);
  static native int bn2d_backward_sums_flat(Pointer module, Pointer record, int dtype, int layout,
      Pointer dy, Pointer sums, long length);
  static native int bn2d_backward_with_sums(Pointer module, Pointer record, Pointer dy,
      Pointer sums, long length, Pointer dx, Pointer dz);
  static native int bn2d_backward_with_sums_flat(Pointer module, Pointer record, int dtype,
      int layout, Pointer dy, Pointer sums, long length, Pointer dx, Pointer dz);
  static native int bn2d_module_set_running_stats(Pointer module, Pointer statistics);
  static native int bn2d_options_set_ghost_batch_size(Pointer options, long samples);
  static native int bn2d_group_norm_create(long num_groups, long num_channels, Pointer options,
      PointerByReference out);
  static native int bn2d_instance_norm_create(long num_features, Pointer options,
      PointerByReference out);
  static native int bn2d_module_norm(Pointer module, IntByReference out);
  static native int bn2d_module_num_groups(Pointer module, LongByReference out);
  static native int bn2d_module_ghost_batch_size(Pointer module, LongByReference out);
  static native int bn2d_group_norm_forward(Pointer x, Pointer z, Pointer y, long num_groups,
      int dtype, Pointer weight, Pointer bias, double eps, int activation, double slope,
      Pointer mask, Pointer saved_mean, Pointer saved_invstd);
  static native int bn2d_group_norm_backward(Pointer x, Pointer dy, Pointer y, Pointer mask,
      long num_groups, int dtype, Pointer weight, Pointer saved_mean, Pointer saved_invstd,
      int activation, double slope, double blend, Pointer dx, Pointer dz, Pointer dweight,
      Pointer dbias);
  static native int bn2d_group_norm_double_backward(Pointer x, Pointer dy, Pointer y, Pointer mask,
      long num_groups, int dtype, Pointer weight, Pointer saved_mean, Pointer saved_invstd,
      int activation, double slope, Pointer ddx, Pointer ddweight, Pointer ddbias, double blend,
      Pointer ddy, Pointer dx, Pointer dweight);
  static native int bn2d_group_norm_forward_flat(int data_dtype, int layout, long n, long c, long h,
      long w, Pointer x, Pointer z, Pointer y, long num_groups, int param_dtype, long num_features,
      Pointer weight, Pointer bias, double eps, int activation, double slope, Pointer mask,
      Pointer saved_mean, Pointer saved_invstd);
  static native int bn2d_group_norm_backward_flat(int data_dtype, int layout, long n, long c,
      long h, long w, Pointer x, Pointer dy, Pointer y, Pointer mask, long num_groups,
      int param_dtype, long num_features, Pointer weight, Pointer saved_mean, Pointer saved_invstd,
      int activation, double slope, double blend, Pointer dx, Pointer dz, Pointer dweight,
      Pointer dbias);
  static native int bn2d_batch_norm_backward_act(Pointer x, Pointer z, Pointer dy, Pointer y,
      Pointer mask, int dtype, Pointer weight, Pointer bias, Pointer saved_mean,
      Pointer saved_invstd, int batch_stats, int activation, double slope, double blend, Pointer dx,
      Pointer dz, Pointer dweight, Pointer dbias);
  static native int bn2d_group_norm_backward_act(Pointer x, Pointer z, Pointer dy, Pointer y,
      Pointer mask, long num_groups, int dtype, Pointer weight, Pointer bias, Pointer saved_mean,
      Pointer saved_invstd, int activation, double slope, double blend, Pointer dx, Pointer dz,
      Pointer dweight, Pointer dbias);
  static native int bn2d_double_backward_act(Pointer module, Pointer record, Pointer dy,
      Pointer ddx, Pointer ddz, Pointer ddweight, Pointer ddbias, Pointer ddy, Pointer dx,
      Pointer dz);
  static native int bn2d_batch_norm_double_backward_act(Pointer x, Pointer z, Pointer dy, Pointer y,
      Pointer mask, int dtype, Pointer weight, Pointer bias, Pointer saved_mean,
      Pointer saved_invstd, int batch_stats, int activation, double slope, Pointer ddx, Pointer ddz,
      Pointer ddweight, Pointer ddbias, double blend, Pointer ddy, Pointer dx, Pointer dz,
      Pointer dweight, Pointer dbias);
  static native int bn2d_group_norm_double_backward_act(Pointer x, Pointer z, Pointer dy, Pointer y,
      Pointer mask, long num_groups, int dtype, Pointer weight, Pointer bias, Pointer saved_mean,
      Pointer saved_invstd, int activation, double slope, Pointer ddx, Pointer ddz,
      Pointer ddweight, Pointer ddbias, double blend, Pointer ddy, Pointer dx, Pointer dz,
      Pointer dweight, Pointer dbias);
  static native Pointer bn2d_get_api(int api_version);
}
