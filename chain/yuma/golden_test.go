package yuma

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"sn3/internal/golden"
)

type jsonParams struct {
	Yuma3       bool   `json:"yuma3"`
	LiquidAlpha bool   `json:"liquid_alpha"`
	Tempo       uint64 `json:"tempo"`
	Kappa       uint16 `json:"kappa"`
	BMA         uint64 `json:"bonds_moving_average"`
	Penalty     uint16 `json:"bonds_penalty"`
	Cutoff      uint64 `json:"activity_cutoff"`
	MaxV        int    `json:"max_allowed_validators"`
	Threshold   uint64 `json:"stake_threshold"`
	TaoWeight   uint64 `json:"tao_weight"`
	Owner       *int   `json:"owner_uid"`
	Emission    uint64 `json:"emission"`
}

func (p jsonParams) params() Params {
	o := -1
	if p.Owner != nil {
		o = *p.Owner
	}
	return Params{Yuma3: p.Yuma3, LiquidAlpha: p.LiquidAlpha, Tempo: p.Tempo, Kappa: p.Kappa, BondsMovingAverage: p.BMA, BondsPenalty: p.Penalty,
		ActivityCutoff: p.Cutoff, MaxValidators: p.MaxV, StakeThreshold: p.Threshold, TaoWeight: p.TaoWeight, Owner: o, Emission: p.Emission}
}

type jsonRow [][2]uint16

func entries(rows []jsonRow) [][]Entry {
	out := make([][]Entry, len(rows))
	for i, r := range rows {
		for _, e := range r {
			out[i] = append(out[i], Entry{e[0], e[1]})
		}
	}
	return out
}

type jsonIn struct {
	Block        uint64    `json:"block"`
	RegisteredAt []uint64  `json:"registered_at"`
	LastUpdate   []uint64  `json:"last_update"`
	AlphaStake   []uint64  `json:"alpha_stake"`
	TaoStake     []uint64  `json:"tao_stake"`
	Permit       []bool    `json:"validator_permit"`
	Weights      []jsonRow `json:"weights"`
	Bonds        []jsonRow `json:"bonds"`
	Children     []struct {
		Parent, Child int
		Proportion    uint64
	} `json:"children"`
}

type jsonOut struct {
	Active      []bool    `json:"active"`
	StakeWeight []uint16  `json:"stake_weight"`
	Consensus   []uint16  `json:"consensus"`
	Incentive   []uint16  `json:"incentive"`
	Dividends   []uint16  `json:"dividends"`
	VTrust      []uint16  `json:"validator_trust"`
	Permit      []bool    `json:"validator_permit"`
	Emission    []uint64  `json:"emission"`
	Bonds       []jsonRow `json:"bonds"`
}

func (in jsonIn) input(p jsonParams) Input {
	x := Input{Params: p.params(), Block: in.Block, RegisteredAt: in.RegisteredAt, LastUpdate: in.LastUpdate, AlphaStake: in.AlphaStake,
		TaoStake: in.TaoStake, Permit: in.Permit, Weights: entries(in.Weights), Bonds: entries(in.Bonds)}
	for _, c := range in.Children {
		x.Children = append(x.Children, Child{c.Parent, c.Child, c.Proportion})
	}
	return x
}

func compare(t *testing.T, what string, got Output, w jsonOut) {
	t.Helper()
	want := Output{w.Active, w.StakeWeight, w.Consensus, w.Incentive, w.Dividends, w.VTrust, w.Permit, w.Emission, entries(w.Bonds), got.Server, got.Validator}
	g, e := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range g.NumField() {
		if !reflect.DeepEqual(g.Field(i).Interface(), e.Field(i).Interface()) {
			t.Errorf("%s: %s is %v, want %v", what, g.Type().Field(i).Name, g.Field(i).Interface(), e.Field(i).Interface())
		}
	}
}

func readGz(t *testing.T, path string, into any) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(into); err != nil {
		t.Fatal(err)
	}
}

type jsonCase struct {
	Name   string
	Params jsonParams
	In     jsonIn
	Out    jsonOut
}

// check runs the cases with Yuma3 off and counts them.
func check(t *testing.T, cases []jsonCase) (checked int) {
	t.Helper()
	for _, c := range cases {
		if c.Params.Yuma3 {
			continue
		}
		got, err := Epoch(c.In.input(c.Params))
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		compare(t, c.Name, got, c.Out)
		checked++
	}
	return checked
}

// Every case of the real runtime with Yuma3 off, exactly.
func TestGoldenEpochs(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(golden.Dir(t, "yuma"), "epochs-*.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, file := range files {
		var set struct{ Cases []jsonCase }
		readGz(t, file, &set)
		checked += check(t, set.Cases)
	}
	if checked < 193 {
		t.Errorf("only %d epochs with Yuma3 off were found", checked)
	}
	t.Logf("%d epochs equal", checked)
}

// Cases of our own, for where the reference vectors are not: the outputs come from an independent implementation of the
// numbered steps (dense, the median by its definition) that equals every reference vector.
func TestRecomputedEpochs(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "epochs.json"))
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Cases []jsonCase }
	if err := json.Unmarshal(raw, &set); err != nil {
		t.Fatal(err)
	}
	if n := check(t, set.Cases); n != 9 {
		t.Errorf("%d cases", n)
	}
}
