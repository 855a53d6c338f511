package kernels_test

import (
	"math"
	"math/rand/v2"

	"pgregory.net/rapid"

	"sn3/model/gpu/standin"
	"sn3/model/kern"
)

// Random values, and how they are compared.

// normals are n values around 0 with the deviation size, the same for a seed.
func normals(seed uint64, n int, size float64) []float32 {
	r := rand.New(rand.NewPCG(seed, 5))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64() * size)
	}
	return out
}

// halves are normals in bfloat16.
func halves(seed uint64, n int, size float64) []kern.BF16 { return toHalves(normals(seed, n, size)) }

func toHalves(x []float32) []kern.BF16 {
	out := make([]kern.BF16, len(x))
	for i := range x {
		out[i] = kern.RoundBF16(x[i])
	}
	return out
}

func widened(h []kern.BF16) []float32 {
	out := make([]float32, len(h))
	for i := range h {
		out[i] = h[i].Float32()
	}
	return out
}

// real is x in float64.
func real64(x []float32) []float64 {
	out := make([]float64, len(x))
	for i := range x {
		out[i] = float64(x[i])
	}
	return out
}

// near fails unless every value of got is within rel of the size of want's value, plus abs.
func near(t rapid.TB, what string, got []float32, want []float64, rel, abs float64) {
	t.Helper()
	for i, x := range got {
		if d := math.Abs(float64(x) - want[i]); !(d <= rel*math.Abs(want[i])+abs) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, x, want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
}

// What bounds are made of: how far rounding to float32 is off at most, relative to the result, and how far exp2_, log2_ and rcp_ are (PTX ISA).
// Bounds that random values meet are derived from these, and hold for every draw; terms of second order are in what is rounded up.
const (
	eps32  = 0x1p-24
	approx = 0x1p-22
)

// tiny is more than rounding to bfloat16 is off where its numbers end, below 2⁻¹²⁶.
const tiny = 0x1p-133

// bounded fails unless every value of got is within most of want.
func bounded(t rapid.TB, what string, got []float32, want, most []float64) {
	t.Helper()
	if len(got) != len(want) || len(got) != len(most) {
		t.Fatalf("%s: %d values, want %d, bounds for %d", what, len(got), len(want), len(most))
	}
	for i, x := range got {
		if d := math.Abs(float64(x) - want[i]); !(d <= most[i]) {
			t.Fatalf("%s: value %d is %v, want %v within %.2g", what, i, x, want[i], most[i])
		}
	}
}

// times is f·v.
func times(f float64, v []float64) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = f * x
	}
	return out
}

// half are the bounds of values that are rounded to bfloat16 after they may be off by most.
func half(want, most []float64) []float64 {
	out := make([]float64, len(most))
	for i, e := range most {
		out[i] = e + (math.Abs(want[i])+e)/256 + tiny
	}
	return out
}

// halfOf is the relative bound of values that are rounded to bfloat16 after they may be off by e, relative to them.
func halfOf(e float64) float64 { return 1.0/256 + 2*e }

// sumError is how far a product's sum over k may be off, in units of Σ|a·b|: on the stand-in, which adds one by one, 2⁻²⁴ for
// every term and what C held. A card cuts off each of some products, and the sum so far, at the last of the largest one's 24 bits, and then their sum (Fasi, Higham,
// Mikaitis and Pranesh, PeerJ CS 2021): k, and twice what is more than ⌈k/4⌉ with k filled up to 32, times 2⁻²³.
func sumError(k int) float64 {
	if standin.Real() {
		return math.Ldexp(1.5*float64(k)+16, -23)
	}
	return float64(k+1) * eps32
}

// twin fails unless two kernels that compute by the same expressions give the same bits. A card's compiler may fuse a product and a sum
// in one of them only: there rel and abs are allowed, as by near.
func twin(t rapid.TB, what string, got, want []float32, rel, abs float64) {
	t.Helper()
	if standin.Real() {
		near(t, what, got, real64(want), rel, abs)
		return
	}
	same(t, what, bitsOf(got), bitsOf(want))
}

// ulp is how far two numbers may be apart, relative to one of them, whose roundings to bfloat16 are neighbours.
const ulp = 1.0 / 127

// same fails unless the bits are the same.
func same[T comparable](t rapid.TB, what string, got, want []T) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func bitsOf(x []float32) []uint32 {
	out := make([]uint32, len(x))
	for i := range x {
		out[i] = math.Float32bits(x[i])
	}
	return out
}

// kernelSets are the sets of model/kern that run here.
func kernelSets(t rapid.TB) map[string]*kern.Kernels {
	t.Helper()
	out := map[string]*kern.Kernels{}
	for _, name := range kern.Names() {
		if k, err := kern.Select(name); err == nil {
			out[name] = k
		}
	}
	return out
}
