package node_test

import (
	"testing"

	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/node"
)

// Nodes that only knew the first one when they joined find each other, so that the first may stop.
func TestNodesFindEachOther(t *testing.T) {
	first, _ := start(t, home(t))
	st, err := dial(t, first.Addr(), localtest.Owner).Status(within(t))
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for range 2 {
		dir, j := join(t, first, st.GenesisHash)
		if len(j.Peers) != 1 {
			t.Fatalf("peers %v: both know only the first", j.Peers)
		}
		dirs = append(dirs, dir)
	}
	var rest []*node.Node
	for _, dir := range dirs {
		n, _ := start(t, dir)
		rest = append(rest, n)
	}
	for _, n := range rest {
		until(t, n, "it has found the other one", func(s local.NodeStatus) bool { return len(s.Peers) == 2 })
	}
}
