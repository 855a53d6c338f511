package cpu

import (
	"math"
	"testing"

	"sn3/model"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
	"sn3/model/gpu/standin"
	"sn3/model/kern"
)

// card runs kernels of the GPU on the stand-in; the first error stays.
type card struct {
	c    *cuda.Context
	m    *cuda.Module
	ptrs []cuda.Ptr
	err  error
}

func (g *card) note(err error) {
	if g.err == nil {
		g.err = err
	}
}

func (g *card) room(bytes int) cuda.Ptr {
	p, err := g.c.Alloc(int64(bytes))
	g.note(err)
	g.ptrs = append(g.ptrs, p)
	return p
}

// put is x, which bfloat16 holds, on the card.
func (g *card) put(x []float32) cuda.Ptr {
	h := make([]kern.BF16, len(x))
	for i, v := range x {
		h[i] = kern.RoundBF16(v)
	}
	p := g.room(2 * len(h))
	g.note(cuda.Put(g.c, p, h))
	return p
}

func (g *card) run(name string, x, y int, args ...any) {
	k, _ := kernels.Named(name)
	f, err := g.m.Func(k)
	g.note(err)
	if g.err == nil {
		g.note(g.c.Launch(f, [3]int{x, y, 1}, args...))
	}
}

func (g *card) end() error {
	for _, p := range g.ptrs {
		g.note(g.c.Free(p))
	}
	g.note(g.m.Unload())
	return g.err
}

// onCard is what the GPU's kernels make of a case; the gradient is rotated back in float64.
func (x *attentionCase) onCard(t *testing.T) (y, lse, dqkv []float32) {
	t.Helper()
	H, kv, hd, T := x.c.Heads, x.c.KVHeads, x.c.HeadDim, x.T
	S, Q, blocks, turned := (H+2*kv)*hd, H*hd, ceil(x.T, 64), (H+kv)*hd
	out, grad := make([]kern.BF16, T*Q), make([]kern.BF16, T*S)
	lse = make([]float32, H*T)
	err := standin.Open(t, "attention.cu").Do(func(c *cuda.Context) error {
		m, err := c.Load(standin.Image(c))
		if err != nil {
			return err
		}
		g := &card{c: c, m: m}
		qkv, dy, yAt, dqkvAt := g.put(x.qkv), g.put(x.dh), g.room(2*T*Q), g.room(2*T*S)
		lseAt, delta := g.room(4*H*T), g.room(4*H*T)
		g.run("attention_128", blocks, H, yAt, lseAt, qkv, T, H, kv, hd, S)
		g.run("attention_delta", ceil(T*H, 4), 1, delta, yAt, dy, T, T, H, hd)
		g.run("attention_keys_128", blocks, kv, dqkvAt, qkv, dy, lseAt, delta, T, H, kv, hd, S)
		g.run("attention_queries_128", blocks, H, dqkvAt, qkv, dy, lseAt, delta, T, H, kv, hd, S)
		g.note(cuda.Get(c, out, yAt))
		g.note(cuda.Get(c, lse, lseAt))
		g.note(cuda.Get(c, grad, dqkvAt))
		return g.end()
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range out {
		y = append(y, v.Float32())
	}
	for s := range T {
		row := make(vec, S)
		for i := range row {
			row[i] = float64(grad[s*S+i].Float32())
		}
		for _, v := range append(rope64(row[:turned], hd, -s, InvFreq(x.c)), row[turned:]...) {
			dqkv = append(dqkv, float32(v))
		}
	}
	return y, lse, dqkv
}

// The GPU's attention is this one, to the rounding of products' factors and results to bfloat16: of the largest value 4e-3, of the
// largest gradient, which is rounded once more before its rotation, 5e-3. Log-sums are the same to float32; a real card's mma cuts off
// what it adds up: 1.5·128+16 times 2⁻²³ of scores whose terms add up to 28 at most.
func TestAttentionOfTheCardIsThis(t *testing.T) {
	most := 1e-5
	if standin.Real() {
		most = 7e-4
	}
	for _, s := range [][4]int{{1, 2, 1, 16}, {130, 4, 2, 128}, {90, 3, 1, 64}, {65, 2, 2, 34}} {
		x := newAttentionCase(s[0], s[1], s[2], s[3])
		y, lse, dqkv := x.onCard(t)
		precisions(t, func(t *testing.T, kernels string, p model.Precision) {
			if p != model.BF16 {
				return
			}
			cy, clse, cdqkv := x.run(t, kernels, p, 2)
			a, b := off(y, wide(cy), x.ySize), off(dqkv, wide(cdqkv), x.size)
			t.Logf("%v: %.2g, gradient %.2g", s, a, b)
			if !(a <= 4e-3) || !(b <= 5e-3) {
				t.Errorf("%v: off by %.2g of the largest value, the gradient by %.2g", s, a, b)
			}
			for i, l := range lse {
				if d := math.Abs(float64(l - clse[i])); !(d <= most) {
					t.Fatalf("%v: log-sum %d is %v, the CPU's %v", s, i, l, clse[i])
				}
			}
		})
	}
}
