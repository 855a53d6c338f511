package state

import (
	"math"

	"sn3/chain"
	"sn3/chain/yuma"
)

// epoch runs Yuma over the stored weights and credits every neuron's emission to its coldkey. What rounding leaves of the
// amount is not issued. The permits that it gives count from the next epoch on.
func (s *State) epoch() {
	n := len(s.seats)
	p := s.params
	in := yuma.Input{Params: yuma.Params{Tempo: uint64(s.run.Tempo), Kappa: p.Kappa, BondsMovingAverage: p.BondsMovingAverage,
		BondsPenalty: p.BondsPenalty, ActivityCutoff: uint64(p.ActivityCutoff), MaxValidators: p.MaxValidators, StakeThreshold: uint64(p.StakeThreshold), Owner: s.ownerUID(), Emission: uint64(p.EpochEmission)},
		Block: uint64(s.meta.Height), TaoStake: make([]uint64, n)}
	for _, x := range s.seats {
		in.RegisteredAt = append(in.RegisteredAt, uint64(x.RegisteredAt))
		in.LastUpdate = append(in.LastUpdate, uint64(x.LastUpdate))
		in.AlphaStake = append(in.AlphaStake, uint64(x.Stake))
		in.Permit = append(in.Permit, x.Permit)
		in.Weights = append(in.Weights, x.Weights)
		in.Bonds = append(in.Bonds, x.Bonds)
	}
	out, err := yuma.Epoch(in)
	if err != nil {
		return // lengths are equal by construction; an epoch that cannot run pays nobody
	}
	for i := range s.seats {
		x := &s.seats[i]
		x.Consensus, x.Incentive, x.Dividends, x.Trust = out.Consensus[i], out.Incentive[i], out.Dividends[i], out.VTrust[i]
		x.Bonds, x.Permit = out.Bonds[i], out.Permit[i]
		x.Emission = s.issue(x.Coldkey, chain.Amount(out.Emission[i]))
		x.Earned += x.Emission
		s.touch(seatKey(i))
	}
}

// maxIssued bounds what epochs create. Genesis holds no more either, so that no sum of balances can overflow.
const maxIssued = chain.Amount(math.MaxUint64 / 2)

// issue creates coins, at most up to maxIssued.
func (s *State) issue(to chain.Coldkey, amount chain.Amount) chain.Amount {
	if amount == 0 || amount > maxIssued-s.meta.Issued {
		return 0
	}
	acc := s.accounts[to]
	acc.Balance += amount
	s.meta.Issued += amount
	s.setAccount(to, acc)
	return amount
}
