package kern

import (
	"math"
	"unsafe"
)

// What compression and the outer step need (gradients). This is protocol arithmetic: every set of kernels gives the same bits, every
// product is rounded before it is added. Magnitudes are compared as the bits of a float32 without its sign.

// Groups is the number of maxima that Feedback and Tops leave: of the values whose index is the same modulo Groups.
const Groups = 256

// lanes is what lengths must be a multiple of where the caller pads with zeros.
const lanes = 16

// magnitude is the bits of |x|, which order as the magnitudes do.
func magnitude(x float32) uint32 { return math.Float32bits(x) &^ (1 << 31) }

// Feedback is dst = beta·old + (start − end). It returns the bits of the largest magnitude, and in top, as floats, those of the groups.
// A NaN or an infinity has 0x7f800000 or more.
func (k *Kernels) Feedback(dst, old, start, end []float32, beta float32, top *[Groups]float32) (most uint32) {
	n := len(dst)
	old, start, end = old[:n], start[:n], end[:n]
	w := n &^ (Groups - 1)
	switch {
	case w > 0 && k.level == avx512:
		most = feedback512(&dst[0], &old[0], &start[0], &end[0], w, beta, &top[0])
	case w > 0 && k.level == avx2:
		most = feedback2(&dst[0], &old[0], &start[0], &end[0], w, beta, &top[0])
	default:
		w = 0
		clear(top[:])
	}
	for i := w; i < n; i++ {
		dst[i] = float32(beta*old[i]) + (start[i] - end[i])
	}
	return tops(dst, w, top, most)
}

// Tops returns of v what Feedback returns of dst.
func (k *Kernels) Tops(v []float32, top *[Groups]float32) (most uint32) {
	w := len(v) &^ (Groups - 1)
	switch {
	case w > 0 && k.level == avx512:
		most = tops512(&v[0], w, &top[0])
	case w > 0 && k.level == avx2:
		most = tops2(&v[0], w, &top[0])
	default:
		w = 0
		clear(top[:])
	}
	return tops(v, w, top, most)
}

// tops goes on from value w.
func tops(v []float32, w int, top *[Groups]float32, most uint32) uint32 {
	for i := w; i < len(v); i++ {
		b := magnitude(v[i])
		if b > math.Float32bits(top[i%Groups]) {
			top[i%Groups] = math.Float32frombits(b)
		}
		most = max(most, b)
	}
	return most
}

// Rank looks for a limit in [lo, hi) that n to most of the magnitudes of x reach, 1 <= n <= most, and returns it and their number. If
// equal ones leave no such limit it is the n-th largest. If fewer than n reach lo, the limit is lo. None may reach hi; lo is at
// least 1; len(x) is a multiple of 16, padded with zeros.
func (k *Kernels) Rank(x []float32, n, most int, lo, hi uint32) (limit uint32, count int) {
	_ = x[:len(x)/lanes*lanes][len(x)-1]
	switch k.level {
	case avx512:
		return rank512(&x[0], len(x), n, most, lo, hi)
	case avx2:
		return rank2(&x[0], len(x), n, most, lo, hi)
	}
	least := uint32(math.MaxUint32)
	for _, v := range x {
		least = min(least, magnitude(v))
	}
	lo = max(lo, least)
	if count = reaching(x, lo); count <= most {
		return lo, count
	}
	for half := (hi - lo) / 2; half > 0; half = (hi - lo) / 2 {
		switch c := reaching(x, lo+half); {
		case c < n:
			hi = lo + half
		case c <= most:
			return lo + half, c
		default:
			lo, count = lo+half, c
		}
	}
	return lo, count
}

// reaching counts the magnitudes of at least limit.
func reaching(x []float32, limit uint32) (n int) {
	for _, v := range x {
		n += int(1 - (uint64(magnitude(v))-uint64(limit))>>63)
	}
	return n
}

// Above writes the indices of the values of x whose magnitudes reach limit, ascending, to idx and returns their number. idx has 16 more
// places than x; limit is at least 1; len(x) is a multiple of 16, padded with zeros.
func (k *Kernels) Above(idx []uint32, x []float32, limit uint32) (n int) {
	_ = x[:len(x)/lanes*lanes][len(x)-1]
	_ = idx[len(x)+lanes-1]
	switch k.level {
	case avx512:
		return above512(&idx[0], &x[0], len(x), limit)
	case avx2:
		return aboveBits(idx, x, limit)
	}
	for i, v := range x {
		idx[n] = uint32(i)
		n += int(1 - (uint64(magnitude(v))-uint64(limit))>>63)
	}
	return n
}

// Outer is dst = src − alpha·(sum/div); sum is cleared. dst and src may be the same.
func (k *Kernels) Outer(dst, src, sum []float32, alpha, div float32) {
	n := len(dst)
	src, sum = src[:n], sum[:n]
	w := 0
	switch {
	case n >= lanes && k.level == avx512:
		w = n / lanes * lanes
		outer512(&dst[0], &src[0], &sum[0], w, alpha, div)
	case n >= lanes && k.level == avx2:
		w = n / lanes * lanes
		outer2(&dst[0], &src[0], &sum[0], w, alpha, div)
	}
	for i := w; i < n; i++ {
		dst[i] = src[i] - float32(alpha*float32(sum[i]/div))
		sum[i] = 0
	}
}

// Prefetch asks for v to be in the cache soon, without waiting for it.
func Prefetch[T any](k *Kernels, v []T) {
	if len(v) > 0 && k.level != portable {
		prefetchLines(unsafe.Pointer(&v[0]), len(v)*int(unsafe.Sizeof(v[0])))
	}
}
