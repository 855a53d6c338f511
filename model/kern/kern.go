// Package kern holds the compute kernels of the CPU engine: matrix product and element-wise code, in AVX-512 assembly
// written by gen and in portable Go. Which set is used is a value chosen at start, not global state.
package kern

import (
	"fmt"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

//go:generate go run ./gen

// Kernels is one complete set. All slices of a call have the length that the first one has. Safe for concurrent use.
type Kernels struct {
	// Name says what it is: portable or avx512.
	Name string
	// Why says why it was chosen.
	Why string

	simd bool
}

// Names lists the sets in order of preference.
func Names() []string { return []string{"avx512", "portable"} }

// Select returns the set with the given name, or with "" the best one that this CPU can run.
func Select(name string) (*Kernels, error) {
	ok, missing := haveAVX512()
	switch {
	case name == "portable":
		return &Kernels{Name: name, Why: "forced"}, nil
	case name == "avx512" && ok:
		return &Kernels{Name: name, Why: "forced", simd: true}, nil
	case name == "avx512":
		return nil, fmt.Errorf("kernels avx512 cannot run here: %s", missing)
	case name != "":
		return nil, fmt.Errorf("unknown kernels %q; use one of %v", name, Names())
	case ok:
		return &Kernels{Name: "avx512", Why: "this CPU has AVX-512 F, DQ and VL", simd: true}, nil
	}
	return &Kernels{Name: "portable", Why: missing}, nil
}

// BLAS is gonum's blas.Float32 with our Sgemm: the engine's products go through it, and blas32.Use and gorgonia.Use take it.
type BLAS struct {
	gonum.Implementation
	K       *Kernels
	Threads int // goroutines that one product may use; below 1 is 1
}

var _ blas.Float32 = BLAS{}

// Sgemm computes C = alpha·op(A)·op(B) + beta·C, row-major, as gonum's contract says: what gonum refuses by a panic is refused
// by the same one. Other alpha and beta than (1, 0) and (1, 1) go to gonum.
func (b BLAS) Sgemm(tA, tB blas.Transpose, m, n, k int, alpha float32, a []float32, lda int, bm []float32, ldb int, beta float32, c []float32, ldc int) {
	if b.K == nil || alpha != 1 || beta != 0 && beta != 1 {
		b.Implementation.Sgemm(tA, tB, m, n, k, alpha, a, lda, bm, ldb, beta, c, ldc)
		return
	}
	b.Implementation.Sgemm(tA, tB, m, n, k, 0, a, lda, bm, ldb, 1, c, ldc) // checks the arguments, changes nothing
	b.K.Gemm(b.Threads, tA != blas.NoTrans, tB != blas.NoTrans, m, n, k, a, lda, bm, ldb, c, ldc, beta == 1)
}

// Gemm computes C = op(A)·op(B), or adds to C with acc, on up to threads goroutines; row-major with leading dimensions.
// op(A) is m×k, op(B) k×n. The result does not depend on threads. Slices that are too short are an index out of range.
func (k *Kernels) Gemm(threads int, tA, tB bool, m, n, kk int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	if m == 0 || n == 0 {
		return
	}
	_ = c[(m-1)*ldc+n-1] // the assembly does not look
	if kk == 0 {
		for i := 0; i < m && !acc; i++ {
			clear(c[i*ldc : i*ldc+n])
		}
		return
	}
	if k.simd {
		gemm512(threads, tA, tB, m, n, kk, a, lda, b, ldb, c, ldc, acc)
		return
	}
	gemmPortable(threads, tA, tB, m, n, kk, a, lda, b, ldb, c, ldc, acc)
}

// whole is the part of n that the assembly takes.
func (k *Kernels) whole(n int) int {
	if k.simd {
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
	if k.simd && n%16 == 0 && n > 0 && &a[0] != &b[0] && adjacent(a, b) {
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
