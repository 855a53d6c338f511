package node

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/pex"
)

// discoverEvery is how often a node looks for peers that it does not know: a network in which all know only the first node
// must have other connections before that one may stop.
const discoverEvery = 3 * time.Second

// book is the file of addresses that peers told of.
const book = "data/peers.json"

// discovery is the engine's peer exchange with an address book of our own: the engine's looks around every 30 s, made for networks
// of thousands, and cannot be waited for when the node closes.
func discovery(home string, id p2p.ID, n Net, log log.Logger) (p2p.Reactor, pex.AddrBook, error) {
	path := filepath.Join(home, book)
	if raw, err := os.ReadFile(path); err == nil && !json.Valid(raw) { // the engine panics on it; it is found again
		if err := os.Remove(path); err != nil {
			return nil, nil, fmt.Errorf("remove the damaged address book: %w", err)
		}
	}
	b := pex.NewAddrBook(path, n.strict(net.InterfaceAddrs))
	b.SetLogger(log)
	for _, addr := range []string{n.Listen, n.External} {
		if addr == "" {
			continue
		}
		own, err := p2p.NewNetAddressString(p2p.IDAddressString(id, addr))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %v", ErrNet, err)
		}
		b.AddOurAddress(own)
	}
	r := pex.NewReactor(b, &pex.ReactorConfig{PersistentPeersMaxDialPeriod: redial})
	r.SetLogger(log)
	r.SetEnsurePeersPeriod(discoverEvery)
	return exchange{r, b}, b, nil
}

// exchange tells others of a peer that dialled this node where it was seen. The engine's tells what the peer says of itself, which
// for most is 0.0.0.0, where nobody finds them.
type exchange struct {
	*pex.Reactor
	book pex.AddrBook
}

// AddPeer implements p2p.Reactor.
func (x exchange) AddPeer(p p2p.Peer) {
	if p.IsOutbound() { // the book has it
		x.Reactor.AddPeer(p)
		return
	}
	if addr, err := p2p.NewNetAddressString(p2p.IDAddressString(p.ID(), listens(p))); err == nil {
		_ = x.book.AddAddress(addr, addr) // what it does not take, nobody is told of
	}
}

// strict says that only addresses of the internet are dialled of what others tell. A node in a private network, where no others
// are, is one at a private address; one that listens at all of its addresses is where the peers are that its operator named, or
// without any where its machine is.
func (n Net) strict(machine func() ([]net.Addr, error)) bool {
	host, _, err := net.SplitHostPort(cmp.Or(n.External, n.Listen))
	ip := net.ParseIP(host)
	if err != nil || ip == nil || !ip.IsUnspecified() {
		return err != nil || !private(ip)
	}
	for _, p := range n.Peers {
		_, addr, _ := strings.Cut(p, "@")
		if host, _, err := net.SplitHostPort(addr); err == nil && private(net.ParseIP(host)) {
			return false
		}
	}
	if len(n.Peers) > 0 {
		return true
	}
	addrs, err := machine()
	return err != nil || slices.ContainsFunc(addrs, func(a net.Addr) bool {
		at, ok := a.(*net.IPNet)
		return ok && !private(at.IP)
	})
}

// private says whether an address is none of the internet.
func private(ip net.IP) bool {
	return ip != nil && (ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast())
}

// settle gives a node that may take any port the one it had last time, or where that is taken another one, which it keeps:
// peers find it again after a restart.
func settle(home string, n Net) (Net, error) {
	host, port, err := net.SplitHostPort(n.Listen)
	if err != nil || port != "0" {
		return n, err
	}
	if n.Port != 0 {
		last := join(host, n.Port)
		if l, err := net.Listen("tcp", last); err == nil {
			n.Listen = last
			return n, l.Close()
		}
	}
	if n.Port, err = freePort(host); err != nil {
		return n, err
	}
	kept, err := ReadNet(home) // without what is for this run only
	if err != nil {
		return n, err
	}
	kept.Port = n.Port
	if err := WriteNet(home, kept); err != nil {
		return n, fmt.Errorf("keep the port for peers: %w", err)
	}
	n.Listen = join(host, n.Port)
	return n, nil
}
