package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"sn3/chain"
)

// former is what an account held until the block that changed it.
type former struct {
	account chain.Coldkey
	amount  chain.Amount
}

// journal says for every block of the kept ones whose balances it changed and what they were before, by account ascending
// once the block is executed. An entry is written once and goes as a whole, so that what a block costs follows from what
// changes in it and not from what is kept.
type journal struct {
	of     map[chain.Block][]former
	blocks map[chain.Coldkey][]chain.Block // at which an account changed, ascending
}

func newJournal() journal {
	return journal{map[chain.Block][]former{}, map[chain.Coldkey][]chain.Block{}}
}

// changed enters a balance that changes in the block being executed, with what it was before; the first time counts.
func (s *State) changed(k chain.Coldkey, old, now chain.Amount) {
	j, h := &s.journal, s.meta.Height
	at := j.blocks[k]
	if old == now || len(at) > 0 && at[len(at)-1] == h {
		return
	}
	j.of[h] = append(j.of[h], former{k, old})
	j.blocks[k] = append(at, h)
}

// closeJournal puts the entry of the executed block into its order.
func (s *State) closeJournal() {
	if list := s.journal.of[s.meta.Height]; len(list) > 0 {
		slices.SortFunc(list, func(a, b former) int { return bytes.Compare(a.account[:], b.account[:]) })
		s.touch(historyKey(s.meta.Height))
	}
}

// pruneHistory forgets what balances were before a block.
func (s *State) pruneHistory(at chain.Block) {
	j := &s.journal
	list, kept := j.of[at]
	if !kept {
		return
	}
	for _, x := range list {
		if b := j.blocks[x.account]; len(b) > 1 {
			j.blocks[x.account] = b[1:] // the first is this one: what was before is gone
		} else {
			delete(j.blocks, x.account)
		}
	}
	delete(j.of, at)
	s.touch(historyKey(at))
}

// link finds the changes of every account in the restored entries, which must be of kept blocks.
func (s *State) link() error {
	j := &s.journal
	blocks := make([]chain.Block, 0, len(j.of))
	for b := range j.of { // any order: sorted below
		blocks = append(blocks, b)
	}
	slices.Sort(blocks)
	for _, b := range blocks {
		if b == 0 || b > s.meta.Height || s.meta.Height-b >= s.span() {
			return fmt.Errorf("%w: former balances of block %d at height %d", ErrDamaged, b, s.meta.Height)
		}
		for _, x := range j.of[b] {
			j.blocks[x.account] = append(j.blocks[x.account], b)
		}
	}
	return nil
}

// span is how many blocks back history can be asked for.
func (s *State) span() chain.Block {
	return s.run.Schedule.Length * chain.Block(s.params.KeepWindows)
}

// BalanceAt is what an account held as of block b: after executing it.
func (s *State) BalanceAt(k chain.Coldkey, b chain.Block) (chain.Amount, error) {
	switch h := s.meta.Height; {
	case b > h:
		return 0, fmt.Errorf("balance of block %d at height %d: %w", b, h, chain.ErrNotYet)
	case h > s.span() && b < h-s.span():
		return 0, fmt.Errorf("balance of block %d at height %d: %w", b, h, chain.ErrPruned)
	}
	changes := s.journal.blocks[k]
	i, _ := slices.BinarySearch(changes, b+1) // the first one after b; b+1 does not wrap: b <= height
	if i == len(changes) {
		return s.accounts[k].Balance, nil
	}
	list := s.journal.of[changes[i]]
	at, _ := slices.BinarySearchFunc(list, k, func(x former, k chain.Coldkey) int { return bytes.Compare(x.account[:], k[:]) })
	return list[at].amount, nil
}

const formerLen = 32 + 8

func encodeHistory(list []former) []byte {
	b := make([]byte, 0, formerLen*len(list))
	for _, x := range list {
		b = binary.BigEndian.AppendUint64(append(b, x.account[:]...), uint64(x.amount))
	}
	return b
}

// decodeHistory reads at least one account, ascending.
func decodeHistory(v []byte) ([]former, error) {
	if len(v) == 0 || len(v)%formerLen != 0 {
		return nil, errForm
	}
	list := make([]former, len(v)/formerLen)
	d := decoder{b: v}
	for i := range list {
		list[i] = former{d.h32(), chain.Amount(d.u64())}
		if i > 0 && bytes.Compare(list[i-1].account[:], list[i].account[:]) >= 0 {
			return nil, errForm
		}
	}
	return list, d.end()
}
