package cpu

import (
	"unsafe"

	"sn3/model"
	"sn3/model/kern"
)

// mat is a factor of matrix products: float32, or bfloat16 where the kernels multiply that faster.
type mat struct {
	f []float32
	h []kern.BF16
}

// from is m[i:].
func (m mat) from(i int) mat {
	if m.h != nil {
		return mat{h: m.h[i:]}
	}
	return mat{f: m.f[i:]}
}

// copy takes the first k values of o.
func (m mat) copy(o mat, k int) {
	copy(m.f, o.f[:min(k, len(o.f))])
	copy(m.h, o.h[:min(k, len(o.h))])
}

// alloc is a factor of its own.
func (n *net) alloc(size int) mat {
	if n.style == halves {
		return mat{h: kern.Alloc[kern.BF16](size)}
	}
	return mat{f: kern.Alloc[float32](size)}
}

// style is how factors are held.
type style uint8

const (
	exact   style = iota // float32
	rounded              // float32 whose values bfloat16 holds too: the same arithmetic on kernels without bfloat16
	halves               // bfloat16
)

func styleOf(k *kern.Kernels, p model.Precision) style {
	switch {
	case p != model.BF16:
		return exact
	case k.Half():
		return halves
	}
	return rounded
}

// arena hands out memory of one piece; without a piece it only counts.
type arena struct {
	piece []float32
	used  int
}

// f32 is room for n values, from a cache line on.
func (a *arena) f32(n int) []float32 {
	from := a.used
	a.used += (n + 15) &^ 15
	if a.piece == nil {
		return nil
	}
	return a.piece[from : from+n : from+n]
}

// factor is room for n values of a factor.
func (a *arena) factor(s style, n int) mat {
	if s != halves {
		return mat{f: a.f32(n)}
	}
	f := a.f32((n + 1) / 2)
	if f == nil {
		return mat{}
	}
	return mat{h: unsafe.Slice((*kern.BF16)(unsafe.Pointer(unsafe.SliceData(f))), n)}
}

// acts are one block's activations that the backward pass needs; N = B·T rows.
type acts struct {
	x, x2                     []float32 // (N,C) (N,C)
	h1, qkv, y, h2, gateUp, a mat       // (N,C) (N,Q+2KV) (N,Q) (N,C) (N,2F) (N,F)
	r1, r2, lse               []float32 // (N) (N) (B,H,T)
}

// reserve makes room for B sequences of T tokens; it allocates only when more is asked for than ever before.
func (n *net) reserve(B, T int) {
	n.angles(T)
	if B*T <= n.rows && T <= n.span {
		return
	}
	n.rows, n.span = max(n.rows, B*T), max(n.span, T)
	var a arena
	n.carve(&a)
	a = arena{piece: kern.Alloc[float32](a.used)}
	n.carve(&a)
}

// carve lays out everything that depends on the size of a batch.
func (n *net) carve(a *arena) {
	c, N := n.cfg, n.rows
	C, Q, S, F := c.Width, n.q(), n.qkv(), c.FFN
	layers := 1
	if n.train {
		layers = c.Layers
	}
	n.act = n.act[:0]
	for range layers {
		var gateUp mat
		if n.train {
			gateUp = a.factor(n.style, N*n.ldGateUp())
		}
		n.act = append(n.act, acts{x: a.f32(N * C), qkv: a.factor(n.style, N*S), x2: a.f32(N * C), gateUp: gateUp,
			h1: a.factor(n.style, N*C), y: a.factor(n.style, N*Q), h2: a.factor(n.style, N*C), a: a.factor(n.style, N*n.ldFFN()),
			r1: a.f32(N), r2: a.f32(N), lse: a.f32(N * c.Heads)})
	}
	n.xf, n.hf, n.rf, n.lossOf = a.f32(N*C), a.factor(n.style, N*C), a.f32(N), a.f32(N)
	n.headRows = min(N, max(leastHeadRows, mostLogits/c.Vocab))
	n.wide = max(2*F, C, S, Q)
	n.scratch = a.f32(blocksOf(N) * C)
	n.few, n.fewOut = a.f32(fewRows*n.wide), a.f32(fewRows*max(c.Vocab, n.wide))
	n.carveAttention(a)
	if !n.train {
		return
	}
	n.dx, n.dh, n.dwPart = a.f32(N*C), a.f32(N*max(C, Q)), a.f32(blocksOf(N)*C)
	n.dlo, n.dqkvo = a.factor(n.style, n.headRows*n.ldVocab()), a.factor(n.style, N*S)
	if n.style == exact { // the gradient is the factor
		n.dxo = mat{f: n.dx}
		return
	}
	n.dxo, n.dgu = a.factor(n.style, N*C), a.factor(n.style, N*n.ldGateUp())
}

// dGateUp is where the gradient of gate and up becomes a factor: with float32 it is what it was computed in.
func (n *net) dGateUp(a *acts) mat {
	if n.style == exact {
		return a.gateUp
	}
	return n.dgu
}

// open is where row values of a factor are computed, seal makes them the factor's values from off on.
func (n *net) open(m mat, off, width int, scratch []float32) []float32 {
	if n.style == halves {
		return scratch[:width]
	}
	return m.f[off : off+width]
}

func (n *net) seal(m mat, off int, row []float32) {
	switch n.style {
	case exact:
		return
	case halves:
		n.k.ToBF16(m.h[off:off+len(row)], row)
		return
	}
	var h [512]kern.BF16
	for dst := m.f[off : off+len(row)]; len(row) > 0; {
		k := min(len(h), len(row))
		n.k.ToBF16(h[:k], row)
		n.k.FromBF16(dst[:k], h[:k])
		row, dst = row[k:], dst[k:]
	}
}

// Need implements model.Sizer.
func (e Engine) Need(c model.Config, opt model.Options, batch int, train bool) model.Need {
	k, err := kern.Select(e.kernels)
	if err != nil {
		k = &kern.Kernels{}
	}
	if opt.MicroBatch > 0 {
		batch = min(batch, opt.MicroBatch)
	}
	n := &net{cfg: c, k: k, style: styleOf(k, opt.Precision), threads: threadsOf(opt), train: train, rows: max(1, batch) * c.Seq, span: c.Seq}
	n.workers = make([]worker, n.threads)
	var a arena
	n.carve(&a)
	p := int64(c.Params())
	rotary := int64(c.Seq) * int64(c.HeadDim) // cosines and sines
	need := model.Need{Params: 4 * p, Acts: 4 * (int64(a.used) + n.packed() + rotary)}
	switch n.style {
	case halves:
		need.Params += 2 * p
	case rounded:
		need.Params += 4 * p
	}
	if train {
		need.Grads, need.Moments = 4*p, 8*p
	}
	return need
}

// packed is how many values the packed operands of all products take.
func (n *net) packed() int64 {
	c, N := n.cfg, n.rows
	C, Q, S, F, V, R := c.Width, n.q(), n.qkv(), c.FFN, c.Vocab, n.headRows
	var all kern.Sizes
	half := n.style == halves
	for i, s := range [][3]int{{N, S, C}, {N, 2 * F, C}, {R, V, C}} {
		if n.style == exact && (n.train || i == 0) { // the rows have a place
			all.AddPlaced(n.k, half, n.threads, s[0], s[1], s[2])
			continue
		}
		all.AddRows(n.k, half, n.threads, s[0], s[1], s[2])
	}
	shapes := [][3]int{{N, C, Q}, {N, C, F}}
	if n.train {
		all.AddRows(n.k, half, n.threads, N, F, C)
		shapes = append(shapes, [][3]int{{C, F, N}, {2 * F, C, N}, {N, C, 2 * F}, {C, Q, N}, {N, Q, C}, {S, C, N}, {N, C, S}, {V, C, R}, {R, C, V}}...)
	}
	for _, s := range shapes {
		all.Add(n.k, half, n.threads, s[0], s[1], s[2])
	}
	return all.Values() + int64(n.threads)*int64(n.packedHeads())
}

// packedHeads is how many of these one goroutine of attention takes.
func (n *net) packedHeads() int {
	hd, T, half := n.cfg.HeadDim, n.span, n.style == halves
	across, along := n.k.PanelsSize(half, hd, T, hd), n.k.PanelsSize(half, T, hd, keyBlock)
	rows := n.k.PanelRows(half) * keyBlock
	if !n.train {
		return across + along + rows
	}
	return 3*across + 3*along + n.k.PanelsSize(half, T, hd, n.block()) + rows
}
