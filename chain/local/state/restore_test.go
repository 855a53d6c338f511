package state

import (
	"bytes"
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon"
)

// disk is what a node would have stored.
type disk map[string][]byte

func (d disk) keep(t testing.TB, r Result) {
	t.Helper()
	for i, e := range r.Dirty {
		if i > 0 && string(r.Dirty[i-1].Key) >= string(e.Key) {
			t.Fatalf("entries are not in ascending order: %x before %x", r.Dirty[i-1].Key, e.Key)
		}
		if e.Value == nil {
			delete(d, string(e.Key))
		} else {
			d[string(e.Key)] = slices.Clone(e.Value)
		}
	}
}

func (d disk) restore(g *Genesis) (*State, error) {
	return Restore(g, func(yield func(k, v []byte) bool) {
		for k, v := range d {
			kb, vb := []byte(k), slices.Clone(v)
			ok := yield(kb, vb)
			clear(kb)
			clear(vb) // a database takes its memory back
			if !ok {
				return
			}
		}
	})
}

// inOrder is a copy with sorted lists.
func inOrder(days map[chain.Block][]chain.Coldkey) map[chain.Block][]chain.Coldkey {
	out := maps.Clone(days)
	for b, list := range out {
		out[b] = slices.SortedFunc(slices.Values(list), func(a, b chain.Coldkey) int { return bytes.Compare(a[:], b[:]) })
	}
	return out
}

// same compares all that two machines answer.
func same(t testing.TB, a, b *State) {
	t.Helper()
	if a.meta != b.meta || a.params != b.params || a.tree.sum() != b.tree.sum() || !reflect.DeepEqual(a.seats, b.seats) || !maps.Equal(a.accounts, b.accounts) || !maps.Equal(a.hotkeys, b.hotkeys) || !reflect.DeepEqual(a.shares, b.shares) || !reflect.DeepEqual(a.unbonding, b.unbonding) || !reflect.DeepEqual(a.stakers, b.stakers) || !reflect.DeepEqual(inOrder(a.paydays), inOrder(b.paydays)) || !reflect.DeepEqual(a.journal, b.journal) || !reflect.DeepEqual(a.records, b.records) || !reflect.DeepEqual(a.commits, b.commits) ||
		!reflect.DeepEqual(a.snapshots, b.snapshots) || !reflect.DeepEqual(a.selections, b.selections) || !reflect.DeepEqual(a.beacons, b.beacons) || !reflect.DeepEqual(a.validators, b.validators) || a.validatorsAt != b.validatorsAt || !maps.Equal(a.byHotkey, b.byHotkey) ||
		!reflect.DeepEqual(a.keys, b.keys) || !reflect.DeepEqual(a.making, b.making) || a.tried != b.tried || !reflect.DeepEqual(a.dealings, b.dealings) {
		t.Fatalf("machines differ at height %d", a.Height())
	}
}

// Whatever happens, money is conserved. Two machines give the same results to the byte, the second one stopped and restored on the way.
func TestConservedAndRestorable(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := machine(t), machine(t)
		stored := disk{}
		restores := map[int]bool{rapid.IntRange(1, 33).Draw(rt, "restore"): true, rapid.IntRange(1, 33).Draw(rt, "again"): true}
		sign := chain.Block(rapid.IntRange(1, 33).Draw(rt, "beacon")) // a pairing costs more than a block
		for i := range 34 {
			in := Block{Height: a.Height() + 1, Txs: randomBlock(rt, a)}
			if in.Height == sign {
				in.Beacons = []Beacon{{chain.Round(in.Height - 1), mustSign(t, chain.Round(in.Height-1))}}
			}
			ra, rb := a.Finalize(in), b.Finalize(in)
			if !reflect.DeepEqual(ra, rb) {
				rt.Fatalf("block %d: one machine gives %s, the other %s", i, ra.AppHash.Short(), rb.AppHash.Short())
			}
			for _, raw := range in.Txs {
				clear(raw) // a block's memory is its maker's
			}
			for _, x := range in.Beacons {
				clear(x.Signature)
			}
			audit(rt, a)
			stored.keep(t, rb)
			if restores[i] {
				var err error
				if b, err = stored.restore(genesis(t)); err != nil {
					rt.Fatal(err)
				}
				same(t, a, b)
			}
		}
	})
}

func mustSign(t testing.TB, r chain.Round) []byte {
	t.Helper()
	sig, err := beacon.Sign(secret, r)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// Through pruning the store holds exactly what the machine holds.
func TestRestoreAfterPruning(t *testing.T) {
	s, stored := machine(t), disk{}
	for s.Height() < 200 {
		in := Block{Height: s.Height() + 1}
		if in.Height%40 == 1 {
			in.Beacons = []Beacon{{chain.Round(in.Height - 1), mustSign(t, chain.Round(in.Height-1))}}
		}
		stored.keep(t, s.Finalize(in))
	}
	b, err := stored.restore(genesis(t))
	if err != nil {
		t.Fatal(err)
	}
	same(t, s, b)
	old := maps.Clone(stored)
	old[historyKey(s.Height()-s.span())] = encodeHistory([]former{{chain.Coldkey{1}, 2}})
	if old.rehash(); len(s.journal.of) == 0 {
		t.Fatal("nothing of history is kept")
	}
	if _, err := old.restore(genesis(t)); !errors.Is(err, ErrDamaged) {
		t.Errorf("balances of a block that is too old: %v", err)
	}
	if n := len(s.snapshots) + len(s.selections) + len(s.beacons) + 6 + len(s.validators) + len(s.seats) + len(s.accounts) + len(s.records) + len(s.journal.of) + len(s.hotkeys) + s.stakes; len(stored) != n {
		t.Errorf("%d entries are stored; %d snapshots, %d selections, %d beacons are kept", len(stored), len(s.snapshots), len(s.selections), len(s.beacons))
	}
}

func TestRestoreRefuses(t *testing.T) {
	s, good := machine(t), disk{}
	good.keep(t, next(s, tx(t, 2, 0, register()), tx(t, 4, 0, register())))
	good.keep(t, next(s))
	if _, err := good.restore(genesis(t)); err != nil {
		t.Fatal(err)
	}
	seat4 := seatKey(4)
	for name, c := range map[string]struct {
		change func(disk)
		want   error
	}{
		"no height":                     {func(d disk) { delete(d, metaKey) }, ErrDamaged},
		"no parameters":                 {func(d disk) { delete(d, paramsKey) }, ErrDamaged},
		"no genesis":                    {func(d disk) { delete(d, genesisKey) }, ErrDamaged},
		"another genesis":               {func(d disk) { d[genesisKey] = make([]byte, 32) }, ErrDamaged},
		"another hash":                  {func(d disk) { d[appHashKey] = make([]byte, 32) }, ErrDamaged},
		"an account less":               {func(d disk) { delete(d, accountKey(chain.Coldkey(account0(3)))) }, ErrDamaged},
		"other money":                   {func(d disk) { d[accountKey(chain.Coldkey(account0(3)))] = encodeAccount(account{1, 0}) }, ErrDamaged},
		"later rules":                   {func(d disk) { d[metaKey] = encodeMeta(meta{Rules: NewestRules + 1}) }, ErrVersion},
		"a parameter beyond its bounds": {func(d disk) { d[paramsKey] = make([]byte, len(d[paramsKey])) }, ErrDamaged},
		"too few parameters":            {func(d disk) { d[paramsKey] = d[paramsKey][8:] }, ErrDamaged},
		"no hash":                       {func(d disk) { delete(d, appHashKey) }, ErrDamaged},
		"short hash":                    {func(d disk) { d[appHashKey] = make([]byte, 31) }, ErrDamaged},
		"another version":               {func(d disk) { d[metaKey] = []byte(`{"height":2}`) }, ErrVersion},
		"of another version throughout": {func(d disk) {
			for k := range d {
				d[k] = []byte(`{"balance":1}`)
			}
		}, ErrVersion},
		"a gap between seats":   {func(d disk) { d[seatKey(5)] = d[seat4]; delete(d, seat4) }, ErrDamaged},
		"a hotkey in two seats": {func(d disk) { d[seatKey(5)] = d[seat4] }, ErrDamaged},
		"too many seats":        {func(d disk) { d[seatKey(6)] = d[seat4] }, ErrDamaged},
		"a truncated seat":      {func(d disk) { d[seat4] = d[seat4][:50] }, ErrDamaged},
		"an unknown key":        {func(d disk) { d["x12345678"] = []byte{1} }, ErrDamaged},
		"an empty key":          {func(d disk) { d[""] = []byte{1} }, ErrDamaged},
		"a short beacon":        {func(d disk) { d[roundKey(1)] = []byte{1} }, ErrDamaged},
		"balances of genesis":   {func(d disk) { d[historyKey(0)] = d[historyKey(1)]; d.rehash() }, ErrDamaged},
		"balances to come":      {func(d disk) { d[historyKey(3)] = d[historyKey(1)]; d.rehash() }, ErrDamaged},
	} {
		d := maps.Clone(good)
		c.change(d)
		if _, err := d.restore(genesis(t)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if fresh, err := (disk{}).restore(genesis(t)); err != nil || fresh.Height() != 0 || fresh.AppHash() != machine(t).AppHash() {
		t.Errorf("an empty store is not the beginning: %v", err)
	}
}

// rehash makes the stored hash that of the entries: what is damaged then is only to be seen in the entries themselves.
func (d disk) rehash() {
	var t tree
	for k, v := range d {
		if k != appHashKey {
			t.set(k, v)
		}
	}
	sum := t.sum()
	d[appHashKey] = sum[:]
}

// No stored bytes may panic a node that starts, nor the blocks after it, not even if their hash is right.
func FuzzRestore(f *testing.F) {
	g := genesis(f)
	s, base := machine(f), disk{}
	stake := local.AddStake{Hotkey: account0(0), Amount: chain.RaoPerCoin}
	for _, txs := range [][][]byte{{tx(f, 4, 0, register()), tx(f, 5, 0, stake)}, {tx(f, 5, 1, local.RemoveStake(stake)), tx(f, 0, 0, local.SetParam{Name: "unstake_delay", Value: 5})}} {
		r := next(s, txs...)
		base.keep(f, r)
		for _, e := range r.Dirty {
			f.Add(e.Key, e.Value)
		}
	}
	ops := []local.Op{stake, local.RemoveStake{Hotkey: account0(0), Amount: local.WholeStake}, register(), local.Transfer{To: chain.Coldkey(account0(0)), Amount: 1}}
	f.Fuzz(func(t *testing.T, k, v []byte) {
		d := maps.Clone(base)
		d[string(k)] = v
		if string(k) != appHashKey {
			d.rehash()
		}
		s, err := d.restore(g)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		for i := range 20 {
			_, nonce := s.Account(chain.Coldkey(account0(5)))
			s.Finalize(Block{Height: s.Height() + 1, Txs: [][]byte{tx(t, 5, nonce, ops[i%len(ops)])}})
		}
	})
}
