package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/beacon/dkg/dkgtest"
	"sn3/chain/local/localtest"
)

// garbler is the app of a validator that extends its votes with garbage while on says so, and finds that good itself.
type garbler struct {
	*app
	on *atomic.Bool
}

// ExtendVote gives away what nobody accepts: a part of a round to come.
func (g garbler) ExtendVote(ctx context.Context, r *abci.RequestExtendVote) (*abci.ResponseExtendVote, error) {
	if !g.on.Load() {
		return g.app.ExtendVote(ctx, r)
	}
	list, err := g.signer.sign(g.ledger.BeaconKeys(), []chain.Round{chain.Round(r.Height + 1)})
	if err != nil {
		return nil, err
	}
	return &abci.ResponseExtendVote{VoteExtension: append(encodeExtension(list), 0xff)}, nil
}

// VerifyVoteExtension takes its own; the others' are right.
func (g garbler) VerifyVoteExtension(context.Context, *abci.RequestVerifyVoteExtension) (*abci.ResponseVerifyVoteExtension, error) {
	return &abci.ResponseVerifyVoteExtension{Status: abci.ResponseVerifyVoteExtension_ACCEPT}, nil
}

// network is a network that grows.
type network struct {
	*testing.T
	nodes []*Node
	owner *local.Client
}

func (w *network) within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	w.Cleanup(cancel)
	return ctx
}

// until looks at a node after every block of it.
func (w *network) until(n *Node, what string, holds func() bool) {
	w.Helper()
	ctx := w.within()
	for !holds() {
		h := n.Newest().Block
		if _, err := n.Heads(ctx, h); err != nil {
			w.Fatalf("waiting until %s, at block %d: %v", what, h, err)
		}
	}
}

func (w *network) reach(n *Node, b chain.Block) {
	w.Helper()
	w.until(n, "a block", func() bool { return n.Newest().Block >= b })
}

func (w *network) run(dir string, change func(*Node)) *Node {
	w.Helper()
	n := opened(w.T, dir)
	if change != nil {
		change(n)
	}
	if err := n.run(); err != nil {
		w.Fatal(err)
	}
	return n
}

func (w *network) close(n *Node) {
	w.Helper()
	if err := n.Close(); err != nil {
		w.Error(err)
	}
}

func (w *network) dial(n *Node, who string) *local.Client {
	w.Helper()
	b, err := local.Dial(n.Addr())
	if err != nil {
		w.Fatal(err)
	}
	key, err := localtest.Key(who)
	if err != nil {
		w.Fatal(err)
	}
	return local.NewClient(b, local.Signer{Key: key})
}

// join starts a node that joins the network.
func (w *network) join(dir string, change func(*Node)) {
	w.Helper()
	b, err := local.Dial(w.nodes[0].Addr())
	if err != nil {
		w.Fatal(err)
	}
	if _, err := Join(w.within(), dir, b, "127.0.0.1", chain.Hash{}, DefaultNet()); err != nil {
		w.Fatal(err)
	}
	w.nodes = append(w.nodes, w.run(dir, change))
}

// promote makes a node a validator, and waits until it votes.
func (w *network) promote(n *Node) {
	w.Helper()
	w.until(w.nodes[0], "it has caught up", func() bool { return !n.Status().CatchingUp })
	for {
		r, err := w.owner.Send(w.within(), n.line.Op())
		if err == nil {
			break
		}
		if !errors.Is(err, chain.ErrRateLimited) { // the distance between two changes
			w.Fatal(err)
		}
		w.reach(w.nodes[0], r.Block+1)
	}
	w.until(w.nodes[0], "it votes", func() bool {
		for _, v := range w.nodes[0].Status().Voters {
			if v.Key == n.Status().Key && v.Signed > v.Since {
				return true
			}
		}
		return false
	})
}

// beacons waits for the signatures of rounds and checks them with a key.
func (w *network) beacons(n *Node, key beacon.PublicKey, from, to chain.Block) {
	w.Helper()
	for r := chain.Round(from); r <= chain.Round(to); r++ {
		var sig []byte
		w.until(n, "a beacon", func() (ok bool) {
			var err error
			sig, err = n.Signature(r)
			return err == nil
		})
		if err := beacon.Verify(key[:], r, sig); err != nil {
			w.Errorf("round %d: %v", r, err)
		}
	}
}

func (w *network) status(n *Node) local.BeaconStatus {
	w.Helper()
	st, err := w.dial(n, localtest.Owner).Status(w.within())
	if err != nil {
		w.Fatal(err)
	}
	return st.Beacon
}

// witness is the app of a validator that counts the votes it refuses for their extension.
type witness struct {
	*app
	refused *atomic.Int64
}

// VerifyVoteExtension counts.
func (x witness) VerifyVoteExtension(ctx context.Context, r *abci.RequestVerifyVoteExtension) (*abci.ResponseVerifyVoteExtension, error) {
	res, err := x.app.VerifyVoteExtension(ctx, r)
	if err == nil && res.Status == abci.ResponseVerifyVoteExtension_REJECT {
		x.refused.Add(1)
	}
	return res, err
}

// grow makes a network of one node and three that join it; node 2 is a witness, node 3 deals a bad share to node 1 and may be
// told to extend its votes with garbage.
func grow(t *testing.T, dirs []string, garbage *atomic.Bool, refused *atomic.Int64) *network {
	t.Helper()
	w := &network{T: t}
	g, _, err := localtest.Genesis(50, localtest.Actor{Name: "me", Seat: true, Balance: chain.RaoPerCoin, Stake: 300 * chain.RaoPerCoin})
	if err != nil {
		t.Fatal(err)
	}
	run, err := chain.ParseRun(g.Run)
	if err != nil {
		t.Fatal(err)
	}
	run.Tempo = 4 // a key is announced some tempos ahead
	g.BeaconKey, g.Run = nil, run.Encode()
	if err := Init(dirs[0], g, DefaultNet()); err != nil {
		t.Fatal(err)
	}
	w.nodes = []*Node{w.run(dirs[0], nil)}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			w.close(n)
		}
	})
	w.owner = w.dial(w.nodes[0], localtest.Owner)
	w.join(dirs[1], nil)
	w.join(dirs[2], func(n *Node) { n.between = func(a *app) abci.Application { return witness{a, refused} } })
	w.join(dirs[3], func(n *Node) {
		n.between = func(a *app) abci.Application { return garbler{a, garbage} }
		n.app.signer.deal = func(s *dkg.Session, m *dkg.Member) (*dkg.Dealing, error) {
			victim, _ := s.Index(w.nodes[1].app.signer.member.Public())
			return dkgtest.Misdeal(s, m, victim, [32]byte{1})
		}
	})
	for _, n := range w.nodes[1:] { // they have caught up together
		w.promote(n)
	}
	return w
}

// makeKey has the four make a key, and waits for it.
func (w *network) makeKey() *beacon.Key {
	w.Helper()
	first, evil := w.nodes[0], w.nodes[3]
	run, err := chain.ParseRun(first.Genesis().Run)
	if err != nil {
		w.Fatal(err)
	}
	h, _ := first.Height()
	from := chain.Round(h + 2*12 + run.Tempo*2 + 10 + 6)
	if _, err := w.owner.Send(w.within(), local.MakeBeacon{At: from}); err != nil {
		w.Fatal(err)
	}
	if m := w.status(first).Making; m == nil || m.From != from || m.Threshold != 3 || len(m.Members) != 4 {
		w.Fatalf("making %+v", m)
	}
	var last *local.BeaconMaking
	w.until(first, "the key is made", func() bool {
		st := w.status(first)
		if st.Making != nil {
			last = st.Making
		}
		return st.Next != nil || st.Last != ""
	})
	for _, m := range last.Members {
		if m.Guilty != (m.Key == evil.Status().Key) || !m.Dealt {
			w.Errorf("member %+v", m)
		}
	}
	keys := first.BeaconKeys()
	if len(keys) != 2 || len(first.Dealings(from)) != 3 || keys[1].Threshold != 3 {
		w.Fatalf("%d keys, %d dealings: %s", len(keys), len(first.Dealings(from)), w.status(first).Last)
	}
	return keys[1]
}

// One node grows to four, which make a key that none of them knows: one deals a bad share and is out by the complaint of whom
// it cheated. From the announced round on three of the four sign, whichever: without the node whose key it was before,
// beside one whose vote extensions are garbage, and with one that lost its share.
func TestSharedBeacon(t *testing.T) {
	t.Parallel()
	dirs := make([]string, 4)
	for i := range dirs {
		dirs[i] = filepath.Join(t.TempDir(), "node")
	}
	garbage, refused := new(atomic.Bool), new(atomic.Int64)
	w := grow(t, dirs, garbage, refused)
	k := w.makeKey()
	first, from := w.nodes[0], k.From
	w.reach(first, chain.Block(from)+3)
	w.beacons(first, first.BeaconKeys()[0].Public, chain.Block(from)-3, chain.Block(from)-1)
	w.beacons(first, k.Public, chain.Block(from), chain.Block(from)+3)
	for i, n := range w.nodes {
		w.until(n, "it has its share", func() bool { return n.Status().Beacon })
		info, err := os.Stat(shareFile(filepath.Join(dirs[i], sharesDir), from))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("share of node %d: %v", i, err)
		}
	}

	if n := refused.Load(); n != 0 {
		t.Errorf("%d honest votes were refused for their extensions", n)
	}
	garbage.Store(true)
	h, _ := first.Height()
	w.beacons(first, k.Public, h, h+6)
	w.until(first, "garbage is refused", func() bool { return refused.Load() > 0 })
	garbage.Store(false)
	h, _ = first.Height()
	w.until(first, "it votes again", func() bool {
		for _, v := range first.Status().Voters {
			if v.Key == w.nodes[3].Status().Key && v.Signed > h {
				return true
			}
		}
		return false
	})

	// without the first node, whose key it was; then one of the three loses its share
	w.close(first)
	w.nodes = w.nodes[1:]
	h, _ = w.nodes[0].Height()
	w.beacons(w.nodes[0], k.Public, h, h+4)
	w.close(w.nodes[1])
	if err := os.RemoveAll(filepath.Join(dirs[2], sharesDir)); err != nil {
		t.Fatal(err)
	}
	w.nodes[1] = w.run(dirs[2], nil)
	h, _ = w.nodes[0].Height()
	w.beacons(w.nodes[0], k.Public, h, h+4)
	if _, err := os.Stat(shareFile(filepath.Join(dirs[2], sharesDir), from)); err != nil || !w.nodes[1].Status().Beacon {
		t.Errorf("the lost share: %v", err)
	}
	w.agree()
}

// agree compares what the nodes have at a block that all of them reach.
func (w *network) agree() {
	w.Helper()
	h, _ := w.nodes[0].Height()
	var want local.HeadInfo
	for i, n := range w.nodes {
		w.reach(n, h)
		got, err := w.dial(n, localtest.Owner).Head(w.within(), h)
		if err != nil || i > 0 && got != want {
			w.Errorf("node %d has %+v at block %d, another one %+v: %v", i, got, h, want, err)
		}
		want = got
	}
}
