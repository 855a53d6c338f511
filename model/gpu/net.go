package gpu

import (
	"fmt"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
)

const (
	headRows = 512 // rows of logits that exist at once
	normRows = 16  // rows that a partial sum of a norm weight's gradient covers (rmsnorm_back)
)

// acts are one block's activations that the backward pass needs; N = B·T rows.
type acts struct{ x, h1, qkv, y, x2, h2, gateUp, a, r1, r2, lse cuda.Ptr }

// net is the model on the card.
type net struct {
	*card
	cfg      model.Config
	layout   *model.Layout
	vec      vector
	w, g     cuda.Ptr // master parameters and gradient, float32, as vec
	half     cuda.Ptr // the parameters in bfloat16
	scalars  cuda.Ptr // outcome, table and scale of kernels/adamw.cu and loss.cu
	rows     int      // N and T that there is room for
	span     int
	base     cuda.Ptr // of all that follows
	act      []acts
	xf, hf   cuda.Ptr // (N,C) before and after the final norm
	rf, loss cuda.Ptr // (N)
	logits   cuda.Ptr // (headRows,V) float32,
	dlogits  cuda.Ptr // their gradient, bfloat16
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
	sorted   [2][]int32
	attn     string // suffix of attention's kernels
	forward  bool   // it only measures: one block's activations serve all
}

func newNet(c model.Config, l *model.Layout, k *card) *net {
	n := &net{card: k, cfg: c, layout: l, vec: vectorOf(c)}
	for _, width := range []int{32, 64, widest} {
		if n.attn == "" && c.HeadDim <= width {
			n.attn = fmt.Sprint("_", width)
		}
	}
	return n
}

func (n *net) q() int   { return n.cfg.Heads * n.cfg.HeadDim }
func (n *net) qkv() int { return (n.cfg.Heads + 2*n.cfg.KVHeads) * n.cfg.HeadDim }

// Of the scalars: outcome [4], table [10], scale [1].
func (n *net) outcome() cuda.Ptr { return n.scalars }
func (n *net) table() cuda.Ptr   { return n.scalars.Add(64) }
func (n *net) scale() cuda.Ptr   { return n.scalars.Add(128) }

// weight is a matrix as a factor, norm a norm's weight, grad a gradient.
func (n *net) weight(at int) cuda.Ptr { return n.half.Add(2 * int64(at)) }
func (n *net) norm(at int) cuda.Ptr   { return n.w.Add(4 * int64(at)) }
func (n *net) grad(at int) cuda.Ptr   { return n.g.Add(4 * int64(at)) }

// reserve makes room for B sequences of T tokens.
func (n *net) reserve(q *queue, B, T int) {
	if B*T <= n.rows && T <= n.span {
		return
	}
	n.rows, n.span = max(n.rows, B*T), max(n.span, T)
	n.sorted = [2][]int32{make([]int32, n.rows), make([]int32, n.rows+1)}
	n.base = q.allocate(n.base, n.carve)
	cos, sin := angles(n.cfg, n.span)
	put(q, n.cos, cos)
	put(q, n.sin, sin)
	if q.err != nil { // there is room for nothing
		n.rows, n.span = 0, 0
	}
}

func (n *net) carve(a *arena) {
	c, N := n.cfg, n.rows
	C, Q, S, F := c.Width, n.q(), n.qkv(), c.FFN
	n.act = n.act[:0]
	layers := c.Layers
	if n.forward {
		layers = min(layers, 2) // x of one block, while x2 of the one before is read
	}
	for range layers {
		n.act = append(n.act, acts{x: a.half(N * C), h1: a.half(N * C), qkv: a.half(N * S), y: a.half(N * Q), x2: a.half(N * C),
			h2: a.half(N * C), gateUp: a.half(N * 2 * F), a: a.half(N * F), r1: a.f32(N), r2: a.f32(N), lse: a.f32(N * c.Heads)})
	}
	rows := min(N, headRows)
	n.xf, n.hf, n.rf, n.loss = a.half(N*C), a.half(N*C), a.f32(N), a.f32(N)
	n.logits = a.f32(rows * c.Vocab)
	n.cos, n.sin = a.f32(n.span*c.HeadDim/2), a.f32(n.span*c.HeadDim/2)
	n.x, n.y, n.order, n.start = a.f32(N), a.f32(N), a.f32(N), a.f32(N+1)
	if n.forward {
		return
	}
	n.dlogits = a.half(rows * c.Vocab)
	n.dx, n.dxo, n.dh, n.da = a.f32(N*C), a.half(N*C), a.half(N*max(C, Q)), a.half(N*F)
	n.dgu, n.dqkv, n.delta, n.part = a.half(N*2*F), a.half(N*S), a.f32(N*c.Heads), a.f32(blocks(N, normRows)*C)
}

// load brings a batch to the card.
func (n *net) load(q *queue, b model.Batch) {
	n.reserve(q, b.B, b.T)
	order, start := n.sorted[0][:len(b.X)], n.sorted[1][:len(b.X)+1]
	kernels.Segments(b.X, order, start)
	put(q, n.x, b.X)
	put(q, n.y, b.Y)
	put(q, n.order, order)
	put(q, n.start, start)
}

// hidden runs the model up to the final norm: hf is (N,C).
//
//	per block: x2 = x + o(attention(rope(qkv(norm(x))))); x' = x2 + down(silu(gate)·up of norm(x2))
func (n *net) hidden(q *queue, B, T int) {
	c, N, eps := n.cfg, B*T, float32(n.cfg.NormEps)
	C, Q, S, F, half := c.Width, n.q(), n.qkv(), c.FFN, c.HeadDim/2
	q.run("embed", N, 1, 1, n.act[0].x, n.x, n.weight(n.vec.emb), C)
	at := func(i int) *acts { return &n.act[i%len(n.act)] }
	for i := range c.Layers {
		a, w := at(i), &n.vec.layers[i]
		if i == 0 {
			q.run("rmsnorm", N, 1, 1, a.h1, a.r1, a.x, n.norm(w.n1), C, eps)
		} else { // x holds what the block before adds to its x2
			q.run("rmsnorm_add", N, 1, 1, a.h1, a.r1, a.x, a.x, at(i-1).x2, n.norm(w.n1), C, eps)
		}
		q.half(nt, N, S, C, a.h1, C, n.weight(w.qkv), C, a.qkv, S)
		q.run("rope", N, 1, 1, a.qkv, n.cos, n.sin, T, 0, c.Heads+c.KVHeads, half, S, float32(1))
		q.run("attention"+n.attn, blocks(T, 64), c.Heads, B, a.y, a.lse, a.qkv, T, c.Heads, c.KVHeads, c.HeadDim, S)
		q.half(nt, N, C, Q, a.y, Q, n.weight(w.o), Q, a.x2, C)
		q.run("rmsnorm_add", N, 1, 1, a.h2, a.r2, a.x2, a.x2, a.x, n.norm(w.n2), C, eps)
		q.half(nt, N, 2*F, C, a.h2, C, n.weight(w.gateUp), C, a.gateUp, 2*F)
		q.run("swiglu", N, 1, 1, a.a, a.gateUp, F)
		next := n.xf
		if i+1 < c.Layers {
			next = at(i + 1).x
		}
		q.half(nt, N, C, F, a.a, F, n.weight(w.down), F, next, C)
	}
	q.run("rmsnorm_add", N, 1, 1, n.hf, n.rf, n.xf, n.xf, at(c.Layers-1).x2, n.norm(n.vec.norm), C, eps)
}

// backward adds to outcome's loss that of the batch that is loaded, times scale, and makes g its gradient, or adds it with acc.
func (n *net) backward(q *queue, B, T int, acc bool) {
	c, N := n.cfg, B*T
	C, Q, S, F := c.Width, n.q(), n.qkv(), c.FFN
	if !acc && !c.Tied {
		q.clear(n.grad(n.vec.emb), 4*int64(c.Vocab)*int64(C))
	}
	n.head(q, N, acc)
	q.clear(n.dx, 4*int64(N)*int64(C))
	n.normBack(q, N, n.xf, n.rf, n.vec.norm, acc)
	for i := len(n.act) - 1; i >= 0; i-- {
		a, w := &n.act[i], &n.vec.layers[i]
		q.product(tn, C, F, N, n.dxo, C, a.a, F, n.grad(w.down), F, acc)
		q.half(nn, N, F, C, n.dxo, C, n.weight(w.down), F, n.da, F)
		q.run("swiglu_back_half", N, 1, 1, n.dgu, a.gateUp, n.da, F)
		q.product(tn, 2*F, C, N, n.dgu, 2*F, a.h2, C, n.grad(w.gateUp), C, acc)
		q.half(nn, N, C, 2*F, n.dgu, 2*F, n.weight(w.gateUp), C, n.dh, C)
		n.normBack(q, N, a.x2, a.r2, w.n2, acc)
		q.product(tn, C, Q, N, n.dxo, C, a.y, Q, n.grad(w.o), Q, acc)
		q.half(nn, N, Q, C, n.dxo, C, n.weight(w.o), Q, n.dh, Q)
		n.attentionBack(q, B, T, a)
		q.product(tn, S, C, N, n.dqkv, S, a.h1, C, n.grad(w.qkv), C, acc)
		q.half(nn, N, C, S, n.dqkv, S, n.weight(w.qkv), C, n.dh, C)
		n.normBack(q, N, a.x, a.r1, w.n1, acc)
	}
	q.run("embed_back", N, 1, 1, n.grad(n.vec.emb), n.dx, n.x, n.order, n.start, C)
}

// head computes the loss and, per block of rows, the gradients of the output matrix and of hf, left in dh.
func (n *net) head(q *queue, N int, acc bool) {
	V, C := n.cfg.Vocab, n.cfg.Width
	n.eachHead(q, N, func(from, rows int) {
		h, y := n.hf.Add(2*int64(from)*int64(C)), n.y.Add(4*int64(from))
		q.run("cross_entropy_to", rows, 1, 1, n.dlogits, n.loss, n.logits, y, n.scale(), V, V)
		q.run("loss_sum", 1, 1, 1, n.outcome(), n.loss, n.scale(), rows)
		q.product(tn, V, C, rows, n.dlogits, V, h, C, n.grad(n.vec.head), C, acc || from > 0)
		q.half(nn, rows, C, V, n.dlogits, V, n.weight(n.vec.head), C, n.dh.Add(2*int64(from)*int64(C)), C)
	})
}

// normBack adds to dx the gradient through a norm of x, whose output's gradient is dh, and makes that of its weight.
func (n *net) normBack(q *queue, N int, x, r cuda.Ptr, weight int, acc bool) {
	C, parts, add := n.cfg.Width, blocks(N, normRows), 0
	if acc {
		add = 1
	}
	q.run("rmsnorm_back_half", parts, 1, 1, n.dx, n.dxo, n.part, n.dh, x, n.norm(weight), r, N, C)
	q.run("sum_rows", blocks(C, 32), 1, 1, n.grad(weight), n.part, parts, C, add)
}

// attentionBack makes dqkv, the gradient before the rotation, of dh, the gradient of y.
func (n *net) attentionBack(q *queue, B, T int, a *acts) {
	c, S := n.cfg, n.qkv()
	q.run("attention_delta", blocks(B*T*c.Heads, 4), 1, 1, n.delta, a.y, n.dh, B*T, T, c.Heads, c.HeadDim)
	back := func(name string, heads int) {
		q.run(name+n.attn, blocks(T, 64), heads, B, n.dqkv, a.qkv, n.dh, a.lse, n.delta, T, c.Heads, c.KVHeads, c.HeadDim, S)
	}
	back("attention_keys", c.KVHeads)
	back("attention_queries", c.Heads)
	q.run("rope", B*T, 1, 1, n.dqkv, n.cos, n.sin, T, 0, c.Heads+c.KVHeads, c.HeadDim/2, S, float32(-1))
}
