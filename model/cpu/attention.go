package cpu

import (
	"math"

	"sn3/model/kern"
)

// Attention never holds a T×T matrix: queries go in blocks of rows over blocks of keyBlock keys with a running maximum and sum
// (Milakov & Gimelshein, arXiv 1805.02867; Dao et al., FlashAttention, arXiv 2205.14135). Blocks above the diagonal are
// skipped, and so are the micro-kernel's tiles.
const (
	queryRows = 56  // about so many queries at once, whole panels of the micro-kernel
	keyBlock  = 256 // a multiple of kern.BandUnit
)

// worker is the memory of one goroutine of attention. ld is hd, rounded up to whole tiles.
type worker struct {
	mul  kern.Mul
	k, v kern.Panels // (hd,T) keys across, (T,hd) values along, of a key/value head
	s    []float32   // (block,keyBlock) scores
	p    mat         // the same as a factor
	o    []float32   // (block,ld) output before it is a factor
	m, l []float32   // (block) running maxima and sums,
	top  []float32   // and the maxima of a block of keys
	row  []float32   // (hd) of a factor, widened
	back backWorker
}

// block is how many queries, or in the backward pass keys, go together.
func (n *net) block() int {
	rows := n.k.PanelRows(n.style == halves)
	return ceil(queryRows, rows) * rows
}

// ldHead is the width of a head in memory that tiles are written to.
func (n *net) ldHead() int { return ceil(n.cfg.HeadDim, kern.BandUnit) * kern.BandUnit }

func (n *net) carveAttention(a *arena) {
	block, ld := n.block(), n.ldHead()
	for i := range n.workers {
		w := &n.workers[i]
		w.s = a.f32(block * keyBlock)
		w.p = mat{f: w.s}
		if n.style == halves {
			w.p = a.factor(n.style, block*keyBlock)
		}
		w.o, w.m, w.l, w.top, w.row = a.f32(block*ld), a.f32(block), a.f32(block), a.f32(block), a.f32(n.cfg.HeadDim)
		if n.train {
			n.carveBack(a, &w.back)
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
	n.group = groupTask{n, B, T, a, past, op}
	n.team.Do(n.threads, B*n.cfg.KVHeads, 1, &n.group)
}

// attention is causal softmax(q·kᵀ/√hd)·v per head; query head h reads key/value head h/(H/KV).
func (n *net) attention(B, T int, a *acts) { n.groupsDo(B, T, a, nil, (*net).attend) }

// matrix is m as a factor of products, rows ld apart.
func (m mat) matrix(ld int, transposed bool) kern.Matrix {
	return kern.Matrix{F: m.f, H: m.h, LD: ld, T: transposed}
}

// heads are the keys and values of one key/value head: rows step apart, past of them before the first query.
type heads struct {
	k, v       mat
	step, past int
}

func (n *net) attend(w *worker, t *groupTask, b, g int) {
	c, a, T := n.cfg, t.act, t.T
	hd, S, per := c.HeadDim, n.qkv(), c.Heads/c.KVHeads
	at := a.qkv.from(b * T * S)
	kv := heads{at.from((c.Heads + g) * hd), at.from((c.Heads + c.KVHeads + g) * hd), S, 0}
	if t.past != nil {
		kv = heads{t.past.k.from(g * hd), t.past.v.from(g * hd), c.KVHeads * hd, t.past.before}
	}
	few := T <= fewRows && (n.style != halves || hd > 64)
	if !few {
		w.mul.Pack(&w.k, kv.k.matrix(kv.step, true), hd, kv.past+T, hd+hd%2)
		w.mul.Pack(&w.v, kv.v.matrix(kv.step, false), kv.past+T, hd, keyBlock)
	}
	for h := g * per; h < (g+1)*per; h++ {
		for q0 := 0; q0 < T; q0 += n.block() {
			rows := min(n.block(), T-q0)
			q := at.from(q0*S + h*hd)
			for k0 := 0; k0 < kv.past+q0+rows; k0 += keyBlock {
				keys := min(keyBlock, kv.past+q0+rows-k0)
				ahead := kv.past + q0 - k0
				if few {
					n.attendFew(w, rows, keys, q, S, kv.k.from(k0*kv.step), kv.v.from(k0*kv.step), kv.step, ahead, k0 == 0)
					continue
				}
				seen := kern.Band{To: ahead, Upper: true}
				w.mul.Times(q.matrix(S, false), rows, &w.k, kern.Part{Col: k0, N: keyBlock, Cols: seen}, w.s, keyBlock, false)
				n.softmaxBlock(w, rows, keys, ahead, k0 == 0)
				w.mul.Times(w.p.matrix(keyBlock, false), rows, &w.v, kern.Part{Slice: k0 / keyBlock, Steps: seen}, w.o, n.ldHead(), k0 > 0)
			}
			n.attended(w, a, rows, b*T+q0, h, a.lse[(b*c.Heads+h)*T+q0:])
		}
	}
}

// attended makes the finished output of head h, for rows from row on, the factor y, and keeps the log-sums.
func (n *net) attended(w *worker, a *acts, rows, row, h int, lse []float32) {
	hd, Q := n.cfg.HeadDim, n.q()
	for i, l := range w.l[:rows] {
		lse[i] = w.m[i] + float32(math.Log(float64(l)))
		w.l[i] = 1 / l
	}
	at := row*Q + h*hd
	n.k.ScaleRows(a.y.from(at).matrix(Q, false), w.o, n.ldHead(), w.l, hd, rows)
	n.sealRows(a.y, at, Q, hd, rows)
}

// sealRows seals rows of a factor whose values were put there in float32.
func (n *net) sealRows(m mat, at, ld, width, rows int) {
	for i := 0; n.style == rounded && i < rows; i++ {
		n.seal(m, at+i*ld, m.f[at+i*ld:][:width])
	}
}

// attendFew is one block of keys for a few rows of queries, for which keys and values are not worth packing: of a token that is
// decoded, f32 takes 0.86, 0.61 and 0.43 of the time with heads of 32, 64 and 128, bfloat16 1.34, 1.0 and 0.8.
func (n *net) attendFew(w *worker, rows, keys int, q mat, ldq int, k, v mat, step, ahead int, first bool) {
	hd, ld := n.cfg.HeadDim, n.ldHead()
	for i := range rows {
		s := w.s[i*keyBlock:][:keys]
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
		clear(w.o[:rows*ld])
	}
	for j := range keys {
		row := w.row
		if n.style == halves {
			n.k.FromBF16(row, v.h[j*step:])
		} else {
			row = v.f[j*step:][:hd]
		}
		for i := range rows {
			p := w.s[i*keyBlock+j]
			if n.style == halves {
				p = w.p.h[i*keyBlock+j].Float32()
			}
			n.k.MulAdd(w.o[i*ld:i*ld+hd], row, p)
		}
	}
}

// softmaxBlock turns a block of scores into exp(score − maximum so far), updates maxima and sums, and rescales what earlier
// blocks gave. Row i sees the block's keys up to ahead+i; what its panel computes beyond is cleared.
func (n *net) softmaxBlock(w *worker, rows, keys, ahead int, first bool) {
	hd, ld, panel := n.cfg.HeadDim, n.ldHead(), n.k.PanelRows(n.style == halves)
	scale := float32(1 / math.Sqrt(float64(hd)))
	for i := range rows { // all maxima first: a row need not wait for its own
		w.top[i] = n.k.Max(w.s[i*keyBlock:][:max(0, min(keys, ahead+i+1))]) * scale
	}
	for i := range rows {
		seen := max(0, min(keys, ahead+i+1))
		end := max(0, min(keyBlock, ceil(ahead+(i/panel+1)*panel, kern.BandUnit)*kern.BandUnit))
		row := w.s[i*keyBlock:][:end]
		if n.style == halves {
			clear(w.p.h[i*keyBlock+seen : i*keyBlock+end])
		} else {
			clear(row[seen:])
		}
		if seen == 0 { // the block lies beyond this row's position: nothing is added
			continue
		}
		top := w.top[i]
		if !first {
			top = max(top, w.m[i])
		}
		var sum float32
		if n.style == halves {
			sum = n.k.ExpSumBF16(w.p.h[i*keyBlock:], row[:seen], scale, -top)
		} else {
			sum = n.k.ExpSum(row[:seen], scale, -top)
			n.seal(w.p, i*keyBlock, row[:seen])
		}
		if !first {
			f := float32(math.Exp(float64(w.m[i] - top)))
			sum += w.l[i] * f
			n.k.Scale(w.o[i*ld:i*ld+hd], f)
		}
		w.m[i], w.l[i] = top, sum
	}
}
