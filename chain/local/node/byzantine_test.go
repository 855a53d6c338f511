package node

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

// four makes the folders of four validators; each dials those before it.
func four(t *testing.T) (dirs [4]string) {
	t.Helper()
	dir := t.TempDir()
	g, _, err := localtest.Genesis(100, localtest.Actor{Name: "me", Seat: true, Balance: chain.RaoPerCoin})
	if err != nil {
		t.Fatal(err)
	}
	g.BeaconKey = nil
	var others []local.Candidate
	for i := range dirs {
		dirs[i] = filepath.Join(dir, fmt.Sprint("node", i))
		if i == 0 {
			continue
		}
		c, err := Keys(dirs[i], g.Network)
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, c)
	}
	if err := Found(dirs[0], g, others); err != nil {
		t.Fatal(err)
	}
	var peers []string
	for _, d := range dirs {
		own, err := Keys(d, g.Network)
		if err != nil {
			t.Fatal(err)
		}
		number, err := freePort("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		port := join("127.0.0.1", number)
		if err := Init(d, g, Net{Listen: port, Peers: peers, MaxInbound: 4, Private: true}); err != nil {
			t.Fatal(err)
		}
		peers = append(peers[:len(peers):len(peers)], own.Node+"@"+port)
	}
	return dirs
}

// liar is an application whose proposals are bad, each time in another way, and which finds every proposal good.
type liar struct {
	*app
	harms []func(height int64, txs [][]byte) [][]byte

	mu   sync.Mutex
	made int
}

// PrepareProposal spoils what an honest node would propose.
func (l *liar) PrepareProposal(ctx context.Context, r *abci.RequestPrepareProposal) (*abci.ResponsePrepareProposal, error) {
	res, err := l.app.PrepareProposal(ctx, r)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	res.Txs = l.harms[l.made%len(l.harms)](r.Height, res.Txs)
	l.made++
	return res, nil
}

// ProcessProposal lets everything pass.
func (l *liar) ProcessProposal(context.Context, *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
	return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_ACCEPT}, nil
}

func (l *liar) tried() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.made
}

// One of four validators proposes blocks that are bad in every way: none of them is ever decided, nobody ends, the chain goes
// on with the blocks of the others, all with the same states.
func TestByzantineProposer(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("four nodes")
	}
	dirs := four(t)
	var nodes [4]*Node
	for i, d := range dirs {
		nodes[i] = opened(t, d)
	}
	evil := &liar{app: nodes[3].app}
	secret, err := beacon.Generate()
	if err != nil {
		t.Fatal(err)
	}
	tx := transfer(t, 0)
	evil.harms = []func(int64, [][]byte) [][]byte{
		func(h int64, txs [][]byte) [][]byte { // a beacon that nobody signed
			sig, err := beacon.Sign(secret, chain.Round(h-1))
			if err != nil {
				return [][]byte{{beaconTx}}
			}
			return [][]byte{encodeBeacon(state.Beacon{Round: chain.Round(h - 1), Signature: sig})}
		},
		func(_ int64, txs [][]byte) [][]byte { // a dealing for no key
			return append([][]byte{append([]byte{state.SaidDealing}, make([]byte, dkg.DealingLen(1, 1))...)}, txs...)
		},
		func(_ int64, txs [][]byte) [][]byte { return append(txs, bytes.Repeat([]byte{0xff}, 2_000_000)) },
		func(int64, [][]byte) [][]byte { return crowd(t, 10_000) },
		func(_ int64, txs [][]byte) [][]byte {
			return append([][]byte{tx}, append(txs, make([]byte, beaconTxLen))...)
		},
		func(int64, [][]byte) [][]byte { return [][]byte{tx, tx} },
		func(_ int64, txs [][]byte) [][]byte { return append(txs, nil) },
	}
	nodes[3].between = func(*app) abci.Application { return evil }
	for _, n := range nodes {
		running(t, n)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	at := chain.Block(0)
	for target := chain.Block(1); evil.tried() < len(evil.harms) || at < target; {
		heads, err := nodes[0].Heads(ctx, at)
		if err != nil {
			t.Fatalf("block %d, %d bad proposals: %v", at, evil.tried(), err)
		}
		if len(heads) > 0 {
			at = heads[len(heads)-1].Block
		}
		if evil.tried() < len(evil.harms) {
			target = at + 3 // the last one's height, and some more
		}
	}
	for i, n := range nodes {
		for h := chain.Block(0); h < at; {
			if h, _ = n.Height(); h < at {
				if _, err := n.Heads(ctx, h); err != nil {
					t.Fatalf("node %d is at block %d of %d: %v", i, h, at, err)
				}
			}
		}
		select {
		case err := <-n.err:
			t.Errorf("node %d ended: %v", i, err)
		default:
		}
	}
	same(t, nodes[:], at, nodes[3].home.pv.Key.Address)
}

// same holds blocks and states of all nodes against each other; none of the blocks is of bad.
func same(t *testing.T, nodes []*Node, top chain.Block, bad []byte) {
	t.Helper()
	for h := int64(1); h <= int64(top); h++ {
		want := nodes[0].comet.BlockStore().LoadBlock(h)
		if bytes.Equal(want.ProposerAddress, bad) {
			t.Errorf("block %d is of the bad proposer: %d transactions", h, len(want.Txs))
		}
		for i, n := range nodes[1:] {
			if got := n.comet.BlockStore().LoadBlock(h); !bytes.Equal(got.Hash(), want.Hash()) || !bytes.Equal(got.AppHash, want.AppHash) {
				t.Errorf("block %d: node %d has %x on %x, node 0 %x on %x", h, i+1, got.Hash(), got.AppHash, want.Hash(), want.AppHash)
			}
		}
	}
}
