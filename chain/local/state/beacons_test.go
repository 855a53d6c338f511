package state

import (
	"errors"
	"slices"
	"testing"

	"sn3/chain"
	"sn3/chain/local"
)

func sigs(t testing.TB, rounds ...chain.Round) (out []Beacon) {
	for _, r := range rounds {
		out = append(out, Beacon{r, mustSign(t, r)})
	}
	return out
}

// Rounds that no block brought in time come later, a few per block, the newest always among them.
func TestLateBeacons(t *testing.T) {
	s := machine(t)
	until(s, 40)
	if _, err := s.Beacon(7); !errors.Is(err, chain.ErrNotYet) {
		t.Errorf("a late round: %v", err)
	}
	all := map[chain.Round]bool{}
	for len(all) < int(s.Height()) {
		h := s.Height() + 1
		want := s.Missing(h)
		if len(want) == 0 || len(want) > MaxBeacons || !slices.IsSorted(want) || want[len(want)-1] != chain.Round(h-1) {
			t.Fatalf("block %d should bring %v", h, want)
		}
		list := sigs(t, want...)
		if err := s.CheckBeacons(h, list); err != nil {
			t.Fatal(err)
		}
		s.Finalize(Block{Height: h, Beacons: list})
		for _, r := range want {
			all[r] = true
			if _, err := s.Beacon(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := s.Missing(s.Height() + 1); len(got) != 1 {
		t.Errorf("still missing: %v", got)
	}
	if got := s.Missing(0); got != nil {
		t.Errorf("before the first block: %v", got)
	}
}

// What a proposer may not put into a block; executed all the same it changes nothing.
func TestCheckBeacons(t *testing.T) {
	s := machine(t)
	until(s, 20)
	s.Finalize(Block{Height: 21, Beacons: sigs(t, 3)})
	bad := sigs(t, 5)
	bad[0].Round = 6
	rounds := make([]chain.Round, MaxBeacons+1)
	for i := range rounds {
		rounds[i] = chain.Round(i + 4)
	}
	for name, x := range map[string]struct {
		list []Beacon
		ok   bool
	}{
		"none":                   {nil, true},
		"the newest":             {sigs(t, 21), true},
		"a late one":             {sigs(t, 7), true},
		"both":                   {sigs(t, 7, 21), true},
		"the most":               {sigs(t, rounds[:MaxBeacons]...), true},
		"too many":               {sigs(t, rounds...), false},
		"one that is known":      {sigs(t, 3), false},
		"of the block itself":    {sigs(t, 22), false},
		"of the future":          {sigs(t, 1<<62), false},
		"twice":                  {sigs(t, 7, 7), false},
		"not ascending":          {sigs(t, 8, 7), false},
		"another round's":        {bad, false},
		"one good and one wrong": {append(sigs(t, 4), bad...), false},
		"short":                  {[]Beacon{{7, make([]byte, 47)}}, false},
		"infinity":               {[]Beacon{{7, append([]byte{0xC0}, make([]byte, 47)...)}}, false},
		"no point":               {[]Beacon{{7, make([]byte, 48)}}, false},
	} {
		if err := s.CheckBeacons(22, x.list); (err == nil) != x.ok || err != nil && !errors.Is(err, ErrBeacons) {
			t.Errorf("%s: %v", name, err)
		}
	}
	crowd := machine(t)
	until(crowd, 20)
	if crowd.Finalize(Block{Height: 21, Beacons: sigs(t, rounds...)}); len(crowd.beacons) != MaxBeacons {
		t.Errorf("a block brought %d rounds", len(crowd.beacons))
	}
	before := len(s.beacons)
	s.Finalize(Block{Height: 22, Beacons: append(bad, Beacon{22, mustSign(t, 22)}, Beacon{7, nil}, Beacon{3, mustSign(t, 3)})})
	if len(s.beacons) != before {
		t.Errorf("%d beacons, before %d", len(s.beacons), before)
	}
	until(s, 1000)
	if err := s.CheckBeacons(1001, sigs(t, 21)); !errors.Is(err, ErrBeacons) {
		t.Errorf("a round that is forgotten: %v", err)
	}
	if r := s.Missing(1001); r[0] != s.lowest(1001) || s.wants(1001, r[0]-1) {
		t.Errorf("rounds %v", r)
	}
}

// Late rounds take turns, so that those which nobody can sign keep none waiting.
func TestLateTakesTurns(t *testing.T) {
	s := machine(t)
	until(s, 40)
	seen := map[chain.Round]bool{}
	for h := chain.Block(41); h < 41+7; h++ {
		got := s.Late(h, 7)
		if len(got) != 7 || !slices.IsSorted(got) {
			t.Fatal(got)
		}
		for _, r := range got {
			seen[r] = seen[r] || chain.Block(r) < h && s.Wants(h, r)
		}
	}
	if len(seen) < 40 {
		t.Errorf("%d of 41 rounds had their turn", len(seen))
	}
	s.Finalize(Block{Height: 41, Beacons: sigs(t, 3, 40)})
	if got := s.Late(42, 100); len(got) != 40 || slices.Contains(got, 3) {
		t.Errorf("late rounds %v", got)
	}
}

// Keys go when no block may bring a round of theirs any more, and few are made ahead; a machine that is restored has the same ones.
func TestOldKeysGo(t *testing.T) {
	c := meet(t, 1, func(g *Genesis) { g.Params.KeepWindows = 2 })
	c.block(nil)
	var from []chain.Round
	for range 4 {
		from = append(from, c.soon())
		if code := c.announce(from[len(from)-1]); code != local.CodeOK {
			t.Fatal(code.Err())
		}
		m := c.making
		c.block([][]byte{c.dealing(0)})
		c.to(m.end())
		low := c.lowest(c.Height())
		for i, r := range from {
			gone := i+1 < len(from) && from[i+1] <= low
			if k := c.keyAt(r); gone == (k.From == r) || gone == (c.disk[keyKey(r)] != nil) {
				t.Errorf("block %d: the key of round %d is there: %v", c.Height(), r, k.From == r)
			}
		}
		c.to(chain.Block(m.from) + c.span()/2)
	}
	again, err := c.disk.restore(c.gen)
	if err != nil {
		t.Fatal(err)
	}
	if same(t, c.State, again); len(c.keys) != 3 {
		t.Errorf("%d keys of %d are kept", len(c.keys), 1+len(from))
	}
	if _, err := c.BeaconKey(from[0]); !errors.Is(err, chain.ErrPruned) {
		t.Errorf("the key of a round long ago: %v", err)
	}
	if _, err := c.BeaconKey(from[3]); err != nil {
		t.Error(err)
	}

	for n := range maxAhead + 1 {
		at := c.soon() + 1000 + chain.Round(100*n)
		want := local.CodeOK
		if n == maxAhead {
			want = local.CodeBeacon
		}
		if code := c.announce(at); code != want {
			t.Fatalf("key %d ahead: %v", n, code.Err())
		}
		if m := c.making; m != nil {
			c.block([][]byte{c.dealing(0)})
			c.to(m.end())
		}
	}
}
