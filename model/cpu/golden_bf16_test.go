package cpu

import (
	"context"
	"math"
	"testing"

	"sn3/internal/golden"
	"sn3/internal/golden/llama"
	"sn3/model"
	"sn3/model/hf"
)

// Mixed precision against the float64 figures, within what golden/llama/README.md advises for a bfloat16 engine; with the kernels
// that multiply bfloat16, and with those that multiply rounded float32.
func TestGoldenLlamaBF16(t *testing.T) {
	for _, name := range []string{"mha", "gqa-tied", "mqa-headdim", "ignore-index", "hf-init", "llama3-rope", "legacy-llama1", "legacy-llama3", "long", "sharded", "bf16-weights"} {
		t.Run(name, func(t *testing.T) {
			dir := golden.Case(t, "llama", name, "expected.safetensors")
			kernelSets(t, func(t *testing.T, kernels string) { checkGoldenBF16(t, dir, kernels) })
		})
	}
}

func checkGoldenBF16(t *testing.T, dir, kernels string) {
	g, want := llama.Read(t, dir)
	c, w, err := hf.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, b, opt := context.Background(), g.Batch(), model.Options{Precision: model.BF16}
	j, err := New(kernels).NewJudge(c, opt)
	if err == nil {
		err = j.Reset(ctx, w)
	}
	if err != nil {
		t.Fatal(err)
	}
	logits, wantLogits := make([]float32, b.B*b.T*c.Vocab), make([]float32, b.B*b.T*c.Vocab)
	if err := j.(model.Forwarder).Logits(logits, b.X, b.B, b.T); err != nil {
		t.Fatal(err)
	}
	if err := want.Read("logits", 0, wantLogits); err != nil {
		t.Fatal(err)
	}
	if d := llama.L2(logits, wantLogits); d > 0.06 || d < 1e-5 {
		t.Errorf("logits differ by %.2g", d)
	}
	x, err := New(kernels).NewTrainer(c, model.Optimizer{LR: 1e-3, Total: 1}, opt)
	if err == nil {
		err = x.Reset(ctx, w)
	}
	if err != nil {
		t.Fatal(err)
	}
	tr := x.(*Trainer)
	loss, grad, err := tr.LossGrad(b)
	if err != nil || math.Abs(loss-g.Loss.Float64) > 0.15 {
		t.Errorf("loss %.5f, want %.5f (%v)", loss, g.Loss.Float64, err)
	}
	for _, x := range tr.net.layout.Tensors() {
		e := make([]float32, x.Len())
		if err := want.Read("grad."+x.Name, 0, e); err != nil {
			t.Fatal(err)
		}
		if d := llama.L2(grad[x.Off:x.Off+x.Len()], e); d > 0.15 {
			t.Errorf("gradient of %s differs by %.2g", x.Name, d)
		}
	}
}

// 200 steps: every loss within 2e-2 of float64's, and no drift.
func TestGoldenTrainBF16(t *testing.T) {
	dir := golden.Case(t, "llama", "train", "case.json")
	g := llama.ReadTrain(t, dir)
	stream := g.Tokens()
	kernelSets(t, func(t *testing.T, kernels string) {
		c, w, err := hf.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		x, err := New(kernels).NewTrainer(c, g.Optimizer(), model.Options{Threads: 2, Precision: model.BF16})
		if err == nil {
			err = x.Reset(context.Background(), w)
		}
		if err != nil {
			t.Fatal(err)
		}
		tr, worst, mean := x.(*Trainer), 0.0, 0.0
		for i, want := range g.Losses {
			tr.opt.LR = g.Schedule.Values[i]
			off := train(t, tr, uint64(i), g.Batch(stream, i)).Loss - want
			worst, mean = max(worst, math.Abs(off)), mean+off/float64(g.Steps)
		}
		t.Logf("200 steps: losses within %.1e, mean difference %.1e", worst, mean)
		if worst > 2e-2 || math.Abs(mean) > 2e-3 {
			t.Errorf("a loss is off by %.2g, the mean by %.2g", worst, mean)
		}
	})
}
