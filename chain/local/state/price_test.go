package state

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local"
)

// power is 2^(-num/den) with 200 bits, by square roots: exact for what the test needs.
func power(num, den uint64) *big.Float {
	out := new(big.Float).SetPrec(200).SetInt64(1)
	root := new(big.Float).SetPrec(200).SetFloat64(0.5)
	rest := new(big.Int).SetUint64(num % den)
	for range 150 {
		root.Sqrt(root)
		if rest.Lsh(rest, 1).Cmp(new(big.Int).SetUint64(den)) >= 0 {
			rest.Sub(rest, new(big.Int).SetUint64(den))
			out.Mul(out, root)
		}
	}
	return out.SetMantExp(out, -int(num/den))
}

// The price decays as the exact power does, to a rao; roots are what they say.
func TestDecay(t *testing.T) {
	root := new(big.Float).SetPrec(200).SetFloat64(0.5)
	for i, got := range roots {
		root.Sqrt(root)
		if want, _ := new(big.Float).SetMantExp(root, 64).Uint64(); got != want {
			t.Errorf("root %d is %x, want %x", i, got, want)
		}
	}
	for _, c := range []struct {
		a            chain.Amount
		blocks, half uint64
		want         chain.Amount
	}{{1000, 0, 360, 1000}, {1000, 360, 360, 500}, {1000, 720, 360, 250}, {1_000_000_000, 180, 360, 707_106_781}, {1_000_000_000, 1, 360, 998_076_443}, {1, 1, 1, 0},
		{1 << 62, 62, 1, 1}, {1 << 62, 64, 1, 0}, {1 << 62, 1 << 63, 1, 0}, {1 << 62, 1<<64 - 1, 1<<64 - 1, 1 << 61}, {0, 5, 7, 0}} {
		if got := decayed(c.a, c.blocks, c.half); got != c.want {
			t.Errorf("%d after %d blocks of %d: %d, want %d", c.a, c.blocks, c.half, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a := chain.Amount(rapid.Uint64Range(0, 1<<55).Draw(t, "amount"))
		half := rapid.Uint64Range(1, 1<<40).Draw(t, "half life")
		blocks := rapid.Uint64Range(0, 70*half).Draw(t, "blocks")
		exact := power(blocks, half)
		exact.Mul(exact, new(big.Float).SetPrec(200).SetUint64(uint64(a)))
		want, _ := exact.Uint64()
		if got := uint64(decayed(a, blocks, half)); got+1 < want || got > want+1 {
			t.Fatalf("%d after %d blocks of %d: %d, exactly %s", a, blocks, half, got, exact)
		}
		if later := decayed(a, blocks+1, half); later > decayed(a, blocks, half) {
			t.Fatalf("%d after %d blocks of %d rises", a, blocks, half)
		}
	})
}

// Every registration makes the next one 26 % dearer, time makes it cheaper, and both stay within the bounds.
func TestPrice(t *testing.T) {
	g := genesis(t)
	g.Params.Burn, g.Params.MaxBurn, g.Params.MinBurn, g.Params.MaxSeats = 1_000_000, 1_500_000, 400_000, 20
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	if s.Price() != 1_000_000 {
		t.Errorf("in the beginning %d", s.Price())
	}
	until(s, 359)
	r := next(s, tx(t, 4, 0, local.Register{Limit: 499_999}), tx(t, 4, 1, local.Register{Limit: 500_000}), tx(t, 5, 0, register()))
	if r.Codes[0] != local.CodePrice || r.Codes[1] != local.CodeOK || r.Codes[2] != local.CodeOK || r.Events[0].Amount != 500_000 || r.Events[1].Amount != 630_000 {
		t.Errorf("codes %v, events %+v", r.Codes, r.Events)
	}
	if s.Price() != 793_800 {
		t.Errorf("after two registrations %d", s.Price())
	}
	until(s, 720)
	if s.Price() != 400_000 {
		t.Errorf("half a life later %d, the least is 400000", s.Price())
	}
	s.raise(1_400_000)
	if s.Price() != 1_500_000 {
		t.Errorf("beyond the most: %d", s.Price())
	}
	if m := s.Supply(); m.Burned < 1_130_000+3*s.params.Fee || m.Burned > 1_130_000+3*s.params.Fee+100*m.Emitted/chain.RaoPerCoin { // less than 100 rao of each block are rounding
		t.Errorf("burned %d", m.Burned)
	}
}

// Emission is halved when half of what can be is issued, and at every half of the rest, to the rao; nothing is emitted beyond.
func TestHalving(t *testing.T) {
	const most = 21_000_000 * chain.RaoPerCoin
	for _, c := range []struct{ rest, want chain.Amount }{
		{most, 1 << 20}, {most/2 + 1, 1 << 20}, {most / 2, 1 << 19}, {most/4 + 1, 1 << 19}, {most / 4, 1 << 18}, {most / 8, 1 << 17}, {most/8 + 1, 1 << 18}, {1, 0}, {most >> 20, 1},
	} {
		if got := halved(1<<20, c.rest, most); got != c.want {
			t.Errorf("with %d of %d to come %d, want %d", c.rest, most, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) { // the definition: 2^k is the largest power not above most/rest
		most := rapid.Uint64Range(1, 1<<63-1).Draw(t, "most")
		rest := rapid.Uint64Range(1, most).Draw(t, "rest")
		k := new(big.Int).Quo(new(big.Int).SetUint64(most), new(big.Int).SetUint64(rest)).BitLen() - 1
		if got, want := halved(1<<63-1, chain.Amount(rest), chain.Amount(most)), chain.Amount(1<<63-1)>>k; got != want {
			t.Fatalf("%d, want %d", got, want)
		}
	})
	g := genesis(t)
	g.Params.MaxSupply = 530*chain.RaoPerCoin + 1000 // genesis holds 530 coins
	g.Params.BlockEmission = 900 << 19               // 530 of 530.000001 coins: shifted by 29
	s, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	until(s, 3000)
	if m := s.Supply(); m.Emitted > 1000 || m.Issued > g.Params.MaxSupply {
		t.Errorf("%+v", m)
	}
	g = genesis(t)
	g.Params.MaxSupply, g.Params.BlockEmission = 1060*chain.RaoPerCoin, 3*chain.RaoPerCoin // the first half is there
	if s, err = New(g); err != nil {
		t.Fatal(err)
	}
	next(s)
	if m := s.Supply(); m.Emitted != 3*chain.RaoPerCoin/2 {
		t.Errorf("beyond the first half a block emits %s", m.Emitted)
	}
	next(s, tx(t, 0, 0, local.SetParam{Name: "max_supply", Value: 1})) // less than there is: nothing more
	before := s.Supply().Emitted
	until(s, 10)
	if m := s.Supply(); m.Emitted != before {
		t.Errorf("%s emitted beyond all", m.Emitted-before)
	}
}
