// SPDX-License-Identifier: MIT

//go:build !go1.22

package bn2d

// #include <stdlib.h>
import "C"

import "unsafe"

// held keeps what a record borrows. C may not remember Go's memory, and this Go cannot pin it, or
// panics at memory that is not its own (Go 1.21): x and z are copied into C's memory, and y is made
// there and copied back.
type held struct {
	inputs    []unsafe.Pointer
	y, target unsafe.Pointer
	bytes     uintptr
}

func (h *held) input(p unsafe.Pointer, bytes uintptr) unsafe.Pointer {
	if p == nil {
		return nil
	}
	copied := C.malloc(C.size_t(bytes)) // never nil: Go stops the program instead
	copy(slice(copied, bytes), slice(p, bytes))
	h.inputs = append(h.inputs, copied)
	return copied
}

func (h *held) output(p unsafe.Pointer, bytes uintptr) unsafe.Pointer {
	if p == nil {
		return nil
	}
	h.y, h.target, h.bytes = C.malloc(C.size_t(bytes)), p, bytes
	return h.y
}

func (h *held) finish() {
	if h.target != nil {
		copy(slice(h.target, h.bytes), slice(h.y, h.bytes))
	}
	h.target = nil
}

func (h *held) release() {
	for _, input := range h.inputs {
		C.free(input)
	}
	C.free(h.y)
	*h = held{}
}

func slice(p unsafe.Pointer, bytes uintptr) []byte { return unsafe.Slice((*byte)(p), bytes) }
