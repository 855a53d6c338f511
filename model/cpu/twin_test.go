package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"sn3/model"
	"sn3/model/kern"
)

// The naive twin: each layer's forward as its definition says, in float64, one value at a time. Central differences of it are
// what the hand-written backward must give.

type vec = []float64

func wide(v []float32) vec {
	out := make(vec, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

// rms64 is x/√(mean x² + ε)·w for one row.
func rms64(x, w vec, eps float64) vec {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	out := make(vec, len(x))
	for i, v := range x {
		out[i] = v / math.Sqrt(sum/float64(len(x))+eps) * w[i]
	}
	return out
}

// rope64 turns the pairs (i, i+hd/2) of every head of a row at position pos; angles are float32 products, as the reference has them.
func rope64(row vec, hd, pos int, freq []float32) vec {
	out := make(vec, len(row))
	for h := 0; h < len(row); h += hd {
		for i, f := range freq {
			a := float64(float32(pos) * f)
			x, y := row[h+i], row[h+i+hd/2]
			out[h+i], out[h+i+hd/2] = x*math.Cos(a)-y*math.Sin(a), y*math.Cos(a)+x*math.Sin(a)
		}
	}
	return out
}

// attention64 is causal attention over one sequence; a row of qkv holds the query heads, then the key, then the value heads.
func attention64(c model.Config, qkv []vec) []vec {
	hd, out := c.HeadDim, make([]vec, len(qkv))
	for t := range qkv {
		out[t] = make(vec, c.Heads*hd)
		for h := range c.Heads {
			g := h / (c.Heads / c.KVHeads)
			p, sum := make(vec, t+1), 0.0
			for s := range p {
				for i := range hd {
					p[s] += qkv[t][h*hd+i] * qkv[s][(c.Heads+g)*hd+i]
				}
				p[s] = math.Exp(p[s] / math.Sqrt(float64(hd)))
				sum += p[s]
			}
			for s := range p {
				for i := range hd {
					out[t][h*hd+i] += p[s] / sum * qkv[s][(c.Heads+c.KVHeads+g)*hd+i]
				}
			}
		}
	}
	return out
}

// linear64 is x·wᵀ, w being [out, in].
func linear64(x, w vec) vec {
	out := make(vec, len(w)/len(x))
	for i := range out {
		for j, v := range x {
			out[i] += v * w[i*len(x)+j]
		}
	}
	return out
}

func silu64(g float64) float64 { return g / (1 + math.Exp(-g)) }

// cross64 is −log softmax(l)[y].
func cross64(l vec, y int32) float64 {
	sum := 0.0
	for _, v := range l {
		sum += math.Exp(v)
	}
	return math.Log(sum) - l[y]
}

// twin is a whole model: parameters row-major in tensor order, and views of them by name.
type twin struct {
	c  model.Config
	p  vec
	at map[string]vec
}

func newTwin(c model.Config, rows []float32) twin {
	w := twin{c, wide(rows), map[string]vec{}}
	for _, t := range c.Tensors() {
		w.at[t.Name] = w.p[t.Off : t.Off+t.Len()]
	}
	if c.Tied {
		w.at["lm_head.weight"] = w.at["model.embed_tokens.weight"]
	}
	return w
}

// losses are −log p of every target of a batch, 0 where it does not count.
func (w twin) losses(b model.Batch) vec {
	out := make(vec, len(b.Y))
	for s := range b.B {
		for t, x := range w.hidden(b.X[s*b.T : (s+1)*b.T]) {
			if y := b.Y[s*b.T+t]; y != ignored {
				out[s*b.T+t] = cross64(linear64(x, w.at["lm_head.weight"]), y)
			}
		}
	}
	return out
}

// loss is the mean over the counted targets.
func (w twin) loss(b model.Batch) float64 {
	sum, n := 0.0, 0.0
	for i, l := range w.losses(b) {
		sum += l
		if b.Y[i] != ignored {
			n++
		}
	}
	return sum / math.Max(1, n)
}

func (w twin) hidden(tokens []int32) []vec {
	c := w.c
	var x []vec
	for _, t := range tokens {
		x = append(x, append(vec(nil), w.at["model.embed_tokens.weight"][int(t)*c.Width:][:c.Width]...))
	}
	for l := range c.Layers {
		w.block(fmt.Sprintf("model.layers.%d.", l), x)
	}
	for t := range x {
		x[t] = rms64(x[t], w.at["model.norm.weight"], c.NormEps)
	}
	return x
}

func (w twin) block(name string, x []vec) {
	c, freq := w.c, InvFreq(w.c)
	qkv := make([]vec, len(x))
	for t := range x {
		h := rms64(x[t], w.at[name+"input_layernorm.weight"], c.NormEps)
		qkv[t] = rope64(linear64(h, w.at[name+"self_attn.q_proj.weight"]), c.HeadDim, t, freq)
		qkv[t] = append(qkv[t], rope64(linear64(h, w.at[name+"self_attn.k_proj.weight"]), c.HeadDim, t, freq)...)
		qkv[t] = append(qkv[t], linear64(h, w.at[name+"self_attn.v_proj.weight"])...)
	}
	for t, y := range attention64(c, qkv) {
		addTo(x[t], linear64(y, w.at[name+"self_attn.o_proj.weight"]))
		h := rms64(x[t], w.at[name+"post_attention_layernorm.weight"], c.NormEps)
		a, up := linear64(h, w.at[name+"mlp.gate_proj.weight"]), linear64(h, w.at[name+"mlp.up_proj.weight"])
		for i := range a {
			a[i] = silu64(a[i]) * up[i]
		}
		addTo(x[t], linear64(a, w.at[name+"mlp.down_proj.weight"]))
	}
}

func addTo(x, y vec) {
	for i := range x {
		x[i] += y[i]
	}
}

// kernelSets runs f with every set of kernels that this CPU can run.
func kernelSets(t *testing.T, f func(t *testing.T, name string)) {
	for _, name := range kern.Names() {
		t.Run(name, func(t *testing.T) {
			if _, err := kern.Select(name); err != nil {
				t.Skip(err)
			}
			f(t, name)
		})
	}
}

// positions is how many values of a vector differences looks at.
const positions = 40

// differences compares grad with central differences of f over x.
func differences(t *testing.T, what string, f func() float64, x vec, grad []float32) {
	t.Helper()
	const h = 1e-5
	size := 0.0
	for _, g := range grad {
		size = math.Max(size, math.Abs(float64(g)))
	}
	r := rand.New(rand.NewPCG(uint64(len(x)), 7))
	at, most := r.Perm(len(x)), positions
	if testing.Short() { // under the race detector
		most = 5
	}
	for _, i := range at[:min(len(at), most)] {
		old := x[i]
		x[i] = old + h
		up := f()
		x[i] = old - h
		down := f()
		x[i] = old
		want := (up - down) / (2 * h)
		if off := math.Abs(float64(grad[i]) - want); !(off <= 2e-5*math.Max(size, math.Abs(want))+1e-8) {
			t.Fatalf("%s: gradient %d is %v, central differences give %v (largest %v)", what, i, grad[i], want, size)
		}
	}
}

// equals compares a forward result with the twin's.
func equals(t *testing.T, what string, got []float32, want vec) {
	t.Helper()
	size := 0.0
	for _, w := range want {
		size = math.Max(size, math.Abs(w))
	}
	for i, w := range want {
		if !(math.Abs(float64(got[i])-w) <= 1e-5*size+1e-8) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], w)
		}
	}
}

func fill(r *rand.Rand, v []float32, std float64) []float32 {
	for i := range v {
		v[i] = float32(std * r.NormFloat64())
	}
	return v
}
