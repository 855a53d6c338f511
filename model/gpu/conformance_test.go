package gpu

import (
	"bytes"
	"os"
	"testing"

	"sn3/model"
	"sn3/model/enginetest"
	"sn3/model/gpu/memory"
	"sn3/model/gpu/standin"
)

// The engine keeps the contract of model.Engine, shown on the stand-in for the card.
func TestConformance(t *testing.T) {
	enginetest.Run(t, New(Settings{Library: standin.Library(t)}), enginetest.Options{Precision: model.BF16, Checks: 10, Slow: true})
}

// Plans that keep less, and recompute, keep it too. What a plan has nothing to do with is left out but by make golden.
func TestConformanceOfPlans(t *testing.T) {
	for _, s := range []Settings{{Plan: memory.Lean, Recompute: memory.Selective}, {Plan: memory.Offload, Recompute: memory.Full}} {
		t.Run(string(s.Plan), func(t *testing.T) {
			s.Library = standin.Library(t)
			o := enginetest.Options{Precision: model.BF16, Checks: 1, Slow: true, ShortGradients: true, ShortMoments: s.Plan == memory.Lean}
			if os.Getenv("GOLDEN") == "" {
				o.Parts = []string{"gradients", "micro-batches", "micro-batches without targets", "AdamW", "decay", "a step that is not finite is not made", "reset keeps moments", "rebase", "forget",
					"nothing is stale", "trained", "restart", "damaged state", "need"}
			}
			enginetest.Run(t, New(s), o)
		})
	}
}

// trainerOn is a trainer on a stand-in of its own.
func trainerOn(t *testing.T, card *standin.Card, c model.Config) *Trainer {
	t.Helper()
	x, err := New(Settings{Library: card.Path}).NewTrainer(c, optimizer(), model.Options{Precision: model.BF16})
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

// What is closed gives back all that it held, also while the process has another one on the card, and says that it is closed.
func TestCloseGivesBack(t *testing.T) {
	standin.Only(t, "counts of what is held")
	card, c := standin.Load(t), shapes["odd"]
	stays := trainerOn(t, card, c)
	before := card.Report(t)
	for range 2 {
		leaves := trainerOn(t, card, c)
		if _, err := leaves.Train(t.Context(), endless{batch(1, c, 2, c.Seq)}, model.Budget{Steps: 1}); err != nil {
			t.Fatal(err)
		}
		j, err := New(Settings{Library: card.Path}).NewJudge(c, model.Options{Precision: model.BF16})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Reset(t.Context(), leaves.Trained()); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Losses(t.Context(), nil, 0, [][]model.Batch{{batch(2, c, 2, 5)}}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // closing again does nothing
			if err := j.(*Judge).Close(); err != nil {
				t.Error(err)
			}
			if err := leaves.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := leaves.Train(t.Context(), endless{batch(1, c, 2, c.Seq)}, model.Budget{Steps: 1}); err == nil {
			t.Error("a closed trainer trains")
		}
	}
	after := card.Report(t)
	if after.Bytes != before.Bytes || after.Left() != before.Left() {
		t.Errorf("%s in %d bytes are left, before there were %s in %d", after.Left(), after.Bytes, before.Left(), before.Bytes)
	}
	if err := stays.Close(); err != nil {
		t.Error(err)
	}
	if left := card.Report(t).Left(); left != "" {
		t.Errorf("left on the card: %s", left)
	}
}

// A batch for which the card has no memory is an error that changes nothing; the next that fits is trained on as if nothing had been.
func TestBatchBeyondMemory(t *testing.T) {
	standin.Only(t, "an allocation that fails")
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
	for i, b := range []model.Batch{small, batch(4, c, 1, 5), batch(3, c, 2, 4), large} {
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
