package state

import (
	"bytes"

	"sn3/chain"
	"sn3/chain/local"
)

// execute runs one transaction. A refused one changes nothing but the nonce when everything up to the nonce was right.
func (s *State) execute(raw []byte) local.Code {
	tx, from, code := s.parse(raw)
	if code != local.CodeOK {
		return code
	}
	key := chain.Coldkey(from)
	acc := s.accounts[key]
	if tx.Nonce != acc.Nonce {
		return local.CodeNonce
	}
	acc.Nonce++
	s.setAccount(key, acc)
	if code := s.allowed(tx.Op, from); code != local.CodeOK {
		return code
	}
	s.apply(tx.Op, from)
	return local.CodeOK
}

// allowed checks an operation against the state as it is.
func (s *State) allowed(op local.Op, from chain.Hotkey) local.Code {
	switch op := op.(type) {
	case local.Transfer:
		return s.checkTransfer(op, from)
	case local.Register:
		return s.checkRegister(op, from)
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
	case local.Upgrade:
		s.announceUpgrade(op)
	}
}

func (s *State) checkTransfer(o local.Transfer, from chain.Hotkey) local.Code {
	switch { // the receiver's balance cannot overflow: see maxIssued
	case o.To == chain.Coldkey(from) || o.Amount == 0:
		return local.CodeSelfTransfer
	case o.Amount > s.accounts[chain.Coldkey(from)].Balance:
		return local.CodeFunds
	}
	return local.CodeOK
}

func (s *State) checkRegister(o local.Register, from chain.Hotkey) local.Code {
	_, seated := s.byHotkey[from]
	switch {
	case seated:
		return local.CodeOK // the seat it has
	case len(s.seats) >= s.params.MaxSeats:
		return local.CodeNoSeat
	case o.Limit != 0 && s.params.Burn > o.Limit:
		return local.CodePrice
	case s.accounts[chain.Coldkey(from)].Balance < s.params.Burn:
		return local.CodeFunds
	}
	return local.CodeOK
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
	a, b := s.accounts[from], s.accounts[to]
	a.Balance -= amount
	b.Balance += amount
	s.setAccount(from, a)
	s.setAccount(to, b)
}

func (s *State) register(h chain.Hotkey, c chain.Coldkey) {
	if _, seated := s.byHotkey[h]; seated {
		return
	}
	key := chain.Coldkey(h)
	acc := s.accounts[key]
	acc.Balance -= s.params.Burn
	s.meta.Burned += s.params.Burn
	s.setAccount(key, acc)
	s.sit(len(s.seats), h, c, s.meta.Height)
	uid := len(s.seats) - 1
	s.touch(seatKey(uid))
	s.emit(local.Event{Kind: local.EventRegistered, Hotkey: h, UID: chain.UID(uid), Coldkey: s.seats[uid].Coldkey, Amount: s.params.Burn})
}

func (s *State) setAccount(k chain.Coldkey, a account) {
	s.changed(k, s.accounts[k].Balance, a.Balance)
	s.accounts[k] = a
	s.touch(accountKey(k))
}
