package gpu

import (
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/memory"
)

// backward adds to outcome's loss that of the batch that is loaded, times scale, and makes g its gradient, or adds it with acc.
func (n *net) backward(q *queue, B, T int, acc bool) {
	c, N := n.cfg, B*T
	C, Q, S, F := c.Width, n.q(), n.qkv(), c.FFN
	if !acc && !c.Tied {
		q.clear(n.grad(n.vec.emb), n.gradBytes()*int64(c.Vocab)*int64(C))
	}
	grad := func(m, k int, d cuda.Ptr, ldd int, x cuda.Ptr, at int) { // of a matrix (m,k): dᵀ·x
		q.product(tn, m, k, N, d, ldd, x, k, n.grad(at), k, n.short, acc)
	}
	n.head(q, N, acc)
	q.clear(n.dx, 4*int64(N)*int64(C))
	n.normBack(q, N, n.xf, n.rf, n.vec.norm, acc)
	for i := len(n.act) - 1; i >= 0; i-- {
		a, w := &n.act[i], &n.vec.layers[i]
		n.again(q, B, T, i)
		grad(C, F, n.dxo, C, a.a, w.down)
		q.product(nn, N, F, C, n.dxo, C, n.weight(w.down), F, n.da, F, true, false)
		q.run("swiglu_back_half", N, 1, 1, n.dgu, a.gateUp, n.da, F)
		grad(2*F, C, n.dgu, 2*F, a.h2, w.gateUp)
		q.product(nn, N, C, 2*F, n.dgu, 2*F, n.weight(w.gateUp), C, n.dh, C, true, false)
		n.normBack(q, N, a.x2, a.r2, w.n2, acc)
		grad(C, Q, n.dxo, C, a.y, w.o)
		q.product(nn, N, Q, C, n.dxo, C, n.weight(w.o), Q, n.dh, Q, true, false)
		n.attentionBack(q, B, T, a)
		grad(S, C, n.dqkv, S, a.h1, w.qkv)
		q.product(nn, N, C, S, n.dqkv, S, n.weight(w.qkv), C, n.dh, C, true, false)
		n.normBack(q, N, a.x, a.r1, w.n1, acc)
	}
	dx := n.dx
	if n.short {
		dx = n.dxo
	}
	q.run(n.gradKernel("embed_back"), N, 1, 1, n.grad(n.vec.emb), dx, n.x, n.order, n.start, C)
}

// head computes the loss and, per block of rows, the gradients of the output matrix and of hf, left in dh.
func (n *net) head(q *queue, N int, acc bool) {
	V, C := n.cfg.Vocab, n.cfg.Width
	n.eachHead(q, N, func(from, rows int) {
		h, y := n.hf.Add(2*int64(from)*int64(C)), n.y.Add(4*int64(from))
		q.run("cross_entropy_to", rows, 1, 1, n.dlogits, n.loss, n.logits, y, n.scale(), V, n.ld)
		q.run("loss_sum", 1, 1, 1, n.outcome(), n.loss, n.scale(), rows)
		q.product(tn, V, C, rows, n.dlogits, n.ld, h, C, n.grad(n.vec.head), C, n.short, acc || from > 0)
		q.product(nn, rows, C, V, n.dlogits, n.ld, n.weight(n.vec.head), C, n.dh.Add(2*int64(from)*int64(C)), C, true, false)
	})
}

// normBack adds to dx the gradient through a norm of x, whose output's gradient is dh, and makes that of its weight.
func (n *net) normBack(q *queue, N int, x, r cuda.Ptr, weight int, acc bool) {
	C, parts, add := n.cfg.Width, blocks(N, memory.NormRows), 0
	if acc {
		add = 1
	}
	q.run("rmsnorm_back_half", parts, 1, 1, n.dx, n.dxo, n.part, n.dh, x, n.norms[weight], r, N, C)
	q.run(n.gradKernel("sum_rows"), blocks(C, 32), 1, 1, n.grad(weight), n.part, parts, C, add)
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
