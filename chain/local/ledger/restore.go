package ledger

import (
	"sn3/chain"
	"sn3/chain/local/state"
)

// Replace puts another machine of the same chain in place, at a height that was reached elsewhere. What is known of blocks
// before is in past; the rest answers chain.ErrPruned.
func (l *Ledger) Replace(st *state.State, past Past) {
	st.ShareSenders(l.senders)
	fresh := New(st, past, Hints{Info: l.status.Info, Version: l.status.Version})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status, l.st, l.heads = fresh.status, fresh.st, fresh.heads
	l.txs, l.byBlock, l.supplies = fresh.txs, fresh.byBlock, fresh.supplies
	l.past, l.own, l.running = fresh.past, fresh.own, nil
	close(l.moved)
	l.moved = make(chan struct{})
}

// Rules are the versions of the rules of the newest block and of the next one, and the block from which an announced later
// version counts; announced and at are 0 if there is none.
func (l *Ledger) Rules() (now, next, announced uint64, at chain.Block) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rules()
}

func (l *Ledger) rules() (now, next, announced uint64, at chain.Block) {
	now, announced, at = l.st.Rules()
	next = now
	if announced > 0 && at == l.st.Height()+1 {
		next = announced
	}
	return now, next, announced, at
}
