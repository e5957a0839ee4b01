// SPDX-License-Identifier: MIT

//go:build go1.22

package bn2d

import (
	"runtime"
	"unsafe"
)

// held keeps what a record borrows: pinned where it is, as cgo asks of memory that C remembers.
type held struct{ pinner runtime.Pinner }

func (h *held) input(p unsafe.Pointer, _ uintptr) unsafe.Pointer {
	if p != nil {
		h.pinner.Pin(p)
	}
	return p
}

func (h *held) output(p unsafe.Pointer, bytes uintptr) unsafe.Pointer { return h.input(p, bytes) }
func (h *held) finish()                                               {}
func (h *held) release()                                              { h.pinner.Unpin() }
