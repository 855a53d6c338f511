package cpu

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"sn3/model"
	"sn3/model/kern"
)

// attention64Back is the gradient of Σ dy·attention64(qkv).
func attention64Back(c model.Config, qkv, dy []vec) []vec {
	hd, out := c.HeadDim, make([]vec, len(qkv))
	for t := range qkv {
		out[t] = make(vec, len(qkv[t]))
	}
	scale := 1 / math.Sqrt(float64(hd))
	for t := range qkv {
		for h := range c.Heads {
			g := h / (c.Heads / c.KVHeads)
			q, dq, do := qkv[t][h*hd:][:hd], out[t][h*hd:][:hd], dy[t][h*hd:][:hd]
			ko, vo := (c.Heads+g)*hd, (c.Heads+c.KVHeads+g)*hd
			p, dp, sum, delta := make(vec, t+1), make(vec, t+1), 0.0, 0.0
			for s := range p {
				p[s] = math.Exp(dot64(q, qkv[s][ko:][:hd]) * scale)
				sum += p[s]
			}
			for s := range p {
				p[s] /= sum
				dp[s] = dot64(do, qkv[s][vo:][:hd])
				delta += p[s] * dp[s]
			}
			for s := range p {
				ds := p[s] * (dp[s] - delta) * scale
				k, dk, dv := qkv[s][ko:][:hd], out[s][ko:][:hd], out[s][vo:][:hd]
				for i := range hd {
					dq[i] += ds * k[i]
					dk[i] += ds * q[i]
					dv[i] += p[s] * do[i]
				}
			}
		}
	}
	return out
}

func dot64(a, b vec) (sum float64) {
	for i, x := range a {
		sum += x * b[i]
	}
	return sum
}

// attentionCase is one sequence's attention in float64: of values that bfloat16 holds too.
type attentionCase struct {
	c           model.Config
	T           int
	qkv, dh     []float32 // (T,S) (T,Q)
	y, dqkv     vec       // (T,Q), and (T,S) before the rotation
	ySize, size float64   // the largest of each
}

func newAttentionCase(T, heads, kv, hd int) *attentionCase {
	a := &attentionCase{c: shape(8, heads, kv, hd), T: T}
	a.c.Seq = T
	r := rand.New(rand.NewPCG(uint64(T), uint64(hd)))
	S, Q, turned := (heads+2*kv)*hd, heads*hd, (heads+kv)*hd
	a.qkv, a.dh = fill(r, make([]float32, T*S), 1), fill(r, make([]float32, T*Q), 1)
	for i := range a.qkv { // an even T: later keys are larger, so that the maximum moves from block to block
		if T%2 == 0 && i%S >= Q && i%S < turned {
			a.qkv[i] *= 0.5 + 3*float32(i/S)/float32(T)
		}
	}
	for _, v := range [][]float32{a.qkv, a.dh} {
		for i, x := range v {
			v[i] = kern.RoundBF16(x).Float32()
		}
	}
	var rows, dy []vec
	for t := range T {
		rows, dy = append(rows, wide(a.qkv[t*S:][:S])), append(dy, wide(a.dh[t*Q:][:Q]))
	}
	for _, y := range attention64(a.c, rows) {
		a.y = append(a.y, y...)
	}
	for t, d := range attention64Back(a.c, rows, dy) {
		a.dqkv = append(append(a.dqkv, rope64(d[:turned], hd, -t, InvFreq(a.c))...), d[turned:]...)
	}
	for _, x := range a.y {
		a.ySize = math.Max(a.ySize, math.Abs(x))
	}
	for _, x := range a.dqkv {
		a.size = math.Max(a.size, math.Abs(x))
	}
	return a
}

// run is what a new net of these kernels makes of it.
func (x *attentionCase) run(t *testing.T, kernels string, p model.Precision, threads int) (y, lse, dqkv []float32) {
	t.Helper()
	k, err := kern.Select(kernels)
	if err != nil {
		t.Fatal(err)
	}
	n, err := newNet(x.c, k, model.Options{Precision: p, Threads: threads}, true)
	if err != nil {
		t.Fatal(err)
	}
	n.reserve(1, x.T)
	a := &n.act[0]
	values := func(m mat, size int) []float32 {
		if n.style != halves {
			return slices.Clone(m.f[:size])
		}
		out := make([]float32, size)
		k.FromBF16(out, m.h)
		return out
	}
	copy(a.qkv.f, x.qkv)
	if n.style == halves {
		k.ToBF16(a.qkv.h[:len(x.qkv)], x.qkv)
	}
	copy(n.dh, x.dh)
	n.attention(1, x.T, a)
	y, lse = values(a.y, len(x.dh)), slices.Clone(a.lse)
	n.attentionBackward(1, x.T, a)
	return y, lse, values(n.dqkvo, len(x.qkv))
}

// off is the largest difference, in units of size.
func off(got []float32, want vec, size float64) float64 {
	worst := 0.0
	for i, x := range got {
		if d := math.Abs(float64(x) - want[i]); !(d <= worst*size) {
			if worst = d / size; worst != worst {
				return math.Inf(1)
			}
		}
	}
	return worst
}

// The twin's backward pass is right.
func TestTwinOfAttention(t *testing.T) {
	x := newAttentionCase(9, 4, 2, 6)
	S := (x.c.Heads + 2*x.c.KVHeads) * x.c.HeadDim
	flat, dy := wide(x.qkv), wide(x.dh)
	loss := func() (sum float64) {
		var rows []vec
		for i := range x.T {
			rows = append(rows, flat[i*S:][:S])
		}
		for i, y := range attention64(x.c, rows) {
			sum += dot64(y, dy[i*len(y):][:len(y)])
		}
		return sum
	}
	var grad []float32
	for i := range x.T {
		row, turned := x.dqkv[i*S:][:S], (x.c.Heads+x.c.KVHeads)*x.c.HeadDim
		for _, g := range append(rope64(row[:turned], x.c.HeadDim, i, InvFreq(x.c)), row[turned:]...) {
			grad = append(grad, float32(g))
		}
	}
	differences(t, "twin", loss, flat, grad)
}

// Every value of attention and of its gradient is the twin's: around one and two blocks of keys, with heads of every kind of width,
// more queries than keys, fewer of these than threads.
func TestAttentionOfEveryLength(t *testing.T) {
	for i, s := range [][4]int{{258, 2, 1, 34}, {255, 2, 1, 2}, {256, 2, 2, 30}, {257, 4, 2, 34}, {300, 2, 1, 96}, {258, 3, 1, 64}, {513, 2, 2, 128}, {600, 4, 1, 32}, {290, 1, 1, 256}, {40, 1, 1, 258}} {
		if testing.Short() && i > 0 {
			break // the twin is slow under the race detector
		}
		x := newAttentionCase(s[0], s[1], s[2], s[3])
		t.Run(fmt.Sprintf("T=%d/%d over %d heads of %d", s[0], s[1], s[2], s[3]), func(t *testing.T) {
			precisions(t, func(t *testing.T, kernels string, p model.Precision) {
				y, _, dqkv := x.run(t, kernels, p, 3)
				most, back := 2e-6, 4e-6
				if p == model.BF16 {
					most, back = 8e-3, 1e-2
				}
				a, b := off(y, x.y, x.ySize), off(dqkv, x.dqkv, x.size)
				t.Logf("off by %.2g, gradient by %.2g", a, b)
				if !(a <= most) || !(b <= back) {
					t.Errorf("off by %.2g of the largest value, the gradient by %.2g", a, b)
				}
			})
		})
	}
}

// Scores of hundreds, of both signs, overflow nowhere: every row subtracts its own maximum, whatever block of keys has it.
func TestAttentionOfLargeScores(t *testing.T) {
	for _, hd := range []int{20, 72} {
		x := newAttentionCase(263, 2, 1, hd)
		c := x.c
		for i := range x.qkv {
			x.qkv[i] *= 8
		}
		var rows []vec
		S := (c.Heads + 2*c.KVHeads) * hd
		for t := range x.T {
			rows = append(rows, wide(x.qkv[t*S:][:S]))
		}
		x.y = nil
		for _, y := range attention64(c, rows) {
			x.y = append(x.y, y...)
		}
		precisions(t, func(t *testing.T, kernels string, p model.Precision) {
			y, _, dqkv := x.run(t, kernels, p, 2)
			if d := off(y, x.y, 8*x.ySize); !(d <= map[model.Precision]float64{model.F32: 1e-4, model.BF16: 8e-3}[p]) {
				t.Errorf("heads of %d: off by %.2g of the largest value", hd, d)
			}
			if i := slices.IndexFunc(dqkv, func(g float32) bool { return g-g != 0 }); i >= 0 {
				t.Errorf("heads of %d: gradient %d is %v", hd, i, dqkv[i])
			}
		})
	}
}

// The bits of attention do not depend on threads, of which there may be more than key/value heads.
func TestAttentionBitsDoNotDependOnThreads(t *testing.T) {
	for _, s := range [][4]int{{300, 3, 1, 20}, {270, 4, 2, 34}} {
		x := newAttentionCase(s[0], s[1], s[2], s[3])
		precisions(t, func(t *testing.T, kernels string, p model.Precision) {
			y, lse, dqkv := x.run(t, kernels, p, 1)
			for threads := 2; threads <= 5; threads++ {
				if y2, lse2, dqkv2 := x.run(t, kernels, p, threads); !slices.Equal(y, y2) || !slices.Equal(lse, lse2) || !slices.Equal(dqkv, dqkv2) {
					t.Errorf("%v: other bits on %d threads", s, threads)
				}
			}
		})
	}
}

// A decoder that is given a sequence in pieces, of a few tokens, of more than go through the model at once, and of one, beyond a block
// of keys, has the logits of the forward pass; also after it was wound back.
func TestDecoderIsTheForwardPass(t *testing.T) {
	pieces := []int{1, 3, 5, decodeRows + 2, 2, fewRows, keyBlock + decodeRows/2, 1, 1}
	T := 0
	for _, n := range pieces {
		T += n
	}
	for _, hd := range []int{34, 72} {
		c := shape(24, 4, 2, hd)
		c.Layers, c.Seq = 2, T
		w, x := randomWeights(t, c), tokens(7, 1, T, c.Vocab).X
		precisions(t, func(t *testing.T, kernels string, p model.Precision) {
			opt, most := model.Options{Threads: 2, Precision: p}, map[model.Precision]float64{model.F32: 1e-5, model.BF16: 2e-2}[p]
			j, err := New(kernels).NewJudge(c, opt)
			if err == nil {
				err = j.Reset(context.Background(), w)
			}
			all := make([]float32, T*c.Vocab)
			if err == nil {
				err = j.(*Judge).Logits(all, x, 1, T)
			}
			if err != nil {
				t.Fatal(err)
			}
			y, err := New(kernels).NewDecoder(c, T, opt)
			if err == nil {
				err = y.Reset(context.Background(), w)
			}
			if err != nil {
				t.Fatal(err)
			}
			d, got := y.(*Decoder), make([]float32, c.Vocab)
			for _, from := range []int{0, 9, keyBlock + 20} { // a second and a third time from here
				d.Rewind(from)
				for at, i := d.length, 0; at < T; i++ {
					n := min(pieces[i%len(pieces)], T-at)
					if err := d.Next(got, x[at:at+n]); err != nil {
						t.Fatal(err)
					}
					at += n
					want := wide(all[(at-1)*c.Vocab : at*c.Vocab])
					size := 0.0
					for _, v := range want {
						size = math.Max(size, math.Abs(v))
					}
					if d := off(got, want, size); !(d <= most) {
						t.Fatalf("heads of %d: after %d tokens, the last %d at once, off by %.2g", hd, at, n, d)
					}
				}
			}
		})
	}
}
