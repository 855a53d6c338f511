package cpu

import (
	"math"

	"sn3/model"
)

// lossGrad adds the gradient of the mean loss over the counted targets to g and returns that loss.
func (n *net) lossGrad(b model.Batch, g *views) (float64, error) {
	counted, err := n.check(b)
	if err != nil {
		return 0, err
	}
	n.hidden(b.X, b.B, b.T)
	loss := n.headBackward(b, counted, g)
	c, N := n.cfg, b.B*b.T
	C, Q, S, F := c.Width, n.q(), n.qkv(), c.FFN
	clear(n.dx[:N*C])
	n.rmsBackward(N, n.dx, g.norm, n.dh, n.xf, n.w.norm, n.rf)
	for l := c.Layers - 1; l >= 0; l-- {
		w, d, a := &n.w.layers[l], &g.layers[l], &n.act[l]
		n.gemm(true, false, C, F, N, n.dx, C, a.a, F, d.down, F, true)
		n.gemm(false, false, N, F, C, n.dx, C, w.down, F, n.da, F, false)
		n.rowsDo(N, func(_, from, to int) {
			for i := from; i < to; i++ {
				n.k.SwiGLUBackward(a.gateUp[2*i*F:(2*i+1)*F], a.gateUp[(2*i+1)*F:(2*i+2)*F], n.da[i*F:(i+1)*F])
			}
		})
		n.gemm(true, false, 2*F, C, N, a.gateUp, 2*F, a.h2, C, d.gateUp, C, true)
		n.gemm(false, false, N, C, 2*F, a.gateUp, 2*F, w.gateUp, C, n.dh, C, false)
		n.rmsBackward(N, n.dx, d.n2, n.dh, a.x2, w.n2, a.r2)
		n.gemm(true, false, C, Q, N, n.dx, C, a.y, Q, d.o, Q, true)
		n.gemm(false, false, N, Q, C, n.dx, C, w.o, Q, n.dh, Q, false)
		n.attentionBackward(b.B, b.T, a)
		n.rope(N, b.T, n.dqkv, -1)
		n.gemm(true, false, S, C, N, n.dqkv, S, a.h1, C, d.qkv, C, true)
		n.gemm(false, false, N, C, S, n.dqkv, S, w.qkv, C, n.dh, C, false)
		n.rmsBackward(N, n.dx, d.n1, n.dh, a.x, w.n1, a.r1)
	}
	for i, t := range b.X {
		n.k.Add(g.emb[int(t)*C:(int(t)+1)*C], n.dx[i*C:(i+1)*C])
	}
	return loss, nil
}

// headBackward computes the loss and, per block of rows, the gradients of the output matrix and of hf (left in dh), so that
// never more than headRows rows of logits exist.
func (n *net) headBackward(b model.Batch, counted int, g *views) float64 {
	V, C, N := n.cfg.Vocab, n.cfg.Width, b.B*b.T
	inv := float32(1 / math.Max(1, float64(counted)))
	var loss float64
	for from := 0; from < N; from += headRows {
		rows := min(headRows, N-from)
		n.gemm(false, true, rows, V, C, n.hf[from*C:], C, n.w.head, C, n.logits, V, false)
		for i := range rows {
			row := n.logits[i*V : (i+1)*V]
			y := b.Y[from+i]
			if y == ignored {
				clear(row)
				continue
			}
			target := row[y]
			loss += float64(n.k.Softmax(row, V, 1) - target)
			row[y]--
			n.k.Scale(row, inv)
		}
		n.gemm(true, false, V, C, rows, n.logits, V, n.hf[from*C:], C, g.head, C, true)
		n.gemm(false, false, rows, C, V, n.logits, V, n.w.head, C, n.dh[from*C:], C, false)
	}
	return loss / math.Max(1, float64(counted))
}

// attentionBackward fills dqkv from dh, the gradient of the attention's output (N,Q). Scores are recomputed from the saved
// log-sums. The heads of a group add to the same key and value gradients, one after the other.
func (n *net) attentionBackward(B, T int, a *acts) {
	c := n.cfg
	hd, S, Q, per := c.HeadDim, n.qkv(), n.q(), c.Heads/c.KVHeads
	scale := float32(1 / math.Sqrt(float64(hd)))
	n.groups(B, T, func(b, g int, s, d []float32) {
		at, dat := a.qkv[b*T*S:], n.dqkv[b*T*S:]
		k, v := at[(c.Heads+g)*hd:], at[(c.Heads+c.KVHeads+g)*hd:]
		dk, dv := dat[(c.Heads+g)*hd:], dat[(c.Heads+c.KVHeads+g)*hd:]
		for h := g * per; h < (g+1)*per; h++ {
			q, dq := at[h*hd:], dat[h*hd:]
			do, o := n.dh[b*T*Q+h*hd:], a.y[b*T*Q+h*hd:]
			more := h > g*per
			sgemm(n.one, false, true, T, T, hd, q, S, k, S, s, T, false)
			sgemm(n.one, false, true, T, T, hd, do, Q, v, S, d, T, false)
			for t := range T {
				n.k.Exp(s[t*T:(t+1)*T], t+1, scale, a.lse[(b*c.Heads+h)*T+t])
				delta := n.k.Dot(do[t*Q:t*Q+hd], o[t*Q:t*Q+hd])
				n.k.SoftmaxBackward(d[t*T:(t+1)*T], s[t*T:(t+1)*T], t+1, delta, scale)
			}
			sgemm(n.one, true, false, T, hd, T, s, T, do, Q, dv, S, more)
			sgemm(n.one, false, false, T, hd, T, d, T, k, S, dq, S, false)
			sgemm(n.one, true, false, T, hd, T, d, T, q, S, dk, S, more)
		}
	})
}
