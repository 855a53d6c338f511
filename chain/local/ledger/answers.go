package ledger

import (
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sn3/chain"
	"sn3/chain/local"
)

// answers are the queries of package local. They hold the lock, but for the history, which may read a disk.
var answers = map[string]func(l *Ledger, arg string) (any, error){
	local.QueryStatus:     func(l *Ledger, _ string) (any, error) { return l.status, nil },
	local.QueryRun:        func(l *Ledger, _ string) (any, error) { return l.run.Encode(), nil },
	local.QueryGenesis:    func(l *Ledger, _ string) (any, error) { return l.gen, nil },
	local.QueryParams:     func(l *Ledger, _ string) (any, error) { return l.st.Params(), nil },
	local.QueryPeers:      func(l *Ledger, _ string) (any, error) { return l.status.Info.Peers, nil },
	local.QueryValidators: func(l *Ledger, _ string) (any, error) { return l.st.Validators(), nil },
	local.QueryPrice:      func(l *Ledger, _ string) (any, error) { return l.st.Price(), nil },
	local.QueryWeights:    func(l *Ledger, _ string) (any, error) { return l.st.Weights(), nil },
	local.QuerySupply:     func(l *Ledger, arg string) (any, error) { return l.supplyAt(arg) },
	local.QueryStakes:     (*Ledger).stakes,
	local.QueryBalance:    (*Ledger).balance,

	local.QueryAccount: named(func(l *Ledger, k chain.Coldkey) (any, error) {
		balance, nonce := l.st.Account(k)
		return local.AccountInfo{Balance: balance, Nonce: nonce}, nil
	}),
	local.QueryHotkey: named(func(l *Ledger, h chain.Hotkey) (any, error) { return l.st.Hotkey(h) }),
	local.QueryTx:     (*Ledger).tx,

	local.QuerySnapshot:  numbered(func(l *Ledger, b chain.Block) (any, error) { return l.st.Snapshot(b) }),
	local.QuerySelection: numbered(func(l *Ledger, w chain.Window) (any, error) { return l.st.Selection(w) }),
	local.QueryBeacon:    numbered(func(l *Ledger, r chain.Round) (any, error) { return l.st.Beacon(r) }),
	local.QuerySignature: numbered(func(l *Ledger, r chain.Round) (any, error) { return l.st.BeaconSignature(r) }),
	local.QueryKey:       numbered(func(l *Ledger, r chain.Round) (any, error) { return l.st.BeaconKey(r) }),
	local.QueryHead:      numbered(func(l *Ledger, b chain.Block) (any, error) { return l.head(b) }),
	local.QueryBlock:     numbered((*Ledger).block),
}

// numbered is an answer to a query whose argument is a number.
func numbered[N ~uint64](f func(*Ledger, N) (any, error)) func(*Ledger, string) (any, error) {
	return func(l *Ledger, arg string) (any, error) {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %q is no number", ErrQuery, arg)
		}
		return f(l, N(n))
	}
}

// named is an answer to a query whose argument is 32 bytes in hex.
func named[ID any, P interface {
	*ID
	encoding.TextUnmarshaler
}](f func(*Ledger, ID) (any, error)) func(*Ledger, string) (any, error) {
	return func(l *Ledger, arg string) (any, error) {
		var id ID
		if err := P(&id).UnmarshalText([]byte(arg)); err != nil {
			return nil, fmt.Errorf("%w: %v", ErrQuery, err)
		}
		return f(l, id)
	}
}

// Query answers a query of package local.
func (l *Ledger) Query(_ context.Context, name, arg string) (json.RawMessage, error) {
	v, err := l.answer(name, arg)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", name, err)
	}
	b, err := json.Marshal(v) // outside the lock: what the machine hands out never changes
	if err != nil {
		return nil, fmt.Errorf("answer %s: %w", name, err)
	}
	return b, nil
}

func (l *Ledger) answer(name, arg string) (any, error) {
	if name == local.QueryHistory {
		return l.page(arg)
	}
	f, known := answers[name]
	if !known {
		return nil, fmt.Errorf("%w: there is none of this name", ErrQuery)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return f(l, arg)
}

// tx answers hash, or hash@block for who must know that it is in no block above that one.
func (l *Ledger) tx(arg string) (any, error) {
	hash, block, bounded := strings.Cut(arg, "@")
	var h chain.Hash
	if err := h.UnmarshalText([]byte(hash)); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrQuery, err)
	}
	since, err := strconv.ParseUint(block, 10, 64)
	if bounded && err != nil {
		return nil, fmt.Errorf("%w: %q is no block", ErrQuery, block)
	}
	info, ok := l.txs[h]
	switch {
	case ok:
		return info, nil
	case bounded && (len(l.heads) == 0 || l.heads[0].Block > max(1, chain.Block(since))):
		return nil, fmt.Errorf("transaction %s since block %d: %w", h.Short(), since, chain.ErrPruned)
	}
	return nil, fmt.Errorf("transaction %s: %w", h.Short(), chain.ErrNotFound)
}

// balance answers account@block.
func (l *Ledger) balance(arg string) (any, error) {
	account, block, _ := strings.Cut(arg, "@")
	var k chain.Coldkey
	n, err := strconv.ParseUint(block, 10, 64)
	if err := errors.Join(err, k.UnmarshalText([]byte(account))); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrQuery, err)
	}
	return l.st.BalanceAt(k, chain.Block(n))
}

// block is head with the outcomes of its transactions.
func (l *Ledger) block(b chain.Block) (any, error) {
	h, err := l.head(b)
	if err != nil {
		return nil, err
	}
	out := local.BlockInfo{HeadInfo: h, Txs: []local.BlockTx{}}
	for _, tx := range l.byBlock[b] {
		if info := l.txs[tx]; info.Block == b {
			out.Txs = append(out.Txs, local.BlockTx{Hash: tx, Code: info.Code})
		}
	}
	slices.SortFunc(out.Txs, func(a, b local.BlockTx) int { return bytes.Compare(a.Hash[:], b.Hash[:]) })
	return out, nil
}
