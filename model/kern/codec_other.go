//go:build !amd64

package kern

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
func outer2(dst, src, sum *float32, n int, alpha, div float32)                            {}

func gapPairA(codes *uint16, bitsA, bitsB *uint8, endA, endB uint64, outA, outB *uint16, n int, state *[6]uint64) int {
	return 0
}

// Prefetch asks for v to be in the cache soon, without waiting for it.
func (k *Kernels) Prefetch([]float32) {}

// Stream copies src to dst past the cache where it can: for memory that is not read again soon.
func (k *Kernels) Stream(dst, src []float32) { copy(dst, src[:len(dst)]) }
