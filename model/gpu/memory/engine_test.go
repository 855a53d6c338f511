package memory_test

import (
	"context"
	"io"
	"testing"

	"sn3/model"
	"sn3/model/gpu"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/standin"
)

type once struct {
	b    model.Batch
	done bool
}

func (o *once) Next(context.Context) (model.Batch, error) {
	if o.done {
		return model.Batch{}, io.EOF
	}
	o.done = true
	return o.b, nil
}

// What the engine takes of a card, once it has trained or judged, is what was planned for it: no more, and but for the workspace that it
// does not use yet not much less.
func TestEngineTakesWhatIsPlanned(t *testing.T) {
	standin.Only(t, "what was allocated, to the byte")
	const workspace = 32 << 20
	for name, c := range map[string]model.Config{
		"even": {Vocab: 512, Width: 64, Layers: 3, Heads: 4, KVHeads: 2, HeadDim: 16, FFN: 128, Seq: 32, RopeTheta: 1e4, NormEps: 1e-5},
		"odd":  {Vocab: 301, Width: 45, Layers: 2, Heads: 3, KVHeads: 1, HeadDim: 14, FFN: 77, Seq: 21, Tied: true, RopeTheta: 1e4, NormEps: 1e-5},
	} {
		for _, judge := range []bool{false, true} {
			card := standin.Load(t)
			const B = 2
			b := model.Batch{B: B, T: c.Seq, X: make([]int32, B*c.Seq), Y: make([]int32, B*c.Seq)}
			compute(t, gpu.New(card.Path, 0), c, b, judge)
			peak := card.Report(t).Peak
			plan := memory.Request{Model: c, Plan: memory.Classic, Recompute: memory.None, Ranks: 1, MicroBatch: B, Judge: judge}.Arena().Size - workspace
			if peak > plan || float64(peak) < 0.98*float64(plan) {
				t.Errorf("%s, judge %v: %d bytes were taken, %d planned", name, judge, peak, plan)
			}
		}
	}
}

// compute trains a step on b, or measures its losses.
func compute(t *testing.T, e gpu.Engine, c model.Config, b model.Batch, judge bool) {
	t.Helper()
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(1)
	opt := model.Options{Precision: model.BF16}
	var closer any
	if judge {
		j, err := e.NewJudge(c, opt)
		if err != nil {
			t.Fatal(err)
		}
		closer = j
		if err := j.Reset(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Losses(t.Context(), nil, 0, [][]model.Batch{{b}}); err != nil {
			t.Fatal(err)
		}
	} else {
		x, err := e.NewTrainer(c, model.Optimizer{LR: 1e-3, Warmup: 1, Total: 10, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8}, opt)
		if err != nil {
			t.Fatal(err)
		}
		closer = x
		if err := x.Reset(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if _, err := x.Train(t.Context(), &once{b: b}, model.Budget{Steps: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := closer.(io.Closer).Close(); err != nil {
		t.Fatal(err)
	}
}
