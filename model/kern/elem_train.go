package kern

import "math"

// RMSNorm is h = x·r·w with r = 1/√(mean x² + eps), which it returns.
func (k *Kernels) RMSNorm(h, x, w []float32, eps float64) (r float32) {
	r = float32(1 / math.Sqrt(k.SumSquares(x[:len(h)])/float64(len(h))+eps))
	k.ScaleMul(h, x, w, r)
	return r
}

// RMSBackward adds to dx and dw the gradients of y = x·r·w, r = 1/√(mean x² + ε).
func (k *Kernels) RMSBackward(dx, dw, dy, x, w []float32, r float32) {
	n := len(dx)
	if n == 0 {
		return
	}
	_, _, _, _ = dw[n-1], dy[n-1], x[n-1], w[n-1]
	by := -r * r / float32(n) // of Σ dy·w·x
	switch k.level {
	case avx512:
		s := dot3AVX512(&dy[0], &w[0], &x[0], n)
		rmsBackwardAVX512(&dx[0], &dw[0], &dy[0], &x[0], &w[0], n, r, s*by)
	case avx2:
		s := dot3AVX2(&dy[0], &w[0], &x[0], n)
		rmsBackwardAVX2(&dx[0], &dw[0], &dy[0], &x[0], &w[0], n, r, s*by)
	default:
		rmsBackward(dx, dw, dy, x, w, r, by)
	}
}

// Rope rotates the pairs (a[i], b[i]) by the angles whose cosine and sine are given; sign -1 rotates back.
func (k *Kernels) Rope(a, b, cos, sin []float32, sign float32) {
	n := len(a)
	if n == 0 {
		return
	}
	_, _, _ = b[n-1], cos[n-1], sin[n-1]
	switch k.level {
	case avx512:
		ropeAVX512(&a[0], &b[0], &cos[0], &sin[0], n, 1, sign)
	case avx2:
		ropeAVX2(&a[0], &b[0], &cos[0], &sin[0], n, 1, sign)
	default:
		rope(a, b, cos, sin, sign)
	}
}

// RopeHeads is Rope on each of the heads that lie one after the other in v, (heads,2·half): a head's first half is a, its
// second b.
func (k *Kernels) RopeHeads(v, cos, sin []float32, half, heads int, sign float32) {
	if half <= 0 || heads <= 0 {
		return
	}
	_, _, _ = v[2*half*heads-1], cos[half-1], sin[half-1]
	switch k.level {
	case avx512:
		ropeAVX512(&v[0], &v[half], &cos[0], &sin[0], half, heads, sign)
	case avx2:
		ropeAVX2(&v[0], &v[half], &cos[0], &sin[0], half, heads, sign)
	default:
		for h := range heads {
			head := v[2*half*h : 2*half*(h+1)]
			rope(head[:half], head[half:], cos, sin, sign)
		}
	}
}

// SwiGLU is a = silu(gate)·up.
func (k *Kernels) SwiGLU(a, gate, up []float32) {
	n := len(a)
	if n == 0 {
		return
	}
	_, _ = gate[n-1], up[n-1]
	switch k.level {
	case avx512:
		swigluAVX512(&a[0], &gate[0], &up[0], n)
	case avx2:
		swigluAVX2(&a[0], &gate[0], &up[0], n)
	default:
		swiglu(a, gate, up)
	}
}

// SwiGLUBF16 is a = silu(gate)·up, and gate and up themselves, all rounded; gate and up may be spent.
func (k *Kernels) SwiGLUBF16(a, gateHalf, upHalf []BF16, gate, up []float32) {
	n := len(a)
	if n == 0 {
		return
	}
	_, _, _, _ = gateHalf[n-1], upHalf[n-1], gate[n-1], up[n-1]
	switch {
	case k.rounds():
		swigluBF16VDP(&a[0], &gateHalf[0], &upHalf[0], &gate[0], &up[0], n)
	case k.level == avx512:
		swigluBF16AVX512(&a[0], &gateHalf[0], &upHalf[0], &gate[0], &up[0], n)
	case k.level == avx2:
		swigluBF16AVX2(&a[0], &gateHalf[0], &upHalf[0], &gate[0], &up[0], n)
	default:
		k.ToBF16(gateHalf[:n], gate)
		k.ToBF16(upHalf[:n], up)
		swiglu(gate[:n], gate, up)
		k.ToBF16(a, gate)
	}
}

// SwiGLUBackwardBF16 makes the rounded gradients of rounded gate and up, given the gradient of a.
func (k *Kernels) SwiGLUBackwardBF16(dGate, dUp, gate, up []BF16, da []float32) {
	n := len(dGate)
	if n == 0 {
		return
	}
	_, _, _, _ = dUp[n-1], gate[n-1], up[n-1], da[n-1]
	switch {
	case k.rounds():
		swigluBackwardBF16VDP(&dGate[0], &dUp[0], &gate[0], &up[0], &da[0], n)
	case k.level == avx512:
		swigluBackwardBF16AVX512(&dGate[0], &dUp[0], &gate[0], &up[0], &da[0], n)
	case k.level == avx2:
		swigluBackwardBF16AVX2(&dGate[0], &dUp[0], &gate[0], &up[0], &da[0], n)
	default:
		for i := range dGate {
			g, u := [1]float32{gate[i].Float32()}, [1]float32{up[i].Float32()}
			swigluBackward(g[:], u[:], da[i:])
			dGate[i], dUp[i] = RoundBF16(g[0]), RoundBF16(u[0])
		}
	}
}

// SwiGLUBackward replaces gate and up by their gradients, given the gradient of a.
func (k *Kernels) SwiGLUBackward(gate, up, da []float32) {
	n := len(gate)
	if n == 0 {
		return
	}
	_, _ = up[n-1], da[n-1]
	switch k.level {
	case avx512:
		swigluBackwardAVX512(&gate[0], &up[0], &da[0], n)
	case avx2:
		swigluBackwardAVX2(&gate[0], &up[0], &da[0], n)
	default:
		swigluBackward(gate, up, da)
	}
}

// AdamW holds the constants of one optimizer step (Loshchilov & Hutter, arXiv 1711.05101): C1 = 1 − β1^t, C2 = 1 − β2^t.
type AdamW struct {
	LR, Beta1, Beta2, Eps, Decay, C1, C2 float32
	// Scale multiplies the gradient first, to clip it; 0 leaves it as it is, as 1 does.
	Scale float32
}

// table is what the assembly reads: see adamwTable in gen.
func (o AdamW) table() [10]float32 {
	if o.Scale == 0 {
		o.Scale = 1
	}
	return [10]float32{o.LR, o.Beta1, o.Beta2, o.Eps, o.Decay, 1 / o.C1, 1 / o.C2, 1 - o.Beta1, 1 - o.Beta2, o.Scale}
}

// Step updates parameters and moments from g. With h, which may be nil, it leaves there the new parameters as
// bfloat16.
func (k *Kernels) Step(o AdamW, p, g, m, v []float32, h []BF16) {
	n := len(p)
	if n == 0 {
		return
	}
	_, _, _ = g[n-1], m[n-1], v[n-1]
	c := o.table()
	if h == nil {
		switch k.level {
		case avx512:
			adamwAVX512(&p[0], &g[0], &m[0], &v[0], n, &c[0])
		case avx2:
			adamwAVX2(&p[0], &g[0], &m[0], &v[0], n, &c[0])
		default:
			adamw(p, g, m, v, &c)
		}
		return
	}
	_ = h[n-1]
	switch k.level {
	case avx512:
		adamwCopyAVX512(&h[0], &p[0], &g[0], &m[0], &v[0], n, &c[0])
	case avx2:
		adamwCopyAVX2(&h[0], &p[0], &g[0], &m[0], &v[0], n, &c[0])
	default:
		adamw(p, g, m, v, &c)
		k.ToBF16(h[:n], p)
	}
}
