package main

import (
	"path/filepath"
	"strings"
	"testing"

	"sn3/chain"
	"sn3/internal/events"
	"sn3/scripts/localnet/netdir"
)

// diary is a watch of three nodes that reads no files.
func diary() *watch {
	n := &network{run: &chain.Run{Schedule: chain.ScheduleParams{Length: 10}}}
	w := newWatch(n)
	w.out = newVoice("json")
	for i, name := range []string{"validator-1", "miner-1", "miner-2"} {
		n.set.Nodes = append(n.set.Nodes, netdir.Node{Name: name, Hotkey: chain.Hotkey{byte(i + 1)}})
		w.tails[name] = nil
	}
	return w
}

func applied(win chain.Window, root byte) events.Event {
	return events.Event{Kind: events.Applied, Window: win, Block: 50, Root: &chain.Hash{root}, Winners: []chain.Hotkey{{2}}}
}

// A window is shown when all applied it and it was measured, or when the network is two windows further.
func TestComplete(t *testing.T) {
	w := diary()
	w.take("validator-1", applied(0, 7))
	w.take("miner-1", applied(0, 7))
	if got := w.reason(); got != "miner-2 to apply window 0" {
		t.Errorf("waits for %q", got)
	}
	w.take("miner-2", applied(0, 7))
	if w.complete(0) {
		t.Error("complete without its loss")
	}
	if got := w.reason(); !strings.HasPrefix(got, "the held-out loss after window 0") {
		t.Errorf("waits for %q", got)
	}
	w.take("validator-1", events.Event{Kind: events.Eval, Window: 0, Loss: 5})
	if !w.complete(0) || w.complete(1) {
		t.Error("window 0 is complete, window 1 is not")
	}
	if s, ok := w.rows[0].agreed(3); s != "all" || !ok {
		t.Errorf("agreed: %s", s)
	}
	w.take("validator-1", applied(1, 8))
	w.take("validator-1", applied(3, 8))
	if !w.complete(1) {
		t.Error("window 1 was left behind and still waits")
	}
	if s, ok := w.rows[1].agreed(3); s != "1 of 3 so far" || !ok {
		t.Errorf("agreed: %s", s)
	}
	w.take("miner-1", applied(3, 9))
	w.take("miner-2", applied(3, 8))
	if s, ok := w.rows[3].agreed(3); s != "NO: 2 of 3" || ok {
		t.Errorf("agreed: %s", s)
	}
	w.take("miner-1", applied(3, 8)) // after it started over
	if s, ok := w.rows[3].agreed(3); s != "all" || !ok {
		t.Errorf("agreed: %s", s)
	}
}

// What nodes wait for is told by reason, and forgotten when it came, or when the node started again.
func TestReason(t *testing.T) {
	w := diary()
	if got := w.reason(); !strings.Contains(got, "window 0 to be applied by anybody") {
		t.Errorf("waits for %q", got)
	}
	for _, name := range []string{"miner-2", "miner-1"} {
		w.take(name, events.Event{Kind: events.Waiting, Reason: "the S3 server"})
	}
	w.take("validator-1", events.Event{Kind: events.Waiting, Reason: "a checkpoint"})
	if got := w.reason(); got != "a checkpoint (validator-1); the S3 server (miner-1, miner-2)" {
		t.Errorf("waits for %q", got)
	}
	w.take("validator-1", events.Event{Kind: events.Start})
	w.take("miner-1", events.Event{Kind: events.Resumed, Reason: "the S3 server"})
	if got := w.reason(); got != "the S3 server (miner-2)" {
		t.Errorf("waits for %q", got)
	}
}

// A node that diverged in this run is remembered; what an earlier run's diary says is not this run's.
func TestDiverged(t *testing.T) {
	w := diary()
	w.n.from, w.next = 10, 10
	w.take("miner-1", events.Event{Kind: events.Diverged, Window: 3})
	w.take("miner-2", events.Event{Kind: events.Diverged, Window: 9})
	if got := strings.Join(w.diverge, "; "); got != "miner-2 after window 9" {
		t.Errorf("diverged: %q", got)
	}
	w.take("miner-1", events.Event{Kind: events.Diverged, Window: chain.NoWindow})
	if got := strings.Join(w.diverge, "; "); got != "miner-2 after window 9; miner-1 before window 0" {
		t.Errorf("diverged: %q", got)
	}
}

// Scores are the mean over validators, tokens the sum over miners.
func TestTake(t *testing.T) {
	w := diary()
	h := chain.Hotkey{2}.String()
	for _, v := range []float64{9000, 9100, 8900, 9400} {
		w.take("validator-1", events.Event{Kind: events.Scored, Window: 4, Scores: map[string]float64{h: v}})
	}
	w.take("miner-1", events.Event{Kind: events.Train, Window: 4, Tokens: 100, EarlySteps: 2})
	w.take("miner-2", events.Event{Kind: events.Train, Window: 4, Tokens: 50, EarlySteps: 1})
	w.take("miner-1", events.Event{Kind: events.Submit, Window: 4, Bytes: 77, Ratio: 24})
	r := w.rows[4]
	if r.Scores[h] != 9100 || r.Tokens != 150 || r.Early != 3 || r.Bytes["miner-1"] != 77 || r.Ratio != 24 {
		t.Errorf("%+v", r)
	}
}

func TestSelected(t *testing.T) {
	for names, want := range map[string]string{
		"":                                "none",
		"miner-1":                         "miners 1",
		"miner-3 miner-1":                 "miners 1,3",
		"miner-4 miner-2 miner-3":         "miners 2-4",
		"miner-1 miner-2 miner-9 abcdef":  "miners 1-2,9+abcdef",
		"abcdef01":                        "abcdef01",
		"miner-x miner-2":                 "miners 2+miner-x",
		"miner-10 miner-11 miner-9 miner": "miners 9-11+miner",
	} {
		if got := selected(strings.Fields(names)); got != want {
			t.Errorf("%q: %q, want %q", names, got, want)
		}
	}
}

func TestDisplay(t *testing.T) {
	t.Chdir(t.TempDir())
	d, err := filepath.Abs(".localnet")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ in, want string }{{d, ".localnet"}, {"/elsewhere/net", "/elsewhere/net"}, {"/with space/it's", `'/with space/it'\''s'`}} {
		if got := display(netdir.Dir(c.in)); got != c.want {
			t.Errorf("%s: %s, want %s", c.in, got, c.want)
		}
	}
}
