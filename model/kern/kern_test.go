package kern

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
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

func TestGemmAgainstGonumFloat64(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, k := range sets(t) {
		for range 60 {
			m, n, kk := 1+r.IntN(70), 1+r.IntN(90), 1+r.IntN(300)
			tA, tB, acc, threads := r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(2) == 0, 1+r.IntN(3)
			lda, ldb, ldc := kk, n, n+r.IntN(5)
			ra, rb := m, kk
			bt := func(x bool) blas.Transpose {
				if x {
					return blas.Trans
				}
				return blas.NoTrans
			}
			if tA {
				lda, ra = m, kk
			}
			if tB {
				ldb, rb = kk, n
			}
			a, a64 := randoms(r, ra*lda)
			b, b64 := randoms(r, rb*ldb)
			c, c64 := randoms(r, m*ldc)
			beta := 0.0
			if acc {
				beta = 1
			}
			gonum.Implementation{}.Dgemm(bt(tA), bt(tB), m, n, kk, 1, a64, lda, b64, ldb, beta, c64, ldc)
			k.Gemm(threads, tA, tB, m, n, kk, a, lda, b, ldb, c, ldc, acc)
			near(t, k.Name, c, c64, 1e-4)
		}
	}
}

// The same bits for any number of threads.
func TestGemmThreads(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	for _, k := range sets(t) {
		a, _ := randoms(r, 130*300)
		b, _ := randoms(r, 300*700)
		one, four := make([]float32, 130*700), make([]float32, 130*700)
		k.Gemm(1, false, false, 130, 700, 300, a, 300, b, 700, one, 700, false)
		k.Gemm(4, false, false, 130, 700, 300, a, 300, b, 700, four, 700, false)
		for i := range one {
			if one[i] != four[i] {
				t.Fatalf("%s: value %d differs with threads", k.Name, i)
			}
		}
	}
}

func TestBLASContract(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, k := range sets(t) {
		for _, ab := range [][2]float32{{1, 0}, {1, 1}, {0.5, 2}} {
			a, a64 := randoms(r, 33*20)
			b, b64 := randoms(r, 20*35)
			c, c64 := randoms(r, 33*35)
			BLAS{K: k}.Sgemm(blas.NoTrans, blas.NoTrans, 33, 35, 20, ab[0], a, 20, b, 35, ab[1], c, 35)
			gonum.Implementation{}.Dgemm(blas.NoTrans, blas.NoTrans, 33, 35, 20, float64(ab[0]), a64, 20, b64, 35, float64(ab[1]), c64, 35)
			near(t, k.Name, c, c64, 1e-4)
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
	k.Step(o, p, g, m, v)
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
