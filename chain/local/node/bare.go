package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/mempool"
	comet "github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/proxy"
	comettypes "github.com/cometbft/cometbft/types"

	"sn3/chain"
	"sn3/chain/local"
)

// Bare is the consensus engine as a Node runs it, with the same settings and keys, under an application that takes everything
// and does nothing with it: what a benchmark holds a Node against.
type Bare struct {
	app   *idle
	comet *comet.Node
	peer  string
	quiet *logger
	turn  sync.Mutex
}

// StartBare runs one on an initialised folder that no Node ever ran on.
func StartBare(o Options) (*Bare, error) {
	f, err := openHome(o.Home)
	if err != nil {
		return nil, err
	}
	meet := f.net
	if o.Net != nil {
		meet = *o.Net
	}
	meet.Private = true // no discovery
	if meet, err = settle(o.Home, meet); err != nil {
		return nil, err
	}
	closing := new(atomic.Bool)
	b := &Bare{app: &idle{closing: closing, moved: make(chan struct{})}, peer: string(f.id.ID()) + "@" + meet.Listen}
	c := config(o.Home, time.Duration(f.genesis.BlockTimeMS)*time.Millisecond, meet)
	genesis := func() (*comettypes.GenesisDoc, error) { return document(f.genesis) }
	b.quiet = &logger{l: o.Log, closing: closing, disk: func(error) {}}
	b.comet, err = comet.NewNode(c, f.pv, f.id, proxy.NewConnSyncLocalClientCreator(b.app), genesis, shelves, comet.DefaultMetricsProvider(c.Instrumentation), *b.quiet)
	if err != nil {
		return nil, fmt.Errorf("start bare engine: %w", err)
	}
	if err := b.comet.Start(); err != nil {
		return nil, fmt.Errorf("start bare engine: %w", err)
	}
	return b, nil
}

// Peer is where another one reaches it: ID@HOST:PORT.
func (b *Bare) Peer() string { return b.peer }

// Submit hands bytes to the mempool. One at a time: of several that find the last room, the mempool drops all but one without
// a word.
func (b *Bare) Submit(_ context.Context, tx []byte) (local.Code, error) {
	b.turn.Lock()
	defer b.turn.Unlock()
	if err := b.comet.Mempool().CheckTx(tx, nil, mempool.TxInfo{}); err != nil && !errors.Is(err, mempool.ErrTxInCache) {
		return 0, fmt.Errorf("%w: the mempool refused a transaction: %v", chain.ErrUnavailable, err)
	}
	return local.CodeOK, nil
}

// Done is how many transactions its blocks had, and a channel that closes with the next block.
func (b *Bare) Done() (int, <-chan struct{}) {
	b.app.mu.Lock()
	defer b.app.mu.Unlock()
	return b.app.txs, b.app.moved
}

// Close stops the engine.
func (b *Bare) Close() error {
	b.quiet.closing.Store(true)
	if err := b.comet.Stop(); err != nil {
		return fmt.Errorf("stop bare engine: %w", err)
	}
	b.comet.Wait()
	return nil
}

// idle is the application that does nothing.
type idle struct {
	abci.BaseApplication
	closing *atomic.Bool
	mu      sync.Mutex
	txs     int
	moved   chan struct{}
}

// Query wants no connections when the engine is to end, as in a Node.
func (i *idle) Query(context.Context, *abci.RequestQuery) (*abci.ResponseQuery, error) {
	if i.closing.Load() {
		return &abci.ResponseQuery{Code: uint32(local.CodeUnavailable)}, nil
	}
	return &abci.ResponseQuery{}, nil
}

// FinalizeBlock counts.
func (i *idle) FinalizeBlock(_ context.Context, r *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	res := &abci.ResponseFinalizeBlock{AppHash: make([]byte, 32)}
	for range r.Txs {
		res.TxResults = append(res.TxResults, &abci.ExecTxResult{})
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.txs += len(r.Txs)
	return res, nil
}

// Commit tells who waits.
func (i *idle) Commit(context.Context, *abci.RequestCommit) (*abci.ResponseCommit, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.moved)
	i.moved = make(chan struct{})
	return &abci.ResponseCommit{}, nil
}
