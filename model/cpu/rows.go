package cpu

import "sn3/model/kern"

// rowTask runs an operation over blocks of rows; it lives in the net so that a step allocates nothing.
type rowTask struct {
	n    *net
	rows int
	op   func(n *net, a *rowArgs, block, from, to int)
	args rowArgs
}

// rowArgs are what the operations read and write; each names its own.
type rowArgs struct {
	x, y, w, r, dx, dup []float32
	h, m                mat
	ids                 []int32
	T, k, lda, ldb, ldc int
	scale               float32
	add                 bool
}

// Run implements kern.Task.
func (t *rowTask) Run(i int) {
	t.op(t.n, &t.args, i, i*rowBlock, min((i+1)*rowBlock, t.rows))
}

// rowsDo runs op over N rows in blocks, on all threads.
func (n *net) rowsDo(N int, op func(n *net, a *rowArgs, block, from, to int), args rowArgs) {
	n.task = rowTask{n, N, op, args}
	n.team.Do(n.threads, blocksOf(N), &n.task)
	n.task.args = rowArgs{}
}

func blocksOf(N int) int { return (N + rowBlock - 1) / rowBlock }

// row is the scratch of a block.
func (n *net) row(block int) []float32 { return n.scratch[block*n.wide : (block+1)*n.wide] }

// aside is where a row is changed that only its factor is needed of: with bfloat16 not in place, to spare the memory the writing.
func (n *net) aside(row []float32, block int) []float32 {
	if n.style != halves {
		return row
	}
	out := n.row(block)[:len(row)]
	copy(out, row)
	return out
}

// embed is x = embedding of ids, (N,C).
func (n *net) embed(ids []int32, x []float32) {
	n.rowsDo(len(ids), (*net).embedRows, rowArgs{ids: ids, x: x})
}

func (n *net) embedRows(a *rowArgs, _, from, to int) {
	C := n.cfg.Width
	for i := from; i < to; i++ {
		copy(a.x[i*C:(i+1)*C], n.w.emb[int(a.ids[i])*C:])
	}
}

// rms is h = x·r·w with r = 1/√(mean x² + ε), row by row; x is also copied to dup, unless that is nil.
func (n *net) rms(N int, h mat, r, x, w, dup []float32) {
	n.rowsDo(N, (*net).rmsRows, rowArgs{h: h, r: r, x: x, w: w, dup: dup})
}

func (n *net) rmsRows(a *rowArgs, block, from, to int) {
	C := n.cfg.Width
	for i := from; i < to; i++ {
		x := a.x[i*C : (i+1)*C]
		h := n.open(a.h, i*C, C, n.row(block))
		a.r[i] = n.k.RMSNorm(h, x, a.w, n.cfg.NormEps)
		n.seal(a.h, i*C, h)
		if a.dup != nil {
			copy(a.dup[i*C:(i+1)*C], x)
		}
	}
}

// rmsBackward adds to dx and dw; dx is then also the factor out.
func (n *net) rmsBackward(N int, dx, dw, dy, x, w, r []float32, out mat) {
	C := n.cfg.Width
	clear(n.dwPart[:blocksOf(N)*C])
	n.rowsDo(N, (*net).rmsBackwardRows, rowArgs{dx: dx, y: dy, x: x, w: w, r: r, h: out})
	for b := range blocksOf(N) {
		n.k.Add(dw, n.dwPart[b*C:(b+1)*C])
	}
}

func (n *net) rmsBackwardRows(a *rowArgs, block, from, to int) {
	C := n.cfg.Width
	part := n.dwPart[block*C : (block+1)*C]
	for i := from; i < to; i++ {
		dx := a.dx[i*C : (i+1)*C]
		n.k.RMSBackward(dx, part, a.y[i*C:(i+1)*C], a.x[i*C:(i+1)*C], a.w, a.r[i])
		n.seal(a.h, i*C, dx)
	}
}

// rope makes out of qkv, (N,Q+2KV), with query and key heads rotated by their positions, sign -1 back; qkv itself is spent.
func (n *net) rope(N, T int, qkv []float32, sign float32, out mat) {
	n.rowsDo(N, (*net).ropeRows, rowArgs{x: qkv, T: T, scale: sign, h: out})
}

func (n *net) ropeRows(a *rowArgs, block, from, to int) {
	half, S := n.cfg.HeadDim/2, n.qkv()
	for i := from; i < to; i++ {
		row, t := n.aside(a.x[i*S:(i+1)*S], block), a.k+i%a.T
		n.k.RopeHeads(row, n.cos[t*half:(t+1)*half], n.sin[t*half:(t+1)*half], half, n.cfg.Heads+n.cfg.KVHeads, a.scale)
		n.seal(a.h, i*S, row)
	}
}

// swiGLU is out = silu(gate)·up, (N,F), of gateUp, (N,2F).
func (n *net) swiGLU(N int, out mat, gateUp []float32) {
	n.rowsDo(N, (*net).swiGLURows, rowArgs{h: out, x: gateUp})
}

func (n *net) swiGLURows(a *rowArgs, block, from, to int) {
	F, G, A := n.cfg.FFN, n.ldGateUp(), n.ldFFN()
	for i := from; i < to; i++ {
		row := n.open(a.h, i*A, F, n.row(block))
		n.k.SwiGLU(row, a.x[i*G:i*G+F], a.x[i*G+F:i*G+2*F])
		n.seal(a.h, i*A, row)
	}
}

// swiGLUBackward makes out the gradient of gateUp, given that of its output, (N,F); gateUp itself is spent.
func (n *net) swiGLUBackward(N int, gateUp, da []float32, out mat) {
	n.rowsDo(N, (*net).swiGLUBackwardRows, rowArgs{x: gateUp, y: da, h: out})
}

func (n *net) swiGLUBackwardRows(a *rowArgs, block, from, to int) {
	F, G, A := n.cfg.FFN, n.ldGateUp(), n.ldFFN()
	for i := from; i < to; i++ {
		row := n.aside(a.x[i*G:i*G+2*F], block)
		n.k.SwiGLUBackward(row[:F], row[F:], a.y[i*A:i*A+F])
		n.seal(a.h, i*G, row)
	}
}

// crossEntropyRows turns rows of logits into their gradient, times scale, and the factor h; r gets their losses in nats.
func (n *net) crossEntropyRows(a *rowArgs, _, from, to int) {
	V := n.cfg.Vocab
	for i := from; i < to; i++ {
		row, y := a.x[i*V:(i+1)*V], a.ids[i]
		a.r[i] = 0
		if y == ignored {
			clear(row)
		} else {
			target := row[y]
			a.r[i] = n.k.Softmax(row, V, 1) - target
			row[y]--
			n.k.Scale(row, a.scale)
		}
		n.seal(a.h, i*V, row)
	}
}

// lossRows is crossEntropyRows without the gradient.
func (n *net) lossRows(a *rowArgs, _, from, to int) {
	V := n.cfg.Vocab
	for i := from; i < to; i++ {
		row, y := a.x[i*V:(i+1)*V], a.ids[i]
		a.r[i] = 0
		if y != ignored {
			target := row[y]
			a.r[i] = n.k.Softmax(row, V, 1) - target
		}
	}
}

// matVec is C = A·Bᵀ, or adds to C, for a few rows of A, (rows,k), and B, (cols,k): every row of B is read once.
func (n *net) matVec(rows, cols, k int, a mat, lda int, b mat, ldb int, c []float32, ldc int, acc bool) {
	x := a.f
	if n.style == halves {
		x = n.few
		for i := range rows {
			n.k.FromBF16(x[i*n.wide:i*n.wide+k], a.h[i*lda:i*lda+k])
		}
		lda = n.wide
	}
	n.rowsDo(cols, (*net).matVecRows, rowArgs{x: x, m: b, y: c, T: rows, k: k, lda: lda, ldb: ldb, ldc: ldc, add: acc})
}

func (n *net) matVecRows(a *rowArgs, _, from, to int) {
	for o := from; o < to; o++ {
		for i := range a.T {
			x, at := a.x[i*a.lda:i*a.lda+a.k], &a.y[i*a.ldc+o]
			if !a.add {
				*at = 0
			}
			if n.style == halves {
				*at += n.dotHalves(x, a.m.h[o*a.ldb:o*a.ldb+a.k])
			} else {
				*at += n.k.Dot(x, a.m.f[o*a.ldb:o*a.ldb+a.k])
			}
		}
	}
}

// dotHalves is Σ x·w.
func (n *net) dotHalves(x []float32, w []kern.BF16) (sum float32) {
	var wide [512]float32
	for len(x) > 0 {
		part := wide[:min(len(x), len(wide))]
		n.k.FromBF16(part, w[:len(part)])
		sum += n.k.Dot(x[:len(part)], part)
		x, w = x[len(part):], w[len(part):]
	}
	return sum
}
