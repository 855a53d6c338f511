package kern

import (
	"math"
	"slices"
	"testing"
)

// sets are the kernels that this CPU can run, of these names or all. Select would leave out one that computes wrongly.
func sets(t testing.TB, names ...string) []*Kernels {
	t.Helper()
	var out []*Kernels
	for _, s := range slices.Backward(choices) {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		if s.missing() != "" {
			_, err := Select(s.name)
			t.Logf("skipped: %v", err)
			continue
		}
		out = append(out, &Kernels{Name: s.name, Why: "forced", level: s.level, half: s.half})
	}
	return out
}

func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	for i := range want {
		if d := math.Abs(float64(got[i]) - want[i]); !(d <= tol*(1+math.Abs(want[i]))) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
		}
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
				k.ExpSum(e, 1, 0)
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
			for _, i := range []int{0, 16} { // in a whole vector, in the rest
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
