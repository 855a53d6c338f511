// Package gossip carries announcements between nodes: "my submission for window w is in this bucket, under this digest", so
// that validators fetch at once instead of waiting for the block with the record. Chain and S3 stay the truth: a lost, late,
// repeated or censored announcement changes nothing but speed, and a node without gossip reaches the same state.
//
// It is gossipsub over libp2p: TCP, Noise, yamux. A peer's identity is its account key, so the author of a message is a
// hotkey; messages are signed by their author and checked before they are forwarded.
package gossip

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/multiformats/go-multiaddr"

	"sn3/chain"
)

// DefaultListen is a free port of this machine alone.
const DefaultListen = "/ip4/127.0.0.1/tcp/0"

const (
	topicPrefix  = "/sn3/announce/1/" // and the network's name
	maxRPC       = 64 << 10           // bytes in one message between neighbours, control data included
	remember     = time.Minute        // for so long a message is known as seen
	queue        = 256                // announcements waiting for the reader
	maxNetwork   = 64
	validateJobs = 8 // at once, so that a slow Known cannot pile up goroutines
)

// Config is what a node needs to take part.
type Config struct {
	Network string            // name of the network; others have other topics
	Key     *ecdsa.PrivateKey // of the hotkey
	Listen  string            // multiaddress; "" is DefaultListen
	Peers   []string          // multiaddresses with /p2p/ of peers to stay connected to; the own one is passed over
	// Known says whether a hotkey has a seat. It is called from several goroutines and may take a moment.
	Known func(chain.Hotkey) bool
	// Window says whether an announcement for a window can be of use now; nil takes all.
	Window func(chain.Window) bool
	Log    *slog.Logger // nil logs nothing
}

// ErrAuthor: a node announces for its own hotkey only.
var ErrAuthor = errors.New("gossip: announcement for another hotkey")

// Stats counts messages of others since Start.
type Stats struct {
	Accepted uint64
	Invalid  uint64 // not an announcement, or too large
	Forged   uint64 // author is another than the hotkey in it
	Unknown  uint64 // hotkey without a seat
	Window   uint64 // for a window that is of no use
	Flooded  uint64 // above the rate of its author or of the neighbour it came from
	Expelled uint64 // neighbours
	Refused  uint64 // dials that a neighbour asked for, to peers or addresses that are not configured
	Missed   uint64 // announcements that nobody read in time
}

// Node is a running peer. All methods are safe for concurrent use.
type Node struct {
	cfg    Config
	hotkey chain.Hotkey
	host   host.Host
	net    *swarm.Swarm
	ps     *pubsub.PubSub
	topic  *pubsub.Topic
	sub    *pubsub.Subscription
	guard  *guard
	gate   *gate
	peers  []peer.AddrInfo
	expel  chan peer.ID
	out    chan Announcement
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
}

// Start listens, joins the network's topic and keeps connected to the peers, which need not be up yet. When ctx ends nothing
// more is sent or received; Close gives the port back.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	if cfg.Network == "" || len(cfg.Network) > maxNetwork || cfg.Known == nil {
		return nil, fmt.Errorf("start gossip: network name %q and a Known function are needed", cfg.Network)
	}
	if cfg.Listen == "" {
		cfg.Listen = DefaultListen
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	key, err := identity(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	listen, err := multiaddr.NewMultiaddr(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("start gossip: read listen address %q (want something like %s): %w", cfg.Listen, DefaultListen, err)
	}
	n := &Node{cfg: cfg, expel: make(chan peer.ID, queue), out: make(chan Announcement, queue)}
	n.guard = newGuard(cfg.Known, cfg.Window, n.mark)
	n.gate = newGate(func() { n.guard.count(func(s *Stats) { s.Refused++ }) })
	if n.host, n.net, err = newHost(key, listen, n.gate); err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	if err := n.join(ctx); err != nil {
		n.Close()
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	return n, nil
}

// join starts gossipsub and the node's own goroutines.
func (n *Node) join(ctx context.Context) (err error) {
	if n.hotkey, err = hotkeyOf(n.host.ID()); err != nil {
		return err
	}
	if n.peers, err = parsePeers(n.cfg.Peers, n.host.ID()); err != nil {
		return err
	}
	n.gate.configure(n.peers)
	n.guard.self = n.host.ID()
	ctx, n.cancel = context.WithCancel(ctx)
	quiet := slog.New(slog.DiscardHandler)
	n.ps, err = pubsub.NewGossipSub(ctx, n.host,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign),
		pubsub.WithMessageIdFn(messageID),
		pubsub.WithMaxMessageSize(maxRPC),
		pubsub.WithSeenMessagesTTL(remember),
		pubsub.WithFloodPublish(true), // own announcements go to all neighbours at once: there are few, and time counts
		pubsub.WithAppSpecificRpcInspector(n.guard.inspect),
		pubsub.WithBlacklist(n.gate),
		pubsub.WithSubscriptionFilter(pubsub.WrapLimitSubscriptionFilter(pubsub.NewAllowlistSubscriptionFilter(n.topicName()), 8)),
		pubsub.WithLogger(quiet), pubsub.WithRPCLogger(quiet))
	if err != nil {
		return err
	}
	if err := n.ps.RegisterTopicValidator(n.topicName(), n.guard.validate, pubsub.WithValidatorConcurrency(validateJobs)); err != nil {
		return err
	}
	if n.topic, err = n.ps.Join(n.topicName()); err != nil {
		return err
	}
	if n.sub, err = n.topic.Subscribe(pubsub.WithBufferSize(queue)); err != nil {
		return err
	}
	n.wg.Go(func() { n.receive(ctx) })
	n.wg.Go(func() { n.stayConnected(ctx) })
	n.wg.Go(func() { n.expelMarked(ctx) })
	return nil
}

func (n *Node) topicName() string { return topicPrefix + n.cfg.Network }

// messageID makes the same announcement of the same author one message, however often it is sent.
func messageID(m *pb.Message) string { return string(m.GetFrom()) + string(m.GetData()) }

// mark has a neighbour expelled; it does not block.
func (n *Node) mark(id peer.ID) {
	select {
	case n.expel <- id:
	default: // as many others wait already; its next strikes mark it again
	}
}

// receive hands announcements of others to the reader. What the reader leaves lying is dropped.
func (n *Node) receive(ctx context.Context) {
	defer close(n.out)
	for {
		m, err := n.sub.Next(ctx)
		if err != nil { // ctx ended or the subscription was cancelled
			return
		}
		a, ok := m.ValidatorData.(Announcement)
		if !ok || a.Hotkey == n.hotkey {
			continue
		}
		select {
		case n.out <- a:
		default:
			n.guard.count(func(s *Stats) { s.Missed++ })
		}
	}
}

// Announce tells all peers; with none connected it does nothing and is no error. a.Hotkey must be the node's own.
func (n *Node) Announce(ctx context.Context, a Announcement) error {
	if a.Hotkey != n.hotkey {
		return fmt.Errorf("announce: %w: %s, this node is %s", ErrAuthor, a.Hotkey.Short(), n.hotkey.Short())
	}
	b, err := a.Encode()
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	if err := n.topic.Publish(ctx, b); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}

// Announcements delivers what other registered hotkeys announce; closed by Close or when Start's context ends.
func (n *Node) Announcements() <-chan Announcement { return n.out }

// Addrs are the addresses under which this node can be dialled, with /p2p/.
func (n *Node) Addrs() []string {
	var out []string
	for _, a := range n.host.Addrs() {
		out = append(out, fmt.Sprintf("%s/p2p/%s", a, n.host.ID()))
	}
	return out
}

// Stats says what came and what was refused.
func (n *Node) Stats() Stats { return n.guard.snapshot() }

// Connected is the number of peers connected.
func (n *Node) Connected() int { return len(n.net.Peers()) }

// Neighbours is the number of connected peers that take part in the network's topic: they hear what is announced now.
func (n *Node) Neighbours() int { return len(n.topic.ListPeers()) }

// Close leaves the topic and gives back port, connections and goroutines. It may be called more than once.
func (n *Node) Close() {
	n.once.Do(func() {
		if n.cancel != nil {
			n.cancel()
		}
		if err := n.host.Close(); err != nil {
			n.cfg.Log.Debug("peer-to-peer host did not close cleanly", "reason", err)
		}
		n.wg.Wait()
	})
}
