package kern

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// desk lays out what a kernel works on: rows at odd places, oddly far apart, with guards before, between and after them; or, with
// pages, at the edge of mapped memory. It keeps the first thing that is wrong, and the bits of all that was computed.
type desk struct {
	r     *rand.Rand
	odd   func() int
	pages [][]byte // one for each grid
	end   bool     // at the end of its page
	bad   float32  // one value of
	badAt int      // this grid, counted from 1

	grids []interface{ harmed() error }
	bits  []uint32
	err   error
}

// grid is rows of n values, ld apart; v begins with the first and ends with the last.
type grid[T float32 | BF16] struct {
	name     string
	all, was []T
	v        []T
	off      int
	n, ld    int
}

// place copies v to the first or the last bytes of a page.
func place[T any](page []byte, v []T, end bool) []T {
	all := unsafe.Slice((*T)(unsafe.Pointer(&page[0])), len(page)/int(unsafe.Sizeof(v[0])))
	if end {
		all = all[len(all)-len(v):]
	}
	return slices.Clip(all[:copy(all, v)])
}

const guardBF16 = BF16(0x7F81) // a NaN, as guardBits is

func newGrid[T float32 | BF16](d *desk, name string, rows, n, ld int, guard T, value func() T) *grid[T] {
	size := (rows-1)*ld + n
	g := &grid[T]{name: name, n: n, ld: ld}
	if d.pages != nil {
		g.all = place(d.pages[len(d.grids)], make([]T, size), d.end)
	} else {
		g.off = guardLen + d.odd()
		g.all = make([]T, g.off+size+guardLen)
	}
	for i := range g.all {
		g.all[i] = guard
	}
	g.v = g.all[g.off : g.off+size : g.off+size]
	for i := range g.v {
		if i%ld < n {
			g.v[i] = value()
		}
	}
	d.grids = append(d.grids, g)
	return g
}

// floats are rows of random values, ld apart; 0: oddly far.
func (d *desk) floats(name string, rows, n, ld int) *grid[float32] {
	if ld == 0 {
		ld = n + d.odd()
	}
	g := newGrid(d, name, rows, n, ld, math.Float32frombits(guardBits), func() float32 { return float32(d.r.NormFloat64()) })
	if len(d.grids) == d.badAt {
		g.v[d.r.IntN(rows)*ld+d.r.IntN(n)] = d.bad
	}
	g.was = slices.Clone(g.all)
	return g
}

func (d *desk) halves(name string, rows, n int) *grid[BF16] {
	g := newGrid(d, name, rows, n, n+d.odd(), guardBF16, func() BF16 { return RoundBF16(float32(d.r.NormFloat64())) })
	if len(d.grids) == d.badAt {
		g.v[d.r.IntN(rows)*g.ld+d.r.IntN(n)] = RoundBF16(d.bad)
	}
	g.was = slices.Clone(g.all)
	return g
}

func (g *grid[T]) row(i int) []T { return g.v[i*g.ld:][:g.n] }

func (g *grid[T]) raw(v []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(*new(T))))
}

// harmed says whether something beside the rows is not what it was.
func (g *grid[T]) harmed() error {
	for i := range g.all {
		if at := i - g.off; at >= 0 && at < len(g.v) && at%g.ld < g.n {
			continue
		}
		if !bytes.Equal(g.raw(g.all[i:i+1]), g.raw(g.was[i:i+1])) {
			return fmt.Errorf("%s: %d rows of %d, %d apart, are written beside at %d", g.name, len(g.v)/g.ld+1, g.n, g.ld, i-g.off)
		}
	}
	return nil
}

func (d *desk) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// near checks a result; a NaN or an infinity that is expected must show.
func (d *desk) near(what string, got float32, want, tol float64) {
	x := float64(got)
	if x != x {
		got = float32(math.NaN())
	}
	d.bits = append(d.bits, math.Float32bits(got))
	if x != want && !(x != x && want != want) && !(math.Abs(x-want) <= tol) {
		d.fail("%s is %v instead of %v", what, got, want)
	}
}

// exactly checks a row of results bit by bit; a NaN may be any.
func (d *desk) exactly(what string, got []BF16, want func(i int) float32) {
	for i, x := range got {
		d.bits = append(d.bits, uint32(x))
		if w := RoundBF16(want(i)); x != w && !(w == nanBF16 && x.Float32() != x.Float32()) {
			d.fail("%s: value %d is %#04x instead of %#04x", what, i, x, w)
		}
	}
}

// rowsCase is a kernel on rows that lie apart, or on rows of bfloat16: on some grids it computes rows of n values and checks them,
// those in bfloat16 against what the float32 kernel gives, rounded.
type rowsCase struct {
	name string
	run  func(k *Kernels, d *desk, n, rows int)
}

var rowsCases = []rowsCase{
	{"RopeBack", func(k *Kernels, d *desk, n, rows int) { ropeBackCase(k, d, n, rows, rows) }},
	{"RopeBack without rotation", func(k *Kernels, d *desk, n, rows int) { ropeBackCase(k, d, n, rows, 1) }},
	{"RopeBack to bfloat16", func(k *Kernels, d *desk, n, rows int) { ropeBackHalfCase(k, d, n, rows, rows) }},
	{"RopeBack to bfloat16 without rotation", func(k *Kernels, d *desk, n, rows int) { ropeBackHalfCase(k, d, n, rows, 1) }},
	{"ScaleRows", func(k *Kernels, d *desk, n, rows int) {
		v, f, to := d.floats("v", rows, n, 0), d.floats("f", 1, rows, 0), d.floats("dst", rows, n, 0)
		k.ScaleRows(Matrix{F: to.v, LD: to.ld}, v.v, v.ld, f.v, n, rows)
		for i := range rows {
			for j, x := range to.row(i) {
				d.near("product", x, float64(v.row(i)[j])*float64(f.v[i]), 2e-7*(1+math.Abs(float64(x))))
			}
		}
	}},
	{"ScaleRows to bfloat16", func(k *Kernels, d *desk, n, rows int) {
		v, f, to := d.floats("v", rows, n, 0), d.floats("f", 1, rows, 0), d.halves("dst", rows, n)
		k.ScaleRows(Matrix{H: to.v, LD: to.ld}, v.v, v.ld, f.v, n, rows)
		for i := range rows {
			d.exactly("product", to.row(i), func(j int) float32 { return v.row(i)[j] * f.v[i] })
		}
	}},
	{"DotRows", func(k *Kernels, d *desk, n, rows int) {
		a, b, sum := d.floats("a", rows, n, 0), d.floats("b", rows, n, 0), d.floats("sum", 1, rows, 0)
		k.DotRows(sum.v, a.v, a.ld, b.v, b.ld, n, rows)
		for i := range rows {
			d.dot(sum.v[i], n, func(j int) (x, y float32) { return a.row(i)[j], b.row(i)[j] })
		}
	}},
	{"DotRowsBF16", func(k *Kernels, d *desk, n, rows int) {
		a, b, sum, to := d.floats("a", rows, n, 0), d.halves("b", rows, n), d.floats("sum", 1, rows, 0), d.halves("d", rows, n)
		k.DotRowsBF16(sum.v, to.v, to.ld, a.v, a.ld, b.v, b.ld, n, rows)
		for i := range rows {
			d.exactly("rounded", to.row(i), func(j int) float32 { return a.row(i)[j] })
			d.dot(sum.v[i], n, func(j int) (x, y float32) { return to.row(i)[j].Float32(), b.row(i)[j].Float32() })
		}
	}},
	{"ExpSumBF16", func(k *Kernels, d *desk, n, _ int) {
		s, h := d.floats("s", 1, n, 0), d.halves("h", 1, n)
		ref := slices.Clone(s.v)
		sum, want := k.ExpSumBF16(h.v, s.v, 1.5, -0.25), k.ExpSum(ref, 1.5, -0.25)
		d.near("sum", sum, float64(want), 0)
		d.exactly("exp", h.v, func(i int) float32 { return ref[i] })
	}},
	{"ScoreGradients", func(k *Kernels, d *desk, n, _ int) {
		s, g, lse, delta := d.floats("s", 1, n, 0), d.floats("d", 1, n, 0), d.floats("lse", 1, n, 0), d.floats("delta", 1, n, 0)
		p, q := slices.Clone(s.v), slices.Clone(g.v)
		k.ScoreGradients(p, q, lse.v, delta.v, 0.5)
		for i := range n {
			x := math.Exp(0.5*float64(s.v[i]) - float64(lse.v[i]))
			y := 0.5 * x * (float64(g.v[i]) - float64(delta.v[i]))
			d.near("p", p[i], x, 1e-6*(1+x))
			d.near("ds", q[i], y, 1e-6*(1+math.Abs(y)+x))
		}
	}},
	{"ScoreGradientsBF16", func(k *Kernels, d *desk, n, _ int) {
		s, g, lse, delta := d.floats("s", 1, n, 0), d.floats("d", 1, n, 0), d.floats("lse", 1, n, 0), d.floats("delta", 1, n, 0)
		p, ds := d.halves("p", 1, n), d.halves("ds", 1, n)
		x, y := slices.Clone(s.v), slices.Clone(g.v)
		k.ScoreGradients(x, y, lse.v, delta.v, 0.5)
		k.ScoreGradientsBF16(p.v, ds.v, s.v, g.v, lse.v, delta.v, 0.5)
		d.exactly("p", p.v, func(i int) float32 { return x[i] })
		d.exactly("ds", ds.v, func(i int) float32 { return y[i] })
	}},
	{"SwiGLUBF16", func(k *Kernels, d *desk, n, _ int) {
		gate, up, a, gh, uh := d.floats("gate", 1, n, 0), d.floats("up", 1, n, 0), d.halves("a", 1, n), d.halves("gh", 1, n), d.halves("uh", 1, n)
		g, u, out := slices.Clone(gate.v), slices.Clone(up.v), make([]float32, n)
		k.SwiGLU(out, g, u)
		k.SwiGLUBF16(a.v, gh.v, uh.v, gate.v, up.v)
		d.exactly("a", a.v, func(i int) float32 { return out[i] })
		d.exactly("gate", gh.v, func(i int) float32 { return g[i] })
		d.exactly("up", uh.v, func(i int) float32 { return u[i] })
	}},
	{"SwiGLUBackwardBF16", func(k *Kernels, d *desk, n, _ int) {
		gate, up, da, dg, du := d.halves("gate", 1, n), d.halves("up", 1, n), d.floats("da", 1, n, 0), d.halves("dgate", 1, n), d.halves("dup", 1, n)
		g, u := widened(gate.v), widened(up.v)
		k.SwiGLUBackward(g, u, da.v)
		k.SwiGLUBackwardBF16(dg.v, du.v, gate.v, up.v, da.v)
		d.exactly("dgate", dg.v, func(i int) float32 { return g[i] })
		d.exactly("dup", du.v, func(i int) float32 { return u[i] })
	}},
}

// dot checks a sum of n products.
func (d *desk) dot(got float32, n int, pair func(j int) (x, y float32)) {
	var want, size float64
	for j := range n {
		x, y := pair(j)
		want += float64(x) * float64(y)
		size += math.Abs(float64(x) * float64(y))
	}
	d.near("sum", got, want, 1e-6*(1+size))
}

// angles are cosines and sines for each row, or with one the same for all; step is how far apart they lie.
func (d *desk) angles(half, angles int) (cos, sin *grid[float32], step int) {
	cos = d.floats("cos", angles, half, 0)
	if angles > 1 {
		step = cos.ld
	}
	return cos, d.floats("sin", angles, half, cos.ld), step
}

// ropeBackCase has heads of 2n values.
func ropeBackCase(k *Kernels, d *desk, n, rows, angles int) {
	v, to := d.floats("v", rows, 2*n, 0), d.floats("dst", rows, 2*n, 0)
	cos, sin, step := d.angles(n, angles)
	was := slices.Clone(v.v)
	k.RopeBack(Matrix{F: to.v, LD: to.ld}, v.v, v.ld, cos.v, sin.v, step, n, rows)
	for i := range rows {
		for j := range n {
			a, b, c, s := float64(was[i*v.ld+j]), float64(was[i*v.ld+n+j]), float64(cos.v[i*step+j]), float64(sin.v[i*step+j])
			d.near("first half", to.row(i)[j], a*c+b*s, 1e-6*(1+math.Abs(a*c)+math.Abs(b*s)))
			d.near("second half", to.row(i)[n+j], b*c-a*s, 1e-6*(1+math.Abs(b*c)+math.Abs(a*s)))
		}
	}
}

func ropeBackHalfCase(k *Kernels, d *desk, n, rows, angles int) {
	v, to := d.floats("v", rows, 2*n, 0), d.halves("dst", rows, 2*n)
	cos, sin, step := d.angles(n, angles)
	ref := make([]float32, rows*2*n)
	k.RopeBack(Matrix{F: ref, LD: 2 * n}, slices.Clone(v.v), v.ld, cos.v, sin.v, step, n, rows)
	k.RopeBack(Matrix{H: to.v, LD: to.ld}, v.v, v.ld, cos.v, sin.v, step, n, rows)
	for i := range rows {
		d.exactly("head", to.row(i), func(j int) float32 { return ref[i*2*n+j] })
	}
}

// check runs a case on a desk.
func (c *rowsCase) check(k *Kernels, d *desk, n, rows int) error {
	c.run(k, d, n, rows)
	for _, g := range d.grids {
		if err := g.harmed(); err != nil {
			d.fail("%w", err)
		}
	}
	if d.err != nil {
		return fmt.Errorf("%s %s(%d rows of %d): %w", k.Name, c.name, rows, n, d.err)
	}
	return nil
}

// Every kernel at every length up to several times the widest loop, on one row and more: right, nothing beside the rows changes,
// and the bits do not depend on where they lie.
func TestRowsEveryLength(t *testing.T) {
	for _, k := range levels(t) {
		for _, c := range rowsCases {
			for n := 1; n <= 80; n++ {
				rows := 1 + n%4
				var bits []uint32
				for place := range 2 {
					odd := rand.New(rand.NewPCG(uint64(place), uint64(n)))
					d := &desk{r: rand.New(rand.NewPCG(uint64(n), 5)), odd: func() int { return odd.IntN(12) }}
					if err := c.check(k, d, n, rows); err != nil {
						t.Fatal(err)
					}
					if bits != nil && !slices.Equal(bits, d.bits) {
						t.Fatalf("%s %s(%d rows of %d): the bits depend on where the rows lie", k.Name, c.name, rows, n)
					}
					bits = d.bits
				}
			}
		}
	}
}

// A NaN or an infinity shows in all that depends on it, and in nothing else.
func TestRowsNotFinite(t *testing.T) {
	for _, k := range levels(t) {
		for _, c := range rowsCases {
			for i, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
				for n := 1; n <= 70; n += 1 + n/5 {
					for at := 1; at <= 6; at++ {
						d := &desk{r: rand.New(rand.NewPCG(uint64(n), uint64(i))), odd: func() int { return 3 }, bad: bad, badAt: at}
						if err := c.check(k, d, n, 3); err != nil {
							t.Fatalf("with %v in grid %d: %v", bad, at, err)
						}
					}
				}
			}
		}
	}
}

// Values between two of bfloat16, in the middle, beyond the largest, infinite and none are rounded as RoundBF16 does. What bfloat16
// holds as a subnormal, or is one, may become zero where an instruction rounds.
func TestRowsRoundEveryKind(t *testing.T) {
	const n, rows = 53, 3
	r := rand.New(rand.NewPCG(6, 6))
	for _, k := range levels(t) {
		for range 300 {
			x, one, h, sum := make([]float32, n*rows), []float32{1, 1, 1}, make([]BF16, n*rows), make([]float32, rows)
			for i := range x {
				x[i] = math.Float32frombits(r.Uint32() & [...]uint32{0xFFFFFFFF, 0x80FFFFFF, 0xFFFF8000, 0xFF80FFFF}[r.IntN(4)])
			}
			check := func(what string, got []BF16) {
				for i, b := range got {
					if !rounds(k, x[i], b) {
						t.Fatalf("%s %s: value %d, %#08x, becomes %#04x, want %#04x", k.Name, what, i, math.Float32bits(x[i]), b, RoundBF16(x[i]))
					}
				}
			}
			k.ScaleRows(Matrix{H: h, LD: n}, x, n, one, n, rows)
			check("ScaleRows", h)
			k.DotRowsBF16(sum, h, n, x, n, make([]BF16, n*rows), n, n, rows)
			check("DotRowsBF16", h)
			gate, up := make([]BF16, n*rows), make([]BF16, n*rows)
			k.SwiGLUBF16(h, gate, up, slices.Clone(x), slices.Clone(x))
			check("gate of SwiGLUBF16", gate)
			check("up of SwiGLUBF16", up)
			k.RopeBack(Matrix{H: h, LD: n}, slices.Clone(x), n, slices.Repeat(one, n), make([]float32, n), 0, n/2, rows)
			for i := range rows { // an odd value each is left out; x + 0·y is not finite where y is not
				for j := range n / 2 {
					a, b := i*n+j, i*n+n/2+j
					if x[a]-x[a] == 0 && x[b]-x[b] == 0 && !(rounds(k, x[a], h[a]) && rounds(k, x[b], h[b])) {
						t.Fatalf("%s RopeBack: %#08x, %#08x become %#04x, %#04x", k.Name, math.Float32bits(x[a]), math.Float32bits(x[b]), h[a], h[b])
					}
				}
			}
		}
	}
}

// rounds says whether b is x rounded.
func rounds(k *Kernels, x float32, b BF16) bool {
	want := RoundBF16(x)
	switch {
	case b == want || b&0x7FFF == 0 && want&0x7FFF == 0:
		return true
	case want == nanBF16:
		return b.Float32() != b.Float32()
	}
	return k.rounds() && b&0x7FFF == 0 && math.Abs(float64(x)) < 0x1p-126
}

// rowsCalls are calls with every slice of the length that they need at least, which may be changed.
func rowsCalls(k *Kernels, f func(n int) []float32, h func(n int) []BF16) map[string]func() {
	const n, rows, ld = 10, 3, 13
	all, angles := (rows-1)*ld+n, (rows-1)*7+n/2
	return map[string]func(){
		"RopeBack":              func() { k.RopeBack(Matrix{F: f(all), LD: ld}, f(all), ld, f(angles), f(angles), 7, n/2, rows) },
		"RopeBack to bfloat16":  func() { k.RopeBack(Matrix{H: h(all), LD: ld}, f(all), ld, f(angles), f(angles), 7, n/2, rows) },
		"ScaleRows":             func() { k.ScaleRows(Matrix{F: f(all), LD: ld}, f(all), ld, f(rows), n, rows) },
		"ScaleRows to bfloat16": func() { k.ScaleRows(Matrix{H: h(all), LD: ld}, f(all), ld, f(rows), n, rows) },
		"DotRows":               func() { k.DotRows(f(rows), f(all), ld, f(all), ld, n, rows) },
		"DotRowsBF16":           func() { k.DotRowsBF16(f(rows), h(all), ld, f(all), ld, h(all), ld, n, rows) },
		"ExpSumBF16":            func() { k.ExpSumBF16(h(n), f(n), 1, 0) },
		"ScoreGradients":        func() { k.ScoreGradients(f(n), f(n), f(n), f(n), 1) },
		"ScoreGradientsBF16":    func() { k.ScoreGradientsBF16(h(n), h(n), f(n), f(n), f(n), f(n), 1) },
		"SwiGLUBF16":            func() { k.SwiGLUBF16(h(n), h(n), h(n), f(n), f(n)) },
		"SwiGLUBackwardBF16":    func() { k.SwiGLUBackwardBF16(h(n), h(n), h(n), h(n), f(n)) },
	}
}

// No call allocates.
func TestRowsAllocs(t *testing.T) {
	floats, halves := make([]float32, 100), make([]BF16, 100)
	for _, k := range levels(t) {
		for name, call := range rowsCalls(k, func(n int) []float32 { return floats[:n] }, func(n int) []BF16 { return halves[:n] }) {
			if got := testing.AllocsPerRun(20, call); got != 0 {
				t.Errorf("%s %s: %v allocations a call", k.Name, name, got)
			}
		}
	}
}

// An argument that is a value too short is an index out of range before anything is written, whatever room there is behind it.
func TestRowsShortSlices(t *testing.T) {
	// These arguments may be shorter: their length is the row's.
	rules := map[string]int{"ExpSumBF16": 1, "ScoreGradients": 0, "ScoreGradientsBF16": 2, "SwiGLUBF16": 0, "SwiGLUBackwardBF16": 0}
	for _, k := range levels(t) {
		for name := range rowsCalls(k, nil, nil) {
			for i := 0; ; i++ {
				args, refused, clean := callWithout(k, name, i)
				if i == args { // all have their length
					if refused || args < 2 {
						t.Errorf("%s %s: a call with %d slices is refused: %v", k.Name, name, args, refused)
					}
					break
				}
				if rule, ok := rules[name]; (!ok || rule != i) && (!refused || !clean) {
					t.Errorf("%s %s: slice %d may be too short: refused %v, nothing written %v", k.Name, name, i, refused, clean)
				}
			}
		}
	}
}

// callWithout calls a kernel whose slice i, of args, lacks its last value.
func callWithout(k *Kernels, name string, i int) (args int, refused, clean bool) {
	floats, halves := slices.Repeat([]float32{0.5}, 100), slices.Repeat([]BF16{0x3F00}, 100)
	var f [][]float32
	var h [][]BF16
	cut := func(n int) int {
		if args++; args == i+1 {
			n--
		}
		return n
	}
	call := rowsCalls(k, func(n int) []float32 {
		f = append(f, slices.Clone(floats))
		return f[len(f)-1][:cut(n)]
	}, func(n int) []BF16 {
		h = append(h, slices.Clone(halves))
		return h[len(h)-1][:cut(n)]
	})[name]
	refused = panics(call)
	clean = !slices.ContainsFunc(f, func(v []float32) bool { return !slices.Equal(v, floats) }) &&
		!slices.ContainsFunc(h, func(v []BF16) bool { return !slices.Equal(v, halves) })
	return args, refused, clean
}

// No rows, or rows of no values, are nothing to do.
func TestRowsEmpty(t *testing.T) {
	for _, k := range levels(t) {
		for _, x := range [][2]int{{0, 3}, {3, 0}, {0, 0}, {-1, 2}} {
			k.RopeBack(Matrix{}, nil, 0, nil, nil, 0, x[0], x[1])
			k.ScaleRows(Matrix{H: []BF16{}}, nil, 0, nil, x[0], x[1])
			k.DotRows(nil, nil, 0, nil, 0, x[0], x[1])
			k.DotRowsBF16(nil, nil, 0, nil, 0, nil, 0, x[0], x[1])
		}
		if sum := k.ExpSumBF16(nil, nil, 1, 0); sum != 0 {
			t.Errorf("%s: ExpSumBF16 of nothing is %v", k.Name, sum)
		}
		k.ScoreGradients(nil, nil, nil, nil, 1)
		k.ScoreGradientsBF16(nil, nil, nil, nil, nil, nil, 1)
		k.SwiGLUBF16(nil, nil, nil, nil, nil)
		k.SwiGLUBackwardBF16(nil, nil, nil, nil, nil)
	}
}
