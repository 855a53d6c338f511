package kern

// whole is the part of n that the assembly takes.
func (k *Kernels) whole(n int) int {
	if k.level == avx512 {
		return n &^ 15
	}
	return 0
}

// Dot is Σ a·b.
func (k *Kernels) Dot(a, b []float32) float32 {
	var s float32
	w := k.whole(len(a))
	if w > 0 {
		s = dotA(&a[0], &b[0], w)
	}
	return s + dot(a[w:], b[w:len(a)])
}

// ScaleMul is d = x·w·s.
func (k *Kernels) ScaleMul(d, x, w []float32, s float32) {
	n := k.whole(len(d))
	if n > 0 {
		scaleMulA(&d[0], &x[0], &w[0], n, s)
	}
	for i := n; i < len(d); i++ {
		d[i] = x[i] * s * w[i]
	}
}

// Scale is d *= s.
func (k *Kernels) Scale(d []float32, s float32) {
	n := k.whole(len(d))
	if n > 0 {
		scaleA(&d[0], n, s)
	}
	for i := n; i < len(d); i++ {
		d[i] *= s
	}
}

// Add is d += s.
func (k *Kernels) Add(d, s []float32) {
	n := k.whole(len(d))
	if n > 0 {
		addA(&d[0], &s[0], n)
	}
	for i := n; i < len(d); i++ {
		d[i] += s[i]
	}
}

// Rope rotates the pairs (a[i], b[i]) by the angles whose cosine and sine are given; sign -1 rotates back.
func (k *Kernels) Rope(a, b, cos, sin []float32, sign float32) {
	n := len(a)
	if k.level == avx512 && n%16 == 0 && n > 0 && &a[0] != &b[0] && adjacent(a, b) {
		ropeA(&a[0], &cos[0], &sin[0], n, 1, sign)
		return
	}
	for i := range a {
		x, y, s := a[i], b[i], sin[i]*sign
		a[i] = x*cos[i] - y*s
		b[i] = x*s + y*cos[i]
	}
}

// RMSBackward adds to dx and dw the gradients of y = x·r·w, r = 1/√(mean x² + ε).
func (k *Kernels) RMSBackward(dx, dw, dy, x, w []float32, r float32) {
	n := k.whole(len(dx))
	var s float32
	if n > 0 {
		s = dot3A(&dy[0], &w[0], &x[0], n)
	}
	for i := n; i < len(dx); i++ {
		s += dy[i] * w[i] * x[i]
	}
	c := -s / float32(len(dx)) * r * r
	if n > 0 {
		rmsBwdA(&dx[0], &dw[0], &dy[0], &x[0], &w[0], n, r, c)
	}
	for i := n; i < len(dx); i++ {
		dx[i] += r * (dy[i]*w[i] + x[i]*c)
		dw[i] += dy[i] * x[i] * r
	}
}

// SwiGLU is a = silu(gate)·up.
func (k *Kernels) SwiGLU(a, gate, up []float32) {
	n := k.whole(len(a))
	if n > 0 {
		swigluA(&a[0], &gate[0], &up[0], n)
	}
	for i := n; i < len(a); i++ {
		a[i] = gate[i] / (1 + exp(-gate[i])) * up[i]
	}
}

// SwiGLUBackward replaces gate and up by their gradients, given the gradient of a.
func (k *Kernels) SwiGLUBackward(gate, up, da []float32) {
	n := k.whole(len(gate))
	if n > 0 {
		swigluBwdA(&gate[0], &up[0], &da[0], n)
	}
	for i := n; i < len(gate); i++ {
		sg := 1 / (1 + exp(-gate[i]))
		g, u, d := gate[i], up[i], da[i]
		up[i] = d * g * sg
		gate[i] = d * u * sg * (1 + g*(1-sg))
	}
}

// Softmax replaces the first n values of s by softmax(scale·s), clears the rest, and returns log Σ exp(scale·s).
func (k *Kernels) Softmax(s []float32, n int, scale float32) float32 {
	w := k.whole(n)
	top := float32(negInf)
	if w > 0 {
		top = maxA(&s[0], w)
	}
	for _, v := range s[w:n] {
		top = max(top, v)
	}
	top *= scale
	var sum float32
	if w > 0 {
		sum = expA(&s[0], w, scale, -top)
	}
	for i := w; i < n; i++ {
		s[i] = exp(s[i]*scale - top)
		sum += s[i]
	}
	k.Scale(s[:n], 1/sum)
	clear(s[n:])
	return top + log(sum)
}

// Exp replaces the first n values of s by exp(scale·s − lse): a softmax whose log-sum is known. The rest is cleared.
func (k *Kernels) Exp(s []float32, n int, scale, lse float32) {
	w := k.whole(n)
	if w > 0 {
		expA(&s[0], w, scale, -lse)
	}
	for i := w; i < n; i++ {
		s[i] = exp(s[i]*scale - lse)
	}
	clear(s[n:])
}

// SoftmaxBackward is d = p·(d − delta)·scale on the first n values; the rest is cleared.
func (k *Kernels) SoftmaxBackward(d, p []float32, n int, delta, scale float32) {
	w := k.whole(n)
	if w > 0 {
		dsA(&d[0], &p[0], w, delta, scale)
	}
	for i := w; i < n; i++ {
		d[i] = p[i] * (d[i] - delta) * scale
	}
	clear(d[n:])
}

// AdamW holds the constants of one optimizer step (Loshchilov & Hutter, arXiv 1711.05101): C1 = 1 − β1^t, C2 = 1 − β2^t.
type AdamW struct{ LR, Beta1, Beta2, Eps, Decay, C1, C2 float32 }

// Step updates parameters and moments from g and clears g.
func (k *Kernels) Step(o AdamW, p, g, m, v []float32) {
	n := k.whole(len(p))
	if n > 0 {
		c := [9]float32{o.LR, o.Beta1, o.Beta2, o.Eps, o.Decay, 1 / o.C1, 1 / o.C2, 1 - o.Beta1, 1 - o.Beta2}
		adamwA(&p[0], &g[0], &m[0], &v[0], n, &c[0])
	}
	for i := n; i < len(p); i++ {
		m[i] = o.Beta1*m[i] + (1-o.Beta1)*g[i]
		v[i] = o.Beta2*v[i] + (1-o.Beta2)*g[i]*g[i]
		p[i] -= o.LR * (m[i]/o.C1/(sqrt(v[i]/o.C2)+o.Eps) + o.Decay*p[i])
		g[i] = 0
	}
}
