package cpu

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"sn3/internal/golden"
	"sn3/model"
	"sn3/model/hf"
)

// goldenTrain is golden/llama/train: 200 steps with the reference's losses (its README has the tolerances).
type goldenTrain struct {
	Batch  int `json:"batch"`
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

// tokens makes the stream by its rule: splitmix64, a linear congruence three times in four.
func (g *goldenTrain) tokens() []int32 {
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

func (g *goldenTrain) batch(stream []int32, step int) model.Batch {
	b := model.Batch{B: g.Batch, T: g.Seq}
	for row := range g.Batch {
		at := (step*g.Batch + row) * g.Seq
		b.X, b.Y = append(b.X, stream[at:at+g.Seq]...), append(b.Y, stream[at+1:at+g.Seq+1]...)
	}
	return b
}

func TestGoldenTrain(t *testing.T) {
	dir := golden.Case(t, "llama", "train", "expected.safetensors")
	raw, err := os.ReadFile(filepath.Join(dir, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g goldenTrain
	if err := json.Unmarshal(raw, &g); err != nil || len(g.Losses) != g.Steps || len(g.Schedule.Values) != g.Steps || len(g.Norms) != g.Steps || len(g.Eval.Float64) != 4 {
		t.Fatalf("case.json: %d steps, %v", g.Steps, err)
	}
	stream := g.tokens()
	for i, x := range g.Stream.First {
		if stream[i] != x {
			t.Fatalf("token %d of the stream is %d, want %d", i, stream[i], x)
		}
	}
	kernelSets(t, func(t *testing.T, kernels string) { g.run(t, dir, kernels, stream) })
}

func (g *goldenTrain) run(t *testing.T, dir, kernels string, stream []int32) {
	c, w, err := hf.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	o := model.Optimizer{Total: g.Steps, Beta1: g.AdamW.Betas[0], Beta2: g.AdamW.Betas[1], Eps: g.AdamW.Eps, WeightDecay: g.AdamW.Decay, Clip: g.AdamW.Clip,
		Decays: func(model.Tensor) bool { return true }}
	x, err := New(kernels).NewTrainer(c, o, model.Options{Threads: 2})
	if err == nil {
		err = x.Reset(context.Background(), w)
	}
	if err != nil {
		t.Fatal(err)
	}
	tr, worst := x.(*Trainer), 0.0
	for i, want := range g.Losses {
		tr.opt.LR = g.Schedule.Values[i]
		rep := train(t, tr, uint64(i), g.batch(stream, i))
		worst = math.Max(worst, math.Abs(rep.Loss-want))
		if next := i + 1; next%20 == 0 && next < g.Steps {
			if _, _, err := tr.LossGrad(g.batch(stream, next)); err != nil || math.Abs(tr.GradNorm()/g.Norms[next]-1) > 1e-5 {
				t.Errorf("step %d: gradient norm %v, want %v (%v)", next, tr.GradNorm(), g.Norms[next], err)
			}
		}
	}
	for i, want := range g.Eval.Float64 {
		loss, _, err := tr.LossGrad(g.batch(stream, g.Steps+i))
		if err != nil {
			t.Fatal(err)
		}
		worst = math.Max(worst, math.Abs(loss-want))
	}
	if t.Logf("200 steps: losses within %.1e", worst); worst > 2e-5 {
		t.Errorf("a loss is off by %.2g", worst)
	}
	_, want := readCase(t, dir)
	for _, x := range tr.net.layout.Tensors() { // float32 torch is within 3.7e-6
		if d := l2(tr.net.w.flat[x.Off:x.Off+x.Len()], expected(t, want, "final."+x.Name, x.Len())); d > 1e-4 {
			t.Errorf("%s after %d steps differs by %.2g", x.Name, g.Steps, d)
		}
	}
}
