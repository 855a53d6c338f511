package node

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

// pair makes the folders of two nodes that are validators from the beginning; the second one dials the first.
func pair(t *testing.T) (first, second string) {
	t.Helper()
	dir := t.TempDir()
	first, second = filepath.Join(dir, "first"), filepath.Join(dir, "second")
	g, _, err := localtest.Genesis(100, localtest.Actor{Name: "me", Seat: true, Balance: 1000})
	if err != nil {
		t.Fatal(err)
	}
	g.BeaconKey = nil
	other, err := Keys(second, g.Network)
	if err != nil {
		t.Fatal(err)
	}
	if err := Found(first, g, []local.Candidate{other}); err != nil {
		t.Fatal(err)
	}
	if err := Found(first, g, nil); err == nil {
		t.Error("a complete genesis was completed again")
	}
	if err := Init(first, g, DefaultNet()); err != nil {
		t.Fatal(err)
	}
	own, err := Keys(first, g.Network)
	if err != nil {
		t.Fatal(err)
	}
	number, err := freePort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	port := join("127.0.0.1", number)
	if err := WriteNet(first, Net{Listen: port, MaxInbound: 1}); err != nil {
		t.Fatal(err)
	}
	if err := Init(second, g, Net{Listen: "127.0.0.1:0", Peers: []string{own.Node + "@" + port}}); err != nil {
		t.Fatal(err)
	}
	return first, second
}

// forger is the app of a proposer that makes its own beacons.
type forger struct{ *app }

// PrepareProposal puts a false beacon in front.
func (f forger) PrepareProposal(_ context.Context, r *abci.RequestPrepareProposal) (*abci.ResponsePrepareProposal, error) {
	round := chain.Round(r.Height - 1)
	secret, err := beacon.Generate()
	if err != nil {
		return nil, err
	}
	sig, err := beacon.Sign(secret, round)
	if err != nil {
		return nil, err
	}
	return &abci.ResponsePrepareProposal{Txs: [][]byte{encodeBeacon(state.Beacon{Round: round, Signature: sig})}}, nil
}

// A proposer that puts a false beacon into its blocks has them refused; the chain goes on with those of others. It votes as it
// should, so two nodes are enough.
func TestFalseBeacon(t *testing.T) {
	first, second := pair(t)
	honest, evil := opened(t, first), opened(t, second)
	evil.between = func(a *app) abci.Application { return forger{a} }
	for _, n := range []*Node{honest, evil} {
		running(t, n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const blocks = 6 // of which the evil one's turn is every second
	for at := chain.Block(0); at < blocks; {
		heads, err := honest.Heads(ctx, at)
		if err != nil {
			t.Fatal(err)
		}
		if len(heads) > 0 {
			at = heads[len(heads)-1].Block
		}
	}
	later, own := 0, honest.home.pv.Key.Address
	for h := int64(1); h <= blocks; h++ {
		b := honest.comet.BlockStore().LoadBlock(h)
		if !bytes.Equal(b.ProposerAddress, own) {
			t.Errorf("block %d is of the proposer with the false beacon", h)
		}
		if c := honest.comet.BlockStore().LoadSeenCommit(h); c != nil && c.Round > 0 {
			later++
		}
		if list, _ := splitBeacons(b.Txs.ToSliceOfBytes()); len(list) == 0 {
			t.Errorf("block %d has no beacon", h)
		}
	}
	if later == 0 {
		t.Error("the false proposals were never made: every block was decided in its first round")
	}
}

func opened(t *testing.T, dir string) *Node {
	t.Helper()
	n, err := open(Options{Home: dir, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// running runs an opened node until the test ends.
func running(t *testing.T, n *Node) {
	t.Helper()
	if err := n.run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A block may carry as many late rounds as it is allowed to, and no more; a node whose key is another one's adds none.
func TestBeaconsOfABlock(t *testing.T) {
	a := bare(t, filepath.Join(t.TempDir(), "a"))
	able := a.signer
	a.signer = newSigner(nil, "", able.log)
	const late = 2*state.MaxBeacons + 3
	for range late {
		if f, _ := block(t, a); len(f.TxResults) != 0 {
			t.Fatal("a node without the key made a beacon")
		}
	}
	a.signer = able
	for made := 0; made < late; {
		before, _ := a.ledger.Height()
		f, _ := block(t, a)
		if n := len(f.TxResults); n > state.MaxBeacons || n < 1 {
			t.Fatalf("block %d brings %d rounds", before+1, n)
		}
		made += len(f.TxResults) - 1 // one of its own
	}
	h, _ := a.ledger.Height()
	for r := range chain.Round(h) {
		if _, err := a.ledger.Query(ctx, local.QueryBeacon, strconv.FormatUint(uint64(r), 10)); err != nil {
			t.Errorf("round %d: %v", r, err)
		}
	}
}

// Two validators stop together when one is away, and go on when it is back, or when both were away; nothing is lost.
func TestPairRestarts(t *testing.T) {
	t.Parallel()
	first, second := pair(t)
	up := func(dir string) *Node {
		n := opened(t, dir)
		n.home.net.Private = true // so that it finds nobody by itself
		if err := n.run(); err != nil {
			t.Fatal(err)
		}
		return n
	}
	down := func(n *Node) {
		t.Helper()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	reach := func(n *Node, more chain.Block) chain.Block {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		at, _ := n.Height()
		for want := at + more; at < want; {
			heads, err := n.Heads(ctx, at)
			if err != nil {
				t.Fatalf("at height %d: %v", at, err)
			}
			for _, h := range heads {
				at = h.Block
			}
		}
		return at
	}
	a, b := up(first), up(second)
	reach(a, 3)
	down(b)
	b = up(second)
	reach(b, 3)
	down(a)
	down(b)
	// keys that have signed are of no use in another chain
	if _, err := complete(second, &state.Genesis{}, nil); err == nil || !strings.Contains(err.Error(), "has signed block") {
		t.Errorf("keys with a past: %v", err)
	}
	heights := map[*Node]chain.Block{}
	heights[a], _ = a.Height()
	heights[b], _ = b.Height()
	if d := max(heights[a], heights[b]) - min(heights[a], heights[b]); d > 1 {
		t.Errorf("heights %v", heights)
	}
	a, b = up(first), opened(t, second)
	named := b.home.net.Peers
	b.home.net.Private, b.home.net.Peers = true, nil
	if err := b.run(); err != nil {
		t.Fatal(err)
	}
	defer down(b)
	defer down(a)
	b.dialAway(named) // as it does every half minute
	at := reach(a, 3)
	b.dialAway(named) // who is there is left alone
	if n := len(b.Status().Peers); n != 1 {
		t.Errorf("%d peers", n)
	}
	if h, _ := b.Height(); h+1 < at {
		t.Errorf("one node is at %d, the other at %d", h, at)
	}
}
