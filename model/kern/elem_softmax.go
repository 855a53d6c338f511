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

// ExpSumBF16 is ExpSum whose values are rounded to h; the sum is of those before rounding, s is spent.
func (k *Kernels) ExpSumBF16(h []BF16, s []float32, scale, bias float32) float32 {
	n := len(s)
	if n == 0 {
		return 0
	}
	_ = h[n-1]
	switch {
	case k.rounds():
		return expSumBF16VDP(&h[0], &s[0], n, scale, bias)
	case k.level == avx512:
		return expSumBF16AVX512(&h[0], &s[0], n, scale, bias)
	case k.level == avx2:
		return expSumBF16AVX2(&h[0], &s[0], n, scale, bias)
	}
	sum := expSum(s, scale, bias)
	k.ToBF16(h[:n], s)
	return sum
}

// ScoreGradients turns scores s into probabilities p = exp(scale·s − lse), and d, the gradients of those, into the gradients of
// the scores, scale·p·(d − delta); lse and delta are of each column.
func (k *Kernels) ScoreGradients(s, d, lse, delta []float32, scale float32) {
	n := len(s)
	if n == 0 {
		return
	}
	_, _, _ = d[n-1], lse[n-1], delta[n-1]
	switch k.level {
	case avx512:
		scoreGradientsAVX512(&s[0], &d[0], &lse[0], &delta[0], n, scale)
	case avx2:
		scoreGradientsAVX2(&s[0], &d[0], &lse[0], &delta[0], n, scale)
	default:
		for i := range s {
			s[i] = exp(scale*s[i] - lse[i])
			d[i] = s[i] * (d[i] - delta[i]) * scale
		}
	}
}

// ScoreGradientsBF16 is ScoreGradients with the results rounded to p and g; s and d may be spent.
func (k *Kernels) ScoreGradientsBF16(p, g []BF16, s, d, lse, delta []float32, scale float32) {
	n := len(s)
	if n == 0 {
		return
	}
	_, _, _, _, _ = p[n-1], g[n-1], d[n-1], lse[n-1], delta[n-1]
	switch {
	case k.rounds():
		scoreGradientsBF16VDP(&p[0], &g[0], &s[0], &d[0], &lse[0], &delta[0], n, scale)
	case k.level == avx512:
		scoreGradientsBF16AVX512(&p[0], &g[0], &s[0], &d[0], &lse[0], &delta[0], n, scale)
	case k.level == avx2:
		scoreGradientsBF16AVX2(&p[0], &g[0], &s[0], &d[0], &lse[0], &delta[0], n, scale)
	default:
		k.ScoreGradients(s, d, lse, delta, scale)
		k.ToBF16(p[:n], s)
		k.ToBF16(g[:n], d[:n])
	}
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
