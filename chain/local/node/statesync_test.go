package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/localtest"
)

// notes keeps the lines of a log and tells when one comes.
type notes struct {
	mu    sync.Mutex
	text  bytes.Buffer
	fresh chan struct{}
}

func newNotes() *notes { return &notes{fresh: make(chan struct{}, 1)} }

// Write takes a line.
func (n *notes) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case n.fresh <- struct{}{}:
	default:
	}
	return n.text.Write(b)
}

func (n *notes) has(s string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Contains(n.text.String(), s)
}

// member is a node of a test's network.
type member struct {
	*Node
	home string
	log  *notes
	stop func()
}

// founder makes the folder of the first node of a network with quick blocks.
func founder(t *testing.T, actors ...localtest.Actor) string {
	t.Helper()
	g, _, err := localtest.Genesis(50, append(actors, localtest.Actor{Name: "me", Seat: true, Balance: chain.RaoPerCoin})...)
	if err != nil {
		t.Fatal(err)
	}
	g.BeaconKey = nil
	home := filepath.Join(t.TempDir(), "chain")
	if err := Init(home, g, DefaultNet()); err != nil {
		t.Fatal(err)
	}
	return home
}

// begin starts a node whose snapshots are small and frequent.
func begin(t *testing.T, home string, change ...func(*Options)) *member {
	t.Helper()
	return beginAs(t, home, nil, change...)
}

// beginAs is begin with something between the node's application and its engine.
func beginAs(t *testing.T, home string, between func(*app) abci.Application, change ...func(*Options)) *member {
	t.Helper()
	m := &member{home: home, log: newNotes()}
	o := Options{Home: home, Listen: "127.0.0.1:0", Version: "test", SnapshotEvery: 20, Log: slog.New(slog.NewTextHandler(m.log, nil))}
	for _, f := range change {
		f(&o)
	}
	n, err := open(o)
	if err != nil {
		t.Fatal(err)
	}
	n.app.shots.chunk, n.app.shots.keep, n.between = 512, 1000, between
	if err := n.run(); err != nil {
		t.Fatal(err)
	}
	m.Node = n
	m.stop = sync.OnceFunc(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		m.stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", home, m.log.text.String())
		}
	})
	return m
}

// invite makes the folder of a node that joins the network of others.
func invite(t *testing.T, from ...*member) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "chain")
	b, err := local.Dial(from[0].Addr())
	if err != nil {
		t.Fatal(err)
	}
	n := DefaultNet()
	for _, m := range from {
		n.Peers = append(n.Peers, m.Status().ID+"@"+m.Status().Listen)
	}
	if _, err := Join(deadline(t), home, b, "127.0.0.1", chain.Hash{}, n); err != nil {
		t.Fatal(err)
	}
	return home
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// until waits for a block of the node.
func (m *member) until(t *testing.T, b chain.Block) {
	t.Helper()
	ctx := deadline(t)
	for {
		heads, err := m.Heads(ctx, b-1)
		if err != nil {
			h, _ := m.Height()
			t.Fatalf("block %d at the height %d: %v", b, h, err)
		}
		if len(heads) > 0 {
			return
		}
	}
}

// says waits for a line in the node's log.
func (m *member) says(t *testing.T, line string) {
	t.Helper()
	ctx := deadline(t)
	for !m.log.has(line) {
		select {
		case <-m.log.fresh:
		case <-ctx.Done():
			t.Fatalf("the log does not say %q", line)
		}
	}
}

func (m *member) head(t *testing.T, b chain.Block) (local.HeadInfo, error) {
	t.Helper()
	raw, err := m.Query(t.Context(), local.QueryHead, jsonNumber(b))
	if err != nil {
		return local.HeadInfo{}, err
	}
	var h local.HeadInfo
	return h, json.Unmarshal(raw, &h)
}

func jsonNumber(b chain.Block) string {
	raw, _ := json.Marshal(uint64(b))
	return string(raw)
}

// agree compares what nodes have at a block that is to come.
func agree(t *testing.T, nodes ...*member) {
	t.Helper()
	at := chain.Block(0)
	for _, m := range nodes {
		h, _ := m.Height()
		at = max(at, h+1)
	}
	var want local.HeadInfo
	for i, m := range nodes {
		for b := at; b == at || m.Status().CatchingUp; b++ { // the engine may fail in a node that is stopped while it fetches blocks
			m.until(t, b)
		}
		got, err := m.head(t, at)
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

// A node joins by a snapshot of its peers, one of which sends wrong parts. It has no history, goes on with the others, and
// serves snapshots itself. It was killed on the way once, when half of the state was there.
func TestStateSync(t *testing.T) {
	t.Parallel()
	honest := begin(t, founder(t))
	honest.until(t, 3)
	liar := begin(t, invite(t, honest))
	honest.until(t, 44)
	liar.until(t, 44)
	const first = 40
	for _, m := range []*member{honest, liar} {
		only(t, m, first)
	}
	spoil(t, liar)

	home := invite(t, honest, liar)
	trust, err := PlanSync(deadline(t), home, []string{honest.Addr(), liar.Addr()}, Trust{})
	if err != nil || trust.Height != 1 {
		t.Fatalf("trusted block %s: %v", trust, err)
	}
	for _, name := range []string{"sn3.db", "sn3.db.sync", "data/state.db/garbage"} { // what a killed node may leave
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(home, name)), 0o700), os.WriteFile(filepath.Join(home, name), []byte("half"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	fresh := begin(t, home)
	fresh.until(t, first)
	agree(t, honest, liar, fresh)
	if _, err := fresh.head(t, 5); !errors.Is(err, chain.ErrPruned) {
		t.Errorf("it knows block 5: %v", err)
	}
	if b, err := fresh.lightBlock(""); err != nil || b.Base <= 20 {
		t.Errorf("it has fetched the blocks from %d on: %v", b.Base, err)
	}
	fresh.says(t, "a peer sent a wrong part of the state")
	key, err := localtest.Key("me")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := local.NewClient(fresh.Node, nil).History(deadline(t), local.AccountOf(&key.PublicKey), 0); err != nil || p.From <= first {
		t.Errorf("events since block %d: %v", p.From, err)
	}
	if !missing(filepath.Join(home, syncFile)) {
		t.Error("it would begin anew")
	}
	for h, _ := fresh.Height(); fresh.Status().Snapshot == 0; h++ {
		fresh.until(t, h)
	}
	fresh.stop()
	again := begin(t, home)
	agree(t, honest, again)
}

// only makes a node offer the snapshot of one block and no more.
func only(t *testing.T, m *member, at chain.Block) {
	t.Helper()
	s := m.app.shots
	s.mu.Lock()
	s.every = 0
	s.mu.Unlock()
	s.writing.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, a := range s.list {
		if a.height == at {
			s.list = s.list[i : i+1]
			return
		}
	}
	t.Fatalf("no snapshot of block %d", at)
}

// spoil changes one byte in every part of a node's snapshot.
func spoil(t *testing.T, m *member) {
	t.Helper()
	spoilOne(t, m, m.app.shots.list[0])
}

func spoilOne(t *testing.T, m *member, a *archive) {
	t.Helper()
	raw, err := os.ReadFile(m.app.shots.path(a.height))
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.hashes {
		raw[a.at+int64(i)*int64(a.chunk)+7] ^= 1
	}
	if err := os.WriteFile(m.app.shots.path(a.height), raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
