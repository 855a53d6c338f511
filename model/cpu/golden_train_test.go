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

func TestGoldenTrain(t *testing.T) {
	dir := golden.Case(t, "llama", "train", "expected.safetensors")
	g := llama.ReadTrain(t, dir)
	stream := g.Tokens()
	for i, x := range g.Stream.First {
		if stream[i] != x {
			t.Fatalf("token %d of the stream is %d, want %d", i, stream[i], x)
		}
	}
	kernelSets(t, func(t *testing.T, kernels string) { runTrain(t, g, dir, kernels, stream) })
}

func runTrain(t *testing.T, g llama.Train, dir, kernels string, stream []int32) {
	c, w, err := hf.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	x, err := New(kernels).NewTrainer(c, g.Optimizer(), model.Options{Threads: 2})
	if err == nil {
		err = x.Reset(context.Background(), w)
	}
	if err != nil {
		t.Fatal(err)
	}
	tr, worst := x.(*Trainer), 0.0
	for i, want := range g.Losses {
		tr.opt.LR = g.Schedule.Values[i]
		rep := train(t, tr, uint64(i), g.Batch(stream, i))
		worst = math.Max(worst, math.Abs(rep.Loss-want))
		if next := i + 1; next%20 == 0 && next < g.Steps {
			if _, _, err := tr.LossGrad(g.Batch(stream, next)); err != nil || math.Abs(tr.GradNorm()/g.Norms[next]-1) > 1e-5 {
				t.Errorf("step %d: gradient norm %v, want %v (%v)", next, tr.GradNorm(), g.Norms[next], err)
			}
		}
	}
	for i, want := range g.Eval.Float64 {
		loss, _, err := tr.LossGrad(g.Batch(stream, g.Steps+i))
		if err != nil {
			t.Fatal(err)
		}
		worst = math.Max(worst, math.Abs(loss-want))
	}
	if t.Logf("200 steps: losses within %.1e", worst); worst > 2e-5 {
		t.Errorf("a loss is off by %.2g", worst)
	}
	_, want := llama.Read(t, dir)
	for _, x := range tr.net.layout.Tensors() { // float32 torch is within 3.7e-6
		if d := llama.L2(tr.net.w.flat[x.Off:x.Off+x.Len()], expected(t, want, "final."+x.Name, x.Len())); d > 1e-4 {
			t.Errorf("%s after %d steps differs by %.2g", x.Name, g.Steps, d)
		}
	}
}
