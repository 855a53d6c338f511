package state

import (
	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/yuma"
)

// checkWeights is Subtensor's order of checks of set_weights (notes: pallets/subtensor/src/subnets/weights.rs); the first
// failure counts.
func (s *State) checkWeights(o local.SetWeights, from chain.Hotkey) local.Code {
	if s.params.CommitReveal {
		return local.CodeCommitReveal
	}
	uid, seated := s.byHotkey[from]
	if !seated {
		return local.CodeNotRegistered
	}
	if code := s.checkVersionAndStake(uid, o.VersionKey); code != local.CodeOK {
		return code
	}
	if s.tooFast(uid) {
		return local.CodeRateLimited
	}
	return s.checkRow(uid, o.Weights)
}

// checkVersionAndStake: the subnet's owner needs no stake.
func (s *State) checkVersionAndStake(uid int, version uint64) local.Code {
	switch {
	case uid != s.ownerUID() && s.seats[uid].Stake < s.params.StakeThreshold:
		return local.CodeMinStake
	case version < s.params.WeightsVersion: // 0: any will do
		return local.CodeVersionKey
	}
	return local.CodeOK
}

// tooFast: a hotkey sets or commits weights once in so many blocks.
func (s *State) tooFast(uid int) bool {
	last := s.seats[uid].LastUpdate
	return last != 0 && s.meta.Height-last < s.params.WeightsInterval
}

// checkRow checks a row as it is set: in the open, or revealed. A row that weighs nobody but its own neuron needs no permit
// and has no least length, as on Subtensor; nor does the owner's need a permit.
func (s *State) checkRow(uid int, row []chain.Weight) local.Code {
	self := len(row) == 1 && int(row[0].UID) == uid
	if !s.seats[uid].Permit && !self && uid != s.ownerUID() {
		return local.CodeNoPermit
	}
	if twice(row) {
		return local.CodeDuplicate
	}
	var sum, most uint64
	for i, w := range row {
		if int(w.UID) >= len(s.seats) || i > 0 && row[i-1].UID > w.UID {
			return local.CodeWeights
		}
		sum, most = sum+uint64(w.Value), max(most, uint64(w.Value))
	}
	switch {
	case self:
	case len(row) < min(s.params.MinWeights, len(s.seats)):
		return local.CodeFewWeights
	case most*u16 > uint64(s.params.MaxWeight)*sum:
		return local.CodeMaxWeight
	}
	return local.CodeOK
}

// twice says whether a row names a neuron twice, wherever they stand.
func twice(row []chain.Weight) bool {
	var seen [1 << 16 / 64]uint64
	for _, w := range row {
		word, bit := &seen[w.UID/64], uint64(1)<<(w.UID%64)
		if *word&bit != 0 {
			return true
		}
		*word |= bit
	}
	return false
}

const u16 = 65535 // is 1 as a proportion

// storeRow keeps a row, its largest value made 65535.
func (s *State) storeRow(uid int, row []chain.Weight) {
	values := make([]uint16, len(row))
	for i, w := range row {
		values[i] = w.Value
	}
	x := &s.seats[uid]
	x.Weights = nil
	for i, v := range yuma.MaxUpscale(values) {
		x.Weights = append(x.Weights, yuma.Entry{UID: uint16(row[i].UID), Value: v})
	}
	s.touch(seatKey(uid))
	s.emit(local.Event{Kind: local.EventWeights, Hotkey: x.Hotkey, UID: chain.UID(uid)})
}

func (s *State) setWeights(o local.SetWeights, from chain.Hotkey) {
	uid := s.byHotkey[from]
	s.overtake(uid)
	s.storeRow(uid, o.Weights)
	s.seats[uid].LastUpdate = s.meta.Height
}

// ownerUID is the seat of the subnet owner's own account; -1 if it has none.
func (s *State) ownerUID() int {
	if uid, seated := s.byHotkey[chain.Hotkey(s.gen.Owner)]; seated && s.gen.Owner != (chain.Coldkey{}) {
		return uid
	}
	return -1
}
