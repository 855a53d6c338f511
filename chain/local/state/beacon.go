package state

import (
	"bytes"
	"fmt"
	"slices"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
)

// lateSpan is how many blocks back late rounds are looked for: members sign those beside the round of the block.
const lateSpan = 4096

// key is the key that a chain begins with: shared by the members of a ceremony, or one node's own.
func (g *Genesis) key() (*beacon.Key, error) {
	if err := beacon.CheckPublic(g.BeaconKey); err != nil {
		return nil, fmt.Errorf("genesis: beacon key of %d bytes: %w", len(g.BeaconKey), err)
	}
	public := beacon.PublicKey(g.BeaconKey)
	if len(g.Beacon) == 0 {
		return &beacon.Key{Threshold: 1, Public: public, Members: make([]beacon.MemberKey, 1), PublicShares: []beacon.PublicKey{public}}, nil
	}
	k, err := beacon.ParseKey(g.Beacon)
	if err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	if k.From != 0 || k.Public != public {
		return nil, fmt.Errorf("genesis: %w: the shared beacon key is not the one of beacon_key, or signs from round %d on, not from 0", beacon.ErrKey, k.From)
	}
	if err := k.Check(); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	return k, nil
}

// keyAt is the key that signs a round; genesis has one for round 0.
func (s *State) keyAt(r chain.Round) *beacon.Key {
	k, _ := s.keys.At(r)
	return k
}

// BeaconKeys are the keys of the beacon, the announced next one too; do not modify.
func (s *State) BeaconKeys() beacon.Keys { return s.keys }

// BeaconKey is the public key of the beacon's round r. That of a round that is more than the longest way of a commitment
// ahead may still change. Keys of rounds beyond what is kept are forgotten, but for the genesis'.
func (s *State) BeaconKey(r chain.Round) ([]byte, error) {
	if len(s.keys) > 1 && r < s.lowest(s.meta.Height) {
		return nil, fmt.Errorf("beacon key of round %d: %w", r, chain.ErrPruned)
	}
	return bytes.Clone(s.keyAt(r).Public[:]), nil
}

// ahead is how many keys do not sign yet.
func (s *State) ahead() int {
	n := 0
	for n < len(s.keys) && s.keys[len(s.keys)-1-n].From > chain.Round(s.meta.Height) {
		n++
	}
	return n
}

// forgetKeys drops the keys of rounds that no block may bring any more. The genesis' is no entry and stays.
func (s *State) forgetKeys() {
	low, keep := s.lowest(s.meta.Height), slices.Clone(s.keys[:1])
	for i, k := range s.keys[1:] {
		if i+2 < len(s.keys) && s.keys[i+2].From <= low {
			s.touch(keyKey(k.From))
			continue
		}
		keep = append(keep, k)
	}
	s.keys = keep
}

// verified says whether a signature is the round's.
func (s *State) verified(b Beacon) error {
	return beacon.Verify(s.keyAt(b.Round).Public[:], b.Round, b.Signature)
}

// Late are rounds below height, that of the next block, that have no signature yet, ascending, at most n: the members of their
// key sign them once more. If there are more than n it is the turn of others at every height, so that rounds which nobody can
// sign any more keep no other one waiting.
func (s *State) Late(height chain.Block, n int) []chain.Round {
	all := s.lateIn(max(s.lowest(height), chain.Round(height-min(height, lateSpan))), chain.Round(height))
	if len(all) <= n {
		return slices.Clone(all)
	}
	groups := (len(all) + n - 1) / n
	at := min(int(height%chain.Block(groups))*n, len(all)-n)
	return slices.Clone(all[at : at+n])
}

// Wants says whether the block at height may bring the signature of a round.
func (s *State) Wants(height chain.Block, r chain.Round) bool { return s.wants(height, r) }

// BeaconStatus is who signs the beacon, who will, and the key that is being made.
func (s *State) BeaconStatus() local.BeaconStatus {
	now := s.keyAt(chain.Round(s.meta.Height))
	out := local.BeaconStatus{Signs: keyInfo(now), Last: s.tried.String(), Earliest: s.nextBeacon(s.meta.Height + 1)}
	if last := s.keys[len(s.keys)-1]; last != now {
		next := keyInfo(last)
		out.Next = &next
	}
	if m := s.making; m != nil {
		out.Making = m.status(s)
	}
	return out
}

func keyInfo(k *beacon.Key) local.BeaconKeyInfo {
	return local.BeaconKeyInfo{From: k.From, Threshold: k.Threshold, Members: len(k.PublicShares), Public: bytes.Clone(k.Public[:])}
}
