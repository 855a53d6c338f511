package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/mempool"
	comet "github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/proxy"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/ledger"
	"sn3/chain/local/state"
)

// Options are what a node runs with.
type Options struct {
	Home    string
	Listen  string // HOST:PORT of the HTTP API; port 0 is chosen
	Info    local.NodeInfo
	Version string
	Log     *slog.Logger
	Paused  bool // answer from the folder; make no blocks and take no transactions
}

// Node is a running chain node; it is a local.Backend.
type Node struct {
	*ledger.Ledger
	app   *app
	comet *comet.Node
	http  *http.Server
	addr  string
	opts  Options
	stop  context.CancelFunc // ends requests that wait for heads
	err   chan error

	closing atomic.Bool
}

// Start runs a node on an initialised folder.
func Start(o Options) (*Node, error) {
	g, secret, err := readHome(o.Home)
	if err != nil {
		return nil, err
	}
	st, machine, past, err := load(filepath.Join(o.Home, stateFile), g)
	if err != nil {
		return nil, err
	}
	n := &Node{opts: o, err: make(chan error, 1), stop: func() {}}
	n.Ledger = ledger.New(machine, past, ledger.Hints{Info: o.Info, Version: o.Version})
	keep := max(keepBlocks, int64(machine.Run().Schedule.Length)*int64(g.Params.KeepWindows))
	n.app = &app{ledger: n.Ledger, store: st, secret: secret, keep: keep, wal: filepath.Join(o.Home, walDir), failed: n.fail}
	l, err := listen(o.Listen)
	if err != nil {
		return nil, errors.Join(err, st.close())
	}
	n.addr = l.Addr().String()
	if !o.Paused {
		if err := n.startComet(time.Duration(g.BlockTimeMS) * time.Millisecond); err != nil {
			return nil, errors.Join(err, l.Close(), st.close())
		}
	}
	n.serve(l)
	return n, nil
}

// advice is what to do about an error of the data in an initialised folder.
func advice(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "the user of the node must be able to read and write the whole folder"
	}
	return "is the disk full? else the folder is damaged: restore it from a copy, or start a new network in another folder"
}

// caught turns what recover gave into an error; CometBFT panics with long texts.
func caught(doing string, r any) error {
	err, ok := r.(error)
	if !ok {
		text := fmt.Sprint(r)
		err = errors.New(text[:min(len(text), 300)])
	}
	return fmt.Errorf("%s: %w; %s", doing, err, advice(err))
}

// load opens the store and restores the machine. A file that is shorter than it says is a fault of memory, not an error.
func load(path string, g *state.Genesis) (st *store, machine *state.State, past ledger.Past, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = caught("read "+path, r)
		}
	}()
	if st, err = openStore(path); err != nil {
		return nil, nil, past, err
	}
	if machine, past, err = st.restore(g); err != nil {
		return nil, nil, past, errors.Join(fmt.Errorf("restore chain state from %s: %w", path, err), st.close())
	}
	return st, machine, past, nil
}

// startComet starts the consensus engine, which replays what the machine lacks. It panics on much of what can be wrong with
// its files.
func (n *Node) startComet(blockTime time.Duration) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = caught("start consensus", r)
		}
	}()
	c := config(n.opts.Home, blockTime)
	nodeKey, err := p2p.LoadOrGenNodeKey(c.NodeKeyFile())
	if err != nil {
		return fmt.Errorf("load node key: %w; delete %s for a new one", err, c.NodeKeyFile())
	}
	pv, err := loadKey(c)
	if err != nil {
		return err
	}
	n.comet, err = comet.NewNode(c, pv, nodeKey, proxy.NewLocalClientCreator(n.app), comet.DefaultGenesisDocProviderFunc(c), cfg.DefaultDBProvider,
		comet.DefaultMetricsProvider(c.Instrumentation), logger{n.opts.Log, &n.closing, n.diskFailed})
	if err != nil {
		return fmt.Errorf("start consensus: %w; %s", err, advice(err))
	}
	if err := n.comet.Start(); err != nil {
		return fmt.Errorf("start consensus: %w; %s", err, advice(err))
	}
	return n.watch()
}

// watch ends the node with the consensus engine: after a failure CometBFT logs it and stands still. Its state is only to be
// had through the environment of its RPC, which is not served.
func (n *Node) watch() error {
	env, err := n.comet.ConfigureRPC()
	if err != nil {
		return fmt.Errorf("watch consensus: %w", err)
	}
	engine, ok := env.ConsensusState.(interface{ Wait() })
	if !ok {
		return errors.New("watch consensus: this version of the engine cannot be watched")
	}
	go func() {
		engine.Wait()
		n.fail(errors.New("the consensus engine stopped; the log has its reason (a full disk, a damaged folder)"))
	}()
	return nil
}

// serve answers requests until Close.
func (n *Node) serve(l net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	const wait = local.HeadsWait + 10*time.Second // reads too: their timeout ends the context of a request that waits
	n.http = &http.Server{Handler: local.Handler(n), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: wait, WriteTimeout: wait,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 1 << 14, BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog: slog.NewLogLogger(n.opts.Log.Handler(), slog.LevelWarn)}
	go func() {
		if err := n.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.fail(fmt.Errorf("serve API: %w", err))
		}
	}()
}

// fail ends the node; the first reason counts.
func (n *Node) fail(err error) {
	select {
	case n.err <- err:
	default:
	}
}

func (n *Node) diskFailed(err error) {
	n.fail(fmt.Errorf("write the node's folder %s: %w; make room on its disk, then start the node again: it goes on where it was", n.opts.Home, err))
}

// Addr is where the API listens.
func (n *Node) Addr() string { return n.addr }

// Wait returns when ctx ends (nil) or the node can no longer go on.
func (n *Node) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-n.err:
		return err
	}
}

// Close stops API, consensus and store, in this order.
func (n *Node) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	n.stop()
	n.closing.Store(true)
	err := n.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = n.http.Close()
	}
	if n.comet == nil {
		return errors.Join(err, n.app.store.close())
	}
	if serr := n.comet.Stop(); serr != nil {
		err = errors.Join(err, fmt.Errorf("stop consensus: %w", serr))
	} else {
		n.comet.Wait()
	}
	return errors.Join(err, n.app.store.close())
}

// Submit implements local.Backend: it hands a transaction to the mempool.
func (n *Node) Submit(_ context.Context, tx []byte) (local.Code, error) {
	if n.comet == nil {
		return 0, fmt.Errorf("%w: this node is paused", chain.ErrUnavailable)
	}
	code, fresh := n.Admit(tx)
	if !fresh {
		return code, nil
	}
	if n.comet.Mempool().Size() >= maxPending/2 && !n.Seated(tx) {
		return 0, fmt.Errorf("%w: the mempool is busy; what is left is for hotkeys with a seat", chain.ErrUnavailable)
	}
	err := n.comet.Mempool().CheckTx(tx, nil, mempool.TxInfo{})
	if err != nil && !errors.Is(err, mempool.ErrTxInCache) {
		return 0, fmt.Errorf("%w: the mempool refused a transaction: %v", chain.ErrUnavailable, err)
	}
	return local.CodeOK, nil
}
