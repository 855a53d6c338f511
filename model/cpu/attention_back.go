package cpu

import (
	"math"

	"sn3/model/kern"
)

// backWorker is the memory of one goroutine for attention's backward pass: keys go in blocks of rows over blocks of keyBlock
// queries, so that probabilities and their gradients lie as the sums over queries read them.
type backWorker struct {
	q, do   kern.Panels // (hd,T) queries and gradients of the output, across
	qs, dos kern.Panels // (T,hd) the same, along
	ks      kern.Panels // (T,hd) keys, along
	d       []float32   // (block,keyBlock) gradients of probabilities, then of scores
	dp      mat         // the same as a factor
	out     mat         // (T,hd) do as a factor, where it is none
	dq      []float32   // (T,ld) gradient of one head's queries,
	dk, dv  []float32   // (T,ld) of the group's keys and values
	delta   []float32   // (T) Σ do·o
}

func (n *net) carveBack(a *arena, w *backWorker) {
	block, ld, hd := n.block(), n.ldHead(), n.cfg.HeadDim
	rows := ceil(n.span, block) * block
	w.d = a.f32(block * keyBlock)
	w.dp = mat{f: w.d}
	if n.style == halves {
		w.dp = a.factor(n.style, block*keyBlock)
	}
	if n.style != exact {
		w.out = a.factor(n.style, n.span*hd)
	}
	// dq begins anywhere in a block of queries, and a panel may reach beyond the last.
	w.dq, w.dk, w.dv = a.f32((n.span+block)*ld), a.f32(rows*ld), a.f32(rows*ld)
	w.delta = a.f32(n.span)
}

// attentionBackward makes dqkvo, the gradient of queries and keys before their rotation and of values, as a factor, from dh, the
// gradient of the attention's output (N,Q).
func (n *net) attentionBackward(B, T int, a *acts) { n.groupsDo(B, T, a, nil, (*net).attendBackward) }

// The heads of a group add to the same key and value gradients, one after the other.
func (n *net) attendBackward(w *worker, t *groupTask, b, g int) {
	c, T, x := n.cfg, t.T, &w.back
	hd, S, per := c.HeadDim, n.qkv(), c.Heads/c.KVHeads
	at := t.act.qkv.from(b * T * S)
	kv := heads{k: at.from((c.Heads + g) * hd), v: at.from((c.Heads + c.KVHeads + g) * hd), step: S}
	w.mul.Pack(&x.ks, kv.k.matrix(S, false), T, hd, n.block())
	for h := g * per; h < (g+1)*per; h++ {
		q := at.from(h * hd)
		do, ldo := n.deltas(x, t.act, b*T, T, h)
		w.mul.Pack(&x.q, q.matrix(S, true), hd, T, hd+hd%2)
		w.mul.Pack(&x.do, do.matrix(ldo, true), hd, T, hd+hd%2)
		w.mul.Pack(&x.qs, q.matrix(S, false), T, hd, keyBlock)
		w.mul.Pack(&x.dos, do.matrix(ldo, false), T, hd, keyBlock)
		for k0 := 0; k0 < T; k0 += n.block() {
			for q0 := k0 / keyBlock * keyBlock; q0 < T; q0 += keyBlock {
				acc := h > g*per || q0 > k0
				n.attendBlock(w, kv, k0, q0, T, t.act.lse[(b*c.Heads+h)*T:], acc)
			}
		}
		n.unturned(x.dq, b*T, T, h, true)
	}
	n.unturned(x.dk, b*T, T, c.Heads+g, true)
	n.unturned(x.dv, b*T, T, c.Heads+c.KVHeads+g, false)
}

// attendBlock adds what a block of keys and a block of queries give each other; without acc, gradients of the keys begin.
//
//	s = k·qᵀ, d = v·doᵀ; p = exp(s/√hd − lse), ds = p·(d − delta)/√hd; dv += p·do, dk += ds·q, dq += dsᵀ·k
func (n *net) attendBlock(w *worker, kv heads, k0, q0, T int, lse []float32, acc bool) {
	x, S, ld := &w.back, n.qkv(), n.ldHead()
	keys, queries := min(n.block(), T-k0), min(keyBlock, T-q0)
	later := kern.Band{From: k0 - q0, Lower: true}
	across, along := kern.Part{Col: q0, N: queries, Cols: later}, kern.Part{Slice: q0 / keyBlock, Steps: later}
	w.mul.Times(kv.k.from(k0*S).matrix(S, false), keys, &x.q, across, w.s, keyBlock, false)
	w.mul.Times(kv.v.from(k0*S).matrix(S, false), keys, &x.do, across, x.d, keyBlock, false)
	first := max(0, k0-q0) &^ (kern.BandUnit - 1)
	n.scoreGradients(w, keys, queries, first, k0-q0, lse[q0:], x.delta[q0:])
	w.mul.Times(w.p.matrix(keyBlock, false), keys, &x.dos, along, x.dv[k0*ld:], ld, acc)
	w.mul.Times(x.dp.matrix(keyBlock, false), keys, &x.qs, along, x.dk[k0*ld:], ld, acc)
	w.mul.Times(x.dp.from(first).matrix(keyBlock, true), queries-first, &x.ks, kern.Part{Slice: k0 / n.block()}, x.dq[(q0+first)*ld:], ld, k0 > 0)
}

// deltas leaves Σ do·o of head h and every row, and returns do as a factor, (T,hd). The sums are of do as rounded, as are the
// products they are taken from: where keys are alike they must cancel.
func (n *net) deltas(x *backWorker, a *acts, row, T, h int) (do mat, ld int) {
	hd, Q := n.cfg.HeadDim, n.q()
	at := row*Q + h*hd
	d := n.dh[at:]
	switch n.style {
	case halves:
		n.k.DotRowsBF16(x.delta, x.out.h, hd, d, Q, a.y.h[at:], Q, hd, T)
		return x.out, hd
	case rounded:
		for i := range T {
			n.seal(x.out, i*hd, d[i*Q:][:hd])
		}
		n.k.DotRows(x.delta, x.out.f, hd, a.y.f[at:], Q, hd, T)
		return x.out, hd
	}
	n.k.DotRows(x.delta, d, Q, a.y.f[at:], Q, hd, T)
	return mat{f: d}, Q
}

// scoreGradients makes the factors p and dp of scores s and d. Row i has queries from ahead+i on; before them, from column
// first on, both are cleared.
func (n *net) scoreGradients(w *worker, keys, queries, first, ahead int, lse, delta []float32) {
	scale := float32(1 / math.Sqrt(float64(n.cfg.HeadDim)))
	for i := range keys {
		from, at := min(queries, max(first, ahead+i)), i*keyBlock
		s, d := w.s[at+from:at+queries], w.back.d[at+from:at+queries]
		if n.style == halves {
			p, g := w.p.h[at:], w.back.dp.h[at:]
			clear(p[first:from])
			clear(g[first:from])
			n.k.ScoreGradientsBF16(p[from:], g[from:], s, d, lse[from:], delta[from:], scale)
			continue
		}
		clear(w.s[at+first : at+from])
		clear(w.back.d[at+first : at+from])
		n.k.ScoreGradients(s, d, lse[from:], delta[from:], scale)
		n.seal(w.p, at+from, s)
		n.seal(w.back.dp, at+from, d)
	}
}

// unturned puts T rows of gradients from row on in their place in dqkvo, as a head of its own, rotated back by their positions
// if they were rotated.
func (n *net) unturned(rows []float32, row, T, head int, rotated bool) {
	hd, S := n.cfg.HeadDim, n.qkv()
	cos, sin, step := n.cos, n.sin, hd/2
	if !rotated {
		cos, sin, step = n.one, n.zero, 0
	}
	at := row*S + head*hd
	n.k.RopeBack(n.dqkvo.from(at).matrix(S, false), rows, n.ldHead(), cos, sin, step, hd/2, T)
	n.sealRows(n.dqkvo, at, S, hd, T)
}
