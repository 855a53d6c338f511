package gossip

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// gate decides which connections there may be. Outwards only those to configured peers at their configured addresses:
// libp2p would also dial what neighbours tell it, in peer exchanges of gossipsub and in the addresses of identify, and so
// reach into private networks on a stranger's word. Inwards everybody who was not expelled. Safe for concurrent use.
type gate struct {
	refused func() // a dial to somewhere else

	mu     sync.Mutex
	peers  map[peer.ID][]multiaddr.Multiaddr
	banned map[peer.ID]bool
	order  []peer.ID // of banned, oldest first: an expelled peer can come back under ever new names
}

func newGate(refused func()) *gate {
	return &gate{refused: refused, peers: map[peer.ID][]multiaddr.Multiaddr{}, banned: map[peer.ID]bool{}}
}

// configure sets whom to dial, and where.
func (g *gate) configure(peers []peer.AddrInfo) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range peers {
		g.peers[p.ID] = p.Addrs
	}
}

// Add bans a peer and says whether that is news; it implements pubsub.Blacklist.
func (g *gate) Add(id peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.banned[id] {
		return false
	}
	if len(g.order) >= maxTracked {
		delete(g.banned, g.order[0])
		g.order = g.order[1:]
	}
	g.banned[id] = true
	g.order = append(g.order, id)
	return true
}

// Contains says whether a peer is banned; it implements pubsub.Blacklist.
func (g *gate) Contains(id peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.banned[id]
}

// InterceptPeerDial lets configured peers pass.
func (g *gate) InterceptPeerDial(id peer.ID) bool {
	g.mu.Lock()
	_, ok := g.peers[id]
	ok = ok && !g.banned[id]
	g.mu.Unlock()
	if !ok {
		g.refused()
	}
	return ok
}

// InterceptAddrDial lets configured addresses pass. Of a host name, which is resolved by now, the port must be right.
func (g *gate) InterceptAddrDial(id peer.ID, at multiaddr.Multiaddr) bool {
	g.mu.Lock()
	known := g.peers[id]
	g.mu.Unlock()
	for _, a := range known {
		if a.Equal(at) || named(a) && port(a) != "" && port(a) == port(at) {
			return true
		}
	}
	g.refused()
	return false
}

// InterceptAccept lets everybody in; who it is is not known yet.
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured turns expelled peers away.
func (g *gate) InterceptSecured(_ network.Direction, id peer.ID, _ network.ConnMultiaddrs) bool {
	return !g.Contains(id)
}

// InterceptUpgraded has nothing to add.
func (g *gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// named says whether an address begins with a host name.
func named(a multiaddr.Multiaddr) bool {
	if len(a) == 0 {
		return false
	}
	switch a[0].Protocol().Code {
	case multiaddr.P_DNS, multiaddr.P_DNS4, multiaddr.P_DNS6:
		return true
	}
	return false
}

func port(a multiaddr.Multiaddr) string {
	p, err := a.ValueForProtocol(multiaddr.P_TCP)
	if err != nil {
		return ""
	}
	return p
}
