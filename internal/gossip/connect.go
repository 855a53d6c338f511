package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
)

const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// parsePeers reads multiaddresses, joins those of one peer, and passes over the own.
func parsePeers(addrs []string, self peer.ID) ([]peer.AddrInfo, error) {
	var out []peer.AddrInfo
	at := map[peer.ID]int{}
	for _, s := range addrs {
		info, err := peer.AddrInfoFromString(s)
		if err != nil {
			return nil, fmt.Errorf("read peer address %q (want /ip4/ADDRESS/tcp/PORT/p2p/ID): %w", s, err)
		}
		if info.ID == self {
			continue
		}
		if i, ok := at[info.ID]; ok {
			out[i].Addrs = append(out[i].Addrs, info.Addrs...)
			continue
		}
		at[info.ID] = len(out)
		out = append(out, *info)
	}
	return out, nil
}

// retry is when a peer is dialled next.
type retry struct {
	at   time.Time
	wait time.Duration
}

// stayConnected dials configured peers until ctx ends, less and less often those that do not answer.
func (n *Node) stayConnected(ctx context.Context) {
	state := make([]retry, len(n.peers))
	tick := time.NewTicker(firstRetry)
	defer tick.Stop()
	for {
		var wg sync.WaitGroup
		for i, p := range n.peers {
			switch now := time.Now(); {
			case n.gate.Contains(p.ID):
			case n.net.Connectedness(p.ID) == network.Connected:
				state[i] = retry{}
			case !now.Before(state[i].at):
				wait := min(max(firstRetry, 2*state[i].wait), lastRetry)
				state[i] = retry{now.Add(wait), wait}
				wg.Go(func() { n.dial(ctx, p, wait) })
			}
		}
		wg.Wait()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// expelMarked expels neighbours that the guard marked, until ctx ends.
func (n *Node) expelMarked(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-n.expel:
			if n.gate.Add(id) {
				n.drop(id)
			}
		}
	}
}

func (n *Node) dial(ctx context.Context, p peer.AddrInfo, next time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	n.net.Backoff().Clear(p.ID)         // the schedule here is the only one
	n.host.Peerstore().ClearAddrs(p.ID) // what it said of itself last time
	n.host.Peerstore().AddAddrs(p.ID, p.Addrs, peerstore.PermanentAddrTTL)
	if err := n.host.Connect(ctx, p); err != nil && ctx.Err() == nil {
		n.cfg.Log.Debug("peer does not answer", "peer", p.ID, "again_in", next, "reason", err)
	}
}

// drop cuts off a neighbour that the gate will not let in again.
func (n *Node) drop(id peer.ID) {
	n.guard.count(func(s *Stats) { s.Expelled++ })
	n.ps.BlacklistPeer(id)
	level := slog.LevelDebug // anybody can be expelled under ever new names
	if slices.ContainsFunc(n.peers, func(p peer.AddrInfo) bool { return p.ID == id }) {
		level = slog.LevelWarn
	}
	n.cfg.Log.Log(context.Background(), level, "peer expelled: it sent messages that no honest node sends", "peer", id)
	if err := n.net.ClosePeer(id); err != nil {
		n.cfg.Log.Debug("expelled peer's connection did not close cleanly", "peer", id, "reason", err)
	}
}
