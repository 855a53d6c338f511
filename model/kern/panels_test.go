package kern

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// panelWay is a set of kernels for products with panels.
type panelWay struct {
	k     *Kernels
	bf16  bool
	shape shape
}

// panelWays are those that this CPU can run, and the tiles of AMX on any CPU with AVX-512 for packing.
func panelWays() map[string]panelWay {
	out := map[string]panelWay{}
	for _, s := range choices {
		k := &Kernels{Name: s.name, level: s.level, half: s.half}
		if s.missing() == "" {
			out[s.name] = panelWay{k, k.Half(), k.shape(k.Half())}
		}
		if s.half == amx && features().avx512 {
			w := panelWay{k, true, k.shape(true)}
			w.shape.kernel = tilesInGo
			out["amx, emulated"] = w
		}
	}
	return out
}

// panelCase is op(A)·op(B) of a part of packed panels.
type panelCase struct {
	m, k, n, slice         int
	tA, tB, acc, far       bool // far: A's rows are multiples of 2 KB apart, so that it is packed
	moreA, moreB, moreC    int  // leading dimensions beyond the least
	part                   Part
	seed                   uint64
	layA, layB             func(f []float32, h []BF16) ([]float32, []BF16) // where A and B are put
	a, b, c                []float32
	ha, hb                 []BF16
	lda, ldb, ldc          int
	steps, cols, mr, reach int // steps of the slice, columns of the part, rows of a panel, columns of C that there is room for
}

func drawBand(t *rapid.T, name string) Band {
	b := Band{From: rapid.IntRange(-150, 200).Draw(t, name+" from"), Lower: rapid.Bool().Draw(t, name+" lower"), Upper: rapid.Bool().Draw(t, name+" upper")}
	if rapid.Bool().Draw(t, name+" all") {
		return Band{}
	}
	if b.To = rapid.IntRange(-150, 300).Draw(t, name+" to"); !b.Upper {
		b.To = max(0, b.To)
	}
	return b
}

func drawPanels(t *rapid.T) *panelCase {
	c := &panelCase{m: rapid.IntRange(1, 70).Draw(t, "m"), n: rapid.IntRange(1, 110).Draw(t, "n"), slice: 2 * rapid.IntRange(1, 256).Draw(t, "half a slice"),
		tA: rapid.Bool().Draw(t, "tA"), tB: rapid.Bool().Draw(t, "tB"), acc: rapid.Bool().Draw(t, "acc"), far: rapid.IntRange(0, 9).Draw(t, "far") == 0,
		moreA: rapid.IntRange(0, 5).Draw(t, "more lda"), moreB: rapid.IntRange(0, 5).Draw(t, "more ldb"), moreC: rapid.IntRange(0, 40).Draw(t, "more ldc"),
		seed: rapid.Uint64().Draw(t, "seed")}
	c.k = rapid.IntRange(1, 3*c.slice).Draw(t, "k")
	c.part = Part{Slice: rapid.IntRange(0, (c.k-1)/c.slice).Draw(t, "slice"), Col: BandUnit * rapid.IntRange(0, (c.n-1)/BandUnit).Draw(t, "col"),
		N: rapid.IntRange(0, c.n).Draw(t, "N"), Cols: drawBand(t, "columns"), Steps: drawBand(t, "steps")}
	return c
}

// want is the band of rows [r, r+mr) as Part says it.
func (c *panelCase) want(b Band, r, end int) (from, to int) {
	low, high := float64(b.From), float64(end)
	if b.Lower {
		low += float64(r)
	}
	if b.Upper {
		high = float64(b.To + r + c.mr)
	} else if b.To > 0 {
		high = float64(b.To)
	}
	return max(0, int(math.Floor(low/BandUnit)*BandUnit)), min(end, int(math.Ceil(high/BandUnit)*BandUnit))
}

// fill makes the operands: NaN where nothing should be read or counted.
func (c *panelCase) fill() {
	r := rand.New(rand.NewPCG(c.seed, 8))
	nan := float32(math.NaN())
	matrix := func(t bool, rows, cols, more int, far bool, live func(row, col int) bool) (f []float32, h []BF16, ld int) {
		at := func(i, j int) int { return i*ld + j }
		if t {
			at = func(i, j int) int { return j*ld + i }
			rows, cols = cols, rows
		}
		if ld = cols + more; far {
			ld = ceil(cols, 1024) * 1024
		}
		f, h = slices.Repeat([]float32{nan}, (rows-1)*ld+cols), make([]BF16, (rows-1)*ld+cols)
		if t {
			rows, cols = cols, rows
		}
		for i := range rows {
			for j := range cols {
				if live(i, j) {
					f[at(i, j)] = RoundBF16(float32(r.NormFloat64())).Float32()
				}
			}
		}
		for i, x := range f {
			h[i] = RoundBF16(x)
		}
		return f, h, ld
	}
	c.steps, c.cols = min(c.slice, c.k-c.part.Slice*c.slice), c.n-c.part.Col
	if c.part.N > 0 {
		c.cols = min(c.cols, c.part.N)
	}
	c.a, c.ha, c.lda = matrix(c.tA, c.m, c.steps, c.moreA, c.far, func(row, step int) bool {
		from, to := c.want(c.part.Steps, row/c.mr*c.mr, c.steps)
		return step >= from && step < to
	})
	first := c.part.Slice * c.slice
	c.b, c.hb, c.ldb = matrix(c.tB, c.k, c.n, c.moreB, false, func(step, _ int) bool { return step >= first && step < first+c.steps })
	c.reach = ceil(c.cols, BandUnit) * BandUnit
	c.ldc = c.reach + c.moreC
	c.c = slices.Repeat([]float32{math.Float32frombits(guardBits)}, guardLen+ceil(c.m, c.mr)*c.mr*c.ldc+guardLen)
	for i := range c.m {
		from, to := c.want(c.part.Cols, i/c.mr*c.mr, c.cols)
		for j := from; j < to && c.acc; j++ {
			c.c[guardLen+i*c.ldc+j] = float32(r.NormFloat64())
		}
	}
}

// run packs and multiplies on x and p, whose memory is poisoned: all of what PanelsSize says is packed, and nothing else.
func (c *panelCase) run(w panelWay, x *Mul, p *Panels) error {
	c.mr = w.k.PanelRows(w.bf16)
	c.fill()
	a, b := Matrix{F: c.a, LD: c.lda, T: c.tA}, Matrix{F: c.b, LD: c.ldb, T: c.tB}
	if w.bf16 {
		a, b = Matrix{H: c.ha, LD: c.lda, T: c.tA}, Matrix{H: c.hb, LD: c.ldb, T: c.tB}
	}
	if c.layA != nil {
		a.F, a.H = c.layA(a.F, a.H)
		b.F, b.H = c.layB(b.F, b.H)
	}
	size := w.k.PanelsSize(w.bf16, c.k, c.n, c.slice)
	p.data = poisoned(max(cap(p.data), size))
	for i := range x.own {
		x.own[i].part = poisoned(cap(x.own[i].part))
	}
	x.K = w.k
	x.Pack(p, b, c.k, c.n, c.slice)
	for i, v := range p.data[:cap(p.data)] {
		if clean := math.Float32bits(v) == guardBits; clean != (i >= size) {
			return fmt.Errorf("PanelsSize is %d values, of which %d is packed: %v", size, i, !clean)
		}
	}
	was := slices.Clone(c.c)
	to := c.c[guardLen:][:(ceil(c.m, c.mr)*c.mr-1)*c.ldc+c.reach]
	x.times(w.shape, a, c.m, p, c.part, slices.Clip(to), c.ldc, c.acc)
	return c.compare(was)
}

// poisoned is memory that nothing should be computed from.
func poisoned(n int) []float32 { return slices.Repeat([]float32{math.Float32frombits(guardBits)}, n) }

// compare checks what was computed in float64, and that nothing else was written than whole tiles of it.
func (c *panelCase) compare(was []float32) error {
	for i, got := range c.c {
		row, col := (i-guardLen)/c.ldc, (i-guardLen)%c.ldc
		if i < guardLen || row >= ceil(c.m, c.mr)*c.mr {
			row, col = 0, math.MaxInt
		}
		panel := row / c.mr * c.mr
		from, to := c.want(c.part.Cols, panel, c.cols)
		if col < from || col >= ceil(to, BandUnit)*BandUnit {
			if math.Float32bits(got) != math.Float32bits(was[i]) {
				return fmt.Errorf("C is written at value %d, row %d, column %d of [%d, %d)", i-guardLen, row, col, from, to)
			}
			continue
		}
		if row >= c.m || col >= to {
			continue
		}
		want := 0.0
		if c.acc {
			want = float64(was[i])
		}
		size := math.Abs(want)
		s0, s1 := c.want(c.part.Steps, panel, c.steps)
		for s := s0; s < s1; s++ {
			x := float64(at(c.tA, c.a, c.lda, row, s)[0]) * float64(at(c.tB, c.b, c.ldb, c.part.Slice*c.slice+s, c.part.Col+col)[0])
			want, size = want+x, size+math.Abs(x)
		}
		if tol := 2 * eps32 * float64(c.steps+2) * size; !(math.Abs(float64(got)-want) <= tol) { // one by one, or pairs that are rounded first
			return fmt.Errorf("C[%d,%d] = %v, want %v", row, col, got, want)
		}
	}
	return nil
}

func (c *panelCase) String() string {
	return fmt.Sprintf("%d×%d×%d in slices of %d, tA %v, tB %v, acc %v, far %v, %+v", c.m, c.n, c.k, c.slice, c.tA, c.tB, c.acc, c.far, c.part)
}

// Any part of any panels is the product in float64: of all forms, in bands, with what is left of others in the memory; of C nothing
// is written but whole tiles of the band.
func TestPanelsAgainstFloat64(t *testing.T) {
	for name, w := range panelWays() {
		t.Run(name, func(t *testing.T) {
			var x Mul
			var p Panels
			for round := 0; round < 10 && !t.Failed() && (round == 0 || !testing.Short()); round++ { // so many cases are rare
				rapid.Check(t, func(rt *rapid.T) {
					c := drawPanels(rt)
					if err := c.run(w, &x, &p); err != nil {
						rt.Fatalf("%v: %v", c, err)
					}
				})
			}
		})
	}
}

// Packing again and multiplying takes no memory.
func TestPanelsDoNotAllocate(t *testing.T) {
	for name, w := range panelWays() {
		if name == "portable" || name == "amx, emulated" {
			continue
		}
		for _, tA := range []bool{false, true} {
			c, x, p := &panelCase{m: 61, k: 300, n: 70, slice: 256, tA: tA, part: Part{Steps: Band{To: 20, Upper: true}}}, &Mul{}, &Panels{}
			if err := c.run(w, x, p); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			a, b, to := Matrix{F: c.a, LD: c.lda, T: tA}, Matrix{F: c.b, LD: c.ldb}, c.c[guardLen:]
			if w.bf16 {
				a, b = Matrix{H: c.ha, LD: c.lda, T: tA}, Matrix{H: c.hb, LD: c.ldb}
			}
			if got := testing.AllocsPerRun(20, func() {
				x.Pack(p, b, c.k, c.n, c.slice)
				x.Times(a, c.m, p, c.part, to, c.ldc, false)
			}); got != 0 {
				t.Errorf("%s, A transposed %v: %v allocations", name, tA, got)
			}
		}
	}
}

// Factors that are too short, and a C without room for whole tiles, are an index out of range.
func TestPanelsShortSlices(t *testing.T) {
	for name, w := range panelWays() {
		m := w.shape.mr
		if name == "portable" {
			m = 5
		}
		for what, f := range map[string]func(x *Mul, a, b, c []float32){
			"A": func(x *Mul, a, b, c []float32) { times(x, w, m, a[:len(a)-1], b, c) },
			"B": func(x *Mul, a, b, c []float32) { times(x, w, m, a, b[:len(b)-1], c) },
			"C": func(x *Mul, a, b, c []float32) { times(x, w, m, a, b, c[:len(c)-1]) },
		} {
			if !panics(func() { f(&Mul{K: w.k}, make([]float32, m*8), make([]float32, 8*32), make([]float32, m*32)) }) {
				t.Errorf("%s: a short %s was accepted", name, what)
			}
		}
	}
}

// times is a product of m×8 and 8×32.
func times(x *Mul, w panelWay, m int, a, b, c []float32) {
	fa, fb := Matrix{F: a, LD: 8}, Matrix{F: b, LD: 32}
	if w.bf16 {
		fa, fb = Matrix{H: rounded16(a), LD: 8}, Matrix{H: rounded16(b), LD: 32}
	}
	var p Panels
	x.Pack(&p, fb, 8, 32, 8)
	x.times(w.shape, fa, m, &p, Part{}, slices.Clip(c), 32, false)
}
