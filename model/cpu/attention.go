package cpu

import (
	"math"

	"sn3/model/kern"
)

// Attention never holds a T×T matrix: queries go in blocks of queryBlock rows over blocks of keyBlock keys with a running maximum
// and sum (Milakov & Gimelshein, arXiv 1805.02867; Dao et al., FlashAttention, arXiv 2205.14135). The backward pass computes
// the scores again from the saved log-sums. Blocks above the diagonal are skipped.
const (
	queryBlock = 56 // four panels of the micro-kernel's 14 rows
	keyBlock   = 256
)

// worker is the memory of one goroutine of attention.
type worker struct {
	mul   kern.Mul
	s, d  []float32 // (queryBlock,keyBlock) scores and their gradients
	p, dp mat       // the same as factors
	do    mat       // (queryBlock,hd) gradient of the output
	o     []float32 // (queryBlock,hd) output before it is a factor
	m, l  []float32 // (queryBlock) running maxima and sums
	row   []float32 // (hd) of a factor, widened
}

func (n *net) carveAttention(a *arena) {
	keys := min(keyBlock, n.span)
	for i := range n.workers {
		w := &n.workers[i]
		w.s, w.d = a.f32(queryBlock*keys), a.f32(queryBlock*keys)
		w.o, w.m, w.l = a.f32(queryBlock*n.cfg.HeadDim), a.f32(queryBlock), a.f32(queryBlock)
		w.row = a.f32(n.cfg.HeadDim)
		w.p, w.dp, w.do = mat{f: w.s}, mat{f: w.d}, a.factor(n.style, queryBlock*n.cfg.HeadDim)
		if n.style == halves {
			w.p, w.dp = a.factor(n.style, queryBlock*keys), a.factor(n.style, queryBlock*keys)
		}
	}
}

// groupTask runs an operation for every sequence and key/value head.
type groupTask struct {
	n    *net
	B, T int
	act  *acts
	past *cache // of a decoder: keys and values of all positions up to and with these; nil: those of act
	op   func(n *net, w *worker, t *groupTask, b, g int)
}

// Run implements kern.Task.
func (t *groupTask) Run(w, from, to int) {
	kv := t.n.cfg.KVHeads
	for u := from; u < to; u++ {
		t.op(t.n, &t.n.workers[w], t, u/kv, u%kv)
	}
}

func (n *net) groupsDo(B, T int, a *acts, past *cache, op func(n *net, w *worker, t *groupTask, b, g int)) {
	t := &n.group
	t.n, t.B, t.T, t.act, t.past, t.op = n, B, T, a, past, op
	n.team.Do(n.threads, B*n.cfg.KVHeads, 1, t)
}

// attention is causal softmax(q·kᵀ/√hd)·v per head; query head h reads key/value head h/(H/KV).
func (n *net) attention(B, T int, a *acts) { n.groupsDo(B, T, a, nil, (*net).attend) }

func (n *net) attend(w *worker, t *groupTask, b, g int) {
	c, a, T := n.cfg, t.act, t.T
	hd, S, Q, per := c.HeadDim, n.qkv(), n.q(), c.Heads/c.KVHeads
	at := a.qkv.from(b * T * S)
	k, v, step, past := at.from((c.Heads+g)*hd), at.from((c.Heads+c.KVHeads+g)*hd), S, 0
	if t.past != nil {
		k, v, step, past = t.past.k.from(g*hd), t.past.v.from(g*hd), c.KVHeads*hd, t.past.before
	}
	for h := g * per; h < (g+1)*per; h++ {
		lse := a.lse[(b*c.Heads+h)*T:][:T]
		for q0 := 0; q0 < T; q0 += queryBlock {
			rows := min(queryBlock, T-q0)
			for k0 := 0; k0 < past+q0+rows; k0 += keyBlock {
				keys := min(keyBlock, past+q0+rows-k0)
				if rows <= fewRows && (n.style != halves || hd > 64) {
					n.attendFew(w, rows, keys, at.from(q0*S+h*hd), S, k.from(k0*step), v.from(k0*step), step, past+q0-k0, k0 == 0)
					continue
				}
				n.productBy(&w.mul, false, true, rows, keys, hd, at.from(q0*S+h*hd), S, k.from(k0*step), step, w.s, keys, false)
				n.softmaxBlock(w, rows, keys, past+q0-k0, k0 == 0)
				n.productBy(&w.mul, false, false, rows, hd, keys, w.p, keys, v.from(k0*step), step, w.o, hd, k0 > 0)
			}
			for i := range rows {
				o := w.o[i*hd : (i+1)*hd]
				n.k.Scale(o, 1/w.l[i])
				lse[q0+i] = w.m[i] + float32(math.Log(float64(w.l[i])))
				at := (b*T+q0+i)*Q + h*hd
				if n.style == exact {
					copy(a.y.f[at:at+hd], o)
				}
				n.seal(a.y, at, o)
			}
		}
	}
}

// attendFew is one block of keys for a few rows of queries, for which keys and values are not worth packing: of a token that is
// decoded, f32 takes 0.86, 0.61 and 0.43 of the time with heads of 32, 64 and 128, bfloat16 1.34, 1.0 and 0.8.
func (n *net) attendFew(w *worker, rows, keys int, q mat, ldq int, k, v mat, step, ahead int, first bool) {
	hd := n.cfg.HeadDim
	for i := range rows {
		s := w.s[i*keys : (i+1)*keys]
		if n.style == halves {
			n.k.FromBF16(w.row, q.h[i*ldq:])
			for j := range s {
				s[j] = n.k.DotBF16(w.row, k.h[j*step:])
			}
			continue
		}
		for j := range s {
			s[j] = n.k.Dot(q.f[i*ldq:][:hd], k.f[j*step:])
		}
	}
	n.softmaxBlock(w, rows, keys, ahead, first)
	if first {
		clear(w.o[:rows*hd])
	}
	for j := range keys {
		row := w.row
		if n.style == halves {
			n.k.FromBF16(row, v.h[j*step:])
		} else {
			row = v.f[j*step:][:hd]
		}
		for i := range rows {
			n.k.MulAdd(w.o[i*hd:(i+1)*hd], row, w.s[i*keys+j])
		}
	}
}

// softmaxBlock turns a block of scores into exp(score − maximum so far), updates maxima and sums, and rescales what earlier
// blocks gave. Row i sees the block's keys up to ahead+i.
func (n *net) softmaxBlock(w *worker, rows, keys, ahead int, first bool) {
	hd := n.cfg.HeadDim
	scale := float32(1 / math.Sqrt(float64(hd)))
	for i := range rows {
		seen := max(0, min(keys, ahead+i+1))
		row := w.s[i*keys : (i+1)*keys]
		clear(row[seen:])
		if seen == 0 { // the block lies beyond this row's position: nothing is added
			n.seal(w.p, i*keys, row)
			continue
		}
		top := n.k.Max(row[:seen]) * scale
		if !first {
			top = max(top, w.m[i])
		}
		sum := n.k.ExpSum(row[:seen], scale, -top)
		if !first {
			f := float32(math.Exp(float64(w.m[i] - top)))
			sum += w.l[i] * f
			n.k.Scale(w.o[i*hd:(i+1)*hd], f)
		}
		w.m[i], w.l[i] = top, sum
		n.seal(w.p, i*keys, row)
	}
}

// attentionBackward fills dqkv from dh, the gradient of the attention's output (N,Q).
func (n *net) attentionBackward(B, T int, a *acts) { n.groupsDo(B, T, a, nil, (*net).attendBackward) }

// The heads of a group add to the same key and value gradients, one after the other.
func (n *net) attendBackward(w *worker, t *groupTask, b, g int) {
	c, a, T := n.cfg, t.act, t.T
	hd, S, Q, per := c.HeadDim, n.qkv(), n.q(), c.Heads/c.KVHeads
	at, dat := a.qkv.from(b*T*S), n.dqkv[b*T*S:]
	k, v := at.from((c.Heads+g)*hd), at.from((c.Heads+c.KVHeads+g)*hd)
	dk, dv := dat[(c.Heads+g)*hd:], dat[(c.Heads+c.KVHeads+g)*hd:]
	for i := range T {
		clear(dk[i*S : i*S+hd])
		clear(dv[i*S : i*S+hd])
	}
	for h := g * per; h < (g+1)*per; h++ {
		for q0 := 0; q0 < T; q0 += queryBlock {
			rows := min(queryBlock, T-q0)
			q, dq := at.from(q0*S+h*hd), dat[q0*S+h*hd:]
			n.deltas(w, a, rows, (b*T+q0)*Q+h*hd)
			for k0 := 0; k0 < q0+rows; k0 += keyBlock {
				keys := min(keyBlock, q0+rows-k0)
				n.productBy(&w.mul, false, true, rows, keys, hd, q, S, k.from(k0*S), S, w.s, keys, false)
				n.productBy(&w.mul, false, true, rows, keys, hd, w.do, hd, v.from(k0*S), S, w.d, keys, false)
				n.scoreGradients(w, rows, keys, q0-k0, a.lse[(b*c.Heads+h)*T+q0:])
				n.productBy(&w.mul, true, false, keys, hd, rows, w.p, keys, w.do, hd, dv[k0*S:], S, true)
				n.productBy(&w.mul, false, false, rows, hd, keys, w.dp, keys, k.from(k0*S), S, dq, S, k0 > 0)
				n.productBy(&w.mul, true, false, keys, hd, rows, w.dp, keys, q, S, dk[k0*S:], S, true)
			}
		}
	}
}

// deltas leaves Σ do·o of every row in m, and the gradients of the output, do, as a factor; off is where the rows' output
// starts. The sums are of do as rounded, as are the products they are taken from: where keys are alike they must cancel.
func (n *net) deltas(w *worker, a *acts, rows, off int) {
	hd, Q := n.cfg.HeadDim, n.q()
	for i := range rows {
		do := n.dh[off+i*Q:][:hd]
		n.keep(w.do, i*hd, do)
		if n.style == halves {
			o := w.o[:hd]
			n.k.FromBF16(o, a.y.h[off+i*Q:][:hd])
			w.m[i] = n.k.DotBF16(o, w.do.h[i*hd:][:hd])
			continue
		}
		w.m[i] = n.k.Dot(w.do.f[i*hd:][:hd], a.y.f[off+i*Q:][:hd])
	}
}

// scoreGradients turns scores s into probabilities, by their saved log-sums, and d, the gradients of those, into the gradients
// of the scores; both are then also factors.
func (n *net) scoreGradients(w *worker, rows, keys, ahead int, lse []float32) {
	scale := float32(1 / math.Sqrt(float64(n.cfg.HeadDim)))
	for i := range rows {
		seen := max(0, min(keys, ahead+i+1))
		s, d := w.s[i*keys:(i+1)*keys], w.d[i*keys:(i+1)*keys]
		if seen == 0 {
			clear(s)
			clear(d)
		} else {
			n.k.Exp(s, seen, scale, lse[i])
			n.k.SoftmaxBackward(d, s, seen, w.m[i], scale)
		}
		n.seal(w.p, i*keys, s)
		n.seal(w.dp, i*keys, d)
	}
}
