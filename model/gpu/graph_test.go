package gpu

import (
	"errors"
	"slices"
	"strconv"
	"testing"

	"sn3/model"
	"sn3/model/gpu/standin"
)

// What is done again, as a graph, has the bits of the first time, kernel by kernel: loss and gradients of batches that come in turns, in parts
// that are alike, and after a batch for which everything has moved; losses of a judge.
func TestReplayIsTheSame(t *testing.T) {
	c := shapes["odd"]
	for _, micro := range []int{0, 1, 2} {
		opt := model.Options{Precision: model.BF16, MicroBatch: micro}
		tr := planned(t, c, Settings{}, opt)
		x, err := New(Settings{Library: standin.Library(t)}).NewJudge(c, opt)
		if err != nil {
			t.Fatal(err)
		}
		j := x.(*Judge)
		if err := j.Reset(t.Context(), tr.Trained()); err != nil {
			t.Fatal(err)
		}
		batches := []model.Batch{batch(1, c, 1, 5), batch(2, c, 3, 7), batch(3, c, 3, c.Seq), batch(4, c, 2, 7)}
		type result struct {
			loss  float64
			grad  []float32
			judge [][]float64
		}
		first := map[int]result{}
		// one batch needs more memory than those before, which come again after it; a batch is captured when it comes the second time
		for turn, i := range []int{0, 0, 1, 0, 1, 3, 1, 2, 0, 1, 3, 3, 2, 2, 0, 1} {
			var r result
			var err, err2 error
			r.loss, r.grad, err = tr.LossGrad(batches[i])
			r.judge, err2 = j.Losses(t.Context(), nil, 0, [][]model.Batch{{batches[i]}})
			if err := errors.Join(err, err2); err != nil {
				t.Fatalf("micro-batch %d, turn %d: %v", micro, turn, err)
			}
			if _, ok := first[i]; !ok {
				first[i] = r
			}
			if f := first[i]; r.loss != f.loss || !slices.Equal(r.grad, f.grad) || !slices.EqualFunc(r.judge, f.judge, slices.Equal) {
				t.Errorf("micro-batch %d, turn %d: batch %d has another loss, gradient or judgement than the first time", micro, turn, i)
			}
		}
		captured := 0
		for _, g := range tr.net.graphs {
			if g != nil {
				captured++
			}
		}
		if captured < 3 {
			t.Errorf("micro-batch %d: only %d graphs", micro, captured)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A batch that needs more memory gets it after what was there is given back: a card on which the new just fits is enough, and then no more
// is held than by a trainer that never had another batch.
func TestGrowingGivesBack(t *testing.T) {
	standin.Only(t, "a card of another size")
	c := shapes["tied"]
	step := func(tr *Trainer, b model.Batch) error {
		_, err := tr.Train(t.Context(), endless{b}, model.Budget{Steps: 1})
		return err
	}
	small, large := batch(1, c, 1, 5), batch(2, c, 3, c.Seq)
	alone := trainerOn(t, standin.Load(t), c)
	if err := step(alone, large); err != nil {
		t.Fatal(err)
	}
	need := alone.Allocated()
	if err := alone.Close(); err != nil {
		t.Error(err)
	}
	card := standin.Load(t)
	card.Set(t, "memory", strconv.FormatInt(need, 10))
	tr := trainerOn(t, card, c)
	for i, b := range []model.Batch{small, small, large, small, large} {
		if err := step(tr, b); err != nil {
			t.Fatalf("batch %d on a card of %d bytes: %v", i, need, err)
		}
	}
	if r := card.Report(t); tr.Allocated() != need || r.Bytes != need || r.Peak != need {
		t.Errorf("of %d bytes %d are held, %d were at most", need, r.Bytes, r.Peak)
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}
