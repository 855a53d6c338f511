package node

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	cfg "github.com/cometbft/cometbft/config"

	"sn3/chain/local"
)

// netFile holds a Net; without it a node takes DefaultNet.
const netFile = "node.json"

// Net is how a node meets others.
type Net struct {
	Listen        string   `json:"listen"`                  // HOST:PORT; port 0 is chosen, once
	Port          int      `json:"port,omitempty"`          // that was chosen
	External      string   `json:"external,omitempty"`      // HOST:PORT where others reach it, if that is elsewhere
	Peers         []string `json:"peers,omitempty"`         // ID@HOST:PORT, dialled for as long as the node runs
	Unconditional []string `json:"unconditional,omitempty"` // ids of others that find a place when the node is full
	MaxInbound    int      `json:"max_inbound"`             // peers that dialled it, beside the unconditional and Peers
	Private       bool     `json:"private,omitempty"`       // do not tell anybody where its peers are, and look for no others
}

// DefaultNet is a node that only programs on the same machine reach.
func DefaultNet() Net { return Net{Listen: "127.0.0.1:0", MaxInbound: 40} }

// ErrNet: a setting of peer-to-peer is malformed.
var ErrNet = errors.New("node: peer-to-peer settings")

// Check refuses what the engine would not understand.
func (n Net) Check() error {
	if !hostPort(n.Listen, 0) {
		return fmt.Errorf("%w: listen address %q: want HOST:PORT", ErrNet, n.Listen)
	}
	if n.External != "" && !hostPort(n.External, 1) {
		return fmt.Errorf("%w: external address %q: want HOST:PORT", ErrNet, n.External)
	}
	if n.MaxInbound < 0 || n.MaxInbound > 1000 {
		return fmt.Errorf("%w: %d inbound peers: want 0 to 1000", ErrNet, n.MaxInbound)
	}
	for _, p := range n.Peers {
		if id, addr, _ := strings.Cut(p, "@"); !nodeID(id) || !hostPort(addr, 1) {
			return fmt.Errorf("%w: peer %q: want ID@HOST:PORT, which chaind status prints", ErrNet, p)
		}
	}
	for _, id := range n.Unconditional {
		if !nodeID(id) {
			return fmt.Errorf("%w: peer id %q: want 40 hex digits", ErrNet, id)
		}
	}
	return nil
}

func nodeID(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 40 && s == strings.ToLower(s)
}

// hostPort says whether s is HOST:PORT with a port of at least least. Commas and spaces would split the engine's lists.
func hostPort(s string, least int) bool {
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.Atoi(port)
	return err == nil && perr == nil && host != "" && !strings.ContainsAny(s, ", @") && n >= least && n <= 65535
}

// ReadNet reads a folder's settings of peer-to-peer.
func ReadNet(home string) (Net, error) {
	n := DefaultNet()
	raw, err := os.ReadFile(filepath.Join(home, netFile))
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return n, fmt.Errorf("read peer-to-peer settings: %w", err)
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		return n, fmt.Errorf("%w: %s: %v", ErrNet, filepath.Join(home, netFile), err)
	}
	return n, n.Check()
}

// WriteNet changes them, for the next start.
func WriteNet(home string, n Net) error {
	if err := n.Check(); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(home, netFile), append(raw, '\n'))
}

// config is the engine's configuration. A node talks to the peers that its operator named, to whoever of the same network
// dials it, and, unless it is private, to a few that these tell of.
func config(home string, blockTime time.Duration, n Net) *cfg.Config {
	c := cfg.DefaultConfig()
	c.SetRoot(home)
	c.RPC.ListenAddress = ""
	c.FilterPeers = true // see app.Query
	c.P2P.ListenAddress = "tcp://" + n.Listen
	if n.External != "" {
		c.P2P.ExternalAddress = "tcp://" + n.External
	}
	c.P2P.PersistentPeers = strings.Join(n.Peers, ",")
	ids := append([]string(nil), n.Unconditional...)
	for _, p := range n.Peers {
		id, _, _ := strings.Cut(p, "@")
		ids = append(ids, id)
	}
	c.P2P.UnconditionalPeerIDs = strings.Join(ids, ",")
	c.P2P.MaxNumInboundPeers = n.MaxInbound
	c.P2P.PersistentPeersMaxDialPeriod = redial
	c.P2P.AllowDuplicateIP = true // several nodes behind one address; MaxInbound is the limit
	c.P2P.PexReactor = false      // see discovery
	c.P2P.AddrBookStrict = false
	c.TxIndex.Indexer = "null"
	c.Storage.DiscardABCIResponses = true
	c.Mempool.Size = maxPending
	c.Mempool.MaxTxBytes = local.MaxTx
	c.Mempool.MaxTxsBytes = maxPending * local.MaxTx
	// what a proposer that is away costs: its turn's time-out and two rounds of votes for nothing
	c.Consensus.TimeoutPropose = max(blockTime, leastTimeout)
	c.Consensus.TimeoutProposeDelta = leastTimeout / 2
	c.Consensus.TimeoutPrevote, c.Consensus.TimeoutPrecommit = leastTimeout/2, leastTimeout/2
	c.Consensus.TimeoutCommit = blockTime
	c.Consensus.SkipTimeoutCommit = false
	c.Consensus.BlockTimeTolerance = clockTolerance
	c.Consensus.PeerGossipSleepDuration = 20 * time.Millisecond // every step of a block waits for it
	return c
}

const (
	leastTimeout = 500 * time.Millisecond // longer than a message takes around the world
	redial       = 30 * time.Second       // between attempts to reach a peer that is away

	// clockTolerance is how far a machine's clock may be behind the newest block. The engine ends beyond it, and its default of a
	// minute is less than a clock that is set back: a network of one machine could not go on for as long as it was set back by.
	clockTolerance = time.Hour
)

// freePort chooses a port: the engine tells peers the port it was given. It is taken from below the range in which the system
// chooses ports for connections, so that nothing else takes it before the engine does.
func freePort(host string) (port int, err error) {
	for range 100 {
		port = 20000 + rand.IntN(10000)
		l, lerr := net.Listen("tcp", join(host, port))
		if err = lerr; err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a port for peer-to-peer on %s: %w", host, err)
}

func join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
