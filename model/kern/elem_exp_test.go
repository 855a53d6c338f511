package kern

import (
	"math"
	"testing"
)

// ulps is the distance from got to the true value in units of the last place of the float32 nearest to it.
func ulps(got float32, want float64) float64 {
	near := float32(want)
	return math.Abs(float64(got)-want) / float64(math.Nextafter32(near, float32(math.Inf(1)))-near)
}

// exp is right to 2 units in the last place over the whole range of normal results.
func TestExpUlps(t *testing.T) {
	const n = 400_000
	for _, k := range levels(t) {
		x := make([]float32, n+1)
		for i := range x {
			x[i] = -87.3365 + float32(i)*(88.7228+87.3365)/n
		}
		y := append([]float32(nil), x...)
		k.ExpSum(y, 1, 0)
		worst := 0.0
		for i := range x {
			if u := ulps(y[i], math.Exp(float64(x[i]))); !(u <= 2) {
				t.Fatalf("%s: exp %v is %v, %v units off", k.Name, x[i], y[i], u)
			} else {
				worst = max(worst, u)
			}
		}
		t.Logf("%s: %.2f units at worst", k.Name, worst)
	}
}

// Both ends, and what is no number: at every place of a vector and of the rest.
func TestExpSpecial(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	low, high := float32(-87.33654), float32(88.72283)
	cases := map[float32]float32{
		0: 1, float32(math.Copysign(0, -1)): 1, inf: inf, -inf: 0, 1e30: inf, -1e30: 0, 1e4: inf, -1e4: 0, 200: inf, -104: 0, 89: inf, 100: inf,
		math.Nextafter32(high, inf): inf, math.Nextafter32(low, -inf): 0, math.SmallestNonzeroFloat32: 1, math.MaxFloat32: inf, -math.MaxFloat32: 0,
	}
	for _, k := range levels(t) {
		for n := 1; n <= 40; n++ {
			for x, want := range cases {
				v := make([]float32, n)
				for i := range v {
					v[i] = x
				}
				sum := k.ExpSum(v, 1, 0)
				for i := range v {
					if v[i] != want {
						t.Fatalf("%s: exp %v at %d of %d is %v, want %v", k.Name, x, i, n, v[i], want)
					}
				}
				if sum != want*float32(n) {
					t.Fatalf("%s: the sum of %d times exp %v is %v", k.Name, n, x, sum)
				}
			}
			v := make([]float32, n)
			for i := range v {
				v[i] = []float32{low, high}[i%2]
			}
			k.ExpSum(v, 1, 0)
			for i, y := range v {
				if u := ulps(y, math.Exp(float64([]float32{low, high}[i%2]))); !(u <= 2) {
					t.Fatalf("%s: the end %d of exp is %v", k.Name, i%2, y)
				}
			}
		}
		for _, bits := range []uint32{math.Float32bits(nan), 0x7F800001, 0x7FC001FF, 0xFFC00000, 0xFFFFFFFF, 0x7FFFFE01} {
			v := make([]float32, 27)
			for i := range v {
				v[i] = math.Float32frombits(bits)
			}
			sum := k.ExpSum(v, 1, 0)
			for i, y := range v {
				if y == y {
					t.Fatalf("%s: exp of the NaN %#x at %d is %v", k.Name, bits, i, y)
				}
			}
			if sum == sum {
				t.Fatalf("%s: the sum of exp of NaNs is %v", k.Name, sum)
			}
		}
	}
}

// silu is right far out: to 1e4 and beyond, where exp over- or underflows, there is neither NaN nor a jump above 1e-35.
func TestSiluFar(t *testing.T) {
	for _, k := range levels(t) {
		var gate, up, da, want []float32
		for x := -1e4; x <= 1e4; x += 0.37 {
			gate = append(gate, float32(x))
		}
		for x := -100.0; x <= 100; x += 0.0071 {
			gate = append(gate, float32(x))
		}
		for range gate {
			up, da, want = append(up, 2), append(da, 3), append(want, 0)
		}
		k.SwiGLU(want, gate, up)
		dg, du := append([]float32(nil), gate...), append([]float32(nil), up...)
		k.SwiGLUBackward(dg, du, da)
		for i, x := range gate {
			g := float64(x)
			s := sigmoid(g)
			for what, pair := range map[string][2]float64{
				"silu·2": {float64(want[i]), 2 * g * s}, "dup": {float64(du[i]), 3 * g * s}, "dgate": {float64(dg[i]), 6 * s * (1 + g*(1-s))},
			} {
				if d := math.Abs(pair[0] - pair[1]); !(d <= 2e-6*math.Abs(pair[1])+1e-6*s*math.Abs(g)+4e-36) {
					t.Fatalf("%s: %s of %v is %v, want %v", k.Name, what, x, pair[0], pair[1])
				}
			}
		}
	}
}

// Max skips a NaN wherever it stands, and knows negative values and infinities.
func TestMaxSpecial(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, k := range levels(t) {
		for n := 1; n <= 140; n++ {
			for at := range n {
				v := make([]float32, n)
				for i := range v {
					v[i] = -5 - float32(i%3)
				}
				v[at] = -4
				if got := k.Max(v); got != -4 {
					t.Fatalf("%s: the largest of %d, at %d, is %v, want -4", k.Name, n, at, got)
				}
				v[at] = nan
				want := float32(-5)
				if n == 1 {
					want = -inf
				} else if n == 2 && at == 0 {
					want = -6
				} else if n == 3 && at == 0 {
					want = -6
				}
				if got := k.Max(v); got != want {
					t.Fatalf("%s: the largest of %d beside a NaN at %d is %v, want %v", k.Name, n, at, got, want)
				}
				v[at] = inf
				if got := k.Max(v); got != inf {
					t.Fatalf("%s: the largest of %d with +Inf at %d is %v", k.Name, n, at, got)
				}
			}
		}
	}
}
