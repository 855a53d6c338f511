// Package localtest is a local chain for tests and simulations: the real state machine without a consensus engine, one block
// per call, the time handed in.
package localtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/ledger"
	"sn3/chain/local/state"
)

// DevChain is a chain that makes a block when Tick is called. It is a local.Backend; heads are announced by Tick. Safe for
// concurrent use.
type DevChain struct {
	*ledger.Ledger
	secret []byte // of the beacon
	start  time.Time
	step   time.Duration

	making  sync.Mutex // one block at a time
	mu      sync.Mutex
	mempool [][]byte
	waiting map[chain.Hash]bool
}

// NewDevChain starts a chain whose block h has the time start + h block times. The genesis' beacon key must belong to secret.
func NewDevChain(g *state.Genesis, secret []byte, start time.Time) (*DevChain, error) {
	st, err := state.New(g)
	if err != nil {
		return nil, err
	}
	return &DevChain{Ledger: ledger.New(st, ledger.Past{}, ledger.Hints{Version: "dev"}), secret: secret, start: start,
		step: time.Duration(g.BlockTimeMS) * time.Millisecond, waiting: map[chain.Hash]bool{}}, nil
}

// Submit implements local.Backend: the transaction runs in the next block.
func (d *DevChain) Submit(ctx context.Context, raw []byte) (local.Code, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	code, fresh := d.Admit(raw)
	if !fresh {
		return code, nil
	}
	tx, err := local.ParseTx(raw)
	if err != nil {
		return local.CodeMalformed, nil
	}
	if h := tx.Hash(); !d.waiting[h] {
		d.waiting[h] = true
		d.mempool = append(d.mempool, raw)
	}
	return code, nil
}

// Pending is the number of transactions that wait for the next block.
func (d *DevChain) Pending() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.mempool)
}

// Tick makes one block of everything submitted so far.
func (d *DevChain) Tick() (chain.Head, error) {
	d.making.Lock()
	defer d.making.Unlock()
	h, _ := d.Height()
	sig, err := beacon.Sign(d.secret, chain.Round(h))
	if err != nil {
		return chain.Head{}, fmt.Errorf("make block %d: %w", h+1, err)
	}
	head := chain.Head{Block: h + 1, Time: d.start.Add(time.Duration(h+1) * d.step)}
	d.mu.Lock() // until Execute has run: a transaction is always in the mempool or known to the ledger
	txs := d.mempool
	d.mempool = nil
	clear(d.waiting)
	e := d.Execute(head, []state.Beacon{{Round: chain.Round(h), Signature: sig}}, nil, txs)
	d.mu.Unlock()
	if e.Damage != nil {
		return chain.Head{}, fmt.Errorf("make block %d: %w", h+1, e.Damage)
	}
	d.Commit(e)
	return head, nil
}

// Run makes blocks until height b.
func (d *DevChain) Run(b chain.Block) error {
	for {
		if h, _ := d.Height(); h >= b {
			return nil
		}
		if _, err := d.Tick(); err != nil {
			return err
		}
	}
}

// Instant is a DevChain that makes a block for every transaction, so that a client's write returns without anybody ticking.
type Instant struct{ *DevChain }

// Submit is DevChain.Submit and Tick.
func (i Instant) Submit(ctx context.Context, raw []byte) (local.Code, error) {
	code, err := i.DevChain.Submit(ctx, raw)
	if err == nil && i.Pending() > 0 {
		_, err = i.Tick()
	}
	return code, err
}
