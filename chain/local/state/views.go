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
	for k := range s.stakers[h] { // any order: sorted
		out.Stakers = append(out.Stakers, local.Staker{Coldkey: k, Amount: worth(s.shares[k][h], x.Shares, x.Stake)})
		if len(out.Stakers) == 2*local.MaxStakers {
			out.Stakers = largest(out.Stakers)
		}
	}
	out.Stakers = largest(out.Stakers)
	out.MoreStakers = len(s.stakers[h]) - len(out.Stakers)
	for _, c := range s.commits[h] {
		out.Commitments = append(out.Commitments, local.Commitment{At: c.at, Round: c.round})
	}
	return out, nil
}

// largest are the first MaxStakers by amount, then account.
func largest(list []local.Staker) []local.Staker {
	slices.SortFunc(list, func(a, b local.Staker) int {
		return cmp.Or(cmp.Compare(b.Amount, a.Amount), bytes.Compare(a.Coldkey[:], b.Coldkey[:]))
	})
	return list[:min(len(list), local.MaxStakers)]
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
