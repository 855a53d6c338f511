package kernels_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/gradients"
	"sn3/model"
)

// outer is one outer step as the kernel takes it: payloads as symbols.
type outer struct {
	parts      [][]symbols
	clip       []float32
	alpha, div float32
}

// on runs the kernel; in place or not.
func (o outer) on(r *rig, l *model.Layout, theta []float32, inPlace bool) []float32 {
	var at []int64
	var idx []uint16
	var codes, scales []byte
	for _, p := range o.parts {
		at = append(at, int64(len(idx)))
		for _, s := range p {
			idx, codes, scales = append(idx, s.idx...), append(codes, s.codes...), append(scales, s.scale)
			at = append(at, int64(len(idx)))
		}
	}
	from := up(r, theta)
	to := from
	if !inPlace {
		to = blank[float32](r, len(theta))
	}
	r.launch("outer_step", l.Chunks(), to, from, up(r, begins(l)), up(r, at), up(r, idx), up(r, codes), up(r, scales), up(r, o.clip),
		int32(l.Chunks()), int32(len(o.parts)), o.alpha, o.div)
	return down(r, make([]float32, len(theta)), to)
}

// want is the same by gradients.AggregateChunk.
func (o outer) want(l *model.Layout, theta []float32) []float32 {
	out := slices.Clone(theta)
	for i := range l.Chunks() {
		var parts []gradients.Part
		for _, p := range o.parts {
			parts = append(parts, gradients.Part{Idx: p[i].idx, Val: p[i].values()})
		}
		c := l.Chunk(i)
		gradients.AggregateChunk(out[c.Start:c.Start+c.Len], parts, o.clip, o.alpha, o.div)
	}
	return out
}

// fixed makes a payload from integers, as gradients' golden tests do, and its norm.
func fixed(l *model.Layout, k int, seed uint64) (out []symbols, norm float64) {
	r := rand.New(rand.NewPCG(seed, uint64(k)))
	for i := range l.Chunks() {
		real := l.Chunk(i).Len
		n, left := r.IntN(gradients.Keep(k, real)+1), real
		var s symbols
		if n > 0 {
			s.scale = byte(100 + r.IntN(40))
		}
		for x := range real { // n of real, uniformly
			if r.IntN(left) < n {
				s.idx, n = append(s.idx, uint16(x)), n-1
				s.codes = append(s.codes, byte(r.IntN(4)))
			}
			left--
		}
		if len(s.codes) > 0 {
			s.codes[0] &^= 1
		}
		out = append(out, s)
		norm += squares(s)
	}
	return out, math.Sqrt(norm)
}

// squares is the sum of the squared values, as a payload's norm adds it up.
func squares(s symbols) float64 {
	large := 0
	for _, c := range s.codes {
		large += int(c & 1)
	}
	small := float64(symbols{codes: []byte{0}, scale: s.scale}.values()[0])
	return small * small * float64(len(s.codes)+3*large)
}

// goldenRoot is that of gradients' golden test: the state after three fixed outer steps.
const goldenRoot = "c4833dbf66a74d9e2569f30af4a7bcbed8aef5fb92a08632e462da5ef62fa0a2"

func TestOuterStepGolden(t *testing.T) {
	inOrders(t, func(r *rig) {
		l := edges(t)
		theta := model.NewFlat(l)
		theta.Init(42)
		for step := range 3 {
			o := outer{alpha: 1.7, div: 5}
			var norms []float64
			for n := range 5 {
				p, norm := fixed(l, 128<<step, uint64(10*step+n))
				o.parts, norms = append(o.parts, p), append(norms, norm)
			}
			o.clip = gradients.Clips(norms)
			copy(theta.Data, o.on(r, l, theta.Data, step == 1))
			r.free()
		}
		if root, err := gradients.Root(theta); err != nil || root.String() != goldenRoot {
			r.Fatalf("root %s (%v), want %s", root, err, goldenRoot)
		}
	}, "protocol.cu")
}

// Real payloads through the kernel are gradients.OuterStep, clipping and root included.
func TestOuterStepOfPayloads(t *testing.T) {
	inOrders(t, func(r *rig) {
		rnd := rand.New(rand.NewPCG(6, 9))
		l := edges(t)
		theta := model.NewFlat(l)
		theta.Init(7)
		for _, minDiv := range []int{1, 20} {
			var parts []*gradients.Payload
			var norms []float64
			o := outer{alpha: 0.8}
			for n, kind := range []string{"heavy", "tied", "zero", "levels", "heavy"} {
				v := vectorOf(rnd, kind, l.Params())
				for i := range v {
					v[i] *= float32(n + 1) // norms that differ: some are clipped
				}
				p := payloadOf(r, l, v, 200)
				parts, norms, o.parts = append(parts, p), append(norms, p.Norm()), append(o.parts, symbolsOf(p))
			}
			o.clip, o.div = gradients.Clips(norms), float32(max(len(parts), minDiv))
			got := o.on(r, l, theta.Data, false)
			root, err := gradients.OuterStep(theta, parts, o.alpha, minDiv)
			if err != nil {
				r.Fatal(err)
			}
			sameBits(r, "outer step", got, theta.Data)
			if again, err := gradients.Root(flat(l, got)); err != nil || again != root {
				r.Fatalf("root %s, want %s (%v)", again.Short(), root.Short(), err)
			}
			r.free()
		}
	}, "protocol.cu")
}

// Whatever is asked for: no payloads, any scales, factors that no run has, θ that is not finite.
func TestOuterStepDrawn(t *testing.T) {
	r := newRig(t, "protocol.cu")
	rapid.Check(t, func(rt *rapid.T) {
		r.card.Set(t, "order", rapid.SampledFrom(orders).Draw(rt, "order"))
		l := long(t, rapid.OneOf(rapid.SampledFrom(lengths), rapid.IntRange(1, 4096)).Draw(rt, "width"))
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		odd := rapid.SampledFrom([]float32{1, 0, -1, 1e-30, 1e-42, 3e38, float32(math.Inf(1)), float32(math.NaN())})
		o := outer{
			alpha: rapid.OneOf(rapid.Float32Range(0.1, 8), odd).Draw(rt, "alpha"),
			div:   rapid.OneOf(rapid.Float32Range(1, 20), odd).Draw(rt, "div"),
		}
		for range rapid.IntRange(0, 6).Draw(rt, "R") {
			p, _ := fixed(l, rapid.SampledFrom([]int{1, 64, 1500, 4096}).Draw(rt, "k"), rnd.Uint64())
			for i := range p {
				p[i].scale = byte(rnd.IntN(256))
			}
			o.parts = append(o.parts, p)
			o.clip = append(o.clip, rapid.OneOf(rapid.Float32Range(0, 1), odd).Draw(rt, "clip"))
		}
		theta := vectorOf(rnd, rapid.SampledFrom([]string{"heavy", "extreme", "subnormal", "zero"}).Draw(rt, "kind"), l.Params())
		theta[rnd.IntN(len(theta))] = rapid.OneOf(rapid.Just(float32(math.Copysign(0, -1))), odd).Draw(rt, "θ")
		got := o.on(r, l, theta, rapid.Bool().Draw(rt, "in place"))
		sameBits(r, "outer step", got, o.want(l, theta))
		r.free()
	})
}
