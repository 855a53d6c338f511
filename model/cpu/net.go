package cpu

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unsafe"

	"sn3/model"
	"sn3/model/kern"
)

// layer holds views of one block's tensors in a flat vector. q, k, v projections lie side by side, as do gate and up, so
// that each group is one matrix product.
type layer struct{ n1, qkv, o, n2, gateUp, down []float32 }

// views are the tensors of a flat row-major vector.
type views struct {
	flat, emb, norm, head []float32
	layers                []layer
}

func viewsOf(c model.Config, flat []float32) views {
	v := views{flat: flat, layers: make([]layer, c.Layers)}
	for _, t := range c.Tensors() {
		x := flat[t.Off : t.Off+t.Len()]
		parts := strings.Split(t.Name, ".")
		if len(parts) < 5 {
			switch t.Name {
			case "model.embed_tokens.weight":
				v.emb = x
			case "model.norm.weight":
				v.norm = x
			default:
				v.head = x
			}
			continue
		}
		i, _ := strconv.Atoi(parts[2]) // the name is our own
		l := &v.layers[i]
		switch parts[len(parts)-2] {
		case "input_layernorm":
			l.n1 = x
		case "q_proj":
			l.qkv = flat[t.Off : t.Off+(c.Heads+2*c.KVHeads)*c.HeadDim*c.Width]
		case "o_proj":
			l.o = x
		case "post_attention_layernorm":
			l.n2 = x
		case "gate_proj":
			l.gateUp = flat[t.Off : t.Off+2*c.FFN*c.Width]
		case "down_proj":
			l.down = x
		}
	}
	if c.Tied {
		v.head = v.emb
	}
	return v
}

const (
	ignored       = model.Ignored
	fewRows       = 4       // so many rows of a product are cheaper as dot products than packed
	rowBlock      = 64      // rows that one partial sum of a norm-weight gradient covers: fixed, so that it does not depend on threads
	leastHeadRows = 1024    // rows of logits that exist at once: at least these, because the output matrix is packed for them,
	mostLogits    = 1 << 22 // else as many as this many values hold
)

// net runs the model forward and backward over its own memory. Not safe for concurrent use.
type net struct {
	cfg     model.Config
	layout  *model.Layout
	k       *kern.Kernels
	style   style
	threads int
	train   bool
	mul     kern.Mul
	team    kern.Team
	w       views   // parameters
	torn    bool    // a load failed half way: w is no model
	p       factors // the same as factors
	task    rowTask
	each    eachTask
	group   groupTask

	rows, span int // N and T that there is room for
	act        []acts
	xf         []float32 // (N,C) before the final norm
	hf         mat       // (N,C) after it
	rf, lossOf []float32 // (N) of the final norm, (N) losses of rows
	headRows   int
	scratch    []float32 // (C) for every block of rows
	wide       int       // of the widest row of a factor
	few        []float32 // (fewRows,wide) factors of a few rows, widened
	fewOut     []float32 // (fewRows,max(V,wide)) what they make
	workers    []worker  // of attention

	dx, dh               []float32 // (N,C) (N,max(C,Q))
	dxo, dqkvo, dlo, dgu mat       // dx, the gradients of qkv, of logits, (headRows,V), and of gate and up as factors
	dwPart               []float32 // partial norm-weight gradients, one row per block of rows

	cos, sin  []float32 // (T,hd/2)
	spanT     int
	one, zero []float32 // (hd/2) the cosines and sines of no rotation
}

// factors are the matrices of a model as factors of products.
type factors struct {
	flat   mat
	head   mat
	layers []struct{ qkv, o, gateUp, down mat }
}

func newNet(c model.Config, k *kern.Kernels, opt model.Options, train bool) (*net, error) {
	l, err := model.NewLayout(c)
	if err != nil {
		return nil, err
	}
	switch opt.Precision {
	case "", model.F32, model.BF16:
	default:
		return nil, fmt.Errorf("%w: precision %q; this one has %s and %s", model.ErrUnsupported, opt.Precision, model.F32, model.BF16)
	}
	if opt.MicroBatch < 0 {
		return nil, fmt.Errorf("micro-batch of %d sequences; give at least 1, or 0 for whole batches", opt.MicroBatch)
	}
	threads := threadsOf(opt)
	n := &net{cfg: c, layout: l, k: k, style: styleOf(k, opt.Precision), threads: threads, train: train, workers: make([]worker, threads)}
	n.mul.K, n.mul.Threads = k, threads
	for i := range n.workers {
		n.workers[i].mul.K, n.workers[i].mul.Threads = k, 1
	}
	n.one, n.zero = make([]float32, c.HeadDim/2), make([]float32, c.HeadDim/2)
	for i := range n.one {
		n.one[i] = 1
	}
	n.w = viewsOf(c, kern.Alloc[float32](l.Params()))
	n.p = n.factorsOf()
	return n, nil
}

// threadsOf is how many threads are of use: every one has memory of its own.
func threadsOf(opt model.Options) int { return min(max(1, opt.Threads), kern.MaxThreads) }

// factorsOf makes the matrices' second form, or lets it be the first.
func (n *net) factorsOf() factors {
	flat := mat{f: n.w.flat}
	if n.style != exact {
		flat = n.alloc(len(n.w.flat))
	}
	at := func(v []float32) mat { // where a view lies in the flat vector
		return flat.from(int(uintptr(unsafe.Pointer(&v[0]))-uintptr(unsafe.Pointer(&n.w.flat[0]))) / 4)
	}
	p := factors{flat: flat, head: at(n.w.head)}
	for _, l := range n.w.layers {
		p.layers = append(p.layers, struct{ qkv, o, gateUp, down mat }{at(l.qkv), at(l.o), at(l.gateUp), at(l.down)})
	}
	return p
}

// refresh brings the second form of parameters [from, to) up to date.
func (n *net) refresh(from, to int) { n.seal(n.p.flat, from, n.w.flat[from:to]) }

// ldFFN, ldGateUp and ldVocab are the distances of rows of F, 2F and V values: not a multiple of 2 KB, as powers of two would be,
// so that rows side by side in a product do not meet in the same sets of the caches.
func (n *net) ldFFN() int    { return apart(n.cfg.FFN) }
func (n *net) ldGateUp() int { return apart(2 * n.cfg.FFN) }
func (n *net) ldVocab() int  { return apart(n.cfg.Vocab) }

func apart(width int) int {
	if width%512 == 0 {
		return width + 32
	}
	return width
}

func (n *net) q() int   { return n.cfg.Heads * n.cfg.HeadDim }
func (n *net) qkv() int { return (n.cfg.Heads + 2*n.cfg.KVHeads) * n.cfg.HeadDim }

// product is C = op(A)·op(B), or adds to C, on all threads.
func (n *net) product(tA, tB bool, rows, cols, k int, a mat, lda int, b mat, ldb int, c []float32, ldc int, acc bool) {
	if !tA && tB && rows <= fewRows {
		n.matVec(rows, cols, k, a, lda, b, ldb, c, ldc, acc)
		return
	}
	n.productBy(&n.mul, tA, tB, rows, cols, k, a, lda, b, ldb, c, ldc, acc)
}

// productRows is op(A)·op(B) on all threads, whose rows op uses while they are in the cache.
// With float32 and a place for C, (rows,cols) at distance ldc, they are computed there.
func (n *net) productRows(tB bool, rows, cols, k int, a mat, lda int, b mat, ldb int, place mat, ldc int, op func(n *net, a *rowArgs, w, from, to int, c []float32, ldc int), args rowArgs) {
	n.each = eachTask{n, op, args}
	if tB && rows <= fewRows {
		n.matVec(rows, cols, k, a, lda, b, ldb, n.fewOut, cols, false)
		n.each.Rows(0, 0, rows, n.fewOut, cols)
		n.each.args = rowArgs{}
		return
	}
	if n.style == halves {
		n.mul.BF16Rows(false, tB, rows, cols, k, a.h, lda, b.h, ldb, &n.each)
	} else {
		if n.style != exact {
			place.f = nil
		}
		n.mul.F32Rows(false, tB, rows, cols, k, a.f, lda, b.f, ldb, place.f, ldc, &n.each)
	}
	n.each.args = rowArgs{}
}

// productBy is product on the goroutines of m.
func (n *net) productBy(m *kern.Mul, tA, tB bool, rows, cols, k int, a mat, lda int, b mat, ldb int, c []float32, ldc int, acc bool) {
	if n.style == halves {
		m.BF16(tA, tB, rows, cols, k, a.h, lda, b.h, ldb, c, ldc, acc)
		return
	}
	m.F32(tA, tB, rows, cols, k, a.f, lda, b.f, ldb, c, ldc, acc)
}

// angles fills the rotary tables: float32 products of position and frequency, as Llama's reference does.
func (n *net) angles(T int) {
	if T <= n.spanT {
		return
	}
	n.spanT = T
	freq := InvFreq(n.cfg)
	n.cos, n.sin = make([]float32, T*len(freq)), make([]float32, T*len(freq))
	for t := range T {
		for i, f := range freq {
			a := float64(float32(t) * f)
			n.cos[t*len(freq)+i], n.sin[t*len(freq)+i] = float32(math.Cos(a)), float32(math.Sin(a))
		}
	}
}

// InvFreq are the rotary frequencies θ^(-2i/hd), (hd/2), with Llama-3 or linear scaling (golden/llama/README.md).
func InvFreq(c model.Config) []float32 {
	out := make([]float32, c.HeadDim/2)
	for i := range out {
		f := float32(1 / math.Pow(c.RopeTheta, float64(2*i)/float64(c.HeadDim)))
		if s := c.Rope; s != nil && s.Type == "linear" {
			f /= float32(s.Factor)
		} else if s != nil && s.Type == "llama3" {
			f = llama3(f, s)
		}
		out[i] = f
	}
	return out
}

func llama3(f float32, s *model.RopeScaling) float32 {
	wave := float32(2*math.Pi) / f
	o := float32(s.Original)
	switch {
	case wave < o/float32(s.HighFreq):
		return f
	case wave > o/float32(s.LowFreq):
		return f / float32(s.Factor)
	}
	m := (o/wave - float32(s.LowFreq)) / float32(s.HighFreq-s.LowFreq)
	return (1-m)*f/float32(s.Factor) + m*f
}
