package state

import (
	"encoding/binary"
	"fmt"

	"sn3/chain"
)

// balance is what an account holds from a block on.
type balance struct {
	from   chain.Block
	amount chain.Amount
}

// changed enters a balance that changes in the block being executed. The history of an account has at least two entries,
// ascending; an account without one has held what it holds for as long as history can be asked for.
func (s *State) changed(k chain.Coldkey, old, now chain.Amount) {
	if old == now {
		return
	}
	h := s.history[k]
	if len(h) == 0 {
		h = []balance{{0, old}}
	}
	if last := &h[len(h)-1]; last.from == s.meta.Height && len(h) > 1 {
		last.amount = now
	} else {
		h = append(h, balance{s.meta.Height, now})
	}
	s.history[k] = h
	s.touch(historyKey(k))
}

// pruneHistory forgets what balances were before limit.
func (s *State) pruneHistory(limit chain.Block) {
	for k, h := range s.history { // any order: every account for itself
		first := 0
		for first+1 < len(h) && h[first+1].from <= limit {
			first++
		}
		switch {
		case first == 0:
			continue
		case first == len(h)-1: // what it holds now, it has held since
			delete(s.history, k)
		default:
			s.history[k] = append([]balance(nil), h[first:]...)
		}
		s.touch(historyKey(k))
	}
}

// BalanceAt is what an account held as of block b: after executing it.
func (s *State) BalanceAt(k chain.Coldkey, b chain.Block) (chain.Amount, error) {
	span := s.run.Schedule.Length * chain.Block(s.params.KeepWindows)
	switch h := s.meta.Height; {
	case b > h:
		return 0, fmt.Errorf("balance of block %d at height %d: %w", b, h, chain.ErrNotYet)
	case h > span && b < h-span:
		return 0, fmt.Errorf("balance of block %d at height %d: %w", b, h, chain.ErrPruned)
	}
	h := s.history[k]
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].from <= b {
			return h[i].amount, nil
		}
	}
	return s.accounts[k].Balance, nil
}

func encodeHistory(h []balance) []byte {
	b := make([]byte, 0, 16*len(h))
	for _, x := range h {
		b = binary.BigEndian.AppendUint64(b, uint64(x.from))
		b = binary.BigEndian.AppendUint64(b, uint64(x.amount))
	}
	return b
}

// decodeHistory reads at least two entries with ascending blocks.
func decodeHistory(v []byte) ([]balance, error) {
	if len(v) < 32 || len(v)%16 != 0 {
		return nil, errForm
	}
	h := make([]balance, len(v)/16)
	d := decoder{b: v}
	for i := range h {
		h[i] = balance{chain.Block(d.u64()), chain.Amount(d.u64())}
		if i > 0 && h[i].from <= h[i-1].from {
			return nil, errForm
		}
	}
	return h, d.end()
}
