package kern

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// byRows computes a product by the way that x took last, with rows for every worker.
func (p *product) byRows(x *Mul) []float32 {
	got := &collector{c: make([]float32, p.m*p.n), n: p.n, seen: make([]int, p.m)}
	if x.per == 2 {
		x.bf16Rows(x.shape, p.tA, p.tB, p.m, p.n, p.k, p.ah, p.lda, p.bh, p.ldb, got)
	} else {
		x.F32Rows(p.tA, p.tB, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, nil, 0, got)
	}
	return got.c
}

// values are those of C in c.
func (p *product) values(c []float32) (out []float32) {
	for i := range p.m {
		out = append(out, c[i*p.ldc:][:p.n]...)
	}
	return out
}

// Workers take rows of C or columns of it, of one slice of steps or several, with A packed or as it lies, from few rows or many, on any
// number of threads: always the same bits.
func TestMulByRowsAndByColumns(t *testing.T) {
	shapes := [][3]int{{30, 70, 33}, {61, 130, 600}, {100, 90, 40}, {42, 50, 1100}, {28, 300, 1030}, {200, 33, 70}, {5, 260, 90}, {113, 120, 64}}
	for name, way := range ways() {
		if name == "portable" {
			continue
		}
		r, seen, x := rand.New(rand.NewPCG(41, 42)), map[[2]bool]int{}, &Mul{}
		for i, s := range shapes {
			for form := range 4 {
				tA, tB, far := form&1 > 0, form&2 > 0, (i+form/2)%3 == 0 && s[2] < 100
				if testing.Short() && (r.IntN(4) > 0 || name == "amx, emulated" && s[2] > 100) { // under the race detector
					continue
				}
				p := operands(r, s[0], s[1], s[2], tA, tB, false)
				if far {
					p.apart(r, 1024)
				}
				p.reference()
				x.Threads = 1
				one := p.values(p.check(t, name, func(c []float32) { way(x, p, c) }))
				for threads := 1; threads <= 9; threads += 1 + threads/5*3 {
					x.Threads = threads
					c := slices.Clone(p.c0)
					way(x, p, c)
					seen[[2]bool{x.byCols, x.unpacked > 0}]++
					if !slices.Equal(one, p.values(c)) {
						t.Fatalf("%s %v, tA %v, tB %v, lda %d: %d threads, by columns %v, give other bits than one", name, s, tA, tB, p.lda, threads, x.byCols)
					}
					if got := p.byRows(x); x.byCols || !slices.Equal(one, got) {
						t.Fatalf("%s %v, tA %v, tB %v, lda %d: other bits by rows on %d threads", name, s, tA, tB, p.lda, threads)
					}
				}
			}
		}
		for _, cols := range []bool{false, true} {
			for _, lies := range []bool{false, true} {
				if reads := x.rows != nil; seen[[2]bool{cols, lies}] == 0 && (reads || !lies) && !testing.Short() {
					t.Errorf("%s: no product by columns %v with A as it lies %v", name, cols, lies)
				}
			}
		}
	}
}

// The same for products of several regions, in steps and in columns.
func TestRegionsByRowsAndByColumns(t *testing.T) {
	if testing.Short() {
		t.Skip("billions of products")
	}
	r := rand.New(rand.NewPCG(43, 44))
	for name, way := range ways() {
		if name == "portable" || name == "amx, emulated" {
			continue
		}
		x := &Mul{Threads: 1}
		way(x, operands(r, 1, 1, 1, false, false, false), make([]float32, 4))
		steps, cols := x.cut(1 << 20)
		for _, tA := range []bool{false, true} {
			p := operands(r, cols/2+44, cols+38, x.per*steps+9, tA, !tA, true)
			x.Threads = 1
			one, more := slices.Clone(p.c0), slices.Clone(p.c0)
			way(x, p, one)
			rows := !x.byCols
			x.Threads = x.mp/2 + 1
			way(x, p, more)
			if !rows || !x.byCols {
				t.Fatalf("%s: %d×%d×%d by rows %v, by columns %v: nothing to compare", name, p.m, p.n, p.k, rows, x.byCols)
			}
			if !slices.Equal(one, more) {
				t.Errorf("%s, tA %v: other bits by columns", name, tA)
			}
			for range 200 {
				i, j := r.IntN(p.m), r.IntN(p.n)
				want := float64(p.c0[i*p.ldc+j])
				for l := range p.k {
					want += float64(at(p.tA, p.a, p.lda, i, l)[0]) * float64(at(p.tB, p.b, p.ldb, l, j)[0])
				}
				if got := one[i*p.ldc+j]; !(math.Abs(float64(got)-want) <= 2e-5*math.Sqrt(float64(p.k))) {
					t.Fatalf("%s, tA %v: C[%d,%d] = %v, want %v", name, tA, i, j, got, want)
				}
			}
		}
	}
}

// What Sizes counts is what a product takes, however its workers go about it; if A need not be packed, it is less.
func TestSizesAreWhatProductsTake(t *testing.T) {
	for name, way := range ways() {
		if name == "portable" || name == "amx, emulated" {
			continue
		}
		rapid.Check(t, func(rt *rapid.T) {
			n := func(name string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(rt, name) }
			p := operands(rand.New(rand.NewPCG(1, 2)), n("m", 1, 150), n("n", 1, 300), n("k", 1, 60), n("tA", 0, 1) > 0, n("tB", 0, 1) > 0, false)
			if n("far", 0, 3) == 0 {
				p.apart(rand.New(rand.NewPCG(1, 3)), 1024)
			}
			taken, counted, exact := p.sizes(way, n("threads", 1, 9), n("kind", 0, 2))
			if taken > counted || exact && taken != counted {
				rt.Fatalf("%s: %d×%d×%d: %d values, counted %d", name, p.m, p.n, p.k, taken, counted)
			}
		})
		if testing.Short() || t.Failed() {
			continue
		}
		for kind := range 3 { // beyond a region, and a few rows more than are handed over at once
			p := operands(rand.New(rand.NewPCG(1, 4)), eachRows+5, 300, 16400, false, true, false)
			if taken, counted, _ := p.sizes(way, 4, kind); taken > counted {
				t.Errorf("%s, kind %d: %d×%d×%d: %d values, counted %d", name, kind, p.m, p.n, p.k, taken, counted)
			}
		}
	}
}

// sizes computes p on a new Mul, by one of the three ways to use it, and returns how many values it took and how many were counted;
// exact: these should be the same.
func (p *product) sizes(way func(x *Mul, p *product, c []float32), threads, kind int) (taken, counted int, exact bool) {
	x := &Mul{Threads: threads}
	way(x, &product{m: 1, n: 1, k: 1, lda: 1, ldb: 1, ldc: 1, a: []float32{1}, b: []float32{1}, ah: []BF16{1}, bh: []BF16{1}}, []float32{0}) // sets K and the shape
	*x = Mul{K: x.K, Threads: threads, shape: x.shape}
	var sizes Sizes
	half := x.per == 2
	switch {
	case kind == 0:
		sizes.Add(x.K, half, threads, p.m, p.n, p.k)
		way(x, p, slices.Clone(p.c0))
	case kind == 1 && !half:
		sizes.AddPlaced(x.K, half, threads, p.m, p.n, p.k)
		x.F32Rows(p.tA, p.tB, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, slices.Clone(p.c0), p.ldc, nobody{})
	default:
		sizes.AddRows(x.K, half, threads, p.m, p.n, p.k)
		p.byRows(x)
	}
	taken = cap(x.all) + cap(x.lent)
	for _, w := range x.own {
		taken += cap(w.part) + cap(w.tile) + cap(w.c)
	}
	return taken, int(sizes.Values()), x.unpacked == 0 && len(x.own) == threads
}

// nobody needs the rows.
type nobody struct{}

func (nobody) Rows(int, int, int, []float32, int) {}
