package kern

import (
	"math"
	"math/rand/v2"
	"testing"
)

// sets are the kernels that this CPU can run.
func sets(t testing.TB) []*Kernels {
	var out []*Kernels
	for _, n := range Names() {
		k, err := Select(n)
		if err != nil {
			t.Logf("skipped: %v", err)
			continue
		}
		out = append(out, k)
	}
	return out
}

func randoms(r *rand.Rand, n int) ([]float32, []float64) {
	a, b := make([]float32, n), make([]float64, n)
	for i := range a {
		a[i] = float32(r.NormFloat64())
		b[i] = float64(a[i])
	}
	return a, b
}

func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	for i := range want {
		if d := math.Abs(float64(got[i]) - want[i]); !(d <= tol*(1+math.Abs(want[i]))) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func TestElementwise(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	for _, k := range sets(t) {
		for _, n := range []int{1, 7, 15, 16, 17, 32, 61, 128, 333} {
			checkSoftmax(t, k, r, n)
			checkSwiGLU(t, k, r, n)
			checkAdamW(t, k, r, n)
			checkRMS(t, k, r, n)
			checkLinear(t, k, r, n)
			checkRope(t, k, r, n)
		}
	}
}

func checkSoftmax(t *testing.T, k *Kernels, r *rand.Rand, n int) {
	x, x64 := randoms(r, n+9)
	want, sum, top := make([]float64, n+9), 0.0, math.Inf(-1)
	for i := range n {
		top = math.Max(top, 0.3*x64[i])
	}
	for i := range n {
		want[i] = math.Exp(0.3*x64[i] - top)
		sum += want[i]
	}
	for i := range n {
		want[i] /= sum
	}
	again := append([]float32(nil), x...)
	lse := k.Softmax(x, n, 0.3)
	near(t, k.Name+" softmax", x, want, 3e-6)
	near(t, k.Name+" lse", []float32{lse}, []float64{top + math.Log(sum)}, 3e-6)
	k.Exp(again, n, 0.3, lse)
	near(t, k.Name+" exp", again, want, 3e-6)
	d, d64 := randoms(r, n+9)
	for i := range d64 {
		d64[i] = want[i] * (d64[i] - 0.25) * 0.3
	}
	k.SoftmaxBackward(d, x, n, 0.25, 0.3)
	near(t, k.Name+" softmax backward", d, d64, 1e-5)
}

func checkSwiGLU(t *testing.T, k *Kernels, r *rand.Rand, n int) {
	g, g64 := randoms(r, n)
	u, u64 := randoms(r, n)
	da, da64 := randoms(r, n)
	want, dg, du := make([]float64, n), make([]float64, n), make([]float64, n)
	for i := range n {
		s := 1 / (1 + math.Exp(-g64[i]))
		want[i] = g64[i] * s * u64[i]
		du[i] = da64[i] * g64[i] * s
		dg[i] = da64[i] * u64[i] * s * (1 + g64[i]*(1-s))
	}
	a := make([]float32, n)
	k.SwiGLU(a, g, u)
	near(t, k.Name+" swiglu", a, want, 1e-5)
	k.SwiGLUBackward(g, u, da)
	near(t, k.Name+" swiglu dgate", g, dg, 1e-5)
	near(t, k.Name+" swiglu dup", u, du, 1e-5)
}

func checkAdamW(t *testing.T, k *Kernels, r *rand.Rand, n int) {
	p, p64 := randoms(r, n)
	g, g64 := randoms(r, n)
	m, m64 := randoms(r, n)
	v, v64 := randoms(r, n)
	for i := range v {
		v[i] = v[i] * v[i]
		v64[i] = float64(v[i])
	}
	o := AdamW{LR: 0.01, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1, C1: 0.19, C2: 0.0975}
	for i := range p64 {
		m64[i] = 0.9*m64[i] + 0.1*g64[i]
		v64[i] = 0.95*v64[i] + 0.05*g64[i]*g64[i]
		p64[i] -= 0.01 * (m64[i]/0.19/(math.Sqrt(v64[i]/0.0975)+1e-8) + 0.1*p64[i])
	}
	k.Step(o, p, g, m, v, nil)
	near(t, k.Name+" adamw p", p, p64, 1e-5)
	near(t, k.Name+" adamw m", m, m64, 1e-5)
	near(t, k.Name+" adamw v", v, v64, 1e-5)
	near(t, k.Name+" adamw clears g", g, make([]float64, n), 0)
}

func checkRMS(t *testing.T, k *Kernels, r *rand.Rand, n int) {
	x, x64 := randoms(r, n)
	w, w64 := randoms(r, n)
	dy, dy64 := randoms(r, n)
	dx, dx64 := randoms(r, n)
	dw, dw64 := randoms(r, n)
	var ss, s float64
	for i := range n {
		ss += x64[i] * x64[i]
		s += dy64[i] * w64[i] * x64[i]
	}
	rr := 1 / math.Sqrt(ss/float64(n)+1e-5)
	for i := range n {
		dx64[i] += rr * (dy64[i]*w64[i] - x64[i]*s/float64(n)*rr*rr)
		dw64[i] += dy64[i] * x64[i] * rr
	}
	near(t, k.Name+" dot", []float32{k.Dot(x, x)}, []float64{ss}, 1e-5)
	k.RMSBackward(dx, dw, dy, x, w, float32(rr))
	near(t, k.Name+" rms dx", dx, dx64, 2e-5)
	near(t, k.Name+" rms dw", dw, dw64, 2e-5)
}

func checkLinear(t *testing.T, k *Kernels, r *rand.Rand, n int) {
	x, x64 := randoms(r, n)
	w, w64 := randoms(r, n)
	sum, scaled, product := make([]float64, n), make([]float64, n), make([]float64, n)
	for i := range n {
		sum[i], scaled[i], product[i] = x64[i]+w64[i], -0.3*x64[i], x64[i]*w64[i]*1.7
	}
	d := make([]float32, n)
	k.ScaleMul(d, x, w, 1.7)
	near(t, k.Name+" scale mul", d, product, 1e-6)
	copy(d, x)
	k.Add(d, w)
	near(t, k.Name+" add", d, sum, 1e-6)
	k.Scale(x, -0.3)
	near(t, k.Name+" scale", x, scaled, 1e-6)
}

// checkRope turns pairs forth and back, the halves of a head side by side and apart.
func checkRope(t *testing.T, k *Kernels, r *rand.Rand, n int) {
	for _, apart := range []int{0, 3} {
		v, v64 := randoms(r, 2*n+apart)
		cos, sin := make([]float32, n), make([]float32, n)
		want := append([]float64(nil), v64...)
		for i := range n {
			a := 10 * r.Float64()
			cos[i], sin[i] = float32(math.Cos(a)), float32(math.Sin(a))
			x, y := v64[i], v64[n+apart+i]
			want[i], want[n+apart+i] = x*math.Cos(a)-y*math.Sin(a), x*math.Sin(a)+y*math.Cos(a)
		}
		k.Rope(v[:n], v[n+apart:], cos, sin, 1)
		near(t, k.Name+" rope", v, want, 1e-6)
		k.Rope(v[:n], v[n+apart:], cos, sin, -1)
		near(t, k.Name+" rope back", v, v64, 1e-6)
	}
}

// A NaN or an infinity anywhere shows in every result that depends on it: a diverged model must not look like a good one.
func TestNotFiniteShows(t *testing.T) {
	for _, k := range sets(t) {
		for _, n := range []int{1, 15, 16, 50, 256} {
			for at := 0; at < n; at += 1 + n/7 {
				for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
					x := make([]float32, n)
					x[at] = bad
					if lse := k.Softmax(append([]float32(nil), x...), n, 1); lse == lse && !math.IsInf(float64(lse), 0) {
						t.Errorf("%s: softmax over %d with %v at %d gives the log-sum %v", k.Name, n, bad, at, lse)
					}
					if d := k.Dot(x, x); d == d && !math.IsInf(float64(d), 0) {
						t.Errorf("%s: dot over %d with %v at %d is %v", k.Name, n, bad, at, d)
					}
				}
				x, one, da := make([]float32, n), make([]float32, n), make([]float32, n)
				for i := range one {
					one[i], da[i] = 1, 1
				}
				x[at] = float32(math.NaN())
				e := append([]float32(nil), x...)
				k.Exp(e, n, 1, 0)
				a := make([]float32, n)
				k.SwiGLU(a, x, one)
				k.SwiGLUBackward(x, one, da)
				for name, v := range map[string][]float32{"exp": e, "swiglu": a, "swiglu dgate": x, "swiglu dup": one} {
					for i := range v {
						if isNaN := v[i] != v[i]; isNaN != (i == at) {
							t.Errorf("%s: %s over %d with a NaN at %d: value %d is %v", k.Name, name, n, at, i, v[i])
						}
					}
				}
			}
		}
	}
}

// Far from zero both sets saturate to the same values.
func TestExtremes(t *testing.T) {
	for _, k := range sets(t) {
		for _, g := range []float32{-1e30, -200, -88, -20, 20, 88, 200, 1e30} {
			gate, up, da, a := make([]float32, 17), make([]float32, 17), make([]float32, 17), make([]float32, 17)
			for i := range gate {
				gate[i], up[i], da[i] = g, 2, 3
			}
			k.SwiGLU(a, gate, up)
			k.SwiGLUBackward(gate, up, da)
			s := 1 / (1 + math.Exp(-float64(g)))
			for _, i := range []int{0, 16} { // assembly, Go
				near(t, k.Name+" swiglu", a[i:i+1], []float64{float64(g) * s * 2}, 1e-5)
				near(t, k.Name+" swiglu dup", up[i:i+1], []float64{3 * float64(g) * s}, 1e-5)
				near(t, k.Name+" swiglu dgate", gate[i:i+1], []float64{6 * s * (1 + float64(g)*(1-s))}, 1e-5)
			}
		}
		x := make([]float32, 33)
		x[3], x[32] = 300, 300
		lse := k.Softmax(x, 33, 1)
		near(t, k.Name+" lse", []float32{lse}, []float64{300 + math.Ln2}, 1e-6)
		near(t, k.Name+" softmax", []float32{x[3], x[32], x[0]}, []float64{0.5, 0.5, 0}, 1e-6)
	}
}

func BenchmarkGemm(b *testing.B) {
	for _, k := range sets(b) {
		b.Run(k.Name, func(b *testing.B) {
			const m, n, kk = 512, 512, 512
			x, y, z := make([]float32, m*kk), make([]float32, kk*n), make([]float32, m*n)
			b.ReportAllocs()
			for b.Loop() {
				k.Gemm(1, false, false, m, n, kk, x, kk, y, n, z, n, false)
			}
			b.ReportMetric(2*m*n*kk*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}
