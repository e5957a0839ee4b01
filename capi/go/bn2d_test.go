// SPDX-License-Identifier: MIT

package bn2d

// The values of tests/languages/vectors.txt (vectors.cc tells how they are made), errors, and handles given back.

import (
	"errors"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const channels, size = 64, 8 * 64 * 32 * 32

// inputs are x and dy in the order of memory.
func inputs[T any](channelsLast bool, from func(float64) T) (x, dy []T) {
	s := int64(1)
	next := func() int64 { s = s * 16807 % 2147483647; return s }
	for i := 0; i < size; i++ {
		c := i / 1024 % channels
		if channelsLast {
			c = i % channels
		}
		x = append(x, from(float64(next()%128+2*int64(c)-128)/64))
	}
	for i := 0; i < size; i++ {
		dy = append(dy, from(float64(next()%256-128)/64))
	}
	return
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func affine[T Data](t *testing.T, m *Module, from func(float64) T) {
	var weight, bias []T
	for c := 0; c < channels; c++ {
		weight, bias = append(weight, from(float64(c%16+8)/16)), append(bias, from(float64(c%8-4)/4))
	}
	must(t, Set(m, "weight", weight))
	must(t, Set(m, "bias", bias))
}

// compare with every line of a case.
func compare(t *testing.T, scenario string, arrays map[string][]float64, expected int) {
	path := os.Getenv("BN2D_VECTORS")
	if path == "" {
		path = "../../tests/languages/vectors.txt"
	}
	text, err := os.ReadFile(path)
	must(t, err)
	seen := 0
	for _, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(line)
		if len(words) != 5 || words[0] != scenario {
			continue
		}
		array, got := arrays[words[1]], 0.0
		if words[2] == "sum" {
			for i, v := range array {
				got += v * float64(i%11-5)
			}
		} else {
			i, err := strconv.Atoi(words[2])
			must(t, err)
			got = array[i]
		}
		value, _ := strconv.ParseFloat(words[3], 64)
		tolerance, _ := strconv.ParseFloat(words[4], 64)
		if !(math.Abs(got-value) <= tolerance) {
			t.Errorf("%s: got %v", line, got)
		}
		seen++
	}
	if seen != expected {
		t.Errorf("%s: %d lines", scenario, seen)
	}
}

func wide[T any](values []T, to func(T) float64) (result []float64) {
	for _, v := range values {
		result = append(result, to(v))
	}
	return
}

func step[T Data](t *testing.T, scenario string, from func(float64) T, to func(T) float64) {
	x, dy := inputs(false, from)
	y, dx, later := make([]T, size), make([]T, size), make([]T, size)
	m, err := New(channels, DType[T]())
	must(t, err)
	affine(t, m, from)
	record, err := Forward(m, x, 8, 32, 32, y)
	must(t, err)
	must(t, Backward(m, record, dy, dx))
	must(t, m.Eval())
	must(t, Infer(m, x, 8, 32, 32, later))
	arrays := map[string][]float64{"y": wide(y, to), "dx": wide(dx, to), "eval.y": wide(later, to)}
	for _, name := range []string{"weight.grad", "bias.grad", "running_mean", "running_var"} {
		values, err := Get[T](m, name)
		must(t, err)
		arrays[name] = wide(values, to)
	}
	compare(t, scenario, arrays, 58)
	batches, err := Get[int64](m, "num_batches_tracked")
	must(t, err)
	if len(batches) != 1 || batches[0] != 1 {
		t.Error("num_batches_tracked", batches)
	}
}

func single(v float32) float64 { return float64(v) }
func TestFloat32(t *testing.T) {
	step(t, "f32", func(v float64) float32 { return float32(v) }, single)
}
func TestFloat64(t *testing.T) {
	same := func(v float64) float64 { return v }
	step(t, "f64", same, same)
}

func TestBFloat16ChannelsLastReluAndResidual(t *testing.T) {
	bits := func(v float64) BF16 { return BF16(math.Float32bits(float32(v)) >> 16) }
	value := func(v BF16) float64 { return float64(math.Float32frombits(uint32(v) << 16)) }
	x, dy := inputs(true, bits)
	y, dx, dz := make([]BF16, size), make([]BF16, size), make([]BF16, size)
	m, err := New(channels)
	must(t, err)
	affine(t, m, func(v float64) float32 { return float32(v) })
	record, err := ForwardFused(m, x, 8, 32, 32, y, Fused[BF16]{Z: dy, Activation: ReLU, Layout: NHWC})
	must(t, err)
	must(t, BackwardFused(m, record, dy, dx, dz))
	mean, err := Get[float32](m, "running_mean")
	must(t, err)
	arrays := map[string][]float64{"y": wide(y, value), "dx": wide(dx, value), "dz": wide(dz, value)}
	arrays["running_mean"] = wide(mean, single)
	compare(t, "bf16", arrays, 37)
}

func fails(t *testing.T, err error, status Status, message string) {
	t.Helper()
	if !errors.Is(err, status) || !strings.Contains(err.Error(), message) {
		t.Errorf("%v, expected %v: %s", err, status, message)
	}
}

func TestErrors(t *testing.T) {
	m, err := New(3)
	must(t, err)
	x, y, six := make([]float32, 3), []float32{7, 7, 7}, make([]float32, 6)
	_, err = Forward(m, x, 1, 1, 1, y)
	fails(t, err, TooFewValues, "batch statistics need more than 1 value per channel, got shape (1, 3, 1, 1)")
	if y[0] != 7 {
		t.Error("y has changed")
	}
	_, err = Forward(m, x, 1, 1, 2, six)
	fails(t, err, Shape, "x has 3 elements, must have 6")
	_, err = Forward(m, x, -1, 1, 1, y)
	fails(t, err, Shape, "negative")
	_, err = Forward(m, x, math.MaxInt, 2, 2, y)
	fails(t, err, Overflow, "too large")
	_, err = Forward(m, make([]float64, 6), 1, 1, 2, make([]float64, 6))
	fails(t, err, DTypeMismatch, "float64")
	fails(t, Infer(m, x, 1, 1, 1, y), State, "eval mode")
	_, err = Get[float32](m, "gamma")
	fails(t, err, NotFound, "gamma")
	_, err = Get[float64](m, "weight")
	fails(t, err, DTypeMismatch, "weight is float32, not float64")
	_, err = Get[float32](m, "weight\x00zz")
	fails(t, err, NotFound, "NUL")
	fails(t, Backward(m, nil, six, six), InvalidArgument, "nil")
	fails(t, Set(m, "weight", six), Shape, "the slice has 6 elements, weight has 3")
	fails(t, Set[float32](m, "weight", nil), Shape, "the slice has 0 elements, weight has 3")
	_, err = New(3, Momentum(1.5))
	fails(t, err, InvalidArgument, "1.5")
	if m, err := New(3, CumulativeAverage(), Bias(false)); err != nil || !strings.Contains(m.String(), "momentum=None") {
		t.Error(m, err)
	}
}

// A closed module is told of as a closed record is, by every function, whatever else is wrong; it
// prints no error text.
func TestClosedModule(t *testing.T) {
	m, err := New(3)
	must(t, err)
	six := make([]float32, 6)
	record, err := Forward(m, six, 1, 1, 2, make([]float32, 6))
	must(t, err)
	if m.Pointer() == nil || record.Pointer() == nil || m.NumFeatures() != 3 {
		t.Error("what the functions of C take", m)
	}
	if !strings.HasPrefix(m.String(), "BatchNorm2d(") || strings.Count(Version(), ".") != 2 {
		t.Error(m, Version())
	}
	err = BackwardFused(m, record, six, six[1:], six[2:])
	fails(t, err, Shape, "dx has 5 elements, must have 6") // of two the first: always the same text
	m.Close()
	m.Close()
	if m.Pointer() != nil {
		t.Error("a module that has been given back")
	}
	if m.String() != "bn2d.Module (closed)" || m.IsTraining() {
		t.Error(m)
	}
	_, forward := Forward(m, six, 1, 1, 1, six)
	_, get := Get[float32](m, "weight")
	for name, err := range map[string]error{
		"Train": m.Train(true), "Eval": m.Eval(), "ZeroGrad": m.ZeroGrad(),
		"ResetRunningStats": m.ResetRunningStats(), "SetNumThreads": m.SetNumThreads(1),
		"Forward": forward, "Infer": Infer(m, six, 1, 1, 2, make([]float32, 6)),
		"Backward": Backward(m, record, six[1:], nil), "Get": get, "Set": Set(m, "weight", six),
	} {
		if !errors.Is(err, InvalidHandle) || !strings.Contains(err.Error(), "module has been closed") {
			t.Error(name, err)
		}
	}
	record.Close()
	if record.Pointer() != nil {
		t.Error("a record that has been given back")
	}
}

// A nil module, as New returns beside an error, and a nil record are errors, not a panic.
func TestNil(t *testing.T) {
	var m *Module
	var r *Record
	six := make([]float32, 6)
	_, forward := Forward(m, six, 1, 1, 2, six)
	_, get := Get[float32](m, "weight")
	living, err := New(3)
	must(t, err)
	record, err := Forward(living, six, 1, 1, 2, make([]float32, 6))
	must(t, err)
	for name, err := range map[string]error{
		"Close": m.Close(), "Train": m.Train(true), "Eval": m.Eval(), "ZeroGrad": m.ZeroGrad(),
		"ResetRunningStats": m.ResetRunningStats(), "SetNumThreads": m.SetNumThreads(1),
		"Forward": forward, "Infer": Infer(m, six, 1, 1, 2, six),
		"Backward": Backward(m, record, six, nil), "Get": get, "Set": Set(m, "weight", six),
		"Record.Close": r.Close(), "Backward of no record": Backward(living, r, six, nil),
	} {
		if !errors.Is(err, InvalidArgument) || !strings.Contains(err.Error(), "is nil") {
			t.Error(name, err)
		}
	}
	if m.Pointer() != nil || r.Pointer() != nil || m.NumFeatures() != 0 || m.IsTraining() ||
		m.String() != "bn2d.Module (nil)" {
		t.Error("what has no error", m)
	}
}

// Each activation by its name, of v = x: eval mode on running statistics of 0 and 1.
func TestActivations(t *testing.T) {
	clamp := func(v, low, high float64) float64 { return math.Min(math.Max(v, low), high) }
	leaky := func(v float64) float64 {
		if v > 0 {
			return v
		}
		return 2 * v
	}
	cases := map[Activation]func(float64) float64{
		Identity:  func(v float64) float64 { return v },
		ReLU:      func(v float64) float64 { return math.Max(v, 0) },
		LeakyReLU: leaky,
		ReLU6:     func(v float64) float64 { return clamp(v, 0, 6) },
		Clamp:     func(v float64) float64 { return clamp(v, 0, 2) },
		Hardswish: func(v float64) float64 { return v * clamp(v+3, 0, 6) / 6 },
		SiLU:      func(v float64) float64 { return v / (1 + math.Exp(-v)) },
		GELU:      func(v float64) float64 { return v * (1 + math.Erf(v/math.Sqrt2)) / 2 },
		Sigmoid:   func(v float64) float64 { return 1 / (1 + math.Exp(-v)) },
	}
	if len(cases) != 9 {
		t.Error("two names of one activation")
	}
	m, err := New(1, Eps(0), DType[float64]())
	must(t, err)
	must(t, m.Eval())
	x, y := []float64{-4, -1, 0.5, 8}, make([]float64, 4)
	for activation, of := range cases {
		must(t, InferFused(m, x, 1, 2, 2, y, Fused[float64]{Activation: activation, Slope: 2}))
		for i, v := range x {
			if math.Abs(y[i]-of(v)) > 1e-14 {
				t.Error(activation, v, y[i])
			}
		}
	}
	must(t, InferFused(m, x, 1, 2, 2, y, Fused[float64]{Activation: LeakyReLU}))
	if y[0] != -0.04 || y[1] != -0.01 || y[2] != 0.5 {
		t.Error("LeakyReLU without a slope", y)
	}
	err = InferFused(m, x, 1, 2, 2, y, Fused[float64]{Activation: Clamp})
	fails(t, err, InvalidArgument, "slope of clamp is 0")
	err = InferFused(m, x, 1, 2, 2, y, Fused[float64]{Activation: 99})
	fails(t, err, InvalidArgument, "99")
}

// Group, instance and ghost batch norm, told apart by y.
func TestNorms(t *testing.T) {
	gives := func(m *Module, err error) func(x []float32, n int, expected ...float32) *Module {
		must(t, err)
		return func(x []float32, n int, expected ...float32) *Module {
			y := make([]float32, 4)
			record, err := Forward(m, x, n, 1, 4/n/m.features, y)
			must(t, err)
			must(t, Backward(m, record, y, make([]float32, 4)))
			for i := range y {
				if math.Abs(float64(y[i]-expected[i])) > 1e-4 {
					t.Error(m, y)
				}
			}
			return m
		}
	}
	group := gives(NewGroupNorm(1, 2))([]float32{0, 0, 2, 2}, 1, -1, -1, 1, 1)
	samples := []float32{0, 2, 10, 12}
	instance := gives(NewInstanceNorm(1))(samples, 2, -1, 1, -1, 1)
	ghost := gives(New(1, GhostBatchSize(1)))(samples, 2, -1, 1, -1, 1)
	if batches, err := Get[int64](ghost, "num_batches_tracked"); err != nil || batches[0] != 2 {
		t.Error("a step of the counter for each ghost batch", batches, err)
	}
	if !strings.HasPrefix(group.String(), "GroupNorm(1, 2") {
		t.Error(group)
	}
	if _, err := Get[float32](group, "weight"); err != nil {
		t.Error("a group norm is affine", err)
	}
	_, err := Get[float32](instance, "weight")
	fails(t, err, NotFound, "weight")
	tracking, err := NewInstanceNorm(1, Affine(true), TrackRunningStats(true))
	must(t, err)
	_, err = Get[float32](tracking, "running_mean")
	must(t, err)
	_, err = NewGroupNorm(1, 2, Momentum(0.1))
	fails(t, err, InvalidArgument, "momentum")
	_, err = NewGroupNorm(2, 3)
	fails(t, err, InvalidArgument, "3")
}

// Pointwise activations have their argument made again in backward: the record keeps z, too.
func TestRecordKeepsTheResidual(t *testing.T) {
	const size = 3000
	x, z, dy := make([]float32, size), make([]float32, size), make([]float32, size)
	for i := range x {
		x[i], z[i], dy[i] = float32(i*37%101)/10-5, float32(i*17%23)/10-1, float32(i*13%29)/10-1
	}
	m, err := New(3)
	must(t, err)
	forward := func(residual []float32) *Record {
		y := make([]float32, size)
		record, err := ForwardFused(m, x, 10, 10, 10, y, Fused[float32]{Z: residual, Activation: SiLU})
		must(t, err)
		return record
	}
	expected, dx := make([]float32, size), make([]float32, size)
	must(t, Backward(m, forward(z), dy, expected))
	runtime.KeepAlive(z)
	record := forward(append([]float32{}, z...))
	var others [][]float32
	for k := 0; k < 20; k++ {
		runtime.GC()
		for i := 0; i < 20; i++ {
			other := make([]float32, size)
			for j := range other {
				other[j] = 777
			}
			others = append(others, other)
		}
	}
	must(t, Backward(m, record, dy, dx))
	for i := range dx {
		if dx[i] != expected[i] {
			t.Fatal("z was gone", len(others))
		}
	}
}

// The message belongs to a thread; goroutines move between them.
func TestMessagesStayWithTheirGoroutine(t *testing.T) {
	var group sync.WaitGroup
	for i := 0; i < 8; i++ {
		group.Add(1)
		go func(wrong string) {
			defer group.Done()
			for k := 0; k < 20000; k++ {
				_, err := New(3, number("eps", 0), Option{"dtype", wrong})
				if err == nil || !strings.Contains(err.Error(), wrong) {
					t.Errorf("%v, expected %s", err, wrong)
					return
				}
				runtime.Gosched()
			}
		}("wrong" + strconv.Itoa(i))
	}
	group.Wait()
}

func TestInferenceOnManyGoroutines(t *testing.T) {
	m, err := New(3)
	must(t, err)
	must(t, m.Eval())
	var group sync.WaitGroup
	for i := 0; i < 8; i++ {
		group.Add(1)
		go func(v float32) {
			defer group.Done()
			x, y := make([]float32, 24), make([]float32, 24)
			for k := range x {
				x[k] = v
			}
			for k := 0; k < 100; k++ {
				if err := Infer(m, x, 2, 2, 2, y); err != nil || math.Abs(float64(y[0]-v)) > 1e-4 {
					t.Error(err, y[0])
					return
				}
			}
		}(float32(i))
	}
	group.Wait()
}

func resident() int {
	text, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(text), "\n") {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "VmRSS:" {
			kilobytes, _ := strconv.Atoi(words[1])
			return kilobytes
		}
	}
	return 0
}

func TestHandlesAreGivenBack(t *testing.T) {
	living, err := New(256)
	must(t, err)
	round := func() {
		for i := 0; i < 2000; i++ {
			m, err := New(256)
			must(t, err)
			record, err := Forward(m, make([]float32, 2048), 2, 2, 2, make([]float32, 2048))
			must(t, err)
			if i%2 == 0 {
				m.Close()
				record.Close() // after its module
				record.Close()
				err := Backward(living, record, make([]float32, 2048), nil)
				fails(t, err, InvalidHandle, "the record has been closed")
			}
			if i%100 == 0 {
				runtime.GC()
			}
		}
		runtime.GC()
		runtime.GC()
	}
	round()
	round()
	before := resident()
	for i := 0; i < 4; i++ {
		round()
	}
	if resident() > before+30000 {
		t.Errorf("memory grows from %d to %d kB", before, resident())
	}

	m, err := New(3)
	must(t, err)
	record, err := Forward(m, make([]float32, 6), 1, 1, 2, make([]float32, 6))
	must(t, err)
	runtime.GC()
	must(t, Backward(m, record, make([]float32, 6), make([]float32, 6)))
}
