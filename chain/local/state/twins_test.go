package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/beacon/dkg/dkgtest"
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

// world is a history whose blocks have operations of every kind, keys made by members who lie, are late or do not come, and
// beacons that come, come late or never.
type world struct {
	*history
	t       testing.TB
	sigs    map[chain.Round][]byte
	signers map[chain.Round]func(chain.Round) Beacon // by the first round of their key
}

// circled gives a genesis four validators who are members of the beacon, and a short memory.
func circled(g *Genesis) {
	for i := range 4 {
		g.Validators = append(g.Validators, Validator{Key: validatorOf(i), Beacon: circleMembers[i].Card(MemberContext(g.Network, validatorOf(i)))})
	}
	g.Params.KeepWindows = 3
}

// strange is an operation that money's histories do not have.
func (w *world) strange(who int) local.Op {
	s := w.s
	switch w.pick(10) {
	case 5, 6:
		return local.MakeBeacon{At: s.earliest(s.Height()+1+2*s.phaseLen()) + chain.Round(w.pick(9)) - 1}
	case 0:
		i := w.pick(4)
		if w.pick(2) == 0 {
			return joined(i, "test", nil)
		}
		return joined(i, "test", circleMembers[4+w.pick(4)].Card(MemberContext("test", nodeKey(i))))
	case 1:
		return left(w.pick(4))
	case 2:
		return local.SetParam{Name: "commit_reveal_weights_enabled", Value: uint64(min(1, w.pick(4)))}
	case 3:
		return local.SetParam{Name: "commit_reveal_period", Value: uint64(1 + w.pick(2))}
	case 4:
		return local.SetParam{Name: "weights_rate_limit", Value: uint64(w.pick(3))}
	}
	row := []chain.Weight{{UID: chain.UID(w.pick(3)), Value: 9}, {UID: 3, Value: uint16(w.pick(9))}}
	if w.pick(5) == 0 {
		who++ // a copy
	}
	return sealed(w.t, s, who, chain.Round(w.pick(5)), row...)
}

// next is the next block: what it is made of is the world's own copy.
func (w *world) next() Block {
	in := Block{Height: w.s.Height() + 1, Txs: w.block(w.t, 6)}
	clear(w.nonce)
	for range w.pick(3) {
		who := w.pick(4)
		op := w.strange(who)
		if _, ok := op.(local.MakeBeacon); ok {
			who = 0 // nobody else may
		}
		raw := tx(w.t, who, nonceOf(w.s, who), op)
		if in.Txs = append(in.Txs, raw); w.pick(2) == 0 { // before what else this account does
			in.Txs = slices.Insert(in.Txs, 0, raw)
		}
	}
	for _, r := range w.s.Missing(in.Height) {
		if w.pick(8) > 0 && r+1 < chain.Round(in.Height) || w.pick(3) == 0 || len(in.Beacons) == 4 {
			continue
		}
		if sign := w.signers[w.s.keyAt(r).From]; w.sigs[r] == nil && sign != nil {
			w.sigs[r] = sign(r).Signature
		} else if w.sigs[r] == nil {
			w.sigs[r] = mustSign(w.t, r)
		}
		in.Beacons = append(in.Beacons, Beacon{r, w.sigs[r]})
	}
	in.Said = w.says(in.Height)
	return in
}

// members are the secrets of those who make a key.
func (w *world) members(m *making) (out []*dkg.Member) {
	for _, x := range m.members {
		for _, who := range circleMembers {
			if who.Public() == x.key {
				out = append(out, who)
			}
		}
	}
	return out
}

// says is what members say in a block: dealings, good and bad, twice, too early and too late, complaints that hold and others.
func (w *world) says(h chain.Block) (out [][]byte) {
	m := w.s.making
	if m == nil || w.pick(2) > 0 {
		return nil
	}
	who := w.members(m)
	i, victim := w.pick(len(who)), w.pick(len(who))
	d, err := dkg.Deal(m.session, who[i], mathrand.NewChaCha8([32]byte{byte(w.pick(256))}))
	if err == nil && victim != i && w.pick(6) == 0 {
		d, err = dkgtest.Misdeal(m.session, who[i], victim, [32]byte{byte(w.pick(256))})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if out = append(out, append([]byte{SaidDealing}, d.Encode()...)); !m.deals(h) && w.pick(4) > 0 {
		out = nil // too late
	}
	for dealer := range who {
		raw := w.s.dealings[dealingID{m.from, byte(dealer)}]
		if d, err = dkg.ParseDealing(raw); raw == nil || err != nil || m.deals(h) && w.pick(8) > 0 {
			continue
		}
		for _, x := range who {
			c, err := m.session.Inspect(d, x)
			if err != nil {
				w.t.Fatal(err)
			}
			if c != nil {
				out = append(out, append([]byte{SaidComplaint}, c.Encode()...))
			}
		}
	}
	if n := len(out); n > 0 && w.pick(4) == 0 { // the same again, damaged
		raw := bytes.Clone(out[n-1])
		raw[1+w.pick(len(raw)-1)] ^= byte(1 + w.pick(255))
		out = slices.Insert(out, w.pick(n+1), raw)
	}
	return out
}

// learn finds out who signs with a new key.
func (w *world) learn(m *making) {
	k := w.s.keys[len(w.s.keys)-1]
	if m == nil || k.From != m.from || w.signers[k.From] != nil {
		return
	}
	c := &circle{TB: w.t, State: w.s, who: append([]*dkg.Member{nil}, w.members(m)...)}
	w.signers[k.From] = c.signers(m)
}

// late are the rounds that the next block may bring, found by looking at each.
func (w *world) late() (out []chain.Round) {
	next := w.s.Height() + 1
	for r := range chain.Round(next) {
		if w.s.wants(next, r) {
			out = append(out, r)
		}
	}
	return out
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

// lent is a copy of a block that its maker takes back.
func lent(in Block, run func(Block) Result) Result {
	out := Block{Height: in.Height}
	for _, raw := range in.Txs {
		out.Txs = append(out.Txs, bytes.Clone(raw))
	}
	for _, raw := range in.Said {
		out.Said = append(out.Said, bytes.Clone(raw))
	}
	for _, b := range in.Beacons {
		out.Beacons = append(out.Beacons, Beacon{b.Round, bytes.Clone(b.Signature)})
	}
	r := run(out)
	for _, raw := range append(out.Txs, out.Said...) {
		clear(raw)
	}
	for _, b := range out.Beacons {
		clear(b.Signature)
	}
	return r
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
	r := mathrand.New(mathrand.NewPCG(seed, 6))
	w := &world{newHistory(t, 1+seed%2, r.IntN, circled), t, map[chain.Round][]byte{}, map[chain.Round]func(chain.Round) Beacon{}}
	b, err := New(w.s.gen)
	if err != nil {
		t.Fatal(err)
	}
	var late *State
	stored, undo, past, results := disk{}, [][]KV{}, []Block{}, []string{}
	joins := blocks/3 + r.IntN(blocks/3)
	for i := range blocks {
		in, m := w.next(), w.s.making
		ra, rb := lent(in, w.s.Finalize), lent(in, b.Finalize)
		for j, c := range ra.Codes {
			if w.codes[c]++; c == local.CodeOK {
				x, _ := local.ParseTx(in.Txs[j])
				w.applied[fmt.Sprintf("%T", x.Op)]++
			}
		}
		for _, e := range ra.Events {
			w.applied[e.Kind+" "+e.Reason]++
		}
		audit(t, w.s)
		w.learn(m)
		for _, raw := range in.Said {
			w.applied["said"]++
			if raw[0] == SaidComplaint && m != nil && slices.ContainsFunc(m.guilty, func(g byte) bool { return g > 0 }) {
				w.applied["said, a dealer is out"]++
			}
		}
		for _, b := range in.Beacons {
			if w.s.beacons[b.Round] != nil && w.s.keyAt(b.Round).From > 0 {
				w.applied["signed with a key that was made"]++
			}
		}
		if !slices.Equal(w.s.late, w.late()) {
			t.Fatalf("block %d: late rounds %v, want %v", in.Height, w.s.late, w.late())
		}
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
	for _, k := range slices.Sorted(maps.Keys(w.applied)) {
		t.Log(w.applied[k], k)
	}
	for _, k := range []string{"beacon " + outcomes[madeKey], "beacon " + outcomes[madeTooFew], "said, a dealer is out", "signed with a key that was made"} {
		if seed == everything && w.applied[k] == 0 {
			t.Errorf("this history should have: %s", k)
		}
	}
}

// everything is a seed whose history has all that can happen to the making of a key.
const everything = 2

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
