package node_test

import (
	"testing"

	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/node"
)

// Nodes that only knew the first one when they joined find each other, so that the first may stop; also those that listen at all
// addresses of their machine, and so do not say where they are.
func TestNodesFindEachOther(t *testing.T) {
	t.Parallel()
	everywhere := node.DefaultNet()
	everywhere.Listen = "0.0.0.0:0"
	for name, at := range map[string]node.Net{"loopback": node.DefaultNet(), "everywhere": everywhere} {
		t.Run(name, func(t *testing.T) {
			dir := home(t)
			own := at
			own.Peers = []string{"0123456789012345678901234567890123456789@127.0.0.1:1"} // never there: it says that the network is private
			if err := node.WriteNet(dir, own); err != nil {
				t.Fatal(err)
			}
			first, _ := start(t, dir)
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
				joined := at
				joined.Peers = j.Peers
				if err := node.WriteNet(dir, joined); err != nil {
					t.Fatal(err)
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
		})
	}
}
