package graph

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"gorgonia.org/gorgonia"

	"sn3/model"
	"sn3/model/cpu"
)

func configs() map[string]model.Config {
	base := model.Config{Vocab: 23, Width: 18, Layers: 2, Heads: 4, KVHeads: 4, HeadDim: 6, FFN: 26, Seq: 9, RopeTheta: 1e4, NormEps: 1e-5}
	gqa, mqa, tied, odd := base, base, base, base
	gqa.KVHeads = 2
	mqa.KVHeads, mqa.HeadDim = 1, 10
	tied.Tied = true
	odd.Vocab, odd.Width, odd.FFN, odd.Layers, odd.NormEps, odd.RopeTheta = 37, 33, 19, 1, 1e-3, 500
	return map[string]model.Config{"mha": base, "gqa": gqa, "mqa": mqa, "tied": tied, "odd": odd}
}

func batch(r *rand.Rand, c model.Config) model.Batch {
	b := model.Batch{B: 2, T: c.Seq, X: make([]int32, 2*c.Seq), Y: make([]int32, 2*c.Seq)}
	for i := range b.X {
		b.X[i], b.Y[i] = int32(r.IntN(c.Vocab)), int32(r.IntN(c.Vocab))
	}
	b.Y[3], b.Y[7] = model.Ignored, model.Ignored
	return b
}

func start(t *testing.T, c model.Config, seed uint64) *model.Flat {
	t.Helper()
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(seed)
	r := rand.New(rand.NewPCG(seed, 5))
	for i := range w.Data { // norms away from 1, an embedding that is not tiny
		w.Data[i] += float32(0.15 * r.NormFloat64())
	}
	return w
}

// The oracle: loss and every parameter's gradient of the hand-written engine equal gorgonia's to 1e-5.
func TestCPUGradientsAgainstGorgonia(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	ctx := context.Background()
	for name, c := range configs() {
		w, b := start(t, c, 7), batch(r, c)
		g, err := New().NewTrainer(c, model.Optimizer{}, model.Options{})
		if err != nil {
			t.Fatal(err)
		}
		h, err := cpu.New("").NewTrainer(c, model.Optimizer{}, model.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []model.Trainer{g, h} {
			if err := x.Reset(ctx, w); err != nil {
				t.Fatal(err)
			}
		}
		wantLoss, want, err := g.(model.Gradienter).LossGrad(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		loss, grad, err := h.(model.Gradienter).LossGrad(b)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(loss-wantLoss) > 1e-5*wantLoss {
			t.Errorf("%s: loss %v, gorgonia has %v", name, loss, wantLoss)
		}
		for _, x := range c.Tensors() {
			var d, n float64
			for i := x.Off; i < x.Off+x.Len(); i++ {
				d += math.Pow(float64(grad[i])-float64(want[i]), 2)
				n += math.Pow(float64(want[i]), 2)
			}
			if math.Sqrt(d/n) > 1e-5 {
				t.Errorf("%s: gradient of %s differs by %.2g", name, x.Name, math.Sqrt(d/n))
			}
		}
	}
}

type repeated struct{ b model.Batch }

func (r repeated) Next(context.Context) (model.Batch, error) { return r.b, nil }

// Both engines make the same steps and see the same losses afterwards.
func TestEnginesTrainAlike(t *testing.T) {
	c := configs()["gqa"]
	r := rand.New(rand.NewPCG(2, 2))
	w, b := start(t, c, 3), batch(r, c)
	ctx := context.Background()
	o := model.Optimizer{LR: 3e-3, Total: 100, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Clip: 1}
	var losses [2][]float64
	for i, e := range []model.Engine{New(), cpu.New("")} {
		tr, err := e.NewTrainer(c, o, model.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Reset(ctx, w); err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Train(ctx, repeated{b}, model.Budget{Steps: 4}); err != nil {
			t.Fatal(err)
		}
		if err := tr.Rebase(ctx, tr.Trained(), w); err != nil { // local += w − local
			t.Fatal(err)
		}
		if _, err := tr.Train(ctx, repeated{b}, model.Budget{First: 4, Steps: 2}); err != nil {
			t.Fatal(err)
		}
		j, err := e.NewJudge(c, model.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Reset(ctx, tr.Trained()); err != nil {
			t.Fatal(err)
		}
		l, err := j.Losses(ctx, nil, 0, [][]model.Batch{{b}})
		if err != nil {
			t.Fatal(err)
		}
		losses[i] = l[0]
	}
	for i := range losses[0] {
		if math.Abs(losses[0][i]-losses[1][i]) > 2e-4 {
			t.Errorf("sequence %d: gorgonia %v, cpu %v", i, losses[0][i], losses[1][i])
		}
	}
}

// InverseSqrt has a wrong gradient in gorgonia v0.9.18: d/dx x^(-1/2) = -x^(-3/2)/2. When this test fails the library was
// mended and rms may use it.
func TestInverseSqrtIsWrong(t *testing.T) {
	g := gorgonia.NewGraph()
	x := gorgonia.NewScalar(g, gorgonia.Float64, gorgonia.WithName("x"), gorgonia.WithValue(4.0))
	y := gorgonia.Must(gorgonia.InverseSqrt(x))
	if _, err := gorgonia.Grad(y, x); err != nil {
		t.Fatal(err)
	}
	vm := gorgonia.NewTapeMachine(g)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	d, err := x.Grad()
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Data().(float64); math.Abs(got+1.0/16) < 1e-9 {
		t.Fatal("the gradient is right now")
	}
}
