package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
)

// Flat is a Weights over one vector in chunk order. The zero value is not usable; see NewFlat.
type Flat struct {
	layout *Layout
	Data   []float32 // chunk order; chunk i is Data[Chunk(i).Start:][:Len]
}

// NewFlat allocates zeroed weights.
func NewFlat(l *Layout) *Flat { return &Flat{l, make([]float32, l.Params())} }

// Layout implements Weights.
func (f *Flat) Layout() *Layout { return f.layout }

// Read implements Weights.
func (f *Flat) Read(dst []float32, c ChunkRange) error {
	if err := f.layout.CheckRange(c, len(dst)); err != nil {
		return err
	}
	from, to := f.layout.Span(c)
	copy(dst, f.Data[from:to])
	return nil
}

// Viewer is a Weights that can show its values where they are, in chunk order: who only reads them needs no copy.
type Viewer interface {
	// View returns the values of the chunks in c, to be read only, until the weights change. It is safe for concurrent use.
	View(c ChunkRange) ([]float32, error)
}

// View implements Viewer.
func (f *Flat) View(c ChunkRange) ([]float32, error) {
	from, to := 0, 0
	if c.From >= 0 && c.To <= f.layout.Chunks() {
		from, to = f.layout.Span(c)
	}
	if err := f.layout.CheckRange(c, to-from); err != nil {
		return nil, err
	}
	return f.Data[from:to], nil
}

// CopyFrom reads all of w, which must have the same layout.
func (f *Flat) CopyFrom(w Weights) error {
	if w.Layout().Hash() != f.layout.Hash() {
		return fmt.Errorf("copy weights: layouts differ")
	}
	return w.Read(f.Data, f.layout.All())
}

// Rows copies the weights into a row-major vector in tensor order, as engines and checkpoints hold them.
func (f *Flat) Rows(flat []float32) {
	for i := range f.layout.chunks {
		c := f.layout.chunks[i]
		f.layout.Scatter(flat, f.Data[c.Start:c.Start+c.Len], i)
	}
}

// SetRows reads a row-major vector in tensor order.
func (f *Flat) SetRows(flat []float32) {
	for i := range f.layout.chunks {
		c := f.layout.chunks[i]
		f.layout.Gather(f.Data[c.Start:c.Start+c.Len], flat, i)
	}
}

// Init fills f with the initial model of a run: matrices normal with std 0.7/√fan_in, the embedding 0.02, norms 1, the
// projections into the residual stream scaled by 1/√(2L) (notes/local-preset.md). The same seed gives the same bits on
// every machine: ChaCha8 stream, sum-of-uniforms normals in integer steps, no libm beyond Sqrt.
func (f *Flat) Init(seed uint64) {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	copy(key[8:], "sn3/init/1")
	src := rand.NewChaCha8(key)
	flat := make([]float32, f.layout.params)
	for _, t := range f.layout.tensors {
		v := flat[t.Off : t.Off+t.Len()]
		std := initStd(f.layout.cfg, t)
		for i := range v {
			if len(t.Shape) == 1 {
				v[i] = 1
				continue
			}
			v[i] = float32(normal(src) * std)
		}
	}
	f.SetRows(flat)
}

func initStd(c Config, t Tensor) float64 {
	switch {
	case len(t.Shape) == 1:
		return 0
	case t.Name == "model.embed_tokens.weight":
		return 0.02
	case strings.HasSuffix(t.Name, "o_proj.weight"), strings.HasSuffix(t.Name, "down_proj.weight"):
		return 0.7 / math.Sqrt(float64(t.Shape[1])) / math.Sqrt(float64(2*c.Layers))
	}
	return 0.7 / math.Sqrt(float64(t.Shape[1]))
}

// normal is an Irwin–Hall variate of 12 uniforms of 32 bits: mean 0, variance 1, exact in float64 on every platform.
func normal(src *rand.ChaCha8) float64 {
	var sum uint64
	for range 6 {
		x := src.Uint64()
		sum += x>>32 + x&math.MaxUint32
	}
	return float64(sum)/(1<<32) - 6
}
