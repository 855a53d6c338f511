package state

import (
	"strings"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
)

// attempt is an operation and what comes of it.
type attempt struct {
	want   local.Code
	who    int
	op     local.Op
	params func(*Params)
	before func(*State)
}

// attempts reach every code that a well-signed next transaction can get.
func attempts(t testing.TB) []attempt {
	coin := chain.RaoPerCoin
	to := chain.Coldkey(account0(5))
	rows := func(p *Params) { p.MinWeights, p.MaxWeight = 2, 40000 }
	sealing := func(p *Params) { p.CommitReveal = true }
	round, _ := local.RevealRounds(1, tempoOf(t), 1)
	committed := local.CommitWeights{Round: round, Version: local.TimelockVersion, Commit: make([]byte, 300)}
	other := func(change func(*local.CommitWeights)) local.CommitWeights { o := committed; change(&o); return o }
	stake := local.AddStake{Hotkey: account0(0), Amount: coin}
	unbondings := func(s *State) {
		for i := range maxUnbonding {
			s.unbond(chain.Coldkey(account0(0)), due{chain.Block(5000 + i), 0})
		}
	}
	waiting := func(s *State) {
		s.commits[account0(1)] = make([]commit, maxCommits)
	}
	return []attempt{
		{local.CodeOK, 0, local.Transfer{To: to, Amount: 1}, nil, nil},
		{local.CodeFunds, 0, local.Transfer{To: to, Amount: 6 * coin}, nil, nil},
		{local.CodeNotRegistered, 5, local.Publish{}, nil, nil},
		{local.CodeNoSeat, 5, register(), func(p *Params) { p.MaxSeats = 4 }, func(s *State) {
			s.seats = s.seats[:1] // the owner's
			s.params.MaxSeats = 1
		}},
		{local.CodeRecord, 0, local.Publish{Record: chain.Record{Locator: make([]byte, chain.MaxLocator+1)}}, nil, nil},
		{local.CodeRateLimited, 1, local.SetWeights{Weights: rowOf(2)}, func(p *Params) { p.WeightsInterval = 9 }, func(s *State) { s.seats[1].LastUpdate = 1; s.meta.Height = 2 }},
		{local.CodeWeights, 1, local.SetWeights{Weights: rowOf(9)}, nil, nil},
		{local.CodeNoPermit, 2, local.SetWeights{Weights: rowOf(3)}, nil, nil},
		{local.CodeSelfTransfer, 0, local.Transfer{To: chain.Coldkey(account0(0)), Amount: 1}, nil, nil},
		{local.CodeKind, 0, local.SetTake{Hotkey: account0(0)}, nil, func(s *State) { s.meta.Rules = 1 }},
		{local.CodeNotOwner, 1, local.SetTake{Hotkey: account0(0)}, nil, nil},
		{local.CodeNotSubnetOwner, 1, local.SetParam{Name: "kappa", Value: 1}, nil, nil},
		{local.CodePrice, 5, local.Register{Limit: 1}, nil, nil},
		{local.CodeCommitReveal, 1, local.SetWeights{}, sealing, nil},
		{local.CodeNoCommitReveal, 1, committed, nil, nil},
		{local.CodeVersionKey, 1, local.SetWeights{}, func(p *Params) { p.WeightsVersion = 2 }, nil},
		{local.CodeCommitVersion, 1, other(func(o *local.CommitWeights) { o.Version = 3 }), sealing, nil},
		{local.CodeCommits, 1, committed, sealing, waiting},
		{local.CodeRound, 1, other(func(o *local.CommitWeights) { o.Round = 0 }), sealing, func(s *State) { s.meta.Height = 1 }},
		{local.CodeCommit, 1, other(func(o *local.CommitWeights) { o.Commit = nil }), sealing, func(s *State) { s.meta.Height = 1 }},
		{local.CodeFewWeights, 1, local.SetWeights{Weights: rowOf(2)}, rows, nil},
		{local.CodeMaxWeight, 1, local.SetWeights{Weights: []chain.Weight{{UID: 2, Value: 9}, {UID: 3, Value: 1}}}, rows, nil},
		{local.CodeDuplicate, 1, local.SetWeights{Weights: rowOf(2, 2)}, nil, nil},
		{local.CodeNoHotkey, 0, local.SetTake{Hotkey: chain.Hotkey{9}}, nil, nil},
		{local.CodeMinStake, 1, local.SetWeights{Weights: rowOf(2)}, func(p *Params) { p.StakeThreshold = 250 * coin }, nil},
		{local.CodeAmount, 0, local.AddStake{Hotkey: account0(0), Amount: 1}, nil, nil},
		{local.CodeStake, 5, local.RemoveStake(stake), nil, nil},
		{local.CodeUnbonding, 0, local.RemoveStake(stake), nil, unbondings},
		{local.CodeTake, 0, local.SetTake{Hotkey: account0(0), Take: u16}, nil, nil},
		{local.CodeParam, 0, local.SetParam{Name: "nothing"}, nil, nil},
		{local.CodeValidator, 0, left(7), nil, nil},
		{local.CodeMember, 0, joined(7, "test", []byte("no card")), nil, nil},
		{local.CodeBeacon, 0, local.MakeBeacon{At: 1}, nil, nil},
		{local.CodeUpgrade, 0, local.Upgrade{Version: NewestRules, At: 1}, nil, nil},
	}
}

// Every code is the answer to some transaction, in the mempool's check and in a block alike where the next block is meant.
func TestEveryCodeIsReached(t *testing.T) {
	forged := tx(t, 0, 0, local.Transfer{To: chain.Coldkey(account0(5)), Amount: 1})
	forged[len(forged)-1] = 9
	abroad, err := local.SignTx("elsewhere", 0, local.Transfer{To: chain.Coldkey(account0(5)), Amount: 1}, local.Signer{Key: key(0)})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[local.Code]bool{}
	for _, c := range attempts(t) {
		g := genesis(t)
		if c.params != nil {
			c.params(&g.Params)
		}
		s, err := New(g)
		if err != nil {
			t.Fatal(err)
		}
		if c.before != nil {
			c.before(s)
		}
		raw := tx(t, c.who, 0, c.op)
		checked := s.CheckTx(raw)
		got, _ := s.execute(raw)
		if pooled := checked == got || got == local.CodeRateLimited && checked == local.CodeOK; got != c.want || !pooled {
			t.Errorf("%T: code %d, in the mempool %d, want %d", c.op, got, checked, c.want)
		}
		seen[got] = true
	}
	s := machine(t)
	for want, raw := range map[local.Code][]byte{local.CodeMalformed: {1}, local.CodeNetwork: abroad.Encode(), local.CodeSignature: forged, local.CodeNonce: tx(t, 0, 1, register())} {
		if got, spent := s.execute(raw); got != want || spent {
			t.Errorf("code %d, want %d", got, want)
		}
		seen[want] = true
	}
	for code := local.CodeMalformed; !strings.Contains((&local.TxError{Code: code}).Error(), "with code"); code++ {
		if !seen[code] {
			t.Errorf("code %d is not reached", code)
		}
	}
}
