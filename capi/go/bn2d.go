// SPDX-License-Identifier: MIT

// Package bn2d is batch normalisation over (N, C, H, W) on the CPU: torch.nn.BatchNorm2d on slices. README.md tells
// how to use it.
package bn2d

/*
#cgo pkg-config: bn2d
#include <bn2d/bn2d.h>
#include <stdlib.h>
*/
import "C"

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"unsafe"
)

// Status is what went wrong; it is an error itself, for errors.Is.
type Status int32

const (
	InvalidArgument Status = C.BN2D_ERROR_INVALID_ARGUMENT
	InvalidHandle   Status = C.BN2D_ERROR_INVALID_HANDLE
	NotFound        Status = C.BN2D_ERROR_NOT_FOUND
	Shape           Status = C.BN2D_ERROR_SHAPE
	DTypeMismatch   Status = C.BN2D_ERROR_DTYPE
	Overlap         Status = C.BN2D_ERROR_OVERLAP
	Overflow        Status = C.BN2D_ERROR_OVERFLOW
	TooFewValues    Status = C.BN2D_ERROR_TOO_FEW_VALUES
	State           Status = C.BN2D_ERROR_STATE
	Busy            Status = C.BN2D_ERROR_BUSY
	OutOfMemory     Status = C.BN2D_ERROR_OUT_OF_MEMORY
	Internal        Status = C.BN2D_ERROR_INTERNAL
	IO              Status = C.BN2D_ERROR_IO
	Format          Status = C.BN2D_ERROR_FORMAT
)

func (s Status) Error() string { return C.GoString(C.bn2d_status_name(C.int32_t(s))) }

// Error is a call that failed. Nothing has changed then.
type Error struct {
	Status  Status
	Message string
}

func (e *Error) Error() string { return e.Status.Error() + ": " + e.Message }

// Unwrap makes errors.Is(err, bn2d.Shape) work.
func (e *Error) Unwrap() error { return e.Status }

func failure(status Status, format string, values ...any) error {
	return &Error{status, fmt.Sprintf(format, values...)}
}

// do makes a call and fetches its message from the same thread: the text belongs to the thread, not to the goroutine.
func do(call func() C.int32_t) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if status := call(); status != C.BN2D_OK {
		return &Error{Status(status), C.GoString(C.bn2d_last_error())}
	}
	return nil
}

// F16 and BF16 are the bits of a half; those of a bfloat16 are the upper half of a float32.
type (
	F16  uint16
	BF16 uint16
)

// Data is an element type of tensors.
type Data interface{ float32 | float64 | F16 | BF16 }

// Number is an element type of parameters and buffers; num_batches_tracked is one int64.
type Number interface{ Data | int64 }

func dtypeOf[T Number]() C.int32_t {
	var zero T
	switch any(zero).(type) {
	case float32:
		return C.BN2D_F32
	case float64:
		return C.BN2D_F64
	case F16:
		return C.BN2D_F16
	case BF16:
		return C.BN2D_BF16
	}
	return C.BN2D_I64
}

// Layout of tensors.
type Layout int32

const (
	NCHW Layout = C.BN2D_NCHW // the default
	NHWC Layout = C.BN2D_NHWC // channels_last
)

func (l Layout) number() C.int32_t {
	if l == 0 {
		l = NCHW
	}
	return C.int32_t(l)
}

// Activation of the fused forms. From ReLU6 on they are pointwise.
type Activation int32

const (
	Identity  Activation = C.BN2D_ACT_NONE
	ReLU      Activation = C.BN2D_ACT_RELU
	LeakyReLU Activation = C.BN2D_ACT_LEAKY_RELU // Slope: that of the negative side, 0.01 by default
	ReLU6     Activation = C.BN2D_ACT_RELU6
	Clamp     Activation = C.BN2D_ACT_CLAMP // to [0, Slope]: the upper bound, above 0
	Hardswish Activation = C.BN2D_ACT_HARDSWISH
	SiLU      Activation = C.BN2D_ACT_SILU
	GELU      Activation = C.BN2D_ACT_GELU // by erf, not the form with tanh
	Sigmoid   Activation = C.BN2D_ACT_SIGMOID
)

// Fused asks for y = activation(bn(x) + z); the zero value for y = bn(x), NCHW.
type Fused[T Data] struct {
	Z          []T // nil: no residual
	Activation Activation
	Slope      float64 // of LeakyReLU, 0: 0.01 (of slope 0 it is ReLU); the upper bound of Clamp, required
	Layout     Layout
}

// slope is what the library takes; those without one ignore it.
func (f Fused[T]) slope() C.double {
	if f.Activation == LeakyReLU && f.Slope == 0 {
		return 0.01 // PyTorch's
	}
	return C.double(f.Slope)
}

// Option of New, NewGroupNorm and NewInstanceNorm. A norm refuses what has no meaning for it.
type Option struct{ name, value string }

func number(name string, v float64) Option { return Option{name, strconv.FormatFloat(v, 'g', -1, 64)} }

func Eps(v float64) Option      { return number("eps", v) }
func Momentum(v float64) Option { return number("momentum", v) }
func CumulativeAverage() Option { return Option{"momentum", "None"} }
func Affine(on bool) Option     { return Option{"affine", strconv.FormatBool(on)} }
func Bias(on bool) Option       { return Option{"bias", strconv.FormatBool(on)} }
func TrackRunningStats(on bool) Option {
	return Option{"track_running_stats", strconv.FormatBool(on)}
}
func BiasedRunningVar(on bool) Option { return Option{"biased_running_var", strconv.FormatBool(on)} }
func ProtectRunningStats(on bool) Option {
	return Option{"protect_running_stats", strconv.FormatBool(on)}
}

// GhostBatchSize of a batch norm: in training, every so many samples are normalised on their own.
func GhostBatchSize(samples int) Option {
	return Option{"ghost_batch_size", strconv.Itoa(samples)}
}
func NumThreads(n int) Option { return Option{"num_threads", strconv.Itoa(n)} }

// DType of parameters and buffers.
func DType[T Data]() Option {
	return Option{"dtype", C.GoString(C.bn2d_dtype_name(dtypeOf[T]()))}
}

// Module is a norm; new ones are in training mode. Infer may run on any number of goroutines at
// once (a batch norm without running statistics: one at a time); what changes the module needs it
// alone. Else the error is Busy.
type Module struct {
	handle   *C.bn2d_module
	features int
}

// New makes a batch norm: the statistics of a channel of the whole batch, or of ghost batches.
func New(features int, options ...Option) (*Module, error) {
	return create(features, options, func(o *C.bn2d_options, out **C.bn2d_module) C.int32_t {
		return C.bn2d_module_create(C.int64_t(features), o, out)
	})
}

// NewGroupNorm makes a group norm: the statistics of channels/groups channels of a sample. 1 group
// is a layer norm over (C, H, W). There are no running statistics, nor options for them; Infer
// needs eval mode all the same.
func NewGroupNorm(groups, channels int, options ...Option) (*Module, error) {
	return create(channels, options, func(o *C.bn2d_options, out **C.bn2d_module) C.int32_t {
		return C.bn2d_group_norm_create(C.int64_t(groups), C.int64_t(channels), o, out)
	})
}

// NewInstanceNorm makes an instance norm: the statistics of each channel of each sample. Without
// Affine(true) and TrackRunningStats(true) it has neither.
func NewInstanceNorm(features int, options ...Option) (*Module, error) {
	return create(features, options, func(o *C.bn2d_options, out **C.bn2d_module) C.int32_t {
		return C.bn2d_instance_norm_create(C.int64_t(features), o, out)
	})
}

// text is a copy in C's memory, to be freed. C's texts end at a NUL: one within would cut the name.
func text(what, s string) (*C.char, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return nil, failure(NotFound, "a NUL is in the name of %s", what)
	}
	return C.CString(s), nil
}

func create(features int, options []Option, made func(*C.bn2d_options, **C.bn2d_module) C.int32_t) (*Module, error) {
	var settings *C.bn2d_options
	if err := do(func() C.int32_t { return C.bn2d_options_create(&settings) }); err != nil {
		return nil, err
	}
	defer C.bn2d_options_release(settings)
	for _, option := range options {
		name, value := C.CString(option.name), C.CString(option.value) // ours: without a NUL
		err := do(func() C.int32_t { return C.bn2d_options_set_by_name(settings, name, value) })
		C.free(unsafe.Pointer(name))
		C.free(unsafe.Pointer(value))
		if err != nil {
			return nil, err
		}
	}
	m := &Module{features: features}
	if err := do(func() C.int32_t { return made(settings, &m.handle) }); err != nil {
		return nil, err
	}
	runtime.SetFinalizer(m, (*Module).Close)
	return m, nil
}

// Close gives the module back; without it, the garbage collector does. A second time does nothing.
// Of nil it is an error, as every function is.
func (m *Module) Close() error {
	if m == nil {
		return m.open()
	}
	C.bn2d_module_release(m.handle)
	m.handle = nil
	runtime.SetFinalizer(m, nil)
	return nil
}

// open is an error of nil and after Close; C would see a NULL like any other.
func (m *Module) open() error {
	if m == nil {
		return failure(InvalidArgument, "module is nil")
	}
	if m.handle == nil {
		return failure(InvalidHandle, "the module has been closed")
	}
	return nil
}

// do with the module, which stays alive during the call.
func (m *Module) do(call func(*C.bn2d_module) C.int32_t) error {
	defer runtime.KeepAlive(m)
	if err := m.open(); err != nil {
		return err
	}
	return do(func() C.int32_t { return call(m.handle) })
}

// String is what PyTorch prints.
func (m *Module) String() string {
	if m == nil {
		return "bn2d.Module (nil)"
	}
	if m.handle == nil {
		return "bn2d.Module (closed)"
	}
	buffer := make([]byte, 512)
	words := (*C.char)(unsafe.Pointer(&buffer[0]))
	if err := m.do(func(h *C.bn2d_module) C.int32_t { return C.bn2d_module_repr(h, words, 512, nil) }); err != nil {
		return err.Error()
	}
	return C.GoString(words)
}

// Pointer is the bn2d_module for C's functions, nil of nil and after Close. It stays the module's:
// say runtime.KeepAlive(m) after the call.
func (m *Module) Pointer() unsafe.Pointer {
	if m == nil {
		return nil
	}
	return unsafe.Pointer(m.handle)
}

// NumFeatures is the number of channels, 0 of nil.
func (m *Module) NumFeatures() int {
	if m == nil {
		return 0
	}
	return m.features
}

// Train sets training mode, or eval mode.
func (m *Module) Train(training bool) error {
	var mode C.int32_t
	if training {
		mode = 1
	}
	return m.do(func(h *C.bn2d_module) C.int32_t { return C.bn2d_module_train(h, mode) })
}

// Eval sets eval mode.
func (m *Module) Eval() error { return m.Train(false) }

// IsTraining is false in eval mode, of nil and after Close.
func (m *Module) IsTraining() bool {
	var training C.int32_t
	err := m.do(func(h *C.bn2d_module) C.int32_t { return C.bn2d_module_is_training(h, &training) })
	return err == nil && training != 0
}

func (m *Module) ZeroGrad() error {
	return m.do(func(h *C.bn2d_module) C.int32_t { return C.bn2d_module_zero_grad(h) })
}

func (m *Module) ResetRunningStats() error {
	return m.do(func(h *C.bn2d_module) C.int32_t { return C.bn2d_module_reset_running_stats(h) })
}

// SetNumThreads limits the threads of this module's calls; 0: the process's limit alone.
func (m *Module) SetNumThreads(n int32) error {
	return m.do(func(h *C.bn2d_module) C.int32_t { return C.bn2d_module_set_num_threads(h, C.int32_t(n)) })
}

// Version of the library, like "1.3.0".
func Version() string { return C.GoString(C.bn2d_version_string()) }

// SetNumThreads limits the threads that one call uses, for the whole process; 0: all of oneTBB's.
func SetNumThreads(n int32) error {
	return do(func() C.int32_t { return C.bn2d_set_num_threads(C.int32_t(n)) })
}

// Record is what a forward leaves for its backward. It borrows x, y and z: do not change them until
// the last backward.
type Record struct {
	handle *C.bn2d_record
	memory held
	layout C.int32_t
	length int
}

// Pointer is the bn2d_record for C's functions, as that of a Module.
func (r *Record) Pointer() unsafe.Pointer {
	if r == nil {
		return nil
	}
	return unsafe.Pointer(r.handle)
}

// Close gives the record back and lets go of x, y and z; without it, the garbage collector does. A
// second time does nothing. Of nil it is an error.
func (r *Record) Close() error {
	if r == nil {
		return failure(InvalidArgument, "record is nil")
	}
	C.bn2d_record_release(r.handle)
	r.handle = nil
	r.memory.release()
	runtime.SetFinalizer(r, nil)
	return nil
}

func fit[T Data](name string, values []T, length int) error {
	if len(values) != length {
		return failure(Shape, "%s has %d elements, must have %d", name, len(values), length)
	}
	return nil
}

func start[T Number](values []T) unsafe.Pointer {
	if len(values) == 0 {
		return nil
	}
	return unsafe.Pointer(&values[0])
}

// length of a tensor (n, features, h, w).
func (m *Module) length(n, h, w int) (int, error) {
	product := m.features
	for _, extent := range []int{n, h, w} {
		if extent < 0 {
			return 0, failure(Shape, "(%d, %d, %d, %d) has a negative extent", n, m.features, h, w)
		}
		if extent > 0 && product > math.MaxInt/extent {
			return 0, failure(Overflow, "(%d, %d, %d, %d) is too large", n, m.features, h, w)
		}
		product *= extent
	}
	return product, nil
}

func check[T Data](m *Module, x []T, n, h, w int, y []T, fused Fused[T]) error {
	if err := m.open(); err != nil {
		return err
	}
	length, err := m.length(n, h, w)
	if err != nil {
		return err
	}
	if err := fit("x", x, length); err != nil {
		return err
	}
	if err := fit("y", y, length); err != nil {
		return err
	}
	if fused.Z != nil {
		return fit("z", fused.Z, length)
	}
	return nil
}

// Forward is y = bn(x) for (n, features, h, w), NCHW, recorded for Backward.
func Forward[T Data](m *Module, x []T, n, h, w int, y []T) (*Record, error) {
	return ForwardFused(m, x, n, h, w, y, Fused[T]{})
}

// ForwardFused is y = activation(bn(x) + z), recorded.
func ForwardFused[T Data](m *Module, x []T, n, h, w int, y []T, fused Fused[T]) (*Record, error) {
	if err := check(m, x, n, h, w, y, fused); err != nil {
		return nil, err
	}
	r := &Record{layout: fused.Layout.number(), length: len(x)}
	bytes := uintptr(len(x)) * unsafe.Sizeof(*new(T))
	xs, zs := r.memory.input(start(x), bytes), r.memory.input(start(fused.Z), bytes)
	ys := r.memory.output(start(y), bytes)
	err := m.do(func(handle *C.bn2d_module) C.int32_t {
		return C.bn2d_forward_flat(handle, dtypeOf[T](), r.layout, xs, zs, C.int64_t(n), C.int64_t(h), C.int64_t(w),
			C.int32_t(fused.Activation), fused.slope(), ys, &r.handle)
	})
	if err != nil {
		r.memory.release()
		return nil, err
	}
	r.memory.finish()
	runtime.SetFinalizer(r, (*Record).Close)
	return r, nil
}

// Infer is y = bn(x) in eval mode, for which it asks first: a goroutine that calls Train(true) in
// between makes it train.
func Infer[T Data](m *Module, x []T, n, h, w int, y []T) error {
	return InferFused(m, x, n, h, w, y, Fused[T]{})
}

// InferFused is y = activation(bn(x) + z) in eval mode, as Infer.
func InferFused[T Data](m *Module, x []T, n, h, w int, y []T, fused Fused[T]) error {
	if err := check(m, x, n, h, w, y, fused); err != nil {
		return err
	}
	if m.IsTraining() {
		return failure(State, "Infer needs eval mode, the module is in training mode")
	}
	xs, ys, zs := start(x), start(y), start(fused.Z)
	return m.do(func(handle *C.bn2d_module) C.int32_t {
		return C.bn2d_forward_flat(handle, dtypeOf[T](), fused.Layout.number(), xs, zs, C.int64_t(n), C.int64_t(h),
			C.int64_t(w), C.int32_t(fused.Activation), fused.slope(), ys, nil)
	})
}

// Backward is dx from dy, in the layout of the forward; adds to weight.grad and bias.grad.
func Backward[T Data](m *Module, r *Record, dy, dx []T) error {
	return BackwardFused(m, r, dy, dx, nil)
}

// BackwardFused is dx and dz, each where it is not nil.
func BackwardFused[T Data](m *Module, r *Record, dy, dx, dz []T) error {
	if r == nil {
		return failure(InvalidArgument, "record is nil")
	}
	defer runtime.KeepAlive(r)
	if err := m.open(); err != nil {
		return err
	}
	if r.handle == nil {
		return failure(InvalidHandle, "the record has been closed")
	}
	if err := fit("dy", dy, r.length); err != nil {
		return err
	}
	if err := fit("dx", dx, r.length); dx != nil && err != nil {
		return err
	}
	if err := fit("dz", dz, r.length); dz != nil && err != nil {
		return err
	}
	dys, dxs, dzs := start(dy), start(dx), start(dz)
	return m.do(func(handle *C.bn2d_module) C.int32_t {
		return C.bn2d_backward_flat(handle, r.handle, dtypeOf[T](), r.layout, dys, dxs, dzs)
	})
}

// with finds a tensor and hands it on with its number of elements.
func with[T Number](m *Module, name string, use func(*C.bn2d_tensor, int) error) error {
	wanted, err := text("a tensor", name)
	if err != nil {
		return err
	}
	defer C.free(unsafe.Pointer(wanted))
	var tensor *C.bn2d_tensor
	err = m.do(func(h *C.bn2d_module) C.int32_t { return C.bn2d_module_tensor_by_name(h, wanted, &tensor) })
	if err != nil {
		return err
	}
	defer C.bn2d_tensor_release(tensor)
	var dtype C.int32_t
	var bytes C.uint64_t
	C.bn2d_tensor_dtype(tensor, &dtype)
	C.bn2d_tensor_nbytes(tensor, &bytes)
	if dtype != dtypeOf[T]() {
		return failure(DTypeMismatch, "%s is %s, not %s", name, C.GoString(C.bn2d_dtype_name(dtype)),
			C.GoString(C.bn2d_dtype_name(dtypeOf[T]())))
	}
	return use(tensor, int(uintptr(bytes)/unsafe.Sizeof(*new(T))))
}

// Get copies the elements of a parameter, buffer or gradient: "weight", "bias", "running_mean", "running_var",
// "num_batches_tracked", "weight.grad", "bias.grad".
func Get[T Number](m *Module, name string) (values []T, err error) {
	err = with[T](m, name, func(tensor *C.bn2d_tensor, length int) error {
		values = make([]T, length)
		return do(func() C.int32_t {
			return C.bn2d_tensor_copy_to_flat(tensor, dtypeOf[T](), start(values), C.int64_t(length))
		})
	})
	return
}

// Set copies elements in.
func Set[T Number](m *Module, name string, values []T) error {
	return with[T](m, name, func(tensor *C.bn2d_tensor, length int) error {
		if len(values) != length {
			return failure(Shape, "the slice has %d elements, %s has %d", len(values), name, length)
		}
		return do(func() C.int32_t {
			return C.bn2d_tensor_copy_from_flat(tensor, dtypeOf[T](), start(values), C.int64_t(len(values)))
		})
	})
}
