package mining_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/replica"
	"sn3/internal/simnet"
	"sn3/model"
)

// watching is a trainer whose budgets and savings are looked at.
type watching struct {
	model.Trainer
	model.Persister
	trained func(model.Budget)
	save    func() error
}

func (x watching) Train(ctx context.Context, b model.Batches, budget model.Budget) (model.Report, error) {
	rep, err := x.Trainer.Train(ctx, b, budget)
	if rep.Steps > 0 && x.trained != nil {
		x.trained(budget)
	}
	return rep, err
}

func (x watching) Save(w io.Writer) error {
	if x.save != nil {
		if err := x.save(); err != nil {
			return err
		}
	}
	return x.Persister.Save(w)
}

func watch(trained func(model.Budget), save func() error) func(model.Trainer, *replica.Clock) model.Trainer {
	return func(tr model.Trainer, _ *replica.Clock) model.Trainer {
		return watching{tr, tr.(model.Persister), trained, save}
	}
}

// DESIGN §8: stale moments mean 20 warm-up steps, through more than one window if these are short, and one window without
// submission. The first window of a run has its schedule's own warm-up.
func TestColdMomentsWarmUp(t *testing.T) {
	for _, join := range []chain.Window{0, 3} {
		var cold []int
		n, x := joined(t, simnet.NodeOptions{Trainer: watch(func(b model.Budget) { cold = append(cold, b.Cold) }, nil)}, join)
		n.To(join + 3)
		if err := n.Stop(x); err != nil {
			t.Fatal(err)
		}
		want := make([]int, len(cold))
		for i := range want {
			if join > 0 {
				want[i] = max(0, model.ColdSteps-i)
			}
		}
		if len(cold) < 3*perWindow || !slices.Equal(cold, want) {
			t.Errorf("begun in window %d: warm-up steps left %v, want %v", join, cold, want)
		}
		for w, digest := range digests(x) {
			if w < join || join > 0 && w == join {
				t.Errorf("begun in window %d: %.8s submitted in %d", join, digest, w)
			}
		}
		if got := digests(x); got[join+1] == "" || got[join+2] == "" {
			t.Errorf("begun in window %d: submitted in %v", join, got)
		}
	}
}

// A window that is lost or skipped leaves moments that are cold again: the warm-up begins anew.
func TestWarmUpAfterALostWindow(t *testing.T) {
	left := map[chain.Window][]int{}
	o := diverging(func(w chain.Window, _ int) bool { return w == 2 })
	bad := o.Trainer
	o.Trainer = func(tr model.Trainer, c *replica.Clock) model.Trainer {
		return watching{bad(tr, c), tr.(model.Persister), func(b model.Budget) {
			w := chain.Window(b.First / perWindow)
			left[w] = append(left[w], b.Cold)
		}, nil}
	}
	n, x := network(t, o)
	n.To(6)
	if err := n.Stop(x); err != nil {
		t.Fatal(err)
	}
	for w, first := range map[chain.Window]int{0: 0, 1: 0, 3: 20, 4: 10, 5: 0} {
		if len(left[w]) != perWindow || left[w][0] != first {
			t.Errorf("window %d: warm-up steps left %v, want %d at first", w, left[w], first)
		}
	}
}

// The warm-up goes on after a kill where it was: the same bytes, also when the window that was killed is the one without a
// submission.
func TestRestartInTheWarmUp(t *testing.T) {
	const join, last = 2, 5
	n, x := joined(t, simnet.NodeOptions{}, join)
	n.To(last)
	want := digests(x)
	if want[join] != "" || want[join+1] == "" || want[last] == "" {
		t.Fatalf("submitted in %v: the test shows nothing", want)
	}
	for _, at := range []struct {
		w    chain.Window
		step int
	}{{join, 0}, {join, 7}, {join + 1, 0}, {join + 1, 6}, {join + 2, 3}} {
		t.Run(fmt.Sprintf("window %d, step %d", at.w, at.step), func(t *testing.T) {
			got := digests(killed(t, simnet.NodeOptions{}, join, at.w, at.step, last))
			for w := chain.Window(join); w <= last; w++ {
				if got[w] != want[w] {
					t.Errorf("window %d: %.16s, want %.16s", w, got[w], want[w])
				}
			}
		})
	}
}

// Whoever is stopped after the last step of a window and comes back in it does not train it twice: all later bytes are those of
// a miner that went on.
func TestRestartAfterTheWindowsWork(t *testing.T) {
	const last = 5
	n, x := network(t, simnet.NodeOptions{})
	n.To(last)
	want := digests(x)
	o := simnet.NodeOptions{Dir: t.TempDir()}
	n, x = network(t, o)
	for len(digests(x)) < 3 { // windows 0 to 2
		n.Tick()
		n.Load.Idle()
	}
	if err := n.Stop(x); err != nil {
		t.Fatal(err)
	}
	y := n.StartMiner(simnet.MinerName(2), o)
	n.To(last)
	got := digests(x, y)
	for w := range chain.Window(last + 1) {
		if got[w] != want[w] {
			t.Errorf("window %d: %.16s, want %.16s", w, got[w], want[w])
		}
	}
	if s := y.Events(events.Skipped); len(s) != 1 || s[0].Window != 2 || !strings.Contains(s[0].Reason, "trained before the restart") {
		t.Errorf("it skipped %+v", s)
	}
}

// A window's submission is on disk before its moments are: a kill between the two loses neither. On a disk too full for the
// moments the miner ends and says so; with room again it goes on with the same bytes.
func TestMomentsAfterTheSubmission(t *testing.T) {
	const full, last = 2, 5
	n, x := network(t, simnet.NodeOptions{})
	n.To(last)
	want := digests(x)
	dir, window := t.TempDir(), chain.Window(0)
	saved := func() error {
		if got := newest(t, dir); got != window {
			t.Errorf("moments of window %d are saved, the newest payload on disk is of %d", window, got)
		}
		if window == full {
			return errors.New("no space left on device")
		}
		window++
		return nil
	}
	n, x = network(t, simnet.NodeOptions{Dir: dir, Trainer: watch(nil, saved)})
	ended, err := x.Ended()
	for i := 0; !ended && i < 100; i++ {
		n.Tick()
		n.Load.Idle()
		ended, err = x.Ended()
	}
	if !ended || err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "is the disk full?") {
		t.Fatalf("ended %v: %v", ended, err)
	}
	if err := n.Stop(x); err == nil {
		t.Error("it ended without an error")
	}
	y := n.StartMiner(simnet.MinerName(2), simnet.NodeOptions{Dir: dir})
	n.To(last)
	got := digests(x, y)
	for w := range chain.Window(last + 1) {
		if got[w] != want[w] {
			t.Errorf("window %d: %.16s, want %.16s", w, got[w], want[w])
		}
	}
}

// newest is the window of the newest payload in the error feedback (docs/FORMAT.md, "Files of a node").
func newest(t *testing.T, dir string) (w chain.Window) {
	t.Helper()
	const head = len("SN3F1") + 32 + 8
	for _, name := range []string{"slot-0", "slot-1"} {
		b, err := os.ReadFile(filepath.Join(dir, "feedback", name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil || len(b) < head+8 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
			continue
		}
		w = max(w, chain.Window(binary.BigEndian.Uint64(b[head:])))
	}
	return w
}
