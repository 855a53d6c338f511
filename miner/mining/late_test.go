package mining_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/replica"
	"sn3/internal/simnet"
	"sn3/miner/mining"
	"sn3/model"
	"sn3/storage"
)

// heavy is a trainer whose inner steps last blocks; like a real one it ends no step before it is made.
type heavy struct {
	model.Trainer
	model.Persister
	clock *replica.Clock
	halt  context.Context
	lasts func(w chain.Window, step int) chain.Block
}

func (h heavy) Train(ctx context.Context, b model.Batches, budget model.Budget) (model.Report, error) {
	w, step := chain.Window(budget.First/perWindow), int(budget.First%perWindow)
	if err := h.clock.Wait(h.halt, h.clock.Now().Block+h.lasts(w, step)); err != nil {
		return model.Report{}, nil
	}
	return h.Trainer.Train(context.WithoutCancel(ctx), b, budget)
}

// slow are the options of a miner whose inner steps last blocks, and what ends a step in the middle: to be called before the miner is
// stopped.
func slow(gap mining.Gap, dir string, lasts func(chain.Window, int) chain.Block) (simnet.NodeOptions, context.CancelFunc) {
	halt, cancel := context.WithCancel(context.Background())
	return simnet.NodeOptions{Gap: gap, Dir: dir, Trainer: func(tr model.Trainer, c *replica.Clock) model.Trainer {
		return heavy{tr, tr.(model.Persister), c, halt, lasts}
	}}, cancel
}

func every(n chain.Block) func(chain.Window, int) chain.Block {
	return func(chain.Window, int) chain.Block { return n }
}

// history is a miner's steps by window from w on, with + where it was selected.
func history(x *simnet.Node, w, last chain.Window) string {
	steps, won := map[chain.Window]int{}, map[chain.Window]string{}
	for _, e := range x.Events(events.Train) {
		steps[e.Window] = e.Steps
	}
	for _, e := range x.Events(events.Applied) {
		if slices.Contains(e.Winners, x.Hotkey) {
			won[e.Window] = "+"
		}
	}
	var b strings.Builder
	for ; w <= last; w++ {
		fmt.Fprintf(&b, "%d%s ", steps[w], won[w])
	}
	return strings.TrimSpace(b.String())
}

// A miner is selected in every window in which one step fits, with as many as fit, whenever it joins: windows of 8 blocks, θ there
// after 5, records counted until 2 after the end. Gap wait has no more room than that after θ's arrival.
func TestSlowMinerSubmitsWhatFits(t *testing.T) {
	const last = 6
	for _, c := range []struct {
		gaps  string
		lasts chain.Block
		join  chain.Window
		want  string
	}{
		{"wait", 1, 0, "8+ 3+ 3+ 3+ 3+ 3+ 3+"},
		{"wait", 4, 3, "1 1+ 1+ 1+"}, // ends a block after the window
		{"wait", 5, 0, "1+ 0 1 0 1 0 1"},
		{"train auto", 3, 0, "2+ 2+ 2+ 2+ 2+ 2+ 2+"},
		{"train auto", 5, 3, "1 1+ 1+ 1+"},
		{"train auto", 8, 2, "1 0 1 1+ 1+"}, // the first begins late
	} {
		for gap := range strings.FieldsSeq(c.gaps) {
			o, halt := slow(mining.Gap(gap), t.TempDir(), every(c.lasts))
			n, x := joined(t, o, c.join)
			n.To(last)
			if got := history(x, c.join, last); got != c.want {
				t.Errorf("%s, steps of %d blocks, from window %d: %s, want %s; %v", gap, c.lasts, c.join, got, c.want, x.Events(events.Skipped))
			}
			halt()
		}
	}
}

// Where no step fits into a window, the operator is told what to do, every other window tries, and a machine that becomes faster is
// soon selected again.
func TestTooSlowForAStep(t *testing.T) {
	for _, gap := range mining.Gaps() {
		o, halt := slow(gap, t.TempDir(), func(w chain.Window, _ int) chain.Block {
			if w < 5 {
				return 13
			}
			return 1
		})
		n, x := network(t, o)
		n.To(9)
		if got := history(x, 8, 9); strings.Count(got, "+") != 2 {
			t.Errorf("gap %s: after it became faster: %s", gap, got)
		}
		told := 0
		for _, e := range x.Events(events.Skipped) {
			if strings.Contains(e.Reason, "takes 13 blocks") && strings.Contains(e.Reason, "more --threads") {
				told++
			}
		}
		halt()
		if got := history(x, 0, 4); told == 0 || strings.Contains(got, "+") || !strings.Contains(got, "1") {
			t.Errorf("gap %s: %s; told %v", gap, got, x.Events(events.Skipped))
		}
	}
}

// No window is lost to a machine that becomes slower or faster by as much as here. A step that hangs for windows costs these and the
// warm-up after them.
func TestSpeedChanges(t *testing.T) {
	for _, c := range []struct {
		name  string
		lasts func(w chain.Window, step int) chain.Block
		want  map[mining.Gap]string
	}{
		{"slower, then faster", func(w chain.Window, _ int) chain.Block {
			if w == 3 || w == 4 {
				return 3
			}
			return 1
		}, map[mining.Gap]string{mining.Wait: "8+ 3+ 3+ 1+ 1+ 1+ 3+ 3+", mining.Train: "8+ 8+ 8+ 2+ 2+ 8+ 8+ 8+", mining.Auto: "8+ 8+ 8+ 2+ 2+ 8+ 8+ 8+"}},
		{"one step hangs", func(w chain.Window, step int) chain.Block {
			if w == 2 && step == 1 {
				return 20
			}
			return 1
		}, map[mining.Gap]string{mining.Wait: "8+ 3+ 2 0 0 1 3+ 3+", mining.Train: "8+ 8+ 2 0 1 8+ 8+ 8+", mining.Auto: "8+ 8+ 2 0 1 8+ 8+ 8+"}},
	} {
		for gap, want := range c.want {
			o, halt := slow(gap, t.TempDir(), c.lasts)
			n, x := network(t, o)
			n.To(7)
			if got := history(x, 0, 7); got != want {
				t.Errorf("%s, gap %s: %s, want %s; %v", c.name, gap, got, want, x.Events(events.Skipped))
			}
			halt()
		}
	}
}

// A slow miner that is killed in the middle of a step knows nothing of its pace when it comes back, and yet loses no further window.
func TestSlowMinerRestarts(t *testing.T) {
	for gap, want := range map[mining.Gap]string{mining.Wait: "1+ 1+ 1+ 1+", mining.Train: "2+ 2+ 2+ 2+", mining.Auto: "2+ 2+ 2+ 2+"} {
		var began atomic.Bool
		o, halt := slow(gap, t.TempDir(), func(w chain.Window, _ int) chain.Block {
			if w == 3 {
				began.Store(true)
			}
			return 3
		})
		n, x := network(t, o)
		for !began.Load() {
			n.Tick()
			n.Load.Idle()
		}
		halt()
		if err := n.Stop(x); err != nil {
			t.Fatal(err)
		}
		again, halt := slow(gap, o.Dir, every(3))
		y := n.StartMiner(simnet.MinerName(2), again)
		n.To(7)
		if got := history(y, 4, 7); got != want || history(y, 3, 3) == "0" {
			t.Errorf("gap %s: %s, %s, want %s; %v", gap, history(y, 3, 3), got, want, y.Events(events.Skipped))
		}
		halt()
	}
}

// Nothing of the pace depends on the machine that simulates it: a slow miner in the same network submits the same bytes twice.
func TestSlowMinerIsExact(t *testing.T) {
	var first map[chain.Window]string
	for range 2 {
		o, halt := slow(mining.Wait, t.TempDir(), func(w chain.Window, step int) chain.Block { return chain.Block(1 + (int(w)+step)%3) })
		n, x := network(t, o)
		n.To(6)
		got := digests(x)
		if len(got) != 7 || first != nil && !maps.Equal(got, first) {
			t.Errorf("submitted %v, before %v", got, first)
		}
		first = got
		halt()
	}
}

// uphill is a bucket to which a payload takes blocks to upload.
type uphill struct {
	storage.Driver
	clock func() *replica.Clock
	lasts func(chain.Block) chain.Block
}

func (u uphill) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o storage.PutOptions) error {
	if strings.HasPrefix(key, "payload/") {
		now := u.clock().Now().Block
		if err := u.clock().Wait(ctx, now+u.lasts(now)); err != nil {
			return err
		}
	}
	return u.Driver.Put(ctx, key, body, size, o)
}

// A miner whose upload takes longer than there is from the end of a window to the deadline ends its steps earlier until it is in
// time, and stays in time. An upload that is slow once costs that window only.
func TestSlowUpload(t *testing.T) {
	for _, c := range []struct {
		name  string
		lasts func(chain.Block) chain.Block
		want  string
	}{
		{"always", func(chain.Block) chain.Block { return 3 }, "8 8 7 5+ 3+ 5+ 5+ 5+ 5+ 5+"},
		{"once", func(now chain.Block) chain.Block {
			if now >= 20 && now < 28 {
				return 9
			}
			return 0
		}, "8+ 8 8+ 7+ 8+ 8+ 8+ 8+ 8+ 8+"},
	} {
		o, halt := slow(mining.Train, t.TempDir(), every(1))
		heavy, clock := o.Trainer, (*replica.Clock)(nil)
		o.Trainer = func(tr model.Trainer, k *replica.Clock) model.Trainer { clock = k; return heavy(tr, k) }
		o.Bucket = func(d storage.Driver) storage.Driver {
			return uphill{d, func() *replica.Clock { return clock }, c.lasts}
		}
		n, x := network(t, o)
		n.To(9)
		if got := history(x, 0, 9); got != c.want {
			t.Errorf("slow %s: %s, want %s; %v", c.name, got, c.want, x.Events(events.Skipped))
		}
		halt()
	}
}

// A miner that waits for θ, and whose uploads were too slow for some windows, expects them to stay so, until no time is left for a
// step: then it tries what there is usually, and is selected again as soon as uploads are quick.
func TestWaitingMinerRecovers(t *testing.T) {
	o, halt := slow(mining.Wait, t.TempDir(), every(1))
	defer halt()
	heavy, clock := o.Trainer, (*replica.Clock)(nil)
	o.Trainer = func(tr model.Trainer, k *replica.Clock) model.Trainer { clock = k; return heavy(tr, k) }
	o.Bucket = func(d storage.Driver) storage.Driver {
		return uphill{d, func() *replica.Clock { return clock }, func(now chain.Block) chain.Block {
			if now >= 20 && now < 44 {
				return 9
			}
			return 0
		}}
	}
	n, x := network(t, o)
	n.To(10)
	if got := history(x, 8, 10); strings.Count(got, "+") != 3 {
		t.Errorf("%s; %v", history(x, 0, 10), x.Events(events.Skipped))
	}
}
