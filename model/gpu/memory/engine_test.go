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

// What the engine takes of a card is what was planned for it, to the byte, with every plan; it says so itself, and to who asks beforehand.
func TestEngineTakesWhatIsPlanned(t *testing.T) {
	standin.Only(t, "what was allocated, to the byte")
	const B = 2
	for name, c := range map[string]model.Config{
		"even": {Vocab: 512, Width: 64, Layers: 3, Heads: 4, KVHeads: 2, HeadDim: 16, FFN: 128, Seq: 32, RopeTheta: 1e4, NormEps: 1e-5},
		"odd":  {Vocab: 301, Width: 45, Layers: 2, Heads: 3, KVHeads: 1, HeadDim: 14, FFN: 77, Seq: 21, Tied: true, RopeTheta: 1e4, NormEps: 1e-5},
	} {
		b := model.Batch{B: B, T: c.Seq, X: make([]int32, B*c.Seq), Y: make([]int32, B*c.Seq)}
		r := memory.Request{Model: c, Ranks: 1, MicroBatch: B}
		all := []memory.Request{r}
		all[0].Judge, all[0].Plan, all[0].Recompute = true, memory.Classic, memory.None
		for _, r.Plan = range memory.Plans() {
			for _, r.Recompute = range memory.Recomputes() {
				all = append(all, r)
			}
		}
		for _, r := range all {
			card := standin.Load(t)
			e, opt := gpu.New(gpu.Settings{Library: card.Path, Plan: r.Plan, Recompute: r.Recompute}), model.Options{Precision: model.BF16, MicroBatch: B}
			said := compute(t, e, opt, c, b, r.Judge)
			peak, plan, need := card.Report(t).Peak, r.Arena().Size, e.Need(c, opt, 7, !r.Judge).Total()
			if peak != plan || said != plan || need != plan {
				t.Errorf("%s, judge %v, %s, %s: %d bytes were taken, %d said, %d said before, %d planned", name, r.Judge, r.Plan, r.Recompute, peak, said, need, plan)
			}
		}
	}
}

// compute trains a step on b, or measures its losses, and gives what the engine says that it holds.
func compute(t *testing.T, e gpu.Engine, opt model.Options, c model.Config, b model.Batch, judge bool) int64 {
	t.Helper()
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(1)
	var use interface {
		io.Closer
		Allocated() int64
	}
	if judge {
		j, err := e.NewJudge(c, opt)
		if err != nil {
			t.Fatal(err)
		}
		use = j.(*gpu.Judge)
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
		use = x.(*gpu.Trainer)
		if err := x.Reset(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if _, err := x.Train(t.Context(), &once{b: b}, model.Budget{Steps: 1}); err != nil {
			t.Fatal(err)
		}
	}
	said := use.Allocated()
	if err := use.Close(); err != nil {
		t.Fatal(err)
	}
	return said
}
