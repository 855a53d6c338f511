package simnet

import (
	"bytes"
	"context"
	"testing"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/internal/replica"
	"sn3/miner/mining"
	"sn3/model"
	"sn3/model/data"
)

// start runs two validators (3:2) and the first miners.
func start(t *testing.T, o Options, with func(i int) NodeOptions) (*Net, []*Node) {
	t.Helper()
	if o.Validators == nil {
		o.Validators = []chain.Amount{300, 200}
	}
	n := New(t, o)
	var nodes []*Node
	for i := range o.Validators {
		nodes = append(nodes, n.StartValidator(ValidatorName(i+1), NodeOptions{}))
	}
	for i := range o.Miners {
		nodes = append(nodes, n.StartMiner(MinerName(i+1), with(i+1)))
	}
	return n, nodes
}

func plain(int) NodeOptions { return NodeOptions{} }

// agree fails unless every node has the same root after window w.
func agree(t *testing.T, w chain.Window, nodes ...*Node) chain.Hash {
	t.Helper()
	want := nodes[0].Roots()[w]
	for _, x := range nodes {
		if got := x.Roots()[w]; got == (chain.Hash{}) || got != want {
			t.Errorf("%s: root of window %d is %s, %s has %s", x.Name, w, got.Short(), nodes[0].Name, want.Short())
		}
	}
	return want
}

// flipped turns what was learned around: the pseudo-gradient has the opposite sign.
type flipped struct {
	model.Trainer
	start *model.Flat
}

func (f *flipped) Reset(ctx context.Context, w model.Weights) error {
	f.start = model.NewFlat(w.Layout())
	if err := f.start.CopyFrom(w); err != nil {
		return err
	}
	return f.Trainer.Reset(ctx, w)
}

func (f *flipped) Trained() model.Weights {
	out := model.NewFlat(f.start.Layout())
	if err := out.CopyFrom(f.Trainer.Trained()); err != nil {
		return f.start
	}
	for i := range out.Data {
		out.Data[i] = 2*f.start.Data[i] - out.Data[i]
	}
	return out
}

// Twenty miners, one of them sign-flipped: at most 15 are selected, the flipped one never.
func TestTwentyMiners(t *testing.T) {
	n, nodes := start(t, Options{Miners: 20, Learn: true}, func(i int) NodeOptions {
		if i == 7 {
			return NodeOptions{Trainer: func(tr model.Trainer, _ *replica.Clock) model.Trainer { return &flipped{Trainer: tr} }}
		}
		return NodeOptions{}
	})
	last := chain.Window(4)
	if testing.Short() {
		last = 1
	}
	n.To(last)
	agree(t, last, nodes...)
	bad := nodes[2+6]
	for _, e := range nodes[0].Events(events.Applied) {
		if len(e.Winners) != 15 {
			t.Errorf("window %d has %d winners", e.Window, len(e.Winners))
		}
		for i, h := range e.Winners {
			if h == bad.Hotkey {
				t.Errorf("window %d: the sign-flipped miner was selected", e.Window)
			}
			if i > 0 && bytes.Compare(e.Winners[i-1][:], h[:]) >= 0 {
				t.Errorf("window %d: winners are not in the order of their hotkeys", e.Window)
			}
		}
	}
}

// A miner that makes half the steps is rated below all others within 8 windows.
func TestHalfTheStepsIsRatedBelow(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	n, nodes := start(t, Options{Miners: 5, Learn: true}, func(i int) NodeOptions {
		if i == 2 {
			return NodeOptions{MaxSteps: 5}
		}
		return NodeOptions{}
	})
	n.To(7)
	book := nodes[0].Book
	lazy := book.Entries[nodes[2+1].Hotkey].Rating
	for i := range 5 {
		if r := book.Entries[nodes[2+i].Hotkey].Rating; i != 1 && r <= lazy {
			t.Errorf("miner-%d is rated %.3f, the lazy one %.3f", i+1, r, lazy)
		}
	}
}

// A miner that trains on data not assigned to it is told from the others by its own-minus-unseen gain.
func TestUnassignedDataShows(t *testing.T) {
	n, nodes := start(t, Options{Miners: 5, Learn: true, Noise: true, Change: func(r *chain.Run) { r.Score.Own = 40 }}, func(i int) NodeOptions {
		if i != 3 {
			return NodeOptions{}
		}
		return NodeOptions{Batches: func(d *data.Dataset, a data.Assignment) model.Batches {
			other := d.Unassigned([]byte("elsewhere"), a.Digest[:], 0, 1, 1, len(a.Samples))
			return d.Batches(data.Assignment{Samples: other}, 4)
		}}
	})
	n.To(3)
	book := nodes[0].Book
	cheat := book.Entries[nodes[2+2].Hotkey].Proof()
	for i := range 5 {
		if p := book.Entries[nodes[2+i].Hotkey].Proof(); i != 2 && p <= cheat {
			t.Errorf("miner-%d has accumulated z %.2f, the one on other data %.2f", i+1, p, cheat)
		}
	}
	t.Logf("accumulated z of the one on other data %.2f, of the first %.2f", cheat, book.Entries[nodes[2].Hotkey].Proof())
	if got := book.Cheats(); len(got) != 1 || !got[nodes[2+2].Hotkey] {
		t.Errorf("accused are %v", got)
	}
}

// A late joiner starts from a checkpoint at least 3 windows old, replays, and reaches the root.
func TestLateJoinerCatchesUp(t *testing.T) {
	n, nodes := start(t, Options{Miners: 3, Spare: 1}, plain)
	n.To(10) // checkpoints at 0, 3, 7
	late := n.StartMiner(MinerName(4), NodeOptions{})
	n.To(14)
	agree(t, 14, append(nodes, late)...)
	if ev := late.Events(events.Resync); len(ev) != 1 || ev[0].Window != 7 {
		t.Errorf("it started from %+v, want the checkpoint of window 7", ev)
	}
	if got := late.Events(events.Submit); len(got) == 0 {
		t.Error("it never submitted")
	}
	won := false
	for _, e := range nodes[0].Events(events.Applied) {
		for _, h := range e.Winners {
			won = won || h == late.Hotkey
		}
	}
	if !won {
		t.Error("it was never selected")
	}
}

// A checkpoint that one validator tampered with is refused; the other's is used. With the larger validator's files forged
// no quorum is left and the joiner replays from the chain instead: the root is the same.
func TestTamperedCheckpointIsRefused(t *testing.T) {
	n, nodes := start(t, Options{Validators: []chain.Amount{300, 200, 200}, Miners: 2, Spare: 1}, plain)
	n.To(8)
	bucket := n.Mem.Bucket(ValidatorName(2), true)
	key := "checkpoint/7/manifest.json"
	raw, err := bucket.Get(context.Background(), key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.Put(context.Background(), key, bytes.Replace(raw, []byte(`"window":7`), []byte(`"window":6`), 1)); err != nil {
		t.Fatal(err)
	}
	big := n.Mem.Bucket(ValidatorName(1), true)
	if err := big.Put(context.Background(), "checkpoint/7/model.safetensors", []byte("not a model")); err != nil {
		t.Fatal(err)
	}
	late := n.StartMiner(MinerName(3), NodeOptions{})
	n.To(10)
	agree(t, 10, append(nodes, late)...)
	if ev := late.Events(events.Resync); len(ev) != 1 || ev[0].Window != 7 {
		t.Errorf("it started from %+v, want the third validator's checkpoint of window 7", ev)
	}
}

// One bit flipped in one replica: that node says so, starts over, and has the others' root again.
func TestFlippedBitResyncs(t *testing.T) {
	n, nodes := start(t, Options{Miners: 3}, plain)
	n.To(5)
	bad := nodes[3]
	bad.Replica.Corrupt(1234)
	n.To(9)
	agree(t, 9, nodes...)
	ev := bad.Events(events.Diverged)
	if len(ev) == 0 {
		t.Fatal("it did not notice")
	}
	rejected := false
	for _, e := range nodes[0].Events(events.Rejected) {
		rejected = rejected || *e.Peer == bad.Hotkey
	}
	if !rejected {
		t.Error("no validator named it")
	}
	for _, x := range nodes {
		if x != bad && len(x.Events(events.Diverged)) > 0 {
			t.Errorf("%s thinks it diverged", x.Name)
		}
	}
}

// Gap train makes steps before Apply, and leaving out the shift to the new model gives another result.
func TestGapTrainNeedsRebase(t *testing.T) {
	run := func(rebase bool) (chain.Hash, int) {
		n, nodes := start(t, Options{Miners: 2}, func(int) NodeOptions { return NodeOptions{Gap: mining.Train, MaxEarly: 6, NoRebase: !rebase} })
		n.To(4)
		early := 0
		for _, e := range nodes[2].Events(events.Train) {
			early += e.EarlySteps
		}
		return agree(t, 4, nodes...), early
	}
	with, early := run(true)
	if early == 0 {
		t.Error("no steps before Apply")
	}
	if without, _ := run(false); without == with {
		t.Error("leaving out Rebase changes nothing")
	}
}

// The same network twice gives the same roots: nothing depends on the machine's speed or on goroutine order.
func TestDeterministic(t *testing.T) {
	run := func() chain.Hash {
		n, nodes := start(t, Options{Miners: 3}, plain)
		n.To(3)
		return agree(t, 3, nodes...)
	}
	if a, b := run(), run(); a != b {
		t.Errorf("%s, then %s", a.Short(), b.Short())
	}
}

// With stakes 3:2 the larger validator's absence gives windows without winners, the smaller one's changes nothing.
func TestValidatorsAbsent(t *testing.T) {
	n, nodes := start(t, Options{Miners: 2}, plain)
	winners := func(w chain.Window) int {
		for _, e := range nodes[2].Events(events.Applied) {
			if e.Window == w {
				return len(e.Winners)
			}
		}
		return -1
	}
	n.To(2)
	if err := n.Stop(nodes[1]); err != nil {
		t.Fatal(err)
	}
	n.To(5)
	if winners(4) != 2 {
		t.Errorf("without the smaller validator window 4 has %d winners", winners(4))
	}
	if err := n.Stop(nodes[0]); err != nil {
		t.Fatal(err)
	}
	n.To(8)
	if winners(7) != 0 {
		t.Errorf("without any validator window 7 has %d winners", winners(7))
	}
	if a, b := nodes[2].Roots()[7], nodes[2].Roots()[8]; a != b {
		t.Error("the model moved without winners")
	}
}
