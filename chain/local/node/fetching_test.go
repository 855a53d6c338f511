package node_test

import (
	"testing"

	"sn3/chain/local"
	"sn3/chain/local/localtest"
)

// A node may be stopped while it fetches blocks, at any of them, and goes on from there.
func TestStopWhileFetching(t *testing.T) {
	t.Parallel()
	first, _ := start(t, home(t))
	owner := dial(t, first.Addr(), localtest.Owner)
	st, err := owner.Status(within(t))
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := join(t, first, st.GenesisHash)
	if err := reach(within(t), owner, 50); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		n, stop := start(t, dir)
		before, _ := n.Height()
		until(t, n, "it has fetched some", func(local.NodeStatus) bool { h, _ := n.Height(); return h > before })
		stop()
		if after, _ := n.Height(); after <= before {
			t.Fatalf("start %d: block %d, then %d", i, before, after)
		}
	}
}
