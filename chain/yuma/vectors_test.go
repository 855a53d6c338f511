package yuma

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sn3/internal/golden"
)

type jsonParams struct {
	Yuma3        bool   `json:"yuma3"`
	LiquidAlpha  bool   `json:"liquid_alpha"`
	Tempo        uint64 `json:"tempo"`
	Kappa        uint16 `json:"kappa"`
	BMA          uint64 `json:"bonds_moving_average"`
	Penalty      uint16 `json:"bonds_penalty"`
	AlphaLow     uint16 `json:"alpha_low"`
	AlphaHigh    uint16 `json:"alpha_high"`
	Steepness    int16  `json:"alpha_sigmoid_steepness"`
	Cutoff       uint64 `json:"activity_cutoff"`
	MaxV         int    `json:"max_allowed_validators"`
	Threshold    uint64 `json:"stake_threshold"`
	TaoWeight    uint64 `json:"tao_weight"`
	CommitReveal bool   `json:"commit_reveal"`
	Owner        *int   `json:"owner_uid"`
	Emission     uint64 `json:"emission"`
}

func (p jsonParams) params() Params {
	o := -1
	if p.Owner != nil {
		o = *p.Owner
	}
	return Params{Rules: Spec293, Yuma3: p.Yuma3, LiquidAlpha: p.LiquidAlpha, Tempo: p.Tempo, Kappa: p.Kappa, BondsMovingAverage: p.BMA,
		BondsPenalty: p.Penalty, AlphaLow: p.AlphaLow, AlphaHigh: p.AlphaHigh, SigmoidSteepness: p.Steepness, ActivityCutoff: p.Cutoff,
		MaxValidators: p.MaxV, StakeThreshold: p.Threshold, TaoWeight: p.TaoWeight, Owner: o, Emission: p.Emission}
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
	Block          uint64    `json:"block"`
	RegisteredAt   []uint64  `json:"registered_at"`
	LastUpdate     []uint64  `json:"last_update"`
	AlphaStake     []uint64  `json:"alpha_stake"`
	TaoStake       []uint64  `json:"tao_stake"`
	Permit         []bool    `json:"validator_permit"`
	Weights        []jsonRow `json:"weights"`
	Bonds          []jsonRow `json:"bonds"`
	EarliestCommit []*uint64 `json:"earliest_commit_block"` // only where derived
	LastStep       *uint64   `json:"last_step_block"`       // only where derived
	Children       []struct {
		Parent, Child int
		Proportion    uint64
	} `json:"children"`
}

func (in jsonIn) input(p jsonParams) Input {
	x := Input{Params: p.params(), Block: in.Block, RegisteredAt: in.RegisteredAt, LastUpdate: in.LastUpdate, AlphaStake: in.AlphaStake,
		TaoStake: in.TaoStake, Permit: in.Permit, Weights: entries(in.Weights), Bonds: entries(in.Bonds)}
	for _, c := range in.Children {
		x.Children = append(x.Children, Child{c.Parent, c.Child, c.Proportion})
	}
	return x
}

// input425 is the same epoch under the newer rules.
func (in jsonIn) input425(p jsonParams) Input {
	x := in.input(p)
	x.Rules = Spec425
	if in.LastStep != nil {
		x.LastEpoch = *in.LastStep
	}
	if p.CommitReveal && in.EarliestCommit != nil {
		for _, b := range in.EarliestCommit {
			if b == nil {
				x.EarliestCommit = append(x.EarliestCommit, NoCommit)
				continue
			}
			x.EarliestCommit = append(x.EarliestCommit, *b)
		}
	}
	return x
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
	Rank        []uint16  `json:"rank"`           // these only where the runtime was run
	Trust       []uint16  `json:"trust"`          //
	Pruning     []uint16  `json:"pruning_scores"` //
	AlphaDelta  []uint64  `json:"alpha_delta"`    //
}

type jsonCase struct {
	Name    string
	Params  jsonParams
	In      jsonIn
	Out     jsonOut
	Same425 bool `json:"spec425_same"`
}

// vectors is the folder of the reference vectors: of all of them, or of the committed part.
func vectors(t testing.TB) (dir string, whole bool) {
	t.Helper()
	dir = golden.Case(t, "yuma", ".", "intermediates.json")
	_, err := os.Stat(filepath.Join(dir, "traces.json.gz"))
	return dir, err == nil
}

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := json.NewDecoder(r).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// epochCases are all single epochs that the runtime was run with.
func epochCases(t testing.TB) (cases []jsonCase, whole bool) {
	t.Helper()
	dir, whole := vectors(t)
	files, err := filepath.Glob(filepath.Join(dir, "epochs-*.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var set struct{ Cases []jsonCase }
		readJSON(t, file, &set)
		cases = append(cases, set.Cases...)
	}
	return cases, whole
}

type jsonStep struct {
	Block        uint64             `json:"block"`
	LastUpdate   []uint64           `json:"last_update"`
	RegisteredAt []uint64           `json:"registered_at"`
	AlphaStake   []uint64           `json:"alpha_stake"`
	TaoStake     []uint64           `json:"tao_stake"`
	SetWeights   map[string]jsonRow `json:"set_weights"`
	SetBonds     map[string]jsonRow `json:"set_bonds"`
	SetPermit    map[string]bool    `json:"set_permit"`
	SetKappa     *uint16            `json:"set_kappa"`
	Out          jsonOut            `json:"out"`
}

type jsonTrace struct {
	Name    string
	Params  jsonParams
	Initial jsonIn
	Epochs  []jsonStep
	Same425 bool `json:"spec425_same"`
}

// apply makes the changes before a step of a trace.
func (s jsonStep) apply(t testing.TB, p *jsonParams, in *jsonIn) {
	t.Helper()
	in.Block, in.LastUpdate = s.Block, s.LastUpdate
	for _, v := range []struct{ to, from *[]uint64 }{{&in.RegisteredAt, &s.RegisteredAt}, {&in.AlphaStake, &s.AlphaStake}, {&in.TaoStake, &s.TaoStake}} {
		if *v.from != nil {
			*v.to = *v.from
		}
	}
	at := func(uid string) int {
		n, err := strconv.Atoi(uid)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for uid, row := range s.SetWeights {
		in.Weights[at(uid)] = row
	}
	for uid, row := range s.SetBonds {
		in.Bonds[at(uid)] = row
	}
	for uid, v := range s.SetPermit {
		in.Permit[at(uid)] = v
	}
	if s.SetKappa != nil {
		p.Kappa = *s.SetKappa
	}
}

func jsonRows(b [][]Entry) []jsonRow {
	out := make([]jsonRow, len(b))
	for i, r := range b {
		for _, e := range r {
			out[i] = append(out[i], [2]uint16{e.UID, e.Value})
		}
	}
	return out
}
