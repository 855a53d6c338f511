package gossip

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	ethcrypto "github.com/ethereum/go-ethereum/crypto"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"

	"sn3/chain"
	"sn3/chain/local"
)

const patience = 15 * time.Second

// key is the account of a named actor, the same in every run.
func key(t testing.TB, name string) *ecdsa.PrivateKey {
	t.Helper()
	sum := sha256.Sum256([]byte("sn3/gossip/test/" + name))
	k, err := ethcrypto.ToECDSA(sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func hotkey(t testing.TB, name string) chain.Hotkey {
	return local.AccountOf(&key(t, name).PublicKey)
}

func anyone(chain.Hotkey) bool { return true }

// start runs a node of a named actor that dials others.
func start(t testing.TB, name string, known func(chain.Hotkey) bool, peers ...*Node) *Node {
	t.Helper()
	cfg := Config{Network: "test", Key: key(t, name), Known: known}
	for _, p := range peers {
		cfg.Peers = append(cfg.Peers, p.Addrs()...)
	}
	n, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// met waits until n knows that so many peers have joined the topic. What a peer sends arrives from then on: its stream is open.
func met(t testing.TB, n *Node, peers int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	events, err := n.topic.EventHandler()
	if err != nil {
		t.Fatal(err)
	}
	defer events.Cancel()
	for here := map[peer.ID]bool{}; len(here) < peers; { // the handler starts with those that are there
		e, err := events.NextPeerEvent(ctx)
		if err != nil {
			t.Fatalf("%d of %d peers joined: %v", len(here), peers, err)
		}
		here[e.Peer] = e.Type == pubsub.PeerJoin
	}
}

func hear(t testing.TB, n *Node) Announcement {
	t.Helper()
	select {
	case a := <-n.Announcements():
		return a
	case <-time.After(patience):
		t.Fatalf("heard nothing; %+v", n.Stats())
	}
	return Announcement{}
}

// until waits for the counters of a node.
func until(t testing.TB, n *Node, ok func(Stats) bool) {
	t.Helper()
	if !eventually(func() bool { return ok(n.Stats()) }) {
		t.Fatalf("waited in vain: %+v", n.Stats())
	}
}

// eventually says whether ok came true in good time.
func eventually(ok func() bool) bool {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			return false
		}
	}
	return true
}

func about(t testing.TB, name string, w chain.Window) Announcement {
	return Announcement{Window: w, Hotkey: hotkey(t, name), Digest: chain.Hash{byte(w)}, Locator: []byte("local:" + name)}
}

func announce(t testing.TB, n *Node, a Announcement) {
	t.Helper()
	if err := n.Announce(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

func same(a, b Announcement) bool {
	return a.Window == b.Window && a.Hotkey == b.Hotkey && a.Digest == b.Digest && string(a.Locator) == string(b.Locator)
}

func TestTwoNodes(t *testing.T) {
	alice := start(t, "alice", anyone)
	bob := start(t, "bob", anyone, alice)
	met(t, alice, 1)
	met(t, bob, 1)
	for w := range chain.Window(3) {
		announce(t, alice, about(t, "alice", w))
		if got := hear(t, bob); !same(got, about(t, "alice", w)) {
			t.Errorf("bob heard %+v", got)
		}
		announce(t, bob, about(t, "bob", w))
		if got := hear(t, alice); !same(got, about(t, "bob", w)) { // and never its own
			t.Errorf("alice heard %+v", got)
		}
	}
	for range 8 {
		announce(t, alice, about(t, "alice", 0)) // again: one message
	}
	announce(t, alice, about(t, "alice", 9))
	if got := hear(t, bob); got.Window != 9 {
		t.Errorf("bob heard an announcement twice: %+v", got)
	}
	if s := bob.Stats(); s != (Stats{Accepted: 4}) {
		t.Errorf("%+v", s)
	}
}

// Ten nodes in a line: what one says reaches all, through the others. Forwarding starts with gossipsub's first heartbeats, so
// the first announcements may be lost on the way; that is allowed.
func TestTenNodes(t *testing.T) {
	nodes := []*Node{start(t, "node 0", anyone)}
	for i := 1; i < 10; i++ {
		nodes = append(nodes, start(t, fmt.Sprint("node ", i), anyone, nodes[i-1]))
	}
	for i, n := range nodes {
		met(t, n, min(2, i+1, len(nodes)-i))
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	last := nodes[len(nodes)-1]
	for w, heard := chain.Window(0), false; !heard; w++ {
		announce(t, nodes[0], about(t, "node 0", w))
		select {
		case <-tick.C:
		case a := <-last.Announcements():
			heard = true
			if !same(a, about(t, "node 0", a.Window)) {
				t.Errorf("the last heard %+v", a)
			}
		case <-deadline:
			t.Fatalf("the last heard nothing; %+v", last.Stats())
		}
	}
	for i, n := range nodes[1 : len(nodes)-1] {
		if a := hear(t, n); !same(a, about(t, "node 0", a.Window)) {
			t.Errorf("node %d heard %+v", i+1, a)
		}
	}
}

// A peer that is not up yet is dialled until it is; addresses are known beforehand.
func TestDialsUntilThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	addr, err := PeerAddr(key(t, "alice"), at)
	if err != nil {
		t.Fatal(err)
	}
	bob, err := Start(t.Context(), Config{Network: "test", Key: key(t, "bob"), Known: anyone, Peers: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bob.Close)
	c, err := l.Accept() // bob's first try, which finds no node
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	own, err := PeerAddr(key(t, "alice"), at) // a list for all contains the own address too
	if err != nil {
		t.Fatal(err)
	}
	alice, err := Start(t.Context(), Config{Network: "test", Key: key(t, "alice"), Known: anyone, Listen: strings.Split(addr, "/p2p/")[0], Peers: []string{own}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(alice.Close)
	if got := alice.Addrs(); len(got) != 1 || got[0] != addr {
		t.Errorf("alice listens on %v, PeerAddr said %s", got, addr)
	}
	if len(alice.peers) != 0 {
		t.Error("alice would dial herself")
	}
	met(t, bob, 1)
	met(t, alice, 1)
	announce(t, bob, about(t, "bob", 1))
	if got := hear(t, alice); got.Window != 1 {
		t.Errorf("heard %+v", got)
	}
	if _, err := Start(t.Context(), Config{Network: "test", Key: key(t, "eve"), Known: anyone, Listen: alice.cfg.Listen}); err == nil {
		t.Error("two nodes share a port")
	}
}

func TestStartRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	busy := listenAddr(netip.MustParseAddrPort(l.Addr().String()))
	good := Config{Network: "test", Key: key(t, "alice"), Known: anyone}
	before := ours()
	for name, change := range map[string]func(*Config){
		"no network":   func(c *Config) { c.Network = "" },
		"long network": func(c *Config) { c.Network = strings.Repeat("x", maxNetwork+1) },
		"no key":       func(c *Config) { c.Key = nil },
		"no Known":     func(c *Config) { c.Known = nil },
		"bad listen":   func(c *Config) { c.Listen = "127.0.0.1:4001" },
		"busy port":    func(c *Config) { c.Listen = busy },
		"bad peer":     func(c *Config) { c.Peers = []string{"/ip4/127.0.0.1/tcp/1"} },
	} {
		c := good
		change(&c)
		n, err := Start(t.Context(), c)
		if err == nil {
			t.Errorf("%s: started", name)
			n.Close()
		}
		if name == "busy port" && !strings.Contains(fmt.Sprint(err), "listen on "+busy) {
			t.Errorf("busy port: %v", err)
		}
	}
	noneLeft(t, before)
}

// ours are the goroutines of libp2p and this package.
func ours() int {
	buf := make([]byte, 8<<20)
	n := 0
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "libp2p") || strings.Contains(g, "gossip.(*Node)") {
			n++
		}
	}
	return n
}

func noneLeft(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for ours() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines more than before:\n%s", ours()-before, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := ours()
	alice := start(t, "alice", anyone)
	bob := start(t, "bob", anyone, alice)
	met(t, alice, 1)
	met(t, bob, 1)
	announce(t, alice, about(t, "alice", 1))
	hear(t, bob)
	if ours() == before {
		t.Fatal("the count of goroutines sees nothing")
	}
	addr := strings.Split(alice.Addrs()[0], "/p2p/")[0]
	for _, n := range []*Node{alice, bob, alice} {
		n.Close()
	}
	noneLeft(t, before)
	if _, open := <-alice.Announcements(); open {
		t.Error("the channel is still open")
	}
	if err := alice.Announce(t.Context(), about(t, "alice", 2)); err == nil {
		t.Error("announced after Close")
	}
	again, err := Start(t.Context(), Config{Network: "test", Key: key(t, "alice"), Known: anyone, Listen: addr})
	if err != nil {
		t.Fatalf("the port was not given back: %v", err)
	}
	again.Close()
}

// When Start's context ends, the reader is told.
func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n, err := Start(ctx, Config{Network: "test", Key: key(t, "alice"), Known: anyone})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	cancel()
	select {
	case _, open := <-n.Announcements():
		if open {
			t.Error("heard something")
		}
	case <-time.After(patience):
		t.Error("the channel was not closed")
	}
}

// A node of another network hears nothing, on the same wire.
func TestNetworksAreApart(t *testing.T) {
	alice := start(t, "alice", anyone)
	other, err := Start(t.Context(), Config{Network: "other", Key: key(t, "eve"), Known: anyone, Peers: alice.Addrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	bob := start(t, "bob", anyone, alice, other)
	met(t, alice, 1)
	met(t, bob, 1)
	announce(t, other, about(t, "eve", 1))
	announce(t, bob, about(t, "bob", 2))
	if got := hear(t, alice); got.Window != 2 {
		t.Errorf("alice heard %+v", got)
	}
	if n := len(other.topic.ListPeers()); n != 0 {
		t.Errorf("%d peers of another network in the topic", n)
	}
}
