package simnet

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/events"
	"sn3/internal/replica"
	"sn3/model"
	"sn3/storage"
)

// slow is a judge that needs a block for every look at a payload.
type slow struct {
	model.Judge
	clock *replica.Clock
}

func (s slow) Losses(ctx context.Context, d model.Delta, scale float32, sets [][]model.Batch) ([][]float64, error) {
	if d != nil {
		if err := s.clock.WaitNext(ctx); err != nil {
			return nil, err
		}
	}
	return s.Judge.Losses(ctx, d, scale, sets)
}

// A validator that cannot score everything in time votes on what it has scored: the rest is unscored, which is not zero.
func TestSlowValidatorVotesOnWhatItScored(t *testing.T) {
	const miners = 8
	n := New(t, Options{Validators: []chain.Amount{300, 200}, Miners: miners, Change: func(r *chain.Run) {
		r.Schedule = chain.ScheduleParams{First: 4, Length: 24, Lead: 2, Deadline: 2, ScoreBy: 14, Select: 15, Apply: 16}
	}})
	var nodes []*Node
	for i := range 2 {
		nodes = append(nodes, n.StartValidator(ValidatorName(i+1), NodeOptions{Judge: func(j model.Judge, c *replica.Clock) model.Judge { return slow{j, c} }}))
	}
	for i := range miners {
		nodes = append(nodes, n.StartMiner(MinerName(i+1), NodeOptions{}))
	}
	n.To(3)
	agree(t, 3, nodes...)
	for _, v := range nodes[:2] {
		scored := v.Events(events.Scored)
		if len(scored) != 4 || len(v.Events(events.Skipped)) != 0 {
			t.Fatalf("%s voted in %d of 4 windows, skipped %+v", v.Name, len(scored), v.Events(events.Skipped))
		}
		for _, e := range scored {
			if by := v.Replica.Schedule().At(e.Window, chain.PhaseScoreBy); e.Block > by || len(e.Scores) == 0 || len(e.Scores) == miners {
				t.Errorf("%s, window %d: %d scores in block %d, at the latest %d", v.Name, e.Window, len(e.Scores), e.Block, by)
			}
		}
	}
	unscored := 0
	for i := range miners {
		h := nodes[2+i].Hotkey
		d, _ := n.verdict(t, nodes[0], h)
		won, _ := nodes[0].wins(h)
		switch {
		case d.Status == "unscored":
			unscored++
			if d.Score != 0 || d.Reason == "" {
				t.Errorf("%+v", d)
			}
		case d.Status != "scored":
			t.Errorf("%+v", d)
		}
		if won > 0 && nodes[0].Book.Entries[h].Rating <= 0 {
			t.Errorf("%s won %d times and is rated %v", nodes[2+i].Name, won, nodes[0].Book.Entries[h].Rating)
		}
	}
	if unscored == 0 {
		t.Error("it scored everything: the test shows nothing")
	}
	for _, e := range nodes[0].Events(events.Applied) {
		if len(e.Winners) == 0 {
			t.Errorf("window %d has no winners", e.Window)
		}
	}
}

// closable is a bucket that takes nothing while closed.
type closable struct {
	storage.Driver
	closed *atomic.Bool
}

func (c closable) Put(ctx context.Context, key string, body io.ReaderAt, size int64, o storage.PutOptions) error {
	if c.closed.Load() {
		return storage.ErrUnavailable
	}
	return c.Driver.Put(ctx, key, body, size, o)
}

// The larger validator's own bucket is away for four windows: it votes on, says what it waits for, and catches up on what it
// owes its bucket.
func TestValidatorVotesWithoutItsBucket(t *testing.T) {
	n := New(t, Options{Validators: []chain.Amount{300, 200}, Miners: 2})
	var closed atomic.Bool
	big := n.StartValidator(ValidatorName(1), NodeOptions{Bucket: func(d storage.Driver) storage.Driver { return closable{d, &closed} }})
	nodes := []*Node{big, n.StartValidator(ValidatorName(2), NodeOptions{}), n.StartMiner(MinerName(1), NodeOptions{}), n.StartMiner(MinerName(2), NodeOptions{})}
	n.To(1)
	closed.Store(true)
	n.To(5)
	closed.Store(false)
	n.To(7)
	agree(t, 7, nodes...)
	for _, e := range nodes[2].Events(events.Applied) {
		if len(e.Winners) != 2 {
			t.Errorf("window %d has %d winners", e.Window, len(e.Winners))
		}
	}
	if w := big.Events(events.Waiting); len(w) != 1 || !strings.Contains(w[0].Reason, "own bucket") {
		t.Errorf("it said %+v", w)
	}
	for w := range chain.Window(8) {
		n.sameFiles(t, w, nodes[:2])
	}
}

// sameFiles fails unless all validators have signed the same file of window w, and the same checkpoint if they have one.
func (n *Net) sameFiles(t *testing.T, w chain.Window, validators []*Node) {
	t.Helper()
	var first, checkpoint chain.Hash
	for i, v := range validators {
		b := n.Mem.Bucket(v.Name, false)
		raw, err := b.Get(context.Background(), fmt.Sprintf("window/%d", w), 1<<20)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		f, digest, err := replica.OpenWindowFile(local.Verifier{}, v.Hotkey, raw)
		if err != nil || f.Window != w || i > 0 && digest != first {
			t.Errorf("%s: file of window %d with After %s, digest %s, %v; the first has %s", v.Name, w, f.After.Short(), digest.Short(), err, first.Short())
		}
		first = digest
		if w != 0 && (w+1)%chain.Window(n.Run.Checkpoint) != 0 {
			continue
		}
		if raw, err = b.Get(context.Background(), fmt.Sprintf("checkpoint/%d/manifest.json", w), 1<<20); err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		_, digest, err = replica.OpenCheckpointManifest(local.Verifier{}, v.Hotkey, raw)
		if err != nil || i > 0 && digest != checkpoint {
			t.Errorf("%s: checkpoint of window %d: %s, %v; the first has %s", v.Name, w, digest.Short(), err, checkpoint.Short())
		}
		checkpoint = digest
	}
}

// A flipped bit in a validator's replica, just before a checkpoint is due: it says so and starts over, and what it signed
// while it was wrong is replaced in its bucket. Nobody else is disturbed.
func TestDivergedValidatorTakesBackWhatItSigned(t *testing.T) {
	n, nodes := start(t, Options{Miners: 3}, plain)
	n.To(2)
	bad := nodes[1]
	bad.Replica.Corrupt(1234)
	n.To(8)
	agree(t, 8, nodes...)
	ev := bad.Events(events.Diverged)
	if len(ev) == 0 || len(bad.Events(events.Resync)) == 0 {
		t.Fatalf("it did not notice: %+v", ev)
	}
	wrong := bad.Events(events.Applied)
	differs := false
	for _, e := range wrong {
		differs = differs || e.Window == 3 && *e.Root != nodes[0].Roots()[3]
	}
	if !differs {
		t.Fatal("it was never wrong: the test shows nothing")
	}
	for w := range chain.Window(9) {
		n.sameFiles(t, w, nodes[:2])
	}
	for _, x := range nodes {
		if x != bad && len(x.Events(events.Diverged)) > 0 {
			t.Errorf("%s thinks it diverged", x.Name)
		}
		if x != bad && x.Roots()[5] != nodes[0].Roots()[5] {
			t.Errorf("%s has another root", x.Name)
		}
	}
}

// hidden is a bucket that some node cannot read payloads from: not at all while away is set, or not in time (hang).
type hidden struct {
	storage.Driver
	away *atomic.Bool
	hang bool
}

func (h hidden) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if !h.away.Load() || !strings.HasPrefix(key, "payload/") {
		return h.Driver.Get(ctx, key, off, n)
	}
	if h.hang {
		<-ctx.Done()
	}
	return nil, storage.ErrUnavailable
}

// A winner whose bucket serves the validators but hangs for everybody else costs nobody the window: the mirrors have it.
func TestWinnersBucketHangsForMiners(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	n, nodes := start(t, Options{Miners: 3}, func(i int) NodeOptions {
		return NodeOptions{Open: func(l storage.Locator, d storage.Driver) storage.Driver {
			if l.Bucket() != MinerName(1) || i == 1 {
				return d
			}
			return hidden{d, &away, true}
		}}
	})
	n.To(2)
	agree(t, 2, nodes...)
	if won, windows := nodes[0].wins(nodes[2].Hotkey); won != windows {
		t.Errorf("it was selected in %d of %d windows: the test shows nothing", won, windows)
	}
	for _, x := range nodes[3:] {
		if got, want := len(x.Events(events.Submit)), len(nodes[2].Events(events.Submit)); got != want || len(x.Events(events.Waiting)) > 0 {
			t.Errorf("%s submitted %d times of %d, waited %+v", x.Name, got, want, x.Events(events.Waiting))
		}
	}
}

// A node that can get a winner's payload from nowhere waits, however long, and says for what; it never goes on without. When
// the payload comes it catches up to everybody's root.
func TestWinnerIsNeverSkipped(t *testing.T) {
	var away atomic.Bool
	n, nodes := start(t, Options{Miners: 3}, func(i int) NodeOptions {
		if i != 2 {
			return NodeOptions{}
		}
		return NodeOptions{Open: func(_ storage.Locator, d storage.Driver) storage.Driver { return hidden{d, &away, false} }}
	})
	n.To(1)
	away.Store(true)
	n.To(6)
	alone := nodes[3]
	if w, _ := alone.Replica.Applied(); w != 2 {
		t.Errorf("without the payloads of window 2 it applied %d windows", w)
	}
	if w := alone.Events(events.Waiting); len(w) == 0 || !strings.Contains(w[0].Reason, "payload of ") || !strings.Contains(w[0].Reason, "in window 2") {
		t.Errorf("it said %+v", w)
	}
	if got := len(nodes[0].Roots()); got != 7 {
		t.Errorf("the others applied %d windows", got)
	}
	away.Store(false)
	n.To(9)
	agree(t, 9, nodes...)
	for w := range chain.Window(10) {
		if alone.Roots()[w] != nodes[0].Roots()[w] {
			t.Errorf("window %d: another root", w)
		}
	}
	if len(alone.Events(events.Resumed)) == 0 {
		t.Error("it did not say that the payloads came")
	}
	won := 0
	for _, e := range nodes[0].Events(events.Applied) {
		for _, h := range e.Winners {
			if h == alone.Hotkey && e.Window >= 8 {
				won++
			}
		}
	}
	if won == 0 {
		t.Error("it was never selected again")
	}
}
