package kernels_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/model/gpu/standin"
	"sn3/model/kern"
)

// attn is the attention of B sequences of T tokens; rows of qkv are pad longer than they need be.
type attn struct{ B, T, heads, kv, hd, pad int }

func (a attn) stride() int { return (a.heads+2*a.kv)*a.hd + a.pad }

// attnCase is attention in float64: of values that bfloat16 holds too.
type attnCase struct {
	attn
	qkv, dy      []kern.BF16 // (B,T,stride) (B,T,heads·hd); what pads rows is no number
	qkv64, dy64  []float64   // the same
	y, lse, grad []float64   // grad is of qkv, rows without padding
	scores       float64     // the largest Σ|q·k|, scaled
	most         attnErrors
}

// attnErrors are how far y, lse and grad may be off.
type attnErrors struct{ y, lse, grad []float64 }

// newAttnCase draws a case; scores grow with sharp.
func newAttnCase(a attn, sharp float64) *attnCase {
	r := rand.New(rand.NewPCG(uint64(a.T), uint64(a.hd*a.heads)))
	x := &attnCase{attn: a, qkv: padded(r, a.B*a.T, a.stride()-a.pad, a.pad), dy: padded(r, a.B*a.T, a.heads*a.hd, 0)}
	for i, v := range x.qkv {
		if i%a.stride() < a.heads*a.hd {
			x.qkv[i] = kern.RoundBF16(float32(sharp) * v.Float32())
		}
	}
	x.qkv64, x.dy64 = real64(widened(x.qkv)), real64(widened(x.dy))
	S := a.stride() - a.pad
	x.y, x.lse, x.grad = make([]float64, len(x.dy)), make([]float64, a.B*a.heads*a.T), make([]float64, a.B*a.T*S)
	x.most = attnErrors{make([]float64, len(x.y)), make([]float64, len(x.lse)), make([]float64, len(x.grad))}
	for b := range a.B {
		for h := range a.heads {
			for t := range a.T {
				x.row(b, h, t)
			}
		}
	}
	x.most.y, x.most.grad = half(x.y, x.most.y), half(x.grad, x.most.grad)
	return x
}

// row adds what one query of one head gives: its output, its log-sum, gradients.
func (x *attnCase) row(b, h, t int) {
	S, hd, g := x.stride(), x.hd, h/(x.heads/x.kv)
	at := func(s, head int) []float64 { return x.qkv64[(b*x.T+s)*S+head*hd:][:hd] }
	grad := func(s, head int) []float64 { return x.grad[(b*x.T+s)*(S-x.pad)+head*hd:][:hd] }
	q, out := at(t, h), (b*x.T+t)*x.heads*hd+h*hd
	y, do, scale := x.y[out:][:hd], x.dy64[out:][:hd], 1/math.Sqrt(float64(hd))
	p, d, top, sum, delta := make([]float64, t+1), make([]float64, t+1), math.Inf(-1), 0.0, 0.0
	scores, far := 0.0, 0.0 // of this row: the largest Σ|q·k|, and the largest score, scaled
	for s := range p {
		p[s] = scale * dot(q, at(s, x.heads+g))
		scores = math.Max(scores, scale*absDot(q, at(s, x.heads+g)))
		top, far = math.Max(top, p[s]), math.Max(far, math.Abs(p[s]))
	}
	x.scores = math.Max(x.scores, scores)
	for s := range p {
		p[s] = math.Exp(p[s] - top)
		sum += p[s]
	}
	x.lse[(b*x.heads+h)*x.T+t] = top + math.Log(sum)
	for s := range p {
		p[s] /= sum
		v := at(s, x.heads+x.kv+g)
		d[s] = dot(do, v)
		delta += p[s] * d[s]
		addTimes(y, p[s], v)
	}
	for s := range p {
		ds := p[s] * (d[s] - delta) * scale
		addTimes(grad(t, h), ds, at(s, x.heads+g))
		addTimes(grad(s, x.heads+g), ds, q)
		addTimes(grad(s, x.heads+x.kv+g), p[s], do)
	}
	x.rowErrors(b, h, t, p, d, delta, scores, far)
}

// rowErrors adds up how far what row computes may be off by the kernels, before results are rounded.
func (x *attnCase) rowErrors(b, h, t int, p, d []float64, delta, scores, far float64) {
	S, hd, g, blocks := x.stride(), x.hd, h/(x.heads/x.kv), float64(t/64+1)
	at := func(s, head int) []float64 { return x.qkv64[(b*x.T+s)*S+head*hd:][:hd] }
	most := func(s, head int) []float64 { return x.most.grad[(b*x.T+s)*(S-x.pad)+head*hd:][:hd] }
	out, l, scale := (b*x.T+t)*x.heads*hd+h*hd, (b*x.heads+h)*x.T+t, 1/math.Sqrt(float64(hd))
	y, do, lse := x.y[out:][:hd], x.dy64[out:][:hd], math.Abs(x.lse[l])
	adds := sumError(x.T*(x.heads/x.kv) + 15) // what is added up one by one, and the last operations
	// a score, and the arguments of its exponentials; the weight of the forward pass, relative, with its sum; lse; the weight of the backward pass
	score := scores*sumError(hd) + 16*eps32*far
	weight := 2*score + 2*(blocks+2)*approx + adds
	x.most.lse[l] = weight + 4*eps32*lse + approx*(1+math.Log(float64(t)+1))
	again := score + x.most.lse[l] + 4*eps32*(2*far+lse) + approx
	// 1. y: of every weight its rounding to bfloat16
	errY := x.most.y[out:][:hd]
	for s, w := range p {
		addMagnitudes(errY, w*(1.0/256+2*weight+adds)+tiny, at(s, x.heads+x.kv+g))
	}
	errDelta := absDot(do, y) * sumError(hd) // 2. delta is made of y as it is rounded
	for j, e := range half(y, errY) {
		errDelta += math.Abs(do[j]) * e
	}
	for s, w := range p { // 3. dv += p·do, dk += ds·q, dq += ds·k, with p and ds rounded
		k, v := at(s, x.heads+g), at(s, x.heads+x.kv+g)
		ds := w * math.Abs(d[s]-delta) * scale
		err := w * scale * (errDelta + absDot(do, v)*sumError(hd) + (again+8*eps32)*(math.Abs(d[s])+math.Abs(delta)))
		err += (ds+err)/256 + (ds+err)*adds + tiny
		addMagnitudes(most(s, x.heads+x.kv+g), w*(1.0/256+2*again+adds)+tiny, do)
		addMagnitudes(most(s, x.heads+g), err, at(t, h))
		addMagnitudes(most(t, h), err, k)
	}
}

// addMagnitudes adds f·|x|.
func addMagnitudes(to []float64, f float64, x []float64) {
	for i := range to {
		to[i] += f * math.Abs(x[i])
	}
}

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

func absDot(a, b []float64) (sum float64) {
	for i := range a {
		sum += math.Abs(a[i] * b[i])
	}
	return sum
}

func addTimes(to []float64, f float64, x []float64) {
	for i := range to {
		to[i] += f * x[i]
	}
}

// attnRun is what the kernels make of a case.
type attnRun struct {
	y, dqkv    []kern.BF16
	lse, delta []float32
}

// width is the kernels' for heads of hd.
func width(hd int) string {
	switch {
	case hd <= 32:
		return "32"
	case hd <= 64:
		return "64"
	}
	return "128"
}

func (x *attnCase) run(t rapid.TB, b *bench) attnRun {
	t.Helper()
	rows, blocks := x.B*x.T, (x.T+63)/64
	o := attnRun{make([]kern.BF16, len(x.dy)), make([]kern.BF16, len(x.qkv)), make([]float32, len(x.lse)), make([]float32, len(x.lse))}
	shape := []any{int32(x.T), int32(x.heads), int32(x.kv), int32(x.hd), int32(x.stride())}
	with := func(args ...any) []any { return append(args, shape...) }
	b.call(t, "attention_"+width(x.hd), [3]int{blocks, x.heads, x.B}, with(o.y, o.lse, x.qkv)...)
	b.call(t, "attention_delta", [3]int{(rows*x.heads + 3) / 4, 1, 1}, o.delta, o.y, x.dy, int32(rows), int32(x.T), int32(x.heads), int32(x.hd))
	b.call(t, "attention_keys_"+width(x.hd), [3]int{blocks, x.kv, x.B}, with(o.dqkv, x.qkv, x.dy, o.lse, o.delta)...)
	b.call(t, "attention_queries_"+width(x.hd), [3]int{blocks, x.heads, x.B}, with(o.dqkv, x.qkv, x.dy, o.lse, o.delta)...)
	return o
}

// values are dqkv without what pads its rows, which must be as it was.
func (x *attnCase) values(t rapid.TB, dqkv []kern.BF16) (out []float32) {
	t.Helper()
	S := x.stride()
	for from := 0; from < len(dqkv); from += S {
		out = append(out, widened(dqkv[from:from+S-x.pad])...)
		for _, v := range dqkv[from+S-x.pad : from+S] {
			if v != 0 {
				t.Fatalf("wrote %v between rows of dqkv", v)
			}
		}
	}
	return out
}

func largest(x []float64) (m float64) {
	for _, v := range x {
		m = math.Max(m, math.Abs(v))
	}
	return m
}

// attnShapes are one token, around one and two blocks of queries, grouped and single key heads, every width and less, rows that no
// vector may read.
var attnShapes = []attn{{2, 1, 2, 1, 32, 0}, {1, 2, 1, 1, 2, 0}, {2, 17, 4, 2, 10, 3}, {1, 63, 2, 2, 24, 0}, {1, 130, 3, 1, 32, 8}, {1, 65, 2, 1, 64, 0}, {2, 64, 4, 2, 48, 8}, {1, 129, 2, 1, 128, 0},
	{1, 70, 4, 2, 96, 5}, {1, 40, 1, 1, 34, 1}, {1, 21, 2, 1, 7, 2}}

// Against float64 the error is that of bfloat16: of p and ds in products, of the results. model/cpu is held to the same bounds.
func TestAttention(t *testing.T) {
	b := on(t, "attention.cu")
	for _, a := range attnShapes {
		for _, sharp := range []float64{1, 12} { // 12: most weight on one key, maxima that grow from block to block
			t.Run(fmt.Sprint(a, sharp), func(t *testing.T) {
				x := newAttnCase(a, sharp)
				o := x.run(t, b)
				most := 2e-6 * sharp
				if standin.Real() {
					most += x.scores * sumError(a.hd)
				}
				near(t, "log-sum", o.lse, x.lse, 2e-6, most)
				near(t, "y", widened(o.y), x.y, 0, 8e-3*largest(x.y))
				near(t, "gradient", x.values(t, o.dqkv), x.grad, 0, 1e-2*largest(x.grad))
				x.within(t, o)
			})
		}
	}
}

// within holds a run to what rounding allows, value by value.
func (x *attnCase) within(t rapid.TB, o attnRun) {
	t.Helper()
	bounded(t, fmt.Sprint(x.attn, ": log-sum"), o.lse, x.lse, x.most.lse)
	bounded(t, fmt.Sprint(x.attn, ": y"), widened(o.y), x.y, x.most.y)
	bounded(t, fmt.Sprint(x.attn, ": gradient"), x.values(t, o.dqkv), x.grad, x.most.grad)
}

func TestAttentionDrawn(t *testing.T) {
	b := on(t, "attention.cu")
	rapid.Check(t, func(rt *rapid.T) {
		n := func(name string, from, to int) int { return rapid.IntRange(from, to).Draw(rt, name) }
		a := attn{B: n("B", 1, 2), T: n("T", 1, 70), kv: n("kv", 1, 2), hd: n("hd", 1, 36), pad: n("pad", 0, 9)}
		a.heads = a.kv * n("group", 1, 3)
		x := newAttnCase(a, float64(n("sharp", 1, 12)))
		o := x.run(rt, b)
		x.within(rt, o)
	})
}

// The same bits whatever the order of blocks and warps.
func TestAttentionOrders(t *testing.T) {
	b := on(t, "attention.cu")
	for _, a := range []attn{{2, 130, 4, 2, 32, 0}, {1, 70, 2, 1, 128, 2}} {
		x := newAttnCase(a, 1)
		b.sameInOrders(fmt.Sprint("attention ", a), func() []float32 {
			o := x.run(t, b)
			return slices.Concat(widened(o.y), widened(o.dqkv), o.lse, o.delta)
		})
	}
}

// Nothing of a later key is ever a number: a sequence's first rows have the same bits whatever follows them, and so have the gradients
// of queries.
func TestAttentionSeesNothingBehindTheDiagonal(t *testing.T) {
	b := on(t, "attention.cu")
	for _, a := range []attn{{1, 90, 4, 2, 32, 0}, {2, 70, 1, 1, 64, 0}, {1, 80, 2, 1, 128, 0}} {
		x := newAttnCase(a, 1)
		want, S, turned := x.run(t, b), a.stride(), a.heads*a.hd
		for i, from := range []int{1, 7, 16, 37, 64, a.T - 1} {
			for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1 - i%2*2))} {
				y := *x
				y.qkv = slices.Clone(x.qkv)
				for i := range y.qkv {
					if s := i / S % a.T; s >= from && i%S >= turned { // keys and values
						y.qkv[i] = kern.RoundBF16(bad)
					}
				}
				got := y.run(t, b)
				for first := 0; first < a.B*a.T; first += a.T {
					same(t, fmt.Sprintf("%v: y before a key of %v at %d", a, bad, from), got.y[first*turned:(first+from)*turned], want.y[first*turned:(first+from)*turned])
					for s := first; s < first+from; s++ {
						same(t, fmt.Sprintf("%v: gradient of query %d before a key of %v at %d", a, s-first, bad, from), got.dqkv[s*S:s*S+turned], want.dqkv[s*S:s*S+turned])
					}
					for i, v := range widened(got.y[(first+from)*turned : (first+a.T)*turned]) {
						if v == v {
							t.Fatalf("%v: value %d of y is %v after a key of %v at %d", a, i, v, bad, from)
						}
					}
				}
			}
		}
	}
}

// One value that is no number reaches its column in the rows that see it, whatever weight they give it, and nothing else.
func TestAttentionValueIsNoNumber(t *testing.T) {
	b := on(t, "attention.cu")
	for _, a := range []attn{{1, 90, 2, 2, 32, 0}, {1, 70, 1, 1, 128, 0}} {
		x := newAttnCase(a, 12) // so sharp that the weights of many keys are zero in bfloat16
		want, S, col := x.run(t, b), a.stride(), a.hd/2+1
		for _, at := range []int{0, 5, 30, 67} {
			y := *x
			y.qkv = slices.Clone(x.qkv)
			y.qkv[at*S+(a.heads+a.kv)*a.hd+col] = kern.RoundBF16(float32(math.Inf(1)))
			got := y.run(t, b)
			for i, v := range got.y {
				row, f := i/(a.heads*a.hd), v.Float32()
				if row >= at && i%(a.heads*a.hd) == col {
					if f-f == 0 {
						t.Fatalf("%v: y of row %d is %v, it sees an infinity at %d", a, row, f, at)
					}
				} else if v != want.y[i] {
					t.Fatalf("%v: y of row %d, column %d is %v, not %v, for an infinity at %d", a, row, i%(a.heads*a.hd), f, want.y[i].Float32(), at)
				}
			}
		}
	}
}

// A query, or a gradient, that is no number spoils its own head's row, and of keys only those it sees.
func TestAttentionGradientShowsWhatIsNoNumber(t *testing.T) {
	b := on(t, "attention.cu")
	const at = 21
	for _, a := range []attn{{1, 70, 2, 1, 32, 0}, {1, 40, 1, 1, 128, 0}} {
		x := newAttnCase(a, 1)
		want := x.run(t, b)
		x.dy = slices.Clone(x.dy)
		x.dy[at*a.heads*a.hd+3] = kern.RoundBF16(float32(math.Inf(-1)))
		got := x.run(t, b)
		S, keys := a.stride(), a.heads*a.hd
		for s := range a.T {
			k := widened(got.dqkv[s*S+keys : s*S+keys+a.hd])
			if s > at {
				same(t, fmt.Sprintf("%v: keys' gradient at %d", a, s), got.dqkv[s*S+keys:(s+1)*S], want.dqkv[s*S+keys:(s+1)*S])
			} else if s < at && k[0]-k[0] == 0 {
				t.Errorf("%v: the gradient of key %d is %v", a, s, k[0])
			}
			if v := got.dqkv[s*S+keys+a.hd+3].Float32(); (v-v == 0) != (s > at) {
				t.Errorf("%v: the gradient of value %d is %v", a, s, v)
			}
			if q := got.dqkv[s*S].Float32(); (q-q == 0) != (s != at) {
				t.Errorf("%v: the gradient of query %d is %v", a, s, q)
			}
		}
	}
}
