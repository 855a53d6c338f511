package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/chaintest"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
	"sn3/chain/local/node"
)

// join makes a folder of a node that joins the network of another one.
func join(t *testing.T, from *node.Node, pinned chain.Hash) (dir string, j *node.Joined) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "chain")
	b, err := local.Dial(from.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if j, err = node.Join(within(t), dir, b, "127.0.0.1", pinned, node.DefaultNet()); err != nil {
		t.Fatal(err)
	}
	return dir, j
}

// until asks again with every block of a node until something holds of its status.
func until(t *testing.T, n *node.Node, what string, holds func(local.NodeStatus) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	for !holds(n.Status()) {
		h, _ := n.Height()
		if _, err := n.Heads(ctx, h); err != nil {
			t.Fatalf("waiting until %s: %v; %+v", what, err, n.Status())
		}
	}
}

// caughtUp waits until a node works on the same block as its peers.
func caughtUp(t *testing.T, n *node.Node) {
	until(t, n, "it has caught up", func(s local.NodeStatus) bool { return !s.CatchingUp })
}

func validators(t *testing.T, n *node.Node) (out []local.ValidatorInfo) {
	t.Helper()
	raw, err := n.Query(t.Context(), local.QueryValidators, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// change sends the owner's change of validators; it waits out the distance between two changes.
func change(t *testing.T, owner *local.Client, op local.SetValidator) {
	t.Helper()
	ctx := within(t)
	for {
		r, err := owner.Send(ctx, op)
		if err == nil {
			return
		}
		if !errors.Is(err, chain.ErrRateLimited) {
			t.Fatal(err)
		}
		if err := reach(ctx, owner, r.Block+1); err != nil {
			t.Fatal(err)
		}
	}
}

// sameHash compares what nodes have at a block that all of them reach.
func sameHash(t *testing.T, nodes ...*node.Node) {
	t.Helper()
	ctx := within(t)
	at := chain.Block(0)
	for _, n := range nodes {
		h, _ := n.Height()
		at = max(at, h+1)
	}
	var want local.HeadInfo
	for i, n := range nodes {
		c := dial(t, n.Addr(), chaintest.Rich)
		if err := reach(ctx, c, at); err != nil {
			t.Fatal(err)
		}
		got, err := c.Head(ctx, at)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			want = got
		} else if got != want {
			t.Errorf("node %d has %+v at block %d, node 0 has %+v", i, got, at, want)
		}
	}
}

// One node grows to four by transactions while it runs, then ends; the others go on. One that is removed follows as a full
// node. A transaction gets in through any node, and so does the beacon of rounds whose proposer could not make it.
func TestGrow(t *testing.T) {
	t.Parallel()
	first, stopFirst := start(t, home(t))
	owner := dial(t, first.Addr(), localtest.Owner)
	st, err := owner.Status(within(t))
	if err != nil {
		t.Fatal(err)
	}
	nodes := []*node.Node{first}
	var joined []*node.Joined
	for i := range 3 {
		dir, j := join(t, first, st.GenesisHash)
		if len(j.Peers) != len(nodes) {
			t.Errorf("node %d knows %v", len(nodes), j.Peers)
		}
		n, _ := start(t, dir)
		nodes, joined = append(nodes, n), append(joined, j)
		until(t, first, "the next one can be told of this one", func(s local.NodeStatus) bool { return len(s.Peers) > i })
	}
	for i, j := range joined {
		n := nodes[i+1]
		caughtUp(t, n)
		change(t, owner, j.Line.Op())
		until(t, n, "it votes", func(s local.NodeStatus) bool {
			for _, v := range s.Voters {
				if v.Key == s.Key && v.Signed > v.Since {
					return true
				}
			}
			return false
		})
	}
	if got := validators(t, nodes[3]); len(got) != 4 || len(nodes[0].Status().Peers) != 3 {
		t.Fatalf("validators %+v, peers of the first %+v", got, nodes[0].Status().Peers)
	}
	sameHash(t, nodes...)

	// gossip, and the beacon of rounds of all proposers
	c := dial(t, nodes[2].Addr(), chaintest.Rich)
	r, err := c.Send(within(t), local.Transfer{To: chain.Coldkey{1}, Amount: coin})
	if err != nil {
		t.Fatal(err)
	}
	if err := reach(within(t), dial(t, nodes[1].Addr(), chaintest.Rich), r.Block+8); err != nil {
		t.Fatal(err)
	}
	for round := range chain.Round(r.Block + 1) {
		if _, err := c.Beacon(within(t), round); err != nil {
			t.Errorf("round %d at the height %d: %v", round, r.Block+8, err)
		}
	}

	stopFirst()
	rest := nodes[1:]
	before, _ := rest[0].Height()
	if err := reach(within(t), dial(t, rest[0].Addr(), chaintest.Rich), before+4); err != nil {
		t.Fatal("three of four do not go on: ", err)
	}
	sameHash(t, rest...)

	// the one that is away is removed, then one that runs: two are left, and both follow
	owner = dial(t, rest[0].Addr(), localtest.Owner)
	change(t, owner, local.SetValidator{Key: first.Status().Key})
	change(t, owner, local.SetValidator{Key: rest[2].Status().Key})
	if got := validators(t, rest[0]); len(got) != 2 {
		t.Errorf("validators %+v", got)
	}
	sameHash(t, rest...)
}

// Bad news for who joins: another hash than the pinned one, a node that nobody reaches, a network of the same name with
// another genesis.
func TestJoinRefuses(t *testing.T) {
	t.Parallel()
	first, _ := start(t, home(t))
	b, err := local.Dial(first.Addr())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "chain")
	if _, err := node.Join(within(t), dir, b, "127.0.0.1", chain.Hash{1}, node.DefaultNet()); !errors.Is(err, node.ErrGenesis) {
		t.Errorf("another hash than the pinned one: %v", err)
	}
	if _, err := node.Join(within(t), dir, b, "192.0.2.1", chain.Hash{}, node.DefaultNet()); !errors.Is(err, node.ErrNet) || !strings.Contains(err.Error(), "--p2p-listen") {
		t.Errorf("a node that listens on its loopback only: %v", err)
	}
	if _, err := node.Start(options(dir)); !errors.Is(err, node.ErrNoChain) {
		t.Errorf("what is left of it: %v", err)
	}

	foreign := home(t) // the same name, accounts and parameters; another time, beacon and validator
	if err := node.WriteNet(foreign, node.Net{Listen: "127.0.0.1:0", Peers: []string{first.Status().ID + "@" + first.Status().Listen}, MaxInbound: 1}); err != nil {
		t.Fatal(err)
	}
	o, lines := options(foreign), make(listener, 100)
	o.Log = slog.New(slog.NewTextHandler(lines, nil))
	other, err := node.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for line := ""; !strings.Contains(line, "different network"); {
		select {
		case line = <-lines:
		case <-within(t).Done():
			t.Fatal("the node does not say that it was refused")
		}
	}
	if s := other.Status(); len(s.Peers) != 0 {
		t.Errorf("a node of another genesis has peers %+v", s.Peers)
	}
	if s := first.Status(); len(s.Peers) != 0 {
		t.Errorf("peers of the first: %+v", s.Peers)
	}
}

// listener gets the lines of a log; more than it holds are dropped.
type listener chan string

// Write takes one line.
func (l listener) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}
