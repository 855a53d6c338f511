package node

import (
	"context"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/mock"
	ssproto "github.com/cometbft/cometbft/proto/tendermint/statesync"
	"github.com/cometbft/cometbft/statesync"

	"sn3/chain"
)

// heights are those of the snapshots that a node keeps from now on; it writes no others.
func heights(t *testing.T, m *member, list ...chain.Block) {
	t.Helper()
	s := m.app.shots
	s.mu.Lock()
	s.every = 0
	s.mu.Unlock()
	s.writing.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var kept []*archive
	for _, a := range s.list {
		for _, h := range list {
			if a.height == h {
				kept = append(kept, a)
			}
		}
	}
	if s.list = kept; len(kept) != len(list) {
		t.Fatalf("%d snapshots of %v", len(kept), list)
	}
}

// joins starts a node that takes its state from the peers of others.
func joins(t *testing.T, from ...*member) *member {
	t.Helper()
	home := invite(t, from...)
	var nodes []string
	for _, m := range from {
		nodes = append(nodes, m.Addr())
	}
	if _, err := PlanSync(deadline(t), home, nodes, Trust{}); err != nil {
		t.Fatal(err)
	}
	return begin(t, home, func(o *Options) {
		o.Net = &Net{Listen: "127.0.0.1:0", Peers: peersOf(from), MaxInbound: 9, Private: true}
	})
}

func peersOf(from []*member) (out []string) {
	for _, m := range from {
		out = append(out, m.Status().ID+"@"+m.Status().Listen)
	}
	return out
}

// began is the first block that a node knows of.
func (m *member) began(t *testing.T) chain.Block {
	t.Helper()
	heads, err := m.Heads(deadline(t), 0)
	if err != nil || len(heads) == 0 {
		t.Fatalf("%v, %v", heads, err)
	}
	return heads[0].Block
}

// The only peer sends wrong parts of its newest snapshot: the one before is taken at once, although the engine alone would wait
// for two minutes.
func TestOnlyPeerSendsWrongPart(t *testing.T) {
	t.Parallel()
	bad := begin(t, founder(t))
	bad.until(t, 45)
	heights(t, bad, 20, 40)
	at := bad.app.shots.list[1]
	spoilOne(t, bad, at)
	fresh := joins(t, bad)
	fresh.says(t, "nobody else has this snapshot")
	fresh.until(t, 46)
	if b := fresh.began(t); b != 20 {
		t.Errorf("it began with block %d", b)
	}
	agree(t, bad, fresh)
}

// The only peer has no snapshot that is right, and the operator is told; when it has written one, that is taken.
func TestOnlyPeerWritesAnother(t *testing.T) {
	t.Parallel()
	bad := begin(t, founder(t))
	bad.until(t, 25)
	heights(t, bad, 20)
	spoil(t, bad)
	fresh := joins(t, bad)
	fresh.says(t, "nobody else has this snapshot")
	ticks := make(chan time.Time)
	go fresh.tellWaiting(ticks)
	ticks <- time.Time{}
	fresh.says(t, "no peer offers a snapshot that fits yet")
	bad.app.shots.mu.Lock()
	bad.app.shots.every = 20
	bad.app.shots.mu.Unlock()
	h, _ := bad.Height()
	fresh.until(t, h+20)
	if b := fresh.began(t); b <= 20 {
		t.Errorf("it began with block %d", b)
	}
	for waits, done := fresh.app.lenders.waits(); !waits || !done; waits, done = fresh.app.lenders.waits() {
		t.Error("it still looks for a state")
	}
	agree(t, bad, fresh)
}

// reluctant is an application that sends the first parts of a snapshot only, and hangs or has no others.
type reluctant struct {
	*app
	hang    bool
	asked   chan struct{}
	once    sync.Once
	release <-chan struct{}
}

// LoadSnapshotChunk gives the first two.
func (r *reluctant) LoadSnapshotChunk(ctx context.Context, q *abci.RequestLoadSnapshotChunk) (*abci.ResponseLoadSnapshotChunk, error) {
	if q.Chunk < 2 {
		return r.app.LoadSnapshotChunk(ctx, q)
	}
	if r.hang {
		r.once.Do(func() { close(r.asked) })
		<-r.release
	}
	return &abci.ResponseLoadSnapshotChunk{}, nil
}

// The only peer that has the newest snapshot has deleted it, or goes away, while it is being fetched: another peer's older one
// is taken.
func TestPeerLeavesSync(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]bool{"it has the snapshot no more": false, "it goes away": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			honest := begin(t, founder(t))
			honest.until(t, 3)
			release := make(chan struct{})
			other := &reluctant{hang: hang, asked: make(chan struct{}), release: release}
			home := invite(t, honest)
			left := beginAs(t, home, func(a *app) abci.Application { other.app = a; return other })
			t.Cleanup(sync.OnceFunc(func() { close(release) }))
			honest.until(t, 45)
			left.until(t, 45)
			heights(t, honest, 20)
			heights(t, left, 40)
			fresh := joins(t, honest, left)
			if hang {
				<-other.asked
				p := fresh.comet.Switch().Peers().Get(p2p.ID(left.Status().ID))
				fresh.comet.Switch().StopPeerForError(p, "the test ends the connection")
			}
			fresh.says(t, "is gone or has this snapshot no more, and nobody else has this snapshot")
			fresh.until(t, 46)
			if b := fresh.began(t); b != 20 {
				t.Errorf("it began with block %d", b)
			}
			agree(t, honest, fresh)
		})
	}
}

// What a peer may offer, and whose parts are taken.
func TestLenders(t *testing.T) {
	l := newLenders()
	name := func(i int) string { return string(binary.BigEndian.AppendUint32(nil, uint32(i))) }
	for i := range maxOffers {
		if !l.offers("a", name(i)) {
			t.Fatalf("offer %d is not heard", i)
		}
	}
	if l.offers("a", name(maxOffers)) || !l.offers("a", name(3)) || !l.offers("b", name(3)) {
		t.Error("one too many, or one again")
	}
	if l.forget(); !l.offers("a", name(maxOffers)) {
		t.Error("a peer that has written another one is not heard any more")
	}
	if l.lends("a") {
		t.Error("nothing is fetched yet")
	}
	l.fetch(name(3), 30, 10)
	if !l.lends("a") || !l.lends("b") || l.lends("c") || l.left(name(3)) != 2 {
		t.Error("who lends")
	}
	l.came(4)
	if out := l.strike("a", true); !out || l.left(name(3)) != 1 { // there is another one
		t.Error("a liar is asked again")
	}
	if l.offers("a", name(3)) || l.left(name(3)) != 1 || l.lends("a") {
		t.Error("the engine asks it no more, and it is counted")
	}
	if h, from, to := l.gone("a"); h != 0 || from != to {
		t.Error("there is another one")
	}
	if h, from, to := l.gone("b"); h != 30 || from != 4 || to != 10 {
		t.Errorf("parts %d to %d of %d will not come", from, to, h)
	}
	if h, _, _ := l.gone("b"); h != 0 {
		t.Error("twice")
	}
	l.fetch(name(5), 50, 1)
	for i := range maxStrikes { // alone with its snapshots
		l.offers("c", name(5+i))
		l.fetch(name(5+i), 50, 1)
		if out := l.strike("c", true); out != (i == maxStrikes-1) {
			t.Errorf("strike %d: %v", i, out)
		}
	}
	if l.offers("c", name(9)) {
		t.Error("it is heard again")
	}
	if waits, done := l.waits(); waits || done {
		t.Error("it fetches")
	}
	l.finish()
	if waits, done := l.waits(); !waits || !done || l.lends("b") || l.offers("d", name(1)) {
		t.Error("it is done")
	}
}

// inner is the engine's side of a gate.
type inner struct {
	p2p.BaseReactor
	heard []p2p.Envelope
}

// Receive remembers.
func (i *inner) Receive(e p2p.Envelope) { i.heard = append(i.heard, e) }

// The engine hears offers that can be right, and parts from who has offered the snapshot that is fetched; nobody else's.
func TestGate(t *testing.T) {
	from, to := server(t, 23), newcomer(t)
	o := offered(t, from)
	in, dropped := &inner{}, 0
	g := &gate{in, to, func(p2p.Peer, any) { dropped++ }}
	a, b := mock.NewPeer(nil), mock.NewPeer(nil)
	offer := func(p p2p.Peer, change func(*ssproto.SnapshotsResponse)) {
		m := &ssproto.SnapshotsResponse{Height: o.Snapshot.Height, Format: o.Snapshot.Format, Chunks: o.Snapshot.Chunks, Hash: o.Snapshot.Hash, Metadata: o.Snapshot.Metadata}
		change(m)
		g.Receive(p2p.Envelope{Src: p, ChannelID: statesync.SnapshotChannel, Message: m})
	}
	part := func(p p2p.Peer, missing bool) {
		m := &ssproto.ChunkResponse{Height: o.Snapshot.Height, Format: snapshotFormat, Missing: missing}
		if !missing {
			m.Chunk = chunkOf(t, from, o.Snapshot.Height, 0)
		}
		g.Receive(p2p.Envelope{Src: p, ChannelID: statesync.ChunkChannel, Message: m})
	}
	step := func(what string, wantHeard, wantDropped int) {
		t.Helper()
		if len(in.heard) != wantHeard || dropped != wantDropped {
			t.Errorf("%s: %d messages, %d peers dropped", what, len(in.heard), dropped)
		}
		in.heard, dropped = nil, 0
	}
	offer(a, func(m *ssproto.SnapshotsResponse) { m.Format++ })
	step("another form", 0, 0)
	offer(b, func(m *ssproto.SnapshotsResponse) { m.Height++ })
	step("not its manifest", 0, 1)
	offer(b, func(m *ssproto.SnapshotsResponse) { m.Metadata = make([]byte, 4_000_000) })
	step("large garbage", 0, 1)
	part(a, false)
	step("a part that nobody asked for", 0, 0)
	offer(a, func(*ssproto.SnapshotsResponse) {})
	step("an offer", 1, 0)
	if r, err := to.OfferSnapshot(ctx, o); err != nil || r.Result != abci.ResponseOfferSnapshot_ACCEPT {
		t.Fatalf("%v, %v", r, err)
	}
	part(b, false)
	part(b, true)
	step("parts of a stranger", 0, 0)
	part(a, false)
	step("a part", 1, 0)
	part(a, true)
	if m, ok := in.heard[0].Message.(*ssproto.ChunkResponse); !ok || m.Missing || m.Chunk == nil || len(m.Chunk) != 0 {
		t.Errorf("a part that is gone: %v", in.heard[0].Message)
	}
	step("a part that is gone", 1, 0)
	if r, err := to.ApplySnapshotChunk(ctx, &abci.RequestApplySnapshotChunk{Sender: string(a.ID())}); err != nil || r.Result != abci.ResponseApplySnapshotChunk_REJECT_SNAPSHOT || len(r.RejectSenders) > 0 || to.in != nil {
		t.Errorf("%v, %v", r, err)
	}
	part(a, false)
	step("a part of what is given up", 0, 0)
	to.lenders.gone(a.ID())
	if r, err := to.OfferSnapshot(ctx, o); err != nil || r.Result != abci.ResponseOfferSnapshot_REJECT {
		t.Errorf("a snapshot that nobody has any more: %v, %v", r, err)
	}
}
