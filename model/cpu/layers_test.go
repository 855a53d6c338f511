package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"sn3/model"
	"sn3/model/kern"
)

// One test for each kind of layer: the forward pass equals the naive twin, the backward pass equals central differences of it.
// Sizes are odd, or cross the blocks that work is cut into; every test runs with every set of kernels.

// bare is a net with room for B sequences of T tokens.
func bare(t *testing.T, kernels string, c model.Config, B, T int) *net {
	t.Helper()
	k, err := kern.Select(kernels)
	if err != nil {
		t.Fatal(err)
	}
	n, err := newNet(c, k, model.Options{Threads: 2}, true)
	if err != nil {
		t.Fatal(err)
	}
	n.reserve(B, T)
	return n
}

func shape(width, heads, kv, hd int) model.Config {
	return model.Config{Vocab: 37, Width: width, Layers: 1, Heads: heads, KVHeads: kv, HeadDim: hd, FFN: 41, Seq: 16, RopeTheta: 1e4, NormEps: 1e-5}
}

// weighted is Σ g·y: a scalar whose gradient with respect to y is g.
func weighted(g []float32, y vec) float64 {
	sum := 0.0
	for i := range y {
		sum += float64(g[i]) * y[i]
	}
	return sum
}

func TestRMSNormGradient(t *testing.T) {
	kernelSets(t, func(t *testing.T, kernels string) {
		r := rand.New(rand.NewPCG(1, 1))
		for _, C := range []int{1, 5, 50} {
			const N = rowBlock + 7 // two partial sums of the weight's gradient
			n := bare(t, kernels, shape(C, 1, 1, 2), 1, N)
			x, w, dy := fill(r, make([]float32, N*C), 1), fill(r, make([]float32, C), 1), fill(r, make([]float32, N*C), 1)
			h, rr, dx, dw := make([]float32, N*C), make([]float32, N), make([]float32, N*C), make([]float32, C)
			x64, w64 := wide(x), wide(w)
			forward := func() (out vec) {
				for i := range N {
					out = append(out, rms64(x64[i*C:(i+1)*C], w64, n.cfg.NormEps)...)
				}
				return out
			}
			n.rms(N, mat{f: h}, rr, x, w, nil)
			equals(t, "h", h, forward())
			n.rmsBackward(N, dx, dw, dy, x, w, rr, mat{f: dx}, true)
			loss := func() float64 { return weighted(dy, forward()) }
			differences(t, fmt.Sprintf("width %d, x", C), loss, x64, dx)
			differences(t, fmt.Sprintf("width %d, weight", C), loss, w64, dw)
			before := append([]float32(nil), dx...)
			n.rmsBackward(N, dx, dw, dy, x, w, rr, mat{f: dx}, true)
			if dx[3%len(dx)] != 2*before[3%len(dx)] {
				t.Errorf("width %d: the gradient is not added to what is there", C)
			}
		}
	})
}

func TestRoPEGradient(t *testing.T) {
	kernelSets(t, func(t *testing.T, kernels string) {
		r := rand.New(rand.NewPCG(2, 1))
		for _, hd := range []int{2, 6, 20, 32, 64} {
			c := shape(8, 3, 1, hd)
			const B, T = 2, 9
			n := bare(t, kernels, c, B, T)
			S, turned := n.qkv(), (c.Heads+c.KVHeads)*hd
			x, dy := fill(r, make([]float32, B*T*S), 1), fill(r, make([]float32, B*T*S), 1)
			x64 := wide(x)
			forward := func() (out vec) {
				for i := range B * T {
					row := x64[i*S : (i+1)*S]
					out = append(append(out, rope64(row[:turned], hd, i%T, InvFreq(c))...), row[turned:]...) // values are not turned
				}
				return out
			}
			n.qkvRows(&rowArgs{h: mat{f: x}, T: T}, 0, 0, B*T, append([]float32(nil), x...), S)
			equals(t, "rotated", x, forward())
			dx := append([]float32(nil), dy...)
			for i := range B * T {
				n.turn(dx[i*S:(i+1)*S], i%T, -1)
			}
			differences(t, fmt.Sprintf("head dimension %d", hd), func() float64 { return weighted(dy, forward()) }, x64, dx)
		}
	})
}

func TestAttentionGradient(t *testing.T) {
	kernelSets(t, func(t *testing.T, kernels string) {
		r := rand.New(rand.NewPCG(3, 1))
		for _, c := range []model.Config{shape(8, 3, 3, 6), shape(8, 4, 2, 6), shape(8, 6, 1, 4), shape(8, 2, 1, 32), shape(8, 1, 1, 2)} {
			for _, T := range []int{1, 7, 18, 59} { // 59: more than a block of queries
				const B = 2
				n := bare(t, kernels, c, B, T)
				S, Q, a := n.qkv(), n.q(), &n.act[0]
				fill(r, a.qkv.f[:B*T*S], 1)
				fill(r, n.dh[:B*T*Q], 1)
				dy, x64 := append([]float32(nil), n.dh[:B*T*Q]...), wide(a.qkv.f[:B*T*S])
				forward := func() (out vec) {
					for b := range B {
						var rows []vec
						for i := range T {
							rows = append(rows, x64[(b*T+i)*S:][:S])
						}
						for _, y := range attention64(c, rows) {
							out = append(out, y...)
						}
					}
					return out
				}
				n.attention(B, T, a)
				equals(t, "attention", a.y.f, forward())
				n.attentionBackward(B, T, a)
				what := fmt.Sprintf("%d heads over %d, dimension %d, T %d", c.Heads, c.KVHeads, c.HeadDim, T)
				differences(t, what, func() float64 { return weighted(dy, forward()) }, x64, n.rotated(B, T))
			}
		}
	})
}

// rotated is dqkvo with its heads rotated again: the gradient of what attention itself reads.
func (n *net) rotated(B, T int) []float32 {
	S := n.qkv()
	out := append([]float32(nil), n.dqkvo.f[:B*T*S]...)
	for i := range B * T {
		n.turn(out[i*S:(i+1)*S], i%T, 1)
	}
	return out
}

func TestSwiGLUGradient(t *testing.T) {
	kernelSets(t, func(t *testing.T, kernels string) {
		r := rand.New(rand.NewPCG(4, 1))
		for _, F := range []int{1, 16, 41, 80} {
			k := bare(t, kernels, shape(8, 1, 1, 2), 1, 1).k
			gate, up, da, a := fill(r, make([]float32, F), 2), fill(r, make([]float32, F), 1), fill(r, make([]float32, F), 1), make([]float32, F)
			gate64, up64 := wide(gate), wide(up)
			forward := func() vec {
				out := make(vec, F)
				for i := range out {
					out[i] = silu64(gate64[i]) * up64[i]
				}
				return out
			}
			k.SwiGLU(a, gate, up)
			equals(t, "swiglu", a, forward())
			k.SwiGLUBackward(gate, up, da)
			loss := func() float64 { return weighted(da, forward()) }
			differences(t, fmt.Sprintf("F %d, gate", F), loss, gate64, gate)
			differences(t, fmt.Sprintf("F %d, up", F), loss, up64, up)
		}
	})
}

// A projection is x·wᵀ; its gradients are the two other products that backward makes of it.
func TestProjectionGradient(t *testing.T) {
	kernelSets(t, func(t *testing.T, kernels string) {
		r := rand.New(rand.NewPCG(5, 1))
		const N, in, out = 33, 21, 45
		n := bare(t, kernels, shape(8, 1, 1, 2), 1, N)
		x, w, dy := fill(r, make([]float32, N*in), 1), fill(r, make([]float32, out*in), 1), fill(r, make([]float32, N*out), 1)
		y, dx, dw := make([]float32, N*out), make([]float32, N*in), make([]float32, out*in)
		x64, w64 := wide(x), wide(w)
		forward := func() (all vec) {
			for i := range N {
				all = append(all, linear64(x64[i*in:(i+1)*in], w64)...)
			}
			return all
		}
		n.product(false, true, N, out, in, mat{f: x}, in, mat{f: w}, in, y, out, false)
		equals(t, "projection", y, forward())
		n.product(true, false, out, in, N, mat{f: dy}, out, mat{f: x}, in, dw, in, true)
		n.product(false, false, N, in, out, mat{f: dy}, out, mat{f: w}, in, dx, in, false)
		loss := func() float64 { return weighted(dy, forward()) }
		differences(t, "x", loss, x64, dx)
		differences(t, "w", loss, w64, dw)
	})
}

// The output matrix with cross entropy, over more rows than exist at once, some targets not counted, tied or not.
func TestCrossEntropyGradient(t *testing.T) {
	kernelSets(t, func(t *testing.T, kernels string) {
		for _, tied := range []bool{true, false} {
			r := rand.New(rand.NewPCG(6, 1))
			c := shape(11, 1, 1, 2)
			c.Tied = tied
			const B, T = 3, 47
			n := bare(t, kernels, c, B, T)
			b := model.Batch{B: B, T: T, X: make([]int32, B*T), Y: make([]int32, B*T)}
			for i := range b.Y {
				if b.Y[i] = int32(r.IntN(c.Vocab)); r.IntN(3) == 0 {
					b.Y[i] = ignored
				}
			}
			counted, err := b.Check(c)
			if err != nil || counted == 0 || counted == B*T {
				t.Fatalf("%d counted, %v", counted, err)
			}
			g := viewsOf(c, make([]float32, n.layout.Params()))
			fill(r, n.w.head, 0.5)
			n.headRows = 100 // more than once
			fill(r, n.hf.f[:B*T*c.Width], 1)
			h64, w64 := wide(n.hf.f[:B*T*c.Width]), wide(n.w.head)
			loss := func() float64 {
				sum := 0.0
				for i, y := range b.Y {
					if y != ignored {
						sum += cross64(linear64(h64[i*c.Width:(i+1)*c.Width], w64), y)
					}
				}
				return sum / float64(counted)
			}
			if got, want := n.headBackward(b, counted, &g, false), loss(); math.Abs(got-want) > 1e-6*want {
				t.Errorf("loss %v, want %v", got, want)
			}
			differences(t, "hidden state", loss, h64, n.dh[:B*T*c.Width])
			differences(t, "output matrix", loss, w64, g.head)
			if tied != (&g.head[0] == &g.emb[0]) {
				t.Error("a tied output matrix is the embedding, another is not")
			}
			for i, y := range b.Y {
				for _, d := range n.dh[i*c.Width : (i+1)*c.Width] {
					if y == ignored && d != 0 {
						t.Fatalf("row %d does not count, its gradient is %v", i, d)
					}
				}
			}
		}
	})
}

// The embedding gathers rows; its gradient adds up over repeated tokens, and rows of tokens that do not occur get none.
func TestEmbeddingGradient(t *testing.T) {
	kernelSets(t, func(t *testing.T, kernels string) {
		c := shape(10, 2, 1, 4)
		tr, w := randomTrainer(t, kernels, c, 1, model.Optimizer{})
		b := model.Batch{B: 2, T: 5, X: []int32{4, 9, 4, 4, 36, 0, 9, 4, 0, 36}, Y: []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}
		_, grad, err := tr.LossGrad(b)
		if err != nil {
			t.Fatal(err)
		}
		tw := newTwin(c, w)
		for token := range c.Vocab {
			row := grad[token*c.Width : (token+1)*c.Width]
			switch token {
			case 0, 4, 9, 36:
				differences(t, fmt.Sprintf("token %d", token), func() float64 { return tw.loss(b) }, tw.p[token*c.Width:(token+1)*c.Width], row)
			default:
				for _, g := range row {
					if g != 0 {
						t.Fatalf("token %d does not occur, its gradient is %v", token, g)
					}
				}
			}
		}
	})
}

// The whole model: the loss, and of every tensor's gradient the first values (model/graph has all of them).
func TestModelGradient(t *testing.T) {
	gqa, tied, mqa, scaled := shape(12, 4, 2, 6), shape(18, 2, 2, 4), shape(7, 3, 1, 10), shape(12, 2, 1, 8)
	gqa.Layers, mqa.Layers, tied.Tied = 2, 2, true
	scaled.Rope = &model.RopeScaling{Type: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4, Original: 4}
	linear := scaled
	linear.Rope, linear.Tied = &model.RopeScaling{Type: "linear", Factor: 2.5}, true
	kernelSets(t, func(t *testing.T, kernels string) {
		for i, c := range []model.Config{gqa, tied, mqa, scaled, linear} {
			tr, w := randomTrainer(t, kernels, c, 2, model.Optimizer{})
			b := tokens(uint64(i), 3, 9, c.Vocab)
			b.Y[2], b.Y[5], b.Y[13] = ignored, ignored, ignored
			for j := 18; j < 27; j++ { // a sequence of which nothing counts
				b.Y[j] = ignored
			}
			tw := newTwin(c, w)
			loss, grad, err := tr.LossGrad(b)
			if want := tw.loss(b); err != nil || math.Abs(loss-want) > 2e-6*want {
				t.Errorf("case %d: loss %v, want %v (%v)", i, loss, want, err)
			}
			for _, x := range c.Tensors() {
				from, to := x.Off, min(x.Off+x.Len(), x.Off+12)
				differences(t, fmt.Sprintf("case %d, %s", i, x.Name), func() float64 { return tw.loss(b) }, tw.p[from:to], grad[from:to])
			}
		}
	})
}
