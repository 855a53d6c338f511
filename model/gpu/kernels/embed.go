// Package kernels has the GPU's kernels: their source (*.cu, in the subset that device.h describes), the PTX that clang makes of it,
// and the table of their signatures.
package kernels

import (
	"embed"

	"sn3/model/gpu/cuda"
)

//go:generate go run ./gen

// Sources are the kernels as they are written, for the stand-in and for checks.
//
//go:embed *.cu *.h
var Sources embed.FS

//go:embed ptx/sm_80.ptx
var sm80 []byte

//go:embed ptx/sm_90a.ptx
var sm90a []byte

// Image is the PTX for a card of this compute capability: that of sm_90a fits 9.0 only, that of sm_80 everything from 8.0 on. Older
// cards have none.
func Image(major, minor int) []byte {
	switch {
	case major == 9 && minor == 0:
		return sm90a
	case major >= 8:
		return sm80
	}
	return nil
}

// Named is the kernel of this name.
func Named(name string) (cuda.Kernel, bool) {
	for _, k := range Table {
		if k.Name == name {
			return k, true
		}
	}
	return cuda.Kernel{}, false
}

// Exact are the kernels whose arithmetic nodes must agree on to the last bit, and the least instructions on floating point numbers that it
// takes.
var Exact = map[string]int{"feedback": 3, "compress": 12, "outer_step": 5, "delta_apply": 2}
