package kern

import "math"

// BF16 is a bfloat16: the upper half of a float32. It is storage, not arithmetic: sums are float32.
type BF16 uint16

// nanBF16 is what every NaN becomes, as in torch.
const nanBF16 = 0x7FC0

// RoundBF16 is the bfloat16 nearest to x, ties to even, exact for subnormals too; beyond the largest one it is an infinity.
func RoundBF16(x float32) BF16 {
	if x != x {
		return nanBF16
	}
	u := math.Float32bits(x)
	return BF16((u + 0x7FFF + u>>16&1) >> 16)
}

// Float32 is the value of b; no bit is lost.
func (b BF16) Float32() float32 { return math.Float32frombits(uint32(b) << 16) }

// ToBF16 rounds src to dst (RoundBF16). The bits are the same in every set of kernels.
func (k *Kernels) ToBF16(dst []BF16, src []float32) {
	n := len(dst)
	if n == 0 {
		return
	}
	_ = src[n-1]
	switch k.level {
	case avx512:
		toBF16AVX512(&dst[0], &src[0], n)
	case avx2:
		toBF16AVX2(&dst[0], &src[0], n)
	default:
		for i := range dst {
			dst[i] = RoundBF16(src[i])
		}
	}
}

// FromBF16 widens src to dst.
func (k *Kernels) FromBF16(dst []float32, src []BF16) {
	n := len(dst)
	if n == 0 {
		return
	}
	_ = src[n-1]
	switch k.level {
	case avx512:
		fromBF16AVX512(&dst[0], &src[0], n)
	case avx2:
		fromBF16AVX2(&dst[0], &src[0], n)
	default:
		for i := range dst {
			dst[i] = src[i].Float32()
		}
	}
}

// DotBF16 is Σ a·b, summed in float32.
func (k *Kernels) DotBF16(a []float32, b []BF16) (sum float32) {
	n := len(a)
	if n == 0 {
		return 0
	}
	_ = b[n-1]
	switch k.level {
	case avx512:
		return dotBF16AVX512(&a[0], &b[0], n)
	case avx2:
		return dotBF16AVX2(&a[0], &b[0], n)
	}
	for i, x := range a {
		sum += x * b[i].Float32()
	}
	return sum
}
