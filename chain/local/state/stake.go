package state

import (
	"math/bits"
	"slices"

	"sn3/chain"
	"sn3/chain/local"
)

// A hotkey's stake is a pool in shares: an owner of n of them has n·Stake/Shares of it. A dividend raises the pool and no
// number of shares. Every rounding is against whoever stakes or unstakes, by less than a rao, so that a share is never worth
// less than before. A share is worth a rao at least, so there are never more shares than rao.

// maxUnbonding is how many withdrawals of an account can be on their way at once; those of one block are one.
const maxUnbonding = 16

// due is a withdrawal that is paid out at block At.
type due struct {
	At     chain.Block
	Amount chain.Amount
}

// shares is how many shares an amount buys, rounded down.
func shares(amount chain.Amount, all uint64, stake chain.Amount) uint64 {
	return uint64(scaled(amount, all, uint64(stake)))
}

// worth is n shares in rao, rounded down.
func worth(n, all uint64, stake chain.Amount) chain.Amount { return scaled(stake, n, all) }

// ceilScaled is a·num/den rounded up; it must fit.
func ceilScaled(a, num, den uint64) uint64 {
	hi, lo := bits.Mul64(a, num)
	q, r := bits.Div64(hi, lo, den)
	if r > 0 {
		q++
	}
	return q
}

// bought is what staking an amount gives and costs: the shares that it pays for, and what those are worth, rounded up.
func (x hotkey) bought(amount chain.Amount) (n uint64, cost chain.Amount) {
	if x.Shares == 0 {
		return uint64(amount), amount
	}
	n = shares(amount, x.Shares, x.Stake)
	return n, chain.Amount(ceilScaled(n, uint64(x.Stake), x.Shares))
}

// checkAddStake is Subtensor's order of checks of add_stake.
func (s *State) checkAddStake(o local.AddStake, from chain.Hotkey, funds chain.Amount) local.Code {
	x, known := s.hotkeys[o.Hotkey]
	switch {
	case o.Amount < s.params.MinStake:
		return local.CodeAmount
	case o.Amount > funds || funds-o.Amount < s.params.Fee: // what is left must pay for unstaking
		return local.CodeFunds
	case !known:
		return local.CodeNoHotkey
	case s.meta.Rules < 2 && x.Owner != chain.Coldkey(from): // no delegation yet
		return local.CodeNotOwner
	}
	if n, _ := x.bought(o.Amount); n == 0 {
		return local.CodeAmount
	}
	return local.CodeOK
}

func (s *State) addStake(o local.AddStake, from chain.Coldkey) {
	n, cost := s.hotkeys[o.Hotkey].bought(o.Amount)
	s.debit(from, cost)
	s.mint(o.Hotkey, from, cost, n)
	s.emit(s.about(local.Event{Kind: local.EventStaked, Hotkey: o.Hotkey, Coldkey: from, Amount: cost}))
}

// about fills in the uid of an event's hotkey if it has a seat.
func (s *State) about(e local.Event) local.Event {
	if uid, seated := s.byHotkey[e.Hotkey]; seated {
		e.UID = chain.UID(uid)
	}
	return e
}

// mint adds an amount to a hotkey's stake and n shares of it to a coldkey's.
func (s *State) mint(h chain.Hotkey, to chain.Coldkey, amount chain.Amount, n uint64) {
	x := s.hotkeys[h]
	x.Stake += amount
	x.Shares += n
	s.setHotkey(h, x)
	s.setShares(to, h, s.shares[to][h]+n)
}

func (s *State) setShares(k chain.Coldkey, h chain.Hotkey, n uint64) {
	if s.shares[k][h] > 0 {
		s.stakes--
	}
	if n > 0 {
		s.stakes++
	}
	put(s.shares, k, h, n)
	put(s.stakers, h, k, n > 0)
	s.touch(shareKey(k, h))
}

// put enters a value into a table of tables; a zero one is not kept, nor is an empty table.
func put[A, B, V comparable](t map[A]map[B]V, a A, b B, v V) {
	of, zero := t[a], *new(V)
	switch {
	case v != zero && of == nil:
		t[a] = map[B]V{b: v}
	case v != zero:
		of[b] = v
	default:
		if delete(of, b); len(of) == 0 {
			delete(t, a)
		}
	}
}

// sold is how many of the shares that a coldkey holds are worth an amount, rounded up, and what they are worth.
func (s *State) sold(k chain.Coldkey, o local.RemoveStake) (n uint64, amount chain.Amount, code local.Code) {
	x, held := s.hotkeys[o.Hotkey], s.shares[k][o.Hotkey]
	switch {
	case o.Amount == 0:
		return 0, 0, local.CodeAmount
	case held == 0:
		return 0, 0, local.CodeStake
	}
	all := worth(held, x.Shares, x.Stake)
	switch {
	case o.Amount == local.WholeStake || o.Amount == all:
		return held, all, local.CodeOK
	case o.Amount > all:
		return 0, 0, local.CodeStake
	case o.Amount < s.params.MinStake:
		return 0, 0, local.CodeAmount
	}
	n = ceilScaled(uint64(o.Amount), x.Shares, uint64(x.Stake))
	if n < held && worth(held-n, x.Shares, x.Stake) < s.params.MinStake { // what is left
		return 0, 0, local.CodeAmount
	}
	return n, worth(n, x.Shares, x.Stake), local.CodeOK
}

func (s *State) checkRemoveStake(o local.RemoveStake, from chain.Coldkey) local.Code {
	if _, _, code := s.sold(from, o); code != local.CodeOK {
		return code
	}
	list := s.unbonding[from]
	if _, merged := dueAt(list, s.payday()); !merged && len(list) >= maxUnbonding {
		return local.CodeUnbonding
	}
	return local.CodeOK
}

func (s *State) removeStake(o local.RemoveStake, from chain.Coldkey) {
	n, amount, _ := s.sold(from, o)
	x := s.hotkeys[o.Hotkey]
	x.Stake -= amount
	x.Shares -= n
	s.setHotkey(o.Hotkey, x)
	s.setShares(from, o.Hotkey, s.shares[from][o.Hotkey]-n)
	s.unbond(from, due{s.payday(), amount})
	s.emit(s.about(local.Event{Kind: local.EventUnstaked, Hotkey: o.Hotkey, Coldkey: from, Amount: amount, At: s.payday()}))
}

// payday is when what is unstaked in this block is paid out.
func (s *State) payday() chain.Block { return s.meta.Height + s.params.UnstakeDelay }

// dueAt finds the withdrawal of a block in a list, or where it belongs.
func dueAt(list []due, at chain.Block) (int, bool) {
	return slices.BinarySearchFunc(list, at, func(d due, at chain.Block) int {
		switch {
		case d.At < at:
			return -1
		case d.At > at:
			return 1
		}
		return 0
	})
}

// unbond puts a withdrawal into a coldkey's queue.
func (s *State) unbond(k chain.Coldkey, d due) {
	s.enqueue(k, d)
	s.meta.Money.Unbonding += d.Amount
	s.touch(unbondingKey(k))
}

func (s *State) enqueue(k chain.Coldkey, d due) {
	list := slices.Clone(s.unbonding[k])
	i, found := dueAt(list, d.At)
	if found {
		list[i].Amount += d.Amount
	} else {
		list = slices.Insert(list, i, d)
		s.paydays[d.At] = append(s.paydays[d.At], k)
	}
	s.unbonding[k] = list
}

// payWithdrawals pays out what is due in this block. The order does not matter: each is for another account.
func (s *State) payWithdrawals() {
	for _, k := range s.paydays[s.meta.Height] {
		list := s.unbonding[k]
		for ; len(list) > 0 && list[0].At <= s.meta.Height; list = list[1:] {
			s.meta.Money.Unbonding -= list[0].Amount
			s.credit(k, list[0].Amount)
		}
		if s.unbonding[k] = list; len(list) == 0 {
			delete(s.unbonding, k)
		}
		s.touch(unbondingKey(k))
	}
	delete(s.paydays, s.meta.Height)
}
