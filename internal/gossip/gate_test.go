package gossip

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"sn3/chain"
)

func addr(t testing.TB, s string) multiaddr.Multiaddr {
	t.Helper()
	a, err := multiaddr.NewMultiaddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// wire connects a host without gossipsub to the victim and returns what writes one message of the protocol to it.
func wire(t *testing.T, victim *Node) func(*pb.RPC) {
	t.Helper()
	h, info := newHostFor(t, "mallory", victim)
	if err := h.Connect(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	s, err := h.NewStream(t.Context(), info.ID, pubsub.GossipSubID_v11)
	if err != nil {
		t.Fatal(err)
	}
	return func(rpc *pb.RPC) {
		b, err := proto.Marshal(rpc)
		if err != nil {
			t.Fatal(err)
		}
		w := bufio.NewWriter(s)
		if _, err := w.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

// A neighbour cannot make a node connect anywhere: what gossipsub's peer exchange names is not dialled.
func TestPeerExchangeIsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // stands for a service of a private network
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var came atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			_ = c.Close()
		}
	}()
	alice := start(t, "alice", anyone)
	bait, err := identity(key(t, "bait"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(bait)
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	signed, err := record.Seal(&peer.PeerRecord{PeerID: id, Seq: 1, Addrs: []multiaddr.Multiaddr{addr(t, "/ip4/127.0.0.1/tcp/"+port)}}, bait)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := signed.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	topic := alice.topicName()
	wire(t, alice)(&pb.RPC{Control: &pb.ControlMessage{Prune: []*pb.ControlPrune{{TopicID: &topic, Peers: []*pb.PeerInfo{{PeerID: []byte(id), SignedPeerRecord: envelope}}}}}})
	until(t, alice, func(s Stats) bool { return s.Refused > 0 })
	if n := came.Load(); n != 0 {
		t.Errorf("%d connections to where mallory pointed", n)
	}
}

// The node dials configured peers at configured addresses only, and speaks nothing but identify and gossipsub: no relay, no
// hole punching, no NAT detection.
func TestGate(t *testing.T) {
	refused := 0
	g := newGate(func() { refused++ })
	g.configure([]peer.AddrInfo{{ID: "alice", Addrs: []multiaddr.Multiaddr{addr(t, "/ip4/127.0.0.1/tcp/4001")}},
		{ID: "bob", Addrs: []multiaddr.Multiaddr{addr(t, "/dns4/bob.example/tcp/4002")}}})
	for _, c := range []struct {
		id peer.ID
		at string
		ok bool
	}{
		{"alice", "/ip4/127.0.0.1/tcp/4001", true},
		{"alice", "/ip4/127.0.0.1/tcp/22", false},
		{"alice", "/ip4/10.0.0.1/tcp/4001", false},
		{"alice", "/ip4/169.254.169.254/tcp/80", false},
		{"bob", "/ip4/203.0.113.9/tcp/4002", true}, // what the name says now
		{"bob", "/ip6/2001:db8::9/tcp/4002", true},
		{"bob", "/ip4/203.0.113.9/tcp/22", false},
		{"bob", "/ip4/203.0.113.9/udp/4002/quic-v1", false},
		{"stranger", "/ip4/127.0.0.1/tcp/4001", false},
	} {
		before := refused
		if ok := g.InterceptAddrDial(c.id, addr(t, c.at)); ok != c.ok || (refused == before) != ok {
			t.Errorf("%s at %s: %v, %d counted", c.id, c.at, ok, refused-before)
		}
	}
	if !g.InterceptPeerDial("alice") || g.InterceptPeerDial("stranger") {
		t.Error("dials alice no, a stranger yes")
	}
	if !g.InterceptSecured(network.DirInbound, "stranger", nil) {
		t.Error("a stranger cannot come in")
	}
	if !g.Add("alice") || g.Add("alice") || g.InterceptPeerDial("alice") || g.InterceptSecured(network.DirInbound, "alice", nil) {
		t.Error("an expelled peer goes on")
	}
	n := start(t, "alice", anyone)
	for _, p := range n.host.Mux().Protocols() {
		if s := string(p); !strings.HasPrefix(s, "/meshsub/") && s != "/floodsub/1.0.0" && s != "/ipfs/id/1.0.0" && s != "/ipfs/id/push/1.0.0" {
			t.Errorf("speaks %s", s)
		}
	}
}

// Whoever comes back under ever new names does not make the list of the expelled grow for ever.
func TestBansAreBounded(t *testing.T) {
	g := newGate(func() {})
	for i := range 3 * maxTracked {
		g.Add(peer.ID(fmt.Sprint(i)))
	}
	if len(g.banned) != maxTracked || len(g.order) != maxTracked || cap(g.order) > 4*maxTracked {
		t.Errorf("%d and %d remembered, room for %d; at most %d", len(g.banned), len(g.order), cap(g.order), maxTracked)
	}
	if !g.Contains(peer.ID(fmt.Sprint(3*maxTracked-1))) || g.Contains("0") {
		t.Error("the oldest stayed, the newest went")
	}
}

// An expelled neighbour does not come back.
func TestExpelledStaysOut(t *testing.T) {
	alice := start(t, "alice", anyone)
	m := newMallory(t, alice)
	met(t, alice, 1)
	for i := range maxStrikes {
		m.send(t, fmt.Appendf(nil, "garbage %d", i))
	}
	until(t, alice, func(s Stats) bool { return s.Expelled == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if !eventually(func() bool { return m.host.Network().Connectedness(m.victim.ID) != network.Connected }) {
		t.Fatal("still connected")
	}
	if err := m.host.Connect(ctx, m.victim); err != nil {
		return
	}
	s, err := m.host.NewStream(ctx, m.victim.ID, pubsub.GossipSubID_v11) // her side may learn late that it was refused
	if err != nil {
		return
	}
	if err := s.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return
	}
	if b, err := io.ReadAll(s); err == nil && len(b) > 0 {
		t.Errorf("alice speaks to her again: %q", b)
	}
	if n := alice.Connected(); n != 0 {
		t.Errorf("alice is connected to %d", n)
	}
}

// Spam of many authors without a seat: nothing of it is remembered, the rate of the neighbour holds, others are heard.
func TestSpamLeavesNothingBehind(t *testing.T) {
	seat := hotkey(t, "bob")
	alice := start(t, "alice", func(h chain.Hotkey) bool { return h == seat })
	write := wire(t, alice)
	topic := alice.topicName()
	const authors, rounds = 100, 20
	seen := func(s Stats) uint64 { return s.Unknown + s.Flooded }
	for r := range chain.Window(rounds) {
		rpc := &pb.RPC{}
		for i := range authors {
			name := fmt.Sprint("spam ", i)
			priv, err := identity(key(t, name))
			if err != nil {
				t.Fatal(err)
			}
			id, err := peer.IDFromPrivateKey(priv)
			if err != nil {
				t.Fatal(err)
			}
			msg := &pb.Message{From: []byte(id), Data: encoded(t, about(t, name, r)), Seqno: binary.BigEndian.AppendUint64(nil, uint64(r)), Topic: &topic}
			b, err := proto.Marshal(msg)
			if err != nil {
				t.Fatal(err)
			}
			if msg.Signature, err = priv.Sign(append([]byte(pubsub.SignPrefix), b...)); err != nil {
				t.Fatal(err)
			}
			rpc.Publish = append(rpc.Publish, msg)
		}
		before := seen(alice.Stats())
		write(rpc)
		until(t, alice, func(s Stats) bool { return seen(s) > before }) // what is more than the queue of validation holds is dropped
	}
	until(t, alice, func(s Stats) bool { return s.Flooded > 0 })
	g := alice.guard
	g.mu.Lock()
	if len(g.authors) != 0 || len(g.sources) > 2 || len(g.strikes) != 0 {
		t.Errorf("%d authors, %d neighbours, %d strikes remembered", len(g.authors), len(g.sources), len(g.strikes))
	}
	g.mu.Unlock()
	bob := start(t, "bob", anyone, alice)
	met(t, bob, 1)
	met(t, alice, 1)
	announce(t, bob, about(t, "bob", 1))
	if got := hear(t, alice); got.Hotkey != seat {
		t.Errorf("heard %+v", got)
	}
}

// A peer that goes away and comes back at the same address is dialled again.
func TestReconnects(t *testing.T) {
	alice := start(t, "alice", anyone)
	bob := start(t, "bob", anyone, alice)
	met(t, bob, 1)
	addrs := alice.Addrs()
	alice.Close()
	again, err := Start(t.Context(), Config{Network: "test", Key: key(t, "alice"), Known: anyone, Listen: strings.Split(addrs[0], "/p2p/")[0]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	if !slices.Equal(again.Addrs(), addrs) {
		t.Fatalf("alice is at %v, was at %v", again.Addrs(), addrs)
	}
	met(t, again, 1)
	met(t, bob, 1)
	announce(t, bob, about(t, "bob", 1))
	if got := hear(t, again); !same(got, about(t, "bob", 1)) {
		t.Errorf("heard %+v", got)
	}
}
