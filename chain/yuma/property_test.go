package yuma

import (
	"cmp"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawParams are any parameters of a subnet of n.
func drawParams(t *rapid.T, n int) Params {
	u16 := rapid.Uint16()
	return Params{Rules: rapid.SampledFrom([]Rules{Spec425, Spec293}).Draw(t, "rules"), Yuma3: rapid.Bool().Draw(t, "yuma3"),
		LiquidAlpha: rapid.Bool().Draw(t, "liquid"), Tempo: uint64(rapid.IntRange(1, 100).Draw(t, "tempo")), Kappa: u16.Draw(t, "kappa"),
		BondsMovingAverage: rapid.Uint64Range(0, 1_000_000).Draw(t, "average"),
		BondsPenalty:       rapid.SampledFrom([]uint16{0, 1, 30000, 65535}).Draw(t, "penalty"),
		AlphaLow:           u16.Draw(t, "low"), AlphaHigh: u16.Draw(t, "high"), SigmoidSteepness: rapid.Int16().Draw(t, "steepness"),
		ActivityCutoff: uint64(rapid.IntRange(0, 500).Draw(t, "cutoff")), MaxValidators: rapid.IntRange(0, n).Draw(t, "permits"),
		TaoWeight: rapid.Uint64().Draw(t, "tao weight"), Owner: rapid.IntRange(-1, n-1).Draw(t, "owner"), Emission: rapid.Uint64().Draw(t, "emission")}
}

// drawInput is a subnet of v validators (uids below v) and the rest miners; no two stakes are equal.
func drawInput(t *rapid.T) (in Input, v int) {
	v = rapid.IntRange(1, 5).Draw(t, "validators")
	n := v + rapid.IntRange(1, 6).Draw(t, "miners")
	u16 := rapid.Uint16()
	in = Input{Params: drawParams(t, n), Block: 500, LastEpoch: rapid.Uint64Range(0, 499).Draw(t, "last epoch"), TaoStake: make([]uint64, n),
		RegisteredAt: make([]uint64, n), LastUpdate: make([]uint64, n), AlphaStake: make([]uint64, n), Permit: make([]bool, n),
		Weights: make([][]Entry, n), Bonds: make([][]Entry, n)}
	if rapid.Bool().Draw(t, "commits") {
		in.EarliestCommit = make([]uint64, n)
	}
	for i := range n {
		in.RegisteredAt[i] = rapid.Uint64Range(0, 499).Draw(t, "registered")
		in.LastUpdate[i] = rapid.Uint64Range(0, 500).Draw(t, "updated")
		if in.EarliestCommit != nil {
			in.EarliestCommit[i] = rapid.SampledFrom([]uint64{NoCommit, 300, 100}).Draw(t, "commit")
		}
		if i < v {
			in.AlphaStake[i] = rapid.Uint64Range(0, 1<<40).Draw(t, "stake")*16 + uint64(i) + 1
			in.Permit[i] = rapid.IntRange(0, 5).Draw(t, "permit") > 0
		}
		for j := range n {
			if rapid.Bool().Draw(t, "has weight") {
				in.Weights[i] = append(in.Weights[i], Entry{uint16(j), u16.Draw(t, "weight")})
			}
			if rapid.Bool().Draw(t, "has bond") {
				in.Bonds[i] = append(in.Bonds[i], Entry{uint16(j), u16.Draw(t, "bond")})
			}
		}
	}
	return in, v
}

// onEdge gives the first neuron just the part of the stake that kappa is, give or take a few of 2^32, and shares out the rest.
func onEdge(t *rapid.T, in *Input) {
	all := rapid.Uint64Range(1<<32, 1<<34).Draw(t, "all")
	first := uint64(in.Kappa)*all/u16Full + rapid.Uint64Range(0, 6).Draw(t, "beside")
	left := all - min(all, first)
	for i := range in.Permit {
		in.AlphaStake[i], in.TaoStake[i], in.Permit[i], in.LastUpdate[i] = rapid.Uint64Range(0, left).Draw(t, "rest"), 0, true, in.Block
		if i == 0 {
			in.AlphaStake[i] = first - min(first, 3)
			continue
		}
		left -= in.AlphaStake[i]
	}
	in.AlphaStake[1] += left
	in.StakeThreshold, in.Children = 0, nil
}

// The epoch against its twin, also with rows in any order, zero weights, children, and stakes at the ends of the range.
func TestTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, _ := drawInput(t)
		n := len(in.Permit)
		stake := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 1<<50), rapid.SampledFrom([]uint64{0, 1, math.MaxUint64, math.MaxInt64}))
		for i := range n {
			in.AlphaStake[i], in.TaoStake[i] = stake.Draw(t, "alpha"), stake.Draw(t, "tao")
			in.Weights[i] = rapid.Permutation(in.Weights[i]).Draw(t, "weights")
			in.Bonds[i] = rapid.Permutation(in.Bonds[i]).Draw(t, "bonds")
			if len(in.Weights[i]) > 0 && rapid.Bool().Draw(t, "zero") {
				in.Weights[i][0].Value = 0
			}
		}
		id := rapid.IntRange(0, n-1)
		for range rapid.IntRange(0, 3).Draw(t, "children") {
			in.Children = append(in.Children, Child{id.Draw(t, "parent"), id.Draw(t, "child"), rapid.Uint64().Draw(t, "part")})
		}
		in.StakeThreshold = stake.Draw(t, "threshold")
		if rapid.Bool().Draw(t, "edge") {
			onEdge(t, &in)
		}
		got, want := mustEpoch(t, in), twin(in, slowKit())
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v\nthe twin has\n%+v", got, want)
		}
		e := &epoch{in: in, n: n}
		e.stake()
		for i, s := range slowKit().stake(in) {
			if e.s[i] != fixed(s) {
				t.Fatalf("the stake of %d is %d, the twin has %d", i, e.s[i], s)
			}
		}
	})
}

func mustEpoch(t *rapid.T, in Input) Output {
	out, err := Epoch(in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// No more than the amount is handed out, all but rounding of it is, and a seat without stake and bonds that nobody weighs
// gets nothing.
func TestEmissionWithinAmount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, _ := drawInput(t)
		idle := len(in.Permit) - 1
		in.Bonds[idle] = nil
		for i, row := range in.Weights {
			in.Weights[i] = slices.DeleteFunc(row, func(e Entry) bool { return int(e.UID) == idle })
		}
		before := clone(in)
		out := mustEpoch(t, in)
		if !reflect.DeepEqual(in, before) {
			t.Fatal("the epoch changed its input")
		}
		if out.Emission[idle] != 0 || out.Incentive[idle] != 0 || out.Dividends[idle] != 0 {
			t.Fatalf("the idle seat earns %d of %d", out.Emission[idle], in.Emission)
		}
		left := in.Emission
		for i, e := range out.Emission {
			if parts := out.Server[i] + out.Validator[i]; parts > e || e-parts > in.Emission>>31+2 || out.Incentive[i] == 0 && out.Server[i] > in.Emission>>15 {
				t.Fatalf("seat %d: %d and %d of %d, incentive %d", i, out.Server[i], out.Validator[i], e, out.Incentive[i])
			}
			if e > left {
				t.Fatalf("%v is more than %d", out.Emission, in.Emission)
			}
			left -= e
		}
		if bound := in.Emission>>28 + 32; left > bound {
			t.Fatalf("%d of %d is not handed out", left, in.Emission)
		}
	})
}

// clone copies all that an epoch could write to.
func clone(in Input) Input {
	for _, v := range []*[]uint64{&in.RegisteredAt, &in.LastUpdate, &in.AlphaStake, &in.TaoStake, &in.EarliestCommit} {
		*v = slices.Clone(*v)
	}
	in.Permit, in.Weights, in.Bonds = slices.Clone(in.Permit), slices.Clone(in.Weights), slices.Clone(in.Bonds)
	for i := range in.Weights {
		in.Weights[i], in.Bonds[i] = slices.Clone(in.Weights[i]), slices.Clone(in.Bonds[i])
	}
	return in
}

// The numbering of seats does not matter (where no tie of stakes decides a permit).
func TestPermutation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, _ := drawInput(t)
		n := len(in.Permit)
		in.MaxValidators = n
		at := rapid.Permutation(identity(n)).Draw(t, "order") // old uid -> new uid
		moved := in
		for _, v := range []*[]uint64{&moved.RegisteredAt, &moved.LastUpdate, &moved.AlphaStake, &moved.TaoStake} {
			*v = permuted(*v, at)
		}
		moved.Permit = permuted(in.Permit, at)
		moved.Weights, moved.Bonds = permuted(renumbered(in.Weights, at), at), permuted(renumbered(in.Bonds, at), at)
		if in.Yuma3 && in.LiquidAlpha { // the one place where the order of a row matters: liquid alpha looks for ascending uids
			for _, row := range slices.Concat(moved.Weights, moved.Bonds) {
				slices.SortFunc(row, func(a, b Entry) int { return cmp.Compare(a.UID, b.UID) })
			}
		}
		if in.EarliestCommit != nil {
			moved.EarliestCommit = permuted(in.EarliestCommit, at)
		}
		if in.Owner >= 0 {
			moved.Owner = at[in.Owner]
		}
		a, b := mustEpoch(t, in), mustEpoch(t, moved)
		for name, v := range map[string][2][]uint16{"stake weight": {a.StakeWeight, b.StakeWeight}, "consensus": {a.Consensus, b.Consensus},
			"incentive": {a.Incentive, b.Incentive}, "dividends": {a.Dividends, b.Dividends}, "trust": {a.VTrust, b.VTrust}} {
			if !reflect.DeepEqual(permuted(v[0], at), v[1]) {
				t.Fatalf("%s: %v, renumbered by %v: %v", name, v[0], at, v[1])
			}
		}
		if !reflect.DeepEqual(permuted(a.Emission, at), b.Emission) {
			t.Fatalf("emission: %v, renumbered by %v: %v", a.Emission, at, b.Emission)
		}
	})
}

func identity(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func permuted[T any](v []T, at []int) []T {
	out := make([]T, len(v))
	for i, x := range v {
		out[at[i]] = x
	}
	return out
}

// renumbered changes the uids inside rows and keeps the order of the entries, which must not matter either.
func renumbered(rows [][]Entry, at []int) [][]Entry {
	out := make([][]Entry, len(rows))
	for i, row := range rows {
		for _, e := range row {
			out[i] = append(out[i], Entry{uint16(at[e.UID]), e.Value})
		}
	}
	return out
}

// A minority of the stake that weighs its own miners moves nothing: its miners earn nothing, and its validators earn no
// larger part of the dividends than their part of the stake (with Yuma3, where bonds do not grow with stake, that is not so).
func TestMajorityDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cabal := rapid.Uint64Range(1, 1<<40).Draw(t, "cabal")
		honest := cabal + cabal/100 + rapid.Uint64Range(1, 1<<40).Draw(t, "honest")
		first := rapid.Uint64Range(1, honest).Draw(t, "first")
		good := []Entry{{3, rapid.Uint16Range(1, 65535).Draw(t, "good 3")}, {4, rapid.Uint16Range(1, 65535).Draw(t, "good 4")}}
		bad := []Entry{{3, rapid.Uint16().Draw(t, "bad 3")}, {5, rapid.Uint16Range(1, 65535).Draw(t, "bad 5")}}
		in := Input{Params: Params{Tempo: 10, Kappa: 32767, BondsMovingAverage: 900000, BondsPenalty: 65535, ActivityCutoff: 1000, MaxValidators: 64, Owner: -1,
			Emission: 1e12, AlphaLow: 6554, AlphaHigh: 58982, SigmoidSteepness: 1000, Yuma3: rapid.Bool().Draw(t, "yuma3"), LiquidAlpha: true}, Block: 100, RegisteredAt: make([]uint64, 6), LastUpdate: []uint64{90, 90, 90, 0, 0, 0},
			AlphaStake: []uint64{first, honest - first, cabal, 0, 0, 0}, TaoStake: make([]uint64, 6), Permit: []bool{true, true, true, false, false, false},
			Weights: [][]Entry{good, good, bad, nil, nil, nil}, Bonds: make([][]Entry, 6)}
		for range 3 { // bonds build up
			out := mustEpoch(t, in)
			if out.Incentive[5] != 0 || out.Emission[5] != 0 {
				t.Fatalf("the minority's miner has incentive %d and earns %d", out.Incentive[5], out.Emission[5])
			}
			if !in.Yuma3 && out.Dividends[2] > out.StakeWeight[2]+2 {
				t.Fatalf("the minority's dividends are %d, its stake %d", out.Dividends[2], out.StakeWeight[2])
			}
			in.Bonds = out.Bonds
			in.Block += 10
		}
	})
}

// idle is a subnet in which nothing ever happened.
func idle(n int) Input {
	return Input{Params: Params{Owner: -1}, RegisteredAt: make([]uint64, n), LastUpdate: make([]uint64, n), AlphaStake: make([]uint64, n),
		TaoStake: make([]uint64, n), Permit: make([]bool, n), Weights: make([][]Entry, n), Bonds: make([][]Entry, n)}
}

func TestRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Input)
		want   error
	}{
		"nothing":                              {func(*Input) {}, nil},
		"nobody":                               {func(in *Input) { *in = Input{} }, nil},
		"liquid alpha, which is part of Yuma3": {func(in *Input) { in.LiquidAlpha = true }, nil},
		"short stakes":                         {func(in *Input) { in.AlphaStake = in.AlphaStake[:1] }, ErrInput},
		"short permits":                        {func(in *Input) { in.Permit = nil }, ErrInput},
		"long weights":                         {func(in *Input) { in.Weights = make([][]Entry, 3) }, ErrInput},
		"short commits":                        {func(in *Input) { in.EarliestCommit = make([]uint64, 1) }, ErrInput},
		"rules of tomorrow":                    {func(in *Input) { in.Rules = 2 }, ErrInput},
		"more neurons than uids":               {func(in *Input) { *in = idle(maxNeurons + 1) }, ErrInput},
		"child out of range":                   {func(in *Input) { in.Children = []Child{{0, 2, 1}} }, ErrInput},
		"children in range":                    {func(in *Input) { in.Children = []Child{{0, 1, 1}, {1, 0, 1}} }, nil},
		"parent out of range":                  {func(in *Input) { in.Children = []Child{{2, 0, 1}} }, ErrInput},
		"negative parent":                      {func(in *Input) { in.Children = []Child{{-1, 0, 1}} }, ErrInput},
		"negative child":                       {func(in *Input) { in.Children = []Child{{0, -1, 1}} }, ErrInput},
	} {
		in := idle(2)
		c.change(&in)
		if _, err := Epoch(in); !errors.Is(err, c.want) || err != nil && c.want == nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
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

// Two entries of one row for one neuron, which no chain stores: in the median and in weights between clipped and not the
// later counts, in sums both do. Worked by hand.
func TestTwoEntriesForOne(t *testing.T) {
	in := Input{Params: Params{Tempo: 10, Kappa: 32767, BondsMovingAverage: 900000, BondsPenalty: 65535, ActivityCutoff: 1000, MaxValidators: 64,
		Owner: -1, Emission: 1000, Yuma3: true}, Block: 100, RegisteredAt: make([]uint64, 4), LastUpdate: []uint64{90, 90, 0, 0},
		AlphaStake: []uint64{300, 200, 0, 0}, TaoStake: make([]uint64, 4), Permit: []bool{true, true, false, false},
		Weights: [][]Entry{{{2, 100}, {2, 300}, {3, 400}}, {{3, 100}, {2, 0}, {2, 100}}, nil, nil}, Bonds: make([][]Entry, 4)}
	out, err := Epoch(in)
	if err != nil {
		t.Fatal(err)
	}
	// 3/5 of the stake say 3/8 (not 1/8) for uid 2, all say 1/2 for uid 3
	equal(t, "consensus", out.Consensus, []uint16{0, 0, 24575, 32767})
	equal(t, "trust", out.VTrust, []uint16{65535, 57343, 0, 0}) // 1/8 + 3/8 + 1/2, 3/8 + 1/2
	// ranks: 3/5·1/2 + 2/5·3/8 = 9/20 and 1/2
	equal(t, "incentive", out.Incentive, []uint16{0, 0, 31042, 34492})
	equal(t, "bonds", out.Bonds[0], []Entry{{2, 3276}, {3, 3276}}) // a tenth of 1/8 + 3/8
	in.BondsPenalty = 1
	if out, err = Epoch(in); err != nil {
		t.Fatal(err)
	}
	equal(t, "bonds with a small penalty", out.Bonds[0], []Entry{{2, 2457}, {3, 3276}}) // a tenth of 3/8
}

// A tie that only the last bits decide: active stake is normalised once more for the median, though it is a share already.
func TestMedianNormalisesAgain(t *testing.T) {
	in := idle(8)
	in.Params = Params{Tempo: 10, Kappa: 32767, ActivityCutoff: 1000, MaxValidators: 64, Owner: -1}
	in.Block, in.AlphaStake = 100, []uint64{568906982, 112628349, 65146198, 181022357, 61350997, 148776444, 0, 0}
	for i := range 6 {
		in.LastUpdate[i], in.Permit[i], in.Weights[i] = 90, true, []Entry{{6, 1}, {7, 3}}
	}
	in.Weights[0] = []Entry{{6, 3}, {7, 1}}
	out, err := Epoch(in)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "consensus", out.Consensus[6:], []uint16{49151, 49151})
	equal(t, "the twin's consensus", out.Consensus, twin(in, slowKit()).Consensus)
}
