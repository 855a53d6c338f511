package node

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	comet "github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"

	"sn3/chain"
)

// Four validators stop and start in any order, while peers dial them, while they dial, fetch and vote: nothing of the engine may
// fall over, as it would take the process along, and in the end they go on together.
func TestRestless(t *testing.T) {
	dirs := four(t)
	if testing.Short() {
		t.Skip("several seconds")
	}
	t.Parallel()
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var nodes [len(dirs)]*Node
	turn := func(i int) {
		if nodes[i] == nil {
			nodes[i] = opened(t, dirs[i])
			if err := nodes[i].run(); err != nil {
				t.Error(err)
				nodes[i] = nil
			}
			return
		}
		if err := nodes[i].Close(); err != nil {
			t.Error(err)
		}
		nodes[i] = nil
	}
	defer func() {
		for i, n := range nodes {
			if n != nil {
				turn(i)
			}
		}
	}()
	const rounds = 8
	for range rounds {
		var wg sync.WaitGroup
		for _, i := range rng.Perm(len(nodes))[:1+rng.IntN(3)] { // several at once
			wg.Go(func() { turn(i) })
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(1500))*time.Millisecond)
		for _, n := range nodes { // in the middle of something
			if n != nil {
				_, _ = n.Heads(ctx, n.Newest().Block+1)
			}
		}
		cancel()
	}
	top := chain.Block(0)
	for i := range nodes {
		if nodes[i] == nil {
			turn(i)
		}
		if nodes[i] == nil {
			return
		}
		top = max(top, nodes[i].Newest().Block)
	}
	w := &network{T: t}
	defer func() {
		if t.Failed() {
			for _, n := range nodes {
				s := n.Status()
				t.Logf("%s: block %d, catching up %v, peers %+v", s.ID, n.Newest().Block, s.CatchingUp, s.Peers)
			}
		}
	}()
	for _, n := range nodes {
		w.reach(n, top+4)
	}
	same(t, nodes[:], top+4, []byte("nobody"))
}

// A node that has ended makes no connection, also where the engine only now begins to dial: the peer would take it for its
// connection to the node when that starts again.
func TestEndedNodeDialsNobody(t *testing.T) {
	t.Parallel()
	dirs := four(t)
	first := opened(t, dirs[0])
	running(t, first)
	at, err := p2p.NewNetAddressString(first.Status().ID + "@" + first.Status().Listen)
	if err != nil {
		t.Fatal(err)
	}
	second := opened(t, dirs[1])
	if err := second.run(); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	bare, err := StartBare(Options{Home: dirs[2], Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := bare.Close(); err != nil {
		t.Fatal(err)
	}
	for _, engine := range []*comet.Node{second.comet, bare.comet} {
		sw, ok := engine.Switch().(*p2p.Switch)
		if !ok {
			t.Fatalf("the engine's switch is a %T", engine.Switch())
		}
		var refused p2p.ErrRejected
		if err := sw.DialPeerWithAddress(at); !errors.As(err, &refused) || !refused.IsFiltered() {
			t.Errorf("%s dialled: %v", engine.NodeInfo().ID(), err)
		}
	}
	if n := first.comet.Switch().Peers().Size(); n != 0 {
		t.Errorf("%d peers of nodes that have ended", n)
	}
}
