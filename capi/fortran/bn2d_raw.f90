! SPDX-License-Identifier: MIT
!> The C ABI as it is. Written by capi/api/bindings.py from bn2d-api.json: do not edit.
module bn2d_raw
  use, intrinsic :: iso_c_binding
  implicit none
  public

  integer(c_int32_t), parameter :: BN2D_OK = 0
  integer(c_int32_t), parameter :: BN2D_ERROR_INVALID_ARGUMENT = -1
  integer(c_int32_t), parameter :: BN2D_ERROR_INVALID_HANDLE = -2
  integer(c_int32_t), parameter :: BN2D_ERROR_NOT_FOUND = -3
  integer(c_int32_t), parameter :: BN2D_ERROR_SHAPE = -4
  integer(c_int32_t), parameter :: BN2D_ERROR_DTYPE = -5
  integer(c_int32_t), parameter :: BN2D_ERROR_DEVICE = -6
  integer(c_int32_t), parameter :: BN2D_ERROR_LAYOUT = -7
  integer(c_int32_t), parameter :: BN2D_ERROR_OVERLAP = -8
  integer(c_int32_t), parameter :: BN2D_ERROR_OVERFLOW = -9
  integer(c_int32_t), parameter :: BN2D_ERROR_TOO_FEW_VALUES = -10
  integer(c_int32_t), parameter :: BN2D_ERROR_STATE = -11
  integer(c_int32_t), parameter :: BN2D_ERROR_BUSY = -12
  integer(c_int32_t), parameter :: BN2D_ERROR_BUFFER_TOO_SMALL = -13
  integer(c_int32_t), parameter :: BN2D_ERROR_OUT_OF_MEMORY = -14
  integer(c_int32_t), parameter :: BN2D_ERROR_INTERNAL = -15
  integer(c_int32_t), parameter :: BN2D_ERROR_IO = -16
  integer(c_int32_t), parameter :: BN2D_ERROR_FORMAT = -17
  integer(c_int32_t), parameter :: BN2D_F32 = 1
  integer(c_int32_t), parameter :: BN2D_F64 = 2
  integer(c_int32_t), parameter :: BN2D_F16 = 3
  integer(c_int32_t), parameter :: BN2D_BF16 = 4
  integer(c_int32_t), parameter :: BN2D_I64 = 5
  integer(c_int32_t), parameter :: BN2D_CPU = 1
  integer(c_int32_t), parameter :: BN2D_CUDA = 2
  integer(c_int32_t), parameter :: BN2D_ROCM = 10
  integer(c_int32_t), parameter :: BN2D_ACT_NONE = 0
  integer(c_int32_t), parameter :: BN2D_ACT_RELU = 1
  integer(c_int32_t), parameter :: BN2D_ACT_LEAKY_RELU = 2
  integer(c_int32_t), parameter :: BN2D_ACT_RELU6 = 3
  integer(c_int32_t), parameter :: BN2D_ACT_CLAMP = 4
  integer(c_int32_t), parameter :: BN2D_ACT_HARDSWISH = 5
  integer(c_int32_t), parameter :: BN2D_ACT_SILU = 6
  integer(c_int32_t), parameter :: BN2D_ACT_GELU = 7
  integer(c_int32_t), parameter :: BN2D_ACT_SIGMOID = 8
  integer(c_int32_t), parameter :: BN2D_NCHW = 1
  integer(c_int32_t), parameter :: BN2D_NHWC = 2
  integer(c_int32_t), parameter :: BN2D_PARAMETER = 1
  integer(c_int32_t), parameter :: BN2D_BUFFER = 2
  integer(c_int32_t), parameter :: BN2D_GRADIENT = 3
  integer(c_int32_t), parameter :: BN2D_POOL_DEFAULT = 0
  integer(c_int32_t), parameter :: BN2D_POOL_TBB = 1
  integer(c_int32_t), parameter :: BN2D_POOL_OPENMP = 2
  integer(c_int32_t), parameter :: BN2D_POOL_HOST = 3
  integer(c_int32_t), parameter :: BN2D_FLAG_BIASED_RUNNING_VAR = 1
  integer(c_int32_t), parameter :: BN2D_FLAG_PROTECT_RUNNING_STATS = 2
  integer(c_int32_t), parameter :: BN2D_NORM_BATCH = 1
  integer(c_int32_t), parameter :: BN2D_NORM_GROUP = 2
  integer(c_int32_t), parameter :: BN2D_NORM_INSTANCE = 3

  type, bind(C) :: bn2d_view
    type(c_ptr) :: data
    integer(c_int32_t) :: device_type
    integer(c_int32_t) :: device_id
    integer(c_int32_t) :: ndim
    integer(c_int8_t) :: dtype_code
    integer(c_int8_t) :: dtype_bits
    integer(c_int16_t) :: dtype_lanes
    type(c_ptr) :: shape
    type(c_ptr) :: strides
    integer(c_int64_t) :: byte_offset
  end type

  interface
    function bn2d_version() bind(C, name="bn2d_version") result(res)
      import
      integer(c_int32_t) :: res
    end function
    function bn2d_version_string() bind(C, name="bn2d_version_string") result(res)
      import
      type(c_ptr) :: res
    end function
    function bn2d_build_info() bind(C, name="bn2d_build_info") result(res)
      import
      type(c_ptr) :: res
    end function
    function bn2d_simd_target() bind(C, name="bn2d_simd_target") result(res)
      import
      type(c_ptr) :: res
    end function
    function bn2d_last_error() bind(C, name="bn2d_last_error") result(res)
      import
      type(c_ptr) :: res
    end function
    function bn2d_status_name(status) bind(C, name="bn2d_status_name") result(res)
      import
      integer(c_int32_t), value :: status
      type(c_ptr) :: res
    end function
    function bn2d_dtype_name(dtype) bind(C, name="bn2d_dtype_name") result(res)
      import
      integer(c_int32_t), value :: dtype
      type(c_ptr) :: res
    end function
    function bn2d_dtype_size(dtype) bind(C, name="bn2d_dtype_size") result(res)
      import
      integer(c_int32_t), value :: dtype
      integer(c_int64_t) :: res
    end function
    function bn2d_dtype_from_name(name, out) bind(C, name="bn2d_dtype_from_name") result(res)
      import
      character(kind=c_char), intent(in) :: name(*)
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_constant_count() bind(C, name="bn2d_constant_count") result(res)
      import
      integer(c_int32_t) :: res
    end function
    function bn2d_constant_at(index, out_name, out_value) bind(C, name="bn2d_constant_at") result(res)
      import
      integer(c_int32_t), value :: index
      type(c_ptr), intent(out) :: out_name
      integer(c_int64_t), intent(out) :: out_value
      integer(c_int32_t) :: res
    end function
    function bn2d_constant_by_name(name, out_value) bind(C, name="bn2d_constant_by_name") result(res)
      import
      character(kind=c_char), intent(in) :: name(*)
      integer(c_int64_t), intent(out) :: out_value
      integer(c_int32_t) :: res
    end function
    function bn2d_set_num_threads(threads) bind(C, name="bn2d_set_num_threads") result(res)
      import
      integer(c_int32_t), value :: threads
      integer(c_int32_t) :: res
    end function
    function bn2d_get_num_threads() bind(C, name="bn2d_get_num_threads") result(res)
      import
      integer(c_int32_t) :: res
    end function
    function bn2d_set_streaming_threshold(bytes) bind(C, name="bn2d_set_streaming_threshold") result(res)
      import
      integer(c_int64_t), value :: bytes
      integer(c_int32_t) :: res
    end function
    function bn2d_get_streaming_threshold() bind(C, name="bn2d_get_streaming_threshold") result(res)
      import
      integer(c_int64_t) :: res
    end function
    function bn2d_options_create(out) bind(C, name="bn2d_options_create") result(res)
      import
      type(c_ptr), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_options_retain(options) bind(C, name="bn2d_options_retain") result(res)
      import
      type(c_ptr), value :: options
      integer(c_int32_t) :: res
    end function
    subroutine bn2d_options_release(options) bind(C, name="bn2d_options_release")
      import
      type(c_ptr), value :: options
    end subroutine
    function bn2d_options_set_eps(options, eps) bind(C, name="bn2d_options_set_eps") result(res)
      import
      type(c_ptr), value :: options
      real(c_double), value :: eps
      integer(c_int32_t) :: res
    end function
    function bn2d_options_set_momentum(options, momentum) bind(C, name="bn2d_options_set_momentum") result(res)
      import
      type(c_ptr), value :: options
      real(c_double), value :: momentum
      integer(c_int32_t) :: res
    end function
    function bn2d_options_set_momentum_none(options) bind(C, name="bn2d_options_set_momentum_none") result(res)
      import
      type(c_ptr), value :: options
      integer(c_int32_t) :: res
    end function
    function bn2d_options_set_affine(options, affine) bind(C, name="bn2d_options_set_affine") result(res)
      import
      type(c_ptr), value :: options
      integer(c_int32_t), value :: affine
      integer(c_int32_t) :: res
    end function
    function bn2d_options_set_bias(options, bias) bind(C, name="bn2d_options_set_bias") result(res)
      import
      type(c_ptr), value :: options
      integer(c_int32_t), value :: bias
      integer(c_int32_t) :: res
    end function
    function bn2d_options_set_track_running_stats(options, &
        track) bind(C, name="bn2d_options_set_track_running_stats") result(res)
      import
      type(c_ptr), value :: options
      integer(c_int32_t), value :: track
      integer(c_int32_t) :: res
    end function
    function bn2d_options_set_device(options, device_type, &
        device_id) bind(C, name="bn2d_options_set_device") result(res)
      import
      type(c_ptr), value :: options
      integer(c_int32_t), value :: device_type
      integer(c_int32_t), value :: device_id
      integer(c_int32_t) :: res
    end function
    function bn2d_options_set_dtype(options, dtype) bind(C, name="bn2d_options_set_dtype") result(res)
      import
      type(c_ptr), value :: options
      integer(c_int32_t), value :: dtype
      integer(c_int32_t) :: res
    end function
    function bn2d_options_set_biased_running_var(options, &
        biased) bind(C, name="bn2d_options_set_biased_running_var") result(res)
      import
      type(c_ptr), value :: options
      integer(c_int32_t), value :: biased
      integer(c_int32_t) :: res
    end function
    function bn2d_options_set_protect_running_stats(options, &
        protect) bind(C, name="bn2d_options_set_protect_running_stats") result(res)
      import
      type(c_ptr), value :: options
      integer(c_int32_t), value :: protect
      integer(c_int32_t) :: res
    end function
    function bn2d_options_set_num_threads(options, threads) bind(C, name="bn2d_options_set_num_threads") result(res)
      import
      type(c_ptr), value :: options
      integer(c_int32_t), value :: threads
      integer(c_int32_t) :: res
    end function
    function bn2d_options_set_by_name(options, name, value) bind(C, name="bn2d_options_set_by_name") result(res)
      import
      type(c_ptr), value :: options
      character(kind=c_char), intent(in) :: name(*)
      character(kind=c_char), intent(in) :: value(*)
      integer(c_int32_t) :: res
    end function
    function bn2d_module_create(num_features, options, out) bind(C, name="bn2d_module_create") result(res)
      import
      integer(c_int64_t), value :: num_features
      type(c_ptr), value :: options
      type(c_ptr), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_retain(module) bind(C, name="bn2d_module_retain") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t) :: res
    end function
    subroutine bn2d_module_release(module) bind(C, name="bn2d_module_release")
      import
      type(c_ptr), value :: module
    end subroutine
    function bn2d_module_train(module, training) bind(C, name="bn2d_module_train") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), value :: training
      integer(c_int32_t) :: res
    end function
    function bn2d_module_eval(module) bind(C, name="bn2d_module_eval") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t) :: res
    end function
    function bn2d_module_is_training(module, out) bind(C, name="bn2d_module_is_training") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_num_features(module, out) bind(C, name="bn2d_module_num_features") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int64_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_eps(module, out) bind(C, name="bn2d_module_eps") result(res)
      import
      type(c_ptr), value :: module
      real(c_double), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_momentum(module, out_has, out) bind(C, name="bn2d_module_momentum") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), intent(out) :: out_has
      real(c_double), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_affine(module, out) bind(C, name="bn2d_module_affine") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_track_running_stats(module, out) bind(C, name="bn2d_module_track_running_stats") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_dtype(module, out) bind(C, name="bn2d_module_dtype") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_device(module, out_type, out_id) bind(C, name="bn2d_module_device") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), intent(out) :: out_type
      integer(c_int32_t), intent(out) :: out_id
      integer(c_int32_t) :: res
    end function
    function bn2d_module_set_num_threads(module, threads) bind(C, name="bn2d_module_set_num_threads") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), value :: threads
      integer(c_int32_t) :: res
    end function
    function bn2d_module_get_num_threads(module, out) bind(C, name="bn2d_module_get_num_threads") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_repr(module, buffer, capacity, length) bind(C, name="bn2d_module_repr") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: buffer
      integer(c_int64_t), value :: capacity
      type(c_ptr), value :: length
      integer(c_int32_t) :: res
    end function
    function bn2d_module_reset_running_stats(module) bind(C, name="bn2d_module_reset_running_stats") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t) :: res
    end function
    function bn2d_module_reset_parameters(module) bind(C, name="bn2d_module_reset_parameters") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t) :: res
    end function
    function bn2d_module_zero_grad(module) bind(C, name="bn2d_module_zero_grad") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t) :: res
    end function
    function bn2d_module_tensor_count(module, out) bind(C, name="bn2d_module_tensor_count") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_tensor_at(module, index, out) bind(C, name="bn2d_module_tensor_at") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), value :: index
      type(c_ptr), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_tensor_by_name(module, name, out) bind(C, name="bn2d_module_tensor_by_name") result(res)
      import
      type(c_ptr), value :: module
      character(kind=c_char), intent(in) :: name(*)
      type(c_ptr), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_retain(tensor) bind(C, name="bn2d_tensor_retain") result(res)
      import
      type(c_ptr), value :: tensor
      integer(c_int32_t) :: res
    end function
    subroutine bn2d_tensor_release(tensor) bind(C, name="bn2d_tensor_release")
      import
      type(c_ptr), value :: tensor
    end subroutine
    function bn2d_tensor_name(tensor, out) bind(C, name="bn2d_tensor_name") result(res)
      import
      type(c_ptr), value :: tensor
      type(c_ptr), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_kind(tensor, out) bind(C, name="bn2d_tensor_kind") result(res)
      import
      type(c_ptr), value :: tensor
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_dtype(tensor, out) bind(C, name="bn2d_tensor_dtype") result(res)
      import
      type(c_ptr), value :: tensor
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_rank(tensor, out) bind(C, name="bn2d_tensor_rank") result(res)
      import
      type(c_ptr), value :: tensor
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_dim(tensor, dimension, out) bind(C, name="bn2d_tensor_dim") result(res)
      import
      type(c_ptr), value :: tensor
      integer(c_int32_t), value :: dimension
      integer(c_int64_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_nbytes(tensor, out) bind(C, name="bn2d_tensor_nbytes") result(res)
      import
      type(c_ptr), value :: tensor
      integer(c_int64_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_data(tensor, out) bind(C, name="bn2d_tensor_data") result(res)
      import
      type(c_ptr), value :: tensor
      type(c_ptr), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_grad(tensor, out) bind(C, name="bn2d_tensor_grad") result(res)
      import
      type(c_ptr), value :: tensor
      type(c_ptr), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_requires_grad(tensor, out) bind(C, name="bn2d_tensor_requires_grad") result(res)
      import
      type(c_ptr), value :: tensor
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_set_requires_grad(tensor, &
        requires_grad) bind(C, name="bn2d_tensor_set_requires_grad") result(res)
      import
      type(c_ptr), value :: tensor
      integer(c_int32_t), value :: requires_grad
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_copy_from(tensor, source) bind(C, name="bn2d_tensor_copy_from") result(res)
      import
      type(c_ptr), value :: tensor
      type(c_ptr), value :: source
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_copy_to(tensor, target) bind(C, name="bn2d_tensor_copy_to") result(res)
      import
      type(c_ptr), value :: tensor
      type(c_ptr), value :: target
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_to_dlpack(tensor, out) bind(C, name="bn2d_tensor_to_dlpack") result(res)
      import
      type(c_ptr), value :: tensor
      type(c_ptr), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_to_dlpack_legacy(tensor, out) bind(C, name="bn2d_tensor_to_dlpack_legacy") result(res)
      import
      type(c_ptr), value :: tensor
      type(c_ptr), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_forward_f32(module, x, n, h, w, y, record) bind(C, name="bn2d_forward_f32") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: x
      integer(c_int64_t), value :: n
      integer(c_int64_t), value :: h
      integer(c_int64_t), value :: w
      type(c_ptr), value :: y
      type(c_ptr), value :: record
      integer(c_int32_t) :: res
    end function
    function bn2d_forward_f64(module, x, n, h, w, y, record) bind(C, name="bn2d_forward_f64") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: x
      integer(c_int64_t), value :: n
      integer(c_int64_t), value :: h
      integer(c_int64_t), value :: w
      type(c_ptr), value :: y
      type(c_ptr), value :: record
      integer(c_int32_t) :: res
    end function
    function bn2d_forward(module, x, y, record) bind(C, name="bn2d_forward") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: x
      type(c_ptr), value :: y
      type(c_ptr), value :: record
      integer(c_int32_t) :: res
    end function
    function bn2d_forward_act(module, x, z, activation, slope, y, record) bind(C, name="bn2d_forward_act") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: x
      type(c_ptr), value :: z
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      type(c_ptr), value :: y
      type(c_ptr), value :: record
      integer(c_int32_t) :: res
    end function
    function bn2d_backward_f32(module, record, dy, dx) bind(C, name="bn2d_backward_f32") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: record
      type(c_ptr), value :: dy
      type(c_ptr), value :: dx
      integer(c_int32_t) :: res
    end function
    function bn2d_backward_f64(module, record, dy, dx) bind(C, name="bn2d_backward_f64") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: record
      type(c_ptr), value :: dy
      type(c_ptr), value :: dx
      integer(c_int32_t) :: res
    end function
    function bn2d_backward(module, record, dy, dx, dz) bind(C, name="bn2d_backward") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: record
      type(c_ptr), value :: dy
      type(c_ptr), value :: dx
      type(c_ptr), value :: dz
      integer(c_int32_t) :: res
    end function
    function bn2d_double_backward(module, record, dy, ddx, ddweight, ddbias, ddy, &
        dx) bind(C, name="bn2d_double_backward") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: record
      type(c_ptr), value :: dy
      type(c_ptr), value :: ddx
      type(c_ptr), value :: ddweight
      type(c_ptr), value :: ddbias
      type(c_ptr), value :: ddy
      type(c_ptr), value :: dx
      integer(c_int32_t) :: res
    end function
    function bn2d_record_retain(record) bind(C, name="bn2d_record_retain") result(res)
      import
      type(c_ptr), value :: record
      integer(c_int32_t) :: res
    end function
    subroutine bn2d_record_release(record) bind(C, name="bn2d_record_release")
      import
      type(c_ptr), value :: record
    end subroutine
    function bn2d_batch_norm_forward(x, z, y, dtype, weight, bias, running_mean, running_var, batch_stats, &
        averaging_factor, eps, flags, activation, slope, mask, saved_mean, &
        saved_invstd) bind(C, name="bn2d_batch_norm_forward") result(res)
      import
      type(c_ptr), value :: x
      type(c_ptr), value :: z
      type(c_ptr), value :: y
      integer(c_int32_t), value :: dtype
      type(c_ptr), value :: weight
      type(c_ptr), value :: bias
      type(c_ptr), value :: running_mean
      type(c_ptr), value :: running_var
      integer(c_int32_t), value :: batch_stats
      real(c_double), value :: averaging_factor
      real(c_double), value :: eps
      integer(c_int32_t), value :: flags
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      type(c_ptr), value :: mask
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t) :: res
    end function
    function bn2d_batch_norm_backward(x, dy, y, mask, dtype, weight, saved_mean, saved_invstd, batch_stats, &
        activation, slope, blend, dx, dz, dweight, dbias) bind(C, name="bn2d_batch_norm_backward") result(res)
      import
      type(c_ptr), value :: x
      type(c_ptr), value :: dy
      type(c_ptr), value :: y
      type(c_ptr), value :: mask
      integer(c_int32_t), value :: dtype
      type(c_ptr), value :: weight
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t), value :: batch_stats
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      real(c_double), value :: blend
      type(c_ptr), value :: dx
      type(c_ptr), value :: dz
      type(c_ptr), value :: dweight
      type(c_ptr), value :: dbias
      integer(c_int32_t) :: res
    end function
    function bn2d_batch_norm_double_backward(x, dy, y, mask, dtype, weight, saved_mean, saved_invstd, batch_stats, &
        activation, slope, ddx, ddweight, ddbias, blend, ddy, dx, &
        dweight) bind(C, name="bn2d_batch_norm_double_backward") result(res)
      import
      type(c_ptr), value :: x
      type(c_ptr), value :: dy
      type(c_ptr), value :: y
      type(c_ptr), value :: mask
      integer(c_int32_t), value :: dtype
      type(c_ptr), value :: weight
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t), value :: batch_stats
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      type(c_ptr), value :: ddx
      type(c_ptr), value :: ddweight
      type(c_ptr), value :: ddbias
      real(c_double), value :: blend
      type(c_ptr), value :: ddy
      type(c_ptr), value :: dx
      type(c_ptr), value :: dweight
      integer(c_int32_t) :: res
    end function
    function bn2d_mask_nbytes(n, c, h, w, out) bind(C, name="bn2d_mask_nbytes") result(res)
      import
      integer(c_int64_t), value :: n
      integer(c_int64_t), value :: c
      integer(c_int64_t), value :: h
      integer(c_int64_t), value :: w
      integer(c_int64_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_forward_flat(module, dtype, layout, x, z, n, h, w, activation, slope, y, &
        record) bind(C, name="bn2d_forward_flat") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), value :: dtype
      integer(c_int32_t), value :: layout
      type(c_ptr), value :: x
      type(c_ptr), value :: z
      integer(c_int64_t), value :: n
      integer(c_int64_t), value :: h
      integer(c_int64_t), value :: w
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      type(c_ptr), value :: y
      type(c_ptr), value :: record
      integer(c_int32_t) :: res
    end function
    function bn2d_backward_flat(module, record, dtype, layout, dy, dx, &
        dz) bind(C, name="bn2d_backward_flat") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: record
      integer(c_int32_t), value :: dtype
      integer(c_int32_t), value :: layout
      type(c_ptr), value :: dy
      type(c_ptr), value :: dx
      type(c_ptr), value :: dz
      integer(c_int32_t) :: res
    end function
    function bn2d_double_backward_flat(module, record, dtype, layout, dy, ddx, ddweight, ddbias, ddy, &
        dx) bind(C, name="bn2d_double_backward_flat") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: record
      integer(c_int32_t), value :: dtype
      integer(c_int32_t), value :: layout
      type(c_ptr), value :: dy
      type(c_ptr), value :: ddx
      type(c_ptr), value :: ddweight
      type(c_ptr), value :: ddbias
      type(c_ptr), value :: ddy
      type(c_ptr), value :: dx
      integer(c_int32_t) :: res
    end function
    function bn2d_batch_norm_forward_flat(data_dtype, layout, n, c, h, w, x, z, y, param_dtype, num_features, weight, &
        bias, running_mean, running_var, batch_stats, averaging_factor, eps, flags, activation, slope, mask, &
        saved_mean, saved_invstd) bind(C, name="bn2d_batch_norm_forward_flat") result(res)
      import
      integer(c_int32_t), value :: data_dtype
      integer(c_int32_t), value :: layout
      integer(c_int64_t), value :: n
      integer(c_int64_t), value :: c
      integer(c_int64_t), value :: h
      integer(c_int64_t), value :: w
      type(c_ptr), value :: x
      type(c_ptr), value :: z
      type(c_ptr), value :: y
      integer(c_int32_t), value :: param_dtype
      integer(c_int64_t), value :: num_features
      type(c_ptr), value :: weight
      type(c_ptr), value :: bias
      type(c_ptr), value :: running_mean
      type(c_ptr), value :: running_var
      integer(c_int32_t), value :: batch_stats
      real(c_double), value :: averaging_factor
      real(c_double), value :: eps
      integer(c_int32_t), value :: flags
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      type(c_ptr), value :: mask
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t) :: res
    end function
    function bn2d_batch_norm_backward_flat(data_dtype, layout, n, c, h, w, x, dy, y, mask, param_dtype, num_features, &
        weight, saved_mean, saved_invstd, batch_stats, activation, slope, blend, dx, dz, dweight, &
        dbias) bind(C, name="bn2d_batch_norm_backward_flat") result(res)
      import
      integer(c_int32_t), value :: data_dtype
      integer(c_int32_t), value :: layout
      integer(c_int64_t), value :: n
      integer(c_int64_t), value :: c
      integer(c_int64_t), value :: h
      integer(c_int64_t), value :: w
      type(c_ptr), value :: x
      type(c_ptr), value :: dy
      type(c_ptr), value :: y
      type(c_ptr), value :: mask
      integer(c_int32_t), value :: param_dtype
      integer(c_int64_t), value :: num_features
      type(c_ptr), value :: weight
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t), value :: batch_stats
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      real(c_double), value :: blend
      type(c_ptr), value :: dx
      type(c_ptr), value :: dz
      type(c_ptr), value :: dweight
      type(c_ptr), value :: dbias
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_copy_from_flat(tensor, dtype, data, &
        length) bind(C, name="bn2d_tensor_copy_from_flat") result(res)
      import
      type(c_ptr), value :: tensor
      integer(c_int32_t), value :: dtype
      type(c_ptr), value :: data
      integer(c_int64_t), value :: length
      integer(c_int32_t) :: res
    end function
    function bn2d_tensor_copy_to_flat(tensor, dtype, data, &
        length) bind(C, name="bn2d_tensor_copy_to_flat") result(res)
      import
      type(c_ptr), value :: tensor
      integer(c_int32_t), value :: dtype
      type(c_ptr), value :: data
      integer(c_int64_t), value :: length
      integer(c_int32_t) :: res
    end function
    function bn2d_set_thread_pool(kind) bind(C, name="bn2d_set_thread_pool") result(res)
      import
      integer(c_int32_t), value :: kind
      integer(c_int32_t) :: res
    end function
    function bn2d_set_host_thread_pool(run, user, threads) bind(C, name="bn2d_set_host_thread_pool") result(res)
      import
      type(c_funptr), value :: run
      type(c_ptr), value :: user
      integer(c_int32_t), value :: threads
      integer(c_int32_t) :: res
    end function
    function bn2d_get_thread_pool() bind(C, name="bn2d_get_thread_pool") result(res)
      import
      integer(c_int32_t) :: res
    end function
    function bn2d_module_set_thread_pool(module, kind) bind(C, name="bn2d_module_set_thread_pool") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), value :: kind
      integer(c_int32_t) :: res
    end function
    function bn2d_module_set_host_thread_pool(module, run, user, &
        threads) bind(C, name="bn2d_module_set_host_thread_pool") result(res)
      import
      type(c_ptr), value :: module
      type(c_funptr), value :: run
      type(c_ptr), value :: user
      integer(c_int32_t), value :: threads
      integer(c_int32_t) :: res
    end function
    function bn2d_module_get_thread_pool(module, out) bind(C, name="bn2d_module_get_thread_pool") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_set_last_error(status, text) bind(C, name="bn2d_set_last_error") result(res)
      import
      integer(c_int32_t), value :: status
      character(kind=c_char), intent(in) :: text(*)
      integer(c_int32_t) :: res
    end function
    function bn2d_module_try_lock(module, exclusive) bind(C, name="bn2d_module_try_lock") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), value :: exclusive
      integer(c_int32_t) :: res
    end function
    function bn2d_module_unlock(module, exclusive) bind(C, name="bn2d_module_unlock") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), value :: exclusive
      integer(c_int32_t) :: res
    end function
    function bn2d_module_scale_shift(module, dtype, scale, shift, &
        length) bind(C, name="bn2d_module_scale_shift") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), value :: dtype
      type(c_ptr), value :: scale
      type(c_ptr), value :: shift
      integer(c_int64_t), value :: length
      integer(c_int32_t) :: res
    end function
    function bn2d_module_set_momentum(module, momentum) bind(C, name="bn2d_module_set_momentum") result(res)
      import
      type(c_ptr), value :: module
      real(c_double), value :: momentum
      integer(c_int32_t) :: res
    end function
    function bn2d_module_set_momentum_none(module) bind(C, name="bn2d_module_set_momentum_none") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t) :: res
    end function
    function bn2d_module_set_frozen(module, frozen) bind(C, name="bn2d_module_set_frozen") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), value :: frozen
      integer(c_int32_t) :: res
    end function
    function bn2d_module_is_frozen(module, out) bind(C, name="bn2d_module_is_frozen") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_statistics_create(num_features, out) bind(C, name="bn2d_statistics_create") result(res)
      import
      integer(c_int64_t), value :: num_features
      type(c_ptr), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_statistics_retain(statistics) bind(C, name="bn2d_statistics_retain") result(res)
      import
      type(c_ptr), value :: statistics
      integer(c_int32_t) :: res
    end function
    subroutine bn2d_statistics_release(statistics) bind(C, name="bn2d_statistics_release")
      import
      type(c_ptr), value :: statistics
    end subroutine
    function bn2d_statistics_accumulate(statistics, x) bind(C, name="bn2d_statistics_accumulate") result(res)
      import
      type(c_ptr), value :: statistics
      type(c_ptr), value :: x
      integer(c_int32_t) :: res
    end function
    function bn2d_statistics_accumulate_flat(statistics, dtype, layout, x, n, h, &
        w) bind(C, name="bn2d_statistics_accumulate_flat") result(res)
      import
      type(c_ptr), value :: statistics
      integer(c_int32_t), value :: dtype
      integer(c_int32_t), value :: layout
      type(c_ptr), value :: x
      integer(c_int64_t), value :: n
      integer(c_int64_t), value :: h
      integer(c_int64_t), value :: w
      integer(c_int32_t) :: res
    end function
    function bn2d_statistics_merge(statistics, other) bind(C, name="bn2d_statistics_merge") result(res)
      import
      type(c_ptr), value :: statistics
      type(c_ptr), value :: other
      integer(c_int32_t) :: res
    end function
    function bn2d_statistics_reset(statistics) bind(C, name="bn2d_statistics_reset") result(res)
      import
      type(c_ptr), value :: statistics
      integer(c_int32_t) :: res
    end function
    function bn2d_statistics_count(statistics, out) bind(C, name="bn2d_statistics_count") result(res)
      import
      type(c_ptr), value :: statistics
      integer(c_int64_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_statistics_mean_var(statistics, mean, var, &
        length) bind(C, name="bn2d_statistics_mean_var") result(res)
      import
      type(c_ptr), value :: statistics
      type(c_ptr), value :: mean
      type(c_ptr), value :: var
      integer(c_int64_t), value :: length
      integer(c_int32_t) :: res
    end function
    function bn2d_statistics_export_length(statistics, out) bind(C, name="bn2d_statistics_export_length") result(res)
      import
      type(c_ptr), value :: statistics
      integer(c_int64_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_statistics_export(statistics, values, length) bind(C, name="bn2d_statistics_export") result(res)
      import
      type(c_ptr), value :: statistics
      type(c_ptr), value :: values
      integer(c_int64_t), value :: length
      integer(c_int32_t) :: res
    end function
    function bn2d_statistics_merge_exported(statistics, values, &
        length) bind(C, name="bn2d_statistics_merge_exported") result(res)
      import
      type(c_ptr), value :: statistics
      type(c_ptr), value :: values
      integer(c_int64_t), value :: length
      integer(c_int32_t) :: res
    end function
    function bn2d_forward_with_statistics(module, statistics, x, z, activation, slope, y, &
        record) bind(C, name="bn2d_forward_with_statistics") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: statistics
      type(c_ptr), value :: x
      type(c_ptr), value :: z
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      type(c_ptr), value :: y
      type(c_ptr), value :: record
      integer(c_int32_t) :: res
    end function
    function bn2d_forward_with_statistics_flat(module, statistics, dtype, layout, x, z, n, h, w, activation, slope, y, &
        record) bind(C, name="bn2d_forward_with_statistics_flat") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: statistics
      integer(c_int32_t), value :: dtype
      integer(c_int32_t), value :: layout
      type(c_ptr), value :: x
      type(c_ptr), value :: z
      integer(c_int64_t), value :: n
      integer(c_int64_t), value :: h
      integer(c_int64_t), value :: w
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      type(c_ptr), value :: y
      type(c_ptr), value :: record
      integer(c_int32_t) :: res
    end function
    function bn2d_record_batch_statistics(record, out) bind(C, name="bn2d_record_batch_statistics") result(res)
      import
      type(c_ptr), value :: record
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_backward_sums(module, record, dy, sums, length) bind(C, name="bn2d_backward_sums") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: record
      type(c_ptr), value :: dy
      type(c_ptr), value :: sums
      integer(c_int64_t), value :: length
      integer(c_int32_t) :: res
    end function
    function bn2d_backward_sums_flat(module, record, dtype, layout, dy, sums, &
        length) bind(C, name="bn2d_backward_sums_flat") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: record
      integer(c_int32_t), value :: dtype
      integer(c_int32_t), value :: layout
      type(c_ptr), value :: dy
      type(c_ptr), value :: sums
      integer(c_int64_t), value :: length
      integer(c_int32_t) :: res
    end function
    function bn2d_backward_with_sums(module, record, dy, sums, length, dx, &
        dz) bind(C, name="bn2d_backward_with_sums") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: record
      type(c_ptr), value :: dy
      type(c_ptr), value :: sums
      integer(c_int64_t), value :: length
      type(c_ptr), value :: dx
      type(c_ptr), value :: dz
      integer(c_int32_t) :: res
    end function
    function bn2d_backward_with_sums_flat(module, record, dtype, layout, dy, sums, length, dx, &
        dz) bind(C, name="bn2d_backward_with_sums_flat") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: record
      integer(c_int32_t), value :: dtype
      integer(c_int32_t), value :: layout
      type(c_ptr), value :: dy
      type(c_ptr), value :: sums
      integer(c_int64_t), value :: length
      type(c_ptr), value :: dx
      type(c_ptr), value :: dz
      integer(c_int32_t) :: res
    end function
    function bn2d_module_set_running_stats(module, &
        statistics) bind(C, name="bn2d_module_set_running_stats") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: statistics
      integer(c_int32_t) :: res
    end function
    function bn2d_options_set_ghost_batch_size(options, &
        samples) bind(C, name="bn2d_options_set_ghost_batch_size") result(res)
      import
      type(c_ptr), value :: options
      integer(c_int64_t), value :: samples
      integer(c_int32_t) :: res
    end function
    function bn2d_group_norm_create(num_groups, num_channels, options, &
        out) bind(C, name="bn2d_group_norm_create") result(res)
      import
      integer(c_int64_t), value :: num_groups
      integer(c_int64_t), value :: num_channels
      type(c_ptr), value :: options
      type(c_ptr), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_instance_norm_create(num_features, options, &
        out) bind(C, name="bn2d_instance_norm_create") result(res)
      import
      integer(c_int64_t), value :: num_features
      type(c_ptr), value :: options
      type(c_ptr), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_norm(module, out) bind(C, name="bn2d_module_norm") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int32_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_num_groups(module, out) bind(C, name="bn2d_module_num_groups") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int64_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_module_ghost_batch_size(module, out) bind(C, name="bn2d_module_ghost_batch_size") result(res)
      import
      type(c_ptr), value :: module
      integer(c_int64_t), intent(out) :: out
      integer(c_int32_t) :: res
    end function
    function bn2d_group_norm_forward(x, z, y, num_groups, dtype, weight, bias, eps, activation, slope, mask, &
        saved_mean, saved_invstd) bind(C, name="bn2d_group_norm_forward") result(res)
      import
      type(c_ptr), value :: x
      type(c_ptr), value :: z
      type(c_ptr), value :: y
      integer(c_int64_t), value :: num_groups
      integer(c_int32_t), value :: dtype
      type(c_ptr), value :: weight
      type(c_ptr), value :: bias
      real(c_double), value :: eps
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      type(c_ptr), value :: mask
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t) :: res
    end function
    function bn2d_group_norm_backward(x, dy, y, mask, num_groups, dtype, weight, saved_mean, saved_invstd, activation, &
        slope, blend, dx, dz, dweight, dbias) bind(C, name="bn2d_group_norm_backward") result(res)
      import
      type(c_ptr), value :: x
      type(c_ptr), value :: dy
      type(c_ptr), value :: y
      type(c_ptr), value :: mask
      integer(c_int64_t), value :: num_groups
      integer(c_int32_t), value :: dtype
      type(c_ptr), value :: weight
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      real(c_double), value :: blend
      type(c_ptr), value :: dx
      type(c_ptr), value :: dz
      type(c_ptr), value :: dweight
      type(c_ptr), value :: dbias
      integer(c_int32_t) :: res
    end function
    function bn2d_group_norm_double_backward(x, dy, y, mask, num_groups, dtype, weight, saved_mean, saved_invstd, &
        activation, slope, ddx, ddweight, ddbias, blend, ddy, dx, &
        dweight) bind(C, name="bn2d_group_norm_double_backward") result(res)
      import
      type(c_ptr), value :: x
      type(c_ptr), value :: dy
      type(c_ptr), value :: y
      type(c_ptr), value :: mask
      integer(c_int64_t), value :: num_groups
      integer(c_int32_t), value :: dtype
      type(c_ptr), value :: weight
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      type(c_ptr), value :: ddx
      type(c_ptr), value :: ddweight
      type(c_ptr), value :: ddbias
      real(c_double), value :: blend
      type(c_ptr), value :: ddy
      type(c_ptr), value :: dx
      type(c_ptr), value :: dweight
      integer(c_int32_t) :: res
    end function
    function bn2d_group_norm_forward_flat(data_dtype, layout, n, c, h, w, x, z, y, num_groups, param_dtype, &
        num_features, weight, bias, eps, activation, slope, mask, saved_mean, &
        saved_invstd) bind(C, name="bn2d_group_norm_forward_flat") result(res)
      import
      integer(c_int32_t), value :: data_dtype
      integer(c_int32_t), value :: layout
      integer(c_int64_t), value :: n
      integer(c_int64_t), value :: c
      integer(c_int64_t), value :: h
      integer(c_int64_t), value :: w
      type(c_ptr), value :: x
      type(c_ptr), value :: z
      type(c_ptr), value :: y
      integer(c_int64_t), value :: num_groups
      integer(c_int32_t), value :: param_dtype
      integer(c_int64_t), value :: num_features
      type(c_ptr), value :: weight
      type(c_ptr), value :: bias
      real(c_double), value :: eps
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      type(c_ptr), value :: mask
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t) :: res
    end function
    function bn2d_group_norm_backward_flat(data_dtype, layout, n, c, h, w, x, dy, y, mask, num_groups, param_dtype, &
        num_features, weight, saved_mean, saved_invstd, activation, slope, blend, dx, dz, dweight, &
        dbias) bind(C, name="bn2d_group_norm_backward_flat") result(res)
      import
      integer(c_int32_t), value :: data_dtype
      integer(c_int32_t), value :: layout
      integer(c_int64_t), value :: n
      integer(c_int64_t), value :: c
      integer(c_int64_t), value :: h
      integer(c_int64_t), value :: w
      type(c_ptr), value :: x
      type(c_ptr), value :: dy
      type(c_ptr), value :: y
      type(c_ptr), value :: mask
      integer(c_int64_t), value :: num_groups
      integer(c_int32_t), value :: param_dtype
      integer(c_int64_t), value :: num_features
      type(c_ptr), value :: weight
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      real(c_double), value :: blend
      type(c_ptr), value :: dx
      type(c_ptr), value :: dz
      type(c_ptr), value :: dweight
      type(c_ptr), value :: dbias
      integer(c_int32_t) :: res
    end function
    function bn2d_batch_norm_backward_act(x, z, dy, y, mask, dtype, weight, bias, saved_mean, saved_invstd, &
        batch_stats, activation, slope, blend, dx, dz, dweight, &
        dbias) bind(C, name="bn2d_batch_norm_backward_act") result(res)
      import
      type(c_ptr), value :: x
      type(c_ptr), value :: z
      type(c_ptr), value :: dy
      type(c_ptr), value :: y
      type(c_ptr), value :: mask
      integer(c_int32_t), value :: dtype
      type(c_ptr), value :: weight
      type(c_ptr), value :: bias
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t), value :: batch_stats
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      real(c_double), value :: blend
      type(c_ptr), value :: dx
      type(c_ptr), value :: dz
      type(c_ptr), value :: dweight
      type(c_ptr), value :: dbias
      integer(c_int32_t) :: res
    end function
    function bn2d_group_norm_backward_act(x, z, dy, y, mask, num_groups, dtype, weight, bias, saved_mean, &
        saved_invstd, activation, slope, blend, dx, dz, dweight, &
        dbias) bind(C, name="bn2d_group_norm_backward_act") result(res)
      import
      type(c_ptr), value :: x
      type(c_ptr), value :: z
      type(c_ptr), value :: dy
      type(c_ptr), value :: y
      type(c_ptr), value :: mask
      integer(c_int64_t), value :: num_groups
      integer(c_int32_t), value :: dtype
      type(c_ptr), value :: weight
      type(c_ptr), value :: bias
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      real(c_double), value :: blend
      type(c_ptr), value :: dx
      type(c_ptr), value :: dz
      type(c_ptr), value :: dweight
      type(c_ptr), value :: dbias
      integer(c_int32_t) :: res
    end function
    function bn2d_double_backward_act(module, record, dy, ddx, ddz, ddweight, ddbias, ddy, dx, &
        dz) bind(C, name="bn2d_double_backward_act") result(res)
      import
      type(c_ptr), value :: module
      type(c_ptr), value :: record
      type(c_ptr), value :: dy
      type(c_ptr), value :: ddx
      type(c_ptr), value :: ddz
      type(c_ptr), value :: ddweight
      type(c_ptr), value :: ddbias
      type(c_ptr), value :: ddy
      type(c_ptr), value :: dx
      type(c_ptr), value :: dz
      integer(c_int32_t) :: res
    end function
    function bn2d_batch_norm_double_backward_act(x, z, dy, y, mask, dtype, weight, bias, saved_mean, saved_invstd, &
        batch_stats, activation, slope, ddx, ddz, ddweight, ddbias, blend, ddy, dx, dz, dweight, &
        dbias) bind(C, name="bn2d_batch_norm_double_backward_act") result(res)
      import
      type(c_ptr), value :: x
      type(c_ptr), value :: z
      type(c_ptr), value :: dy
      type(c_ptr), value :: y
      type(c_ptr), value :: mask
      integer(c_int32_t), value :: dtype
      type(c_ptr), value :: weight
      type(c_ptr), value :: bias
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t), value :: batch_stats
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      type(c_ptr), value :: ddx
      type(c_ptr), value :: ddz
      type(c_ptr), value :: ddweight
      type(c_ptr), value :: ddbias
      real(c_double), value :: blend
      type(c_ptr), value :: ddy
      type(c_ptr), value :: dx
      type(c_ptr), value :: dz
      type(c_ptr), value :: dweight
      type(c_ptr), value :: dbias
      integer(c_int32_t) :: res
    end function
    function bn2d_group_norm_double_backward_act(x, z, dy, y, mask, num_groups, dtype, weight, bias, saved_mean, &
        saved_invstd, activation, slope, ddx, ddz, ddweight, ddbias, blend, ddy, dx, dz, dweight, &
        dbias) bind(C, name="bn2d_group_norm_double_backward_act") result(res)
      import
      type(c_ptr), value :: x
      type(c_ptr), value :: z
      type(c_ptr), value :: dy
      type(c_ptr), value :: y
      type(c_ptr), value :: mask
      integer(c_int64_t), value :: num_groups
      integer(c_int32_t), value :: dtype
      type(c_ptr), value :: weight
      type(c_ptr), value :: bias
      type(c_ptr), value :: saved_mean
      type(c_ptr), value :: saved_invstd
      integer(c_int32_t), value :: activation
      real(c_double), value :: slope
      type(c_ptr), value :: ddx
      type(c_ptr), value :: ddz
      type(c_ptr), value :: ddweight
      type(c_ptr), value :: ddbias
      real(c_double), value :: blend
      type(c_ptr), value :: ddy
      type(c_ptr), value :: dx
      type(c_ptr), value :: dz
      type(c_ptr), value :: dweight
      type(c_ptr), value :: dbias
      integer(c_int32_t) :: res
    end function
    function bn2d_get_api(api_version) bind(C, name="bn2d_get_api") result(res)
      import
      integer(c_int32_t), value :: api_version
      type(c_ptr) :: res
    end function
  end interface
end module bn2d_raw
