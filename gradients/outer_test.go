package gradients

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"sn3/model"
)

// anyPayload is a payload that decodes, of any content: also what no honest encoder would choose.
func anyPayload(l *model.Layout, k int, r *rand.Rand, lowest, highest int) *Payload {
	p := fixed(l, k, r.Uint64())
	for i := range p.scales {
		if p.start[i+1] > p.start[i] {
			p.scales[i] = byte(lowest + r.IntN(highest-lowest+1))
		}
	}
	p.norm = p.measure()
	return p
}

// The outer step against one in float64: whatever valid payloads are selected, θ moves by α·Σ clip·value/div to rounding, and
// nothing that is not finite can come out of it.
func TestOuterStepAgainstFloat64(t *testing.T) {
	l := layoutOf(t, model.Config{Vocab: 67, Width: 9, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 4, FFN: 7, Seq: 8, Tied: true})
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		low := rapid.IntRange(0, 255).Draw(rt, "lowest scale")
		high := rapid.IntRange(low, 255).Draw(rt, "highest scale")
		alpha := rapid.Float32Range(0.1, 8).Draw(rt, "alpha")
		minDiv := rapid.IntRange(1, 20).Draw(rt, "divisor")
		theta := model.NewFlat(l)
		theta.Init(1)
		var parts []*Payload
		var norms []float64
		for range rapid.IntRange(0, 15).Draw(rt, "R") {
			p := anyPayload(l, rapid.SampledFrom([]int{1, 64, 1500, 4096}).Draw(rt, "k"), r, low, high)
			if want := norm(dense(l, p)); math.Abs(p.Norm()-want) > 1e-9*want {
				rt.Fatalf("norm %v, the values have %v", p.Norm(), want)
			}
			parts, norms = append(parts, p), append(norms, p.Norm())
		}
		want, most := make([]float64, l.Params()), make([]float64, l.Params())
		clip := Clips(norms)
		for i, p := range parts {
			for at, v := range dense(l, p) {
				step := float64(alpha) * float64(clip[i]) * float64(v) / float64(max(len(parts), minDiv))
				want[at] -= step
				most[at] += math.Abs(step)
			}
		}
		before := append([]float32(nil), theta.Data...)
		root, err := OuterStep(theta, parts, alpha, minDiv)
		if err != nil || root != naiveRoot(l, theta.Data) {
			rt.Fatalf("root %s: %v", root.Short(), err)
		}
		for i, x := range theta.Data {
			off := math.Abs(float64(x) - float64(before[i]) - want[i])
			if !(off <= 1e-6*(most[i]+math.Abs(float64(before[i])))) {
				rt.Fatalf("value %d moved from %v to %v, want %v", i, before[i], x, want[i])
			}
		}
	})
}

// Norms that cannot come from a payload do not get through either: whatever the numbers, factors lie in [0, 1].
func TestClipsAreFinite(t *testing.T) {
	odd := []float64{0, math.NaN(), math.Inf(1), math.Inf(-1), -1, math.SmallestNonzeroFloat64, math.MaxFloat64, 1, 2}
	rapid.Check(t, func(rt *rapid.T) {
		norms := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(odd), rapid.Float64Range(1e-9, 1e3)), 0, 15).Draw(rt, "norms")
		for i, c := range Clips(norms) {
			if !(c >= 0 && c <= 1) || !(norms[i] > 0) && c != 1 {
				rt.Fatalf("norm %v of %v gets the factor %v", norms[i], norms, c)
			}
		}
	})
}

// A payload made for another model moves nothing.
func TestOuterStepRefusesAnotherLayout(t *testing.T) {
	l := tiny(t)
	theta := model.NewFlat(l)
	theta.Init(1)
	before := append([]float32(nil), theta.Data...)
	parts := []*Payload{fixed(l, 64, 1), fixed(local(t), 64, 2)}
	if _, err := OuterStep(theta, parts, 1, 1); err == nil {
		t.Error("accepted")
	}
	for i := range before {
		if theta.Data[i] != before[i] {
			t.Fatalf("value %d moved", i)
		}
	}
}
