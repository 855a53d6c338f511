package simnet

import (
	"context"

	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/internal/events"
	"sn3/internal/gossip"
	"sn3/storage"
)

const (
	miners     = 3
	validators = 2
	liar       = miners + 1 // a seat whose owner only announces
	patience   = 20 * time.Second
)

// fetches are the heights at which validators read payloads from miners' buckets: of one validator and one bucket the i-th
// is that of window i, because no miner misses one.
type fetches struct {
	n  *Net
	mu sync.Mutex
	at map[[2]string][]chain.Block // by validator and bucket
}

// counted is a miner's bucket as a validator sees it.
type counted struct {
	storage.Driver
	f         *fetches
	validator string
	bucket    string
}

func (c counted) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if strings.HasPrefix(key, "payload/") {
		who, now := [2]string{c.validator, c.bucket}, c.f.n.Chain.Height()
		c.f.mu.Lock()
		c.f.at[who] = append(c.f.at[who], now)
		c.f.mu.Unlock()
	}
	return c.Driver.Get(ctx, key, off, n)
}

// count says how many payloads of windows up to last were read before the deadline and after it.
func (f *fetches) count(t *testing.T, last chain.Window) (early, late int) {
	t.Helper()
	s, err := chain.NewSchedule(f.n.Run.Schedule)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, at := range f.at {
		for w := range min(last+1, chain.Window(len(at))) {
			if at[w] < s.At(w, chain.PhaseDeadline) {
				early++
			} else {
				late++
			}
		}
	}
	return early, late
}

// mesh is a network's peer-to-peer side: real hosts on loopback, one for each node.
type mesh struct {
	t          *testing.T
	validators map[string]*gossip.Node
	miners     map[string]*gossip.Node
	handled    chan error // what became of an announcement, from every validator
}

func newMesh(t *testing.T, n *Net) *mesh {
	t.Helper()
	m := &mesh{t: t, validators: map[string]*gossip.Node{}, miners: map[string]*gossip.Node{}, handled: make(chan error, 100)}
	known := func(h chain.Hotkey) bool {
		s, err := client{n.Chain, key(ValidatorName(1))}.Snapshot(t.Context(), n.Chain.Height())
		if err != nil {
			t.Error(err)
			return false
		}
		for _, x := range s.Neurons {
			if x.Hotkey == h {
				return true
			}
		}
		return false
	}
	join := func(name string, peers []string) *gossip.Node {
		g, err := gossip.Start(t.Context(), gossip.Config{Network: n.Run.Network, Key: key(name), Peers: peers, Known: known})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Close)
		return g
	}
	var addrs []string
	for i := range validators {
		g := join(ValidatorName(i+1), addrs)
		m.validators[ValidatorName(i+1)] = g
		addrs = append(addrs, g.Addrs()...)
	}
	for i := range liar {
		m.miners[MinerName(i+1)] = join(MinerName(i+1), addrs)
	}
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for name, g := range m.miners {
		for g.Neighbours() < validators {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("%s has %d neighbours", name, g.Neighbours())
			}
		}
	}
	return m
}

// listen does for a validator what its process does: fetch at once what is announced.
func (m *mesh) listen(x *Node) {
	g := m.validators[x.Name]
	var wg sync.WaitGroup
	wg.Go(func() {
		for a := range g.Announcements() {
			m.handled <- x.Replica.Prefetch(m.t.Context(), a.Window, a.Digest, a.Locator)
		}
	})
	m.t.Cleanup(func() {
		g.Close()
		wg.Wait()
	})
}

// announce sends an announcement and waits until both validators have done with it. The miner counts as at work meanwhile,
// so no block is made. It returns how many of them could fetch what it says.
func (m *mesh) announce(ctx context.Context, name string, a gossip.Announcement) (fetched int) {
	if err := m.miners[name].Announce(ctx, a); err != nil {
		m.t.Error(err)
		return 0
	}
	for range validators {
		select {
		case err := <-m.handled:
			if err == nil {
				fetched++
			}
		case <-time.After(patience):
			m.t.Errorf("the announcement of %s for window %d was not heard", name, a.Window)
		}
	}
	return fetched
}

func locator(t *testing.T, name string) []byte {
	t.Helper()
	l, err := storage.Local(name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Encode()
}

// lie announces what is not so, before the truth about it is known: two lies a window, for an author has an allowance.
func (m *mesh) lie(ctx context.Context, w chain.Window, truth chain.Hash) {
	lies := []gossip.Announcement{
		{Window: w, Digest: chain.Hash{byte(w), 1}, Locator: locator(m.t, MinerName(1))},     // no such object
		{Window: w, Digest: truth, Locator: locator(m.t, MinerName(liar))},                   // not in this bucket
		{Window: w + 1000, Digest: truth, Locator: locator(m.t, MinerName(1))},               // not yet
		{Window: w, Digest: chain.Hash{byte(w), 2}, Locator: []byte("no locator")},           // nowhere
		{Window: w, Digest: chain.Hash{byte(w), 3}, Locator: locator(m.t, ValidatorName(1))}, // somebody else's bucket
	}
	for i := range 2 {
		a := lies[(2*int(w)+i)%len(lies)]
		a.Hotkey = local.AccountOf(&key(MinerName(liar)).PublicKey)
		if n := m.announce(ctx, MinerName(liar), a); n != 0 {
			m.t.Errorf("%d validators could fetch what is not there: %+v", n, a)
		}
	}
}

// trainWith runs a network for some windows and returns the roots and winners, which all nodes agree on.
func trainWith(t *testing.T, p2p, lies bool, last chain.Window) (map[chain.Window]chain.Hash, *fetches) {
	n := New(t, Options{Validators: []chain.Amount{300, 200}, Miners: miners, Spare: 1})
	f := &fetches{n: n, at: map[[2]string][]chain.Block{}}
	var m *mesh
	if p2p {
		m = newMesh(t, n)
	}
	var nodes []*Node
	for i := range validators {
		name := ValidatorName(i + 1)
		x := n.StartValidator(name, NodeOptions{Open: func(l storage.Locator, d storage.Driver) storage.Driver { return counted{d, f, name, l.Bucket()} }})
		nodes = append(nodes, x)
		if p2p {
			m.listen(x)
		}
	}
	var mu sync.Mutex // one announcement at a time, so that validators' answers belong to it
	announced := 0
	for i := range miners {
		name := MinerName(i + 1)
		o := NodeOptions{}
		if p2p {
			o.Announce = func(ctx context.Context, w chain.Window, digest chain.Hash) {
				mu.Lock()
				defer mu.Unlock()
				announced++
				if lies && name == MinerName(1) {
					m.lie(ctx, w, digest)
				}
				a := gossip.Announcement{Window: w, Hotkey: local.AccountOf(&key(name).PublicKey), Digest: digest, Locator: locator(t, name)}
				if got := m.announce(ctx, name, a); got != validators {
					t.Errorf("%d validators fetched what %s announced for window %d", got, name, w)
				}
			}
		}
		nodes = append(nodes, n.StartMiner(name, o))
	}
	n.To(last)
	for w := range last + 1 {
		agree(t, w, nodes...)
	}
	for _, e := range nodes[0].Events(events.Applied) {
		if len(e.Winners) != miners {
			t.Errorf("window %d has %d winners", e.Window, len(e.Winners))
		}
	}
	for w, want := range map[chain.Window]bool{last - 1: false, last: true, last + 1: true, last + 2: false, 1 << 63: false} {
		if got := nodes[0].Replica.Expected(w); got != want {
			t.Errorf("announcements for window %d in window %d are expected: %v, want %v", w, last+1, got, want)
		}
	}
	if mu.Lock(); p2p && announced < miners*int(last) {
		t.Errorf("%d announcements in %d windows", announced, last)
	}
	mu.Unlock()
	return nodes[0].Roots(), f
}

// With peer-to-peer announcements, with --no-p2p and with a registered liar among the peers, all nodes reach the same roots;
// what announcements change is when validators fetch: before the deadline instead of after it.
func TestGossipChangesNoRoot(t *testing.T) {
	const last = 4
	const all = miners * validators * (last + 1)
	without, f := trainWith(t, false, false, last)
	if early, late := f.count(t, last); early != 0 || late != all {
		t.Errorf("without peer-to-peer: %d payloads fetched before the deadline, %d after; want all %d after", early, late, all)
	}
	for name, lies := range map[string]bool{"with peer-to-peer": false, "with a liar": true} {
		roots, f := trainWith(t, true, lies, last)
		for w := range chain.Window(last + 1) {
			if roots[w] != without[w] {
				t.Errorf("%s: root of window %d is %s, without %s", name, w, roots[w].Short(), without[w].Short())
			}
		}
		if early, late := f.count(t, last); late != 0 || early != all {
			t.Errorf("%s: %d payloads fetched before the deadline, %d after; want all %d before", name, early, late, all)
		}
	}
}
