package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/state"
)

// ErrGenesis: a node gave another genesis than it should have.
var ErrGenesis = errors.New("node: another genesis")

// Joined is what a node that joined a network has to know and to tell.
type Joined struct {
	Network string
	Genesis chain.Hash
	Peers   []string // ID@HOST:PORT
	Line    local.Candidate
}

// Join makes the folder of a node of an existing network: it takes the genesis from a running node, reached at host, and as
// peers that node and those it tells of, beside the ones in n. With pinned, the hash of the genesis, the node that answers
// need not be trusted; without it (zero), whoever answers says what the network is.
func Join(ctx context.Context, home string, from local.Backend, host string, pinned chain.Hash, n Net) (*Joined, error) {
	g, err := fetchGenesis(ctx, from, pinned)
	if err != nil {
		return nil, err
	}
	known := len(n.Peers)
	found, err := findPeers(ctx, from, host)
	if err != nil {
		return nil, err
	}
	if n.Peers = append(append([]string(nil), n.Peers...), found...); len(n.Peers) == 0 {
		return nil, fmt.Errorf("%w: the node there tells no address at which others reach it from here; start it with --p2p-listen on an address that this machine reaches, or name a node with --peer ID@HOST:PORT", ErrNet)
	}
	n.Peers = unique(n.Peers, known)
	if err := Init(home, g, n); err != nil {
		return nil, err
	}
	line, err := Keys(home, g.Network)
	if err != nil {
		return nil, err
	}
	hash, err := g.Hash()
	return &Joined{g.Network, hash, n.Peers, line}, err
}

// fetchGenesis takes the genesis from a node and holds it against the hash that is pinned, or else that the node names.
func fetchGenesis(ctx context.Context, from local.Backend, pinned chain.Hash) (*state.Genesis, error) {
	st, err := local.NewClient(from, nil).Status(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := from.Query(ctx, local.QueryGenesis, "")
	if err != nil {
		return nil, fmt.Errorf("fetch genesis: %w", err)
	}
	g, err := state.ParseGenesis(raw)
	if err != nil {
		return nil, fmt.Errorf("%w; is this program older than the network's?", err)
	}
	if _, err := g.Validate(); err != nil {
		return nil, err
	}
	if len(g.Validators) == 0 || g.Time.IsZero() || len(g.BeaconKey) == 0 {
		return nil, fmt.Errorf("%w: it is not complete", ErrGenesis)
	}
	hash, err := g.Hash()
	switch {
	case err != nil:
		return nil, err
	case pinned != chain.Hash{} && hash != pinned:
		return nil, fmt.Errorf("%w: it has the hash %s, not %s; that node is of another network, or lies", ErrGenesis, hash, pinned)
	case hash != st.GenesisHash:
		return nil, fmt.Errorf("%w: it has the hash %s, the node's status names %s", ErrGenesis, hash, st.GenesisHash)
	}
	return g, nil
}

// findPeers asks a node at host where it and its peers take connections. What it tells of this machine's own loopback is of
// use only where host is that, too.
func findPeers(ctx context.Context, from local.Backend, host string) ([]string, error) {
	raw, err := from.Query(ctx, local.QueryNode, "")
	if err != nil {
		return nil, fmt.Errorf("ask for peers: %w", err)
	}
	var s local.NodeStatus
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("ask for peers: read answer: %w", err)
	}
	own := local.PeerInfo{ID: s.ID, Addr: s.Listen}
	if h, port, err := net.SplitHostPort(s.Listen); err == nil {
		if ip := net.ParseIP(h); ip != nil && ip.IsUnspecified() {
			own.Addr = net.JoinHostPort(host, port)
		}
	}
	var out []string
	for _, p := range append([]local.PeerInfo{own}, s.Peers...) {
		h, _, err := net.SplitHostPort(p.Addr)
		if err != nil || !nodeID(p.ID) || !hostPort(p.Addr, 1) || loopback(h) && !loopback(host) {
			continue
		}
		out = append(out, p.ID+"@"+p.Addr)
	}
	return out, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// maxFound bounds the peers that a node takes on another one's word.
const maxFound = 32

// unique drops peers whose id came before, and what is more than known and maxFound.
func unique(list []string, known int) (out []string) {
	seen := map[string]bool{}
	for _, p := range list[:min(len(list), known+maxFound)] {
		if id := p[:min(len(p), 40)]; !seen[id] {
			seen[id] = true
			out = append(out, p)
		}
	}
	return out
}
