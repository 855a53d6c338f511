package state

import (
	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/yuma"
)

// accrue emits a block's coins; they are pending until the epoch hands them out.
func (s *State) accrue() {
	e, m := s.emission(), &s.meta.Money
	m.Emitted += e
	m.Pending += e
	if s.gen.Owner != (chain.Coldkey{}) {
		m.Cut += share(e, s.params.OwnerCut)
	}
}

// emission is what this block emits: by the second rules halved when half of what can ever exist does, and again at every
// half of the rest. What was burned is not emitted again.
func (s *State) emission() chain.Amount {
	e, most := s.params.BlockEmission, maxIssued
	if s.meta.Rules >= 2 {
		most = s.params.MaxSupply
	}
	issued := s.meta.Money.issued()
	if issued >= most {
		return 0
	}
	rest := most - issued
	if s.meta.Rules >= 2 {
		e = halved(e, rest, most)
	}
	return min(e, rest)
}

// halved is e >> floor(log2(most/rest)), exactly; rest is above 0.
func halved(e, rest, most chain.Amount) chain.Amount {
	for ; rest <= most>>1; most >>= 1 {
		e >>= 1
	}
	return e
}

// share is a proportion of 65535 of an amount, rounded down.
func share(a chain.Amount, proportion uint16) chain.Amount { return scaled(a, uint64(proportion), u16) }

// payOwner hands the subnet's owner its cut.
func (s *State) payOwner() {
	m := &s.meta.Money
	if m.Cut > 0 {
		m.Pending -= m.Cut
		s.credit(s.gen.Owner, m.Cut)
		m.Cut = 0
	}
}

// payout hands out what the epoch computed: incentive to the coldkey's account, dividends to the stake. What the owner's own
// hotkey earns as a miner is burned, as on Subtensor.
func (s *State) payout(out yuma.Output) {
	owner := s.ownerUID()
	for i := range s.seats {
		x := &s.seats[i]
		incentive, dividend := s.spend(out.Server[i]), s.spend(out.Validator[i])
		x.Emission = incentive + dividend
		paid := x.Emission
		if i == owner {
			s.meta.Money.Burned += incentive
			paid = dividend
		} else if incentive > 0 {
			s.credit(x.Coldkey, incentive)
		}
		x.Earned += paid
		rec := s.hotkeys[x.Hotkey]
		rec.Earned += paid
		s.setHotkey(x.Hotkey, rec)
		s.reward(x.Hotkey, dividend)
		if x.Emission > 0 {
			s.emit(local.Event{Kind: local.EventEpoch, Hotkey: x.Hotkey, UID: x.UID, Coldkey: x.Coldkey, Amount: x.Emission, Incentive: x.Incentive, Dividends: x.Dividends, Consensus: x.Consensus})
		}
		s.touch(seatKey(i))
	}
}

// spend takes an amount out of what is pending; Yuma hands out no more than that.
func (s *State) spend(amount uint64) chain.Amount {
	a := min(chain.Amount(amount), s.meta.Money.Pending)
	s.meta.Money.Pending -= a
	return a
}

// reward gives a dividend to a hotkey's stake: the take to its owner, as stake, the rest to all who stake on it. The first
// rules have no take.
func (s *State) reward(h chain.Hotkey, dividend chain.Amount) {
	if dividend == 0 {
		return
	}
	x := s.hotkeys[h]
	if x.Shares == 0 { // all was unstaked since the bonds that earned this
		s.mint(h, x.Owner, dividend, uint64(dividend))
		return
	}
	take := chain.Amount(0)
	if s.meta.Rules >= 2 {
		take = share(dividend, min(x.Take, s.params.MaxTake))
	}
	x.Stake += dividend - take
	s.setHotkey(h, x)
	s.mint(h, x.Owner, take, shares(take, x.Shares, x.Stake))
}
