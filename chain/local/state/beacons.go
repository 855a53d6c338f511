package state

import (
	"errors"
	"fmt"
	"slices"

	"sn3/chain"
	"sn3/chain/local/beacon"
)

// MaxBeacons is how many rounds one block may bring: that of the block before, and some that were late. Each costs every node
// a pairing of about a millisecond when the block is proposed, and another when it is executed.
const MaxBeacons = 16

// Beacon is the signature of a round.
type Beacon struct {
	Round     chain.Round
	Signature []byte
}

// ErrBeacons: a block that would bring these beacons is refused.
var ErrBeacons = errors.New("state: beacons that a block must not bring")

// lowest is the oldest round that the block at height may bring: what is kept of history.
func (s *State) lowest(height chain.Block) chain.Round {
	return chain.Round(height - min(height, s.span()))
}

// wants says whether the block at height may bring a round: it is over, not long ago, and its signature is not there yet.
func (s *State) wants(height chain.Block, r chain.Round) bool {
	_, known := s.beacons[r]
	return !known && chain.Block(r) < height && r >= s.lowest(height)
}

// over notes that a block is executed: its round is late from now on, until a later block brings its signature or it is too long
// ago. To look through all rounds instead would cost a proposer the whole of what is kept.
func (s *State) over(height chain.Block) {
	s.late = append(s.late, chain.Round(height))
	gone, _ := slices.BinarySearch(s.late, s.lowest(height+1))
	s.late = slices.Delete(s.late, 0, gone)
}

// closed notes that the signature of a round is there.
func (s *State) closed(r chain.Round) {
	if i, late := slices.BinarySearch(s.late, r); late {
		s.late = slices.Delete(s.late, i, i+1)
	}
}

// findLate finds the late rounds of a restored machine.
func (s *State) findLate() {
	s.late = nil
	next := s.meta.Height + 1
	for r := s.lowest(next); r < chain.Round(next); r++ {
		if s.wants(next, r) {
			s.late = append(s.late, r)
		}
	}
}

// lateIn are the late rounds from one to below another; do not modify.
func (s *State) lateIn(from, below chain.Round) []chain.Round {
	i, _ := slices.BinarySearch(s.late, from)
	j, _ := slices.BinarySearch(s.late, below)
	return s.late[i:max(i, j)]
}

// Missing are rounds that the block at height, the next one, should bring, ascending, at most MaxBeacons: that of the block
// before and the oldest of those that are late.
func (s *State) Missing(height chain.Block) []chain.Round {
	if height == 0 {
		return nil
	}
	last := chain.Round(height - 1)
	late := s.lateIn(s.lowest(height), last)
	out := slices.Clone(late[:min(len(late), MaxBeacons-1)])
	if s.wants(height, last) {
		out = append(out, last)
	}
	return out
}

// CheckBeacons says whether a proposed block at height may bring these: rounds ascend, each is wanted, and each signature
// verifies. What costs nothing to see is looked at first, so that no block makes a node work more than MaxBeacons pairings.
func (s *State) CheckBeacons(height chain.Block, list []Beacon) error {
	if len(list) > MaxBeacons {
		return fmt.Errorf("%w: %d rounds, at most %d", ErrBeacons, len(list), MaxBeacons)
	}
	for i, b := range list {
		if !s.wants(height, b.Round) || i > 0 && b.Round <= list[i-1].Round || len(b.Signature) != beacon.SignatureLen {
			return fmt.Errorf("%w: round %d is not wanted at height %d", ErrBeacons, b.Round, height)
		}
	}
	for _, b := range list {
		if err := s.verified(b); err != nil {
			return fmt.Errorf("%w: round %d: %w", ErrBeacons, b.Round, err)
		}
	}
	return nil
}

// enter keeps the beacons of a block being executed; one that is not wanted or does not verify is as if it were not there.
func (s *State) enter(list []Beacon) {
	for _, b := range list[:min(len(list), MaxBeacons)] {
		if s.wants(s.meta.Height, b.Round) && s.verified(b) == nil {
			s.beacons[b.Round] = slices.Clone(b.Signature)
			s.closed(b.Round)
			s.touch(roundKey(b.Round))
		}
	}
}
