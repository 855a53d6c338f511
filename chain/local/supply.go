package local

import "sn3/chain"

// Supply says where all coins of a chain are after a block.
type Supply struct {
	Block     chain.Block  `json:"block"`
	Issued    chain.Amount `json:"issued"` // ever: Genesis and Emitted
	Genesis   chain.Amount `json:"genesis"`
	Emitted   chain.Amount `json:"emitted"`  // by blocks
	Balances  chain.Amount `json:"balances"` // of accounts
	Staked    chain.Amount `json:"staked"`
	Unbonding chain.Amount `json:"unbonding"` // unstaked, not paid out yet
	Burned    chain.Amount `json:"burned"`
	Pending   chain.Amount `json:"pending"` // emitted, for the next epoch to hand out
	Audited   bool         `json:"audited"` // the node has recomputed the sums from every entry of the state
}

// Held is what somebody has.
func (s Supply) Held() chain.Amount { return s.Balances + s.Staked + s.Unbonding }

// Holds says whether every coin that was issued is somewhere, and none that was not.
func (s Supply) Holds() bool {
	return s.Issued == s.Genesis+s.Emitted && s.Issued == s.Held()+s.Burned+s.Pending
}

// Stake is what an account has on a hotkey.
type Stake struct {
	Hotkey chain.Hotkey `json:"hotkey"`
	Amount chain.Amount `json:"amount"`
}

// Withdrawal is an amount that was unstaked and is paid out at a block.
type Withdrawal struct {
	At     chain.Block  `json:"at"`
	Amount chain.Amount `json:"amount"`
}

// Stakes are all that an account has staked, and what it has unstaked and not been paid yet.
type Stakes struct {
	Staked    []Stake      `json:"staked"`
	Unbonding []Withdrawal `json:"unbonding"`
}
