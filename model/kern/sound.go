package kern

import (
	"fmt"
	"math"
	"sync"
)

// verdicts are the results of trial by the name of the set: it is held once a process.
var verdicts sync.Map

// sound says whether a set passes its trial on this CPU: code that was never run on such a one must not train anybody's model.
func (s set) sound() error {
	type verdict struct{ err error }
	v, ok := verdicts.Load(s.name)
	if !ok {
		v, _ = verdicts.LoadOrStore(s.name, verdict{s.trial()})
	}
	return v.(verdict).err
}

// trial computes a small product with every micro-kernel of a set, adds it once more, and runs all that works on rows: what comes out is
// compared with plain Go.
func (s set) trial() error {
	const m, n, k = 45, 70, 75 // no multiple of any tile
	kernels := &Kernels{level: s.level, half: s.half}
	x := &Mul{K: kernels, Threads: 1}
	a, b, c := make([]float32, m*k), make([]float32, n*k), make([]float32, m*n)
	ha, hb := make([]BF16, len(a)), make([]BF16, len(b))
	fill := func(f []float32, h []BF16, seed uint32) {
		for i := range f {
			seed = seed*1664525 + 1013904223 // Knuth's linear congruential generator
			h[i] = RoundBF16(float32(int32(seed)) / (1 << 31))
			f[i] = h[i].Float32()
		}
	}
	fill(a, ha, 1)
	fill(b, hb, 2)
	for _, form := range []struct{ tA, tB bool }{{false, true}, {true, false}, {false, false}} {
		lda, ldb := k, n
		if form.tA {
			lda = m
		}
		if form.tB {
			ldb = k
		}
		twice(c, func(acc bool) { x.F32(form.tA, form.tB, m, n, k, a, lda, b, ldb, c, n, acc) })
		if err := compare(c, form.tA, form.tB, m, n, k, a, lda, b, ldb); err != nil {
			return fmt.Errorf("float32 product: %w", err)
		}
		if s.half == rounded {
			continue
		}
		twice(c, func(acc bool) { x.BF16(form.tA, form.tB, m, n, k, ha, lda, hb, ldb, c, n, acc) })
		if err := compare(c, form.tA, form.tB, m, n, k, a, lda, b, ldb); err != nil {
			return fmt.Errorf("bfloat16 product: %w", err)
		}
	}
	return trialRows(kernels)
}

// twice is the mean of a product and the same one added to it.
func twice(c []float32, product func(acc bool)) {
	product(false)
	product(true)
	for i := range c {
		c[i] /= 2
	}
}

// compare checks C = op(A)·op(B) in float64.
func compare(c []float32, tA, tB bool, m, n, k int, a []float32, lda int, b []float32, ldb int) error {
	for i := range m {
		for j := range n {
			want := 0.0
			for l := range k {
				want += float64(at(tA, a, lda, i, l)[0]) * float64(at(tB, b, ldb, l, j)[0])
			}
			if got := float64(c[i*n+j]); !(math.Abs(got-want) <= 1e-4) {
				return fmt.Errorf("element %d,%d is %v instead of %v", i, j, got, want)
			}
		}
	}
	return nil
}
