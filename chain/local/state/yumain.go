package state

import (
	"sn3/chain"
	"sn3/chain/yuma"
)

// yumaInput is what an epoch of Yuma sees: the state as it is, and how much it hands out. One subnet and one kind of stake:
// there is no root stake and no children.
func (s *State) yumaInput(amount chain.Amount) yuma.Input {
	p, n := s.params, len(s.seats)
	in := yuma.Input{
		Params: yuma.Params{Rules: yuma.Spec425, Yuma3: p.Yuma3, LiquidAlpha: p.LiquidAlpha, Tempo: uint64(s.run.Tempo), Kappa: p.Kappa,
			BondsMovingAverage: p.BondsMovingAverage, BondsPenalty: p.BondsPenalty, AlphaLow: p.AlphaLow, AlphaHigh: p.AlphaHigh,
			SigmoidSteepness: int16(p.AlphaSteepness), ActivityCutoff: uint64(p.ActivityCutoff), MaxValidators: p.MaxValidators,
			StakeThreshold: uint64(p.StakeThreshold), Owner: s.ownerUID(), Emission: uint64(amount)},
		Block: uint64(s.meta.Height), LastEpoch: uint64(s.meta.Height - s.run.Tempo), TaoStake: make([]uint64, n)}
	for _, x := range s.seats {
		in.RegisteredAt = append(in.RegisteredAt, uint64(x.RegisteredAt))
		in.LastUpdate = append(in.LastUpdate, uint64(x.LastUpdate))
		in.AlphaStake = append(in.AlphaStake, uint64(x.Stake))
		in.Permit = append(in.Permit, x.Permit)
		in.Weights = append(in.Weights, x.Weights)
		in.Bonds = append(in.Bonds, x.Bonds)
		if p.CommitReveal {
			in.EarliestCommit = append(in.EarliestCommit, s.earliestCommit(x.Hotkey))
		}
	}
	return in
}
