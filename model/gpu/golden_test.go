package gpu

import (
	"math"
	"os"
	"testing"

	"sn3/internal/golden"
	"sn3/internal/golden/llama"
	"sn3/model"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/standin"
	"sn3/model/hf"
)

// load opens a golden model on the card.
func load(t *testing.T, dir string, o model.Optimizer, p memory.Plan) (*Trainer, *Judge) {
	t.Helper()
	c, w, err := hf.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	e, opt := New(Settings{Library: standin.Library(t), Plan: p}), model.Options{Precision: model.BF16}
	x, err := e.NewTrainer(c, o, opt)
	if err != nil {
		t.Fatal(err)
	}
	y, err := e.NewJudge(c, opt)
	if err != nil {
		t.Fatal(err)
	}
	tr, j := x.(*Trainer), y.(*Judge)
	t.Cleanup(func() {
		for _, close := range []func() error{tr.Close, j.Close} {
			if err := close(); err != nil {
				t.Error(err)
			}
		}
	})
	if err := tr.Reset(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if err := j.Reset(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	return tr, j
}

// Logits, loss and every gradient against float64, within what golden/llama/README.md advises for a bfloat16 engine.
func TestGoldenLlama(t *testing.T) {
	for _, name := range []string{"mha", "gqa-tied", "mqa-headdim", "ignore-index", "hf-init", "llama3-rope", "legacy-llama1", "legacy-llama3", "long", "sharded", "bf16-weights"} {
		t.Run(name, func(t *testing.T) {
			dir := golden.Case(t, "llama", name, "expected.safetensors")
			g, want := llama.Read(t, dir)
			tr, j := load(t, dir, model.Optimizer{LR: 1e-3, Total: 1}, memory.Classic)
			b := g.Batch()
			read := func(name string, n int) []float32 {
				v := make([]float32, n)
				if err := want.Read(name, 0, v); err != nil {
					t.Fatal(err)
				}
				return v
			}
			logits := make([]float32, b.B*b.T*tr.net.cfg.Vocab)
			if err := j.Logits(logits, b.X, b.B, b.T); err != nil {
				t.Fatal(err)
			}
			off := llama.L2(logits, read("logits", len(logits)))
			if off > 0.06 || off < 1e-5 {
				t.Errorf("logits differ by %.2g", off)
			}
			loss, grad, err := tr.LossGrad(b)
			if err != nil || math.Abs(loss-g.Loss.Float64) > 0.15 {
				t.Errorf("loss %.5f, want %.5f (%v)", loss, g.Loss.Float64, err)
			}
			worst := 0.0
			for _, x := range tr.net.layout.Tensors() {
				d := llama.L2(grad[x.Off:x.Off+x.Len()], read("grad."+x.Name, x.Len()))
				if worst = max(worst, d); d > 0.15 {
					t.Errorf("gradient of %s differs by %.2g", x.Name, d)
				}
			}
			t.Logf("logits within %.1e, loss %.1e, gradients %.1e", off, math.Abs(loss-g.Loss.Float64), worst)
		})
	}
}

// With every plan 200 steps by make golden, else some of them: every loss within 2e-2 of float64's, and no drift.
func TestGoldenTrain(t *testing.T) {
	dir := golden.Case(t, "llama", "train", "case.json")
	g := llama.ReadTrain(t, dir)
	for _, p := range memory.Plans() {
		steps := g.Steps
		if os.Getenv("GOLDEN") == "" { // the stand-in makes four a second
			steps = map[memory.Plan]int{memory.Classic: 24, memory.Lean: 8, memory.Offload: 8}[p]
		}
		goldenTrain(t, dir, g, p, steps)
	}
}

func goldenTrain(t *testing.T, dir string, g llama.Train, p memory.Plan, steps int) {
	tr, _ := load(t, dir, g.Optimizer(), p)
	stream, worst, mean := g.Tokens(), 0.0, 0.0
	for i, want := range g.Losses[:steps] {
		tr.opt.LR = g.Schedule.Values[i]
		rep, err := tr.Train(t.Context(), endless{g.Batch(stream, i)}, model.Budget{First: uint64(i), Steps: 1})
		if err != nil {
			t.Fatal(err)
		}
		off := rep.Loss - want
		worst, mean = max(worst, math.Abs(off)), mean+off/float64(steps)
	}
	t.Logf("%s, %d steps: losses within %.1e, mean difference %.1e", p, steps, worst, mean)
	if worst > 2e-2 || math.Abs(mean) > 2e-3 {
		t.Errorf("%s: a loss is off by %.2g, the mean by %.2g", p, worst, mean)
	}
}
