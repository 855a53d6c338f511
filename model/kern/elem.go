package kern

import "math"

// The element-wise kernels work on rows. Every method here looks at the lengths, because the assembly does not, and leaves a
// row of any length to it, down to one value; a slice that is too short is an index out of range. The results of a level
// depend on values and lengths only, never on alignment or threads; two levels differ in the last bits.

// Dot is Σ a·b, summed in float32.
func (k *Kernels) Dot(a, b []float32) float32 {
	n := len(a)
	if n == 0 {
		return 0
	}
	_ = b[n-1]
	switch k.level {
	case avx512:
		return dotAVX512(&a[0], &b[0], n)
	case avx2:
		return dotAVX2(&a[0], &b[0], n)
	}
	return dot(a, b)
}

// squaresPiece is how many squares are summed in float32.
const squaresPiece = 4096

// SumSquares is Σ x²: float32 sums over pieces of 4096, joined in float64, in order.
func (k *Kernels) SumSquares(x []float32) float64 {
	var sum float64
	for len(x) > 0 {
		n := min(len(x), squaresPiece)
		switch k.level {
		case avx512:
			sum += float64(sumSquaresAVX512(&x[0], n))
		case avx2:
			sum += float64(sumSquaresAVX2(&x[0], n))
		default:
			sum += float64(dot(x[:n], x))
		}
		x = x[n:]
	}
	return sum
}

// ScaleMul is d = x·s·w.
func (k *Kernels) ScaleMul(d, x, w []float32, s float32) {
	n := len(d)
	if n == 0 {
		return
	}
	_, _ = x[n-1], w[n-1]
	switch k.level {
	case avx512:
		scaleMulAVX512(&d[0], &x[0], &w[0], n, s)
	case avx2:
		scaleMulAVX2(&d[0], &x[0], &w[0], n, s)
	default:
		for i := range d {
			d[i] = x[i] * s * w[i]
		}
	}
}

// Scale is d *= s.
func (k *Kernels) Scale(d []float32, s float32) {
	n := len(d)
	if n == 0 {
		return
	}
	switch k.level {
	case avx512:
		scaleAVX512(&d[0], n, s)
	case avx2:
		scaleAVX2(&d[0], n, s)
	default:
		for i := range d {
			d[i] *= s
		}
	}
}

// Add is d += s.
func (k *Kernels) Add(d, s []float32) {
	n := len(d)
	if n == 0 {
		return
	}
	_ = s[n-1]
	switch k.level {
	case avx512:
		addAVX512(&d[0], &s[0], n)
	case avx2:
		addAVX2(&d[0], &s[0], n)
	default:
		for i := range d {
			d[i] += s[i]
		}
	}
}

// MulAdd is d += a·s.
func (k *Kernels) MulAdd(d, s []float32, a float32) {
	n := len(d)
	if n == 0 {
		return
	}
	_ = s[n-1]
	switch k.level {
	case avx512:
		mulAddAVX512(&d[0], &s[0], n, a)
	case avx2:
		mulAddAVX2(&d[0], &s[0], n, a)
	default:
		for i := range d {
			d[i] += a * s[i]
		}
	}
}

// Max is the largest value of s, −Inf of none. A NaN is skipped: what is computed from the row afterwards still shows it.
func (k *Kernels) Max(s []float32) float32 {
	n := len(s)
	if n == 0 {
		return float32(math.Inf(-1))
	}
	switch k.level {
	case avx512:
		return maxAVX512(&s[0], n)
	case avx2:
		return maxAVX2(&s[0], n)
	}
	return largest(s)
}

// rounds says whether there is an instruction that rounds to bfloat16. It takes subnormals for zero, so that it serves for what is
// used within a step, and not for copies of parameters, which ToBF16 makes of the same bits in every set.
func (k *Kernels) rounds() bool { return k.level == avx512 && k.half != rounded }
