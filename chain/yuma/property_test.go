package yuma

import (
	"errors"
	"math"
	"math/big"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// numbers are drawn near zero, near one and at the ends of the range.
func drawFixed(t *rapid.T, name string) fixed {
	return fixed(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-1<<34, 1<<34), rapid.Int64Range(-3, 3),
		rapid.SampledFrom([]int64{math.MinInt64, math.MinInt64 + 1, math.MaxInt64, 1 << 32, -1 << 32})).Draw(t, name))
}

func clamp(x *big.Int) fixed {
	if x.IsInt64() {
		return fixed(x.Int64())
	}
	return saturated(x.Sign() < 0)
}

// The arithmetic against unbounded integers: sums exact, products rounded down, quotients towards zero, all saturating.
func TestFixedAgainstBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawFixed(t, "a"), drawFixed(t, "b")
		x, y := big.NewInt(int64(a)), big.NewInt(int64(b))
		product := new(big.Int).Mul(x, y)
		want := map[string][2]fixed{
			"add": {a.add(b), clamp(new(big.Int).Add(x, y))},
			"sub": {a.sub(b), clamp(new(big.Int).Sub(x, y))},
			"mul": {a.mul(b), clamp(product.Rsh(product, 32))}, // Rsh rounds down
			"div": {a.div(b), 0},
		}
		if b != 0 {
			want["div"] = [2]fixed{a.div(b), clamp(new(big.Int).Quo(new(big.Int).Lsh(x, 32), y))}
		}
		for op, w := range want {
			if w[0] != w[1] {
				t.Fatalf("%d %s %d is %d, want %d", a, op, b, w[0], w[1])
			}
		}
		part := new(big.Int).Rsh(new(big.Int).Mul(x, big.NewInt(u16Full)), 32)
		if got := big.NewInt(int64(a.proportion())); got.Cmp(part) != 0 && a >= 0 && a <= one {
			t.Fatalf("%d is the proportion %s, want %s", a, got, part)
		}
	})
}

// drawInput is a subnet of v validators (uids below v) and the rest miners; no two stakes are equal.
func drawInput(t *rapid.T) (in Input, v int) {
	v = rapid.IntRange(1, 5).Draw(t, "validators")
	n := v + rapid.IntRange(1, 6).Draw(t, "miners")
	u16 := rapid.Uint16()
	in = Input{Block: 500, Params: Params{Tempo: uint64(rapid.IntRange(1, 100).Draw(t, "tempo")), Kappa: u16.Draw(t, "kappa"),
		BondsMovingAverage: rapid.Uint64Range(0, 1_000_000).Draw(t, "average"), BondsPenalty: rapid.SampledFrom([]uint16{0, 1, 30000, 65535}).Draw(t, "penalty"),
		ActivityCutoff: uint64(rapid.IntRange(0, 500).Draw(t, "cutoff")), MaxValidators: rapid.IntRange(0, n).Draw(t, "permits"), Owner: rapid.IntRange(-1, n-1).Draw(t, "owner"),
		Emission: rapid.Uint64().Draw(t, "emission")}, TaoStake: make([]uint64, n), RegisteredAt: make([]uint64, n), LastUpdate: make([]uint64, n),
		AlphaStake: make([]uint64, n), Permit: make([]bool, n), Weights: make([][]Entry, n), Bonds: make([][]Entry, n)}
	for i := range n {
		in.RegisteredAt[i] = rapid.Uint64Range(0, 499).Draw(t, "registered")
		in.LastUpdate[i] = rapid.Uint64Range(0, 500).Draw(t, "updated")
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
		out := mustEpoch(t, in)
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

// renumbered changes the uids inside rows. The order of a row's entries must not matter either: it is kept.
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
// larger part of the dividends than their part of the stake.
func TestMajorityDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cabal := rapid.Uint64Range(1, 1<<40).Draw(t, "cabal")
		honest := cabal + cabal/100 + rapid.Uint64Range(1, 1<<40).Draw(t, "honest")
		first := rapid.Uint64Range(1, honest).Draw(t, "first")
		good := []Entry{{3, rapid.Uint16Range(1, 65535).Draw(t, "good 3")}, {4, rapid.Uint16Range(1, 65535).Draw(t, "good 4")}}
		bad := []Entry{{3, rapid.Uint16().Draw(t, "bad 3")}, {5, rapid.Uint16Range(1, 65535).Draw(t, "bad 5")}}
		in := Input{Params: Params{Tempo: 10, Kappa: 32767, BondsMovingAverage: 900000, BondsPenalty: 65535, ActivityCutoff: 1000, MaxValidators: 64, Owner: -1,
			Emission: 1e12}, Block: 100, RegisteredAt: make([]uint64, 6), LastUpdate: []uint64{90, 90, 90, 0, 0, 0},
			AlphaStake: []uint64{first, honest - first, cabal, 0, 0, 0}, TaoStake: make([]uint64, 6), Permit: []bool{true, true, true, false, false, false},
			Weights: [][]Entry{good, good, bad, nil, nil, nil}, Bonds: make([][]Entry, 6)}
		for range 3 { // bonds build up
			out := mustEpoch(t, in)
			if out.Incentive[5] != 0 || out.Emission[5] != 0 {
				t.Fatalf("the minority's miner has incentive %d and earns %d", out.Incentive[5], out.Emission[5])
			}
			if out.Dividends[2] > out.StakeWeight[2]+2 {
				t.Fatalf("the minority's dividends are %d, its stake %d", out.Dividends[2], out.StakeWeight[2])
			}
			in.Bonds = out.Bonds
			in.Block += 10
		}
	})
}

func TestRefuses(t *testing.T) {
	good := func() Input {
		return Input{Params: Params{Owner: -1}, RegisteredAt: make([]uint64, 2), LastUpdate: make([]uint64, 2), AlphaStake: make([]uint64, 2), TaoStake: make([]uint64, 2),
			Permit: make([]bool, 2), Weights: make([][]Entry, 2), Bonds: make([][]Entry, 2)}
	}
	for name, c := range map[string]struct {
		change func(*Input)
		want   error
	}{
		"nothing":                              {func(*Input) {}, nil},
		"nobody":                               {func(in *Input) { *in = Input{} }, nil},
		"liquid alpha, which is part of Yuma3": {func(in *Input) { in.LiquidAlpha = true }, nil},
		"Yuma3":                                {func(in *Input) { in.Yuma3 = true }, ErrUnsupported},
		"short stakes":                         {func(in *Input) { in.AlphaStake = in.AlphaStake[:1] }, ErrInput},
		"short permits":                        {func(in *Input) { in.Permit = nil }, ErrInput},
		"long weights":                         {func(in *Input) { in.Weights = make([][]Entry, 3) }, ErrInput},
		"child out of range":                   {func(in *Input) { in.Children = []Child{{0, 2, 1}} }, ErrInput},
		"negative parent":                      {func(in *Input) { in.Children = []Child{{-1, 0, 1}} }, ErrInput},
	} {
		in := good()
		c.change(&in)
		if _, err := Epoch(in); !errors.Is(err, c.want) || err != nil && c.want == nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func BenchmarkEpoch256(b *testing.B) {
	n := 256
	in := Input{Params: Params{Tempo: 10, Kappa: 32767, BondsMovingAverage: 900000, BondsPenalty: 65535, ActivityCutoff: 1000, MaxValidators: 64, Owner: -1, Emission: 1e12},
		Block: 100, RegisteredAt: make([]uint64, n), LastUpdate: make([]uint64, n), AlphaStake: make([]uint64, n), TaoStake: make([]uint64, n),
		Permit: make([]bool, n), Weights: make([][]Entry, n), Bonds: make([][]Entry, n)}
	for i := range 16 {
		in.LastUpdate[i], in.AlphaStake[i], in.Permit[i] = 90, uint64(1000+i), true
		for j := range n {
			in.Weights[i] = append(in.Weights[i], Entry{uint16(j), uint16(j * (i + 1))})
		}
	}
	for b.Loop() {
		if _, err := Epoch(in); err != nil {
			b.Fatal(err)
		}
	}
}
