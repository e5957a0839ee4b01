! The values of vectors.txt (vectors.cc tells how they are made) through capi/fortran, errors, and handles given back.
module nets
  use bn2d
  implicit none
  type :: net
    type(batch_norm), allocatable :: bns(:)
    type(batch_norm) :: last
  end type
end module

program vectors
  use, intrinsic :: iso_c_binding
  use bn2d
  use bn2d_raw, only: bn2d_module_set_momentum, bn2d_record_batch_statistics, &
    bn2d_view, bn2d_forward, BN2D_CPU
  use nets
  implicit none
  integer, parameter :: channels = 64, number = 8 * channels * 32 * 32
  real(c_double), allocatable :: y8(:), dx8(:), dz8(:), later8(:), gw8(:), gb8(:), mean8(:), var8(:)
  real(c_double), allocatable :: x0(:), dy0(:)

  call f32()
  call f64()
  call bf16()
  call errors()
  call backward_errors()
  call half_errors()
  call views()
  call dead()
  call ownership()
  call copies()
  call activations()
  call norms()
  call half_parameters()
  print '(a)', 'vectors.f90: all held'

contains

  subroutine require(condition, what)
    logical, intent(in) :: condition
    character(len=*), intent(in) :: what
    if (.not. condition) error stop 'failed: ' // what
  end subroutine

  ! x and dy in the order of memory.
  subroutine inputs(channels_last)
    logical, intent(in) :: channels_last
    integer(c_int64_t) :: s
    integer :: i, c
    x0 = [(0d0, i = 1, number)]
    dy0 = x0
    s = 1
    do i = 0, number - 1
      c = merge(mod(i, channels), mod(i / 1024, channels), channels_last)
      s = mod(s * 16807, 2147483647_c_int64_t)
      x0(i + 1) = (mod(s, 128_c_int64_t) + 2 * c - 128) / 64d0
    end do
    do i = 1, number
      s = mod(s * 16807, 2147483647_c_int64_t)
      dy0(i) = (mod(s, 256_c_int64_t) - 128) / 64d0
    end do
  end subroutine

  real(c_double) function weight(c)
    integer, intent(in) :: c
    weight = (mod(c, 16) + 8) / 16d0
  end function

  real(c_double) function bias(c)
    integer, intent(in) :: c
    bias = (mod(c, 8) - 4) / 4d0
  end function

  ! The value of a line in one of the arrays.
  real(c_double) function found(array, index)
    real(c_double), intent(in) :: array(:)
    character(len=*), intent(in) :: index
    integer :: i
    found = 0
    if (index == 'sum') then
      do i = 0, size(array) - 1
        found = found + array(i + 1) * (mod(i, 11) - 5)
      end do
    else
      read (index, *) i
      found = array(i + 1)
    end if
  end function

  ! Compares with every line of a case.
  subroutine compare(scenario, expected)
    character(len=*), intent(in) :: scenario
    integer, intent(in) :: expected
    character(len=512) :: path
    character(len=200) :: line
    character(len=20) :: name, array, index
    real(c_double) :: value, tolerance, got
    integer :: unit, status, seen
    call get_environment_variable('BN2D_VECTORS', path)
    open (newunit=unit, file=trim(path), status='old', action='read')
    seen = 0
    do
      read (unit, '(a)', iostat=status) line
      if (status /= 0) exit
      if (line(1:len(scenario) + 1) /= scenario // ' ') cycle
      read (line, *) name, array, index, value, tolerance
      select case (array)
      case ('y'); got = found(y8, index)
      case ('dx'); got = found(dx8, index)
      case ('dz'); got = found(dz8, index)
      case ('eval.y'); got = found(later8, index)
      case ('weight.grad'); got = found(gw8, index)
      case ('bias.grad'); got = found(gb8, index)
      case ('running_mean'); got = found(mean8, index)
      case ('running_var'); got = found(var8, index)
      case default; error stop 'no such array'
      end select
      call require(abs(got - value) <= tolerance, line)
      seen = seen + 1
    end do
    close (unit)
    call require(seen == expected, scenario // ': number of lines')
  end subroutine

  subroutine f32()
    type(batch_norm) :: bn
    type(batch_norm_record) :: record
    real(c_float), allocatable, target, dimension(:, :, :, :) :: x, y, dy, dx, later
    real(c_float), pointer :: values(:)
    integer(c_int64_t), pointer :: batches(:)
    integer :: c
    call inputs(.false.)
    x = reshape(real(x0, c_float), [32, 32, channels, 8])
    dy = reshape(real(dy0, c_float), shape(x))
    allocate (y, dx, later, mold=x)
    call bn%create(channels)
    call bn%tensor('weight', values)
    values = [(real(weight(c), c_float), c = 0, channels - 1)]
    call bn%tensor('bias', values)
    values = [(real(bias(c), c_float), c = 0, channels - 1)]
    call bn%forward(x, y, record)
    call bn%backward(record, dy, dx)
    call bn%eval()
    call bn%infer(x, later)
    y8 = reshape(real(y, c_double), [number])
    dx8 = reshape(real(dx, c_double), [number])
    later8 = reshape(real(later, c_double), [number])
    call bn%tensor('weight.grad', values)
    gw8 = values
    call bn%tensor('bias.grad', values)
    gb8 = values
    call bn%tensor('running_mean', values)
    mean8 = values
    call bn%tensor('running_var', values)
    var8 = values
    call compare('f32', 58)
    call bn%tensor('num_batches_tracked', batches)
    call require(size(batches) == 1 .and. batches(1) == 1, 'num_batches_tracked')
  end subroutine

  subroutine f64()
    type(batch_norm) :: bn
    type(batch_norm_record) :: record
    real(c_double), allocatable, target, dimension(:, :, :, :) :: x, y, dy, dx, later
    real(c_double), pointer :: values(:)
    integer :: c
    call inputs(.false.)
    x = reshape(x0, [32, 32, channels, 8])
    dy = reshape(dy0, shape(x))
    allocate (y, dx, later, mold=x)
    call bn%create(channels, dtype=BN2D_F64)
    call bn%tensor('weight', values)
    values = [(weight(c), c = 0, channels - 1)]
    call bn%tensor('bias', values)
    values = [(bias(c), c = 0, channels - 1)]
    call bn%forward(x, y, record)
    call bn%backward(record, dy, dx)
    call bn%eval()
    call bn%infer(x, later)
    y8 = reshape(y, [number])
    dx8 = reshape(dx, [number])
    later8 = reshape(later, [number])
    call bn%tensor('weight.grad', values)
    gw8 = values
    call bn%tensor('bias.grad', values)
    gb8 = values
    call bn%tensor('running_mean', values)
    mean8 = values
    call bn%tensor('running_var', values)
    var8 = values
    call compare('f64', 58)
  end subroutine

  ! bfloat16 is the upper half of a float.
  elemental integer(c_int16_t) function bits(v)
    real(c_double), intent(in) :: v
    integer(c_int32_t) :: upper
    upper = ishft(transfer(real(v, c_float), 0_c_int32_t), -16)
    bits = int(merge(upper - 65536, upper, upper > 32767), c_int16_t)
  end function

  elemental real(c_double) function value_of(half)
    integer(c_int16_t), intent(in) :: half
    value_of = transfer(ishft(int(half, c_int32_t), 16), 0._c_float)
  end function

  subroutine bf16()
    type(batch_norm) :: bn
    type(batch_norm_record) :: record
    integer(c_int16_t), allocatable, target, dimension(:, :, :, :) :: x, y, dy, dx, dz
    real(c_float), pointer :: values(:)
    integer :: c
    call inputs(.true.)
    x = reshape(bits(x0), [channels, 32, 32, 8])
    dy = reshape(bits(dy0), shape(x))
    allocate (y, dx, dz, mold=x)
    call bn%create(channels)
    call bn%tensor('weight', values)
    values = [(real(weight(c), c_float), c = 0, channels - 1)]
    call bn%tensor('bias', values)
    values = [(real(bias(c), c_float), c = 0, channels - 1)]
    call bn%forward(x, y, record, BN2D_BF16, z=dy, activation=BN2D_ACT_RELU, layout=BN2D_NHWC)
    call bn%backward(record, dy, dx, BN2D_BF16, dz)
    y8 = reshape(value_of(y), [number])
    dx8 = reshape(value_of(dx), [number])
    dz8 = reshape(value_of(dz), [number])
    call bn%tensor('running_mean', values)
    mean8 = values
    call compare('bf16', 37)
  end subroutine

  subroutine errors()
    type(batch_norm) :: bn
    type(batch_norm_record) :: record
    real(c_float), target :: x(1, 1, 3, 1), y(1, 1, 3, 1), wide(2, 2, 3, 1), other(2, 2, 3, 2), two(2, 2, 2, 1)
    real(c_float), target :: twin(2, 2, 3, 2)
    real(c_float), pointer :: values(:), nothing(:, :, :, :)
    integer :: stat
    character(len=256) :: message
    nullify (nothing)
    x = 1
    y = 7
    wide = 1
    other = 1
    two = 1
    message = ''
    call bn%create(3)
    call bn%forward(x, y, record, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_TOO_FEW_VALUES, 'status')
    call require(message == 'batch statistics need more than 1 value per channel, got shape (1, 3, 1, 1)', message)
    call require(all(y == 7), 'y is as it was')
    call bn%forward(two, two, record, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_SHAPE .and. message == 'x has 2 channels, the module has num_features 3', message)
    call bn%forward(wide, other, record, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_SHAPE .and. message == &
      'y has the extents (2, 2, 3, 2), x has (2, 2, 3, 1)', message)
    call bn%forward(other, twin, record, z=wide, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_SHAPE .and. message == &
      'z has the extents (2, 2, 3, 1), x has (2, 2, 3, 2)', message)
    call bn%forward(other(1:1, :, :, :), other(1:1, :, :, :), record, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_LAYOUT .and. message == &
      'x is not contiguous, must be', message)
    call bn%forward(other, twin(2:1:-1, :, :, :), record, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_LAYOUT .and. message == &
      'y is not contiguous, must be', message)
    call bn%infer(x, y, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_STATE, message)
    call bn%tensor('gamma', values, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_NOT_FOUND .and. .not. associated(values), message)
    call bn%tensor('weight' // c_null_char // 'zz', values, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_NOT_FOUND .and. index(message, 'NUL') > 0, message)
    nullify (values)
    call bn%forward(wide, nothing, record, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_INVALID_ARGUMENT .and. message == &
      'y is a pointer without a target', message)
    call require(BN2D_ERROR_OVERLAP == -8 .and. BN2D_ERROR_FORMAT == -17, 'all statuses are there')
    call bn%create(3, momentum=1.5d0, eps=-2d0, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_INVALID_ARGUMENT .and. index(message, 'eps is -2') == 1, message)
    call bn%create(3, momentum=0.2d0, cumulative=.true., stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_INVALID_ARGUMENT .and. message == 'momentum and cumulative exclude each other', message)
    call bn%create_instance_norm(3, momentum=0.2d0, cumulative=.true., stat=stat)
    call require(stat == BN2D_ERROR_INVALID_ARGUMENT, 'of an instance norm, too')
    call bn%create(3, momentum=0.2d0, cumulative=.false.)
    call require(index(bn%text(), 'momentum=0.2') > 0, bn%text())
    call bn%create(3, momentum=1.5d0, stat=stat)
    call bn%eval(stat=stat, errmsg=message) ! there is no module any more
    call require(stat == BN2D_ERROR_INVALID_HANDLE, message)
    call bn%create(3, stat=stat)
    call require(stat == 0, 'a good call')
    call bn%release()
    call bn%release()
  end subroutine

  ! Which array of a backward does not fit, and how.
  subroutine backward_errors()
    type(batch_norm) :: bn
    type(batch_norm_record) :: record
    real(c_float), target, dimension(2, 2, 3, 2) :: x, y, dx
    real(c_float), target :: less(2, 2, 3, 1)
    integer :: stat
    character(len=256) :: message
    x = 1
    call bn%create(3)
    call bn%forward(x, y, record)
    call bn%backward(record, less, dx, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_SHAPE .and. message == &
      'dy has the extents (2, 2, 3, 1), the recorded x has (2, 2, 3, 2)', message)
    call bn%backward(record, y, dx, less, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_SHAPE .and. message == &
      'dz has the extents (2, 2, 3, 1), the recorded x has (2, 2, 3, 2)', message)
    call bn%backward(record, y, dx(2:1:-1, :, :, :), stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_LAYOUT .and. message == &
      'dx is not contiguous, must be', message)
  end subroutine

  ! Catches elements of 2 bytes taken for those of 4: the rest of y would be written beyond its end.
  subroutine half_errors()
    type(batch_norm) :: bn
    type(batch_norm_record) :: record, recorded
    integer(c_int16_t), target, dimension(2, 2, 3, 4) :: x, y
    real(c_float), target, dimension(2, 2, 3, 2) :: x4, y4
    integer(c_int32_t), parameter :: dtypes(4) = [BN2D_F32, BN2D_F64, BN2D_I64, 99]
    integer(c_int32_t) :: on_batch
    integer :: stat, i
    character(len=256) :: message
    x = 0
    y = 7
    x4 = 1
    call bn%create(3)
    call bn%forward(x4, y4, recorded)
    call require(bn2d_record_batch_statistics(recorded%raw(), on_batch) == BN2D_OK .and. on_batch == 1, 'raw record')
    do i = 1, size(dtypes)
      call bn%train()
      call bn%forward(x(:, :, :, :2), y(:, :, :, :2), record, dtypes(i), stat=stat, errmsg=message)
      call refused(stat, message, y)
      call bn%backward(recorded, x(:, :, :, :2), y(:, :, :, :2), dtypes(i), stat=stat, errmsg=message)
      call refused(stat, message, y)
      call bn%eval()
      call bn%infer(x(:, :, :, :2), y(:, :, :, :2), dtypes(i), stat=stat, errmsg=message)
      call refused(stat, message, y)
    end do
    call bn%backward(recorded, x(:, :, :, :2), y(:, :, :, :2), BN2D_F16, stat=stat)
    call require(stat == BN2D_ERROR_DTYPE .and. all(y == 7), 'the record is of float32')
    call bn%infer(x(:, :, :, :2), y(:, :, :, :2), BN2D_F32, stat=stat, errmsg=message)
    call require(message == 'dtype is float32, of c_int16_t it must be float16 or bfloat16', message)
  end subroutine

  subroutine refused(stat, message, y)
    integer, intent(in) :: stat
    character(len=*), intent(in) :: message
    integer(c_int16_t), intent(in) :: y(:, :, :, :)
    call require(stat == BN2D_ERROR_DTYPE .and. index(message, 'dtype is ') == 1, message)
    call require(all(y == 7), 'y is as it was')
  end subroutine

  ! A strided view, as README.md says. Catches a field of another size or place.
  subroutine views()
    type(batch_norm) :: bn
    type(bn2d_view), target :: from, to
    real(c_float), target :: x(6), y(6)
    integer(c_int64_t), target :: extents(4), strides(4)
    x = [1, 2, 3, 4, 5, 6]
    y = 7
    extents = [1, 1, 1, 3]
    strides = [6, 6, 6, 2]
    call bn%create(1, eps=0d0)
    call bn%eval()
    from = bn2d_view(c_loc(x), BN2D_CPU, 0, 4, 2_c_int8_t, 32_c_int8_t, 1_c_int16_t, c_loc(extents), c_loc(strides), 0)
    to = from
    to%data = c_loc(y)
    call require(bn2d_forward(bn%raw(), c_loc(from), c_loc(to), c_null_ptr) == BN2D_OK, 'a strided view')
    call require(all(y == [1, 7, 3, 7, 5, 7]), 'every second element')
  end subroutine

  ! What has been released, or was never made, is told of as such by every procedure; the library
  ! would tell of a NULL.
  subroutine dead()
    type(batch_norm) :: bn, living
    type(batch_norm_record) :: record
    real(c_float), target, dimension(2, 2, 3, 2) :: x, y, dx
    real(c_float), pointer :: values(:)
    integer :: stat, turn
    character(len=256) :: message
    x = 1
    call living%create(3)
    do turn = 1, 2 ! never created, and released
      call bn%train(stat=stat, errmsg=message)
      call gone('module', stat, message)
      call bn%eval(stat=stat, errmsg=message)
      call gone('module', stat, message)
      call bn%zero_grad(stat=stat, errmsg=message)
      call gone('module', stat, message)
      call bn%reset_running_stats(stat=stat, errmsg=message)
      call gone('module', stat, message)
      call bn%set_num_threads(1, stat=stat, errmsg=message)
      call gone('module', stat, message)
      call bn%tensor('weight', values, stat=stat, errmsg=message)
      call gone('module', stat, message)
      call bn%infer(x, y, stat=stat, errmsg=message)
      call gone('module', stat, message)
      call bn%forward(x, y, record, stat=stat, errmsg=message)
      call gone('module', stat, message)
      call living%backward(record, x, dx, stat=stat, errmsg=message)
      call gone('record', stat, message)
      call living%forward(x, y, record)
      call bn%backward(record, x, dx, stat=stat, errmsg=message)
      call gone('module', stat, message)
      call record%release()
      call bn%create(3)
      call bn%release()
    end do
  end subroutine

  subroutine gone(what, stat, message)
    character(len=*), intent(in) :: what, message
    integer, intent(in) :: stat
    call require(stat == BN2D_ERROR_INVALID_HANDLE .and. &
      index(message, 'the ' // what // ' has been released, or was never ') == 1, message)
  end subroutine

  ! A record outlives its module; a copy is one more reference; many leave nothing behind.
  subroutine ownership()
    integer :: before, i
    do i = 1, 1000
      call once()
    end do
    before = resident()
    do i = 1, 5000
      call once()
    end do
    call require(resident() < before + 10000, 'memory grows')
  end subroutine

  subroutine once()
    type(batch_norm) :: bn, same
    type(batch_norm_record) :: record, copy
    real(c_float), target :: x(2, 2, 256, 2), y(2, 2, 256, 2)
    x = 1
    call bn%create(256)
    call bn%forward(x, y, record)
    same = bn
    copy = record
    call bn%release()
    call record%release()
    call same%backward(copy, y, y)
    call same%eval()
  end subroutine

  ! Arrays, lists that grow, and types that have modules as components: each variable counts, and
  ! once.
  subroutine copies()
    type(batch_norm) :: a(2), b(2), keep
    type(batch_norm), allocatable :: list(:), same(:), table(:, :)
    type(batch_norm_record) :: records(2), others(2)
    real(c_float), target :: x(2, 2, 3, 2), y(2, 2, 3, 2), dx(2, 2, 3, 2)
    integer :: i, before
    x = 1
    do i = 1, 2
      call a(i)%create(3)
      call a(i)%forward(x, y, records(i))
    end do
    b = a
    others = records
    do i = 1, 2
      call a(i)%release()
      call records(i)%release()
    end do
    do i = 1, 2
      call b(i)%backward(others(i), y, dx)
    end do
    allocate (table(2, 1))
    table(:, 1) = b
    call b(1)%release()
    call table(1, 1)%eval()

    allocate (list(1))
    call list(1)%create(3)
    do i = 1, 10
      list = [list, list(1)]
    end do
    call require(size(list) == 11, 'a list grows')
    same = list
    call require(size(same) == 11, 'a list is allocated')
    list = list(2:3)
    call list(1)%release()
    call list(2)%eval()
    deallocate (list)
    call same(11)%eval()

    call keep%create(3)
    call component_copies(keep)
    call keep%eval() ! the copies have given back what was theirs, and no more

    do i = 1, 20
      call lists()
    end do
    before = resident()
    do i = 1, 60
      call lists()
    end do
    call require(resident() < before + 10000, 'copies leave something behind')
  end subroutine

  subroutine component_copies(keep)
    type(batch_norm), intent(in) :: keep
    type(net) :: first, second
    allocate (first%bns(2))
    first%bns(1) = keep
    first%bns(2) = keep
    first%last = keep
    second = first ! a copy of the bits: usable as long as the first
    call second%bns(1)%eval()
    call second%last%eval()
  end subroutine

  subroutine lists()
    type(batch_norm), allocatable :: list(:)
    type(batch_norm) :: array(2), other(2)
    allocate (list(1))
    call list(1)%create(50000)
    list = [list, list(1)]
    array = list
    other = array
  end subroutine

  ! Each activation by its name, of v = x: eval mode on running statistics of 0 and 1.
  subroutine activations()
    integer(c_int32_t), parameter :: numbers(9) = [BN2D_ACT_NONE, BN2D_ACT_RELU, BN2D_ACT_LEAKY_RELU, &
      BN2D_ACT_RELU6, BN2D_ACT_CLAMP, BN2D_ACT_HARDSWISH, BN2D_ACT_SILU, BN2D_ACT_GELU, BN2D_ACT_SIGMOID]
    real(c_double), target :: x(2, 2, 1, 1), y(2, 2, 1, 1)
    real(c_double) :: v(4), expected(4, 9)
    type(batch_norm) :: bn
    integer :: i, stat
    character(len=256) :: message
    v = [-4d0, -1d0, 0.5d0, 8d0]
    expected(:, 1) = v
    expected(:, 2) = max(v, 0d0)
    expected(:, 3) = merge(v, 2 * v, v > 0)
    expected(:, 4) = min(max(v, 0d0), 6d0)
    expected(:, 5) = min(max(v, 0d0), 2d0)
    expected(:, 6) = v * min(max(v + 3, 0d0), 6d0) / 6
    expected(:, 7) = v / (1 + exp(-v))
    expected(:, 8) = v * (1 + erf(v / sqrt(2d0))) / 2
    expected(:, 9) = 1 / (1 + exp(-v))
    x = reshape(v, shape(x))
    call bn%create(1, eps=0d0, dtype=BN2D_F64)
    call bn%eval()
    do i = 1, 9
      call bn%infer(x, y, activation=numbers(i), slope=2d0)
      call require(maxval(abs(reshape(y, [4]) - expected(:, i))) < 1d-14, 'an activation')
    end do
    call bn%infer(x, y, activation=BN2D_ACT_LEAKY_RELU)
    call require(all(reshape(y, [4]) == merge(v, 0.01d0 * v, v > 0)), 'leaky_relu without a slope')
    call bn%infer(x, y, activation=BN2D_ACT_CLAMP, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_INVALID_ARGUMENT .and. message == 'clamp needs slope, its upper bound', message)
  end subroutine

  ! Group, instance and ghost batch norm, told apart by y.
  subroutine norms()
    type(batch_norm) :: group, instance, ghost
    integer(c_int64_t), pointer :: batches(:)
    real(c_float), pointer :: values(:)
    integer :: stat
    character(len=256) :: message
    call group%create_group_norm(1, 2)
    call gives(group, [2, 1, 2, 1], [0., 0., 2., 2.], [-1., -1., 1., 1.])
    call require(index(group%text(), 'GroupNorm(1, 2') == 1, group%text())
    call group%tensor('weight', values)
    call require(size(values) == 2, 'a group norm is affine')
    call instance%create_instance_norm(1)
    call gives(instance, [2, 1, 1, 2], [0., 2., 10., 12.], [-1., 1., -1., 1.])
    call instance%tensor('weight', values, stat=stat)
    call require(stat == BN2D_ERROR_NOT_FOUND, 'an instance norm is not')
    call instance%create_instance_norm(1, affine=.true., track_running_stats=.true.)
    call instance%tensor('running_mean', values)
    call ghost%create(1, ghost_batch_size=1)
    call gives(ghost, [2, 1, 1, 2], [0., 2., 10., 12.], [-1., 1., -1., 1.])
    call ghost%tensor('num_batches_tracked', batches)
    call require(batches(1) == 2, 'a step of the counter for each ghost batch')
    call require(bn2d_module_set_momentum(ghost%raw(), 0.25d0) == BN2D_OK, 'a raw function')
    call require(index(ghost%text(), 'momentum=0.25') > 0, ghost%text())
    call group%create_group_norm(2, 3, stat=stat, errmsg=message)
    call require(stat == BN2D_ERROR_INVALID_ARGUMENT, message)
  end subroutine

  subroutine gives(norm, extents, values, expected)
    type(batch_norm), intent(inout) :: norm
    integer, intent(in) :: extents(4)
    real, intent(in) :: values(4), expected(4)
    type(batch_norm_record) :: record
    real(c_float), allocatable, target, dimension(:, :, :, :) :: x, y, dx
    allocate (x(extents(1), extents(2), extents(3), extents(4)))
    allocate (y, dx, mold=x)
    x(:, :, :, :) = reshape(real(values, c_float), extents)
    call norm%forward(x, y, record)
    call norm%backward(record, y, dx)
    call require(maxval(abs(reshape(real(y), [4]) - expected)) < 1e-4, norm%text())
  end subroutine

  subroutine half_parameters()
    type(batch_norm) :: bn
    integer(c_int16_t), pointer :: values(:)
    call bn%create(3, dtype=BN2D_BF16)
    call bn%tensor('weight', values)
    call require(size(values) == 3 .and. all(values == bits(1d0)), 'bits of 1')
    call bn%create(3, dtype=BN2D_F16)
    call bn%tensor('weight', values)
    call require(all(values == int(z'3c00', c_int16_t)), 'bits of 1')
  end subroutine

  integer function resident()
    character(len=100) :: line
    integer :: unit, status
    resident = 0
    open (newunit=unit, file='/proc/self/status', status='old', action='read')
    do
      read (unit, '(a)', iostat=status) line
      if (status /= 0) exit
      if (line(1:6) == 'VmRSS:') read (line(7:index(line, 'kB') - 1), *) resident
    end do
    close (unit)
  end function
end program
