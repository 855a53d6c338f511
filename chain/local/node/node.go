package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/mempool"
	comet "github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/proxy"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/ledger"
)

// Options are what a node runs with.
type Options struct {
	Home    string
	Listen  string // HOST:PORT of the HTTP API; port 0 is chosen
	Info    local.NodeInfo
	Version string
	Log     *slog.Logger
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
}

// Start runs a node on an initialised folder.
func Start(o Options) (*Node, error) {
	g, secret, err := readHome(o.Home)
	if err != nil {
		return nil, err
	}
	st, err := openStore(filepath.Join(o.Home, stateFile))
	if err != nil {
		return nil, err
	}
	machine, past, err := st.restore(g)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("restore chain state: %w", err), st.close())
	}
	n := &Node{opts: o, err: make(chan error, 1), stop: func() {}}
	n.Ledger = ledger.New(machine, past, ledger.Hints{Info: o.Info, Version: o.Version})
	keep := max(keepBlocks, int64(machine.Run().Schedule.Length)*int64(g.Params.KeepWindows))
	n.app = &app{ledger: n.Ledger, store: st, secret: secret, keep: keep, failed: n.fail}
	listen, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, errors.Join(listenError(o.Listen, err), st.close())
	}
	n.addr = listen.Addr().String()
	if err := n.startComet(time.Duration(g.BlockTimeMS) * time.Millisecond); err != nil {
		return nil, errors.Join(err, listen.Close(), st.close())
	}
	n.serve(listen)
	return n, nil
}

func listenError(addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on %s: another program uses this port; choose another --listen, or port 0 for any: %w", addr, err)
	}
	return fmt.Errorf("listen on %s: %w", addr, err)
}

func (n *Node) startComet(blockTime time.Duration) error {
	c := config(n.opts.Home, blockTime)
	nodeKey, err := p2p.LoadOrGenNodeKey(c.NodeKeyFile())
	if err != nil {
		return fmt.Errorf("load node key: %w", err)
	}
	pv, err := loadKey(c)
	if err != nil {
		return err
	}
	n.comet, err = comet.NewNode(c, pv, nodeKey, proxy.NewLocalClientCreator(n.app), comet.DefaultGenesisDocProviderFunc(c), cfg.DefaultDBProvider,
		comet.DefaultMetricsProvider(c.Instrumentation), logger{n.opts.Log})
	if err != nil {
		return fmt.Errorf("start consensus: %w", err)
	}
	if err := n.watch(); err != nil {
		return err
	}
	if err := n.comet.Start(); err != nil {
		return fmt.Errorf("start consensus: %w", err)
	}
	return nil
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
	err := n.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = n.http.Close()
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
	code, fresh := n.Admit(tx)
	if !fresh {
		return code, nil
	}
	err := n.comet.Mempool().CheckTx(tx, nil, mempool.TxInfo{})
	if err != nil && !errors.Is(err, mempool.ErrTxInCache) {
		return 0, fmt.Errorf("%w: the mempool refused a transaction: %v", chain.ErrUnavailable, err)
	}
	return local.CodeOK, nil
}
