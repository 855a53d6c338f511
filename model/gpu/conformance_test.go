package gpu

import (
	"bytes"
	"testing"

	"sn3/model"
	"sn3/model/enginetest"
	"sn3/model/gpu/standin"
)

// The engine keeps the contract of model.Engine, shown on the stand-in for the card.
func TestConformance(t *testing.T) {
	enginetest.Run(t, New(standin.Library(t), 0), enginetest.Options{Precision: model.BF16, Checks: 10, Slow: true})
}

// trainerOn is a trainer on a stand-in of its own.
func trainerOn(t *testing.T, card *standin.Card, c model.Config) *Trainer {
	t.Helper()
	x, err := New(card.Path, 0).NewTrainer(c, optimizer(), model.Options{Precision: model.BF16})
	if err != nil {
		t.Fatal(err)
	}
	l, err := model.NewLayout(c)
	if err != nil {
		t.Fatal(err)
	}
	w := model.NewFlat(l)
	w.Init(7)
	if err := x.Reset(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	return x.(*Trainer)
}

// A batch for which the card has no memory is an error that changes nothing; the next that fits is trained on as if nothing had been.
func TestBatchBeyondMemory(t *testing.T) {
	card, c := standin.Load(t), shapes["tied"]
	tr, twin := trainerOn(t, card, c), trainerOn(t, card, c)
	steps := func(tr *Trainer, b model.Batch) error {
		_, err := tr.Train(t.Context(), endless{b}, model.Budget{Steps: 1})
		return err
	}
	state := func(tr *Trainer) []byte {
		var b bytes.Buffer
		if err := tr.Save(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	small, large := batch(1, c, 1, 5), batch(2, c, 3, c.Seq)
	if err := steps(tr, small); err != nil {
		t.Fatal(err)
	}
	before := state(tr)
	card.Set(t, "oom", "1")
	if err := steps(tr, large); err == nil || !bytes.Equal(state(tr), before) {
		t.Fatalf("%v; changed: %v", err, !bytes.Equal(state(tr), before))
	}
	card.Set(t, "oom", "0")
	for i, b := range []model.Batch{small, batch(3, c, 2, 4), large} {
		if i > 0 {
			if err := steps(tr, b); err != nil {
				t.Fatalf("batch %d after the one that did not fit: %v", i, err)
			}
		}
		if err := steps(twin, b); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(state(tr), state(twin)) {
		t.Error("it goes on differently")
	}
	for _, x := range []*Trainer{tr, twin} {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
}
