package state

import (
	"bytes"
	"fmt"
	"slices"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
)

// Snapshot is the state as of block b: a kept phase boundary or the newest block.
func (s *State) Snapshot(b chain.Block) (*chain.Snapshot, error) {
	if b == s.meta.Height {
		return s.now(), nil
	}
	if x := s.snapshots[b]; x != nil {
		return x, nil
	}
	for _, x := range s.recent {
		if x.Block == b {
			return x, nil
		}
	}
	if b > s.meta.Height {
		return nil, fmt.Errorf("snapshot of block %d at height %d: %w", b, s.meta.Height, chain.ErrNotYet)
	}
	return nil, fmt.Errorf("snapshot of block %d at height %d: %w", b, s.meta.Height, chain.ErrPruned)
}

// Selection is the selection of window w. Of windows long ago the empty ones are still known, back to the oldest kept one
// that is not empty.
func (s *State) Selection(w chain.Window) (chain.Selection, error) {
	if x, ok := s.selections[w]; ok {
		return x, nil
	}
	if newest, any := s.sched.Selected(s.meta.Height); !any || w > newest { // not At, which wraps for a w beyond any use
		return chain.Selection{}, fmt.Errorf("selection of window %d: %w", w, chain.ErrNotYet)
	}
	if kept := s.outcomes(); len(kept) < s.params.KeepWindows || w > kept[0] {
		return chain.Selection{Window: w}, nil
	}
	return chain.Selection{}, fmt.Errorf("selection of window %d: %w", w, chain.ErrPruned)
}

// Beacon is the randomness of round r.
func (s *State) Beacon(r chain.Round) ([]byte, error) {
	sig, err := s.BeaconSignature(r)
	if err != nil {
		return nil, err
	}
	return beacon.Randomness(sig), nil
}

// BeaconSignature is the signature behind Beacon, which opens timelocks.
func (s *State) BeaconSignature(r chain.Round) ([]byte, error) {
	if sig, ok := s.beacons[r]; ok {
		return sig, nil
	}
	if chain.Block(r) >= s.meta.Height || r >= s.lowest(s.meta.Height+1) { // not over, or late
		return nil, fmt.Errorf("beacon round %d at height %d: %w", r, s.meta.Height, chain.ErrNotYet)
	}
	return nil, fmt.Errorf("beacon round %d: %w", r, chain.ErrPruned)
}

// Account is a balance and the next nonce; unknown accounts have neither.
func (s *State) Account(k chain.Coldkey) (chain.Amount, uint64) {
	a := s.accounts[k]
	return a.Balance, a.Nonce
}

// Seated says whether a hotkey has a seat.
func (s *State) Seated(h chain.Hotkey) bool {
	_, ok := s.byHotkey[h]
	return ok
}

// Stakes are what a coldkey has staked, by hotkey ascending, and its withdrawals on their way.
func (s *State) Stakes(k chain.Coldkey) local.Stakes {
	out := local.Stakes{Staked: []local.Stake{}, Unbonding: []local.Withdrawal{}}
	for h, n := range s.shares[k] { // any order: sorted below
		x := s.hotkeys[h]
		out.Staked = append(out.Staked, local.Stake{Hotkey: h, Amount: worth(n, x.Shares, x.Stake)})
	}
	slices.SortFunc(out.Staked, func(a, b local.Stake) int { return bytes.Compare(a.Hotkey[:], b.Hotkey[:]) })
	for _, d := range s.unbonding[k] {
		out.Unbonding = append(out.Unbonding, local.Withdrawal{At: d.At, Amount: d.Amount})
	}
	return out
}
