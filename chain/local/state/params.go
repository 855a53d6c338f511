package state

import (
	"encoding/binary"
	"math"
	"sort"

	"sn3/chain"
	"sn3/chain/local"
)

// Params are the chain's parameters: genesis sets them, the subnet's owner changes them by name (local.SetParam). The names
// are those of the JSON, which are Subtensor's where it has the parameter.
type Params struct {
	MaxSeats           int          `json:"max_seats"`
	Burn               chain.Amount `json:"burn"` // cost of the first registration
	MinBurn            chain.Amount `json:"min_burn"`
	MaxBurn            chain.Amount `json:"max_burn"`
	BurnHalfLife       chain.Block  `json:"burn_half_life"`
	ImmunityPeriod     chain.Block  `json:"immunity_period"`
	MinNonImmune       int          `json:"min_non_immune_uids"`
	BlockEmission      chain.Amount `json:"block_emission"`
	OwnerCut           uint16       `json:"subnet_owner_cut"` // of emission
	Fee                chain.Amount `json:"fee"`              // of a transaction, burned
	AccountCost        chain.Amount `json:"account_cost"`     // of a transfer to an account that is new, burned besides
	MinStake           chain.Amount `json:"min_stake"`        // of an account on a hotkey
	UnstakeDelay       chain.Block  `json:"unstake_delay"`
	Kappa              uint16       `json:"kappa"`          // of 65535, as all proportions
	MaxValidators      int          `json:"max_validators"` // permits; the largest stakes have them
	StakeThreshold     chain.Amount `json:"stake_threshold"`
	BondsMovingAverage uint64       `json:"bonds_moving_avg"` // millionths
	BondsPenalty       uint16       `json:"bonds_penalty"`
	Yuma3              bool         `json:"yuma3"`
	LiquidAlpha        bool         `json:"liquid_alpha_enabled"`
	AlphaLow           uint16       `json:"alpha_low"`
	AlphaHigh          uint16       `json:"alpha_high"`
	AlphaSteepness     uint16       `json:"alpha_sigmoid_steepness"` // hundredths
	ActivityCutoff     chain.Block  `json:"activity_cutoff"`
	WeightsInterval    chain.Block  `json:"weights_rate_limit"` // blocks between two weight rows of a hotkey
	WeightsVersion     uint64       `json:"weights_version"`    // least version key of a weight row; 0: any
	MinWeights         int          `json:"min_allowed_weights"`
	MaxWeight          uint16       `json:"max_weight_limit"` // largest share of one entry in its row
	CommitReveal       bool         `json:"commit_reveal_weights_enabled"`
	RevealPeriod       uint64       `json:"commit_reveal_period"` // epochs
	KeepWindows        int          `json:"keep_windows"`         // snapshots, selections and beacons of so many windows

	// Since the second version of the rules.

	MaxSupply    chain.Amount `json:"max_supply"`
	DefaultTake  uint16       `json:"default_take"` // of a new hotkey, of dividends
	MaxTake      uint16       `json:"max_take"`
	TakeInterval chain.Block  `json:"take_rate_limit"` // blocks between two rises of a take
}

// DefaultParams are those of a local network: Subtensor's, but for weights_rate_limit (100 there) and min_allowed_weights
// (1,024 there), which are for blocks of 12 s and hundreds of miners, and for what an entry of the state costs (DESIGN.md).
func DefaultParams() Params {
	return Params{MaxSeats: 256, Burn: chain.RaoPerCoin, Kappa: 32767, MaxValidators: 128, BondsMovingAverage: 900000,
		BondsPenalty: u16, AlphaLow: 45875, AlphaHigh: 58982, AlphaSteepness: 1000, ActivityCutoff: 5000, WeightsInterval: 1, MaxWeight: u16,
		CommitReveal: true, RevealPeriod: 1, KeepWindows: 16,
		MinBurn: 500_000, MaxBurn: 100 * chain.RaoPerCoin, BurnHalfLife: 360, ImmunityPeriod: 4096, MinNonImmune: 10, BlockEmission: chain.RaoPerCoin,
		OwnerCut: 11796, Fee: chain.RaoPerCoin / 1000, AccountCost: chain.RaoPerCoin / 10, MinStake: chain.RaoPerCoin / 10, UnstakeDelay: 1000,
		MaxSupply: 21_000_000 * chain.RaoPerCoin, DefaultTake: 11796, MaxTake: 11796, TakeInterval: 216_000}
}

// param is one of them as a number.
type param struct {
	name       string
	least, top uint64
	fixed      bool   // only genesis sets it
	since      uint64 // the first version of the rules that has it; 0: all
	get        func(*Params) uint64
	set        func(*Params, uint64)
}

// numeric makes a param of a field.
func numeric[T ~int | ~uint16 | ~uint64](name string, least, top uint64, field func(*Params) *T) param {
	return param{name, least, top, false, 0, func(p *Params) uint64 { return uint64(*field(p)) }, func(p *Params, v uint64) { *field(p) = T(v) }}
}

// toggle makes a param of a yes or no.
func toggle(name string, field func(*Params) *bool) param {
	get := func(p *Params) uint64 {
		if *field(p) {
			return 1
		}
		return 0
	}
	return param{name, 0, 1, false, 0, get, func(p *Params, v uint64) { *field(p) = v == 1 }}
}

func fixed(p param) param {
	p.fixed = true
	return p
}

func since(rules uint64, p param) param {
	p.since = rules
	return p
}

// maxSeats is the most seats a chain can have: a weight row must fit into a transaction.
const maxSeats = local.MaxWeights

// paramTable has every parameter once; its order is that of the stored form. Those of a later version of the rules come at
// the end: paramCount.
var paramTable = []param{
	numeric("max_seats", 1, maxSeats, func(p *Params) *int { return &p.MaxSeats }),
	fixed(numeric("burn", 0, math.MaxInt64, func(p *Params) *chain.Amount { return &p.Burn })),
	numeric("min_burn", 0, math.MaxInt64, func(p *Params) *chain.Amount { return &p.MinBurn }),
	numeric("max_burn", 0, math.MaxInt64, func(p *Params) *chain.Amount { return &p.MaxBurn }),
	numeric("burn_half_life", 1, math.MaxInt64, func(p *Params) *chain.Block { return &p.BurnHalfLife }),
	numeric("immunity_period", 0, math.MaxInt64, func(p *Params) *chain.Block { return &p.ImmunityPeriod }),
	numeric("min_non_immune_uids", 0, maxSeats, func(p *Params) *int { return &p.MinNonImmune }),
	numeric("block_emission", 0, math.MaxInt64, func(p *Params) *chain.Amount { return &p.BlockEmission }),
	numeric("subnet_owner_cut", 0, u16, func(p *Params) *uint16 { return &p.OwnerCut }),
	numeric("fee", 1, math.MaxInt64, func(p *Params) *chain.Amount { return &p.Fee }),
	numeric("account_cost", 0, math.MaxInt64, func(p *Params) *chain.Amount { return &p.AccountCost }),
	numeric("min_stake", 1, math.MaxInt64, func(p *Params) *chain.Amount { return &p.MinStake }),
	numeric("unstake_delay", 1, 1<<40, func(p *Params) *chain.Block { return &p.UnstakeDelay }),
	numeric("kappa", 0, u16, func(p *Params) *uint16 { return &p.Kappa }),
	numeric("max_validators", 1, maxSeats, func(p *Params) *int { return &p.MaxValidators }),
	numeric("stake_threshold", 0, math.MaxInt64, func(p *Params) *chain.Amount { return &p.StakeThreshold }),
	numeric("bonds_moving_avg", 0, 1_000_000, func(p *Params) *uint64 { return &p.BondsMovingAverage }),
	numeric("bonds_penalty", 0, u16, func(p *Params) *uint16 { return &p.BondsPenalty }),
	toggle("yuma3", func(p *Params) *bool { return &p.Yuma3 }),
	toggle("liquid_alpha_enabled", func(p *Params) *bool { return &p.LiquidAlpha }),
	numeric("alpha_low", 0, u16, func(p *Params) *uint16 { return &p.AlphaLow }),
	numeric("alpha_high", 0, u16, func(p *Params) *uint16 { return &p.AlphaHigh }),
	numeric("alpha_sigmoid_steepness", 0, math.MaxInt16, func(p *Params) *uint16 { return &p.AlphaSteepness }),
	numeric("activity_cutoff", 1, math.MaxInt64, func(p *Params) *chain.Block { return &p.ActivityCutoff }),
	numeric("weights_rate_limit", 0, math.MaxInt64, func(p *Params) *chain.Block { return &p.WeightsInterval }),
	numeric("weights_version", 0, math.MaxInt64, func(p *Params) *uint64 { return &p.WeightsVersion }),
	numeric("min_allowed_weights", 0, maxSeats, func(p *Params) *int { return &p.MinWeights }),
	numeric("max_weight_limit", 1, u16, func(p *Params) *uint16 { return &p.MaxWeight }),
	toggle("commit_reveal_weights_enabled", func(p *Params) *bool { return &p.CommitReveal }),
	numeric("commit_reveal_period", 1, 100, func(p *Params) *uint64 { return &p.RevealPeriod }),
	fixed(numeric("keep_windows", 2, 1<<20, func(p *Params) *int { return &p.KeepWindows })),
	since(2, numeric("max_supply", 1, math.MaxInt64, func(p *Params) *chain.Amount { return &p.MaxSupply })),
	since(2, numeric("default_take", 0, u16, func(p *Params) *uint16 { return &p.DefaultTake })),
	since(2, numeric("max_take", 0, u16, func(p *Params) *uint16 { return &p.MaxTake })),
	since(2, numeric("take_rate_limit", 0, math.MaxInt64, func(p *Params) *chain.Block { return &p.TakeInterval })),
}

// paramCount is how many of paramTable the rules of a version have; the others are as in DefaultParams until the upgrade.
func paramCount(rules uint64) int {
	return sort.Search(len(paramTable), func(i int) bool { return paramTable[i].since > rules })
}

// of are the parameters of the rules of a version, the others as in DefaultParams.
func (p Params) of(rules uint64) Params {
	d := DefaultParams()
	for _, x := range paramTable[paramCount(rules):] {
		x.set(&p, x.get(&d))
	}
	return p
}

// check is the first parameter beyond its bounds, and nil if there is none.
func (p Params) check() *param {
	for i := range paramTable {
		if x := &paramTable[i]; x.get(&p) < x.least || x.get(&p) > x.top {
			return x
		}
	}
	return nil
}

func encodeParams(p Params, rules uint64) []byte {
	var b []byte
	for _, x := range paramTable[:paramCount(rules)] {
		b = binary.BigEndian.AppendUint64(b, x.get(&p))
	}
	return b
}

// decodeParams reads the parameters of the rules' version that has so many.
func decodeParams(v []byte) (Params, error) {
	n, p := len(v)/8, DefaultParams()
	known := false
	for rules := uint64(1); rules <= NewestRules; rules++ {
		known = known || n == paramCount(rules)
	}
	if !known {
		return Params{}, errForm
	}
	d := decoder{b: v}
	for _, x := range paramTable[:n] {
		v := d.u64()
		if v < x.least || v > x.top { // before its field cuts it
			return Params{}, errForm
		}
		x.set(&p, v)
	}
	return p, d.end()
}

// changed are the parameters after one is set by its owner; ok is false where that is not possible.
func (p Params) changed(name string, v uint64, rules uint64) (_ Params, ok bool) {
	for _, x := range paramTable[:paramCount(rules)] {
		if x.name == name && !x.fixed {
			if v < x.least || v > x.top {
				return p, false
			}
			x.set(&p, v)
			return p, p.check() == nil
		}
	}
	return p, false
}
