package mining_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/replica"
	"sn3/internal/simnet"
	"sn3/miner/mining"
	"sn3/model"
)

// perWindow is H of the networks below.
const perWindow = 10

// hooked is a trainer that asks before each inner step of a window.
type hooked struct {
	model.Trainer
	model.Persister
	before func(ctx context.Context, w chain.Window, step int, b model.Batches) (skip bool, err error)
}

func (h hooked) Train(ctx context.Context, b model.Batches, budget model.Budget) (model.Report, error) {
	w, step := chain.Window(budget.First/perWindow), int(budget.First%perWindow)
	if skip, err := h.before(ctx, w, step, b); skip || err != nil {
		return model.Report{}, err
	}
	return h.Trainer.Train(ctx, b, budget)
}

func hook(before func(context.Context, chain.Window, int, model.Batches) (bool, error)) func(model.Trainer, *replica.Clock) model.Trainer {
	return func(tr model.Trainer, _ *replica.Clock) model.Trainer {
		return hooked{tr, tr.(model.Persister), before}
	}
}

// network is one validator and two miners; the second is told apart.
func network(t *testing.T, o simnet.NodeOptions) (*simnet.Net, *simnet.Node) { return joined(t, o, 0) }

// joined is a network whose second miner begins in window w.
func joined(t *testing.T, o simnet.NodeOptions, w chain.Window) (*simnet.Net, *simnet.Node) {
	t.Helper()
	n := simnet.New(t, simnet.Options{Validators: []chain.Amount{300}, Miners: 2})
	if n.Run.Train.InnerSteps != perWindow {
		t.Fatalf("%d inner steps", n.Run.Train.InnerSteps)
	}
	n.StartValidator(simnet.ValidatorName(1), simnet.NodeOptions{})
	first := n.StartMiner(simnet.MinerName(1), simnet.NodeOptions{})
	for w > 0 && n.Chain.Height() < first.Replica.Schedule().At(w, chain.PhaseStart) {
		n.Tick()
		n.Load.Idle()
	}
	return n, n.StartMiner(simnet.MinerName(2), o)
}

// digests are what a miner submitted, by window: a manifest's hash binds payload, base, assignment, steps and rebase.
func digests(nodes ...*simnet.Node) map[chain.Window]string {
	out := map[chain.Window]string{}
	for _, x := range nodes {
		for _, e := range x.Events(events.Submit) {
			out[e.Window] += e.Digest.String()
		}
	}
	return out
}

// killed runs a network whose second miner begins in window join, is killed before an inner step and starts again at once, to the
// end of window last. The folder is left as kill -9 leaves it: what an orderly end writes is taken back.
func killed(t *testing.T, o simnet.NodeOptions, join, w chain.Window, step int, last chain.Window) (before, after *simnet.Node) {
	t.Helper()
	var n *simnet.Net
	var dead atomic.Bool
	o.Trainer = hook(func(ctx context.Context, at chain.Window, s int, _ model.Batches) (bool, error) {
		if at != w || s != step || dead.Load() {
			return false, nil
		}
		dead.Store(true)
		n.Load.Add(-1) // the dead do no work: time goes on
		<-ctx.Done()
		n.Load.Add(1)
		return true, nil
	})
	o.Dir = t.TempDir()
	n, before = joined(t, o, join)
	for !dead.Load() {
		n.Tick()
		n.Load.Idle()
	}
	inner := filepath.Join(o.Dir, "inner.sn3")
	saved, err := os.ReadFile(inner)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := n.Stop(before); err != nil {
		t.Fatal(err)
	}
	if saved == nil {
		err = os.RemoveAll(inner)
	} else {
		err = os.WriteFile(inner, saved, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	o.Trainer = nil
	after = n.StartMiner(simnet.MinerName(2), o)
	n.To(last)
	return before, after
}

// Issue 4, "Determinism": a miner that is killed at any inner step and makes the same steps on the same batches, with the
// rebase at the same step, submits the same bytes in that window and in all later ones. Saved every window. In gap train a
// rebase at the same step is only possible while θ has not come; killed after it, the miner starts from θ and submits other
// bytes.
func TestRestartedMinerSubmitsTheSameBytes(t *testing.T) {
	const last = 4
	for _, gap := range []mining.Gap{mining.Wait, mining.Train} {
		o := simnet.NodeOptions{Gap: gap, MaxEarly: 4}
		n, x := network(t, o)
		n.To(last)
		want := digests(x)
		for w := range chain.Window(last + 1) {
			if want[w] == "" {
				t.Fatalf("gap %s: nothing was submitted in window %d: the test shows nothing", gap, w)
			}
		}
		for _, at := range []struct {
			w    chain.Window
			step int
		}{{0, 3}, {2, 0}, {2, 2}, {3, 5}, {3, 9}} {
			t.Run(fmt.Sprintf("%s, window %d, step %d", gap, at.w, at.step), func(t *testing.T) {
				got := digests(killed(t, o, 0, at.w, at.step, last))
				for w := range chain.Window(last + 1) {
					if gap == mining.Train && at.step > o.MaxEarly && w >= at.w && got[w] != "" {
						continue
					}
					if got[w] != want[w] {
						t.Errorf("window %d: %.16s, want %.16s", w, got[w], want[w])
					}
				}
				if gap == mining.Train && at.w == 3 && early(x, 3) != 4 {
					t.Errorf("%d steps before θ came: the test shows nothing about the rebase", early(x, 3))
				}
			})
		}
	}
}

func early(x *simnet.Node, w chain.Window) int {
	for _, e := range x.Events(events.Train) {
		if e.Window == w {
			return e.EarlySteps
		}
	}
	return -1
}

// Moments saved every third window are stale after a kill two windows later: the miner trains one window without submitting,
// then submits again. After an orderly end it goes on at once.
func TestSaveEveryThirdWindow(t *testing.T) {
	o := simnet.NodeOptions{SaveEvery: 3}
	for _, c := range []struct {
		w    chain.Window
		warm bool
	}{{3, false}, {4, true}, {5, true}, {6, false}} { // saved after windows 2 and 5
		before, after := killed(t, o, 0, c.w, 4, c.w+1)
		got := digests(before, after)
		if (got[c.w] == "") != c.warm || got[c.w+1] == "" {
			t.Errorf("killed in window %d: submitted %v", c.w, got)
		}
		for _, e := range after.Events(events.Skipped) {
			if e.Window == c.w && strings.Contains(e.Reason, "warming up") != c.warm {
				t.Errorf("killed in window %d: %q", c.w, e.Reason)
			}
		}
	}
	o.Dir = t.TempDir()
	n, x := network(t, o)
	n.To(3)
	if err := n.Stop(x); err != nil {
		t.Fatal(err)
	}
	x = n.StartMiner(simnet.MinerName(2), o)
	n.To(6)
	if got := digests(x); got[5] == "" || got[6] == "" {
		t.Errorf("after an orderly end it submitted in %v, skipped %v", got, x.Events(events.Skipped))
	}
}

// A window is never submitted twice: who comes back in a window whose submission is out leaves it at that. With moments of the
// window before, as saving every third leaves them, nothing else would stop it.
func TestNoSecondSubmission(t *testing.T) {
	o := simnet.NodeOptions{SaveEvery: 3, Dir: t.TempDir()}
	n, x := network(t, o)
	inner := filepath.Join(o.Dir, "inner.sn3")
	for len(digests(x)) < 4 { // windows 0 to 3; saved after 2
		n.Tick()
		n.Load.Idle()
	}
	saved, err := os.ReadFile(inner)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Stop(x); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(inner, saved, 0o600); err != nil {
		t.Fatal(err)
	}
	y := n.StartMiner(simnet.MinerName(2), o)
	n.To(6)
	if got := digests(y); got[3] != "" || got[5] == "" || got[6] == "" {
		t.Errorf("after the restart it submitted in %v", got)
	}
	if s := y.Events(events.Skipped); len(s) == 0 || !strings.Contains(s[0].Reason, "submitted before the restart") {
		t.Errorf("it skipped %+v", s)
	}
}
