package simnet

import (
	"testing"

	"sn3/chain"
	"sn3/internal/events"
)

// Four miners and two validators: everybody agrees on every root, the model gets better, miners earn, an idle seat does not.
func TestNetworkTrains(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	n := New(t, Options{Validators: []chain.Amount{300, 200}, Miners: 4, Spare: 1, Learn: true})
	var nodes []*Node
	for i := range 2 {
		nodes = append(nodes, n.StartValidator(ValidatorName(i+1), NodeOptions{}))
	}
	for i := range 4 {
		nodes = append(nodes, n.StartMiner(MinerName(i+1), NodeOptions{}))
	}
	const last = 11
	n.To(last)
	want := nodes[0].Roots()
	for _, x := range nodes {
		got := x.Roots()
		for w := range chain.Window(last + 1) {
			if got[w] == (chain.Hash{}) || got[w] != want[w] {
				t.Errorf("%s: root of window %d is %s, %s has %s", x.Name, w, got[w].Short(), nodes[0].Name, want[w].Short())
			}
		}
	}
	ev := nodes[0].Events(events.Eval)
	if len(ev) < last {
		t.Fatalf("%d evaluations", len(ev))
	}
	first, final := ev[0].Loss, ev[len(ev)-1].Loss
	t.Logf("held-out loss %.3f -> %.3f", first, final)
	if final > first-0.5 {
		t.Errorf("held-out loss went from %.3f to %.3f", first, final)
	}
	for _, e := range nodes[0].Events(events.Applied) {
		if len(e.Winners) != 4 {
			t.Errorf("window %d has %d winners", e.Window, len(e.Winners))
		}
	}
	if err := n.Chain.st.Audit(); err != nil {
		t.Error(err)
	}
	s, err := n.Chain.st.Snapshot(n.Chain.Height())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range s.Neurons {
		idle := x.Hotkey == s.Neurons[len(s.Neurons)-1].Hotkey
		if idle != (x.Earned == 0) {
			t.Errorf("uid %d earned %s", x.UID, x.Earned)
		}
		if x.Permit != (x.Stake > 0) { // what miners earn is no stake
			t.Errorf("uid %d has a stake of %s, permit %v", x.UID, x.Stake, x.Permit)
		}
	}
}
