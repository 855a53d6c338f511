package kernels_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"sn3/model/kern"
)

// Moments in bfloat16, rounded by chance.

// splitMix is output i of SplitMix64 from a state.
func splitMix(state, i uint64) uint64 {
	z := state + (i+1)*0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// The outputs that the authors' program gives from the state 1234567.
func TestSplitMix(t *testing.T) {
	for i, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821} {
		if got := splitMix(1234567, uint64(i)); got != want {
			t.Errorf("output %d is %d, want %d", i, got, want)
		}
	}
}

// chance rounds x by 16 random bits.
func chance(x float32, r uint64) kern.BF16 {
	if x != x {
		return kern.RoundBF16(x)
	}
	return kern.BF16((math.Float32bits(x) + uint32(r&0xFFFF)) >> 16)
}

// The step is that of model/kern on widened moments, whose new ones are then rounded by the noise of their place in the model.
func TestAdamWChance(t *testing.T) {
	b := on(t, "adamw.cu")
	const seed, base = 0xDEADBEEF12345678, 1 << 33
	for name, c := range stepCases {
		mh, vh, gh := toHalves(c.m), toHalves(c.v), toHalves(c.g)
		c := *c
		c.m, c.v = widened(mh), widened(vh)
		for _, kernel := range []string{"adamw_chance", "adamw_chance_bf16"} {
			g := any(c.g)
			if kernel == "adamw_chance_bf16" {
				c.g = widened(gh)
				g = any(gh)
			}
			p, m, v, h := slices.Clone(c.p), slices.Clone(mh), slices.Clone(vh), make([]kern.BF16, len(c.p))
			b.exec(kernel, len(c.decayed), p, m, v, h, g, c.from, c.decayed, c.table(), []float32{2, 1, 0.75, 1}, []uint64{seed}, int64(base))
			for set, k := range assembled(t) {
				wp, wm, wv, wh := c.stepOf(k, 0.75)
				what := fmt.Sprint(kernel, " of ", name, " and ", set)
				same(t, what+": parameters", bitsOf(p), bitsOf(wp))
				same(t, what+": copy", h, wh)
				wantM, wantV := make([]kern.BF16, len(m)), make([]kern.BF16, len(v))
				for i := range m {
					r := splitMix(seed, base+uint64(i))
					wantM[i], wantV[i] = chance(wm[i], r), chance(wv[i], r>>16)
				}
				same(t, what+": first moments", m, wantM)
				same(t, what+": second moments", v, wantV)
			}
			rp, _, _, sizeP, _ := c.stepRef(0.75)
			bounded(t, kernel+" of "+name+": parameters", p, rp, times(14*eps32, sizeP)) // as adamw's
			same(t, kernel+" of "+name+": copy", h, toHalves(p))
			for i := range m { // at most one unit of bfloat16 off, also without a CPU that has assembly
				near(t, kernel+" of "+name, []float32{m[i].Float32(), v[i].Float32()}, c.moments(i, 0.75), 1.0/127, 1e-8)
			}
		}
	}
}

// moments are the new ones of value i in float64.
func (c *stepCase) moments(i int, scale float32) []float64 {
	x, b1, b2 := float64(c.g[i])*float64(scale), float64(c.o.Beta1), float64(c.o.Beta2)
	return []float64{b1*float64(c.m[i]) + (1-b1)*x, b2*float64(c.v[i]) + (1-b2)*x*x}
}

// Rounding by chance is right on average: where β2·v is within a unit of v, rounding to nearest would never move, and chance does.
// 4096 values a sixteenth of a unit above a number of bfloat16 are rounded up 256 times, give or take five deviations.
func TestChanceIsFair(t *testing.T) {
	b := on(t, "adamw.cu")
	const n = 4096
	c := newStepCase(80, 0, n)
	for i := range n {
		c.m[i], c.v[i], c.p[i] = 1, 1, 0
	}
	c.o.Beta1, c.o.Beta2 = 1+1.0/2048, 1+1.0/2048 // 1 becomes 1 + 1/2048: a sixteenth of the step of 1/128
	m, v := toHalves(c.m), toHalves(c.v)
	b.exec("adamw_chance", 1, slices.Clone(c.p), m, v, make([]kern.BF16, n), c.g, c.from, c.decayed, c.table(), []float32{0, 0, 1, 1}, []uint64{9}, int64(0))
	for what, x := range map[string][]float32{"first": widened(m), "second": widened(v)} {
		up := 0
		for _, a := range x {
			switch a {
			case 1 + 1.0/128:
				up++
			case 1:
			default:
				t.Fatalf("%s moment %v", what, a)
			}
		}
		if up < 256-78 || up > 256+78 {
			t.Errorf("%s moments: %d of %d rounded up, want 256", what, up, n)
		}
	}
	if slices.Equal(m, v) {
		t.Error("both moments are rounded by the same bits")
	}
}

// A NaN stays one, also that whose bits are all ones, which a card's arithmetic makes: the noise must not carry into its sign.
func TestChanceKeepsNaN(t *testing.T) {
	b := on(t, "adamw.cu")
	c := newStepCase(82, 1, 40)
	table := c.table()
	table[1] = math.Float32frombits(math.MaxInt32) // β1
	m, v := toHalves(c.m), toHalves(c.v)
	b.exec("adamw_chance", 1, slices.Clone(c.p), m, v, make([]kern.BF16, 40), c.g, c.from, c.decayed, table, []float32{0, 0, 1, 1}, []uint64{11}, int64(0))
	for i, x := range widened(m) {
		if y := v[i].Float32(); x == x || y != y {
			t.Errorf("moments %d are %v and %v, want NaN and a number", i, x, y)
		}
	}
}

// Over many steps bfloat16 moments by chance follow float32 ones, where rounding to nearest stands still.
func TestChanceFollows(t *testing.T) {
	b := on(t, "adamw.cu")
	const n, steps = 256, 120
	c := newStepCase(81, 1, n)
	c.o.Beta2 = 0.999
	exact, nearest := make([]float64, n), make([]kern.BF16, n)
	m, v, p := make([]kern.BF16, n), make([]kern.BF16, n), slices.Clone(c.p)
	for i := range v {
		v[i], nearest[i], exact[i] = kern.RoundBF16(1), kern.RoundBF16(1), 1
		c.g[i] = 0.1
	}
	h := make([]kern.BF16, n)
	for s := range uint64(steps) {
		b.exec("adamw_chance", 1, p, m, v, h, c.g, c.from, c.decayed, c.table(), []float32{0, 0, 1, 1}, []uint64{splitMix(3, s)}, int64(0))
		for i := range exact {
			exact[i] = 0.999*exact[i] + 0.001*0.01
			nearest[i] = kern.RoundBF16(0.999*nearest[i].Float32() + 0.001*0.01)
		}
	}
	mean := 0.0
	for _, x := range widened(v) {
		mean += float64(x) / n
	}
	if math.Abs(mean-exact[0]) > 0.005 || nearest[0].Float32() != 1 {
		t.Errorf("second moments after %d steps: %v on average, want %v; to nearest %v", steps, mean, exact[0], nearest[0].Float32())
	}
}
