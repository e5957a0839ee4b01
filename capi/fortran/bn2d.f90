! SPDX-License-Identifier: MIT
!> Batch normalisation over (N, C, H, W) on the CPU. README.md tells how to use it.
!>
!> Arrays are contiguous, with the extents reversed: x(w, h, c, n) is NCHW, x(c, w, h, n) is channels_last.
!> What can fail has the optional arguments stat and errmsg, as allocate() has: without stat an
!> error stops the program. is_training, num_features, text and raw have none.
module bn2d
  use, intrinsic :: iso_c_binding
  use bn2d_raw
  implicit none
  private
  public :: batch_norm, batch_norm_record, bn2d_limit_threads
  public :: assignment(=)
  public :: BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16, BN2D_I64, BN2D_NCHW, BN2D_NHWC
  public :: BN2D_ACT_NONE, BN2D_ACT_RELU, BN2D_ACT_LEAKY_RELU, BN2D_ACT_RELU6, BN2D_ACT_CLAMP
  public :: BN2D_ACT_HARDSWISH, BN2D_ACT_SILU, BN2D_ACT_GELU, BN2D_ACT_SIGMOID
  public :: BN2D_OK, BN2D_ERROR_INVALID_ARGUMENT, BN2D_ERROR_INVALID_HANDLE, BN2D_ERROR_NOT_FOUND
  public :: BN2D_ERROR_SHAPE, BN2D_ERROR_DTYPE, BN2D_ERROR_DEVICE, BN2D_ERROR_LAYOUT, BN2D_ERROR_OVERLAP
  public :: BN2D_ERROR_OVERFLOW, BN2D_ERROR_TOO_FEW_VALUES, BN2D_ERROR_STATE, BN2D_ERROR_BUSY
  public :: BN2D_ERROR_BUFFER_TOO_SMALL, BN2D_ERROR_OUT_OF_MEMORY, BN2D_ERROR_INTERNAL, BN2D_ERROR_IO
  public :: BN2D_ERROR_FORMAT

  !> What a forward leaves for its backward. Borrows x, y and z, which must be targets or pointers:
  !> keep them in place and unchanged until the last backward. A copy by = is one more reference.
  type :: batch_norm_record
    private
    type(c_ptr) :: handle = c_null_ptr
    integer(c_intptr_t) :: owner = 0 ! as of batch_norm
    integer(c_int32_t) :: layout = 0
    integer(c_int64_t) :: extents(4) = 0
  contains
    procedure :: release => record_release, raw => record_raw
    final :: record_final
  end type

  !> A module: batch norm, or one of its kin. A copy by = is one more reference to the same module.
  type :: batch_norm
    private
    type(c_ptr) :: handle = c_null_ptr
    !> Address of the variable that has the reference. The compiler copies components and elements
    !> of arrays bit by bit in places where it should call our assignment: such a copy has another
    !> address, and gives nothing back.
    integer(c_intptr_t) :: owner = 0
  contains
    procedure :: create, create_group_norm, create_instance_norm, release => module_release
    procedure :: train, eval, is_training, num_features, zero_grad, reset_running_stats
    procedure :: set_num_threads, text, raw
    !> y = activation(bn(x) + z), recorded: record is required. real(c_float), real(c_double), or the
    !> bits of half types with dtype=.
    generic :: forward => forward_f32, forward_f64, forward_bits
    !> The same in eval mode, with the running statistics. It asks for the mode first: a thread that
    !> calls train in between makes it train.
    generic :: infer => infer_f32, infer_f64, infer_bits
    !> dx and dz from dy; adds to weight.grad and bias.grad.
    generic :: backward => backward_f32, backward_f64, backward_bits
    !> Points at the module's own elements: "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
    !> "weight.grad", "bias.grad". c_int16_t: the bits of a half module.
    generic :: tensor => tensor_f32, tensor_f64, tensor_bits, tensor_i64
    procedure, private :: forward_f32, forward_f64, forward_bits, infer_f32, infer_f64, infer_bits
    procedure, private :: backward_f32, backward_f64, backward_bits, tensor_f32, tensor_f64, tensor_bits
    procedure, private :: tensor_i64
    final :: module_final
  end type

  !> Not bound to the types: gfortran 12 calls bound ones for lists that it has not reallocated,
  !> beyond their end.
  interface assignment(=)
    procedure :: module_assign, module_assign_list, record_assign, record_assign_list
  end interface

  !> An array as the C functions want it.
  type :: span
    type(c_ptr) :: address = c_null_ptr
    integer(c_int64_t) :: extents(4) = 0
    logical :: contiguous = .true., there = .false.
  end type

contains

  ! ---------------------------------------------------------------------------------------------------------- errors

  function c_text(pointer) result(text)
    type(c_ptr), intent(in) :: pointer
    character(len=:), allocatable :: text
    character(kind=c_char), pointer :: letters(:)
    integer :: i
    call c_f_pointer(pointer, letters, [512]) ! the library's texts are shorter; only read up to the NUL
    text = ''
    do i = 1, 512
      if (letters(i) == c_null_char) return
      text = text // letters(i)
    end do
  end function

  !> Hands a status on as allocate() does; message is ours, else the library's is asked for.
  subroutine report(status, stat, errmsg, message)
    integer(c_int32_t), intent(in) :: status
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    character(len=*), intent(in), optional :: message
    character(len=:), allocatable :: text
    if (present(stat)) stat = status
    if (status == BN2D_OK) return
    if (present(message)) then
      text = message
    else
      text = c_text(bn2d_last_error())
    end if
    if (present(errmsg)) errmsg = text
    if (.not. present(stat)) error stop 'bn2d: ' // text
  end subroutine

  !> As report, of a call with the module: without one, C has refused a NULL.
  subroutine report_of(self, status, stat, errmsg)
    class(batch_norm), intent(in) :: self
    integer(c_int32_t), intent(in) :: status
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    if (c_associated(self%handle)) then
      call report(status, stat, errmsg)
    else
      call report(BN2D_ERROR_INVALID_HANDLE, stat, errmsg, &
        'the module has been released, or was never created')
    end if
  end subroutine

  ! ---------------------------------------------------------------------------------------------------------- module

  !> New batch norm in training mode. cumulative: no momentum, the plain average of all batches.
  !> ghost_batch_size: in training, every so many samples are normalised on their own.
  subroutine create(self, features, eps, momentum, cumulative, affine, bias, track_running_stats, &
      biased_running_var, protect_running_stats, dtype, num_threads, stat, errmsg, ghost_batch_size)
    class(batch_norm), intent(inout) :: self
    integer, intent(in) :: features
    real(c_double), intent(in), optional :: eps, momentum
    logical, intent(in), optional :: cumulative, affine, bias, track_running_stats
    logical, intent(in), optional :: biased_running_var, protect_running_stats
    integer(c_int32_t), intent(in), optional :: dtype, num_threads
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    integer, intent(in), optional :: ghost_batch_size
    call make(self, BN2D_NORM_BATCH, 0, features, eps, momentum, cumulative, affine, bias, &
      track_running_stats, biased_running_var, protect_running_stats, dtype, num_threads, stat, errmsg, &
      ghost_batch_size)
  end subroutine

  !> New group norm: the statistics of channels / groups channels of a sample; 1 group is a layer
  !> norm. No running statistics; infer needs eval mode all the same.
  subroutine create_group_norm(self, groups, channels, eps, affine, bias, dtype, num_threads, stat, errmsg)
    class(batch_norm), intent(inout) :: self
    integer, intent(in) :: groups, channels
    real(c_double), intent(in), optional :: eps
    logical, intent(in), optional :: affine, bias
    integer(c_int32_t), intent(in), optional :: dtype, num_threads
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    call make(self, BN2D_NORM_GROUP, groups, channels, eps, affine=affine, bias=bias, dtype=dtype, &
      num_threads=num_threads, stat=stat, errmsg=errmsg)
  end subroutine

  !> New instance norm: the statistics of each channel of each sample. Without affine and
  !> track_running_stats it has neither.
  subroutine create_instance_norm(self, features, eps, momentum, cumulative, affine, bias, track_running_stats, &
      biased_running_var, protect_running_stats, dtype, num_threads, stat, errmsg)
    class(batch_norm), intent(inout) :: self
    integer, intent(in) :: features
    real(c_double), intent(in), optional :: eps, momentum
    logical, intent(in), optional :: cumulative, affine, bias, track_running_stats
    logical, intent(in), optional :: biased_running_var, protect_running_stats
    integer(c_int32_t), intent(in), optional :: dtype, num_threads
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    call make(self, BN2D_NORM_INSTANCE, 0, features, eps, momentum, cumulative, affine, bias, &
      track_running_stats, biased_running_var, protect_running_stats, dtype, num_threads, stat, errmsg)
  end subroutine

  subroutine make(self, norm, groups, features, eps, momentum, cumulative, affine, bias, track_running_stats, &
      biased_running_var, protect_running_stats, dtype, num_threads, stat, errmsg, ghost_batch_size)
    class(batch_norm), intent(inout) :: self
    integer(c_int32_t), intent(in) :: norm
    integer, intent(in) :: groups, features
    real(c_double), intent(in), optional :: eps, momentum
    logical, intent(in), optional :: cumulative, affine, bias, track_running_stats
    logical, intent(in), optional :: biased_running_var, protect_running_stats
    integer(c_int32_t), intent(in), optional :: dtype, num_threads
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    integer, intent(in), optional :: ghost_batch_size
    type(c_ptr) :: options
    integer(c_int32_t) :: status
    integer(c_int64_t) :: count
    character(len=:), allocatable :: message
    call self%release()
    options = c_null_ptr
    status = BN2D_OK
    if (present(momentum) .and. present(cumulative)) then
      if (cumulative) then
        status = BN2D_ERROR_INVALID_ARGUMENT
        message = 'momentum and cumulative exclude each other'
      end if
    end if
    call set(bn2d_options_create(options))
    if (present(eps)) call set(bn2d_options_set_eps(options, eps))
    if (present(momentum)) call set(bn2d_options_set_momentum(options, momentum))
    if (present(cumulative)) then
      if (cumulative) call set(bn2d_options_set_momentum_none(options))
    end if
    if (present(affine)) call set(bn2d_options_set_affine(options, truth(affine)))
    if (present(bias)) call set(bn2d_options_set_bias(options, truth(bias)))
    if (present(track_running_stats)) &
      call set(bn2d_options_set_track_running_stats(options, truth(track_running_stats)))
    if (present(biased_running_var)) &
      call set(bn2d_options_set_biased_running_var(options, truth(biased_running_var)))
    if (present(protect_running_stats)) &
      call set(bn2d_options_set_protect_running_stats(options, truth(protect_running_stats)))
    if (present(dtype)) call set(bn2d_options_set_dtype(options, dtype))
    if (present(num_threads)) call set(bn2d_options_set_num_threads(options, num_threads))
    if (present(ghost_batch_size)) &
      call set(bn2d_options_set_ghost_batch_size(options, int(ghost_batch_size, c_int64_t)))
    if (status == BN2D_OK) then
      count = int(features, c_int64_t)
      select case (norm)
      case (BN2D_NORM_GROUP)
        call set(bn2d_group_norm_create(int(groups, c_int64_t), count, options, self%handle))
      case (BN2D_NORM_INSTANCE)
        call set(bn2d_instance_norm_create(count, options, self%handle))
      case default
        call set(bn2d_module_create(count, options, self%handle))
      end select
      self%owner = address(self%handle)
    end if
    call bn2d_options_release(options)
    call report(status, stat, errmsg, message)
  contains
    ! The first failure counts.
    subroutine set(one)
      integer(c_int32_t), intent(in) :: one
      if (status /= BN2D_OK .or. one == BN2D_OK) return
      status = one
      message = c_text(bn2d_last_error())
    end subroutine
  end subroutine

  !> Where a handle lies; not where it points.
  pure function address(handle) result(place)
    type(c_ptr), intent(in), target :: handle
    integer(c_intptr_t) :: place
    place = transfer(c_loc(handle), place)
  end function

  pure function truth(value) result(number)
    logical, intent(in) :: value
    integer(c_int32_t) :: number
    number = merge(1_c_int32_t, 0_c_int32_t, value)
  end function

  !> Gives the reference back; a variable that leaves its scope does so by itself.
  subroutine module_release(self)
    class(batch_norm), intent(inout) :: self
    if (self%owner == address(self%handle)) call bn2d_module_release(self%handle)
    self%handle = c_null_ptr
    self%owner = 0
  end subroutine

  impure elemental subroutine module_final(self)
    type(batch_norm), intent(inout) :: self
    call self%release()
  end subroutine

  impure elemental subroutine module_assign(self, other)
    type(batch_norm), intent(inout) :: self
    type(batch_norm), intent(in) :: other
    type(c_ptr) :: handle
    integer(c_int32_t) :: status
    handle = other%handle
    status = BN2D_ERROR_INVALID_HANDLE
    if (c_associated(handle)) status = bn2d_module_retain(handle)
    call self%release()
    self%handle = handle
    if (status == BN2D_OK) self%owner = address(self%handle)
  end subroutine

  !> Allocates self where its size differs, as an assignment of the language would.
  subroutine module_assign_list(self, other)
    type(batch_norm), allocatable, intent(inout) :: self(:)
    type(batch_norm), intent(in) :: other(:)
    type(batch_norm), allocatable :: list(:)
    integer :: i
    allocate (list(size(other)))
    do i = 1, size(other)
      call module_assign(list(i), other(i))
    end do
    if (allocated(self)) then
      if (size(self) == size(list)) then
        call module_assign(self, list)
        return
      end if
      deallocate (self)
    end if
    call move_alloc(list, self) ! the elements stay where they are
  end subroutine

  !> As of a module.
  subroutine record_release(self)
    class(batch_norm_record), intent(inout) :: self
    if (self%owner == address(self%handle)) call bn2d_record_release(self%handle)
    self%handle = c_null_ptr
    self%owner = 0
  end subroutine

  impure elemental subroutine record_final(self)
    type(batch_norm_record), intent(inout) :: self
    call self%release()
  end subroutine

  impure elemental subroutine record_assign(self, other)
    type(batch_norm_record), intent(inout) :: self
    type(batch_norm_record), intent(in) :: other
    type(c_ptr) :: handle
    integer(c_int32_t) :: status
    handle = other%handle
    status = BN2D_ERROR_INVALID_HANDLE
    if (c_associated(handle)) status = bn2d_record_retain(handle)
    call self%release()
    self%handle = handle
    if (status == BN2D_OK) self%owner = address(self%handle)
    self%layout = other%layout
    self%extents = other%extents
  end subroutine

  !> Allocates self where its size differs, as an assignment of the language would.
  subroutine record_assign_list(self, other)
    type(batch_norm_record), allocatable, intent(inout) :: self(:)
    type(batch_norm_record), intent(in) :: other(:)
    type(batch_norm_record), allocatable :: list(:)
    integer :: i
    allocate (list(size(other)))
    do i = 1, size(other)
      call record_assign(list(i), other(i))
    end do
    if (allocated(self)) then
      if (size(self) == size(list)) then
        call record_assign(self, list)
        return
      end if
      deallocate (self)
    end if
    call move_alloc(list, self) ! the elements stay where they are
  end subroutine

  subroutine train(self, training, stat, errmsg)
    class(batch_norm), intent(inout) :: self
    logical, intent(in), optional :: training
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    integer(c_int32_t) :: mode
    mode = 1
    if (present(training)) mode = truth(training)
    call report_of(self, bn2d_module_train(self%handle, mode), stat, errmsg)
  end subroutine

  subroutine eval(self, stat, errmsg)
    class(batch_norm), intent(inout) :: self
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    call report_of(self, bn2d_module_eval(self%handle), stat, errmsg)
  end subroutine

  !> .false. where there is no module, too.
  function is_training(self) result(training)
    class(batch_norm), intent(in) :: self
    logical :: training
    integer(c_int32_t) :: mode, status
    mode = 0
    status = bn2d_module_is_training(self%handle, mode)
    training = status == BN2D_OK .and. mode /= 0
  end function

  !> 0 where there is no module.
  function num_features(self) result(features)
    class(batch_norm), intent(in) :: self
    integer(c_int64_t) :: features
    features = 0
    if (bn2d_module_num_features(self%handle, features) /= BN2D_OK) features = 0
  end function

  subroutine zero_grad(self, stat, errmsg)
    class(batch_norm), intent(inout) :: self
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    call report_of(self, bn2d_module_zero_grad(self%handle), stat, errmsg)
  end subroutine

  subroutine reset_running_stats(self, stat, errmsg)
    class(batch_norm), intent(inout) :: self
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    call report_of(self, bn2d_module_reset_running_stats(self%handle), stat, errmsg)
  end subroutine

  subroutine set_num_threads(self, threads, stat, errmsg)
    class(batch_norm), intent(inout) :: self
    integer, intent(in) :: threads
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    call report_of(self, bn2d_module_set_num_threads(self%handle, int(threads, c_int32_t)), stat, &
      errmsg)
  end subroutine

  !> Limits the threads that one call uses, for the whole process; 0: all of oneTBB's.
  subroutine bn2d_limit_threads(threads, stat, errmsg)
    integer, intent(in) :: threads
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    call report(bn2d_set_num_threads(int(threads, c_int32_t)), stat, errmsg)
  end subroutine

  !> The module for functions of bn2d_raw; the reference stays ours.
  function raw(self) result(handle)
    class(batch_norm), intent(in) :: self
    type(c_ptr) :: handle
    handle = self%handle
  end function

  !> The record for functions of bn2d_raw; the reference stays ours.
  function record_raw(self) result(handle)
    class(batch_norm_record), intent(in) :: self
    type(c_ptr) :: handle
    handle = self%handle
  end function

  !> As PyTorch prints it.
  function text(self) result(words)
    class(batch_norm), intent(in) :: self
    character(len=:), allocatable :: words
    character(kind=c_char), target :: buffer(512)
    words = ''
    if (bn2d_module_repr(self%handle, c_loc(buffer), 512_c_int64_t, c_null_ptr) == BN2D_OK) words = c_text(c_loc(buffer))
  end function

  ! ------------------------------------------------------------------------------------------- forward and backward

  !> Notes that an array is not contiguous, where no fault has been noted.
  subroutine note_gaps(fault, name, array)
    character(len=:), allocatable, intent(inout) :: fault
    character(len=*), intent(in) :: name
    type(span), intent(in) :: array
    if (fault /= '' .or. array%contiguous) return
    fault = name // ' is not contiguous, must be'
  end subroutine

  !> The same of an array that has not the extents of another one.
  subroutine note_misfit(fault, name, array, other, extents)
    character(len=:), allocatable, intent(inout) :: fault
    character(len=*), intent(in) :: name, other
    type(span), intent(in) :: array
    integer(c_int64_t), intent(in) :: extents(4)
    character(len=100) :: own, wanted ! of four numbers of up to 20 digits
    if (fault /= '' .or. .not. array%there .or. all(array%extents == extents)) return
    write (own, '(a, 3(i0, a), i0, a)') '(', array%extents(1), ', ', array%extents(2), ', ', &
      array%extents(3), ', ', array%extents(4), ')'
    write (wanted, '(a, 3(i0, a), i0, a)') '(', extents(1), ', ', extents(2), ', ', extents(3), &
      ', ', extents(4), ')'
    fault = name // ' has the extents ' // trim(own) // ', ' // other // ' has ' // trim(wanted)
  end subroutine

  !> Refuses a dtype that is no half: C would take the elements of 2 bytes for larger ones.
  function is_half(dtype, stat, errmsg) result(right)
    integer(c_int32_t), intent(in) :: dtype
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    logical :: right
    right = dtype == BN2D_F16 .or. dtype == BN2D_BF16
    if (.not. right) call report(BN2D_ERROR_DTYPE, stat, errmsg, 'dtype is ' // c_text(bn2d_dtype_name(dtype)) // &
      ', of c_int16_t it must be float16 or bfloat16')
  end function

  subroutine run_forward(self, dtype, x, y, z, record, activation, slope, layout, stat, errmsg)
    class(batch_norm), intent(in) :: self
    integer(c_int32_t), intent(in) :: dtype
    type(span), intent(in) :: x, y, z
    type(batch_norm_record), intent(inout), optional :: record
    integer(c_int32_t), intent(in), optional :: activation, layout
    real(c_double), intent(in), optional :: slope
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    type(c_ptr), target :: handle
    type(c_ptr) :: out
    integer(c_int32_t) :: act, order, status
    integer(c_int64_t) :: features, c, h, w
    real(c_double) :: bound
    logical :: training
    character(len=160) :: message
    character(len=:), allocatable :: gaps, misfit

    act = BN2D_ACT_NONE
    order = BN2D_NCHW
    bound = 0.01_c_double ! PyTorch's slope of leaky_relu; the others ignore it
    if (present(activation)) act = activation
    if (present(layout)) order = layout
    if (present(slope)) bound = slope
    c = x%extents(merge(1, 3, order == BN2D_NHWC))
    w = x%extents(merge(2, 1, order == BN2D_NHWC))
    h = x%extents(merge(3, 2, order == BN2D_NHWC))
    features = self%num_features()
    training = self%is_training()

    gaps = ''
    call note_gaps(gaps, 'x', x)
    call note_gaps(gaps, 'y', y)
    call note_gaps(gaps, 'z', z)
    misfit = ''
    call note_misfit(misfit, 'y', y, 'x', x%extents)
    call note_misfit(misfit, 'z', z, 'x', x%extents)

    if (.not. c_associated(self%handle)) then
      call report_of(self, BN2D_ERROR_INVALID_HANDLE, stat, errmsg)
    else if (.not. x%there) then
      call report(BN2D_ERROR_INVALID_ARGUMENT, stat, errmsg, 'x is a pointer without a target')
    else if (.not. y%there) then
      call report(BN2D_ERROR_INVALID_ARGUMENT, stat, errmsg, 'y is a pointer without a target')
    else if (gaps /= '') then
      call report(BN2D_ERROR_LAYOUT, stat, errmsg, gaps)
    else if (features > 0 .and. c /= features) then
      write (message, '(a, i0, a, i0)') 'x has ', c, ' channels, the module has num_features ', features
      call report(BN2D_ERROR_SHAPE, stat, errmsg, trim(message))
    else if (misfit /= '') then
      call report(BN2D_ERROR_SHAPE, stat, errmsg, misfit)
    else if (act == BN2D_ACT_CLAMP .and. .not. present(slope)) then
      call report(BN2D_ERROR_INVALID_ARGUMENT, stat, errmsg, 'clamp needs slope, its upper bound')
    else if (training .and. .not. present(record)) then
      call report(BN2D_ERROR_STATE, stat, errmsg, 'infer needs eval mode, the module is in training mode')
    else
      handle = c_null_ptr
      out = c_null_ptr
      if (present(record)) out = c_loc(handle)
      status = bn2d_forward_flat(self%handle, dtype, order, x%address, z%address, x%extents(4), h, w, act, bound, &
        y%address, out)
      if (present(record) .and. status == BN2D_OK) then
        call record%release()
        record%handle = handle
        record%owner = address(record%handle)
        record%layout = order
        record%extents = x%extents
      end if
      call report(status, stat, errmsg)
    end if
  end subroutine

  subroutine run_backward(self, record, dtype, dy, dx, dz, stat, errmsg)
    class(batch_norm), intent(in) :: self
    type(batch_norm_record), intent(in) :: record
    integer(c_int32_t), intent(in) :: dtype
    type(span), intent(in) :: dy, dx, dz
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    character(len=:), allocatable :: gaps, misfit
    gaps = ''
    call note_gaps(gaps, 'dy', dy)
    call note_gaps(gaps, 'dx', dx)
    call note_gaps(gaps, 'dz', dz)
    misfit = ''
    call note_misfit(misfit, 'dy', dy, 'the recorded x', record%extents)
    call note_misfit(misfit, 'dx', dx, 'the recorded x', record%extents)
    call note_misfit(misfit, 'dz', dz, 'the recorded x', record%extents)

    if (.not. c_associated(self%handle)) then
      call report_of(self, BN2D_ERROR_INVALID_HANDLE, stat, errmsg)
    else if (.not. c_associated(record%handle)) then
      call report(BN2D_ERROR_INVALID_HANDLE, stat, errmsg, &
        'the record has been released, or was never made by a forward')
    else if (.not. dy%there) then
      call report(BN2D_ERROR_INVALID_ARGUMENT, stat, errmsg, 'dy is a pointer without a target')
    else if (.not. dx%there) then
      call report(BN2D_ERROR_INVALID_ARGUMENT, stat, errmsg, 'dx is a pointer without a target')
    else if (gaps /= '') then
      call report(BN2D_ERROR_LAYOUT, stat, errmsg, gaps)
    else if (misfit /= '') then
      call report(BN2D_ERROR_SHAPE, stat, errmsg, misfit)
    else
      call report(bn2d_backward_flat(self%handle, record%handle, dtype, record%layout, dy%address, dx%address, &
        dz%address), stat, errmsg)
    end if
  end subroutine

  ! ----------------------------------------------------------------- the same for three kinds of elements

  subroutine forward_f32(self, x, y, record, z, activation, slope, layout, stat, errmsg)
    class(batch_norm), intent(inout) :: self
    real(c_float), intent(in), pointer :: x(:, :, :, :), y(:, :, :, :)
    type(batch_norm_record), intent(inout) :: record
    real(c_float), intent(in), pointer, optional :: z(:, :, :, :)
    integer(c_int32_t), intent(in), optional :: activation, layout
    real(c_double), intent(in), optional :: slope
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    type(span) :: residual
    if (present(z)) residual = span_f32(z)
    call run_forward(self, BN2D_F32, span_f32(x), span_f32(y), residual, record=record, &
      activation=activation, slope=slope, layout=layout, stat=stat, errmsg=errmsg)
  end subroutine

  subroutine infer_f32(self, x, y, z, activation, slope, layout, stat, errmsg)
    class(batch_norm), intent(in) :: self
    real(c_float), intent(in), target :: x(:, :, :, :)
    real(c_float), intent(inout), target :: y(:, :, :, :)
    real(c_float), intent(in), target, optional :: z(:, :, :, :)
    integer(c_int32_t), intent(in), optional :: activation, layout
    real(c_double), intent(in), optional :: slope
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    call run_forward(self, BN2D_F32, span_f32(x), span_f32(y), span_f32(z), &
      activation=activation, slope=slope, layout=layout, stat=stat, errmsg=errmsg)
  end subroutine

  subroutine backward_f32(self, record, dy, dx, dz, stat, errmsg)
    class(batch_norm), intent(inout) :: self
    type(batch_norm_record), intent(in) :: record
    real(c_float), intent(in), target :: dy(:, :, :, :)
    real(c_float), intent(inout), target :: dx(:, :, :, :)
    real(c_float), intent(inout), target, optional :: dz(:, :, :, :)
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    call run_backward(self, record, BN2D_F32, span_f32(dy), span_f32(dx), span_f32(dz), stat, errmsg)
  end subroutine

  function span_f32(array) result(res)
    real(c_float), intent(in), target, optional :: array(:, :, :, :)
    type(span) :: res
    if (.not. present(array)) return
    res%there = .true.
    res%contiguous = is_contiguous(array)
    res%extents = shape(array, c_int64_t)
    if (size(array) > 0) res%address = c_loc(array(1, 1, 1, 1))
  end function

  subroutine forward_f64(self, x, y, record, z, activation, slope, layout, stat, errmsg)
    class(batch_norm), intent(inout) :: self
    real(c_double), intent(in), pointer :: x(:, :, :, :), y(:, :, :, :)
    type(batch_norm_record), intent(inout) :: record
    real(c_double), intent(in), pointer, optional :: z(:, :, :, :)
    integer(c_int32_t), intent(in), optional :: activation, layout
    real(c_double), intent(in), optional :: slope
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    type(span) :: residual
    if (present(z)) residual = span_f64(z)
    call run_forward(self, BN2D_F64, span_f64(x), span_f64(y), residual, record=record, &
      activation=activation, slope=slope, layout=layout, stat=stat, errmsg=errmsg)
  end subroutine

  subroutine infer_f64(self, x, y, z, activation, slope, layout, stat, errmsg)
    class(batch_norm), intent(in) :: self
    real(c_double), intent(in), target :: x(:, :, :, :)
    real(c_double), intent(inout), target :: y(:, :, :, :)
    real(c_double), intent(in), target, optional :: z(:, :, :, :)
    integer(c_int32_t), intent(in), optional :: activation, layout
    real(c_double), intent(in), optional :: slope
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    call run_forward(self, BN2D_F64, span_f64(x), span_f64(y), span_f64(z), &
      activation=activation, slope=slope, layout=layout, stat=stat, errmsg=errmsg)
  end subroutine

  subroutine backward_f64(self, record, dy, dx, dz, stat, errmsg)
    class(batch_norm), intent(inout) :: self
    type(batch_norm_record), intent(in) :: record
    real(c_double), intent(in), target :: dy(:, :, :, :)
    real(c_double), intent(inout), target :: dx(:, :, :, :)
    real(c_double), intent(inout), target, optional :: dz(:, :, :, :)
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    call run_backward(self, record, BN2D_F64, span_f64(dy), span_f64(dx), span_f64(dz), stat, errmsg)
  end subroutine

  function span_f64(array) result(res)
    real(c_double), intent(in), target, optional :: array(:, :, :, :)
    type(span) :: res
    if (.not. present(array)) return
    res%there = .true.
    res%contiguous = is_contiguous(array)
    res%extents = shape(array, c_int64_t)
    if (size(array) > 0) res%address = c_loc(array(1, 1, 1, 1))
  end function

  subroutine forward_bits(self, x, y, record, dtype, z, activation, slope, layout, stat, errmsg)
    class(batch_norm), intent(inout) :: self
    integer(c_int16_t), intent(in), pointer :: x(:, :, :, :), y(:, :, :, :)
    type(batch_norm_record), intent(inout) :: record
    integer(c_int32_t), intent(in) :: dtype
    integer(c_int16_t), intent(in), pointer, optional :: z(:, :, :, :)
    integer(c_int32_t), intent(in), optional :: activation, layout
    real(c_double), intent(in), optional :: slope
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    type(span) :: residual
    if (.not. is_half(dtype, stat, errmsg)) return
    if (present(z)) residual = span_bits(z)
    call run_forward(self, dtype, span_bits(x), span_bits(y), residual, record=record, &
      activation=activation, slope=slope, layout=layout, stat=stat, errmsg=errmsg)
  end subroutine

  subroutine infer_bits(self, x, y, dtype, z, activation, slope, layout, stat, errmsg)
    class(batch_norm), intent(in) :: self
    integer(c_int16_t), intent(in), target :: x(:, :, :, :)
    integer(c_int16_t), intent(inout), target :: y(:, :, :, :)
    integer(c_int32_t), intent(in) :: dtype
    integer(c_int16_t), intent(in), target, optional :: z(:, :, :, :)
    integer(c_int32_t), intent(in), optional :: activation, layout
    real(c_double), intent(in), optional :: slope
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    if (.not. is_half(dtype, stat, errmsg)) return
    call run_forward(self, dtype, span_bits(x), span_bits(y), span_bits(z), &
      activation=activation, slope=slope, layout=layout, stat=stat, errmsg=errmsg)
  end subroutine

  subroutine backward_bits(self, record, dy, dx, dtype, dz, stat, errmsg)
    class(batch_norm), intent(inout) :: self
    type(batch_norm_record), intent(in) :: record
    integer(c_int16_t), intent(in), target :: dy(:, :, :, :)
    integer(c_int16_t), intent(inout), target :: dx(:, :, :, :)
    integer(c_int32_t), intent(in) :: dtype
    integer(c_int16_t), intent(inout), target, optional :: dz(:, :, :, :)
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    if (.not. is_half(dtype, stat, errmsg)) return
    call run_backward(self, record, dtype, span_bits(dy), span_bits(dx), span_bits(dz), stat, errmsg)
  end subroutine

  function span_bits(array) result(res)
    integer(c_int16_t), intent(in), target, optional :: array(:, :, :, :)
    type(span) :: res
    if (.not. present(array)) return
    res%there = .true.
    res%contiguous = is_contiguous(array)
    res%extents = shape(array, c_int64_t)
    if (size(array) > 0) res%address = c_loc(array(1, 1, 1, 1))
  end function

  ! --------------------------------------------------------------------------------------------------------- tensors

  !> dtypes: one of them it must be.
  subroutine find_tensor(self, name, dtypes, data, length, stat, errmsg)
    class(batch_norm), intent(in) :: self
    character(len=*), intent(in) :: name
    integer(c_int32_t), intent(in) :: dtypes(:)
    type(c_ptr), intent(out) :: data
    integer(c_int64_t), intent(out) :: length
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    type(c_ptr) :: tensor
    integer(c_int32_t) :: status, found
    data = c_null_ptr
    length = 0
    tensor = c_null_ptr
    if (index(name, c_null_char) > 0) then
      call report(BN2D_ERROR_NOT_FOUND, stat, errmsg, 'a NUL is in the name of a tensor')
      return
    end if
    status = bn2d_module_tensor_by_name(self%handle, trim(name) // c_null_char, tensor)
    if (status == BN2D_OK) status = bn2d_tensor_dtype(tensor, found)
    if (status == BN2D_OK .and. all(found /= dtypes)) then
      call report(BN2D_ERROR_DTYPE, stat, errmsg, trim(name) // ' is ' // c_text(bn2d_dtype_name(found)) // &
        ', not ' // c_text(bn2d_dtype_name(dtypes(1))))
    else
      if (status == BN2D_OK) status = bn2d_tensor_nbytes(tensor, length)
      if (status == BN2D_OK) status = bn2d_tensor_data(tensor, data)
      if (status == BN2D_OK) length = length / bn2d_dtype_size(found)
      call report_of(self, status, stat, errmsg)
    end if
    call bn2d_tensor_release(tensor) ! the module holds it
  end subroutine

  subroutine tensor_f32(self, name, values, stat, errmsg)
    class(batch_norm), intent(in) :: self
    character(len=*), intent(in) :: name
    real(c_float), pointer, intent(out) :: values(:)
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    type(c_ptr) :: data
    integer(c_int64_t) :: length
    nullify (values)
    call find_tensor(self, name, [BN2D_F32], data, length, stat, errmsg)
    if (c_associated(data)) call c_f_pointer(data, values, [length])
  end subroutine

  subroutine tensor_f64(self, name, values, stat, errmsg)
    class(batch_norm), intent(in) :: self
    character(len=*), intent(in) :: name
    real(c_double), pointer, intent(out) :: values(:)
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    type(c_ptr) :: data
    integer(c_int64_t) :: length
    nullify (values)
    call find_tensor(self, name, [BN2D_F64], data, length, stat, errmsg)
    if (c_associated(data)) call c_f_pointer(data, values, [length])
  end subroutine

  subroutine tensor_bits(self, name, values, stat, errmsg)
    class(batch_norm), intent(in) :: self
    character(len=*), intent(in) :: name
    integer(c_int16_t), pointer, intent(out) :: values(:)
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    type(c_ptr) :: data
    integer(c_int64_t) :: length
    nullify (values)
    call find_tensor(self, name, [BN2D_F16, BN2D_BF16], data, length, stat, errmsg)
    if (c_associated(data)) call c_f_pointer(data, values, [length])
  end subroutine

  subroutine tensor_i64(self, name, values, stat, errmsg)
    class(batch_norm), intent(in) :: self
    character(len=*), intent(in) :: name
    integer(c_int64_t), pointer, intent(out) :: values(:)
    integer, intent(out), optional :: stat
    character(len=*), intent(inout), optional :: errmsg
    type(c_ptr) :: data
    integer(c_int64_t) :: length
    nullify (values)
    call find_tensor(self, name, [BN2D_I64], data, length, stat, errmsg)
    if (c_associated(data)) call c_f_pointer(data, values, [length])
  end subroutine

end module bn2d
