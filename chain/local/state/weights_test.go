package state

import (
	"testing"

	"sn3/chain"
	"sn3/chain/local"
)

func rowOf(uids ...chain.UID) (row []chain.Weight) {
	for _, u := range uids {
		row = append(row, chain.Weight{UID: u, Value: 100})
	}
	return row
}

// The checks of a weight row in their order: the first that fails is the answer.
func TestWeightChecks(t *testing.T) {
	type change func(*Params)
	for name, c := range map[string]struct {
		params change
		who    int
		op     local.SetWeights
		want   local.Code
	}{
		"fine":                        {nil, 1, local.SetWeights{Weights: rowOf(2, 3)}, local.CodeOK},
		"nothing":                     {nil, 1, local.SetWeights{}, local.CodeOK},
		"must be committed":           {func(p *Params) { p.CommitReveal = true }, 5, local.SetWeights{Weights: rowOf(60)}, local.CodeCommitReveal},
		"no seat":                     {func(p *Params) { p.StakeThreshold = 1 }, 5, local.SetWeights{Weights: rowOf(2)}, local.CodeNotRegistered},
		"too little stake":            {func(p *Params) { p.StakeThreshold = 250 * chain.RaoPerCoin }, 1, local.SetWeights{Weights: rowOf(60)}, local.CodeMinStake},
		"enough stake":                {func(p *Params) { p.StakeThreshold = 200 * chain.RaoPerCoin }, 1, local.SetWeights{Weights: rowOf(2)}, local.CodeOK},
		"the owner needs no stake":    {func(p *Params) { p.StakeThreshold = 999 * chain.RaoPerCoin }, 0, local.SetWeights{Weights: rowOf(2)}, local.CodeOK},
		"old version":                 {func(p *Params) { p.WeightsVersion = 7 }, 1, local.SetWeights{VersionKey: 6, Weights: rowOf(60)}, local.CodeVersionKey},
		"newer version":               {func(p *Params) { p.WeightsVersion = 7 }, 1, local.SetWeights{VersionKey: 8, Weights: rowOf(2)}, local.CodeOK},
		"no permit":                   {nil, 2, local.SetWeights{Weights: rowOf(3, 3)}, local.CodeNoPermit},
		"itself alone, no permit":     {func(p *Params) { p.MinWeights, p.MaxWeight = 3, 100 }, 2, local.SetWeights{Weights: rowOf(2)}, local.CodeOK},
		"itself and others":           {nil, 2, local.SetWeights{Weights: rowOf(2, 3)}, local.CodeNoPermit},
		"twice":                       {nil, 1, local.SetWeights{Weights: rowOf(2, 2)}, local.CodeDuplicate},
		"twice, and nobody's seat":    {nil, 1, local.SetWeights{Weights: rowOf(9, 2, 9)}, local.CodeDuplicate},
		"descending":                  {nil, 1, local.SetWeights{Weights: rowOf(3, 2)}, local.CodeWeights},
		"nobody's seat":               {nil, 1, local.SetWeights{Weights: rowOf(2, 4)}, local.CodeWeights},
		"too few":                     {func(p *Params) { p.MinWeights = 3 }, 1, local.SetWeights{Weights: rowOf(2, 3)}, local.CodeFewWeights},
		"all there are":               {func(p *Params) { p.MinWeights = 100 }, 1, local.SetWeights{Weights: rowOf(0, 1, 2, 3)}, local.CodeOK},
		"one has too much":            {func(p *Params) { p.MaxWeight = u16/2 - 1 }, 1, local.SetWeights{Weights: rowOf(2, 3)}, local.CodeMaxWeight},
		"the largest share allowed":   {func(p *Params) { p.MaxWeight = u16/2 + 1 }, 1, local.SetWeights{Weights: rowOf(2, 3)}, local.CodeOK},
		"a row of zeros has no share": {func(p *Params) { p.MaxWeight = 1 }, 1, local.SetWeights{Weights: []chain.Weight{{UID: 2}}}, local.CodeOK},
	} {
		g := genesis(t)
		if c.params != nil {
			c.params(&g.Params)
		}
		s, err := New(g)
		if err != nil {
			t.Fatal(err)
		}
		s.meta.Height = 5
		if got, _ := s.execute(tx(t, c.who, 0, c.op)); got != c.want {
			t.Errorf("%s: code %d, want %d", name, got, c.want)
		}
	}
}

// Weights are rate limited from registration on, and only where a limit is set.
func TestWeightsTooFast(t *testing.T) {
	g := genesis(t)
	g.Params.WeightsInterval = 3
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []local.Code{local.CodeOK, local.CodeRateLimited, local.CodeRateLimited, local.CodeOK} {
		if r := next(s, tx(t, 1, uint64(i), local.SetWeights{Weights: rowOf(2)})); r.Codes[0] != want {
			t.Errorf("block %d: code %d, want %d", s.Height(), r.Codes[0], want)
		}
	}
}

// Permits go to the largest stakes from the epoch on; who lost it weighs nothing any more.
func TestPermitsAreOfTheEpoch(t *testing.T) {
	g := genesis(t)
	g.Params.MaxValidators = 1
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	until(s, s.run.Tempo-1)
	if !s.seats[0].Permit || !s.seats[1].Permit {
		t.Fatal("genesis' permits do not count until the first epoch")
	}
	next(s)
	if !s.seats[0].Permit || s.seats[1].Permit || s.seats[2].Permit {
		t.Errorf("permits %v %v %v for one validator", s.seats[0].Permit, s.seats[1].Permit, s.seats[2].Permit)
	}
	if code, _ := s.execute(tx(t, 1, 0, local.SetWeights{Weights: rowOf(2, 3)})); code != local.CodeNoPermit {
		t.Errorf("weights without a permit: code %d", code)
	}
}
