package kern

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

//go:noescape
func feedback512(dst, old, start, end *float32, n int, beta float32, top *float32) (most uint32)

//go:noescape
func feedback2(dst, old, start, end *float32, n int, beta float32, top *float32) (most uint32)

//go:noescape
func tops512(v *float32, n int, top *float32) (most uint32)

//go:noescape
func tops2(v *float32, n int, top *float32) (most uint32)

//go:noescape
func rank512(x *float32, n, k, most int, lo, hi uint32) (limit uint32, count int)

//go:noescape
func rank2(x *float32, n, k, most int, lo, hi uint32) (limit uint32, count int)

//go:noescape
func above512(idx *uint32, x *float32, n int, limit uint32) (count int)

//go:noescape
func masks2(bits *uint8, x *float32, n int, limit uint32)

//go:noescape
func outer512(dst, src, sum *float32, n int, alpha, div float32)

//go:noescape
func outer2(dst, src, sum *float32, n int, alpha, div float32)

//go:noescape
func stream512(dst, src *float32, n int)

//go:noescape
func prefetchLines(v unsafe.Pointer, bytes int)

//go:noescape
func gapLanes2(codes *uint16, of *[2]Gaps, n int) (turns, stopped int)

//go:noescape
func gapLanes4(codes *uint16, of *[4]Gaps, n int) (turns, stopped int)

// aboveBits is Above by a bit for each value, 512 values at a time.
func aboveBits(idx []uint32, x []float32, limit uint32) (n int) {
	var mask [64]byte
	for from := 0; from < len(x); from += 512 {
		w := min(512, len(x)-from)
		clear(mask[:])
		masks2(&mask[0], &x[from], w, limit)
		for at := 0; at < w; at += 64 {
			for m := binary.LittleEndian.Uint64(mask[at/8:]); m != 0; m &= m - 1 {
				idx[n] = uint32(from + at + bits.TrailingZeros64(m))
				n++
			}
		}
	}
	return n
}

// Stream copies src to dst past the cache where it can: for memory that is not read again soon.
func (k *Kernels) Stream(dst, src []float32) {
	n := len(dst)
	src = src[:n]
	w := 0
	if k.level == avx512 && n >= lanes && uintptr(unsafe.Pointer(&dst[0]))%64 == 0 {
		w = n / lanes * lanes
		stream512(&dst[0], &src[0], w)
	}
	copy(dst[w:], src[w:])
}
