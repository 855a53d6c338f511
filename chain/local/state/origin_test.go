package state

import (
	"errors"
	"testing"

	"sn3/chain"
	"sn3/chain/local/beacon"
)

// A network that begins with another one's state has all of it, under its own name and with its own validators; and with no
// state but the one that its genesis names.
func TestInherit(t *testing.T) {
	old, stored := machine(t), disk{}
	stored.keep(t, next(old, tx(t, 4, 0, register())))
	for old.Height() < 30 {
		stored.keep(t, next(old))
	}
	copied := func() *State {
		s, err := stored.restore(genesis(t))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	heir := func(network string) *Genesis {
		g, err := old.Heir(network)
		if err != nil {
			t.Fatal(err)
		}
		if g.BeaconKey, err = beacon.Public(secret); err != nil {
			t.Fatal(err)
		}
		g.Validators = []Validator{{Key: chain.Hash{7}}}
		return g
	}
	for name, change := range map[string]func(*Genesis){
		"another hash":    func(g *Genesis) { g.From = &Origin{30, chain.Hash{1}} },
		"another block":   func(g *Genesis) { g.From = &Origin{29, g.From.AppHash} },
		"no state":        func(g *Genesis) { g.From = nil },
		"a parameter":     func(g *Genesis) { g.Params.Kappa++ },
		"another owner":   func(g *Genesis) { g.Owner[0] ^= 1 },
		"accounts again":  func(g *Genesis) { g.Accounts = []Account{{chain.Coldkey{1}, 1}} },
		"earlier rules":   func(g *Genesis) { g.Rules-- },
		"block 0":         func(g *Genesis) { g.From = &Origin{0, g.From.AppHash} },
		"another run":     func(g *Genesis) { r := *old.run; r.Tempo++; g.Run = r.Encode() },
		"its own network": func(g *Genesis) { *g = *genesis(t) },
	} {
		g := heir("test")
		change(g)
		if _, err := copied().Inherit(g); !errors.Is(err, ErrOrigin) {
			t.Errorf("%s: %v", name, err)
		}
	}

	g, s := heir("heir"), copied()
	s.keys = append(s.keys, &beacon.Key{From: 20, Threshold: 1}) // a later key of the old network
	s.dealings[dealingID{20, 0}] = []byte{1}
	kvs, err := s.Inherit(g)
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	for _, kv := range kvs {
		if (kv.Key[0] == 'k' || kv.Key[0] == 'e') && kv.Value == nil {
			gone++
		}
		if kv.Value == nil {
			delete(stored, string(kv.Key))
		} else {
			stored[string(kv.Key)] = kv.Value
		}
	}
	if gone != 2 || len(s.BeaconKeys()) != 1 {
		t.Errorf("%d of a key and a dealing are gone; %d keys", gone, len(s.BeaconKeys()))
	}
	b, err := stored.restore(g)
	if err != nil {
		t.Fatal(err)
	}
	same(t, s, b)
	if v := b.Validators(); len(v) != 1 || v[0].Key != (chain.Hash{7}) || b.Height() != 30 || b.AppHash() == old.AppHash() || b.Supply() != old.Supply() {
		t.Errorf("validators %+v, height %d", v, b.Height())
	}
	if r := next(b, tx(t, 5, 0, register())); r.Codes[0] == 0 {
		t.Error("it takes a transaction of the old network")
	}
	if _, err := stored.restore(genesis(t)); !errors.Is(err, ErrDamaged) {
		t.Errorf("taken for the old network's: %v", err)
	}
}
