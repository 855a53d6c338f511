package kern

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/gonum"
	"pgregory.net/rapid"
)

// gemmCase is one call of Sgemm.
type gemmCase struct {
	tA, tB        blas.Transpose
	m, n, k       int
	lda, ldb, ldc int
	alpha, beta   float32
	a, b, c       []float32
}

func (g *gemmCase) call(b blas.Float32Level3, c []float32) {
	b.Sgemm(g.tA, g.tB, g.m, g.n, g.k, g.alpha, g.a, g.lda, g.b, g.ldb, g.beta, c, g.ldc)
}

// float64s is what the call gives in float64, and the sum of the magnitudes that went into each element.
func (g *gemmCase) float64s() (want, most []float64) {
	wide := func(x []float32) []float64 {
		out := make([]float64, len(x))
		for i, v := range x {
			out[i] = float64(v)
		}
		return out
	}
	a, b, c := wide(g.a), wide(g.b), wide(g.c)
	want, most = slices.Clone(c), make([]float64, len(c))
	gonum.Implementation{}.Dgemm(g.tA, g.tB, g.m, g.n, g.k, float64(g.alpha), a, g.lda, b, g.ldb, float64(g.beta), want, g.ldc)
	for _, x := range [][]float64{a, b} {
		for i := range x {
			x[i] = math.Abs(x[i])
		}
	}
	gonum.Implementation{}.Dgemm(g.tA, g.tB, g.m, g.n, g.k, math.Abs(float64(g.alpha)), a, g.lda, b, g.ldb, 0, most, g.ldc)
	for i := range most {
		most[i] += math.Abs(float64(g.beta) * c[i])
	}
	return want, most
}

func drawGemm(t *rapid.T) *gemmCase {
	n := func(name string, hi int) int { return rapid.IntRange(0, hi).Draw(t, name) }
	op := rapid.SampledFrom([]blas.Transpose{blas.NoTrans, blas.Trans, blas.ConjTrans})
	g := &gemmCase{tA: op.Draw(t, "tA"), tB: op.Draw(t, "tB"), m: n("m", 200), n: n("n", 230), k: n("k", 300),
		alpha: rapid.SampledFrom([]float32{1, 1, 1, 0, -1, 0.5}).Draw(t, "alpha"), beta: rapid.SampledFrom([]float32{0, 0, 1, 1, 2, -0.25}).Draw(t, "beta")}
	ra, ca, rb, cb := g.m, g.k, g.k, g.n
	if g.tA != blas.NoTrans {
		ra, ca = ca, ra
	}
	if g.tB != blas.NoTrans {
		rb, cb = cb, rb
	}
	g.lda, g.ldb, g.ldc = max(1, ca)+n("more lda", 5), max(1, cb)+n("more ldb", 5), max(1, g.n)+n("more ldc", 5)
	seed := rapid.Uint64().Draw(t, "seed")
	fill := func(rows, ld, cols int) []float32 { // as short as the contract allows
		x := make([]float32, max(0, (rows-1)*ld+cols))
		for i := range x {
			seed = seed*6364136223846793005 + 1442695040888963407
			x[i] = float32(int32(seed>>32)) / (1 << 30)
		}
		return x
	}
	g.a, g.b, g.c = fill(ra, g.lda, ca), fill(rb, g.ldb, cb), fill(g.m, g.ldc, g.n)
	return g
}

// Every set is a blas.Float32: odd shapes, all transposes, alpha and beta, leading dimensions, slices of the least length. With
// beta 0 what was in C does not matter, between its rows nothing is touched, and the bits do not depend on the threads.
func TestSgemmContract(t *testing.T) {
	for _, k := range sets(t) {
		t.Run(k.Name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				g := drawGemm(rt)
				want, most := g.float64s()
				if g.beta == 0 {
					for i := range g.m {
						for j := range g.n {
							g.c[i*g.ldc+j] = float32(math.NaN())
						}
					}
				}
				got, again := slices.Clone(g.c), slices.Clone(g.c)
				g.call(BLAS{K: k}, got)
				g.call(BLAS{K: k, Threads: 4}, again)
				for i, x := range got {
					if math.Float32bits(x) != math.Float32bits(again[i]) {
						rt.Fatalf("element %d is %v on one goroutine, %v on four", i, x, again[i])
					}
					if i%g.ldc >= g.n {
						if x != g.c[i] {
							rt.Fatalf("element %d, between the rows, was touched", i)
						}
						continue
					}
					if off := math.Abs(float64(x) - want[i]); !(off <= eps32*float64(g.k+4)*most[i]) { // products added one by one, α and β
						rt.Fatalf("%+v: element %d is %v, want %v", *g, i, x, want[i])
					}
				}
			})
		})
	}
}

// What gonum refuses by a panic is refused by the same one, before anything is written.
func TestSgemmRefusesAsGonumDoes(t *testing.T) {
	type change func(g *gemmCase)
	for name, harm := range map[string]change{
		"tA": func(g *gemmCase) { g.tA = 'x' }, "tB": func(g *gemmCase) { g.tB = 0 }, "m": func(g *gemmCase) { g.m = -1 }, "n": func(g *gemmCase) { g.n = -1 },
		"k": func(g *gemmCase) { g.k = -1 }, "lda": func(g *gemmCase) { g.lda-- }, "ldb": func(g *gemmCase) { g.ldb-- }, "ldc": func(g *gemmCase) { g.ldc-- },
		"short a": func(g *gemmCase) { g.a = g.a[1:] }, "short b": func(g *gemmCase) { g.b = g.b[1:] }, "short c": func(g *gemmCase) { g.c = g.c[1:] }, "no c": func(g *gemmCase) { g.c = nil },
	} {
		for _, k := range sets(t) {
			g := &gemmCase{tA: blas.NoTrans, tB: blas.NoTrans, m: 30, n: 70, k: 9, lda: 9, ldb: 70, ldc: 70, alpha: 1, a: make([]float32, 270), b: make([]float32, 630), c: make([]float32, 2100)}
			harm(g)
			said := func(b blas.Float32Level3) (what string) {
				defer func() { what = fmt.Sprint(recover()) }()
				g.call(b, g.c)
				return ""
			}
			if want, got := said(gonum.Implementation{}), said(BLAS{K: k}); got != want || want == "<nil>" {
				t.Errorf("%s, %s: %q, gonum says %q", k.Name, name, got, want)
			}
		}
	}
}

// The contract is blas32's: a product of blas32 matrices runs on our kernels.
func TestBlas32Use(t *testing.T) {
	old := blas32.Implementation()
	defer blas32.Use(old)
	for _, k := range sets(t) {
		blas32.Use(BLAS{K: k, Threads: 2})
		a := blas32.General{Rows: 2, Cols: 3, Stride: 3, Data: []float32{1, 2, 3, 4, 5, 6}}
		c := blas32.General{Rows: 3, Cols: 3, Stride: 4, Data: make([]float32, 12)}
		blas32.Gemm(blas.Trans, blas.NoTrans, 1, a, a, 0, c)
		if want := []float32{17, 22, 27, 0, 22, 29, 36, 0, 27, 36, 45, 0}; !slices.Equal(c.Data, want) {
			t.Errorf("%s: %v, want %v", k.Name, c.Data, want)
		}
	}
}

// Gemm called directly does not write beyond a C that is too short: the assembly itself would.
func TestGemmLooksAtC(t *testing.T) {
	for _, k := range sets(t) {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: a short C was accepted", k.Name)
				}
			}()
			k.Gemm(1, false, false, 14, 32, 3, make([]float32, 42), 3, make([]float32, 96), 32, make([]float32, 14*32-1), 32, false)
		}()
	}
}
