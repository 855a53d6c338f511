package enginetest

import (
	"fmt"
	"math"
	"math/rand/v2"

	"sn3/model"
)

// ignored is the target that does not count.
const ignored = -100

type vec = []float64

// reference is a Llama in float64, forward and backward as their definitions say, one value at a time and one sequence after
// another. It shares nothing with any engine. Rotary angles are float32 products, as Llama's reference code makes them.
type reference struct {
	c    model.Config
	p, g map[string]vec // parameters and gradient by tensor name; tied, the output matrix is the embedding
	grad vec            // all of g, row-major in tensor order
	freq []float32      // (hd/2)
	unit float64        // of rounded; 0 is exact
	deep bool           // round activations too
	rng  *rand.Rand
}

// newReference takes parameters row-major in tensor order.
func newReference(c model.Config, rows vec) *reference {
	r := &reference{c: c, p: map[string]vec{}, g: map[string]vec{}, grad: make(vec, len(rows)), freq: frequencies(c), rng: rand.New(rand.NewPCG(uint64(len(rows)), 11))}
	for _, t := range c.Tensors() {
		r.p[t.Name], r.g[t.Name] = rows[t.Off:t.Off+t.Len()], r.grad[t.Off:t.Off+t.Len()]
	}
	if c.Tied {
		r.p[headName], r.g[headName] = r.p[embName], r.g[embName]
	}
	return r
}

// newRounded is a reference whose parameters, logits, probabilities of the loss and sums in attention's backward are up or down by
// how's unit, relative, and where how is deep also what one operation hands to the next, forward and backward: how far it is from
// the exact one is how much rounding matters here. Every draw rounds differently.
func newRounded(c model.Config, rows vec, how precise, draw int) *reference {
	moved := make(vec, len(rows))
	r := newReference(c, moved)
	r.unit, r.deep, r.rng = how.unit, how.deep, rand.New(rand.NewPCG(uint64(len(rows)), 11+uint64(draw)))
	for i, x := range rows {
		moved[i] = r.round(x)
	}
	return r
}

func (r *reference) round(x float64) float64 {
	if r.unit == 0 {
		return x
	}
	return x * (1 + r.unit*float64(2*r.rng.IntN(2)-1))
}

// keep is x as the next operation finds it.
func (r *reference) keep(x []vec) []vec {
	if !r.deep {
		return x
	}
	out := zeros(len(x), len(x[0]))
	for t := range x {
		for i, v := range x[t] {
			out[t][i] = r.round(v)
		}
	}
	return out
}

const (
	embName  = "model.embed_tokens.weight"
	normName = "model.norm.weight"
	headName = "lm_head.weight"
)

// frequencies are θ^(−2i/hd), scaled as the configuration says (Llama 3.1 report; golden/llama/README.md, "Config keys").
func frequencies(c model.Config) []float32 {
	out := make([]float32, c.HeadDim/2)
	for i := range out {
		f := float32(1 / math.Pow(c.RopeTheta, float64(2*i)/float64(c.HeadDim)))
		if s := c.Rope; s != nil {
			low, high, factor := float32(s.LowFreq), float32(s.HighFreq), float32(s.Factor)
			turns := float32(s.Original) / (float32(2*math.Pi) / f) // of this pair in the original context
			switch {
			case s.Type == "linear" || turns < low:
				f /= factor
			case turns <= high:
				m := (turns - low) / (high - low)
				f = (1-m)*f/factor + m*f
			}
		}
		out[i] = f
	}
	return out
}

// tape is what one block remembers of one sequence; every field is a row per position.
type tape struct{ x, h1, q, k, v, y, x2, h2, gate, up, a []vec }

// forward is the hidden states of one sequence before the final norm, and the blocks' tapes.
func (r *reference) forward(tokens []int32) (x []vec, tapes []tape) {
	for _, t := range tokens {
		x = append(x, append(vec(nil), r.p[embName][int(t)*r.c.Width:][:r.c.Width]...))
	}
	for l := range r.c.Layers {
		n := names(l)
		a := tape{x: x}
		a.h1 = r.keep(r.norm(x, r.p[n.n1]))
		a.q, a.k = r.keep(r.rope(r.keep(linear(a.h1, r.p[n.q])), 1)), r.keep(r.rope(r.keep(linear(a.h1, r.p[n.k])), 1))
		a.v = r.keep(linear(a.h1, r.p[n.v]))
		a.y = r.keep(r.attention(a))
		a.x2 = r.keep(sum(x, r.keep(linear(a.y, r.p[n.o]))))
		a.h2 = r.keep(r.norm(a.x2, r.p[n.n2]))
		a.gate, a.up = r.keep(linear(a.h2, r.p[n.gate])), r.keep(linear(a.h2, r.p[n.up]))
		for t := range a.gate {
			row := make(vec, r.c.FFN)
			for i, g := range a.gate[t] {
				row[i] = g * sigmoid(g) * a.up[t][i]
			}
			a.a = append(a.a, row)
		}
		a.a = r.keep(a.a)
		x = r.keep(sum(a.x2, r.keep(linear(a.a, r.p[n.down]))))
		tapes = append(tapes, a)
	}
	return x, tapes
}

// backward adds the gradient of one sequence to grad; d is the gradient of the hidden states before the final norm.
func (r *reference) backward(tokens []int32, tapes []tape, d []vec) {
	for l := r.c.Layers - 1; l >= 0; l-- {
		n, a := names(l), tapes[l]
		da := r.keep(linearBack(r.keep(d), a.a, r.p[n.down], r.g[n.down]))
		dGate, dUp := zeros(len(d), r.c.FFN), zeros(len(d), r.c.FFN)
		for t := range d {
			for i, g := range a.gate[t] {
				s := sigmoid(g)
				dUp[t][i] = da[t][i] * g * s
				dGate[t][i] = da[t][i] * a.up[t][i] * s * (1 + g*(1-s))
			}
		}
		dGate, dUp = r.keep(dGate), r.keep(dUp)
		dh2 := sum(linearBack(dGate, a.h2, r.p[n.gate], r.g[n.gate]), linearBack(dUp, a.h2, r.p[n.up], r.g[n.up]))
		d = sum(d, r.normBack(r.keep(dh2), a.x2, r.p[n.n2], r.g[n.n2]))
		dq, dk, dv := r.attentionBack(a, r.keep(linearBack(r.keep(d), a.y, r.p[n.o], r.g[n.o])))
		dq, dk, dv = r.keep(r.rope(r.keep(dq), -1)), r.keep(r.rope(r.keep(dk), -1)), r.keep(dv)
		dh1 := sum(linearBack(dq, a.h1, r.p[n.q], r.g[n.q]), linearBack(dk, a.h1, r.p[n.k], r.g[n.k]))
		dh1 = sum(dh1, linearBack(dv, a.h1, r.p[n.v], r.g[n.v]))
		d = sum(d, r.normBack(r.keep(dh1), a.x, r.p[n.n1], r.g[n.n1]))
	}
	for t, token := range tokens {
		for i, v := range d[t] {
			r.g[embName][int(token)*r.c.Width+i] += v
		}
	}
}

// logits are those of one sequence, a row per position.
func (r *reference) logits(tokens []int32) []vec {
	x, _ := r.forward(tokens)
	return r.head(r.keep(r.norm(x, r.p[normName])))
}

func (r *reference) head(h []vec) []vec {
	out := linear(h, r.p[headName])
	for _, row := range out {
		for i, l := range row {
			row[i] = r.round(l)
		}
	}
	return out
}

// losses are the mean loss of every sequence of b, in nats per counted token, and the number of counted tokens.
func (r *reference) losses(b model.Batch) (mean vec, counted []int) {
	mean, counted = make(vec, b.B), make([]int, b.B)
	for s := range b.B {
		for t, row := range r.logits(b.X[s*b.T : (s+1)*b.T]) {
			if y := b.Y[s*b.T+t]; y != ignored {
				mean[s] += logSum(row) - row[y]
				counted[s]++
			}
		}
		mean[s] /= math.Max(1, float64(counted[s]))
	}
	return mean, counted
}

// lossGrad is the mean loss over the counted targets of the whole batch and its gradient, row-major in tensor order.
func (r *reference) lossGrad(b model.Batch) (loss float64, grad vec) {
	clear(r.grad)
	counted := 0.0
	for _, y := range b.Y {
		if y != ignored {
			counted++
		}
	}
	for s := range b.B {
		tokens, targets := b.X[s*b.T:(s+1)*b.T], b.Y[s*b.T:(s+1)*b.T]
		x, tapes := r.forward(tokens)
		h := r.keep(r.norm(x, r.p[normName]))
		d := r.head(h)
		for t, row := range d { // logits become their gradient, (softmax − one-hot)/counted
			all, y := logSum(row), targets[t]
			for i, l := range row {
				row[i] = 0
				if y != ignored {
					row[i] = r.round(math.Exp(l-all)) / counted
				}
				if int(y) == i {
					loss += (all - l) / counted
					row[i] -= 1 / counted
				}
			}
		}
		dh := r.keep(linearBack(r.keep(d), h, r.p[headName], r.g[headName]))
		r.backward(tokens, tapes, r.normBack(dh, x, r.p[normName], r.g[normName]))
	}
	return loss, r.grad
}

// blockNames are the tensors of one block.
type blockNames struct{ n1, q, k, v, o, n2, gate, up, down string }

func names(l int) blockNames {
	n := func(s string) string { return fmt.Sprintf("model.layers.%d.%s.weight", l, s) }
	return blockNames{n("input_layernorm"), n("self_attn.q_proj"), n("self_attn.k_proj"), n("self_attn.v_proj"), n("self_attn.o_proj"),
		n("post_attention_layernorm"), n("mlp.gate_proj"), n("mlp.up_proj"), n("mlp.down_proj")}
}
