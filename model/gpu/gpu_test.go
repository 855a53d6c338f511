package gpu

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"sn3/model"
	"sn3/model/cpu"
	"sn3/model/gpu/standin"
)

// shapes cover heads of all three widths, grouped heads, sizes that are no multiples of anything, tied and not.
var shapes = map[string]model.Config{
	"even":    {Vocab: 96, Width: 32, Layers: 2, Heads: 2, KVHeads: 2, HeadDim: 16, FFN: 64, Seq: 24, RopeTheta: 1e4, NormEps: 1e-5},
	"tied":    {Vocab: 70, Width: 24, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 8, FFN: 40, Seq: 16, Tied: true, RopeTheta: 1e4, NormEps: 1e-5},
	"odd":     {Vocab: 37, Width: 21, Layers: 1, Heads: 3, KVHeads: 1, HeadDim: 6, FFN: 33, Seq: 19, RopeTheta: 5e5, NormEps: 1e-6},
	"head 40": {Vocab: 33, Width: 16, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 40, FFN: 24, Seq: 9, Tied: true, RopeTheta: 1e4, NormEps: 1e-5},
	"head 80": {Vocab: 33, Width: 16, Layers: 1, Heads: 2, KVHeads: 1, HeadDim: 80, FFN: 24, Seq: 70, RopeTheta: 1e4, NormEps: 1e-5},
}

func optimizer() model.Optimizer {
	return model.Optimizer{LR: 3e-3, Warmup: 2, Total: 100, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1, WeightDecay: 0.1}
}

// pair is a trainer on the stand-in and one on the CPU with the same parameters.
func pair(t *testing.T, c model.Config, opt model.Options) (*Trainer, *cpu.Trainer) {
	t.Helper()
	x, err := New(Settings{Library: standin.Library(t)}).NewTrainer(c, optimizer(), opt)
	if err != nil {
		t.Fatal(err)
	}
	g := x.(*Trainer)
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	y, err := cpu.New("").NewTrainer(c, optimizer(), model.Options{Threads: 1, Precision: model.BF16, MicroBatch: opt.MicroBatch})
	if err != nil {
		t.Fatal(err)
	}
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(7)
	for _, e := range []model.Trainer{g, y} {
		if err := e.Reset(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	return g, y.(*cpu.Trainer)
}

func batch(seed uint64, c model.Config, B, T int) model.Batch {
	r := rand.New(rand.NewPCG(seed, 3))
	b := model.Batch{B: B, T: T, X: make([]int32, B*T), Y: make([]int32, B*T)}
	for i := range b.X {
		b.X[i], b.Y[i] = int32(r.IntN(c.Vocab)), int32(r.IntN(c.Vocab))
		if r.IntN(9) == 0 {
			b.Y[i] = model.Ignored
		}
	}
	return b
}

type endless struct{ b model.Batch }

func (e endless) Next(context.Context) (model.Batch, error) { return e.b, nil }

// apart is the distance of two vectors relative to the length of the second, which counts as at least least.
func apart(got, want []float32, least float64) float64 {
	var d, n float64
	for i, x := range got {
		d += (float64(x) - float64(want[i])) * (float64(x) - float64(want[i]))
		n += float64(want[i]) * float64(want[i])
	}
	return math.Sqrt(d) / max(math.Sqrt(n), least)
}

// length is the norm of v.
func length(v []float32) float64 { return apart(v, make([]float32, len(v)), 1) }

// Loss and every tensor's gradient are those of the CPU in bfloat16, in whole batches and in parts, also when batches grow and shrink.
func TestGradientsAreTheCPUs(t *testing.T) {
	for name, c := range shapes {
		for _, micro := range []int{0, 2} {
			g, y := pair(t, c, model.Options{Precision: model.BF16, MicroBatch: micro})
			for i, size := range [][2]int{{1, 5}, {3, c.Seq}, {2, 1}} {
				b := batch(uint64(i), c, size[0], size[1])
				want, wantGrad, err := y.LossGrad(b)
				if err != nil {
					t.Fatal(err)
				}
				loss, grad, err := g.LossGrad(b)
				if err != nil {
					t.Fatalf("%s, micro-batch %d: %v", name, micro, err)
				}
				if math.Abs(loss-want) > 2e-3*want {
					t.Errorf("%s, micro-batch %d, %v: loss %v, on the CPU %v", name, micro, size, loss, want)
				}
				for _, x := range c.Tensors() {
					// of one token alone queries and keys have none: what is left is rounding
					if d := apart(grad[x.Off:x.Off+x.Len()], wantGrad[x.Off:x.Off+x.Len()], 0.02*length(wantGrad)); !(d < 3e-2) {
						t.Errorf("%s, micro-batch %d, %v: gradient of %s is %.1e away", name, micro, size, x.Name, d)
					}
				}
			}
		}
	}
}

// flat is all of w.
func flat(t *testing.T, w model.Weights) []float32 {
	t.Helper()
	v := make([]float32, w.Layout().Params())
	if err := w.Read(v, model.ChunkRange{To: w.Layout().Chunks()}); err != nil {
		t.Fatal(err)
	}
	return v
}

// Twelve steps stay near the CPU's; the same steps again give the same bits, also across a save and a load.
func TestStepsAreTheCPUs(t *testing.T) {
	for _, name := range []string{"tied", "odd"} {
		c := shapes[name]
		data := endless{batch(1, c, 2, c.Seq)}
		g, y := pair(t, c, model.Options{Precision: model.BF16})
		for i := range uint64(3) {
			budget := model.Budget{First: 4 * i, Steps: 4}
			got, err := g.Train(t.Context(), data, budget)
			want, err2 := y.Train(t.Context(), data, budget)
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			if math.Abs(got.Loss-want.Loss) > 5e-3*want.Loss || got.Steps != 4 || got.Tokens != want.Tokens {
				t.Errorf("%s: %+v, on the CPU %+v", name, got, want)
			}
		}
		one := flat(t, g.Trained())
		if d := apart(one, flat(t, y.Trained()), 0); !(d < 5e-3) {
			t.Errorf("%s: parameters are %.1e away", name, d)
		}
		again, _ := pair(t, c, model.Options{Precision: model.BF16})
		for i := range uint64(2) {
			if _, err := again.Train(t.Context(), data, model.Budget{First: 6 * i, Steps: 6}); err != nil {
				t.Fatal(err)
			}
			var saved bytes.Buffer
			if err := again.Save(&saved); err != nil {
				t.Fatal(err)
			}
			again.Forget()
			if err := again.Load(&saved); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(one, flat(t, again.Trained())) {
			t.Errorf("%s: the same steps give other bits", name)
		}
	}
}

// A batch that is not finite changes nothing.
func TestDiverged(t *testing.T) {
	c := shapes["tied"]
	g, _ := pair(t, c, model.Options{Precision: model.BF16})
	w := model.NewFlat(g.net.layout)
	w.Init(7)
	w.Data[5] = float32(math.Inf(1))
	if err := g.Reset(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	before := flat(t, g.Trained())
	_, err := g.Train(t.Context(), endless{batch(1, c, 2, c.Seq)}, model.Budget{Steps: 1})
	if !errors.Is(err, model.ErrDiverged) || g.step != 0 {
		t.Errorf("%v after %d steps", err, g.step)
	}
	if !slices.Equal(before, flat(t, g.Trained())) {
		t.Error("a step that was not made changed parameters")
	}
}

// Rebase adds the difference, and an error changes nothing.
func TestRebase(t *testing.T) {
	c := shapes["odd"]
	g, y := pair(t, c, model.Options{Precision: model.BF16})
	a, b := model.NewFlat(g.net.layout), model.NewFlat(g.net.layout)
	a.Init(1)
	b.Init(2)
	if err := errors.Join(g.Rebase(t.Context(), a, b), y.Rebase(t.Context(), a, b)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(flat(t, g.Trained()), flat(t, y.Trained())) {
		t.Error("other parameters than on the CPU")
	}
}

// What the card cannot do is refused.
func TestRefuses(t *testing.T) {
	e, c := New(Settings{Library: standin.Library(t)}), shapes["even"]
	wide := c
	wide.HeadDim = 130
	for name, try := range map[string]func() error{
		"float32": func() error { _, err := e.NewTrainer(c, optimizer(), model.Options{}); return err },
		"wide head": func() error {
			_, err := e.NewTrainer(wide, optimizer(), model.Options{Precision: model.BF16})
			return err
		},
		"a judge": func() error { _, err := e.NewJudge(c, model.Options{}); return err },
		"no driver": func() error {
			_, err := New(Settings{Library: "/nowhere/libcuda.so"}).NewTrainer(c, optimizer(), model.Options{Precision: model.BF16})
			return err
		},
		"no card": func() error {
			_, err := New(Settings{Library: standin.Library(t), Ordinal: 99}).NewTrainer(c, optimizer(), model.Options{Precision: model.BF16})
			return err
		},
	} {
		if err := try(); !errors.Is(err, model.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// one entry a chunk.
type nudge struct{ l *model.Layout }

func (n nudge) Chunk(i int, idx []uint16, val []float32) int {
	idx[0], val[0] = uint16(n.l.Chunk(i).Len/2), 0.5
	return 1
}

// Losses and logits are the CPU's in bfloat16, with a delta and without; afterwards θ is what it was.
func TestJudgeIsTheCPUs(t *testing.T) {
	for name, c := range shapes {
		x, err := New(Settings{Library: standin.Library(t)}).NewJudge(c, model.Options{Precision: model.BF16, MicroBatch: 2})
		if err != nil {
			t.Fatal(err)
		}
		g := x.(*Judge)
		y, err := cpu.New("").NewJudge(c, model.Options{Threads: 1, Precision: model.BF16})
		if err != nil {
			t.Fatal(err)
		}
		w := model.NewFlat(g.net.layout)
		w.Init(7)
		if err := errors.Join(g.Reset(t.Context(), w), y.Reset(t.Context(), w)); err != nil {
			t.Fatal(err)
		}
		sets := [][]model.Batch{{batch(1, c, 3, c.Seq), batch(2, c, 1, 2)}, {batch(3, c, 2, 5)}}
		var first [][]float64
		for i, d := range []model.Delta{nil, nudge{g.net.layout}, nil} {
			got, err := g.Losses(t.Context(), d, 0.25, sets)
			want, err2 := y.Losses(t.Context(), d, 0.25, sets)
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			for s := range want {
				for k := range want[s] {
					if !(math.Abs(got[s][k]-want[s][k]) <= 4e-3*want[s][k]) {
						t.Errorf("%s: set %d, sequence %d: %v, on the CPU %v", name, s, k, got[s][k], want[s][k])
					}
				}
			}
			if i == 0 {
				first = got
			} else if same := slices.EqualFunc(first, got, slices.Equal); same != (d == nil) {
				t.Errorf("%s: losses after the delta are those before it: %v", name, same)
			}
		}
		b := batch(4, c, 2, c.Seq)
		got, want := make([]float32, len(b.X)*c.Vocab), make([]float32, len(b.X)*c.Vocab)
		if err := errors.Join(g.Logits(got, b.X, b.B, b.T), y.(model.Forwarder).Logits(want, b.X, b.B, b.T)); err != nil {
			t.Fatal(err)
		}
		if d := apart(got, want, 0); !(d < 2e-2) {
			t.Errorf("%s: logits are %.1e away", name, d)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
}
