package kern

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// check runs a case on n values at odd places: the values are those of float64, nothing outside the rows changes, and the bits
// are the same at other places.
func (c *elemCase) check(k *Kernels, seed uint64, n int, off func() int) error {
	var bits []uint32
	for range 2 {
		rows, v, want := c.fill(rand.New(rand.NewPCG(seed, 1)), n, off)
		most := c.bounds(want)
		got, ref := c.run(k, v), c.want(want)
		size := 1 + math.Abs(ref)
		for i, r := range rows {
			if at, yes := r.touched(); yes {
				return fmt.Errorf("%s %s(%d): row %d is written at %d", k.Name, c.name, n, i, at)
			}
			for j, x := range r.vals {
				if d := math.Abs(float64(x) - want[i][j]); !(d <= most(i, j, want[i][j])) {
					return fmt.Errorf("%s %s(%d): row %d, value %d is %v, want %v", k.Name, c.name, n, i, j, x, want[i][j])
				}
				size += math.Abs(want[i][j])
			}
		}
		if c.sum > 0 { // a product is up to 2.5 times what both factors are
			size *= c.sum + 2.5*eps32*float64(n)
		} else {
			size = 0
		}
		if d := math.Abs(got - ref); !(d <= size) {
			return fmt.Errorf("%s %s(%d) returns %v, want %v", k.Name, c.name, n, got, ref)
		}
		now := bitsOf(v, got)
		if bits != nil && !slices.Equal(bits, now) {
			return fmt.Errorf("%s %s(%d): the bits depend on where the rows lie", k.Name, c.name, n)
		}
		bits = now
	}
	return nil
}

// bounds returns how far values may be off, given the rows as they are filled.
func (c *elemCase) bounds(v [][]float64) func(row, at int, want float64) float64 {
	tol := c.tol
	if c.chain {
		tol += eps32 * float64(len(v[0]))
	}
	if c.size == nil {
		return func(_, _ int, want float64) float64 { return tol * (1 + math.Abs(want)) }
	}
	sizes := make([][]float64, len(v))
	for i := range v {
		sizes[i] = slices.Clone(v[i])
	}
	c.size(sizes)
	return func(row, at int, _ float64) float64 { return tol * math.Abs(sizes[row][at]) }
}

// bitsOf is everything that a kernel computed.
func bitsOf(v [][]float32, result float64) []uint32 {
	out := []uint32{math.Float32bits(float32(result))}
	for _, row := range v {
		for _, x := range row {
			out = append(out, math.Float32bits(x))
		}
	}
	return out
}

// Every kernel at every length up to a few times the widest loop, so that every rest after every loop occurs.
func TestElemEveryLength(t *testing.T) {
	for _, k := range levels(t) {
		for _, c := range elemCases {
			for n := 1; n <= 150; n++ {
				if err := c.check(k, uint64(n), n, func() int { return n % 7 }); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// Random lengths, values and places.
func TestElemRandom(t *testing.T) {
	for _, k := range levels(t) {
		for _, c := range elemCases {
			rapid.Check(t, func(rt *rapid.T) {
				n, seed := rapid.IntRange(1, 600).Draw(rt, "n"), rapid.Uint64().Draw(rt, "seed")
				if err := c.check(k, seed, n, func() int { return rapid.IntRange(0, 31).Draw(rt, "off") }); err != nil {
					rt.Fatal(err)
				}
			})
		}
	}
}

// Long sums keep their precision: of a million ones the float32 sum of a naive loop would still be right, of their thirds not.
func TestSumSquaresLong(t *testing.T) {
	x := make([]float32, 3_000_001)
	for i := range x {
		x[i] = 1.1
	}
	want := float64(len(x)) * float64(x[0]) * float64(x[0])
	for _, k := range levels(t) {
		if got := k.SumSquares(x); math.Abs(got-want) > 1e-6*want {
			t.Errorf("%s: %v, want %v", k.Name, got, want)
		}
	}
}

// RopeHeads turns each head as Rope turns one, and back.
func TestRopeHeads(t *testing.T) {
	for _, k := range levels(t) {
		rapid.Check(t, func(rt *rapid.T) {
			half, heads := rapid.IntRange(1, 70).Draw(rt, "half"), rapid.IntRange(1, 5).Draw(rt, "heads")
			r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
			row := newRow(2*half*heads, rapid.IntRange(0, 15).Draw(rt, "off"))
			cos, sin := make([]float32, half), make([]float32, half)
			for i := range half {
				s, c := math.Sincos(10 * r.Float64())
				cos[i], sin[i] = float32(c), float32(s)
			}
			for i := range row.vals {
				row.vals[i] = float32(draw(r))
			}
			before := slices.Clone(row.vals)
			one := slices.Clone(row.vals)
			for h := range heads {
				k.Rope(one[2*h*half:(2*h+1)*half], one[(2*h+1)*half:(2*h+2)*half], cos, sin, 1)
			}
			k.RopeHeads(row.vals, cos, sin, half, heads, 1)
			if !slices.Equal(row.vals, one) {
				rt.Fatalf("%s: %d heads of %d are not what each is alone", k.Name, heads, 2*half)
			}
			k.RopeHeads(row.vals, cos, sin, half, heads, -1)
			for i, x := range row.vals { // each turn is off by two ulps of both, cosine and sine by one of theirs
				other := i + half
				if i/half%2 == 1 {
					other = i - half
				}
				if math.Abs(float64(x-before[i])) > 11*eps32*(math.Abs(float64(before[i]))+math.Abs(float64(before[other]))) {
					rt.Fatalf("%s: value %d comes back as %v, was %v", k.Name, i, x, before[i])
				}
			}
			if at, yes := row.touched(); yes {
				rt.Fatalf("%s: written at %d", k.Name, at)
			}
		})
	}
}

// The clip factor 0 means none: an AdamW value made without it does the whole step.
func TestStepWithoutScale(t *testing.T) {
	for _, k := range levels(t) {
		for _, scale := range []float32{0, 1} {
			p, g, m, v := []float32{1}, []float32{2}, []float32{0}, []float32{0}
			k.Step(AdamW{LR: 0.5, Beta1: 0.5, Beta2: 0.5, C1: 0.5, C2: 0.5, Scale: scale}, p, g, m, v, nil)
			if p[0] != 0.5 || g[0] != 2 || m[0] != 1 || v[0] != 2 {
				t.Errorf("%s, scale %v: p %v, g %v, m %v, v %v, want 0.5, 2, 1, 2", k.Name, scale, p[0], g[0], m[0], v[0])
			}
		}
	}
}

// A slice that is too short is an index out of range before anything is read or written.
func TestElemShortSlices(t *testing.T) {
	full := func(n int) [][]float32 {
		var out [][]float32
		for range 5 {
			out = append(out, make([]float32, n, 2*n)) // room behind, which must not be used
		}
		return out
	}
	for _, k := range levels(t) {
		for _, c := range elemCases {
			for short := 1; short < c.rows; short++ {
				v := full(64)
				v[short] = v[short][:16]
				if !panics(func() { c.run(k, v[:c.rows]) }) {
					t.Errorf("%s %s: row %d may be too short", k.Name, c.name, short)
				}
			}
		}
		v, h := full(64), make([]BF16, 63, 64)
		for name, f := range map[string]func(){
			"the row of Softmax":     func() { k.Softmax(v[0][:10], 11, 1) },
			"the copy of Step":       func() { stepCase(k, v, h) },
			"ToBF16":                 func() { k.ToBF16(make([]BF16, 65), v[0]) },
			"FromBF16":               func() { k.FromBF16(v[0], h) },
			"the heads of RopeHeads": func() { k.RopeHeads(v[0], v[1], v[2], 16, 3, 1) },
			"cos of RopeHeads":       func() { k.RopeHeads(v[0], v[1][:15], v[2], 16, 2, 1) },
			"sin of RopeHeads":       func() { k.RopeHeads(v[0], v[1], v[2][:15], 16, 2, 1) },
		} {
			if !panics(f) {
				t.Errorf("%s: %s may be too short", k.Name, name)
			}
		}
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

// Rows of no values are nothing to do.
func TestElemEmpty(t *testing.T) {
	for _, k := range levels(t) {
		for _, c := range elemCases {
			if c.name == "CrossEntropy" { // has a target
				continue
			}
			got := c.run(k, make([][]float32, c.rows))
			want := map[string]float64{"Max": math.Inf(-1)}[c.name]
			if c.name == "RMSNorm" || strings.HasPrefix(c.name, "Softmax") { // a mean and a log of nothing
				continue
			}
			if got != want {
				t.Errorf("%s: %s of nothing is %v", k.Name, c.name, got)
			}
		}
		k.ToBF16(nil, nil)
		k.FromBF16(nil, nil)
		k.RopeHeads(nil, nil, nil, 0, 3, 1)
	}
}

// No call allocates.
func TestElemAllocs(t *testing.T) {
	const n = 77
	for _, k := range levels(t) {
		for _, c := range elemCases {
			if c.name == "DotBF16" { // its case rounds into memory of a pool, which the race detector empties
				continue
			}
			_, v, _ := c.fill(rand.New(rand.NewPCG(1, 1)), n, func() int { return 1 })
			if got := testing.AllocsPerRun(20, func() { c.run(k, v) }); got != 0 {
				t.Errorf("%s %s: %v allocations a call", k.Name, c.name, got)
			}
		}
		v, h := make([]float32, n), make([]BF16, n)
		for name, f := range map[string]func(){
			"DotBF16":          func() { k.DotBF16(v, h) },
			"Step with a copy": func() { stepCase(k, [][]float32{v, v, v, v}, h) },
			"ToBF16":           func() { k.ToBF16(h, v) },
			"FromBF16":         func() { k.FromBF16(v, h) },
			"RopeHeads":        func() { k.RopeHeads(v, v, v, 6, 6, 1) },
		} {
			if got := testing.AllocsPerRun(20, f); got != 0 {
				t.Errorf("%s %s: %v allocations a call", k.Name, name, got)
			}
		}
	}
}
