// Package ledger is the state machine as a node serves it: with the outcomes of transactions, the heads, and answers to the
// queries of package local. The consensus node and the hand-driven chain of tests share it; it knows no consensus engine.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/state"
)

// Keep is for how many blocks heads and outcomes of transactions can be asked for.
const Keep = 5000

// maxHeads is the most heads in one answer.
const maxHeads = 500

// ErrQuery: there is no such query, or its argument is malformed.
var ErrQuery = errors.New("ledger: malformed query")

// Past is what a restarted node knows of earlier blocks beside the state. Heads ascend without a gap.
type Past struct {
	Heads    []local.HeadInfo
	Txs      map[chain.Hash]local.TxInfo
	Supplies map[chain.Block]local.Supply
	History  History // nil: kept in memory
}

// Hints are what a node's status says that is not part of the chain.
type Hints struct {
	Info    local.NodeInfo
	Version string
}

// Ledger is the machine and its past. Safe for concurrent use; Execute and Commit alternate.
type Ledger struct {
	run     *chain.Run
	gen     *state.Genesis
	status  local.Status // under mu, of the newest committed block
	senders *local.Senders

	mu       sync.Mutex
	st       *state.State
	txs      map[chain.Hash]local.TxInfo
	byBlock  map[chain.Block][]chain.Hash
	heads    []local.HeadInfo             // ascending, contiguous
	supplies map[chain.Block]local.Supply // of heads
	asked    chain.Block                  // that was audited because somebody asked, the newest
	past     History
	own      *memory       // the history of a ledger without a store
	moved    chan struct{} // closed with every Commit
	running  *Executed     // a block between Execute and Commit
}

// New serves st, which nobody else may use from now on.
func New(st *state.State, past Past, h Hints) *Ledger {
	l := &Ledger{run: st.Run(), gen: st.Genesis(), st: st, senders: st.Senders(), txs: map[chain.Hash]local.TxInfo{}, byBlock: map[chain.Block][]chain.Hash{},
		heads: slices.Clone(past.Heads), supplies: map[chain.Block]local.Supply{}, moved: make(chan struct{})}
	l.status = local.Status{Network: l.gen.Network, BlockTimeMS: l.gen.BlockTimeMS, RunHash: l.run.Hash(), GenesisHash: st.GenesisHash(), Info: h.Info, Version: h.Version}
	l.status.Height, l.status.AppHash = st.Height(), st.AppHash()
	l.status.Rules, l.status.NextRules, l.status.UpgradeAt = st.Rules()
	if n := len(l.heads); n > 0 {
		l.status.Time = l.heads[n-1].Time
	}
	if l.past = past.History; l.past == nil {
		l.own = &memory{events: map[chain.Hotkey][]local.Event{}}
		l.past = l.own
	}
	l.status.Beacon = st.BeaconStatus()
	l.remember(past.Txs)
	if maps.Copy(l.supplies, past.Supplies); l.supplies[st.Height()] == (local.Supply{}) {
		l.supplies[st.Height()], _ = l.supply() // whoever restored the machine has audited it
	}
	return l
}

func (l *Ledger) remember(txs map[chain.Hash]local.TxInfo) {
	for h, info := range txs {
		l.txs[h] = info
		l.byBlock[info.Block] = append(l.byBlock[info.Block], h)
	}
}

// Genesis is what the chain started from; do not modify.
func (l *Ledger) Genesis() *state.Genesis { return l.gen }

// Height and AppHash of the newest executed block.
func (l *Ledger) Height() (chain.Block, chain.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.Height(), l.st.AppHash()
}

// Newest is the newest block that was announced; of no block the time is zero.
func (l *Ledger) Newest() chain.Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return chain.Head{Block: l.status.Height, Time: l.status.Time}
}

// Validators is state.Validators.
func (l *Ledger) Validators() []local.ValidatorInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.Validators()
}

// Recover finds out who signed a transaction, outside the lock: checking and executing it is quick afterwards. Bytes that are
// no transaction of this chain cost nothing.
func (l *Ledger) Recover(raw []byte) {
	if tx, err := local.ParseTx(raw); err == nil && tx.Network == l.gen.Network {
		_, _ = l.senders.Of(tx) // whoever needs the sender asks again, and sees the error
	}
}

// CheckTx says whether a transaction may enter the mempool, or stay there.
func (l *Ledger) CheckTx(raw []byte) local.Code {
	l.Recover(raw)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.CheckTx(raw)
}

// Admit is CheckTx for a client's transaction: one that was executed already is OK, but not fresh, and nobody needs it in a
// mempool. Without that a client which submits again would take its own inclusion for somebody else's use of the nonce.
func (l *Ledger) Admit(raw []byte) (code local.Code, fresh bool) {
	l.Recover(raw)
	l.mu.Lock()
	defer l.mu.Unlock()
	if tx, err := local.ParseTx(raw); err == nil {
		if l.known(tx.Hash()) {
			return local.CodeOK, false
		}
	}
	code = l.st.CheckTx(raw)
	return code, code == local.CodeOK
}

// InOrder is state.InOrder, with the senders found outside the lock.
func (l *Ledger) InOrder(txs [][]byte) [][]byte {
	for _, raw := range txs {
		l.Recover(raw)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.InOrder(txs)
}

// Ahead says of a transaction that there are nonces before its own to be used up first: at is the height then, else 0.
func (l *Ledger) Ahead(raw []byte) (id chain.Hash, at chain.Block) {
	tx, err := local.ParseTx(raw)
	if err != nil {
		return id, 0
	}
	from, err := l.senders.Of(tx)
	if err != nil {
		return id, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, nonce := l.st.Account(chain.Coldkey(from)); tx.Nonce <= nonce {
		return id, 0
	}
	return tx.Hash(), l.st.Height()
}

// Seated says whether a transaction's sender has a seat.
func (l *Ledger) Seated(raw []byte) bool {
	tx, err := local.ParseTx(raw)
	if err != nil {
		return false
	}
	from, err := l.senders.Of(tx)
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.Seated(from)
}

// known finds a transaction in the blocks that ran, announced or not.
func (l *Ledger) known(h chain.Hash) bool {
	if l.running != nil {
		if _, ok := l.running.Txs[h]; ok {
			return true
		}
	}
	_, ok := l.txs[h]
	return ok
}

// Executed is a block that ran but is not announced yet: whoever makes it durable does so before Commit.
type Executed struct {
	Head   chain.Head
	State  state.Result
	Txs    map[chain.Hash]local.TxInfo
	Supply local.Supply
	Damage error // not nil: the sums of money are wrong, and the block must neither be kept nor announced

	Rules, NextRules uint64 // versions of the rules of this block and of the next one
}

// Info is the block as the head query answers it.
func (e *Executed) Info() local.HeadInfo {
	return local.HeadInfo{Block: e.Head.Block, Time: e.Head.Time, AppHash: e.State.AppHash}
}

// Execute runs the next block.
func (l *Ledger) Execute(head chain.Head, beacons []state.Beacon, said, txs [][]byte) *Executed {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &Executed{Head: head, Txs: map[chain.Hash]local.TxInfo{}}
	e.State = l.st.Finalize(state.Block{Height: head.Block, Beacons: beacons, Said: said, Txs: txs})
	e.Supply, e.Damage = l.supply()
	e.Rules, e.NextRules, _, _ = l.rules()
	for i, code := range e.State.Codes {
		if !e.State.Spent[i] {
			continue // nothing came of it, and nobody paid for keeping that; the same bytes may be executed later
		}
		if tx, err := local.ParseTx(txs[i]); err == nil {
			e.Txs[tx.Hash()] = local.TxInfo{Block: head.Block, Code: code}
		}
	}
	l.running = e
	return e
}

// Commit announces an executed block to whoever waits for heads.
func (l *Ledger) Commit(e *Executed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = nil
	l.remember(e.Txs)
	l.status.Height, l.status.Time, l.status.AppHash = e.Head.Block, e.Head.Time, e.State.AppHash
	l.status.Rules, l.status.NextRules, l.status.UpgradeAt = l.st.Rules()
	l.status.Beacon = l.st.BeaconStatus()
	l.heads = append(l.heads, e.Info())
	l.supplies[e.Head.Block] = e.Supply
	if l.own != nil {
		l.own.add(e)
	}
	for len(l.heads) > Keep {
		old := l.heads[0].Block
		for _, h := range l.byBlock[old] {
			if l.txs[h].Block == old {
				delete(l.txs, h)
			}
		}
		delete(l.byBlock, old)
		delete(l.supplies, old)
		delete(l.supplies, old-1) // of a genesis
		l.heads = l.heads[1:]
	}
	close(l.moved)
	l.moved = make(chan struct{})
}

// Heads returns heads above after, at most 500; it waits for one until ctx ends or local.HeadsWait has passed, and then
// returns none.
func (l *Ledger) Heads(ctx context.Context, after chain.Block) ([]chain.Head, error) {
	timeout := time.NewTimer(local.HeadsWait)
	defer timeout.Stop()
	for {
		l.mu.Lock()
		i := l.above(after)
		var heads []chain.Head
		for _, h := range l.heads[i:min(len(l.heads), i+maxHeads)] {
			heads = append(heads, chain.Head{Block: h.Block, Time: h.Time})
		}
		moved := l.moved
		l.mu.Unlock()
		if len(heads) > 0 {
			return heads, nil
		}
		select {
		case <-moved:
		case <-timeout.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// above is the index of the first kept head above a block.
func (l *Ledger) above(b chain.Block) int {
	return sort.Search(len(l.heads), func(i int) bool { return l.heads[i].Block > b })
}

// head answers for a block that Heads listed.
func (l *Ledger) head(b chain.Block) (local.HeadInfo, error) {
	if i := l.above(b); i > 0 && l.heads[i-1].Block == b {
		return l.heads[i-1], nil
	}
	if b > l.status.Height {
		return local.HeadInfo{}, fmt.Errorf("head of block %d at height %d: %w", b, l.status.Height, chain.ErrNotYet)
	}
	return local.HeadInfo{}, fmt.Errorf("head of block %d at height %d: %w", b, l.status.Height, chain.ErrPruned)
}
