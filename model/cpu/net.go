package cpu

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/blas"

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

// acts are one block's activations that the backward pass needs; N = B·T rows.
type acts struct {
	x, h1, qkv, y, x2, h2, gateUp, a []float32 // (N,C) (N,C) (N,Q+2KV) (N,Q) (N,C) (N,C) (N,2F) (N,F)
	r1, r2, lse                      []float32 // (N) (N) (B,H,T)
}

// headRows is how many rows of logits exist at once.
const headRows = 256

// net runs the model forward and backward over its own memory. Not safe for concurrent use.
type net struct {
	cfg     model.Config
	layout  *model.Layout
	k       *kern.Kernels
	blas    blas.Float32Level3 // all threads
	one     blas.Float32Level3 // the calling goroutine only
	threads int
	w       views
	rows    int // N that the arena holds
	act     []acts
	train   bool
	xf, hf  []float32 // (N,C) before and after the final norm
	rf      []float32
	logits  []float32 // (headRows,V)
	dx, dh  []float32 // (N,C), (N,max(C,Q))
	dqkv    []float32 // (N,Q+2KV)
	da      []float32 // (N,F)
	dwPart  []float32 // partial norm-weight gradients, one row per block of rows
	score   [][]float32
	cos     []float32 // (T,hd/2)
	sin     []float32
	spanT   int
}

func newNet(c model.Config, k *kern.Kernels, threads int, train bool) (*net, error) {
	l, err := model.NewLayout(c)
	if err != nil {
		return nil, err
	}
	threads = max(1, threads)
	n := &net{cfg: c, layout: l, k: k, blas: kern.BLAS{K: k, Threads: threads}, one: kern.BLAS{K: k, Threads: 1}, threads: threads, train: train}
	n.w = viewsOf(c, make([]float32, l.Params()))
	n.logits = make([]float32, headRows*c.Vocab)
	return n, nil
}

func (n *net) q() int   { return n.cfg.Heads * n.cfg.HeadDim }
func (n *net) qkv() int { return (n.cfg.Heads + 2*n.cfg.KVHeads) * n.cfg.HeadDim }

// reserve makes room for B sequences of T tokens; it allocates only when more is asked for than ever before.
func (n *net) reserve(B, T int) error {
	if B < 1 || T < 1 || B*T > 1<<24 {
		return fmt.Errorf("batch of %d sequences of %d tokens", B, T)
	}
	n.angles(T)
	N, c := B*T, n.cfg
	for len(n.score) < n.threads {
		n.score = append(n.score, nil)
	}
	for i := range n.score {
		if len(n.score[i]) < 2*T*T {
			n.score[i] = make([]float32, 2*T*T)
		}
	}
	if N <= n.rows {
		return nil
	}
	n.rows = N
	layers := 1
	if n.train {
		layers = c.Layers
	}
	al := func(width int) []float32 { return make([]float32, N*width) }
	n.act = n.act[:0]
	for range layers {
		n.act = append(n.act, acts{x: al(c.Width), h1: al(c.Width), qkv: al(n.qkv()), y: al(n.q()), x2: al(c.Width), h2: al(c.Width),
			gateUp: al(2 * c.FFN), a: al(c.FFN), r1: al(1), r2: al(1), lse: al(c.Heads)})
	}
	n.xf, n.hf, n.rf = al(c.Width), al(c.Width), al(1)
	if n.train {
		n.dx, n.dh, n.dqkv, n.da = al(c.Width), al(max(c.Width, n.q())), al(n.qkv()), al(c.FFN)
		n.dwPart = make([]float32, (N+rowBlock-1)/rowBlock*c.Width)
	}
	return nil
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

// rowBlock is the number of rows that one partial sum of a norm-weight gradient covers: fixed, so that the sum does not
// depend on threads.
const rowBlock = 64

// rowsDo runs f over blocks of rows.
func (n *net) rowsDo(N int, f func(block, from, to int)) {
	kern.Par(n.threads, (N+rowBlock-1)/rowBlock, func(i int) { f(i, i*rowBlock, min((i+1)*rowBlock, N)) })
}

// gemm is C = op(A)·op(B), or adds to C, on all threads.
func (n *net) gemm(tA, tB bool, rows, cols, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	sgemm(n.blas, tA, tB, rows, cols, k, a, lda, b, ldb, c, ldc, acc)
}

func sgemm(impl blas.Float32Level3, tA, tB bool, rows, cols, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	op := func(t bool) blas.Transpose {
		if t {
			return blas.Trans
		}
		return blas.NoTrans
	}
	beta := float32(0)
	if acc {
		beta = 1
	}
	impl.Sgemm(op(tA), op(tB), rows, cols, k, 1, a, lda, b, ldb, beta, c, ldc)
}

// rms is h = x·r·w with r = 1/√(mean x² + ε), row by row.
func (n *net) rms(N int, h, r, x, w []float32) {
	C := n.cfg.Width
	n.rowsDo(N, func(_, from, to int) {
		for i := from; i < to; i++ {
			xi := x[i*C : (i+1)*C]
			r[i] = float32(1 / math.Sqrt(float64(n.k.Dot(xi, xi))/float64(C)+n.cfg.NormEps))
			n.k.ScaleMul(h[i*C:(i+1)*C], xi, w, r[i])
		}
	})
}

// rmsBackward adds to dx and dw.
func (n *net) rmsBackward(N int, dx, dw, dy, x, w, r []float32) {
	C := n.cfg.Width
	clear(n.dwPart[:(N+rowBlock-1)/rowBlock*C])
	n.rowsDo(N, func(b, from, to int) {
		part := n.dwPart[b*C : (b+1)*C]
		for i := from; i < to; i++ {
			n.k.RMSBackward(dx[i*C:(i+1)*C], part, dy[i*C:(i+1)*C], x[i*C:(i+1)*C], w, r[i])
		}
	})
	for b := range (N + rowBlock - 1) / rowBlock {
		n.k.Add(dw, n.dwPart[b*C:(b+1)*C])
	}
}

// rope rotates the query and key heads of qkv, (N,Q+2KV), by their positions; sign -1 rotates back.
func (n *net) rope(N, T int, qkv []float32, sign float32) {
	hd := n.cfg.HeadDim
	half, stride := hd/2, n.qkv()
	n.rowsDo(N, func(_, from, to int) {
		for i := from; i < to; i++ {
			t := i % T
			c, s := n.cos[t*half:(t+1)*half], n.sin[t*half:(t+1)*half]
			for h := range n.cfg.Heads + n.cfg.KVHeads {
				v := qkv[i*stride+h*hd:]
				n.k.Rope(v[:half], v[half:hd], c, s, sign)
			}
		}
	})
}
