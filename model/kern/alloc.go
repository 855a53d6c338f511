package kern

import "unsafe"

const (
	hugePage  = 2 << 20
	cacheLine = 64
)

// Alloc returns n zeroed values on the Go heap that start at a cache line; large ones at a huge page, with the system asked
// to use huge pages for them (a third of a product's time goes to address translation otherwise, notes/engine.md §3.2).
func Alloc[T any](n int) []T {
	var z T
	size := int(unsafe.Sizeof(z))
	align := cacheLine
	if n*size >= hugePage {
		align = hugePage
	}
	if n == 0 {
		return nil
	}
	all := make([]T, n+align/size)
	skip := int(-uintptr(unsafe.Pointer(&all[0]))&uintptr(align-1)) / size
	out := all[skip : skip+n : skip+n]
	if align == hugePage {
		adviseHuge(unsafe.Slice((*byte)(unsafe.Pointer(&out[0])), n*size&^(hugePage-1)))
	}
	return out
}
