package node

import (
	"context"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/p2p"

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
	return begin(t, home, func(o *Options) { o.Net = &Net{Listen: "127.0.0.1:0", Peers: peersOf(from), MaxInbound: 9, Private: true} })
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
	for i := range maxStrikes - 1 { // strikes are counted of all snapshots
		l.offers("a", name(5))
		if out := l.strike("a", true); out != (i == maxStrikes-2) {
			t.Errorf("strike %d: %v", i, out)
		}
	}
	if l.offers("a", name(6)) {
		t.Error("it is heard again")
	}
	if waits, done := l.waits(); waits || done {
		t.Error("it fetches")
	}
	l.finish()
	if waits, done := l.waits(); !waits || !done || l.lends("b") {
		t.Error("it is done")
	}
}
