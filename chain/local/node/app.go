// Package node runs the chain's state machine on CometBFT in this process: ABCI 2.0 on one side, an HTTP API for clients on
// the other, the state in bbolt.
package node

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	abci "github.com/cometbft/cometbft/abci/types"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
	"sn3/chain/local/ledger"
)

// beaconTx is the first byte of the pseudo-transaction that carries the beacon; no transaction starts with it.
const beaconTx = 0xB1

const (
	keepBlocks = 2000 // that CometBFT keeps at least; the state needs none of them
	pruneEvery = 100  // blocks, so that most commits have nothing to delete
)

// app adapts the ledger to ABCI. CometBFT calls it from several goroutines, FinalizeBlock and Commit from one.
type app struct {
	abci.BaseApplication
	ledger  *ledger.Ledger
	store   *store
	secret  []byte // of the beacon
	keep    int64  // blocks that CometBFT keeps
	wal     string // folder of its log
	pending *ledger.Executed
	failed  func(error) // ends the node: a block that is not saved must not be followed by another one
}

// guard turns a panic into the end of the node with an error: CometBFT would log it and stand still.
func (a *app) guard(doing string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s: panic, which is a bug of this program: %v\n%s", doing, r, debug.Stack())
		a.failed(*err)
	}
}

// Info tells CometBFT where the machine is; blocks above that are replayed.
func (a *app) Info(context.Context, *abci.RequestInfo) (*abci.ResponseInfo, error) {
	height, hash := a.ledger.Height()
	res := &abci.ResponseInfo{LastBlockHeight: int64(height)}
	if height > 0 {
		res.LastBlockAppHash = hash[:]
	}
	return res, nil
}

// InitChain has nothing to do: the machine was made from the genesis already.
func (a *app) InitChain(context.Context, *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	_, hash := a.ledger.Height()
	return &abci.ResponseInitChain{AppHash: hash[:]}, nil
}

// CheckTx keeps out of the mempool what the machine would refuse.
func (a *app) CheckTx(_ context.Context, r *abci.RequestCheckTx) (_ *abci.ResponseCheckTx, err error) {
	defer a.guard("check transaction", &err)
	return &abci.ResponseCheckTx{Code: uint32(a.ledger.CheckTx(r.Tx))}, nil
}

// PrepareProposal puts the beacon of the block before in front of the transactions: it is made here, never in FinalizeBlock,
// which must give the same result on every node.
func (a *app) PrepareProposal(_ context.Context, r *abci.RequestPrepareProposal) (_ *abci.ResponsePrepareProposal, err error) {
	defer a.guard("prepare proposal", &err)
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

// ProcessProposal refuses a block without the right beacon in front, or with bytes that are no transaction behind it.
func (a *app) ProcessProposal(_ context.Context, r *abci.RequestProcessProposal) (_ *abci.ResponseProcessProposal, err error) {
	defer a.guard("process proposal", &err)
	res := &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_REJECT}
	sig, ok := beaconOf(r.Txs)
	if !ok || beacon.Verify(a.ledger.Genesis().BeaconKey, chain.Round(r.Height-1), sig) != nil {
		return res, nil
	}
	for _, tx := range r.Txs[1:] {
		if _, err := local.ParseTx(tx); err != nil {
			return res, nil
		}
	}
	res.Status = abci.ResponseProcessProposal_ACCEPT
	return res, nil
}

func beaconOf(txs [][]byte) ([]byte, bool) {
	if len(txs) == 0 || len(txs[0]) != 1+beacon.SignatureLen || txs[0][0] != beaconTx {
		return nil, false
	}
	return txs[0][1:], true
}

// FinalizeBlock runs a decided block.
func (a *app) FinalizeBlock(_ context.Context, r *abci.RequestFinalizeBlock) (_ *abci.ResponseFinalizeBlock, err error) {
	defer a.guard(fmt.Sprintf("execute block %d", r.Height), &err)
	res := &abci.ResponseFinalizeBlock{}
	txs := r.Txs
	sig, ok := beaconOf(txs)
	if ok {
		txs = txs[1:]
		res.TxResults = append(res.TxResults, &abci.ExecTxResult{})
	}
	a.pending = a.ledger.Execute(chain.Head{Block: chain.Block(r.Height), Time: r.Time.UTC()}, sig, txs)
	for _, code := range a.pending.State.Codes {
		res.TxResults = append(res.TxResults, &abci.ExecTxResult{Code: uint32(code)})
	}
	res.AppHash = a.pending.State.AppHash[:]
	return res, nil
}

var errNothingToCommit = errors.New("commit without a block")

// Commit makes the block durable, then visible. If it cannot be made durable the node ends: CometBFT replays the block when
// it starts again.
func (a *app) Commit(context.Context, *abci.RequestCommit) (_ *abci.ResponseCommit, err error) {
	defer a.guard("commit", &err)
	e := a.pending
	if e == nil {
		return nil, errNothingToCommit
	}
	a.pending = nil
	if err := a.store.commit(e); err != nil {
		err = fmt.Errorf("save block %d: %w; is the disk full? the node goes on from the block before when it is started again", e.Head.Block, err)
		a.failed(err)
		return nil, err
	}
	a.ledger.Commit(e)
	res := &abci.ResponseCommit{}
	h := int64(e.Head.Block)
	if h%pruneEvery != 0 {
		return res, nil
	}
	if h > a.keep {
		res.RetainHeight = h - a.keep
	}
	if err := trimWAL(a.wal); err != nil {
		a.failed(err)
		return nil, err
	}
	return res, nil
}
