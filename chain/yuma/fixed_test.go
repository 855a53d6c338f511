package yuma

import (
	"math"
	"math/big"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/internal/golden"
)

// numbers are drawn near zero, near one and at the ends of the range.
func drawFixed(t *rapid.T, name string) fixed {
	return fixed(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-1<<34, 1<<34), rapid.Int64Range(-3, 3),
		rapid.SampledFrom([]int64{math.MinInt64, math.MinInt64 + 1, math.MaxInt64, 1 << 32, -1 << 32})).Draw(t, name))
}

func clamp(x *big.Int) fixed {
	if x.IsInt64() {
		return fixed(x.Int64())
	}
	return saturated(x.Sign() < 0)
}

// The arithmetic against unbounded integers: sums exact, products rounded down, quotients towards zero, all saturating.
func TestFixedAgainstBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawFixed(t, "a"), drawFixed(t, "b")
		if rapid.IntRange(0, 9).Draw(t, "alike") == 0 { // where a quotient just leaves the range, and sums double
			b = rapid.SampledFrom([]fixed{a, a >> 32, a>>32 + 1, a >> 31, -a}).Draw(t, "b like a")
		}
		x, y := big.NewInt(int64(a)), big.NewInt(int64(b))
		product := new(big.Int).Mul(x, y)
		want := map[string][2]fixed{
			"add": {a.add(b), clamp(new(big.Int).Add(x, y))},
			"sub": {a.sub(b), clamp(new(big.Int).Sub(x, y))},
			"mul": {a.mul(b), clamp(product.Rsh(product, 32))}, // Rsh rounds down
			"div": {a.div(b), 0},
		}
		if b != 0 {
			want["div"] = [2]fixed{a.div(b), clamp(new(big.Int).Quo(new(big.Int).Lsh(x, 32), y))}
		}
		for op, w := range want {
			if w[0] != w[1] {
				t.Fatalf("%d %s %d is %d, want %d", a, op, b, w[0], w[1])
			}
		}
		part := new(big.Int).Rsh(new(big.Int).Mul(x, big.NewInt(u16Full)), 32)
		if got := big.NewInt(int64(a.proportion())); got.Cmp(part) != 0 && a >= 0 && a <= one {
			t.Fatalf("%d is the proportion %s, want %s", a, got, part)
		}
	})
}

// The exponential against its twin, at any x and around the edges of what it can give.
func TestExp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := fixed(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-23<<32, 23<<32), rapid.Int64Range(-3, 3),
			rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64, 1 << 32, -1 << 32, 1<<32 + 1})).Draw(t, "x"))
		if got, want := exp(x), fixed(slowExp(slow(x))); got != want {
			t.Fatalf("e^%d is %d, want %d", x, got, want)
		}
	})
	// 89715445397 is 20.8885: up to there the largest product of the series is in range.
	for x, want := range map[fixed]fixed{0: one, one: 11674931200, 20 * one: 2066907302758576256,
		89715445397: 4994766200130743759, 89715445398: 0, -89715445398: 0, -1: one - 1} {
		if got := exp(x); got != want {
			t.Errorf("e^%d is %d, want %d", x, got, want)
		}
	}
}

func (a wide) big() *big.Int {
	x := new(big.Int).SetUint64(a.hi)
	return x.Or(x.Lsh(x, 64), new(big.Int).SetUint64(a.lo))
}

func drawWide(t *rapid.T, name string) wide {
	ends := rapid.SampledFrom([]uint64{0, 1, math.MaxUint64, 1 << 63, 1<<31 - 1, math.MaxUint32})
	part := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 3), ends)
	return wide{part.Draw(t, name+" hi"), part.Draw(t, name+" lo")}
}

// The 128-bit numbers against unbounded ones.
func TestWideAgainstBig(t *testing.T) {
	top := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1))
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawWide(t, "a"), drawWide(t, "b")
		x, y := a.big(), b.big()
		sum, diff := new(big.Int).Add(x, y), new(big.Int).Sub(x, y)
		if sum.Cmp(top) > 0 {
			sum = top
		}
		if diff.Sign() < 0 {
			diff = new(big.Int)
		}
		whole := new(big.Int).Rsh(x, 32)
		if !whole.IsUint64() {
			whole.SetUint64(math.MaxUint64)
		}
		p, full := new(big.Int).SetUint64(a.lo), new(big.Int).SetUint64(math.MaxUint64)
		for op, v := range map[string][2]*big.Int{"add": {a.add(b).big(), sum}, "sub": {a.sub(b).big(), diff},
			"product": {product(a.lo, b.hi).big(), new(big.Int).Mul(p, new(big.Int).SetUint64(b.hi))},
			"floor":   {new(big.Int).SetUint64(a.floor()), whole},
			"share":   {new(big.Int).SetUint64(shareOf(a.lo)), new(big.Int).Quo(new(big.Int).Lsh(p, 32), full)}} {
			if v[0].Cmp(v[1]) != 0 {
				t.Fatalf("%v %s %v is %v, want %v", a, op, b, v[0], v[1])
			}
		}
		if a.less(b) != (x.Cmp(y) < 0) {
			t.Fatalf("%v < %v is %v", a, b, a.less(b))
		}
		if a.less(b) {
			a, b = b, a
		}
		if a.hi >>= 1; a.hi>>63 == 0 && !a.less(b) && b != (wide{}) {
			want := new(big.Int).Quo(new(big.Int).Lsh(b.big(), 32), a.big())
			if got := big.NewInt(int64(b.over(a))); got.Cmp(want) != 0 {
				t.Fatalf("%v over %v is %v, want %v", b, a, got, want)
			}
		}
	})
}

// What one pass forward finds in a row, by uid.
func TestScan(t *testing.T) {
	for _, c := range []struct {
		row  []cell
		want []fixed
	}{
		{nil, []fixed{0, 0, 0, 0}},
		{[]cell{{0, 5}, {1, 6}, {3, 7}}, []fixed{5, 6, 0, 7}},
		{[]cell{{2, 5}, {1, 6}, {3, 7}}, []fixed{0, 0, 5, 7}}, // 1 stands behind 2
		{[]cell{{3, 5}, {0, 6}, {2, 7}}, []fixed{0, 0, 0, 5}},
		{[]cell{{1, 5}, {1, 6}, {2, 7}}, []fixed{0, 5, 7, 0}}, // the first of two
	} {
		got := make([]fixed, 4)
		scan(c.row, got)
		equal(t, "scan", got, c.want)
	}
}

// The liquid alpha of one pair, where its halves meet: a weight that equals its bond counts as bought.
func TestLiquidAlpha(t *testing.T) {
	s := sigmoid{low: 0, high: one, span: one, slope: -10 * one}
	low := s.alpha(0, 0, 0) // at a difference of 0: 1/(1+e^5)
	for _, c := range []struct {
		name                    string
		weight, bond, consensus fixed
		want                    fixed
	}{
		{"a half above consensus", one / 2, one / 4, 0, one / 2},
		{"equal to the bond, a half above consensus", one / 2, one / 2, 0, one / 2},
		{"below the bond by a half", 0, one / 2, one, one / 2},
		{"below consensus", one / 4, one / 8, one / 2, low},
		{"all", one, 0, 0, one - low},
	} {
		if got := s.alpha(c.weight, c.bond, c.consensus); got < c.want-1 || got > c.want+1 {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	s = sigmoid{low: one / 3, high: one / 2, span: one, slope: -10 * one}
	if got := s.alpha(one, 0, 0); got != one/2 {
		t.Errorf("above the upper bound: %d", got)
	}
	if s.span = -one; s.alpha(one, 0, 0) != one/3 {
		t.Error("below the lower bound")
	}
	if low < one/150 || low > one/149 {
		t.Errorf("1/(1+e^5) is %d of %d", low, one)
	}
}

func TestMaxUpscale(t *testing.T) {
	for _, c := range []struct{ in, want []uint16 }{
		{nil, []uint16{}},
		{[]uint16{0, 0}, []uint16{0, 0}},
		{[]uint16{10, 20}, []uint16{32768, 65535}}, // a half, rounded up
		{[]uint16{65535, 1}, []uint16{65535, 1}},
		{[]uint16{32768, 1, 16384}, []uint16{65535, 2, 32768}},
		{[]uint16{32769, 1, 16384}, []uint16{65535, 2, 32767}},
		{[]uint16{43690, 1, 21845}, []uint16{65535, 2, 32768}}, // 1.5 exactly, so both are halves
		{[]uint16{65534, 32767}, []uint16{65535, 32767}},       // 32767.5 less what the factor lacks
		{[]uint16{21845, 1, 10922, 0}, []uint16{65535, 3, 32766, 0}},
	} {
		if got := MaxUpscale(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%v becomes %v, want %v", c.in, got, c.want)
		}
	}
}

// Rows as the real runtime stored them after a reveal.
func TestGoldenMaxUpscale(t *testing.T) {
	var set struct {
		Samples []struct {
			Name    string
			Values  []uint16
			Weights []uint16 `json:"runtime293_weights"`
		}
	}
	readJSON(t, filepath.Join(golden.Case(t, "timelock", ".", "tle.json.gz"), "tle.json.gz"), &set)
	found := 0
	for _, s := range set.Samples {
		if s.Weights != nil {
			equal(t, s.Name, MaxUpscale(s.Values), s.Weights)
			found++
		}
	}
	least(t, "rows", found, true, 7, 0)
}

// Against unbounded integers; scaled rows keep the order, and are scaled already.
func TestMaxUpscaleAgainstBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SliceOfN(rapid.OneOf(rapid.Uint16(), rapid.Uint16Range(0, 9), rapid.Uint16Range(32760, 32775)), 1, 9).Draw(t, "v")
		got := MaxUpscale(v)
		top, full, half := slow(slices.Max(v))<<32, slow(u16Full)<<32, slow(1)<<31
		for i, x := range v {
			want := (slow(x) << 32).mul(full).div(top)
			if top > 32768<<32 {
				want = (slow(x) << 32).mul(full.div(top))
			}
			if want = want.add(half) >> 32; got[i] != uint16(want) {
				t.Fatalf("%v becomes %v: %d, want %d", v, got, got[i], want)
			}
			for j, y := range v {
				if x < y && got[i] > got[j] {
					t.Fatalf("%v becomes %v", v, got)
				}
			}
		}
		if again := MaxUpscale(got); !slices.Equal(again, got) {
			t.Fatalf("%v becomes %v becomes %v", v, got, again)
		}
	})
}
