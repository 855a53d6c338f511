package kernels_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/model/kern"
)

// stepCase is a flat vector cut into pieces at odd places, with its moments.
type stepCase struct {
	from    []int64
	decayed []byte
	p, g    []float32
	m, v    []float32
	o       kern.AdamW
	limit   float32
}

func newStepCase(seed uint64, size float64, cuts ...int64) *stepCase {
	n := int(cuts[len(cuts)-1])
	c := &stepCase{from: append([]int64{0}, cuts...), p: normals(seed, n, 1), g: normals(seed+1, n, size), m: normals(seed+2, n, 0.1), v: normals(seed+3, n, 0.1),
		o: kern.AdamW{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1, C1: 1 - 0.81, C2: 1 - 0.9025}}
	for i := range c.v {
		c.v[i] *= c.v[i]
	}
	for i := range cuts {
		c.decayed = append(c.decayed, byte(i%2))
	}
	return c
}

// table is what the host writes for a step: that of model/kern, and the norm to clip to.
func (c *stepCase) table() []float32 {
	o := c.o
	return []float32{o.LR, o.Beta1, o.Beta2, o.Eps, o.Decay, 1 / o.C1, 1 / o.C2, 1 - o.Beta1, 1 - o.Beta2, c.limit}
}

// stepOf is the step of k on copies, with the gradient scaled.
func (c *stepCase) stepOf(k *kern.Kernels, scale float32) (p, m, v []float32, h []kern.BF16) {
	p, m, v, h = slices.Clone(c.p), slices.Clone(c.m), slices.Clone(c.v), make([]kern.BF16, len(c.p))
	for i, d := range c.decayed {
		a, b, o := c.from[i], c.from[i+1], c.o
		if o.Scale = scale; d == 0 {
			o.Decay = 0
		}
		k.Step(o, p[a:b], c.g[a:b], m[a:b], v[a:b], h[a:b])
	}
	return p, m, v, h
}

var stepCases = map[string]*stepCase{
	"one value": newStepCase(70, 1, 1),
	"short":     newStepCase(71, 1, 3, 8, 9, 30),
	"aligned":   newStepCase(72, 1, 64, 128, 4096, 6144),
	"odd":       newStepCase(73, 1e-3, 7, 2070, 2071, 4200, 9001),
	"small":     newStepCase(74, 1e-20, 100, 333),
	"large":     newStepCase(75, 1e15, 100, 333),
	"zero":      newStepCase(76, 0, 17, 40),
}

// sets of model/kern by assembly: with them AdamW has the same bits.
func assembled(t rapid.TB) map[string]*kern.Kernels {
	out := kernelSets(t)
	delete(out, "portable")
	return out
}

func TestAdamW(t *testing.T) {
	b := on(t, "adamw.cu")
	for name, c := range stepCases {
		for _, scale := range []float32{1, 0.37} {
			c.checkAdamW(t, b, name, scale)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		cuts, end := []int64(nil), int64(0)
		for _, n := range rapid.SliceOfN(rapid.Int64Range(1, 500), 1, 6).Draw(rt, "pieces") {
			end += n
			cuts = append(cuts, end)
		}
		c := newStepCase(rapid.Uint64().Draw(rt, "seed"), 1, cuts...)
		c.checkAdamW(rt, b, fmt.Sprint("pieces to ", cuts), rapid.Float32Range(1e-6, 1).Draw(rt, "scale"))
	})
}

// checkAdamW is one step against model/kern and float64.
func (c *stepCase) checkAdamW(t rapid.TB, b *bench, name string, scale float32) {
	p, m, v, h := slices.Clone(c.p), slices.Clone(c.m), slices.Clone(c.v), make([]kern.BF16, len(c.p))
	b.exec("adamw", len(c.decayed), p, m, v, h, c.g, c.from, c.decayed, c.table(), []float32{2, 1, scale, 1})
	same(t, name+": copy", h, toHalves(p))
	for set, k := range assembled(t) {
		wp, wm, wv, wh := c.stepOf(k, scale)
		same(t, name+": parameters and "+set, bitsOf(p), bitsOf(wp))
		same(t, name+": first moments and "+set, bitsOf(m), bitsOf(wm))
		same(t, name+": second moments and "+set, bitsOf(v), bitsOf(wv))
		same(t, name+": copy and "+set, h, wh)
	}
	k, _ := kern.Select("portable") // which rounds where assembly has an FMA
	pp, pm, pv, _ := c.stepOf(k, scale)
	rp, rm, rv, sizeP, sizeM := c.stepRef(scale)
	// A first moment is off by two roundings, a second by five; a parameter by ten and a half (moments, their corrections, √, ε, quotient) and those
	// of the decay, the rate and its own: below 14. Portable code has a rounding more where assembly has an FMA, two in all: below 17.
	bounded(t, name+": parameters, portable", p, real64(pp), times(31*eps32, sizeP))
	bounded(t, name+": first moments, portable", m, real64(pm), times(6*eps32, sizeM))
	near(t, name+": second moments, portable", v, real64(pv), 12*eps32, 1e-38)
	bounded(t, name+": parameters, float64", p, rp, times(14*eps32, sizeP))
	bounded(t, name+": first moments, float64", m, rm, times(3*eps32, sizeM))
	near(t, name+": second moments, float64", v, rv, 6*eps32, 1e-38)
}

// stepRef is a step in float64: parameters and moments, and how large what was added up for a parameter and a first moment was, of
// which rounding errors are a part.
func (c *stepCase) stepRef(scale float32) (p, m, v, sizeP, sizeM []float64) {
	for i, d := range c.decayed {
		for j := c.from[i]; j < c.from[i+1]; j++ {
			x, b1, b2 := float64(c.g[j])*float64(scale), float64(c.o.Beta1), float64(c.o.Beta2)
			nm, nv := b1*float64(c.m[j])+(1-b1)*x, b2*float64(c.v[j])+(1-b2)*x*x
			by, wd := float64(c.o.LR)/float64(c.o.C1)/(math.Sqrt(nv/float64(c.o.C2))+float64(c.o.Eps)), float64(c.o.LR)*float64(c.o.Decay)*float64(d)
			p, m, v = append(p, float64(c.p[j])-by*nm-wd*float64(c.p[j])), append(m, nm), append(v, nv)
			size := b1*math.Abs(float64(c.m[j])) + (1-b1)*math.Abs(x)
			sizeP, sizeM = append(sizeP, math.Abs(float64(c.p[j]))+by*size), append(sizeM, size)
		}
	}
	return p, m, v, sizeP, sizeM
}

// A step whose loss or norm is not finite changes nothing.
func TestAdamWDiverged(t *testing.T) {
	b := on(t, "adamw.cu")
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, bad := range []struct {
		loss, g float32
		made    bool
	}{{3, 1, true}, {nan, 1, false}, {inf, 1, false}, {3, nan, false}, {3, inf, false}, {3, -inf, false}, {3, 3e38, false}} {
		c := newStepCase(77, 1, 9, 100)
		c.g[57] = bad.g
		sums, outcome := make([]float32, 2), []float32{bad.loss, 0, 0, 0}
		b.exec("squares", 2, sums, c.g, c.from)
		b.exec("clip", 1, outcome, sums, c.table(), int32(2))
		if (outcome[3] == 1) != bad.made || (outcome[3] == 0) == bad.made {
			t.Errorf("%v: outcome %v", bad, outcome)
		}
		p, m, v, h := slices.Clone(c.p), slices.Clone(c.m), slices.Clone(c.v), halves(78, 100, 1)
		was := slices.Clone(h)
		b.exec("adamw", 2, p, m, v, h, c.g, c.from, c.decayed, c.table(), outcome)
		mh, vh := toHalves(c.m), toHalves(c.v)
		p2, h2 := slices.Clone(c.p), slices.Clone(h)
		b.exec("adamw_chance", 2, p2, mh, vh, h2, c.g, c.from, c.decayed, c.table(), outcome, []uint64{1}, int64(0))
		if bad.made {
			if slices.Equal(p, c.p) || slices.Equal(p2, c.p) {
				t.Error("a good step was not made")
			}
			continue
		}
		same(t, "parameters", bitsOf(p), bitsOf(c.p))
		same(t, "first moments", bitsOf(m), bitsOf(c.m))
		same(t, "second moments", bitsOf(v), bitsOf(c.v))
		same(t, "copy", h, was)
		same(t, "parameters of bf16 moments", bitsOf(p2), bitsOf(c.p))
		same(t, "first moments in bf16", mh, toHalves(c.m))
		same(t, "second moments in bf16", vh, toHalves(c.v))
	}
}

// The norm, and the factor to clip by, against float64 and model/kern.
func TestClip(t *testing.T) {
	b := on(t, "adamw.cu")
	for name, c := range stepCases {
		for _, half := range []bool{false, true} {
			g, kernel, arg := c.g, "squares", any(c.g)
			if half {
				g, kernel, arg = widened(toHalves(c.g)), "squares_bf16", any(toHalves(c.g))
			}
			pieces := len(c.decayed)
			sums := make([]float32, pieces)
			b.exec(kernel, pieces, sums, arg, c.from)
			total, k := 0.0, kernelSets(t)["portable"]
			for i := range pieces {
				part := g[c.from[i]:c.from[i+1]]
				total += k.SumSquares(part)
				near(t, fmt.Sprint(name, ": squares of piece ", i), sums[i:i+1], []float64{sumSquares(part)}, 2e-6, 1e-43)
			}
			norm := math.Sqrt(total)
			for _, limit := range []float64{0, 0.5, norm * 0.9, norm * 1.1, 1e30} {
				c.limit = float32(limit)
				outcome, factor := []float32{1, 0, 0, 0}, 1.0
				if f := float64(c.limit) / (norm + 1e-6); limit > 0 && f < 1 {
					factor = f
				}
				b.exec("clip", 1, outcome, sums, c.table(), int32(pieces))
				near(t, fmt.Sprint(name, ": norm and factor to ", limit), outcome, []float64{1, norm, factor, 1}, 2e-6, 1e-18)
			}
		}
	}
}

func sumSquares(x []float32) (sum float64) {
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return sum
}

// Many pieces: more than the threads that join them.
func TestClipManyPieces(t *testing.T) {
	b := on(t, "adamw.cu")
	sums, want := normals(79, 3001, 1), 0.0
	for i := range sums {
		sums[i] *= sums[i]
		want += float64(sums[i])
	}
	outcome := []float32{0, 0, 0, 0}
	b.exec("clip", 1, outcome, sums, newStepCase(0, 1, 1).table(), int32(len(sums)))
	near(t, "norm", outcome, []float64{0, math.Sqrt(want), 1, 1}, 1e-6, 0)
}
