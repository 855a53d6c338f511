package enginetest

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/internal/golden"
	"sn3/model"
	"sn3/model/hf"
)

// The reference's backward is the derivative of its forward: central differences along random directions, per tensor.
func TestReferenceGradientIsTheDerivative(t *testing.T) {
	checks(t, 40)
	rapid.Check(t, func(t *rapid.T) {
		c := configs.Draw(t, "config")
		b := batches(c).Draw(t, "batch")
		w, err := random(c, rapid.Uint64().Draw(t, "weights"))
		if err != nil {
			t.Fatal(err)
		}
		rows := wideRows(w)
		r := newReference(c, rows)
		_, grad := r.lossGrad(b)
		grad = slices.Clone(grad)
		dir := rand.New(rand.NewPCG(1, uint64(len(rows))))
		at := func(x model.Tensor, h float64, u vec) float64 {
			moved := slices.Clone(rows)
			for i := range u {
				moved[x.Off+i] += h * u[i]
			}
			mean, counted := newReference(c, moved).losses(b)
			s, n := 0.0, 0
			for i := range mean {
				s, n = s+mean[i]*float64(counted[i]), n+counted[i]
			}
			return s / float64(max(1, n))
		}
		for _, x := range c.Tensors() {
			u := make(vec, x.Len())
			for i := range u {
				u[i] = dir.NormFloat64()
			}
			const h = 1e-5
			want, got := (at(x, h, u)-at(x, -h, u))/(2*h), dot(u, grad[x.Off:x.Off+x.Len()])
			if off := math.Abs(got - want); !(off <= 1e-6*(math.Abs(want)+norm(grad))+1e-10) {
				t.Fatalf("%s: %v along a direction, central differences give %v", x.Name, got, want)
			}
		}
	})
}

// Loss, logits and every gradient are those of transformers in float64, which owe nothing to anything of ours.
func TestReferenceGolden(t *testing.T) {
	for _, name := range []string{"mha", "gqa-tied", "mqa-headdim", "llama3-rope", "ignore-index"} {
		t.Run(name, func(t *testing.T) {
			dir := golden.Case(t, "llama", name, "case.json", "expected.safetensors")
			c, w, err := hf.OpenDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			b, loss := goldenBatch(t, dir)
			raw, err := os.ReadFile(filepath.Join(dir, "expected.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			f, err := hf.Open(bytes.NewReader(raw), int64(len(raw)))
			if err != nil {
				t.Fatal(err)
			}
			flat := model.NewFlat(w.Layout())
			if err := flat.CopyFrom(w); err != nil {
				t.Fatal(err)
			}
			r := newReference(c, wideRows(flat))
			got, grad := r.lossGrad(b)
			if math.Abs(got-loss) > 1e-7 {
				t.Errorf("loss %.9f, want %.9f", got, loss)
			}
			same := func(what string, got vec, n int) {
				want := make([]float32, n)
				if err := f.Read(what, 0, want); err != nil {
					t.Fatal(err)
				}
				if d := apart(got, wide(want)); d > 2e-6 { // torch takes powers in float32: another last bit of some frequencies
					t.Errorf("%s differs by %.2g", what, d)
				}
			}
			for _, x := range c.Tensors() {
				same("grad."+x.Name, grad[x.Off:x.Off+x.Len()], x.Len())
			}
			var logits vec
			for s := range b.B {
				logits = append(logits, slices.Concat(r.logits(b.X[s*b.T:(s+1)*b.T])...)...)
			}
			same("logits", logits, b.B*b.T*c.Vocab)
		})
	}
}

func goldenBatch(t *testing.T, dir string) (b model.Batch, loss float64) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		X    [][]int32 `json:"input_ids"`
		Y    [][]int32 `json:"labels"`
		Loss struct {
			Shift   bool    `json:"shift"`
			Float64 float64 `json:"float64"`
		} `json:"loss"`
	}
	if err := json.Unmarshal(raw, &g); err != nil || len(g.X) == 0 {
		t.Fatalf("case.json: %v", err)
	}
	b = model.Batch{B: len(g.X), T: len(g.X[0]), X: slices.Concat(g.X...)}
	for _, y := range g.Y {
		if g.Loss.Shift {
			y = append(slices.Clone(y[1:]), ignored)
		}
		b.Y = append(b.Y, y...)
	}
	return b, g.Loss.Float64
}
