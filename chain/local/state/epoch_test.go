package state

import (
	"testing"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/yuma"
)

// Weights turn into emission at the tempo: half of it by incentive, half by dividends; a seat that nobody weighs, whether of
// genesis or registered since, earns nothing.
func TestEpochPays(t *testing.T) {
	s := machine(t)
	next(s, tx(t, 4, 0, register()))
	until(s, 10)
	row := []chain.Weight{{UID: 2, Value: 65535}}
	next(s, tx(t, 0, 0, local.SetWeights{Weights: row}), tx(t, 1, 0, local.SetWeights{Weights: row}))
	until(s, s.run.Tempo-1)
	blocks := chain.Amount(s.Height())
	if m := s.Supply(); m.Emitted != blocks*chain.RaoPerCoin || m.Pending != m.Emitted {
		t.Errorf("before the epoch: %+v", m)
	}
	owner, _ := s.Account(chain.Coldkey(account0(0)))
	miner, _ := s.Account(chain.Coldkey(account0(2)))
	next(s)
	snap, err := s.Snapshot(s.Height())
	if err != nil {
		t.Fatal(err)
	}
	all := (blocks + 1) * chain.RaoPerCoin
	cut := (blocks + 1) * share(chain.RaoPerCoin, s.params.OwnerCut)
	E := all - cut // half to the one miner, half to the validators by stake, 3:2, less rounding
	want := []chain.Amount{E * 3 / 10, E * 2 / 10, E / 2, 0, 0}
	var sum chain.Amount
	for i, n := range snap.Neurons {
		if n.Emission > want[i]+20 || n.Emission+20 < want[i] || n.Earned != n.Emission {
			t.Errorf("uid %d got %s, earned %s, want %s", i, n.Emission, n.Earned, want[i])
		}
		sum += n.Emission
	}
	if m := s.Supply(); m.Pending != 0 || m.Emitted != all || m.Burned != E-sum+decayed(s.gen.Params.Burn, 1, 360)+s.params.Fee {
		t.Errorf("%s of %s handed out: %+v", sum, E, m)
	}
	if now, _ := s.Account(chain.Coldkey(account0(0))); now != owner+cut {
		t.Errorf("the owner had %s and has %s, its cut is %s", owner, now, cut)
	}
	if now, _ := s.Account(chain.Coldkey(account0(2))); now != miner+snap.Neurons[2].Emission {
		t.Errorf("the miner had %s and has %s", miner, now)
	}
	for i, stake := range []chain.Amount{300, 200} { // dividends are stake
		if n := snap.Neurons[i]; n.Stake != stake*chain.RaoPerCoin+n.Emission {
			t.Errorf("validator %d has a stake of %s and got %s", i, n.Stake, n.Emission)
		}
	}
	audit(t, s)
	if n := snap.Neurons; n[2].Incentive != 65535 || n[0].Dividends < 39320 || n[0].Dividends > 39322 || n[2].Consensus != 65535 || n[0].Trust != 65535 {
		t.Errorf("stored %+v", n)
	}
}

// Bonds outlive the epoch: a validator that was right first earns more than its stake for a while.
func TestBondsAreKept(t *testing.T) {
	s := machine(t)
	row := local.SetWeights{Weights: []chain.Weight{{UID: 2, Value: 9}}}
	next(s)
	next(s, tx(t, 0, 0, row))
	until(s, 2*s.run.Tempo) // bonds of seats registered within a tempo do not count yet
	next(s, tx(t, 0, 1, row), tx(t, 1, 0, row))
	until(s, 3*s.run.Tempo)
	if in := s.yumaInput(1); in.LastEpoch != uint64(2*s.run.Tempo) || in.Block != uint64(s.Height()) || in.Emission != 1 {
		t.Errorf("Yuma sees the last epoch at %d, block %d, %d to hand out", in.LastEpoch, in.Block, in.Emission)
	}
	if first, late := s.seats[0].Dividends, s.seats[1].Dividends; first < 60000 || late == 0 || len(s.seats[0].Bonds) != 1 {
		t.Errorf("dividends %d of the first, %d of the late validator; bonds %v", first, late, s.seats[0].Bonds)
	}
}

// Emission is credited to the coldkey that Register named; the hotkey's own account pays the price and the fee.
func TestColdkeyEarns(t *testing.T) {
	s := machine(t)
	cold := chain.Coldkey{77}
	r := next(s, tx(t, 5, 0, local.Register{Coldkey: cold}))
	price := decayed(s.gen.Params.Burn, 1, 360)
	if b, _ := s.Account(chain.Coldkey(account0(5))); b != 5*chain.RaoPerCoin-price-s.params.Fee || r.Events[0].Amount != price {
		t.Errorf("the hotkey's account holds %s, the price was %s: %+v", b, price, r.Events)
	}
	if m := s.Supply(); m.Burned != price+s.params.Fee {
		t.Errorf("burned %s", m.Burned)
	}
	row := local.SetWeights{Weights: []chain.Weight{{UID: 4, Value: 9}}}
	next(s, tx(t, 0, 0, row), tx(t, 1, 0, row))
	until(s, 2*s.run.Tempo)
	snap, err := s.Snapshot(s.Height())
	if err != nil {
		t.Fatal(err)
	}
	got, _ := s.Account(cold)
	if n := snap.Neurons[4]; got == 0 || n.Coldkey != cold || n.Balance != got || n.Earned != got || s.hotkeys[n.Hotkey].Earned != got || n.Stake != 0 || n.Permit {
		t.Errorf("the coldkey holds %s, its seat says %+v", got, n)
	}
}

// Without anybody's weights the validators get all, by stake; the subnet's owner gets its cut once.
func TestNobodyWeighs(t *testing.T) {
	s := machine(t)
	until(s, 2*s.run.Tempo)
	m, blocks := s.Supply(), chain.Amount(s.Height())
	if m.Emitted != blocks*chain.RaoPerCoin || m.Pending > 100 || m.Staked < 500*chain.RaoPerCoin+m.Emitted-blocks*share(chain.RaoPerCoin, 11796)-100 {
		t.Errorf("%+v", m)
	}
	if got, _ := s.Account(chain.Coldkey(account0(0))); got != 5*chain.RaoPerCoin+blocks*share(chain.RaoPerCoin, 11796) {
		t.Errorf("the owner has %s", got)
	}
}

// While nobody can be paid all is burned but the owner's cut, so that who stakes first gets what its epoch emits and no more.
func TestNobodyStakes(t *testing.T) {
	g := genesis(t)
	for i := range g.Seats {
		g.Seats[i].Stake, g.Seats[i].Permit = 0, false
	}
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	until(s, 3*s.run.Tempo)
	m, blocks := s.Supply(), chain.Amount(s.Height())
	if m.Pending != 0 || m.Burned != blocks*(chain.RaoPerCoin-share(chain.RaoPerCoin, 11796)) || m.Balances != 30*chain.RaoPerCoin+m.Emitted-m.Burned {
		t.Errorf("%+v", m)
	}
	stake := chain.RaoPerCoin / 2
	if r := next(s, tx(t, 4, 0, local.AddStake{Hotkey: account0(1), Amount: stake})); r.Codes[0] != local.CodeOK {
		t.Fatal(r.Codes)
	}
	until(s, 4*s.run.Tempo)
	if got, most := s.Supply().Staked, stake+chain.Amount(s.run.Tempo)*chain.RaoPerCoin; got <= stake || got > most {
		t.Errorf("who staked first has %s, with what an epoch emits %s at most", got, most)
	}
	audit(t, s)
}

// What the owner's own hotkey earns as a miner is burned.
func TestOwnersIncentiveIsBurned(t *testing.T) {
	g := genesis(t)
	g.Owner = chain.Coldkey(account0(2))
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	row := local.SetWeights{Weights: []chain.Weight{{UID: 2, Value: 9}}}
	next(s)
	next(s, tx(t, 0, 0, row), tx(t, 1, 0, row))
	until(s, s.run.Tempo)
	m, x := s.Supply(), s.seats[2]
	if rounding := m.Burned - x.Emission; x.Emission == 0 || x.Earned != 0 || rounding > 10 {
		t.Errorf("%s burned; the seat %+v", m.Burned, x.Neuron)
	}
	audit(t, s)
}

// Amounts at the edge of an Amount neither wrap nor panic: what does not fit is not emitted, by either rules.
func TestIssuanceIsBounded(t *testing.T) {
	for rules := uint64(1); rules <= NewestRules; rules++ {
		g := genesis(t)
		g.Rules, g.Params.BlockEmission, g.Params.MaxSupply = rules, 1<<63-1, maxIssued
		total := chain.Amount(0)
		for _, x := range g.Seats {
			total += x.Stake
		}
		for _, x := range g.Accounts {
			total += x.Balance
		}
		const room = 1 << 40
		g.Accounts = append(g.Accounts, Account{chain.Coldkey{9}, maxIssued - total - room})
		s, err := New(g)
		if err != nil {
			t.Fatal(err)
		}
		row := local.SetWeights{Weights: []chain.Weight{{UID: 2, Value: 9}}}
		next(s)
		next(s, tx(t, 0, 0, row), tx(t, 1, 0, row))
		for range 6 {
			until(s, s.Height()+s.run.Tempo)
			audit(t, s)
		}
		if m := s.Supply(); m.Issued > maxIssued || m.Emitted > room || rules == 1 && m.Emitted != room {
			t.Errorf("rules %d: %+v", rules, m)
		}
	}
}

// The least that can be earned is paid, too; what is not is no payment.
func TestPayoutOfARao(t *testing.T) {
	s := machine(t)
	s.meta.Height, s.meta.Money.Pending, s.meta.Money.Emitted = 1, 3, 3
	none := func() []uint64 { return make([]uint64, len(s.seats)) }
	out := yuma.Output{Server: none(), Validator: none()}
	out.Server[2], out.Validator[1] = 1, 1
	before := [2]chain.Amount{balanceOf(s, 2), staked(s, 1, account0(1))}
	s.payout(out)
	if got := [2]chain.Amount{balanceOf(s, 2), staked(s, 1, account0(1))}; got != [2]chain.Amount{before[0] + 1, before[1] + 1} || s.meta.Money.Pending != 1 {
		t.Errorf("the miner has %d more, the validator %d, %d are left", got[0]-before[0], got[1]-before[1], s.meta.Money.Pending)
	}
	audit(t, s)
}
