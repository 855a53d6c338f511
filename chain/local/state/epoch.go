package state

import "sn3/chain/yuma"

// epoch pays the subnet's owner, runs Yuma over the stored weights and pays what it says of what is pending. What it pays to
// nobody is burned: what rounding leaves, and everything while nobody has stake, which else would wait for whoever stakes
// first. The permits that it gives count from the next epoch on.
func (s *State) epoch() {
	s.payOwner()
	out, err := yuma.Epoch(s.yumaInput(s.meta.Money.Pending))
	if err != nil {
		return // lengths are equal by construction; an epoch that cannot run pays nobody
	}
	for i := range s.seats {
		x := &s.seats[i]
		x.Consensus, x.Incentive, x.Dividends, x.Trust = out.Consensus[i], out.Incentive[i], out.Dividends[i], out.VTrust[i]
		x.Bonds, x.Permit = out.Bonds[i], out.Permit[i]
		s.touch(seatKey(i))
	}
	s.payout(out)
	m := &s.meta.Money
	m.Burned, m.Pending = m.Burned+m.Pending, 0
}
