package mining_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/simnet"
	"sn3/miner/mining"
	"sn3/model"
	"sn3/model/data"
)

// diverging is a trainer's hook that finds batches bad: it uses the batch up and makes no step, as an engine does.
func diverging(bad func(w chain.Window, step int) bool) simnet.NodeOptions {
	return simnet.NodeOptions{Trainer: hook(func(ctx context.Context, w chain.Window, step int, b model.Batches) (bool, error) {
		if !bad(w, step) {
			return false, nil
		}
		if _, err := b.Next(ctx); err != nil {
			return true, nil // used up: no step, no error
		}
		return true, fmt.Errorf("%w: a batch has the loss NaN", model.ErrDiverged)
	})}
}

// One bad batch costs a step, not the window: it is left out, counted and reported, and what is submitted is selected.
func TestABadBatchIsLeftOut(t *testing.T) {
	once := map[string]bool{}
	n, x := network(t, diverging(func(w chain.Window, step int) bool {
		key := fmt.Sprint(w, step)
		first := !once[key]
		once[key] = true
		return first && (w == 1 && step == 4 || w == 2 && (step == 0 || step == 8))
	}))
	n.To(3)
	told := x.Events(events.Unstable)
	if len(told) != 3 || told[0].Window != 1 || told[0].Steps != 4 || told[0].BadBatches != 1 || !strings.Contains(told[0].Reason, "loss NaN") {
		t.Errorf("told: %+v", told)
	}
	for _, e := range x.Events(events.Train) {
		want := map[chain.Window]int{1: 1, 2: 2}[e.Window]
		if e.BadBatches != want || e.Steps != perWindow-want {
			t.Errorf("window %d: %d steps, %d bad batches", e.Window, e.Steps, e.BadBatches)
		}
	}
	if s := x.Events(events.Skipped); len(s) > 0 {
		t.Errorf("it skipped %+v", s)
	}
	for w := range chain.Window(4) {
		if digests(x)[w] == "" {
			t.Errorf("nothing submitted in window %d", w)
		}
	}
	for _, e := range x.Events(events.Applied) {
		if !slices.Contains(e.Winners, x.Hotkey) {
			t.Errorf("not selected in window %d", e.Window)
		}
	}
}

// A window in which every batch is bad is lost; with a submission between them, lost windows end nobody.
func TestLostWindowsWithSubmissionsBetween(t *testing.T) {
	n, x := network(t, diverging(func(w chain.Window, _ int) bool { return w == 1 || w == 4 || w == 7 }))
	n.To(9)
	lost := 0
	for _, e := range x.Events(events.Skipped) {
		if strings.Contains(e.Reason, "starting over from θ with fresh moments") {
			lost++
		}
	}
	got := digests(x)
	if lost != 3 || got[3] == "" || got[6] == "" || got[9] == "" || got[1] != "" || got[2] != "" {
		t.Errorf("%d windows lost, submitted in %v", lost, got)
	}
}

// Three lost windows without a submission between them end the miner with advice, whether or not one of them warmed up well;
// the network goes on without it.
func TestUnstableMinerEnds(t *testing.T) {
	for name, bad := range map[string]func(chain.Window) bool{
		"in a row":              func(w chain.Window) bool { return w >= 2 },
		"every other, at first": func(w chain.Window) bool { return w%2 == 0 },
	} {
		t.Run(name, func(t *testing.T) {
			n, x := network(t, diverging(func(w chain.Window, _ int) bool { return bad(w) }))
			ended, err := x.Ended()
			for i := 0; !ended && i < 100; i++ {
				n.Tick()
				n.Load.Idle()
				ended, err = x.Ended()
			}
			if !ended || !errors.Is(err, mining.ErrUnstable) || !errors.Is(err, model.ErrDiverged) || !strings.Contains(err.Error(), "--precision f32 --kernels portable") {
				t.Fatalf("ended %v: %v", ended, err)
			}
			stop := x.Events(events.Stop)
			if len(stop) != 1 || stop[0].Reason != err.Error() || len(x.Events(events.Skipped)) < 3 {
				t.Errorf("told: %+v", stop)
			}
			n.To(7)
		})
	}
}

// runsDry is a reader that fails at its fifth batch, and at every try of it.
type runsDry struct {
	model.Batches
	read int
}

func (r *runsDry) Next(ctx context.Context) (model.Batch, error) {
	if r.read++; r.read > 4 {
		return model.Batch{}, errors.New("page 7 of shard abc is wrong on all mirrors")
	}
	return r.Batches.Next(ctx)
}

// A page that nobody has costs the steps after it, not the window: what was learned before is submitted and selected, and the
// next window needs no warm-up.
func TestStepsBeforeAMissingPageCount(t *testing.T) {
	for _, gap := range []mining.Gap{mining.Wait, mining.Train} {
		window := -1
		n, x := network(t, simnet.NodeOptions{Gap: gap, Batches: func(d *data.Dataset, a data.Assignment) model.Batches {
			if window++; window == 1 {
				return &runsDry{Batches: d.Batches(a, 2)}
			}
			return d.Batches(a, 2)
		}})
		n.To(3)
		for w := range chain.Window(4) {
			if digests(x)[w] == "" {
				t.Errorf("gap %s: nothing submitted in window %d, skipped %v", gap, w, x.Events(events.Skipped))
			}
		}
		for _, e := range x.Events(events.Train) {
			if want := map[chain.Window]int{1: 4}[e.Window]; want != 0 && e.Steps != want {
				t.Errorf("gap %s: %d steps in window %d", gap, e.Steps, e.Window)
			}
		}
		for _, e := range x.Events(events.Applied) {
			if !slices.Contains(e.Winners, x.Hotkey) {
				t.Errorf("gap %s: not selected in window %d", gap, e.Window)
			}
		}
		if told := x.Events(events.Waiting); len(told) == 0 || !strings.Contains(told[0].Reason, "page 7 of shard abc") || told[0].Window != 1 {
			t.Errorf("gap %s: told %+v", gap, told)
		}
	}
}

// Ten bad batches in a row end a window at once: what is left of it would be wasted.
func TestTenBadBatchesEndAWindow(t *testing.T) {
	tried := 0
	n, x := network(t, simnet.NodeOptions{Trainer: hook(func(_ context.Context, w chain.Window, step int, _ model.Batches) (bool, error) {
		if w == 1 && step == 2 { // batches without end
			tried++
			return true, model.ErrDiverged
		}
		return false, nil
	})})
	n.To(3)
	if tried != 10 || digests(x)[1] != "" || digests(x)[3] == "" {
		t.Errorf("%d tries, submitted %v", tried, digests(x))
	}
}
