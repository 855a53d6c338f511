package state

import (
	"math"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
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
	if _, issued, _ := s.Issuance(); issued != 0 {
		t.Errorf("%s issued before the epoch", issued)
	}
	next(s)
	snap, err := s.Snapshot(s.Height())
	if err != nil {
		t.Fatal(err)
	}
	const E = 2 * chain.RaoPerCoin // 1 to the one miner, 1 to the validators by stake, 3:2, less rounding
	want := []chain.Amount{E * 3 / 10, E * 2 / 10, E / 2, 0, 0}
	var sum chain.Amount
	for i, n := range snap.Neurons {
		if n.Emission > want[i] || n.Emission+10 < want[i] || n.Earned != n.Emission {
			t.Errorf("uid %d got %s, earned %s, want %s", i, n.Emission, n.Earned, want[i])
		}
		sum += n.Emission
	}
	if _, issued, _ := s.Issuance(); issued != sum || issued > E {
		t.Errorf("issued %s of %s, credited %s: rounding is not issued", issued, E, sum)
	}
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
	if first, late := s.seats[0].Dividends, s.seats[1].Dividends; first < 60000 || late == 0 || len(s.seats[0].Bonds) != 1 {
		t.Errorf("dividends %d of the first, %d of the late validator; bonds %v", first, late, s.seats[0].Bonds)
	}
}

// Emission is credited to the coldkey that Register named; the hotkey's own account pays the burn.
func TestColdkeyEarns(t *testing.T) {
	s := machine(t)
	cold := chain.Coldkey{77}
	next(s, tx(t, 5, 0, local.Register{Coldkey: cold}))
	if b, _ := s.Account(chain.Coldkey(account0(5))); b != 4*chain.RaoPerCoin {
		t.Errorf("the hotkey's account holds %s after the burn", b)
	}
	row := local.SetWeights{Weights: []chain.Weight{{UID: 4, Value: 9}}}
	next(s, tx(t, 0, 0, row), tx(t, 1, 0, row))
	until(s, 2*s.run.Tempo)
	snap, err := s.Snapshot(s.Height())
	if err != nil {
		t.Fatal(err)
	}
	got, _ := s.Account(cold)
	if n := snap.Neurons[4]; got == 0 || n.Coldkey != cold || n.Balance != got || n.Earned != got || n.Emission > got/2+1 {
		t.Errorf("the coldkey holds %s, its seat says %+v", got, n)
	}
	if b, _ := s.Account(chain.Coldkey(account0(5))); b != 4*chain.RaoPerCoin {
		t.Errorf("the hotkey's account holds %s after the epoch", b)
	}
	if _, _, burned := s.Issuance(); burned != s.params.Burn {
		t.Errorf("burned %s", burned)
	}
}

// Amounts at the edge of an Amount neither wrap nor panic: what does not fit is not issued.
func TestIssuanceIsBounded(t *testing.T) {
	g := genesis(t)
	g.Params.EpochEmission = math.MaxUint64
	total := chain.Amount(0)
	for _, x := range g.Seats {
		total += x.Stake
	}
	for _, x := range g.Accounts {
		total += x.Balance
	}
	g.Accounts = append(g.Accounts, Account{chain.Coldkey{9}, maxIssued - total})
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	start, _, _ := s.Issuance()
	if start != maxIssued {
		t.Fatalf("genesis holds %s", start)
	}
	row := local.SetWeights{Weights: []chain.Weight{{UID: 2, Value: 9}}}
	next(s, tx(t, 0, 0, row), tx(t, 1, 0, row))
	for range 6 {
		until(s, s.Height()+s.run.Tempo)
		exists, issued, burned := s.Issuance()
		if exists < start || exists != start+issued-burned || issued > maxIssued {
			t.Fatalf("%s exist, %s issued, %s burned", exists, issued, burned)
		}
	}
	if _, issued, _ := s.Issuance(); issued == 0 {
		t.Error("nothing was issued")
	}
}
