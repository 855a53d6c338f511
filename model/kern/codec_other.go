//go:build !amd64

package kern

import "unsafe"

// The assembly is never called here: Select refuses it. These bodies only let the package compile.

func feedback512(dst, old, start, end *float32, n int, beta float32, top *float32) uint32 { return 0 }
func feedback2(dst, old, start, end *float32, n int, beta float32, top *float32) uint32   { return 0 }
func tops512(v *float32, n int, top *float32) uint32                                      { return 0 }
func tops2(v *float32, n int, top *float32) uint32                                        { return 0 }
func rank512(x *float32, n, k, most int, lo, hi uint32) (uint32, int)                     { return 0, 0 }
func rank2(x *float32, n, k, most int, lo, hi uint32) (uint32, int)                       { return 0, 0 }
func above512(idx *uint32, x *float32, n int, limit uint32) int                           { return 0 }
func aboveBits(idx []uint32, x []float32, limit uint32) int                               { return 0 }
func outer512(dst, src, sum *float32, n int, alpha, div float32)                          {}
func prefetchLines(v unsafe.Pointer, bytes int)                                           {}
func outer2(dst, src, sum *float32, n int, alpha, div float32)                            {}

func gapLanes2(codes *uint16, of *[2]Gaps, n int) (turns, stopped int) { return 0, 0 }
func gapLanes4(codes *uint16, of *[4]Gaps, n int) (turns, stopped int) { return 0, 0 }

// Stream copies src to dst past the cache where it can: for memory that is not read again soon.
func (k *Kernels) Stream(dst, src []float32) { copy(dst, src[:len(dst)]) }
