package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/mempool"
	comet "github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/proxy"
	comettypes "github.com/cometbft/cometbft/types"

	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/state"
)

// Files of a node's folder.
const (
	genesisFile = "genesis.sn3.json"
	beaconFile  = "beacon.key"
	formatFile  = "format"
	format      = "1"
)

// ErrFormat: the folder was made by another version.
var ErrFormat = errors.New("node: folder of another version")

// Options are what a node runs with.
type Options struct {
	Home    string
	Listen  string // HOST:PORT of the HTTP API; port 0 is chosen
	Info    local.NodeInfo
	Version string
	Log     *slog.Logger
}

// Init makes a node's folder: keys of consensus and beacon, and the genesis. A genesis without beacon key gets this node's.
func Init(home string, g *state.Genesis) error {
	if _, err := os.Stat(filepath.Join(home, genesisFile)); err == nil {
		return fmt.Errorf("init node: %s holds a chain already; nothing was changed", home)
	}
	for _, d := range []string{home, filepath.Join(home, "config"), filepath.Join(home, "data")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("init node: %w", err)
		}
	}
	secret, err := beacon.Generate()
	if err != nil {
		return err
	}
	if len(g.BeaconKey) == 0 {
		if g.BeaconKey, err = beacon.Public(secret); err != nil {
			return err
		}
	}
	if _, err := g.Validate(); err != nil {
		return err
	}
	c := config(home, time.Second)
	pv := privval.GenFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
	pv.Save()
	pub, err := pv.GetPubKey()
	if err != nil {
		return fmt.Errorf("init node: %w", err)
	}
	doc := comettypes.GenesisDoc{ChainID: chainID(g.Network), GenesisTime: time.Now().UTC(), ConsensusParams: comettypes.DefaultConsensusParams(),
		Validators: []comettypes.GenesisValidator{{Address: pub.Address(), PubKey: pub, Power: 10}}}
	if err := doc.ValidateAndComplete(); err != nil {
		return fmt.Errorf("init node: %w", err)
	}
	raw, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return fmt.Errorf("init node: %w", err)
	}
	if err := doc.SaveAs(c.GenesisFile()); err != nil {
		return fmt.Errorf("init node: %w", err)
	}
	for name, b := range map[string][]byte{beaconFile: secret, formatFile: []byte(format), genesisFile: raw} {
		if err := os.WriteFile(filepath.Join(home, name), b, 0o600); err != nil {
			return fmt.Errorf("init node: %w", err)
		}
	}
	return nil
}

// chainID is a network name that CometBFT accepts as a chain id (at most 50 bytes).
func chainID(network string) string { return network[:min(len(network), comettypes.MaxChainIDLen)] }

func config(home string, blockTime time.Duration) *cfg.Config {
	c := cfg.DefaultConfig()
	c.SetRoot(home)
	c.RPC.ListenAddress = ""
	c.P2P.ListenAddress = "tcp://127.0.0.1:0"
	c.P2P.PexReactor = false
	c.P2P.AddrBookStrict = false
	c.TxIndex.Indexer = "null"
	c.Storage.DiscardABCIResponses = true
	c.Consensus.TimeoutPropose = max(blockTime, time.Second)
	c.Consensus.TimeoutCommit = blockTime
	c.Consensus.SkipTimeoutCommit = false
	return c
}

// Node is a running chain node.
type Node struct {
	app   *app
	comet *comet.Node
	http  *http.Server
	addr  string
	gen   *state.Genesis
	opts  Options
	err   chan error
}

// Start runs a node on an initialised folder.
func Start(o Options) (*Node, error) {
	g, secret, err := readHome(o.Home)
	if err != nil {
		return nil, err
	}
	st, err := openStore(filepath.Join(o.Home, "sn3.db"))
	if err != nil {
		return nil, err
	}
	n := &Node{gen: g, opts: o, err: make(chan error, 2)}
	machine, txs, heads, err := st.restore(g)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("restore chain state: %w", err), st.close())
	}
	n.app = &app{log: o.Log, store: st, secret: secret, st: machine, txs: txs, heads: heads, moved: make(chan struct{}), failed: n.fail}
	listen, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w; another program uses the port: choose another --listen", o.Listen, err), st.close())
	}
	n.addr = listen.Addr().String()
	if err := n.startComet(); err != nil {
		return nil, errors.Join(err, listen.Close(), st.close())
	}
	n.http = &http.Server{Handler: n.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 1 << 14}
	go func() {
		if err := n.http.Serve(listen); !errors.Is(err, http.ErrServerClosed) {
			n.fail(fmt.Errorf("serve API: %w", err))
		}
	}()
	return n, nil
}

func readHome(home string) (*state.Genesis, []byte, error) {
	v, err := os.ReadFile(filepath.Join(home, formatFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s holds no chain: run chaind init first", home)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read node folder: %w", err)
	}
	if string(v) != format {
		return nil, nil, fmt.Errorf("%w: %s has format %q, this build %q; start a new network in another folder", ErrFormat, home, v, format)
	}
	raw, err := os.ReadFile(filepath.Join(home, genesisFile))
	if err != nil {
		return nil, nil, fmt.Errorf("read genesis: %w", err)
	}
	g, err := state.ParseGenesis(raw)
	if err != nil {
		return nil, nil, err
	}
	secret, err := os.ReadFile(filepath.Join(home, beaconFile))
	if err != nil {
		return nil, nil, fmt.Errorf("read beacon key: %w", err)
	}
	return g, secret, nil
}

func (n *Node) startComet() error {
	c := config(n.opts.Home, time.Duration(n.gen.BlockTimeMS)*time.Millisecond)
	nodeKey, err := p2p.LoadOrGenNodeKey(c.NodeKeyFile())
	if err != nil {
		return fmt.Errorf("load node key: %w", err)
	}
	pv := privval.LoadOrGenFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
	n.comet, err = comet.NewNode(c, pv, nodeKey, proxy.NewLocalClientCreator(n.app), comet.DefaultGenesisDocProviderFunc(c), cfg.DefaultDBProvider,
		comet.DefaultMetricsProvider(c.Instrumentation), logger{n.opts.Log})
	if err != nil {
		return fmt.Errorf("start consensus: %w", err)
	}
	if err := n.comet.Start(); err != nil {
		return fmt.Errorf("start consensus: %w", err)
	}
	return nil
}

func (n *Node) fail(err error) {
	select {
	case n.err <- err:
	default:
	}
}

// Addr is where the API listens.
func (n *Node) Addr() string { return n.addr }

// Wait returns when ctx ends (nil) or the node can no longer go on.
func (n *Node) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.comet.Quit():
		return errors.New("consensus engine stopped")
	case err := <-n.err:
		return err
	}
}

// Close stops API, consensus and store, in this order.
func (n *Node) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := n.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) { // somebody still waits for heads
		err = n.http.Close()
	}
	if serr := n.comet.Stop(); serr == nil {
		n.comet.Wait()
	} else {
		err = errors.Join(err, serr)
	}
	return errors.Join(err, n.app.store.close())
}

// submit hands a transaction to the mempool.
func (n *Node) submit(tx []byte) (local.Code, error) {
	n.app.mu.Lock()
	code := n.app.st.CheckTx(tx)
	n.app.mu.Unlock()
	if code != local.CodeOK {
		return code, nil
	}
	err := n.comet.Mempool().CheckTx(tx, nil, mempool.TxInfo{})
	if err != nil && !errors.Is(err, mempool.ErrTxInCache) {
		n.opts.Log.Warn("mempool refused a transaction", "reason", err)
		return local.CodeUnavailable, nil
	}
	return local.CodeOK, nil
}
