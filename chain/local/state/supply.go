package state

import (
	"errors"
	"fmt"

	"sn3/chain"
	"sn3/chain/local"
)

// money says where all coins are. At every height
//
//	Genesis + Emitted = Balances + Staked + Unbonding + Burned + Pending
type money struct {
	Genesis   chain.Amount
	Emitted   chain.Amount // since, by blocks
	Balances  chain.Amount // in accounts
	Staked    chain.Amount // in the pools of hotkeys
	Unbonding chain.Amount // unstaked, not paid out yet
	Burned    chain.Amount
	Pending   chain.Amount // emitted, not handed out by an epoch yet
	Cut       chain.Amount // of Pending: the subnet owner's
}

// fields are the sums in the order of the stored form.
func (m *money) fields() []*chain.Amount {
	return []*chain.Amount{&m.Genesis, &m.Emitted, &m.Balances, &m.Staked, &m.Unbonding, &m.Burned, &m.Pending, &m.Cut}
}

// maxIssued bounds what genesis holds and what blocks emit, together: no sum of coins overflows, signed or not.
const maxIssued = chain.Amount(1<<63 - 1)

// issued is everything that ever existed.
func (m money) issued() chain.Amount { return m.Genesis + m.Emitted }

// Supply is where all coins are, by the sums that the chain keeps; Audited is false.
func (s *State) Supply() local.Supply {
	m := s.meta.Money
	return local.Supply{Block: s.meta.Height, Issued: m.issued(), Genesis: m.Genesis, Emitted: m.Emitted, Balances: m.Balances, Staked: m.Staked,
		Unbonding: m.Unbonding, Burned: m.Burned, Pending: m.Pending}
}

// Size is how many entries Audit reads.
func (s *State) Size() int {
	return len(s.accounts) + len(s.hotkeys) + s.stakes + len(s.unbonding)
}

// errAudit: sums that do not follow from the entries.
var errAudit = errors.New("the sums of money are wrong")

// Audit recomputes every sum of money from all entries of the state.
func (s *State) Audit() error {
	var m money
	for k, a := range s.accounts { // any order: a sum
		m.Balances += a.Balance
		if a == (account{}) {
			return fmt.Errorf("%w: account %s is kept for nothing", errAudit, k)
		}
	}
	shares := map[chain.Hotkey]uint64{}
	for _, of := range s.shares { // any order: a sum
		for h, n := range of { // any order: a sum
			shares[h] += n
		}
	}
	for h, x := range s.hotkeys { // any order: a sum
		m.Staked += x.Stake
		if shares[h] != x.Shares || x.Shares > uint64(x.Stake) || x.Shares == 0 && x.Stake > 0 {
			return fmt.Errorf("%w: hotkey %s has a stake of %s in %d shares, %d are held", errAudit, h, x.Stake, x.Shares, shares[h])
		}
		delete(shares, h)
	}
	for _, list := range s.unbonding { // any order: a sum
		for _, d := range list {
			m.Unbonding += d.Amount
		}
	}
	for i, x := range s.seats {
		if rec, known := s.hotkeys[x.Hotkey]; !known || rec.Stake != x.Stake || rec.Owner != x.Coldkey {
			return fmt.Errorf("%w: seat %d and its hotkey %s do not say the same", errAudit, i, x.Hotkey)
		}
	}
	kept := s.meta.Money
	switch {
	case len(shares) > 0:
		return fmt.Errorf("%w: shares of a hotkey that is not known", errAudit)
	case m.Balances != kept.Balances || m.Staked != kept.Staked || m.Unbonding != kept.Unbonding:
		return fmt.Errorf("%w: entries hold %s, %s staked, %s unbonding; the sums say %s, %s, %s", errAudit,
			m.Balances, m.Staked, m.Unbonding, kept.Balances, kept.Staked, kept.Unbonding)
	case !s.Supply().Holds() || kept.Cut > kept.Pending:
		return fmt.Errorf("%w: %+v", errAudit, s.Supply())
	}
	return nil
}

// setAccount replaces an account; one that holds nothing and never signed anything is not kept.
func (s *State) setAccount(k chain.Coldkey, a account) {
	old := s.accounts[k].Balance
	s.changed(k, old, a.Balance)
	s.meta.Money.Balances += a.Balance - old
	if a == (account{}) {
		delete(s.accounts, k)
	} else {
		s.accounts[k] = a
	}
	s.touch(accountKey(k))
}

// credit adds to an account.
func (s *State) credit(k chain.Coldkey, amount chain.Amount) {
	a := s.accounts[k]
	a.Balance += amount
	s.setAccount(k, a)
}

// debit takes from an account what it is known to hold.
func (s *State) debit(k chain.Coldkey, amount chain.Amount) {
	a := s.accounts[k]
	a.Balance -= amount
	s.setAccount(k, a)
}

// burn takes coins from an account for good.
func (s *State) burn(k chain.Coldkey, amount chain.Amount) {
	s.debit(k, amount)
	s.meta.Money.Burned += amount
}

// free says whether an operation costs no fee: what hotkeys with a seat do in every window. Their number is bounded by the
// limits of each of these operations.
func free(op local.Op) bool {
	switch op.(type) {
	case local.Publish, local.SetWeights, local.CommitWeights:
		return true
	}
	return false
}

// fee is what a transaction costs. Who cannot pay it, or has no seat for what is free, is refused without a trace, so that
// nothing in a block is for nothing.
func (s *State) fee(op local.Op, from chain.Hotkey) (chain.Amount, local.Code) {
	if free(op) && s.Seated(from) {
		return 0, local.CodeOK
	}
	if free(op) {
		if code := s.allowed(op, from, 0); code != local.CodeOK { // the same reason as for anybody
			return 0, code
		}
		return 0, local.CodeNotRegistered
	}
	if s.accounts[chain.Coldkey(from)].Balance < s.params.Fee {
		return 0, local.CodeFunds
	}
	return s.params.Fee, local.CodeOK
}
