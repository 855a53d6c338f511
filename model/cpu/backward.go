package cpu

import "sn3/model"

// lossGrad, of a checked batch, makes g the gradient of the sum of losses over the counted targets, divided by counted, or adds it
// with acc, and returns that sum, divided likewise: of a batch in parts, every part is given the count of the whole. To the
// embedding's gradient it always adds.
func (n *net) lossGrad(b model.Batch, counted int, g *views, acc bool) float64 {
	n.hidden(b.X, b.B, b.T)
	loss := n.headBackward(b, counted, g, acc)
	c, N := n.cfg, b.B*b.T
	C, Q, S, F, A, G := c.Width, n.q(), n.qkv(), c.FFN, n.ldFFN(), n.ldGateUp()
	clear(n.dx[:N*C])
	n.rmsBackward(N, n.dx, g.norm, n.dh, n.xf, n.w.norm, n.rf, n.dxo, acc)
	for l := c.Layers - 1; l >= 0; l-- {
		w, p, d, a := &n.w.layers[l], &n.p.layers[l], &g.layers[l], &n.act[l]
		n.product(true, false, C, F, N, n.dxo, C, a.a, A, d.down, F, acc)
		dgu := n.dGateUp(a)
		n.productRows(false, N, F, C, n.dxo, C, p.down, F, mat{}, 0, (*net).swiGLUBackwardRows, rowArgs{h: dgu, m: a.gateUp})
		n.product(true, false, 2*F, C, N, dgu, G, a.h2, C, d.gateUp, C, acc)
		n.product(false, false, N, C, 2*F, dgu, G, p.gateUp, C, n.dh, C, false)
		n.rmsBackward(N, n.dx, d.n2, n.dh, a.x2, w.n2, a.r2, n.dxo, acc)
		n.product(true, false, C, Q, N, n.dxo, C, a.y, Q, d.o, Q, acc)
		n.product(false, false, N, Q, C, n.dxo, C, p.o, Q, n.dh, Q, false)
		n.attentionBackward(b.B, b.T, a)
		n.product(true, false, S, C, N, n.dqkvo, S, a.h1, C, d.qkv, C, acc)
		n.product(false, false, N, C, S, n.dqkvo, S, p.qkv, C, n.dh, C, false)
		n.rmsBackward(N, n.dx, d.n1, n.dh, a.x, w.n1, a.r1, n.dxo, acc)
	}
	for i, t := range b.X {
		n.k.Add(g.emb[int(t)*C:(int(t)+1)*C], n.dx[i*C:(i+1)*C])
	}
	return loss
}

// headBackward computes the loss and, per block of rows, the gradients of the output matrix and of hf (left in dh), so that
// never more than headRows rows of logits exist.
func (n *net) headBackward(b model.Batch, counted int, g *views, acc bool) float64 {
	V, C, N, ld := n.cfg.Vocab, n.cfg.Width, b.B*b.T, n.ldVocab()
	block := n.headBlock(N)
	inv := float32(1 / float64(max(1, counted)))
	var loss float64
	for from := 0; from < N; from += block {
		rows := min(block, N-from)
		h := n.hf.from(from * C)
		n.productRows(true, rows, V, C, h, C, n.p.head, C, n.dlo, ld, (*net).crossEntropyRows, rowArgs{ids: b.Y[from:], r: n.lossOf, scale: inv, h: n.dlo})
		for _, l := range n.lossOf[:rows] {
			loss += float64(l)
		}
		n.product(true, false, V, C, rows, n.dlo, ld, h, C, g.head, C, acc || from > 0)
		n.product(false, false, rows, C, V, n.dlo, ld, n.p.head, C, n.dh[from*C:], C, false)
	}
	return loss / float64(max(1, counted))
}
