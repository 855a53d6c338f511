package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	cfg "github.com/cometbft/cometbft/config"
	cstypes "github.com/cometbft/cometbft/consensus/types"
	"github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/mempool"
	comet "github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/rpc/core"
	comettypes "github.com/cometbft/cometbft/types"

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
	Net     *Net // instead of the folder's

	SnapshotEvery chain.Block   // blocks between two snapshots for nodes that join; 0: 500
	NewestRules   uint64        // version of the rules beyond which the node stops; 0: state.NewestRules
	Pace          time.Duration // between blocks instead of the genesis' block time: a benchmark lives through days
}

// Node is a running chain node; it is a local.Backend.
type Node struct {
	*ledger.Ledger
	app    *app
	home   folder
	line   local.Candidate
	comet  *comet.Node
	engine *core.Environment // what its RPC would serve
	lights sync.Mutex
	http   *http.Server
	addr   string
	p2p    string // HOST:PORT where it listens
	opts   Options
	stop   context.CancelFunc // ends requests that wait for heads
	err    chan error

	book    interface{ Wait() } // of addresses; nil: of a private node
	closing atomic.Bool
	between func(*app) abci.Application // tests: what the engine is given instead of app
}

// Start runs a node on an initialised folder.
func Start(o Options) (*Node, error) {
	n, err := open(o)
	if err != nil {
		return nil, err
	}
	if err := n.run(); err != nil {
		return nil, err
	}
	return n, nil
}

// open reads the folder; nothing runs yet.
func open(o Options) (_ *Node, err error) {
	f, err := openHome(o.Home)
	if err != nil {
		return nil, err
	}
	unlock, err := lockHome(o.Home)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unlock())
		}
	}()
	if o.Net != nil {
		if err := o.Net.Check(); err != nil {
			return nil, err
		}
		f.net = *o.Net
	}
	line, err := candidate(f.pv, f.id.ID(), f.genesis.Network, f.member)
	if err != nil {
		return nil, err
	}
	if f.plan != nil && !o.Paused {
		if err := clearHalf(o.Home); err != nil {
			return nil, err
		}
	}
	st, machine, past, err := load(filepath.Join(o.Home, stateFile), f.genesis)
	if err != nil {
		return nil, err
	}
	n := &Node{home: f, line: line, opts: o, err: make(chan error, 1), stop: func() {}}
	n.Ledger = ledger.New(machine, past, ledger.Hints{Info: o.Info, Version: o.Version})
	keep := max(keepBlocks, int64(machine.Run().Schedule.Length)*int64(f.genesis.Params.KeepWindows))
	sign := newSigner(f.member, filepath.Join(o.Home, sharesDir), o.Log)
	if f.secret != nil {
		sign.alone(f.secret)
	}
	if err := sign.follow(n.Ledger); err != nil {
		return nil, errors.Join(err, st.close())
	}
	n.app = &app{ledger: n.Ledger, store: st, signer: sign, keep: keep, signed: map[string]chain.Block{}, wal: filepath.Join(o.Home, walDir), failed: n.fail,
		log: o.Log, newest: cmp.Or(o.NewestRules, state.NewestRules), quit: make(chan struct{}), plan: filepath.Join(o.Home, syncFile), lenders: newLenders(), unlock: unlock}
	if n.app.shots, err = openShots(filepath.Join(o.Home, snapshotDir), f.raw, machine.GenesisHash(), o.Log); err != nil {
		return nil, errors.Join(err, st.close())
	}
	if height, _ := n.app.ledger.Height(); height < n.app.origin() && f.plan == nil {
		return nil, errors.Join(fmt.Errorf("%w: %s lacks the state that its network begins with; import it from its file (chaind import), or join with --sync state", ErrNoChain, o.Home), st.close())
	}
	n.app.shots.every = cmp.Or(o.SnapshotEvery, snapshotEvery)
	return n, nil
}

// run starts what open made; after an error nothing is left of it.
func (n *Node) run() error {
	l, err := listen(n.opts.Listen)
	if err != nil {
		return errors.Join(err, n.app.close())
	}
	n.addr = l.Addr().String()
	if !n.opts.Paused {
		if err := n.app.knows(); err != nil {
			return errors.Join(err, l.Close(), n.app.close())
		}
		n.app.announce()
		if err := n.startComet(cmp.Or(n.opts.Pace, time.Duration(n.home.genesis.BlockTimeMS)*time.Millisecond)); err != nil {
			return errors.Join(err, l.Close(), n.app.close())
		}
	}
	n.serve(l)
	return nil
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
		return nil, nil, past, errors.Join(fmt.Errorf("restore chain state from %s: %w; %s", path, err, advice(err)), st.close())
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
	meet, err := settle(n.opts.Home, n.home.net)
	if err != nil {
		return err
	}
	c := config(n.opts.Home, blockTime, meet)
	doc, err := document(n.home.genesis)
	if err != nil {
		return fmt.Errorf("start consensus: %w", err)
	}
	options, out, err := n.extras(c, doc, meet, logger{l: n.opts.Log, closing: &n.closing, disk: n.diskFailed})
	if err != nil {
		return err
	}
	served := abci.Application(n.app)
	if n.between != nil {
		served = n.between(n.app)
	}
	n.comet, err = comet.NewNode(c, n.home.pv, n.home.id, eager{served, n.Recover}, func() (*comettypes.GenesisDoc, error) { return doc, nil }, shelves,
		comet.DefaultMetricsProvider(c.Instrumentation), out, options...)
	if err != nil {
		return n.because(fmt.Errorf("start consensus: %w; %s", err, advice(err)))
	}
	n.app.behind = n.comet.ConsensusReactor().WaitSync
	n.p2p = cmp.Or(meet.External, meet.Listen)
	n.app.crowded = func() bool { return n.comet.Mempool().Size() >= maxPending/2 }
	if err := n.comet.Start(); errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen for peers on %s: another program uses this port; choose another --p2p-listen, or port 0 for any: %w", meet.Listen, err)
	} else if err != nil {
		return fmt.Errorf("start consensus: %w; %s", err, advice(err))
	}
	go n.keepDialling()
	if n.home.plan != nil {
		go n.tellWaiting(time.Tick(waitNotice))
	}
	return n.watch()
}

// extras are what the engine gets beside its configuration: discovery of peers, and where the state is to be fetched from them,
// headers to check it against.
func (n *Node) extras(c *cfg.Config, doc *comettypes.GenesisDoc, meet Net, out log.Logger) (options []comet.Option, _ log.Logger, err error) {
	if !meet.Private {
		exchange, book, err := discovery(n.opts.Home, n.home.id.ID(), meet, out)
		if err != nil {
			return nil, nil, err
		}
		n.book, _ = book.(interface{ Wait() })
		options = append(options, comet.CustomReactors(map[string]p2p.Reactor{"PEX": exchange}))
	}
	if n.home.plan != nil {
		if n.app.verifier, err = startVerifier(n.home.plan, doc, out); err != nil {
			return nil, nil, err
		}
		syncing(c)
		options, out = append(options, comet.StateProvider(n.app.verifier), gated(n.app)), syncLog{out, n.fail}
	}
	return options, out, nil
}

// watch ends the node with the consensus engine: after a failure CometBFT logs it and stands still. Its state is only to be
// had through the environment of its RPC, which is not served.
func (n *Node) watch() error {
	env, err := n.comet.ConfigureRPC()
	if err != nil {
		return fmt.Errorf("watch consensus: %w", err)
	}
	n.engine = env
	engine, ok := env.ConsensusState.(interface{ Wait() })
	if !ok {
		return errors.New("watch consensus: this version of the engine cannot be watched")
	}
	go func() {
		engine.Wait()
		if err := n.otherState(env.ConsensusState); err != nil {
			n.fail(err)
		}
		n.fail(n.stopped(time.Now()))
	}()
	return nil
}

// otherState is an error if the block that the engine ended at is built on another state than this node's.
func (n *Node) otherState(engine any) error {
	e, ok := engine.(interface{ GetRoundState() *cstypes.RoundState })
	if !ok {
		return nil
	}
	height, own := n.Height()
	b := e.GetRoundState().ProposalBlock
	if b == nil || b.Height != int64(height)+1 || bytes.Equal(b.AppHash, own[:]) {
		return nil
	}
	return fmt.Errorf("after block %d this node has the state %s, block %d is built on %s: its folder was changed or this program follows other rules; install the network's release and join in a new folder",
		height, own, b.Height, hash(b.AppHash))
}

// stopped is why the engine may have ended at that time.
func (n *Node) stopped(now time.Time) error {
	if last := n.Newest(); last.Time.Sub(now) > clockTolerance/2 {
		return fmt.Errorf("the consensus engine stopped: this machine's clock is %s behind block %d of %s; set the clock, then start the node again",
			last.Time.Sub(now).Round(time.Second), last.Block, last.Time.Format(time.RFC3339))
	}
	return errors.New("the consensus engine stopped; the log has its reason (a full disk, a damaged folder, a clock that is wrong by hours)")
}

// serve answers requests until Close.
func (n *Node) serve(l net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	const wait = local.HeadsWait + 10*time.Second // reads too: their timeout ends the context of a request that waits
	n.http = &http.Server{Handler: limited(local.Handler(n)), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: wait, WriteTimeout: wait,
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
	close(n.app.quit)
	err := n.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = n.http.Close()
	}
	if n.comet == nil {
		return errors.Join(err, n.app.close())
	}
	// before the engine drops its peers: it panics on a block whose sender goes while it is being taken (v0.40.0)
	if r, ok := n.comet.Switch().Reactor("BLOCKSYNC"); ok && r.IsRunning() {
		if serr := r.Stop(); serr != nil {
			err = errors.Join(err, fmt.Errorf("stop fetching blocks: %w", serr))
		}
	}
	if serr := n.comet.Stop(); serr != nil {
		err = errors.Join(err, fmt.Errorf("stop consensus: %w", serr))
	} else {
		n.comet.Wait()
		if n.book != nil {
			n.book.Wait() // it is saved
		}
	}
	return errors.Join(err, n.app.close())
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
	if n.app.crowded() && !n.Seated(tx) {
		return 0, fmt.Errorf("%w: the mempool is busy; what is left is for hotkeys with a seat", chain.ErrUnavailable)
	}
	err := n.comet.Mempool().CheckTx(tx, nil, mempool.TxInfo{})
	if err != nil && !errors.Is(err, mempool.ErrTxInCache) {
		return 0, fmt.Errorf("%w: the mempool refused a transaction: %v", chain.ErrUnavailable, err)
	}
	return local.CodeOK, nil
}
