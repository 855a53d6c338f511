package simnet

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/internal/events"
)

// pruned runs a network whose chain forgets after two windows, up to window 9, and takes away every checkpoint but the first:
// who joins then must replay windows that only the validators' signed files still tell of.
func pruned(t *testing.T) (*Net, []*Node) {
	t.Helper()
	n, nodes := start(t, Options{Validators: []chain.Amount{300, 200, 200}, Miners: 2, Spare: 1, KeepChain: 2}, plain)
	n.To(9)
	for _, v := range nodes[:3] {
		b := n.Mem.Bucket(v.Name, true)
		page, err := b.List(context.Background(), "checkpoint/", "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page {
			if strings.HasPrefix(o.Key, "checkpoint/0/") {
				continue
			}
			if err := b.Delete(context.Background(), o.Key); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n, nodes
}

// tamper changes a validator's file of a window without signing it again.
func (n *Net) tamper(t *testing.T, validator string, w chain.Window) {
	t.Helper()
	b, key := n.Mem.Bucket(validator, true), fmt.Sprintf("window/%d", w)
	raw, err := b.Get(context.Background(), key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(raw, []byte(`"score":1`), []byte(`"score":2`), 1)
	if bytes.Equal(changed, raw) {
		t.Fatalf("nothing to change in %s", raw)
	}
	if err := b.Put(context.Background(), key, changed); err != nil {
		t.Fatal(err)
	}
}

// A late joiner replays windows from their signed files, from a checkpoint nine windows old, and reaches the root. A file
// that one validator tampered with is refused and the others' suffice.
func TestLateJoinerReplaysWindowFiles(t *testing.T) {
	n, nodes := pruned(t)
	n.tamper(t, ValidatorName(2), 3)
	late := n.StartMiner(MinerName(3), NodeOptions{})
	n.To(13)
	agree(t, 13, append(nodes, late)...)
	if ev := late.Events(events.Resync); len(ev) != 1 || ev[0].Window != 0 {
		t.Errorf("it started from %+v, want the checkpoint of window 0", ev)
	}
	for w := chain.Window(1); w < 14; w++ {
		if late.Roots()[w] != nodes[0].Roots()[w] {
			t.Errorf("window %d: another root", w)
		}
	}
	if len(late.Events(events.Submit)) == 0 {
		t.Error("it never submitted")
	}
}

// With two of three files tampered with no quorum is left: the joiner waits and says for what, and never takes one.
func TestTamperedWindowFilesAreRefused(t *testing.T) {
	n, nodes := pruned(t)
	n.tamper(t, ValidatorName(1), 3)
	n.tamper(t, ValidatorName(2), 3)
	late := n.StartMiner(MinerName(3), NodeOptions{})
	n.To(10)
	if got := len(late.Roots()); got != 2 {
		t.Errorf("it applied %d windows, want those before window 3", got)
	}
	if w := late.Events(events.Waiting); len(w) == 0 || !strings.Contains(w[0].Reason, "the signed file of window 3") {
		t.Errorf("it said %+v", w)
	}
	agree(t, 10, nodes...)
}

// A node that was away for longer than anything is kept starts from the newest checkpoint, its own old state notwithstanding.
func TestAwayForLong(t *testing.T) {
	n, nodes := start(t, Options{Miners: 2, Spare: 1, KeepChain: 2, Change: func(r *chain.Run) { r.Checkpoint, r.Keep = 2, 5 }}, plain)
	dir := n.Dir()
	x := n.StartMiner(MinerName(3), NodeOptions{Dir: dir})
	n.To(2)
	if err := n.Stop(x); err != nil {
		t.Fatal(err)
	}
	n.To(14)
	x = n.StartMiner(MinerName(3), NodeOptions{Dir: dir})
	n.To(18)
	agree(t, 18, append(nodes, x)...)
	won := false
	for _, e := range nodes[0].Events(events.Applied) {
		for _, h := range e.Winners {
			won = won || h == x.Hotkey && e.Window > 14
		}
	}
	if !won {
		t.Error("it was not selected again")
	}
}
