// Package dl opens C libraries at run time and calls them without cgo. It knows no library.
package dl

import (
	"fmt"
	"unsafe"
)

// Func is a function of a library.
type Func struct {
	Name string
	Addr uintptr // 0 where the library has none
}

// Call calls it. The memory that arguments point to must stay alive.
//
//go:uintptrescapes
func (f *Func) Call(args ...uintptr) uintptr { return call(f.Addr, args...) }

// Find finds a function in a library. The name comes back with an error too.
func Find(lib uintptr, name string) (Func, error) {
	addr, err := sym(lib, name)
	if err != nil {
		return Func{Name: name}, fmt.Errorf("find %s: %w", name, err)
	}
	return Func{name, addr}, nil
}

// Text copies a C string, at most 4 KiB of it.
func Text(s *byte) string {
	n := 0
	for ; n < 4096 && *(*byte)(unsafe.Add(unsafe.Pointer(s), n)) != 0; n++ {
	}
	return string(unsafe.Slice(s, n))
}
