package cpu

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
func (t *rowTask) Run(_, from, to int) {
	for i := from; i < to; i++ {
		t.op(t.n, &t.args, i, i*rowBlock, min((i+1)*rowBlock, t.rows))
	}
}

// rowsDo runs op over N rows in blocks, on all threads.
func (n *net) rowsDo(N int, op func(n *net, a *rowArgs, block, from, to int), args rowArgs) {
	n.task = rowTask{n, N, op, args}
	n.team.Do(n.threads, blocksOf(N), 1, &n.task)
	n.task.args = rowArgs{}
}

func blocksOf(N int) int { return ceil(N, rowBlock) }

// row is the scratch of a block.
func (n *net) row(block int) []float32 {
	C := n.cfg.Width
	return n.scratch[block*C : (block+1)*C]
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

// rmsBackward adds to dx, and to dw with acc; dx is then also the factor out.
func (n *net) rmsBackward(N int, dx, dw, dy, x, w, r []float32, out mat, acc bool) {
	C := n.cfg.Width
	clear(n.dwPart[:blocksOf(N)*C])
	n.rowsDo(N, (*net).rmsBackwardRows, rowArgs{dx: dx, y: dy, x: x, w: w, r: r, h: out})
	if !acc {
		clear(dw)
	}
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

// turn rotates the query and key heads of a row by position t.
func (n *net) turn(row []float32, t int, sign float32) {
	half := n.cfg.HeadDim / 2
	n.k.RopeHeads(row, n.cos[t*half:(t+1)*half], n.sin[t*half:(t+1)*half], half, n.cfg.Heads+n.cfg.KVHeads, sign)
}

// eachTask is what becomes of the rows of a product.
type eachTask struct {
	n    *net
	op   func(n *net, a *rowArgs, w, from, to int, c []float32, ldc int)
	args rowArgs
}

// Rows implements kern.Rows.
func (t *eachTask) Rows(w, from, to int, c []float32, ldc int) {
	t.op(t.n, &t.args, w, from, to, c, ldc)
}

// keep makes row, which may be they already, the values of a factor from off on.
func (n *net) keep(m mat, off int, row []float32) {
	if n.style == exact {
		if dst := m.f[off : off+len(row)]; &dst[0] != &row[0] {
			copy(dst, row)
		}
		return
	}
	n.seal(m, off, row)
}

// qkvRows rotates query and key heads by their positions, k + row within T, and keeps the rows as the factor h.
func (n *net) qkvRows(a *rowArgs, _, from, to int, c []float32, ldc int) {
	S := n.qkv()
	for i := from; i < to; i++ {
		row := c[(i-from)*ldc:][:S]
		n.turn(row, a.k+i%a.T, 1)
		n.keep(a.h, i*S, row)
	}
}

// swiGLURows keeps gate and up for the backward pass, m, and silu(gate)·up as the factor h.
func (n *net) swiGLURows(a *rowArgs, _, from, to int, c []float32, ldc int) {
	F, G, A := n.cfg.FFN, n.ldGateUp(), n.ldFFN()
	for i := from; i < to; i++ {
		row := c[(i-from)*ldc:][:2*F]
		if n.train && n.style == halves {
			n.k.SwiGLUBF16(a.h.h[i*A:i*A+F], a.m.h[i*G:], a.m.h[i*G+F:], row, row[F:])
			continue
		}
		if n.train {
			n.keep(a.m, i*G, row)
		}
		out := n.open(a.h, i*A, F, row) // gate is kept, and spent where it is not
		n.k.SwiGLU(out, row[:F], row[F:])
		n.seal(a.h, i*A, out)
	}
}

// swiGLUBackwardRows takes rows of the gradient of silu(gate)·up and makes h that of gate and up, m.
func (n *net) swiGLUBackwardRows(a *rowArgs, _, from, to int, c []float32, ldc int) {
	F, G := n.cfg.FFN, n.ldGateUp()
	for i := from; i < to; i++ {
		if n.style == halves {
			m := a.m.h[i*G:]
			n.k.SwiGLUBackwardBF16(a.h.h[i*G:i*G+F], a.h.h[i*G+F:], m, m[F:], c[(i-from)*ldc:])
			continue
		}
		row := a.m.f[i*G : i*G+2*F]
		n.k.SwiGLUBackward(row[:F], row[F:], c[(i-from)*ldc:][:F])
		n.seal(a.h, i*G, row)
	}
}

// crossEntropyRows keeps the gradient of logits, times scale, as the factor h; r gets their losses in nats.
func (n *net) crossEntropyRows(a *rowArgs, _, from, to int, c []float32, ldc int) {
	V := n.cfg.Vocab
	for i := from; i < to; i++ {
		row, y := c[(i-from)*ldc:][:V], a.ids[i]
		a.r[i] = 0
		if y == ignored {
			clear(row)
		} else {
			target := row[y]
			a.r[i] = n.k.Softmax(row, V, 1) - target
			row[y]--
			n.k.Scale(row, a.scale)
		}
		n.keep(a.h, i*n.ldVocab(), row)
	}
}

// lossRows is crossEntropyRows without the gradient, for rows from k on.
func (n *net) lossRows(a *rowArgs, _, from, to int, c []float32, ldc int) {
	V := n.cfg.Vocab
	for i := from; i < to; i++ {
		row, y, r := c[(i-from)*ldc:][:V], a.ids[a.k+i], &a.r[a.k+i]
		*r = 0
		if y != ignored {
			target := row[y]
			*r = n.k.Softmax(row, V, 1) - target
		}
	}
}

// logitRows puts logits of rows from k on where they were asked for, (N,V).
func (n *net) logitRows(a *rowArgs, _, from, to int, c []float32, ldc int) {
	V := n.cfg.Vocab
	for i := from; i < to; i++ {
		copy(a.x[(a.k+i)*V:(a.k+i+1)*V], c[(i-from)*ldc:])
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
				*at += n.k.DotBF16(x, a.m.h[o*a.ldb:o*a.ldb+a.k])
			} else {
				*at += n.k.Dot(x, a.m.f[o*a.ldb:o*a.ldb+a.k])
			}
		}
	}
}
