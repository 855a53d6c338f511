package gossip

import (
	"errors"
	"fmt"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"sn3/chain"
)

// mallory is a peer that speaks gossipsub without our checks.
type mallory struct {
	topic  *pubsub.Topic
	host   host.Host
	victim peer.AddrInfo
}

// newHostFor is a host of a named actor that may dial the victim.
func newHostFor(t *testing.T, name string, victim *Node) (host.Host, peer.AddrInfo) {
	t.Helper()
	priv, err := identity(key(t, name))
	if err != nil {
		t.Fatal(err)
	}
	info, err := peer.AddrInfoFromString(victim.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	at := newGate(func() {})
	at.configure([]peer.AddrInfo{*info})
	h, _, err := newHost(priv, addr(t, DefaultListen), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h, *info
}

func newMallory(t *testing.T, victim *Node) *mallory {
	t.Helper()
	h, info := newHostFor(t, "mallory", victim)
	ps, err := pubsub.NewGossipSub(t.Context(), h, pubsub.WithFloodPublish(true))
	if err != nil {
		t.Fatal(err)
	}
	topic, err := ps.Join(victim.topicName())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topic.Subscribe(); err != nil {
		t.Fatal(err)
	}
	if err := h.Connect(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	met(t, &Node{topic: topic}, 1)
	return &mallory{topic, h, info}
}

func (m *mallory) send(t *testing.T, b []byte, opts ...pubsub.PubOpt) {
	t.Helper()
	if err := m.topic.Publish(t.Context(), b, opts...); err != nil {
		t.Fatal(err)
	}
}

func encoded(t testing.TB, a Announcement) []byte {
	t.Helper()
	b, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What mallory sends reaches neither alice's reader nor bob behind her; what bob sends still does.
func TestRefusals(t *testing.T) {
	as := func(name string) pubsub.PubOpt { // signed by another key, sent by mallory
		priv, err := identity(key(t, name))
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPrivateKey(priv)
		if err != nil {
			t.Fatal(err)
		}
		return pubsub.WithSecretKeyAndPeerId(priv, id)
	}
	ed, _, err := crypto.GenerateEd25519Key(zeros{})
	if err != nil {
		t.Fatal(err)
	}
	edID, err := peer.IDFromPrivateKey(ed)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		opts []pubsub.PubOpt
		want Stats
	}{
		"forged author":        {encoded(t, about(t, "bob", 1)), nil, Stats{Forged: 1}},
		"author is no account": {encoded(t, about(t, "bob", 1)), []pubsub.PubOpt{pubsub.WithSecretKeyAndPeerId(ed, edID)}, Stats{Forged: 1}},
		"oversized":            {make([]byte, MaxAnnouncement+1), nil, Stats{Invalid: 1}},
		"garbage":              {[]byte("garbage"), nil, Stats{Invalid: 1}},
		"trailing byte":        {append(encoded(t, about(t, "mallory", 1)), 0), nil, Stats{Invalid: 1}},
		"unknown hotkey":       {encoded(t, about(t, "stranger", 1)), []pubsub.PubOpt{as("stranger")}, Stats{Unknown: 1}},
		"useless window":       {encoded(t, about(t, "mallory", 1000)), nil, Stats{Window: 1}},
		"honest all the same":  {encoded(t, about(t, "mallory", 1)), nil, Stats{Accepted: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			stranger := hotkey(t, "stranger")
			cfg := Config{Network: "test", Key: key(t, "alice"), Known: func(h chain.Hotkey) bool { return h != stranger },
				Window: func(w chain.Window) bool { return w < 10 }}
			alice, err := Start(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(alice.Close)
			bob := start(t, "bob", anyone, alice)
			m := newMallory(t, alice)
			met(t, bob, 1)
			met(t, alice, 2)
			m.send(t, c.data, c.opts...)
			until(t, alice, func(s Stats) bool { return s != Stats{} })
			if s := alice.Stats(); s != c.want {
				t.Errorf("%+v, want %+v", s, c.want)
			}
			announce(t, bob, about(t, "bob", 5))
			heard := hear(t, alice)
			if c.want.Accepted == 1 && heard.Hotkey == hotkey(t, "mallory") {
				heard = hear(t, alice)
			}
			if !same(heard, about(t, "bob", 5)) {
				t.Errorf("alice heard %+v", heard)
			}
			announce(t, alice, about(t, "alice", 6))
			for got := hear(t, bob); !same(got, about(t, "alice", 6)); got = hear(t, bob) {
				if c.want.Accepted == 0 || got.Hotkey != hotkey(t, "mallory") {
					t.Errorf("bob heard %+v", got)
				}
			}
		})
	}
}

// zeros is a source of randomness that has none: the key only has to be of another kind.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A neighbour that keeps sending what no honest node sends is cut off; the network goes on.
func TestExpelled(t *testing.T) {
	alice := start(t, "alice", anyone)
	bob := start(t, "bob", anyone, alice)
	met(t, bob, 1)
	m := newMallory(t, alice)
	met(t, alice, 2)
	for i := range maxStrikes {
		m.send(t, fmt.Appendf(nil, "garbage %d", i))
	}
	until(t, alice, func(s Stats) bool { return s.Expelled == 1 })
	if s := alice.Stats(); s.Invalid != maxStrikes {
		t.Errorf("%+v", s)
	}
	announce(t, bob, about(t, "bob", 1))
	if got := hear(t, alice); got.Hotkey != hotkey(t, "bob") {
		t.Errorf("heard %+v", got)
	}
}

// A registered miner that floods is heard at the rate of its allowance, not cut off, and does not silence others.
func TestFlood(t *testing.T) {
	alice := start(t, "alice", anyone)
	m := newMallory(t, alice)
	const sent = 200
	began := time.Now()
	for w := range chain.Window(sent) { // one by one: gossipsub itself drops what is sent faster than it can write
		m.send(t, encoded(t, about(t, "mallory", w)))
		until(t, alice, func(s Stats) bool { return s.Accepted+s.Flooded > uint64(w) })
	}
	s, most := alice.Stats(), authorBurst+uint64(time.Since(began).Seconds()*authorRate)+1
	if s.Accepted < authorBurst || s.Accepted > most || s.Expelled != 0 {
		t.Errorf("%+v, want %d to %d accepted", s, authorBurst, most)
	}
	bob := start(t, "bob", anyone, alice)
	met(t, bob, 1)
	met(t, alice, 2)
	announce(t, bob, about(t, "bob", 1))
	for got := hear(t, alice); got.Hotkey != hotkey(t, "bob"); got = hear(t, alice) {
	}
}

// A slow reader costs announcements, nothing else.
func TestNobodyReads(t *testing.T) {
	alice := start(t, "alice", anyone)
	for i := range queue {
		alice.out <- Announcement{Window: chain.Window(i)}
	}
	bob := start(t, "bob", anyone, alice)
	met(t, bob, 1)
	met(t, alice, 1)
	announce(t, bob, about(t, "bob", 1))
	until(t, alice, func(s Stats) bool { return s.Missed == 1 })
}

func TestAnnounceRefuses(t *testing.T) {
	alice := start(t, "alice", anyone)
	if err := alice.Announce(t.Context(), about(t, "bob", 1)); !errors.Is(err, ErrAuthor) {
		t.Errorf("for another: %v", err)
	}
	a := about(t, "alice", 1)
	a.Locator = make([]byte, chain.MaxLocator+1)
	if err := alice.Announce(t.Context(), a); err == nil {
		t.Error("a locator too long")
	}
	if err := alice.Announce(t.Context(), about(t, "alice", 1)); err != nil {
		t.Errorf("without any peer: %v", err)
	}
}

// The peer id holds the account: what hotkeyOf reads is what the chain knows.
func TestIdentity(t *testing.T) {
	tt := t
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		priv, err := identity(key(tt, name))
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPrivateKey(priv)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := hotkeyOf(id); err != nil || h != hotkey(tt, name) {
			t.Fatalf("%s, %v", h, err)
		}
	})
	const want = "/ip6/::1/tcp/7/p2p/"
	a, err := PeerAddr(key(t, "alice"), "[::1]:7")
	id, idErr := PeerID(key(t, "alice"))
	if err != nil || idErr != nil || a != want+id {
		t.Errorf("%s, want %s%s; %v %v", a, want, id, err, idErr)
	}
	for _, bad := range []string{"", "localhost:1", "127.0.0.1", "127.0.0.1:x"} {
		if _, err := PeerAddr(key(t, "alice"), bad); err == nil {
			t.Errorf("made an address of %q", bad)
		}
	}
	if _, err := PeerAddr(nil, "127.0.0.1:1"); err == nil {
		t.Error("made an address without a key")
	}
}

// Never more than burst + rate·time, and whoever asks slowly gets all.
func TestAllowance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		burst, rate := float64(rapid.IntRange(1, 20).Draw(t, "burst")), float64(rapid.IntRange(1, 5).Draw(t, "rate"))
		of := map[string]*allowance{}
		began := time.Unix(1000, 0)
		now, passed := began, 0
		for range rapid.IntRange(1, 200).Draw(t, "n") {
			wait := time.Duration(rapid.IntRange(0, 2000).Draw(t, "wait")) * time.Millisecond
			now = now.Add(wait)
			ok := allow(of, "a", 1, burst, rate, now)
			if wait.Seconds()*rate >= 1 && !ok {
				t.Fatalf("refused after %v", wait)
			}
			if ok {
				passed++
			}
			if most := burst + rate*now.Sub(began).Seconds(); float64(passed) > most+1e-6 {
				t.Fatalf("%d passed, at most %v", passed, most)
			}
		}
	})
	of := map[int]*allowance{}
	for i := range 3 * maxTracked {
		allow(of, i, 1, 1, 1, time.Unix(0, 0))
	}
	if len(of) > maxTracked {
		t.Errorf("%d remembered, at most %d", len(of), maxTracked)
	}
}

// A neighbour's messages are bounded before their signatures are checked.
func TestInspect(t *testing.T) {
	var expelled []peer.ID
	g := newGuard(anyone, nil, func(id peer.ID) { expelled = append(expelled, id) })
	g.self = "self"
	now := time.Unix(1000, 0)
	g.now = func() time.Time { return now }
	rpc := func(n, size int) *pubsub.RPC {
		r := &pubsub.RPC{RPC: pb.RPC{}}
		for range n {
			r.Publish = append(r.Publish, &pb.Message{Data: make([]byte, size)})
		}
		return r
	}
	if err := g.inspect("x", rpc(sourceBurst, MaxAnnouncement)); err != nil {
		t.Fatal(err)
	}
	if err := g.inspect("x", rpc(1, 1)); !errors.Is(err, errSource) {
		t.Errorf("above the burst: %v", err)
	}
	if err := g.inspect("x", rpc(0, 0)); err != nil {
		t.Errorf("control data only: %v", err)
	}
	if err := g.inspect("y", rpc(1, 1)); err != nil {
		t.Errorf("another neighbour: %v", err)
	}
	now = now.Add(time.Second)
	if err := g.inspect("x", rpc(int(sourceRate), 1)); err != nil {
		t.Errorf("a second later: %v", err)
	}
	for i := range maxStrikes {
		if len(expelled) != 0 {
			t.Fatalf("expelled after %d", i)
		}
		if err := g.inspect("z", rpc(1, MaxAnnouncement+1)); !errors.Is(err, errSource) {
			t.Errorf("oversized: %v", err)
		}
	}
	for range maxStrikes { // the node itself is never cut off
		g.strike("self")
	}
	if len(expelled) != 1 || expelled[0] != "z" {
		t.Errorf("expelled %v", expelled)
	}
}
