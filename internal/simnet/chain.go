// Package simnet runs a whole network in one process: the real state machine, replicas, miners and validators over
// in-memory buckets, with a clock that a test moves block by block. A block is made only when nobody is at work, so what a
// node does never depends on the machine's speed.
package simnet

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/ledger"
	"sn3/chain/local/state"
	"sn3/internal/replica"
)

// Chain is the state machine with a mempool and a beacon key, one block at a time.
type Chain struct {
	load   *replica.Load
	secret []byte

	mu      sync.Mutex
	st      *state.State
	mempool [][]byte
	waiting map[chain.Hash]*inclusion
	clocks  map[*replica.Clock]bool
	nonces  map[chain.Hotkey]uint64 // next nonce to hand out, ahead of what is included
}

type inclusion struct {
	done  chan struct{}
	code  local.Code
	block chain.Block
}

// NewChain starts a chain from g, whose beacon key must belong to secret.
func NewChain(g *state.Genesis, secret []byte, load *replica.Load) (*Chain, error) {
	st, err := state.New(g)
	if err != nil {
		return nil, err
	}
	return &Chain{load: load, secret: secret, st: st, waiting: map[chain.Hash]*inclusion{}, clocks: map[*replica.Clock]bool{},
		nonces: map[chain.Hotkey]uint64{}}, nil
}

// Tick makes one block and tells everybody: senders of included transactions, then every node's clock.
func (c *Chain) Tick() (chain.Head, error) {
	c.mu.Lock()
	h := c.st.Height() + 1
	sig, err := beacon.Sign(c.secret, chain.Round(h-1))
	if err != nil {
		c.mu.Unlock()
		return chain.Head{}, err
	}
	txs := c.mempool
	c.mempool = nil
	res := c.st.Finalize(state.Block{Height: h, Beacons: []state.Beacon{{Round: chain.Round(h - 1), Signature: sig}}, Txs: txs})
	for i, raw := range txs {
		tx, err := local.ParseTx(raw)
		if err != nil {
			continue
		}
		if w := c.waiting[tx.Hash()]; w != nil {
			w.code, w.block = res.Codes[i], h
			delete(c.waiting, tx.Hash())
			c.load.Add(1)
			close(w.done)
		}
	}
	var clocks []*replica.Clock
	for k := range c.clocks {
		clocks = append(clocks, k)
	}
	c.mu.Unlock()
	head := chain.Head{Block: h, Time: time.Unix(int64(h), 0)}
	for _, k := range clocks {
		k.Advance(head)
	}
	return head, nil
}

// Height is the newest block.
func (c *Chain) Height() chain.Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.st.Height()
}

// Ledger serves the chain as a node does; no block may be made afterwards.
func (c *Chain) Ledger(info local.NodeInfo) *ledger.Ledger {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ledger.New(c.st, ledger.Past{}, ledger.Hints{Info: info, Version: "simnet"})
}

// join gives a new node a clock that this chain moves.
func (c *Chain) join() *replica.Clock {
	k := replica.NewClock(c.load)
	c.mu.Lock()
	h := c.st.Height()
	c.clocks[k] = true
	c.mu.Unlock()
	k.Advance(chain.Head{Block: h, Time: time.Unix(int64(h), 0)})
	return k
}

func (c *Chain) leave(k *replica.Clock) {
	c.mu.Lock()
	delete(c.clocks, k)
	c.mu.Unlock()
}

// client is one account's access to the chain: chain.Reader, Writer and Selector.
type client struct {
	c   *Chain
	key *ecdsa.PrivateKey
}

// Heads is not used: clocks are moved by Tick.
func (k client) Heads(context.Context) (<-chan chain.Head, error) {
	return nil, fmt.Errorf("simnet moves clocks itself: %w", chain.ErrUnavailable)
}

func (k client) Snapshot(_ context.Context, b chain.Block) (*chain.Snapshot, error) {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	return k.c.st.Snapshot(b)
}

func (k client) Beacon(_ context.Context, r chain.Round) ([]byte, error) {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	return k.c.st.Beacon(r)
}

func (k client) Selection(_ context.Context, w chain.Window) (chain.Selection, error) {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	return k.c.st.Selection(w)
}

func (k client) Publish(ctx context.Context, r chain.Record) (chain.Receipt, error) {
	k.c.mu.Lock()
	s, err := k.c.st.Snapshot(k.c.st.Height())
	k.c.mu.Unlock()
	if err != nil {
		return chain.Receipt{}, err
	}
	if p, ok := s.Record(local.AccountOf(&k.key.PublicKey)); ok && p.Record.Equal(r) {
		return chain.Receipt{Block: p.At}, nil
	}
	return k.send(ctx, local.Publish{Record: r})
}

func (k client) SetWeights(ctx context.Context, w []chain.Weight) (chain.Receipt, error) {
	k.c.mu.Lock()
	p, next := k.c.st.Params(), k.c.st.Height()+1
	round, _ := local.RevealRounds(next, k.c.st.Run().Tempo, p.RevealPeriod)
	key, err := k.c.st.BeaconKey(round)
	k.c.mu.Unlock()
	if err != nil {
		return chain.Receipt{}, err
	}
	if !p.CommitReveal {
		return k.send(ctx, local.SetWeights{VersionKey: local.WeightsVersion, Weights: w})
	}
	op, err := local.Seal(local.AccountOf(&k.key.PublicKey), w, key, round, rand.Reader)
	if err != nil {
		return chain.Receipt{}, err
	}
	return k.send(ctx, op)
}

// send puts a transaction into the next block and waits for it, not counting as work meanwhile.
func (k client) send(ctx context.Context, op local.Op) (chain.Receipt, error) {
	c := k.c
	who := local.AccountOf(&k.key.PublicKey)
	c.mu.Lock()
	_, included := c.st.Account(chain.Coldkey(who))
	nonce := max(c.nonces[who], included)
	tx, err := local.SignTx(c.st.Genesis().Network, nonce, op, local.Signer{Key: k.key})
	if err != nil {
		c.mu.Unlock()
		return chain.Receipt{}, err
	}
	if code := c.st.CheckTx(tx.Encode()); code != local.CodeOK {
		c.mu.Unlock()
		return chain.Receipt{}, code.Err()
	}
	c.nonces[who] = nonce + 1
	w := &inclusion{done: make(chan struct{})}
	c.waiting[tx.Hash()] = w
	c.mempool = append(c.mempool, tx.Encode())
	c.load.Add(-1)
	c.mu.Unlock()
	select {
	case <-w.done:
		return chain.Receipt{Block: w.block, Tx: tx.Hash()}, w.code.Err()
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[tx.Hash()] != nil {
		delete(c.waiting, tx.Hash())
		c.load.Add(1)
	}
	return chain.Receipt{}, ctx.Err()
}
