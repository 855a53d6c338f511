package state

import (
	"bytes"

	"sn3/chain"
	"sn3/chain/local"
)

// execute runs one transaction. A refused one changes nothing, or if its nonce was right and the fee could be paid, the nonce
// and the fee only: spent says that the nonce is used up.
func (s *State) execute(raw []byte) (code local.Code, spent bool) {
	tx, from, code := s.parse(raw)
	if code != local.CodeOK {
		return code, false
	}
	key := chain.Coldkey(from)
	acc := s.accounts[key]
	if tx.Nonce != acc.Nonce {
		return local.CodeNonce, false
	}
	fee, code := s.fee(tx.Op, from)
	if code != local.CodeOK {
		return code, false
	}
	acc.Nonce++
	s.setAccount(key, acc)
	s.burn(key, fee)
	if code := s.allowed(tx.Op, from, acc.Balance-fee); code != local.CodeOK {
		return code, true
	}
	s.apply(tx.Op, from)
	return local.CodeOK, true
}

// allowed checks an operation against the state as it is; funds is what the account has to spend.
func (s *State) allowed(op local.Op, from chain.Hotkey, funds chain.Amount) local.Code {
	switch op := op.(type) {
	case local.Transfer:
		return s.checkTransfer(op, from, funds)
	case local.Register:
		return s.checkRegister(op, from, funds)
	case local.AddStake:
		return s.checkAddStake(op, from, funds)
	case local.RemoveStake:
		return s.checkRemoveStake(op, chain.Coldkey(from))
	case local.SetTake:
		return s.checkSetTake(op, chain.Coldkey(from))
	case local.Publish:
		return s.checkPublish(op, from)
	case local.SetWeights:
		return s.checkWeights(op, from)
	case local.CommitWeights:
		return s.checkCommit(op, from)
	case local.SetParam:
		return s.checkParam(op, from)
	case local.SetValidator:
		return s.checkValidator(op, from)
	case local.MakeBeacon:
		return s.checkMakeBeacon(op, from)
	case local.Upgrade:
		return s.checkUpgrade(op, from)
	}
	return local.CodeKind
}

// apply does what allowed has allowed.
func (s *State) apply(op local.Op, from chain.Hotkey) {
	switch op := op.(type) {
	case local.Transfer:
		s.pay(chain.Coldkey(from), op.To, op.Amount)
	case local.Register:
		s.register(from, op.Coldkey)
	case local.AddStake:
		s.addStake(op, chain.Coldkey(from))
	case local.RemoveStake:
		s.removeStake(op, chain.Coldkey(from))
	case local.SetTake:
		s.setTake(op)
	case local.Publish:
		s.publish(op, from)
	case local.SetWeights:
		s.setWeights(op, from)
	case local.CommitWeights:
		s.commitWeights(op, from)
	case local.SetParam:
		s.setParam(op)
	case local.SetValidator:
		s.setValidator(op)
	case local.MakeBeacon:
		s.makeBeacon(op)
	case local.Upgrade:
		s.announceUpgrade(op)
	}
}

func (s *State) checkTransfer(o local.Transfer, from chain.Hotkey, funds chain.Amount) local.Code {
	opening := s.opening(o.To)
	switch { // the receiver's balance cannot overflow: see maxIssued
	case o.To == chain.Coldkey(from) || o.Amount == 0:
		return local.CodeSelfTransfer
	case o.Amount > funds || opening > funds-o.Amount:
		return local.CodeFunds
	}
	return local.CodeOK
}

// opening is what a transfer to an account costs besides: an entry that every node keeps for good is paid for once.
func (s *State) opening(to chain.Coldkey) chain.Amount {
	if _, exists := s.accounts[to]; exists {
		return 0
	}
	return s.params.AccountCost
}

func (s *State) checkPublish(o local.Publish, from chain.Hotkey) local.Code {
	_, seated := s.byHotkey[from]
	switch {
	case !seated:
		return local.CodeNotRegistered
	case o.Record.Validate() != nil:
		return local.CodeRecord
	case s.records[from].At == s.meta.Height && s.meta.Height > 0:
		return local.CodeRateLimited
	}
	return local.CodeOK
}

func (s *State) publish(o local.Publish, from chain.Hotkey) {
	r := o.Record
	r.Locator, r.Body = bytes.Clone(r.Locator), bytes.Clone(r.Body) // the block's memory is the caller's
	s.records[from] = chain.Published{Hotkey: from, Record: r, At: s.meta.Height}
	s.touch(recordKey(from))
}

func (s *State) pay(from, to chain.Coldkey, amount chain.Amount) {
	s.burn(from, s.opening(to))
	s.debit(from, amount)
	s.credit(to, amount)
}
