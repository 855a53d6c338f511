package kern

import "unsafe"

const (
	hugePage  = 2 << 20
	cacheLine = 64
)

// Alloc returns n zeroed values on the Go heap that start at a cache line; for large ones the system is asked to use huge pages
// (a third of a product's time goes to address translation otherwise, notes/engine.md §3.2).
func Alloc[T any](n int) []T {
	var z T
	size := int(unsafe.Sizeof(z))
	if n == 0 {
		return nil
	}
	all := make([]T, n+cacheLine/size)
	skip := int(-uintptr(unsafe.Pointer(&all[0]))&(cacheLine-1)) / size
	out := all[skip : skip+n : skip+n]
	if n*size >= 2*hugePage {
		before := int(-uintptr(unsafe.Pointer(&out[0])) & (hugePage - 1)) // the system takes whole pages
		adviseHuge(unsafe.Slice((*byte)(unsafe.Pointer(&out[0])), n*size)[before : before+(n*size-before)&^(hugePage-1)])
	}
	return out
}
