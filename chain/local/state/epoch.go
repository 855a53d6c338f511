package state

import (
	"math"

	"sn3/chain"
	"sn3/chain/yuma"
)

// epoch runs Yuma over the stored weights and credits every neuron's emission to its coldkey. What rounding leaves of the
// amount is not issued. The permits that it gives count from the next epoch on.
func (s *State) epoch() {
	out, err := yuma.Epoch(s.yumaInput(s.params.EpochEmission))
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
