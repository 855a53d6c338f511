package ceremony

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sn3/chain"
	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
	"sn3/chain/local/beacon/dkg/dkgtest"
	"sn3/chain/local/localtest"
	"sn3/chain/local/state"
)

// room is a draft and the keys of its members, by index.
type room struct {
	testing.TB
	draft *state.Genesis
	who   []*dkg.Member
}

func meet(t testing.TB, n int) *room {
	t.Helper()
	g, _, err := localtest.Genesis(100, localtest.Actor{Name: "me", Seat: true, Balance: 1000})
	if err != nil {
		t.Fatal(err)
	}
	g.BeaconKey, g.Time = nil, time.Unix(1000, 0).UTC()
	r := &room{t, g, make([]*dkg.Member, n)}
	for i := range n {
		m, err := dkg.Generate(rand.NewChaCha8([32]byte{byte(i)}))
		if err != nil {
			t.Fatal(err)
		}
		key := [32]byte{byte(i + 1)}
		r.who[i] = m
		g.Validators = append(g.Validators, state.Validator{Key: key, Beacon: m.Card(state.MemberContext(g.Network, key))})
	}
	slices.Reverse(g.Validators) // indices go by key, not by place
	return r
}

func (r *room) begin() *Ceremony {
	r.Helper()
	c, err := Draft(r.draft)
	if err != nil {
		r.Fatal(err)
	}
	return c
}

func (r *room) add(c *Ceremony, files ...[]byte) {
	r.Helper()
	for _, f := range files {
		if err := c.Add(f); err != nil {
			r.Fatal(err)
		}
	}
}

func (r *room) dealing(i int) []byte {
	r.Helper()
	raw, err := r.begin().Deal(r.who[i])
	if err != nil {
		r.Fatal(err)
	}
	return raw
}

// bad is a dealing of member i with a bad share for another one.
func (r *room) bad(i, victim int) []byte {
	r.Helper()
	d, err := dkgtest.Misdeal(r.begin().Session(), r.who[i], victim, [32]byte{5})
	if err != nil {
		r.Fatal(err)
	}
	return append([]byte(dealingMagic), d.Encode()...)
}

func (r *room) dealings() (out [][]byte) {
	for i := range r.who {
		out = append(out, r.dealing(i))
	}
	return out
}

// answer is that of member i to dealings.
func (r *room) answer(i int, dealings [][]byte) []byte {
	r.Helper()
	c := r.begin()
	r.add(c, dealings...)
	raw, err := c.Answer(r.who[i])
	if err != nil {
		r.Fatal(err)
	}
	return raw
}

// whole are all files of a ceremony with these dealings.
func (r *room) whole(dealings [][]byte) [][]byte {
	r.Helper()
	out := slices.Clone(dealings)
	for i := range r.who {
		out = append(out, r.answer(i, dealings))
	}
	return out
}

// signed checks that the members in list sign what verifies with the key of the genesis.
func (r *room) signed(res *Result, list ...int) {
	r.Helper()
	k, err := beacon.ParseKey(res.Genesis.Beacon)
	if err != nil {
		r.Fatal(err)
	}
	var ps []beacon.Partial
	for _, i := range list {
		share, err := res.Share(r.who[i])
		if err != nil || share.From != 0 {
			r.Fatalf("share of %d: %v", i, err)
		}
		p, err := beacon.PartialSign(share, 7)
		if err != nil {
			r.Fatal(err)
		}
		ps = append(ps, p)
	}
	sig, bad, err := k.Combine(7, ps)
	if err != nil || len(bad) > 0 || beacon.Verify(res.Genesis.BeaconKey, 7, sig) != nil {
		r.Errorf("members %v sign: bad %v, %v", list, bad, err)
	}
}

// Whatever the order of the files and however often they come, all have the same genesis, and any threshold of them signs.
func TestCeremony(t *testing.T) {
	t.Parallel()
	r := meet(t, 4)
	files := r.whole(r.dealings())
	var first []byte
	for turn := range 3 {
		c := r.begin()
		if _, err := c.Finish(); !errors.Is(err, ErrWait) {
			t.Errorf("finished without anything: %v", err)
		}
		mixed := append(slices.Clone(files), files[turn])
		rand.New(rand.NewPCG(uint64(turn), 1)).Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		r.add(c, mixed...)
		res, err := c.Finish()
		if err != nil || len(res.Out) > 0 || len(c.Conflicts()) > 0 {
			t.Fatal(err)
		}
		if turn == 0 {
			first = res.Genesis.Beacon
		}
		if !bytes.Equal(res.Genesis.Beacon, first) {
			t.Error("another key in another order")
		}
		r.signed(res, 0, 1, 2)
		r.signed(res, 1, 2, 3)
		run, err := res.Genesis.Validate()
		if err != nil || run.Network != r.draft.Network || len(r.draft.Beacon) > 0 {
			t.Errorf("genesis: %v", err)
		}
	}
}

// Before its time nothing is made, and the step says so.
func TestWaits(t *testing.T) {
	t.Parallel()
	r := meet(t, 3)
	ds := r.dealings()
	c := r.begin()
	r.add(c, ds[0], ds[2])
	if _, err := c.Answer(r.who[0]); !errors.Is(err, ErrWait) {
		t.Errorf("answer to two of three: %v", err)
	}
	r.add(c, ds[1], r.answer(0, ds), r.answer(1, ds))
	if _, err := c.Finish(); !errors.Is(err, ErrWait) {
		t.Errorf("finish without the third answer: %v", err)
	}
	want := []Progress{{chain.Hash{1}, true, true}, {chain.Hash{2}, true, true}, {chain.Hash{3}, true, false}}
	if got := c.Progress(); !slices.Equal(got, want) {
		t.Errorf("progress %+v", got)
	}
	stranger, err := dkg.Generate(rand.NewChaCha8([32]byte{99}))
	if err != nil {
		t.Fatal(err)
	}
	for name, step := range map[string]func() error{
		"index":  func() error { _, err := c.Index(stranger); return err },
		"deal":   func() error { _, err := c.Deal(stranger); return err },
		"answer": func() error { _, err := c.Answer(stranger); return err },
	} {
		if err := step(); !errors.Is(err, dkg.ErrNotMember) {
			t.Errorf("%s of a stranger: %v", name, err)
		}
	}
}

// A dealer of a bad share is out by its victim's complaint, and still signs; where too few are left there is no key.
func TestBadDealer(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		n    int
		made bool
	}{{4, true}, {3, false}} {
		r := meet(t, x.n)
		ds := r.dealings()
		ds[2] = r.bad(2, 1)
		c := r.begin()
		r.add(c, r.whole(ds)...)
		res, err := c.Finish()
		if !slices.Equal(res.Out, []int{2}) {
			t.Errorf("of %d: out are %v, %v", x.n, res.Out, err)
		}
		if !x.made {
			if !errors.Is(err, dkg.ErrTooFew) || res.Genesis != nil {
				t.Errorf("of %d: %v", x.n, err)
			}
			if _, err := res.Share(r.who[0]); err == nil {
				t.Error("a share of no key")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		r.signed(res, 1, 2, 3)
	}
}

// Who says two things, or to some something else than to others, is named.
func TestTwoFaced(t *testing.T) {
	t.Parallel()
	r := meet(t, 4)
	ds := r.dealings()
	other := slices.Clone(ds)
	other[3] = r.bad(3, 0)
	c := r.begin()
	r.add(c, ds...)
	if err := c.Add(other[3]); !errors.Is(err, ErrTwice) || !strings.Contains(err.Error(), "validator 04000000") {
		t.Errorf("two dealings: %v", err)
	}
	r.add(c, r.answer(0, ds), r.answer(1, other))
	if err := c.Add(r.answer(0, other)); !errors.Is(err, ErrTwice) || !strings.Contains(err.Error(), "validator 01000000") {
		t.Errorf("two answers: %v", err)
	}
	if got := c.Conflicts(); !slices.Equal(got, []Conflict{{1, 3}}) {
		t.Errorf("conflicts %v", got)
	}
	r.add(c, r.answer(2, ds), r.answer(3, ds))
	if _, err := c.Finish(); !errors.Is(err, dkg.ErrOtherDealing) || !strings.Contains(err.Error(), "validator 02000000") || !strings.Contains(err.Error(), "of validator 04000000") {
		t.Errorf("finished with answers to two dealings: %v", err)
	}
}

// A complaint about a good share, in an answer with a proof, keeps the key from being made and names who complained.
func TestUnfounded(t *testing.T) {
	t.Parallel()
	r := meet(t, 4)
	ds := r.dealings()
	bad := slices.Clone(ds)
	bad[3] = r.bad(3, 0)
	c := r.begin()
	r.add(c, bad...)
	a, session, err := parseAnswer(r.answer(0, bad))
	if err != nil || len(a.complaints) != 1 {
		t.Fatalf("%d complaints, %v", len(a.complaints), err)
	}
	good, _, err := parseAnswer(r.answer(0, ds))
	if err != nil {
		t.Fatal(err)
	}
	good.complaints = a.complaints // about the other dealing
	body := good.body(session)
	lie := append(body, r.who[0].Prove(claim(body))...)
	c = r.begin()
	r.add(c, append(slices.Clone(ds), lie, r.answer(1, ds), r.answer(2, ds), r.answer(3, ds))...)
	if _, err := c.Finish(); !errors.Is(err, dkg.ErrOtherDealing) || !strings.Contains(err.Error(), "validator 01000000") {
		t.Errorf("%v", err)
	}
}

// An answer's complaints are its author's own, one about each dealer, in their order.
func TestComplaintsOfAnAnswer(t *testing.T) {
	t.Parallel()
	r := meet(t, 4)
	ds := r.dealings()
	ds[2], ds[3] = r.bad(2, 0), r.bad(3, 0)
	c := r.begin()
	r.add(c, ds...)
	a, session, err := parseAnswer(r.answer(0, ds))
	if err != nil || len(a.complaints) != 2 {
		t.Fatalf("%d complaints, %v", len(a.complaints), err)
	}
	for name, x := range map[string]struct {
		who        int
		complaints []*dkg.Complaint
	}{
		"another one's": {1, a.complaints[:1]},
		"twice":         {0, []*dkg.Complaint{a.complaints[0], a.complaints[0]}},
		"backwards":     {0, []*dkg.Complaint{a.complaints[1], a.complaints[0]}},
	} {
		b := answer{member: x.who, dealings: a.dealings, complaints: x.complaints}
		body := b.body(session)
		if err := c.Add(append(body, r.who[x.who].Prove(claim(body))...)); !errors.Is(err, ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Files that are no member's, or not of this draft, are refused and change nothing.
func TestRefused(t *testing.T) {
	t.Parallel()
	r := meet(t, 3)
	ds := r.dealings()
	answer := r.answer(1, ds)
	other := meet(t, 3)
	other.draft.Params.Fee++
	c := r.begin()
	flipped := func(b []byte, i int) []byte {
		b = slices.Clone(b)
		b[(i+len(b))%len(b)] ^= 1
		return b
	}
	claims := flipped(answer, len(answerMagic)+32) // as member 0
	for name, x := range map[string]struct {
		raw  []byte
		want error
	}{
		"nothing":                 {nil, ErrFile},
		"a genesis":               {[]byte(`{"network":"x"}`), ErrFile},
		"a dealing cut":           {ds[0][:len(ds[0])-1], ErrFile},
		"a dealing and more":      {append(slices.Clone(ds[0]), 0), ErrFile},
		"a dealing damaged":       {flipped(ds[0], -100), ErrFile},
		"a dealing's proof":       {flipped(ds[0], -1), ErrFile},
		"a dealing, other draft":  {other.dealing(0), dkg.ErrSession},
		"an answer cut":           {answer[:len(answer)-1], ErrFile},
		"an answer damaged":       {flipped(answer, len(answerMagic)+40), ErrFile},
		"an answer's proof":       {flipped(answer, -1), ErrFile},
		"another one's answer":    {claims, ErrFile},
		"an answer, other draft":  {other.answer(1, other.dealings()), dkg.ErrSession},
		"the secret of a member":  {r.who[0].Encode(), ErrFile},
		"a card":                  {r.draft.Validators[0].Beacon, ErrFile},
		"only the magic":          {[]byte(dealingMagic), ErrFile},
		"only the answer's magic": {[]byte(answerMagic), ErrFile},
	} {
		if err := c.Add(x.raw); !errors.Is(err, x.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, p := range c.Progress() {
		if p.Dealt || p.Answered {
			t.Errorf("a refused file counts: %+v", p)
		}
	}
}

// What goes around holds no secret: not the member key, not a share, and not what the dealings are drawn from.
func TestNoSecret(t *testing.T) {
	t.Parallel()
	r := meet(t, 3)
	files := r.whole(r.dealings())
	c := r.begin()
	r.add(c, files...)
	res, err := c.Finish()
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range r.who {
		share, err := res.Share(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range append(files, res.Genesis.Beacon) {
			if bytes.Contains(f, m.Encode()[len("sn3member1"):][:32]) || bytes.Contains(f, share.Secret[:]) {
				t.Errorf("a secret of member %d goes around", i)
			}
		}
	}
	other := meet(t, 3)
	other.draft.Params.Fee++
	if bytes.Equal(files[0][len(dealingMagic)+36:][:96], other.dealing(0)[len(dealingMagic)+36:][:96]) {
		t.Error("the same polynomial for two drafts")
	}
}

// Drafts for whom there is no ceremony.
func TestDraft(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*state.Genesis){
		"a key":           func(g *state.Genesis) { g.BeaconKey = make([]byte, beacon.PublicLen) },
		"alone":           func(g *state.Genesis) { g.Validators = g.Validators[:1] },
		"no member":       func(g *state.Genesis) { g.Validators[1].Beacon = nil },
		"a damaged card":  func(g *state.Genesis) { g.Validators[1].Beacon[60] ^= 1 },
		"another's card":  func(g *state.Genesis) { g.Validators[1].Beacon = g.Validators[0].Beacon },
		"what cannot run": func(g *state.Genesis) { g.BlockTimeMS = 1 },
		"one key twice":   func(g *state.Genesis) { g.Validators[1].Key = g.Validators[0].Key },
	} {
		r := meet(t, 3)
		change(r.draft)
		if _, err := Draft(r.draft); !errors.Is(err, ErrDraft) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzAdd: no file makes it panic, what is taken is canonical, and only members are heard.
func FuzzAdd(f *testing.F) {
	r := meet(f, 3)
	ds, begun := r.dealings(), r.begin()
	ds[2] = r.bad(2, 0)
	for _, file := range r.whole(ds) {
		f.Add(file)
		f.Add(file[:len(file)/2])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := *begun
		c.dealings, c.answers = make([]*dkg.Dealing, 3), make([]*answer, 3)
		if c.Add(raw) == nil && c.Add(raw) != nil {
			t.Error("the same file is two things")
		}
		if a, session, err := parseAnswer(raw); err == nil && !bytes.Equal(append(a.body(session), a.proof...), raw) {
			t.Error("an answer has two forms")
		}
	})
}
