package simnet

import (
	"testing"

	"sn3/chain"
	"sn3/internal/events"
)

// The chain goes on without validators for longer than it keeps snapshots and others keep objects. When they come back, on
// their old folders or a miner on a new one, everybody passes the empty windows and the network trains on.
func TestNetworkComesBackAfterALongTime(t *testing.T) {
	n := New(t, Options{Validators: []chain.Amount{300, 200}, Miners: 2})
	dirs := map[string]string{}
	launch := func(name string, start func(string, NodeOptions) *Node) *Node {
		if dirs[name] == "" {
			dirs[name] = n.Dir()
		}
		return start(name, NodeOptions{Dir: dirs[name]})
	}
	nodes := []*Node{launch(ValidatorName(1), n.StartValidator), launch(ValidatorName(2), n.StartValidator), launch(MinerName(1), n.StartMiner)}
	const last = 5
	n.To(last)
	for _, x := range nodes {
		if err := n.Stop(x); err != nil {
			t.Fatal(err)
		}
	}
	quiet := last + 2*chain.Window(n.Run.Keep)
	n.To(quiet)
	nodes = []*Node{launch(ValidatorName(1), n.StartValidator), launch(ValidatorName(2), n.StartValidator), launch(MinerName(1), n.StartMiner)}
	n.To(quiet + 2)
	nodes = append(nodes, launch(MinerName(2), n.StartMiner)) // from nothing
	n.To(quiet + 5)
	agree(t, quiet+5, nodes...)
	won := 0
	for _, e := range nodes[0].Events(events.Applied) {
		if e.Window > quiet {
			won += len(e.Winners)
		}
	}
	if won == 0 {
		t.Error("nothing was selected afterwards")
	}
}
