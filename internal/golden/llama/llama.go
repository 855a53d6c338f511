// Package llama reads the golden Llama cases (golden/llama/README.md) for every engine's tests.
package llama

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"sn3/model"
	"sn3/model/hf"
)

// Case is a model, a batch, and what the reference computes of it in float64.
type Case struct {
	InputIDs [][]int32 `json:"input_ids"`
	Labels   [][]int32 `json:"labels"`
	Loss     struct {
		Shift   bool    `json:"shift"`
		Float64 float64 `json:"float64"`
	} `json:"loss"`
	GradNorm float64 `json:"grad_norm"`
	AdamW    struct {
		Steps       int       `json:"steps"`
		LR          float64   `json:"lr"`
		Beta1       float64   `json:"beta1"`
		Beta2       float64   `json:"beta2"`
		Betas       []float64 `json:"betas"`
		Eps         float64   `json:"eps"`
		WeightDecay float64   `json:"weight_decay"`
		NoDecay1D   bool      `json:"no_decay_1d"`
		Clip        *float64  `json:"clip"`
		Losses      []float64 `json:"losses_float64"`
		Norms       []float64 `json:"grad_norms_float64"`
	} `json:"adamw"`
}

// Batch is the case's batch, its labels as targets.
func (g Case) Batch() model.Batch {
	b := model.Batch{B: len(g.InputIDs), T: len(g.InputIDs[0])}
	for i, row := range g.InputIDs {
		b.X = append(b.X, row...)
		l := g.Labels[i]
		if g.Loss.Shift {
			l = append(append([]int32(nil), l[1:]...), model.Ignored)
		}
		b.Y = append(b.Y, l...)
	}
	return b
}

// Read reads a case's folder, and opens what is expected.
func Read(t testing.TB, dir string) (g Case, f *hf.File) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(dir, "expected.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	st, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if f, err = hf.Open(file, st.Size()); err != nil {
		t.Fatal(err)
	}
	return g, f
}

// L2 is |a−b|/|b|.
func L2(a, b []float32) float64 {
	var d, n float64
	for i := range b {
		d += (float64(a[i]) - float64(b[i])) * (float64(a[i]) - float64(b[i]))
		n += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(d / math.Max(n, 1e-30))
}

// Train is golden/llama/train: 200 steps with the reference's losses.
type Train struct {
	Rows   int `json:"batch"`
	Seq    int `json:"seq_len"`
	Steps  int `json:"steps"`
	Stream struct {
		Seed   uint64
		V      int32
		A, B   int32
		Tokens int
		First  []int32
	}
	AdamW struct {
		Betas []float64
		Eps   float64
		Decay float64 `json:"weight_decay"`
		Clip  float64
	}
	Schedule struct{ Values []float64 }
	Losses   []float64 `json:"losses_float64"`
	Norms    []float64 `json:"grad_norms_float64"`
	Eval     struct {
		Float64 []float64 `json:"float64"`
	}
}

// Tokens makes the stream by its rule: splitmix64, a linear congruence three times in four.
func (g *Train) Tokens() []int32 {
	x, out := g.Stream.Seed, []int32{1}
	for len(out) < g.Stream.Tokens {
		x += 0x9E3779B97F4A7C15
		z := (x ^ x>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		z ^= z >> 31
		next := (g.Stream.A*out[len(out)-1] + g.Stream.B) % g.Stream.V
		if z&3 == 0 {
			next = int32((z >> 8) % uint64(g.Stream.V))
		}
		out = append(out, next)
	}
	return out
}

// Batch is that of a step, of the stream.
func (g *Train) Batch(stream []int32, step int) model.Batch {
	b := model.Batch{B: g.Rows, T: g.Seq}
	for row := range g.Rows {
		at := (step*g.Rows + row) * g.Seq
		b.X, b.Y = append(b.X, stream[at:at+g.Seq]...), append(b.Y, stream[at+1:at+g.Seq+1]...)
	}
	return b
}

// ReadTrain reads its folder.
func ReadTrain(t testing.TB, dir string) (g Train) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &g); err != nil || len(g.Losses) != g.Steps || len(g.Schedule.Values) != g.Steps || len(g.Norms) != g.Steps || len(g.Eval.Float64) != 4 {
		t.Fatalf("case.json: %d steps, %v", g.Steps, err)
	}
	return g
}

// Optimizer is that of the 200 steps, but for the learning rate, Schedule's.
func (g *Train) Optimizer() model.Optimizer {
	return model.Optimizer{Total: g.Steps, Beta1: g.AdamW.Betas[0], Beta2: g.AdamW.Betas[1], Eps: g.AdamW.Eps, WeightDecay: g.AdamW.Decay, Clip: g.AdamW.Clip,
		Decays: func(model.Tensor) bool { return true }}
}
