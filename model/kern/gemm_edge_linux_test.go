package kern

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// No product reads or writes beyond its matrices, of whatever form: at the first and at the last byte of mapped memory, the next
// one would end the process. The last row ends with its last value, not with the leading dimension.
func TestMulAtTheEdge(t *testing.T) {
	pages := [3][]byte{between(t), between(t), between(t)}
	for name, way := range ways() {
		r, x := rand.New(rand.NewPCG(31, 32)), &Mul{Threads: 2}
		for form := range 8 {
			for _, s := range [][3]int{{1, 1, 1}, {14, 32, 16}, {28, 32, 28}, {29, 31, 30}, {13, 33, 27}, {29, 30, 31}, {3, 5, 120}, {5, 3, 121}} {
				p := newProduct(r, s[0], s[1], s[2], form&1 > 0, form&2 > 0, form&4 > 0)
				for _, end := range []bool{false, true} {
					q, c := *p, place(pages[2], p.c0[:(p.m-1)*p.ldc+p.n], end)
					rows := func(tr bool, rows, cols, ld int) int {
						if tr {
							rows, cols = cols, rows
						}
						return (rows-1)*ld + cols
					}
					a, b := rows(p.tA, p.m, p.k, p.lda), rows(p.tB, p.k, p.n, p.ldb)
					q.a, q.b = place(pages[0], p.a[:a], end), place(pages[1], p.b[:b], end)
					if strings.Contains(name, "amx") || strings.Contains(name, "bf16") {
						q.ah, q.bh = place(pages[0], p.ah[:a], end), place(pages[1], p.bh[:b], end)
					}
					way(x, &q, c)
					p.check(t, name, func(all []float32) { copy(all, c) })
				}
			}
		}
	}
}

// Nor does a product of panels, nor the packing of them.
func TestPanelsAtTheEdge(t *testing.T) {
	pages := [2][]byte{pagesBetween(t, 4), pagesBetween(t, 4)}
	r := rand.New(rand.NewPCG(33, 34))
	for name, w := range panelWays() {
		x, p := &Mul{}, &Panels{}
		for form := range 16 {
			for range 12 {
				lay := func(i int) func(f []float32, h []BF16) ([]float32, []BF16) {
					return func(f []float32, h []BF16) ([]float32, []BF16) {
						if f != nil {
							return place(pages[i], f, form&8 > 0), nil
						}
						return nil, place(pages[i], h, form&8 > 0)
					}
				}
				c := &panelCase{m: 1 + r.IntN(45), k: 1 + r.IntN(64), n: 1 + r.IntN(60), slice: 2 + 2*r.IntN(32), tA: form&1 > 0, tB: form&2 > 0, acc: form&4 > 0,
					moreA: r.IntN(3), moreB: r.IntN(3), layA: lay(0), layB: lay(1), seed: r.Uint64()}
				c.part = Part{Slice: r.IntN(ceil(c.k, c.slice)), Cols: Band{To: r.IntN(40) - 5, Upper: r.IntN(2) > 0}, Steps: Band{From: r.IntN(40) - 20, Lower: r.IntN(2) > 0}}
				if err := c.run(w, x, p); err != nil {
					t.Fatalf("%s, %v: %v", name, c, err)
				}
			}
		}
	}
}

// The micro-kernels that read A as it lies read a panel's lines of it and no value more; their bits are those of the packed one.
func TestLyingAAtTheEdge(t *testing.T) {
	pages := [3][]byte{between(t), between(t), between(t)}
	r := rand.New(rand.NewPCG(35, 36))
	for _, set := range choices {
		s := (&Kernels{level: set.level, half: set.half}).shape(set.half != rounded)
		if set.missing() != "" || s.rows == nil {
			continue
		}
		for steps := 1; steps <= 9; steps++ {
			for _, end := range []bool{false, true} {
				packed, b := words(r, s.per, s.mr*steps), place(pages[1], words(r, s.per, s.nr*steps), end)
				across, want := make([]float32, len(packed)), make([]float32, s.mr*s.nr)
				for i, x := range packed {
					across[i%s.mr*steps+i/s.mr] = x
				}
				s.kernel(steps, &packed[0], &b[0], &want[0], s.nr*4, 0)
				check := func(by func(k int, a, b, c *float32, ldcBytes, acc, aBytes int), a []float32, ld int) {
					a = place(pages[0], a, end)
					c := place(pages[2], make([]float32, s.mr*s.nr), end)
					if by(steps, &a[0], &b[0], &c[0], s.nr*4, 0, ld*4); !slices.Equal(c, want) {
						t.Errorf("%s, %d steps, %d apart: other values than packed", set.name, steps, ld)
					}
				}
				check(s.rows, across, steps)
				if s.cols != nil {
					check(s.cols, packed, s.mr)
				}
			}
		}
	}
}

// words are n random values, or pairs of bfloat16.
func words(r *rand.Rand, per, n int) (v []float32) {
	for range n {
		x := float32(r.NormFloat64())
		if per == 2 {
			x = math.Float32frombits(uint32(RoundBF16(x))<<16 | uint32(RoundBF16(-x/3)))
		}
		v = append(v, x)
	}
	return v
}
