package gossip

import (
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
)

// Limits of one host. Announcements are 200 bytes, so little is enough.
const (
	maxConns       = 256
	maxPeerConns   = 4
	maxPeerStreams = 32
	maxMemory      = 64 << 20
	streamWindow   = 256 << 10 // the smallest that yamux takes
	dialTimeout    = 5 * time.Second
)

// newHost puts a libp2p host together by hand: TCP, Noise, yamux, identify. libp2p.New would link QUIC, WebRTC and
// WebTransport, and start relays, hole punching and NAT detection, none of which is wanted here; there is no mDNS, UPnP or
// NAT-PMP either. The port is not opened with SO_REUSEPORT: a port that another process holds is an error.
func newHost(key crypto.PrivKey, listen multiaddr.Multiaddr, g *gate) (h host.Host, net *swarm.Swarm, err error) {
	var made []func() error // closed again when a later step fails; a host closes what it is made of
	defer func() {
		if err != nil {
			for _, f := range made {
				err = errors.Join(err, f())
			}
		}
	}()
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	store, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, nil, err
	}
	made = append(made, store.Close)
	if err := errors.Join(store.AddPrivKey(id, key), store.AddPubKey(id, key.GetPublic())); err != nil {
		return nil, nil, err
	}
	limits, err := newLimits()
	if err != nil {
		return nil, nil, err
	}
	bus := eventbus.NewBus()
	net, err = swarm.NewSwarm(id, store, bus, swarm.WithResourceManager(limits), swarm.WithDialTimeout(dialTimeout), swarm.WithDialTimeoutLocal(dialTimeout),
		swarm.WithConnectionGater(g))
	if err != nil {
		return nil, nil, errors.Join(err, limits.Close())
	}
	made = []func() error{net.Close, limits.Close} // the swarm closes the store
	if err := addTransport(net, key, limits, g); err != nil {
		return nil, nil, err
	}
	conns, err := connmgr.NewConnManager(maxConns/2, maxConns*3/4)
	if err != nil {
		return nil, nil, err
	}
	b, err := basichost.NewHost(net, &basichost.HostOpts{EventBus: bus, ConnManager: conns, UserAgent: "sn3"})
	if err != nil {
		return nil, nil, errors.Join(err, conns.Close())
	}
	made = []func() error{b.Close}
	if err := net.Listen(listen); err != nil {
		return nil, nil, fmt.Errorf("listen on %s: %w", listen, err)
	}
	b.Start()
	return b, net, nil
}

func addTransport(net *swarm.Swarm, key crypto.PrivKey, limits network.ResourceManager, g *gate) error {
	window := *yamux.DefaultTransport
	window.MaxStreamWindowSize = streamWindow
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: &window}}
	security, err := noise.New(noise.ID, key, muxers)
	if err != nil {
		return err
	}
	up, err := upgrader.New([]sec.SecureTransport{security}, muxers, nil, limits, g)
	if err != nil {
		return err
	}
	t, err := tcp.NewTCPTransport(up, limits, nil, tcp.DisableReuseport())
	if err != nil {
		return err
	}
	return net.AddTransport(t)
}

// newLimits bounds what peers can make this process hold.
func newLimits() (network.ResourceManager, error) {
	partial := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{Conns: maxConns, ConnsInbound: maxConns / 2, ConnsOutbound: maxConns / 2, FD: maxConns, Memory: maxMemory,
			Streams: maxConns * 8, StreamsInbound: maxConns * 4, StreamsOutbound: maxConns * 4},
		Transient: rcmgr.ResourceLimits{Conns: maxConns / 4, Memory: maxMemory / 4},
		PeerDefault: rcmgr.ResourceLimits{Conns: maxPeerConns, ConnsInbound: maxPeerConns, ConnsOutbound: maxPeerConns, Memory: maxMemory / 8,
			Streams: maxPeerStreams, StreamsInbound: maxPeerStreams / 2, StreamsOutbound: maxPeerStreams / 2},
	}
	limiter := rcmgr.NewFixedLimiter(partial.Build(rcmgr.DefaultLimits.Scale(maxMemory, maxConns)))
	return rcmgr.NewResourceManager(limiter, rcmgr.WithMetricsDisabled())
}
