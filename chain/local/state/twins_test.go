package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local"
)

// answers are all that a machine says of itself, as text.
func answers(t testing.TB, s *State) string {
	t.Helper()
	var out bytes.Buffer
	tell := func(what string, v any, err error) {
		raw, bad := json.Marshal(v)
		if bad != nil {
			t.Fatal(bad)
		}
		fmt.Fprintln(&out, what, string(raw), err)
	}
	rules, then, at := s.Rules()
	tell("head", []any{s.Height(), s.AppHash(), rules, then, at, s.Supply(), s.Price(), s.Size()}, s.Audit())
	tell("params", s.Params(), nil)
	tell("weights", s.Weights(), nil)
	tell("validators", s.Validators(), nil)
	tell("missing", [][]chain.Round{s.Missing(s.Height() + 1), s.Late(s.Height()+1, 7)}, nil)
	tell("keys", []any{s.BeaconStatus(), s.Dealings(s.keys[len(s.keys)-1].From)}, nil)
	for i := range people + 1 {
		k := account0(i)
		balance, nonce := s.Account(chain.Coldkey(k))
		info, err := s.Hotkey(k)
		tell(fmt.Sprint("account ", i), []any{balance, nonce, s.Seated(k), s.Stakes(chain.Coldkey(k)), info}, err)
		for back := range chain.Block(6) {
			b := s.Height() + 1 - min(s.Height(), 31*back)
			old, err := s.BalanceAt(chain.Coldkey(k), b)
			tell("balance", old, err)
		}
	}
	for w := range chain.Window(s.Height()/s.run.Schedule.Length) + 2 {
		sel, err := s.Selection(w)
		tell("selection", sel, err)
		for ph := chain.PhaseSeed; ph <= chain.PhaseApply; ph++ {
			snap, err := s.Snapshot(s.sched.At(w, ph))
			if s.sched.At(w, ph) > s.Height() {
				continue
			}
			tell("snapshot", snap, err)
		}
	}
	for back := range min(s.Height(), RecentBlocks) {
		snap, err := s.Snapshot(s.Height() - back)
		tell("recent", snap, err)
	}
	for back := range s.span() + 3 {
		sig, err := s.BeaconSignature(chain.Round(s.Height() - min(s.Height(), back)))
		tell("beacon", sig, err)
	}
	return out.String()
}

// undoes is what a node keeps beside the entries of a block, before it writes them.
func (d disk) undoes(r Result) []KV {
	list := []KV{}
	for _, e := range r.Dirty {
		part, ok := Shown(e.Key, d[string(e.Key)])
		if ok && d[string(e.Key)] == nil {
			list = append(list, KV{Key: e.Key})
		} else if ok {
			list = append(list, KV{e.Key, slices.Clone(part)})
		}
	}
	return list
}

func render(r Result) string {
	for i, e := range r.Dirty { // a nil value is a deletion, an empty one would be an entry
		if e.Value != nil && len(e.Value) == 0 {
			r.Dirty[i].Value = []byte("empty")
		}
	}
	return fmt.Sprintf("%x %v %v %v %v %x", r.AppHash, r.Codes, r.Spent, r.Events, r.Validators, r.Dirty)
}

// Whatever happens in whatever order, a machine that runs on, one that is restored again and again, one that begins with the
// entries of a later block and one that replays everything give the same results to the byte and the same answers.
func TestMachinesAgree(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for _, seed := range []uint64{everything, seed} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { agree(t, seed, 170) })
	}
}

func agree(t *testing.T, seed uint64, blocks int) {
	r := rand.New(rand.NewPCG(seed, 6))
	w := newWorld(t, 1+seed%2, r.IntN, func(g *Genesis) { g.Params.KeepWindows = 3 }) // a short memory
	b, err := New(w.s.gen)
	if err != nil {
		t.Fatal(err)
	}
	var late *State
	stored, undo, past, results := disk{}, [][]KV{}, []Block{}, []string{}
	joins := blocks/3 + r.IntN(blocks/3)
	for i := range blocks {
		in := w.block(6)
		ra, rb := w.run(in), lent(in, b.Finalize)
		past, results = append(past, in), append(results, render(ra))
		if got := render(rb); got != results[i] {
			t.Fatalf("block %d: the restored machine differs\n%s\n%s", in.Height, got, results[i])
		}
		if late != nil {
			if got := render(lent(in, late.Finalize)); got != results[i] {
				t.Fatalf("block %d: the machine that joined differs\n%s\n%s", in.Height, got, results[i])
			}
		}
		undo = append([][]KV{stored.undoes(rb)}, undo[:min(len(undo), RecentBlocks-1)]...)
		stored.keep(t, rb)
		if i == joins {
			late = restored(t, stored, undo, w.s)
		}
		if r.IntN(20) == 0 {
			b = restored(t, stored, undo, w.s)
		}
	}
	c, err := New(w.s.gen)
	if err != nil {
		t.Fatal(err)
	}
	for i, in := range past {
		if got := render(c.Finalize(in)); got != results[i] {
			t.Fatalf("block %d: the replay differs", in.Height)
		}
	}
	want := answers(t, w.s)
	for name, s := range map[string]*State{"restored": b, "joined": late, "replayed": c} {
		if same(t, w.s, s); answers(t, s) != want {
			t.Errorf("the %s machine answers differently", name)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(w.seen)) {
		t.Log(w.seen[what], what)
	}
	for _, what := range []string{"beacon: " + outcomes[madeKey], "beacon: " + outcomes[madeTooFew], "said: a dealer is out", "beacon: a shared key signs"} {
		if seed == everything && w.seen[what] == 0 {
			t.Errorf("this history should have: %s", what)
		}
	}
}

// everything is a seed whose history has all that can happen to the making of a key.
const everything = 3

// restored is a machine made of stored entries; it answers like s.
func restored(t *testing.T, d disk, undo [][]KV, s *State) *State {
	t.Helper()
	b, err := d.restore(s.gen)
	if err == nil {
		err = b.Recall(undo)
	}
	if err != nil {
		t.Fatal(err)
	}
	if same(t, s, b); answers(t, s) != answers(t, b) {
		t.Fatalf("block %d: a restored machine answers differently", s.Height())
	}
	return b
}

// A hotkey's stakers are listed with the largest first, and no more than MaxStakers.
func TestStakersAreListed(t *testing.T) {
	s := machine(t)
	h := account0(2)
	for i := range 3*local.MaxStakers - 1 {
		k := chain.Coldkey{1, byte(i), byte(i >> 8)}
		amount := chain.Amount(1000 + i*7919%1009)
		s.credit(k, amount)
		s.meta.Money.Genesis += amount
		s.addStake(local.AddStake{Hotkey: h, Amount: amount}, k)
	}
	whole := chain.Coldkey{1, 1}
	next(s, tx(t, 3, 0, local.AddStake{Hotkey: h, Amount: s.params.MinStake}))
	s.removeStake(local.RemoveStake{Hotkey: h, Amount: local.WholeStake}, whole)
	info, err := s.Hotkey(h)
	if err != nil || len(info.Stakers) != local.MaxStakers || info.MoreStakers != 2*local.MaxStakers-1 {
		t.Fatalf("%d stakers and %d more, %v", len(info.Stakers), info.MoreStakers, err)
	}
	if x := info.Stakers[0]; x.Coldkey != chain.Coldkey(account0(3)) || x.Amount != s.params.MinStake {
		t.Errorf("the largest is %+v", x)
	}
	var all []chain.Amount
	for k := range s.shares {
		if n := s.shares[k][h]; n > 0 {
			all = append(all, worth(n, s.hotkeys[h].Shares, s.hotkeys[h].Stake))
		}
	}
	slices.Sort(all)
	slices.Reverse(all)
	for i, x := range info.Stakers {
		if x.Amount != all[i] || x.Coldkey == whole {
			t.Fatalf("staker %d has %d, want %d", i, x.Amount, all[i])
		}
	}
}
