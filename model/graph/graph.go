// Package graph is the same Llama as a gorgonia graph with automatic gradients: the oracle that the hand-written engine is
// compared with, and a slow second engine (--engine gorgonia). float32; bfloat16 is refused. It does not decode: a
// text costs a forward pass for every token (model/sample).
package graph

import (
	"fmt"
	"math"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"sn3/model"
)

// builder makes one graph for one batch. Errors of gorgonia are kept and returned once.
type builder struct {
	c      model.Config
	g      *gorgonia.ExprGraph
	dtype  tensor.Dtype // Float32 as an engine, Float64 as the judge of roundings
	B, T   int
	flat   []float32 // parameters, row-major in tensor order
	params []param
	err    error
}

// param is a parameter's node; transposed says that the node holds [in, out].
type param struct {
	t          model.Tensor
	n          *gorgonia.Node
	transposed bool
}

type node = *gorgonia.Node

func (b *builder) ok(n node, err error) node {
	if err != nil && b.err == nil {
		b.err = err
	}
	return n
}

func (b *builder) constant(name string, data []float32, shape ...int) node {
	var backing any = data
	if b.dtype == gorgonia.Float64 {
		wide := make([]float64, len(data))
		for i, x := range data {
			wide[i] = float64(x)
		}
		backing = wide
	}
	return gorgonia.NewTensor(b.g, b.dtype, len(shape), gorgonia.WithName(name), gorgonia.WithShape(shape...),
		gorgonia.WithValue(tensor.New(tensor.WithShape(shape...), tensor.WithBacking(backing))))
}

func (b *builder) number(x float64) node {
	if b.dtype == gorgonia.Float64 {
		return gorgonia.NewConstant(x)
	}
	return gorgonia.NewConstant(float32(x))
}

// values is a result of either type.
func values(v gorgonia.Value) ([]float64, error) {
	switch d := v.Data().(type) {
	case float32:
		return []float64{float64(d)}, nil
	case float64:
		return []float64{d}, nil
	case []float64:
		return d, nil
	case []float32:
		out := make([]float64, len(d))
		for i, x := range d {
			out[i] = float64(x)
		}
		return out, nil
	}
	return nil, fmt.Errorf("gorgonia: a result of type %T", v.Data())
}

// vector is a 1-D parameter or the embedding as it is; matrix is [out, in] transposed to [in, out].
func (b *builder) vector(t model.Tensor) node {
	n := b.constant(t.Name, append([]float32(nil), b.flat[t.Off:t.Off+t.Len()]...), t.Shape...)
	b.params = append(b.params, param{t, n, false})
	return n
}

func (b *builder) matrix(t model.Tensor) node {
	out, in := t.Shape[0], t.Shape[1]
	n := b.constant(t.Name, transposed(b.flat[t.Off:t.Off+t.Len()], out, in), in, out)
	b.params = append(b.params, param{t, n, true})
	return n
}

func transposed[F float32 | float64](src []F, rows, cols int) []F {
	dst := make([]F, len(src))
	for r := range rows {
		for c := range cols {
			dst[c*rows+r] = src[r*cols+c]
		}
	}
	return dst
}

func (b *builder) mul(x, y node) node  { return b.ok(gorgonia.Mul(x, y)) }
func (b *builder) add(x, y node) node  { return b.ok(gorgonia.Add(x, y)) }
func (b *builder) prod(x, y node) node { return b.ok(gorgonia.HadamardProd(x, y)) }
func (b *builder) shape(x node, s ...int) node {
	return b.ok(gorgonia.Reshape(x, tensor.Shape(s)))
}

// rms is x/√(mean x² + ε)·w. Not with InverseSqrt: its gradient is wrong in gorgonia v0.9.18 (TestInverseSqrtIsWrong).
func (b *builder) rms(x, w node) node {
	ms := b.ok(gorgonia.Mean(b.ok(gorgonia.Square(x)), 1))
	sd := b.ok(gorgonia.Sqrt(b.add(ms, b.number(b.c.NormEps))))
	y := b.ok(gorgonia.BroadcastHadamardDiv(x, sd, nil, []byte{1}))
	return b.ok(gorgonia.BroadcastHadamardProd(y, w, nil, []byte{0}))
}

// heads turns (N, H·hd) into (B·H·T, hd).
func (b *builder) heads(x node) node {
	c := b.c
	y := b.shape(x, b.B, b.T, c.Heads, c.HeadDim)
	y = b.ok(gorgonia.Transpose(y, 0, 2, 1, 3))
	return b.shape(y, b.B*c.Heads*b.T, c.HeadDim)
}

// rotary are cos, sin (B·H·T, hd) and the signed permutation P with x·P = [-x2, x1].
func (b *builder) rotary() (cos, sin, rot node) {
	hd, rows := b.c.HeadDim, b.B*b.c.Heads*b.T
	cv, sv, rv := make([]float32, rows*hd), make([]float32, rows*hd), make([]float32, hd*hd)
	freq := frequencies(b.c)
	for r := range rows {
		for i := range hd {
			a := float64(float32(r%b.T) * freq[i%(hd/2)])
			cv[r*hd+i], sv[r*hd+i] = float32(math.Cos(a)), float32(math.Sin(a))
		}
	}
	for i := range hd / 2 {
		rv[(i+hd/2)*hd+i], rv[i*hd+i+hd/2] = -1, 1
	}
	return b.constant("cos", cv, rows, hd), b.constant("sin", sv, rows, hd), b.constant("rot", rv, hd, hd)
}

// frequencies are θ^(−2i/hd), (hd/2), scaled as the configuration says; written apart from model/cpu, whose oracle this is.
func frequencies(c model.Config) []float32 {
	out := make([]float32, c.HeadDim/2)
	for i := range out {
		f := float32(math.Pow(c.RopeTheta, -float64(2*i)/float64(c.HeadDim)))
		if s := c.Rope; s != nil {
			keep := float32(0) // how much of the frequency stays as it was
			if s.Type == "llama3" {
				turns := float32(s.Original) * f / (2 * math.Pi)
				keep = min(1, max(0, (turns-float32(s.LowFreq))/float32(s.HighFreq-s.LowFreq)))
			}
			f *= keep + (1-keep)/float32(s.Factor)
		}
		out[i] = f
	}
	return out
}

// repeat copies each key/value head for the query heads that share it: a constant 0/1 matrix (KV·hd, H·hd).
func (b *builder) repeat() node {
	c := b.c
	if c.KVHeads == c.Heads {
		return nil
	}
	in, out := c.KVHeads*c.HeadDim, c.Heads*c.HeadDim
	m := make([]float32, in*out)
	for h := range c.Heads {
		for i := range c.HeadDim {
			m[(h/(c.Heads/c.KVHeads)*c.HeadDim+i)*out+h*c.HeadDim+i] = 1
		}
	}
	return b.constant("repeat", m, in, out)
}

func (b *builder) mask() node {
	n := b.B * b.c.Heads
	m := make([]float32, n*b.T*b.T)
	for i := range m {
		if i%b.T > i/b.T%b.T {
			m[i] = -1e9
		}
	}
	return b.constant("mask", m, n, b.T, b.T)
}

func (b *builder) oneHot(name string, ids []int32) node {
	v := make([]float32, len(ids)*b.c.Vocab)
	for i, t := range ids {
		if t != model.Ignored {
			v[i*b.c.Vocab+int(t)] = 1
		}
	}
	return b.constant(name, v, len(ids), b.c.Vocab)
}

// logits builds the model for the tokens x, (N).
func (b *builder) logits(x []int32) node {
	c := b.c
	ts := c.Tensors()
	emb := b.vector(ts[0])
	h := b.mul(b.oneHot("x", x), emb)
	cos, sin, rot := b.rotary()
	rep, mask := b.repeat(), b.mask()
	scale := b.number(1 / math.Sqrt(float64(c.HeadDim)))
	bh, N := b.B*c.Heads, b.B*b.T
	rope := func(q node) node { return b.add(b.prod(q, cos), b.prod(b.mul(q, rot), sin)) }
	cube := func(q node) node { return b.shape(q, bh, b.T, c.HeadDim) }
	for l := range c.Layers {
		t := ts[1+9*l:]
		n := b.rms(h, b.vector(t[0]))
		q, k, v := b.mul(n, b.matrix(t[1])), b.mul(n, b.matrix(t[2])), b.mul(n, b.matrix(t[3]))
		if rep != nil {
			k, v = b.mul(k, rep), b.mul(v, rep)
		}
		s := b.ok(gorgonia.BatchedMatMul(cube(rope(b.heads(q))), cube(rope(b.heads(k))), false, true))
		s = b.add(b.prod(s, scale), mask)
		p := b.ok(gorgonia.SoftMax(b.shape(s, bh*b.T, b.T), 1))
		y := b.ok(gorgonia.BatchedMatMul(b.shape(p, bh, b.T, b.T), cube(b.heads(v))))
		y = b.ok(gorgonia.Transpose(b.shape(y, b.B, c.Heads, b.T, c.HeadDim), 0, 2, 1, 3))
		h = b.add(h, b.mul(b.shape(y, N, c.Heads*c.HeadDim), b.matrix(t[4])))
		n = b.rms(h, b.vector(t[5]))
		gate, up := b.mul(n, b.matrix(t[6])), b.mul(n, b.matrix(t[7]))
		a := b.prod(b.prod(gate, b.ok(gorgonia.Sigmoid(gate))), up)
		h = b.add(h, b.mul(a, b.matrix(t[8])))
	}
	h = b.rms(h, b.vector(ts[1+9*c.Layers]))
	if c.Tied {
		return b.mul(h, b.ok(gorgonia.Transpose(emb, 1, 0)))
	}
	return b.mul(h, b.matrix(ts[2+9*c.Layers]))
}
