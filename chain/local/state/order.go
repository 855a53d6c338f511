package state

import (
	"sn3/chain"
	"sn3/chain/local"
)

// InOrder are those of a proposer's transactions whose nonces can be used up by the next block, of each sender in the order of
// nonces. The others would fail and cost room; they may wait for a later block, behind the one that they lack.
func (s *State) InOrder(txs [][]byte) [][]byte {
	type place struct {
		from  chain.Hotkey
		nonce uint64
	}
	next, waiting := map[chain.Hotkey]uint64{}, map[place][]byte{}
	out := make([][]byte, 0, len(txs))
	for _, raw := range txs {
		tx, from, code := s.parse(raw)
		if code != local.CodeOK {
			continue
		}
		n, seen := next[from]
		if !seen {
			n = s.accounts[chain.Coldkey(from)].Nonce
		}
		if tx.Nonce > n {
			waiting[place{from, tx.Nonce}] = raw
		}
		for ok := tx.Nonce == n; ok; raw, ok = waiting[place{from, n}] {
			out = append(out, raw)
			n++
		}
		next[from] = n
	}
	return out
}
