// Package node runs the chain's state machine on CometBFT in this process: ABCI 2.0 on one side, an HTTP API for clients on
// the other, the state in bbolt.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/crypto/encoding"
	cometproto "github.com/cometbft/cometbft/proto/tendermint/types"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/ledger"
	"sn3/chain/local/state"
)

const (
	keepBlocks = 2000 // that CometBFT keeps at least; the state needs none of them
	pruneEvery = 100  // blocks, so that most commits have nothing to delete
)

// app adapts the ledger to ABCI. CometBFT calls it from several goroutines, FinalizeBlock and Commit from one.
type app struct {
	abci.BaseApplication
	ledger  *ledger.Ledger
	store   *store
	signer  *signer
	keep    int64  // blocks that CometBFT keeps
	wal     string // folder of its log
	shots   *shots
	log     *slog.Logger
	newest  uint64 // version of the rules that this program knows
	told    upgradeNote
	gaps    gaps
	quit    chan struct{} // closed when the node ends
	behind  func() bool   // the engine fetches blocks that others have decided
	pending *ledger.Executed
	crowded func() bool // half of the mempool is in use
	failed  func(error) // ends the node: a block that is not saved must not be followed by another one

	mu       sync.Mutex
	verifier *verifier // while the state is fetched from peers
	plan     string    // file that says so
	in       *incoming
	lenders  *lenders
	swap     sync.Mutex // the store is replaced
	ended    bool
	unlock   func() error // gives the folder back

	signed map[string]chain.Block // by address: the newest block that a validator is known to have signed
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
	res := &abci.ResponseInfo{AppVersion: a.version()}
	if height > a.origin() {
		res.LastBlockHeight = int64(height)
		res.LastBlockAppHash = hash[:]
	}
	return res, nil
}

// Query answers what the engine asks before it makes or takes a connection to a peer: a node that is ending wants none. The
// engine would keep one that comes about while it stops, and the peer would hold it for its connection to a node that is gone.
func (a *app) Query(context.Context, *abci.RequestQuery) (*abci.ResponseQuery, error) {
	select {
	case <-a.quit:
		return &abci.ResponseQuery{Code: uint32(local.CodeUnavailable)}, nil
	default:
		return &abci.ResponseQuery{}, nil
	}
}

// origin is the height that the network begins at: that of the state it was imported with.
func (a *app) origin() chain.Block {
	if from := a.ledger.Genesis().From; from != nil {
		return from.Height
	}
	return 0
}

// InitChain has nothing to do: the machine was made from the genesis already.
func (a *app) InitChain(context.Context, *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	_, hash := a.ledger.Height()
	return &abci.ResponseInitChain{AppHash: hash[:]}, nil
}

// CheckTx keeps out of the mempool what the machine would refuse, and strangers' transactions, by whatever way they came, when
// half of it is in use; what lacks the one before it for long goes again.
func (a *app) CheckTx(_ context.Context, r *abci.RequestCheckTx) (_ *abci.ResponseCheckTx, err error) {
	defer a.guard("check transaction", &err)
	code := a.ledger.CheckTx(r.Tx)
	if code == local.CodeOK && r.Type == abci.CheckTxType_New && a.crowded != nil && a.crowded() && !a.ledger.Seated(r.Tx) {
		code = local.CodeUnavailable
	}
	if code == local.CodeOK && r.Type == abci.CheckTxType_Recheck {
		if tx, at := a.ledger.Ahead(r.Tx); at > 0 && a.gaps.old(tx, at) {
			code = local.CodeNonce
		}
	}
	return &abci.ResponseCheckTx{Code: uint32(code)}, nil
}

// PrepareProposal puts the beacon of the block before, and late ones, in front of the transactions, and what this node has to
// say for a new key: they are made here, never in FinalizeBlock, which must give the same result on every node. Transactions
// with a gap before their nonce stay in the mempool.
func (a *app) PrepareProposal(_ context.Context, r *abci.RequestPrepareProposal) (_ *abci.ResponsePrepareProposal, err error) {
	defer a.guard("prepare proposal", &err)
	if a.knows() != nil {
		return &abci.ResponsePrepareProposal{}, nil // the node is ending
	}
	height := chain.Block(r.Height)
	beacons, err := a.makeBeacons(height, r.LocalLastCommit.Votes)
	if err != nil {
		return nil, err
	}
	said, err := a.signer.say(a.ledger.Making(height))
	if err != nil {
		return nil, err
	}
	var txs [][]byte
	size := int64(0)
	for _, b := range beacons {
		txs = append(txs, encodeBeacon(b))
		size += beaconTxLen + 16
	}
	for i, tx := range append(said, a.ledger.InOrder(r.Txs)...) {
		if size += int64(len(tx) + 16); size > r.MaxTxBytes || i == len(said)+maxPending {
			break
		}
		txs = append(txs, tx)
	}
	return &abci.ResponsePrepareProposal{Txs: txs}, nil
}

// ProcessProposal refuses a block with a beacon that is wrong or not wanted, with words for a new key that change nothing, with
// bytes that are no transaction behind them, or with what no mempool holds: one transaction twice, or more than there is room
// for, each of which costs every node a signature. One without a beacon is right: its proposer may lack the votes.
func (a *app) ProcessProposal(_ context.Context, r *abci.RequestProcessProposal) (_ *abci.ResponseProcessProposal, err error) {
	defer a.guard("process proposal", &err)
	res := &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_REJECT}
	beacons, said, txs := parts(r.Txs)
	if len(txs) > maxPending {
		return res, nil
	}
	seen := make(map[string]bool, len(txs))
	for _, tx := range txs {
		if _, err := local.ParseTx(tx); err != nil || seen[string(tx)] {
			return res, nil
		}
		seen[string(tx)] = true
	}
	if a.knows() != nil || a.ledger.CheckBeacons(chain.Block(r.Height), beacons) != nil || a.ledger.CheckSaid(chain.Block(r.Height), said) != nil {
		return res, nil
	}
	res.Status = abci.ResponseProcessProposal_ACCEPT
	return res, nil
}

// FinalizeBlock runs a decided block.
func (a *app) FinalizeBlock(_ context.Context, r *abci.RequestFinalizeBlock) (_ *abci.ResponseFinalizeBlock, err error) {
	defer a.guard(fmt.Sprintf("execute block %d", r.Height), &err)
	if err := a.knows(); err != nil {
		return nil, a.halt(err)
	}
	res := &abci.ResponseFinalizeBlock{}
	a.saw(r.Height-1, r.DecidedLastCommit)
	beacons, said, txs := parts(r.Txs)
	a.recover(txs)
	for range len(beacons) + len(said) {
		res.TxResults = append(res.TxResults, &abci.ExecTxResult{})
	}
	a.pending = a.ledger.Execute(chain.Head{Block: chain.Block(r.Height), Time: r.Time.UTC()}, beacons, said, txs)
	if err := a.pending.Damage; err != nil {
		a.pending = nil
		return nil, a.halt(damaged(r.Height, err))
	}
	for _, code := range a.pending.State.Codes {
		res.TxResults = append(res.TxResults, &abci.ExecTxResult{Code: uint32(code)})
	}
	res.AppHash, res.ConsensusParamUpdates = a.pending.State.AppHash[:], a.turn()
	res.ValidatorUpdates, err = updates(a.pending.State.Validators)
	return res, err
}

// recover finds the senders of a block's transactions on all cores: a node that follows, or replays, saw none of them before.
func (a *app) recover(txs [][]byte) {
	var wg sync.WaitGroup
	for i := range min(runtime.GOMAXPROCS(0), len(txs)) {
		wg.Go(func() {
			defer func() { _ = recover() }() // a panic, which would end the process, comes again where guard catches it
			for ; i < len(txs); i += runtime.GOMAXPROCS(0) {
				a.ledger.Recover(txs[i])
			}
		})
	}
	wg.Wait()
}

// updates are what the engine is told of a change of validators.
func updates(list []state.ValidatorUpdate) (out []abci.ValidatorUpdate, err error) {
	for _, v := range list {
		key, err := encoding.PubKeyToProto(ed25519.PubKey(v.Key[:])) // abci.UpdateValidator would panic on what it does not know
		if err != nil {
			return nil, fmt.Errorf("encode validator %x: %w", v.Key[:4], err)
		}
		out = append(out, abci.ValidatorUpdate{PubKey: key, Power: v.Power})
	}
	return out, nil
}

// saw remembers who signed a block.
func (a *app) saw(height int64, commit abci.CommitInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range commit.Votes {
		if v.BlockIdFlag == cometproto.BlockIDFlagCommit {
			a.signed[string(v.Validator.Address)] = chain.Block(height)
		}
	}
}

// voters are the validators with what this node saw of them.
func (a *app) voters() []local.VoterInfo {
	list := a.ledger.Validators()
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]local.VoterInfo, len(list))
	for i, v := range list {
		out[i] = local.VoterInfo{Key: v.Key, Since: v.Since, Signed: a.signed[string(ed25519.PubKey(v.Key[:]).Address())]}
	}
	return out
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
	if err := a.signer.follow(a.ledger); err != nil {
		a.failed(err)
		return nil, err
	}
	if err := errors.Join(a.synced(), a.shots.take(a.store.db, e.Head.Block, e.State.AppHash, e.NextRules)); err != nil {
		a.failed(err)
		return nil, err
	}
	a.announce()
	if err := a.knows(); err != nil && (a.behind == nil || !a.behind()) { // else in FinalizeBlock: the routine that fetches blocks goes on at once
		a.failed(err)
	}
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
