package yuma

import (
	"path/filepath"
	"testing"

	"sn3/internal/golden"
)

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

// Several epochs in a row: bonds and permits are carried over from our own outputs.
func TestGoldenTraces(t *testing.T) {
	var set struct {
		Traces []struct {
			Name    string
			Params  jsonParams
			Initial jsonIn
			Epochs  []jsonStep
		}
	}
	readGz(t, filepath.Join(golden.Dir(t, "yuma"), "traces.json.gz"), &set)
	steps := 0
	for _, tr := range set.Traces {
		if tr.Params.Yuma3 {
			continue
		}
		p, in := tr.Params, tr.Initial
		for _, s := range tr.Epochs {
			apply(&p, &in, s)
			got, err := Epoch(in.input(p))
			if err != nil {
				t.Fatalf("%s: %v", tr.Name, err)
			}
			compare(t, tr.Name, got, s.Out)
			in.Permit, in.Bonds = got.Permit, rows(got.Bonds)
			steps++
		}
	}
	if steps < 83 {
		t.Errorf("only %d epochs with Yuma3 off were found", steps)
	}
	t.Logf("%d epochs of traces equal", steps)
}

func apply(p *jsonParams, in *jsonIn, s jsonStep) {
	in.Block, in.LastUpdate = s.Block, s.LastUpdate
	for _, v := range []struct{ to, from *[]uint64 }{{&in.RegisteredAt, &s.RegisteredAt}, {&in.AlphaStake, &s.AlphaStake}, {&in.TaoStake, &s.TaoStake}} {
		if *v.from != nil {
			*v.to = *v.from
		}
	}
	at := func(uid string) int {
		n := 0
		for _, c := range uid {
			n = 10*n + int(c-'0')
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

func rows(b [][]Entry) []jsonRow {
	out := make([]jsonRow, len(b))
	for i, r := range b {
		for _, e := range r {
			out[i] = append(out[i], [2]uint16{e.UID, e.Value})
		}
	}
	return out
}

// Two validators (3:2) agree on two miners; worked by hand: consensus is the larger validator's view wherever it has the
// majority, incentive follows the clipped, stake-weighted ranks.
func TestWorkedByHand(t *testing.T) {
	in := Input{Params: Params{Tempo: 10, Kappa: 32767, BondsMovingAverage: 900000, BondsPenalty: 65535, ActivityCutoff: 1000,
		MaxValidators: 64, Owner: -1, Emission: 1000}, Block: 100,
		RegisteredAt: []uint64{0, 0, 0, 0}, LastUpdate: []uint64{90, 90, 0, 0}, AlphaStake: []uint64{300, 200, 0, 0}, TaoStake: make([]uint64, 4),
		Permit:  []bool{true, true, false, false},
		Weights: [][]Entry{{{2, 65535}, {3, 65535}}, {{2, 65535}}, nil, nil}, Bonds: make([][]Entry, 4)}
	out, err := Epoch(in)
	if err != nil {
		t.Fatal(err)
	}
	// consensus: uid 2: both say >= 1/2, 3/5 of the stake says exactly 1/2 -> 1/2; uid 3: 3/5 say 1/2 -> 1/2
	if out.Consensus[2] != 32767 || out.Consensus[3] != 32767 {
		t.Errorf("consensus %v", out.Consensus)
	}
	// ranks: uid 2: (3/5 + 2/5)/2 = 1/2, uid 3: 3/5/2 = 3/10 -> incentive 5/8, 3/8
	if out.Incentive[2] != 40959 || out.Incentive[3] != 24575 {
		t.Errorf("incentive %v, want 5/8 and 3/8", out.Incentive)
	}
	var paid uint64
	for _, e := range out.Emission {
		paid += e
	}
	if paid > 1000 || paid < 990 || out.Emission[2] <= out.Emission[3] {
		t.Errorf("emission %v of 1000", out.Emission)
	}
}

func FuzzEpoch(f *testing.F) {
	f.Add([]byte{3, 1, 2, 3, 4, 5, 6, 7, 8, 9}, uint64(1000), uint16(32767))
	f.Fuzz(func(t *testing.T, b []byte, emission uint64, kappa uint16) {
		if len(b) < 2 {
			return
		}
		n := int(b[0]%8) + 1
		at := func(i int) uint64 { return uint64(b[i%len(b)]) }
		in := Input{Params: Params{Tempo: at(1), Kappa: kappa, BondsMovingAverage: at(2) * 4000, BondsPenalty: uint16(at(3) * 257),
			ActivityCutoff: at(4) << (at(5) % 60), MaxValidators: int(at(6) % 9), StakeThreshold: at(7), TaoWeight: at(8) << 56, Owner: -1, Emission: emission},
			Block: at(9)}
		for i := range n {
			in.RegisteredAt = append(in.RegisteredAt, at(i))
			in.LastUpdate = append(in.LastUpdate, at(i+1))
			in.AlphaStake = append(in.AlphaStake, at(i+2)<<(at(i+3)%57))
			in.TaoStake = append(in.TaoStake, at(i+4))
			in.Permit = append(in.Permit, at(i+5)&1 == 1)
			in.Weights = append(in.Weights, []Entry{{uint16(at(i)), uint16(at(i+6) * 257)}, {uint16(at(i+7) % 8), uint16(at(i))}})
			in.Bonds = append(in.Bonds, []Entry{{uint16(at(i+8) % 9), uint16(at(i) * 257)}})
		}
		out, err := Epoch(in)
		if err != nil {
			t.Fatal(err)
		}
		left := emission
		for _, e := range out.Emission {
			if e > left {
				t.Fatalf("emission %v exceeds %d", out.Emission, emission)
			}
			left -= e
		}
	})
}
