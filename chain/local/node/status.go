package node

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"time"

	comet "github.com/cometbft/cometbft/consensus"
	"github.com/cometbft/cometbft/p2p"
	comettypes "github.com/cometbft/cometbft/types"

	"sn3/chain"
	"sn3/chain/local"
)

// Query implements local.Backend: what the ledger does not know is what the node says of itself.
func (n *Node) Query(ctx context.Context, name, arg string) (json.RawMessage, error) {
	if name == local.QueryNode {
		return json.Marshal(n.Status())
	}
	if name == local.QueryLight {
		b, err := n.lightBlock(arg)
		if err != nil {
			return nil, err
		}
		return json.Marshal(b)
	}
	return n.Ledger.Query(ctx, name, arg)
}

// Status is what the node says of itself and of its peers.
func (n *Node) Status() local.NodeStatus {
	s := local.NodeStatus{ID: n.line.Node, Listen: n.p2p, Key: n.line.Key, Line: n.line.String(), Beacon: n.signs(),
		Paused: n.comet == nil, Peers: []local.PeerInfo{}, Voters: n.app.voters()}
	s.KnownRules, s.Snapshot = n.app.newest, n.app.shots.newest()
	if n.comet == nil {
		return s
	}
	s.CatchingUp = n.comet.ConsensusReactor().WaitSync()
	for _, p := range n.comet.Switch().Peers().Copy() {
		s.Peers = append(s.Peers, n.peer(p))
	}
	return s
}

func (n *Node) peer(p p2p.Peer) local.PeerInfo {
	info := local.PeerInfo{ID: string(p.ID()), Outbound: p.IsOutbound()}
	if !n.home.net.Private {
		info.Addr = listens(p)
	}
	if ps, ok := p.Get(comettypes.PeerStateKey).(*comet.PeerState); ok {
		info.Height = chain.Block(max(0, ps.GetHeight()))
	}
	return info
}

// signs says whether this node makes a part of the beacon now.
func (n *Node) signs() bool {
	h, _ := n.Height()
	return n.app.signer.signs(n.BeaconKeys(), chain.Round(h))
}

// listens is where a peer takes connections: where it was dialled, or the port that it claims, at the address that it claims if
// that is a public one, else where it was seen. Nobody can aim others' connections at private addresses.
func listens(p p2p.Peer) string {
	if p.IsOutbound() {
		return p.SocketAddr().DialString()
	}
	info, ok := p.NodeInfo().(p2p.DefaultNodeInfo)
	if !ok {
		return ""
	}
	return claims(strings.TrimPrefix(info.ListenAddr, "tcp://"), p.RemoteIP())
}

func claims(addr string, seen net.IP) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	ip := net.ParseIP(host)
	if ip == nil || !ip.IsGlobalUnicast() || ip.IsPrivate() {
		ip = seen
	}
	if addr = net.JoinHostPort(ip.String(), port); !hostPort(addr, 1) {
		return ""
	}
	return addr
}

// keepDialling tries peers of the folder that are away for as long as the node runs: the engine gives up after a day.
func (n *Node) keepDialling() {
	tick := time.NewTicker(redial)
	defer tick.Stop()
	for {
		select {
		case <-n.comet.Quit():
			return
		case <-tick.C:
		}
		n.dialAway(n.home.net.Peers)
	}
}

// dialAway dials those of some peers with which there is no connection.
func (n *Node) dialAway(peers []string) {
	var away []string
	for _, p := range peers {
		if id, _, _ := strings.Cut(p, "@"); !n.comet.Switch().Peers().Has(p2p.ID(id)) {
			away = append(away, p)
		}
	}
	if len(away) > 0 {
		_ = n.comet.Switch().DialPeersAsync(away) // only says that a name did not resolve, and the next try may
	}
}
