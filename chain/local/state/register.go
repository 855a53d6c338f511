package state

import (
	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/yuma"
)

// hotkey is what stays of a hotkey whether it has a seat or not.
type hotkey struct {
	Owner  chain.Coldkey // for good
	First  chain.Block   // of its first registration
	Times  uint64        // registered
	Earned chain.Amount  // in all its seats
	Stake  chain.Amount  // the pool
	Shares uint64        // of the pool
	Take   uint16        // of dividends, of 65535
	TakeAt chain.Block   // when it was changed last; 0: never
}

// setHotkey replaces a hotkey's entry; its seat's stake follows.
func (s *State) setHotkey(h chain.Hotkey, x hotkey) {
	s.meta.Money.Staked += x.Stake - s.hotkeys[h].Stake
	s.hotkeys[h] = x
	s.touch(hotkeyKey(h))
	if uid, seated := s.byHotkey[h]; seated && s.seats[uid].Stake != x.Stake {
		s.seats[uid].Stake = x.Stake
		s.touch(seatKey(uid))
	}
}

// checkRegister is Subtensor's order of checks of register_limit, but that a hotkey which has a seat keeps it and pays the fee only.
func (s *State) checkRegister(o local.Register, from chain.Hotkey, funds chain.Amount) local.Code {
	if s.Seated(from) {
		return local.CodeOK
	}
	x, known := s.hotkeys[from]
	price := s.Price()
	switch {
	case o.Limit != 0 && price > o.Limit:
		return local.CodePrice
	case price > funds:
		return local.CodeFunds
	case known && o.Coldkey != (chain.Coldkey{}) && o.Coldkey != x.Owner:
		return local.CodeNotOwner
	case len(s.seats) >= s.params.MaxSeats && s.weakest() < 0:
		return local.CodeNoSeat
	}
	return local.CodeOK
}

// register gives a hotkey a seat: a new one while there is room, else the weakest.
func (s *State) register(h chain.Hotkey, c chain.Coldkey) {
	if s.Seated(h) {
		return
	}
	price := s.Price()
	s.burn(chain.Coldkey(h), price)
	s.raise(price)
	uid := len(s.seats)
	if uid >= s.params.MaxSeats {
		uid = s.weakest()
		s.vacate(uid, h)
	}
	x := s.introduce(h, c, s.meta.Height)
	s.sit(uid, h, s.meta.Height)
	s.emit(local.Event{Kind: local.EventRegistered, Hotkey: h, UID: chain.UID(uid), Coldkey: x.Owner, Amount: price})
}

// introduce makes the entry of a hotkey that registers, or counts a registration.
func (s *State) introduce(h chain.Hotkey, c chain.Coldkey, at chain.Block) hotkey {
	x, known := s.hotkeys[h]
	if !known {
		if c == (chain.Coldkey{}) {
			c = chain.Coldkey(h)
		}
		x = hotkey{Owner: c, First: at, Take: s.params.DefaultTake}
	}
	x.Times++
	s.setHotkey(h, x)
	return x
}

// sit puts a known hotkey into a seat that is empty or the next new one. It has no permit, and for the limits of weights it
// counts as one that has just set them.
func (s *State) sit(uid int, h chain.Hotkey, at chain.Block) {
	rec := s.hotkeys[h]
	x := seat{Neuron: chain.Neuron{UID: chain.UID(uid), Hotkey: h, Coldkey: rec.Owner, Stake: rec.Stake, RegisteredAt: at, LastUpdate: at}}
	if uid == len(s.seats) {
		s.seats = append(s.seats, x)
	} else {
		s.seats[uid] = x
	}
	s.byHotkey[h] = uid
	s.touch(seatKey(uid))
}

// vacate takes a seat from its hotkey for another one: its record and commitments go, and weights and bonds to the seat, which
// were its. Its stake and what it has earned stay with the hotkey.
func (s *State) vacate(uid int, by chain.Hotkey) {
	old := s.seats[uid].Hotkey
	delete(s.byHotkey, old)
	delete(s.records, old)
	s.touch(recordKey(old))
	s.setCommits(old, nil)
	for i := range s.seats {
		x := &s.seats[i]
		weights, bonds := without(x.Weights, uid), without(x.Bonds, uid)
		if len(weights) < len(x.Weights) || len(bonds) < len(x.Bonds) {
			x.Weights, x.Bonds = weights, bonds
			s.touch(seatKey(i))
		}
	}
	s.emit(local.Event{Kind: local.EventReplaced, Hotkey: old, UID: chain.UID(uid), Coldkey: s.seats[uid].Coldkey, Other: by})
}

// without is a row without its entry of a seat.
func without(row []yuma.Entry, uid int) []yuma.Entry {
	return kept(row, func(e yuma.Entry) bool { return int(e.UID) != uid })
}

// kept are the entries of a row of which ok is true.
func kept(row []yuma.Entry, ok func(yuma.Entry) bool) (rest []yuma.Entry) {
	for _, e := range row {
		if ok(e) {
			rest = append(rest, e)
		}
	}
	return rest
}

// weakest is the seat that the next registration takes when all are taken: the lowest emission, of those the longest
// registered, of those the lowest uid. Seats in their immunity are spared, unless so few others are left that a flood of
// registrations would take their seats one after the other; the subnet owner's is always spared. -1: there is none.
func (s *State) weakest() int {
	owner, immune, others := s.ownerUID(), -1, -1
	settled := 0 // seats beyond their immunity
	for i := range s.seats {
		if i == owner {
			continue
		}
		best := &immune
		if s.meta.Height-s.seats[i].RegisteredAt >= s.params.ImmunityPeriod {
			best = &others
			settled++
		}
		if *best < 0 || s.weaker(i, *best) {
			*best = i
		}
	}
	if others >= 0 && (settled > s.sparedSeats() || immune < 0) {
		return others
	}
	return immune
}

// sparedSeats is how many seats beyond their immunity are not taken while there are immune ones: as many as the parameter
// says, in a small network a quarter of the seats.
func (s *State) sparedSeats() int { return min(s.params.MinNonImmune, s.params.MaxSeats/4) }

// weaker compares the seats i and j; their order breaks ties.
func (s *State) weaker(i, j int) bool {
	a, b := &s.seats[i], &s.seats[j]
	switch {
	case a.Emission != b.Emission:
		return a.Emission < b.Emission
	case a.RegisteredAt != b.RegisteredAt:
		return a.RegisteredAt < b.RegisteredAt
	}
	return i < j
}
