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

func TestGoldenLlama(t *testing.T) {
	for _, name := range []string{"mha", "gqa-tied", "mqa-headdim", "ignore-index", "hf-init", "llama3-rope", "legacy-llama1", "legacy-llama3", "long", "sharded", "bf16-weights"} {
		for _, kernels := range []string{"", "portable"} {
			t.Run(name+"/"+kernels, func(t *testing.T) { checkGolden(t, golden.Case(t, "llama", name, "expected.safetensors"), kernels) })
		}
	}
}

func checkGolden(t *testing.T, dir, kernels string) {
	g, want := llama.Read(t, dir)
	c, w, err := hf.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, b := context.Background(), g.Batch()
	j, err := New(kernels).NewJudge(c, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Reset(ctx, w); err != nil {
		t.Fatal(err)
	}
	n := b.B * b.T * c.Vocab
	logits, wantLogits := make([]float32, n), make([]float32, n)
	if err := j.(model.Forwarder).Logits(logits, b.X, b.B, b.T); err != nil {
		t.Fatal(err)
	}
	if err := want.Read("logits", 0, wantLogits); err != nil {
		t.Fatal(err)
	}
	off := max(llama.L2(logits, wantLogits), largest(logits, wantLogits))
	if off > 1e-5 {
		t.Errorf("logits differ by %.2g", off)
	}
	checkInside(t, c, w, want, b, kernels)
	tr := goldenTrainer(t, c, g, kernels)
	if err := tr.Reset(ctx, w); err != nil {
		t.Fatal(err)
	}
	loss, grad, err := tr.LossGrad(b)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(loss-g.Loss.Float64) > 5e-6 {
		t.Errorf("loss %.8f, want %.8f", loss, g.Loss.Float64)
	}
	worst := 0.0
	for _, x := range tr.net.layout.Tensors() {
		e := make([]float32, x.Len())
		if err := want.Read("grad."+x.Name, 0, e); err != nil {
			t.Fatal(err)
		}
		got := grad[x.Off : x.Off+x.Len()]
		if d, most := llama.L2(got, e), largest(got, e); d > 2e-5 || most > 5e-5 {
			t.Errorf("gradient of %s differs by %.2g, an element by %.2g", x.Name, d, most)
		} else {
			worst = max(worst, d)
		}
	}
	if d := math.Abs(tr.GradNorm()/g.GradNorm - 1); d > 1e-5 {
		t.Errorf("gradient norm differs by %.2g", d)
	}
	t.Logf("logits within %.1e, loss %.1e, gradients %.1e, parameters after %d steps %.1e", off, math.Abs(loss-g.Loss.Float64), worst,
		g.AdamW.Steps, checkSteps(t, tr, g, want, b))
}

func goldenTrainer(t *testing.T, c model.Config, g llama.Case, kernels string) *Trainer {
	o := model.Optimizer{LR: g.AdamW.LR, Total: 1000, Beta1: g.AdamW.Beta1, Beta2: g.AdamW.Beta2, Eps: g.AdamW.Eps, WeightDecay: g.AdamW.WeightDecay,
		Decays: func(x model.Tensor) bool { return !g.AdamW.NoDecay1D || len(x.Shape) > 1 }}
	if len(g.AdamW.Betas) == 2 {
		o.Beta1, o.Beta2 = g.AdamW.Betas[0], g.AdamW.Betas[1]
	}
	if g.AdamW.Clip != nil {
		o.Clip = *g.AdamW.Clip
	}
	tr, err := New(kernels).NewTrainer(c, o, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return tr.(*Trainer)
}

// checkSteps makes the case's steps and returns by how much all parameters then differ.
func checkSteps(t *testing.T, tr *Trainer, g llama.Case, want *hf.File, b model.Batch) float64 {
	if len(g.AdamW.Losses) != g.AdamW.Steps || len(g.AdamW.Norms) != g.AdamW.Steps {
		t.Fatalf("%d losses and %d norms of %d steps", len(g.AdamW.Losses), len(g.AdamW.Norms), g.AdamW.Steps)
	}
	for i, l := range g.AdamW.Losses {
		if _, _, err := tr.LossGrad(b); err != nil || math.Abs(tr.GradNorm()/g.AdamW.Norms[i]-1) > 1e-5 {
			t.Errorf("step %d: gradient norm %v, want %v (%v)", i, tr.GradNorm(), g.AdamW.Norms[i], err)
		}
		rep, err := tr.Train(context.Background(), endless{b}, model.Budget{First: uint64(i), Steps: 1})
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(rep.Loss-l) > 1e-5 {
			t.Errorf("step %d: loss %.7f, want %.7f", i, rep.Loss, l)
		}
	}
	var got, exp []float32
	for _, x := range tr.net.layout.Tensors() {
		e := make([]float32, x.Len())
		if err := want.Read("adamw."+x.Name, 0, e); err != nil {
			t.Fatal(err)
		}
		got, exp = append(got, tr.net.w.flat[x.Off:x.Off+x.Len()]...), append(exp, e...)
	}
	if d := llama.L2(got, exp); d > 1e-4 {
		t.Errorf("parameters after %d steps differ by %.2g", len(g.AdamW.Losses), d)
	}
	for i := range got {
		if d := math.Abs(float64(got[i] - exp[i])); d > 2*g.AdamW.LR*float64(g.AdamW.Steps) {
			t.Fatalf("parameter %d after %d steps differs by %.2g", i, g.AdamW.Steps, d)
		}
	}
	return llama.L2(got, exp)
}
