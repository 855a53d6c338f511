// Package node runs the chain's state machine on CometBFT in this process: ABCI 2.0 on one side, an HTTP API for clients on
// the other, the state in bbolt.
package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	abci "github.com/cometbft/cometbft/abci/types"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/state"
)

// beaconTx is the first byte of the pseudo-transaction that carries the beacon; no transaction starts with it.
const beaconTx = 0xB1

// keepBlocks is how many blocks CometBFT keeps; the state does not need them.
const keepBlocks = 2000

// app adapts the machine to ABCI. CometBFT calls it from several goroutines.
type app struct {
	abci.BaseApplication
	log    *slog.Logger
	store  *store
	secret []byte // of the beacon

	mu      sync.Mutex
	st      *state.State
	txs     map[chain.Hash]local.TxInfo
	heads   []chain.Head  // ascending, contiguous
	moved   chan struct{} // closed with every commit
	pending struct {
		head  chain.Head
		dirty []state.KV
		txs   map[chain.Hash]local.TxInfo
	}
	failed func(error) // ends the node: a store that cannot be written must not be followed by another block
}

func (a *app) Info(context.Context, *abci.RequestInfo) (*abci.ResponseInfo, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	res := &abci.ResponseInfo{LastBlockHeight: int64(a.st.Height())}
	if a.st.Height() > 0 {
		h := a.st.AppHash()
		res.LastBlockAppHash = h[:]
	}
	return res, nil
}

func (a *app) InitChain(context.Context, *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.st.AppHash()
	return &abci.ResponseInitChain{AppHash: h[:]}, nil
}

func (a *app) CheckTx(_ context.Context, r *abci.RequestCheckTx) (*abci.ResponseCheckTx, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &abci.ResponseCheckTx{Code: uint32(a.st.CheckTx(r.Tx))}, nil
}

// PrepareProposal puts the beacon of the block before in front of the transactions: it is made here, never in FinalizeBlock,
// which must give the same result on every node.
func (a *app) PrepareProposal(_ context.Context, r *abci.RequestPrepareProposal) (*abci.ResponsePrepareProposal, error) {
	sig, err := beacon.Sign(a.secret, chain.Round(r.Height-1))
	if err != nil {
		return nil, err
	}
	txs := [][]byte{append([]byte{beaconTx}, sig...)}
	size := int64(len(txs[0]) + 16)
	for _, tx := range r.Txs {
		if size += int64(len(tx) + 16); size > r.MaxTxBytes {
			break
		}
		txs = append(txs, tx)
	}
	return &abci.ResponsePrepareProposal{Txs: txs}, nil
}

// ProcessProposal refuses a block without the right beacon in front.
func (a *app) ProcessProposal(_ context.Context, r *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
	res := &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_REJECT}
	sig, ok := beaconOf(r.Txs)
	if ok && beacon.Verify(a.st.Genesis().BeaconKey, chain.Round(r.Height-1), sig) == nil {
		res.Status = abci.ResponseProcessProposal_ACCEPT
	}
	return res, nil
}

func beaconOf(txs [][]byte) ([]byte, bool) {
	if len(txs) == 0 || len(txs[0]) != 1+beacon.SignatureLen || txs[0][0] != beaconTx {
		return nil, false
	}
	return txs[0][1:], true
}

func (a *app) FinalizeBlock(_ context.Context, r *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	in := state.Block{Height: chain.Block(r.Height), Txs: r.Txs}
	res := &abci.ResponseFinalizeBlock{}
	if sig, ok := beaconOf(r.Txs); ok {
		in.Beacon, in.Txs = sig, r.Txs[1:]
		res.TxResults = append(res.TxResults, &abci.ExecTxResult{})
	}
	out := a.st.Finalize(in)
	a.pending.txs = map[chain.Hash]local.TxInfo{}
	for i, code := range out.Codes {
		res.TxResults = append(res.TxResults, &abci.ExecTxResult{Code: uint32(code)})
		if tx, err := local.ParseTx(in.Txs[i]); err == nil {
			a.pending.txs[tx.Hash()] = local.TxInfo{Block: in.Height, Code: code}
		}
	}
	a.pending.head = chain.Head{Block: in.Height, Time: r.Time}
	a.pending.dirty = out.Dirty
	res.AppHash = out.AppHash[:]
	return res, nil
}

// Commit makes the block durable, then visible. If it cannot be made durable the node ends: CometBFT replays the block when
// it starts again.
func (a *app) Commit(context.Context, *abci.RequestCommit) (*abci.ResponseCommit, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.store.commit(a.pending.head, a.pending.dirty, a.pending.txs); err != nil {
		err = fmt.Errorf("save block %d (is the disk full?): %w", a.pending.head.Block, err)
		a.failed(err)
		return nil, err
	}
	for h, info := range a.pending.txs {
		a.txs[h] = info
	}
	a.heads = append(a.heads, a.pending.head)
	if len(a.heads) > keepTx {
		a.heads = a.heads[len(a.heads)-keepTx:]
		for h, info := range a.txs {
			if info.Block < a.heads[0].Block {
				delete(a.txs, h)
			}
		}
	}
	close(a.moved)
	a.moved = make(chan struct{})
	res := &abci.ResponseCommit{}
	if h := int64(a.pending.head.Block); h > keepBlocks {
		res.RetainHeight = h - keepBlocks
	}
	return res, nil
}

// headsAfter returns what is newer than a block, or a channel that closes with the next commit.
func (a *app) headsAfter(b chain.Block) ([]chain.Head, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, h := range a.heads {
		if h.Block > b {
			return append([]chain.Head(nil), a.heads[i:min(len(a.heads), i+500)]...), a.moved
		}
	}
	return nil, a.moved
}
