package roofline_test

import (
	"context"
	"math"
	"testing"

	"sn3/model"
	"sn3/model/gpu"
	"sn3/model/gpu/kernels"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/roofline"
	"sn3/model/gpu/standin"
)

// Of every kernel it is known what it has to do; a new one needs a line in kernels.go.
func TestEveryKernelHasItsWork(t *testing.T) {
	args := [16]int64{}
	for i := range args {
		args[i] = 64
	}
	for _, k := range kernels.Table {
		w, ok := roofline.Launch{Kernel: k.Name, Grid: [3]int{2, 2, 2}, Args: args, Values: 100}.Work()
		if !ok || !(w.Bytes > 0) || w.FLOP < 0 {
			t.Errorf("%s: %+v", k.Name, w)
		}
	}
	if _, ok := (roofline.Launch{Kernel: "nobody"}).Work(); ok {
		t.Error("a kernel that nobody knows has work")
	}
}

// Sizes of single launches, by hand.
func TestWork(t *testing.T) {
	for _, c := range []struct {
		l    roofline.Launch
		want roofline.Work
	}{
		{roofline.Launch{Kernel: "gemm_nt", Args: [16]int64{3: 10, 4: 20, 5: 30}}, roofline.Work{FLOP: 12000, Bytes: 2*(300+600) + 800}},
		{roofline.Launch{Kernel: "gemm_tn_64", Args: [16]int64{3: 10, 4: 20, 5: 30, 9: 1}}, roofline.Work{FLOP: 12000, Bytes: 2*(300+600) + 1600}},
		{roofline.Launch{Kernel: "cublaslt_nn_bf16", Args: [16]int64{3: 10, 4: 20, 5: 30}}, roofline.Work{FLOP: 12000, Bytes: 2*(300+600) + 400}},
		{roofline.Launch{Kernel: "attention_64", Grid: [3]int{1, 4, 3}, Args: [16]int64{3: 16, 4: 4, 5: 2, 6: 8}}, roofline.Work{FLOP: 2 * 3 * 16 * 16 * 32, Bytes: 2 * 3 * 16 * (64 + 32)}},
		{roofline.Launch{Kernel: "attention_keys_64", Grid: [3]int{1, 2, 3}, Args: [16]int64{5: 16, 6: 4, 7: 2, 8: 8}}, roofline.Work{FLOP: 2.5 * 3 * 16 * 16 * 32, Bytes: 2 * 3 * 16 * (64 + 32)}},
		{roofline.Launch{Kernel: "rmsnorm_add", Grid: [3]int{7, 1, 1}, Args: [16]int64{6: 5}}, roofline.Work{Bytes: 8 * 35}},
		{roofline.Launch{Kernel: "memset", Args: [16]int64{77}}, roofline.Work{Bytes: 77}},
		{roofline.Launch{Kernel: "adamw", Values: 11}, roofline.Work{Bytes: 330}},
	} {
		if got, _ := c.l.Work(); got != c.want {
			t.Errorf("%+v: %+v", c.l, got)
		}
	}
	h100, _ := roofline.Named("H100")
	l := roofline.Launch{Kernel: "gemm_nt", Args: [16]int64{3: 4096, 4: 4096, 5: 4096}}
	if s := l.Seconds(h100); math.Abs(s-2*4096*4096*4096/(h100.FLOPs*roofline.Assumed.Products)) > 1e-12 {
		t.Errorf("%v s", s)
	}
}

type endless struct{ b model.Batch }

func (e endless) Next(context.Context) (model.Batch, error) { return e.b, nil }

// What the engine launches in a step on the stand-in is what Predict adds up, product for product: the same operations.
func TestLaunchesAreThePrediction(t *testing.T) {
	standin.Only(t, "a card that would be asked for nothing else")
	c := model.Config{Vocab: 96, Width: 64, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 16, FFN: 128, Seq: 32, Tied: true, RopeTheta: 1e4, NormEps: 1e-5}
	x, err := gpu.New(gpu.Settings{Library: standin.Library(t)}).NewTrainer(c, model.Optimizer{LR: 1e-3, Total: 10, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8}, model.Options{Precision: model.BF16})
	if err != nil {
		t.Fatal(err)
	}
	tr := x.(*gpu.Trainer)
	defer tr.Close()
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(1)
	if err := tr.Reset(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	b := model.Batch{B: 2, T: c.Seq, X: make([]int32, 2*c.Seq), Y: make([]int32, 2*c.Seq)}
	list, err := tr.Traced(func() error {
		_, err := tr.Train(t.Context(), endless{b}, model.Budget{Steps: 1})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	h100, _ := roofline.Named("H100")
	p, err := roofline.Predict(h100, memory.Request{Model: c, Plan: memory.Classic, Recompute: memory.None, Ranks: 1, MicroBatch: 2}, 2)
	if err != nil {
		t.Fatal(err)
	}
	var flop, bytes, want, wantBytes float64
	for _, x := range list {
		w, ok := roofline.Launch{Kernel: x.Kernel, Grid: x.Grid, Args: x.Args, Values: int64(c.Params())}.Work()
		if !ok {
			t.Errorf("what %s does is not known", x.Kernel)
		}
		flop, bytes = flop+w.FLOP, bytes+w.Bytes
	}
	for _, x := range p.Lines {
		want, wantBytes = want+x.FLOP, wantBytes+x.Bytes
	}
	if math.Abs(flop-want) > 1e-9*want {
		t.Errorf("%g operations, the prediction has %g", flop, want)
	}
	if math.Abs(bytes-wantBytes) > 0.1*wantBytes { // a gradient that is not added to is written only, and small kernels are not in it
		t.Errorf("%g bytes, the prediction has %g", bytes, wantBytes)
	}
}
