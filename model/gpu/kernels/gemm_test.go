package kernels_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/standin"
	"sn3/model/kern"
)

// call launches a kernel to its end. Slices among the arguments lie on the card meanwhile; they come back as it left them.
func (b *bench) call(t rapid.TB, kernel string, grid [3]int, args ...any) {
	t.Helper()
	given, back := slices.Clone(args), []func() error{}
	err := b.run(func(r *runner) error {
		for i, a := range args {
			var err error
			switch s := a.(type) {
			case []float32:
				given[i], err = lend(r, s, 4, &back)
			case []kern.BF16:
				given[i], err = lend(r, s, 2, &back)
			}
			if err != nil {
				return err
			}
		}
		if err := r.launch(kernel, grid, given...); err != nil {
			return err
		}
		for _, f := range back {
			if err := f(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func lend[T cuda.Value](r *runner, s []T, bytes int, back *[]func() error) (cuda.Ptr, error) {
	p := r.room(max(1, len(s)*bytes))
	*back = append(*back, func() error { return cuda.Get(r.Context, s, p) })
	return p, cuda.Put(r.Context, p, s)
}

// sameInOrders fails unless f gives the same bits in every order of blocks and warps.
func (b *bench) sameInOrders(what string, f func() []float32) {
	var first []uint32
	b.orders(func(order string) {
		got := bitsOf(f())
		if first == nil {
			first = got
		}
		if !slices.Equal(first, got) {
			b.Fatalf("%s: other bits with blocks %s", what, order)
		}
	})
}

// gemm is one product C = op(A)·op(B) (+ C): the form's letters say which factor lies transposed, as in BLAS.
type gemm struct {
	form    string // nt, nn, tn
	m, n, k int
	pad     [3]int // of the rows of A, B and C
	acc     bool
}

func (g gemm) String() string {
	return fmt.Sprintf("%s %d×%d×%d, rows longer by %v, acc %v", g.form, g.m, g.n, g.k, g.pad, g.acc)
}

// rowsA … are the factors as they lie in memory.
func (g gemm) rowsA() (rows, cols int) {
	if g.form[0] == 't' {
		return g.k, g.m
	}
	return g.m, g.k
}

func (g gemm) rowsB() (rows, cols int) {
	if g.form[1] == 't' {
		return g.n, g.k
	}
	return g.k, g.n
}

// padded is a matrix with rows of cols random values, then pad that are no numbers.
func padded(r *rand.Rand, rows, cols, pad int) []kern.BF16 {
	out := make([]kern.BF16, rows*(cols+pad))
	for i := range out {
		out[i] = kern.RoundBF16(float32(math.NaN()))
		if i%(cols+pad) < cols {
			out[i] = kern.RoundBF16(float32(r.NormFloat64()))
		}
	}
	return out
}

// gemmCase is a product with its factors, what C held, and what it is to hold.
type gemmCase struct {
	gemm
	a, b []kern.BF16
	c    []float32 // bf16 values, so that both kinds of C can hold them
	want []float64
	size []float64 // Σ |a·b| of each value: what errors are measured by
}

func newGemmCase(g gemm, seed uint64) *gemmCase {
	r := rand.New(rand.NewPCG(seed, uint64(g.m*g.n+g.k)))
	rowsA, colsA := g.rowsA()
	rowsB, colsB := g.rowsB()
	x := &gemmCase{gemm: g, a: padded(r, rowsA, colsA, g.pad[0]), b: padded(r, rowsB, colsB, g.pad[1])}
	lda, ldb, ldc := colsA+g.pad[0], colsB+g.pad[1], g.n+g.pad[2]
	x.c, x.want, x.size = make([]float32, g.m*ldc), make([]float64, g.m*ldc), make([]float64, g.m*ldc)
	wa, wb := real64(widened(x.a)), real64(widened(x.b))
	for i := range x.c {
		x.c[i] = kern.RoundBF16(float32(r.NormFloat64())).Float32()
		x.want[i] = float64(x.c[i])
	}
	for i := range g.m {
		for j := range g.n {
			sum, size := 0.0, 0.0
			for l := range g.k {
				u, v := i*lda+l, l*ldb+j
				if g.form[0] == 't' {
					u = l*lda + i
				}
				if g.form[1] == 't' {
					v = j*ldb + l
				}
				sum, size = sum+wa[u]*wb[v], size+math.Abs(wa[u]*wb[v])
			}
			if g.acc {
				sum, size = sum+float64(x.c[i*ldc+j]), size+math.Abs(float64(x.c[i*ldc+j]))
			}
			x.want[i*ldc+j], x.size[i*ldc+j] = sum, size
		}
	}
	return x
}

// run computes the case with tiles of R, C float32 or bf16, and returns C with what lies between its rows.
func (x *gemmCase) run(t rapid.TB, b *bench, R int, half bool) []float32 {
	t.Helper()
	_, colsA := x.rowsA()
	_, colsB := x.rowsB()
	name, acc := "gemm_"+x.form, int32(0)
	if half {
		name += "_bf16"
	}
	if R == 64 {
		name += "_64"
	}
	if x.acc {
		acc = 1
	}
	rest := []any{x.a, x.b, int32(x.m), int32(x.n), int32(x.k), int32(colsA + x.pad[0]), int32(colsB + x.pad[1]), int32(x.n + x.pad[2]), acc}
	grid := [3]int{(x.n + R - 1) / R, (x.m + R - 1) / R, 1}
	if half {
		c := toHalves(x.c)
		b.call(t, name, grid, append([]any{c}, rest...)...)
		return widened(c)
	}
	c := slices.Clone(x.c)
	b.call(t, name, grid, append([]any{c}, rest...)...)
	return c
}

// check compares C, value by value, with float64: sumError, and C's own rounding. What lies
// between the rows of C stays.
func (x *gemmCase) check(t rapid.TB, b *bench, R int, half bool) {
	t.Helper()
	got, ldc := x.run(t, b, R, half), x.n+x.pad[2]
	for i, v := range got {
		most := x.size[i] * sumError(x.k)
		if half && i%ldc < x.n {
			most += math.Abs(x.want[i]) / 256
		}
		if d := math.Abs(float64(v) - x.want[i]); !(d <= most) {
			t.Fatalf("%v, tiles of %d, bf16 %v: value (%d,%d) is %v, want %v", x.gemm, R, half, i/ldc, i%ldc, v, x.want[i])
		}
	}
}

// gemmShapes are one value, a tile and one more or less, rows that no vector may read, no steps of k at all, more
// than one band of tiles.
var gemmShapes = [][3]int{{1, 1, 1}, {16, 8, 16}, {64, 64, 32}, {63, 65, 31}, {65, 63, 33}, {128, 128, 64}, {129, 127, 40}, {5, 150, 96}, {200, 7, 65}, {3, 4, 0}, {700, 130, 16}, {1200, 70, 3}}

func TestGEMM(t *testing.T) {
	b := on(t, "gemm.cu")
	for _, form := range []string{"nt", "nn", "tn"} {
		for i, s := range gemmShapes {
			for _, R := range []int{64, 128} {
				for _, half := range []bool{false, true} {
					pad := [][3]int{{}, {8, 16, 8}, {1, 3, 5}}[(i+R/64)%3]
					newGemmCase(gemm{form, s[0], s[1], s[2], pad, (i+R/64)%2 == 0 == half}, 1).check(t, b, R, half)
				}
			}
		}
	}
}

func TestGEMMDrawn(t *testing.T) {
	b := on(t, "gemm.cu")
	rapid.Check(t, func(rt *rapid.T) {
		n := func(name string, most int) int { return rapid.IntRange(0, most).Draw(rt, name) }
		g := gemm{form: rapid.SampledFrom([]string{"nt", "nn", "tn"}).Draw(rt, "form"), m: 1 + n("m", 140), n: 1 + n("n", 140), k: n("k", 70),
			pad: [3]int{n("pad A", 9), n("pad B", 9), n("pad C", 9)}, acc: rapid.Bool().Draw(rt, "acc")}
		newGemmCase(g, rapid.Uint64().Draw(rt, "seed")).check(rt, b, rapid.SampledFrom([]int{64, 128}).Draw(rt, "R"), rapid.Bool().Draw(rt, "bf16"))
	})
}

// The same bits whatever the order of blocks and warps.
func TestGEMMOrders(t *testing.T) {
	b := on(t, "gemm.cu")
	for _, form := range []string{"nt", "nn", "tn"} {
		x := newGemmCase(gemm{form, 150, 140, 100, [3]int{8, 0, 1}, true}, 2)
		for _, R := range []int{64, 128} {
			b.sameInOrders("gemm "+form, func() []float32 { return x.run(t, b, R, false) })
		}
	}
}

// What is no number in a row of A or a column of B shows there, in all of it, and nowhere else.
func TestGEMMSpecial(t *testing.T) {
	b := on(t, "gemm.cu")
	for _, form := range []string{"nt", "nn", "tn"} {
		for _, bad := range []float64{math.NaN(), math.Inf(1)} {
			x := newGemmCase(gemm{form, 70, 75, 40, [3]int{}, false}, 3)
			const row, col, l = 9, 66, 17
			u, v := row*x.k+l, l*x.n+col
			if form == "tn" {
				u = l*x.m + row
			}
			if form == "nt" {
				v = col*x.k + l
			}
			x.a[u], x.b[v] = kern.RoundBF16(float32(bad)), kern.RoundBF16(float32(-bad))
			for i, c := range x.run(t, b, 64, true) {
				if got, want := c-c != 0, i/x.n == row || i%x.n == col; got != want {
					t.Fatalf("%s of %v: value (%d,%d) is %v", form, bad, i/x.n, i%x.n, c)
				}
			}
		}
	}
}

// The CPU's product of the same bf16 factors differs only in the order of its sums, and in C's rounding.
func TestGEMMAndCPU(t *testing.T) {
	b := on(t, "gemm.cu")
	most := 2e-6
	if standin.Real() {
		most += sumError(200)
	}
	for _, form := range []string{"nt", "nn", "tn"} {
		for _, R := range []int{64, 128} {
			for _, rounded := range []bool{false, true} {
				x := newGemmCase(gemm{form, 70, 90, 200, [3]int{}, true}, 4)
				_, colsA := x.rowsA()
				_, colsB := x.rowsB()
				got, bounds := x.run(t, b, R, rounded), times(most, x.size)
				for name, k := range kernelSets(t) {
					mul, c, bounds := kern.Mul{K: k, Threads: 1}, slices.Clone(x.c), bounds
					mul.BF16(form[0] == 't', form[1] == 't', x.m, x.n, x.k, x.a, colsA, x.b, colsB, c, x.n, true)
					if rounded {
						bounds = half(real64(c), bounds)
					}
					bounded(t, fmt.Sprint(x.gemm, ", tiles of ", R, ", and ", name), got, real64(c), bounds)
				}
			}
		}
	}
}
