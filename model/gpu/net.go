package gpu

import (
	"fmt"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/memory"
)

// acts are one block's activations that the backward pass needs; N = B·T rows.
type acts struct{ x, h1, qkv, y, x2, h2, gateUp, a, r1, r2, lse cuda.Ptr }

// net is the model on the card.
type net struct {
	*card
	space
	cfg      model.Config
	layout   *model.Layout
	vec      vector
	w, g     cuda.Ptr // master parameters, 0 where they lie on the host, and gradient, as vec
	half     cuda.Ptr // the parameters in bfloat16
	short    bool     // the gradient is bfloat16
	norms    map[int]cuda.Ptr
	scalars  cuda.Ptr // outcome, table, scale and seed of kernels/adamw.cu and loss.cu
	act      []acts
	xf, hf   cuda.Ptr // (N,C) before and after the final norm
	rf, loss cuda.Ptr // (N)
	logits   cuda.Ptr // (HeadRows,V) float32, rows ld values apart,
	dlogits  cuda.Ptr // their gradient, bfloat16
	ld       int
	dx, dxo  cuda.Ptr // (N,C) gradient of the residual stream, and rounded
	dh, da   cuda.Ptr // (N,max(C,Q)) (N,F)
	dgu      cuda.Ptr // (N,2F)
	dqkv     cuda.Ptr // (N,Q+2KV)
	delta    cuda.Ptr // (B,H,T)
	part     cuda.Ptr // partial sums of a norm weight's gradient
	cos, sin cuda.Ptr // (T,hd/2)
	x, y     cuda.Ptr // tokens, targets
	order    cuda.Ptr // positions by token, and where each token's begin (kernels.Segments)
	start    cuda.Ptr
	attn     string  // suffix of attention's kernels
	places   []int64 // where chunks lie in vec (kernels/judge.cu)
}

func newNet(l *model.Layout, k *card, r memory.Request) *net {
	c := l.Config()
	n := &net{card: k, space: space{request: r}, cfg: c, layout: l, vec: vectorOf(c), short: !r.Judge && r.Plan != memory.Classic, ld: (c.Vocab + 7) &^ 7}
	n.places = n.vec.places(l)
	n.slot, n.stretch = memory.Slot(int64(l.Chunks())), min(stretch, l.Chunks())
	for _, width := range []int{32, 64, widest} {
		if n.attn == "" && c.HeadDim <= width {
			n.attn = fmt.Sprint("_", width)
		}
	}
	return n
}

// bind takes the regions by name.
func (n *net) bind() {
	at := n.at
	n.w, n.half, n.g, n.scalars = at["masters"], at["copies"], at["gradients"], at["scalars"]
	n.bindNorms(at["norm weights"])
	n.act = n.act[:0]
	for i := range n.cfg.Layers {
		prefix := fmt.Sprintf("layer %d: ", i)
		if n.request.Judge {
			prefix = [2]string{"even layers: ", "odd layers: "}[i%2]
		}
		find := func(name string) cuda.Ptr {
			if p, kept := at[prefix+name]; kept {
				return p
			}
			return at[name] // of the layer at work
		}
		n.act = append(n.act, acts{x: find("x"), h1: find("h1"), qkv: find("qkv"), y: find("y"), x2: find("x2"), h2: find("h2"), gateUp: find("gate_up"),
			a: find("a"), r1: find("r1"), r2: find("r2"), lse: find("lse")})
	}
	n.xf, n.hf, n.rf, n.loss, n.logits, n.dlogits = at["xf"], at["hf"], at["rf"], at["losses"], at["logits"], at["gradient of logits"]
	n.dx, n.dxo, n.dh, n.da, n.dgu = at["dx"], at["dx, rounded"], at["dh"], at["da"], at["dgate_up"]
	n.dqkv, n.delta, n.part = at["dqkv"], at["attention's delta"], at["norm weights by row block"]
	n.cos, n.sin = at["cosines"], at["sines"]
	n.x, n.y, n.order, n.start = at["tokens"], at["targets"], at["tokens in order"], at["where tokens begin"]
}

// bindNorms finds the norms' weights: among the masters, or in a region of their own.
func (n *net) bindNorms(own cuda.Ptr) {
	n.norms = map[int]cuda.Ptr{}
	for i, at := range n.vec.norms() {
		n.norms[at] = n.w.Add(4 * int64(at))
		if own != 0 {
			n.norms[at] = own.Add(4 * int64(i) * int64((n.cfg.Width+unit-1)&^(unit-1)))
		}
	}
}

func (n *net) q() int   { return n.cfg.Heads * n.cfg.HeadDim }
func (n *net) qkv() int { return (n.cfg.Heads + 2*n.cfg.KVHeads) * n.cfg.HeadDim }

// Of the scalars, at these bytes: outcome [4], table [10], scale [1], seed [1] of 64 bits.
const (
	tableAt  = 64
	scaleAt  = 128
	seedAt   = 192
	scalarsN = 256
)

func (n *net) outcome() cuda.Ptr { return n.scalars }
func (n *net) table() cuda.Ptr   { return n.scalars.Add(tableAt) }
func (n *net) scale() cuda.Ptr   { return n.scalars.Add(scaleAt) }
func (n *net) seed() cuda.Ptr    { return n.scalars.Add(seedAt) }

// weight is a matrix as a factor, grad a gradient.
func (n *net) weight(at int) cuda.Ptr { return n.half.Add(2 * int64(at)) }
func (n *net) grad(at int) cuda.Ptr   { return n.g.Add(n.gradBytes() * int64(at)) }

func (n *net) gradBytes() int64 {
	if n.short {
		return 2
	}
	return 4
}

// gradKernel is the name of a kernel that makes a gradient.
func (n *net) gradKernel(name string) string {
	if n.short {
		return name + "_bf16"
	}
	return name
}

// hidden runs the model up to the final norm: hf is (N,C).
//
//	per block: x2 = x + o(attention(rope(qkv(norm(x))))); x' = x2 + down(silu(gate)·up of norm(x2))
func (n *net) hidden(q *queue, B, T int) {
	c, N, eps := n.cfg, B*T, float32(n.cfg.NormEps)
	C, F := c.Width, c.FFN
	q.run("embed", N, 1, 1, n.act[0].x, n.x, n.weight(n.vec.emb), C)
	for i := range n.act {
		a, w := &n.act[i], &n.vec.layers[i]
		if i == 0 {
			q.run("rmsnorm", N, 1, 1, a.h1, a.r1, a.x, n.norms[w.n1], C, eps)
		} else { // x holds what the block before adds to its x2
			q.run("rmsnorm_add", N, 1, 1, a.h1, a.r1, a.x, a.x, n.act[i-1].x2, n.norms[w.n1], C, eps)
		}
		n.block(q, B, T, i)
		next := n.xf
		if i+1 < c.Layers {
			next = n.act[i+1].x
		}
		q.product(nt, N, C, F, a.a, F, n.weight(w.down), F, next, C, true, false)
	}
	q.run("rmsnorm_add", N, 1, 1, n.hf, n.rf, n.xf, n.xf, n.act[c.Layers-1].x2, n.norms[n.vec.norm], C, eps)
}

// block runs block i from h1 to a.
func (n *net) block(q *queue, B, T, i int) {
	c, N, a, w := n.cfg, B*T, &n.act[i], &n.vec.layers[i]
	C, Q, S, F := c.Width, n.q(), n.qkv(), c.FFN
	q.product(nt, N, S, C, a.h1, C, n.weight(w.qkv), C, a.qkv, S, true, false)
	q.run("rope", N, 1, 1, a.qkv, n.cos, n.sin, T, 0, c.Heads+c.KVHeads, c.HeadDim/2, S, float32(1))
	q.run("attention"+n.attn, blocks(T, 64), c.Heads, B, a.y, a.lse, a.qkv, T, c.Heads, c.KVHeads, c.HeadDim, S)
	q.product(nt, N, C, Q, a.y, Q, n.weight(w.o), Q, a.x2, C, true, false)
	q.run("rmsnorm_add", N, 1, 1, a.h2, a.r2, a.x2, a.x2, a.x, n.norms[w.n2], C, float32(c.NormEps))
	q.product(nt, N, 2*F, C, a.h2, C, n.weight(w.gateUp), C, a.gateUp, 2*F, true, false)
	q.run("swiglu", N, 1, 1, a.a, a.gateUp, F)
}

// again makes what was not kept of block i's activations; those of the last block are still there.
func (n *net) again(q *queue, B, T, i int) {
	if n.request.Recompute == memory.None || i == len(n.act)-1 {
		return
	}
	N, C, eps, a, w := B*T, n.cfg.Width, float32(n.cfg.NormEps), &n.act[i], &n.vec.layers[i]
	q.run("rmsnorm", N, 1, 1, a.h1, a.r1, a.x, n.norms[w.n1], C, eps)
	if n.request.Recompute == memory.Full {
		n.block(q, B, T, i)
		return
	}
	q.run("rmsnorm", N, 1, 1, a.h2, a.r2, a.x2, n.norms[w.n2], C, eps)
	q.run("swiglu", N, 1, 1, a.a, a.gateUp, n.cfg.FFN)
}

// eachHead computes the logits of hf's N rows, a block of them at a time, and calls f for each.
func (n *net) eachHead(q *queue, N int, f func(row, rows int)) {
	V, C := n.cfg.Vocab, n.cfg.Width
	for from := 0; from < N; from += memory.HeadRows {
		rows := min(memory.HeadRows, N-from)
		q.product(nt, rows, V, C, n.hf.Add(2*int64(from)*int64(C)), C, n.weight(n.vec.head), C, n.logits, n.ld, false, false)
		f(from, rows)
	}
}
