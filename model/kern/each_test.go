package kern

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// collector puts rows together, and spoils what it was lent.
type collector struct {
	mu   sync.Mutex
	c    []float32
	n    int
	seen []int
}

func (o *collector) Rows(_, from, to int, c []float32, ldc int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for r := from; r < to; r++ {
		row := c[(r-from)*ldc:][:o.n]
		copy(o.c[r*o.n:], row)
		clear(row)
		o.seen[r]++
	}
}

// Rows handed over are those of the product, bit for bit, each once; also where it does not fit one region.
func TestRowsAreTheProduct(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	shapes := [][3]int{{1, 1, 1}, {14, 32, 16}, {61, 33, 70}, {200, 40, 300}, {530, 9, 20}, {700, 64, 31}, {20, 2100, 2100}, {9, 5, 9000}}
	for name, sets := range map[string]*Kernels{"portable": {}, "avx2": {level: avx2}, "avx512": {level: avx512}, "avx512bf16": {level: avx512, half: vdp}, "amx": {level: avx512, half: amx}} {
		if (set{level: sets.level, half: sets.half}).missing() != "" {
			continue
		}
		for _, s := range shapes {
			p := randomProduct(r, s[0], s[1], s[2])
			p.acc, p.ldc = false, p.n
			for _, threads := range []int{1, 3} {
				x, c := &Mul{K: sets, Threads: threads}, make([]float32, p.m*p.n)
				got := &collector{c: make([]float32, p.m*p.n), n: p.n, seen: make([]int, p.m)}
				if sets.half != rounded {
					x.BF16(p.tA, p.tB, p.m, p.n, p.k, p.ah, p.lda, p.bh, p.ldb, c, p.n, false)
					x.BF16Rows(p.tA, p.tB, p.m, p.n, p.k, p.ah, p.lda, p.bh, p.ldb, got)
				} else {
					x.F32(p.tA, p.tB, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, c, p.n, false)
					x.F32Rows(p.tA, p.tB, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, nil, 0, got)
					at := &collector{c: make([]float32, p.m*p.n), n: p.n, seen: make([]int, p.m)}
					place := make([]float32, p.m*(p.n+3))
					x.F32Rows(p.tA, p.tB, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, place, p.n+3, at)
					if !slices.Equal(c, at.c) || slices.Max(at.seen) != 1 {
						t.Errorf("%s %v, %d threads: other values in place", name, s, threads)
					}
				}
				if !slices.Equal(c, got.c) {
					t.Errorf("%s %v, %d threads: other values", name, s, threads)
				}
				if slices.Max(got.seen) != 1 || slices.Min(got.seen) != 1 {
					t.Errorf("%s %v, %d threads: a row was not handed over once", name, s, threads)
				}
			}
		}
	}
}
