package enginetest

import (
	"math/rand/v2"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"sn3/model"
)

// configs are small shapes of every kind an engine must run: one, grouped and all key/value heads, a head dimension that is not
// width/heads, odd sizes, tied or not, both rotary scalings. Below a width of 8 RMSNorm takes away most of the gradient and what
// remains is rounding.
var configs = rapid.Custom(func(t *rapid.T) model.Config {
	n := func(name string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(t, name) }
	kv := n("kv", 1, 3)
	return model.Config{Vocab: n("V", 2, 40), Width: n("C", 8, 40), Layers: n("L", 1, 2), Heads: kv * n("group", 1, 3), KVHeads: kv,
		HeadDim: 2 * n("half", 1, 8), FFN: n("F", 1, 40), Seq: n("T", 2, 20), Tied: rapid.Bool().Draw(t, "tied"),
		RopeTheta: rapid.SampledFrom([]float64{1e2, 1e4, 5e5}).Draw(t, "theta"), NormEps: rapid.SampledFrom([]float64{1e-6, 1e-5, 1e-3, 0.1}).Draw(t, "eps"),
		Rope: rapid.SampledFrom(ropes).Draw(t, "rope")}
})

// ropes are no scaling, linear, and llama3 so that all three bands of frequencies occur.
var ropes = []*model.RopeScaling{
	nil,
	{Type: "linear", Factor: 3},
	{Type: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4, Original: 16},
}

// batches fit c: 1 to 3 sequences up to its length, some targets ignored, sometimes all of a row's or of the batch's.
func batches(c model.Config) *rapid.Generator[model.Batch] {
	return rapid.Custom(func(t *rapid.T) model.Batch {
		b := tokens(rapid.Uint64().Draw(t, "tokens"), rapid.IntRange(1, 3).Draw(t, "B"), rapid.IntRange(1, c.Seq).Draw(t, "span"), c.Vocab)
		switch r := rapid.IntRange(0, b.B-1).Draw(t, "row"); rapid.SampledFrom([]string{"all", "some", "row", "none"}).Draw(t, "counted") {
		case "some":
			for i := range b.Y {
				if b.X[i]%3 == 0 {
					b.Y[i] = ignored
				}
			}
		case "row":
			ignore(b.Y[r*b.T : (r+1)*b.T])
		case "none":
			ignore(b.Y)
		}
		return b
	})
}

func ignore(y []int32) {
	for i := range y {
		y[i] = ignored
	}
}

// tokens is a batch of random tokens and targets.
func tokens(seed uint64, B, T, V int) model.Batch {
	r := rand.New(rand.NewPCG(seed, 2))
	b := model.Batch{B: B, T: T, X: make([]int32, B*T), Y: make([]int32, B*T)}
	for i := range b.X {
		b.X[i], b.Y[i] = int32(r.IntN(V)), int32(r.IntN(V))
	}
	return b
}

func clone(b model.Batch) model.Batch {
	return model.Batch{B: b.B, T: b.T, X: slices.Clone(b.X), Y: slices.Clone(b.Y)}
}

// random are weights like those of a trained model, of which nothing is special: norms around 1, rows of the embedding of one
// size, attention that is not flat. The layout is that of c.
func random(c model.Config, seed uint64) (*model.Flat, error) {
	l, err := model.NewLayout(c)
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(seed, 5))
	rows := make([]float32, l.Params())
	for _, t := range l.Tensors() {
		std, mean := 0.15, 0.0
		switch {
		case len(t.Shape) == 1:
			mean = 1
		case t.Name == embName:
			std = 0.25
		}
		for i := range t.Len() {
			rows[t.Off+i] = float32(mean + std*r.NormFloat64())
		}
	}
	w := model.NewFlat(l)
	w.SetRows(rows)
	return w, nil
}

// sharp makes queries and keys, and so the largest weights of attention, large.
func sharp(w *model.Flat) *model.Flat {
	rows := make([]float32, w.Layout().Params())
	w.Rows(rows)
	for _, t := range w.Layout().Tensors() {
		if strings.HasSuffix(t.Name, "q_proj.weight") || strings.HasSuffix(t.Name, "k_proj.weight") {
			for i := range t.Len() {
				rows[t.Off+i] *= 3
			}
		}
	}
	w.SetRows(rows)
	return w
}

// sparse is a Delta: for every chunk some indices, ascending, and their values.
type sparse struct {
	idx [][]uint16
	val [][]float32
}

// Chunk implements model.Delta.
func (s sparse) Chunk(i int, idx []uint16, val []float32) int {
	copy(idx, s.idx[i])
	return copy(val, s.val[i])
}

// randomDelta keeps about one value in nine, and none of some chunks.
func randomDelta(l *model.Layout, seed uint64) (s sparse) {
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range l.Chunks() {
		var idx []uint16
		var val []float32
		for x := range l.Chunk(i).Len {
			if i%5 != 3 && r.IntN(9) == 0 {
				idx, val = append(idx, uint16(x)), append(val, float32(0.1*r.NormFloat64()))
			}
		}
		s.idx, s.val = append(s.idx, idx), append(s.val, val)
	}
	return s
}

// take returns w − scale·d, in float32 as a judge has it.
func (s sparse) take(w *model.Flat, scale float32) *model.Flat {
	out := model.NewFlat(w.Layout())
	copy(out.Data, w.Data)
	for i := range w.Layout().Chunks() {
		for k, x := range s.idx[i] {
			out.Data[w.Layout().Chunk(i).Start+int(x)] -= float32(scale * s.val[i][k])
		}
	}
	return out
}

// decays is the default of model.Optimizer.Decays: matrices other than the embedding.
func decays(t model.Tensor) bool {
	return !strings.HasSuffix(t.Name, "norm.weight") && t.Name != embName
}
