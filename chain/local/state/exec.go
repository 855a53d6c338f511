package state

import (
	"bytes"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/yuma"
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
	if code := s.allowed(tx, from); code != local.CodeOK {
		return code
	}
	switch op := tx.Op.(type) {
	case local.Transfer:
		s.pay(key, op.To, op.Amount)
	case local.Register:
		s.register(from, op.Coldkey)
	case local.Publish:
		r := op.Record
		r.Locator, r.Body = bytes.Clone(r.Locator), bytes.Clone(r.Body) // the block's memory is the caller's
		s.records[from] = chain.Published{Hotkey: from, Record: r, At: s.meta.Height}
		s.touch(recordKey(from))
	case local.SetWeights:
		uid := s.byHotkey[from]
		s.seats[uid].Weights = nil
		for _, w := range op.Weights {
			s.seats[uid].Weights = append(s.seats[uid].Weights, yuma.Entry{UID: uint16(w.UID), Value: w.Value})
		}
		s.seats[uid].LastUpdate = s.meta.Height
		s.touch(seatKey(uid))
	}
	return local.CodeOK
}

// allowed checks an operation against the state as it is.
func (s *State) allowed(tx *local.Tx, from chain.Hotkey) local.Code {
	acc := s.accounts[chain.Coldkey(from)]
	uid, seated := s.byHotkey[from]
	switch op := tx.Op.(type) {
	case local.Transfer:
		switch { // the receiver's balance cannot overflow: see maxIssued
		case op.To == chain.Coldkey(from) || op.Amount == 0:
			return local.CodeSelfTransfer
		case op.Amount > acc.Balance:
			return local.CodeFunds
		}
	case local.Register:
		switch {
		case seated:
			return local.CodeOK // the seat it has
		case len(s.seats) >= s.gen.Params.MaxSeats:
			return local.CodeNoSeat
		case acc.Balance < s.gen.Params.Burn:
			return local.CodeFunds
		}
	case local.Publish:
		switch {
		case !seated:
			return local.CodeNotRegistered
		case op.Record.Validate() != nil:
			return local.CodeRecord
		case s.records[from].At == s.meta.Height && s.meta.Height > 0:
			return local.CodeRateLimited
		}
	case local.SetWeights:
		if !seated {
			return local.CodeNotRegistered
		}
		return s.weightsAllowed(op.Weights, s.seats[uid])
	}
	return local.CodeOK
}

func (s *State) weightsAllowed(row []chain.Weight, by seat) local.Code {
	if !by.Permit {
		return local.CodeNoPermit
	}
	for i, w := range row {
		if int(w.UID) >= len(s.seats) || i > 0 && row[i-1].UID >= w.UID {
			return local.CodeWeights
		}
	}
	if by.LastUpdate != 0 && s.meta.Height-by.LastUpdate < s.gen.Params.WeightsInterval {
		return local.CodeRateLimited
	}
	return local.CodeOK
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
	acc.Balance -= s.gen.Params.Burn
	s.meta.Burned += s.gen.Params.Burn
	s.setAccount(key, acc)
	s.sit(len(s.seats), h, c, s.meta.Height)
	s.touch(seatKey(len(s.seats) - 1))
}

func (s *State) setAccount(k chain.Coldkey, a account) {
	s.changed(k, s.accounts[k].Balance, a.Balance)
	s.accounts[k] = a
	s.touch(accountKey(k))
}
