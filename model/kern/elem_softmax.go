package kern

import "math"

// ExpSum replaces s by exp(s·scale + bias) and returns the sum, in float32. exp is right to 2 units in the last place wherever
// it is a normal number; below 2^-126 it is 0, above the largest float32 +Inf, of a NaN NaN.
func (k *Kernels) ExpSum(s []float32, scale, bias float32) float32 {
	n := len(s)
	if n == 0 {
		return 0
	}
	switch k.level {
	case avx512:
		return expSumAVX512(&s[0], n, scale, bias)
	case avx2:
		return expSumAVX2(&s[0], n, scale, bias)
	}
	return expSum(s, scale, bias)
}

// Softmax replaces the first n values of s by softmax(scale·s), clears the rest, and returns log Σ exp(scale·s). scale > 0.
func (k *Kernels) Softmax(s []float32, n int, scale float32) float32 {
	clear(s[n:])
	row := s[:n]
	top := k.Max(row) * scale
	sum := k.ExpSum(row, scale, -top)
	k.Scale(row, 1/sum)
	return top + log(sum)
}

// CrossEntropy returns −log softmax(logits)[target], in nats, and replaces the logits by its gradient times weight.
func (k *Kernels) CrossEntropy(logits []float32, target int, weight float32) float64 {
	right, top := logits[target], k.Max(logits)
	sum := k.ExpSum(logits, 1, -top)
	k.Scale(logits, weight/sum)
	logits[target] -= weight
	return float64(top) - float64(right) + math.Log(float64(sum))
}

// Exp replaces the first n values of s by exp(scale·s − lse): a softmax whose log-sum is known. The rest is cleared.
func (k *Kernels) Exp(s []float32, n int, scale, lse float32) {
	clear(s[n:])
	k.ExpSum(s[:n], scale, -lse)
}

// SoftmaxBackward is d = p·(d − delta)·scale on the first n values; the rest is cleared.
func (k *Kernels) SoftmaxBackward(d, p []float32, n int, delta, scale float32) {
	clear(d[n:])
	if n == 0 {
		return
	}
	_ = p[n-1]
	switch k.level {
	case avx512:
		softmaxBackwardAVX512(&d[0], &p[0], n, delta, scale)
	case avx2:
		softmaxBackwardAVX2(&d[0], &p[0], n, delta, scale)
	default:
		for i := range n {
			d[i] = p[i] * (d[i] - delta) * scale
		}
	}
}
