package state

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"sn3/chain"
	"sn3/chain/local"
)

// Hotkey is what is kept of a hotkey.
func (s *State) Hotkey(h chain.Hotkey) (local.HotkeyInfo, error) {
	x, known := s.hotkeys[h]
	if !known {
		return local.HotkeyInfo{}, fmt.Errorf("hotkey %s: %w", h.Short(), chain.ErrNotFound)
	}
	out := local.HotkeyInfo{Hotkey: h, Owner: x.Owner, First: x.First, Times: x.Times, Earned: x.Earned, Stake: x.Stake, Take: x.Take,
		Stakers: []local.Staker{}, Commitments: []local.Commitment{}}
	for k, of := range s.shares { // any order: sorted below
		if n := of[h]; n > 0 {
			out.Stakers = append(out.Stakers, local.Staker{Coldkey: k, Amount: worth(n, x.Shares, x.Stake)})
		}
	}
	slices.SortFunc(out.Stakers, func(a, b local.Staker) int {
		return cmp.Or(cmp.Compare(b.Amount, a.Amount), bytes.Compare(a.Coldkey[:], b.Coldkey[:]))
	})
	if more := len(out.Stakers) - local.MaxStakers; more > 0 {
		out.Stakers, out.MoreStakers = out.Stakers[:local.MaxStakers], more
	}
	for _, c := range s.commits[h] {
		out.Commitments = append(out.Commitments, local.Commitment{At: c.at, Round: c.round})
	}
	return out, nil
}

// Weights are the rows of all seats, by uid.
func (s *State) Weights() [][]chain.Weight {
	out := make([][]chain.Weight, len(s.seats))
	for i, x := range s.seats {
		out[i] = make([]chain.Weight, len(x.Weights))
		for j, e := range x.Weights {
			out[i][j] = chain.Weight{UID: chain.UID(e.UID), Value: e.Value}
		}
	}
	return out
}
