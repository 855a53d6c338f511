package model_test

import (
	"encoding/hex"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sn3/model"
)

// preset is the shape of MODEL=local (notes/local-preset.md).
func preset() model.Config {
	return model.Config{Vocab: 256, Width: 128, Layers: 4, Heads: 4, KVHeads: 4, HeadDim: 32, FFN: 384, Seq: 128, Tied: true, RopeTheta: 10000, NormEps: 1e-5}
}

func layout(t testing.TB, c model.Config) *model.Layout {
	t.Helper()
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// shapes draws odd sizes around the block side, so that edge blocks of every kind occur.
func shapes(t *rapid.T) model.Config {
	n := func(name string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(t, name) }
	kv := n("kv", 1, 3)
	return model.Config{Vocab: n("V", 2, 140), Width: n("C", 1, 200), Layers: n("L", 1, 2), Heads: kv * n("group", 1, 3), KVHeads: kv, HeadDim: 2 * n("half", 1, 20),
		FFN: n("F", 1, 150), Seq: n("T", 1, 64), Tied: rapid.Bool().Draw(t, "tied"), RopeTheta: 1e4, NormEps: 1e-5}
}

// Chunks cover every parameter exactly once, in order, and Gather and Scatter are inverse to each other.
func TestLayoutIsABijection(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l, err := model.NewLayout(shapes(rt))
		if err != nil {
			rt.Fatal(err)
		}
		flat, back := make([]float32, l.Params()), make([]float32, l.Params())
		for i := range flat {
			flat[i] = float32(i)
		}
		seen, next := make([]bool, l.Params()), 0
		for i := range l.Chunks() {
			c := l.Chunk(i)
			if c.Start != next || c.Len < 1 || c.Len > model.ChunkSize || c.Rows > model.BlockSide && c.Cols > model.BlockSide {
				rt.Fatalf("chunk %d: %+v, expected to start at %d", i, c, next)
			}
			next += c.Len
			v := make([]float32, c.Len)
			l.Gather(v, flat, i)
			for _, x := range v {
				if seen[int(x)] {
					rt.Fatalf("chunk %d holds parameter %v again", i, x)
				}
				seen[int(x)] = true
			}
			l.Scatter(back, v, i)
		}
		if next != l.Params() || slices.Contains(seen, false) || !slices.Equal(flat, back) {
			rt.Fatalf("%d of %d parameters are covered", next, l.Params())
		}
		f := model.NewFlat(l)
		f.SetRows(flat)
		clear(back)
		if f.Rows(back); !slices.Equal(flat, back) {
			rt.Fatal("SetRows and Rows are not inverse")
		}
	})
}

// No chunk crosses a tensor, and tensors follow each other without a hole.
func TestChunksStayInTheirTensor(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l, err := model.NewLayout(shapes(rt))
		if err != nil {
			rt.Fatal(err)
		}
		chunk, off := 0, 0
		for _, x := range l.Tensors() {
			if x.Off != off {
				rt.Fatalf("%s starts at %d, want %d", x.Name, x.Off, off)
			}
			off += x.Len()
			for n := 0; n < x.Len(); chunk++ {
				c := l.Chunk(chunk)
				if last := c.Off + (c.Rows-1)*c.Stride + c.Cols; c.Off < x.Off || last > off {
					rt.Fatalf("chunk %d, %+v, leaves %s", chunk, c, x.Name)
				}
				n += c.Len
			}
		}
		if chunk != l.Chunks() || off != l.Params() {
			rt.Fatalf("%d of %d chunks, %d of %d parameters", chunk, l.Chunks(), off, l.Params())
		}
	})
}

// Read of any range gives the same values as the whole vector has there; a wrong size or range is an error.
func TestFlatRead(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l, err := model.NewLayout(shapes(rt))
		if err != nil {
			rt.Fatal(err)
		}
		f := model.NewFlat(l)
		for i := range f.Data {
			f.Data[i] = float32(i)
		}
		from := rapid.IntRange(0, l.Chunks()).Draw(rt, "from")
		r := model.ChunkRange{From: from, To: rapid.IntRange(from, l.Chunks()).Draw(rt, "to")}
		a, b := l.Span(r)
		dst := make([]float32, b-a)
		if err := f.Read(dst, r); err != nil || !slices.Equal(dst, f.Data[a:b]) {
			rt.Fatalf("%+v: %v", r, err)
		}
		if f.Read(make([]float32, b-a+1), r) == nil {
			rt.Fatal("a destination of the wrong size was accepted")
		}
		for _, bad := range []model.ChunkRange{{From: -1, To: 1}, {From: 0, To: l.Chunks() + 1}, {From: 2, To: 1}} {
			if f.Read(nil, bad) == nil {
				rt.Fatalf("%+v was accepted", bad)
			}
		}
	})
}

// The layout of MODEL=local by hand: sizes from notes/local-preset.md, hash as first committed. Another hash is another
// protocol: payloads and manifests of earlier runs would no longer be read.
func TestLayoutGolden(t *testing.T) {
	l := layout(t, preset())
	h := l.Hash()
	if h != model.LayoutHash(l.Config()) {
		t.Error("LayoutHash is another hash")
	}
	if l.Params() != 885888 || hex.EncodeToString(h[:]) != "4e32f27ff06610a1371949679889fe2b8b1d2930ee93532d70d225014f1103f3" {
		t.Errorf("%d parameters, hash %x", l.Params(), h)
	}
	seen := map[[32]byte]string{h: "preset"}
	for name, change := range map[string]func(*model.Config){
		"untied": func(c *model.Config) { c.Tied = false }, "layers": func(c *model.Config) { c.Layers++ }, "kv": func(c *model.Config) { c.KVHeads = 2 },
		"ffn": func(c *model.Config) { c.FFN++ }, "vocab": func(c *model.Config) { c.Vocab++ },
	} {
		c := preset()
		change(&c)
		if twin, ok := seen[layout(t, c).Hash()]; ok {
			t.Errorf("%s has the hash of %s", name, twin)
		}
		seen[layout(t, c).Hash()] = name
	}
}

func TestCopyFromRefusesAnotherLayout(t *testing.T) {
	c := preset()
	c.FFN++
	if err := model.NewFlat(layout(t, preset())).CopyFrom(model.NewFlat(layout(t, c))); err == nil {
		t.Error("accepted")
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*model.Config){
		"no vocabulary": func(c *model.Config) { c.Vocab = 1 }, "no width": func(c *model.Config) { c.Width = 0 }, "no layers": func(c *model.Config) { c.Layers = 0 },
		"negative ffn": func(c *model.Config) { c.FFN = -1 }, "no sequence": func(c *model.Config) { c.Seq = 0 }, "huge": func(c *model.Config) { c.Vocab = 1<<20 + 1 },
		"heads": func(c *model.Config) { c.KVHeads = 3 }, "no heads": func(c *model.Config) { c.Heads, c.KVHeads = 0, 0 }, "odd head": func(c *model.Config) { c.HeadDim = 33 },
		"theta": func(c *model.Config) { c.RopeTheta = math.NaN() }, "eps": func(c *model.Config) { c.NormEps = 0 }, "infinite eps": func(c *model.Config) { c.NormEps = math.Inf(1) },
		"rope type": func(c *model.Config) { c.Rope = &model.RopeScaling{Type: "yarn", Factor: 2} }, "rope factor": func(c *model.Config) { c.Rope = &model.RopeScaling{Type: "linear"} },
		"rope bands": func(c *model.Config) {
			c.Rope = &model.RopeScaling{Type: "llama3", Factor: 8, LowFreq: 4, HighFreq: 4, Original: 64}
		},
		"rope context": func(c *model.Config) {
			c.Rope = &model.RopeScaling{Type: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4}
		},
	} {
		c := preset()
		change(&c)
		if _, err := model.NewLayout(c); err == nil || !strings.HasPrefix(err.Error(), "model: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Sizes whose product wraps around in 32 bits are refused there too: every later index trusts B·T.
func TestBatchSizes(t *testing.T) {
	x := make([]int32, 1<<17)
	for _, c := range []struct {
		b, t int
		ok   bool
	}{{1 << 17, 1, true}, {1 << 10, 1 << 7, true}, {1 << 17, 1<<15 + 1, false}, {1 << 16, 1, false}, {0, 1 << 17, false}} {
		if _, err := (model.Batch{B: c.b, T: c.t, X: x, Y: x}).Check(preset()); (err == nil) != c.ok {
			t.Errorf("%d×%d: %v", c.b, c.t, err)
		}
	}
}
