package node

import (
	"fmt"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	comet "github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	ssproto "github.com/cometbft/cometbft/proto/tendermint/statesync"
	"github.com/cometbft/cometbft/statesync"
)

// gate stands before the engine's state sync, while this node fetches the state that it begins with. The engine takes parts of
// a state from whoever sends any, keeps offers that cannot be right, and waits for two minutes when the last peer that has a
// snapshot is gone, or has it no more.
type gate struct {
	p2p.Reactor // the engine's
	app         *app
	drop        func(p2p.Peer, any)
}

// gated puts the gate into its place.
func gated(a *app) comet.Option {
	return func(n *comet.Node) {
		if inner, ok := n.Switch().Reactor("STATESYNC"); ok {
			comet.CustomReactors(map[string]p2p.Reactor{"STATESYNC": &gate{inner, a, n.Switch().StopPeerForError}})(n)
		}
	}
}

// Receive implements p2p.Reactor. A peer that has a part no more is heard as one that sends an empty one: the application sees
// what that means.
func (g *gate) Receive(e p2p.Envelope) {
	l := g.app.lenders
	switch m := e.Message.(type) {
	case *ssproto.SnapshotsResponse:
		s := &abci.Snapshot{Height: m.Height, Format: m.Format, Chunks: m.Chunks, Hash: m.Hash, Metadata: m.Metadata}
		if m.Format != snapshotFormat {
			return
		}
		if _, err := g.app.shaped(s); err != nil {
			g.app.log.Warn("a peer offers a snapshot that cannot be right", "peer", e.Src.ID(), "block", m.Height, "err", err)
			g.drop(e.Src, fmt.Errorf("offer of a snapshot: %w", err))
			return
		}
		if !l.offers(e.Src.ID(), string(m.Hash)) {
			return
		}
	case *ssproto.ChunkResponse:
		if !l.lends(e.Src.ID()) {
			return // nobody has asked it
		}
		if m.Missing {
			e.Message = nothing(m.Height, m.Index)
		}
	}
	g.Reactor.Receive(e)
}

// RemovePeer implements p2p.Reactor. Parts that nobody has any more come as empty ones.
func (g *gate) RemovePeer(peer p2p.Peer, reason any) {
	g.Reactor.RemovePeer(peer, reason)
	height, from, to := g.app.lenders.gone(peer.ID())
	for i := from; i < to; i++ {
		g.Reactor.Receive(p2p.Envelope{Src: peer, ChannelID: statesync.ChunkChannel, Message: nothing(height, uint32(i))})
	}
}

func nothing(height uint64, part uint32) *ssproto.ChunkResponse {
	return &ssproto.ChunkResponse{Height: height, Format: snapshotFormat, Index: part, Chunk: []byte{}}
}

// another says what to do about a part that is not what the manifest says: to ask another peer for it, or where nobody else has
// this snapshot, to try another one.
func (a *app) another(r *abci.RequestApplySnapshotChunk, wrong error) (*abci.ResponseApplySnapshotChunk, error) {
	in, told := a.in, "a peer sent a wrong part of the state"
	if len(r.Chunk) == 0 {
		told = "a peer that sends the state is gone or has this snapshot no more"
	}
	out := a.lenders.strike(p2p.ID(r.Sender), len(r.Chunk) > 0)
	if a.lenders.left(in.name) > 0 {
		a.log.Warn(told+"; another one is asked", "peer", r.Sender, "block", in.m.height, "err", wrong)
		return refetch(r, out), nil
	}
	a.log.Warn(told+", and nobody else has this snapshot; others are tried, and all peers are asked again every 5 s",
		"peer", r.Sender, "block", in.m.height, "err", wrong)
	res := &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_REJECT_SNAPSHOT}
	if out {
		res.RejectSenders = []string{r.Sender}
	}
	return res, a.dropIncoming()
}

func refetch(r *abci.RequestApplySnapshotChunk, out bool) *abci.ResponseApplySnapshotChunk {
	res := &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_RETRY, RefetchChunks: []uint32{r.Index}}
	if out {
		res.RejectSenders = []string{r.Sender}
	}
	return res
}

const (
	waitNotice = 30 * time.Second // between two ticks of tellWaiting
	freshTicks = 20               // after which peers may offer maxOffers snapshots more
)

// tellWaiting tells the operator again and again that there is no snapshot to begin with: the engine looks for one for ever.
func (n *Node) tellWaiting(tick <-chan time.Time) {
	for i := 1; ; i++ {
		select {
		case <-n.app.quit:
			return
		case <-tick:
		}
		if i%freshTicks == 0 {
			n.app.lenders.forget()
		}
		waits, done := n.app.lenders.waits()
		if done {
			return
		}
		if waits {
			n.opts.Log.Warn("no peer offers a snapshot that fits yet; they are asked again every 5 s. Name other nodes as peers in "+netFile+", or join in a new folder with --sync replay",
				"peers", n.comet.Switch().Peers().Size())
		}
	}
}
